"""What a person gives to be explained: files, folders, URLs of both, and lists of them, ``@LIST``."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from onnxdtd import bounded
from onnxdtd.data.labelled import EDGE_NAMES
from onnxdtd.data.read import SUFFIXES, files
from onnxdtd.data.remote import Place, Remote, opened, place, staged
from onnxdtd.data.sheets import Sheet, is_table, sheet
from onnxdtd.data.tables import NO_ROLES, TARGET, Roles
from onnxdtd.data.texts import LABEL_NAMES
from onnxdtd.errors import RequestError
from onnxdtd.labels import listed as known

LIST = "@"  # in front of the name of a list
COLUMNS = ("file", "filename", "file_name", "path", "filepath", "file_path", "uri", "url", "image", "picture")
MOST = 2**30  # bytes of a list


@dataclass(frozen=True)
class Given:
    """A file, with what a list says of it: what its only sample is called, its class, which class to explain, and the box
    around the object, x0, y0, x1, y1 in pixels. ``tabled``: that list is a table, with the columns that a caller names.
    """

    file: Place
    name: str | None = None
    label: int | str | None = None
    target: int | str | None = None
    box: tuple[float, ...] | None = None
    tabled: bool = False


def given(paths: Sequence[str | os.PathLike[str]], suffixes: Sequence[str] = SUFFIXES, roles: Roles = NO_ROLES) -> list[Given]:
    """All files that ``paths`` mean; folders are opened one level deep, of which files with one of the ``suffixes`` are meant.
    A list is text with a file a line, or a table with a column of them, called as in ``COLUMNS``, and perhaps ones that have
    ``roles``; what is not absolute is beside the list, and a folder on disk means its files. Raises ``RequestError``, and
    ``OnnxdtdError`` where a store cannot be asked.
    """
    found: list[Given] = []
    for path in (os.fspath(each) for each in paths):
        if path.startswith(LIST):
            found += listed(place(path.removeprefix(LIST)), suffixes, roles)
        elif isinstance(there := place(path), Path):
            found += map(Given, files([there], suffixes))
        else:
            inside = opened(there, lambda name: PurePath(name).suffix.lower() in suffixes)
            if inside == []:
                raise RequestError(f"{there}: no {'/'.join(suffixes)} in this folder")
            found += map(Given, [there] if inside is None else inside)
    return found


def listed(path: Place, suffixes: Sequence[str] = SUFFIXES, roles: Roles = NO_ROLES, boxes: bool = False) -> list[Given]:
    """The files in a list, of which some may be missing, with their ``boxes`` if these are asked for. Raises ``RequestError``
    where none can be read from it.
    """
    if isinstance(path, Path) and not path.exists():
        raise RequestError(f"{path}: no such file")
    return [one for entry in _entries(path, roles, boxes) for one in _opened(entry, suffixes)]


def _opened(entry: Given, suffixes: Sequence[str]) -> list[Given]:
    """The files that an entry of a list means, those in a folder perhaps; one without any is skipped later, by its name. Raises
    ``RequestError`` where a further list is meant.
    """
    if isinstance(entry.file, Path) and entry.file.name.startswith(LIST) and not entry.file.exists():
        raise RequestError(f"{entry.file.name}: no such file, and a list names no further lists; give each list by itself")
    if isinstance(entry.file, Path) and entry.file.is_dir():
        with suppress(RequestError):
            return [replace(entry, file=file, name=None) for file in files([entry.file], suffixes)]
    return [entry]


def _entries(path: Place, roles: Roles, boxes: bool) -> list[Given]:
    """The lines of a list, or its rows."""
    with staged(path) as own:
        if not is_table(own):
            if roles.target is not None:
                raise RequestError(f"{TARGET} {roles.target}: {own} is no table, and has no columns")
            return [Given(_beside(path, line.strip())) for line in _lines(own) if line.strip()]
        table = sheet(own)
        named = [i for i in range(len(table.columns)) if any(table.is_called(i, name) for name in COLUMNS)]
        if len(named) != 1:
            has = f"it has {known(table.names)}" if table.names else "it has no names in its first line"
            raise RequestError(f"{own}: which column has the files? Call one, and no other, {' or '.join(COLUMNS[:3])}; {has}")
        places, nothing = roles.places(table), [None] * len(table)
        if places["--label"] is None:
            free = (name for i, name in enumerate(table.names) if name.lower() in LABEL_NAMES and i != places[TARGET])
            places |= Roles(label=next(free, None)).places(table) | {option: places[option] for option in ("--id", TARGET)}
        labels = table.labels(places["--label"]) or nothing
        names = nothing if places["--id"] is None else table.words(places["--id"]).tolist()
        targets = table.labels(places[TARGET]) or nothing
        cells = table.words(named[0]).tolist()
        if "" in cells:
            raise RequestError(f"{table.at(cells.index(''), named[0])}: there is no file")
        rows = zip(cells, names, labels, targets, _boxes(table) if boxes else nothing, strict=True)
        return [Given(_beside(path, cell), name or None, label, target, box, True) for cell, name, label, target, box in rows]


def _boxes(table: Sheet) -> list[tuple[float, ...] | None]:
    """That of each row; None where it has none, or there are no columns of edges."""
    columns = [i for names in EDGE_NAMES for i in range(len(table.columns)) if any(table.is_called(i, name) for name in names)]
    if len(columns) != len(EDGE_NAMES):
        return [None] * len(table)
    edges = zip(*(table.numbers(i, missing=True).tolist() for i in columns), strict=True)
    return [None if any(map(math.isnan, box)) else box for box in edges]


def _lines(path: Path) -> list[str]:
    """The lines of a text. Raises ``RequestError`` where it is none, or has none."""
    try:
        lines = bounded.text(path, MOST).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: no list of files can be read from it ({error})") from None
    if not any(map(str.strip, lines)):
        raise RequestError(f"{path}: there is no file in this list")
    return lines


def _beside(path: Place, name: str) -> Place:
    """A file that a list names."""
    there = place(name)
    if isinstance(there, Remote) or there.is_absolute():
        return there
    return path.beside(name) if isinstance(path, Remote) else path.parent / there
