"""Reading, normalising and writing ONNX files. Large weights are not looked at, and external ones never loaded."""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError
from onnx import TensorProto, ValueInfoProto, helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from onnx_graphsurgeon.logger import G_LOGGER

from onnxdtd import atomic
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.graph.branches import take_constant_branches
from onnxdtd.graph.spelled import float_nodes
from onnxdtd.graph.tensors import Graph, imported

OLDEST_OPSET = 7  # what onnx's version converter still understands reliably
EMITTED_OPSET = 17  # the operators that the relevance pass uses mean the same from here on
CEIL_OPSET = 22  # the first one in which shape inference counts the windows of a padded ceil_mode pool as runtimes do
EMITTED_IR = 8  # the IR version of opset 17; from 4 on, initializers need not be inputs
SMALL_BYTES = 4096  # tensors up to this size (shapes, pads, scalars) are kept for shape inference

REMOVED = {  # experimental operators that older exporters wrote, and what does the same
    "Affine": "Mul and Add",
    "ConstantFill": "ConstantOfShape",
    "Crop": "Slice",
    "DynamicSlice": "Slice",
    "GivenTensorFill": "an initializer",
    "ImageScaler": "Mul and Add",
    "ParametricSoftplus": "Mul, Softplus and Mul",
    "Scale": "Mul",
    "ScaledTanh": "Mul, Tanh and Mul",
    "Scatter": "ScatterElements",
    "Upsample": "Resize",
}

# What is wrong with a node, in the words of shape inference. An error inside of an error is in the body of a function, which
# no runtime looks into; a type that is null is that of an operator of another domain.
MISFIT = re.compile(r"\(op_type:(\S+), node name: (.*)\): (?:\[\w+Error\] )?(?!.*Inference error|.*but instead is null)(.*)")

ModelLike: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto


@dataclass(frozen=True)
class Source:
    """A model as it was read: the proto (external weights unread), the SHA-256 of its bytes, where it lies."""

    proto: onnx.ModelProto
    sha256: str
    path: Path | None


def read(source: ModelLike) -> Source:
    """Read a model from a path, bytes or a ``ModelProto``.

    Raises ``ModelError`` where there is no file, no ONNX in it, or no graph in the ONNX.
    """
    if isinstance(source, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(source)
        data, path = proto.SerializeToString(deterministic=True), None
    else:
        data, path = (source, None) if isinstance(source, bytes) else _file_bytes(Path(source))
        proto = _parse(data, path)
    name = str(path or "the model")
    if not proto.graph.node:
        raise ModelError(f"{name}: no ONNX graph with nodes in it; give the .onnx file of an exported classifier")
    return Source(proto, hashlib.sha256(data).hexdigest(), path)


def _file_bytes(path: Path) -> tuple[bytes, Path]:
    try:
        return path.read_bytes(), path
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: is a folder; give the .onnx file in it") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None


def _parse(data: bytes, path: Path | None) -> onnx.ModelProto:
    name = str(path or "the model")
    if not data:
        raise ModelError(f"{name}: the file is empty")
    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError:
        raise ModelError(f"{name}: not an ONNX model, or a truncated one; export or copy it again") from None
    if not proto.opset_import and not proto.HasField("graph"):
        raise ModelError(f"{name}: not an ONNX model (no operator set, no graph)")
    graph = proto.graph
    names = [graph.name, *(value.name for field in (graph.input, graph.output, graph.initializer) for value in field)]
    names += [name for node in graph.node for name in (node.name, node.op_type, node.domain, *node.input, *node.output)]
    if any(isinstance(name, bytes) for name in names):  # what protobuf gives for a string that is none
        raise ModelError(f"{name}: has names that are not UTF-8 text; export or copy it again")
    return proto


def opset(proto: onnx.ModelProto) -> int:
    """The version of the default operator set."""
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        raise ModelError("the model imports no default operator set, though it has operators of it; export it again")
    return max(versions)


def _imports_default(proto: onnx.ModelProto) -> bool:
    return any(entry.domain in ("", "ai.onnx") for entry in proto.opset_import)


def _is_default(node: onnx.NodeProto) -> bool:
    """Is it of the default operator set?"""
    return node.domain in ("", "ai.onnx")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those inside of branches and loops too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nodes(attribute.g)


def _called(node: onnx.NodeProto) -> str:
    """A node as a message names it."""
    name = node.name or next(iter(node.output), "")
    return f"node {name!r} ({node.op_type})"


def _check_operators(proto: onnx.ModelProto, version: int) -> None:
    """Raise ``ModelError`` for a node that the default operator set does not have in this version."""
    for node in filter(_is_default, _nodes(proto.graph)):
        if onnx.defs.has(node.op_type, version, "") and not onnx.defs.get_schema(node.op_type, version, "").deprecated:
            continue
        schemas = (s for s in onnx.defs.get_all_schemas_with_history() if not s.domain and s.name == node.op_type)
        later = [s.since_version for s in schemas if s.since_version > version and not s.deprecated]
        way = "export the model again without it"
        if node.op_type in REMOVED:
            way = f"write it as {REMOVED[node.op_type]}, or {way}"
        elif later:
            way = f"export the model again with operator set {min(later)}, which has it"
        raise ModelError(f"{_called(node)}: operator set {version} has no such operator; {way}")


def normalise(proto: onnx.ModelProto) -> list[str]:
    """Bring ``proto`` in place to what the relevance pass builds on; returns what was changed, in words.

    Model-local functions are inlined, an operator set below 17 is converted by onnx's own converter, and an IR version
    below 8 is raised. A model that needs none of this stays as it is, node for node.
    """
    changes = []
    if not (proto.functions or _imports_default(proto) or any(map(_is_default, _nodes(proto.graph)))):
        proto.opset_import.add(domain="", version=EMITTED_OPSET)
        changes.append(f"operator set {EMITTED_OPSET} imported")
    version = opset(proto)
    if version < OLDEST_OPSET:
        raise ModelError(f"operator set {version} is older than {OLDEST_OPSET}; export the model again with a newer one")
    if version > onnx.defs.onnx_opset_version():
        newest = onnx.defs.onnx_opset_version()
        raise ModelError(
            f"operator set {version} is newer than {newest}, the newest that this onnx {onnx.__version__} knows; "
            f"export the model again with {newest}, or install a newer onnx"
        )
    if proto.functions:
        from onnx import inliner  # not imported by onnx itself

        proto.CopyFrom(inliner.inline_local_functions(proto))
        changes.append("model-local functions inlined")
    if taken := take_constant_branches(proto.graph):
        changes.append(f"{taken} If with a constant condition replaced by the branch taken")
    weights = {tensor.name for tensor in proto.graph.initializer}
    if proto.ir_version < 4:  # there every initializer had to be listed as an input
        inputs = [value for value in proto.graph.input if value.name not in weights]
        del proto.graph.input[:]
        proto.graph.input.extend(inputs)
    _check_operators(proto, version)
    wanted = CEIL_OPSET if any(map(_pads_with_ceil, proto.graph.node)) else EMITTED_OPSET
    lowest = EMITTED_IR if wanted == EMITTED_OPSET else 10
    if proto.ir_version < lowest and (version < wanted or proto.ir_version < EMITTED_IR):
        changes.append(f"IR version {proto.ir_version} raised to {lowest}")
        proto.ir_version = lowest
    if version < wanted:
        _convert(proto, version, wanted)
        changes.append(f"operator set {version} converted to {wanted}")
    return changes


def _pads_with_ceil(node: onnx.NodeProto) -> bool:
    """Is it a pool some of whose windows could start in the padding at the end?"""
    if node.op_type not in ("AveragePool", "MaxPool", "LpPool"):
        return False
    attrs = {a.name: a for a in node.attribute}
    return "ceil_mode" in attrs and bool(attrs["ceil_mode"].i) and "pads" in attrs and any(attrs["pads"].ints)


def _convert(proto: onnx.ModelProto, version: int, wanted: int) -> None:
    """Convert the nodes; weights stay where they are, since the converter only sees the skeleton."""
    from onnx import version_converter

    bare = skeleton(proto)
    try:
        converted = version_converter.convert_version(bare, wanted)
    except Exception as error:  # the converter raises bare RuntimeErrors from C++
        culprit = next((f"{_called(node)}: " for node in bare.graph.node if _fails_alone(bare, node, wanted, str(error))), "")
        reason = re.sub(r".* failed: ", "", str(error).strip().splitlines()[0])
        raise ModelError(
            f"{culprit}operator set {version} cannot be converted to {wanted} ({reason}); export the model again with {wanted}"
        ) from None
    known = {tensor.name for tensor in proto.graph.initializer}
    del proto.graph.node[:]
    proto.graph.node.extend(converted.graph.node)
    proto.graph.initializer.extend(t for t in converted.graph.initializer if t.name not in known)
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = wanted


def _fails_alone(bare: onnx.ModelProto, node: onnx.NodeProto, wanted: int, reason: str) -> bool:
    """Does the conversion of one node fail in the same way?"""
    from onnx import version_converter

    alone = onnx.ModelProto(ir_version=bare.ir_version, opset_import=bare.opset_import)
    alone.graph.name = "alone"
    alone.graph.node.append(node)
    alone.graph.initializer.extend(t for t in bare.graph.initializer if t.name in node.input)
    given = {t.name for t in alone.graph.initializer}
    for names, place in ((node.input, alone.graph.input), (node.output, alone.graph.output)):
        place.extend(
            helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in dict.fromkeys(names) if n and n not in given
        )
    try:
        version_converter.convert_version(alone, wanted)
    except Exception as error:
        return str(error) == reason
    return False


def skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same structure with every weight above 4 KiB turned into a graph input: all of the shapes, none of the bytes."""
    bare = onnx.ModelProto(ir_version=proto.ir_version)
    bare.opset_import.extend(proto.opset_import)
    bare.functions.extend(proto.functions)
    graph, listed = proto.graph, {value.name for value in proto.graph.input}
    bare.graph.name = graph.name or "graph"
    bare.graph.node.extend(graph.node)
    bare.graph.input.extend(graph.input)
    bare.graph.output.extend(graph.output)
    bare.graph.value_info.extend(graph.value_info)
    for tensor in graph.initializer:
        if tensor.ByteSize() <= SMALL_BYTES and not uses_external_data(tensor):
            bare.graph.initializer.append(tensor)
        elif tensor.name not in listed:
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for sparse in graph.sparse_initializer:
        info = helper.make_tensor_value_info(sparse.values.name, sparse.values.data_type, sparse.dims)
        bare.graph.input.append(info)
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


def graph(proto: onnx.ModelProto) -> Graph:
    """The structure of ``proto`` as a graph to plan on, with inferred shapes. Raises ``ModelError`` on an invalid graph."""
    bare = skeleton(proto)
    try:
        onnx.checker.check_model(_declared(bare))
        _infer_shapes(bare)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        where = re.search(r"Bad node spec for node\. Name: (.*) OpType: (\S+)", str(error))
        node = f"node {where[1]!r} ({where[2]}): " if where else ""
        raise ModelError(f"not a valid ONNX graph: {node}{str(error).strip().splitlines()[0]}") from None
    severity, G_LOGGER.severity = G_LOGGER.severity, G_LOGGER.CRITICAL
    try:
        found = imported(gs.import_onnx(bare))
    except (KeyError, TypeError, ValueError) as error:  # data types of the future, or of a damaged file
        raise ModelError(f"not a valid ONNX graph: {error}") from None
    finally:
        G_LOGGER.severity = severity
    return found


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


def _is_declared(value: ValueInfoProto) -> bool:
    """Does it have a type, and a shape if it is a tensor?"""
    kind = value.type.WhichOneof("value")
    return kind is not None and (kind != "tensor_type" or value.type.tensor_type.HasField("shape"))


def _merged(found: ValueInfoProto, told: ValueInfoProto) -> ValueInfoProto:
    """What was inferred of a tensor, and of what was declared the sizes that were not, unless both contradict each other."""
    if not _is_declared(found):
        return told
    inferred, declared = found.type.tensor_type.shape.dim, told.type.tensor_type.shape.dim
    sizes = [[d.dim_value for d in pair] for pair in zip(inferred, declared, strict=False) if all(d.dim_value for d in pair)]
    if len(inferred) == len(declared) and all(a == b for a, b in sizes):
        for size, other in zip(inferred, declared, strict=True):
            if not size.HasField("dim_value") and other.WhichOneof("value"):
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


def _infer_shapes(bare: onnx.ModelProto) -> None:
    """Fill in the shapes, also behind quantised operators, whose domain shape inference does not know.

    What a model declares of its outputs counts where nothing can be inferred; where it is wrong, runtimes do not mind either.
    """
    spelled = onnx.ModelProto()
    spelled.CopyFrom(bare)
    del spelled.graph.node[:]
    named = [onnx.NodeProto.FromString(node.SerializeToString()) for node in bare.graph.node]
    for node in named:
        node.name = node.name or next(iter(node.output), "")
    spelled.graph.node.extend(float_nodes(named))
    for value in spelled.graph.output:
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.ClearField("shape")
    inferred = _inferred(spelled)
    for kept, found in ((bare.graph.value_info, inferred.graph.value_info), (bare.graph.output, inferred.graph.output)):
        told = {value.name: value for value in kept}
        del kept[:]
        kept.extend(_merged(value, told.get(value.name, value)) for value in found)


def _inferred(spelled: onnx.ModelProto) -> onnx.ModelProto:
    """With inferred shapes. Where what is declared of an inner tensor contradicts them, they count, as they do for runtimes.

    Raises ``ModelError`` for a node whose inputs do not fit together, which no runtime runs.
    """
    infer = partial(onnx.shape_inference.infer_shapes, data_prop=True)
    strictly = partial(infer, strict_mode=True, check_type=True)
    try:
        return strictly(spelled)
    except onnx.shape_inference.InferenceError:
        told = list(spelled.graph.value_info)
    del spelled.graph.value_info[:]
    try:
        found = strictly(spelled)
    except onnx.shape_inference.InferenceError as error:
        match = MISFIT.search(str(error))
        if match:
            raise ModelError(
                f"node {match[2]!r} ({match[1]}): its inputs do not fit ({match[3]}), so no runtime runs it; "
                "export the model again"
            ) from None
        found = infer(spelled)
    known = {value.name for value in found.graph.value_info if _is_declared(value)}
    spelled.graph.value_info.extend(value for value in told if value.name not in known)
    return infer(spelled)


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


def write(proto: onnx.ModelProto, path: Path, source: Path | None = None, weights: str | None = None) -> None:
    """Write ``proto`` to ``path``, all or nothing.

    External weights stay external. ``weights`` is ``"reference"`` to use the files of ``source``, which must then lie in or
    below the folder of ``path``, ``"copy"`` to give the model its own, or None to copy them into another folder only.
    Raises ``ModelError`` where the target cannot be written or is the source.
    """
    if weights not in (None, "reference", "copy"):
        raise RequestError(f"weights {weights!r}: give 'reference' or 'copy'")
    atomic.ready(path, ModelError)
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise ModelError(f"{path}: is the source model, which is never overwritten; choose another output")
    folder = path.resolve().parent  # where a link leads
    if any(path.resolve() == (folder / location).resolve() for location in locations(proto)):
        raise ModelError(f"{path}: is where the weights of the model are; choose another output")
    copies: dict[Path, Path] = {}
    if source is not None and (weights or source.parent.resolve() != folder):
        origins = _external_files(proto, source.parent)
        places = _places(origins, path.resolve(), weights or "copy")
        proto = relocated(proto, places)
        copies = {} if weights == "reference" else {origins[location]: folder / place for location, place in places.items()}
    try:
        data = proto.SerializeToString(deterministic=True)
    except ValueError:
        raise ModelError("the weights inside the model exceed 2 GiB; keep them as external data") from None
    _copy_external_data(copies)
    atomic.write(path, data, ModelError)


def _external_files(proto: onnx.ModelProto, folder: Path) -> dict[str, Path]:
    """Where the files of the external weights are, by location; none outside of the model's folder."""
    found = {location: folder / location for location in locations(proto)}
    for location, origin in found.items():
        if not origin.resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"external weights at {location!r} lie outside the model's folder; not followed")
        if not origin.is_file():
            raise ModelError(f"{origin}: no such file, though the model has its weights there")
    return found


def _places(origins: Mapping[str, Path], path: Path, weights: str) -> dict[str, str]:
    """The location in the model at ``path`` for each one in the source. Runtimes follow none that leaves the folder."""
    folder = path.parent.resolve()
    if weights == "reference":
        for origin in origins.values():
            if not origin.resolve().is_relative_to(folder):
                raise ModelError(
                    f"{origin}: runtimes read weights in or below the folder of a model only; --weights copy copies them"
                )
        return {location: origin.resolve().relative_to(folder).as_posix() for location, origin in origins.items()}
    taken = {location for location, origin in origins.items() if origin.resolve() == (folder / location).resolve()}
    own = lambda location: Path(location).with_name(f"{path.name}.{Path(location).name}").as_posix()
    return {location: own(location) if location in taken else location for location in origins}


def relocated(proto: onnx.ModelProto, places: Mapping[str, str]) -> onnx.ModelProto:
    """The model with its external weights at other places; the same one where nothing changes."""
    if all(location == place for location, place in places.items()):
        return proto
    moved = onnx.ModelProto()
    moved.CopyFrom(proto)
    for tensor in filter(uses_external_data, moved.graph.initializer):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = places[entry.value]
    return moved


def _copy_external_data(copies: Mapping[Path, Path]) -> None:
    missing = {origin: copy for origin, copy in copies.items() if not _is_there(origin, copy)}
    for origin, copy in missing.items():
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(f"{copy}: cannot be written ({error.strerror})") from None
        atomic.copy(origin, copy, ModelError)


def _is_there(origin: Path, copy: Path) -> bool:
    """Is there a copy already? Raises ``ModelError`` where it is none."""
    try:
        if not copy.exists():
            return False
        same = filecmp.cmp(origin, copy, shallow=False)
    except OSError as error:
        raise ModelError(f"{error.filename}: cannot be read ({error.strerror})") from None
    if not same:
        raise ModelError(f"{copy}: is where the weights would go, but another file is there; choose another folder")
    return True


def locations(proto: onnx.ModelProto) -> list[str]:
    """The files that hold external weights, relative to that of the model."""
    tensors: list[TensorProto] = [t for t in proto.graph.initializer if uses_external_data(t)]
    return sorted({ExternalDataInfo(t).location for t in tensors})
