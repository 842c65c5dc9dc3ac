"""Reading, normalising and writing: what the file of a model becomes, and what never happens to it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import Session, eighths, model, node, run
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import ModelError
from onnxdtd.graph import files
from onnxdtd.study import explain

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
BUNDLED = ("digits_mlp", "digits_cnn", "digits_resnet", "digits_sklearn", "two_digits")


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return eighths(np.random.default_rng(seed), *shape)


def classifier(opset: int = 17, features: int = 6, classes: int = 3, hidden: int = 5) -> ModelProto:
    """Two dense layers."""
    nodes = [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")]
    arrays = {"w": weights(features, hidden), "b": weights(hidden, seed=1), "v": weights(hidden, classes, seed=2)}
    return model(nodes, {"x": ["batch", features]}, ["y"], arrays, opset=opset)


def of_its_time(opset: int) -> ModelProto:
    """A convolutional net full of operators whose form changed between operator sets 7 and 17."""
    attribute_axes = opset < 13
    arrays: dict[str, Any] = {
        "k": weights(4, 3, 3, 3),
        "kb": weights(4, seed=1),
        "scale": weights(4, seed=2),
        "shift": weights(4, seed=3),
        "mean": weights(4, seed=4),
        "var": np.abs(weights(4, seed=5)) + 1,
        "w": weights(4, 5, seed=6),
    }
    padding = [0, 0, 1, 1, 0, 0, 1, 1]
    if opset < 11:
        nodes = [node("Pad", "x", "p", pads=padding, mode="constant", value=0.5)]
    else:
        arrays |= {"padding": np.asarray(padding), "half": np.float32(0.5)}
        nodes = [node("Pad", "x padding half", "p")]
    nodes += [
        node("Conv", "p k kb", "c"),
        node("BatchNormalization", "c scale shift mean var", "n"),
        node("LeakyRelu", "n", "l", alpha=0.125),
    ]
    if opset < 11:
        nodes.append(node("Clip", "l", "r", min=0.0, max=2.0))
    else:
        arrays |= {"zero": np.float32(0), "two": np.float32(2)}
        nodes.append(node("Clip", "l zero two", "r"))
    nodes.append(node("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2]))
    if opset < 10:
        nodes.append(node("Slice", "m", "s", axes=[2], starts=[0], ends=[2]))
    else:
        arrays |= {"start": np.asarray([0]), "end": np.asarray([2]), "axis": np.asarray([2])}
        nodes.append(node("Slice", "m start end axis", "s"))
    nodes.append(node("AveragePool", "s", "a", kernel_shape=[1, 2], strides=[1, 2]))
    if attribute_axes:
        nodes.append(node("ReduceSum", "a", "u", axes=[2], keepdims=1))
        nodes.append(node("Squeeze", "u", "q", axes=[2, 3]))
    else:
        arrays |= {"rows": np.asarray([2]), "both": np.asarray([2, 3])}
        nodes += [node("ReduceSum", "a rows", "u", keepdims=1), node("Squeeze", "u both", "q")]
    nodes += [
        node("Dropout", "q", "d", **({"ratio": 0.5} if opset < 12 else {})),
        node("MatMul", "d w", "g"),
        node("Softmax", "g", "y", axis=1),
    ]
    return model(nodes, {"x": ["batch", 3, 4, 4]}, ["y"], arrays, opset=opset)


# ---------------------------------------------------------------------------------------------------------------- reading


def test_the_hash_is_that_of_the_file() -> None:
    path = MODELS / "digits_mlp.onnx"
    data = path.read_bytes()
    for source in (path, str(path), data):
        assert files.read(source).sha256 == hashlib.sha256(data).hexdigest()
    assert files.read(path).path == path
    assert files.read(data).path is None


def test_path_bytes_and_proto_compile_to_the_same(tmp_path: Path) -> None:
    proto = classifier()
    data = proto.SerializeToString(deterministic=True)
    (tmp_path / "net.onnx").write_bytes(data)
    sources = (tmp_path / "net.onnx", str(tmp_path / "net.onnx"), data, proto)
    assert len({onnxdtd.compile(source).SerializeToString(deterministic=True) for source in sources}) == 1


def test_the_callers_proto_stays_as_it_is() -> None:
    proto = of_its_time(11)
    before = proto.SerializeToString(deterministic=True)
    onnxdtd.compile(proto)
    assert proto.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        (b"", "empty"),
        (b"Dear compiler,", "not an ONNX model"),
        (numpy_helper.from_array(np.zeros(3)).SerializeToString(), "not an ONNX model"),
        (ModelProto(ir_version=8).SerializeToString(), "not an ONNX model"),
        (helper.make_model(helper.make_graph([], "empty", [], [])).SerializeToString(), "no ONNX graph with nodes"),
    ],
)
def test_bytes_that_are_no_model(data: bytes, phrase: str) -> None:
    with pytest.raises(ModelError, match=phrase):
        files.read(data)


@pytest.mark.parametrize("place", ["graph", "node", "tensor", "initializer"])
def test_names_that_are_no_text(place: str) -> None:
    """Protobuf allows such bytes on the wire, ONNX does not."""
    proto = classifier()
    proto.graph.name = "odd_name"
    data = proto.SerializeToString()
    old = {"graph": b"odd_name", "node": b"h_node", "tensor": b"\x12\x01r", "initializer": b"\x42\x01v"}[place]
    assert old in data
    with pytest.raises(ModelError):
        onnxdtd.compile(data.replace(old, old[:-1] + b"\xff"))


# ------------------------------------------------------------------------------------------------------------ normalising


def values(proto: ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return list(run(proto, **{proto.graph.input[0].name: x}).values())


@pytest.mark.parametrize("opset", range(7, 18))
def test_conversion_keeps_the_outputs(opset: int) -> None:
    proto = of_its_time(opset)
    x = eighths(np.random.default_rng(7), 3, 3, 4, 4)
    compiled = onnxdtd.compile(proto, low=-1, high=1)
    assert files.opset(compiled) == 17
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
    assert files.opset(compiled) == 23
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


def old(op: str, opset: int, **attributes: Any) -> ModelProto:
    """Gemm, the operator, Gemm, of an operator set."""
    nodes = [node("Gemm", "x w c", "a"), helper.make_node(op, ["a"], ["h"], "odd", **attributes), node("Gemm", "h v c", "y")]
    value = helper.make_tensor_value_info
    weights = {
        "w": eighths(np.random.default_rng(0), 6, 3),
        "v": eighths(np.random.default_rng(1), 3, 3),
        "c": np.zeros(3, np.float32),
    }
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", [value("x", 1, ["n", 6])], [value("y", 1, ["n", 3])], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


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
    assert [value.name for value in files.real_inputs(proto)] == ["x"]
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


@pytest.mark.parametrize("y", [["batch", 7], ["batch", 3, 1], [], [2, 3], ["n", "classes"], [None, None]], ids=str)
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
    with pytest.raises(onnxdtd.RequestError, match="does not declare the shape of its input 'x'"):
        explain.Job(explainer)


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


# ------------------------------------------------------------------------------------------------------------- structure


def test_the_skeleton_has_no_large_tensors() -> None:
    proto = onnx.load(MODELS / "digits_resnet.onnx")
    bare = files.skeleton(proto)
    assert max(tensor.ByteSize() for tensor in bare.graph.initializer) <= files.SMALL_BYTES
    small = {tensor.name for tensor in bare.graph.initializer}
    large = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.name not in small}
    assert large
    inputs = {value.name: value.type.tensor_type for value in bare.graph.input}
    for name, tensor in large.items():
        assert inputs[name].elem_type == tensor.data_type
        assert [d.dim_value for d in inputs[name].shape.dim] == list(tensor.dims)
    assert list(bare.graph.node) == list(proto.graph.node)
    assert bare.ByteSize() < proto.ByteSize() / 3


def test_a_compiled_model_is_about_as_large_as_its_source() -> None:
    for name in BUNDLED:
        path = MODELS / f"{name}.onnx"
        assert onnxdtd.compile(path, low=0, high=1).ByteSize() < path.stat().st_size + 40_000


@pytest.mark.parametrize("name", ["cycle", "dangling", "unknown", "mistyped", "duplicate"])
def test_graphs_that_are_not_valid(name: str) -> None:
    proto = classifier()
    gemm, relu, _ = proto.graph.node
    match name:
        case "cycle":
            gemm.input[0] = "r"
        case "dangling":
            relu.input[0] = "nowhere"
        case "unknown":
            relu.op_type = "Frobnicate"
        case "mistyped":
            proto.graph.input[0].type.tensor_type.elem_type = 105
        case "duplicate":
            relu.output[0] = "h"
    with pytest.raises(ModelError):
        onnxdtd.compile(proto)


# --------------------------------------------------------------------------------------------------------------- writing


def saved(proto: ModelProto, path: Path, **options: Any) -> Path:
    """A model with every weight in a file beside it; ``proto`` is changed along."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"location": path.stem + ".data", "size_threshold": 0} | options
    onnx.save(proto, path, save_as_external_data=True, **options)
    return path


def locations(proto: ModelProto) -> set[str]:
    return {ExternalDataInfo(tensor).location for tensor in proto.graph.initializer if uses_external_data(tensor)}


def predict(path: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


X = eighths(np.random.default_rng(7), 3, 6)


def test_external_weights_stay_where_they_are_and_unread(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "net.onnx")
    data = tmp_path / "net.data"
    content = data.read_bytes()
    data.unlink()
    compiled = onnxdtd.compile(path, low=-1, high=1)
    for tensor in list(compiled.graph.initializer)[:3]:
        assert tensor.data_location == TensorProto.EXTERNAL
        assert not tensor.raw_data
    assert locations(compiled) == {"net.data"}
    onnxdtd.save(compiled, tmp_path / "out.onnx", path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "out.onnx"]
    data.write_bytes(content)
    np.testing.assert_array_equal(predict(tmp_path / "out.onnx", X), run(classifier(), x=X)["y"])


def test_external_weights_of_an_older_operator_set(tmp_path: Path) -> None:
    proto = of_its_time(9)
    path = saved(of_its_time(9), tmp_path / "net.onnx")
    compiled = onnxdtd.compile(path)
    assert locations(compiled) == {"net.data"}
    onnxdtd.save(compiled, tmp_path / "out.onnx", path)
    x = eighths(np.random.default_rng(7), 3, 3, 4, 4)
    np.testing.assert_allclose(predict(tmp_path / "out.onnx", x), run(proto, x=x)["y"], rtol=1e-6)


def test_external_weights_are_copied_beside_the_output(tmp_path: Path) -> None:
    for folder in ("in/weights", "out"):
        (tmp_path / folder).mkdir(parents=True)
    path = saved(classifier(), tmp_path / "in/net.onnx", location="weights/net.data")
    onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path)
    copy = tmp_path / "out/weights/net.data"
    assert copy.read_bytes() == (tmp_path / "in/weights/net.data").read_bytes()
    (tmp_path / "in/weights/net.data").unlink()
    np.testing.assert_array_equal(predict(tmp_path / "out/net.onnx", X), run(classifier(), x=X)["y"])


def test_weights_below_the_output_can_be_referred_to(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "in/net.onnx", location="net.data")
    out = tmp_path / "out.onnx"
    compiled = onnxdtd.compile(path)
    onnxdtd.save(compiled, out, path, weights="reference")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == [
        "in/net.data",
        "in/net.onnx",
        "out.onnx",
    ]
    assert locations(onnx.load(out, load_external_data=False)) == {"in/net.data"}
    assert locations(compiled) == {"net.data"}  # what the caller holds stays as it is
    np.testing.assert_array_equal(predict(out, X), run(classifier(), x=X)["y"])
    onnxdtd.save(compiled, tmp_path / "in/out.onnx", path, weights="reference")
    assert locations(onnx.load(tmp_path / "in/out.onnx", load_external_data=False)) == {"net.data"}


def test_weights_beside_the_source_can_be_copied(tmp_path: Path) -> None:
    """Under a name of their own, so that the source may go."""
    path = saved(classifier(), tmp_path / "net.onnx")
    onnxdtd.save(onnxdtd.compile(path), tmp_path / "out.onnx", path, weights="copy")
    assert locations(onnx.load(tmp_path / "out.onnx", load_external_data=False)) == {"out.onnx.net.data"}
    for gone in ("net.onnx", "net.data"):
        (tmp_path / gone).unlink()
    np.testing.assert_array_equal(predict(tmp_path / "out.onnx", X), run(classifier(), x=X)["y"])


def test_weights_elsewhere_cannot_be_referred_to(tmp_path: Path) -> None:
    """Runtimes follow no path out of the folder of a model."""
    path = saved(classifier(), tmp_path / "in/net.onnx")
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"net\.data: runtimes read weights in or below the folder"):
        onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path, weights="reference")
    assert not list((tmp_path / "out").iterdir())
    onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path, weights="copy")  # as the message advises
    with pytest.raises(onnxdtd.RequestError, match="weights 'link'"):
        onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path, weights="link")


@pytest.mark.parametrize("weights", ["reference", "copy"])
@pytest.mark.parametrize("location", ["../secret.data", "{root}/secret.data", "link.data"])
def test_weights_outside_are_neither_referred_to_nor_copied(location: str, weights: str, tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "in/net.onnx")
    (tmp_path / "in/net.data").rename(tmp_path / "secret.data")
    if location == "link.data":
        (tmp_path / "in/link.data").symlink_to(tmp_path / "secret.data")
    moved(path, location.format(root=tmp_path))
    for out in ("out.onnx", "in/out.onnx"):
        with pytest.raises(ModelError, match="lie outside the model's folder"):
            onnxdtd.save(onnxdtd.compile(path), tmp_path / out, path, weights=weights)
        assert not (tmp_path / out).exists()


def moved(path: Path, location: str) -> Path:
    """Let the weights of the model at ``path`` claim to be at ``location``."""
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(proto.SerializeToString())
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("location", ["../secret", "sub/../../secret", "{tmp}/secret", "link"])
def test_weights_outside_of_the_models_folder_are_not_followed(location: str, tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "in/net.onnx")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "in/link").symlink_to(tmp_path / "secret")
    moved(path, location.replace("{tmp}", str(tmp_path)))
    (tmp_path / "out/deep").mkdir(parents=True)
    before = tree(tmp_path)
    compiled = onnxdtd.compile(path)
    with pytest.raises(ModelError, match="outside"):
        onnxdtd.save(compiled, tmp_path / "out/deep/net.onnx", path)
    assert tree(tmp_path) == before


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "in/net.onnx")
    (tmp_path / "in/net.data").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"net\.data"):
        onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path)
    assert not tree(tmp_path / "out")


def test_weights_of_another_model_are_not_overwritten(tmp_path: Path) -> None:
    """Exporters like to call every weight file the same."""
    path = saved(classifier(), tmp_path / "in/net.onnx", location="model.data")
    other = saved(of_its_time(17), tmp_path / "out/other.onnx", location="model.data")
    before = tree(other.parent)
    with pytest.raises(ModelError, match=r"model\.data"):
        onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path)
    assert tree(other.parent) == before


def test_equal_weights_are_shared(tmp_path: Path) -> None:
    """Compiling a second time to the same folder is fine: its copy of the weights is there already."""
    path = saved(classifier(), tmp_path / "in/net.onnx")
    (tmp_path / "out").mkdir()
    for preset in ("dtd", "lrp-epsilon"):
        onnxdtd.save(onnxdtd.compile(path, preset), tmp_path / f"out/{preset}.onnx", path)
    assert sorted(tree(tmp_path / "out")) == ["dtd.onnx", "lrp-epsilon.onnx", "net.data"]


def test_the_output_must_not_replace_the_weights(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "net.onnx")
    before = tree(tmp_path)
    with pytest.raises(ModelError, match="weights"):
        onnxdtd.save(onnxdtd.compile(path), tmp_path / "net.data", path)
    assert tree(tmp_path) == before


def test_compiling_twice_gives_the_same_bytes() -> None:
    """In other processes too, where strings hash otherwise."""
    script = (
        "import hashlib, onnxdtd; print(hashlib.sha256(onnxdtd.compile('models/digits_resnet.onnx', low=0, high=1)"
        ".SerializeToString(deterministic=True)).hexdigest())"
    )
    hashes = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        hashes.add(subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, check=True).stdout)
    here = onnxdtd.compile(MODELS / "digits_resnet.onnx", low=0, high=1).SerializeToString(deterministic=True)
    assert hashes == {hashlib.sha256(here).hexdigest().encode() + b"\n"}


def test_nothing_is_left_of_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor half of the weights, which the next run would take for another model's."""
    path = saved(classifier(), tmp_path / "in/net.onnx")
    out = tmp_path / "out/out.onnx"
    out.parent.mkdir()
    out.write_bytes(b"an older result")
    compiled = onnxdtd.compile(path)

    def half(source: Any, target: Any, *_: Any) -> None:
        target.write(source.read(10))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", half)
        with pytest.raises(ModelError, match=r"net\.data: cannot be written .No space left on device"):
            onnxdtd.save(compiled, out, path)
    assert tree(out.parent) == {"out.onnx": b"an older result"}
    onnxdtd.save(compiled, out, path)
    assert (out.parent / "net.data").read_bytes() == (tmp_path / "in/net.data").read_bytes()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    compiled = onnxdtd.compile(classifier())
    source = tmp_path / "net.onnx"
    source.write_bytes(b"source")
    (tmp_path / "link.onnx").symlink_to(source)
    (tmp_path / "folder").mkdir()
    for target, phrase in (
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere/out.onnx", "does not exist"),
        (source, "never overwritten"),
        (tmp_path / "link.onnx", "never overwritten"),
        (tmp_path / "folder/../net.onnx", "never overwritten"),
        (tmp_path / "folder" / ("n" * 300), "cannot be written"),
        (Path("/proc/out.onnx"), "cannot be written"),
    ):
        with pytest.raises(ModelError, match=phrase):
            onnxdtd.save(compiled, target, source)
    assert source.read_bytes() == b"source"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "link.onnx", "net.onnx"]
