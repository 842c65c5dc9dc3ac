"""What a run says of each sample of a batch: classes, scores, what is missing of the logit; and as a data frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import eighths, model, node
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd import Explainer, RequestError

MODELS = Path(__file__).resolve().parents[2] / "models"
CPU = ["CPUExecutionProvider"]
ML = "ai.onnx.ml"


def explainer(proto: Any, preset: str = "lrp-epsilon", **options: Any) -> Explainer:
    return Explainer(onnxdtd.compile(proto, preset, **options), CPU)


def digits(count: int = 6) -> np.ndarray:
    with np.load(MODELS / "digits_samples.npz") as samples:
        return samples["image"][:count]


def dense(biases: bool = True) -> ModelProto:
    rng = np.random.default_rng(3)
    arrays = {"w": eighths(rng, 4, 3), "b": eighths(rng, 3)}
    return model([node("Gemm", "x w b" if biases else "x w", "y")], {"x": ["batch", 4]}, ["y"], arrays)


def test_classes_of_a_batch_are_those_of_its_samples() -> None:
    one = explainer(MODELS / "digits_cnn.onnx", target="input")
    x, target = digits(), [3, -1, 0, 9, -1, 7]
    whole = one(x, target)
    logits = whole.outputs["logits"]
    assert whole.predicted is not None
    assert whole.predicted.tolist() == logits.argmax(1).tolist()
    assert whole.scores is not None
    np.testing.assert_array_equal(whole.scores, logits.astype(np.float64))
    wanted = np.where(np.array(target) < 0, logits.argmax(1), target)
    assert whole.target is not None
    assert whole.target.tolist() == wanted.tolist()
    assert whole.logit is not None
    np.testing.assert_allclose(whole.logit, logits[np.arange(6), wanted], rtol=1e-6)


def test_what_is_missing_is_what_the_ledger_says_was_kept() -> None:
    found = explainer(MODELS / "digits_cnn.onnx", ledger=True)(digits())
    assert found.ledger is not None
    assert found.missing is not None
    kept = sum(found.ledger[name].sum(1) for name in ("bias", "stabiliser", "dead", "constants"))
    np.testing.assert_allclose(found.missing, kept, atol=1e-4)
    assert np.abs(found.missing).min() > 0.01
    without = explainer(dense(biases=False))(np.ones((2, 4), np.float32))
    assert without.missing is not None
    np.testing.assert_allclose(without.missing, 0, atol=1e-5)


def test_nothing_is_missing_of_a_derivative() -> None:
    assert explainer(dense(), "gradient")(np.ones((2, 4), np.float32)).missing is None


def test_no_class_is_explained_where_a_sum_of_scores_is() -> None:
    found = explainer(dense(), target="score")(np.ones((1, 4), np.float32), score=np.ones((1, 3), np.float32))
    assert found.target is None
    assert found.predicted is not None
    assert found.predicted.tolist() == found.outputs["y"].argmax(1).tolist()


def test_one_probability_is_that_of_class_1() -> None:
    proto = model([node("Gemm", "x w", "z"), node("Sigmoid", "z", "y")], {"x": ["n", 2]}, ["y"], {"w": np.eye(2, 1, dtype="f")})
    found = explainer(proto)(np.array([[2.0, 0.0], [-2.0, 0.0]], np.float32))
    assert found.predicted is not None
    assert found.predicted.tolist() == [1, 0]
    assert found.scores is not None
    np.testing.assert_allclose(found.scores.sum(1), 1)


def test_labels_of_a_zipmap_in_any_order() -> None:
    """Its dictionaries are in the order of the labels, which is not that of the alphabet here."""
    labels = ["eel", "cat", "dog"]
    coefficients = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]).ravel().tolist()
    options = {"coefficients": coefficients, "intercepts": [0.0] * 3, "post_transform": "SOFTMAX", "domain": ML}
    nodes = [
        helper.make_node("LinearClassifier", ["x"], ["label", "s"], classlabels_strings=labels, **options),
        helper.make_node("ZipMap", ["s"], ["probability"], domain=ML, classlabels_strings=labels),
    ]
    scores = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(1, []))
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.STRING, ["n"]),
        helper.make_value_info("probability", helper.make_sequence_type_proto(scores)),
    ]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, ["n", 2])], outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    found = explainer(helper.make_model(graph, opset_imports=opsets, ir_version=8))(
        np.array([[3.0, 0.0], [0.0, 3.0], [-3.0, -3.0]], np.float32)
    )
    assert found.predicted is not None
    assert found.predicted.tolist() == [0, 1, 2]
    assert found.outputs["label"].tolist() == labels
    assert found.scores is not None
    assert found.scores.argmax(1).tolist() == [0, 1, 2]


def test_a_data_frame_has_a_row_a_sample() -> None:
    pytest.importorskip("pandas")
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    found = explainer(dense())(x)
    frame = found.to_dataframe()
    assert [*frame.columns] == ["predicted", "target", "logit", "missing", *(f"relevance[{i}]" for i in range(4))]
    assert frame["predicted"].tolist() == [f"class {i}" for i in (found.predicted if found.predicted is not None else ())]
    np.testing.assert_array_equal(frame.filter(like="relevance").to_numpy(), found.relevance["x"])
    np.testing.assert_allclose(frame["logit"] - frame.filter(like="relevance").sum(axis=1), frame["missing"], atol=1e-5)


def test_a_data_frame_is_taken_by_its_columns() -> None:
    """In any order, and with more of them; what comes out is called as ``explain --save`` calls it."""
    pandas = pytest.importorskip("pandas")
    nodes = [
        node("OneHotEncoder", "hue", "h", domain=ML, cats_strings=["red", "blue"], zeros=1),
        node("Reshape", "h two", "f"),
        node("Concat", "size f", "c", axis=1),
        node("MatMul", "c w", "y"),
    ]
    inputs = [helper.make_tensor_value_info(n, kind, ["n", 1]) for n, kind in (("size", 1), ("hue", TensorProto.STRING))]
    weights = {"w": eighths(np.random.default_rng(3), 3, 2).astype(np.float32), "two": np.array([-1, 2])}
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", 1, ["n", 2])], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    run = explainer(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    frame = pandas.DataFrame({"id": ["a", "b", "c"], "hue": ["blue", None, "red"], "size": [1, 2, 3]})
    found = run(frame)
    want = run({"size": np.array([[1.0], [2], [3]], np.float32), "hue": np.array([["blue"], [""], ["red"]], object)})
    for name, relevance in want.relevance.items():
        np.testing.assert_array_equal(found.relevance[name], relevance)
    named = ["relevance[size]", "relevance[hue=red]", "relevance[hue=blue]"]
    assert [*found.to_dataframe().filter(like="relevance").columns] == named
    with pytest.raises(RequestError, match="has no columns size, which"):
        run(frame[["id", "hue"]])
    with pytest.raises(RequestError, match="give a data frame or a dictionary of size, hue"):
        run(np.ones((3, 2)))


def test_more_samples_than_a_model_takes_at_once() -> None:
    proto = model([node("Gemm", "x w", "y")], {"x": [2, 4]}, ["y"], {"w": eighths(np.random.default_rng(3), 4, 3)})
    with pytest.raises(RequestError, match=r"given is \[3, 4\]: the model takes 2 samples at once; give so many"):
        explainer(proto)(np.ones((3, 4)))
    with pytest.raises(RequestError, match=r"given is \[3, 5\]$"):
        explainer(proto)(np.ones((3, 5)))


def test_an_explanation_is_told_in_a_line() -> None:
    """Six of ten numbers and more would fill a screen each."""
    found = explainer(dense(biases=False), labels=("ox", "ox", "ox"))(np.ones((6, 4), np.float32))
    shapes = "outputs: y [6, 3]; relevance: x [6, 4]; predicted: ox, ox, ox, ox, …; target: ox, ox, ox, ox, …; logit: "
    assert repr(found).startswith(f"Explanation({shapes}")
    assert repr(found).endswith(", …)")


def test_a_notebook_shows_what_it_explains_and_how() -> None:
    shown = explainer(dense(), target=2, labels=("<a>", "b", "c & d"))._repr_html_()
    for text in ("c &amp; d", "&lt;a&gt;", "lrp-epsilon", "input x", "tensor(float)"):
        assert text in shown
    assert "<a>" not in shown


def test_an_explainer_prints_as_a_line_that_says_what_it_explains() -> None:
    shown = repr(explainer(dense(), contrast="runner-up"))
    assert shown.startswith(
        "Explainer(input x: tensor(float) ['batch', 4]; explains: the predicted class; against: the runner-up; "
    )
    assert "; by: lrp-epsilon; relevance: of x; " in shown
