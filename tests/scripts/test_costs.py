"""What each method costs: a tiny net, timed, and who is left out and why."""

from __future__ import annotations

from pathlib import Path

import costs
import numpy as np
import onnx
import pytest
from nets import model, node

from onnxdtd.errors import OnnxdtdError


def test_a_tiny_net(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(40, 40)).astype(np.float32)}
    path = tmp_path / "net.onnx"
    onnx.save(model([node("Gemm", "x w", "y")], {"x": ["n", 40]}, ["y"], weights), path)
    x = rng.normal(size=(500, 40)).astype(np.float32)
    assert np.isfinite(costs.cost(path, "lrp-epsilon", x, 3))
    with pytest.raises(OnnxdtdError, match="map"):
        costs.cost(path, "grad-cam", x, 1)


def test_who_is_left_out_says_why() -> None:
    found = {"a": {"dtd": 2.0, "grad-cam": "there is no map"}, "b": {"dtd": 3.456, "grad-cam": 1.5}}
    lines = costs.table(found).splitlines()
    assert lines[0] == "| preset | a | b |"
    assert lines[2:4] == ["| `dtd` | 2.00 × | 3.46 × |", "| `grad-cam` | - | 1.50 × |"]
    assert lines[-1] == "- `grad-cam`: there is no map"
