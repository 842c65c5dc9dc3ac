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


def test_tables_say_what_was_measured() -> None:
    told = {"load": 2.0, "private": 1200.4, "peak": 3.0, "private after": 4.0, "mapped after": 5.0}
    seen = memory.several([told, told | {"load": 1.0, "private": 1400.0}, told | {"peak": 9.0}])
    assert (seen["load"], seen["private"], seen["peak"]) == (1.0, 1200.4, 3.0)
    assert memory.of_services("net", {"two": told}).splitlines()[2:] == ["| two | 1,200 | 3 | 4 | 5 | 2.0 |"]
    rows = memory.of_switches("net", {"as it is": told, "slow": told, "same": told}, {"as it is": 0.5, "slow": 0.75})
    assert [row.split("|")[-2].strip() for row in rows.splitlines()[2:]] == ["1.00", "1.50", ""]
    assert {*memory.TIMED} <= {*memory.SWITCHES}
