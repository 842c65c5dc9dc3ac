"""A relevance pass that is computed only where it is asked for: all of its nodes inside of one If.

A runtime computes every node of a graph, whichever outputs are fetched, but of an If one branch alone. The other branch gives
each output without samples: its first axis has the size 0. Constants stay outside, where both sessions and servers know them;
what the pass reads of the predictor it reads from the graph around it. Relevance is the same bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnxdtd.compiler.prepared import Addition
from onnxdtd.contract import ASK
from onnxdtd.graph.emit import Emit

OPTIONAL = "optional"
MAYBE_NONE = "explained"  # what the first axis of outputs is called, of which there may be no entries


def on_demand(flat: Addition, kind: str, e: Emit) -> Addition:
    """The same behind an input ``explain``, bool, which may be left out where the ``kind`` is optional, and is false then."""
    with e.forgetting():
        return _on_demand(flat, kind, e.unique)


def _on_demand(flat: Addition, kind: str, unique: Callable[[str], str]) -> Addition:
    """The same; ``unique`` gives names that no tensor has."""
    ask, inner = unique(ASK), {value.name: unique(f"dtd/asked/{value.name}") for value in flat.outputs}
    made = {name for node in flat.nodes for name in node.output}
    asked = helper.make_graph(
        [renamed(node, inner) for node in flat.nodes],
        "explained",
        [],
        [called(value, inner[value.name]) for value in flat.outputs],
        value_info=[value for value in flat.shapes if value.name in made],
    )
    outputs = list(map(_open, flat.outputs))
    node = helper.make_node(
        "If",
        [ask],
        [value.name for value in outputs],
        name=f"dtd/{ask}",
        then_branch=asked,
        else_branch=_nothing(outputs, unique),
    )
    return replace(
        flat,
        nodes=[node],
        inputs=[*flat.inputs, helper.make_tensor_value_info(ask, TensorProto.BOOL, [])],
        outputs=outputs,
        defaults=flat.defaults + [helper.make_tensor(ask, TensorProto.BOOL, [], [False])] * (kind == OPTIONAL),
        shapes=[value for value in flat.shapes if value.name not in made],
        metadata={**flat.metadata, "ask_input": ask},
    )


def renamed(node: NodeProto, names: dict[str, str]) -> NodeProto:
    """A node that knows tensors by other names."""
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    return copy


def called(value: ValueInfoProto, name: str) -> ValueInfoProto:
    """What is known of a tensor, of another name."""
    copy = ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy


def _open(value: ValueInfoProto) -> ValueInfoProto:
    """An output of which the first axis may have no entries"""
    copy = called(value, value.name)
    if copy.type.tensor_type.shape.dim:
        copy.type.tensor_type.shape.dim[0].dim_param = MAYBE_NONE
    return copy


def _nothing(outputs: Sequence[ValueInfoProto], unique: Callable[[str], str]) -> GraphProto:
    """The branch that is taken where nothing is asked for"""
    nodes: list[NodeProto] = []
    empty = [called(value, unique(f"dtd/none/{value.name}")) for value in outputs]
    for value in empty:
        nodes += _zeros(value, unique)
    return helper.make_graph(nodes, "not_explained", [], empty)


def _zeros(value: ValueInfoProto, unique: Callable[[str], str]) -> Iterator[NodeProto]:
    """A tensor without entries; not a constant of the size 0, which not every runtime takes"""
    tensor = value.type.tensor_type
    sizes = [dim.dim_value for dim in tensor.shape.dim] if tensor.HasField("shape") else [0]
    shape = unique(f"dtd/shape/{value.name}")
    yield helper.make_node("Constant", [], [shape], value=numpy_helper.from_array(np.asarray(sizes, np.int64)))
    zero = helper.make_tensor("zero", tensor.elem_type, [1], [0])
    yield helper.make_node("ConstantOfShape", [shape], [value.name], value=zero)
