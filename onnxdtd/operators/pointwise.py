"""Functions entry by entry: each with its slope and all else that is known of it.

A further one is one entry: ``pointwise`` over the function that gives its slope.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

import numpy as np

from onnxdtd.graph.emit import Emit, dims, wide
from onnxdtd.graph.tensors import Node, Tensor, Value
from onnxdtd.operators import fits, heads, places, sizes, spread
from onnxdtd.operators.layer import Active, NotLinear, constant_value, each_entry, is_float, optional, shape_of
from onnxdtd.operators.table import (
    AS_THEY_ARE,
    POINTWISE,
    PROBABILITIES,
    Before,
    Fits,
    Flow,
    Head,
    Operator,
    Relevance,
    Sign,
    Slope,
    always,
    enter,
    first,
    first_input,
    if_inputs_are,
    throughout,
)

SQUASHED = Head(gives=PROBABILITIES, one=True, each=True)


def passes(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """What goes in entry by entry comes out entry by entry: R_in = R_out, in the type of the input unless that is quantised."""
    dtype, r = node.inputs[0].dtype, first(relevance)
    yield 0, e.cast(r, wide(dtype)) if is_float(dtype) else r


def pointwise(
    op: str,
    *,
    sign: Sign | None = None,
    keeps_zeros: bool | None = None,
    monotone: Callable[[Node], bool] | None = None,
    gate: int = 0,
    flow: Flow | None = passes,
    head: Head | None = None,
    before: Before | None = None,
    learned: slice | None = None,
    fits: Fits | None = None,
) -> Callable[[Slope], Slope]:
    """Enter a function entry by entry, by its slope dy/dx."""

    def entered(slope: Slope) -> Slope:
        enter(
            Operator(
                op,
                kind=POINTWISE,
                slope=slope,
                flow=flow,
                cost=each_entry,
                sign=sign,
                keeps_zeros=keeps_zeros,
                monotone=monotone,
                gate=gate,
                axes=spread.broadcast,
                places=places.still,
                learned=learned,
                fits=fits,
                head=head,
                before=before,
            )
        )
        return slope

    return entered


def sloped(e: Emit, node: Node, slope: Slope, active: Active) -> Flow:
    """The gradient through a function entry by entry: times its slope at the input, which is made here, in front."""
    x, shape = of_first(node, active), dims(node.outputs[0])
    weight = slope(e, node)
    repeated = shape is not None and shape != dims(x)

    def flow(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
        g = e.mul(first(relevance), e.cast(weight, wide(weight.dtype)))
        yield 0, e.unbroadcast(g, shape or [], x) if repeated else g

    return flow


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


def clipped(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """What goes in, or the lower bound, is ≥ 0, and so is the upper one."""
    low, high = (optional(node, i) for i in (1, 2))
    bounded = high is None or nonnegative(high)
    return bounded and (nonnegative(node.inputs[0]) or (low is not None and nonnegative(low)))


def as_the_first(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """As what goes in."""
    return nonnegative(node.inputs[0])


def on_a_grid(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """Unsigned with the zero point 0, it cuts off what is negative."""
    if nonnegative(node.inputs[0]) or not str(node.outputs[0].dtype).startswith("uint"):
        return nonnegative(node.inputs[0])
    zero = None if optional(node, 2) is None else constant_value(node.inputs[2])
    return optional(node, 2) is None or (zero is not None and not zero.any())


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


@pointwise("Relu", sign=always, keeps_zeros=True, monotone=throughout)
def relu(e: Emit, node: Node) -> Tensor:
    """1 where x > 0"""
    return between(e, node.inputs[0], 0.0, None)


@pointwise("ThresholdedRelu", sign=if_inputs_are, keeps_zeros=True, monotone=if_alpha)
def thresholded_relu(e: Emit, node: Node) -> Tensor:
    """1 where x > α"""
    return between(e, node.inputs[0], float(node.attrs.get("alpha", 1.0)), None)


@pointwise("Clip", sign=clipped, monotone=throughout, gate=1)
def clip(e: Emit, node: Node) -> Tensor:
    """1 inside the bounds"""
    return between(e, node.inputs[0], optional(node, 1), optional(node, 2))


@pointwise("LeakyRelu", sign=if_inputs_are, keeps_zeros=True, monotone=if_alpha)
def leaky_relu(e: Emit, node: Node) -> Tensor:
    """1 or the slope"""
    x = node.inputs[0]
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, float(node.attrs.get("alpha", 0.01)), x)


@pointwise("PRelu", sign=if_inputs_are, keeps_zeros=True, fits=fits.broadcasts, learned=slice(1, None))
def prelu(e: Emit, node: Node) -> Tensor:
    """1 or the slope of the channel"""
    x, slope = node.inputs[:2]
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, slope, x)


@pointwise("Elu", sign=if_inputs_are, keeps_zeros=True, monotone=if_alpha)
def elu(e: Emit, node: Node) -> Tensor:
    """1, or α eˣ = y + α"""
    x, alpha = node.inputs[0], float(node.attrs.get("alpha", 1.0))
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, e("Add", node.outputs[0], alpha), x)


@pointwise("Selu", sign=if_gamma, keeps_zeros=True, monotone=if_alpha)
def selu(e: Emit, node: Node) -> Tensor:
    """γ, or γ α eˣ = y + γ α"""
    alpha, gamma = float(node.attrs.get("alpha", 1.6732632)), float(node.attrs.get("gamma", 1.0507010))
    x = node.inputs[0]
    return where(e, e("GreaterOrEqual", x, 0.0), gamma, e("Add", node.outputs[0], alpha * gamma), x)


@pointwise("Celu", sign=if_inputs_are, keeps_zeros=True, monotone=if_alpha)
def celu(e: Emit, node: Node) -> Tensor:
    """1, or e^(x/α) = y/α + 1"""
    x, alpha = node.inputs[0], float(node.attrs.get("alpha", 1.0))
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, e("Add", e("Div", node.outputs[0], alpha), 1.0), x)


@pointwise("Sigmoid", sign=always, keeps_zeros=False, monotone=throughout, gate=2, head=SQUASHED, before=first_input)
def sigmoid(e: Emit, node: Node) -> Tensor:
    """y (1 − y)"""
    y = node.outputs[0]
    return e("Mul", y, _one_minus(e, y))


@pointwise("Tanh", sign=if_inputs_are, keeps_zeros=True, monotone=throughout, gate=1)
def tanh(e: Emit, node: Node) -> Tensor:
    """1 − y²"""
    y = node.outputs[0]
    return _one_minus(e, e("Mul", y, y))


@pointwise("Softplus", sign=always, keeps_zeros=False, monotone=throughout)
def softplus(e: Emit, node: Node) -> Tensor:
    """σ(x)"""
    return e("Sigmoid", node.inputs[0])


@pointwise("Softsign", sign=if_inputs_are, keeps_zeros=True, monotone=throughout)
def softsign(e: Emit, node: Node) -> Tensor:
    """(1 − |y|)²"""
    rest = _one_minus(e, e("Abs", node.outputs[0]))
    return e("Mul", rest, rest)


@pointwise("HardSigmoid", sign=always, keeps_zeros=False, monotone=if_alpha, gate=2)
def hard_sigmoid(e: Emit, node: Node) -> Tensor:
    """α where 0 < y < 1"""
    alpha = float(np.float32(node.attrs.get("alpha", 0.2)))
    return e("Mul", between(e, node.outputs[0], 0.0, 1.0), alpha)


@pointwise("HardSwish", sign=if_inputs_are, keeps_zeros=True)
def hard_swish(e: Emit, node: Node) -> Tensor:
    """x/3 + 1/2 between −3 and 3, then 1"""
    x = node.inputs[0]
    ramp = e("Mul", between(e, x, -3.0, 3.0), e("Add", e("Div", x, 3.0), 0.5))
    return where(e, e("GreaterOrEqual", x, 3.0), 1.0, ramp, x)


@pointwise("Gelu", sign=if_inputs_are, keeps_zeros=True)
def gelu(e: Emit, node: Node) -> Tensor:
    """Φ(x) + x φ(x), or the derivative of the approximation by tanh"""
    x = node.inputs[0]
    if node.attrs.get("approximate", "none") == "tanh":
        cubic, c = e("Mul", e("Mul", x, x), 0.044715), math.sqrt(2 / math.pi)
        t = e("Tanh", e("Mul", e("Mul", x, e("Add", cubic, 1.0)), c))
        inner = e("Mul", e("Add", e("Mul", cubic, 3.0), 1.0), c / 2)
        return e("Add", e("Add", e("Mul", t, 0.5), 0.5), e("Mul", e("Mul", x, _one_minus(e, e("Mul", t, t))), inner))
    phi = e("Mul", e("Exp", e("Mul", e("Mul", x, x), -0.5)), 1 / math.sqrt(2 * math.pi))
    cumulative = e("Add", e("Mul", e("Erf", e("Mul", x, math.sqrt(0.5))), 0.5), 0.5)
    return e("Add", cumulative, e("Mul", x, phi))


@pointwise("Mish", sign=if_inputs_are, keeps_zeros=True)
def mish(e: Emit, node: Node) -> Tensor:
    """t + x (1 − t²) σ(x) with t = tanh(softplus(x))"""
    x = node.inputs[0]
    t = e("Tanh", e("Softplus", x))
    return e("Add", t, e("Mul", e("Mul", x, _one_minus(e, e("Mul", t, t))), e("Sigmoid", x)))


@pointwise("Erf", sign=if_inputs_are, keeps_zeros=True, monotone=throughout, gate=1)
def erf(e: Emit, node: Node) -> Tensor:
    """2/√π e^(−x²)"""
    x = node.inputs[0]
    return e("Mul", e("Exp", e("Neg", e("Mul", x, x))), 2 / math.sqrt(math.pi))


@pointwise("Exp", sign=always, keeps_zeros=False, monotone=throughout, flow=None)
def exp(e: Emit, node: Node) -> Tensor:
    """y"""
    return node.outputs[0]


@pointwise("Log", keeps_zeros=False, monotone=throughout, flow=None)
def log(e: Emit, node: Node) -> Tensor:
    """1/x"""
    return e("Reciprocal", node.inputs[0])


@pointwise("Sqrt", sign=always, keeps_zeros=True, monotone=throughout, flow=None)
def sqrt(e: Emit, node: Node) -> Tensor:
    """1/(2 y)"""
    return e("Mul", e("Reciprocal", node.outputs[0]), 0.5)


@pointwise("Reciprocal", sign=if_inputs_are, flow=None, head=SQUASHED, before=heads.before_reciprocal)
def reciprocal(e: Emit, node: Node) -> Tensor:
    """−y²"""
    return e("Neg", e("Mul", node.outputs[0], node.outputs[0]))


@pointwise("Abs", sign=always, keeps_zeros=True, flow=None)
def absolute(e: Emit, node: Node) -> Tensor:
    """The sign"""
    return e("Sign", node.inputs[0])


@pointwise("Pow", flow=None)
def power(e: Emit, node: Node) -> Tensor:
    """p x^(p−1)"""
    x, exponent = node.inputs
    value = constant_value(exponent)
    if value is None or value.size != 1:
        raise NotLinear("its exponent is not a constant number")
    p = float(value.reshape(()))
    return e("Mul", x, 2.0) if p == 2 else e("Mul", e("Pow", x, p - 1), p)


def quantize(e: Emit, node: Node) -> Tensor:
    """1 where it only rounds, 0 where it cuts off, at scale · (the smallest or the largest integer − zero point)"""
    x, zero = node.inputs[0], optional(node, 2)
    integer = re.fullmatch(r"(u?)int([0-9]+)", str(node.outputs[0].dtype))
    if integer is None:
        raise NotLinear("it quantises to a type that is not an integer")
    unsigned, bits = bool(integer[1]), int(integer[2])
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    dtype = np.dtype(wide(x.dtype))
    scale = e.cast(_along(e, node, node.inputs[1]), dtype)
    shift = None if zero is None else e.cast(_along(e, node, zero), dtype)
    ends = (float(end) if shift is None else e("Sub", float(end), shift) for end in (low, high))
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
            axes=spread.as_the_first,
            hands_on=AS_THEY_ARE,
            places=places.still,
        )
    )
