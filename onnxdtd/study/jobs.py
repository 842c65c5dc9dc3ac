"""Units of work over the cores of one machine or over a Ray cluster, with a journal from which an interrupted run goes on.

A unit's result depends on its number alone: every session has one thread, every random number a seed of its own. So results do
not depend on the number of workers, nor on where a run was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.study import cluster

Work = Callable[[int], Any]
Tick = Callable[[int, int], object]  # told how many of how many units are done

MARK = 0x6F647464  # of our journals among databases: "odtd"
NO_JOURNAL = "is there already and is no journal, or a damaged one; give the name of a new file"
WHY = {  # what SQLite says, in our words
    sqlite3.SQLITE_NOTADB: NO_JOURNAL,
    sqlite3.SQLITE_CORRUPT: NO_JOURNAL,
}


def untold(done: int, units: int) -> None:
    """Nobody wants to know how far it is."""


def as_it_is(unit: int, result: Any) -> Any:
    """What came of a unit is what is noted."""
    return result


class Study(Protocol):
    """What is measured, in units that do not depend on each other. It is sent to other processes, so it holds paths and
    settings, not sessions.
    """

    def units(self) -> int:
        """How many units there are."""

    def identity(self) -> Any:
        """All that the results depend on, as JSON: whose journal this is."""

    def prepare(self) -> Work:
        """Open what a worker needs; what comes back turns the number of a unit into its result, which JSON can hold."""


class Busy(RequestError):
    """Another run is at work with a journal."""


class Journal:
    """A database with the results of the units that are finished. It belongs to the study of one ``digest``, and forgets those
    of any other; as long as it is open no other run can use it.

    Raises ``RequestError`` where the file is something else, which is left as it is, or cannot be used, and ``Busy``.
    """

    def __init__(self, path: Path, digest: str):
        self._path = path
        try:
            if path.exists() and not path.is_file() and not path.is_dir():  # a device may be read without end
                raise RequestError(f"{path}: is no regular file; give the name of a new one")
            path.open("ab").close()  # SQLite would not say why it cannot be written
        except (OSError, ValueError) as error:  # ValueError: a name with a null character
            raise self._refusal(getattr(error, "strerror", error)) from None
        self._database = sqlite3.connect(path.absolute(), timeout=0, isolation_level=None)
        try:
            with self._refusing():
                self._open(digest)
        except BaseException:
            self.close()
            raise

    def _open(self, digest: str) -> None:
        ask = self._database.execute
        ask("PRAGMA locking_mode = EXCLUSIVE")  # until it is closed
        ask("PRAGMA synchronous = OFF")  # a result need not outlive the machine
        ask("BEGIN EXCLUSIVE")
        (mark,), (tables,) = (
            ask(query).fetchone() for query in ("PRAGMA application_id", "SELECT count(*) FROM sqlite_master")
        )
        if mark != MARK and (mark or tables):
            raise RequestError(f"{self._path}: {NO_JOURNAL}")
        ask(f"PRAGMA application_id = {MARK}")
        ask("CREATE TABLE IF NOT EXISTS results (unit INTEGER PRIMARY KEY, study TEXT NOT NULL, result TEXT NOT NULL)")
        ask("DELETE FROM results WHERE study != ?", [digest])
        ask("COMMIT")
        self._digest = digest

    def _refusal(self, why: object) -> RequestError:
        return RequestError(f"{self._path}: cannot be written ({why})")

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """SQLite's errors in words."""
        try:
            yield
        except sqlite3.Error as error:
            code = error.sqlite_errorcode & 0xFF  # without what kind of the error it is
            if code == sqlite3.SQLITE_BUSY:
                raise Busy(f"{self._path}: another run is writing to it; wait, or give another --journal") from None
            why = WHY.get(code)
            raise (self._refusal(error) if why is None else RequestError(f"{self._path}: {why}")) from None

    def done(self) -> set[int]:
        """The units that there are results of."""
        with self._refusing():
            return {unit for (unit,) in self._database.execute("SELECT unit FROM results")}

    def add(self, unit: int, result: Any) -> None:
        """Note a result, so that it outlives this process. Raises ``RequestError`` where there is no room for it."""
        with self._refusing():
            self._database.execute("INSERT INTO results VALUES (?, ?, ?)", [unit, self._digest, json.dumps(result)])

    def results(self) -> Iterator[Any]:
        """All results, in the order of their units, one at a time in memory."""
        with self._refusing():
            for (result,) in self._database.execute("SELECT result FROM results ORDER BY unit"):
                yield json.loads(result)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def run(
    study: Study,
    workers: int | None = 1,
    engine: str = "processes",
    journal: Path | None = None,
    tick: Tick = untold,
) -> Iterator[Any]:
    """The results of all units, in order; see ``done``."""
    with done(study, workers, engine, journal, tick) as book:
        yield from book.results()


@contextmanager
def done(
    study: Study,
    workers: int | None = 1,
    engine: str = "processes",
    journal: Path | None = None,
    tick: Tick = untold,
    arrived: Callable[[int, Any], Any] = as_it_is,
) -> Iterator[Journal]:
    """The journal with the results of all units, once ``workers`` (None: one a core, on Ray one of the cluster's) have done
    them; ``tick`` is told how many are. ``arrived`` makes of what came from a worker what is noted of the unit.

    With the same ``journal`` (by default a hidden file in this folder) a run that was cut short goes on where it was; the
    file is removed once what is done with it is done. Raises ``OnnxdtdError`` as the study does, or where workers die.
    """
    if workers is not None and workers < 1:
        raise RequestError(f"--workers {workers}: at least one is needed")
    digest = hashlib.sha256(json.dumps(study.identity(), sort_keys=True).encode()).hexdigest()
    path = journal or Path(f".onnxdtd-{digest[:12]}.journal")
    finished, ready = False, set[int]()
    book = Journal(path, digest)
    try:
        units, ready = study.units(), book.done()
        todo = [unit for unit in range(units) if unit not in ready]
        tick(len(ready), units)
        for unit, result in cluster.run(study, todo, workers) if engine == "ray" else _here(study, todo, workers):
            book.add(unit, arrived(unit, result))
            ready.add(unit)
            tick(len(ready), units)
        yield book
        finished = True
    except BaseException as error:
        if ready:
            error.add_note(f"what is done is in {path}")
        raise
    finally:
        book.close()
        if finished or not ready:
            path.unlink(missing_ok=True)


def _here(study: Study, units: Sequence[int], workers: int | None) -> Iterator[tuple[int, Any]]:
    """In processes of this machine; in this one if one is enough."""
    count = min(workers or os.cpu_count() or 1, len(units))
    if count <= 1:
        work = study.prepare() if units else None
        yield from ((unit, work(unit)) for unit in units if work)
        return
    context = multiprocessing.get_context("spawn")
    with _told_of_broken_pipes(), ProcessPoolExecutor(count, context, _prepare, (study,)) as pool:
        try:
            with _undisturbed():
                futures = [pool.submit(_done, unit) for unit in units]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise OnnxdtdError(
                "a worker died, perhaps for want of memory; the same command goes on from here, try it with fewer --workers"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _told_of_broken_pipes() -> Iterator[None]:
    """To write to a worker that is gone is an error, which the pool expects, and does not end this process, as it does where
    the command line has that of its output.
    """
    if not hasattr(signal, "SIGPIPE") or threading.current_thread() is not threading.main_thread():  # Windows
        yield
        return
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, before)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits, for processes started here until they are ready: half-started ones would answer with tracebacks.

    Processes inherit that the signal is blocked. For this one that is not enough: the system gives it to a thread of some
    library then, and Python interrupts the main thread all the same.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():  # Windows
        yield
        return
    came: list[Any] = []
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    handler = signal.signal(signal.SIGINT, lambda *signalled: came.append(signalled))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, handler)
        if came and callable(handler):
            handler(*came[0])


_work: Work | None = None  # of a worker process


def _prepare(study: Study) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # end at once, without a word
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    global _work
    _work = study.prepare()


def _done(unit: int) -> tuple[int, Any]:
    assert _work is not None
    return unit, _work(unit)
