"""Files in object stores and other places that have a URL: read and written by fsspec, one at a time, by way of this disk."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from onnxdtd.errors import OnnxdtdError, RequestError

AT_ONCE = 32  # questions that a store is asked
ALONE = "memory://"  # what no other process sees


@dataclass(frozen=True)
class Remote:
    """A file, or a folder, by its URL."""

    url: str

    def __str__(self) -> str:
        """The URL."""
        return self.url

    @property
    def name(self) -> str:
        """Its last part, as that of a ``Path``."""
        first = self.url.partition("::")[0]
        inner = first if "://" in first else self.url
        return PurePosixPath(urlsplit(inner).path if inner.startswith("http") else inner).name

    @property
    def suffix(self) -> str:
        """The end of the name, from its last point on."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without that."""
        return PurePosixPath(self.name).stem

    def beside(self, name: str) -> Remote:
        """Another file in its folder."""
        return Remote(f"{self.url.rpartition('/')[0]}/{name}")

    def below(self, name: str) -> Remote:
        """A file in this folder; of one in an archive, ``zip://folder::archive.zip``, in the archive."""
        first, sign, rest = self.url.partition("::")
        if sign and "://" not in first:  # a cache, or the like, in front of the whole
            return Remote(f"{self.url.rstrip('/')}/{name}")
        return Remote(f"{first}{'' if first.endswith('/') else '/'}{name}{sign}{rest}")


Place = Path | Remote


def place(text: str | os.PathLike[str]) -> Place:
    """What a person calls a file: by a URL, or by a path."""
    return Remote(str(text)) if "://" in str(text) else Path(text)


@contextmanager
def asked(remote: Remote) -> Iterator[tuple[Any, str]]:
    """The file system of a URL, and the path there. What is not there is a ``RequestError``; all else that goes wrong is no
    fault of the file, and an ``OnnxdtdError``, which ends a run that may go on later.
    """
    try:
        import fsspec
    except ImportError:
        raise OnnxdtdError(
            f"{remote}: fsspec, which reads and writes URLs, is not installed: pip install 'onnxdtd[data]'"
        ) from None
    try:
        yield fsspec.core.url_to_fs(remote.url)
    except (FileNotFoundError, IsADirectoryError):
        raise RequestError(f"{remote}: no such file") from None
    except OnnxdtdError:
        raise
    except Exception as error:  # each file system raises those of its own library
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        extra = remote.url.partition("://")[0].replace("https", "http")
        if isinstance(error, ImportError) and extra in (metadata("fsspec").get_all("Provides-Extra") or ()):
            reason = f"{reason}: pip install 'fsspec[{extra}]'"
        raise OnnxdtdError(f"{remote}: {reason}") from None


@contextmanager
def staged(file: Place) -> Iterator[Path]:
    """A file on this disk: itself, or a copy that is gone afterwards. Raises as ``asked`` does; what is wrong with what is in a
    file is told by its URL.
    """
    if isinstance(file, Path):
        yield file
        return
    copy = Path(tempfile.mkdtemp(prefix="onnxdtd-"), file.name)
    try:
        with asked(file) as (system, path):
            system.get_file(path, str(copy))
        yield copy
    except RequestError as error:
        raise RequestError(str(error).replace(str(copy), file.url)) from None
    finally:
        shutil.rmtree(copy.parent, ignore_errors=True)


def opened(remote: Remote, wanted: Callable[[str], bool]) -> list[Remote] | None:
    """The files in a folder of which the names are ``wanted``, in their order; None of what is no folder."""
    with asked(remote) as (system, path):
        if not system.isdir(path):
            return None
        names = sorted(str(found).rstrip("/").rpartition("/")[2] for found in system.ls(path, detail=False))
    return [remote.below(name) for name in names if wanted(name)]


def versions(remotes: Sequence[Remote]) -> list[str | None]:
    """What changes when the file at a URL does, as far as its store says so; None where there is none."""

    def version(remote: Remote) -> str | None:
        try:
            with asked(remote) as (system, path):
                return str(system.ukey(path))
        except RequestError:
            return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(version, remotes))


def inside(remote: Remote) -> list[str]:
    """The files in a folder and those below it, relative to it; none where there is none."""
    with asked(remote) as (system, path):
        return [str(found)[len(path.rstrip("/")) + 1 :] for found in system.find(path)]


def check(remote: Remote) -> None:
    """Raises ``OnnxdtdError`` where nothing could be written beside a file: sooner than after a long run."""
    try:
        with asked(remote) as (system, path):
            probe = f"{path.rstrip('/')}.{secrets.token_hex(8)}"
            with system.transaction, system.open(probe, "wb") as file:
                file.write(b"")
            system.rm_file(probe)
    except RequestError:
        raise RequestError(f"{remote}: the folder or bucket that it would be in does not exist") from None


def put(local: Path, remote: Remote) -> None:
    """Write a file as a whole: it is there once all of it is, as far as its file system has such a thing; object stores do."""
    with asked(remote) as (system, path), local.open("rb") as data, system.transaction, system.open(path, "wb") as file:
        shutil.copyfileobj(data, file, 1 << 20)


def put_folder(local: Path, remote: Remote, last: str, first: Callable[[str], bool] = bool) -> None:
    """Write the files in a folder, and remove what else is there. The file ``last`` is gone before anything changes and comes
    back when all the others are there: whoever finds it has a whole folder.
    """
    names = sorted(path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file())
    before = inside(remote)
    _remove(remote, [name for name in before if name == last])
    for folder in sorted({name.rpartition("/")[0] for name in names}):
        with asked(remote.below(folder)) as (system, path):
            system.makedirs(path, exist_ok=True)
    for name in sorted((name for name in names if name != last), key=lambda name: not first(name)):
        put(local / name, remote.below(name))
    _remove(remote, sorted({*before} - {*names, last}))
    put(local / last, remote.below(last))


def _remove(remote: Remote, names: Iterable[str]) -> None:
    """Remove files of a folder."""
    for name in names:
        with asked(remote.below(name)) as (system, path):
            system.rm_file(path)
