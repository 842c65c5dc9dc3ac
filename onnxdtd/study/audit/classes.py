"""Does an explanation depend on the class that it is for?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxdtd.study.audit.auditor import SAME, Auditor
from onnxdtd.study.audit.limits import INDEPENDENT, LITTLE, also, left_out, on
from onnxdtd.study.audit.measurement import Entry, Finding, Glance, Measurement, Task, mean_of
from onnxdtd.study.audit.similarity import ALONE, finite_or_zero, kept, mean, means_of
from onnxdtd.study.measures import LOWEST
from onnxdtd.study.metrics import cosine

OTHERS = 4  # classes that the predicted one is compared with: the runner-up and some drawn at random


def measure(auditor: Auditor, task: Task) -> Finding:
    """How alike the heatmaps of the predicted class are to those of others, up to the sign: 1 is blind to the class."""
    why = ALONE if auditor.alone else one_score(auditor)
    if why:
        return Finding({}, left_out=why)
    own = auditor.trained(task.preset)
    others = [auditor.heatmaps(task.preset, classes) for classes in other_classes(auditor)]
    rows = [[kept(own[i], other[i], auditor.form.channel) for other in others] for i in range(len(own))]
    if auditor.logits.shape[1] == 2:
        signed = mean([cosine(finite_or_zero(a), finite_or_zero(b)) for a, b in zip(own, others[0], strict=True)])
        if signed is not None and signed <= -LITTLE:
            words = f"the heatmaps of the two classes are each other's opposites (mean cosine {signed:.3f})"
            return Finding({}, left_out=f"{words}, as they are where one score gains what the other loses, whatever is shown")
    found = means_of(row for one in rows for row in one)
    why = "" if found["cosine"] is not None else "no sample has a heatmap other than zero both of its class and of another"
    return Finding(found, {"classes": [mean([row["cosine"] for row in one]) for one in rows]}, why)


def one_score(auditor: Auditor) -> str:
    """Why no heatmap of another class could differ, where none could."""
    if auditor.binary:
        return "the model has one score, and that of the other class could only be its negative"
    if auditor.logits.shape[1] == 1:
        return "the model has one score only"
    least = SAME * np.abs(auditor.logits).max()
    if np.ptp(auditor.logits, axis=1).max() <= least:
        return "the scores of all classes are the same"
    opposite = auditor.logits.shape[1] == 2 and np.abs(auditor.logits.sum(axis=1)).max() <= least
    return "the two scores of the model are each other's negatives" if opposite else ""


def other_classes(auditor: Auditor) -> list[np.ndarray]:
    """Classes other than the predicted ones, an array [n] for each comparison: first the runner-up, then drawn ones. None
    where there is one score, whose sign alone tells two classes apart.
    """
    if auditor.binary:
        return []
    order = np.argsort(-auditor.logits, axis=1, kind="stable")[:, 1:]
    rng = np.random.default_rng(auditor.study.seed)
    rows = [[*row[:1], *rng.permutation(row[1:])[: OTHERS - 1]] for row in order]
    return list(np.asarray(rows, int).T)


def say(entry: Entry) -> Iterator[str]:
    """Does it depend on the class?"""
    yield from left_out(entry, "Class", "class_sensitivity")
    found = entry["class_sensitivity"]
    value = found.get("cosine")
    if value is None:
        return
    numbers = f"mean cosine {value:.3f}{also('rank correlation', found['spearman'])}, signs aside{on(entry, 'classes')}"
    if value >= INDEPENDENT:
        yield f"Class: independent of it; heatmaps of other classes show the same pattern up to size and sign ({numbers})."
    elif value >= LITTLE:
        yield f"Class: depends on it little; heatmaps of other classes are much alike up to size and sign ({numbers})."
    else:
        yield f"Class: depends on it; heatmaps of other classes differ ({numbers})."


ROWS = {
    "classes": Glance(
        "blindness to the class",
        "cosine between the heatmaps of the predicted and of other classes, signs aside; at 1 the class plays no part.",
        LOWEST,
        of=mean_of("classes"),
    ),
}
MEASUREMENT = Measurement("class_sensitivity", measure, say, ROWS)
