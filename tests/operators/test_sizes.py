"""Reshapes to sizes that the graph computes: which axis the samples lie along behind them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import eighths, model, node

import onnxdtd
from onnxdtd.compiler.compile import prepare
from onnxdtd.request import Request

RNG = np.random.default_rng(4)
INTEGERS = {"zero": [0], "one": [1], "two": [2], "three": [3], "five": [5], "all": [2**31], "ends": [0, -1]}
# Ways to [t, 2 n, 3] from the shape [t, n, 6] of x, as exporters write them.
WAYS = {
    "slices and products": [
        node("Slice", "s zero one", "t"),
        node("Slice", "s one two", "n"),
        node("Mul", "n two", "m"),
        node("Concat", "t m three", "to", axis=0),
    ],
    "gathered scalars": [
        node("Gather", "s first", "t0"),
        node("Unsqueeze", "t0 zero", "t"),
        node("Gather", "s ends", "e"),
        node("Slice", "e one all", "f"),
        node("Div", "f three", "k"),
        node("Shape", "x", "n", start=1, end=2),
        node("Mul", "k n", "m"),
        node("Cast", "m", "m32", to=6),
        node("Cast", "m32", "m64", to=7),
        node("Concat", "t m64 three", "to", axis=0),
    ],
    "places computed": [
        node("Mod", "five two", "a"),
        node("Sub", "three a", "b"),
        node("Slice", "s zero a", "t"),
        node("Slice", "s a b", "n"),
        node("Add", "n n", "unknown"),
        node("Mul", "n b", "m"),
        node("Concat", "t m three", "to", axis=0),
    ],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fixed", [False, True], ids=["open", "fixed"])
def test_samples_are_followed_through_computed_sizes(way: str, fixed: bool) -> None:
    """The two halves of the features become samples of their own for a while, as the heads of attention do."""
    nodes = [
        node("Shape", "x", "s"),
        *WAYS[way],
        node("Reshape", "x to", "h"),
        node("Reshape", "h rows", "q"),  # whose rank is known in any case
        node("MatMul", "q w", "g"),
        node("Shape", "x", "shape", end=2),
        node("Concat", "shape ten", "back", axis=0),
        node("Reshape", "g back", "r"),
        node("ReduceMean", "r", "p", axes=[0], keepdims=0),
        node("MatMul", "p v", "y"),
    ]
    weights = {name: np.asarray(value) for name, value in INTEGERS.items()} | {
        "first": np.asarray(0),
        "rows": np.asarray([-1, 3]),
    }
    weights |= {"ten": np.asarray([10]), "w": eighths(RNG, 3, 5), "v": eighths(RNG, 10, 3)}
    proto, x = model(nodes, {"x": [4, 3, 6] if fixed else ["t", "n", 6]}, ["y"], weights), eighths(RNG, 4, 3, 6)
    result = onnxdtd.Explainer(onnxdtd.compile(proto, "lrp-epsilon", ledger=True))(x)
    assert prepare(proto, Request(preset="lrp-epsilon")).plan.samples.axes == {"x": 1}
    assert result.ledger is not None
    np.testing.assert_allclose(result.ledger.totals()["relevance"], result.relevance["x"].sum((0, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.ledger.unaccounted, 0, atol=1e-5)


@pytest.mark.parametrize("batch", ["n", 1], ids=["open", "fixed"])
def test_samples_are_followed_through_windows_of_padded_maps(batch: str | int) -> None:
    """As torch writes it: how much to pad follows from sizes, pairs are turned round, no shape is known behind."""
    numbers = {"zero": [0], "one": [1], "two": [2], "far": [-(2**62)], "back": [-1], "pairs": [-1, 2], "row": [0] * 5}
    numbers |= {"cells": [-1, 3, 2, 2, 2, 2], "rows": [-1, 4, 2], "map": [-1, 6, 4, 2]}
    numbers |= {"begin": [0, 0], "ends": [5, 4], "axes": [1, 2]}
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s one two", "height"),
        node("Mod", "height two", "over"),
        node("Sub", "two over", "lacking"),
        node("Mod", "lacking two", "below"),
        node("Concat", "row below", "given", axis=0),
        node("ConstantOfShape", "two", "rest", value=onnx.numpy_helper.from_array(np.array([0]))),
        node("Concat", "given rest", "widths", axis=0),
        node("Reshape", "widths pairs", "by_axis"),
        node("Slice", "by_axis back far zero back", "turned"),
        node("Transpose", "turned", "sides", perm=[1, 0]),
        node("Reshape", "sides back", "pads"),
        node("Pad", "x pads", "padded"),
        node("Reshape", "padded cells", "six"),
        node("Transpose", "six", "apart", perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", "apart rows", "merged"),
        node("MatMul", "merged w", "m"),
        node("Softmax", "m", "p", axis=-1),
        node("Mul", "m p", "g"),
        node("Reshape", "g cells", "split"),
        node("Transpose", "split", "together", perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", "together map", "whole"),
        node("Slice", "whole begin ends axes", "cut"),
        node("ReduceMean", "cut", "mean", axes=[1, 2], keepdims=0),
        node("MatMul", "mean v", "y"),
    ]
    weights = {name: np.asarray(value) for name, value in numbers.items()} | {"w": eighths(RNG, 2, 2), "v": eighths(RNG, 2, 3)}
    x = eighths(RNG, 1 if batch == 1 else 3, 5, 4, 2)
    explainer = onnxdtd.Explainer(
        onnxdtd.compile(model(nodes, {"x": [batch, 5, 4, 2]}, ["y"], weights), "lrp-epsilon", ledger=True)
    )
    told = explainer(x)
    assert told.ledger is not None
    np.testing.assert_allclose(told.ledger.totals()["relevance"], told.relevance["x"].sum((1, 2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(told.ledger.unaccounted, 0, atol=1e-6)
    for i, row in enumerate(x):
        alone = explainer(row[None])
        np.testing.assert_allclose(told.relevance["x"][i], alone.relevance["x"][0], rtol=1e-5, atol=1e-6)
