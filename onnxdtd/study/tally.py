"""What the rows of an evaluation add up to: means with their errors, one row at a time in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import stdtrit

from onnxdtd.study.measures import BADNESS
from onnxdtd.study.metrics import METRICS

RANDOM = "random order"
ROUNDING = 1e-5  # differences below that, of an area or of 1, are rounding: rules that agree on a model do so up to that
CONFIDENCE = 0.95


def apart(difference: Mapping[str, Any]) -> bool | None:
    """Is the mean of paired differences more than chance, by Student's t at 95 %? None where there are fewer than two pairs."""
    if difference["error"] is None:
        return None
    return bool(abs(difference["mean"]) > stdtrit(difference["n"] - 1, (1 + CONFIDENCE) / 2) * difference["error"])


def side(difference: Mapping[str, Any]) -> int | None:
    """1 where a mean difference is more than chance and above 0, -1 where below, 0 where it is not told from 0."""
    known = apart(difference)
    return None if known is None else 0 if not known else 1 if difference["mean"] > 0 else -1


def told(differences: Iterable[Mapping[str, Any]]) -> dict[Any, bool | None]:
    """Which values are told ``apart``, by the metric and the frozen set of two names."""
    return {(found["metric"], frozenset((found["preset"], found["other"]))): apart(found) for found in differences}


def paired(a: float, b: float, area: bool = False) -> float:
    """The difference of two values of one sample, of an ``area`` under a curve or of a share; 0 where only rounding tells them
    apart.
    """
    scale = max(abs(a), abs(b)) if area else 1.0
    return 0.0 if abs(a - b) <= ROUNDING * scale else a - b


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


def summed(values: Sequence[float | None]) -> dict[str, Any]:
    """Their mean, with its standard error."""
    whole = Mean()
    for value in values:
        if value is not None:
            whole.add(value)
    return whole.as_data()


class Pairs:
    """Of the differences between the values that two have of one sample, for all pairs and ``metrics``, of which ``areas`` are
    in units of the score.
    """

    def __init__(self, metrics: Iterable[str], areas: Collection[str]):
        self._metrics, self._areas = list(metrics), areas
        self._means: dict[tuple[str, str, str], Mean] = {}

    def add(self, known: Mapping[str, Mapping[str, float | None]]) -> None:
        """One sample: the metrics by name."""
        for a, b in combinations(known, 2):
            for metric in self._metrics:
                first, second = (known[name].get(metric) for name in (a, b))
                if first is not None and second is not None:
                    self._means.setdefault((metric, a, b), Mean()).add(paired(first, second, metric in self._areas))

    def as_data(self) -> list[dict[str, Any]]:
        """A row for each metric and pair: that of ``preset`` less that of ``other``."""
        return [{"metric": metric, "preset": a, "other": b, **mean.as_data()} for (metric, a, b), mean in self._means.items()]


class Tally:
    """What the rows of one model add up to."""

    def __init__(self) -> None:
        self.rules: dict[str, Any] = {}
        self._scores: int | None = None
        self._distinct: set[str] = set()
        self._means: dict[Any, Mean] = {}
        compared = {name: metric for name, metric in METRICS.items() if metric.best in BADNESS}
        self._pairs = Pairs(compared, {name for name, metric in compared.items() if metric.area})
        self._labels: dict[int, str] = {}

    def add(self, row: dict[str, Any]) -> None:
        """One sample."""
        self._labels[row["class"]] = row["label"]
        self._scores = row["scores"]
        self._distinct.add(row["digest"])
        self._note(("correct",), row["correct"])
        self._note(("random", "aopc"), row["random"]["aopc"])
        self._note(("random", "curve"), np.asarray(row["random"]["curve"]))
        for name, found in row["presets"].items():
            for metric, value in found["metrics"].items():
                self._note((name, "metrics", metric), value)
            for order in ("morf", "lerf"):
                self._note((name, "curves", order), np.asarray(found[order]))
            self._note((name, "classes", row["class"]), found["metrics"].get("outside_inside"))
            self._note((name, "empty"), found["empty"])
        known = {name: found["metrics"] for name, found in row["presets"].items()}
        self._pairs.add(known | {RANDOM: {"aopc": row["random"]["aopc"]}})

    def _note(self, key: Any, value: Any) -> None:
        if value is not None:
            self._means.setdefault(key, Mean()).add(value)

    def as_data(self) -> dict[str, Any]:
        """Without the model's name."""
        means, correct = self._means, self._means.get(("correct",))
        of = lambda name, kind: {key[2]: mean for key, mean in means.items() if key[:2] == (name, kind)}
        random: list[float] = means[("random", "curve")].mean.tolist() if ("random", "curve") in means else []
        presets = []
        for name, rules in self.rules.items():
            classes = [
                {"class": c, "label": self._labels[c], "n": m.n, "outside_inside": float(m.mean)}
                for c, m in sorted(of(name, "classes").items())
            ]
            curves = {order: mean.mean.tolist() for order, mean in of(name, "curves").items()}
            found = {metric: mean.as_data() for metric, mean in of(name, "metrics").items()}
            part = {"preset": name, "rules": rules, "metrics": found, "curves": {**curves, "random": random}}
            empty = means.get((name, "empty"))
            presets.append({**part, "classes": classes, "empty": round(float(empty.mean) * empty.n) if empty else 0})
        samples = means[("random", "aopc")].n if ("random", "aopc") in means else 0
        return {
            "accuracy": None if correct is None else float(correct.mean),
            "labelled": 0 if correct is None else correct.n,
            "samples": samples,
            "scores": self._scores,
            "copies": samples - len(self._distinct),
            "random": {"aopc": means[("random", "aopc")].as_data()} if samples else {},
            "presets": presets,
            "differences": self._pairs.as_data(),
        }
