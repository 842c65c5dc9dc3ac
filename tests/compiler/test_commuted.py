"""A number moved behind a matrix gives the same derivative, and is moved only where less is multiplied."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run

from onnxdtd.compiler.commuted import commuted
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(18)
X = eighths(RNG, 3, 4, 6)
SIZES = {"u": (6, 8), "w": (8, 2), "m": (8, 8), "b": (2,), "each": (8,)}
WEIGHTS: dict[str, np.ndarray] = {name: eighths(RNG, *sizes) for name, sizes in SIZES.items()}
WEIGHTS |= {"half": np.asarray(0.5, np.float32), "four": np.asarray([4], np.float32)}
FIRST, LAST = [node("MatMul", "x u", "h")], [node("MatMul", "a w", "o"), node("Add", "o b", "p")]
TIMES, MEAN = [node("Mul", "h half", "a")], [node("ReduceMean", "p", "y", axes=[1], keepdims=0)]
NETS = {
    "times": [*FIRST, *TIMES, *LAST, *MEAN],
    "times, the other way round": [*FIRST, node("Mul", "half h", "a"), *LAST, *MEAN],
    "by": [*FIRST, node("Div", "h four", "a"), *LAST, *MEAN],
    "gelu": [*FIRST, node("Erf", "h", "e"), node("Mul", "h e", "g"), node("Mul", "g half", "a"), *LAST, *MEAN],
    "gemm": [
        node("ReduceMean", "x", "f", axes=[1], keepdims=0),
        node("MatMul", "f u", "h"),
        *TIMES,
        node("Gemm", "a w b", "y"),
    ],
    "entries": [*FIRST, node("Mul", "h each", "a"), *LAST, *MEAN],
    "readers": [
        *FIRST,
        *TIMES,
        *LAST,
        node("MatMul", "a w", "q"),
        node("Add", "p q", "r"),
        node("ReduceMean", "r", "y", axes=[1], keepdims=0),
    ],
    "square": [*FIRST, *TIMES, node("MatMul", "a m", "k"), node("MatMul", "k w", "p"), *MEAN],
}
MOVED = ("times", "times, the other way round", "by", "gelu", "gemm")


def net(name: str) -> onnx.ModelProto:
    used = {word for made in NETS[name] for word in made.input}
    return model(NETS[name], {"x": ["n", 4, 6]}, ["y"], {key: value for key, value in WEIGHTS.items() if key in used})


def moved(name: str, preset: str = "attnlrp", sources: tuple[str, ...] = (), kept: tuple[str, ...] = ()) -> list[str]:
    """The operators of steps that are two in one."""
    steps = prepare(net(name), Request(preset=preset)).plan.steps
    return [step.op for step in commuted(steps, Situation(sources, kept, lambda _: False)) if len(step.nodes) > 1]


@pytest.mark.parametrize("name", NETS)
def test_the_relevance_is_the_same(name: str) -> None:
    for preset in ("attnlrp", "gradient"):
        prepared = prepare(net(name), Request(preset=preset, keep=["h"], ledger=preset == "attnlrp"))
        found, expected = (run(build(prepared, shortcuts=some), x=X) for some in (SHORTCUTS, ()))
        assert np.abs(expected["relevance"]).max() > 1e-2
        for key in ("relevance", "relevance/h"):
            assert_near(found[key], expected[key], 1e-6)


@pytest.mark.parametrize("name", NETS)
def test_only_a_number_in_front_of_a_matrix_with_fewer_outputs(name: str) -> None:
    assert len(moved(name)) == (name in MOVED)


def test_not_where_its_relevance_is_wanted_or_a_rule_divides() -> None:
    assert moved("times") == ["MatMul+Mul"]
    assert moved("times", sources=("a",)) == moved("times", kept=("a",)) == []
    assert not any("Mul" in op.split("+")[1:] for op in moved("times", "lrp-epsilon"))


def test_what_is_multiplied_is_what_the_matrix_gives() -> None:
    proto = build(prepare(net("times"), Request(preset="gradient")))
    (made,) = [n for n in proto.graph.node if n.op_type == "Mul" and "half" in n.input and n.name.startswith("dtd/")]
    inferred = onnx.shape_inference.infer_shapes(proto)
    sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
    assert sizes[made.output[0]][-1] == 2
