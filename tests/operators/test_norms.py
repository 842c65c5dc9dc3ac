"""Derivatives of normalisation, softmax and norms against central differences in float64: every attribute, and what is 0."""

import numpy as np
import pytest
from derivatives import TIGHT, Array, check_numeric, check_operator, classifier, explained, normal, numeric
from nets import DOUBLE, FLOAT, assert_near, model, node, symbolic
from onnx import helper
from onnx.reference import ReferenceEvaluator

import onnxdtd

DYNAMIC = pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])


def standardised(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


@DYNAMIC
@pytest.mark.parametrize("axis", [-1, -2, 1, 2])
@pytest.mark.parametrize("epsilon", [1e-5, 0.25])
def test_layer_normalization(axis, epsilon, dynamic):
    axes = tuple(range(axis % 3, 3))
    gamma, beta = normal(*(4, 5)[axes[0] - 1 :], seed=1), normal(*(4, 5)[axes[0] - 1 :], seed=2)
    attrs = {"axis": axis} | ({} if epsilon == 1e-5 else {"epsilon": epsilon})
    f = lambda x: standardised(x, axes, float(np.float32(epsilon))) * gamma + beta
    made = node("LayerNormalization", "x gamma beta", "h", **attrs)
    check_operator(made, f, normal(2, 4, 5) + 3, {"gamma": gamma, "beta": beta}, dynamic)


def test_layer_normalization_without_a_shift():
    gamma = normal(4, seed=1)
    made = node("LayerNormalization", "x gamma", "h")
    check_operator(made, lambda x: standardised(x, (2,), 1e-5) * gamma, normal(2, 3, 4), {"gamma": gamma})


@pytest.mark.parametrize(("axis", "attrs"), [(-1, {}), (1, {"axis": 1, "epsilon": 0.25})], ids=["last", "two"])
def test_rms_normalization(axis, attrs):
    """x / √(mean x² + ε) γ"""
    axes = tuple(range(axis % 3, 3))
    gamma, epsilon = normal(*(4, 5)[axes[0] - 1 :], seed=1), float(np.float32(attrs.get("epsilon", 1e-5)))
    f = lambda x: x / np.sqrt((x**2).mean(axes, keepdims=True) + epsilon) * gamma
    check_operator(node("RMSNormalization", "x gamma", "h", **attrs), f, normal(2, 4, 5), {"gamma": gamma}, True, opset=23)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [-1, 1])
def test_lp_normalization(p, axis):
    """x / (Σ |x|^p)^(1/p)"""
    f = lambda x: x / np.linalg.norm(x, p, axis % 3, keepdims=True)
    check_operator(node("LpNormalization", "x", "h", p=p, axis=axis), f, normal(2, 3, 4), dynamic=True)


@DYNAMIC
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 2, 3)], ids=["1d", "2d"])
@pytest.mark.parametrize("epsilon", [1e-5, 0.25])
def test_instance_normalization(shape, epsilon, dynamic):
    gamma, beta = normal(3, dtype=FLOAT, seed=1), normal(3, dtype=FLOAT, seed=2)
    column = lambda vector: vector.reshape(3, *[1] * (len(shape) - 2))
    f = lambda x: standardised(x, tuple(range(2, len(shape))), float(np.float32(epsilon))) * column(gamma) + column(beta)
    attrs = {} if epsilon == 1e-5 else {"epsilon": epsilon}
    made = node("InstanceNormalization", "x gamma beta", "h", **attrs)
    x = normal(*shape, dtype=FLOAT)
    check_operator(made, f, x, {"gamma": gamma, "beta": beta}, dynamic)


@DYNAMIC
@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4, 2, 3)], ids=["1d", "2d"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("epsilon", [1e-5, 0.25])
def test_group_normalization(shape, groups, epsilon, dynamic):
    gamma, beta = normal(4, dtype=FLOAT, seed=1), normal(4, dtype=FLOAT, seed=2)
    column = lambda vector: vector.reshape(4, *[1] * (len(shape) - 2))

    def f(x: Array) -> Array:
        rows = standardised(x.reshape(len(x), groups, -1), (2,), float(np.float32(epsilon)))
        return rows.reshape(x.shape) * column(gamma) + column(beta)

    # onnx cannot infer the shape of a GroupNormalization, but that of an InstanceNormalization in its place
    made = node("InstanceNormalization", "x gamma beta", "h", **({} if epsilon == 1e-5 else {"epsilon": epsilon}))
    proto, w = classifier([made], shape, {"gamma": gamma, "beta": beta}, FLOAT, dynamic, opset=21)
    proto.graph.node[0].op_type = "GroupNormalization"
    proto.graph.node[0].attribute.append(helper.make_attribute("num_groups", groups))
    check_numeric(proto, {"x": normal(*shape, dtype=FLOAT)}, lambda x: f(x).reshape(2, -1) @ w.astype(np.float64))


def softmax(x: Array, axis: int) -> Array:
    raised = np.exp(x - x.max(axis, keepdims=True))
    return raised / raised.sum(axis, keepdims=True)


@DYNAMIC
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_over_the_first_axis_of_one_sample(op, dynamic):
    x, w = 2 * normal(2, 3, 4), normal(24, 3, seed=5)
    nodes = [node(op, "x", "h", axis=0), node("Flatten", "h", "row", axis=0), node("MatMul", "row w", "y")]
    f = lambda x: np.log(softmax(x, 0)) if op == "LogSoftmax" else softmax(x, 0)
    proto = model(nodes, {"x": symbolic(x.shape) if dynamic else x.shape}, ["y"], {"w": w}, DOUBLE)
    check_numeric(proto, {"x": x}, lambda x: f(x).reshape(1, -1) @ w)


@DYNAMIC
@pytest.mark.parametrize("axis", [None, 1, 2, -1, -2])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax(op, axis, dynamic):
    f = lambda x: softmax(x, -1 if axis is None else axis)
    g = f if op == "Softmax" else lambda x: np.log(f(x))
    check_operator(node(op, "x", "h", **({} if axis is None else {"axis": axis})), g, 2 * normal(2, 3, 4), dynamic=dynamic)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_of_large_numbers(op):
    """1000 more than the rest: the slope is 0 up to rounding, not NaN."""
    x = np.array([[0, 1000, -1000, 3.0]])
    proto, w = classifier([node(op, "x", "h")], (1, 4), {}, DOUBLE)
    one = np.array([0, 1, 0, 0])
    expected = 0 * w[:, 1] if op == "Softmax" else w[:, 1] - one * w[:, 1].sum()
    np.testing.assert_allclose(explained(proto, {"x": x}, target=1)["x"], [expected], atol=1e-12)


def local_response(x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Array:
    """x / (k + α/size Σ x² over ``size`` neighbouring channels)^β"""
    before, (alpha, beta, bias) = (size - 1) // 2, (float(np.float32(v)) for v in (alpha, beta, bias))
    squares = [(x[:, max(c - before, 0) : c + size - before] ** 2).sum(1) for c in range(x.shape[1])]
    return x / (bias + alpha / size * np.stack(squares, 1)) ** beta


LRN = pytest.mark.parametrize("attrs", [{}, {"alpha": 0.5, "beta": 0.5, "bias": 2.0}, {"alpha": 2.0, "beta": 1.5}], ids=str)


@DYNAMIC
@LRN
@pytest.mark.parametrize("size", [1, 3, 5, 11])
def test_lrn(size, attrs, dynamic):
    """Also windows wider than there are channels."""
    x = 2 * normal(1, 5, 2, 2, dtype=FLOAT)
    check_operator(node("LRN", "x", "h", size=size, **attrs), lambda x: local_response(x, size, **attrs), x, dynamic=dynamic)


@DYNAMIC
@LRN
@pytest.mark.parametrize("size", [2, 4])
def test_lrn_of_even_size(size, attrs, dynamic):
    """ONNX Runtime refuses these. The reference implementation takes them; it gets the forward wrong, which the gradient does
    not read.
    """
    x = 2 * normal(1, 5, 2, 2)
    proto, w = classifier([node("LRN", "x", "h", size=size, **attrs)], x.shape, {}, DOUBLE, dynamic)
    (g,) = ReferenceEvaluator(onnxdtd.compile(proto, "gradient", target=1)).run(["relevance"], {"x": x})
    forward = lambda x: local_response(x, size, **attrs).reshape(1, -1) @ w
    assert_near(g, numeric(lambda x: forward(x)[0, 1], {"x": x})["x"], TIGHT[DOUBLE])


def test_vector_scaled_to_unit_length():
    """x / |x|, as in cosine classifiers: the length is a function of x too."""
    nodes = [node("ReduceL2", "x", "length", axes=[1], keepdims=1), node("Div", "x length", "h")]
    proto, _ = classifier(nodes, (2, 4), {}, DOUBLE, True)
    check_numeric(proto, {"x": normal(2, 4)})
