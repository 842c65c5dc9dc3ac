"""As what a sample is drawn, and in which order its axes are taken then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxdtd.data.forms import MODES, SMALLEST_PICTURE, Form, colour_axis, is_signal
from onnxdtd.errors import counted

COLOURS = 3
OPEN = 2**20  # entries along an axis whose size is open, for all that is known
BYTES = range(256, 261)  # rows of a table that bytes look up: one each, and some for padding and the like


@dataclass(frozen=True)
class Arrangement:
    """A kind, and the axes of a sample by what they mean there; what is not named has the size 1.

    ``image``: rows, columns and channels; ``traces``: channels and steps; ``frames``: frames, rows, columns and channels;
    ``slices``: the same, of a volume, or of a clip without colours; ``bars``: all of them, as features; ``ids`` and ``bytes``:
    all of them, one after the other.
    """

    kind: str
    axes: tuple[tuple[int, ...], ...]
    folded: tuple[int, ...] = ()  # what a sample is laid out as first

    def of(self, x: np.ndarray) -> np.ndarray:
        """``x`` with one axis for each that the kind has.

        >>> arrangement((12, 5000)).of(np.zeros((12, 5000))).shape, arrangement((9, 8, 3)).of(np.zeros((9, 8, 3))).shape
        ((12, 5000), (9, 8, 3))
        """
        x = x.reshape(self.folded or x.shape)
        order = [axis for group in self.axes for axis in group]
        rest = [axis for axis in range(x.ndim) if axis not in order]
        sizes = [int(np.prod([x.shape[axis] for axis in group], dtype=int)) for group in self.axes]
        return x.transpose(rest + order).reshape(sizes)

    def back(self, values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """The sample of ``shape`` that ``of`` takes apart into ``values``.

        >>> laid_out = arrangement((5000, 12))
        >>> laid_out.back(laid_out.of(np.arange(60000).reshape(5000, 12)), (5000, 12))[1, :3]
        array([12, 13, 14])
        """
        seen = self.folded or tuple(shape)
        order = [axis for group in self.axes for axis in group]
        axes = [axis for axis in range(len(seen)) if axis not in order] + order
        return values.reshape([seen[axis] for axis in axes]).transpose(np.argsort(axes)).reshape(shape)


def arranged(shape: Sequence[int], form: Form) -> Arrangement:
    """How a sample of ``shape`` and of this ``form`` is drawn."""
    if form.ids is not None:
        return in_rows(shape, form.ids)
    return replace(arrangement(form.laid_out(shape), form.slides, form.channel), folded=form.folded)


def arrangement(shape: Sequence[int], slides: Sequence[int] = (), channel: int | None = None) -> Arrangement:
    """How a sample of ``shape`` is drawn. ``slides`` are the axes over which the model's first layer slides, as far as
    that is known: one makes a signal, two a picture, three a clip or a volume, and the ``channel`` its colours. Without them
    the shape decides.
    """
    long = tuple(axis for axis, size in enumerate(shape) if size > 1)
    slid = tuple(axis for axis in slides if shape[axis] > 1)
    rest = tuple(axis for axis in long if axis not in slid)
    if len(slid) == 1:
        return Arrangement("traces", (rest, slid))
    if len(slid) == 2:
        return _planes(shape, rest, slid, channel)
    if len(slid) == 3:
        kind = "frames" if np.prod([shape[axis] for axis in rest], dtype=int) > 1 else "slices"
        return Arrangement(kind, ((slid[0],), (slid[1],), (slid[2],), rest))
    return _guessed(shape, long)


@dataclass(frozen=True)
class Sizes:
    """How samples of a kind lie, and how many entries there are along each of its axes, None where that is open."""

    arrangement: Arrangement
    sizes: tuple[int | None, ...]

    @classmethod
    def of(cls, form: Form) -> Sizes:
        """Those of samples of a ``form``; what is open is taken for long, but the channels of pictures for colours."""
        declared = [*(form.folded or form.shape)]
        colours = form.channel if len(form.slides) > 1 and not form.folded else None
        likely = [size if isinstance(size, int) else COLOURS if i == colours else OPEN for i, size in enumerate(declared)]
        found = arranged(likely, form)
        known = [[size for axis in group if isinstance(size := declared[axis], int)] for group in found.axes]
        whole = [len(sizes) == len(group) for sizes, group in zip(known, found.axes, strict=True)]
        return cls(found, tuple(math.prod(sizes) if all_ else None for sizes, all_ in zip(known, whole, strict=True)))

    def words(self) -> str:
        """How a sample is seen.

        >>> Sizes.of(Form.of("x", ["n", 12, "t"], 0, 1, slid=[2])).words(), Sizes.of(Form.of("x", ["n", 8, 8, 3], 0, 3)).words()
        ('12 channels x steps', '8 x 8 pixels, 3 channels')
        >>> Sizes.of(Form.of("x", ["n", 3, 5, 8, 9], 0, 1)).words(), Sizes.of(Form.of("x", ["n", 1, 5, 8, 9], 0, 1)).words()
        ('5 frames of 8 x 9 pixels, 3 channels', 'a volume of 5 x 8 x 9')
        """
        kind, several = self.arrangement.kind, lambda size, word: f"{word}s" if size is None else counted(size, word)
        if kind == "traces":
            return " x ".join(map(several, self.sizes, ("channel", "step")))
        if kind in ("image", "frames", "slices"):
            *space, colours = self.sizes
            by = " x ".join("?" if size is None else str(size) for size in (space if kind == "slices" else space[-2:]))
            if kind == "slices":
                return f"a volume of {by}"
            frames = f"{several(space[0], 'frame')} of " if kind == "frames" else ""
            return f"{frames}{by} pixels" + (f", {several(colours, 'channel')}" if colours != 1 else "")
        return several(self.sizes[0], "feature") if kind == "bars" else kind

    def sample(self, values: np.ndarray, form: Form) -> np.ndarray:
        """The sample that ``values`` with these axes are."""
        there = {
            axis: size
            for group, size in zip(self.arrangement.axes, values.shape, strict=True)
            for axis in group
            if len(group) == 1
        }
        shape = [size if isinstance(size, int) else there.get(axis, 1) for axis, size in enumerate(form.shape)]
        return self.arrangement.back(values, shape)


def in_rows(shape: Sequence[int], rows: int) -> Arrangement:
    """How ids that look up one of so many ``rows`` are drawn: as numbers, or as the bytes of a text."""
    return Arrangement("bytes" if rows in BYTES else "ids", (tuple(range(len(shape))),))


def _guessed(shape: Sequence[int], long: tuple[int, ...]) -> Arrangement:
    """By the shape alone."""
    channel = colour_axis(shape)
    space = tuple(axis for axis in range(len(shape)) if axis != channel)
    if channel is not None and min(shape[axis] for axis in space) >= SMALLEST_PICTURE:
        return _planes(shape, (channel,), space)
    if len(long) == 1 and len(shape) > 1:
        return Arrangement("traces", ((), long))
    if len(long) == 2:
        short, longer = sorted(long, key=lambda axis: shape[axis])
        signal = is_signal(shape[short], shape[longer])
        return Arrangement("traces", ((short,), (longer,))) if signal else Arrangement("image", ((long[0],), (long[1],), ()))
    channels: tuple[int, ...] = ()
    if len(long) == 4:
        channels = (next((axis for axis in (long[0], long[-1], long[1]) if shape[axis] in MODES), long[0]),)
    left = tuple(axis for axis in long if axis not in channels)
    if len(left) == 3:
        frames = left[2] if shape[left[2]] < shape[left[0]] and not channels else left[0]  # bands may be last
        rows, columns = (axis for axis in left if axis != frames)
        if min(shape[rows], shape[columns]) >= SMALLEST_PICTURE:
            return Arrangement("frames", ((frames,), (rows,), (columns,), channels))
    return Arrangement("bars", (long,))


def _planes(shape: Sequence[int], rest: tuple[int, ...], space: tuple[int, ...], channel: int | None = None) -> Arrangement:
    """A picture, or a frame for each channel where they are no colours, or for each picture of several."""
    if np.prod([shape[axis] for axis in rest], dtype=int) in MODES:
        return Arrangement("image", ((space[0],), (space[1],), rest))
    colours = (channel,) if channel in rest and len(rest) > 1 and shape[channel] in MODES else ()
    frames = tuple(axis for axis in rest if axis not in colours)
    return Arrangement("frames", (frames, (space[0],), (space[1],), colours))
