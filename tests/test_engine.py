"""Units come back in order, whoever did them and however often the run was cut short."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from onnxdtd.engine import run
from onnxdtd.errors import OnnxdtdError, RequestError


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
