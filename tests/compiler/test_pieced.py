"""Selections that take a tensor apart, joined as pieces of one, give the relevance that each gives on its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run

from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.pieced import pieced
from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(3)
X = eighths(RNG, 2, 4, 3)


def attention(how: str) -> onnx.ModelProto:
    """Queries, keys and values of one tensor [n, 4, 9], taken by Gathers from [n, 4, 3, 3], or by Slices."""
    numbers = {f"i{k}": np.asarray(k - 3 if k == 2 else k) for k in range(3)}  # one of them counts from the end
    numbers |= {f"c{k}": np.asarray([3 * k]) for k in range(4)} | {"last": np.asarray([-1])}
    rows = {"rows01": np.asarray([0, 1]), "rows2": np.asarray([2]), "one": np.asarray([2])}
    nodes = [node("MatMul", "x w", "h"), node("Reshape", "h s", "r")]
    if how == "rows":
        nodes += [node("Gather", "r rows2", "v3", axis=2), node("Gather", "r rows01", "qk", axis=2)]
        nodes += [node("Gather", "qk i0", "q", axis=2), node("Gather", "qk i1", "k", axis=2), node("Squeeze", "v3 one", "v")]
    else:
        take = {
            "gather": lambda name, k: node("Gather", f"r i{k}", name, axis=-2),
            "slice": lambda name, k: node("Slice", f"h c{k} c{k + 1} last", name),
            "overlap": lambda name, k: node("Gather", f"r i{min(k, 1)}", name, axis=2),
        }[how]
        nodes += [take(name, k) for k, name in ((2, "v"), (0, "q"), (1, "k"))]
    nodes += [
        node("Transpose", "k", "t", perm=[0, 2, 1]),
        node("MatMul", "q t", "z"),
        node("Softmax", "z", "p"),
        node("MatMul", "p v", "o"),
        node("ReduceMean", "o", "m", axes=[1], keepdims=0),
        node("MatMul", "m u", "y"),
    ]
    weights: dict[str, Any] = {"w": eighths(RNG, 3, 9), "u": eighths(RNG, 3, 2), "s": np.asarray([0, 4, 3, 3])}
    used = {name for each in nodes for name in each.input}
    weights |= {name: value for name, value in (numbers | rows).items() if name in used}
    return model(nodes, {"x": ["n", 4, 3]}, ["y"], weights)


@pytest.mark.parametrize(("how", "joined"), [("gather", 1), ("slice", 1), ("rows", 2), ("overlap", 0)])
def test_the_relevance_is_the_same(how: str, joined: int) -> None:
    prepared = prepare(attention(how), Request(preset="attnlrp", keep=["v", "h"]))
    steps = pieced(prepared.plan.steps, Situation((), (), lambda _: False))
    assert [step.kind for step in steps if len(step.nodes) > 1 and step.kind == "move"] == ["move"] * joined
    without = build(prepared, shortcuts=[shortcut for shortcut in SHORTCUTS if shortcut is not pieced])
    found, expected = run(build(prepared), x=X), run(without, x=X)
    for name in ("relevance", "relevance/v", "relevance/h"):
        assert np.abs(expected[name]).max() > 1e-2
        assert_near(found[name], expected[name], 1e-6)


def test_a_piece_that_nothing_comes_to_is_zero() -> None:
    """Under cp-lrp queries and keys get nothing."""
    prepared = prepare(attention("gather"), Request(preset="cp-lrp", keep=["h"]))
    found = run(build(prepared), x=X)["relevance/h"].reshape(2, 4, 3, 3)
    assert not found[:, :, :2].any()
    assert found[:, :, 2].all(-1).any()


def test_nothing_is_scattered_where_it_is_known_what_was_taken() -> None:
    for how in ("gather", "rows", "overlap"):
        assert "ScatterElements" not in {
            n.op_type for n in build(prepare(attention(how), Request(preset="attnlrp"))).graph.node
        }
