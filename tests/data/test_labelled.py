"""Samples with labels and boxes; what is wrong is named, and costs nothing else."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import form
from PIL import Image

from onnxdtd.data.forms import Form
from onnxdtd.data.labelled import dataset, records
from onnxdtd.data.preprocessing import checked, place
from onnxdtd.data.tables import NO_ROLES
from onnxdtd.errors import RequestError

SHAPE = (3, 8, 8)
FORM = form(SHAPE, 0.0, 1.0)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (4, 3, 8, 8), np.uint8)


def archive(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "some.npz", **{"image": PIXELS, **arrays})
    return folder / "some.npz"


def pictures(folder: Path, labels: str | None, name: str = "labels.csv") -> Path:
    for i, size in enumerate([(8, 8), (16, 8), (20, 40)]):
        Image.fromarray(RNG.integers(0, 256, (*size[::-1], 3), np.uint8)).save(folder / f"p{i}.png")
    if labels is not None:
        (folder / name).write_text(labels, encoding="utf-8")
    return folder


def test_an_archive(tmp_path: Path) -> None:
    boxes = np.array([[0, 0, 8, 8], [1, 2, 3, 5], [0, 0, 1, 1], [2, 2, 4, 4]])
    data = dataset(archive(tmp_path, label=np.arange(4), box=boxes), FORM)
    assert len(data) == 4
    item = data[1]
    assert (item.name, item.label, item.box, item.remark) == ("some_1", 1, (1, 2, 3, 5), "")
    np.testing.assert_allclose(item.x, PIXELS[1] / 255)
    mask = item.mask()
    assert mask is not None
    assert mask.sum() == 6
    assert mask[2:5, 1:3].all()


def test_without_labels(tmp_path: Path) -> None:
    item = dataset(archive(tmp_path), FORM)[0]
    assert (item.label, item.box, item.mask()) == (None, None, None)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"label": np.arange(3)}, "4 samples, but 3 entries in 'label'"),
        ({"box": np.zeros((5, 4))}, "4 samples, but 5 entries in 'box'"),
        ({"label": np.ones(4)}, "not \\[n\\] integers or strings"),
        ({"box": np.zeros((4, 3))}, "not \\[n, 4\\]"),
        ({"label": np.asarray(3)}, "4 samples, but 1 entries in 'label'"),
        ({"box": np.asarray(3)}, "4 samples, but 1 entries in 'box'"),
        ({"label": np.array([1, None, 2, 3])}, "not a readable numpy file \\(Object arrays"),
        ({"image": PIXELS[:, :, :5]}, "the model takes samples of"),
    ],
)
def test_archives_that_are_of_no_use(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words):
        dataset(archive(tmp_path, **arrays), FORM)


def test_one_bad_sample_is_an_error_of_its_own(tmp_path: Path) -> None:
    values = PIXELS / 255.0
    values[2, 0, 0, 0] = np.nan
    boxes = np.array([[0, 0, 9, 8], [3, 2, 3, 5], [0, 0, 1, 1], [2, 2, 4, 4]])
    data = dataset(archive(tmp_path, image=values, box=boxes), FORM)
    assert "does not lie in the picture (8x8)" in data[0].remark
    assert "[3, 2, 3, 5] is left out" in data[1].remark, "it is empty"
    assert data[1].box is None
    with pytest.raises(RequestError, match="has values that are NaN"):
        data[2]
    assert data[3].box == (2, 2, 4, 4)


def test_a_folder_with_csv(tmp_path: Path) -> None:
    text = "file,label,x0,y0,x1,y1\np0.png,3\np1.png, 1, 0,0,8,8\nlost.png,2\np2.png,cat\n"
    data = dataset(pictures(tmp_path, text), FORM)
    assert [(data.name(i), data[i].label) for i in range(len(data))] == [("p0.png", 3), ("p1.png", 1), ("p2.png", "cat")]
    assert data[1].box == (0, 0, 4, 8), "8 of 16 columns, of which 4 on either side were cut off"
    assert data.skipped["lost.png"] == "is in labels.csv, but not in the folder"


def test_a_folder_with_json(tmp_path: Path) -> None:
    text = json.dumps({"p0.png": 3, "p1.png": {"label": 1, "box": [0, 0, 16, 8]}, "p2.png": {"label": 0, "box": [1, 2]}})
    data = dataset(pictures(tmp_path, text, "labels.json"), FORM)
    assert [(data[i].label, data[i].box) for i in range(2)] == [(3, None), (1, (0, 0, 8, 8))]
    assert "its box has 2 numbers" in data.skipped["p2.png"]


def test_a_folder_without_labels_and_with_a_broken_picture(tmp_path: Path) -> None:
    folder = pictures(tmp_path, None)
    (folder / "p1.png").write_bytes(b"no picture")
    data = dataset(folder, FORM)
    assert data[0].label is None
    with pytest.raises(RequestError, match="not a readable picture"):
        data[1]
    assert data[2].x.shape == SHAPE


def test_a_picture_without_label_is_named(tmp_path: Path) -> None:
    data = dataset(pictures(tmp_path, "p0.png,1\n"), FORM)
    assert len(data) == 1
    assert data.skipped == {"p1.png": "has no label in labels.csv", "p2.png": "has no label in labels.csv"}


@pytest.mark.parametrize("text", ["p9.png,1\n", "", "[1, 2]"])
def test_labels_for_nothing(text: str, tmp_path: Path) -> None:
    name = "labels.json" if text.startswith("[") else "labels.csv"
    with pytest.raises(RequestError, match=r"none of its 3 pictures|no labels can be read"):
        dataset(pictures(tmp_path, text, name), FORM)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        dataset(tmp_path / "nothing.npz", FORM)
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(RequestError, match="samples and labels, or a folder"):
        dataset(tmp_path / "text.txt", FORM)


def test_the_digest_tells_contents_apart(tmp_path: Path) -> None:
    first = dataset(archive(tmp_path, label=np.arange(4)), FORM).digest()
    assert first == dataset(archive(tmp_path, label=np.arange(4)), FORM).digest()
    assert first != dataset(archive(tmp_path, label=np.arange(1, 5)), FORM).digest()


def test_the_digest_of_a_folder_is_that_of_what_is_in_it(tmp_path: Path) -> None:
    """Not of times and sizes, which a picture that changed may share with what it was."""
    folder = pictures(tmp_path, "p0.png,3\np1.png,4\n")
    first = dataset(folder, FORM).digest()
    assert dataset(folder, FORM).digest() == first
    picture = folder / "p1.png"
    data, times = bytearray(picture.read_bytes()), picture.stat()
    data[-20] ^= 1
    picture.write_bytes(bytes(data))
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = dataset(folder, FORM).digest()
    assert changed != first
    (folder / "labels.csv").write_text("p0.png,3\np1.png,5\n")
    assert dataset(folder, FORM).digest() not in (first, changed)


@pytest.mark.parametrize(
    ("box", "size", "asked", "expected"),
    [
        ([0, 0, 10, 10], (10, 10), {"resize": 100}, [0, 0, 100, 100]),
        ([5, 0, 15, 10], (20, 10), {"resize": 100}, [0, 0, 100, 100]),
        ([0, 0, 10, 10], (20, 10), {"resize": 100}, [0, 0, 50, 100]),
        ([0, 20, 10, 30], (10, 40), {"resize": 100}, [0, 50, 100, 100]),
        ([0, 0, 10, 10], (20, 10), {"crop": "none"}, [0, 0, 50, 100]),
        ([64, 64, 192, 192], (256, 256), {"resize": 200}, [0, 0, 100, 100]),
        ([56, 56, 112, 112], (224, 224), {}, [21.5, 21.5, 50, 50]),
    ],
)
def test_boxes_follow_the_picture(
    box: list[float], size: tuple[int, int], asked: dict[str, Any], expected: list[float]
) -> None:
    """Of a picture of ``size`` (width, height): 224 pixels become 114, of which 7 on either side are cut off."""
    shape = size[::-1]
    found = place(shape, (100, 100), form((3, 100, 100), 0, 1, **asked).preprocessing)
    assert found.box(box, shape) == expected


def test_a_box_outside_of_the_file_stays_outside(tmp_path: Path) -> None:
    """Even where the centre that is cut out would hold all that is left of it."""
    item = dataset(pictures(tmp_path, "p1.png,1,0,0,17,8\n"), FORM)[0]
    assert item.box is None
    assert "does not lie in the picture" in item.remark


def test_boxes_lie_on_what_they_name(tmp_path: Path) -> None:
    """A bright object in a dark photograph: after resizing and cropping it is inside of its box."""
    photo = np.zeros((300, 500, 3), np.uint8)
    photo[100:200, 230:330] = 255
    Image.fromarray(photo).save(tmp_path / "photo.png")
    (tmp_path / "labels.csv").write_text("photo.png,1,230,100,330,200\n")
    for asked in ({}, {"resize": 120}, {"crop": "none"}):
        item = dataset(tmp_path, form((3, 112, 112), 0, 1, **asked))[0]
        mask = item.mask()
        assert mask is not None
        light = item.x[0] > 0.5
        assert (light & mask).sum() > 0.93 * max(light.sum(), mask.sum()), asked


def test_an_archive_with_damaged_labels(tmp_path: Path) -> None:
    path = archive(tmp_path, label=np.full(4, 0x5A5A5A5A))
    path.write_bytes(path.read_bytes().replace(b"\x5a\x5a\x5a\x5a", b"\x5a\x5b\x5a\x5a"))
    with pytest.raises(RequestError, match=r"some.npz: not a readable numpy file \(Bad CRC"):
        dataset(path, FORM)


@pytest.mark.parametrize("edge", [np.nan, np.inf, -np.inf])
def test_boxes_without_numbers_are_left_out(edge: float, tmp_path: Path) -> None:
    boxes = np.tile([0.0, 0.0, 4.0, edge], (4, 1))
    item = dataset(archive(tmp_path, box=boxes), FORM)[0]
    assert item.box is None
    assert "is left out" in item.remark
    text = f"p0.png,1,0,0,4,{edge}\n"
    item = dataset(pictures(tmp_path, text), FORM)[0]
    assert item.box is None
    assert "is left out" in item.remark


@pytest.mark.parametrize(
    "text",
    [
        "file;label;x0;y0;x1;y1\np0.png;3;1;2;4;5\n",
        '\ufefffile\tlabel\tx0\ty0\tx1\ty1\r\n"p0.png"\t3\t1\t2\t4\t5\r\n',
        "x0,y0,x1,y1,label,file\n1,2,4,5,3,p0.png\n",
        "class,filename,split,ymin,xmin,ymax,xmax\n3,p0.png,train,2,1,5,4\n",
        "Label,my pictures,x0,y0,x1,y1\n3,p0.png,1,2,4,5\n",
    ],
)
def test_other_forms_of_csv(text: str, tmp_path: Path) -> None:
    item = dataset(pictures(tmp_path, text), FORM)[0]
    assert (item.label, item.box) == (3, (1, 2, 4, 5))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("labels.csv", "file,x0,y0,x1,y1,kind\np0.png,1,2,4,5,3\n", "no column is called 'label'"),
        ("labels.csv", "file,label\n" + "x" * 200_000 + ",1\n", "field larger than field limit"),
        ("labels.json", "[" * 100_000, "recursion"),
    ],
)
def test_labels_that_cannot_be_read(name: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"no labels can be read from it .*{words}"):
        dataset(pictures(tmp_path, text, name), FORM)


def test_fractions_are_no_classes(tmp_path: Path) -> None:
    data = dataset(pictures(tmp_path, '{"p0.png": 1, "p1.png": 1.7, "p2.png": 1e999}', "labels.json"), FORM)
    assert [data.name(i) for i in range(len(data))] == ["p0.png"]
    assert set(data.skipped) == {"p1.png", "p2.png"}


def test_pictures_of_one_name_are_told_apart_and_links_to_nothing_skipped(tmp_path: Path) -> None:
    folder = pictures(tmp_path, None)
    Image.new("RGB", (8, 8)).save(folder / "p0.jpg")
    (folder / "p9.png").symlink_to("nowhere.png")
    data = dataset(folder, FORM)
    assert [data[i].name for i in range(len(data))] == ["p0.jpg", "p0.png", "p1.png", "p2.png"]
    assert data.skipped == {"p9.png": "cannot be read (No such file or directory)"}


def test_numbers_of_a_table_are_no_pixels(tmp_path: Path) -> None:
    """What --mean and --std do to pictures is not done to them, which is said."""
    (tmp_path / "t.csv").write_text("a,b\n300,2\n")
    form = Form.of("x", ["n", 2], 0)
    assert records(tmp_path / "t.csv", form, NO_ROLES, False).filled.notes == []
    found = records(tmp_path / "t.csv", replace(form, preprocessing=checked({"mean": [0.5, 0.25]})), NO_ROLES, False)
    assert found.values.tolist() == [[300, 2]]
    assert "t.csv: its numbers are taken as they are" in found.filled.notes[0]
