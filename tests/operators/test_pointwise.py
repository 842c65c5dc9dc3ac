"""The presets of derivatives against central differences in float64: every operator, its attributes, its kinks, products.

An operator that works element by element is written once more as a formula in numpy, which must give what the operator
gives; its slope is taken from differences of the formula. Everything else is differentiated as it is: the model, run in
float64, or a formula in numpy where ONNX Runtime has no kernel for float64. No tensor is nearer to a kink than the
differences reach, 2/1000, but for the tests of kinks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import erf, pi, sqrt
from typing import Any

import numpy as np
import pytest
from derivatives import TIGHT, Array, check_numeric, check_operator, classifier, explained, in_float64, normal, numeric, slope
from nets import DOUBLE, FLOAT, Session, assert_near, model, node, symbolic
from onnx import ModelProto, NodeProto, TensorProto

import onnxdtd
from onnxdtd.errors import ModelError, Unsupported
from onnxdtd.operators.table import OPERATORS

OLDEST = {"Gelu": 20, "Mish": 18, "Swish": 24}  # operator set
DYNAMIC = pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])


# ---- element by element ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """An operator on x with constants, the same in numpy, and the positions of its kinks with the slope claimed there."""

    op: str
    f: Callable[[Array], Array]
    attrs: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    inputs: str = ""
    kinks: dict[float, float] = field(default_factory=dict)
    low: float = -4
    high: float = 4
    dtype: np.dtype = DOUBLE

    def __str__(self) -> str:
        constants = " ".join(f"{name}={np.asarray(value).tolist()}" for name, value in self.constants.items())
        return f"{self.op} {self.inputs} {self.attrs or ''} {constants}".replace(" ", "_")

    def model(self, size: int) -> ModelProto:
        """x [n, 3, 4] -> the operator -> three classes"""
        inputs = self.inputs or " ".join(["x", *self.constants])
        nodes = [node(self.op, inputs, "h", **self.attrs), node("Flatten", "h", "rows"), node("MatMul", "rows w", "y")]
        weights = {n: np.asarray(v, self.dtype if np.asarray(v).dtype.kind == "f" else None) for n, v in self.constants.items()}
        weights["w"] = self.weight(size)
        return model(nodes, {"x": ["n", *self.shape(size)]}, ["y"], weights, self.dtype, OLDEST.get(self.op, 17))

    @staticmethod
    def shape(size: int) -> list[int]:
        return [3, size // 3]

    def weight(self, size: int) -> Array:
        return np.random.default_rng(3).choice([-2, -1, 1, 2], (size, 3)).astype(self.dtype)

    def slopes(self, x: Array) -> tuple[Array, Array]:
        """The slope at each entry of x as the compiled model has it, and the largest error of y."""
        size = x[0].size
        results = explained(self.model(size), {"x": x}, target=1)
        y = self.f(x.astype(np.float64)).reshape(len(x), size) @ self.weight(size)
        return results["x"] / self.weight(size)[:, 1].reshape(x[0].shape), np.abs(results["y"] - y).max() / np.abs(y).max()


SLOPES = np.array([[-0.5], [0.25], [2.0]])
PHI = lambda x: 0.5 * (1 + np.vectorize(erf)(x / sqrt(2)))
SIGMOID = lambda x: 0.5 * (1 + np.tanh(x / 2))
SOFTPLUS = lambda x: np.logaddexp(0, x)
LEAKY = lambda slope: lambda x: np.where(x < 0, slope * x, x)
ELU = lambda alpha, gamma=1.0, beta=1.0: lambda x: gamma * np.where(x < 0, alpha * np.expm1(np.minimum(x, 0) / beta), x)
HARD = lambda alpha, beta: lambda x: np.clip(alpha * x + beta, 0, 1)
POW = lambda p, **more: Curve("Pow", lambda x: x**p, constants={"p": p}, **more)
CLIP = lambda inputs, low, high, **more: Curve("Clip", lambda x: np.clip(x, low, high), inputs=inputs, **more)
POSITIVE = {"low": 0.75, "high": 4.75}  # where only x > 0 will do

CURVES = [
    Curve("Relu", lambda x: np.maximum(x, 0), kinks={0: 0}),
    Curve("ThresholdedRelu", lambda x: np.where(x > 1, x, 0), kinks={1: 0}, dtype=FLOAT),
    Curve("ThresholdedRelu", lambda x: np.where(x > 0.5, x, 0), {"alpha": 0.5}, kinks={0.5: 0}, dtype=FLOAT),
    Curve("ThresholdedRelu", lambda x: np.where(x > -1, x, 0), {"alpha": -1.0}, kinks={-1: 0}, dtype=FLOAT),
    CLIP("x zero six", 0, 1.5, constants={"zero": 0.0, "six": 1.5}, kinks={0: 0, 1.5: 0}),
    CLIP("x below", -1, None, constants={"below": -1.0}, kinks={-1: 0}),
    CLIP("x _ above", None, 2, constants={"above": 2.0}, kinks={2: 0}),
    CLIP("x", -np.inf, np.inf),
    Curve("LeakyRelu", LEAKY(np.float32(0.01)), kinks={0: 1}, dtype=FLOAT),
    Curve("LeakyRelu", LEAKY(0.25), {"alpha": 0.25}, kinks={0: 1}),
    Curve("LeakyRelu", LEAKY(-0.5), {"alpha": -0.5}, kinks={0: 1}),
    Curve("PRelu", lambda x: np.where(x < 0, SLOPES * x, x), constants={"slope": SLOPES}, kinks={0: 1}),
    Curve("PRelu", lambda x: np.where(x < 0, 0.25 * x, x), constants={"slope": [0.25]}, kinks={0: 1}),
    Curve("Elu", ELU(1), kinks={0: 1}, dtype=FLOAT),
    Curve("Elu", ELU(0.5), {"alpha": 0.5}, kinks={0: 1}, dtype=FLOAT),
    Curve("Selu", ELU(np.float32(1.67326319217681884765625), np.float32(1.05070102214813232421875)), dtype=FLOAT),
    Curve("Selu", ELU(0.5, 3), {"alpha": 0.5, "gamma": 3.0}, kinks={0: 3}, dtype=FLOAT),
    Curve("Celu", ELU(1), kinks={0: 1}, dtype=FLOAT),
    Curve("Celu", ELU(2, 1, 2), {"alpha": 2.0}, kinks={0: 1}, dtype=FLOAT),
    Curve("Celu", ELU(0.25, 1, 0.25), {"alpha": 0.25}, kinks={0: 1}, dtype=FLOAT),
    Curve("Sigmoid", SIGMOID),
    Curve("Tanh", np.tanh),
    Curve("Softplus", SOFTPLUS, dtype=FLOAT),
    Curve("Softsign", lambda x: x / (1 + np.abs(x)), dtype=FLOAT),
    Curve("HardSigmoid", HARD(0.2, 0.5), kinks={}, dtype=FLOAT),
    Curve("HardSigmoid", HARD(0.25, 0.5), {"alpha": 0.25, "beta": 0.5}, kinks={-2: 0, 2: 0}, dtype=FLOAT),
    Curve("HardSigmoid", HARD(0.5, -0.5), {"alpha": 0.5, "beta": -0.5}, kinks={1: 0, 3: 0}, dtype=FLOAT),
    Curve("HardSwish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1), kinks={-3: 0, 3: 1}, dtype=FLOAT),
    Curve("Gelu", lambda x: x * PHI(x), dtype=FLOAT),
    Curve("Gelu", lambda x: x * PHI(x), {"approximate": "none"}, dtype=FLOAT),
    Curve("Gelu", lambda x: x / 2 * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))), {"approximate": "tanh"}, dtype=FLOAT),
    Curve("Mish", lambda x: x * np.tanh(SOFTPLUS(x)), dtype=FLOAT),
    Curve("Erf", np.vectorize(erf), dtype=FLOAT),
    Curve("Exp", np.exp),
    Curve("Log", np.log, **POSITIVE),
    Curve("Sqrt", np.sqrt, **POSITIVE),
    Curve("Reciprocal", lambda x: 1 / x, **POSITIVE),
    Curve("Reciprocal", lambda x: 1 / x, low=-4.75, high=-0.75),
    Curve("Abs", np.abs, kinks={0: 0}),
    Curve("Swish", lambda x: x * SIGMOID(x), dtype=FLOAT),
    Curve("Swish", lambda x: x * SIGMOID(-1.5 * x), {"alpha": -1.5}, dtype=FLOAT),
    Curve("Shrink", lambda x: np.where(np.abs(x) > 1.5, x - np.sign(x) / 2, 0), {"lambd": 1.5, "bias": 0.5}),
    Curve("Sin", np.sin),
    Curve("Cos", np.cos),
    Curve("Tan", np.tan, low=-1.25, high=1.25, dtype=FLOAT),
    Curve("Asin", np.arcsin, low=-0.875, high=0.875, dtype=FLOAT),
    Curve("Acos", np.arccos, low=-0.875, high=0.875, dtype=FLOAT),
    Curve("Atan", np.arctan, dtype=FLOAT),
    Curve("Sinh", np.sinh, low=-3.5, dtype=FLOAT),
    Curve("Cosh", np.cosh, low=-3.5, dtype=FLOAT),
    Curve("Asinh", np.arcsinh, dtype=FLOAT),
    Curve("Acosh", np.arccosh, low=1.5, high=4.5, dtype=FLOAT),
    Curve("Atanh", np.arctanh, low=-0.75, high=0.75, dtype=FLOAT),
    Curve("Mod", lambda x: np.fmod(x, 1.5), {"fmod": 1}, {"c": 1.5}),
    *[Curve(op, f) for op, f in (("Floor", np.floor), ("Ceil", np.ceil), ("Round", np.round), ("Sign", np.sign))],
    POW(2.0),
    POW(3.0),
    POW(1.0),
    POW(0.5, **POSITIVE),
    POW(-1.5, **POSITIVE),
    Curve("Pow", lambda x: x**3, constants={"p": np.int64(3)}),
    Curve("Pow", lambda x: x**3, constants={"p": np.int64([3])}, inputs="x p"),
]  # fmt: skip


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_slope(curve):
    """At the odd multiples of 1/16, where no operator has a kink."""
    grid = np.arange(curve.low, curve.high, 1 / 8) + 1 / 16
    size = len(grid) // 6 * 3
    x = grid[: 2 * size].reshape(2, 3, -1).transpose(2, 0, 1).reshape(2, 3, -1).astype(curve.dtype)
    found, error = curve.slopes(x)
    assert error <= TIGHT[curve.dtype]
    assert_near(found, slope(curve.f, x.astype(np.float64)), TIGHT[curve.dtype])


@pytest.mark.parametrize(
    "curve", [c for c in CURVES if c.low == -4 and c.op not in ("Exp", "Pow", "Sin", "Cos", "Mod", "Floor", "Ceil")], ids=str
)
def test_slope_far_out(curve):
    """No overflow, no NaN, and the slope of the asymptote."""
    x = np.array([-1000, -100, -30, 30, 100, 1000]).repeat(3).reshape(2, 3, 3).transpose(0, 2, 1).astype(curve.dtype)
    found, _ = curve.slopes(x)
    np.testing.assert_allclose(found, slope(curve.f, x.astype(np.float64)), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("curve", [c for c in CURVES if c.kinks], ids=str)
def test_slope_at_a_kink(curve):
    """There it is that of one side (or between the two), and right beside it that of the side."""
    step = 2.0**-12
    for kink, claimed in curve.kinks.items():
        x = (kink + np.array([-step, 0, step]).repeat(3).reshape(3, 3).T.reshape(1, 3, 3)).astype(curve.dtype)
        found, _ = curve.slopes(x)
        points = np.broadcast_to(float(kink), x.shape)
        side = lambda h, points=points: (curve.f(points + 2 * h) - curve.f(points + h)) / h
        left, right = side(-1e-6)[..., 0], side(1e-6)[..., 2]
        np.testing.assert_allclose(found[..., 0], left, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found[..., 2], right, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found[..., 1], claimed, rtol=1e-6)
        assert (np.minimum(left, right) - 1e-5 <= claimed).all()
        assert (np.maximum(left, right) + 1e-5 >= claimed).all()


@pytest.mark.parametrize(("op", "constants"), [("Sqrt", {}), ("Pow", {"p": 0.5})])
def test_a_root_of_nothing(op, constants):
    """Its slope has a pole at 0, where 0 is as good as any number, and what the deviation of equal numbers needs."""
    found, _ = Curve(op, np.sqrt, constants=constants).slopes(np.array([0, 4, 0, 0.25, 1, 16.0]).reshape(1, 3, 2))
    np.testing.assert_allclose(found.ravel(), [0, 0.25, 0, 1, 0.5, 0.125], rtol=1e-12)


def test_prelu_with_a_slope_for_each_position():
    given = np.array([0.5, -1, 2, 0.25])
    curve = Curve("PRelu", lambda x: np.where(x < 0, given * x, x), constants={"slope": given})
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    assert_near(curve.slopes(x)[0], slope(curve.f, x), TIGHT[DOUBLE])


def test_powers_of_their_own():
    """An exponent for each column."""
    p = np.array([1.0, 2, 3, -1])
    check_operator(node("Pow", "x p", "h"), lambda x: x**p, 2 + normal(2, 3, 4) / 8, {"p": p})


def test_power_that_adds_an_axis():
    """An exponent of rank 4 on x of rank 3."""
    nodes = [node("Pow", "x p", "h"), node("Flatten", "h", "rows"), node("MatMul", "rows w", "y")]
    weights = {"p": np.full((1, 1, 1, 1), 3.0), "w": np.random.default_rng(0).normal(size=(24, 2))}
    check_numeric(model(nodes, {"x": [2, 3, 4]}, ["y"], weights, DOUBLE), {"x": normal(2, 3, 4)})


# ---- products of two activations -------------------------------------------------------------------------------------

REPEATED = [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (2, 3, 1)), ((2, 1, 4), (2, 3, 1)), ((2, 3, 4), (4,)), ((4,), (2, 3, 4))]
STACKS = [((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 3), (3, 4)), ((2, 2, 3, 4), (2, 1, 4, 2))]
PRODUCTS = [  # operator, shapes of a and b, attributes
    *[(op, a, b, {}) for op in ("Mul", "Div") for a, b in REPEATED],
    *[("MatMul", a, b, {}) for a, b in STACKS],
    *[
        ("Gemm", (3, 2) if ta else (2, 3), (4, 3) if tb else (3, 4), attrs | {"transA": ta, "transB": tb})
        for ta in (0, 1)
        for tb in (0, 1)
        for attrs in ({}, {"alpha": -0.5})
    ],
    *[
        ("Einsum", a, b, {"equation": equation})
        for equation, a, b in [
            ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
            ("bid,bjd->bij", (2, 3, 4), (2, 2, 4)),
            ("bhwc,hkc->bhwk", (2, 3, 2, 4), (3, 2, 4)),
            ("bi,bi->bi", (2, 3), (2, 3)),
            ("bi,bj->bij", (2, 3), (2, 2)),
        ]
    ],
]  # fmt: skip


def product_classifier(op: str, attrs: Mapping[str, Any], inputs: str = "a b") -> list[NodeProto]:
    """The nodes from two factors to y."""
    return [node(op, inputs, "h", **attrs), node("Reshape", "h rows", "flat"), node("MatMul", "flat w", "y")]


@DYNAMIC
@pytest.mark.parametrize(("op", "a", "b", "attrs"), PRODUCTS, ids=str)
def test_product(op, a, b, attrs, dynamic):
    """(a b)' = a' b + a b', also where a factor is repeated to the size of the other."""
    axes = lambda shape: [i for i, size in enumerate(shape) if size > 1 and dynamic]
    x = {"a": normal(*a, seed=1), "b": 1.5 + np.abs(normal(*b, seed=2))}
    one = model([node(op, "a b", "y", **attrs)], {"a": a, "b": b}, ["y"], dtype=DOUBLE)
    h = Session(one)(**x)["y"].shape
    weights = {"rows": np.array([0, -1]), "w": normal(int(np.prod(h)) // 2, 3, seed=3)}
    shapes = {"a": symbolic(a, axes(a)), "b": symbolic([*b], axes(b))}
    shapes["b"] = [f"b{size}" if isinstance(size, str) else size for size in shapes["b"]]
    proto = model(product_classifier(op, attrs), shapes, ["y"], weights, DOUBLE)
    check_numeric(proto, x)


@pytest.mark.parametrize("c", [(2, 4), (4,), (2, 1), ()], ids=str)
@pytest.mark.parametrize("explained_c", [False, True], ids=["constant", "explained"])
def test_product_with_a_summand(c, explained_c):
    """All three operands of a Gemm may depend on the input."""
    x = {"a": normal(2, 3, seed=1), "b": normal(3, 4, seed=2)}
    weights = {"rows": np.array([2, -1]), "w": normal(4, 3, seed=3)}
    (x if explained_c else weights)["c"] = normal(*c, seed=4)
    nodes = product_classifier("Gemm", {"alpha": 0.5, "beta": -2.0}, "a b c")
    check_numeric(model(nodes, {name: v.shape for name, v in x.items()}, ["y"], weights, DOUBLE), x)


def test_product_of_two_functions_of_one_input():
    nodes = [
        node("Sigmoid", "x", "gate"),
        node("Tanh", "x", "signal"),
        node("Mul", "gate signal", "g"),
        node("Mul", "g x", "h"),
    ]
    check_numeric(classifier(nodes, (2, 4), {}, DOUBLE, True)[0], {"x": normal(2, 4)})


def test_attention():
    """softmax(Q Kᵀ / 2) V: the derivative goes through all three."""
    nodes = [
        *[node("MatMul", f"x w{name}", name) for name in "qkv"],
        node("Transpose", "k", "kt", perm=[0, 2, 1]),
        node("MatMul", "q kt", "scores"),
        node("Div", "scores two", "scaled"),
        node("Softmax", "scaled", "p"),
        node("MatMul", "p v", "mixed"),
        node("Add", "mixed x", "h"),
    ]
    constants = {f"w{name}": normal(4, 4, seed=i) for i, name in enumerate("qkv")} | {"two": np.array(2.0)}
    check_numeric(classifier(nodes, (2, 3, 4), constants, DOUBLE)[0], {"x": normal(2, 3, 4)})


# ---- largest and smallest, choices, types ----------------------------------------------------------------------------


@DYNAMIC
@pytest.mark.parametrize("op", ["Max", "Min"])
@pytest.mark.parametrize("shapes", [((2, 3), (2, 3), (2, 3)), ((2, 3), (3,), (2, 1))], ids=str)
def test_largest_of_several(op, shapes, dynamic):
    x = {name: normal(*shape, seed=i) for i, (name, shape) in enumerate(zip("abc", shapes, strict=True))}
    axes = lambda shape: [i for i, size in enumerate(shape) if size > 1 and dynamic and len(shape) == 2]  # one name, one size
    sizes = {name: symbolic(value.shape, axes(value.shape)) for name, value in x.items()}
    nodes = [node(op, "a b c", "h"), node("MatMul", "h w", "y")]
    check_numeric(model(nodes, sizes, ["y"], {"w": normal(3, 3, seed=3)}, DOUBLE), x)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_largest_of_one_and_a_bound(op):
    """As Clip is written by some exporters: 0 where the bound wins."""
    x, f = normal(2, 4), np.maximum if op == "Max" else np.minimum
    for inputs in ("x bound", "bound x"):
        check_operator(node(op, inputs, "h"), lambda x: f(x, 0.25), x, {"bound": np.array(0.25)})


def test_ties_go_to_the_first():
    nodes = [node("Max", "a b", "h"), node("MatMul", "h w", "y")]
    x = {"a": np.array([[1.0, 2, 3]]), "b": np.array([[1.0, 3, 2]])}
    proto = model(nodes, {"a": [1, 3], "b": [1, 3]}, ["y"], {"w": np.ones((3, 2))}, DOUBLE)
    found = explained(proto, x, target=1)
    np.testing.assert_array_equal(found["a"], [[1, 0, 1]])
    np.testing.assert_array_equal(found["b"], [[0, 1, 0]])


@DYNAMIC
def test_choice_that_depends_on_the_input(dynamic):
    """where(x > 1/2, x², −x / 4): the condition itself has no derivative."""
    nodes = [
        node("Greater", "x half", "big"),
        node("Pow", "x two", "square"),
        node("Mul", "x quarter", "small"),
        node("Where", "big square small", "h"),
    ]
    constants = {"half": np.array(0.5), "two": np.array(2.0), "quarter": np.array(-0.25)}
    check_numeric(classifier(nodes, (2, 4), constants, DOUBLE, dynamic)[0], {"x": normal(2, 4)})


@DYNAMIC
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[1], [2, 3], [-1, 1]], ids=str)
def test_reduce_max(axes, keepdims, dynamic):
    made = node("ReduceMax", "x", "h", axes=axes, keepdims=keepdims)
    f = lambda x: x.max(tuple(axes), keepdims=bool(keepdims))
    check_operator(made, f, normal(2, 3, 2, 4), dynamic=dynamic)


def test_pools():
    nodes = [
        node("MaxPool", "x", "m", kernel_shape=[2, 2], strides=[1, 2]),
        node("AveragePool", "m", "a", kernel_shape=[2, 2]),
        node("GlobalMaxPool", "a", "h"),
    ]
    made = lambda dtype: classifier(nodes, (2, 3, 4, 5), {}, dtype, h=(2, 3, 1, 1))[0]
    check_numeric(made(FLOAT), {"x": normal(2, 3, 4, 5, dtype=FLOAT)}, in_float64(made(DOUBLE)))


def test_casts():
    """To float64 and back: derivative 1. To integers and back: a staircase, derivative 0, which leaves the way around it."""
    nodes = [
        node("Cast", "x", "wide", to=TensorProto.DOUBLE),
        node("Mul", "wide wide_two", "twice"),
        node("Cast", "twice", "narrow", to=TensorProto.FLOAT),
        node("Cast", "x", "whole", to=TensorProto.INT64),
        node("Cast", "whole", "stairs", to=TensorProto.FLOAT),
        node("Add", "narrow stairs", "h"),
        node("MatMul", "h w", "y"),
    ]
    w = normal(4, 3, dtype=FLOAT, seed=5)
    proto = model(nodes, {"x": ["n", 4]}, ["y"], {"wide_two": np.array(2.0), "w": w})
    found = explained(proto, {"x": normal(2, 4, dtype=FLOAT)}, target=1)
    assert found["x"].dtype == np.float32
    np.testing.assert_array_equal(found["x"], np.broadcast_to(2 * w[:, 1], (2, 4)))


GRIDS = {  # scale, zero point (left out: 0 of uint8), axis; the smallest and the largest x that are not cut off
    "uint8": (np.float32(1 / 8), np.uint8(100), {}, -100 / 8, 155 / 8),
    "left out": (np.float32(1 / 8), None, {}, 0, 255 / 8),
    "int8": (np.float32([1 / 4]), np.int8([-28]), {}, -25, 155 / 4),
    "int16": (np.float32(1 / 1024), np.int16(768), {}, -33536 / 1024, 31999 / 1024),
    "rows": (
        np.float32([1 / 4, 1 / 8, 1 / 16]),
        np.int8([28, 0, -28]),
        {},
        [[-39], [-16], [-6.25]],
        [[24.75], [15.875], [9.6875]],
    ),
    "columns": (np.float32([1 / 4, 1 / 16]), np.uint8([128, 100]), {"axis": -1}, [-32, -6.25], [31.75, 9.6875]),
}


@pytest.mark.parametrize("name", GRIDS)
def test_quantisation(name):
    """1 where it rounds, at its ends too (black and white in a picture), and 0 where it cuts off."""
    scale, zero, attrs, low, high = GRIDS[name]
    grid = "s" if zero is None else "s z"
    nodes = [node("QuantizeLinear", f"x {grid}", "q", **attrs), node("DequantizeLinear", f"q {grid}", "h", **attrs)]
    constants = {"s": scale} | ({} if zero is None else {"z": zero})
    proto, w = classifier(nodes, (3, 3, 2), constants, FLOAT, True, opset=21)
    x = normal(60, 3, 2, dtype=FLOAT) * 20
    beside = np.broadcast_to(np.stack([np.broadcast_to(end, (3, 2)) for end in (low, high)]), (2, 3, 2)).astype(FLOAT)
    x[:2], x[2:4], x[4:6], x[6:8] = beside, beside + 1 / 256, beside - 1 / 256, beside + [[[1]], [[-1]]]
    half = (scale[:, None] if name == "rows" else scale) / 2
    inside = (x > low - half) & (x < high + half)
    assert 0.1 < inside.mean() < 0.9
    found = explained(proto, {"x": x}, target=1)["x"]
    np.testing.assert_array_equal(found, inside * w[:, 1].reshape(3, 2))


@pytest.mark.parametrize("name", ["INT4", "UINT4", "FLOAT8E4M3FN"])
def test_quantisation_to_small_types(name):
    """What the derivative of a float8 would be is not known here (it is refused, see below); under a rule it passes."""
    nodes = [
        node("QuantizeLinear", "x s", "q", output_dtype=getattr(TensorProto, name)),
        node("DequantizeLinear", "q s", "h"),
    ]
    proto, w = classifier(nodes, (8, 3), {"s": np.float32(1)}, FLOAT, opset=21)
    x = np.arange(-12, 12).reshape(8, 3).astype(FLOAT)
    low, high = {"INT4": (-8, 7), "UINT4": (0, 15)}.get(name, (-448, 448))
    h = np.clip(x, low, high)
    passed = explained(proto, {"x": x}, "lrp-epsilon", target=1)
    assert_near(passed["y"], h @ w, TIGHT[FLOAT])
    assert_near(passed["x"], h * w[:, 1], 1e-5)
    if name != "FLOAT8E4M3FN":
        np.testing.assert_array_equal(explained(proto, {"x": x}, target=1)["x"], ((x >= low) & (x <= high)) * w[:, 1])


def test_only_a_staircase():
    nodes = [node("Cast", "x", "i", to=TensorProto.INT64), node("Cast", "i", "h", to=TensorProto.FLOAT)]
    nodes += [node("MatMul", "h w", "y")]
    with pytest.raises(ModelError, match="depends on what is to be explained"):
        onnxdtd.compile(model(nodes, {"x": ["n", 4]}, ["y"], {"w": np.ones((4, 2), FLOAT)}), "gradient")


# ---- whole models ----------------------------------------------------------------------------------------------------


def preprocessed() -> tuple[ModelProto, Array]:
    """((x − mean) / std) · −2 + 1, then a small net."""
    nodes = [
        node("Sub", "x mean", "centred"),
        node("Div", "centred std", "scaled"),
        node("Mul", "scaled minus_two", "turned"),
        node("Add", "one turned", "ready"),
        node("BatchNormalization", "ready g b m v", "normal"),
        node("Gemm", "normal w1 b1", "h"),
        node("Tanh", "h", "t"),
        node("Gemm", "t w2 b2", "y"),
    ]
    weights = {"mean": normal(4, seed=1), "std": np.array([1, 2, 3, 1.5]), "minus_two": np.array(-2.0), "one": np.array([1.0])}
    weights |= {name: normal(4, seed=i + 6) for i, name in enumerate("gbm")} | {"v": np.array([1, 2, 3, 4.0])}
    weights |= {"w1": normal(4, 5, seed=2), "b1": normal(5, seed=3), "w2": normal(5, 3, seed=4), "b2": normal(3, seed=5)}
    return model(nodes, {"x": ["n", 4]}, ["y"], weights, DOUBLE), normal(3, 4, seed=9)


def test_preprocessing_is_not_skipped():
    """A rule passes relevance through it unchanged; a derivative must not."""
    proto, x = preprocessed()
    check_numeric(proto, {"x": x})


def test_bounds_do_not_change_a_derivative():
    proto, x = preprocessed()
    plain, bounded = (explained(proto, {"x": x}, target=1, **more)["x"] for more in ({}, {"low": -9, "high": 9}))
    np.testing.assert_array_equal(plain, bounded)


@pytest.mark.parametrize("options", [{}, {"target": "argmax"}, {"target": 2}, {"contrast": True}], ids=str)
def test_what_is_made_of_the_gradient(options):
    """g, x g and g², each for the class that was asked for."""
    proto, x = preprocessed()
    g, xg, gg = (explained(proto, {"x": x}, name, **options)["x"] for name in ("gradient", "gradient-x-input", "sensitivity"))
    session = Session(proto)
    y = session(x=x)["y"]
    target = np.full(3, options["target"]) if isinstance(options.get("target"), int) else y.argmax(1)
    second = y.argsort(1)[:, -2]
    rows = np.arange(3)

    def explained_number(x: Array) -> float:
        scores = session(x=x)["y"]
        return (scores[rows, target] - (scores[rows, second] if options.get("contrast") else 0)).sum()

    expected = numeric(explained_number, {"x": x})["x"]
    assert_near(g, expected, TIGHT[DOUBLE])
    assert_near(xg, x * expected, TIGHT[DOUBLE])
    assert_near(gg, expected**2, TIGHT[DOUBLE])


def test_target_given_at_run_time():
    proto, x = preprocessed()
    session = Session(onnxdtd.compile(proto, "gradient", target="optional"))
    each = [session(x=x, target=np.array([c]))["relevance"] for c in range(3)]
    mixed = session(x=x, target=np.array([2, 0, 1]))["relevance"]
    np.testing.assert_array_equal(mixed, np.stack([each[2][0], each[0][1], each[1][2]]))
    assert_near(each[1], explained(proto, {"x": x}, target=1)["x"], 1e-12)


def test_gradient_of_an_inner_tensor():
    """--keep gives ∂f/∂t for a tensor t on the way."""
    proto, x = preprocessed()
    results = Session(onnxdtd.compile(proto, "gradient", target=1, keep=["t"]))(x=x)
    w2 = normal(5, 3, seed=4)
    np.testing.assert_allclose(results["relevance/t"], np.broadcast_to(w2[:, 1], (3, 5)), rtol=1e-12)


def test_a_head_is_stepped_back_over():
    """The gradient is that of the logit, whose scale a softmax would hide."""
    proto, x = preprocessed()
    plain = explained(proto, {"x": x}, target=1)["x"]
    proto.graph.node.append(node("Softmax", "y", "p"))
    proto.graph.output[0].name = "p"
    session = Session(onnxdtd.compile(proto, "gradient", target=1))
    np.testing.assert_allclose(session(x=x)["relevance"], plain, rtol=1e-12)


@pytest.mark.parametrize("op", ["Tanh", "Softplus", "Gelu", "Mish", "HardSwish", "Elu"])
def test_convolutional_net(op):
    """Conv, activation, BatchNormalization, residual sum, pooling, LayerNormalization: all of it at once."""
    rng = np.random.default_rng(1)
    weights = {"k": rng.normal(size=(4, 2, 3, 3)) / 3, "kb": rng.normal(size=4), "d": rng.normal(size=(4, 1, 3, 3)) / 2}
    weights |= {name: rng.uniform(0.5, 2, 4) for name in ("g", "b", "m", "v")}
    weights |= {"lg": rng.normal(size=4), "lb": rng.normal(size=4), "w": rng.normal(size=(4, 3)), "wb": rng.normal(size=3)}
    nodes = [
        node("Conv", "x k kb", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node(op, "c", "a"),
        node("Conv", "a d", "e", pads=[1, 1, 1, 1], group=4),
        node("BatchNormalization", "e g b m v", "n"),
        node("Add", "n a", "s"),
        node("GlobalAveragePool", "s", "p"),
        node("Flatten", "p", "f"),
        node("LayerNormalization", "f lg lb", "l"),
        node("Gemm", "l w wb", "y"),
    ]
    made = lambda dtype: model(
        nodes, {"x": ["n", 2, 4, 5]}, ["y"], {n: v.astype(dtype) for n, v in weights.items()}, dtype, OLDEST.get(op, 17)
    )
    check_numeric(made(FLOAT), {"x": rng.normal(size=(1, 2, 4, 5)).astype(FLOAT)}, in_float64(made(DOUBLE)), rtol=5e-5)


# ---- refused ---------------------------------------------------------------------------------------------------------


def quantised(elem: int, **attrs: Any) -> list[NodeProto]:
    made = node("QuantizeLinear", "x s", "q", axis=1, output_dtype=elem, **attrs)
    return [made, node("DequantizeLinear", "q s", "h", axis=1, **attrs)]


REFUSED = [
    ([node("Hardmax", "x", "h")], {}, "Hardmax .*no derivative"),
    ([node("ReduceMax", "x", "top", keepdims=0), node("Clip", "x _ top", "h")], {}, "Clip .*depends on the input"),
    ([node("Pow", "x x", "h")], {}, "Pow .*depends on the input"),
    (quantised(TensorProto.FLOAT8E4M3FN), {"s": np.float32(1)}, "QuantizeLinear .*a type that is not an integer"),
    (quantised(TensorProto.INT8, block_size=2), {"s": np.ones((2, 2), FLOAT)}, "QuantizeLinear .*a scale for each block"),
]


@pytest.mark.parametrize(("nodes", "constants", "message"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_refused(nodes, constants, message):
    quantises = nodes[0].op_type == "QuantizeLinear"
    proto, _ = classifier(nodes, (2, 4), constants, FLOAT if quantises else DOUBLE, opset=21 if quantises else 17)
    with pytest.raises(Unsupported, match=message):
        onnxdtd.compile(proto, "gradient")


def test_every_derivative_is_tested():
    others = {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "Softmax", "LogSoftmax", "LRN", "ReduceL2"}
    others |= {"ReduceL1", "ReduceSumSquare", "QuantizeLinear", "RMSNormalization", "LpNormalization"}
    elsewhere = {"Normalizer", "LpPool", "GlobalLpPool", "ReduceProd", "ReduceLogSum"}  # in modules of their own
    known = {op for op, entry in OPERATORS.items() if entry.slope or entry.jacobian}
    assert known == {curve.op for curve in CURVES} | others | elsewhere
