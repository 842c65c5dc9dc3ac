"""R ⊘ z, the division that rules share relevance out by, what of R the denominator keeps, and what of it has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Tensor, Value

Kept = Iterator[tuple[str, Tensor]]  # names of ``KEEPERS`` and amounts, entry by entry of the outputs
# Who keeps relevance from the inputs: dead is where there is no denominator, and a misfit what a relevance model does not tell.
KEEPERS = ("bias", "stabiliser", "dead", "misfit")


@dataclass(frozen=True)
class Division:
    """s = R ⊘ z; what of R the denominator keeps, and R where there is none, in nodes made when asked for. Without ``dead``
    there is one everywhere.
    """

    s: Tensor
    kept: Callable[[], Kept] = lambda: iter([])
    dead: Callable[[], Tensor] | None = None


def divide(e: Emit, relevance: Tensor, z: Value, epsilon: float, sign: float) -> Division:
    """Without ε, what has no denominator redistributes nothing. ``sign`` is that of z, 0 where it may have either."""
    if isinstance(z, float):
        return by_number(e, relevance, z, epsilon if z >= 0 else -epsilon)
    if epsilon:
        small = stabiliser(e, z, epsilon, sign)
        s = e("Div", relevance, e("Add", z, small))
        return Division(s, lambda: iter([("stabiliser", e.mul(small, s))]))
    dead = lambda: e("Mul", relevance, absent(e, z, sign))
    if z.dtype != np.float32:
        return Division(e("Div", relevance, e("Where", divides(e, z), z, float("inf"))), dead=dead)
    return Division(e("Mul", relevance, reciprocal(e, z, sign)), dead=dead)


def by_number(e: Emit, relevance: Tensor, z: float, epsilon: float) -> Division:
    """By a denominator of equal entries, ε with its sign."""
    if not z + epsilon:
        return Division(e("Mul", relevance, 0.0), dead=lambda: relevance)
    s = e.mul(relevance, 1.0 / (z + epsilon))
    return Division(s, lambda: iter([("stabiliser", e("Mul", s, epsilon))] if epsilon else []))


def reciprocal(e: Emit, z: Tensor, sign: float) -> Tensor:
    """1 ⊘ z, and 0 where z is no denominator: `divides` without a Where.

    A Where costs an ONNX Runtime on a CPU five to ten times as much as an operator that only computes. Of a z of known sign a
    HardSigmoid, 0 ≤ α z + β ≤ 1, is what `absent` lacks of 1; z is moved off zero, since some runtimes multiply infinity by 0,
    and that costs nothing if it is done while z is computed. Else the reciprocal is cut off there. ThresholdedRelu(α) keeps
    what is above α and makes the rest 0, with α = -2¹¹² what is too negative a reciprocal; in operator sets that GPUs have it
    for no longer HardSigmoid takes its place, gives a part between 2⁻¹¹³ and 2⁻¹¹², and is a little slower.
    """
    one, minus, tiny, low, high = (e.constant(np.asarray(v, z.dtype)) for v in (1, -1, sign * 2.0**-120, -(2.0**120), 2.0**120))
    if sign:
        beyond = e("Clip", z, *([tiny] if sign > 0 else [None, tiny]))
        return e("Div", e("HardSigmoid", beyond, alpha=sign * 2.0**127, beta=1 - 2.0**15), beyond)
    if not e.offers("ThresholdedRelu"):
        inverse = e("Clip", e("Div", one, z), low, high)
        return e("Mul", inverse, e("HardSigmoid", e("Abs", inverse), alpha=-(2.0**-112), beta=2.0))
    keep = lambda value: e("ThresholdedRelu", value, alpha=-float(np.nextafter(np.float32(2**112), np.float32(np.inf))))
    return keep(e("Neg", keep(e("Clip", e("Div", minus, z), low, high))))


def absent(e: Emit, z: Tensor, sign: float) -> Tensor:
    """1 where z is no denominator, else 0; in float32 by a HardSigmoid that falls from 1 to 0 just below 2⁻¹¹²."""
    if z.dtype != np.float32:
        return e("Sub", e.constant(np.asarray(1, z.dtype)), e.cast(divides(e, z), z.dtype))
    size, side = (z, -sign) if sign else (e("Abs", z), -1.0)
    return e("HardSigmoid", size, alpha=side * 2.0**127, beta=2.0**15)


def stabiliser(e: Emit, z: Tensor, epsilon: float, sign: float) -> Value:
    """ε sign(z), with sign(0) = 1."""
    if sign > 0:
        return epsilon
    # Adding 2⁻¹⁰⁰ makes a zero positive and changes nothing else. (ONNX Runtime takes much less for a zero, even in float64.)
    far = e("Mul", e("Add", z, 2.0**-100), 2.0**110)  # with the sign of z, and beyond ±ε
    return e("Clip", far, *(e.constant(np.asarray(size, z.dtype)) for size in (-epsilon, epsilon)))


def divides(e: Emit, z: Tensor) -> Tensor:
    """Is there a denominator? From 2¹⁴ times the smallest normal number on, w R / z is finite for any w R below 2¹⁶."""
    return e("GreaterOrEqual", e("Abs", z), float(np.finfo(z.dtype).tiny) * 2**14)
