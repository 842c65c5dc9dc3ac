"""The sum of a skip and a branch in front of a Relu: the same relevance without reading the branch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run

import onnxdtd
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.residual import residual
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(8)
WEIGHTS = {"w": eighths(RNG, 4, 3, 3, 3), "b": eighths(RNG, 4), "u": eighths(RNG, 4, 4, 1, 1), "v": eighths(RNG, 4, 3)}
WEIGHTS["v0"] = eighths(RNG, 1, 4, 1, 1)
PAD = [1, 1, 1, 1]
STEM = [node("Conv", "x w b", "s", pads=PAD), node("Relu", "s", "h")]
BRANCH = node("Conv", "h u b", "a")
HEAD = [node("ReduceMean", "y", "f", axes=[2, 3], keepdims=0), node("MatMul", "f v", "z")]
NETS = {
    "skip second": [*STEM, BRANCH, node("Add", "a h", "r"), node("Relu", "r", "y"), *HEAD],
    "two branches": [*STEM, BRANCH, node("Conv", "x w", "c", pads=PAD), node("Add", "a c", "r"), node("Relu", "r", "y"), *HEAD],
    "skip first": [*STEM, BRANCH, node("Add", "h a", "r"), node("Relu", "r", "y"), *HEAD],
}
OTHERS = {
    "no Relu": [*STEM, BRANCH, node("Add", "a h", "y"), *HEAD],
    "a constant besides": [*STEM, BRANCH, node("Sum", "a h v0", "r"), node("Relu", "r", "y"), *HEAD],
    "broadcast": [
        *STEM,
        BRANCH,
        node("ReduceMean", "h", "g", axes=[2, 3]),
        node("Add", "a g", "r"),
        node("Relu", "r", "y"),
        *HEAD,
    ],
}


def net(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    used = {word for made in nodes for word in made.input}
    return model(nodes, {"x": ["n", 3, 6, 6]}, ["z"], {name: value for name, value in WEIGHTS.items() if name in used})


def both(proto: onnx.ModelProto, preset: str, **options: object) -> list[onnx.ModelProto]:
    """Compiled as it is, and without reading max(y, b)."""
    prepared = prepare(proto, Request(preset=preset, **options))
    others = [shortcut for shortcut in SHORTCUTS if shortcut is not residual]
    return [build(prepared), build(prepared, shortcuts=others)]


def readers(proto: onnx.ModelProto, tensor: str) -> list[str]:
    return [n.op_type for n in proto.graph.node if tensor in n.input]


@pytest.mark.parametrize("preset", ["dtd", "lrp-alpha2beta1", "lrp-alpha1beta0"])
@pytest.mark.parametrize("name", NETS)
def test_the_relevance_is_the_same(name: str, preset: str) -> None:
    short, plain = both(net(NETS[name]), preset)
    assert readers(short, "a") == ["Add"], "nobody but the predictor reads the branch"
    assert len(readers(plain, "a")) > 1
    x = eighths(RNG, 5, 3, 6, 6)
    assert_near(run(short, x=x)["relevance"], run(plain, x=x)["relevance"], 5e-6)


@pytest.mark.parametrize("behind", ["w2", "flat", "z"])
@pytest.mark.parametrize("name", [*NETS, "no Relu"])
def test_with_a_rule_behind_it(name: str, behind: str) -> None:
    """Where neither term is positive w2 and flat halve; z is no such rule, and the sum is left to it."""
    nodes = {**NETS, **OTHERS}[name][: -len(HEAD)]
    above = [node("Conv", "y u b", "q"), node("ReduceMean", "q", "f", axes=[2, 3], keepdims=0), HEAD[1]]  # has positive biases
    short, plain = both(net([*nodes, *above]), "dtd-complete", settings=[f"[ry]_node=z+ else {behind}"])
    assert (len(short.graph.node) == len(plain.graph.node)) == (behind == "z")
    assert name in ("two branches", "no Relu") or behind == "z" or readers(short, "a") == ["Add"]
    x = eighths(RNG, 5, 3, 6, 6)
    found = run(short, x=x)["relevance"]
    assert_near(found, run(plain, x=x)["relevance"], 5e-6)
    assert behind == "z" or np.isclose(found.sum(), run(short, x=x)["z"].max(axis=1).sum(), rtol=1e-5)


def test_in_double_precision() -> None:
    """To 1e-13: the two are one formula, and no approximation."""
    nodes = [
        *(node("MatMul", "x w", "s"), node("Relu", "s", "h"), node("MatMul", "h u", "a")),
        *(node("Add", "a h", "r"), node("Relu", "r", "y"), node("MatMul", "y v", "z")),
    ]
    weights = {name: RNG.normal(size=size) for name, size in (("w", (5, 6)), ("u", (6, 6)), ("v", (6, 3)))}
    proto = model(nodes, {"x": ["n", 5]}, ["z"], weights, np.dtype(np.float64))
    x, (short, plain) = RNG.normal(size=(20, 5)), both(proto, "dtd")
    assert_near(run(short, x=x)["relevance"], run(plain, x=x)["relevance"], 1e-13)


@pytest.mark.parametrize("name", NETS)
def test_shares_have_the_sign_of_the_relevance_and_add_up(name: str) -> None:
    compiled = onnxdtd.compile(net(NETS[name]), "dtd", keep=["a", "h", "r"])
    found = run(compiled, x=eighths(RNG, 50, 3, 6, 6))
    branch, whole = found["relevance/a"], found["relevance/r"]
    sign = np.sign(whole.sum(axis=(1, 2, 3), keepdims=True))
    assert (branch * sign >= 0).all(), "exactly, rounding included"
    assert (np.abs(branch) <= np.abs(whole)).all()
    assert (branch != 0).any()
    assert (branch != whole).any()


@pytest.mark.parametrize("name", OTHERS)
def test_only_where_it_is_that_kind_of_sum(name: str) -> None:
    short, plain = both(net(OTHERS[name]), "dtd")
    assert [n.op_type for n in short.graph.node] == [n.op_type for n in plain.graph.node]


def test_a_ledger_sees_the_shares_that_are_handed_on() -> None:
    compiled, plain = (onnxdtd.compile(net(NETS["skip second"]), "dtd", ledger=ledger) for ledger in (True, False))
    assert readers(compiled, "a") == ["Add", "Less"], "who else reads the branch only counts what is negative"
    x = eighths(RNG, 5, 3, 6, 6)
    explained = onnxdtd.Explainer(compiled)(x)
    assert explained.ledger is not None
    np.testing.assert_array_equal(explained.relevance["x"], run(plain, x=x)["relevance"])
    row = explained.ledger.steps.index("r_node")
    given, handed = (explained.ledger[column][:, row] for column in ("in", "out"))
    np.testing.assert_allclose(given, handed, rtol=1e-6)
    assert (np.abs(given) > 1e-3).any()


@pytest.mark.parametrize("rule", ["flat", "gamma", "abs"])
def test_not_under_other_rules(rule: str) -> None:
    short, plain = both(net(NETS["skip second"]), "dtd", settings=[f"r_node={rule}"])
    assert [n.op_type for n in short.graph.node] == [n.op_type for n in plain.graph.node]


def test_not_where_zeros_get_relevance() -> None:
    """Under flat above the Relu's zeros get relevance too, and y = 0 tells nothing of a."""
    nodes = [
        *NETS["skip second"][:-2],
        node("Conv", "y u", "q"),
        node("ReduceMean", "q", "f", axes=[2, 3], keepdims=0),
        HEAD[1],
    ]
    short, plain = both(net(nodes), "dtd", settings=["q_node=flat"])
    assert [n.op_type for n in short.graph.node] == [n.op_type for n in plain.graph.node]
