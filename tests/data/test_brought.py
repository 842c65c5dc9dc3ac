"""Data sets at URLs and in lists: on this disk they are what a folder of the same pictures is, and are gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxdtd.data.brought import brought
from onnxdtd.data.forms import Form
from onnxdtd.data.labelled import dataset
from onnxdtd.data.tables import NO_ROLES, Roles
from onnxdtd.errors import OnnxdtdError, RequestError

FORM = Form("x", [1, 4, 4], 0, low=np.zeros([]), high=np.ones([]))
LIST = """file,class,who,xmin,ymin,xmax,ymax
sub/0.png,3,b,0,1,2,3
1.png,cat,,,,,
0.png,,a,1,1,4,4
none.png,1,c,,,,
two/x.png,2,../b,,,,
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Four pictures, two of one name; nothing stays where copies are made."""
    there = tmp_path / "photos"
    for i, name in enumerate(("0.png", "1.png", "sub/0.png", "two/x.png")):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 50 * i, np.uint8)).save(there / name)
    (there / "list.csv").write_text(LIST)
    (tmp_path / "made").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "made"))
    yield there
    assert list((tmp_path / "made").iterdir()) == []


@pytest.fixture
def bucket(folder: Path) -> Iterator[str]:
    """The same in a store."""
    system = pytest.importorskip("fsspec").filesystem("memory")
    for path in folder.rglob("*.*"):
        if path.is_file():
            system.put_file(str(path), f"/bucket/{path.relative_to(folder).as_posix()}")
    yield "memory://bucket"
    system.store.clear()


def read(data: str, roles: Roles = NO_ROLES) -> tuple[str, list[Any], dict[str, str]]:
    """What a data set is called, its samples by name, pixel, class and box, and what is skipped."""
    with brought(data, roles) as there:
        found = dataset(there.path, FORM)
        items = [found[i] for i in range(len(found))]
        told = [(item.name, round(float(item.x.max() * 255)), item.label, item.box) for item in items]
        return there.path.name, told, dict(found.skipped)


def test_what_is_here_stays_where_it_is(folder: Path) -> None:
    with brought(folder) as there:
        assert there.path == folder
    assert folder.exists()


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_list_has_pictures_of_all_folders_with_classes_names_and_boxes(where: str, folder: Path, bucket: str) -> None:
    root = str(folder) if where == "here" else bucket
    name, items, skipped = read(f"@{root}/list.csv", Roles("class", "who"))
    assert name == "list"
    assert items == [(".._b.png", 150, 2, None), ("1.png", 50, "cat", None), ("b.png", 100, 3, (0, 1, 2, 3))]
    assert {*skipped} == {"a.png", "c.png"}
    assert "it has no label" in skipped["a.png"]
    assert "cannot be read (No such file" in skipped["c.png"]


def test_what_is_wrong_with_a_file_of_a_list_is_said_with_the_name_that_it_has_there(folder: Path) -> None:
    (folder / "other.csv").write_text("file,class,who\nsub/0.png,1,\nbad.png,2,b\n")
    (folder / "bad.png").write_text("no picture")
    with brought(f"@{folder}/other.csv", Roles("class", "who")) as there:
        found = dataset(there.path, FORM)
        with pytest.raises(RequestError) as ended:
            [found[i] for i in range(len(found))]
        (entry,) = there.said([{"name": "b.png", "reason": str(ended.value)}])
    assert entry["reason"].startswith(f"{folder / 'bad.png'}: not a readable picture")


def test_of_one_name_each_gets_its_own_and_without_labels_there_are_none(folder: Path) -> None:
    (folder / "list.txt").write_text("0.png\nsub/0.png\nsub\n")
    _, items, skipped = read(f"@{folder}/list.txt")
    assert (items, skipped) == ([("0.png", 0, None, None), ("0_1.png", 100, None, None), ("0_2.png", 100, None, None)], {})


def test_a_store_has_files_and_folders_of_them(bucket: str) -> None:
    system = pytest.importorskip("fsspec").filesystem("memory")
    system.pipe_file("/bucket/labels.csv", b"0.png,7\n1.png,8\n2.png,9\n")
    name, items, skipped = read(bucket)
    assert (name, items) == ("bucket", [("0.png", 0, 7, None), ("1.png", 50, 8, None)])
    assert skipped == {"2.png": "is in labels.csv, but not in the folder"}
    system.pipe_file("/bucket/bad.npz", b"none")
    with pytest.raises(RequestError, match=r"^memory://bucket/bad\.npz: not a readable numpy file"):
        read(f"{bucket}/bad.npz")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("@{}/none.csv", "none.csv: no such file"),
        ("@{}/tables.txt", r"a\.csv: is no picture or sound, as in a list to measure on; give it as --data itself"),
        ("@{}/arrays.txt", r"a\.npz: is no picture or sound"),
        ("memory://none/a.npz", "memory://none/a.npz: no such file"),
        ("nonsense://a.npz", "nonsense"),
    ],
)
def test_refusals(data: str, words: str, folder: Path) -> None:
    (folder / "tables.txt").write_text("0.png\na.csv\n")
    (folder / "arrays.txt").write_text("a.npz\n")
    with pytest.raises(OnnxdtdError, match=words):
        read(data.format(folder))
