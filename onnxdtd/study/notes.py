"""What a reader of heatmaps must know, in words: of a single sample as flags, and of all samples of a run as remarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxdtd.data.forms import Form
from onnxdtd.runtime.explainer import Ledger
from onnxdtd.study.results import Flag, Result

LOST = 0.5  # a sample is flagged where Σ relevance is off the logit by more than this share of it,
FAR = 0.1  # where a value is further outside of its bounds than this share of their span,
SAME = 0.14  # and where its heatmap is no further from another than this, both scaled to length 1 (a cosine of 0.99),
LIKE = 0.2  # and than this times their inputs, scaled alike, of which those that are
CLOSE = 0.05  # no further apart than this do not count as different
SHOWN = 3  # how many samples with one flag are described at the terminal
WHERE_KEPT = {  # the columns of the ledger that take relevance away
    "bias": "biases kept {:.1%}",
    "stabiliser": "the stabiliser kept {:.1%}",
    "dead": "{:.1%} were lost on neurons without a positive input",
    "misfit": "relevance models left out {:.1%}",
    "constants": "{:.1%} lay on padding and other constants",
    "masked": "masks took away {:.1%}",
}
REASONS = {
    "bias": "where biases absorb it",
    "stabiliser": "where the stabiliser of the rule absorbs it",
    "dead": "where no input has a share in the neurons that hold it (their denominators are 0)",
    "misfit": "where a relevance model does not tell it",
    "constants": "where it falls on padding and other constants",
    "masked": "since a mask lets none pass",
}
NOTHING = {  # what a heatmap of zeros says that was made of a gradient, by what it was made into
    "g": "the score does not react to the input here",
    "g g": "the score does not react to the input here",
    "x g": "the input is 0 wherever the score reacts to it",
    "dx g": "the input is what it is compared with wherever the score reacts to it",
    "cam": "the map speaks for what is explained nowhere, or the score does not react to it",
}


def of_amount(result: Result, ledger: Ledger | None, made: str | None = None) -> list[Flag]:
    """Whether relevance arrived at the input; ``ledger``, of this sample alone, tells where it stayed; ``made``: into what a
    gradient was.
    """
    where = "" if ledger is None else stayed(ledger)
    if result.relevance_min == 0 == result.relevance_max:
        unknown = NOTHING[made] if made else "compiled with --ledger, the model says where it stays"
        return [Flag("zero", f"all of this heatmap is zero: {where or unknown}")]
    if not result.whole or abs(1 - result.relevance_sum / result.whole) <= LOST:
        return []
    share = result.relevance_sum / result.whole
    if result.at_baseline is not None:
        what = "what the score differs by from that at the baseline"
        return [Flag("lost", f"Σ relevance is {share:.3g} times {what}; read no amounts from this heatmap")]
    words = (
        f"{share:.1%} of the logit arrived at the input" if 0 <= share < 1 else f"Σ relevance is {share:.3g} times the logit"
    )
    return [Flag("lost", f"{words}{': ' if where else ''}{where}; read no amounts from this heatmap")]


def stayed(ledger: Ledger) -> str:
    """Which layer kept most of the logit of a single sample, and why; nothing where none kept any."""
    logit = float(ledger["in"][0, 0])
    if logit == 0:
        return "the logit is 0, there is nothing to share out"
    kept = np.stack([ledger[kind][0] for kind in REASONS])
    kind, step = np.unravel_index(np.abs(kept).argmax(), kept.shape)
    if not kept[kind, step]:
        return ""
    return f"{kept[kind, step] / logit:.1%} of the logit stayed at {ledger.steps[step]!r}, {list(REASONS.values())[kind]}"


def of_rules(metadata: Mapping[str, Any]) -> list[Flag]:
    """Whether the first layers of a compiled model never look at the values of the input."""
    blind = [f"{name!r} ({metadata['rules'][name]})" for name in metadata.get("by_weights") or ()]
    return (
        [Flag("weights", f"shared out by weights alone at {', '.join(blind)}, whatever the values of the input")]
        if blind
        else []
    )


def of_absent(x: np.ndarray, relevance: np.ndarray) -> list[Flag]:
    """Whether terms or categories that a sample does not have got relevance, as rules by weights and gradients give it."""
    size = np.abs(relevance).astype(np.float64)
    share = float(size[x == 0].sum()) / (float(size.sum()) or 1.0)
    if share <= CLOSE:
        return []
    return [Flag("absent", f"{share:.0%} of Σ |relevance| is that of terms, or categories, that are not in it")]


def of_values(x: np.ndarray, form: Form) -> list[Flag]:
    """Whether the values of a sample [...] lie where the bounds say, or far outside."""
    if form.low is None or form.high is None:
        return []
    margin = FAR * (form.high - form.low)
    far = int(((x < form.low - margin) | (x > form.high + margin)).sum())
    if not far:
        return []
    return [
        Flag(
            "outside",
            f"its values reach from {np.nanmin(x):.4g} to {np.nanmax(x):.4g}, {far} of {x.size} lie far outside of the bounds, "
            f"{form.low.min():.4g} to {form.high.max():.4g}: is this how the model wants its inputs prepared?",
        )
    ]


@dataclass(frozen=True)
class Alike:
    """A sample that others are compared with."""

    name: str
    x: np.ndarray
    relevance: np.ndarray

    def flag(self, x: np.ndarray, relevance: np.ndarray) -> list[Flag]:
        """Whether another sample, whose ``x`` differs, has the same heatmap."""
        if x.shape != self.x.shape:
            return []
        apart, inputs = _apart(relevance, self.relevance), _apart(x, self.x)
        if inputs <= CLOSE or apart > min(SAME, LIKE * inputs):
            return []
        cosine = 1 - apart * apart / 2
        return [Flag("same", f"the same heatmap as that of {self.name} (cosine {cosine:.4f}), though the inputs differ")]


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """How far two arrays are apart once both have length 1; 2 where only one of them is zero. Missing values count as 0."""
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    if np.array_equal(a, b):
        return 0.0
    lengths = [float(np.linalg.norm(v.astype(np.float64))) for v in (a, b)]
    return float(np.linalg.norm(a / lengths[0] - b / lengths[1])) if all(lengths) else 2.0


def summary(results: Sequence[Result]) -> list[str]:
    """The flags of a run for the terminal: those of a few samples in full, of the others how many there are."""
    found: dict[str, list[tuple[str, str]]] = {}
    for result in results:
        for flag in result.flags:
            found.setdefault(flag.code, []).append((result.name, flag.text))
    lines = []
    for code, flags in found.items():
        if len(flags) == len(results) > 1 and len({text for _, text in flags}) == 1:
            lines.append(f"all inputs: {flags[0][1]}")
            continue
        lines += [f"{name}: {text}" for name, text in flags[:SHOWN]]
        if len(flags) > SHOWN:
            lines.append(f"{len(flags)} of {len(results)} inputs have the flag {code!r}; results.json says of each why")
    return lines


def remarks(results: Sequence[Result], rivals: bool = True, reference: float | None = None) -> list[str]:
    """What holds for all heatmaps: logits below zero, relevance that did not arrive, one pattern for everybody.

    ``rivals``: is there a class to compare the explained one with, that it has not been compared with yet? ``reference``: the
    number that a quantity was compared with.
    """
    known = [r for r in results if r.logit is not None and r.at_baseline is None]
    below = sum(1 for r in known if r.logit is not None and r.logit < 0)
    shares = [r.relevance_sum / r.logit for r in known if r.logit] or [1.0]
    share, difference = float(np.median(shares)), float(np.median(np.abs(np.subtract(shares, 1))))
    found = list(_compared([r for r in results if r.at_baseline is not None]))
    balances = [r.balance for r in results if r.balance is not None]
    if below:
        found.append(
            f"{below} of {len(known)} explained logits are below zero: their relevance adds up to that negative number, "
            "so blue is evidence for the low score"
            + (", not against the class; --contrast explains the lead over the runner-up" if rivals else "")
            if reference is None
            else f"{below} of {len(known)} outputs are below {reference:g}: their relevance adds up to a negative number, so "
            "blue is what makes them low"
        )
    if share > 2 or share < -LOST:
        found.append(
            f"Σ relevance is {share:.3g} times the logit (median): biases of the other sign outdo it, or the rule divides by "
            "sums that nearly vanish; do not read amounts from these heatmaps"
        )
    elif difference > 0.01:
        who = (
            "biases, what is not explained, the stabiliser and neurons without a positive input absorbed the rest "
            "(--ledger itemises it)"
        )
        kept = _kept(balances) or "what keeps the rest differs from one to the other" if balances else who
        found.append(
            f"Σ relevance is not the logit (median difference {difference:.0%}): {kept}; compare heatmaps by shape, not by size"
        )
    if results and all(any(flag.code == "same" for flag in r.flags) for r in results):
        found.append(
            "all inputs, or those of a class, have the same heatmap, though they differ: it shows what the model weighs, not "
            "what is in an input; choose another --preset, or give --low and --high"
        )
    return found


def _compared(results: Sequence[Result]) -> Iterator[str]:
    """Of what the score of each sample is the sum, and how much of it is left over."""
    terms = [(r.logit, r.at_baseline, r.relevance_sum) for r in results if r.logit is not None and r.at_baseline is not None]
    if terms:
        score, there, total = (float(np.mean(values)) for values in zip(*terms, strict=True))
        arrived, rest = f"{_signed(total, 4)} Σ relevance", f"{_signed(score - there - total, 2)} left over"
        left = float(np.median([abs(f - g - r) / (abs(f - g) or 1.0) for f, g, r in terms]))
        yield (
            f"the score is {score:.4g} = {there:.4g} at the baseline {arrived} {rest} (means); that is {left:.2%} of the "
            "difference to the baseline (median)"
        )


def _signed(value: float, digits: int) -> str:
    """A further term of a sum."""
    return f"{'-' if value < 0 else '+'} {abs(value):.{digits}g}"


def _kept(balances: Sequence[Mapping[str, float]]) -> str:
    """Who kept what, in words: medians, as shares of the logit."""
    shares = {name: float(np.median([b[name] / b["logit"] for b in balances if b["logit"]])) for name in WHERE_KEPT}
    return ", ".join(text.format(shares[name]) for name, text in WHERE_KEPT.items() if abs(shares[name]) >= 5e-4)
