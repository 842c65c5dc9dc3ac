"""Files of texts: what is read, and what is refused in one sentence."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from onnxdtd.data.texts import Text, texts
from onnxdtd.errors import RequestError

READ = {
    "one.txt": ("two lines\nof one text\n", [Text("one", "two lines\nof one text")]),
    "a.csv": ("text,label\nfree call,spam\nhi,0\n", [Text("a_000", "free call", None, "spam"), Text("a_001", "hi", None, 0)]),
    "b.csv": ('id;comment\n1;"a; b"\n2;"two\nlines"\n', [Text("b_000", "a; b"), Text("b_001", "two\nlines")]),
    "c.csv": ("text\nwith, a comma\n", [Text("c", "with, a comma")]),
    "d.tsv": ("Sentence1\tsentence2\ty\nx\tz\t1\n", [Text("d", "x", "z", 1)]),
    "e.csv": ("text_a,text_b\np,q\n", [Text("e", "p", "q")]),
    "f.json": ('["one", "two"]', [Text("f_000", "one"), Text("f_001", "two")]),
    "g.json": ('[["p", "q"]]', [Text("g", "p", "q")]),
    "h.json": ('[{"text": "one", "label": 2, "more": [1]}]', [Text("h", "one", None, 2)]),
    "i.json": ('{"text": ["one"], "label": ["ham"]}', [Text("i", "one", None, "ham")]),
    "j.jsonl": ('{"text": "one"}\n\n{"text": "two"}\n', [Text("j_000", "one"), Text("j_001", "two")]),
    "k.jsonl": ('"one"\n', [Text("k", "one")]),
}
REFUSED = {
    "empty.txt": (b" \n", "it is empty"),
    "latin.txt": (b"caf\xe9", "is no text in UTF-8"),
    "binary.txt": (b"a\0b", "null characters"),
    "picture.png": (b"", "is no file of texts"),
    "names.csv": (b"first line\nsecond line\n", "no column is called 'text'"),
    "two.csv": (b"one,two\nwords,more\n", "no column is called 'text'"),
    "uneven.csv": (b"text,label\nfree, mobiles,1\n", "3 cells in row 1; quote texts"),
    "none.csv": (b"text,label\n", "there is none in it"),
    "unlabelled.csv": (b"text,label\na,\n", "it has no label"),
    "twice.csv": (b"text,Text \nfree,now\n", "two columns are called 'text'"),
    "null.json": (b'[{"text": "a", "label": null}]', "it has no label"),
    "half.json": (b'[{"text": "a", "label": 0.5}]', "0.5 is no label"),
    "infinite.json": (b'[{"text": "a", "label": 1e999}]', "inf is no label"),
    "list.json": (b'[{"text": "a", "label": [1]}]', "no label"),
    "numbers.json": (b"[[1, 2], [3, 4]]", "entry 0 is no text"),
    "bad.json": (b"[", "it is no JSON"),
    "mixed.json": (b'[{"text": "a"}, "b", {"y": "c"}]', "entry 2 has y, the first one text"),
    "columns.json": (b'{"text": ["a", "b"], "label": [1]}', "different lengths"),
    "plain.json": (b"3", "it is no list"),
}


@pytest.mark.parametrize("name", READ)
def test_texts_are_read(name: str, tmp_path: Path) -> None:
    content, wanted = READ[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert texts(tmp_path / name) == wanted


def test_a_column_of_texts_says_which_class_to_explain(tmp_path: Path) -> None:
    """It is no label then, whatever it is called."""
    (tmp_path / "a.csv").write_text("Target,text\nham,one\n,two\n")
    assert texts(tmp_path / "a.csv", "Target") == [Text("a_000", "one", target="ham"), Text("a_001", "two")]
    (tmp_path / "a.jsonl").write_text('{"text": "one", "want": 3, "label": 1}\n{"text": "two", "want": null, "label": 2}\n')
    assert [(text.label, text.target) for text in texts(tmp_path / "a.jsonl", "want")] == [(1, 3), (2, None)]
    with pytest.raises(RequestError, match=r"a\.csv: no texts .*--target-column none: it has no such column"):
        texts(tmp_path / "a.csv", "none")


@pytest.mark.parametrize("name", REFUSED)
def test_files_without_texts_are_refused(name: str, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=words) as caught:
        texts(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_an_empty_text_among_others_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["one", " ", "three"]')
    with pytest.raises(RequestError, match="text 1 is empty"):
        texts(tmp_path / "a.json")


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxdtd.data.texts.MOST", 10)
    (tmp_path / "a.txt").write_text("eleven byte")
    with pytest.raises(RequestError, match="longer than 10 bytes"):
        texts(tmp_path / "a.txt")


def test_standard_input_is_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("naïve\r\n".encode())))
    assert texts(Path("-")) == [Text("stdin", "naïve")]
