"""Is the explanation consistent? The table of the deep Taylor paper's claim, measured on the two-digit network.

A heatmap is consistent if it is positive and its sum is the explained score (Montavon et al. 2017, supplement, Definition
3). Propositions 1 to 3 prove it of the w2, z+ and zB rules for ReLU networks whose biases are ≤ 0, as those of
models/two_digits.onnx are by construction. The z and αβ rules come with no such promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console
from rich.table import Column, Table

import onnxdtd

MODELS = Path(__file__).resolve().parents[2] / "models"
PRESETS = ("dtd", "dtd-w2", "dtd-z", "lrp-alpha2beta1", "lrp-alpha1beta0", "lrp-epsilon")
TOLERANCE = 1e-5  # of the score; float32 sums of 128 terms


@dataclass(frozen=True)
class Row:
    """What one preset does on all test inputs, in units of the explained score."""

    preset: str
    largest_error: float  # |Σ R - f(x)| / f(x)
    most_negative: float  # min R / f(x)
    positive: int
    conserving: int
    consistent: int
    total: int


def largest_bias(model: Path) -> float:
    """The largest bias of the network: vectors among its initializers."""
    tensors = onnx.load(model).graph.initializer
    biases = [onnx.numpy_helper.to_array(t) for t in tensors if len(t.dims) == 1 and t.data_type == onnx.TensorProto.FLOAT]
    return float(max(b.max() for b in biases))


def measure(preset: str, images: np.ndarray) -> Row:
    """Explain every image under a preset. Explained scores must be positive, or there is nothing to decompose."""
    compiled = onnxdtd.compile(MODELS / "two_digits.onnx", preset, low=0.0, high=1.0)
    result = onnxdtd.Explainer(compiled)(images)
    score = result.outputs["scores"].max(1).astype(np.float64)
    assert (score > 0).all()
    relevance = result.relevance["image"].astype(np.float64).reshape(len(images), -1)
    error = np.abs(relevance.sum(1) - score) / score
    lowest = relevance.min(1) / score
    positive, conserving = lowest >= 0, error <= TOLERANCE
    counts = (int(positive.sum()), int(conserving.sum()), int((positive & conserving).sum()), len(images))
    return Row(preset, float(error.max()), float(lowest.min()), *counts)


def main() -> None:
    """Print the table."""
    images = np.load(MODELS / "two_digits_test.npz")["image"].astype(np.float32) / 16
    table = Table(
        Column("preset", no_wrap=True), "positive", "Σ R = f(x)", "consistent", "worst |Σ R - f(x)| / f(x)", "lowest R / f(x)",
        title=f"two_digits.onnx, {len(images)} test inputs, largest bias {largest_bias(MODELS / 'two_digits.onnx'):g}",
    )  # fmt: skip
    for row in (measure(preset, images) for preset in PRESETS):
        shares = [f"{count / row.total:.1%}" for count in (row.positive, row.conserving, row.consistent)]
        table.add_row(row.preset, *shares, f"{row.largest_error:.1e}", f"{row.most_negative:.3g}")
    Console(soft_wrap=True).print(table)


if __name__ == "__main__":
    main()
