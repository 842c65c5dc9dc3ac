"""What it costs those who ask a service on Ray Serve, and its memory, that others hang up, dawdle, or send too much."""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path

import load
import numpy as np
from load import NPY

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import splice

MODEL = splice.ROOT / "models" / "digits_cnn.onnx"
ASKING = 3  # clients whose times are taken
PACE = 0.1  # seconds from one request to the next of a neighbour
LONG, FIT = b" " * 2**24, b" " * 2**23  # a request of a picture has at most 8 MB
PNG = {"content-type": "image/png"}
REST = 1  # seconds, after which what was asked is over
HEADS = ("beside", "requests a second", "ms", "faults", "memory, MB", "of the object store, MB")


def head(length: int) -> bytes:
    """The beginning of a request."""
    kind = NPY["content-type"]
    return f"POST /explain HTTP/1.1\r\nhost: here\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n".encode()


def ask(port: int, x: bytes) -> None:
    """As everybody does."""
    load.ask(port, "/explain", x, NPY)


def hang_up(port: int, x: bytes) -> None:
    """In the middle of a body."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(head(len(x)) + x[: len(x) // 2])
        time.sleep(PACE / 10)


def leave(port: int, x: bytes) -> None:
    """While the answer is made."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(head(len(x)) + x)
        time.sleep(PACE / 30)


def dawdle(port: int, x: bytes) -> None:
    """A byte a second, for ten."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(head(len(x)))
        for _ in range(10):
            time.sleep(1)
            line.sendall(b" ")


KINDS: Sequence[tuple[str, int, Callable[[int, bytes], object]]] = (
    ("nobody", 0, ask),
    ("4 who explain", 4, ask),
    ("4 who hang up in the middle of a request", 4, hang_up),
    ("4 who do not wait for the answer", 4, leave),
    ("100 who send a byte a second", 100, dawdle),
    ("4 who send 16 MB", 4, lambda port, x: load.ask(port, "/explain", LONG, PNG)),
    ("4 who send 8 MB that are no picture", 4, lambda port, x: load.ask(port, "/explain", FIT, PNG)),
)
DEFAULT = "... and malloc is as glibc has it"


def measured(count: int, send: Callable[[int, bytes], object], seconds: float) -> tuple[Sequence[object], list[str]]:
    """The cells of a row behind its first, and what was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        path, xs, expected = load.compiled(MODEL, "on demand", folder, (0, 1))
        with load.served({"model": str(path)}) as port:
            load.Client(port, xs, expected, 0).work(time.perf_counter() + 2)
            folders, end = load.replicas_of(load.NAME), time.perf_counter() + seconds
            own = [load.memory(folders, ("RssAnon", "RssFile"))]

            def disturb() -> None:
                while (start := time.perf_counter()) < end:
                    send(port, load.npy(xs[0]))
                    time.sleep(max(0, start + PACE - time.perf_counter()))

            asking = [load.Client(port, xs, expected, seed) for seed in range(ASKING)]
            threads = [threading.Thread(target=client.work, args=(end,)) for client in asking]
            threads += [threading.Thread(target=disturb) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            time.sleep(REST)
            own.append(load.memory(folders, ("RssAnon", "RssFile")))
            shared = load.memory(folders, ("RssShmem",))
    spent = np.concatenate([taken for client in asking for taken in client.seconds.values()]) * 1000
    faults = [fault for client in asking for fault in client.faults]
    times = "{:.0f} / {:.0f}".format(*np.percentile(spent, (50, 99)))
    sizes = "; ".join(f"{size:.0f}" for size in own)
    return (f"{len(spent) / seconds:.0f}", times, f"{len(faults)} of {len(spent):,}", sizes, f"{shared:.0f}"), faults


def main() -> None:
    """Measure, print and write."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="how long each is asked (10)")
    splice.option(parser, "serving")
    given = parser.parse_args()
    load.MIX = tuple(kind for kind in load.MIX if kind != "bad")
    rows, faults = list[Sequence[object]](), list[str]()
    for what, count, send in (*KINDS, (DEFAULT, *KINDS[-1][1:])):
        if what == DEFAULT:
            import ray_service

            ray_service.MALLOC.clear()
        cells, wrong = measured(count, send, given.seconds)
        rows.append((what, *cells))
        faults += wrong
        print("  ".join(map(str, rows[-1])), *wrong[:5], sep="\n  ", flush=True)
    words = (
        f"{ASKING} clients predict and explain digits, each one request after the other, for {given.seconds:g} seconds; one "
        "replica with one thread. Beside them are others, each ten times a second where that is possible. Times are p50 / p99 "
        f"of the {ASKING}. Memory is the replica's own, before, and {REST} second after the last request; of the object store "
        "it is what tools count as the replica's."
    )
    if given.write:
        splice.write(given.write, "neighbours", f"{splice.table(HEADS, rows)}\n\n{words}", ("ray",))
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
