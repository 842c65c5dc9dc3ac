"""Texts at the command line: what is printed, written and refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from rich.console import Console
from terminal import Ran
from tokenizers_made import bag, saved, scored, wordpiece

from onnxdtd.cli.lines import line
from onnxdtd.data.readings import reading
from onnxdtd.data.tokens import Passage, Token

ROOT = Path(__file__).resolve().parents[2]
PRESET = ("--preset", "gradient-x-input")
SCORES = scored()[:, 1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A classifier, its tokenizer and a text."""
    monkeypatch.chdir(tmp_path)
    onnx.save(bag(scored()), "reviews.onnx")
    saved(wordpiece(), tmp_path)
    Path("review.txt").write_text("FREE mobiles, <b>call</b>\n")
    return tmp_path


def results(folder: str = "explanations") -> list[dict[str, Any]]:
    return json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))["samples"]


def test_the_command_of_the_readme(run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the first of its texts."""
    (command,) = re.findall(r"^onnxdtd (explain .*--tokenizer.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    for word in (word for word in command.split() if word.startswith("models/")):
        data = (ROOT / word).read_bytes()
        Path(word).write_bytes(b"".join(data.splitlines(True)[:3]) if word.endswith(".csv") else data)
    done = run(*command.split())
    assert done.code == 0
    assert done.out.count("\n  for “") == 2
    assert all(result["reading"]["pro"] for result in results("texts"))


@pytest.mark.usefixtures("folder")
def test_a_text_and_its_words_are_shown(run: Callable[..., Ran]) -> None:
    done = run("explain", "reviews.onnx", "review.txt", "--tokenizer", "tokenizer.json", "--words", *PRESET)
    assert done.code == 0
    assert "\nFREE mobiles, <b>call</b>\n" in done.out
    assert "  for “FREE” +2, “mobiles” +1.8, “b” +1.1, “b” +1.1; against “call” -1.5" in done.out
    assert done.out.splitlines()[-1].endswith("texts.html and results.json are in explanations")
    page = (Path("explanations") / "texts.html").read_text(encoding="utf-8")
    assert "<b>call" not in page
    assert "mobiles</mark>" in page
    (result,) = results()
    assert [token["text"] for token in result["reading"]["tokens"]][:4] == ["[CLS]", "FREE", "mobiles", ","]


@pytest.mark.usefixtures("folder")
def test_the_numbers_are_those_of_the_tokens(run: Callable[..., Ran]) -> None:
    assert run("explain", "reviews.onnx", "review.txt", "--tokenizer", "tokenizer.json", *PRESET).code == 0
    (result,) = results()
    for token in result["reading"]["tokens"]:
        assert token["relevance"] == SCORES[token["id"]]
    assert result["relevance_sum"] == sum(token["relevance"] for token in result["reading"]["tokens"])
    assert result["predicted"] == 1


@pytest.mark.usefixtures("folder")
def test_several_texts_of_a_table_from_a_compiled_model(run: Callable[..., Ran]) -> None:
    Path("lines.csv").write_text("text,label\nfree call,1\nnow!,0\n")
    run("compile", "reviews.onnx", "-o", "explaining.onnx", *PRESET)
    done = run("explain", "explaining.onnx", "lines.csv", "--tokenizer", ".", "--save", "r.npz")
    assert done.code == 0
    assert [result["name"] for result in results()] == ["lines_000", "lines_001"]
    with np.load("r.npz") as arrays:
        np.testing.assert_array_equal(arrays["relevance/input_ids"][1], SCORES[[2, 8, 9, 3]])


@pytest.mark.usefixtures("folder")
def test_more_tokens_than_positions_are_cut_with_a_note(run: Callable[..., Ran]) -> None:
    """What the model takes is found by trying."""
    onnx.save(bag(scored(), most=5), "short.onnx")
    Path("long.txt").write_text("free call now free call now")
    done = run("explain", "short.onnx", "long.txt", "review.txt", "--tokenizer", "tokenizer.json", *PRESET)
    assert done.code == 0
    first, _ = results()
    assert first["flags"] == [{"code": "cut", "text": "3 tokens at the end of the text are left out: the model takes no more"}]
    assert [token["id"] for token in first["reading"]["tokens"]] == [2, 4, 7, 8, 3]


@pytest.mark.usefixtures("folder")
def test_padding_gets_nothing_and_the_rest_the_same(run: Callable[..., Ran]) -> None:
    onnx.save(bag(scored(), shape=("n", 20), most=20), "fixed.onnx")
    done = run("explain", "fixed.onnx", "review.txt", "--tokenizer", "tokenizer.json", *PRESET)
    assert "note: the model takes 20 tokens" in done.err
    (padded,) = results()
    tokens = padded["reading"]["tokens"]
    assert len(tokens) == 20
    assert {token["relevance"] for token in tokens if token["padding"]} == {0}
    assert [token["relevance"] for token in tokens if not token["padding"]] == SCORES[[t["id"] for t in tokens][:16]].tolist()[
        : sum(not token["padding"] for token in tokens)
    ]


@pytest.mark.usefixtures("folder")
def test_refusals_are_one_sentence(run: Callable[..., Ran]) -> None:
    onnx.save(bag(scored()[:10]), "smaller.onnx")
    Path("empty.txt").write_text(" \n")
    with_it = ("--tokenizer", "tokenizer.json", *PRESET)
    for args, words in (
        (("smaller.onnx", "review.txt", *with_it), "it is not the tokenizer of this model"),
        (("reviews.onnx", "review.txt", "--tokenizer", "review.txt", *PRESET), "review.txt: is no tokenizer"),
        (("reviews.onnx", "empty.txt", *with_it), "empty.txt: no texts can be read from it (it is empty)"),
        (("reviews.onnx", "review.txt", *PRESET), "give the tokenizer that it comes with"),
        ((ROOT / "models/digits_cnn.onnx", "review.txt", *with_it, "--range", 0, 1), "takes no ids of tokens"),
        (("reviews.onnx", "nowhere.txt", *with_it), "nowhere.txt: no such file"),
    ):
        done = run("explain", *args)
        assert done.code == 2
        assert words in done.err.splitlines()[-1]
        assert not Path("explanations/results.json").exists()


def passage(text: str) -> Passage:
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    return Passage("a", (text,), tuple(Token(text[a:b], i, a, b, 0, i) for i, (a, b) in enumerate(spans)))


def test_a_long_text_is_shown_around_its_strongest_word() -> None:
    given = passage("one\n" * 60 + "strong " + "two " * 60)
    values = np.full(len(given.tokens), 0.1)
    values[60] = -5
    shown = line(reading(given, values), 80)
    assert shown.cell_len <= 80
    assert shown.plain.startswith("…")
    assert "strong" in shown.plain
    (span,) = [span for span in shown.spans if shown.plain[span.start : span.end] == "strong"]
    assert span.style.bgcolor.name == "#130dbf"


def test_a_terminal_obeys_nothing_in_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    given = passage("\x1b[31mred \u202eevil [bold]x[/bold]")
    Console(width=80).print(line(reading(given, np.ones(3)), 80))
    assert capsys.readouterr().out == "[31mred evil [bold]x[/bold]\n"


@pytest.mark.usefixtures("folder")
def test_what_further_inputs_and_positions_get_is_told(run: Callable[..., Ran]) -> None:
    """Positions here get nothing, which is said as well."""
    assert run("explain", "reviews.onnx", "review.txt", "--tokenizer", "tokenizer.json", "--apart", *PRESET).code == 0
    (result,) = results()
    assert result["reading"]["others"] == {"position": 0}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["lines.csv", "lines.json"])
def test_texts_without_a_tokenizer_say_what_is_missing(run: Callable[..., Ran], name: str) -> None:
    Path("lines.csv").write_text("text,label\nfree,1\n")
    Path("lines.json").write_text('[{"text": "free"}]')
    done = run("explain", "reviews.onnx", name, *PRESET)
    assert done.code == 2
    assert "; of texts give --tokenizer FILE" in done.err


@pytest.mark.usefixtures("folder")
def test_the_sum_of_relevance_is_that_of_tokens_and_of_what_is_apart(run: Callable[..., Ran]) -> None:
    """By weights alone positions get half of it; the other half is not all that arrived."""
    done = run("explain", "reviews.onnx", "review.txt", "--tokenizer", "tokenizer.json", "--apart", "--preset", "dtd")
    (result,) = results()
    assert result["reading"]["others"]["position"] > 1
    assert result["relevance_sum"] == pytest.approx(result["logit"], rel=1e-5)
    assert "is not the logit" not in done.err


@pytest.mark.usefixtures("folder")
def test_without_the_library_of_pages_all_else_is_written(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxdtd.report.texts", "onnxdtd.report.report"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = run("explain", "reviews.onnx", "review.txt", "--tokenizer", "tokenizer.json", *PRESET)
    assert done.code == 0
    assert done.err.splitlines()[-1] == "note: jinja2 is not installed, and no page is written: pip install 'onnxdtd[text]'"
    assert sorted(path.name for path in Path("explanations").iterdir()) == ["results.json", "review.png"]


@pytest.mark.usefixtures("folder")
def test_concepts_of_a_text_are_drawn_below_one_another(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    """As heatmaps of ids, which have room for several."""
    drawn: list[Any] = []
    monkeypatch.setattr("onnxdtd.data.images.draw", lambda *args: drawn.append(args))
    onnx.save(bag(scored()), "reviews.onnx")
    options = ("--preset", "lrp-0", "--concepts", "s", "--top", 2)
    done = run("explain", "reviews.onnx", "review.txt", "--tokenizer", "tokenizer.json", *options)
    assert done.code == 0, done.err
    assert len(drawn[0][5]) == 2
