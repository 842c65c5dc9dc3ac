"""Audits of nets whose explanations are known to depend on one thing and not on another."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, form, model, node
from PIL import Image

import onnxdtd
from onnxdtd.data.forms import Form
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.request import Request
from onnxdtd.study.audit.audit import Audit, chance, measurable
from onnxdtd.study.audit.auditor import Auditor
from onnxdtd.study.audit.classes import OTHERS, other_classes
from onnxdtd.study.audit.inputs import partners, standardised
from onnxdtd.study.audit.measurement import Finding, Task
from onnxdtd.study.audit.measurements import MEASUREMENTS
from onnxdtd.study.audit.order import neutral
from onnxdtd.study.audit.quick import LAYERS
from onnxdtd.study.audit.randomise import redrawn
from onnxdtd.study.audit.similarity import alike, kept
from onnxdtd.study.audit.stability import NUDGE, nudged
from onnxdtd.study.audit.verdict import verdict
from onnxdtd.study.evaluate import Evaluation, Settings
from onnxdtd.study.metrics import cosine, spearman
from onnxdtd.study.subject import Subject

RNG = np.random.default_rng(5)
MODELS = Path(__file__).resolve().parents[3] / "models"
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
) -> Audit:
    path = folder / "net.onnx"
    onnx.save(proto, path)
    return Audit(path, request or Request(), presets, xs, **options)


def audited(work: Audit) -> dict[str, Any]:
    measure = work.prepare()
    return work.assemble([measure(number) for number in range(work.units())])


def measured(work: Audit, name: str, preset: str | None = None) -> Finding:
    """What one measurement finds, by default of the first preset."""
    return MEASUREMENTS[name].measure(Auditor(work), Task(preset or work.presets[0], name))


def by_preset(found: dict[str, Any]) -> dict[str, Any]:
    return {entry["preset"]: entry for entry in found["presets"]}


def test_whole_audit() -> None:
    """Of a real classifier: plain data, with every measurement in its place; a copy sent to another process gives the same."""
    work = Audit(MODELS / "digits_cnn.onnx", Request(low=0, high=1), ("dtd", "sensitivity"), DIGITS[::5], neurons=4)
    found = audited(pickle.loads(pickle.dumps(work)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    taylor, sensitivity = (by_preset(found)[name] for name in ("dtd", "sensitivity"))
    names = ["node_linear_1", "node_linear", "node_conv2d_1", "node_conv2d"]
    for entry in (taylor, sensitivity):
        assert [row["layer"] for row in entry["cascading"]] == [row["layer"] for row in entry["independent"]] == names
        assert set(entry["similarity"]) == {"gradient-x-input", "sensitivity"} - {entry["preset"]}
        assert entry["silent"] == {"n": 4, "empty": 0, "broken": 0, "flat": 0}
        assert entry["left_out"] == {"input_dependence": "no two different samples have one predicted class"}
        assert set(entry["samples"]) == {"classes", "stability", "aopc", "abpc", "gain", "upper", "blindness"}
        assert entry["means"]["classes"]["mean"] == pytest.approx(entry["class_sensitivity"]["cosine"])
        assert entry["means"]["upper"]["mean"] == pytest.approx(entry["cascading"][1]["spearman"])
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
        "noise": 0.02,
        "seed": 0,
        "low": 0,
        "high": 1,
        "presets": ["dtd", "sensitivity"],
    }
    pair = next(one for one in found["differences"] if one["metric"] == "abpc")
    gaps = np.subtract(*(by_preset(found)[name]["samples"]["abpc"] for name in ("dtd", "sensitivity")))
    assert pair["mean"] == pytest.approx(gaps.mean())
    assert pair["error"] == pytest.approx(gaps.std(ddof=1) / 2)
    of_rules, layered = (sum(getattr(one, of) for one in MEASUREMENTS.values()) for of in ("for_rules", "layered"))
    assert work.units() == 2 * (len(MEASUREMENTS) - of_rules - layered + 4 * layered) + of_rules


def test_identity_tells_jobs_apart() -> None:
    work = Audit(MODELS / "digits_mlp.onnx", Request(), ("dtd",), DIGITS[:3])
    others = [
        replace(work, xs=DIGITS[1:4]),
        replace(work, seed=1),
        replace(work, presets=("dtd-w2",)),
        replace(work, neurons=3),
    ]
    others += [replace(work, model=MODELS / "digits_cnn.onnx"), replace(work, request=Request(low=0, high=1))]
    assert len({json.dumps(job.identity()) for job in [work, replace(work), *others]}) == 1 + len(others)


def test_identity_tells_external_weights_apart(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    before = Audit(path, Request(), ("dtd",), X).identity()
    weights = bytearray((tmp_path / "net.bin").read_bytes())
    weights[3] ^= 1
    (tmp_path / "net.bin").write_bytes(weights)
    assert Audit(path, Request(), ("dtd",), X).identity() != before


def test_units_in_any_order() -> None:
    work = Audit(MODELS / "digits_mlp.onnx", Request(), ("lrp-epsilon", "gradient"), DIGITS[:3])
    forward, backward = work.prepare(), work.prepare()
    numbers = [n for n, task in enumerate(work.tasks) if task.measure not in ("roots", "convergence")]
    expected = {number: forward(number) for number in numbers}
    assert {number: backward(number) for number in reversed(numbers)} == expected


@pytest.mark.parametrize("preset", ["dtd", "gradient-x-input"])
def test_nothing_drawn_changes_nothing(tmp_path: Path, preset: str) -> None:
    found = redrawn(Auditor(job(tmp_path, mlp(), preset)), preset, ()).found
    assert found["spearman"] == pytest.approx(1, abs=1e-12)
    assert found["spearman_abs"] == pytest.approx(1, abs=1e-12)
    found = redrawn(Auditor(Audit(MODELS / "digits_cnn.onnx", Request(), (preset,), DIGITS)), preset, ()).found
    assert found == {name: pytest.approx(1, abs=1e-12) for name in ("ssim", "spearman", "spearman_abs")} | {"idle": False}


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
    found = measured(job(tmp_path, proto, "dtd", xs=xs, request=request), "preconditions").found
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
    unbounded = measured(job(tmp_path, proto, "dtd", xs=xs), "preconditions").found
    assert unbounded is not None
    assert unbounded["outside"] is None


def test_copies_of_samples_are_counted(tmp_path: Path) -> None:
    found = audited(job(tmp_path, mlp(), "lrp-0", xs=np.concatenate([X[:2], X[:1], X[:1]])))
    assert found["copies"] == 2


def test_neurons_are_counted_without_a_batch_axis(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w1", "u"), node("Add", "u b1", "a"), node("Relu", "a", "h"), node("MatMul", "h w2", "y")]
    weights = {"w1": W1, "w2": W2, "b1": np.asarray([1, -1], np.float32)}
    alone, batch = (
        measured(job(tmp_path, model(nodes, {"x": shape}, ["y"], weights), "dtd"), "preconditions").found
        for shape in ([6], ["n", 6])
    )
    assert alone == batch
    assert alone is not None
    assert alone["positive_biases"] == 1 / 5


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
    found = measured(job(tmp_path, proto, "dtd", xs=xs), "preconditions").found
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
    explainer = onnxdtd.Explainer(onnxdtd.compile(mlp((1, 6)), "lrp-epsilon", target="input"))
    expected = np.concatenate([explainer(x[None], int(c)).relevance["x"] for x, c in zip(xs, classes, strict=True)])
    np.testing.assert_allclose(auditor.heatmaps("lrp-epsilon", classes), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(auditor.logits, np.maximum(xs @ W1, 0) @ W2, rtol=1e-5, atol=1e-6)


def test_other_classes(tmp_path: Path) -> None:
    """First the runner-up, then others drawn without repetition."""
    w2 = eighths(RNG, 2, 9)
    auditor = Auditor(job(tmp_path, mlp(w2=w2, tail=[node("Softmax", "y", "p")]), "gradient"))
    others = other_classes(auditor)
    assert len(others) == OTHERS
    order = np.argsort(-auditor.logits, axis=1, kind="stable")
    np.testing.assert_array_equal(auditor.predicted, order[:, 0])
    np.testing.assert_array_equal(others[0], order[:, 1])
    for row in np.stack([auditor.predicted, *others]).T:
        assert len(set(row)) == OTHERS + 1


def test_one_score_has_no_other_classes(tmp_path: Path) -> None:
    """Also where its sign tells two classes apart."""
    two = Auditor(job(tmp_path, mlp(w2=W2[:, 2:], tail=[node("Sigmoid", "y", "p")]), "lrp-epsilon"))
    np.testing.assert_array_equal(two.predicted, (np.maximum(X @ W1, 0) @ W2[:, 2]) > 0)
    one = Auditor(job(tmp_path, mlp(w2=W2[:, :1]), "lrp-epsilon"))
    for auditor in (one, two):
        part = measured(auditor.study, "class_sensitivity")
        assert (part.found, part.samples) == ({}, {})
        assert "one score" in part.left_out


@pytest.mark.parametrize("preset", ["lrp-epsilon", "excitation-backprop", "sensitivity"])
def test_two_opposite_scores_cannot_tell_classes_apart(preset: str, tmp_path: Path) -> None:
    """-z and z: whatever the heatmaps are, that says nothing of how they depend on the class."""
    opposite = job(tmp_path, mlp(w2=np.concatenate([-W2[:, :1], W2[:, :1]], axis=1)), preset)
    assert "each other's negatives" in measured(opposite, "class_sensitivity").left_out
    assert not measured(job(tmp_path, mlp(w2=W2[:, :2]), preset), "class_sensitivity").left_out


def test_equal_scores_cannot_tell_classes_apart(tmp_path: Path) -> None:
    equal = job(tmp_path, mlp(w2=np.repeat(W2[:, :1], 3, axis=1)), "lrp-epsilon")
    assert measured(equal, "class_sensitivity").left_out == "the scores of all classes are the same"


def test_one_entry_is_a_multiple_of_any_other(tmp_path: Path) -> None:
    one = model([node("MatMul", "x w", "y")], {"x": ["n", 1]}, ["y"], {"w": W2[:1]})
    (entry,) = audited(job(tmp_path, one, "lrp-0", xs=X[:, :1]))["presets"]
    assert entry["similarity"] == {}
    for measure in ("class_sensitivity", "input_dependence", "spearman"):
        assert "one entry" in entry["left_out"][measure]


def test_two_opposite_heatmaps_are_no_blindness(tmp_path: Path) -> None:
    """Of a softmax over two logits that are nearly -z and z, but for a bias."""
    w2 = np.stack([-W2[:, 0], 1.25 * W2[:, 0]], axis=1)
    work = job(tmp_path, mlp(w2=w2, tail=[node("Softmax", "y", "p")]), "gradient")
    assert "opposites (mean cosine -1.000)" in measured(work, "class_sensitivity").left_out


def test_no_weights_to_draw(tmp_path: Path) -> None:
    proto = model([node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0)], {"x": ["n", 3, 8, 8]}, ["y"])
    work = job(tmp_path, proto, "gradient", xs=eighths(RNG, 2, 3, 8, 8))
    (entry,) = audited(replace(work))["presets"]
    assert (entry["cascading"], entry["independent"]) == ([], [])


def test_deep_models_are_sampled(tmp_path: Path) -> None:
    """The last row of the cascade has every weight drawn anew, also of layers that are passed over."""
    depth = LAYERS[0] + 8
    nodes = [node("MatMul", f"{f'a{i - 1}' if i else 'x'} w{i}", f"a{i}") for i in range(depth)]
    proto = model(nodes, {"x": ["n", 6]}, [f"a{depth - 1}"], {f"w{i}": eighths(RNG, 6, 6) for i in range(depth)})
    work = job(tmp_path, proto, "gradient")
    places = [task.layer for task in work.tasks if task.measure == "cascading"]
    assert len(places) == LAYERS[0]
    assert (places[0], places[-1]) == (0, depth - 1)
    measure, bottom = work.prepare(), work.facts.layers[-1]
    last = {task.measure: n for n, task in enumerate(work.tasks) if task.layer == depth - 1}
    whole, alone = (redrawn(Auditor(work), "gradient", chosen) for chosen in (tuple(work.facts.layers), (bottom,)))
    assert whole != alone
    assert measure(last["cascading"])["found"] == {"layer": "a0_node", **whole.found}
    assert measure(last["independent"])["found"] == {"layer": "a0_node", **alone.found}


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
    request = Request(preset="nonsense", target=1, settings=("a_node=flat",), ledger=True)
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


def test_kept_is_blind_to_sign_and_size() -> None:
    a = np.abs(RNG.normal(size=(1, 8, 8))).astype(np.float32)
    assert kept(a, -3 * a, 0) == {name: pytest.approx(1) for name in ("cosine", "spearman", "ssim", "spearman_abs")}
    b = RNG.normal(size=(1, 8, 8)).astype(np.float32)
    signed, found = alike(a, b, 0), kept(a, b, 0)
    assert found["cosine"] == abs(signed["cosine"] or 0) < 0.5
    assert found["spearman"] == abs(signed["spearman"] or 0) < 0.5
    assert alike(a, -a, 0)["cosine"] == pytest.approx(-1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_heatmaps_are_like_nothing(bad: float) -> None:
    a = np.abs(RNG.normal(size=(1, 8, 8)))
    b = a.copy()
    b[0, 0, 0] = bad
    assert set(alike(a, b, 0).values()) == set(kept(b, a, 0).values()) == {None}


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
    subject = Subject(tmp_path / "net.onnx", Request(preset="dtd", low=0.0, high=1.0), tmp_path / "pictures")
    items, left_out, right = measurable(subject, tmp_path, 5)
    assert right == [], "there are no labels"
    assert [item.name for item in items] == ["a.png", "c.png"]
    assert left_out == {"b.png": "is [3, 9, 9], the first sample [3, 8, 8]; only samples of one size are measured together"}


# ------------------------------------------------------------------------- the sample, noise, perturbation, silence


def test_a_heatmap_of_the_weights_does_not_depend_on_the_sample(tmp_path: Path) -> None:
    """w² of a linear layer: one pattern, whatever the values are. LRP-0 of it is x w."""
    weights = eighths(RNG, 6, 2) + 1 / 16
    linear = model([node("MatMul", "x w", "y")], {"x": ["n", 6]}, ["y"], {"w": weights})
    xs = eighths(RNG, 9, 6)
    for preset, same in (("dtd-w2", True), ("lrp-0", False)):
        auditor = Auditor(job(tmp_path, linear, preset, xs=xs))
        part = MEASUREMENTS["input_dependence"].measure(auditor, Task(preset, "input_dependence"))
        pairs = partners(xs, auditor.predicted)
        own = auditor.heatmaps(preset, auditor.predicted)
        cosines = [[abs(float(cosine(own[i], own[j]) or 0)) for j in js] for i, js in enumerate(pairs)]
        assert part.found["cosine"] == pytest.approx(np.mean([np.mean(row) for row in cosines if row]))
        assert (part.found["cosine"] > 1 - 1e-6) is same
        z = standardised(xs, form(xs.shape[1:]))
        between = [np.mean([cosine(z[i], z[j]) for j in js]) for i, js in enumerate(pairs) if js]
        assert part.found["samples"] == pytest.approx(np.mean(between))
        (entry,) = audited(job(tmp_path, linear, preset, xs=xs))["presets"]
        assert any(sentence.startswith("Input: independent") for sentence in entry["verdict"]) is same


def test_samples_of_one_class_each_cannot_be_compared(tmp_path: Path) -> None:
    weights = np.eye(6, dtype=np.float32)
    linear = model([node("MatMul", "x w", "y")], {"x": ["n", 6]}, ["y"], {"w": weights})
    for xs in (np.eye(6, dtype=np.float32), np.ones((5, 6), np.float32)):
        part = measured(job(tmp_path, linear, "lrp-0", xs=xs), "input_dependence")
        assert part.left_out == "no two different samples have one predicted class"


def test_noise_on_the_input_moves_what_it_must(tmp_path: Path) -> None:
    """Of y = x w: the heatmap x w moves by noise w, the score by the sum of that, the gradient not at all."""
    weights = eighths(RNG, 6, 2) + 1 / 16
    linear = model([node("MatMul", "x w", "y")], {"x": ["n", 6]}, ["y"], {"w": weights})
    xs = eighths(RNG, 8, 6)
    work = job(tmp_path, linear, "lrp-0", "gradient", xs=xs)
    auditor = Auditor(work)
    noisy = np.stack([nudged(auditor, np.random.default_rng([0, i])) for i in range(4)])
    w = weights[:, auditor.predicted].T
    moved = np.linalg.norm((noisy - xs) * w, axis=-1) / np.linalg.norm(xs * w, axis=-1)
    part = measured(work, "stability")
    assert part.samples["stability"] == pytest.approx(moved.mean(axis=0), rel=1e-4)
    assert part.found["heatmap"] == pytest.approx(np.median(moved.mean(axis=0)), rel=1e-4)
    score = np.abs(((noisy - xs) * w).sum(-1)).mean(0) / np.abs((xs * w).sum(-1))
    assert part.found["score"] == pytest.approx(np.median(score), rel=1e-4)
    assert measured(work, "stability", "gradient").found["heatmap"] == 0
    spread = np.std((noisy - xs) / xs.std(axis=0))
    assert spread == pytest.approx(NUDGE, rel=0.15), "192 numbers"
    inside = nudged(Auditor(replace(work, request=Request(low=-0.5, high=0.5))), np.random.default_rng(0))
    assert (inside.min(), inside.max()) == (-0.5, 0.5)
    assert "no spread" in measured(replace(work, xs=xs[:1]), "stability").left_out


def test_noise_on_bytes_stays_in_their_range(tmp_path: Path) -> None:
    proto = model([node("Cast", "x", "f", to=1), node("MatMul", "f w1", "y")], {"x": ["n", 6]}, ["y"], {"w1": W1})
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    xs = np.tile(np.asarray([[0, 255, 100, 0, 255, 7], [255, 0, 50, 0, 0, 200]], np.float32), (2, 1))
    auditor = Auditor(job(tmp_path, proto, "gradient", xs=xs))
    noisy = nudged(auditor, np.random.default_rng(0))
    assert (noisy != xs).any()
    assert (noisy == np.rint(noisy)).all()
    assert (noisy.min(), noisy.max()) == (0, 255)


def test_perturbation_is_that_of_an_evaluation(tmp_path: Path) -> None:
    """Of pictures, which become 0."""
    work = Audit(MODELS / "digits_mlp.onnx", Request(low=0, high=1), ("lrp-epsilon",), DIGITS[:4].astype(np.float32))
    part = measured(work, "perturbation")
    np.savez(tmp_path / "four.npz", image=DIGITS[:4])
    evaluation = Evaluation([work.model], ["lrp-epsilon"], tmp_path / "four.npz", work.request, Settings())
    rows = evaluation.prepare()(0)["rows"]
    for name in ("aopc", "abpc"):
        assert part.samples[name] == pytest.approx([r["presets"]["lrp-epsilon"]["metrics"][name] for r in rows], rel=1e-4)
    gain = [r["presets"]["lrp-epsilon"]["metrics"]["aopc"] - r["random"]["aopc"] for r in rows]
    assert part.samples["gain"] == pytest.approx(gain, rel=1e-4)
    assert part.found["gain"]["mean"] == pytest.approx(np.mean(gain), rel=1e-4)
    assert part.found["fill"] == "0"


def test_features_become_their_mean() -> None:
    """0 is no neutral value of a table, where it may lie far outside of the data."""
    assert neutral(X, form(X.shape[1:])).tolist() == pytest.approx(X.mean(axis=0).tolist())
    signal = eighths(RNG, 3, 1, 50)
    assert neutral(signal, form((1, 50))) == pytest.approx(np.full((1, 50), signal.mean()))
    assert not neutral(DIGITS, form(DIGITS.shape[1:])).any()
    row = Form.of("x", ["n", 50], 0, slid=[2], folded=[None, 2, 25])  # each channel its mean
    assert neutral(signal[:, 0], row) == pytest.approx(signal.reshape(3, 2, 25).mean(axis=(0, 2)).repeat(25))


def test_what_cannot_be_perturbed(tmp_path: Path) -> None:
    one = model([node("MatMul", "x w", "y")], {"x": ["n", 1]}, ["y"], {"w": W2[:1]})
    part = measured(job(tmp_path, one, "lrp-0", xs=X[:, :1]), "perturbation")
    assert part.left_out == "the input is one region, and all orders are the same"
    part = measured(job(tmp_path, mlp(), "lrp-0", xs=X[:1]), "perturbation")
    assert part.left_out == "the samples are what their regions would be replaced by"


def test_heatmaps_that_say_nothing_are_counted(tmp_path: Path) -> None:
    """z⁺ without a positive weight gives zero, the gradient of a sum one value everywhere."""
    negative = mlp(w1=-np.abs(W1))
    (entry,) = audited(job(tmp_path, negative, "excitation-backprop"))["presets"]
    assert entry["silent"]["empty"] == entry["silent"]["n"] == 7
    assert entry["verdict"][0] == "Heatmaps: all 7 are zero everywhere: nothing is explained there."
    assert not [sentence for sentence in entry["verdict"] if sentence.startswith(("Class", "Input", "Upper", "Perturb"))]
    summing = model([node("MatMul", "x w", "y")], {"x": ["n", 6]}, ["y"], {"w": np.ones((6, 2), np.float32)})
    assert measured(job(tmp_path, summing, "gradient"), "silent").found == {"n": 7, "empty": 0, "broken": 0, "flat": 7}


def test_presets_are_compared_in_what_all_of_them_have(tmp_path: Path) -> None:
    """A preset that has no heatmap of other classes would else be compared by its upper layers alone."""
    work = job(tmp_path, mlp(), "excitation-backprop", "gradient-x-input")
    measure = work.prepare()
    parts = [measure(number) for number in range(work.units())]
    whole = by_preset(work.assemble(copy.deepcopy(parts)))["gradient-x-input"]["samples"]
    both = [(a + b) / 2 for a, b in zip(whole["classes"], whole["upper"], strict=True)]
    assert whole["blindness"] == pytest.approx(both)
    place = next(n for n, task in enumerate(work.tasks) if task.measure == "class_sensitivity")
    parts[place] = {"found": {}, "samples": {}, "left_out": "of something"}
    found = by_preset(work.assemble(parts))["gradient-x-input"]["samples"]
    assert found["blindness"] == found["upper"]


def test_weights_that_change_no_score_are_left_out(tmp_path: Path) -> None:
    """A branch that is multiplied by 0 (which has no spread to draw with) has weights on which no heatmap could depend."""
    nodes = [node("MatMul", "x w1", "a"), node("Relu", "a", "h"), node("MatMul", "x u", "b"), node("Mul", "b zero", "c")]
    nodes += [node("Add", "h c", "s"), node("MatMul", "s w2", "y")]
    weights = {"w1": W1, "u": W1, "w2": W2, "zero": np.zeros((1, 2), np.float32)}
    work = job(tmp_path, model(nodes, {"x": ["n", 6]}, ["y"], weights), "gradient")
    idle = {row["layer"]: row["idle"] for row in audited(work)["presets"][0]["independent"]}
    assert [name for name, known in idle.items() if known] == ["c_node", "b_node"]


def test_four_features_have_no_rank_correlation(tmp_path: Path) -> None:
    four = model([node("MatMul", "x w", "y")], {"x": ["n", 4]}, ["y"], {"w": eighths(RNG, 4, 3)})
    (entry,) = audited(job(tmp_path, four, "lrp-0", xs=eighths(RNG, 6, 4)))["presets"]
    assert entry["similarity"]["sensitivity"]["spearman"] is None
    assert "of 4 entries" in entry["left_out"]["spearman"]
    assert any(s.startswith("Rank correlations, and what rests on them: left out") for s in entry["verdict"])
    assert not any(s.startswith(("Upper layers", "Layers", "Training", "Size")) for s in entry["verdict"])


def test_one_sample_of_one_class(tmp_path: Path) -> None:
    """Nothing falls over, and nothing is concluded from a single number."""
    found = audited(job(tmp_path, mlp(w2=W2[:, :1]), "dtd", "lrp-0", "gradient", xs=X[:1]))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["best"] == {
        "preset": None,
        "tied": [],
        "why": ["Whether any preset is better than a random order is not known for these samples."],
    }
    for entry in found["presets"]:
        for topic in ("Class", "Input", "Stability", "Perturbation"):
            assert any(s.startswith(f"{topic}: left out, since") for s in entry["verdict"])
