"""What a classifier says, as the numbers that are explained: its logits, in batches, without the relevance pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from pathlib import Path

import numpy as np
import onnx

from onnxdtd.compiler.logits import heads
from onnxdtd.compiler.prepared import Planned
from onnxdtd.compiler.score import is_binary
from onnxdtd.data.read import Layout
from onnxdtd.errors import RequestError
from onnxdtd.graph.machines import GIVES
from onnxdtd.graph.slices import kind, sliced
from onnxdtd.operators.table import LABELS_AND_SCORES, named
from onnxdtd.runtime.explainer import numpy_type, session
from onnxdtd.study.columns import Columns, OnlyInput

BATCH = 64  # samples at once, where the model leaves it open


class Scores:
    """The logits of a planned classifier. It must have one input of known rank, or others be given that stay as they are, or
    take ``columns``.
    """

    def __init__(self, job: Planned, folder: Path, threads: int | None = None, columns: Columns | None = None):
        self.binary = is_binary(job.plan)
        self.one_against_rest = _one_against_rest(job)
        self._job = job
        self._taken = columns or OnlyInput(job)
        self._session = session(of_logits(job), folder=folder, threads=threads)
        self._others = dict[str, np.ndarray]()
        self._types = {node.name: numpy_type(node.type) for node in self._session.get_inputs()}

    def beside(self, others: Mapping[str, np.ndarray]) -> Scores:
        """The same, where further inputs take ``others``, by name and of one sample, with every sample."""
        found = copy(self)
        found._others = dict(others)
        return found

    def logits(self, x: np.ndarray) -> np.ndarray:
        """float64 [n, classes] of samples x [n, ...]; -z and z where z is the logit of a sigmoid."""
        rows = in_batches(x, self._taken.layout, self._run)
        return np.concatenate([-rows, rows], axis=1) if self.binary else rows

    def _run(self, x: np.ndarray) -> np.ndarray:
        rest = {name: self._laid(name, value, len(x)) for name, value in self._others.items() if name in self._types}
        (found,) = self._session.run(None, {**self._taken.feeds(x), **rest})
        return self._job.plan.raster.rows(found, self._job.request).astype(np.float64)

    def _laid(self, name: str, value: np.ndarray, count: int) -> np.ndarray:
        """What a further input takes with so many samples."""
        axis = self._job.plan.samples.axes[name]
        rows = value if axis is None else np.moveaxis(np.repeat(value[None], count, axis=0), 0, axis)
        return rows.astype(self._types[name])

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Softmax, or the sigmoid where the model has one, of ``logits`` [n, classes]. Raises ``RequestError`` for others."""
        if self.one_against_rest:
            raise RequestError("the probabilities of this model are no softmax of its logits; use --score logit")
        scale = 0.5 if self.binary else 1.0  # a softmax of -z/2 and z/2 is a sigmoid of z
        powers = np.exp(scale * (logits - logits.max(axis=1, keepdims=True)))
        return powers / powers.sum(axis=1, keepdims=True)


def _one_against_rest(job: Planned) -> bool:
    """Does a head give each of several classes a probability of its own, as some of scikit-learn's do, or none at all?"""
    met = heads(job.plan.stepped_back)
    own = any(head.each or head.rescales for head in met)
    if any(GIVES in node.attrs for node in job.plan.stepped_back):
        return True
    classifiers = [
        n for n in job.source.proto.graph.node if (h := named(n.op_type).head) is not None and h.gives == LABELS_AND_SCORES
    ]
    transforms = {a.s for node in classifiers for a in node.attribute if a.name == "post_transform"}
    return not is_binary(job.plan) and (own or b"LOGISTIC" in transforms)


def cut(rows: np.ndarray, most: int, least: int = 1) -> Iterator[tuple[np.ndarray, int]]:
    """The numbers of samples, at most ``most`` at a time, and how many of them count: where a batch is fixed, to ``least``, the
    last of them fills it up.
    """
    for start in range(0, len(rows), most):
        some = rows[start : start + most]
        yield np.concatenate([some, np.repeat(some[-1:], max(least - len(some), 0))]), len(some)


def in_batches(x: np.ndarray, layout: Layout, run: Callable[[np.ndarray], np.ndarray], most: int = BATCH) -> np.ndarray:
    """``run`` on samples x [n, ...], as many at a time as the model takes."""
    batches = cut(np.arange(len(x)), layout.batch or most, layout.batch or 1)
    return np.concatenate([run(x[rows])[:count] for rows, count in batches])


def of_logits(job: Planned) -> onnx.ModelProto:
    """The predictor with its logits as the only output."""
    e, logits, whole = job.emit, job.plan.logits, onnx.ModelProto()
    whole.CopyFrom(job.source.proto)
    if logits.name in {value.name for value in whole.graph.input}:
        raise AssertionError("a classifier computes its logits")
    nodes, constants = e.live([logits])
    whole.graph.node.extend(nodes)
    whole.graph.initializer.extend(constants)
    return sliced(whole, [], {logits.name: kind(logits)})
