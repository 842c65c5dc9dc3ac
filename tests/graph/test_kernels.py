"""What kernels there are, read from the table that is shipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import node
from onnx import TensorProto, helper, numpy_helper

from onnxdtd.graph import kernels

FLOAT, HALF, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL


def test_a_kernel_serves_no_newer_schema() -> None:
    """Of MaxPool versions 12 and 22 are in force; GPUs have that of 12."""
    assert [kernels.offered("MaxPool", opset) for opset in range(17, 25)] == [True] * 5 + [False] * 3
    assert [kernels.offered("Equal", opset) for opset in range(17, 25)] == [True] * 2 + [False] * 2 + [True] * 4
    assert not kernels.offered("NoSuchOperator", 17)


CASES: dict[str, tuple[Any, int, dict[str, int], str, str]] = {  # a node, operator set, types, provider, what is said
    "there is one": (node("Relu", "x", "y"), 24, {"x": FLOAT, "y": FLOAT}, "CUDA", ""),
    "for an older version": (
        node("MaxPool", "x", "y", kernel_shape=[2]),
        22,
        {"x": FLOAT},
        "CUDA",
        "none for version 22 of the operator, only for 12",
    ),
    "of another type": (
        node("Where", "c x x", "y"),
        21,
        {"c": BOOL, "x": BOOL, "y": BOOL},
        "CUDA",
        "none for these types (bool, bool, bool)",
    ),
    "padded on one side": (
        node("ConvTranspose", "x w", "y", pads=[0, 1, 0, 2]),
        21,
        {},
        "CUDA",
        "none for pads that differ between the sides",
    ),
    "padded on both": (node("ConvTranspose", "x w", "y", pads=[0, 1, 0, 1]), 21, {}, "CUDA", ""),
    "among several kernels": (node("Where", "c x x", "y"), 21, {"c": BOOL, "x": INT64, "y": INT64}, "CUDA", ""),
    "by a result": (node("TopK", "x k", "y i"), 17, {"y": HALF, "i": BOOL}, "CUDA", "none for these types ()"),
    "no type known": (node("Relu", "x", "y"), 17, {}, "CUDA", ""),
    "of many inputs": (node("Concat", "x i", "y", axis=0), 17, {"x": FLOAT, "i": FLOAT, "y": FLOAT}, "CUDA", ""),
    "a function, which is spelled out": (node("GroupNormalization", "x w b", "y"), 21, {"x": FLOAT}, "CUDA", ""),
    "a function that the CPU has": (node("Celu", "x", "y"), 21, {"x": FLOAT}, "CUDA", "none at all"),
    "of a runtime's own": (helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft"), 17, {}, "CUDA", ""),
    "of no runtime": (helper.make_node("Snake", ["x"], ["y"], domain="com.acme"), 17, {}, "CPU", "none at all"),
}


@pytest.mark.parametrize("case", CASES)
def test_reasons(case: str) -> None:
    given, opset, types, provider, reason = CASES[case]
    graph = helper.make_graph([given], "net", [], [])
    assert list(kernels.lacking(graph, opset, types, provider)) == ([(0, reason)] if reason else [])


def test_what_computes_sizes_is_left_to_the_cpu() -> None:
    """A Pad of integers has no kernel on a GPU. What a caller may change is no constant."""
    nodes = [node("Shape", "x", "s"), node("Pad", "s p", "t"), node("Pad", "i p", "u")]
    pads = numpy_helper.from_array(np.asarray([0, 1]), "p")
    value = lambda name: helper.make_tensor_value_info(name, INT64, [2])
    graph = helper.make_graph(nodes, "net", [value("i")], [], [pads, numpy_helper.from_array(np.asarray([1, 2]), "i")])
    types = dict.fromkeys("spitu", INT64) | {"x": FLOAT}
    assert list(kernels.lacking(graph, 18, types)) == [(2, "none for these types (int64, int64)")]
