"""Pictures and clips, and their heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import FigureBase
from matplotlib.ticker import MaxNLocator

from onnxdtd.data.look import Scene
from onnxdtd.data.scale import colour_limit, shown, stretches

FRAMES = 16  # of a long clip; the relevance of the frames between two is added up
ACROSS = 8  # frames in a row


def is_wide(shape: Sequence[int]) -> bool:
    """Is a picture so wide that it is better above its heatmap than beside it?"""
    return shape[1] > 1.5 * shape[0]


def pixels(pictures: np.ndarray) -> np.ndarray:
    """Pictures [..., H, W, C] as they are shown: [..., H, W], or [..., H, W, 3]."""
    return pictures[..., 0] if pictures.shape[-1] < 3 else pictures[..., :3]


def size(scene: Scene) -> tuple[float, float]:
    """That of a figure with a picture and its heatmaps."""
    width, height = (5.4, 6.0) if is_wide(scene.x.shape) else (7.6, 4.4)
    count, rows, columns = len(scene.maps), *scene.x.shape[:2]
    return (width, height) if count == 1 else (max(3.1 + 2.1 * count, width), 1.5 + 2.1 * min(rows / columns, 2.0))


def size_of_frames(scene: Scene) -> tuple[float, float]:
    """That of a figure with so many frames."""
    return 8.6, 1.3 + 2.2 * -(-min(len(scene.x), FRAMES) // ACROSS)


def image(figure: FigureBase, scene: Scene) -> None:
    """[H, W, C], x from 0 to 1; where there are no colours, rows and columns are numbered. Several heatmaps stand in a row."""
    if len(scene.maps) > 1:
        _beside(figure, scene)
        return
    x, relevance = scene.x, scene.relevance
    left, right = figure.subplots(2, 1) if is_wide(x.shape) else figure.subplots(1, 2)
    aspect: Literal["auto", "equal"] = "auto" if max(x.shape[:2]) > ACROSS * min(x.shape[:2]) else "equal"
    left.imshow(pixels(x), cmap="gray", vmin=0, vmax=1, aspect=aspect)
    left.set_title("input", fontsize=10)
    values = relevance.sum(axis=-1)
    drawn = shown(right, values, colour_limit(values), aspect)
    right.set_title("relevance", fontsize=10)
    figure.colorbar(drawn, ax=[left, right] if is_wide(x.shape) else right, shrink=0.8, format="%.2g")
    for axes in (left, right):
        if x.shape[-1] == 1:
            axes.tick_params(labelsize=7)
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
        else:
            axes.set(xticks=[], yticks=[])


def _beside(figure: FigureBase, scene: Scene) -> None:
    """A picture [H, W, C] and its heatmaps in a row."""
    first, *others = figure.subplots(1, len(scene.maps) + 1)
    first.imshow(pixels(scene.x), cmap="gray", vmin=0, vmax=1)
    first.set_title("input", fontsize=10)
    for axes, (title, values) in zip(others, scene.maps.items(), strict=True):
        shares = values.sum(axis=-1)
        shown(axes, shares, colour_limit(shares))
        axes.set_title(title, fontsize=10)
    for axes in (first, *others):
        axes.set(xticks=[], yticks=[])


def frames(figure: FigureBase, scene: Scene) -> None:
    """[F, H, W, C], x from 0 to 1: rows of frames, each over its heatmap; of a long clip some with what is around them."""
    x, relevance = scene.x, scene.relevance
    count, width = x.shape[0], -(-x.shape[0] // FRAMES)
    shares = stretches(relevance.sum(axis=-1), FRAMES, axis=0)
    limit, pictures = colour_limit(shares), pixels(x)
    across = min(len(shares), ACROSS)
    grid = figure.subplots(2 * -(-len(shares) // across), across, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.axis("off")
    for i, heatmap in enumerate(shares):
        upper, lower = (grid[2 * (i // across) + below, i % across] for below in (0, 1))
        first, last = i * width, min((i + 1) * width, count) - 1
        upper.imshow(pictures[(first + last) // 2], cmap="gray", vmin=0, vmax=1)
        upper.set_title(f"{first}" if first == last else f"{first} to {last}", fontsize=8, pad=2)
        drawn = shown(lower, heatmap, limit)
        lower.set_title(f"Σ {heatmap.sum():.3g}", fontsize=7, pad=2)
        for axes, word in ((upper, "input"), (lower, "relevance")):
            axes.axis("on")
            axes.set_ylabel("" if i % across else word, fontsize=8)
    figure.colorbar(drawn, ax=grid, shrink=0.8, format="%.2g", label="relevance")
