"""The relevance pass of a planned model: the score, the walk from there to the inputs, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from onnx import TensorProto, helper

from onnxdtd.compiler.alive import number
from onnxdtd.compiler.bounds import Bounds
from onnxdtd.compiler.fitted import ruled
from onnxdtd.compiler.imputed import seen
from onnxdtd.compiler.ledger import Bookkeeper
from onnxdtd.compiler.maps import asked
from onnxdtd.compiler.masks import masks
from onnxdtd.compiler.neuron import Start, neurons
from onnxdtd.compiler.paths import Way
from onnxdtd.compiler.picked import at_place
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.points import Point
from onnxdtd.compiler.prepared import Addition, Planned
from onnxdtd.compiler.record import metadata
from onnxdtd.compiler.score import Score, score, weighed
from onnxdtd.compiler.shortcuts import Shortcut, Situation
from onnxdtd.compiler.walk import SHORTCUTS, taken, walk
from onnxdtd.contract import COLUMNS, LEDGER, RELEVANCE, TARGET, relevance_of
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.graph.emit import Emit, wide
from onnxdtd.graph.slices import declared
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.method import HERE, Ending
from onnxdtd.method.terms import Context
from onnxdtd.operators.layer import is_float


def addition(planned: Planned, inject: str | None = None, shortcuts: Sequence[Shortcut] = SHORTCUTS) -> Addition:
    """What to append to the model; see ``onnxdtd.compiler.compile.build``. The plan stays as it is.

    Raises ``Unsupported`` with all steps that cannot be taken, ``RequestError`` and ``ModelError`` for the rest.
    """
    e = planned.emit
    with e.forgetting(), e.within(TARGET):
        return _addition(planned, inject, shortcuts)


def _addition(planned: Planned, inject: str | None, shortcuts: Sequence[Shortcut]) -> Addition:
    e, plan, request = planned.emit, planned.plan, planned.request
    e.measure = plan.samples.measure
    if request.ledger and not plan.method.conserves:
        raise RequestError(
            f"--ledger: the preset {request.preset!r} is a derivative, of which nothing is conserved; leave it out, or choose "
            "a preset of the method lrp"
        )
    if request.portable and request.ledger:
        raise RequestError("--portable: --ledger adds up in float64, which these runtimes have not; leave one of them out")
    if request.portable and request.on_demand is not None:
        raise RequestError("--portable: --on-demand puts all in an If, which CoreML and NNAPI have not; leave one of them out")
    bounds = Bounds(e, plan, planned.bounded)
    book = Bookkeeper(e, plan, bounds.of) if request.ledger else None
    scored = score(e, plan, request) if inject is None else None
    start = _injected(e, plan, str(inject)) if scored is None else _start(e, plan, scored)
    if book is not None:
        book.seed(start.seed)
    masked = masks(e, plan, start, request.mask)
    free = start.arrived if scored is None else ()
    plain = book is None and not plan.method.compares and not any(step.fit for step in plan.steps)
    whole: dict[str, Tensor] = {}  # by the name of a part of it
    nonnegative: Callable[[Tensor], bool] = lambda tensor: plan.nonnegative(whole.get(tensor.name, tensor))
    situation = Situation(
        start.arrived,
        [*request.keep, *request.mask],
        nonnegative,
        free,
        partial(number, e),
        bounds.of,
        partial(at_place, e, lambda where: plan.elsewhere(where).steps, whole) if plain else None,
    )
    steps = taken(ruled(planned), start, situation, shortcuts)
    with e.within(steps[0].name if steps else TARGET):  # the step next to the inputs
        if scored is None or plan.method.point == HERE:
            relevance = walk(e, steps, start, Context(nonnegative, bounds.of, plan.there.of), book, masked)
            relevance |= _replaced(start, relevance, request.keep)
            there = plan.there
        else:
            relevance, there = Way(planned, scored, shortcuts, masked).gradients()
        names, results = _results(planned, relevance, there)
        told = metadata(planned, names, scored, book, masked)
        values = told.get("values", {})
        results += [e.named(t, values[t.name], t.shape) for t in plan.inputs if t.name in values]
        if scored is not None:
            results.append(e.named(scored.total, str(told["logit"]), scored.total.shape))
        if scored is not None and plan.baseline is not None:
            _, total = weighed(e, plan, scored.coefficients, there.of(plan.logits))
            results.append(e.named(total, told["logit_at_baseline"], total.shape))
    if book is not None:
        with e.within(LEDGER):
            results.append(e.named(book.output(), LEDGER, [book.batch, len(book.steps), len(COLUMNS)]))
    _check_names(planned, results)
    nodes, constants = map(list, e.live(results, start.seed))
    fed = start.seed if scored is None else scored.given
    compared = [] if plan.baseline is None else plan.baseline.inputs.values()
    optional = fed is not None and scored is not None and request.target == "optional"
    return Addition(
        nodes,
        constants,
        inputs=[declared(t) for t in (fed, *(mask.given for mask in masked.values()), *compared) if t is not None],
        outputs=list(map(declared, results)),
        defaults=[helper.make_tensor(fed.name, TensorProto.INT64, [1], [-1])] if fed is not None and optional else [],
        shapes=list(e.declared([*planned.source.proto.graph.node, *nodes])),
        metadata=told,
    )


def _results(planned: Planned, relevance: dict[str, Tensor], there: Point) -> tuple[dict[str, str], list[Tensor]]:
    """The outputs for the relevance of inputs and tensors to keep, and their names by those of the tensors; ``there`` is what
    the input is compared with.
    """
    e, plan = planned.emit, planned.plan
    arrived: dict[str, list[Tensor]] = {}
    for end in plan.ends:
        name, known = end.tensor.name, end.explained.name
        if name in relevance:
            x = partial(seen, e, end.tensor, planned.imputed.get(name))
            finished = plan.method.finished(
                e, Ending(x, partial(there.of, end.tensor), partial(asked, plan, end.tensor)), relevance[name]
            )
            arrived.setdefault(known, []).append(end.home(e, finished))
    if plan.method.conserves:
        relevance |= {
            name: plan.method.of_tensor(e, planned.tensor(name), relevance[name])
            for name in planned.request.keep
            if name in relevance
        }
    relevance = {**relevance, **{name: e.sum(parts) for name, parts in arrived.items()}}
    several = len({end.explained.name for end in plan.ends}) > 1
    names = {t.name: relevance_of(t.name) if several else RELEVANCE for t in plan.inputs}
    names |= {name: relevance_of(name) for name in planned.request.keep if name not in names}
    results = [_relevance(planned, name, result, relevance) for name, result in names.items()]
    parts = [end.explained for end in plan.ends if end.beside is not None]
    results += [e.named(relevance[t.name], relevance_of(t.name), t.shape) for t in parts if t.name in arrived]
    return names | {t.name: relevance_of(t.name) for t in parts if t.name in arrived}, results


def _injected(e: Emit, plan: Plan, name: str) -> Start:
    """A start at an input for the relevance of what a step of the plan gives."""
    given = next((t for step in plan.steps for t in step.outputs if t.name == name), None)
    if given is None:
        raise RequestError(f"relevance cannot be injected at {name!r}: no step gives it")
    seed = Tensor(e.unique(f"injected/{name}"), dtype=wide(given.dtype), shape=given.shape)
    return Start(seed, {name: seed})


def _start(e: Emit, plan: Plan, scored: Score) -> Start:
    """Where the walk starts: at the logits, or at the neurons of the score."""
    seed = scored.seed(plan.method)
    if scored.one_hot or not plan.method.divides:
        return Start(seed, {plan.logits.name: seed})
    return neurons(e, plan, scored.coefficients, seed)


def _replaced(start: Start, relevance: Mapping[str, Tensor], keep: Sequence[str]) -> dict[str, Tensor]:
    """The relevance of tensors to keep that neurons have replaced."""
    found = {}
    for name, same in start.replaced.items():
        if name in keep and name not in relevance:
            if same is None or same not in relevance:
                raise RequestError(
                    f"--keep {name!r}: lies within the neuron that gives the score; keep one that it is computed from"
                )
            found[name] = relevance[same]
    return found


def _relevance(planned: Planned, name: str, result: str, relevance: dict[str, Tensor]) -> Tensor:
    """The relevance of a tensor as the output ``result``."""
    e, tensor = planned.emit, planned.tensor(name)
    if name not in relevance:  # the rules give this branch no share
        relevance[name] = e.full(0.0, e.shape(tensor), wide(tensor.dtype))
    dtype = tensor.dtype if is_float(tensor.dtype) else relevance[name].dtype
    return e.named(e.cast(relevance[name], dtype), result, tensor.shape)


def _check_names(planned: Planned, results: Sequence[Tensor]) -> None:
    """Raise ``ModelError`` for an output whose name the model has given to something else."""
    graph = planned.source.proto.graph
    taken_names = {value.name for value in (*graph.input, *graph.output)} | set(planned.graph.tensors())
    for tensor in results:
        if tensor.name in taken_names:
            raise ModelError(f"the model has a tensor {tensor.name!r} already, the name of an output of ours; rename it")
