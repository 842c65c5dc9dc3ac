"""Bars of features: which, in which order, and what stands beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from onnxdtd.data.bars import bars, size
from onnxdtd.data.features import Described, described
from onnxdtd.data.look import Look, Scene


def drawn(
    relevance: np.ndarray, features: Described | None = None, most: int = 15, **look: Any
) -> tuple[list[str], list[float], str]:
    """The names beside the bars, from above, their lengths, and what stands below."""
    x = np.arange(float(relevance.size)) if features is None else features.x
    scene = Scene(x, {"relevance": relevance}, features, Look(features=most, **look))
    figure = Figure(size(scene))
    bars(figure, scene)
    (axes,) = figure.axes
    assert axes.yaxis_inverted()
    assert sum(axes.get_xlim()) == 0
    return (
        [label.get_text() for label in axes.get_yticklabels()],
        [bar.get_width() for bar in axes.patches],
        axes.get_xlabel(),
    )


def test_the_largest_first_and_the_others_in_one() -> None:
    relevance = np.linspace(-1, 1, 101)[:100]
    names, sizes, below = drawn(relevance)
    assert names[:2] == ["feature 0 = 0", "feature 1 = 1"]
    assert len(names) == 16
    assert names[-1] == "the other 85"
    order = np.argsort(-np.abs(relevance), kind="stable")
    np.testing.assert_allclose(sizes, [*relevance[order[:15]], relevance[order[15:]].sum()], atol=1e-12)
    assert below == "relevance"


def test_as_many_as_are_asked_for() -> None:
    names, sizes, _ = drawn(np.array([0.5, -2, 1, 0.25]), most=2)
    assert (names, sizes) == (["feature 1 = 1", "feature 2 = 2", "the other 2"], [-2, 1, 0.75])


def test_what_has_no_relevance_has_no_bar() -> None:
    relevance = np.zeros(100)
    relevance[[7, 60]] = 1, -2
    terms = Described(described([f"term {i}" for i in range(100)], [], {}), (relevance != 0) * 1.0)
    assert drawn(relevance, terms) == (["term 60 = 1", "term 7 = 1"], [-2, 1], "relevance, that of the others is 0")
    assert drawn(np.zeros(3))[:2] == (["feature 0 = 0"], [0])


def test_categories_of_a_column_are_one_bar_in_words_of_the_file() -> None:
    """One column has the model's own name, one the file's; the value is the word, the relevance that of all categories."""
    features = described(["a_b", "hue=red", "hue=blue"], ["a_b", "hue"], {"a_b": ["a b"]})
    x, others = np.array([3750.0, 0, 1]), {"hue": np.array(["blue"], object)}
    assert drawn(np.array([1.0, -3, 0.5]), Described(features, x, others))[:2] == (["hue = blue", "a b = 3750"], [-2.5, 1])
    without = Described(features, np.array([np.nan, 0, 0]), {"hue": np.array([""], object)})
    assert drawn(np.array([1.0, -3, 0.5]), without)[0] == ["hue = missing", "a b = missing"]


def test_categories_stand_below_their_column_on_request() -> None:
    """Those without relevance do not."""
    features = described(["age", "hue=red", "hue=blue", "hue="], ["age", "hue"], {})
    x, others = np.array([3.0, 0, 1, 0]), {"hue": np.array(["blue"], object)}
    relevance = np.array([1.0, -3, 0.5, 0])
    assert drawn(relevance, Described(features, x, others), terms=True)[:2] == (
        ["hue = blue", "red  ", "blue  ", "age = 3"],
        [-2.5, -3, 0.5, 1],
    )


def test_long_names_leave_room_for_bars() -> None:
    (name, *_), _, _ = drawn(np.ones(1), Described(described(["x"], ["x"], {"x": ["long " * 20]}), np.ones(1)))
    assert len(name) <= 44
    assert name.endswith("= 1")


@pytest.mark.parametrize(
    ("value", "words"),
    [(3750.0, "3750"), (0.0, "0"), (-7.0, "-7"), (0.1184, "0.1184"), (1234.5, "1234.5"), (1e20, "1e+20"), (np.nan, "missing")],
)
def test_values_in_their_own_units(value: float, words: str) -> None:
    assert drawn(np.ones(1), Described(described(["x"], ["x"], {}), np.array([value])))[0] == [f"x = {words}"]
