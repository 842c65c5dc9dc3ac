"""Linear maps with a fixed matrix of their own: Fourier transforms, of an axis or of frames of a signal, and folded windows.

A Fourier transform has the matrix W[t, k] = (cos, −sin)(2π t k / n), written out as weights: rules tell its signs apart.
"""

from __future__ import annotations

from string import ascii_letters

import numpy as np

from onnxdtd.graph.emit import Emit, dims, wide
from onnxdtd.graph.tensors import Node, Tensor, Value, as_tensor
from onnxdtd.operators import places, spread
from onnxdtd.operators.contracted import einsum
from onnxdtd.operators.layer import (
    Active,
    Layer,
    NotLinear,
    Slot,
    constant_value,
    each_entry,
    only_first,
    optional,
    shape_of,
    size,
)
from onnxdtd.operators.table import LINEAR, Operator, enter, if_inputs_are
from onnxdtd.operators.windows import Window, adjoint_conv


def number(node: Node, index: int, what: str) -> int:
    """A constant number among the inputs of a node. Raises ``NotLinear`` where it is computed at run time."""
    value = None if optional(node, index) is None else constant_value(node.inputs[index])
    if value is None or value.size != 1:
        raise NotLinear(f"{what} is not known at compile time")
    return int(value.reshape(()))


def waves(times: int, length: int, bins: int, dtype: np.dtype) -> np.ndarray:
    """(cos, −sin)(2π t k / length), [times, bins, 2]"""
    angle = 2 * np.pi * (np.outer(np.arange(times), np.arange(bins)) % length) / length
    return np.stack([np.cos(angle), -np.sin(angle)], -1).astype(dtype)


def short_time(e: Emit, node: Node, active: Active) -> Layer:
    """A convolution of the signal, [batch, time] or [batch, time, 1], with waves in a window: [batch, frames, bins, 2]."""
    x, window = only_first(node, active), optional(node, 2)
    batch, times, *parts = shape_of(x)
    if parts not in ([], [1]):
        raise NotLinear("its signal is complex")
    sizes = None if window is None else dims(window)
    length = sizes[0] if sizes is not None and sizes[0] is not None else number(node, 3, "the length of its frames")
    step, bins = number(node, 1, "the step between its frames"), length // 2 + 1 if node.attrs.get("onesided", 1) else length
    dtype = wide(x.dtype)
    filters = e.constant(np.ascontiguousarray(waves(length, length, bins, dtype).reshape(length, 1, -1).T))
    w = filters if window is None else e("Mul", filters, window, shape=[2 * bins, 1, length])
    turned = lambda t: e("Reshape", t, [0, 1, -1], shape=[batch, 1, times])
    frames = (dims(node.outputs[0]) or [None] * 2)[1]
    win = Window((length,), (step,), (1,), (0,), (0,))

    def forward(x: Value, w: Value) -> Tensor:
        bands = e("Transpose", e("Conv", turned(as_tensor(x)), w, strides=[step]), perm=[0, 2, 1])
        return e("Reshape", bands, [0, 0, bins, 2])

    def adjoint(s: Tensor, w: Value) -> Tensor:
        bands = e("Transpose", e("Reshape", s, [0, 0, 2 * bins]), perm=[0, 2, 1])
        back = adjoint_conv(e, bands, as_tensor(w), [2 * bins, 1, length], turned(x), win, [frames], 1)
        return e("Reshape", back, e.shape(x))

    return Layer("conv", [Slot(x, w, forward, adjoint)], node.outputs[0])


def _of_waves(node: Node, layer: Layer) -> int:
    """Each output is a sum over a frame."""
    return size(node.outputs[0]) * size(as_tensor(layer.slots[0].w), 2)


enter(
    Operator(
        "STFT",
        kind=LINEAR,
        linear=short_time,
        cost=_of_waves,
        axes=spread.behind_the_first,
        moves=True,
        channels=places.LAST,
        time=lambda node: 1,
    )
)


def fourier(e: Emit, node: Node, active: Active) -> Layer:
    """A product with W[t, part, k, part] along one axis and the last, which has the real and the imaginary part."""
    x, shape = only_first(node, active), shape_of(node.inputs[0])
    axis = _axis(node, len(shape))
    times, parts, inverse = shape[axis], shape[-1], bool(node.attrs.get("inverse"))
    if times is None or parts is None:
        raise NotLinear("the length of its signal is not known at compile time")
    if inverse and node.attrs.get("onesided"):
        raise NotLinear("it goes back from one side of the frequencies")
    length = times if optional(node, 1) is None else number(node, 1, "its length")
    bins = length // 2 + 1 if node.attrs.get("onesided") else length
    w = waves(times, length, bins, np.dtype(np.float64)) * [1, -1 if inverse else 1] / (length if inverse else 1)
    w[length:] = 0
    whole = np.stack([w, np.stack([-w[..., 1], w[..., 0]], -1)][:parts], 1)  # i (a + b i) = −b + a i
    own = ascii_letters[: len(shape)]
    t, part, k, other = own[axis], own[-1], *"YZ"
    result = own[:axis] + k + own[axis + 1 : -1] + other
    factor = e.constant(np.ascontiguousarray(whole).astype(wide(x.dtype)))
    product = Node("Einsum", node.name, [x, factor], node.outputs, {"equation": f"{own},{t}{part}{k}{other}->{result}"})
    return einsum(e, product, active)


def _axis(node: Node, rank: int) -> int:
    """Along which it goes; where it is not said the one of a batch of signals, which other operator sets count otherwise."""
    if optional(node, 2) is None and "axis" not in node.attrs and rank != 3:
        raise NotLinear("its axis is not given")
    return (number(node, 2, "its axis") if optional(node, 2) is not None else int(node.attrs.get("axis", 1))) % rank


def _of_points(node: Node, layer: Layer) -> int:
    """Each output is a sum over all of the axis."""
    shape = shape_of(node.inputs[0])
    return size(node.outputs[0]) * (shape[_axis(node, len(shape))] or 1)


def _time(node: Node) -> int | None:
    """Of a batch of signals [n, time, parts]; of pictures it is one of two axes."""
    shape = dims(node.inputs[0])
    try:
        return _axis(node, 3) if shape is not None and len(shape) == 3 else None
    except NotLinear:
        return None


enter(
    Operator(
        "DFT",
        kind=LINEAR,
        linear=fourier,
        cost=_of_points,
        axes=spread.transformed,
        moves=True,
        channels=places.LAST,
        time=_time,
    )
)


def folded(e: Emit, node: Node, active: Active) -> Layer:
    """Each entry of a window, [batch, channels · window, windows], is added where it lies; the adjoint cuts out all windows."""
    x, y = only_first(node, active), node.outputs[0]
    image, block = (None if t is None else constant_value(t) for t in (optional(node, 1), optional(node, 2)))
    if image is None or block is None:
        raise NotLinear("the sizes of its image and its windows are not known at compile time")
    rank = len(image)
    pads = node.attrs.get("pads") or [0] * 2 * rank
    steps, widths = (node.attrs.get(name) or [1] * rank for name in ("strides", "dilations"))
    whole = [int(n) + pads[i] + pads[i + rank] for i, n in enumerate(image)]
    index = np.zeros((1, 1), np.int64)  # [window, windows], into the padded image
    for n, k, step, width in zip(whole, (int(k) for k in block), steps, widths, strict=True):
        along = np.arange(k)[:, None] * width + np.arange(0, n - width * (k - 1), step)
        index = (index[:, None, :, None] * n + along[None, :, None, :]).reshape(len(index) * k, -1)
    forward = lambda x, w: e.mul(e("Col2Im", x, *node.inputs[1:], **node.attrs), w)

    def adjoint(s: Tensor, w: Value) -> Tensor:
        around = e.framed(s, [0, 0, *pads[:rank], 0, 0, *pads[rank:]]) if any(pads) else s
        windows = e("Gather", e("Reshape", around, [0, 0, -1]), e.constant(index.reshape(-1)), axis=2)
        return e.mul(e("Reshape", windows, e.shape(x)), w)

    return Layer("average", [Slot(x, 1.0, forward, adjoint)], y)


enter(
    Operator(
        "Col2Im",
        kind=LINEAR,
        linear=folded,
        cost=each_entry,
        sign=if_inputs_are,
        axes=spread.behind_the_first,
        moves=True,
    )
)
