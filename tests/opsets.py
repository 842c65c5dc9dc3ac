"""Classifiers of older operator sets, and those that are bundled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nets import eighths, model, node
from onnx import ModelProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]

MODELS = ROOT / "models"

BUNDLED = ("digits_mlp", "digits_cnn", "digits_resnet", "digits_sklearn", "two_digits")


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return eighths(np.random.default_rng(seed), *shape)


def classifier(opset: int = 17, features: int = 6, classes: int = 3, hidden: int = 5) -> ModelProto:
    """Two dense layers."""
    nodes = [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")]
    arrays = {"w": weights(features, hidden), "b": weights(hidden, seed=1), "v": weights(hidden, classes, seed=2)}
    return model(nodes, {"x": ["batch", features]}, ["y"], arrays, opset=opset)


def of_its_time(opset: int) -> ModelProto:
    """A convolutional net full of operators whose form changed between operator sets 7 and 17."""
    attribute_axes = opset < 13
    arrays: dict[str, Any] = {
        "k": weights(4, 3, 3, 3),
        "kb": weights(4, seed=1),
        "scale": weights(4, seed=2),
        "shift": weights(4, seed=3),
        "mean": weights(4, seed=4),
        "var": np.abs(weights(4, seed=5)) + 1,
        "w": weights(4, 5, seed=6),
    }
    padding = [0, 0, 1, 1, 0, 0, 1, 1]
    if opset < 11:
        nodes = [node("Pad", "x", "p", pads=padding, mode="constant", value=0.5)]
    else:
        arrays |= {"padding": np.asarray(padding), "half": np.float32(0.5)}
        nodes = [node("Pad", "x padding half", "p")]
    nodes += [
        node("Conv", "p k kb", "c"),
        node("BatchNormalization", "c scale shift mean var", "n"),
        node("LeakyRelu", "n", "l", alpha=0.125),
    ]
    if opset < 11:
        nodes.append(node("Clip", "l", "r", min=0.0, max=2.0))
    else:
        arrays |= {"zero": np.float32(0), "two": np.float32(2)}
        nodes.append(node("Clip", "l zero two", "r"))
    nodes.append(node("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2]))
    if opset < 10:
        nodes.append(node("Slice", "m", "s", axes=[2], starts=[0], ends=[2]))
    else:
        arrays |= {"start": np.asarray([0]), "end": np.asarray([2]), "axis": np.asarray([2])}
        nodes.append(node("Slice", "m start end axis", "s"))
    nodes.append(node("AveragePool", "s", "a", kernel_shape=[1, 2], strides=[1, 2]))
    if attribute_axes:
        nodes.append(node("ReduceSum", "a", "u", axes=[2], keepdims=1))
        nodes.append(node("Squeeze", "u", "q", axes=[2, 3]))
    else:
        arrays |= {"rows": np.asarray([2]), "both": np.asarray([2, 3])}
        nodes += [node("ReduceSum", "a rows", "u", keepdims=1), node("Squeeze", "u both", "q")]
    nodes += [
        node("Dropout", "q", "d", **({"ratio": 0.5} if opset < 12 else {})),
        node("MatMul", "d w", "g"),
        node("Softmax", "g", "y", axis=1),
    ]
    return model(nodes, {"x": ["batch", 3, 4, 4]}, ["y"], arrays, opset=opset)


def old(op: str, opset: int, **attributes: Any) -> ModelProto:
    """Gemm, the operator, Gemm, of an operator set."""
    nodes = [node("Gemm", "x w c", "a"), helper.make_node(op, ["a"], ["h"], "odd", **attributes), node("Gemm", "h v c", "y")]
    value = helper.make_tensor_value_info
    weights = {
        "w": eighths(np.random.default_rng(0), 6, 3),
        "v": eighths(np.random.default_rng(1), 3, 3),
        "c": np.zeros(3, np.float32),
    }
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", [value("x", 1, ["n", 6])], [value("y", 1, ["n", 3])], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
