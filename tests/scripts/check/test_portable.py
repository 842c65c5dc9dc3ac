"""Nodes that a runtime's published list has not are found, and no others."""

import numpy as np
import onnx
import portable as P  # noqa: N812
import pytest
from nets import model, node

import onnxdtd
from onnxdtd.graph.shapes import element_types


def found(proto: onnx.ModelProto, runtime: str) -> list[str]:
    return [why for _, why in P.lacking(proto, runtime, element_types(proto))]


def test_lists_name_operators() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    for told in P.LISTS.values():
        assert set(P.listed(told["operators"])) <= known
        assert told["source"]
        assert told["title"]
    assert P.listed("Conv:1-10,11+ Add") == {"Conv": [(1, 10), (11, 11)], "Add": None}


def test_what_is_on_no_list() -> None:
    nodes = [
        node("MaxPool", "x", "a at", kernel_shape=[2, 2], strides=[2, 2]),
        node("Sign", "a", "b"),
        node("Shape", "b", "sizes"),
        node("Mul", "sizes two", "more"),
        node("Sign", "w", "fixed"),
        node("Conv", "b fixed", "c"),
        node("Identity", "c", "y"),
    ]
    net = model(nodes, {"x": ["n", 1, 4, 4]}, ["y"], {"w": np.ones((1, 1, 1, 1), np.float32), "two": np.int64([2])})
    assert found(net, "WebGPU") == ["MaxPool with two outputs", "Sign"]
    assert found(net, "TensorRT") == ["MaxPool with two outputs"]
    net.opset_import[0].version = 22
    assert found(net, "WebGPU") == ["MaxPool 22", "Sign", "Conv 22"]


def test_weights_that_depend_on_the_input_and_attributes() -> None:
    attrs = {"strides": [2], "output_padding": [1]}
    net = model([node("ConvTranspose", "x x", "y", **attrs)], {"x": [1, 1, 2]}, ["y"])
    assert found(net, "CoreML") == ["ConvTranspose by computed weights"]
    net = model([node("ConvTranspose", "x w", "y", **attrs)], {"x": [1, 1, 2]}, ["y"], {"w": np.ones((1, 1, 2), np.float32)})
    assert found(net, "CoreML") == ["ConvTranspose with output_padding"]
    assert found(net, "TensorRT") == []


def test_no_double_on_webgpu() -> None:
    net = model([node("Relu", "x", "y")], {"x": [2]}, ["y"], dtype=np.dtype(np.float64))
    assert found(net, "WebGPU") == ["Relu in double"]


@pytest.mark.parametrize("preset", ["dtd", "lrp-gamma"])
def test_a_pooled_network_is_whole(preset: str) -> None:
    """On three of the four, where it is portable."""
    case = next(case for case in P.runtimes.cases() if case.name == "digits_cnn")
    for portable in (False, True):
        own, added = P.counts(onnxdtd.compile(case.model, preset, low=0, high=1, portable=portable))
        assert not any(own.values())
        assert [bool(added[runtime]) for runtime in P.LISTS] == ([False, False, False, True] if portable else [True] * 4)


def test_the_page() -> None:
    case = next(case for case in P.runtimes.cases() if case.name == "digits_mlp")
    rows = P.measured(case, "dtd")
    assert rows[1].difference <= P.LIMIT
    text = P.tables(rows)
    assert "| digits_mlp | dtd | 2 → 0 | 0 → 0 |" in text
    assert "| digits_mlp | dtd | portable | — | — |" in text
    assert all(told["source"] in text for told in P.LISTS.values())
