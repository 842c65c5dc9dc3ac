"""What few runtimes have, in the operators that nearly all have: the relevance pass of ``--portable``.

``SPELLED`` is what `Emit` may not use then, each with the algebra that takes its place. What is left is what WebGPU, TensorRT
and CoreML all list, and what has no entry here and is listed by some of them only: `scripts/check/portable.py` counts it.
A condition is a number, 1 where it holds and else 0, and a choice a sum of products. That is exact for all finite numbers,
zeros of either sign and denormal ones among them (which GPUs may take for zeros): a difference of two that differ is never 0,
and multiplied twice by 2¹²⁷ it is beyond ±1. (Of infinite ones it is not: ∞ − ∞ and 0 ∞ are no numbers.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from onnxdtd.graph.emit import Emit, dims, known
from onnxdtd.graph.tensors import Tensor

Speller: TypeAlias = Callable[..., Tensor | None]  # None where the operator stays, as that of integers does, which are sizes
EXACT = 2**24  # below which integers are exact as float32
RENEWED = 22  # the operator set from which on HardSigmoid has no kernel on WebGPU


def _is_real(tensor: Tensor) -> bool:
    return bool(np.issubdtype(np.dtype(tensor.dtype), np.floating))


def _is(tensor: Tensor, number: float) -> bool:
    """Is it this one number?"""
    return tensor.values is not None and tensor.values.ndim == 0 and bool(tensor.values == number)


def _is_small(tensor: Tensor) -> bool:
    """Is it one number that may well be taken times the largest power of two?"""
    return tensor.values is not None and tensor.values.ndim == 0 and abs(float(tensor.values)) < 1


def _number(e: Emit, value: float, like: Tensor) -> Tensor:
    return e.constant(np.asarray(value, like.dtype))


def _as(e: Emit, tensor: Tensor, dtype: Any) -> Tensor:
    """In another type; a constant of few entries is one again."""
    few = tensor.values is not None and tensor.dtype != dtype
    return e.constant(np.asarray(tensor.values).astype(dtype)) if few else e.cast(tensor, dtype, tensor.shape)


def _far(dtype: Any) -> float:
    """The largest power of two: twice times the smallest number it is above 1."""
    return float(2.0 ** (np.finfo(dtype).maxexp - 1))


def _steep(e: Emit, a: Tensor, b: Tensor, side: float = 1.0) -> Tensor:
    """Beyond ±1 wherever a and b differ, with the sign of a − b, or of b − a on the other ``side``; 0 where they do not."""
    if _is_real(a):
        far = _far(a.dtype)
        if any(map(_is_small, (a, b))) and not _is(b, 0.0):  # which an ONNX Runtime would not subtract: it takes it for a zero
            a, b = (_number(e, float(t.values) * far, t) if t.values is not None else e("Mul", t, far) for t in (a, b))
            return e("Mul", e("Sub", *((a, b) if side > 0 else (b, a))), far)
        return e("Mul", e("Mul", a if _is(b, 0.0) else e("Sub", a, b), side * far), far)
    if any(t.dtype == np.bool_ or (t.values is not None and (np.abs(t.values) < EXACT).all()) for t in (a, b)):
        a, b = (_as(e, t, np.float32) for t in (a, b))
    whole = a if _is(b, 0.0) else e("Sub", a, b)
    return e.mul(_as(e, whole, np.float32), side)


def _clipped(e: Emit, x: Tensor, low: float, high: float) -> Tensor:
    return e("Clip", x, _number(e, low, x), _number(e, high, x))


def greater(e: Emit, a: Tensor, b: Tensor) -> Tensor:
    """1 where a > b, else 0."""
    return _clipped(e, _steep(e, a, b), 0.0, 1.0)


def less(e: Emit, a: Tensor, b: Tensor) -> Tensor:
    """1 where a < b, else 0."""
    return _clipped(e, _steep(e, a, b, -1.0), 0.0, 1.0)


def at_least(e: Emit, a: Tensor, b: Tensor) -> Tensor:
    """1 where a ≥ b, else 0."""
    return _clipped(e, e("Add", _steep(e, a, b), 1.0), 0.0, 1.0)


def equal(e: Emit, a: Tensor, b: Tensor) -> Tensor:
    """1 where a = b, else 0."""
    steep = _steep(e, a, b)
    return e("Relu", e("Sub", _number(e, 1.0, steep), e("Mul", steep, steep)))


def both(e: Emit, a: Tensor, b: Tensor) -> Tensor:
    """1 where two conditions hold, else 0."""
    dtype = next((t.dtype for t in (a, b) if _is_real(t)), np.dtype(np.float32))
    return e("Mul", _as(e, a, dtype), _as(e, b, dtype))


def sign(e: Emit, x: Tensor) -> Tensor | None:
    """−1, 0 or 1."""
    return _clipped(e, _steep(e, x, _number(e, 0.0, x)), -1.0, 1.0) if _is_real(x) else None


def choice(e: Emit, condition: Tensor, a: Tensor, b: Tensor) -> Tensor | None:
    """a where a condition holds, else b."""
    like, giver = a if a.values is None else b, e.givers.get(condition.name, condition.producer)
    if like.dtype in (np.bool_, object) or (giver is not None and giver.op == "IsNaN"):  # of which no product gets rid
        return None
    holds, a, b = (_as(e, t, like.dtype) for t in (condition, a, b))
    parts = [_share(e, lambda: holds, a), _share(e, lambda: e("Sub", _number(e, 1.0, holds), holds), b)]
    found = [part for part in parts if part is not None]
    return e.sum(found) if found else e("Mul", holds, _number(e, 0.0, holds))


def _share(e: Emit, holds: Callable[[], Tensor], x: Tensor) -> Tensor | None:
    """x where a condition holds, else 0; None for 0."""
    if _is(x, 0.0):
        return None
    if _is(x, 1.0):
        return holds()
    if x.values is None or np.isfinite(x.values).all():
        return e("Mul", holds(), x)
    far = _far(x.dtype)
    infinite = e("Mul", e("Mul", holds(), -far if _is(x, -np.inf) else far), far)
    return e("Sub", infinite, infinite) if np.isnan(x.values).any() else infinite


def smallest(e: Emit, *terms: Tensor) -> Tensor | None:
    """Entry by entry the smallest."""
    return _extreme(e, terms, less, lambda x, bound: e("Clip", x, None, bound))


def largest(e: Emit, *terms: Tensor) -> Tensor | None:
    """Entry by entry the largest."""
    return _extreme(e, terms, greater, lambda x, bound: e("Relu", x) if _is(bound, 0.0) else e("Clip", x, bound))


def _extreme(e: Emit, terms: tuple[Tensor, ...], wins: Speller, cut: Callable[[Tensor, Tensor], Tensor]) -> Tensor | None:
    """One number bounds the others; of two tensors one is chosen, entry by entry."""
    if not all(map(_is_real, terms)):
        return None

    def better(a: Tensor, b: Tensor) -> Tensor:
        for x, bound in ((a, b), (b, a)):
            if bound.values is not None and bound.values.ndim == 0:
                return cut(x, bound)
        return e("Where", wins(e, a, b), a, b)

    return reduce(better, terms)


def negative(e: Emit, x: Tensor) -> Tensor | None:
    """−x"""
    return e("Mul", x, -1.0) if _is_real(x) else None


def absolute(e: Emit, x: Tensor) -> Tensor | None:
    """x⁺ + (−x)⁺"""
    return e("Add", e("Relu", x), e("Relu", e("Mul", x, -1.0))) if _is_real(x) else None


def reciprocal(e: Emit, x: Tensor) -> Tensor:
    """1 / x. (Where there is a Reciprocal it may add an ε: CoreML's does.)"""
    return e("Div", _number(e, 1.0, x), x)


def ramp(e: Emit, x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor | None:
    """0 ≤ α x + β ≤ 1"""
    return None if e.opset < RENEWED else _clipped(e, e("Add", e("Mul", x, float(alpha)), float(beta)), 0.0, 1.0)


def least_along(e: Emit, x: Tensor, *axes: Tensor, **attrs: Any) -> Tensor | None:
    """−max −x"""
    return e("Mul", e("ReduceMax", e("Mul", x, -1.0), *axes, **attrs), -1.0) if _is_real(x) else None


def rows(e: Emit, x: Tensor, axis: int = 1) -> Tensor | None:
    """[batch, all else]"""
    return e("Reshape", x, [0, -1]) if axis == 1 else None


def one_hot(e: Emit, index: Tensor, depth: Tensor, values: Tensor, axis: int = -1) -> Tensor | None:
    """Rows of a unit matrix."""
    if values.values is None or values.values.tolist() != [0, 1] or axis != -1:
        return None
    numbers = e("Range", e.constant(np.asarray(0)), depth, e.constant(np.asarray(1)))
    return e("Equal", e("Unsqueeze", index, [-1]), numbers)


def repeated(e: Emit, x: Tensor, shape: Tensor) -> Tensor | None:
    """x so often along each axis that it is of a shape, where it is known how often that is."""
    own, rank = known(dims(x)), _length(e, shape)
    if own is None or rank is None or rank < len(own):
        return None
    own = [1] * (rank - len(own)) + own
    if shape.values is not None:
        times = e.constant(np.asarray([n if size == 1 else 1 for n, size in zip(shape.values.tolist(), own, strict=True)]))
    elif all(size == 1 for size in own):
        times = shape
    else:
        return None
    once = e("Reshape", x, own) if x.values is None else e.constant(x.values.reshape(own))
    return e("Tile", once, times)


def _length(e: Emit, shape: Tensor) -> int | None:
    """How many sizes there are, where they are known, or read off tensors of known rank."""
    node = e.givers.get(shape.name)
    lengths = []
    for part in node.inputs if node is not None and node.op == "Concat" else [shape]:
        giver, rank = e.givers.get(part.name), None
        if giver is not None and giver.op == "Shape":
            rank = dims(giver.inputs[0])
        elif part.values is not None:
            rank = [None] * part.values.size
        if rank is None:
            return None
        lengths.append(len(rank[giver.attrs.get("start", 0) : giver.attrs.get("end")]) if giver is not None else len(rank))
    return sum(lengths)


def without_more(e: Emit, s: Tensor, w: Tensor, *bias: Tensor, **attrs: Any) -> Tensor | None:
    """A ConvTranspose with ``output_padding``, which not all take: all that it touches, cut, or with zeros behind."""
    more = attrs.pop("output_padding", None)
    if not more or bias:
        return None
    pads = attrs.pop("pads", [0] * 2 * len(more))
    whole = e("ConvTranspose", s, w, shape=[None] * (2 + len(more)), **attrs)
    before, after = ([-n for n in half] for half in (pads[: len(more)], pads[len(more) :]))
    return e.framed(whole, [0, 0, *before, 0, 0, *(n + m for n, m in zip(after, more, strict=True))])


# None stands where there is no such algebra, but another way for whoever asks ``Emit.offers``.
SPELLED: Mapping[str, Speller | None] = {
    "Greater": greater,
    "Less": less,
    "GreaterOrEqual": at_least,
    "Equal": equal,
    "And": both,
    "Where": choice,
    "Sign": sign,
    "Min": smallest,
    "Max": largest,
    "Neg": negative,
    "Abs": absolute,
    "Reciprocal": reciprocal,
    "HardSigmoid": ramp,
    "ReduceMin": least_along,
    "Flatten": rows,
    "OneHot": one_hot,
    "Expand": repeated,
    "ConvTranspose": without_more,
    "ThresholdedRelu": None,
    "ScatterElements": None,
    "Pad": None,
}
