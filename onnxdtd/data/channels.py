"""A number a channel: which axis of an input its channels lie on, and numbers laid out along it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from onnxdtd.errors import RequestError

Sizes = Sequence[int | str | None]  # what is no number is known at run time only

FIRST = 1  # Conv and its kin slide over the axes behind that of the channels
LAYERS = dict.fromkeys(
    ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "BatchNormalization", "InstanceNormalization", "GroupNormalization")
    + ("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "QLinearAveragePool", "LRN"),
    FIRST,
)
LAYERS |= dict.fromkeys(("MatMul", "Gemm", "QLinearMatMul", "QGemm", "MatMulInteger", "LSTM", "GRU", "RNN"), -1)
NORMS = ("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN")
STILL: tuple[str, ...] = (
    *NORMS,
    "Identity",
    "Cast",
    "Dropout",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Sum",
    "Neg",
    "Relu",
    "Clip",
    "Pad",
    "Slice",
    "Concat",
    "Split",
)
STILL += ("Resize", "QuantizeLinear", "DequantizeLinear")  # each axis stays where it is


def channel_axis(x: Any) -> int | None:
    """The axis of the graph's input ``x`` (a ``Tensor``) along which its first layer has channels: a Conv slides over the
    others, a dense layer mixes the last axis of a sequence. None where the graph does not tell.
    """
    node, axes = next(_layers(x), (None, []))
    if node is None:
        return None
    place = LAYERS[node.op]
    dense = place != FIRST and len(x.shape) > 3  # a picture's rows are no channels
    return None if dense or len(axes) < 2 else axes[place]


def slid_axes(x: Any) -> list[int]:
    """The axes of the graph's input ``x`` (a ``Tensor``) along which the kernel of its first layer that has one reaches over
    more than one entry: a Conv of 1 x 64 slides over time and not over the electrodes. None where no kernel tells.
    """
    for node, axes in _layers(x):
        weights = [t.shape for t in node.inputs[1:] if t.shape is not None and len(t.shape) == len(axes)]
        kernel = node.attrs.get("kernel_shape") or (weights[0][2:] if weights and LAYERS[node.op] == FIRST else [])
        if kernel:
            reached = zip(axes[len(axes) - len(kernel) :], kernel, strict=True)
            return [axis for axis, size in reached if axis is not None and size != 1]
    return []


def _layers(x: Any) -> Iterator[tuple[Any, list[int | None]]]:
    """The nodes that tell axes apart which the graph's input ``x`` reaches before anything else does, each with the axis of
    ``x`` that each axis of what goes into it is.
    """
    ways = [] if x.shape is None else [(x, list[int | None](range(len(x.shape))))]
    seen = {x.name}
    for tensor, axes in ways:
        for node in tensor.readers:
            told = node.op in LAYERS and node.inputs[0] is tensor
            if told:
                yield node, axes
            result = node.outputs[0] if node.outputs else None
            moved = _moved(node, tensor, axes) if not told or node.op in NORMS else None
            if result is not None and moved is not None and result.name not in seen:
                seen.add(result.name)
                ways.append((result, moved))


def _moved(node: Any, x: Any, axes: list[int | None]) -> list[int | None] | None:
    """Which axis of the input each axis of a node's output is, where those of its input ``x`` are ``axes``."""
    y = node.outputs[0].shape if node.outputs else None
    if node.op == "Transpose":
        return [axes[i] for i in node.attrs.get("perm", range(len(axes))[::-1])]
    if y is None or x.shape is None:
        return None
    if node.op in STILL:
        return [*[None] * (len(y) - len(axes)), *axes] if len(y) >= len(axes) else None
    if node.op == "Gather" and node.inputs[0] is x:
        at = node.attrs.get("axis", 0) % len(axes)
        return axes if len(y) == len(axes) else axes[:at] + axes[at + 1 :] if len(y) == len(axes) - 1 else None
    if node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):  # axes of size 1 come and go, the others stay in order
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
    return None


def spread(numbers: Any, sizes: Sizes, channel: int | None, what: str, samples: int | None = None) -> np.ndarray:
    """Numbers, float64, shaped to broadcast over a tensor of ``sizes``: one for all, one a channel (a list), or an array.

    A list belongs to the axis ``channel``; where there is none, or only one channel, to the only axis of so many entries, that
    of the ``samples`` apart. Raises ``RequestError``, in which ``what`` names the numbers and the tensor.
    """
    array = np.asarray(numbers, np.float64)
    if array.ndim == 1 and array.size > 1:
        axis = listed_axis(array.size, sizes, channel, what, samples)
        return array.reshape([-1 if i == axis else 1 for i in range(len(sizes))])
    if array.size == 1:
        return array.reshape(())
    tail = sizes[len(sizes) - array.ndim :] if array.ndim <= len(sizes) else None
    if tail is None or not all(have in (1, want) for have, want in zip(array.shape, tail, strict=True)):
        raise RequestError(f"{what}: the numbers have the shape {list(array.shape)}")
    return array


def listed_axis(count: int, sizes: Sizes, channel: int | None, what: str, samples: int | None = None) -> int:
    """The axis that a list of ``count`` numbers belongs to; see ``spread``."""
    if channel is not None and (sizes[channel] == count or not isinstance(sizes[channel], int)):
        return channel
    if channel is not None and sizes[channel] != 1:
        raise RequestError(f"{what}: there are {count} values, one a channel, but {sizes[channel]} channels")
    same = [axis for axis, size in enumerate(sizes) if size == count and axis != samples]
    if len(same) == 1:
        return same[0]
    if not same:
        raise RequestError(f"{what}: there are {count} values, one a channel, and no axis of that size")
    raise RequestError(
        f"{what}: there are {count} values, and {len(same)} axes of that size; which has the channels does not show in the "
        "graph: give one number, or from Python an array that broadcasts against the input"
    )


def ends(bounds: Mapping[str, Any] | None, name: str) -> tuple[Any, Any]:
    """Low and high of the input ``name`` in the entry ``bounds`` of a compiled file's metadata, None where there are none."""
    if not bounds:
        return None, None
    mine = bounds.get(name, {}) if isinstance(bounds.get("low", {}), Mapping) else bounds
    return mine.get("low"), mine.get("high")
