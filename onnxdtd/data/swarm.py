"""The relevance of features in many rows, a point each: its place says how much it speaks for a class, its colour the value."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from onnxdtd import atomic
from onnxdtd.data.look import Swarm, shortened
from onnxdtd.data.scale import symmetric
from onnxdtd.errors import OnnxdtdError

DPI = 110
VALUES = "viridis"  # no colours of relevance: these are low and high values
NONE = "0.65"  # the colour of what is missing, and of strings
PANELS = 4  # classes that are drawn
BINS, WIDTH, FEWEST = 90, 0.36, 6  # of a swarm: across the axis, half of its height, and points on one side that fill it


def draw(path: Path, title: str, names: Sequence[str], panels: Sequence[Swarm], below: str) -> None:
    """Write a PNG: a line for each of the features, the most important above. Raises ``OnnxdtdError``."""
    shown = panels[:PANELS]
    size = (min(3.4 + 3.2 * len(shown), 14.0), 1.9 + 0.34 * len(names))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold", parse_math=False)
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    limit = max(float(np.abs(panel.relevance).max()) for panel in shown) or 1.0
    for axes, panel in zip(grid, shown, strict=True):
        _panel(axes, panel, limit)
    grid[0].set_yticks(range(len(names)), [shortened(name, 34) for name in names], fontsize=9, parse_math=False)
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), VALUES), ax=list(grid), fraction=0.03, aspect=40, pad=0.02)
    bar.set_ticks([0, 1], labels=["low", "high"])
    bar.set_label("value of the feature (grey: a word, or missing)", fontsize=8)
    figure.supxlabel(below, fontsize=9, parse_math=False)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    atomic.write(path, file.getvalue(), OnnxdtdError)


def _panel(axes: Axes, panel: Swarm, limit: float) -> None:
    """The swarms of a class, one below the other."""
    for line, (values, relevance) in enumerate(zip(panel.values.T, panel.relevance.T, strict=True)):
        axes.axhline(line, color="0.9", linewidth=0.6, zorder=0)
        order = np.argsort(relevance, kind="stable")
        places = line + spread(relevance[order], limit)
        axes.scatter(relevance[order], places, s=9, c=tints(values)[order], linewidths=0)
    axes.axvline(0, color="0.4", linewidth=0.8, zorder=0)
    axes.set_title(panel.title, fontsize=10, parse_math=False)
    axes.set_xlabel("relevance", fontsize=9)
    axes.tick_params(labelsize=8)
    symmetric(axes, np.array([limit]), vertical=False)


def spread(sorted_: np.ndarray, limit: float) -> np.ndarray:
    """How far each of some numbers in order is moved aside, so that those that lie close together can be seen: 0, up, down ...

    >>> spread(np.array([0.0, 0.0, 0.0, 5.0]), 5.0).tolist()
    [0.0, 0.06, -0.06, 0.0]
    """
    bins = np.floor(sorted_ / limit * BINS / 2).astype(int)
    _, starts, counts = np.unique(bins, return_index=True, return_counts=True)
    rank = np.arange(bins.size) - np.repeat(starts, counts)
    step = np.where(rank % 2, 1, -1) * ((rank + 1) // 2)
    return step * (WIDTH / max(int(counts.max(initial=0)) // 2, FEWEST))


def tints(values: np.ndarray) -> np.ndarray:
    """Colours of values by their rank, so that a few extreme ones do not take all of the scale; grey of what is no number."""
    known = ~np.isnan(values)
    found = np.tile(matplotlib.colors.to_rgba(NONE), (values.size, 1))
    distinct, place = np.unique(values[known], return_inverse=True)
    if distinct.size > 1:
        counts = np.bincount(place)
        middle = (np.cumsum(counts) - (counts + 1) / 2) / max(place.size - 1, 1)
        found[known] = matplotlib.colormaps[VALUES](np.clip(middle, 0, 1))[place]
    elif distinct.size:
        found[known] = matplotlib.colormaps[VALUES](0.5)
    return found
