"""The input that is compared with, and the first-order Taylor decomposition there."""

from typing import Any

import numpy as np
import pytest
from derivatives import numeric
from nets import DOUBLE, FLOAT, Session, assert_near, model, node
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

import onnxdtd

RNG = np.random.default_rng(0)
WEIGHTS = {"k": RNG.normal(size=(4, 2, 3, 3)), "w": 3 * RNG.normal(size=(4, 3)), "b": RNG.normal(size=3)}
X = RNG.normal(size=(2, 2, 3, 4))


def smooth(dtype: np.dtype) -> ModelProto:
    """A convolution, a product of two branches, an average and logits: nothing has a kink."""
    nodes = [
        node("Conv", "x k", "c", pads=[1, 1, 1, 1]),
        node("Tanh", "c", "t"),
        node("Sigmoid", "c", "s"),
        node("Mul", "t s", "m"),
        node("GlobalAveragePool", "m", "a"),
        node("Flatten", "a", "f"),
        node("Gemm", "f w b", "y"),
    ]
    weights = {name: value.astype(dtype) for name, value in WEIGHTS.items()}
    return model(nodes, {"x": ["n", 2, 3, 4]}, ["y"], weights, dtype)


REFERENCES: dict[str, tuple[Any, Any]] = {
    "zero": (None, lambda x: 0 * x),
    "number": (0.25, lambda x: 0 * x + 0.25),
    "channels": ([0.5, -1.0], lambda x: 0 * x + np.asarray([0.5, -1.0])[:, None, None]),
    "mean": ("mean", lambda x: 0 * x + x.mean((2, 3), keepdims=True)),
    "array": (X[:1] / 2, lambda x: 0 * x + X[:1] / 2),
    "input": ("input", lambda x: x / 3),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_taylor(name):
    """(x − x̃) ∂f/∂x at x̃, of the class chosen at x, against finite differences; and f(x̃)."""
    given, of = REFERENCES[name]
    compiled = onnxdtd.compile(smooth(FLOAT), "taylor", **({} if given is None else {"baseline": given}))
    other, rows = of(X), np.arange(len(X))
    feeds = {"x": X} | ({"baseline": other} if name == "input" else {})
    found = Session(compiled)(**{name: value.astype(FLOAT) for name, value in feeds.items()})
    predict = lambda x: ReferenceEvaluator(smooth(DOUBLE)).run(["y"], {"x": x})[0]
    best = predict(X).argmax(1)
    score = lambda x: float(predict(x)[rows, best].sum())
    gradient = numeric(score, {"x": other})["x"]
    assert_near(found["relevance"], (X - other) * gradient, 1e-5)
    assert_near(found["logit_at_baseline"], predict(other)[rows, best], 1e-6)
    assert set(found) == {"y", "relevance", "logit", "logit_at_baseline"}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_blur(order):
    """A Gaussian of a sixteenth of each side, of what lies within the picture, wherever the channels are."""
    x = RNG.normal(size=(2, 3, 20, 33))
    back = np.argsort(order)
    nodes = [
        node("Transpose", "x", "t", perm=order),
        node("Conv", "t k", "c"),
        node("Flatten", "c", "f"),
        node("MatMul", "f w", "y"),
    ]
    weights = {"k": RNG.normal(size=(2, 3, 20, 33)).astype(FLOAT), "w": np.eye(2, dtype=FLOAT)}
    proto = model(nodes, {"x": ["n", *(int(n) for n in np.asarray(x.shape)[back][1:])]}, ["y"], weights)
    found = Session(onnxdtd.compile(proto, "taylor", baseline="blur"))(x=x.transpose(back).astype(FLOAT))
    blurred = x
    for axis in (2, 3):
        apart = np.subtract.outer(np.arange(x.shape[axis]), np.arange(x.shape[axis]))
        width = x.shape[axis] / 16
        near = np.exp(-0.5 * (apart / width) ** 2) * (np.abs(apart) <= int(3 * width))
        blurred = np.moveaxis(np.tensordot(near / near.sum(1, keepdims=True), blurred, (1, axis)), 0, axis)
    best = found["y"].argmax(1)
    expected = (x - blurred) * weights["k"][best]
    assert_near(found["relevance"].transpose(order), expected, 1e-5)
    assert_near(found["logit_at_baseline"], (blurred * weights["k"][best]).sum((1, 2, 3)), 1e-4)
