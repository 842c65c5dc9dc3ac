"""Figures that are drawn once and used again for other samples: only what differs from one to the other is drawn anew."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image

from onnxdtd.data.look import Scene

DPI = 110
MOST = 8  # templates that are kept
MANY = 3  # times as large as it is a picture has visible pixels
PACKED = 3  # of 9: how hard PNGs are packed; more takes longer, and saves a tenth

Again = Callable[[Scene], Sequence[Artist]]  # puts another scene into a figure, and gives the artists that show it, in order


def figure_of(size: tuple[float, float], title: str, below: str) -> tuple[Figure, Text, Text]:
    """An empty one with words above and below, on a canvas."""
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    above = figure.suptitle(title, fontsize=12, fontweight="bold", parse_math=False)
    return figure, above, figure.supxlabel(below, fontsize=9, parse_math=False)


def fit(figure: Figure, text: Text) -> None:
    """Make the letters smaller until the longest line fits: half as large, they need not be half as wide."""
    canvas = figure.canvas if isinstance(figure.canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        while (width := text.get_window_extent(renderer).width) > 0.98 * figure.bbox.width:
            text.set_fontsize(float(text.get_fontsize()) * 0.97 * figure.bbox.width / width)


def settle(figure: Figure) -> None:
    """Lay a figure out before it is drawn, which does so once more: words around a narrow picture get their room only then."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        figure.draw_without_rendering()


def png(canvas: Any) -> bytes:
    """What is on a canvas."""
    file = io.BytesIO()
    picture = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
    picture.save(file, "png", compress_level=PACKED, dpi=(DPI, DPI))
    return file.getvalue()


def paste(canvas: Any, image: AxesImage) -> None:
    """Put an image onto a canvas within its axes, a tenth as slow as matplotlib, and with the same colours. Where pixels become
    few pixels each, those of a picture are averaged, as there; those of a heatmap are shown as they are.
    """
    pixels = np.asarray(canvas.buffer_rgba())
    box, height = image.axes.bbox, len(pixels)
    left, right, top, bottom = (round(float(end)) for end in (box.x0, box.x1, height - box.y1, height - box.y0))
    colours = image.to_rgba(np.asarray(image.get_array()), bytes=True)
    few = max(bottom - top, right - left) < MANY * max(colours.shape[:2])
    way = Image.Resampling.BILINEAR if few and image.get_interpolation() != "nearest" else Image.Resampling.NEAREST
    pixels[top:bottom, left:right] = np.asarray(Image.fromarray(colours).resize((right - left, bottom - top), way))


class Template:
    """A figure whose layout does not depend on the sample, nor on the words but for their number of lines: so a picture does
    not depend on those that were drawn before it.
    """

    def __init__(
        self, size: tuple[float, float], lines: tuple[int, int], draw: Callable[[FigureBase, Scene], Again | None], scene: Scene
    ):
        self._figure, *self._words = figure_of(size, *("\n".join(["Ag"] * count) for count in lines))
        self._sizes = [text.get_fontsize() for text in self._words]
        again = draw(self._figure, scene)
        assert again is not None, "a kind that has what stays"
        self._again = again
        self._canvas = cast(FigureCanvasAgg, self._figure.canvas)
        moving = [*self._again(scene), *self._words]
        settle(self._figure)
        self._canvas.draw()
        self._figure.set_layout_engine("none")
        for artist in moving:
            artist.set_alpha(0)  # what is not seen has its place all the same
        self._canvas.draw()
        self._rest = self._canvas.copy_from_bbox(self._figure.bbox)
        for artist in moving:
            artist.set_alpha(None)

    def png(self, scene: Scene, *words: str) -> bytes:
        """A picture of another sample."""
        self._canvas.restore_region(self._rest)
        renderer = self._canvas.get_renderer()
        for text, size, said in zip(self._words, self._sizes, words, strict=True):
            text.set(text=said, fontsize=size)
            fit(self._figure, text)
        for artist in (*self._again(scene), *self._words):
            if isinstance(artist, AxesImage):
                paste(self._canvas, artist)
            else:
                artist.draw(renderer)
        return png(self._canvas)


class Templates:
    """The templates that were used last, by all that their layout depends on."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Template] = {}

    def of(self, key: Hashable, make: Callable[[], Template]) -> Template:
        """The template for ``key``, made where there is none."""
        template = self._known.pop(key, None) or make()
        self._known[key] = template  # the last one
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        return template
