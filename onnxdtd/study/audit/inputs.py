"""Does an explanation depend on the sample, or do all samples of a class have one heatmap?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxdtd.data.forms import Form
from onnxdtd.study.audit.auditor import Auditor, over_channels, spread_of
from onnxdtd.study.audit.limits import INDEPENDENT, LITTLE, left_out, on
from onnxdtd.study.audit.measurement import Entry, Finding, Glance, Measurement, Task, mean_of
from onnxdtd.study.audit.similarity import ALONE, finite_or_zero, mean, size
from onnxdtd.study.metrics import cosine

PARTNERS = 4  # samples of its class that each sample is compared with


def measure(auditor: Auditor, task: Task) -> Finding:
    """How alike the heatmaps of different samples of one class are, up to the sign, beside the samples, standardised."""
    own, xs = auditor.trained(task.preset), auditor.study.xs
    if auditor.alone:
        return Finding({}, left_out=ALONE)
    if auditor.study.texts is not None:
        return Finding({}, left_out="other words stand at the same place of other texts")
    pairs = partners(xs, auditor.predicted)
    if not any(pairs):
        return Finding({}, left_out="no two different samples have one predicted class")
    between = lambda values: [
        [cosine(finite_or_zero(values[i]), finite_or_zero(values[j])) for j in js] for i, js in enumerate(pairs)
    ]
    found = [mean([size(value) for value in row]) for row in between(own)]
    if mean(found) is None:
        return Finding({}, {"input": found}, "no two samples of one class have heatmaps other than zero")
    apart = xs if auditor.study.columns is None else auditor.study.columns.coded(xs)
    samples = mean([mean(row) for row in between(standardised(apart, auditor.form))])
    return Finding({"cosine": mean(found), "samples": samples or 0.0}, {"input": found})


def partners(xs: np.ndarray, classes: np.ndarray) -> list[list[int]]:
    """For each sample the next few of its class that are not the same, going round.

    >>> partners(np.array([[1], [2], [1], [3]]), np.array([0, 0, 0, 1]))
    [[1], [2, 0], [1], []]
    """
    found = []
    for i in range(len(xs)):
        order = [*range(i + 1, len(xs)), *range(i)]
        found.append(
            [j for j in order if classes[j] == classes[i] and not np.array_equal(xs[j], xs[i], equal_nan=True)][:PARTNERS]
        )
    return found


def standardised(xs: np.ndarray, form: Form) -> np.ndarray:
    """Samples [n, ...] less the mean of each feature or channel, in units of its spread; what is missing is at the mean."""
    less, spread = np.nan_to_num(xs - over_channels(np.nanmean, xs, form)), spread_of(xs, form)
    return np.divide(less, spread, out=np.zeros_like(less), where=spread > 0)


def say(entry: Entry) -> Iterator[str]:
    """Does it depend on the sample, or only on its class?"""
    yield from left_out(entry, "Input", "input_dependence")
    found = entry["input_dependence"]
    value = found.get("cosine")
    if value is None:
        return
    numbers = (
        f"heatmaps of different samples of one class have a mean cosine of {value:.3f}, signs aside; the samples, "
        f"standardised, have {found['samples']:.3f}{on(entry, 'input')}"
    )
    if found["samples"] >= INDEPENDENT:
        yield f"Input: cannot be told, since the samples are alike; {numbers}."
    elif value >= INDEPENDENT:
        yield f"Input: independent of it; {numbers}. It is a picture of the model, not of a sample."
    elif value >= LITTLE and value > found["samples"]:
        yield f"Input: depends on it little; {numbers}."
    else:
        yield f"Input: depends on it; {numbers}."


ROWS = {
    "input": Glance(
        "likeness of a class",
        "cosine between the heatmaps of different samples of one predicted class, signs aside; at 1 the sample plays no part. "
        "Samples that are alike have like heatmaps.",
        of=mean_of("input"),
    ),
}
MEASUREMENT = Measurement("input_dependence", measure, say, ROWS)
