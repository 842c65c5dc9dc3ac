"""Texts drawn in the colours of their relevance."""

from __future__ import annotations

import io
import textwrap
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.transforms import IdentityTransform

from onnxdtd import atomic
from onnxdtd.data.again import DPI, fit
from onnxdtd.data.look import Caption, wrapped
from onnxdtd.data.readings import CUT, PLAIN, SPECIAL, TOKEN, Stretch, is_dark, tints
from onnxdtd.data.scale import NOTHING, Scale
from onnxdtd.errors import OnnxdtdError

WIDTH, MARGIN, LINE = 900, 24, 30  # pixels
ABOVE, BELOW = 70, 60  # ... over all of it, and under a text for its scale
MOST_LINES, FEWEST_LINES = 60, 6  # of a picture, and of each of many texts in one; a page has all
MOST_CUT = 200  # letters of what the model did not get
LETTERS, SMALL = 12, 8  # points
FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "Noto Emoji",
    "Arial Unicode MS",
)
GREY = "0.55"

Spot = tuple[str, int, float, float]  # a word, its line, from where to where it goes


def draw_text(path: Path, blocks: Sequence[Sequence[Stretch]], caption: Caption) -> None:
    """Write a PNG of a text in colours, once an explanation; of a very long one the beginning. Raises ``OnnxdtdError``."""
    pen, several = _Pen(), len(blocks) > 1
    laid = [pen.lay(found, max(MOST_LINES // len(blocks), FEWEST_LINES)) for found in blocks]
    notes = [*(f"note: {note}" for note in caption.notes)]
    if any(len(placed) < len(found) for found, (placed, _) in zip(blocks, laid, strict=True)):
        notes.append("note: this is the beginning of the text; all of it is in results.json")
    below = "\n".join(wrapped(text, 110) for text in (caption.subtitle, *notes))
    sizes = [several * LINE + lines * LINE + BELOW for _, lines in laid]
    height = ABOVE + sum(sizes) + 18 * (below.count("\n") + 2)
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI)
    title = wrapped(caption.title, 80)
    fit(figure, figure.suptitle(title, y=1 - 24 / height, fontsize=12, fontweight="bold", parse_math=False))
    top = float(height - ABOVE)
    for found, (placed, _), size, heading in zip(blocks, laid, sizes, (caption.heading, *caption.concepts), strict=False):
        if several:
            words = heading.replace("\n", "   ")
            figure.text(MARGIN / WIDTH, (top - 4) / height, words, fontsize=10, va="top", parse_math=False)
        for place, tint in zip(placed, tints(found), strict=False):
            pen.draw(figure, place, tint, top - several * LINE)
        top -= size
        _bar(figure, found, (top + 34) / height, 10 / height)
    fit(figure, figure.text(0.5, 8 / height, below, fontsize=8.5, ha="center", va="bottom", parse_math=False))
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # letters that the font does not have become boxes
        FigureCanvasAgg(figure).print_png(file)
    atomic.write(path, file.getvalue(), OnnxdtdError)


def _bar(figure: Figure, found: Sequence[Stretch], bottom: float, height: float) -> None:
    """The scale of a text, or that it has no relevance."""
    axes = figure.add_axes((0.3, bottom, 0.4, height))
    values = np.array([s.relevance if s.kind == TOKEN else 0.0 for s in found] or [0.0])
    scale = Scale.of(values, sum(abs(s.relevance) for s in found))
    if scale.bar(figure, cax=axes, orientation="horizontal") is None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, NOTHING.replace("\n", " "), ha="center", va="center", fontsize=9)


@dataclass(frozen=True)
class Placed:
    """A part of a stretch on a line: what is written, from where to where, in pixels from the left, and in what size."""

    pieces: Sequence[Spot]
    stretch: Stretch


class _Pen:
    """Lays stretches out in lines, and draws them."""

    def __init__(self) -> None:
        names = {entry.name for entry in font_manager.fontManager.ttflist}
        known = [name for name in FONTS if name in names]
        self._fonts = {size: FontProperties(family=known, size=size) for size in (LETTERS, SMALL)}
        self._renderer = RendererAgg(WIDTH, LINE, DPI)

    def _width(self, text: str, size: int) -> float:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return self._renderer.get_text_width_height_descent(text, self._fonts[size], ismath=False)[0]

    def lay(self, found: Sequence[Stretch], most: int = MOST_LINES) -> tuple[list[Placed], int]:
        """Where stretches stand, as many as ``most`` lines take, and on how many; a right-to-left text from the right."""
        x, line, wide = 0.0, 0, WIDTH - 2 * MARGIN
        placed: list[Placed] = []
        backwards = bool(_direction("".join(s.text for s in found if s.kind == TOKEN)))
        for stretch in found:
            size, pieces = LETTERS if stretch.kind in (TOKEN, PLAIN) else SMALL, []
            text = stretch.text if stretch.kind != CUT else textwrap.shorten(stretch.text, MOST_CUT, placeholder=" ...")
            for number, row in enumerate(text.split("\n")):
                if number:
                    x, line = 0.0, line + 1
                for word in self._breakable(row, size, wide):
                    width = self._width(_shown(word), size) if word.strip() else self._width("n", size) * 0.6 * len(word)
                    if x and x + width > wide:
                        x, line = 0.0, line + 1
                    if line >= most:
                        return _turned(placed, backwards, wide), most
                    if word.strip() or x:
                        pieces.append((word, line, x, x + width))
                        x += width
            x += 3 if stretch.kind == TOKEN else 5
            placed.append(Placed(pieces, stretch))
        return _turned(placed, backwards, wide), line + 1

    def _breakable(self, row: str, size: int, wide: float) -> Iterator[str]:
        """A row in parts that fit on a line: its words, and what is longer letter by letter."""
        for i, word in enumerate(row.split(" ")):
            if i:
                yield " "
            most = len(word) if self._width(word, size) < wide else 24
            yield from (word[k : k + most] for k in range(0, len(word), most or 1))

    def draw(self, figure: Figure, place: Placed, tint: np.ndarray, top: float) -> None:
        """The parts of a stretch, on its colour."""
        kind = place.stretch.kind
        size = LETTERS if kind in (TOKEN, PLAIN) else SMALL
        ink = ("white" if is_dark(tint) else "black") if kind == TOKEN else GREY
        for number, (text, line, start, end) in enumerate(place.pieces):
            base = top - line * LINE - LINE * 0.7
            if kind == TOKEN:
                box: Any = {"facecolor": tint, "edgecolor": "0.85", "linewidth": 0.4, "transform": IdentityTransform()}
                figure.add_artist(Rectangle((MARGIN + start - 1, base - 6), end - start + 2, 23, **box))
            put: Any = {"color": ink, "transform": IdentityTransform(), "parse_math": False}
            figure.text(MARGIN + start, base, _shown(text), fontproperties=self._fonts[size], **put)
            if kind == SPECIAL and not number:
                figure.text(MARGIN + start, base - 9, f"{place.stretch.relevance:+.2g}", fontsize=5.5, **put)
            if kind == CUT:
                box = {"facecolor": GREY, "transform": IdentityTransform()}
                figure.add_artist(Rectangle((MARGIN + start, base + 3), end - start, 0.8, **box))


def _turned(placed: Sequence[Placed], backwards: bool, wide: float) -> list[Placed]:
    """The same as it is read: a text from the right begins there, and what runs against it is turned."""
    lines: dict[int, list[tuple[int, int]]] = {}
    spots = [list(place.pieces) for place in placed]
    for i, pieces in enumerate(spots):
        for k, (_, line, _, _) in enumerate(pieces):
            lines.setdefault(line, []).append((i, k))
    for members in lines.values():
        if backwards:
            _mirror(spots, members, 0.0, wide)
        against: list[tuple[int, int]] = []
        for i, k in [*members, (-1, 0)]:
            direction = None if i < 0 else _direction(spots[i][k][0])
            if i >= 0 and (direction is (not backwards) or (direction is None and against)):
                against.append((i, k))
                continue
            if against:
                ends = [spot for j, m in against for spot in spots[j][m][2:]]
                _mirror(spots, against, min(ends), max(ends))
            against = []
    return [replace(place, pieces=pieces) for place, pieces in zip(placed, spots, strict=True)]


def _mirror(
    spots: list[list[tuple[str, int, float, float]]], members: Sequence[tuple[int, int]], low: float, high: float
) -> None:
    """Put what stands between two ends in the opposite order."""
    for i, k in members:
        text, line, start, end = spots[i][k]
        spots[i][k] = text, line, low + high - end, low + high - start


def _direction(text: str) -> bool | None:
    """Is a word read from the right? None of one without letters."""
    kinds = [kind for kind in map(unicodedata.bidirectional, text) if kind in ("L", "R", "AL")]
    return kinds[0] != "L" if kinds else None


def _shown(text: str) -> str:
    """A word as matplotlib draws it, before 3.11 letter by letter from the left; what has no form is left out."""
    seen = "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cs", "Cf"))
    return seen[::-1] if _direction(seen) and matplotlib.__version_info__ < (3, 11) else seen
