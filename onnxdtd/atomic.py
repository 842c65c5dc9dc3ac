"""Writing a file all or nothing: a temporary one beside it takes its name. Nobody else in the package writes files."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from onnxdtd.errors import OnnxdtdError, RequestError


def write(path: Path, data: bytes, refused: type[OnnxdtdError] = RequestError) -> None:
    """Write a file; a link is followed. Raises ``refused`` where that cannot be, and leaves what was there."""
    with _beside(path, refused) as (file, target):
        file.write(data)
        file.close()
        os.replace(file.name, target)


def copy(origin: Path, path: Path, refused: type[OnnxdtdError] = RequestError) -> None:
    """The same with what another file holds."""
    with _beside(path, refused) as (file, target), origin.open("rb") as source:
        shutil.copyfileobj(source, file, 1 << 20)
        file.close()
        os.replace(file.name, target)


@contextmanager
def streamed(path: Path, refused: type[OnnxdtdError] = RequestError) -> Iterator[BinaryIO]:
    """A file to write piece by piece; it takes its name once all of it is there."""
    with _beside(path, refused) as (file, target):
        yield file
        file.close()
        os.replace(file.name, target)


@contextmanager
def folder(path: Path, refused: type[OnnxdtdError] = RequestError) -> Iterator[Path]:
    """A folder to fill; it takes its name, and the place of what has it, once all of it is there."""
    target = path.resolve()
    temporary, old = (target.with_name(f".{secrets.token_hex(8)}") for _ in range(2))
    try:
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.rename(old)
        temporary.rename(target)
    except OSError as error:
        raise refused(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def ready(path: Path, refused: type[OnnxdtdError] = RequestError) -> None:
    """Raises ``refused`` where ``path`` could not be written: sooner than after a long run."""
    with _beside(path, refused):
        pass


@contextmanager
def _beside(path: Path, refused: type[OnnxdtdError]) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file in the folder of ``path``, gone at the end unless it was renamed, and what ``path`` leads to."""
    try:
        if path.is_dir():
            raise refused(f"{path}: is a folder; give the name of the file to write")
        target = path.resolve()  # replace the file, not a link to it
        if not target.parent.is_dir():
            raise refused(f"{path}: the folder {path.parent} does not exist")
        if os.path.lexists(target) and not target.is_file():
            raise refused(f"{path}: is not a regular file; give the name of the file to write")
        temporary = target.with_name(f".{secrets.token_hex(8)}")  # however long the name is
        try:
            with temporary.open("xb") as file:  # with the permissions of any new file
                yield file, target
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle; ValueError: a null in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise refused(f"{path}: cannot be written ({reason})") from None
