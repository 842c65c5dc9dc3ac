"""Reading and writing ONNX files. Large weights are not looked at, and external ones never loaded."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto
from onnx.external_data_helper import uses_external_data

from onnxdtd import atomic, bounded
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.graph.sound import byte_size, check_entries, check_size, nodes_of

MOST_BYTES = 2**31 - 1  # that protobuf reads
DIGITS = 19  # of a place in a file
ORT = b"ORTM"  # in front of what flatbuffers hold, in the format .ort

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
        check_size(proto)
        data, path = proto.SerializeToString(deterministic=True), None
    else:
        data, path = (source, None) if isinstance(source, bytes) else _file_bytes(Path(source))
        proto = _parse(data, path)
    name = str(path or "the model")
    for tensor in filter(uses_external_data, proto.graph.initializer):
        if reason := _unreachable(tensor, path):
            raise ModelError(f"{name}: the weight {tensor.name!r} is in another file, and {reason}")
    if not proto.graph.node:
        raise ModelError(f"{name}: no ONNX graph with nodes in it; give the .onnx file of an exported classifier")
    return Source(proto, hashlib.sha256(data).hexdigest(), path)


def _file_bytes(path: Path) -> tuple[bytes, Path]:
    try:
        return bounded.data(path, MOST_BYTES), path
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: is a folder; give the .onnx file in it") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # a null in the name
        raise ModelError(f"{str(path)!r}: cannot be read ({error})") from None


def _parse(data: bytes, path: Path | None) -> onnx.ModelProto:
    name = str(path or "the model")
    if not data:
        raise ModelError(f"{name}: the file is empty")
    if data[4:8] == ORT:
        raise ModelError(
            f"{name}: is in ONNX Runtime's own format, which onnxdtd.Explainer alone takes; give the .onnx file it was made of"
        )
    check_entries(data)
    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError:
        raise ModelError(f"{name}: not an ONNX model, or a truncated one; export or copy it again") from None
    if not proto.opset_import and not proto.HasField("graph"):
        raise ModelError(f"{name}: not an ONNX model (no operator set, no graph)")
    check_size(proto)
    if any(isinstance(text, bytes) for text in _texts(proto)):  # what protobuf gives for a string that is none
        raise ModelError(f"{name}: has names that are not UTF-8 text; export or copy it again")
    return proto


def _texts(proto: onnx.ModelProto) -> Iterator[str]:
    """All names, and what the metadata say."""
    graph = proto.graph
    yield from (graph.name, *(entry.domain for entry in proto.opset_import))
    yield from (text for entry in proto.metadata_props for text in (entry.key, entry.value))
    yield from (tensor.name for tensor in graph.initializer)
    yield from (text for tensor in graph.initializer for entry in tensor.external_data for text in (entry.key, entry.value))
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield from (value.name, *(size.dim_param for size in value.type.tensor_type.shape.dim))
    for function in proto.functions:
        yield from (function.name, function.domain, function.overload, *function.input, *function.output, *function.attribute)
    for node in nodes_of([*graph.node, *(node for function in proto.functions for node in function.node)]):
        yield from (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
        yield from (text for attribute in node.attribute for text in (attribute.name, attribute.ref_attr_name))


def _unreachable(tensor: TensorProto, path: Path | None) -> str:
    """Why an external weight is in no file that a runtime would read, in words; as far as that is known without reading it."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    location = told.get("location", "")
    if not location or os.path.isabs(location) or os.path.normpath(location).split(os.sep)[0] == "..":
        return f"its location {location!r} lies outside the model's folder; not followed"
    spans = [told.get(key, "0") or "0" for key in ("offset", "length")]
    if not all(text.isascii() and text.isdigit() and len(text) < DIGITS for text in spans):
        return f"its place there is {spans[0]!r} with {spans[1]!r} bytes, which is none; export it again"
    offset, length = map(int, spans)
    need = byte_size(tensor)
    if need is not None and length not in (0, need):
        return f"has {length} bytes there, but takes {need}; export it again"
    file = None if path is None else path.parent / location
    if file is None or path is None or not file.exists() or not file.resolve().is_relative_to(path.parent.resolve()):
        return ""  # nothing is said of files that are not read
    if not file.is_file():
        return f"{file} is no regular file"
    size = file.stat().st_size
    end = offset + (length or need or 0)
    return f"{file} ends after {size} bytes, before byte {end}; copy it again, whole" if end > size else ""


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
    return sorted({location(t) for t in proto.graph.initializer if uses_external_data(t)})


def location(tensor: TensorProto) -> str:
    """The file that holds an external weight."""
    return next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), "")
