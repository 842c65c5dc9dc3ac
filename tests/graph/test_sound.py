"""What is no graph that could be compiled: each fault is named, and none ends in anything but a ``ModelError``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd.errors import ModelError, OnnxdtdError, Unsupported
from onnxdtd.graph import sound

NET = """<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1, "local": 1]> net (float[N, 4] x) => (float[N, 2] y)
    <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}, bool yes = {1}, int64[1] one = {1}> {
    a = Relu(x)
    m = ReduceMean<keepdims = 1>(a, one)
    c = Sub(a, m)
    s = Flatten<axis = 1>(c)
    y = MatMul(s, w)
}"""


def node(proto: ModelProto, op: str) -> onnx.NodeProto:
    """The first one of an operator."""
    return next(node for node in proto.graph.node if node.op_type == op)


def another_opset(proto: ModelProto) -> None:
    proto.opset_import.add(domain="ai.onnx", version=8)


def output_twice(proto: ModelProto) -> None:
    proto.graph.output.append(helper.make_tensor_value_info("y", TensorProto.INT64, None))


def of_a_function(proto: ModelProto) -> None:
    node(proto, "Flatten").attribute[0].ref_attr_name = "outer"


def odd_flag(proto: ModelProto) -> None:
    node(proto, "ReduceMean").attribute[0].i = 7


def odd_axis(proto: ModelProto) -> None:
    node(proto, "Flatten").attribute[0].i = -(2**63)


def huge_stride(proto: ModelProto) -> None:
    proto.graph.node.insert(0, helper.make_node("MaxPool", ["x"], ["p"], "pool", kernel_shape=[1], strides=[2**62]))


def of_another_type(proto: ModelProto) -> None:
    """What onnx's converter crashes on, rather than its checker."""
    proto.opset_import[0].version = 12
    proto.graph.node.insert(0, helper.make_node("Squeeze", ["x"], ["q"], "squeeze", axes=1.5))


def too_few_inputs(proto: ModelProto) -> None:
    node(proto, "Relu").op_type, proto.graph.node[0].domain = "QLinearSigmoid", "com.microsoft"


def undecided(proto: ModelProto) -> None:
    node(proto, "Relu").CopyFrom(helper.make_node("If", [], ["a"], "choice"))


def of_no_branch(proto: ModelProto) -> None:
    node(proto, "Relu").CopyFrom(helper.make_node("If", ["yes"], ["a"], "choice"))


def branch_without_results(proto: ModelProto) -> None:
    branches = {name: helper.make_graph([], name, [], []) for name in ("then_branch", "else_branch")}
    node(proto, "Relu").CopyFrom(helper.make_node("If", ["yes"], ["a"], "choice", **branches))


def missing_bytes(proto: ModelProto) -> None:
    proto.graph.initializer[0].CopyFrom(TensorProto(name="w", data_type=1, dims=[4, 2], raw_data=b"1234"))


def negative_size(proto: ModelProto) -> None:
    proto.graph.initializer[0].dims[:] = [4, -2]


def calls_itself(proto: ModelProto) -> None:
    inner = [helper.make_node("again", ["x"], ["y"], domain="local")]
    proto.functions.append(helper.make_function("local", "again", ["x"], ["y"], inner, proto.opset_import))
    node(proto, "Relu").op_type, proto.graph.node[0].domain = "again", "local"


def billion_laughs(proto: ModelProto) -> None:
    """Each function calls the one before ten times."""
    for i in range(12):
        domain, op = ("local", f"f{i - 1}") if i else ("", "Relu")
        names = ["x", *(f"t{k}" for k in range(9)), "y"]
        inner = [helper.make_node(op, [a], [b], domain=domain) for a, b in pairwise(names)]
        proto.functions.append(helper.make_function("local", f"f{i}", ["x"], ["y"], inner, proto.opset_import))
    node(proto, "Relu").op_type, proto.graph.node[0].domain = "f11", "local"


def flat_kernel(proto: ModelProto) -> None:
    proto.graph.node.insert(0, helper.make_node("Conv", ["x", "one_2"], ["p"], "conv"))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "one_2"))


def empty(proto: ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0


def scalar(proto: ModelProto) -> None:
    """All sums, of samples as well."""
    proto.graph.node.append(helper.make_node("ReduceSum", ["y"], ["all"], "all", keepdims=0))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("all", TensorProto.FLOAT, []))


def table_of_scales(proto: ModelProto) -> None:
    node(proto, "Flatten").CopyFrom(helper.make_node("Resize", ["c", "", "two"], ["s"], "resize"))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((1, 2), np.float32), "two"))


def nothing_left(proto: ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.array([4]), "four"))
    node(proto, "Flatten").CopyFrom(helper.make_node("Slice", ["c", "four", "four", "one"], ["s"], "slice"))
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((0, 2), np.float32), "w"))


def wide_window(proto: ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0, 1, 1, 4]), "map"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0, -1]), "row"))
    node(proto, "Flatten").CopyFrom(helper.make_node("Reshape", ["c", "map"], ["r"]))
    pool = helper.make_node("AveragePool", ["r"], ["q"], "pool", kernel_shape=[1, 5])
    order = [*proto.graph.node[:-1], pool, helper.make_node("Reshape", ["q", "row"], ["s"]), proto.graph.node[-1]]
    copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in order]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def odd_pads(proto: ModelProto) -> None:
    """Of an operator that onnx does not know, behind which nothing is inferred."""
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    proto.graph.node.insert(0, helper.make_node("Conv", ["x", "k"], ["x1"], "conv", pads=[1, 0, 1]))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1, 2, 2), np.float32), "k"))
    proto.graph.node[1].input[0] = "x1"


def odd_equation(proto: ModelProto) -> None:
    """Which onnx's shape inference never comes to the end of."""
    node(proto, "Flatten").CopyFrom(helper.make_node("Einsum", ["c", "w"], ["s"], "sum", equation=b"b\x97\x94,jk->bij"))


def elsewhere(**told: str) -> Callable[[ModelProto], None]:
    """The weight is in a file."""

    def change(proto: ModelProto) -> None:
        tensor = TensorProto(name="w", data_type=1, dims=[4, 2], data_location=TensorProto.EXTERNAL)
        for key, value in ({"location": "w.bin"} | told).items():
            tensor.external_data.add(key=key, value=value)
        proto.graph.initializer[0].CopyFrom(tensor)

    return change


BROKEN: dict[str, tuple[Callable[[ModelProto], None], str]] = {
    "two operator sets": (another_opset, "'ai.onnx' is imported twice, as 21 and as 8"),
    "an output listed twice": (output_twice, "'y' is listed twice"),
    "an attribute of a function": (of_a_function, "'s' .Flatten.*'axis' is an attribute of a function"),
    "neither yes nor no": (odd_flag, "'m' .ReduceMean.*keepdims has 7, which is none of 0 to 1"),
    "no axis": (odd_axis, "'s' .Flatten.*axis has -9223372036854775808"),
    "a stride": (huge_stride, "'pool' .MaxPool.*strides has 4611686018427387904"),
    "an attribute of another type": (of_another_type, "'squeeze' .Squeeze.*Expected: 'INTS', actual: 'FLOAT'"),
    "too few inputs": (too_few_inputs, "'a' .QLinearSigmoid.*has 1 inputs, which are too few"),
    "an If without a condition": (undecided, "choice"),
    "an If without branches": (of_no_branch, "choice"),
    "branches without results": (branch_without_results, "choice"),
    "a kernel without axes": (flat_kernel, "'conv' .Conv"),
    "no samples": (empty, r"'x' is \[0, 4\]: there is nothing in it"),
    "a score of all samples": (scalar, "'all' is one number"),
    "scales that are no list": (table_of_scales, "scales are no list"),
    "nothing left": (nothing_left, r"'s' is \['N', 0\]: there is nothing"),
    "a window larger than the map": (wide_window, "pool.*its window is larger than what it slides over|its inputs do not fit"),
    "pads of half an axis": (odd_pads, "conv"),
    "an equation of other letters": (odd_equation, "'sum' .Einsum.*equation is b'b.*which is none"),
    "missing bytes": (missing_bytes, r"'w': is \[4, 2\], which takes 32 bytes, and has 4"),
    "a negative size": (negative_size, "'w': has a negative size"),
    "a function that calls itself": (calls_itself, "'again' of the model calls itself"),
    "a billion laughs": (billion_laughs, "the model has [0-9]{12,} nodes"),
    "an offset below zero": (elsewhere(offset="-7"), "'w'.*'-7'"),
    "an offset beyond everything": (elsewhere(offset="9" * 40), "9999"),
    "a length that is no number": (elsewhere(length="x"), "'x' bytes"),
    "gigabytes declared": (elsewhere(length="8000000000"), "has 8000000000 bytes there, but takes 32"),
    "no location": (elsewhere(location=""), "lies outside the model's folder"),
    "an absolute location": (elsewhere(location="/dev/zero"), "lies outside the model's folder"),
    "a location above": (elsewhere(location="a/../../w.bin"), "lies outside the model's folder"),
}


@pytest.mark.parametrize(("change", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_refused_in_words(change: Callable[[ModelProto], None], words: str) -> None:
    proto = onnx.parser.parse_model(NET)
    change(proto)
    with pytest.raises((ModelError, Unsupported), match=words):
        onnxdtd.compile(proto, "lrp-epsilon")


def test_what_is_not_broken_is_compiled() -> None:
    assert onnxdtd.compile(onnx.parser.parse_model(NET), "lrp-epsilon").graph.output


def test_sizes_that_are_none_count_as_unknown() -> None:
    proto = onnx.parser.parse_model(NET)
    first, second = proto.graph.input[0].type.tensor_type.shape.dim
    first.dim_param, second.dim_value = "", -(2**63)
    compiled = onnxdtd.compile(proto, "lrp-epsilon")
    assert [d.WhichOneof("value") for d in compiled.graph.output[1].type.tensor_type.shape.dim] == [None, None]


def test_nodes_and_tensors_without_number_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = onnx.parser.parse_model(NET)
    monkeypatch.setattr(sound, "MOST_NODES", 4)
    with pytest.raises(ModelError, match="5 nodes; up to 4"):
        onnxdtd.compile(proto)
    monkeypatch.setattr(sound, "MOST_NODES", 5)
    monkeypatch.setattr(sound, "MOST_ENDS", 9)
    with pytest.raises(ModelError, match="13 inputs and outputs of nodes; up to 9"):
        onnxdtd.compile(proto)
    monkeypatch.setattr(sound, "MOST_TENSORS", 2)
    with pytest.raises(ModelError, match="5 tensors; up to 2"):
        onnxdtd.compile(proto)


def test_empty_nodes_without_number_are_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "MOST_NODES", 900)
    monkeypatch.setattr(sound, "MOST_TENSORS", 100)
    graph = b"\x0a\x00" * 2000
    with pytest.raises(ModelError, match="more than 1000 nodes and tensors"):
        onnxdtd.compile(b"\x08\x0a\x3a" + bytes([0x80 | len(graph) & 127, len(graph) >> 7]) + graph)
    for data in (onnx.parser.parse_model(NET).SerializeToString(), b"\xff" * 50, b"\x3a\xff\xff\xff\xff\x0f", b"\x3b" * 9):
        sound.check_entries(data)


def test_numbers_of_less_than_a_byte_are_not_counted() -> None:
    tensor = TensorProto(data_type=TensorProto.INT4, dims=[3], raw_data=b"ab")
    assert sound.byte_size(tensor) is None
    assert sound.byte_size(numpy_helper.from_array(np.zeros((3, 5), np.float16))) == 30


def test_an_axis_that_is_named_twice() -> None:
    proto = onnx.parser.parse_model(NET)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, -1]), "twice"))
    node(proto, "ReduceMean").input[1] = "twice"
    with pytest.raises(Unsupported, match=r"ReduceMean x1 \(m\).*names an axis twice"):
        onnxdtd.compile(proto, "lrp-epsilon")


@pytest.mark.parametrize(("name", "kind", "shape"), [("y", TensorProto.STRING, []), ("y", TensorProto.INT64, [7, 4, 2])])
def test_what_is_declared_of_an_output_a_second_time_is_not_heard(name: str, kind: int, shape: list[int]) -> None:
    """Runtimes do not either."""
    proto = onnx.parser.parse_model(NET)
    plain = onnxdtd.compile(proto, "lrp-epsilon").graph.node
    proto.graph.value_info.append(helper.make_tensor_value_info(name, kind, shape))
    assert onnxdtd.compile(proto, "lrp-epsilon").graph.node == plain


def test_an_input_that_is_an_output_as_well_whatever_it_is_said_to_be() -> None:
    proto = onnx.parser.parse_model(NET)
    proto.graph.output.append(helper.make_tensor_value_info("x", TensorProto.UINT8, None))
    assert [value.name for value in onnxdtd.compile(proto, "lrp-epsilon").graph.output][:2] == ["y", "x"]


def test_constants_do_not_tell_how_many_axes_an_input_has() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> net (float[] x) => (float[N, 2] y) <
        float[1] half = {0.5}, int64[4] zero = {0, 0, 0, 0}, int64[4] six = {6, 6, 6, 6}, int64[4] all = {0, 1, 2, 3},
        int64[2] rows = {-1, 2}, float[2, 2] w = {1, 2, 3, 4}
    > {
        a = Mul(x, half)
        b = Slice(a, zero, six, all)
        c = Reshape(b, rows)
        y = MatMul(c, w)
    }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(OnnxdtdError):
        onnxdtd.compile(proto, "lrp-epsilon")


def test_text_that_is_none() -> None:
    proto = onnx.parser.parse_model(NET)
    proto.metadata_props.add(key="labels", value="#tag#")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "@tag@"
    for tag in (b"#tag#", b"@tag@"):
        with pytest.raises(ModelError, match="not UTF-8"):
            onnxdtd.compile(proto.SerializeToString().replace(tag, b"\xff" * 5), "lrp-epsilon")


def test_a_list_of_a_billion_sizes() -> None:
    """Shape inference would make an entry for each."""
    text = """<ir_version: 10, opset_import: ["": 21]> net
        (float[N, 4] x, int64[1099511627776] ids) => (float[N, 4] y, float[M] z) {
        y = Relu(x)
        z = Cast<to = 1>(ids)
    }"""
    assert onnxdtd.compile(onnx.parser.parse_model(text), "lrp-epsilon").graph.output


def test_wrong_shapes_of_inner_tensors_are_left_out() -> None:
    """ONNX Runtime believes them of what reads the tensors, and then refuses the relevance pass."""
    proto = onnx.parser.parse_model(NET)
    wrong, right = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in (("a", 5), ("c", 4)))
    proto.graph.value_info.extend([wrong, right])
    assert list(onnxdtd.compile(proto, "lrp-epsilon").graph.value_info) == [right]


def test_a_quantised_pool_without_its_window() -> None:
    """Whose domain onnx's checker does not know."""
    text = """<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]> net (uint8[N, 1, 4, 4] x) => (uint8[N, 1, 4, 4] y)
        <float s = {1}, uint8 z = {0}> { y = com.microsoft.QLinearAveragePool(x, s, z, s, z) }"""
    with pytest.raises(ModelError, match=r"'y' .QLinearAveragePool.*kernel_shape"):
        onnxdtd.compile(onnx.parser.parse_model(text), "lrp-epsilon")


@pytest.mark.parametrize("size", [0, 7, 2**40])
def test_a_batch_that_only_an_output_declares(size: int) -> None:
    """Runtimes warn and go on, but believe it of what reads the output."""
    proto = onnx.parser.parse_model(NET)
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = size
    compiled = onnxdtd.compile(proto, "lrp-epsilon", ledger=True, target="input")
    assert onnxdtd.Explainer(compiled)(np.ones((3, 4), np.float32), 1).relevance["x"].shape == (3, 4)
