"""Heatmaps that say nothing: zero everywhere, not finite, of one value."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxdtd.study.audit.auditor import SAME, Auditor
from onnxdtd.study.audit.measurement import Entry, Finding, Measurement, Task


def measure(auditor: Auditor, task: Task) -> Finding:
    """How many heatmaps say nothing: zero everywhere, not finite, of one value."""
    kinds = [_kind(heatmap.astype(np.float64)) for heatmap in auditor.trained(task.preset)]
    return Finding({"n": len(kinds), **{name: kinds.count(name) for name in ("empty", "broken", "flat")}})


def _kind(heatmap: np.ndarray) -> str:
    """In which way it says nothing, "" of one that says something."""
    if not np.isfinite(heatmap).all():
        return "broken"
    if not heatmap.any():
        return "empty"
    return "flat" if heatmap.size > 1 and np.ptp(heatmap) <= SAME * np.abs(heatmap).max() else ""


def say(entry: Entry) -> Iterator[str]:
    """Heatmaps that say nothing."""
    found = entry["silent"]
    apart = "similarities are over the others, and in the perturbation it is a random order"
    words = {
        "empty": ("zero everywhere: nothing is explained there", apart),
        "broken": ("NaN or infinite somewhere", apart),
        "flat": ("of one value everywhere: no entry is more relevant than another", "rank correlations are over the others"),
    }
    for name, (text, rest) in words.items():
        count, n = found[name], found["n"]
        if count == n:
            yield f"Heatmaps: {'all' if n > 1 else 'the only one'}{f' {n}' if n > 1 else ''} {are(n)} {text}."
        elif count:
            yield f"Heatmaps: {count} of {n} {are(count)} {text}; {rest}."


def are(count: int) -> str:
    """The verb for so many."""
    return "is" if count == 1 else "are"


MEASUREMENT = Measurement("silent", measure, say, always=True)
