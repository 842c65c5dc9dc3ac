"""What the terminal shows: lines that break between words only, and tables that are as narrow as it is.

Behind a pipe sentences stay on one line each and names whole, for whoever searches them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

LEAST = (20, 12)  # columns of a name that has been shortened: the most, or if that does not do, the least
TOPIC = 16  # columns of what a finding is about
FRAME = 3  # columns that the lines around a cell take
OBEYED = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
NUMBER = re.compile(r"[-+~±]?[\d.].{,20}")  # what looks like this is never broken


class Screen(Console):
    """A console that takes nothing for markup and cuts nothing off."""

    def __init__(self, **how: Any) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False, emoji=False, **how)

    def print(self, *objects: Any, **how: Any) -> None:
        """As rich does it, but broken between words where somebody looks."""
        wrapped = {"no_wrap": False, "overflow": "fold"} if self.is_terminal else {}
        shown = [harmless(entry) if isinstance(entry, str) else entry for entry in objects]
        super().print(*shown, **{**wrapped, **how})


out, err = Screen(), Screen(stderr=True)


def harmless(text: str) -> str:
    """What names of a model or of a file say, with what a terminal would obey spelled out.

    >>> harmless("\\x1b[31mred"), harmless("two\\nlines")
    ('\\\\x1b[31mred', 'two\\nlines')
    """
    return text.translate(OBEYED)


def say(notes: Iterable[str]) -> None:
    """What a user should know, on standard error."""
    for note in filter(None, notes):
        err.print(f"note: {note}")


def indented(text: str, columns: int = 4) -> None:
    """A sentence that stands a little to the right, all its lines at a terminal."""
    said = harmless(text)
    out.print(Padding(Text(said), (0, 0, 0, columns), expand=False) if out.is_terminal else " " * columns + said)


def print_findings(rows: Iterable[tuple[str, str, str]]) -> None:
    """At a terminal: what each is about, what was found, and the numbers behind it."""
    table = Table.grid(Column(max_width=TOPIC), Column(ratio=1), padding=(0, 2, 0, 0), expand=True)
    for topic, finding, numbers in rows:
        said = Text.assemble((harmless(finding), "bold"), "; " if finding else "", harmless(numbers))
        table.add_row(Text(harmless(topic)), said)
    out.print(Padding(table, (0, 0, 0, 2)))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], shorten: bool = True) -> None:
    """A table on standard output, whose cells break between words. The first column is of names, of which long ones lose their
    middle if need be, where ``shorten`` allows it. Columns that do not fit follow in a second table of the same names.
    """
    columns, rows = [*map(harmless, columns)], [[*map(harmless, row)] for row in rows]
    least = [_least(cells) for cells in zip(columns, *rows, strict=True)]
    whole = [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]
    if out.is_terminal and shorten:
        room = out.width - 1 - sum(least[1:]) - FRAME * len(least)
        least[0] = min(least[0], max(LEAST[1], min(LEAST[0], room)))
    for chosen in _blocks(least, out.width - 1):
        room = out.width - 1 - FRAME * len(chosen)
        widths = _shared([least[i] for i in chosen], [whole[i] for i in chosen], room)
        table = Table(
            *(Column(columns[i], width=width) for i, width in zip(chosen, widths, strict=True)),
            width=sum(widths) + FRAME * len(widths) + 1,
        )
        for name, row in zip(_names([row[0] for row in rows], widths[0]), rows, strict=True):
            table.add_row(Text(name), *(Text(row[i]) for i in chosen[1:]))
        out.print(table)


def _names(names: Sequence[str], width: int) -> list[str]:
    """Names that fit, cut where most of them stay different, if possible so that twice as much is left of their ends."""
    heads = sorted(range(1, max(2, width - 1)), key=lambda head: abs(head - (width - 1) // 3))
    cut = lambda head: [" ".join(shortened(word, width, head) for word in name.split(" ")) for name in names]
    return max(map(cut, heads), key=lambda found: len(set(found)))


def shortened(name: str, width: int, head: int) -> str:
    """A name without its middle, with so much of its start.

    >>> shortened("/features/features.0/conv/conv.0/Conv", 20, 6), shortened("conv1", 20, 6)
    ('/featu…v/conv.0/Conv', 'conv1')
    """
    if cell_len(name) <= width:
        return name
    start, end = Text(name[:width]), name[-width:]
    start.truncate(head)
    while cell_len(end) > width - 1 - head:
        end = end[1:]
    return f"{start.plain}…{end}"


def _least(cells: Sequence[str]) -> int:
    """How narrow a column may be: as its longest word, or number with all that belongs to it."""
    return max(cell_len(part) for cell in cells for part in ([cell] if NUMBER.fullmatch(cell) else cell.split() or [""]))


def _blocks(least: Sequence[int], width: int) -> Iterator[list[int]]:
    """The columns of each of the tables: the first one, and as many as there is room for."""
    chosen = [0]
    for i, needed in enumerate(least[1:], 1):
        if len(chosen) > 1 and out.is_terminal and sum(least[c] + FRAME for c in chosen) + needed + FRAME > width:
            yield chosen
            chosen = [0]
        chosen.append(i)
    yield chosen


def _shared(least: Sequence[int], whole: Sequence[int], room: int) -> list[int]:
    """Widths that share ``room``: whoever wants little gets it, the others the same, and names whole if that is half of it."""
    wanted = [whole[0] if 2 * whole[0] <= room else least[0], *least[1:]]
    fewest = wanted if sum(wanted) <= room else least
    for level in range(max(whole), 0, -1):
        widths = [min(most, max(level, few)) for few, most in zip(fewest, whole, strict=True)]
        if sum(widths) <= room:
            return widths
    return list(least)
