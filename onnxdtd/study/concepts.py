"""The strongest channels of an inner tensor, and the heatmap of what passes each of them alone (Achtibat et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxdtd.errors import RequestError
from onnxdtd.labels import Index
from onnxdtd.runtime.explainer import Explainer, Explanation
from onnxdtd.study.feeding import Feeding

TOP = 5  # channels that are shown


@dataclass(frozen=True)
class Concept:
    """A ``channel`` of ``tensor``: the ``relevance`` that arrives there, summed over its positions, and what ``share`` that is
    of Σ |relevance| over all channels.
    """

    tensor: str
    channel: int
    relevance: float
    share: float


def check(preset: str, conserves: bool) -> None:
    """Raise ``RequestError`` for a preset of whose relevance channels have no shares."""
    if not conserves:
        raise RequestError(
            f"--concepts: the preset {preset!r} is a derivative, of which channels have no shares; choose one that shares "
            "relevance out, lrp-epsilon for instance"
        )


class Concepts:
    """Finds the ``top`` channels of a ``tensor`` for one sample after another. Raises ``RequestError`` where the compiled model
    has no mask of it, does not say its relevance, or has none that adds up.
    """

    def __init__(self, explainer: Explainer, feeding: Feeding, tensor: str, top: int = TOP):
        if top < 1:
            raise RequestError(f"--top {top}: give at least 1")
        check(explainer.metadata["preset"], conserves=not explainer.metadata["derivative"])
        if tensor not in explainer.masks or tensor not in explainer.metadata["relevance"]:
            raise RequestError(
                f"--concepts {tensor!r}: the compiled file has no mask of it, or does not say its relevance; compile the "
                f"source model with --mask {tensor} --keep {tensor}"
            )
        self._explainer, self._feeding, self._tensor, self._top = explainer, feeding, tensor, top
        axes = explainer.metadata["masks"][tensor]
        self._channels, self._samples = int(axes["channels"]), axes["samples"]

    def __call__(
        self, feed: Mapping[str, np.ndarray], target: Index | None, found: Explanation
    ) -> tuple[list[Concept], list[np.ndarray]]:
        """The strongest channels of a sample, by |relevance|, and their heatmaps, R(1_c) − R(0): without what bypasses the
        tensor. ``found`` is what the model says of ``feed`` with all masks 1.
        """
        arrived = found.kept[self._tensor].astype(np.float64)
        if self._samples is not None:
            arrived = arrived.take([0], axis=self._samples)  # of copies in a fixed batch
        sums = arrived.sum(axis=tuple(i for i in range(arrived.ndim) if i != self._channels))
        strongest, total = np.argsort(-np.abs(sums), kind="stable")[: self._top], np.abs(sums).sum() or 1.0
        masks = np.concatenate([np.zeros([1, sums.size]), np.eye(sums.size)[strongest]])
        around, *through = self._heatmaps(feed, target, masks)
        concepts = [Concept(self._tensor, int(c), float(sums[c]), float(sums[c] / total)) for c in strongest]
        return concepts, [heatmap - around for heatmap in through]

    def _heatmaps(self, feed: Mapping[str, np.ndarray], target: Index | None, masks: np.ndarray) -> list[np.ndarray]:
        """The heatmap of a sample for each of the masks [n, channels], all at once where the model takes batches."""
        layouts = {name: self._feeding.layouts[name] for name in feed}
        along = {name: layout.axis for name, layout in layouts.items() if layout.axis is not None}
        if not along or any(layouts[name].batch is not None for name in along):
            alone = [self._explainer(feed, target, masks={self._tensor: mask}).relevance for mask in masks]
            return [self._feeding.shown(relevance).astype(np.float64) for relevance in alone]
        copies = {name: np.repeat(x, len(masks), along[name]) if name in along else x for name, x in feed.items()}
        whole = self._explainer(copies, target, masks={self._tensor: masks}).relevance
        return [self._feeding.shown(whole, row).astype(np.float64) for row in range(len(masks))]
