"""The predictor at another point: each of its tensors there is what it gives for the other input, to the last bit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from nets import FLOAT, Bench, integers, model, node
from onnx import ModelProto, TensorProto, helper

from onnxdtd.compiler.points import Point
from onnxdtd.errors import Unsupported
from onnxdtd.graph.spelled import views
from onnxdtd.graph.tensors import Tensor

RNG = np.random.default_rng(0)
HALF = np.dtype(np.float16)
W = {"w": integers(RNG, 4, 4), "b": integers(RNG, 4), "one": np.float32(1), "k": np.asarray([2]), "to": np.asarray([-1, 4])}


def choices() -> ModelProto:
    """Integers, truth values, several outputs, sizes, a mask that nobody reads."""
    nodes = [
        node("Greater", "x one", "large"),
        node("Where", "large x one", "cut"),
        node("TopK", "cut k", "top places", axis=1),
        node("ArgMax", "cut", "best", axis=1, keepdims=1),
        node("GatherElements", "cut best", "most", axis=1),
        node("Split", "top", "left right", axis=1),
        node("Dropout", "cut", "kept mask"),
        node("Shape", "kept", "size"),
        node("Reshape", "kept size", "same"),
        node("MatMul", "same w", "mixed"),
        node("Sum", "mixed left right most b", "y"),
    ]
    return model(nodes, {"x": ["n", 4]}, ["y"], W)


def quantised() -> ModelProto:
    """Whose integers are seen as floats."""
    kernel = integers(RNG, 4, 4).astype(np.int8)
    scales = {"s": np.float32(0.25), "zero": np.int8(1), "none": np.int8(0), "q": kernel, "t": np.float32(0.5)}
    nodes = [
        node("QuantizeLinear", "x s zero", "xq"),
        node("QLinearMatMul", "xq s zero q s none t zero", "yq"),
        node("DequantizeLinear", "yq t zero", "y"),
    ]
    return model(nodes, {"x": ["n", 4]}, ["y"], scales)


def unrolled() -> ModelProto:
    """A loop of three turns, one of them within an If whose condition is known."""
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("MatMul", "v w", "out")],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n", 4]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4]),
        ],
    )
    nodes = [node("Loop", "turns go0 x", "looped", body=body), node("Reshape", "looped to", "y")]
    return model(nodes, {"x": ["n", 4]}, ["y"], W | {"turns": np.asarray(3), "go0": np.asarray(True)})


def classifier() -> ModelProto:
    """Of another domain, whose scores it keeps to itself."""
    attrs = {"coefficients": [0.5, -1.0, 2.0, 1.0, -0.5, 0.25], "intercepts": [0.5, -0.5, 0.0], "classlabels_ints": [3, 1, 2]}
    made = helper.make_node(
        "LinearClassifier", ["z"], ["label", "p"], "lc", domain="ai.onnx.ml", post_transform="SOFTMAX", **attrs
    )
    scaler = helper.make_node("Scaler", ["x"], ["z"], "sc", domain="ai.onnx.ml", offset=[1.0, -1.0], scale=[0.5, 2.0])
    graph = helper.make_graph(
        [scaler, made],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]), helper.make_tensor_value_info("p", 1, ["n", 3])],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8
    )


def half() -> ModelProto:
    weights = {name: W[name].astype(HALF) for name in ("w", "b")}
    nodes = [node("MatMul", "x w", "z"), node("Add", "z b", "a"), node("Sigmoid", "a", "y")]
    return model(nodes, {"x": ["n", 4]}, ["y"], weights, HALF)


def at(bench: Bench, names: Sequence[str], x: np.ndarray, other: np.ndarray) -> tuple[dict[str, Any], Point]:
    """The tensors of these names where ``other`` is the input, of a run on ``x``."""
    e, tensors = bench.e, {t.name: t for made in views(bench.e, bench.nodes) for t in (*made.inputs, *made.outputs)}
    tensors |= bench.tensors
    given = bench.input("other", tensors["x"])
    point = Point(e, "there", lambda: {"x": given})
    copies = {f"copy_{i}": point.of(tensors[name]) for i, name in enumerate(names)}
    found = bench.session(copies)(x=x, other=other)
    return {name: found[f"copy_{i}"] for i, name in enumerate(names)}, point


@pytest.mark.parametrize("make", [choices, quantised, unrolled, classifier, half])
def test_every_tensor(make):
    """Those that depend on the input, whether of floats or not, seen in the file or not; and what they are seen as."""
    proto = make()
    bench = Bench(proto)
    seen = views(bench.e, bench.nodes)
    depends = {"x"}
    for each in bench.e.nodes + bench.nodes:
        if any(t.name in depends for t in each.inputs):
            depends.update(t.name for t in each.outputs if not t.left_out)
    assert len(seen) >= len(bench.nodes)
    size = bench.tensors["x"].shape[1]
    dtype = np.dtype(bench.tensors["x"].dtype)
    x, other = (np.random.default_rng(seed).normal(size=(3, size)).astype(dtype) * 3 for seed in (1, 2))
    names = sorted(depends)
    found, _ = at(bench, names, x, other)
    tensors = {t.name: t for made in (*seen, *bench.nodes) for t in (*made.inputs, *made.outputs)} | bench.tensors
    expected = bench.session({f"own_{i}": tensors[name] for i, name in enumerate(names)})
    wanted = expected(x=other, other=other)
    for i, name in enumerate(names):
        np.testing.assert_array_equal(found[name], wanted[f"own_{i}"], err_msg=name)
    assert any(not np.array_equal(found[name], expected(x=x, other=other)[f"own_{i}"]) for i, name in enumerate(names))


def test_what_does_not_depend_on_the_input_is_the_same_tensor():
    """Weights, what is computed of them, and sizes; and nothing is copied twice."""
    bench = Bench(choices())
    found, point = at(bench, ["y"], *(RNG.normal(size=(2, 2, 4)).astype(FLOAT)))
    assert found
    for name in ("w", "b", "size"):
        assert point.of(bench.tensors[name]) is bench.tensors[name]
    before = len(bench.e.nodes)
    assert point.of(bench.tensors["y"]) is not bench.tensors["y"]
    assert len(bench.e.nodes) == before
    assert all(made.name.startswith("dtd/there/") for made in bench.e.nodes)


def test_what_was_copied_is_forgotten_with_all_else():
    bench = Bench(choices())
    point = Point(bench.e, "there", lambda: {"x": bench.e.full(0.0, bench.e.shape(bench.tensors["x"]), FLOAT)})
    names = []
    for _ in range(2):
        with bench.e.forgetting():
            names.append([point.of(bench.tensors["y"]).name, *(made.name for made in bench.e.nodes)])
    assert names[0] == names[1]
    assert len(names[0]) > 5
    assert not bench.e.nodes


def test_deep():
    """No recursion."""
    nodes = [node("Add", f"{'x' if i == 0 else f't{i - 1}'} b", "y" if i == 2999 else f"t{i}") for i in range(3000)]
    bench = Bench(model(nodes, {"x": ["n", 4]}, ["y"], W))
    point = Point(bench.e, "there", lambda: {"x": Tensor("other", FLOAT, ["n", 4])})
    assert point.of(bench.tensors["y"]).name.startswith("dtd/there/y_node")
    assert len(bench.e.nodes) == 3000


def test_what_is_decided_at_run_time_is_refused():
    branch = lambda name: helper.make_graph(
        [node("Add" if name == "a" else "Sub", "x b", name)], name, [], [onnx.helper.make_tensor_value_info(name, 1, ["n", 4])]
    )
    nodes = [node("ReduceMax", "x", "high", keepdims=0), node("Greater", "high one", "go")]
    nodes += [node("If", "go", "y", then_branch=branch("a"), else_branch=branch("c"))]
    bench = Bench(model(nodes, {"x": ["n", 4]}, ["y"], W))
    point = Point(bench.e, "there", lambda: {"x": Tensor("other", FLOAT, ["n", 4])})
    with pytest.raises(Unsupported, match="decided at run time"):
        point.of(bench.tensors["y"])
