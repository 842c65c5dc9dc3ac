"""Clips as their frames, volumes as slices, and their relevance."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from onnxdtd.data.look import Scene
from onnxdtd.data.maps import overlaid, pixels, said
from onnxdtd.data.scale import OF_ALL, Scale, colours, percent, shown, stretches
from onnxdtd.data.smooth import smoothed
from onnxdtd.data.steps import Clock
from onnxdtd.data.traces import bars, upright

FRAMES = 16  # of a long clip; the relevance of the frames between two is added up
ACROSS = 8  # frames in a row
WIDTH, ROOM = 9.2, 7.4  # inches, of a figure and of what stands in a row
SLICES = 8  # of a volume along its first axis
AXES = ("depth", "row", "column")
ROWS = {"beside": ("input", "relevance"), "overlay": ("relevance on the input",), "map": ("relevance",)}  # by style


def size(scene: Scene) -> tuple[float, float]:
    """That of a figure with so many frames."""
    return WIDTH, round(2.2 + _high(scene, min(len(scene.x), FRAMES), len(ROWS[scene.look.style])), 1)


def _high(scene: Scene, count: int, kinds: int) -> float:
    """How high rows of so many frames are, each of so many pictures one below the other, with their titles, in inches."""
    rows, columns = scene.x.shape[1:3]
    each = min(ROOM / min(count, ACROSS) * rows / columns, 2.2)
    return -(-count // ACROSS) * (kinds * (each + 0.06) + 0.22)


def frames(figure: FigureBase, scene: Scene) -> None:
    """[F, H, W, C], x from 0 to 1: rows of frames, each over its heatmap, then the sum of each; of a long clip some with what
    is around them.
    """
    relevance, clock = scene.relevance.sum(axis=-1), Clock.of(scene.look.rate, len(scene.x))
    count, width = len(relevance), -(-len(relevance) // FRAMES)
    sigma = scene.look.smooth or 0.0
    shares = stretches(relevance, FRAMES, axis=0)
    starts = np.arange(0, count, width)
    pictures = scene.x[(starts + np.minimum(starts + width, count) - 1) // 2]
    scale = Scale.of(smoothed(shares, sigma), float(np.abs(relevance).sum(dtype=np.float64)))
    across, kinds = min(len(shares), ACROSS), ROWS[scene.look.style]
    rows = -(-len(shares) // across) * len(kinds)
    above, lower = figure.subfigures(2, 1, height_ratios=(_high(scene, len(shares), len(kinds)) + 0.1, 1.2), squeeze=False).flat
    upper = above.subplots(rows, across, squeeze=False)
    for axes in upper.flat:
        axes.axis("off")
    for i, heatmap in enumerate(shares):
        for below, word in enumerate(kinds):
            axes = upper[len(kinds) * (i // across) + below, i % across]
            _panel(axes, word, pictures[i], smoothed(heatmap, sigma), scale)
            axes.set_ylabel("" if i % across else word.replace(" on", "\non"), fontsize=8)
        first, last = starts[i], min(starts[i] + width, count) - 1
        upper[len(kinds) * (i // across), i % across].set_title(clock.span(first, last), fontsize=8, pad=2)
    scale.bar(above, f"relevance{said(sigma)},", ax=list(upper.flat), shrink=0.8, aspect=30)
    _bars(lower.subplots(), relevance.sum(axis=(1, 2)), clock)


def _panel(axes: Axes, word: str, picture: np.ndarray, heatmap: np.ndarray, scale: Scale) -> None:
    """One picture: the input, its relevance or both."""
    axes.axis("on")
    axes.set(xticks=[], yticks=[])
    if word == "input":
        axes.imshow(pixels(picture), cmap="gray", vmin=0, vmax=1)
    elif word == "relevance":
        shown(axes, heatmap, scale.limit)
    else:
        axes.imshow(overlaid(picture, heatmap / scale.limit), interpolation="nearest")


def _bars(axes: Axes, sums: np.ndarray, clock: Clock) -> None:
    """The relevance of each frame."""
    width = float(clock.at(1.0))
    middles = clock.at(np.arange(len(sums), dtype=np.float64))
    axes.add_collection(bars(np.stack([middles - 0.45 * width, middles + 0.45 * width]), sums, colours(sums)))
    axes.axhline(0, color="0.4", linewidth=0.8)
    upright(axes, sums)
    axes.tick_params(labelsize=7)
    axes.set_xlim(-0.5 * width, clock.at(len(sums) - 0.5))
    axes.set_xlabel(clock.label if clock.rate else "frame", fontsize=8)
    axes.set_ylabel("Σ of a frame", fontsize=8)


def size_of_slices(scene: Scene) -> tuple[float, float]:
    """That of a figure with slices of a volume, or of frames where it is a clip."""
    if scene.look.rate is not None:
        return size(scene)
    return WIDTH, round(1.2 + sum(_parts(scene)), 1)


def _parts(scene: Scene) -> tuple[float, float, float]:
    """How high three slices at right angles are, the bars, and the most relevant slices, in inches."""
    along, rows, columns = scene.x.shape[:3]
    side = min(ROOM / 3 * max(along / columns, rows / columns, along / rows), 3.0)
    return len(ROWS[scene.look.style]) * (side + 0.1) + 0.4, 1.2, _high(scene, min(along, SLICES), 1) + 0.1


def slices(figure: FigureBase, scene: Scene) -> None:
    """[D, H, W, 1], x from 0 to 1: three slices at right angles, through the most relevant of each axis; the sum of each slice
    along the first; and those of the most relevant there. With a rate it is a clip.
    """
    if scene.look.rate is not None:
        frames(figure, scene)
        return
    x, whole = scene.x[..., 0], scene.relevance.sum(axis=-1)
    total, sigma = float(np.abs(whole).sum(dtype=np.float64)), scene.look.smooth or 0.0
    sizes = [np.abs(whole).sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    chosen = [int(values.argmax()) for values in sizes]
    cuts = [(np.take(x, at, axis), smoothed(np.take(whole, at, axis), sigma)) for axis, at in enumerate(chosen)]
    most = np.sort(np.argsort(-sizes[0], kind="stable")[:SLICES])
    rest = [(x[i], smoothed(whole[i], sigma)) for i in most]
    scale = Scale.of(np.concatenate([heatmap.ravel() for _, heatmap in cuts + rest]), total)
    kinds = ROWS[scene.look.style]
    upper, middle, lower = figure.subfigures(3, 1, height_ratios=_parts(scene), squeeze=False).flat
    grid = upper.subplots(len(kinds), 3, squeeze=False)
    for axis, (picture, heatmap) in enumerate(cuts):
        for below, word in enumerate(kinds):
            axes = grid[below, axis]
            _panel(axes, word, picture[..., None], heatmap, scale)
            across, down = (AXES[other] for other in (2, 1, 0) if other != axis)
            axes.set_xlabel(across if below == len(kinds) - 1 else "", fontsize=7, labelpad=1)
            axes.set_ylabel(down, fontsize=7, labelpad=1)
        share = f": {percent(100 * float(sizes[axis][chosen[axis]]) / total)} {OF_ALL}" if total else ""
        grid[0, axis].set_title(f"{AXES[axis]} {chosen[axis]} of {whole.shape[axis]}{share}", fontsize=8, pad=2)
    scale.bar(upper, f"relevance{said(sigma)},", ax=list(grid.flat), shrink=0.8, aspect=30)
    below = middle.subplots()
    _bars(below, whole.sum(axis=(1, 2)), Clock.of(None, len(whole)))
    below.set_xlabel("depth", fontsize=8)
    below.set_ylabel("Σ of a slice", fontsize=8)
    panels = lower.subplots(1, len(most), squeeze=False)[0]
    for axes, i, (picture, heatmap) in zip(panels, most, rest, strict=True):
        _panel(axes, ROWS["overlay"][0], picture[..., None], heatmap, scale)
        axes.set_title(f"depth {i}", fontsize=8, pad=2)
    panels[0].set_ylabel("the most\nrelevant", fontsize=7)
