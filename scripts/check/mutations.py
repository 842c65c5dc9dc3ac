"""Ways to break a model: each changes a place of a ``ModelProto`` that a seeded generator draws, or says that there is none."""

# ruff: noqa: D103 - a mutation is called after what it does

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Draw = np.random.Generator
SIZES = (0, 1, 2, 3, 7, -1, -7, 1000, 2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**63))
FLOATS = (0.0, -1.0, 1e-45, 1e30, -3.4e38, float("nan"), float("inf"), -float("inf"))
NAMES = (
    "",
    " ",
    "x",
    "é\u0301",
    "a/b\\c",
    "../../y",
    "a\nb",
    "a" * 3000,
    "dtd/x/Mul",
    "relevance",
    "target",
    "logit",
    "ledger",
    "%s{0}",
    "-1",
)
OPS = (
    "Abs", "Add", "And", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape",
    "Conv", "ConvTranspose", "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "Dropout", "Einsum", "Equal", "Expand",
    "EyeLike", "Flatten", "GRU", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GroupNormalization", "Identity", "If",
    "InstanceNormalization", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "LogSoftmax", "Loop", "MatMul", "Max", "MaxPool",
    "Mean", "Mul", "Neg", "NonZero", "Normalizer", "Not", "OneHot", "PRelu", "Pad", "Pow", "QLinearConv", "QuantizeLinear",
    "Range", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "ReverseSequence", "Scan", "ScatterND",
    "SequenceAt", "Shape", "Sigmoid", "Sign", "Size", "Slice", "Softmax", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub",
    "Sum", "Tile", "TopK", "Transpose", "TreeEnsembleClassifier", "Unsqueeze", "Upsample", "Where", "Xor", "ZipMap",
)  # fmt: skip
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.acme", "ai.onnx.training")
TYPES = (0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 14, 16, 17, 22, 23, 99, -1)


class Nothing(Exception):
    """There is no place in the model for this mutation."""


def some(draw: Draw, entries: Sequence[Any]) -> Any:
    """One of them."""
    if not len(entries):
        raise Nothing
    return entries[int(draw.integers(len(entries)))]


def graphs(graph: GraphProto) -> list[GraphProto]:
    """The graph and those inside of its nodes."""
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [graph, *(g for one in inner for g in graphs(one))]


def nodes(proto: ModelProto) -> list[NodeProto]:
    """All nodes."""
    return [node for graph in graphs(proto.graph) for node in graph.node]


def tensors(proto: ModelProto) -> list[str]:
    """The names of all tensors."""
    graph = proto.graph
    named = [v.name for v in (*graph.input, *graph.initializer)]
    return [*named, *(name for node in graph.node for name in node.output)]


def renamed(proto: ModelProto, old: str, new: str) -> None:
    """Give a tensor another name wherever it stands."""
    for graph in graphs(proto.graph):
        for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            value.name = new if value.name == old else value.name
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]


def attributes(proto: ModelProto, *kinds: int) -> list[AttributeProto]:
    """Those of some types, or all."""
    return [a for node in nodes(proto) for a in node.attribute if not kinds or a.type in kinds]


def typed(proto: ModelProto) -> list[ValueInfoProto]:
    """Inputs, outputs and inner tensors that are declared."""
    return [*proto.graph.input, *proto.graph.output, *proto.graph.value_info]


def dims(proto: ModelProto) -> list[Any]:
    """All sizes that are declared."""
    return [d for v in typed(proto) for d in v.type.tensor_type.shape.dim]


def reordered(field: Any, entries: Sequence[Any]) -> None:
    """Replace what a repeated field has."""
    copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
    del field[:]
    field.extend(copies)


# ------------------------------------------------------------------------------------------------------------------- nodes


def drop_node(proto: ModelProto, draw: Draw) -> None:
    del proto.graph.node[int(draw.integers(len(proto.graph.node)))]


def double_node(proto: ModelProto, draw: Draw) -> None:
    proto.graph.node.append(some(draw, proto.graph.node))


def swap_nodes(proto: ModelProto, draw: Draw) -> None:
    order = list(proto.graph.node)
    i, j = draw.integers(len(order), size=2)
    order[i], order[j] = order[j], order[i]
    reordered(proto.graph.node, order)


def other_operator(proto: ModelProto, draw: Draw) -> None:
    some(draw, nodes(proto)).op_type = some(draw, OPS)


def no_operator(proto: ModelProto, draw: Draw) -> None:
    some(draw, nodes(proto)).op_type = some(draw, NAMES)


def other_domain(proto: ModelProto, draw: Draw) -> None:
    some(draw, nodes(proto)).domain = some(draw, DOMAINS)


def name_of_node(proto: ModelProto, draw: Draw) -> None:
    some(draw, nodes(proto)).name = some(draw, [*NAMES, some(draw, nodes(proto)).name])


def fewer_inputs(proto: ModelProto, draw: Draw) -> None:
    node = some(draw, [n for n in nodes(proto) if n.input])
    node.input[:] = node.input[: int(draw.integers(len(node.input)))]


def input_left_out(proto: ModelProto, draw: Draw) -> None:
    node = some(draw, [n for n in nodes(proto) if n.input])
    node.input[int(draw.integers(len(node.input)))] = ""


def inputs_swapped(proto: ModelProto, draw: Draw) -> None:
    node = some(draw, [n for n in nodes(proto) if len(n.input) > 1])
    node.input[:] = list(draw.permutation(list(node.input)))


def more_inputs(proto: ModelProto, draw: Draw) -> None:
    some(draw, nodes(proto)).input.append(some(draw, ["", *tensors(proto)]))


def other_input(proto: ModelProto, draw: Draw) -> None:
    node = some(draw, [n for n in nodes(proto) if n.input])
    node.input[int(draw.integers(len(node.input)))] = some(draw, tensors(proto))


def unknown_input(proto: ModelProto, draw: Draw) -> None:
    node = some(draw, [n for n in nodes(proto) if n.input])
    node.input[int(draw.integers(len(node.input)))] = some(draw, NAMES)


def circle(proto: ModelProto, draw: Draw) -> None:
    node = some(draw, [n for n in proto.graph.node if n.input and n.output])
    behind = some(draw, list(proto.graph.node)[list(proto.graph.node).index(node) :])
    node.input[0] = some(draw, behind.output or [""])


def fewer_outputs(proto: ModelProto, draw: Draw) -> None:
    node = some(draw, [n for n in nodes(proto) if n.output])
    node.output[:] = node.output[: int(draw.integers(len(node.output)))]


def output_left_out(proto: ModelProto, draw: Draw) -> None:
    node = some(draw, [n for n in nodes(proto) if n.output])
    node.output[int(draw.integers(len(node.output)))] = ""


def more_outputs(proto: ModelProto, draw: Draw) -> None:
    some(draw, nodes(proto)).output.append(some(draw, ["", "another", *tensors(proto)]))


def between(proto: ModelProto, draw: Draw) -> None:
    """A node more on the way, of any operator."""
    order = list(proto.graph.node)
    i = int(draw.integers(len(order)))
    node = order[i]
    if not node.output:
        raise Nothing
    given = [node.output[0] + "/before", *(some(draw, tensors(proto)) for _ in range(int(draw.integers(3))))]
    more = helper.make_node(some(draw, OPS), given, [node.output[0]])
    node.output[0] += "/before"
    reordered(proto.graph.node, [*order[: i + 1], more, *order[i + 1 :]])


def in_branch(proto: ModelProto, draw: Draw) -> None:
    """A node in both branches of an If, one of which may lack it, and whose condition is constant or not."""
    order = list(proto.graph.node)
    i = int(draw.integers(len(order)))
    node = NodeProto.FromString(order[i].SerializeToString())
    outputs = [helper.make_tensor_value_info(name + "/inside", TensorProto.FLOAT, None) for name in node.output]
    inner = NodeProto.FromString(node.SerializeToString())
    inner.output[:] = [name + "/inside" for name in node.output]
    branch = helper.make_graph([inner], "branch", [], outputs)
    empty = helper.make_graph([], "branch", [], outputs[: int(draw.integers(3))])
    names = some(draw, [("then_branch", "else_branch"), ("then_branch",), ("else_branch", "body"), ()])
    attrs = dict(zip(names, (branch, branch if draw.random() < 0.7 else empty), strict=False))
    condition = some(draw, ["condition", "condition", "", node.input[0] if node.input else ""])
    whole = helper.make_node(
        some(draw, ["If", "If", "If", "Loop", "Scan"]), [condition][: int(draw.integers(3))], node.output, **attrs
    )
    value = some(draw, [np.array(True), np.array(False), np.array([True]), np.zeros(0, bool), np.array(1.0, np.float32)])
    proto.graph.initializer.append(numpy_helper.from_array(value, "condition"))
    reordered(proto.graph.node, [*order[:i], whole, *order[i + 1 :]])


def in_function(proto: ModelProto, draw: Draw) -> None:
    """A node as a function of the model, which may call itself, have other names, or import nothing."""
    node = some(draw, proto.graph.node)
    body = NodeProto.FromString(node.SerializeToString())
    imports = list(proto.opset_import) if draw.random() < 0.7 else []
    domain = some(draw, ["local", "local", "local", "", "ai.onnx.ml"])
    inputs = [name for name in dict.fromkeys(node.input) if name or draw.random() < 0.3]
    bodies = [body]
    if draw.random() < 0.3:
        bodies.append(helper.make_node(node.op_type, node.input, [*node.output], domain=domain))
    found = onnx.FunctionProto(name=node.op_type, domain=domain, input=inputs, output=list(node.output))
    found.node.extend(bodies)
    found.opset_import.extend(imports)
    found.attribute.extend(a.name for a in node.attribute if draw.random() < 0.3)
    proto.functions.append(found)
    node.domain = domain
    node.input[:] = inputs
    if draw.random() < 0.8:
        proto.opset_import.add(domain=domain, version=1)


# -------------------------------------------------------------------------------------------------------------- attributes


def drop_attribute(proto: ModelProto, draw: Draw) -> None:
    node = some(draw, [n for n in nodes(proto) if n.attribute])
    del node.attribute[int(draw.integers(len(node.attribute)))]


def other_number(proto: ModelProto, draw: Draw) -> None:
    some(draw, attributes(proto, AttributeProto.INT)).i = some(draw, SIZES)


def other_numbers(proto: ModelProto, draw: Draw) -> None:
    found = some(draw, [a for a in attributes(proto, AttributeProto.INTS) if a.ints])
    found.ints[int(draw.integers(len(found.ints)))] = some(draw, SIZES)


def fewer_numbers(proto: ModelProto, draw: Draw) -> None:
    found = some(draw, [a for a in attributes(proto, AttributeProto.INTS, AttributeProto.FLOATS) if a.ints or a.floats])
    field = found.ints or found.floats
    del field[int(draw.integers(len(field))) :]


def more_numbers(proto: ModelProto, draw: Draw) -> None:
    some(draw, attributes(proto, AttributeProto.INTS)).ints.extend(draw.integers(-1, 4, int(draw.integers(1, 4))).tolist())


def other_float(proto: ModelProto, draw: Draw) -> None:
    found = some(draw, attributes(proto, AttributeProto.FLOAT, AttributeProto.FLOATS))
    if found.floats:
        found.floats[int(draw.integers(len(found.floats)))] = some(draw, FLOATS)
    else:
        found.f = some(draw, FLOATS)


def other_string(proto: ModelProto, draw: Draw) -> None:
    found = some(draw, attributes(proto, AttributeProto.STRING))
    found.s = some(
        draw, [b"", b"\xff\xfe", b"SAME_UPPER", b"VALID", b"linear", b"bij,jk->bik", b"ij,j", b"x" * 999, found.s[:-1]]
    )


def type_of_attribute(proto: ModelProto, draw: Draw) -> None:
    some(draw, attributes(proto)).type = int(draw.integers(15))


def value_of_another_type(proto: ModelProto, draw: Draw) -> None:
    node = some(draw, [n for n in nodes(proto) if n.attribute])
    i = int(draw.integers(len(node.attribute)))
    value = some(
        draw,
        [
            1,
            -1,
            1.5,
            "text",
            [1, 2],
            [0.5],
            ["a", "b"],
            helper.make_tensor("t", 1, [1], [0.5]),
            helper.make_graph([], "g", [], []),
        ],
    )
    node.attribute[i].CopyFrom(helper.make_attribute(node.attribute[i].name, value))


def name_of_attribute(proto: ModelProto, draw: Draw) -> None:
    some(draw, attributes(proto)).name = some(draw, ["", "axis", "axes", "unheard_of", *(a.name for a in attributes(proto))])


def more_attributes(proto: ModelProto, draw: Draw) -> None:
    some(draw, nodes(proto)).attribute.append(some(draw, attributes(proto)))


def attribute_of_function(proto: ModelProto, draw: Draw) -> None:
    some(draw, attributes(proto)).ref_attr_name = "outer"


# -------------------------------------------------------------------------------------------------------- shapes and types


def other_size(proto: ModelProto, draw: Draw) -> None:
    some(draw, dims(proto)).dim_value = some(draw, SIZES)


def open_size(proto: ModelProto, draw: Draw) -> None:
    found = some(draw, dims(proto))
    found.Clear()
    if draw.random() < 0.7:
        found.dim_param = some(draw, ["N", "M", "", "-1", "é", "N+1"])


def open_sizes(proto: ModelProto, draw: Draw) -> None:
    name = some(draw, ["N", ""])
    for found in dims(proto):
        found.dim_param = name


def fewer_axes(proto: ModelProto, draw: Draw) -> None:
    shape = some(draw, [v.type.tensor_type.shape for v in typed(proto) if v.type.tensor_type.shape.dim])
    del shape.dim[int(draw.integers(len(shape.dim)))]


def more_axes(proto: ModelProto, draw: Draw) -> None:
    some(draw, typed(proto)).type.tensor_type.shape.dim.add(dim_value=int(draw.integers(1, 4)))


def no_shape(proto: ModelProto, draw: Draw) -> None:
    some(draw, typed(proto)).type.tensor_type.ClearField("shape")


def no_type(proto: ModelProto, draw: Draw) -> None:
    some(draw, typed(proto)).ClearField("type")


def other_type(proto: ModelProto, draw: Draw) -> None:
    some(draw, typed(proto)).type.tensor_type.elem_type = some(draw, TYPES)


def other_container(proto: ModelProto, draw: Draw) -> None:
    value = some(draw, typed(proto))
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [1, 2])
    kinds = [
        helper.make_sequence_type_proto(tensor),
        helper.make_optional_type_proto(tensor),
        helper.make_map_type_proto(7, tensor),
        helper.make_sparse_tensor_type_proto(1, [2]),
    ]
    value.type.CopyFrom(some(draw, kinds))


def declared_wrongly(proto: ModelProto, draw: Draw) -> None:
    """What is said of an inner tensor is not so."""
    name = some(draw, [name for node in proto.graph.node for name in node.output if name])
    shape = draw.integers(1, 9, int(draw.integers(6))).tolist()
    proto.graph.value_info.append(helper.make_tensor_value_info(name, some(draw, TYPES[1:16]), shape))


def drop_input(proto: ModelProto, draw: Draw) -> None:
    some(draw, proto.graph.input)
    del proto.graph.input[int(draw.integers(len(proto.graph.input)))]


def more_graph_inputs(proto: ModelProto, draw: Draw) -> None:
    names = [*NAMES, *tensors(proto)]
    proto.graph.input.append(helper.make_tensor_value_info(some(draw, names), some(draw, TYPES[1:16]), [1, 2]))


def drop_output(proto: ModelProto, draw: Draw) -> None:
    del proto.graph.output[int(draw.integers(len(proto.graph.output)))]


def more_graph_outputs(proto: ModelProto, draw: Draw) -> None:
    proto.graph.output.append(
        helper.make_tensor_value_info(some(draw, [*NAMES, *tensors(proto)]), some(draw, TYPES[1:16]), None)
    )


def other_output(proto: ModelProto, draw: Draw) -> None:
    some(draw, proto.graph.output).CopyFrom(onnx.ValueInfoProto(name=some(draw, tensors(proto))))


# ------------------------------------------------------------------------------------------------------------ initializers


def drop_weight(proto: ModelProto, draw: Draw) -> None:
    some(draw, proto.graph.initializer)
    del proto.graph.initializer[int(draw.integers(len(proto.graph.initializer)))]


def double_weight(proto: ModelProto, draw: Draw) -> None:
    proto.graph.initializer.append(some(draw, proto.graph.initializer))


def weight_of_another(proto: ModelProto, draw: Draw) -> None:
    some(draw, proto.graph.initializer).name = some(draw, [t.name for t in proto.graph.initializer])


def dims_of_weight(proto: ModelProto, draw: Draw) -> None:
    """The sizes, but not the numbers."""
    found = some(draw, [t for t in proto.graph.initializer if t.dims])
    found.dims[int(draw.integers(len(found.dims)))] = some(draw, SIZES)


def weight_reshaped(proto: ModelProto, draw: Draw) -> None:
    """As many numbers with other sizes."""
    found = some(draw, proto.graph.initializer)
    size = int(np.prod(found.dims))
    found.dims[:] = some(draw, [[size], [1, size], [size, 1], [1, *found.dims], [*found.dims, 1], list(found.dims)[::-1]])


def weight_cut(proto: ModelProto, draw: Draw) -> None:
    """A weight with fewer or more rows or columns, whole in itself."""
    found = some(draw, [t for t in proto.graph.initializer if t.dims])
    values = numpy_helper.to_array(found)
    axis = int(draw.integers(values.ndim))
    count = int(draw.integers(values.shape[axis] + 2))
    found.CopyFrom(
        numpy_helper.from_array(np.take(values, range(count), axis, mode="wrap") if values.size else values, found.name)
    )


def type_of_weight(proto: ModelProto, draw: Draw) -> None:
    """The type, but not the bytes."""
    some(draw, proto.graph.initializer).data_type = some(draw, TYPES)


def weight_converted(proto: ModelProto, draw: Draw) -> None:
    """A weight of another type, whole in itself."""
    found = some(draw, proto.graph.initializer)
    with np.errstate(all="ignore"):
        values = numpy_helper.to_array(found).astype(some(draw, [np.float16, np.float64, np.int32, np.int64, np.uint8, bool]))
    found.CopyFrom(numpy_helper.from_array(values, found.name))


def bytes_of_weight(proto: ModelProto, draw: Draw) -> None:
    found = some(draw, [t for t in proto.graph.initializer if t.raw_data])
    count = int(draw.integers(len(found.raw_data) + 9))
    found.raw_data = (found.raw_data + bytes(9))[:count]


def odd_values(proto: ModelProto, draw: Draw) -> None:
    """NaN, infinity, zeros or numbers too large in a weight."""
    found = some(draw, [t for t in proto.graph.initializer if t.data_type in (1, 11)])
    values = numpy_helper.to_array(found).copy()
    if draw.random() < 0.5:
        values[...] = some(draw, FLOATS)
    elif values.size:
        values.flat[int(draw.integers(values.size))] = some(draw, FLOATS)
    found.CopyFrom(numpy_helper.from_array(values, found.name))


def odd_integers(proto: ModelProto, draw: Draw) -> None:
    """Another number among those that are a shape, axes or indices."""
    found = some(draw, [t for t in proto.graph.initializer if t.data_type == TensorProto.INT64 and np.prod(t.dims)])
    values = numpy_helper.to_array(found).copy()
    values.flat[int(draw.integers(values.size))] = some(draw, SIZES)
    found.CopyFrom(numpy_helper.from_array(values, found.name))


def weight_elsewhere(proto: ModelProto, draw: Draw) -> None:
    """A weight in a file that is not there, is no file, or is none of the model's."""
    found = some(draw, proto.graph.initializer)
    found.ClearField("raw_data")
    found.data_location = TensorProto.EXTERNAL
    location = some(draw, ["there.bin", "", ".", "../there.bin", "/etc/passwd", "/dev/zero", "a/../../b", "é\n", "."])
    entries = {"location": location, "offset": str(some(draw, SIZES)), "length": str(some(draw, [*SIZES, "x"]))}
    for key, value in entries.items():
        if draw.random() < 0.8:
            found.external_data.add(key=key, value=value)


def weight_as_node(proto: ModelProto, draw: Draw) -> None:
    i = int(draw.integers(max(len(proto.graph.initializer), 1)))
    found = some(draw, proto.graph.initializer[i : i + 1])
    constant = helper.make_node("Constant", [], [found.name], value=TensorProto.FromString(found.SerializeToString()))
    del proto.graph.initializer[i]
    reordered(proto.graph.node, [constant, *proto.graph.node])


def weight_copied(proto: ModelProto, draw: Draw) -> None:
    """A weight that an Identity hands on."""
    found = some(draw, proto.graph.initializer)
    name, found.name = found.name, found.name + "/kept"
    reordered(proto.graph.node, [helper.make_node("Identity", [found.name], [name]), *proto.graph.node])


def weight_sparse(proto: ModelProto, draw: Draw) -> None:
    i = int(draw.integers(max(len(proto.graph.initializer), 1)))
    found = some(draw, proto.graph.initializer[i : i + 1])
    values = numpy_helper.from_array(np.ones(2, np.float32), found.name)
    places = numpy_helper.from_array(np.array(some(draw, [[0, 1], [1, 0], [0, 10**9], [[0, 0], [0, 1]]])), "")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, list(found.dims)))
    del proto.graph.initializer[i]


def weight_as_input(proto: ModelProto, draw: Draw) -> None:
    found = some(draw, proto.graph.initializer)
    proto.graph.input.append(helper.make_tensor_value_info(found.name, found.data_type, found.dims))
    if draw.random() < 0.3:
        reordered(proto.graph.initializer, [t for t in proto.graph.initializer if t.name != found.name])


# ----------------------------------------------------------------------------------------- operator sets, names, metadata


def other_opset(proto: ModelProto, draw: Draw) -> None:
    some(draw, proto.opset_import).version = some(draw, [*range(1, 28), *SIZES])


def drop_opset(proto: ModelProto, draw: Draw) -> None:
    some(draw, proto.opset_import)
    del proto.opset_import[int(draw.integers(len(proto.opset_import)))]


def more_opsets(proto: ModelProto, draw: Draw) -> None:
    proto.opset_import.add(domain=some(draw, DOMAINS), version=int(draw.integers(1, 25)))


def other_ir(proto: ModelProto, draw: Draw) -> None:
    proto.ir_version = some(draw, [*range(1, 16), 0, -1, 2**62])


def told_already(proto: ModelProto, draw: Draw) -> None:
    """Metadata, some as ours and some twice."""
    for _ in range(int(draw.integers(1, 4))):
        proto.metadata_props.add(
            key=some(draw, ["onnxdtd.relevance", "onnxdtd.version", "onnxdtd.", "", "author", "classes", "labels", "names"]),
            value=some(draw, [*NAMES, "[" * 999, "{0: 'a'}", "null", "[1, 2]"]),
        )


def tensor_renamed(proto: ModelProto, draw: Draw) -> None:
    renamed(proto, some(draw, tensors(proto)), some(draw, [*NAMES, *tensors(proto)]))


def output_renamed(proto: ModelProto, draw: Draw) -> None:
    renamed(proto, some(draw, proto.graph.output).name, some(draw, NAMES))


def value_renamed(proto: ModelProto, draw: Draw) -> None:
    some(draw, [*typed(proto), *proto.graph.initializer]).name = some(draw, [*NAMES, *tensors(proto)])


def name_of_graph(proto: ModelProto, draw: Draw) -> None:
    proto.graph.name = some(draw, NAMES)


Change = Callable[[ModelProto, Draw], None]
GROUPS: dict[str, tuple[Change, ...]] = {
    "node": (
        drop_node, double_node, swap_nodes, other_operator, no_operator, other_domain, name_of_node, fewer_inputs,
        input_left_out, inputs_swapped, more_inputs, other_input, unknown_input, circle, fewer_outputs, output_left_out,
        more_outputs, between, in_branch, in_function,
    ),
    "attribute": (
        drop_attribute, other_number, other_numbers, fewer_numbers, more_numbers, other_float, other_string, type_of_attribute,
        value_of_another_type, name_of_attribute, more_attributes, attribute_of_function,
    ),
    "shape, type": (
        other_size, open_size, open_sizes, fewer_axes, more_axes, no_shape, no_type, other_type, other_container,
        declared_wrongly, drop_input, more_graph_inputs, drop_output, more_graph_outputs, other_output,
    ),
    "weight": (
        drop_weight, double_weight, weight_of_another, dims_of_weight, weight_reshaped, weight_cut, type_of_weight,
        weight_converted, bytes_of_weight, odd_values, odd_integers, weight_elsewhere, weight_as_node, weight_copied,
        weight_sparse, weight_as_input,
    ),
    "name, version": (
        other_opset, drop_opset, more_opsets, other_ir, told_already, tensor_renamed, output_renamed, value_renamed,
        name_of_graph,
    ),
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------- bytes


def flipped(data: bytes, draw: Draw) -> bytes:
    changed = bytearray(data)
    for _ in range(int(draw.integers(1, 9))):
        changed[int(draw.integers(min(len(data), some(draw, [200, 2000, len(data)]))))] = int(draw.integers(256))
    return bytes(changed)


def truncated(data: bytes, draw: Draw) -> bytes:
    return data[: int(draw.integers(len(data)))]


def cut(data: bytes, draw: Draw) -> bytes:
    i = int(draw.integers(len(data)))
    return data[:i] + data[i + int(draw.integers(1, 30)) :]


def doubled(data: bytes, draw: Draw) -> bytes:
    i, n = int(draw.integers(len(data))), int(draw.integers(1, 200))
    return data[: i + n] + data[i:]


def joined(data: bytes, draw: Draw) -> bytes:
    """What protobuf takes for one message: repeated fields of both."""
    return data + data[int(draw.integers(2)) * int(draw.integers(len(data))) :]


BYTES: tuple[Callable[[bytes, Draw], bytes], ...] = (flipped, truncated, cut, doubled, joined)
KINDS = [(group, change.__name__) for group, changes in GROUPS.items() for change in changes]
KINDS += [("bytes", change.__name__) for change in BYTES]
CHANGES = {change.__name__: change for changes in GROUPS.values() for change in changes}
RAW = {change.__name__: change for change in BYTES}


def mutated(data: bytes, kind: str, draw: Draw) -> bytes:
    """A model with a mutation. Raises ``Nothing`` where there is no place for it."""
    if kind in RAW:
        return RAW[kind](data, draw)
    proto = onnx.load_model_from_string(data)
    try:
        CHANGES[kind](proto, draw)
    except (TypeError, ValueError, IndexError, AttributeError):  # of a mutation of a mutant, or what protobuf cannot hold
        raise Nothing from None
    return bytes(proto.SerializeToString())
