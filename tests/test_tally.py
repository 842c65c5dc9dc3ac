"""Running means against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from onnxdtd.tally import Mean


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
