"""Files that explain on demand: the same numbers, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from nets import eighths, model, node
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnxdtd
from onnxdtd import Explainer, RequestError
from onnxdtd.cli.options import spelled
from onnxdtd.compiler.compile import prepare
from onnxdtd.request import Request
from onnxdtd.study.trial import by_definition
from onnxdtd.study.verify import verify

CPU = ["CPUExecutionProvider"]


def net(batch: int | str = "batch") -> ModelProto:
    rng = np.random.default_rng(0)
    weights = {"w": eighths(rng, 4, 2, 3, 3), "b": eighths(rng, 4), "v": eighths(rng, 4, 3)}
    nodes = [node("Conv", "x w b", "h"), node("Relu", "h", "r"), node("GlobalAveragePool", "r", "g"), node("Flatten", "g", "f")]
    return model([*nodes, node("MatMul", "f v", "y")], {"x": [batch, 2, 5, 5]}, ["y"], weights)


def samples(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 2, 5, 5)).astype(np.float32)


def pair(proto: ModelProto, on_demand: Any = True, **options: Any) -> tuple[Explainer, Explainer]:
    """Compiled as ever, and on demand"""
    made = [onnxdtd.compile(proto, on_demand=asked, **options) for asked in (None, on_demand)]
    onnx.checker.check_model(made[1], full_check=True)
    flat, asked = (Explainer(each, CPU) for each in made)
    return flat, asked


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "dtd"},
        {"preset": "lrp-epsilon", "ledger": True, "keep": ["h"], "mask": ["r"]},
        {"preset": "integrated-gradients", "target": "input"},
        {"preset": "lrp-epsilon", "from_": ["r"], "contrast": True},
        {"preset": "gradient", "target": "score"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_relevance_is_the_same_bit_by_bit(options: dict[str, Any]) -> None:
    flat, asked = pair(net(), **options)
    more: dict[str, Any] = {"score": np.ones((3, 3), np.float32)} if options.get("target") == "score" else {}
    more |= {"target": [2, -1, 0]} if options.get("target") == "input" else {}
    want, have = flat(samples(), **more), asked(samples(), **more)
    for name in ("relevance", "kept", "values", "outputs"):
        for key, array in getattr(want, name).items():
            np.testing.assert_array_equal(getattr(have, name)[key], array)
    np.testing.assert_array_equal(want.logit, have.logit)
    if want.ledger is not None and have.ledger is not None:
        np.testing.assert_array_equal(want.ledger["bias"], have.ledger["bias"])


def quantised() -> ModelProto:
    """With its activations on a grid, as integers and back."""
    rng = np.random.default_rng(0)
    weights = {"w": eighths(rng, 4, 2, 3, 3), "v": eighths(rng, 4, 3), "s": np.float32(0.05), "z": np.uint8(128)}
    nodes = [
        *(node("QuantizeLinear", "x s z", "xq"), node("DequantizeLinear", "xq s z", "xr"), node("Conv", "xr w", "h")),
        *(node("QuantizeLinear", "h s z", "hq"), node("DequantizeLinear", "hq s z", "hr"), node("Relu", "hr", "r")),
        *(node("GlobalAveragePool", "r", "g"), node("Flatten", "g", "f"), node("MatMul", "f v", "y")),
    ]
    return model(nodes, {"x": ["batch", 2, 5, 5]}, ["y"], weights)


def test_what_is_said_of_integers_that_a_runtime_may_take() -> None:
    """Without its optimisations both files give the same bits."""
    notes = lambda proto, asked: prepare(proto, Request(on_demand=asked)).plan.notes
    said = [
        any("rounds otherwise" in note for note in notes(proto, asked))
        for proto in (net(), quantised())
        for asked in (None, True)
    ]
    assert said == [False, False, False, True]
    made = [onnxdtd.compile(quantised(), "lrp-epsilon", on_demand=asked) for asked in (None, "required")]
    flat, asked = (Explainer(each, CPU, optimise=False)(samples()) for each in made)
    np.testing.assert_array_equal(flat.relevance["x"], asked.relevance["x"])
    assert np.abs(flat.relevance["x"]).max() > 0


def test_what_is_not_asked_for_is_empty() -> None:
    _, asked = pair(net(), preset="lrp-epsilon", ledger=True, keep=["h"])
    feeds = {"x": samples(), "explain": np.asarray(False)}
    outputs = [output.name for output in asked.session.get_outputs()]
    found = dict(zip(outputs, asked.session.run(None, feeds), strict=True))
    assert {name: array.shape[0] for name, array in found.items()} == {name: 3 if name == "y" else 0 for name in outputs}
    assert found["relevance"].shape == (0, 2, 5, 5)
    assert found["ledger"].ndim == 3
    plain = ort.InferenceSession(net().SerializeToString(), providers=CPU).run(None, {"x": samples()})
    np.testing.assert_array_equal(found["y"], plain[0])


@pytest.mark.parametrize("which", [0, 1])
def test_an_explainer_that_only_predicts(which: int) -> None:
    found = pair(net(), preset="lrp-epsilon", target="input")[which](samples(), explain=False)
    assert (found.relevance, found.kept, found.logit, found.missing) == ({}, {}, None, None)
    assert [*found.outputs] == ["y"]
    assert found.predicted is not None
    assert found.predicted.tolist() == found.outputs["y"].argmax(1).tolist()


def test_an_optional_input_is_false_where_it_is_left_out() -> None:
    flat, asked = pair(net(), on_demand="optional")
    assert asked.session.run(["relevance"], {"x": samples()})[0].shape == (0, 2, 5, 5)
    np.testing.assert_array_equal(asked(samples()).relevance["x"], flat(samples()).relevance["x"])
    with pytest.raises(Exception, match="explain"):
        pair(net())[1].session.run(["relevance"], {"x": samples()})


def test_a_fixed_batch_and_a_name_that_is_taken() -> None:
    proto = net(2)
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "explain"
    flat, asked = pair(proto)
    assert [node.name for node in asked.session.get_inputs()] == ["explain", "explain_1"]
    np.testing.assert_array_equal(asked(samples(2)).relevance["explain"], flat(samples(2)).relevance["explain"])


def test_a_predictor_with_an_if_of_its_own() -> None:
    """Names in its branches are none of ours."""
    branch = lambda name, op: helper.make_graph(
        [helper.make_node(op, ["f"], [name], name)], name, [], [helper.make_tensor_value_info(name, 1, None)]
    )
    proto = net()
    own = helper.make_node(
        "If", ["flag"], ["k"], "own", then_branch=branch("relevance_then", "Relu"), else_branch=branch("o", "Identity")
    )
    proto.graph.node.insert(4, own)
    proto.graph.node[5].input[0] = "k"
    proto.graph.initializer.append(helper.make_tensor("flag", TensorProto.BOOL, [], [True]))
    flat, asked = pair(proto, preset="lrp-epsilon")
    np.testing.assert_array_equal(asked(samples()).relevance["x"], flat(samples()).relevance["x"])


def test_the_reference_agrees() -> None:
    made = onnxdtd.compile(net(), "lrp-epsilon", on_demand=True)
    reference = ReferenceEvaluator(made)
    for asked in (True, False):
        feeds = {"x": samples(), "explain": np.asarray(asked)}
        have, want = reference.run(["relevance"], feeds)[0], Explainer(made, CPU).session.run(["relevance"], feeds)[0]
        assert have.shape == want.shape
        np.testing.assert_allclose(have, want, atol=1e-6)


def test_it_is_verified_and_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    source, compiled = tmp_path / "net.onnx", tmp_path / "asks.onnx"
    onnx.save(net(), source)
    onnxdtd.save(onnxdtd.compile(source, on_demand="optional", ledger=True, preset="lrp-epsilon"), compiled, source)
    assert compiled.read_bytes() == onnxdtd.compile(
        source, on_demand="optional", ledger=True, preset="lrp-epsilon"
    ).SerializeToString(deterministic=True)
    report = verify(compiled, source)
    assert [check for check in report.checks if check.passed is False] == []
    assert report.passed


def test_how_it_is_asked_for() -> None:
    assert spelled(["--on-demand", "-o", "x"]) == ["--on-demand=required", "-o", "x"]
    assert spelled(["--on-demand", "optional"]) == ["--on-demand", "optional"]
    with pytest.raises(RequestError, match="give one of required, optional"):
        onnxdtd.Request(on_demand="always")


@pytest.mark.parametrize("kept", ["asked", "none", "shape"])
def test_an_inner_tensor_called_as_ours(kept: str) -> None:
    """Its relevance is the output ``relevance/asked``; a branch calls that of the input something else."""
    proto = net()
    proto.graph.node[1].output[0] = proto.graph.node[2].input[0] = kept
    flat, asked = pair(proto, preset="lrp-epsilon", keep=[kept])
    graphs = [made := onnxdtd.compile(proto, "lrp-epsilon", keep=[kept], on_demand=True).graph]
    graphs += [attribute.g for attribute in made.node[-1].attribute]
    names = [name for graph in graphs for node in graph.node for name in node.output]
    assert len(names) == len({*names})
    want, have = flat(samples()), asked(samples())
    np.testing.assert_array_equal(have.relevance["x"], want.relevance["x"])
    np.testing.assert_array_equal(have.kept[kept], want.kept[kept])


def test_half_precision_is_verified_as_it_is_read(tmp_path: Path) -> None:
    """What a branch reads is rounded to half, as it is not where nothing but the flat file's nodes comes between."""
    proto = net()
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16) / 7, tensor.name))
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    source, compiled = tmp_path / "net.onnx", tmp_path / "asks.onnx"
    onnx.save(proto, source)
    onnxdtd.save(onnxdtd.compile(source, "dtd", on_demand=True), compiled, source)
    report = verify(compiled, source)
    (found,) = [check for check in report.checks if check.name == "relevance"]
    assert found.finding.endswith("exactly") or "within" in found.finding
    assert report.passed
    assert by_definition(prepare(source, onnxdtd.Request(preset="dtd", on_demand=True))).graph.node[-1].op_type == "If"
