"""Draw the picture in the README: bundled digits, explained under several presets by the bundled classifiers.

A row is what one command writes of a sample: ``onnxdtd explain MODEL SAMPLES --low 0 --high 1 --preset dtd --preset ...``
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import onnxdtd

MODELS = Path(__file__).resolve().parent.parent / "models"
PRESETS = ("dtd", "lrp-gamma", "lrp-alpha2beta1", "lrp-epsilon", "dtd-z")
ROWS = (("digits_cnn", 6), ("digits_cnn", 9), ("digits_resnet", 17))


def row(model: str, index: int, folder: Path) -> Image.Image:
    """One sample under all presets."""
    samples = folder / f"{model}_{index}.npz"
    np.savez(samples, image=np.load(MODELS / "digits_samples.npz")["image"][index : index + 1])
    request = onnxdtd.Request(low=0.0, high=1.0)
    onnxdtd.explain(MODELS / f"{model}.onnx", [samples], request, folder / samples.stem, presets=PRESETS)
    (picture,) = (folder / samples.stem).glob("*.png")
    return Image.open(picture).convert("RGB")


def main() -> None:
    """Write models/explained.png."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(*each, Path(folder)) for each in ROWS]
    whole = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    for i, picture in enumerate(rows):
        whole.paste(picture, (0, sum(row.height for row in rows[:i])))
    whole.quantize(256).save(MODELS / "explained.png", optimize=True)


if __name__ == "__main__":
    main()
