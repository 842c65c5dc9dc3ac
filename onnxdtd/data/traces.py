"""Signals, and their relevance in colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import FigureBase

from onnxdtd.data.look import Scene, shortened
from onnxdtd.data.scale import COLOURS, Scale, colours, nothing, stretches, symmetric
from onnxdtd.data.steps import Clock

FEW_TRACES, MANY_TRACES = 16, 64  # so many have all of their names; more cannot be told apart as lines
STRETCHES = 400  # of a long signal; the relevance of the steps in one is added up
POINTS = 1600  # of a line; of more steps it is what lies between the lowest and the highest of each stretch
LETTERS, MOST_NAMES = 20, 32  # of a name, and names at an axis
TONE = 0.75  # of colours behind lines, which are black


def size(scene: Scene) -> tuple[float, float]:
    """That of a figure with so many channels."""
    count = len(scene.x)
    rows = max(2.2, 0.4 * count) if count <= FEW_TRACES else min(0.1 * max(count, 64), 6.4)
    high = 3.4 if count == 1 else 1.0 + rows
    return 8.6, round(1.6 + high, 1)


def traces(figure: FigureBase, scene: Scene) -> None:
    """[C, T]: each channel a line over its relevance in colours, and beside it the sum of that; below, the sum over channels of
    each stretch of time. Of more channels than can be told apart both are maps.
    """
    drawn = Drawn.of(scene)
    if len(scene.x) == 1:
        upper, lower = figure.subplots(2, 1, sharex=True)
        drawn.line(upper)
    else:
        maps = [1.0] if len(scene.x) <= MANY_TRACES else [1.0, 1.0]
        high = (size(scene)[1] - 2.6) / len(maps)
        grid = figure.subplots(len(maps) + 1, 2, width_ratios=(7, 1), height_ratios=[*(high * part for part in maps), 1.0])
        (lower, corner), (upper, right) = grid[-1], grid[-2]
        for axes in grid[:-1, 0]:
            axes.sharex(lower)
            axes.tick_params(labelbottom=False)
        if len(maps) == 1:
            drawn.lines(upper)
        else:
            drawn.values(grid[0, 0])
            drawn.map(upper, 1.0)
            grid[0, 1].axis("off")
        corner.axis("off")
        _sums(right, scene.relevance.sum(axis=1))
        drawn.scale.bar(figure, f"{drawn.words},", ax=right, fraction=0.3, aspect=40)
    drawn.along(lower)


@dataclass(frozen=True)
class Drawn:
    """A signal as it is drawn: relevance ``shares`` of stretches of time between ``ends``, in colours of a ``scale``."""

    scene: Scene
    clock: Clock
    shares: np.ndarray
    ends: np.ndarray
    words: str
    scale: Scale

    @classmethod
    def of(cls, scene: Scene) -> Drawn:
        """Of [C, T]."""
        relevance, steps = scene.relevance, scene.x.shape[1]
        clock, width = Clock.of(scene.look.rate, steps), -(-steps // STRETCHES)
        shares = stretches(relevance, STRETCHES)
        ends = clock.at(np.minimum(np.arange(shares.shape[1] + 1) * width, steps) - 0.5)
        scale = Scale.of(shares, float(np.abs(relevance).sum(dtype=np.float64)))
        return cls(scene, clock, shares, ends, f"relevance per {clock.said(width)}", scale)

    def line(self, axes: Axes) -> None:
        """The only channel, in its own units."""
        (values,) = self.scene.x
        low, high = float(values.min()), float(values.max())
        margin = 0.08 * (high - low) or 1.0
        self.map(axes, TONE, [low - margin, high + margin])
        self._trace(axes, values, 0.9)
        axes.set_ylabel(self.scene.names[0] if self.scene.names else "input", fontsize=8)
        axes.tick_params(labelsize=7)

    def lines(self, axes: Axes) -> None:
        """All channels, each scaled to fill a band of height 1."""
        x, few = self.scene.x, len(self.scene.x) <= FEW_TRACES
        self.map(axes, TONE)
        for place, values in enumerate(x):
            low, span = values.min(), float(np.ptp(values)) or 1.0
            self._trace(axes, place + 0.42 - 0.84 * (values - low) / span, 0.8 if few else 0.5)
        axes.hlines(np.arange(1, len(x)) - 0.5, self.ends[0], self.ends[-1], color="0.7", linewidth=0.5)
        axes.set_ylim(len(x) - 0.5, -0.5)
        self._names(axes, [f"\n{values.min():.3g} to {values.max():.3g}" for values in x] if few else [""] * len(x))

    def values(self, axes: Axes) -> None:
        """All channels as a map of grey, each from its lowest value to its highest."""
        x = self.scene.x
        low, span = x.min(axis=1, keepdims=True), np.ptp(x, axis=1, keepdims=True)
        grey = (x - low) / np.where(span > 0, span, 1)
        means = stretches(grey, STRETCHES) / stretches(np.ones_like(grey), STRETCHES)
        axes.pcolormesh(self.ends, self._edges(), means, cmap="gray", vmin=0, vmax=1)
        self._names(axes, [""] * len(x))
        axes.set_title("input, each channel from its lowest value to its highest", fontsize=8)
        axes.set_ylim(len(x) - 0.5, -0.5)

    def map(self, axes: Axes, tone: float, edges: Sequence[float] | None = None) -> None:
        """Relevance in colours, behind lines in a lighter ``tone``."""
        limit, count = self.scale.limit, len(self.shares)
        rows = self._edges() if edges is None else edges
        axes.pcolormesh(self.ends, rows, self.shares, cmap=COLOURS, vmin=-limit, vmax=limit, alpha=tone)
        axes.set(xlim=(self.ends[0], self.ends[-1]), ylim=(rows[0], rows[-1]))
        if count > MANY_TRACES:
            axes.set_ylim(count - 0.5, -0.5)
            axes.set_title("relevance", fontsize=8)
            self._names(axes, [""] * count)
        if not self.shares.any():
            nothing(axes)

    def along(self, axes: Axes) -> None:
        """The relevance of each stretch of time."""
        sums, several = self.shares.sum(axis=0), len(self.shares) > 1
        axes.add_collection(bars(np.stack([self.ends[:-1], self.ends[1:]]), sums, colours(sums)))
        axes.axhline(0, color="0.4", linewidth=0.8)
        axes.tick_params(labelsize=7)
        axes.set_xlim(self.ends[0], self.ends[-1])
        axes.set_xlabel(self.clock.label, fontsize=8)
        axes.set_ylabel("Σ of channels" if several else self.words, fontsize=8)
        upright(axes, sums)

    def _edges(self) -> np.ndarray:
        return np.arange(len(self.shares) + 1) - 0.5

    def _trace(self, axes: Axes, values: np.ndarray, width: float) -> None:
        """A line; of more steps than there is room for what lies between the lowest and the highest of each stretch."""
        if values.size <= POINTS:
            axes.plot(self.clock.at(np.arange(values.size)), values, color="black", linewidth=width)
            return
        starts = np.arange(0, values.size, -(-values.size // (POINTS // 2)))
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        swept = float((high - low).mean()) / (float(np.ptp(values)) or 1.0)  # the more, the more of the colours shows through
        face = (0, 0, 0, max(0.12, 0.9 - 3 * swept))
        axes.fill_between(self.clock.at(starts), low, high, facecolor=face, edgecolor="black", linewidth=0.6 * width)

    def _names(self, axes: Axes, ranges: Sequence[str]) -> None:
        """What channels are called, or their numbers, as many as there is room for."""
        count, every = len(ranges), 1 if len(ranges) <= MANY_TRACES else -(-len(ranges) // MOST_NAMES)
        names = self.scene.names or [str(i) for i in range(count)]
        short = [shortened(name, LETTERS) for name in names]
        told = [name + range_ for name, range_ in zip(short, ranges, strict=True)]
        axes.set_yticks(range(0, count, every), told[::every], parse_math=False)
        axes.tick_params("y", labelsize=7 if count <= FEW_TRACES else 6)
        if not self.scene.names:
            axes.set_ylabel("channel", fontsize=8)


def bars(ends: np.ndarray, values: np.ndarray, colour: str | np.ndarray) -> PolyCollection:
    """Bars from zero, each between two ``ends``, left and right [2, n]: one artist, where ``axes.bar`` makes as many as there
    are values, which takes ten times as long.
    """
    zero = np.zeros(len(values))
    corners = [(ends[0], zero), (ends[0], values), (ends[1], values), (ends[1], zero)]
    return PolyCollection(list(np.moveaxis(np.array(corners), -1, 0)), facecolors=colour)


def upright(axes: Axes, sums: np.ndarray) -> None:
    """An axis from the lowest to the highest relevance, both of one size; of one sign that half alone."""
    symmetric(axes, sums, vertical=True)
    largest, signs = float(np.abs(sums).max()), [sign for sign in (-1, 1) if (sign * sums > 0).any()]
    axes.set_yticks([0, *(sign * largest for sign in signs)], ["0", *(f"{sign * largest:.2g}" for sign in signs)])
    if len(signs) == 1:
        axes.set_ylim(*sorted((0, signs[0] * 1.05 * largest)))


def _sums(axes: Axes, sums: np.ndarray) -> None:
    """What the relevance of each channel adds up to."""
    axes.barh(np.arange(len(sums)), sums, color=colours(sums), edgecolor="0.5", linewidth=0.3)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_ylim(len(sums) - 0.5, -0.5)
    axes.tick_params(labelleft=False, left=False, labelsize=7)
    axes.set_title("Σ of a channel", fontsize=8)
    symmetric(axes, sums, vertical=False)
    largest = float(np.abs(sums).max())
    axes.set_xticks([-largest, largest], [f"{-largest:.2g}", f"{largest:.2g}"] if largest else ["", "0"])
