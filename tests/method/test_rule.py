"""What kind of rule each is, as follows from its terms, whatever its name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxdtd.method.rule import Branch, Rule, Term
from onnxdtd.method.toml import Library

LIBRARY = Library()
KINDS = ("needs_bounds", "needs_gamma", "blind", "keeps_zeros", "positive", "is_deep_taylor", "for_nonnegative", "is_z_plus")
OF = {  # which of them holds
    "w2": {"blind", "positive", "is_deep_taylor"},
    "z": {"keeps_zeros"},
    "z+": {"keeps_zeros", "positive", "is_deep_taylor", "for_nonnegative", "is_z_plus"},
    "zB": {"needs_bounds", "positive", "is_deep_taylor"},
    "flat": {"blind", "positive"},
    "abs": {"keeps_zeros", "positive"},
    "gradient": set(),
    "epsilon": {"keeps_zeros"},
    "gamma": {"needs_gamma", "keeps_zeros"},
    "alpha-beta": {"keeps_zeros"},
    "alpha-beta(alpha=1, beta=0)": {"keeps_zeros", "positive"},
    "z+ else w2": {"positive", "is_deep_taylor", "for_nonnegative"},
    "z+ else zB": {"needs_bounds", "positive", "is_deep_taylor", "for_nonnegative"},
    "z+ else z": {"keeps_zeros", "for_nonnegative"},
    "w2 else flat": {"blind", "positive"},
    "w2 else z": set(),
}
SEARCHED = {"w2", "z", "z+", "zB", "abs", "epsilon", "gamma"}  # have a search direction


def kinds(rule: Rule) -> set[str]:
    return {kind for kind in KINDS if getattr(rule, kind)}


def test_every_rule_is_in_the_table() -> None:
    assert {reference.partition("(")[0] for reference in OF if " else " not in reference} == set(LIBRARY.rules)


@pytest.mark.parametrize("reference", OF)
def test_the_kinds_of_a_rule(reference: str) -> None:
    rule = LIBRARY.rule(reference)
    assert kinds(rule) == OF[reference]
    assert kinds(replace(rule, name="mine")) == OF[reference], "its name says nothing"
    assert (rule.search is not None) == (rule.name in SEARCHED)
    assert str(rule) == str(LIBRARY.rule(str(rule))), "it selects itself again"


Z_PLUS = (Term(1.0, "x-", "w-"), Term(1.0, "x+", "w+"))
VARIANTS = {  # of z+, and what of its kinds they lose
    "terms in another order": (Rule("r", (Branch(Z_PLUS),)), set()),
    "half": (Rule("r", (Branch(Z_PLUS[1:]),)), {"is_z_plus"}),
    "stabilised": (Rule("r", (Branch(Z_PLUS),), epsilon=1.0), {"is_z_plus", "is_deep_taylor"}),
    "with a bias": (Rule("r", (Branch(Z_PLUS, bias="b+"),)), {"is_deep_taylor", "for_nonnegative"}),
    "a bias of any sign": (Rule("r", (Branch(Z_PLUS, bias="b"),)), {"is_deep_taylor", "for_nonnegative", "positive"}),
    "for some": (Rule("r", (Branch(Z_PLUS, when="y>0"), Branch(Z_PLUS, when="y<0"))), {"is_z_plus"}),
    "undivided": (Rule("r", (Branch(Z_PLUS),), divide=False), {"is_z_plus", "positive", "is_deep_taylor"}),
    "of the other sign": (
        Rule("r", (Branch(tuple(replace(term, sign=-1.0) for term in Z_PLUS)),)), {"is_z_plus"}
    ),
    "taken off": (
        Rule("r", (Branch((Z_PLUS[0], replace(Z_PLUS[1], sign=-1.0))),)), {"is_z_plus", "positive", "is_deep_taylor"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_z_plus(name: str) -> None:
    rule, lost = VARIANTS[name]
    assert kinds(rule) == OF["z+"] - lost


@pytest.mark.parametrize("reference", OF)
def test_a_positive_rule_gives_no_negative_share(reference: str) -> None:
    """Σ_i q_i / Σ q by the numpy values of its symbols, for inputs within their bounds, without biases."""
    rng, rule = np.random.default_rng(1), LIBRARY.rule(reference)
    low, high = np.full((50, 6), -1.0), np.full((50, 6), 2.0)
    x, w = rng.uniform(low, high), rng.normal(size=(50, 6))
    searched = [each for each in rule.chain if each.search is not None]
    one_sign = [(q >= 0).all() or (q <= 0).all() for q in (each.direction(x, w, low, high) * w for each in searched)]
    assert rule.positive == all(one_sign) or not searched
