"""RevealCancel, and Rescale beside it, against the definition of DeepLIFT with its pairs of multipliers, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from deeplift import Applied, Array, Dense, Function, Net, relu, step
from nets import DOUBLE, FLOAT, Session, assert_near, model, node, run
from onnx import ModelProto, NodeProto
from oracle import matrix

import onnxdtd

PRESETS = {"deeplift-rescale": "rescale", "deeplift-revealcancel": "reveal-cancel"}


def compared(proto: ModelProto, preset: str, x: Array, reference: Array) -> Array:
    """What a preset gives, which must be all of the difference, for the only score, or that of class 1."""
    target = min(1, (proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value or 2) - 1)
    found = Session(onnxdtd.compile(proto, preset, target=target, baseline="input"))(x=x, baseline=reference)
    difference = found["logit"] - found["logit_at_baseline"]
    total = found["relevance"].reshape(len(x), -1).sum(1)
    np.testing.assert_allclose(total, difference, rtol=1e-9 if x.dtype == DOUBLE else 1e-4, atol=1e-12)
    return found["relevance"]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def by_hand(W: Array, b: Array, v: Array) -> ModelProto:  # noqa: N803
    """x -> W, b -> Relu -> v, one score."""
    nodes = [node("Gemm", "x W b", "z"), node("Relu", "z", "r"), node("MatMul", "r v", "y")]
    return model(nodes, {"x": ["n", len(W)]}, ["y"], {"W": W, "b": b, "v": v}, DOUBLE)


MINIMUM = by_hand(np.array([[1.0, 1, -1], [-1, 0, 0]]), np.zeros(3), np.array([[-1.0], [1], [-1]]))  # a − relu(a − b)


@pytest.mark.parametrize(("a", "b"), [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0)])
def test_the_minimum_is_of_both(a: float, b: float) -> None:
    """Of min(a, b) each gets half by RevealCancel; by Rescale the smaller one gets all."""
    x, zero = np.array([[a, b]]), np.zeros((1, 2))
    assert_near(compared(MINIMUM, "deeplift-revealcancel", x, zero), [[min(a, b) / 2] * 2], 1e-12)
    assert_near(compared(MINIMUM, "deeplift-rescale", x, zero), [[a, 0]] if a <= b else [[0, b]], 1e-12)


def test_and() -> None:
    """relu(a + b − 1) of 1 and 1: both rules give each half; of 1 and 0 there is nothing to share."""
    proto = by_hand(np.ones((2, 1)), np.array([-1.0]), np.ones((1, 1)))
    x, zero = np.array([[1.0, 1], [1, 0]]), np.zeros((2, 2))
    for preset in PRESETS:
        assert_near(compared(proto, preset, x, zero), [[0.5, 0.5], [0, 0]], 1e-12)


def test_saturation() -> None:
    """1 − relu(1 − a − b) does not change at a = b = 1, where its gradient is 0, but it has changed by 1 since 0."""
    proto = by_hand(-np.ones((2, 1)), np.array([1.0]), -np.ones((1, 1)))
    x, zero = np.ones((1, 2)), np.zeros((1, 2))
    assert_near(compared(proto, "deeplift-rescale", x, zero), [[0.5, 0.5]], 1e-12)
    assert_near(compared(proto, "deeplift-revealcancel", x, zero), [[0.5, 0.5]], 1e-12)
    assert not Session(onnxdtd.compile(proto, "gradient-x-input", target=0))(x=x)["relevance"].any()


FUNCTIONS = [("Relu", relu, step), ("Tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2)]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("op", "f", "slope"), FUNCTIONS, ids=["Relu", "Tanh"])
def test_dense_layers(preset: str, op: str, f: Function, slope: Function) -> None:
    """Two of them, with inputs of which some are the same in the reference."""
    sizes = [(5, 6), (6, 4), (4, 3)]
    w = [normal(*size, seed=i) for i, size in enumerate(sizes)]
    b = [normal(n, seed=10 + i) for i, (_, n) in enumerate(sizes)]
    names = ["x", "r0", "r1"]
    nodes = []
    for i, name in enumerate(names):
        nodes.append(node("Gemm", f"{name} w{i} b{i}", "y" if i == 2 else f"z{i}"))
        nodes += [] if i == 2 else [node(op, f"z{i}", f"r{i}")]
    weights = {f"w{i}": w[i] for i in range(3)} | {f"b{i}": b[i] for i in range(3)}
    proto = model(nodes, {"x": ["n", 5]}, ["y"], weights, DOUBLE)
    x, reference = normal(2, 5, seed=20), normal(2, 5, seed=21)
    reference[:, 1] = x[:, 1]
    found = compared(proto, preset, x, reference)
    for i in range(2):
        layers: list[Dense | Applied] = [Dense([None], [w[0]], b[0])]
        for j in (1, 2):
            layers.append(Applied(layers[-1], f, slope, PRESETS[preset]))
            layers.append(Dense([layers[-1]], [w[j]], b[j]))
        assert_near(found[i], Net(layers, x[i], reference[i]).contributions(np.eye(3)[1]), 1e-11)


@pytest.mark.parametrize("preset", [*PRESETS, "deeplift-genomics"])
def test_convolutions_and_a_sum(preset: str) -> None:
    """relu(BN(conv(r)) + shift + r) of r = relu(conv(x)): both parts pass the scale and the sum, and r counts by its sign."""
    shapes = {"c": (2, 1, 3), "d": (2, 2, 3), "u": (8, 4), "v": (4, 3)}
    weights = {name: normal(*shape, seed=i).astype(FLOAT) for i, (name, shape) in enumerate(shapes.items())}
    vectors = {name: normal(2, seed=10 + i).astype(FLOAT) for i, name in enumerate(("gamma", "beta", "mu"))}
    vectors |= {"variance": np.array([0.5, 2], FLOAT), "shift": np.array([[[0.25], [-0.5]]], FLOAT)}
    nodes = [
        node("Conv", "x c", "z", pads=[1, 1]),
        node("Relu", "z", "r"),
        node("Conv", "r d", "k", pads=[1, 1]),
        node("BatchNormalization", "k gamma beta mu variance", "n"),
        node("Add", "n shift", "m"),
        node("Add", "m r", "s"),
        node("Relu", "s", "t"),
        node("Flatten", "t", "f"),
        node("MatMul", "f u", "q"),
        node("Sigmoid", "q", "g"),
        node("MatMul", "g v", "y"),
    ]
    proto = model(nodes, {"x": ["n", 1, 4]}, ["y"], weights | vectors)
    x, reference = (normal(2, 1, 4, seed=20 + i).astype(FLOAT) for i in range(2))
    found = compared(proto, preset, x, reference)

    def of(made: list[NodeProto], shape: tuple[int, ...]) -> tuple[Array, Array]:
        part = model(made, {"x": ["n", *shape]}, ["y"], weights | vectors)
        return matrix(lambda points: run(part, x=points.astype(FLOAT))["y"], shape)

    first = of([node("Conv", "x c", "y", pads=[1, 1])], (1, 4))
    second = of([node("Conv", "x d", "y", pads=[1, 1])], (2, 4))
    scale = of([node("BatchNormalization", "x gamma beta mu variance", "n"), node("Add", "n shift", "y")], (2, 4))
    conv = {"deeplift-revealcancel": "reveal-cancel"}.get(preset, "rescale")
    dense = {"deeplift-rescale": "rescale"}.get(preset, "reveal-cancel")
    sigma = lambda z: 1 / (1 + np.exp(-z))
    for i in range(2):
        z = Dense([None], [first[0]], first[1])
        r = Applied(z, relu, step, conv)
        k = Dense([r], [second[0]], second[1])
        n = Dense([k], [scale[0]], scale[1], passes=True)
        s = Dense([n, r], [np.eye(8), np.eye(8)], passes=True)
        t = Applied(s, relu, step, conv)
        q = Dense([t], [weights["u"].astype(np.float64)])
        g = Applied(q, sigma, lambda z: sigma(z) * (1 - sigma(z)), dense)
        y = Dense([g], [weights["v"].astype(np.float64)])
        net = Net([z, r, k, n, s, t, q, g, y], x[i].ravel(), reference[i].ravel())
        assert_near(found[i].ravel(), net.contributions(np.eye(3)[1]), 1e-5)


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE])
def test_relu_nets_without_biases_give_gradient_times_input(dtype: np.dtype) -> None:
    """Against 0, by Rescale."""
    w, v = normal(4, 5).astype(dtype), normal(5, 3, seed=1).astype(dtype)
    nodes = [node("MatMul", "x w", "z"), node("Relu", "z", "r"), node("MatMul", "r v", "y")]
    proto, x = model(nodes, {"x": ["n", 4]}, ["y"], {"w": w, "v": v}, dtype), normal(6, 4, seed=2).astype(dtype)
    expected = Session(onnxdtd.compile(proto, "gradient-x-input", target=1))(x=x)["relevance"]
    assert_near(Session(onnxdtd.compile(proto, "deeplift-rescale", target=1))(x=x)["relevance"], expected, 1e-6)


def test_nothing_is_revealed_behind_a_pool() -> None:
    """Its parts are not known: the function gets Rescale."""
    w, v = normal(2, 1, 3).astype(FLOAT), normal(4, 3, seed=1).astype(FLOAT)
    nodes = [
        node("Conv", "x w", "z"),
        node("MaxPool", "z", "p", kernel_shape=[2], strides=[2]),
        node("Relu", "p", "r"),
        node("Flatten", "r", "f"),
        node("MatMul", "f v", "y"),
    ]
    proto = model(nodes, {"x": ["n", 1, 6]}, ["y"], {"w": w, "v": v})
    x = normal(2, 1, 6, seed=2).astype(FLOAT)
    found = [compared(proto, preset, x, np.zeros_like(x)) for preset in PRESETS]
    np.testing.assert_array_equal(*found)
