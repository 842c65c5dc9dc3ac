"""What is given to be explained: files, folders, URLs and lists, in which order, under which names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from onnxdtd.data.given import Given, given
from onnxdtd.data.remote import Remote
from onnxdtd.data.tables import Roles
from onnxdtd.errors import RequestError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


def test_files_and_folders(folder: Path) -> None:
    found = given([folder / "b.png", str(folder)])
    assert found == [Given(folder / "b.png"), Given(folder / "a.jpg"), Given(folder / "b.png")]


def test_a_list_is_text(folder: Path) -> None:
    """What is not absolute lies beside it; nothing is looked up, as some may be missing."""
    (folder / "list.txt").write_text("b.png\r\n\n sub/none.png \n/data/x.png\ns3://bucket/y.png\n", encoding="utf-8")
    found = given([f"@{folder / 'list.txt'}"])
    assert [one.file for one in found] == [
        folder / "b.png",
        folder / "sub/none.png",
        Path("/data/x.png"),
        Remote("s3://bucket/y.png"),
    ]
    assert all(one.name is None and one.label is None for one in found)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_list_is_a_table(ending: str, folder: Path) -> None:
    path = folder / f"list{ending}"
    columns = {"who": ["n1", "", "n3"], "Path": ["a.jpg", "b, c.png", "s3://b/d.png"], "label": ["3", "cat", ""]}
    if ending == ".parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.table(columns), path)
    else:
        path.write_text('who,Path,label\nn1,a.jpg,3\n,"b, c.png",cat\nn3,s3://b/d.png,\n', encoding="utf-8")
    files = [folder / "a.jpg", folder / "b, c.png", Remote("s3://b/d.png")]
    assert [one.file for one in given([f"@{path}"])] == files
    assert [one.label for one in given([f"@{path}"])] == [3, "cat", None]
    assert [one.name for one in given([f"@{path}"])] == [None] * 3
    assert [one.name for one in given([f"@{path}"], roles=Roles(id="who"))] == ["n1", None, "n3"]
    assert [one.label for one in given([f"@{path}"], roles=Roles(label="who"))] == ["n1", None, "n3"]


def test_a_folder_in_a_list_means_its_files(folder: Path) -> None:
    """All with what the list says of it but the name; one without any is an entry that cannot be read."""
    (folder / "empty").mkdir()
    (folder / "list.csv").write_text("file,label,id\nempty,1,n\n.,2,all\n", encoding="utf-8")
    there = [(folder / "empty", "n", 1), (folder / "a.jpg", None, 2), (folder / "b.png", None, 2)]
    found = given([f"@{folder / 'list.csv'}"], roles=Roles(id="id"))
    assert [(one.file, one.name, one.label) for one in found] == there
    assert [one.file.name for one in given([f"@{folder / 'list.csv'}"], [".txt"])] == ["empty", "notes.txt"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "which column has the files.*file or filename or file_name; it has a, b"),
        ("file,path\na,b\n", "which column has the files"),
        ("file,x\na,1\n,2\n", "line 3, column 'file': there is no file"),
    ],
)
def test_tables_that_are_no_list(text: str, words: str, folder: Path) -> None:
    (folder / "list.csv").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=words):
        given([f"@{folder / 'list.csv'}"])


def test_refusals(folder: Path) -> None:
    (folder / "empty.txt").write_text("\n \n")
    with pytest.raises(RequestError, match="there is no file in this list"):
        given([f"@{folder / 'empty.txt'}"])
    (folder / "b.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(RequestError, match="no list of files can be read from it"):
        given([f"@{folder / 'b.png'}"])
    for name in ("none.txt", "none.csv"):
        with pytest.raises(RequestError, match=f"{name}: no such file"):
            given([f"@{folder / name}"])
    (folder / "more.txt").write_text("b.png\n@more.txt\n")
    with pytest.raises(RequestError, match=r"^.*more.txt: no such file, and a list names no further lists"):
        given([f"@{folder / 'more.txt'}"])
    (folder / "@more.txt").write_text("a file of that name\n")
    assert [one.file.name for one in given([f"@{folder / 'more.txt'}"])] == ["b.png", "@more.txt"]
    (folder / "list.csv").write_text("file,x\na,1\n")
    for roles, words in ((Roles(label="y"), "--label y: .* has no column 'y'"), (Roles(id="y"), "--id y: ")):
        with pytest.raises(RequestError, match=words):
            given([f"@{folder / 'list.csv'}"], roles=roles)


@pytest.fixture
def memory() -> Iterator[str]:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://b/lists/l.csv", "w") as file:
        file.write("file\n../p/1.png\n2.png\n")
    for name in ("2.png", "1.PNG", "x.txt"):
        with fsspec.open(f"memory://b/p/{name}", "w") as file:
            file.write("x")
    yield "memory://b"
    fsspec.filesystem("memory").store.clear()


def test_urls_of_files_of_folders_and_of_lists(memory: str) -> None:
    assert given([f"{memory}/p/2.png"]) == [Given(Remote(f"{memory}/p/2.png"))]
    assert given([f"{memory}/p"]) == [Given(Remote(f"{memory}/p/1.PNG")), Given(Remote(f"{memory}/p/2.png"))]
    assert [one.file for one in given([f"@{memory}/lists/l.csv"])] == [
        Remote(f"{memory}/lists/../p/1.png"),
        Remote(f"{memory}/lists/2.png"),
    ]
    with pytest.raises(RequestError, match=r"memory://b/p: no \.wav in this folder"):
        given([f"{memory}/p"], [".wav"])
