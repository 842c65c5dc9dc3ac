"""Drawing explanations: what went in, what was relevant, and what the model said."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.text import Text

from onnxdtd import atomic
from onnxdtd.data import bars, clips, ids, maps, traces
from onnxdtd.data.arrangement import arranged
from onnxdtd.data.forms import Form
from onnxdtd.data.look import USUAL, Caption, Look, Scene
from onnxdtd.errors import OnnxdtdError

DPI, LINE = 110, 0.2  # dots an inch, inches a line


def draw(
    path: Path,
    x: np.ndarray,
    relevance: np.ndarray,
    caption: Caption,
    form: Form,
    concepts: Sequence[np.ndarray] = (),
    look: Look = USUAL,
) -> None:
    """Write a PNG; arguments as those of ``drawn``. Raises ``OnnxdtdError`` where it cannot be written."""
    figure = drawn(x, relevance, caption, form, concepts, look)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # letters that the font does not have become boxes
        file = io.BytesIO()
        FigureCanvasAgg(figure).print_png(file)  # not figure.savefig, which draws everything twice
    atomic.write(path, file.getvalue(), OnnxdtdError)  # no fault of the sample: the next would fail as well


def drawn(
    x: np.ndarray,
    relevance: np.ndarray,
    caption: Caption,
    form: Form,
    concepts: Sequence[np.ndarray] = (),
    look: Look = USUAL,
) -> Figure:
    """One sample and its relevance, both of one ``form``, drawn as that suggests (see ``arrangement``). Heatmaps of
    ``concepts`` go beside that of a picture, and below that of anything else, each with a colour scale of its own.
    """
    laid_out = arranged(x.shape, form)
    kind = KINDS[laid_out.kind]
    shares: dict[str, np.ndarray] = {}
    for title, values in zip((caption.heading, *caption.concepts), (relevance, *concepts), strict=True):
        shares[title + " " * sum(known.strip() == title for known in shares)] = laid_out.of(values)
    scene = Scene(laid_out.of(form.shown(x) if kind.picture else x), shares, caption.features, look)
    width, height = kind.size_of(scene)
    below = [wrapped(text, width * 13) for text in (caption.subtitle, *(f"note: {note}" for note in caption.notes))]
    lines = 1 + "\n".join(below).count("\n")
    size = width, height + LINE * max(0, lines - 2)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    fit(figure, figure.suptitle(wrapped(caption.title, size[0] * 8.5), fontsize=12, fontweight="bold", parse_math=False))
    if len(shares) == 1 or kind.together:
        kind.draw(figure, scene)
    else:
        _below(figure, scene, kind)
    fit(figure, figure.supxlabel("\n".join(below), fontsize=9, parse_math=False))
    return figure


def fit(figure: Figure, text: Text) -> None:
    """Make the letters smaller until the longest line fits: half as large, they need not be half as wide."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        while (width := text.get_window_extent(renderer).width) > 0.98 * figure.bbox.width:
            text.set_fontsize(float(text.get_fontsize()) * 0.97 * figure.bbox.width / width)


def wrapped(text: str, width: float) -> str:
    """``text`` in lines of at most ``width`` characters, at most three of them."""
    return textwrap.fill(text, int(width), max_lines=3, placeholder=" ...")


def _below(figure: Figure, scene: Scene, kind: Kind) -> None:
    """A sample with one heatmap below the other."""
    for part, (title, values) in zip(
        figure.subfigures(len(scene.maps), 1, squeeze=False).flat, scene.maps.items(), strict=True
    ):
        part.suptitle(title, fontsize=10)
        kind.draw(part, replace(scene, maps={title: values}))


@dataclass(frozen=True)
class Kind:
    """How samples of a kind are drawn: ``size`` of the figure in inches; ``draw`` takes a figure, or a part of one.
    ``together``: it draws several heatmaps as well, which stand one below the other otherwise. A ``picture`` is shown as it was
    before preprocessing.
    """

    size: Callable[[Scene], tuple[float, float]]
    draw: Callable[[FigureBase, Scene], None]
    picture: bool = False
    together: bool = False

    def size_of(self, scene: Scene) -> tuple[float, float]:
        """The size of a figure with all of its heatmaps."""
        width, height = self.size(scene)
        return (width, height) if self.together else (width, height * len(scene.maps))


KINDS = {  # by the names that ``arrangement`` gives
    "image": Kind(maps.size, maps.image, picture=True, together=True),
    "traces": Kind(traces.size, traces.traces),
    "frames": Kind(clips.size, clips.frames, picture=True),
    "slices": Kind(clips.size_of_slices, clips.slices, picture=True),
    "bars": Kind(bars.size, bars.bars, together=True),
    "ids": Kind(partial(ids.size, ids.WIDTH_OF_IDS), ids.ids(ids.WIDTH_OF_IDS, ids.FEW_IDS, str)),
    "bytes": Kind(partial(ids.size, ids.WIDTH_OF_BYTES), ids.ids(ids.WIDTH_OF_BYTES, ids.FEW_BYTES, ids.letter)),
}
