"""Pieces that were turned to the front of a tensor are joined where they lay, so that nothing is turned back.

Queries, keys and values of one layer, [..., 3, width], are often taken off [3, ..., width]. Their relevance, joined to that and
turned as a whole, is what it is when it is joined along the axis that they come from.

It declines where anything else is turned as well, or somebody else reads what lies between, or wants its relevance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from onnxdtd.compiler.shortcuts import Situation, read_once
from onnxdtd.compiler.steps import Step
from onnxdtd.compiler.trimmed import turned
from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.moves import completed
from onnxdtd.operators.table import MOVE, Relevance, of


def unturned(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with such pieces joined in front of what turns them."""
    free = read_once(steps, situation)
    givers = {step.outputs[0].name: step for step in steps if step.kind == MOVE and step.outputs[0].name in free}
    gone, found = set[str](), list[Step]()
    for step in steps:
        joined, passed = _early(step, givers)
        gone |= passed
        found.append(joined)
    return [step for step in found if step.outputs[0].name not in gone]


def _early(step: Step, givers: Mapping[str, Step]) -> tuple[Step, set[str]]:
    """A step that joins pieces as early as it can, and the names of what it passes by."""
    pieces = [take(node) for node in step.nodes if (take := of(node).piece) is not None]
    if step.kind != MOVE or len(step.nodes) < 2 or len(pieces) < len(step.nodes) or not all(p and p.single for p in pieces):
        return step, set()
    x, chain, best = step.nodes[0].inputs[0], list[Step](), (step, set[str]())
    while (before := givers.get(x.name)) is not None and len(before.nodes) == 1 and before.inputs[0] is not None:
        chain.append(before)
        x = before.inputs[0]
        axis = _axis(x, chain[::-1], next(piece.axis for piece in pieces if piece))
        if axis is not None:
            flow = partial(_joined, axis, step.outputs)
            best = replace(step, inputs=(x,), flow=flow), {each.outputs[0].name for each in chain}
    return best


def _axis(x: Tensor, chain: Sequence[Step], front: int) -> int | None:
    """The axis of x that the pieces, taken along ``front`` behind a chain of steps, come from, if all others are in order."""
    order: list[int | None] | None = list(range(len(dims(x) or [])))
    for step in chain:
        order = None if order is None else turned(step.nodes[0], order)
    if order is None:
        return None
    axis = order[front]
    rest = [i for i in range(len(dims(x) or [])) if i != axis]
    return axis if [*order[:front], *order[front + 1 :]] == rest else None


def _joined(axis: int, outputs: Sequence[Tensor], e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    yield 0, e("Concat", *(e("Unsqueeze", r, [axis]) for r in completed(e, outputs, relevance)), axis=axis)
