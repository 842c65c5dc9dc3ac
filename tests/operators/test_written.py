"""One thing in every spelling: gradients against central differences in float64, LRP-0 against x times the gradient of the same
net with what counts as a constant fed to it, and a softmax written out as one that is not.
"""

from collections.abc import Sequence

import numpy as np
import pytest
from derivatives import check_numeric, normal, numeric, refused, relevances
from nets import DOUBLE, Bench, Session, Shape, assert_near, model, node
from onnx import ModelProto, NodeProto

import onnxdtd
from onnxdtd.compiler.compile import prepare
from onnxdtd.operators.written import in_one_form
from onnxdtd.request import Request

# ---- normalisation, however it is written ----------------------------------------------------------------------------

NUMBERS = {
    "two": 2.0,
    "four": 4.0,
    "minus_half": -0.5,
    "minus_two": -2.0,
    "eps": 1e-3,
    "zero": 0.0,
    "one": 1.0,
    "minus_one": -1.0,
}
ARRAYS = {"last": [2], "inner": [1], "shape": [2, 3, 4], "ones": [1.0, 1.0, 1.0, 1.0]}
SHAPES = {"g": (4,), "b": (4,), "v24": (2, 4), "ww": (4, 4), "w": (5, 4), "u": (12, 3)}
CONSTANTS = {n: np.asarray(v) for n, v in (NUMBERS | ARRAYS).items()} | {
    name: normal(*shape, seed=i) for i, (name, shape) in enumerate(SHAPES.items())
}
MEAN = [node("ReduceMean", "h", "m", axes=[2]), node("Sub", "h m", "c")]
MEAN_SQUARE = [node("Mul", "h h", "s"), node("ReduceMean", "s", "v", axes=[2]), node("Add", "v eps", "ve")]
VARIANCE = [*MEAN, node("Pow", "c two", "s"), node("ReduceMean", "s", "v", axes=[2]), node("Add", "v eps", "ve")]
FLAX = [
    node("ReduceMean", "h", "m", axes=[2]),
    node("Mul", "h h", "hh"),
    node("ReduceMean", "hh", "msq", axes=[2]),
    node("Mul", "m m", "mm"),
    node("Sub", "msq mm", "diff"),
    node("Max", "zero diff", "v"),
    node("Add", "v eps", "ve"),
]
ROOT = [node("Sqrt", "ve", "sd"), node("Reciprocal", "sd", "i")]
SCALED = [node("Mul", "i g", "k")]
LENGTH = node("ReduceL2", "h", "l", axes=[1], keepdims=1)
NORMS = {  # the nodes from h [2, 3, 4] to p, and what counts as a constant
    "x / sqrt(mean x²)": ([*MEAN_SQUARE, node("Sqrt", "ve", "sd"), node("Div", "h sd", "p")], "sd"),
    "x rsqrt(mean x²)": ([*MEAN_SQUARE, *ROOT, node("Mul", "h i", "n"), node("Mul", "g n", "p")], "i"),
    "x (mean x²)^-0.5": ([*MEAN_SQUARE, node("Pow", "ve minus_half", "i"), node("Mul", "i h", "p")], "i"),
    "1 / sqrt": ([*MEAN_SQUARE, node("Sqrt", "ve", "sd"), node("Div", "g sd", "i"), node("Mul", "i h", "p")], "i"),
    "(x - m) rsqrt(var) g": ([*VARIANCE, *ROOT, *SCALED, node("Mul", "c k", "n"), node("Add", "n b", "p")], "k"),
    "x i + (b - m i)": (
        [*VARIANCE, *ROOT, *SCALED, node("Mul", "h k", "hk"), node("Mul", "m k", "mk"), node("Sub", "b mk", "r"),
         node("Add", "hk r", "p")],
        "k",
    ),
    "max(0, E[x²] - E[x]²)": (
        [*FLAX, *ROOT, *SCALED, node("Sub", "h m", "c"), node("Mul", "c k", "n"), node("Add", "n b", "p")],
        "k",
    ),
    "l2_normalize": (
        [node("Mul", "h h", "s"), node("ReduceSum", "s last", "v"), node("Max", "v eps", "ve"), *ROOT, node("Mul", "h i", "p")],
        "i",
    ),
    "normalize": (
        [LENGTH, node("Clip", "l eps", "lc"), node("Expand", "lc shape", "le"), node("Div", "h le", "p")],
        "le",
    ),
    "global response": (
        [
            LENGTH,
            node("ReduceMean", "l", "lm", axes=[2]),
            node("Add", "lm eps", "le"),
            node("Div", "l le", "n"),
            node("Mul", "h n", "hn"),
            node("Mul", "hn g", "hg"),
            node("Add", "hg b", "hb"),
            node("Add", "h hb", "p"),
        ],
        "n",
    ),
    "x |x|": ([node("Abs", "h", "a"), node("Mul", "a h", "p")], "a"),
    "x f(x)": ([node("Mul", "h h", "s"), node("Add", "s one", "s1"), node("Log", "s1", "f"), node("Mul", "h f", "p")], "f"),
}  # fmt: skip


def net(made: Sequence[NodeProto], held: str = "", opset: int = 17) -> ModelProto:
    """x [n, 3, 5] -> h [n, 3, 4] -> the nodes -> p [n, 3, 4] -> three classes; ``held`` becomes an input."""
    nodes = [node("MatMul", "x w", "h"), *made, node("Flatten", "p", "rows"), node("MatMul", "rows u", "y")]
    nodes = [made for made in nodes if held not in made.output]
    used = {name for made in nodes for name in made.input}
    sizes: dict[str, Shape] = {"x": ["n", 3, 5]} | ({held: ["n", "a", "b"]} if held else {})
    return model(nodes, sizes, ["y"], {n: v for n, v in CONSTANTS.items() if n in used}, DOUBLE, opset)


@pytest.mark.parametrize("name", NORMS)
def test_a_normalisation_is_differentiated(name: str) -> None:
    check_numeric(net(NORMS[name][0]), {"x": normal(2, 3, 5)})


@pytest.mark.parametrize("name", NORMS)
def test_the_scale_of_a_normalisation_counts_as_a_constant(name: str) -> None:
    """By LRP-0 an input gets x times the gradient of the net that is given the scale; a mean that is subtracted is linear."""
    made, held = NORMS[name]
    x, proto = normal(2, 3, 5), net(made)
    found = relevances(proto, {"x": x}, "lrp-0", [], target=1)["x"]
    shown = ModelProto()
    shown.CopyFrom(proto)
    shown.graph.output.add().name = held
    session, scale = Session(net(made, held)), Session(shown)(x=x)[held]
    slope = numeric(lambda x: session(**{"x": x, held: scale})["y"][:, 1].sum(), {"x": x})["x"]
    assert_near(found, x * slope, 1e-7)


NO_LAYER_NORMS = {
    "mean x²": [*MEAN, node("Mul", "h h", "s"), node("ReduceMean", "s", "v", axes=[2]), node("Add", "v eps", "ve")],
    "other axes": [*MEAN, node("Mul", "c c", "s"), node("ReduceMean", "s", "v", axes=[1]), node("Add", "v eps", "ve")],
    "not the last": [
        node("ReduceMean", "h", "m", axes=[1]),
        node("Sub", "h m", "c"),
        node("Mul", "c c", "s"),
        node("ReduceMean", "s", "v", axes=[1]),
        node("Add", "v eps", "ve"),
    ],
    "mean (x - m)⁴": [
        *MEAN, node("Pow", "c four", "s"), node("ReduceMean", "s", "v", axes=[2]), node("Add", "v eps", "ve")
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", NO_LAYER_NORMS)
def test_what_is_no_layer_norm(name: str) -> None:
    """It is not taken for one, which would give another gradient."""
    made = [*NO_LAYER_NORMS[name], node("Sqrt", "ve", "sd"), node("Div", "c sd", "p")]
    check_numeric(net(made), {"x": normal(2, 3, 5)})


@pytest.mark.parametrize("preset", ["dtd", "dtd-z", "lrp-epsilon", "lrp-gamma", "lrp-alpha2beta1", "epsilon-plus-flat"])
def test_a_normalisation_in_one_operator_and_in_several(preset: str) -> None:
    """Under every rule their relevance is the same."""
    fused = net([node("RMSNormalization", "h ones", "p", epsilon=1e-3)], opset=23)
    spelled = [net(NORMS[name][0]) for name in ("x / sqrt(mean x²)", "x (mean x²)^-0.5")]
    expected, *others = [relevances(proto, {"x": normal(2, 3, 5)}, preset, ["h"], target=1) for proto in (fused, *spelled)]
    for found in others:
        assert_near(found["h"], expected["h"], 1e-7)


# ---- functions of one thing, in several operators --------------------------------------------------------------------

FUNCTIONS = {  # from h [2, 3, 4] to p
    "x*x": [node("Mul", "h h", "p")],
    "x**2": [node("Pow", "h two", "p")],
    "log(1 + x²)": [node("Mul", "h h", "s"), node("Add", "s one", "a"), node("Log", "a", "p")],
    "1 / (1 + x²)": [node("Mul", "h h", "s"), node("Add", "s one", "a"), node("Div", "one a", "p")],
    "g / (1 + |x|)": [node("Abs", "h", "s"), node("Add", "s one", "a"), node("Div", "g a", "p")],
    "(1 + |x|)^-2": [node("Abs", "h", "s"), node("Add", "s one", "a"), node("Pow", "a minus_two", "p")],
    "2^x": [node("Pow", "two h", "p")],
    "a / b": [node("Mul", "h h", "s"), node("Add", "s one", "a"), node("Sin", "h", "n"), node("Div", "n a", "p")],
    "x / x": [node("Div", "h h", "q"), node("Add", "q h", "p")],
    "max(x, -x/2)": [node("Mul", "h minus_half", "n"), node("Max", "h n", "p")],
    "bent by itself": [node("Sin", "h", "s"), node("PRelu", "h s", "p")],
    "x (Wx)ᵀ": [node("Transpose", "h", "t", perm=[0, 2, 1]), node("MatMul", "t h", "q"), node("MatMul", "h q", "p")],
    "einsum of itself": [node("Einsum", "h h", "q", equation="bij,bkj->bik"), node("MatMul", "q h", "p")],
    "mean and deviation": [
        *VARIANCE[:4],
        node("Sqrt", "v", "sd"),
        node("Concat", "m sd", "d", axis=2),
        node("MatMul", "d v24", "p"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_differentiated(name: str) -> None:
    check_numeric(net(FUNCTIONS[name]), {"x": normal(2, 3, 5)})


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("preset", ["dtd", "dtd-z", "lrp-epsilon"])
def test_a_function_hands_on_relevance(name: str, preset: str) -> None:
    """All of it where rules know no bias; both halves of a product with itself add up."""
    found = relevances(net(FUNCTIONS[name]), {"x": normal(2, 3, 5)}, preset, ["p", "h"], target=1)
    assert np.isfinite(found["x"]).all()
    if preset == "dtd-z":
        np.testing.assert_allclose(found["h"].sum((1, 2)), found["p"].sum((1, 2)), rtol=1e-7)
    if name in ("x*x", "x**2", "2^x") and preset != "lrp-epsilon":
        assert_near(found["h"], found["p"], 1e-12)


@pytest.mark.parametrize("shift", [node("Sub", "r one", "p"), node("Sub", "one r", "p"), node("Add", "r minus_one", "p")])
def test_what_a_function_is_at_0_is_part_of_it(shift: NodeProto) -> None:
    """e^x − 1, as in an Elu that is written out: near 0 relevance is as small as the value, not as large as e^x."""
    x = normal(2, 3, 5) / 1000
    found = relevances(net([node("Exp", "h", "r"), shift]), {"x": x}, "lrp-0", ["p", "h"], target=1)
    assert_near(found["h"], found["p"], 1e-12)
    apart = relevances(net([node("Exp", "h", "r"), node("Sub", "r two", "p")]), {"x": x}, "lrp-0", ["p", "h"], target=1)
    assert np.abs(apart["h"] / apart["p"] + 1).max() < 0.1  # two are taken off, one more than there is


def test_a_deviation_is_shared_out_by_its_squares() -> None:
    """R_c = c² / Σ c² R of √(mean c²), and 0 of that of nothing, where gradients are finite as well."""
    nodes = [node("Mul", "h h", "s"), node("ReduceMean", "s", "v", axes=[2], keepdims=0), node("Sqrt", "v", "p")]
    nodes = [node("Relu", "x", "h"), *nodes, node("MatMul", "p u", "y")]
    proto = model(nodes, {"x": ["n", 3, 4]}, ["y"], {"u": normal(3, 2, seed=2)}, DOUBLE)
    x = normal(2, 3, 4)
    x[0, 1] = -1
    h = np.maximum(x, 0)
    found = relevances(proto, {"x": x}, "lrp-0", ["p"], target=1)
    total = (h**2).sum(2, keepdims=True)
    assert (total[0, 1] == 0).all()
    assert_near(found["x"], h**2 / np.where(total, total, 1) * found["p"][..., None], 1e-12)
    assert np.isfinite(relevances(proto, {"x": x}, "gradient", [], target=1)["x"]).all()


# ---- softmax written out ---------------------------------------------------------------------------------------------

TOP = node("ReduceMax", "z", "top", axes=[1], keepdims=1)
FLAT_TOP = [node("ReduceMax", "z", "t", axes=[1], keepdims=0), node("Unsqueeze", "t inner", "top")]
EXP = node("Exp", "d", "e")
TOTAL = node("ReduceSum", "e inner", "n", keepdims=1)
SOFTMAX = {  # from z [n, 3] to y
    "plain": [node("Exp", "z", "e"), TOTAL, node("Div", "e n", "y")],
    "without the largest": [TOP, node("Sub", "z top", "d"), EXP, TOTAL, node("Div", "e n", "y")],
    "laid out again": [
        *FLAT_TOP, node("Sub", "z top", "d"), EXP, node("ReduceSum", "e inner", "t2", keepdims=0),
        node("Unsqueeze", "t2 inner", "n"), node("Div", "e n", "y"),
    ],
    "copied": [
        TOP, node("Shape", "z", "sh"), node("Expand", "top sh", "tops"), node("Sub", "z tops", "d"), EXP, TOTAL,
        node("Expand", "n sh", "ns"), node("Div", "e ns", "y"),
    ],
    "as JAX writes it": [
        node("ReduceMax", "z", "t", axes=[1], keepdims=0), node("Max", "lowest t", "t2"), node("Reshape", "t2 column", "top"),
        node("Sub", "z top", "d"), EXP, node("ReduceSum", "e inner", "n1", keepdims=0), node("Reshape", "n1 column", "n"),
        node("Div", "e n", "y"),
    ],
    "by a reciprocal": [TOP, node("Sub", "z top", "d"), EXP, TOTAL, node("Reciprocal", "n", "r"), node("Mul", "r e", "y")],
    "logarithm": [TOP, node("Sub", "z top", "d"), EXP, TOTAL, node("Log", "n", "l"), node("Sub", "d l", "y")],
    "log of a softmax": [node("Softmax", "z", "p", axis=1), node("Log", "p", "y")],
    "log-sum-exp": [node("ReduceLogSumExp", "z", "l", axes=[1], keepdims=1), node("Sub", "z l", "y")],
}  # fmt: skip
NO_SOFTMAX = {
    "another sum": [
        node("Exp", "z", "e"), node("Exp", "two_z", "e2"), node("ReduceSum", "e2 inner", "n"), node("Div", "e n", "y"),
    ],
    "of another row": [
        node("Exp", "z", "e"), node("ReduceSum", "e inner", "t2", keepdims=0), node("Unsqueeze", "t2 first", "n"),
        node("Div", "e n", "y"),
    ],
    "something added": [node("Exp", "z", "e"), TOTAL, node("Add", "n one", "n1"), node("Div", "e n1", "y")],
    "a logarithm of another": [node("Exp", "two_z", "e"), TOTAL, node("Log", "n", "l"), node("Sub", "z l", "y")],
}  # fmt: skip


def headed(made: Sequence[NodeProto], size: int | str = "n") -> ModelProto:
    nodes = [node("MatMul", "x w", "z"), node("Mul", "z two", "two_z"), *made]
    weights = {
        "w": normal(4, 3, seed=1),
        "inner": np.array([1]),
        "first": np.array([0]),
        "two": np.array(2.0),
        "one": np.ones(1),
    }
    weights |= {"lowest": np.array(-np.inf), "column": np.array([-1, 1])}
    return model(nodes, {"x": [size, 4]}, ["y"], weights, DOUBLE)


@pytest.mark.parametrize("name", SOFTMAX)
def test_a_softmax_written_out_is_stepped_back_over(name: str) -> None:
    proto = headed(SOFTMAX[name])
    assert prepare(proto, Request(preset="gradient")).plan.logits.name == "z"
    found = Session(onnxdtd.compile(proto, "gradient", target=1))(x=normal(2, 4))["relevance"]
    assert_near(found, np.broadcast_to(normal(4, 3, seed=1)[:, 1], (2, 4)), 1e-12)


@pytest.mark.parametrize("name", NO_SOFTMAX)
def test_what_is_no_softmax_is_not_taken_for_one(name: str) -> None:
    bench = Bench(headed(NO_SOFTMAX[name], 3))
    seen = in_one_form(bench.e, bench.nodes, lambda t: t.values is None)
    assert seen[-1] is bench.nodes[-1]
    assert in_one_form(bench.e, Bench(headed(SOFTMAX["plain"], 3)).nodes, lambda t: t.values is None)[-1].op == "Softmax"


def test_a_softmax_written_out_is_a_gate() -> None:
    """Its scores get no relevance, and a gradient goes through both factors."""
    attention = [node("MatMul", "h ww", "z"), node("Exp", "z", "e"), node("ReduceSum", "e last", "n", keepdims=1)]
    attention += [node("Div", "e n", "a"), node("Mul", "h a", "p")]
    proto = net(attention)
    found = relevances(proto, {"x": normal(2, 3, 5)}, "dtd", ["p", "h"], target=1)
    assert_near(found["h"], found["p"], 1e-12)
    refused("z", proto, "dtd")
    check_numeric(proto, {"x": normal(2, 3, 5)})


# ---- ensembles -------------------------------------------------------------------------------------------------------

MEMBERS = [node("MatMul", "x w", "z1"), node("MatMul", "x v", "z2"), node("Softmax", "z1", "p1"), node("Softmax", "z2", "p2")]
ENSEMBLES = {
    "sum": [*MEMBERS, node("Add", "p1 p2", "s"), node("Mul", "s half", "y")],
    "product": [*MEMBERS, node("Mul", "p1 p2", "s"), node("ReduceSum", "s inner", "n"), node("Div", "s n", "y")],
    "stacked": [
        *MEMBERS, node("Unsqueeze", "p1 first", "u1"), node("Unsqueeze", "p2 first", "u2"),
        node("Concat", "u1 u2", "c", axis=0), node("ReduceMean", "c", "y", axes=[0], keepdims=0),
    ],
    "logarithms": [
        *MEMBERS[:2], node("LogSoftmax", "z1", "p1"), node("LogSoftmax", "z2", "p2"), node("Add", "p1 p2", "s"),
        node("Mul", "s half", "y"),
    ],
}  # fmt: skip


def ensemble(name: str) -> ModelProto:
    weights = {"w": normal(4, 3, seed=1), "v": normal(4, 3, seed=2), "half": np.array(0.5)}
    weights |= {"first": np.array([0]), "inner": np.array([1])}
    return model(ENSEMBLES[name], {"x": ["n", 4]}, ["y"], weights, DOUBLE)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_the_score_of_an_ensemble_is_what_it_gives(name: str) -> None:
    """Not that of any member: the mean probability, say. Relevance, where rules know no bias, adds up to it."""
    proto, x = ensemble(name), normal(2, 4)
    check_numeric(proto, {"x": x})
    result = Session(onnxdtd.compile(proto, "dtd-z", target=1))(x=x)
    np.testing.assert_allclose(result["logit"], result["y"][:, 1], rtol=1e-12)
    np.testing.assert_allclose(result["relevance"].sum(1), result["logit"], rtol=1e-7)


def test_each_member_of_an_ensemble_answers_for_its_part() -> None:
    """p z / (z − m) with m one less than the smallest score: what speaks for the class has positive relevance, also where all
    scores are negative. Rules that leave out the bias hand on p.
    """
    x = normal(2, 4)
    for preset in ("lrp-0", "dtd-z"):
        found = relevances(ensemble("sum"), {"x": x}, preset, ["z1", "z2"], target=1)
        for name, w in (("z1", normal(4, 3, seed=1)), ("z2", normal(4, 3, seed=2))):
            z = x @ w
            p = np.exp(z[:, 1]) / np.exp(z).sum(1) / 2
            part = z[:, 1] / (z[:, 1] - z.min(1) + 1) if preset == "lrp-0" else 1
            assert_near(found[name], np.stack([0 * p, p * part, 0 * p], 1), 1e-12)
