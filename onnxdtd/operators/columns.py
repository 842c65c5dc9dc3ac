"""What the columns of a table are called, from what its inputs are called to the numbers that their strings are turned into.

A name is that of its input, with its number where that has several columns; behind it stands what the number counts, ``text:
good`` or ``colour=red``. The only column of a model needs no name of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod

from onnxdtd.graph.emit import dims, known
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.layer import constant_value, is_float
from onnxdtd.operators.spread import is_elementwise
from onnxdtd.operators.table import AS_THEY_ARE, IN_ORDER, Names, of


def named_columns(nodes: Iterable[Node], fed: Sequence[Tensor], alone: bool) -> dict[str, list[str]]:
    """The names of the columns, entry by entry of a row, of tensors behind the inputs ``fed``, as far as they are known.
    ``alone``: is nothing else explained, so that the only column of the only input goes without its name?
    """
    found = {t.name: names for t in fed if (names := _of_input(t, alone and len(fed) == 1)) is not None}
    for node in nodes:
        given = [found.get(t.name) for t in node.inputs]
        if not any(given):
            continue
        entry, y = of(node), node.outputs[0]
        names = (entry.names or _kept)(node, given)
        if names is not None and _fits(names, y):
            found[y.name] = names
    return found


def _of_input(tensor: Tensor, alone: bool) -> list[str] | None:
    """Those of an input: one for each entry of a row."""
    sizes = known((dims(tensor) or [])[1:])
    if sizes is None:
        return None
    width = prod(sizes)
    return [f"{tensor.name}[{i}]" for i in range(width)] if width > 1 else ["" if alone else tensor.name]


def _fits(names: Sequence[str], tensor: Tensor) -> bool:
    """Are there as many as a row has entries, as far as that is known? Of one column there may be several words."""
    sizes = known((dims(tensor) or [])[1:])
    return sizes is None or prod(sizes) == len(names) or (len(names) == 1 and not is_float(tensor.dtype))


def _kept(node: Node, given: Names) -> list[str] | None:
    """The same, where what comes of an entry is one entry; of strings that are cut there may be several. Several inputs may be
    of one column: a value, and whether it is missing.
    """
    entry, held, y = of(node), list({tuple(names) for names in given if names is not None}), node.outputs[0]
    alike = is_elementwise(entry) or entry.hands_on in (AS_THEY_ARE, IN_ORDER)
    one = not is_float(y.dtype) or known((dims(y) or [])[1:]) == [1]
    return [*held[0]] if len(held) == 1 and (alike or (len(held[0]) == 1 and one)) else None


def side_by_side(node: Node, given: Names) -> list[str] | None:
    """Of tables beside each other."""
    rank = len(node.outputs[0].shape or ())
    last = rank > 1 and node.attrs.get("axis", 1) in (-1, rank - 1)
    return [name for names in given for name in names or ()] if last and None not in given else None


def picked(axis: int) -> Callable[[Node, Names], list[str] | None]:
    """Of columns by their numbers, along an ``axis`` where the node names none."""

    def names(node: Node, given: Names) -> list[str] | None:
        had, index, rank = given[0], constant_value(node.inputs[1]), len(node.inputs[0].shape or ())
        if had is None or index is None or rank != 2 or node.attrs.get("axis", axis) not in (1, -1):
            return None
        places = index.ravel().tolist()
        return [had[i] for i in places] if all(-len(had) <= i < len(had) for i in places) else None

    return names


def categories(node: Node, given: Names) -> list[str] | None:
    """Whether a column is each of these"""
    values = node.attrs.get("cats_strings") or node.attrs.get("cats_int64s") or []
    return [f"{name}={value}" if name else str(value) for name in given[0] or () for value in values]


def terms(node: Node, given: Names) -> list[str] | None:
    """How often a text has each term: words, or letters, in a row."""
    pool = node.attrs.get("pool_strings") or list(map(str, node.attrs.get("pool_int64s") or []))
    starts, places = node.attrs["ngram_counts"], node.attrs["ngram_indexes"]
    between = "" if all(len(word) == 1 for word in pool) else " "
    ends = [*starts[1:], len(pool)]
    grams = [
        between.join(pool[at : at + length])
        for length, (start, end) in enumerate(zip(starts, ends, strict=True), 1)
        for at in range(start, end, length)
    ]
    if len(grams) != len(places):
        return None
    found = [""] * (max(places) + 1)
    for place, gram in zip(places, grams, strict=True):
        found[place] = gram
    (text, *more) = given[0] or [""]
    return [f"{text}: {term}" for term in found] if text and not more else found
