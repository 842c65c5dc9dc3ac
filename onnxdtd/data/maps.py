"""Pictures and clips, and their heatmaps."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from onnxdtd.data.again import Again
from onnxdtd.data.look import Look, Scene, wrapped
from onnxdtd.data.scale import COLOURS, Scale, nothing, shared
from onnxdtd.data.smooth import lattice, smoothed
from onnxdtd.data.steps import Clock

FEW = 3  # panels that are large, and stand one below the other where they are
WIDE = 1.5  # times as wide as high
SIDES = {True: 3.0, False: 1.9}  # of a panel, in inches, where there are few, and where there are many
WIDEST, NARROWEST, GAP = 12.6, 1.5, 0.2  # inches of all panels in a row, of one, and between two
STEEPEST = 8.0  # times as long as wide is how a picture is shown at most
SEEN = 32  # pixels: what is in a smaller picture is not seen any better under its relevance
LIGHT = np.array([0.299, 0.587, 0.114])  # of red, green and blue
DIM, BRIGHT = 0.2, 0.95  # how grey a picture is under its relevance
OPACITY = 0.7  # to the power of which a share hides what is below it
LETTERS = 13  # of a title, in an inch
BAR, NUMBERS, SHORTEST = 0.08, 0.2, 1.4  # inches: of a colour bar, of numbers under a picture, of a bar at least
HEADING = 0.15  # inches of a line above a picture
MOST_NAMES = 16  # of rows


def pixels(pictures: np.ndarray) -> np.ndarray:
    """Pictures [..., H, W, C] as they are shown: [..., H, W], or [..., H, W, 3]."""
    return pictures[..., 0] if pictures.shape[-1] < 3 else pictures[..., :3]


def width_of(values: np.ndarray, look: Look) -> float:
    """By how many pixels a heatmap is smoothed: as was asked for, or else where it is nothing but a lattice."""
    if look.smooth is not None:
        return look.smooth
    found = lattice(values)
    return found.sigma if found is not None and found.alone else 0.0


def said(sigma: float) -> str:
    """How far a heatmap is smoothed, where it is."""
    return f" smoothed by {sigma:g} pixel{'s' * (sigma != 1)}" if sigma else ""


def smoothing(scene: Scene) -> str:
    """How far each of the heatmaps of a picture is smoothed, where any is."""
    widths = {title: width_of(values.sum(axis=-1), scene.look) for title, values in scene.maps.items()}
    if len(set(widths.values())) == 1:
        return said(next(iter(widths.values()))).strip()
    return "; ".join(title.split("\n")[0].strip() + said(sigma) for title, sigma in widths.items() if sigma)


@dataclass(frozen=True)
class Panel:
    """One of the pictures beside each other: the input, a heatmap, or (``over``) a heatmap on the input."""

    title: str
    heatmap: np.ndarray | None = None
    scale: Scale | None = None
    over: bool = False
    bar: bool = False


def _panels(scene: Scene) -> Iterator[Panel]:
    """What is shown of a picture, as the look says."""
    style, alone = scene.look.style, len(scene.maps) == 1
    sums = {title: values.sum(axis=-1) for title, values in scene.maps.items()}
    widths = {title: width_of(values, scene.look) for title, values in sums.items()}
    seen = {title: smoothed(values, widths[title]) for title, values in sums.items()}
    scales = [Scale.of(seen[title], float(np.abs(values).sum(dtype=np.float64))) for title, values in sums.items()]
    one = scene.look.scale == "shared"
    if style == "beside":
        yield Panel("input")
    for (title, values), scale in zip(seen.items(), shared(scales) if one else scales, strict=True):
        yield Panel(title, values, scale, over=style == "overlay", bar=not one)
        if style == "beside" and alone and min(scene.x.shape[:2]) >= SEEN:
            yield Panel(f"{title} on the input", values, scale, over=True)


def _grid(scene: Scene, count: int) -> tuple[int, int, float, float]:
    """Rows and columns of so many panels, and how wide and high each of them is, in inches."""
    height, width = scene.x.shape[:2]
    side, ratio = SIDES[count <= FEW], min(max(width / height, 1 / STEEPEST), STEEPEST)
    wide = min(side * math.sqrt(ratio), 2.2 * side, 2 * side * ratio)
    most = 1 if count <= FEW and ratio > WIDE else int(WIDEST / (max(wide, NARROWEST) + GAP))
    rows = -(-count // most)
    return rows, -(-count // rows), max(wide, NARROWEST), (wide + GAP * (wide >= NARROWEST)) / ratio


def size(scene: Scene) -> tuple[float, float]:
    """That of a figure with a picture and its heatmaps."""
    panels = list(_panels(scene))
    rows, columns, wide, high = _grid(scene, len(panels))
    lines = max(_headed(panel, wide).count("\n") + 1 for panel in panels)
    around = 0.5 + NUMBERS * (scene.x.shape[-1] == 1) + HEADING * lines
    return round(max(columns * (wide + GAP) + 0.3, 4.6), 1), round(rows * (high + around) + 0.8, 1)


def image(figure: FigureBase, scene: Scene) -> Again:
    """[H, W, C], x from 0 to 1: the picture and its heatmaps; where there are no colours, rows and columns are numbered."""
    panels = list(_panels(scene))
    rows, columns, wide, high = _grid(scene, len(panels))
    aspect: Literal["auto", "equal"] = "auto" if max(scene.x.shape[:2]) > STEEPEST * min(scene.x.shape[:2]) else "equal"
    drawn = wide if aspect == "auto" else min(wide, high * scene.x.shape[1] / scene.x.shape[0])
    shown, bars, titles = list[AxesImage](), list[Colorbar | None](), list[Text]()
    grid = figure.subplots(rows, columns, squeeze=False)
    numbered = scene.x.shape[-1] == 1 and len(panels) <= FEW
    timed = numbered and scene.look.rate is not None
    for axes, panel in zip(grid.flat, panels, strict=False):
        shown.append(_show(axes, scene.x, panel, aspect))
        bars.append(None)
        _number(axes, numbered)
        if numbered:
            _name(axes, scene)
        titles.append(axes.set_title(_headed(panel, wide), fontsize=9, parse_math=False))
        if panel.bar and panel.scale is not None:
            share = max(1.0, SHORTEST / drawn)
            below = axes.inset_axes((0.5 - share / 2, -(BAR + 0.06 + NUMBERS * (numbered + timed)) / high, share, BAR / high))
            bars[-1] = panel.scale.bar(figure, cax=below, orientation="horizontal")
            if bars[-1] is None:
                below.remove()
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    whole = next((panel.scale for panel in panels if panel.scale is not None), None)
    if whole is not None and not any(panel.bar for panel in panels):
        bars[-1] = whole.bar(figure, ax=list(grid.flat), location="bottom", shrink=0.5, aspect=50, pad=0.02)

    labels = {bar: bar.ax.get_xticklabels() for bar in bars if bar is not None}

    def again(scene: Scene) -> list[Artist]:
        """What is inside of the frames, then the frames, and the numbers of colour bars."""
        artists: list[Artist] = []
        for image, title, bar, panel in zip(shown, titles, bars, _panels(scene), strict=True):
            image.set_data(_inside(scene.x, panel))
            if panel.scale is not None:
                image.set_clim(-panel.scale.limit, panel.scale.limit)
            artists += [image, *image.axes.spines.values()]
            if len(scene.maps) > 1:
                title.set_text(_headed(panel, wide))
                artists.append(title)
            if bar is not None and panel.scale is not None:
                for label, text in zip(labels[bar], panel.scale.labels, strict=True):
                    label.set_text(text)
                artists += labels[bar]
        return artists

    return again


def stays(scene: Scene) -> Hashable | None:
    """What scenes have in common of which one can be drawn where another was; None where there is no relevance: it says so."""
    panels = list(_panels(scene))
    if not all(panel.heatmap is None or panel.heatmap.any() for panel in panels):
        return None
    *_, wide, _ = _grid(scene, len(panels))
    scales = [panel.scale and (panel.scale.signs, panel.scale.cut) for panel in panels]
    titles = [_headed(panel, wide) for panel in panels]
    heads = titles if len(scene.maps) == 1 else [title.count("\n") for title in titles]  # of several each has numbers
    return scene.x.shape, scene.look, tuple(heads), tuple(scales)


def _headed(panel: Panel, wide: float) -> str:
    """The title of a panel that is so many inches wide."""
    return "\n".join(wrapped(line, wide * LETTERS) for line in panel.title.split("\n"))


def _show(axes: Axes, x: np.ndarray, panel: Panel, aspect: Literal["auto", "equal"]) -> AxesImage:
    """One panel."""
    if panel.heatmap is not None and not np.nan_to_num(panel.heatmap).any():
        nothing(axes)
    inside = _inside(x, panel)
    if panel.heatmap is None or panel.scale is None:
        return axes.imshow(inside, cmap="gray", vmin=0, vmax=1, aspect=aspect)
    limit = panel.scale.limit
    return axes.imshow(inside, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="nearest", aspect=aspect)


def _inside(x: np.ndarray, panel: Panel) -> np.ndarray:
    """What a panel shows."""
    if panel.heatmap is None or panel.scale is None:
        return pixels(x)
    return overlaid(x, panel.heatmap / panel.scale.limit) if panel.over else panel.heatmap


def overlaid(x: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """A picture [H, W, C] in grey, and on it ``shares`` [H, W], from -1 to 1, as colours: the more, the less grey shows."""
    picture = pixels(x)
    grey = picture if picture.ndim == 2 else picture @ LIGHT
    shares = np.clip(shares, -1, 1)
    opacity = np.abs(shares)[..., None] ** OPACITY
    return (1 - opacity) * (DIM + (BRIGHT - DIM) * grey[..., None]) + opacity * COLOURS(0.5 + shares / 2)[..., :3]


def _number(axes: Axes, numbered: bool) -> None:
    """Rows and columns, or no ticks."""
    if not numbered:
        axes.set(xticks=[], yticks=[])
        return
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))


def _name(axes: Axes, scene: Scene) -> None:
    """Columns as time, and rows by their names, as far as these are known: of a spectrogram, say."""
    clock = Clock.of(scene.look.rate, scene.x.shape[1])
    if clock.rate is not None:
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        edge = float(clock.at(1.0)) / 2
        for artist in axes.images:
            artist.set_extent((-edge, float(clock.at(float(scene.x.shape[1]))) - edge, scene.x.shape[0] - 0.5, -0.5))
        axes.set_aspect(axes.get_aspect() if axes.get_aspect() == "auto" else 2 * edge)
        axes.set_xlabel(clock.label, fontsize=7, labelpad=1)
    if scene.names:
        every = -(-len(scene.names) // MOST_NAMES)
        axes.set_yticks(range(0, len(scene.names), every), scene.names[::every], parse_math=False)
