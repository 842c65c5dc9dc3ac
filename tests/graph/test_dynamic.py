"""Dynamically quantised models: relevance is that of a model of floats with the dequantised weights and activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from nets import Session
from onnx import NodeProto, TensorProto, helper, numpy_helper

import onnxdtd

RNG = np.random.default_rng(3)
N, D, H, C = 3, 6, 5, 3
SCALES = {"one": np.float32(0.02), "each": RNG.uniform(0.01, 0.03, H).astype("f")}
BIAS, LAST = RNG.normal(size=H).astype("f"), RNG.normal(size=(H, C)).astype("f")


def integer(kind: str) -> np.ndarray:
    low, high = {"int8": (-127, 128), "uint8": (0, 256)}[kind]
    return RNG.integers(low, high, (D, H)).astype(kind)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attrs: Any) -> NodeProto:
    return helper.make_node(op, inputs, outputs, outputs[0] + "_node", domain=domain, **attrs)


def written(form: str) -> list[NodeProto]:
    """q(x) q(W) + b, in the operators that a quantiser writes and in those that a runtime makes of them"""
    begin = node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    if form == "inside":
        return [node("DynamicQuantizeMatMul", ["x", "w", "ws", "wz", "b"], ["h"], "com.microsoft")]
    if form == "to float":
        return [begin, node("MatMulIntegerToFloat", ["q", "w", "s", "ws", "z", "wz", "b"], ["h"], "com.microsoft")]
    return [
        begin,
        node("Mul", ["s", "ws"], ["both"]),
        node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        node("Cast", ["i"], ["c"], to=TensorProto.FLOAT),
        node("Mul", ["c", "both"], ["m"]),
        node("Add", ["m", "b"], ["h"]),
    ]


def made(nodes: Sequence[NodeProto], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    nodes = [*nodes, node("Relu", ["h"], ["r"]), node("MatMul", ["r", "last"], ["y"])]
    read = {name for each in nodes for name in each.input}
    held = [numpy_helper.from_array(np.asarray(v), n) for n, v in {**weights, "b": BIAS, "last": LAST}.items() if n in read]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [N, size]) for n, size in (("x", D), ("y", C))]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph(nodes, "net", ends[:1], ends[1:], held), opset_imports=opsets, ir_version=8)


def rounded(x: np.ndarray) -> np.ndarray:
    """The dequantised input"""
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    scale = np.float32(high - low) / np.float32(255)
    zero = np.round(np.clip(-low / scale, 0, 255))
    return ((np.clip(np.round(x / scale) + zero, 0, 255) - zero) * scale).astype("f")


@pytest.mark.parametrize("form", ["spelled", "to float", "inside"])
@pytest.mark.parametrize(("kind", "scale"), [("int8", "one"), ("uint8", "each")])
def test_relevance_is_that_of_the_dequantised_layer(form: str, kind: str, scale: str) -> None:
    """LRP-ε by its definition, on what the integers stand for, and its sums."""
    step, w = SCALES[scale], integer(kind)
    zero = np.full(step.shape, 0 if kind == "int8" else 120, kind)
    source, x = made(written(form), {"w": w, "ws": step, "wz": zero}), RNG.normal(size=(N, D)).astype("f")
    found = Session(onnxdtd.compile(source, "lrp-epsilon", target=1))(x=x)
    np.testing.assert_array_equal(found["y"], Session(source)(x=x)["y"])
    real, seen = (w.astype("d") - zero) * step, rounded(x).astype("d")
    h = seen @ real + BIAS
    r = np.maximum(h, 0)
    s = r * LAST[:, 1] / (r @ LAST[:, 1:2]) * found["y"][:, 1:2]
    relevance = seen * ((s / h) @ real.T)
    np.testing.assert_allclose(found["relevance"], relevance, rtol=2e-3, atol=2e-4 * np.abs(relevance).max())
    kept = (s * BIAS / h).sum(1)
    np.testing.assert_allclose(found["relevance"].sum(1) + kept, found["y"][:, 1], rtol=1e-3, atol=1e-4)


def test_the_gradient_passes_what_is_rounded() -> None:
    """That of the layer of floats, nothing being cut off at the ends."""
    w = integer("int8")
    source, x = made(written("spelled"), {"w": w, "ws": SCALES["one"], "wz": np.int8(0)}), RNG.normal(size=(N, D)).astype("f")
    found = Session(onnxdtd.compile(source, "gradient", target=0))(x=x)["relevance"]
    real = w.astype("f") * SCALES["one"]
    np.testing.assert_allclose(found, (LAST[:, 0] * (rounded(x) @ real + BIAS > 0)) @ real.T, rtol=1e-4, atol=1e-5)


def test_a_layer_without_its_scales_is_refused() -> None:
    """A Cast that somebody else reads too"""
    nodes = [*written("spelled"), node("Add", ["h", "c"], ["k"]), node("Identity", ["k"], ["h2"])]
    nodes[-1].output[0], nodes[4].name = "k2", "mul"
    proto = made(nodes, {"w": integer("int8"), "ws": SCALES["one"], "wz": np.int8(0)})
    relu = next(n for n in proto.graph.node if n.op_type == "Relu")
    relu.input[0] = "k2"
    with pytest.raises(onnxdtd.Unsupported, match="MatMulInteger"):
        onnxdtd.compile(proto)


def test_convolutions_of_integers() -> None:
    """As on the dequantised numbers"""
    w, x = RNG.integers(-127, 128, (2, 1, 3)).astype("i1"), RNG.normal(size=(2, 1, 6)).astype("f")
    whole = [
        *(node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("Mul", ["s", "ws"], ["both"])),
        node("ConvInteger", ["q", "w", "z", "wz"], ["i"], pads=[1, 1]),
        *(node("Cast", ["i"], ["c"], to=TensorProto.FLOAT), node("Mul", ["c", "both"], ["h"])),
    ]
    plain = [node("Conv", ["x", "w"], ["h"], pads=[1, 1])]
    results = []
    real = {"w": w.astype("f") * np.float32(0.02)}
    for nodes, weights, fed in ((whole, {"w": w, "ws": np.float32(0.02), "wz": np.int8(0)}, x), (plain, real, rounded(x))):
        end = [node("Relu", ["h"], ["r"]), node("Flatten", ["r"], ["f"]), node("MatMul", ["f", "last"], ["y"])]
        held = {**weights, "last": np.random.default_rng(1).normal(size=(12, C)).astype("f")}
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [2, 1, 6]), ("y", [2, C]))]
        graph = helper.make_graph(
            [*nodes, *end], "net", ends[:1], ends[1:], [numpy_helper.from_array(v, n) for n, v in held.items()]
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        results.append(Session(onnxdtd.compile(proto, "lrp-0", target=2))(x=fed)["relevance"])
    np.testing.assert_allclose(*results, rtol=1e-3, atol=1e-4 * np.abs(results[1]).max())


def test_shares_of_differences_are_refused() -> None:
    source = made(written("inside"), {"w": integer("int8"), "ws": SCALES["one"], "wz": np.int8(0)})
    with pytest.raises(onnxdtd.Unsupported, match="rounding"):
        onnxdtd.compile(source, "deeplift-rescale", baseline="zero")
