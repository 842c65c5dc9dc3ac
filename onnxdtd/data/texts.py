"""Texts as people keep them: in files of one, in tables with a column of them, in lists; with labels where there are some."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from onnxdtd import bounded
from onnxdtd.errors import RequestError
from onnxdtd.labels import class_label

SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".jsonl")
STDIN = Path("-")
MOST = 8 * bounded.MOST_TEXT  # bytes of a file
NAMES = ("text", "sentence", "content", "message", "review", "document")  # of the column of texts
PAIRS = (("text_a", "text_b"), ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"))
LABEL_NAMES = ("label", "labels", "y", "target", "targets", "class", "classes")


@dataclass(frozen=True)
class Text:
    """One text, with the second one where pairs are classified, its true class where that is known, and which to explain."""

    name: str
    text: str
    pair: str | None = None
    label: int | str | None = None
    target: int | str | None = None


def texts(path: Path, target: str | None = None) -> list[Text]:
    """What is in a file: the whole of a ``.txt``, or of standard input for ``-``, is one text, but for the end of its last
    line; a ``.csv`` or ``.tsv`` has names in its first line and a text in each other, a ``.jsonl`` one in each line,
    a ``.json`` a list of them: strings, pairs of strings, or objects with names.

    A column is called as in ``NAMES`` or ``PAIRS``, labels as in ``LABEL_NAMES``; of other names it is the
    only column of words; ``target`` is the one that says which class to explain. Raises ``RequestError`` where no texts can be
    read, or one is empty.
    """
    kind = path.suffix.lower()
    if path != STDIN and kind not in SUFFIXES:
        raise RequestError(f"{path}: is no file of texts; give {', '.join(SUFFIXES)}, or - for standard input")
    try:
        whole = _standard_input(sys.stdin.buffer) if path == STDIN else bounded.text(path, MOST)
        if "\0" in whole:
            raise ValueError("it has null characters, which no text has")
        alone = path == STDIN or kind == ".txt"
        columns = {"text": [whole.removesuffix("\n")]} if alone else _columns(kind, whole)
        found = _chosen(columns, "stdin" if path == STDIN else path.stem, None if alone or target is None else target.lower())
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: is no text in UTF-8 ({error.reason} at byte {error.start})") from None
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise RequestError(f"{path}: no texts can be read from it ({error})") from None
    return found


@lru_cache(1)  # it can be read once
def _standard_input(stream: BinaryIO) -> str:
    """All of it, up to the limit of a file."""
    data = stream.read(MOST + 1)
    if len(data) > MOST:
        raise ValueError(f"longer than {MOST} bytes")
    return data.decode("utf-8-sig").replace("\r\n", "\n")


def _columns(kind: str, whole: str) -> dict[str, list[Any]]:
    """Cells by the names of their columns, in lower case."""
    if kind in (".csv", ".tsv"):
        return _table(whole)
    try:
        rows = [json.loads(line) for line in whole.split("\n") if line.strip()] if kind == ".jsonl" else json.loads(whole)
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None
    if isinstance(rows, Mapping) and all(isinstance(column, list) for column in rows.values()):
        return {str(name).strip().lower(): column for name, column in rows.items()}
    if isinstance(rows, Mapping):
        rows = [rows]
    if not isinstance(rows, list):
        raise ValueError("it is no list")
    named = [_named(row) for row in rows]
    uneven = next((i for i, row in enumerate(named) if row.keys() != named[0].keys()), None)
    if uneven is not None:
        raise ValueError(f"entry {uneven} has {', '.join(named[uneven])}, the first one {', '.join(named[0])}")
    return {name: [row[name] for row in named] for name in (named[0] if named else ())}


def _named(row: Any) -> dict[str, Any]:
    """An entry of a list by name."""
    if isinstance(row, Mapping):
        return {str(name).strip().lower(): value for name, value in row.items()}
    if isinstance(row, list) and len(row) == 2:
        return dict(zip(PAIRS[0], row, strict=True))
    return {"text": row}


def _table(whole: str) -> dict[str, list[Any]]:
    """The columns of a table by the names in its first line, which also tells what separates them; long texts are no error."""
    first = whole.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    before = csv.field_size_limit(MOST)  # which holds for everybody
    try:
        lines = csv.reader(io.StringIO(whole, newline=""), delimiter=separator if separator in first else "\x1f")
        rows = [row for row in lines if "".join(row).strip()]
    finally:
        csv.field_size_limit(before)
    names, *rows = rows or [[]]
    uneven = next((i for i, row in enumerate(rows, 1) if len(row) != len(names)), None)
    if uneven is not None:
        cells = len(rows[uneven - 1])
        raise ValueError(f"{len(names)} names, but {cells} cells in row {uneven}; quote texts that have {separator!r}")
    called = [name.strip().lower() for name in names]
    if twice := next((name for i, name in enumerate(called) if name and name in called[:i]), None):
        raise ValueError(f"two columns are called {twice!r}")
    return {name: list(cells) for name, *cells in zip(called, *rows, strict=True)}


def _chosen(columns: Mapping[str, Sequence[Any]], stem: str, target: str | None = None) -> list[Text]:
    """The texts of a table."""
    if target is not None and target not in columns:
        raise ValueError(f"--target-column {target}: it has no such column")
    name, pair = _texts_in({key: column for key, column in columns.items() if key != target})
    labels = next((columns[key] for key in LABEL_NAMES if key in columns and key != target), None)
    targets = [None] * len(columns[name]) if target is None else columns[target]
    counts = {key: len(column) for key, column in columns.items()}
    if len({*counts.values()}) > 1:
        raise ValueError(f"its columns have different lengths: {counts}")
    if not columns[name]:
        raise ValueError("there is none in it")
    called = [stem] if len(columns[name]) == 1 else [f"{stem}_{i:03d}" for i in range(len(columns[name]))]
    found = []
    for i, called_so in enumerate(called):
        pieces = [columns[key][i] for key in (name, pair) if key is not None]
        if not all(isinstance(piece, str) for piece in pieces):
            raise ValueError(f"entry {i} is no text")
        if not all(piece.strip() for piece in pieces):
            raise ValueError("it is empty" if len(called) == 1 else f"text {i} is empty")
        true = None if labels is None else class_label(labels[i])
        wanted = None if targets[i] is None or not str(targets[i]).strip() else class_label(targets[i])
        found.append(Text(called_so, pieces[0], pieces[1] if pair else None, true, wanted))
    return found


def _texts_in(columns: Mapping[str, Sequence[Any]]) -> tuple[str, str | None]:
    """The names of the column with texts, and of that with what belongs to each, if there is one."""
    for first, second in PAIRS:
        if first in columns and second in columns:
            return first, second
    name = next((name for name in NAMES if name in columns), None)
    if name is None and len(columns) > 1:  # a single one may have a text where its name should be
        words = [key for key, column in columns.items() if key not in LABEL_NAMES and any(map(_is_words, column))]
        name = words[0] if len(words) == 1 else None
    if name is None:
        raise ValueError(f"no column is called 'text'; the first line, or the names, are {', '.join(columns) or 'none'}"[:300])
    return name, None


def _is_words(cell: Any) -> bool:
    """Has it a letter, and is it no number?"""
    try:
        float(cell)
    except (TypeError, ValueError):
        return isinstance(cell, str) and any(map(str.isalpha, cell))
    return False
