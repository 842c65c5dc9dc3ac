"""Sizes that a graph computes for itself, as numbers and factors: what its Reshapes are told."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from onnxdtd.graph.emit import dims, known
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.factors import Size, divided, multiplied, number
from onnxdtd.operators.layer import constant_value

Values: TypeAlias = list[Size | None]  # of a scalar, a vector, or a matrix row by row; what is not known is None
MOST = 16  # entries; shapes have no more


def constants(tensor: Tensor) -> Values | None:
    """The entries of a constant, where they may be sizes."""
    array = constant_value(tensor)
    if array is None or array.dtype.kind not in "iu" or array.size > MOST:
        return None
    return [(Fraction(int(value)), frozenset()) for value in array.reshape(-1)]


def shape(node: Node, operands: list[Values]) -> Values:
    """Of the sizes of a tensor, those asked for"""
    return operands[0][node.attrs.get("start", 0) : node.attrs.get("end")]


def size(node: Node, operands: list[Values]) -> Values:
    """Their product"""
    known = [size for size in operands[0] if size is not None]
    return [multiplied(known) if len(known) == len(operands[0]) else None]


def same(node: Node, operands: list[Values]) -> Values:
    """As they are"""
    return operands[0]


def joined(node: Node, operands: list[Values]) -> Values:
    """One behind the other"""
    return [size for values in operands for size in values]


def chosen(node: Node, operands: list[Values]) -> Values | None:
    """Entry by entry one or the other"""
    count = max(map(len, operands))
    if not all(len(values) in (1, count) for values in operands):
        return None
    rows = zip(*(values * (count if len(values) == 1 else 1) for values in operands), strict=True)
    return [None if asked is None else one if number(asked) else other for asked, one, other in rows]


def filled(node: Node, operands: list[Values]) -> Values | None:
    """All the same number"""
    count, value = numbers(operands[0]), np.asarray(node.attrs.get("value", 0)).reshape(-1)[0]
    if count is None or not 0 <= np.prod(count) <= MOST:
        return None
    return [(Fraction(int(value)), frozenset())] * int(np.prod(count))


def turned(node: Node, operands: list[Values]) -> Values | None:
    """With their axes in another order"""
    places = _places(node, operands[0])
    return None if places is None else [operands[0][i] for i in places.transpose(node.attrs.get("perm")).reshape(-1)]


def picked(node: Node, operands: list[Values]) -> Values | None:
    """By their places"""
    held, places = operands[0], numbers(operands[1])
    return None if places is None or any(not -len(held) <= i < len(held) for i in places) else [held[i] for i in places]


def cut(node: Node, operands: list[Values]) -> Values | None:
    """From a start to an end"""
    places, given = _places(node, operands[0]), [numbers(values) for values in operands[1:]]
    told = [entries for entries in given if entries is not None]
    if places is None or not places.ndim or len(told) < len(given) or len({len(entries) for entries in told}) > 1:
        return None
    usual = [[], [], list(range(len(told[0]))), [1] * len(told[0])]
    for start, end, axis, step in zip(*told, *usual[len(told) :], strict=True):
        places = places[(slice(None),) * (axis % places.ndim) + (slice(start, end, step),)]
    return [operands[0][i] for i in places.reshape(-1)]


def _places(node: Node, held: Values) -> np.ndarray | None:
    """The numbers of the entries of a node's first input, in its shape."""
    sizes, numbered = known(dims(node.inputs[0])), np.arange(len(held))
    if sizes is None:
        return numbered if len(dims(node.inputs[0]) or [None]) == 1 else None
    return numbered.reshape(sizes) if np.prod(sizes) == len(held) else None


def numbers(values: Values) -> list[int] | None:
    """The entries as numbers, None where one is none."""
    found = [number(size) for size in values if size is not None]
    return [i for i in found if i is not None] if len(found) == len(values) and None not in found else None


def _entry_by_entry(of: Callable[[Size, Size], Size | None]) -> Callable[[Node, list[Values]], Values | None]:
    def function(node: Node, operands: list[Values]) -> Values | None:
        a, b = operands
        if len(a) != len(b) and 1 not in (len(a), len(b)):
            return None
        pairs = zip(a * (len(b) if len(a) == 1 else 1), b * (len(a) if len(b) == 1 else 1), strict=True)
        return [None if x is None or y is None else of(x, y) for x, y in pairs]

    return function


def _of_numbers(of: Callable[[int, int], int]) -> Callable[[Node, list[Values]], Values | None]:
    def both(a: Size, b: Size) -> Size | None:
        x, y = number(a), number(b)
        return None if x is None or y is None else (Fraction(of(x, y)), frozenset())

    return _entry_by_entry(both)


def _quotient(a: Size, b: Size) -> Size | None:
    found = divided(a, b)
    return found if found is not None and found[0].denominator == 1 else None


def _remainder(a: Size, b: Size) -> Size | None:
    x, y = number(a), number(b)
    return None if x is None or y is None or x < 0 or y <= 0 else (Fraction(x % y), frozenset())


def _equal(a: Size, b: Size) -> Size | None:
    """1 if they are, 0 if not; a size that is not known is no negative number."""
    fixed = [size for size in (a, b) if not size[1]]
    if a == b or len(fixed) == 2:
        return Fraction(int(a == b)), frozenset()
    return (Fraction(0), frozenset()) if fixed and fixed[0][0] < 0 else None


equal = _entry_by_entry(_equal)
product = _entry_by_entry(lambda a, b: multiplied([a, b]))
quotient = _entry_by_entry(_quotient)
total = _of_numbers(int.__add__)
difference = _of_numbers(int.__sub__)
remainder = _entry_by_entry(_remainder)

OF_SHAPES = (shape, size)  # of the sizes of a tensor, not of its entries
