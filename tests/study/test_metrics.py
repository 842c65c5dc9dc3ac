"""Metrics against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from onnxdtd.study import metrics

RNG = np.random.default_rng(3)
HEAT = np.array([[4.0, 1.0, 0.0], [2.0, -1.0, 0.0], [0.0, 0.0, -2.0]])
MASK = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)


def test_cosine() -> None:
    assert metrics.cosine(np.array([3.0, 4.0]), np.array([4.0, 3.0])) == pytest.approx(24 / 25)
    assert metrics.cosine(np.array([1.0, 0.0]), np.array([-2.0, 0.0])) == pytest.approx(-1)
    assert metrics.cosine(np.zeros(2), np.ones(2)) is None


def test_spearman() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert metrics.spearman(a, np.exp(a)) == pytest.approx(1)
    assert metrics.spearman(a, -(a**3)) == pytest.approx(-1)
    assert metrics.spearman(a, np.array([2.0, 1.0, 4.0, 3.0])) == pytest.approx(1 - 6 * 4 / (4 * 15))  # 1 - 6 Σd² / n(n² - 1)
    assert metrics.spearman(a, np.array([1.0, 1.0, 2.0, 2.0])) == pytest.approx(4 / np.sqrt(5 * 4)), "ties get the mean rank"
    assert metrics.spearman(a, np.ones(4)) is None


def test_ssim() -> None:
    a = RNG.normal(size=(16, 16))
    assert metrics.ssim(a, a) == pytest.approx(1)
    assert metrics.ssim(a, 5 * a) == pytest.approx(1), "each heatmap is scaled by itself"
    assert abs(metrics.ssim(a, RNG.normal(size=(16, 16)))) < 0.3
    assert metrics.ssim(a, 1e-20 * a) == pytest.approx(1), "however small it is"
    assert metrics.ssim(a, np.zeros((16, 16))) is None
    assert metrics.ssim(a[:2], a[:2]) is None, "no window fits"
    assert metrics.ssim(a[:4, :4], a[:4, :4]) == pytest.approx(1)


def test_ssim_by_hand() -> None:
    """One window covers everything: (2 μₐμ_b + c₁)(2 σ_ab + c₂) / ((μₐ² + μ_b² + c₁)(σₐ² + σ_b² + c₂)), data range 2."""
    a, b = RNG.uniform(-1, 1, (7, 7)), RNG.uniform(-1, 1, (7, 7))
    scaled = [np.clip(v / np.percentile(np.abs(v), 99.5), -1, 1) for v in (a, b)]
    (ma, mb), cov = [v.mean() for v in scaled], np.cov(*map(np.ravel, scaled))
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    expected = (2 * ma * mb + c1) * (2 * cov[0, 1] + c2) / ((ma**2 + mb**2 + c1) * (cov[0, 0] + cov[1, 1] + c2))
    assert metrics.ssim(a, b) == pytest.approx(expected, rel=1e-9)


def test_areas() -> None:
    assert metrics.aopc(np.array([5.0, 3.0, 1.0])) == pytest.approx((0 + 2 + 4) / 3)
    assert metrics.abpc(np.array([5.0, 5.0, 1.0]), np.array([5.0, 2.0, 1.0])) == pytest.approx(1)


def test_placement() -> None:
    assert metrics.mass_accuracy(HEAT, MASK) == pytest.approx(6 / 7)
    assert metrics.rank_accuracy(HEAT, MASK) == pytest.approx(2 / 3), "4, 2 and 1, of which 1 lies outside"
    assert metrics.pointing_game(HEAT, MASK) == 1
    assert metrics.pointing_game(HEAT, ~MASK) == 0
    assert metrics.pointing_game(np.array([[2.0, 1.0, 2.0]]), np.array([[True, False, False]])) == 0.5, "one of two"
    assert metrics.rank_accuracy(np.array([[2.0, 1.0, 1.0]]), np.array([[False, True, True]])) == 0.5
    for nothing in (0 * HEAT, 0 * HEAT - 1):
        assert metrics.pointing_game(nothing, MASK) is None
        assert metrics.rank_accuracy(nothing, MASK) is None
    assert metrics.outside_inside(HEAT, MASK) == pytest.approx((1 / 6) / (6 / 3))
    assert metrics.outside_inside(HEAT, np.ones((3, 3), bool)) is None
    assert metrics.outside_inside(-np.abs(HEAT), MASK) is None
    assert metrics.mass_accuracy(-np.abs(HEAT), MASK) is None


def test_gini() -> None:
    assert metrics.gini(np.ones(10)) == pytest.approx(0)
    assert metrics.gini(np.eye(1, 10)) == pytest.approx(0.9), "1 - 1/n where one entry holds everything"
    assert metrics.gini(np.array([1.0, -3.0])) == pytest.approx(0.25)
    assert metrics.gini(np.zeros(4)) is None


def test_positivity_and_missing_relevance() -> None:
    assert metrics.positivity(HEAT) == pytest.approx(7 / 10)
    assert metrics.positivity(np.zeros(3)) is None
    assert metrics.missing(HEAT, 5.0) == pytest.approx(1 / 5)
    assert metrics.missing(HEAT, -4.0) == pytest.approx(2)
    assert metrics.missing(HEAT, 0.0) is None


def test_every_metric_is_measured_of_a_heatmap() -> None:
    """None where it has no object, conserves nothing, or is zero."""
    of = lambda h: {name: metric.of(h) for name, metric in metrics.METRICS.items()}
    morf, lerf = np.array([2.0, 0.0]), np.array([2.0, 1.0])
    found = of(metrics.Heatmap(HEAT, 5.0, True, morf, lerf, None, MASK))
    assert found == {
        "aopc": 1.0,
        "abpc": 0.5,
        "gini": metrics.gini(HEAT),
        "outside_inside": metrics.outside_inside(HEAT, MASK),
        "mass_accuracy": metrics.mass_accuracy(HEAT, MASK),
        "rank_accuracy": metrics.rank_accuracy(HEAT, MASK),
        "pointing_game": 1.0,
        "positivity": 0.7,
        "missing": 0.2,
    }
    bare = of(metrics.Heatmap(HEAT, 5.0, False, morf, lerf, None))
    assert {name for name, value in bare.items() if value is None} == {
        "outside_inside",
        "mass_accuracy",
        "rank_accuracy",
        "pointing_game",
        "missing",
    }
    coloured = metrics.Heatmap(np.stack([HEAT, HEAT]), 5.0, True, morf, lerf, 0, MASK)
    assert metrics.METRICS["outside_inside"].of(coloured) == pytest.approx(found["outside_inside"])
