"""Help: it fits 80 columns, says under which head an option belongs, and its examples work."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import MODELS
from rich.cells import cell_len
from terminal import COMMAND, Ran

from onnxdtd.method.folder import defined
from onnxdtd.method.toml import Library
from onnxdtd.request import EXPLAINED, FURTHER, INPUTS, RULES

NAMES = sorted(COMMAND.commands)


def examples(name: str) -> list[list[str]]:
    """The examples of a command, as words behind ``onnxdtd``."""
    head, *lines = COMMAND.commands[name].epilog.replace("\\\n", "").splitlines()
    assert head == ("Example:" if len(lines) == 1 else "Examples:")
    assert all(cell_len(line) < 79 for line in COMMAND.commands[name].epilog.splitlines())
    words = [shlex.split(line) for line in lines]
    assert {line[0] for line in words} == {"onnxdtd"}
    return [line[1:] for line in words]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which examples find the bundled models and may write."""
    (tmp_path / "models").symlink_to(MODELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_80_columns_and_breaks_no_word(name: str, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    narrow = run(name, "--help")
    monkeypatch.setenv("COLUMNS", "400")
    wide = run(name, "--help")
    assert (narrow.code, narrow.err, wide.code) == (0, "", 0)
    assert all(cell_len(line) <= 80 for line in narrow.out.splitlines())
    assert words(narrow.out) <= words(wide.out), "a word in two is two words that the wide page does not have"
    assert "<bool>" not in narrow.out
    assert examples(name)


def words(text: str) -> set[str]:
    """All that stands between spaces and the lines of boxes."""
    return set(re.sub(r"[╭╮╰╯─│]", " ", text).split())


def test_options_stand_under_their_heads(run: Callable[..., Ran]) -> None:
    shown = run("compile", "--help").out
    heads = re.findall(r"╭─ (.+?) ─", shown)
    assert heads == ["Arguments", "Options", EXPLAINED, RULES, INPUTS, FURTHER], "nothing is drawn"
    assert re.search(r"─ Rules ─[^╰]*--preset [^╰]*--set [^╰]*╰", shown)


def test_commands_stand_under_their_heads(run: Callable[..., Ran]) -> None:
    shown = run("--help").out
    assert re.findall(r"╭─ (.+?) ─", shown) == ["Options", "Explain", "Check", "Choose and fit rules"]
    assert "--range 0,1" in shown
    assert "<bool>" not in shown


def all_examples() -> Iterator[tuple[str, list[str]]]:
    for name in NAMES:
        for words in examples(name):
            yield name, words


@pytest.mark.parametrize(("name", "words"), [*all_examples()], ids=lambda given: given if isinstance(given, str) else "")
def test_examples_can_be_parsed_and_name_files_that_there_are(name: str, words: list[str], checkout: Path) -> None:
    COMMAND.commands[words[0]].make_context(name, words[1:])
    assert all((checkout / word).exists() for word in words if word.startswith("models/"))


@pytest.mark.parametrize("name", ["compile", "inspect", "verify", "rules"])
def test_examples_work(name: str, checkout: Path, run: Callable[..., Ran]) -> None:
    for words in examples(name):
        done = run(*words)
        assert done.code == 0, done.err


@pytest.mark.parametrize("given", [["0,255"], ["0", "255"], ["=0,255"]], ids=str)
def test_two_numbers_have_a_comma_or_a_space_between_them(given: list[str], checkout: Path, run: Callable[..., Ran]) -> None:
    option = ["--range", *given] if given[0][0] != "=" else [f"--range{given[0]}"]
    found = run("inspect", "models/digits_cnn.onnx", *option, "--json")
    assert found.code == 0, found.err
    assert [step["rule"] for step in found.json["steps"] if step["first"]] == ["zB"]


@pytest.mark.parametrize("given", ["1", "0,1,2", "0;1"])
def test_a_range_is_two_numbers(given: str, checkout: Path, run: Callable[..., Ran]) -> None:
    done = run("inspect", "models/digits_cnn.onnx", "--range", given)
    assert (done.code, done.out) == (2, "")
    assert "0,1" in done.err or "separated by commas" in done.err


def test_batches_are_written_with_commas_too(checkout: Path, run: Callable[..., Ran]) -> None:
    for given in (["--batch", "1,2"], ["--batch", "1", "--batch", "2"]):
        assert [row["batch"] for row in run("bench", "models/digits_mlp.onnx", *given, "--json").json] == [1, 2]
    assert "write whole numbers" in run("bench", "models/digits_mlp.onnx", "--batch", "one").err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("onnxdtd insp", ["inspect"]),
        ("onnxdtd compile --preset lrp-e", ["lrp-epsilon"]),
        ("onnxdtd evaluate --preset deepl", ["deeplift-rescale", "deeplift-revealcancel", "deeplift-genomics"]),
        ("onnxdtd rules z", ["z", "z+", "zB"]),
        ("onnxdtd compile --contrast r", ["runner-up", "rest"]),
        ("onnxdtd evaluate --score p", ["probability"]),
        ("onnxdtd compile --led", ["--ledger"]),
        ("onnxdtd compile models/dig", [""]),  # files: the shell knows them
    ],
)
def test_shells_complete_what_may_follow(
    line: str, expected: list[str], run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_ONNXDTD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}.items():
        monkeypatch.setenv(name, value)
    assert run().out.removesuffix("\n").split("\n") == expected


def test_names_are_completed_by_what_the_library_reads() -> None:
    library = Library()
    assert (defined("preset"), defined("rule")) == (list(library.presets), list(library.rules))
