"""Classifiers of ai.onnx.ml, spelled out in operators of the default domain."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from nets import FLOAT, Session, assert_near, node
from onnx import ModelProto, TensorProto, helper, numpy_helper
from spelling import NEAR, Array, compiled

import onnxdtd
from onnxdtd.errors import OnnxdtdError
from onnxdtd.graph.spelled import ML, QUANTISED

COEFFICIENTS = np.float32([[1, 2, -1], [0.5, -1, 3], [-2, 1, 1]])

INTERCEPTS = np.float32([0.25, -0.5, 1])

X = np.float32([[1, 1, 1], [-1, -2, 0.5], [2, 0.25, -1], [0.5, -0.125, 0]])

DTYPES = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}


def classifier(
    w: Array,
    b: Array,
    post: str = "NONE",
    head: str = "plain",
    labels: Sequence[Any] = (),
    scaler: bool = False,
    dtype: Any = np.float32,
    opset: int = 17,
) -> ModelProto:
    """As skl2onnx writes them: perhaps a Scaler, the LinearClassifier, for many classes a Normalizer, for words a ZipMap."""
    labels = list(labels) or list(range(max(len(w), 2)))
    words = isinstance(labels[0], str)
    attrs = {"classlabels_strings" if words else "classlabels_ints": labels, "multi_class": 0, "post_transform": post}
    attrs |= {"coefficients": w.ravel().tolist(), "intercepts": b.tolist()}
    nodes = []
    ml = lambda op, inputs, outputs, **attrs: node(op, inputs, outputs, domain="ai.onnx.ml", **attrs)
    if scaler:
        nodes.append(ml("Scaler", "x", "scaled", offset=[0.5, -1.0, 0.25], scale=[2.0, -0.5, 1.0]))
    nodes.append(ml("LinearClassifier", "scaled" if scaler else "x", "label scores", **attrs))
    batch, label_type = "n", TensorProto.STRING if words else TensorProto.INT64
    outputs = [helper.make_tensor_value_info("label", label_type, [batch])]
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, len(labels)])
    if head == "plain":
        outputs.append(scores)
    else:
        nodes.append(ml("Normalizer", "scores", "probabilities", norm="L1"))
        nodes.append(node("Cast", "label", "output_label", to=label_type))
        outputs[0].name = "output_label"
        outputs.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, len(labels)]))
    if head == "ZipMap":
        key = {"classlabels_strings" if words else "classlabels_int64s": labels}
        nodes.append(ml("ZipMap", "probabilities", "output_probability", **key))
        kinds = helper.make_map_type_proto(label_type, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        outputs[1] = helper.make_value_info("output_probability", helper.make_sequence_type_proto(kinds))
    x = helper.make_tensor_value_info("x", DTYPES[dtype], [batch, 3])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(helper.make_graph(nodes, "sklearn", [x], outputs), opset_imports=opsets, ir_version=8)


def same_outputs(source: ModelProto, proto: ModelProto, x: Array) -> dict[str, Any]:
    """Labels and scores, lists of dicts among them, are those of the source."""
    found, expected = Session(proto)(x=x), Session(source)(x=x)
    assert list(found)[: len(expected)] == list(expected)
    for name, value in expected.items():
        if isinstance(value, list):
            assert found[name] == value
        else:
            np.testing.assert_array_equal(found[name], value)
    return found


def shares(x: Array, w: Array, b: Array, preset: str) -> Array:
    """Of the score x·w + b of each sample: LRP-ε gives x w (1 − ε/|score|), the z rule gives x w score / x·w."""
    terms = x * w
    z = terms.sum(1, keepdims=True) + b
    return terms * z / (terms.sum(1, keepdims=True) if preset == "dtd-z" else z + 1e-6 * np.where(z >= 0, 1, -1))


@pytest.mark.parametrize("preset", ["lrp-epsilon", "dtd-z"])
@pytest.mark.parametrize("head", ["plain", "Normalizer", "ZipMap"])
@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("rows", [2, 3])
def test_linear_classifier(rows, post, head, preset):
    """The logits are x Wᵀ + b, and the arg-max of them is the label."""
    w, b = COEFFICIENTS[:rows], INTERCEPTS[:rows]
    source = classifier(w, b, post, head)
    found = same_outputs(source, compiled(source, preset), X)
    best = (X @ w.T + b).argmax(1)
    np.testing.assert_array_equal(next(iter(found.values())), best)
    assert_near(found["relevance"], shares(X, w[best], b[best][:, None], preset), NEAR)


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC"])
@pytest.mark.parametrize("preset", ["lrp-epsilon", "dtd-z", "gradient"])
def test_one_row_for_two_classes(post, preset):
    """The sign of the only logit chooses: class 1 has the score s = x·w + b, class 0 the score −s."""
    w, b = COEFFICIENTS[:1], INTERCEPTS[:1]
    source = classifier(w, b, post)
    proto = compiled(source, preset)
    found = same_outputs(source, proto, X)
    s = X @ w[0] + b
    label = (s > 0).astype(int)
    np.testing.assert_array_equal(found["label"], label)
    assert 0 < label.sum() < len(X)
    session = Session(onnxdtd.compile(source, preset, target="optional"))
    for target in ([-1], [0], [1], [0, 1, 1, 0]):
        chosen = np.broadcast_to(np.where(np.array(target) < 0, label, target), len(X))
        sign = np.where(chosen == 1, 1, -1)[:, None]
        one = np.broadcast_to(w, X.shape) if preset == "gradient" else shares(X, w, b, preset)
        assert_near(session(x=X, target=np.array(target))["relevance"], sign * one, NEAR)
    for target in (0, 1):
        fixed = Session(onnxdtd.compile(source, preset, target=target))(x=X)["relevance"]
        np.testing.assert_array_equal(fixed, session(x=X, target=np.array([target]))["relevance"])
    with pytest.raises(OnnxdtdError, match="target 2"):
        onnxdtd.compile(source, preset, target=2)


def test_contrast_of_two_rows():
    """The logit minus the other one, as one neuron."""
    w, b = COEFFICIENTS[:2], INTERCEPTS[:2]
    source = classifier(w, b, "SOFTMAX")
    found = Session(onnxdtd.compile(source, "dtd-z", contrast=True))(x=X)["relevance"]
    best = (X @ w.T + b).argmax(1)
    assert_near(found, shares(X, w[best] - w[1 - best], (b[best] - b[1 - best])[:, None], "dtd-z"), NEAR)


@pytest.mark.parametrize("labels", [(3, 7, 11), ("cat", "dog", "emu")], ids=str)
def test_labels_of_any_kind(labels):
    """Classes are numbered as they are listed, whatever they are called."""
    source = classifier(COEFFICIENTS, INTERCEPTS, "SOFTMAX", "ZipMap", labels)
    found = same_outputs(source, compiled(source, "lrp-epsilon", target=2), X)
    best = (X @ COEFFICIENTS.T + INTERCEPTS).argmax(1)
    assert list(found["output_label"]) == [labels[i] for i in best]
    assert set(found["output_probability"][0]) == set(labels)
    assert_near(found["relevance"], shares(X, COEFFICIENTS[2:], INTERCEPTS[2], "lrp-epsilon"), NEAR)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
def test_other_inputs(dtype):
    """A LinearClassifier takes float64 too, and computes in float32; the relevance has the type of the input."""
    source = classifier(COEFFICIENTS, INTERCEPTS, "SOFTMAX", dtype=dtype)
    found = same_outputs(source, compiled(source, "lrp-epsilon"), X.astype(dtype))
    best = (X @ COEFFICIENTS.T + INTERCEPTS).argmax(1)
    assert found["relevance"].dtype == dtype
    assert_near(found["relevance"], shares(X, COEFFICIENTS[best], INTERCEPTS[best][:, None], "lrp-epsilon"), NEAR)


@pytest.mark.parametrize("preset", ["lrp-epsilon", "dtd-z", "dtd"])
def test_scaler(preset):
    """(x − offset) · scale: preprocessing, through which relevance passes as it is."""
    scaled = (X - np.float32([0.5, -1, 0.25])) * np.float32([2, -0.5, 1])
    source = classifier(COEFFICIENTS, INTERCEPTS, "SOFTMAX", "ZipMap", scaler=True)
    found = same_outputs(source, compiled(source, preset), X)
    plain = Session(onnxdtd.compile(classifier(COEFFICIENTS, INTERCEPTS), preset))(x=scaled)
    assert_near(found["relevance"], plain["relevance"], NEAR)


def test_scaler_with_bounds():
    """Bounds go through it; a negative scale swaps them."""
    low, high = np.float32([-2, -3, -1]), np.float32([3, 2, 2])
    offset, scale = np.float32([0.5, -1, 0.25]), np.float32([2, -0.5, 1])
    source = classifier(COEFFICIENTS, INTERCEPTS, "SOFTMAX", scaler=True)
    found = Session(onnxdtd.compile(source, low=low.tolist(), high=high.tolist()))(x=X)["relevance"]
    ends = (low - offset) * scale, (high - offset) * scale
    bounds = {"low": np.minimum(*ends).tolist(), "high": np.maximum(*ends).tolist()}
    expected = Session(onnxdtd.compile(classifier(COEFFICIENTS, INTERCEPTS), **bounds))(x=(X - offset) * scale)["relevance"]
    assert_near(found, expected, NEAR)


def test_scaler_with_one_number_for_all():
    """Length 1: the same for every feature."""
    source = classifier(COEFFICIENTS, INTERCEPTS, scaler=True)
    attrs = {a.name: a for a in source.graph.node[0].attribute}
    for name, value in (("offset", 0.5), ("scale", 2.0)):
        attrs[name].floats[:] = [value]
    found = same_outputs(source, compiled(source, "lrp-epsilon"), X)
    plain = Session(onnxdtd.compile(classifier(COEFFICIENTS, INTERCEPTS), "lrp-epsilon"))(x=(X - np.float32(0.5)) * 2)
    assert_near(found["relevance"], plain["relevance"], NEAR)


@pytest.mark.parametrize("left_out", ["offset", "scale"])
def test_scaler_with_less(left_out):
    """Both attributes are optional in ONNX (ONNX Runtime wants them): refused in plain words, or a model."""
    source = classifier(COEFFICIENTS, INTERCEPTS, scaler=True)
    kept = [a for a in source.graph.node[0].attribute if a.name != left_out]
    del source.graph.node[0].attribute[:]
    source.graph.node[0].attribute.extend(kept)
    try:
        compiled(source, "lrp-epsilon")
    except OnnxdtdError as error:
        assert "Scaler" in str(error)  # noqa: PT017


def test_classifier_without_intercepts():
    """Optional in ONNX (ONNX Runtime wants them): refused in plain words, or three rows of weights."""
    source = classifier(COEFFICIENTS, INTERCEPTS)
    (attribute,) = [a for a in source.graph.node[0].attribute if a.name == "intercepts"]
    source.graph.node[0].attribute.remove(attribute)
    try:
        proto = onnxdtd.compile(source, "lrp-epsilon")
    except OnnxdtdError as error:
        assert "intercepts" in str(error)  # noqa: PT017
        return
    assert [3, 3] in [list(tensor.dims) for tensor in proto.graph.initializer]


@pytest.mark.parametrize("scaler", [False, True])
@pytest.mark.parametrize("preset", ["lrp-epsilon", "dtd-z", "dtd"])
def test_imputer(preset, scaler):
    """A missing value is explained as the value that it was taken for."""
    source = classifier(COEFFICIENTS, INTERCEPTS, "SOFTMAX", scaler=scaler)
    first = source.graph.node[0]
    first.input[0] = "filled"
    attrs = {"imputed_value_floats": [0.5, -1.5, 2.0], "replaced_value_float": float("nan")}
    nodes = [node("Imputer", "x", "filled", domain="ai.onnx.ml", **attrs), *source.graph.node]
    del source.graph.node[:]
    source.graph.node.extend(nodes)
    x = X.copy()
    x[0, 1] = x[2, 2] = x[3, 0] = np.nan
    found = same_outputs(source, compiled(source, preset), x)
    filled = np.where(np.isnan(x), np.float32([0.5, -1.5, 2]), x)
    plain = classifier(COEFFICIENTS, INTERCEPTS, "SOFTMAX", scaler=scaler)
    assert_near(found["relevance"], Session(onnxdtd.compile(plain, preset))(x=filled)["relevance"], NEAR)


def test_imputer_of_what_is_computed():
    """Scaled columns are filled as plain ones are. Where a logarithm of a negative number is, there is no slope: refused."""
    filled = node("Imputer", "t", "f", domain="ai.onnx.ml", imputed_value_floats=[0.5], replaced_value_float=float("nan"))
    behind = [filled, node("MatMul", "f v", "y")]
    v, half = np.float32([[1, -2], [0.5, 3], [-1, 1]]), np.float32([0.5, 2, 1])
    source = ending([node("Mul", "x half", "t"), *behind], {"y": 2}, v=v, half=half)
    found = same_outputs(source, compiled(source, "gradient", target=1), X)
    assert_near(found["relevance"], np.broadcast_to(v[:, 1] * half, X.shape), NEAR)
    for preset in ("lrp-epsilon", "gradient"):
        with pytest.raises(
            OnnxdtdError, match=r"not defined on what is filled in where nothing could be computed; .* --from f"
        ):
            compiled(ending([node("Log", "x", "t"), *behind], {"y": 2}, v=v), preset)


def test_columns_scaled_each_in_its_own_way():
    """As scikit-learn's ColumnTransformer picks, scales and joins them, two of them twice and in another order."""
    picks = {"i": np.array([0, 2]), "j": np.array([2, 0, 1])}
    v, scale = np.float32([[1, -2], [0.5, 3], [-1, 1], [2, 0.5], [-0.25, 1]]), np.float32([0.5, 2, -1])
    ml = {"domain": "ai.onnx.ml"}
    nodes = [
        node("ArrayFeatureExtractor", "x i", "a", **ml),
        node("ArrayFeatureExtractor", "x j", "b", **ml),
        node("Scaler", "a", "c", offset=[0.5, 1.0], scale=[2.0, -1.0], **ml),
        node("Mul", "b scale", "d"),
        node("Concat", "c d", "e", axis=1),
        node("MatMul", "e v", "y"),
    ]
    source = ending(nodes, {"y": 2}, v=v, scale=scale, **picks)
    found = same_outputs(source, compiled(source, "gradient", target=0), X)
    w = v[:, 0] * np.float32([2, -1, *scale])
    assert_near(found["relevance"], np.broadcast_to([w[0] + w[3], w[4], w[1] + w[2]], X.shape), NEAR)


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "gradient"])
def test_imputer_keeps_the_type(preset):
    """float64 stays float64, unlike in a Scaler. (ONNX Runtime has no kernel for that; onnx checks the types.)"""
    fill = node("Imputer", "x", "t", domain="ai.onnx.ml", imputed_value_floats=[0.5], replaced_value_float=float("nan"))
    nodes = [fill, node("MatMul", "t w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")]
    float64 = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape)
    weights = [numpy_helper.from_array(np.ones(shape), name) for name, shape in (("w", (3, 4)), ("v", (4, 2)))]
    graph = helper.make_graph(nodes, "filled", [float64("x", ["n", 3])], [float64("y", ["n", 2])], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    proto = onnxdtd.compile(helper.make_model(graph, opset_imports=opsets, ir_version=8), preset)
    onnx.checker.check_model(proto, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    floats = {v.type.tensor_type.elem_type for v in inferred.value_info} - {TensorProto.INT64, TensorProto.BOOL}
    assert floats == {TensorProto.DOUBLE}


@pytest.mark.parametrize("scaler", [False, True])
@pytest.mark.parametrize("preset", ["lrp-epsilon", "dtd-z", "dtd"])
def test_columns_side_by_side(preset, scaler):
    """Features that come as inputs of their own, one of them integers, which are not explained."""
    source = classifier(COEFFICIENTS, INTERCEPTS, "SOFTMAX", scaler=scaler)
    source.graph.node[0].input[0] = "all"
    nodes = [node("FeatureVectorizer", "a i c", "all", domain="ai.onnx.ml", inputdimensions=[1, 1, 1]), *source.graph.node]
    del source.graph.node[:], source.graph.input[:]
    source.graph.node.extend(nodes)
    kinds = {"a": TensorProto.FLOAT, "i": TensorProto.INT64, "c": TensorProto.FLOAT}
    source.graph.input.extend(helper.make_tensor_value_info(name, kind, ["n", 1]) for name, kind in kinds.items())
    whole = np.round(X)
    feeds = {"a": whole[:, :1], "i": whole[:, 1:2].astype(np.int64), "c": whole[:, 2:]}
    try:
        expected = Session(source)(**feeds)
    except Exception:  # ONNX Runtime wants them all of one type
        source.graph.input[1].type.tensor_type.elem_type = TensorProto.FLOAT
        feeds["i"] = whole[:, 1:2]
        expected = Session(source)(**feeds)
    found = Session(compiled(source, preset))(**feeds)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    plain = classifier(COEFFICIENTS, INTERCEPTS, "SOFTMAX", scaler=scaler)
    relevance = Session(onnxdtd.compile(plain, preset))(x=whole)["relevance"]
    assert_near(
        np.concatenate([found[f"relevance/{name}"] for name in "aic" if f"relevance/{name}" in found], 1), relevance, NEAR
    )


NORMS = {  # of a row: what it is divided by, and the slope of that
    "MAX": (lambda x: x.max(), lambda x, y: np.arange(3) == x.argmax()),
    "L1": (lambda x: np.abs(x).sum(), lambda x, y: np.sign(x)),
    "L2": (lambda x: np.sqrt((x**2).sum()), lambda x, y: y),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
@pytest.mark.parametrize("norm", NORMS)
def test_normalizer_of_the_input(norm, dtype):
    """x / n, n being constant under a rule. Behind the logits a Normalizer is a head; it leaves a row of zeros as it is."""
    source = classifier(COEFFICIENTS, INTERCEPTS, "SOFTMAX", "Normalizer", scaler=True, dtype=dtype)
    source.graph.node[0].op_type = "Normalizer"
    del source.graph.node[0].attribute[:]
    source.graph.node[0].attribute.append(helper.make_attribute("norm", norm))
    x = np.array([[1, 2, -1], [-1, -2, 0.5], [0, 0, 0], [-0.5, -1.5, -1]], dtype)
    length, slope = NORMS[norm]
    lengths = np.array([[length(row) or 1.0] for row in x])
    y = x / lengths
    best = (y @ COEFFICIENTS.T + INTERCEPTS).argmax(1)
    w, b = COEFFICIENTS[best].astype(np.float64), INTERCEPTS[best][:, None]
    found = same_outputs(source, compiled(source, "lrp-epsilon"), x)["relevance"]
    assert found.dtype == dtype
    assert_near(found, shares(y, w, b, "lrp-epsilon"), NEAR)
    found = same_outputs(source, compiled(source, "dtd"), x)["relevance"]
    plain = classifier(COEFFICIENTS, INTERCEPTS)
    expected = Session(onnxdtd.compile(plain, settings=["*=z+"]))(x=y.astype(FLOAT))["relevance"]
    assert_near(found, expected, NEAR)
    slopes = np.array([slope(row, out) if row.any() else row for row, out in zip(x, y, strict=True)])
    found = same_outputs(source, compiled(source, "gradient"), x)["relevance"]
    assert_near(found[[0, 1, 3]], ((w - slopes * (w * y).sum(1, keepdims=True)) / lengths)[[0, 1, 3]], NEAR)
    assert np.isfinite(found).all()


def test_scores_chosen_by_number():
    """A LinearSVC for two classes: its score is picked from the two by an ArrayFeatureExtractor."""
    w, b = np.stack([-COEFFICIENTS[0], COEFFICIENTS[0]]), np.stack([-INTERCEPTS[0], INTERCEPTS[0]])
    source = classifier(w, b)
    source.graph.node.append(node("ArrayFeatureExtractor", "scores one", "score", domain="ai.onnx.ml"))
    source.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    source.graph.output[1].CopyFrom(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1]))
    found = same_outputs(source, compiled(source, "lrp-epsilon"), X)
    best = (X @ w.T + b).argmax(1)
    np.testing.assert_array_equal(found["label"], best)
    assert_near(found["relevance"], shares(X, w[best], b[best][:, None], "lrp-epsilon"), NEAR)


@pytest.mark.parametrize("preset", ["lrp-epsilon", "dtd-z"])
def test_old_operator_set(preset):
    """skl2onnx declares operator set 9 for models that use no newer operator. Converted, the rest is the same."""
    new, old = (classifier(COEFFICIENTS, INTERCEPTS, "SOFTMAX", "ZipMap", opset=version) for version in (17, 9))
    found, expected = (same_outputs(s, onnxdtd.compile(s, preset), X)["relevance"] for s in (old, new))
    np.testing.assert_array_equal(found, expected)


def test_no_classifier_behind_it():
    """Labels alone say nothing about scores, but the scores are an output that nobody asked for."""
    source = classifier(COEFFICIENTS, INTERCEPTS)
    del source.graph.output[1]
    found = same_outputs(source, compiled(source, "lrp-epsilon"), X)
    best = (X @ COEFFICIENTS.T + INTERCEPTS).argmax(1)
    assert_near(found["relevance"], shares(X, COEFFICIENTS[best], INTERCEPTS[best][:, None], "lrp-epsilon"), NEAR)


@pytest.mark.parametrize("targets", [1, 2])
def test_linear_regressor(targets):
    """x Wᵀ + b for each target; what else it might make of them is refused."""
    w, b = COEFFICIENTS[:targets], INTERCEPTS[:targets]
    attrs = {"coefficients": w.ravel().tolist(), "intercepts": b.tolist(), "targets": targets}
    source = ending([node("LinearRegressor", "x", "y", domain="ai.onnx.ml", **attrs)], {"y": targets})
    found = same_outputs(source, compiled(source, "lrp-epsilon", target=targets - 1), X)
    assert_near(found["relevance"], shares(X, w[-1], b[-1], "lrp-epsilon"), NEAR)
    source.graph.node[0].attribute.append(helper.make_attribute("post_transform", "PROBIT"))
    with pytest.raises(OnnxdtdError, match="LinearRegressor"):
        compiled(source, "lrp-epsilon")


INNER = {  # by rows and post_transform what runtimes give, and its slope
    (1, "NONE"): lambda z: (np.concatenate([1 - z, z], 1), np.concatenate([0 * z - 1, 0 * z + 1], 1)),
    (1, "SOFTMAX"): lambda z: (np.concatenate([1 - z, z], 1), np.concatenate([0 * z - 1, 0 * z + 1], 1)),
    (1, "LOGISTIC"): lambda z: (np.concatenate([1 - sigmoid(z), sigmoid(z)], 1), slope(z) * np.float32([[-1, 1]])),
    (3, "NONE"): lambda z: (z, np.ones_like(z)),
    (3, "LOGISTIC"): lambda z: (sigmoid(z), slope(z)),
}


@pytest.mark.parametrize(("rows", "post"), INNER)
def test_probabilities_that_something_is_computed_of(rows, post):
    """Of stacked or calibrated classifiers: they are what they are computed from, and differentiated so."""
    w, b, v = COEFFICIENTS[:rows], INTERCEPTS[:rows], np.float32([[1, -2], [0.5, 3], [-1, 1]])[: max(rows, 2)]
    inner = classifier(w, b, post).graph.node[0]
    source = ending([inner, node("MatMul", "scores v", "y")], {"y": 2}, v=v)
    found = same_outputs(source, compiled(source, "gradient", target=1), X)
    given, slopes = INNER[rows, post](X @ w.T + b)
    assert_near(found["y"], given @ v, NEAR)
    assert_near(found["relevance"], (slopes * v[:, 1]) @ (w if rows > 1 else np.repeat(w, 2, 0)), 1e-5)


def test_a_softmax_that_something_is_computed_of():
    """(J v)ᵀ W with the J of the softmax; the label beside it says what it says."""
    v = np.float32([[1, -2], [0.5, 3], [-1, 1]])
    source = classifier(COEFFICIENTS, INTERCEPTS, "SOFTMAX")
    source = ending([source.graph.node[0], node("MatMul", "scores v", "y")], {"y": 2}, v=v)
    found = same_outputs(source, compiled(source, "gradient", target=0), X)
    p = np.exp(X @ COEFFICIENTS.T + INTERCEPTS)
    p /= p.sum(1, keepdims=True)
    assert_near(found["relevance"], (p * (v[:, 0] - p @ v[:, :1])) @ COEFFICIENTS, 1e-5)


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def slope(z: Array) -> Array:
    return sigmoid(z) * sigmoid(-z)


def ending(nodes: Sequence[Any], outputs: dict[str, int], **weights: Array) -> ModelProto:
    """A model of three features with these nodes and outputs."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in outputs.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(helper.make_graph(nodes, "g", [x], infos, tensors), opset_imports=opsets, ir_version=8)


def test_integer_features_are_numbers():
    """They get what they would get as floats."""
    whole, real = classifier(COEFFICIENTS, INTERCEPTS), classifier(COEFFICIENTS, INTERCEPTS)
    whole.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    size, name = whole.graph.input[0].type.tensor_type.shape.dim[1].dim_value, whole.graph.input[0].name
    x = np.random.default_rng(0).integers(-3, 4, (4, size))
    found, expected = (onnxdtd.Explainer(onnxdtd.compile(net, "lrp-epsilon"))(x).relevance[name] for net in (whole, real))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_every_quantised_operator_is_tested():
    tested = {"QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool", "QLinearAveragePool"}
    assert {op for _, op in QUANTISED} == tested | {"QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax", "QGemm"}
    assert set(ML) == {"LinearClassifier", "LinearRegressor", "Scaler", "FeatureVectorizer", "Normalizer"} | {
        "ArrayFeatureExtractor"
    }
