"""Regions, their order, what replaces them: against small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from nets import form

from onnxdtd.data.forms import Form
from onnxdtd.errors import RequestError
from onnxdtd.study.perturb import called, default_patch, filler, perturbed, ranking, regions

RNG = np.random.default_rng(4)


def test_regions_of_a_picture_span_its_channels() -> None:
    found = regions(form((3, 5, 6)), (3, 5, 6), 2)
    assert found.shape == (3, 5, 6)
    assert found[0].tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2 + [[6, 6, 7, 7, 8, 8]]
    assert (found == found[0]).all()
    np.testing.assert_array_equal(regions(form((5, 6, 1)), (5, 6, 1), 2)[..., 0], found[0])
    np.testing.assert_array_equal(regions(form((5, 6)), (5, 6), 2), found[0])


def test_regions_of_signals_and_features() -> None:
    assert regions(form((1, 5)), (1, 5), 2).tolist() == [[0, 0, 1, 1, 2]]
    assert regions(form((5, 1), channel=1), (5, 1), 2).ravel().tolist() == [0, 0, 1, 1, 2]
    assert regions(form((4,)), (4,), 3).tolist() == [0, 1, 2, 3], "features are no neighbours"
    electrodes = Form.of("x", ["n", 1, 6, 8], 0, 1, slid=[3])
    assert regions(electrodes, (1, 6, 8), 3).tolist() == [[[0, 0, 0, 1, 1, 1, 2, 2]] * 6], "all electrodes at once"
    row = Form.of("x", ["n", 8], 0, slid=[2], folded=[None, 2, 4])
    assert regions(row, (8,), 2).tolist() == [0, 0, 1, 1, 0, 0, 1, 1], "a row of two channels"


def test_regions_of_clips_are_cubes() -> None:
    found = regions(Form.of("x", ["n", 3, 4, 6, 8], 0, 1), (3, 4, 6, 8), 2)
    assert found.max() + 1 == 2 * 3 * 4
    assert (found == found[:1]).all()
    assert np.bincount(found[0].ravel()).tolist() == [8] * 24


@pytest.mark.parametrize(
    ("shape", "patch"), [((3, 224, 224), 16), ((1, 28, 28), 2), ((1, 8, 8), 1), ((90, 1), 1), ((12, 5000), 26), ((4,), 1)]
)
def test_default_patch(shape: tuple[int, ...], patch: int) -> None:
    assert default_patch(form(shape), shape) == patch


def test_regions_have_the_units_of_the_data() -> None:
    signal = Form.of("x", ["n", 12, "t"], 0, 1, slid=[2])
    assert called(signal, (12, 500), 25) == "stretches of 25 steps of all channels"
    assert called(signal, (12, 500), 25, 500.0) == "stretches of 25 steps (50 ms) of all channels"
    assert called(Form.of("x", ["n", 3, 4, 6, 8], 0, 1), (3, 4, 6, 8), 2) == "cubes with a side of 2"
    assert called(form((3, 8, 8)), (3, 8, 8), 2) is called(form((4,)), (4,), 1) is None


def test_ranking_sums_each_region_and_leaves_ties_in_the_order_given() -> None:
    relevance = np.array([[[1.0, 1.0, 5.0, -5.0], [0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    places = regions(form(relevance.shape), relevance.shape, 2)
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
    places = regions(form(x.shape), x.shape, 2)
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
    row = Form.of("x", ["n", 8], 0, slid=[2], folded=[None, 2, 4])
    assert filler("mean", np.arange(8.0), 1, row, rng()).tolist() == [1.5] * 4 + [5.5] * 4
    assert filler("blur", np.repeat([1.0, 5.0], 4), 1, row, rng()).tolist() == [1.0] * 4 + [5.0] * 4
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
