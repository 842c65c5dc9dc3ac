"""A layer some of whose outputs no relevance can come to is walked as if it had the others alone.

Queries, keys and values are often one product, x W with W [in, 3 · width], cut in three behind it. Where attention weights are
constant only values have relevance: two thirds of what is multiplied on the way back would be zeros. Under every rule an output
without relevance hands on none, so that its column of W may be left out.

It declines where a piece is not cut along the outputs of the layer, where it is not known how these lie, and where relevance
starts in between.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import spread
from onnxdtd.operators.layer import constant_value
from onnxdtd.operators.moves import pieces_of
from onnxdtd.operators.table import MOVE, Cut, of

Readers = Mapping[str, Sequence[Step]]
Strides = list[int | None]  # how far apart in the layer's outputs neighbours along each axis are; None where it has others


def trimmed(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with what is ``live`` of such layers."""
    readers: dict[str, list[Step]] = {}
    for step in steps:
        for t in step.inputs:
            if t is not None:
                readers.setdefault(t.name, []).append(step)
    return [replace(step, live=_live(step.outputs[0], readers, situation)) if _is_matrix(step) else step for step in steps]


def _is_matrix(step: Step) -> bool:
    """Is it x W, with or without a bias, and nothing else?"""
    node, layer = step.nodes[0], step.layer
    if layer is None or step.flow is not None or layer.family != "dense" or len(layer.slots) > 1 or len(node.inputs) < 2:
        return False
    (slot,), (x, w) = layer.slots, node.inputs[:2]
    return slot.x is x and slot.w is w and len(dims(w) or []) == 2


def _live(y: Tensor, readers: Readers, situation: Situation) -> Cut | None:
    """Between which outputs of a layer those lie that relevance can come to; None where it may come to all."""
    size = (dims(y) or [None])[-1]
    strides: Strides | None = [*[None] * (len(dims(y) or [None]) - 1), 1]
    while size is not None and strides is not None and y.name not in situation.sources:
        steps = readers.get(y.name, ())
        cuts = [_cuts(step, {*readers, *situation.sources}) for step in steps]
        if cuts and all(cuts):
            return _columns([cut for own in cuts for cut in own], dims(y) or [], strides, size)
        if len(steps) != 1 or len(steps[0].outputs) != 1:
            return None
        strides = _handed_on(steps[0], strides, size)
        (y,) = steps[0].outputs
    return None


def _cuts(step: Step, live: Collection[str]) -> list[Cut]:
    """What a step takes out of its input, and may have relevance of."""
    return [cut for node in step.nodes for cut in pieces_of(node, live)] if step.kind == MOVE else []


def _columns(cuts: Sequence[Cut], sizes: Sequence[int | None], strides: Strides, size: int) -> Cut | None:
    """Pieces along the first of the axes that the outputs of a layer lie along, as outputs."""
    steps = {strides[cut.axis] for cut in cuts}
    step = steps.pop()
    if steps or step is None or sizes[cuts[0].axis] != size // step:
        return None
    start, end = min(cut.start for cut in cuts) * step, max(cut.end for cut in cuts) * step
    return Cut(-1, start, end) if end - start < size else None


def _handed_on(step: Step, strides: Strides, size: int) -> Strides | None:
    """How the outputs of a layer lie behind a step that hands on relevance; None where that is not known."""
    node, (y,) = step.nodes[0], step.outputs
    if step.layer is not None:
        return strides if step.layer.one_to_one else None
    if step.kind != MOVE or len(step.nodes) > 1 or len(strides) != len(dims(node.inputs[0]) or []):
        return None
    found = turned(node, strides)
    if found is None and of(node).axes in (spread.reshaped, spread.flattened):
        return _last(y, size) if _last(node.inputs[0], size) == strides else None
    return found


def turned(node: Node, strides: Strides) -> Strides | None:
    """Behind a permutation of the axes, or with axes of one entry more or less."""
    kind, given = of(node).axes, constant_value(node.inputs[1]) if len(node.inputs) > 1 else None
    if kind is spread.transposed:
        return [strides[i] for i in node.attrs.get("perm") or reversed(range(len(strides)))]
    if given is None or kind not in (spread.squeezed, spread.unsqueezed):
        return None
    rank = len(strides) + given.size * (kind is spread.unsqueezed)
    axes = {i % rank for i in given.ravel().tolist()}
    if kind is spread.squeezed:
        return [stride for i, stride in enumerate(strides) if i not in axes]
    left = iter(strides)
    return [None if i in axes else next(left) for i in range(rank)]


def _last(tensor: Tensor, size: int) -> Strides | None:
    """The outputs of a layer along the last axes, in order."""
    sizes, found, stride = dims(tensor) or [], Strides(), 1
    for axis in reversed(sizes):
        found.append(None if stride == size or axis == 1 else stride)
        if found[-1] is not None:
            stride *= axis or size + 1
    return found[::-1] if stride == size else None
