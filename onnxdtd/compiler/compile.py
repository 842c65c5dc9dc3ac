"""The compiler: read, plan, walk backwards, append. Everything it decides is in the plan."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from onnxdtd import contract
from onnxdtd.compiler.addition import addition
from onnxdtd.compiler.advice import advised
from onnxdtd.compiler.bounds import by_input, form_of, with_bytes, with_preprocessing
from onnxdtd.compiler.classlabels import said
from onnxdtd.compiler.imputed import imputed
from onnxdtd.compiler.logits import NoScores
from onnxdtd.compiler.plan import Plan, explainable, plan
from onnxdtd.compiler.prepared import Planned, Prepared
from onnxdtd.compiler.score import classes
from onnxdtd.compiler.shortcuts import Shortcut
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.data.forms import PICTURE
from onnxdtd.errors import ModelError, RequestError, Unsupported
from onnxdtd.graph import files, normal, shapes
from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Graph, type_name
from onnxdtd.labels import Labels
from onnxdtd.method.preset import Preset
from onnxdtd.method.toml import DEFAULTS, Library
from onnxdtd.operators import fits
from onnxdtd.request import NO_CLASSES, Request, takes_options


def prepare(model: files.ModelLike, request: Request) -> Prepared:
    """Read a model, plan its explanation and write down its relevance pass; whatever stands in the way is said here."""
    try:
        return _prepared(model, request)
    except (NoScores, Unsupported) as error:
        source = files.read(model)
        normal.normalise(source.proto)
        raise advised(error, source.proto, request, lambda proto, wanted: _prepared(proto, wanted).plan) from None


def _prepared(model: files.ModelLike, request: Request) -> Prepared:
    plan = planned(model, request)
    return Prepared(**vars(plan), addition=addition(plan))


def planned(model: files.ModelLike, request: Request) -> Planned:
    """Read a model and plan its explanation. Raises ``OnnxdtdError`` as ``compile`` does."""
    source = files.read(model)
    if contract.entries(source.proto):
        raise ModelError("this model was compiled by onnxdtd already; give the model that it was compiled from")
    presets = _presets(request)
    fed = [value.name for value in shapes.real_inputs(source.proto)]
    changes = normal.normalise(source.proto)
    graph = shapes.graph(source.proto)
    fits.check(graph)
    changes += shapes.declare_outputs(source.proto, graph)
    emit = Emit(graph, shapes.names(source.proto), fed)
    explained = explainable(graph, fed, request.explain)
    request = with_bytes(with_preprocessing(request, explained), explained)
    bounded = by_input(request, [t.name for t in explained])
    chosen = plan(emit, graph, explained, presets, request, inputs=fed, bounded=bounded.keys())
    _check_inputs(chosen, request)
    own = said(source.proto, chosen)
    labels = Labels(own.labels, None, classes(chosen)).named(request.labels)
    chosen.notes.extend(labels.replaced())
    if request.target is not None and request.target not in NO_CLASSES:
        chosen.notes.extend(filter(None, [labels.understood(request.target)]))
        request = replace(request, target=labels.index(request.target))
    chosen.notes.extend(_left_out(graph, fed, chosen))
    request = replace(request, preset=request.preset or chosen.preset)
    return Planned(source, changes, graph, emit, chosen, bounded, request, own, labels, imputed(graph.nodes, chosen.inputs))


def _presets(request: Request) -> list[Preset]:
    """Those to choose from, with the rules set by hand."""
    library = Library()
    choice = DEFAULTS if request.preset is None else (request.preset,)
    return [library.overridden(library.preset(name), request.settings) for name in choice]


def _check_inputs(chosen: Plan, request: Request) -> None:
    """Raise ``RequestError`` for an input to explain that has no say, and for a preprocessing that does not fit."""
    for name in request.explain:
        if name not in [t.name for t in chosen.inputs]:
            raise RequestError(f"--explain {name!r}: the output {chosen.output!r} does not depend on it")
    for tensor in chosen.inputs if request.preprocessing else ():
        if tensor.shape is not None and (len(chosen.inputs) == 1 or len(tensor.shape) == PICTURE):
            form_of(tensor, request, chosen.samples.axes[tensor.name])


def _left_out(graph: Graph, inputs: Sequence[str], chosen: Plan) -> Iterator[str]:
    """Names the inputs that relevance is not given to."""
    explained = {t.name for t in chosen.inputs}
    kinds = {t.name: "strings" if t.dtype == object else type_name(t.dtype) for t in graph.inputs if t.name in inputs}
    words = [f"{name} ({kind})" for name, kind in kinds.items() if name not in explained]
    if words:
        yield f"not explained: {', '.join(words)}; what they contribute counts as a constant"


@takes_options
def compile(model: files.ModelLike, preset: str | os.PathLike[str] | None = None, **options: Any) -> onnx.ModelProto:
    """Compile a classifier into a model that also computes the relevance of its input.

    Args:
        model: path, bytes or ``onnx.ModelProto`` of a classifier.
        options: the fields of ``onnxdtd.request.Request``.

    Returns:
        The source model with all of its nodes and outputs, and the further outputs ``relevance`` (``relevance/<input>`` where
        several inputs are explained), of the shape and type of the input, and ``logit``, [batch], the score that is explained.
        Σ relevance is that score up to what biases and vanishing denominators absorb.

    Raises:
        OnnxdtdError: see ``onnxdtd.errors``.
    """
    return build(prepare(model, Request.from_data({"preset": preset, **options})), in_place=True)


def build(
    prepared: Prepared, inject: str | None = None, shortcuts: Sequence[Shortcut] = SHORTCUTS, in_place: bool = False
) -> onnx.ModelProto:
    """The model with its relevance pass. What is prepared stays as it is, and can be built again.

    With ``inject``, the name of what a step of the plan gives, relevance starts there instead of at the logits: as the input
    ``injected/<inject>`` of the shape of that tensor. Without ``shortcuts`` every step is taken by its definition. ``in_place``
    appends to the model that was read, for the last build: its weights need not be copied.
    """
    plain = inject is None and shortcuts == SHORTCUTS
    proto = prepared.source.proto
    if not in_place:
        proto = onnx.ModelProto()
        proto.CopyFrom(prepared.source.proto)
    return (prepared.addition if plain else addition(prepared, inject, shortcuts)).append_to(proto)


def save(proto: onnx.ModelProto, path: str | Path, source: str | Path | None = None, weights: str | None = None) -> None:
    """Write a compiled model.

    Args:
        path: the file to write.
        source: the file that the model was compiled from, where that has external weights.
        weights: ``"reference"`` for the weight files of the source, which must lie in or below the folder of ``path``,
            ``"copy"`` for a copy beside ``path``. By default a reference in the folder of the source, a copy in any other.

    Raises:
        OnnxdtdError: see ``onnxdtd.errors``.
    """
    files.write(proto, Path(path), None if source is None else Path(source), weights)
