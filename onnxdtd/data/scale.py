"""The scale of relevance: its colours, its ends, and how much of it is shown at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage

# White is zero, red speaks for the class, blue against it. Both sides are equally light, and told apart by eyes that lack cones
# for long, middle or short waves: scripts/colours.py says how well, here and on other scales.
COLOURS = LinearSegmentedColormap.from_list("relevance", ["#130dbf", "#4973ee", "#ffffff", "#ea4f37", "#991300"], N=257)
MANY_PIXELS, MOST_PERCENT = 4096, 99.5  # of so many or fewer the largest counts, else all but a few
OF_ALL = "of Σ |relevance|"
NOTHING = "no relevance:\nall of it is 0"


def heat(relevance: np.ndarray, channel: int | None) -> np.ndarray:
    """Relevance of a sample, summed over its channels."""
    return relevance if channel is None else relevance.sum(channel)


def colour_limit(values: np.ndarray) -> float:
    """The relevance at the ends of the symmetric colour scale: the largest, or in a large picture all but the 0.5 % largest."""
    size = np.abs(values)
    limit = np.percentile(size, MOST_PERCENT) if size.size > MANY_PIXELS else size.max()
    return float(limit or size.max() or 1.0)


def colours(shares: np.ndarray) -> np.ndarray:
    """The colours of the heatmap scale for each value, [..., 4] from 0 to 1."""
    half = shares / (2 * colour_limit(shares))
    return np.asarray(COLOURS(np.clip(0.5 + half, 0, 1)))


def stretches(relevance: np.ndarray, most: int, axis: int = -1) -> np.ndarray:
    """Relevance with an axis of at most ``most`` entries: the sums over stretches of one length, the last may be shorter.

    >>> stretches(np.ones((2, 10)), 4).tolist()
    [[3.0, 3.0, 3.0, 1.0], [3.0, 3.0, 3.0, 1.0]]
    """
    size = relevance.shape[axis]
    return np.add.reduceat(relevance, np.arange(0, size, -(-size // most)), axis=axis)


def percent(share: float) -> str:
    """A number of per cent in two digits.

    >>> percent(12.34), percent(100.0), percent(0.00123), percent(-5e-7)
    ('12 %', '100 %', '0.0012 %', '-5e-07 %')
    """
    plain = abs(share) >= 1e-4 or not share
    return (np.format_float_positional(share, 2, fractional=False, trim="-") if plain else f"{share:.1g}") + " %"


@dataclass(frozen=True)
class Scale:
    """What the colours of a heatmap mean: ``limit`` is the relevance at their ends, ``total`` Σ |relevance|. ``signs`` are the
    lowest and the highest there are, from -1 to 1; ``cut``: some values are beyond the ends.
    """

    limit: float
    total: float
    signs: tuple[int, int]
    cut: bool

    @classmethod
    def of(cls, values: np.ndarray, total: float | None = None) -> Scale:
        """That of a heatmap as it is shown; ``total`` is of the heatmap as it is."""
        limit, low, high = colour_limit(values), float(values.min()), float(values.max())
        whole = float(np.abs(values).sum(dtype=np.float64)) if total is None else total
        return cls(limit, whole, (-int(low < 0), int(high > 0)), max(high, -low) > limit * 1.0001)

    @property
    def labels(self) -> list[str]:
        """The numbers at a colour bar: at its ends and in the middle."""
        low, high = self.signs
        return [percent(share * 100 * self.limit / self.total) for share in np.linspace(low, high, 3)]

    def bar(self, figure: FigureBase, label: str = "", **place: Any) -> Colorbar | None:
        """The colour bar at a ``place``, in per cent of Σ |relevance|, of the signs that there are; none without relevance."""
        low, high = self.signs
        if not self.total or low == high:
            return None
        end = 100 * self.limit / self.total
        used = ListedColormap(COLOURS(np.linspace(0.5 + low / 2, 0.5 + high / 2, 256)))
        extend = {(-1, 1): "both", (0, 1): "max", (-1, 0): "min"}[low, high] if self.cut else "neither"
        across = place.get("orientation") == "horizontal"
        mappable = ScalarMappable(Normalize(low * end, high * end), used)
        bar = figure.colorbar(mappable, extend=extend, **place)
        bar.set_ticks(list(np.linspace(low, high, 3) * end), labels=self.labels)
        if across:  # words at its ends stay between them
            first, *_, last = bar.ax.get_xticklabels()
            first.set_horizontalalignment("left")
            last.set_horizontalalignment("right")
        bar.minorticks_off()
        bar.ax.tick_params(labelsize=7, length=2)
        bar.outline.set_linewidth(0.5)
        bar.set_label(" ".join(filter(None, (label, OF_ALL))), fontsize=7, labelpad=1 if across else 4)
        return bar


def shared(scales: Sequence[Scale]) -> list[Scale]:
    """The same scales with one end for all, as a share of Σ |relevance| of each."""
    shares = [scale.limit / scale.total for scale in scales if scale.total]
    signs = min(scale.signs[0] for scale in scales), max(scale.signs[1] for scale in scales)
    cut = any(scale.cut for scale in scales)
    return [replace(s, limit=max(shares) * s.total if s.total else s.limit, signs=signs, cut=cut) for s in scales]


def shown(axes: Axes, values: np.ndarray, limit: float, aspect: Literal["auto", "equal"] = "equal") -> AxesImage:
    """A heatmap [H, W]."""
    if not np.nan_to_num(values).any():
        nothing(axes)
    return axes.imshow(values, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="nearest", aspect=aspect)


def nothing(axes: Axes) -> None:
    """Say that there is no relevance where it would be drawn, on white: a picture may lie below."""
    ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
    axes.text(0.5, 0.5, NOTHING, transform=axes.transAxes, ha="center", va="center", fontsize=9, color="0.3", bbox=ground)


def symmetric(axes: Axes, shares: np.ndarray, vertical: bool, end: float | None = None) -> None:
    """Zero is in the middle of an axis, which reaches as far as ``shares`` do, or to an ``end``."""
    if not shares.any():
        nothing(axes)
    limit = 1.05 * ((float(np.abs(shares).max()) if end is None else end) or 1.0)
    (axes.set_ylim if vertical else axes.set_xlim)(-limit, limit)
