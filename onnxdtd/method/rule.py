"""A propagation rule as data, and what follows from its terms: the only place that knows one kind of rule from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from onnxdtd.method.terms import BIASES, INPUTS, WEIGHTS


@dataclass(frozen=True, order=True)
class Term:
    """sign · x · w, a summand of q."""

    sign: float
    x: str
    w: str

    def side(self, within: bool = False) -> float:
        """1 where the summand is never negative, -1 where it is never positive, 0 where it may be either; ``within``: for
        inputs within their bounds.
        """
        x = INPUTS[self.x]
        return self.sign * (x.sign or (x.within if within else 0.0)) * WEIGHTS[self.w].sign


Z_PLUS = [Term(1.0, "x+", "w+"), Term(1.0, "x-", "w-")]


@dataclass(frozen=True)
class Branch:
    """scale · Σ terms / (Σ Σ terms + bias), for the outputs that ``when`` selects."""

    terms: tuple[Term, ...]
    scale: float = 1.0
    bias: str | None = None
    when: str | None = None

    @property
    def spelled(self) -> str:
        """It by its symbols, as a file has them."""
        products = [(term.sign, f"({term.x})" if "-" in term.x[:-1] else term.x, term.w) for term in self.terms]
        summands = "".join(f"{' - ' if sign < 0 else ' + '}{x} {w}" for sign, x, w in products).removeprefix(" + ")
        more = [f"times {self.scale:g}"] * (self.scale != 1) + [f"bias {self.bias}"] * bool(self.bias) + [self.when or ""]
        return ", ".join(filter(None, [f"q = {summands.strip()}", *more]))

    @property
    def with_gamma(self) -> list[str]:
        """The symbols in it that need γ."""
        weights = [term.w for term in self.terms if WEIGHTS[term.w].gamma]
        return weights + ([self.bias] if self.bias is not None and BIASES[self.bias].gamma else [])

    @property
    def positive(self) -> bool:
        """Are all shares ≥ 0 for inputs within their bounds?"""
        signs = {term.side(within=True) for term in self.terms} | ({BIASES[self.bias].sign} if self.bias else set())
        return self.scale >= 0 and len(signs) == 1 and 0 not in signs

    def value(self, x: float, w: float, gamma: float) -> float:
        """q of one input and weight, within bounds from -2 to 2."""
        arrays = np.asarray([x]), np.asarray([-2.0]), np.asarray([2.0])
        parts = (t.sign * INPUTS[t.x].value(*arrays) * WEIGHTS[t.w].value(np.asarray([w]), gamma) for t in self.terms)
        return float(sum(parts, np.zeros(1))[0])


DERIVATIVE = (Branch((Term(1.0, "1", "w"),)),)


@dataclass(frozen=True)
class Rule:
    """A propagation rule with its parameters filled in. ``str()`` is the reference that selects it again."""

    name: str
    branches: tuple[Branch, ...]
    params: Mapping[str, float] = field(default_factory=dict)
    epsilon: float = 0.0
    divide: bool = True
    equation: str = ""
    domain: str = ""
    source: str = ""
    fallback: Rule | None = None

    def __str__(self) -> str:
        """``name(parameter=value)``, and ``else`` the one behind it."""
        return " else ".join(rule.reference for rule in self.chain)

    @property
    def spelled(self) -> str:
        """Its terms, by their symbols, for a rule that comes without an equation."""
        return "; ".join(branch.spelled for branch in self.branches)

    @property
    def chain(self) -> list[Rule]:
        """It, and the rules that share out what has no denominator under those before them."""
        found = [self]
        while found[-1].fallback is not None:
            found.append(found[-1].fallback)
        return found

    @property
    def alone(self) -> Rule:
        """It without the rules behind it."""
        return replace(self, fallback=None)

    @property
    def reference(self) -> str:
        """What selects it alone."""
        short = {name: f"{value:g}" if float(f"{value:g}") == value else repr(value) for name, value in self.params.items()}
        values = ", ".join(f"{name}={text}" for name, text in short.items())
        return f"{self.name}({values})" if values else self.name

    @property
    def gamma(self) -> float:
        """γ; 0 in a rule without."""
        return self.params.get("gamma", 0.0)

    @property
    def needs_gamma(self) -> bool:
        """Does it mention γ?"""
        return any(branch.with_gamma for branch in self.branches)

    @property
    def terms(self) -> tuple[Term, ...]:
        """Those of all branches."""
        return tuple(term for branch in self.branches for term in branch.terms)

    @property
    def needs_bounds(self) -> bool:
        """Does it mention l or h?"""
        return any(INPUTS[term.x].bounds for rule in self.chain for term in rule.terms)

    @property
    def blind(self) -> bool:
        """Does it share out by the weights alone, whatever the values?"""
        return self.divide and all(INPUTS[term.x].fixed for rule in self.chain for term in rule.terms)

    @property
    def squares(self) -> bool:
        """Is it alone a fraction of w² only, whatever size the weights have?"""
        return (
            not self.epsilon
            and all(WEIGHTS[term.w].squares for term in self.terms)
            and all(branch.bias is None for branch in self.branches)
        )

    @property
    def keeps_zeros(self) -> bool:
        """Do inputs that are 0 get no relevance?"""
        return all(INPUTS[term.x].keeps_zeros for rule in self.chain for term in rule.terms)

    @property
    def positive(self) -> bool:
        """Has no input, if all lie within their bounds, relevance of another sign than the outputs?"""
        return self.divide and all(branch.positive for rule in self.chain for branch in rule.branches)

    @property
    def search(self) -> Branch | None:
        """The branch that counts where y > 0, if it has a search direction: one fraction with a weight in every term."""
        found = [branch for branch in self.branches if branch.when in (None, "y>0")]
        if not self.divide or len(found) != 1 or not all(WEIGHTS[term.w].keeps_zeros for term in found[0].terms):
            return None
        return found[0]

    @property
    def is_deep_taylor(self) -> bool:
        """Is it of deep Taylor decomposition: search directions within the domain, and nothing kept by a bias or ε?"""
        return self.positive and all(
            rule.search is not None and not rule.epsilon and all(b.bias is None for b in rule.branches) for rule in self.chain
        )

    def reaches(self, sign: float) -> bool:
        """Is it alone, where y > 0, a sum of shares ≥ 0, of which those of x w > 0 with x of that sign are above 0? For inputs
        within bounds around 0.
        """
        found = [branch for branch in self.branches if branch.when in (None, "y>0")]
        return all(branch.positive and branch.value(sign, sign, self.gamma) for branch in found)

    @property
    def reads_below(self) -> bool:
        """Does it alone, with weights above 0, hand anything to inputs below 0?"""
        return any(branch.value(-1.0, 1.0, self.gamma) for branch in self.branches)

    @property
    def for_nonnegative(self) -> bool:
        """Is it z+, whose theory knows inputs ≥ 0 only?"""
        return all(branch.bias is None and any(term.x == "x+" for term in branch.terms) for branch in self.branches)

    @property
    def is_z_plus(self) -> bool:
        """Is it (x⁺w⁺ + x⁻w⁻) / Σ (the same), by whatever name, where there is no bias?"""
        if not self.divide or self.epsilon or len(self.branches) != 1 or self.fallback is not None:
            return False
        (branch,) = self.branches
        return sorted(branch.terms) == Z_PLUS and branch.when is None and branch.scale == 1.0

    @property
    def is_derivative(self) -> bool:
        """Is it A(w)ᵀ s for any s, by whatever name?"""
        return not self.divide and self.branches == DERIVATIVE

    def direction(self, x: np.ndarray, w: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The search direction v, with which q = v w; where w is 0 so is v. All arrays are of one shape."""
        assert self.search is not None, self
        q = (t.sign * INPUTS[t.x].value(x, low, high) * WEIGHTS[t.w].value(w, self.gamma) for t in self.search.terms)
        return np.divide(sum(q, np.zeros_like(x)), w, where=w != 0, out=np.zeros_like(x))
