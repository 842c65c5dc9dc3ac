"""What a branch computes afresh: the same relevance, and where nobody asks the source's time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from nets import eighths, model, node
from onnx import GraphProto, ModelProto, NodeProto

import onnxdtd
from onnxdtd import Explainer
from onnxdtd.operators.table import OPERATORS

CPU = ["CPUExecutionProvider"]
CHANNELS = 16  # as many as the widest processors have in a block


def branch(proto: ModelProto) -> GraphProto:
    asked: GraphProto = next(a.g for a in proto.graph.node[-1].attribute if a.name == "then_branch")
    return asked


def results(proto: ModelProto) -> set[str]:
    """What the predictor of a compiled file computes"""
    return {name for node in proto.graph.node[:-1] for name in node.output}


def read(proto: ModelProto) -> set[str]:
    """What the branch reads of it"""
    return {name for node in branch(proto).node for name in node.input} & results(proto)


def reordered(proto: ModelProto, folder: Path) -> Counter[str]:
    """The operators of the optimised graph, branches apart"""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(proto.SerializeToString(), options, providers=CPU)
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def weights(*names: str, **more: np.ndarray) -> dict[str, np.ndarray]:
    """1 × 1 filters"""
    rng = np.random.default_rng(0)
    return {name: eighths(rng, CHANNELS, CHANNELS, 1, 1) for name in names} | more


def net(nodes: list[NodeProto], more: dict[str, np.ndarray], last: str, batch: int | str = 1) -> ModelProto:
    """Those nodes on x, and a classifier of what they give"""
    end = [node("GlobalAveragePool", last, "g"), node("Flatten", "g", "f"), node("MatMul", "f v", "y")]
    dense = {"v": eighths(np.random.default_rng(1), CHANNELS, 3)}
    return model([*nodes, *end], {"x": [batch, CHANNELS, 6, 6]}, ["y"], more | dense, opset=20)


def residual(batch: int | str = 1, size: int = 1) -> ModelProto:
    """Two convolutions around a third, of windows of ``size``"""
    nodes = [
        node("Conv", "x w1", "a"),
        node("Relu", "a", "b"),
        node("Conv", "b w2", "c", pads=[size // 2] * 4),
        node("Relu", "c", "d"),
        node("Conv", "d w3", "e"),
        node("Add", "e b", "s"),
        node("Relu", "s", "r"),
    ]
    wide = eighths(np.random.default_rng(2), CHANNELS, CHANNELS, size, size)
    return net(nodes, weights("w1", "w3", w2=wide), "r", batch)


def compiled(proto: ModelProto, **options: Any) -> ModelProto:
    made = onnxdtd.compile(proto, on_demand=True, **options)
    onnx.checker.check_model(made, full_check=True)
    return made


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "gradient", "lrp-alpha2beta1"])
@pytest.mark.parametrize("batch", [1, "batch"])
def test_relevance_is_that_of_the_flat_file(preset: str, batch: int | str) -> None:
    source = residual(batch)
    x = np.random.default_rng(3).normal(size=(1 if batch == 1 else 3, CHANNELS, 6, 6)).astype(np.float32)
    want, have = (Explainer(onnxdtd.compile(source, preset, on_demand=asked), CPU)(x) for asked in (None, True))
    np.testing.assert_allclose(have.relevance["x"], want.relevance["x"], rtol=0, atol=1e-6 * np.abs(want.relevance["x"]).max())
    np.testing.assert_array_equal(have.logit, want.logit)


def test_cheap_convolutions_are_computed_afresh_and_dear_ones_are_read() -> None:
    assert read(compiled(residual())) == {"f", "g", "y"}
    asked = read(compiled(residual(size=5)))
    assert "d" in asked  # the rectified one, which ONNX Runtime computes at once with what it rectifies
    assert not asked & {"b", "c", "e", "s", "r"}


@pytest.mark.parametrize(("size", "again"), [(5, True), (31, False)])
def test_nothing_is_computed_afresh_for_predictions_that_take_so_long_that_reading_is_not_noticed(
    size: int, again: bool
) -> None:
    wide = eighths(np.random.default_rng(2), CHANNELS, CHANNELS, size, size)
    nodes = [
        node("Conv", "x w1", "a", pads=[size // 2] * 4),
        node("Relu", "a", "b"),
        node("Conv", "b w2", "c"),
        node("Relu", "c", "r"),
    ]
    asked = read(compiled(net(nodes, weights("w2", w1=wide), "r"), preset="lrp-epsilon"))
    assert "b" in asked
    assert ("r" in asked) != again


def test_weights_are_written_once_and_seen_inside() -> None:
    made = compiled(residual())
    assert [*Counter(t.name for t in made.graph.initializer).values()] == [1] * len(made.graph.initializer)
    assert not branch(made).initializer
    inside = {name for node in branch(made).node if node.op_type == "Sum" for name in node.input}
    assert inside == {"w1", "w2", "w3"}


def test_who_does_not_ask_has_the_graph_of_the_source(tmp_path: Path) -> None:
    source = residual()
    assert read(compiled(source))
    plain, asked = reordered(source, tmp_path), reordered(compiled(source), tmp_path)
    assert asked - plain == Counter({"If": 1})
    assert plain - asked == Counter()


def test_nothing_is_computed_afresh_where_nothing_is_in_blocks() -> None:
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("MatMul", "t w", "h"), node("Relu", "h", "r")]
    proto = net([*nodes, node("Transpose", "r", "s", perm=[0, 3, 1, 2])], {"w": np.eye(CHANNELS, dtype=np.float32)}, "s")
    flat, made = onnxdtd.compile(proto), compiled(proto)
    assert len(branch(made).node) == len(flat.graph.node) - len(proto.graph.node)
    open_sizes = residual()
    for dim in open_sizes.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "open"
    for value in open_sizes.graph.output:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    made = compiled(open_sizes)
    assert not [name for node in branch(made).node for name in node.output if name.endswith("/afresh")]


def test_what_leaves_the_blocks_anyway_is_read() -> None:
    """A position-wise MatMul behind a convolution reads the plain layout, of which there is a copy then."""
    nodes = [node("Conv", "x w1", "a"), node("Conv", "a w2", "b"), node("MatMul", "a m", "c"), node("Add", "b c", "s")]
    made = compiled(net(nodes, weights("w1", "w2", m=eighths(np.random.default_rng(4), 6, 6)), "s"), preset="lrp-epsilon")
    assert "a" in read(made)


WIDE, TOKENS = 256, 64  # so that what a token has is large, and products are dear


def attention(tokens: int | str = TOKENS) -> ModelProto:
    """A block of a transformer on x, [n, tokens, WIDE], with a Gelu spelled out and one head"""
    rng = np.random.default_rng(7)
    sizes = {"wq": WIDE, "wk": WIDE, "wv": WIDE, "wo": WIDE, "w1": 2 * WIDE}
    more = {name: rng.normal(size=(WIDE, n)).astype(np.float32) / 10 for name, n in sizes.items()}
    more |= {"w2": rng.normal(size=(2 * WIDE, WIDE)).astype(np.float32) / 10, "v": eighths(rng, WIDE, 3)}
    more |= {
        name: rng.normal(size=2 * WIDE if name == "b1" else WIDE).astype(np.float32) for name in ("s1", "t1", "s2", "t2", "b1")
    }
    more |= {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5), "tenth": np.float32(0.1)}
    nodes = [
        node("LayerNormalization", "x s1 t1", "n1", axis=-1),
        *(node("MatMul", f"n1 w{name}", name) for name in "qkv"),
        node("Transpose", "k", "kt", perm=[0, 2, 1]),
        node("MatMul", "q kt", "a"),
        node("Mul", "a tenth", "c"),
        node("Softmax", "c", "p", axis=-1),
        node("MatMul", "p v_", "m"),
        node("MatMul", "m wo", "o"),
        node("Add", "x o", "r"),
        node("LayerNormalization", "r s2 t2", "n2", axis=-1),
        node("MatMul", "n2 w1", "h0"),
        node("Add", "h0 b1", "h"),
        node("Div", "h root", "e0"),
        node("Erf", "e0", "e1"),
        node("Add", "e1 one", "e2"),
        node("Mul", "h e2", "e3"),
        node("Mul", "e3 half", "g"),
        node("MatMul", "g w2", "f"),
        node("Add", "r f", "z"),
        node("ReduceMean", "z", "mean", axes=[1], keepdims=0),
        node("MatMul", "mean v", "y"),
    ]
    for each in nodes:
        each.output[:] = ["v_" if name == "v" else name for name in each.output]
    return model(nodes, {"x": ["n", tokens, WIDE]}, ["y"], more, opset=17)


@pytest.mark.parametrize("tokens", [TOKENS, "t"])
@pytest.mark.parametrize("preset", ["dtd", "attnlrp", "cp-lrp", "lrp-epsilon", "gradient"])
def test_of_attention_large_products_are_read_and_what_is_made_of_them_is_computed_afresh(
    preset: str, tokens: int | str
) -> None:
    source = attention(tokens)
    flat, made = onnxdtd.compile(source, preset), compiled(source, preset=preset)
    assert read(made) <= {"q", "kt", "v_", "m", "o", "h0", "f"} | {"p", "mean", "y"}, (
        "products, and what is small or kept anyway"
    )
    x = np.random.default_rng(8).normal(size=(2, TOKENS, WIDE)).astype(np.float32)
    want, have = (Explainer(proto, CPU)(x) for proto in (flat, made))
    np.testing.assert_allclose(have.relevance["x"], want.relevance["x"], rtol=0, atol=2e-6 * np.abs(want.relevance["x"]).max())
    plain = ort.InferenceSession(source.SerializeToString(), providers=CPU).run(None, {"x": x})[0]
    np.testing.assert_array_equal(have.logit, plain.max(axis=1))


OF_TWO = {"Add": "a b", "Sum": "a b", "Mul": "a b", "Concat": "a b"}
FURTHER: dict[str, dict[str, Any]] = {
    "Concat": {"axis": 1},
    **{op: {"kernel_shape": [2, 2]} for op in ("MaxPool", "AveragePool")},
}


@pytest.mark.parametrize("op", sorted(op for op, entry in OPERATORS.items() if entry.blocked))
def test_an_operator_in_blocks_is(op: str, tmp_path: Path) -> None:
    """Between two convolutions nothing leaves the layout and comes back."""
    first, more = OF_TWO.get(op, "a"), weights("w1", "w2", "w3")
    if op == "Clip":
        first, more = "a low high", more | {"low": np.float32(0), "high": np.float32(6)}
    if op == "BatchNormalization":
        first, more = "a n n n n", more | {"n": np.ones(CHANNELS, np.float32)}
    if op == "Conv":
        first = "a w3"
    if op == "Concat":
        more["w3"] = eighths(np.random.default_rng(0), CHANNELS, 2 * CHANNELS, 1, 1)
    ways = [node("Conv", "x w1", "a"), node("Conv", "x w2", "b")][: 2 if op in OF_TWO else 1]
    made = reordered(net([*ways, node(op, first, "c", **FURTHER.get(op, {})), node("Conv", "c w3", "d")], more, "d"), tmp_path)
    if not made["ReorderOutput"]:
        pytest.skip("this processor has no convolutions on blocks of channels")
    assert made["ReorderOutput"] == 1
