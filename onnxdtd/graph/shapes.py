"""The structure of a model, with inferred shapes and without its weights: the graph to plan on."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import partial

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, ValueInfoProto, helper
from onnx.external_data_helper import uses_external_data
from onnx_graphsurgeon.logger import G_LOGGER

from onnxdtd.errors import ModelError, counted
from onnxdtd.graph.recurrent import KINDS
from onnxdtd.graph.sound import check_valid
from onnxdtd.graph.spelled import float_nodes
from onnxdtd.graph.tensors import Graph, Tensor, imported, unique
from onnxdtd.graph.told import constants, tell
from onnxdtd.graph.view import Served, replaced

INTEGERS = (TensorProto.INT32, TensorProto.INT64)
MOST_SIZES = 2**16  # in a list of integers that may stand for sizes

SMALL_BYTES = 4096  # tensors up to this size (shapes, pads, scalars) are kept for shape inference
SMALL_INTEGERS = 8 * SMALL_BYTES  # of integers, which are often indices

# What is wrong with a node, in the words of shape inference. An error inside of an error is in the body of a function, which
# no runtime looks into; a type that is null is that of an operator of another domain.
MISFIT = re.compile(r"\(op_type:(\S+), node name: (.*)\): (?:\[\w+Error\] )?(?!.*Inference error|.*but instead is null)(.*)")


def is_small(tensor: onnx.TensorProto) -> bool:
    """Are its values worth to be known?"""
    most = SMALL_INTEGERS if tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32) else SMALL_BYTES
    return tensor.ByteSize() <= most and not uses_external_data(tensor)


def skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same structure with every weight that is not small a graph input: all of the shapes, none of the bytes."""
    bare = onnx.ModelProto(ir_version=proto.ir_version)
    bare.opset_import.extend(proto.opset_import)
    bare.functions.extend(proto.functions)
    graph, listed = proto.graph, {value.name for value in proto.graph.input}
    bare.graph.name = graph.name or "graph"
    bare.graph.node.extend(graph.node)
    bare.graph.input.extend(graph.input)
    bare.graph.output.extend(graph.output)
    given = listed | {value.name for value in graph.output}
    bare.graph.value_info.extend(value for value in graph.value_info if value.name not in given)
    for tensor in graph.initializer:
        if is_small(tensor):
            bare.graph.initializer.append(tensor)
        elif tensor.name not in listed:
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for sparse in graph.sparse_initializer:
        info = helper.make_tensor_value_info(sparse.values.name, sparse.values.data_type, sparse.dims)
        bare.graph.input.append(info)
    for value in (*bare.graph.input, *bare.graph.output, *bare.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_value < 0 or (size.HasField("dim_param") and not size.dim_param):  # not known, as runtimes read it
                size.Clear()
    return bare


def hollow(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model to try things on: the same with every weight above 4 KiB left out, as if it were in a file elsewhere."""
    bare, kept = skeleton(proto), {t.name for t in proto.graph.initializer}
    bare.graph.sparse_initializer.extend(proto.graph.sparse_initializer)
    del bare.graph.input[:]
    bare.graph.input.extend(proto.graph.input)
    kept -= {t.name for t in bare.graph.initializer}
    for tensor in proto.graph.initializer:
        if tensor.name in kept:
            away = bare.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            away.data_location = TensorProto.EXTERNAL
            away.external_data.add(key="location", value="elsewhere")
    return bare


def graph(proto: onnx.ModelProto, served: Served = lambda op: True, steps: int | None = None) -> Graph:
    """The structure of ``proto`` as a graph to plan on, with inferred shapes; what no operator is ``served`` for is shown by
    others, as far as it can be, a recurrent layer by so many ``steps``. Raises ``ModelError`` on an invalid graph.
    """
    bare = skeleton(proto)
    check_valid(bare)
    try:
        misjudged = _infer_shapes(bare)
        sequences: dict[str, list[str]] = {}
        while replaced(bare, served, sequences, steps):
            misjudged = _infer_shapes(bare)
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise ModelError(f"not a valid ONNX graph: {str(error).strip().splitlines()[0]}") from None
    severity, G_LOGGER.severity = G_LOGGER.severity, G_LOGGER.CRITICAL
    try:
        found = imported(gs.import_onnx(bare))
    except (KeyError, TypeError, ValueError) as error:  # data types of the future, or of a damaged file
        raise ModelError(f"not a valid ONNX graph: {error}") from None
    finally:
        G_LOGGER.severity = severity
    given = {name for node in proto.graph.node for name in node.output}
    found.views = [node for node in found.nodes if not any(t.name in given for t in node.outputs)]
    held = names(proto)
    read = [t for node in found.nodes for t in node.inputs if t.values is not None and t.producer is None]
    found.constants = [t for t in read if t.name not in held]
    taken = {node.name for node in proto.graph.node}
    for node in found.views:
        node.name = unique(node.name, taken)
    found.misjudged = misjudged
    values = constants(bare)
    for name, tensor in found.tensors().items() if values else ():
        tensor.values = values.get(name, tensor.values)
    return found


def element_types(proto: onnx.ModelProto) -> dict[str, int]:
    """The types of the elements of all tensors, as far as they can be inferred."""
    bare = skeleton(proto)
    _infer_shapes(bare)
    values = (*bare.graph.input, *bare.graph.value_info, *bare.graph.output)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return {name: kind for name, kind in found.items() if kind} | {t.name: t.data_type for t in bare.graph.initializer}


def _is_declared(value: ValueInfoProto) -> bool:
    """Does it have a type, and a shape if it is a tensor?"""
    kind = value.type.WhichOneof("value")
    return kind is not None and (kind != "tensor_type" or value.type.tensor_type.HasField("shape"))


def _merged(found: ValueInfoProto, told: ValueInfoProto, names: Collection[str]) -> ValueInfoProto:
    """What was inferred of a tensor, and of what was declared the sizes that were not, unless both contradict each other; sizes
    of inputs keep their ``names``.
    """
    if not _is_declared(found):
        return told
    inferred, declared = found.type.tensor_type.shape.dim, told.type.tensor_type.shape.dim
    sizes = [[d.dim_value for d in pair] for pair in zip(inferred, declared, strict=False) if all(d.dim_value for d in pair)]
    if len(inferred) == len(declared) and all(a == b for a, b in sizes):
        for size, other in zip(inferred, declared, strict=True):
            named = size.dim_param and size.dim_param in names
            if not named and not size.HasField("dim_value") and other.WhichOneof("value"):
                size.CopyFrom(other)
    return found


def declare_outputs(proto: onnx.ModelProto, known: Graph) -> list[str]:
    """Give outputs without a type or shape those that were inferred, in place; returns what was changed, in words."""
    found = {t.name: t for t in known.outputs if t.shape is not None and t.dtype is not None}
    missing = [value for value in proto.graph.output if not _is_declared(value) and value.name in found]
    for value in missing:
        tensor = found[value.name]
        elem = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        value.CopyFrom(helper.make_tensor_value_info(value.name, elem, list(tensor.shape or ())))
    names = ", ".join(repr(value.name) for value in missing)
    return [f"shape of the output {names} declared"] if missing else []


def _sizes_of_inputs(proto: onnx.ModelProto) -> set[int]:
    """The numbers that are declared of inputs."""
    declared = [size for value in proto.graph.input for size in value.type.tensor_type.shape.dim]
    return {size.dim_value for size in declared if size.HasField("dim_value")}


def open_batches(proto: onnx.ModelProto, known: Graph) -> list[str]:
    """Take from outputs a number of samples that no input has, in place: runtimes believe it of what reads them."""
    tensors, sizes, wrong = known.tensors(), _sizes_of_inputs(proto), []
    for value in proto.graph.output:
        shape, tensor = value.type.tensor_type.shape.dim, tensors.get(value.name)
        if not shape or tensor is None or not tensor.shape or isinstance(tensor.shape[0], int):
            continue
        if shape[0].HasField("dim_value") and shape[0].dim_value not in sizes:
            shape[0].Clear()
            wrong.append(value.name)
    return [f"wrong number of samples of the output {', '.join(map(repr, wrong))} left out"] if wrong else []


def forget_lengths(proto: onnx.ModelProto) -> bool:
    """Take away what is declared of inner tensors, in place, where that has the length that an exporter has seen; has it any?

    Behind recurrent layers exporters write that in place of the size of an input that is open.
    """
    if not proto.graph.value_info or not any(node.op_type in KINDS for node in proto.graph.node):
        return False
    free = skeleton(proto)
    names = {size.dim_param for value in free.graph.input for size in value.type.tensor_type.shape.dim} - {""}
    told = {v.name: [size.dim_value for size in v.type.tensor_type.shape.dim] for v in free.graph.value_info}
    del free.graph.value_info[:]
    infer = partial(onnx.shape_inference.infer_shapes, data_prop=_holds_sizes(free))
    inferred = infer(free)
    while tell(free, inferred):
        inferred = infer(free)
    found = {value.name: value.type.tensor_type.shape.dim for value in inferred.graph.value_info}
    pairs = {name: list(zip(sizes, found.get(name, ()), strict=False)) for name, sizes in told.items()}
    seen = {size for each in pairs.values() for size, other in each if size and other.dim_param in names}
    wrong = {name for name, each in pairs.items() if any(size in seen and not other.dim_value for size, other in each)}
    if wrong:
        kept = [ValueInfoProto.FromString(v.SerializeToString()) for v in proto.graph.value_info if v.name not in wrong]
        del proto.graph.value_info[:]
        proto.graph.value_info.extend(kept)
    return bool(wrong)


def drop_contradictions(proto: onnx.ModelProto, known: Graph) -> list[str]:
    """Take away what is declared of inner tensors and is not so, in place; runtimes would believe it of what reads them."""
    tensors = known.tensors()
    kept = [value for value in proto.graph.value_info if not _contradicts(value, tensors.get(value.name))]
    count = len(proto.graph.value_info) - len(kept)
    if not count:
        return []
    copies = [ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(copies)
    return [f"{counted(count, 'wrong declared shape')} left out"]


def _contradicts(value: ValueInfoProto, tensor: Tensor | None) -> bool:
    """Is the tensor of another shape than is declared?"""
    if tensor is None or tensor.shape is None or not value.type.tensor_type.HasField("shape"):
        return False
    declared = [size.dim_value for size in value.type.tensor_type.shape.dim]
    pairs = zip(declared, tensor.shape, strict=False)
    return len(declared) != len(tensor.shape) or any(a > 0 and isinstance(b, int) and 0 <= b != a for a, b in pairs)


def _infer_shapes(bare: onnx.ModelProto) -> dict[str, list[int]]:
    """Fill in the shapes, also behind quantised operators, whose domain shape inference does not know. Returns the axes of
    tensors of whose sizes runtimes have another idea before they run.

    What a model declares of its outputs counts where nothing can be inferred; where it is wrong, runtimes do not mind either.
    """
    spelled = onnx.ModelProto()
    spelled.CopyFrom(bare)
    opset = max((entry.version for entry in bare.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    del spelled.graph.node[:]
    named = [onnx.NodeProto.FromString(node.SerializeToString()) for node in bare.graph.node]
    for node in named:
        node.name = node.name or next(iter(node.output), "")
    spelled.graph.node.extend(float_nodes(named, opset))
    given = {
        name for node in named if node.op_type != "Constant" for name in node.output
    }  # for others nothing is to be found out
    del spelled.graph.output[:]
    spelled.graph.output.extend(value for value in bare.graph.output if value.name in given)
    for value in spelled.graph.output:
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.ClearField("shape")
    inferred, heard = _inferred(spelled)
    first = inferred
    while tell(spelled, inferred):
        try:
            inferred, heard = _inferred(spelled)
        except ModelError:  # of what onnx is told it looks at more than runtimes do
            break
    told = {value.name: value for value in bare.graph.value_info if heard}
    del bare.graph.value_info[:]
    names = {size.dim_param for value in bare.graph.input for size in value.type.tensor_type.shape.dim}
    bare.graph.value_info.extend(_merged(value, told.get(value.name, value), names) for value in inferred.graph.value_info)
    found = {value.name: value for value in inferred.graph.output}
    sizes = _sizes_of_inputs(bare)
    for value in bare.graph.output:
        if (shape := value.type.tensor_type.shape.dim) and shape[0].dim_value not in sizes:  # no batch of any input
            shape[0].ClearField("dim_value")
        value.CopyFrom(_merged(found.get(value.name, value), value, names))
    return {} if inferred is first else _misjudged(first, inferred)


def _misjudged(first: onnx.ModelProto, inferred: onnx.ModelProto) -> dict[str, list[int]]:
    """The axes of tensors whose sizes contradict those that were inferred at first."""
    before, after = (
        {v.name: v.type.tensor_type.shape.dim for field in (m.graph.value_info, m.graph.output) for v in field}
        for m in (first, inferred)
    )
    pairs = {name: zip(sizes, after[name], strict=False) for name, sizes in before.items() if name in after}
    found = {
        name: [i for i, (a, b) in enumerate(pair) if a.dim_value and b.dim_value and a.dim_value != b.dim_value]
        for name, pair in pairs.items()
    }
    return {name: axes for name, axes in found.items() if axes}


def _inferred(spelled: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """With inferred shapes. Where what is declared of an inner tensor contradicts them, they count, as they do for runtimes;
    where it contradicts that of others, nothing that is declared is heard (False).

    Raises ``ModelError`` for a node whose inputs do not fit together, which no runtime runs.
    """
    infer = partial(onnx.shape_inference.infer_shapes, data_prop=_holds_sizes(spelled))
    strictly = partial(infer, strict_mode=True, check_type=True)
    try:
        return strictly(spelled), True
    except onnx.shape_inference.InferenceError:
        told = list(spelled.graph.value_info)
    del spelled.graph.value_info[:]
    last = strictly
    try:
        found = strictly(spelled)
    except onnx.shape_inference.InferenceError as error:
        match = MISFIT.search(str(error))
        if match:
            raise ModelError(
                f"node {match[2]!r} ({match[1]}): its inputs do not fit ({match[3]}), so no runtime runs it; "
                "export the model again"
            ) from None
        found, last = infer(spelled), infer
    known = {value.name for value in found.graph.value_info if _is_declared(value)}
    spelled.graph.value_info.extend(value for value in told if value.name not in known)
    try:
        return last(spelled), True
    except onnx.shape_inference.InferenceError:
        return found, False


def _holds_sizes(spelled: onnx.ModelProto) -> bool:
    """Are the integers that shape inference follows few enough? It makes an entry for each, if only their number is said."""
    graph = onnx.shape_inference.infer_shapes(spelled).graph
    types = [value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)]
    lists = [t.shape.dim[0].dim_value for t in types if t.elem_type in INTEGERS and len(t.shape.dim) == 1]
    return max(lists, default=0) <= MOST_SIZES


def names(proto: onnx.ModelProto) -> set[str]:
    """The names that tensors of the graph have, used or not."""
    graph = proto.graph
    listed = {value.name for field in (graph.input, graph.output, graph.value_info) for value in field}
    weights = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return listed | weights | {name for node in graph.node for name in node.output}


def real_inputs(proto: onnx.ModelProto) -> list[ValueInfoProto]:
    """The inputs that a caller must feed: those without an initializer."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in weights]
