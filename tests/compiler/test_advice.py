"""Every way out that a refusal advises is followed here and leads to a model that runs; without one, none is advised."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node, run
from onnx import ModelProto, TensorProto, helper

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import ModelError, OnnxdtdError, RequestError, Unsupported

RNG = np.random.default_rng(0)


def refusal(proto: ModelProto, **request: Any) -> OnnxdtdError:
    with pytest.raises(OnnxdtdError) as caught:
        onnxdtd.compile(proto, **request)
    return caught.value


def advised(text: str) -> tuple[list[str], list[str]]:
    """The tensors and the allowances that a message advises, each once."""
    words = r"('[^']+'|[^\s;,]+)"
    found = ([shlex.split(word)[0] for word in re.findall(f"{option} {words}", text)] for option in ("--output", "--allow"))
    outputs, allowances = (list(dict.fromkeys(words)) for words in found)
    return outputs, [word.removesuffix("=pass") for word in allowances if word.endswith("=pass")]


def followed(proto: ModelProto, error: OnnxdtdError, **request: Any) -> Iterator[ModelProto]:
    """The models that compile when the advice is taken: each output or end by itself, all allowances at once."""
    outputs, allowances = advised(str(error))
    for name in outputs:
        yield onnxdtd.compile(proto, output=name, **request)
    for name in re.findall(r"--from ('[^']+'|[^\s;,]+)", str(error)):
        yield onnxdtd.compile(proto, from_=shlex.split(name), **request)
    if allowances:
        yield onnxdtd.compile(proto, allow=dict.fromkeys(allowances, "pass"), **request)


# ------------------------------------------------------------------------------------------------------- models refused


def dense(*more: onnx.NodeProto, **weights: np.ndarray) -> ModelProto:
    """Gemm, whatever comes in between, Gemm."""
    nodes = [node("Gemm", "x w", "a"), *more, node("Gemm", "h v", "y")]
    return model(nodes, {"x": ["n", 4]}, ["y"], {"w": eighths(RNG, 4, 4), "v": eighths(RNG, 4, 3), **weights})


def largest() -> ModelProto:
    return dense(node("Hardmax", "a", "h"))


def two_of_one_operator() -> ModelProto:
    """A normalisation in training mode is refused, one in evaluation mode is not: the advice is about the node."""
    vectors = {name: np.ones(4, np.float32) for name in "gcms"}
    late = node("BatchNormalization", "b g c m s", "h rm rs", training_mode=1)
    return dense(node("BatchNormalization", "a g c m s", "b"), late, **vectors)


def one_kind_twice() -> ModelProto:
    return dense(node("Hardmax", "a", "b"), node("RandomNormalLike", "b", "c"), node("Hardmax", "c", "h"))


def lstm(front: bool = True, sequence: str = "Y_h") -> ModelProto:
    """A recurrent layer over five steps, behind a dense layer, or first."""
    nodes = [node("Gemm", "x w0", "a"), node("Reshape", "a steps", "s")] if front else [node("Reshape", "x steps", "s")]
    nodes.append(node("LSTM", "s w r", "all last", hidden_size=3, clip=3.0))
    if sequence == "Y_h":
        nodes.append(node("Squeeze", "last zero", "h"))
    else:
        nodes += [node("Squeeze", "all one", "t"), node("Gather", "t end", "h", axis=0)]
    weights = {
        "w0": eighths(RNG, 10, 10), "steps": np.asarray([5, -1, 2]), "w": eighths(RNG, 1, 12, 2), "r": eighths(RNG, 1, 12, 3),
        "zero": np.asarray([0]), "one": np.asarray([1]), "end": np.asarray(-1), "v": eighths(RNG, 3, 3),
    }  # fmt: skip
    return model([*nodes, node("Gemm", "h v", "y")], {"x": [4, 10]}, ["y"], weights)


def threshold() -> ModelProto:
    """The class, or -1 where no probability is high."""
    nodes = [
        node("Gemm", "x w", "z"), node("Softmax", "z", "p", axis=1), node("ReduceMax", "p", "m", axes=[1], keepdims=0),
        node("ArgMax", "p", "a", axis=1, keepdims=0), node("Less", "m t", "l"), node("Where", "l minus a", "y"),
    ]  # fmt: skip
    constants = {"w": eighths(RNG, 4, 3), "t": np.float32(0.5), "minus": np.asarray(-1)}
    return model(nodes, {"x": ["n", 4]}, ["y"], constants)


def scores_inside() -> ModelProto:
    """A mask as output, and scores that only a branch inside of the model has."""
    nodes = [
        node("Conv", "x k", "c"),
        node("Greater", "c zero", "m"),
        node("Cast", "m", "y", to=1),
        node("GlobalAveragePool", "c", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f v", "unused"),
    ]
    return model(
        nodes, {"x": ["n", 2, 4, 4]}, ["y"], {"k": eighths(RNG, 3, 2, 3, 3), "v": eighths(RNG, 3, 2), "zero": np.float32(0)}
    )


def spaces_in_names() -> ModelProto:
    proto = largest()
    for item in proto.graph.node:
        for names in (item.input, item.output):
            names[:] = ["my tensor" if name == "a" else name for name in names]
    return proto


def forest(features: str = "x", front: Sequence[onnx.NodeProto] = ()) -> ModelProto:
    """A stump with two features and two classes, so that even the shapes agree."""
    where = {"nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0] * 3, "nodes_values": [0.5, 0.0, 0.0]}
    split = {"nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0]}
    votes = {"class_treeids": [0, 0], "class_nodeids": [1, 2], "class_ids": [0, 1], "class_weights": [1.0, 1.0]}
    stump = node(
        "TreeEnsembleClassifier", f"{features} label", "y", domain="ai.onnx.ml", classlabels_int64s=[0, 1],
        post_transform="NONE", **where, **split, **votes,
    )  # fmt: skip
    stump.input.pop()
    stump.output[:] = ["label", "y"]
    return of_ml([*front, stump])


def support_vectors() -> ModelProto:
    vectors = {"support_vectors": [0.0, 1.0, 1.0, 0.0], "vectors_per_class": [1, 1], "coefficients": [1.0, -1.0], "rho": [0.0]}
    machine = helper.make_node(
        "SVMClassifier", ["x"], ["label", "y"], "machine", domain="ai.onnx.ml", kernel_type="RBF",
        kernel_params=[0.0, 0.0, 0.0], classlabels_ints=[0, 1], post_transform="NONE", **vectors,
    )  # fmt: skip
    return of_ml([machine])


def of_ml(nodes: Sequence[onnx.NodeProto], rows: int = 2) -> ModelProto:
    """A model [n, 2] → y [n, 2] with a weight [rows, 2]."""
    value = helper.make_tensor_value_info
    inputs, outputs = [value("x", TensorProto.FLOAT, ["n", 2])], [value("y", TensorProto.FLOAT, ["n", 2])]
    weights = [onnx.numpy_helper.from_array(eighths(RNG, rows, 2), "w")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(helper.make_graph(nodes, "ml", inputs, outputs, weights), opset_imports=opsets, ir_version=8)


def choice() -> ModelProto:
    """One-hot of where the smallest number is: scores that depend on the input by a choice."""
    nodes = [node("ArgMin", "x", "least", axis=1, keepdims=0), node("OneHot", "least depth values", "y")]
    constants = {"depth": np.asarray(4), "values": np.asarray([0, 1], np.float32)}
    return model(nodes, {"x": ["n", 4]}, ["y"], constants)


def shrunk() -> ModelProto:
    """A number a matrix, which is another shape."""
    nodes = [node("Conv", "x k", "c"), node("Det", "c", "p"), node("Gemm", "p v", "y")]
    return model(nodes, {"x": ["n", 1, 4, 4]}, ["y"], {"k": eighths(RNG, 3, 1, 3, 3), "v": eighths(RNG, 3, 2)})


def switch() -> ModelProto:
    """Two whole classifiers, and an input that chooses one of them."""
    value = helper.make_tensor_value_info
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Gemm", ["x", f"w{name}"], [f"y{name}"])],
            name,
            [],
            [value(f"y{name}", TensorProto.FLOAT, ["n", 3])],
        )
        for name in ("then", "else")
    }
    inputs = [value("x", TensorProto.FLOAT, ["n", 4]), value("flag", TensorProto.BOOL, [])]
    weights = [onnx.numpy_helper.from_array(eighths(RNG, 4, 3), f"w{name}") for name in ("then", "else")]
    nodes = [helper.make_node("If", ["flag"], ["y"], "switch", **branches)]
    graph = helper.make_graph(nodes, "net", inputs, [value("y", TensorProto.FLOAT, ["n", 3])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def custom(declared: bool = False, opset: int = 17) -> ModelProto:
    """An operator of somebody's own."""
    value = helper.make_tensor_value_info
    nodes = [
        node("Gemm", "x w", "a"),
        helper.make_node("Shift", ["a"], ["q"], "shift", domain="my.ops"),
        node("Gemm", "q v", "y"),
    ]
    weights = [onnx.numpy_helper.from_array(eighths(RNG, *shape), name) for name, shape in (("w", (4, 5)), ("v", (5, 3)))]
    inputs, outputs = [value("x", TensorProto.FLOAT, ["n", 4])], [value("y", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    graph.value_info.extend([value("q", TensorProto.FLOAT, ["n", 5])] if declared else [])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("my.ops", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


Case = tuple[Callable[[], ModelProto], list[str], list[str], str]
HELPED: list[Case] = [  # the tensors that can be explained instead, what can be allowed, why nothing can
    (largest, ["a"], ["Hardmax"], ""),
    (two_of_one_operator, ["b", "a"], ["h_node"], ""),
    (one_kind_twice, ["a"], ["Hardmax", "RandomNormalLike"], ""),
    (spaces_in_names, ["my tensor"], ["Hardmax"], ""),
    (lstm, ["a"], [], "--allow does not help, since its input 's' is [5, 4, 2] and its output 'last' is [1, 4, 3]"),
    (threshold, ["z"], [], "inner tensors that can be explained: --output z"),
    (scores_inside, ["unused", "f", "g"], [], "inner tensors that can be explained"),
    (lambda: forest("h", [node("MatMul", "x w", "h")]), ["h"], [], "trees"),
    (lambda: custom(declared=True), ["a"], ["Shift"], ""),
]


@pytest.mark.parametrize(("make", "outputs", "allowances", "reason"), HELPED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_advised_works(make: Callable[[], ModelProto], outputs: list[str], allowances: list[str], reason: str) -> None:
    proto = make()
    error = refusal(proto)
    assert advised(str(error)) == (outputs, allowances)
    assert reason in str(error)
    made = list(followed(proto, error))
    assert len(made) == len(outputs) + str(error).count("--from") + bool(allowances)
    if "my.ops" in {entry.domain for entry in proto.opset_import}:
        return  # no runtime here has that operator
    x = proto.graph.input[0]
    shape = [d.dim_value or 2 for d in x.type.tensor_type.shape.dim]
    values = eighths(RNG, *shape)
    for compiled in made:
        relevance = run(compiled, **{x.name: values})["relevance"]
        assert relevance.shape == tuple(shape) or read_metadata(compiled).get("from_")
        assert np.isfinite(relevance).all()
        assert relevance.any()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: lstm(front=False), "its input 's' is [5, 4, 2] and its output 'last' is [1, 4, 3]"),
        (lambda: lstm(front=False, sequence="Y"), "its output 'all' is [5, 1, 4, 3]"),
        (shrunk, "its input 'c' is [n, 3, 2, 2] and its output 'p' is [n, 3]"),
        (forest, "relevance is not defined on trees, which are constant almost everywhere; people use TreeSHAP"),
        (support_vectors, "relevance is not defined on support vector machines of this kind; people use KernelSHAP"),
        (choice, "relevance is not defined on what ArgMin chooses; people use KernelSHAP"),
        (switch, "it reads 'x' from inside of its branches; make its condition 'flag' a constant"),
    ],
    ids=[
        "lstm",
        "lstm over all steps",
        "another shape",
        "trees",
        "svm",
        "choice",
        "if",
    ],
)
def test_where_nothing_helps_nothing_is_advised(make: Callable[[], ModelProto], reason: str) -> None:
    """And what cannot be advised is refused when asked for, with the same reason."""
    proto = make()
    error = refusal(proto)
    assert advised(str(error)) == ([], [])
    assert reason in str(error)
    if isinstance(error, Unsupported):
        (problem,) = error.problems
        for key in (problem.op.rpartition(".")[2], problem.node):
            with pytest.raises(RequestError, match=re.escape(f"--allow {key}=pass: ")) as caught:
                onnxdtd.compile(proto, allow={key: "pass"})
            assert reason in str(caught.value)


def test_of_what_has_no_relevance_nothing_else_is_said() -> None:
    """Another node without a rule behind it makes no difference."""
    proto = support_vectors()
    proto.graph.node[0].output[1] = "s"
    proto.graph.node.append(node("Hardmax", "s", "y"))
    (problem,) = refusal(proto).problems
    assert (problem.op, problem.reason) == (
        "ai.onnx.ml.SVMClassifier",
        "relevance is not defined on support vector machines of this kind",
    )
    assert problem.way_out == "people use KernelSHAP (shap.KernelExplainer), which takes any function"


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        ([node("TopK", "x one", "v i", axis=1), node("OneHot", "i depth values", "n"), node("Squeeze", "n one", "y")], "TopK"),
        ([node("Greater", "x half", "g"), node("Cast", "g", "y", to=TensorProto.FLOAT)], "Greater"),
    ],
    ids=["neighbours", "steps"],
)
def test_scores_by_label_that_hang_on_a_choice(nodes: list[onnx.NodeProto], what: str) -> None:
    """As scikit-learn's neighbours and bins are written; the arg-max that gives the label is none of it."""
    label = [node("ArgMax", "y", "label", axis=1, keepdims=0)]
    proto = of_ml([*nodes, *label, node("ZipMap", "y", "z", domain="ai.onnx.ml", classlabels_int64s=[0, 1])])
    constants = {"one": np.array([1]), "depth": np.array(2), "values": np.float32([0, 1]), "half": np.float32(0.5)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    scores = helper.make_sequence_type_proto(helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, None)))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    proto.graph.output.append(helper.make_value_info("z", scores))
    assert f"relevance is not defined on what {what} chooses; people use KernelSHAP" in str(refusal(proto))


def test_the_walk_ends_where_all_columns_are() -> None:
    """Behind bins of many columns, each by itself, at what holds them all and not at the first of them."""
    names = [f"b{i}" for i in range(20)]
    bins = [n for i, b in enumerate(names) for n in (node("Less", f"x c{i}", f"l{i}"), node("Cast", f"l{i}", b, to=1))]
    nodes = [*bins, node("Concat", " ".join(names), "bins", axis=1), node("MatMul", "bins w", "y")]
    edges = {f"c{i}": np.float32([i]) for i in range(20)}
    proto = model(nodes, {"x": ["n", 1]}, ["y"], {**edges, "w": np.ones((20, 3), np.float32)})
    with pytest.raises(ModelError, match=r"--from bins$"):
        onnxdtd.compile(proto, "lrp-epsilon")
    onnxdtd.compile(proto, "lrp-epsilon", from_=["bins"])


def test_what_may_pass_and_what_may_not() -> None:
    """If one of two nodes has no way out, a way around the other leads nowhere."""
    proto = dense(node("Hardmax", "a", "b"), node("Unique", "b", "u"), node("Reshape", "u rows", "h"), rows=np.asarray([-1, 4]))
    error = refusal(proto)
    assert advised(str(error)) == (["a"], [])
    list(followed(proto, error))


def test_an_operator_of_ones_own_may_pass_once_its_shape_is_declared() -> None:
    for opset in (13, 17):
        text = str(refusal(custom(opset=opset)))
        assert "my.ops.Shift x1 (shift)" in text
        assert "the shape of its output 'q' is not known; declare it in the model if it is that of 'a'" in text
        assert advised(text) == (["a"], [])
    assert onnxdtd.compile(custom(declared=True), allow={"shift": "pass"}).graph.output[-1].name


def test_an_if_on_a_constant_is_the_branch_taken() -> None:
    """As the refusal of one on an input advises."""
    proto = switch()
    flag = next(value for value in proto.graph.input if value.name == "flag")
    proto.graph.input.remove(flag)
    proto.graph.initializer.append(helper.make_tensor("flag", TensorProto.BOOL, [], [True]))
    x = eighths(RNG, 2, 4)
    weight = onnx.numpy_helper.to_array(proto.graph.initializer[0])
    result = run(onnxdtd.compile(proto, "gradient"), x=x)
    np.testing.assert_array_equal(result["relevance"], weight.T[result["y"].argmax(1)])


def test_advice_keeps_to_the_request() -> None:
    """A class that there is not, a tensor to keep behind the obstacle: there following would fail."""
    text = str(refusal(largest(), target=7))
    assert advised(text) == ([], [])
    assert "there is no way around it for what is asked" in text
    assert advised(str(refusal(threshold(), target=7))) == ([], [])
    assert advised(str(refusal(largest(), keep=["h"]))) == ([], ["Hardmax"])
    assert advised(str(refusal(one_kind_twice(), allow={"RandomNormalLike": "pass"}))) == ([], ["Hardmax"])


def test_large_weights_take_part_in_trying() -> None:
    """What is tried has them left out, and computes shapes from small ones all the same."""
    nodes = [node("Gemm", "x w", "a"), node("Hardmax", "a", "h"), node("Reshape", "h flat", "r"), node("Gemm", "r v", "y")]
    weights = {"w": eighths(RNG, 64, 64), "flat": np.asarray([-1, 64]), "v": eighths(RNG, 64, 32)}
    proto = model(nodes, {"x": ["n", 64]}, ["y"], weights)
    error = refusal(proto)
    assert advised(str(error)) == (["a"], ["Hardmax"])
    list(followed(proto, error))


# ------------------------------------------------------------------------------------------------------------- allowances


def test_a_node_may_pass_by_its_name() -> None:
    """And no other of its operator."""
    proto = one_kind_twice()
    error = refusal(proto, allow={"b_node": "pass", "RandomNormalLike": "pass"})
    assert [(problem.op, problem.node) for problem in error.problems] == [("Hardmax", "h_node")]
    allowed = {"b_node": "pass", "c_node": "pass", "h_node": "pass"}
    compiled = onnxdtd.compile(proto, allow=allowed)
    assert read_metadata(compiled)["allow"] == allowed
    x = eighths(RNG, 2, 4)
    by_operator = onnxdtd.compile(proto, allow={"Hardmax": "pass", "RandomNormalLike": "pass"})
    np.testing.assert_array_equal(run(compiled, x=x)["relevance"], run(by_operator, x=x)["relevance"])


def test_what_may_pass_is_part_of_no_layer() -> None:
    """A BatchNormalization behind a layer is merged with it, unless somebody decides on it."""
    vectors = {name: np.ones(4, np.float32) for name in ("g", "b", "m", "s")}
    proto = dense(node("BatchNormalization", "a g b m s", "h"), **vectors)
    x = eighths(RNG, 2, 4)
    passed = run(onnxdtd.compile(proto, "lrp-0", allow={"h_node": "pass"}, keep=["a"]), x=x)
    merged = read_metadata(onnxdtd.compile(proto, "lrp-0", allow={"BatchNormalization": "pass"}))
    assert list(merged["rules"]) == ["a_node", "y_node"]
    np.testing.assert_array_equal(passed["relevance/a"].shape, (2, 4))
    above = run(onnxdtd.compile(proto, "lrp-0", allow={"h_node": "pass"}, keep=["h", "a"]), x=x)
    np.testing.assert_array_equal(above["relevance/a"], above["relevance/h"])


def test_relevance_may_come_by_a_later_output() -> None:
    """An LSTM over one step whose last state, its second output, has the shape of its input."""
    weights = {"w": eighths(RNG, 1, 12, 3), "r": eighths(RNG, 1, 12, 3), "zero": np.asarray([0]), "v": eighths(RNG, 3, 2)}
    nodes = [node("LSTM", "x w r", "all last", hidden_size=3, clip=3.0), node("Squeeze", "last zero", "h")]
    nodes.append(node("Gemm", "h v", "y"))
    proto = model(nodes, {"x": [1, 4, 3]}, ["y"], weights)
    error = refusal(proto, preset="lrp-0")
    assert advised(str(error)) == ([], ["LSTM"])
    for compiled in followed(proto, error, preset="lrp-0", keep=["h"]):
        result = run(compiled, x=eighths(RNG, 1, 4, 3))
        np.testing.assert_array_equal(result["relevance"][0], result["relevance/h"])


def test_several_inputs_or_outputs_cannot_pass() -> None:
    several = dense(node("Tanh", "a", "b"), node("Mod", "a b", "h", fmod=1))
    with pytest.raises(RequestError, match="several of its inputs depend on the explained one: 'a', 'b'"):
        onnxdtd.compile(several, allow={"Mod": "pass"})
    nodes = [node("Split", "x", "a b", axis=1, num_outputs=2), node("Concat", "b a", "h", axis=1), node("Gemm", "h v", "y")]
    proto = model(nodes, {"x": ["n", 4]}, ["y"], {"v": eighths(RNG, 4, 2)}, opset=18)
    with pytest.raises(RequestError, match="it moves entries"):
        onnxdtd.compile(proto, allow={"Split": "pass"})
    proto = model(
        [node("LSTM", "x w r", "all last", hidden_size=3, clip=3.0), node("Squeeze", "all one", "s"),
         node("Add", "s last", "h"),
         node("Squeeze", "h zero", "f"), node("Gemm", "f v", "y")],
        {"x": [1, 4, 3]}, ["y"],
        {"w": eighths(RNG, 1, 12, 3), "r": eighths(RNG, 1, 12, 3), "zero": np.asarray([0]), "one": np.asarray([1]),
         "v": eighths(RNG, 3, 2)},
    )  # fmt: skip
    with pytest.raises(RequestError, match="several of its outputs have relevance: 'all', 'last'"):
        onnxdtd.compile(proto, allow={"LSTM": "pass"})


def test_what_moves_entries_cannot_pass_though_the_shape_stays() -> None:
    nodes = [node("Conv", "x k", "a"), node("GridSample", "a grid", "h"), node("Flatten", "h", "f"), node("Gemm", "f v", "y")]
    weights = {"k": eighths(RNG, 1, 1, 1, 1), "grid": eighths(RNG, 1, 2, 2, 2), "v": eighths(RNG, 4, 3)}
    proto = model(nodes, {"x": [1, 1, 2, 2]}, ["y"], weights)
    assert advised(str(refusal(proto))) == ([], [])
    with pytest.raises(RequestError, match="it moves entries, so that relevance would end in the wrong place"):
        onnxdtd.compile(proto, allow={"GridSample": "pass"})


def test_an_allowance_that_nothing_needs_comes_with_a_suggestion() -> None:
    with pytest.raises(
        RequestError, match=r"--allow h_nod=pass: relevance meets no operator or node 'h_nod'; did you mean 'h_node'"
    ):
        onnxdtd.compile(largest(), allow={"Hardmax": "pass", "h_nod": "pass"})
    onnxdtd.compile(largest(), allow={"h_node": "pass"})


# -------------------------------------------------------------------------------------------------------- what is explained


def test_an_input_is_no_output() -> None:
    for proto, name in ((largest(), "x"), (switch(), "flag")):
        with pytest.raises(RequestError, match=f"--output '{name}': is an input of the model"):
            onnxdtd.compile(proto, output=name)


def test_only_outputs_that_can_be_explained_are_offered() -> None:
    nodes = [node("Gemm", "x w", "y"), node("Gemm", "x v", "z"), node("Reshape", "x s", "map"), node("Relu", "c", "fixed")]
    weights = {"w": eighths(RNG, 4, 3), "v": eighths(RNG, 4, 2), "s": np.asarray([-1, 1, 2, 2]), "c": eighths(RNG, 1, 2)}
    proto = model(nodes, {"x": ["n", 4]}, ["y", "z", "map", "fixed"], weights)
    error = refusal(proto)
    assert str(error).endswith("choose one with --output: y [n, 3]; z [n, 2]")
    for name in ("y", "z"):
        onnxdtd.compile(proto, output=name)


def test_an_inner_tensor_that_cannot_be_explained_comes_with_others() -> None:
    proto = scores_inside()
    error = refusal(proto, output="y")
    assert isinstance(error, ModelError)
    outputs, _ = advised(str(error))
    assert outputs == ["unused", "f", "g"]
    for name in outputs:
        onnxdtd.compile(proto, output=name)


# --------------------------------------------------------------------------------------------------------- other refusals


def test_names_like_the_one_asked_for_can_be_explained() -> None:
    """Never a weight or an input, though their names may be more alike."""
    proto = largest()
    for old, new in (("x", "score_x"), ("w", "score_w")):
        for item in proto.graph.node:
            item.input[:] = [new if name == old else name for name in item.input]
        for value in (*proto.graph.input, *proto.graph.initializer):
            value.name = new if value.name == old else value.name
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "scores"
    text = str(refusal(proto, output="score"))
    assert text.endswith("; did you mean 'scores'?")
    onnxdtd.compile(proto, output="scores")


def test_an_entry_for_what_no_other_matches(tmp_path: Any) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[preset.p]\nlayers = [{ name = 'a_*', rule = 'z' }]\n")
    text = str(refusal(dense(node("Relu", "a", "h")), preset=str(file)))
    assert text.endswith("; write an entry without conditions, { rule = ... }, as its last")
    file.write_text("[preset.p]\nlayers = [{ name = 'a_*', rule = 'z' }, { rule = 'z+' }]\n")
    onnxdtd.compile(dense(node("Relu", "a", "h")), str(file))


def test_a_normalisation_in_evaluation_mode() -> None:
    vectors = {name: np.ones(4, np.float32) for name in ("g", "b", "m", "s")}
    training = dense(node("BatchNormalization", "a g b m s", "h rm rs", training_mode=1), **vectors)
    assert "export the model in evaluation mode" in str(refusal(training))
    onnxdtd.compile(dense(node("BatchNormalization", "a g b m s", "h"), **vectors))


def test_a_shape_that_is_declared() -> None:
    """What an operator of another domain gives has none that could be inferred."""
    proto = custom(declared=True)
    proto.graph.node[1].input[0] = "x"
    proto.graph.node[1].output[0] = "a"
    proto.graph.node[0].input[0], proto.graph.node[0].output[0] = "a", "q"
    nodes = [onnx.NodeProto.FromString(proto.graph.node[i].SerializeToString()) for i in (1, 0, 2)]
    del proto.graph.node[:], proto.graph.value_info[:]
    proto.graph.node.extend(nodes)
    assert "the shape of its output 'a' is not known; declare it in the model if it is that of 'x'" in str(refusal(proto))
    proto.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 4]))
    onnxdtd.compile(proto, allow={"Shift": "pass"})


def test_a_rank_that_is_declared() -> None:
    """A shape computed at run time, and one that is declared."""
    nodes = [node("Reshape", "x s", "r"), node("ReduceMean", "r", "m", axes=[1], keepdims=0), node("MatMul", "m v", "y")]
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.FLOAT, ["n", 8]), value("s", TensorProto.INT64, ["rank"])]
    weights = [onnx.numpy_helper.from_array(eighths(RNG, 4, 3), "v")]
    graph = helper.make_graph(nodes, "net", inputs, [value("y", TensorProto.FLOAT, ["n", 3])], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert "the rank of 'r' is unknown; declare its shape in the model" in str(refusal(proto))
    proto.graph.value_info.append(value("r", TensorProto.FLOAT, ["n", 2, 4]))
    result = run(onnxdtd.compile(proto), x=eighths(RNG, 3, 8), s=np.asarray([-1, 2, 4]))
    assert result["relevance"].shape == (3, 8)


def test_a_tensor_with_a_name_of_ours_renamed() -> None:
    proto = dense(node("Relu", "a", "h"))
    for old, new in (("a", "relevance"), ("relevance", "other")):
        for item in proto.graph.node:
            for names in (item.input, item.output):
                names[:] = [new if name == old else name for name in names]
        if new == "relevance":
            assert "rename it" in str(refusal(proto))
    onnxdtd.compile(proto)
