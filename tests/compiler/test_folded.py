"""A portable file: the relevance of the ordinary one, without what few runtimes have, its weights in the file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import FLOAT, Session, assert_near, eighths, model, node
from onnx import ModelProto, TensorProto, helper
from onnx.reference.ops import load_op

import onnxdtd
from onnxdtd import Explainer, RequestError
from onnxdtd.compiler.folded import MADE, OLDEST, SMALL
from onnxdtd.compiler.record import told_request
from onnxdtd.contract import read_metadata
from onnxdtd.errors import OnnxdtdError
from onnxdtd.graph.portable import SPELLED
from onnxdtd.request import Request
from onnxdtd.study.verify import verify

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts" / "check"))
from tiny import NETS, net

PRESETS = ["dtd", "lrp-gamma", "gradient", "attnlrp", "lrp-alpha2beta1", "deeplift-rescale", "epsilon-plus", "lrp-epsilon"]
SETS = [17, 22, 21]
# What may be left: where its numbers are sizes, where it has nothing that few have, or where the size of what is repeated is
# open; what the predictor has itself; and where entries are scattered to any others, or no numbers are to be got rid of.
LEFT = {"Expand", "ConvTranspose", "HardSigmoid", "Max"}
HARD = {"moves": "ScatterElements", "time in front": "ScatterElements", "doubled": "ScatterElements", "table": "Where"}


def added(proto: ModelProto) -> list[onnx.NodeProto]:
    return list(proto.graph.node)[read_metadata(proto)["predictor"]["node"] :]


def feeds(proto: ModelProto) -> dict[str, np.ndarray]:
    """Numbers of the type of each input, two samples."""
    rng, given = np.random.default_rng(0), {}
    held = {t.name for t in proto.graph.initializer}
    for value in proto.graph.input:
        kind = value.type.tensor_type
        shape, dtype = [d.dim_value or 2 for d in kind.shape.dim], helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if value.name not in held:
            given[value.name] = (rng.normal(size=shape) if np.dtype(dtype).kind == "f" else rng.integers(0, 3, shape)).astype(
                dtype
            )
    return given


@pytest.mark.parametrize("name", NETS)
def test_relevance_is_that_of_the_ordinary_file(name: str) -> None:
    """Whatever the net is made of, with a preset and an operator set each."""
    turn = list(NETS).index(name)
    try:
        source = net(NETS[name], SETS[turn % len(SETS)])
        ordinary = onnxdtd.compile(source, preset := PRESETS[turn % len(PRESETS)])
    except OnnxdtdError:  # what cannot be explained so
        return
    portable = onnxdtd.compile(source, preset, portable=True)
    onnx.checker.check_model(portable, full_check=True)
    theirs = {n.op_type for n in source.graph.node}
    assert {n.op_type for n in added(portable)} & SPELLED.keys() <= LEFT | theirs | {HARD.get(name, "Expand")}
    assert not any(n.op_type == "MaxPool" and len(n.output) > 1 for n in added(portable))
    if any(value.type.tensor_type.elem_type == TensorProto.STRING for value in source.graph.input) or name == "counted sizes":
        return
    want, have = (Session(proto)(**feeds(source)) for proto in (ordinary, portable))
    for key in want:
        assert_near(have[key], want[key], 1e-6)


def pooled(opset: int, batch: int | str = "n") -> ModelProto:
    """Overlapping windows, a strided convolution, and one of the classes ruled out."""
    rng = np.random.default_rng(0)
    weights = {
        "w": eighths(rng, 4, 2, 3, 3),
        "v": eighths(rng, 4, 4, 2, 2),
        "u": eighths(rng, 4, 3),
        "b": FLOAT.type([0, 0, -np.inf]),
    }
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "c"),
        node("MaxPool", "c", "d", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", "d v", "e", strides=[2, 2]),
        node("Relu", "e", "f"),
        node("GlobalMaxPool", "f", "g"),
        node("Flatten", "g", "h"),
        node("Gemm", "h u b", "y"),
    ]
    return model(nodes, {"x": [batch, 2, 9, 9]}, ["y"], weights, opset=opset)


X = np.round(np.random.default_rng(1).normal(size=(3, 2, 9, 9)) * 2).astype(FLOAT) / 2  # ties are everywhere


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": "input"},
        {"contrast": "runner-up"},
        {"preset": "lrp-epsilon", "target": "score"},
        {"preset": "gradient", "target": 1},
    ],
    ids=str,
)
def test_ties_and_classes_that_are_ruled_out(options: dict[str, Any], opset: int) -> None:
    more: dict[str, Any] = {"target": [1, -1, 0]} if options.get("target") == "input" else {}
    more |= {"score": np.float32([[1, 0, 0], [0.5, -0.5, 0], [0, 2, 0]])} if options.get("target") == "score" else {}
    made = [Explainer(onnxdtd.compile(pooled(opset), low=-3, high=3, portable=each, **options)) for each in (False, True)]
    want, have = (each(X, **more) for each in made)
    np.testing.assert_array_equal(have.logit, want.logit)
    assert_near(have.relevance["x"], want.relevance["x"], 1e-6)


def test_a_copy_is_cut_like_the_tensor() -> None:
    """Of an average pool that rounds up a runtime counts a window too many, at the baseline too, whose size it knows."""
    source = net(NETS["local"], 17)
    want, have = (
        Session(onnxdtd.compile(source, "deeplift-rescale", portable=each))(**feeds(source)) for each in (False, True)
    )
    assert_near(have["relevance"], want["relevance"], 1e-6)


def test_a_class_that_does_not_exist_is_no_number() -> None:
    found = Session(onnxdtd.compile(pooled(17), low=-3, high=3, portable=True, target="input"))(
        x=X, target=np.asarray([0, 7, -2])
    )
    assert np.isfinite(found["relevance"][0]).all()
    assert np.isnan(found["relevance"][1:]).all()


@pytest.mark.parametrize("batch", ["n", 3])
def test_weights_of_what_is_added_stand_in_the_file(batch: int | str) -> None:
    """Those of convolutions and of matrices; in an ordinary file they are computed."""
    layers = ("Conv", "ConvTranspose", "Gemm")
    held = {}
    for portable in (False, True):
        proto = onnxdtd.compile(pooled(17, batch), "lrp-alpha2beta1", portable=portable)
        stored = {t.name for t in proto.graph.initializer}
        held[portable] = all(n.input[1] in stored for n in added(proto) if n.op_type in layers)
        read = {name for n in proto.graph.node for name in n.input}
        assert {t.name for t in proto.graph.initializer} <= read
        made = {name for n in proto.graph.node for name in n.output}
        assert stored.isdisjoint(made)
    assert held == {False: False, True: True}


def test_what_is_only_repeated_is_no_weight() -> None:
    """Zeros of the size of a map, by a channel that no relevance comes to."""
    proto = onnxdtd.compile(pooled(17, 64), "dtd", low=-1, high=1, portable=True)
    own = {name for n in added(proto) for name in n.input}
    assert max(len(t.raw_data) for t in proto.graph.initializer if t.name in own) < SMALL


def test_the_reference_has_all_that_weights_are_made_with() -> None:
    for at in range(17, 25):
        for op in MADE:
            assert load_op("", op, max(at, OLDEST.get(op, at)))


def test_dequantised_weights_are_folded() -> None:
    proto = onnxdtd.compile(net(NETS["dequantised weights"], 17), "lrp-alpha2beta1", portable=True)
    stored = {t.name for t in proto.graph.initializer} | {
        name for n in proto.graph.node for name in n.output if n not in added(proto)
    }
    assert all(n.input[1] in stored for n in added(proto) if n.op_type in ("Conv", "ConvTranspose"))


def test_the_file_says_that_it_is_portable() -> None:
    proto = onnxdtd.compile(pooled(17), portable=True)
    told = read_metadata(proto)
    assert told["portable"] is True
    assert "portable" not in read_metadata(onnxdtd.compile(pooled(17)))
    assert Request.from_data(told_request(told, ["x"])).portable


def test_a_portable_file_is_verified(tmp_path: Path) -> None:
    """By its steps in the ordinary form, with a ledger."""
    source, compiled = tmp_path / "net.onnx", tmp_path / "portable.onnx"
    onnx.save(net(NETS["skips"], 17), source)
    for preset in ("dtd", "gradient"):
        onnxdtd.save(onnxdtd.compile(source, preset, portable=True), compiled, source)
        report = verify(compiled, source)
        assert [check for check in report.checks if check.passed is False] == []
        assert report.passed


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(pooled(17), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    with pytest.raises(RequestError, match=r"--portable.* another file \(net.bin\); save the model with all weights inside"):
        onnxdtd.compile(path, portable=True)
    onnx.save(onnx.load(path), tmp_path / "whole.onnx")
    assert onnxdtd.compile(tmp_path / "whole.onnx", portable=True)
