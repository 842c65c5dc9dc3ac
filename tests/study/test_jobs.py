"""Units come back in order, whoever did them and however often the run was cut short."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.study import jobs
from onnxdtd.study.jobs import run


@dataclass(frozen=True)
class Squares:
    """Unit i is i², with a random number of its own; notes in ``log`` which units were really done."""

    log: Path
    count: int = 7
    fails: int | None = None
    dies: int | None = None
    size: int = 0  # of what else is in a result

    def units(self) -> int:
        return self.count

    def identity(self) -> list[int]:
        return [self.count]

    def prepare(self) -> Callable[[int], list[Any]]:
        return self.work

    def work(self, unit: int) -> list[Any]:
        if unit == self.fails:
            raise RequestError(f"unit {unit} cannot be done")
        if unit == self.dies:
            os._exit(1)
        with self.log.open("a") as file:
            file.write(f"{unit}\n")
        return [unit**2, float(np.random.default_rng(unit).random()), *(["x" * self.size] if self.size else [])]

    def done(self) -> list[int]:
        return sorted(map(int, self.log.read_text().split())) if self.log.exists() else []


EXPECTED = [[i**2, float(np.random.default_rng(i).random())] for i in range(7)]


@pytest.mark.parametrize("workers", [1, 3])
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


@pytest.mark.skipif(os.name == "nt", reason="killed otherwise there")
def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    """Whatever it was doing: SQLite takes back what was half written."""
    script = (
        "import os, signal, sys; from pathlib import Path; from test_jobs import Squares; from onnxdtd.study.jobs import run;"
        "kill = lambda done, units: os.kill(os.getpid(), signal.SIGKILL) if done == 4 else None;"
        "list(run(Squares(Path('log')), 1, 'processes', Path('journal'), kill))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == -signal.SIGKILL
    assert list(run(Squares(tmp_path / "log"), 1, "processes", tmp_path / "journal")) == EXPECTED
    assert Squares(tmp_path / "log").done() == list(range(7)), "none was done twice"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


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
    assert sqlite3.connect(journal).execute("SELECT unit FROM results").fetchall() == [(0,), (1,), (2,), (3,)]
    assert list(run(Squares(tmp_path / "log"), 1)) == EXPECTED
    assert not list(tmp_path.glob(".onnxdtd-*"))


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--workers 0"):
        list(run(Squares(tmp_path / "log"), 0))
    with pytest.raises(RequestError, match="cannot be written"):
        list(run(Squares(tmp_path / "log"), 1, "processes", tmp_path / "nowhere" / "journal"))
    with pytest.raises(RequestError, match=r"cannot be written \(Is a directory\)"):
        list(run(Squares(tmp_path / "log"), 1, "processes", tmp_path))
    with pytest.raises(RequestError, match="cannot be written"):
        list(run(Squares(tmp_path / "log"), 1, "processes", Path("a\0b")))


@pytest.mark.parametrize(
    "text", [b"dear diary\n", b"one line without an end", b"\x00\xff\n", b"SQLite format 3\x00" + bytes(2000)]
)
def test_a_file_that_is_no_journal_is_left_alone(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(text)
    with pytest.raises(RequestError, match="is no journal"):
        list(run(Squares(tmp_path / "log"), 1, "processes", file))
    assert file.read_bytes() == text


def test_the_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "diary.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE diary (day TEXT)")
    before = file.read_bytes()
    with pytest.raises(RequestError, match="is no journal"):
        list(run(Squares(tmp_path / "log"), 1, "processes", file))
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["diary.db"]


@pytest.mark.parametrize("place", [0, 4096])
def test_a_damaged_journal_is_refused(place: int, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with pytest.raises(RequestError):
        list(run(Squares(tmp_path / "log", fails=4), 1, "processes", journal))
    data = journal.read_bytes()
    journal.write_bytes(data[:place] + b"\xff" * 200 + data[place + 200 :])
    with pytest.raises(RequestError, match="no journal, or a damaged one"):
        list(run(Squares(tmp_path / "log"), 1, "processes", journal))


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    (tmp_path / "journal").touch()
    assert list(run(Squares(tmp_path / "log"), 1, "processes", tmp_path / "journal")) == EXPECTED


def test_a_refusal_leaves_no_journal(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="unit 0"):
        list(run(Squares(tmp_path / "log", fails=0), 1, "processes", tmp_path / "journal"))
    assert not list(tmp_path.iterdir())


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
    """Of what was done before, nothing is lost."""
    resource = pytest.importorskip("resource")
    study, journal = Squares(tmp_path / "log", size=5000), tmp_path / "journal"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30000, before[1]))  # bytes a file may have
    try:
        with pytest.raises(RequestError, match=r"journal: cannot be written \("):
            list(run(study, 1, "processes", journal))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    started = study.done()
    assert 1 < len(started) < 7
    assert [result[:2] for result in run(study, 1, "processes", journal)] == EXPECTED
    assert study.done() == sorted([*range(7), started[-1]]), "only the unit that did not fit is done again"


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="interrupts are sent otherwise there")
def test_an_interrupt_waits_whichever_thread_gets_it() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    other, reached = threading.Thread(target=time.sleep, args=(0.5,)), []

    def started() -> None:
        with jobs._undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            reached.append("all are started")

    try:
        other.start()  # before the signal is blocked, as threads of libraries are
        with pytest.raises(KeyboardInterrupt):
            started()
    finally:
        signal.signal(signal.SIGINT, before)
        other.join()
    assert reached == ["all are started"]


def test_whoever_is_cut_short_hears_where_the_journal_is(tmp_path: Path) -> None:
    """With the error, if there is anything in it; one that has nothing in it is gone."""
    journal = tmp_path / "journal"
    with pytest.raises(RequestError) as ended:
        list(run(Squares(tmp_path / "log", fails=3), 1, "processes", journal))
    assert ended.value.__notes__ == [f"what is done is in {journal}"]
    assert journal.exists()
    with pytest.raises(RequestError) as ended:
        list(run(Squares(tmp_path / "other", fails=0), 1, "processes", tmp_path / "new"))
    assert not hasattr(ended.value, "__notes__")
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="there is no such signal here")
def test_a_worker_that_is_gone_does_not_end_who_writes_to_it() -> None:
    """Even where the command line lets a broken pipe end the process, as it does afterwards again."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        here, there = os.pipe()
        os.close(here)
        with jobs._told_of_broken_pipes(), pytest.raises(BrokenPipeError):
            os.write(there, b"a unit")
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL
        os.close(there)
    finally:
        signal.signal(signal.SIGPIPE, before)
