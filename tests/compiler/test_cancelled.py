"""Ids whose relevance is 0 whatever they are: what they look up goes straight into a normalisation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from nets import eighths, node
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxdtd import Explainer
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.request import Request
from onnxdtd.study.notes import of_rules

RNG = np.random.default_rng(0)
V, L, D = 20, 6, 8
IDS = RNG.integers(0, V, (3, L))
WEIGHTS = {
    "E": eighths(RNG, V, D),
    "P": eighths(RNG, L, D),
    "M": eighths(RNG, L, 1),
    "G": eighths(RNG, D),
    "B": eighths(RNG, D),
    "W": eighths(RNG, D, D),
    "U": eighths(RNG, D, 3),
    "one": np.array([1]),
    "last": np.array([-1]),
    "two": np.float32(2),
    "tiny": np.float32(1e-9),
}
LAYER = "LayerNormalization"
SPELLED = [
    node("ReduceMean", "x last", "mu"),
    node("Sub", "x mu", "c"),
    node("Pow", "c two", "cc"),
    node("ReduceMean", "cc last", "var"),
    node("Add", "var tiny", "v"),
    node("Sqrt", "v", "sd"),
    node("Div", "c sd", "q"),
    node("Mul", "q G", "n"),
]
FRONTS = {  # from what is looked up, e, to what is normalised, n
    "straight": [node("Mul", "e two", "x"), node(LAYER, "x G B", "n", epsilon=1e-9)],
    "masked": [node("Mul", "e M", "x"), node(LAYER, "x G B", "n", epsilon=1e-9)],
    "spelled out": [node("Identity", "e", "x"), *SPELLED],
    "positions": [node("Add", "e P", "x"), node(LAYER, "x G B", "n", epsilon=1e-9)],
    "root mean square": [node("Identity", "e", "x"), node("RMSNormalization", "x G", "n", epsilon=1e-9)],
    "skipped": [node(LAYER, "e G B", "m", epsilon=1e-9), node("Add", "m e", "n")],
    "weighted": [node("Mul", "e G", "x"), node(LAYER, "x G B", "n", epsilon=1e-9)],
    "over positions too": [node("Identity", "e", "x"), node(LAYER, "x P", "n", axis=1, epsilon=1e-9)],
    "nothing": [node("Identity", "e", "n")],
}
HEAD = [
    node("MatMul", "n W", "h"),
    node("Gelu", "h", "r"),
    node("Mul", "r n", "s"),
    node("ReduceSum", "s one", "m1", keepdims=0),
]
WAYS = "take lrp-epsilon or attnlrp, or --from n for what is behind it"
ZERO = {  # by front the presets under which all is 0
    "straight": {"gradient", "gradient-x-input"},  # under attnlrp and sensitivity it is not
    "masked": {"gradient", "gradient-x-input"},
    "spelled out": {"gradient", "gradient-x-input"},
    "positions": {"gradient"},
    "root mean square": {"gradient-x-input"},
    "weighted": {"gradient-x-input"},
}


def made(front: str) -> ModelProto:
    nodes = [node("Gather", "E ids", "e"), *FRONTS[front], *HEAD, node("MatMul", "m1 U", "y")]
    used = {name for n in nodes for name in n.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", L])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in WEIGHTS.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


@pytest.mark.parametrize(
    ("front", "preset"),
    [*product(FRONTS, ["gradient", "gradient-x-input"]), ("straight", "sensitivity"), ("straight", "attnlrp")],
)
def test_it_is_said_exactly_where_it_is_so(front: str, preset: str) -> None:
    """By measurement, token by token."""
    job = prepare(made(front), Request(preset=preset))
    run = Explainer(build(job), ["CPUExecutionProvider"])
    (found,) = run(IDS).relevance.values()
    said = [note for note in job.plan.notes if "0 but for rounding" in note]
    zero = preset in ZERO.get(front, ())
    assert bool(said) == zero == ("cancelled" in run.metadata) == (np.abs(found).max() < 1e-4)
    assert [flag.code for flag in of_rules(run.metadata)] == ["rounding"] * zero
    if zero:
        assert said[0].endswith("goes straight into the normalisation that gives 'n'; " + WAYS)


def test_what_is_said_to_do_does() -> None:
    for wanted in (Request(preset="lrp-epsilon"), Request(preset="attnlrp"), Request(preset="gradient", from_=("n",))):
        (found,) = Explainer(build(prepare(made("straight"), wanted)), ["CPUExecutionProvider"])(IDS).relevance.values()
        assert np.abs(found).max() > 0.1


@pytest.mark.parametrize("apart", [False, True])
def test_words_have_what_positions_have_with_the_other_sign(apart: bool) -> None:
    job = prepare(made("positions"), Request(preset="gradient-x-input", apart=apart))
    assert any("with the other sign" in note and note.endswith(WAYS) for note in job.plan.notes)
    found = Explainer(build(job), ["CPUExecutionProvider"])(IDS).relevance
    if apart:
        np.testing.assert_allclose(found["ids"], -found["position"], atol=1e-4)
        assert np.abs(found["ids"]).max() > 0.1
    assert not any("other sign" in note for note in prepare(made("skipped"), Request(preset="gradient-x-input")).plan.notes)
