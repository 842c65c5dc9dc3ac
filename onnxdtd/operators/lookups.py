"""Operators that take numbers of entries: what ids look up, and where the ids are in that."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from onnxdtd.graph.emit import dims, known
from onnxdtd.graph.tensors import Node
from onnxdtd.operators.layer import constant_value


@dataclass(frozen=True)
class Lookup:
    """What each number at an input of a node gives: entries along the axes ``summed`` of the output, one of so many ``rows`` of
    a table (None where it is not known how many), or, ``one_hot``, a 1 among zeros, perhaps along the ``last`` axis.
    """

    summed: list[int]
    rows: int | None
    one_hot: bool = False
    last: bool = False


def gathered(node: Node, position: int) -> Lookup | None:
    """Rows of a table by their numbers."""
    table, numbers = (dims(t) for t in node.inputs[:2])
    if position != 1 or not table or numbers is None:
        return None
    axis = node.attrs.get("axis", 0) % len(table)
    rank = len(table) - 1 + len(numbers)
    return Lookup([i for i in range(rank) if not axis <= i < axis + len(numbers)], table[axis])


def one_hot(node: Node, position: int) -> Lookup | None:
    """A further axis with a 1 at each number."""
    numbers, depth = dims(node.inputs[0]), constant_value(node.inputs[1])
    if position != 0 or numbers is None:
        return None
    axis = node.attrs.get("axis", -1) % (len(numbers) + 1)
    return Lookup([axis], None if depth is None or depth.size != 1 else int(depth.item()), True, axis == len(numbers))


def compared(node: Node, position: int) -> Lookup | None:
    """A truth value for each of several constants that a number may equal; a single one makes a mask."""
    sizes = known(dims(node.inputs[1 - position]))
    return None if sizes is None or prod(sizes) < 2 else Lookup([], max(sizes), True, sizes[-1] == prod(sizes))
