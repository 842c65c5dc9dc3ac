"""Signals, and their relevance in colours."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from onnxdtd.data.look import Scene
from onnxdtd.data.scale import COLOURS, Scale, colour_limit, colours, nothing, stretches, symmetric

FEW_TRACES = 16
STRETCHES = 400  # of a long signal; the relevance of the steps in one is added up


def size(scene: Scene) -> tuple[float, float]:
    """That of a figure with so many channels."""
    return 8.6, round(1.7 + min(max(3.0, 0.36 * len(scene.x)), 0.155 * max(len(scene.x), 32), 7.2), 1)


def traces(figure: FigureBase, scene: Scene) -> None:
    """[C, T]: each channel a line over its relevance in colours, and the sum of that; where there is one, that of each step."""
    x, relevance = scene.x, scene.relevance
    shares, width = stretches(relevance, STRETCHES), -(-x.shape[1] // STRETCHES)
    ends = np.arange(shares.shape[1] + 1) * width - 0.5
    words = "relevance" if width == 1 else f"relevance of {width} steps"
    if len(x) > 1:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(7, 1))
        _lines(left, x, shares, ends)
        left.set(xlabel="step", ylabel="channel")
        _sums(right, relevance.sum(axis=1))
        total = float(np.abs(relevance).sum(dtype=np.float64))
        Scale.of(shares, total).bar(figure, words, ax=right, fraction=0.3, aspect=40)
        return
    upper, lower = figure.subplots(2, 1, sharex=True)
    _lines(upper, x, shares, ends)
    upper.set_ylabel("input")
    lower.bar((ends[:-1] + ends[1:]) / 2, shares[0], color=colours(shares[0]), width=width)
    lower.axhline(0, color="0.4", linewidth=0.8)
    lower.set(xlabel="step", ylabel=words)
    symmetric(lower, shares, vertical=True)


def _lines(axes: Axes, x: np.ndarray, shares: np.ndarray, ends: np.ndarray) -> None:
    """Channels [C, T], each scaled to fill a band of height 1, over ``shares`` between ``ends`` in colours. The more of its
    band a line sweeps over within a stretch, the more it lets the colours through.
    """
    count, steps = x.shape
    few, limit = count <= FEW_TRACES, colour_limit(shares)
    starts = np.ceil(ends[:-1]).astype(int)
    axes.pcolormesh(ends, np.arange(count + 1) - 0.5, shares, cmap=COLOURS, vmin=-limit, vmax=limit, alpha=0.7)
    for place, values in enumerate(x):
        low, span = values.min(), float(np.ptp(values)) or 1.0
        swept = (np.maximum.reduceat(values, starts) - np.minimum.reduceat(values, starts)).mean() / span
        line = place + 0.42 - 0.84 * (values - low) / span
        axes.plot(line, color="black", linewidth=0.9 if few else 0.5, alpha=1 - 0.75 * swept)
    axes.hlines(np.arange(1, count) - 0.5, -0.5, steps - 0.5, color="0.8", linewidth=0.5)
    axes.set(xlim=(-0.5, steps - 0.5), ylim=(count - 0.5, -0.5))
    names = [f"{i}\n{values.min():.3g} to {values.max():.3g}" for i, values in enumerate(x)]
    axes.set_yticks(range(count), names if few else None)
    axes.tick_params("x", labelsize=8)
    axes.tick_params("y", labelsize=7 if few else 6)
    if not shares.any():
        nothing(axes)


def _sums(axes: Axes, sums: np.ndarray) -> None:
    """What the relevance of each channel adds up to."""
    axes.barh(np.arange(len(sums)), sums, color=colours(sums))
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.tick_params(labelleft=False, left=False, labelsize=7)
    axes.set_title("Σ of a channel", fontsize=8)
    symmetric(axes, sums, vertical=False)
    largest = float(np.abs(sums).max())
    axes.set_xticks([-largest, largest], [f"{-largest:.2g}", f"{largest:.2g}"] if largest else ["", "0"])
