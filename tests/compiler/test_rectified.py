"""Dividing by what the Relu gives changes no relevance, and is done only where that is so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run

from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.rectified import rectified
from onnxdtd.compiler.shortcuts import Shortcut, Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(11)
WEIGHTS = {
    "w": eighths(RNG, 4, 3, 3, 3),
    "b": eighths(RNG, 4),
    "u": eighths(RNG, 4, 4, 1, 1),
    "v": eighths(RNG, 4, 3),
}
STEM = [node("Conv", "x w b", "a", pads=[1, 1, 1, 1]), node("Relu", "a", "h")]
HEAD = [node("ReduceMean", "r", "f", axes=[2, 3], keepdims=0), node("MatMul", "f v", "y")]
NETS = {
    "chain": [*STEM, node("Conv", "h u b", "c"), node("Relu", "c", "r"), *HEAD],
    "pool": [*STEM, node("MaxPool", "h", "m", kernel_shape=[2, 2]), node("Conv", "m u", "c"), node("Relu", "c", "r"), *HEAD],
    "residual": [*STEM, node("Conv", "h u b", "c"), node("Add", "c h", "s"), node("Relu", "s", "r"), *HEAD],
    "two readers": [*STEM, node("Add", "a h", "r"), *HEAD],
    "relu6": [node("Conv", "x w b", "a", pads=[1, 1, 1, 1]), node("Clip", "a zero six", "r"), *HEAD],
}


def net(name: str) -> onnx.ModelProto:
    bounds = {"zero": np.float32(0), "six": np.float32(6)} if name == "relu6" else {}
    used = {word for made in NETS[name] for word in made.input}
    weights = {key: value for key, value in {**WEIGHTS, **bounds}.items() if key in used}
    return model(NETS[name], {"x": ["n", 3, 6, 6]}, ["y"], weights)


def at(name: str) -> Situation:
    """Relevance starts at one tensor."""
    return Situation([name], (), lambda _: False)


def moved(name: str, preset: str = "lrp-epsilon", settings: tuple[str, ...] = ()) -> dict[str, str]:
    """The layers that take another tensor for their output, and which."""
    job = prepare(net(name), Request(preset=preset, settings=settings))
    pairs = zip(job.plan.steps, rectified(job.plan.steps, at(job.plan.logits.name)), strict=True)
    return {a.name: b.layer.y.name for a, b in pairs if a.layer and b.layer and a.layer.y is not b.layer.y}


def test_layers_in_front_of_a_relu() -> None:
    assert moved("chain") == {"a_node": "h", "c_node": "r"}
    assert moved("pool") == {"a_node": "h", "c_node": "r"}
    assert moved("residual") == {"a_node": "h", "s_node": "r"}


def test_not_where_somebody_else_reads_the_output() -> None:
    assert moved("two readers") == {}


def test_not_where_an_activation_cuts_off() -> None:
    assert moved("relu6") == {}


@pytest.mark.parametrize("rule", ["flat", "w2"])
def test_not_where_a_rule_above_gives_relevance_to_zeros(rule: str) -> None:
    assert moved("chain", settings=(f"c_node={rule}",)) == {"c_node": "r"}
    assert moved("pool", settings=(f"c_node={rule}",)) == {"c_node": "r"}, "nor through a pooling"


def test_not_where_the_walk_starts() -> None:
    job = prepare(net("chain"), Request(preset="lrp-epsilon"))
    ends = [[step.layer.y.name for step in rectified(job.plan.steps, at(name))[:3:2] if step.layer] for name in "yrh"]
    assert ends == [["h", "r"], ["h", "c"], ["a", "r"]]


@pytest.mark.parametrize("preset", ["lrp-epsilon", "lrp-0", "lrp-gamma", "lrp-alpha2beta1", "dtd-z", "dtd"])
@pytest.mark.parametrize("name", NETS)
def test_the_relevance_is_the_same(name: str, preset: str) -> None:
    x, prepared = eighths(RNG, 3, 3, 6, 6), prepare(net(name), Request(preset=preset))
    others = [shortcut for shortcut in SHORTCUTS if shortcut is not rectified]
    with_, without = (run(build(prepared, shortcuts=some), x=x)["relevance"] for some in (SHORTCUTS, others))
    assert_near(with_, without, 2e-5)


def test_the_check_can_fail() -> None:
    """Where flat above gives relevance to zeros, the Relu's result would be the wrong output."""

    def careless(steps: Sequence[Step], situation: Situation) -> list[Step]:
        behind = {s.inputs[0].name: s.outputs[0] for s in steps if s.op == "Relu" and s.inputs[0] is not None}
        layers = [s.layer and replace(s.layer, y=behind.get(s.layer.y.name, s.layer.y)) for s in steps]
        return [replace(step, layer=layer) for step, layer in zip(steps, layers, strict=True)]

    x = eighths(RNG, 3, 3, 6, 6)
    prepared = prepare(net("chain"), Request(preset="lrp-epsilon", settings=["c_node=flat"]))
    ways: list[tuple[Shortcut, ...]] = [SHORTCUTS, (careless,)]
    right, wrong = (run(build(prepared, shortcuts=way), x=x)["relevance"] for way in ways)
    assert not np.allclose(wrong, right)
