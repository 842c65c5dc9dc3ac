"""Min-max relevance models beside the training-free form, as in the deep Taylor paper: the two-digit network, and the CNN of
digits.

The models are fitted to training digits that are not in the repository (`train_models.py` draws them), and compared on the test
digits: the preset dtd, dtd-minmax, and that scaled to conserve. A picture each: a row a preset, a column an input.

    scripts/relevance_models.py --out FOLDER             four minutes
    scripts/relevance_models.py --write                  and the tables
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import compare_rules
import numpy as np
import splice
import study
import train_models

import onnxdtd
from onnxdtd.request import Request
from onnxdtd.study.evaluate import Settings

FITTED_TO = 3000  # samples
SHOWN = 8  # inputs in a picture
SCALED = """
[preset.minmax-scaled]
layers = [
  { first = true, rule = "zB", fit = "min-max scaled" },
  { rule = "z+" },
]
"""


def digits(folder: Path) -> Path:
    """The test digits."""
    _, test = train_models.digits()
    np.savez(folder / "digits.npz", image=test.image, label=test.label)
    return folder / "digits.npz"


def training(name: str) -> np.ndarray:
    """What a network was trained with, or the like."""
    train = train_models.with_shifts(train_models.digits()[0])
    if name == "two_digits":
        return train_models.pairs(train_models.digits()[0], FITTED_TO, seed=1).image
    return train.image[np.random.default_rng(0).permutation(len(train.image))[:FITTED_TO]]


def cases() -> dict[str, study.Case]:
    """The networks."""
    cnn: Callable[[Path], Path] = digits
    model = study.ROOT / "models" / "digits_cnn.onnx"
    return {
        "two_digits": study.cases()["two_digits"],
        "digits_cnn": study.Case(model, cnn, Request(low=0.0, high=1.0), Settings(steps=16), 50, 64),
    }


def fitted(name: str, case: study.Case, folder: Path) -> tuple[Path, str]:
    """The file of its relevance models, and how well they tell relevance."""
    np.savez(folder / f"{name}_training.npz", image=training(name))
    path = folder / f"{name}_models.npz"
    said = onnxdtd.fit(case.model, folder / f"{name}_training.npz", case.request, out=path)
    rows = [
        [layer, part.replace("_", " "), values["epochs"], *(f"{values[part][key]:.3g}" for key in ("r2", "error", "balance"))]
        for layer, values in said["layers"].items()
        for part in ("training", "held_out")
    ]
    heads = ["relevance model of", "samples", "epochs", "R²", "Σ (R̂ − R)² / Σ R²", "Σ (R̂ − R) / Σ R"]
    return path, splice.table(heads, rows)


def main() -> None:
    """Pictures and tables."""
    parser = argparse.ArgumentParser(description="Min-max relevance models beside the training-free form.")
    parser.add_argument("--samples", type=int, metavar="N", default=100, help="the first N inputs (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", default=Path("compared"), help="for pictures and models (default: %(default)s)"
    )
    splice.option(parser, "relevance_models")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen.out.mkdir(parents=True, exist_ok=True)
    scaled = chosen.out / "scaled.toml"
    scaled.write_text(SCALED, encoding="utf-8")
    texts = []
    for name, case in cases().items():
        path, told = fitted(name, case, chosen.out)
        known = replace(case, request=replace(case.request, fitted=str(path)))
        found = compare_rules.compare(name, known, ["dtd", "dtd-minmax", str(scaled)], chosen.samples)
        found.heatmaps["scaled"] = found.heatmaps.pop(str(scaled))
        found.numbers["scaled"] = found.numbers.pop(str(scaled))
        compare_rules.draw(found, chosen.out / f"{name}.png", SHOWN)
        texts.append(f"{compare_rules.table(found)}\n\n{told}")
        print(f"{texts[-1]}\n\nthe picture is {chosen.out / name}.png\n", flush=True)
    if chosen.write:
        splice.write(chosen.write, "relevance_models", "\n\n".join(texts))


if __name__ == "__main__":
    main()
