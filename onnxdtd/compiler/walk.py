"""The walk backwards: from where relevance starts, step by step, to the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxdtd.compiler.alive import alive
from onnxdtd.compiler.centred import centred
from onnxdtd.compiler.chained import chained
from onnxdtd.compiler.commuted import commuted
from onnxdtd.compiler.ledger import Bookkeeper
from onnxdtd.compiler.masks import Mask
from onnxdtd.compiler.neuron import Start
from onnxdtd.compiler.picked import picked
from onnxdtd.compiler.pieced import pieced
from onnxdtd.compiler.rectified import rectified
from onnxdtd.compiler.residual import residual
from onnxdtd.compiler.shortcuts import Shortcut, Situation
from onnxdtd.compiler.sized import sized
from onnxdtd.compiler.steps import Step, problem
from onnxdtd.compiler.summed import summed
from onnxdtd.compiler.trimmed import trimmed
from onnxdtd.compiler.unturned import unturned
from onnxdtd.errors import Problem, Unsupported
from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.terms import Context
from onnxdtd.operators.layer import NotLinear

# Each looks for what those before have done.
SHORTCUTS: tuple[Shortcut, ...] = (
    picked,
    alive,
    rectified,
    residual,
    chained,
    pieced,
    trimmed,
    unturned,
    centred,
    commuted,
    sized,
    summed,
)


def taken(steps: Sequence[Step], start: Start, situation: Situation, shortcuts: Sequence[Shortcut]) -> list[Step]:
    """The steps that relevance takes, in the order of the graph: those up to where it starts, by way of ``shortcuts``."""
    steps = [*steps, *start.steps]
    last = max((i for i, step in enumerate(steps, 1) if any(t.name in start.arrived for t in step.outputs)), default=0)
    steps = steps[:last]
    for shortcut in shortcuts:
        steps = shortcut(steps, situation)
    return steps


def walk(
    e: Emit,
    steps: Sequence[Step],
    start: Start,
    context: Context,
    book: Bookkeeper | None = None,
    masks: Mapping[str, Mask] | None = None,
) -> dict[str, Tensor]:
    """Take the steps backwards; what arrives at a tensor from several consumers adds up. ``book`` looks on; ``masks``, by
    tensor, let some of it pass.

    Returns relevance by tensor name. Raises ``Unsupported`` with all steps that cannot be taken.
    """
    arrived = {name: [r] for name, r in start.arrived.items()}
    total: dict[str, Tensor] = {}
    ahead = dict(masks or {})
    problems: list[Problem] = []
    for step in reversed(steps):
        with e.within(step.name):
            for result in step.outputs:
                if result.name in arrived:
                    total[result.name] = e.sum(arrived.pop(result.name))
                    e.of_shape(total[result.name], result)
            relevance = [_passed(e, t, total.get(t.name), ahead, book) for t in step.outputs]
            own = [(t, r) for t, r in zip(step.outputs, relevance, strict=True) if r is not None]
            if not own:
                continue
            try:
                above = [total.get(t.name) for t in step.looks_at]
                shares = step.back(e, [*relevance, *above], context, None if book is None else book.record)
            except NotLinear as error:
                problems.append(problem(step.nodes[0], str(error)))
                continue
            for x, share in shares:
                arrived.setdefault(x.name, []).append(share)
            if book is not None:
                book.enter(step, own, shares)
    if problems:
        raise Unsupported(problems[::-1])
    return start.total | total | {name: e.sum(parts) for name, parts in arrived.items()}


def _passed(
    e: Emit, tensor: Tensor, relevance: Tensor | None, ahead: dict[str, Mask], book: Bookkeeper | None
) -> Tensor | None:
    """The relevance of a tensor, or what its mask lets pass of it; ``ahead`` are the masks that the walk has not come to."""
    if relevance is None or tensor.name not in ahead:
        return relevance
    mask = ahead.pop(tensor.name)
    passed = mask.let(e, relevance)
    if book is not None:
        book.mask(mask.given.name, tensor, relevance, passed)
    return passed
