"""Labelled samples to measure explanations on: a table, an ``.npz``, or a folder of pictures with a file of labels.

One bad sample costs no other: it is named, with the reason, when it is its turn. What makes the whole data set unusable is an
error at once.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onnxdtd import bounded
from onnxdtd.data.forms import Form
from onnxdtd.data.read import files, opened, samples, scaled, stacked
from onnxdtd.data.recordings import archived, track
from onnxdtd.data.sheets import sheet
from onnxdtd.data.tables import Filled, Intake, Roles, rows
from onnxdtd.data.texts import LABEL_NAMES, Text, texts
from onnxdtd.data.tokens import Passage, Tokens
from onnxdtd.errors import RequestError
from onnxdtd.labels import class_label

BOX_NAMES = ("box", "boxes", "bbox", "bboxes")
FILE_NAMES = ("file", "filename", "image", "picture", "name")
EDGE_NAMES = (("x0", "xmin", "left"), ("y0", "ymin", "top"), ("x1", "xmax", "right"), ("y1", "ymax", "bottom"))
LABEL_FILES = ("labels.csv", "labels.json")
ARRAYS = (".npz", ".npy")  # which folders of samples have not

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Item:
    """A sample without its batch axis, float64, with its channels along ``channel``; where they are known its true class and
    the box around the object, x0 <= x < x1 and y0 <= y < y1 in pixels of ``x``. ``remark`` says what was wrong with it.
    ``others`` is what further inputs take with it, ``places`` the numbers of the regions that its entries belong to, where
    these are told, -1 of what belongs to none; ``passage`` is the text that it is made of.
    """

    name: str
    x: np.ndarray
    channel: int | None
    label: int | str | None = None
    box: Box | None = None
    remark: str = ""
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    places: np.ndarray | None = None
    passage: Passage | None = None

    def mask(self) -> np.ndarray | None:
        """The pixels in the box, bool [height, width]."""
        space = [size for i, size in enumerate(self.x.shape) if i != self.channel]
        if self.box is None or len(space) != 2:
            return None
        inside = np.zeros(space, bool)
        x0, y0, x1, y1 = self.box
        inside[y0:y1, x0:x1] = True
        return inside


@dataclass(frozen=True)
class Truth:
    """What a file of labels says of one picture."""

    label: int | str | None
    box: tuple[float, ...] | None


@dataclass(frozen=True)
class Dataset:
    """Samples of one form, read when they are asked for from ``sources``. ``skipped`` has what is missing, by name."""

    form: Form
    sources: Sequence[Path]
    arrays: Mapping[str, np.ndarray] | None = None
    pictures: Sequence[Path] = ()
    truths: Mapping[str, Truth] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    stem: str = ""

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.pictures) if self.arrays is None else len(self.arrays["x"])

    def digest(self) -> str:
        """The SHA-256 of the names and contents of its files."""
        whole = hashlib.sha256()
        for path in self.sources:
            whole.update(os.fsencode(path.name))
            with (
                suppress(OSError),
                bounded.opened(path) as file,
            ):  # a picture that cannot be read is skipped when it is its turn
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()

    @cached_property
    def rate(self) -> float | None:
        """Steps of signals, or frames of clips, a second, where the first file says so."""
        path = self.pictures[0] if self.arrays is None else self.sources[0]
        with suppress(RequestError):
            if path.suffix.lower() != ".npz":
                return track(path, self.form).rate
            with opened(path) as archive:
                return archived(archive).rate
        return None

    def name(self, i: int) -> str:
        """What a sample is called: its file, or the archive and its number."""
        return self.pictures[i].name if self.arrays is None else f"{self.stem}_{i:0{len(str(len(self) - 1))}d}"

    def __getitem__(self, i: int) -> Item:
        """One sample. Raises ``RequestError`` where it cannot be read."""
        if self.arrays is None:
            return self._picture(self.pictures[i])
        label, box = (self.arrays[key][i].tolist() if key in self.arrays else None for key in ("label", "box"))
        x = scaled(self.arrays["x"][i], self.form)
        return self._item(self.name(i), x, label, box)

    def _picture(self, path: Path) -> Item:
        (sample,) = samples(path, self.form)
        truth = self.truths.get(path.name, Truth(None, None))
        box: Sequence[float] | None = truth.box
        if box is not None and sample.placing is not None and sample.size is not None:
            height, width = sample.size
            inside = 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height
            box = sample.placing.box(box, sample.size) if inside else [-1.0, *box[1:]]  # and refused as such
        return self._item(path.name, sample.x, truth.label, box)

    def _item(self, name: str, x: np.ndarray, label: int | str | None, box: Sequence[float] | None) -> Item:
        if not np.isfinite(x).all():
            raise RequestError("has values that are NaN or infinite")
        item = Item(name, x, self.form.channel, label)
        if box is None:
            return item
        mask = replace(item, box=(0, 0, 1, 1)).mask()
        if mask is None:
            return replace(item, remark="its box is left out: it is no picture")
        x0, y0, x1, y1 = (round(edge) if np.isfinite(edge) else -1 for edge in box)
        if not (0 <= x0 < x1 <= mask.shape[1] and 0 <= y0 < y1 <= mask.shape[0]):
            size = f"{mask.shape[1]}x{mask.shape[0]}"
            return replace(item, remark=f"its box {[x0, y0, x1, y1]} is left out: it does not lie in the picture ({size})")
        return replace(item, box=(x0, y0, x1, y1))


@dataclass(frozen=True)
class Passages:
    """Texts in a file, as ``tokens`` of a model. Regions are tokens, or ``words``; what was added to a text belongs to none."""

    path: Path
    tokens: Tokens
    words: bool = False
    skipped: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _texts(self) -> list[Text]:
        return texts(self.path)

    @property
    def sources(self) -> list[Path]:
        """Where they are read from."""
        return [self.path]

    def __len__(self) -> int:
        """The number of texts."""
        return len(self._texts)

    def digest(self) -> str:
        """The SHA-256 of the texts, and of the tokenizer."""
        whole = hashlib.sha256(repr(self._texts).encode("utf-8", "replace"))
        whole.update(self.tokens.digest().encode())
        return whole.hexdigest()

    def name(self, i: int) -> str:
        """What a text is called."""
        return self._texts[i].name

    def __getitem__(self, i: int) -> Item:
        """One text. Raises ``RequestError`` where it has no tokens of its own."""
        passage = self.tokens(self._texts[i])
        values = self.tokens.values(passage)
        stands = [not token.special and not token.padding for token in passage.tokens]
        if not any(stands):
            raise RequestError("has no tokens but those that the tokenizer adds")
        keys = [token.word if self.words else place for place, token in enumerate(passage.tokens)]
        numbers = {key: n for n, key in enumerate(dict.fromkeys(key for key, own in zip(keys, stands, strict=True) if own))}
        places = np.array([numbers[key] if own else -1 for key, own in zip(keys, stands, strict=True)])
        x = values.pop(self.tokens.ids)
        remark = f"{passage.cut} of its tokens are left out: the model takes no more" if passage.cut else ""
        return Item(passage.name, x, None, passage.label, None, remark, values, places.reshape(x.shape), passage)


@dataclass(frozen=True)
class Records:
    """The rows of a table in a file, as samples of one ``form``; some values may be missing where the model takes that.
    Those of columns of ``strings`` are numbers of these.
    """

    form: Form
    path: Path
    filled: Filled
    skipped: Mapping[str, str] = field(default_factory=dict)
    strings: Sequence[Sequence[str] | None] = ()

    @property
    def sources(self) -> list[Path]:
        """Where they are read from."""
        return [self.path]

    @property
    def values(self) -> np.ndarray:
        """[rows, columns], as ``Filled`` has them."""
        (values,) = self.filled.values.values()
        return values

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.values)

    def digest(self) -> str:
        """The SHA-256 of what the model takes, of the labels, and of the names of the samples."""
        whole = hashlib.sha256(repr([*self.filled.called, self.filled.labels, *self.strings]).encode("utf-8", "replace"))
        whole.update(np.ascontiguousarray(self.values).tobytes())
        return whole.hexdigest()

    def name(self, i: int) -> str:
        """What a sample is called."""
        return self.filled.called[i]

    def __getitem__(self, i: int) -> Item:
        """One row."""
        sizes = [size if isinstance(size, int) else -1 for size in self.form.shape]
        label = None if self.filled.labels is None else self.filled.labels[i]
        return Item(self.name(i), self.values[i].reshape(sizes), self.form.channel, label)


def records(path: Path, form: Form, roles: Roles, missing: bool, own_labels: Sequence[str] = ()) -> Records:
    """The samples in a table. Raises ``RequestError`` where they are not those of the ``form``."""
    sizes = [size for size in form.shape if isinstance(size, int)]
    width = math.prod(sizes) if len(sizes) == len(form.shape) else None
    intakes = [Intake(form.name, width, None, missing)]
    return Records(form, path, rows(sheet(path), intakes, roles, own_labels, form.preprocessing is not None))


def dataset(path: Path, form: Form) -> Dataset:
    """The samples under ``path`` as the ``form`` of an input asks.

    An ``.npz`` has them in one array, their classes in ``label`` and boxes [n, 4] in ``box``. A folder has pictures, and a
    ``labels.csv`` (file, label, and perhaps x0, y0, x1, y1 in pixels of the file; in another order if the first line has these
    names) or ``labels.json`` ({file: label} or {file: {"label": ..., "box": [...]}}). Without labels the predicted classes are
    explained. Raises ``RequestError``.
    """
    if not path.exists():
        raise RequestError(f"{path}: no such file or folder")
    if path.is_dir():
        return _folder(path, form)
    if path.suffix.lower() not in ARRAYS:
        raise RequestError(f"{path}: give a table, an .npz with samples and labels, or a folder of pictures with a labels.csv")
    arrays = {"x": stacked(path, form)}
    if path.suffix.lower() == ".npz":
        arrays |= _truth_arrays(path, len(arrays["x"]))
    return Dataset(form, [path], arrays, stem=path.stem)


def _truth_arrays(path: Path, count: int) -> dict[str, np.ndarray]:
    found = {}
    with opened(path) as archive:
        for key, names in (("label", LABEL_NAMES), ("box", BOX_NAMES)):
            name = next((name for name in names if name in archive.files), None)
            if name is not None:
                found[key] = np.atleast_1d(archive[name])
                if len(found[key]) != count:
                    raise RequestError(f"{path}: has {count} samples, but {len(found[key])} entries in {name!r}")
    if "label" in found and (found["label"].dtype.kind not in "iuU" or found["label"].ndim != 1):
        raise RequestError(
            f"{path}: the labels are {found['label'].dtype}, shape {list(found['label'].shape)}, not [n] integers or strings"
        )
    if "box" in found and (found["box"].dtype.kind not in "iuf" or found["box"].shape[1:] != (4,)):
        raise RequestError(f"{path}: the boxes have the shape {list(found['box'].shape)}, not [n, 4]: x0, y0, x1, y1")
    return found


def _folder(path: Path, form: Form) -> Dataset:
    found = [file for file in files([path]) if file.suffix.lower() not in ARRAYS]
    if not found:
        raise RequestError(f"{path}: has no pictures or sounds; give an .npz as the file itself")
    listed = next((path / name for name in LABEL_FILES if (path / name).exists()), None)
    truths, bad = ({}, {}) if listed is None else _labels(listed)
    names = {file.name for file in found}
    bad |= {name: f"is in {listed.name}, but not in the folder" for name in truths if name not in names and listed is not None}
    for file in found:
        try:
            file.stat()
        except OSError as error:
            bad[file.name] = f"cannot be read ({error.strerror})"
        if listed is not None and file.name not in truths and file.name not in bad:
            bad[file.name] = f"has no label in {listed.name}"
    kept = [file for file in found if file.name not in bad]
    if not kept:
        raise RequestError(f"{path}: none of its {len(found)} pictures has a label in {listed and listed.name}")
    return Dataset(form, kept if listed is None else [listed, *kept], None, kept, truths, bad)


def _labels(path: Path) -> tuple[dict[str, Truth], dict[str, str]]:
    """Labels and boxes by file name, and what is wrong with the others."""
    try:
        text = bounded.text(path, 4 * bounded.MOST_TEXT)
        rows = _json_rows(json.loads(text)) if path.suffix == ".json" else _csv_rows(text)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        raise RequestError(f"{path}: no labels can be read from it ({error})") from None
    truths, bad = {}, {}
    for name, said, box in rows:
        try:
            if box is not None and len(box) != 4:
                raise ValueError(f"its box has {len(box)} numbers, not 4")
            truths[name] = Truth(class_label(said), None if box is None else tuple(map(float, box)))
        except (ValueError, TypeError) as error:
            bad[name] = f"{path.name}: {error}"
    return truths, bad


def _csv_rows(text: str) -> list[tuple[str, Any, list[str] | None]]:
    lines = text.splitlines()
    separator = max(",;\t", key=lines[0].count) if lines else ","
    rows = [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if "".join(row).strip()]
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    file, label, edges = 0, 1, [2, 3, 4, 5]
    if set(head) & {*LABEL_NAMES, *FILE_NAMES, *(name for names in EDGE_NAMES for name in names)}:
        rows = rows[1:]
        label = _column(head, LABEL_NAMES)
        if label < 0:
            raise ValueError("no column is called 'label'")
        file = max(_column(head, FILE_NAMES), 0 if label else 1)
        edges = [_column(head, names) for names in EDGE_NAMES]
    cell = lambda row, column: row[column] if 0 <= column < len(row) else ""
    boxes = [[cell(row, edge) for edge in edges if cell(row, edge).strip()] for row in rows]
    return [(cell(row, file), cell(row, label), box or None) for row, box in zip(rows, boxes, strict=True)]


def _column(head: Sequence[str], names: Sequence[str]) -> int:
    """Where the column with one of ``names`` is, -1 if nowhere."""
    return next((i for i, name in enumerate(head) if name in names), -1)


def _json_rows(data: dict[str, Any]) -> list[tuple[str, Any, list[Any] | None]]:
    return [(name, v.get("label"), v.get("box")) if isinstance(v, dict) else (name, v, None) for name, v in data.items()]
