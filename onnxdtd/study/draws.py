"""Random inputs that a compiled model takes, for those who have none at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxdtd.data.channels import ends
from onnxdtd.data.read import drawn, open_size, sized, worded
from onnxdtd.runtime.explainer import Explainer, tried


class Draws:
    """Draws inputs for the model of an ``explainer``: numbers between bounds, words that it knows, ids that it looks up, and
    ones for other integers that are not explained: masks let everything pass. ``run`` runs the predictor alone, and tells which
    sizes fit.
    """

    def __init__(self, explainer: Explainer, run: Callable[[dict[str, np.ndarray]], object]):
        self._explainer, said = explainer, explainer.metadata
        self._declared = {name: node.shape for name, node in explainer.inputs.items()}
        self._words, self._ids = said.get("strings", {}), {name: rows or 1 for name, rows in said.get("ids", {}).items()}
        integers = [name for name, node in explainer.inputs.items() if "int" in node.type]
        self._masks = [name for name in integers if name not in said["relevance"] and name not in self._ids]
        first = np.random.default_rng(0)

        def fits(x: dict[str, np.ndarray]) -> None:
            """Raises what is raised where the predictor does not take it, or it has more steps than the file takes."""
            given = self._told(x, first)
            run(explainer.own(explainer.feeds(given)))
            if "most_steps" in said:
                tried(explainer.session, explainer.fed(given))

        self._side = open_size(self._declared, explainer.samples, fits)
        while max(self._ids.values(), default=1) > 1 and not _runs(fits, self._last()):
            self._ids = {name: max(rows // 2, 1) for name, rows in self._ids.items()}

    def __call__(self, rng: np.random.Generator, batch: int = 1) -> dict[str, np.ndarray]:
        """Inputs with so many samples."""
        said, axes = self._explainer.metadata, self._explainer.samples
        channels = said.get("channels", {})
        x = {
            name: rng.integers(0, self._ids[name], self._sizes(name, batch)).astype(np.float64)
            if name in self._ids
            else drawn(rng, self._sizes(name, batch), *ends(said["bounds"], name), channels.get(name), axes[name])
            for name in self._declared
        }
        return self._told(x, rng)

    def _told(self, x: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        return worded({**x, **{name: np.ones_like(x[name]) for name in self._masks}}, self._words, rng)

    def _sizes(self, name: str, batch: int = 1) -> list[int]:
        return sized(self._declared[name], self._explainer.samples[name], self._side, batch)

    def _last(self) -> dict[str, np.ndarray]:
        """The highest ids that are drawn, and zeros."""
        return {name: np.full(self._sizes(name), self._ids.get(name, 1) - 1.0) for name in self._declared}


def _runs(run: Callable[[dict[str, np.ndarray]], Any], x: dict[str, np.ndarray]) -> bool:
    try:
        run(x)
    except Exception:  # ONNX Runtime's own exceptions share no base class
        return False
    return True
