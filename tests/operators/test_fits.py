"""Weights that do not fit their input: whatever a runtime refuses or fails on is refused here, by the name of the node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from nets import eighths, model, node, run
from onnx import ModelProto, helper, numpy_helper

import onnxdtd
from onnxdtd.errors import ModelError
from onnxdtd.graph import shapes
from onnxdtd.operators import fits

RNG = np.random.default_rng(0)


def net(op: str, x: list[int | str], weights: dict[str, tuple[int, ...]], opset: int = 17, **attrs: Any) -> ModelProto:
    """One layer, and a classifier behind it that fits whatever comes."""
    names = " ".join(weights)
    nodes = [node(op, f"x {names}", "h", **attrs), node("ReduceMean", "h", "m", keepdims=1), node("Add", "m c", "y")]
    constants = {name: np.abs(eighths(RNG, *shape)) for name, shape in weights.items()} | {"c": np.ones((1, 3), np.float32)}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [value("x", 1, x)], [value("y", 1, None)], [numpy_helper.from_array(v, k) for k, v in constants.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


FIT: dict[str, ModelProto] = {
    "Conv": net("Conv", ["n", 4, 5, 5], {"w": (6, 2, 3, 3), "b": (6,)}, group=2, kernel_shape=[3, 3]),
    "ConvTranspose": net("ConvTranspose", [1, 4, 5, 5], {"w": (4, 3, 3, 3), "b": (6,)}, group=2),
    "Gemm": net("Gemm", ["n", 4], {"w": (4, 3), "b": (1, 3)}),
    "Gemm with one bias": net("Gemm", ["n", 4], {"w": (4, 3), "b": ()}),
    "InstanceNormalization": net("InstanceNormalization", ["n", 4, 5, 5], {"g": (4,), "b": (4,)}),
    "LayerNormalization": net("LayerNormalization", ["n", 3, 4], {"g": (4,), "b": (3, 4)}, axis=1),
    "PRelu": net("PRelu", ["n", 4, 5, 5], {"s": (4, 1, 1)}),
    "BatchNormalization": net("BatchNormalization", ["n", 4, 5], {"s": (4,), "b": (4,), "mu": (4,), "v": (4,)}),
}
MISFITS: dict[str, ModelProto] = {
    "channels of a Conv": net("Conv", ["n", 4, 5, 5], {"w": (6, 3, 3, 3)}),
    "groups of a Conv": net("Conv", ["n", 4, 5, 5], {"w": (3, 2, 3, 3)}, group=2),
    "bias of a Conv": net("Conv", ["n", 4, 5, 5], {"w": (6, 4, 3, 3), "b": (5,)}),
    "kernel of a Conv": net("Conv", ["n", 4, 5, 5], {"w": (6, 4, 3, 3)}, kernel_shape=[2, 2]),
    "rank of a Conv": net("Conv", ["n", 4, 5], {"w": (6, 4, 3, 3)}),
    "channels of a ConvTranspose": net("ConvTranspose", [1, 4, 5, 5], {"w": (3, 3, 3, 3)}),
    "bias of a ConvTranspose": net("ConvTranspose", [1, 4, 5, 5], {"w": (4, 3, 3, 3), "b": (4,)}),
    "inner size of a Gemm": net("Gemm", ["n", 4], {"w": (5, 3)}),
    "bias of a Gemm": net("Gemm", ["n", 4], {"w": (4, 3), "b": (5,)}),
    "inner size of a MatMul": net("MatMul", ["n", 4], {"w": (5, 3)}),
    "an Add": net("Add", ["n", 4], {"w": (3,)}),
    "an InstanceNormalization": net("InstanceNormalization", ["n", 4, 5, 5], {"g": (3,), "b": (3,)}),
    "a LayerNormalization": net("LayerNormalization", ["n", 4], {"g": (3,)}),
    "a PRelu": net("PRelu", ["n", 4, 5, 5], {"s": (3, 1, 1)}),
    "a BatchNormalization": net("BatchNormalization", ["n", 4, 5], {"s": (3,), "b": (3,), "mu": (3,), "v": (3,)}),
    "a BatchNormalization that is converted": net(
        "BatchNormalization", ["n", 4, 5], {"s": (3,), "b": (3,), "mu": (3,), "v": (3,)}, opset=9
    ),
}


TYPES = {
    "a Not of floats": [node("Not", "x", "h"), node("Cast", "h", "y", to=1)],
    "a Sigmoid of integers": [node("ArgMax", "x", "a", axis=1), node("Sigmoid", "a", "h")],
    "a sum of two types": [node("Cast", "x", "d", to=11), node("Add", "d x", "h")],
    "a permutation of other axes": [node("Transpose", "x", "h", perm=[0, 1, 2])],
}


@pytest.mark.parametrize("name", TYPES)
def test_types_that_do_not_fit(name: str) -> None:
    value = helper.make_tensor_value_info
    nodes = [*TYPES[name], node("Identity", "h", "y")] if name != "a Not of floats" else TYPES[name]
    graph = helper.make_graph(nodes, "net", [value("x", 1, ["n", 4])], [value("y", 1, None)])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert not runs(proto)
    with pytest.raises(ModelError, match=r"^node 'h_node' \(\w+\): its inputs do not fit \(.*\), so no runtime runs it"):
        onnxdtd.compile(proto)


def test_an_attribute_that_there_is_not_is_said_of_its_node() -> None:
    proto = net("Gemm", ["n", 4], {"w": (4, 3)}, slope=2)
    with pytest.raises(ModelError, match=r"^not a valid ONNX graph: node 'h_node' \(Gemm\): Unrecognized attribute: slope"):
        onnxdtd.compile(proto)


def runs(proto: ModelProto) -> bool:
    """In ONNX Runtime."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    shape = [d.dim_value or 2 for d in proto.graph.input[0].type.tensor_type.shape.dim]
    try:
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
            None, {"x": np.ones(shape, np.float32)}
        )
    except Exception:  # whatever pybind gives
        return False
    return True


@pytest.mark.parametrize("name", FIT)
def test_what_runs_is_not_refused_for_its_weights(name: str) -> None:
    assert runs(FIT[name])
    fits.check(shapes.graph(FIT[name]))


@pytest.mark.parametrize("name", MISFITS)
def test_what_no_runtime_runs_is_refused_by_name(name: str) -> None:
    proto = MISFITS[name]
    assert not runs(proto)
    with pytest.raises(ModelError, match=rf"^node 'h_node' \({proto.graph.node[0].op_type}\): its .* so no runtime runs it"):
        onnxdtd.compile(proto)


def test_what_is_declared_of_inner_tensors_does_not_hide_it() -> None:
    """Exporters declare shapes that are not so: without them nothing would be known of what is behind."""
    nodes = [
        node("Gemm", "x w", "a"),
        node("Transpose", "a", "t"),
        node("BatchNormalization", "t s b m v", "n"),
        node("Transpose", "n", "y"),
    ]
    value = helper.make_tensor_value_info
    vectors = {name: np.ones(3, np.float32) for name in "sbmv"}
    weights = [numpy_helper.from_array(v, k) for k, v in {"w": eighths(RNG, 4, 3), **vectors}.items()]
    graph = helper.make_graph(nodes, "net", [value("x", 1, [1, 4])], [value("y", 1, [1, 3])], weights)
    graph.value_info.extend([value("a", 1, [1, 3]), value("t", 1, [3, 1]), value("n", 1, [3, 1])])
    for opset in (11, 17):
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        with pytest.raises(ModelError, match=r"node 'n_node' \(BatchNormalization\)"):
            onnxdtd.compile(proto)


def test_wrong_declarations_of_inner_tensors_are_not_believed() -> None:
    """Runtimes go by what they infer, and so do we: two rows of a batch that is not [1, 4]."""
    nodes = [node("Conv", "x k", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "r"), node("GlobalAveragePool", "r", "g")]
    nodes += [node("Flatten", "g", "f"), node("Gemm", "f v", "y")]
    proto = model(nodes, {"x": [2, 2, 4, 4]}, ["y"], {"k": eighths(RNG, 3, 2, 3, 3), "v": eighths(RNG, 3, 2)})
    x = eighths(RNG, 2, 2, 4, 4)
    expected = run(onnxdtd.compile(proto, "lrp-epsilon"), x=x)["relevance"]
    wrong = onnx.ModelProto()
    wrong.CopyFrom(proto)
    wrong.graph.value_info.append(helper.make_tensor_value_info("r", 1, [2, 3, 8, 8]))
    np.testing.assert_array_equal(run(onnxdtd.compile(wrong, "lrp-epsilon"), x=x)["relevance"], expected)
