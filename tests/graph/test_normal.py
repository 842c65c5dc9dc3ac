"""Models are brought into one form."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from nets import Session, eighths, model, node, run
from onnx import ModelProto, TensorProto, helper, numpy_helper
from opsets import BUNDLED, MODELS, classifier, of_its_time, old, weights

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import ModelError
from onnxdtd.graph import normal, shapes
from onnxdtd.study.presenter import Presenter


def values(proto: ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return list(run(proto, **{proto.graph.input[0].name: x}).values())


@pytest.mark.parametrize("opset", range(7, 18))
def test_conversion_keeps_the_outputs(opset: int) -> None:
    proto = of_its_time(opset)
    x = eighths(np.random.default_rng(7), 3, 3, 4, 4)
    compiled = onnxdtd.compile(proto, low=-1, high=1)
    assert normal.opset(compiled) == 17
    prediction, relevance, _ = values(compiled, x)
    np.testing.assert_allclose(prediction, values(proto, x)[0], rtol=1e-6, atol=1e-7)
    assert relevance.shape == x.shape
    assert np.isfinite(relevance).all()
    changes = read_metadata(compiled)["changes"]
    assert (f"operator set {opset} converted to 17" in changes) == (opset < 17)


@pytest.mark.parametrize("opset", [7, 12])
def test_conversion_keeps_weights_and_metadata(opset: int) -> None:
    proto = of_its_time(opset)
    proto.metadata_props.add(key="author", value="nobody")
    proto.producer_name = "tests"
    compiled = onnxdtd.compile(proto)
    kept = {tensor.name: tensor for tensor in compiled.graph.initializer}
    for tensor in proto.graph.initializer:
        assert kept[tensor.name] == tensor
    assert compiled.metadata_props[0] == proto.metadata_props[0]
    assert compiled.producer_name == "tests"
    assert list(compiled.graph.input)[:1] == list(proto.graph.input)
    assert [o.name for o in compiled.graph.output] == ["y", "relevance", "logit"]


@pytest.mark.parametrize("version", [1, 6])
def test_operator_sets_that_are_too_old(version: int) -> None:
    proto = classifier()
    proto.opset_import[0].version = version
    with pytest.raises(ModelError, match=f"operator set {version} is older than 7"):
        onnxdtd.compile(proto)


def test_an_operator_set_newer_than_any_known() -> None:
    proto = classifier()
    proto.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    with pytest.raises(ModelError, match="operator set"):
        onnxdtd.compile(proto)


def test_the_newest_operator_set_that_runs_here() -> None:
    """Operator sets from 17 on stay what they are."""
    proto = classifier(opset=23)
    compiled = onnxdtd.compile(proto, low=-1, high=1)
    assert normal.opset(compiled) == 23
    x = eighths(np.random.default_rng(7), 3, 6)
    np.testing.assert_array_equal(values(compiled, x)[0], values(proto, x)[0])


def test_without_a_default_operator_set() -> None:
    proto = classifier()
    proto.opset_import[0].domain = "ai.onnx.ml"
    with pytest.raises(ModelError, match="no default operator set"):
        onnxdtd.compile(proto)


def test_a_model_of_other_operator_sets_only() -> None:
    """Runtimes do without an import that no node needs; the relevance pass brings it along."""
    value = helper.make_tensor_value_info
    classifier = helper.make_node(
        "LinearClassifier", ["x"], ["label", "s"], "lc", domain="ai.onnx.ml", classlabels_ints=[0, 1, 2],
        coefficients=[1.0, 2.0, -1.0, 0.5, 0.0, 1.0, -1.0, 2.0, 0.5], intercepts=[0.0, 0.25, 0.5], post_transform="SOFTMAX",
    )  # fmt: skip
    outputs = [value("label", TensorProto.INT64, ["n"]), value("s", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph([classifier], "net", [value("x", TensorProto.FLOAT, ["n", 3])], outputs)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)], ir_version=4)
    compiled = onnxdtd.compile(proto, "gradient-x-input")
    x = eighths(np.random.default_rng(0), 4, 3)
    before, after = run(proto, x=x), run(compiled, x=x)
    np.testing.assert_array_equal(after["label"], before["label"])
    np.testing.assert_array_equal(after["s"], before["s"])
    weights = np.reshape([1.0, 2.0, -1.0, 0.5, 0.0, 1.0, -1.0, 2.0, 0.5], (3, 3))
    np.testing.assert_array_equal(after["relevance"], x * weights[before["label"]])
    changes = read_metadata(compiled)["changes"]
    assert "operator set 17 imported" in changes


@pytest.mark.parametrize(
    ("op", "opset", "way"),
    [
        ("ImageScaler", 7, "write it as Mul and Add, or export the model again without it"),
        ("ScaledTanh", 9, "write it as Mul, Tanh and Mul, or export the model again without it"),
        ("Upsample", 10, "write it as Resize, or export the model again without it"),
        ("Gelu", 13, "export the model again with operator set 20, which has it"),
        ("Mish", 17, "export the model again with operator set 18, which has it"),
        ("Frobnicate", 9, "export the model again without it"),
        ("Frobnicate", 17, "export the model again without it"),
    ],
)
def test_an_operator_that_its_operator_set_does_not_have(op: str, opset: int, way: str) -> None:
    with pytest.raises(ModelError) as caught:
        onnxdtd.compile(old(op, opset))
    assert str(caught.value) == f"node 'odd' ({op}): operator set {opset} has no such operator; {way}"


@pytest.mark.parametrize(
    ("op", "opset", "instead"),
    [
        ("ImageScaler", 7, [("Mul", "a two", "t"), ("Add", "t one", "h")]),
        ("ScaledTanh", 9, [("Mul", "a two", "t"), ("Tanh", "t", "u"), ("Mul", "u one", "h")]),
        ("Frobnicate", 9, [("Identity", "a", "h")]),
    ],
)
def test_its_replacement_compiles(op: str, opset: int, instead: list[tuple[str, str, str]]) -> None:
    """As the message says: in other words, or without it."""
    proto = old(op, opset)
    kept = [proto.graph.node[0], *(node(*words) for words in instead), proto.graph.node[2]]
    nodes = [onnx.NodeProto.FromString(item.SerializeToString()) for item in kept]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(np.float32(v), k) for k, v in (("one", 1), ("two", 2)))
    assert np.isfinite(run(onnxdtd.compile(proto), x=eighths(np.random.default_rng(7), 3, 6))["relevance"]).all()


@pytest.mark.parametrize(("op", "opset"), [("Gelu", 20), ("Mish", 18)])
def test_a_newer_operator_set_compiles(op: str, opset: int) -> None:
    onnxdtd.compile(old(op, opset))


def test_what_cannot_be_converted_is_named() -> None:
    vectors = {name: np.ones((3, 2, 2), np.float32) for name in ("g", "b", "m", "s")}
    bad = helper.make_node("BatchNormalization", ["c", *vectors], ["n"], "odd", spatial=0)
    value = helper.make_tensor_value_info
    arrays = {"k": eighths(np.random.default_rng(0), 3, 2, 3, 3), "v": eighths(np.random.default_rng(1), 12, 3), **vectors}
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    nodes = [node("Conv", "x k", "c"), bad, node("Flatten", "n", "f"), node("MatMul", "f v", "y")]
    graph = helper.make_graph(nodes, "net", [value("x", 1, [1, 2, 4, 4])], [value("y", 1, [1, 3])], initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 7)], ir_version=3)
    with pytest.raises(ModelError) as caught:
        onnxdtd.compile(proto)
    assert str(caught.value) == (
        "node 'odd' (BatchNormalization): operator set 7 cannot be converted to 17 (Attribute spatial must have value 1); "
        "export the model again with 17"
    )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    ("op", "opset", "scales"),
    [
        ("Upsample", 9, [1, 1, 2, 3]),
        ("Upsample", 9, [1, 1, 1.5, 2.5]),
        ("Resize", 10, [1, 1, 1.5, 2.5]),
        ("Resize", 10, [1, 1, 0.5, 0.7]),
    ],
)
def test_a_picture_is_resized_as_before(op: str, opset: int, scales: list[float], mode: str) -> None:
    """onnx's converter takes pixels from elsewhere, which changes the prediction."""
    nodes = [node(op, "x s", "r", mode=mode), node("Flatten", "r", "f"), node("MatMul", "f w", "y")]
    sizes = [int(6 * scale) for scale in scales[2:]]
    arrays = {"s": np.float32(scales), "w": weights(sizes[0] * sizes[1], 3)}
    proto = model(nodes, {"x": [1, 1, 6, 6]}, ["y"], arrays, opset=opset)
    x = eighths(np.random.default_rng(0), 1, 1, 6, 6)
    compiled = onnxdtd.compile(proto, "gradient")
    np.testing.assert_allclose(run(compiled, x=x)["y"], run(proto, x=x)["y"], rtol=1e-6)


@pytest.mark.parametrize(
    ("resized", "arrays", "words"),
    [
        (node("Resize", "x s", "r", mode="nearest"), {"s": np.float32([1, 1, 2, 0.5])}, "'r_node' .Resize.*up or down"),
        (node("Hardmax", "x", "r"), {}, "'r_node' .Hardmax.*from operator set 13 on"),
    ],
)
def test_what_would_mean_something_else_is_refused(resized: Any, arrays: dict[str, np.ndarray], words: str) -> None:
    nodes = [resized, node("Flatten", "r", "f"), node("MatMul", "f w", "y")]
    with pytest.raises(ModelError, match=words):
        onnxdtd.compile(model(nodes, {"x": [1, 1, 6, 6]}, ["y"], arrays | {"w": weights(36, 3)}, opset=10), "gradient")


@pytest.mark.parametrize("opset", [11, 17])
def test_the_default_operator_set_by_its_long_name(opset: int) -> None:
    proto = classifier(opset)
    proto.opset_import[0].domain = "ai.onnx"
    compiled = onnxdtd.compile(proto)
    x = eighths(np.random.default_rng(7), 3, 6)
    np.testing.assert_array_equal(values(compiled, x)[0], values(classifier(), x)[0])


def test_ir_version_3_lists_initializers_as_inputs() -> None:
    proto = of_its_time(8)
    proto.ir_version = 3
    proto.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in proto.graph.initializer
    )
    assert [value.name for value in shapes.real_inputs(proto)] == ["x"]
    compiled = onnxdtd.compile(proto)
    assert compiled.ir_version == 8
    assert [value.name for value in compiled.graph.input] == ["x"]
    x = eighths(np.random.default_rng(7), 2, 3, 4, 4)
    np.testing.assert_allclose(values(compiled, x)[0], values(of_its_time(8), x)[0], rtol=1e-6)


def test_model_local_functions_are_inlined() -> None:
    block = helper.make_function(
        "local",
        "Block",
        ["x", "w"],
        ["y"],
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        [helper.make_opsetid("", 17)],
    )
    plain = model(
        [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")],
        {"x": ["batch", 6]},
        ["y"],
        {"w": weights(6, 5), "v": weights(5, 3, seed=2)},
    )
    proto = ModelProto()
    proto.CopyFrom(plain)
    del proto.graph.node[:2]
    proto.graph.node.insert(0, helper.make_node("Block", ["x", "w"], ["r"], domain="local", name="block"))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    proto.functions.append(block)
    compiled = onnxdtd.compile(proto)
    assert not compiled.functions
    assert {n.domain for n in compiled.graph.node} == {""}
    x = eighths(np.random.default_rng(7), 3, 6)
    for have, want in zip(values(compiled, x), values(onnxdtd.compile(plain), x), strict=True):
        np.testing.assert_array_equal(have, want)
    assert any("functions inlined" in change for change in read_metadata(compiled)["changes"])


@pytest.mark.parametrize("name", BUNDLED)
def test_a_model_of_today_is_contained_verbatim(name: str) -> None:
    """Every node, initializer, input and output in its place; what is new comes after."""
    source = onnx.load(MODELS / f"{name}.onnx")
    compiled = onnxdtd.compile(MODELS / f"{name}.onnx", low=0, high=1)
    for field in ("node", "initializer", "input", "output", "value_info"):
        old, new = getattr(source.graph, field), getattr(compiled.graph, field)
        assert list(new)[: len(old)] == list(old)
    assert list(compiled.opset_import) == list(source.opset_import)
    assert list(compiled.metadata_props)[: len(source.metadata_props)] == list(source.metadata_props)
    assert [o.name for o in compiled.graph.output][len(source.graph.output) :] == ["relevance", "logit"]
    for field in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
        assert getattr(compiled, field) == getattr(source, field)
    assert {n.domain for n in list(compiled.graph.node)[len(source.graph.node) :]} <= {""}
    onnx.checker.check_model(compiled, full_check=True)


def undeclared(x: list[Any] | None, y: list[Any] | None) -> ModelProto:
    """A classifier whose input and output are declared with these shapes."""
    proto = classifier()
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, x))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, y))
    return proto


def explained(proto: ModelProto) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """Compiled, and what that gives; y is what the source gives."""
    x = weights(4, 6, seed=7)
    compiled = onnxdtd.compile(proto, "lrp-epsilon")
    found = run(compiled, x=x)
    np.testing.assert_array_equal(found["y"], run(proto, x=x)["y"])
    return compiled, found


@pytest.mark.parametrize("lost", ["shape", "type"])
def test_an_output_that_is_not_declared(lost: str) -> None:
    """ONNX Runtime takes such a model, onnx's checker does not; the compiled one is declared in full and says so."""
    proto = undeclared(["batch", 6], None)
    if lost == "type":
        proto.graph.output[0].ClearField("type")
    compiled, found = explained(proto)
    onnx.checker.check_model(compiled, full_check=True)
    assert compiled.graph.output[0] == classifier().graph.output[0]
    assert list(compiled.graph.node)[:3] == list(proto.graph.node)
    assert any("'y' declared" in change for change in read_metadata(compiled)["changes"])
    np.testing.assert_array_equal(found["relevance"], explained(classifier())[1]["relevance"])


@pytest.mark.parametrize("y", [["batch", 7], ["batch", 3, 1], [], ["n", "classes"], [None, None]], ids=str)
def test_an_output_that_is_declared_wrong_or_vaguely(y: list[Any]) -> None:
    """It stays as it is, since runtimes do not mind; three classes are explained."""
    proto = undeclared(["batch", 6], y)
    compiled, found = explained(proto)
    assert compiled.graph.output[0] == proto.graph.output[0]
    assert read_metadata(compiled)["classes"] == 3
    np.testing.assert_array_equal(found["relevance"], explained(classifier())[1]["relevance"])


def test_an_input_whose_rank_is_not_declared() -> None:
    """Nothing tells it; the Explainer takes any array."""
    proto = undeclared(None, ["batch", 3])
    compiled, found = explained(proto)
    assert compiled.graph.input[0] == proto.graph.input[0]
    expected = explained(classifier())[1]["relevance"]
    np.testing.assert_array_equal(found["relevance"], expected)
    explainer = onnxdtd.Explainer(compiled, ["CPUExecutionProvider"])
    np.testing.assert_array_equal(explainer(weights(4, 6, seed=7)).relevance["x"], expected)
    with pytest.raises(onnxdtd.RequestError, match="does not declare the shape of 'x'"):
        Presenter(explainer)


@pytest.mark.parametrize("value", ["input", "output"])
def test_a_tensor_without_a_type(value: str) -> None:
    proto = classifier()
    getattr(proto.graph, value)[0].type.tensor_type.ClearField("elem_type")
    with pytest.raises(ModelError, match=r"not a valid ONNX graph: .*elem_type"):
        onnxdtd.compile(proto)


def test_a_tensor_that_is_called_relevance_already() -> None:
    proto = classifier()
    proto.graph.node[1].output[0] = proto.graph.node[2].input[0] = "relevance"
    with pytest.raises(ModelError, match="a tensor 'relevance' already"):
        onnxdtd.compile(proto)


def test_an_input_that_is_called_target_already() -> None:
    proto = classifier()
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "target"
    compiled = onnxdtd.compile(proto, target="input")
    assert [value.name for value in compiled.graph.input] == ["target", "target_1"]
    assert Session(compiled)(target=np.ones((1, 6), np.float32), target_1=np.array([2]))["relevance"].shape == (1, 6)


def test_tensors_that_receive_the_same_relevance_can_all_be_kept() -> None:
    """A Relu passes on what it gets, so both sides of it have one relevance and two outputs."""
    compiled = onnxdtd.compile(classifier(), keep=["h", "r"])
    found = run(compiled, x=eighths(np.random.default_rng(7), 3, 6))
    np.testing.assert_array_equal(found["relevance/h"], found["relevance/r"])


def test_nodes_in_any_order() -> None:
    """As converters to half precision leave them; what is compiled has them in an order that every runtime takes."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y")]
    nodes = [node("MatMul", "r w", "y"), node("Relu", "h", "r"), node("MatMul", "x w", "h")]
    held = [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    compiled = onnxdtd.compile(proto, "lrp-0", target=0)
    assert [n.output[0] for n in compiled.graph.node][:3] == ["h", "r", "y"]
    assert read_metadata(compiled)["changes"] == ["nodes put in the order in which they need each other"]
    np.testing.assert_array_equal(run(compiled, x=np.eye(4, dtype=np.float32))["relevance"], np.diag([1, 0, 0, 0]))


def test_nodes_that_wait_for_each_other_are_refused() -> None:
    proto = helper.make_model(
        helper.make_graph(
            [node("Add", "x b", "a"), node("Relu", "a", "b")],
            "circle",
            *([helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])] for name in ("x", "b")),
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    with pytest.raises(ModelError, match="topologically sorted"):
        onnxdtd.compile(proto)
