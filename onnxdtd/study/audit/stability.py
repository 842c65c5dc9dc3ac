"""Does an explanation change more than the score where the input hardly changes?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from onnxdtd.study.audit.auditor import Auditor, spread_of
from onnxdtd.study.audit.limits import STEADY, UNSTEADY, left_out, percent
from onnxdtd.study.audit.measurement import Entry, Finding, Glance, Measurement, Task, mean_of
from onnxdtd.study.audit.similarity import mean

NUDGE, NUDGES = 0.02, 4  # noise on the input as a part of the data's spread, and how often it is drawn


def measure(auditor: Auditor, task: Task) -> Finding:
    """How much a little noise on the input changes heatmap and explained score, each as a part of its size."""
    study, n = auditor.study, len(auditor.study.xs)
    if auditor.form.ids is not None:
        return Finding({}, left_out="no noise on ids is small")
    if study.columns is not None and study.columns.categories.any():
        return Finding({}, left_out="no noise on categories is small")
    noisy = np.concatenate([nudged(auditor, np.random.default_rng([study.seed, i])) for i in range(NUDGES)])
    if np.array_equal(noisy, np.tile(study.xs, (NUDGES, *[1] * (study.xs.ndim - 1))), equal_nan=True):
        spreads = spread_of(study.xs, auditor.form).any()
        return Finding({}, left_out="noise so small is rounded away" if spreads else "the samples have no spread")
    classes = np.tile(auditor.predicted, NUDGES)
    own, new = auditor.trained(task.preset), auditor.heatmaps(task.preset, classes, noisy).reshape(NUDGES, *study.xs.shape)
    scores = auditor.logits[np.arange(n), auditor.predicted]
    moved = np.abs(auditor.scores.logits(noisy)[np.arange(NUDGES * n), classes].reshape(NUDGES, n) - scores)
    changes = [mean([change(own[i], new[draw, i]) for draw in range(NUDGES)]) for i in range(n)]
    known = [i for i, value in enumerate(changes) if value is not None and scores[i]]
    if not known:
        return Finding({}, left_out="no heatmap and score is other than zero")
    medians = np.median([(changes[i], moved[:, i].mean() / abs(scores[i])) for i in known], axis=0)
    return Finding(
        {"noise": NUDGE, "heatmap": float(medians[0]), "score": float(medians[1])},
        {"stability": [value if i in known else None for i, value in enumerate(changes)]},
    )


def nudged(auditor: Auditor, rng: np.random.Generator) -> np.ndarray:
    """The samples with noise, within their bounds, and in whole numbers where the model takes such."""
    xs, form = auditor.study.xs, auditor.form
    noisy = xs + NUDGE * spread_of(xs, form) * rng.normal(size=xs.shape)
    if form.low is not None and form.high is not None:
        noisy = np.clip(noisy, form.low, form.high)
    return np.where(auditor.taken.whole, np.rint(noisy), noisy).astype(xs.dtype)


def change(a: np.ndarray, b: np.ndarray) -> float | None:
    """How far a heatmap is from another, as a part of the length of the first; None where that is 0 or one is not finite."""
    length, far = float(np.linalg.norm(a.astype(np.float64))), float(np.linalg.norm(b.astype(np.float64) - a))
    return far / length if length > 0 and math.isfinite(far / length) else None


def say(entry: Entry) -> Iterator[str]:
    """Does it change more than the score where the input hardly changes?"""
    yield from left_out(entry, "Stability", "stability")
    found = entry["stability"]
    value = found.get("heatmap")
    if value is None:
        return
    numbers = (
        f"noise of {percent(found['noise'])} of the data's spread changes the heatmap by {percent(value)} of its length and "
        f"the explained score by {percent(found['score'])} (medians)"
    )
    if value >= UNSTEADY:
        yield f"Stability: unsteady; {numbers}."
    elif value > STEADY:
        yield f"Stability: moves; {numbers}."
    else:
        yield f"Stability: steady; {numbers}."


ROWS = {
    "stability": Glance(
        "change under noise",
        "how far noise on the input moves the heatmap, as a part of its length; the settings tell how much noise. A heatmap "
        "that ignores the input is steady too.",
        of=mean_of("stability"),
    ),
}
MEASUREMENT = Measurement("stability", measure, say, ROWS)
