"""Which axis of an input is which on the way to its first layer, and so along which of them its channels lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from onnxdtd.graph.emit import dims
from onnxdtd.graph.spelled import layout
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.table import Operator, named, of

FIRST, LAST = 1, -1  # where layers have channels: Conv and its kin slide over the axes behind, dense ones mix the last


def channel_axis(x: Tensor) -> int | None:
    """The axis of the graph's input ``x`` along which its first layer has channels: a Conv slides over the others, a dense
    layer mixes the last axis of a sequence. None where the graph does not tell.
    """
    place, _, axes = next(_layers(x), (None, None, []))
    dense = place == LAST and len(x.shape or ()) > 3  # a picture's rows are no channels
    return None if place is None or dense or len(axes) < 2 else axes[place]


def slid_axes(x: Tensor) -> list[int]:
    """The axes of the graph's input ``x`` along which the kernel of its first layer that has one reaches over more than one
    entry: a Conv of 1 x 64 slides over time and not over the electrodes, nor does one of 22 x 1 that takes in all 22 of them
    at once, and a spectrogram has its frames along one. None where nothing tells. Where ``x`` is rows that are ``folded``, the
    axes of what they are folded to.
    """
    seen = _unfolded(x)
    for place, node, axes in _layers(seen):
        time = of(node).time
        if time is not None and (along := time(node)) is not None:
            return [axis] if (axis := axes[along]) is not None else []
        weights = [t.shape for t in node.inputs[1:] if t.shape is not None and len(t.shape) == len(axes)]
        kernel: list[Any] = node.attrs.get("kernel_shape") or list(weights[0][2:] if weights and place == FIRST else [])
        if kernel:
            return _reached(node, axes[len(axes) - len(kernel) :], kernel)
    channel = None if seen is x else channel_axis(seen)
    return [] if channel is None else [axis for axis in range(1, len(seen.shape or ())) if axis != channel]


def folded(x: Tensor) -> list[int | None]:
    """The shape [n, ...] that rows [n, entries] are laid out as before the first layer, as signals or pictures; empty where
    they are not, or where that is not known.
    """
    return [] if (seen := _unfolded(x)) is x else dims(seen) or []


def _reached(node: Node, axes: Sequence[int | None], kernel: Sequence[int]) -> list[int]:
    """Those of ``axes``, one for each size of the ``kernel``, that it slides over."""
    after, before = ((t.shape or [None] * len(kernel))[-len(kernel) :] for t in (node.outputs[0], node.inputs[0]))
    told = zip(axes, kernel, before, after, strict=True)
    known = [(axis, size, there, left) for axis, size, there, left in told if axis is not None]
    wide = [axis for axis, size, _, _ in known if size != 1]
    partly = [axis for axis, size, there, left in known if size != 1 and (size != there or left != 1)]
    beside = [axis for axis, size, there, _ in known if size == 1 != there] if wide else []
    return partly or beside or wide


def _unfolded(x: Tensor) -> Tensor:
    """The same as a tensor, or ``x`` itself."""
    entries = x.shape[1] if x.shape is not None and len(x.shape) == 2 else None
    ways = [] if entries is None else [x]
    for tensor in ways:
        for node in tensor.readers:
            entry, y = _seen_as(node), node.outputs[0]
            if entry.channels is not None:
                return x
            sizes = y.shape[1:] if entry.places is reshaped and node.inputs[0] is tensor and y.shape is not None else []
            if sum(size != 1 for size in sizes) > 1 and math.prod(s if isinstance(s, int) else 0 for s in sizes) == entries:
                return y if next(_layers(y), None) is not None else x
            if entry.places is still and y.shape is not None and len(y.shape) == 2 and y not in ways:
                ways.append(y)
    return x


def _layers(x: Tensor) -> Iterator[tuple[int, Node, list[int | None]]]:
    """The nodes that tell axes apart which the graph's input ``x`` reaches before anything else does, each with its axis of
    channels and the axis of ``x`` that each axis of what goes into it is.
    """
    ways = [] if x.shape is None else [(x, list[int | None](range(len(x.shape))))]
    seen = {x.name}
    for tensor, axes in ways:
        for node in tensor.readers:
            entry = _seen_as(node)
            if entry.channels is not None and node.inputs[0] is tensor:
                yield entry.channels, node, axes
            moved = None if entry.places is None else entry.places(node, tensor, axes)
            if moved is not None and node.outputs[0].name not in seen:
                seen.add(node.outputs[0].name)
                ways.append((node.outputs[0], moved))


def _seen_as(node: Node) -> Operator:
    """What is known of an operator, or of the one that it is quantised."""
    quantised = layout(node, node.op)
    return of(node) if quantised is None else named(quantised.op)


# ------------------------------------------------------------------------------------------ what operators do with the axes


def still(node: Node, x: Tensor, axes: list[int | None]) -> list[int | None] | None:
    """Each axis stays where it is, counted from the last."""
    y = node.outputs[0].shape
    return None if y is None or x.shape is None or len(y) < len(axes) else [*[None] * (len(y) - len(axes)), *axes]


def permuted(node: Node, x: Tensor, axes: list[int | None]) -> list[int | None]:
    """In another order"""
    return [axes[i] for i in node.attrs.get("perm", range(len(axes))[::-1])]


def gathered(node: Node, x: Tensor, axes: list[int | None]) -> list[int | None] | None:
    """Picked by a number, an axis is gone."""
    y = node.outputs[0].shape
    if y is None or x.shape is None or node.inputs[0] is not x:
        return None
    at = node.attrs.get("axis", 0) % len(axes)
    return axes if len(y) == len(axes) else axes[:at] + axes[at + 1 :] if len(y) == len(axes) - 1 else None


def reshaped(node: Node, x: Tensor, axes: list[int | None]) -> list[int | None] | None:
    """Axes of size 1 come and go, the others stay in order; those that are split or joined, between others that stay, are none
    of the input's any more.
    """
    y = node.outputs[0].shape
    if y is None or x.shape is None:
        return None
    if list(x.shape) == list(y):
        return axes
    kept, left = (
        [(size, axis) for size, axis in zip(x.shape, axes, strict=True) if size != 1],
        [size for size in y if size != 1],
    )
    same = [a == b or not (isinstance(a, int) and isinstance(b, int)) for (a, _), b in zip(kept, left, strict=False)]
    if len(kept) == len(left) and all(same):
        found: list[int | None] = [axis for _, axis in kept]
    else:
        found = _between(kept, left)
    rest = iter(found)
    return [None if size == 1 else next(rest) for size in y] if any(axis is not None for axis in found) else None


def _between(kept: Sequence[tuple[Any, int | None]], left: Sequence[Any]) -> list[int | None]:
    """The axes of what is ``left`` of those ``kept``: the first and the last, as long as they have the same sizes."""
    most = min(len(kept), len(left))
    front = _alike(kept[:most], left)
    back = _alike(kept[front:][::-1], left[front:][::-1])
    gone = len(left) == front + back or len(kept) == front + back  # into an axis beside, which is one of unknown size
    first = [None if gone and not isinstance(size, int) else axis for size, axis in kept[:front]]
    return [*first, *[None] * (len(left) - front - back), *(axis for _, axis in kept[len(kept) - back :])]


def _alike(kept: Sequence[tuple[Any, int | None]], left: Sequence[Any]) -> int:
    """How many sizes from the first on are the same; of those that are not known none is a number."""
    same = [a == b or not (isinstance(a, int) or isinstance(b, int)) for (a, _), b in zip(kept, left, strict=False)]
    return same.index(False) if False in same else len(same)
