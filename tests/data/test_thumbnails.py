"""Small pictures: their size, their pixels, the colours of the heatmap."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from nets import form
from PIL import Image

from onnxdtd.data.scale import colours
from onnxdtd.data.thumbnails import thumbnail

RED = (153, 19, 0)


def opened(png: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 8, 8), (320, 320)),
        ((28, 28), (308, 308)),
        ((3, 224, 112), (224, 112)),
        ((64, 640, 3), (32, 320)),
        ((4, 9, 9), (315, 315)),
        ((8, 2000), (200, 320)),
        ((100,), (200, 320)),
        ((5,), (200, 320)),
        ((3, 3, 3, 3), (200, 320)),
    ],
)
def test_the_size_of_a_thumbnail(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for png in thumbnail(rng.random(shape), rng.normal(size=shape), form(shape)):
        assert opened(png).shape[:2] == size
        assert len(png) < 150_000


def test_a_thumbnail_has_hard_pixels_and_the_colours_of_the_heatmap() -> None:
    x, relevance = np.zeros((1, 8, 8)), np.zeros((1, 8, 8))
    x[0, 2, 3], relevance[0, 2, 3], relevance[0, 5, 6] = 0.5, 2.0, -1.0
    first, second = (opened(png) for png in thumbnail(x, relevance, form(x.shape, 0, 1)))
    assert np.unique(first[80:120, 120:160]) == 128
    assert np.count_nonzero(first) == 1600
    assert (second[80:120, 120:160] == RED).all()
    assert np.abs(second[200:240, 240:280] - np.array([73, 115, 238])).max() < 5  # half way to the end of the scale
    assert (second[0, 0] >= 253).all()  # the scale's white


def test_a_large_heatmap_is_averaged() -> None:
    relevance = np.zeros((640, 640))
    relevance[::2], relevance[1::2] = 1.0, -1.0  # cancels in every pixel of the small picture
    relevance[:320] = 1.0
    _, second = thumbnail(np.zeros((640, 640)), relevance, form((640, 640)))
    assert (opened(second)[165:] >= 253).all()
    assert (opened(second)[:155] == RED).all()


def test_a_heatmap_has_a_table_of_its_colours() -> None:
    """Which holds exactly those of the scale, in less space; a picture of many colours has none."""
    rng = np.random.default_rng(0)
    x, relevance = rng.random((3, 64, 64)), rng.normal(size=(3, 64, 64))
    first, second = (base64.b64decode(png) for png in thumbnail(x, relevance, form(x.shape, 0, 1)))
    with Image.open(io.BytesIO(first)) as picture, Image.open(io.BytesIO(second)) as heatmap:
        assert (picture.mode, heatmap.mode) == ("RGB", "P")
        shown = np.asarray(heatmap.convert("RGB"))
    expected = colours(relevance.sum(axis=0).repeat(5, axis=0).repeat(5, axis=1))
    assert np.array_equal(shown, np.round(expected[..., :3] * 255))
