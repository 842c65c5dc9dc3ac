"""The heatmaps of the first samples, for the page."""

from __future__ import annotations

from onnxdtd.data.features import numbered
from onnxdtd.data.labelled import Item
from onnxdtd.data.thumbnails import shown
from onnxdtd.study.audit.auditor import Auditor
from onnxdtd.study.audit.measurement import Finding, Measurement, Task

PICTURES = 8  # samples in the report


def measure(auditor: Auditor, task: Task) -> Finding:
    """Small pictures of a sample and of its heatmap for the predicted class, with that."""
    study, found = auditor.study, []
    items = [Item("", x, auditor.form.channel) for x in study.xs] if study.texts is None else study.texts.items
    heatmaps, words = auditor.trained(task.preset), study.texts is not None and study.texts.words
    for i, item in enumerate(items[:PICTURES]):
        told = numbered(study.names, item.x) if study.columns is None else study.columns.said(item.x)
        picture, small = shown(item, auditor.whole(i, heatmaps[i]), auditor.form, words, told)
        target = int(auditor.predicted[i])
        logits = {study.model.name: float(auditor.logits[i, target])}
        found.append({"class": auditor.labels[target], "logits": logits, "input": picture, "heatmap": small})
    return Finding(found)


MEASUREMENT = Measurement("pictures", measure)
