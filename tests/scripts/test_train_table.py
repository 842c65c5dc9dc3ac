"""The classifier of tumours is as good as its page says, by the files alone."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.mark.parametrize(("name", "count", "right"), [("samples", 12, 12), ("test", 143, 137)])
def test_tumours_are_told_apart(name: str, count: int, right: int) -> None:
    rows = list(csv.DictReader((MODELS / f"tumours_{name}.csv").read_text(encoding="utf-8").splitlines()))
    label = np.array([row.pop("diagnosis") for row in rows])
    session = ort.InferenceSession(MODELS / "tumours.onnx", providers=["CPUExecutionProvider"])
    found, probabilities = session.run(None, {"features": np.array([[*row.values()] for row in rows], np.float32)})
    assert probabilities.shape == (count, 2)
    assert abs(int((found == label).sum()) - right) <= (right < count)  # another processor may round one over the edge
