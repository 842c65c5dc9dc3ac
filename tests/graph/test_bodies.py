"""Operators that ONNX defines by others: the gradient is that of onnx's own definition, and the node stays in the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import Session
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnxdtd

RNG = np.random.default_rng(4)
MASK = np.tril(np.ones((5, 5), bool), 1)


def arrays(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: RNG.normal(size=shape) for name, shape in shapes.items()}


def attention(more: str = "", heads: int = 2, groups: int = 2, **attrs: Any) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """Of x [batch, 5, 8], whose queries have twice as many heads where ``groups`` is 1."""
    nodes = [helper.make_node("MatMul", ["x", name], [name[-1]]) for name in ("wq", "wk", "wv")]
    inputs = ["q", "k", "v", *more.split()]
    nodes.append(helper.make_node("Attention", inputs, ["h"], "att", q_num_heads=heads, kv_num_heads=groups, **attrs))
    return nodes, arrays(wq=(8, 4 * heads), wk=(8, 4 * groups), wv=(8, 4 * groups), last=(20 * heads, 3))


def alone(op: str, *more: str, first: str = "x", **attrs: Any) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    return [helper.make_node(op, [first, *more], ["h"], "one", **attrs)], arrays(last=(40, 3))


CASES = {
    "attention": attention(),
    "shared heads": attention(heads=4, groups=2),
    "causal": attention(is_causal=1, scale=0.7),
    "a mask": attention("mask"),
    "a bias, capped": attention("bias", softcap=2.0),
    "RMS": alone("RMSNormalization", "gain", axis=-1),
    "rotary": alone("RotaryEmbedding", "cos", "sin", num_heads=2),
    "swish": alone("Swish", alpha=0.5),
    "swish by default": alone("Swish"),
}
GIVEN = {"mask": MASK, "bias": RNG.normal(size=(5, 5)), "gain": RNG.normal(size=8), **arrays(cos=(2, 5, 2), sin=(2, 5, 2))}


def build(nodes: list[NodeProto], weights: dict[str, np.ndarray], kind: int) -> Any:
    """[batch, 5, 8] -> ... -> [batch, 3], in float or double"""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [*nodes, helper.make_node("Flatten", ["h"], ["f"]), helper.make_node("MatMul", ["f", "last"], ["y"])]
    read = {name for node in nodes for name in node.input}
    held = {
        name: value if value.dtype == bool else value.astype(dtype)
        for name, value in {**GIVEN, **weights}.items()
        if name in read
    }
    ends = [helper.make_tensor_value_info(name, kind, shape) for name, shape in (("x", ["n", 5, 8]), ("y", ["n", 3]))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [numpy_helper.from_array(v, n) for n, v in held.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_the_definition(name: str) -> None:
    source = build(*CASES[name], TensorProto.FLOAT)
    compiled = onnxdtd.compile(source, "gradient", target=1)
    assert list(compiled.graph.node)[: len(source.graph.node)] == list(source.graph.node)
    x, d = RNG.normal(size=(2, 2, 5, 8)).astype(np.float32)
    found = Session(compiled)(x=x)
    np.testing.assert_array_equal(found["y"], Session(source)(x=x)["y"])
    defined = ReferenceEvaluator(build(*CASES[name], TensorProto.DOUBLE))
    ends = [defined.run(None, {"x": x.astype(np.float64) + step * d})[0][:, 1] for step in (1e-6, -1e-6)]
    slope = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose((found["relevance"] * d).sum((1, 2)), slope, rtol=2e-4, atol=2e-4 * np.abs(slope).max())


@pytest.mark.parametrize("preset", ["lrp-epsilon", "epsilon-plus"])
def test_relevance_through_attention(preset: str) -> None:
    """That of the same net with softmax and products spelled out."""
    nodes, weights = CASES["causal"]
    heads = {"shape": np.array([0, 0, 2, -1]), "back": np.array([0, 0, -1]), "later": ~np.tril(np.ones((5, 5), bool))}
    heads |= {"low": np.float32(np.finfo(np.float32).min), "scale": np.float32(0.7)}
    spelled = list(nodes[:3])
    for t in "qkv":
        spelled.append(helper.make_node("Reshape", [t, "shape"], [f"{t}1"]))
        spelled.append(helper.make_node("Transpose", [f"{t}1"], [f"{t}2"], perm=[0, 2, 1, 3]))
    spelled += [
        helper.make_node("Transpose", ["k2"], ["k3"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q2", "k3"], ["s"]),
    ]
    spelled += [helper.make_node("Mul", ["s", "scale"], ["t"]), helper.make_node("Where", ["later", "low", "t"], ["u"])]
    spelled += [helper.make_node("Softmax", ["u"], ["p"], axis=-1), helper.make_node("MatMul", ["p", "v2"], ["m"])]
    spelled += [
        helper.make_node("Transpose", ["m"], ["o"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["o", "back"], ["h"]),
    ]
    sources = build(nodes, weights, TensorProto.FLOAT), build(spelled, weights, TensorProto.FLOAT)
    sources[1].graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in heads.items())
    x = RNG.normal(size=(2, 5, 8)).astype(np.float32)
    found, expected = (Session(onnxdtd.compile(proto, preset, target=1))(x=x)["relevance"] for proto in sources)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_keys_and_values_of_before_are_refused() -> None:
    nodes, weights = attention("_ pk pv")
    nodes[-1].input[3] = ""
    with pytest.raises(onnxdtd.Unsupported, match=r"Attention x1 \(att\): .*past"):
        onnxdtd.compile(build(nodes, {**weights, **arrays(pk=(1, 2, 3, 4), pv=(1, 2, 3, 4))}, TensorProto.FLOAT))


def test_heads_on_an_axis_of_their_own() -> None:
    """[batch, heads, length, size]"""
    nodes = [helper.make_node("Reshape", ["x", "heads"], ["q"]), helper.make_node("Attention", ["q", "q", "q"], ["h"], "att")]
    source = build(nodes, {"heads": np.array([0.0, 5, 2, 4]), **arrays(last=(40, 3))}, TensorProto.FLOAT)
    source.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([0, 5, 2, 4]), "heads"))
    compiled = onnxdtd.compile(source, "gradient", target=0)
    x, d = RNG.normal(size=(2, 1, 5, 8)).astype(np.float32)
    ends = [Session(source)(x=x + step * d)["y"][0, 0].astype(np.float64) for step in (0.01, -0.01)]
    np.testing.assert_allclose((Session(compiled)(x=x)["relevance"] * d).sum(), (ends[0] - ends[1]) / 0.02, rtol=1e-2)


@pytest.mark.parametrize("hidden", [None, -np.inf, np.finfo(np.float32).min])
def test_a_query_without_a_key_gets_nothing(hidden: float | None) -> None:
    """As runtimes have it, its output is 0, and its gradient with it."""
    kept = MASK.copy()
    kept[2] = False
    mask = kept if hidden is None else np.where(kept, 0, hidden)
    nodes, weights = attention("kept")
    source = build(nodes, {**weights, "kept": mask}, TensorProto.FLOAT)
    x, d = RNG.normal(size=(2, 2, 5, 8)).astype(np.float32)

    def logit(x: np.ndarray) -> np.ndarray:
        q, k, v = (np.moveaxis((x @ weights[name]).reshape(2, 5, 2, 4), 2, 1) for name in ("wq", "wk", "wv"))
        p = np.exp(q @ np.swapaxes(k, 2, 3) / 2) * kept
        h = (p / np.maximum(p.sum(-1, keepdims=True), 1e-300)) @ v
        return (np.moveaxis(h, 1, 2).reshape(2, 40) @ weights["last"])[:, 1]

    found = Session(onnxdtd.compile(source, "gradient", target=1))(x=x)
    np.testing.assert_allclose(found["y"][:, 1], logit(x.astype("d")), rtol=1e-4, atol=1e-4)
    slope = (logit(x + 1e-6 * d.astype("d")) - logit(x - 1e-6 * d.astype("d"))) / 2e-6
    np.testing.assert_allclose((found["relevance"] * d).sum((1, 2)), slope, rtol=2e-4, atol=2e-4 * np.abs(slope).max())
