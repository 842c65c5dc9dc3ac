"""Layers with one channel out: Σ c_k y_k over the channels of what they give, each sample with its own coefficients c.

Each function takes the layer's node, its input and weight as a ``Slot``, the coefficients, of size 1 along all axes but that of
the samples and that of the channels, and these two axes: ``axis`` has the channels, ``samples`` is None where there is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxdtd.graph.emit import Emit, dims, wide
from onnxdtd.graph.tensors import Node, Shape, Tensor, Value, as_tensor
from onnxdtd.operators.equations import spelled
from onnxdtd.operators.layer import Slot, shape_of, weight_shape
from onnxdtd.operators.windows import adjoint_conv, window


def filtered(e: Emit, node: Node, slot: Slot, c: Tensor, axis: int, samples: int | None) -> Slot | None:
    """A convolution: its windows [batch, channels · window, positions...] times a filter a sample."""
    if axis != 1 or samples not in (0, None):
        return None
    shape, group = weight_shape(node.inputs[1]), node.attrs.get("group", 1)
    channels, size, space = shape[1] * group, int(np.prod(shape[2:])), [1] * len(shape[2:])
    filters = lambda c, w: e("Reshape", e("ConvTranspose", c, w, **_grouped(group)), [0, channels * size, *space])
    some, ones = positive(e, e("Abs", c)), e.full(1.0, e.constant(np.asarray(shape)), c.dtype)
    one = positive(e, filters(some, ones))
    win = window(node.attrs, shape[2:], (dims(slot.x) or [None] * len(shape))[2:])
    if size == 1 and all(s == 1 for s in win.strides) and win.begin == win.end == (0,) * len(space):
        windows = back = lambda x: x
    else:
        attrs = {name: value for name, value in node.attrs.items() if name != "group"} | _grouped(channels)
        unit = np.eye(size, dtype=c.dtype).reshape(1, size, 1, *shape[2:])  # each picks one entry of the window
        pick = e("Expand", e.constant(unit), e.constant(np.asarray([channels, *unit.shape[1:]])))
        pick, outside = e("Reshape", pick, [-1, 1, *shape[2:]]), (dims(node.outputs[0]) or [])[2:]
        windows = lambda x: e("Conv", x, pick, **attrs)
        back = lambda s: adjoint_conv(e, s, pick, [channels * size, 1, *shape[2:]], slot.x, win, outside, channels)
    forward = lambda x, w: over(e, as_tensor(e.mul(windows(x), w)), [1])
    return Slot(slot.x, filters(c, in_width(e, slot.w)), forward, lambda s, w: back(e.mul(s, w)), batched=True, one=one)


def mixed(e: Emit, node: Node, slot: Slot, c: Tensor, axis: int, samples: int | None) -> Slot | None:
    """A matrix that mixes the entries along one axis."""
    letters = _letters(node, slot)
    if letters is None or _mixed_axis(*letters) != axis:
        return None
    last = len(shape_of(slot.x)) - 1
    swap = [{axis: last, last: axis}.get(i, i) for i in range(last + 1)]
    turn = (lambda t: t) if axis == last else (lambda t: e("Transpose", t, perm=swap))
    upright = letters[1][0] in letters[2]  # [out, in]
    matrix = (lambda w: w) if upright else (lambda w: e("Transpose", w, perm=[1, 0]))
    some, w = positive(e, e("Abs", c)), in_width(e, slot.w)
    back = lambda c, w: turn(e("MatMul", turn(c), matrix(w)))
    one = positive(e, back(some, e.full(1.0, e.shape(w), c.dtype)))
    forward = lambda x, w: over(e, as_tensor(e.mul(x, w)), [axis])
    return Slot(slot.x, back(c, w), forward, e.mul, batched=samples == 0, one=one)


def _letters(node: Node, slot: Slot) -> tuple[str, str, str] | None:
    """One letter an axis of x, w and y; None where w is no matrix that all of x is multiplied by."""
    rank, i = len(shape_of(slot.x)), next(i for i, t in enumerate(node.inputs) if t is slot.x)
    if rank < 3 or len(shape_of(node.inputs[1 - i])) != 2:
        return None
    if "equation" in node.attrs:
        terms, result = spelled(node)
        (x, w), known = (terms[i], terms[1 - i]) if len(terms) == 2 else ("", "aa"), set(result)
        plain = len(set(x)) == len(x) and len(set(w)) == len(w) and set(w) <= known | set(x) and set(x) <= known | set(w)
        return (x, w, result) if plain else None
    front = "".join(chr(ord("d") + j) for j in range(rank - 2))
    return (f"{front}ab", "bc", f"{front}ac") if i == 0 else (f"{front}ba", "cb", f"{front}ca")


def _mixed_axis(x: str, w: str, y: str) -> int | None:
    """The axis of y = x w along which a matrix w mixes the entries of x, each axis of which stays in its place."""
    if len(x) != len(y):
        return None
    differ = [i for i, (a, b) in enumerate(zip(x, y, strict=True)) if a != b]
    return differ[0] if len(differ) == 1 and {x[differ[0]], y[differ[0]]} == {*w} else None


def _grouped(group: int) -> dict[str, Any]:
    return {"group": group} if group != 1 else {}


def positive(e: Emit, values: Tensor) -> Tensor:
    """1 where they are above 0, else 0."""
    return e.cast(e("Greater", values, 0.0), values.dtype)


def in_width(e: Emit, value: Value) -> Any:
    """In the type that relevance has."""
    return value if isinstance(value, float) else e.cast(value, wide(value.dtype))


def over(e: Emit, values: Tensor, axes: list[int], shape: Shape | None = None) -> Tensor:
    """The sum over some axes, which are kept; of ``shape``."""
    return e("ReduceSum", values, axes, keepdims=1, shape=shape) if axes else values
