"""Every rule on every kind of layer against the oracle.

A layer's dense matrix is read off by running the operator itself on unit vectors. All data are multiples of 1/8 and every
sum is exact, so a denominator is 0 here exactly where it is in the oracle, and only divisions round.
"""

# ruff: noqa: N803, N806  (W, R, ... are the letters of the papers)

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import oracle
import pytest
from hypothesis import assume, given, settings
from nets import DOUBLE, FLOAT, Bench, Session, assert_near, eighths, geometries, integers, model, node, run
from onnx import NodeProto
from oracle import Rule
from pairs import pairs

import onnxdtd
from onnxdtd.compiler import steps
from onnxdtd.method import propagate as rules
from onnxdtd.method.division import Division
from onnxdtd.method.propagate import adjoints, propagate
from onnxdtd.method.rule import Rule as RuleData
from onnxdtd.method.terms import Context
from onnxdtd.method.toml import Library
from onnxdtd.operators.layer import Layer
from onnxdtd.operators.linear import followed_by
from onnxdtd.operators.table import OPERATORS

LIBRARY = Library()
LOW, HIGH = -1.25, 1.5  # around all inputs
TOLERANCE = 2e-6  # float32, relative to the largest relevance

Box = dict[str, Any]
RULES: dict[str, Callable[[np.ndarray], Rule]] = {  # given the connections [I, J] of the layer
    "w2": lambda C: oracle.w2,
    "z": lambda C: oracle.z,
    "z+": lambda C: oracle.z_plus,
    "zB": lambda C: partial(oracle.z_box, low=LOW, high=HIGH),
    "flat": lambda C: partial(oracle.flat, C=C),
    "abs": lambda C: oracle.absolute,
    "gradient": lambda C: lambda x, W, b, R: W @ R,
    "epsilon": lambda C: partial(oracle.epsilon, eps=1e-6),
    "epsilon(epsilon=0.25)": lambda C: partial(oracle.epsilon, eps=0.25),
    "epsilon(epsilon=0)": lambda C: partial(oracle.epsilon, eps=0),
    "gamma": lambda C: partial(oracle.gamma, gamma=0.25),
    "gamma(gamma=2)": lambda C: partial(oracle.gamma, gamma=2),
    "alpha-beta": lambda C: partial(oracle.alpha_beta, alpha=2, beta=1),
    "alpha-beta(alpha=1, beta=0)": lambda C: partial(oracle.alpha_beta, alpha=1, beta=0),
    "alpha-beta(alpha=1.5, beta=0.5)": lambda C: partial(oracle.alpha_beta, alpha=1.5, beta=0.5),
    "z+ else w2": lambda C: oracle.completed(oracle.z_plus, lambda x, W, b: oracle.products(x, W)[0], oracle.w2),
    "z else w2": lambda C: oracle.completed(oracle.z, lambda x, W, b: sum(oracle.products(x, W)), oracle.w2),
    "zB else flat": lambda C: oracle.completed(
        partial(oracle.z_box, low=LOW, high=HIGH),
        lambda x, W, b: oracle.products(x - LOW, oracle.pos(W))[0] + oracle.products(x - HIGH, oracle.neg(W))[0],
        partial(oracle.flat, C=C),
    ),
    "z+ else w2 else flat": lambda C: oracle.completed(
        oracle.z_plus,
        lambda x, W, b: oracle.products(x, W)[0],
        oracle.completed(oracle.w2, lambda x, W, b: (W * W).sum(axis=0), partial(oracle.flat, C=C)),
    ),
    "alpha-beta else w2": lambda C: oracle.alpha_beta_completed(oracle.w2, alpha=2, beta=1),
    "gamma else w2": lambda C: oracle.completed(partial(oracle.gamma, gamma=0.25), gamma_total, oracle.w2),
}


def gamma_total(x: np.ndarray, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The denominator of gamma with γ = 0.25, which favours what has the sign of y, and has none where that is 0."""
    plus, minus = oracle.products(x, W)
    y = plus + minus + b
    return (y != 0) * (y + 0.25 * np.where(y > 0, plus + oracle.pos(b), minus + oracle.neg(b)))


# ---- rules on layers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A layer: its nodes (h to y where there are several), the shapes of its inputs for two samples, its weights."""

    nodes: list[NodeProto]
    x: Sequence[int]
    weights: dict[str, Any] = field(default_factory=dict)
    z: Sequence[int] | None = None
    dtype: np.dtype = FLOAT

    @property
    def shapes(self) -> dict[str, Sequence[int]]:
        return {"x": self.x} | ({} if self.z is None else {"z": self.z})

    def bench(self, ones: bool = False) -> Bench:
        """The model; with ``ones`` in place of its first weight and no bias: the connections."""
        rng = np.random.default_rng(5)
        arrays = {name: eighths(rng, *v, dtype=self.dtype) if isinstance(v, tuple) else v for name, v in self.weights.items()}
        if ones:
            arrays = {name: np.full_like(v, name in ("w", "gain", "var")) for name, v in arrays.items()}
        return Bench(model(self.nodes, self.shapes, ["y"], arrays, self.dtype))

    @cached_property
    def dense(self) -> oracle.Layer:
        """The matrix and bias for one sample, inputs side by side."""
        return self._probed(ones=False)

    @cached_property
    def connections(self) -> np.ndarray:
        """[I, J], 1 where an output reads an input."""
        return self._probed(ones=True).C

    def _probed(self, ones: bool) -> oracle.Layer:
        """Batch entries are probed two at a time."""
        session, sizes = Session(self.bench(ones).proto), [int(np.prod(shape[1:])) for shape in self.shapes.values()]

        def f(points: np.ndarray) -> np.ndarray:
            twos = np.concatenate([points, points[: len(points) % 2]]).astype(self.dtype)
            found = []
            for pair in twos.reshape(-1, 2, sum(sizes)):
                parts = np.split(pair, np.cumsum(sizes)[:-1], axis=1)
                feeds = {name: part.reshape(self.shapes[name]) for name, part in zip(self.shapes, parts, strict=True)}
                found.append(session(**feeds)["y"].reshape(2, -1))
            return np.concatenate(found)[: len(points)]

        W, b = oracle.matrix(f, [sum(sizes)])
        return oracle.Layer(W, b, (W != 0).astype(np.float64))


BN = {"gain": np.float32([2, -1, 0.5]), "shift": np.float32([0.5, 0, -1]), "mean": np.float32([0.25, -1, 0.5])}
BN |= {"var": np.float32([0.25, 1, 4])}
NORM = lambda x: node("BatchNormalization", f"{x} gain shift mean var", "y", epsilon=0.0)
CASES = {
    "Conv": Case([node("Conv", "x w b", "y", pads=[1, 0, 1, 1])], (2, 2, 4, 4), {"w": (3, 2, 3, 2), "b": (3,)}),
    "Conv stride": Case([node("Conv", "x w b", "y", strides=[2, 3])], (2, 2, 5, 7), {"w": (3, 2, 3, 3), "b": (3,)}),
    "Conv groups": Case([node("Conv", "x w b", "y", group=2)], (2, 4, 3, 3), {"w": (4, 2, 2, 2), "b": (4,)}),
    "Conv depthwise": Case([node("Conv", "x w b", "y", group=2, pads=[1] * 4)], (2, 2, 3, 3), {"w": (4, 1, 3, 3), "b": (4,)}),
    "Conv 1d": Case([node("Conv", "x w", "y", auto_pad="SAME_UPPER", dilations=[1])], (2, 3, 5), {"w": (2, 3, 2)}),
    "ConvTranspose": Case([node("ConvTranspose", "x w b", "y", strides=[2, 2])], (2, 3, 3, 2), {"w": (3, 2, 2, 3), "b": (2,)}),
    "Gemm": Case([node("Gemm", "x w b", "y", transB=1, alpha=0.5)], (2, 6), {"w": (4, 6), "b": (4,)}),
    "Gemm float64": Case([node("Gemm", "x w b", "y", transB=1)], (2, 6), {"w": (4, 6), "b": (4,)}, dtype=DOUBLE),
    "MatMul": Case([node("MatMul", "x w", "y")], (2, 6), {"w": (6, 4)}),
    "MatMul 3d": Case([node("MatMul", "x w", "y")], (2, 2, 6), {"w": (6, 4)}),
    "MatMul from the left": Case([node("MatMul", "w x", "y")], (2, 3, 2), {"w": (4, 3)}),
    "MatMul+Add": Case([node("MatMul", "x w", "h"), node("Add", "h b", "y")], (2, 6), {"w": (6, 4), "b": (4,)}),
    "AveragePool": Case([node("AveragePool", "x", "y", kernel_shape=[2, 2], pads=[1, 1, 1, 1])], (2, 2, 3, 3)),
    "GlobalAveragePool": Case([node("GlobalAveragePool", "x", "y")], (2, 2, 2, 4)),
    "ReduceMean": Case([node("ReduceMean", "x", "y", axes=[1, 2], keepdims=0)], (2, 2, 4)),
    "Add": Case([node("Add", "x z", "y")], (2, 6), z=(2, 6)),
    "Add repeated": Case([node("Add", "x z", "y")], (2, 3, 4), z=(2, 3, 1)),
    "Sub": Case([node("Sub", "x z", "y")], (2, 6), z=(2, 6)),
    "Add of a constant": Case([node("Add", "x b", "y")], (2, 6), {"b": (6,)}),
    "Mul": Case([node("Mul", "x w", "y")], (2, 6), {"w": (6,)}),
    "BatchNormalization": Case([NORM("x")], (2, 3, 4), BN),
    "Conv+BN": Case([node("Conv", "x w b", "h", pads=[1, 1]), NORM("h")], (2, 2, 4), {"w": (3, 2, 3), "b": (3,), **BN}),
    "Gemm+BN": Case([node("Gemm", "x w b", "h"), NORM("h")], (2, 4), {"w": (4, 3), "b": (3,), **BN}),
}  # fmt: skip


def layer_of(bench: Bench) -> Layer:
    """The layer that all nodes of a case together are."""
    active = lambda tensor: tensor.name in ("x", "z", "h", "y")
    layer = OPERATORS[bench.nodes[0].op].linear(bench.e, bench.nodes[0], active)
    for behind in bench.nodes[1:]:
        whole = followed_by(bench.e, layer, behind, active)
        assert whole is not None
        layer = whole
    return layer


def relevances(case: Case, rule: RuleData, nonnegative: bool, feeds: dict[str, np.ndarray], R: np.ndarray) -> np.ndarray:
    """The relevance [2, I] of the layer's inputs side by side, as onnxdtd computes it; None counts as 0."""
    bench = case.bench()
    e, layer = bench.e, layer_of(bench)
    bounds = tuple(e.constant(np.asarray(bound, case.dtype)) for bound in (LOW, HIGH))
    context = Context(lambda tensor: nonnegative and tensor.name in case.shapes, lambda tensor: bounds, lambda tensor: tensor)
    given = propagate(e, layer, rule, bench.input("R", layer.y), context)
    names = [slot.x.name for slot in layer.slots]
    outputs = {f"to {name}": tensor for name, tensor in zip(names, given, strict=True) if tensor is not None}
    found = bench.session(outputs)(**feeds, R=R.reshape([2, *layer.y.shape[1:]]).astype(case.dtype))
    return np.concatenate([found.get(f"to {name}", np.zeros_like(x)).reshape(2, -1) for name, x in feeds.items()], axis=1)


def inputs(case: Case, nonnegative: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {name: eighths(rng, *shape, low=0 if nonnegative else -1, dtype=case.dtype) for name, shape in case.shapes.items()}


def check(case: Case, reference: str, nonnegative: bool) -> None:
    dense = case.dense
    expected_rule = RULES[reference](case.connections)
    x = inputs(case, nonnegative)
    R = eighths(np.random.default_rng(9), 2, len(dense.b))
    flat = np.concatenate([value.reshape(2, -1) for value in x.values()], axis=1)
    expected = np.stack([expected_rule(flat[n], dense.W, dense.b, R[n]) for n in range(2)])
    actual = relevances(case, LIBRARY.rule(reference), nonnegative, x, R)
    assert_near(actual, expected, 1e-13 if case.dtype == DOUBLE else TOLERANCE)


@pytest.mark.parametrize(("name", "reference", "nonnegative"), pairs(list(CASES), list(RULES), [True, False]))
def test_rule_on_layer(name, reference, nonnegative):
    check(CASES[name], reference, nonnegative)


CHANNELS = [(1, 1, 2), (1, 3, 1), (2, 4, 2), (3, 3, 3)]  # groups, inputs, outputs
drawn = settings(max_examples=200, derandomize=True, deadline=None)


@drawn
@given(geometries(), st.sampled_from(CHANNELS), st.sampled_from(sorted(RULES)), st.booleans(), st.booleans(), st.booleans())
def test_rule_on_any_convolution(geometry, channels, reference, bias, normalised, nonnegative):
    size, kernel, attrs = geometry
    group, inputs, outputs = channels
    weights: dict[str, Any] = {"w": (outputs, inputs // group, *kernel)} | ({"b": (outputs,)} if bias else {})
    nodes = [node("Conv", "x w b" if bias else "x w", "h" if normalised else "y", group=group, **attrs)]
    if normalised:
        nodes.append(NORM("h"))
        weights |= {name: values[:outputs] for name, values in BN.items()}
    check(Case(nodes, (2, inputs, *size), weights), reference, nonnegative)


@drawn
@given(geometries(dilated=False), st.booleans(), st.sampled_from(sorted(RULES)), st.booleans())
def test_rule_on_any_average(geometry, include, reference, nonnegative):
    size, kernel, attrs = geometry
    if "auto_pad" in attrs:
        assume(all(s <= k for s, k in zip(attrs["strides"], kernel, strict=True)))  # ONNX Runtime refuses the others
    pool = node("AveragePool", "x", "y", kernel_shape=kernel, count_include_pad=int(include), **attrs)
    check(Case([pool], (2, 2, *size)), reference, nonnegative)


@drawn
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.booleans(),
    st.sampled_from([1.0, -1.0, 0.5]),
    st.sampled_from([0.0, 2.0]),
    st.sampled_from(sorted(RULES)),
    st.booleans(),
)
def test_rule_on_any_gemm(sizes, transposed, alpha, beta, reference, nonnegative):
    made = node("Gemm", "x w b", "y", transB=int(transposed), alpha=alpha, beta=beta)
    weights = {"w": sizes[::-1] if transposed else sizes, "b": (sizes[1],)}
    check(Case([made], (2, sizes[0]), weights), reference, nonnegative)


@pytest.mark.parametrize("nonnegative", [True, False], ids=["x>=0", "signed"])
@pytest.mark.parametrize("reference", RULES)
def test_nothing_is_redistributed_where_the_denominator_is_zero(reference, nonnegative):
    """Inputs that are 0 in whole windows, outputs with no weight above 0, weights and biases all 0: exact zeros, no NaN."""
    x = inputs(CASES["Conv"], nonnegative)["x"]
    x[:, :, :, :2] = 0
    w = eighths(np.random.default_rng(1), 3, 2, 3, 2)
    w[0], w[1] = 0, -np.abs(w[1])
    case = Case(CASES["Conv"].nodes, (2, 2, 4, 4), {"w": w, "b": np.float32([0, -1, 0])})
    dense = case.dense
    R = np.ones((2, len(dense.b)))
    expected_rule = RULES[reference](case.connections)
    expected = np.stack([expected_rule(x[n].ravel(), dense.W, dense.b, R[n]) for n in range(2)])
    actual = relevances(case, LIBRARY.rule(reference), nonnegative, {"x": x}, R)
    assert_near(actual, expected, TOLERANCE)
    assert np.all(actual[expected == 0] == 0)


@pytest.mark.parametrize(
    "reference", [name for name in RULES if " else " not in name and name not in ("flat", "w2", "gradient")]
)
def test_an_input_of_zeros_gets_zeros(reference):
    case = CASES["Gemm"]
    actual = relevances(case, LIBRARY.rule(reference), True, {"x": np.zeros((2, 6), np.float32)}, np.ones((2, 4)))
    assert np.isfinite(actual).all()
    if reference != "zB":
        assert not actual.any()


@pytest.mark.parametrize("size", [1e-45, 1e-39, 1e-30, 1e30])
def test_denominators_of_any_size_give_no_nan_and_no_infinity(size):
    case = CASES["MatMul"]
    x = inputs(case, nonnegative=True)["x"] * np.float32(size)
    for reference in ("z", "z+", "w2", "gamma", "alpha-beta", "epsilon(epsilon=0)", "z+ else w2"):
        assert np.isfinite(relevances(case, LIBRARY.rule(reference), True, {"x": x}, np.ones((2, 4)))).all(), reference


def test_what_is_known_to_be_positive_costs_fewer_nodes():
    bench = CASES["Conv"].bench()
    counts = []
    for nonnegative in (True, False):
        e = Bench(bench.proto).e
        layer = OPERATORS["Conv"].linear(e, bench.nodes[0], lambda t: t.name == "x")
        context = Context(lambda tensor, known=nonnegative: known, lambda tensor: None, lambda tensor: tensor)
        (share,) = propagate(e, layer, LIBRARY.rule("z+"), bench.input("R", layer.y), context)
        counts.append([n.op_type for n in e.live([share])[0]].count("Conv"))
    assert counts == [2, 3]  # the adjoints of the two parts are one, having few channels


def test_weights_known_to_be_positive_cost_half_the_products():
    """As those of attention: w⁻ is 0, and w⁺ and |w| are w."""
    proto = model([node("MatMul", "x w", "y")], {"x": (2, 6)}, ["y"], {"w": eighths(np.random.default_rng(3), 6, 4, low=0)})
    x, R = eighths(np.random.default_rng(4), 2, 6), eighths(np.random.default_rng(5), 2, 4)
    for name, before, after in (("z+", 4, 2), ("alpha-beta", 8, 4), ("abs", 2, 2)):
        found = []
        for known in ("", "w"):
            bench = Bench(proto)
            layer, context = layer_of(bench), Context(lambda t, known=known: t.name == known, lambda t: None, lambda t: t)
            (share,) = propagate(bench.e, layer, LIBRARY.rule(name), bench.input("R", layer.y), context)
            made = [n.op_type for n in bench.e.live([share])[0]]
            assert made.count("MatMul") + made.count("Gemm") == (after if known else before)
            assert not known or made.count("Min") + made.count("Abs") + made.count("Relu") <= 2, "of x alone"
            found.append(bench.session({"share": share})(x=x, R=R)["share"])
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 8, 9, 16])
@pytest.mark.parametrize("attrs", [{"pads": [1] * 4}, {"strides": [2, 2]}, {"group": 2}], ids=str)
def test_adjoints_of_several_weights_at_once_are_those_of_each(channels, attrs):
    group = attrs.get("group", 1)
    rng, seen = np.random.default_rng(channels), channels * group
    w = integers(rng, 4, channels, 3, 3)
    bench = Bench(model([node("Conv", "x w", "y", **attrs)], {"x": ["n", seen, 7, 7]}, ["y"], {"w": w}))
    e, layer = bench.e, OPERATORS["Conv"].linear(bench.e, bench.nodes[0], lambda t: t.name == "x")
    (slot,) = layer.slots
    s, weights = bench.input("R", layer.y), [slot.w, e("Relu", slot.w), e("Min", slot.w, 0.0)]
    together, apart = adjoints(e, slot, s, weights), [slot.adjoint(s, weight) for weight in weights]
    x = integers(rng, 2, seen, 7, 7)
    R = integers(rng, *run(bench.proto, x=x)["y"].shape)
    both = {f"{i}/{side}": t for i, two in enumerate(zip(together, apart, strict=True)) for side, t in enumerate(two)}
    found = bench.session(both)(x=x, R=R)
    for i in range(3):
        np.testing.assert_array_equal(found[f"{i}/0"], found[f"{i}/1"])
    assert (together[0] is not apart[0]) == (channels <= 8 and attrs == {"pads": [1] * 4})


# ---- rules of files ---------------------------------------------------------------------------------------------------


def test_every_rule_has_an_oracle_and_words():
    assert {reference.split("(")[0] for reference in RULES if " else " not in reference} == set(LIBRARY.rules)
    for name in LIBRARY.rules:
        rule = LIBRARY.rule(name)
        assert rule.equation.startswith("R_i = ")
        assert rule.domain
        assert rule.source


@pytest.fixture
def library() -> Library:
    return Library()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


EQUAL = [  # the same function, but not the same terms
    ('terms = ["x w", "-l w+", "-h w-"]', "zB"),
    ('direction = ["x", "-l w>0", "-h w<0"]', "zB"),
    ('terms = ["x w+", "x w-"]', "z"),
    ('terms = ["x+ w", "x- w"]', "z"),
    ('branches = [{ scale = 0.5, terms = ["x w"] }, { scale = 0.5, terms = ["x w"] }]', "z"),
    ('params = { a = 0.25 }\nbranches = [{ scale = "a", terms = "x w" }, { scale = 0.75, terms = "x w" }]', "z"),
]


@pytest.mark.parametrize("name", ["Conv stride", "Gemm", "AveragePool", "Add", "Sub", "Mul"])
@pytest.mark.parametrize(("text", "built_in"), EQUAL)
def test_a_rule_of_a_file_that_means_the_same_gives_the_same(text, built_in, name, library, tmp_path):
    library.load(write(tmp_path, f"[rule.mine]\n{text}\n"))
    case, R = CASES[name], np.random.default_rng(9)
    x = inputs(case, nonnegative=False)
    R = eighths(R, 2, len(case.dense.b))
    expected, actual = (relevances(case, library.rule(rule), False, x, R) for rule in (built_in, "mine"))
    assert_near(actual, expected, TOLERANCE)


@pytest.mark.parametrize("name", ["Add", "Sub", "Mul"])
def test_a_denominator_that_is_zero_before_run_time(name, library, tmp_path):
    """Σ w = 1 - 1 in a Sub: nothing is redistributed."""
    library.load(write(tmp_path, "[rule.mine]\nterms = ['1 w']\n"))
    case, R = CASES[name], np.ones((2, 6))
    expected = {"Add": np.full((2, 12), 0.5), "Sub": np.zeros((2, 12)), "Mul": np.ones((2, 6))}[name]
    actual = relevances(case, library.rule("mine"), False, inputs(case, False), R)
    if name == "Mul":
        expected = expected * (case.dense.W.diagonal() != 0)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("bounds", [(-1.0, 1.5), ([-1.0, -1.25], [1.0, 2.0])], ids=["numbers", "per channel"])
def test_bounds_as_terms_of_their_own(bounds, tmp_path):
    """x w - l w+ - h w- in a compiled model, where l and h are smaller than x: the same as zB."""
    path = write(tmp_path, '[rule.box]\nterms = ["x w", "-l w+", "-h w-"]\n[preset.p]\nlayers = [{ rule = "box" }]\n')
    rng = np.random.default_rng(0)
    nodes = [node("Conv", "x w", "h", pads=[1, 1, 1, 1]), node("GlobalAveragePool", "h", "g"), node("Flatten", "g", "y")]
    net = model(nodes, {"x": ["n", 2, 4, 4]}, ["y"], {"w": eighths(rng, 3, 2, 3, 3)})
    x = eighths(rng, 2, 2, 4, 4)
    settings = ["g_node=z+"]
    found = [
        Session(onnxdtd.compile(net, preset, settings=settings, low=bounds[0], high=bounds[1]))(x=x)["relevance"]
        for preset in ("dtd", f"{path}:p")
    ]
    assert_near(found[1], found[0], TOLERANCE)


# ---- the test itself -------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[str, Callable[..., Any], str]] = {
    "bias forgotten": ("denominator", lambda e, layer, *more: e("Sub", layer.y, layer.b), "epsilon"),
    "bias kept": ("denominator", lambda e, layer, *more: layer.y, "z"),
    "wrong side": ("selected", lambda e, relevance, y, when: e("Where", e("Less", y, 0.0), relevance, 0.0), "gamma"),
    "no stabiliser": (
        "divide",
        lambda e, relevance, z, *more: Division(e("Div", relevance, z), 1.0, list),
        "epsilon(epsilon=0.25)",
    ),
    "weights of both signs": ("operands", lambda e, slot, x, *more: (slot.x, slot.w), "z+"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_catches(fault, monkeypatch):
    function, faulty, reference = FAULTS[fault]
    check(CASES["Gemm"], reference, nonnegative=True)
    monkeypatch.setattr(rules, function, faulty)
    with pytest.raises(AssertionError):
        check(CASES["Gemm"], reference, nonnegative=True)


def test_compiler_and_this_file_propagate_alike():
    """The layers tested here come from the same registry as those of the compiler."""
    assert steps.propagate is propagate
