"""Tables as people keep them: the cells of ``.csv``, ``.tsv`` and ``.parquet`` by row and column, as numbers or strings."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxdtd import bounded
from onnxdtd.errors import OnnxdtdError, RequestError, suggestion
from onnxdtd.labels import class_label, listed

PARQUET = ".parquet"
SUFFIXES = (".csv", ".tsv", PARQUET)
MOST = 2**30  # bytes of a file
CELL = 8  # bytes of a number
MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "<na>", "null", "none"))  # what a cell without a value has, in lower case
TRUE_OR_FALSE = {"true": 1.0, "false": 0.0}
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}([,' \xa0\u202f]\d{3})+(\.\d+)?")


@dataclass(frozen=True)
class Sheet:
    """A table: ``names`` of its columns, none where it has no line of them; ``columns`` [n] of strings, or of float64 where the
    file itself has numbers; ``lines``, where each row stands in the file, counted as ``unit`` says.
    """

    path: Path
    names: tuple[str, ...]
    columns: tuple[np.ndarray, ...]
    lines: Sequence[int]
    unit: str = "line"

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.lines)

    def called(self, column: int) -> str:
        """What to call a column in a message."""
        return f"column {self.names[column]!r}" if self.names else f"column {column + 1}"

    def is_called(self, column: int, name: str) -> bool:
        """Is that the name of a column, but for its capitals?"""
        return bool(self.names) and self.names[column].lower() == name.lower()

    def at(self, row: int, column: int) -> str:
        """Where a cell is, for a message."""
        return f"{self.path}: {self.unit} {self.lines[row]}, {self.called(column)}"

    def place(self, name: str, option: str = "") -> int:
        """The column of a name, or of one that is the same but for signs that are no letters; ``option`` asked for it. Raises
        ``RequestError`` where there is none, or several are called so.
        """
        if not self.names:
            raise RequestError(f"{self.path}: has no names in its first line, and so no column {name!r}")
        same = [place for place, known in enumerate(self.names) if known == name]
        places = same or [place for place, known in enumerate(self.names) if plain(known) == plain(name)]
        if not places:
            what = suggestion(name, self.names) or f"; it has {listed(self.names)}"
            wants = "" if option else ", which the model takes"
            raise RequestError(f"{f'{option}{name}: ' if option else ''}{self.path} has no column {name!r}{wants}{what}")
        if len(places) > 1:
            numbers = " and ".join(str(place + 1) for place in places)
            raise RequestError(f"{self.path}: columns {numbers} are both called {self.names[places[0]]!r}; rename one of them")
        return places[0]

    def numbers(self, column: int, missing: bool) -> np.ndarray:
        """A column as float64, NaN where a cell has no value. Raises ``RequestError`` for what is no number, and where values
        are not allowed to be ``missing``.
        """
        cells = self.columns[column]
        values = cells if cells.dtype.kind == "f" else self._parsed(column)
        if (endless := np.flatnonzero(np.isinf(values))).size:
            raise RequestError(f"{self.at(int(endless[0]), column)}: is infinite, which no model takes")
        if not missing and (gaps := np.flatnonzero(np.isnan(values))).size:
            more = f", and {gaps.size - 1} more in this column" if gaps.size > 1 else ""
            raise RequestError(
                f"{self.at(int(gaps[0]), column)}: has no value{more}, and the model takes no missing ones: fill them in, or "
                "leave these rows out"
            )
        return values

    def _parsed(self, column: int) -> np.ndarray:
        """Cells as numbers."""
        cells = self.columns[column]
        try:
            return cells.astype(np.float64)
        except ValueError:
            return np.array([self._number(row, column, cell) for row, cell in enumerate(cells.tolist())], np.float64)

    def _number(self, row: int, column: int, cell: str) -> float:
        word = cell.strip().lower()
        if word in MISSING:
            return np.nan
        if word in TRUE_OR_FALSE:
            return TRUE_OR_FALSE[word]
        try:
            return float(word)
        except ValueError:
            way = "; write a point, not a comma, in numbers" if DECIMAL_COMMA.fullmatch(word) else ""
            if THOUSANDS.fullmatch(word):
                way = "; write numbers without what separates their thousands, and with a point where they have decimals"
            raise RequestError(f"{self.at(row, column)}: {cell!r:.60} is no number{way}") from None

    def has_number(self, column: int) -> bool:
        """Is there any in a column?"""
        cells = self.columns[column]
        return cells.dtype.kind == "f" or any(map(is_number, cells.tolist()))

    def words(self, column: int, known: Collection[str] = ()) -> np.ndarray:
        """A column as strings, an empty one where a cell has no value; what the model has for a word is one."""
        cells = self.columns[column]
        if cells.dtype.kind == "f":
            return np.array(["" if np.isnan(value) else f"{value:.15g}" for value in cells], object)
        gaps = [cell.strip().lower() in MISSING and cell not in known for cell in cells.tolist()]
        return np.where(gaps, "", cells).astype(object)

    def labels(self, column: int | None) -> list[int | str | None] | None:
        """The classes that a column has, None where a cell has no value, or where there is no such column."""
        if column is None:
            return None
        cells = self.columns[column].tolist()
        without = [np.isnan(cell) if isinstance(cell, float) else cell.strip().lower() in MISSING for cell in cells]
        return [None if no else class_label(cell) for cell, no in zip(cells, without, strict=True)]

    def called_rows(self, column: int | None) -> list[str]:
        """What the samples are called: as a column says, or by the file and their number."""
        stem, count = self.path.stem, len(self)
        if column is None:
            return [stem] if count == 1 else [f"{stem}_{i:03d}" for i in range(count)]
        return [word or f"{stem}_{i:03d}" for i, word in enumerate(self.words(column).tolist())]


def is_table(path: Path) -> bool:
    """Is a file a table by its name?"""
    return path.suffix.lower() in SUFFIXES


def sheet(path: Path) -> Sheet:
    """The table in a file. Raises ``RequestError`` where none can be read, and ``OnnxdtdError`` without the library."""
    return _parquet(path) if path.suffix.lower() == PARQUET else _lines(path)


def _lines(path: Path) -> Sheet:
    """Of text, with or without names in its first line; what separates the cells is what that line has most of."""
    try:
        text = bounded.text(path, MOST)
        first = next((line for line in text.split("\n") if line.strip()), "")
        separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
        if separator not in first and len(first.split()) > 1 and all(map(is_number, first.split())):
            separator = " "
        rows = list(_rows(text, separator))
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: is no text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except (OSError, csv.Error) as error:
        raise RequestError(f"{path}: no table can be read from it ({error})") from None
    if not rows:
        raise RequestError(f"{path}: is empty")
    names = tuple(cell.strip() for cell in rows[0][1]) if _has_names([cells for _, cells in rows]) else ()
    body = rows[1:] if names else rows
    width = len(rows[0][1])
    for line, cells in body:
        if len(cells) != width:
            above = "names" if names else "in the first"
            comma = all(map(_is_whole, cells)) and len(cells) == 2 * width
            way = "write a point, not a comma, in numbers" if comma else f"quote cells that have a {separator!r} in them"
            raise RequestError(f"{path}: line {line} has {len(cells)} cells, but there are {width} {above}; {way}")
    if not body:
        raise RequestError(f"{path}: has a line of names, {listed(names)}, and no other")
    columns = tuple(np.array(cells, object) for cells in zip(*(cells for _, cells in body), strict=True))
    return Sheet(path, names, columns, [line for line, _ in body])


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Where each row that has something ends, and its cells."""
    before = csv.field_size_limit(MOST)  # which holds for everybody
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        for cells in lines:
            if len(cells) > 1 or "".join(cells).strip():
                yield lines.line_num, cells
    finally:
        csv.field_size_limit(before)


def _has_names(rows: Sequence[Sequence[str]]) -> bool:
    """Are there names in the first row? A word is one where all that stands below it are numbers; in a row without any number
    all are.
    """
    first = [cell.strip() for cell in rows[0]]
    if not any(map(is_number, first)):
        return True
    words = [place for place, cell in enumerate(first) if not is_number(cell) and cell.lower() not in MISSING]
    below = [[row[place] for row in rows[1:] if place < len(row)] for place in words]
    return any(column and all(is_number(cell) or cell.strip().lower() in MISSING for cell in column) for column in below)


def is_number(cell: str) -> bool:
    """Is what stands in a cell one?"""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_whole(cell: str) -> bool:
    return cell.strip().lstrip("-").isdecimal()


def _parquet(path: Path) -> Sheet:
    """Of numbers and strings with their types."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise OnnxdtdError("pyarrow, which reads .parquet, is not installed: pip install 'onnxdtd[data]'") from None
    try:
        with bounded.opened(path) as file:
            known = pyarrow.parquet.ParquetFile(file)
            cells = known.metadata.num_rows * known.metadata.num_columns
            bounded.check_packing("the table", cells * CELL, path.stat().st_size)  # a value that repeats takes no room at all
            found = known.read()
    except Exception as error:  # pyarrow raises a dozen kinds of them over damaged files
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RequestError(f"{path}: no table can be read from it ({reason[0]})") from None
    if not found.num_rows:
        raise RequestError(f"{path}: has no rows")
    columns = tuple(_typed(column) for column in found.columns)
    return Sheet(path, tuple(found.column_names), columns, range(1, found.num_rows + 1), "row")


def _typed(column: Any) -> np.ndarray:
    """A column of Arrow's as strings, or as float64."""
    import pyarrow as pa

    plain = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    if any(kind(plain) for kind in kinds):
        return np.array([np.nan if value is None else float(value) for value in column.to_pylist()], np.float64)
    return np.array(["" if value is None else str(value) for value in column.to_pylist()], object)


def plain(name: str) -> str:
    """A name as skl2onnx writes it, who knows letters, digits and _ only.

    >>> plain("bill length (mm)"), plain("2nd")
    ('bill_length__mm_', '_2nd')
    """
    return re.sub(r"^(?=\d)", "_", re.sub(r"[^\w\[\]]", "_", name))
