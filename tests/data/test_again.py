"""Figures that are used again: a picture is the same whatever was drawn before it, and as if it had a figure of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxdtd.data import images
from onnxdtd.data.again import MOST, Templates
from onnxdtd.data.forms import Form
from onnxdtd.data.look import USUAL, Caption, Look

RNG = np.random.default_rng(0)
SHAPES = [(1, 8, 8), (3, 40, 40), (3, 20, 60)]


def drawn(path: Path, shape: tuple[int, ...], number: int, look: Look = USUAL, sign: int = 0, caption: str = "s") -> bytes:
    """A picture of the sample with a ``number``."""
    rng = np.random.default_rng([number, *shape])
    relevance = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3)
    words = Caption(f"{caption}{number}: class {number}", f"dtd   Σ relevance = {relevance.sum():.4g}")
    form = Form("x", list(shape))
    images.draw(path, rng.random(shape), np.abs(relevance) * sign if sign else relevance, words, form, look=look)
    return path.read_bytes()


@pytest.mark.parametrize(("style", "shape"), [*zip(["beside", "overlay", "map"], SHAPES, strict=True)], ids=str)
def test_a_picture_does_not_depend_on_those_before_it(
    shape: tuple[int, ...], style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, path = Look(style=style), tmp_path / "x.png"
    monkeypatch.setattr(images, "TEMPLATES", Templates())
    drawn(path, shape, 1, look)
    drawn(path, shape, 2, look, sign=1, caption="a much longer name that has more letters than the others: ")
    after = drawn(path, shape, 3, look)
    monkeypatch.setattr(images, "TEMPLATES", Templates())
    assert drawn(path, shape, 3, look) == after


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_a_template_shows_what_a_figure_of_its_own_shows(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for how pixels are averaged, and the last pixel of a frame."""
    path = tmp_path / "x.png"
    for sign in (0, -1):
        drawn(path, shape, 1, sign=sign)  # another one first
        drawn(path, shape, 2, sign=sign)
        again = np.asarray(Image.open(path).convert("RGB"), np.float64)
        with monkeypatch.context() as patched:
            patched.setitem(images.KINDS, "image", replace(images.KINDS["image"], stays=None))
            drawn(path, shape, 2, sign=sign)
        alone = np.asarray(Image.open(path).convert("RGB"), np.float64)
        assert again.shape == alone.shape
        apart = np.abs(again - alone).max(axis=-1)
        assert (apart > 24).mean() < 0.08, "up to the edges of pixels"


def test_numbers_of_a_colour_bar_are_those_of_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a heatmap that is concentrated the bar goes further."""
    templates = Templates()
    monkeypatch.setattr(images, "TEMPLATES", templates)
    form, told = Form("x", [1, 8, 8]), []
    for value in (1.0, 63.0):
        relevance = np.ones((1, 8, 8))
        relevance[0, 0, 0] = value
        images.draw(tmp_path / "x.png", np.zeros((1, 8, 8)), relevance, Caption("t", "b"), form)
        (template,) = templates._known.values()
        (bar,) = (child for axes in template._figure.axes for child in axes.child_axes)
        told.append([tick.label1.get_text() for tick in bar.xaxis.majorTicks])
    assert told == [["0 %", "0.78 %", "1.6 %"], ["0 %", "25 %", "50 %"]]


def test_only_the_last_templates_are_kept() -> None:
    templates, made = Templates(), list[int]()
    for key in (*range(MOST), 0, MOST, 0, 1):
        templates.of(key, lambda key=key: made.append(key) or object())
    assert made == [*range(MOST), MOST, 1], "1 was used least lately"


def test_a_heatmap_of_zeros_says_so_whatever_was_drawn_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form, x = Form("x", [1, 8, 8]), np.zeros((1, 8, 8))
    pictures = []
    for before in (True, False):
        monkeypatch.setattr(images, "TEMPLATES", Templates())
        if before:
            drawn(tmp_path / "x.png", (1, 8, 8), 1)
        images.draw(tmp_path / "x.png", x, x, Caption("t", "b"), form)
        pictures.append((tmp_path / "x.png").read_bytes())
    assert pictures[0] == pictures[1]


def test_the_words_above_several_heatmaps_are_those_of_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form, path, pictures = Form("x", [1, 8, 8]), tmp_path / "x.png", []
    rng = np.random.default_rng(7)
    x, first, second = rng.random((3, 1, 8, 8))
    for before in (("dtd\nΣ 1", "lrp\nΣ 22"), None):
        monkeypatch.setattr(images, "TEMPLATES", Templates())
        for heading, concept in filter(None, (before, ("dtd\nΣ 3", "lrp\nΣ 4"))):
            images.draw(path, x, first, Caption("t", "b", heading=heading, concepts=(concept,)), form, [second])
        pictures.append(path.read_bytes())
        assert len(images.TEMPLATES._known) == 1
    assert pictures[0] == pictures[1]
