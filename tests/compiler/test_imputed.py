"""Missing values that a model replaces by itself, and inputs of strings beside those that are explained."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd import Explainer
from onnxdtd.compiler.compile import prepare
from onnxdtd.errors import RequestError
from onnxdtd.method.toml import Library
from onnxdtd.request import Request

CPU = ["CPUExecutionProvider"]
W = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]], np.float32)
NAN = float("nan")


def proto(nodes: list[Any], inputs: dict[str, Any], weights: dict[str, np.ndarray] | None = None) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(value, name) for name, value in {"w": W, **(weights or {})}.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def imputer(source: str, result: str, values: list[float], replaced: float | None = NAN) -> Any:
    options = {} if replaced is None else {"replaced_value_float": replaced}
    return helper.make_node("Imputer", [source], [result], domain="ai.onnx.ml", imputed_value_floats=values, **options)


def table(values: list[float], **options: Any) -> ModelProto:
    nodes = [imputer("x", "i", values, **options), helper.make_node("MatMul", ["i", "w"], ["y"], "dense")]
    return proto(nodes, {"x": (1, ["n", 3])})


def columns(values: list[float]) -> ModelProto:
    """As skl2onnx writes a pipeline of one input a column."""
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["c"], axis=1),
        imputer("c", "i", values),
        helper.make_node("MatMul", ["i", "w"], ["y"], "dense"),
    ]
    return proto(nodes, {"a": (1, ["n", 1]), "b": (1, ["n", 2])})


ROWS = np.array([[NAN, 0.5, 1], [0.25, NAN, NAN], [NAN, NAN, NAN], [1, 2, 3]], np.float32)


@pytest.mark.parametrize("values", [[1.0, 2.0, -3.0], [2.0]], ids=str)
@pytest.mark.parametrize("preset", [name for name in Library().presets if name not in ("grad-cam", "dtd-minmax")])
def test_a_missing_value_is_as_relevant_as_what_it_is_taken_for(preset: str, values: list[float]) -> None:
    filled = np.where(np.isnan(ROWS), np.asarray(values, np.float32), ROWS)
    run = Explainer(onnxdtd.compile(table(values), preset, low=-5, high=5), CPU)
    assert run.metadata["imputed"] == ["x"]
    found, want = run(ROWS), run(filled)
    assert np.isfinite(found.relevance["x"]).all()
    np.testing.assert_array_equal(found.relevance["x"], want.relevance["x"])
    np.testing.assert_array_equal(found.outputs["y"], filled @ W)
    run = Explainer(onnxdtd.compile(columns(values), preset, low=-5, high=5), CPU)
    assert run.metadata["imputed"] == ["a", "b"]
    split = run({"a": ROWS[:, :1], "b": ROWS[:, 1:]}).relevance
    np.testing.assert_allclose(np.hstack([split["a"], split["b"]]), want.relevance["x"], rtol=1e-6)


def seen_elsewhere() -> ModelProto:
    made = table([1.0])
    made.graph.node.insert(1, helper.make_node("Add", ["x", "i"], ["s"]))
    made.graph.node[2].input[0] = "s"
    return made


@pytest.mark.parametrize(
    "made",
    [
        table([1.0], replaced=0.0),
        table([1.0], replaced=None),
        seen_elsewhere(),
        proto([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (1, ["n", 3])}),
    ],
    ids=["zeros are replaced", "zeros by default", "the sum sees it", "no imputer"],
)
def test_elsewhere_a_missing_value_is_refused(made: ModelProto) -> None:
    run = Explainer(onnxdtd.compile(made, "lrp-epsilon"), CPU)
    assert run.metadata["imputed"] == []
    with pytest.raises(RequestError, match="NaN or infinite"):
        run(ROWS)


def test_infinite_values_are_no_missing_ones() -> None:
    run = Explainer(onnxdtd.compile(table([1.0]), "lrp-epsilon"), CPU)
    with pytest.raises(RequestError, match="values that are infinite"):
        run(np.array([[np.inf, 0, 0]]))


def test_models_of_scikit_learn_that_impute() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'onnxdtd[peers]'")
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed: pip install 'onnxdtd[peers]'")
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3)).astype(np.float32)
    y = np.where(x[:, 0] > 0, "right", "left")
    x[rng.random(x.shape) < 0.2] = NAN
    trained = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(x, y)
    run = Explainer(onnxdtd.compile(skl2onnx.to_onnx(trained, x[:1]), "gradient-x-input"), CPU)
    assert np.isfinite(run(x[:9]).relevance["X"]).all()
    assert run(x[:9]).outputs["output_label"].tolist() == trained.predict(x[:9]).tolist()


# ----------------------------------------------------------------------------------------------------------------- strings


def worded() -> ModelProto:
    """A column of numbers and one of words."""
    nodes = [
        helper.make_node("OneHotEncoder", ["sex"], ["wide"], domain="ai.onnx.ml", cats_strings=["female", "male"], zeros=1),
        helper.make_node("Reshape", ["wide", "rows"], ["flat"]),
        helper.make_node("Concat", ["age", "flat"], ["c"], axis=1),
        helper.make_node("MatMul", ["c", "w"], ["y"], "dense"),
    ]
    return proto(nodes, {"age": (1, ["n", 1]), "sex": (TensorProto.STRING, ["n", 1])}, {"rows": np.array([-1, 2])})


@pytest.mark.parametrize("dtype", [np.str_, object])
def test_strings_are_fed(dtype: Any) -> None:
    run = Explainer(onnxdtd.compile(worded(), "lrp-epsilon"), CPU)
    age, sex = np.array([[0.5], [-1.0], [2.0]]), np.array([["male"], ["female"], ["other"]], dtype)
    found = run({"age": age, "sex": sex})
    coded = np.array([[0, 1], [1, 0], [0, 0]])
    np.testing.assert_allclose(found.outputs["y"], np.hstack([age, coded]) @ W, rtol=1e-6)
    assert list(found.relevance) == ["age", "wide"]
    for bad in (age, np.array([[b"male"]] * 3), np.array([["male"], [1], ["x"]], object), [["male"], ["a", "b"], ["c"]]):
        with pytest.raises(RequestError, match="'sex'"):
            run({"age": age, "sex": bad})


def test_what_is_left_out_is_named() -> None:
    assert prepare(worded(), Request(preset="lrp-epsilon")).plan.notes == [
        "the numbers that the strings of sex are turned into are explained: 'wide'"
    ]
    assert prepare(worded(), Request(preset="lrp-epsilon", explain=("age",))).plan.notes == [
        "not explained: sex (strings); what they contribute counts as a constant"
    ]
    assert prepare(columns([1.0]), Request(preset="lrp-epsilon", explain=("a",))).plan.notes == [
        "not explained: b (float32); what they contribute counts as a constant"
    ]
    assert prepare(columns([1.0]), Request(preset="lrp-epsilon")).plan.notes == []
    onnx.checker.check_model(worded())
