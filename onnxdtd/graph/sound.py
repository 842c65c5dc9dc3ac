"""Is it a graph at all? What everything behind relies on, looked at once: numbers, arities, attributes, names, functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod

import onnx
from onnx import AttributeProto, NodeProto, TensorProto

from onnxdtd.errors import ModelError

# What is looked at: ten times what the largest classifiers have; onnx takes minutes and gigabytes for more.
MOST_NODES, MOST_TENSORS, MOST_ENDS = 50_000, 200_000, 500_000
MOST_AXES = 64
GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER

FLAGS = (  # attributes that are yes or no: of another number every implementation thinks differently
    "allowzero", "antialias", "ceil_mode", "count_include_pad", "exclude_outside", "exclusive", "is_causal", "keepdims",
    "noop_with_empty_axes", "reverse", "select_last_index", "sorted", "training_mode", "transA", "transB",
)  # fmt: skip

AXES, SIZES, WIDTHS = range(-MOST_AXES, MOST_AXES + 1), range(1, 2**24), range(-(2**31), 2**31)
RANGES = {  # what the numbers of an attribute may be: of larger ones onnx keeps 32 bits, and products leave 64
    **dict.fromkeys(("axis", "axes", "perm"), AXES),
    **dict.fromkeys(("blocksize", "dilations", "group", "kernel_shape", "num_groups", "strides"), SIZES),
    **dict.fromkeys(("output_padding", "output_shape", "pads"), WIDTHS),
    **dict.fromkeys(FLAGS, range(2)),
}

EQUATION = re.compile(rb"[A-Za-z ,.>-]*")  # of other letters onnx never comes to an end

NARROW = [getattr(TensorProto, name) for name in ("INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1") if hasattr(TensorProto, name)]

Key = tuple[str, str, str]  # of a function: domain, name, overload


def called(node: NodeProto) -> str:
    """A node as a message names it."""
    name = node.name or next(iter(node.output), "")
    return f"node {name!r} ({node.op_type})"


def nodes_of(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """All nodes, those inside of branches and loops too."""
    found = list(nodes)
    for node in found:  # and those inside, as they are met
        yield node
        found += [inner for attribute in node.attribute for graph in (attribute.g, *attribute.graphs) for inner in graph.node]


def check_entries(data: bytes) -> None:
    """Raise ``ModelError`` for bytes that protobuf would make into fifty times as many: a graph of nothing but empty nodes."""
    most, count = MOST_NODES + MOST_TENSORS, 0
    for start, end in (span for field, *span in _fields(data, 0, len(data)) if field == GRAPH):
        for _ in _fields(data, start, end):
            count += 1
            if count > most:
                raise ModelError(f"the model has more than {most} nodes and tensors, which are not looked at")


def _fields(data: bytes, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The number of each field of a message in protobuf's encoding that has a length, and where it begins and ends; up to what
    cannot be read.
    """
    while place < end:
        key, place = _varint(data, place, end)
        if key & 7 == 0:
            _, place = _varint(data, place, end)
        elif key & 7 == 2:
            length, place = _varint(data, place, end)
            yield key >> 3, place, min(place + length, end)
            place += length
        elif key & 7 in (1, 5):
            place += 8 if key & 7 == 1 else 4
        else:
            return


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    value, shift = 0, 0
    while place < end:
        value |= (data[place] & 127) << shift
        place, shift, more = place + 1, shift + 7, data[place] & 128
        if not more or shift > 63:
            break
    return value, place


def check_size(proto: onnx.ModelProto) -> None:
    """Raise ``ModelError`` where a model is longer than any that somebody made to use it."""
    graph = proto.graph
    nodes = len(graph.node) + sum(len(function.node) for function in proto.functions)
    declared = (graph.input, graph.output, graph.value_info, graph.initializer, graph.sparse_initializer)
    _most(nodes, MOST_NODES, "nodes")
    _most(sum(map(len, declared)), MOST_TENSORS, "tensors")
    _most(sum(len(node.input) + len(node.output) for node in graph.node), MOST_ENDS, "inputs and outputs of nodes")
    shapes = (value.type.tensor_type.shape.dim for field in declared[:3] for value in field)
    _most(
        max([*map(len, shapes), *(len(tensor.dims) for tensor in graph.initializer)], default=0), MOST_AXES, "axes in a tensor"
    )


def _most(count: int, most: int, what: str) -> None:
    if count > most:
        raise ModelError(f"the model has {count} {what}; up to {most} are looked at")


def check(proto: onnx.ModelProto) -> None:
    """Raise ``ModelError`` where the model is none that could be compiled, whatever is in it."""
    versions: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ModelError(
                f"operator set {domain or 'ai.onnx'!r} is imported twice, as {versions[domain]} and as {entry.version}; "
                "export the model again"
            )
    for tensor in proto.graph.initializer:
        if reason := _misfit(tensor):
            raise ModelError(f"weight {tensor.name!r}: {reason}; export or copy the model again")
    _check_functions(proto)
    twice = next((name for name, count in Counter(value.name for value in proto.graph.output).items() if count > 1), None)
    if twice is not None:
        raise ModelError(f"the output {twice!r} is listed twice; export the model again")
    for node in nodes_of(proto.graph.node):
        for reason in filter(None, map(_wrong, node.attribute)):
            raise ModelError(f"{called(node)}: {reason}; export the model again")


def _misfit(tensor: TensorProto) -> str:
    """What is wrong with the sizes of a weight, in words."""
    if any(size < 0 for size in tensor.dims):
        return f"has a negative size, {list(tensor.dims)}"
    need = byte_size(tensor)
    if tensor.raw_data and need is not None and len(tensor.raw_data) != need:
        return f"is {list(tensor.dims)}, which takes {need} bytes, and has {len(tensor.raw_data)}"
    return ""


def byte_size(tensor: TensorProto) -> int | None:
    """How many bytes the numbers of a tensor take; None for strings and types of less than a byte."""
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError:
        return None
    return None if dtype.hasobject or tensor.data_type in NARROW else prod(tensor.dims) * dtype.itemsize


def _wrong(attribute: AttributeProto) -> str:
    """What is wrong with an attribute, in words; nothing of most."""
    if attribute.ref_attr_name:
        return f"{attribute.name!r} is an attribute of a function, and the node is in none"
    if attribute.name == "equation" and not EQUATION.fullmatch(attribute.s):
        return f"equation is {attribute.s!r}, which is none"
    numbers = [attribute.i] if attribute.type == AttributeProto.INT else attribute.ints
    allowed = RANGES.get(attribute.name)
    odd = [] if allowed is None else [number for number in numbers if number not in allowed]
    return f"{attribute.name} has {odd[0]}, which is none of {allowed[0]} to {allowed[-1]}" if odd and allowed else ""


def _check_functions(proto: onnx.ModelProto) -> None:
    """Raise ``ModelError`` where functions call each other in a circle, or would be too many nodes when written out."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[Key, int] = {}
    for key in functions:
        pending = [key]
        while pending:
            key = pending[-1]
            inner = [k for n in nodes_of(functions[key].node) if (k := (n.domain, n.op_type, n.overload)) in functions]
            unknown = [k for k in dict.fromkeys(inner) if k not in sizes]
            if set(unknown) & set(pending):
                raise ModelError(f"the function {key[1]!r} of the model calls itself; export the model again")
            if unknown:
                pending += unknown[:1]
                continue
            sizes[pending.pop()] = len(functions[key].node) + sum(sizes[k] for k in inner)
    called_for = ((n.domain, n.op_type, n.overload) for n in nodes_of(proto.graph.node))
    total = sum(1 + sizes.get(key, 0) for key in called_for)
    _most(total, MOST_NODES, "nodes")


def check_valid(bare: onnx.ModelProto) -> None:
    """Raise ``ModelError`` where onnx's own checker finds the skeleton of a model invalid."""
    try:
        onnx.checker.check_model(_declared(bare))
    except (onnx.checker.ValidationError, ValueError) as error:
        where = re.search(r"Bad node spec for node\. Name: (.*) OpType: (\S+)", str(error))
        node = f"node {where[1]!r} ({where[2]}): " if where else ""
        raise ModelError(f"not a valid ONNX graph: {node}{str(error).strip().splitlines()[0]}") from None


def _declared(bare: onnx.ModelProto) -> onnx.ModelProto:
    """The same with some type and shape where a tensor has none, which onnx's checker insists on and runtimes do without."""
    whole = onnx.ModelProto()
    whole.CopyFrom(bare)
    for value in whole.graph.output:
        if not value.HasField("type"):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for value in (*whole.graph.input, *whole.graph.output):
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.shape.SetInParent()
    return whole
