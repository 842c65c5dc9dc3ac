"""Shares of a difference between two points: through every operator they add up to it, or it is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from deeplift import Array
from derivatives import normal
from nets import DOUBLE, FLOAT, Session, assert_near, model, node
from onnx import ModelProto, NodeProto, numpy_helper
from operators.test_pointwise import CURVES, Curve
from operators.test_table import CASES, TESTED, Case

import onnxdtd
from onnxdtd.errors import Unsupported
from onnxdtd.operators.table import NORM, OPERATORS, POINTWISE, ROUTE

NO_SHARES = {"TopK", "ReduceProd", "LpPool", "LpNormalization", "QuantizeLinear"}
NO_SHARES |= {f"{op}.{way}" for op in ("ScatterElements", "ScatterND") for way in ("max", "min")}


def both(proto: ModelProto, preset: str = "deeplift-rescale", **feeds: Array) -> dict[str, Array]:
    """Run a model that is compiled for a baseline at run time."""
    return Session(onnxdtd.compile(proto, preset, target=0, baseline="input"))(**feeds)


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_functions(curve: Curve) -> None:
    """Each entry gets the difference of its own values, wherever both points lie."""
    rng = np.random.default_rng(4)
    low, high = int(np.ceil(curve.low * 64)), int(curve.high * 64)
    x, reference = ((rng.integers(low, high, (4, 3, 5)) / 64).astype(curve.dtype) for _ in range(2))
    reference[:, 0, :2] = x[:, 0, :2]
    if curve.op in ("Floor", "Ceil", "Round", "Sign", "Mod"):  # which jump
        reference[:, 0, 2] = x[:, 0, 2] + 1
    found = both(curve.model(15), x=x, baseline=reference)["relevance"]
    expected = (curve.f(x.astype(float)) - curve.f(reference.astype(float))) * curve.weight(15)[:, 0].reshape(3, 5)
    assert_near(found, expected, 1e-11 if curve.dtype == DOUBLE else 2e-6)


def test_differences_that_are_next_to_nothing() -> None:
    """Their quotient would be noise: the slope at the baseline takes its place, that of ReLU beside 0 included."""
    for dtype, tiny in ((FLOAT, 2.0**-26), (DOUBLE, 2.0**-55)):
        reference = np.array([[0.5, -0.25, 0.0, 0.125]], dtype)
        x = (reference + np.array([tiny, -tiny, 0, 0])).astype(dtype)
        w, one = np.array([[1.0], [1], [1], [1]], dtype), np.array([[1e6]], dtype)
        for op, slopes in (("Sigmoid", lambda z: 1 / (1 + np.exp(-z)) / (1 + np.exp(z))), ("Relu", lambda z: z > 0)):
            nodes = [node("Mul", "x m", "z"), node(op, "z", "h"), node("MatMul", "h w", "y")]
            proto = model(nodes, {"x": ["n", 4]}, ["y"], {"w": w, "m": one[0] / one[0]}, dtype)
            found = both(proto, x=x, baseline=reference)["relevance"]
            expected = (x - reference).astype(float) * slopes(reference.astype(float))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=tiny * 1e-3)


OTHERS = [op for op in TESTED if OPERATORS[op].kind != POINTWISE and op not in NO_SHARES | {"STFT"}]


@pytest.mark.parametrize("op", OTHERS)
def test_every_other_operator(op: str) -> None:
    """What arrives is all of the difference."""
    proto, x, reference = scored(op)
    found = both(proto, x=x, baseline=reference)
    difference = found["logit"] - found["logit_at_baseline"]
    shares = found["relevance"].reshape(len(x), -1).astype(float)
    assert np.isfinite(shares).all()
    assert (np.abs(shares.sum(1) - difference) <= 2e-6 * np.maximum(np.abs(shares).sum(1), np.abs(found["scores"]).max())).all()


@pytest.mark.parametrize("op", [op for op in OTHERS if OPERATORS[op].kind in (NORM, ROUTE)])
def test_close_points(op: str) -> None:
    """Shares are the derivative there, in the middle up to the square of the distance."""
    proto, x, away = scored(op)
    h = (1e-3 * np.sign(away) * (1 + np.abs(away))).astype(FLOAT)
    found = both(proto, x=x + h, baseline=x - h)["relevance"] / (2 * h)
    gradient = Session(onnxdtd.compile(proto, "gradient", target=0))(x=x)["relevance"]
    assert_near(found, gradient, 2e-3)


A, B = normal(2, 3, 3, dtype=FLOAT), normal(2, 3, 3, dtype=FLOAT, seed=1)
A0, B0 = normal(2, 3, 3, dtype=FLOAT, seed=2), normal(2, 3, 3, dtype=FLOAT, seed=3)
PRODUCTS = [("Mul", {}), ("Div", {}), ("MatMul", {}), ("Einsum", {"equation": "nij,nkj->nik"})]


@pytest.mark.parametrize(("op", "attrs"), PRODUCTS, ids=[op for op, _ in PRODUCTS])
@pytest.mark.parametrize("same", [False, True], ids=["two", "one"])
def test_products(op: str, attrs: dict[str, str], same: bool) -> None:
    """Of two factors each gets the mean of what it adds before and after the other, of a square all of it."""
    f = {"Mul": np.multiply, "Div": np.divide, "MatMul": np.matmul, "Einsum": lambda a, b: a @ b.transpose(0, 2, 1)}[op]
    if same and op == "Div":
        return
    nodes = [node(op, "a a" if same else "a b", "p", **attrs), node("Flatten", "p", "r"), node("MatMul", "r w", "y")]
    names, w = ["a"] if same else ["a", "b"], normal(9, 2, dtype=FLOAT, seed=4)
    proto = model(nodes, {name: ["n", 3, 3] for name in names}, ["y"], {"w": w})
    feeds = {"a": A, "b": B, "baseline/a": A0, "baseline/b": B0} if not same else {"a": A, "baseline": A0}
    found = both(proto, **feeds)
    score = lambda a, b: f(a.astype(float), b.astype(float)).reshape(2, 9) @ w[:, 0]
    shares = [found["relevance" if same else f"relevance/{name}"].astype(float).sum((1, 2)) for name in names]
    if same:
        assert_near(shares[0], score(A, A) - score(A0, A0), 1e-5)
    else:
        mean = (score(A, B) - score(A0, B) + score(A, B0) - score(A0, B0)) / 2
        assert_near(shares[0], mean, 1e-4)
        assert_near(shares[1], score(A, B) - score(A0, B0) - mean, 1e-4)


@pytest.mark.parametrize(
    ("x", "reference", "expected"),
    [
        ([3, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0]),  # has risen from the second's 2 to the first's 3
        ([0, 1, 0, 0], [3, 2, 0, 0], [-2, 0, 0, 0]),  # has fallen from the first's 3 to the second's 1
        ([1, 2, 0, 0], [2, 1, 0, 0], [0, 0, 0, 0]),  # other winners, the same result
        ([5, 0, 5, 0], [0, 0, 5, 0], [0, 0, 0, 0]),  # of equal ones the first wins, but nothing has changed
    ],
)
@pytest.mark.parametrize(("op", "sign"), [("MaxPool", 1), ("Max", 1), ("ReduceMax", 1), ("Min", -1), ("ReduceMin", -1)])
def test_the_winners_at_both_points(op: str, sign: int, x: Sequence[int], reference: Sequence[int], expected: object) -> None:
    point, other, w = (np.array([values], FLOAT) * sign for values in (x, reference, [4]))
    nodes: dict[str, list[NodeProto]] = {
        "MaxPool": [node("Unsqueeze", "x one", "u"), node("MaxPool", "u", "m", kernel_shape=[4]), node("Flatten", "m", "h")],
        "Max": [node("Split", "x", "a b c d", axis=1, num_outputs=4), node("Max", "a b c d", "h")],
        "Min": [node("Split", "x", "a b c d", axis=1, num_outputs=4), node("Min", "a b c d", "h")],
    }
    made = nodes.get(op, [node(op, "x one", "h", keepdims=1)])
    constants = {"w": w, "one": np.array([1])} if op not in ("Max", "Min") else {"w": w}
    proto = model([*made, node("MatMul", "h w", "y")], {"x": ["n", 4]}, ["y"], constants, opset=18)
    assert_near(both(proto, x=point, baseline=other)["relevance"], 4 * np.array([expected]), 1e-6)


def test_windows_that_overlap() -> None:
    """What several windows say of one entry adds up."""
    x, reference = np.array([[[1, 4, 2, 8]]], FLOAT), np.array([[[3, 1, 2, 2]]], FLOAT)
    nodes = [node("MaxPool", "x", "m", kernel_shape=[2]), node("Flatten", "m", "f"), node("MatMul", "f w", "y")]
    proto = model(nodes, {"x": ["n", 1, 4]}, ["y"], {"w": np.array([[1], [10], [100]], FLOAT)})
    found = both(proto, x=x, baseline=reference)["relevance"]
    np.testing.assert_allclose(found, [[[0, 1 * 1 + 2 * 10, 0, 6 * 100]]], rtol=1e-6)


def test_what_depends_on_a_choice_is_refused() -> None:
    """A mask by the sign of x, which may be another one at the baseline."""
    nodes = [node("Greater", "x zero", "c"), node("Where", "c x low", "h"), node("MatMul", "h w", "y")]
    constants = {"zero": np.zeros(1, FLOAT), "low": -np.ones(1, FLOAT), "w": normal(4, 2, dtype=FLOAT)}
    proto = model(nodes, {"x": ["n", 4]}, ["y"], constants)
    with pytest.raises(Unsupported, match="'c' chooses may be something else at the baseline"):
        onnxdtd.compile(proto, "deeplift-rescale")


@pytest.mark.parametrize("op", sorted(NO_SHARES))
def test_what_has_no_shares_is_refused(op: str) -> None:
    proto, *_ = scored(op)
    with pytest.raises(Unsupported, match=r"baseline|share of a difference|quantised|not known|derivative of"):
        onnxdtd.compile(proto, "deeplift-rescale")
    onnxdtd.compile(proto, "lrp-epsilon")


def scored(op: str) -> tuple[ModelProto, Array, Array]:
    """An operator with scores behind it, x, and a baseline."""
    case = CASES.get(op, Case())
    proto = case.proto(op)
    low, high = {"Acosh": (1.5, 3), "Asin": (-0.9, 0.9), "Acos": (-0.9, 0.9), "Atanh": (-0.9, 0.9)}.get(op, (-2.0, 2.0))
    low = 0.25 if op in ("Log", "Sqrt", "Reciprocal", "ReduceLogSum") else low
    rng = np.random.default_rng(6)
    x, reference = (rng.uniform(low, high, case.shape).astype(FLOAT) for _ in range(2))
    y = Session(proto)(x=x)["y"]
    proto.graph.output[0].name = "scores"
    w = rng.normal(size=(int(np.prod(y.shape[1:])), 2)).astype(FLOAT)
    proto.graph.initializer.append(numpy_helper.from_array(w, "weights"))
    last = "y"
    if op == "Cast":
        proto.graph.node.append(node("Cast", "y", "narrow", to=1))
        last = "narrow"
    if op == "QuantizeLinear":
        proto.graph.node.append(node("DequantizeLinear", "y s z", "real"))
        last = "real"
    proto.graph.node.extend([node("Flatten", last, "rows"), node("MatMul", "rows weights", "scores")])
    proto.graph.output[0].type.tensor_type.elem_type = 1
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    for size in (len(x), 2):
        proto.graph.output[0].type.tensor_type.shape.dim.add().dim_value = size
    return proto, x, reference
