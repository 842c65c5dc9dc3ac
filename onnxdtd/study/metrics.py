"""Numbers for heatmaps: how alike two of them are, how well one is placed, how sparse it is. Pure functions on arrays."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata
from skimage.metrics import structural_similarity

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
    if a.ndim != 2 or min(a.shape) < 3 or not all(limits):
        return None
    scaled = [np.clip(values / limit, -1, 1) for values, limit in zip(pair, limits, strict=True)]
    side = min(SSIM_WINDOW, min(a.shape) - (min(a.shape) + 1) % 2)
    return float(structural_similarity(*scaled, data_range=2.0, win_size=side))


# What a heatmap does to the prediction when the regions that it names are replaced (Samek et al. 2017).


def aopc(curve: np.ndarray) -> float:
    """Area over the perturbation curve: the mean drop of the score f(x₀) − f(x_k) over k = 0 ... L."""
    return float(np.mean(curve[0] - curve))


def abpc(lerf: np.ndarray, morf: np.ndarray) -> float:
    """Area between the curves: how much longer the score lasts when the least relevant regions go first."""
    return float(np.mean(lerf - morf))


# Where the relevance lies. A heatmap [height, width], the object as a mask of that shape; only relevance for the class counts.


def mass_accuracy(heat: np.ndarray, mask: np.ndarray) -> float | None:
    """The share of the positive relevance inside the mask (Arras et al. 2022); None where there is none."""
    positive = np.maximum(heat, 0.0)
    total = float(positive.sum())
    return float(positive[mask].sum()) / total if total > 0 else None


def rank_accuracy(heat: np.ndarray, mask: np.ndarray) -> float | None:
    """Of the k most relevant pixels, k the size of the mask, the share that lies inside (Arras et al. 2022); of equal
    ones, what to expect of a random choice. None where all are equal.
    """
    k, inside = int(mask.sum()), heat[mask]
    least = np.sort(heat, axis=None)[-k]
    equal = int((heat == least).sum())
    if equal == heat.size:
        return None
    above, certain = int((heat > least).sum()), int((inside > least).sum())
    return float(certain + (k - above) * (inside == least).sum() / equal) / k


def pointing_game(heat: np.ndarray, mask: np.ndarray) -> float | None:
    """1 if the most relevant pixel lies inside the mask, else 0 (Zhang et al. 2016); the share of them that does where several
    are equal. None where no relevance is positive.
    """
    most = heat.max()
    return float(mask[heat == most].mean()) if most > 0 else None


def outside_inside(heat: np.ndarray, mask: np.ndarray) -> float | None:
    """Mean positive relevance of a pixel outside the mask over that of one inside (Lapuschkin et al. 2016): how much context
    counts. None where nothing is outside, or no relevance inside.
    """
    positive = np.maximum(heat, 0.0)
    if mask.all() or positive[mask].sum() <= 0:
        return None
    return float(positive[~mask].mean() / positive[mask].mean())


# What a heatmap is like.


def gini(heat: np.ndarray) -> float | None:
    """The Gini index of the absolute values: 0 if all are equal, towards 1 if few hold everything (Chalasani et al. 2020)."""
    values = np.sort(np.abs(heat), axis=None)
    total = float(values.sum())
    if total <= 0:
        return None
    weights = 2 * np.arange(1, values.size + 1) - values.size - 1
    return float((weights * values).sum() / (values.size * total))


def positivity(relevance: np.ndarray) -> float | None:
    """The share of the absolute relevance that is positive; deep Taylor promises 1 (Montavon et al. 2017, definition 2)."""
    total = float(np.abs(relevance).sum())
    return float(np.maximum(relevance, 0.0).sum()) / total if total > 0 else None


def missing(relevance: np.ndarray, logit: float) -> float | None:
    """|Σ R − f| / |f|: 0 where all of the logit reaches the input (Montavon et al. 2017, definition 1)."""
    return abs(float(relevance.sum(dtype=np.float64)) - logit) / abs(logit) if logit else None
