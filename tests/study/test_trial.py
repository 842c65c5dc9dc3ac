"""What verify compares, number by number."""

from __future__ import annotations

import numpy as np
import pytest
from nets import eighths, model, node

from onnxdtd.compiler.compile import prepare
from onnxdtd.contract import KEPT
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Ledger
from onnxdtd.study.trial import HALF, ROUNDING, against, distance, misshapen, probabilities, rows, tolerance

RNG = np.random.default_rng(9)


def test_distance() -> None:
    a = np.asarray([[3.0, -4.0]])
    assert distance(a, a) == 0
    assert distance(a, a + [[0, 0.5]]) == 0.125
    assert distance(a, a[0]) == np.inf
    assert distance(a / 1e4, a / 1e4 + [[0, 1e-6]], probable=True) == pytest.approx(1e-6)
    assert distance(a, a + [[0, 0.5]], probable=True) == 0.125, "no probabilities, whatever they are called"
    assert distance([{0: 0.25, 1: 0.75}], [{0: 0.75, 1: 0.25}], probable=True) == 0.5
    assert distance(np.asarray([1, 2]), np.asarray([1, 3])) == 1
    assert np.isnan(distance(a, a * np.nan))
    assert distance(a * np.nan, a * np.nan) == 0
    assert distance(a * [[np.inf, 1]], a * [[np.inf, 2]]) == 0.5


@pytest.mark.parametrize(
    ("relevance", "expected"),
    [
        (np.zeros((2, 3), np.float32), None),
        (None, "'x' has none"),
        (np.zeros((3, 2), np.float32), "that of 'x' is [3, 2] float32, and 'x' is [2, 3] float32"),
        (np.zeros((2, 3), np.float64), "that of 'x' is [2, 3] float64, and 'x' is [2, 3] float32"),
    ],
)
def test_misshapen(relevance: np.ndarray | None, expected: str | None) -> None:
    assert misshapen("x", np.ones((2, 3), np.float32), relevance) == expected


@pytest.mark.parametrize(("dtype", "fits"), [(np.float32, True), (np.float64, True), (np.uint8, False)])
def test_relevance_of_bytes_is_a_fraction(dtype: type, fits: bool) -> None:
    assert (misshapen("x", np.ones(3, np.uint8), np.zeros(3, dtype)) is None) == fits


def test_sum_and_signs_against_a_ledger() -> None:
    """Of 10 one step kept 2 as bias, and 1 got lost."""
    columns = dict.fromkeys((*KEPT, "negative"), np.zeros((1, 2))) | {
        "in": np.asarray([[10.0, 10.0]]),
        "out": np.asarray([[10.0, 7.0]]),
        "bias": np.asarray([[0.0, 2.0]]),
    }
    book = Ledger(["y", "step"], columns)
    assert against(book, [np.asarray([[3.0, 4.0]])]) == (0, 0)
    assert against(book, [np.asarray([[9.0]]), np.asarray([[1.0]])]) == (pytest.approx(0.3), 0)
    assert against(book, [np.asarray([[-8.0, 15.0]])]) == (0, 8)
    assert against(book, [np.asarray([[0.0, 0.0]])]) == (pytest.approx(70), 0)
    dead = columns | {"out": np.asarray([[10.0, 4e-6]]), "in": np.asarray([[10.0, 10.0]])}
    assert against(Ledger(["y", "step"], dead), [np.asarray([[0.0, 0.0]])])[0] < ROUNDING, (
        "what rounding leaves of a logit of 10"
    )


def test_sums_sample_by_sample() -> None:
    """What one has too much of does not make up for what another lacks, and each has the sign of its own logit."""
    columns = dict.fromkeys((*KEPT, "negative"), np.zeros((2, 1)))
    book = Ledger(["y"], columns | dict.fromkeys(("in", "out"), np.asarray([[-1.0], [3.0]])))
    assert against(book, [np.asarray([[-1.0], [3.0]])]) == (0, 0)
    assert against(book, [np.asarray([[3.0], [-1.0]])]) == (pytest.approx(4), 4)
    assert against(book, [np.asarray([[3.0, -1.0]])]) == (0, 1), "one input for both"


def test_rows() -> None:
    value = np.arange(6.0).reshape(2, 3)
    assert rows(value, 0).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert rows(value, 1).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert rows(value, None).tolist() == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ("Softmax", {"y"}),
        ("Sigmoid", {"y"}),
        ("LogSoftmax", set()),
        ("Relu", set()),
        ("Softmax ArgMax", set()),
    ],
)
def test_probabilities(nodes: str, found: set[str]) -> None:
    names = ["z", *(f"t{i}" for i in range(1, len(nodes.split()))), "y"]
    axis = {"ArgMax": {"axis": 1}}
    made = [node(op, a, b, **axis.get(op, {})) for op, a, b in zip(nodes.split(), names, names[1:], strict=False)]
    proto = model([node("MatMul", "x w", "z"), *made], {"x": ["n", 4]}, ["y"], {"w": eighths(RNG, 4, 3)})
    assert probabilities(prepare(proto, Request())) == found


@pytest.mark.parametrize(("dtype", "expected"), [(np.float16, HALF), (np.float32, ROUNDING), (np.float64, ROUNDING)])
def test_tolerance(dtype: type, expected: float) -> None:
    weights = {"w": eighths(RNG, 4, 3, dtype=np.dtype(dtype))}
    proto = model([node("MatMul", "x w", "z")], {"x": ["n", 4]}, ["z"], weights, np.dtype(dtype))
    assert tolerance(prepare(proto, Request())) == expected
