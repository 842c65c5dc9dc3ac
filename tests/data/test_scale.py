"""The scale of relevance: colours that everybody can tell apart, and numbers that say what they mean."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from onnxdtd.data.scale import COLOURS, MANY_PIXELS, Scale, nothing, percent, shared

# What eyes without one kind of cones see of linear red, green and blue (Machado et al. 2009, severity 1).
EYES = {
    "all cones": np.eye(3),
    "no long waves": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no middle waves": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no short waves": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])


def lab(colours: np.ndarray, eyes: str) -> np.ndarray:
    """Lightness and both oppositions of sRGB colours [n, 3], as CIELAB has them."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    x, y, z = (np.clip(linear @ np.asarray(EYES[eyes]).T, 0, 1) @ TO_XYZ.T / [0.95047, 1, 1.08883]).T
    f = lambda t: np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.stack([116 * f(y) - 16, 500 * (f(x) - f(y)), 200 * (f(y) - f(z))], axis=-1)


@pytest.mark.parametrize("eyes", EYES)
def test_colours_tell_signs_apart_and_do_not_favour_one(eyes: str) -> None:
    """The darker the more; both signs are equally dark to all, and apart from each other: seismic is lighter by 20 for the
    class than against it, and of RdBu_r both ends are black to those who see no long waves.
    """
    shares = np.linspace(0, 1, 65)
    pro, contra = (lab(COLOURS(0.5 + sign * shares / 2)[:, :3], eyes) for sign in (1, -1))
    for side in (pro, contra):
        assert (np.diff(side[:, 0]) < 0.3).all(), "never lighter again"
        assert side[-1, 0] < 40
    assert np.abs(pro[:, 0] - contra[:, 0]).max() < 12
    apart = np.linalg.norm(pro - contra, axis=1)
    assert apart[[8, 16, 32, 48, 64]].min() > 20
    assert apart[32:].min() > 50


def test_zero_is_white() -> None:
    np.testing.assert_array_equal(COLOURS(0.5), 1)


def bar(scale: Scale) -> list[str]:
    found = scale.bar(Figure(), cax=Figure().add_axes((0, 0, 1, 1)))
    return [] if found is None else [tick.get_text() for tick in found.ax.get_yticklabels()]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([3.0, 1.0], ["0 %", "38 %", "75 %"]),
        ([-3.0, -1.0], ["-75 %", "-38 %", "0 %"]),
        ([3.0, -1.0], ["-75 %", "0 %", "75 %"]),
        ([0.0, 0.0], []),
        ([1e-310, 1e-310], ["0 %", "25 %", "50 %"]),
        ([1e300, 1e300], ["0 %", "25 %", "50 %"]),
    ],
)
def test_the_bar_is_in_per_cent_and_has_the_signs_that_there_are(values: list[float], words: list[str]) -> None:
    assert bar(Scale.of(np.array(values))) == words


def test_words_beside_the_bar_do_not_touch_its_numbers() -> None:
    figure = Figure(layout="constrained")
    found = Scale.of(np.array([3.0, 1.0])).bar(figure, "relevance,", ax=figure.subplots())
    assert found is not None
    figure.draw_without_rendering()
    ends = [label.get_window_extent().x1 for label in found.ax.get_yticklabels()]
    assert found.ax.yaxis.label.get_window_extent().x0 - max(ends) > 4


def test_what_is_said_of_no_relevance_can_be_read_on_a_dark_picture() -> None:
    figure = Figure(figsize=(2, 2), dpi=50)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(np.zeros((4, 4)), cmap="gray", vmin=0, vmax=1)
    nothing(axes)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (words,) = axes.texts
    left, below, right, above = (int(end) for end in words.get_window_extent().extents)
    around = np.asarray(canvas.buffer_rgba())[100 - above : 100 - below, left:right, :3]
    assert np.median(around) > 180


def test_half_a_bar_has_the_colours_of_the_heatmap() -> None:
    """Red where nothing is negative, and as dark at its end as the largest pixel."""
    for sign in (1, -1):
        found = Scale.of(sign * np.array([1.0, 2.0])).bar(Figure(), cax=Figure().add_axes((0, 0, 1, 1)))
        assert found is not None
        ends = found.mappable.to_rgba(np.array(found.mappable.get_clim()))
        np.testing.assert_allclose(ends[::sign], [COLOURS(0.5), COLOURS(0.5 + sign / 2)], atol=1e-3)


def test_the_bar_says_where_values_are_beyond_its_ends() -> None:
    values = np.ones(MANY_PIXELS + 1)
    assert not Scale.of(values).cut
    values[0] = -1000
    cut = Scale.of(values)
    found = cut.bar(Figure(), cax=Figure().add_axes((0, 0, 1, 1)))
    assert cut.cut
    assert found is not None
    assert found.extend == "both"


def test_a_shared_scale_has_one_end_for_all() -> None:
    """As a share of each: the heatmap of which 50 % lie on a pixel sets the end, and zeros do not matter."""
    one, other, zero = (Scale.of(np.array(values)) for values in ([1.0, 1.0], [-30.0, 30.0, 30.0, 30.0], [0.0]))
    first, second, none = shared([one, other, zero])
    assert (first.limit, second.limit, none.limit) == (1, 60, zero.limit)
    assert bar(first) == bar(second) == ["-50 %", "0 %", "50 %"]
    assert bar(none) == []


@pytest.mark.parametrize(
    ("share", "words"), [(100, "100 %"), (99.6, "100 %"), (7.25, "7.2 %"), (0.012345, "0.012 %"), (3e-7, "3e-07 %"), (0, "0 %")]
)
def test_per_cent_in_two_digits(share: float, words: str) -> None:
    assert percent(share) == words
