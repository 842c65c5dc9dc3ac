"""The labels that a model has: in its last operators, or in its metadata, from the graph to the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd import Explainer
from onnxdtd.compiler.compile import prepare
from onnxdtd.data.read import Sample
from onnxdtd.errors import RequestError
from onnxdtd.labels import Index
from onnxdtd.request import Request
from onnxdtd.study.presenter import Presenter
from onnxdtd.study.verify import verify

CPU = ["CPUExecutionProvider"]
ML = "ai.onnx.ml"
LABELS = [["cat", "dog", "eel"], [3, 7, 9], [1, 2, 3], ["eel", "cat", "dog"]]  # the last not in the order of the alphabet
COEFFICIENTS = [1.0, 2.0, -1.0, 0.5, 0.0, 1.0, -1.0, 2.0, 0.25]
W = np.array(COEFFICIENTS, np.float32).reshape(3, 3).T


def attribute(labels: list[Any], kind: str) -> dict[str, Any]:
    return {"classlabels_strings" if isinstance(labels[0], str) else kind: labels}


def with_outputs(nodes: list[Any], labels: list[Any], weights: list[Any], zipped: bool = True) -> ModelProto:
    elem = TensorProto.STRING if isinstance(labels[0], str) else TensorProto.INT64
    scores = helper.make_map_type_proto(elem, helper.make_tensor_type_proto(1, []))
    outputs = [helper.make_tensor_value_info("label", elem, ["n"])]
    if zipped:
        outputs.append(helper.make_value_info("probability", helper.make_sequence_type_proto(scores)))
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, ["n", 3])], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)], ir_version=8)


def linear(labels: list[Any]) -> ModelProto:
    """A LinearClassifier and a ZipMap."""
    options = {"coefficients": COEFFICIENTS, "intercepts": [0.0, 0.0, 0.0], "post_transform": "SOFTMAX", "domain": ML}
    nodes = [
        helper.make_node("LinearClassifier", ["x"], ["label", "s"], "lc", **options, **attribute(labels, "classlabels_ints")),
        helper.make_node("ZipMap", ["s"], ["probability"], domain=ML, **attribute(labels, "classlabels_int64s")),
    ]
    return with_outputs(nodes, labels, [])


def network(
    labels: list[Any], zipped: bool = True, picking: str = "ArrayFeatureExtractor", constant: bool = False
) -> ModelProto:
    """Dense, Softmax, ArgMax, and a table of labels, as skl2onnx writes them."""
    strings = isinstance(labels[0], str)
    table = numpy_helper.from_array(np.array(labels, object if strings else np.int32), "classes")
    weight = numpy_helper.from_array(W, "w")
    flat = numpy_helper.from_array(np.array([-1]), "flat")
    nodes = [helper.make_node("Constant", [], ["classes"], value=table)] if constant else []
    nodes += [
        helper.make_node("MatMul", ["x", "w"], ["z"], "dense"),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["best"], axis=1),
        helper.make_node(picking, ["classes", "best"], ["found"], domain=ML if picking == "ArrayFeatureExtractor" else ""),
        helper.make_node("Reshape", ["found", "flat"], ["label" if strings else "row"]),
    ]
    nodes += [] if strings else [helper.make_node("Cast", ["row"], ["label"], to=TensorProto.INT64)]
    if zipped:
        nodes.append(helper.make_node("ZipMap", ["p"], ["probability"], domain=ML, **attribute(labels, "classlabels_int64s")))
    return with_outputs(nodes, labels, [weight, flat] + ([] if constant else [table]), zipped)


def encoded(labels: list[Any]) -> ModelProto:
    """The number of the class, looked up by a LabelEncoder."""
    weight = numpy_helper.from_array(W, "w")
    values = {"values_strings" if isinstance(labels[0], str) else "values_int64s": [labels[2], labels[0], labels[1]]}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], "dense"),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["best"], axis=1, keepdims=0),
        helper.make_node("LabelEncoder", ["best"], ["label"], domain=ML, keys_int64s=[2, 0, 1], **values),
    ]
    made = with_outputs(nodes, labels, [weight], zipped=False)
    made.graph.output.append(helper.make_tensor_value_info("p", 1, ["n", 3]))
    return made


def one_logit(labels: list[Any] | None = None) -> ModelProto:
    """A Sigmoid, from which both probabilities are made."""
    weight = numpy_helper.from_array(np.array([[1.0], [-2.0], [0.5]], np.float32), "w")
    one = numpy_helper.from_array(np.float32(1), "one")
    table = numpy_helper.from_array(np.array(labels, object), "classes")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], "dense"),
        helper.make_node("Sigmoid", ["z"], ["p1"]),
        helper.make_node("Sub", ["one", "p1"], ["p0"]),
        helper.make_node("Concat", ["p0", "p1"], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["best"], axis=1),
        helper.make_node("ArrayFeatureExtractor", ["classes", "best"], ["label"], domain=ML),
    ]
    made = with_outputs(nodes, labels or [], [weight, one, table], zipped=False)
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("label", TensorProto.STRING, [1, "n"]))
    return made


MADE = {
    "LinearClassifier": linear,
    "network": network,
    "no ZipMap": lambda labels: network(labels, zipped=False),
    "Gather": lambda labels: network(labels, picking="Gather"),
    "Constant": lambda labels: network(labels, constant=True),
    "LabelEncoder": encoded,
}


def x(seed: int = 0, n: int = 8) -> np.ndarray:
    return eighths(np.random.default_rng(seed), n, 3)


def compiled(proto: ModelProto, **options: Any) -> ModelProto:
    return onnxdtd.compile(proto, "lrp-epsilon", **{"target": "input"} | options)


@pytest.mark.parametrize("labels", LABELS, ids=str)
@pytest.mark.parametrize("kind", MADE)
def test_labels_are_found_shown_and_taken_for_targets(kind: str, labels: list[Any]) -> None:
    """The label predicted is what the model itself says, the score what it gives that label; a label chooses its class."""
    made = MADE[kind](labels)
    run = Explainer(compiled(made), CPU)
    assert run.metadata["labels"] == labels
    job, rows = Presenter(run), x()
    logits = rows @ W
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, p in zip(rows, probabilities, strict=True):
        (result, *_), outputs = job.explain(Sample("s", row)), run(row[None]).outputs
        assert result.predicted == p.argmax()
        assert result.predicted_label == result.target_label == str(labels[p.argmax()]) == str(outputs["label"].ravel()[0])
        assert result.score == pytest.approx(float(row @ W[:, p.argmax()]) if kind == "no ZipMap" else p.max(), rel=1e-5)
        json.dumps(asdict(result))
    for place, label in enumerate(labels):
        by_label, by_index = run(rows, label), run(rows, Index(place))
        np.testing.assert_array_equal(by_label.relevance["x"], by_index.relevance["x"])
    fixed = Explainer(compiled(made, target=labels[2]), CPU)
    assert fixed.metadata["target"] == 2
    np.testing.assert_array_equal(fixed(rows).relevance["x"], run(rows, Index(2)).relevance["x"])
    mixed = [labels[i % 3] for i in range(len(rows))]
    np.testing.assert_array_equal(
        run(rows, mixed).relevance["x"], run(rows, [Index(i % 3) for i in range(len(rows))]).relevance["x"]
    )


def test_one_logit_has_two_labels() -> None:
    made = one_logit(["no", "yes"])
    run = Explainer(compiled(made), CPU)
    assert run.metadata["labels"] == ["no", "yes"]
    z = x() @ np.array([1.0, -2.0, 0.5], np.float32)
    for row, score in zip(x(), z, strict=True):
        result, *_ = Presenter(run).explain(Sample("s", row))
        assert result.predicted_label == ["no", "yes"][int(score > 0)]
    total = run(x(), "yes").relevance["x"].sum(axis=1)
    np.testing.assert_allclose(total, z, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(run(x(), "no").relevance["x"].sum(axis=1), -z, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["LinearSVC", "RidgeClassifier"])
def test_a_decision_value_is_no_probability(name: str) -> None:
    """Of the one column that scikit-learn has for two classes (declared as two by one of them), no other score is made up."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'onnxdtd[peers]'")
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed: pip install 'onnxdtd[peers]'")
    from sklearn.linear_model import RidgeClassifier
    from sklearn.svm import LinearSVC

    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    kind = LinearSVC if name == "LinearSVC" else RidgeClassifier
    trained = kind().fit(rows, np.where(rows[:, 0] > 0, "right", "left"))
    job = Presenter(Explainer(compiled(skl2onnx.to_onnx(trained, rows[:1])), CPU))
    for row in rows[:10]:
        result, *_ = job.explain(Sample("s", row))
        assert result.predicted_label == trained.predict(row[None])[0]
        assert result.score == pytest.approx(abs(float(trained.decision_function(row[None])[0])), rel=1e-4)
    other, *_ = job.explain(Sample("s", row), Index(1 - result.predicted))
    assert other.score is None, "of the class that is not explained there is none"


# ---------------------------------------------------------------------------------------------------------------- metadata


def plain(**entries: str) -> ModelProto:
    made = model([node("MatMul", "x w", "z")], {"x": ["n", 3]}, ["z"], {"w": np.array(COEFFICIENTS, np.float32).reshape(3, 3)})
    for key, value in entries.items():
        made.metadata_props.add(key=key.replace("__", " "), value=value)
    return made


@pytest.mark.parametrize(
    ("entries", "labels"),
    [
        ({"names": "{0: 'cat', 1: 'dog', 2: 'eel'}"}, ["cat", "dog", "eel"]),
        ({"names": '{"0": "cat", "1": "dog", "2": "eel"}'}, ["cat", "dog", "eel"]),
        ({"classes": '["cat", "dog", "eel"]'}, ["cat", "dog", "eel"]),
        ({"class_names": "cat\ndog\neel\n"}, ["cat", "dog", "eel"]),
        ({"labels": "cat, dog, eel"}, ["cat", "dog", "eel"]),
        ({"model_info__labels": "cat dog big_eel"}, ["cat", "dog", "big_eel"]),
        ({"id2label": '{"0": "cat", "1": "dog", "2": "eel"}'}, ["cat", "dog", "eel"]),
        ({"Labels": '["cat", "dog", "eel"]'}, ["cat", "dog", "eel"]),
        ({"names": "{0: 'person', 1: 'car'}", "classes": '["cat", "dog", "eel"]'}, ["cat", "dog", "eel"]),
        ({"classes": "3"}, None),
        ({"names": "{0: 'cat', 1: 'dog'}"}, None),
        ({"names": "__import__('os').abort()"}, None),
        ({"labels": "[0, 1, 2]"}, None),
        ({"author": '["cat", "dog", "eel"]'}, None),
    ],
    ids=str,
)
def test_labels_in_metadata(entries: dict[str, str], labels: list[str] | None) -> None:
    """As Ultralytics, OpenVINO and people write them; only where there are as many as classes."""
    run = Explainer(compiled(plain(**entries)), CPU)
    assert run.metadata["labels"] == labels
    result, *_ = Presenter(run).explain(Sample("s", x()[0]))
    assert result.predicted_label == (f"class {result.predicted}" if labels is None else labels[result.predicted])


def test_operators_before_metadata() -> None:
    made = linear(["cat", "dog", "eel"])
    made.metadata_props.add(key="names", value="{0: 'a', 1: 'b', 2: 'c'}")
    assert prepare(made, Request(preset="lrp-epsilon")).said.labels == ["cat", "dog", "eel"]
    made = linear([0, 1, 2])
    assert prepare(made, Request(preset="lrp-epsilon")).said.labels is None
    made.metadata_props.add(key="names", value="{0: 'a', 1: 'b', 2: 'c'}")
    job = Presenter(Explainer(compiled(made), CPU))
    result, *_ = job.explain(Sample("s", x()[0]))
    assert result.predicted_label == "abc"[result.predicted]
    assert result.score is not None


def test_an_inner_tensor_has_no_labels() -> None:
    """The three labels are not those of its three units; the class is the one that the model says, and none else."""
    weight = numpy_helper.from_array(np.array(COEFFICIENTS, np.float32).reshape(3, 3), "w2")
    made = network(["cat", "dog", "eel"])
    made.graph.initializer.append(weight)
    made.graph.node[0].output[0] = "hidden"
    made.graph.node.insert(1, helper.make_node("MatMul", ["hidden", "w2"], ["z"], "dense2"))
    run = Explainer(compiled(made, output="hidden"), CPU)
    assert (run.metadata["labels"], run.metadata["label_output"], run.metadata["score_output"]) == (None, None, None)
    result, *_ = Presenter(run).explain(Sample("s", x()[0]))
    assert (result.predicted, result.score, result.predicted_label) == (None, None, "")


# ------------------------------------------------------------------------------------------------------------ names, verify


def test_names_are_kept_and_shown() -> None:
    names = ["chat, le chat", "chien", "anguille"]
    run = Explainer(compiled(linear(["cat", "dog", "eel"]), labels=names, target="chat"), CPU)
    assert (run.metadata["labels"], run.metadata["names"], run.metadata["target"]) == (["cat", "dog", "eel"], names, 0)
    result, *_ = Presenter(run).explain(Sample("s", x()[0]))
    assert (result.target_label, result.predicted_label) == (names[0], names[result.predicted])
    result, *_ = Presenter(run, ["Katze", "Hund", "Aal"]).explain(Sample("s", x()[0]))
    assert result.target_label == "Katze"
    with pytest.raises(RequestError, match="2 labels for 3 classes"):
        compiled(plain(), labels=["a", "b"])
    with pytest.raises(RequestError, match="4 labels for 3 classes"):
        Presenter(run, ["a", "b", "c", "d"])


def test_python_says_what_it_does_not_understand() -> None:
    run = Explainer(compiled(linear(["cat", "dog", "eel"])), CPU)
    for target in ("dgo", ["cat"] * 7 + ["dgo"]):
        with pytest.raises(RequestError, match="did you mean 'dog'"):
            run(x(), target)
    with pytest.raises(RequestError, match="did you mean 'dog'"):
        compiled(linear(["cat", "dog", "eel"]), target="dgo")
    np.testing.assert_array_equal(run(x(), -1).relevance["x"], run(x()).relevance["x"])
    signs = Explainer(compiled(linear([-1, 1, 2])), CPU)
    np.testing.assert_array_equal(signs(x(), -1).relevance["x"], signs(x(), Index(0)).relevance["x"])


@pytest.mark.parametrize("labels", LABELS[1:3], ids=str)
def test_verify_knows_labels_and_finds_others(labels: list[Any], tmp_path: Path) -> None:
    """A target by label is compiled anew as the same class; labels that were exchanged are found out."""
    onnx.save(network(labels), tmp_path / "net.onnx")
    made = compiled(network(labels), target=labels[0], labels=["a", "b", "c"])
    onnx.save(made, tmp_path / "made.onnx")
    report = verify(tmp_path / "made.onnx", tmp_path / "net.onnx")
    assert [c.name for c in report.checks if c.passed is False] == []
    entry = next(e for e in made.metadata_props if e.key == "onnxdtd.labels")
    entry.value = json.dumps(labels[::-1])
    onnx.save(made, tmp_path / "made.onnx")
    failed = [c.name for c in verify(tmp_path / "made.onnx", tmp_path / "net.onnx").checks if c.passed is False]
    assert failed == ["metadata", "compiled anew"]
