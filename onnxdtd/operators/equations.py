"""The equation of an Einsum, spelled out: a letter for each axis of each operand, and those of the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from string import ascii_letters

from onnxdtd.graph.emit import dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.layer import NotLinear, shape_of

DOTS = "..."


def spelled(node: Node) -> tuple[list[str], str]:
    """The letters of the operands and of the result, of which none is left out and none stands for several axes.

    >>> from onnxdtd.graph.tensors import Tensor
    >>> operands = [Tensor("x", shape=["n", 2, 3]), Tensor("w", shape=[3, 4])]
    >>> spelled(Node("Einsum", "", operands, [], {"equation": "...i, ij"}))
    (['abi', 'ij'], 'abj')

    Raises ``NotLinear`` where an ellipsis stands for nobody knows how many axes, and for what is no equation.
    """
    left, arrow, result = node.attrs["equation"].replace(" ", "").partition("->")
    terms = left.split(",")
    letters = {*left} - {",", "."}
    if len(terms) != len(node.inputs) or not letters <= {*ascii_letters} or not {*result} <= letters | {"."}:
        raise NotLinear(f"its equation {node.attrs['equation']!r} is none")
    wide = [len(shape_of(t)) - len(term) + len(DOTS) if DOTS in term else 0 for term, t in zip(terms, node.inputs, strict=True)]
    if not arrow:
        counts = Counter(left.replace(DOTS, "").replace(",", ""))
        result = (DOTS if DOTS in left else "") + "".join(sorted(letter for letter, count in counts.items() if count == 1))
    free = [letter for letter in ascii_letters if letter not in left][: max(wide)]
    dots = lambda count: "".join(free[len(free) - count :])
    return [term.replace(DOTS, dots(n)) for term, n in zip(terms, wide, strict=True)], result.replace(DOTS, dots(max(wide)))


def sizes(terms: Sequence[str], tensors: Sequence[Tensor]) -> dict[str, int | None]:
    """How many entries lie along the axis that a letter stands for; an axis of one entry is repeated."""
    found: dict[str, int | None] = {}
    for term, tensor in zip(terms, tensors, strict=True):
        for letter, size in zip(term, dims(tensor) or [None] * len(term), strict=True):
            if found.get(letter, 1) == 1:
                found[letter] = size
    return found


def apart(term: str, used: str) -> tuple[str, str]:
    """A term that has a letter twice, with another one in the second place, and the term of a unit matrix: both are one axis.

    >>> apart("aij", "aij"), apart("bii", "bii,b")
    (('aij', ''), ('bia', 'ia'))
    """
    place = next((i for i, letter in enumerate(term) if letter in term[:i]), None)
    if place is None:
        return term, ""
    free = next(letter for letter in ascii_letters if letter not in used + term)
    return term[:place] + free + term[place + 1 :], term[place] + free
