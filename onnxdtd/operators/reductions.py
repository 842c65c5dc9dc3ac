"""Reductions along axes other than sums, means and extremes, as values of their own: lengths, products, log-sums.

A length (Σ|x|^p)^(1/p) is Σ w x with weights of its own, x and y held constant: a layer whose shares are |x|^p / Σ|x|^p, those
of its Taylor expansion. Of a product each factor gets an equal share (uniform rule; Achtibat et al. 2024), of log Σ x what
it is of the sum, and of log Σ eˣ, a smooth maximum, its part in the softmax, which is its derivative as well. Between two
points Σ x² grows by Σ (x + x̃) Δx, and |x| is √x².
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from onnxdtd.graph.emit import Emit, wide
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import places, spread
from onnxdtd.operators.layer import Active, Layer, NotLinear, Slot, count, each_entry, only_first, reduced_axes, shape_of, size
from onnxdtd.operators.norms import pulled
from onnxdtd.operators.secants import At, here, parts, quotient
from onnxdtd.operators.table import NORM, ROUTE, Flow, Operator, Relevance, always, enter, first, if_inputs_are, throughout
from onnxdtd.operators.windows import adjoint_average, window


def spread_out(e: Emit, node: Node, values: Tensor) -> Tensor:
    """What lies as the result of a reduction, with the axes that are gone."""
    if node.attrs.get("keepdims", 1):
        return values
    return e("Unsqueeze", values, reduced_axes(node, len(shape_of(node.inputs[0]))))


# ------------------------------------------------------------------------------------------------------------------- lengths


def power_of(node: Node) -> int:
    """p of the length that a node computes."""
    return {"ReduceL1": 1, "ReduceL2": 2, "ReduceSumSquare": 2}.get(node.op, int(node.attrs.get("p", 2)))


def inner(e: Emit, x: Tensor, p: int) -> Tensor:
    """|x|^p / x"""
    if p <= 2:
        return e("Sign", x) if p == 1 else x
    return e("Mul", e("Sign", x), e("Pow", e("Abs", x), float(p - 1)))


def outer(e: Emit, y: Tensor, p: int) -> Tensor:
    """y / y^p, and 0 where y is"""
    return e("Reciprocal", e("Pow", e("Where", e.equal(y, 0.0), float("inf"), y), float(p - 1)))


def weights(e: Emit, node: Node) -> Tensor:
    """w with y = Σ w x"""
    x, p = node.inputs[0], power_of(node)
    if node.op == "ReduceSumSquare":
        return e.cast(x, wide(x.dtype))
    w = inner(e, x, p)
    return w if p == 1 else e("Mul", w, spread_out(e, node, outer(e, node.outputs[0], p)))


def held_length(e: Emit, node: Node, active: Active) -> Layer:
    """y = Σ w x with w held constant."""
    x, axes = only_first(node, active), reduced_axes(node, len(shape_of(node.inputs[0])))
    forward = lambda x, w: e("ReduceSum", e.mul(x, w), axes, keepdims=node.attrs.get("keepdims", 1))
    return Layer(
        "average", [Slot(x, weights(e, node), forward, lambda s, w: e.mul(spread_out(e, node, s), w))], node.outputs[0]
    )


def length(e: Emit, node: Node, active: Active, at: At) -> Flow:
    """s w, twice that for a sum of squares"""
    if at(node.inputs[0]) is not node.inputs[0]:
        return pulled(node, active, lambda s: e("Mul", spread_out(e, node, s), apart(e, node, at)))
    factor = 2.0 if node.op == "ReduceSumSquare" else 1.0
    return pulled(node, active, lambda s: e.mul(e.mul(spread_out(e, node, s), weights(e, node)), factor))


def apart(e: Emit, node: Node, at: At) -> Tensor:
    """w with Δy = Σ w Δx: x + x̃ over y + ỹ, or over |x| + |x̃| for a sum of these; 0 where both are."""
    (x, *_), y, p = node.inputs, node.outputs[0], power_of(node)
    if p > 2:
        raise NotLinear(f"of Σ|x|^{p} no share of a difference is known")
    total = e("Add", x, at(x))
    if node.op == "ReduceSumSquare":
        return total
    sizes = e("Add", y, at(y)) if p == 2 else e("Add", e("Abs", x), e("Abs", at(x)))
    inverse = e("Reciprocal", e("Where", e.equal(sizes, 0.0), float("inf"), sizes))
    return e("Mul", total, inverse if p == 1 else spread_out(e, node, inverse))


LENGTH = Operator(
    "ReduceL1",
    kind=NORM,
    constant=held_length,
    jacobian=length,
    cost=each_entry,
    sign=always,
    even=throughout,
    axes=spread.reduced,
)
enter(LENGTH, "ReduceL2", "ReduceSumSquare")
enter(replace(LENGTH, op="GlobalLpPool", axes=spread.pooled, channels=places.FIRST))


def held_window_length(e: Emit, node: Node, active: Active) -> Layer:
    """The same over windows: the part of w that belongs to the output stays with that."""
    x, y, p, kernel = only_first(node, active), node.outputs[0], power_of(node), node.attrs["kernel_shape"]
    if node.attrs.get("ceil_mode"):
        raise NotLinear("its last windows reach beyond the end (ceil_mode)")
    attrs = {name: value for name, value in node.attrs.items() if name not in ("p", "ceil_mode")} | {"count_include_pad": 1}
    win, n, far = window(attrs, kernel, shape_of(x)[2:]), float(prod(kernel)), outer(e, y, p) if p > 1 else 1.0
    forward = lambda x, w: e.mul(e.mul(e("AveragePool", e.mul(x, w), **attrs), n), far)
    back = lambda s, w: e.mul(adjoint_average(e, e.mul(e.mul(s, far), n), x, win, attrs), w)
    return Layer("average", [Slot(x, e.cast(inner(e, x, p), wide(x.dtype)), forward, back)], y)


def window_length(e: Emit, node: Node, active: Active, at: At) -> Flow:
    """Aᵀ s of that"""
    if at(node.inputs[0]) is not node.inputs[0]:
        raise NotLinear("of the lengths of windows no share of a difference is known")
    (slot,) = held_window_length(e, node, active).slots
    return pulled(node, active, lambda s: slot.adjoint(s, slot.w))


def _of_windows(node: Node, layer: Layer) -> int:
    """Each output is that of a window."""
    return size(node.outputs[0]) * prod(node.attrs["kernel_shape"])


enter(
    Operator(
        "LpPool",
        kind=NORM,
        constant=held_window_length,
        jacobian=window_length,
        cost=_of_windows,
        sign=always,
        axes=spread.pooled,
        channels=places.FIRST,
    )
)

# ------------------------------------------------------------------------------------------------------------------ products


def product(e: Emit, node: Node, active: Active, at: At) -> Flow:
    """s times the product of all others: y / x where no entry is 0; where one is, that of the others for it, and 0 for them"""
    x, attrs, rank = node.inputs[0], node.attrs, len(shape_of(node.inputs[0]))
    if at(x) is not x:
        raise NotLinear("of a product of many factors no share of a difference is known")
    axes, is_zero = reduced_axes(node, rank), e.equal(x, 0.0)

    def pull_back(s: Tensor) -> Tensor:
        others = e("Where", is_zero, 1.0, x)
        whole = spread_out(e, node, e(node.op, others, *node.inputs[1:], **attrs))
        zeros = e("ReduceSum", e.cast(is_zero, x.dtype), axes, keepdims=1)
        own = e("Sub", zeros, e.cast(is_zero, x.dtype))  # how many of the others are 0
        slope = e("Where", e.equal(own, 0.0), e("Div", whole, others), 0.0)
        return e("Mul", spread_out(e, node, s), slope)

    return pulled(node, active, pull_back)


def equally(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """To each factor as much."""
    x, r = node.inputs[0], first(relevance)
    share = e("Div", spread_out(e, node, r), count(e, x, reduced_axes(node, len(shape_of(x))), r.dtype))
    yield 0, e("Expand", share, e.shape(x))


enter(
    Operator(
        "ReduceProd",
        kind=NORM,
        jacobian=product,
        flow=equally,
        cost=each_entry,
        sign=if_inputs_are,
        keeps_zeros=True,
        axes=spread.reduced,
    )
)

# ------------------------------------------------------------------------------------------------------------------ log-sums


def log_sum(e: Emit, node: Node, active: Active, at: At) -> Flow:
    """s / Σ x, and s Δ log Σ x / Δ Σ x between two points"""
    x = node.inputs[0]
    total = e("ReduceSum", x, reduced_axes(node, len(shape_of(x))), keepdims=1)
    y = spread_out(e, node, node.outputs[0])

    def pull_back(s: Tensor) -> Tensor:
        s = spread_out(e, node, s)
        if at(total) is total:
            return e("Expand", e("Div", s, total), e.shape(x))
        steep = quotient(e, total, y, at, lambda: e("Reciprocal", at(total)))
        return e("Expand", e("Mul", s, steep), e.shape(x))

    return pulled(node, active, pull_back)


def by_size(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """R x / Σ x"""
    x, axes = node.inputs[0], reduced_axes(node, len(shape_of(node.inputs[0])))
    total = e("ReduceSum", x, axes, keepdims=1)
    yield 0, e("Mul", x, e("Div", spread_out(e, node, first(relevance)), total))


enter(
    Operator(
        "ReduceLogSum",
        kind=NORM,
        jacobian=log_sum,
        flow=by_size,
        cost=each_entry,
        keeps_zeros=True,
        axes=spread.reduced,
    )
)


def softly(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """R eˣ / Σ eˣ, where no power is larger than 1: y is at least as large as any x"""
    yield from softly_between(e, node, relevance, here)


def softly_between(e: Emit, node: Node, relevance: Relevance, at: At) -> Iterator[tuple[int, Tensor]]:
    """The same between two points."""
    x, axes = node.inputs[0], reduced_axes(node, len(shape_of(node.inputs[0])))
    raised, share = parts(e, e("Sub", x, spread_out(e, node, node.outputs[0])), axes, at)
    if raised is share:
        share = e("Div", raised, e("ReduceSum", raised, axes, keepdims=1))
    yield 0, e("Mul", share, spread_out(e, node, first(relevance)))


enter(
    Operator(
        "ReduceLogSumExp",
        kind=ROUTE,
        flow=softly,
        between=softly_between,
        sign=if_inputs_are,
        keeps_zeros=False,
        axes=spread.reduced,
    )
)
