"""What a compile would do, as plain data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nets import model, node

import onnxdtd
from onnxdtd.errors import Unsupported
from onnxdtd.request import Request

MODELS = Path(__file__).resolve().parents[2] / "models"


def test_what_it_says_is_what_the_file_says() -> None:
    found = onnxdtd.inspect(MODELS / "digits_cnn.onnx", Request(low=0.0, high=1.0))
    metadata = onnxdtd.Explainer(onnxdtd.compile(MODELS / "digits_cnn.onnx", low=0.0, high=1.0)).metadata
    assert {row["node"]: row["rule"] for row in found["steps"] if row["rule"]} == metadata["rules"]
    assert [row["node"] for row in found["steps"] if row["first"]] == [next(iter(metadata["rules"]))]
    for key in ("output", "logits", "changes", "preset"):
        assert found[key] == metadata[key]
    for key, total in found["multiply_adds"].items():
        assert total == sum(row[key] for row in found["steps"]) > 0
    assert json.loads(json.dumps(found)) == found


def test_what_stands_in_the_way_is_raised() -> None:
    proto = model(
        [node("MatMul", "x w", "h"), node("Hardmax", "h", "y")], {"x": ["n", 6]}, ["y"], {"w": np.ones((6, 4), np.float32)}
    )
    with pytest.raises(Unsupported, match="Hardmax"):
        onnxdtd.inspect(proto)
