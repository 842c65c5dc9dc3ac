"""The features of many rows: sums of parts are those of the whole, and say what matters and in which direction."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxdtd.data.features import Described, Features, described
from onnxdtd.data.swarm import draw, spread, tints
from onnxdtd.study.ranking import FEATURES, ROWS, Moments, Ranking, of_unit, pictured, written

RNG = np.random.default_rng(0)
COUNT = 60
X = RNG.normal(size=(COUNT, 2)) + [2000.0, 0.0]
X[::7, 1] = np.nan
HUE = RNG.choice(["red", "blue", ""], COUNT)
ONE_HOT = np.stack([HUE == "red", HUE == "blue"], axis=1) * 1.0
R = np.column_stack([3 * (X[:, 0] - 2000), -np.nan_to_num(X[:, 1]), ONE_HOT * [2.0, -1.0]]) + RNG.normal(size=(COUNT, 4)) / 9
CLASS = np.where(np.arange(COUNT) % 3, "cat", "dog")
MADE = described(["year", "size", "hue=red", "hue=blue"], ["year", "size", "hue"], {})


def samples(rows: range, features: Features = MADE) -> list[Any]:
    """Explanations, as a unit of work has them."""
    found = []
    for i in rows:
        others = {"hue": np.array([HUE[i]], object)}
        sample = Described(features, np.concatenate([X[i], ONE_HOT[i]]), others)
        result = SimpleNamespace(preset="p", target_label=str(CLASS[i]))
        found.append(SimpleNamespace(number=i, made=[SimpleNamespace(result=result, described=sample, relevance=R[i])]))
    return found


def ranking(size: int) -> Ranking:
    """Of all rows, in units of so many, through JSON."""
    found = Ranking()
    for start in range(0, COUNT, size):
        unit = of_unit(samples(range(start, min(start + size, COUNT))), COUNT)
        found.add(json.loads(json.dumps(unit)))
    return found


@pytest.mark.parametrize("size", [COUNT, 16, 1])
def test_sums_of_units_are_those_of_the_whole(size: int) -> None:
    """The relevance of a column is the sum of that of its categories; the year is far from 0, and loses no digits by that."""
    found = {(row.explained, row.feature): row for row in ranking(size).ranked()}
    sums = np.column_stack([R[:, :2], R[:, 2:].sum(1)])
    assert ranking(size).names == ("year", "size", "hue")
    for name in ("cat", "dog"):
        mine = name == CLASS
        means = np.abs(sums[mine]).mean(0)
        for i, feature in enumerate(("year", "size", "hue")):
            row = found[name, feature]
            assert row.rows == mine.sum()
            assert row.size == pytest.approx(means[i], rel=1e-9)
            assert row.share == pytest.approx(means[i] / means.sum(), rel=1e-9)
            assert row.mean == pytest.approx(sums[mine, i].mean(), rel=1e-9)
            if feature == "hue":
                assert (row.correlation, row.high, row.low) == (None, "red", "blue")
                continue
            there = mine & ~np.isnan(X[:, i])
            assert row.correlation == pytest.approx(np.corrcoef(X[there, i], sums[there, i])[0, 1], rel=1e-6)
    assert found["cat", "year"].said.endswith("↑1.00")
    assert "↓0.9" in found["cat", "size"].said
    assert found["dog", "hue"].said.endswith("↑red ↓blue")
    assert replace(found["cat", "year"], mean=212.4, correlation=None).said == "+212", "without an exponent"


def test_shares_over_all_classes() -> None:
    sizes = np.abs(np.column_stack([R[:, :2], R[:, 2:].sum(1)])).sum(0)
    np.testing.assert_allclose(ranking(16).shares("p"), sizes / sizes.sum(), rtol=1e-9)


def test_nothing_is_ranked_of_terms_of_one_row_and_of_other_names() -> None:
    assert of_unit(samples(range(1)), 1) is None
    assert of_unit(samples(range(3), described(["good", "bad", "a", "b"], [], {})), COUNT) is None
    nameless = samples(range(3))
    nameless[1].made[0].described = None
    assert of_unit(nameless, COUNT) is None
    found = ranking(COUNT)
    found.add(
        of_unit(samples(range(3), described(["other", "size", "hue=red", "hue=blue"], ["other", "size", "hue"], {})), COUNT)
    )
    assert found.groups["p", "cat"].moments.count == (CLASS == "cat").sum()


def test_what_never_changes_has_no_direction() -> None:
    same = Moments.of(np.ones((9, 1)), np.arange(9.0)[:, None])
    assert np.isnan(same.correlation()).all()
    assert np.isnan(Moments.of(np.full((9, 1), np.nan), np.ones((9, 1))).correlation()).all()


def test_a_table_of_features() -> None:
    first, *rows = csv.reader(io.StringIO(written(ranking(16).ranked()).decode()))
    assert first == ["preset", "explained", "feature", "rows", "mean |R|", "share", "mean R", "correlation", "high", "low"]
    assert len(rows) == 6
    sizes = [float(row[4]) for row in rows if row[1] == "cat"]
    assert sizes == sorted(sizes, reverse=True)
    assert FEATURES.endswith(".csv")


def test_a_long_table_is_drawn_by_some_of_its_rows() -> None:
    """Some by lot, the same in every run."""
    many = samples(range(COUNT)) * 30
    for i, one in enumerate(many):
        many[i] = SimpleNamespace(number=i, made=one.made)
    units = [of_unit(many[i : i + 90], len(many)) for i in range(0, len(many), 90)]
    found = Ranking()
    for unit in units:
        found.add(unit)
    assert sum(len(group.rows) for group in found.groups.values()) == ROWS
    *_, below = pictured(found, "p", 2)
    assert below.startswith(f"p   {ROWS} of {len(many)} rows, by lot; per cent: of Σ |relevance|; the other 1 feature has ")


def test_the_picture(tmp_path: Any) -> None:
    title, names, panels, below = pictured(ranking(16), "p", 2)
    assert [panel.title for panel in panels] == ["cat (40)", "dog (20)"]
    assert names[0].startswith("year  ")
    assert below.startswith("p   60 rows; per cent: of Σ |relevance|; the other 1 feature has ")
    assert np.isnan(panels[0].values[:, names.index(names[1])]).any()
    draw(tmp_path / "summary.png", title, names, panels, below)
    assert (tmp_path / "summary.png").read_bytes()[:4] == b"\x89PNG"


def test_points_and_their_colours() -> None:
    """Points at one place are moved aside by equal steps, no two to one place; colours follow the rank of a value."""
    places = spread(np.zeros(21), 1.0)
    assert len({*places.round(6)}) == 21
    assert np.abs(places).max() == pytest.approx(0.36)
    colours = tints(np.array([1.0, 1e6, 2.0, np.nan]))
    low, high, middle, missing = (tuple(colour) for colour in colours)
    assert len({low, high, middle, missing}) == 4
    np.testing.assert_allclose(colours, tints(np.array([1.0, 3.0, 2.0, np.nan])))
