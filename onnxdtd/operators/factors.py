"""Factors, which the sizes of axes are products of, and the arithmetic of such sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from onnxdtd.graph.tensors import Node


@dataclass(eq=False, slots=True)
class Factor:
    """A part of an axis; ``size`` is None where it is known at run time only.

    ``mixed``: the node that makes its entries depend on each other, picks some of them or breaks it up. ``told``: a node whose
    constants tell its entries apart. ``lost``: a node behind which it could not be followed. ``layer``: the node whose neurons,
    a row or a column of weights each, its entries are. ``guessed``: it was met by one of another size, or one that may be
    another, and if it turns out to be 1, it was repeated. ``into``: the factor that it is.
    """

    size: int | None
    mixed: Node | None = None
    told: Node | None = None
    lost: Node | None = None
    layer: Node | None = None
    guessed: bool = False
    into: Factor | None = None


Axis: TypeAlias = tuple[Factor, ...]
Size: TypeAlias = tuple[Fraction, frozenset[tuple[Factor, int]]]  # a number times powers of factors of unknown size

ONE: Size = (Fraction(1), frozenset())


def whole(factor: Factor) -> Factor:
    """The factor that ``factor`` has turned out to be."""
    while factor.into is not None:
        if factor.into.into is not None:
            factor.into = factor.into.into
        factor = factor.into
    return factor


def size_of(axis: Axis) -> int | None:
    """How many entries an axis has, None where that is known at run time only."""
    total = 1
    for factor in map(whole, axis):
        if factor.size is None:
            return None
        total *= factor.size
    return total


def parts(axis: Axis) -> list[Factor]:
    """The factors of an axis that have more than one entry."""
    return [factor for factor in map(whole, axis) if factor.size != 1]


def unite(a: Factor, b: Factor) -> None:
    """Make two factors one."""
    a, b = whole(a), whole(b)
    if a is not b:
        b.into = a
        a.size = b.size if a.size is None else a.size
        a.mixed, a.told, a.lost, a.layer = a.mixed or b.mixed, a.told or b.told, a.lost or b.lost, a.layer or b.layer
        a.guessed = a.guessed or b.guessed


def product(factors: Iterable[Factor]) -> Size:
    """The size of an axis with these factors."""
    number, unknown = Fraction(1), Counter[Factor]()
    for factor in map(whole, factors):
        if factor.size is None:
            unknown[factor] += 1
        else:
            number *= factor.size
    return number, frozenset(unknown.items())


def multiplied(sizes: Iterable[Size]) -> Size:
    """The product of sizes."""
    number, unknown = Fraction(1), Counter[Factor]()
    for part, powers in sizes:
        number *= part
        unknown.update(dict(powers))
    return number, frozenset(unknown.items())


def divided(a: Size, b: Size) -> Size | None:
    """a / b; None where that is no number times factors."""
    unknown = Counter(dict(a[1]))
    unknown.subtract(dict(b[1]))
    if b[0] == 0 or min(unknown.values(), default=0) < 0:
        return None
    return a[0] / b[0], frozenset((+unknown).items())


def number(size: Size) -> int | None:
    """A size as a number, None where it has factors of unknown size."""
    return int(size[0]) if not size[1] and size[0].denominator == 1 else None


def now(size: Size) -> Size:
    """A size with what has become known of its factors."""
    return multiplied([(size[0], frozenset()), product(factor for factor, power in size[1] for _ in range(power))])


def alone(size: Size) -> Axis | None:
    """The axis of a size that is that of one factor."""
    return tuple(factor for factor, power in size[1]) if size[0] == 1 and [p for _, p in size[1]] == [1] else None
