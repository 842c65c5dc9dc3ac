"""Where the axes of tensors come from: what each operator keeps apart, what it mixes and what it joins.

An axis is a product of factors, the outermost first: one of its own where it comes from an input, several where a Reshape joins
some, as windows or heads are joined with the samples. An operator that computes entry by entry along an axis hands its factors
on; one that sums or compares entries along it, or picks some of them, mixes these factors. Nodes are followed once, in their
order (see ``spread``), and factors that turn out to be one are made one: so the depth of a net costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

from onnxdtd.graph.emit import dims
from onnxdtd.graph.tensors import Node, Tensor, Times
from onnxdtd.operators.factors import (
    ONE,
    Axis,
    Factor,
    Size,
    alone,
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
from onnxdtd.operators.sizes import Values, constants

Entry: TypeAlias = Axis | int | None  # an axis, or the size of one of a constant
Shape: TypeAlias = Sequence[int | str | None] | None


class Axes:
    """The axes of all tensors that depend on ``inputs``, as far as they have been entered."""

    def __init__(self, inputs: Iterable[Tensor]):
        self.inputs = list(inputs)
        self._of: dict[str, list[Axis] | None] = {}
        self._named: dict[str, Axis | None] = {}
        self._stretched: dict[str, list[Entry]] = {}
        self._values: dict[str, Values] = {}  # of what is computed from sizes alone
        self.stopped: Node | None = None  # the first node that nobody knows what becomes of axes behind
        self._called: list[tuple[Factor, str]] = []  # what inputs call the sizes of their axes
        for tensor in self.inputs:
            sizes, shape = dims(tensor), list(tensor.shape or ())
            self.enter(tensor, None if sizes is None else [self.new(size) for size in sizes])
            names = zip(self.of(tensor) or (), shape, strict=bool(shape))
            self._called += [(a, size) for (a,), size in names if isinstance(size, str) and shape.count(size) == 1]

    def stop(self, node: Node) -> None:
        """Note that it is not known what becomes of axes behind a node: nothing is kept but what the names of sizes tell."""
        self.stopped = self.stopped or node
        for tensor in node.inputs:
            self.lose(node, *(self.of(tensor) or ()))
        for tensor in node.outputs:
            named = [self.named(size) is not None for size in tensor.shape or ()]
            self.enter(tensor, None)
            self.lose(node, *(axis for axis, known in zip(self.of(tensor) or (), named, strict=True) if not known))

    def of(self, tensor: Tensor) -> list[Axis] | None:
        """The axes of a tensor, None where it has none that are known."""
        axes = self._of.get(tensor.name)
        return None if axes is None else [tuple(map(whole, axis)) for axis in axes]

    def depends(self, tensor: Tensor) -> bool:
        """Does it depend on an input?"""
        return tensor.name in self._of

    def entries(self, tensor: Tensor) -> list[Entry] | None:
        """The axes of a tensor, the sizes of a constant, None where not even the rank is known."""
        given = self._stretched.get(tensor.name, dims(tensor))
        axes: Sequence[Entry] | None = self.of(tensor) if tensor.name in self._of else given
        return None if axes is None else list(axes)

    def stretch(self, tensor: Tensor, entries: Sequence[Entry], target: Values) -> None:
        """Note the axes of a constant that is repeated up to the sizes ``target``."""
        long = [None if size is None else number(size) or alone(size) for size in target]
        own: list[Entry] = [*[1] * (len(target) - len(entries)), *entries]
        if len(own) == len(long):
            self._stretched[tensor.name] = [there if here == 1 else here for here, there in zip(own, long, strict=True)]

    def values(self, tensor: Tensor) -> Values | None:
        """The entries of a tensor of sizes, where they are known."""
        held = self._values.get(tensor.name)
        return constants(tensor) if held is None else [None if size is None else now(size) for size in held]

    def sizes(self, tensor: Tensor) -> Values | None:
        """How many entries lie along each axis of a tensor, None where it has no axes that are known."""
        held = self.entries(tensor)
        return None if held is None else [None if entry is None else product(self.own(entry)) for entry in held]

    def count(self, tensor: Tensor, values: Values) -> None:
        """Note the entries of a tensor of sizes."""
        self._values[tensor.name] = values

    def enter(self, tensor: Tensor, axes: list[Axis] | None) -> None:
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

    def pair(self, node: Node) -> None:
        """What lies on two axes at once of what a node gives, the products of all pairs, is mixed."""
        for tensor in node.outputs:
            counts = Counter(factor for axis in self._of.get(tensor.name) or () for factor in parts(axis))
            for factor, count in counts.items():
                if count > 1:
                    factor.mixed = factor.mixed or node

    # What operators do with axes.

    @staticmethod
    def new(size: int | None) -> Axis:
        """An axis that comes from nowhere."""
        return (Factor(size),)

    @staticmethod
    def neurons(node: Node, entry: Entry) -> Entry:
        """An axis of what a layer gives: where it is one of the weights, its entries are neurons."""
        return entry if isinstance(entry, tuple) else (Factor(entry, layer=node),)

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
        self.guess(*axes)
        for axis in axes:
            pairs = list(zip(parts(first), parts(axis), strict=False))
            fits = len(parts(first)) == len(parts(axis)) and all(a.size == b.size or None in (a.size, b.size) for a, b in pairs)
            if fits:
                for a, b in pairs or [(whole(first[0]), whole(axis[0]))]:
                    unite(a, b)
            else:
                self.lose(node, first, axis)
        return first

    def guess(self, *entries: Entry) -> None:
        """Note that axes are taken to be as long as others, or as some sizes, which is not known of those of unknown size, nor
        of those of one entry where the size of others is not known. Names of sizes prove nothing: nobody compares those of
        several inputs with what is fed.
        """
        axes = [parts(self.own(entry)) for entry in entries]
        if any(axis != axes[0] for axis in axes):
            for factor in (whole(factor) for entry in entries if isinstance(entry, tuple) for factor in entry):
                factor.guessed = factor.guessed or factor.size in (None, 1)

    def measure(self, tensor: Tensor) -> list[int | Times | None] | None:
        """How many entries lie along each axis: a number, or so many times what an axis of an input has; None where that is
        not sure.
        """
        held, declared = self._of.get(tensor.name), dims(tensor)
        if held is None or declared is None or len(held) != len(declared):
            return None
        return [self._measured(axis) if size is None else size for axis, size in zip(held, declared, strict=True)]

    def _measured(self, axis: Axis) -> int | Times | None:
        number, unknown = product(axis)
        if number.denominator != 1 or any(factor.guessed for factor in map(whole, axis)):
            return None
        if not unknown:
            return int(number)
        names = {name for factor, name in self._called if unknown == product([factor])[1]}
        if any(name in names and product([factor])[1] != unknown for factor, name in self._called):
            return None  # for tensors that are known by this name alone
        for tensor in self.inputs:
            for i, own in enumerate(self.of(tensor) or ()):
                if product(own) == (ONE[0], unknown):
                    return int(number), tensor, i
        return None

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
                self.guess(constant, *long)
            if None in here or len(known) < len(operands):
                self.guess(None, *axes)
            if long or (axes and constant is None):
                found.append(self.same(node, long or axes))
            else:
                found.append(self.new(constant or (1 if here and None not in here else None)))
        sure = len(known) == len(operands) or node.outputs[0].shape is not None  # or there may be more axes in front
        return found[::-1] if known and sure else None

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

    def _among(self, factors: Iterable[Factor], size: Size | None) -> Size | None:
        """A size in terms of some factors, if inputs call those by the name that they have for the size."""
        names = {whole(factor): name for factor, name in self._called}
        own = set(map(whole, factors))
        alike = {names[factor]: factor for factor in own if factor in names}
        if size is None:
            return None
        powers = [(factor if factor in own else alike.get(names.get(factor, ""), factor), power) for factor, power in size[1]]
        for factor, _ in frozenset(powers) - size[1]:
            factor.guessed = True
        return multiplied([(size[0], frozenset()), *((Fraction(1), frozenset([pair])) for pair in powers)])

    def alike(self, values: Values | None, size: Size) -> bool:
        """Is it one size, and that one, by what inputs call their sizes?"""
        return values is not None and [self._among([factor for factor, _ in size[1]], value) for value in values] == [size]

    def _sizes(self, axes: Sequence[Axis], result: Tensor, target: Values | None) -> list[Size] | None:
        """The sizes of a Reshape's result in terms of those before; None where more than one is not known."""
        declared = result.shape if result.shape is not None else [None] * len(target) if target is not None else None
        if declared is None:
            return None
        own, sizes = [factor for axis in axes for factor in axis], list[Size | None]()
        for i, size in enumerate(declared):
            wanted = self._among(own, target[i] if target is not None and i < len(target) else None)
            named = self.named(size)
            if wanted is None and isinstance(size, int):
                wanted = Fraction(size), frozenset()
            sizes.append(product(named) if wanted is None and named is not None else wanted)
        if sizes.count(None) == 1:
            rest = divided(product(own), multiplied([size for size in sizes if size is not None]))
            sizes[sizes.index(None)] = rest
        found = [size for size in sizes if size is not None and size[0] != 0]
        return found if len(found) == len(sizes) else None
