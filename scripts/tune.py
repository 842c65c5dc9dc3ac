"""Which rule for which architecture: ``onnxdtd tune`` on every trained network that there is here with data.

The networks in models/ on digits, and where ONNXDTD_ASSETS points to them those on digits, small pictures, photographs and
tables. Regions become the mean colour; each network is tuned on one half of its samples and reported on the other.

    scripts/tune.py --write                              twenty minutes
    scripts/tune.py --models two_digits --json FILE      one of them
    scripts/tune.py --read FILE FILE --write             what was measured in several runs
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import splice
from rich.console import Console
from rich.progress import Progress

from onnxdtd import Request, Settings
from onnxdtd.study.tune import ranked, tune
from onnxdtd.study.words import mean_text

ROOT = Path(__file__).resolve().parent.parent
SAMPLES, LARGE = 40, 2**16  # entries of a sample from which on regions are replaced in fewer steps
SHOWN = (
    "dtd",
    "dtd-complete",
    "lrp-epsilon",
    "lrp-gamma",
    "epsilon-plus",
    "gradient-x-input",
)  # presets in the table; the files have all
BEST = 5
SIGNS = {1: "above", 0: "tie", -1: "below", None: "tie"}
ARCHITECTURES = {
    "digits_mlp": "two dense layers",
    "two_digits": "two dense layers",
    "digits_cnn": "plain CNN",
    "digits_resnet": "ResNet with BatchNormalization",
    "mnist_cnn_cntk": "plain CNN",
    "mnist_cnn_bn_pytorch": "CNN with BatchNormalization",
    "cifar10_cnn_pytorch": "plain CNN",
    "cifar10_resnet2b_pytorch": "ResNet, two blocks",
    "cifar10_vit_pgd_pytorch": "vision transformer",
    "shapes_cnn_pytorch_dynamic": "plain CNN",
    "iris_mlp_pytorch": "dense layers, a table",
    "season_conv1d_tf2onnx": "CNN of a signal",
    "imagenet_squeezenet11_fp32": "SqueezeNet 1.1",
    "imagenet_mobilenetv2_fp32": "MobileNetV2, folded BatchNormalization",
}


@dataclass(frozen=True)
class Case:
    """A network with its samples [n, ...] and the bounds of these."""

    path: Path
    samples: Callable[[], np.ndarray]
    bounds: tuple[Any, Any]


def bundled(name: str) -> np.ndarray:
    """Digits that the networks in models/ were not trained on."""
    with np.load(ROOT / "models" / name) as arrays:
        x = np.asarray(arrays["image"], np.float32)
    return x / 16 if x.max() > 1 else x


def cases() -> dict[str, Case]:
    """All that there are here."""
    sys.path.append(str(ROOT / "tests"))
    import assets

    assets.COUNT = SAMPLES
    files = {name: "two_digits_test.npz" if name == "two_digits" else "digits_samples.npz" for name in ARCHITECTURES}
    paths = {name: ROOT / "models" / f"{name}.onnx" for name in ARCHITECTURES}
    found = {name: Case(path, partial(bundled, files[name]), (0.0, 1.0)) for name, path in paths.items() if path.exists()}
    known = {} if assets.MISSING else {asset.name: asset for asset in assets.ASSETS}
    found |= {name: Case(a.path, a.inputs, a.bounds) for name, a in known.items() if name in ARCHITECTURES}
    return {name: found[name] for name in ARCHITECTURES if name in found}


def tuned(case: Case, workers: int, progress: Progress) -> dict[str, Any]:
    """What tune says of a case."""
    with tempfile.TemporaryDirectory() as temporary:
        data, x = Path(temporary) / f"{case.path.stem}.npz", case.samples()
        np.savez(data, x=x[:SAMPLES])
        task = progress.add_task(case.path.stem)
        tick = lambda done, total: progress.update(task, completed=done, total=total)
        low, high = case.bounds
        settings = Settings(steps=10 if x[0].size < LARGE else 7, fill="mean", samples=SAMPLES)
        how: dict[str, Any] = {"workers": workers, "journal": Path(temporary) / "journal", "tick": tick}
        return tune(case.path, data, Request(low=low, high=high), settings=settings, **how)


def row(name: str, result: dict[str, Any]) -> list[str]:
    """Of the table: what was chosen and what it is worth on the samples that it has not seen."""
    held = {entry["preset"]: entry for entry in result["held_out"]}
    sides = {entry["other"]: SIGNS[entry["side"]] for entry in result["differences"]}
    chosen = held[result["chosen"]]
    others = [f"{mean_text(held[other]['abpc'])} ({sides[other]})" if other in held else "-" for other in SHOWN]
    samples = result["settings"]["samples"]
    mine = [mean_text(chosen[key]) for key in ("abpc", "change", "missing")]
    return [name, ARCHITECTURES[name], f"{-(-samples // 2)} + {samples // 2}", result["chosen"], *mine, *others]


def text(results: dict[str, dict[str, Any]]) -> str:
    """The table of what was chosen, and that of the best candidates."""
    in_order = [(name, results[name]) for name in ARCHITECTURES if name in results]
    heads = ["network", "architecture", "samples", "chosen", "ABPC ↑", "change under noise ↓", "missing ↓"]
    table = splice.table([*heads, *(f"`{name}`" for name in SHOWN)], [row(name, result) for name, result in in_order])
    best = [[name, *(f"{r['preset']}: {mean_text(r['abpc'])}" for r in ranked(found)[:BEST])] for name, found in in_order]
    first = splice.table(["network", *map(str, range(1, BEST + 1))], best)
    return f"{table}\n\n{splice.folded('The candidates of the highest ABPC on the half to choose by', first)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Tune, print, write."""
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    parser.add_argument("--read", type=Path, nargs="+", default=[], metavar="FILE", help="take these numbers, measure nothing")
    splice.option(parser, "tune")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        results = {name: tuned(known[name], given.workers, progress) for name in given.models if not given.read}
    for path in given.read:
        results |= json.loads(path.read_text(encoding="utf-8"))
    page = text(results)
    print(page)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if given.write:
        splice.write(given.write, "tune", page, ("scikit-image", "scipy"))


if __name__ == "__main__":
    main()
