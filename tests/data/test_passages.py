"""Texts as pictures: everything is there once, within the frame, in its colour."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from PIL import Image

from onnxdtd.data.look import Caption
from onnxdtd.data.passages import MARGIN, MOST_LINES, WIDTH, _Pen, draw_text
from onnxdtd.data.readings import CUT, PLAIN, SPECIAL, TOKEN, Stretch, tints

CAPTION = Caption("a: spam", "attnlrp", ("a note",))
TEXT = [
    Stretch("[CLS]", SPECIAL, 9.0),
    Stretch("free", TOKEN, 2.0),
    Stretch(" ", PLAIN),
    Stretch("$x^2$ \\alpha {{7*7}}", TOKEN, -1.0),
    Stretch("\n\n", PLAIN),
    Stretch("你好😀", TOKEN, 0.0),
    Stretch(" and so on", CUT),
]


def words(text: str, relevance: float = 1.0) -> list[Stretch]:
    return [Stretch(word, TOKEN if word.strip() else PLAIN, relevance) for word in re.findall(r"\S+|\s+", text)]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is painted."""
    found: list[Any] = []
    paint = FigureCanvasAgg.print_png
    monkeypatch.setattr(FigureCanvasAgg, "print_png", lambda self, *args: (found.append(self.figure), paint(self, *args))[1])
    return found


def test_a_text_is_drawn(tmp_path: Path, figures: list[Any]) -> None:
    draw_text(tmp_path / "a.png", [TEXT], CAPTION)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == WIDTH
    (figure,) = figures
    written = [text.get_text() for text in figure.texts]
    for word in ("[CLS]", "+9", "free", "$x^2$", "\\alpha", "你好😀", "on", "attnlrp\nnote: a note"):
        assert word in written
    boxes = [patch for patch in figure.findobj(Rectangle) if patch.get_height() == 23]
    assert matplotlib.colors.to_hex(boxes[0].get_facecolor()) == matplotlib.colors.to_hex(tuple(tints(TEXT)[1]))
    inks = {text.get_text(): text.get_color() for text in figure.texts}
    assert (inks["free"], inks["你好😀"]) == ("white", "black")


def test_lines_are_broken_and_stay_within_the_frame() -> None:
    placed, lines = _Pen().lay(words("free mobile calls " * 40 + "x" * 400))
    spots = [spot for place in placed for spot in place.pieces]
    assert lines > 5
    assert max(end for *_, end in spots) <= WIDTH - 2 * MARGIN
    assert "".join(text for text, *_ in spots).replace(" ", "") == "freemobilecalls" * 40 + "x" * 400
    for line in range(lines):
        row = sorted((start, end) for _, at, start, end in spots if at == line)
        assert all(one[1] <= two[0] + 1e-6 for one, two in pairwise(row))


def test_of_a_very_long_text_the_beginning_is_drawn(tmp_path: Path) -> None:
    placed, lines = _Pen().lay(words("free mobile\n" * 200))
    assert lines == MOST_LINES
    assert len(placed) < 400
    draw_text(tmp_path / "a.png", [words("free\n" * 100)], CAPTION)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.height < 2200


def test_a_text_that_is_read_from_the_right() -> None:
    """It begins there, and a run of words that is read from the left keeps its order; the other way round likewise."""
    placed, _ = _Pen().lay(words("שלום עולם free mobile שורה"))
    start = {text: start for place in placed for text, _, start, _ in place.pieces}
    assert start["שלום"] > start["עולם"] > start["mobile"] > start["free"] > start["שורה"]
    placed, _ = _Pen().lay(words("free שלום עולם mobile"))
    start = {text: start for place in placed for text, _, start, _ in place.pieces}
    assert start["free"] < start["עולם"] < start["שלום"] < start["mobile"]


def test_a_text_without_relevance_is_drawn(tmp_path: Path) -> None:
    draw_text(tmp_path / "a.png", [words("free", 0.0)], CAPTION)
    assert np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).min() < 255


def test_a_text_is_drawn_once_for_each_explanation(tmp_path: Path, figures: list[Any]) -> None:
    """With what it is above each, and a scale each; of a long one fewer lines."""
    caption = replace(CAPTION, heading="dtd\nΣ 3 of 4", concepts=("lrp-0\nΣ 2", "lrp-z\nΣ 1"))
    draw_text(tmp_path / "a.png", [TEXT] * 3, caption)
    figure = figures[-1]
    heads = [text for text in figure.texts if text.get_text() in ("dtd   Σ 3 of 4", "lrp-0   Σ 2", "lrp-z   Σ 1")]
    heights = [text.get_position()[1] for text in heads]
    assert len(heads) == 3
    assert heights == sorted(heights, reverse=True)
    assert len(figure.axes) == 3
    draw_text(tmp_path / "a.png", [words("free\n" * 100)] * 3, caption)
    assert 3 * 20 <= sum(text.get_text() == "free" for text in figures[-1].texts) < 3 * 22
