"""A part of a model as a model of its own, and samples in batches: what it takes to look inside a network."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from onnxdtd.compiler.prepared import Prepared
from onnxdtd.errors import RequestError
from onnxdtd.graph.tensors import Tensor
from onnxdtd.runtime.explainer import session

Arrays = dict[str, np.ndarray]
BATCH = 4  # samples at once, where a model takes any number


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names of the tensors that a node reads, also inside of its branches."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from reads(inner)


def behind(nodes: Sequence[onnx.NodeProto], name: str) -> set[str]:
    """The names of the tensors that depend on the tensor ``name``, itself among them."""
    found = {name}
    for node in nodes:
        if not found.isdisjoint(reads(node)):
            found.update(node.output)
    return found


def cut(proto: onnx.ModelProto, given: Sequence[Tensor], outputs: Mapping[str, int]) -> onnx.ModelProto:
    """The part of a model that computes ``outputs`` (name to element type) where the tensors ``given`` are inputs.

    What does not depend on the tensors given is computed from the model's own inputs, as far as it is needed.
    """
    cuts = {t.name: t for t in given}
    wanted, nodes = set(outputs), []
    for node in reversed(proto.graph.node):
        if any(name in wanted and name not in cuts for name in node.output):
            wanted.update(reads(node))
            nodes.append(node)
    part = onnx.ModelProto(ir_version=proto.ir_version)
    part.opset_import.extend(proto.opset_import)
    graph = part.graph
    graph.name = proto.graph.name or "part"
    graph.node.extend(nodes[::-1])
    for node in graph.node:  # one that gives more than what is given already
        node.output[:] = [f"{name}/computed" if name in cuts else name for name in node.output]
    graph.initializer.extend(t for t in proto.graph.initializer if t.name in wanted)
    graph.sparse_initializer.extend(t for t in proto.graph.sparse_initializer if t.values.name in wanted)
    graph.input.extend(value for value in proto.graph.input if value.name in wanted and value.name not in cuts)
    graph.input.extend(declared(t) for t in cuts.values() if t.name in wanted)
    graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items())
    return part


def declared(tensor: Tensor) -> onnx.ValueInfoProto:
    """A tensor as an input or output is declared."""
    shape = None if tensor.shape is None else list(tensor.shape)
    return helper.make_tensor_value_info(tensor.name, kind(tensor), shape)


def kind(tensor: Tensor) -> int:
    """The element type as ONNX numbers it."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)))


def folder(job: Prepared) -> Path | None:
    """Where the external weights of a model lie."""
    return None if job.source.path is None else job.source.path.parent


class Part:
    """A part in a session: called with tensors by name, of which it takes those that it needs; gives its outputs by name."""

    def __init__(self, proto: onnx.ModelProto, job: Prepared):
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


def batches(job: Prepared, xs: np.ndarray | Mapping[str, np.ndarray], chosen: Collection[int] | None = None) -> Iterator[Batch]:
    """The samples ``xs`` [n, ...] (by name where there are several inputs), or the ``chosen`` ones, as the model takes them."""
    axes, fixed = job.plan.samples.axes, job.plan.samples.size
    if not isinstance(xs, Mapping) and len(axes) != 1:
        raise RequestError(f"the model has several inputs, give a dictionary of {', '.join(axes)}")
    arrays = dict(xs) if isinstance(xs, Mapping) else dict.fromkeys(axes, xs)
    rows = np.arange(len(next(iter(arrays.values())))) if chosen is None else np.asarray(sorted(chosen))
    size = fixed if isinstance(fixed, int) else BATCH if separable(job) else 1
    step = 1 if None in axes.values() else size  # an input that all samples of a batch share is that of one
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        filled = np.resize(some, size) if isinstance(fixed, int) else some
        feeds = {
            name: array[filled[0]] if axes[name] is None else np.moveaxis(array[filled], 0, axes[name] or 0)
            for name, array in arrays.items()
        }
        yield Batch(filled, len(some), feeds)


def told_apart(job: Prepared) -> bool:
    """Can the samples of a batch be told apart everywhere? One alone can."""
    return separable(job) or job.plan.samples.size == 1 or not isinstance(job.plan.samples.size, int)


def separable(job: Prepared) -> bool:
    """Does every tensor on the way have the samples in front? Otherwise they are told apart only if there is one."""
    tensors = [t for step in job.plan.steps for t in (*step.inputs, *step.outputs) if t is not None]
    return all(map(job.plan.samples.in_front, tensors))
