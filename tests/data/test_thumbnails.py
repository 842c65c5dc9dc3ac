"""Small pictures: their size, their pixels, the colours of the heatmap."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from nets import form
from PIL import Image

from onnxdtd.data.thumbnails import thumbnail


def opened(png: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 8, 8), (160, 160)),
        ((28, 28), (140, 140)),
        ((3, 224, 112), (160, 80)),
        ((64, 640, 3), (16, 160)),
        ((4, 9, 9), (153, 153)),
        ((8, 2000), (100, 160)),
        ((100,), (100, 160)),
        ((5,), (100, 160)),
        ((3, 3, 3, 3), (100, 160)),
    ],
)
def test_the_size_of_a_thumbnail(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for png in thumbnail(rng.random(shape), rng.normal(size=shape), form(shape)):
        assert opened(png).shape[:2] == size
        assert len(png) < 100_000


def test_a_thumbnail_has_hard_pixels_and_the_colours_of_the_heatmap() -> None:
    x, relevance = np.zeros((1, 8, 8)), np.zeros((1, 8, 8))
    x[0, 2, 3], relevance[0, 2, 3], relevance[0, 5, 6] = 0.5, 2.0, -1.0
    first, second = (opened(png) for png in thumbnail(x, relevance, form(x.shape, 0, 1)))
    assert np.unique(first[40:60, 60:80]) == 128
    assert np.count_nonzero(first) == 400
    assert (second[40:60, 60:80] == (128, 0, 0)).all()
    assert np.abs(second[100:120, 120:140] - np.array([0, 0, 255])).max() < 5  # half way to the end of the scale
    assert (second[0, 0] >= 253).all()  # the scale's white


def test_a_large_heatmap_is_averaged() -> None:
    relevance = np.zeros((320, 320))
    relevance[::2], relevance[1::2] = 1.0, -1.0  # cancels in every pixel of the small picture
    relevance[:160] = 1.0
    _, second = thumbnail(np.zeros((320, 320)), relevance, form((320, 320)))
    assert (opened(second)[85:] >= 253).all()
    assert (opened(second)[:75] == (128, 0, 0)).all()
