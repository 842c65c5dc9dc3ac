"""If, Loop, sequences and optionals whose course is known are explained; in the file they stay as they are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import Session, eighths, node
from onnx import TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd.graph import unrolled

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
    assert list(compiled.graph.node)[: len(source.graph.node)] == list(source.graph.node)
    x = np.float32([[1, 2, -1, 3], [-1, 0, 2, -3]])
    found = Session(compiled)(x=x)
    np.testing.assert_array_equal(found["y"], Session(source)(x=x)["y"])
    weights = numpy_helper.to_array(WEIGHT)
    h = x @ weights
    slope = (h[:, 1:2] > 0) if condition else np.full((2, 1), -1.0 if nested else 1.0)
    np.testing.assert_array_equal(found["relevance"], slope * weights[:, 1])


@pytest.mark.parametrize("one", [np.float32(1), np.ones(1, np.float32)], ids=["scalar", "row"])
def test_a_constant_inside_of_a_branch_is_written_as_a_tensor(one: np.ndarray) -> None:
    """The ledger reads what the branch adds, and the file has it inside of the If only."""
    source = model(False, False)
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.asarray(one), "k"))
    added = branch("more", [constant, helper.make_node("Add", ["h", "k"], ["a"])], "a")
    source.graph.node[1].attribute[0].g.CopyFrom(added)
    compiled = onnxdtd.compile(source, "lrp-0", ledger=True, target=1)
    onnx.checker.check_model(compiled, full_check=True)
    book = onnxdtd.Explainer(compiled)(np.float32([[1, 2, -1, 3]])).ledger
    np.testing.assert_allclose(book.totals()["bias"] + book.totals()["constants"], [1.0], rtol=1e-6)


def test_a_condition_that_depends_on_the_input_is_refused() -> None:
    source = model(True, False)
    del source.graph.initializer[1]
    source.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    with pytest.raises(onnxdtd.Unsupported, match=r"If x1 \(y\): which of its branches is taken"):
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


SQUEEZED = [node("Shape", "a", "shape"), node("Gather", "shape one", "size", axis=0), node("Equal", "size one", "is_one")]


def net(nodes: list[onnx.NodeProto], x: list[int | str], arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A model of three classes"""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", x), ("y", [x[0], 3]))]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def same(nodes: list[onnx.NodeProto], plain: list[onnx.NodeProto], x: list[int | str], **weights: np.ndarray) -> None:
    """The one gives what the other gives: the output, and its relevance, to the bit; and its nodes stay as they are."""
    array = eighths(np.random.default_rng(5), *(size if isinstance(size, int) else 2 for size in x))
    made = [net(some, x, weights) for some in (nodes, plain)]
    compiled = [onnxdtd.compile(proto, "gradient", target=1) for proto in made]
    assert list(compiled[0].graph.node)[: len(nodes)] == list(made[0].graph.node)
    found, expected = (Session(proto)(x=array) for proto in compiled)
    assert np.abs(expected["relevance"]).max() > 0
    for name in ("y", "relevance"):
        np.testing.assert_array_equal(found[name], expected[name])


WEIGHTS = {"w": eighths(np.random.default_rng(1), 4, 4), "v": eighths(np.random.default_rng(2), 4, 3), "one": np.array(1)}


def test_a_squeeze_that_asks_for_the_size_of_its_axis() -> None:
    """As torch writes it; behind it, in the branch that is taken, the axis is gone."""
    yes = branch("yes", [node("Squeeze", "a axes", "s")], "s")
    no = branch("no", [node("Identity", "a", "i")], "i")
    first, last = node("MatMul", "x w", "a"), node("MatMul", "q v", "y")
    taken = helper.make_node("If", ["is_one"], ["q"], then_branch=yes, else_branch=no)
    plain = [first, node("Squeeze", "a axes", "q"), last]
    same([first, *SQUEEZED, taken, last], plain, ["n", 1, 4], axes=np.array([1]), **WEIGHTS)


def turn(stops: bool = False) -> onnx.GraphProto:
    """h becomes relu(h w) + h, and is handed out as well."""
    inside = [node("MatMul", "h w", "m"), node("Relu", "m", "r"), node("Add", "r h", "next"), node("Identity", "next", "each")]
    inside += [node("Less", "i one", "on")] if stops else [node("Identity", "goes_on", "on")]
    scalars = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", TensorProto.INT64), ("goes_on", 9))]
    ends = [helper.make_tensor_value_info("on", TensorProto.BOOL, []), value("next"), value("each")]
    return helper.make_graph(inside, "turn", [*scalars, value("h")], ends)


@pytest.mark.parametrize("stops", [False, True], ids=["by number", "by condition"])
def test_a_loop_with_a_known_number_of_turns(stops: bool) -> None:
    loop = helper.make_node("Loop", ["" if stops else "two", "", "x"], ["last", "all"], body=turn(stops))
    nodes = [
        loop,
        node("ReduceSum", "all zero", "summed", keepdims=0),
        node("Add", "summed last", "t"),
        node("MatMul", "t v", "y"),
    ]
    plain = []
    for i, (before, after) in enumerate((("x", "h1"), ("h1", "h2"))):
        plain += [node("MatMul", f"{before} w", f"m{i}"), node("Relu", f"m{i}", f"r{i}"), node("Add", f"r{i} {before}", after)]
    plain += [node("Unsqueeze", "h1 zero", "u1"), node("Unsqueeze", "h2 zero", "u2"), node("Concat", "u1 u2", "all", axis=0)]
    plain += [node("ReduceSum", "all zero", "summed", keepdims=0), node("Add", "summed h2", "t"), node("MatMul", "t v", "y")]
    same(nodes, plain, ["n", 4], two=np.array(2), zero=np.array([0]), **WEIGHTS)


def test_a_loop_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unrolled, "MOST_NODES", 50)
    loop = helper.make_node("Loop", ["many", "", "x"], ["last", ""], body=turn())
    proto = net([loop, node("MatMul", "last v", "y")], ["n", 4], {"many": np.array(2**40), **WEIGHTS})
    with pytest.raises(onnxdtd.Unsupported, match=r"Loop x1 \(last\)"):
        onnxdtd.compile(proto)


def test_sequences_and_optionals() -> None:
    """Columns split off, put in another order, one of them thrown away, and joined again."""
    nodes = [
        node("SplitToSequence", "x", "s", axis=1),
        node("SequenceAt", "s minus", "last"),
        node("SequenceErase", "s minus", "front"),
        node("Optional", "last", "maybe"),
        node("OptionalHasElement", "maybe", "there"),
        node("OptionalGetElement", "maybe", "again"),
        node("SequenceInsert", "front again zero", "turned"),
        node("SequenceErase", "turned one", "three"),
        node("SequenceLength", "three", "length"),
        node("Reshape", "length axes", "lengths"),
        node("ConcatFromSequence", "three", "c", axis=1),
        node("Slice", "c starts lengths axes", "d"),
        node("MatMul", "d v3", "m"),
    ]
    nodes += [helper.make_node("If", ["there"], ["y"], then_branch=branch("yes", [node("Relu", "m", "r")], "r"),
                               else_branch=branch("no", [node("Neg", "m", "g")], "g"))]  # fmt: skip
    picked = [node("Gather", "x order", "d", axis=1), node("MatMul", "d v3", "m"), node("Relu", "m", "y")]
    numbers = {"minus": np.array(-1), "zero": np.array(0), "axes": np.array([1]), "starts": np.array([0])}
    same(nodes, picked, ["n", 4], order=np.array([3, 1, 2]), v3=WEIGHTS["v"][:3], one=np.array(1), **numbers)


def test_branches_inside_of_branches_are_followed_so_far() -> None:
    """The name of a node without one becomes twice as long with each: of three kilobytes there would be gigabytes."""
    inner = branch("b0", [helper.make_node("Relu", ["h"], ["z0"])], "z0")
    for depth in range(1, 20):
        taken = helper.make_node(
            "If", ["c"], [f"z{depth}"], then_branch=inner, else_branch=inner if depth == 1 else _other(depth)
        )
        inner = branch(f"b{depth}", [taken], f"z{depth}")
    proto = model(True, False)
    proto.graph.node[-1].CopyFrom(helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=_other(0)))
    with pytest.raises(onnxdtd.Unsupported, match="which of its branches is taken") as refused:
        onnxdtd.compile(proto)
    assert len(str(refused.value)) < 10 * unrolled.MOST_NAME


def _other(depth: int) -> onnx.GraphProto:
    return branch("other", [helper.make_node("Identity", ["h"], [f"o{depth}"])], f"o{depth}")
