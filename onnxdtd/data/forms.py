"""The form of a sample: its shape, the axis of its channels, and how a picture becomes one and is shown again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxdtd.data.channels import ends, listed_axis, spread
from onnxdtd.errors import RequestError

Shape = Sequence[int | str | None]

PICTURE = 4  # axes of an input that takes pictures, that of the samples among them
SMALLEST_PICTURE = 4  # pixels a side
LONG = 4  # how many times as long as wide a matrix is taken for a signal of several channels
SHORT = 20  # ... if it is longer than this
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # how Pillow calls pictures of so many channels


def colour_axis(shape: Shape) -> int | None:
    """The axis of the colours in a sample [C, H, W] or [H, W, C] by its size, None where none looks like it.

    >>> colour_axis([3, 224, 224]), colour_axis([28, 28, 1]), colour_axis([28, 28])
    (0, 2, None)
    """
    return next((axis for axis in (0, 2) if shape[axis] in MODES), None) if len(shape) == 3 else None


def is_signal(*sides: int) -> bool:
    """Is a matrix of this size rather a signal of several channels than a picture?

    >>> is_signal(3, 90), is_signal(90, 3), is_signal(28, 28), is_signal(4, 16)
    (True, True, False, False)
    """
    return max(sides) >= LONG * min(sides) and max(sides) > SHORT


def space_axes(shape: Sequence[int], channel: int | None, slides: Sequence[int] = ()) -> list[int]:
    """The axes of a sample along which neighbours belong together: those that the first layer ``slides`` over, and where that
    is not known both of a picture, the one of a signal, else none.

    >>> space_axes((3, 32, 32), 0), space_axes((28, 28, 1), 2), space_axes((12, 90), 0), space_axes((4,), None)
    ([1, 2], [0, 1], [1], [])
    >>> space_axes((1, 22, 90), 0, [2])
    [2]
    """
    if known := [axis for axis in slides if shape[axis] > 1]:
        return known
    if len(shape) < 2:
        return []
    space = [axis for axis, size in enumerate(shape) if axis != channel and size > 1]
    if channel is None and len(space) == 2 and is_signal(*(shape[axis] for axis in space)):
        return [max(space, key=lambda axis: shape[axis])]
    if len(space) == 2 and min(shape[axis] for axis in space) >= SMALLEST_PICTURE:
        return space
    long = [axis for axis, size in enumerate(shape) if size > 1]
    return space if len(space) == 1 else long if len(long) == 1 else []


@dataclass(frozen=True, eq=False)
class Form:
    """What a model takes as a sample.

    ``shape`` is that of a sample, ``channel`` the axis of its channels, None where it has none; ``slides`` are the others where
    model or bounds tell, and nothing where the shape alone does. ``folded`` is what a row of entries is laid out as before the
    model looks at it, and ``slides`` count the axes of that then. ``low`` and ``high`` are the
    bounds, float64, as they broadcast over a sample; the bytes 0 and 255 of a picture become them. ``preprocessing`` as in
    ``onnxdtd.preprocessing``. ``ids``: its integers are numbers of rows of a table of so many, 0 where that is not known.
    """

    name: str
    shape: Shape
    channel: int | None = None
    slides: tuple[int, ...] = ()
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    preprocessing: Mapping[str, Any] | None = None
    ids: int | None = None
    folded: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        declared: Shape,
        samples: int | None,
        channel: int | None = None,
        bounds: tuple[Any, Any] = (None, None),
        preprocessing: Mapping[str, Any] | None = None,
        slid: Sequence[int] = (),
        folded: Sequence[int | None] = (),
    ) -> Form:
        """That of the input ``name`` of shape ``declared``, its ``samples`` and ``channel`` along these axes: None where it is
        one sample, and where the model does not tell. Its first layer slides over ``slid``, or where that is not known over all
        axes but that of the channels. Rows are laid out as ``folded``, [n, ...], where that is said: ``slid`` are axes of that.
        Raises ``RequestError`` where the rest does not fit.
        """
        shape = [size for axis, size in enumerate(declared) if axis != samples]
        if channel is not None:
            channel = None if len(shape) < 2 or channel == samples else channel - (samples is not None and samples < channel)
        found: list[np.ndarray] = []
        for bound, end in zip(bounds, ("low", "high"), strict=True):
            if bounds[0] is None or bounds[1] is None:
                break
            array = np.asarray(bound, np.float64)
            if samples is not None and array.ndim == len(declared) and array.shape[samples] == 1:
                array = array.squeeze(samples)
            where = f"{end} of the input {name!r} {list(declared)}"
            if array.ndim == 1 and array.size > 1 and len(shape) > 1:
                channel = listed_axis(array.size, shape, channel, where)
            found.append(spread(array, shape, channel, where))
        if found and not (np.isfinite(found[0]).all() and np.isfinite(found[1]).all() and np.all(found[0] < found[1])):
            raise RequestError(f"low {bounds[0]} must be finite and below high {bounds[1]} everywhere")
        if samples != 0:
            slid, folded = () if folded else slid, ()
        slides = () if channel is None else tuple(axis for axis in range(len(shape)) if axis != channel)
        if slid:
            slides = tuple(axis - (samples is not None and samples < axis) for axis in slid if axis != samples)
        seen = colour_axis(shape) if channel is None else channel
        low, high = found or (None, None)
        made = cls(
            name, shape, seen, slides, low, high, preprocessing, folded=tuple(size for size in folded[1:] if size is not None)
        )
        made._check()
        return made

    def _check(self) -> None:
        """Raises ``RequestError`` where the preprocessing is that of no picture that the model takes."""
        where = f"the input {self.name!r} takes samples of {list(self.shape)}"
        if self.is_bgr and self.channels not in (3, None):
            raise RequestError(f"--bgr: {where}, which have no three channels")
        said = self.preprocessing or {}
        resize, crop = said.get("resize"), said.get("crop")
        if resize is crop is None:
            return
        sides = [self.shape[axis] for axis in self.space]
        if len(sides) != 2:
            raise RequestError(f"--resize and --crop are for pictures; {where}")
        cut = sides if crop is None else crop if isinstance(crop, list) else []
        if any(isinstance(want, int) and want != have for want, have in zip(sides, cut, strict=False)):
            raise RequestError(f"--crop {'x'.join(map(str, cut[::-1]))} (width x height): {where}")
        if isinstance(resize, int) and min((side for side in cut if isinstance(side, int)), default=0) > resize:
            raise RequestError(f"--resize {resize}: that is less than what is cut out of it; {where}")

    @property
    def space(self) -> list[int]:
        """The axes of a sample but that of its channels."""
        return [axis for axis in range(len(self.shape)) if axis != self.channel]

    def laid_out(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of a sample as the model looks at it."""
        return self.folded or tuple(shape)

    def neighbours(self, shape: Sequence[int]) -> list[int]:
        """The axes along which neighbours belong together, of a sample of ``shape`` as it is ``laid_out``."""
        return space_axes(self.laid_out(shape), None if self.folded else self.channel, self.slides)

    @property
    def channels(self) -> int | None:
        """How many channels a sample has, None where that is open."""
        size = 1 if self.channel is None else self.shape[self.channel]
        return size if isinstance(size, int) else None

    @property
    def is_bgr(self) -> bool:
        """Does the model take blue first?"""
        return self.preprocessing is not None and self.preprocessing["colours"] == "bgr"

    def numbers(self, pixels: np.ndarray) -> np.ndarray:
        """Bytes in the layout of a sample, red first, as the model takes them, float64. There must be bounds."""
        assert self.low is not None
        assert self.high is not None
        return self.low + self._turned(pixels) / 255.0 * (self.high - self.low)

    def shown(self, x: np.ndarray) -> np.ndarray:
        """A sample as numbers from 0 to 1 in the same layout, red first; without bounds as far as its own values reach."""
        if self.low is None or self.high is None:
            return self._turned((x - x.min()) / (np.ptp(x) or 1))
        return self._turned(np.clip((x - self.low) / (self.high - self.low), 0, 1))

    def _turned(self, x: np.ndarray) -> np.ndarray:
        return np.flip(x, self.channel) if self.is_bgr and self.channel is not None else x


def recorded(metadata: Mapping[str, Any], name: str, declared: Shape) -> Form:
    """The form of the samples of an input, of shape ``declared``, of a compiled model with this ``metadata``."""
    before = {name: 0 if len(declared) > 1 else None}  # what older files mean
    samples, channel = metadata.get("samples", before)[name], metadata.get("channels", {}).get(name)
    bounds, slid = ends(metadata["bounds"], name), metadata.get("slides", {}).get(name, ())
    plain = len(metadata.get("channels", {})) > 1 and len(declared) != PICTURE  # a vector beside a picture, say
    said = None if plain else metadata.get("preprocessing")
    form = Form.of(name, declared, samples, channel, bounds, said, slid, metadata.get("folded", {}).get(name, ()))
    return replace(form, ids=metadata["ids"][name] or 0) if name in metadata.get("ids", ()) else form
