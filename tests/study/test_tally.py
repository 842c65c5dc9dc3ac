"""Running means against numpy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxdtd.study.tally import RANDOM, Mean, Tally, apart, told


def test_mean_and_standard_error() -> None:
    values = np.random.default_rng(0).normal(1e6, 1, 200)
    mean = Mean()
    for value in values:
        mean.add(value)
    found = mean.as_data()
    assert found["n"] == 200
    assert found["mean"] == pytest.approx(values.mean(), rel=1e-14)
    assert found["error"] == pytest.approx(values.std(ddof=1) / np.sqrt(200), rel=1e-9)


def test_of_arrays_and_of_one() -> None:
    mean = Mean()
    mean.add(np.array([1.0, 2.0]))
    mean.add(np.array([3.0, 6.0]))
    assert mean.mean.tolist() == [2, 4]
    one = Mean()
    one.add(0.5)
    assert one.as_data() == {"mean": 0.5, "error": None, "n": 1}


@pytest.mark.parametrize(("n", "quantile"), [(2, 12.7062), (10, 2.2622), (1000, 1.9623)])
def test_few_pairs_must_differ_by_more(n: int, quantile: float) -> None:
    """The quantiles of Student's t, from a table."""
    assert apart({"mean": -quantile * 1.001, "error": 1.0, "n": n})
    assert apart({"mean": quantile * 0.999, "error": 1.0, "n": n}) is False
    assert apart({"mean": 3.0, "error": None, "n": 1}) is None
    assert apart({"mean": 0.0, "error": 0.0, "n": n}) is False, "what never differs is a tie"


def row(**aopc: float) -> dict[str, Any]:
    curve = {"morf": [0.0], "lerf": [0.0], "empty": False}
    presets = {name: {"metrics": {"aopc": value, "gini": 0.5}, **curve} for name, value in aopc.items()}
    return {
        "name": "",
        "class": 0,
        "label": "class 0",
        "scores": 2,
        "digest": "",
        "correct": None,
        "random": {"curve": [0.0], "aopc": 1.0},
        "presets": presets,
    }


def test_differences_are_taken_sample_by_sample() -> None:
    """A spread that the samples have, and the presets share, does not count."""
    tally, rng = Tally(), np.random.default_rng(1)
    tally.rules = {"a": {}, "b": {}, "c": {}}
    base, gap = rng.uniform(50, 150, 12), rng.normal(1, 0.1, 12)
    for value, lead in zip(base, gap, strict=True):
        tally.add(row(a=value + lead, b=value, c=value * (1 + 1e-7)))
    found = tally.as_data()["differences"]
    pair = next(one for one in found if (one["preset"], one["other"]) == ("a", "b"))
    assert pair["metric"] == "aopc", "Gini has no better and worse"
    assert pair["mean"] == pytest.approx(gap.mean())
    assert pair["error"] == pytest.approx(gap.std(ddof=1) / np.sqrt(12))
    known = told(found)
    assert known["aopc", frozenset("ab")] is True
    assert known["aopc", frozenset("bc")] is False, "rounding"
    assert known["aopc", frozenset(("a", RANDOM))] is True
