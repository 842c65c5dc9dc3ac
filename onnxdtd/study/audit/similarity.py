"""How alike heatmaps are: to those of derivatives, of other classes, of other weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat

import numpy as np

from onnxdtd.data.scale import heat
from onnxdtd.errors import Unsupported
from onnxdtd.study.audit.auditor import Auditor
from onnxdtd.study.audit.limits import EQUAL
from onnxdtd.study.audit.measurement import Entry, Finding, Glance, Measurement, Row, Task
from onnxdtd.study.measures import Measure
from onnxdtd.study.metrics import cosine, spearman, ssim

FEWEST = 5  # entries of a heatmap, below which a rank correlation is left out: four have 24 orders


ALONE = "the heatmaps have one entry, and all are multiples of each other"
REFERENCES = ("gradient-x-input", "sensitivity")
SIMILARITIES = ("cosine", "spearman", "ssim")


ALIKE = {
    "ssim": Measure("SSIM", "structural similarity of two heatmaps: 1 is the same picture, 0 is unrelated ones."),
    "spearman": Measure("rank correlation", "Spearman's: 1 is the same order of the entries by relevance, 0 is no relation."),
    "spearman_abs": Measure("rank correlation of sizes", "the same without the signs of the relevance."),
    "cosine": Measure("cosine", "1 is the same heatmap up to a factor, 0 is no relation, −1 is its negative."),
}


def measure(auditor: Auditor, task: Task) -> Finding:
    """How alike the heatmaps are to those of other presets, derivatives; nothing where the model has no derivative."""
    own, found = auditor.trained(task.preset), {}
    for name in () if auditor.alone else [name for name in REFERENCES if name != task.preset]:
        try:
            found[name] = means_of(map(alike, own, auditor.trained(name), repeat(auditor.form.channel)))
        except Unsupported:
            continue
    return Finding(found)


def say(entry: Entry) -> Iterator[str]:
    """Is it another method by another name?"""
    known = {name: row["cosine"] for name, row in entry["similarity"].items() if row["cosine"] is not None}
    for name, value in known.items():
        if value > EQUAL:
            yield f"Same as {name}: shows nothing that it does not; equals it on these samples up to size (cosine {value:.6f})."
    others = [f"{value:z.3f} with {name}" for name, value in known.items() if value <= EQUAL]
    if others:
        yield f"Other methods: mean cosine {', '.join(others)}."


def alike(a: np.ndarray, b: np.ndarray, channel: int | None) -> Row:
    """How alike two heatmaps of one sample and class are, whose channels lie along ``channel``."""
    a, b = finite_or_zero(a), finite_or_zero(b)
    return {"cosine": cosine(a, b), "spearman": ranks(a, b), "ssim": ssim(heat(a, channel), heat(b, channel))}


def ranks(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation, where there are enough entries for one."""
    return spearman(a, b) if a.size >= FEWEST else None


def finite_or_zero(heatmap: np.ndarray) -> np.ndarray:
    """In float64; zero, which is like nothing, where there are values that are NaN or infinite."""
    wide = heatmap.astype(np.float64)
    return wide if np.isfinite(wide).all() else np.zeros_like(wide)


def kept(a: np.ndarray, b: np.ndarray, channel: int | None) -> Row:
    """How much of a heatmap is left in another of other classes or weights, where the logit may well be negative: one that only
    has the other sign, or another size, is the same. SSIM as in Sixt et al. 2020, rank correlations as in Adebayo et al. 2018.
    """
    a, b = finite_or_zero(a), finite_or_zero(b)
    found = alike(a, b, channel)
    flipped = [value for value in (found["ssim"], ssim(heat(a, channel), -heat(b, channel))) if value is not None]
    either = {name: None if value is None else abs(value) for name, value in found.items()}
    return either | {"ssim": max(flipped, default=None), "spearman_abs": ranks(np.abs(a), np.abs(b))}


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def size(value: float | None) -> float | None:
    """Without the sign."""
    return None if value is None else abs(value)


def means_of(rows: Iterable[Row], names: Sequence[str] = SIMILARITIES) -> Row:
    """The mean of each number over the samples that have it."""
    listed = list(rows)
    values = {name: [value for row in listed if (value := row[name]) is not None] for name in names}
    return {name: float(np.mean(found)) if found else None for name, found in values.items()}


def cosine_with(name: str) -> Callable[[Entry], float | None]:
    """The cosine with the heatmaps of another preset."""
    return lambda entry: ((entry.get("similarity") or {}).get(name) or {}).get("cosine")


ROWS = {
    "gradient": Glance(
        "like gradient × input",
        "cosine with gradient × input; at 1 the rules add nothing to it.",
        of=cosine_with(
            "gradient-x-input",
        ),
    ),
    "sensitivity": Glance("like sensitivity", "cosine with sensitivity, the squared gradient.", of=cosine_with("sensitivity")),
}
MEASUREMENT = Measurement("similarity", measure, say, ROWS)
