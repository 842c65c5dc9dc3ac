"""A part of a model in a session, and samples in batches: what it takes to look inside a network."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from onnxdtd.compiler.prepared import Planned
from onnxdtd.errors import RequestError
from onnxdtd.runtime.explainer import session
from onnxdtd.study.predictor import cut

Arrays = dict[str, np.ndarray]
BATCH = 4  # samples at once, where a model takes any number


def folder(job: Planned) -> Path | None:
    """Where the external weights of a model lie."""
    return None if job.source.path is None else job.source.path.parent


class Part:
    """A part in a session: called with tensors by name, of which it takes those that it needs; gives its outputs by name."""

    def __init__(self, proto: onnx.ModelProto, job: Planned):
        self._session = session(proto, folder=folder(job), threads=1)
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._outputs = [node.name for node in self._session.get_outputs()]

    def __call__(self, values: Mapping[str, np.ndarray]) -> Arrays:
        """Run it."""
        return dict(zip(self._outputs, self._session.run(self._outputs, {n: values[n] for n in self._inputs}), strict=True))


@dataclass(frozen=True)
class Batch:
    """Some samples: which (``rows``, the first ``count`` of them real, the others there to fill a fixed batch), and the model's
    inputs for them.
    """

    rows: np.ndarray
    count: int
    feeds: Arrays


def batches(job: Planned, xs: np.ndarray | Mapping[str, np.ndarray], chosen: Collection[int] | None = None) -> Iterator[Batch]:
    """The samples ``xs`` [n, ...] (by name where there are several inputs), or the ``chosen`` ones, as the model takes them;
    those of one size together.
    """
    axes, fixed = job.plan.samples.axes, job.plan.samples.size
    if not isinstance(xs, Mapping) and len(axes) != 1:
        raise RequestError(f"the model has several inputs, give a dictionary of {', '.join(axes)}")
    arrays = dict(xs) if isinstance(xs, Mapping) else dict.fromkeys(axes, xs)
    every = next(iter(arrays.values()))
    groups: dict[tuple[int, ...], list[int]] = {}
    for row in range(len(every)) if chosen is None else sorted(chosen):
        groups.setdefault(every[row].shape, []).append(row)
    size = fixed if isinstance(fixed, int) else BATCH if separable(job) else 1
    step = 1 if None in axes.values() else size  # an input that all samples of a batch share is that of one
    least = fixed if isinstance(fixed, int) else 1
    for filled, count in (part for rows in groups.values() for part in cut(np.asarray(rows), step, least)):
        feeds = {
            name: array[filled[0]] if axes[name] is None else np.stack([array[i] for i in filled], axes[name] or 0)
            for name, array in arrays.items()
        }
        yield Batch(filled, count, feeds)


def told_apart(job: Planned) -> bool:
    """Can the samples of a batch be told apart everywhere? One alone can."""
    return separable(job) or job.plan.samples.size == 1 or not isinstance(job.plan.samples.size, int)


def separable(job: Planned) -> bool:
    """Does every tensor on the way have the samples in front? Otherwise they are told apart only if there is one."""
    tensors = [t for step in job.plan.steps for t in (*step.inputs, *step.outputs) if t is not None]
    return all(map(job.plan.samples.in_front, tensors))
