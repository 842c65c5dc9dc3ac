"""Every rule on every kind of layer against the oracle; the rule files, ours and a user's, and every mistake in them.

A layer's dense matrix is read off by running the operator itself on unit vectors. All data are multiples of 1/8 and every
sum is exact, so a denominator is 0 here exactly where it is in the oracle, and only divisions round.
"""

# ruff: noqa: N803, N806  (W, R, ... are the letters of the papers)

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnx
import oracle
import pytest
from hypothesis import assume, given, settings
from nets import DOUBLE, FLOAT, Bench, Session, assert_near, eighths, geometries, integers, model, node, run
from onnx import NodeProto
from oracle import Rule
from pairs import pairs

import onnxdtd
from onnxdtd.compiler import compile as compiler
from onnxdtd.compiler import steps
from onnxdtd.errors import RequestError, RuleError
from onnxdtd.method import propagate as rules
from onnxdtd.method.division import Division
from onnxdtd.method.preset import LayerFacts
from onnxdtd.method.propagate import adjoints, propagate
from onnxdtd.method.rule import Rule as RuleData
from onnxdtd.method.terms import Context
from onnxdtd.method.toml import Library
from onnxdtd.operators.layer import Layer
from onnxdtd.operators.linear import followed_by
from onnxdtd.operators.table import OPERATORS
from onnxdtd.request import Request

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
    "gradient": lambda C: lambda x, W, b, R: W @ R,
    "epsilon": lambda C: partial(oracle.epsilon, eps=1e-6),
    "epsilon(epsilon=0.25)": lambda C: partial(oracle.epsilon, eps=0.25),
    "epsilon(epsilon=0)": lambda C: partial(oracle.epsilon, eps=0),
    "gamma": lambda C: partial(oracle.gamma, gamma=0.25),
    "gamma(gamma=2)": lambda C: partial(oracle.gamma, gamma=2),
    "alpha-beta": lambda C: partial(oracle.alpha_beta, alpha=2, beta=1),
    "alpha-beta(alpha=1, beta=0)": lambda C: partial(oracle.alpha_beta, alpha=1, beta=0),
    "alpha-beta(alpha=1.5, beta=0.5)": lambda C: partial(oracle.alpha_beta, alpha=1.5, beta=0.5),
}


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
    context = Context(lambda tensor: nonnegative and tensor is not layer.y, lambda tensor: bounds)
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


@pytest.mark.parametrize("reference", [name for name in RULES if name not in ("flat", "w2", "gradient")])
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
    for reference in ("z", "z+", "w2", "gamma", "alpha-beta", "epsilon(epsilon=0)"):
        assert np.isfinite(relevances(case, LIBRARY.rule(reference), True, {"x": x}, np.ones((2, 4)))).all(), reference


def test_what_is_known_to_be_positive_costs_fewer_nodes():
    bench = CASES["Conv"].bench()
    counts = []
    for nonnegative in (True, False):
        e = Bench(bench.proto).e
        layer = OPERATORS["Conv"].linear(e, bench.nodes[0], lambda t: t.name == "x")
        context = Context(lambda tensor, known=nonnegative: known, lambda tensor: None)
        (share,) = propagate(e, layer, LIBRARY.rule("z+"), bench.input("R", layer.y), context)
        counts.append([n.op_type for n in e.live([share])[0]].count("Conv"))
    assert counts == [2, 3]  # the adjoints of the two parts are one, having few channels


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


# ---- the rules that come with onnxdtd --------------------------------------------------------------------------------


def test_every_rule_has_an_oracle_and_words():
    assert {reference.split("(")[0] for reference in RULES} == set(LIBRARY.rules)
    for name in LIBRARY.rules:
        rule = LIBRARY.rule(name)
        assert rule.equation.startswith("R_i = ")
        assert rule.domain
        assert rule.source


def test_every_preset_has_a_title_and_a_rule_for_every_layer():
    for preset in LIBRARY.presets.values():
        assert preset.title
        assert preset.source
        assert preset.selectors[-1].matches(LayerFacts("any", "Conv", "conv", False, False))


PARAMETERS = ["epsilon(epsilon=1e-9)", "epsilon(epsilon=0)", "gamma(gamma=0.1)", "gamma(gamma=1234567)"]
PARAMETERS += ["gamma(gamma=0.3333333333333333)", "alpha-beta(alpha=1.0000001, beta=0.0000001)"]


@pytest.mark.parametrize("reference", [*RULES, *PARAMETERS])
def test_a_rule_in_words_selects_it_again(reference):
    rule = LIBRARY.rule(reference)
    assert LIBRARY.rule(str(rule)) == rule


@pytest.mark.parametrize("reference", [" gamma ", "gamma()", "gamma( gamma = 0.25 )", "gamma(gamma=25e-2,)"])
def test_spaces_and_empty_parentheses_do_not_matter(reference):
    assert LIBRARY.rule(reference) == LIBRARY.rule("gamma")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("", "no rule"),
        ("zplus", "no rule 'zplus'; there are w2, z, z+"),
        ("gamma(gamma=0.1", "no rule"),
        ("gamma(0.1)", "name=number"),
        ("gamma(gamma=big)", "name=number"),
        ("gamma(epsilon=1)", "no parameter 'epsilon'; it has gamma"),
        ("z(gamma=1)", "no parameter 'gamma'; it has none"),
        ("gamma(gamma=-1)", "not negative"),
        ("epsilon(epsilon=-1e-6)", "not negative"),
        ("epsilon(epsilon=nan)", "finite"),
        ("epsilon(epsilon=inf)", "finite"),
        ("alpha-beta(alpha=2)", None),
        ("alpha-beta(alpha=3)", "must be 1"),
        ("alpha-beta(alpha=2, beta=0)", "must be 1"),
    ],
)
def test_a_reference_to_a_rule_that_is_wrong(reference, message):
    if message is None:
        LIBRARY.rule(reference)
        return
    with pytest.raises(RuleError, match=re.escape(message)) as caught:
        LIBRARY.rule(reference, "--set conv1=...")
    assert str(caught.value).startswith("--set conv1=...")


# ---- a user's own file -----------------------------------------------------------------------------------------------


@pytest.fixture
def library() -> Library:
    return Library()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


SAME = [  # spelled out by a user, built in
    ('terms = ["x w"]', "z"),
    ('direction = "x"', "z"),
    ('terms = ["1 w2"]', "w2"),
    ('direction = ["1 w"]', "w2"),
    ('terms = ["x+ w+", "x- w-"]', "z+"),
    ('terms = ["x-l w+", "x-h w-"]', "zB"),
    ('direction = ["1 1/w"]', "flat"),
    ('terms = ["x w"]\nbias = "b"\nepsilon = 1e-6', "epsilon"),
    ('terms = ["x w"]\nbias = "b"\nepsilon = "e"\nparams = { e = 1e-6 }', "epsilon"),
    ('branches = [{ terms = ["x w"] }]', "z"),
    (
        'branches = [{ scale = 2, terms = ["x+ w+", "x- w-"], bias = "b+" },\n'
        '            { scale = -1, terms = ["x+ w-", "x- w+"], bias = "b-" }]',
        "alpha-beta",
    ),
]


@pytest.mark.parametrize(("text", "built_in"), SAME)
def test_a_rule_of_a_file_that_says_the_same_is_the_same(text, built_in, library, tmp_path):
    library.load(write(tmp_path, f"[rule.mine]\n{text}\n"))
    mine, ours = library.rule("mine"), library.rule(built_in)
    assert (mine.branches, mine.epsilon) == (ours.branches, ours.epsilon)


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


def test_a_file_with_several_presets(library, tmp_path):
    first = '[preset.a]\ntitle = "A"\nlayers = [{ rule = "z" }]\n'
    path = write(tmp_path, first + '[preset.b]\nlayers = [{ first = true, rule = "w2" }, { rule = "z+" }]\n')
    assert library.preset(f"{path}:b").selectors[0].rule.name == "w2"
    assert Library().preset(f"{path}:a").title == "A"
    with pytest.raises(RuleError, match=r"has 2 presets \(a, b\); choose one as .*mine.toml:NAME"):
        Library().preset(str(path))
    with pytest.raises(RuleError, match=r"no preset 'c' in it; it has a, b"):
        Library().preset(f"{path}:c")


def test_settings_come_before_the_preset_and_the_last_wins(library):
    preset = library.overridden(library.preset("dtd"), ["conv*=z", "conv1=gamma(gamma=0.1)"])
    facts = lambda name: LayerFacts(name, "Conv", "conv", False, False)
    assert [str(preset.rule(facts(name))) for name in ("conv1", "conv2", "fc")] == ["gamma(gamma=0.1)", "z", "z+"]


LAYERS = "layers = [{ rule = 'z' }]"
BAD = [  # file, what the message says, the entry that it names
    ("[rule.a", "not a TOML file", ""),
    ("\udcff", "not a TOML file", ""),
    ("rule = 1", "write [rule.NAME] tables", ""),
    ("[rule]\na = 1", "write [rule.NAME] tables", ""),
    ("[[preset]]", "write [preset.NAME] tables", ""),
    ("[rules.a]", "rules", ""),
    ("[rule.a]", "needs either terms or direction", "[rule.a]"),
    ("[rule.a]\nterm = ['x w']", "term", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\ndirection = ['x']", "needs either terms or direction", "[rule.a]"),
    ("[rule.a]\nterms = []", "no terms", "[rule.a]"),
    ("[rule.a]\nterms = 1", "terms is a string or a list of strings", "[rule.a]"),
    ("[rule.a]\nterms = [1]", "terms is a string or a list of strings", "[rule.a]"),
    ("[rule.a]\nterms = ['y w']", "cannot read 'y w'", "[rule.a]"),
    ("[rule.a]\nterms = ['x v']", "cannot read 'x v'", "[rule.a]"),
    ("[rule.a]\nterms = ['x']", "cannot read 'x'", "[rule.a]"),
    ("[rule.a]\nterms = ['w x']", "cannot read 'w x'", "[rule.a]"),
    ("[rule.a]\nterms = ['x w>0']", "cannot read 'x w>0'", "[rule.a]"),
    ("[rule.a]\ndirection = ['x w+']", "cannot read 'x w+'", "[rule.a]"),
    ("[rule.a]\nterms = ['x w~+']", "needs a parameter gamma", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nbias = 'c'", "bias is one of b, b+, b-", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nepsilon = 'e'", "'e' is neither a number nor a parameter", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nepsilon = -1", "epsilon", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\ndivide = 1", "divide is true or false", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = 1", "params maps names to numbers", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { g = 'x' }", "params maps names to numbers", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { g = -1 }", "not negative", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { g = inf }", "finite", "[rule.a]"),
    ("[rule.a]\nbranches = 'x'", "branches is a list of tables", "[rule.a]"),
    ("[rule.a]\nbranches = [1]", "branches is a list of tables", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nbranches = [{ terms = ['x w'] }]", "branches", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], sign = 1 }]", "sign", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], when = 'x>0' }]", "when is one of y>0, y<0", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], scale = 's' }]", "'s' is neither a number nor a parameter", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], scale = 2 }]", "must be 1", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], scale = 2 }, { terms = ['x w'], scale = 1 }]", "must be 1", "[rule.a]"),
    ("[rule.z]\nterms = ['x w']", "there is a rule of this name already", "[rule.z]"),
    ("[rule.a]\nterms = ['x w']\n[rule.a]\nterms = ['x w']", "not a TOML file", ""),
    (f"[preset.dtd]\n{LAYERS}", "there is a preset of this name already", "[preset.dtd]"),
    ("[preset.p]", "needs layers", "[preset.p]"),
    ("[preset.p]\nlayers = []", "needs layers", "[preset.p]"),
    ("[preset.p]\nlayers = ['z']", "needs layers", "[preset.p]"),
    ("[preset.p]\nlayers = { rule = 'z' }", "needs layers", "[preset.p]"),
    (f"[preset.p]\nname = 'p'\n{LAYERS}", "name", "[preset.p]"),
    ("[preset.p]\nlayers = [{ rule = 'z' }, { first = true }]", "needs a rule", "[preset.p], entry 2"),
    ("[preset.p]\nlayers = [{ rule = 1 }]", "needs a rule", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'zz' }]", "no rule 'zz'", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'gamma(gamma=-1)' }]", "not negative", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'alpha-beta(alpha=3)' }]", "must be 1", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', first = 1 }]", "first is true or left out", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', bounds = 'yes' }]", "bounds is true or left out", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', family = 'convolution' }]", "no layer has family", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', op = ['Relu'] }]", "no layer has op 'Relu'", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', op = 1 }]", "op is a string or a list of strings", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', name = 1 }]", "name is a string", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', kind = 'conv' }]", "kind", "[preset.p], entry 1"),
    (
        f"[preset.p]\nderivative = 'x g'\n{LAYERS}",
        'instead of derivative write method = "gradient" and finish = "x g"',
        "[preset.p]",
    ),
    ("[rule.'a b']\nterms = ['x w']", "cannot be chosen", "[rule.a b]"),
    (f"[rule.a]\nterms = ['x w']\nepsilon = 1{'0' * 400}", "is neither a number nor a parameter", "[rule.a]"),
    (f"[rule.a]\nterms = ['x w']\nparams = {{ g = 1{'0' * 400} }}", "params maps names to numbers", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { g = true }", "params maps names to numbers", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { g = 1 }", "the parameter 'g' is used nowhere", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nparams = { gamma = 1 }", "the parameter 'gamma' is used nowhere", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nepsilon = nan", "nan is not finite", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nepsilon = true", "True is neither a number nor a parameter", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\nepsilon = 1e-40", "epsilon = 1e-40 is neither 0 nor between 1e-30", "[rule.a]"),
    ("[rule.a]\nterms = ['x w~+']\nparams = { gamma = 1e39 }", "gamma = 1e+39 is neither 0 nor", "[rule.a]"),
    ("[rule.a]\nterms = ['x w', '-x w']", "x w is both added and taken off", "[rule.a]"),
    ("[rule.a]\nbranches = []", "branches is a list of tables", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = ['x w'], scale = nan }]", "nan is not finite", "[rule.a]"),
    ("[rule.a]\nbranches = [{ terms = 'x w', when = 'y>0' }]", "has no branch where y<0", "[rule.a]"),
    (
        "[rule.a]\nbranches = [{ terms = 'x w' }, { terms = 'x w+', when = 'y>0' }, { terms = 'x w-', when = 'y<0' }]",
        "1 + 1 must be 1 where y>0",
        "[rule.a]",
    ),
    ("[rule.a]\nbranches = [{ terms = 'x w', scale = 0.5 }, { terms = 'x', scale = 0.5 }]", "read 'x'", "[rule.a], branch 2"),
    ("[rule.a]\nterms = ['x w']\ndivide = false\nbias = 'b'", "divide = false leaves no denominator", "[rule.a]"),
    ("[rule.a]\nterms = ['x w']\ndivide = false\nepsilon = 1", "divide = false leaves no denominator", "[rule.a]"),
    ("[rule.a]\ndirection = ['x']\ndivide = false", "divide = false leaves no denominator", "[rule.a]"),
    ("[preset.p]\nlayers = [{ rule = 'z', rule = 'z' }]", "not a TOML file", ""),
    ("[preset.p]\nlayers = [{ rule = 'gamma(gamma=1, gamma=2)' }]", "has gamma twice", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'gamma(gamma=1e-39)' }]", "gamma = 1e-39 is neither 0 nor", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', first = false }]", "first is true or left out", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', bounds = true }]", "bounds = true needs first = true", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', op = [] }]", "op is empty", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z', name = '' }]", "name is empty", "[preset.p], entry 1"),
    ("[preset.p]\nlayers = [{ rule = 'z' }, { rule = 'z+', op = 'Conv' }]", "is never reached", "[preset.p], entry 2"),
    (
        "[preset.p]\nlayers = [{ rule = 'z', op = ['Gemm', 'Conv'] }, { rule = 'w2' , name = 'a', op = 'Conv' }]",
        "is never reached, since entry 1 takes every layer that it matches",
        "[preset.p], entry 2",
    ),
    ("[preset.p]\nlayers = [{ rule = 'w2', first = true }, { rule = 'gradient' }]", "does not divide", "[preset.p], entry 2"),
    (
        "[preset.p]\nmethod = 'gradient'\nlayers = [{ rule = 'gradient', first = true }, { rule = 'z' }]",
        "divides",
        "[preset.p], entry 2",
    ),
    ("[preset.p]\ntitle = 1\nlayers = [{ rule = 'z' }]", "title", "[preset.p]"),
]


@pytest.mark.parametrize(("text", "message", "entry"), BAD, ids=[text for text, _, _ in BAD])
def test_a_mistake_in_a_file(text, message, entry, library, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RuleError, match=re.escape(message)) as caught:
        library.load(path)
    assert str(caught.value).startswith(f"{path}, {entry}" if entry else f"{path}")


NET = model(
    [node("Gemm", "x w1", "a"), node("Relu", "a", "r"), node("Gemm", "r w2", "y")],
    {"x": ["n", 3]},
    ["y"],
    {"w1": np.ones((3, 4), np.float32), "w2": np.ones((4, 2), np.float32)},
)


@pytest.mark.parametrize("entry", ["name = 'conv*'", "op = 'Conv'", "op = 'Gemm', name = 'b'", "op = 'LayerNormalization'"])
def test_an_entry_that_matches_nothing_is_a_note(entry, tmp_path):
    """A file is for many models."""
    path = write(
        tmp_path, f"[preset.p]\nlayers = [{{ rule = 'w2', {entry} }}, {{ rule = 'z', family = 'conv' }}, {{ rule = 'z' }}]"
    )
    job = compiler.prepare(NET, Request(preset=str(path)))
    assert job.plan.notes == [f"{path}, [preset.p], entry 1: matches no layer of this model"]
    assert [str(step.rule) for step in job.plan.steps if step.rule] == ["z", "z"]


def test_a_setting_in_the_shadow_of_others_is_a_note():
    job = compiler.prepare(NET, Request(settings=["a_node=z", "*=epsilon"]))
    assert job.plan.notes == ["--set a_node=z: decides on no layer of this model, since others that match come first"]


def test_what_matches_is_not_noted(tmp_path):
    path = write(tmp_path, "[preset.p]\nlayers = [{ rule = 'w2', name = 'y_*' }, { rule = 'z+', op = 'Gemm' }]")
    assert compiler.prepare(NET, Request(preset=str(path))).plan.notes == []
    assert compiler.prepare(NET, Request(preset="dtd", low=0.0, high=1.0)).plan.notes == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [("conv1=z", "; its layers are 'a_node', 'y_node'"), ("ynode=z", "; did you mean 'y_node', 'a_node'?"), ("r_*=z", None)],
)
def test_a_setting_that_matches_nothing(setting, message):
    with pytest.raises(RuleError, match=re.escape(f"--set {setting}: matches no layer of this model" + (message or ""))):
        onnxdtd.compile(NET, settings=[setting])


def test_a_name_with_brackets_means_itself():
    """As names of layers in lists have them; a glob would take them for a set of letters."""
    net = onnx.ModelProto()
    net.CopyFrom(NET)
    net.graph.node[0].name = "layers[0]"
    steps = compiler.prepare(net, Request(settings=["layers[0]=z"])).plan.steps
    assert [str(step.rule) for step in steps if step.rule] == ["z", "z+"]


NORMED = model(
    [node("LayerNormalization", "x g", "n"), node("Gemm", "n w", "y")],
    {"x": ["n", 3]},
    ["y"],
    {"g": np.ones(3, np.float32), "w": np.ones((3, 2), np.float32)},
)


HELD = "method = 'gradient'\ntreatments = { LayerNormalization = 'constant' }"


@pytest.mark.parametrize("method", ["", HELD], ids=["lrp", "gradient"])
def test_every_operator_that_a_rule_decides_can_be_chosen(method, tmp_path):
    rule = "gradient" if method else "flat"
    path = write(
        tmp_path, f"[preset.p]\n{method}\nlayers = [{{ rule = '{rule}', op = 'LayerNormalization' }}, {{ rule = '{rule}' }}]"
    )
    assert compiler.prepare(NORMED, Request(preset=str(path))).plan.notes == []


@pytest.mark.parametrize(("method", "op"), [("", "Softmax"), ("method = 'gradient'", "LayerNormalization"), (HELD, "Relu")])
def test_no_operator_can_be_chosen_that_no_rule_decides(method, op, tmp_path):
    path = write(tmp_path, f"[preset.p]\n{method}\nlayers = [{{ rule = 'z', op = '{op}' }}, {{ rule = 'z' }}]")
    with pytest.raises(RuleError, match=rf"\[preset.p\], entry 1: no layer has op '{op}'"):
        Library().preset(str(path))


DIVISION = [  # a preset, what --set asks for in it, what the message says
    (
        "gradient",
        "a_node=z",
        "the rule z divides, but the preset gradient (method gradient) walks a gradient and takes rules that do not",
    ),
    ("sensitivity", "*=epsilon", "the rule epsilon divides"),
    (
        "dtd",
        "a_node=gradient",
        "the rule gradient does not divide, but the preset dtd (method lrp) walks relevance and takes rules that do",
    ),
]


@pytest.mark.parametrize(("preset", "setting", "message"), DIVISION)
def test_a_setting_of_the_other_kind(preset, setting, message):
    with pytest.raises(RuleError, match=re.escape(f"--set {setting}: {message}")):
        onnxdtd.compile(NET, preset, settings=[setting])


def test_the_way_out_of_rules_that_do_not_divide():
    """Presets that walk a gradient take them, as the message says."""
    compiled = onnxdtd.compile(NET, "gradient", settings=["a_node=gradient"])
    x = np.asarray([[1, 2, 3]], np.float32)
    np.testing.assert_array_equal(Session(compiled)(x=x)["relevance"], np.full((1, 3), 4.0))


def test_a_layer_that_no_selector_matches(tmp_path):
    path = write(tmp_path, "[preset.p]\nlayers = [{ rule = 'z', name = 'a*' }]")
    with pytest.raises(RuleError, match=r"preset p: no entry matches the layer 'y_node' \(Gemm\)"):
        onnxdtd.compile(NET, str(path))


@pytest.mark.parametrize(
    ("preset", "settings", "bounds", "message"),
    [
        ("dtd", ["y_node=zB"], {"low": 0, "high": 1}, "only the first layer has them"),
        ("dtd", ["a_node=zB"], {}, "give --low and --high"),
        ("dtd", [], {"low": 1, "high": 1}, "must be below high"),
        ("dtd", [], {"low": 0}, "both bounds"),
        ("dtd", [], {"low": 0, "high": "x"}, "neither a number"),
        ("dtd", [], {"low": 0, "high": float("nan")}, "finite"),
        ("dtd", [], {"low": [0, 0], "high": 1}, "2 values"),
        ("dtd", [], {"low": np.zeros((3, 3)), "high": 1}, "shape"),
    ],
)
def test_bounds_that_do_not_fit(preset, settings, bounds, message):
    with pytest.raises(RequestError, match=message):
        onnxdtd.compile(NET, preset, settings=settings, **bounds)


@pytest.mark.parametrize("setting", ["z", "=z", "a_node=", ""])
def test_a_setting_that_cannot_be_read(setting):
    with pytest.raises(RuleError, match="write NODE-GLOB=RULE"):
        onnxdtd.compile(NET, settings=[setting])


@pytest.mark.parametrize("preset", ["nosuch", "nosuch.toml", "nosuch.toml:a"])
def test_a_preset_that_is_not_there(preset):
    with pytest.raises(RuleError, match="nosuch"):
        onnxdtd.compile(NET, preset)


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
    "weights of both signs": ("weight_of", lambda e, slot, symbol, gamma: slot.w, "z+"),
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
