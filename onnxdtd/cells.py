"""What lies along the axes of scores, in words, and the scores at a position."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxdtd.errors import RequestError

SAMPLES = "samples"
CLASSES = "classes"
CELLS = "cells"  # of a map that is laid out as a row, each with a score
POSITIONS = "positions"  # of a sequence or a map, where there may be scores of several classes
ENTRIES = "entries"  # of which nobody knows whether they are classes or positions
PLACES = (POSITIONS, ENTRIES)


def words(index: Sequence[int]) -> str:
    """An index as people write it."""
    return ",".join(map(str, index))


def named(
    axes: Sequence[str] | None, position: Sequence[int] | None, target: object = None, reference: float | None = None
) -> tuple[str, str]:
    """What each of the scores of a sample at a position is, a quantity where it is compared with a ``reference``, and what that
    position, or the entry ``target``, is called.
    """
    what = "cell" if CELLS in (axes or ()) else "class" if reference is None else "output"
    if isinstance(target, tuple | list):
        return what, f"entry {words(target)}"
    return what, f"position {words(position)}" if position else ""


def rows(values: np.ndarray, axes: Sequence[str], position: Sequence[int] = ()) -> np.ndarray:
    """The scores at a position, [samples, classes]: ``axes`` says what lies along each axis of ``values``, and ``position`` has
    an index for each of those in ``PLACES``, by default the first. Raises ``RequestError`` where there is no such position.
    """
    sizes = [size for size, name in zip(values.shape, axes, strict=True) if name in PLACES]
    if any(not -size <= index < size for size, index in zip(sizes, position, strict=False)):
        what = "entry" if ENTRIES in axes else "position"
        shape = f"{list(values.shape)} ({', '.join(axes)})"
        raise RequestError(f"there is no {what} {words(position)} in the scores of this input, {shape}")
    left = iter(position or [0] * len(axes))
    found = values[tuple(next(left) if name in PLACES else slice(None) for name in axes)]
    kept = [name for name in axes if name not in PLACES]
    if SAMPLES not in kept:
        return found.reshape([1, -1])
    front = np.moveaxis(found, kept.index(SAMPLES), 0)
    return front.reshape([len(front), math.prod(front.shape[1:])])
