"""Small classifiers with every kind of layer, and one of each operator between two layers, in any floating-point type."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nets import FLOAT, model, node
from onnx import ModelProto, NodeProto

Array = np.ndarray
HALF = np.dtype(np.float16)
BATCH = 7


def convolutional(dtype: np.dtype = FLOAT, last: float = 1.0, bias: float = 1.0, batch: Any = "n") -> ModelProto:
    """Two Convs with a residual sum, every kind of pool, and five classes; ``last`` multiplies the logits."""
    rng = np.random.default_rng(0)
    nodes = [
        node("Conv", "x k kb", "c1", pads=[1] * 4),
        node("Relu", "c1", "r1"),
        node("MaxPool", "r1", "p1", kernel_shape=[3, 3], strides=[2, 2]),
        node("Conv", "p1 d db", "c2", pads=[1] * 4),
        node("Add", "c2 p1", "s"),
        node("Relu", "s", "r2"),
        node("AveragePool", "r2", "a", kernel_shape=[2, 2], strides=[2, 2], pads=[1] * 4),
        node("ReduceMax", "a", "m", axes=[2, 3], keepdims=0),
        node("GlobalAveragePool", "a", "g"),
        node("Flatten", "g", "f"),
        node("Concat", "f m", "j", axis=1),
        node("Gemm", "j w wb", "y"),
    ]
    weights = {"k": rng.normal(size=(4, 2, 3, 3)) / 4, "kb": bias * rng.normal(size=4) / 4}
    weights |= {"d": rng.normal(size=(4, 4, 3, 3)) / 4, "db": bias * rng.normal(size=4) / 4}
    rounded = {"w": rng.normal(size=(8, 5)), "wb": bias * rng.normal(size=5) / 4}  # before they are scaled, or float16 differs
    weights |= {name: value.astype(dtype) * dtype.type(last) for name, value in rounded.items()}
    return model(nodes, {"x": [batch, 2, 9, 9]}, ["y"], {name: v.astype(dtype) for name, v in weights.items()}, dtype)


def dense(
    dtype: np.dtype = FLOAT, last: float = 1.0, bias: float = 1.0, first: float = 1.0, between: float = 1.0
) -> ModelProto:
    """Two layers with a residual sum and five classes; ``first`` and ``between`` multiply what two of the layers yield."""
    rng = np.random.default_rng(0)
    nodes = [
        node("Flatten", "x", "flat"),
        node("Gemm", "flat k kb", "c1"),
        node("Relu", "c1", "r1"),
        node("MatMul", "r1 d", "m2"),
        node("Add", "m2 db", "c2"),
        node("Add", "c2 r1", "s"),
        node("Relu", "s", "r2"),
        node("Gemm", "r2 w wb", "y"),
    ]
    weights = {"k": first * rng.normal(size=(162, 9)) / 4, "kb": first * bias * rng.normal(size=9) / 4}
    weights |= {"d": rng.normal(size=(9, 9)) / 4, "db": first * bias * rng.normal(size=9) / 4}
    weights |= {"w": between * last * rng.normal(size=(9, 5)), "wb": last * bias * rng.normal(size=5) / 4}
    return model(nodes, {"x": ["n", 2, 9, 9]}, ["y"], {name: v.astype(dtype) for name, v in weights.items()}, dtype)


def pictures(count: int = BATCH, dtype: np.dtype = FLOAT) -> Array:
    return np.random.default_rng(1).normal(size=(count, 2, 9, 9)).astype(HALF).astype(dtype)


# ---- each operator that is neither linear nor a pass ----------------------------------------------------------------------


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def small(nodes: Sequence[NodeProto], shape: Sequence[int], constants: Mapping[str, Array], size: int, opset: int = 17) -> Any:
    """A function that makes x -> Gemm -> nodes (from s to h) -> three classes in a type."""
    weights = dict(constants) | {"w1": normal(shape[-1], shape[-1], seed=11) / 2, "w": normal(size, 3, seed=12) / 2}
    every = [node("MatMul", "x w1", "s"), *nodes, node("Flatten", "h", "rows"), node("MatMul", "rows w", "y")]

    def made(dtype: np.dtype) -> ModelProto:
        cast = {
            n: np.asarray(v).astype(dtype) if np.asarray(v).dtype.kind == "f" else np.asarray(v) for n, v in weights.items()
        }
        return model(every, {"x": ["n", *shape[1:]]}, ["y"], cast, dtype, opset)

    return made


VECTORS = {"gamma": normal(4, seed=1), "beta": normal(4, seed=2)}
CHANNELS = {"gamma": normal(3, seed=1), "beta": normal(3, seed=2)}
OPERATORS = {  # nodes from s to h, their constants, the operator set
    "Softmax": ([node("Softmax", "s", "h")], {}, 17),
    "LogSoftmax": ([node("LogSoftmax", "s", "h")], {}, 17),
    "LayerNormalization": ([node("LayerNormalization", "s gamma beta", "h")], VECTORS, 17),
    "InstanceNormalization": ([node("InstanceNormalization", "s gamma beta", "h")], CHANNELS, 17),
    "ReduceL2": ([node("ReduceL2", "s", "n", axes=[2], keepdims=1), node("Div", "s n", "h")], {}, 17),
    "ReduceLogSum": (
        [node("Sigmoid", "s", "p"), node("ReduceLogSum", "p", "n", axes=[2], keepdims=1), node("Add", "s n", "h")], {}, 17
    ),
    "ReduceMax": ([node("ReduceMax", "s", "n", axes=[2], keepdims=1), node("Add", "s n", "h")], {}, 17),
    "Max": ([node("Neg", "s", "n"), node("Max", "s n", "h")], {}, 17),
    "Clip": ([node("Clip", "s low high", "h")], {"low": np.array(-0.5), "high": np.array(0.5)}, 17),
    "Pow": ([node("Pow", "s two", "h")], {"two": np.array(2.0)}, 17),
    "PRelu": ([node("PRelu", "s slope", "h")], {"slope": np.array([0.25])}, 17),
    **{op: ([node(op, "s", "h")], {}, 17) for op in ("Elu", "Selu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Erf")},
    **{op: ([node(op, "s", "h")], {}, 17) for op in ("Softsign", "HardSigmoid", "HardSwish", "Exp", "Abs", "ThresholdedRelu")},
    "Gelu": ([node("Gelu", "s", "h")], {}, 20),
    "Gelu by tanh": ([node("Gelu", "s", "h", approximate="tanh")], {}, 20),
    "Mish": ([node("Mish", "s", "h")], {}, 18),
    "SiLU": ([node("Sigmoid", "s", "g"), node("Mul", "s g", "h")], {}, 17),
    "Where": (
        [node("Greater", "s zero", "c"), node("Neg", "s", "n"), node("Where", "c s n", "h")],
        {"zero": np.array(0.0)},
        17,
    ),
    "Concat": ([node("Relu", "s", "r"), node("Concat", "s r", "b", axis=1), node("Slice", "b one four axis", "h")], {
        "one": np.array([1]), "four": np.array([4]), "axis": np.array([1])
    }, 17),
    "Squeeze": ([node("Unsqueeze", "s front", "u"), node("Squeeze", "u front", "h")], {"front": np.array([0])}, 17),
    "attention": (
        [
            node("Transpose", "s", "t", perm=[0, 2, 1]),
            node("MatMul", "s t", "scores"),
            node("Softmax", "scores", "a"),
            node("MatMul", "a s", "h"),
        ],
        {},
        17,
    ),
}  # fmt: skip
