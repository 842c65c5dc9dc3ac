"""Which nodes run on the CPU though a GPU was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from nets import model, node

import onnxdtd
from onnxdtd.compiler.placement import nearest
from onnxdtd.errors import RequestError

POOLED = model(
    [
        node("Conv", "x w", "c"),
        node("Relu", "c", "r"),
        node("MaxPool", "r", "m", kernel_shape=[2, 2]),
        node("Flatten", "m", "f"),
        node("Gemm", "f v", "y"),
    ],
    {"x": ["n", 2, 4, 4]},
    ["y"],
    {"w": np.ones((2, 2, 2, 2), np.float32), "v": np.ones((8, 3), np.float32)},
    opset=22,
)


@pytest.mark.parametrize("provider", ["cuda", "CUDAExecutionProvider"])
def test_nodes_of_the_predictor_are_named_and_of_ours_there_is_none(provider: str) -> None:
    found = onnxdtd.inspect(POOLED, provider=provider)["kernels"]
    assert found["lacking"] == [
        {"node": "m_node", "op": "MaxPool", "added": False, "why": "none for version 22 of the operator, only for 12"}
    ]
    assert (found["predictor"], found["provider"]) == (5, "CUDA")
    assert found["added"] == len(onnxdtd.compile(POOLED).graph.node) - 5


def test_a_cpu_has_them_all() -> None:
    assert onnxdtd.inspect(POOLED, provider="cpu")["kernels"]["lacking"] == []
    assert "kernels" not in onnxdtd.inspect(POOLED)


def test_a_provider_that_is_not_known() -> None:
    with pytest.raises(RequestError, match=r"--provider 'tensorrt': .* known are cpu and cuda"):
        onnxdtd.inspect(POOLED, provider="tensorrt")


@pytest.mark.parametrize(
    ("installed", "used"),
    [("1.31.1", "1.31.1"), ("1.40.0.dev1", "1.31.1"), ("1.31.0", "1.23.2"), ("1.9.0", "1.23.2"), (None, "1.31.1")],
)
def test_the_nearest_version_that_is_known(installed: str | None, used: str) -> None:
    assert nearest(installed) == used
