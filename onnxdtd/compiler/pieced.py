"""Selections that take a tensor apart, piece by piece, give it back as their relevance side by side.

Queries, keys and values are often one tensor, [3, ...], of which a Gather or a Slice each takes its own. Each on its own hands
back a whole tensor with zeros around its piece, and these are added up. As pieces of one Split they are joined, once.

It declines pieces that overlap, that leave something of the tensor out, or that lie along several axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.moves import completed, side_by_side
from onnxdtd.operators.table import MOVE, Cut, Relevance, of


def pieced(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with such selections taken as one, in the place of the first."""
    found: dict[tuple[str, int], list[tuple[Cut, int]]] = {}  # by tensor and axis: pieces, and where their steps are
    for i, step in enumerate(steps):
        take = of(step.nodes[0]).piece if step.kind == MOVE else None
        piece = None if take is None else take(step.nodes[0])
        if piece is not None:
            found.setdefault((step.nodes[0].inputs[0].name, piece.axis), []).append((piece, i))
    places: dict[int, Step | None] = {}
    for pairs in found.values():
        pieces, own = zip(*sorted(pairs), strict=True)
        if len(own) > 1 and _covers(pieces, steps[own[0]]):
            places |= dict.fromkeys(own) | {min(own): _joined(pieces, [steps[i] for i in own])}
    kept = [places.get(i, step) for i, step in enumerate(steps)]
    return [step for step in kept if step is not None]


def _covers(pieces: Sequence[Cut], step: Step) -> bool:
    """Do they lie side by side, from the first entry of the tensor that a step reads to the last?"""
    size = (dims(step.nodes[0].inputs[0]) or [])[pieces[0].axis]
    return [piece.start for piece in pieces] + [size] == [0] + [piece.end for piece in pieces]


def _joined(pieces: Sequence[Cut], parts: Sequence[Step]) -> Step:
    """One step for all, whose outputs are the pieces in their order."""
    nodes, outputs = tuple(step.nodes[0] for step in parts), tuple(step.outputs[0] for step in parts)
    return Step(MOVE, nodes, outputs, parts[0].inputs[:1], flow=partial(_side_by_side, pieces, outputs))


def _side_by_side(
    pieces: Sequence[Cut], outputs: Sequence[Tensor], e: Emit, node: Node, relevance: Relevance
) -> Iterator[tuple[int, Tensor]]:
    own = zip(pieces, completed(e, outputs, relevance), strict=True)
    yield 0, e("Concat", *(side_by_side(e, piece, r) for piece, r in own), axis=pieces[0].axis)
