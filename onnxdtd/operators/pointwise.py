"""Functions entry by entry: each with its slope and all else that is known of it.

A further one is one entry: ``pointwise`` over the function that gives its slope. Between two points it is Δy/Δx that counts,
for some by a formula that loses no digits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from onnxdtd.graph.emit import Emit, wide
from onnxdtd.graph.tensors import Node, Tensor, Value
from onnxdtd.operators import fits, heads, places, sizes, spread
from onnxdtd.operators.layer import Active, NotLinear, constant_value, each_entry, is_float, optional, shape_of
from onnxdtd.operators.secants import At, near, quotient, ratio
from onnxdtd.operators.table import (
    AS_THEY_ARE,
    LABELS,
    POINTWISE,
    PROBABILITIES,
    Flow,
    Head,
    Operator,
    Relevance,
    Slope,
    always,
    enter,
    first,
    first_input,
    if_inputs_are,
    in_blocks,
    throughout,
)

SIDE = Head(gives=LABELS, one=True, each=True, labels=(-1, 1))  # of the boundary of one class: outside or inside
SQUASHED = Head(gives=PROBABILITIES, one=True, each=True)


def passes(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """What goes in entry by entry comes out entry by entry: R_in = R_out, in the type of the input unless that is quantised."""
    dtype, r = node.inputs[0].dtype, first(relevance)
    yield 0, e.cast(r, wide(dtype)) if is_float(dtype) else r


def pointwise(op: str, **facts: Any) -> Callable[[Slope], Slope]:
    """Enter a function entry by entry, by its slope dy/dx, and what else is known of it."""

    def entered(slope: Slope) -> Slope:
        axes, place = spread.broadcast, places.still
        enter(Operator(op, kind=POINTWISE, slope=slope, flow=passes, cost=each_entry, axes=axes, places=place, **facts))
        return slope

    return entered


def sloped(e: Emit, node: Node, slope: Slope, active: Active) -> Flow:
    """The gradient through a function entry by entry: times its slope at the input, which is made here, in front."""
    weight = slope(e, node)
    return weighted(of_first(node, active), node, lambda: weight)


def weighted(x: Tensor, node: Node, weight: Callable[[], Tensor]) -> Flow:
    """Times a weight for each entry of the result; x may have been repeated."""
    shape = node.outputs[0].shape
    repeated = shape is not None and shape != x.shape

    def flow(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
        g = e.mul(first(relevance), e.cast(weight(), wide(weight().dtype)))
        yield 0, e.unbroadcast(g, shape or [], x) if repeated else g

    return flow


def chord(e: Emit, node: Node, operator: Operator, active: Active) -> Flow:
    """Times (f(x) − f(0))/x, and f′(0) at 0, so that x has the relevance of f(x) less that of f(0), a bias."""
    at = next(i for i, t in enumerate(node.inputs) if active(t))
    x, y, bounds = node.inputs[at], node.outputs[0], operator.slope is None
    if any(active(t) for t in node.inputs[at + 1 :]) or not is_float(x.dtype):
        raise NotLinear("a parameter of it depends on the input, or it computes with integers")

    def weight() -> Tensor:
        if operator.chord is not None:
            return operator.chord(e, replace(node, inputs=[e.cast(x, wide(x.dtype)), *node.inputs[1:]]))
        zero = e.constant(np.asarray(0, x.dtype))
        inputs = [zero if i == at else t for i, t in enumerate(node.inputs)]
        shifted = bounds or (not operator.keeps_zeros and (operator.everywhere or operator.start is not None))
        start = e(node.op, *inputs, **node.attrs) if shifted else zero
        still = replace(node, inputs=inputs, outputs=[start, *node.outputs[1:]])
        slope = e.cast(e.equal(start, zero), x.dtype) if operator.slope is None else operator.slope(e, still)
        least = near(x.dtype) if shifted else float(np.finfo(x.dtype).tiny)
        return ratio(e, e("Sub", y, start) if shifted else y, x, least, slope)

    flow = weighted(x, node, weight)
    return lambda e, node, relevance: ((at, g) for _, g in flow(e, node, relevance))


def secant_of(e: Emit, node: Node, operator: Operator, at: At) -> Tensor:
    """Δy/Δx of a function entry by entry, and its slope at the other point where Δx is next to nothing."""
    if operator.secant is not None:
        return operator.secant(e, node, at)
    assert operator.slope is not None
    slope = operator.slope
    x, y = node.inputs[0], node.outputs[0]
    return quotient(e, x, y, at, lambda: slope(e, moved(node, at)))


def moved(node: Node, at: At) -> Node:
    """A node at another point."""
    return replace(node, inputs=list(map(at, node.inputs)), outputs=list(map(at, node.outputs)))


def of_first(node: Node, active: Active) -> Tensor:
    """The first input, where that is of floating-point numbers and alone depends on the explained one."""
    x = node.inputs[0]
    if not active(x) or any(active(t) for t in node.inputs[1:]):
        raise NotLinear("a parameter of it depends on the input")
    if x.dtype is not None and not is_float(x.dtype):
        raise NotLinear("it computes with integers")
    return x


# ---------------------------------------------------------------------------------------------------------------- facts


def if_alpha(node: Node) -> bool:
    """It rises everywhere unless somebody chose a negative slope."""
    return bool(node.attrs.get("alpha", 1.0) >= 0)


def if_gamma(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """What is positive is multiplied by γ."""
    return bool(node.attrs.get("gamma", 1.0) >= 0) and if_inputs_are(node, nonnegative)


def shrinks(node: Node) -> bool:
    """What is not cut off keeps its sign."""
    return bool(node.attrs.get("bias", 0.0) <= node.attrs.get("lambd", 0.5))


def if_shrunk(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """No further than to 0."""
    return shrinks(node) and nonnegative(node.inputs[0])


def has_even_exponent(node: Node) -> bool:
    """It cannot tell x from −x."""
    value = constant_value(node.inputs[1])
    return value is not None and bool((value % 2 == 0).all())


def even_or_inputs_are(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """An even power, or one of what is never negative."""
    return has_even_exponent(node) or nonnegative(node.inputs[0])


def clipped(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """What goes in, or the lower bound, is ≥ 0, and so is the upper one."""
    low, high = (optional(node, i) for i in (1, 2))
    bounded = high is None or nonnegative(high)
    return bounded and (nonnegative(node.inputs[0]) or (low is not None and nonnegative(low)))


def clips_at_zero(node: Node) -> bool:
    """Its lower bound is 0, as that of ReLU6 is."""
    low = None if optional(node, 1) is None else constant_value(node.inputs[1])
    return low is not None and not low.any()


def as_the_first(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """As what goes in."""
    return nonnegative(node.inputs[0])


def on_a_grid(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """Unsigned with the zero point 0, it cuts off what is negative."""
    if nonnegative(node.inputs[0]) or not str(node.outputs[0].dtype).startswith("uint"):
        return nonnegative(node.inputs[0])
    zero = None if optional(node, 2) is None else constant_value(node.inputs[2])
    return optional(node, 2) is None or (zero is not None and not zero.any())


# --------------------------------------------------------------------------------------------------------------- secants


def sizes_of_both(e: Emit, x: Tensor, at: At) -> Tensor:
    """|x| + |x̃|, or something tiny where that is 0."""
    return e("Add", e("Abs", x), e("Add", e("Abs", at(x)), 2.0**-100))


def of_relu(e: Emit, node: Node, at: At) -> Tensor:
    """(y + ỹ) / (|x| + |x̃|), since Δ|x| (|x| + |x̃|) = (x + x̃) Δx and y = (x + |x|)/2"""
    y = node.outputs[0]
    return e("Div", e("Add", y, at(y)), sizes_of_both(e, node.inputs[0], at))


def of_absolute(e: Emit, node: Node, at: At) -> Tensor:
    """(x + x̃) / (|x| + |x̃|)"""
    x = node.inputs[0]
    return e("Div", e("Add", x, at(x)), sizes_of_both(e, x, at))


def of_sqrt(e: Emit, node: Node, at: At) -> Tensor:
    """1 / (y + ỹ), and 0 where both are"""
    y = node.outputs[0]
    total = e("Add", y, at(y))
    return e("Reciprocal", e("Where", e.equal(total, 0.0), math.inf, total))


def of_reciprocal(e: Emit, node: Node, at: At) -> Tensor:
    """−y ỹ"""
    y = node.outputs[0]
    return e("Neg", e("Mul", y, at(y)))


def slope_of_power(e: Emit, x: Tensor, exponent: Tensor) -> Tensor:
    """p x^(p−1), and 0 at 0 where that has a pole"""
    value = constant_value(exponent)
    if value is None or value.size != 1:
        p = e.cast(exponent, wide(x.dtype))
        return e("Mul", e("Pow", x, e("Sub", p, 1.0)), p)
    number = float(value.reshape(()))
    if number == 2:
        return e("Mul", x, 2.0)
    slope = e("Mul", e("Pow", x, number - 1), number)
    return where(e, e.equal(x, 0.0), 0.0, slope, slope) if number < 1 else slope


def of_power(e: Emit, node: Node, at: At) -> Tensor:
    """x + x̃ of a square, as of roots and reciprocals, −(y ỹ)²/(y + ỹ) of what is both, else Δy/Δx"""
    (x, exponent), y = node.inputs, node.outputs[0]
    value = constant_value(exponent)
    number = None if value is None or value.size != 1 else float(value.reshape(()))
    if number == 2:
        return e("Add", x, at(x))
    if number == -0.5:
        both = e("Mul", y, at(y))
        return e("Neg", e("Div", e("Mul", both, both), e("Add", y, at(y))))
    known = {0.5: of_sqrt, -1.0: of_reciprocal}.get(number or 0.0)
    return quotient(e, x, y, at, lambda: slope_of_power(e, at(x), exponent)) if known is None else known(e, node, at)


# --------------------------------------------------------------------------------------------------------------- slopes


def where(e: Emit, condition: Tensor, yes: Value, no: Value, like: Tensor) -> Tensor:
    """``yes`` or ``no``, numbers taking the type of ``like``."""
    parts = [e.constant(np.asarray(v, like.dtype)) if isinstance(v, float) else v for v in (yes, no)]
    return e("Where", condition, *parts)


def between(e: Emit, x: Tensor, low: Value | None, high: Value | None) -> Tensor:
    """1 strictly between two bounds, else 0."""
    inside = None
    for op, bound in (("Greater", low), ("Less", high)):
        if bound is not None:
            test = e(op, x, bound)
            inside = test if inside is None else e("And", inside, test)
    return e.full(1.0, e.shape(x), x.dtype) if inside is None else where(e, inside, 1.0, 0.0, x)


@pointwise(
    "Relu",
    blocked=in_blocks,
    secant=of_relu,
    everywhere=True,
    sign=always,
    keeps_zeros=True,
    monotone=throughout,
    rectifies=throughout,
)
def relu(e: Emit, node: Node) -> Tensor:
    """1 where x > 0"""
    return between(e, node.inputs[0], 0.0, None)


@pointwise("ThresholdedRelu", everywhere=True, sign=if_inputs_are, keeps_zeros=True, monotone=if_alpha, rectifies=if_alpha)
def thresholded_relu(e: Emit, node: Node) -> Tensor:
    """1 where x > α"""
    return between(e, node.inputs[0], float(node.attrs.get("alpha", 1.0)), None)


@pointwise("Clip", blocked=in_blocks, everywhere=True, sign=clipped, monotone=throughout, gate=1, rectifies=clips_at_zero)
def clip(e: Emit, node: Node) -> Tensor:
    """1 inside the bounds"""
    return between(e, node.inputs[0], optional(node, 1), optional(node, 2))


@pointwise("LeakyRelu", blocked=in_blocks, everywhere=True, sign=if_inputs_are, keeps_zeros=True, monotone=if_alpha)
def leaky_relu(e: Emit, node: Node) -> Tensor:
    """1 or the slope"""
    x = node.inputs[0]
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, float(node.attrs.get("alpha", 0.01)), x)


@pointwise("PRelu", everywhere=True, sign=if_inputs_are, keeps_zeros=True, fits=fits.broadcasts, learned=slice(1, None))
def prelu(e: Emit, node: Node) -> Tensor:
    """1 or the slope of the channel"""
    x, slope = node.inputs[:2]
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, slope, x)


@pointwise("Elu", everywhere=True, sign=if_inputs_are, keeps_zeros=True, monotone=if_alpha)
def elu(e: Emit, node: Node) -> Tensor:
    """1, or α eˣ = y + α"""
    x, alpha = node.inputs[0], float(node.attrs.get("alpha", 1.0))
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, e("Add", node.outputs[0], alpha), x)


@pointwise("Selu", everywhere=True, sign=if_gamma, keeps_zeros=True, monotone=if_alpha)
def selu(e: Emit, node: Node) -> Tensor:
    """γ, or γ α eˣ = y + γ α"""
    alpha, gamma = float(node.attrs.get("alpha", 1.6732632)), float(node.attrs.get("gamma", 1.0507010))
    x = node.inputs[0]
    return where(e, e("GreaterOrEqual", x, 0.0), gamma, e("Add", node.outputs[0], alpha * gamma), x)


@pointwise("Celu", everywhere=True, sign=if_inputs_are, keeps_zeros=True, monotone=if_alpha)
def celu(e: Emit, node: Node) -> Tensor:
    """1, or e^(x/α) = y/α + 1"""
    x, alpha = node.inputs[0], float(node.attrs.get("alpha", 1.0))
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, e("Add", e("Div", node.outputs[0], alpha), 1.0), x)


@pointwise(
    "Sigmoid",
    blocked=in_blocks,
    everywhere=True,
    sign=always,
    keeps_zeros=False,
    start=0.5,
    monotone=throughout,
    gate=2,
    head=SQUASHED,
    before=first_input,
)
def sigmoid(e: Emit, node: Node) -> Tensor:
    """y (1 − y)"""
    y = node.outputs[0]
    return e("Mul", y, _one_minus(e, y))


@pointwise("Tanh", blocked=in_blocks, everywhere=True, sign=if_inputs_are, keeps_zeros=True, monotone=throughout, gate=1)
def tanh(e: Emit, node: Node) -> Tensor:
    """1 − y²"""
    y = node.outputs[0]
    return _one_minus(e, e("Mul", y, y))


@pointwise("Softplus", everywhere=True, sign=always, keeps_zeros=False, monotone=throughout)
def softplus(e: Emit, node: Node) -> Tensor:
    """σ(x)"""
    return e("Sigmoid", node.inputs[0])


@pointwise("Softsign", everywhere=True, sign=if_inputs_are, keeps_zeros=True, monotone=throughout)
def softsign(e: Emit, node: Node) -> Tensor:
    """(1 − |y|)²"""
    rest = _one_minus(e, e("Abs", node.outputs[0]))
    return e("Mul", rest, rest)


@pointwise("HardSigmoid", blocked=in_blocks, everywhere=True, sign=always, keeps_zeros=False, monotone=if_alpha, gate=2)
def hard_sigmoid(e: Emit, node: Node) -> Tensor:
    """α where 0 < y < 1"""
    alpha = float(np.float32(node.attrs.get("alpha", 0.2)))
    return e("Mul", between(e, node.outputs[0], 0.0, 1.0), alpha)


def ramp_of_hard_swish(e: Emit, node: Node) -> Tensor:
    """x/6 + 1/2 between 0 and 1"""
    ramp = e("Add", e("Div", node.inputs[0], 6.0), 0.5)
    bounds = (e.constant(np.asarray(bound, ramp.dtype)) for bound in (0, 1))
    return e("Clip", ramp, *bounds)


@pointwise("HardSwish", blocked=in_blocks, chord=ramp_of_hard_swish, everywhere=True, sign=if_inputs_are, keeps_zeros=True)
def hard_swish(e: Emit, node: Node) -> Tensor:
    """x/3 + 1/2 between −3 and 3, then 1"""
    x = node.inputs[0]
    ramp = e("Mul", between(e, x, -3.0, 3.0), e("Add", e("Div", x, 3.0), 0.5))
    return where(e, e("GreaterOrEqual", x, 3.0), 1.0, ramp, x)


def below_the_curve(e: Emit, node: Node) -> Tensor:
    """Φ(x), or its approximation by tanh"""
    x = node.inputs[0]
    if node.attrs.get("approximate", "none") == "tanh":
        cubic, c = e("Mul", e("Mul", x, x), 0.044715), math.sqrt(2 / math.pi)
        t = e("Tanh", e("Mul", e("Mul", x, e("Add", cubic, 1.0)), c))
    else:
        t = e("Erf", e("Mul", x, math.sqrt(0.5)))
    return raised(e, t)


def raised(e: Emit, t: Tensor) -> Tensor:
    """(t + 1)/2 of t between −1 and 1; by one operator where that has kernels, and nothing to cut off."""
    if t.dtype == np.float32:
        return e("HardSigmoid", t, alpha=0.5, beta=0.5)
    return e("Add", e("Mul", t, 0.5), 0.5)


@pointwise("Gelu", blocked=in_blocks, chord=below_the_curve, everywhere=True, sign=if_inputs_are, keeps_zeros=True)
def gelu(e: Emit, node: Node) -> Tensor:
    """Φ(x) + x φ(x), or the derivative of the approximation by tanh"""
    x, cumulative = node.inputs[0], below_the_curve(e, node)
    if node.attrs.get("approximate", "none") == "tanh":
        cubic, c = e("Mul", e("Mul", x, x), 0.044715), math.sqrt(2 / math.pi)
        t = e("Tanh", e("Mul", e("Mul", x, e("Add", cubic, 1.0)), c))
        inner = e("Mul", e("Add", e("Mul", cubic, 3.0), 1.0), c / 2)
        return e("Add", cumulative, e("Mul", e("Mul", x, _one_minus(e, e("Mul", t, t))), inner))
    phi = e("Mul", e("Exp", e("Mul", e("Mul", x, x), -0.5)), 1 / math.sqrt(2 * math.pi))
    return e("Add", cumulative, e("Mul", x, phi))


def gate_of_mish(e: Emit, node: Node) -> Tensor:
    """tanh(softplus(x))"""
    return e("Tanh", e("Softplus", node.inputs[0]))


@pointwise("Mish", chord=gate_of_mish, everywhere=True, sign=if_inputs_are, keeps_zeros=True)
def mish(e: Emit, node: Node) -> Tensor:
    """t + x (1 − t²) σ(x) with t = tanh(softplus(x))"""
    x = node.inputs[0]
    t = gate_of_mish(e, node)
    return e("Add", t, e("Mul", e("Mul", x, _one_minus(e, e("Mul", t, t))), e("Sigmoid", x)))


@pointwise("Erf", everywhere=True, sign=if_inputs_are, keeps_zeros=True, monotone=throughout, gate=1)
def erf(e: Emit, node: Node) -> Tensor:
    """2/√π e^(−x²)"""
    x = node.inputs[0]
    return e("Mul", e("Exp", e("Neg", e("Mul", x, x))), 2 / math.sqrt(math.pi))


def gate_of_swish(e: Emit, node: Node) -> Tensor:
    """σ(αx)"""
    return e("Sigmoid", e.mul(node.inputs[0], float(node.attrs.get("alpha", 1.0))))


@pointwise("Swish", chord=gate_of_swish, everywhere=True, sign=as_the_first, keeps_zeros=True)
def swish(e: Emit, node: Node) -> Tensor:
    """σ(αx) + α y (1 − σ(αx))"""
    y, alpha, gate = node.outputs[0], float(node.attrs.get("alpha", 1.0)), gate_of_swish(e, node)
    return e("Add", gate, e("Mul", e.mul(y, alpha), _one_minus(e, gate)))


@pointwise("Shrink", everywhere=True, sign=if_shrunk, monotone=shrinks)
def shrink(e: Emit, node: Node) -> Tensor:
    """1 where it is not cut to 0"""
    x, width = node.inputs[0], float(node.attrs.get("lambd", 0.5))
    return where(e, e("Greater", e("Abs", x), width), 1.0, 0.0, x)


@pointwise("Exp", sign=always, keeps_zeros=False, start=1.0, monotone=throughout)
def exp(e: Emit, node: Node) -> Tensor:
    """y"""
    return node.outputs[0]


@pointwise("Log", keeps_zeros=False, monotone=throughout, before=first_input)
def log(e: Emit, node: Node) -> Tensor:
    """1/x"""
    return e("Reciprocal", node.inputs[0])


@pointwise("Sqrt", secant=of_sqrt, sign=always, keeps_zeros=True, monotone=throughout)
def sqrt(e: Emit, node: Node) -> Tensor:
    """1/(2 y), and 0 where y is"""
    y = node.outputs[0]
    return e("Mul", e("Reciprocal", e("Where", e.equal(y, 0.0), math.inf, y)), 0.5)


@pointwise("Reciprocal", secant=of_reciprocal, sign=if_inputs_are, gate=3, head=SQUASHED, before=heads.before_reciprocal)
def reciprocal(e: Emit, node: Node) -> Tensor:
    """−y²"""
    return e("Neg", e("Mul", node.outputs[0], node.outputs[0]))


@pointwise("Abs", secant=of_absolute, everywhere=True, sign=always, keeps_zeros=True, even=throughout)
def absolute(e: Emit, node: Node) -> Tensor:
    """The sign"""
    return e("Sign", node.inputs[0])


@pointwise("Pow", secant=of_power, sign=even_or_inputs_are, even=has_even_exponent)
def power(e: Emit, node: Node) -> Tensor:
    """p x^(p−1)"""
    return slope_of_power(e, *node.inputs)


@pointwise("Sin", everywhere=True, keeps_zeros=True)
def sine(e: Emit, node: Node) -> Tensor:
    """cos x"""
    return e("Cos", node.inputs[0])


@pointwise("Cos", everywhere=True, keeps_zeros=False, start=1.0, even=throughout)
def cosine(e: Emit, node: Node) -> Tensor:
    """−sin x"""
    return e("Neg", e("Sin", node.inputs[0]))


@pointwise("Tan", keeps_zeros=True)
def tangent(e: Emit, node: Node) -> Tensor:
    """1 + y²"""
    return e("Add", e("Mul", node.outputs[0], node.outputs[0]), 1.0)


@pointwise("Asin", sign=if_inputs_are, keeps_zeros=True, monotone=throughout)
def arc_sine(e: Emit, node: Node) -> Tensor:
    """1 / √(1 − x²)"""
    return e("Reciprocal", e("Sqrt", _one_minus(e, e("Mul", node.inputs[0], node.inputs[0]))))


@pointwise("Acos", sign=always, keeps_zeros=False, monotone=throughout)
def arc_cosine(e: Emit, node: Node) -> Tensor:
    """−1 / √(1 − x²)"""
    return e("Neg", arc_sine(e, node))


@pointwise("Atan", sign=if_inputs_are, keeps_zeros=True, monotone=throughout, gate=1)
def arc_tangent(e: Emit, node: Node) -> Tensor:
    """1 / (1 + x²)"""
    return e("Reciprocal", e("Add", e("Mul", node.inputs[0], node.inputs[0]), 1.0))


@pointwise("Sinh", sign=if_inputs_are, keeps_zeros=True, monotone=throughout)
def hyperbolic_sine(e: Emit, node: Node) -> Tensor:
    """cosh x; by Exp, which has a kernel everywhere"""
    x = node.inputs[0]
    return e("Mul", e("Add", e("Exp", x), e("Exp", e("Neg", x))), 0.5)


@pointwise("Cosh", sign=always, keeps_zeros=False, start=1.0, even=throughout)
def hyperbolic_cosine(e: Emit, node: Node) -> Tensor:
    """sinh x; by Exp"""
    x = node.inputs[0]
    return e("Mul", e("Sub", e("Exp", x), e("Exp", e("Neg", x))), 0.5)


@pointwise("Asinh", sign=if_inputs_are, keeps_zeros=True, monotone=throughout)
def area_sine(e: Emit, node: Node) -> Tensor:
    """1 / √(x² + 1)"""
    return e("Reciprocal", e("Sqrt", e("Add", e("Mul", node.inputs[0], node.inputs[0]), 1.0)))


@pointwise("Acosh", sign=always, monotone=throughout)
def area_cosine(e: Emit, node: Node) -> Tensor:
    """1 / √(x² − 1)"""
    return e("Reciprocal", e("Sqrt", e("Sub", e("Mul", node.inputs[0], node.inputs[0]), 1.0)))


@pointwise("Atanh", sign=if_inputs_are, keeps_zeros=True, monotone=throughout)
def area_tangent(e: Emit, node: Node) -> Tensor:
    """1 / (1 − x²)"""
    return e("Reciprocal", _one_minus(e, e("Mul", node.inputs[0], node.inputs[0])))


@pointwise("Mod", counted=sizes.remainder)
def remainder(e: Emit, node: Node) -> Tensor:
    """1"""
    return e.full(1.0, e.shape(node.inputs[0]), node.inputs[0].dtype)


def flat(e: Emit, node: Node) -> Tensor:
    """0: it is constant but where it jumps"""
    return e.full(0.0, e.shape(node.inputs[0]), node.inputs[0].dtype)


for op in ("Floor", "Ceil", "Round"):
    pointwise(op, sign=if_inputs_are, keeps_zeros=True, monotone=throughout)(flat)
pointwise("Sign", sign=if_inputs_are, keeps_zeros=True, monotone=throughout, gate=1, head=SIDE, before=first_input)(flat)


def quantize(e: Emit, node: Node) -> Tensor:
    """1 where it only rounds, as at both ends of its range, 0 where it cuts off; of what is known by its result alone, at them.

    As ``torch.fake_quantize``, whose ends are half a step beyond scale · (the smallest or the largest integer − zero point).
    """
    x, zero = node.inputs[0], optional(node, 2)
    integer = re.fullmatch(r"(u?)int([0-9]+)", str(node.outputs[0].dtype))
    if integer is None:
        raise NotLinear("it quantises to a type that is not an integer")
    unsigned, bits = bool(integer[1]), int(integer[2])
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    dtype, beyond = np.dtype(wide(x.dtype)), 0.5 if node.exact else 0.0
    scale = e.cast(_along(e, node, node.inputs[1]), dtype)
    shift = None if zero is None else e.cast(_along(e, node, zero), dtype)
    ends = (end if shift is None else e("Sub", end, shift) for end in (low - beyond, high + beyond))
    return between(e, x, *(e.mul(scale, end) for end in ends))


def _along(e: Emit, node: Node, grid: Tensor) -> Tensor:
    """The scale or zero point of a QuantizeLinear, shaped to broadcast: one for all, or one for each entry of an axis."""
    sizes, rank = shape_of(grid), len(shape_of(node.inputs[0]))
    if len(sizes) > 1:
        raise NotLinear("it has a scale for each block")
    if sizes in ([], [1]):
        return grid
    return e("Reshape", grid, [-1] + [1] * (rank - 1 - node.attrs.get("axis", 1) % rank))


def _one_minus(e: Emit, x: Tensor) -> Tensor:
    return e("Sub", e.constant(np.asarray(1.0, x.dtype)), x)


enter(
    Operator(
        "Identity",
        kind=POINTWISE,
        flow=passes,
        sign=if_inputs_are,
        keeps_zeros=True,
        monotone=throughout,
        on_the_way=True,
        axes=spread.as_the_first,
        counted=sizes.same,
        hands_on=AS_THEY_ARE,
        places=places.still,
        before=first_input,
    ),
    "Cast",
    "Dropout",
)
for op, sign, slope in (("QuantizeLinear", on_a_grid, quantize), ("DequantizeLinear", as_the_first, None)):
    enter(
        Operator(
            op,
            kind=POINTWISE,
            flow=passes,
            slope=slope,
            cost=each_entry,
            sign=sign,
            monotone=throughout,
            scaled=True,
            on_the_way=True,
            axes=spread.as_the_first,
            hands_on=AS_THEY_ARE,
            places=places.still,
            before=heads.before_grid,
        )
    )
