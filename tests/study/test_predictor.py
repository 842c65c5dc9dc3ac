"""The logits of a classifier in batches: the numbers that its own file gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from assets import MISSING, ROOT
from nets import eighths, model, node

from onnxdtd.compiler.compile import prepare
from onnxdtd.data.read import Layout
from onnxdtd.errors import RequestError
from onnxdtd.request import Request
from onnxdtd.study.predictor import Scores, cut, in_batches

RNG = np.random.default_rng(9)
MODELS = Path(__file__).resolve().parents[2] / "models"


def dense(batch: int | str, head: str | None, classes: int = 3) -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "z")] + ([node(head, "z", "y")] if head else [])
    return model(nodes, {"x": [batch, 4]}, ["y" if head else "z"], {"w": eighths(RNG, 4, classes)})


def scores(proto: onnx.ModelProto, folder: Path) -> Scores:
    return Scores(prepare(proto, Request(preset="lrp-epsilon")), folder, threads=1)


@pytest.mark.parametrize("batch", ["n", 1, 3])
@pytest.mark.parametrize("head", [None, "Softmax"])
def test_logits_and_probabilities(batch: int | str, head: str | None, tmp_path: Path) -> None:
    proto, x = dense(batch, head), eighths(RNG, 7, 4)
    (w,) = (onnx.numpy_helper.to_array(t) for t in proto.graph.initializer)
    found = scores(proto, tmp_path)
    np.testing.assert_allclose(found.logits(x), x @ w, atol=1e-6)
    powers = np.exp((x @ w).astype(np.float64))
    np.testing.assert_allclose(found.probabilities(found.logits(x)), powers / powers.sum(1, keepdims=True), atol=1e-6)


def test_a_sigmoid_has_two_classes(tmp_path: Path) -> None:
    proto, x = dense("n", "Sigmoid", classes=1), eighths(RNG, 5, 4)
    (w,) = (onnx.numpy_helper.to_array(t) for t in proto.graph.initializer)
    found = scores(proto, tmp_path)
    np.testing.assert_allclose(found.logits(x), np.concatenate([-x @ w, x @ w], axis=1), atol=1e-6)
    np.testing.assert_allclose(found.probabilities(found.logits(x))[:, 1:], 1 / (1 + np.exp(-x @ w)), atol=1e-6)


def test_what_runs_is_what_fits(tmp_path: Path) -> None:
    sizes: list[int] = []

    def note(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return x

    x = np.arange(10.0).reshape(5, 2)
    np.testing.assert_array_equal(in_batches(x, Layout([2], 0), note, most=2), x)
    np.testing.assert_array_equal(in_batches(x, Layout([2], 0, 3), note), x)
    assert sizes == [2, 2, 1, 3, 3]


def test_bundled_models_through_their_own_file() -> None:
    x = np.load(MODELS / "digits_samples.npz")["image"]
    path = MODELS / "digits_resnet.onnx"
    found = Scores(prepare(path, Request(preset="dtd", low=0.0, high=1.0)), MODELS)
    (expected,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": x})
    np.testing.assert_allclose(found.probabilities(found.logits(x)), expected, atol=1e-6)


def test_a_head_that_hides_its_logits() -> None:
    """scikit-learn's: the logits come from nodes of our own."""
    x = np.load(MODELS / "digits_samples.npz")["image"].reshape(20, 64)
    path = MODELS / "digits_sklearn.onnx"
    found = Scores(prepare(path, Request(preset="dtd", low=0.0, high=1.0)), MODELS)
    _, expected = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": x})
    np.testing.assert_allclose(found.probabilities(found.logits(x)), expected, atol=1e-6)


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_one_class_against_the_rest() -> None:
    """Its probabilities are no softmax, and none is passed off as theirs."""
    path = ROOT / "models" / "iris_logreg_skl2onnx.onnx"
    x = np.load(ROOT / "data" / "iris_150.npz")
    data = x[next(n for n in x.files if x[n].ndim == 2)].astype(np.float32)
    found = Scores(prepare(path, Request(preset="lrp-epsilon")), path.parent)
    logits = found.logits(data)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    runs = [session.run(None, {session.get_inputs()[0].name: row[None]})[1] for row in data]
    rows = np.array([list(run[0].values()) if isinstance(run, list) else run[0] for run in runs])
    sigmoids = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(sigmoids / sigmoids.sum(axis=1, keepdims=True), rows, atol=1e-6)
    with pytest.raises(RequestError, match="no softmax"):
        found.probabilities(logits)


def test_sigmoids_written_out_are_one_class_against_the_rest(tmp_path: Path) -> None:
    """1 / (1 + exp(-z)) of several classes is no softmax of z."""
    nodes = [node("MatMul", "x w", "z"), node("Neg", "z", "n"), node("Exp", "n", "e"), node("Add", "e one", "d")]
    weights = {"w": eighths(RNG, 4, 3), "one": np.float32(1)}
    proto = model([*nodes, node("Reciprocal", "d", "y")], {"x": ["n", 4]}, ["y"], weights)
    found = scores(proto, tmp_path)
    with pytest.raises(RequestError, match="the probabilities of this model are no softmax of its logits"):
        found.probabilities(found.logits(eighths(RNG, 2, 4)))


def test_samples_are_cut_into_batches() -> None:
    """A fixed batch is filled up with its last sample, which does not count again."""
    listed = lambda *options: [(rows.tolist(), count) for rows, count in cut(np.asarray([3, 5, 8, 9, 10]), *options)]
    assert listed(2) == [([3, 5], 2), ([8, 9], 2), ([10], 1)]
    assert listed(3, 3) == [([3, 5, 8], 3), ([9, 10, 10], 2)]
    assert listed(1, 2) == [([i, i], 1) for i in (3, 5, 8, 9, 10)]
    assert list(cut(np.asarray([], int), 4, 4)) == []
