"""What a reader of heatmaps must know, in words: of a single sample as flags, and of all samples of a run as remarks."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxdtd.data.features import Described
from onnxdtd.data.forms import Form
from onnxdtd.data.smooth import lattice
from onnxdtd.labels import listed
from onnxdtd.runtime.explainer import Ledger
from onnxdtd.study.results import Flag, Result
from onnxdtd.study.words import amount

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


def of_amount(result: Result, ledger: Ledger | None, made: str | None = None, score: str = "logit") -> list[Flag]:
    """Whether relevance arrived at the input; ``ledger``, of this sample alone, tells where it stayed; ``made``: into what a
    gradient was; ``score``: what the explained one is called.
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
        f"{_little(share)} of the {score} arrived at the input"
        if 0 <= share < 1
        else f"Σ relevance is {share:.3g} times the {score}"
    )
    return [Flag("lost", f"{words}{': ' if where else ''}{where}; read no amounts from this heatmap")]


def _little(share: float) -> str:
    """A share that may be small, but is not nothing."""
    return f"{share:.1%}" if share >= 1e-3 else f"{100 * share:.1g}%"


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
    """Whether the first layers of a compiled model never look at the values of the input, and whether all cancels out."""
    blind = [f"{name!r} ({metadata['rules'][name]})" for name in metadata.get("by_weights") or ()]
    found = (
        [Flag("weights", f"shared out by weights alone at {', '.join(blind)}, whatever the values of the input")]
        if blind
        else []
    )
    lost = metadata.get("cancelled") or {}
    return found + [
        Flag("rounding", f"all that {ids} has is rounding: summed over an embedding it is 0 in front of {norm!r}")
        for ids, norm in lost.items()
    ]


def of_absent(x: np.ndarray, relevance: np.ndarray) -> list[Flag]:
    """Whether terms or categories that a sample does not have got relevance, as rules by weights and gradients give it."""
    size = np.abs(relevance).astype(np.float64)
    share = float(size[x == 0].sum()) / (float(size.sum()) or 1.0)
    if share <= CLOSE:
        return []
    return [Flag("absent", f"{share:.0%} of Σ |relevance| is that of terms, or categories, that are not in it")]


def of_unknown(sample: Described) -> list[Flag]:
    """Which columns of a row have a category that the model does not know, and so none in its eyes."""
    features, x = sample.features, sample.x.ravel()
    strange = {i: below for i, below in features.encoded.items() if not x[below].any() and sample.value(i) is not None}
    known = lambda below: listed([features.entries[i].category.removeprefix("=") for i in below])
    return [
        Flag("unknown", f"{sample.said(i)}: the model knows no such category, and takes it for none of {known(below)}")
        for i, below in strange.items()
    ]


def of_lattice(values: np.ndarray, smooth: float | None = None) -> list[Flag]:
    """Whether strides leave a lattice in a heatmap [H, W], which is drawn smoothed by so many pixels."""
    found = lattice(values)
    if found is None:
        return []
    where = f"one of every {found.stride} x {found.stride} pixels"
    if found.alone:
        advice = "; --smooth 0 draws it as it is" if smooth is None else ""
        return [Flag("lattice", f"strides leave a lattice: {found.held:.0%} of Σ |relevance| is on {where}{advice}")]
    even = smooth is not None and smooth >= found.sigma
    start, advice = ("strides left traces", "") if even else ("strides show", f"; --smooth {found.sigma:g} evens that out")
    return [Flag("lattice", f"{start}: {where} has {min(found.times, 999):.0f} times as much as another{advice}")]


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


@dataclass
class Told:
    """A flag of a run so far: how many results have it, and the first of them."""

    count: int = 0
    first: list[tuple[str, str]] = field(default_factory=list)  # name and text
    alike: bool = True  # have all of them one text?


class Notes:
    """What there is to say of all results of a run, of which one after the other is added; numbers are kept of them alone,
    and what a few of them are ``called``.
    """

    def __init__(self, results: Iterable[Result] = (), called: Callable[[Result], str] = lambda result: result.name):
        self._called = called
        self.count, self._same, self._alone = 0, 0, 0
        self._flags: dict[str, Told] = {}
        self._terms = array("d")  # logit, score at the baseline or NaN, Σ relevance, of each that has a logit
        self._balances = {name: array("d") for name in WHERE_KEPT}
        self._balanced = False
        for result in results:
            self.add(result)

    def add(self, result: Result, alone: bool = False) -> None:
        """One more; ``alone``: there was none of its class that it could be compared with."""
        self.count += 1
        self._alone += alone
        self._same += any(flag.code == "same" for flag in result.flags)
        for flag in result.flags:
            told = self._flags.setdefault(flag.code, Told())
            told.count += 1
            told.alike &= not told.first or told.first[0][1] == flag.text
            if len(told.first) < SHOWN:
                told.first.append((self._called(result), flag.text))
        if result.logit is not None:
            self._terms.extend(
                [result.logit, np.nan if result.at_baseline is None else result.at_baseline, result.relevance_sum]
            )
        self._balanced |= result.balance is not None
        if result.balance and result.balance["logit"]:
            for name, shares in self._balances.items():
                shares.append(result.balance[name] / result.balance["logit"])

    def summary(self) -> list[str]:
        """The flags of a run for the terminal: those of a few samples in full, of the others how many there are."""
        lines = []
        for code, told in self._flags.items():
            if told.count == self.count > 1 and told.alike:
                lines.append(f"all heatmaps: {told.first[0][1]}")
                continue
            lines += [f"{name}: {text}" for name, text in told.first]
            if told.count > SHOWN:
                lines.append(f"{told.count} of {self.count} heatmaps have the flag {code!r}; results.json says of each why")
        return lines

    def remarks(self, rivals: bool = True, reference: float | None = None, score: str = "logit") -> list[str]:
        """What holds for all heatmaps: logits below zero, relevance that did not arrive, one pattern for everybody.

        ``rivals``: is there a class to compare the explained one with, that it has not been compared with yet? ``reference``:
        the number that a quantity was compared with. ``score``: what the explained one is called.
        """
        logits, there, sums = np.array(self._terms).reshape(-1, 3).T
        plain = np.isnan(there)
        known, below = int(plain.sum()), int((logits[plain] < 0).sum())
        divided = plain & (logits != 0)
        shares = sums[divided] / logits[divided] if divided.any() else np.ones(1)
        share, difference = float(np.median(shares)), float(np.median(np.abs(shares - 1)))
        found = list(_compared(logits[~plain], there[~plain], sums[~plain]))
        if below:
            plural = "outputs" if score == "output" else "logits"
            found.append(
                f"{below} of {known} explained {plural} are below zero: their relevance adds up to that negative number, "
                "so blue is evidence for the low score"
                + (", not against the class; --contrast explains the lead over the runner-up" if rivals else "")
                if reference is None
                else f"{below} of {known} outputs are below {reference:g}: their relevance adds up to a negative number, so "
                "blue is what makes them low"
            )
        if share > 2 or share < -LOST:
            found.append(
                f"Σ relevance is {share:.3g} times the {score} (median): biases of the other sign outdo it, or the rule "
                "divides by sums that nearly vanish; do not read amounts from these heatmaps"
            )
        elif difference > 0.01:
            who = (
                "biases, what is not explained, the stabiliser and neurons without a positive input absorbed the rest "
                "(--ledger itemises it)"
            )
            kept = _kept(self._balances) or "what keeps the rest differs from one to the other" if self._balanced else who
            found.append(
                f"Σ relevance is not the {score} (median difference {difference:.0%}): {kept}; compare heatmaps by shape, "
                "not by size"
            )
        if self._same and self._same + self._alone == self.count:
            found.append(
                "all inputs, or those of a class, have the same heatmap, though they differ: it shows what the model weighs, "
                "not what is in an input; choose another --preset, or give --low and --high"
            )
        return found


def _compared(scores: np.ndarray, there: np.ndarray, sums: np.ndarray) -> Iterator[str]:
    """Of what the score of each sample is the sum, and how much of it is left over."""
    if scores.size:
        score, base, total = (float(values.mean()) for values in (scores, there, sums))
        arrived, rest = f"{_signed(total, 4)} Σ relevance", f"{_signed(score - base - total, 2)} left over"
        differences = np.where(scores == there, 1.0, np.abs(scores - there))
        left = float(np.median(np.abs(scores - there - sums) / differences))
        yield (
            f"the score is {amount(score)} = {amount(base)} at the baseline {arrived} {rest} (means); that is {left:.2%} of "
            "the difference to the baseline (median)"
        )


def _signed(value: float, digits: int) -> str:
    """A further term of a sum."""
    return f"{'-' if value < 0 else '+'} {amount(abs(value), digits)}"


def _kept(shares: Mapping[str, Sequence[float]]) -> str:
    """Who kept what, in words: medians, as shares of the logit."""
    medians = {name: float(np.median(values)) if len(values) else 0.0 for name, values in shares.items()}
    return ", ".join(text.format(medians[name]) for name, text in WHERE_KEPT.items() if abs(medians[name]) >= 5e-4)
