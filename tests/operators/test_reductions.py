"""Lengths, products and log-sums: derivatives against differences, shares by their definitions, what is 0 or large."""

import numpy as np
import pytest
from derivatives import Array, check_numeric, check_operator, classifier, explained, normal
from nets import DOUBLE, FLOAT, assert_near, model, node, run

import onnxdtd

DYNAMIC = pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])


@DYNAMIC
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[1], [2, 3], [-1, 1], [0, 2]], ids=str)
@pytest.mark.parametrize("opset", [17, 18])
def test_reduce_l2(axes, keepdims, opset, dynamic):
    constants = {} if opset == 17 else {"axes": np.array(axes)}
    made = node("ReduceL2", "x" if opset == 17 else "x axes", "g", keepdims=keepdims, **({"axes": axes} if opset == 17 else {}))
    made.output[0] = "g" if 0 in axes else "h"
    sizes = tuple(axes)
    norm = lambda x: np.sqrt((x**2).sum(sizes, keepdims=bool(keepdims)))
    x = normal(2, 3, 2, 2)
    if 0 not in axes:
        check_operator(made, norm, x, constants, dynamic, opset=opset)
        return
    flat = node("Reshape", "g one_row", "h")
    constants["one_row"] = np.array([1, -1])
    h = norm(x).reshape(1, -1)
    proto, w = classifier([made, flat], x.shape, constants, DOUBLE, dynamic, opset=opset, h=h.shape)
    check_numeric(proto, {"x": x}, lambda x: norm(x).reshape(1, -1) @ w)


@DYNAMIC
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(("op", "f"), [("ReduceL1", np.abs), ("ReduceSumSquare", np.square)])
def test_other_norms(op, f, keepdims, dynamic):
    made = node(op, "x axes", "h", keepdims=keepdims)
    norm = lambda x: f(x).sum((1, 3), keepdims=bool(keepdims))
    check_operator(made, norm, normal(2, 3, 2, 2), {"axes": np.array([1, -1])}, dynamic, opset=18)


def test_reduce_l2_of_everything():
    x = normal(2, 3)
    nodes = [node("ReduceL2", "x", "h", keepdims=1)]
    proto, w = classifier(nodes, x.shape, {}, DOUBLE, h=(1, 1))
    check_numeric(proto, {"x": x}, lambda x: np.sqrt((x**2).sum()).reshape(1, 1) @ w)


def test_length_of_nothing():
    """At x = 0 the length has no derivative; 0 is as good as any, NaN is not."""
    proto, _ = classifier([node("ReduceL2", "x", "h", axes=[1], keepdims=1)], (2, 3), {}, DOUBLE, h=(2, 1))
    x = np.array([[0, 0, 0], [3, 0, 4.0]])
    assert np.isfinite(explained(proto, {"x": x}, target=1)["x"]).all()


def log_sum_exp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    largest = x.max(axes, keepdims=True)
    found = np.log(np.exp(x - largest).sum(axes, keepdims=True)) + largest
    return found if keepdims else found.squeeze(axes)


REST = {
    "ReduceProd": lambda x, axes, keep: x.prod(axes, keepdims=keep),
    "ReduceLogSum": lambda x, axes, keep: np.log(x.sum(axes, keepdims=keep)),
    "ReduceLogSumExp": log_sum_exp,
}


@DYNAMIC
@pytest.mark.parametrize(("op", "keepdims", "opset"), [(op, i % 2, 17 + i % 2) for i, op in enumerate(REST)])
def test_products_and_log_sums(op, keepdims, opset, dynamic):
    attrs, constants = ({"axes": [1, -1]}, {}) if opset == 17 else ({}, {"axes": np.array([1, -1])})
    made = node(op, "x axes" if constants else "x", "h", keepdims=keepdims, **attrs)
    x = normal(2, 2, 3, 2) if op != "ReduceLogSum" else np.abs(normal(2, 2, 3, 2))
    check_operator(made, lambda x: REST[op](x, (1, 3), bool(keepdims)), x, constants, dynamic, opset=opset)


@pytest.mark.parametrize("zeros", [[], [1], [0, 2], [0, 1, 2]], ids=str)
def test_a_product_with_zeros(zeros):
    """Exact where one factor is 0, or several."""
    x = np.array([[2.0, -3, 0.5], [1, 2, 4]])
    x[0, zeros] = 0
    expected = np.array([[x[0, [1, 2]].prod(), x[0, [0, 2]].prod(), x[0, [0, 1]].prod()], [8, 4, 2]])
    proto, w = classifier([node("ReduceProd", "x", "h", axes=[1], keepdims=1)], x.shape, {}, DOUBLE, h=(2, 1))
    np.testing.assert_array_equal(explained(proto, {"x": x}, target=1)["x"], expected * w[0, 1])


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE])
def test_a_smooth_maximum_of_large_numbers(dtype):
    """Neither e¹⁰⁰⁰ nor e⁻¹⁰⁰⁰ is a number that there is."""
    x = np.array([[1000, 998, -1000], [-1000, -1000, -1000.0]], dtype)
    proto, w = classifier([node("ReduceLogSumExp", "x", "h", axes=[1], keepdims=1)], x.shape, {}, dtype, h=(2, 1))
    p = np.array([[1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2)), 0], [1 / 3, 1 / 3, 1 / 3]])
    assert_near(explained(proto, {"x": x}, target=1)["x"], p * w[0, 1], 1e-6)


SHARES = {
    "ReduceL1": lambda x: np.abs(x) / np.abs(x).sum(1, keepdims=True),
    "ReduceL2": lambda x: x**2 / (x**2).sum(1, keepdims=True),
    "ReduceSumSquare": lambda x: x**2 / (x**2).sum(1, keepdims=True),
    "ReduceProd": lambda x: np.full(x.shape, 1 / x.shape[1]),
    "ReduceLogSum": lambda x: x / x.sum(1, keepdims=True),
    "ReduceLogSumExp": lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True),
}


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op", SHARES)
def test_shares(op, keepdims):
    """Each is the part of its term in the expansion, and all of them are all there is."""
    x = normal(2, 4, 3) if op != "ReduceLogSum" else np.abs(normal(2, 4, 3))
    nodes = [node(op, "x", "h", axes=[1], keepdims=keepdims), node("Flatten", "h", "f"), node("MatMul", "f w", "y")]
    w = normal(3, 2, seed=5)
    proto = model(nodes, {"x": ["n", 4, 3]}, ["y"], {"w": w}, DOUBLE)
    h = run(model(nodes[:2], {"x": ["n", 4, 3]}, ["f"], {}, DOUBLE), x=x)["f"]
    for preset in ("lrp-0", "dtd-z"):
        found = onnxdtd.Explainer(onnxdtd.compile(proto, preset, target=1, ledger=True))(x)
        assert_near(found.relevance["x"], SHARES[op](x) * (h * w[:, 1])[:, None], 1e-12)


POOL = {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [0, 1, 1, 1]}


def length_of_windows(x: Array, p: int) -> Array:
    """Of every window of POOL."""
    padded = np.pad(np.abs(x) ** p, [(0, 0), (0, 0), (0, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 3), (2, 3))[:, :, ::2]
    return windows.sum((-1, -2)) ** (1 / p)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_length_of_windows(p):
    x = normal(2, 2, 4, 3, dtype=FLOAT)
    check_operator(node("LpPool", "x", "h", p=p, **POOL), lambda x: length_of_windows(x, p), x)
    f = lambda x: (np.abs(x) ** p).sum((2, 3), keepdims=True) ** (1 / p)
    check_operator(node("GlobalLpPool", "x", "h", p=p), f, x)


def test_shares_in_windows():
    """An entry in several windows has one in each."""
    x, w = normal(1, 1, 4, 3, dtype=FLOAT), normal(6, 2, dtype=FLOAT)
    nodes = [node("LpPool", "x", "h", p=2, **POOL), node("Flatten", "h", "f"), node("MatMul", "f w", "y")]
    proto = model(nodes, {"x": ["n", 1, 4, 3]}, ["y"], {"w": w})
    y = length_of_windows(x, 2).ravel()
    hot = [
        [[i for i in range(12) if i // 3 in (2 * a, 2 * a + 1) and i % 3 in (b - 1, b, b + 1)] for b in range(3)]
        for a in (0, 1)
    ]
    expected = np.zeros(12)
    for k, window in enumerate(hot[0] + hot[1]):
        expected[window] += x.ravel()[window] ** 2 / y[k] ** 2 * y[k] * w[k, 1]
    assert_near(onnxdtd.Explainer(onnxdtd.compile(proto, "lrp-0", target=1))(x).relevance["x"].ravel(), expected, 1e-5)
