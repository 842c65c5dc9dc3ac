"""A rule behind another is left out where nothing can come to it, so that `z+ else w2` is z+ without positive biases."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run

import onnxdtd
from onnxdtd.compiler.addition import addition
from onnxdtd.compiler.alive import alive
from onnxdtd.compiler.compile import build, planned, prepare
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(12)
PAD = [1, 1, 1, 1]
W = {"w": eighths(RNG, 4, 2, 3, 3), "u": eighths(RNG, 4, 4, 1, 1), "v": eighths(RNG, 4, 3), "t": np.zeros(3, np.float32)}
W |= {"gain": eighths(RNG, 4, low=1), "mean": eighths(RNG, 4, low=0), "var": np.float32([1, 4, 1, 0.25])}
W |= {"zero": np.float32(0), "six": np.float32(6)}
NODES = [
    *(node("Conv", "x w", "a", pads=PAD), node("BatchNormalization", "a gain b mean var", "n"), node("Relu", "n", "h")),
    *(node("Conv", "h u b", "c"), node("Add", "c h", "s"), node("Relu", "s", "r")),
    *(node("MaxPool", "r", "m", kernel_shape=[2, 2]), node("Conv", "m u b", "q"), node("Clip", "q low six", "k")),
    *(node("ReduceMean", "k", "f", axes=[2, 3], keepdims=0), node("Gemm", "f v t", "y")),
]
X = eighths(RNG, 3, 2, 4, 4)


def net(bias: float = -1.0, low: float = 0.0) -> onnx.ModelProto:
    """Convolutions, one with a BatchNormalization behind it, a residual sum, pools and a Clip; all biases are the same."""
    used = {name: value for name, value in W.items() if any(name in made.input for made in NODES)}
    constants = {**used, "b": np.full(4, bias, np.float32), "low": np.float32(low)}
    return model(NODES, {"x": ["n", 2, 4, 4]}, ["y"], constants)


def plain(proto: onnx.ModelProto) -> bytes:
    """Without metadata, which tell the preset."""
    bare = onnx.ModelProto.FromString(proto.SerializeToString())
    del bare.metadata_props[:]
    return bare.SerializeToString(deterministic=True)


def compiled(proto: onnx.ModelProto, **options: Any) -> list[bytes]:
    return [plain(onnxdtd.compile(proto, preset, **options)) for preset in ("dtd", "dtd-complete")]


@pytest.mark.parametrize("options", [{}, {"low": -1.0, "high": 1.0}, {"ledger": True}, {"target": "input"}], ids=str)
@pytest.mark.parametrize("bias", [-1.0, -0.0])
def test_without_positive_biases_nothing_is_added(bias: float, options: dict[str, Any]) -> None:
    """Byte for byte, a BatchNormalization folded in."""
    dtd, complete = compiled(net(bias), **options)
    assert complete == dtd


@pytest.mark.parametrize(
    ("proto", "options"),
    [
        (net(2**-10), {}),
        (net(low=1.0), {}),  # an output of 1 tells nothing of what went in
        (net(), {"low": 0.5, "high": 1.0}),  # zB may have no denominator where 0 is not in the box
        (net(), {"target": "score"}),  # whose biases come at run time
    ],
    ids=["a positive bias", "a lifted activation", "a box without 0", "any score"],
)
def test_where_something_may_come_to_it_it_stays(proto: onnx.ModelProto, options: dict[str, Any]) -> None:
    dtd, complete = compiled(proto, **options)
    assert complete != dtd


def test_what_is_injected_comes_to_what_is_off_too() -> None:
    sizes = []
    for preset in ("dtd", "dtd-complete"):
        added = addition(planned(net(), Request(preset=preset)), "m")
        sizes.append(len(added.nodes))
    assert sizes[0] < sizes[1]


def test_zeros_below_a_rule_that_hands_them_relevance() -> None:
    """With a positive bias above, relevance comes to what is off below, whose own biases are not positive."""
    proto = net()
    for made in proto.graph.initializer:
        if made.name == "t":
            made.CopyFrom(onnx.numpy_helper.from_array(np.ones(3, np.float32), "t"))
    x = 0 * X  # only the last bias is alive
    found = onnxdtd.Explainer(onnxdtd.compile(proto, "dtd-complete", ledger=True, low=-1, high=1))(x)
    assert found.ledger is not None
    assert_near(found.relevance["x"].sum(axis=(1, 2, 3)), found.ledger["in"][:, 0], 1e-6)
    assert (found.ledger["in"][:, 0] > 0).all()


@pytest.mark.parametrize("bias", [-1.0, 0.5])
def test_the_relevance_is_the_same(bias: float) -> None:
    prepared = prepare(net(bias), Request(preset="dtd-complete", low=-1, high=1))
    others = [shortcut for shortcut in SHORTCUTS if shortcut is not alive]
    with_, without = (run(build(prepared, shortcuts=some), x=X)["relevance"] for some in (SHORTCUTS, others))
    assert_near(with_, without, 2e-6)
