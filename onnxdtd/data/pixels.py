"""Pictures in files, one or several in a row, as pixels of the size that a model takes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from onnxdtd import bounded
from onnxdtd.data.preprocessing import Placing, place
from onnxdtd.errors import RequestError

# What is read, whatever a file is called: Pillow knows dozens, and has ghostscript run what an EPS file says.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
MOST_READ = 2**27  # of all pictures in a file together


def picture(source: Path | BinaryIO, mode: str) -> Image.Image:
    """The first picture in a file, upright, in a mode of Pillow's. Raises ``RequestError`` where there is none."""
    return pictures(source, mode, first=True)[0][0]


def pictures(source: Path | BinaryIO, mode: str, first: bool = False) -> tuple[list[Image.Image], list[float]]:
    """All pictures in a file, upright, in a mode of Pillow's, or the ``first`` alone; and for how many seconds each is shown,
    where the file says so. Raises ``RequestError`` where there are none, or more of them than fit into memory.
    """
    found, seconds, pixels = [], [], 0
    try:
        with warnings.catch_warnings(action="ignore"), _file(source) as file, Image.open(file, formats=FORMATS) as whole:
            for image in [whole] if first else ImageSequence.Iterator(whole):
                pixels += image.width * image.height
                if pixels > MOST_READ:  # a few bytes can say that there are any number of them
                    raise ValueError(f"more than {MOST_READ:,} pixels")
                found.append(_upright(image, mode))
                seconds.append(float(image.info.get("duration", 0)) / 1000)
    except FileNotFoundError:
        raise RequestError(f"{called(source)}: no such file") from None
    except IsADirectoryError:
        raise RequestError(f"{called(source)}: is a folder, and no picture") from None
    except Exception as error:  # Pillow raises a dozen kinds of them over damaged files
        strange = isinstance(error, UnidentifiedImageError | KeyError)  # of Pillows that do not know AVIF
        reason = f"it is none of {', '.join(FORMATS)}" if strange else error
        raise RequestError(f"{called(source)}: not a readable picture ({reason})") from None
    return found, [length for length in seconds if length > 0]


def called(source: Path | BinaryIO) -> str:
    """What to call a picture."""
    return str(source) if isinstance(source, Path) else "the picture"


def _file(source: Path | BinaryIO) -> BinaryIO:
    return bounded.opened(source) if isinstance(source, Path) else source


def _upright(picture: Image.Image, mode: str) -> Image.Image:
    image = ImageOps.exif_transpose(picture)
    if image.mode.startswith("I;16"):  # convert() would cut off everything above 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return image.convert(mode)


def brought(
    name: str, image: Image.Image, sides: tuple[int | None, int | None], preprocessing: Mapping[str, Any] | None
) -> tuple[np.ndarray, Placing]:
    """A picture as pixels [height, width] or [height, width, channels] of the ``sides`` that a model takes, None where that is
    open, and where it was placed, as ``onnxdtd.preprocessing.place`` says. Raises ``RequestError``.
    """
    size = (image.height, image.width)
    try:
        placing = place(size, sides, preprocessing)
    except RequestError as error:
        raise RequestError(f"{name}: {error}") from None
    resized = image if placing.size == size else image.resize(placing.size[::-1], Image.Resampling.BILINEAR)
    starts = zip((placing.top, placing.left), placing.shape, strict=True)
    rows, columns = (slice(start, start + length) for start, length in starts)
    return np.asarray(resized)[rows, columns], placing
