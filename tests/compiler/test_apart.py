"""Positions and types of tokens apart: what is added to what ids look up has relevance of its own."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from opsets import MODELS

import onnxdtd
from onnxdtd import RequestError

RNG = np.random.default_rng(16)
WORDS, POSITIONS, TYPES, W = (RNG.normal(size=s).astype(np.float32) for s in ((7, 3), (1, 4, 3), (2, 3), (3, 2)))
IDS = np.array([[1, 5, 2, 0], [6, 6, 3, 1]])
TYPED = np.array([[0, 0, 1, 1], [0, 1, 1, 0]])


def model(*, typed: bool = False, position: bool = True) -> onnx.ModelProto:
    """Words, 2 times, and positions and types where they are wanted, their mean over tokens, and two scores."""
    nodes = [helper.make_node("Gather", ["words", "ids"], ["word"]), helper.make_node("Mul", ["word", "two"], ["x0"])]
    last = "x0"
    if typed:
        nodes += [
            helper.make_node("Gather", ["types", "kind"], ["type_of"]),
            helper.make_node("Add", [last, "type_of"], ["x1"]),
        ]
        last = "x1"
    if position:
        nodes.append(helper.make_node("Add", ["positions", last], ["x2"]))
        last = "x2"
    nodes += [
        helper.make_node("ReduceMean", [last, "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 4])]
    if typed:
        inputs.append(helper.make_tensor_value_info("kind", TensorProto.INT64, ["n", 4]))
    values = {"words": WORDS, "positions": POSITIONS, "types": TYPES, "w": W, "two": np.float32(2), "axes": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "tokens",
        inputs,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def explained(proto: onnx.ModelProto, **feeds: np.ndarray) -> onnxdtd.Explanation:
    return onnxdtd.Explainer(proto)(feeds)


@pytest.mark.parametrize("preset", ["gradient-x-input", "attnlrp", "lrp-0"])
def test_each_has_its_part_of_a_sum(preset: str) -> None:
    """The net is linear: by each of these presets R = t ∂f/∂t, summed over the entries of a token."""
    proto = onnxdtd.compile(model(typed=True), preset, target=1, apart=True)
    found = explained(proto, ids=IDS, kind=TYPED)
    slope = W[:, 1].astype(np.float64) / 4
    expected = {
        "ids": 2 * WORDS[IDS] @ slope,
        "kind": TYPES[TYPED] @ slope,
        "position": np.broadcast_to(POSITIONS @ slope, [2, 4]),
    }
    assert found.relevance.keys() == expected.keys()
    for name, r in expected.items():
        np.testing.assert_allclose(found.relevance[name], r, atol=2e-5, rtol=0)
    np.testing.assert_allclose(sum(r.sum(1) for r in found.relevance.values()), found.logit, rtol=1e-5)
    assert [output.name for output in proto.graph.output][1:4] == ["relevance/ids", "relevance/kind", "relevance/position"]


def test_types_are_told_by_their_number() -> None:
    """Of ids that are not explained, too: what they look up is added to what is."""
    proto = onnxdtd.compile(model(typed=True), "attnlrp", target=1, apart=True, explain=["ids"])
    found = explained(proto, ids=IDS, kind=TYPED).relevance
    assert sorted(found) == ["ids", "position", "type"]
    np.testing.assert_allclose(found["type"], TYPES[TYPED] @ (W[:, 1] / 4), atol=1e-6)


def test_their_sum_is_the_whole() -> None:
    """What shifts inputs is preprocessing by the presets of LRP: words have what is added to them else."""
    whole = explained(onnxdtd.compile(model(), "lrp-0", target=1), ids=IDS)
    parts = explained(onnxdtd.compile(model(), "lrp-0", target=1, ledger=True, apart=True), ids=IDS)
    np.testing.assert_allclose(parts.relevance["ids"] + parts.relevance["position"], whole.relevance["ids"], atol=1e-5)
    assert parts.ledger is not None
    np.testing.assert_allclose(parts.ledger.totals()["relevance"], sum(r.sum(1) for r in parts.relevance.values()), atol=1e-5)


@pytest.mark.parametrize(
    ("proto", "preset", "message"),
    [
        (model(position=False), "attnlrp", "nothing is added"),
        (model(), "integrated-gradients", "compares with a baseline"),
    ],
)
def test_refusals(proto: onnx.ModelProto, preset: str, message: str) -> None:
    with pytest.raises(RequestError, match=f"--apart: .*{message}.*leave it out"):
        onnxdtd.compile(proto, preset, apart=True)


def test_numbers_look_nothing_up() -> None:
    with pytest.raises(RequestError, match="--apart: the model looks nothing up"):
        onnxdtd.compile(MODELS / "digits_mlp.onnx", "attnlrp", apart=True)
