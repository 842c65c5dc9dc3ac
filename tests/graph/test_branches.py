"""If with a constant condition: the branch taken takes its place, and the prediction stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import Session
from onnx import TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd.contract import read_metadata

WEIGHT = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3) - 5, "w")


def value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def branch(name: str, nodes: list[onnx.NodeProto], result: str, weights: list[TensorProto] | None = None) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [value(result)], weights or [])


def model(condition: bool, as_node: bool, nested: bool = False) -> onnx.ModelProto:
    """y = relu(x w) where the condition holds, else x w itself."""
    constant = numpy_helper.from_array(np.asarray(condition), "c")
    yes = branch("yes", [helper.make_node("Relu", ["h"], ["r"])], "r")
    no = branch("no", [helper.make_node("Identity", ["h"], ["i"])], "i")
    if nested:
        yes = branch("outer", [helper.make_node("If", ["c"], ["q"], then_branch=yes, else_branch=no)], "q")
        no = branch("other", [helper.make_node("Neg", ["h"], ["m"])], "m")
    nodes = [helper.make_node("Constant", [], ["c"], value=constant)] if as_node else []
    nodes += [helper.make_node("MatMul", ["x", "w"], ["h"])]
    nodes += [helper.make_node("If", ["c"], ["y"], then_branch=yes, else_branch=no)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 4), ("y", 3)))
    graph = helper.make_graph(nodes, "net", [x], [y], [WEIGHT] + ([] if as_node else [constant]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("as_node", [False, True], ids=["initializer", "node"])
@pytest.mark.parametrize("condition", [True, False])
def test_prediction_and_gradient(condition: bool, as_node: bool, nested: bool) -> None:
    source = model(condition, as_node, nested)
    compiled = onnxdtd.compile(source, "gradient", target=1)
    onnx.checker.check_model(compiled, full_check=True)
    assert "If" not in {node.op_type for node in compiled.graph.node}
    x = np.float32([[1, 2, -1, 3], [-1, 0, 2, -3]])
    found = Session(compiled)(x=x)
    np.testing.assert_array_equal(found["y"], Session(source)(x=x)["y"])
    weights = numpy_helper.to_array(WEIGHT)
    h = x @ weights
    slope = (h[:, 1:2] > 0) if condition else np.full((2, 1), -1.0 if nested else 1.0)
    np.testing.assert_array_equal(found["relevance"], slope * weights[:, 1])


def test_the_change_is_recorded() -> None:
    compiled = onnxdtd.compile(model(True, False))
    changes = read_metadata(compiled)["changes"]
    assert changes == ["1 If with a constant condition replaced by the branch taken"]


def test_a_condition_that_depends_on_the_input_is_refused() -> None:
    source = model(True, False)
    del source.graph.initializer[1]
    source.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    with pytest.raises(onnxdtd.Unsupported, match=r"If x1 \(y\): there is no rule for this operator"):
        onnxdtd.compile(source)


def test_a_condition_that_a_caller_may_override_is_no_constant() -> None:
    source = model(True, False)
    source.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    with pytest.raises(onnxdtd.Unsupported, match="If"):
        onnxdtd.compile(source)


def test_an_inner_if_that_reads_what_the_outer_branch_computes() -> None:
    """The outer branch's result gets the name of the If; the inner one, which stays, must follow."""
    inner = [branch(name, [helper.make_node(op, ["r"], [name])], name) for name, op in (("a", "Neg"), ("b", "Abs"))]
    nodes = [
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("If", ["d"], ["q"], then_branch=inner[0], else_branch=inner[1]),
    ]
    source = model(True, False)
    del source.graph.node[:]
    outer = helper.make_graph(nodes, "outer", [], [value("q"), value("r")])
    other = helper.make_graph(
        [helper.make_node(op, ["h"], [op]) for op in ("Neg", "Abs")], "other", [], [value("Neg"), value("Abs")]
    )
    made = [helper.make_node("MatMul", ["x", "w"], ["h"])]
    made += [helper.make_node("If", ["c"], ["unused", "y"], then_branch=outer, else_branch=other)]
    source.graph.node.extend(made)
    source.graph.input.append(helper.make_tensor_value_info("d", TensorProto.BOOL, []))
    x = np.float32([[1, 2, -1, 3]])
    found = Session(onnxdtd.compile(source))(x=x, d=np.asarray(True))
    np.testing.assert_array_equal(found["y"], Session(source)(x=x, d=np.asarray(True))["y"])
