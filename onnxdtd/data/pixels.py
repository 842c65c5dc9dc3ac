"""Pictures in files, one or several in a row, as pixels of the size that a model takes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from onnxdtd import bounded
from onnxdtd.data.preprocessing import Placing, place
from onnxdtd.errors import RequestError


def picture(path: Path, mode: str) -> Image.Image:
    """The first picture in a file, upright, in a mode of Pillow's. Raises ``RequestError`` where there is none."""
    return pictures(path, mode, first=True)[0][0]


def pictures(path: Path, mode: str, first: bool = False) -> tuple[list[Image.Image], list[float]]:
    """All pictures in a file, upright, in a mode of Pillow's, or the ``first`` alone; and for how many seconds each is shown,
    where the file says so. Raises ``RequestError`` where there are none.
    """
    found, seconds = [], []
    try:
        with warnings.catch_warnings(action="ignore"), bounded.opened(path) as file, Image.open(file) as whole:
            for image in [whole] if first else ImageSequence.Iterator(whole):
                found.append(_upright(image, mode))
                seconds.append(float(image.info.get("duration", 0)) / 1000)
    except Exception as error:  # Pillow raises a dozen kinds of them over damaged files
        reason = "it is none that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise RequestError(f"{path}: not a readable picture ({reason})") from None
    return found, [length for length in seconds if length > 0]


def _upright(picture: Image.Image, mode: str) -> Image.Image:
    image = ImageOps.exif_transpose(picture)
    if image.mode.startswith("I;16"):  # convert() would cut off everything above 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return image.convert(mode)


def brought(
    path: Path, image: Image.Image, sides: tuple[int | None, int | None], preprocessing: Mapping[str, Any] | None
) -> tuple[np.ndarray, Placing]:
    """A picture as pixels [height, width] or [height, width, channels] of the ``sides`` that a model takes, None where that is
    open, and where it was placed, as ``onnxdtd.preprocessing.place`` says. Raises ``RequestError``.
    """
    size = (image.height, image.width)
    try:
        placing = place(size, sides, preprocessing)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    resized = image if placing.size == size else image.resize(placing.size[::-1], Image.Resampling.BILINEAR)
    starts = zip((placing.top, placing.left), placing.shape, strict=True)
    rows, columns = (slice(start, start + length) for start, length in starts)
    return np.asarray(resized)[rows, columns], placing
