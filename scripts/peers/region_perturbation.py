"""Region perturbation beside Quantus: same model, inputs, heatmaps and settings; the curves must agree, the times are shown.

Ours includes compiling, loading and explaining; Quantus is given our heatmaps and its model ready in PyTorch.

    scripts/peers/region_perturbation.py
"""
# PyTorch is imported where it is used: our workers import this file.

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import onnxdtd
from onnxdtd.request import Request
from onnxdtd.study import jobs as engine
from onnxdtd.study.evaluate import Evaluation, Settings

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import splice  # noqa: E402

PRESET = "lrp-epsilon"


def ours(path: Path, data: Path, settings: Settings, workers: int) -> tuple[list[dict[str, Any]], float]:
    """The rows of an evaluation, and the seconds it took."""
    job = Evaluation([path], [PRESET], data, Request(), settings)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        units = list(engine.run(job, workers, "processes", Path(folder, "journal")))
        return [row for unit in units for row in unit["rows"]], time.perf_counter() - start


def theirs(path: Path, x: np.ndarray, rows: list[dict[str, Any]], patch: int) -> tuple[dict[str, np.ndarray], float]:
    """Quantus' drops f(x) − f(x_k), [n, regions] by order, and the seconds it took."""
    import zoo

    zoo.torchvision()  # before Quantus imports it by way of zennit
    import agreement
    import quantus
    from rebuild import Rebuilt

    proto, logits = agreement.predictor(path)
    module = Rebuilt(proto, logits, agreement.Added)
    target = np.array([row["class"] for row in rows])
    heatmaps = onnxdtd.Explainer(onnxdtd.compile(path, PRESET, target="input"))(x, target.tolist()).relevance.popitem()[1]
    regions = -(-x.shape[2] // patch) * -(-x.shape[3] // patch)
    found, seconds = {}, 0.0
    for order in ("morf", "lerf", "random"):
        metric = quantus.RegionPerturbation(
            patch_size=patch,
            regions_evaluation=regions,
            order=order,
            perturb_baseline=0.0,
            normalise=False,
            abs=False,
            return_aggregate=False,
            disable_warnings=True,
            display_progressbar=False,
        )
        start = time.perf_counter()
        found[order] = np.array(metric(model=module, x_batch=x, y_batch=target, a_batch=heatmaps, device="cpu", softmax=False))
        seconds += time.perf_counter() - start
    return found, seconds


def compared(name: str, path: Path, x: np.ndarray, patch: int, workers: int) -> tuple[str, ...]:
    """One row of the table."""
    regions = -(-x.shape[2] // patch) * -(-x.shape[3] // patch)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "data.npz"), x=x)
        rows, mine = ours(path, Path(folder, "data.npz"), Settings(patch, regions), workers)
    drops, other = theirs(path, x, rows, patch)
    worst = 0.0
    for order in ("morf", "lerf"):
        curve = np.array([row["presets"][PRESET][order] for row in rows])
        worst = max(worst, np.abs(curve[:, :1] - curve[:, 1:] - drops[order]).max() / np.abs(curve).max())
    return name, f"{len(x)} × {regions}", f"{worst:.1e}", f"{mine:.1f} s", f"{other:.1f} s", f"{other / mine:.1f} ×"


def exported(name: str, folder: Path, side: int) -> tuple[Path, np.ndarray]:
    """A network of torchvision with seeded weights and a free batch axis, and some inputs."""
    import torch
    import zoo

    network = next(n for n in zoo.ZOO if n.name == name)
    x, path = zoo.inputs(side, 16, seed=2), folder / f"{name}.onnx"
    axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
    names: dict[str, Any] = {"input_names": ["input"], "output_names": ["logits"], "dynamic_axes": axes}
    torch.onnx.export(zoo.built(network), (torch.from_numpy(x[:1]),), path, dynamo=False, opset_version=17, **names)
    return path, x


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    splice.option(parser, "region_perturbation")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    digits = np.load(ROOT / "models" / "digits_samples.npz")["image"]
    with tempfile.TemporaryDirectory() as folder:
        cases: dict[str, Callable[[], tuple[Path, np.ndarray, int]]] = {
            "digits_cnn": lambda: (ROOT / "models" / "digits_cnn.onnx", np.tile(digits, (150, 1, 1, 1)), 1),
            "resnet18": lambda: (*exported("resnet18", Path(folder), 96), 16),
            "squeezenet1_1": lambda: (*exported("squeezenet1_1", Path(folder), 96), 16),
        }
        rows = [compared(name, *case(), given.workers) for name, case in cases.items()]
    heads = ["model", "samples × regions", "difference", "onnxdtd", "Quantus", "Quantus / onnxdtd"]
    text = splice.table(heads, rows)
    print(text)
    if given.write:
        splice.write(given.write, "region_perturbation", text, ("quantus", "torch"))


if __name__ == "__main__":
    main()
