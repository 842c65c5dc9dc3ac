"""Small pictures without words, for pages with many of them: of one sample, and of its relevance."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from onnxdtd.data.arrangement import arranged
from onnxdtd.data.clips import FRAMES
from onnxdtd.data.forms import Form
from onnxdtd.data.images import KINDS
from onnxdtd.data.labelled import Item
from onnxdtd.data.maps import pixels
from onnxdtd.data.readings import listed, reading
from onnxdtd.data.readings import stretches as read_stretches
from onnxdtd.data.scale import colours, stretches
from onnxdtd.data.traces import FEW_TRACES, TONE, bars

SMALL = 320  # pixels on the longer side
CHART = 200  # ... on the shorter one of a chart


def shown(
    item: Item, relevance: np.ndarray, form: Form, words: bool = False, features: Sequence[str] = ()
) -> tuple[str | None, Any]:
    """A sample and its relevance for a page: small pictures; of a text nothing and its stretches, of tokens or ``words``; of a
    row with ``features`` nothing and these, as they are read.
    """
    if features:
        return None, [asdict(stretch) for stretch in listed(features, relevance.ravel().tolist())]
    if item.passage is None:
        return thumbnail(item.x, relevance, form)
    return None, [asdict(stretch) for stretch in read_stretches(reading(item.passage, relevance.ravel(), words))]


def thumbnail(x: np.ndarray, relevance: np.ndarray, form: Form) -> tuple[str, str]:
    """One sample and its relevance, both without the batch axis, as PNGs in base64: images as they are, else charts. Both have
    one shape, at most ``SMALL`` pixels wide and high.
    """
    first, second = (base64.b64encode(png).decode() for png in _drawn(x, relevance, form))
    return first, second


def _drawn(x: np.ndarray, relevance: np.ndarray, form: Form) -> tuple[bytes, bytes]:
    """The same as bytes."""
    laid_out = arranged(x.shape, form)
    kind, shares = laid_out.kind, laid_out.of(relevance)
    if KINDS[kind].picture:
        picture, heatmap = pixels(laid_out.of(form.shown(x))), shares.sum(axis=-1)
        if kind != "image":
            picture, heatmap = _sheet(picture[:: -(-len(picture) // FRAMES)]), _sheet(stretches(heatmap, FRAMES, axis=0))
        return _png(_resized(picture)), _png(colours(_resized(heatmap))[..., :3])
    values = np.nan_to_num(laid_out.of(x))  # a missing value has no bar
    if kind == "traces" and len(values) > 1:
        strips = colours(stretches(shares, SMALL))[..., :3]
        if len(values) > FEW_TRACES:
            low, span = values.min(axis=1, keepdims=True), np.ptp(values, axis=1, keepdims=True)
            grey = stretches((values - low) / np.where(span > 0, span, 1), SMALL) / stretches(np.ones_like(values), SMALL)
            return _png(_stretched(grey)), _png(_stretched(strips))
        lines = _stacked(values)
        return _plotted(lines, True, "0.3"), _plotted(lines, True, "black", 1 - TONE * (1 - strips))
    shares = stretches(shares.ravel(), SMALL)
    return _plotted(values.ravel(), kind == "traces", "0.3"), _plotted(shares, False, colours(shares))


def _stretched(values: np.ndarray) -> np.ndarray:
    """A map [H, W] or [H, W, C] in the size of a chart."""
    rows, columns = (np.arange(size) * had // size for size, had in zip((CHART, SMALL), values.shape[:2], strict=True))
    return values[rows][:, columns]


def _sheet(frames: np.ndarray) -> np.ndarray:
    """Frames [F, H, W, ...] as one picture, four in a row."""
    across = min(4, len(frames))
    blank = np.zeros((-len(frames) % across, *frames.shape[1:]))
    rows = np.concatenate([frames, blank]).reshape(-1, across, *frames.shape[1:])
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def _stacked(values: np.ndarray) -> np.ndarray:
    """Channels [C, T] as lines one below the other around zero, [T, C]."""
    spans = np.ptp(values, axis=1, keepdims=True)
    lines = (values - values.min(axis=1, keepdims=True)) / np.where(spans > 0, spans, 1)
    stacked: np.ndarray = (lines - np.arange(len(lines))[:, None] + len(lines) / 2 - 1).T
    return stacked


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
    """A picture with values from 0 to 1 as a PNG; one of few colours, as a heatmap is, by a table of them, in a third of the
    space.
    """
    bytes_, file = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8), io.BytesIO()
    image = Image.fromarray(bytes_)
    if bytes_.ndim == 3:
        codes, place = np.unique(bytes_ @ np.array([1 << 16, 1 << 8, 1]), return_inverse=True)
        if len(codes) <= 256:
            image = Image.fromarray(place.reshape(bytes_.shape[:2]).astype(np.uint8), "P")
            image.putpalette(np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.uint8).tobytes())
    image.save(file, "png", optimize=True)
    return file.getvalue()


def _plotted(values: np.ndarray, line: bool, colour: str | np.ndarray, behind: np.ndarray | None = None) -> bytes:
    """A small chart of ``values`` [n], or several lines [n, lines], around zero: lines or bars; a band of colours ``behind``
    each line.
    """
    figure = Figure(figsize=(SMALL / 200, CHART / 200), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1))
    if behind is None:
        axes.axhline(0, color="0.6", linewidth=0.8)
    else:
        half = values.shape[1] / 2
        axes.imshow(behind, extent=(-0.7, len(values) - 0.3, -half, half), aspect="auto", interpolation="nearest")
    if line:
        axes.plot(values, color=colour, linewidth=1 if values.size < 16 * len(values) else 0.4)
    else:
        left = np.arange(len(values)) - 0.45
        axes.add_collection(bars(np.stack([left, left + 0.9]), values, colour))
    axes.set_xlim(-0.7, len(values) - 0.3)
    limit = 1.05 * (float(np.abs(values).max()) or 1.0)
    axes.set_ylim(-limit, limit)
    axes.set_axis_off()
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})  # not figure.savefig, which draws everything twice
    return file.getvalue()
