"""Maps: inner tensors with channels and positions. Which axis has what, and the last map before the scores, where Grad-CAM is.

Behind the last layer that gives one, the map goes on as long as nothing but functions entry by entry, sums, norms and joins of
channels follows: it ends where positions are pooled, flattened or picked. All that the input does to the score must pass it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxdtd.compiler.ends import End
from onnxdtd.compiler.masks import axes
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.samples import Samples
from onnxdtd.compiler.steps import Step
from onnxdtd.errors import RequestError
from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import places, spread
from onnxdtd.operators.layer import count
from onnxdtd.operators.table import MOVE, NORM, of

CARRIED_ON = (spread.broadcast, spread.as_the_first, spread.by_channel, spread.concatenated, spread.transposed)


@dataclass(frozen=True)
class Laid(End):
    """A map whose relevance is that of another end: summed over its channels it is laid over the positions that it comes from,
    with linear interpolation between them, and in equal parts over all else that lies there. ``positions``: the axes of the
    other end by those of the map.
    """

    over: End = field(kw_only=True)
    samples: Samples = field(kw_only=True)
    positions: Mapping[int, int] = field(kw_only=True)

    def home(self, e: Emit, relevance: Tensor) -> Tensor:
        """Its relevance, as that of what is explained."""
        x, own, there = self.over.tensor, self.samples.of(self.tensor), self.samples.of(self.over.tensor)
        goal = {**self.positions, **({own: there} if own is not None and there is not None else {})}
        left, gone = sorted(goal), [i for i in range(len(dims(self.tensor) or ())) if i not in goal]
        summed = e("ReduceSum", relevance, gone, keepdims=0)
        for at, axis in enumerate(left):
            if axis in self.positions:
                last = [*(i for i in range(len(left)) if i != at), at]
                weights = stretched(e, self.tensor, axis, x, goal[axis], relevance.dtype)
                summed = e("MatMul", e("Transpose", summed, perm=last), weights)
                summed = e("Transpose", summed, perm=[int(i) for i in np.argsort(last)])
        summed = e("Transpose", summed, perm=[left.index(i) for i in sorted(left, key=lambda i: goal[i])])
        others = [i for i in range(len(dims(x) or ())) if i not in goal.values()]
        if others:
            summed = e("Div", e("Unsqueeze", summed, others), count(e, x, others, relevance.dtype))
        return self.over.home(e, e("Expand", summed, e.shape(x)))


def stretched(e: Emit, old: Tensor, before: int, new: Tensor, behind: int, dtype: Any) -> Tensor:
    """The weights [before, behind] of linear interpolation from the centres of the entries along an axis of one tensor to those
    of another, and beyond the outermost what they are: 1 − |p − j| where that is positive, p the place of a centre among them.
    """
    sizes = e.shape(old, before, before + 1), e.shape(new, behind, behind + 1)
    numbers = [
        e.cast(e("Range", e.constant(np.asarray(0)), e("Squeeze", size, [0]), e.constant(np.asarray(1))), dtype)
        for size in sizes
    ]
    count_before, count_behind = (e.cast(size, dtype) for size in sizes)
    centres = e("Sub", e("Mul", e("Add", numbers[1], 0.5), e("Div", count_before, count_behind)), 0.5)
    inside = e("Min", e("Max", centres, 0.0), e("Sub", count_before, 1.0))
    return e("Relu", e("Sub", 1.0, e("Abs", e("Sub", inside, e("Unsqueeze", numbers[0], [1])))))


def axes_of(plan: Plan, tensor: Tensor) -> tuple[int, list[int]] | None:
    """The axis of the channels of a tensor, and those of its positions: all but that and that of the samples. None where it
    has none, or nobody knows.
    """
    try:
        samples, channel = axes(plan, tensor)
    except RequestError:
        return None
    positions = [i for i, size in enumerate(dims(tensor) or ()) if i not in (samples, channel) and size != 1]
    return None if channel is None or not positions else (channel, positions)


def asked(plan: Plan, tensor: Tensor) -> tuple[int, list[int]]:
    """The same of a tensor at which Grad-CAM was asked for. Raises ``RequestError`` where it has none."""
    found = axes_of(plan, tensor)
    if found is None:
        raise RequestError(
            f"--from {tensor.name!r}: has no channels with positions besides, as far as the graph tells, and a mean over "
            "positions is what this preset takes; name what a convolution gives"
        )
    return found


def last_map(plan: Plan, preset: str) -> Laid:
    """The end at the last map before the scores, laid over what is explained. Raises ``RequestError`` where there is none."""
    found = last(plan)
    if found is None:
        raise RequestError(
            f"the preset {preset} is at a map of channels and positions in front of the scores, as convolutions give, and here "
            "is none; choose another preset"
        )
    way = f"--from {found.name!r} explains that tensor itself"
    below = [end for end in plan.ends if _depends(plan.steps, end.tensor, found)]
    for end in below:
        if _depends(plan.steps, end.tensor, plan.logits, without=found):
            raise RequestError(f"{end.explained.name!r} reaches the scores also past {found.name!r}, the last map; {way}")
    if len(below) != 1:
        names = ", ".join(repr(end.explained.name) for end in below)
        raise RequestError(
            f"the last map, {found.name!r}, comes from several inputs ({names}): it lies over none of them; {way}"
        )
    (end,) = below
    trail = traced(plan.steps, end.tensor).get(found.name)
    _, positions = asked(plan, found)
    over = {i: axis for i in positions if trail is not None and (axis := trail[i]) is not None}
    if len(over) != len(positions) or len(set(over.values())) != len(over):
        raise RequestError(
            f"where the positions of {found.name!r}, the last map, lie in {end.tensor.name!r} is not known; {way}"
        )
    return Laid(found, end.explained, end.links, end.rows, over=end, samples=plan.samples, positions=over)


def last(plan: Plan) -> Tensor | None:
    """The last map before the scores."""
    found: Tensor | None = None
    positions: Sequence[int] = ()
    for step in plan.steps:
        y, own = step.outputs[0], axes_of(plan, step.outputs[0])
        if y.name == plan.logits.name or own is None:
            continue
        gives = step.layer is not None and step.layer.family in ("conv", "dense", "product")
        reads = found is not None and any(t is not None and t.name == found.name for t in step.inputs)
        if gives or (reads and _keeps(step.nodes[0], positions, own[1])):
            found, positions = y, own[1]
    return found


def _keeps(node: Node, before: Sequence[int], behind: Sequence[int]) -> bool:
    """Does a map go on behind a node?"""
    entry = of(node)
    return entry.axes in CARRIED_ON or entry.kind == NORM or (entry.places is places.reshaped and len(before) == len(behind))


def _depends(steps: Sequence[Step], x: Tensor, y: Tensor, without: Tensor | None = None) -> bool:
    """Is there a way from one tensor to another, one that is not past a third?"""
    names = {x.name}
    for step in steps:
        if any(t is not None and t.name in names for t in step.inputs):
            names |= {t.name for t in step.outputs if without is None or t.name != without.name}
    return y.name in names


def traced(steps: Sequence[Step], x: Tensor) -> dict[str, list[int | None]]:
    """By the names of tensors, which axis of ``x`` their positions along each axis are those of."""
    trail: dict[str, list[int | None]] = {x.name: list(range(len(dims(x) or ())))}
    for step in steps:
        for t in step.nodes[0].inputs:
            moved = _through(step.nodes[0], t, trail[t.name]) if t.name in trail else None
            if moved is not None:
                trail.setdefault(step.outputs[0].name, moved)
    return trail


def _through(node: Node, x: Tensor, axes: list[int | None]) -> list[int | None] | None:
    """Of what a node makes of ``x``: layers keep the order of positions. Those that are joined or cut are others then."""
    entry, shape, joined = of(node), node.outputs[0].shape or [], of(node).axes is spread.concatenated
    if entry.places is not None:
        moved = entry.places(node, x, axes)
        if moved is None or entry.places is not places.still or entry.kind != MOVE or entry.axes is spread.padded:
            return moved
        return [axis if size in (x.shape or ()) and size is not None else None for axis, size in zip(moved, shape, strict=True)]
    if len(shape) != len(axes) or not (joined or entry.channels or entry.axes in CARRIED_ON or entry.kind == NORM):
        return None
    gone = node.attrs["axis"] if joined else entry.channels
    return [None if gone is not None and i == gone % len(axes) else axis for i, axis in enumerate(axes)]
