"""What does each method cost? Prediction and explanation together, in forward passes, of every preset there is.

Each compiled model takes turns with the source in one process, on one thread, and what is compared is the time of the
processor, so that whatever else the machine does meets both alike. Shown are medians over rounds.

    scripts/costs.py --write                             all presets on four networks, half an hour
    scripts/costs.py --models resnet50 --presets dtd dtd-complete
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import bench
import numpy as np
import splice
import zoo

import onnxdtd
from onnxdtd.errors import OnnxdtdError
from onnxdtd.method.toml import Library
from onnxdtd.runtime.explainer import session

MODELS = ("vgg16", "resnet50", "mobilenet_v2", "efficientnet_b0")


def cost(path: Path, preset: str, x: np.ndarray, rounds: int) -> float:
    """Of a compiled model, in forward passes of its source. Raises ``OnnxdtdError`` where it cannot be compiled."""
    compiled = onnxdtd.compile(path, preset, low=-zoo.BOUND, high=zoo.BOUND)
    runs = [running(model, x) for model in (path, compiled)]
    ratios = []
    for turn in range(rounds + 1):
        forward, whole = map(seconds, runs)
        if turn:  # the first of each is not counted
            ratios.append(whole / forward)
    return median(ratios)


def running(model: Any, x: np.ndarray) -> Callable[[], object]:
    """A run of a model, on one thread."""
    loaded = session(model, threads=1)
    return lambda: loaded.run(None, {loaded.get_inputs()[0].name: x})


def seconds(run: Callable[[], object]) -> float:
    """Of the processor."""
    start = time.process_time()
    run()
    return time.process_time() - start


def measured(models: Sequence[str], presets: Sequence[str], batch: int, rounds: int) -> dict[str, dict[str, float | str]]:
    """By model and preset; a sentence where a preset does not serve a model."""
    found: dict[str, dict[str, float | str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in models:
            path = Path(folder) / f"{name}.onnx"
            bench.exported(name, path)
            row = found[name] = {}
            for preset in presets:
                try:
                    row[preset] = cost(path, preset, bench.pictures(name, batch), rounds)
                except OnnxdtdError as error:
                    row[preset] = str(error).splitlines()[0]
                print(name, preset, row[preset], file=sys.stderr, flush=True)
            path.unlink()
    return found


def table(found: dict[str, dict[str, float | str]]) -> str:
    """In Markdown: a row a preset, and who is left out and why."""
    presets = list(next(iter(found.values())))
    said = lambda value: f"{value:.2f} ×" if isinstance(value, float) else "-"
    rows = [[f"`{preset}`", *(said(row[preset]) for row in found.values())] for preset in presets]
    reasons = {preset: value for row in found.values() for preset, value in row.items() if isinstance(value, str)}
    left = "".join(f"\n- `{preset}`: {reason}" for preset, reason in reasons.items())
    return splice.table(["preset", *found], rows) + (f"\n{left}" if left else "")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=bench.MODELS, default=MODELS)
    parser.add_argument("--presets", nargs="+", default=list(Library().presets), metavar="NAME")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    splice.option(parser, "costs")
    given = parser.parse_args()
    found = measured(given.models, given.presets, given.batch, given.rounds)
    text = table(found)
    print(text)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if given.write:
        splice.write(given.write, "costs", text, ("torch", "torchvision"))


if __name__ == "__main__":
    main()
