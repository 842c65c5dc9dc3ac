"""Pieces that were turned to the front give the relevance that they give turned back, joined where they lay."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run

from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.pieced import pieced
from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.unturned import unturned
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(31)
X = eighths(RNG, 2, 4, 3)
WEIGHTS: dict[str, Any] = {"w": eighths(RNG, 3, 9), "u": eighths(RNG, 3, 2), "s": np.asarray([0, 4, 3, 3])}
WEIGHTS |= {"first": np.asarray([0]), "fourth": np.asarray([-2])} | {f"i{k}": np.asarray(k) for k in range(3)}
ATTENTION = [
    *(node("Gather", f"t i{k}", name, axis=0) for k, name in enumerate("qkv")),
    node("Transpose", "k", "k1", perm=[0, 2, 1]),
    node("MatMul", "q k1", "z"),
    node("Softmax", "z", "p"),
    node("MatMul", "p v", "o"),
    node("ReduceMean", "o", "m", axes=[1], keepdims=0),
    node("MatMul", "m u", "y"),
]
TURNED = {  # and what lies in front of it
    "torch": (
        [
            node("Unsqueeze", "r first", "a"),
            node("Transpose", "a", "b", perm=[3, 1, 2, 0, 4]),
            node("Squeeze", "b fourth", "t"),
        ],
        "r",
    ),
    "turned": ([node("Transpose", "r", "t", perm=[2, 0, 1, 3])], "r"),
    "in two": ([node("Transpose", "r", "a", perm=[0, 2, 1, 3]), node("Transpose", "a", "t", perm=[1, 0, 2, 3])], "r"),
    "by chance": ([node("Transpose", "r", "a", perm=[1, 0, 2, 3]), node("Transpose", "a", "t", perm=[2, 1, 0, 3])], "r"),
    "half": ([node("Transpose", "r", "a", perm=[1, 0, 3, 2]), node("Transpose", "a", "t", perm=[3, 1, 0, 2])], "r"),
    "others": ([node("Transpose", "r", "t", perm=[2, 0, 3, 1])], "t"),
    "readers": ([node("Transpose", "r", "t0", perm=[2, 0, 1, 3]), node("Relu", "t0", "t")], "t"),
}


def net(name: str) -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "h"), node("Reshape", "h s", "r"), *TURNED[name][0], *ATTENTION]
    if name == "others":  # [n, 3, 4] of each
        nodes[-1] = node("MatMul", "m u4", "y")
    used = {word for made in nodes for word in made.input}
    weights = {key: value for key, value in (WEIGHTS | {"u4": eighths(RNG, 4, 2)}).items() if key in used}
    return model(nodes, {"x": ["n", 4, 3]}, ["y"], weights)


def joined(name: str, kept: tuple[str, ...] = (), preset: str = "attnlrp") -> list[str]:
    """What the pieces are handed back to."""
    nothing = Situation((), kept, lambda _: False)
    steps = unturned(pieced(prepare(net(name), Request(preset=preset)).plan.steps, nothing), nothing)
    return [x.name for step in steps if len(step.nodes) > 1 for x in step.inputs if x is not None]


@pytest.mark.parametrize("name", TURNED)
def test_the_relevance_is_the_same(name: str) -> None:
    prepared = prepare(net(name), Request(preset="attnlrp", keep=["v", "h"]))
    without = build(prepared, shortcuts=[shortcut for shortcut in SHORTCUTS if shortcut is not unturned])
    found, expected = run(build(prepared), x=X), run(without, x=X)
    for key in ("relevance", "relevance/v", "relevance/h"):
        assert np.abs(expected[key]).max() > 1e-3
        assert_near(found[key], expected[key], 1e-6)


@pytest.mark.parametrize("name", TURNED)
def test_joined_where_all_else_lies_in_order(name: str) -> None:
    assert joined(name) == [TURNED[name][1]]


def test_not_where_relevance_is_wanted_between_or_one_piece_alone_has_some() -> None:
    assert joined("torch", ("b",)) == ["t"]
    assert joined("turned", ("t",)) == ["t"]
    assert joined("torch", preset="cp-lrp") == []
