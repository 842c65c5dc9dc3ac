"""How a number is said: what it is called, what it means, and which values are good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What a number is called, what it means, and which values are good: the highest, the lowest, those near 0, or none. An
    ``area`` under a curve is in units of the score; the others are shares.
    """

    title: str
    meaning: str
    best: str = ""
    area: bool = False

    @property
    def head(self) -> str:
        """The title with an arrow towards the good values, for the head of a table."""
        return self.title + ARROWS.get(self.best, "")


HIGHEST, LOWEST, NEAR_ZERO = "higher is better", "lower is better", "nearer to 0 is better"
ARROWS = {HIGHEST: "\u00a0↑", LOWEST: "\u00a0↓", NEAR_ZERO: "\u00a0→\u00a00"}
BADNESS: dict[str, Callable[[float], float]] = {HIGHEST: lambda v: -v, LOWEST: lambda v: v, NEAR_ZERO: abs}
SETTINGS = {
    "data": "data",
    "samples": "samples",
    "neurons": "neurons tested in each layer",
    "noise": "noise on the input, as a share of the data's spread",
    "patch": "side of a region, in pixels or steps",
    "regions": "regions",
    "steps": "steps of the perturbation",
    "share": "share of the input replaced in the last step",
    "fill": "replaced by",
    "score": "score",
    "target": "explained class",
    "seed": "seed",
    "quick": "quick",
    "low": "lower bound of the input",
    "high": "upper bound of the input",
    "preprocessing": "preprocessing of pictures",
    "output": "explained output",
    "settings": "rules set by hand",
    "presets": "presets",
}
