"""Whatever the command line reads is a file, and not without end: pipes, devices, folders and bombs are refused in words."""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxdtd
from onnxdtd import bounded, labels
from onnxdtd.data import labelled, read
from onnxdtd.data.forms import Form
from onnxdtd.errors import OnnxdtdError
from onnxdtd.method.toml import Library

FORM = Form("x", [3, 4, 4], 0, (1, 2), np.zeros(()), np.ones(()))


def truths(path: Path) -> object:
    """What a folder's file of labels says."""
    (path.parent / "a.png").write_bytes(b"")
    return labelled.dataset(path.parent, FORM)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a model": ("net.onnx", onnxdtd.compile),
    "labels": ("labels.txt", labels.read),
    "rules": ("rules.toml", lambda path: Library().load(path)),
    "true classes": ("labels.json", truths),
    "an array": ("x.npy", lambda path: read.stacked(path, FORM)),
    "a picture": ("x.png", lambda path: list(read.samples(path, FORM))),
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes that have names")
@pytest.mark.parametrize("make", [pipe, device, folder])
@pytest.mark.parametrize(("name", "reader"), READERS.values(), ids=READERS)
def test_what_is_no_file(name: str, reader: Callable[[Path], object], make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / name)
    words = "folder|directory" if make is folder else "not a regular file"
    with pytest.raises(OnnxdtdError, match=words):
        reader(tmp_path / name)


def test_what_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(bounded.MOST_TEXT + 1)
    for reader in (labels.read, Library().load):
        with pytest.raises(OnnxdtdError, match="longer than"):
            reader(path)


def test_text_as_python_reads_it(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("\ufeffa\r\nb\rc\n".encode())
    assert bounded.text(tmp_path / "text") == "a\nb\nc\n"


BOMBS: dict[str, tuple[str, str, bool]] = {
    "deep lists": ("labels.json", "[" * 90_000, True),
    "deep lists that end": ("labels.json", "[" * 900 + "1" + "]" * 900, False),
    "deep objects": ("labels.json", '[{"a":' * 9000 + "1" + "}]" * 9000, True),
    "deep signs": ("labels.txt", "[" + "-" * 90_000 + "1]", False),
    "an index of many digits": ("labels.json", json.dumps({"9" * 5000: "cat"}), True),
    "a number of many digits": ("labels.json", "[" + "9" * 5000 + "]", True),
    "deep tables": ("rules.toml", "x = " + "[" * 30_000, True),
    "a whole number of many digits": ("rules.toml", "x = " + "9" * 5000, True),
    "a hexadecimal number of many digits": ("rules.toml", "[rule.r]\nterms = ['x w']\nepsilon = 0x" + "f" * 9000, True),
}


@pytest.mark.parametrize(("name", "text", "refused"), BOMBS.values(), ids=BOMBS)
def test_texts_that_are_made_to_be_trouble(name: str, text: str, refused: bool, tmp_path: Path) -> None:
    """At once."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    reader: Callable[[Path], Any] = labels.read if name.startswith("labels") else Library().load
    with pytest.raises(OnnxdtdError, match=re.escape(str(path))) if refused else nullcontext():
        assert len(reader(path)) == 1


def test_an_archive_that_is_made_to_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LARGE", 2**16)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((4000, 3, 4, 4), np.float32))
    with pytest.raises(OnnxdtdError, match=r"x\.npy is [0-9]+ bytes packed into [0-9]+"):
        read.stacked(tmp_path / "x.npz", FORM)


def header(shape: str) -> bytes:
    """An array that says of itself what it is not."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "shape", ["(2**62,)", "(99999999999, 3, 4, 4)", "(-1, 3, 4, 4)", "(9223372036854775807, 9)", "[1]", "((((1"]
)
def test_arrays_that_are_not_there(shape: str, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(header(shape))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", header(shape))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(OnnxdtdError, match="not a readable numpy file"):
            read.stacked(tmp_path / name, FORM)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_pictures_that_are_not_there(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 99999, 99999, 8, 2, 0, 0, 0)
    pictures = [
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""),
        b"GIF89a\xff\xff\xff\xff\x00\x00\x00,",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
        b"II*\x00\x08\x00\x00\x00\xff\xff",
        b"",
    ]
    for picture in pictures:
        (tmp_path / "x.png").write_bytes(picture)
        with pytest.raises(OnnxdtdError, match="not a readable picture"):
            list(read.samples(tmp_path / "x.png", FORM))
