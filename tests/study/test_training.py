"""Relevance models are trained in numpy: the gradient is that of the loss, and what is laid out is what a convolution sees."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from onnxdtd.operators.windows import Window
from onnxdtd.study.training import Parameters, Rows, cast_from, gradient, loss, patches, told, trained

RNG = np.random.default_rng(3)
GEOMETRIES = {  # kernel, strides, dilations, padding in front and behind, of x [2, 3, 7, 6]
    "plain": ((3, 2), (1, 1), (1, 1), (0, 0), (0, 0)),
    "strides": ((2, 3), (2, 3), (1, 1), (1, 0), (0, 2)),
    "dilations": ((2, 2), (1, 2), (3, 2), (2, 1), (1, 3)),
    "beyond": ((3, 3), (3, 2), (1, 1), (0, 0), (0, 0)),  # the last column is never seen
}


def drawn(inputs: int, above: int, k: int, units: int) -> Parameters:
    return Parameters(*(RNG.normal(size=shape) for shape in ((inputs, k * units), (above, k * units), (k * units,))))


def rows(n: int, inputs: int, above: int, k: int) -> Rows:
    return Rows(*(RNG.normal(size=(n, width)) for width in (inputs, above, k)))


def test_the_gradient_is_that_of_the_loss() -> None:
    """Entry by entry, by central differences in float64, away from the hinges."""
    p, data, step = drawn(4, 3, 2, 3), rows(9, 4, 3, 2), 1e-6
    for array, slope in zip(p.arrays(), gradient(p, data).arrays(), strict=True):
        assert slope.any()
        for place in np.ndindex(array.shape):
            before = array[place]
            array[place] = before + step
            above = loss(p, data)
            array[place] = before - step
            below = loss(p, data)
            array[place] = before
            assert slope[place] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-7)


def test_what_is_told_is_the_sum_of_the_units() -> None:
    p = Parameters(np.array([[1.0, -1.0, 2.0, 1.0]]), np.array([[0.0, 0.0, 1.0, 5.0]]), np.array([0.0, 0.5, -1.0, -4.0]))
    data = Rows(np.array([[2.0], [-3.0]]), np.array([[0.0], [1.0]]), np.zeros((2, 2)))
    np.testing.assert_array_equal(told(p, data), [[2.0, 3.0], [3.0, 0.0]])  # a of the units: 0 0 -1 -4, then 0 0 0 0


@pytest.mark.parametrize("name", GEOMETRIES)
def test_patches_are_what_a_convolution_sees(name: str) -> None:
    """By loops; and from below it is the adjoint: <A x, r> = <x, Aᵀ r> for any weight."""
    kernel, strides, dilations, begin, end = GEOMETRIES[name]
    win = Window(kernel, strides, dilations, begin, end)
    x = RNG.normal(size=(2, 3, 7, 6))
    seen = patches(x, win)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(begin, end, strict=True)])
    for n, p, q in np.ndindex(seen.shape[:3]):
        want = [
            padded[n, c, p * strides[0] + a * dilations[0], q * strides[1] + b * dilations[1]]
            for c, a, b in product(range(3), range(kernel[0]), range(kernel[1]))
        ]
        np.testing.assert_array_equal(seen[n, p, q], want)
    w, r = RNG.normal(size=(5, 3, *kernel)), RNG.normal(size=(2, 5, *seen.shape[1:3]))
    y = seen @ w.reshape(5, -1).T
    below = cast_from(r, win, (7, 6)) @ np.moveaxis(w, 1, -1).reshape(-1, 3)
    assert (np.moveaxis(y, -1, 1) * r).sum() == pytest.approx((np.moveaxis(below, -1, 1) * x).sum())


def test_a_model_learns_what_a_model_tells() -> None:
    """From its own draws; what is kept is the best on the rows held out, and training ends where that gets no better."""
    teacher, data = drawn(6, 4, 3, 1), [rows(n, 6, 4, 3) for n in (800, 200)]
    known, held_out = (Rows(some.x, some.t, told(teacher, some)) for some in data)
    start = Parameters(*(0.3 * a for a in drawn(6, 4, 3, 3).arrays()))
    epochs = list(trained(start, known, held_out, 60, 5, np.random.default_rng(0)))
    losses = [loss(p, held_out) for p in epochs]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.05 * float(np.square(held_out.r).sum() / len(held_out)) < loss(start, held_out)
    rng = np.random.default_rng(1)
    stuck = list(trained(teacher, known, held_out, 60, 5, rng))  # nothing is better
    assert len(stuck) == 5
    assert stuck[-1] is teacher
