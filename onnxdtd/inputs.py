"""Reading what a person wants explained: image files, folders of them, ``.npy`` and ``.npz``, into the model's own layout."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from onnxdtd.errors import RequestError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".npy", ".npz")
CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}
SIDES = (224, 32, 8, 1)
ARRAY_NAMES = ("x", "image", "images", "input", "inputs", "data")

Shape = Sequence[int | str | None]


@dataclass(frozen=True)
class Scaling:
    """How the bytes of a picture become the numbers of an input: 0 is ``low`` and 255 is ``high``, channel by channel."""

    low: np.ndarray
    high: np.ndarray
    bgr: bool = False

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """``pixels`` uint8 [..., height, width, channels] as float64."""
        for bound in (self.low, self.high):
            if bound.size not in (1, pixels.shape[-1]):
                raise RequestError(f"the bounds have {bound.size} values, but the input has {pixels.shape[-1]} channels")
        ordered = pixels[..., ::-1] if self.bgr and pixels.shape[-1] == 3 else pixels
        return self.low + ordered / 255.0 * (self.high - self.low)

    def undo(self, values: np.ndarray) -> np.ndarray:
        """Numbers [..., channels] as a picture with values from 0 to 1."""
        picture = np.clip((values - self.low) / (self.high - self.low), 0, 1)
        return picture[..., ::-1] if self.bgr and picture.shape[-1] == 3 else picture


def scaling(low: object, high: object, bgr: bool = False) -> Scaling | None:
    """The scaling that the bounds of the input domain stand for: numbers or one number a channel; None without bounds."""
    if low is None or high is None:
        return None
    ends = [np.squeeze(np.asarray(bound, np.float64)) for bound in (low, high)]
    if not np.isfinite([*ends[0].flat, *ends[1].flat]).all() or not np.all(ends[0] < ends[1]):
        raise RequestError(f"low {low} must be finite and below high {high} everywhere")
    return Scaling(ends[0], ends[1], bgr) if max(end.ndim for end in ends) <= 1 else None


@dataclass(frozen=True)
class Sample:
    """One input without its batch axis, and where it came from."""

    name: str
    x: np.ndarray


@dataclass(frozen=True)
class Layout:
    """How an input takes samples: the shape of one, and how many at once; None where there is no batch axis."""

    shape: Shape
    batch: int | None

    @classmethod
    def of(cls, shape: Shape) -> Layout:
        """That of an input of ``shape``; a batch of unknown size is one sample."""
        if len(shape) <= 1:
            return cls(shape, None)
        return cls(shape[1:], shape[0] if isinstance(shape[0], int) else 1)

    def feed(self, x: np.ndarray) -> np.ndarray:
        """A sample as the input takes it; a fixed batch is filled with it."""
        return x if self.batch is None else np.repeat(x[None], self.batch, axis=0)


def channel_axis(shape: Shape) -> int | None:
    """The axis of the colours in a sample [C, H, W] or [H, W, C], None where it has none.

    >>> channel_axis([3, 224, 224]), channel_axis([28, 28, 1]), channel_axis([28, 28])
    (0, 2, None)
    """
    if len(shape) != 3:
        return None
    return next((axis for axis in (0, 2) if shape[axis] in CHANNELS), None)


def files(paths: Sequence[Path]) -> list[Path]:
    """The files that ``paths`` name, folders opened one level deep."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise RequestError(f"{path}: no images, .npy or .npz in this folder")
            found += inside
        elif not path.exists():
            raise RequestError(f"{path}: no such file")
        else:
            found.append(path)
    return found


def samples(path: Path, shape: Shape, input_name: str, scale: Scaling | None) -> Iterator[Sample]:
    """The samples in a file, each of ``shape`` (without batch), float64. Raises ``RequestError`` where they do not fit."""
    if path.suffix.lower() not in (".npy", ".npz"):
        yield Sample(path.stem, _layout(_picture(path, shape, scale), shape))
        return
    batch = stacked(path, shape, input_name)
    for i, x in enumerate(batch):
        yield Sample(f"{path.stem}_{i:03d}" if len(batch) > 1 else path.stem, scaled(x, shape, scale))


def stacked(path: Path, shape: Shape, input_name: str) -> np.ndarray:
    """All samples in a ``.npy`` or ``.npz`` file as they are stored, [n, *shape]. Raises ``RequestError``."""
    array = _array(path, input_name)
    if array.dtype.kind not in "fiub" or array.size == 0:
        raise RequestError(f"{path}: has no numbers (array of {array.dtype}, shape {list(array.shape)})")
    batch = batched(array, shape)
    if batch is None:
        raise RequestError(f"{path}: the array is {list(array.shape)}, the model takes samples of {list(shape)}")
    return batch


def scaled(x: np.ndarray, shape: Shape, scale: Scaling | None) -> np.ndarray:
    """A sample as float64; pixels (uint8) become inputs where it is known how."""
    if x.dtype == np.uint8 and scale is not None and len(shape) in (2, 3):
        axis = channel_axis(shape)
        pixels = scale.apply(x[..., None] if axis is None else np.moveaxis(x, axis, -1))
        return pixels[..., 0] if axis is None else np.moveaxis(pixels, -1, axis)
    return x.astype(np.float64)


def _array(path: Path, input_name: str) -> np.ndarray:
    with opened(path) as loaded:
        return loaded if isinstance(loaded, np.ndarray) else np.asarray(_chosen(loaded, path, input_name))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The array or the archive in a numpy file. Raises ``RequestError`` where it, or what is read from it, cannot be read."""
    try:
        with path.open("rb") as file:
            yield np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RequestError(f"{path}: not a readable numpy file ({reason[0]})") from None


def _chosen(archive: Mapping[str, np.ndarray], path: Path, input_name: str) -> np.ndarray:
    """The array named like the input, or like inputs usually are, or the only one."""
    names = list(archive)
    found = [name for name in (input_name, *ARRAY_NAMES) if name in names] or names[: len(names) == 1]
    if not names:
        raise RequestError(f"{path}: there is no array in it")
    if not found:
        raise RequestError(f"{path}: which array? It has {', '.join(names)}; name one {input_name!r}")
    return archive[found[0]]


def batched(array: np.ndarray, shape: Shape) -> np.ndarray | None:
    """``array`` as [n, *shape], if it is that up to a missing batch or channel axis, the order of the axes, or flattening."""

    def fits(candidate: np.ndarray) -> bool:
        return candidate.ndim == len(shape) + 1 and all(
            not isinstance(want, int) or want == have for want, have in zip(shape, candidate.shape[1:], strict=True)
        )

    candidates = [array, array[None]]
    axis = channel_axis(shape)
    if axis is not None:
        for base in (array, array[None]):
            if base.ndim == 3:
                candidates.append(np.expand_dims(base, axis + 1))
            if base.ndim == 4:
                candidates.append(np.moveaxis(base, -1, 1) if axis == 0 else np.moveaxis(base, 1, -1))
    sizes = [d for d in shape if isinstance(d, int)]
    for base in (array, array[None]):  # rows: of more axes than that, some might be taken for others
        if len(sizes) == len(shape) and base.ndim > 1 and 2 in (base.ndim, len(shape) + 1) and base[0].size == np.prod(sizes):
            candidates.append(base.reshape([len(base), *sizes]))
    return next((candidate for candidate in candidates if fits(candidate)), None)


def _picture(path: Path, shape: Shape, scale: Scaling | None) -> np.ndarray:
    """A picture as [height, width, channels], scaled to cover the model's size and cut to its centre."""
    if scale is None:
        raise RequestError(
            f"{path}: to turn pixels into inputs the model needs --range (with --mean and --std) or --low and --high"
        )
    axis = channel_axis(shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and axis is None):
        raise RequestError(f"{path}: is a picture, but the model takes samples of {list(shape)}")
    space = [d for i, d in enumerate(shape) if i != axis]
    channels = 1 if axis is None else shape[axis]
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning), Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):  # convert() would cut off everything above 255
                image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
            image = image.convert(CHANNELS[int(channels or 1)])
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise RequestError(f"{path}: not a readable picture ({error})") from None
    height, width = (d if isinstance(d, int) else size for d, size in zip(space, image.size[::-1], strict=True))
    pixels = np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR))
    return scale.apply(pixels[..., None] if pixels.ndim == 2 else pixels)


def _layout(picture: np.ndarray, shape: Shape) -> np.ndarray:
    """[height, width, channels] in the order that the model takes."""
    axis = channel_axis(shape)
    return picture[..., 0] if axis is None else np.moveaxis(picture, -1, axis)


# Random inputs, for those who have none at hand.


def sized(declared: Sequence[Any], side: int, batch: int = 1) -> list[int]:
    """``declared`` with a number for every size: ``batch`` on axis 0, ``side`` for others that are open."""
    return [size if isinstance(size, int) else side if axis else batch for axis, size in enumerate(declared)]


def drawn(rng: np.random.Generator, shape: Sequence[int], low: Any, high: Any) -> np.ndarray:
    """Uniform numbers between the bounds (a list has one number a channel), or normal ones where there are no bounds."""
    if low is None or high is None:
        return rng.normal(size=shape)
    ends = []
    for bound in (np.asarray(low, np.float64), np.asarray(high, np.float64)):
        if bound.ndim == 1 and bound.size > 1:
            channel = next(axis for axis in (1, len(shape) - 1) if shape[axis] == bound.size)
            bound = bound.reshape([-1 if axis == channel else 1 for axis in range(len(shape))])
        ends.append(bound)
    return rng.uniform(ends[0], ends[1], shape)


def open_size(declared: Mapping[str, Sequence[Any]], run: Callable[[dict[str, np.ndarray]], object]) -> int:
    """The first of some usual heights and widths that a model takes where it leaves them open. Raises ``RequestError``."""
    for side in SIDES:
        try:
            run({name: np.zeros(sized(shape, side)) for name, shape in declared.items()})
        except Exception:  # ONNX Runtime's own exceptions share no base class
            continue
        return side
    raise RequestError("the model takes no input of a size that could be guessed; give real ones with --inputs")
