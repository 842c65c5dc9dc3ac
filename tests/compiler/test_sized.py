"""Denominators of z+ by sizes are those by terms, up to rounding, and are taken only of large matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import oracle
import pytest
from nets import assert_near, eighths, model, node, run
from onnx import ModelProto, NodeProto

from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.rectified import rectified
from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.sized import MANY, sized
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(19)
X = eighths(RNG, 3, 4)
OWN = {"own": [node("Gemm", "h t b", "p", transB=1)]}  # a bias
HEAD = [node("MatMul", "p u", "y")]
WAYS = {
    "matmul": [node("MatMul", "h w", "p")],
    "bias": [node("MatMul", "h w", "q"), node("Add", "q b", "p")],
    "gemm": [node("Gemm", "h t", "q", transB=1), node("Add", "q b", "p")],
    "tokens": [node("Unsqueeze", "h one", "k"), node("MatMul", "k w", "q"), node("Squeeze", "q one", "p")],
}


def net(
    way: str = "bias", bend: str = "Tanh", size: int = MANY, last: Sequence[NodeProto] = HEAD, **weights: Any
) -> ModelProto:
    """A layer with ``size`` outputs, a function entry by entry, a layer from as many to as many, and one that gives scores."""
    nodes = [node("MatMul", "x v", "a"), node(bend, "a", "h"), *(WAYS | OWN)[way], *last]
    given = {"v": eighths(RNG, 4, size), "w": eighths(RNG, size, size), "b": eighths(RNG, size), "u": eighths(RNG, size, 5)}
    given |= {"t": np.ascontiguousarray(given["w"].T), "one": np.asarray([1])}
    used = {name for each in nodes for name in each.input}
    return model(nodes, {"x": ["n", 4]}, [last[-1].output[0]], {n: v for n, v in (given | weights).items() if n in used})


def taken(proto: ModelProto, preset: str = "dtd") -> int:
    """How many layers have a denominator by sizes."""
    job = prepare(proto, Request(preset=preset))
    sources = Situation([job.plan.logits.name], (), job.plan.nonnegative)
    steps = sized(rectified(job.plan.steps, sources), sources)
    return sum(step.layer is not None and step.layer.denominator is not None for step in steps)


@pytest.mark.parametrize("way", WAYS)
def test_the_relevance_is_that_of_all_terms(way: str) -> None:
    proto = net(way)
    assert taken(proto) == 1
    prepared = prepare(proto, Request(preset="dtd", keep=["h"], ledger=True))
    others = [shortcut for shortcut in SHORTCUTS if shortcut is not sized]
    found, expected = (run(build(prepared, shortcuts=some), x=X) for some in (SHORTCUTS, others))
    assert np.abs(expected["relevance"]).max() > 1e-2
    for name, value in expected.items():
        assert_near(found[name], value, 5e-6)


@pytest.mark.parametrize("way", ["bias", "gemm", "own"])
def test_a_bias_beside_which_the_product_is_rounding(way: str) -> None:
    """As of units that training has given up, whose weights have faded."""
    proto = net(way, **{name: eighths(RNG, MANY, MANY) * np.float32(2**-30) for name in "wt"})
    prepared = prepare(proto, Request(preset="dtd"))
    found, expected = (run(build(prepared, shortcuts=some), x=X)["relevance"] for some in (SHORTCUTS, ()))
    assert np.abs(expected).max() > 1e-3
    assert_near(found, expected, 5e-6)


@pytest.mark.parametrize("largest", [1.0, 1e2, 1e4])
def test_an_entry_that_is_larger_than_all_others_together(largest: float) -> None:
    """It leaves a thousandth of |x| |w| positive where it speaks against an output."""
    rng = np.random.default_rng(20)
    normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
    v, w, b, u, x = normal(4, MANY), normal(MANY, MANY), normal(MANY), normal(MANY, 5), normal(8, 4)
    v[:, 7] *= largest
    proto = net(bend="LeakyRelu", v=v, w=w, b=b, u=u)
    assert taken(proto) == 1
    found = run(build(prepare(proto, Request(preset="dtd", keep=["h", "p"]))), x=x)
    a = x.astype(np.float64) @ v
    for one, before, after in zip(np.where(a < 0, 0.01 * a, a), found["relevance/h"], found["relevance/p"], strict=True):
        assert_near(before, oracle.z_plus(one, w.astype(np.float64), b, after.astype(np.float64)), 2e-5)


@pytest.mark.parametrize(
    ("proto", "preset"),
    [
        (net(size=MANY - 1), "dtd"),
        (net(bend="Relu"), "dtd"),
        (net(last=[node("Relu", "p", "r"), node("MatMul", "r u", "y")]), "dtd"),
        (net("own"), "dtd"),
        (net(), "dtd-complete"),
        (net(), "lrp-epsilon"),
        (net(), "attnlrp"),
    ],
    ids=["few", "inputs", "relu", "bias", "fallback", "epsilon", "derivative"],
)
def test_where_it_declines(proto: ModelProto, preset: str) -> None:
    assert taken(proto, preset) == 0


def test_not_what_gives_the_scores() -> None:
    assert taken(net(u=eighths(RNG, MANY, MANY))) == 1


@pytest.mark.parametrize("way", ["matmul", "bias"])
def test_of_a_layer_of_which_a_part_is_live(way: str) -> None:
    """As of the product of queries, keys and values, of which values alone have relevance."""
    cut = [node("Slice", "p one two axis", "k"), node("MatMul", "k u", "y")]
    bounds = {"one": np.asarray([MANY]), "two": np.asarray([2 * MANY]), "axis": np.asarray([1])}
    proto = net(way, last=cut, w=eighths(RNG, MANY, 2 * MANY), b=eighths(RNG, 2 * MANY), u=eighths(RNG, MANY, 5), **bounds)
    assert taken(proto) == 1
    prepared = prepare(proto, Request(preset="dtd"))
    found, expected = (run(build(prepared, shortcuts=some), x=X)["relevance"] for some in (SHORTCUTS, ()))
    assert np.abs(expected).max() > 1e-3
    assert_near(found, expected, 5e-6)
