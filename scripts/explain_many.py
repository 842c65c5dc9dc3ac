"""What it costs to explain many samples: seconds, processor seconds and peak memory of ``onnxdtd explain --save``.

10,000 digits and 10,000 rows of a table, one tenth of them too, since memory must not grow; in one process, in two, and on
Ray; 200 digits with pictures and without. Samples are bundled ones with a little noise. Each run is a command in a process of
its own.
"""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import splice

MODELS = splice.ROOT / "models"
MANY, FEW, SEEN = 10_000, 1_000, 200
HEADS = ("samples", "how", "seconds", "CPU seconds", "peak memory (MB)", "samples a second")


@dataclass(frozen=True)
class Measured:
    """One command: its time, that of the processor, and the memory of the largest of its processes."""

    what: str
    how: str
    count: int
    seconds: float
    processor: float
    megabytes: float

    def row(self) -> Sequence[str]:
        """Cells of the table."""
        rate = self.count / self.seconds
        return (self.what, self.how, f"{self.seconds:.1f}", f"{self.processor:.1f}", f"{self.megabytes:.0f}", f"{rate:.0f}")


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


def measured(what: str, how: str, count: int, *arguments: object) -> Measured:
    """Run a command once. Raises SystemExit where it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--child", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(splice.ROOT)},
    )
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(what, how, count, seconds, processor, float(done.stderr.split()[-1]))


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
        for one in runs(Path(folder), options.many, options.few):
            found.append(one.row())
            print("  ".join(found[-1]), flush=True)
    text = splice.table(HEADS, found)
    words = (
        "Whole commands, from start to end. Memory is that of the largest process; on Ray that of the one which asks, not of "
        "the actors. Files of two processes and of Ray are those of one, byte by byte."
    )
    if options.write:
        splice.write(options.write, "explain", f"{text}\n\n{words}")


if __name__ == "__main__":
    main()
