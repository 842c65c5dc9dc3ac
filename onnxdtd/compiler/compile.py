"""The compiler: read, plan, walk backwards, append. Everything it decides is in the plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from onnxdtd import contract
from onnxdtd.cells import named
from onnxdtd.compiler import cancelled, fitted
from onnxdtd.compiler.addition import addition
from onnxdtd.compiler.advice import advised
from onnxdtd.compiler.afresh import afresh
from onnxdtd.compiler.apart import apart
from onnxdtd.compiler.baseline import Baseline
from onnxdtd.compiler.bounds import by_input, form_of, with_bytes, with_preprocessing
from onnxdtd.compiler.classlabels import said
from onnxdtd.compiler.ends import End, above, computed, groups_of, lookups, reached, rows
from onnxdtd.compiler.facts import before, reads
from onnxdtd.compiler.folded import folded
from onnxdtd.compiler.imputed import imputed
from onnxdtd.compiler.logits import NoScores, bfloat16
from onnxdtd.compiler.maps import Laid, last_map
from onnxdtd.compiler.ondemand import on_demand
from onnxdtd.compiler.plan import Plan, plan
from onnxdtd.compiler.prepared import Addition, Planned, Prepared
from onnxdtd.compiler.record import predictor
from onnxdtd.compiler.score import classes, is_binary
from onnxdtd.compiler.shortcuts import Shortcut
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.data.forms import PICTURE
from onnxdtd.errors import ModelError, RequestError, Unsupported
from onnxdtd.graph import digests, files, normal, shapes
from onnxdtd.graph.emit import Emit
from onnxdtd.graph.portable import SPELLED
from onnxdtd.graph.recurrent import MOST_STEPS, OPEN_STEPS, is_gated, open_sequences
from onnxdtd.graph.spelled import views
from onnxdtd.graph.tensors import Graph, Node, Tensor, type_name
from onnxdtd.labels import Labels
from onnxdtd.method.preset import Preset
from onnxdtd.method.toml import DEFAULTS, Library
from onnxdtd.operators import fits
from onnxdtd.operators.layer import is_float
from onnxdtd.operators.table import CONSTANT, has_rule, of
from onnxdtd.request import NO_CLASSES, Request, takes_options

INTEGERS = (
    "on demand ONNX Runtime computes layers in integers that it computes in floats in a flat file, where relevance reads them, "
    "and rounds otherwise: relevance may be another than there; Explainer(FILE, optimise=False) gives the same of both"
)


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
    added = addition(plan)
    return Prepared(**vars(plan), addition=_asked(plan, added if plan.request.on_demand is None else afresh(plan, added)))


def _asked(planned: Planned, added: Addition) -> Addition:
    """The same on demand, where that is asked for."""
    kind = planned.request.on_demand
    return added if kind is None else on_demand(added, kind, planned.emit)


def planned(model: files.ModelLike, request: Request) -> Planned:
    """Read a model and plan its explanation. Raises ``OnnxdtdError`` as ``compile`` does."""
    source = files.read(model)
    if contract.entries(source.proto):
        raise ModelError("this model was compiled by onnxdtd already; give the model that it was compiled from")
    presets = _presets(request)
    fed = [value.name for value in shapes.real_inputs(source.proto)]
    changes = normal.normalise(source.proto)
    graph = shapes.graph(source.proto, has_rule, request.most_steps)
    fits.check(graph)
    for mended in (shapes.declare_outputs, shapes.open_batches, shapes.drop_contradictions):
        changes += mended(source.proto, graph)
    emit = Emit(graph, shapes.names(source.proto), fed, SPELLED if request.portable else None)
    nodes = views(emit, list(graph.nodes), not presets[0].method.divides, request.reference)
    inputs = [t for t in graph.inputs if t.name in fed]
    depends = reached(nodes, inputs)
    looked = {t.name: lookups(nodes, t, depends) for t in inputs}
    groups = groups_of(inputs, looked, {name: t for name, t in graph.tensors().items() if name in depends}, request)
    if request.apart and groups:
        _check_apart(presets)
        nodes, group = apart(emit, nodes, groups[0])
        groups = [group]
    attempt = lambda group, wanted, bounds: plan(
        emit,
        graph,
        nodes,
        group,
        presets,
        wanted,
        inputs=fed,
        bounded=bounds,
        compared=lambda ends, samples: Baseline(emit, ends, samples.axes, wanted),
    )
    chosen, given, bounded = _chosen(groups, request, attempt, bfloat16(graph))
    if chosen.method.at_map and not request.from_:
        chosen, given, bounded = _chosen([[last_map(chosen, presets[0].name)]], request, attempt, bfloat16(graph))
    request = given
    _check_inputs(chosen, request)
    request = chosen.raster.asked(request, is_binary(chosen))
    own = said(source.proto, chosen)
    called = named(chosen.raster.axes, request.position, request.target, request.reference)
    labels = Labels(own.labels, None, classes(chosen), *called).named(request.labels)
    chosen.notes.extend(labels.replaced())
    if isinstance(request.target, int | str) and request.target not in NO_CLASSES:
        chosen.notes.extend(filter(None, [labels.understood(request.target)]))
        request = replace(request, target=labels.index(request.target))
    chosen.notes.extend(_left_out(inputs, looked, nodes, chosen))
    chosen.notes.extend(cancelled.told(chosen))
    if chosen.method.halves and any(is_gated(node) for node in source.proto.graph.node):
        fading = "gives gates of recurrent layers half of all that passes them, so that early steps fade"
        chosen.notes.append(f"the preset {chosen.preset} {fading}; cp-lrp and lrp-epsilon give them nothing")
    if open_sequences(graph, steps := request.most_steps or OPEN_STEPS):
        chosen.notes.append(
            f"recurrent layers take {steps} steps at most, and no less time for fewer; --most-steps N sets that"
        )
        request = replace(request, most_steps=steps)
    if (request.most_steps or 0) > MOST_STEPS:
        chosen.notes.append(
            "steps are written one by one: ONNX Runtime takes 10 s to load 512, and four times that for twice as many"
        )
    if request.on_demand is not None and _rounds(graph, chosen):
        chosen.notes.append(INTEGERS)
    if request.baseline is not None and chosen.baseline is None:
        chosen.notes.append(f"--baseline: the preset {chosen.preset} compares with no other input")
    request = replace(request, preset=request.preset or chosen.preset)
    models = fitted.chosen(chosen, request, lambda: str(predictor(source.proto)["sha256"]))
    missing = imputed(graph.nodes, [t for t in chosen.inputs if t.name in fed])
    return Planned(source, changes, graph, emit, chosen, bounded, request, own, labels, missing, rows(looked), models)


def _chosen(
    groups: Sequence[Sequence[End]], request: Request, attempt: Callable[..., Plan], reason: str
) -> tuple[Plan, Request, dict[str, tuple[Any, Any]]]:
    """The plan for the first group of ends that the score depends on, the request with the bounds that bytes and pictures
    have, and these bounds as given. ``reason`` says why there may be none.
    """
    errors: list[NoScores] = []
    for group in groups:
        plain = list({end.explained.name: end.explained for end in group if not end.is_lookup}.values())
        wanted = with_bytes(with_preprocessing(request, plain), plain)
        bounded = by_input(wanted, [t.name for t in plain])
        try:
            return attempt(group, wanted, bounded.keys()), wanted, bounded
        except NoScores as error:
            errors.append(error)
    if errors:
        raise errors[0]
    raise NoScores(f"the model has no input of numbers or ids; only those can be explained{reason}")


def _presets(request: Request) -> list[Preset]:
    """Those to choose from, with the rules set by hand."""
    library = Library()
    choice = DEFAULTS if request.preset is None else (request.preset,)
    return [library.overridden(library.preset(name), request.settings) for name in choice]


def _check_apart(presets: Sequence[Preset]) -> None:
    """Raise ``RequestError`` for a preset that compares with a baseline, where positions are as they are."""
    preset = next((preset for preset in presets if preset.compares), None)
    if preset is not None:
        raise RequestError(
            f"--apart: the preset {preset.name} compares with a baseline, where positions are the same; leave it out"
        )


def _check_inputs(chosen: Plan, request: Request) -> None:
    """Raise ``RequestError`` for an input to explain that has no say, and for a preprocessing that does not fit."""
    for name in request.explain:
        if name not in [t.name for t in chosen.inputs]:
            raise RequestError(f"--explain {name!r}: the output {chosen.output!r} does not depend on it")
    if chosen.logits.shape == []:
        raise ModelError(f"{chosen.logits.name!r} is one number, without an axis for the samples")
    for tensor in (*chosen.inputs, *(t for step in chosen.steps for t in step.inputs if t is not None)):
        if 0 in (tensor.shape or ()):
            raise ModelError(f"{tensor.name!r} is {list(tensor.shape or ())}: there is nothing in it to explain")
    for tensor in chosen.inputs if request.preprocessing else ():
        if tensor.shape is not None and (len(chosen.inputs) == 1 or len(tensor.shape) == PICTURE):
            form_of(tensor, request, chosen.samples.axes[tensor.name])


def _rounds(graph: Graph, chosen: Plan) -> bool:
    """Does a layer take what was dequantised, so that a runtime may take the integers instead?"""
    givers = {t.name: of(node) for node in graph.nodes for t in node.outputs}
    taken = (t for step in chosen.steps if step.layer is not None for t in step.inputs if t is not None)
    return any(t.name in givers and givers[t.name].scaled for t in taken)


def _left_out(
    inputs: Sequence[Tensor], looked: Mapping[str, Sequence[End]], nodes: Sequence[Node], chosen: Plan
) -> Iterator[str]:
    """Names the inputs that relevance is not given to, and what it is given to where that is no input."""
    explained = [t.name for t in chosen.inputs]
    needed = before(above(nodes, chosen.ends), chosen.logits)
    read = {t.name for node in needed if of(node).kind != CONSTANT for t in reads(node)}  # of its size nothing is asked
    kinds = {t.name: "strings" if t.dtype == object else type_name(t.dtype) for t in inputs if t.name in read}
    words = [f"{name} ({kind})" for name, kind in kinds.items() if name not in explained]
    if words:
        ids = [name for name in kinds if name not in explained and looked[name]]
        every = [*(t.name for t in inputs if t.name in explained), *ids]
        way = f"; ids can be explained too: {' '.join(f'--explain {name}' for name in every)}" if ids else ""
        yield f"not explained: {', '.join(words)}; what they contribute counts as a constant{way}"
    for tensor in computed(needed, chosen.ends):
        yield f"{tensor.name!r} is looked up by numbers computed from several ids and counts as a constant; --from explains it"
    fed = {t.name: t for t in inputs}
    turned = [name for name in fed if name not in explained]
    made = [repr(name) for name in explained if name not in fed]
    if made and turned and not words and any(t.dtype == object or not is_float(t.dtype) for t in inputs):
        what = "strings of" if all(fed[name].dtype == object for name in turned) else "columns"
        yield f"the numbers that the {what} {', '.join(turned)} are turned into are explained: {', '.join(made)}"
    for end in chosen.ends:
        if isinstance(end, Laid):
            yield f"the relevance of {end.explained.name!r} is that of {end.tensor.name!r}, the last map, laid over it"
        elif end.is_lookup:
            yield f"the relevance of {end.explained.name!r} is that of what it looks up, {end.tensor.name!r}"


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
    added = prepared.addition if plain else addition(prepared, inject, shortcuts)
    if inject is None and not plain:
        added = _asked(prepared, added)
    return (folded(added, prepared.source) if prepared.request.portable else added).append_to(proto)


def save(proto: onnx.ModelProto, path: str | Path, source: str | Path | None = None, weights: str | None = None) -> None:
    """Write a compiled model. The digests of files of external weights go into its metadata, for ``verify``.

    Args:
        path: the file to write.
        source: the file that the model was compiled from, where that has external weights.
        weights: ``"reference"`` for the weight files of the source, which must lie in or below the folder of ``path``,
            ``"copy"`` for a copy beside ``path``. By default a reference in the folder of the source, a copy in any other.

    Raises:
        OnnxdtdError: see ``onnxdtd.errors``.
    """
    beside = Path(path if source is None else source)
    files.write(_signed(proto, beside), Path(path), None if source is None else Path(source), weights)


def _signed(proto: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The model with the digests of the files that its external weights are in; the same one where it has none."""
    found: Mapping[str, str] = {}
    with suppress(ModelError):  # of files that cannot be read whoever writes the model tells more
        found = digests.of_weights(path, proto)
    if not found:
        return proto
    signed = onnx.ModelProto()
    signed.CopyFrom(proto)
    contract.tell(signed, contract.WEIGHTS, found)
    return signed
