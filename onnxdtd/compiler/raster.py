"""What stands where in the scores of a model: which axis has the samples, which the classes, which the positions of a sequence
or a map, and which of the scores somebody asks for.

The axis of the classes is read off the graph: the one along which a Softmax or an ArgMax compares, or else the only one whose
entries are the neurons of a layer. Equal numbers tell nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxdtd.cells import CELLS, CLASSES, ENTRIES, POSITIONS, SAMPLES, rows, words
from onnxdtd.compiler.samples import Samples
from onnxdtd.contract import SCORE
from onnxdtd.errors import RequestError
from onnxdtd.graph.emit import dims, known
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.labels import INTEGER, Index
from onnxdtd.operators.factors import Axis, parts
from onnxdtd.operators.heads import is_transparent
from onnxdtd.operators.layer import is_float
from onnxdtd.operators.table import ALL, of
from onnxdtd.request import Request


class Undecided(RequestError):
    """There are several positions, and nobody has said which one is meant."""


@dataclass(frozen=True)
class Raster:
    """The axes of scores as a user counts them, those of the tensor ``shown``: the output, or else the logits behind it.

    ``places``: which axis of the ``logits`` each of them is, None for one with one entry that these lack. ``samples`` and
    ``classes``: the axes of the logits along which these lie, None where there is none. ``known``: is it known which axis has
    the classes? ``row``: are all entries of a sample alternatives, classes or ``cells`` of a map, in whatever axes?
    """

    logits: Tensor
    shown: Tensor
    places: Sequence[int | None]
    samples: int | None
    classes: int | None = None
    known: bool = True
    row: bool = False
    cells: bool = False

    @property
    def own(self) -> list[int]:
        """The axes of what is shown of a sample."""
        return [i for i, place in enumerate(self.places) if place is None or place != self.samples]

    @property
    def positions(self) -> list[int]:
        """Those along which there are positions, or entries of which nobody knows what they are."""
        return [] if self.row else [i for i in self.own if self.places[i] is None or self.places[i] != self.classes]

    @property
    def several(self) -> bool:
        """Is there more than one position?"""
        return any(self._sizes[i] != 1 for i in self.positions)

    @property
    def batched(self) -> int | None:
        """The axis along which the samples lie."""
        return next((i for i in range(len(self.places)) if i not in self.own), None)

    @property
    def order(self) -> list[int]:
        """The axes in the order of those of the logits, then those that these lack."""
        known = sorted((place, i) for i, place in enumerate(self.places) if place is not None)
        return [*(i for _, i in known), *(i for i, place in enumerate(self.places) if place is None)]

    @property
    def axes(self) -> list[str] | None:
        """What lies along each axis; None where the rank is not known."""
        if self.shown.shape is None:
            return None
        rest = (CELLS if self.cells else CLASSES) if self.row else POSITIONS if self.known else ENTRIES
        return [
            SAMPLES if i not in self.own else rest if self.row or i in self.positions else CLASSES
            for i in range(len(self.places))
        ]

    @property
    def _sizes(self) -> list[int | None]:
        return dims(self.shown) or []

    def asked(self, request: Request, binary: bool = False) -> Request:
        """``request`` with an index of all axes taken apart into a class and a position; where the only logit is ``binary``, it
        speaks for the class 1.

        Raises ``RequestError`` where there is no such entry, or where several positions are left open.
        """
        target, position = request.target, request.position
        if position is None and self._is_entry(target):
            target = (int(str(target)),)
        if target == SCORE:
            if position is not None or request.contrast:
                raise RequestError("--target score: the input says what counts; leave out --position and --contrast")
            return request
        if isinstance(target, tuple):
            if position is not None:
                raise RequestError(f"--target {words(target)}: says the position as well; leave out --position")
            return self._taken_apart(request, target, binary)
        if position is None and self.several:
            raise Undecided(self.choices())
        if position is None:
            return request
        if not self.positions or not self.known:
            reason = f"{self.name} has a row of scores for each sample" if self.row else self.choices()
            raise RequestError(f"--position {words(position)}: {reason}")
        return replace(request, position=self._checked("--position", position, self.positions))

    def leaves_open(self, request: Request) -> bool:
        """Does a request not say which of several positions it means?"""
        said = request.position is not None or isinstance(request.target, tuple) or request.target == SCORE
        return self.several and not said and not self._is_entry(request.target)

    def _is_entry(self, target: Any) -> bool:
        """Is it the number of an entry, where there is only one axis of them, which has no classes?"""
        number = isinstance(target, int) or (isinstance(target, str) and INTEGER.fullmatch(target) is not None)
        return self.several and len(self._wide(self.own)) == 1 and number

    def at(self, request: Request) -> dict[int, int]:
        """The position that a request which was ``asked`` means, by the axes of the logits."""
        if request.target == SCORE or self.row:
            return {}
        given = request.target if isinstance(request.target, tuple) else request.position or [0] * len(self.positions)
        found = {place: i for axis, i in zip(self.positions, given, strict=True) if (place := self.places[axis]) is not None}
        rank = len(self.logits.shape or ())
        return {axis: found.get(axis, 0) for axis in range(rank) if axis not in (self.samples, self.classes)}

    def rows(self, logits: np.ndarray, request: Request) -> np.ndarray:
        """The scores that a request which was ``asked`` chooses from, [samples, classes], of values of the logits."""
        if self.row:
            return logits.reshape([len(logits) if self.samples is not None else 1, -1])
        at = self.at(request)
        names = {self.samples: SAMPLES, self.classes: CLASSES}
        return rows(logits, [names.get(i, POSITIONS) for i in range(logits.ndim)], [*at.values()])

    def _taken_apart(self, request: Request, target: Sequence[int], binary: bool) -> Request:
        given = dict(zip(self.own, self._checked("--target", target, self.own), strict=True))
        if not self.known:
            return replace(request, target=tuple(given.values()))
        classes = [i for i in self.own if i not in self.positions]
        index = 1 if binary else max((given[i] for i in classes), default=None)  # all but one axis of a row have one entry
        position = tuple(given[i] for i in self.positions) if self.several else None
        return replace(request, target=None if index is None else Index(index), position=position)

    def _checked(self, option: str, given: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
        """An index of some axes, of which those with one entry may be left out."""
        wide = self._wide(axes)
        asked = axes if len(given) == len(axes) else wide
        if len(given) != len(asked):
            raise RequestError(f"{option} {words(given)}: give an index of {self._sized(wide)} of {self.name}")
        found = dict(zip(asked, given, strict=True))
        for axis, i in found.items():
            size = self._sizes[axis]
            if i < 0 or (size is not None and i >= size):
                last = "" if size is None else f" to {size - 1}"
                raise RequestError(f"{option} {words(given)}: {i} is no index of axis {axis} of {self.name}; give 0{last}")
        return tuple(found.get(axis, 0) for axis in axes)

    def choices(self) -> str:
        """What can be asked for, in words."""
        own, positions = (self._wide(axes) for axes in (self.own, self.positions))
        ways = f"--target {self._any(own)} (an index of {self._sized(own)}) for one of its entries, or --target score for any "
        ways += "weighted sum of them"
        if not self.known:
            return f"nothing tells which axis of {self.name} has classes: give {ways}"
        classes = [i for i in self.own if i not in self.positions]
        each = f"scores of {self._sizes[classes[0]] or 'the'} classes (axis {classes[0]})" if classes else "a score"
        there = f"{self.name} has {each} at each position along {self._sized(positions)}"
        return f"{there}: give --position {self._any(positions)} for what it says there, {ways}"

    def ways(self) -> list[str]:
        """The options that choose what is explained, with indices for examples; without one it is the arg-max of a row."""
        own, positions = (self._wide(axes) for axes in (self.own, self.positions))
        there = [f"--position {self._any(positions)}"] if self.several and self.known else []
        return [*there, *([f"--target {self._any(own)}"] if own else []), f"--target {SCORE}"]

    def _wide(self, axes: Sequence[int]) -> list[int]:
        """Those with more than one entry, if any has."""
        return [i for i in axes if self._sizes[i] != 1] or [*axes]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.shown.name!r} {shape_text(self.shown)}"

    def _any(self, axes: Sequence[int]) -> str:
        """An index somewhere in the middle."""
        return words([(self._sizes[i] or 2) // 2 for i in axes])

    def _sized(self, axes: Sequence[int]) -> str:
        names = [f"{i}{'' if self._sizes[i] is None else f' (0 to {int(self._sizes[i] or 1) - 1})'}" for i in axes]
        return f"ax{'i' if len(axes) == 1 else 'e'}s {', '.join(names[:-1])}{' and ' if len(names) > 1 else ''}{names[-1]}"


def shape_text(tensor: Tensor) -> str:
    """A shape as messages show it."""
    return "of unknown shape" if tensor.shape is None else "[" + ", ".join(str(d) for d in tensor.shape) + "]"


def raster(output: Tensor, logits: Tensor, stepped_back: Sequence[Node], samples: Samples) -> Raster:
    """What is known of the ``logits`` behind an output."""
    sizes, factors, front = dims(logits), samples.factors(logits), samples.along
    if sizes is None or factors is None or len(sizes) < 2:
        return _row(output, logits, None if sizes is not None and not samples.column else 0)
    wide = [i for i, size in enumerate(sizes) if i != front and size != 1]
    compared = _compared(logits, stepped_back, samples)
    layers = [i for i in wide if len(parts(factors[i])) == 1 and parts(factors[i])[0].layer is not None]
    one = not layers and any(factor.layer is not None and factor.size == 1 for axis in factors for factor in axis)
    classes = compared if compared is not None else layers[0] if len(layers) == 1 else None
    turned = any(of(node).hands_on == ALL for node in stepped_back)
    row = front is not None and _is_row(samples.factors(output), factors[front])
    cells = row and compared is None and not turned and _are_cells(stepped_back)
    plain = all(i == 1 for i in wide) and (classes == 1 or (classes is None and not (one and wide)))  # [batch, classes, 1, ...]
    if front == 0 and (len(sizes) == 2 or cells or plain):
        laid_out = len(wide) > 1 or any(len(parts(factors[i])) > 1 or samples.is_input(factors[i]) for i in wide)
        return _row(logits if turned else output, logits, 0, cells=cells and laid_out)
    if len(sizes) == 2 and classes is None and front is not None:
        classes = 1 - front
    shown, places = _shown(output, logits, samples)
    return Raster(logits, shown, places, front, classes, classes is not None or one)


def _row(output: Tensor, logits: Tensor, samples: int | None, cells: bool = False) -> Raster:
    """All entries of a sample are alternatives."""
    have, want = (known((dims(t) or [None])[1:]) for t in (output, logits))
    same = dims(output) == dims(logits) or (None not in (have, want) and math.prod(have or ()) == math.prod(want or ()))
    shown = output if same and is_float(output.dtype) else logits
    rank = len(shown.shape or ())
    return Raster(logits, shown, [*range(rank)], samples if rank else None, 1 if rank > 1 else None, row=True, cells=cells)


def _compared(logits: Tensor, stepped_back: Sequence[Node], samples: Samples) -> int | None:
    """The axis of the logits along which the first head that compares classes does so."""
    for node in stepped_back:
        head, x = of(node).head, node.inputs[0]
        if head is None or head.along is None or x.shape is None:
            continue
        axis = node.attrs.get("axis", head.along) % len(x.shape)
        if x is logits:
            return int(axis)
        of_logits, of_head = samples.factors(logits) or [], samples.factors(x) or []
        wanted = parts(of_head[axis]) if of_head else []
        return next((i for i, found in enumerate(of_logits) if wanted and parts(found) == wanted), None)
    return None


def _is_row(axes: Sequence[Axis] | None, front: Axis) -> bool:
    """Is it [samples, entries]?"""
    return axes is not None and len(axes) == 2 and parts(axes[0]) == parts(front)


def _are_cells(stepped_back: Sequence[Node]) -> bool:
    """Is each of the scores squashed by itself, if at all?"""
    return all(is_transparent(of(node)) for node in stepped_back if (head := of(node).head) is None or not head.each)


def _shown(output: Tensor, logits: Tensor, samples: Samples) -> tuple[Tensor, list[int | None]]:
    """The tensor whose axes are counted, and which axis of the logits each of them is: the output, if it has all of them."""
    mine = [*range(len(logits.shape or ()))]
    have, want = samples.factors(output), samples.factors(logits)
    if output is logits or not is_float(output.dtype) or have is None or want is None:
        return logits, [*mine]
    left, places = dict(enumerate(want)), list[int | None]()
    for axis in have:
        alike = lambda other, axis=axis: other == axis or (parts(axis) and parts(other) == parts(axis))
        places.append(next((i for i, other in left.items() if alike(other)), None))
        left.pop(places[-1], None) if places[-1] is not None else None
    whole = not any(parts(axis) for axis in left.values())
    whole = whole and not any(parts(axis) for axis, place in zip(have, places, strict=True) if place is None)
    return (output, places) if whole else (logits, [*mine])
