"""Where the memory of an explaining session goes."""

from __future__ import annotations

from pathlib import Path

import memory
import onnx
import pytest

import onnxdtd

MODELS = Path(__file__).resolve().parents[2] / "models"


def test_the_weights_of_a_network_are_there_as_they_are_and_positive_and_turned_round(tmp_path: Path) -> None:
    """Under deep Taylor W and W⁺ of each layer, and a twin of that of each convolution but the first, for its adjoint."""
    path = tmp_path / "net.onnx"
    proto = onnxdtd.compile(MODELS / "digits_cnn.onnx", "dtd", low=0, high=1)
    onnx.save(proto, path)
    sizes = {tensor.name: len(tensor.raw_data) for tensor in onnx.load(MODELS / "digits_cnn.onnx").graph.initializer}
    matrices = [size for name, size in sizes.items() if name.endswith("weight")]
    found = {kind: size * 2**20 for kind, size in memory.copies({"whole": path, "beside": path}).items()}
    assert found["W"] == pytest.approx(sum(sizes.values()), rel=0.02)
    assert sum(matrices) * 0.95 < found["W⁺"] <= sum(matrices)
    assert 0 < found["turned round"] < found["W⁺"]


def test_times_are_multiples_of_the_predictors_and_the_least_that_was_seen() -> None:
    told = {
        "load": 2.0,
        "private": 1200.4,
        "peak": 3.0,
        "private after": 4.0,
        "mapped after": 5.0,
        "predict": 0.5,
        "explain": 2.0,
    }
    seen = memory.several([told, told | {"load": 1.0, "private": 1400.0, "predict": 0.25}, told | {"peak": 9.0}])
    assert (seen["load"], seen["private"], seen["predict"], seen["peak"]) == (1.0, 1200.4, 0.25, 3.0)
    rows = memory.of_services("net", {"the predictor alone": told, "one file": told | {"predict": 0.75}}).splitlines()
    assert rows[2:] == [
        "| the predictor alone | 1,200 | 3 | 4 | 5 | 2.0 | 1.00 | - |",
        "| one file | 1,200 | 3 | 4 | 5 | 2.0 | 1.50 | 4.0 |",
    ]
