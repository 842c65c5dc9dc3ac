"""Products of parameters thinned: faults seldom need more than two values together."""

from collections.abc import Iterable, Sequence
from itertools import combinations, cycle, islice
from typing import Any

Place = tuple[int, int]  # which list, which of its values


def pairs(*lists: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Some rows of the product of two or more lists in which any two values of different lists meet, in the product's order.

    Greedy and the same on every call: a row begins with the first pair not yet seen, and of each further list it takes the
    value that brings the most such pairs.
    """
    places = [(i, at) for i, values in enumerate(lists) for at in range(len(values))]
    missing = dict.fromkeys((a, b) for a, b in combinations(places, 2) if a[0] != b[0])
    rows: list[list[Place]] = []
    while missing:
        row = list(next(iter(missing)))
        for i in sorted(set(range(len(lists))) - {place[0] for place in row}):
            new = lambda place, row=row: sum(tuple(sorted((place, other))) in missing for other in row)
            row.append(max(((i, at) for at in range(len(lists[i]))), key=new))
        rows.append(sorted(row))
        for pair in combinations(rows[-1], 2):
            missing.pop(pair, None)
    return [tuple(lists[i][at] for i, at in row) for row in sorted(rows)]


def in_turn(values: Iterable[Any], others: Sequence[Any], each: int = 2) -> list[tuple[Any, Any]]:
    """Each value with the next ``each`` of the others, which are gone through over and over."""
    turns = cycle(others)
    return [(value, other) for value in values for other in islice(turns, each)]
