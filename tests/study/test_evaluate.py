"""What an evaluation measures, against a model whose curves can be written down, and its refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import pytest
from nets import eighths, model, node

from onnxdtd.data.tables import Roles
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.request import Request
from onnxdtd.study.evaluate import Evaluation, Sessions, Settings
from onnxdtd.study.jobs import run
from onnxdtd.study.subject import Subject, asked, spoken_by

RNG = np.random.default_rng(6)
MODELS = Path(__file__).resolve().parents[2] / "models"
WEIGHTS = eighths(RNG, 6, 3) + 1 / 16  # none is zero
X = eighths(RNG, 9, 6) + 1 / 16
REQUEST = Request(low=0.0, high=1.0)


def linear(folder: Path, batch: int | str = "n", name: str = "linear") -> Path:
    """f = x w: LRP-ε gives x_i w_i, and every curve is a sum of those that are left."""
    path = folder / f"{name}.onnx"
    onnx.save(model([node("MatMul", "x w", "y")], {"x": [batch, 6]}, ["y"], {"w": WEIGHTS}), path)
    return path


def data(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "some.npz", **{"x": X.astype(np.float32), **arrays})
    return folder / "some.npz"


def evaluated(job: Evaluation, folder: Path, workers: int = 1) -> dict[str, Any]:
    return job.assemble(run(job, workers, "processes", folder / "journal"))


def of_linear(folder: Path, settings: Settings, batch: int | str = "n", **arrays: np.ndarray) -> dict[str, Any]:
    job = Evaluation([linear(folder, batch)], ["lrp-0"], data(folder, **arrays), Request(), settings)
    return evaluated(job, folder)


def parts(x: np.ndarray, target: np.ndarray | None = None) -> np.ndarray:
    """x_i w_i of the explained class, [n, 6]."""
    chosen = (x @ WEIGHTS).argmax(1) if target is None else target
    return x * WEIGHTS[:, chosen].T


def test_curves_of_a_linear_model(tmp_path: Path) -> None:
    result = of_linear(tmp_path, Settings(steps=6))
    ordered = -np.sort(-parts(X), axis=1)
    left = np.concatenate([np.cumsum(ordered[:, ::-1], axis=1)[:, ::-1], np.zeros((9, 1))], axis=1)
    lasting = np.concatenate([np.cumsum(ordered, axis=1)[:, ::-1], np.zeros((9, 1))], axis=1)
    (preset,) = result["models"][0]["presets"]
    np.testing.assert_allclose(preset["curves"]["morf"], left.mean(0), atol=1e-6)
    np.testing.assert_allclose(preset["curves"]["lerf"], lasting.mean(0), atol=1e-6)
    aopc = (left[:, :1] - left).mean(1)
    assert preset["metrics"]["aopc"]["mean"] == pytest.approx(aopc.mean(), abs=1e-6)
    assert preset["metrics"]["aopc"]["error"] == pytest.approx(aopc.std(ddof=1) / 3, abs=1e-6)
    assert preset["metrics"]["abpc"]["mean"] == pytest.approx((lasting - left).mean(), abs=1e-6)
    assert preset["metrics"]["missing"]["mean"] < 1e-6
    positive = np.maximum(parts(X), 0).sum(1) / np.abs(parts(X)).sum(1)
    assert preset["metrics"]["positivity"]["mean"] == pytest.approx(positive.mean(), abs=1e-6)


def sheet(folder: Path) -> Path:
    """A table of the samples, with a column of names, and the classes, next to last."""
    classes = (X @ WEIGHTS).argmax(1)
    rows = [f"s{i},{','.join(map(str, row[:5]))},{classes[i]},{row[5]}" for i, row in enumerate(X)]
    (folder / "some.csv").write_text("\n".join(["who,a,b,c,d,e,kind,f", *rows]))
    return folder / "some.csv"


@pytest.mark.parametrize("fill", [None, "mean", "median", "zero"])
def test_a_table_is_measured_as_an_array_is(fill: str | None, tmp_path: Path) -> None:
    """Without a word on it, features become their mean. In the end all are what is typical of the data."""
    settings = Settings(steps=6, fill=fill, label="kind", sample_id="who")
    result = evaluated(Evaluation([linear(tmp_path)], ["lrp-0"], sheet(tmp_path), Request(), settings), tmp_path)
    typical = {"median": np.median(X, axis=0), "zero": np.zeros(6)}.get(str(fill), X.mean(0))
    chosen = (X @ WEIGHTS).argmax(1)
    curve = result["models"][0]["presets"][0]["curves"]["morf"]
    assert curve[-1] == pytest.approx((typical @ WEIGHTS)[chosen].mean(), abs=1e-6)
    assert result["models"][0]["accuracy"] == 1
    same = of_linear(tmp_path, Settings(steps=6, fill=fill or "mean"))["models"][0]["presets"][0]["curves"]
    assert curve == same["morf"]
    assert result["settings"]["fill"] == ("zero" if fill == "zero" else f"their {fill or 'mean'} over the data")
    assert (result["settings"]["label"], result["settings"]["sample_id"]) == ("kind", "who")
    assert [sample["name"] for sample in result["pictures"]["samples"]][:2] == ["s0", "s1"]


def test_of_a_table_what_is_missing_is_measured_where_the_model_takes_it(tmp_path: Path) -> None:
    """An Imputer in front: a missing value is none of the mean, and becomes it as others do."""
    imputer = onnx.helper.make_node(
        "Imputer", ["x"], ["i"], domain="ai.onnx.ml", imputed_value_floats=[0.5] * 6, replaced_value_float=float("nan")
    )
    info = onnx.helper.make_tensor_value_info
    floats = [info(name, onnx.TensorProto.FLOAT, ["n", size]) for name, size in (("x", 6), ("y", 3))]
    weights = [onnx.numpy_helper.from_array(WEIGHTS, "w")]
    graph = onnx.helper.make_graph([imputer, node("MatMul", "i w", "y")], "g", floats[:1], floats[1:], weights)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(proto, tmp_path / "net.onnx")
    x = X.copy()
    x[0, 2] = np.nan
    rows = [",".join("" if np.isnan(v) else str(v) for v in row) for row in x]
    (tmp_path / "some.csv").write_text("\n".join(["a,b,c,d,e,f", *rows]))
    job = Evaluation([tmp_path / "net.onnx"], ["lrp-0"], tmp_path / "some.csv", Request(), Settings(steps=6))
    result = evaluated(job, tmp_path)
    assert result["models"][0]["samples"] == 9
    seen = np.where(np.isnan(x), 0.5, x)
    last = (np.nanmean(x, axis=0) @ WEIGHTS)[(seen @ WEIGHTS).argmax(1)].mean()
    assert result["models"][0]["presets"][0]["curves"]["morf"][-1] == pytest.approx(last, abs=1e-6)
    with pytest.raises(RequestError, match="line 2, column 'c': has no value, and the model takes no missing ones"):
        evaluated(Evaluation([linear(tmp_path)], ["lrp-0"], tmp_path / "some.csv", Request(), Settings()), tmp_path)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_makes_no_difference(batch: int, tmp_path: Path) -> None:
    settings = Settings(steps=3)
    fixed, free = (of_linear(tmp_path, settings, size)["models"][0]["presets"][0] for size in (batch, "n"))
    np.testing.assert_allclose(fixed["curves"]["morf"], free["curves"]["morf"], atol=1e-6)
    np.testing.assert_allclose(fixed["curves"]["random"], free["curves"]["random"], atol=1e-6)


def test_true_classes_and_accuracy(tmp_path: Path) -> None:
    label = (X @ WEIGHTS).argmax(1)
    label[:3] = (label[:3] + 1) % 3
    result = of_linear(tmp_path, Settings(steps=6, target="label"), label=label)
    assert result["models"][0]["accuracy"] == pytest.approx(6 / 9)
    curve = result["models"][0]["presets"][0]["curves"]["morf"]
    assert curve[0] == pytest.approx(parts(X, label).sum(1).mean(), abs=1e-6)


def test_probabilities(tmp_path: Path) -> None:
    powers = np.exp(X @ WEIGHTS)
    curve = of_linear(tmp_path, Settings(steps=2, score="probability"))["models"][0]["presets"][0]["curves"]["lerf"]
    assert curve[0] == pytest.approx((powers / powers.sum(1, keepdims=True)).max(1).mean(), abs=1e-6)
    assert curve[-1] == pytest.approx(1 / 3, abs=1e-6), "of nothing but zeros"


def test_bad_samples_are_named_and_cost_nothing_else(tmp_path: Path) -> None:
    x, label = X.astype(np.float32), (X @ WEIGHTS).argmax(1)
    x[4, 0], label[7] = np.nan, 3
    result = of_linear(tmp_path, Settings(steps=2), x=x, label=label)
    reasons = {entry["name"]: entry["reason"] for entry in result["skipped"]}
    assert set(reasons) == {"some_4", "some_7"}
    assert "NaN" in reasons["some_4"]
    assert reasons["some_7"] == "label 3 is no class of this model, which has classes 0 to 2"
    assert result["models"][0]["samples"] == 7
    good = [i for i in range(9) if i not in (4, 7)]
    curve = result["models"][0]["presets"][0]["curves"]["morf"]
    assert curve[0] == pytest.approx(parts(X[good]).sum(1).mean(), abs=1e-6)


def test_what_one_of_several_models_cannot_take_is_said_of_that_model(tmp_path: Path) -> None:
    """A class that one of them does not have."""
    few = tmp_path / "few.onnx"
    onnx.save(model([node("MatMul", "x w", "y")], {"x": ["n", 6]}, ["y"], {"w": WEIGHTS[:, :2]}), few)
    label = np.zeros(9, np.int64)
    label[5] = 2
    models = [linear(tmp_path), few]
    result = evaluated(Evaluation(models, ["lrp-0"], data(tmp_path, label=label), Request(), Settings(steps=2)), tmp_path)
    assert [found["samples"] for found in result["models"]] == [9, 8]
    reason = "few.onnx: label 2 is no class of this model, which has classes 0 to 1"
    assert result["skipped"] == [{"name": "some_5", "reason": reason}]


def test_labels_of_data_are_those_of_the_model(tmp_path: Path) -> None:
    """Strings, or integers that are no indices, in the order that the model has them."""
    truth, box = (X @ WEIGHTS).argmax(1), np.tile([0, 0, 1, 1], (9, 1))
    truth[0] = (truth[0] + 1) % 3
    for names in (["eel", "cat", "dog"], [2, 3, 1]):
        path = linear(tmp_path)
        made = onnx.load(path)
        made.metadata_props.add(key="classes", value=str(names))
        onnx.save(made, path)
        found = data(tmp_path, label=np.asarray(names)[truth], box=box)
        job = Evaluation([path], ["lrp-0"], found, Request(), Settings(steps=2, target="label"))
        result = evaluated(job, tmp_path)
        assert result["models"][0]["accuracy"] == pytest.approx(8 / 9)
        assert [row["class"] for row in result["pictures"]["samples"]] == [str(names[c]) for c in truth[:8]]
    job = Evaluation([path], ["lrp-0"], data(tmp_path, label=np.arange(9) % 4), Request(), Settings(steps=2))
    skipped = {entry["name"]: entry["reason"] for entry in evaluated(job, tmp_path)["skipped"]}
    assert skipped["some_4"] == "label 0 is none of the model's, 2, 3, 1"


def test_nothing_left_to_measure(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"none of the samples could be measured \(some_0: label 9"):
        of_linear(tmp_path, Settings(steps=2), label=np.full(9, 9))


def digits(folder: Path, **settings: Any) -> Evaluation:
    x = np.load(MODELS / "digits_samples.npz")
    box = np.tile([1, 0, 7, 8], (20, 1))
    np.savez(folder / "digits.npz", image=x["image"], label=x["label"], box=box)
    chosen = Settings(steps=5, **settings)
    models = [MODELS / "digits_cnn.onnx", MODELS / "digits_resnet.onnx"]
    return Evaluation(models, ["dtd", "sensitivity"], folder / "digits.npz", REQUEST, chosen)


def test_two_models_with_boxes(tmp_path: Path) -> None:
    result = evaluated(digits(tmp_path), tmp_path)
    assert [m["model"] for m in result["models"]] == ["digits_cnn.onnx", "digits_resnet.onnx"]
    for found in result["models"]:
        dtd, sensitivity = found["presets"]
        assert found["samples"] == 20
        assert dtd["metrics"]["positivity"]["mean"] == 1
        assert "missing" in dtd["metrics"]
        assert "missing" not in sensitivity["metrics"], "a derivative conserves nothing"
        assert dtd["curves"]["random"] == sensitivity["curves"]["random"]
        assert 0.5 < dtd["metrics"]["mass_accuracy"]["mean"] < 1
        assert [c["n"] for c in dtd["classes"]] == [2] * 10
        assert dtd["metrics"]["aopc"]["mean"] > found["random"]["aopc"]["mean"]
    assert len(result["pictures"]["samples"]) == 8
    assert set(result["pictures"]["samples"][0]["heatmaps"]) == {
        f"digits_{net}: {preset}" for net in ("cnn", "resnet") for preset in ("dtd", "sensitivity")
    }
    settings = result["settings"]
    assert (settings["patch"], settings["samples"], settings["low"], settings["high"]) == (1, 20, 0.0, 1.0)
    json.dumps(result, allow_nan=False)


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    job = digits(tmp_path, fill="noise", seed=3, samples=6)
    assert evaluated(job, tmp_path, 1) == evaluated(job, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_ray_cluster_gives_the_same(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    job = replace(digits(tmp_path, fill="noise", seed=3, samples=6), models=[MODELS / "digits_cnn.onnx"])
    try:
        assert job.assemble(run(job, 2, "ray", tmp_path / "journal")) == evaluated(job, tmp_path)
    finally:
        ray.shutdown()


def test_the_seed_counts(tmp_path: Path) -> None:
    one = replace(digits(tmp_path, samples=4), models=[MODELS / "digits_cnn.onnx"])
    other = replace(one, settings=replace(one.settings, seed=1))
    first, again, second = (evaluated(job, tmp_path)["models"][0] for job in (one, one, other))
    assert first == again
    assert first["random"] != second["random"]
    assert first["presets"][0]["metrics"] == second["presets"][0]["metrics"]


def test_a_journal_is_that_of_these_settings_and_files(tmp_path: Path) -> None:
    job = digits(tmp_path)
    identities = [job.identity(), replace(job, presets=["dtd"]).identity(), replace(job, models=job.models[:1]).identity()]
    np.savez(tmp_path / "digits.npz", image=np.zeros((3, 1, 8, 8), np.float32))
    identities.append(job.identity())
    assert len({json.dumps(identity) for identity in identities}) == 4


def test_a_journal_is_that_of_these_bounds() -> None:
    """Every one of them, of thousands."""
    low = np.zeros(5000)
    before = asked(Request(low=low, high=1.0), ["dtd"])
    assert asked(Request(low=low.copy(), high=1.0), ["dtd"]) == before
    low[2500] = -1
    assert asked(Request(low=low, high=1.0), ["dtd"]) != before
    assert asked(Request(low=0, high=1.0), ["dtd"]) != asked(Request(low=0, high=2.0), ["dtd"])


def test_a_journal_is_that_of_these_weights(tmp_path: Path) -> None:
    """Also where they lie beside the model, whose file stays the same."""
    path = tmp_path / "net.onnx"
    onnx.save(onnx.load(linear(tmp_path)), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    job = Evaluation([path], ["lrp-0"], data(tmp_path), Request(), Settings(steps=2))
    before = job.identity()
    weights = bytearray((tmp_path / "net.bin").read_bytes())
    weights[3] ^= 1
    (tmp_path / "net.bin").write_bytes(weights)
    assert job.identity() != before
    (tmp_path / "net.bin").unlink()
    with pytest.raises(ModelError, match=r"net\.bin: external weights that cannot be read"):
        job.identity()


@pytest.mark.parametrize("settings", [{"steps": 0}, {"patch": 0}, {"samples": 0}, {"share": 0.0}, {"share": 1.1}])
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"--{next(iter(settings))}"):
        Settings(**settings)


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    models = [linear(tmp_path), linear(tmp_path / "other")]
    result = evaluated(Evaluation(models, ["lrp-0"], data(tmp_path), Request(), Settings(steps=2)), tmp_path)
    assert [found["model"] for found in result["models"]] == ["1: linear.onnx", "2: linear.onnx"]
    assert set(result["pictures"]["samples"][0]["heatmaps"]) == {"1: linear: lrp-0", "2: linear: lrp-0"}


def test_numbers_that_overflow_cost_one_sample(tmp_path: Path) -> None:
    x = X.astype(np.float64)
    x[2] *= 1e300
    x[5] = 3e38
    result = of_linear(tmp_path, Settings(steps=2), x=x)
    assert {entry["name"] for entry in result["skipped"]} == {"some_2", "some_5"}
    assert all("NaN or infinite" in entry["reason"] for entry in result["skipped"])
    assert result["models"][0]["samples"] == 7
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    ("settings", "words"), [({"fill": "high"}, "^--fill high needs the bounds"), ({"fill": "blur"}, "^--fill blur is for")]
)
def test_settings_that_do_not_fit_are_refused_once(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words):
        of_linear(tmp_path, Settings(steps=2, **settings))


def test_a_model_that_does_not_fit_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(model([node("MatMul", "x w", "y")], {"x": ["n", 5]}, ["y"], {"w": WEIGHTS[:5]}), other)
    monkeypatch.setattr(Sessions, "measured", lambda *_: pytest.fail("measured"))
    with pytest.raises(RequestError, match="the model takes samples of"):
        evaluated(Evaluation([linear(tmp_path), other], ["lrp-0"], data(tmp_path), Request(), Settings(steps=2)), tmp_path)


def test_a_journal_is_that_of_these_definitions(tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    job = Evaluation([linear(tmp_path)], [f"{preset}:mine"], data(tmp_path), Request(), Settings(steps=2))
    identities = []
    for rule in ("z", "z+"):
        preset.write_text(f'[preset.mine]\ntitle = "mine"\nsource = "here"\nlayers = [{{ rule = "{rule}" }}]\n')
        identities.append(job.identity())
    assert identities[0] != identities[1]


def test_a_heatmap_of_nothing_is_a_random_order(tmp_path: Path) -> None:
    """Where z⁺ has no positive weight all relevance is lost, and the order of the regions is no merit of the preset."""
    path = tmp_path / "negative.onnx"
    onnx.save(model([node("MatMul", "x w", "y")], {"x": ["n", 6]}, ["y"], {"w": -np.abs(WEIGHTS)}), path)
    x = np.abs(X).astype(np.float32)
    job = Evaluation([path], ["excitation-backprop", "lrp-0"], data(tmp_path, x=x), Request(), Settings(steps=6))
    (found,) = evaluated(job, tmp_path)["models"]
    nothing, whole = found["presets"]
    assert (nothing["empty"], whole["empty"]) == (9, 0)
    assert nothing["metrics"]["aopc"] == found["random"]["aopc"]
    assert whole["metrics"]["aopc"]["mean"] > found["random"]["aopc"]["mean"]


def test_one_score_has_no_classes(tmp_path: Path) -> None:
    """A model with one score is never right or wrong, and its labels cost no sample."""
    path, label = tmp_path / "one.onnx", np.arange(9)
    onnx.save(model([node("MatMul", "x w", "y")], {"x": ["n", 6]}, ["y"], {"w": WEIGHTS[:, :1]}), path)
    job = Evaluation([path], ["lrp-0"], data(tmp_path, label=label), Request(), Settings(steps=2))
    result = evaluated(job, tmp_path)
    assert (result["models"][0]["accuracy"], result["models"][0]["samples"], result["skipped"]) == (None, 9, [])
    with pytest.raises(RequestError, match="one score and no classes to choose from; use --explain predicted"):
        evaluated(replace(job, settings=Settings(steps=2, target="label")), tmp_path)


def test_the_sign_of_one_logit_is_a_class(tmp_path: Path) -> None:
    """And its twin with two logits has the same numbers."""
    onnx.save(
        model([node("MatMul", "x w", "z"), node("Sigmoid", "z", "y")], {"x": ["n", 6]}, ["y"], {"w": WEIGHTS[:, :1]}),
        tmp_path / "one.onnx",
    )
    two = np.concatenate([-WEIGHTS[:, :1], WEIGHTS[:, :1]], axis=1)
    onnx.save(model([node("MatMul", "x w", "y")], {"x": ["n", 6]}, ["y"], {"w": two}), tmp_path / "two.onnx")
    label = (X @ WEIGHTS[:, 0] > 0).astype(int)
    label[0] = 1 - label[0]
    models = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    job = Evaluation(models, ["lrp-0", "sensitivity"], data(tmp_path, label=label), Request(), Settings(steps=3))
    first, second = evaluated(job, tmp_path)["models"]
    assert first["accuracy"] == second["accuracy"] == pytest.approx(8 / 9)
    for one, twin in zip(first["presets"], second["presets"], strict=True):
        for metric in ("aopc", "abpc", "positivity", "gini"):
            assert one["metrics"][metric]["mean"] == pytest.approx(twin["metrics"][metric]["mean"], abs=1e-6)


def test_one_sample_without_a_batch_axis(tmp_path: Path) -> None:
    path = tmp_path / "alone.onnx"
    onnx.save(model([node("MatMul", "x w", "y")], {"x": [6]}, ["y"], {"w": WEIGHTS}), path)
    alone = evaluated(Evaluation([path], ["lrp-0"], data(tmp_path), Request(), Settings(steps=3)), tmp_path)["models"][0]
    batch = of_linear(tmp_path, Settings(steps=3))["models"][0]
    np.testing.assert_allclose(alone["presets"][0]["curves"]["morf"], batch["presets"][0]["curves"]["morf"], atol=1e-6)
    assert alone["samples"] == 9


def test_features_far_from_zero(tmp_path: Path) -> None:
    """0 says nothing of a table that never has it; the mean of each feature does."""
    x = np.abs(X).astype(np.float32)
    x[:, :2] *= -1
    x[0, 3] = 0
    result = of_linear(tmp_path, Settings(steps=6), x=x)
    (remark,) = result["models"][0]["remarks"]
    assert "0, which regions become, lies outside of all values that the data has in 5 of 6 features" in remark
    assert of_linear(tmp_path, Settings(steps=6), x=X.astype(np.float32))["models"][0]["remarks"] == []
    mean = of_linear(tmp_path, Settings(steps=6, fill="mean"), x=x)["models"][0]
    assert mean["remarks"] == []
    chosen = (x @ WEIGHTS).argmax(1)
    last = (x.mean(0) @ WEIGHTS)[chosen].mean()
    assert mean["presets"][0]["curves"]["morf"][-1] == pytest.approx(last, abs=1e-5)


def test_copies_of_samples_are_counted(tmp_path: Path) -> None:
    result = of_linear(tmp_path, Settings(steps=2), x=np.concatenate([X, X[:2], X[:1]]).astype(np.float32))
    assert result["models"][0]["copies"] == 3


# ------------------------------------------------------------------------------------------------------------------- texts

TABLE = eighths(np.random.default_rng(3), 15, 2) + np.arange(15)[:, None] * [1 / 16, -1 / 32]
LINES = 'text,label\nfree mobiles call now !,1\n"na\u00efve, a b",0\n'
IDS = [
    [2, 4, 5, 6, 7, 8, 9, 3],
    [2, 10, 11, 12, 13, 14, 3],
]  # [CLS] free mobile ##s call now ! [SEP]; [CLS] na ##ive , a b [SEP]
REGIONS = {False: [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5]], True: [[1, (2, 3), 4, 5, 6], [(1, 2), 3, 4, 5]]}


def bag(folder: Path) -> Path:
    """The sum of what the ids look up where the mask says so: LRP-0 gives each token what it adds to the score."""
    nodes = [
        node("Gather", "E ids", "e", axis=0),
        node("Cast", "attention_mask", "m", to=1),
        node("Unsqueeze", "m last", "c"),
        node("Mul", "e c", "w"),
        node("ReduceSum", "w along", "y", keepdims=0),
    ]
    whole = {"ids": ["n", "s"], "attention_mask": ["n", "s"]}
    weights = {"E": TABLE.astype(np.float32), "last": np.array([2]), "along": np.array([1])}
    graph = onnx.helper.make_graph(
        nodes,
        "bag",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape) for name, shape in whole.items()],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), folder / "bag.onnx"
    )
    return folder / "bag.onnx"


def spoken(folder: Path, **options: Any) -> dict[str, Any]:
    made = pytest.importorskip("tokenizers_made")
    (folder / "lines.csv").write_text(LINES, "utf-8")
    settings = Settings(tokenizer=str(made.saved(made.wordpiece(), folder)), **options)
    return evaluated(Evaluation([bag(folder)], ["lrp-0"], folder / "lines.csv", Request(), settings), folder)


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize(("fill", "number", "said"), [("zero", 0, "[PAD] (0)"), ("unk", 1, "[UNK] (1)"), ("13", 13, "a (13)")])
def test_tokens_of_a_text_are_replaced(fill: str, number: int, said: str, words: bool, tmp_path: Path) -> None:
    """One region after the other becomes a token that says nothing, the most relevant first: the score falls by the difference
    of what both add. What the tokenizer adds around a text stays.
    """
    result = spoken(tmp_path, fill=fill, words=words, steps=1)
    assert (result["settings"]["fill"], result["settings"]["regions"]) == (said, "words" if words else "tokens")
    assert result["settings"].keys().isdisjoint({"patch", "tokenizer", "words"})
    drops = []
    for ids, regions in zip(IDS, REGIONS[words], strict=True):
        of = TABLE[:, TABLE[ids].sum(0).argmax()]
        own = [place for region in regions for place in np.atleast_1d(region)]
        drops.append(sum(of[ids[place]] - of[number] for place in own) / 2)  # f(x₀) − f(x_k), over both k
    (preset,) = result["models"][0]["presets"]
    assert preset["metrics"]["aopc"]["mean"] == pytest.approx(np.mean(drops), rel=1e-5)
    assert result["models"][0]["random"]["aopc"]["mean"] == pytest.approx(np.mean(drops), rel=1e-5)


@pytest.mark.parametrize("words", [False, True])
def test_the_most_relevant_tokens_go_first(words: bool, tmp_path: Path) -> None:
    (preset,) = spoken(tmp_path, steps=20, words=words)["models"][0]["presets"]
    curves = []
    for ids, regions in zip(IDS, REGIONS[words], strict=True):
        of = TABLE[:, TABLE[ids].sum(0).argmax()]
        sums = [(of[np.array(ids)[np.atleast_1d(region)]].sum(), np.size(region)) for region in regions]
        order = sorted(sums, key=lambda region: -region[0])
        left = of[ids].sum() - np.cumsum([0, *(value - size * of[0] for value, size in order)])
        curves.append(left[np.rint(np.arange(21) / 20 * len(regions)).astype(int)])
    np.testing.assert_allclose(preset["curves"]["morf"], np.mean(curves, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fill": "mask"}, "has no mask token to put in place of others; give the number of one, --fill ID"),
        ({"fill": "15"}, "--fill 15: the model looks up one of 15, from 0 on"),
        ({"fill": "mean"}, "--fill mean: ids have none"),
        ({"fill": "grey"}, "--fill grey: give zero, mean, median, blur, noise, low, high; of ids mask, pad, unk or a number"),
        ({"patch": 2}, "--patch is for pictures and signals; the regions of a text are its tokens, or --words"),
    ],
)
def test_what_texts_cannot_become(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        spoken(tmp_path, **options)
    assert words in str(caught.value)


def test_texts_need_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "lines.csv").write_text(LINES, "utf-8")
    job = Evaluation([bag(tmp_path)], ["lrp-0"], tmp_path / "lines.csv", Request(), Settings())
    with pytest.raises(RequestError, match="--tokenizer"):
        evaluated(job, tmp_path)
    with pytest.raises(RequestError, match="--words is for texts, with --tokenizer"):
        Settings(words=True)


@pytest.mark.parametrize("fill", ["mask", "3"])
def test_numbers_are_no_ids(fill: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"--fill {fill} is for ids, but the model takes 'x' as numbers"):
        of_linear(tmp_path, Settings(fill=fill))


def test_what_strings_are_turned_into_is_measured_alone(tmp_path: Path) -> None:
    """The way out that the refusal names works."""
    info, ml = onnx.helper.make_tensor_value_info, "ai.onnx.ml"
    nodes = [
        node("OneHotEncoder", "s", "w", domain=ml, cats_strings=["a", "b", "c", "d", "e", "f"]),
        node("MatMul", "w M", "y"),
    ]
    weights = [onnx.numpy_helper.from_array(WEIGHTS.astype(np.float32), "M")]
    inputs, outputs = [info("s", onnx.TensorProto.STRING, ["n"])], [info("y", onnx.TensorProto.FLOAT, ["n", 3])]
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(ml, 3)]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "words.onnx")
    job = Evaluation([tmp_path / "words.onnx"], ["lrp-0"], data(tmp_path), Request(), Settings(samples=2))
    with pytest.raises(RequestError, match=r"strings are turned into w: .*extract_model, declare the shape .* \[n, 6\]"):
        evaluated(job, tmp_path)
    onnx.utils.extract_model(str(tmp_path / "words.onnx"), str(tmp_path / "tail.onnx"), ["w"], ["y"], check_model=False)
    tail = onnx.load(tmp_path / "tail.onnx")
    tail.graph.input[0].CopyFrom(info("w", onnx.TensorProto.FLOAT, ["n", 6]))
    onnx.save(tail, tmp_path / "tail.onnx")
    result = evaluated(replace(job, models=[tmp_path / "tail.onnx"]), tmp_path)
    assert result["models"][0]["samples"] == 2


def test_a_table_with_a_column_that_looks_something_up_is_no_text(tmp_path: Path) -> None:
    """Models of one input are measured, which is what is said."""
    nodes = [
        node("Cast", "kind", "i", to=onnx.TensorProto.INT64),
        node("Gather", "E i", "e"),
        node("Squeeze", "e one", "f"),
        node("Concat", "age f", "all", axis=1),
        node("MatMul", "all W", "y"),
    ]
    weights = {"E": eighths(RNG, 5, 2), "W": eighths(RNG, 3, 2), "one": np.array([1])}
    proto = model(nodes, {"age": ["n", 1], "kind": ["n", 1]}, ["y"], weights)
    proto.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(proto, tmp_path / "net.onnx")
    (tmp_path / "rows.csv").write_text("age,kind,label\n1,2,0\n")
    with pytest.raises(
        RequestError, match="measured are models of which one input, of declared shape, is explained; here: age"
    ):
        Subject(tmp_path / "net.onnx", Request(), tmp_path / "rows.csv", spoken=spoken_by(None, False), roles=Roles("label"))
