"""The features of many rows: how much each matters, and in which direction. Sums of units of work, which can be merged."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from onnxdtd.data.look import Swarm
from onnxdtd.study.words import amount

FEATURES, SUMMARY = "features.csv", "summary.png"
MOST_FEATURES = 2000  # of which a summary is made
SHOWN_FEATURES, SHOWN_CLASSES = 10, 4  # at the terminal
ROWS, CELLS = 500, 100_000  # that are kept to be drawn: so many rows, or fewer where they are long
MOST_VALUES = 50  # different strings of a feature that are told apart
SEED = 0

Key = tuple[str, str]  # a preset, and the class that is explained


@dataclass
class Moments:
    """Of each feature and of so many ``count`` rows, float64 [features]: Σ |R|, Σ R; of the rows where its value is a number
    these values with what belongs to them: how many, means, and sums of products of what is left of them without the means.
    """

    count: int
    sizes: np.ndarray
    sums: np.ndarray
    known: np.ndarray
    mean_x: np.ndarray
    mean_r: np.ndarray
    xx: np.ndarray
    xr: np.ndarray
    rr: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, r: np.ndarray) -> Moments:
        """Those of rows [rows, features] of values, NaN where they are none, and relevance."""
        there = ~np.isnan(x)
        known = there.sum(axis=0)
        mean = lambda v: np.where(there, v, 0.0).sum(axis=0) / np.maximum(known, 1)
        mean_x, mean_r = mean(x), mean(r)
        dx, dr = (np.where(there, v - m, 0.0) for v, m in ((x, mean_x), (r, mean_r)))
        products = ((dx * dx).sum(axis=0), (dx * dr).sum(axis=0), (dr * dr).sum(axis=0))
        return cls(len(x), np.abs(r).sum(axis=0), r.sum(axis=0), known, mean_x, mean_r, *products)

    def __add__(self, other: Moments) -> Moments:
        """Those of both together (Chan, Golub and LeVeque 1983)."""
        n = np.maximum(self.known + other.known, 1)
        share, weight = other.known / n, self.known * other.known / n
        dx, dr = other.mean_x - self.mean_x, other.mean_r - self.mean_r
        return Moments(
            self.count + other.count,
            self.sizes + other.sizes,
            self.sums + other.sums,
            self.known + other.known,
            self.mean_x + dx * share,
            self.mean_r + dr * share,
            self.xx + other.xx + dx * dx * weight,
            self.xr + other.xr + dx * dr * weight,
            self.rr + other.rr + dr * dr * weight,
        )

    def correlation(self) -> np.ndarray:
        """Of value and relevance, NaN where one of them never changes."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found: np.ndarray = self.xr / np.sqrt(self.xx * self.rr)
        return np.where(np.isfinite(found) & (self.known > 2), np.clip(found, -1, 1), np.nan)


@dataclass
class ClassRows:
    """The rows of one class that is explained: their moments; by feature what relevance each string has, (rows, Σ R); and some
    rows with their values and their relevance.
    """

    moments: Moments
    strings: dict[int, dict[str, tuple[int, float]]] = field(default_factory=dict)
    rows: list[tuple[list[float | str | None], list[float]]] = field(default_factory=list)

    @classmethod
    def of(cls, values: Sequence[Sequence[float | str | None]], r: np.ndarray, kept: Sequence[bool]) -> ClassRows:
        """Of rows; those that are ``kept`` stay as they are."""
        numbers = np.array([[value if isinstance(value, float) else np.nan for value in row] for row in values])
        strings: dict[int, dict[str, tuple[int, float]]] = {}
        for row, shares in zip(values, r.tolist(), strict=True):
            for i, value in enumerate(row):
                if isinstance(value, str):
                    _count(strings.setdefault(i, {}), value, 1, shares[i])
        rows = [(list(row), shares) for row, shares, keep in zip(values, r.tolist(), kept, strict=True) if keep]
        return cls(Moments.of(numbers, r), strings, rows)

    def __add__(self, other: ClassRows) -> ClassRows:
        """Both together."""
        strings = {i: dict(found) for i, found in self.strings.items()}
        for i, found in other.strings.items():
            for word, (count, total) in found.items():
                _count(strings.setdefault(i, {}), word, count, total)
        return ClassRows(self.moments + other.moments, strings, self.rows + other.rows)

    def as_data(self) -> dict[str, Any]:
        """As JSON has it."""
        moments = {name: value if isinstance(value, int) else value.tolist() for name, value in asdict(self.moments).items()}
        return {"moments": moments, "strings": {str(i): found for i, found in self.strings.items()}, "rows": self.rows}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> ClassRows:
        """The same again of what ``as_data`` gave."""
        moments: dict[str, Any] = {name: np.array(value) for name, value in data["moments"].items() if name != "count"}
        strings = {int(i): {word: (n, s) for word, (n, s) in found.items()} for i, found in data["strings"].items()}
        return cls(Moments(data["moments"]["count"], **moments), strings, [(row[0], row[1]) for row in data["rows"]])


def _count(known: dict[str, tuple[int, float]], word: str, count: int, total: float) -> None:
    """Add to the rows and the relevance of a word, unless there are too many words."""
    if word in known or len(known) < MOST_VALUES:
        n, s = known.get(word, (0, 0.0))
        known[word] = n + count, s + total


@dataclass(frozen=True)
class Ranked:
    """A feature in the rows of a class: ``size``, the mean of |R|, and what ``share`` of that of all features this is; the mean
    of R; the ``correlation`` of its value and R; ``high`` and ``low``: the string with the highest mean of R, and the lowest.
    """

    preset: str
    explained: str
    feature: str
    rows: int
    size: float
    share: float
    mean: float
    correlation: float | None
    high: str | None = None
    low: str | None = None

    @property
    def said(self) -> str:
        """Mean and direction in a few letters."""
        mean = amount(self.mean, 2, "+")
        if self.high is not None:
            return f"{mean} ↑{self.high} ↓{self.low}"
        if self.correlation is None:
            return mean
        return f"{mean} {'↓' if self.correlation < 0 else '↑'}{abs(self.correlation):.2f}"


@dataclass
class Ranking:
    """The features of a run by preset and explained class."""

    names: tuple[str, ...] = ()
    groups: dict[Key, ClassRows] = field(default_factory=dict)

    def add(self, data: Mapping[str, Any] | None) -> None:
        """Take in what ``of_unit`` gave; what has other features is left out."""
        if data is None or (self.names and tuple(data["names"]) != self.names):
            return
        self.names = tuple(data["names"])
        for preset, explained, found in data["groups"]:
            group, key = ClassRows.from_data(found), (preset, explained)
            self.groups[key] = self.groups[key] + group if key in self.groups else group

    def presets(self) -> list[str]:
        """Those of which there are groups."""
        return list(dict.fromkeys(preset for preset, _ in self.groups))

    def shares(self, preset: str) -> np.ndarray:
        """What part of Σ |R| over the rows of all classes each feature has, float64 [features]."""
        sizes = np.sum([group.moments.sizes for (own, _), group in self.groups.items() if own == preset], axis=0)
        return np.asarray(sizes / (sizes.sum() or 1.0))

    def ranked(self) -> list[Ranked]:
        """Class by class, the most important first."""
        found = []
        for (preset, explained), group in self.groups.items():
            moments, total = group.moments, float(group.moments.sizes.sum()) or 1.0
            correlation = moments.correlation()
            for i in np.argsort(-moments.sizes, kind="stable").tolist():
                by_word = sorted((s / n, word) for word, (n, s) in group.strings.get(i, {}).items())
                size, mean = (float(sums[i]) / moments.count for sums in (moments.sizes, moments.sums))
                r = None if np.isnan(correlation[i]) else float(correlation[i])
                ends = (by_word[-1][1], by_word[0][1]) if len(by_word) > 1 else (None, None)
                share = float(moments.sizes[i]) / total
                found.append(Ranked(preset, explained, self.names[i], moments.count, size, share, mean, r, *ends))
        return found


class Shown(Protocol):
    """A sample by its number, with its explanations."""

    @property
    def number(self) -> int:
        """Its place in the run."""

    @property
    def made(self) -> Sequence[Any]:
        """A ``Presented`` for each way."""


def of_unit(found: Sequence[Shown], count: int) -> dict[str, Any] | None:
    """The sums of the explanations of some samples, of so many in all, as JSON; None where there are no features that could be
    ranked: they are terms, have no names or different ones, or are too many.
    """
    described = [made.described for one in found for made in one.made]
    if count < 2 or not described or None in described:
        return None
    names = described[0].features.names
    if len(names) > MOST_FEATURES or any(d.features.are_terms or d.features.names != names for d in described):
        return None
    drawn = _drawn(count, len(names))
    parts: dict[Key, list[tuple[list[float | str | None], np.ndarray, bool]]] = {}
    for one in found:
        for made in one.made:
            values = [made.described.value(i) for i in range(len(names))]
            row = values, made.described.features.sums(made.relevance), one.number in drawn
            parts.setdefault((made.result.preset, made.result.target_label), []).append(row)
    groups = []
    for key, rows in parts.items():
        values, shares, kept = zip(*rows, strict=True)
        groups.append([*key, ClassRows.of(values, np.stack(shares), kept).as_data()])
    return {"names": list(names), "groups": groups}


@lru_cache(maxsize=1)
def _drawn(count: int, features: int) -> frozenset[int]:
    """The numbers of the samples that are kept to be drawn, of so many: some of them by lot, the same in every run."""
    most = min(count, ROWS, max(CELLS // max(features, 1), 20))
    return frozenset(np.random.default_rng(SEED).choice(count, most, replace=False).tolist())


def written(ranked: Sequence[Ranked]) -> bytes:
    """A table of features as a ``.csv``."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["preset", "explained", "feature", "rows", "mean |R|", "share", "mean R", "correlation", "high", "low"])
    for row in ranked:
        numbers = (row.size, row.share, row.mean, row.correlation)
        cells = ["" if number is None else f"{number:.6g}" for number in numbers]
        lines.writerow([row.preset, row.explained, row.feature, row.rows, *cells, row.high, row.low])
    return file.getvalue().encode()


def pictured(ranking: Ranking, preset: str, most: int) -> tuple[str, list[str], list[Swarm], str]:
    """A title, the names of the ``most`` important features, a panel for each class, and what stands below."""
    shares = ranking.shares(preset)
    order = np.argsort(-shares, kind="stable")[:most]
    groups = {explained: group for (own, explained), group in ranking.groups.items() if own == preset}
    panels = []
    for explained, group in sorted(groups.items(), key=lambda item: -item[1].moments.count):
        if not group.rows:
            continue
        values = [[value if isinstance(value, float) else np.nan for value in row] for row, _ in group.rows]
        relevance = np.array([shares for _, shares in group.rows])
        panels.append(Swarm(f"{explained} ({group.moments.count})", np.array(values)[:, order], relevance[:, order]))
    count, drawn = (sum(n) for n in zip(*((g.moments.count, len(g.rows)) for g in groups.values()), strict=True))
    names = [f"{ranking.names[i]}  {shares[i]:.0%}" for i in order]
    of = f"{drawn} of {count} rows, by lot" if drawn < count else f"{count} rows"
    left = len(ranking.names) - len(order)
    others = f"feature{'s have' if left > 1 else ' has'} {1 - shares[order].sum():.0%}"
    rest = f"; the other {left} {others}" if left else ""
    return "What matters", names, panels, f"{preset}   {of}; per cent: of Σ |relevance|{rest}"
