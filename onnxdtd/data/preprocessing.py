"""How a picture becomes an input: what its bytes become, the order of its colours, and its size. Plain data, for the metadata.

Without a word about its size, a picture that is not of the model's is brought to it as torchvision's classifiers were trained:
the shorter side to 256/224 of the model's, antialiased and bilinear, then the centre is cut out.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxdtd.errors import RequestError, instead

DEFAULTS: dict[str, Any] = dict.fromkeys(("range", "mean", "std", "colours", "resize", "crop")) | {"colours": "rgb"}
NUMBERS = ("range", "mean", "std")  # which give the bounds of the input
SQUASHED = "none"  # --crop none: all of the picture, whatever becomes of its proportions
UNSCALED = (  # what is said where nothing says what pixels become
    "to turn pixels into inputs the model needs --range (with --mean and --std) or --low and --high, as in its training; "
    "torchvision's take --range 0,1 --mean .485,.456,.406 --std .229,.224,.225"
)
MARGIN = (256, 224)  # of torchvision: resized to one, cut to the other

WITHOUT = (0.0, 1.0)  # what pixels become where nothing is said
MOST_SPAN = 400  # standard deviations from the lowest pixel to the highest: 255 where pixels stay bytes, else a few
MOST_PIXELS = 100_000_000  # of a picture once it is resized

Size = tuple[int, int]  # height, width


def checked(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What is asked for, with all of its keys, as JSON has it; None where it is nothing. Raises ``RequestError``."""
    if given is None:
        return None
    for key in given:
        if key not in DEFAULTS:
            raise RequestError(f"preprocessing: unknown key {key!r}{instead(key, DEFAULTS)}")
    found = DEFAULTS | {key: value for key, value in given.items() if value is not None}
    for key in NUMBERS:
        if found[key] is not None:
            found[key] = _numbers(key, found[key])
    if found["range"] is not None and (np.shape(found["range"]) != (2,) or not found["range"][0] < found["range"][1]):
        raise RequestError(f"range {found['range']}: give two numbers, what the pixels 0 and 255 become")
    if found["std"] is not None and not np.all(np.asarray(found["std"]) > 0):
        raise RequestError("std must be positive")
    _check_units(found)
    if found["colours"] not in ("rgb", "bgr"):
        raise RequestError(f"colours {found['colours']!r}: give 'rgb' or 'bgr'")
    for key in ("resize", "crop"):
        if found[key] is not None and (key, found[key]) != ("crop", SQUASHED):
            found[key] = _size(key, found[key])
    if isinstance(found["crop"], int):
        found["crop"] = [found["crop"]] * 2
    return None if found == DEFAULTS else found


def _check_units(found: Mapping[str, Any]) -> None:
    """Raise ``RequestError`` where mean or std are in another unit than what pixels become: of 255, say, and that is 1."""
    low, high = WITHOUT if found["range"] is None else found["range"]
    mean, std = (np.asarray(default if found[key] is None else found[key]) for key, default in (("mean", low), ("std", high)))
    span, where = high - low, f"what pixels become first, {low:g} to {high:g}: range, mean and std have one unit"
    if (mean < low - span).any() or (mean > high + span).any():
        raise RequestError(f"mean {found['mean']} is far outside of {where}; divide mean and std by 255, or give range 0,255")
    if found["std"] is not None and (std < span / MOST_SPAN).any():
        raise RequestError(f"std {found['std']} is next to nothing of {where}; give range 0,1, or mean and std times 255")


def _numbers(key: str, value: Any) -> float | list[float]:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise RequestError(f"{key} {value!r} is neither a number nor a list of numbers") from None
    if array.ndim > 1 or not array.size or not np.isfinite(array).all():
        raise RequestError(f"{key} {value!r}: give a finite number, or one a channel")
    listed: float | list[float] = array.tolist()
    return listed


def _size(key: str, value: Any) -> int | list[int]:
    """A side, or height and width."""
    try:
        sides = [operator.index(side) for side in ([value] if np.ndim(value) == 0 else value)]
    except TypeError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1 or max(sides) > MOST_PIXELS:
        more = f", or {SQUASHED!r} to leave nothing out" if key == "crop" else ""
        raise RequestError(f"{key} {value!r}: give a number of pixels, or height and width{more}")
    return sides[0] if np.ndim(value) == 0 else sides


def gives_bounds(preprocessing: Mapping[str, Any] | None) -> bool:
    """Does it say what bytes become?"""
    return preprocessing is not None and any(preprocessing[key] is not None for key in NUMBERS)


def byte_ends(preprocessing: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """What the bytes 0 and 255 become, (range - mean) / std: a number or one a channel. None where that is not said."""
    if preprocessing is None or not gives_bounds(preprocessing):
        return None, None
    span = WITHOUT if preprocessing["range"] is None else preprocessing["range"]
    mean, std = (
        np.asarray(default if preprocessing[key] is None else preprocessing[key])
        for key, default in (("mean", 0.0), ("std", 1.0))
    )
    try:
        low, high = (((end - mean) / std).tolist() for end in span)
    except ValueError:
        raise RequestError("mean and std have different numbers of channels") from None
    return low, high


# --------------------------------------------------------------------------------------------------------------- the size


@dataclass(frozen=True)
class Placing:
    """A picture in an input: first made of ``size``, then cut to ``shape`` from ``top`` and ``left`` on."""

    size: Size
    top: int
    left: int
    shape: Size

    def box(self, edges: Sequence[float], picture: Size) -> list[float]:
        """Where x0, y0, x1, y1 in the ``picture`` (height, width) are in the input, as far as they are in it.

        >>> Placing((100, 200), 0, 50, (100, 100)).box([0, 0, 200, 100], (200, 400))
        [0.0, 0.0, 50.0, 50.0]
        """
        (height, width), (down, right) = picture, self.shape
        x, y = self.size[1] / width, self.size[0] / height
        moved = [edges[0] * x - self.left, edges[1] * y - self.top, edges[2] * x - self.left, edges[3] * y - self.top]
        return [float(np.clip(edge, 0, limit)) for edge, limit in zip(moved, (right, down, right, down), strict=True)]


def place(picture: Size, model: tuple[int | None, int | None], preprocessing: Mapping[str, Any] | None = None) -> Placing:
    """Where a ``picture`` goes in an input of the height and width that the ``model`` takes, None where it takes any.

    A size that the model leaves open is the picture's own, unless ``resize`` or ``crop`` say otherwise; where one side is
    fixed, the other keeps the proportions and nothing is cut off. Raises ``RequestError``.
    """
    asked = preprocessing or DEFAULTS
    resize, crop = asked["resize"], asked["crop"]
    if resize is crop is None and all(want in (None, have) for want, have in zip(model, picture, strict=True)):
        return Placing(picture, 0, 0, picture)
    cut = (None, None) if crop == SQUASHED else model if crop is None else tuple(crop)
    whole = None if None in cut else (int(cut[0]), int(cut[1]))
    size = _resized(picture, model, resize, crop == SQUASHED, whole)
    height, width = whole or size
    if size[0] * size[1] > MOST_PIXELS:
        raise RequestError(
            f"is {_by(picture)} (width x height) and would be resized to {_by(size)}, more pixels than there is room for"
        )
    if height > size[0] or width > size[1]:
        raise RequestError(
            f"resized to {_by(size)} (width x height) it is smaller than what is cut out of it, {_by((height, width))}"
        )
    if any(want not in (None, have) for want, have in zip(model, (height, width), strict=True)):
        raise RequestError(
            f"resized and cropped it is {_by((height, width))} (width x height), but the model takes {_by(model)}"
        )
    top, left = (round((have - want) / 2) for have, want in zip(size, (height, width), strict=True))
    return Placing(size, top, left, (height, width))


def _resized(picture: Size, model: tuple[int | None, int | None], resize: Any, squashed: bool, cut: Size | None) -> Size:
    """The size before anything is cut off."""
    if isinstance(resize, list):
        return resize[0], resize[1]
    if squashed and None not in model:
        if resize is not None and {resize} != {*model}:
            raise RequestError(f"a picture resized to {resize} and not cropped does not have the model's size, {_by(model)}")
        return int(model[0] or 0), int(model[1] or 0)
    if resize is not None:
        return _scaled(picture, resize, 0 if picture[0] <= picture[1] else 1)
    if cut is not None:  # to cover that, with torchvision's margin
        around = [side * MARGIN[0] // MARGIN[1] for side in cut]
        wide = picture[1] * around[0] >= picture[0] * around[1]
        return _scaled(picture, around[0 if wide else 1], 0 if wide else 1)
    fixed = next((axis for axis in (0, 1) if model[axis] is not None), None)
    return picture if fixed is None else _scaled(picture, int(model[fixed] or 0), fixed)


def _scaled(picture: Size, side: int, axis: int) -> Size:
    """The size in proportion, with ``side`` on ``axis``; the other rounded down, as torchvision does."""
    other = max(1, int(side * picture[1 - axis] / picture[axis]))
    return (side, other) if axis == 0 else (other, side)


def _by(size: Sequence[int | None]) -> str:
    """Width by height, as people say it."""
    return f"{size[1] or 'any'}x{size[0] or 'any'}"
