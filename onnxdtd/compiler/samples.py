"""Which axis the samples lie along, in every tensor: followed from the inputs to the logits, never guessed from equal numbers.

An axis of an input is that of the samples if its entries reach the rows of the logits and nothing on the way mixes them. Where
none does and there is one row of logits, the input is one sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from onnxdtd.errors import ModelError
from onnxdtd.graph.emit import Emit, dims, label
from onnxdtd.graph.tensors import Node, Shape, Tensor, Times
from onnxdtd.operators.axes import Axes
from onnxdtd.operators.factors import Axis, Factor, parts, size_of, unite, whole
from onnxdtd.operators.table import of


class Samples:
    """The samples of a model with these ``inputs`` and ``logits``.

    ``axes``: the axis of each input along which they lie, None where it has none: the input is one sample. ``size``: how many
    there are, a number, the name of a size, or None. ``along``: the axis of the logits that has them, if any. ``column``: the
    logits are [batch], one for each sample, not [classes]. ``merged``: they have a row for each of several positions of one.
    ``doubt``: why the rows of the logits are no samples of the inputs, None where they are.
    """

    def __init__(self, axes: Axes, inputs: Sequence[Tensor], logits: Tensor):
        self._axes, self._logits = axes, logits
        self._noted: dict[str, int | None] = {}
        sizes, held = dims(logits), axes.of(logits)
        self.along = _along(axes, held or [])
        front = held[self.along or 0] if held else None
        self.column = sizes is not None and len(sizes) == 1 and _is_column(front, axes)
        self.merged = front is not None and len(parts(front)) > 1 and (self.column or len(sizes or ()) != 1)
        self.doubt: str | None = None
        self._factor: Factor | None = None
        if self.along is not None and (sizes is None or len(sizes) > 1 or self.column):
            self._factor = self._rows(front)
        stop = _stop(front, axes)
        if stop is not None:
            self.doubt = (
                f"the rows of {logits.name!r} are no samples: they cannot be followed behind {label(stop)!r} ({stop.op})"
            )
        self.axes: dict[str, int | None] = {t.name: self._of_input(t) for t in inputs}
        self._take_names(inputs)
        self.size: int | str | None = 1 if self._factor is None else whole(self._factor).size
        if self.size is None and logits.shape is not None:
            self.size = logits.shape[self.along or 0]

    def _take_names(self, inputs: Sequence[Tensor]) -> None:
        """What the model calls by the name that samples have elsewhere is theirs too: rows of a mask, wherever its entries go,
        unless they are lined up with an axis of so many entries.
        """
        names = {t.shape[axis] for t in inputs if t.shape and (axis := self.axes[t.name]) is not None} - {None}
        for t in inputs:
            if self.axes[t.name] is not None or not t.shape or _first_name(t.shape) not in names:
                continue
            self.axes[t.name] = 0
            held = self._axes.of(t)
            size = whole(held[0][0]).size if held and held[0] else None
            if size not in (None, 1):
                rows = f"{t.name!r} has {size} rows, by the way it is used"
                self.doubt = f"{rows}, and not one for each of the samples {t.shape[0]!r}"

    def _rows(self, front: Axis | None) -> Factor | None:
        """What the rows of the logits are: samples, or None for the only row of a single one."""
        axes, name = self._axes, self._logits.name
        if front is None:  # of unknown rank
            return _meant(axes, Factor(None)) or Factor(None)
        own, declared = parts(front), (dims(self._logits) or [None])[0]
        if len(own) == 1 and own[0].size is None and declared == 1:
            own[0].size, own = 1, []
        if not own:
            return next((factor for factor in map(whole, front) if _is_input(axes, factor)), None)
        factor = own[0]
        meant = factor if _is_input(axes, factor) else _meant(axes, factor)
        if meant is None:
            held = [factor for t in axes.inputs for axis in axes.of(t) or () for factor in axis]
            lost = next((f"cannot be followed behind {label(f.lost)!r} ({f.lost.op})" for f in held if f.lost is not None), "")
            self.doubt = f"the rows of {name!r} are no samples: they {lost or 'come from no axis of an input'}"
            return factor
        axes.guess((factor,), (meant,))
        unite(factor, meant)
        factor = whole(factor)
        if factor.mixed is not None:
            self.doubt = f"the rows of {name!r} are no samples: {label(factor.mixed)!r} ({factor.mixed.op}) mixes them"
        return factor

    def _of_input(self, tensor: Tensor) -> int | None:
        axes, factor = self._axes.of(tensor), None if self._factor is None else whole(self._factor)
        if axes is None:  # of unknown rank
            return 0
        found = [i for i, axis in enumerate(axes) if factor in axis]
        if found or not axes:
            return found[0] if found else None
        front = whole(axes[0][0])
        if factor is None or factor.size == 1:
            likely = len(axes) > 1 and front.size == 1
        else:
            named = None if tensor.shape is None else self._axes.named(tensor.shape[0])
            likely = factor.size is front.size is None if named is None else factor in map(whole, named)
        return 0 if likely and front.mixed is None else None

    def of(self, tensor: Tensor) -> int | None:
        """The axis of a tensor along which the samples lie; None where all of it belongs to one sample.

        Raises ``ModelError`` where that is not known, or where samples share an axis with something else.
        """
        if tensor.name in self._noted:
            return self._noted[tensor.name]
        if self.size == 1:
            return next((i for i, axis in enumerate(self._axes.of(tensor) or ()) if self._is(axis)), None)
        axis, outer, inner = self._place(tensor)
        if (outer, inner) != ([], []):
            raise ModelError(f"{tensor.name!r} has samples and something else on axis {axis}")
        return axis

    def factors(self, tensor: Tensor) -> list[Axis] | None:
        """The axes of a tensor as products of factors; None where nobody knows them."""
        return self._axes.of(tensor)

    def is_input(self, axis: Axis) -> bool:
        """Is it an axis of an input?"""
        return any(_is_input(self._axes, factor) for factor in parts(axis))

    def sizes(self, tensor: Tensor) -> list[int | None] | None:
        """The sizes of what belongs to one sample in a tensor; None where one, or all of them, are not known."""
        axes, declared = self._axes.of(tensor), dims(tensor)
        if axes is None:
            return declared
        own = None if self._factor is None else whole(self._factor)
        found: list[int | None] = []
        for axis, size in zip(axes, declared or [None] * len(axes), strict=True):
            inner = size_of(tuple(factor for factor in axis if factor is not own))
            found.append(size if inner is None and own not in axis else inner)
        return found

    def measure(self, tensor: Tensor) -> list[int | Times | None] | None:
        """How many entries lie along each axis of a tensor, by those of inputs; see ``Axes.measure``."""
        return self._axes.measure(tensor)

    def note(self, tensor: Tensor, axis: int | None) -> None:
        """Of a tensor that the model does not have: the axis along which its samples lie."""
        self._noted[tensor.name] = axis

    def name_sizes(self, tensors: Iterable[Tensor]) -> None:
        """Give axes of unknown size the number that they have if that can be told; and call the size of one that samples have
        for themselves what inputs call it, wherever it has another name: then it is known that nothing is repeated along it.
        """
        tensors = list(tensors)
        for tensor in tensors:
            if tensor.shape is not None and (measured := self.measure(tensor)) is not None:
                pairs = zip(measured, tensor.shape, strict=True)
                tensor.shape = [size if isinstance(size, int) else word for size, word in pairs]
        shapes = [(t.shape, axis) for t in self._axes.inputs if (axis := self.axes.get(t.name)) is not None]
        names = {shape[axis] for shape, axis in shapes if shape}
        if self.doubt is not None or self._factor is None or len(names) != 1 or not isinstance(name := names.pop(), str):
            return
        for tensor in tensors:
            held, shape = self._axes.of(tensor), tensor.shape
            if held is not None and shape is not None and len(held) == len(shape):
                own = [isinstance(size, str) and self._is(axis) for axis, size in zip(held, shape, strict=True)]
                tensor.shape = [name if is_own else size for is_own, size in zip(own, shape, strict=True)]

    def in_front(self, tensor: Tensor) -> bool:
        """Do samples come one behind the other, each as a block of rows?"""
        try:
            axis, outer, _ = self._place(tensor)
        except ModelError:
            return False
        return axis == 0 and not outer

    def rows(self, e: Emit, value: Tensor, like: Tensor) -> Tensor:
        """``value``, which is laid out like the tensor ``like``, as [samples, entries]. Raises ``ModelError`` as ``of`` does,
        unless the samples only share their axis with something.
        """
        if self.size == 1:
            return e("Reshape", value, [1, -1])
        axis, outer, inner = self._place(like)
        rank = len(self._axes.of(like) or like.shape or ())
        if axis:
            value = e("Transpose", value, perm=[axis, *(i for i in range(rank) if i != axis)])
        if not outer and not inner:
            return value if rank == 2 else e("Flatten", value)
        count, rest = self.count(e), e.constant(np.asarray([-1]))
        if not outer:
            return e("Reshape", value, e("Concat", count, rest, axis=0))
        before, behind = _known(outer), _known(inner)
        if before is not None:
            sizes = e.constant(np.asarray([before])), count, rest
        elif behind is not None:
            value = e("Flatten", value)
            sizes = rest, count, e("Mul", e("Shape", value, start=1, end=2), e.constant(np.asarray([behind])))
        else:
            raise ModelError(
                f"{like.name!r} has samples and several axes of unknown size on axis {axis}; export with a batch of 1"
            )
        return e("Flatten", e("Transpose", e("Reshape", value, e("Concat", *sizes, axis=0)), perm=[1, 0, 2]))

    def count(self, e: Emit) -> Tensor:
        """The number of samples, int64 of shape [1]."""
        return e.constant(np.asarray([1])) if self.size == 1 else e.shape(self._logits, self.along or 0, (self.along or 0) + 1)

    def _is(self, axis: Axis) -> bool:
        return self._factor is not None and [whole(self._factor)] == list(map(whole, axis))

    def _place(self, tensor: Tensor) -> tuple[int, list[Factor], list[Factor]]:
        """The axis of the samples, and the factors of that axis before and behind them."""
        noted = self._noted.get(tensor.name)
        if noted is not None:
            return noted, [], []
        axes, factor = self._axes.of(tensor), None if self._factor is None else whole(self._factor)
        for i, axis in enumerate(axes or ()):
            if factor in axis:
                place = axis.index(factor)
                return i, parts(axis[:place]), parts(axis[place + 1 :])
        raise self._unknown(tensor)

    def _unknown(self, tensor: Tensor) -> ModelError:
        node = None if self._factor is None else whole(self._factor).lost
        if node is not None:
            return ModelError(f"the batch cannot be followed behind {label(node)!r} ({node.op}); export with a batch of 1")
        return ModelError(f"{tensor.name!r} is shared by all samples, its relevance belongs to none of them")


def _first_name(shape: Shape) -> str | None:
    """The name of the first size, if it has one that no other has."""
    return shape[0] if isinstance(shape[0], str) and list(shape).count(shape[0]) == 1 else None


def _known(factors: Sequence[Factor]) -> int | None:
    sizes = [factor.size for factor in factors]
    return None if None in sizes else int(np.prod([size for size in sizes if size is not None]))


def _is_input(axes: Axes, factor: Factor) -> bool:
    """Is it an axis of an input?"""
    return any(axis == (whole(factor),) for t in axes.inputs for axis in axes.of(t) or ())


def _along(axes: Axes, held: Sequence[Axis]) -> int | None:
    """The axis of logits that has the samples: the first that is an axis of an input and that nothing mixes, if possible one
    whose entries no constants tell apart, and that is in front in an input. Where there is none, the one in front, unless that
    has the neurons of a layer: they are no samples, and None says that all scores are those of one.
    """
    single = [(i, whole(factor)) for i, axis in enumerate(held) if not parts(axis) for factor in axis]
    wide = [(i, factor) for i, axis in enumerate(held) if len(parts(axis)) == 1 for factor in parts(axis)]
    own = [*(pair for pair in single if pair[0] == 0), *wide, *single]
    clean = [(i, factor) for i, factor in own if factor.mixed is None and _is_input(axes, factor)]
    fronts = [entries[0] for t in axes.inputs if (entries := axes.of(t))]
    clean.sort(key=lambda pair: len(held) > 2 and (pair[1].told is not None, (pair[1],) not in fronts))
    neurons = len(held) > 1 and len(parts(held[0])) == 1 and parts(held[0])[0].layer is not None
    return clean[0][0] if clean else None if neurons else 0


def _is_column(front: Axis | None, axes: Axes) -> bool:
    """Do logits with one axis have one entry for each sample?"""
    own = [] if front is None else parts(front)
    if len(own) != 1 or own[0].mixed is not None or own[0].told is not None:
        return len(own) > 1 and any(_is_input(axes, factor) for factor in own)
    (factor,) = own
    if not _is_input(axes, factor):
        return factor.size is None and _meant(axes, factor) is not None
    vector = all(len(axes.of(t) or ()) == 1 for t in axes.inputs)
    return factor.size is None or not vector


def _stop(front: Axis | None, axes: Axes) -> Node | None:
    """The node that the rows of the logits come from, where nobody knows what becomes of axes behind it."""
    if front is None:
        return axes.stopped
    factor = next(iter(parts(front)), None)
    lost = None if factor is None or _is_input(axes, factor) else factor.lost
    return None if lost is None or of(lost).axes is not None else lost


def _meant(axes: Axes, factor: Factor) -> Factor | None:
    """The first axis of an input, where the rows of the logits could not be followed to it and nothing speaks against it."""
    if any(axes.of(t) is None for t in axes.inputs):  # of unknown rank
        return factor
    fronts = [held[0] for t in axes.inputs if (held := axes.of(t))]
    own = [part for axis in fronts for part in axis if part.mixed is None and part.size is factor.size is None]
    return own[0] if own and factor.mixed is None else None
