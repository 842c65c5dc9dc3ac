"""What it costs to explain many samples: seconds, processor seconds and peak memory of ``onnxdtd explain --save``.

10,000 digits, 10,000 rows of a table and 10,000 photographs of digits in JPEGs that a Parquet file lists, one tenth of them
too, since memory must not grow; in one process, in two, and on Ray; 200 digits with pictures and without. Samples are bundled
ones with a little noise. Each run is a command in a process of its own.
"""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import splice
from PIL import Image

MODELS = splice.ROOT / "models"
MANY, FEW, SEEN = 10_000, 1_000, 200
SIDE = 128  # pixels of a photograph
HEADS = ("samples", "how", "seconds", "CPU seconds", "peak memory (MB)", "of an actor (MB)", "samples a second")
ACTOR, EVERY = "ray::Actor", 0.2  # what Ray calls the processes of ours; seconds between looks at them


@dataclass(frozen=True)
class Measured:
    """One command: its time, that of the processor, the memory of the largest of its processes, and of actors, if any."""

    what: str
    how: str
    count: int
    seconds: float
    processor: float
    megabytes: float
    actors: float

    def row(self) -> Sequence[str]:
        """Cells of the table."""
        rate = self.count / self.seconds
        actors = f"{self.actors:.0f}" if self.actors else ""
        times = (f"{self.seconds:.1f}", f"{self.processor:.1f}")
        return (self.what, self.how, *times, f"{self.megabytes:.0f}", actors, f"{rate:.0f}")


def digits(path: Path, count: int) -> Path:
    """Handwritten digits with noise."""
    rng = np.random.default_rng(0)
    with np.load(MODELS / "digits_samples.npz") as known:
        some = known["image"][rng.integers(0, len(known["image"]), count)]
    np.savez(path, image=np.clip(some + rng.normal(0, 0.05, some.shape), 0, 1).astype(np.float32))
    return path


def rows(path: Path, count: int) -> Path:
    """Rows of a table with noise."""
    rng = np.random.default_rng(0)
    with (MODELS / "tumours_samples.csv").open(newline="", encoding="utf-8") as file:
        names, *known = csv.reader(file)
    numbers = np.array([row[:-1] for row in known], np.float64)[rng.integers(0, len(known), count)]
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(names[:-1])
        lines.writerows((numbers * rng.normal(1, 0.02, numbers.shape)).round(5).tolist())
    return path


def photographs(folder: Path, counts: Sequence[int]) -> dict[int, Path]:
    """Digits as JPEGs, and a Parquet file with the first so many of them, by how many; one is no picture."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    with np.load(MODELS / "digits_samples.npz") as known:
        some, labels = known["image"][:, 0], known["label"]
    chosen = rng.integers(0, len(some), max(counts))
    for i, which in enumerate(chosen):
        large = np.kron(some[which], np.ones((SIDE // 8, SIDE // 8)))
        pixels = np.clip(255 * large + rng.normal(0, 20, large.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05d}.jpg")
    (folder / "00007.jpg").write_bytes(b"none")
    lists = {count: folder / f"{count}.parquet" for count in counts}
    for count, path in lists.items():
        table = {"file": [f"{i:05d}.jpg" for i in range(count)], "label": [int(labels[which]) for which in chosen[:count]]}
        pq.write_table(pa.table(table), path)
    return lists


class Watch(threading.Thread):
    """Looks at the processes below this one, and keeps the peak memory of the largest of those that are called so."""

    def __init__(self, called: str):
        super().__init__(daemon=True)
        self._called, self._over, self.megabytes = called, threading.Event(), 0.0

    def run(self) -> None:
        """Look until it is over."""
        while not self._over.wait(EVERY):
            for below in descendants(os.getpid()):
                try:
                    if self._called in Path(f"/proc/{below}/cmdline").read_text():
                        told = Path(f"/proc/{below}/status").read_text()
                        self.megabytes = max(self.megabytes, int(told.partition("VmHWM:")[2].split()[0]) / 1024)
                except (OSError, IndexError):  # it has ended
                    continue

    def end(self) -> float:
        """What was seen."""
        self._over.set()
        self.join()
        return self.megabytes


def descendants(pid: int) -> set[int]:
    """All processes that one has started, and those that these have."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, new = set[int](), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def measured(what: str, how: str, count: int, *arguments: object) -> Measured:
    """Run a command once. Raises SystemExit where it fails."""
    watch = Watch(ACTOR)
    watch.start()
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--child", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(splice.ROOT)},
    )
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    actors = watch.end()
    if done.returncode:
        raise SystemExit(done.stderr)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(what, how, count, seconds, processor, float(done.stderr.split()[-1]), actors)


def child(arguments: Sequence[str]) -> None:
    """The command, then its peak memory on the last line of standard error."""
    done = subprocess.run([sys.executable, "-m", "onnxdtd", *arguments], stdout=subprocess.DEVNULL, check=False)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, file=sys.stderr)
    raise SystemExit(done.returncode)


def runs(folder: Path, many: int, few: int) -> Iterator[Measured]:
    """All of them, one after the other."""
    cnn, net = MODELS / "digits_cnn.onnx", MODELS / "tumours.onnx"
    bounds = ("--low", 0, "--high", 1)
    made = {
        count: (digits(folder / f"digits{count}.npz", count), rows(folder / f"rows{count}.csv", count)) for count in (few, many)
    }
    seen = digits(folder / "seen.npz", SEEN)
    out = lambda: ("-o", tempfile.mkdtemp(dir=folder))
    yield measured(f"{SEEN} digits", "pictures", SEEN, "explain", cnn, seen, *bounds, *out())
    yield measured(f"{SEEN} digits", "no pictures", SEEN, "explain", cnn, seen, *bounds, *out(), "--no-pictures")
    for count, (pictures, table) in made.items():
        for what, model, data, options, ends in (
            ("digits", cnn, pictures, bounds, (".npz", ".zarr", "")),
            ("rows", net, table, (), (".npz", ".csv", ".parquet")),
        ):
            line = ("explain", model, data, *options, "--no-pictures", "--save")
            for end in ends if count == many else ends[:1]:
                yield measured(f"{count:,} {what}", end or "shards", count, *line, folder / f"saved-{what}{count}{end}", *out())
            for how, workers in (("two processes", ("--workers", 2)), ("Ray, two actors", ("--workers", 2, "--engine", "ray"))):
                if count == many:
                    saved = folder / f"{what}-{how[:3]}{ends[0]}"
                    yield measured(f"{count:,} {what}", f"{ends[0]}, {how}", count, *line, saved, *out(), *workers)
                    alone = folder / f"saved-{what}{count}{ends[0]}"
                    if saved.read_bytes() != alone.read_bytes():
                        raise SystemExit(f"{saved.name} differs from {alone.name}")


def listed(folder: Path, many: int, few: int) -> Iterator[Measured]:
    """The runs over JPEGs in a list, of which all processes give the same shards."""
    ways = {"": (), ", two processes": ("--workers", 2), ", Ray, two actors": ("--workers", 2, "--engine", "ray")}
    for count, path in photographs(folder, (few, many)).items():
        whole = {}
        for how, more in ways.items():
            saved = folder / f"{count}{how[2:5]}"
            line = ("explain", MODELS / "digits_cnn.onnx", f"@{path}", "--range", "0,1", "--no-pictures", "--save", saved)
            out = tempfile.mkdtemp(dir=folder)
            yield measured(f"{count:,} JPEGs", f"shards{how}", count - 1, *line, "-o", out, *more)
            whole[how] = [shard.read_bytes() for shard in sorted(saved.iterdir())]
            if whole[how] != whole[""]:
                raise SystemExit(f"{saved} differs from that of one process")


def main() -> None:
    """Measure, print and write."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--many", type=int, default=MANY, help="samples of a long run")
    parser.add_argument("--few", type=int, default=FEW, help="samples of a short one, to compare its memory with")
    splice.option(parser, "explain")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder), options.many, options.few
        for one in chain(runs(*counts), listed(*counts)):
            found.append(one.row())
            print("  ".join(found[-1]), flush=True)
    text = splice.table(HEADS, found)
    words = (
        "Whole commands, from start to end. Memory is that of the largest process; on Ray that of the one which asks, and "
        f"beside it that of the largest actor. JPEGs have {SIDE} x {SIDE} pixels, and are read by whoever explains them; one "
        "is none, and is named and left out. Files of two processes and of Ray are those of one, byte by byte."
    )
    if options.write:
        splice.write(options.write, "explain", f"{text}\n\n{words}")


if __name__ == "__main__":
    main()
