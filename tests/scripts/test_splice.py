"""Tables of measurements: what the scripts write, and that every page of results says how it came about."""

from __future__ import annotations

import doctest
import re
import sys
from pathlib import Path

import pytest
import splice

PAGES = sorted(splice.RESULTS.glob("*.md"))
BROKEN = ["", "<!-- a: begin -->", "<!-- a: end --> <!-- a: begin -->", "<!-- a: begin --><!-- a: end -->" * 2]


def test_examples() -> None:
    assert doctest.testmod(splice) == doctest.TestResults(0, 1)


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "above\n<!-- a: begin -->\n{}\n<!-- a: end -->\nbelow <!-- b: begin -->\n<!-- b: end -->\n"
    page.write_text(text.format("old"), encoding="utf-8")
    for new in ("several\nlines", "one", "one"):
        splice.splice(page, "a", new)
        assert page.read_text(encoding="utf-8") == text.format(new)


def test_a_page_that_is_not_there_is_made(tmp_path: Path) -> None:
    splice.splice(tmp_path / "page.md", "a", "text")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == "<!-- a: begin -->\ntext\n<!-- a: end -->\n"


@pytest.mark.parametrize("text", BROKEN)
def test_a_page_without_one_pair_of_markers_is_left_alone(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match="there must be one line <!-- a: begin -->"):
        splice.splice(page, "a", "new")
    assert page.read_text(encoding="utf-8") == text


def test_command_date_and_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = str(splice.ROOT / "scripts" / "check" / "balance.py")
    monkeypatch.setattr(sys, "argv", [script, "--json", "a file"])
    monkeypatch.setattr(splice, "processor", lambda: "Some Processor")
    splice.write(tmp_path / "page.md", "a", "| table |", ("pytest", "no-such-package"))
    line = (tmp_path / "page.md").read_text(encoding="utf-8").splitlines()[1]
    command = r"`scripts/check/balance\.py --json 'a file'`"
    machine = r"Some Processor, \d+ cores; Python 3\.\d+\.\d+, .*numpy [\d.]+"
    assert re.fullmatch(rf"{command}, \d{{4}}-\d\d-\d\d, {machine}, pytest {re.escape(pytest.__version__)}\.", line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_its_script_its_date_and_its_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# ")
    (written,) = re.findall(rf"<!-- {page.stem}: begin -->\n(.*?)<!-- {page.stem}: end -->", text, re.S)
    head = written.partition("\n\n")[0]
    (script,) = set(re.findall(r"`(scripts/[\w/]+\.py)", head))
    assert f'splice.option(parser, "{page.stem}")' in (splice.ROOT / script).read_text(encoding="utf-8")
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", head)
    assert re.search(r"\bcores\b|GPU|NVIDIA", head)
    assert "|---|" in written


def test_every_script_that_writes_has_its_page() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (splice.ROOT / "scripts").rglob("*.py")]
    names = {name for text in texts for name in re.findall(r'splice\.option\(parser, "(\w+)"\)', text)}
    assert names == {page.stem for page in PAGES}
