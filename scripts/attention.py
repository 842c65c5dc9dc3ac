"""Which preset for transformers: ``onnxdtd evaluate`` on the trained vision transformer that there is here with data.

That is the one on pictures of CIFAR-10 in ONNXDTD_ASSETS; regions become the mean colour. Beside the presets those of AttnLRP
and CP-LRP with γ on a grid, in convolutions and in dense layers.

    scripts/attention.py --write                         half a minute
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import splice

from onnxdtd import Request, Settings, evaluate
from onnxdtd.study.words import mean_text

ROOT = Path(__file__).resolve().parent.parent
MODEL = "cifar10_vit_pgd_pytorch"
PRESETS = (
    "dtd",
    "dtd-complete",
    "dtd-z",
    "lrp-epsilon",
    "lrp-gamma",
    "epsilon-plus",
    "attnlrp",
    "cp-lrp",
    "attnlrp-epsilon",
    "attnlrp-gamma",
    "cp-lrp-gamma",
    "gradient-x-input",
    "integrated-gradients",
)
METHODS = {"attnlrp-shares": "AttnLRP", "lrp": "CP-LRP"}
CONVOLUTIONS, DENSE = (0.25, 100), (0, 0.01, 0.05, 0.25, 1)  # γ


def written(folder: Path) -> dict[str, str]:
    """Presets with γ as files in a folder, and what each is called."""
    found = {}
    for method, title in METHODS.items():
        for conv in CONVOLUTIONS:
            for dense in DENSE:
                path = folder / f"{method}_{conv}_{dense}.toml"
                layers = [
                    f'{{ family = "conv", rule = "gamma(gamma={conv})" }}',
                    f'{{ family = "dense", rule = "gamma(gamma={dense})" }}',
                    '{ rule = "epsilon" }',
                ]
                path.write_text(f'[preset.p]\nmethod = "{method}"\nlayers = [{", ".join(layers)}]\n', encoding="utf-8")
                found[str(path)] = f"{title}, γ {conv} and {dense}"
    return found


def measured(samples: int, workers: int) -> dict[str, Any]:
    """What ``evaluate`` says, with the name of each preset."""
    sys.path.append(str(ROOT / "tests"))
    import assets

    if assets.MISSING:
        raise SystemExit(assets.MISSING)
    assets.COUNT = samples
    (asset,) = (one for one in assets.ASSETS if one.name == MODEL)
    low, high = asset.bounds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = {name: f"`{name}`" for name in PRESETS} | written(folder)
        np.savez(folder / "pictures.npz", x=asset.inputs())
        settings = Settings(steps=16, fill="mean", patch=4, samples=samples)
        request = Request(low=low, high=high)
        data = folder / "pictures.npz"
        found = evaluate([asset.path], data, request, presets=[*names], settings=settings, workers=workers)
    (model,) = found["models"]
    presets = [{**entry, "preset": names[entry["preset"]]} for entry in model["presets"]]
    return {"samples": model["samples"], "presets": presets}


def text(result: dict[str, Any]) -> str:
    """The tables: the presets, and those with γ on a grid."""
    rows = []
    for entry in result["presets"]:
        found = entry["metrics"]
        rows.append([entry["preset"], *(mean_text(found[key]) if key in found else "-" for key in ("aopc", "abpc", "missing"))])
    heads = ["preset", "AOPC ↑", "ABPC ↑", "missing ↓"]
    ours, grid = rows[: len(PRESETS)], rows[len(PRESETS) :]
    first = f"`{MODEL}`, {result['samples']} pictures.\n\n{splice.table(heads, ours)}"
    return f"{first}\n\n{splice.folded('γ in convolutions and in dense layers, ε elsewhere', splice.table(heads, grid))}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    splice.option(parser, "attention")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    result = measured(given.samples, given.workers)
    page = text(result)
    print(page)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if given.write:
        splice.write(given.write, "attention", page)


if __name__ == "__main__":
    main()
