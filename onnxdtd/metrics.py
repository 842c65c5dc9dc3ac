"""Numbers for heatmaps: how alike two of them are, how well one is placed, how sparse it is. Pure functions on arrays."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata
from skimage.metrics import structural_similarity

TINY = 1e-12
SSIM_WINDOW = 7
CLIP = 99.5  # per cent: brighter pixels are cut off before structures are compared


def cosine(a: np.ndarray, b: np.ndarray) -> float | None:
    """The cosine of the angle between two heatmaps of one shape; None where one of them is zero."""
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / length if length > 0 else None


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation of two heatmaps of one shape; None where one of them is constant."""
    first, second = (rankdata(values) - (values.size + 1) / 2 for values in (a, b))
    return cosine(first, second)


def ssim(a: np.ndarray, b: np.ndarray) -> float | None:
    """Structural similarity of two heatmaps [height, width], each scaled to its own 99.5th percentile; None where a heatmap
    is zero, or too small for a window.
    """
    pair = [values.astype(np.float64) for values in (a, b)]
    limits = [float(np.percentile(np.abs(values), CLIP)) or float(np.abs(values).max()) for values in pair]
    if a.ndim != 2 or min(a.shape) < 3 or min(limits) <= TINY * max(limits) or min(limits) == 0:
        return None
    scaled = [np.clip(values / limit, -1, 1) for values, limit in zip(pair, limits, strict=True)]
    side = min(SSIM_WINDOW, min(a.shape) - (min(a.shape) + 1) % 2)
    return float(structural_similarity(*scaled, data_range=2.0, win_size=side))
