"""Writing files: all or nothing, whatever is there and whatever goes wrong."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from onnxdtd import atomic
from onnxdtd.errors import ModelError, RequestError

Write = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.fixture(params=["write", "copy"])
def put(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    """Both ways to write what is new."""
    (tmp_path / "origin").write_bytes(b"new")
    return (lambda path: atomic.write(path, b"new")) if request.param == "write" else partial(atomic.copy, tmp_path / "origin")


@pytest.mark.parametrize("name", ["file", "n" * 255])
def test_writing(put: Write, name: str, folder: Path) -> None:
    for old in (None, b"something longer than that"):
        if old is not None:
            (folder / name).write_bytes(old)
        put(folder / name)
        assert [(file.name, file.read_bytes()) for file in folder.iterdir()] == [(name, b"new")]


def test_a_link_is_followed(put: Write, folder: Path) -> None:
    (folder / "link").symlink_to("file")
    put(folder / "link")
    assert (folder / "link").is_symlink()
    assert (folder / "file").read_bytes() == b"new"


def test_permissions_are_those_of_any_new_file(put: Write, folder: Path) -> None:
    before = os.umask(0o027)
    try:
        put(folder / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("target", "phrase"),
    [
        (".", "is a folder; give the name of the file to write"),
        ("missing/file", "the folder .*missing does not exist"),
        ("file/file", "the folder .*file does not exist"),
        ("pipe", "is not a regular file"),
        ("loop", "cannot be written|is not a regular file"),
        ("n" * 300, r"cannot be written \(File name too long\)"),
        ("null\0", r"cannot be written \(embedded null byte\)"),
    ],
)
def test_what_cannot_be_written_is_refused(put: Write, target: str, phrase: str, folder: Path) -> None:
    (folder / "file").write_bytes(b"mine")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    before = sorted(folder.iterdir())
    for write in (put, atomic.ready):
        with pytest.raises(RequestError, match=f"^{re.escape(str(folder / target))}: ({phrase})"):
            write(folder / target)
    assert sorted(folder.iterdir()) == before
    assert (folder / "file").read_bytes() == b"mine"


def test_the_caller_says_whose_fault_it_is(folder: Path) -> None:
    for write in (lambda: atomic.write(folder, b"", ModelError), lambda: atomic.ready(folder, ModelError)):
        with pytest.raises(ModelError):
            write()


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(
    put: Write, fault: BaseException, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_bytes(b"old")

    def fails(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        expected = KeyboardInterrupt if isinstance(fault, KeyboardInterrupt) else RequestError
        with pytest.raises(expected, match=r"^$|file: cannot be written \(No space left on device\)"):
            put(folder / "file")
    assert [(file.name, file.read_bytes()) for file in folder.iterdir()] == [("file", b"old")]


def test_half_a_copy_is_never_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "origin").write_bytes(b"x" * 100)

    def half(source: object, target: object, *_: object) -> None:
        target.write(b"x" * 50)  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfileobj", half)
    with pytest.raises(KeyboardInterrupt):
        atomic.copy(folder / "origin", folder / "copy")
    assert [file.name for file in folder.iterdir()] == ["origin"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "site").mkdir()
    (folder / "site" / "old").write_text("")
    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if (path / "new").exists():
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(RequestError, match="site: cannot be written"), atomic.folder(folder / "site") as made:
        (made / "new").write_text("")
    assert [path.name for path in folder.rglob("*")] == ["site", "old"]


def test_asking_changes_nothing(folder: Path) -> None:
    atomic.ready(folder / "file")
    assert list(folder.iterdir()) == []
    (folder / "file").write_bytes(b"old")
    atomic.ready(folder / "file")
    assert (folder / "file").read_bytes() == b"old"
