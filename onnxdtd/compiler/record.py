"""What a compiled file says of itself, in its metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import onnx

import onnxdtd
from onnxdtd.compiler.bounds import as_given, domain
from onnxdtd.compiler.cancelled import cancelled
from onnxdtd.compiler.ledger import Bookkeeper
from onnxdtd.compiler.maps import Laid
from onnxdtd.compiler.masks import Mask
from onnxdtd.compiler.prepared import Planned
from onnxdtd.compiler.raster import Raster
from onnxdtd.compiler.score import Score, classes
from onnxdtd.contract import COLUMNS, EXPLAINED, LOGIT, LOGIT_THERE, PARTS, Metadata
from onnxdtd.data.preprocessing import gives_bounds
from onnxdtd.graph import files
from onnxdtd.graph.emit import label
from onnxdtd.graph.recurrent import open_sequences
from onnxdtd.graph.vocabulary import vocabulary
from onnxdtd.operators.columns import named_columns
from onnxdtd.operators.places import channel_axis, folded, slid_axes
from onnxdtd.request import Request

ELSEWHERE = ("low", "high", "keep", "labels", "baseline")  # fields of a request that entries of other names tell


def metadata(
    planned: Planned, outputs: Mapping[str, str], scored: Score | None, book: Bookkeeper | None, masks: Mapping[str, Mask]
) -> Metadata:
    """What an auditor wants to know."""
    request, made = planned.request, planned.plan
    known = {t.name for t in (*planned.graph.inputs, *made.inputs)}
    fed = {name: axis for name, axis in made.samples.axes.items() if name in known}
    told: Metadata = {
        "version": onnxdtd.__version__,
        "source_sha256": planned.source.sha256,
        "changes": planned.changes,
        "predictor": predictor(planned.source.proto),
        "preset": str(request.preset),
        "settings": list(request.settings),
        "rules": {step.name: step.chosen for step in made.steps if step.chosen is not None},
        "bounds": domain(request),
        "channels": {t.name: channel_axis(t) for t in made.inputs},
        "slides": {t.name: slid_axes(t) for t in made.inputs},
        "preprocessing": request.preprocessing,
        "explain": list(request.explain),
        "output": made.output,
        "logits": made.logits.name,
        "stepped_back": [label(node) for node in made.stepped_back],
        "classes": classes(made),
        "labels": planned.said.labels,
        "names": planned.labels.names,
        "label_output": planned.said.label_output,
        "score_output": planned.said.score_output,
        "squashed": planned.said.squashed,
        "imputed": list(planned.imputed),
        "strings": vocabulary(planned.graph.nodes, planned.graph.inputs),
        "target": _plain(request.target),
        "target_input": scored.given.name if scored is not None and scored.given is not None else None,
        "contrast": request.contrast,
        "derivative": None if made.method.conserves else made.method.finish,
        "by_weights": made.by_weights,
        "logit": None if scored is None else planned.emit.unique(LOGIT),
        "relevance": dict(outputs),
        "allow": dict(request.allow or {}),
        "samples": {**fed, **({} if scored is None else scored.batched)},
        "ledger": {"steps": book.steps, "columns": list(COLUMNS)} if book else None,
    }
    if request.reference is not None:
        told["reference"] = request.reference
    if request.most_steps is not None:
        told |= {"most_steps": request.most_steps, "lengths": dict(_lengths(planned, request.most_steps))}
    if planned.ids:
        told["ids"] = planned.ids
    if laid_out := {t.name: sizes for t in made.inputs if (sizes := folded(t))}:
        told["folded"] = laid_out
    if masks:
        told["masks"] = {
            name: {"input": mask.given.name, "channels": mask.channels, "samples": mask.samples} for name, mask in masks.items()
        }
    if made.baseline is not None:
        told["baseline"] = made.baseline.said
        if made.baseline.inputs:
            fed |= {t.name: made.samples.axes[name] for name, t in made.baseline.inputs.items()}
            told["samples"] = {**fed, **({} if scored is None else scored.batched)}
            ids = {t.name: planned.ids[name] for name, t in made.baseline.inputs.items() if name in planned.ids}
            told |= {"ids": planned.ids | ids} if ids else {}
            told["baseline_inputs"] = {name: t.name for name, t in made.baseline.inputs.items()}
        if scored is not None:
            told["logit_at_baseline"] = planned.emit.unique(LOGIT_THERE)
    if planned.fitted is not None:
        told["models"] = planned.fitted.summary()
    values = {t.name: f"{EXPLAINED}/{t.name}" for t in made.inputs if t.producer is not None}
    if values:
        told["values"] = values
        tables = [t for t in planned.graph.inputs if t.name in made.samples.axes]
        columns = named_columns(planned.graph.nodes, tables, len(made.inputs) == 1)
        features = {name: columns[name] for name in values if name in columns}
        told |= {"features": features} if features else {}
    laid = {end.explained.name: end.tensor.name for end in made.ends if isinstance(end, Laid)}
    if laid:
        told["laid"] = laid
    if lost := cancelled(made):
        told["cancelled"] = lost
    parts = {end.explained.name: end.beside.explained.name for end in made.ends if end.beside is not None}
    if parts:
        told["apart"] = parts
    return told | _further(request) | _where(request, made.raster)


def _lengths(planned: Planned, steps: int) -> Iterator[tuple[str, int]]:
    """The inputs with an axis along which the steps of recurrent layers lie, if their number is open."""
    factors = planned.plan.samples.factors
    sequences = [axes[0] for t in open_sequences(planned.graph, steps) if (axes := factors(t))]
    for tensor in planned.graph.inputs:
        yield from ((tensor.name, i) for i, axis in enumerate(factors(tensor) or ()) if axis in sequences)


def _where(request: Request, raster: Raster) -> Any:
    """What lies along the axes of the scores, where that is not a row of classes for each sample, and the position."""
    told: dict[str, Any] = {} if raster.row and not raster.cells else {"axes": raster.axes}
    return told if request.position is None else told | {"position": list(request.position)}


def _plain(target: Any) -> Any:
    """A target as JSON has it."""
    return "argmax" if target is None else list(target) if isinstance(target, tuple) else target


def _further(request: Request) -> Any:
    """The options that were given and that no entry of the contract tells."""
    plain = Request().as_data()
    known = (*Metadata.__annotations__, *ELSEWHERE)
    return {name: value for name, value in request.as_data().items() if value != plain[name] and name not in known}


def told_request(metadata: Mapping[str, Any], explained: Collection[str]) -> dict[str, Any]:
    """The request that metadata tells of, as data. Of a target at run time it does not tell whether it is optional.

    Args:
        metadata: of a compiled file.
        explained: the inputs that relevance is given to, to tell apart what was kept; others do no harm.
    """
    preprocessing, target = metadata.get("preprocessing"), metadata["target"]
    low, high = as_given(None if preprocessing and gives_bounds(preprocessing) else metadata["bounds"])
    told = {name: metadata[name] for name in Request.__dataclass_fields__ if name in metadata}
    beside = {*explained, *metadata.get("values", ()), *metadata.get("apart", ())}
    return told | {
        "low": low,
        "high": high,
        "keep": [name for name in metadata["relevance"] if name not in beside],
        "labels": metadata.get("names"),
        "ledger": metadata["ledger"] is not None,
        "target": {"index": target} if isinstance(target, int) else target,
    }


def predictor(proto: onnx.ModelProto) -> dict[str, Any]:
    """How many entries of ``PARTS`` are the source's own, and the SHA-256 of what it computes."""
    graph, digest = proto.graph, hashlib.sha256()
    placeless = files.relocated(proto, dict.fromkeys(files.locations(proto), "")).graph  # files may be copied
    for part in [*graph.node, *placeless.initializer, *graph.sparse_initializer, *proto.opset_import]:
        digest.update(part.SerializeToString(deterministic=True))
    sizes = {name: len(getattr(graph, name)) for name in PARTS}
    return {**sizes, "sha256": digest.hexdigest()}
