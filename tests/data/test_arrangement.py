"""What shapes are drawn as, with and without knowing what the model's convolutions slide over."""

from __future__ import annotations

import numpy as np
import pytest

from onnxdtd.data.arrangement import arranged, arrangement
from onnxdtd.data.forms import Form

GUESSED = {  # shape: kind, shape as it is drawn
    (3, 32, 32): ("image", (32, 32, 3)),
    (32, 32, 3): ("image", (32, 32, 3)),
    (1, 8, 8): ("image", (8, 8, 1)),
    (4, 9, 9): ("image", (9, 9, 4)),
    (1, 64, 16): ("image", (64, 16, 1)),
    (28, 28): ("image", (28, 28, 1)),
    (8, 16): ("image", (8, 16, 1)),
    (20, 32): ("image", (20, 32, 1)),
    (2, 5): ("image", (2, 5, 1)),
    (65, 900): ("traces", (65, 900)),
    (3, 128): ("traces", (3, 128)),
    (128, 3): ("traces", (3, 128)),
    (2, 1000): ("traces", (2, 1000)),
    (12, 100): ("traces", (12, 100)),
    (12, 5000): ("traces", (12, 5000)),
    (5000, 12): ("traces", (12, 5000)),
    (64, 400): ("traces", (64, 400)),
    (3, 1, 300): ("traces", (3, 300)),
    (1, 100): ("traces", (1, 100)),
    (28, 1): ("traces", (1, 28)),
    (1, 1, 300): ("traces", (1, 300)),
    (3, 8, 16, 16): ("frames", (8, 16, 16, 3)),
    (8, 16, 16, 3): ("frames", (8, 16, 16, 3)),
    (8, 3, 16, 16): ("frames", (8, 16, 16, 3)),
    (1, 8, 16, 16): ("frames", (8, 16, 16, 1)),
    (6, 64, 64): ("frames", (6, 64, 64, 1)),
    (64, 64, 6): ("frames", (6, 64, 64, 1)),
    (5, 5, 5): ("frames", (5, 5, 5, 1)),
    (4,): ("bars", (4,)),
    (5000,): ("bars", (5000,)),
    (1,): ("bars", (1,)),
    (1, 1, 1): ("bars", (1,)),
    (3, 3, 3, 3): ("bars", (81,)),
    (2, 3, 4, 5, 6): ("bars", (720,)),
}
KNOWN = {  # shape and what the convolutions slide over: kind, shape as it is drawn
    ((20, 32), (0,)): ("traces", (32, 20)),
    ((20, 32), (1,)): ("traces", (20, 32)),
    ((20, 32), (0, 1)): ("image", (20, 32, 1)),
    ((1, 22, 1000), (2,)): ("traces", (22, 1000)),
    ((1, 64, 400), (1, 2)): ("image", (64, 400, 1)),
    ((16000,), (0,)): ("traces", (1, 16000)),
    ((100, 900), (1,)): ("traces", (100, 900)),
    ((3, 64, 3), (0, 1)): ("image", (3, 64, 3)),
    ((12, 64, 64), (1, 2)): ("frames", (12, 64, 64, 1)),
    ((3, 16, 8, 8), (1, 2, 3)): ("frames", (16, 8, 8, 3)),
    ((12, 16, 8, 8), (1, 2, 3)): ("frames", (16, 8, 8, 12)),
    ((3, 32, 1), (1, 2)): ("traces", (3, 32)),
    ((16, 3, 8, 8), (2, 3)): ("frames", (48, 8, 8, 1)),
}


@pytest.mark.parametrize("shape", GUESSED, ids=str)
def test_by_the_shape_alone(shape: tuple[int, ...]) -> None:
    form = arrangement(shape)
    assert (form.kind, form.of(np.zeros(shape)).shape) == GUESSED[shape]


@pytest.mark.parametrize(("shape", "slides"), KNOWN, ids=str)
def test_by_what_the_convolutions_slide_over(shape: tuple[int, ...], slides: tuple[int, ...]) -> None:
    form = arrangement(shape, slides)
    assert (form.kind, form.of(np.zeros(shape)).shape) == KNOWN[shape, slides]


@pytest.mark.parametrize("shape", GUESSED, ids=str)
def test_every_entry_is_drawn_once(shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape)).reshape(shape)
    assert sorted(arrangement(shape).of(x).ravel()) == sorted(x.ravel())


def test_frames_in_front_of_their_colours() -> None:
    found = arrangement((16, 3, 8, 9), (2, 3), channel=1)
    assert (found.kind, found.of(np.zeros((16, 3, 8, 9))).shape) == ("frames", (16, 8, 9, 3))


def test_a_row_is_drawn_as_what_the_model_makes_of_it() -> None:
    row = np.arange(600)
    form = Form.of("x", ["n", 600], 0, slid=[2], folded=[None, 3, 200])
    found = arranged(row.shape, form)
    assert found.kind == "traces"
    np.testing.assert_array_equal(found.of(row), row.reshape(3, 200))
    picture = Form.of("x", ["n", 12], 0, slid=[2, 3], folded=[None, 1, 3, 4])
    assert arranged((12,), picture).kind == "image"
    assert arranged((600,), Form.of("x", [600], None, slid=[2], folded=[1, 3, 200])).kind == "bars", "it is one sample"


def test_axes_keep_their_order() -> None:
    x = np.random.default_rng(0).normal(size=(5, 40, 3))
    np.testing.assert_array_equal(arrangement((40, 5)).of(x[..., 0].T), x[..., 0])
    np.testing.assert_array_equal(arrangement((3, 5, 40)).of(np.moveaxis(x, -1, 0)), x)
    video = np.random.default_rng(0).normal(size=(3, 8, 6, 7))
    np.testing.assert_array_equal(arrangement(video.shape).of(video), np.moveaxis(video, 0, -1))
    bands = np.random.default_rng(0).normal(size=(9, 8, 6))
    np.testing.assert_array_equal(arrangement(bands.shape).of(bands)[..., 0], np.moveaxis(bands, -1, 0))
