"""Texts in the colours of their relevance: what stands where, for pages, and as a picture."""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.transforms import IdentityTransform

from onnxdtd import atomic
from onnxdtd.data.images import COLOURS, DPI, Caption, colours, fit, wrapped
from onnxdtd.data.tokens import Passage, Token
from onnxdtd.errors import OnnxdtdError

TOKEN, SPECIAL, PADDING, CUT, PLAIN = "token", "special", "padding", "cut", "plain"
WIDTH, MARGIN, LINE = 900, 24, 30  # pixels
MOST_LINES = 60  # of a picture; a page has all
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


@dataclass(frozen=True)
class Stretch:
    """What stands together in a text, and its relevance: of a ``TOKEN``, or several for one letter; one that was added; all of
    the padding; what was ``CUT`` off, or lies between tokens, which have none.
    """

    text: str
    kind: str
    relevance: float = 0.0


def stretches_of(passage: Passage, shares: Sequence[float], words: bool = False) -> list[Stretch]:
    """A text in reading order, with the relevance of each token, or of each word."""
    found: list[Stretch] = []
    cursors = [0] * len(passage.texts)
    last = {token.part: i for i, token in enumerate(passage.tokens) if _stands(token)}
    word: tuple[int, int | None] | None = None
    for i, (token, share) in enumerate(zip(passage.tokens, map(float, shares), strict=True)):
        text, cursor = passage.texts[token.part], cursors[token.part]
        if not _stands(token):
            kind = PADDING if token.padding else SPECIAL
            if kind == PADDING and found and found[-1].kind == PADDING:
                found[-1] = Stretch(found[-1].text, kind, found[-1].relevance + share)
            else:
                found.append(Stretch(token.text, kind, share))
            continue
        joined = (words and word == (token.part, token.word) and token.word is not None) or token.start < cursor
        if joined and found and found[-1].kind == TOKEN:  # one letter may be several tokens
            found[-1] = Stretch(found[-1].text + text[cursor : token.end], TOKEN, found[-1].relevance + share)
        else:
            found += _between(text[cursor : token.start], passage.cut > 0)
            front = len(token.text) - len(token.text.lstrip()) if token.text.strip() else 0
            found += _between(token.text[:front], False)
            found.append(Stretch(text[max(cursor, token.start) + front : token.end], TOKEN, share))
        word, cursors[token.part] = (token.part, token.word), max(cursor, token.end)
        if last[token.part] == i:
            found += _between(text[cursors[token.part] :], passage.cut > 0)
    found += [s for part, text in enumerate(passage.texts) if part not in last for s in _between(text, passage.cut > 0)]
    return found


def _stands(token: Token) -> bool:
    """Is a token of the text?"""
    return not token.special and not token.padding


def _between(text: str, cut: bool) -> Iterator[Stretch]:
    """What no token stands for."""
    if text:
        yield Stretch(text, CUT if cut and text.strip() else PLAIN)


def tints(found: Sequence[Stretch]) -> np.ndarray:
    """The colour of each stretch, [n, 4] from 0 to 1, on the scale of what stands in the text: what was added may have most."""
    values = np.array([s.relevance if s.kind == TOKEN else 0.0 for s in found])
    return colours(values) if len(values) else np.zeros((0, 4))


def is_dark(tint: np.ndarray) -> bool:
    """Are letters on this colour to be white? By its luminance, so that both ends of the scale can be read."""
    red, green, blue = tint[:3]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.45


def draw_text(path: Path, found: Sequence[Stretch], caption: Caption) -> None:
    """Write a PNG of a text in colours; of a very long one the beginning. Raises ``OnnxdtdError``."""
    pen = _Pen()
    placed, lines = pen.lay(found)
    left = len(found) - len(placed)
    notes = [*(f"note: {note}" for note in caption.notes)]
    if left:
        notes.append(f"note: {left} more stretches of this text are not drawn; texts.html and results.json have them")
    below = "\n".join(wrapped(text, 110) for text in (caption.subtitle, *notes))
    height = 70 + lines * LINE + 46 + 18 * (below.count("\n") + 2)
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI)
    fit(
        figure, figure.suptitle(wrapped(caption.title, 80), y=1 - 24 / height, fontsize=12, fontweight="bold", parse_math=False)
    )
    values = [s.relevance for s in found if s.kind == TOKEN]
    limit = max(map(abs, values), default=0.0) or 1.0
    for place, tint in zip(placed, tints(found), strict=False):
        pen.draw(figure, place, tint, height - 70)
    axes = figure.add_axes((0.3, (18 * (below.count("\n") + 2) + 24) / height, 0.4, 10 / height))
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), COLOURS), cax=axes, orientation="horizontal", format="%.2g")
    bar.ax.tick_params(labelsize=7)
    fit(figure, figure.text(0.5, 8 / height, below, fontsize=8.5, ha="center", va="bottom", parse_math=False))
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # letters that the font does not have become boxes
        FigureCanvasAgg(figure).print_png(file)
    atomic.write(path, file.getvalue(), OnnxdtdError)


@dataclass(frozen=True)
class Placed:
    """A part of a stretch on a line: what is written, from where to where, in pixels from the left, and in what size."""

    pieces: Sequence[tuple[str, int, float, float]]
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

    def lay(self, found: Sequence[Stretch]) -> tuple[list[Placed], int]:
        """Where stretches stand, as many as there is room for, and on how many lines; a right-to-left text from the right."""
        x, line, wide = 0.0, 0, WIDTH - 2 * MARGIN
        placed: list[Placed] = []
        backwards = _is_backwards("".join(s.text for s in found if s.kind == TOKEN))
        for stretch in found:
            size, pieces = LETTERS if stretch.kind in (TOKEN, PLAIN) else SMALL, []
            for number, row in enumerate(stretch.text.split("\n")):
                if number:
                    x, line = 0.0, line + 1
                for word in self._breakable(row, size, wide):
                    width = self._width(_shown(word), size) if word.strip() else self._width("n", size) * 0.6 * len(word)
                    if x and x + width > wide:
                        x, line = 0.0, line + 1
                    if line >= MOST_LINES:
                        return placed, MOST_LINES
                    if word.strip() or x:
                        start = wide - x - width if backwards else x
                        pieces.append((word, line, start, start + width))
                        x += width
            x += 3 if stretch.kind == TOKEN else 5
            placed.append(Placed(pieces, stretch))
        return placed, line + 1

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


def _is_backwards(text: str) -> bool:
    """Is a text read from the right? As its first letter that has a direction."""
    first = next((kind for kind in map(unicodedata.bidirectional, text) if kind in ("L", "R", "AL")), "L")
    return first != "L"


def _shown(text: str) -> str:
    """A word as matplotlib draws it, before 3.11 letter by letter from the left; what has no form is left out."""
    seen = "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cs", "Cf"))
    return seen[::-1] if _is_backwards(seen) and matplotlib.__version_info__ < (3, 11) else seen
