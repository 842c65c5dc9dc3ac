"""The least closed set against all of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from onnxdtd.compiler.cut import least


@pytest.mark.parametrize("seed", range(30))
def test_no_closed_set_costs_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    things = range(8)
    costs = {i: int(rng.integers(-9, 10)) for i in things}
    needs = {i: [j for j in things if j != i and rng.random() < 0.25] for i in things}
    wanted = [int(i) for i in rng.choice(8, 2, replace=False)]
    chosen = least(costs, needs, wanted)
    closed = [
        have
        for bits in product([False, True], repeat=len(things))
        if {*wanted} <= (have := {i for i in things if bits[i]}) and all(have.issuperset(needs[i]) for i in have)
    ]
    assert chosen in closed
    assert sum(costs[i] for i in chosen) == min(sum(costs[i] for i in have) for have in closed)


def test_what_gains_nothing_is_not_had() -> None:
    assert least({"a": 3, "b": 0, "c": -1}, {"a": [], "b": ["a"], "c": ["a"]}, ["b"]) == {"a", "b", "c"}
    assert least({"a": 3, "c": -1}, {"a": [], "c": ["a"]}, []) == set()
