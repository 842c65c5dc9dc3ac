"""Where a classifier picks one of many positions, what treats each by itself is walked at that one alone.

A class token stands first, or what is said of a text last, and the head reads no other. So relevance of what the last block
gives lies at one position of hundreds: all that works on each by itself, its dense layers, norms and functions, and its
queries, gets nothing elsewhere, and 0 is shared out as 0 whatever the denominator. Each tensor there is read, and its relevance
is handed on, at that entry of the axis alone, and what a step above mixes gets it back between zeros. Of the dense layers of a
last block hardly anything is left to be multiplied.

It declines where somebody else reads the positions, or wants their relevance; positions that are computed; comparisons, a
ledger, bounds, relevance models; what has numbers for each channel, or a grid; half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import spread
from onnxdtd.operators.factors import parts
from onnxdtd.operators.moves import side_by_side
from onnxdtd.operators.table import MOVE, NORM, PRODUCT, Cut, Flow, first, of

# How operators hand on axes, of which nothing but the number of entries changes where one axis has a single entry.
ALIKE = (spread.matmul, spread.gemm, spread.transposed, spread.reshaped, spread.squeezed, spread.unsqueezed)
WIDE = (np.float32, np.float64, np.bool_)
Place: TypeAlias = tuple[int, int]  # an axis and the entry along it, from the end if that is negative
Places: TypeAlias = Mapping[str, Place]  # by the name of a tensor, where alone relevance lies


def picked(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with those at one position in place of those at all."""
    pieces = {i: piece for i, step in enumerate(steps) if (piece := _piece(step)) is not None}
    worth = _behind_layers(steps, _inside(steps, pieces, situation).keys() - pieces.keys())
    pieces = {i: piece for i, piece in pieces.items() if steps[i].nodes[0].inputs[0].name in worth}
    inside = _inside(steps, pieces, situation)
    places = {name: place for own in inside.values() for name, place in own.items()}
    if situation.at_place is None or not inside or not _is_clear(steps, inside, places):
        return list(steps)
    stepped, moves = situation.at_place(places)
    others = {step.outputs[0].name: step for step in stepped}
    there = {name: move.outputs[0] for name, move in moves.items()}
    found, given = list[Step](), set[str]()  # what has a step that takes its entry
    for i, step in enumerate(steps):
        if i not in inside:
            found.append(step)
            continue
        y = step.outputs[0]
        other = _alone(step, pieces[i], there) if i in pieces else others.get(there.get(y.name, y).name)
        if other is None or not _alike(step, other):
            return list(steps)
        for name in [t.name for t in step.inputs if t is not None and t.name in places]:
            if name not in given:
                found.append(moves[name])
            given.add(name)
        given.update(t.name for t in step.outputs)
        found.append(other)
    return found


def _inside(steps: Sequence[Step], pieces: Mapping[int, Cut], situation: Situation) -> dict[int, Places]:
    """Steps that take such pieces, or get relevance of one entry alone and hand on that, with where it is in what they read."""
    held = {*situation.sources, *situation.kept}
    wanted: dict[str, list[Place | None]] = {}  # by the name of a tensor: the place, for each step that reads it
    found: dict[int, Places] = {}
    for i in reversed(range(len(steps))):
        step, y = steps[i], steps[i].outputs[0]
        own: Places | None = None
        asked = wanted.get(y.name, [])
        if i in pieces and not {*asked} - {None}:  # what is picked of what was picked is at its own place
            own = {step.nodes[0].inputs[0].name: (pieces[i].axis, pieces[i].start)}
        elif len(step.outputs) == 1 and len({*asked}) == 1 and asked[0] is not None and y.name not in held:
            own = _followed(step, *asked[0])
        for x in step.inputs:
            if x is not None:
                wanted.setdefault(x.name, []).append(None if own is None else own.get(x.name))
        if own is not None:
            found[i] = own
    return found


def _behind_layers(steps: Sequence[Step], inside: Collection[int]) -> set[str]:
    """The names of what steps inside give, of which some are layers: else nothing is gained."""
    found: set[str] = set()
    for i in sorted(inside):
        if steps[i].layer is not None or any(t is not None and t.name in found for t in steps[i].inputs):
            found.update(t.name for t in steps[i].outputs)
    return found


def _is_clear(steps: Sequence[Step], inside: Mapping[int, Places], places: Places) -> bool:
    """Is each tensor read in one way, and one that may be cut? Of an axis of unknown size, which may have one entry, the ends
    are there.
    """
    for i, own in inside.items():
        for t in (t for node in steps[i].nodes for t in node.inputs if t.name in places):
            axis, entry = places[t.name]
            there = entry in (0, -1) or (dims(t) or [None])[axis] is not None
            if own.get(t.name) != places[t.name] or t.dtype not in WIDE or not there:
                return False
    return True


def _piece(step: Step) -> Cut | None:
    """What it takes, if that is one entry of an axis that has others."""
    node = step.nodes[0]
    take = of(node).piece if step.kind == MOVE and len(step.nodes) == 1 else None
    piece = None if take is None else take(node)
    is_one = piece is not None and piece.end - piece.start == 1 and (dims(node.inputs[0]) or [])[piece.axis] != 1
    return piece if is_one else None


def _alone(step: Step, piece: Cut, there: Mapping[str, Tensor]) -> Step:
    """The step that takes a piece of what has nothing else."""
    node = step.nodes[0]
    row = there[node.inputs[0].name]
    flow: Flow = lambda e, node, relevance: iter([(0, side_by_side(e, piece, first(relevance)))])
    return replace(step, nodes=(replace(node, inputs=[row, *node.inputs[1:]]),), inputs=(row, *step.inputs[1:]), flow=flow)


def _followed(step: Step, axis: int, entry: int) -> Places | None:
    """Where in each input, and in what lies within, an entry along ``axis`` of the output comes from, which comes of no other;
    None where there is no such place, or where bounds are read.
    """
    made = [t for node in step.nodes for t in node.outputs]
    read = [t for node in step.nodes for t in _values(node)]
    bounds = step.rule is not None and step.rule.needs_bounds
    if bounds or not all(map(_knows, step.nodes)) or any(dims(t) is None for t in read):
        return None
    axes = spread.followed(step.nodes, [t for t in read if all(t is not own for own in made)])
    of_y = axes.of(step.outputs[0])
    own = [] if of_y is None else parts(of_y[axis])
    if len(own) != 1 or own[0].mixed or own[0].lost:
        return None
    found = [(t.name, i, parts(other)) for t in read for i, other in enumerate(axes.of(t) or ()) if own[0] in parts(other)]
    return {name: (i, entry) for name, i, _ in found} if found and all(factors == own for *_, factors in found) else None


def _knows(node: Node) -> bool:
    """Does it treat entries along an axis by themselves, if it does not mix them?"""
    entry = of(node)
    entrywise = spread.is_elementwise(entry) and not entry.scaled
    return entrywise or entry.axes in ALIKE or (entry.kind == NORM and entry.channels is None)


def _values(node: Node) -> list[Tensor]:
    """The inputs of a node that have axes which its output has."""
    several = spread.is_elementwise(of(node)) or of(node).kind == PRODUCT
    return [t for t in (node.inputs if several else node.inputs[:1]) if not t.left_out]


def _alike(*both: Step) -> bool:
    """Are they one step but for the tensors?"""
    one, other = ((step.name, step.op, step.kind, step.rule, len(step.inputs)) for step in both)
    return one == other


def at_place(
    e: Emit,
    stepped: Callable[[Callable[[Tensor], Tensor]], Sequence[Step]],
    whole: dict[str, Tensor],
    places: Places,
) -> tuple[Sequence[Step], dict[str, Step]]:
    """The steps over what tensors have at ``places``, and by the name of each tensor the step that takes that.

    What is ``whole`` is noted by the name of what is taken of it.
    """
    moves: dict[str, Step] = {}

    def there(tensor: Tensor) -> Tensor:
        if tensor.name not in places:
            return tensor
        axis, entry = places[tensor.name]
        shape = [1 if i == axis else size for i, size in enumerate(tensor.shape or ())]
        row = e("Gather", tensor, [entry], axis=axis, shape=shape)
        node, row.readers, whole[row.name] = e.givers[row.name], tensor.readers, tensor
        moves[tensor.name] = Step(MOVE, (node,), (row,), (tensor,), flow=of(node).flow)
        return row

    return stepped(there), moves
