"""The compiler: read, plan, walk backwards, append, check. Everything it decides is in the plan."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import onnxdtd
from onnxdtd import contract
from onnxdtd.compiler.advice import advised
from onnxdtd.compiler.bounds import Bounds, as_data, by_input, form_of, with_bytes, with_preprocessing
from onnxdtd.compiler.classlabels import said
from onnxdtd.compiler.ledger import Ledger
from onnxdtd.compiler.logits import NoScores
from onnxdtd.compiler.plan import Plan, explainable, plan
from onnxdtd.compiler.prepared import Prepared
from onnxdtd.compiler.score import Score, classes, score
from onnxdtd.compiler.walk import accumulate, begin, injected, of_gradient, seen
from onnxdtd.contract import COLUMNS, LEDGER, LOGIT, PARTS, RELEVANCE, TARGET, Metadata, relevance_of
from onnxdtd.data.channels import channel_axis, slid_axes
from onnxdtd.data.forms import PICTURE
from onnxdtd.errors import ModelError, RequestError, Unsupported
from onnxdtd.graph import files
from onnxdtd.graph.emit import Emit, label, wide
from onnxdtd.graph.imputed import imputed
from onnxdtd.graph.tensors import Graph, Tensor
from onnxdtd.graph.vocabulary import vocabulary
from onnxdtd.labels import Index, Labels
from onnxdtd.method.toml import DEFAULTS, Library
from onnxdtd.operators.moves import is_float
from onnxdtd.request import CONTRASTS, NO_CLASSES, Request


def prepare(model: files.ModelLike, request: Request) -> Prepared:
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


def _prepare(model: files.ModelLike, request: Request) -> Prepared:
    source = files.read(model)
    if contract.entries(source.proto):
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
    request = with_bytes(with_preprocessing(request, explained), explained)
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
    for tensor in made.inputs if request.preprocessing else ():
        if tensor.shape is not None and (len(made.inputs) == 1 or len(tensor.shape) == PICTURE):
            form_of(tensor, request, made.samples.axes[tensor.name])  # does it fit?
    own = said(source.proto, made)
    labels = Labels(own.labels, None, classes(made)).named(request.labels)
    made.notes.extend(labels.replaced())
    if request.target is not None and request.target not in NO_CLASSES:
        made.notes.extend(filter(None, [labels.understood(request.target)]))
        request = replace(request, target=labels.index(request.target))
    made.notes.extend(_left_out(graph, names, made))
    request = replace(request, preset=request.preset or made.preset)
    return Prepared(source, changes, graph, emit, made, bounds, request, own, labels, imputed(graph.nodes, made.inputs))


def _left_out(graph: Graph, inputs: Sequence[str], made: Plan) -> Iterator[str]:
    """Names the inputs that relevance is not given to."""
    explained = {t.name for t in made.inputs}
    kinds = {t.name: "strings" if t.dtype == object else str(np.dtype(t.dtype)) for t in graph.inputs if t.name in inputs}
    words = [f"{name} ({kind})" for name, kind in kinds.items() if name not in explained]
    if words:
        yield f"not explained: {', '.join(words)}; what they contribute counts as a constant"


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
    contrast: bool | str | None = None,
    output: str | None = None,
    keep: Sequence[str] = (),
    allow: Mapping[str, str] | None = None,
    ledger: bool = False,
    explain: Sequence[str] = (),
    labels: Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
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
        target: None or ``"argmax"`` for the arg-max, the label or the index of a class for that, ``"input"`` for a required
            input ``target`` (int64, [batch], -1 for the arg-max), ``"optional"`` for one that may be left out, which only some
            of the runtimes understand. An integer that is a label of the model is that label; ``onnxdtd.labels.Index(3)`` is an
            index whatever the labels are.
        contrast: explain the logit minus that of the runner-up, the highest of the other classes (True or ``"runner-up"``), or
            minus the mean of all others (``"rest"``).
        output: the output (or inner tensor) to explain, where the model has several.
        keep: inner tensors whose relevance becomes an output ``relevance/<tensor>``.
        allow: operators without a rule, or nodes by name, that relevance shall pass unchanged, ``{"Op": "pass"}``; recorded in
            the metadata. Only where input and output have one shape.
        ledger: also output ``ledger``, float64 [batch, steps, columns]: what every layer took in, handed on and kept
            (``onnxdtd.contract.COLUMNS``; ``Explainer`` gives it names).
        preprocessing: how pictures become inputs, recorded in the metadata for whoever reads them: ``range`` (what the bytes 0
            and 255 become first), ``mean``, ``std``, ``colours`` (``"rgb"``, ``"bgr"``), ``resize`` (the shorter side, or
            height and width), ``crop`` (a side, height and width, or ``"none"``). The first three give the bounds instead of
            ``low`` and ``high``.
        explain: the inputs that relevance is given to, by default all of floating-point numbers; the others, such as masks,
            count as constants.
        labels: names of the classes, in the order of the logits, in place of the model's own labels.

    Returns:
        The source model with all of its nodes and outputs, and the further outputs ``relevance`` (``relevance/<input>`` where
        several inputs are explained), of the shape and type of the input, and ``logit``, [batch], the score that is explained.
        Σ relevance is that score up to what biases and vanishing denominators absorb.

    Raises:
        OnnxdtdError: see ``onnxdtd.errors``.
    """
    if isinstance(target, bool) or not (target is None or isinstance(target, str) or hasattr(target, "__index__")):
        raise RequestError(f"target {target!r}: give 'argmax', 'input', 'optional', or the label or the index of a class")
    chosen = target if target is None or isinstance(target, str | Index) else int(target)
    named = None if preset is None else os.fspath(preset)
    against = (CONTRASTS[0] if contrast else None) if isinstance(contrast, bool) else contrast
    words = (named, tuple(settings), low, high, chosen, against, output, tuple(keep), allow, ledger)
    names = None if labels is None else tuple(map(str, labels))
    chosen_inputs = (explain,) if isinstance(explain, str) else tuple(explain)
    request = Request(*words, explain=chosen_inputs, labels=names, preprocessing=preprocessing)
    return build(prepare(model, request))


def build(job: Prepared, inject: str | None = None, shortcuts: bool = True) -> onnx.ModelProto:
    """Append the relevance pass to the model of a job.

    With ``inject``, the name of what a step of the plan gives, relevance starts there instead of at the logits: as the input
    ``injected/<inject>`` of the shape of that tensor. Without ``shortcuts`` every step is taken by its definition.
    """
    try:
        return _build(job, inject, shortcuts)
    except Unsupported as error:
        raise advised(error, job.source.proto, job.request, _tried) from None


def _build(job: Prepared, inject: str | None = None, shortcuts: bool = True) -> onnx.ModelProto:
    e, made, request = job.emit, job.plan, job.request
    e.scope = TARGET
    if made.derivative and request.ledger:
        raise RequestError(f"--ledger: the preset {request.preset!r} is a derivative, of which nothing is conserved")
    book = Ledger(e, made, job.bounds.of if job.bounds else None) if request.ledger else None
    scored = score(e, made, request) if inject is None else None
    seed = injected(e, made, str(inject)) if scored is None else scored.seed(made.derivative is not None)
    relevance = accumulate(job, begin(job, seed, inject, scored), book, shortcuts)
    for tensor in made.inputs:
        if made.derivative and tensor.name in relevance:
            x = seen(e, tensor, job.imputed.get(tensor.name))
            relevance[tensor.name] = of_gradient(e, made.derivative, x, relevance[tensor.name])
    names = {t.name: RELEVANCE if len(made.inputs) == 1 else relevance_of(t.name) for t in made.inputs}
    names |= {name: relevance_of(name) for name in request.keep if name not in names}
    results = [_relevance(job, name, result, relevance) for name, result in names.items()]
    entries = metadata(job, names, scored, book)
    if scored is not None:
        results.append(e.named(scored.total, str(entries["logit"]), scored.total.shape))
    if book is not None:
        e.scope = LEDGER
        results.append(e.named(book.output(), LEDGER, [book.batch, len(book.steps), len(COLUMNS)]))
    _append(job, results, seed)
    if inject is not None:
        job.source.proto.graph.input.append(_declared(seed))
    elif scored is not None and scored.target is not None:
        job.source.proto.graph.input.append(_declared(scored.target))
        if request.target == "optional":
            job.source.proto.graph.initializer.append(helper.make_tensor(scored.target.name, TensorProto.INT64, [1], [-1]))
    contract.write_metadata(job.source.proto, entries)
    return job.source.proto


def _relevance(job: Prepared, name: str, result: str, relevance: dict[str, Tensor]) -> Tensor:
    """The relevance of a tensor as the output ``result``."""
    e, tensors = job.emit, job.graph.tensors()
    tensor = tensors.get(name) or next(t for node in job.plan.producer.values() for t in node.outputs if t.name == name)
    if name not in relevance:  # the rules give this branch no share
        relevance[name] = e.full(0.0, e.shape(tensor), wide(tensor.dtype))
    dtype = tensor.dtype if is_float(tensor.dtype) else relevance[name].dtype
    return e.named(e.cast(relevance[name], dtype), result, tensor.shape)


def _append(job: Prepared, results: Sequence[Tensor], seed: Tensor) -> None:
    """Add ``results`` and all that they need to the model. What depends on ``seed`` comes last."""
    graph = job.source.proto.graph
    taken = {value.name for value in (*graph.input, *graph.output)} | set(job.graph.tensors())
    for tensor in results:
        if tensor.name in taken:
            raise ModelError(f"the model has a tensor {tensor.name!r} already, the name of an output of ours; rename it")
    nodes, constants = job.emit.live(results, seed)
    graph.output.extend(map(_declared, results))
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    graph.value_info.extend(job.emit.declared(graph.node))


def _declared(tensor: Tensor) -> onnx.ValueInfoProto:
    """A tensor as an input or output is declared."""
    shape = None if tensor.shape is None else list(tensor.shape)
    return helper.make_tensor_value_info(tensor.name, helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)), shape)


def metadata(job: Prepared, outputs: Mapping[str, str], scored: Score | None, book: Ledger | None) -> Metadata:
    """What an auditor wants to know."""
    request, made = job.request, job.plan
    return {
        "version": onnxdtd.__version__,
        "source_sha256": job.source.sha256,
        "changes": job.changes,
        "predictor": predictor(job.source.proto),
        "preset": str(request.preset),
        "settings": list(request.settings),
        "rules": {step.name: str(step.rule) for step in made.steps if step.rule is not None},
        "bounds": as_data(request),
        "channels": {t.name: channel_axis(t) for t in made.inputs},
        "slides": {t.name: slid_axes(t) for t in made.inputs},
        "preprocessing": request.preprocessing,
        "explain": list(request.explain),
        "output": made.output,
        "logits": made.logits.name,
        "stepped_back": [label(node) for node in made.stepped_back],
        "classes": classes(made),
        "labels": job.said.labels,
        "names": job.labels.names,
        "label_output": job.said.label_output,
        "score_output": job.said.score_output,
        "squashed": job.said.squashed,
        "imputed": list(job.imputed),
        "strings": vocabulary(job.graph.nodes, job.graph.inputs),
        "target": "argmax" if request.target is None else request.target,
        "target_input": scored.target.name if scored is not None and scored.target is not None else None,
        "contrast": request.contrast,
        "derivative": made.derivative,
        "by_weights": made.by_weights,
        "logit": None if scored is None else job.emit.unique(LOGIT),
        "relevance": dict(outputs),
        "allow": dict(request.allow or {}),
        "samples": dict(made.samples.axes),
        "ledger": {"steps": book.steps, "columns": list(COLUMNS)} if book else None,
    }


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
