"""Everything that is not linear: how relevance passes, moves and is routed. One registry a kind, one entry an operator.

A function here takes the relevance of each output of a node (None where there is none) and yields pairs of an input's
position and its relevance. What it does not mention (shapes, pads, indices) carries no relevance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from onnxdtd.graph.emit import Emit, dims, wide
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.linear import constant_value, count, optional, reduced_axes, shape_of

Relevance = Sequence[Tensor | None]
Flow = Callable[[Emit, Node, Relevance], Iterator[tuple[int, Tensor]]]

PASS: dict[str, Flow] = {}
MOVE: dict[str, Flow] = {}
ROUTE: dict[str, Flow] = {}


def register(table: dict[str, Flow], *ops: str) -> Callable[[Flow], Flow]:
    """Register the flow of some operators."""

    def enter(flow: Flow) -> Flow:
        for op in ops:
            assert op not in PASS | MOVE | ROUTE, op
            table[op] = flow
        return flow

    return enter


def is_float(dtype: Any) -> bool:
    """Is it a floating-point type that numpy knows?"""
    try:
        return dtype is not None and bool(np.issubdtype(dtype, np.floating))
    except TypeError:  # types without a numpy equivalent, sequences of maps among them
        return False


def is_byte(dtype: Any) -> bool:
    """Is it the type of pixels?"""
    return bool(dtype == np.uint8)


def first(relevance: Relevance) -> Tensor:
    """The relevance of the only output that can have any."""
    assert relevance[0] is not None
    return relevance[0]


# Pass: what goes in element by element comes out element by element; R_in = R_out. Normalisation across channels (LRN)
# is ignored in the backward pass (Montavon et al. 2017, supplement, section 4).


@register(PASS, "Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Softplus", "Softsign", "Clip")
@register(PASS, "Sigmoid", "HardSigmoid", "Tanh", "Erf", "Gelu", "HardSwish", "Mish", "LRN")
@register(PASS, "Identity", "Dropout", "Cast", "QuantizeLinear", "DequantizeLinear")
def passes(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """R_in = R_out, in the type of the input unless that is quantised."""
    dtype = node.inputs[0].dtype
    yield 0, e.cast(first(relevance), wide(dtype)) if is_float(dtype) else first(relevance)


# Move: a permutation, a selection or a copy of entries; relevance goes back by the transpose.


@register(MOVE, "Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshaped(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """The same entries in the same order."""
    yield 0, e("Reshape", first(relevance), e.shape(node.inputs[0]))


@register(MOVE, "Transpose")
def transposed(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """The inverse permutation of the axes."""
    perm = node.attrs.get("perm") or list(range(len(shape_of(node.inputs[0]))))[::-1]
    yield 0, e("Transpose", first(relevance), perm=[int(i) for i in np.argsort(perm)])


@register(MOVE, "Concat")
def concatenated(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Each part gets its piece back."""
    rank = len(shape_of(node.outputs[0]))
    axis, start = node.attrs["axis"] % rank, e.constant(np.asarray([0]))
    for position, part in enumerate(node.inputs):
        end = _plus(e, start, e.shape(part, axis, axis + 1))
        yield position, e("Slice", first(relevance), start, end, [axis])
        start = end


def _plus(e: Emit, a: Tensor, b: Tensor) -> Tensor:
    """a + b of sizes, folded where both are constants."""
    if a.values is not None and b.values is not None:
        return e.constant(a.values + b.values)
    return e("Add", a, b)


@register(MOVE, "Split")
def split(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """The pieces side by side again; a piece without relevance is zero."""
    dtype = next(r.dtype for r in relevance if r is not None)
    pieces = [e.full(0.0, e.shape(t), dtype) if r is None else r for t, r in zip(node.outputs, relevance, strict=True)]
    yield 0, e("Concat", *pieces, axis=node.attrs.get("axis", 0))


@register(MOVE, "Pad")
def padded(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Padding with a constant is undone by padding with the negated widths."""
    if node.attrs.get("mode", "constant") != "constant":
        yield from selected(e, node, relevance)
        return
    axes = optional(node, 3)
    yield 0, e("Pad", first(relevance), e("Neg", node.inputs[1]), *([] if axes is None else [None, axes]))


@register(MOVE, "Slice")
def sliced(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """What was cut away is zero."""
    widths = cut(node)
    if widths is None:
        yield from selected(e, node, relevance)
    else:
        yield 0, e("Pad", first(relevance), widths)


def cut(node: Node) -> list[int] | None:
    """How much a Slice cuts off before and after each axis, or None where it is not known or not contiguous."""
    sizes = dims(node.inputs[0])
    given = [constant_value(t) if t is not None else None for t in (optional(node, i) for i in range(1, 5))]
    if sizes is None or given[0] is None or given[1] is None or (optional(node, 3) is not None and given[2] is None):
        return None
    starts, ends = given[0].tolist(), given[1].tolist()
    axes = given[2].tolist() if given[2] is not None else list(range(len(starts)))
    steps = [1] * len(starts) if optional(node, 4) is None else None if given[3] is None else given[3].tolist()
    before, after = [0] * len(sizes), [0] * len(sizes)
    if steps is None:
        return None
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = sizes[axis]
        if step != 1 or size is None:
            return None
        start, end, _ = slice(start, end).indices(size)
        before[axis % len(sizes)], after[axis % len(sizes)] = start, size - max(end, start)
    return before + after


@register(MOVE, "Gather", "Expand", "Tile")
def selected(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Any selection or repetition: the operator itself, applied to the numbers of the entries, tells where each came from."""
    x = node.inputs[0]
    end = e("Reshape", e.size(x), e.constant(np.zeros(0, np.int64)))
    numbers = e("Reshape", e("Range", e.constant(np.asarray(0)), end, e.constant(np.asarray(1))), e.shape(x))
    others = [None if is_float(t.dtype) else t for t in node.inputs[1:]]  # the fill value of a Pad that fills nothing
    source = e(node.op, numbers, *others, **node.attrs)
    yield 0, scattered(e, x, source, first(relevance))


def scattered(e: Emit, x: Tensor, source: Tensor, relevance: Tensor) -> Tensor:
    """Add each entry of ``relevance`` to the entry of ``x`` (counted in row-major order) that ``source`` names."""
    flat = e.constant(np.asarray([-1]))
    empty = e.full(0.0, e.size(x), relevance.dtype)
    index, values = e("Reshape", source, flat), e("Reshape", relevance, flat)
    total = e("ScatterElements", empty, index, values, axis=0, reduction="add")
    return e("Reshape", total, e.shape(x))


@register(MOVE, "Where")
def chosen(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """To the branch that each entry was taken from."""
    condition, yes, no = node.inputs
    shape, zero = shape_of(node.outputs[0]), e.constant(np.asarray(0.0, first(relevance).dtype))
    yield 1, e.unbroadcast(e("Where", condition, first(relevance), zero), shape, yes)
    yield 2, e.unbroadcast(e("Where", condition, zero, first(relevance)), shape, no)


@register(MOVE, "SpaceToDepth")
def space_to_depth(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Its inverse."""
    yield 0, e("DepthToSpace", first(relevance), blocksize=node.attrs["blocksize"])


@register(MOVE, "DepthToSpace")
def depth_to_space(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Its inverse, which SpaceToDepth is for the mode DCR; CRD has the block behind the channels instead of in front."""
    x, block = node.inputs[0], node.attrs["blocksize"]
    back = e("SpaceToDepth", first(relevance), blocksize=block)
    if node.attrs.get("mode", "DCR") == "DCR":
        yield 0, back
        return
    shape = e("Concat", e.shape(x, 0, 1), e.constant(np.asarray([block * block, -1])), e.shape(x, 2), axis=0)
    swapped = e("Transpose", e("Reshape", back, shape), perm=[0, 2, 1, 3, 4])
    yield 0, e("Reshape", swapped, e.shape(x))


# Route: the winner takes all; of several equal winners, the first.


@register(ROUTE, "MaxPool")
def max_pool(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """To the entry that won each window. MaxUnpool would not do: where windows overlap it overwrites instead of adding."""
    attrs, x = dict(node.attrs), node.inputs[0]
    # Spelled out where the predictor leaves it out: an ONNX Runtime searches the whole graph ten times for nodes to merge if
    # it finds two with equal attributes and inputs of which it can merge neither, one having a second output.
    if attrs.pop("storage_order", None) is None:
        attrs["storage_order"] = 0
    _, winner = e.multi("MaxPool", [None, np.dtype(np.int64)], e.cast(x, wide(x.dtype)), **attrs)
    yield 0, scattered(e, x, winner, first(relevance))


@register(ROUTE, "GlobalMaxPool", "ReduceMax")
def global_max(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """To the largest entry over the reduced axes, which are brought to the end and flattened to find it."""
    x = node.inputs[0]
    rank = len(shape_of(x))
    axes = reduced_axes(node, rank)
    kept = [axis for axis in range(rank) if axis not in axes]
    perm = kept + axes
    moved = e("Transpose", e.cast(x, wide(x.dtype)), perm=perm)
    size = count(e, x, axes, np.int64)  # not -1, which an empty batch leaves undecided
    last = e.constant(np.asarray([int(size)])) if isinstance(size, float) else size
    shape = e("Concat", e.shape(moved, 0, len(kept)), last, axis=0)
    rows = e("Reshape", moved, shape)
    winner = e("ArgMax", rows, axis=-1, keepdims=1)
    values = e("Reshape", first(relevance), e("Shape", winner))
    nothing = e.full(0.0, e("Shape", rows), first(relevance).dtype)
    taken = e("ScatterElements", nothing, winner, values, axis=-1)
    back = e("Reshape", taken, e("Shape", moved))
    yield 0, e("Transpose", back, perm=[int(i) for i in np.argsort(perm)])


@register(ROUTE, "Max", "Min")
def extreme(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Entry by entry to the first input that is the result."""
    shape, rest = shape_of(node.outputs[0]), first(relevance)
    best = e(node.op, *node.inputs)  # the predictor's own output, except where half precision has rounded that
    for position, x in enumerate(node.inputs):
        wins = e("Equal", x, best)
        yield position, e.unbroadcast(e("Where", wins, rest, 0.0), shape, x)
        rest = e("Where", wins, e.constant(np.asarray(0.0, rest.dtype)), rest)


# Signs. What is known never to be negative needs one term where a signed tensor needs two.

NEVER_NEGATIVE = {"Relu", "Sigmoid", "Softmax", "HardSigmoid", "Abs", "Exp", "Softplus", "Sqrt"}
NEVER_NEGATIVE |= {"ReduceL1", "ReduceL2", "ReduceSumSquare"}
NEVER_NEGATIVE_IF_INPUTS_ARE = (
    {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax"}
    | {"Add", "Sum", "Mul", "Div", "Concat", "Split", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice"}
    | {"Gather", "Expand", "Tile", "Dropout", "Identity", "Cast", "LRN", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu"}
    | {"HardSwish", "Mish", "ThresholdedRelu", "Softsign", "Max", "Min", "Where", "DepthToSpace", "SpaceToDepth", "MatMul"}
    | {"Resize", "Einsum"}
)


def never_negative(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """Is the output of ``node`` provably ≥ 0, given what is known of its inputs?"""
    if node.op in NEVER_NEGATIVE:
        return True
    if node.op == "Max" and any(nonnegative(t) for t in node.inputs):
        return True
    if node.op == "Resize" and node.attrs.get("mode") == "cubic":
        return False
    if node.op == "Clip":
        low, high = (optional(node, i) for i in (1, 2))
        bounded = high is None or nonnegative(high)
        return bounded and (nonnegative(node.inputs[0]) or (low is not None and nonnegative(low)))
    if node.op == "QuantizeLinear":  # unsigned with the zero point 0: it cuts off what is negative
        if nonnegative(node.inputs[0]) or not str(node.outputs[0].dtype).startswith("uint"):
            return nonnegative(node.inputs[0])
        zero = None if optional(node, 2) is None else constant_value(node.inputs[2])
        return optional(node, 2) is None or (zero is not None and not zero.any())
    if node.op == "DequantizeLinear":
        return nonnegative(node.inputs[0])
    if node.op == "Pad":
        fill = optional(node, 2)
        return nonnegative(node.inputs[0]) and (fill is None or nonnegative(fill))
    floats = [t for t in node.inputs if not t.left_out and is_float(t.dtype)]
    return node.op in NEVER_NEGATIVE_IF_INPUTS_ARE and bool(floats) and all(nonnegative(t) for t in floats)
