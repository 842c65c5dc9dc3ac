"""What the terminal shows at 80 columns: no word and no number in two, and names whole behind a pipe."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from rich.cells import cell_len

from onnxdtd.cli import screen

Show = Callable[..., list[str]]
NAME = "/features/features.0/conv/conv.0/Conv"


@pytest.fixture
def shows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    """The lines of a table at a terminal of 80 columns, or behind a pipe."""

    def lines(columns: Sequence[str], rows: Sequence[Sequence[str]], terminal: bool = True) -> list[str]:
        made = screen.Screen(width=80, force_terminal=terminal, color_system=None)
        monkeypatch.setattr(screen, "out", made)
        screen.print_table(columns, rows)
        shown = capsys.readouterr().out.splitlines()
        assert not terminal or all(cell_len(line) <= 80 for line in shown)
        return shown

    return lines


def test_a_name_is_shortened_in_the_middle_and_a_number_never(shows: Show) -> None:
    row = [NAME, "Conv+BatchNormalization", "1.23 ± 0.045", "[1,144,56,56]>=0", "0.123456"]
    text = "\n".join(shows(["node", "operators", "mean", "input", "cost"], [row]))
    assert re.search(r"│ /\S*…\S*/Conv +│", text)
    for cell in row[1:]:
        assert cell in text
    assert NAME in "\n".join(shows(["node", *"abcd"], [row], False)), "whole behind a pipe"


def test_shortened_names_stay_different_where_they_can(shows: Show) -> None:
    wide = ["Conv+BatchNormalization+Relu+Other", "[batch,16,8,8]>=0", "17.7%"]
    names = [f"/0/0.{i}/body/body.0/body.0.0/Conv" for i in range(4)]
    lines = shows(["node", "operators", "input", "cost"], [[name, *wide] for name in names])
    shown = [line.split("│")[1].strip() for line in lines if "…" in line]
    assert len(set(shown)) == 4, shown


def test_sentences_break_between_words_and_short_columns_stay(shows: Show) -> None:
    sentence = "what is not linear hands on relevance in proportion to what it took in, whatever that was before"
    lines = shows(["preset", "what it does", "source"], [["epsilon-alpha2beta1-flat", sentence, "Bach et al. 2015"]])
    words = [word for line in lines[3:-1] for word in line.strip("│").split() if word != "│"]
    assert sorted(words) == sorted(["epsilon-alpha2beta1-flat", *sentence.split(), "Bach", "et", "al.", "2015"])


def test_columns_that_do_not_fit_follow_with_the_same_names(shows: Show) -> None:
    heads = [f"metric{i}" for i in range(8)]
    lines = shows(["preset", *heads], [["dtd", *["0.123 ± 0.0045"] * 8], ["random order", *[""] * 8]])
    tables = "\n".join(lines).split("┏")[1:]
    assert len(tables) == 2
    assert [head for table in tables for head in re.findall(r"metric\d", table)] == heads
    assert all("│ dtd" in table and "│ random" in table for table in tables)
    assert len("\n".join(shows(["preset", *heads], [["dtd", *["0.123 ± 0.0045"] * 8]], False)).split("┏")) == 2


def test_names_that_are_to_be_typed_stay_whole(shows: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = [f"metric{i}" for i in range(4)]
    rows = [["lrp-alpha2beta1-and-more", *["0.123 ± 0.004"] * 4]]
    assert "…" in "\n".join(shows(["preset", *heads], rows))
    monkeypatch.setattr(screen, "print_table", partial(screen.print_table, shorten=False))
    assert "…" not in "\n".join(shows(["preset", *heads], rows))


def test_lines_break_between_words_at_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "relevance " * 12 + "[batch]"
    for terminal, count in ((True, 2), (False, 1)):
        screen.Screen(width=80, force_terminal=terminal, color_system=None).print(sentence)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == count
        assert " ".join(" ".join(lines).split()) == sentence


def test_findings_stand_beside_what_they_are_about(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(screen, "out", screen.Screen(width=60, force_terminal=True, color_system=None))
    screen.print_findings(
        [("Class", "depends on it", "by so much that it has to go on in another line"), ("Size", "", "so small")]
    )
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "  Class  depends on it; by so much that it has to go on in",
        "         another line",
        "  Size   so small",
    ]


def test_what_a_terminal_would_obey_is_spelled_out(
    shows: Show, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names come from models and files of others: one could colour, clear or rename a terminal, or hide a line."""
    evil = "\x1b[31mred\x1b]0;title\x07\x9b2J\r\b"
    for terminal in (True, False):
        text = "\n".join(shows(["node", evil], [["a", evil], [evil, "b"]], terminal))
        monkeypatch.setattr(screen, "out", screen.Screen(width=80, force_terminal=terminal, color_system=None))
        screen.out.print(f"explained: {evil}")
        screen.indented(evil)
        screen.err.print(evil)
        captured = capsys.readouterr()
        for said in (text, captured.out, captured.err):
            assert not set(said) & {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))}
        assert captured.out.count("\\x1b[31mred\\x1b]0;title\\x07\\x9b2J\\x0d\\x08") == 2
