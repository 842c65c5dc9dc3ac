"""A softmax that looks at what attention gives has the gradient that it has by itself."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run

from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.summed import summed
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(30)
X = eighths(RNG, 2, 5, 4)
SIZES = {"wq": (4, 4), "wk": (4, 4), "wv": (4, 4), "w": (4, 4), "u": (4, 2)}
WEIGHTS: dict[str, np.ndarray] = {name: eighths(RNG, *sizes) for name, sizes in SIZES.items()}
WEIGHTS |= {"each": np.arange(1, 6, dtype=np.float32)[:, None]}
WEIGHTS |= {"apart": np.asarray([0, 5, 2, 2]), "joined": np.asarray([0, 5, 4])}
THREE = [node("MatMul", f"x w{name}", name) for name in "qkv"]
SCORES = [*THREE, node("Transpose", "k", "t", perm=[0, 2, 1]), node("MatMul", "q t", "z")]
MEAN = [node("Mul", "e each", "e1"), node("ReduceMean", "e1", "m", axes=[1], keepdims=0), node("MatMul", "m u", "y")]
LAST = [node("MatMul", "o w", "e"), *MEAN]
BY_HEAD = [
    *THREE,
    *(node("Reshape", f"{name} apart", f"{name}1") for name in "qkv"),
    *(node("Transpose", f"{name}1", f"{name}2", perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]) for name in "qkv"),
    node("MatMul", "q2 k2", "z"),
    node("Softmax", "z", "p"),
    node("MatMul", "p v2", "o1"),
]
NETS = {
    "plain": [*SCORES, node("Softmax", "z", "p"), node("MatMul", "p v", "o"), *LAST],
    "heads": [*BY_HEAD, node("Transpose", "o1", "o2", perm=[0, 2, 1, 3]), node("Reshape", "o2 joined", "o"), *LAST],
    "turned": [*BY_HEAD, node("Transpose", "o1", "o2", perm=[0, 2, 3, 1]), node("Reshape", "o2 joined", "o"), *LAST],
    "axis": [*SCORES, node("Softmax", "z", "p", axis=1), node("MatMul", "p v", "o"), *LAST],
    "logarithm": [*SCORES, node("LogSoftmax", "z", "p"), node("MatMul", "p v", "o"), *LAST],
    "readers": [
        *SCORES,
        node("Softmax", "z", "p"),
        node("MatMul", "p v", "o"),
        node("MatMul", "o w", "f"),
        node("MatMul", "p f", "e"),
        *MEAN,
    ],
    "right": [
        *SCORES,
        node("Softmax", "z", "p"),
        node("MatMul", "t p", "s"),
        node("Transpose", "s", "o", perm=[0, 2, 1]),
        *LAST,
    ],
}
LOOKING = ("plain", "heads", "turned")
OTHERS = [shortcut for shortcut in SHORTCUTS if shortcut is not summed]


def net(name: str) -> onnx.ModelProto:
    used = {word for made in NETS[name] for word in made.input}
    return model(NETS[name], {"x": ["n", 5, 4]}, ["y"], {key: value for key, value in WEIGHTS.items() if key in used})


def seen(name: str, preset: str = "attnlrp", sources: tuple[str, ...] = (), kept: tuple[str, ...] = ()) -> list[str]:
    """The tensors that softmaxes look at."""
    steps = prepare(net(name), Request(preset=preset)).plan.steps
    return [t.name for step in summed(steps, Situation(sources, kept, lambda _: False)) for t in step.looks_at]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("preset", ["attnlrp", "gradient"])
def test_the_relevance_is_the_same(name: str, preset: str) -> None:
    prepared = prepare(net(name), Request(preset=preset, keep=["q"]))
    found, expected = (run(build(prepared, shortcuts=some), x=X) for some in ((*OTHERS, summed), OTHERS))
    for key in ("relevance", "relevance/q"):
        assert np.abs(expected[key]).max() > 1e-3
        assert_near(found[key], expected[key], 2e-6)


@pytest.mark.parametrize("name", NETS)
def test_only_weights_that_one_product_alone_reads(name: str) -> None:
    assert bool(seen(name)) == (name in LOOKING)


def test_in_front_of_where_heads_are_put_together() -> None:
    assert [seen(name) for name in LOOKING] == [["o"], ["o2"], ["o1"]]


def test_not_where_its_relevance_is_wanted_or_attention_is_constant() -> None:
    for name in ("p", "o"):
        assert seen("plain", sources=(name,)) == seen("plain", kept=(name,)) == []
    assert not seen("plain", "cp-lrp")
    assert not seen("plain", "lrp-epsilon")


def test_pairs_of_positions_are_multiplied_once() -> None:
    made = build(prepare(net("heads"), Request(preset="gradient"))).graph.node
    products = [n for n in made if n.op_type == "Mul" and n.name.startswith("dtd/p_node")]
    assert ["o2" in n.input for n in products] == [True, False]
