"""Concats taken in turn give the relevance that each of them taken anew gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run

import onnxdtd
from onnxdtd.compiler.chained import chained
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(5)
PARTS = 5


def dense(axis: int = 1, anew: bool = False) -> onnx.ModelProto:
    """A dense block: every convolution reads all features so far, joined anew (or in another order: ``anew``)."""
    nodes = [node("Conv", "x w0", "a0", pads=[1, 1, 1, 1]), node("Relu", "a0", "f0")]
    weights = {"w0": eighths(RNG, 2, 3, 3, 3)}
    for i in range(1, PARTS):
        parts = [f"f{k}" for k in range(i)]
        if anew and i % 2:
            parts.reverse()
        nodes += [node("Concat", " ".join(parts), f"c{i}", axis=axis), node("Conv", f"c{i} w{i}", f"a{i}", pads=[1, 1, 1, 1])]
        nodes += [node("Relu", f"a{i}", f"f{i}")]
        weights[f"w{i}"] = eighths(RNG, 2, 2 * i, 3, 3)
    weights["v"] = eighths(RNG, 2 * PARTS, 4)
    nodes += [
        node("Concat", " ".join(f"f{k}" for k in range(PARTS)), "c", axis=axis),
        node("ReduceMean", "c", "m", axes=[2, 3], keepdims=0),
        node("MatMul", "m v", "y"),
    ]
    return model(nodes, {"x": ["n", 3, 5, 5]}, ["y"], weights)


def parts_of(proto: onnx.ModelProto) -> list[list[str]]:
    """What each Concat joins, after the rewriting."""
    steps = chained(prepare(proto, Request(preset="lrp-epsilon")).plan.steps, Situation((), (), lambda _: False))
    return [[t.name for t in step.inputs if t is not None] for step in steps if step.op == "Concat"]


@pytest.mark.parametrize("axis", [1, -3])
def test_a_concat_takes_the_result_of_the_one_before(axis: int) -> None:
    assert parts_of(dense(axis)) == [["f0"], ["f0", "f1"], ["c2", "f2"], ["c3", "f3"], ["c4", "f4"]]


def test_not_where_the_order_is_another() -> None:
    assert parts_of(dense(anew=True))[-1] == ["c4", "f4"]
    assert parts_of(dense(anew=True))[2] == ["f2", "f1", "f0"]


def both(preset: str, **options: object) -> list[onnx.ModelProto]:
    """Compiled as it is, and without this shortcut."""
    prepared = prepare(dense(), Request(preset=preset, **options))
    return [build(prepared), build(prepared, shortcuts=[shortcut for shortcut in SHORTCUTS if shortcut is not chained])]


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "gradient", "lrp-alpha2beta1"])
def test_the_relevance_is_the_same(preset: str) -> None:
    x = eighths(RNG, 3, 3, 5, 5)
    slices = lambda made: [n.op_type for n in made.graph.node].count("Slice")
    with_, without = both(preset)
    assert slices(without) - slices(with_) == 6
    assert_near(run(with_, x=x)["relevance"], run(without, x=x)["relevance"], 1e-6)


def test_what_is_kept_is_the_relevance_of_that_concat_alone() -> None:
    x = eighths(RNG, 3, 3, 5, 5)
    with_, without = (run(proto, x=x) for proto in both("lrp-epsilon", keep=["c2", "f0"]))
    for name in ("relevance", "relevance/c2", "relevance/f0"):
        assert_near(with_[name], without[name], 1e-6)


def test_a_ledger_sees_the_concats_that_are_taken() -> None:
    """What goes through an earlier one on its way is in its row too; each hands on what it takes in."""
    x = eighths(RNG, 3, 3, 5, 5)
    with_, without = (onnxdtd.Explainer(proto)(x).ledger for proto in both("lrp-epsilon", ledger=True))
    assert with_ is not None
    assert without is not None
    assert with_.steps == without.steps
    for name, values in with_.totals().items():
        np.testing.assert_allclose(values, without.totals()[name], atol=1e-5)
    row = with_.steps.index("c2_node")
    assert (np.abs(with_["in"][:, row]) > np.abs(without["in"][:, row]) + 1e-3).any()
    np.testing.assert_allclose(with_["in"][:, row], with_["out"][:, row], atol=1e-5)
