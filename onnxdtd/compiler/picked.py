"""Where a classifier picks the first of many positions, what treats each by itself is walked at that one alone.

A class token stands first, and the head reads no other. So relevance of what the last block gives lies at one position of
hundreds: all that works on each by itself, its dense layers, norms and functions, and its queries, gets nothing elsewhere. Each
tensor there is read, and its relevance is handed on, at the first entry of the axis alone, and what a step above mixes gets it
back with zeros behind. Of the dense layers of a last block hardly anything is left to be multiplied.

It declines where somebody else reads the positions, or wants their relevance; rules that divide, comparisons, a ledger; what
has numbers for each channel, or a grid; half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Tensor
from onnxdtd.operators import spread
from onnxdtd.operators.factors import parts
from onnxdtd.operators.table import MOVE, NORM, PRODUCT, of

# How operators hand on axes, of which nothing but the number of entries changes where one axis has a single entry.
ALIKE = (spread.matmul, spread.gemm, spread.transposed, spread.reshaped, spread.squeezed, spread.unsqueezed)
WIDE = (np.float32, np.float64, np.bool_)
Axes = dict[str, int]  # by the name of a tensor, along which relevance lies at the first entry alone


def picked(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with those at one position in place of those at all."""
    axes, inside = _region(steps, situation)
    if situation.at_first is None or not any(steps[i].layer is not None for i in inside):
        return list(steps)
    others, moves = situation.at_first(axes)
    found, given = list[Step](), set[str]()  # what has a step that gives its first entry
    for i, step in enumerate(steps):
        if i not in inside:
            found.append(step)
            continue
        if not _alike(step, others[i]):
            return list(steps)
        for name in [t.name for t in step.inputs if t is not None and t.name in axes]:
            if name not in given:
                found.append(moves[name])
            given.add(name)
        given.update(t.name for t in step.outputs)
        found.append(others[i])
    return found


def _region(steps: Sequence[Step], situation: Situation) -> tuple[Axes, set[int]]:
    """Which steps pick a first entry, or get relevance of one alone and hand on that, and along which axis they read what."""
    held = {*situation.sources, *situation.kept}
    wanted: dict[str, list[int | None]] = {}  # by the name of a tensor: the axis, for each step that reads it
    found: dict[int, Axes] = {}  # by step
    for i in reversed(range(len(steps))):
        step, y = steps[i], steps[i].outputs[0]
        own, asked = _picks(step), wanted.get(y.name, [])
        if {*asked} - {None}:  # what is picked of what was picked is at its own place
            own = None
        if own is None and len(step.outputs) == 1 and len({*asked}) == 1 and asked[0] is not None and y.name not in held:
            own = _followed(step, asked[0])
        for x in step.inputs:
            if x is not None:
                wanted.setdefault(x.name, []).append(None if own is None else own.get(x.name))
        if own is not None:
            found[i] = own
    made = {t.name for i in found for t in steps[i].outputs}
    found = {i: own for i, own in found.items() if _picks(steps[i]) is None or made.issuperset(own)}
    axes = {name: axis for own in found.values() for name, axis in own.items()}
    read = [(t, own.get(t.name)) for i, own in found.items() for t in steps[i].nodes[0].inputs if t.name in axes]
    clear = all(t.dtype in WIDE and axis == axes[t.name] for t, axis in read)  # and nobody reads one in two ways
    return (axes, set(found)) if clear else ({}, set())


def _picks(step: Step) -> Axes | None:
    """The axis of what it takes the first entry of."""
    node = step.nodes[0]
    take = of(node).piece if step.kind == MOVE and len(step.nodes) == 1 else None
    piece = None if take is None else take(node)
    x = node.inputs[0]
    is_first = piece is not None and (piece.start, piece.end) == (0, 1) and (dims(x) or [])[piece.axis] != 1
    return {x.name: piece.axis} if piece is not None and is_first else None


def _followed(step: Step, axis: int) -> Axes | None:
    """The axis of each input that ``axis`` of the output is, entry by entry; None where it is mixed or told apart."""
    node, entry = step.nodes[0], of(step.nodes[0])
    knows = (spread.is_elementwise(entry) and not entry.scaled) or entry.axes in ALIKE
    if len(step.nodes) > 1 or not (knows or (entry.kind == NORM and entry.channels is None)):
        return None
    several = spread.is_elementwise(entry) or entry.kind == PRODUCT
    inputs = [t for t in (node.inputs if several else node.inputs[:1]) if not t.left_out]
    axes = spread.followed([node], inputs)
    of_y = axes.of(step.outputs[0])
    own = [] if of_y is None else parts(of_y[axis])
    if len(own) != 1 or own[0].mixed or own[0].lost:
        return None
    found = [(t.name, i, parts(other)) for t in inputs for i, other in enumerate(axes.of(t) or ()) if own[0] in parts(other)]
    return {name: i for name, i, _ in found} if found and all(factors == own for *_, factors in found) else None


def _alike(*both: Step) -> bool:
    """Are they one step but for the tensors?"""
    one, other = ((step.name, step.op, step.kind, step.rule, len(step.inputs)) for step in both)
    return one == other


def at_first(
    e: Emit, stepped: Callable[[Callable[[Tensor], Tensor]], Sequence[Step]], axes: Mapping[str, int]
) -> tuple[Sequence[Step], dict[str, Step]]:
    """The steps over the first entries of tensors along ``axes``, and by the name of each tensor the step that takes them."""
    moves: dict[str, Step] = {}

    def there(tensor: Tensor) -> Tensor:
        axis = axes.get(tensor.name)
        if axis is None:
            return tensor
        shape = [1 if i == axis else size for i, size in enumerate(tensor.shape or ())]
        row = e("Slice", tensor, [0], [1], [axis], shape=shape)
        node, row.readers = e.givers[row.name], tensor.readers
        moves[tensor.name] = Step(MOVE, (node,), (row,), (tensor,), flow=of(node).flow)
        return row

    return stepped(there), moves
