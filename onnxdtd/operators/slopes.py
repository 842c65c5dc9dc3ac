"""Derivatives of everything that is not linear, each as a layer whose weight is the derivative at the input.

With these and the rule ``gradient`` the backward walk is plain differentiation. That is a method of explanation of its own, and
since any framework can differentiate too, it checks every adjoint and every move on any real model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from onnxdtd.graph.emit import Emit, dims, known, wide
from onnxdtd.graph.tensors import Node, Tensor, Value
from onnxdtd.operators.linear import (
    Active,
    Builder,
    Layer,
    NotLinear,
    Slot,
    constant_value,
    count,
    optional,
    reduced_axes,
    shape_of,
)

DERIVATIVE: dict[str, Builder] = {}


def register(*ops: str) -> Callable[[Builder], Builder]:
    """Register the derivative of some operators."""

    def enter(builder: Builder) -> Builder:
        for op in ops:
            assert op not in DERIVATIVE, op
            DERIVATIVE[op] = builder
        return builder

    return enter


# ------------------------------------------------------------------------------------------------- element by element


def elementwise(*ops: str) -> Callable[[Callable[[Emit, Node], Tensor]], Callable[[Emit, Node], Tensor]]:
    """Register a function that gives dy/dx of element-by-element operators."""

    def enter(slope: Callable[[Emit, Node], Tensor]) -> Callable[[Emit, Node], Tensor]:
        def build(e: Emit, node: Node, active: Active) -> Layer:
            x, y, shape = node.inputs[0], node.outputs[0], dims(node.outputs[0])
            if not active(x) or any(active(t) for t in node.inputs[1:]):
                raise NotLinear("a parameter of it depends on the input")
            weight = slope(e, node)
            unbroadcast = shape is not None and shape != dims(x)
            adjoint = (lambda s, w: e.unbroadcast(e.mul(s, w), shape or [], x)) if unbroadcast else e.mul
            return Layer("affine", [Slot(x, weight, e.mul, adjoint, elementwise=True)], y)

        register(*ops)(build)
        return slope

    return enter


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


@elementwise("Relu")
def relu(e: Emit, node: Node) -> Tensor:
    """1 where x > 0"""
    return between(e, node.inputs[0], 0.0, None)


@elementwise("ThresholdedRelu")
def thresholded_relu(e: Emit, node: Node) -> Tensor:
    """1 where x > α"""
    return between(e, node.inputs[0], float(node.attrs.get("alpha", 1.0)), None)


@elementwise("Clip")
def clip(e: Emit, node: Node) -> Tensor:
    """1 inside the bounds"""
    return between(e, node.inputs[0], optional(node, 1), optional(node, 2))


@elementwise("LeakyRelu")
def leaky_relu(e: Emit, node: Node) -> Tensor:
    """1 or the slope"""
    x = node.inputs[0]
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, float(node.attrs.get("alpha", 0.01)), x)


@elementwise("PRelu")
def prelu(e: Emit, node: Node) -> Tensor:
    """1 or the slope of the channel"""
    x, slope = node.inputs[:2]
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, slope, x)


@elementwise("Elu")
def elu(e: Emit, node: Node) -> Tensor:
    """1, or α eˣ = y + α"""
    x, alpha = node.inputs[0], float(node.attrs.get("alpha", 1.0))
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, e("Add", node.outputs[0], alpha), x)


@elementwise("Selu")
def selu(e: Emit, node: Node) -> Tensor:
    """γ, or γ α eˣ = y + γ α"""
    alpha, gamma = float(node.attrs.get("alpha", 1.6732632)), float(node.attrs.get("gamma", 1.0507010))
    x = node.inputs[0]
    return where(e, e("GreaterOrEqual", x, 0.0), gamma, e("Add", node.outputs[0], alpha * gamma), x)


@elementwise("Celu")
def celu(e: Emit, node: Node) -> Tensor:
    """1, or e^(x/α) = y/α + 1"""
    x, alpha = node.inputs[0], float(node.attrs.get("alpha", 1.0))
    return where(e, e("GreaterOrEqual", x, 0.0), 1.0, e("Add", e("Div", node.outputs[0], alpha), 1.0), x)


@elementwise("Sigmoid")
def sigmoid(e: Emit, node: Node) -> Tensor:
    """y (1 − y)"""
    y = node.outputs[0]
    return e("Mul", y, _one_minus(e, y))


@elementwise("Tanh")
def tanh(e: Emit, node: Node) -> Tensor:
    """1 − y²"""
    y = node.outputs[0]
    return _one_minus(e, e("Mul", y, y))


@elementwise("Softplus")
def softplus(e: Emit, node: Node) -> Tensor:
    """σ(x)"""
    return e("Sigmoid", node.inputs[0])


@elementwise("Softsign")
def softsign(e: Emit, node: Node) -> Tensor:
    """(1 − |y|)²"""
    rest = _one_minus(e, e("Abs", node.outputs[0]))
    return e("Mul", rest, rest)


@elementwise("HardSigmoid")
def hard_sigmoid(e: Emit, node: Node) -> Tensor:
    """α where 0 < y < 1"""
    alpha = float(np.float32(node.attrs.get("alpha", 0.2)))
    return e("Mul", between(e, node.outputs[0], 0.0, 1.0), alpha)


@elementwise("HardSwish")
def hard_swish(e: Emit, node: Node) -> Tensor:
    """x/3 + 1/2 between −3 and 3, then 1"""
    x = node.inputs[0]
    ramp = e("Mul", between(e, x, -3.0, 3.0), e("Add", e("Div", x, 3.0), 0.5))
    return where(e, e("GreaterOrEqual", x, 3.0), 1.0, ramp, x)


@elementwise("Gelu")
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


@elementwise("Mish")
def mish(e: Emit, node: Node) -> Tensor:
    """t + x (1 − t²) σ(x) with t = tanh(softplus(x))"""
    x = node.inputs[0]
    t = e("Tanh", e("Softplus", x))
    return e("Add", t, e("Mul", e("Mul", x, _one_minus(e, e("Mul", t, t))), e("Sigmoid", x)))


@elementwise("Erf")
def erf(e: Emit, node: Node) -> Tensor:
    """2/√π e^(−x²)"""
    x = node.inputs[0]
    return e("Mul", e("Exp", e("Neg", e("Mul", x, x))), 2 / math.sqrt(math.pi))


@elementwise("Exp")
def exp(e: Emit, node: Node) -> Tensor:
    """y"""
    return node.outputs[0]


@elementwise("Log")
def log(e: Emit, node: Node) -> Tensor:
    """1/x"""
    return e("Reciprocal", node.inputs[0])


@elementwise("Sqrt")
def sqrt(e: Emit, node: Node) -> Tensor:
    """1/(2 y)"""
    return e("Mul", e("Reciprocal", node.outputs[0]), 0.5)


@elementwise("Reciprocal")
def reciprocal(e: Emit, node: Node) -> Tensor:
    """−y²"""
    return e("Neg", e("Mul", node.outputs[0], node.outputs[0]))


@elementwise("Abs")
def absolute(e: Emit, node: Node) -> Tensor:
    """The sign"""
    return e("Sign", node.inputs[0])


@elementwise("Pow")
def power(e: Emit, node: Node) -> Tensor:
    """p x^(p−1)"""
    x, exponent = node.inputs
    value = constant_value(exponent)
    if value is None or value.size != 1:
        raise NotLinear("its exponent is not a constant number")
    p = float(value.reshape(()))
    return e("Mul", x, 2.0) if p == 2 else e("Mul", e("Pow", x, p - 1), p)


@elementwise("QuantizeLinear")
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


# ----------------------------------------------------------------------------------- normalisation over several entries


def mean(e: Emit, values: Tensor, x: Tensor, axes: Sequence[int]) -> Tensor:
    """The mean of ``values``, of the shape of ``x``, over some axes, which are kept."""
    return e("Div", e("ReduceSum", values, list(axes), keepdims=1), count(e, x, axes, x.dtype))


def standardised(e: Emit, x: Tensor, axes: Sequence[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """The mean μ, 1/√(σ²+ε) and x̂ = (x − μ)/√(σ²+ε) over some axes."""
    mu = mean(e, x, x, axes)
    centred = e("Sub", x, mu)
    inverse = e("Reciprocal", e("Sqrt", e("Add", mean(e, e("Mul", centred, centred), x, axes), epsilon)))
    return mu, inverse, e("Mul", centred, inverse)


def _vjp(x: Tensor, y: Tensor, pull_back: Callable[[Tensor], Tensor]) -> Layer:
    """A layer that is known by its vector-Jacobian product only."""

    def no_forward(x: Value, w: Value) -> Value:
        raise AssertionError("a derivative is only ever pulled back")

    return Layer("affine", [Slot(x, 1.0, no_forward, lambda s, w: pull_back(s), elementwise=True)], y)


@register("LayerNormalization")
def layer_normalization(e: Emit, node: Node, active: Active) -> Layer:
    """(g − mean g − x̂ mean(g x̂))/σ with g = γ s"""
    x, rank = node.inputs[0], len(shape_of(node.inputs[0]))
    axes = list(range(node.attrs.get("axis", -1) % rank, rank))
    epsilon = float(node.attrs.get("epsilon", 1e-5))
    return _vjp(x, node.outputs[0], lambda s: _normalised(e, x, e("Mul", s, node.inputs[1]), axes, epsilon))


@register("InstanceNormalization")
def instance_normalization(e: Emit, node: Node, active: Active) -> Layer:
    """The same over the positions of each channel"""
    x, rank = node.inputs[0], len(shape_of(node.inputs[0]))
    gamma = e("Reshape", node.inputs[1], [-1] + [1] * (rank - 2))
    axes, epsilon = list(range(2, rank)), float(node.attrs.get("epsilon", 1e-5))
    return _vjp(x, node.outputs[0], lambda s: _normalised(e, x, e("Mul", s, gamma), axes, epsilon))


@register("GroupNormalization")
def group_normalization(e: Emit, node: Node, active: Active) -> Layer:
    """The same over each group of channels"""
    x, epsilon = node.inputs[0], float(node.attrs.get("epsilon", 1e-5))
    rows, groups = grouped(e, node), [0, node.attrs["num_groups"], -1]
    gamma = e("Reshape", node.inputs[1], [-1] + [1] * (len(shape_of(x)) - 2))

    def pull_back(s: Tensor) -> Tensor:
        g = e("Reshape", e("Mul", s, gamma), groups)
        return e("Reshape", _normalised(e, rows, g, [2], epsilon), e.shape(x))

    return _vjp(x, node.outputs[0], pull_back)


def grouped(e: Emit, node: Node) -> Tensor:
    """The input of a GroupNormalization as [batch, groups, entries]."""
    x, groups = node.inputs[0], node.attrs["num_groups"]
    sizes = known(shape_of(x)[1:])
    return e("Reshape", x, [0, groups, -1], shape=[None, groups, None if sizes is None else math.prod(sizes) // groups])


def _normalised(e: Emit, x: Tensor, g: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    _, inverse, hat = standardised(e, x, axes, epsilon)
    centred = e("Sub", g, mean(e, g, x, axes))
    return e("Mul", e("Sub", centred, e("Mul", hat, mean(e, e("Mul", g, hat), x, axes))), inverse)


@register("Softmax", "LogSoftmax")
def softmax(e: Emit, node: Node, active: Active) -> Layer:
    """y (s − Σ s y), and for the logarithm s − p Σ s"""
    x, y = node.inputs[0], node.outputs[0]
    axis = [node.attrs.get("axis", -1)]

    def pull_back(s: Tensor) -> Tensor:
        if node.op == "LogSoftmax":
            return e("Sub", s, e("Mul", e("Exp", y), e("ReduceSum", s, axis, keepdims=1)))
        return e("Mul", y, e("Sub", s, e("ReduceSum", e("Mul", s, y), axis, keepdims=1)))

    return _vjp(x, y, pull_back)


@register("LRN")
def lrn(e: Emit, node: Node, active: Active) -> Layer:
    """With n = k + α/size Σ x² over neighbouring channels: s n^(−β) − 2 (α/size) β x Σ s x n^(−β−1)"""
    x, y, rank = node.inputs[0], node.outputs[0], len(shape_of(node.inputs[0]))
    size, beta = node.attrs["size"], float(node.attrs.get("beta", 0.75))
    scale, k = float(node.attrs.get("alpha", 1e-4)) / size, float(node.attrs.get("bias", 1.0))
    before = (size - 1) // 2

    def window_sum(t: Tensor, before: int) -> Tensor:
        """Over ``size`` channels, ``before`` of them in front."""
        pads = [0, before] + [0] * (rank - 2) + [0, size - 1 - before] + [0] * (rank - 2)
        padded, channels = e("Pad", t, pads), e.shape(x, 1, 2)
        return e.sum([e("Slice", padded, [i], e("Add", channels, [i]), [1]) for i in range(size)])

    def pull_back(s: Tensor) -> Tensor:
        norm = e("Add", e("Mul", window_sum(e("Mul", x, x), before), scale), k)
        shrink = e("Pow", norm, -beta)
        around = window_sum(e("Mul", e("Mul", s, x), e("Div", shrink, norm)), size - 1 - before)
        return e("Sub", e("Mul", s, shrink), e("Mul", e("Mul", x, around), 2 * scale * beta))

    return _vjp(x, y, pull_back)


@register("ReduceL2", "ReduceL1", "ReduceSumSquare")
def reduce_norm(e: Emit, node: Node, active: Active) -> Layer:
    """s x / y, and 0 where y is; s sign(x); 2 s x"""
    x, y, rank = node.inputs[0], node.outputs[0], len(shape_of(node.inputs[0]))
    axes = reduced_axes(node, rank)

    def pull_back(s: Tensor) -> Tensor:
        if node.op == "ReduceL2":
            s = e("Div", s, e("Where", e("Equal", y, 0.0), float("inf"), y))
        slope = e("Sign", x) if node.op == "ReduceL1" else x
        result = e("Mul", slope, s if node.attrs.get("keepdims", 1) else e("Unsqueeze", s, axes))
        return e("Mul", result, 2.0) if node.op == "ReduceSumSquare" else result

    return _vjp(x, y, pull_back)


def row_length(e: Emit, node: Node) -> tuple[Tensor, Tensor | None]:
    """What a Normalizer divides each row by, 1 where that would be 0; for MAX also where the largest entry is."""
    x, norm, last, winner = node.inputs[0], node.attrs.get("norm", "MAX"), len(shape_of(node.inputs[0])) - 1, None
    if norm == "MAX":
        total, winner = e.multi("TopK", [None, np.dtype(np.int64)], x, [1], axis=last)
    else:
        total = e("ReduceSum", e("Abs", x) if norm == "L1" else e("Mul", x, x), [last], keepdims=1)
    length = e("Sqrt", total) if norm == "L2" else total
    return e("Where", e("Equal", length, 0.0), 1.0, length), winner


@register("Normalizer")
def normalizer(e: Emit, node: Node, active: Active) -> Layer:
    """(s − n′ Σ s y)/n with n′ = y for the length n of a row, the sign for its sum, 1 at the largest entry for that"""
    x, y = node.inputs[0], node.outputs[0]
    length, winner = row_length(e, node)

    def pull_back(s: Tensor) -> Tensor:
        shared = e("ReduceSum", e("Mul", s, y), [len(shape_of(x)) - 1], keepdims=1)
        if winner is None:
            back = e("Mul", y if node.attrs["norm"] == "L2" else e("Sign", x), shared)
        else:
            back = e("ScatterElements", e.full(0.0, e.shape(x), s.dtype), winner, shared, axis=len(shape_of(x)) - 1)
        return e("Div", e("Sub", s, back), length)

    return _vjp(x, y, pull_back)
