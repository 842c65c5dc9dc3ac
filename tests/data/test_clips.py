"""Clips and volumes as they are drawn: frames with their times, slices through what is most relevant."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sketches import heights

from onnxdtd.data.arrangement import arranged
from onnxdtd.data.clips import FRAMES, SLICES
from onnxdtd.data.forms import Form
from onnxdtd.data.images import KINDS
from onnxdtd.data.look import Look, Scene
from onnxdtd.data.scale import COLOURS


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape)


def drawn(kind: str, x: np.ndarray, relevance: np.ndarray, **look: object) -> list[Axes]:
    figure, scene = Figure(), Scene(x, {"relevance": relevance}, look=Look(**look))
    figure.set_size_inches(KINDS[kind].size(scene))
    KINDS[kind].draw(figure, scene)
    return figure.axes


def heatmaps(axes: list[Axes]) -> list[np.ndarray]:
    return [np.asarray(one.images[0].get_array()) for one in axes if one.images and one.images[0].cmap.name == COLOURS.name]


def pictures(axes: list[Axes]) -> list[Axes]:
    return [one for one in axes if one.images and one.images[0].cmap.name != COLOURS.name]


@pytest.mark.parametrize(
    ("shape", "channel", "slid"),
    [
        ((3, 16, 6, 8), 0, [1, 2, 3]),
        ((40, 6, 8, 3), 3, [0, 1, 2]),
        ((5, 3, 6, 8), 1, [2, 3]),
        ((6, 5, 8), 0, [1, 2]),
    ],
    ids=str,
)
def test_a_heatmap_a_frame(shape: tuple[int, ...], channel: int, slid: list[int]) -> None:
    form = Form.of("x", ["n", *shape], 0, channel + 1, slid=[axis + 1 for axis in slid])
    laid_out, relevance = arranged(shape, form), random(*shape, seed=1) - 0.5
    assert laid_out.kind == "frames"
    x = laid_out.of(random(*shape))
    axes = drawn("frames", x, laid_out.of(relevance))
    found, count = heatmaps(axes), laid_out.of(relevance).shape[0]
    width = -(-count // FRAMES)
    assert len(found) == len(pictures(axes)) == -(-count // width)
    np.testing.assert_allclose(np.sum(found), relevance.sum())
    shown = np.asarray(pictures(axes)[1].images[0].get_array())
    at = width + (width - 1) // 2
    np.testing.assert_array_equal(shown.reshape(*shown.shape[:2], -1), x[at])
    np.testing.assert_allclose(found[0], laid_out.of(relevance)[:width].sum(axis=(0, -1)))
    np.testing.assert_allclose(heights(axes[-1]), laid_out.of(relevance).sum(axis=(1, 2, 3)))


def test_frames_have_their_times() -> None:
    x = random(20, 6, 8, 3)
    for rate, titles, label in ((None, ["0–1", "2–3"], "frame"), (10, ["0–0.1 s", "0.2–0.3 s"], "time (s)")):
        axes = drawn("frames", x, x, rate=rate, style="overlay")
        assert [one.get_title() for one in pictures(axes)][:2] == titles
        assert axes[-1].get_xlabel() == label


@pytest.mark.parametrize(("style", "input_", "maps"), [("beside", 5, 5), ("overlay", 5, 0), ("map", 0, 5)])
def test_frames_in_every_style(style: str, input_: int, maps: int) -> None:
    x = random(5, 6, 8, 3)
    axes = drawn("frames", x, x, style=style)
    assert (len(pictures(axes)), len(heatmaps(axes))) == (input_, maps)


def test_slices_of_a_volume_go_through_what_is_most_relevant() -> None:
    x, relevance = random(9, 6, 8, 1), np.zeros((9, 6, 8, 1))
    relevance[4, 2, 7], relevance[4, 3, 1], relevance[6, 2, 1] = 5, -3, 1
    axes = drawn("slices", x, relevance)
    titles = [one.get_title() for one in pictures(axes)]
    assert titles[:3] == [
        "depth 4 of 9: 89 % of Σ |relevance|",
        "row 2 of 6: 67 % of Σ |relevance|",
        "column 7 of 8: 56 % of Σ |relevance|",
    ]
    across = [values.shape for values in heatmaps(axes)]
    assert across == [(6, 8), (9, 8), (9, 6)]
    for found, at in zip(heatmaps(axes), (relevance[4], relevance[:, 2], relevance[:, :, 7]), strict=True):
        np.testing.assert_array_equal(found, at[..., 0])
    np.testing.assert_array_equal(pictures(axes)[1].images[0].get_array(), x[:, 2, :, 0])
    assert {"depth 4", "depth 6"} <= set(titles[3:])
    assert len(titles) == 3 + SLICES


def test_with_a_rate_it_is_a_clip() -> None:
    x = random(5, 6, 8, 1)
    assert [one.get_title() for one in pictures(drawn("slices", x, x, rate=2))] == ["0 s", "0.5 s", "1 s", "1.5 s", "2 s"]


def test_no_relevance_is_said() -> None:
    x = random(5, 6, 8, 1)
    for kind in ("frames", "slices"):
        axes = drawn(kind, x, 0 * x)
        assert any("no relevance" in text.get_text() for one in axes for text in one.texts)


def test_rows_of_a_spectrogram_have_names_and_its_columns_time() -> None:
    x = random(4, 50, 1)
    axes = [one for one in drawn("image", x, x, rate=100, channels=["a", "b", "c", "d"]) if one.images]
    for one in axes:
        assert one.get_xlabel() == "time (ms)"
        assert [label.get_text() for label in one.get_yticklabels()] == ["a", "b", "c", "d"]
        assert one.images[0].get_extent() == pytest.approx([-5, 495, 3.5, -0.5])
    assert not any(one.get_xlabel() for one in drawn("image", x, x))
