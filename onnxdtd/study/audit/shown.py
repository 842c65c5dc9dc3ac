"""The heatmaps of the first samples, for the page."""

from __future__ import annotations

from onnxdtd.data.thumbnails import thumbnail
from onnxdtd.study.audit.auditor import Auditor
from onnxdtd.study.audit.measurement import Finding, Measurement, Task

PICTURES = 8  # samples in the report


def measure(auditor: Auditor, task: Task) -> Finding:
    """Small pictures of a sample and of its heatmap for the predicted class, with that."""
    shown = []
    for x, heatmap, predicted in zip(
        auditor.study.xs[:PICTURES], auditor.trained(task.preset), auditor.predicted, strict=False
    ):
        picture, small = thumbnail(x, heatmap, auditor.form)
        shown.append({"class": auditor.labels[int(predicted)], "input": picture, "heatmap": small})
    return Finding(shown)


MEASUREMENT = Measurement("pictures", measure)
