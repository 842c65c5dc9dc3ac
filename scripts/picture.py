"""Draw the picture in the README: bundled digits, explained under several presets by the bundled classifiers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import onnxdtd
from onnxdtd.data.scale import COLOURS, colour_limit, heat

MODELS = Path(__file__).resolve().parent.parent / "models"
PRESETS = ("dtd", "lrp-gamma", "lrp-alpha2beta1", "lrp-epsilon", "dtd-z")
ROWS = (("digits_cnn", "digits_samples", 6), ("digits_cnn", "digits_samples", 9), ("digits_resnet", "digits_samples", 17))


def main() -> None:
    """Write models/explained.png."""
    figure = Figure(figsize=(2 + 1.45 * len(PRESETS), 1.55 * len(ROWS)), layout="constrained")
    grid = figure.subplots(len(ROWS), 1 + len(PRESETS))
    for row, (model, samples, index) in zip(grid, ROWS, strict=True):
        image = np.load(MODELS / f"{samples}.npz")["image"][index : index + 1]
        row[0].imshow(image[0, 0], cmap="gray")
        for axes, preset in zip(row[1:], PRESETS, strict=True):
            explainer = onnxdtd.Explainer(onnxdtd.compile(MODELS / f"{model}.onnx", preset, low=0.0, high=1.0))
            result = explainer(image)
            values = heat(result.relevance["image"][0], 0)
            axes.imshow(values, cmap=COLOURS, vmin=-colour_limit(values), vmax=colour_limit(values))
        row[0].set_ylabel(f"{model}\nsays {next(iter(result.outputs.values()))[0].argmax()}", fontsize=8)
    for axes, title in zip(grid[0], ("input", *PRESETS), strict=True):
        axes.set_title(title, fontsize=9)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
    figure.savefig(MODELS / "explained.png", dpi=110, format="png", metadata={"Software": None})


if __name__ == "__main__":
    main()
