"""The main job: numbers and pictures of many samples, in one folder."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from galleries import filled
from nets import eighths, model, node
from onnx import ModelProto
from PIL import Image

import onnxdtd
from onnxdtd import Explainer
from onnxdtd.data.read import Sample
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.labels import Index
from onnxdtd.request import Request
from onnxdtd.study.inputs import _renamed
from onnxdtd.study.notes import NOTHING, Notes
from onnxdtd.study.parts import COLUMNS
from onnxdtd.study.presenter import Presenter
from onnxdtd.study.results import Folder, Result
from onnxdtd.study.saved import Wanted

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
CPU = ["CPUExecutionProvider"]
RESULT = Result("cat_001", "cat_001.png", 3, "cat", 0.912, 3, "cat", 7.5, 7.25, -0.5, 2.0, "dtd")


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return eighths(np.random.default_rng(seed), *shape)


def classifier(shape: list[int | str] | None = None, classes: int = 4) -> ModelProto:
    """One dense layer."""
    shape = ["batch", 6] if shape is None else shape
    return model([node("MatMul", "x w", "y")], {"x": shape}, ["y"], {"w": weights(6, classes)})


def job(proto: ModelProto | None = None, labels: list[str] | None = None, **options: Any) -> Presenter:
    options = {"low": -1, "high": 1, "keep": ["y"], "target": "input"} | options
    compiled = onnxdtd.compile(classifier() if proto is None else proto, **options)
    return Presenter(Explainer(compiled, CPU), labels)


def remarks(results: list[Result]) -> list[str]:
    return Notes(results).remarks()


def listed(folder: Path) -> list[Any]:
    """The samples in the file of results."""
    found: list[Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))["samples"]
    return found


def as_listed(results: list[Result]) -> list[Any]:
    return [json.loads(json.dumps(result.as_data())) for result in results]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would have been drawn."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("onnxdtd.data.images.draw", lambda *args: calls.append(args))
    return calls


# ----------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("target", [None, 0, 3])
def test_the_numbers_are_those_of_the_explainer(target: int | None) -> None:
    made = job(labels=["zero", "one", "two", "three"])
    for seed in range(5):
        x = weights(6, seed=seed).astype(np.float64)
        result, relevance, *_ = made.explain(Sample("s", x), None if target is None else Index(target))
        direct = made.explainer(x[None], target)
        scores = direct.outputs["y"][0]
        explained = scores.argmax() if target is None else target
        np.testing.assert_array_equal(relevance, direct.relevance["x"][0])
        assert (result.name, result.picture, result.preset) == ("s", "", "dtd")
        assert (result.predicted, result.target) == (scores.argmax(), explained)
        assert (result.score, result.logit) == (scores.max(), scores[explained])
        assert result.relevance_sum == pytest.approx(relevance.sum(), rel=1e-6)
        assert (result.relevance_min, result.relevance_max) == (relevance.min(), relevance.max())
        assert result.predicted_label == ["zero", "one", "two", "three"][result.predicted]
        assert result.target_label == ["zero", "one", "two", "three"][result.target]
        json.dumps(asdict(result))  # nothing of numpy is left


def test_the_logit_is_not_the_probability() -> None:
    nodes = [node("MatMul", "x w", "y"), node("Softmax", "y", "p", axis=1)]
    made = job(model(nodes, {"x": ["batch", 6]}, ["p"], {"w": weights(6, 4)}))
    x = weights(6, seed=1)
    result, *_ = made.explain(Sample("s", x))
    logits = x @ weights(6, 4)
    assert result.score == pytest.approx(np.exp(logits.max()) / np.exp(logits).sum())
    assert result.logit == pytest.approx(logits.max())


def test_a_file_that_ends_in_softmax_gives_the_logit_and_the_notes_on_it(
    tmp_path: Path, undrawn: list[tuple[Any, ...]]
) -> None:
    nodes = [node("MatMul", "x w", "m"), node("Sub", "m c", "y"), node("Softmax", "y", "p", axis=1)]
    proto = model(nodes, {"x": ["batch", 6]}, ["p"], {"w": weights(6, 4), "c": np.full(4, 8, np.float32)})
    compiled = onnxdtd.compile(proto, "lrp-epsilon")
    np.save(tmp_path / "x.npy", weights(3, 6, seed=1))
    results = filled(Presenter(Explainer(compiled, CPU)), tmp_path / "out", [tmp_path / "x.npy"]).results
    scores = (weights(3, 6, seed=1) @ weights(6, 4) - 8).max(axis=1)
    assert [r.logit for r in results] == pytest.approx(scores)
    assert (scores < 0).all()
    assert any(remark.startswith("3 of 3 explained logits are below zero") for remark in remarks(results))
    assert all(f"logit = {r.logit:.4g}" in caption.subtitle for r, (*_, caption, _, _, _) in zip(results, undrawn, strict=True))
    older = onnx.ModelProto()
    older.CopyFrom(compiled)
    (entry,) = (e for e in older.metadata_props if e.key == "onnxdtd.logit")
    (output,) = (o for o in older.graph.output if o.name == json.loads(entry.value))
    older.metadata_props.remove(entry)
    older.graph.output.remove(output)
    results = filled(Presenter(Explainer(older, CPU)), tmp_path / "out", [tmp_path / "x.npy"]).results
    assert [r.logit for r in results] == [None] * 3
    assert remarks(results) == []


def test_without_the_logits_kept_the_logit_is_that_of_the_output() -> None:
    sample = Sample("s", weights(6))
    assert job(keep=[]).explain(sample)[0].logit == job().explain(sample)[0].logit
    scores = np.sort(weights(6) @ weights(6, 4))
    assert job(keep=[], contrast=True).explain(sample)[0].logit == scores[-1] - scores[-2]


def test_a_gradient_has_no_logit() -> None:
    assert job(preset="gradient").explain(Sample("s", weights(6)))[0].logit is None


@pytest.mark.parametrize("target", [0, 2])
def test_a_fixed_target_is_reported(target: int) -> None:
    result, *_ = job(target=target).explain(Sample("s", weights(6, seed=3)))
    assert result.target == target
    scores = weights(6, seed=3) @ weights(6, 4)
    assert (result.predicted, result.logit) == (scores.argmax(), scores[target])


def label_only() -> ModelProto:
    """A classifier that gives nothing but the number of the class."""
    return model(
        [node("MatMul", "x w", "y"), node("ArgMax", "y", "label", axis=1, keepdims=0)],
        {"x": ["batch", 6]},
        ["label"],
        {"w": weights(6, 4)},
    )


@pytest.mark.parametrize("options", [{}, {"target": 2}, {"contrast": True}, {"keep": []}, {"target": 2, "keep": []}], ids=str)
def test_the_prediction_of_a_model_that_gives_labels_only(options: dict[str, Any]) -> None:
    made = job(label_only(), **options)
    for seed in range(8):
        x = weights(6, seed=seed) - np.float32(1.5)  # all kinds of signs among the logits
        scores = x @ weights(6, 4)
        result, *_ = made.explain(Sample("s", x))
        assert result.predicted == scores.argmax()
        assert result.target == options.get("target", scores.argmax())


@pytest.mark.parametrize("shape", [["batch", 6], [1, 6], [3, 6], [6]], ids=str)
def test_batches_of_any_size(shape: list[int | str]) -> None:
    """A fixed batch is filled with copies; without a batch axis the input is the sample."""
    made = job(classifier(shape))
    assert made.feeding.layouts["x"].shape == [6]
    x = weights(6, seed=4).astype(np.float64)
    result, relevance, *_ = made.explain(Sample("s", x))
    want, wanted, *_ = job().explain(Sample("s", x))
    np.testing.assert_allclose(relevance, wanted, rtol=1e-6)
    assert result.flags == want.flags
    numbers = [{k: v for k, v in asdict(r).items() if k not in ("flags", "concepts", "pro", "contra")} for r in (result, want)]
    assert numbers[0] == pytest.approx(numbers[1])


def test_logits_with_trailing_axes_of_one() -> None:
    nodes = [node("Conv", "x k", "c"), node("GlobalAveragePool", "c", "y")]
    made = job(model(nodes, {"x": ["batch", 3, 5, 5]}, ["y"], {"k": weights(4, 3, 3, 3)}), labels=list("abcd"))
    result, relevance, *_ = made.explain(Sample("s", weights(3, 5, 5)))
    assert relevance.shape == (3, 5, 5)
    assert result.predicted_label in "abcd"


def test_what_a_model_refuses_names_the_sample() -> None:
    with pytest.raises(RequestError, match="the_sample: the array for 'x' has values that are NaN or infinite"):
        job().explain(Sample("the_sample", np.full(6, np.nan)))
    with pytest.raises(RequestError, match="the_sample: target 9 is no class"):
        job().explain(Sample("the_sample", weights(6)), Index(9))
    huge = np.asarray([3e38, 3e38, -3e38, -3e38, 3e38, 3e38], np.float32)
    with pytest.raises(
        RequestError, match="the_sample: its score is NaN or infinite; are there numbers too large for the model"
    ):
        job(label_only(), preset="lrp-0", low=None, high=None).explain(Sample("the_sample", huge))


@pytest.mark.parametrize(
    ("contrast", "words"), [(None, "logit"), (True, "lead over the runner-up"), ("rest", "lead over the mean of the others")]
)
def test_the_caption_says_what_the_score_is(contrast: Any, words: str) -> None:
    made = job(contrast=contrast)
    result, *_ = made.explain(Sample("s", weights(6)))
    assert f"   {words} = {result.logit:.4g}" in made.caption(result).subtitle


def test_captions() -> None:
    made = job(labels=["cat", "dog", "eel", "fox"])
    result, *_ = made.explain(Sample("photo", weights(6, seed=1)))
    caption = made.caption(replace(RESULT, name="photo"))
    assert caption.title == "photo: cat (score 0.912)"
    assert caption.subtitle == "dtd   Σ relevance = 7.25   logit = 7.5"
    assert made.caption(replace(RESULT, target=1, target_label="dog")).title == "cat_001: cat (score 0.912), explained: dog"
    assert "logit" not in made.caption(replace(RESULT, logit=None)).subtitle
    assert made.caption(result).title.startswith("photo: ")


def test_the_balance_of_a_ledger() -> None:
    x = eighths(np.random.default_rng(1), 6)
    without, *_ = job().explain(Sample("a", x))
    assert without.balance is None
    result, *_ = job(ledger=True).explain(Sample("a", x))
    assert result.balance is not None
    assert result.balance["logit"] == pytest.approx(result.logit)
    assert result.balance["relevance"] == pytest.approx(result.relevance_sum, rel=1e-6)


# ------------------------------------------------------------------------------------------------------------------ folder


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    Folder(tmp_path / "a/b")
    Folder(tmp_path / "a/b")
    assert list((tmp_path / "a/b").iterdir()) == []


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/out", Path("/proc/out"), tmp_path / ("n" * 300)):
        with pytest.raises(RequestError, match="cannot write there"):
            Folder(path)


def test_names_of_samples_are_unique() -> None:
    assert dict(_renamed(("x", "x", "x_1", "x", "y", "x_1"))) == {1: "x_1", 2: "x_1_1", 3: "x_2", 5: "x_1_2"}


def test_results_are_written_as_json_that_people_can_read(tmp_path: Path) -> None:
    path = Folder(tmp_path).finish({"version": "1", "rules": {"a": {}}}, iter([replace(RESULT, predicted_label="猫"), RESULT]))
    assert path == tmp_path / "results.json"
    text = path.read_text(encoding="utf-8")
    assert "猫" in text
    assert json.loads(text)["provenance"] == {"version": "1", "rules": {"a": {}}}
    assert json.loads(text)["samples"] == as_listed([replace(RESULT, predicted_label="猫"), RESULT])
    assert json.loads(text)["samples"][1]["missing"] == 7.5 - 7.25
    Folder(tmp_path).finish({}, [])
    assert json.loads(path.read_text()) == {"provenance": {}, "samples": []}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_nothing_is_left_of_results_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results.json").write_text("an older result")

    def fails(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    folder = Folder(tmp_path)
    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OnnxdtdError, match="No space left on device"):
        folder.finish({}, [RESULT])
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    assert (tmp_path / "results.json").read_text() == "an older result"


# ------------------------------------------------------------------------------------------------- what must not be silent


def codes(result: Result) -> list[str]:
    return [flag.code for flag in result.flags]


def inhibited() -> ModelProto:
    """Of two classes: the first is what the only neuron takes away, so that under z+ nothing has a share in it."""
    weights = {"w": np.full((3, 1), 1.0, np.float32), "v": np.float32([[-1, 1]]), "b": np.float32([5, 0])}
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "m"), node("Add", "m b", "y")]
    return model(nodes, {"x": ["batch", 3]}, ["y"], weights)


def test_a_heatmap_of_zeros_says_where_relevance_stayed() -> None:
    """5 − h is the logit, from h − 5 < 0 neurons with no positive weight."""
    options = {"preset": "dtd", "low": 0, "high": 1, "target": 0}
    for made in (
        Presenter(Explainer(onnxdtd.compile(inhibited(), **options, ledger=True), CPU)),
        Presenter(
            Explainer(onnxdtd.compile(inhibited(), **options), CPU),
            ledgered=lambda: Explainer(onnxdtd.compile(inhibited(), **options, ledger=True), CPU),
        ),
    ):
        result, relevance, *_ = made.explain(Sample("s", np.full(3, 0.5)))
        assert not relevance.any()
        (flag,) = result.flags
        assert flag.code == "zero"
        assert flag.text.startswith(
            "all of this heatmap is zero: 100.0% of the logit stayed at 'm_node', where no input has a share"
        )
        assert made.caption(result).notes == (flag.text,)
        assert codes(made.explain(Sample("s", np.full(3, 0.5)), None)[0]) == ["zero"]


def test_without_a_ledger_a_heatmap_of_zeros_says_how_to_get_one() -> None:
    made = Presenter(Explainer(onnxdtd.compile(inhibited(), "dtd", low=0, high=1, target=0), CPU))
    (flag,) = made.explain(Sample("s", np.full(3, 0.5)))[0].flags
    assert "--ledger" in flag.text


def test_a_gradient_of_zeros_has_no_ledger_to_ask() -> None:
    def refuses() -> Explainer:
        return Explainer(onnxdtd.compile(inhibited(), "gradient", ledger=True), CPU)

    made = Presenter(Explainer(onnxdtd.compile(inhibited(), "gradient", target=0), CPU), ledgered=refuses)
    (flag,) = made.explain(Sample("s", np.full(3, -0.5)))[0].flags
    assert (flag.code, flag.text) == ("zero", "all of this heatmap is zero: the score does not react to the input here")


@pytest.mark.parametrize(
    ("preset", "reason"), [("gradient-x-input", "the input is 0"), ("deeplift-rescale", "what it is compared with")]
)
def test_a_heatmap_of_zeros_where_the_score_reacts(preset: str, reason: str) -> None:
    (flag,) = (
        Presenter(Explainer(onnxdtd.compile(inhibited(), preset, target=1), CPU)).explain(Sample("s", np.zeros(3)))[0].flags
    )
    assert flag.text == f"all of this heatmap is zero: {NOTHING['x g' if preset == 'gradient-x-input' else 'dx g']}"
    assert reason in flag.text


def test_a_map_that_speaks_for_nothing_is_no_score_that_does_not_react() -> None:
    weights = {"w": np.ones((2, 1, 1, 1), np.float32), "v": np.float32([[-1, 1], [-1, 1]])}
    nodes = [
        node("Conv", "x w", "h"),
        node("GlobalAveragePool", "h", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "f v", "y"),
    ]
    proto = model(nodes, {"x": ["batch", 1, 2, 2]}, ["y"], weights)
    made = Presenter(Explainer(onnxdtd.compile(proto, "grad-cam", target=0), CPU))
    (flag,) = made.explain(Sample("s", np.ones((1, 2, 2))))[0].flags
    assert flag.text == f"all of this heatmap is zero: {NOTHING['cam']}"


def test_most_of_the_logit_lost() -> None:
    """5 + h by LRP-ε: the bias keeps 5 of it."""
    made = job(inhibited(), preset="lrp-epsilon", target=1, settings=["m_node=epsilon"], ledger=True)
    assert codes(made.explain(Sample("s", np.full(3, 1.0)))[0]) == []
    made = job(inhibited(), preset="lrp-epsilon", target=0, ledger=True)
    (flag,) = made.explain(Sample("s", np.full(3, 1.0)))[0].flags
    assert flag.code == "lost"
    assert flag.text.startswith(
        "Σ relevance is -1.5 times the logit: 250.0% of the logit stayed at 'm_node', where biases absorb it"
    )


@pytest.mark.parametrize(
    ("values", "count"), [([0.0, 0.5, 1.0], 0), ([-0.1, 1.1, 0.5], 0), ([0.2, 1.2, 0.5], 1), ([0, 128, 255], 2)]
)
def test_values_far_outside_of_the_bounds(values: list[float], count: int) -> None:
    made = job(inhibited(), preset="lrp-epsilon", low=0, high=1, target=1)
    flags = made.explain(Sample("s", np.asarray(values, np.float64)))[0].flags
    assert [flag.code for flag in flags] == ["outside"] * bool(count)
    for flag in flags:
        assert f"from {min(values):.4g} to {max(values):.4g}, {count} of 3 lie far outside of the bounds, 0 to 1" in flag.text


def test_bounds_of_a_channel_are_those_of_its_own_values() -> None:
    proto = model([node("Flatten", "x", "f"), node("MatMul", "f w", "y")], {"x": ["n", 3, 2, 2]}, ["y"], {"w": weights(12, 4)})
    made = job(proto, preset="lrp-epsilon", low=[0, 0, 100], high=[1, 1, 200])
    x = np.zeros((3, 2, 2)) + np.asarray([0, 1, 150]).reshape(3, 1, 1)
    assert codes(made.explain(Sample("s", x))[0]) == []
    assert codes(made.explain(Sample("s", x[::-1]))[0]) == ["outside"]


def test_a_heatmap_by_weights_alone_says_so() -> None:
    """In the file itself, so that the compiled model tells as well."""
    sample = Sample("s", weights(6, seed=3))
    made = job(preset="dtd", low=None, high=None)
    result = made.explain(sample)[0]
    assert codes(result) == ["weights"]
    assert result.flags[0].text == "shared out by weights alone at 'y_node' (w2), whatever the values of the input"
    assert codes(job(preset="dtd").explain(sample)[0]) == []
    del made.explainer.metadata["by_weights"]  # a file of an older version
    assert codes(made.explain(sample)[0]) == []
    assert job(low=None, high=None).explain(sample)[0].preset == "lrp-epsilon"


def test_one_heatmap_for_all_inputs_is_said(tmp_path: Path, undrawn: list[tuple[Any, ...]]) -> None:
    """The gradient of a linear model is its weights, whatever the input."""
    x = np.random.default_rng(3).normal(size=(4, 6))
    np.save(tmp_path / "x.npy", [*x, x[0]])
    made = job(preset="gradient", low=None, high=None, target=1)
    results = filled(made, tmp_path / "out", [tmp_path / "x.npy"]).results
    assert [codes(r) for r in results] == [["same"]] * 4 + [[]], "the last is the first once more"
    assert "that of x_000 (cosine 1.0000)" in results[1].flags[0].text
    assert "that of x_001 (cosine 1.0000)" in results[0].flags[0].text
    assert listed(tmp_path / "out") == as_listed(results)
    drawn = [(path.name, caption.notes) for path, _, _, caption, *_ in undrawn]
    assert drawn[0] == ("x_000.png", (results[0].flags[0].text,)), "drawn once it is known"
    assert [name for name, _ in drawn] == [f"x_00{i}.png" for i in range(5)]
    assert remarks(results[:4])[-1].startswith("all inputs, or those of a class, have the same heatmap")
    assert not any("same heatmap" in remark for remark in remarks(results))


def test_one_heatmap_for_inputs_of_several_classes_is_said(tmp_path: Path, undrawn: list[tuple[Any, ...]]) -> None:
    """All classes weigh alike, up to a factor."""
    w = weights(6, 1) * np.float32([[1, -1, 2, -2]]) + np.float32([[0, 1e-6, 2e-6, 3e-6]])
    proto = model([node("MatMul", "x w", "y")], {"x": ["batch", 6]}, ["y"], {"w": w})
    x = np.random.default_rng(4).normal(size=(12, 6))
    np.save(tmp_path / "x.npy", x)
    results = filled(job(proto, preset="sensitivity", low=None, high=None), tmp_path / "out", [tmp_path / "x.npy"]).results
    assert len({r.target for r in results}) > 1
    assert [codes(r) for r in results] == [["same"]] * 12
    assert len(remarks(results)) == 1


def test_heatmaps_that_follow_their_inputs_are_not_the_same(tmp_path: Path, undrawn: list[tuple[Any, ...]]) -> None:
    """Not those of inputs that are nearly alike, nor of an input at twice its size."""
    x = np.random.default_rng(3).normal(size=(3, 6))
    np.save(tmp_path / "x.npy", [*x, x[0] * (1 + 0.01 * x[1]), 2 * x[0]])
    made = job(preset="lrp-epsilon", low=None, high=None, target=1)
    assert [codes(r) for r in filled(made, tmp_path / "out", [tmp_path / "x.npy"]).results] == [[]] * 5


# -------------------------------------------------------------------------------------------------------------------- save


def test_the_relevance_of_a_run_is_saved(tmp_path: Path, undrawn: list[tuple[Any, ...]]) -> None:
    x = weights(3, 6, seed=5)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "x_000.npy", x[1])
    made = job()
    files = [tmp_path / "x.npy", tmp_path / "x_000.npy"]
    results = filled(made, tmp_path / "out", files, save=tmp_path / "r.npz").results
    with np.load(tmp_path / "r.npz") as saved:
        assert set(saved) == {"relevance/x", *COLUMNS}
        assert saved["sample"].tolist() == ["x_000", "x_001", "x_002", "x_000_1"] == [Path(r.picture).stem for r in results]
        assert saved["predicted"].tolist() == [r.predicted for r in results]
        assert saved["target"].tolist() == [r.target for r in results]
        assert saved["logit"].tolist() == [r.logit for r in results]
        assert saved["relevance/x"].dtype == np.float32
        for i, row in enumerate([*x, x[1]]):
            np.testing.assert_array_equal(saved["relevance/x"][i], made.explainer(row[None]).relevance["x"][0])


def test_samples_of_several_sizes_are_saved_one_by_one(tmp_path: Path, undrawn: list[tuple[Any, ...]]) -> None:
    nodes = [node("Conv", "x k", "c"), node("GlobalAveragePool", "c", "y")]
    made = job(model(nodes, {"x": ["batch", 3, "h", "w"]}, ["y"], {"k": weights(4, 3, 3, 3)}), preset="gradient", keep=[])
    for name, side in (("a", 5), ("b", 7)):
        np.save(tmp_path / f"{name}.npy", weights(3, side, 5))
    filled(made, tmp_path / "out", [tmp_path / "a.npy", tmp_path / "b.npy"], save=tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz") as saved:
        assert saved["relevance/x/a"].shape == (3, 5, 5)
        assert saved["relevance/x/b"].shape == (3, 7, 5)
        assert np.isnan(saved["logit"]).all()


def test_a_place_to_save_to_is_looked_at_first(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"--save .*r.npy: give the name of a file that ends in \.npz, \.csv, "):
        Wanted.to(tmp_path / "r.npy")
    with pytest.raises(RequestError, match=r"r\.npz: the folder .*none does not exist"):
        Wanted.to(tmp_path / "none/r.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(RequestError, match="is a folder"):
        Wanted.to(tmp_path / "folder.npz")
    with pytest.raises(RequestError, match=r"/proc/r\.npz: cannot be written"):
        Wanted.to(Path("/proc/r.npz"))


# --------------------------------------------------------------------------------------------------------------------- run


def test_run_explains_every_sample_of_every_file(tmp_path: Path, undrawn: list[tuple[Any, ...]]) -> None:
    x = weights(3, 6, seed=5)
    np.save(tmp_path / "some.npy", x)
    np.save(tmp_path / "one.npy", x[0])
    made, ticks = job(), []
    files = [tmp_path / "some.npy", tmp_path / "one.npy"]
    results = filled(made, tmp_path / "out", files, tick=lambda *done: ticks.append(done)).results
    assert [r.picture for r in results] == ["some_000.png", "some_001.png", "some_002.png", "one.png"]
    assert ticks == [(i, 4) for i in (1, 2, 3, 4)]
    assert listed(tmp_path / "out") == as_listed(results)
    want = made.explainer(x).relevance["x"]
    for (path, shown, relevance, caption, form, *_), result, i in zip(undrawn, results, (0, 1, 2, 0), strict=True):
        assert path == tmp_path / "out" / result.picture
        np.testing.assert_array_equal(shown, x[i])
        np.testing.assert_allclose(relevance, want[i], rtol=1e-5, atol=1e-7)
        assert caption == made.caption(result)
        assert form is made.feeding.form
    assert replace(results[3], name="some_000", picture="some_000.png") == results[0]


def test_inputs_of_zeros_are_alike(tmp_path: Path, undrawn: list[tuple[Any, ...]]) -> None:
    """A black picture is no other input than itself, though it has no direction."""
    np.save(tmp_path / "zeros.npy", np.zeros((3, 1, 8, 8), np.float32))
    made = Presenter(Explainer(onnxdtd.compile(MODELS / "digits_cnn.onnx", low=0, high=1), CPU))
    results = filled(made, tmp_path / "out", [tmp_path / "zeros.npy"]).results
    assert [r.flags for r in results] == [[]] * 3


def test_run_draws(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", weights(1, 6))
    filled(job(), tmp_path / "out", [tmp_path / "x.npy"], target=Index(2))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["results.json", "x.png"]
    assert (tmp_path / "out/x.png").read_bytes().startswith(b"\x89PNG")


def test_bounds_of_the_compiled_model_scale_pictures(tmp_path: Path) -> None:
    compiled = onnxdtd.compile(MODELS / "digits_cnn.onnx", low=-2, high=3)
    explainer = Explainer(compiled, CPU)
    form = Presenter(explainer).feeding.form
    assert (form.low, form.high, form.channel) == (-2, 3, 0)
    assert Presenter(Explainer(onnxdtd.compile(MODELS / "digits_cnn.onnx"), CPU)).feeding.form.low is None


def test_files_of_version_0_1_are_read(tmp_path: Path) -> None:
    """They do not say where channels and samples are, nor how pictures were prepared: the shape does, and the bounds."""
    compiled = onnxdtd.compile(MODELS / "digits_cnn.onnx", low=-2, high=3)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "p.png")
    (new,) = Presenter(Explainer(compiled, CPU)).feeding.read(tmp_path / "p.png")
    kept = [
        e for e in compiled.metadata_props if e.key.partition(".")[2] not in ("channels", "samples", "preprocessing", "explain")
    ]
    assert len(kept) == len(compiled.metadata_props) - 4
    del compiled.metadata_props[:]
    compiled.metadata_props.extend(kept)
    job = Presenter(Explainer(compiled, CPU))
    (old,) = job.feeding.read(tmp_path / "p.png")
    np.testing.assert_array_equal(old.x, new.x)
    assert job.explain(old)[1].shape == (1, 8, 8)


def test_a_bundled_model_from_end_to_end(tmp_path: Path, undrawn: list[tuple[Any, ...]]) -> None:
    """two_digits.onnx conserves relevance: no remark, and Σ relevance is the score."""
    compiled = onnxdtd.compile(MODELS / "two_digits.onnx", low=0, high=1)
    path = tmp_path / "net.onnx"
    onnx.save(compiled, path)
    results = filled(Presenter(Explainer(path, CPU)), tmp_path / "out", [MODELS / "two_digits_samples.npz"]).results
    assert len(results) == 12
    with np.load(MODELS / "two_digits_samples.npz") as samples:
        assert [r.predicted for r in results] == samples["label"].tolist()
    for result in results:
        assert result.relevance_sum == pytest.approx(result.score, rel=1e-4)
        assert result.relevance_min >= 0
    assert remarks(results) == []


# --------------------------------------------------------------------------------------------------------- from files to files


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A classifier in a file, with samples beside it."""
    (tmp_path / "net.onnx").write_bytes(classifier().SerializeToString())
    np.save(tmp_path / "x.npy", weights(3, 6))
    return tmp_path / "net.onnx"


def test_a_model_is_compiled_first_and_one_that_is_compiled_already_is_not(
    net: Path, tmp_path: Path, undrawn: list[tuple[Any, ...]]
) -> None:
    request = Request(low=-1.0, high=1.0)
    onnxdtd.save(onnxdtd.compile(net, low=-1.0, high=1.0, target="input"), tmp_path / "compiled.onnx")
    found = onnxdtd.explain(str(net), [str(tmp_path / "x.npy")], request, str(tmp_path / "out"), save=str(tmp_path / "r.npz"))
    again = onnxdtd.explain(tmp_path / "compiled.onnx", [tmp_path / "x.npy"], request, tmp_path / "again")
    asked = onnxdtd.explain(tmp_path / "compiled.onnx", [tmp_path / "x.npy"], replace(request, target=2), tmp_path / "asked")
    assert found.results == again.results
    assert found.metadata["preset"] == "dtd"
    assert [result.name for result in found.results] == ["x_000", "x_001", "x_002"]
    assert listed(tmp_path / "out") == as_listed(found.results)
    assert [result.target for result in asked.results] == [2, 2, 2]
    with np.load(tmp_path / "r.npz") as saved:
        np.testing.assert_array_equal(saved["logit"], [result.logit for result in found.results])
    assert len(undrawn) == 9


def test_what_there_is_to_know_is_told(net: Path, tmp_path: Path, undrawn: list[tuple[Any, ...]]) -> None:
    told: dict[str, list[Any]] = {"say": [], "skip": [], "tick": []}
    (tmp_path / "bad.npy").write_bytes(b"")
    files = [tmp_path / "bad.npy", tmp_path / "x.npy"]
    hear = {name: (lambda *words, heard=heard: heard.append(words)) for name, heard in told.items()}
    found = onnxdtd.explain(net, files, out=tmp_path / "out", **hear)
    assert len(found.results) == 3
    assert [text for (text,) in told["say"] if "the preset is lrp-epsilon" in text]
    assert len(told["skip"]) == 1
    assert told["tick"] == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(RequestError, match=r"bad\.npy"):
        onnxdtd.explain(net, files[:1], out=tmp_path / "out")
    with pytest.raises(RequestError, match=r"none of the inputs could be explained; the first, .*bad\.npy: not a"):
        onnxdtd.explain(net, [files[0], files[0]], out=tmp_path / "none", skip=hear["skip"])
    assert not list((tmp_path / "none").iterdir())
    assert len(told["skip"]) == 1


def test_what_a_compiled_model_has_settled_is_refused(net: Path, tmp_path: Path) -> None:
    path = tmp_path / "compiled.onnx"
    onnxdtd.save(onnxdtd.compile(net, low=-1.0, high=1.0, target=1), path)
    for request, words in ((Request(target=2), "explains"), (Request(preset="gradient"), "--preset")):
        with pytest.raises(RequestError, match=words):
            onnxdtd.explain(path, [tmp_path / "x.npy"], request, tmp_path / "out")


@pytest.mark.parametrize(("ending", "row"), [("Softmax", True), ("Sigmoid", False), (None, False)])
def test_probabilities_are_told_as_such(ending: str | None, row: bool, tmp_path: Path) -> None:
    """What a Softmax gives adds up to 1; what a Sigmoid gives each class does not, and logits are none."""
    nodes = [node("MatMul", "x w", "y" if ending is None else "z")]
    nodes += [] if ending is None else [node(ending, "z", "y")]
    proto = model(nodes, {"x": ["n", 2]}, ["y"], {"w": np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)})
    made = Presenter(Explainer(onnxdtd.compile(proto, "lrp-0"), CPU))
    result = made.explain(Sample("one", np.array([2.0, 0.0]))).result
    want = 1 / (1 + np.exp(-2)) if row else None
    assert result.probability == (want if want is None else pytest.approx(want, rel=1e-6))
    assert result.as_data()["probability"] == result.probability
    assert made.caption(result).title == ("one: class 0 (88.1 %)" if row else f"one: class 0 (score {result.score:.3g})")
    assert "logit = 2" in made.caption(result).subtitle
