"""The thinned products: any two values meet, and no row is there for nothing."""

from itertools import combinations, product

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pairs import in_turn, pairs


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6))
def test_any_two_values_meet(sizes):
    lists = [[f"{name}{i}" for i in range(size)] for name, size in zip("abcdef", sizes, strict=False)]
    rows = pairs(*lists)
    assert len(set(rows)) == len(rows)
    assert rows == [row for row in product(*lists) if row in set(rows)]  # of the product, in its order
    met = {pair for row in rows for pair in combinations(row, 2)}
    assert met == {(a, b) for left, right in combinations(lists, 2) for a, b in product(left, right)}


@pytest.mark.parametrize(
    ("sizes", "most"), [((2, 3), 6), ((1, 4), 4), ((2, 2, 2), 4), ((3, 3, 3), 11), ((4, 3, 2, 2, 2), 13), ((2,) * 8, 10)]
)
def test_rows_are_few(sizes, most):
    assert len(pairs(*map(range, sizes))) <= most


def test_values_need_be_neither_different_nor_hashable():
    assert pairs([[], []], [{}, None]) == [([], {}), ([], None), ([], {}), ([], None)]


def test_turns_go_on_from_value_to_value():
    assert in_turn("ab", [1, 2, 3]) == [("a", 1), ("a", 2), ("b", 3), ("b", 1)]
    assert in_turn("abc", [1, 2], each=1) == [("a", 1), ("b", 2), ("c", 1)]
