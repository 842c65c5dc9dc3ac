"""Numbers for heatmaps: how alike two of them are; and what an evaluation measures, a row of ``METRICS`` each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.stats import rankdata
from skimage.metrics import structural_similarity

from onnxdtd.data.scale import heat
from onnxdtd.study.measures import HIGHEST, LOWEST, Measure

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


def mass_accuracy(picture: np.ndarray, mask: np.ndarray) -> float | None:
    """The share of the positive relevance inside the mask (Arras et al. 2022); None where there is none."""
    positive = np.maximum(picture, 0.0)
    total = float(positive.sum())
    return float(positive[mask].sum()) / total if total > 0 else None


def rank_accuracy(picture: np.ndarray, mask: np.ndarray) -> float | None:
    """Of the k most relevant pixels, k the size of the mask, the share that lies inside (Arras et al. 2022); of equal
    ones, what to expect of a random choice. None where all are equal.
    """
    k, inside = int(mask.sum()), picture[mask]
    least = np.sort(picture, axis=None)[-k]
    equal = int((picture == least).sum())
    if equal == picture.size:
        return None
    above, certain = int((picture > least).sum()), int((inside > least).sum())
    return float(certain + (k - above) * (inside == least).sum() / equal) / k


def pointing_game(picture: np.ndarray, mask: np.ndarray) -> float | None:
    """1 if the most relevant pixel lies inside the mask, else 0 (Zhang et al. 2016); the share of them that does where several
    are equal. None where no relevance is positive.
    """
    most = picture.max()
    return float(mask[picture == most].mean()) if most > 0 else None


def outside_inside(picture: np.ndarray, mask: np.ndarray) -> float | None:
    """Mean positive relevance of a pixel outside the mask over that of one inside (Lapuschkin et al. 2016): how much context
    counts. None where nothing is outside, or no relevance inside.
    """
    positive = np.maximum(picture, 0.0)
    if mask.all() or positive[mask].sum() <= 0:
        return None
    return float(positive[~mask].mean() / positive[mask].mean())


# What a heatmap is like.


def gini(relevance: np.ndarray) -> float | None:
    """The Gini index of the absolute values: 0 if all are equal, towards 1 if few hold everything (Chalasani et al. 2020)."""
    values = np.sort(np.abs(relevance), axis=None)
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


@dataclass(frozen=True)
class Heatmap:
    """All that a metric may ask of a heatmap: ``relevance``, of the sample's shape; ``score``, the logit that it explains, and
    whether the method ``conserves`` it; that score while the most relevant regions are replaced first (``morf``), and while the
    least relevant are (``lerf``), each [steps + 1]; the object's pixels, bool [height, width], where they are known.
    """

    relevance: np.ndarray
    score: float
    conserves: bool
    morf: np.ndarray
    lerf: np.ndarray
    channel: int | None
    mask: np.ndarray | None = None

    @cached_property
    def picture(self) -> np.ndarray:
        """Its relevance over all channels, [height, width]."""
        return heat(self.relevance, self.channel)


@dataclass(frozen=True)
class Metric(Measure):
    """A number ``of`` a heatmap: how it is measured, and how it is said. None where a heatmap has none."""

    of: Callable[[Heatmap], float | None] = field(kw_only=True)


def _placed(measure: Callable[[np.ndarray, np.ndarray], float | None]) -> Callable[[Heatmap], float | None]:
    """A metric of where relevance lies, of heatmaps whose object is known."""
    return lambda heatmap: None if heatmap.mask is None else measure(heatmap.picture, heatmap.mask)


# What an evaluation measures, and the columns of its tables, in this order.
METRICS = {
    "aopc": Metric(
        "AOPC",
        "how far the score falls, on average over the steps, while the most relevant regions are replaced first. The further, "
        "the better the heatmap has found what the score is made of. A random order shows what any order gets.",
        HIGHEST,
        of=lambda h: aopc(h.morf),
        area=True,
    ),
    "abpc": Metric(
        "ABPC",
        "the area between two curves: the score while the least relevant regions are replaced first, and while the most "
        "relevant are. A random order has 0 on average.",
        HIGHEST,
        of=lambda h: abpc(h.lerf, h.morf),
        area=True,
    ),
    "gini": Metric(
        "Gini",
        "how unevenly relevance is spread: 0 is the same everywhere, 1 is all in one place. High is sparse and easy to read, "
        "which does not make it right.",
        of=lambda h: gini(h.relevance),
    ),
    "outside_inside": Metric(
        "outside/inside",
        "positive relevance of a pixel outside the object's box, divided by that of one inside. Low is good where the object "
        "decides; a model that goes by the surroundings has a high ratio, whatever explains it.",
        LOWEST,
        of=_placed(outside_inside),
    ),
    "mass_accuracy": Metric(
        "relevance mass",
        "share of the positive relevance that lies inside the object's box.",
        HIGHEST,
        of=_placed(mass_accuracy),
    ),
    "rank_accuracy": Metric(
        "relevance rank",
        "share of the most relevant pixels, as many as the object's box has, that lie inside the box.",
        HIGHEST,
        of=_placed(rank_accuracy),
    ),
    "pointing_game": Metric(
        "pointing game",
        "share of the samples whose most relevant pixel lies in the object's box.",
        HIGHEST,
        of=_placed(pointing_game),
    ),
    "positivity": Metric(
        "positivity",
        "share of the relevance, by size, that speaks for the class. Deep Taylor decomposition demands 1; other rules "
        "are not worse for having evidence against.",
        of=lambda h: positivity(h.relevance),
    ),
    "missing": Metric(
        "missing",
        "how far the sum of the relevance is from the explained score, missing or in excess, as a share of that score. At 0 "
        "relevance is conserved; far from it, amounts of relevance are no shares of the score. A score near 0 makes it large.",
        LOWEST,
        of=lambda h: missing(h.relevance, h.score) if h.conserves else None,
    ),
}
