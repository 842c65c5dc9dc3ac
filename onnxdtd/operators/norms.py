"""Normalisation by the input's own statistics, and all else in which the entries along some axes decide on each other's scale.

Held constant, lengths and deviations are weights, and the mean is linear: a layer as any other, however it is written. As a
derivative, or between two points, each is known by what it pulls back: a product of the centred entries and a function of
their mean square.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxdtd.graph.emit import Emit, known, wide
from onnxdtd.graph.tensors import Node, Tensor, Value
from onnxdtd.operators import fits, places, spread
from onnxdtd.operators.layer import Active, Layer, NotLinear, Slot, column, count, each_entry, shape_of
from onnxdtd.operators.pointwise import of_first, passes
from onnxdtd.operators.secants import At, middle, parts, quotient
from onnxdtd.operators.table import (
    LENGTH,
    LOGARITHMS,
    MEAN,
    NORM,
    PROBABILITIES,
    Flow,
    Head,
    Operator,
    Relevance,
    always,
    enter,
    first,
    first_input,
    if_inputs_are,
    named,
)

MASKED = -1e4  # scores from here down are those of what a mask has ruled out, whose part in a softmax is 0


def mean(e: Emit, values: Tensor, x: Tensor, axes: Sequence[int]) -> Tensor:
    """The mean of ``values``, of the shape of ``x``, over some axes, which are kept."""
    return e("Div", e("ReduceSum", values, list(axes), keepdims=1), count(e, x, axes, x.dtype))


def standardised(e: Emit, x: Tensor, axes: Sequence[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """The mean μ, 1/√(σ²+ε) and x̂ = (x − μ)/√(σ²+ε) over some axes."""
    mu = mean(e, x, x, axes)
    centred = e("Sub", x, mu)
    inverse = e("Reciprocal", e("Sqrt", e("Add", mean(e, e("Mul", centred, centred), x, axes), epsilon)))
    return mu, inverse, e("Mul", centred, inverse)


def pulled(node: Node, active: Active, pull_back: Callable[[Tensor], Tensor]) -> Flow:
    """The gradient through a function of its first input, by its vector-Jacobian product."""
    of_first(node, active)
    return lambda e, node, relevance: iter([(0, pull_back(first(relevance)))])


def _steep(e: Emit, c: Tensor, inverse: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """r̄ and u with Δ(c r) = r̄ (Δc − u mean(u Δc)) for r = 1/√(mean c² + ε): the middle r̄ of r and r̃, and u = c̄ r r̃ / r̄.

    It is r̄ Δc + c̄ Δr, and Δr = −(r r̃)²/(r + r̃) Δ(mean c²) with Δ(mean c²) = 2 mean(c̄ Δc).
    """
    middles = middle(e, inverse, at(inverse))
    if at(c) is c:
        return middles, e("Mul", c, inverse)
    return middles, e("Mul", middle(e, c, at(c)), e("Div", e("Mul", inverse, at(inverse)), middles))


def _pulled(e: Emit, x: Tensor, g: Tensor, axes: Sequence[int], epsilon: float, at: At) -> Tensor:
    mu, r, _ = standardised(e, x, axes, epsilon)
    inverse, hat = _steep(e, e("Sub", x, mu), r, at)
    centred = e("Sub", g, mean(e, g, x, axes))
    return e("Mul", e("Sub", centred, e("Mul", hat, mean(e, e("Mul", g, hat), x, axes))), inverse)


def _centred(
    e: Emit, x: Tensor, c: Tensor, n: Value, total: Callable[[Value], Tensor], beta: Tensor | None, y: Tensor
) -> Layer:
    """y = c (x − μ) + β, c held constant: of x_i, and of the mean, −c/n of each x_j that ``total`` sums up for i."""
    w = e.mul(c, -1.0 / n) if isinstance(n, float) else e("Neg", e("Div", c, n))
    spread_sum = lambda values: e("Expand", total(values), e.shape(x))
    own = Slot(x, c, e.mul, e.mul, elementwise=True)
    others = Slot(x, w, lambda x, w: e.mul(spread_sum(x), w), lambda s, w: spread_sum(e.mul(s, w)))

    def whole(s: Tensor) -> Tensor:
        """c s − mean(c s)"""
        g = e("Mul", s, c)
        return e("Sub", g, e("Div", total(g), n))

    return Layer("sum", [own, others], y, beta, whole=whole)


def _scaled(e: Emit, x: Tensor, axes: list[int], epsilon: float, gamma: Tensor, beta: Tensor | None, y: Tensor) -> Layer:
    """y = γ (x − μ)/σ + β with σ held constant; the mean μ is linear."""
    _, inverse, _ = standardised(e, x, axes, epsilon)
    total = lambda values: e("ReduceSum", values, axes, keepdims=1)
    return _centred(e, x, e("Mul", inverse, gamma), count(e, x, axes, x.dtype), total, beta, y)


def last_axes(node: Node, rank: int) -> range:
    """From the one that a node names on."""
    return range(node.attrs.get("axis", -1) % rank, rank)


def one_axis(node: Node, rank: int) -> list[int]:
    """The one that a node names."""
    return [node.attrs.get("axis", -1)]


def layer_normalization(e: Emit, node: Node, active: Active, at: At) -> Flow:
    """(g − mean g − x̂ mean(g x̂))/σ with g = γ s"""
    x = node.inputs[0]
    axes = list(last_axes(node, len(shape_of(x))))
    epsilon = float(node.attrs.get("epsilon", 1e-5))
    return pulled(node, active, lambda s: _pulled(e, x, e("Mul", s, node.inputs[1]), axes, epsilon, at))


def held_layer_normalization(e: Emit, node: Node, active: Active) -> Layer:
    """Over the last axes."""
    x = node.inputs[0]
    axes = list(last_axes(node, len(shape_of(x))))
    beta = node.inputs[2] if len(node.inputs) > 2 and not node.inputs[2].left_out else None
    return _scaled(e, x, axes, float(node.attrs.get("epsilon", 1e-5)), node.inputs[1], beta, node.outputs[0])


enter(
    Operator(
        "LayerNormalization",
        kind=NORM,
        constant=held_layer_normalization,
        jacobian=layer_normalization,
        cost=each_entry,
        forgets=(MEAN, LENGTH),
        along=last_axes,
        axes=spread.normalised(last_axes),
        learned=slice(1, None),
        fits=fits.broadcasts,
    )
)


def root_mean_square(e: Emit, node: Node) -> tuple[Tensor, list[int]]:
    """1/√(mean x² + ε) over the last axes, and these."""
    x = node.inputs[0]
    axes = list(last_axes(node, len(shape_of(x))))
    total = e("Add", mean(e, e("Mul", x, x), x, axes), float(node.attrs.get("epsilon", 1e-5)))
    return e("Reciprocal", e("Sqrt", total)), axes


def rms_normalization(e: Emit, node: Node, active: Active, at: At) -> Flow:
    """(g − x̂ mean(g x̂))/r with g = γ s and x̂ = x/r"""
    x, (r, axes) = node.inputs[0], root_mean_square(e, node)
    inverse, hat = _steep(e, x, r, at)

    def pull_back(s: Tensor) -> Tensor:
        g = e("Mul", s, node.inputs[1])
        return e("Mul", e("Sub", g, e("Mul", hat, mean(e, e("Mul", g, hat), x, axes))), inverse)

    return pulled(node, active, pull_back)


def held_rms_normalization(e: Emit, node: Node, active: Active) -> Layer:
    """y = γ x/r with r held constant."""
    w = e("Mul", root_mean_square(e, node)[0], node.inputs[1])
    return Layer("affine", [Slot(node.inputs[0], w, e.mul, e.mul, elementwise=True)], node.outputs[0])


enter(
    replace(
        named("LayerNormalization"),
        op="RMSNormalization",
        constant=held_rms_normalization,
        jacobian=rms_normalization,
        forgets=(LENGTH,),
    )
)


def instance_normalization(e: Emit, node: Node, active: Active, at: At) -> Flow:
    """The same over the positions of each channel"""
    x, rank = node.inputs[0], len(shape_of(node.inputs[0]))
    gamma = e("Reshape", node.inputs[1], [-1] + [1] * (rank - 2))
    axes, epsilon = list(range(2, rank)), float(node.attrs.get("epsilon", 1e-5))
    return pulled(node, active, lambda s: _pulled(e, x, e("Mul", s, gamma), axes, epsilon, at))


def held_instance_normalization(e: Emit, node: Node, active: Active) -> Layer:
    """Over the positions of each channel."""
    (x, *vectors), rank = node.inputs, len(shape_of(node.inputs[0]))
    gamma, beta = (column(e, vector, rank) for vector in vectors)
    return _scaled(e, x, list(range(2, rank)), float(node.attrs.get("epsilon", 1e-5)), gamma, beta, node.outputs[0])


enter(
    Operator(
        "InstanceNormalization",
        kind=NORM,
        constant=held_instance_normalization,
        jacobian=instance_normalization,
        cost=each_entry,
        axes=spread.normalised(lambda node, rank: range(2, rank)),
        places=places.still,
        channels=places.FIRST,
        learned=slice(1, None),
        fits=fits.channels,
    )
)


def grouped(e: Emit, node: Node) -> Tensor:
    """The input of a GroupNormalization as [batch, groups, entries]."""
    x, groups = node.inputs[0], node.attrs["num_groups"]
    sizes = known(shape_of(x)[1:])
    return e("Reshape", x, [0, groups, -1], shape=[None, groups, None if sizes is None else math.prod(sizes) // groups])


def group_normalization(e: Emit, node: Node, active: Active, at: At) -> Flow:
    """The same over each group of channels"""
    x, epsilon = node.inputs[0], float(node.attrs.get("epsilon", 1e-5))
    rows, groups = grouped(e, node), [0, node.attrs["num_groups"], -1]
    gamma = e("Reshape", node.inputs[1], [-1] + [1] * (len(shape_of(x)) - 2))

    def pull_back(s: Tensor) -> Tensor:
        g = e("Reshape", e("Mul", s, gamma), groups)
        return e("Reshape", _pulled(e, rows, g, [2], epsilon, at), e.shape(x))

    return pulled(node, active, pull_back)


def held_group_normalization(e: Emit, node: Node, active: Active) -> Layer:
    """Over each group of channels; 1/σ of a group holds for every channel in it."""
    x, groups, rank = node.inputs[0], node.attrs["num_groups"], len(shape_of(node.inputs[0]))
    (_, *vectors), channels = node.inputs, shape_of(x)[1]
    if channels is None:
        raise NotLinear("the number of channels is unknown")
    gamma, beta = (column(e, vector, rank) for vector in vectors)
    rows = grouped(e, node)
    _, inverse, _ = standardised(e, rows, [2], float(node.attrs.get("epsilon", 1e-5)))
    wide, thin = [1, groups, channels // groups], [0, channels] + [1] * (rank - 2)
    each = lambda values: e("Reshape", e("Expand", values, wide), thin)

    def total(values: Value) -> Tensor:
        return each(e("ReduceSum", e("Reshape", values, [0, groups, -1]), [2], keepdims=1))

    return _centred(e, x, e("Mul", each(inverse), gamma), count(e, rows, [2], x.dtype), total, beta, node.outputs[0])


enter(
    Operator(
        "GroupNormalization",
        kind=NORM,
        constant=held_group_normalization,
        jacobian=group_normalization,
        cost=each_entry,
        axes=spread.normalised(lambda node, rank: range(1, rank)),
        places=places.still,
        channels=places.FIRST,
        learned=slice(1, None),
    )
)


def _without_nan(e: Emit, y: Tensor) -> Tensor:
    """Softmax without the rows that are masked as a whole, if they are made 0 behind it."""
    return e("Where", e("IsNaN", y), 0.0, y) if any(reader.op == "IsNaN" for reader in y.readers) else y


def softmax(e: Emit, node: Node, active: Active, at: At) -> Flow:
    """y (s − Σ s y), and for the logarithm s − p Σ s; between two points λ (s − Σ s λ / Σ λ) and s − λ / Σ λ Σ s"""
    (x, *_), (y, *_), axis = node.inputs, node.outputs, node.attrs.get("axis", -1)
    size = share = y = _without_nan(e, y)
    if node.op == "LogSoftmax" or at(x) is not x:
        size, share = parts(e, y if node.op == "LogSoftmax" else e("LogSoftmax", x, axis=axis), [axis], at)

    def pull_back(s: Tensor) -> Tensor:
        if node.op == "LogSoftmax":
            return e("Sub", s, e("Mul", share, e("ReduceSum", s, [axis], keepdims=1)))
        return e("Mul", size, e("Sub", s, e("ReduceSum", e("Mul", s, share), [axis], keepdims=1)))

    return pulled(node, active, pull_back)


def pulled_by(e: Emit, node: Node, s: Tensor, total: Tensor) -> Tensor:
    """y (s − Σ s y) of a softmax, given the sum."""
    return e("Mul", _without_nan(e, node.outputs[0]), e("Sub", s, total))


def held_softmax(e: Emit, node: Node, active: Active) -> Layer:
    """e^(x − m) / Σ with the sum and m, one less than the smallest x, held constant: what hands on relevance is x − m, a layer
    with a bias. It is at least 1, so that relevance speaks for a class where x does, however small that is.
    """
    x, axis = node.inputs[0], node.attrs.get("axis", -1)
    smallest, _ = e.multi("TopK", [None, np.dtype(np.int64)], x, [1], axis=axis, largest=0)
    slot = Slot(x, 1.0, e.mul, e.mul, elementwise=True)
    return Layer("affine", [slot], node.outputs[0], e("Sub", e.constant(np.asarray(1, smallest.dtype)), smallest), exact=False)


def held_log_softmax(e: Emit, node: Node, active: Active) -> Layer:
    """y = x − log Σ e^x with the sum held constant."""
    x, y = node.inputs[0], node.outputs[0]
    return Layer("affine", [Slot(x, 1.0, e.mul, e.mul, elementwise=True)], y, e("Sub", y, x), one_to_one=True)


def expanded_softmax(e: Emit, node: Node, active: Active) -> Flow:
    """x ⊙ (R − p Σ R): of y_j ≈ Σ_i p_j (δ_ij − p_i) x_i + b_j each x_i has its part, and the constants b_j keep theirs
    (Achtibat et al. 2024). Scores that a mask has made next to −∞ have nothing.
    """
    x, (y, *_), axis = of_first(node, active), node.outputs, node.attrs.get("axis", -1)
    x = e.finite(e.cast(x, wide(x.dtype)))
    shown = e("Where", e("Greater", x, MASKED), x, 0.0)

    def flow(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
        r = first(relevance)
        total = e("ReduceSum", r, [axis], keepdims=1)
        yield 0, e("Mul", shown, e("Sub", r, e("Mul", _without_nan(e, y), total)))

    return flow


def expanded_log_softmax(e: Emit, node: Node, active: Active) -> Layer:
    """y_j ≈ x_j − Σ_i p_i x_i + b_j"""
    x, y, axis = of_first(node, active), node.outputs[0], node.attrs.get("axis", -1)
    p = e("Exp", y)
    total = lambda values: e("Expand", e("ReduceSum", values, [axis], keepdims=1), e.shape(x))
    own = Slot(x, 1.0, e.mul, e.mul, elementwise=True)
    others = Slot(x, e("Neg", p), lambda x, w: total(e.mul(x, w)), lambda s, w: e.mul(total(s), w))
    return Layer("sum", [own, others], y, e("Add", e("Sub", y, x), total(e("Mul", p, x))))


enter(
    Operator(
        "Softmax",
        kind=NORM,
        constant=held_softmax,
        jacobian=softmax,
        expansion=expanded_softmax,
        cost=each_entry,
        sign=always,
        gate=2,
        axes=spread.normalised(one_axis),
        head=Head(gives=PROBABILITIES, along=-1),
        before=first_input,
    )
)

enter(
    Operator(
        "LogSoftmax",
        kind=NORM,
        constant=held_log_softmax,
        jacobian=softmax,
        expansion=expanded_log_softmax,
        cost=each_entry,
        axes=spread.normalised(one_axis),
        head=Head(gives=LOGARITHMS, along=-1),
        before=first_input,
    )
)


def lrn(e: Emit, node: Node, active: Active, at: At) -> Flow:
    """With n = k + α/size Σ x² over neighbouring channels: s n^(−β) − 2 (α/size) β x Σ s x n^(−β−1)"""
    x, rank = node.inputs[0], len(shape_of(node.inputs[0]))
    size, beta = node.attrs["size"], float(node.attrs.get("beta", 0.75))
    scale, k = float(node.attrs.get("alpha", 1e-4)) / size, float(node.attrs.get("bias", 1.0))
    before = (size - 1) // 2

    def window_sum(t: Tensor, before: int) -> Tensor:
        """Over ``size`` channels, ``before`` of them in front."""
        pads = [0, before] + [0] * (rank - 2) + [0, size - 1 - before] + [0] * (rank - 2)
        padded, channels = e.framed(t, pads), e.shape(x, 1, 2)
        return e.sum([e("Slice", padded, [i], e("Add", channels, [i]), [1]) for i in range(size)])

    def pull_back(s: Tensor) -> Tensor:
        norm = e("Add", e("Mul", window_sum(e("Mul", x, x), before), scale), k)
        shrink, centre = e("Pow", norm, -beta), middle(e, x, at(x))
        falls = e("Div", shrink, norm)  # times −β the slope of that
        if at(norm) is not norm:
            falls = e("Mul", quotient(e, norm, shrink, at, lambda: e("Mul", at(falls), -beta)), -1 / beta)
        around = window_sum(e("Mul", e("Mul", s, centre), falls), size - 1 - before)
        own = e("Mul", s, middle(e, shrink, at(shrink)))
        return e("Sub", own, e("Mul", e("Mul", centre, around), 2 * scale * beta))

    return pulled(node, active, pull_back)


enter(
    Operator(
        "LRN",
        kind=NORM,
        jacobian=lrn,
        # its denominator is ignored in the backward pass (Montavon et al. 2017, supplement, section 4)
        flow=passes,
        cost=each_entry,
        sign=if_inputs_are,
        axes=spread.normalised(lambda node, rank: [1]),
        places=places.still,
        channels=places.FIRST,
    )
)


def length_of(node: Node) -> tuple[str, int]:
    """By which length vectors are divided, and along which axis they lie."""
    if node.op == "LpNormalization":
        return f"L{node.attrs.get('p', 2)}", node.attrs.get("axis", -1) % len(shape_of(node.inputs[0]))
    return node.attrs.get("norm", "MAX"), len(shape_of(node.inputs[0])) - 1


def vector_length(e: Emit, node: Node) -> tuple[Tensor, Tensor | None]:
    """What each vector is divided by, 1 where that would be 0; for MAX also where the largest entry is."""
    x, (norm, axis), winner = node.inputs[0], length_of(node), None
    if norm == "MAX":
        total, winner = e.multi("TopK", [None, np.dtype(np.int64)], x, [1], axis=axis)
    else:
        total = e("ReduceSum", e("Abs", x) if norm == "L1" else e("Mul", x, x), [axis], keepdims=1)
    length = e("Sqrt", total) if norm == "L2" else total
    return e("Where", e.equal(length, 0.0), 1.0, length), winner


def normalizer(e: Emit, node: Node, active: Active, at: At) -> Flow:
    """(s − n′ Σ s y)/n with n′ = y for the length n of a vector, the sign for its sum, 1 at the largest entry for that"""
    x, y, (norm, axis) = node.inputs[0], node.outputs[0], length_of(node)
    if at(x) is not x:
        raise NotLinear("its share of a difference is not known where a vector has no length")
    length, winner = vector_length(e, node)

    def pull_back(s: Tensor) -> Tensor:
        shared = e("ReduceSum", e("Mul", s, y), [axis], keepdims=1)
        if winner is None:
            back = e("Mul", y if norm == "L2" else e("Sign", x), shared)
        else:
            back = e("ScatterElements", e.full(0.0, e.shape(x), s.dtype), winner, shared, axis=axis)
        return e("Div", e("Sub", s, back), length)

    return pulled(node, active, pull_back)


def held_normalizer(e: Emit, node: Node, active: Active) -> Layer:
    """y = x / n with the length n of a vector held constant."""
    x, (length, _) = node.inputs[0], vector_length(e, node)
    return Layer("affine", [Slot(x, e("Reciprocal", length), e.mul, e.mul, elementwise=True)], node.outputs[0])


NORMALIZER = Operator(
    "Normalizer",
    kind=NORM,
    constant=held_normalizer,
    jacobian=normalizer,
    cost=each_entry,
    forgets=(LENGTH,),
    along=one_axis,
    axes=spread.normalised(one_axis),
)
enter(replace(NORMALIZER, head=Head(gives=PROBABILITIES, rescales=True), before=first_input))
enter(replace(NORMALIZER, op="LpNormalization", places=places.still))
