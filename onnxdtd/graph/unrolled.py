"""If, Loop, sequences and optionals whose course is known before a graph runs, as the nodes that they amount to.

Exporters leave such nodes behind: a squeeze asks for the size of an axis, a loop over layers has a constant number of turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from onnxdtd.graph.inlined import Fresh, inlined, scope
from onnxdtd.graph.known import Numbers

MOST_NODES = 5_000  # that a model may unroll to
MOST_NAME = 2**12  # letters: those of nodes without one become twice as long with each branch inside of a branch


class NotKnown(Exception):
    """What a node will do is decided at run time."""


class Unroller:
    """Replaces nodes. ``sequences`` are the names of the tensors in each sequence, as far as they are known."""

    def __init__(self, known: Numbers, fresh: Fresh, sequences: dict[str, list[str]]):
        self.known, self.fresh, self.sequences = known, fresh, sequences
        self.optionals: dict[str, str | None] = {}
        self.constants: list[TensorProto] = []
        self.made = 0

    def nodes(self, nodes: Iterable[NodeProto]) -> list[NodeProto]:
        """The nodes with all that can be unrolled in its place. What cannot stays as it is."""
        found: list[NodeProto] = []
        for node in nodes:
            before = len(self.constants)
            try:
                found += self.of(node)
            except NotKnown:
                del self.constants[before:]
                found.append(node)
        return found

    def of(self, node: NodeProto) -> Sequence[NodeProto]:
        """What a node amounts to. Raises ``NotKnown``."""
        way = WAYS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if len(scope(node)) > MOST_NAME:
            raise NotKnown
        return [node] if way is None else list(way(self, node))

    def within(self, nodes: Sequence[NodeProto]) -> list[NodeProto]:
        """Nodes of an inner graph, unrolled themselves. Raises ``NotKnown`` where there are too many."""
        self.made += 1 + len(nodes)
        if self.made > MOST_NODES:
            raise NotKnown
        self.known.add(nodes)
        return self.nodes(nodes)

    def constant(self, value: np.ndarray, around: str) -> str:
        """A constant of the graph"""
        tensor = numpy_helper.from_array(value, self.fresh(f"{around}/constant"))
        self.constants.append(tensor)
        self.known.add([], [tensor])
        return tensor.name

    def number(self, name: str) -> int:
        """A number that is known"""
        value = self.known.whole(name)
        if value is None or value.size != 1:
            raise NotKnown
        return int(value.reshape(()))

    def tensors(self, name: str) -> list[str]:
        """What is in a sequence"""
        if name not in self.sequences:
            raise NotKnown
        return self.sequences[name]

    def borrowed(self, graph: GraphProto, around: str) -> dict[str, str]:
        """The weights of an inner graph as weights of the outer one, by the names inside. Raises ``NotKnown``."""
        if graph.sparse_initializer or any(map(uses_external_data, graph.initializer)):
            raise NotKnown
        names = {}
        for tensor in graph.initializer:
            own = TensorProto()
            own.CopyFrom(tensor)
            names[tensor.name] = own.name = self.fresh(f"{around}/{tensor.name}")
            self.constants.append(own)
            self.known.add([], [own])
        return names

    # ------------------------------------------------------------------------------------------------------- what it takes

    def branch(self, node: NodeProto) -> Iterator[NodeProto]:
        """The branch that is taken"""
        name = "then_branch" if self.number(node.input[0]) else "else_branch"
        graph = _graph(node, name)
        if len(graph.output) != len(node.output):
            raise NotKnown
        given = self.borrowed(graph, scope(node))
        results = zip((value.name for value in graph.output), node.output, strict=True)
        made, _ = inlined(graph.node, given, results, scope(node), self.fresh)
        yield from self.within(made)

    def turns(self, node: NodeProto) -> Iterator[NodeProto]:
        """One turn after the other"""
        body, (count, condition, *state) = _graph(node, "body"), [*node.input, "", ""][: max(len(node.input), 2)]
        most = self.number(count) if count else MOST_NODES
        goes_on = bool(self.number(condition)) if condition else True
        given = self.borrowed(body, scope(node))
        if len(body.input) != 2 + len(state) or len(body.output) < 1 + len(state):
            raise NotKnown
        number, goal, *inner = [value.name for value in body.input]
        still, *outer = [value.name for value in body.output]
        scans: list[list[str]] = [[] for _ in outer[len(state) :]]
        turn = 0
        while goes_on and turn < most:
            around = f"{scope(node)}/{turn}"
            fixed = {number: self.constant(np.asarray(turn), around), goal: self.constant(np.asarray(True), around)}
            made, names = inlined(body.node, {**given, **fixed, **dict(zip(inner, state, strict=True))}, [], around, self.fresh)
            yield from self.within(made)
            goes_on, turn = bool(self.number(names.get(still, still))), turn + 1
            ends = [names.get(name, name) for name in outer]
            state = ends[: len(state)]
            for column, name in zip(scans, ends[len(state) :], strict=True):
                column.append(name)
        for column, result in zip(scans, node.output[len(state) :], strict=False):
            if result:
                yield from self.joined(column, result, scope(node), 0, stacked=True)
        for name, result in zip(state, node.output, strict=False):
            if result:
                yield from self.handed(name, result, scope(node))

    def handed(self, name: str, result: str, around: str) -> Iterator[NodeProto]:
        """The same under another name"""
        copy = helper.make_node("Identity", [name], [result], name=f"{around}/{result}")
        yield from self.same(copy)

    def same(self, node: NodeProto) -> Iterator[NodeProto]:
        """Identity, of a sequence too"""
        source, result = node.input[0], node.output[0]
        if source in self.sequences:
            self.sequences[result] = self.sequences[source]
        if source in self.optionals:
            self.optionals[result] = self.optionals[source]
        self.known.add([node])
        yield node

    def joined(self, parts: Sequence[str], result: str, around: str, axis: int, stacked: bool) -> Iterator[NodeProto]:
        """Tensors one behind the other, ``stacked`` along a new axis"""
        if not parts:
            raise NotKnown
        if stacked:
            axes = self.constant(np.asarray([axis]), around)
            rows = [self.fresh(f"{around}/{name}/row") for name in parts]
            for name, row in zip(parts, rows, strict=True):
                yield helper.make_node("Unsqueeze", [name, axes], [row], name=row)
            parts = rows
        whole = helper.make_node("Concat", parts, [result], name=around, axis=axis)
        self.known.add([whole])
        yield whole

    # ---------------------------------------------------------------------------------------------------------- sequences

    def listed(self, node: NodeProto) -> Iterator[NodeProto]:
        """SequenceConstruct, SequenceEmpty"""
        self.sequences[node.output[0]] = list(node.input)
        yield node

    def inserted(self, node: NodeProto) -> Iterator[NodeProto]:
        """SequenceInsert"""
        held = list(self.tensors(node.input[0]))
        held.insert(self.place(node, 2, len(held), len(held)), node.input[1])
        self.sequences[node.output[0]] = held
        yield node

    def erased(self, node: NodeProto) -> Iterator[NodeProto]:
        """SequenceErase"""
        held = list(self.tensors(node.input[0]))
        del held[self.place(node, 1, len(held) - 1, -1)]
        self.sequences[node.output[0]] = held
        yield node

    def place(self, node: NodeProto, index: int, last: int, default: int) -> int:
        """The place that an input names, which is not behind the ``last``"""
        place = self.number(node.input[index]) if len(node.input) > index and node.input[index] else default
        if not -len(self.tensors(node.input[0])) <= place <= last:
            raise NotKnown
        return place

    def picked(self, node: NodeProto) -> Iterator[NodeProto]:
        """SequenceAt"""
        held = self.tensors(node.input[0])
        yield from self.handed(held[self.place(node, 1, len(held) - 1, 0)], node.output[0], scope(node))

    def length(self, node: NodeProto) -> Iterator[NodeProto]:
        """SequenceLength"""
        size = self.constant(np.asarray(len(self.tensors(node.input[0]))), scope(node))
        yield from self.handed(size, node.output[0], scope(node))

    def concatenated(self, node: NodeProto) -> Iterator[NodeProto]:
        """ConcatFromSequence"""
        attrs = {a.name: a.i for a in node.attribute}
        parts = self.tensors(node.input[0])
        yield from self.joined(parts, node.output[0], scope(node), attrs.get("axis", 0), bool(attrs.get("new_axis", 0)))

    def split(self, node: NodeProto) -> Iterator[NodeProto]:
        """SplitToSequence"""
        attrs, sizes = {a.name: a.i for a in node.attribute}, self.known.sizes(node.input[0])
        if node.output[0] in self.sequences:  # what was in it is there
            yield node
            return
        if sizes is None:
            raise NotKnown
        axis = attrs.get("axis", 0) % max(len(sizes), 1)
        given = self.known.whole(node.input[1]) if len(node.input) > 1 and node.input[1] else np.asarray(1)
        size = sizes[axis]
        if given is None or size is None or (given.ndim == 0 and given < 1):
            raise NotKnown
        chunks = given.tolist() if given.ndim else [min(int(given), size - i) for i in range(0, size, int(given))]
        pieces = [self.fresh(f"{scope(node)}/{i}") for i in range(len(chunks))]
        yield node
        yield helper.make_node(
            "Split", [node.input[0], self.constant(np.asarray(chunks), scope(node))], pieces, name=scope(node), axis=axis
        )
        if not attrs.get("keepdims", 1) and not (len(node.input) > 1 and node.input[1]):
            axes, whole = self.constant(np.asarray([axis]), scope(node)), pieces
            pieces = [self.fresh(f"{name}/squeezed") for name in whole]
            for name, piece in zip(whole, pieces, strict=True):
                yield helper.make_node("Squeeze", [name, axes], [piece], name=piece)
        self.sequences[node.output[0]] = pieces

    # ---------------------------------------------------------------------------------------------------------- optionals

    def wrapped(self, node: NodeProto) -> Iterator[NodeProto]:
        """Optional"""
        self.optionals[node.output[0]] = next(iter(node.input), None)
        yield node

    def is_there(self, node: NodeProto) -> Iterator[NodeProto]:
        """OptionalHasElement"""
        name = next(iter(node.input), "")
        if name and name not in self.optionals:
            raise NotKnown
        there = self.constant(np.asarray(bool(name) and self.optionals[name] is not None), scope(node))
        yield from self.handed(there, node.output[0], scope(node))

    def unwrapped(self, node: NodeProto) -> Iterator[NodeProto]:
        """OptionalGetElement"""
        name = self.optionals.get(node.input[0])
        if name is None:
            raise NotKnown
        yield from self.handed(name, node.output[0], scope(node))


def _graph(node: NodeProto, name: str) -> GraphProto:
    found = next((attribute.g for attribute in node.attribute if attribute.name == name), None)
    if found is None:
        raise NotKnown
    return found


WAYS: dict[str, Callable[[Unroller, NodeProto], Iterator[NodeProto]]] = {
    "ConcatFromSequence": Unroller.concatenated,
    "Identity": Unroller.same,
    "If": Unroller.branch,
    "Loop": Unroller.turns,
    "Optional": Unroller.wrapped,
    "OptionalGetElement": Unroller.unwrapped,
    "OptionalHasElement": Unroller.is_there,
    "SequenceAt": Unroller.picked,
    "SequenceConstruct": Unroller.listed,
    "SequenceEmpty": Unroller.listed,
    "SequenceErase": Unroller.erased,
    "SequenceInsert": Unroller.inserted,
    "SequenceLength": Unroller.length,
    "SplitToSequence": Unroller.split,
}
