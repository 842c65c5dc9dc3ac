"""Heatmaps smoothed for the eye, and lattices found in them."""

from __future__ import annotations

import numpy as np
import pytest

from onnxdtd.data.smooth import lattice, smoothed


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("shape", [(9, 14), (1, 5), (3, 2, 2), (40, 1)], ids=str)
@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.5])
def test_a_gaussian_mirrored_at_the_edges(shape: tuple[int, ...], sigma: float) -> None:
    """As a sum over all pixels and all their mirror images, and Σ stays."""
    values = random(*shape)
    found, want = smoothed(values, sigma), values
    for axis in (-2, -1):
        size = shape[axis]
        here, there = np.arange(size)[:, None], np.arange(size)
        images = [turn for k in range(-60, 61) for turn in (there + 2 * k * size, 2 * k * size - 1 - there)]
        matrix = sum(np.exp(-0.5 * ((here - place) / sigma) ** 2) for place in images)
        want = np.moveaxis(np.moveaxis(want, axis, -1) @ (matrix / matrix.sum(0)), -1, axis)
    np.testing.assert_allclose(found, want, atol=2e-4 * np.abs(values).max())
    np.testing.assert_allclose(found.sum(), values.sum(), atol=1e-12)


def test_no_width_leaves_a_heatmap_as_it_is() -> None:
    values = random(5, 6)
    assert smoothed(values, 0) is values


@pytest.mark.parametrize(("stride", "place"), [(2, (0, 0)), (2, (1, 0)), (3, (2, 1)), (4, (0, 3))])
def test_a_lattice_is_found_and_evened_out(stride: int, place: tuple[int, int]) -> None:
    values = 1e-4 * random(70, 61)
    values[place[0] :: stride, place[1] :: stride] = 1
    found = lattice(values)
    assert found is not None
    assert found.stride == stride
    assert found.held > 0.99
    even = smoothed(values, found.sigma)[10:-10, 10:-10]
    assert even.std() < 0.2 * even.mean()


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (64, 64), (224, 224), (5, 300), (1, 9)], ids=str)
def test_heatmaps_without_a_lattice(shape: tuple[int, ...]) -> None:
    assert lattice(random(*shape)) is None
    assert lattice(np.abs(np.add.outer(np.arange(shape[0]), np.arange(shape[1])))) is None
    assert lattice(np.zeros(shape)) is None
    spot = np.zeros(shape)
    spot[0, 0] = 1
    assert lattice(spot) is None, "one pixel is no lattice"


def test_uneven_strides_are_found_and_do_not_make_a_lattice() -> None:
    """As those of a convolution of 3 x 3 pixels with a stride of 2, followed by another: 1, 2 or 4 windows a pixel."""
    once = np.array([2.0, 1.0])
    values = np.multiply.outer(np.tile(once, 40), np.tile(once, 40)) ** 2 * (1 + 0.1 * random(80, 80))
    found = lattice(values)
    assert found is not None
    assert (found.stride, found.alone) == (2, False)
    assert found.times == pytest.approx(16, rel=0.1)
