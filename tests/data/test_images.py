"""Pictures of explanations: the right kind, honest colours, and every word within the frame."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.text import Text
from nets import form
from pairs import in_turn
from PIL import Image
from sketches import heights

from onnxdtd.data import again, images
from onnxdtd.data.arrangement import arrangement
from onnxdtd.data.forms import Form, colour_axis
from onnxdtd.data.images import draw
from onnxdtd.data.look import Caption, Look
from onnxdtd.data.maps import overlaid
from onnxdtd.data.scale import COLOURS, MANY_PIXELS, NOTHING, colour_limit, heat, stretches
from onnxdtd.data.smooth import smoothed
from onnxdtd.errors import RequestError

CAPTION = Caption("cat_001: class 3 (0.912)", "dtd   Σ relevance = 12.3   logit = 12.4")
SOME = [(3, 32, 32), (8, 16), (28, 1), (1,), (3, 3, 3, 3), (12, 500), (70, 900), (1, 40, 8, 8), (9000, 2)]


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


class Studio:
    """Draws, and keeps the figures."""

    def __init__(self, folder: Path):
        self.path = folder / "picture.png"
        self.figures: list[Figure] = []

    def draw(
        self,
        x: np.ndarray,
        relevance: np.ndarray,
        caption: Caption = CAPTION,
        like: Form | None = None,
        more: Sequence[np.ndarray] = (),
        **look: Any,
    ) -> Figure:
        draw(self.path, x, relevance, caption, like or form(x.shape), more, Look(**look))
        return self.figures[-1]

    def pixels(self) -> np.ndarray:
        with Image.open(self.path) as picture:
            assert picture.format == "PNG"
            return np.asarray(picture.convert("RGB"))


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    made = Studio(tmp_path)

    class Kept(Figure):
        def __init__(self, *args: object, **options: object):
            super().__init__(*args, **options)
            made.figures.append(self)

    monkeypatch.setattr(again, "Figure", Kept)
    monkeypatch.setattr(images, "TEMPLATES", again.Templates())
    return made


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are laid out but not painted, for tests that look at what is in them: that takes half of the time."""

    class Laid(FigureCanvasAgg):
        def draw(self) -> None:
            self.figure.draw_without_rendering()

    monkeypatch.setitem(images.KINDS, "image", replace(images.KINDS["image"], stays=None))
    monkeypatch.setattr(again, "FigureCanvasAgg", Laid)
    monkeypatch.setattr(images, "png", lambda canvas: b"")


@pytest.mark.parametrize("shape", SOME, ids=str)
def test_every_shape_can_be_drawn(shape: tuple[int, ...], studio: Studio) -> None:
    """In the size of the figure, at 110 dots an inch, and with something in it."""
    figure = studio.draw(random(shape), random(shape, 1))
    pixels = studio.pixels()
    width, height = figure.get_size_inches() * 110
    assert pixels.shape == (round(height), round(width), 3)
    assert 300 < min(width, height) < max(width, height) < 1200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    assert not np.array_equal(pixels[0, 0], (0, 0, 0)), "the background is not black"


@pytest.mark.usefixtures("unrendered")
def test_the_frame_suits_the_kind(studio: Studio) -> None:
    for shape, axes in (((3, 32, 32), 3), ((1, 100), 2), ((4,), 1), ((3, 100), 5), ((3, 8, 16, 16), 18)):
        assert len(studio.draw(random(shape), random(shape, 1)).axes) == axes


@pytest.mark.parametrize("shape", [(3, 32, 32), (4,), (3, 128)], ids=str)
def test_nothing_at_all_can_be_drawn(shape: tuple[int, ...], studio: Studio) -> None:
    studio.draw(np.zeros(shape), np.zeros(shape))
    studio.draw(np.full(shape, 7.0), np.full(shape, 1e-40), like=form(shape, 0, 1))


@pytest.mark.parametrize(("shape", "size"), [((1, 8, 8), 1e300), ((4,), 1e-310), ((1, 90), 1e300), ((3, 128), 1e-310)], ids=str)
def test_very_small_and_very_large_relevance(shape: tuple[int, ...], size: float, studio: Studio) -> None:
    studio.draw(random(shape), size * random(shape, 1))


# ---------------------------------------------------------------------------------------------------------------- colours


def test_heat_adds_up_the_channels() -> None:
    relevance = random((3, 5, 6))
    np.testing.assert_allclose(heat(relevance, 0), relevance.sum(0))
    np.testing.assert_allclose(heat(np.moveaxis(relevance, 0, -1), 2), relevance.sum(0))
    np.testing.assert_array_equal(heat(relevance[0], None), relevance[0])


def test_colour_limit() -> None:
    assert colour_limit(np.array([-3.0, 1.0])) == 3
    assert colour_limit(np.zeros(5)) == 1, "any limit will do, but not 0"
    small = np.ones(MANY_PIXELS)
    small[0] = 1000
    assert colour_limit(small) == 1000
    large = np.ones(MANY_PIXELS + 1)
    large[0] = -1000
    assert colour_limit(large) == 1, "a few very large ones do not wash out the others"
    sparse = np.zeros(MANY_PIXELS + 1)
    sparse[:2] = 5
    assert colour_limit(sparse) == 5


@pytest.mark.parametrize("shape", [(3, 32, 32), (8, 16), (100, 100, 1)], ids=str)
def test_the_colour_scale_is_symmetric_and_zero_is_neutral(shape: tuple[int, ...], studio: Studio) -> None:
    relevance = np.abs(random(shape, 1)) + 1
    relevance.flat[0] = -0.25
    figure = studio.draw(random(shape), relevance)
    (shown,) = figure.axes[1].images
    assert shown.norm.vmin == -shown.norm.vmax
    assert shown.norm.vmax == pytest.approx(colour_limit(heat(relevance, colour_axis(shape))))
    np.testing.assert_array_equal(shown.get_array(), heat(relevance, colour_axis(shape)))
    assert shown.cmap.name == COLOURS.name
    assert (shown.to_rgba(np.zeros(1))[0, :3] > 0.98).all(), "zero is white"
    for values, axes in ((1, 0), (-1, 2)):  # red for, blue against
        colour = shown.to_rgba(np.array([values * shown.norm.vmax / 2]))[0, :3]
        assert colour.argmax() == axes


def test_pixels_of_the_heatmap(studio: Studio) -> None:
    """Left half for, right half against, a stripe of nothing between them."""
    relevance = np.zeros((9, 9))
    relevance[:, :3], relevance[:, 6:] = 1, -1
    figure = studio.draw(np.zeros((9, 9)), relevance)
    box = figure.axes[1].get_window_extent()
    scale = 110 / figure.dpi
    rows = studio.pixels()[::-1]
    across = rows[int(box.y0 * scale + box.height * scale / 2), int(box.x0 * scale) : int(box.x1 * scale)]
    third = len(across) // 3
    red, white, blue = across[third // 2], across[third + third // 2], across[2 * third + third // 2]
    assert red[0] > 100 > red[2]
    assert white.min() > 250
    assert blue[2] > 70 > blue[0]


@pytest.mark.parametrize("shape", [(1, 100), (4,), (14,)], ids=str)
@pytest.mark.usefixtures("unrendered")
def test_bars_have_the_colours_of_their_sign_and_symmetric_axes(shape: tuple[int, ...], studio: Studio) -> None:
    relevance = random(shape, 1)
    axes = studio.draw(random(shape), relevance).axes[-1]
    signal = arrangement(shape).kind == "traces"
    assert sum(axes.get_ylim() if signal else axes.get_xlim()) == 0
    sizes = heights(axes) if signal else np.array([bar.get_width() for bar in axes.patches])
    order = slice(None) if signal else np.argsort(-np.abs(relevance.ravel()), kind="stable")
    np.testing.assert_allclose(sizes, relevance.ravel()[order])
    faces = axes.collections[0].get_facecolors() if signal else [bar.get_facecolor() for bar in axes.patches]
    for (red, _, blue, _), size in zip(faces, sizes, strict=True):
        assert abs(size) < 0.02 * np.abs(relevance).max() or (red > blue if size > 0 else red < blue)
    limit = max(axes.get_ylim() if signal else axes.get_xlim())
    assert np.abs(sizes).max() <= limit


def test_features_with_equal_numbers_keep_bars_of_their_own(studio: Studio) -> None:
    axes = studio.draw(np.zeros(6), np.ones(6)).axes[0]
    assert len({round(bar.get_y(), 3) for bar in axes.patches}) == 6


def test_the_colour_of_a_small_share_is_pale(studio: Studio) -> None:
    axes = studio.draw(np.zeros(3), np.array([1.0, 0.01, -0.01])).axes[0]
    large, small, against = (bar.get_facecolor() for bar in axes.patches)
    assert min(small[:3]) > 0.9
    assert min(against[:3]) > 0.9
    assert min(large[:3]) < 0.1


def test_heatmaps_of_concepts_beside_that_of_a_picture(studio: Studio) -> None:
    maps = [random((3, 8, 16), seed) for seed in range(3)]
    caption = Caption("cat", "dtd", concepts=("channel 7: 60.0%", "channel 1: -12.5%"))
    draw(studio.path, random((3, 8, 16)), maps[0], caption, form((3, 8, 16)), maps[1:])
    first, *others = studio.figures[-1].axes
    assert [axes.get_title() for axes in others] == ["relevance", *caption.concepts]
    assert len({round(axes.get_position().y0, 6) for axes in (first, *others)}) == 1, "in a row"
    for axes, values in zip(others, maps, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), values.sum(axis=0))
        assert axes.images[0].get_clim()[1] == colour_limit(values.sum(axis=0)), "a scale of its own"


@pytest.mark.usefixtures("unrendered")
def test_heatmaps_of_concepts_below_that_of_a_signal(studio: Studio) -> None:
    maps = [random((1, 30), seed) for seed in range(3)]
    draw(studio.path, random((1, 30)), maps[0], Caption("a", "b", concepts=("c", "d")), form((1, 30)), maps[1:])
    figure = studio.figures[-1]
    assert [part.get_suptitle() for part in figure.subfigs] == ["relevance", "c", "d"]
    assert [len(part.axes) for part in figure.subfigs] == [2] * 3
    for part, values in zip(figure.subfigs, maps, strict=True):
        np.testing.assert_allclose(sorted(heights(part.axes[-1])), np.sort(values.ravel()))


@pytest.mark.parametrize("scale", ["own", "shared"])
@pytest.mark.usefixtures("unrendered")
def test_bars_of_several_heatmaps_side_by_side(scale: str, studio: Studio) -> None:
    """The same features in the same order, each on an axis of its own, or one as shares of Σ |relevance|."""
    maps = [np.array([1.0, 0, -2, 0]), np.array([0, 0, -30.0, 10])]
    figure = studio.draw(np.arange(4.0), maps[0], Caption("a", "b", concepts=("d",), heading="c"), None, maps[1:], scale=scale)
    assert [axes.get_title() for axes in figure.axes] == ["c", "d"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [-2, 1, 0]
    assert [bar.get_width() for bar in figure.axes[1].patches] == [-30, 0, 10]
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names == ["feature 2 = 2", "feature 0 = 0", "feature 3 = 3"]
    ends = [axes.get_xlim()[1] / 1.05 for axes in figure.axes]
    np.testing.assert_allclose(ends, [2, 30] if scale == "own" else [0.75 * 3, 30])
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1], "the largest above"


# ---------------------------------------------------------------------------------------------------------------- the look


@pytest.mark.parametrize(
    ("style", "shape", "titles"),
    [
        ("beside", (3, 32, 32), ["input", "relevance", "relevance on the input"]),
        ("beside", (3, 31, 40), ["input", "relevance"]),
        ("overlay", (3, 32, 32), ["relevance"]),
        ("map", (3, 8, 8), ["relevance"]),
    ],
)
@pytest.mark.usefixtures("unrendered")
def test_what_is_shown_of_a_picture(style: str, shape: tuple[int, ...], titles: list[str], studio: Studio) -> None:
    """What is in a small picture is not seen any better under its relevance. There is one bar."""
    figure = studio.draw(random(shape), random(shape, 1), style=style)
    assert [axes.get_title() for axes in figure.axes] == titles
    assert sum(len(axes.child_axes) for axes in figure.axes) == 1
    assert_within(figure)


def test_relevance_on_a_picture_in_grey() -> None:
    """The more there is the less the picture is seen: not at all at the ends of the scale, and as it is where there is none."""
    x = np.zeros((1, 4, 3))
    x[0, :2] = 1, 0.5, 0
    found = overlaid(x, np.array([[0.0, 1.0, -1.0, 0.5]]))
    assert np.ptp(found[0, 0]) < 1e-9, "grey"
    assert 0.2 < found[0, 0, 0] < 0.95
    np.testing.assert_array_equal(found[0, 1:3], COLOURS(np.array([1.0, 0.0]))[:, :3])
    assert found[0, 3].argmax() == 0
    assert (found >= 0).all()
    assert (found <= 1).all()


LATTICE = {None: "b   smoothed by 1 pixel", 0.0: "b", 3.0: "b   smoothed by 3 pixels"}


@pytest.mark.parametrize("asked", LATTICE)
@pytest.mark.usefixtures("unrendered")
def test_a_lattice_is_smoothed_for_the_eye_and_said_to_be(asked: float | None, studio: Studio) -> None:
    relevance = np.zeros((1, 40, 40))
    relevance[0, ::2, 1::2] = random((20, 20)) + 3
    figure = studio.draw(random((1, 40, 40)), relevance, Caption("a", "b"), smooth=asked)
    axes = figure.axes[1]
    assert axes.get_title() == "relevance"
    assert figure.get_supxlabel() == LATTICE[asked]
    np.testing.assert_array_equal(axes.images[0].get_array(), smoothed(relevance[0], 1.0 if asked is None else asked))


@pytest.mark.parametrize(("scale", "bars"), [("own", 3), ("shared", 0)])
@pytest.mark.usefixtures("unrendered")
def test_one_scale_for_all_or_for_each(scale: str, bars: int, studio: Studio) -> None:
    """A scale for all has one end, as a share of Σ |relevance| of each, and one bar."""
    maps = [np.full((3, 8, 8), float(i)) for i in (1, 2, 3)]
    maps[0][:, 0] = 0
    figure = studio.draw(random((3, 8, 8)), maps[0], Caption("a", "b", concepts=("c", "d")), None, maps[1:], scale=scale)
    ends = [axes.images[0].get_clim()[1] for axes in figure.axes[1:4]]
    np.testing.assert_allclose(ends, (3, 6, 9) if scale == "own" else (3, 6 * 64 / 56, 9 * 64 / 56))
    assert sum(len(axes.child_axes) for axes in figure.axes) == bars
    assert len(figure.axes) == 4 + (scale == "shared")


@pytest.mark.parametrize("shape", [(3, 40, 40), (1, 90), (12, 100), (4,), (3, 5, 8, 8)], ids=str)
@pytest.mark.usefixtures("unrendered")
def test_a_heatmap_of_zeros_says_so(shape: tuple[int, ...], studio: Studio) -> None:
    said = lambda relevance: NOTHING in [text.get_text() for text in texts(studio.draw(random(shape), relevance))]
    assert said(np.zeros(shape))
    assert not said(random(shape, 1))


@pytest.mark.parametrize(
    ("shape", "count"),
    in_turn([(3, 5, 60), (3, 60, 4), (1, 8, 8), (3, 200, 30), (3, 40, 120), (1, 300, 300), (3, 160, 40)], [1, 4, 11], 1),
    ids=str,
)
@pytest.mark.usefixtures("unrendered")
def test_no_words_of_a_picture_overlap(shape: tuple[int, ...], count: int, studio: Studio) -> None:
    """However many heatmaps there are, whatever they are called, and however wide a picture is."""
    names = tuple(f"lrp-alpha2beta1, class {i}: a rather long label, or two of them" for i in range(count))
    maps = [random(shape, seed) for seed in range(count)]
    figure = studio.draw(random(shape), maps[0], Caption("a", "b", concepts=names[1:]), form(shape, channel=0), maps[1:])
    assert_within(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in texts(figure)]
    for i, box in enumerate(boxes):
        for other in boxes[:i]:
            assert not (box.x0 < other.x1 and other.x0 < box.x1 and box.y0 < other.y1 and other.y0 < box.y1)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_title_is_near_what_it_names(count: int, studio: Studio) -> None:
    """Less than 0.4 inches of nothing lie between it and the words above the pictures; it was more than half an inch."""
    maps = [random((3, 64, 64), seed) for seed in range(count)]
    figure = studio.draw(maps[0], maps[0], Caption("a", "b", concepts=("c",) * (count - 1)), None, maps[1:])
    FigureCanvasAgg(figure).draw()
    title, *others = [figure.texts[0], *(axes.title for axes in figure.axes)]
    assert title.get_text() == "a"
    ends = [text.get_window_extent() for text in (title, *others)]
    assert 0 < ends[0].y0 - max(end.y1 for end in ends[1:]) < 0.4 * figure.dpi


@pytest.mark.parametrize(
    "wrong", [{"style": "below"}, {"scale": "mine"}, {"smooth": -1}, {"smooth": float("inf")}, {"smooth": float("nan")}]
)
def test_a_look_that_there_is_not(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(RequestError, match=f"^--{name} {value}: give "):
        Look(**wrong)


# ------------------------------------------------------------------------------------------------------------- stretches


@pytest.mark.parametrize(("size", "most"), [(10, 20), (10, 10), (11, 10), (5000, 400), (1, 3), (16, 16), (17, 16)])
def test_stretches_leave_nothing_out(size: int, most: int) -> None:
    values = random((2, size, 3))
    found = stretches(values, most, axis=1)
    assert found.shape[1] <= most
    np.testing.assert_allclose(found.sum(axis=1), values.sum(axis=1))
    if size <= most:
        np.testing.assert_array_equal(found, values)


def test_rows_and_columns_of_a_matrix_have_numbers(studio: Studio) -> None:
    figure = studio.draw(random((2, 5)), random((2, 5), 1))
    studio.pixels()
    for axes in figure.axes[:2]:
        assert [tick.get_text() for tick in axes.get_xticklabels()][-2:] != ["", ""]
        assert axes.get_ylim() == (1.5, -0.5)


# ------------------------------------------------------------------------------------------------------------- the picture


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 3)], ids=str)
@pytest.mark.usefixtures("unrendered")
def test_the_input_is_shown_as_the_picture_it_was(shape: tuple[int, ...], studio: Studio) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (8, 8, 3), np.uint8)
    for like in (form(shape, [-1, -2, -3], [1, 2, 4]), form(shape, -1, 1, colours="bgr")):
        x = like.numbers(np.moveaxis(pixels, -1, 0) if shape[0] == 3 else pixels)
        shown = studio.draw(x, random(shape), like=like).axes[0].images[0].get_array()
        np.testing.assert_allclose(shown, pixels / 255, atol=1e-6)


def test_gray_pictures_are_gray(studio: Studio) -> None:
    x = np.linspace(0, 1, 64).reshape(1, 8, 8)
    (shown,) = studio.draw(x, random((1, 8, 8)), like=form((1, 8, 8), 0, 1)).axes[0].images
    np.testing.assert_allclose(shown.get_array(), x[0])
    assert shown.cmap.name == "gray"
    assert (shown.norm.vmin, shown.norm.vmax) == (0, 1)


def test_without_bounds_the_input_is_stretched_to_its_own_range(studio: Studio) -> None:
    x = 40 * random((3, 8, 8)) - 7
    shown = studio.draw(x, random((3, 8, 8), 1)).axes[0].images[0].get_array()
    assert shown.min() == 0
    assert shown.max() == 1


@pytest.mark.usefixtures("unrendered")
def test_bands_are_shown_within_bounds_of_their_own(studio: Studio) -> None:
    """Six bands, of which each has bounds, one picture for each."""
    low = np.arange(6.0)
    x = np.linspace(0, 1, 64).reshape(8, 8) * (low + 1)[:, None, None] + low[:, None, None]
    figure = studio.draw(x, random((6, 8, 8)), like=form((6, 8, 8), low, 2 * low + 1, channel=0))
    bands = [axes.images[0].get_array() for axes in figure.axes if axes.images and axes.images[0].cmap.name == "gray"]
    assert len(bands) == 6
    for band in bands:
        np.testing.assert_allclose(band, np.linspace(0, 1, 64).reshape(8, 8), atol=1e-12)


def test_four_channels_are_shown_without_the_last(studio: Studio) -> None:
    assert studio.draw(random((4, 9, 9)), random((4, 9, 9), 1)).axes[0].images[0].get_array().shape == (9, 9, 3)


# ------------------------------------------------------------------------------------------------------------------ words


def texts(figure: Figure) -> Iterator[Text]:
    """Everything written that is to be seen."""
    for artist in figure.findobj(Text):
        if artist.get_visible() and artist.get_text().strip():
            yield artist


def assert_within(figure: Figure) -> None:
    """Nothing reaches beyond the frame."""
    box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
    width, height = figure.get_size_inches()
    assert box.x0 > -0.01
    assert box.y0 > -0.01
    assert box.x1 < width + 0.01
    assert box.y1 < height + 0.01


WORDS = {
    "short": "cat",
    "sentence": "Egyptian cat, a domestic cat of Egypt with a spotted coat and a very long name in this list of labels",
    "one word": "Pneumonoultramicroscopicsilicovolcanoconiosis" * 4,
    "capitals": "WWWWWWWWWW " * 5 + "W" * 100,
    "lines": "first line\nsecond line\n" * 6,
}


@pytest.mark.parametrize(("words", "shape"), in_turn(WORDS, [(3, 32, 32), (1, 100), (2, 7), (12, 100)], 1), ids=str)
@pytest.mark.usefixtures("unrendered")
def test_words_stay_within_the_frame(shape: tuple[int, ...], words: str, studio: Studio) -> None:
    caption = Caption(f"photo_001: {WORDS[words]} (0.912), explained: {WORDS[words]}", f"{WORDS[words]}   Σ relevance = 12.3")
    figure = studio.draw(1e6 * random(shape), 1e-6 * random(shape, 1), caption)
    assert_within(figure)


@pytest.mark.parametrize("shape", [(3, 32, 32), (8, 16), (1, 100)], ids=str)
@pytest.mark.usefixtures("unrendered")
def test_a_long_title_leaves_room_for_the_picture(shape: tuple[int, ...], studio: Studio) -> None:
    def area(title: str) -> float:
        box = studio.draw(random(shape), random(shape, 1), Caption(title, title)).axes[0].get_window_extent()
        return box.width * box.height

    assert area("W" * 1000) > area("short") / 3


@pytest.mark.parametrize("words", ["$x$", "$\\frac$", "a_b^{c \\alpha"])
@pytest.mark.usefixtures("unrendered")
def test_words_are_no_formulas(words: str, studio: Studio) -> None:
    figure = studio.draw(random((4,)), random((4,), 1), Caption(words, words))
    for text in texts(figure):
        assert not (text.get_parse_math() and is_math_text(text.get_text())), text


def test_words_in_any_script(studio: Studio) -> None:
    """Where the font has no such letters there is a box instead, but no warning."""
    studio.draw(random((4,)), random((4,), 1), Caption("猫 кот قط 🐈", "猫"))


def test_words_are_those_of_the_caption(studio: Studio) -> None:
    found = [text.get_text() for text in texts(studio.draw(random((3, 8, 8)), random((3, 8, 8), 1)))]
    assert CAPTION.title in found
    assert " ".join(CAPTION.subtitle.split()) in [" ".join(text.split()) for text in found]
    assert "input" in found
    assert "relevance" in found


def test_the_backend_of_the_user_is_left_alone() -> None:
    """Importing and drawing, pictures as well as charts, neither choose a backend nor load pyplot, which keeps its figures."""
    script = """
import pathlib, sys, tempfile
import matplotlib
matplotlib.use("svg")
before = dict(matplotlib.rcParams)
import numpy as np
from onnxdtd.data.forms import Form
from onnxdtd.data.images import draw
from onnxdtd.data.look import Caption
from onnxdtd.data.thumbnails import thumbnail
from onnxdtd.report.charts import chart
for shape in ((4,), (1, 50), (8, 8)):
    x = np.arange(np.prod(shape), dtype=float).reshape(shape)
    with tempfile.TemporaryDirectory() as folder:
        draw(pathlib.Path(folder) / "x.png", x, x, Caption("a", "b"), Form("x", shape))
    thumbnail(x, x, Form("x", shape))
chart("a", [(1, (0, 1), (2, 3))], "x", "y")
assert dict(matplotlib.rcParams) == before
print(matplotlib.get_backend(), "matplotlib.pyplot" in sys.modules)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("svg False\n", "")


@pytest.mark.parametrize(("rows", "words"), [(256, ["H", "i", "·", "↵", ""]), (30522, ["72", "105", "32", "10", "0"])])
@pytest.mark.usefixtures("unrendered")
def test_ids_are_written_on_the_colour_of_their_relevance(rows: int, words: list[str], studio: Studio) -> None:
    ids, relevance = np.array([72.0, 105, 32, 10, 0]), np.array([1.0, 0.25, -1, 0, 0])
    (axes, *_) = studio.draw(ids, relevance, like=Form("ids", ["l"], ids=rows)).axes
    assert [text.get_text() for text in axes.texts] == words
    assert [text.get_color() for text in axes.texts[:3]] == ["white", "0.25", "white"]
    (shown,) = axes.images
    np.testing.assert_array_equal(np.asarray(shown.get_array())[0], relevance)
    assert shown.get_clim() == (-1, 1)


def test_many_ids_are_rows_of_colours_alone(studio: Studio) -> None:
    (axes, *_) = studio.draw(np.zeros(5001), np.ones(5001), like=Form("ids", ["l"], ids=9)).axes
    assert not axes.texts
    assert np.isnan(np.asarray(axes.images[0].get_array(), float)).sum() == -5001 % 16
