"""A part of a model as a model of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from onnxdtd.graph.tensors import Tensor


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names of the tensors that a node reads, also inside of its branches."""
    nodes = [node]
    for each in nodes:  # and those inside, as they are met
        yield from each.input
        nodes += [inner for attribute in each.attribute for graph in (attribute.g, *attribute.graphs) for inner in graph.node]


def behind(nodes: Sequence[onnx.NodeProto], name: str) -> set[str]:
    """The names of the tensors that depend on the tensor ``name``, itself among them."""
    found = {name}
    for node in nodes:
        if not found.isdisjoint(_reads(node)):
            found.update(node.output)
    return found


def sliced(proto: onnx.ModelProto, given: Sequence[Tensor], outputs: Mapping[str, int]) -> onnx.ModelProto:
    """The part of a model that computes ``outputs`` (name to element type) where the tensors ``given`` are inputs.

    What does not depend on the tensors given is computed from the model's own inputs, as far as it is needed.
    """
    cuts = {t.name: t for t in given}
    wanted, nodes = set(outputs), []
    for node in reversed(proto.graph.node):
        if any(name in wanted and name not in cuts for name in node.output):
            wanted.update(_reads(node))
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


def leading(proto: onnx.ModelProto, counts: Mapping[str, int]) -> onnx.ModelProto:
    """A copy whose graph has only the first entries of some of its fields, by name so many: what was appended is gone."""
    part = onnx.ModelProto()
    part.CopyFrom(proto)
    for field, count in counts.items():
        del getattr(part.graph, field)[count:]
    return part


def declared(tensor: Tensor) -> onnx.ValueInfoProto:
    """A tensor as an input or output is declared."""
    shape = None if tensor.shape is None else list(tensor.shape)
    return helper.make_tensor_value_info(tensor.name, kind(tensor), shape)


def kind(tensor: Tensor) -> int:
    """The element type as ONNX numbers it."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)))
