"""Units come back in order, whoever did them and however often the run was cut short."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.study.jobs import run


@dataclass(frozen=True)
class Squares:
    """Unit i is i², with a random number of its own; notes in ``log`` which units were really done."""

    log: Path
    count: int = 7
    fails: int | None = None
    dies: int | None = None

    def units(self) -> int:
        return self.count

    def identity(self) -> list[int]:
        return [self.count]

    def prepare(self) -> Callable[[int], list[float]]:
        return self.work

    def work(self, unit: int) -> list[float]:
        if unit == self.fails:
            raise RequestError(f"unit {unit} cannot be done")
        if unit == self.dies:
            os._exit(1)
        with self.log.open("a") as file:
            file.write(f"{unit}\n")
        return [unit**2, float(np.random.default_rng(unit).random())]

    def done(self) -> list[int]:
        return sorted(map(int, self.log.read_text().split())) if self.log.exists() else []


EXPECTED = [[i**2, float(np.random.default_rng(i).random())] for i in range(7)]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_workers(workers: int, tmp_path: Path) -> None:
    ticks: list[tuple[int, int]] = []
    journal = tmp_path / "journal"
    found = list(run(Squares(tmp_path / "log"), workers, "processes", journal, lambda *t: ticks.append(t)))
    assert found == EXPECTED
    assert ticks == [(i, 7) for i in range(8)]
    assert not journal.exists()


def test_a_run_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with pytest.raises(RequestError, match="unit 4 cannot be done"):
        list(run(Squares(tmp_path / "log", fails=4), 1, "processes", journal))
    assert Squares(tmp_path / "log").done() == [0, 1, 2, 3]
    assert list(run(Squares(tmp_path / "log"), 1, "processes", journal)) == EXPECTED
    assert Squares(tmp_path / "log").done() == list(range(7)), "none was done twice"


def test_a_line_cut_off_is_done_again(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with pytest.raises(RequestError):
        list(run(Squares(tmp_path / "log", fails=4), 1, "processes", journal))
    journal.write_bytes(journal.read_bytes()[:-5])
    assert list(run(Squares(tmp_path / "log"), 2, "processes", journal)) == EXPECTED
    assert Squares(tmp_path / "log").done() == [0, 1, 2, 3, 3, 4, 5, 6]


def test_the_journal_of_another_job_is_forgotten(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with pytest.raises(RequestError):
        list(run(Squares(tmp_path / "log", fails=4), 1, "processes", journal))
    assert list(run(Squares(tmp_path / "log", count=3), 1, "processes", journal)) == EXPECTED[:3]


def test_a_worker_that_dies_loses_nothing(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with pytest.raises(OnnxdtdError, match="fewer --workers"):
        list(run(Squares(tmp_path / "log", dies=5), 2, "processes", journal))
    assert list(run(Squares(tmp_path / "log"), 2, "processes", journal)) == EXPECTED


def test_by_default_the_journal_lies_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError):
        list(run(Squares(tmp_path / "log", fails=4), 1))
    (journal,) = tmp_path.glob(".onnxdtd-*.journal")
    assert [json.loads(line).get("unit") for line in journal.read_text().splitlines()] == [None, 0, 1, 2, 3]
    assert list(run(Squares(tmp_path / "log"), 1)) == EXPECTED
    assert not list(tmp_path.glob(".onnxdtd-*"))


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--workers 0"):
        list(run(Squares(tmp_path / "log"), 0))
    with pytest.raises(RequestError, match="cannot be written"):
        list(run(Squares(tmp_path / "log"), 1, "processes", tmp_path / "nowhere" / "journal"))


@pytest.mark.parametrize("text", [b"dear diary\n", b"one line without an end", b'{"job": "of someone else"}\n', b"\x00\xff\n"])
def test_a_file_that_is_no_journal_is_left_alone(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(text)
    with pytest.raises(RequestError, match="is no journal"):
        list(run(Squares(tmp_path / "log"), 1, "processes", file))
    assert file.read_bytes() == text


@pytest.mark.parametrize("text", [b"", b'{"onnxdtd jou', b'{"onnxdtd journal": "ab'])
def test_an_empty_file_and_a_journal_without_its_first_line(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(text)
    assert list(run(Squares(tmp_path / "log"), 1, "processes", tmp_path / "journal")) == EXPECTED


@pytest.mark.parametrize("damage", [b"\x00\x00\x00\n", b"[]\n", b"{}\n", b'{"unit": 4, "res\n'])
def test_lines_that_are_damaged_are_done_again(damage: bytes, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with pytest.raises(RequestError):
        list(run(Squares(tmp_path / "log", fails=4), 1, "processes", journal))
    journal.write_bytes(journal.read_bytes() + damage)
    assert list(run(Squares(tmp_path / "log"), 1, "processes", journal)) == EXPECTED


def test_a_refusal_leaves_no_journal(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="unit 0"):
        list(run(Squares(tmp_path / "log", fails=0), 1, "processes", tmp_path / "journal"))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="no locks there")
def test_two_runs_do_not_share_a_journal(tmp_path: Path) -> None:
    first = run(Squares(tmp_path / "log"), 1, "processes", tmp_path / "journal")
    assert next(first) == EXPECTED[0]
    with pytest.raises(RequestError, match="another run"):
        list(run(Squares(tmp_path / "log"), 1, "processes", tmp_path / "journal"))
    assert list(first) == EXPECTED[1:]


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices there")
def test_a_device_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no regular file"):
        list(run(Squares(tmp_path / "log"), 1, "processes", Path("/dev/zero")))


def test_a_full_disk(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))  # bytes a file may have
    try:
        with pytest.raises(RequestError, match=r"journal: cannot be written \(File too large\)"):
            list(run(Squares(tmp_path / "log"), 1, "processes", tmp_path / "journal"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(run(Squares(tmp_path / "log"), 1, "processes", tmp_path / "journal")) == EXPECTED
    assert Squares(tmp_path / "log").done() != list(range(7)), "the unit that did not fit is done again"
