"""Where the axes of tensors come from: what each operator keeps apart, what it mixes and what it joins.

An axis is a product of factors, the outermost first: one of its own where it comes from an input, several where a Reshape joins
some, as windows or heads are joined with the samples. An operator that computes entry by entry along an axis hands its factors
on; one that sums or compares entries along it, or picks some of them, mixes these factors. Nodes are followed once, in their
order, and factors that turn out to be one are made one: so the depth of a net costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

from onnxdtd.graph.emit import dims, label
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.factors import (
    ONE,
    Axis,
    Factor,
    Size,
    divided,
    multiplied,
    now,
    number,
    parts,
    product,
    size_of,
    unite,
    whole,
)
from onnxdtd.operators.linear import NotLinear, constant_value, optional, reduced_axes
from onnxdtd.operators.sizes import Values, computed, constants

SIZES = ("Shape", "Size")  # the same for all samples
END = 2**31 - 1  # what exporters write for "up to the end" of a Slice, or more


Entry: TypeAlias = Axis | int | None  # an axis, or the size of one of a constant
Spread: TypeAlias = Callable[["Axes", Node], Sequence[Sequence[Entry] | None]]
Shape: TypeAlias = Sequence[int | str | None] | None

SPREAD: dict[str, Spread] = {}


def spread(*ops: str) -> Callable[[Spread], Spread]:
    """Register how some operators hand on the axes of their inputs: a function that gives the axes of each output."""

    def register(function: Spread) -> Spread:
        for op in ops:
            assert op not in SPREAD, op
            SPREAD[op] = function
        return function

    return register


class Axes:
    """The axes of all tensors that depend on ``inputs``, by way of ``nodes``; what ``allow`` names goes entry by entry.

    ``inputs`` become those that the nodes read.
    """

    def __init__(self, nodes: Sequence[Node], inputs: Iterable[Tensor], allow: Collection[str] = ()):
        inputs, read = list(inputs), {t.name for node in nodes for t in node.inputs}
        self.inputs = [t for t in inputs if t.name in read]
        self._of: dict[str, list[Axis] | None] = {}
        self._named: dict[str, Axis | None] = {}
        self._values: dict[str, Values] = {}  # of what is computed from sizes alone
        for tensor in inputs:
            sizes = dims(tensor)
            self._enter(tensor, None if sizes is None else [self.new(size) for size in sizes])
        for node in nodes:
            if node.op in SIZES or not any(t.name in self._of for t in node.inputs):
                self._count(node)
            else:
                alike = node.op in allow or label(node) in allow
                found = (SPREAD["Identity"] if alike else SPREAD.get(node.op, _unknown))(self, node)
                found = [*found] * len(node.outputs) if alike else found
                for tensor, axes in zip(node.outputs, [*found, *[None] * len(node.outputs)], strict=False):
                    self._enter(tensor, None if axes is None else [self.own(entry) for entry in axes])
        for node in nodes:
            for tensor in node.outputs:
                self._paired(node, self._of.get(tensor.name))

    def of(self, tensor: Tensor) -> list[Axis] | None:
        """The axes of a tensor, None where it has none that are known."""
        axes = self._of.get(tensor.name)
        return None if axes is None else [tuple(map(whole, axis)) for axis in axes]

    def depends(self, tensor: Tensor) -> bool:
        """Does it depend on an input?"""
        return tensor.name in self._of

    def entries(self, tensor: Tensor) -> list[Entry] | None:
        """The axes of a tensor, the sizes of a constant, None where not even the rank is known."""
        axes: Sequence[Entry] | None = self.of(tensor) if tensor.name in self._of else dims(tensor)
        return None if axes is None else list(axes)

    def values(self, tensor: Tensor) -> Values | None:
        """The entries of a tensor of sizes, where they are known."""
        held = self._values.get(tensor.name)
        return constants(tensor) if held is None else [None if size is None else now(size) for size in held]

    def _count(self, node: Node) -> None:
        """Follow what is computed from sizes."""
        if node.op in SIZES:
            held = self.of(node.inputs[0])
            sizes = None if held is None else [product(axis) for axis in held]
            found: Values | None = None if sizes is None else [*sizes[node.attrs.get("start", 0) : node.attrs.get("end")]]
            if node.op == "Size" and sizes is not None:
                found = [multiplied(sizes)]
        else:
            found = computed(node, [self.values(t) for t in node.inputs])
        if found is not None:
            self._values[node.outputs[0].name] = found

    def _enter(self, tensor: Tensor, axes: list[Axis] | None) -> None:
        """Note the axes of a tensor; where they are not known, a size that has a name tells what is the axis of that name."""
        shape = tensor.shape
        if shape is not None and (axes is None or len(axes) != len(shape)):
            axes = [
                (self.named(size) if list(shape).count(size) == 1 else None)
                or self.new(size if isinstance(size, int) else None)
                for size in shape
            ]
        self._of[tensor.name] = axes
        for size, axis in zip(shape or (), axes or (), strict=shape is not None):
            if isinstance(size, str) and size:
                again = list(shape or ()).count(size) > 1  # no name of a size, but a word for "unknown"
                self._named[size] = None if again else self._named.get(size, axis)

    def named(self, size: object) -> Axis | None:
        """The axis whose size has this name."""
        return self._named.get(size) if isinstance(size, str) else None

    @staticmethod
    def _paired(node: Node, axes: list[Axis] | None) -> None:
        """What lies on two axes at once, the products of all pairs, is mixed."""
        counts = Counter(factor for axis in axes or () for factor in parts(axis))
        for factor, count in counts.items():
            if count > 1:
                factor.mixed = factor.mixed or node

    # What operators do with axes.

    @staticmethod
    def new(size: int | None) -> Axis:
        """An axis that comes from nowhere."""
        return (Factor(size),)

    def own(self, entry: Entry) -> Axis:
        """An axis as it is, a new one for that of a constant."""
        return entry if isinstance(entry, tuple) else self.new(entry)

    def mix(self, node: Node, *entries: Entry) -> None:
        """Note that a node makes entries along some axes depend on each other."""
        for axis in entries:
            for factor in (parts(axis) or [*map(whole, axis)]) if isinstance(axis, tuple) else ():
                factor.mixed = factor.mixed or node

    def lose(self, node: Node, *entries: Entry) -> None:
        """Note that some axes cannot be followed behind a node."""
        for axis in entries:
            for factor in map(whole, axis if isinstance(axis, tuple) else ()):
                factor.lost = factor.lost or node

    def tell(self, node: Node, *entries: Entry) -> None:
        """Note that the constants of a node tell entries along some axes apart."""
        for axis in entries:
            for factor in map(whole, axis if isinstance(axis, tuple) else ()):
                factor.told = factor.told or node

    def fit(self, *entries: Entry) -> None:
        """Two axes have as many entries: if one has a factor of unknown size, the other tells what it is."""
        for one, other in (entries, entries[::-1]):
            size = size_of(other) if isinstance(other, tuple) else other
            open_ = [factor for factor in one if factor.size is None] if isinstance(one, tuple) else []
            rest = size_of(tuple(factor for factor in one if factor.size is not None)) if isinstance(one, tuple) else None
            if size is not None and rest and len(open_) == 1 and size % rest == 0:
                open_[0].size = size // rest

    def same(self, node: Node, axes: Sequence[Axis]) -> Axis:
        """Several axes that are one."""
        first = max(axes, key=lambda axis: len(parts(axis)))
        for axis in axes:
            pairs = list(zip(parts(first), parts(axis), strict=False))
            fits = len(parts(first)) == len(parts(axis)) and all(a.size == b.size or None in (a.size, b.size) for a, b in pairs)
            if fits:
                for a, b in pairs or [(whole(first[0]), whole(axis[0]))]:
                    unite(a, b)
            else:
                self.lose(node, first, axis)
        return first

    def broadcast(self, node: Node, operands: Sequence[Sequence[Entry] | None]) -> list[Axis] | None:
        """The axes of what operands are broadcast to; constants that differ along an axis tell its entries apart."""
        known = [entries for entries in operands if entries is not None]
        found: list[Axis] = []
        for i in range(1, max(map(len, known), default=0) + 1):
            here = [entries[-i] for entries in known if len(entries) >= i]
            axes = [entry for entry in here if isinstance(entry, tuple)]
            long = [axis for axis in axes if size_of(axis) != 1]
            constant = next((entry for entry in here if isinstance(entry, int) and entry != 1), None)
            if constant is not None:
                self.tell(node, *long)
            if long or (axes and constant is None):
                found.append(self.same(node, long or axes))
            else:
                found.append(self.new(constant or (1 if here and None not in here else None)))
        return found[::-1] if known else None

    def resized(self, node: Node, entries: Sequence[Entry], shape: Shape, sure: bool = False) -> list[Entry]:
        """Axes kept where there are as many entries as before, mixed (or lost if not ``sure``) where there are not."""
        found: list[Entry] = []
        for entry, size in zip(entries, shape or [None] * len(entries), strict=True):
            axis, named = self.own(entry), self.named(size)
            if (isinstance(size, int) and size == size_of(axis)) or (named is not None and parts(named) == parts(axis)):
                found.append(axis)
            else:
                (self.mix if sure else self.lose)(node, axis)
                found.append(size if isinstance(size, int) else None)
        return found

    # Reshape: the products of the sizes up to an axis tell which axes lie before it, and which become what.

    def regroup(self, node: Node, axes: Sequence[Axis], result: Tensor, target: Values | None) -> list[Axis] | None:
        """The axes of ``axes`` reshaped to the sizes of ``result``, or those in ``target``, as far as they are known."""
        sizes = self._sizes(axes, result, target)
        if sizes is None:
            self.lose(node, *axes)
            return None
        left = [whole(factor) for axis in reversed(axes) for factor in reversed(axis)]  # the next one last
        found: list[Axis] = []
        for i, size in enumerate(sizes):
            axis = self._taken(node, left, size)
            if axis is None:
                sure = not any(powers for _, powers in [*sizes, *(product([factor]) for factor in left)])
                (self.mix if sure else self.lose)(node, tuple(left))
                return found + [self.new(number(size)) for size in sizes[i:]]
            found.append(axis)
        return found

    def _taken(self, node: Node, left: list[Factor], size: Size) -> Axis | None:
        """An axis of ``size`` made of the next factors, the last of which may have to be broken up."""
        if size == ONE:
            return (left.pop(),) if left and left[-1].size == 1 else self.new(1)
        axis: list[Factor] = []
        while size != ONE and left:
            factor = left.pop()
            rest, more = divided(size, product([factor])), divided(product([factor]), size)
            if rest is not None and rest[0].denominator == 1:
                axis.append(factor)
                size = rest
            elif more is not None and more[0].denominator == 1:
                self.mix(node, (factor,))
                axis.append(Factor(number(size)))
                left.append(Factor(number(more)))
                size = ONE
            else:
                left += [factor, *axis[::-1]]
                return None
        return tuple(axis) if size == ONE else None

    def _sizes(self, axes: Sequence[Axis], result: Tensor, target: Values | None) -> list[Size] | None:
        """The sizes of a Reshape's result in terms of those before; None where more than one is not known."""
        declared = result.shape if result.shape is not None else [None] * len(target) if target is not None else None
        if declared is None:
            return None
        sizes: list[Size | None] = []
        for i, size in enumerate(declared):
            wanted = target[i] if target is not None and i < len(target) else None
            named = self.named(size)
            if wanted is None and isinstance(size, int):
                wanted = Fraction(size), frozenset()
            sizes.append(product(named) if wanted is None and named is not None else wanted)
        if sizes.count(None) == 1:
            total = product([factor for axis in axes for factor in axis])
            rest = divided(total, multiplied([size for size in sizes if size is not None]))
            sizes[sizes.index(None)] = rest
        found = [size for size in sizes if size is not None and size[0] != 0]
        return found if len(found) == len(sizes) else None


# -------------------------------------------------------------------------------------------------------- the operators


def _unknown(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Of an operator that is not known, the first axis counts as kept where its size is."""
    known = [entries for t in node.inputs if axes.depends(t) and (entries := axes.of(t))]
    if not known:
        return []
    found: list[Sequence[Entry] | None] = []
    for result in node.outputs:
        sizes = dims(result)
        found.append([*axes.resized(node, known[0][:1], (result.shape or ())[:1]), *sizes[1:]] if sizes else None)
    for entries in known:
        axes.lose(node, *entries[1:])
    return found


ENTRY_BY_ENTRY = (
    ("Add", "Sub", "Mul", "Div", "Sum", "Mean", "Max", "Min", "Pow", "Where", "PRelu", "Mod", "BitShift")
    + ("Equal", "Less", "Greater", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf")
    + ("Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Softplus", "Softsign", "Gelu", "HardSwish", "Mish")
    + ("Sigmoid", "HardSigmoid", "Tanh", "Erf", "Exp", "Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Sign", "Clip", "Swish")
    + ("Floor", "Ceil", "Round", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh")
)
FIRST_ALONE = ("Identity", "Cast", "CastLike", "Dropout", "QuantizeLinear", "DequantizeLinear", "Imputer", "Shrink")


@spread(*ENTRY_BY_ENTRY)
def _elementwise(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Entry by entry"""
    return [axes.broadcast(node, [axes.entries(t) for t in node.inputs if not t.left_out])] * len(node.outputs)


@spread(*FIRST_ALONE)
def _first(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Entry by entry of the first input"""
    return [axes.entries(node.inputs[0])] * len(node.outputs)


NORMALISED: dict[str, Callable[[Node, int], Iterable[int]]] = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), lambda node, rank: [node.attrs.get("axis", -1)]),
    "LayerNormalization": lambda node, rank: range(node.attrs.get("axis", -1) % rank, rank),
    "InstanceNormalization": lambda node, rank: range(2, rank),
    "GroupNormalization": lambda node, rank: range(1, rank),
    "LRN": lambda node, rank: [1],
    "Normalizer": lambda node, rank: [-1],
    "BatchNormalization": lambda node, rank: [i for i in range(rank) if i != 1] if node.attrs.get("training_mode") else [],
    "MeanVarianceNormalization": lambda node, rank: node.attrs.get("axes", [0, 2, 3]),
    "Trilu": lambda node, rank: [-2, -1],
}


@spread(*NORMALISED)
def _normalised(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """The entries along some axes decide on each other."""
    entries = axes.entries(node.inputs[0])
    if entries is not None:
        axes.mix(node, *(entries[i] for i in NORMALISED[node.op](node, len(entries)) if entries))
        if node.op == "BatchNormalization" and len(entries) > 1:
            axes.tell(node, entries[1])
    return [entries]


@spread("CumSum")
def _cumulated(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Along an axis"""
    entries, axis = axes.entries(node.inputs[0]), constant_value(node.inputs[1])
    axes.mix(node, *(entries or ()) if axis is None or entries is None else [entries[int(axis.reshape(()))]])
    return [entries]


@spread(*("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"))
@spread("ReduceLogSum", "ReduceLogSumExp", "ArgMax", "ArgMin")
def _reduced(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Some axes are gone, or have one entry."""
    entries = axes.entries(node.inputs[0])
    if entries is None:
        return [None]
    try:
        gone = [node.attrs.get("axis", 0) % len(entries)] if node.op[0] == "A" else reduced_axes(node, len(entries))
    except NotLinear:
        gone = [] if node.attrs.get("noop_with_empty_axes") and optional(node, 1) is None else list(range(len(entries)))
    axes.mix(node, *(entries[i] for i in gone))
    keep = node.attrs.get("keepdims", 1)
    return [[1 if i in gone else entry for i, entry in enumerate(entries) if keep or i not in gone]]


@spread("TopK")
def _top(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """The largest along an axis"""
    return _along(axes, node, [node.attrs.get("axis", -1)])


@spread("Split")
def _split(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
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


POOLS = ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")


@spread("Conv", "ConvTranspose", *POOLS)
def _windows(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Positions are mixed, by a convolution the channels too."""
    entries = axes.entries(node.inputs[0])
    kept = 2 if node.op in POOLS else 1
    return _along(axes, node, range(kept, len(entries))) if entries is not None else [None]


@spread("SpaceToDepth", "DepthToSpace")
def _blocks(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Positions become channels, or the other way round."""
    return _along(axes, node, (1, 2, 3))


@spread("MatMul")
def _matmul(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Rows of the one times columns of the other"""
    a, b = (axes.entries(t) for t in node.inputs)
    return [None if a is None or b is None or not a or not b else _product_of(axes, node, a, b)]


def _product_of(axes: Axes, node: Node, a: list[Entry], b: list[Entry]) -> list[Entry]:
    axes.fit(a[-1], b[-2] if len(b) > 1 else b[0])
    axes.mix(node, a[-1], b[-2] if len(b) > 1 else b[0])
    front = axes.broadcast(node, [a[:-2], b[:-2]]) or []
    return [*front, *a[-2:-1], *(b[-1:] if len(b) > 1 else [])]


@spread("Gemm")
def _gemm(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """The same of matrices, which may be transposed, and a term"""
    a, b, c = (axes.entries(t) if t is not None else [] for t in (node.inputs[0], node.inputs[1], optional(node, 2)))
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        return [None]
    product = _product_of(axes, node, a[::-1] if node.attrs.get("transA") else a, b[::-1] if node.attrs.get("transB") else b)
    return [axes.broadcast(node, [[axes.own(entry) for entry in product], c])]


@spread("Einsum")
def _einsum(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Letters are axes; those that the result does not have are summed over."""
    terms, arrow, result = node.attrs["equation"].replace(" ", "").partition("->")
    operands = [axes.entries(t) for t in node.inputs]
    names = terms.split(",")
    if not arrow or any(entries is None or len(entries) != len(term) for entries, term in zip(operands, names, strict=True)):
        axes.lose(node, *(entry for entries in operands for entry in entries or ()))
        return [None]
    of: dict[str, list[Axis]] = {}
    for letter in dict.fromkeys("".join(names)):
        held = [
            [entries[term.index(letter)]] for entries, term in zip(operands, names, strict=True) if entries and letter in term
        ]
        of[letter] = axes.broadcast(node, held) or []
    axes.mix(node, *(of[letter][0] for letter in of if letter not in result or any(term.count(letter) > 1 for term in names)))
    return [[of[letter][0] for letter in result]]


@spread("Transpose")
def _transposed(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """In another order"""
    entries = axes.entries(node.inputs[0])
    return [None if entries is None else [entries[i] for i in node.attrs.get("perm") or reversed(range(len(entries)))]]


@spread("Reshape")
def _reshaped(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """The same entries in the same order"""
    held, target = axes.of(node.inputs[0]), axes.values(node.inputs[1])
    if held is None:
        return [None]
    copied = {i for i, size in enumerate(target or ()) if size is not None and size[0] == 0 and i < len(held)}
    known: Values | None = None if target is None else [size if size is not None and size[0] > 0 else None for size in target]
    if known is not None and not node.attrs.get("allowzero"):
        known = [product(held[i]) if i in copied else size for i, size in enumerate(known)]
    return [axes.regroup(node, held, node.outputs[0], known)]


@spread("Flatten")
def _flattened(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Two axes"""
    held = axes.of(node.inputs[0])
    if held is None:
        return [None]
    axis = node.attrs.get("axis", 1)
    halves = (held[: axis % len(held) if axis < 0 else axis], held[axis % len(held) if axis < 0 else axis :])
    return [[tuple(factor for axis in half for factor in axis) or 1 for half in halves]]


@spread("Squeeze")
def _squeezed(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Without axes of one entry"""
    entries, given = axes.entries(node.inputs[0]), optional(node, 1)
    value = None if given is None else constant_value(given)
    if entries is None or (given is not None and value is None):
        return [None]
    gone = [i % len(entries) for i in value.tolist()] if value is not None else None
    sizes = [size_of(axis) if isinstance(axis, tuple) else axis for axis in entries]
    if gone is None and None in sizes:
        return [None]
    return [[entry for i, entry in enumerate(entries) if (i not in gone if gone is not None else sizes[i] != 1)]]


@spread("Unsqueeze")
def _unsqueezed(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """With axes of one entry"""
    entries, given = axes.entries(node.inputs[0]), constant_value(node.inputs[1])
    if entries is None or given is None:
        return [None]
    rank = len(entries) + given.size
    added, left = {i % rank for i in given.reshape(-1).tolist()}, iter(entries)
    return [[1 if i in added else next(left) for i in range(rank)]]


@spread("Expand")
def _expanded(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Axes of one entry are repeated."""
    entries, sizes = axes.of(node.inputs[0]), dims(node.outputs[0])
    if entries is None or sizes is None:
        return [None]
    front = len(sizes) - len(entries)
    repeated = lambda axis, size: size_of(axis) == 1 and size != 1
    return [[*sizes[:front], *(s if repeated(axis, s) else axis for axis, s in zip(entries, sizes[front:], strict=True))]]


@spread("Tile")
def _tiled(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Axes are repeated as often as is said."""
    times = constant_value(node.inputs[1])
    entries = axes.entries(node.inputs[0])
    if entries is None or times is None:
        return [None if entries is None else axes.resized(node, entries, node.outputs[0].shape)]
    return _along(axes, node, [i for i, count in enumerate(times.tolist()) if count != 1])


@spread("Concat")
def _concatenated(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Joined along an axis"""
    operands = [entries for t in node.inputs if (entries := axes.entries(t)) is not None]
    if not operands or len({len(entries) for entries in operands}) != 1:
        return [None]
    axis = node.attrs["axis"] % len(operands[0])
    axes.mix(node, *(entries[axis] for entries in operands))
    others = (
        axes.broadcast(node, [[1 if i == axis else entry for i, entry in enumerate(entries)] for entries in operands]) or []
    )
    size = (dims(node.outputs[0]) or [None] * len(others))[axis]
    return [[size if i == axis else other for i, other in enumerate(others)]]


@spread("Slice")
def _sliced(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Some entries of some axes"""
    entries = axes.entries(node.inputs[0])
    if entries is None:
        return [None]
    starts, ends, chosen, steps = (None if t is None else constant_value(t) for t in (optional(node, i) for i in range(1, 5)))
    if starts is None or ends is None or (optional(node, 3) is not None and chosen is None):
        return [axes.resized(node, entries, node.outputs[0].shape)]
    cut = []
    for i, axis in enumerate(range(len(starts)) if chosen is None else chosen.tolist()):
        step = 1 if optional(node, 4) is None else 0 if steps is None else int(steps[i])
        entry = entries[axis]
        size = size_of(entry) if isinstance(entry, tuple) else entry
        if step != 1 or starts[i] != 0 or ends[i] < (END if size is None else size):
            cut.append(axis)
    return _along(axes, node, cut)


@spread("Pad")
def _padded(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Longer along some axes"""
    entries, widths = axes.entries(node.inputs[0]), constant_value(node.inputs[1])
    if entries is None:
        return [None]
    if widths is None or optional(node, 3) is not None:
        return [axes.resized(node, entries, node.outputs[0].shape)]
    rank = len(entries)
    return _along(axes, node, [i for i in range(rank) if widths[i] or widths[i + rank]])


@spread("Resize", "Upsample")
def _resampled(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Longer or shorter along some axes"""
    entries = axes.entries(node.inputs[0])
    return [None] if entries is None else _along(axes, node, range(2, len(entries)))


@spread("Gather")
def _gathered(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Entries of an axis by their numbers, whose axes take its place"""
    data, numbers = (axes.entries(t) for t in node.inputs)
    if data is None or numbers is None:
        return [None]
    axis = node.attrs.get("axis", 0) % len(data)
    axes.mix(node, data[axis])
    return [[*data[:axis], *numbers, *data[axis + 1 :]]]


@spread("GatherElements", "ScatterElements")
def _picked(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """Entries along an axis, each by a number of its own"""
    data = axes.entries(node.inputs[0])
    if data is None:
        return [None]
    axis = node.attrs.get("axis", 0) % len(data)
    axes.mix(node, data[axis])
    return [axes.resized(node, data, node.outputs[0].shape, sure=True)]


@spread("OneHot")
def _one_hot(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """A further axis"""
    entries = axes.entries(node.inputs[0])
    if entries is None:
        return [None]
    axis = node.attrs.get("axis", -1) % (len(entries) + 1)
    size = (dims(node.outputs[0]) or [None] * (len(entries) + 1))[axis]
    return [[*entries[:axis], size, *entries[axis:]]]


@spread("LinearClassifier")
def _labelled(axes: Axes, node: Node) -> Sequence[Sequence[Entry] | None]:
    """A label and scores for each row"""
    entries = axes.entries(node.inputs[0])
    if entries is None or len(entries) != 2:
        return [None, None]
    axes.mix(node, entries[1])
    return [entries[:1], [entries[0], (dims(node.outputs[1]) or [None, None])[1]]]
