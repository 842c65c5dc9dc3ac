"""Parts of a model: they compute what the whole does, from what is given, and hold nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import Session, eighths, model, node
from onnx import TensorProto, helper

from onnxdtd.graph.slices import behind, declared, kind, leading, sliced
from onnxdtd.graph.tensors import Tensor

FLOAT = TensorProto.FLOAT
X = np.arange(12, dtype=np.float32).reshape(2, 6) / 8 - 0.5


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return eighths(np.random.default_rng(seed), *shape)


def branching() -> onnx.ModelProto:
    """y = relu(x w) + b where its sum is positive (only there is ``b`` read), in halves of which one is squared."""
    taken = helper.make_graph(
        [helper.make_node("Add", ["h", "b"], ["t"])], "yes", [], [helper.make_tensor_value_info("t", FLOAT, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["h"], ["i"])], "no", [], [helper.make_tensor_value_info("i", FLOAT, None)]
    )
    nodes = [
        node("MatMul", "x w", "m"),
        node("Relu", "m", "h"),
        node("ReduceSum", "m", "s", keepdims=0),
        node("Greater", "s zero", "c"),
        helper.make_node("If", ["c"], ["r"], "r_node", then_branch=taken, else_branch=other),
        node("Split", "r", "left right", axis=1),
        node("Mul", "left left", "y"),
        node("MatMul", "x v", "aside"),
    ]
    values = {"w": weights(6, 4), "b": weights(4, seed=1), "v": weights(6, 2, seed=2), "zero": np.float32(0)}
    return model(nodes, {"x": ["n", 6]}, ["y", "aside"], values)


def test_a_part_gives_what_the_whole_gives() -> None:
    whole = branching()
    part = sliced(whole, [], {"y": FLOAT})
    assert [value.name for value in part.graph.output] == ["y"]
    assert "aside" not in {name for inner in part.graph.node for name in inner.output}
    assert {tensor.name for tensor in part.graph.initializer} == {"w", "b", "zero"}  # that of a branch, but not v
    np.testing.assert_array_equal(Session(part)(x=X)["y"], Session(whole)(x=X)["y"])


def test_what_is_given_is_not_computed() -> None:
    h = np.abs(weights(2, 4, seed=3))
    given = Tensor("h", dtype=np.dtype(np.float32), shape=["n", 4])
    part = sliced(branching(), [given], {"r": FLOAT})
    assert [(value.name, value.type.tensor_type.elem_type) for value in part.graph.input] == [("x", FLOAT), ("h", FLOAT)]
    assert "Relu" not in {inner.op_type for inner in part.graph.node}
    bias = weights(4, seed=1)
    positive = (X @ weights(6, 4)).sum() > 0
    np.testing.assert_array_equal(Session(part)(x=X, h=h)["r"], h + bias if positive else h)


def test_a_node_with_one_result_given_and_one_needed() -> None:
    """It stays for the other; its own name for what is given is another then."""
    given = Tensor("left", dtype=np.dtype(np.float32), shape=["n", 2])
    left = weights(2, 2, seed=4)
    found = Session(sliced(branching(), [given], {"y": FLOAT, "right": FLOAT}))(x=X, left=left)
    np.testing.assert_array_equal(found["y"], left * left)
    whole = Session(sliced(branching(), [], {"right": FLOAT}))(x=X)
    np.testing.assert_array_equal(found["right"], whole["right"])


def test_sparse_weights_go_along() -> None:
    proto = model([node("Neg", "x", "z")], {"x": [3]}, ["z"])
    proto.graph.node.insert(0, node("Identity", "s", "y"))
    values = helper.make_tensor("s", FLOAT, [1], [2.0])
    proto.graph.sparse_initializer.add(values=values, indices=helper.make_tensor("i", TensorProto.INT64, [1], [1]), dims=[3])
    assert [t.values.name for t in sliced(proto, [], {"y": FLOAT}).graph.sparse_initializer] == ["s"]
    assert not sliced(proto, [], {"z": FLOAT}).graph.sparse_initializer


@pytest.mark.parametrize(
    ("name", "found"),
    [("left", {"left", "y"}), ("b", {"b", "r", "left", "right", "y"}), ("v", {"v", "aside"}), ("y", {"y"})],
)
def test_what_depends_on_a_tensor(name: str, found: set[str]) -> None:
    assert behind(branching().graph.node, name) == found


def test_what_was_appended_is_gone() -> None:
    whole, longer = branching(), branching()
    longer.graph.node.append(node("Neg", "y", "more"))
    longer.graph.output.add(name="more")
    assert leading(longer, {"node": 8, "output": 2}) == whole
    assert leading(longer, {"output": 2}).graph.node == longer.graph.node
    assert leading(longer, {}) == longer
    assert len(longer.graph.output) == 3


@pytest.mark.parametrize("shape", [None, ["n", 4], []])
def test_a_tensor_is_declared_as_it_is(shape: list[int | str] | None) -> None:
    tensor = Tensor("t", dtype=np.dtype(np.float16), shape=shape)
    assert declared(tensor) == helper.make_tensor_value_info("t", TensorProto.FLOAT16, shape)
    assert kind(tensor) == TensorProto.FLOAT16
