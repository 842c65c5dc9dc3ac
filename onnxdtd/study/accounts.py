"""What the ledgers of several inputs say together: does relevance add up, and do the conditions of its rules hold?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from onnxdtd.compiler.groups import by_layer
from onnxdtd.compiler.prepared import Prepared
from onnxdtd.contract import KEPT
from onnxdtd.errors import counted
from onnxdtd.runtime.explainer import Ledger
from onnxdtd.study.checks import Check

BALANCE = 1e-4  # of the relevance in the layer
FAINT = float(np.finfo(np.float32).tiny / np.finfo(np.float32).eps)  # relevance of which few digits are left
COUNTED = ("positive_biases", "bias_sum", "negative_inputs", "outside")  # columns of the ledger that are no relevance
NEGATIVE = 1e-6  # of all relevance, under rules that give none


def joined(ledgers: Sequence[Ledger]) -> Ledger:
    """One ledger with the samples of all."""
    columns = {name: np.concatenate([ledger[name] for ledger in ledgers]) for name in ledgers[0].columns}
    return Ledger(ledgers[0].steps, columns)


def checked(job: Prepared, ledger: Ledger, opposite: float) -> Iterator[Check]:
    """Whether every layer accounts for what it takes in, and what is remarkable; ``opposite`` is the share of all relevance
    whose sign is not that of the logit.
    """
    off = _unaccounted(ledger).max(axis=0, initial=0)
    most = f"most off in {ledger.steps[off.argmax()]}"
    found = f"in = out + kept within {off.max():.1e} of the relevance in every layer, {most}"
    yield Check("balance", bool(off.max() <= BALANCE), found)
    yield Check("logit", None, _composition(ledger))
    yield _positivity(job, ledger, opposite)
    yield from _conditions(job, ledger)


def table(job: Prepared, ledger: Ledger) -> list[dict[str, Any]]:
    """A row for each step, the mean of all samples: relevance as shares of the logit, and counts."""
    rules = {step.name: str(step.rule or step.kind) for step in job.plan.steps}
    signs = _signs(ledger)[:, None]
    amounts = {name: ledger[name] for name in ("in", "out", *KEPT)} | {"unaccounted": ledger.unaccounted}
    amounts["negative"] = np.where(signs > 0, ledger["negative"], ledger["out"] - ledger["negative"])  # of the other sign
    logit = np.abs(ledger["in"][:, 0]).mean() or 1.0
    means = {name: column.mean(axis=0) for name, column in ledger.columns.items()}
    means |= {name: (amount * signs).mean(axis=0) / logit for name, amount in amounts.items()}
    return [
        {"step": step, "rule": rules.get(step, "logit"), **{name: float(values[i]) for name, values in means.items()}}
        for i, step in enumerate(ledger.steps)
    ]


def in_layers(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``table`` with their ``count``, one for all that do the same in the steps of a recurrent layer. It has the sums
    of what these keep, and the most of their counts; as relevance goes through one after the other, ``in``, ``out`` and
    ``negative`` have no sum: None.
    """
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for name, row in zip(by_layer([row["step"] for row in steps]), steps, strict=True):
        found.setdefault((name, row["rule"]), []).append(row)
    return [
        {**rows[0], "count": 1}
        if len(rows) == 1
        else {
            **{name: max(row[name] for row in rows) for name in COUNTED},
            **{name: sum(row[name] for row in rows) for name in (*KEPT, "unaccounted")},
            **dict.fromkeys(("in", "out", "negative")),
            "step": name,
            "rule": rule,
            "count": len(rows),
        }
        for (name, rule), rows in found.items()
    ]


def _signs(ledger: Ledger) -> np.ndarray:
    """Those of the logits, [batch], so that shares of a positive and a negative one do not cancel out."""
    return np.where(ledger["in"][:, 0] < 0, -1.0, 1.0)


def _composition(ledger: Ledger) -> str:
    """What became of the logit."""
    sums = {name: float((amounts * _signs(ledger)).sum()) for name, amounts in ledger.totals().items()}
    logit = sums.pop("logit")
    if not logit:
        return "0 on all inputs"
    parts = [
        f"{name} {amount / logit:.2%}" for name, amount in sums.items() if name == "relevance" or abs(amount / logit) >= 5e-5
    ]
    return "100 % = " + " + ".join(parts)


def _unaccounted(ledger: Ledger) -> np.ndarray:
    """What is unaccounted for in each step, as a share of the relevance there, signs aside: [batch, steps]."""
    there = np.maximum(np.abs(ledger["in"]), ledger["out"] - 2 * ledger["negative"])
    share: np.ndarray = np.abs(ledger.unaccounted) / np.where(there > 0, np.maximum(there, FAINT), 1.0)
    return share


def _positivity(job: Prepared, ledger: Ledger, opposite: float) -> Check:
    """Relevance of the other sign than the logit's, which the rules of deep Taylor decomposition do not give."""
    positive = all(step.rule.positive for step in job.plan.steps if step.rule is not None)
    promised = positive and not ledger["outside"].any() and not job.request.contrast
    found = f"{opposite:.2%} of all relevance has the other sign than the logit"
    return Check("positive", opposite <= NEGATIVE if promised else None, found)


def _layers(names: Sequence[str]) -> int:
    """How many layers these steps are of, where a recurrent one has several."""
    return len(set(by_layer(names)))


def _conditions(job: Prepared, ledger: Ledger) -> Iterator[Check]:
    """What deep Taylor decomposition asks of a model and its inputs."""
    rules = {step.name: step.rule for step in job.plan.steps}
    mean = {name: column.mean(axis=0) for name, column in ledger.columns.items()}
    below = int((ledger["in"][:, 0] <= 0).sum())
    yield Check(
        "logits", None, f"{below} of {counted(len(ledger['in']), 'explained logit')} {'is' if below == 1 else 'are'} 0 or below"
    )
    biases = mean["positive_biases"]
    layers = _layers([name for name, rule in rules.items() if rule is not None])
    biased = _layers([name for name, count in zip(ledger.steps, biases, strict=True) if count])
    most = f", most of them {ledger.steps[int(biases.argmax())]} ({biases.max():.0f} neurons)" if biases.any() else ""
    yield Check(
        "biases", None, f"{biased} of {counted(layers, 'layer')} {'has' if biased == 1 else 'have'} positive biases{most}"
    )
    plus = [i for i, name in enumerate(ledger.steps) if (rule := rules.get(name)) is not None and rule.for_nonnegative]
    signed = _layers([ledger.steps[i] for i in plus if mean["negative_inputs"][i]])
    under = _layers([ledger.steps[i] for i in plus])
    found = (
        f"{signed} of {counted(under, 'layer')} under z+ {'has' if signed == 1 else 'have'} negative inputs"
        if plus
        else "no layer is under z+"
    )
    yield Check("inputs of z+", None, found)
    outside = mean["outside"].sum()
    yield Check("bounds", None, f"{outside:.3g} entries of an input lie outside of them" if job.bounded else "none were given")
