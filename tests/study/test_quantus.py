"""Our metrics against those of Quantus, where both define the same."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from onnxdtd.study import metrics
from onnxdtd.study.evaluate import Settings

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(2)
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def quantus() -> ModuleType:
    pytest.importorskip("torch")
    import zoo

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zoo.torchvision()  # before Quantus imports it by way of zennit
        return pytest.importorskip("quantus")


@pytest.mark.parametrize("patch", [1, 2])
def test_region_perturbation(quantus: ModuleType, patch: int, tmp_path: Path) -> None:
    import region_perturbation

    x = np.load(ROOT / "models" / "digits_samples.npz")["image"][:6]
    np.savez(tmp_path / "data.npz", x=x)
    path, count = ROOT / "models" / "digits_cnn.onnx", (8 // patch) ** 2
    rows, _ = region_perturbation.ours(path, tmp_path / "data.npz", Settings(patch, count), 1)
    drops, _ = region_perturbation.theirs(path, x, rows, patch)
    for order in ("morf", "lerf"):
        curve = np.array([row["presets"][region_perturbation.PRESET][order] for row in rows])
        assert drops[order].shape == (6, count)
        np.testing.assert_allclose(curve[:, :1] - curve[:, 1:], drops[order], atol=2e-5 * np.abs(curve).max())


def scored(metric: Any, heat: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Of one heatmap [height, width]."""
    from torch import nn

    given: dict[str, Any] = {} if mask is None else {"s_batch": mask[None, None]}
    x = np.zeros((1, 1, *heat.shape), np.float32)
    (value,) = metric(nn.Identity(), x, np.zeros(1, int), heat[None, None], device="cpu", **given)
    return float(np.ravel(value)[0])


OPTIONS = {"abs": False, "normalise": False, "disable_warnings": True, "display_progressbar": False}


def test_gini(quantus: ModuleType) -> None:
    heat = RNG.normal(size=(9, 9)) ** 3
    assert metrics.gini(heat) == pytest.approx(scored(quantus.Sparseness(**OPTIONS | {"abs": True}), heat), abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_localisation(quantus: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    heat, mask = rng.uniform(size=(9, 9)), np.zeros((9, 9), bool)
    mask[2:7, 1:6] = True
    assert metrics.mass_accuracy(heat, mask) == pytest.approx(scored(quantus.RelevanceMassAccuracy(**OPTIONS), heat, mask))
    assert metrics.rank_accuracy(heat, mask) == pytest.approx(scored(quantus.RelevanceRankAccuracy(**OPTIONS), heat, mask))
    assert metrics.pointing_game(heat, mask) == scored(quantus.PointingGame(**OPTIONS), heat, mask)
