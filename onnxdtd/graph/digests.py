"""Digests of models that anybody can compute again, with ``sha256sum`` or a few lines of Python: the guide has both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import uses_external_data

from onnxdtd.errors import ModelError
from onnxdtd.graph.files import location, locations
from onnxdtd.graph.sound import byte_size, nodes_of

PIECE = 1 << 20  # bytes that are read at once


def of_file(path: Path) -> str:
    """The SHA-256 of a file of weights, as ``sha256sum`` has it. One that nobody has written to since is not read again. Raises
    ``ModelError`` where it cannot be read.
    """
    try:
        found = path.stat()
        return _of_file(path.resolve(), found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except OSError as error:
        raise ModelError(f"{path}: external weights that cannot be read ({error.strerror})") from None


@lru_cache(maxsize=64)
def _of_file(path: Path, size: int, modified: int, changed: int) -> str:
    """As it is now: it may be gigabytes, and several ask for it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_weights(path: Path, proto: onnx.ModelProto) -> dict[str, str]:
    """That of every file of external weights of the model at ``path``, by where it lies. Raises ``ModelError`` for what no
    runtime would read: what lies outside of the folder of the model, or is no file.
    """
    found = {name: path.parent / name for name in locations(proto)}
    for file in found.values():
        if not file.resolve().is_relative_to(path.parent.resolve()):
            raise ModelError(f"{file}: external weights that lie outside of the folder of the model; not followed")
        if file.exists() and not file.is_file():
            raise ModelError(f"{file}: external weights that are no regular file")
    return {name: of_file(file) for name, file in found.items()}


def of_files(path: Path, proto: onnx.ModelProto, own: str) -> str:
    """That of all files of a model, of which ``own`` is that of the first: the same where there is no other, else that of what
    ``sha256sum MODEL WEIGHTS...`` prints in its folder, with the weights in the order of their names.
    """
    weights = of_weights(path, proto)
    if not weights:
        return own
    lines = [f"{own}  {path.name}\n", *(f"{digest}  {name}\n" for name, digest in weights.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def of_predictor(proto: onnx.ModelProto, folder: Path, sizes: Mapping[str, Any] | None = None) -> str:
    """That of what a model computes, wherever its weights lie: of a line for each operator set, function, input, output, node
    and weight, in this order, with what it is and its SHA-256.

    Of a compiled file ``sizes`` say how many of each are the predictor's own: they come first. What a compile does not change
    and no runtime computes with is left out: names of producer and graph, metadata, declared shapes inside. Raises
    ``ModelError`` where weights cannot be read, or nodes have some in another file.
    """
    whole = hashlib.sha256()
    for kind, digest in _lines(proto, folder, sizes or {}):
        whole.update(f"{kind} {digest}\n".encode())
    return whole.hexdigest()


def _lines(proto: onnx.ModelProto, folder: Path, sizes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What each part is, and its digest."""
    graph = proto.graph
    own = lambda name: list(getattr(graph, name))[: sizes.get(name)]
    for kind, parts in (
        ("opset", proto.opset_import),
        ("function", proto.functions),
        *((kind, own(kind)) for kind in ("input", "output", "node")),
        ("sparse_initializer", graph.sparse_initializer),
    ):
        for part in parts:
            yield kind, hashlib.sha256(part.SerializeToString(deterministic=True)).hexdigest()
    if any(
        uses_external_data(tensor) for node in nodes_of(own("node")) for a in node.attribute for tensor in (a.t, *a.tensors)
    ):
        raise ModelError("nodes have numbers in another file, which no digest is taken of")
    for tensor in own("initializer"):
        head = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        digest = hashlib.sha256(head.SerializeToString(deterministic=True)).hexdigest()
        yield "initializer", f"{digest} {_values(tensor, folder)}"


def _values(tensor: TensorProto, folder: Path) -> str:
    """The SHA-256 of the numbers of a weight, as they lie in memory; of strings that of the tensor with nothing else in it."""
    if uses_external_data(tensor):
        return _elsewhere(tensor, folder)
    if tensor.data_type == TensorProto.STRING:
        return hashlib.sha256(TensorProto(string_data=tensor.string_data).SerializeToString(deterministic=True)).hexdigest()
    data = tensor.raw_data if tensor.HasField("raw_data") else numpy_helper.to_array(tensor).tobytes()
    return hashlib.sha256(data).hexdigest()


def _elsewhere(tensor: TensorProto, folder: Path) -> str:
    """The same of a weight in another file, piece by piece."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    path, whole = folder / location(tensor), hashlib.sha256()
    left = int(told.get("length") or byte_size(tensor) or 0)
    try:
        with path.open("rb") as file:
            file.seek(int(told.get("offset") or 0))
            while left and (piece := file.read(min(PIECE, left))):
                whole.update(piece)
                left -= len(piece)
    except OSError as error:
        raise ModelError(f"{path}: external weights that cannot be read ({error.strerror})") from None
    if left:
        raise ModelError(f"{path}: ends before the weight {tensor.name!r} does; copy it again, whole")
    return whole.hexdigest()
