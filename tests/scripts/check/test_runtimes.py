"""The same compiled model in ONNX Runtime at every optimisation level, the reference implementation of onnx, and OpenVINO.

A difference is allowed to be a rounding error, and what the relevance of that very sample makes of one: it is also computed for
inputs whose entries are moved to neighbouring floats.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import engines as E  # noqa: N812
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import runtimes as R  # noqa: N812
from assets import ASSETS, MISSING
from classifiers import OPERATORS, convolutional, dense, pictures, small
from nets import FLOAT, integers, model, node
from onnx import ModelProto, NodeProto
from pairs import pairs

import onnxdtd
from onnxdtd.errors import OnnxdtdError

ROOT = Path(__file__).resolve().parents[3]
OFF = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
NAMES = ["ORT basic", "ORT extended", "ORT all", "ORT .ort", "reference", "OpenVINO"]
PRESETS = ["dtd", "lrp-epsilon", "lrp-alpha2beta1", "gradient"]
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed: pip install -e '.[runtimes]'")
RUNTIMES = pytest.mark.parametrize("name", [pytest.param(n, marks=needs_openvino) if n == "OpenVINO" else n for n in NAMES])


def with_presets_and_runtimes(*cases: Any) -> list[Any]:
    """Each case with every preset or runtime, though not with both."""
    return [pytest.param(*r, marks=needs_openvino) if r[2] == "OpenVINO" else r for r in pairs(cases, PRESETS, NAMES)]


def check(name: str, compiled: ModelProto, feed: str, x: np.ndarray) -> None:
    """Each sample within ten times what a rounding error of the input does to it, or 5e-6."""
    yardstick = E.onnxruntime(compiled, "relevance", OFF)
    expected = yardstick({feed: x}).astype(np.float64)
    rng = np.random.default_rng(0)
    moved = [R.difference(yardstick({feed: R.neighbour(x, rng)}).astype(np.float64), expected) for _ in range(8)]
    found = E.runtimes(0)[name](compiled, "relevance")({feed: x})
    assert found.dtype == x.dtype
    assert found.shape == x.shape
    differences = R.difference(found.astype(np.float64), expected)
    assert np.median(differences) <= 5e-6
    for difference, neighbours in zip(differences, zip(*moved, strict=True), strict=True):
        assert difference <= max(5e-6, 10 * max(neighbours)), (differences, neighbours)


# ------------------------------------------------------------------------------------------------------- operators, networks


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def behind_a_conv(*nodes: NodeProto, channels: int = 4, **constants: Sequence[int] | np.ndarray) -> ModelProto:
    """Conv, then ``nodes`` from c to h, then the mean of each of ``channels`` channels and three classes."""
    weights = {"k": normal(4, 3, 3, 3), "last": normal(channels, 3)} | {n: np.asarray(v) for n, v in constants.items()}
    tail = [node("GlobalAveragePool", "h", "g"), node("Flatten", "g", "f"), node("Gemm", "f last", "y")]
    return model([node("Conv", "x k", "c"), *nodes, *tail], {"x": ["n", 3, 10, 10]}, ["y"], weights)


ZOOM = {"sc": np.float32([1, 1, 2, 2])}
WINDOWS = {
    "MaxPool, overlapping": behind_a_conv(node("MaxPool", "c", "h", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)),
    "MaxPool, ceil": behind_a_conv(node("MaxPool", "c", "h", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
    "MaxPool, dilated": behind_a_conv(node("MaxPool", "c", "h", kernel_shape=[2, 2], dilations=[2, 2])),
    "AveragePool, padded": behind_a_conv(node("AveragePool", "c", "h", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)),
    "GlobalMaxPool": behind_a_conv(node("GlobalMaxPool", "c", "h")),
    "Resize, nearest": behind_a_conv(
        node("Resize", "c _ sc", "h", coordinate_transformation_mode="asymmetric", nearest_mode="floor"), **ZOOM
    ),
    "Resize, linear": behind_a_conv(node("Resize", "c _ sc", "h", mode="linear"), **ZOOM),
    "Gather": behind_a_conv(node("Gather", "c i", "h", axis=2), i=[0, 2, 2, 3]),
    "Slice": behind_a_conv(node("Slice", "c s e a t", "h"), s=[0], e=[7], a=[2], t=[2]),
    "Pad": behind_a_conv(node("Pad", "c p", "h", mode="reflect"), p=[0, 0, 1, 1, 0, 0, 1, 1]),
    "DepthToSpace": behind_a_conv(node("DepthToSpace", "c", "h", blocksize=2, mode="CRD"), channels=1),
    "Einsum": behind_a_conv(node("Einsum", "c w", "h", equation="nchw,cd->ndhw"), w=normal(4, 4)),
    "Conv, stride": behind_a_conv(node("Conv", "c k2", "h", strides=[2, 2], pads=[1] * 4), k2=normal(4, 4, 3, 3)),
    "Conv, groups": behind_a_conv(node("Conv", "c k2", "h", group=2, dilations=[2, 1]), k2=normal(4, 2, 3, 3)),
    "ConvTranspose": behind_a_conv(node("ConvTranspose", "c k2", "h", strides=[2, 2], pads=[1] * 4), k2=normal(4, 4, 3, 3)),
}


@pytest.mark.parametrize(("window", "preset", "name"), with_presets_and_runtimes(*WINDOWS))
def test_windows_and_moves(window, preset, name):
    check(name, onnxdtd.compile(WINDOWS[window], preset, low=-5, high=5), "x", normal(5, 3, 10, 10))


@RUNTIMES
def test_of_equal_entries_in_a_window_the_first_wins(name):
    """Small integers: ties everywhere and sums that are exact in every runtime."""
    weights = {"k": integers(np.random.default_rng(0), 4, 3, 1, 1), "last": integers(np.random.default_rng(1), 100, 3)}
    nodes = [
        node("Conv", "x k", "c"),
        node("MaxPool", "c", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "p", "f"),
    ]
    net = model([*nodes, node("MatMul", "f last", "y")], {"x": ["n", 3, 10, 10]}, ["y"], weights)
    compiled, x = onnxdtd.compile(net, "gradient"), integers(np.random.default_rng(2), 5, 3, 10, 10, low=-1, high=1)
    expected = E.onnxruntime(compiled, "relevance", OFF)({"x": x})
    assert expected.any()
    np.testing.assert_array_equal(E.runtimes(0)[name](compiled, "relevance")({"x": x}), expected)


@RUNTIMES
def test_of_equal_logits_the_first_is_explained(name):
    w = np.float32([[-1, 2, 1, 0], [1, 1, 2, 0]])
    compiled = onnxdtd.compile(model([node("MatMul", "x w", "y")], {"x": ["n", 2]}, ["y"], {"w": w}), "gradient")
    found = E.runtimes(0)[name](compiled, "relevance")({"x": np.float32([[1, 1], [0, 0], [2, 2]])})
    np.testing.assert_array_equal(found, w.T[[1, 0, 1]])


@pytest.mark.parametrize(("operator", "preset", "name"), with_presets_and_runtimes(*OPERATORS))
def test_operators(operator, preset, name):
    if (operator, name) == ("ReduceLogSum", "OpenVINO"):
        pytest.skip("OpenVINO itself is wrong there, by more than the largest entry")
    nodes, constants, opset = OPERATORS[operator]
    try:
        compiled = onnxdtd.compile(small(nodes, (2, 3, 4), constants, 12, opset)(FLOAT), preset, low=-5, high=5)
    except OnnxdtdError:
        assert preset != "gradient", "no derivative"
        return
    check(name, compiled, "x", np.random.default_rng(3).normal(size=(5, 3, 4)).astype(np.float32))


@pytest.mark.parametrize(("net", "preset", "name"), with_presets_and_runtimes(convolutional, dense))
def test_networks(net, preset, name):
    check(name, onnxdtd.compile(net(), preset, low=-4, high=4), "x", pictures(5))


@RUNTIMES
def test_nothing_to_divide_by(name):
    """Zero, one and one that is nearly zero: an exact zero comes out, and no NaN."""
    weights = {"w": np.float32([[1], [-1]]), "b": np.float32([5]), "v": np.float32([[1]])}
    net = model([node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("Gemm", "r v", "y")], {"x": ["n", 2]}, ["y"], weights)
    compiled = onnxdtd.compile(net, "dtd", settings=["h_node=z+"])
    found = E.runtimes(0)[name](compiled, "relevance")({"x": np.float32([[0, 0], [1, 1], [2**-120, 0]])})
    np.testing.assert_array_equal(found, [[0, 0], [5, 0], [0, 0]])


# --------------------------------------------------------------------------------------------------------- real classifiers


BUNDLED = {case.name: case for case in islice(R.cases(), len(R.BUNDLED))}


@pytest.mark.parametrize(("case", "preset", "name"), with_presets_and_runtimes(*BUNDLED))
def test_bundled_classifiers(case, preset, name):
    case = BUNDLED[case]
    if name == "OpenVINO" and case.name == "digits_sklearn":
        assert E.alone(E.openvino)([R.predicting(case)])[0].error
        pytest.skip("OpenVINO has no operators of ai.onnx.ml, which the predictor needs")
    check(name, onnxdtd.compile(case.model, preset, low=0, high=1), case.input, case.samples)


ALTERNATING = list(zip(ASSETS[::2], cycle(PRESETS), strict=False))


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize(("asset", "preset"), ALTERNATING, ids=lambda value: getattr(value, "name", value))
def test_real_classifiers(asset, preset, monkeypatch):
    """Whatever runtime in Python takes the predictor explains it, the same up to rounding; the script does all, with every
    preset.
    """
    monkeypatch.setattr(E, "web", lambda: ({}, ""))
    if asset.path.stat().st_size >= R.HUGE:
        pytest.skip("large")
    case = R.case(asset.name, asset.path, asset.inputs(), *asset.bounds)
    (row,) = R.measured(case, [(preset, "flat")])
    assert not row.failures()
    assert not row.refused
    assert set(row.differences) >= {"ORT basic", "ORT extended", "ORT all"}
    for name, found in row.differences.items():
        if name != "OpenVINO":
            assert np.median(found) <= case.limit
            assert max(found) <= max(1e-5, 10 * max(row.neighbours)), name


# ------------------------------------------------------------------------------------------------------------------- faults


CONFUSED = onnx.parser.parse_model(
    """<ir_version: 8, opset_import: ["": 17]>
    net (float[1, 2] x) => (float[1, 2] z) <float[2, 2] w = {1, 2, 3, 4}> {
        y = Gemm<transB = 1>(x, w)
        z = Gemm(y, w)
    }"""
)


@needs_openvino
def test_openvino_takes_one_weight_for_another():
    """x Wᵀ Wᵀ, or with one thread x W W, for x Wᵀ W: why adjoints of square weights are written as they are."""
    x, w = np.float32([[1, 0]]), np.float32([[1, 2], [3, 4]])
    right, wrong = x @ w.T @ w, [x @ w.T @ w.T, x @ w @ w]
    np.testing.assert_array_equal(E.onnxruntime(CONFUSED, "z", OFF)({"x": x}), right)
    found = E.openvino(CONFUSED, "z")({"x": x})
    if np.array_equal(found, right):
        pytest.skip("OpenVINO has mended it: rows_back of linear.py and apart of windows.py may go")
    assert any(np.array_equal(found, one) for one in wrong)


def squares(*nodes: NodeProto, shape: Sequence[Any], **weights: np.ndarray) -> ModelProto:
    """From x to a tensor h that is as wide as x, then the mean over all that is behind its second axis."""
    tail = [] if len(shape) == 2 else [node("Flatten", "h", "f")]
    width = int(np.prod(shape[1:]))
    constants = weights | {"last": normal(width, 3)}
    return model([*nodes, *tail, node("MatMul", "f last" if tail else "h last", "y")], {"x": shape}, ["y"], constants)


SQUARE = {
    "Gemm": squares(node("Gemm", "x w", "h"), shape=["n", 4], w=normal(4, 4)),
    "Gemm, transposed": squares(node("Gemm", "x w", "h", transB=1), shape=["n", 4], w=normal(4, 4)),
    "MatMul": squares(node("MatMul", "x w", "h"), shape=["n", 4], w=normal(4, 4)),
    "MatMul of rows": squares(node("MatMul", "x w", "h"), shape=["n", 3, 4], w=normal(4, 4)),
    "MatMul from the left": squares(node("MatMul", "w x", "h"), shape=["n", 4, 4], w=normal(4, 4)),
    "Einsum": squares(node("Einsum", "x w", "h", equation="bij,jk->bik"), shape=["n", 4, 4], w=normal(4, 4)),
    "Conv": squares(
        node("Conv", "x w", "c", strides=[2, 2]),
        node("Resize", "c _ zoom", "h"),
        shape=["n", 4, 4, 4],
        w=normal(4, 4, 2, 2),
        zoom=np.float32([1, 1, 2, 2]),
    ),
    "Conv of groups": squares(
        node("Conv", "x w", "c", strides=[2, 2], group=2),
        node("Resize", "c _ zoom", "h"),
        shape=["n", 4, 4, 4],
        w=normal(4, 2, 2, 2),
        zoom=np.float32([1, 1, 2, 2]),
    ),
    "Conv of points": squares(node("Conv", "x w", "h"), shape=["n", 4, 4, 4], w=normal(4, 4, 1, 1)),
    "ConvTranspose": squares(
        node("ConvTranspose", "x w", "c", strides=[2, 2]),
        node("Resize", "c _ zoom", "h"),
        shape=["n", 4, 4, 4],
        w=normal(4, 4, 2, 2),
        zoom=np.float32([1, 1, 0.5, 0.5]),
    ),
}


@needs_openvino
@pytest.mark.parametrize(
    ("layer", "preset", "form"), pairs([*SQUARE], ["dtd", "lrp-epsilon"], ["flat", "on demand", "portable"])
)
def test_square_weights(layer, preset, form):
    """As wide in front as behind, read forwards and backwards: OpenVINO has them right."""
    net = SQUARE[layer]
    compiled = onnxdtd.compile(net, preset, low=-5, high=5, **R.FORMS[form])
    x = normal(5, *(dim.dim_value for dim in net.graph.input[0].type.tensor_type.shape.dim[1:]))
    feeds = {"x": x} | ({"explain": np.asarray(True)} if form == "on demand" else {})
    one, other = (run(compiled, "relevance")(feeds) for run in (E.runtimes(0)["ORT all"], E.openvino))
    assert max(R.difference(other, one)) <= 2e-5


def test_a_wrong_runtime_is_found(monkeypatch):
    """One that reverses the relevance, is 1e-4 off, explains unasked, or takes the predictor alone."""

    def fails(proto: ModelProto, output: str) -> Any:
        if output == "relevance":
            raise RuntimeError("no such thing")
        return E.onnxruntime(proto, output, OFF)

    def changed(change: Any) -> Any:
        only = lambda output: change if output == "relevance" else np.asarray
        return lambda proto, output: lambda feeds: only(output)(E.onnxruntime(proto, output, OFF)(feeds))

    def always(proto: ModelProto, output: str) -> Any:
        asked = {"explain": np.asarray(True)} if output == "relevance" else {}
        return lambda feeds: E.onnxruntime(proto, output, OFF)(feeds | asked)

    wrong = {
        "reversed": changed(lambda r: r[..., ::-1]),
        "off": changed(lambda r: r * (1 + 1e-4)),
        "half": fails,
        "unasked": always,
    }
    right = {"right": changed(lambda r: r * (1 + 1e-6))}
    monkeypatch.setattr(E, "engines", lambda size: {name: E.alone(one) for name, one in (wrong | right).items()})
    (row,) = R.measured(BUNDLED["digits_mlp"], [("dtd", "on demand")])
    assert {failure.split(": ")[1].split()[0] for failure in row.failures()} == set(wrong)
    assert row.refused == {"half": "no such thing"}
    assert R.reasons([row]) == ["half, digits_mlp: no such thing (what is added)"]
    assert R.summary([row]).count("\n") == 6
    assert "| no |" in R.table([row])


def test_where_a_prediction_is_wrong_its_explanation_is_not_blamed(monkeypatch):
    def wrong(proto: ModelProto, output: str) -> Any:
        return lambda feeds: E.onnxruntime(proto, output, OFF)(feeds)[..., ::-1]

    monkeypatch.setattr(E, "engines", lambda size: {"wrong": E.alone(wrong)})
    (row,) = R.measured(BUNDLED["digits_mlp"], [("dtd", "flat")])
    assert not row.failures()
    assert not row.differences
    assert row.trouble["wrong"].startswith("wrong, by ")
    assert R.reasons([row])[0].endswith("(the prediction itself)")


def test_the_script(tmp_path):
    """It prints tables, writes the numbers, and says that all is well and what is not here; the path is empty."""
    out = tmp_path / "numbers.json"
    arguments = ["--models", "two_digits", "--presets", "dtd", "gradient", "--json", str(out)]
    done = subprocess.run(
        [sys.executable, "scripts/check/runtimes.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(out.read_text())
    forms = [("dtd", form) for form in R.FORMS] + [("gradient", "flat")]
    assert [(row["preset"], row["form"]) for row in found] == forms
    for row in found:
        assert {"ORT basic", "ORT extended", "ORT all", "ORT .ort", "reference"} <= set(row["differences"])
        assert all(len(d) == len(row["neighbours"]) and max(d) < 1e-6 for d in row["differences"].values())
    for word in ("two_digits", "1 ulp", "ORT all", "reference"):
        assert word in done.stdout
