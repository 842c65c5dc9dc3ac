"""Indices that count: which columns of an index name the very place that they stand in, so that samples stay where they are.

Exporters write x[:, 2:6] = u and x[range(n), i] with an index that has a column for each axis, that of the samples among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from onnxdtd.graph.emit import dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.axes import Axes
from onnxdtd.operators.factors import ONE, Size, number, product
from onnxdtd.operators.layer import constant_value

MOVED = ("Cast", "Identity", "Unsqueeze", "Reshape", "Expand")


def counting(axes: Axes, index: Tensor) -> dict[int, int]:
    """The columns of ``index``, along its last axis, that count from 0 along another axis: that axis by column."""
    values, sizes, maker = constant_value(index), dims(index), index.producer
    if values is not None:
        found = [_along(column) for column in np.moveaxis(values, -1, 0)]
    elif (
        maker is not None and maker.op == "Concat" and sizes is not None and maker.attrs["axis"] % len(sizes) == len(sizes) - 1
    ):
        widths = [(dims(t) or [None])[-1] for t in maker.inputs]
        found = [_counts(axes, t) for t in maker.inputs] if set(widths) == {1} else []
    else:
        found = [_counts(axes, index)] if sizes is not None and sizes[-1] == 1 else []
    return {column: axis for column, axis in enumerate(found) if axis is not None}


def rows(axes: Axes, index: Tensor, inner: Size) -> int | None:
    """The axis along which ``index`` counts blocks of ``inner`` entries and leaves none of them.

    It is i + inner · (0, 1, 2 ...), where i is that of the largest of ``inner`` entries, a remainder, or a constant.
    """
    terms = _terms(index)
    for at, start in enumerate(terms):
        axis, rest = _blocks(axes, start, inner), terms[:at] + terms[at + 1 :]
        if axis is not None and (_stays(rest, inner) or (len(rest) == 1 and _within(axes, rest[0], inner))):
            return axis + len(dims(index) or ()) - len(dims(start) or ())
    return None


def _terms(index: Tensor) -> list[Tensor]:
    """What is added up to an index."""
    found, waiting = [], [index]
    while waiting:
        term = waiting.pop()
        if _maker(term).op == "Add":
            waiting += _maker(term).inputs
        else:
            found.append(term)
    return found


def _blocks(axes: Axes, tensor: Tensor, inner: Size) -> int | None:
    """The axis along which it is inner · (0, 1, 2 ...)."""
    moves: list[Node] = []
    while (node := _maker(tensor)).op in MOVED:
        moves.append(node)
        tensor = node.inputs[0]
    for count, step in [] if node.op != "Mul" else [node.inputs, node.inputs[::-1]]:
        axis = _counts(axes, count)
        if axis is not None and axes.alike(axes.values(step), inner):
            return _behind(axes, moves, axis + len(dims(tensor) or ()) - len(dims(count) or ()))
    return None


def _stays(terms: Sequence[Tensor], inner: Size) -> bool:
    """Are constants such that their sum is from 0 to ``inner`` − 1?"""
    values, size = [constant_value(term) for term in terms], number(inner)
    known = [value for value in values if value is not None]
    return (
        size is not None
        and len(known) == len(values)
        and sum(v.min() for v in known) >= 0
        and sum(v.max() for v in known) < size
    )


def _within(axes: Axes, tensor: Tensor, size: Size) -> bool:
    """Is it known that all entries are from 0 to ``size`` − 1?"""
    node = _maker(tensor)
    while node.op in ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape"):
        node = _maker(node.inputs[0])
    if node.op == "Range":
        start, end, step = map(axes.values, node.inputs)
        return start == [(Fraction(0), frozenset())] and step == [ONE] and axes.alike(end, size)
    if node.op == "Mod":
        return not node.attrs.get("fmod") and axes.values(node.inputs[1]) == [size]
    entries = axes.entries(node.inputs[0]) if node.op in ("ArgMax", "ArgMin") else None
    entry = entries[node.attrs.get("axis", 0)] if entries else None
    return entry is not None and size == (product(entry) if isinstance(entry, tuple) else (Fraction(entry), frozenset()))


def _maker(tensor: Tensor) -> Node:
    """The node that gives a tensor."""
    return Node("", "", [], []) if tensor.producer is None else tensor.producer


def _along(values: np.ndarray) -> int | None:
    """The axis along which an array counts, and is the same along all others."""
    for axis, size in enumerate(values.shape):
        if size > 1 and np.array_equal(
            np.moveaxis(values, axis, -1),
            np.broadcast_to(np.arange(size), (*values.shape[:axis], *values.shape[axis + 1 :], size)),
        ):
            return axis
    return None


def _counts(axes: Axes, tensor: Tensor) -> int | None:
    """The same of a tensor."""
    moves: list[Node] = []
    while (node := tensor.producer) is not None and node.op in MOVED:
        moves.append(node)
        tensor = node.inputs[0]
    values, axis = constant_value(tensor), None
    if values is not None:
        axis = _along(values)
    elif node is not None and node.op == "Range":
        start, step = (constant_value(node.inputs[i]) for i in (0, 2))
        axis = 0 if start is not None and step is not None and (int(start), int(step)) == (0, 1) else None
    return _behind(axes, moves, axis)


def _behind(axes: Axes, moves: Sequence[Node], axis: int | None) -> int | None:
    """Where an axis is behind nodes, the last of which comes first."""
    for node in reversed(moves):
        axis = None if axis is None else _moved(axes, node, axis)
    return axis


def _moved(axes: Axes, node: Node, axis: int) -> int | None:
    """Where an axis of its first input is behind a node."""
    before, after = dims(node.inputs[0]), dims(node.outputs[0])
    if before is None or after is None or node.op in ("Cast", "Identity"):
        return axis
    if node.op == "Expand":
        return axis + len(after) - len(before)
    if node.op == "Reshape":
        wide = [i for i, size in enumerate(axes.values(node.inputs[1]) or ()) if size is None or number(size) != 1]
        return wide[0] if len(before) == len(wide) == 1 else None
    added = constant_value(node.inputs[1])
    kept = [] if added is None else [i for i in range(len(after)) if i not in added.reshape(-1) % len(after)]
    return kept[axis] if len(kept) == len(before) else None
