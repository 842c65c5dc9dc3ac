"""Operators that move entries, or let a winner take all: how relevance goes back through them.

A flow takes the relevance of each output of a node (None where there is none) and yields pairs of an input's position and its
relevance. What it does not mention (shapes, pads, indices) carries no relevance. Between two points each winner of either gets
what y has risen or fallen by.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from math import prod

import numpy as np

from onnxdtd.graph.emit import Emit, dims, known, wide
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import columns, heads, lookups, places, sizes, spread
from onnxdtd.operators.layer import constant_value, count, is_float, optional, reduced_axes, shape_of, sizes_of
from onnxdtd.operators.secants import At, near, ratio
from onnxdtd.operators.table import (
    ALL,
    IN_ORDER,
    MOVE,
    ROUTE,
    SOME,
    Between,
    Cut,
    Operator,
    Relevance,
    enter,
    first,
    first_input,
    if_inputs_are,
    in_blocks,
    of,
    throughout,
)
from onnxdtd.operators.windows import adjoint_max, adjoint_winner, rounded, window


def filled(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """Neither what goes in is ever negative nor what is put around it."""
    fill = optional(node, 2)
    return nonnegative(node.inputs[0]) and (fill is None or nonnegative(fill))


def if_any_is(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """The largest is at least as large as any."""
    return any(nonnegative(t) for t in node.inputs)


# Move: a permutation, a selection or a copy of entries; relevance goes back by the transpose.

MOVED = Operator("", kind=MOVE, keeps_zeros=True, hands_on=SOME, moves=True, sign=if_inputs_are)


def reshaped(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """The same entries in the same order."""
    x, y, r = node.inputs[0], node.outputs[0], first(relevance)
    open_behind = None in [*(dims(x) or [])[1:], *(dims(y) or [])[1:]]  # there a size of 0 is one, and copies none
    yield 0, e("Reshape", r, e.shape(x), allowzero=1) if open_behind else e("Reshape", r, e.shape(x))


RESHAPED = replace(
    MOVED, flow=reshaped, on_the_way=True, counted=sizes.same, hands_on=IN_ORDER, places=places.reshaped, before=first_input
)
enter(replace(RESHAPED, op="Reshape", axes=spread.reshaped))
enter(replace(RESHAPED, op="Flatten", axes=spread.flattened))
enter(replace(RESHAPED, op="Squeeze", axes=spread.squeezed))
enter(replace(RESHAPED, op="Unsqueeze", axes=spread.unsqueezed))


def transposed(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """The inverse permutation of the axes."""
    perm = node.attrs.get("perm") or list(range(len(shape_of(node.inputs[0]))))[::-1]
    yield 0, e("Transpose", first(relevance), perm=[int(i) for i in np.argsort(perm)])


enter(
    replace(
        MOVED,
        op="Transpose",
        flow=transposed,
        on_the_way=True,
        axes=spread.transposed,
        counted=sizes.turned,
        hands_on=ALL,
        places=places.permuted,
        alike=throughout,
        before=first_input,
    )
)


def concatenated(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Each part gets its piece back."""
    rank = len(shape_of(node.outputs[0]))
    axis, start = node.attrs["axis"] % rank, e.constant(np.asarray([0]))
    for position, part in enumerate(node.inputs):
        end = e.whole("Add", start, e.shape(part, axis, axis + 1))
        yield position, e("Slice", first(relevance), start, end, [axis])
        start = end


enter(
    replace(
        MOVED,
        op="Concat",
        flow=concatenated,
        blocked=in_blocks,
        axes=spread.concatenated,
        counted=sizes.joined,
        constants=True,
        names=columns.side_by_side,
        places=places.still,
        before=heads.before_pair,
    )
)


def split(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """The pieces side by side again"""
    yield 0, e("Concat", *completed(e, node.outputs, relevance), axis=node.attrs.get("axis", 0))


def completed(e: Emit, outputs: Sequence[Tensor], relevance: Relevance) -> list[Tensor]:
    """The relevance of each output; one without is zero."""
    dtype = next(r.dtype for r in relevance if r is not None)
    return [e.full(0.0, e.shape(t), dtype) if r is None else r for t, r in zip(outputs, relevance, strict=True)]


enter(replace(MOVED, op="Split", flow=split, on_the_way=True, axes=spread.split, places=places.still))


def padded(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Padding with a constant is undone by padding with the negated widths."""
    if node.attrs.get("mode", "constant") != "constant":
        yield from selected(e, node, relevance)
        return
    axes, pads = optional(node, 3), constant_value(node.inputs[1])
    if not e.offers(node.op) and pads is not None and axes is None:
        yield 0, e.framed(first(relevance), (-pads).tolist())
        return
    yield 0, e("Pad", first(relevance), e("Neg", node.inputs[1]), *([] if axes is None else [None, axes]))


enter(
    replace(
        MOVED, op="Pad", flow=padded, sign=filled, axes=spread.padded, constants=True, places=places.still, alike=throughout
    )
)


def sliced(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """What was cut away is zero."""
    widths, axis, r = cut(node), shortened(node), first(relevance)
    if widths is not None:
        yield 0, e.framed(r, widths)
    elif axis is not None:
        rest = e("Sub", e.shape(node.inputs[0], axis, axis + 1), e("Shape", r, start=axis, end=axis + 1))
        others = (e("Shape", r, start=0, end=axis), e("Shape", r, start=axis + 1))
        zeros = e.full(0.0, e("Concat", others[0], rest, others[1], axis=0), r.dtype)
        yield 0, e("Concat", r, zeros, axis=axis)
    else:
        yield from selected(e, node, relevance)


def slice_of(node: Node) -> Cut | None:
    """What it takes out, if it cuts along one axis"""
    widths, sizes = cut(node), dims(node.inputs[0]) or []
    places = [] if widths is None else [i for i in range(len(sizes)) if widths[i] or widths[i + len(sizes)]]
    if widths is None or len(places) != 1:
        return None
    (axis,) = places
    size = sizes[axis]
    assert size is not None
    return Cut(axis, widths[axis], size - widths[axis + len(sizes)])


def is_contiguous(node: Node) -> bool:
    """Is what it cuts off known, and the rest in one piece?"""
    return cut(node) is not None


enter(
    replace(
        MOVED,
        op="Slice",
        flow=sliced,
        on_the_way=True,
        axes=spread.sliced,
        counted=sizes.cut,
        piece=slice_of,
        places=places.still,
        alike=is_contiguous,
    )
)


def cut(node: Node) -> list[int] | None:
    """How much a Slice cuts off before and after each axis, or None where it is not known or not contiguous."""
    sizes = dims(node.inputs[0])
    given = [constant_value(t) if t is not None else None for t in (optional(node, i) for i in range(1, 5))]
    if sizes is None or given[0] is None or given[1] is None or (optional(node, 3) is not None and given[2] is None):
        return None
    starts, ends = given[0].ravel().tolist(), given[1].ravel().tolist()
    axes = given[2].tolist() if given[2] is not None else list(range(len(starts)))
    steps = [1] * len(starts) if optional(node, 4) is None else None if given[3] is None else given[3].tolist()
    before, after = [0] * len(sizes), [0] * len(sizes)
    if steps is None or not len(starts) == len(ends) == len(axes) == len(steps):
        return None
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = sizes[axis]
        if step != 1 or size is None:
            return None
        start, end, _ = slice(start, end).indices(size)
        before[axis % len(sizes)], after[axis % len(sizes)] = start, size - max(end, start)
    return before + after


def shortened(node: Node) -> int | None:
    """The only axis that a Slice cuts, if all that it may cut off is at the end, wherever that is."""
    rank, given = len(shape_of(node.inputs[0])), [optional(node, i) for i in (1, 3, 4)]
    start, axis, step = (None if t is None else constant_value(t) for t in given)
    if start is None or start.tolist() != [0] or (given[2] is not None and (step is None or step.tolist() != [1])):
        return None
    if given[1] is None:
        return 0
    return None if axis is None else int(axis[0]) % rank


def selected(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Any selection or repetition: the operator itself, applied to the numbers of the entries, tells where each came from."""
    x, numbers = node.inputs[0], numbered(e, node.inputs[0])
    others = [None if is_float(t.dtype) else t for t in node.inputs[1:]]  # the fill value of a Pad that fills nothing
    source = e(node.op, numbers, *others, **node.attrs)
    yield 0, scattered(e, x, source, first(relevance))


def numbered(e: Emit, x: Tensor) -> Tensor:
    """The numbers of the entries of ``x``, counted in row-major order."""
    end = e("Reshape", e.size(x), e.constant(np.zeros(0, np.int64)))
    return e("Reshape", e("Range", e.constant(np.asarray(0)), end, e.constant(np.asarray(1))), e.shape(x))


def gathered(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """What was not taken is zero; what was taken in another order, or more than once, is added up where it comes from."""
    found, sizes = rows_of(node), dims(node.inputs[0]) or []
    if found is None:
        yield from selected(e, node, relevance)
        return
    size, widths, own = sizes[found.axis], [0] * 2 * len(sizes), side_by_side(e, found, first(relevance))
    if size is None:
        yield 0, _put_back(e, node.inputs[0], found, own)
        return
    widths[found.axis], widths[found.axis + len(sizes)] = found.start, size - found.end
    yield 0, e.framed(own, widths)


def _put_back(e: Emit, x: Tensor, piece: Cut, relevance: Tensor) -> Tensor:
    """Between zeros, as many as there are before and behind it at run time."""
    axis, own = piece.axis, e.shape(x, piece.axis, piece.axis + 1)
    left, right, zeros = e.shape(x, 0, axis), e.shape(x, axis + 1), list[list[Tensor]]()
    for number in (piece.start, -piece.end):
        size = e.constant(np.asarray([number])) if number >= 0 else e("Add", own, [number])
        zeros.append([e.full(0.0, e("Concat", left, size, right, axis=0), relevance.dtype)] if number else [])
    return e("Concat", *zeros[0], relevance, *zeros[1], axis=axis)


def side_by_side(e: Emit, piece: Cut, relevance: Tensor) -> Tensor:
    """The relevance of a piece, with the axis that it was taken along."""
    return e("Unsqueeze", relevance, [piece.axis]) if piece.single else relevance


def pieces_of(node: Node, live: Collection[str]) -> list[Cut]:
    """What a node takes out of its first input, in as many pieces as it has outputs that are ``live``; none where that is not
    known.
    """
    entry = of(node)
    if entry.piece is not None:
        cut = entry.piece(node)
        return [] if cut is None else [cut]
    ends = _ends_of_parts(node) if entry.axes is spread.split else None
    axis = node.attrs.get("axis", 0)
    shown = [] if ends is None else [(a, b) for t, a, b in zip(node.outputs, ends, ends[1:], strict=False) if t.name in live]
    return [Cut(axis % len(shape_of(node.inputs[0])), start, end) for start, end in shown]


def _ends_of_parts(node: Node) -> list[int] | None:
    """Where the parts of a Split begin, and where the last one ends."""
    sizes = [(dims(t) or [None])[node.attrs.get("axis", 0)] if dims(t) else None for t in node.outputs]
    numbers = known(sizes)
    return None if numbers is None else [0, *accumulate(numbers)]


def rows_of(node: Node) -> Cut | None:
    """What it takes out, if that is known and in a row; counted from one end where it is not known how many there are."""
    sizes, index = dims(node.inputs[0]), constant_value(node.inputs[1])
    if sizes is None or index is None or index.ndim > 1 or not index.size:
        return None
    axis = node.attrs.get("axis", 0) % len(sizes)
    size = sizes[axis]
    if (index.min() < 0 <= index.max()) if size is None else (index.min() < -size or index.max() >= size):
        return None
    rows = (index.ravel() if size is None else index.ravel() % size).tolist()
    return Cut(axis, rows[0], rows[-1] + 1, not index.ndim) if rows == list(range(rows[0], rows[-1] + 1)) else None


enter(
    replace(
        MOVED,
        op="Gather",
        flow=gathered,
        on_the_way=True,
        axes=spread.gathered,
        counted=sizes.picked,
        piece=rows_of,
        looks_up=lookups.gathered,
        names=columns.picked(0),
        places=places.gathered,
    )
)

enter(replace(MOVED, op="GatherND", flow=selected, on_the_way=True, axes=spread.gathered_nd))

enter(replace(MOVED, op="Compress", flow=selected, axes=spread.compressed))

enter(replace(MOVED, op="Expand", flow=selected, on_the_way=True, axes=spread.expanded))

enter(replace(MOVED, op="Tile", flow=selected, axes=spread.tiled))


def scattered(e: Emit, x: Tensor, source: Tensor, relevance: Tensor) -> Tensor:
    """Add each entry of ``relevance`` to the entry of ``x`` (counted in row-major order) that ``source`` names."""
    flat = e.constant(np.asarray([-1]))
    empty = e.full(0.0, e.size(x), relevance.dtype)
    index, values = e("Reshape", source, flat), e("Reshape", relevance, flat)
    total = e("ScatterElements", empty, index, values, axis=0, reduction="add")
    return e("Reshape", total, e.shape(x))


def picked(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Each to the entry that it was taken from; some are taken several times."""
    x, index = node.inputs
    nothing = e.full(0.0, e.shape(x), first(relevance).dtype)
    yield 0, e("ScatterElements", nothing, index, first(relevance), axis=node.attrs.get("axis", 0), reduction="add")


enter(replace(MOVED, op="GatherElements", flow=picked, on_the_way=True, axes=spread.picked))


def overwritten(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """To what was written where something was; where several were written in one place, to one of them."""
    x, index, updates = node.inputs
    nothing = e.full(0.0, e.shape(updates), first(relevance).dtype)
    yield 0, e(node.op, first(relevance), index, nothing, **node.attrs)
    read = reader(e, node)
    written = read(first(relevance), index)
    if not is_one_to_one(node):
        numbers = numbered(e, updates)
        place = e(node.op, e("Expand", e.constant(np.asarray(0)), e.shape(x)), index, numbers, **node.attrs)
        written = e("Where", e.equal(read(place, index), numbers), written, 0.0)
    yield 2, written


def reader(e: Emit, node: Node) -> Callable[[Tensor, Tensor], Tensor]:
    """What reads the entries where a node writes, given the tensor and the index."""
    return partial(e, "GatherND") if node.op == "ScatterND" else partial(e, "GatherElements", axis=node.attrs.get("axis", 0))


def is_one_to_one(node: Node) -> bool:
    """Is it known that no two updates are written in one place?"""
    x, index = node.inputs[:2]
    sizes, values = known(dims(x)), constant_value(index)
    if sizes is None or values is None:
        return False
    if node.op == "ScatterND":
        depth = values.shape[-1]
        places, sizes = values.reshape(-1, depth).T, sizes[:depth]
    else:
        places = np.indices(values.shape).reshape(values.ndim, -1)
        places[node.attrs.get("axis", 0) % values.ndim] = values.reshape(-1)
    flat = sum((column % size) * prod(sizes[i + 1 :]) for i, (column, size) in enumerate(zip(places, sizes, strict=True)))
    return len(np.unique(flat)) == places.shape[1]


OVERWRITTEN = replace(MOVED, flow=overwritten, constants=True)
enter(replace(OVERWRITTEN, op="ScatterElements", axes=spread.scattered))
enter(replace(OVERWRITTEN, op="ScatterND", axes=spread.scattered_nd))


def extreme_in_place(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """To what is largest, or smallest, of what was there and what falls into one place: the first of these in this order."""
    (x, index, updates), read, r = node.inputs, reader(e, node), first(relevance)
    nothing, far = e.constant(np.asarray(0.0, r.dtype)), e.constant(np.asarray(np.finfo(np.float64).max))
    best = e(node.op, x, index, updates, **node.attrs)  # the predictor's own, except where half precision has rounded that
    stays = e.equal(x, best)
    yield 0, e("Where", stays, r, nothing)
    wins, numbers = e.equal(updates, read(best, index)), e.cast(numbered(e, updates), far.dtype)
    ranks = e("Where", wins, numbers, far)
    ahead = e(node.op, e("Expand", far, e.shape(x)), index, ranks, **node.attrs | {"reduction": "min"})
    written = e("Where", e.equal(read(ahead, index), ranks), read(e("Where", stays, nothing, r), index), nothing)
    yield 2, e("Where", wins, written, nothing)


def if_it_was(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """Nothing gets smaller."""
    return nonnegative(node.inputs[0])


WON = Operator("", kind=ROUTE, flow=extreme_in_place, keeps_zeros=True, moves=True, constants=True)
for op, axes in (("ScatterElements", spread.scattered), ("ScatterND", spread.scattered_nd)):
    enter(replace(WON, op=f"{op}.max", sign=if_it_was, axes=axes))
    enter(replace(WON, op=f"{op}.min", sign=if_inputs_are, axes=axes))


def top(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Each to the entry that it is, which the second output names."""
    x, index = node.inputs[0], node.outputs[1]
    nothing = e.full(0.0, e.shape(x), first(relevance).dtype)
    yield 0, e("ScatterElements", nothing, index, first(relevance), axis=node.attrs.get("axis", -1))


enter(replace(MOVED, op="TopK", flow=top, chooses=(1, np.dtype(np.int64)), axes=spread.top))


def triangle(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """What was set to zero is."""
    yield 0, e("Trilu", first(relevance), *node.inputs[1:], **node.attrs)


enter(replace(MOVED, op="Trilu", flow=triangle, on_the_way=True, axes=spread.triangle, constants=True, places=places.still))


def reversed_back(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """In the order that it was in, by doing the same again."""
    yield 0, e("ReverseSequence", first(relevance), *node.inputs[1:], **node.attrs)


enter(
    replace(
        MOVED,
        op="ReverseSequence",
        flow=reversed_back,
        axes=spread.reversed_sequences,
        hands_on=ALL,
        places=places.still,
    )
)


def chosen(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """To the branch that each entry was taken from."""
    condition, yes, no = node.inputs
    shape, zero = sizes_of(node.outputs[0]), e.constant(np.asarray(0.0, first(relevance).dtype))
    yield 1, e.unbroadcast(e("Where", condition, first(relevance), zero), shape, yes)
    yield 2, e.unbroadcast(e("Where", condition, zero, first(relevance)), shape, no)


SWITCHED = replace(MOVED, axes=spread.broadcast, counted=sizes.chosen, constants=True, places=places.still)
enter(replace(SWITCHED, op="Where", flow=chosen, on_the_way=True))


def space_to_depth(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Its inverse."""
    yield 0, e("DepthToSpace", first(relevance), blocksize=node.attrs["blocksize"])


enter(replace(MOVED, op="SpaceToDepth", flow=space_to_depth, axes=spread.blocks, hands_on=ALL))


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


enter(replace(MOVED, op="DepthToSpace", flow=depth_to_space, axes=spread.blocks, hands_on=ALL))


# Route: the winner takes all; of several equal winners, the first.


def between_winners(largest: bool) -> Between:
    """What the result has risen by goes to its winner at x, what it has fallen by to that at x̃; of the smallest the reverse.

    As shares of the difference, which become multipliers where all have arrived: a winner at x of a y that has risen has risen
    itself, at least as much, and nothing divides by less than that. What has not changed has no share in any change.
    """

    def between(e: Emit, node: Node, relevance: Relevance, at: At) -> Iterator[tuple[int, Tensor]]:
        there = [_repeated(e, at(t), t) for t in node.inputs]
        flow, other, m, y = of(node).flow, replace(node, inputs=there), first(relevance), node.outputs[0]
        assert flow is not None
        dy = e("Sub", y, at(y))
        risen, fallen = e("Mul", m, e("Relu", dy)), e("Mul", m, e("Min", dy, 0.0))
        mine, its = (risen, fallen) if largest else (fallen, risen)
        for (position, ours), (_, theirs) in zip(flow(e, node, [mine]), flow(e, other, [its]), strict=True):
            x = node.inputs[position]
            dx = e("Sub", x, at(x))
            yield position, ratio(e, e("Add", ours, theirs), dx, near(x.dtype), e.constant(np.asarray(0, dx.dtype)))

    return between


def _repeated(e: Emit, other: Tensor, tensor: Tensor) -> Tensor:
    """A tensor at another point, where one sample may stand for all, in its own size."""
    return other if other is tensor or other.shape == tensor.shape else e("Expand", other, e.shape(tensor), shape=tensor.shape)


LARGEST, SMALLEST = between_winners(largest=True), between_winners(largest=False)


def max_pool(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """To the entry that won each window. MaxUnpool would not do: where windows overlap it overwrites instead of adding."""
    attrs, x = dict(node.attrs), node.inputs[0]
    if not (e.offers(node.op) and e.offers("ScatterElements")):
        win, ceil = window(attrs, attrs["kernel_shape"], shape_of(x)[2:]), bool(attrs.get("ceil_mode"))
        if e.offers("ScatterElements"):
            yield 0, adjoint_max(e, first(relevance), x, e.shape(node.outputs[0], 2), win)
        else:
            yield 0, adjoint_winner(e, first(relevance), e.cast(x, wide(x.dtype), x.shape), win, ceil)
        return
    # Spelled out where the predictor leaves it out: an ONNX Runtime searches the whole graph ten times for nodes to merge if
    # it finds two with equal attributes and inputs of which it can merge neither, one having a second output.
    if attrs.pop("storage_order", None) is None:
        attrs["storage_order"] = 0
    _, winner = e.multi("MaxPool", [None, np.dtype(np.int64)], e.cast(x, wide(x.dtype)), **attrs)
    yield 0, scattered(e, x, rounded(e, node, winner), first(relevance))


enter(
    Operator(
        "MaxPool",
        kind=ROUTE,
        flow=max_pool,
        blocked=in_blocks,
        between=LARGEST,
        sign=if_inputs_are,
        keeps_zeros=True,
        chooses=(1, np.dtype(np.int64)),
        axes=spread.pooled,
        channels=places.FIRST,
    )
)


def extreme_along(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """To the largest entry, or the smallest, over the reduced axes, which are brought to the end and flattened to find it."""
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
    search = "ArgMin" if node.op == "ReduceMin" else "ArgMax"
    winner = e(search, rows, axis=-1, keepdims=1)
    values = e("Reshape", first(relevance), e("Shape", winner))
    if e.offers("ScatterElements"):
        taken = e("ScatterElements", e.full(0.0, e("Shape", rows), values.dtype), winner, values, axis=-1)
    else:
        numbers = e("Range", e.constant(np.asarray(0)), e("Squeeze", last, [0]), e.constant(np.asarray(1)))
        taken = e("Mul", e.cast(e.equal(winner, numbers), values.dtype), values)
    back = e("Reshape", taken, e("Shape", moved))
    yield 0, e("Transpose", back, perm=[int(i) for i in np.argsort(perm)])


enter(
    Operator(
        "GlobalMaxPool",
        kind=ROUTE,
        flow=extreme_along,
        between=LARGEST,
        sign=if_inputs_are,
        keeps_zeros=True,
        axes=spread.pooled,
        channels=places.FIRST,
    )
)

EXTREME_ALONG = Operator("", kind=ROUTE, flow=extreme_along, sign=if_inputs_are, keeps_zeros=True, axes=spread.reduced)
enter(replace(EXTREME_ALONG, op="ReduceMax", between=LARGEST))
enter(replace(EXTREME_ALONG, op="ReduceMin", between=SMALLEST))


def extreme(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """Entry by entry to the first input that is the result."""
    shape, rest = sizes_of(node.outputs[0]), first(relevance)
    best = e(node.op, *node.inputs)  # the predictor's own output, except where half precision has rounded that
    for position, x in enumerate(node.inputs):
        wins = e("GreaterOrEqual", *((x, best) if node.op == "Max" else (best, x)))
        yield position, e.unbroadcast(e("Where", wins, rest, 0.0), shape, x)
        rest = e("Where", wins, e.constant(np.asarray(0.0, rest.dtype)), rest)


def of_zeros(node: Node) -> bool:
    """All but one of its inputs are zeros."""
    values = [constant_value(t) for t in node.inputs]
    return len(values) == 2 and sum(value is not None and not value.any() for value in values) == 1


EXTREME = Operator("", kind=ROUTE, flow=extreme, monotone=throughout, axes=spread.broadcast, places=places.still)
enter(replace(EXTREME, op="Max", between=LARGEST, rectifies=of_zeros, sign=if_any_is))
enter(replace(EXTREME, op="Min", between=SMALLEST, sign=if_inputs_are))
