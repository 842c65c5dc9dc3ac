"""Charts for a page: words stay words, colours are the page's, and nothing has a name that another chart may have."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from onnxdtd.report.charts import BASELINE, LINES, TEXT, Chart, chart, stacks, style


def drawn(*lines: tuple[int, list[float], list[float | None]], **options: object) -> tuple[Chart, list[str]]:
    """A chart, and the descriptions of its lines; those of the grid left out."""
    made = chart("curves", list(lines), "replaced, in %", "score", **options)  # type: ignore[arg-type]
    paths = [p.attrib for p in ElementTree.fromstring(made.svg).iter("path")]
    return made, [p["d"] + "|" + p["style"] for p in paths if "--line-" in p["style"]]


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_chart_is_text_and_lines_in_the_colours_of_the_page() -> None:
    made, lines = drawn((style(0), [0, 50, 100], [1.0, 0.5, 0.2]), (BASELINE, [0, 50, 100], [1.0, 0.9, 0.8]))
    words = [text.text for text in ElementTree.fromstring(made.svg).iter("text")]
    assert {"replaced, in %", "score", "0", "100"} <= set(words)
    assert [re.findall(r"var\(--line-\d+\)", line) for line in lines] == [["var(--line-1)"], ["var(--line-0)"]]
    assert not re.search(r"#[0-9a-f]{6}", made.svg)
    assert TEXT not in made.svg
    assert not re.search(r"\bid=|<defs|<use|<style|clip-path|http", made.svg)


def test_the_label_is_escaped() -> None:
    made = chart('a<b>&"c', [(1, [0, 1], [0.0, 1.0])], "x", "y")
    assert ElementTree.fromstring(made.svg).get("aria-label") == 'a<b>&"c: y over x'


def test_a_missing_value_is_passed_over() -> None:
    _, (line,) = drawn((1, [0, 1, 2], [1.0, None, 0.0]))
    assert line.partition("|")[0].split()[::3] == ["M", "L"]


def test_a_single_value_is_a_dot() -> None:
    _, (line,) = drawn((2, [0, 1, 2], [None, 0.5, None]))
    path, _, look = line.partition("|")
    numbers = re.findall(r"[\d.]+", path)
    assert numbers[:2] == numbers[2:]
    assert "stroke-linecap: round" in look


def test_no_value_is_no_line() -> None:
    assert drawn((1, [0, 1], [None, None]))[1] == []


@pytest.mark.parametrize(("options", "ticks"), [({"whole": True}, {"1", "2", "3"}), ({"logarithmic": True}, {"0.01", "1"})])
def test_the_axes(options: dict[str, bool], ticks: set[str]) -> None:
    made, _ = drawn((1, [1, 2, 3], [1.0, 0.1, 0.001]), **options)
    words = {text.text for text in ElementTree.fromstring(made.svg).iter("text")}
    assert ticks <= words
    assert "1.5" not in words or not options.get("whole")


def test_styles_differ() -> None:
    """Sixteen presets can be told apart, neighbours by their dashes alone, and all are seen on white and on black."""
    styles = [LINES[style(i)] for i in range(16)]
    assert len(set(styles)) == 16
    assert LINES[BASELINE] not in styles
    assert all(a[2] != b[2] for a, b in pairwise(styles))
    for light, dark, _ in LINES:
        assert 1.05 / (luminance(light) + 0.05) > 4
        assert (luminance(dark) + 0.05) / (luminance("#14171b") + 0.05) > 4


def test_the_same_lines_give_the_same_bytes() -> None:
    lines = [(1, [0, 1, 2], [1.0, 0.5, 0.2])]
    assert chart("a", lines, "x", "y") == chart("a", lines, "x", "y")


def test_stacks_reach_as_far_as_their_sums() -> None:
    """Up by what is above 0, down by what is below, a place each; and nothing for a part that is 0 everywhere."""
    made = stacks("balance", [(1, [60.0, 50.0]), (2, [40.0, -25.0]), (3, [0.0, 0.0])], "layer", "%")
    paths = [p.attrib for p in ElementTree.fromstring(made.svg).iter("path") if "--line-" in p.get("style", "")]
    assert [re.findall(r"--line-(\d)", path["style"]) for path in paths] == [["1"], ["2"], ["2"]]
    heights = [[float(y) for y in re.findall(r"[\d.]+ ([\d.]+)", path["d"])] for path in paths]
    top, whole, zero = min(heights[0]), min(heights[1]), max(heights[0])
    assert (zero - whole) / (zero - top) == pytest.approx(100 / 60, rel=1e-3)
    assert (max(heights[2]) - zero) / (zero - top) == pytest.approx(25 / 60, rel=1e-3)
