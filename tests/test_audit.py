"""Audits of nets whose explanations are known to depend on one thing and not on another."""

from __future__ import annotations

import doctest
import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node
from PIL import Image

import onnxdtd
from onnxdtd import audit
from onnxdtd.audit import MOST_LAYERS, OTHERS, Auditor, Job, alike, assemble, chance, kept, measurable
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.metrics import spearman
from onnxdtd.request import Request
from onnxdtd.subject import Subject
from onnxdtd.verdict import verdict

RNG = np.random.default_rng(5)
MODELS = Path(__file__).parent.parent / "models"
DIGITS = np.load(MODELS / "digits_samples.npz")["image"]
# Two neurons whose weights have one positive part: z+ cannot tell them apart, the gradient can.
W1 = np.asarray([[24, 24], [32, 32], [16, 16], [-1, -8], [-8, 0], [0, -4]], np.float32) / 8
W2 = np.asarray([[3, 1, -2], [-1, 2, 3]], np.float32) / 4
X = eighths(RNG, 7, 6, low=0.25, high=1)


def mlp(shape: Sequence[Any] = ("n", 6), tail: Sequence[onnx.NodeProto] = (), **weights: np.ndarray) -> onnx.ModelProto:
    nodes = [node("MatMul", "x w1", "a"), node("Relu", "a", "h"), node("MatMul", "h w2", "y")]
    return model([*nodes, *tail], {"x": shape}, [tail[-1].output[0] if tail else "y"], {"w1": W1, "w2": W2} | weights)


def job(
    folder: Path, proto: onnx.ModelProto, *presets: str, xs: np.ndarray = X, request: Request | None = None, **options: Any
) -> Job:
    path = folder / "net.onnx"
    onnx.save(proto, path)
    return Job(path, request or Request(), presets, xs, **options)


def audited(work: Job) -> dict[str, Any]:
    measure = work.prepare()
    return assemble(work, [measure(number) for number in range(work.units())])


def by_preset(found: dict[str, Any]) -> dict[str, Any]:
    return {entry["preset"]: entry for entry in found["presets"]}


def test_whole_audit() -> None:
    """Of a real classifier: plain data, with every measurement in its place; a copy sent to another process gives the same."""
    work = Job(MODELS / "digits_cnn.onnx", Request(low=0, high=1), ("dtd", "sensitivity"), DIGITS[::5], neurons=4)
    found = audited(pickle.loads(pickle.dumps(work)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    taylor, sensitivity = (by_preset(found)[name] for name in ("dtd", "sensitivity"))
    names = ["node_linear_1", "node_linear", "node_conv2d_1", "node_conv2d"]
    for entry in (taylor, sensitivity):
        assert [row["layer"] for row in entry["cascading"]] == [row["layer"] for row in entry["independent"]] == names
        assert set(entry["similarity"]) == {"gradient-x-input", "sensitivity"}
        assert entry["verdict"] == verdict(entry)
        assert entry["cascading"][0] == entry["independent"][0], "the top layer alone, both times"
        assert entry["convergence"]
    assert taylor["rules"]["node_conv2d"] == "zB"
    assert taylor["roots"]
    assert taylor["preconditions"]["outside"] == 0
    assert (sensitivity["rules"], sensitivity["preconditions"], sensitivity["roots"]) == ({}, None, [])
    assert found["settings"] == {
        "samples": 4,
        "neurons": 4,
        "seed": 0,
        "low": 0,
        "high": 1,
        "presets": ["dtd", "sensitivity"],
    }
    assert found["best"]["preset"] == "sensitivity"
    assert work.units() == 2 * (3 + 2 * 4) + 2


def test_identity_tells_jobs_apart() -> None:
    work = Job(MODELS / "digits_mlp.onnx", Request(), ("dtd",), DIGITS[:3])
    others = [
        replace(work, xs=DIGITS[1:4]),
        replace(work, seed=1),
        replace(work, presets=("dtd-w2",)),
        replace(work, neurons=3),
    ]
    others += [replace(work, model=MODELS / "digits_cnn.onnx"), replace(work, request=Request(low=0, high=1))]
    assert len({json.dumps(job.identity()) for job in [work, replace(work), *others]}) == 1 + len(others)


def test_units_in_any_order() -> None:
    work = Job(MODELS / "digits_mlp.onnx", Request(), ("lrp-epsilon", "gradient"), DIGITS[:3])
    forward, backward = work.prepare(), work.prepare()
    numbers = [n for n, task in enumerate(work.tasks) if task.measure not in ("roots", "convergence")]
    expected = {number: forward(number) for number in numbers}
    assert {number: backward(number) for number in reversed(numbers)} == expected


@pytest.mark.parametrize("preset", ["dtd", "gradient-x-input"])
def test_nothing_drawn_changes_nothing(tmp_path: Path, preset: str) -> None:
    found = Auditor(job(tmp_path, mlp(), preset)).redrawn(preset, [])
    assert found["spearman"] == pytest.approx(1, abs=1e-12)
    assert found["spearman_abs"] == pytest.approx(1, abs=1e-12)
    found = Auditor(Job(MODELS / "digits_cnn.onnx", Request(), (preset,), DIGITS)).redrawn(preset, [])
    assert found == {name: pytest.approx(1, abs=1e-12) for name in ("ssim", "spearman", "spearman_abs")}


def test_top_layer_and_class_that_cannot_matter(tmp_path: Path) -> None:
    """Both neurons have one heatmap under z+, so it is that of every class and of any weights above."""
    entries = by_preset(audited(job(tmp_path, mlp(), "excitation-backprop", "gradient-x-input")))
    plus, gradient = (entries[name] for name in ("excitation-backprop", "gradient-x-input"))
    assert plus["cascading"][0]["layer"] == "y_node"
    assert plus["cascading"][0]["spearman"] == pytest.approx(1, abs=1e-6)
    assert plus["class_sensitivity"]["cosine"] == pytest.approx(1, abs=1e-6)
    assert plus["independent"][1]["spearman"] < 0.95
    assert gradient["cascading"][0]["spearman"] < 0.98
    assert gradient["class_sensitivity"]["cosine"] < 0.95
    assert any(text.startswith("Class: independent of it") for text in plus["verdict"])
    assert any(text.startswith("Upper layers: independent of them") for text in plus["verdict"])
    assert not any("independent of" in text for text in gradient["verdict"])


def test_coincidence_is_found(tmp_path: Path) -> None:
    """Without biases LRP-0 of a ReLU network is gradient x input."""
    entries = by_preset(audited(job(tmp_path, mlp(), "lrp-0", "excitation-backprop")))
    assert entries["lrp-0"]["similarity"]["gradient-x-input"]["cosine"] == pytest.approx(1, abs=1e-6)
    assert any(text.startswith("Same as gradient-x-input") for text in entries["lrp-0"]["verdict"])
    assert not any(text.startswith("Same as") for text in entries["excitation-backprop"]["verdict"])


def test_preconditions_by_hand(tmp_path: Path) -> None:
    """2 of 5 neurons have a positive bias, 3 of 42 inputs lie outside of the bounds; the rest is in the ledger."""
    nodes = [node("Gemm", "x w1 b1", "a"), node("Relu", "a", "h"), node("Gemm", "h w2 b2", "y")]
    weights = {"w1": W1, "w2": W2, "b1": eighths(RNG, 2, low=-1, high=-1), "b2": np.asarray([-9, 1, 1], np.float32)}
    xs = X.copy()
    xs[0, :3], xs[1:, 5] = 1.5, 0.5
    proto = model(nodes, {"x": ["n", 6]}, ["y"], weights)
    request = Request(low=0, high=1)
    found = Auditor(job(tmp_path, proto, "dtd", xs=xs, request=request)).preconditions("dtd")
    assert found is not None
    assert found["positive_biases"] == 2 / 5
    assert found["outside"] == pytest.approx(3 / 42)
    explainer = onnxdtd.Explainer(onnxdtd.compile(proto, low=0, high=1, ledger=True))
    ledger = explainer(xs).ledger
    assert ledger is not None
    totals = ledger.totals()
    assert found["negative_logits"] == (totals["logit"] < 0).mean()
    for name, total in (("bias_share", "bias"), ("dead", "dead")):
        assert found[name] == pytest.approx(np.median(totals[total] / totals["logit"]))
    unbounded = Auditor(job(tmp_path, proto, "dtd", xs=xs)).preconditions("dtd")
    assert unbounded is not None
    assert unbounded["outside"] is None


def test_negative_logits_and_open_sizes(tmp_path: Path) -> None:
    """Neurons are counted where only the samples tell how many there are: 2 positive of 3 channels, and 4 of 4 at the top."""
    nodes = [
        node("Conv", "x k c", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "r"),
        node("GlobalAveragePool", "r", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f w b", "y"),
    ]
    weights = {"k": eighths(RNG, 3, 1, 3, 3), "c": np.asarray([1, 1, -1], np.float32)}
    weights |= {"w": -eighths(RNG, 3, 4, low=8, high=9), "b": np.full(4, 0.125, np.float32)}
    xs = eighths(RNG, 3, 1, 5, 7, low=0)
    proto = model(nodes, {"x": ["n", 1, "h", "w"]}, ["y"], weights)
    found = Auditor(job(tmp_path, proto, "dtd", xs=xs)).preconditions("dtd")
    assert found is not None
    assert found["positive_biases"] == pytest.approx((2 * 35 + 4) / (3 * 35 + 4))
    assert found["negative_logits"] == 1


@pytest.mark.parametrize("shape", [("n", 6), (1, 6), (4, 6), (6,)])
def test_any_batch(tmp_path: Path, shape: Sequence[Any]) -> None:
    """A model that takes 4 samples at once gets 7 of them; heatmaps and logits are those of single runs."""
    xs = np.concatenate([X, X[::-1], X[:6]])
    weights = {"w2": W2} if len(shape) > 1 else {}
    auditor = Auditor(job(tmp_path, mlp(shape, **weights), "lrp-epsilon", xs=xs))
    classes = np.arange(len(xs)) % 3
    explainer = onnxdtd.Explainer(onnxdtd.compile(mlp((1, 6)), "lrp-epsilon"))
    expected = np.concatenate([explainer(x[None], int(c)).relevance["x"] for x, c in zip(xs, classes, strict=True)])
    np.testing.assert_allclose(auditor.heatmaps(auditor.proto, "lrp-epsilon", classes), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(auditor.logits, np.maximum(xs @ W1, 0) @ W2, rtol=1e-5, atol=1e-6)


def test_other_classes(tmp_path: Path) -> None:
    """First the runner-up, then others drawn without repetition."""
    w2 = eighths(RNG, 2, 9)
    auditor = Auditor(job(tmp_path, mlp(w2=w2, tail=[node("Softmax", "y", "p")]), "gradient"))
    others = auditor.others()
    assert len(others) == OTHERS
    order = np.argsort(-auditor.logits, axis=1, kind="stable")
    np.testing.assert_array_equal(auditor.predicted, order[:, 0])
    np.testing.assert_array_equal(others[0], order[:, 1])
    for row in np.stack([auditor.predicted, *others]).T:
        assert len(set(row)) == OTHERS + 1


def test_one_score_has_no_other_classes(tmp_path: Path) -> None:
    """Also where its sign tells two classes apart."""
    unknown = {"cosine": None, "spearman": None, "ssim": None}
    two = Auditor(job(tmp_path, mlp(w2=W2[:, 2:], tail=[node("Sigmoid", "y", "p")]), "lrp-epsilon"))
    np.testing.assert_array_equal(two.predicted, (np.maximum(X @ W1, 0) @ W2[:, 2]) > 0)
    assert two.class_sensitivity("lrp-epsilon") == unknown
    one = Auditor(job(tmp_path, mlp(w2=W2[:, :1]), "lrp-epsilon"))
    assert one.class_sensitivity("lrp-epsilon") == unknown


def test_no_weights_to_draw(tmp_path: Path) -> None:
    proto = model([node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0)], {"x": ["n", 3, 8, 8]}, ["y"])
    work = job(tmp_path, proto, "gradient", xs=eighths(RNG, 2, 3, 8, 8))
    (entry,) = audited(replace(work))["presets"]
    assert (entry["cascading"], entry["independent"]) == ([], [])


def test_deep_models_are_sampled(tmp_path: Path) -> None:
    """The last row of the cascade has every weight drawn anew, also of layers that are passed over."""
    depth = MOST_LAYERS + 8
    nodes = [node("MatMul", f"{f'a{i - 1}' if i else 'x'} w{i}", f"a{i}") for i in range(depth)]
    proto = model(nodes, {"x": ["n", 6]}, [f"a{depth - 1}"], {f"w{i}": eighths(RNG, 6, 6) for i in range(depth)})
    work = job(tmp_path, proto, "gradient")
    places = [task.layer for task in work.tasks if task.measure == "cascading"]
    assert len(places) == MOST_LAYERS
    assert (places[0], places[-1]) == (0, depth - 1)
    measure, bottom = Auditor(work), work.facts.layers[-1]
    last = {task.measure: n for n, task in enumerate(work.tasks) if task.layer == depth - 1}
    whole, alone = (measure.redrawn("gradient", chosen) for chosen in (work.facts.layers, [bottom]))
    assert whole != alone
    assert measure(last["cascading"])["found"] == {"layer": "a0_node", **whole}
    assert measure(last["independent"])["found"] == {"layer": "a0_node", **alone}


def test_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no preset"):
        job(tmp_path, mlp()).units()
    with pytest.raises(OnnxdtdError, match="nonsense"):
        job(tmp_path, mlp(), "nonsense").units()
    two = model([node("Add", "x z", "s"), node("MatMul", "s w", "y")], {"x": ["n", 2], "z": ["n", 2]}, ["y"], {"w": W2})
    with pytest.raises(RequestError, match="several inputs"):
        job(tmp_path, two, "dtd").units()


def test_the_target_of_the_request_does_not_count(tmp_path: Path) -> None:
    """Nor its preset, and rules set by hand do not stop a derivative."""
    request = Request("nonsense", target=1, settings=("a_node=flat",), ledger=True)
    work = job(tmp_path, mlp(), "lrp-0", "gradient", request=request)
    assert work.facts.rules == {"lrp-0": {"a_node": "flat", "y_node": "epsilon(epsilon=0)"}, "gradient": None}
    measure = work.prepare()
    for number, task in enumerate(work.tasks):
        if task.measure in ("preconditions", "similarity", "class_sensitivity"):
            measure(number)


def test_chance() -> None:
    """Against 2000 pairs of permutations of 12 entries; their mean has a standard error of 0.004."""
    pairs = [spearman(RNG.permutation(12).astype(float), RNG.permutation(12).astype(float)) for _ in range(2000)]
    assert np.mean(np.abs(np.asarray(pairs, float))) == pytest.approx(chance(12), abs=0.016)
    failed, attempted = doctest.testmod(audit)
    assert attempted
    assert not failed


def test_kept_is_blind_to_sign_and_size() -> None:
    a = np.abs(RNG.normal(size=(1, 8, 8))).astype(np.float32)
    assert kept(a, -3 * a) == {name: pytest.approx(1) for name in ("cosine", "spearman", "ssim", "spearman_abs")}
    b = RNG.normal(size=(1, 8, 8)).astype(np.float32)
    signed, found = alike(a, b), kept(a, b)
    assert found["cosine"] == abs(signed["cosine"] or 0) < 0.5
    assert found["spearman"] == abs(signed["spearman"] or 0) < 0.5
    assert alike(a, -a)["cosine"] == pytest.approx(-1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_heatmaps_are_like_nothing(bad: float) -> None:
    a = np.abs(RNG.normal(size=(1, 8, 8)))
    b = a.copy()
    b[0, 0, 0] = bad
    assert set(alike(a, b).values()) == set(kept(b, a).values()) == {None}


def test_samples_of_another_size_are_left_out(tmp_path: Path) -> None:
    """Where the model leaves height and width open."""
    nodes = [
        *(node("Conv", "x w", "a"), node("Relu", "a", "h")),
        *(node("ReduceMean", "h", "m", axes=[2, 3], keepdims=0), node("MatMul", "m v", "y")),
    ]
    rng = np.random.default_rng(0)
    weights = {"w": eighths(rng, 4, 3, 3, 3), "v": eighths(rng, 4, 3)}
    onnx.save(model(nodes, {"x": ["n", 3, "height", "width"]}, ["y"], weights), tmp_path / "net.onnx")
    (tmp_path / "pictures").mkdir()
    for name, side in (("a", 8), ("b", 9), ("c", 8)):
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(tmp_path / "pictures" / f"{name}.png")
    subject = Subject(tmp_path / "net.onnx", Request("dtd", low=0.0, high=1.0), tmp_path / "pictures")
    items, left_out = measurable(subject, tmp_path, 5)
    assert [item.name for item in items] == ["a.png", "c.png"]
    assert left_out == {"b.png": "is [3, 9, 9], the first sample [3, 8, 8]; an audit takes samples of one size"}
