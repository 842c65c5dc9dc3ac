"""A small model, what is compiled of it, and what verify says of the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node
from onnx import numpy_helper

import onnxdtd
from onnxdtd.study.verify import Report

RNG = np.random.default_rng(3)


def net() -> onnx.ModelProto:
    weights = {
        "k": eighths(RNG, 4, 1, 3, 3),
        "c": eighths(RNG, 4),
        "w": eighths(RNG, 64, 3),
        "b": eighths(RNG, 3),
        "shape": np.asarray([0, -1]),
    }
    nodes = [
        node("Conv", "x k c", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", "p shape", "f"),
        node("Gemm", "f w b", "logits"),
        node("Softmax", "logits", "y"),
    ]
    return model(nodes, {"x": ["n", 1, 8, 8]}, ["y"], weights)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(net(), path)
    return path


@pytest.fixture
def compiled(source: Path) -> Path:
    path = source.with_name("net.dtd.onnx")
    onnxdtd.save(onnxdtd.compile(source, low=0.0, high=1.0), path, source)
    return path


def failed(report: Report) -> set[str]:
    return {check.name for check in report.checks if check.passed is False}


def found(report: Report, name: str) -> str:
    return next(check.finding for check in report.checks if check.name == name)


def tampered(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    proto = onnx.load(path)
    before = proto.SerializeToString(deterministic=True)
    change(proto)
    assert proto.SerializeToString(deterministic=True) != before
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return path


def weight(proto: onnx.ModelProto) -> None:
    tensor = next(t for t in proto.graph.initializer if t.name == "w")
    values = numpy_helper.to_array(tensor).copy()
    values[5, 1] += 0.125
    tensor.CopyFrom(numpy_helper.from_array(values, "w"))


def constant(proto: onnx.ModelProto) -> None:
    tensor = next(t for t in proto.graph.initializer if t.name.startswith("dtd/constant/float32"))
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(0.5, np.float32), tensor.name))


def rule_in_the_graph(proto: onnx.ModelProto) -> None:
    """W⁺ becomes W."""
    relu = next(n for n in proto.graph.node if n.op_type == "Relu" and n.input[0] == "w")
    relu.op_type = "Identity"


def swapped(proto: onnx.ModelProto) -> None:
    """Relu and MaxPool commute, so not even the outputs differ."""
    nodes = proto.graph.node
    nodes[1].op_type, nodes[2].op_type = "MaxPool", "Relu"
    nodes[1].attribute.extend(nodes[2].attribute)
    del nodes[2].attribute[:]


def entry(key: str, value: object) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        next(e for e in proto.metadata_props if e.key == f"onnxdtd.{key}").value = json.dumps(value)

    return change


# ---- a compiler that is wrong, the same way each time ----------------------------------------------------------------


def residual(dtype: Any = np.float32) -> onnx.ModelProto:
    """A block with a skip connection, which a compiled file shares out without reading the branch."""
    sizes = {"w": (5, 6), "u": (6, 6), "q": (6, 6), "v": (6, 3)}
    rng = np.random.default_rng(5)
    weights = {name: eighths(rng, *size, dtype=dtype) for name, size in sizes.items()}
    nodes = [node("MatMul", "x w", "s"), node("Relu", "s", "h"), node("MatMul", "h u", "a"), node("Add", "a h", "r")]
    nodes += [node("Relu", "r", "y"), node("MatMul", "y q", "t"), node("Relu", "t", "o"), node("MatMul", "o v", "z")]
    return model(nodes, {"x": ["n", 5]}, ["z"], weights, np.dtype(dtype))


def of(proto: onnx.ModelProto, tmp_path: Path, **options: Any) -> tuple[Path, Path]:
    """A compiled file and its source."""
    source, path = tmp_path / "source.onnx", tmp_path / "out.onnx"
    onnx.save(proto, source)
    onnxdtd.save(onnxdtd.compile(source, **options), path, source)
    return path, source


# ---- a file that is wrong --------------------------------------------------------------------------------------------


def last(proto: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(n for n in proto.graph.node if output in n.output)
