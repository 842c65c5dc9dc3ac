"""Units of work over the cores of one machine or over a Ray cluster, with a journal from which an interrupted run goes on.

A unit's result depends on its number alone: every session has one thread, every random number a seed of its own. So results do
not depend on the number of workers, nor on where a run was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from onnxdtd.errors import OnnxdtdError, RequestError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HEAD = b'{"onnxdtd journal": "'
Work = Callable[[int], Any]


class Job(Protocol):
    """What is to be done. It is sent to other processes, so it holds paths and settings, not sessions."""

    def units(self) -> int:
        """How many units there are."""

    def identity(self) -> Any:
        """All that the results depend on, as JSON: whose journal this is."""

    def prepare(self) -> Work:
        """Open what a worker needs; what comes back turns the number of a unit into its result, which JSON can hold."""


class Journal:
    """A file with a line for each finished unit. It belongs to one job, and forgets everything if that is another.

    Raises ``RequestError`` where the file is something else, which is left as it is, and where another run is writing to it.
    """

    def __init__(self, path: Path, digest: str):
        head = HEAD + digest.encode() + b'"}\n'
        self._path = path
        self._places: dict[int, int] = {}  # where the line of a unit begins
        if path.exists() and not path.is_file() and not path.is_dir():  # a device may be read without end
            raise RequestError(f"{path}: is no regular file; give the name of a new one")
        try:
            self._file = path.open("r+b" if path.exists() else "x+b")
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self._claim()
            first = self._file.readline(len(head))
            if first == head:
                self._read()
            elif first.startswith(HEAD) or HEAD.startswith(first):  # of another job, or empty, or cut off
                self._file.seek(0)
                self._file.truncate()
                self._file.write(head)
                self._file.flush()
            else:
                raise RequestError(f"{path}: is there already and is no journal; give the name of a new file")
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise self._unwritable(error) from None
            raise

    def _unwritable(self, error: OSError) -> RequestError:
        return RequestError(f"{self._path}: cannot be written ({error.strerror})")

    def _claim(self) -> None:
        """Keep other runs away from the file, where the system knows how to."""
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(f"{self._path}: another run is writing to it; wait, or give another --journal") from None
        except OSError:
            return  # a file system without locks

    def _read(self) -> None:
        while True:
            place, line = self._file.tell(), self._file.readline()
            try:
                unit = json.loads(line)["unit"] if line.endswith(b"\n") else None  # the last one may have been cut off
            except (ValueError, TypeError, KeyError):
                unit = None
            if unit is None:
                self._file.seek(place)
                self._file.truncate()
                return
            self._places[unit] = place

    def missing(self, units: int) -> list[int]:
        """The units that have not been done."""
        return [unit for unit in range(units) if unit not in self._places]

    def add(self, unit: int, result: Any) -> None:
        """Note a result, so that it outlives this process. Raises ``RequestError`` where there is no room for it."""
        try:
            place = self._file.seek(0, os.SEEK_END)
            self._file.write((json.dumps({"unit": unit, "result": result}) + "\n").encode())
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None
        self._places[unit] = place

    def results(self) -> Iterator[Any]:
        """All results, in the order of their units, one at a time in memory."""
        for unit in sorted(self._places):
            self._file.seek(self._places[unit])
            yield json.loads(self._file.readline())["result"]

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what is still to be written has been given up, and will be done again
            self._file.close()

    def empty(self) -> bool:
        """Is nothing in it that is worth keeping?"""
        return not self._places


def run(
    job: Job,
    workers: int,
    engine: str = "processes",
    journal: Path | None = None,
    tick: Callable[[int, int], object] = lambda done, units: None,
) -> Iterator[Any]:
    """The results of all units, in order, once all are there; ``tick`` is told how many are done.

    With the same ``journal`` (by default a hidden file in this folder) a run that was cut short goes on where it was; the
    file is removed after the last result. Raises ``OnnxdtdError`` as the job does, or where workers die.
    """
    if workers < 1:
        raise RequestError(f"--workers {workers}: at least one is needed")
    digest = hashlib.sha256(json.dumps(job.identity(), sort_keys=True).encode()).hexdigest()
    path = journal or Path(f".onnxdtd-{digest[:12]}.journal")
    finished = False
    book = Journal(path, digest)
    try:
        units = job.units()
        todo = book.missing(units)
        tick(units - len(todo), units)
        results = _by_ray(job, todo, workers) if engine == "ray" else _here(job, todo, workers)
        for done, (unit, result) in enumerate(results, start=units - len(todo) + 1):
            book.add(unit, result)
            tick(done, units)
        yield from book.results()
        finished = True
    finally:
        book.close()
        if finished or book.empty():
            path.unlink(missing_ok=True)


def _here(job: Job, units: Sequence[int], workers: int) -> Iterator[tuple[int, Any]]:
    """In processes of this machine; in this one if one is enough."""
    count = min(workers, len(units))
    if count <= 1:
        work = job.prepare() if units else None
        yield from ((unit, work(unit)) for unit in units if work)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, _prepare, (job,)) as pool:
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
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits, for processes started here until they are ready: half-started ones would answer with tracebacks."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_work: Work | None = None  # of a worker process


def _prepare(job: Job) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # end at once, without a word
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    global _work
    _work = job.prepare()


def _done(unit: int) -> tuple[int, Any]:
    assert _work is not None
    return unit, _work(unit)


class Actor:
    """A worker of a Ray cluster."""

    def __init__(self, job: Job):
        self._work = job.prepare()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The result of a unit, as text: Arrow would want all of one form."""
        return {"unit": row["unit"], "result": json.dumps(self._work(int(row["unit"])))}


def _by_ray(job: Job, units: Sequence[int], workers: int) -> Iterator[tuple[int, Any]]:
    """On the cluster that Ray finds, else one that it starts here; a session in each actor."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise OnnxdtdError("--engine ray needs Ray: pip install 'onnxdtd[ray]'") from None
    if not units:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    count = min(workers, len(units))
    rows = ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=min(len(units), 8 * count))
    for row in rows.map(Actor, fn_constructor_args=(job,), compute=ray.data.ActorPoolStrategy(size=count)).iter_rows():
        yield int(row["unit"]), json.loads(row["result"])
