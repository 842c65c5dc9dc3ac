"""Files are read where they are files, and not too long: no pipe is waited for, and no device read without end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MOST_TEXT = 2**23  # bytes of labels
LARGE, MOST_PACKED = 2**27, 300  # bytes that something packed may become, or how many times its own


def opened(path: Path, most: int | None = None) -> BufferedReader:
    """A file to read from. Raises ``OSError`` where it is none, or of more than ``most`` bytes."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if most is not None and found.st_size > most:
        raise OSError(errno.EFBIG, f"longer than {most} bytes", str(path))
    return path.open("rb")


def data(path: Path, most: int) -> bytes:
    """What is in a file. Raises ``OSError`` as ``opened`` does."""
    with opened(path, most) as file:
        return file.read()


def text(path: Path, most: int = MOST_TEXT) -> str:
    """The same as text. Raises ``UnicodeDecodeError`` where it is none."""
    return data(path, most).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def check_packing(what: str, size: int, packed: int) -> None:
    """Raise ``ValueError`` where something packed into so few bytes is made to fill the memory."""
    if size > LARGE and size > MOST_PACKED * packed:
        raise ValueError(f"{what} is {size} bytes packed into {packed}, which no samples are")
