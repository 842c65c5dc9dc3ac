"""The compiler: read, plan, walk backwards, append, check. Everything it decides is in the plan."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper

import onnxdtd
from onnxdtd import model as files
from onnxdtd.advice import advised
from onnxdtd.bounds import Bounds, as_data, by_input, with_bytes
from onnxdtd.chained import chained
from onnxdtd.classlabels import Said, said
from onnxdtd.emit import Emit, Tensor, label, wide
from onnxdtd.errors import ModelError, Problem, RequestError, Unsupported
from onnxdtd.flow import is_float
from onnxdtd.imputed import imputed
from onnxdtd.labels import Index, Labels
from onnxdtd.ledger import COLUMNS, OUTPUT, Ledger
from onnxdtd.library import DEFAULTS, Library
from onnxdtd.linear import NotLinear
from onnxdtd.plan import NoScores, Plan, Step, explainable, plan, problem
from onnxdtd.rectified import rectified
from onnxdtd.request import NO_CLASSES, Request
from onnxdtd.residual import shared_out
from onnxdtd.rules import Context, propagate
from onnxdtd.target import classes, start

PREFIX = "onnxdtd."
PARTS = ("node", "initializer", "input", "output", "value_info")  # of a graph, to which the compiler appends


@dataclass(frozen=True)
class Job:
    """A model with its plan, before anything has been appended to it; ``request`` has the index of the target."""

    source: files.Source
    changes: list[str]
    graph: gs.Graph
    emit: Emit
    plan: Plan
    bounds: Bounds | None
    request: Request
    said: Said
    labels: Labels
    imputed: dict[str, np.ndarray]


def prepare(model: files.ModelLike, request: Request) -> Job:
    """Read a model and plan its explanation."""
    try:
        return _prepare(model, request)
    except (NoScores, Unsupported) as error:
        source = files.read(model)
        files.normalise(source.proto)
        raise advised(error, source.proto, request, _tried) from None


def _tried(proto: onnx.ModelProto, request: Request) -> Plan:
    """The plan of what could be built."""
    job = _prepare(proto, request)
    _build(job)
    return job.plan


def _prepare(model: files.ModelLike, request: Request) -> Job:
    source = files.read(model)
    if any(entry.key.startswith(PREFIX) for entry in source.proto.metadata_props):
        raise ModelError("this model was compiled by onnxdtd already; give the model that it was compiled from")
    library = Library()
    choice = DEFAULTS if request.preset is None else (request.preset,)
    presets = [library.overridden(library.preset(name), request.settings) for name in choice]
    _check_allow(request.allow or {})
    inputs = files.real_inputs(source.proto)
    changes = files.normalise(source.proto)
    graph = files.graph(source.proto)
    changes += files.declare_outputs(source.proto, graph)
    names = [value.name for value in inputs]
    emit = Emit(graph, files.names(source.proto), names)
    explained = explainable(graph, names, request.explain)
    request = with_bytes(request, explained)
    bounded = by_input(request, [t.name for t in explained])
    made = plan(
        emit,
        graph,
        explained,
        presets,
        inputs=names,
        output=request.output,
        keep=request.keep,
        bounded=bounded.keys(),
        allow=request.allow,
    )
    for name in request.explain:
        if name not in [t.name for t in made.inputs]:
            raise RequestError(f"--explain {name!r}: the output {made.output!r} does not depend on it")
    bounds = Bounds(emit, made, bounded) if bounded else None
    own = said(source.proto, made)
    labels = Labels(own.labels, None, classes(made)).named(request.labels)
    made.notes.extend(labels.replaced())
    if request.target is not None and request.target not in NO_CLASSES:
        made.notes.extend(filter(None, [labels.understood(request.target)]))
        request = replace(request, target=labels.index(request.target))
    made.notes.extend(_left_out(graph, names, made))
    request = replace(request, preset=request.preset or made.preset)
    return Job(source, changes, graph, emit, made, bounds, request, own, labels, imputed(graph.nodes, made.inputs))


def _left_out(graph: gs.Graph, inputs: Sequence[str], made: Plan) -> Iterator[str]:
    """Names the inputs that relevance is not given to."""
    explained = {t.name for t in made.inputs}
    kinds = {t.name: "strings" if t.dtype == object else str(np.dtype(t.dtype)) for t in graph.inputs if t.name in inputs}
    words = [f"{name} ({kind})" for name, kind in kinds.items() if name not in explained]
    if words:
        yield f"not explained: {', '.join(words)}"


def _check_allow(allow: Mapping[str, str]) -> None:
    for op, flow in allow.items():
        if flow != "pass" or not op:
            raise RequestError(f"--allow {op}={flow}: write OP=pass or NODE=pass, to let relevance through unchanged")


def compile(
    model: files.ModelLike,
    preset: str | os.PathLike[str] | None = None,
    *,
    settings: Sequence[str] = (),
    low: Any = None,
    high: Any = None,
    target: int | str | None = None,
    contrast: bool = False,
    output: str | None = None,
    keep: Sequence[str] = (),
    allow: Mapping[str, str] | None = None,
    ledger: bool = False,
    explain: Sequence[str] = (),
    labels: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """Compile a classifier into a model that also computes the relevance of its input.

    Args:
        model: path, bytes or ``onnx.ModelProto`` of a classifier.
        preset: the name of a preset or a TOML file with one (``onnxdtd rules`` lists them). By default ``"dtd"``, deep Taylor
            decomposition, but ``"lrp-epsilon"`` where its first layer would share relevance out by weights alone, whatever the
            values: for feature vectors and signals without bounds. The metadata ``preset`` says which it was.
        settings: ``"NODE-GLOB=RULE"`` overrides, for example ``"conv1=gamma(gamma=0.1)"``; the last match wins.
        low, high: bounds of the input domain in the model's own input units: numbers, one number a channel, or arrays
            that broadcast against the input; where the model has several inputs also by their names, ``{"image": 0.0}``: the
            others then have none.
        target: None for an optional runtime input ``target`` (int64, [batch] or [1], -1 for the arg-max), ``"argmax"``
            for the arg-max without such an input, or the label or the index of a class. An integer that is a label of the
            model is that label; ``onnxdtd.labels.Index(3)`` is an index whatever the labels are.
        contrast: explain the logit minus that of the runner-up, the highest of the other classes.
        output: the output (or inner tensor) to explain, where the model has several.
        keep: inner tensors whose relevance becomes an output ``relevance/<tensor>``.
        allow: operators without a rule, or nodes by name, that relevance shall pass unchanged, ``{"Op": "pass"}``; recorded in
            the metadata. Only where input and output have one shape.
        ledger: also output ``ledger``, float64 [batch, steps, columns]: what every layer took in, handed on and kept
            (``onnxdtd.ledger.COLUMNS``; ``Explainer`` gives it names).
        explain: the inputs that relevance is given to, by default all of floating-point numbers; the others, such as masks,
            count as constants.
        labels: names of the classes, in the order of the logits, in place of the model's own labels.

    Returns:
        The source model with all of its nodes and outputs, and the further output ``relevance`` (``relevance/<input>`` where
        several inputs are explained) of the shape and type of the input. Σ relevance is the explained logit up to what
        biases and vanishing denominators absorb.

    Raises:
        OnnxdtdError: see ``onnxdtd.errors``.
    """
    if isinstance(target, bool) or not (target is None or isinstance(target, str) or hasattr(target, "__index__")):
        raise RequestError(f"target {target!r}: give 'argmax', or the label or the index of a class")
    chosen = target if target is None or isinstance(target, str | Index) else int(target)
    named = None if preset is None else os.fspath(preset)
    words = (named, tuple(settings), low, high, chosen, contrast, output, tuple(keep), allow, ledger)
    names = None if labels is None else tuple(map(str, labels))
    request = Request(*words, explain=(explain,) if isinstance(explain, str) else tuple(explain), labels=names)
    return build(prepare(model, request))


def build(job: Job, inject: str | None = None, shortcuts: bool = True) -> onnx.ModelProto:
    """Append the relevance pass to the model of a job.

    With ``inject``, the name of what a step of the plan gives, relevance starts there instead of at the logits: as the input
    ``injected/<inject>`` of the shape of that tensor. Without ``shortcuts`` every step is taken by its definition.
    """
    try:
        return _build(job, inject, shortcuts)
    except Unsupported as error:
        raise advised(error, job.source.proto, job.request, _tried) from None


def _build(job: Job, inject: str | None = None, shortcuts: bool = True) -> onnx.ModelProto:
    e, made = job.emit, job.plan
    e.scope = "target"
    source = made.logits if inject is None else _given_by_step(made, inject)
    seed, target_input = start(e, made, job.request) if inject is None else (_injected(e, source), None)
    if made.derivative and job.request.ledger:
        raise RequestError(f"--ledger: the preset {job.request.preset!r} is a derivative, of which nothing is conserved")
    book = Ledger(e, made, job.bounds.of if job.bounds else None) if job.request.ledger else None
    relevance = accumulate(job, source, seed, book, shortcuts)
    for tensor in made.inputs:
        if made.derivative and tensor.name in relevance:
            x = seen(e, tensor, job.imputed.get(tensor.name))
            relevance[tensor.name] = of_gradient(e, made.derivative, x, relevance[tensor.name])
    outputs = {t.name: "relevance" if len(made.inputs) == 1 else f"relevance/{t.name}" for t in made.inputs}
    outputs |= {name: f"relevance/{name}" for name in job.request.keep if name not in outputs}
    proto = job.source.proto
    tensors = job.graph.tensors() | {t.name: t for node in made.producer.values() for t in node.outputs}
    taken = {value.name for value in [*proto.graph.input, *proto.graph.output]} | set(tensors)
    results, added = [], []
    for name, result in outputs.items():
        if result in taken:
            raise ModelError(f"the model has a tensor {result!r} already, the name of the relevance; rename it")
        if name not in relevance:  # the rules give this branch no share
            relevance[name] = e.full(0.0, e.shape(tensors[name]), wide(tensors[name].dtype))
        dtype = tensors[name].dtype if is_float(tensors[name].dtype) else relevance[name].dtype
        results.append(e.named(e.cast(relevance[name], dtype), result))
        shape = None if tensors[name].shape is None else list(tensors[name].shape)
        added.append(helper.make_tensor_value_info(result, helper.np_dtype_to_tensor_dtype(dtype), shape))
    if book is not None:
        if OUTPUT in taken:
            raise ModelError(f"the model has a tensor {OUTPUT!r} already, the name of the ledger; rename it")
        e.scope = OUTPUT
        results.append(e.named(book.output(), OUTPUT))
        shape = [book.batch, len(book.steps), len(COLUMNS)]
        added.append(helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, shape))
    entries = metadata(job, outputs, target_input, book)
    nodes, constants = e.live(results, seed)
    proto.graph.output.extend(added)
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(constants)
    proto.graph.value_info.extend(e.declared(proto.graph.node))
    if inject is not None:
        shape = None if source.shape is None else list(source.shape)
        proto.graph.input.append(helper.make_tensor_value_info(seed.name, helper.np_dtype_to_tensor_dtype(seed.dtype), shape))
    if target_input is not None:
        proto.graph.input.append(helper.make_tensor_value_info(target_input, TensorProto.INT64, ["dtd/targets"]))
        proto.graph.initializer.append(helper.make_tensor(target_input, TensorProto.INT64, [1], [-1]))
    for key, value in entries.items():
        proto.metadata_props.add(key=PREFIX + key, value=value)
    return proto


def _given_by_step(made: Plan, name: str) -> Tensor:
    found = next((t for step in made.steps for t in step.outputs if t.name == name), None)
    if found is None:
        raise RequestError(f"relevance cannot be injected at {name!r}: no step gives it")
    return found


def _injected(e: Emit, tensor: Tensor) -> Tensor:
    return gs.Variable(e.unique(f"injected/{tensor.name}"), dtype=wide(tensor.dtype), shape=tensor.shape)


def seen(e: Emit, x: Tensor, missing: np.ndarray | None) -> Tensor:
    """An input with what the model takes for missing values, where it does."""
    return x if missing is None else e("Where", e("IsNaN", x), e.constant(missing.astype(x.dtype)), x)


def of_gradient(e: Emit, derivative: str, x: Tensor, g: Tensor) -> Tensor:
    """What a preset makes of the gradient: g itself, x g or g²."""
    if derivative == "g":
        return g
    return e("Mul", e.cast(x, g.dtype) if derivative == "x g" else g, g)


def accumulate(job: Job, source: Tensor, seed: Tensor, book: Ledger | None = None, shortcuts: bool = True) -> dict[str, Tensor]:
    """Walk the steps backwards from ``source``, whose relevance is ``seed``; what arrives at a tensor from several consumers
    adds up. Returns relevance by tensor name.
    """
    e = job.emit
    context = Context(job.plan.nonnegative, job.bounds.of if job.bounds else _no_bounds)
    arrived: dict[str, list[Tensor]] = {source.name: [seed]}
    total: dict[str, Tensor] = {}
    problems: list[Problem] = []
    if book is not None:
        book.seed(seed)
    end = next((i for i, step in enumerate(job.plan.steps, 1) if any(t.name == source.name for t in step.outputs)), 0)
    steps = job.plan.steps[:end]
    if shortcuts:
        steps = rectified(steps, source)
    if shortcuts and book is None:  # which has a row for what each of them took in
        steps = chained(steps, job.request.keep)
    for step in reversed(steps):
        e.scope = step.name
        for result in step.outputs:
            if result.name in arrived:
                total[result.name] = e.sum(arrived.pop(result.name))
                e.of_shape(total[result.name], result)
        relevance = [total.get(result.name) for result in step.outputs]
        if any(r is not None for r in relevance):
            try:
                handed = shares(e, step, relevance, context, book)
            except NotLinear as error:
                problems.append(problem(step.nodes[0], str(error)))
                continue
            for source, share in handed:
                arrived.setdefault(source.name, []).append(share)
            if book is not None:
                book.enter(step, [(t, r) for t, r in zip(step.outputs, relevance, strict=True) if r is not None], handed)
    if problems:
        raise Unsupported(problems[::-1])
    return total | {name: e.sum(parts) for name, parts in arrived.items()}


def shares(
    e: Emit, step: Step, relevance: list[Tensor | None], context: Context, book: Ledger | None
) -> list[tuple[Tensor, Tensor]]:
    """What a step hands to each of its inputs that depends on the explained ones."""
    if step.rule is not None and step.layer is not None:
        assert relevance[0] is not None
        found = None
        if book is None and step.layer.y is not step.outputs[0]:  # the ledger wants to know how a rule divided
            found = shared_out(e, step.layer, step.rule, relevance[0], context)
        if found is None:
            found = propagate(e, step.layer, step.rule, relevance[0], context, None if book is None else book.record)
        parts = list(enumerate(found))
    else:
        assert step.flow is not None
        parts = list(step.flow(e, step.nodes[0], relevance))
    return [(source, share) for i, share in parts if share is not None and (source := step.inputs[i]) is not None]


def _no_bounds(tensor: Tensor) -> tuple[Tensor, Tensor]:
    raise AssertionError("a rule that needs bounds was planned without")


def metadata(job: Job, outputs: Mapping[str, str], target_input: str | None, book: Ledger | None) -> dict[str, str]:
    """What an auditor wants to know, as JSON values by key."""
    request, made = job.request, job.plan
    entries: dict[str, Any] = {
        "version": onnxdtd.__version__,
        "source_sha256": job.source.sha256,
        "changes": job.changes,
        "predictor": predictor(job.source.proto),
        "preset": request.preset,
        "settings": list(request.settings),
        "rules": {step.name: str(step.rule) for step in made.steps if step.rule is not None},
        "bounds": as_data(request),
        "explain": list(request.explain),
        "output": made.output,
        "logits": made.logits.name,
        "stepped_back": [label(node) for node in made.stepped_back],
        "classes": classes(made),
        "labels": job.said.labels,
        "names": job.labels.names,
        "label_output": job.said.label_output,
        "score_output": job.said.score_output,
        "imputed": list(job.imputed),
        "target": "input" if target_input else request.target,
        "target_input": target_input,
        "contrast": request.contrast,
        "derivative": made.derivative,
        "by_weights": made.by_weights,
        "relevance": dict(outputs),
        "allow": dict(request.allow or {}),
        "samples": dict(made.samples.axes),
        "ledger": {"steps": book.steps, "columns": COLUMNS} if book else None,
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in entries.items()}


def predictor(proto: onnx.ModelProto) -> dict[str, Any]:
    """How many entries of ``PARTS`` are the source's own, and the SHA-256 of what it computes."""
    graph, digest = proto.graph, hashlib.sha256()
    placeless = files.relocated(proto, dict.fromkeys(files.locations(proto), "")).graph  # files may be copied
    for part in [*graph.node, *placeless.initializer, *graph.sparse_initializer, *proto.opset_import]:
        digest.update(part.SerializeToString(deterministic=True))
    sizes = {name: len(getattr(graph, name)) for name in PARTS}
    return {**sizes, "sha256": digest.hexdigest()}


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
