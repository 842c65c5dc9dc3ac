"""How operators hand on the axes of their inputs, and the walk that asks them, node by node.

A function here gives the axes of each output of a node, None where they are not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from onnxdtd.graph.emit import dims, known, label
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.axes import Axes, Entry
from onnxdtd.operators.equations import spelled
from onnxdtd.operators.factors import ONE, Axis, Size, alone, number, product, size_of
from onnxdtd.operators.layer import NotLinear, constant_value, optional, reduced_axes
from onnxdtd.operators.positions import counting, rows
from onnxdtd.operators.sizes import OF_SHAPES, Values
from onnxdtd.operators.sizes import numbers as _numbers
from onnxdtd.operators.table import CONSTANT, Operator, Spread, of

UNKNOWN = "unknown"  # what becomes of an axis
END = 10**9  # what exporters write for "up to the end" of a Slice, or more


def followed(nodes: Sequence[Node], inputs: Iterable[Tensor], allow: Collection[str] = ()) -> Axes:
    """The axes of all tensors that depend on ``inputs`` by way of ``nodes``; what ``allow`` names goes entry by entry.

    The inputs of the result are those that the nodes read.
    """
    inputs, read = list(inputs), {t.name for node in nodes for t in node.inputs}
    axes = Axes(inputs)
    axes.inputs = [t for t in inputs if t.name in read]
    for node in nodes:
        if of(node).kind == CONSTANT or not any(axes.depends(t) for t in node.inputs):
            _count(axes, node)
        else:
            _spread(axes, node, node.op in allow or label(node) in allow)
    for node in nodes:
        axes.pair(node)
    return axes


def is_elementwise(operator: Operator) -> bool:
    """Does it compute entry by entry?"""
    return operator.axes in (broadcast, as_the_first)


def _count(axes: Axes, node: Node) -> None:
    """Follow what is computed from sizes."""
    entry = of(node)
    if entry.axes is expanded:
        target, held_axes = axes.values(node.inputs[1]), axes.entries(node.inputs[0])
        if target is not None and held_axes is not None:
            axes.stretch(node.outputs[0], held_axes, target)
    operands = [axes.sizes(node.inputs[0])] if entry.counted in OF_SHAPES else [axes.values(t) for t in node.inputs]
    held = [values for values in operands if values is not None]
    values = None if entry.counted is None or len(held) != len(operands) else entry.counted(node, held)
    sizes = known(dims(node.outputs[0]))
    if values is not None and (sizes is None or math.prod(sizes) == len(values)):
        axes.count(node.outputs[0], values)


def _spread(axes: Axes, node: Node, alike: bool) -> None:
    """Follow what depends on inputs; ``alike`` if somebody said that it goes entry by entry."""
    function = as_the_first if alike else of(node).axes
    if function is None:
        axes.stop(node)
        return
    results = list(function(axes, node))
    for tensor, entries in zip(node.outputs, [*results, *[None] * len(node.outputs)], strict=False):
        axes.enter(tensor, None if entries is None else [axes.own(entry) for entry in entries])


# -------------------------------------------------------------------------------------------------------- the operators


def broadcast(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Entry by entry"""
    return [axes.broadcast(node, [axes.entries(t) for t in node.inputs if not t.left_out])] * len(node.outputs)


def as_the_first(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Entry by entry of the first input"""
    return [axes.entries(node.inputs[0])] * len(node.outputs)


def normalised(over: Callable[[Node, int], Iterable[int]]) -> Spread:
    """The entries along the axes ``over`` of a node and the rank of its input decide on each other."""

    def function(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
        entries = axes.entries(node.inputs[0])
        if entries is not None:
            axes.mix(node, *(entries[i] for i in over(node, len(entries)) if entries))
        return [entries]

    return function


def by_channel(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Entry by entry, with constants for each channel; by the statistics of the batch while it is trained"""
    entries = axes.entries(node.inputs[0])
    if entries is not None and node.attrs.get("training_mode"):
        axes.mix(node, *entries[:1], *entries[2:])
    if entries is not None and len(entries) > 1:
        axes.tell(node, entries[1])
    return [entries]


def cumulated(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Along an axis"""
    entries, axis = axes.entries(node.inputs[0]), constant_value(node.inputs[1])
    axes.mix(node, *(entries or ()) if axis is None or entries is None else [entries[int(axis.reshape(()))]])
    return [entries]


def reduced(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Some axes are gone, or have one entry."""
    entries = axes.entries(node.inputs[0])
    if entries is None:
        return [None]
    try:
        gone = reduced_axes(node, len(entries))
    except NotLinear:
        given = optional(node, 1)
        named = given is not None and ((axis := constant_value(given)) is None or axis.size > 0)
        gone = [] if node.attrs.get("noop_with_empty_axes") and not named else list(range(len(entries)))
    return _without(axes, node, entries, gone)


def chosen(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """The axis along which the largest or smallest is looked for is gone, or has one entry."""
    entries = axes.entries(node.inputs[0])
    return [None] if entries is None else _without(axes, node, entries, [node.attrs.get("axis", 0) % len(entries)])


def _without(axes: Axes, node: Node, entries: list[Entry], gone: list[int]) -> Sequence[Sequence[Entry] | None]:
    axes.mix(node, *(entries[i] for i in gone))
    keep = node.attrs.get("keepdims", 1)
    return [[1 if i in gone else entry for i, entry in enumerate(entries) if keep or i not in gone]]


def top(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """The largest along an axis"""
    return _along(axes, node, [node.attrs.get("axis", -1)])


def over(which: Callable[[Node, int], Iterable[int]]) -> Spread:
    """The entries along the axes ``which`` of a node and the rank of its input are mixed, and as many as the output has."""

    def function(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
        entries = axes.entries(node.inputs[0])
        return [None] if entries is None else _along(axes, node, which(node, len(entries)))

    return function


def split(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Pieces of an axis"""
    return _along(axes, node, [node.attrs.get("axis", 0)])


def _along(axes: Axes, node: Node, gone: Iterable[int]) -> list[list[Entry] | None]:
    """All outputs have the axes of the first input but for some, which are mixed."""
    entries = axes.entries(node.inputs[0])
    if not entries:
        return [None] * len(node.outputs)
    numbers = {i % len(entries) for i in gone}
    axes.mix(node, *(entries[i] for i in numbers))
    return [
        [(dims(t) or [None] * len(entries))[i] if i in numbers else entry for i, entry in enumerate(entries)]
        for t in node.outputs
    ]


def transformed(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Frequencies along an axis, numbers of two parts along the last"""
    given = optional(node, 2)
    value = None if given is None else constant_value(given)
    if given is not None and value is None:
        return _behind(axes, node, 0)
    return _along(axes, node, [node.attrs.get("axis", 1) if value is None else int(value.reshape(())), -1])


def behind_the_first(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Of each sample another shape is made."""
    entries, sizes = axes.entries(node.inputs[0]), dims(node.outputs[0])
    if not entries or not sizes:
        return [None]
    axes.mix(node, *entries[1:])
    return [[entries[0], *sizes[1:]]]


def windows(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Positions and channels are mixed."""
    found = _behind(axes, node, 1)
    return [None if entries is None else [*entries[:1], axes.neurons(node, entries[1]), *entries[2:]] for entries in found]


def pooled(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Positions are mixed."""
    return _behind(axes, node, 2)


def _behind(axes: Axes, node: Node, kept: int) -> Sequence[Sequence[Entry] | None]:
    """All axes but the first are mixed."""
    entries = axes.entries(node.inputs[0])
    return _along(axes, node, range(kept, len(entries))) if entries is not None else [None]


def blocks(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Positions become channels, or the other way round."""
    return _along(axes, node, (1, 2, 3))


def matmul(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Rows of the one times columns of the other"""
    a, b = (axes.entries(t) for t in node.inputs)
    return [None if a is None or b is None or not a or not b else _product_of(axes, node, a, b)]


def _product_of(axes: Axes, node: Node, a: list[Entry], b: list[Entry]) -> list[Entry]:
    axes.fit(a[-1], b[-2] if len(b) > 1 else b[0])
    axes.mix(node, a[-1], b[-2] if len(b) > 1 else b[0])
    front = axes.broadcast(node, [a[:-2], b[:-2]]) or []
    return [*front, *(axes.neurons(node, entry) for entry in (*a[-2:-1], *(b[-1:] if len(b) > 1 else [])))]


def gemm(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """The same of matrices, which may be transposed, and a term"""
    a, b, c = (axes.entries(t) if t is not None else [] for t in (node.inputs[0], node.inputs[1], optional(node, 2)))
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        return [None]
    product = _product_of(axes, node, a[::-1] if node.attrs.get("transA") else a, b[::-1] if node.attrs.get("transB") else b)
    return [axes.broadcast(node, [[axes.own(entry) for entry in product], c])]


def einsum(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Letters are axes; those that the result does not have are summed over."""
    operands = [axes.entries(t) for t in node.inputs]
    try:
        names, result = spelled(node)
    except NotLinear:
        names, result = [""] * len(operands), ""
    if any(entries is None or len(entries) != len(term) for entries, term in zip(operands, names, strict=True)):
        axes.lose(node, *(entry for entries in operands for entry in entries or ()))
        return [None]
    of: dict[str, list[Axis]] = {}
    for letter in dict.fromkeys("".join(names)):
        held = [
            [entries[term.index(letter)]] for entries, term in zip(operands, names, strict=True) if entries and letter in term
        ]
        weights = not any(isinstance(entry, tuple) for (entry,) in held)
        of[letter] = [axes.own(axes.neurons(node, held[0][0]))] if weights else axes.broadcast(node, held) or []
    axes.mix(node, *(of[letter][0] for letter in of if letter not in result or any(term.count(letter) > 1 for term in names)))
    return [[of[letter][0] for letter in result]]


def transposed(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """In another order"""
    entries = axes.entries(node.inputs[0])
    return [None if entries is None else [entries[i] for i in node.attrs.get("perm") or reversed(range(len(entries)))]]


def reshaped(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """The same entries in the same order"""
    held, target = axes.of(node.inputs[0]), axes.values(node.inputs[1])
    if held is None:
        return [None]
    copied = {i for i, size in enumerate(target or ()) if size is not None and size[0] == 0 and i < len(held)}
    known: Values | None = None if target is None else [size if size is not None and size[0] > 0 else None for size in target]
    if known is not None and not node.attrs.get("allowzero"):
        known = [product(held[i]) if i in copied else size for i, size in enumerate(known)]
    return [axes.regroup(node, held, node.outputs[0], known)]


def flattened(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Two axes"""
    held = axes.of(node.inputs[0])
    if held is None:
        return [None]
    axis = node.attrs.get("axis", 1)
    halves = (held[: axis % len(held) if axis < 0 else axis], held[axis % len(held) if axis < 0 else axis :])
    return [[tuple(factor for axis in half for factor in axis) or 1 for half in halves]]


def squeezed(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Without axes of one entry"""
    entries, given = axes.entries(node.inputs[0]), optional(node, 1)
    value = None if given is None else constant_value(given)
    if entries is None or (given is not None and value is None):
        return [None]
    gone = [i % len(entries) for i in value.reshape(-1).tolist()] if value is not None else None
    sizes = [size_of(axis) if isinstance(axis, tuple) else axis for axis in entries]
    if gone is None and None in sizes:
        return [None]
    return [[entry for i, entry in enumerate(entries) if (i not in gone if gone is not None else sizes[i] != 1)]]


def unsqueezed(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """With axes of one entry"""
    entries, given = axes.entries(node.inputs[0]), constant_value(node.inputs[1])
    if entries is None or given is None:
        return [None]
    rank = len(entries) + given.size
    added, left = {i % rank for i in given.reshape(-1).tolist()}, iter(entries)
    return [[1 if i in added else next(left) for i in range(rank)]]


def expanded(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Axes of one entry are repeated; one of unknown size may turn out to be one."""
    entries, sizes = axes.of(node.inputs[0]), dims(node.outputs[0])
    if entries is None or sizes is None:
        return [None]
    front, target = len(sizes) - len(entries), axes.values(node.inputs[1])
    long = target[front:] if target is not None and len(target) == len(sizes) else [None] * len(entries)
    found: list[Entry] = [*sizes[:front]]
    for axis, size, own in zip(entries, sizes[front:], long, strict=True):
        is_one = size_of(axis) == 1
        if not is_one and own != ONE and own != product(axis):
            axes.guess(axis, None)
        found.append(size if is_one and size != 1 else axis)
    return [found]


def tiled(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Axes are repeated as often as is said."""
    times = constant_value(node.inputs[1])
    entries = axes.entries(node.inputs[0])
    if entries is None or times is None:
        return [None if entries is None else axes.resized(node, entries, node.outputs[0].shape)]
    return _along(axes, node, [i for i, count in enumerate(times.tolist()) if count != 1])


def concatenated(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Joined along an axis"""
    return _joined(axes, node, node.attrs.get("axis", 1))


def _joined(axes: Axes, node: Node, axis: int) -> Sequence[Sequence[Entry] | None]:
    """Of all inputs the entries along an axis go into one; the other axes are one and the same."""
    operands = [entries for t in node.inputs if (entries := axes.entries(t)) is not None]
    if not operands or len({len(entries) for entries in operands}) != 1:
        return [None]
    axis %= len(operands[0])
    axes.mix(node, *(entries[axis] for entries in operands))
    others = (
        axes.broadcast(node, [[1 if i == axis else entry for i, entry in enumerate(entries)] for entries in operands]) or []
    )
    size = (dims(node.outputs[0]) or [None] * len(others))[axis]
    if size is None and len(operands) == len(node.inputs):
        long = [size_of(entry) if isinstance(entry := entries[axis], tuple) else entry for entries in operands]
        size = None if None in long else sum(each for each in long if each is not None)
    return [[size if i == axis else other for i, other in enumerate(others)]]


def sliced(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Some entries of some axes"""
    entries, told = axes.entries(node.inputs[0]), [axes.values(t) for t in node.inputs[1:]]
    starts, ends = told[:2]
    count = len(starts or ends or ())
    chosen = list(range(count)) if optional(node, 3) is None else _numbers(told[2] or [None])
    if entries is None or chosen is None or not count:
        return [None if entries is None else axes.resized(node, entries, node.outputs[0].shape)]
    steps: Values = [ONE] * count if optional(node, 4) is None else told[3] or [None] * count
    bounds = zip(starts or [None] * count, ends or [None] * count, steps, strict=True)
    return [_each(axes, node, entries, {i: _cut(entries[i], *given) for i, given in zip(chosen, bounds, strict=True)})]


def _cut(entry: Entry, *given: Size | None) -> Entry | str:
    """What a Slice with a start, an end and a step leaves of an axis; UNKNOWN where that is not known."""
    if None in given:
        return UNKNOWN
    start, end, step = given
    size = size_of(entry) if isinstance(entry, tuple) else entry
    far = number(end) if end is not None else None
    to_the_end = (isinstance(entry, tuple) and end == product(entry)) or (far or 0) >= (END if size is None else size)
    if number(start or ONE) == 0 and step == ONE and to_the_end:
        return entry
    if number(start or ONE) == 0 and step == ONE and size is not None and end is not None and far is None:
        return alone(end)  # as many as another axis has
    cut = [number(each) for each in given if each is not None]
    return None if size is None or None in cut else len(range(size)[slice(*cut)])


def padded(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Longer along some axes"""
    entries, widths = axes.entries(node.inputs[0]), axes.values(node.inputs[1])
    if entries is None:
        return [None]
    if widths is None or optional(node, 3) is not None:
        return [axes.resized(node, entries, node.outputs[0].shape)]
    rank = len(entries)
    return [_each(axes, node, entries, {i: _grown(entry, widths[i], widths[i + rank]) for i, entry in enumerate(entries)})]


def _grown(entry: Entry, before: Size | None, behind: Size | None) -> Entry | str:
    """What becomes of an axis that is padded; UNKNOWN where that is not known."""
    if before is None or behind is None:
        return UNKNOWN
    size, widths = size_of(entry) if isinstance(entry, tuple) else entry, (number(before), number(behind))
    if widths == (0, 0):
        return entry
    return None if size is None or None in widths else size + sum(width for width in widths if width is not None)


def _each(axes: Axes, node: Node, entries: list[Entry], changed: Mapping[int, Entry | str]) -> list[Entry]:
    """The axes of the first output, of which some have become others, or something unknown."""
    found, shape = list(entries), node.outputs[0].shape or [None] * len(entries)
    for i, other in ((i % len(entries), other) for i, other in changed.items()):
        if isinstance(other, str):
            (found[i],) = axes.resized(node, [entries[i]], [shape[i]])
        elif other is not entries[i]:
            axes.mix(node, entries[i])
            if isinstance(other, tuple):
                axes.guess(other, entries[i])  # of which there may be fewer
            found[i] = (dims(node.outputs[0]) or [None] * len(entries))[i] if other is None else other
    return found


def gathered(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Entries of an axis by their numbers, whose axes take its place"""
    data, numbers = (axes.entries(t) for t in node.inputs)
    if data is None or numbers is None:
        return [None]
    axis = node.attrs.get("axis", 0) % len(data)
    entry = data[axis]
    place = rows(axes, node.inputs[1], product(entry[1:])) if isinstance(entry, tuple) and len(entry) > 1 else None
    if place is not None and isinstance(entry, tuple):
        numbers[place] = _one(axes, node, entry[:1], numbers[place])
        axes.mix(node, entry[1:])
    else:
        axes.mix(node, entry)
    return [[*data[:axis], *numbers, *data[axis + 1 :]]]


def gathered_nd(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Entries by an index that has a column for each of the first axes"""
    data, index = (axes.entries(t) for t in node.inputs)
    depth, front = (dims(node.inputs[1]) or [None])[-1], node.attrs.get("batch_dims", 0)
    if data is None or index is None or depth is None:
        return [None]
    held = [*(axes.broadcast(node, [data[:front], index[:front]]) or []), *index[front:-1]]
    ahead = counting(axes, node.inputs[1])
    for column, entry in enumerate(data[front : front + depth]):
        place = ahead.get(column)
        if place is None:
            axes.mix(node, entry)
        else:
            held[place] = _one(axes, node, entry, held[place])
    return [[*held, *data[front + depth :]]]


def scattered_nd(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """The same the other way round: what is written where the index says"""
    data, index, updates = (axes.entries(t) for t in node.inputs)
    depth = (dims(node.inputs[1]) or [None])[-1]
    if data is None or index is None or updates is None or depth is None:
        return [None]
    ahead, rows = counting(axes, node.inputs[1]), len(index) - 1
    axes.mix(node, *(data[i] for i in range(depth) if i not in ahead))
    axes.mix(node, *(updates[i] for i in range(rows) if i not in ahead.values()))
    sizes = dims(node.outputs[0]) or [None] * len(data)
    front = [_one(axes, node, data[i], updates[ahead[i]]) if i in ahead else sizes[i] for i in range(depth)]
    return [[*front, *(axes.broadcast(node, [data[depth:], updates[rows:]]) or [])]]


def _one(axes: Axes, node: Node, *entries: Entry) -> Entry:
    """Several entries that are one axis."""
    known = [entry for entry in entries if isinstance(entry, tuple)]
    return axes.same(node, known) if known else entries[0]


def picked(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Entries along an axis, each by a number of its own"""
    data, index = (axes.entries(t) for t in node.inputs)
    if data is None:
        return [None]
    axis = node.attrs.get("axis", 0) % len(data)
    axes.mix(node, data[axis])
    shape, found = node.outputs[0].shape or [None] * len(data), list[Entry]()
    names = [t.shape or [None] * len(data) for t in node.inputs]
    for i, entry in enumerate(data):
        other = None if index is None or i == axis else index[i]
        if isinstance(entry, tuple) and isinstance(other, tuple) and (entry == other or names[0][i] == names[1][i] is not None):
            found.append(axes.same(node, [entry, other]))
        elif i != axis and other is None:
            axes.guess(entry, 1)
            found.append(entry)  # that entries of the index are lined up with
        else:
            found += axes.resized(node, [entry], [shape[i]], sure=True)
    return [found]


def scattered(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """The same the other way round"""
    return _joined(axes, node, node.attrs.get("axis", 0))


def compressed(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Some entries of an axis, or of all"""
    if "axis" in node.attrs:
        return _along(axes, node, [node.attrs["axis"]])
    axes.mix(node, *(axes.entries(node.inputs[0]) or ()))
    return [[(dims(node.outputs[0]) or [None])[0]]]


def triangle(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Entry by entry, but differently along the last two axes"""
    entries = axes.entries(node.inputs[0])
    axes.tell(node, *(entries or ())[-2:])
    return [entries]


def reversed_sequences(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """In another order along one axis, for each entry of another by its length"""
    entries = axes.entries(node.inputs[0])
    if entries is not None:
        axes.mix(node, entries[node.attrs.get("time_axis", 0)])
        if not axes.depends(node.inputs[1]):
            axes.tell(node, entries[node.attrs.get("batch_axis", 1)])
    return [entries]


def one_hot(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """A further axis"""
    entries = axes.entries(node.inputs[0])
    if entries is None:
        return [None]
    axis = node.attrs.get("axis", -1) % (len(entries) + 1)
    size = (dims(node.outputs[0]) or [None] * (len(entries) + 1))[axis]
    return [[*entries[:axis], size, *entries[axis:]]]


def labelled(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """A label and scores for each row"""
    entries = axes.entries(node.inputs[0])
    if entries is None or len(entries) != 2:
        return [None] * len(node.outputs)
    axes.mix(node, entries[1])
    return [entries[:1], *([entries[0], (dims(t) or [None, None])[1]] for t in node.outputs[1:])]
