"""The command line: what it prints, what it writes, and that every bad request ends in one plain message and status 2."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from PIL import Image
from terminal import Ran, ran

import onnxdtd
from onnxdtd import Explainer, __version__
from onnxdtd.cli import commands as cli
from onnxdtd.contract import Metadata, read_metadata

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
BUNDLED = ("digits_mlp", "digits_cnn", "digits_resnet", "digits_sklearn", "two_digits")
BOUNDS = ("--low", "0", "--high", "1")
CNN = MODELS / "digits_cnn.onnx"
SAMPLES = MODELS / "digits_samples.npz"


def digits() -> np.ndarray:
    with np.load(SAMPLES) as samples:
        return samples["image"]


def predict(model: Path | onnx.ModelProto, x: np.ndarray, names: Sequence[str] | None = None) -> list[np.ndarray]:
    """The outputs of a model by plain ONNX Runtime."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    loaded = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    session = ort.InferenceSession(loaded, options, providers=["CPUExecutionProvider"])
    return session.run(names and list(names), {session.get_inputs()[0].name: x})


def metadata(path: Path) -> Metadata:
    return read_metadata(onnx.load(path, load_external_data=False))


def model(body: str, signature: str, opset: str = '"" : 17', weights: str = "") -> onnx.ModelProto:
    return parser.parse_model(f"<ir_version: 8, opset_import: [{opset}]>\nnet {signature} {weights} {{ {body} }}")


def dense(inputs: int, classes: int, seed: int = 0, name: str = "w") -> TensorProto:
    values = np.random.default_rng(seed).normal(size=(inputs, classes))
    return numpy_helper.from_array(values.astype(np.float32), name)


def linear(inputs: int = 4, classes: int = 3, body: str = "y = MatMul(x, w)", opset: str = '"" : 17') -> onnx.ModelProto:
    """A layer with ``inputs`` features, after whatever else ``body`` does."""
    made = model(body, f"(float[batch,{inputs}] x) => (float[batch,{classes}] y)", opset)
    made.graph.initializer.append(dense(inputs, classes))
    return made


def rgb(height: int | str = 6, width: int | str = 8) -> onnx.ModelProto:
    """A classifier of colour pictures."""
    made = model(
        "f = Conv(x, k) g = GlobalAveragePool(f) h = Flatten(g) y = MatMul(h, w)",
        f"(float[batch,3,{height},{width}] x) => (float[batch,2] y)",
    )
    values = np.random.default_rng(1).normal(size=(5, 3, 3, 3)).astype(np.float32)
    made.graph.initializer.extend([numpy_helper.from_array(values, "k"), dense(5, 2)])
    return made


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with the hash of its bytes, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


# ------------------------------------------------------------------------------------------------------------- compile


@pytest.mark.parametrize("name", BUNDLED)
def test_compile_writes_a_model_that_predicts_the_same(name: str, run: Callable[..., Ran], tmp_path: Path) -> None:
    out = tmp_path / "explained.onnx"
    done = run("compile", MODELS / f"{name}.onnx", *BOUNDS, "-o", out)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith(f"{out}: preset dtd, ")
    assert " layers, explains '" in done.err
    assert list(tmp_path.iterdir()) == [out]
    onnx.checker.check_model(onnx.load(out), full_check=True)

    with np.load(MODELS / ("two_digits_samples.npz" if name == "two_digits" else "digits_samples.npz")) as samples:
        x = samples["image"].reshape(-1, 64) if name == "digits_sklearn" else samples["image"]
    expected = predict(MODELS / f"{name}.onnx", x)
    actual = predict(out, x)
    for want, have in zip(expected, actual, strict=False):
        np.testing.assert_allclose(have, want, rtol=1e-6, atol=1e-6)
    relevance, logit = actual[len(expected) :]
    assert relevance.shape == x.shape
    assert logit.shape == x.shape[:1]
    assert np.isfinite(relevance).all()


@pytest.mark.parametrize("weights", ["reference", "copy"])
def test_compile_refers_to_weights_or_copies_them(weights: str, run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "in/net.onnx"
    source.parent.mkdir()
    onnx.save(linear(), source, save_as_external_data=True, location="net.data", size_threshold=0)
    done = run("compile", source, "-o", tmp_path / "out.onnx", "--weights", weights)
    assert done.code == 0, done.err
    assert (tmp_path / "net.data").exists() == (weights == "copy")
    refused = run("compile", source, "-o", tmp_path / "out.onnx", "--weights", "both")
    assert refused.code == 2
    assert "weights 'both': give 'reference' or 'copy'" in refused.err


def test_compile_says_what_it_stepped_back_over_and_what_it_changed(run: Callable[..., Ran], tmp_path: Path) -> None:
    done = run("compile", MODELS / "digits_resnet.onnx", *BOUNDS, "-o", tmp_path / "out.onnx")
    assert "before Softmax" in done.err
    source = tmp_path / "old.onnx"
    onnx.save(linear(opset='"" : 11'), source)
    done = run("compile", source)
    assert "operator set 11 converted to 17" in done.err


def test_the_default_output_is_named_after_model_and_preset(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = shutil.copy(CNN, tmp_path / "net.v2.onnx")
    (tmp_path / "mine.toml").write_text("[preset.mine]\nlayers = [{ rule = 'w2' }]\n")
    for preset in ("dtd", "lrp-epsilon", str(tmp_path / "mine.toml")):
        assert run("compile", source, "--preset", preset).code == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["mine.toml", "net.v2.dtd.onnx", "net.v2.lrp-epsilon.onnx", "net.v2.mine.onnx", "net.v2.onnx"]


def test_output_may_be_relative_and_replaces_an_older_result(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"older")
    assert run("compile", CNN, "-o", "net.onnx").code == 0
    assert "relevance" in {o.name for o in onnx.load(tmp_path / "net.onnx").graph.output}


def compiled(run: Callable[..., Ran], tmp_path: Path, *options: object, source: Path = CNN) -> Path:
    """A compiled model; every call writes another file."""
    out = tmp_path / f"compiled{len(list(tmp_path.iterdir()))}.onnx"
    done = run("compile", source, *options, "-o", out)
    assert done.code == 0, done.err
    return out


def test_target(run: Callable[..., Ran], tmp_path: Path) -> None:
    x = digits()
    by_input = Explainer(compiled(run, tmp_path, *BOUNDS, "--target", "input"))
    fixed = compiled(run, tmp_path, *BOUNDS, "--target", 3)
    highest = compiled(run, tmp_path, *BOUNDS, "--target", "argmax")
    for path, meant, target in ((fixed, 3, 3), (highest, None, "argmax")):
        explainer = Explainer(path)
        assert list(explainer.inputs) == ["image"]
        assert metadata(path)["target"] == target
        assert metadata(path)["target_input"] is None
        np.testing.assert_array_equal(explainer(x).relevance["image"], by_input(x, meant).relevance["image"])


def test_a_contrast_is_called_one(run: Callable[..., Ran], tmp_path: Path) -> None:
    done = run("compile", CNN, *BOUNDS, "--contrast", "rest", "-o", tmp_path / "made.onnx")
    assert ", against the rest" in done.err
    np.save(tmp_path / "x.npy", digits()[:1])
    for path, word in ((tmp_path / "made.onnx", "lead"), (CNN, "logit")):
        head = run("explain", path, tmp_path / "x.npy", "-o", tmp_path / "out").out.splitlines()[1]
        assert word in head.split()


def test_contrast(run: Callable[..., Ran], tmp_path: Path) -> None:
    """What starts at the logits is the winner's logit and minus the runner-up's."""
    explainer = Explainer(compiled(run, tmp_path, *BOUNDS, "--contrast", "--keep", "logits"))
    result = explainer(digits())
    logits, start = result.outputs["logits"], result.kept["logits"]
    ranked = np.sort(logits)
    np.testing.assert_allclose(start.sum(1), ranked[:, -1] - ranked[:, -2], rtol=1e-6)
    np.testing.assert_array_equal((start != 0).sum(1), 2)
    assert explainer.metadata["contrast"] == "runner-up"
    rest = Explainer(compiled(run, tmp_path, *BOUNDS, "--contrast", "rest"))(digits()).logit
    np.testing.assert_allclose(rest, ranked[:, -1] - ranked[:, :-1].mean(1), rtol=1e-5)


def test_keep_and_output(run: Callable[..., Ran], tmp_path: Path) -> None:
    path = compiled(run, tmp_path, "--keep", "relu", "--keep", "relu_1", "--output", "logits")
    result = Explainer(path)(digits())
    assert sorted(result.kept) == ["relu", "relu_1"]
    names = [o.name for o in onnx.load(path).graph.output]
    assert names == ["logits", "relevance", "relevance/relu", "relevance/relu_1", "logit"]
    inner = compiled(run, tmp_path, "--output", "linear")
    assert metadata(inner)["output"] == metadata(inner)["logits"] == "linear"


def test_set_overrides_rules_and_the_last_match_wins(run: Callable[..., Ran], tmp_path: Path) -> None:
    settings = ("--set", "node_*=epsilon(epsilon=0.5)", "--set", "node_linear=gamma(gamma=0.125)")
    rules = metadata(compiled(run, tmp_path, *settings))["rules"]
    assert rules["node_linear"] == "gamma(gamma=0.125)"
    assert {rules[name] for name in rules if name != "node_linear"} == {"epsilon(epsilon=0.5)"}


def test_a_preset_of_ones_own(run: Callable[..., Ran], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[rule.half]\nterms = ["x w+"]\n[preset.one]\nlayers = [{ first = true, rule = "w2" }, { rule = "half" }]\n'
        '[preset.two]\nlayers = [{ rule = "z" }]\n'
    )
    assert set(metadata(compiled(run, tmp_path, "--preset", f"{file}:one"))["rules"].values()) == {"w2", "half"}
    assert set(metadata(compiled(run, tmp_path, "--preset", f"{file}:two"))["rules"].values()) == {"z"}


def test_an_entry_of_a_file_that_matches_nothing_is_a_note(run: Callable[..., Ran], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[preset.p]\nlayers = [{ op = 'ConvTranspose', rule = 'w2' }, { rule = 'z' }]\n")
    note = f"note: {file}, [preset.p], entry 1: matches no layer of this model\n"
    few = tmp_path / "few.npy"
    np.save(few, digits()[:1])
    for command in (("compile", CNN, "-o", tmp_path / "c.onnx"), ("inspect", CNN), ("explain", CNN, few, "-o", tmp_path)):
        done = run(*command, "--preset", file)
        assert done.code == 0
        assert note in done.err
        assert "matches no layer" not in done.out
    assert run("inspect", CNN, "--preset", file, "--json").json["notes"] == [note.removeprefix("note: ").rstrip()]


def test_allow_is_recorded(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "sin.onnx"
    onnx.save(linear(body="h = Sin(x) y = MatMul(h, w)"), source)
    path = compiled(run, tmp_path, "--allow", "Sin=pass", source=source)
    assert metadata(path)["allow"] == {"Sin": "pass"}
    assert "Sin" in [n.op_type for n in onnx.load(path).graph.node]


@pytest.mark.parametrize(
    ("preprocessing", "low", "high"),
    [
        (("--range", 0, 1), "0", "1"),
        (("--range", 0, 255), "0", "255"),
        (("--range", -1, 1, "--mean", "0.5", "--std", "0.5"), "-3", "1"),
        (("--mean", "0.5", "--std", "0.25"), "-2", "2"),
        (("--range", 0, 8, "--mean", "1,2,4", "--std", "1,2,4"), "-1,-1,-1", "7,3,1"),
        (("--range", 0, 8, "--mean", "1,2,4"), "-1,-2,-4", "7,6,4"),
        (("--range", 0, 8, "--std", "1,2,4"), "0,0,0", "8,4,2"),
    ],
)
def test_bounds_from_preprocessing(
    preprocessing: tuple[object, ...], low: str, high: str, run: Callable[..., Ran], tmp_path: Path
) -> None:
    """--range, --mean and --std give the same model as the --low and --high that they amount to, and are recorded besides."""
    source = tmp_path / "rgb.onnx"
    onnx.save(rgb(), source)
    direct = compiled(run, tmp_path, "--low", low, "--high", high, source=source)
    derived = compiled(run, tmp_path, *preprocessing, source=source)
    given, amount = onnx.load(derived), onnx.load(direct)
    assert given.graph == amount.graph
    assert metadata(direct)["preprocessing"] is None
    assert metadata(derived) == {**metadata(direct), "preprocessing": metadata(derived)["preprocessing"]}
    asked = {str(option).removeprefix("--") for option in preprocessing if str(option).startswith("--")}
    found = metadata(derived)["preprocessing"]
    assert {key for key, value in found.items() if value is not None} == {*asked, "colours"}
    assert metadata(direct)["bounds"]["high"] == json.loads(f"[{high}]" if "," in high else high)


# ------------------------------------------------------------------------------------------------------------- inspect


@pytest.mark.parametrize("name", BUNDLED)
def test_inspect_shows_what_its_json_holds(name: str, run: Callable[..., Ran]) -> None:
    path = MODELS / f"{name}.onnx"
    table, data = run("inspect", path, *BOUNDS), run("inspect", path, *BOUNDS, "--json")
    assert (table.code, table.err, data.code, data.err) == (0, "", 0, "")
    found = data.json
    assert found["model"] == str(path)
    assert found["preset"] == "dtd"
    assert [i["name"] for i in found["inputs"]] == [onnx.load(path).graph.input[0].name]
    assert f"output: {found['output']}" in table.out
    assert f"logits: {found['logits']}" in table.out
    lines = table.out.splitlines()
    for step in found["steps"]:
        line = next(line for line in lines if f" {step['node']} " in line)
        for text in (step["op"], step["kind"], step["rule"] or "", *step["input"]):
            assert text in line
    assert [step["rule"] for step in found["steps"] if step["first"]] == ["zB"]
    assert not (path.parent / f"{name}.dtd.onnx").exists()


def test_inspect_marks_the_first_layer_and_tensors_that_are_never_negative(run: Callable[..., Ran]) -> None:
    steps = {step["node"]: step for step in run("inspect", CNN, "--json").json["steps"]}
    assert steps["node_conv2d"]["first"]
    assert steps["node_conv2d"]["rule"] == "w2"
    assert steps["node_conv2d"]["input"] == ["[batch,1,8,8]"]
    assert steps["node_conv2d_1"]["input"][0].endswith(">=0")


def test_inspect_lists_everything_that_is_not_supported(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Status 1, since that was the question; compile answers the same with status 2."""
    source = tmp_path / "odd.onnx"
    onnx.save(linear(body="a = Sin(x) b = Sin(a) c = Cos(b) d = Sin(c) e = Sin(d) y = MatMul(e, w)"), source)
    shown, asked = run("inspect", source), run("compile", source)
    assert (shown.code, shown.out, asked.code) == (1, "", 2)
    assert shown.err == asked.err
    assert shown.err.startswith("onnxdtd: 5 node(s) ")
    assert "Sin x4" in shown.err
    assert "..." in shown.err
    assert "Cos x1 (c)" in shown.err
    assert "--allow Cos=pass" in shown.err
    data = run("inspect", source, "--json")
    assert (data.code, data.err) == (1, "")
    assert [(p["op"], p["node"]) for p in data.json["problems"]] == [
        ("Sin", "a"),
        ("Sin", "b"),
        ("Cos", "c"),
        ("Sin", "d"),
        ("Sin", "e"),
    ]


# ------------------------------------------------------------------------------------------------------------- explain


def explained(run: Callable[..., Ran], tmp_path: Path, *args: object) -> list[dict[str, Any]]:
    """The contents of results.json, which is also what --json prints."""
    folder = tmp_path / "explained"
    done = run("explain", *args, "-o", folder, "--json")
    assert (done.code, done.err) == (0, "")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert done.json == results
    for result in results:
        with Image.open(folder / result["picture"]) as picture:
            picture.load()
            assert picture.format == "PNG"
    return results


def close(have: Sequence[dict[str, Any]], want: Sequence[dict[str, Any]], but: Sequence[str] = ()) -> None:
    """Equal words, and numbers that agree to rounding."""
    for a, b in zip(have, want, strict=True):
        for key in set(a) - set(but):
            assert a[key] == (pytest.approx(b[key], rel=1e-5, abs=1e-6) if isinstance(b[key], float) else b[key]), key


def test_explain_gives_the_numbers_of_the_explainer(run: Callable[..., Ran], tmp_path: Path) -> None:
    path = compiled(run, tmp_path, *BOUNDS, "--keep", "logits")
    x = digits()[::4]
    np.savez(tmp_path / "some.npz", image=x)
    results = explained(run, tmp_path, CNN, tmp_path / "some.npz", *BOUNDS)
    direct = Explainer(path)(x)
    logits, relevance = direct.outputs["logits"], direct.relevance["image"].reshape(len(x), -1)
    assert len(results) == len(x)
    for i, result in enumerate(results):
        assert result["name"] == f"some_{i:03d}"
        assert result["predicted"] == result["target"] == logits[i].argmax()
        assert result["predicted_label"] == result["target_label"] == f"class {logits[i].argmax()}"
        assert result["score"] == pytest.approx(logits[i].max(), rel=1e-5)
        assert result["logit"] == pytest.approx(logits[i].max(), rel=1e-5)
        assert result["relevance_sum"] == pytest.approx(relevance[i].sum(), rel=1e-4)
        assert result["relevance_min"] == pytest.approx(relevance[i].min(), abs=1e-5)
        assert result["relevance_max"] == pytest.approx(relevance[i].max(), rel=1e-4)
        assert result["preset"] == "dtd"


@pytest.mark.parametrize(
    "options", [(), ("--target", 7), ("--target", "argmax"), ("--contrast",), ("--preset", "lrp-epsilon")], ids=str
)
def test_explain_gives_the_same_from_source_and_from_a_compiled_model(
    options: tuple[object, ...], run: Callable[..., Ran], tmp_path: Path
) -> None:
    few = tmp_path / "few.npy"
    np.save(few, digits()[::10])
    path = compiled(run, tmp_path, *BOUNDS, *options)
    close(explained(run, tmp_path, path, few), explained(run, tmp_path, CNN, few, *BOUNDS, *options), but=["logit"])


def test_explain_takes_a_target_for_a_compiled_model(run: Callable[..., Ran], tmp_path: Path) -> None:
    few = tmp_path / "few.npy"
    np.save(few, digits()[::10])
    path = compiled(run, tmp_path, *BOUNDS, "--target", "input")
    chosen = explained(run, tmp_path, path, few, "--target", 4)
    assert {r["target"] for r in chosen} == {4}
    assert {r["predicted"] for r in chosen} != {4}
    close(chosen, explained(run, tmp_path, CNN, few, *BOUNDS, "--target", 4))


def test_the_prediction_does_not_depend_on_what_is_explained(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Not where the model is explained by its integer label, nor by an inner tensor."""
    np.save(tmp_path / "few.npy", digits()[::10].reshape(-1, 64))
    source = MODELS / "digits_sklearn.onnx"
    label, _ = predict(source, digits()[::10].reshape(-1, 64))
    for options in ((), ("--output", "label"), ("--output", "label", "--target", 3), ("--output", "label", "--contrast")):
        results = explained(run, tmp_path, source, tmp_path / "few.npy", *BOUNDS, *options)
        assert [r["predicted"] for r in results] == label.tolist()


def test_explain_by_contrast_reports_the_lead(run: Callable[..., Ran], tmp_path: Path) -> None:
    few = tmp_path / "few.npy"
    np.save(few, digits()[::10])
    (logits,) = predict(CNN, digits()[::10])
    ranked = np.sort(logits)
    leads = [r["logit"] for r in explained(run, tmp_path, CNN, few, *BOUNDS, "--contrast")]
    np.testing.assert_allclose(leads, ranked[:, -1] - ranked[:, -2], rtol=1e-5)


def test_explain_prints_a_table_and_where_the_files_are(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("few.npy", digits()[:3])
    done = run("explain", CNN, "few.npy", *BOUNDS)
    assert (done.code, done.err) == (0, "")
    for word in ("predicted", "score", "explained", "logit", "Σ relevance", "few_002", "class 1"):
        assert word in done.out
    assert done.out.splitlines()[-1] == "3 heatmaps (preset dtd) and results.json are in explanations"
    names = sorted(path.name for path in Path("explanations").iterdir())
    assert names == ["few_000.png", "few_001.png", "few_002.png", "results.json"]


def test_explain_shows_the_first_50_rows(run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxdtd.study.explain.draw", lambda *_: None)
    np.save(tmp_path / "many.npy", np.tile(digits(), (3, 1, 1, 1)))
    done = run("explain", CNN, tmp_path / "many.npy", *BOUNDS, "-o", tmp_path / "out")
    assert "(the first 50 of 60 shown)" in done.out
    assert "many_049" in done.out
    assert "many_050" not in done.out
    assert len(json.loads((tmp_path / "out/results.json").read_text())) == 60


def test_labels(run: Callable[..., Ran], tmp_path: Path) -> None:
    np.save(tmp_path / "zeros.npy", digits()[:1])
    (tmp_path / "names.txt").write_text("null\nEins\n2\n3\n4\n5\n6\n7\nacht\n9\n\n", encoding="utf-8")
    (tmp_path / "names.json").write_text('{"0": "ноль", "9": "девять"}', encoding="utf-8")
    for file, name in (("names.txt", "null"), ("names.json", "ноль")):
        (result,) = explained(run, tmp_path, CNN, tmp_path / "zeros.npy", *BOUNDS, "--labels", tmp_path / file)
        assert result["predicted_label"] == name
    options = ("--labels", tmp_path / "names.txt", "--target", "acht", "-o", tmp_path / "out", "--json")
    done = run("explain", CNN, tmp_path / "zeros.npy", *options)
    assert [(r["target"], r["target_label"]) for r in done.json] == [(8, "acht")]
    assert done.err == "note: target acht: taken for a label, 'acht', of the class with the index 8\n"


def test_no_contrast_is_advised_where_there_is_none(run: Callable[..., Ran], tmp_path: Path) -> None:
    """A bare logit has no runner-up; of several, the advice is given."""
    np.save(tmp_path / "x.npy", np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32))
    for classes, advised in ((1, False), (2, True)):
        onnx.save(linear(classes=classes), tmp_path / "m.onnx")
        done = run("explain", tmp_path / "m.onnx", tmp_path / "x.npy", "--target", 0, "-o", tmp_path / "out")
        assert "explained logits are below zero" in done.out
        assert ("--contrast" in done.out) == advised


def test_labels_of_the_model(run: Callable[..., Ran], tmp_path: Path) -> None:
    """They are shown and taken for targets, of source and compiled model alike; it is said how one was understood."""
    source = model(
        "label, s = ai.onnx.ml.LinearClassifier <classlabels_ints = [3, 7, 9], coefficients = [1.0, 2.0, 0.0, 1.0, -1.0, 0.5], "
        'intercepts = [0.1, 0.2, 0.3], post_transform = "SOFTMAX"> (x)',
        "(float[n, 2] x) => (int64[n] label, float[n, 3] s)",
        '"" : 17, "ai.onnx.ml" : 3',
    )
    onnx.save(source, tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", np.array([[1, 1], [-1, 0.5], [-1, -1]], np.float32))
    assert "labels: 3, 7, 9" in run("inspect", tmp_path / "net.onnx").out
    assert run("inspect", tmp_path / "net.onnx", "--json").json["labels"] == ["3", "7", "9"]
    assert run("compile", tmp_path / "net.onnx", "--target", "input", "-o", tmp_path / "made.onnx").code == 0
    for path, *preset in ((tmp_path / "net.onnx", "--preset", "lrp-epsilon"), (tmp_path / "made.onnx",)):
        shown = [r["predicted_label"] for r in explained(run, tmp_path, path, tmp_path / "x.npy", *preset)]
        assert shown == [str(label) for label in predict(source, np.load(tmp_path / "x.npy"))[0]]
        for target, words in {"7": "a label, '7', of the class with the index 1", "1": "an index, that of '7'"}.items():
            done = run("explain", path, tmp_path / "x.npy", "--target", target, "-o", tmp_path / "out", "--json", *preset)
            assert {(r["target"], r["target_label"]) for r in done.json} == {(1, "7")}
            assert done.err == f"note: target {target}: taken for {words}\n"
        (tmp_path / "names.txt").write_text("three\nseven\nnine\n")
        names = ("--labels", tmp_path / "names.txt")
        done = run("explain", path, tmp_path / "x.npy", *names, "-o", tmp_path / "out", "--json", *preset)
        assert {r["predicted_label"] for r in done.json} <= {"three", "seven", "nine"}
        assert done.err == "note: the labels given are shown in place of the model's own, 3, 7, 9\n"
    done = run("compile", tmp_path / "net.onnx", "--target", "9", "-o", tmp_path / "nine.onnx")
    assert "note: target 9: taken for a label, '9', of the class with the index 2" in done.err
    assert metadata(tmp_path / "nine.onnx")["target"] == 2


@pytest.mark.parametrize("label", ["[red]", "[/b]", "ca$h", "$\\frac$", "猫", "a_b^{c", "line\u2028break", "100 %", "  "])
def test_labels_are_printed_and_drawn_as_they_are(label: str, run: Callable[..., Ran], tmp_path: Path) -> None:
    """No markup, no formulas, no warnings about fonts."""
    np.save(tmp_path / "zeros.npy", digits()[:1])
    (tmp_path / "names.json").write_text(json.dumps([label] * 10), encoding="utf-8")
    done = run("explain", CNN, tmp_path / "zeros.npy", *BOUNDS, "--labels", tmp_path / "names.json", "-o", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert label.strip() in done.out


def test_names_of_nodes_and_files_are_printed_as_they_are(run: Callable[..., Ran], tmp_path: Path) -> None:
    made = linear()
    made.graph.node[0].name = "[bold]/layer[/bold]"
    source = tmp_path / "[red]net.onnx"
    onnx.save(made, source)
    np.save(tmp_path / "$x$ [i].npy", np.ones((1, 4), np.float32))
    shown = run("inspect", source)
    assert shown.code == 0
    assert "[bold]/layer[/bold]" in shown.out
    assert "[red]net.onnx" in shown.out
    (result,) = explained(run, tmp_path, source, tmp_path / "$x$ [i].npy", "--preset", "lrp-epsilon")
    assert result["picture"] == "$x$ [i].png"
    assert "$x$ [i]" in run("explain", source, tmp_path / "$x$ [i].npy", "-o", tmp_path / "out").out


def picture(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_pictures_of_any_size_arrays_and_folders(run: Callable[..., Ran], tmp_path: Path) -> None:
    """A picture, its uint8 array, and the floats they stand for are explained alike."""
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = (digits()[4, 0] * 255).round().astype(np.uint8)
    scaled = (pixels / 255).astype(np.float32)
    picture(folder / "gray.png", pixels)
    picture(folder / "colour.bmp", np.repeat(pixels[..., None], 3, -1))
    picture(folder / "wide.gif", np.pad(pixels, ((0, 0), (5, 5))))
    np.save(folder / "float.npy", scaled)
    np.save(folder / "bytes.npy", pixels)
    np.savez(folder / "named.npz", image=scaled[None, None], other=np.zeros(3))
    (folder / "ignored.txt").write_text("not an input")
    results = explained(run, tmp_path, CNN, folder, *BOUNDS, "--resize", 8)
    names = ["bytes", "colour", "float", "gray", "named", "wide"]
    assert [r["name"] for r in results] == names
    (first, *others) = results
    close(others, [first] * len(others), but=["name", "picture"])
    big = picture(tmp_path / "big.png", np.kron(pixels, np.ones((30, 40), np.uint8)))
    (result,) = explained(run, tmp_path, CNN, big, *BOUNDS)
    assert result["predicted"] == 2


def test_pictures_take_their_scaling_from_the_compiled_model_or_from_the_options(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    shot = picture(tmp_path / "shot.png", (digits()[4, 0] * 255).round().astype(np.uint8))
    path = compiled(run, tmp_path, "--range", 0, 2, "--std", 2)
    from_metadata = explained(run, tmp_path, path, shot)
    close(from_metadata, explained(run, tmp_path, path, shot, *BOUNDS))
    close(from_metadata, explained(run, tmp_path, CNN, shot, *BOUNDS), but=["logit"])


def test_bgr(run: Callable[..., Ran], tmp_path: Path) -> None:
    source = tmp_path / "rgb.onnx"
    onnx.save(rgb(), source)
    pixels = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    straight = picture(tmp_path / "straight.png", pixels)
    turned = picture(tmp_path / "turned.png", np.ascontiguousarray(pixels[..., ::-1]))
    want = explained(run, tmp_path, source, turned, *BOUNDS)
    close(explained(run, tmp_path, source, straight, *BOUNDS, "--bgr"), want, but=["name", "picture"])


def test_inputs_of_one_name_get_pictures_of_their_own(run: Callable[..., Ran], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "x.npy", digits()[:1])
    results = explained(run, tmp_path, CNN, tmp_path / "a", tmp_path / "b", tmp_path / "a/x.npy")
    assert [r["picture"] for r in results] == ["x.png", "x_1.png", "x_2.png"]


def test_explain_reads_external_weights_wherever_it_is_called(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    onnx.save(onnx.load(CNN), home / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=256)
    np.save(tmp_path / "few.npy", digits()[:2])
    monkeypatch.chdir(tmp_path)
    before = snapshot(home)
    want = explained(run, tmp_path, CNN, "few.npy", *BOUNDS)
    close(explained(run, tmp_path, home / "net.onnx", "few.npy", *BOUNDS), want)
    assert snapshot(home) == before


# --------------------------------------------------------------------------------------------------------------- rules


def test_rules_lists_every_rule_and_preset(run: Callable[..., Ran], tmp_path: Path) -> None:
    shown, data = run("rules"), run("rules", "--json")
    assert (shown.code, shown.err, data.code, data.err) == (0, "", 0, "")
    listed = data.json
    assert {"w2", "z", "z+", "zB", "flat"} <= {rule["name"] for rule in listed["rules"]}
    assert {"dtd", "lrp-0", "lrp-epsilon", "epsilon-plus"} <= {preset["name"] for preset in listed["presets"]}
    for rule in listed["rules"]:
        for key in ("name", "equation", "domain", "source"):
            assert rule[key]
            assert rule[key] in shown.out
    for preset in listed["presets"]:
        assert preset["name"] in shown.out
        assert preset["rules"]

    file = tmp_path / "mine.toml"
    file.write_text('[rule.half]\nterms = ["x w+"]\nequation = "E [x] = 1"\n[preset.mine]\nlayers = [{ rule = "half" }]\n')
    more = run("rules", "--file", file)
    assert "half" in more.out
    assert "E [x] = 1" in more.out
    assert run("rules", "--file", file, "--json").json["presets"][-1]["name"] == "mine"


# ------------------------------------------------------------------------------------------------------- the whole script


def test_help_names_every_command_and_option(run: Callable[..., Ran]) -> None:
    done = run("--help")
    assert done.code == 0
    for command in ("compile", "inspect", "explain", "rules"):
        assert command in done.out
        assert run(command, "--help").code == 0
    text = run("compile", "--help").out
    for name in ("--preset", "--set", "--low", "--high", "--range", "--mean", "--std", "--target", "--contrast", "--output"):
        assert name in text
    assert "--keep" in text
    assert "--allow" in text


def test_python_m_onnxdtd(tmp_path: Path) -> None:
    done = ran("compile", CNN, *BOUNDS, "-o", tmp_path / "out.onnx", cwd=tmp_path)
    assert (done.code, done.out) == (0, "")
    assert metadata(tmp_path / "out.onnx")["version"] == __version__
    done = ran("compile", "missing.onnx", cwd=tmp_path)
    assert (done.code, done.out, done.err) == (2, "", "onnxdtd: missing.onnx: no such file\n")


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
def test_a_closed_pipe_is_no_error(options: list[str]) -> None:
    """As behind `onnxdtd rules | head -n 1`; 1 would say that a check failed."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "onnxdtd", "rules", *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=env, check=False, timeout=60)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode in (0, -signal.SIGPIPE)


def test_what_nobody_foresaw_is_one_message_too(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("onnxdtd.method.toml.Library.__init__", fails)
    done = run("rules")
    assert done.code == 2
    assert done.err.startswith("onnxdtd: internal error, please report it: ZeroDivisionError: surprise (")
    monkeypatch.setenv("ONNXDTD_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["onnxdtd", "rules"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


# --------------------------------------------------------------------------------------------------------- bad requests


def lstm() -> onnx.ModelProto:
    made = model(
        "s, h, c = LSTM <hidden_size = 2> (x, w, r) g = Squeeze(h, axes) y = MatMul(g, v)",
        "(float[5,batch,4] x) => (float[batch,3] y)",
        weights="<int64[1] axes = {0}>",
    )
    arrays = {"w": np.ones((1, 8, 4)), "r": np.ones((1, 8, 2)), "v": np.ones((2, 3))}
    made.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items())
    return made


def loop() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Relu", ["v"], ["v_out"]), helper.make_node("Identity", ["go"], ["go_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [None, 4]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, [None, 4]),
        ],
    )
    made = linear(body="y = MatMul(x, w)")
    made.graph.initializer.append(helper.make_tensor("times", TensorProto.INT64, [], [3]))
    made.graph.node.insert(0, helper.make_node("Loop", ["times", "", "x"], ["turned"], name="turns", body=body))
    made.graph.node[1].input[0] = "turned"
    return made


def trees() -> onnx.ModelProto:
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "y"],
        domain="ai.onnx.ml",
        name="forest",
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        class_treeids=[0, 0],
        class_nodeids=[1, 2],
        class_ids=[0, 1],
        class_weights=[1.0, 1.0],
        classlabels_int64s=[0, 1],
    )
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "forest",
        [info("x", TensorProto.FLOAT, ["batch", 4])],
        [info("label", TensorProto.INT64, ["batch"]), info("y", TensorProto.FLOAT, ["batch", 2])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def unranked() -> onnx.ModelProto:
    """Only another input tells how many axes some tensors have."""
    made = model(
        "h = Reshape(x, sizes) i = Concat<axis = 1>(h, h) j = Reshape(i, flat) y = MatMul(j, w)",
        "(float[batch,4] x, int64[rank] sizes) => (float[batch,3] y)",
    )
    made.graph.initializer.extend([dense(8, 3), helper.make_tensor("flat", TensorProto.INT64, [2], [-1, 8])])
    return made


UNSUPPORTED = {
    "unknown rank": (unranked(), "Concat x1 (i): the rank of "),
    "custom domain": (linear(body="h = my.ops.Foo(x) y = MatMul(h, w)", opset='"" : 17, "my.ops" : 1'), "my.ops.Foo x1"),
    "loop": (loop(), "Loop x1 (turns)"),
    "lstm": (lstm(), "LSTM x1"),
    "trees": (trees(), "ai.onnx.ml.TreeEnsembleClassifier x1 (forest)"),
    "sequence": (
        linear(body="q = SequenceConstruct(x) i = Constant<value = int64 {0}>() h = SequenceAt(q, i) y = MatMul(h, w)"),
        "SequenceAt x1",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_operators_without_a_rule(name: str, run: Callable[..., Ran], tmp_path: Path) -> None:
    proto, phrase = UNSUPPORTED[name]
    source = tmp_path / "net.onnx"
    onnx.save(proto, source)
    np.save(tmp_path / "x.npy", np.ones((2, 4)))
    before = snapshot(tmp_path)
    shown, asked, explaining = run("inspect", source), run("compile", source), run("explain", source, tmp_path / "x.npy")
    assert (shown.code, asked.code, explaining.code) == (1, 2, 2)
    assert shown.err == asked.err == explaining.err
    assert shown.err.startswith("onnxdtd: ")
    assert " have no propagation rule:\n" in shown.err
    assert phrase in shown.err
    assert snapshot(tmp_path) == before


def two_outputs() -> onnx.ModelProto:
    made = model("y = MatMul(x, w) z = MatMul(x, v)", "(float[batch,4] x) => (float[batch,3] y, float[batch,2] z)")
    made.graph.initializer.extend([dense(4, 3), dense(4, 2, 1, "v")])
    return made


def broken_npz(good: bytes) -> bytes:
    """A zip archive whose table of contents is sound but whose compressed data are not."""
    return good[:60] + bytes(b ^ 0x55 for b in good[60:90]) + good[90:]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder full of things that no command can serve. No test may leave a trace in it."""
    yard = tmp_path_factory.mktemp("yard")
    good = CNN.read_bytes()
    (yard / "empty.onnx").touch()
    (yard / "text.onnx").write_text("Dear compiler,\nI am not a model.\n")
    (yard / "tensor.onnx").write_bytes(dense(4, 3).SerializeToString())
    (yard / "graph.onnx").write_bytes(linear().graph.SerializeToString())
    (yard / "random.onnx").write_bytes(random.Random(7).randbytes(64))
    (yard / "tiny.onnx").write_bytes(b"\x08\x08")
    (yard / "zip.onnx").write_bytes(SAMPLES.read_bytes())
    for tenth in range(1, 10):
        (yard / f"cut{tenth}.onnx").write_bytes(good[: len(good) * tenth // 10])
    (yard / "folder.onnx").mkdir()

    integers = model("y = Cast <to = 1> (x)", "(int64[batch,4] x) => (float[batch,4] y)")
    constant = model("z = Relu(x) y = Identity(w)", "(float[batch,4] x) => (float[4,3] y)")
    constant.graph.initializer.append(dense(4, 3))
    nodes = linear()
    del nodes.graph.node[:]
    unknown = linear(body="h = Frobnicate(x) y = MatMul(h, w)")
    cycle = linear(body="a = Add(x, b) b = Add(x, a) y = MatMul(a, w)")
    dangling = linear(body="y = MatMul(nowhere, w)")
    taken = linear(body="relevance = Relu(x) y = MatMul(relevance, w)")
    nothing = linear()
    del nothing.opset_import[:]
    only_ml = linear(opset='"ai.onnx.ml" : 3')
    segmentation = model("y = Relu(x)", "(float[batch,3,8,8] x) => (float[batch,3,8,8] y)")
    several = linear(body="h = Add(x, x2) y = MatMul(h, w)")
    several.graph.input.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, ["batch", 4]))
    any_classes = model("h = MatMul(x, w) y = Reshape(h, s)", "(float[batch,4] x, int64[2] s) => (float[batch,classes] y)")
    any_classes.graph.initializer.append(dense(4, 6))
    models = {
        "any_classes": any_classes,
        "integers": integers,
        "constant": constant,
        "nodes": nodes,
        "unknown": unknown,
        "cycle": cycle,
        "dangling": dangling,
        "taken": taken,
        "no_opset": nothing,
        "only_ml": only_ml,
        "segmentation": segmentation,
        "several_inputs": several,
        "two_outputs": two_outputs(),
        "one_class": linear(classes=1),
        "opset6": linear(opset='"" : 6'),
        "opset99": linear(opset='"" : 99'),
        "rgb": rgb(),
        "linear": linear(),
    }
    for name, proto in models.items():
        (yard / f"{name}.onnx").write_bytes(proto.SerializeToString())
    onnx.save(linear(), yard / "external.onnx", save_as_external_data=True, location="external.data", size_threshold=0)
    onnx.save(linear(), yard / "lost.onnx", save_as_external_data=True, location="lost.data", size_threshold=0)
    (yard / "lost.data").unlink()
    shutil.copy(CNN, yard / "good.onnx")
    (yard / "link.onnx").symlink_to("good.onnx")
    (yard / "sub").mkdir()
    (yard / "taken.onnx.d").mkdir()
    for name, source, target in (("done", CNN, None), ("done_rgb", rgb(), None), ("fixed", CNN, 3)):
        onnxdtd.save(onnxdtd.compile(source, low=0, high=1, target=target), yard / f"{name}.onnx")

    tomls = {
        "syntax": "[preset.x\n",
        "unknown_rule": '[preset.x]\nlayers = [{ rule = "zZ" }]\n',
        "unknown_key": "[presets.x]\n",
        "no_preset": "",
        "two_presets": '[preset.a]\nlayers = [{ rule = "z" }]\n[preset.b]\nlayers = [{ rule = "z" }]\n',
        "no_layers": "[preset.x]\ntitle = 'no layers'\n",
        "mixed": '[preset.x]\nlayers = [{ name = "nobody", rule = "gradient" }, { rule = "z" }]\n',
        "incomplete": '[preset.x]\nlayers = [{ family = "dense", rule = "z" }]\n',
        "bad_params": '[preset.x]\nlayers = [{ rule = "alpha-beta(alpha=2, beta=2)" }]\n',
        "redefines": '[rule.z]\nterms = ["x w"]\n[preset.x]\nlayers = [{ rule = "z" }]\n',
    }
    for name, text in tomls.items():
        (yard / f"{name}.toml").write_text(text)
    (yard / "binary.toml").write_bytes(b"\xff\xfe\x00")

    x = digits()[:2]
    np.save(yard / "x.npy", x)
    np.save(yard / "four.npy", np.ones((2, 4), np.float32))
    np.save(yard / "shape.npy", np.zeros((2, 1, 9, 9), np.float32))
    np.save(yard / "nan.npy", np.where(x == 0, np.nan, x))
    np.save(yard / "inf.npy", np.where(x == 0, np.inf, x))
    np.save(yard / "huge.npy", np.full((1, 1, 8, 8), 1e300))
    np.save(yard / "complex.npy", x.astype(np.complex64))
    np.save(yard / "text.npy", np.array(["a", "b"]))
    np.save(yard / "scalar.npy", np.float32(3))
    np.save(yard / "none.npy", x[:0])
    np.save(yard / "object.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(yard / "several.npz", a=x, b=x)
    np.savez(yard / "nothing.npz")
    np.savez(yard / "object.npz", image=np.array([{"a": 1}], object), allow_pickle=True)
    (yard / "fake.npy").write_text("Dear numpy,")
    (yard / "fake.npz").write_bytes(b"PK\x03\x04 this is no archive")
    (yard / "cut.npy").write_bytes((yard / "x.npy").read_bytes()[:200])
    (yard / "cut.npz").write_bytes(SAMPLES.read_bytes()[:700])
    (yard / "broken.npz").write_bytes(broken_npz(SAMPLES.read_bytes()))
    with zipfile.ZipFile(yard / "no_arrays.npz", "w") as archive:
        archive.writestr("readme.txt", "no arrays here")
    (yard / "text.png").write_text("Dear artist,")
    (yard / "empty.png").touch()
    picture(yard / "shot.png", np.zeros((8, 8), np.uint8))
    noise = picture(yard / "noise.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    (yard / "cut.png").write_bytes(noise.read_bytes()[:3000])
    (yard / "notes.txt").write_text("These are notes.")
    (yard / "void").mkdir()
    (yard / "labels.json").write_text("{not json")
    (yard / "labels.bin").write_bytes(b"\xff\xfe\xfd")
    (yard / "labels_number.json").write_text("7")
    (yard / "labels_words.json").write_text('{"cat": "dog"}')
    (yard / "labels_few.txt").write_text("cat\ndog\n")
    return yard


class Bad:
    """A command line, with {y} for the yard, and what the message must say."""

    def __init__(self, line: str, *phrases: str):
        self.line = line
        self.phrases = phrases

    def args(self, yard: Path) -> list[str]:
        return [part.replace("{y}", str(yard)).replace("~", " ") for part in self.line.split(" ")]

    def __repr__(self) -> str:
        return self.line.replace("{y}/", "").replace("n" * 300, "n...")


BAD_MODELS = {
    "missing.onnx": "no such file",
    "missing/net.onnx": "no such file",
    "good.onnx/net.onnx": "good.onnx",
    "empty.onnx": "is empty",
    "text.onnx": "not an ONNX model",
    "folder.onnx": "is a folder",
    "tensor.onnx": "not an ONNX model",
    "graph.onnx": "not an ONNX model",
    "random.onnx": "not an ONNX model",
    "tiny.onnx": "not an ONNX model",
    "zip.onnx": "not an ONNX model",
    **{f"cut{i}.onnx": "truncated" for i in range(1, 10)},
    "nodes.onnx": "no ONNX graph with nodes",
    "integers.onnx": "no floating-point input",
    "constant.onnx": "no output is the score of a classifier",
    "segmentation.onnx": "no output is the score of a classifier",
    "unknown.onnx": "Frobnicate",
    "cycle.onnx": "not a valid ONNX graph",
    "dangling.onnx": "nowhere",
    "no_opset.onnx": "operator set",
    "only_ml.onnx": "operator set",
    "opset6.onnx": "operator set 6 is older than 7",
    "opset99.onnx": "99",
    "two_outputs.onnx": "choose one with --output: y [batch, 3]; z [batch, 2]",
}
GOOD = "{y}/good.onnx"
BAD = [
    *(Bad(f"{command} {{y}}/{name}", phrase) for command in ("compile", "inspect") for name, phrase in BAD_MODELS.items()),
    *(Bad(f"explain {{y}}/{name} {{y}}/x.npy -o {{y}}/sub/out", phrase) for name, phrase in BAD_MODELS.items()),
    Bad("compile {y}/taken.onnx", "relevance", "rename"),
    Bad("compile {y}/done.onnx", "compiled", "already"),
    Bad("inspect {y}/done.onnx", "compiled", "already"),
    # presets and rules
    Bad(f"compile {GOOD} --preset nonsense", "no preset 'nonsense'", "lrp-epsilon"),
    Bad(f"compile {GOOD} --preset {{y}}/missing.toml", "missing.toml", "cannot be read"),
    Bad(f"compile {GOOD} --preset {{y}}/folder.onnx", "no preset"),
    Bad(f"compile {GOOD} --preset {{y}}/syntax.toml", "syntax.toml", "not a TOML file"),
    Bad(f"compile {GOOD} --preset {{y}}/binary.toml", "binary.toml", "not a TOML file"),
    Bad(f"compile {GOOD} --preset {{y}}/unknown_rule.toml", "[preset.x], entry 1", "no rule 'zZ'"),
    Bad(f"compile {GOOD} --preset {{y}}/unknown_key.toml", "unknown key 'presets'"),
    Bad(f"compile {GOOD} --preset {{y}}/no_preset.toml", "has no preset"),
    Bad(f"compile {GOOD} --preset {{y}}/two_presets.toml", "2 presets (a, b)", "two_presets.toml:NAME"),
    Bad(f"compile {GOOD} --preset {{y}}/two_presets.toml:c", "no preset 'c'", "a, b"),
    Bad(f"compile {GOOD} --preset {{y}}/no_layers.toml", "[preset.x]", "needs layers"),
    Bad(f"compile {GOOD} --preset {{y}}/mixed.toml", "[preset.x], entry 1", "the rule gradient does not divide"),
    Bad(f"compile {GOOD} --set nobody=z", "--set nobody=z", "matches no layer", "node_conv2d"),
    Bad(f"compile {GOOD} --set node_conv=z", "matches no layer of this model; did you mean 'node_conv2d'"),
    Bad(f"compile {GOOD} --preset {{y}}/incomplete.toml", "no entry matches the layer 'node_conv2d'"),
    Bad(f"compile {GOOD} --preset {{y}}/bad_params.toml", "[preset.x], entry 1", "must be 1, not 0"),
    Bad(f"compile {GOOD} --preset {{y}}/redefines.toml", "[rule.z]", "already"),
    Bad("rules --file {y}/syntax.toml", "not a TOML file"),
    Bad("rules --file {y}/missing.toml", "cannot be read"),
    Bad("rules --file {y}/void", "void", "cannot be read"),
    Bad(f"compile {GOOD} --set nonsense", "NODE-GLOB=RULE"),
    Bad(f"compile {GOOD} --set =z", "NODE-GLOB=RULE"),
    Bad(f"compile {GOOD} --set *=", "NODE-GLOB=RULE"),
    Bad(f"compile {GOOD} --set *=zZ", "--set *=zZ", "no rule 'zZ'"),
    Bad(f"compile {GOOD} --set *=gamma(gamma=x)", "name=number"),
    Bad(f"compile {GOOD} --set *=gamma(delta=1)", "no parameter 'delta'"),
    Bad(f"compile {GOOD} --set *=gamma(gamma=nan)", "finite"),
    Bad(f"compile {GOOD} --set *=gamma(gamma=-1)", "not negative"),
    Bad(f"compile {GOOD} --set nobody=z", "--set nobody=z", "matches no layer"),
    Bad(f"compile {GOOD} --set *=zB", "needs the bounds"),
    Bad(f"compile {GOOD} --set node_linear=zB --low 0 --high 1", "only the first layer"),
    # bounds
    Bad(f"compile {GOOD} --low 0", "both --low and --high"),
    Bad(f"compile {GOOD} --high 1", "both --low and --high"),
    Bad(f"compile {GOOD} --low zero --high 1", "--low 'zero'", "number"),
    Bad(f"compile {GOOD} --low 0 --high 1,", "--high '1,'", "number"),
    Bad(f"compile {GOOD} --low 0,0,0 --high 1,1,1", "3 values", "'image'"),
    Bad("compile {y}/rgb.onnx --low 0,0 --high 1,1", "2 values", "'x'"),
    Bad(f"compile {GOOD} --low 1 --high 1", "must be below"),
    Bad(f"compile {GOOD} --low 2 --high 1", "must be below"),
    Bad("compile {y}/rgb.onnx --low 0,0,1 --high 1,1,1", "must be below"),
    Bad(f"compile {GOOD} --low nan --high 1", "finite"),
    Bad(f"compile {GOOD} --low 0 --high inf", "finite"),
    Bad(f"compile {GOOD} --low 0 --high 1e300", "--high|high"),
    Bad(f"compile {GOOD} --low 1e-60 --high 2e-60", "below"),
    Bad(f"compile {GOOD} --low 0 --high 1 --mean 0.5", "either"),
    Bad(f"compile {GOOD} --low 0 --high 1 --range 0 1", "either"),
    Bad(f"compile {GOOD} --std 0", "std must be positive"),
    Bad(f"compile {GOOD} --std -1", "std must be positive"),
    Bad(f"compile {GOOD} --std nan", "std nan"),
    Bad(f"compile {GOOD} --mean a", "--mean 'a'"),
    Bad(f"compile {GOOD} --range 1 0", "give two numbers"),
    Bad("compile {y}/rgb.onnx --mean 1,2,3 --std 1,2", "mean and std"),
    Bad("compile {y}/rgb.onnx --mean 1,2", "values"),
    # target, output, keep, allow
    Bad(f"compile {GOOD} --target 10", "target 10", "0 to 9"),
    Bad(f"compile {GOOD} --target -1", "target -1", "0 to 9"),
    Bad(f"compile {GOOD} --target 99999999999999999999", "0 to 9"),
    Bad(f"compile {GOOD} --target foo", "'foo'", "'argmax'"),
    Bad(f"compile {GOOD} --target 1.5", "'1.5'", "index"),
    Bad(f"compile {GOOD} --target=--5", "'--5'"),
    Bad(f"compile {GOOD} --target ²", "'²'"),
    Bad(f"compile {GOOD} --target=", "''"),
    Bad("compile {y}/one_class.onnx --contrast", "at least two classes"),
    Bad(f"compile {GOOD} --output logit", "no tensor 'logit'", "did you mean", "'logits'"),
    Bad(f"compile {GOOD} --output qqqqqqqq", "no tensor 'qqqqqqqq'"),
    Bad(f"compile {GOOD} --output relu", "relu"),
    Bad(f"compile {GOOD} --keep relu_12", "--keep 'relu_12'", "did you mean", "'relu_1'"),
    Bad("compile {y}/two_outputs.onnx --output y --keep z", "--keep 'z'"),
    Bad("compile {y}/any_classes.onnx --target -3", "target -3"),
    Bad("compile {y}/any_classes.onnx --target 99999999999999999999", "target 99999999999999999999"),
    Bad(f"compile {GOOD} --allow Foo=bar", "--allow Foo=bar", "OP=pass"),
    Bad(f"compile {GOOD} --allow Foo", "OP=pass"),
    Bad(f"compile {GOOD} --allow =pass", "OP=pass"),
    # where to write
    Bad(f"compile {GOOD} -o {{y}}/nowhere/out.onnx", "nowhere", "does not exist"),
    Bad(f"compile {GOOD} -o {{y}}/good.onnx", "is the source model"),
    Bad(f"compile {GOOD} -o {{y}}/sub/../good.onnx", "is the source model"),
    Bad(f"compile {GOOD} -o {{y}}/link.onnx", "is the source model"),
    Bad("compile {y}/link.onnx -o {y}/good.onnx", "is the source model"),
    Bad(f"compile {GOOD} -o {{y}}/sub", "is a folder"),
    Bad(f"compile {GOOD} -o /proc/out.onnx", "/proc/out.onnx", "cannot be written"),
    Bad(f"compile {GOOD} -o {{y}}/text.png/out.onnx", "text.png"),
    Bad(f"compile {GOOD} -o {{y}}/sub/{'n' * 300}.onnx", "cannot be written"),
    Bad("compile {y}/external.onnx -o {y}/external.data", "external.data", "weights"),
    Bad("compile {y}/lost.onnx -o {y}/sub/out.onnx", "lost.data"),
    # what to explain
    Bad(f"explain {GOOD} {{y}}/missing.png -o {{y}}/sub/out", "missing.png", "no such file"),
    Bad(f"explain {GOOD} {{y}}/void -o {{y}}/sub/out", "void", "no images"),
    Bad(f"explain {GOOD} {{y}}/shot.png -o {{y}}/sub/out", "shot.png", "--range", "--low"),
    Bad(f"explain {GOOD} {{y}}/text.png --low 0 --high 1 -o {{y}}/sub/out", "text.png", "not a readable picture"),
    Bad(f"explain {GOOD} {{y}}/empty.png --low 0 --high 1 -o {{y}}/sub/out", "empty.png", "not a readable picture"),
    Bad(f"explain {GOOD} {{y}}/cut.png --low 0 --high 1 -o {{y}}/sub/out", "cut.png", "not a readable picture"),
    Bad(f"explain {GOOD} {{y}}/notes.txt --low 0 --high 1 -o {{y}}/sub/out", "notes.txt", "not a readable picture"),
    Bad("explain {y}/linear.onnx {y}/shot.png --low 0 --high 1 -o {y}/sub/out", "shot.png", "picture", "[4]"),
    Bad(f"explain {GOOD} {{y}}/shape.npy -o {{y}}/sub/out", "shape.npy", "[2, 1, 9, 9]", "[1, 8, 8]"),
    *(
        Bad(f"explain {GOOD} {{y}}/{name} -o {{y}}/sub/out", name.partition(".")[0], phrase)
        for name, phrase in {
            "nan.npy": "NaN",
            "inf.npy": "infinite",
            "huge.npy": "infinite",
            "complex.npy": "complex64",
            "text.npy": "no numbers",
            "scalar.npy": "the array is []",
            "none.npy": "no numbers",
            "object.npy": "not a readable numpy file",
            "object.npz": "not a readable numpy file",
            "several.npz": "which array? It has a, b; name one 'image'",
            "nothing.npz": "no array",
            "no_arrays.npz": "no array|no numbers|not a readable",
            "fake.npy": "not a readable numpy file",
            "fake.npz": "not a readable numpy file",
            "cut.npy": "not a readable numpy file",
            "cut.npz": "not a readable numpy file",
            "broken.npz": "not a readable numpy file",
        }.items()
    ),
    Bad("explain {y}/several_inputs.onnx {y}/four.npy -o {y}/sub/out", "several inputs", "x, x2"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/missing.txt -o {{y}}/sub/out", "missing.txt", "labels"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/void -o {{y}}/sub/out", "void", "labels"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/labels.bin -o {{y}}/sub/out", "labels.bin", "labels"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/labels.json -o {{y}}/sub/out", "labels.json", "labels"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/labels_number.json -o {{y}}/sub/out", "labels_number.json"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/labels_words.json -o {{y}}/sub/out", "labels_words.json"),
    Bad(f"explain {GOOD} {{y}}/x.npy --labels {{y}}/labels_few.txt -o {{y}}/sub/out", "2 labels for 10 classes"),
    Bad("explain {y}/done.onnx {y}/x.npy --labels {y}/labels_few.txt -o {y}/sub/out", "2 labels for 10 classes"),
    Bad(f"explain {GOOD} {{y}}/x.npy --provider Abacus -o {{y}}/sub/out", "'Abacus'", "CPUExecutionProvider"),
    Bad(f"explain {GOOD} {{y}}/x.npy -o {{y}}/notes.txt", "notes.txt", "cannot write"),
    Bad(f"explain {GOOD} {{y}}/x.npy -o {{y}}/notes.txt/out", "notes.txt", "cannot write"),
    Bad(f"explain {GOOD} {{y}}/x.npy -o /proc/out", "/proc/out", "cannot write"),
    Bad(f"explain {GOOD} {{y}}/x.npy --target 10 -o {{y}}/sub/out", "target 10", "0 to 9"),
    # a compiled model is what it is
    Bad("explain {y}/done.onnx {y}/x.npy --target 10 -o {y}/sub/out", "target 10", "0 to 9"),
    Bad("explain {y}/done.onnx {y}/x.npy --target foo -o {y}/sub/out", "'foo'"),
    Bad("explain {y}/fixed.onnx {y}/x.npy --target 4 -o {y}/sub/out", "explains class 3, whatever"),
    Bad("explain {y}/fixed.onnx {y}/x.npy --target argmax -o {y}/sub/out", "explains class 3, whatever"),
    Bad("explain {y}/done.onnx {y}/shot.png --low 1 --high 0 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/shot.png --low 1 --high 1 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/shot.png --low nan --high 1 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/shot.png --low 0,0 --high 1,1 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done_rgb.onnx {y}/shot.png --low 0,0 --high 1,1 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --preset lrp-0 -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --contrast -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --set *=z -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --output relu -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --keep relu -o {y}/sub/out", "compiled already"),
    Bad("explain {y}/done.onnx {y}/x.npy --allow Sin=pass -o {y}/sub/out", "compiled already"),
]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_bad_requests_end_in_one_plain_message(bad: Bad, yard: Path, run: Callable[..., Ran]) -> None:
    before = snapshot(yard)
    done = run(*bad.args(yard))
    after = snapshot(yard)
    out = yard / "sub/out"
    if out.is_dir():  # it was made to see whether it can be written to, but nothing is in it
        shutil.rmtree(out)
    assert (done.code, done.out) == (2, ""), done.err or done.out
    assert done.err.startswith("onnxdtd: ")
    assert done.err.count("onnxdtd: ") == 1
    if "have no propagation rule" not in done.err:
        assert done.err.count("\n") == 1, "one line"
    for word in ("Traceback", "internal error", "Warning", 'File "', "0 to -1"):
        assert word not in done.err
    for phrase in bad.phrases:
        assert any(choice in done.err for choice in phrase.split("|")), done.err
    assert {name: mark for name, mark in after.items() if name != "sub/out"} == before


@pytest.mark.parametrize(
    "line",
    [
        "compile",
        "explain {y}/good.onnx",
        "nonsense",
        "compile {y}/good.onnx --nonsense",
        "compile {y}/good.onnx --range 0 one",
        "compile {y}/good.onnx {y}/good.onnx",
        "compile {y}/good.onnx --low",
    ],
)
def test_bad_usage_shows_how_to_use_it(line: str, yard: Path, run: Callable[..., Ran]) -> None:
    before = snapshot(yard)
    done = run(*Bad(line).args(yard))
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.err
    assert snapshot(yard) == before


def test_a_file_in_the_way_of_a_result(run: Callable[..., Ran], tmp_path: Path) -> None:
    """A folder where results.json, or a heatmap, should go."""
    np.save(tmp_path / "x.npy", digits()[:1])
    for name in ("results.json", "x.png"):
        (tmp_path / name / name).mkdir(parents=True)
        done = run("explain", CNN, tmp_path / "x.npy", "-o", tmp_path / name)
        assert done.code == 2
        assert "internal error" not in done.err
        assert name in done.err
        assert not [path for path in (tmp_path / name).glob("*") if path.name not in (name, "x.png")]


def test_a_damaged_model_is_refused_or_compiled_but_never_crashes(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Random bytes of a model overwritten: many still parse."""
    good = (MODELS / "digits_mlp.onnx").read_bytes()
    structure = [i for i in range(len(good)) if i < 300 or i > len(good) - 700]
    chance = random.Random(20)
    source, out = tmp_path / "net.onnx", tmp_path / "out.onnx"
    for _ in range(60):
        data = bytearray(good)
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.choice(structure)] = chance.randrange(256)
        source.write_bytes(data)
        done = run("compile", source, "-o", out)
        assert done.code in (0, 2)
        assert "internal error" not in done.err, done.err
        assert "Traceback" not in done.err


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["onnxdtd", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{onnxdtd.__version__}\n")


def test_a_device_is_no_file_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replacing it by a file would destroy it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setattr("sys.argv", ["onnxdtd", "compile", str(MODELS / "digits_mlp.onnx"), "-o", str(fifo)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, fifo.is_fifo()) == (2, True)
    assert "is not a regular file" in capsys.readouterr().err


FOLLOWED = [  # a request, the advice in its refusal, and the request again with the advice taken
    (f"compile {GOOD} --low 0", "give both --low and --high", "--high 1"),
    (f"compile {GOOD} --preset epsilon-gamma-box", "give --low and --high", "--low 0 --high 1"),
    ("compile {y}/two_outputs.onnx", "choose one with --output: y [batch, 3]; z [batch, 2]", "--output z"),
    (
        f"explain {GOOD} {{y}}/shot.png",
        "needs --range (with --mean and --std) or --low and --high",
        "--range 0 1 --mean 0.5 --std 0.5",
    ),
    (f"explain {GOOD} {{y}}/shot.png", "needs --range (with --mean and --std) or --low and --high", "--low 0 --high 1"),
]
INSTEAD = [  # ... with part of it replaced
    (f"compile {GOOD} --output logit", "did you mean 'logits'", "--output logit", "--output logits"),
    (f"compile {GOOD} --keep relu_12", "'relu_1'", "relu_12", "relu_1"),
    (f"compile {GOOD} --set node_conv=z", "did you mean 'node_conv2d'", "node_conv=", "node_conv2d="),
    (f"compile {GOOD} --preset {{y}}/two_presets.toml", "two_presets.toml:NAME", "presets.toml", "presets.toml:b"),
    ("compile {y}/done.onnx", "give the model that it was compiled from", "done.onnx", "good.onnx"),
    ("explain {y}/folder.onnx {y}/x.npy", "give the .onnx file in it", "folder.onnx", "good.onnx"),
    (f"compile {GOOD} --set *=gamma(0.5)", "write parameters as name=number", "(0.5)", "(gamma=0.5)"),
    (f"compile {GOOD} --set z", "write NODE-GLOB=RULE", "--set z", "--set node_conv2d=z"),
]


@pytest.mark.parametrize(
    ("request_", "advice", "taken"),
    [(bad, advice, f"{bad} {more}") for bad, advice, more in FOLLOWED]
    + [(bad, advice, bad.replace(old, new)) for bad, advice, old, new in INSTEAD],
)
def test_a_request_that_follows_the_advice_is_served(
    request_: str, advice: str, taken: str, yard: Path, run: Callable[..., Ran], tmp_path: Path
) -> None:
    refused = run(*Bad(f"{request_} -o {tmp_path}/out").args(yard))
    assert refused.code == 2
    assert advice in refused.err
    done = run(*Bad(f"{taken} -o {tmp_path}/out").args(yard))
    assert done.code == 0, done.err
