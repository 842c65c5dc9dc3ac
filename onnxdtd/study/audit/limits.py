"""From which numbers on an audit says what, and the phrases that its sentences share.

Whoever reads these sentences may have to sign them: each says no more than its number does, and what could not be measured, or
would have come out the same whatever was explained, is named with the reason instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnxdtd.study.audit.measurement import Entry

# Similarities are at most 1. "Independent" needs a heatmap that nobody could tell from the other; "little" is where what
# the heatmaps share outweighs how they differ: at a cosine of 0.8 the part along the other is 4/3 as long as that across.
INDEPENDENT = 0.99
LITTLE = 0.8
EQUAL = 0.9999  # what float32 leaves of 1 in a deep model
UNLEARNED = 0.5  # rank correlation left when every weight is drawn anew, from which on it is worth a sentence
NOISE = 0.3  # rank correlation so low that a map of noise would have done as well
ALL, MOST = 0.99, 0.5  # shares of root points
CHANCE = 0.3  # cosine of random vectors from which on two that agree tell nothing: a pixel's three colours have 0.5
LIKELY = 0.15  # rank correlation of unrelated heatmaps, that of 29 entries, from which on the reader must know
NOTABLE = 0.01  # shares of the logit and of neurons, and differences of correlations, below this go unsaid
STEADY, UNSTEADY = 0.1, 0.5  # change of a heatmap under small noise, as a part of its length

NOISY = "noise-like heatmaps get as low (Binder et al. 2023)"


def left_out(entry: Entry, topic: str, measure: str) -> Iterator[str]:
    """Why there is no number."""
    if measure in entry["left_out"]:
        yield f"{topic}: left out, since {entry['left_out'][measure]}."


def also(name: str, value: float | None) -> str:
    """A further number, where there is one."""
    return "" if value is None else f", {name} {value:.3f}"


def on(entry: Entry, name: str) -> str:
    """On how many samples, where these are not all."""
    count, n = entry["means"][name]["n"], entry["silent"]["n"]
    return "" if count == n else f", on {count} of {n} samples"


def percent(share: float) -> str:
    """In per cent, with digits more where that would read 0 % or 100 % and is not.

    >>> percent(0.5), percent(0.004), percent(0.99999), percent(1e-6), percent(1)
    ('50%', '0.4%', '99.999%', '0.0001%', '100%')
    """
    for digits in (0, 1, 2, 3, 4, 5):
        text = f"{share:.{digits}%}"
        if float(text[:-1]) not in (0, 100) or share in (0, 1):
            return text
    return "under 0.00001%" if share < 0.5 else "over 99.99999%"


def shows_nothing(entry: Entry) -> bool:
    """Is every heatmap zero, or not finite?"""
    return bool(entry["silent"]["empty"] + entry["silent"]["broken"] == entry["silent"]["n"])
