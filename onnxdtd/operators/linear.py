"""Every operator that is linear in an input: a pair of maps that accept any weight, A(w) x and A(w)ᵀ s.

A layer may have several inputs (a residual Add has two), each a ``Slot`` with its own pair of maps:
y = Σ_slots A(w) x + b. The weight is a tensor of the graph, so a rule may hand in w⁺ or w² instead; where the matrix has
no weights of its own (an average, a sum, a residual Add) the weight is the number that the fixed, non-negative
matrix is multiplied by. To support another operator, enter it with a function that returns its ``Layer``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from onnxdtd.graph.emit import Emit, dims, wide
from onnxdtd.graph.tensors import Node, Tensor, Value, as_tensor
from onnxdtd.operators import fits, heads, narrowed, places, sizes, spread
from onnxdtd.operators.layer import (
    Active,
    Layer,
    NotLinear,
    Slot,
    column,
    count,
    each_entry,
    only_first,
    optional,
    reduced_axes,
    reread,
    shape_of,
    size,
    sizes_of,
    weight_shape,
)
from onnxdtd.operators.table import LINEAR, PRODUCT, Cut, Operator, enter, if_inputs_are, in_blocks, of, of_one_shape
from onnxdtd.operators.windows import BLOCK, adjoint_average, adjoint_conv, exchangeable, flipped_pads, rounded, window


def conv(e: Emit, node: Node, active: Active) -> Layer:
    """y = w ∗ x + b"""
    x, w, y, group = only_first(node, active), node.inputs[1], node.outputs[0], node.attrs.get("group", 1)
    shape, b = weight_shape(w), optional(node, 2)
    win = window(node.attrs, shape[2:], (dims(x) or [None] * len(shape))[2:])
    slot = Slot(
        x,
        w,
        forward=lambda x, w: e("Conv", x, w, **node.attrs),
        adjoint=lambda s, w: adjoint_conv(e, s, as_tensor(w), shape, x, win, (dims(y) or [])[2:], group),
        batched=True,
        few=shape[1] if group == 1 and shape[1] <= BLOCK // 2 and flipped_pads(win) else 0,
        blocked=shape[1] * group if len(shape) == 4 else 0,
        least=None if win.begin is None or any(win.begin + (win.end or ())) else [1, shape[1] * group, *win.extent],
    )
    scaled = lambda w, g: e("Mul", w, e("Reshape", g, [-1] + [1] * (len(shape) - 1)))
    return Layer("conv", [slot], y, None if b is None else column(e, b, len(shape)), per_channel=scaled)


def _of_outputs(node: Node, layer: Layer) -> int:
    """Each output is a sum over a window."""
    return size(node.outputs[0]) * size(node.inputs[1], 1)


def _of_window(node: Node) -> int:
    """A window for each entry"""
    return size(node.inputs[1], 1)


enter(
    Operator(
        "Conv",
        kind=LINEAR,
        linear=conv,
        cost=_of_outputs,
        blocked=_of_window,
        axes=spread.windows,
        channels=places.FIRST,
        narrowed=narrowed.filtered,
        learned=slice(1, None),
        fits=fits.conv,
    )
)


def conv_transpose(e: Emit, node: Node, active: Active) -> Layer:
    """The adjoint of a convolution; its own adjoint is that convolution, with the same weight."""
    x, w, y, group = only_first(node, active), node.inputs[1], node.outputs[0], node.attrs.get("group", 1)
    shape, b = weight_shape(w), optional(node, 2)
    if node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in node.attrs:
        raise NotLinear("its padding is given by auto_pad or output_shape, not by pads")
    keep = {name: node.attrs[name] for name in ("pads", "strides", "dilations", "group") if name in node.attrs}
    sizes = e.shape(x, 2)

    def adjoint(s: Tensor, w: Value) -> Tensor:
        # Output padding of a whole stride or more would let the convolution see one window too many.
        back = e("Conv", s, reread(e, w, exchangeable(shape, group)), **keep)
        return e("Slice", back, [0] * (len(shape) - 2), sizes, list(range(2, len(shape))))

    slot = Slot(x, w, lambda x, w: e("ConvTranspose", x, w, **node.attrs), adjoint, batched=True)
    scaled = None
    if group == 1:
        scaled = lambda w, g: e("Mul", w, e("Reshape", g, [1, -1] + [1] * (len(shape) - 2)))
    return Layer("conv", [slot], y, None if b is None else column(e, b, len(shape)), per_channel=scaled)


def _of_inputs(node: Node, layer: Layer) -> int:
    """Each input is spread over a window."""
    return size(node.inputs[0]) * size(node.inputs[1], 1)


enter(
    Operator(
        "ConvTranspose",
        kind=LINEAR,
        linear=conv_transpose,
        cost=_of_inputs,
        axes=spread.windows,
        channels=places.FIRST,
        learned=slice(1, None),
        fits=fits.conv_transpose,
    )
)


def gemm(e: Emit, node: Node, active: Active) -> Layer:
    """Y = α op(A) op(B) + β C with one or more of A, B, C depending on the input (A and B not both)."""
    (a, b), c, y = node.inputs[:2], optional(node, 2), node.outputs[0]
    flags = {name: node.attrs.get(name, 0) for name in ("transA", "transB")}
    alpha, beta, slots = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0)), []

    def product(x: Tensor, w: Tensor, trans_x: int, trans_w: int) -> Tensor:
        flags: dict[str, Any] = {name: 1 for name, on in (("transA", trans_x), ("transB", trans_w)) if on}
        return e("Gemm", x, w, **flags)

    ta, tb = flags["transA"], flags["transB"]
    if active(a) and active(b):
        raise NotLinear("both factors depend on the input")
    if active(a):
        forward = lambda x, w: product(x, w, ta, tb)
        back = lambda s, w: product(w, s, tb, 1) if ta else rows_back(e, s, w, dims(b) or [None, None], not tb)
        slots.append(Slot(a, e.mul(b, alpha), forward, back, batched=not ta))
    elif active(b):
        forward = lambda x, w: product(w, x, ta, tb)
        back = lambda s, w: product(s, w, 1, ta) if tb else product(w, s, 1 - ta, 0)
        slots.append(Slot(b, e.mul(a, alpha), forward, back))
    bias = None if c is None or active(c) else e.mul(c, beta)
    if c is not None and active(c):
        bias = None if slots else product(e.mul(a, alpha), b, ta, tb)
        slots.append(sum_slot(e, c, y, beta))
    scaled = lambda w, g: e("Mul", w, e("Reshape", g, [-1, 1] if tb else [1, -1]))
    return Layer("dense", slots, y, bias, per_channel=scaled if len(slots) == 1 and active(a) else None)


def _of_rows(node: Node, layer: Layer) -> int:
    """Each output is a sum over a row of the first factor."""
    return size(node.outputs[0]) * (_of_row(node) or 1)


def _of_row(node: Node) -> int | None:
    """The length of a row of the first factor, None where it is known at run time only"""
    return (dims(node.inputs[0]) or [1, 1])[0 if node.attrs.get("transA") else -1]


enter(
    Operator(
        "Gemm",
        kind=PRODUCT,
        linear=gemm,
        cost=_of_rows,
        again=_of_row,
        axes=spread.gemm,
        channels=places.LAST,
        learned=slice(None),
        fits=fits.gemm,
    )
)


def matmul(e: Emit, node: Node, active: Active) -> Layer:
    """y = x w or y = w x, where leading axes broadcast and vectors are allowed, as in numpy."""
    (left, right), y = node.inputs, node.outputs[0]
    if active(left) and active(right):
        raise NotLinear("both factors depend on the input")
    x, w = (left, right) if active(left) else (right, left)
    rank_x, rank_w = len(shape_of(x)), len(shape_of(w))
    if rank_x == 1 and rank_w > 2:
        raise NotLinear("it multiplies a vector by a stack of matrices")
    adjoint = _left_adjoint(e, x, w) if active(left) else _right_adjoint(e, rank_w, rank_x)
    if rank_x >= 2 and rank_w > 2:  # leading axes of x may have been repeated
        before, product = adjoint, [*(y.shape or ())[:-2], *shape_of(x)[-2:]]
        adjoint = lambda s, w: e.unbroadcast(before(s, w), product, x)
    forward = (lambda x, w: e("MatMul", x, w)) if active(left) else (lambda x, w: e("MatMul", w, x))
    scaled = (lambda w, g: e("Mul", w, g)) if active(left) and rank_x == rank_w == 2 else None
    batched = active(left) and rank_x >= 2 and rank_w == 2
    return Layer("dense", [Slot(x, w, forward, adjoint, batched)], y, per_channel=scaled)


enter(
    Operator(
        "MatMul",
        kind=PRODUCT,
        linear=matmul,
        cost=_of_rows,
        again=_of_row,
        sign=if_inputs_are,
        axes=spread.matmul,
        channels=places.LAST,
        narrowed=narrowed.mixed,
        learned=slice(None),
    )
)


def columns_of(e: Emit, node: Node, layer: Layer, cut: Cut) -> Layer:
    """The layer of a product x W with some of its outputs alone, those of ``cut``."""

    def own(t: Tensor, axis: int) -> Tensor:
        shape = list(sizes_of(t))
        shape[axis] = cut.end - cut.start
        return e("Slice", t, [cut.start], [cut.end], [axis], shape=shape)

    inputs, build = [node.inputs[0], own(node.inputs[1], 0 if node.attrs.get("transB") else 1)], of(node).linear
    assert build is not None
    made = build(e, replace(node, inputs=inputs, outputs=[own(layer.y, -1)]), lambda t: t is inputs[0])
    alike = layer.b is None or (dims(layer.b) or [1])[-1] == 1
    bias = layer.b if layer.b is None or alike else own(layer.b, -1)
    return replace(made, b=bias, exact=layer.exact, denominator=layer.denominator)


def rows_back(e: Emit, s: Tensor, w: Value, sizes: Sequence[int | None], turned: bool) -> Tensor:
    """s w or s wᵀ, of weights that the forward pass reads the other way round. ``reread`` tells of those whose ``sizes`` make a
    square; here another factor is enough for OpenVINO to keep the two products apart, and no second tensor is needed.
    """
    flags: dict[str, Any] = {"transB": 1} if turned else {}
    if sizes[0] is None or sizes[0] != sizes[1]:
        return e("Gemm", s, w, **flags)
    return e("Neg", e("Gemm", s, w, alpha=-1.0, **flags))


def _transpose(e: Emit, w: Value, rank: int) -> Tensor:
    return e("Transpose", w, perm=[*range(rank - 2), rank - 1, rank - 2])


def _left_adjoint(e: Emit, x: Tensor, w: Tensor) -> Callable[[Tensor, Value], Tensor]:
    """Of x -> x w."""
    rank_x, sizes = len(shape_of(x)), shape_of(w)
    if len(sizes) == 1:
        return lambda s, w: e("Mul", e("Unsqueeze", s, [-1]), w)
    if len(sizes) > 2 or rank_x < 2 or sizes[1] is None:
        return lambda s, w: e("MatMul", s, _transpose(e, w, len(sizes)))
    # As rows times a matrix that Gemm transposes: of a constant, a runtime would make a transposed copy while it loads.
    if rank_x == 2:
        return lambda s, w: rows_back(e, s, w, sizes, True)
    rows, own = [-1, sizes[1]], shape_of(x)
    product = lambda s, w: rows_back(e, e("Reshape", s, rows), w, sizes, True)
    if own.count(None) == 1 and 0 not in own:  # nobody needs to look at x, which a runtime may then fuse
        return lambda s, w: e("Reshape", product(s, w), [-1 if size is None else size for size in own])
    return lambda s, w: e("Reshape", product(s, w), e.shape(x), allowzero=1)


def _right_adjoint(e: Emit, rank_w: int, rank_x: int) -> Callable[[Tensor, Value], Tensor]:
    """Of x -> w x."""
    if rank_w == 1 and rank_x == 1:
        return lambda s, w: e("Mul", w, s)
    if rank_w == 1:
        return lambda s, w: e("Mul", e("Unsqueeze", w, [-1]), e("Unsqueeze", s, [-2]))
    if rank_x == 1:
        return lambda s, w: e("MatMul", s, w)
    return lambda s, w: e("MatMul", _transpose(e, w, rank_w), s)


def sum_slot(e: Emit, x: Tensor, y: Tensor, w: float = 1.0) -> Slot:
    """A term of a sum: y = w x + ..., where x may be repeated along some axes."""
    shape = sizes_of(y)
    return Slot(x, w, e.mul, lambda s, w: e.mul(e.unbroadcast(s, shape, x), w), elementwise=True)


def add(e: Emit, node: Node, active: Active) -> Layer:
    """y = x₁ ± x₂ ± ...; terms that do not depend on the input are the bias."""
    y, slots, bias = node.outputs[0], [], []
    for position, term in enumerate(node.inputs):
        sign = -1.0 if node.op == "Sub" and position else 1.0
        if active(term):
            slots.append(sum_slot(e, term, y, sign))
        else:
            bias.append(e.mul(term, sign))
    b = e.sum(bias) if bias else None
    if len(slots) > 1:
        return Layer("sum", slots, y, b)
    return Layer("affine", slots, y, b, one_to_one=dims(slots[0].x) == dims(y))


ENTRYWISE = Operator("", kind=LINEAR, cost=each_entry, again=in_blocks, axes=spread.broadcast, places=places.still)
enter(
    replace(
        ENTRYWISE,
        op="Add",
        linear=add,
        blocked=of_one_shape,
        sign=if_inputs_are,
        on_the_way=True,
        counted=sizes.total,
        learned=slice(None),
        before=heads.before_sum,
    )
)

enter(replace(ENTRYWISE, op="Sub", linear=add, on_the_way=True, counted=sizes.difference, learned=slice(None)))

enter(replace(ENTRYWISE, op="Sum", linear=add, blocked=of_one_shape, sign=if_inputs_are, learned=slice(None)))


def scale(e: Emit, node: Node, active: Active) -> Layer:
    """y = w x with one weight for each entry: a diagonal matrix."""
    (left, right), y = node.inputs, node.outputs[0]
    if active(left) and active(right):
        raise NotLinear("both factors depend on the input")
    if node.op == "Div" and active(right):
        raise NotLinear("it divides by a tensor that depends on the input")
    x, w = (left, right) if active(left) else (right, left)
    shape = sizes_of(y)
    factor = e("Reciprocal", w, shape=w.shape) if node.op == "Div" else w
    slot = Slot(x, factor, e.mul, lambda s, w: e.unbroadcast(e.mul(s, w), shape, x), elementwise=True)
    return Layer("affine", [slot], y, one_to_one=dims(x) == dims(y))


enter(
    replace(
        ENTRYWISE,
        op="Mul",
        kind=PRODUCT,
        linear=scale,
        blocked=of_one_shape,
        sign=if_inputs_are,
        on_the_way=True,
        counted=sizes.product,
        learned=slice(None),
    )
)

enter(
    replace(
        ENTRYWISE,
        op="Div",
        kind=PRODUCT,
        linear=scale,
        sign=if_inputs_are,
        on_the_way=True,
        counted=sizes.quotient,
        # nothing that is learned: a number drawn near zero would blow everything up
        before=heads.before_quotient,
    )
)


def mean(e: Emit, node: Node, active: Active) -> Layer:
    """The mean of several tensors"""
    part, y = 1.0 / len(node.inputs), node.outputs[0]
    bias = [e.mul(t, part) for t in node.inputs if not active(t)]
    slots = [sum_slot(e, t, y, part) for t in node.inputs if active(t)]
    b = e.sum(bias) if bias else None
    return Layer("sum" if len(slots) > 1 else "affine", slots, y, b, one_to_one=len(slots) == 1 and dims(slots[0].x) == dims(y))


enter(replace(ENTRYWISE, op="Mean", linear=mean, sign=if_inputs_are))


def negate(e: Emit, node: Node, active: Active) -> Layer:
    """y = −x"""
    x, y = node.inputs[0], node.outputs[0]
    return Layer("affine", [Slot(x, -1.0, e.mul, e.mul, elementwise=True)], y, one_to_one=True)


enter(Operator("Neg", kind=LINEAR, linear=negate, cost=each_entry, axes=spread.broadcast, places=places.still))


def scatter_add(e: Emit, node: Node, active: Active) -> Layer:
    """y = x + Σ updates, each added in its place: a sum as any other, whose second adjoint reads these places."""
    (x, index, updates), y = node.inputs, node.outputs[0]
    if node.op == "ScatterND":
        read = lambda s: e("GatherND", s, index)
    else:
        read = lambda s: e("GatherElements", s, index, axis=node.attrs.get("axis", 0))
    nothing = e.full(0.0, e.shape(x), wide(x.dtype))
    forward = lambda u, w: e(node.op, nothing, index, e.mul(u, w), **node.attrs)
    added = Slot(updates, 1.0, forward, lambda s, w: e.mul(read(s), w))
    slots = [slot for slot in (sum_slot(e, x, y), added) if active(slot.x)]
    bias = None if len(slots) > 1 else x if active(updates) else forward(updates, 1.0)
    return Layer("sum", slots, y, bias)


SCATTERED = replace(ENTRYWISE, linear=scatter_add, sign=if_inputs_are, places=None)
enter(replace(SCATTERED, op="ScatterElements.add", axes=spread.scattered))
enter(replace(SCATTERED, op="ScatterND.add", axes=spread.scattered_nd))


def cum_sum(e: Emit, node: Node, active: Active) -> Layer:
    """y_t = Σ_{s ≤ t} x_s; the adjoint sums from the other end."""
    x, axis, y = only_first(node, active), node.inputs[1], node.outputs[0]
    back = {**node.attrs, "reverse": 1 - node.attrs.get("reverse", 0)}
    forward = lambda x, w: e.mul(e("CumSum", x, axis, **node.attrs), w)
    return Layer("average", [Slot(x, 1.0, forward, lambda s, w: e("CumSum", e.mul(s, w), axis, **back))], y)


enter(Operator("CumSum", kind=LINEAR, linear=cum_sum, cost=each_entry, sign=if_inputs_are, axes=spread.cumulated))


def _positions(node: Node, rank: int) -> list[int]:
    """All axes behind the channels"""
    return list(range(2, rank))


def batch_norm(e: Emit, node: Node) -> tuple[Tensor, Tensor]:
    """γ/√(σ²+ε) and β − μγ/√(σ²+ε), the factor and the shift of each channel."""
    _, gamma, beta, mean, variance = node.inputs
    root = e("Sqrt", e("Add", variance, float(node.attrs.get("epsilon", 1e-5))))
    factor = e("Div", gamma, root)
    return factor, e("Sub", beta, e("Mul", mean, factor))


def batch_normalization(e: Emit, node: Node, active: Active) -> Layer:
    """y = γ (x − μ)/√(σ²+ε) + β with the statistics of training; diagonal where it is not part of the layer before it."""
    x, y = only_first(node, active), node.outputs[0]
    if node.attrs.get("training_mode"):
        raise NotLinear("it normalises by the statistics of the batch (training_mode=1); export the model in evaluation mode")
    factor, shift = (column(e, vector, len(shape_of(x))) for vector in batch_norm(e, node))
    return Layer("affine", [Slot(x, factor, e.mul, e.mul, elementwise=True)], y, shift, one_to_one=True)


enter(
    Operator(
        "BatchNormalization",
        kind=LINEAR,
        linear=batch_normalization,
        cost=each_entry,
        blocked=in_blocks,
        axes=spread.by_channel,
        places=places.still,
        channels=places.FIRST,
        learned=slice(1, 3),  # γ and β; its running mean and variance stay as they are
    )
)


def average_pool(e: Emit, node: Node, active: Active) -> Layer:
    """y = mean of x over each window"""
    x, y = node.inputs[0], node.outputs[0]
    win = window(node.attrs, node.attrs["kernel_shape"], shape_of(x)[2:])
    forward = lambda x, w: e.mul(rounded(e, node, e("AveragePool", x, **node.attrs)), w)
    adjoint = lambda s, w: e.mul(adjoint_average(e, s, x, win, node.attrs), w)
    return Layer("average", [Slot(x, 1.0, forward, adjoint, batched=True)], y)


def _of_windows(node: Node, layer: Layer) -> int:
    """Each output is a mean over a window."""
    return size(node.outputs[0]) * prod(node.attrs["kernel_shape"])


enter(
    Operator(
        "AveragePool",
        kind=LINEAR,
        linear=average_pool,
        cost=_of_windows,
        blocked=in_blocks,
        sign=if_inputs_are,
        axes=spread.pooled,
        channels=places.FIRST,
        summed=_positions,
    )
)


def reduce(e: Emit, node: Node, active: Active) -> Layer:
    """y = mean or sum of x over some axes; the adjoint repeats s along them."""
    x, y, rank = only_first(node, active), node.outputs[0], len(shape_of(node.inputs[0]))
    axes = reduced_axes(node, rank)
    mean = node.op != "ReduceSum"

    def adjoint(s: Tensor, w: Value) -> Tensor:
        if not node.attrs.get("keepdims", 1):
            s = e("Unsqueeze", s, axes)
        if mean:
            s = e("Div", s, count(e, x, axes, s.dtype))
        return e.mul(e("Expand", s, e.shape(x)), w)

    forward = lambda x, w: e.mul(e(node.op, x, *node.inputs[1:], **node.attrs), w)
    return Layer("average", [Slot(x, 1.0, forward, adjoint, batched=0 not in axes)], y)


REDUCED = Operator("", kind=LINEAR, linear=reduce, cost=each_entry, sign=if_inputs_are, summed=reduced_axes)
enter(replace(REDUCED, op="GlobalAveragePool", blocked=in_blocks, axes=spread.pooled, channels=places.FIRST))

enter(
    Operator(
        "ReduceMean", kind=LINEAR, linear=reduce, cost=each_entry, sign=if_inputs_are, axes=spread.reduced, summed=reduced_axes
    )
)
enter(
    Operator(
        "ReduceSum", kind=LINEAR, linear=reduce, cost=each_entry, sign=if_inputs_are, axes=spread.reduced, summed=reduced_axes
    )
)


def followed_by(e: Emit, layer: Layer, node: Node, active: Active) -> Layer | None:
    """The layer seen as one with the node behind it: Add or Sub of a constant, or BatchNormalization. None if it cannot be."""
    y, (slot, *others) = node.outputs[0], layer.slots
    if others or layer.family not in ("conv", "dense", "product"):
        return None
    if node.op == "BatchNormalization" and layer.per_channel is not None and not node.attrs.get("training_mode"):
        factor, shift = batch_norm(e, node)
        rank = len(shape_of(y))
        bias = column(e, shift, rank)
        if layer.b is not None:
            bias = e("Add", e("Mul", layer.b, column(e, factor, rank)), bias)
        scaled = replace(slot, w=layer.per_channel(slot.w, factor))
        return replace(layer, slots=[scaled], y=y, b=bias)
    if node.op in ("Add", "Sub") and active(node.inputs[0]) != active(node.inputs[1]):
        constant = node.inputs[1] if active(node.inputs[0]) else node.inputs[0]
        if dims(y) != dims(layer.y) or (node.op == "Sub" and not active(node.inputs[0])):
            return None
        bias = e("Neg", constant) if node.op == "Sub" else constant
        return replace(layer, y=y, b=bias if layer.b is None else e("Add", layer.b, bias))
    return None
