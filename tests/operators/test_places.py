"""Which axis of an input has the channels, and along which the first kernel slides, whatever lies before the first layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from nets import FLOAT, model, node
from onnx import NodeProto

from onnxdtd.graph import shapes
from onnxdtd.operators.places import channel_axis, folded, slid_axes

Array = np.ndarray


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(FLOAT)


def after(*nodes: NodeProto, shape: Sequence[Any], what: Any = channel_axis, **weights: Array) -> Any:
    proto = model(list(nodes), {"x": shape}, ["y"], weights)
    (x,) = shapes.graph(proto).inputs
    return what(x)


CONV1, CONV2 = normal(2, 3, 2), normal(2, 3, 2, 2)


@pytest.mark.parametrize(
    ("nodes", "shape", "axis"),
    [
        ([node("Conv", "x k", "y")], ["n", 3, 12], 1),
        ([node("Transpose", "x", "t", perm=[0, 2, 1]), node("Conv", "t k", "y")], ["n", 3, 3], 2),
        ([node("Unsqueeze", "x zero", "t"), node("Conv", "t k", "y")], [3, 12], 0),
        ([node("Sub", "x c", "t"), node("Relu", "t", "u"), node("Conv", "u k", "y")], ["n", 3, "t"], 1),
        ([node("Reshape", "x to", "t"), node("Conv", "t kk", "y")], [5, 3, 12], 1),
        (
            [node("Unsqueeze", "x one", "t"), node("Transpose", "t", "u", perm=[0, 3, 1, 2]), node("Conv", "u kk", "y")],
            ["n", 12, 3],
            2,
        ),
        ([node("LSTM", "x wi wh", "_ y", hidden_size=2)], [12, "n", 4], 2),
        ([node("MatMul", "x w", "y")], ["n", 12, 4], 2),
        ([node("MatMul", "x w", "y")], ["n", 3, 12, 4], None),
        ([node("Flatten", "x", "t"), node("MatMul", "t f", "y")], ["n", 3, 4], None),
        ([node("Relu", "x", "y")], ["n", 3, 4], None),
        ([node("Tanh", "x", "t"), node("Conv", "t k", "y")], ["n", 3, 12], 1),
        ([node("QuantizeLinear", "x one_ z", "q"), node("QLinearConv", "q one_ z kq one_ z one_ z", "y")], ["n", 3, 12], 1),
    ],
    ids=str,
)
def test_the_axis_of_channels(nodes, shape, axis):
    weights = {"k": CONV1, "kk": CONV2[..., :1, :], "zero": np.array([0]), "to": np.array([5, 3, 1, 12])}
    weights |= {"one_": np.ones((), FLOAT), "z": np.uint8(0), "kq": np.ones((2, 3, 2), np.uint8)}
    weights |= {"one": np.array([1]), "wi": normal(1, 8, 4), "wh": normal(1, 8, 2)}
    weights |= {"w": normal(4, 2), "f": normal(12, 2), "c": normal(3, 1)}
    used = {name for n in nodes for name in n.input}
    assert after(*nodes, shape=shape, **{name: value for name, value in weights.items() if name in used}) == axis


@pytest.mark.parametrize(
    ("nodes", "shape", "axes"),
    [
        ([node("Conv", "x wide", "y")], ["n", 1, 6, 12], [3]),
        ([node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("Conv", "t wide", "y")], ["n", 1, 12, 6], [2]),
        ([node("Unsqueeze", "x one", "t"), node("Conv", "t wide", "y")], ["n", 6, 12], [2]),
        ([node("BatchNormalization", "x s s s s", "t"), node("Conv", "t wide", "y")], ["n", 1, 6, 12], [3]),
        ([node("Conv", "x square", "y")], ["n", 1, 6, 12], [2, 3]),
        ([node("Conv", "x point", "y")], ["n", 1, 6, 12], []),
        ([node("Conv", "x all", "y")], ["n", 1, 6, 12], [3]),
        ([node("Conv", "x all", "y")], ["n", 1, 6, 1], [2]),
        ([node("Conv", "x all", "y", pads=[3, 0, 3, 0])], ["n", 1, 6, 12], [2]),
        ([node("Conv", "x row", "y")], ["n", 1, 6, 12], [2]),
        ([node("Reshape", "x merged", "t"), node("Conv", "t square", "y")], ["n", 5, 1, 6, 12], [3, 4]),
        ([node("Reshape", "x split", "t"), node("Conv", "t cube", "y")], ["n", 1, 6, 12], [2]),
        ([node("MaxPool", "x", "y", kernel_shape=[1, 2])], ["n", 1, 6, 12], [3]),
        ([node("MatMul", "x w", "y")], ["n", 12, 4], []),
        ([node("Flatten", "x", "t"), node("MatMul", "t f", "y")], ["n", 3, 4], []),
        ([node("Unsqueeze", "x last", "t"), node("STFT", "t hop _ length", "y")], ["n", 12], [1]),
        ([node("Unsqueeze", "x last", "t"), node("DFT", "t", "y", axis=1)], ["n", 12], [1]),
        ([node("Unsqueeze", "x last", "t"), node("DFT", "t", "u", axis=2), node("DFT", "u", "y", axis=1)], ["n", 6, 6], []),
    ],
    ids=str,
)
def test_the_axes_that_the_first_kernel_slides_over(nodes, shape, axes):
    weights = {"wide": normal(2, 1, 1, 5), "square": normal(2, 1, 3, 3), "point": normal(2, 1, 1, 1), "one": np.array([1])}
    weights |= {
        "w": normal(4, 2),
        "f": normal(12, 2),
        "s": np.ones(1, FLOAT),
        "all": normal(2, 1, 6, 1),
        "row": normal(2, 1, 1, 12),
    }
    weights |= {"last": np.array([-1]), "hop": np.array(2), "length": np.array(4)}
    weights |= {"merged": np.array([-1, 1, 6, 12]), "split": np.array([-1, 1, 6, 3, 4]), "cube": normal(2, 1, 2, 2, 2)}
    used = {name for n in nodes for name in n.input}
    given = {name: value for name, value in weights.items() if name in used}
    assert after(*nodes, shape=shape, what=slid_axes, **given) == axes


@pytest.mark.parametrize(
    ("nodes", "shape", "expected"),
    [
        ([node("Reshape", "x to", "t"), node("Conv", "t k", "y")], ["n", 36], ([3, 12], [2])),
        ([node("Sub", "x c", "s"), node("Reshape", "s to", "t"), node("Conv", "t k", "y")], [4, 36], ([3, 12], [2])),
        ([node("Reshape", "x rows", "t"), node("LSTM", "t wi wh", "_ y", hidden_size=2, layout=1)], ["n", 36], ([9, 4], [1])),
        ([node("Reshape", "x picture", "t"), node("Conv", "t square", "y")], ["n", 36], ([1, 6, 6], [2, 3])),
        ([node("Reshape", "x to", "t"), node("Conv", "t k", "y")], ["n", "f"], ([], [])),
        ([node("Reshape", "x to", "t"), node("Relu", "t", "y")], ["n", 36], ([], [])),
        ([node("MatMul", "x w", "h"), node("Reshape", "h to", "t"), node("Conv", "t k", "y")], ["n", 4], ([], [])),
        ([node("Reshape", "x whole", "t"), node("Conv", "t k", "y")], [12, 3], ([], [])),
    ],
    ids=str,
)
def test_rows_that_are_laid_out_first(nodes, shape, expected):
    """As signals, or pictures, whose axes are slid over; not features that a layer mixes first, nor what is one sample."""
    weights = {"k": CONV1, "to": np.array([-1, 3, 12]), "rows": np.array([-1, 9, 4]), "picture": np.array([-1, 1, 6, 6])}
    weights |= {"wi": normal(1, 8, 4), "wh": normal(1, 8, 2), "square": normal(2, 1, 3, 3), "c": normal(36), "w": normal(4, 36)}
    weights["whole"] = np.array([1, 3, 12])
    used = {name for n in nodes for name in n.input}
    given = {name: value for name, value in weights.items() if name in used}
    assert after(*nodes, shape=shape, what=lambda x: (folded(x)[1:], slid_axes(x)), **given) == expected
