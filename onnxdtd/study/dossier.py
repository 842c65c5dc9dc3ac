"""What is filed of a model: what is in its file, which rules explain it, what was asked, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import onnx

from onnxdtd.compiler.inspect import laid_open, opened
from onnxdtd.contract import PARTS
from onnxdtd.errors import ModelError, Unsupported
from onnxdtd.graph import digests, files, shapes
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import default_providers
from onnxdtd.study.provenance import digest, modelled, provenance, taken

NO_PARAMETERS = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL, onnx.TensorProto.STRING)
INSPECTION, VERIFICATION = "inspection", "verification"


def inspection(model: Path, request: Request, provider: str | None = None) -> dict[str, Any]:
    """What ``onnxdtd inspect --json`` prints: what ``onnxdtd.inspect`` gives, or the ``problems`` in its place, with the
    ``file`` and where all of it comes from. Raises ``OnnxdtdError`` where the model cannot even be looked at.
    """
    source = files.read(model)
    told = {"kind": INSPECTION, "model": str(model), "file": described(source), "digests": signed(source)}
    try:
        job, notes = opened(model, request)
    except Unsupported as error:
        return {**told, "problems": [asdict(problem) for problem in error.problems]}
    made = provenance("onnxdtd.inspect", [modelled(model)], job.addition.metadata, default_providers()[0])
    return {**told, "provenance": made.as_data(), **laid_open(job, notes, provider)}


def verification(
    compiled: files.Source, source: Path | None, inputs: Path | None, samples: int, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Of the ``compiled`` file, which says the ``facts`` of itself and was run on so many samples: what is in it, and where
    all of it comes from.
    """
    path = compiled.path
    assert path is not None
    own: Any = facts
    models = [_compiled(path, str(facts.get("source_sha256", "unknown")))]
    models += [] if source is None else [modelled(source)]
    given = None if inputs is None else taken([inputs], samples)
    made = provenance("onnxdtd.verify", models, own, default_providers()[0], given)
    weights = (facts.get("predictor") or {}).get("initializer")
    file = described(compiled, weights if isinstance(weights, int) else None) | {"added": _added(compiled.proto, facts)}
    taken_of = signed(compiled, facts.get("predictor") or {})
    changes = facts.get("changes") or []
    if source is not None and not changes:  # else there is another predictor in the file
        taken_of["source"] = signed(files.read(source))["predictor"]
    return {
        "file": file,
        "compiled_by": facts.get("version"),
        "changes": changes,
        "digests": taken_of,
        "provenance": made.as_data(),
    }


def signed(source: files.Source, sizes: Mapping[str, Any] | None = None) -> dict[str, str | None]:
    """What to compare with what was signed: the digests of all files of a model, and of its predictor, as
    ``onnxdtd.graph.digests`` takes them; None where weights cannot be read, or the ``sizes`` that a file tells are none.
    """
    assert source.path is not None
    told: dict[str, str | None] = {"file": None, "predictor": None}
    with suppress(ModelError):
        told["file"] = digests.of_files(source.path, source.proto, source.sha256)
        if sizes is None or all(isinstance(sizes.get(name), int) and sizes[name] >= 0 for name in PARTS):
            told["predictor"] = digests.of_predictor(source.proto, source.path.parent, sizes)
    return told


def _compiled(path: Path, source: str) -> dict[str, Any]:
    """A compiled file, of which weights that cannot be read are a finding and no error."""
    try:
        return modelled(path, source)
    except ModelError:
        return {"name": path.name, "source_sha256": source, "compiled_sha256": digest([path])}


def _added(proto: onnx.ModelProto, facts: Mapping[str, Any]) -> int | None:
    """How many nodes the relevance pass has."""
    own = (facts.get("predictor") or {}).get("node")
    return len(proto.graph.node) - own if isinstance(own, int) else None


def described(source: files.Source, own: int | None = None) -> dict[str, Any]:
    """What is in a file: who wrote it, for which operator sets, what it takes and gives, how large it is: of a compiled file
    ``own`` weights are the predictor's. Sizes and indices are no parameters.
    """
    proto, graph = source.proto, source.proto.graph
    return {
        "name": None if source.path is None else source.path.name,
        "sha256": source.sha256,
        "exporter": f"{proto.producer_name} {proto.producer_version}".strip() or None,
        "ir_version": proto.ir_version,
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        "nodes": len(graph.node),
        "parameters": sum(prod(t.dims) for t in graph.initializer[:own] if t.data_type not in NO_PARAMETERS),
        "inputs": [_value(value) for value in shapes.real_inputs(proto)],
        "outputs": [_value(value) for value in graph.output],
    }


def _value(value: onnx.ValueInfoProto) -> dict[str, Any]:
    """An input or an output; of what is no tensor only what it is."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return {"name": value.name, "type": (kind or "unknown").removesuffix("_type"), "shape": None}
    tensor = value.type.tensor_type
    sizes = [size.dim_param or (size.dim_value if size.HasField("dim_value") else "?") for size in tensor.shape.dim]
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return {"name": value.name, "type": dtype, "shape": sizes if tensor.HasField("shape") else None}
