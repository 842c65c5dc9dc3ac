"""The page of explained texts: every word in the colour of its relevance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_hex

from onnxdtd import __version__, atomic
from onnxdtd.data.readings import CUT, PADDING, PLAIN, SPECIAL, TOKEN, Portion, Stretch, is_dark, stretches, tints
from onnxdtd.report.page import Marked, Page, Piece
from onnxdtd.report.report import rendered
from onnxdtd.study.words import counted

if TYPE_CHECKING:
    from onnxdtd.study.explain import Explained
    from onnxdtd.study.results import Result

PAGE = "texts.html"


def write(path: Path, explained: Explained) -> None:
    """Write the page, all or nothing. Raises ``RequestError`` where the file cannot be written."""
    results = [result for result in explained.results if result.reading is not None]
    lead = f"{counted(len(results), 'text')}, preset {explained.metadata['preset']}"
    summary = [("", explained.remarks)] if explained.remarks else []
    page = Page("What was relevant in texts", lead, summary, [], [], [marked(result) for result in results])
    atomic.write(path, rendered(page, __version__).encode("utf-8", "replace"))


def marked(result: Result) -> Marked:
    """One text, in pieces."""
    assert result.reading is not None
    found = stretches(result.reading)
    score = "" if result.score is None else f" ({result.score:.3g})"
    head = f"{result.predicted_label or 'no prediction'}{score}"
    head += "" if result.target == result.predicted else f", explained: {result.target_label}"
    sums = f"Σ relevance = {result.relevance_sum:.4g}" + ("" if result.logit is None else f", score = {result.logit:.4g}")
    further = [f"{name} got {value:.4g}" for name, value in result.reading.others.items()]
    sides = {"for": result.reading.pro, "against": result.reading.contra}
    pieces = [_piece(stretch, tint) for stretch, tint in zip(found, tints(found), strict=False)]
    notes = [*further, *(flag.text for flag in result.flags)]
    return Marked(result.name, head, sums, notes, pieces, [(side, _words(words)) for side, words in sides.items() if words])


def _piece(stretch: Stretch, tint: np.ndarray) -> Piece:
    """A stretch as the page has it."""
    said = f"{stretch.relevance:+.4g} ({abs(stretch.share):.1%})"
    if stretch.kind == TOKEN:
        colour = f"background:{to_hex(tuple(tint))};color:{'#fff' if is_dark(tint) else '#000'}"
        return Piece("mark", stretch.text, said, colour)
    if stretch.kind in (SPECIAL, PADDING):
        return Piece("small", f"{stretch.text} {stretch.relevance:+.2g}".strip(), said)
    return Piece({CUT: "del", PLAIN: ""}[stretch.kind], stretch.text, "left out" if stretch.kind == CUT else "")


def _words(words: Sequence[Portion]) -> list[tuple[str, str]]:
    return [(word.text, f"{word.relevance:+.3g} ({abs(word.share):.0%})") for word in words]
