"""Operators of ONNX Runtime: what they amount to gives what the runtime gives, and has the same relevance; the node stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from nets import Session
from onnx import NodeProto, TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd.errors import Unsupported
from onnxdtd.graph import shapes
from onnxdtd.graph.view import replaced
from onnxdtd.operators.table import has_rule

RNG = np.random.default_rng(7)
B, S, D = 2, 5, 8
LENGTHS, STARTS = np.int32([5, 3]), np.int32([0, 1])
RAW = np.int32([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1]])


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


WEIGHTS = {
    "wqkv": normal(D, 3 * D),
    "bqkv": normal(3 * D),
    "square": normal(D, D),
    "skip": normal(S, D),
    "gamma": 1 + 0.2 * normal(D),
    "beta": normal(D),
    "bias": normal(D),
    "added": normal(1, 2, S, S),
    "lengths": LENGTHS,
    "spans": np.concatenate([LENGTHS, STARTS]),
    "raw": RAW,
    "square_mask": np.int32(np.stack([RAW] * S, 1) * np.tri(S, dtype=np.int32)),
    "cos": np.cos(normal(9, 2)),
    "sin": np.sin(normal(9, 2)),
    "position": np.int64([3]),
    "positions": np.int64([[0, 1, 2, 3, 4], [4, 2, 0, 1, 3]]),
    "total": np.int32([S]),
    "kernel": normal(4, 1, 3),
    "four": normal(4),
    "residual": normal(B, 4, D),
    "axis": np.int64([1]),
    "first": normal(D, S * D),
    "last_key": np.int32([S - 1, S - 1]),
    "wide": normal(D, 8 * D),
    "widths": np.int64([4 * D, 2 * D, 2 * D]),
    "first_one": np.int64(0),
    "nought": np.float32(0),
    "step": np.float32(1 / 32),
    "mid": np.uint8(120),
    "wint": RNG.integers(-99, 99, (D, 3 * D), np.int8),
    "wstep": RNG.uniform(0.005, 0.01, 3 * D),
    "wmid": RNG.integers(-9, 9, 3 * D, np.int8),
    "w1int": RNG.integers(0, 255, (D, 3 * D), np.uint8),
    "w1step": np.float32(0.01),
    "w1mid": np.uint8(110),
    "cosines": np.cos(normal(9, 8)),
    "sines": np.sin(normal(9, 8)),
}


def one(op: str, inputs: str, outputs: str = "h", domain: str = "com.microsoft", **attrs: Any) -> list[NodeProto]:
    names = ["" if name == "_" else name for name in inputs.split()]
    results = ["" if name == "_" else name for name in outputs.split()]
    return [helper.make_node(op, names, results, "fused", domain=domain, **attrs)]


def attention(inputs: str, **attrs: Any) -> list[NodeProto]:
    """With a bias, as the model is run: ONNX Runtime 1.31.1 ends the process by a segmentation fault where there is none."""
    return one("Attention", f"x wqkv {inputs}", num_heads=2, **attrs)


def counted() -> list[NodeProto]:
    """Attention to as many tokens as a sample has, which a node counts"""
    counts = [
        helper.make_node("Gather", ["x", "first_one"], ["g"], axis=2),
        helper.make_node("Greater", ["g", "nought"], ["b"]),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.INT32),
        helper.make_node("ReduceSum", ["c", "axis"], ["counts"], keepdims=0),
    ]
    return [*counts, *attention("bqkv counts", mask_filter_value=-50.0)]


def integers(inputs: str, zero: str = "", **attrs: Any) -> list[NodeProto]:
    """Attention of integers, of weights with a scale for each column or for all"""
    names = f"i w{zero}int bqkv step w{zero}step {inputs} mid w{zero}mid"
    return [helper.make_node("QuantizeLinear", ["x", "step", "mid"], ["i"]), *one("QAttention", names, num_heads=2, **attrs)]


def projected(op: str, more: str, outputs: str = "h", **attrs: Any) -> list[NodeProto]:
    """Of queries, keys and values"""
    split = [
        helper.make_node("MatMul", ["x", "wqkv"], ["p"]),
        helper.make_node("Split", ["p"], ["q", "k", "v"], axis=2, num_outputs=3),
    ]
    return [*split, *one(op, f"q k v {more}".strip(), outputs, num_heads=2, **attrs)]


def grouped(inputs: str = "q k v", **attrs: Any) -> list[NodeProto]:
    """Two heads that share a key and a value"""
    inputs += " _ _ last_key total cosines sines"
    made = one("GroupQueryAttention", inputs, "h pk pv", num_heads=2, kv_num_heads=1, do_rotary=1, **attrs)
    split = helper.make_node("Split", ["p", "widths"], ["q", "k", "v"], axis=2)
    return [helper.make_node("MatMul", ["x", "wide"], ["p"]), split, *made]


def convolved(**attrs: Any) -> list[NodeProto]:
    return [
        helper.make_node("ReduceSum", ["x", "axis"], ["m"], keepdims=1),
        *one("FusedConv", "m kernel four residual", "c", pads=[1, 1], **attrs),
        helper.make_node("Gelu", ["c"], ["h"]),
    ]


CASES: dict[str, tuple[list[NodeProto], int]] = {
    "attention": (attention("bqkv"), S * D),
    "scaled": (attention("bqkv", scale=0.3), S * D),
    "causal": (attention("bqkv", unidirectional=1), S * D),
    "lengths": (attention("bqkv lengths"), S * D),
    "spans": (attention("bqkv spans", mask_filter_value=-50.0), S * D),
    "counts": (counted(), S * D),
    "keys": (attention("bqkv raw", unidirectional=1), S * D),
    "queries": (attention("bqkv square_mask"), S * D),
    "added": (attention("bqkv raw _ added"), S * D),
    "sizes": (attention("bqkv", qkv_hidden_sizes=[8, 8, 8]), S * D),
    "integers": (integers("raw", unidirectional=1), S * D),
    "integers, one scale": (integers("_", "1"), S * D),
    "heads": (projected("MultiHeadAttention", "bqkv raw added"), S * D),
    "heads, causal": (projected("MultiHeadAttention", "_ lengths", unidirectional=1, scale=0.4), S * D),
    "grouped": (grouped(), 4 * S * D),
    "grouped, interleaved": (grouped(rotary_interleaved=1, softcap=2.0), 4 * S * D),
    "grouped, packed": (grouped("p _ _"), 4 * S * D),
    "skip": (one("SkipLayerNormalization", "x skip gamma beta", epsilon=1e-5), S * D),
    "skip, bias and sum": (
        [*one("SkipLayerNormalization", "x skip gamma beta bias", "n _ _ s"), helper.make_node("Add", ["n", "s"], ["h"])],
        S * D,
    ),
    "skip, simplified": (one("SkipSimplifiedLayerNormalization", "x skip gamma bias", epsilon=1e-3), S * D),
    "gelu": (one("Gelu", "x"), S * D),
    "bias gelu": (one("BiasGelu", "x bias"), S * D),
    "fast gelu": (one("FastGelu", "x bias"), S * D),
    "fast gelu alone": (one("FastGelu", "x"), S * D),
    "quick gelu": (one("QuickGelu", "x", alpha=1.5), S * D),
    "product": (one("FusedMatMul", "x x", transB=1, alpha=0.3), S * S),
    "product of the first": (one("FusedMatMul", "x x", transA=1), D * D),
    "product with a matrix": (one("FusedMatMul", "x skip", transB=1), S * S),
    "gemm": (
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            *one("FusedGemm", "f first bias", transB=1, alpha=0.5, activation="LeakyRelu", activation_alpha=0.3),
        ],
        D,
    ),
    "conv": (convolved(activation="LeakyRelu", activation_params=[0.2]), 4 * D),
    "conv, cut off": (convolved(activation="Clip", activation_params=[-1.0, 2.0]), 4 * D),
    "rotary": (one("RotaryEmbedding", "x position cos sin", num_heads=2), S * D),
    "rotary, by position": (one("RotaryEmbedding", "x positions cos sin", num_heads=2, interleaved=1), S * D),
    "rotary, a part": (one("RotaryEmbedding", "x positions cos sin", num_heads=1, rotary_embedding_dim=4), S * D),
}


def model(name: str, opset: int = 20) -> onnx.ModelProto:
    """[2, 5, 8] -> ... -> [2, 3]"""
    nodes, size = CASES[name]
    assert all(node.input[2] for node in nodes if node.op_type == "Attention")
    nodes = [*nodes, helper.make_node("Flatten", ["h"], ["flat"]), helper.make_node("MatMul", ["flat", "last"], ["y"])]
    weights = WEIGHTS | {"last": np.random.default_rng(1).normal(size=(size, 3))}
    read = {t for node in nodes for t in node.input}
    held = [numpy_helper.from_array(v.astype("f") if v.dtype == float else v, n) for n, v in weights.items() if n in read]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in (("x", [B, S, D]), ("y", [B, 3]))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], held)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def opened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model of operators of the standard"""
    bare = shapes.skeleton(proto)
    shapes._infer_shapes(bare)
    while replaced(bare, has_rule, {}, None):
        shapes._infer_shapes(bare)
    assert not any(node.domain for node in bare.graph.node)
    return bare


@pytest.mark.parametrize("name", CASES)
def test_what_an_operator_amounts_to(name: str) -> None:
    source = model(name)
    spelled, x = opened(source), RNG.normal(size=(B, S, D)).astype(np.float32)
    given = Session(source)(x=x)["y"]
    np.testing.assert_allclose(Session(spelled)(x=x)["y"], given, rtol=2e-5, atol=2e-5 * np.abs(given).max())
    for preset in ("attnlrp", "lrp-0"):
        compiled = onnxdtd.compile(source, preset, target=1)
        assert list(compiled.graph.node)[: len(source.graph.node)] == list(source.graph.node)
        found = Session(compiled)(x=x)
        np.testing.assert_array_equal(found["y"], given)
        expected = Session(onnxdtd.compile(spelled, preset, target=1))(x=x)["relevance"]
        np.testing.assert_allclose(found["relevance"], expected, rtol=1e-3, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("op", "way"),
    [
        ("PackedAttention", "before convert_to_packing_mode"),
        ("MatMulNBits", "quant_format=QuantFormat.QDQ"),
        ("NhwcMaxPool", "ORT_ENABLE_EXTENDED"),
        ("MultiHeadAttention", "--disable_packed_qkv"),
        ("BiasSplitGelu", "--disable_bias_splitgelu"),
        ("QEmbedLayerNormalization", "op_types_to_quantize="),
        ("LongformerAttention", "give the one from before"),
    ],
)
def test_what_is_refused_names_its_way_out(op: str, way: str) -> None:
    source = model("gelu")
    source.graph.node[0].CopyFrom(helper.make_node(op, ["x"], ["h"], "fused", domain="com.microsoft", num_heads=2))
    with pytest.raises(Unsupported, match=f"{op} x1 .fused.: .*{way}"):
        onnxdtd.compile(source, "attnlrp")


def test_weights_by_blocks_are_served_as_numbers_apart() -> None:
    """What the refusal of MatMulNBits advises."""
    source = model("gelu", opset=21)
    weights = helper.make_tensor("ints", TensorProto.INT4, [S * D, 3], np.arange(S * D * 3) % 15 - 7)
    scales = numpy_helper.from_array(RNG.uniform(0.1, 0.2, (2, 3)).astype("f"), "scales")
    source.graph.initializer.extend([weights, scales])
    wide = helper.make_node("DequantizeLinear", ["ints", "scales"], ["wide"], axis=0, block_size=S * D // 2)
    source.graph.node.insert(2, wide)
    source.graph.node[3].input[1] = "wide"
    x = RNG.normal(size=(B, S, D)).astype(np.float32)
    found = Session(onnxdtd.compile(source, "gradient-x-input", target=1))(x=x)
    step = 1e-3
    ends = [Session(source)(x=x * (1 + sign * step))["y"][:, 1] for sign in (1, -1)]
    np.testing.assert_allclose(found["relevance"].sum((1, 2)), (ends[0] - ends[1]) / (2 * step), rtol=2e-3, atol=1e-2)


def test_embeddings_are_as_many_as_ids_whatever_is_known_of_segments() -> None:
    ends = [
        helper.make_tensor_value_info(t, TensorProto.INT32, shape) for t, shape in (("ids", ["n", S]), ("kinds", ["?", "s"]))
    ]
    node = helper.make_node("EmbedLayerNormalization", ["ids", "kinds", *"ePkgb"], ["h", "c"], domain="com.microsoft")
    shapes_of = {"e": (9, D), "P": (S, D), "k": (2, D), "g": (D,), "b": (D,)}
    held = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes_of.items()]
    graph = helper.make_graph([node], "net", ends, [helper.make_empty_tensor_value_info("h")], held)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    bare = shapes.skeleton(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    shapes._infer_shapes(bare)
    (found,) = [value for value in bare.graph.output if value.name == "h"]
    assert [d.dim_param or d.dim_value for d in found.type.tensor_type.shape.dim] == ["n", S, D]
