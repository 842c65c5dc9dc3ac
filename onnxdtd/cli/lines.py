"""Texts at the terminal: a line each in the colours of their relevance, and the words that count most."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text

from onnxdtd.cli.screen import indented, out

if TYPE_CHECKING:
    from onnxdtd.data.readings import Portion, Reading
    from onnxdtd.study.results import Result

BEFORE = 0.3  # of the line lies before the strongest word of a long text


def print_texts(results: Sequence[Result]) -> None:
    """Three lines for each text among the results."""
    for result in results:
        if result.reading is not None:
            out.print(f"{_plain(result.name)}, explained: {_plain(result.target_label)}")
            out.print(line(result.reading, out.width))
            sides = {"for": result.reading.pro, "against": result.reading.contra}
            told = [f"{side} {_listed(words)}" for side, words in sides.items() if words]
            indented("; ".join(told) or "no word is relevant", 2)


def line(read: Reading, width: int) -> Text:
    """What of a text fits into ``width`` columns, around its most relevant word."""
    from matplotlib.colors import to_hex

    from onnxdtd.data.readings import CUT, PLAIN, SPECIAL, TOKEN, is_dark, stretches, tints

    found = stretches(read)
    whole, strongest, most = Text(), 0, -1.0
    for stretch, tint in zip(found, tints(found), strict=False):
        if stretch.kind not in (TOKEN, PLAIN, CUT):
            whole.append(" " if whole and stretch.kind == SPECIAL else "")
            continue
        if stretch.kind == TOKEN and abs(stretch.relevance) > most:
            strongest, most = len(whole), abs(stretch.relevance)
        coloured = Style(color="white" if is_dark(tint) else "black", bgcolor=to_hex(tint))
        whole.append(_plain(stretch.text), coloured if stretch.kind == TOKEN else "dim" if stretch.kind == CUT else "")
    whole.rstrip()
    if whole.cell_len > width and strongest > (1 - BEFORE) * width:
        start = strongest - int(BEFORE * width)
        whole = Text("…") + whole[start:]
    whole.truncate(width, overflow="ellipsis")
    return whole


def _listed(words: Sequence[Portion]) -> str:
    return ", ".join(f"“{_plain(word.text)}” {word.relevance:+.2g}" for word in words)


def _plain(text: str) -> str:
    """A text on one line, without what a terminal would obey."""
    return "".join(letter for letter in re.sub(r"\s+", " ", text) if unicodedata.category(letter) not in ("Cc", "Cf", "Cs"))
