"""The page of explained texts: every word in the colour of its relevance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from onnxdtd import __version__, atomic
from onnxdtd.data.readings import Portion, stretches
from onnxdtd.report.page import Cell, Marked, Page, Section, Table, below, pieces
from onnxdtd.report.report import rendered
from onnxdtd.report.sources import sources
from onnxdtd.study.wordlist import COLUMNS, WORDS, Word
from onnxdtd.study.words import counted

if TYPE_CHECKING:
    from onnxdtd.study.results import Result
    from onnxdtd.study.stream import Explained

PAGE = "texts.html"
MOST = 15  # words of a class, on either side


def write(path: Path, explained: Explained) -> None:
    """Write the page, all or nothing. Raises ``RequestError`` where the file cannot be written."""
    results = [result for result in explained.results if result.reading is not None]
    more = f", the first {len(results)} of them below" if explained.count > len(explained.results) else ""
    presets = list(dict.fromkeys(result.preset for result in results))
    alone = len({result.name for result in results}) == len(results)
    what = counted(explained.count, "text" if alone else "explanation")
    lead = f"{what}{more}, {'preset' if len(presets) == 1 else 'presets'} {', '.join(presets)}"
    summary = [("", explained.remarks)] if explained.remarks else []
    origin = sources({"provenance": explained.provenance} if explained.provenance else {})
    page = Page(
        "What was relevant in texts",
        lead,
        summary,
        [*_lists(explained.words), *([origin] if origin else [])],
        [],
        [marked(result, len(presets) > 1) for result in results],
        below([result.logit for result in results]),
    )
    atomic.write(path, rendered(page, __version__).encode("utf-8", "replace"))


def _lists(words: Sequence[Word]) -> list[Section]:
    """Of each class the words that speak most for it over all texts, and those most against it."""
    tables = []
    for label, group in groupby(words, key=lambda word: word.label):
        ranked = list(group)
        shown = [word for word in ranked[:MOST] if word.total > 0]
        shown += [word for word in ranked[-MOST:] if word.total < 0]
        numbers = [(word.texts, word.times, word.total, word.mean, word.pro, word.contra) for word in shown]
        cells = [[Cell(f"{number:.3g}") for number in row] for row in numbers]
        tables.append(Table(label, COLUMNS[2:], [(word.text, "", row) for word, row in zip(shown, cells, strict=True)]))
    text = f"Over all texts in which a class was explained; {WORDS} has all words. Sums are of relevance."
    return [Section("Words of all texts", [text], tables=tables, folded=True)] if tables else []


def marked(result: Result, several: bool = False) -> Marked:
    """One text, in pieces; ``several``: there are those of other presets."""
    assert result.reading is not None
    score = "" if result.score is None else f" ({result.score:.3g})"
    head = f"{result.predicted_label or 'no prediction'}{score}"
    head += "" if result.target == result.predicted else f", explained: {result.target_label}"
    head += f", under {result.preset}" if several else ""
    sums = f"Σ relevance = {result.relevance_sum:.4g}" + ("" if result.logit is None else f", score = {result.logit:.4g}")
    further = [f"{name} got {value:.4g}" for name, value in result.reading.others.items()]
    sides = {"for": result.reading.pro, "against": result.reading.contra}
    notes = [*further, *(flag.text for flag in result.flags)]
    return Marked(
        result.name,
        head,
        sums,
        notes,
        pieces(stretches(result.reading)),
        [(side, _words(words)) for side, words in sides.items() if words],
    )


def _words(words: Sequence[Portion]) -> list[tuple[str, str]]:
    return [(word.text, f"{word.relevance:+.3g} ({abs(word.share):.0%})") for word in words]
