"""Regions, their order, what replaces them: against small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from nets import form

from onnxdtd.data.forms import colour_axis
from onnxdtd.errors import RequestError
from onnxdtd.study.perturb import default_patch, filler, perturbed, ranking, regions

RNG = np.random.default_rng(4)


def test_regions_of_a_picture_span_its_channels() -> None:
    found = regions((3, 5, 6), 0, 2)
    assert found.shape == (3, 5, 6)
    assert found[0].tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2 + [[6, 6, 7, 7, 8, 8]]
    assert (found == found[0]).all()
    np.testing.assert_array_equal(regions((5, 6, 1), 2, 2)[..., 0], found[0])
    np.testing.assert_array_equal(regions((5, 6), None, 2), found[0])


def test_regions_of_signals_and_features() -> None:
    assert regions((1, 5), None, 2).tolist() == [[0, 0, 1, 1, 2]]
    assert regions((5, 1), 1, 2).ravel().tolist() == [0, 0, 1, 1, 2]
    assert regions((4,), None, 3).tolist() == [0, 1, 2, 3], "features are no neighbours"


@pytest.mark.parametrize(("shape", "patch"), [((3, 224, 224), 16), ((1, 28, 28), 2), ((1, 8, 8), 1), ((90, 1), 1), ((4,), 1)])
def test_default_patch(shape: tuple[int, ...], patch: int) -> None:
    assert default_patch(shape, colour_axis(shape)) == patch


def test_ranking_sums_each_region_and_leaves_ties_in_the_order_given() -> None:
    relevance = np.array([[[1.0, 1.0, 5.0, -5.0], [0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    places = regions(relevance.shape, 0, 2)
    assert ranking(relevance, places, np.arange(4)).tolist() == [2, 0, 1, 3]
    assert ranking(relevance, places, np.array([3, 1, 0, 2])).tolist() == [2, 0, 3, 1]
    for nothing in (0 * relevance, 0 * relevance + 1):
        assert ranking(nothing, places, np.array([3, 1, 0, 2])).tolist() == [3, 1, 0, 2]


def test_steps_replace_more_and_more() -> None:
    x, fill = np.arange(1.0, 5.0), np.zeros(4)
    found = perturbed(x, fill, np.arange(4), np.array([2, 0, 3, 1]), steps=2, share=1.0)
    assert found.tolist() == [[1, 2, 3, 4], [0, 2, 0, 4], [0, 0, 0, 0]]
    half = perturbed(x, fill, np.arange(4), np.array([2, 0, 3, 1]), steps=2, share=0.5)
    assert half.tolist() == [[1, 2, 3, 4], [1, 2, 0, 4], [0, 2, 0, 4]]


def test_each_step_is_the_last_one_with_more_replaced() -> None:
    x = RNG.uniform(1, 2, (3, 9, 9))
    places = regions(x.shape, 0, 2)
    found = perturbed(x, np.zeros_like(x), places, ranking(x, places, np.arange(25)), steps=7, share=0.8)
    gone = (found == 0).reshape(8, -1)
    assert (gone[1:] >= gone[:-1]).all()
    assert [len(np.unique(places.ravel()[g])) for g in gone] == [round(k / 7 * 0.8 * 25) for k in range(8)]


def test_fills() -> None:
    x, rng = RNG.uniform(0, 1, (3, 8, 8)), lambda: np.random.default_rng(0)
    bounded = form((3, 8, 8), [0.0, 0.1, 0.2], 1.0)
    made = {kind: filler(kind, x, 2, bounded, rng()) for kind in ("zero", "mean", "blur", "noise", "low", "high")}
    assert all(fill.shape == x.shape for fill in made.values())
    assert not made["zero"].any()
    np.testing.assert_allclose(made["mean"][:, 3, 4], x.mean(axis=(1, 2)))
    np.testing.assert_array_equal(made["low"][:, 0, 0], [0.0, 0.1, 0.2])
    assert (made["high"] == 1).all()
    assert (made["noise"] >= np.array([0.0, 0.1, 0.2]).reshape(3, 1, 1)).all()
    assert made["noise"].max() <= 1
    assert made["blur"].std() < x.std() / 2
    np.testing.assert_allclose(filler("blur", np.full((3, 8, 8), 0.3), 2, form((3, 8, 8)), rng()), 0.3)
    np.testing.assert_array_equal(made["noise"], filler("noise", x, 2, bounded, rng()))


@pytest.mark.parametrize(("kind", "shape", "words"), [("low", (3, 8, 8), "--low and --high"), ("mean", (4,), "pictures")])
def test_fills_that_make_no_sense(kind: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        filler(kind, np.ones(shape), 1, form(shape), RNG)
