"""``explain --save``: the relevance itself, in the format that the name of the file asks for, written piece by piece."""

from __future__ import annotations

import csv
import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np

from onnxdtd import atomic
from onnxdtd.data.remote import Place, Remote, check, inside, put, put_folder
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.study.parts import ALONE, COLUMNS, KEY, UNKNOWN, Arrays, member

CLASSES = ("predicted", "target")  # columns of indices
ROWS, BYTES = 1000, 2**26  # of a shard, of a group of rows, of a chunk: so many, or less
ZARR, WHOLE = "zarr.json", "_SUCCESS"  # what makes a Zarr store one, and what says in a store that all shards are there
TAKEN = "this run reads it, or writes there besides; give another name"
MOST_COLUMNS = 16_384  # of a table, as spreadsheets have it

Pieces = Callable[[], Iterable[Arrays]]  # all arrays of a run in pieces, as often as they are wanted


@dataclass(frozen=True)
class Saved:
    """Where the relevance of a run goes, and how it is written: a file, or a folder of files, of which stores get ``last``
    after all others. ``library`` is needed for it.
    """

    write: Callable[[Path, Pieces, Sequence[str]], None]
    table: bool = False
    library: str | None = None
    last: str | None = None

    @property
    def folder(self) -> bool:
        """Is it several files?"""
        return self.last is not None

    @property
    def none(self) -> str:
        """What is in the way of it."""
        return "no Zarr store" if self.library else "no folder of shards"


@dataclass(frozen=True)
class Wanted:
    """A path, or a URL, to save to, and how."""

    path: Place
    saved: Saved

    @classmethod
    def to(cls, path: Place, taken: Iterable[Place] = ()) -> Wanted:
        """Raises ``RequestError`` for a name that no format belongs to, where nothing can be written, or where it would take
        the place of what is ``taken``, files and folders that are read or written besides, or of what others have put there;
        ``OnnxdtdError`` where a library is missing.
        """
        suffix = path.suffix.lower()
        saved = FORMATS.get(suffix)
        if saved is None:
            known = ", ".join(name for name in FORMATS if name)
            raise RequestError(
                f"--save {path}: give the name of a file that ends in {known}, or for a folder of shards one without an ending"
            )
        if saved.library is not None and find_spec(saved.library) is None:
            raise OnnxdtdError(f"--save {path}: {suffix} needs {saved.library}: pip install 'onnxdtd[data]'")
        if isinstance(path, Remote):
            if any(each == path or (saved.folder and str(each).startswith(f"{str(path).rstrip('/')}/")) for each in taken):
                raise RequestError(f"--save {path}: {TAKEN}")
            check(path)
            if saved.folder and not _are_ours(inside(path), saved.last):
                raise RequestError(f"--save {path}: is there already and {saved.none}; give another name")
            return cls(path, saved)
        target = path.resolve()
        here = [each.resolve() for each in taken if isinstance(each, Path)]
        if any(target in (each, *(each.parents if saved.folder else ())) for each in here):
            raise RequestError(f"--save {path}: {TAKEN}")
        if saved.folder and path.exists() and not (path.is_dir() and _is_ours(path, suffix)):
            raise RequestError(f"--save {path}: is there already and {saved.none}; give another name")
        if not path.is_dir() or not saved.folder:
            atomic.ready(path)
        return cls(path, saved)

    def check(self, sizes: Sequence[Any]) -> None:
        """Raises ``RequestError`` where samples of the shape ``sizes`` do not fit into a table."""
        if not self.saved.table:
            return
        if not all(isinstance(size, int) for size in sizes):
            raise RequestError(
                f"--save {self.path}: a table has the same columns in each row, but samples are {list(sizes)} and may differ "
                "in size; save to an .npz, a .zarr or a folder/"
            )
        if (count := int(np.prod(sizes, dtype=int))) > MOST_COLUMNS:
            raise RequestError(
                f"--save {self.path}: a sample has {count} entries, too many for the columns of a table (at most "
                f"{MOST_COLUMNS}); save to an .npz, a .zarr or a folder/"
            )

    def finish(self, pieces: Pieces, features: Sequence[str]) -> None:
        """Write all, or nothing: ``relevance/<input>`` [n, ...] of an explanation each and one array for each of ``COLUMNS``
        [n], -1 and NaN where unknown. Of concepts ``concepts/<input>`` [n, k, ...] likewise, and ``channels/<tensor>`` [n, k].
        What differs in size has an array for each explanation. A table has a column for each entry of the relevance.

        What goes to a store is written here first. There no name can be changed at once; so of a folder a file comes last that
        stays away until all others are there.
        """
        if isinstance(self.path, Path):
            self.saved.write(self.path, pieces, features)
            return
        with tempfile.TemporaryDirectory(prefix="onnxdtd-") as folder:
            local = Path(folder, "saved")
            self.saved.write(local, pieces, features)
            if self.saved.last is None:
                put(local, self.path)
                return
            (local / self.saved.last).touch()
            put_folder(local, self.path, self.saved.last, lambda name: name.endswith(ZARR))


def _are_ours(names: Sequence[str], last: str | None) -> bool:
    """Are files in a store those of such a folder, perhaps of one that was never finished?"""
    return (
        all(name == last or fnmatch(name, "part-*.npz") for name in names)
        if last == WHOLE
        else not names or any(name.endswith(ZARR) for name in names)
    )


def _is_ours(folder: Path, suffix: str) -> bool:
    """Is there nothing in a folder but what such a run writes?"""
    inside = list(folder.iterdir())
    if not suffix:
        return all(path.match("part-*.npz") for path in inside)
    groups = (path for path in inside if path.name != "zarr.json")
    return not inside or ((folder / "zarr.json").is_file() and all(any(group.rglob("zarr.json")) for group in groups))


# ---- pieces ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """An array of a whole run: the type of its entries, and its shape."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def shapes(pieces: Iterable[Arrays]) -> dict[str, Shape]:
    """All arrays of a run that are one from beginning to end. What differs in size is not among them."""
    found: dict[str, Shape] = {}
    apart = set[str]()
    for piece in pieces:
        for name, array in ((name, array) for name, array in piece.items() if not name.startswith(ALONE)):
            known = found.setdefault(name, Shape(array.dtype, (0, *array.shape[1:])))
            if known.shape[1:] != array.shape[1:]:
                apart.add(name)
            found[name] = Shape(np.promote_types(known.dtype, array.dtype), (known.shape[0] + len(array), *known.shape[1:]))
    rows = found[KEY].shape[0]
    uneven = apart | {name for name, known in found.items() if known.shape[0] != rows}
    return {name: known for name, known in found.items() if name not in uneven}


def alone(piece: Arrays, whole: Mapping[str, Shape]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of single explanations in a piece, by their names."""
    for name, array in piece.items():
        if name.startswith(ALONE):
            yield name.removeprefix(ALONE), array
        elif name not in whole:
            yield from zip([f"{name}/{key}" for key in piece[KEY].tolist()], array, strict=True)


def grouped(pieces: Iterable[Arrays]) -> Iterator[dict[str, np.ndarray]]:
    """Pieces put together, as many as are good for a file or a chunk."""
    group: list[Arrays] = []
    for piece in pieces:
        rows, size = (sum(map(measure, [*group, piece])) for measure in (_rows, _bytes))
        if group and (rows > ROWS or size > BYTES or _form(piece) != _form(group[0])):
            yield joined(group)
            group = []
        group.append(piece)
    if group:
        yield joined(group)


def _rows(piece: Arrays) -> int:
    return len(piece[KEY])


def _bytes(piece: Arrays) -> int:
    return sum(array.nbytes for array in piece.values())


def _form(piece: Arrays) -> dict[str, tuple[int, ...]]:
    """What pieces that can be put together have in common."""
    return {name: array.shape[1:] for name, array in piece.items()}


def joined(group: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """Several pieces as one."""
    return {name: np.concatenate([piece[name] for piece in group]) for name in group[0]}


# ---- formats ---------------------------------------------------------------------------------------------------------------


def _npz(path: Path, pieces: Pieces, features: Sequence[str]) -> None:
    """One array after the other, each in pieces."""
    whole = shapes(pieces())
    with atomic.streamed(path) as file, ZipFile(file, "w", ZIP_STORED) as archive:
        for name, known in whole.items():
            if name != KEY:
                member(archive, name, known.dtype, known.shape, (piece[name] for piece in pieces()))
        for piece in pieces():
            for name, array in alone(piece, whole):
                member(archive, name, array.dtype, array.shape, [array])


def _shards(path: Path, pieces: Pieces, features: Sequence[str]) -> None:
    """A folder of ``.npz``, each of them as a single one would be."""
    with atomic.folder(path) as made:
        for i, group in enumerate(grouped(pieces())):
            _npz(made / f"part-{i:05d}.npz", lambda group=group: [group], features)  # type: ignore[misc]


def _zarr(path: Path, pieces: Pieces, features: Sequence[str]) -> None:
    """Arrays in chunks of samples."""
    import zarr

    whole = shapes(pieces())
    with atomic.folder(path) as made:
        store = zarr.open_group(made, mode="w", zarr_format=3)
        arrays = {}
        for name, known in whole.items():
            rows = min(max(BYTES // 8 // max(known.dtype.itemsize * int(np.prod(known.shape[1:])), 1), 1), ROWS)
            dtype: Any = str if known.dtype.kind == "U" else known.dtype
            if name != KEY:
                arrays[name] = store.create_array(
                    name, shape=known.shape, dtype=dtype, chunks=(min(rows, known.shape[0]), *known.shape[1:])
                )
        done = 0
        for group in grouped(pieces()):
            for name, array in arrays.items():
                array[done : done + len(group[KEY])] = group[name]
            for name, values in alone(group, whole):
                store.create_array(name, data=np.asarray(values))
            done += len(group[KEY])


def table(group: Arrays, features: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The columns of a table: ``COLUMNS``, then relevance by the names of its entries."""
    yield from ((name, group[name]) for name in COLUMNS)
    relevance = [array for name, array in group.items() if name.startswith("relevance/")]
    flat = np.concatenate([array.reshape(len(array), -1) for array in relevance], axis=1)
    names = features or [",".join(map(str, place)) for place in np.ndindex(relevance[0].shape[1:])]
    yield from zip([f"relevance[{name}]" for name in _told_apart(names)], flat.T, strict=True)


def _told_apart(names: Sequence[str]) -> list[str]:
    """Columns have different names: those that several have get their number, and what is still taken gets it as well."""
    counts = Counter(names)
    found: list[str] = []
    for i, name in enumerate(names):
        told = name if counts[name] == 1 else f"{name} ({i})"
        while told != name and told in counts:
            told = f"{told} ({i})"
        found.append(told)
    return found


def _csv(path: Path, pieces: Pieces, features: Sequence[str]) -> None:
    """A line of names, and a row an explanation; what is unknown is empty."""
    with atomic.streamed(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        lines = csv.writer(text, lineterminator="\n")
        for i, group in enumerate(grouped(pieces())):
            cells = dict(table(group, features))
            if i == 0:
                lines.writerow(cells)
            lines.writerows(zip(*(_cells(name, column) for name, column in cells.items()), strict=True))
        text.detach()


def _cells(name: str, column: np.ndarray) -> list[str]:
    """A column in words, of float32 the shortest that mean the same number; what is unknown is empty."""
    unknown = _unknown(name, column).tolist()
    return ["" if missing else str(value) for value, missing in zip(column, unknown, strict=True)]


def _unknown(name: str, column: np.ndarray) -> np.ndarray:
    """Where a column has no value."""
    return (
        np.isnan(column) if column.dtype.kind == "f" else column == UNKNOWN if name in CLASSES else np.zeros(len(column), bool)
    )


def _parquet(path: Path, pieces: Pieces, features: Sequence[str]) -> None:
    """A row an explanation; what is unknown is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic.streamed(path) as file:
        writer = None
        for group in grouped(pieces()):
            cells = {name: pa.array(column, mask=_unknown(name, column)) for name, column in table(group, features)}
            made = pa.table(cells)
            writer = writer or pq.ParquetWriter(file, made.schema)
            writer.write_table(made)
        if writer is not None:
            writer.close()


FORMATS = {  # by the end of the name
    ".npz": Saved(_npz),
    ".csv": Saved(_csv, table=True),
    ".parquet": Saved(_parquet, table=True, library="pyarrow"),
    ".zarr": Saved(_zarr, library="zarr", last=ZARR),
    "": Saved(_shards, last=WHOLE),
}
