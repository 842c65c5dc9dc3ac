"""Drawing explanations: what went in, what was relevant, and what the model said."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure, FigureBase

from onnxdtd import atomic
from onnxdtd.data import bars, clips, ids, maps, traces
from onnxdtd.data.again import Again, Template, Templates, figure_of, fit, png, settle
from onnxdtd.data.arrangement import arranged
from onnxdtd.data.forms import Form
from onnxdtd.data.look import USUAL, Caption, Look, Scene, wrapped
from onnxdtd.errors import OnnxdtdError

LINE = 0.2  # inches a line
TEMPLATES = Templates()


@dataclass(frozen=True)
class Composition:
    """What is drawn of a sample, and as what: in a figure of this ``size`` in inches, with words above and ``below``."""

    kind: Kind
    scene: Scene
    size: tuple[float, float]
    title: str
    below: str

    @classmethod
    def of(
        cls,
        x: np.ndarray,
        relevance: np.ndarray,
        caption: Caption,
        form: Form,
        concepts: Sequence[np.ndarray] = (),
        look: Look = USUAL,
    ) -> Composition:
        """Arguments as those of ``drawn``."""
        laid_out = arranged(x.shape, form)
        kind = KINDS[laid_out.kind]
        shares: dict[str, np.ndarray] = {}
        for title, values in zip((caption.heading, *caption.concepts), (relevance, *concepts), strict=True):
            shares[title + " " * sum(known.strip() == title for known in shares)] = laid_out.of(values)
        scene = Scene(laid_out.of(form.shown(x) if kind.picture else x), shares, caption.features, look)
        width, height = kind.size_of(scene)
        told = "" if kind.told is None else kind.told(scene)
        notes = (f"{caption.subtitle}{'   ' * bool(told)}{told}", *(f"note: {note}" for note in caption.notes))
        below = "\n".join(wrapped(text, width * 13) for text in notes)
        title = wrapped(caption.title, width * 8.5)
        size = width, height + LINE * (title.count("\n") + max(0, below.count("\n") - 1))
        return cls(kind, scene, size, title, below)

    def figure(self) -> Figure:
        """A figure of its own."""
        figure, *words = figure_of(self.size, self.title, self.below)
        for text in words:
            fit(figure, text)
        if len(self.scene.maps) == 1 or self.kind.together:
            self.kind.draw(figure, self.scene)
        else:
            _below(figure, self.scene, self.kind)
        if self.kind.stays is not None:
            settle(figure)
        return figure

    def png(self) -> bytes:
        """The picture, on a figure that others use as well where the kind has such."""
        stays = None if self.kind.stays is None else self.kind.stays(self.scene)
        if stays is None:
            figure = self.figure()
            figure.canvas.draw()
            return png(figure.canvas)
        lines = self.title.count("\n") + 1, self.below.count("\n") + 1
        make = lambda: Template(self.size, lines, self.kind.draw, self.scene)
        return TEMPLATES.of((self.kind.draw, stays, self.size, lines), make).png(self.scene, self.title, self.below)


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
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # letters that the font does not have become boxes
        data = Composition.of(x, relevance, caption, form, concepts, look).png()
    atomic.write(path, data, OnnxdtdError)  # no fault of the sample: the next would fail as well


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
    return Composition.of(x, relevance, caption, form, concepts, look).figure()


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
    before preprocessing. Of those that have ``stays`` a figure is used again, for scenes of which that gives the same: what
    they must have in common, None where it is not worth it. ``draw`` gives a function then that shows another scene.
    ``told`` says what was done to all of them.
    """

    size: Callable[[Scene], tuple[float, float]]
    draw: Callable[[FigureBase, Scene], Again | None]
    picture: bool = False
    together: bool = False
    told: Callable[[Scene], str] | None = None
    stays: Callable[[Scene], Hashable | None] | None = None

    def size_of(self, scene: Scene) -> tuple[float, float]:
        """The size of a figure with all of its heatmaps."""
        width, height = self.size(scene)
        return (width, height) if self.together else (width, height * len(scene.maps))


KINDS = {  # by the names that ``arrangement`` gives
    "image": Kind(maps.size, maps.image, picture=True, together=True, told=maps.smoothing, stays=maps.stays),
    "traces": Kind(traces.size, traces.traces),
    "frames": Kind(clips.size, clips.frames, picture=True),
    "slices": Kind(clips.size_of_slices, clips.slices, picture=True),
    "bars": Kind(bars.size, bars.bars, together=True),
    "ids": Kind(partial(ids.size, ids.WIDTH_OF_IDS), ids.ids(ids.WIDTH_OF_IDS, ids.FEW_IDS, str)),
    "bytes": Kind(partial(ids.size, ids.WIDTH_OF_BYTES), ids.ids(ids.WIDTH_OF_BYTES, ids.FEW_BYTES, ids.letter)),
}
