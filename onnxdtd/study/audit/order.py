"""Does the score fall where a heatmap says that it must? As ``onnxdtd.evaluate`` measures it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from onnxdtd.data.forms import Form
from onnxdtd.errors import RequestError
from onnxdtd.study.audit.auditor import Auditor, over_channels
from onnxdtd.study.audit.limits import left_out
from onnxdtd.study.audit.measurement import Entry, Finding, Glance, Measurement, Task, mean_of
from onnxdtd.study.audit.similarity import finite_or_zero
from onnxdtd.study.measures import HIGHEST
from onnxdtd.study.metrics import abpc, aopc
from onnxdtd.study.perturb import default_patch, perturbation, regions
from onnxdtd.study.predictor import Scores
from onnxdtd.study.tally import paired, side, summed
from onnxdtd.study.words import mean_text

NEUTRAL = {False: "0", True: "the mean of the samples"}  # what regions are replaced by
AREAS = ("aopc", "abpc", "gain")  # numbers in units of the score; the others are shares


def measure(auditor: Auditor, task: Task) -> Finding:
    """What the scores do when regions are replaced, as ``onnxdtd.evaluate`` measures it, and in a random order."""
    study, texts = auditor.study, auditor.study.texts
    if texts is not None and texts.fill is None:
        return Finding({}, left_out=texts.filled)
    fills, places, scores = _replaced(auditor)
    if max(own.max() for own in places) < 1:
        return Finding({}, left_out="the input is one region, and all orders are the same")
    if all((fill == x).all() for fill, x in zip(fills, study.xs, strict=True)):
        return Finding({}, left_out="the samples are what their regions would be replaced by")
    samples: dict[str, list[float | None]] = {"aopc": [], "abpc": [], "gain": []}
    heatmaps = auditor.trained(task.preset)
    for i, (x, target) in enumerate(zip(study.xs, auditor.predicted.tolist(), strict=True)):
        rng, shown = np.random.default_rng([study.seed, i]), {task.preset: finite_or_zero(auditor.whole(i, heatmaps[i]))}
        values: dict[str, float] = {}
        with suppress(RequestError):  # scores that are not finite
            curves = perturbation(scores[i], x, target, shown, fills[i], places[i], rng)
            morf, lerf, chance_level = curves[task.preset, "morf"], curves[task.preset, "lerf"], aopc(curves["random"])
            values = {"aopc": aopc(morf), "abpc": abpc(lerf, morf), "gain": paired(aopc(morf), chance_level, area=True)}
        for name, listed in samples.items():
            listed.append(values.get(name))
    if all(value is None for value in samples["aopc"]):
        return Finding({}, samples, "the scores are NaN or infinite where regions are replaced")
    found = {name: summed(values) for name, values in samples.items()}
    fill = NEUTRAL[bool(fills[0].any())] if texts is None else texts.filled
    fill = fill if study.columns is None else study.columns.becomes("mean", "samples")
    return Finding({**found, "fill": fill}, samples)


def _replaced(auditor: Auditor) -> tuple[list[np.ndarray], list[np.ndarray], list[Scores]]:
    """Of each sample what takes the place of its entries, their regions, and what gives its scores."""
    xs, texts, form = auditor.study.xs, auditor.study.texts, auditor.form
    if texts is not None:
        fills = [np.full(x.shape, texts.fill, np.float64) for x in xs]
        return (
            fills,
            [item.places for item in texts.items if item.places is not None],
            [auditor.scores.beside(item.others) for item in texts.items],
        )
    shape = xs.shape[1:]
    fill = neutral(xs, form) if form.ids is None else np.zeros(shape)
    if auditor.study.columns is not None:
        fill = auditor.study.columns.typical("mean", xs)
    places = regions(form, shape, default_patch(form, shape))
    return [fill] * len(xs), [places] * len(xs), [auditor.scores] * len(xs)


def neutral(xs: np.ndarray, form: Form) -> np.ndarray:
    """What takes the place of a region of samples [n, ...]: 0 in pictures, elsewhere the mean of each feature or channel."""
    if len(form.neighbours(xs.shape[1:])) > 1:
        return np.zeros(xs.shape[1:])
    return np.broadcast_to(np.nan_to_num(over_channels(np.nanmean, xs, form)[0]), xs.shape[1:])


def beats_chance(entry: Entry) -> bool | None:
    """Do AOPC and ABPC exceed those of a random order? False where both fall behind it or chance explains one of them, None
    where that is not known.
    """
    found = entry["perturbation"]
    sides = [side(found[name]) for name in ("gain", "abpc")] if found else [None]
    return None if None in sides else sides == [1, 1]


def say(entry: Entry) -> Iterator[str]:
    """Does the score fall where it says that it must?"""
    yield from left_out(entry, "Perturbation", "perturbation")
    found = entry["perturbation"]
    if not found:
        return
    gain, area = (side(found[name]) for name in ("gain", "abpc"))
    words = {
        (None, None): "on one sample nothing is told from chance",
        (1, 1): "better than a random order",
        (0, 0): "not told from a random order",
        (-1, -1): "worse than a random order",
        (1, 0): "better than a random order in AOPC, not told from it in ABPC",
        (0, 1): "better than a random order in ABPC, not told from it in AOPC",
        (-1, 0): "worse than a random order in AOPC, not told from it in ABPC",
        (0, -1): "worse than a random order in ABPC, not told from it in AOPC",
        (1, -1): "better than a random order in AOPC, worse in ABPC",
        (-1, 1): "worse than a random order in AOPC, better in ABPC",
    }
    yield (
        f"Perturbation: {words[gain, area]}; with regions replaced by {found['fill']}, AOPC less that of a random order is "
        f"{mean_text(found['gain'])}, and ABPC, 0 for a random order, is {mean_text(found['abpc'])}."
    )


ROWS = {
    "gain": Glance(
        "AOPC over random",
        "AOPC is how far the score falls, on average, while the most relevant regions go first; less that of a random order.",
        HIGHEST,
        of=mean_of("gain"),
        area=True,
    ),
    "abpc": Glance(
        "ABPC",
        "the area between two curves of the score, the least and the most relevant regions first; 0 of a random order.",
        HIGHEST,
        of=mean_of("abpc"),
        area=True,
    ),
}
MEASUREMENT = Measurement("perturbation", measure, say, ROWS)
