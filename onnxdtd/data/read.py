"""Reading what a person wants explained: images, folders of them, arrays, lists of numbers, into the model's own layout."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from onnxdtd import bounded
from onnxdtd.data.channels import spread
from onnxdtd.data.features import Described, Features
from onnxdtd.data.forms import MODES, Form, Shape
from onnxdtd.data.pixels import brought, called, picture
from onnxdtd.data.preprocessing import UNSCALED, Placing, Size
from onnxdtd.data.recordings import UNTOLD, Track, is_clip, is_sound, moving, sound
from onnxdtd.data.sheets import is_number
from onnxdtd.data.texts import STDIN
from onnxdtd.data.tokens import Passage
from onnxdtd.errors import OnnxdtdError, RequestError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".npy", ".npz", ".wav")
LISTS = (".csv", ".tsv", ".json")  # of numbers; a folder's are its labels
SIDES = (224, 32, 8, 1)
ARRAY_NAMES = ("x", "image", "images", "input", "inputs", "data")


@dataclass(frozen=True)
class Sample:
    """One input without its batch axis, float64, and where it came from; of a picture also its size and where it was placed.
    ``others`` are the values of further inputs, ``passage`` the text that ids stand for, ``track`` what its file says of it;
    ``features`` is what the entries of ``x``, or of what is shown of it, are called, ``label`` the true class, ``target`` that
    which a file wants explained.
    """

    name: str
    x: np.ndarray
    size: Size | None = None
    placing: Placing | None = None
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    passage: Passage | None = None
    track: Track = UNTOLD
    features: Features | None = None
    label: int | str | None = None
    target: int | str | None = None

    @property
    def described(self) -> Described | None:
        """Its features, where they have names."""
        return None if self.features is None else Described(self.features, self.x, self.others)


@dataclass(frozen=True)
class Layout:
    """How an input takes samples: the shape of one, the axis along which several lie, None where the input is one sample, and
    how many it takes at once, None where that is open.
    """

    shape: Shape
    axis: int | None
    batch: int | None = None

    @classmethod
    def of(cls, shape: Shape, axis: int | None) -> Layout:
        """That of an input of ``shape`` with its samples along ``axis``."""
        if axis is None:
            return cls(shape, None, 1)
        size = shape[axis]
        return cls([*shape[:axis], *shape[axis + 1 :]], axis, size if isinstance(size, int) else None)

    def feed(self, x: np.ndarray) -> np.ndarray:
        """A sample as the input takes it; a fixed batch is filled with it."""
        return self.put(np.repeat(np.asarray(x)[None], self.batch or 1, axis=0))

    def put(self, xs: np.ndarray) -> np.ndarray:
        """Samples [n, ...] as the input takes them."""
        return xs[0] if self.axis is None else np.moveaxis(xs, 0, self.axis)

    def take(self, values: np.ndarray) -> np.ndarray:
        """What is laid out like the input as [n, ...], samples first."""
        return values[None] if self.axis is None else np.moveaxis(values, self.axis, 0)


def files(paths: Sequence[Path], suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """The files that ``paths`` name, folders opened one level deep, of which those with one of the ``suffixes`` are meant."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes)
            if not inside:
                what = "images, .wav, .npy or .npz" if suffixes is SUFFIXES else "/".join(suffixes)
                there = ", ".join(sorted({p.suffix.lower() or "no ending" for p in path.iterdir() if p.is_file()}))
                raise RequestError(f"{path}: no {what} in this folder{f' (it has {there})' if there else ''}")
            found += inside
        elif not path.exists() and path != STDIN:
            raise RequestError(f"{path}: no such file")
        else:
            found.append(path)
    return found


def samples(path: Path, form: Form) -> Iterator[Sample]:
    """The samples in a file, each of the ``form``. Raises ``RequestError`` where they do not fit."""
    if path.suffix.lower() in LISTS:
        batch: Sequence[np.ndarray] = listed(path, form)
    elif path.suffix.lower() in (".npy", ".npz"):
        batch = list(stacked(path, form))
    elif is_sound(path):
        batch = [sound(path, form)]
    elif is_clip(form):
        batch = [moving(path, form)]
    else:
        yield pictured(path, form)
        return
    for i, x in enumerate(batch):
        yield Sample(f"{path.stem}_{i:03d}" if len(batch) > 1 else path.stem, scaled(x, form))


def stacked(path: Path, form: Form) -> np.ndarray:
    """All samples in a ``.npy`` or ``.npz`` file as they are stored, [n, *shape]. Raises ``RequestError``."""
    array = _array(path, form.name)
    if array.dtype.kind not in "fiub" or array.size == 0:
        raise RequestError(f"{path}: has no numbers (array of {array.dtype}, shape {list(array.shape)})")
    batch = batched(array, form)
    if batch is None:
        raise RequestError(f"{path}: the array is {list(array.shape)}, the model takes samples of {list(form.shape)}")
    return batch


def listed(path: Path, form: Form) -> list[np.ndarray]:
    """All samples in a ``.csv`` file, a row each, below a line of names perhaps, or in a ``.json`` file, a list each; they may
    differ in length. Raises ``RequestError``.
    """
    try:
        text = bounded.text(path, 8 * bounded.MOST_TEXT)
        rows = json.loads(text) if path.suffix.lower() == ".json" else _rows(text)
        if not rows or not isinstance(rows, list):
            raise ValueError("it is no list of numbers")
        found = [np.asarray(row, np.float64) for row in (rows if isinstance(rows[0], list) else [rows])]
    except (OSError, ValueError, TypeError, OverflowError, RecursionError, csv.Error) as error:
        raise RequestError(f"{path}: no samples can be read from it ({error})") from None
    batches = [batched(row[None], form) for row in found]
    for i, (row, batch) in enumerate(zip(found, batches, strict=True)):
        if batch is None:
            raise RequestError(f"{path}: sample {i} is {list(row.shape)}, the model takes samples of {list(form.shape)}")
    return [batch[0] for batch in batches if batch is not None]


def _rows(text: str) -> list[list[float]]:
    """The lines of a table as numbers; the first one may have names."""
    rows = _cells(text, ",;\t ")
    named = bool(rows) and not any(is_number(cell) for cell in rows[0])
    return [[float(cell) for cell in row] for row in rows[named:]]


def _cells(text: str, separators: str = ",;\t") -> list[list[str]]:
    """The cells of a table, line by line, by the separator that the last line has most of."""
    lines = [line for line in text.splitlines() if line.strip()]
    separator = max(separators, key=lines[-1].count) if lines else ","
    return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))


def scaled(x: np.ndarray, form: Form) -> np.ndarray:
    """A sample as float64; pixels (uint8) become inputs where it is known how."""
    return form.numbers(x) if x.dtype == np.uint8 and form.low is not None and x.ndim > 1 else x.astype(np.float64)


def _array(path: Path, input_name: str) -> np.ndarray:
    with opened(path) as loaded:
        return loaded if isinstance(loaded, np.ndarray) else np.asarray(_chosen(loaded, path, input_name))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The array or the archive in a numpy file. Raises ``RequestError`` where it, or what is read from it, cannot be read."""
    try:
        with bounded.opened(path) as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                for entry in loaded.zip.infolist():
                    bounded.check_packing(entry.filename, entry.file_size, entry.compress_size)
            yield loaded
    except OnnxdtdError:
        raise
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except Exception as error:  # numpy and zipfile raise a dozen kinds of them over damaged files
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RequestError(f"{path}: not a readable numpy file ({reason[0]})") from None


@contextmanager
def named(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """The arrays in a ``.json`` file, by name, as tokenizers give them. Raises ``RequestError`` where there are none."""
    try:
        yield {name: np.asarray(values) for name, values in json.loads(bounded.text(path, 8 * bounded.MOST_TEXT)).items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise RequestError(f"{path}: no arrays can be read from it ({error})") from None


def _chosen(archive: Mapping[str, np.ndarray], path: Path, input_name: str) -> np.ndarray:
    """The array named like the input, or like inputs usually are, or the only one."""
    names = list(archive)
    found = [name for name in (input_name, *ARRAY_NAMES) if name in names] or names[: len(names) == 1]
    if not names:
        raise RequestError(f"{path}: there is no array in it")
    if not found:
        raise RequestError(f"{path}: which array? It has {', '.join(names)}; name one {input_name!r}")
    return archive[found[0]]


def batched(array: np.ndarray, form: Form) -> np.ndarray | None:
    """``array`` as [n, *shape], if it is that up to a missing batch or channel axis, the order of the axes, or flattening."""
    shape, channel = form.shape, form.channel

    def fits(candidate: np.ndarray) -> bool:
        return candidate.ndim == len(shape) + 1 and all(
            not isinstance(want, int) or want == have for want, have in zip(shape, candidate.shape[1:], strict=True)
        )

    candidates = [array, array[None]]
    if channel is not None:
        for base in (array, array[None]):
            if base.ndim == len(shape):
                candidates.append(np.expand_dims(base, channel + 1))
            if base.ndim == len(shape) + 1 and channel in (0, len(shape) - 1):
                candidates.append(np.moveaxis(base, -1, 1) if channel == 0 else np.moveaxis(base, 1, -1))
    sizes = [d for d in shape if isinstance(d, int)]
    for base in (array, array[None]):  # rows: of more axes than that, some might be taken for others
        if len(sizes) == len(shape) and base.ndim > 1 and 2 in (base.ndim, len(shape) + 1) and base[0].size == np.prod(sizes):
            candidates.append(base.reshape([len(base), *sizes]))
    return next((candidate for candidate in candidates if fits(candidate)), None)


def pictured(source: Path | BinaryIO, form: Form) -> Sample:
    """A picture, brought to the model's size as ``onnxdtd.preprocessing.place`` says."""
    name = called(source)
    if form.low is None:
        raise RequestError(f"{name}: {UNSCALED}")
    mode = MODES.get(form.channels or 3)
    if len(form.space) != 2 or mode is None:
        raise RequestError(
            f"{name}: is a picture, but the model takes samples of {list(form.shape)}; give these as .npy or .npz"
        )
    image = picture(source, mode)
    height, width = (size if isinstance(size := form.shape[axis], int) else None for axis in form.space)
    pixels, placing = brought(name, image, (height, width), form.preprocessing)
    if form.channel is not None:
        pixels = np.moveaxis(np.atleast_3d(pixels), -1, form.channel)
    stem = source.stem if isinstance(source, Path) else name
    return Sample(stem, form.numbers(pixels), (image.height, image.width), placing)


# Random inputs, for those who have none at hand.


def sized(declared: Sequence[Any], axis: int | None, side: int, batch: int = 1) -> list[int]:
    """``declared`` with a number for every size: ``batch`` on the ``axis`` of samples, ``side`` for others that are open."""
    return [size if isinstance(size, int) else batch if i == axis else side for i, size in enumerate(declared)]


def drawn(
    rng: np.random.Generator, shape: Sequence[int], low: Any, high: Any, channel: int | None = None, samples: int | None = 0
) -> np.ndarray:
    """Uniform numbers between the bounds (a list has one number a channel), or normal ones where there are no bounds."""
    if low is None or high is None:
        return rng.normal(size=shape)
    low, high = (spread(bound, shape, channel, "the bounds of the input", samples) for bound in (low, high))
    return rng.uniform(low, high, shape)


def worded(
    feeds: Mapping[str, np.ndarray], words: Mapping[str, Sequence[str]], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """``feeds`` with strings in place of numbers drawn for inputs that take strings; ``words`` are those that each knows."""
    return {**feeds, **{name: rng.choice(known or [""], feeds[name].shape) for name, known in words.items()}}


def open_size(
    declared: Mapping[str, Sequence[Any]], axes: Mapping[str, int | None], run: Callable[[dict[str, np.ndarray]], object]
) -> int:
    """The first of some usual heights and widths that a model takes where it leaves them open. Raises ``RequestError``."""
    for side in SIDES:
        try:
            run({name: np.zeros(sized(shape, axes[name], side)) for name, shape in declared.items()})
        except Exception:  # ONNX Runtime's own exceptions share no base class
            continue
        return side
    raise RequestError("the model takes no input of a size that could be guessed; give real ones with --inputs")
