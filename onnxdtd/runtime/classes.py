"""What a run says of each sample: the predicted class, with the scores of all, the explained one, and Σ R."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxdtd.cells import CLASSES, PLACES, rows
from onnxdtd.contract import SCORE, Metadata
from onnxdtd.labels import Labels


@dataclass(frozen=True)
class Classes:
    """Of n samples: ``scores``, float64 [n, classes], that the model gives, ``predicted`` and ``target``, the explained one,
    int64 [n]: indices. None is what the model does not tell.
    """

    scores: np.ndarray | None
    predicted: np.ndarray | None
    target: np.ndarray | None


@dataclass(frozen=True)
class Occasion:
    """A run over ``count`` samples of a model with ``metadata`` and ``labels``: ``samples`` is the axis of those in each input;
    ``asked`` the target that was fed, int64 [n], −1 for the arg-max.
    """

    metadata: Metadata
    labels: Labels
    samples: Mapping[str, int | None]
    count: int
    asked: np.ndarray | None = None

    def by_sample(self, relevance: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Relevance by what is explained, samples first, [n, ...]"""
        ids = self.metadata.get("apart", {})
        axes = {name: self.samples.get(ids.get(name, name)) for name in relevance}
        return {
            name: values[None] if (axis := axes[name]) is None else np.moveaxis(values, axis, 0)
            for name, values in relevance.items()
        }

    def sums(self, relevance: Mapping[str, np.ndarray]) -> np.ndarray:
        """Σ R of each sample over all that is explained, float64 [n]"""
        parts = self.by_sample(relevance).values()
        return sum((part.sum(tuple(range(1, part.ndim)), dtype=np.float64) for part in parts), np.zeros(self.count))

    def classes(self, outputs: Mapping[str, Any]) -> Classes:
        """The classes, as ``outputs`` by name have them."""
        scores, predicted = self._scores(outputs), self._labelled(outputs)
        if predicted is None and scores is not None and scores.size:
            predicted = scores.argmax(1)
        return Classes(scores, predicted, self._target(predicted))

    def _target(self, predicted: np.ndarray | None) -> np.ndarray | None:
        """The explained class, which is no class where a sum of scores is."""
        fixed = self.metadata.get("target")
        if fixed == SCORE:
            return None
        if isinstance(fixed, int | list):
            return np.full(self.count, int(self.labels.count == 2) if isinstance(fixed, list) else fixed)
        alone = np.zeros(self.count, int) if self.labels.where and self.labels.count == 1 else predicted
        if self.asked is None:
            return alone
        known = self.asked if alone is None else np.where(self.asked < 0, alone, self.asked)
        return known if (known >= 0).all() else None

    def _labelled(self, outputs: Mapping[str, Any]) -> np.ndarray | None:
        """The classes that the model itself names, where it does."""
        output = outputs.get(self.metadata.get("label_output", self.metadata.get("output")) or "")
        if not isinstance(output, np.ndarray) or output.dtype.kind == "f":
            return None
        axes = [name for name in self.metadata.get("axes", ()) if name != CLASSES]
        found = self._at_position(output, axes)
        named = [] if found is None else [self.labels.own_index(label) for label in found[:, 0]]
        return np.array(named) if named and None not in named else None

    def _scores(self, outputs: Mapping[str, Any]) -> np.ndarray | None:
        """The model's score of each class, where it gives them."""
        output = outputs.get(self.metadata.get("score_output", self.metadata.get("output")) or "")
        if isinstance(output, list):  # of a ZipMap: a dictionary of scores by label for each sample, in the order of the labels
            places = [place for label in output[0] if (place := self.labels.own_index(label)) is not None]
            if len(places) < len(output[0]):
                return None
            given = np.full((len(output), 1 + max(places)), -np.inf)
            given[:, places] = [[*row.values()] for row in output]
            return given
        if output is None or output.dtype.kind != "f":
            return None
        found = self._at_position(output, self.metadata.get("axes", ()))
        if found is not None:
            found = found.astype(np.float64)
        if found is None or found.shape[1] != 1 or self.labels.count != 2:
            return found
        # A decision value, whatever shape the model declares, or the probability of class 1
        return np.hstack([1 - found, found]) if self.metadata.get("squashed", True) else None

    def _at_position(self, values: np.ndarray, axes: Sequence[str]) -> np.ndarray | None:
        """The scores, or the label, of each sample, [n, classes], at the position that is explained; None where all of them
        are.
        """
        if not set(PLACES) & set(axes):
            return values.reshape(self.count, -1) if self.count and values.size % self.count == 0 else None
        target = self.metadata.get("target")
        position = target if isinstance(target, list) else self.metadata.get("position")
        return None if target == SCORE or len(axes) != values.ndim else rows(values, axes, position or ())
