"""What a service on Ray Serve bears: eight clients for a minute, who predict, explain, and send what cannot be served.

Every answer is compared with what the compiled file says of the same sample alone, every bad request must be refused with a
sentence. All of it, clients too, is on this machine.
"""

from __future__ import annotations

import http.client
import io
import itertools
import json
import os
import socket
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import onnxdtd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import splice

HERE = Path(__file__).resolve().parent
ASSETS = Path(os.environ.get("ONNXDTD_ASSETS", splice.ROOT / "none"))
MODELS = (
    (splice.ROOT / "models" / "digits_cnn.onnx", ("on demand", "flat")),
    (ASSETS / "models" / "cifar10_cnn_pytorch.onnx", ("on demand",)),
    (ASSETS / "models" / "imagenet_squeezenet11_fp32.onnx", ("on demand", "flat", "two sessions")),
)
JSON, NPY, NPZ = ({"content-type": kind} for kind in ("application/json", "application/x-npy", "application/x-npz"))
MIX: Sequence[str] = ("predict",) * 6 + ("explain",) * 3 + ("bad",)
NAME = f"load-{os.getpid()}"  # of the application, and so of its processes
QUIET = {"log_level": "ERROR", "enable_access_log": False}
SAMPLES = 8
INSTANTS = (10, 30, 60)  # seconds; memory is not to grow from the first of them on
CLOSE = 1e-4  # of the largest relevance
HEADS = (
    "model",
    "served",
    "requests a second",
    "predict, ms",
    "explain, ms",
    "refused, ms",
    "faults",
    "memory of a replica, MB",
    "growth, MB per 1,000",
)


@contextmanager
def served(given: Mapping[str, str], replicas: int = 1) -> Iterator[int]:
    """The application on a port of this machine alone, with a cluster of its own."""
    paths = [str(HERE), str(splice.ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # of the replicas, which are processes of Ray
    import ray
    from ray import serve
    from ray_service import app

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init("local", num_cpus=replicas + 1, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(app({**given, "replicas": str(replicas)}), name=NAME, logging_config=QUIET)
        yield port
    finally:
        serve.shutdown()
        ray.shutdown()


def ask(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """The status and the body of an answer, on a connection of its own."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        line.request("POST", path, body, dict(headers))
        answer = line.getresponse()
        return answer.status, answer.read()
    finally:
        line.close()


def npy(x: np.ndarray) -> bytes:
    """An array as a file."""
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def bad(x: np.ndarray) -> list[tuple[bytes, Mapping[str, str]]]:
    """Requests that are wrong in one way each, made of a sample."""
    listed = json.dumps({"inputs": x.tolist()}).encode()
    return [
        (json.dumps({"inputs": x[..., :-1].tolist()}).encode(), JSON),
        (npy(np.full_like(x, np.nan)), NPY),
        (npy(np.full_like(x, 3e38, dtype=np.float64) * 10), NPY),
        (b"x" * (2**23 + 1), JSON),
        (b"not JSON", JSON),
        (listed[: len(listed) // 2], JSON),
        (npy(x)[:-9], NPY),
        (b"[" * 100_000, JSON),
        (json.dumps({"inputs": [[{}]]}).encode(), JSON),
        (listed, {"content-type": "text/html"}),
    ]


@dataclass
class Client:
    """Somebody who asks, one request after the other, and notes how long each took and what was wrong with an answer."""

    port: int
    xs: np.ndarray
    expected: Sequence[onnxdtd.Explanation]
    seed: int
    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in MIX})
    faults: list[str] = field(default_factory=list)

    def work(self, until: float) -> None:
        """Ask until then."""
        rng = np.random.default_rng(self.seed)
        wrong = itertools.cycle([request for x in self.xs[:1] for request in bad(x)])
        while time.perf_counter() < until:
            kind, i = MIX[int(rng.integers(len(MIX)))], int(rng.integers(len(self.xs)))
            body, headers = next(wrong) if kind == "bad" else (npy(self.xs[i]), {**NPY, "accept": NPZ["content-type"]})
            path = "/explain" if kind == "bad" else f"/{kind}"
            start = time.perf_counter()
            try:
                status, answer = ask(self.port, path, body, headers)
            except OSError as error:
                self.faults.append(f"{kind}: {error}")
                continue
            self.seconds[kind].append(time.perf_counter() - start)
            if not (400 <= status < 500 and "error" in json.loads(answer) if kind == "bad" else status == 200):
                self.faults.append(f"{kind}: {status} {answer[:200]!r}")
            elif kind != "bad" and not self.agrees(answer, i):
                self.faults.append(f"{kind}: another answer")

    @property
    def answers(self) -> int:
        """How many there were."""
        return sum(map(len, self.seconds.values()))

    def agrees(self, answer: bytes, i: int) -> bool:
        """Is it what the file says of this sample alone?"""
        with np.load(io.BytesIO(answer)) as said:
            found = {name: said[name] for name in said.files}
        ((name, relevance),) = self.expected[i].relevance.items()
        off = found.get(f"relevance/{name}", relevance[0]) - relevance[0]
        alike = np.abs(off).max() <= CLOSE * np.abs(relevance).max()
        return bool(alike and found["predicted"] == np.asarray(self.expected[i].predicted)[0])


def replicas_of(name: str) -> list[Path]:
    """The processes of each replica of an application, as their folders in /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if (folder / "cmdline").read_bytes().startswith(f"ray::ServeReplica:{name}:".encode()):
                found.append(folder)
    return found


def memory(folders: Sequence[Path], kinds: Sequence[str] = ("VmRSS",)) -> float:
    """The resident megabytes of a replica, the mean over them, or those of some ``kinds``."""
    lines = [line for folder in folders for line in (folder / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith(tuple(kinds))) / 1024 / len(folders)


def compiled(
    source: Path, how: str, folder: str, bounds: tuple[float, float] | None = None
) -> tuple[Path, np.ndarray, list[onnxdtd.Explanation]]:
    """A compiled file of a model with one input, samples, and what it says of each alone."""
    path, (low, high) = Path(folder) / "compiled.onnx", bounds or (None, None)
    demand = "required" if how == "on demand" else None
    onnxdtd.save(onnxdtd.compile(source, on_demand=demand, low=low, high=high), path)
    explainer = onnxdtd.Explainer(path, threads=1)
    (node,) = explainer.inputs.values()
    xs = np.random.default_rng(0).uniform(size=(SAMPLES, *node.shape[1:])).astype(np.float32)
    return path, xs, [explainer(x[None]) for x in xs]


def measured(source: Path, how: str, seconds: float, clients: int, replicas: int) -> tuple[Sequence[object], list[str]]:
    """A row of the table, of a model that is served in one way, and what was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        path, xs, expected = compiled(source, how, folder)
        given = {"model": str(path)} | ({"source": str(source)} if how == "two sessions" else {})
        with served(given, replicas) as port:
            asking = [Client(port, xs, expected, seed) for seed in range(clients)]
            for client in asking[:1]:  # what is done once only
                client.work(time.perf_counter() + 2)
            fresh = [Client(port, xs, expected, client.seed) for client in asking]
            start, folders = time.perf_counter(), replicas_of(NAME)
            threads = [threading.Thread(target=client.work, args=(start + seconds,)) for client in fresh]
            for thread in threads:
                thread.start()
            grown = []  # the second, the answers until then, and megabytes
            for instant in (*(i for i in INSTANTS if i < seconds), None):
                if instant is None:
                    for thread in threads:
                        thread.join()
                else:
                    time.sleep(start + instant - time.perf_counter())
                took = time.perf_counter() - start
                grown.append((took, sum(client.answers for client in fresh), memory(folders)))
    spent = {kind: np.concatenate([client.seconds[kind] for client in fresh]) * 1000 for kind in MIX}
    faults = [fault for client in fresh for fault in client.faults]
    times = ["{:.0f} / {:.0f}".format(*np.percentile(spent[kind], (50, 99))) for kind in ("predict", "explain", "bad")]
    sizes = "; ".join(f"{size:.0f}" for _, _, size in grown)
    (_, before, small), *_, (took, count, large) = grown
    growth = (large - small) / max(count - before, 1) * 1000 * replicas
    told = f"{len(faults)} of {count:,}"
    return (source.stem, how, f"{count / took:.0f}", *times, told, sizes, f"{growth:.2f}"), faults


def main() -> None:
    """Measure, print and write."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long each is asked (60)")
    parser.add_argument("--first", type=float, default=300, help="... but the first of them (300)")
    parser.add_argument("--clients", type=int, default=8, help="how many ask at a time (8)")
    parser.add_argument("--replicas", type=int, default=2, help="how many answer, one thread each (2)")
    parser.add_argument("--models", nargs="*", help="names of models, of those that there are")
    splice.option(parser, "serving")
    given = parser.parse_args()
    rows, faults = list[Sequence[object]](), list[str]()
    for source, ways in MODELS:
        for how in ways if source.exists() and source.stem in (given.models or [source.stem]) else ():
            seconds = given.seconds if rows else given.first
            row, wrong = measured(source, how, seconds, given.clients, given.replicas)
            rows.append(row)
            faults += wrong
            print("  ".join(map(str, row)), *wrong[:5], sep="\n  ", flush=True)
    instants = ", ".join(str(i) for i in INSTANTS if i < given.seconds)
    words = (
        f"{given.clients} clients on this machine, each one request after the other for {given.seconds:g} seconds "
        f"(the first row: {given.first:g}): 60 % predict, 30 % explain, 10 % are wrong in one of ten ways; "
        f"{given.replicas} replicas with one thread each. Times are p50 / p99 as a client sees them; samples are sent as "
        f"`.npy`, answers come as `.npz`. Memory is all that is resident of a replica, after {instants} seconds, and at the "
        "end; its growth is from the first of these to the last, by the requests that this replica answered. A fault is an "
        "answer that differs from what the file says of the sample alone, a right request that is refused, or a wrong one "
        "that is not refused with a sentence."
    )
    if given.write:
        splice.write(given.write, "serving", f"{splice.table(HEADS, rows)}\n\n{words}", ("ray",))
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
