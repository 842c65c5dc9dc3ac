"""The page of explained texts: whole, by itself, and safe from what texts contain."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from onnxdtd.data.readings import reading
from onnxdtd.data.tokens import Passage, Token
from onnxdtd.report.texts import PAGE, write
from onnxdtd.study.results import Flag, Result

EVIL = "\"><img src=x onerror=alert(1)> <script>alert('{{7*7}}')</script>\n你好 &amp; שלום"


def page(text: str, folder: Path) -> str:
    words = [Token(m[0], i, *m.span(), 0, i) for i, m in enumerate(re.finditer(r"\S+", text))]
    tokens = (Token("[CLS]", 2, special=True), *words, Token("[PAD]", 0, padding=True))
    values = np.array([7.0, *([1, -0.5] * len(words))[: len(words)], 0])
    read = reading(Passage("a", (text,), tokens), values)
    flags = [Flag("cut", "<note>")]
    result = Result("<name>", "a.png", 1, "<spam>", 0.9, 0, "ham", 2.0, 1.5, -0.5, 7.0, "attnlrp", flags=flags)
    results = [Result(**{**result.__dict__, "reading": read}), result]
    told = {"run": {"date": "2026-11-27T00:17:44+00:00", "command": EVIL}, "data": {"files": 1, "sha256": "4d", "samples": 2}}
    told |= {"models": [{"name": "<m>.onnx", "source_sha256": "1a"}], "presets": ["attnlrp"], "explained": {}, "bounds": None}
    told |= {"version": "0.3.0", "runtime": {"onnxruntime": "1.31.0", "provider": "CPUExecutionProvider"}}
    known = {"metadata": {"preset": "attnlrp"}, "provenance": told}
    explained: Any = SimpleNamespace(count=2, results=results, remarks=[], words=[], **known)
    write(folder / PAGE, explained)
    return (folder / PAGE).read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects the text of the passage, and all elements and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self._inside = self._inside or dict(attrs).get("class") == "passage"

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "div"

    def handle_data(self, data: str) -> None:
        self.text += data if self._inside else ""


def test_a_text_stays_a_text(tmp_path: Path) -> None:
    """Every letter is there as it was given, none is HTML, and nothing is loaded or run."""
    read = Reader()
    read.feed(page(EVIL, tmp_path))
    assert read.text == "[CLS] +7" + EVIL + "[PAD] +0"
    assert not {"img", "script", "link", "spam", "name", "note"} & {*read.elements}
    assert not {name for name in read.attributes if name.startswith("on")} | {"src"} & read.attributes
    assert read.elements.count("article") == 1


def test_a_word_says_its_relevance_and_its_share(tmp_path: Path) -> None:
    written = page("free call", tmp_path)
    assert '<mark title="+1 (11.8%)" style="background:#991300;color:#fff">free</mark>' in written
    assert re.search(r'<mark title="-0.5 \(5.9%\)" style="background:#4[89]7[23]e[ef];color:#000">call</mark>', written)
    assert '<small dir="ltr" title="+7 (82.4%)">[CLS] +7</small>' in written
    assert "explained: ham" in written
    assert "<td>2 samples of 1 file</td>" in written
    assert "&lt;m&gt;.onnx" in written
    assert "negative" not in written
    assert "note: &lt;note&gt;" in written
