"""What a compile of a model would do, node by node, as plain data."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Any

from onnxdtd.compiler.bounds import form_of
from onnxdtd.compiler.compile import prepare
from onnxdtd.compiler.cost import cost
from onnxdtd.compiler.groups import by_layer
from onnxdtd.compiler.masks import channels
from onnxdtd.compiler.placement import placement
from onnxdtd.compiler.prepared import Prepared
from onnxdtd.compiler.raster import Raster, Undecided, shape_text
from onnxdtd.compiler.steps import Step
from onnxdtd.contract import SCORE
from onnxdtd.data.arrangement import Sizes
from onnxdtd.errors import RequestError, counted
from onnxdtd.graph.files import ModelLike
from onnxdtd.graph.tensors import Tensor
from onnxdtd.labels import listed
from onnxdtd.method.toml import Library
from onnxdtd.request import Request


def inspect(model: ModelLike, request: Request | None = None, provider: str | None = None) -> dict[str, Any]:
    """Say which node gets which rule, and what that costs.

    Args:
        model: path, bytes or ``onnx.ModelProto`` of a classifier.
        request: the options of ``onnxdtd.compile``.
        provider: ``"cuda"`` or ``"cpu"``, to also say which nodes have no kernel there.

    Returns:
        What ``onnxdtd inspect --json`` prints, apart from the name of the model: ``inputs`` and how they are ``seen`` (as
        channels and steps, say), ``outputs`` that can be explained (what lies along the axes of their scores, and the ``ways``
        to choose among these), ``output``, ``logits``, the nodes ``stepped_back`` over, ``labels``, ``changes``, ``notes``,
        ``preset``, its title and source, the ``rules`` as ``equations`` tells them, ``multiply_adds`` for one sample, and
        ``steps``.
        Of each step ``gives`` says what ``keep`` and ``mask`` may name, by tensor how many channels it has (None: no mask).
        Of steps that are ``open``, whose sizes are known at run time only, they are counted as if these were 1; what no
        relevance passes is not counted.
        Where there are several positions and none is said, that of a weighted sum of all, and a note. With a provider also its
        ``kernels``: see ``onnxdtd.compiler.placement``.

    Raises:
        Unsupported: nodes without a propagation rule; OnnxdtdError: see ``onnxdtd.errors``.
    """
    return laid_open(*opened(model, request or Request()), provider)


def opened(model: ModelLike, request: Request) -> tuple[Prepared, list[str]]:
    """A model with its relevance pass, and what is to be known of it besides the notes of its plan."""
    try:
        return prepare(model, request), []
    except Undecided as error:
        try:
            return prepare(model, replace(request, target=SCORE)), [str(error)]
        except RequestError:  # of several outputs
            raise error from None


def laid_open(job: Prepared, notes: list[str], provider: str | None = None) -> dict[str, Any]:
    """What ``inspect`` gives of a model."""
    preset = Library().preset(str(job.request.preset))
    known = job.graph.tensors().keys()
    steps = [_row(job, step, known) for step in job.plan.steps]
    return {
        "inputs": [{"name": t.name, "shape": [str(d) for d in t.shape or []], "seen": seen(job, t)} for t in job.plan.inputs],
        "outputs": [
            {"output": name, "scores": _scores(job, name, raster), "axes": raster.axes, "ways": raster.ways()}
            for name, raster in job.plan.offered
        ],
        "output": job.plan.output,
        "logits": job.plan.logits.name,
        "stepped_back": [node.op for node in job.plan.stepped_back],
        "labels": job.labels.shown(),
        "changes": job.changes,
        "notes": notes + job.plan.notes,
        "preset": job.request.preset,
        "preset_title": preset.title,
        "preset_source": preset.source,
        "rules": equations(job),
        "multiply_adds": {key: sum(row[key] for row in steps) for key in ("prediction", "explanation")},
        "steps": steps,
    } | ({"kernels": placement(job, provider)} if provider else {})


def equations(job: Prepared) -> dict[str, dict[str, Any]]:
    """The rules of a model by name, those behind a rule too: equation, domain, source, and how many layers are under it."""
    found: dict[str, dict[str, Any]] = {}
    layers: dict[str, set[str]] = {}
    for layer, step in zip(by_layer([step.name for step in job.plan.steps]), job.plan.steps, strict=True):
        for rule in [] if step.rule is None else step.rule.chain:
            found.setdefault(rule.reference, {"equation": rule.equation, "domain": rule.domain, "source": rule.source})
            layers.setdefault(rule.reference, set()).add(layer)
    return {name: told | {"layers": len(layers[name])} for name, told in found.items()}


def seen(job: Prepared, tensor: Tensor) -> str:
    """How a sample of what is explained is seen: as channels and steps, say, or as features that have names. Nothing where its
    shape is not declared.
    """
    if names := job.addition.metadata.get("features", {}).get(tensor.name):
        return f"{counted(len(names), 'feature')}: {listed(names)}"
    if not tensor.shape:
        return ""
    plain = replace(job.request, low=None, high=None, preprocessing=None)  # some inputs have no colours
    return Sizes.of(form_of(tensor, plain, job.plan.samples.axes.get(tensor.name), job.ids)).words()


def _scores(job: Prepared, output: str, raster: Raster) -> str:
    """What an output is called, or the tensor of the model that its scores are."""
    return raster.name if raster.shown.name in job.graph.tensors() else f"{output!r} {shape_text(raster.shown)}"


def _row(job: Prepared, step: Step, known: Container[str]) -> dict[str, Any]:
    """A step, of which the ``known`` tensors may be asked for."""
    sources = [t for t in step.inputs if t is not None]
    shapes = ["[" + ",".join(str(d) for d in t.shape) + "]" if t.shape is not None else "?" for t in sources]
    signs = [">=0" if job.plan.nonnegative(t) else "" for t in sources]
    costs = cost(step, job.plan)
    return {
        "node": step.name,
        "op": step.op,
        "kind": step.kind,
        "rule": None if step.rule is None else str(step.rule),
        "gives": {t.name: channels(job.plan, t) for t in step.outputs if t.name in known},
        "first": bool(step.facts and step.facts.first),
        "input": [shape + sign for shape, sign in zip(shapes, signs, strict=True)],
        "prediction": costs.prediction,
        "explanation": costs.explanation,
        "open": costs.open,
    }
