"""Graphs as the compiler sees them: tensors with a type and a shape, and nodes between them.

They are read from a model by onnx-graphsurgeon, and so are new nodes written. What lies between is our own, so that a type
checker sees what everybody does with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

Shape: TypeAlias = Sequence[int | str | None]  # a number, a name, or nothing where a size is not known


def unique(name: str, taken: set[str]) -> str:
    """``name``, numbered if it is taken; it is then."""
    candidate, number = name, 1
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate


@dataclass(eq=False, slots=True)
class Tensor:
    """A tensor of a graph.

    ``dtype`` is numpy's, that of the elements in a sequence or map, a number where numpy has no such type, None where it is not
    known. ``shape`` is None where not even the rank is known. ``values`` are those of a constant that is small enough to be
    looked at. ``producer`` is the node that gives it, ``readers`` are those that read it. An input left out has no name.
    """

    name: str
    dtype: Any = None
    shape: Shape | None = None
    values: np.ndarray | None = None
    producer: Node | None = field(default=None, repr=False)
    readers: list[Node] = field(default_factory=list, repr=False)

    @property
    def left_out(self) -> bool:
        """Does it stand for an optional input that a node is not given?"""
        return not self.name


Times: TypeAlias = tuple[int, Tensor, int]  # a size: so many times as there are entries along an axis of a tensor
Value: TypeAlias = Tensor | float  # a tensor, or a number that folds away while the graph is built


def as_tensor(value: Value) -> Tensor:
    """A value that is known to be a tensor."""
    assert isinstance(value, Tensor)
    return value


@dataclass(eq=False, slots=True)
class Node:
    """An operator with what it reads and gives: of the predictor, what that amounts to, or of the relevance pass.

    ``exact``: is the result just what the operator gives, of what is read? In what a quantised operator amounts to, neither the
    layer nor what rounds and cuts off is, since what lies between is known by the result alone.
    """

    op: str
    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    attrs: dict[str, Any] = field(default_factory=dict)
    domain: str = ""
    exact: bool = True


@dataclass(eq=False, slots=True)
class Graph:
    """Nodes in topological order, what goes in and out, and the version of the default operator set. ``views`` are those of the
    nodes whose results no node of the file gives: they stand for what happens inside of others; ``constants`` are those that
    such nodes, or what stands in the place of one, read and the file has not got. ``misjudged`` are the axes, by
    the name of a tensor, of whose sizes runtimes have another idea before they run.
    """

    nodes: list[Node] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    opset: int = 17
    views: list[Node] = field(default_factory=list)
    constants: list[Tensor] = field(default_factory=list)
    misjudged: dict[str, list[int]] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name: the inputs, and in the order of the nodes what these read and give."""
        inner = [t for node in self.nodes for t in (*node.inputs, *node.outputs)]
        return {t.name: t for t in (*self.inputs, *inner, *self.outputs) if not t.left_out}


def imported(graph: gs.Graph) -> Graph:
    """A graph that onnx-graphsurgeon has read, as one of ours."""
    known: dict[int, Tensor] = {}  # the tensors met so far, by identity: inner graphs read those of outer ones
    graphs = [(graph, Graph())]
    for theirs, ours in graphs:  # and those inside of nodes, as they are met
        ours.nodes, ours.opset = [_node(node, known, graphs) for node in theirs.nodes], theirs.opset
        ours.inputs, ours.outputs = ([_tensor(t, known) for t in tensors] for tensors in (theirs.inputs, theirs.outputs))
    return graphs[0][1]


def _node(node: gs.Node, known: dict[int, Tensor], graphs: list[tuple[gs.Graph, Graph]]) -> Node:
    inputs, outputs = ([_tensor(t, known) for t in tensors] for tensors in (node.inputs, node.outputs))
    attrs = {name: _attribute(value, graphs) for name, value in node.attrs.items()}
    own = Node(node.op, node.name, inputs, outputs, attrs, node.domain or "")
    for tensor in inputs:
        tensor.readers.append(own)
    for tensor in outputs:
        tensor.producer = own
    return own


def _tensor(tensor: gs.Tensor, known: dict[int, Tensor]) -> Tensor:
    if id(tensor) not in known:
        values = np.asarray(tensor.values) if isinstance(tensor, gs.Constant) else None
        shape = None if tensor.shape is None else list(tensor.shape)
        known[id(tensor)] = Tensor(tensor.name, tensor.dtype, shape, values)
    return known[id(tensor)]


def type_name(dtype: Any) -> str:
    """An element type as a message names it."""
    if isinstance(dtype, int):
        return str(TensorProto.DataType.Name(dtype)).lower()
    return "unknown" if dtype is None else str(np.dtype(dtype))


def _attribute(value: Any, graphs: list[tuple[gs.Graph, Graph]]) -> Any:
    """Graphs, to be filled later, and constants as ours, all else as it is."""
    if isinstance(value, gs.Graph):
        graphs.append((value, Graph()))
        return graphs[-1][1]
    return np.asarray(value.values) if isinstance(value, gs.Constant) else value
