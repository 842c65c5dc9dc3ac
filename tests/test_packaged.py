"""Classifiers that ship inside packages: relevance per byte, per bigram, and per bin of a spectrogram computed inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from assets import MISSING, ROOT
from onnx import TensorProto, helper

import onnxdtd
from onnxdtd import Explainer

pytestmark = [pytest.mark.skipif(bool(MISSING), reason=MISSING), pytest.mark.slow]

CPU = ["CPUExecutionProvider"]
LOGITS = "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/Dense_1/AddV2:0"
SPECTROGRAM = "model_1/normalized_log_1/Reshape_2;model_1/normalized_log_1/Reshape_2"
NOTES = "StatefulPartitionedCall:2"


def load(name: str) -> onnx.ModelProto:
    return onnx.load(ROOT / "models" / f"{name}.onnx")


def samples(name: str, key: str) -> np.ndarray:
    return np.load(ROOT / "data" / f"{name}_samples.npz")[key]


def session(proto: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, 3
    return ort.InferenceSession(proto.SerializeToString(), options, providers=CPU)


def cut(proto: onnx.ModelProto, at: str, shape: list[int | str], *outputs: str) -> ort.InferenceSession:
    """The part of a model above a tensor, which is an input then; ``outputs`` are given beside its own."""
    upper = onnx.ModelProto()
    upper.CopyFrom(proto)
    kept = [node for node in upper.graph.node if at not in node.output]
    del upper.graph.node[:]
    upper.graph.node.extend(kept)
    upper.graph.input.append(helper.make_tensor_value_info(at, TensorProto.FLOAT, shape))
    upper.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    return session(upper)


def slope(score: Callable[[np.ndarray], float], x: np.ndarray, way: np.ndarray, step: float) -> float:
    """The change of a score along a way, by central differences."""
    return (score(x + step * way) - score(x - step * way)) / (2 * step)


def tensor(proto: onnx.ModelProto, end: str) -> str:
    """The only tensor whose name ends so."""
    (name,) = [name for node in proto.graph.node for name in node.output if name.endswith(end)]
    return name


# ------------------------------------------------------------------------------------------------------ bytes of a file


def test_bytes_of_a_file() -> None:
    """The gradient times what a byte looks up is how the logit changes where that is scaled; a type's marks stand out."""
    proto, x = load("magika_v3_3"), samples("magika", "bytes")
    looked_up = tensor(proto, "Dense_0/einsum/Einsum:0")
    found = Explainer(onnxdtd.compile(proto, "gradient-x-input"), CPU, optimise=False)(x)
    assert found.relevance["bytes"].shape == x.shape
    (predicted,) = session(proto).run(None, {"bytes": x})
    np.testing.assert_array_equal(found.outputs["target_label"], predicted)
    part = onnx.ModelProto()
    part.CopyFrom(proto)
    part.graph.output.append(helper.make_empty_tensor_value_info(looked_up))
    e = session(part).run([looked_up], {"bytes": x[:1]})[0]
    upper = cut(proto, looked_up, ["n", *e.shape[1:]], LOGITS)
    score = lambda e: float(upper.run([LOGITS], {"bytes": x[:1], looked_up: e.astype(np.float32)})[0][0, predicted[0].argmax()])
    relevance = found.relevance["bytes"][0]
    strongest = np.argsort(-np.abs(relevance))[:12]
    one = lambda place: e * (np.arange(e.shape[1]) == place)[None, :, None]
    slopes = np.array([slope(score, e, one(place), 2e-3) for place in strongest])
    # A maximum over positions has kinks: another wins a little further on.
    assert np.median(np.abs(slopes - relevance[strongest])) < 0.02 * np.abs(relevance).max()


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon"])
def test_the_marks_of_a_file_type_stand_out(preset: str) -> None:
    """The signature and the last chunk of a PNG, the heading of a page in Markdown."""
    x = samples("magika", "bytes")
    (relevance,) = Explainer(onnxdtd.compile(load("magika_v3_3"), preset), CPU)(x).relevance.values()
    picture, page = relevance[2], relevance[1]
    assert bytes(x[2, 1:4].astype(np.uint8)) == b"PNG"
    assert bytes(x[1, :2].astype(np.uint8)) == b"# "
    assert np.concatenate([picture[:16], picture[-16:]]).sum() > 0.4 * np.abs(picture).sum() * (0.5 if preset == "dtd" else 0.3)
    assert page[0] > np.sort(page)[-10]


# ------------------------------------------------------------------------------------------------------ counts of bigrams


def test_counts_of_bigrams() -> None:
    proto, x, labels = load("guesslang_u8"), samples("guesslang", "counts"), samples("guesslang", "label")
    compiled = Explainer(onnxdtd.compile(proto, "gradient", target="input"), CPU, optimise=False)
    running = session(proto)
    names = [node.name for node in running.get_outputs()]
    plain = dict(zip(names, running.run(None, {"counts": x}), strict=True))
    found = compiled(x)
    for name, values in plain.items():
        np.testing.assert_array_equal(found.outputs[name], values)
    assert sum(found.outputs[names[0]].argmax(-1) == labels) == 9
    gradient = found.relevance["counts"]
    score = lambda row, k: float(Explainer.__call__(compiled, row[None].astype(np.float32), [k]).logit[0])
    strongest = np.argsort(-np.abs(gradient[0] * x[0]))[:8]
    k = int(found.outputs[names[0]][0].argmax())
    slopes = [slope(lambda row: score(row, k), x[0], np.eye(x.shape[1])[place], 0.05) for place in strongest]
    np.testing.assert_allclose(slopes, gradient[0, strongest], atol=0.02 * np.abs(gradient[0, strongest]).max())


# ------------------------------------------------------------------------------------- a spectrogram inside of the model


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "gradient"])
def test_a_spectrogram_inside(preset: str) -> None:
    """As of the model that begins with it; the note's harmonics, 36 bins an octave from 27.5 Hz on, have most relevance."""
    proto, audio = load("basicpitch_nmp_tf2onnx"), samples("basicpitch", "audio")
    bounds = {"low": {SPECTROGRAM: 0.0}, "high": {SPECTROGRAM: 1.0}}
    made = onnxdtd.compile(proto, preset, output=NOTES, target="111,43", from_=[SPECTROGRAM], **bounds)
    found = Explainer(made, CPU, optimise=False)(audio)
    plain = session(proto)
    names = [node.name for node in plain.get_outputs()]
    for name, values in zip(names, plain.run(None, {plain.get_inputs()[0].name: audio}), strict=True):
        np.testing.assert_array_equal(found.outputs[name], values)
    spectrogram, relevance = found.values[SPECTROGRAM], found.relevance[SPECTROGRAM]
    assert spectrogram.shape == relevance.shape == (1, 172, 309)
    twin = onnxdtd.compile(load("basicpitch_from_cqt"), preset, target=111 * 88 + 43, low=0.0, high=1.0)
    (expected,) = Explainer(twin, CPU, optimise=False)(spectrogram).relevance.values()
    np.testing.assert_allclose(relevance, expected, atol=1e-4 * np.abs(expected).max())
    bins = np.abs(relevance[0]).sum(axis=0)
    assert abs(int(bins[:140].argmax()) - 3 * 43) <= 1, "the fundamental"
    harmonics = [round(3 * 43 + 36 * np.log2(n)) for n in range(1, 8)]
    near = np.concatenate([bins[h - 1 : h + 2] for h in harmonics])
    assert near.mean() > 1.5 * bins[73:252].mean()
    if preset == "gradient":
        score = lambda s: float(upper.run([NOTES], {SPECTROGRAM: s.astype(np.float32), **fed})[0][0, 111, 43])
        fed, upper = {plain.get_inputs()[0].name: audio}, cut(proto, SPECTROGRAM, [1, 172, 309])
        p = score(spectrogram)
        for place in np.argsort(-np.abs(relevance), axis=None)[:6]:
            way = (np.arange(relevance.size) == place).reshape(relevance.shape)
            assert slope(score, spectrogram, way, 5e-3) / (p * (1 - p)) == pytest.approx(relevance.ravel()[place], rel=0.1)
