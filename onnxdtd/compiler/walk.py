"""The walk backwards: from where relevance starts, step by step, to the inputs."""

from __future__ import annotations

import numpy as np

from onnxdtd.compiler.chained import chained
from onnxdtd.compiler.ledger import Ledger
from onnxdtd.compiler.neuron import Start, neurons
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.prepared import Prepared
from onnxdtd.compiler.rectified import rectified
from onnxdtd.compiler.residual import shared_out
from onnxdtd.compiler.score import Score
from onnxdtd.compiler.steps import Step, problem
from onnxdtd.errors import Problem, RequestError, Unsupported
from onnxdtd.graph.emit import Emit, wide
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.propagate import propagate
from onnxdtd.method.terms import Context
from onnxdtd.operators.linear import NotLinear


def injected(e: Emit, made: Plan, name: str) -> Tensor:
    """The input for the relevance of what a step of the plan gives."""
    found = next((t for step in made.steps for t in step.outputs if t.name == name), None)
    if found is None:
        raise RequestError(f"relevance cannot be injected at {name!r}: no step gives it")
    return Tensor(e.unique(f"injected/{name}"), dtype=wide(found.dtype), shape=found.shape)


def seen(e: Emit, x: Tensor, missing: np.ndarray | None) -> Tensor:
    """An input with what the model takes for missing values, where it does."""
    return x if missing is None else e("Where", e("IsNaN", x), e.constant(missing.astype(x.dtype)), x)


def of_gradient(e: Emit, derivative: str, x: Tensor, g: Tensor) -> Tensor:
    """What a preset makes of the gradient: g itself, x g or g²."""
    if derivative == "g":
        return g
    return e("Mul", e.cast(x, g.dtype) if derivative == "x g" else g, g)


def begin(job: Prepared, seed: Tensor, inject: str | None, scored: Score | None) -> Start:
    """Where the walk starts: where ``seed`` is injected, at the logits, or at the neurons of the score."""
    if scored is None or scored.one_hot or job.plan.derivative:
        return Start(seed, {job.plan.logits.name if inject is None else inject: seed})
    return neurons(job.emit, job.plan, scored.coefficients, seed)


def accumulate(job: Prepared, begin: Start, book: Ledger | None = None, shortcuts: bool = True) -> dict[str, Tensor]:
    """Walk the steps backwards from where relevance starts; what arrives at a tensor from several consumers adds up.

    Returns relevance by tensor name.
    """
    e = job.emit
    context = Context(job.plan.nonnegative, job.bounds.of if job.bounds else _no_bounds)
    arrived = {name: [r] for name, r in begin.arrived.items()}
    total: dict[str, Tensor] = {}
    problems: list[Problem] = []
    if book is not None:
        book.seed(begin.seed)
    steps = [*job.plan.steps, *begin.steps]
    last = max((i for i, step in enumerate(steps, 1) if any(t.name in begin.arrived for t in step.outputs)), default=0)
    steps = steps[:last]
    if shortcuts:
        steps = rectified(steps, begin.arrived)
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
            for given, share in handed:
                arrived.setdefault(given.name, []).append(share)
            if book is not None:
                book.enter(step, [(t, r) for t, r in zip(step.outputs, relevance, strict=True) if r is not None], handed)
    if problems:
        raise Unsupported(problems[::-1])
    found = begin.total | total | {name: e.sum(parts) for name, parts in arrived.items()}
    for name, same in begin.replaced.items():
        if name in job.request.keep and name not in found:
            if same not in found:
                raise RequestError(
                    f"--keep {name!r}: lies within the neuron that gives the score; keep one that it is computed from"
                )
            found[name] = found[same]
    return found


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
