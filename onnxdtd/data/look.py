"""What is drawn of a sample, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Look:
    """How explanations are drawn: one field is one option of ``explain``."""


USUAL = Look()


@dataclass(frozen=True)
class Caption:
    """The words around a picture."""

    title: str
    subtitle: str
    notes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()  # what the entries of a vector are called
    concepts: tuple[str, ...] = ()  # what further heatmaps are called


@dataclass(frozen=True)
class Scene:
    """One sample ``x`` with its heatmaps by title, both arranged as its kind is drawn: ``features`` are what the entries of a
    vector are called.
    """

    x: np.ndarray
    maps: Mapping[str, np.ndarray]
    features: Sequence[str] = ()
    look: Look = USUAL

    @property
    def relevance(self) -> np.ndarray:
        """The first heatmap, or the only one."""
        return next(iter(self.maps.values()))
