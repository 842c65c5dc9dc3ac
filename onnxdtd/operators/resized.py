"""Resize: along which axes, and the matrix of each of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import numpy as np

from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor, Value, as_tensor
from onnxdtd.operators import places, spread
from onnxdtd.operators.layer import Active, Layer, NotLinear, Slot, constant_value, each_entry, only_first, optional, shape_of
from onnxdtd.operators.table import LINEAR, Operator, enter, if_inputs_are

MATRICES = ("mode", "coordinate_transformation_mode", "nearest_mode", "antialias", "exclude_outside")  # what decides on them


def along(node: Node, rank: int) -> list[int]:
    """The axes whose size may change: not those that keep it, and not the batch, unless it is known to."""
    named, scales = _named(node, rank), optional(node, 2)
    factors = None if scales is None else constant_value(scales)
    if factors is not None and factors.size == len(named):
        return [axis for axis, factor in zip(named, factors.ravel().tolist(), strict=True) if factor != 1]
    before, after = node.inputs[0].shape or [None] * rank, node.outputs[0].shape or [None] * rank
    kept = [a == b is not None for a, b in zip_longest(before, after)]
    sizes = zip(dims(node.inputs[0]) or [None], dims(node.outputs[0]) or [None], strict=False)
    batch = None not in next(sizes)
    return [axis for axis in named if not kept[axis] and (axis or batch)]


def _named(node: Node, rank: int) -> list[int]:
    """The axes that scales and sizes are given for."""
    return [axis % rank for axis in node.attrs.get("axes") or range(rank)]


def resize(e: Emit, node: Node, active: Active) -> Layer:
    """y = (M₁ ⊗ M₂ ⊗ ...) x, one matrix an axis, which the operator itself yields when it resizes a unit matrix."""
    x, y, rank = only_first(node, active), node.outputs[0], len(shape_of(node.inputs[0]))
    axes = along(node, len(shape_of(y)))
    if node.attrs.get("mode", "nearest") == "cubic":
        raise NotLinear("cubic interpolation has negative weights")
    if node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise NotLinear("it crops while it resizes")
    if node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotLinear("it resizes by one factor (keep_aspect_ratio_policy)")
    if 0 in axes:
        raise NotLinear("it resizes the batch")
    scales = optional(node, 2)
    if scales is not None and dims(scales) == [0]:
        scales = None
    if scales is not None and len(shape_of(scales)) != 1:
        raise NotLinear("its scales are no list")
    keep = {name: node.attrs[name] for name in MATRICES if name in node.attrs}

    def matrix(axis: int, dtype: Any) -> Tensor:
        """[after, before]"""
        n, m = e.shape(x, axis, axis + 1), e.shape(y, axis, axis + 1)
        count = e("Squeeze", n, [0])
        numbers = e("Range", e.constant(np.asarray(0)), count, e.constant(np.asarray(1)))
        unit = e.cast(
            e("OneHot", numbers, count, e.constant(np.asarray([0, 1], np.float32)), dtype=np.dtype(np.float32)), dtype
        )
        unit = e("Reshape", unit, e.whole("Concat", _ones(e, 2), n, n))
        if scales is None:
            resized = e("Resize", unit, None, None, e.whole("Concat", _ones(e, 2), m, n), **keep)
        else:
            factors = _factor(e, scales, _named(node, rank).index(axis))
            resized = e("Resize", unit, None, factors, **keep)
        return e("Reshape", resized, e.whole("Concat", m, n))

    def adjoint(s: Tensor, w: Value) -> Tensor:
        for axis in axes:
            last = [*(a for a in range(rank) if a != axis), axis]
            moved = e("MatMul", e("Transpose", s, perm=last), matrix(axis, s.dtype))
            s = e("Transpose", moved, perm=[int(a) for a in np.argsort(last)])
        return e.mul(s, w)

    def forward(like: Value, w: Value) -> Value:
        """Of a tensor that may have fewer samples or channels than x, which sizes would count."""
        if like is x or scales is not None:
            return e.mul(e("Resize", like, *node.inputs[1:], **node.attrs), w)
        sizes = [e.shape(y if axis in axes else as_tensor(like), axis, axis + 1) for axis in range(rank)]
        return e.mul(e("Resize", like, None, None, e.whole("Concat", *sizes), **keep), w)

    return Layer("average", [Slot(x, 1.0, forward, adjoint, batched=True)], y)


def _ones(e: Emit, count: int) -> Tensor:
    return e.constant(np.ones(count, np.int64))


def _factor(e: Emit, scales: Tensor, position: int) -> Tensor:
    """The scales of a unit matrix [1, 1, after, before], of which one counts."""
    factors, one = constant_value(scales), np.float32(1)
    if factors is not None:
        return e.constant(np.asarray([one, one, factors[position], one]))
    ones = e.constant(np.ones(2, np.float32))
    factor = e("Slice", scales, [position], [position + 1])
    return e("Concat", ones, factor, e.constant(np.ones(1, np.float32)), axis=0)


def _between_entries(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """Weights of cubic interpolation may be negative."""
    return node.attrs.get("mode") != "cubic" and if_inputs_are(node, nonnegative)


enter(
    Operator(
        "Resize",
        kind=LINEAR,
        linear=resize,
        cost=each_entry,
        sign=_between_entries,
        axes=spread.over(along),
        places=places.still,
        summed=along,
    )
)
