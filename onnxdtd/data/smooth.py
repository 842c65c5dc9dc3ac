"""Heatmaps evened out for the eye, and whether they need that."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

REACH = 4.0  # standard deviations; beyond them a Gaussian is 0
STRIDES = range(8, 1, -1)  # of a lattice, the widest first
CELLS = 7  # a heatmap has at least so many of them along each axis
HELD = 0.9  # of all relevance, that of one pixel in each cell: a lattice is all that is to be seen
FEW, MANY = 10, 100  # pixels that may be on a lattice, or on one place of their cells, by chance
UNEVEN = 5.0  # times as much on one pixel of each cell as on another: the lattice is to be seen


class Lattice(NamedTuple):
    """Of every ``stride`` x ``stride`` pixels one has ``held`` of Σ |relevance|, ``times`` as much as another has."""

    stride: int
    held: float
    times: float

    @property
    def alone(self) -> bool:
        """Is it all that is to be seen?"""
        return self.held >= HELD

    @property
    def sigma(self) -> float:
        """The width of a Gaussian that evens it out."""
        return self.stride / 2


def lattice(values: np.ndarray) -> Lattice | None:
    """The lattice that strides leave in a heatmap [H, W], None where there is none: a convolution of 1 x 1 pixels with a stride
    of 2 never looks at three of four, and strides of other convolutions look at some in more windows than at others.
    """
    uneven = None
    for stride in STRIDES:
        rows, columns = (side // stride for side in values.shape)
        if min(rows, columns) < CELLS:
            continue
        sizes = np.abs(values[: rows * stride, : columns * stride]).reshape(rows, stride, columns, stride)
        planes = np.moveaxis(sizes, (1, 3), (0, 1)).reshape(stride * stride, -1) / (float(sizes.max()) or 1.0)
        sums = planes.sum(axis=1, dtype=np.float64)
        best, total = planes[sums.argmax()], float(sums.sum())
        if not total:
            return None
        many = float(best.sum()) ** 2 / float(best @ best)  # pixels, if all had as much
        found = Lattice(stride, float(sums.max() / total), float(sums.max() / max(sums.min(), 1e-6 * total)))
        if found.alone and many >= FEW:
            return found
        if found.times >= UNEVEN and many >= MANY:
            uneven = found
    return uneven


def smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
    """A heatmap [..., H, W], each weighed with a Gaussian around it, ``sigma`` in pixels, mirrored at its edges: Σ stays."""
    if not sigma:
        return values
    reach = max(1, round(REACH * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (-2, -1):
        around = [(reach, reach) if i == values.ndim + axis else (0, 0) for i in range(values.ndim)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, around, mode="symmetric"), len(weights), axis)
        values = windows @ weights
    return values
