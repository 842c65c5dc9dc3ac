"""Tables as people keep them: every way to write one, and what is said of one that cannot be read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxdtd import bounded
from onnxdtd.data.sheets import Sheet, sheet
from onnxdtd.errors import OnnxdtdError, RequestError


def read(folder: Path, text: str | bytes, name: str = "a.csv") -> Sheet:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return sheet(folder / name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a b,c\n1,x\n2.5,y\n", "a.csv"),
        ("\ufeffa b;c\r\n1;x\r\n\r\n2.5;y\r\n", "a.csv"),
        ("a b\tc\n1\tx\n2.5\ty", "a.tsv"),
        ('"a b", "c"\n"1", "x"\n2.5 ,y\n', "a.csv"),
    ],
    ids=["commas", "semicolons and a mark", "tabs", "quotes"],
)
def test_names_and_cells(text: str, name: str, tmp_path: Path) -> None:
    found = read(tmp_path, text, name)
    assert (found.names, len(found)) == (("a b", "c"), 2)
    assert found.numbers(0, False).tolist() == [1, 2.5]
    assert found.words(1).tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1,2\n3,4\n", ()),
        ("x,2019\n3,4\n", ("x", "2019")),  # a name may be a number
        ("x,y\n", None),
        ("1,x\n2,y\n", ()),
        ("x,y\nu,v\n", ("x", "y")),
        ("NA,2\n3,4\n", ()),
        ("1 2\n3 4\n", ()),
    ],
)
def test_is_there_a_line_of_names(text: str, names: Any, tmp_path: Path) -> None:
    if names is None:
        with pytest.raises(RequestError, match="has a line of names, x, y, and no other"):
            read(tmp_path, text)
        return
    found = read(tmp_path, text)
    assert found.names == names
    assert len(found.columns) == 2


def test_missing_values_and_truth_values(tmp_path: Path) -> None:
    """NA is a word where the model knows it as one."""
    found = read(tmp_path, "n,w\n1,a\n,NA\nNA,\nnan,null\nTrue,b\n")
    np.testing.assert_array_equal(found.numbers(0, True), [1, np.nan, np.nan, np.nan, 1])
    assert found.words(1).tolist() == ["a", "", "", "", "b"]
    assert found.words(1, ["NA"]).tolist() == ["a", "NA", "", "", "b"]
    assert found.labels(1) == ["a", None, None, None, "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3,x\n", r"a\.csv: line 3, column 'b': 'x' is no number$"),
        ('a,b\n1,"2,5"\n', "line 2, column 'b': '2,5' is no number; write a point, not a comma, in numbers"),
        (
            'a,b\n1,"3,750"\n',
            "'3,750' is no number; write numbers without what separates their thousands, and with a point where",
        ),
        ("a;b\n1;-1'234'567.5\n", "is no number; write numbers without what separates their thousands"),
        ("a;b\n1,5;2,5\n", "line 2, column 'b': '2,5' is no number; write a point, not a comma"),
        ("a,b\n1,2\n3,\n5,\n", "line 3, column 'b': has no value, and 1 more in this column, and the model takes no missing"),
        ("a,b\n1,inf\n", "line 2, column 'b': is infinite"),
        ("1,2\n3,x\n", "line 2, column 2: 'x' is no number"),
        ('a,b\n"1\n2",3\n4,x\n', "line 4, column 'b': 'x' is no number"),
    ],
)
def test_what_is_no_number_is_named_with_its_place(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words):
        read(tmp_path, text).numbers(1, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells, but there are 2 names; quote cells that have a ',' in them"),
        ("1,2\n3,4,5\n", "line 2 has 3 cells, but there are 2 in the first"),
        ("a,b\n1,5,2,5\n", "line 2 has 4 cells, but there are 2 names; write a point, not a comma, in numbers"),
        (b"a,b\n\xff,1\n", "is no text in UTF-8 .* save it as UTF-8"),
    ],
)
def test_what_is_no_table(text: str | bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words):
        read(tmp_path, text)


def test_columns_by_name(tmp_path: Path) -> None:
    """Also as skl2onnx writes names, with letters and digits only."""
    found = read(tmp_path, "bill (mm),b,b,2nd\n1,2,3,4\n")
    assert (found.place("bill (mm)"), found.place("bill__mm_"), found.place("_2nd")) == (0, 0, 3)
    with pytest.raises(RequestError, match="columns 2 and 3 are both called 'b'; rename one of them"):
        found.place("b")
    with pytest.raises(RequestError, match=r"^--label bil: .*a\.csv has no column 'bil'; did you mean 'bill \(mm\)'"):
        found.place("bil", "--label ")
    with pytest.raises(RequestError, match=r"a\.csv has no column 'xyz', which the model takes; it has bill \(mm\), b, b, 2nd"):
        found.place("xyz")
    with pytest.raises(RequestError, match="has no names in its first line, and so no column 'a'"):
        read(tmp_path, "1,2\n3,4\n").place("a")


def test_thousands_of_columns(tmp_path: Path) -> None:
    lines = [",".join(map(str, row)) for row in ([f"c{i}" for i in range(4000)], range(4000), range(4000))]
    found = read(tmp_path, "\n".join(lines))
    assert found.numbers(3999, False).tolist() == [3999, 3999]
    assert found.place("c3998") == 3998


def test_parquet(tmp_path: Path) -> None:
    """Numbers of any type, categories, and what is missing."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table(
        {"i": pa.array([1, None]), "f": pa.array([0.5, 2.0], pa.float32()), "w": pa.array(["x", None]).dictionary_encode(),
         "b": [True, False]}
    )  # fmt: skip
    parquet.write_table(table, tmp_path / "a.parquet")
    found = sheet(tmp_path / "a.parquet")
    assert found.names == ("i", "f", "w", "b")
    np.testing.assert_array_equal(found.numbers(0, True), [1, np.nan])
    assert (found.numbers(1, False).tolist(), found.numbers(3, False).tolist()) == ([0.5, 2], [1, 0])
    assert found.words(2).tolist() == ["x", ""]
    assert found.words(0).tolist() == ["1", ""]
    assert found.labels(0) == [1, None]
    with pytest.raises(RequestError, match=r"a\.parquet: row 2, column 'i': has no value"):
        found.numbers(0, False)
    with pytest.raises(RequestError, match=r"a\.parquet: row 1, column 'w': 'x' is no number"):
        found.numbers(2, True)


def test_parquet_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(RequestError, match=r"a\.parquet: no table can be read from it"):
        read(tmp_path, "no table", "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(OnnxdtdError, match=r"pyarrow, which reads \.parquet, is not installed: pip install 'onnxdtd\[data\]'"):
        sheet(tmp_path / "a.parquet")


def test_parquet_that_is_made_to_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that repeats takes no room: a megabyte may have any number of rows."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({name: np.zeros(50_000) for name in "abcd"}), tmp_path / "a.parquet")
    monkeypatch.setattr(bounded, "LARGE", 2**20)
    with pytest.raises(RequestError, match="the table is 1600000 bytes packed into"):
        sheet(tmp_path / "a.parquet")
    parquet.write_table(pa.table({name: np.arange(50_000.0) for name in "abcd"}), tmp_path / "a.parquet")
    assert len(sheet(tmp_path / "a.parquet")) == 50_000
