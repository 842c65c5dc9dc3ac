"""Models with an input for each column of a table, of numbers, whole numbers and strings: what is measured on their rows."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import pytest
from nets import node
from onnx import TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd import Request, RequestError, Settings
from onnxdtd.study.audit.audit import audit
from onnxdtd.study.columns import Columns
from onnxdtd.study.evaluate import evaluate
from onnxdtd.study.subject import Subject

ML = "ai.onnx.ml"
INPUTS = {"age": TensorProto.FLOAT, "rooms": TensorProto.INT64, "city": TensorProto.STRING, "floor": TensorProto.INT64}
IMPUTED, CITIES, FLOORS = 30.0, ["Bonn", "Kiel", "Ulm"], [1, 2]
# Of age, rooms (less 2, times 0.5), three cities, two floors.
W = np.array([[0.25, -0.5], [1, 0.75], [-2, 1], [3, -1], [0.5, 4], [1.5, -0.25], [-0.75, 2]], np.float32)
ROWS = [
    (38.0, 3, "Kiel", 1),
    (np.nan, 5, "Bonn", 2),
    (20.0, 1, "Ulm", 1),
    (44.0, 4, "Bonn", 1),
    (26.0, 1, "Rome", 2),  # which the model does not know
    (50.0, 2, "Ulm", 1),
    (11.0, 5, "Kiel", 2),
    (32.0, 3, "Bonn", 1),
]
MEAN, MEDIAN = (np.mean([row[0] for row in ROWS if row[0] == row[0]]), 3, "Bonn", 1), (32.0, 3, "Bonn", 1)
PRESETS = ["lrp-0", "gradient-x-input"]


def transformer(folder: Path) -> Path:
    """As scikit-learn's ColumnTransformer is written: missing ages are imputed, rooms scaled, words and floors encoded."""
    nodes = [
        node("Imputer", "age", "years", domain=ML, imputed_value_floats=[IMPUTED], replaced_value_float=float("nan")),
        node("Scaler", "rooms", "scaled", domain=ML, offset=[2.0], scale=[0.5]),
        node("OneHotEncoder", "city", "of_city", domain=ML, cats_strings=CITIES, zeros=1),
        node("OneHotEncoder", "floor", "of_floor", domain=ML, cats_int64s=FLOORS, zeros=1),
        node("Reshape", "of_city three", "cities"),
        node("Reshape", "of_floor two", "floors"),
        node("Concat", "years scaled cities floors", "row", axis=1),
        node("MatMul", "row w", "y"),
    ]
    info = helper.make_tensor_value_info
    fed = [info(name, kind, ["n", 1]) for name, kind in INPUTS.items()]
    constants = {"w": W, "three": np.array([-1, 3]), "two": np.array([-1, 2])}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", fed, [info("y", TensorProto.FLOAT, ["n", 2])], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "rows.onnx")
    return folder / "rows.onnx"


def table(folder: Path, rows: list[Any] = ROWS) -> Path:
    lines = [",".join("" if value != value else str(value) for value in (*row[::-1], i % 2)) for i, row in enumerate(rows)]
    (folder / "rows.csv").write_text("\n".join(["floor,city,rooms,age,label", *lines]) + "\n")
    return folder / "rows.csv"


def encoded(row: tuple[Any, ...]) -> np.ndarray:
    """What comes out of the encoders."""
    age, rooms, city, floor = row
    years = IMPUTED if np.isnan(age) else age
    return np.array([years, (rooms - 2) * 0.5, *(city == c for c in CITIES), *(floor == f for f in FLOORS)], np.float64)


def shares(row: tuple[Any, ...]) -> np.ndarray:
    """LRP-0 of a linear model, of the predicted class, column by column."""
    x = encoded(row)
    each = x * W[:, (x @ W).argmax()]
    return np.array([each[0], each[1], each[2:5].sum(), each[5:].sum()])


def curves(row: tuple[Any, ...], typical: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The score while columns become what is typical, most relevant first and least relevant first."""
    target, r = (encoded(row) @ W).argmax(), shares(row)
    found = []
    for order in (np.argsort(-r), np.argsort(r)):
        gone = [set(order[:k].tolist()) for k in range(5)]
        steps = [tuple(typical[i] if i in some else row[i] for i in range(4)) for some in gone]
        found.append(np.array([encoded(step) @ W[:, target] for step in steps]))
    return found[0], found[1]


@pytest.mark.parametrize(("fill", "typical"), [(None, MEAN), ("mean", MEAN), ("median", MEDIAN)])
def test_columns_become_what_is_typical(
    fill: str | None, typical: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers their mean or median, whole numbers too, rounded; strings and encoded numbers the most frequent value."""
    monkeypatch.chdir(tmp_path)
    settings = Settings(steps=4, fill=fill)
    result = evaluate([transformer(tmp_path)], table(tmp_path), presets=PRESETS, settings=settings)
    (model,) = result["models"]
    assert model["samples"] == len(ROWS)
    morf, lerf = (np.mean(each, axis=0) for each in zip(*(curves(row, typical) for row in ROWS), strict=True))
    preset = model["presets"][0]
    np.testing.assert_allclose(preset["curves"]["morf"], morf, rtol=1e-5)
    np.testing.assert_allclose(preset["curves"]["lerf"], lerf, rtol=1e-5)
    assert preset["metrics"]["aopc"]["mean"] == pytest.approx((morf[0] - morf).mean(), rel=1e-4)
    assert preset["metrics"]["abpc"]["mean"] == pytest.approx((lerf - morf).mean(), rel=1e-4)
    said = f"their {fill or 'mean'} over the data, or the most frequent category"
    assert (result["settings"]["regions"], result["settings"]["fill"]) == ("features", said)
    shown = result["pictures"]["samples"][1]
    texts = [stretch["text"] for stretch in shown["heatmaps"]["lrp-0"] if stretch["text"].strip()]
    assert (shown["input"], texts) == (None, ["age = missing", "rooms = 5", "city = Bonn", "floor = 2"])
    sums = [stretch["relevance"] for stretch in shown["heatmaps"]["lrp-0"] if stretch["text"].strip()]
    np.testing.assert_allclose(sums, shares(ROWS[1]), rtol=1e-5)


@pytest.mark.parametrize("batch", ["n", 3])
def test_two_inputs_of_numbers(batch: int | str, tmp_path: Path) -> None:
    """Which may become 0 as well; of a fixed batch the last samples are filled up."""
    nodes = [node("Concat", "a b", "c", axis=1), node("MatMul", "c w", "y")]
    onnx.save(nets.model(nodes, {"a": [batch, 2], "b": [batch, 1]}, ["y"], {"w": W[:3]}), tmp_path / "m.onnx")
    xs = np.array([[0.5, 2, -1], [1, -3, 0.25], [2, 1, 1], [-1, 0.5, 4]])
    lines = [",".join(map(str, x)) for x in xs]
    (tmp_path / "t.csv").write_text("\n".join(["a[0],a[1],b", *lines]) + "\n")
    settings = Settings(steps=3, fill="zero")
    result = evaluate([tmp_path / "m.onnx"], tmp_path / "t.csv", presets=["lrp-0"], settings=settings, journal=tmp_path / "j")
    parts = xs * W[:3, (xs @ W[:3]).argmax(1)].T
    left = [[row[np.argsort(-row)][k:].sum() for k in range(4)] for row in parts]
    np.testing.assert_allclose(result["models"][0]["presets"][0]["curves"]["morf"], np.mean(left, axis=0), atol=1e-6)
    assert result["settings"]["fill"] == "zero"


def rows_of(folder: Path) -> tuple[Columns, np.ndarray]:
    subject = Subject(transformer(folder), Request(preset="lrp-0"), table(folder), tabular=True)
    assert subject.columns is not None
    return subject.columns, subject.data.values  # type: ignore[union-attr]


def test_rows_are_numbers_and_back(tmp_path: Path) -> None:
    taken, xs = rows_of(tmp_path)
    assert taken.names == ("age", "rooms", "city", "floor")
    assert (taken.categories.tolist(), taken.whole.tolist()) == ([False, False, True, True], [False, True, False, True])
    back = taken.arrays(xs)
    for i, name in enumerate(INPUTS):
        assert back[name].shape == (len(ROWS), 1)
        np.testing.assert_array_equal(back[name].ravel().tolist(), [row[i] for row in ROWS])
    np.testing.assert_allclose(taken.coded(xs)[:, 2:6], [[row[2] == c for c in sorted({*CITIES, "Rome"})] for row in ROWS])


@pytest.mark.parametrize("fill", ["zero", "noise", "low"])
def test_categories_have_no_zero(fill: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"--fill {fill}: the column 'city' has categories.* use mean or median"):
        evaluate([transformer(tmp_path)], table(tmp_path), settings=Settings(fill=fill), journal=tmp_path / "j")


def test_an_audit_of_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but noise on categories; the numbers of the perturbation are those of an evaluation, missing values included."""
    monkeypatch.chdir(tmp_path)
    model, data = transformer(tmp_path), table(tmp_path)
    found = audit(model, data, presets=PRESETS)
    (entry, _) = found["presets"]
    assert entry["left_out"]["stability"] == "no noise on categories is small"
    result = evaluate([model], data, presets=PRESETS, settings=Settings(steps=20))
    for name in ("aopc", "abpc"):
        assert entry["means"][name]["mean"] == pytest.approx(
            result["models"][0]["presets"][0]["metrics"][name]["mean"], rel=1e-5
        )
    assert found["labelled"] == len(ROWS)
    assert found["settings"]["regions"] == "features"
    assert "noise" not in found["settings"]
    assert "the most frequent category" in entry["perturbation"]["fill"]


def test_a_search_on_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = onnxdtd.tune(transformer(tmp_path), table(tmp_path), presets=["lrp-0"], settings=Settings(steps=4))
    assert found["settings"]["fill"] == "their mean over the samples, or the most frequent category"
    assert "noise" not in found["settings"]
    names = found["settings"]["names"]
    own = [curves(ROWS[int(name.rpartition("_")[2])], MEAN) for name in names[1::2]]
    (row,) = [row for row in found["held_out"] if row["preset"] == "lrp-0"]
    assert row["abpc"]["mean"] == pytest.approx(np.mean([(lerf - morf).mean() for morf, lerf in own]), rel=1e-4)


def test_what_is_no_table_of_columns(tmp_path: Path) -> None:
    """A text has terms and no columns; the old refusal stands."""
    nodes = [
        node(
            "TfIdfVectorizer",
            "text",
            "t",
            mode="TF",
            min_gram_length=1,
            max_gram_length=1,
            max_skip_count=0,
            pool_strings=["a", "b"],
            ngram_counts=[0],
            ngram_indexes=[0, 1],
        ),
        node("MatMul", "t w", "y"),
    ]
    info = helper.make_tensor_value_info
    fed, given = [info("text", TensorProto.STRING, ["n", 1])], [info("y", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "g", fed, given, [numpy_helper.from_array(W[:2], "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "t.onnx")
    (tmp_path / "t.csv").write_text("text\na\nb\n")
    with pytest.raises(RequestError, match="strings are turned into t"):
        Subject(tmp_path / "t.onnx", Request(preset="lrp-0"), tmp_path / "t.csv", tabular=True)


@pytest.mark.slow
def test_a_column_transformer_of_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained and exported, with missing numbers: every command measures it, and what tells the class is found."""
    compose, impute, linear_model, pipeline, pre = (
        pytest.importorskip(f"sklearn.{name}") for name in ("compose", "impute", "linear_model", "pipeline", "preprocessing")
    )
    skl2onnx, pandas = pytest.importorskip("skl2onnx"), pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    rng, n = np.random.default_rng(3), 60
    frame = pandas.DataFrame(
        {"age": rng.normal(40, 9, n).astype(np.float32), "rooms": rng.integers(1, 6, n), "city": rng.choice(CITIES, n)}
    )
    y = (frame.city == "Ulm") ^ (frame.age > 55)
    frame.loc[::7, "age"] = np.nan
    numbers = pipeline.make_pipeline(impute.SimpleImputer(), pre.StandardScaler())
    parts = [("a", numbers, ["age"]), ("b", pre.StandardScaler(), ["rooms"]), ("c", pre.OneHotEncoder(), ["city"])]
    trained = pipeline.make_pipeline(compose.ColumnTransformer(parts), linear_model.LogisticRegression()).fit(frame, y)
    kinds = skl2onnx.common.data_types
    types = [kinds.FloatTensorType, kinds.Int64TensorType, kinds.StringTensorType]
    fed = [(name, kind([None, 1])) for name, kind in zip(frame.columns, types, strict=True)]
    made = skl2onnx.to_onnx(trained, initial_types=fed, options={"zipmap": False}, target_opset={"": 18, ML: 3})
    onnx.save(made, tmp_path / "m.onnx")
    frame.assign(label=y.astype(int)).to_csv(tmp_path / "rows.csv", index=False)
    result = evaluate([tmp_path / "m.onnx"], tmp_path / "rows.csv", presets=["lrp-0"], settings=Settings(steps=3))
    (model,) = result["models"]
    assert model["samples"] == n
    assert model["accuracy"] == pytest.approx((trained.predict(frame) == y).mean())
    assert model["presets"][0]["metrics"]["aopc"]["mean"] > model["random"]["aopc"]["mean"]
    assert audit(tmp_path / "m.onnx", tmp_path / "rows.csv", presets=["lrp-0"], quick=True)["labelled"] == 8
    assert onnxdtd.tune(tmp_path / "m.onnx", tmp_path / "rows.csv", presets=["lrp-0"])["chosen"]


def test_categories_that_the_model_does_not_know(tmp_path: Path) -> None:
    """Are flagged, and others are not; what is missing is no category."""
    rows = [*ROWS, (12.0, 3, "", 7)]
    found = onnxdtd.explain(
        transformer(tmp_path), [table(tmp_path, rows)], Request(preset="lrp-0"), tmp_path / "o", pictures=False
    )
    texts = {result.name: [flag.text for flag in result.flags if flag.code == "unknown"] for result in found.results}
    says = "the model knows no such category, and takes it for none of"
    assert {name: text for name, text in texts.items() if text} == {
        "rows_004": [f"city = Rome: {says} Bonn, Kiel, Ulm"],
        "rows_008": [f"floor = 7: {says} 1, 2"],
    }


STRANGE = "no class of the model is called like these labels in the data: no, yes; --labels FILE names the classes"


@pytest.mark.parametrize("names", [None, ["no", "yes"]])
def test_true_labels_stand_beside_what_was_predicted(
    names: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In results and saved tables. Those that no class is called are said once, and cost no sample."""
    monkeypatch.chdir(tmp_path)
    model, data = transformer(tmp_path), table(tmp_path)
    lines = data.read_text().splitlines()
    data.write_text("\n".join([lines[0], *(f"{line[:-1]}{['no', 'yes'][int(line[-1])]}" for line in lines[1:])]) + "\n")
    request = Request(preset="lrp-0", labels=names)
    found = onnxdtd.explain(model, [data], request, tmp_path / "out", save=tmp_path / "r.csv", pictures=False)
    truths = ["no", "yes"] * 4
    assert [result.label for result in found.results] == truths
    samples = json.loads((tmp_path / "out" / "results.json").read_text())["samples"]
    assert [sample["label"] for sample in samples] == truths
    with (tmp_path / "r.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == truths
    assert found.remarks.count(STRANGE) == (names is None)
    measured = evaluate([model], data, replace(request, preset=None), presets=["lrp-0"], settings=Settings(steps=2))
    assert measured["models"][0]["samples"] == len(ROWS)
    right = [int((encoded(row) @ W).argmax()) == i % 2 for i, row in enumerate(ROWS)]
    assert measured["models"][0]["accuracy"] == (None if names is None else np.mean(right))
    assert measured["notes"].count(STRANGE) == (names is None)
    if names is None:
        with pytest.raises(RequestError, match=r"none of the samples .*--labels FILE"):
            evaluate([model], data, presets=["lrp-0"], settings=Settings(target="label"))


def test_a_whole_table_misses_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the model imputes them, in an audit and in a search too; the mean is that of what is there."""
    monkeypatch.chdir(tmp_path)
    nodes = [
        node("Imputer", "x", "i", domain=ML, imputed_value_floats=[1.0, -2.0, 0.5], replaced_value_float=float("nan")),
        node("MatMul", "i w", "y"),
    ]
    info = helper.make_tensor_value_info
    fed, given = [info("x", TensorProto.FLOAT, ["n", 3])], [info("y", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "g", fed, given, [numpy_helper.from_array(W[:3], "w")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    xs = np.random.default_rng(2).integers(-8, 8, [12, 3]) / 4
    xs[::4, 1] = np.nan
    lines = [",".join("" if np.isnan(value) else str(value) for value in x) for x in xs]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c", *lines]) + "\n")
    (entry,) = audit(tmp_path / "m.onnx", tmp_path / "t.csv", presets=["lrp-0"])["presets"]
    result = evaluate([tmp_path / "m.onnx"], tmp_path / "t.csv", presets=["lrp-0"], settings=Settings(steps=20, samples=12))
    (measured,) = result["models"][0]["presets"]
    assert entry["means"]["abpc"]["mean"] == pytest.approx(measured["metrics"]["abpc"]["mean"], rel=1e-5)
    assert np.isfinite(entry["stability"]["heatmap"])
    assert np.isfinite(entry["input_dependence"]["samples"])
    for fill, typical in (("mean", np.nanmean(xs, axis=0)), ("median", np.nanmedian(xs, axis=0))):
        settings = Settings(steps=3, fill=fill)
        found = onnxdtd.tune(tmp_path / "m.onnx", tmp_path / "t.csv", presets=["lrp-0"], settings=settings)
        own = [xs[int(name.rpartition("_")[2])] for name in found["settings"]["names"][1::2]]
        areas = []
        for x in np.where(np.isnan(own), [1.0, -2.0, 0.5], own):
            w = W[:3, (x @ W[:3]).argmax()]
            gained, order = (typical - x) * w, np.argsort(-x * w, kind="stable")
            areas.append(np.mean([gained[order[::-1][:k]].sum() - gained[order[:k]].sum() for k in range(4)]))
        (row,) = [row for row in found["held_out"] if row["preset"] == "lrp-0"]
        assert row["abpc"]["mean"] == pytest.approx(np.mean(areas), rel=1e-5)


@pytest.mark.parametrize("named", [True, False])
def test_a_page_names_the_columns_of_one_input(named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does those of several; bars without names are for columns that have none."""
    monkeypatch.chdir(tmp_path)  # where the journal is, which the other one would take for its own
    onnx.save(nets.model([node("MatMul", "x w", "y")], {"x": ["n", 3]}, ["y"], {"w": W[:3]}), tmp_path / "m.onnx")
    (tmp_path / "t.csv").write_text("a,b,c\n" * named + "0.5,2,-1\n1,-3,0.25\n2,1,1\n-1,0.5,4\n")
    settings = Settings(steps=3)
    (sample, *_) = evaluate([tmp_path / "m.onnx"], tmp_path / "t.csv", presets=["lrp-0"], settings=settings)["pictures"][
        "samples"
    ]
    audited = audit(tmp_path / "m.onnx", tmp_path / "t.csv", presets=["lrp-0"], quick=True)["pictures"]["samples"][0]
    for shown in (sample, audited):
        heatmap = shown["heatmaps"]["lrp-0"]
        if not named:
            assert isinstance(heatmap, str)
            continue
        assert [stretch["text"] for stretch in heatmap if stretch["text"].strip()] == ["a = 0.5", "b = 2", "c = -1"]
        assert shown["input"] is None
