"""What the rows of an evaluation add up to: means with their errors, one row at a time in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Mean:
    """Of numbers or arrays that come one by one (Welford 1962)."""

    def __init__(self) -> None:
        self.n = 0
        self.mean: np.ndarray = np.zeros(())
        self._square: np.ndarray = np.zeros(())

    def add(self, value: Any) -> None:
        """One more."""
        self.n += 1
        difference = np.asarray(value, np.float64) - self.mean
        self.mean = self.mean + difference / self.n
        self._square = self._square + difference * (value - self.mean)

    def as_data(self) -> dict[str, Any]:
        """Mean, standard error of the mean (null of a single one), number."""
        error = float(np.sqrt(self._square / (self.n - 1) / self.n)) if self.n > 1 else None
        return {"mean": float(self.mean), "error": error, "n": self.n}


class Tally:
    """What the rows of one model add up to."""

    def __init__(self) -> None:
        self.rules: dict[str, Any] = {}
        self._means: dict[Any, Mean] = {}

    def add(self, row: dict[str, Any]) -> None:
        """One sample."""
        self._note(("correct",), row["correct"])
        self._note(("random", "aopc"), row["random"]["aopc"])
        self._note(("random", "curve"), np.asarray(row["random"]["curve"]))
        for name, found in row["presets"].items():
            for metric, value in found["metrics"].items():
                self._note((name, "metrics", metric), value)
            for order in ("morf", "lerf"):
                self._note((name, "curves", order), np.asarray(found[order]))
            self._note((name, "classes", row["class"]), found["metrics"].get("outside_inside"))

    def _note(self, key: Any, value: Any) -> None:
        if value is not None:
            self._means.setdefault(key, Mean()).add(value)

    def as_data(self, labels: Sequence[str]) -> dict[str, Any]:
        """Without the model's name."""
        means, correct = self._means, self._means.get(("correct",))
        of = lambda name, kind: {key[2]: mean for key, mean in means.items() if key[:2] == (name, kind)}
        random: list[float] = means[("random", "curve")].mean.tolist() if ("random", "curve") in means else []
        presets = []
        for name, rules in self.rules.items():
            classes = [
                {"class": c, "label": labels[c] if c < len(labels) else str(c), "n": m.n, "outside_inside": float(m.mean)}
                for c, m in sorted(of(name, "classes").items())
            ]
            curves = {order: mean.mean.tolist() for order, mean in of(name, "curves").items()}
            found = {metric: mean.as_data() for metric, mean in of(name, "metrics").items()}
            presets.append(
                {"preset": name, "rules": rules, "metrics": found, "curves": {**curves, "random": random}, "classes": classes}
            )
        samples = means[("random", "aopc")].n if ("random", "aopc") in means else 0
        return {
            "accuracy": None if correct is None else float(correct.mean),
            "samples": samples,
            "random": {"aopc": means[("random", "aopc")].as_data()} if samples else {},
            "presets": presets,
        }
