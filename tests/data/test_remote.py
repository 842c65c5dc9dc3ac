"""Files by URL: in a store that forgets nothing half-written, in memory, on disk, and in one that fails."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onnxdtd.data.remote import Remote, check, inside, opened, place, put, put_folder, staged, versions
from onnxdtd.errors import OnnxdtdError, RequestError

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty folder."""
    (tmp_path / "store").mkdir()
    yield "memory://bucket" if request.param == "memory" else f"file://{tmp_path / 'store'}"
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize(
    ("url", "name", "stem", "suffix", "below"),
    [
        ("s3://b/k/a.b.png", "a.b.png", "a.b", ".png", "s3://b/k/a.b.png/x"),
        ("s3://b/run/", "run", "run", "", "s3://b/run/x"),
        ("https://h/p/a.jpg?v=1.2", "a.jpg", "a", ".jpg", None),
        ("zip://p/a.png::s3://b/z.zip", "a.png", "a", ".png", "zip://p/a.png/x::s3://b/z.zip"),
        ("zip://::s3://b/z.zip", None, None, None, "zip://x::s3://b/z.zip"),
        ("simplecache::s3://b/a.png", "a.png", "a", ".png", "simplecache::s3://b/a.png/x"),
    ],
)
def test_parts_of_a_url(url: str, name: str | None, stem: str | None, suffix: str | None, below: str | None) -> None:
    remote = place(url)
    assert isinstance(remote, Remote)
    assert str(remote) == url
    if name is not None:
        assert (remote.name, remote.stem, remote.suffix) == (name, stem, suffix)
    if below is not None:
        assert remote.below("x").url == below


def test_what_is_no_url_is_a_path() -> None:
    assert place("a/b.png") == Path("a/b.png")
    assert place(Path("C:/x")) == Path("C:/x")
    assert Remote("s3://b/lists/l.csv").beside("p/a.png").url == "s3://b/lists/p/a.png"


def test_files_are_written_read_and_listed(store: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    check(Remote(f"{store}/run"))
    assert inside(Remote(store)) == [], "nothing is left of the trial"
    for name in ("b.png", "a.png", "c.txt"):
        put(tmp_path / "x", Remote(f"{store}/{name}"))
    with staged(Remote(f"{store}/a.png")) as copy:
        assert (copy.name, copy.read_bytes()) == ("a.png", b"abc")
    assert not copy.exists()
    found = opened(Remote(store), lambda name: name.endswith(".png"))
    assert found == [Remote(f"{store}/a.png"), Remote(f"{store}/b.png")]
    assert opened(found[0], bool) is None
    first, missing = versions([found[0], Remote(f"{store}/none.png")])
    assert first
    assert missing is None
    (tmp_path / "x").write_bytes(b"abcd")
    put(tmp_path / "x", found[0])
    assert versions(found[:1]) != [first]


def test_a_path_is_staged_as_it_is(tmp_path: Path) -> None:
    with staged(tmp_path) as own:
        assert own == tmp_path


def test_what_is_wrong_with_a_file_is_told_by_its_url(store: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    put(tmp_path / "x", Remote(f"{store}/a.png"))
    with pytest.raises(RequestError) as ended, staged(Remote(f"{store}/a.png")) as copy:
        raise RequestError(f"{copy}: not a readable picture")
    assert str(ended.value) == f"{store}/a.png: not a readable picture"


def test_a_folder_is_whole_once_its_last_file_is_there(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gone before any other changes; what does not belong to the new folder goes as well."""
    remote, local = Remote(f"{store}/run"), tmp_path / "local"
    for names in (("a", "sub/b", "old", "last"), ("a", "sub/b", "c", "last")):
        for path in local.rglob("*"):
            path.unlink() if path.is_file() else None
        for name in names:
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            (local / name).write_bytes(name.encode())
        put_folder(local, remote, "last")
        assert sorted(inside(remote)) == sorted(names)
    done: list[str] = []

    def broken(path: Path, to: Remote) -> None:
        done.append(to.name)
        if len(done) == 2:
            raise OnnxdtdError("the line is cut")
        put(path, to)

    monkeypatch.setattr("onnxdtd.data.remote.put", broken)
    with pytest.raises(OnnxdtdError, match="cut"):
        put_folder(local, remote, "last", lambda name: name.startswith("sub"))
    assert done == ["b", "a"], "the first ones first"
    assert "last" not in inside(remote)


def test_a_file_that_is_not_written_to_its_end_is_not_there(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(source: Any, target: Any, size: int) -> None:
        target.write(b"ab")
        raise OSError("the line is cut")

    (tmp_path / "x").write_bytes(b"abcd")
    monkeypatch.setattr("onnxdtd.data.remote.shutil.copyfileobj", half)
    with pytest.raises(OnnxdtdError, match="the line is cut"):
        put(tmp_path / "x", Remote(f"{store}/a.npz"))
    assert inside(Remote(store)) == []


def test_what_is_not_there_is_a_fault_of_the_file_and_all_else_is_none(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who has many files goes on without the one, and waits where the store is out of reach."""
    with pytest.raises(RequestError, match=r"none\.png: no such file"), staged(Remote(f"{store}/none.png")):
        pass
    with pytest.raises(RequestError, match="would be in does not exist"):
        check(Remote(f"file://{tmp_path}/nowhere/run"))

    def away(*arguments: Any) -> None:
        raise TimeoutError("no answer from 10.0.0.1\nand more")

    system = type(fsspec.filesystem(store.partition(":")[0]))
    monkeypatch.setattr(system, "get_file", away)
    with pytest.raises(OnnxdtdError, match=r"a\.png: no answer from 10\.0\.0\.1$") as ended, staged(Remote(f"{store}/a.png")):
        pass
    assert not isinstance(ended.value, RequestError)


@pytest.mark.parametrize(("url", "words"), [("nope://b/k.png", "Protocol not known: nope")])
def test_a_store_that_nothing_reads(url: str, words: str) -> None:
    with pytest.raises(OnnxdtdError, match=words), staged(Remote(url)):
        pass


def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] in missing:
            raise ImportError(f"No module named {name!r}")
        return imported(name, *rest)

    imported, missing = builtins.__import__, {"fsspec"}
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OnnxdtdError, match=r"^s3://b/k: fsspec, .* pip install 'onnxdtd\[data\]'"), staged(Remote("s3://b/k")):
        pass
    missing = {"s3fs"}
    with (
        pytest.raises(OnnxdtdError, match=r"^s3://b/k: Install s3fs to access S3: pip install 'fsspec\[s3\]'"),
        staged(Remote("s3://b/k")),
    ):
        pass
