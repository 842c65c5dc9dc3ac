"""The relevance of a run in files of every format: the same numbers in all of them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxdtd.data.remote import Remote, inside, put, staged
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.study import saved as home
from onnxdtd.study.parts import COLUMNS, Parts, stacked
from onnxdtd.study.parts import columns as row_of
from onnxdtd.study.results import Flag, Result
from onnxdtd.study.saved import FORMATS, Wanted

FEATURES = ("age", "size", "age")
NAMES = ["relevance[age (0)]", "relevance[size]", "relevance[age (2)]"]


def rows(count: int, shape: Callable[[int], Sequence[int]] = lambda i: [3]) -> list[dict[str, np.ndarray]]:
    """Explanations; every third has no logit and no class."""
    found = []
    for i in range(count):
        known = i % 3 != 2
        result = Result(
            f"s{i}",
            "",
            i if known else None,
            f"class {i}" if known else "",
            0.5,
            1 if known else None,
            "b, ü" if known else "",
            1.5 + i if known else None,
            0.1 + i,
            0.0,
            1.0,
            "dtd",
            flags=[Flag("same", "x"), Flag("lost", "y")] * (i == 1),
        )
        relevance = np.random.default_rng(i).normal(size=shape(i)).astype(np.float32)
        found.append({"relevance/x": relevance, **row_of(result, 0)})
    return found


def written(path: Path, pieces: Iterable[Any], features: Sequence[str] = FEATURES) -> Path:
    kept = [stacked(piece) for piece in pieces]
    Wanted.to(path).finish(lambda: iter(kept), features)
    return path


def in_pieces(found: Sequence[Any], size: int = 4) -> list[Any]:
    return [found[i : i + size] for i in range(0, len(found), size)]


def table(path: Path) -> dict[str, list[Any]]:
    """Columns of a table, None where there is nothing, numbers as float."""
    if path.suffix == ".parquet":
        pq = pytest.importorskip("pyarrow.parquet")
        return dict(pq.read_table(path).to_pydict())
    with path.open(encoding="utf-8", newline="") as file:
        names, *lines = csv.reader(file)
    words = ("sample", "preset", "predicted_label", "target_label", "flags")
    columns = zip(names, zip(*lines, strict=True), strict=True)
    return {name: [cell if name in words else float(cell) if cell else None for cell in column] for name, column in columns}


@pytest.mark.parametrize("name", ["r.csv", "r.parquet"])
def test_tables_have_a_row_an_explanation_and_a_column_a_feature(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    found = rows(11)
    got = table(written(tmp_path / name, in_pieces(found)))
    assert list(got) == [*COLUMNS, *NAMES]
    for i, column in enumerate(NAMES):
        assert np.array(got[column], np.float32).tolist() == [row["relevance/x"][i] for row in found]
    assert got["sample"] == [f"s{i}" for i in range(11)]
    assert got["predicted"] == [None if i % 3 == 2 else i for i in range(11)]
    assert got["target_label"][:3] == ["b, ü", "b, ü", ""]
    assert got["logit"] == [None if i % 3 == 2 else 1.5 + i for i in range(11)]
    assert got["sum"] == [0.1 + i for i in range(11)]
    assert got["missing"] == [None if i % 3 == 2 else (1.5 + i) - (0.1 + i) for i in range(11)]
    assert got["flags"] == ["", "same lost", *[""] * 9]


def test_no_column_is_lost_to_another_of_its_name(tmp_path: Path) -> None:
    """Nor to one that is called as it would be to be told apart."""
    found = table(written(tmp_path / "r.csv", [rows(2)], ["age", "age", "age (0)"]))
    names = [name for name in found if name.startswith("relevance")]
    assert names == ["relevance[age (0) (0)]", "relevance[age (1)]", "relevance[age (0)]"]


def test_entries_without_names_are_numbered_along_their_axes(tmp_path: Path) -> None:
    got = table(written(tmp_path / "r.csv", [rows(2, lambda i: [2, 2])], ()))
    assert list(got)[-4:] == ["relevance[0,0]", "relevance[0,1]", "relevance[1,0]", "relevance[1,1]"]


def arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file or a folder, shards one after the other."""
    if path.suffix == ".zarr":
        store = pytest.importorskip("zarr").open_group(path, mode="r")
        found = {name: node[...] for name, node in store.members(max_depth=None) if hasattr(node, "shape")}
        return {
            name: np.array(array.tolist(), None if array.dtype.kind in "OT" else array.dtype) for name, array in found.items()
        }
    parts = []
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        with np.load(file) as archive:
            parts.append(dict(archive))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("name", ["r.npz", "r.zarr", "r"])
def test_arrays_in_pieces_are_those_of_all_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that are longer in later pieces too; of shards each has what one file would have."""
    pytest.importorskip("zarr")
    monkeypatch.setattr(home, "ROWS", 5)
    found = rows(11, lambda i: [2, 3])
    got = arrays(written(tmp_path / name, in_pieces(found)))
    assert set(got) == {"relevance/x", *COLUMNS}
    np.testing.assert_array_equal(got["relevance/x"], np.stack([row["relevance/x"] for row in found]))
    assert got["relevance/x"].dtype == np.float32
    assert got["sample"].tolist() == [f"s{i}" for i in range(11)]
    assert got["predicted"].tolist() == [-1 if i % 3 == 2 else i for i in range(11)]
    assert np.isnan(got["logit"]).tolist() == [i % 3 == 2 for i in range(11)]
    assert len(list(tmp_path.glob("r/part-*.npz"))) == (3 if name == "r" else 0)
    again = arrays(written(tmp_path / name, [rows(2)]))
    assert len(again["sample"]) == 2, "an older one is replaced"


@pytest.mark.parametrize("name", ["r.npz", "r.zarr"])
@pytest.mark.parametrize("size", [1, 2, 6])
def test_what_differs_in_size_has_an_array_each(size: int, name: str, tmp_path: Path) -> None:
    """Whether samples of different sizes come in one piece or not."""
    pytest.importorskip("zarr")
    found = rows(6, lambda i: [2 + i // 3])
    got = arrays(written(tmp_path / name, in_pieces(found, size)))
    assert set(got) == {*(f"relevance/x/s{i}" for i in range(6)), *COLUMNS}
    for i, row in enumerate(found):
        np.testing.assert_array_equal(got[f"relevance/x/s{i}"], row["relevance/x"])
    assert got["sample"].tolist() == [f"s{i}" for i in range(6)]


def test_the_same_run_is_the_same_bytes(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name, in_pieces(rows(9), size)) for name, size in (("a.npz", 4), ("b.npz", 9)))
    assert first.read_bytes() == second.read_bytes()


def test_parts_are_read_as_they_were_written(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.write(7, rows(3))
    got = parts.read(7)
    assert got["sample"].tolist() == ["s0", "s1", "s2"]
    np.testing.assert_array_equal(got["relevance/x"], stacked(rows(3))["relevance/x"])


def test_a_table_has_as_many_columns_in_each_row(tmp_path: Path) -> None:
    for name in ("r.csv", "r.parquet"):
        with pytest.raises(RequestError, match=r"samples are \['n', 3\] and may differ in size; save to an \.npz"):
            Wanted(tmp_path / name, FORMATS[Path(name).suffix]).check(["n", 3])
        with pytest.raises(RequestError, match="a sample has 150528 entries, too many for the columns of a table"):
            Wanted(tmp_path / name, FORMATS[Path(name).suffix]).check([3, 224, 224])
    Wanted.to(tmp_path / "r.npz").check(["n", 3])


def test_a_place_that_is_taken_and_a_library_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(RequestError, match="mine: is there already and no folder of shards; give another name"):
        Wanted.to(tmp_path / "mine")
    (tmp_path / "my.zarr").mkdir()
    (tmp_path / "my.zarr/letter.txt").write_text("dear")
    with pytest.raises(RequestError, match=r"my\.zarr: is there already and no Zarr store"):
        Wanted.to(tmp_path / "my.zarr")
    monkeypatch.setattr(home, "find_spec", lambda name: None)
    for name, library in (("r.parquet", "pyarrow"), ("r.zarr", "zarr")):
        with pytest.raises(OnnxdtdError, match=rf"needs {library}: pip install 'onnxdtd\[data\]'"):
            Wanted.to(tmp_path / name)


def test_what_is_read_or_written_besides_is_not_overwritten(tmp_path: Path) -> None:
    """Nor is what others have put where folders go."""
    for name in ("mine.zarr/photos", "stored.zarr/relevance/x", "stored.zarr/photos", "out"):
        (tmp_path / name).mkdir(parents=True)
    kept = [tmp_path / name for name in ("mine.zarr/photos/me.jpg", "stored.zarr/photos/me.jpg", "notes", "x.npz")]
    for path in (*kept, tmp_path / "stored.zarr/zarr.json", tmp_path / "stored.zarr/relevance/x/zarr.json"):
        path.write_text("mine")
    for name, what in (("mine.zarr", "no Zarr store"), ("stored.zarr", "no Zarr store"), ("notes", "no folder of shards")):
        with pytest.raises(RequestError, match=f"{name}: is there already and {what}"):
            Wanted.to(tmp_path / name)
    taken = [tmp_path / "x.npz", tmp_path / "out/results.json", tmp_path / "in/x.npy"]
    for name in ("x.npz", "out/../x.npz", "out", "in"):
        with pytest.raises(RequestError, match="this run reads it, or writes there besides; give another name"):
            Wanted.to(tmp_path / name, taken)
    kept[1].unlink()
    kept[1].parent.rmdir()
    assert Wanted.to(tmp_path / "stored.zarr", taken).saved.folder
    assert [path.read_text() for path in kept if path != kept[1]] == ["mine"] * 3


def test_nothing_is_left_of_what_cannot_be_written(tmp_path: Path) -> None:
    """All or nothing, of folders too."""

    def pieces() -> Any:
        yield stacked(rows(2))
        raise RuntimeError("no more")

    for name in ("r.npz", "r.csv", "r"):
        with pytest.raises((RuntimeError, RequestError)):
            Wanted.to(tmp_path / name).finish(pieces, FEATURES)
    assert list(tmp_path.iterdir()) == []


# ---- stores ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty folder."""
    memory = pytest.importorskip("fsspec").filesystem("memory")
    (tmp_path / "store").mkdir()
    yield "memory://bucket" if request.param == "memory" else f"file://{tmp_path / 'store'}"
    memory.store.clear()


@pytest.mark.parametrize("name", ["r.npz", "r.csv", "r.parquet", "r.zarr", "r"])
def test_a_store_gets_the_same_bytes_and_of_a_folder_a_last_file(name: str, store: str, tmp_path: Path) -> None:
    pytest.importorskip({"r.parquet": "pyarrow", "r.zarr": "zarr"}.get(name, "numpy"))
    found = in_pieces(rows(9))
    local = written(tmp_path / name, found)
    remote = Remote(f"{store}/{name}")
    for _ in range(2):  # the second takes the place of the first
        kept = [stacked(piece) for piece in found]
        Wanted.to(remote).finish(lambda kept=kept: iter(kept), FEATURES)
    if local.is_file():
        with staged(remote) as copy:
            assert copy.read_bytes() == local.read_bytes()
        assert inside(Remote(store)) == [name]
        return
    want = {path.relative_to(local).as_posix(): path.read_bytes() for path in local.rglob("*") if path.is_file()}
    if name == "r":
        want["_SUCCESS"] = b""
    assert sorted(inside(remote)) == sorted(want)
    for place, data in want.items():
        with staged(remote.below(place)) as copy:
            assert copy.read_bytes() == data


def test_what_is_in_a_store_already_stays(store: str, tmp_path: Path) -> None:
    """A folder that others use, inputs of this run, and names that no format belongs to."""
    (tmp_path / "x").write_bytes(b"abc")
    put(tmp_path / "x", Remote(f"{store}/diary"))
    for name, words in (("", "no folder of shards"), ("x.txt", "ends in")):
        with pytest.raises(RequestError, match=words):
            Wanted.to(Remote(f"{store}/{name}".rstrip("/")))
    taken = [Remote(f"{store}/photos/1.png"), Remote(f"{store}/r.npz")]
    for name in ("photos", "r.npz"):
        with pytest.raises(RequestError, match="this run reads it"):
            Wanted.to(Remote(f"{store}/{name}"), taken)
    with pytest.raises(OnnxdtdError, match="Protocol not known"):
        Wanted.to(Remote("nope://b/r.npz"))
    assert inside(Remote(store)) == ["diary"]
