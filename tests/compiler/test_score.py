"""Which class is explained: one logit whose sign decides, or one of several."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import Session, model, node, run

import onnxdtd
from onnxdtd.contract import read_metadata

WEIGHT = np.float32([[1.0], [-2.0], [3.0]])
X = np.float32([[1, 1, 1], [1, 3, 0], [0, 0, 2]])  # logits 2, -5, 6


def sigmoid_net() -> onnx.ModelProto:
    return model([node("MatMul", "x w", "h"), node("Sigmoid", "h", "y")], {"x": ["n", 3]}, ["y"], {"w": WEIGHT})


def metadata(proto: onnx.ModelProto, key: str) -> object:
    return dict(read_metadata(proto))[key]


def test_the_sign_of_one_logit_chooses_the_class() -> None:
    compiled = onnxdtd.compile(sigmoid_net(), "lrp-0")
    assert metadata(compiled, "classes") == 2
    relevance = run(compiled, x=X)["relevance"]
    np.testing.assert_allclose(relevance.sum(1), [2, 5, 6], rtol=1e-6)
    np.testing.assert_allclose(relevance[1], -X[1] * WEIGHT[:, 0], rtol=1e-6)


@pytest.mark.parametrize("chosen", [[1], [0], [1, 0, -1]])
def test_a_class_of_two_can_be_asked_for(chosen: list[int]) -> None:
    logits = X @ WEIGHT[:, 0]
    signs = [np.sign(z) if c < 0 else 2 * c - 1 for z, c in zip(logits, chosen * (3 // len(chosen)), strict=True)]
    found = Session(onnxdtd.compile(sigmoid_net(), "lrp-0", target="optional"))(x=X, target=np.asarray(chosen))["relevance"]
    np.testing.assert_allclose(found, X * WEIGHT[:, 0] * np.asarray(signs)[:, None], rtol=1e-6)


@pytest.mark.parametrize(("target", "sign"), [(1, 1.0), (0, -1.0)])
def test_a_fixed_class_of_two(target: int, sign: float) -> None:
    found = run(onnxdtd.compile(sigmoid_net(), "gradient", target=target), x=X)["relevance"]
    np.testing.assert_array_equal(found, np.broadcast_to(sign * WEIGHT[:, 0], X.shape))


def test_a_third_class_of_two_is_refused() -> None:
    with pytest.raises(onnxdtd.RequestError, match="classes 0 to 1"):
        onnxdtd.compile(sigmoid_net(), target=2)


def test_a_single_output_without_a_sigmoid_is_explained_as_it_is() -> None:
    net = model([node("MatMul", "x w", "y")], {"x": ["n", 3]}, ["y"], {"w": WEIGHT})
    compiled = onnxdtd.compile(net, "lrp-0")
    assert metadata(compiled, "classes") == 1
    np.testing.assert_allclose(run(compiled, x=X)["relevance"].sum(1), [2, -5, 6], rtol=1e-6)


def test_one_score_has_no_runner_up() -> None:
    net = model([node("MatMul", "x w", "y")], {"x": ["n", 3]}, ["y"], {"w": WEIGHT})
    with pytest.raises(onnxdtd.RequestError, match="at least two classes"):
        onnxdtd.compile(net, contrast=True)


def test_an_unknown_contrast_is_refused() -> None:
    with pytest.raises(onnxdtd.RequestError, match="runner-up, rest"):
        onnxdtd.compile(sigmoid_net(), contrast="all")


@pytest.mark.parametrize(("target", "shape"), [("input", ["n"]), ("optional", ["dtd/targets"])])
def test_the_target_is_an_input_only_where_asked_for(target: str, shape: list[str]) -> None:
    """A required one has the symbol of the batch, by which a server may join requests."""
    plain, compiled = onnxdtd.compile(sigmoid_net()), onnxdtd.compile(sigmoid_net(), target=target)
    assert [value.name for value in plain.graph.input] == ["x"]
    assert [value.name for value in compiled.graph.input] == ["x", "target"]
    assert [d.dim_param for d in compiled.graph.input[1].type.tensor_type.shape.dim] == shape
    assert ("target" in {t.name for t in compiled.graph.initializer}) == (target == "optional")
    assert metadata(compiled, "target") == target


def test_one_sample_takes_one_target() -> None:
    weight = np.float32([[1, 2, 3], [-1, 0, 1]])
    net = model([node("MatMul", "x w", "y")], {"x": [2]}, ["y"], {"w": weight})
    explainer = onnxdtd.Explainer(onnxdtd.compile(net, "lrp-0", target="input"))
    assert explainer([3.0, 4.0], target=0).relevance["x"].tolist() == [3, -4]
    assert explainer([3.0, 4.0]).relevance["x"].tolist() == [9, 4]
    assert explainer([3.0, 4.0]).logit.tolist() == [13]


@pytest.mark.parametrize("head", ["Sigmoid", "Identity"])
@pytest.mark.parametrize("preset", ["lrp-0", "gradient"])
def test_the_logit_is_the_explained_score(head: str, preset: str) -> None:
    weight = np.float32([[1.0, 3], [-2.0, 1], [3.0, 0]])[:, : 1 if head == "Sigmoid" else 2]
    net = model([node("MatMul", "x w", "z"), node(head, "z", "y")], {"x": ["n", 3]}, ["y"], {"w": weight})
    z = X @ weight
    scores = np.concatenate([-z, z], axis=1) if head == "Sigmoid" else z
    best, other = scores.max(1), scores.min(1)
    for options, expected in (({}, best), ({"target": 1}, scores[:, 1]), ({"contrast": True}, best - other)):
        np.testing.assert_allclose(run(onnxdtd.compile(net, preset, **options), x=X)["logit"], expected, rtol=1e-6)


@pytest.mark.parametrize("head", ["Sigmoid", "Identity"])
def test_one_logit_for_each_sample_without_an_axis_of_classes(head: str) -> None:
    """An output [batch] is a column of logits, not a row of classes."""
    nodes = [node("MatMul", "x w", "h"), node("Squeeze", "h axes", "z"), node(head, "z", "y")]
    net = model(nodes, {"x": ["n", 3]}, ["y"], {"w": WEIGHT, "axes": np.array([1])})
    relevance = run(onnxdtd.compile(net, "lrp-0"), x=X)["relevance"]
    np.testing.assert_allclose(relevance.sum(1), [2, 5 if head == "Sigmoid" else -5, 6], rtol=1e-6)


def test_a_name_that_only_an_unused_initializer_has_is_left_alone() -> None:
    net = sigmoid_net()
    net.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "target"))
    compiled = onnxdtd.compile(net, target="input")
    onnx.checker.check_model(compiled, full_check=True)
    assert metadata(compiled, "target_input") == "target_1"


@pytest.mark.parametrize("target", [np.int64(1), 1])
def test_any_integer_is_a_target(target: object) -> None:
    assert metadata(onnxdtd.compile(sigmoid_net(), target=target), "target") == 1


@pytest.mark.parametrize("target", [True, 1.5, [1]])
def test_what_is_no_integer_is_no_target(target: object) -> None:
    with pytest.raises(onnxdtd.RequestError, match="give 'argmax', 'input', 'optional', or the label or the index"):
        onnxdtd.compile(sigmoid_net(), target=target)


def test_scores_of_no_classes() -> None:
    net = model([node("MatMul", "x w", "y")], {"x": ["n", 3]}, ["y"], {"w": np.zeros((3, 0), np.float32)})
    with pytest.raises(onnxdtd.ModelError, match="'y' has scores of no classes"):
        onnxdtd.compile(net)


@pytest.mark.parametrize("preset", ["lrp-0", "dtd", "gradient"])
def test_the_nearest_mean_wins(preset: str) -> None:
    """Of distances the smallest; its lead over the next is explained by what each feature adds to it, whatever the origin."""
    rng = np.random.default_rng(0)
    means, spread = (rng.uniform(1, 2, size=(3, 4)).astype(np.float32) for _ in range(2))
    x = rng.normal(2, 1, size=(9, 4)).astype(np.float32)
    nodes = [
        node("Unsqueeze", "x one", "row"),
        node("Sub", "row means", "difference"),
        node("Pow", "difference two", "square"),
        node("Div", "square spread", "apart"),
        node("ReduceSum", "apart last", "distance", keepdims=0),
        node("ArgMin", "distance", "label", axis=1, keepdims=0),
    ]
    constants = {"one": np.array([1]), "last": np.array([2]), "two": np.float32(2), "means": means, "spread": spread}
    found = run(onnxdtd.compile(model(nodes, {"x": ["n", 4]}, ["label"], constants), preset, contrast=True), x=x)
    apart = (x[:, None] - means) ** 2 / spread
    order, rows = apart.sum(2).argsort(1), np.arange(len(x))
    own, other = order[:, 0], order[:, 1]
    np.testing.assert_array_equal(found["label"], own)
    lead = apart[rows, other] - apart[rows, own]
    np.testing.assert_allclose(found["logit"], lead.sum(1), rtol=1e-4)
    slope = 2 * ((x - means[other]) / spread[other] - (x - means[own]) / spread[own])
    share = apart[rows, other]  # all that speaks for it by z+
    expected = {"lrp-0": lead, "gradient": slope, "dtd": share / share.sum(1, keepdims=True) * lead.sum(1, keepdims=True)}
    np.testing.assert_allclose(found["relevance"], expected[preset], atol=1e-4 * np.abs(lead).max())
