"""Real classifiers from many exporters: the predictor stays as it was, and the explanation holds what it promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from assets import ASSETS, MISSING, Asset

import onnxdtd
from onnxdtd.contract import KEPT

pytestmark = [pytest.mark.skipif(bool(MISSING), reason=MISSING), pytest.mark.slow]

OFF = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
ALL = ort.GraphOptimizationLevel.ORT_ENABLE_ALL

# Models whose positive biases keep neurons alive that have no positive input: theory asks for biases ≤ 0, and what such a
# neuron is given has nowhere to go. The share of the logit that reaches the input on these samples, at least.
NOT_CONSERVING = {
    "mnist_cnn_bn_pytorch": 0.98,
    "cifar10_resnet2b_pytorch": 0.96,
    "shapes_cnn_pytorch_dynamic": 0.998,
    "imagenet_mobilenetv2_fp32": 0.00005,
    "imagenet_mobilenetv2_int8": 0.00005,
    "cifar10_vit_pgd_pytorch": 0.0,
    "handsign_mlp_argmax_tflite2onnx": 0.99,
}
# On a CPU ONNX Runtime computes half precision in float32 and rounds tensors that are read by nodes in half precision: further
# readers change which, so not even the prediction stays the same bit by bit, whatever the optimisation level.
TOLERANCE = {"imagenet_squeezenet11_fp16_caffe2": 1e-2}


def session(model: str | bytes, level: ort.GraphOptimizationLevel) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def one_by_one(running: ort.InferenceSession, x: np.ndarray) -> list[list[np.ndarray]]:
    """The outputs for each sample; some of the models take a batch of 1 only."""
    name = running.get_inputs()[0].name
    return [running.run(None, {name: x[i : i + 1]}) for i in range(len(x))]


@pytest.fixture(scope="module", params=ASSETS, ids=lambda asset: asset.name)
def asset(request: pytest.FixtureRequest) -> Asset:
    return request.param


@pytest.fixture(scope="module")
def compiled(asset: Asset) -> onnx.ModelProto:
    low, high = asset.bounds
    return onnxdtd.compile(asset.path, "dtd", low=low, high=high)


def test_full_check(compiled: onnx.ModelProto) -> None:
    onnx.checker.check_model(compiled, full_check=True)


def test_only_standard_operators_are_added(asset: Asset, compiled: onnx.ModelProto) -> None:
    added = [node for node in compiled.graph.node if node.name.startswith("dtd/")]
    assert added
    assert {node.domain for node in added} == {""}
    assert not {node.op_type for node in added} & {"If", "Loop", "Scan"}


def test_small_and_reproducible(asset: Asset, compiled: onnx.ModelProto) -> None:
    low, high = asset.bounds
    again = onnxdtd.compile(asset.path, "dtd", low=low, high=high)
    data = compiled.SerializeToString(deterministic=True)
    assert again.SerializeToString(deterministic=True) == data
    assert len(data) <= 1.05 * asset.path.stat().st_size + 200_000


@pytest.mark.parametrize(("level", "tolerance"), [(OFF, 0.0), (ALL, 1e-5)], ids=["off", "all"])
def test_prediction_is_unchanged(
    asset: Asset, compiled: onnx.ModelProto, level: ort.GraphOptimizationLevel, tolerance: float
) -> None:
    x = asset.inputs()[:2]
    before = one_by_one(session(str(asset.path), level), x)
    after = one_by_one(session(compiled.SerializeToString(), level), x)
    for old, new in zip(before, after, strict=True):
        for a, b in zip(old, new[: len(old)], strict=True):
            assert np.abs(a - b).max() <= TOLERANCE.get(asset.name, tolerance) * np.abs(a).max()


def test_relevance_is_positive_and_adds_up(asset: Asset, compiled: onnx.ModelProto) -> None:
    explainer = onnxdtd.Explainer(compiled, ["CPUExecutionProvider"])
    for x in asset.inputs()[:5]:
        explanation = explainer(x[None])
        ((_, relevance),) = explanation.relevance.items()
        assert explanation.logit is not None
        logit = explanation.logit.sum(dtype=np.float64)
        assert np.isfinite(relevance).all()
        assert (relevance * np.sign(logit)).min() >= 0
        share = relevance.sum(dtype=np.float64) / logit
        error = TOLERANCE.get(asset.name, 1e-3)
        assert NOT_CONSERVING.get(asset.name, 1 - error) <= share <= 1 + error


def test_every_unit_of_relevance_is_accounted_for(asset: Asset) -> None:
    """The logit is the relevance of the input and what the ledger says was kept; one preset after the other."""
    preset = ("dtd", "lrp-epsilon", "lrp-alpha2beta1")[ASSETS.index(asset) % 3]
    low, high = asset.bounds
    explainer = onnxdtd.Explainer(
        onnxdtd.compile(asset.path, preset, low=low, high=high, ledger=True), ["CPUExecutionProvider"]
    )
    for x in asset.inputs()[:2]:
        explanation = explainer(x[None])
        assert explanation.ledger is not None
        totals = explanation.ledger.totals()
        relevance = sum(r.sum(dtype=np.float64) for r in explanation.relevance.values())
        kept = sum(totals[name][0] for name in KEPT)
        limit = 1e-3 if asset.dtype == np.float16 else 1e-4  # the relevance of a half-precision input is rounded to it
        assert abs(relevance + kept - totals["logit"][0]) <= limit * abs(totals["logit"][0])


def test_the_runtime_is_silent(
    asset: Asset, compiled: onnx.ModelProto, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime warns of any input with a default, as ``target`` is if one wants it; else it has nothing to say."""
    out = tmp_path / "out.onnx"
    for proto, warnings in ((compiled, 0), (onnxdtd.compile(asset.path, target="optional"), 1)):
        onnxdtd.save(proto, out, asset.path)
        ort.InferenceSession(out, providers=["CPUExecutionProvider"])
        lines = [line for line in "".join(capfd.readouterr()).splitlines() if line.strip("\x1b[m ")]
        assert len(lines) == warnings, lines
        assert all("Initializer target appears in graph inputs" in line for line in lines)


def test_argmax_and_target_agree(asset: Asset) -> None:
    """Asking for the class that wins anyway changes nothing; asking for another gives another explanation."""
    explainer = onnxdtd.Explainer(onnxdtd.compile(asset.path, target="input"), ["CPUExecutionProvider"])
    x = asset.inputs()[:1]
    best = explainer(x)
    (input_name,) = explainer.inputs
    chosen = int(next(iter(best.outputs.values())).reshape(1, -1).argmax())
    np.testing.assert_array_equal(explainer(x, chosen).relevance[input_name], best.relevance[input_name])
    assert not np.array_equal(explainer(x, chosen - 1 if chosen else 1).relevance[input_name], best.relevance[input_name])
