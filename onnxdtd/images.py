"""Drawing explanations: what went in, what was relevant, and what the model said."""

from __future__ import annotations

import io
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from onnxdtd.inputs import Scaling, channel_axis

COLOURS = "seismic"  # white is zero, red speaks for the class, blue against it
FEW_FEATURES = 40
MANY_PIXELS = 4096
SMALL = 160  # pixels on the longer side of a small picture


@dataclass(frozen=True)
class Caption:
    """The words around a picture."""

    title: str
    subtitle: str
    notes: tuple[str, ...] = ()


def draw(path: Path, x: np.ndarray, relevance: np.ndarray, caption: Caption, scale: Scaling | None = None) -> None:
    """Write a PNG of one sample and its relevance, both of one shape: heatmap, signal or bar chart, as the shape suggests."""
    kind = kind_of(x.shape)
    size = {"image": (5.4, 6.0) if _is_wide(x.shape) else (7.6, 4.4), "signal": (8, 4.6), "bars": (7, 4.4)}[kind]
    figure = Figure(figsize=size, layout="constrained")
    _fit(figure, figure.suptitle(_wrapped(caption.title, size[0] * 8.5), fontsize=12, fontweight="bold", parse_math=False))
    {"image": _image, "signal": _signal, "bars": _bars}[kind](figure, x, relevance, scale)
    below = [_wrapped(text, size[0] * 13) for text in (caption.subtitle, *caption.notes)]
    _fit(figure, figure.supxlabel("\n".join(below), fontsize=9, parse_math=False))
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # letters that the font does not have become boxes
        figure.savefig(path, dpi=110, format="png")


def _fit(figure: Figure, text: Text) -> None:
    """Make the letters smaller until the longest line fits."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        width = text.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width
    text.set_fontsize(float(text.get_fontsize()) * min(1, 0.97 * figure.bbox.width / max(width, 1)))


def kind_of(shape: tuple[int, ...]) -> str:
    """How a sample of this shape is drawn.

    >>> kind_of((3, 32, 32)), kind_of((28, 1)), kind_of((4,))
    ('image', 'signal', 'bars')
    """
    axis = channel_axis(shape)
    space = [d for i, d in enumerate(shape) if i != axis] if axis is not None else list(shape)
    if len(space) == 2 and min(space) >= 4:
        return "image"
    long = [d for d in shape if d > 1]
    return "signal" if len(long) == 1 and (len(shape) > 1 or long[0] > FEW_FEATURES) else "bars"


def _wrapped(text: str, width: float) -> str:
    """``text`` in lines of at most ``width`` characters, at most three of them."""
    return textwrap.fill(text, int(width), max_lines=3, placeholder=" ...")


def _is_wide(shape: tuple[int, ...]) -> bool:
    """Is a picture so wide that it is better above its heatmap than beside it?"""
    axis = channel_axis(shape)
    space = [d for i, d in enumerate(shape) if i != axis]
    return space[1] > 1.5 * space[0] if len(space) == 2 else False


def pixels(x: np.ndarray, scale: Scaling | None = None) -> np.ndarray:
    """A sample [C, H, W], [H, W, C] or [H, W] as a picture, [H, W] or [H, W, 3], from 0 to 1."""
    axis = channel_axis(x.shape)
    picture = x[..., None] if axis is None else np.moveaxis(x, axis, -1)
    picture = scale.undo(picture) if scale is not None else (picture - picture.min()) / (np.ptp(picture) or 1)
    return picture[..., 0] if picture.shape[-1] == 1 else picture[..., :3]


def heat(relevance: np.ndarray) -> np.ndarray:
    """Relevance [C, H, W], [H, W, C] or [H, W], summed over channels."""
    axis = channel_axis(relevance.shape)
    return relevance if axis is None else relevance.sum(axis)


def colour_limit(values: np.ndarray) -> float:
    """The relevance at the ends of the symmetric colour scale: the largest, or in a large picture all but the 0.5 % largest."""
    size = np.abs(values)
    limit = np.percentile(size, 99.5) if size.size > MANY_PIXELS else size.max()
    return float(limit or size.max() or 1.0)


def _image(figure: Figure, x: np.ndarray, relevance: np.ndarray, scale: Scaling | None) -> None:
    left, right = figure.subplots(2, 1) if _is_wide(x.shape) else figure.subplots(1, 2)
    left.imshow(pixels(x, scale), cmap="gray", vmin=0, vmax=1)
    left.set_title("input", fontsize=10)
    values = heat(relevance)
    limit = colour_limit(values)
    shown = right.imshow(values, cmap=COLOURS, vmin=-limit, vmax=limit)
    right.set_title("relevance", fontsize=10)
    figure.colorbar(shown, ax=right, shrink=0.8, format="%.2g")
    for axes in (left, right):
        axes.set(xticks=[], yticks=[])


def _signal(figure: Figure, x: np.ndarray, relevance: np.ndarray, scale: Scaling | None) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True)
    values, shares = x.ravel(), relevance.ravel()
    upper.plot(values, color="0.2", linewidth=1.2)
    upper.set_ylabel("input")
    lower.bar(np.arange(shares.size), shares, color=colours(shares), width=1.0)
    lower.axhline(0, color="0.4", linewidth=0.8)
    lower.set_ylabel("relevance")
    _symmetric(lower, shares, vertical=True)


def _bars(figure: Figure, x: np.ndarray, relevance: np.ndarray, scale: Scaling | None) -> None:
    axes = figure.subplots()
    values, shares = x.ravel(), relevance.ravel()
    order = np.argsort(-np.abs(shares), kind="stable")[:FEW_FEATURES]
    order = np.sort(order)[::-1]
    names = [f"feature {i} = {values[i]:.4g}" for i in order]
    axes.barh(names, shares[order], color=colours(shares[order]))
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.tick_params(labelsize=9 if len(order) <= 15 else 6)
    axes.set_xlabel("relevance" + (f" (the {FEW_FEATURES} largest of {shares.size})" if shares.size > FEW_FEATURES else ""))
    _symmetric(axes, shares, vertical=False)


def _symmetric(axes: Axes, shares: np.ndarray, vertical: bool) -> None:
    limit = 1.05 * (float(np.abs(shares).max()) or 1.0)
    (axes.set_ylim if vertical else axes.set_xlim)(-limit, limit)


def colours(shares: np.ndarray) -> np.ndarray:
    """The colours of the heatmap scale for each value, [..., 4] from 0 to 1."""
    half = shares / (2 * colour_limit(shares))
    return np.asarray(matplotlib.colormaps[COLOURS](np.clip(0.5 + half, 0, 1)))


# ---------------------------------------------------------------------------------------------------------- small pictures


def small(x: np.ndarray, relevance: np.ndarray, scale: Scaling | None = None) -> tuple[bytes, bytes]:
    """Two PNGs without words, of one sample and of its relevance, both of one shape: at most ``SMALL`` pixels wide and high."""
    if kind_of(x.shape) == "image":
        return _png(_resized(pixels(x, scale))), _png(colours(_resized(heat(relevance)))[..., :3])
    shares = relevance.ravel()
    return _plotted(x.ravel(), kind_of(x.shape) == "signal", "0.3"), _plotted(shares, False, colours(shares))


def _resized(values: np.ndarray) -> np.ndarray:
    """``values`` [H, W] or [H, W, C] in the size of a small picture: larger by a whole factor, or smaller by averaging."""
    factor = SMALL // max(values.shape[:2])
    if factor:
        return values.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = (max(1, round(side * SMALL / max(values.shape[:2]))) for side in values.shape[:2])
    planes = np.moveaxis(np.atleast_3d(values), -1, 0).astype(np.float32)
    shrunk = [np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BOX)) for plane in planes]
    return np.stack(shrunk, axis=-1).reshape(height, width, *values.shape[2:])


def _png(picture: np.ndarray) -> bytes:
    """A picture with values from 0 to 1 as a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)).save(file, "png", optimize=True)
    return file.getvalue()


def _plotted(values: np.ndarray, line: bool, colour: str | np.ndarray) -> bytes:
    """A small chart of ``values`` around zero: a line or bars."""
    figure = Figure(figsize=(SMALL / 100, SMALL / 160), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axhline(0, color="0.6", linewidth=0.8)
    if line:
        axes.plot(values, color=colour, linewidth=1)
    else:
        axes.bar(np.arange(values.size), values, color=colour, width=0.9)
    axes.set_xlim(-0.7, values.size - 0.3)
    _symmetric(axes, values, vertical=True)
    axes.set_axis_off()
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
