"""Samples in lists and in stores: explained as those in files here, each by the name and the class that a list gives it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node
from PIL import Image

import onnxdtd
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.request import Request

BOUNDS = Request(low=0.0, high=1.0)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A classifier of small grey pictures, with five of them and arrays beside it."""
    weights = {"w": eighths(np.random.default_rng(0), 16, 4)}
    nodes = [node("Flatten", "x", "f", axis=1), node("MatMul", "f w", "y")]
    onnx.save(model(nodes, {"x": ["n", 1, 4, 4]}, ["y"], weights), tmp_path / "net.onnx")
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (5, 4, 4), np.uint8)
    for i, x in enumerate(pixels):
        Image.fromarray(x).save(tmp_path / "photos" / f"{i}.png")
    np.savez(tmp_path / "photos" / "two.npz", x=pixels[:2, None].astype(np.float32) / 255)
    return tmp_path / "net.onnx"


@pytest.fixture
def bucket(net: Path) -> Iterator[str]:
    """The same photos in a store."""
    system = pytest.importorskip("fsspec").filesystem("memory")
    for path in (net.parent / "photos").iterdir():
        system.put_file(str(path), f"/bucket/photos/{path.name}")
    yield "memory://bucket"
    system.store.clear()


def explained(
    net: Path, inputs: list[Any], out: str = "out", bounds: Request | None = BOUNDS, **options: Any
) -> tuple[list[Any], list[str], Any]:
    heard: list[str] = []
    folder = net.parent / out
    onnxdtd.explain(net, inputs, bounds, folder, pictures=False, skip=heard.append, **options)
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found["samples"], heard, found["provenance"]["data"]


def test_a_list_names_its_samples_and_their_classes_and_bad_ones_are_named(net: Path) -> None:
    (net.parent / "photos" / "3.png").write_bytes(b"none")
    rows = "file,class,who\n0.png,1,ann\n3.png,2,ben\n9.png,2,cat\n4.png,,ann\ntwo.npz,3,dan\n"
    (net.parent / "photos" / "list.csv").write_text(rows)
    found, heard, data = explained(net, [f"@{net.parent / 'photos' / 'list.csv'}"], label="class", sample_id="who")
    assert [(one["name"], one["label"]) for one in found] == [("ann", 1), ("ann_1", None), ("two_000", 3), ("two_001", 3)]
    assert [text.rpartition("/")[2].partition(" (")[0] for text in heard] == [
        "9.png: no such file",
        "3.png: not a readable picture",
    ]
    assert (data["files"], data["samples"]) == (4, 5)
    assert json.loads((net.parent / "out" / "results.json").read_text())["skipped"] == heard
    plain, *_ = explained(net, [net.parent / "photos" / name for name in ("0.png", "4.png", "two.npz")], "plain")
    for mine, theirs in zip(found, plain, strict=True):
        assert mine["relevance_sum"] == theirs["relevance_sum"]


def test_tables_in_a_list_need_none_of_its_columns(net: Path) -> None:
    """What a list says of them is theirs, but where they say it themselves."""
    rows = np.random.default_rng(3).random((3, 16)).round(3).astype(str).tolist()
    head = [f"p{i}" for i in range(16)]
    lines = lambda names, cells: "\n".join(map(",".join, [names, *cells])) + "\n"
    (net.parent / "one.csv").write_text(lines(head, rows[:1]))
    (net.parent / "two.csv").write_text(lines([*head, "want"], [[*rows[1], "0"], [*rows[2], ""]]))
    (net.parent / "list.csv").write_text("file,kind,want\none.csv,2,3\ntwo.csv,1,1\n")
    found, heard, _ = explained(net, [f"@{net.parent / 'list.csv'}"], label="kind", target_column="want")
    assert heard == []
    assert [(one["name"], one["label"], one["target"]) for one in found] == [
        ("one", 2, 3),
        ("two_000", 1, 0),
        ("two_001", 1, 1),
    ]


TARGETS = "file,label,want\n0.png,1,3\n1.png,2,\ntwo.npz,0,class 2\n4.png,,argmax\n3.png,,0\n"


def test_a_column_of_a_list_says_which_class_of_each_sample_is_explained(net: Path) -> None:
    """As if it were asked for, of a source model and of a compiled one that is told; what asks for none has the predicted."""
    (net.parent / "photos" / "list.csv").write_text(TARGETS)
    inputs = [f"@{net.parent / 'photos' / 'list.csv'}"]
    asked = {i: explained(net, inputs, "asked", targets=[i])[0] for i in range(4)}
    plain, *_ = explained(net, inputs, "plain")
    wanted = [asked[3][0], plain[1], asked[2][2], asked[2][3], plain[4], asked[0][5]]
    assert any(one["target"] != one["predicted"] for one in wanted)
    found, heard, _ = explained(net, inputs, target_column="want", save=net.parent / "saved.csv")
    assert (found, heard) == (wanted, [])
    with (net.parent / "saved.csv").open(newline="") as file:
        assert [int(row["target"]) for row in csv.DictReader(file)] == [one["target"] for one in wanted]
    onnxdtd.save(onnxdtd.compile(net, low=0.0, high=1.0, target="input"), net.parent / "told.onnx")
    assert explained(net.parent / "told.onnx", inputs, "told", target_column="want", bounds=None)[0] == wanted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"^1.png: --target-column 4 is no class of this model, which has classes 0 to 3"),
        ({"targets": [1]}, "--target-column says which class is explained of each sample; leave out --target and --top"),
        ({"top": 2}, "leave out --target and --top"),
        ({"target_column": "none"}, "--target-column none: .*list.csv has no column 'none'"),
        ({"inputs": ["@list.txt"]}, "--target-column want: .*list.txt is no table, and has no columns"),
        ({"inputs": ["0.png"]}, "--target-column want: no row of a list, @LIST, or of a table has a class there"),
        (
            {"fixed": "argmax"},
            "--target-column: this file explains the arg-max, whatever target is asked for; compile",
        ),
        ({"fixed": 2}, "--target-column: this file explains class 2, whatever target"),
        ({"fixed": "score"}, "--target-column: this file explains a sum of scores that it is fed"),
    ],
)
def test_classes_that_cannot_be_explained_are_refused_before_any_is(
    options: dict[str, Any], words: str, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(net.parent / "photos")
    Path("list.csv").write_text("file,want\n0.png,3\n1.png,4\n")
    Path("list.txt").write_text("0.png\n")
    options = {"inputs": ["@list.csv"], "target_column": "want"} | options
    bounds: Request | None = BOUNDS
    if (fixed := options.pop("fixed", None)) is not None:
        onnxdtd.save(onnxdtd.compile(net, low=0.0, high=1.0, target=fixed), net.parent / "fixed.onnx")
        net, bounds = net.parent / "fixed.onnx", None
    with pytest.raises(RequestError, match=words):
        explained(net, bounds=bounds, **options)
    assert not (net.parent / "out").exists()


def test_a_list_that_asks_for_no_class_has_the_predicted_ones(net: Path) -> None:
    (net.parent / "photos" / "list.csv").write_text("file,want\n0.png,\n1.png,\n")
    found, *_ = explained(net, [f"@{net.parent / 'photos' / 'list.csv'}"], target_column="want")
    assert [one["target"] for one in found] == [one["predicted"] for one in found]


def test_what_is_skipped_has_a_name(net: Path) -> None:
    """Also where what is wrong with it is a matter of the model."""
    (net.parent / "photos" / "list.txt").write_text("0.png\nlist.txt\n")
    _, heard, _ = explained(net, [f"@{net.parent / 'photos' / 'list.txt'}"])
    assert heard == [f"{net.parent / 'photos' / 'list.txt'}: the model takes no ids of tokens; it takes x (float [1, 4, 4])"]


@pytest.mark.parametrize("inputs", [["photos"], ["photos/two.npz", "photos/1.png"], ["@photos/list.txt"]])
def test_what_is_in_a_store_is_explained_as_what_is_here(inputs: list[str], net: Path, bucket: str) -> None:
    """The pictures are read one by one, and their digest is of what the store says of them."""
    text = "1.png\ntwo.npz\n"
    (net.parent / "photos" / "list.txt").write_text(text)
    pytest.importorskip("fsspec").filesystem("memory").pipe_file("/bucket/photos/list.txt", text.encode())
    at = lambda root, path: f"@{root}/{path[1:]}" if path.startswith("@") else f"{root}/{path}"
    here, _, own = explained(net, [at(net.parent, path) for path in inputs], "here", save=net.parent / "here.npz")
    there, heard, data = explained(net, [at(bucket, path) for path in inputs], "there", save=f"{bucket}/out.npz")
    assert there == here
    assert heard == []
    assert data | {"sha256": own["sha256"], "versions_sha256": ""} == own | {"versions_sha256": ""}
    assert data["sha256"] is None
    assert len(data["versions_sha256"]) == 64
    saved = pytest.importorskip("fsspec").filesystem("memory").cat_file("/bucket/out.npz")
    assert saved == (net.parent / "here.npz").read_bytes()


def test_a_run_over_a_store_goes_on_unless_a_file_there_has_changed(
    net: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is out of reach in the middle: nothing is skipped, and what is done stays done."""
    system = pytest.importorskip("fsspec").filesystem("memory")
    monkeypatch.setattr("onnxdtd.study.gallery.SAMPLES", 2)
    read: list[str] = []
    fetch = type(system).get_file

    def away(self: Any, path: str, *rest: Any, **more: Any) -> Any:
        read.append(path)
        if broken and path.endswith("4.png"):
            raise TimeoutError("no answer")
        return fetch(self, path, *rest, **more)

    monkeypatch.setattr(type(system), "get_file", away)
    broken = True
    files = [f"{bucket}/photos/{i}.png" for i in range(5)]
    with pytest.raises(OnnxdtdError, match=r"4\.png: no answer"):
        explained(net, files)
    read.clear()
    broken = False
    found, *_ = explained(net, files)
    assert len(found) == 5
    assert not any(path.endswith("2.png") for path in read), "that unit was done"
    broken = True
    with pytest.raises(OnnxdtdError, match=r"4\.png: no answer"):
        explained(net, files)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(net.parent / "new.png")
    system.put_file(str(net.parent / "new.png"), "/bucket/photos/0.png")
    read.clear()
    broken = False
    explained(net, files)
    assert any(path.endswith("2.png") for path in read)


def test_what_one_process_alone_sees_is_not_for_several(net: Path, bucket: str) -> None:
    for options in ({"workers": 2}, {"engine": "ray"}):
        with pytest.raises(RequestError, match=r"memory://bucket/photos/0\.png is read by one process; leave out --workers"):
            explained(net, [f"{bucket}/photos/0.png"], **options)


def test_files_in_stores_that_are_missing(net: Path, bucket: str) -> None:
    with pytest.raises(RequestError, match=r"memory://bucket/none\.png: no such file"):
        explained(net, [f"{bucket}/none.png"])
    found, heard, _ = explained(net, [f"{bucket}/none.png", f"{bucket}/photos/0.png"])
    assert ([one["name"] for one in found], heard) == (["0"], [f"{bucket}/none.png: no such file"])
    pytest.importorskip("fsspec").filesystem("memory").pipe_file("/bucket/bad.png", b"none")
    with pytest.raises(RequestError, match=r"memory://bucket/bad\.png: not a readable picture"):
        explained(net, [f"{bucket}/bad.png"])
