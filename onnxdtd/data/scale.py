"""The scale of relevance: its colours, its ends, and how much of it is shown at once."""

from __future__ import annotations

from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

COLOURS = "seismic"  # white is zero, red speaks for the class, blue against it
MANY_PIXELS = 4096


def heat(relevance: np.ndarray, channel: int | None) -> np.ndarray:
    """Relevance of a sample, summed over its channels."""
    return relevance if channel is None else relevance.sum(channel)


def colour_limit(values: np.ndarray) -> float:
    """The relevance at the ends of the symmetric colour scale: the largest, or in a large picture all but the 0.5 % largest."""
    size = np.abs(values)
    limit = np.percentile(size, 99.5) if size.size > MANY_PIXELS else size.max()
    return float(limit or size.max() or 1.0)


def colours(shares: np.ndarray) -> np.ndarray:
    """The colours of the heatmap scale for each value, [..., 4] from 0 to 1."""
    half = shares / (2 * colour_limit(shares))
    return np.asarray(matplotlib.colormaps[COLOURS](np.clip(0.5 + half, 0, 1)))


def stretches(relevance: np.ndarray, most: int, axis: int = -1) -> np.ndarray:
    """Relevance with an axis of at most ``most`` entries: the sums over stretches of one length, the last may be shorter.

    >>> stretches(np.ones((2, 10)), 4).tolist()
    [[3.0, 3.0, 3.0, 1.0], [3.0, 3.0, 3.0, 1.0]]
    """
    size = relevance.shape[axis]
    return np.add.reduceat(relevance, np.arange(0, size, -(-size // most)), axis=axis)


def shown(axes: Axes, values: np.ndarray, limit: float, aspect: Literal["auto", "equal"] = "equal") -> AxesImage:
    """A heatmap [H, W]."""
    return axes.imshow(values, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="nearest", aspect=aspect)


def symmetric(axes: Axes, shares: np.ndarray, vertical: bool) -> None:
    """Zero is in the middle of an axis."""
    limit = 1.05 * (float(np.abs(shares).max()) or 1.0)
    (axes.set_ylim if vertical else axes.set_xlim)(-limit, limit)
