"""Samples to measure on that lie somewhere else: what is at a URL, or in a list, ``@LIST``, together on this disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from onnxdtd.data.given import LIST, Given, listed
from onnxdtd.data.labelled import ARRAYS, LABEL_FILES
from onnxdtd.data.read import SUFFIXES
from onnxdtd.data.remote import Place, Remote, opened, place, staged
from onnxdtd.data.tables import NO_ROLES, Roles
from onnxdtd.errors import OnnxdtdError, RequestError

NOWHERE = "nowhere"  # is where a file is that there is not


@dataclass(frozen=True)
class Brought:
    """Where a data set is, what it was ``called``, and what its ``files`` were called, if they are here by other names."""

    path: Path
    called: str
    files: Mapping[str, str]

    def said(self, skipped: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """The names of what is skipped, and the reasons, by what all that was called."""
        return [{key: self.spoken(text) for key, text in entry.items()} for entry in skipped]

    def spoken(self, text: str) -> str:
        """The same, with what was given instead of what is here."""
        for name in sorted(self.files, key=len, reverse=True):
            text = text.replace(str(self.path / name), self.files[name])
        return text.replace(str(self.path), self.called)


@contextmanager
def brought(data: str | os.PathLike[str], roles: Roles = NO_ROLES) -> Iterator[Brought]:
    """A data set on this disk, as long as it is needed: itself, a copy of what is at a URL, or a folder with all that a list
    names, pictures and sounds, by their labels and boxes. Raises ``RequestError``, and ``OnnxdtdError`` where a store cannot be
    asked.
    """
    text = os.fspath(data)
    is_list, there = text.startswith(LIST), place(text.removeprefix(LIST))
    if isinstance(there, Path) and not is_list:
        yield Brought(there, str(there), {})
        return
    root = Path(tempfile.mkdtemp(prefix="onnxdtd-"))
    files = dict[str, str]()
    found = Brought(root / (there.stem if is_list else there.name), text, files)
    try:
        if isinstance(there, Remote) and not is_list:
            _fetch(there, found.path)
        else:
            files |= _gather(listed(there, SUFFIXES, roles, boxes=True), found.path)
        yield found
    except OnnxdtdError as error:
        error.args = tuple(found.spoken(said) if isinstance(said, str) else said for said in error.args)
        raise
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _fetch(remote: Remote, here: Path) -> None:
    """A file, or what is of use in a folder."""
    inside = opened(remote, lambda name: PurePath(name).suffix.lower() in SUFFIXES or name in LABEL_FILES)
    if inside is not None:
        here.mkdir()
    for file in [remote] if inside is None else inside:
        with staged(file) as copy:
            shutil.move(copy, here if inside is None else here / file.name)


def _gather(entries: Sequence[Given], here: Path) -> dict[str, str]:
    """What a list names, each by a name of its own, and what it was called. What is not found is skipped in its turn."""
    here.mkdir()
    told, called = dict[str, dict[str, object]](), dict[str, str]()
    for one in entries:
        suffix = one.file.suffix.lower()
        if suffix not in SUFFIXES or suffix in ARRAYS:
            raise RequestError(f"{one.file}: is no picture or sound, as in a list to measure on; give it as --data itself")
        name = _free(re.sub(r'[\x00-\x1f/\\<>:"|?*]', "_", one.name or one.file.stem), suffix, told)
        told[name], called[name] = {"label": one.label, "box": one.box}, str(one.file)
        _put(one.file, here / name)
    if any(said["label"] is not None for said in told.values()):
        (here / LABEL_FILES[1]).write_text(json.dumps(told), encoding="utf-8")
    return called


def _free(stem: str, suffix: str, taken: Container[str]) -> str:
    """The name of a file that none has yet."""
    name, number = f"{stem}{suffix}", 1
    while name in taken:
        name, number = f"{stem}_{number}{suffix}", number + 1
    return name


def _put(file: Place, to: Path) -> None:
    """A link to a file, or a copy where there is none."""
    if isinstance(file, Remote):
        with suppress(RequestError), staged(file) as copy:
            shutil.move(copy, to)
            return
    try:
        to.symlink_to(file.absolute() if isinstance(file, Path) else NOWHERE)
    except OSError:  # Windows, without the right to
        shutil.copyfile(str(file), to)
