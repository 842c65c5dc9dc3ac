"""Which axis of an input is which on the way to its first layer, and so along which of them its channels lie."""

from __future__ import annotations

from collections.abc import Iterator

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
    entry: a Conv of 1 x 64 slides over time and not over the electrodes. None where no kernel tells.
    """
    for place, node, axes in _layers(x):
        weights = [t.shape for t in node.inputs[1:] if t.shape is not None and len(t.shape) == len(axes)]
        kernel = node.attrs.get("kernel_shape") or (weights[0][2:] if weights and place == FIRST else [])
        if kernel:
            reached = zip(axes[len(axes) - len(kernel) :], kernel, strict=True)
            return [axis for axis, size in reached if axis is not None and size != 1]
    return []


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
    """Axes of size 1 come and go, the others stay in order."""
    y = node.outputs[0].shape
    if y is None or x.shape is None:
        return None
    if list(x.shape) == list(y):
        return axes
    kept = [(size, axis) for size, axis in zip(x.shape, axes, strict=True) if size != 1]
    left = [size for size in y if size != 1]
    if len(kept) != len(left) or any(
        a != b for (a, _), b in zip(kept, left, strict=True) if isinstance(a, int) and isinstance(b, int)
    ):
        return None
    rest = iter(kept)
    return [None if size == 1 else next(rest)[1] for size in y]
