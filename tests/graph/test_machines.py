"""Support vector machines of ai.onnx.ml, against ONNX Runtime's own scores and labels and a second implementation in float64.

An RBF decision is m L with L = log S⁺ − log S⁻: the oracle goes over all pairs of units, as the papers have them.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from nets import Session, assert_near, node
from onnx import ModelProto, TensorProto, helper

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import ModelError, Unsupported
from onnxdtd.labels import Index

Array = np.ndarray
FEATURES = 4
GAMMA, SHIFT, DEGREE = 0.25, 0.5, 3.0
KERNELS = {
    "LINEAR": lambda x, u: x @ u.T,
    "POLY": lambda x, u: (GAMMA * x @ u.T + SHIFT) ** DEGREE,
    "SIGMOID": lambda x, u: np.tanh(GAMMA * x @ u.T + SHIFT),
    "RBF": lambda x, u: np.exp(-GAMMA * ((x[:, None] - u) ** 2).sum(-1)),
}
X = np.random.default_rng(1).normal(size=(24, FEATURES)).astype(np.float32)


def numbers(*shape: int, seed: int = 0) -> Array:
    """What float32 has exactly"""
    return np.round(np.random.default_rng(seed).normal(size=shape), 2).astype(np.float32).astype(np.float64)


def machine(op: str, outputs: str, kinds: list[int], after: list[Any] = (), **attrs: Any) -> ModelProto:
    """A model of one machine on x [n, 4], and nodes ``after`` it; outputs of the types ``kinds``."""
    plain = {k: v.ravel().tolist() if isinstance(v, Array) else v for k, v in attrs.items()}
    given = node(op, "x", outputs, domain="ai.onnx.ml", kernel_params=[GAMMA, SHIFT, DEGREE], **plain)
    names = list(after[-1].output) if after else outputs.split()[-1:]
    names = [*outputs.split()[:-1], *names]
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(names, kinds, strict=True)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(helper.make_graph([given, *after], "svm", [x], results), opset_imports=opsets, ir_version=8)


def classifier(kernel: str, classes: int, after: list[Any] = (), **more: Any) -> tuple[ModelProto, Any]:
    """As libsvm lays it out, and its pairwise decisions [n, pairs] in float64."""
    counts = [4, 3, 5][:classes]
    u, rows = numbers(sum(counts), FEATURES), numbers(classes - 1, sum(counts), seed=2)
    pairs = list(combinations(range(classes), 2))
    rho = numbers(len(pairs), seed=3)
    owners = np.repeat(np.arange(classes), counts)

    def decisions(x: Array) -> Array:
        k, found = KERNELS[kernel](x, u), []
        for (i, j), constant in zip(pairs, rho, strict=True):
            coefficients = np.where(owners == i, rows[j - 1], np.where(owners == j, rows[i], 0.0))
            found.append(k @ coefficients + constant)
        return np.stack(found, 1)

    labels = {"classlabels_ints": [3, 5, 7][:classes]}
    attrs = {"coefficients": rows, "support_vectors": u, "rho": rho, "vectors_per_class": counts, "kernel_type": kernel}
    kinds = [TensorProto.INT64, TensorProto.FLOAT]
    return machine("SVMClassifier", "label scores", kinds, after, **attrs, **labels, **more), decisions


def by_class(decisions: Array, classes: int) -> tuple[Array, Array]:
    """What speaks for each class [n, classes]: of two the decision is for class 0, of several the sum of those for it. And what
    is added where it wins most of them though another has the largest sum.
    """
    if classes == 2:
        return np.concatenate([decisions, -decisions], 1), np.zeros((len(decisions), 2))
    scores, votes = (np.zeros((len(decisions), classes)) for _ in range(2))
    for k, (i, j) in enumerate(combinations(range(classes), 2)):
        scores[:, i] += decisions[:, k]
        scores[:, j] -= decisions[:, k]
        votes[:, i] += decisions[:, k] > 0
        votes[:, j] += decisions[:, k] <= 0
    lacking = scores.max(1, keepdims=True) - scores
    return scores, np.where((votes.argmax(1)[:, None] == np.arange(classes)) & (lacking > 0), lacking + 1e-3, 0.0)


def slopes(f: Any, x: Array) -> Array:
    """Central differences of f: [n, d] → [n]."""
    x, h = x.astype(np.float64), 1e-5
    return np.stack([(f(x + h * unit) - f(x - h * unit)) / (2 * h) for unit in np.eye(x.shape[1])], 1)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_and_their_gradient(kernel: str, classes: int) -> None:
    """Of the class that the runtime names, and of one that is asked for."""
    source, decisions = classifier(kernel, classes)
    scores, lift = by_class(decisions(X.astype(np.float64)), classes)
    assert classes == 2 or kernel in ("LINEAR", "SIGMOID") or lift.any()  # votes are not sums
    rows = np.arange(len(X))
    for target in (None, classes - 1):
        compiled = onnxdtd.compile(source, "gradient", target=None if target is None else Index(target))
        found = Session(compiled)(x=X)
        best = (scores + lift).argmax(1)
        np.testing.assert_array_equal(np.array([3, 5, 7])[best], found["label"])
        chosen = best if target is None else np.full(len(X), target)
        assert_near(found["logit"], (scores + lift)[rows, chosen], 2e-6)
        slope = slopes(lambda x, chosen=chosen: by_class(decisions(x), classes)[0][rows, chosen], X)
        assert_near(found["relevance"], slope, 5e-5)
    assert read_metadata(compiled)["labels"] == [3, 5, 7][:classes]


def by_pairs(x: Array, u: Array, weights: Array, rho: float) -> tuple[Array, Array]:
    """f = Σ α e^(−γ|x − u|²) + ρ, and its relevance, pair by pair of units: those with ρ have squared distances to the support
    vector, those of two support vectors a weight 2 γ (u_j − u_k) for x.
    """
    decisions, found = [], np.zeros(x.shape)
    for n, row in enumerate(x):
        units = [(a, v) for a, v in zip(weights, u, strict=True)] + [(rho, None)]
        size = [abs(a) * (1.0 if v is None else np.exp(-GAMMA * ((row - v) ** 2).sum())) for a, v in units]
        plus, minus = (sum(s for s, (a, _) in zip(size, units, strict=True) if sign * a > 0) for sign in (1, -1))
        mean = (plus - minus) / np.log(plus / minus)
        for a, (alpha, v) in zip(size, units, strict=True):
            for b, (beta, w) in zip(size, units, strict=True):
                if alpha <= 0 or beta >= 0:
                    continue
                part = mean * GAMMA * a / plus * b / minus
                if v is None or w is None:
                    found[n] += part * ((row - w) ** 2 if v is None else -((row - v) ** 2))
                else:
                    found[n] += part * 2 * (v - w) * row
        decisions.append(plus - minus)
    return np.array(decisions), found


@pytest.mark.parametrize(("sides", "rho"), [("both", 0.75), ("both", -0.75), ("both", 0.0), ("one", -0.75)])
def test_relevance_of_an_rbf_decision(sides: str, rho: float) -> None:
    """By LRP-0, the relevance of its units; of one class, only distances to its support vectors."""
    u, weights = numbers(7, FEATURES), numbers(7, seed=2)
    weights = np.abs(weights) if sides == "one" else weights
    more = {"n_supports": 7, "kernel_type": "RBF", "rho": [rho], "coefficients": weights, "support_vectors": u}
    source = machine("SVMRegressor", "y", [TensorProto.FLOAT], **more)
    decided, expected = by_pairs(X.astype(np.float64), u, weights, rho)
    found = Session(onnxdtd.compile(source, "lrp-0"))(x=X)
    assert_near(found["y"][:, 0], decided, 1e-6)
    assert_near(found["relevance"], expected, 1e-4)
    if rho == 0.75:
        less = Session(onnxdtd.compile(source, "lrp-0", reference=1.5))(x=X)
        assert_near(less["relevance"], by_pairs(X.astype(np.float64), u, weights, rho - 1.5)[1], 1e-4)
    conserved = Session(onnxdtd.compile(source, "dtd", reference=0))(x=X)
    sign = np.sign(conserved["logit"])[:, None]
    assert (sign * conserved["relevance"] >= 0).all()
    alive = conserved["relevance"].any(axis=1)  # of one class nothing but the boundary speaks for what is inside
    assert alive.mean() > 0.8 if sides == "both" else (alive == (sign[:, 0] < 0)).all()
    assert_near(conserved["relevance"].sum(1)[alive], conserved["logit"][alive], 1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_relevance_of_linear_decisions(classes: int) -> None:
    """A dense layer: w x, times the sign of the class; of several classes those for one of them."""
    source, decisions = classifier("LINEAR", classes)
    found = Session(onnxdtd.compile(source, "lrp-0"))(x=X)
    chosen = sum(by_class(decisions(X.astype(np.float64)), classes)).argmax(1)
    score = lambda x: by_class(decisions(x), classes)[0][np.arange(len(X)), chosen]
    assert_near(found["relevance"], X * slopes(score, X), 5e-5)


@pytest.mark.parametrize(("classes", "count"), [(2, 2), (3, 3)])
def test_what_is_computed_of_decisions(classes: int, count: int) -> None:
    """Of pairs of classes; of two classes in the order that runtimes have. The label does not choose among them."""
    source, decisions = classifier("RBF", classes, [node("Mul", "scores scores", "y")])
    pairs = lambda x: np.concatenate([-decisions(x), decisions(x)], 1) if classes == 2 else decisions(x)
    found = Session(onnxdtd.compile(source, "gradient", output="y", target=count - 1))(x=X)
    assert_near(found["y"], pairs(X.astype(np.float64)) ** 2, 1e-5)
    assert_near(found["relevance"], slopes(lambda x: pairs(x)[:, count - 1] ** 2, X), 1e-4)


def test_probabilities_are_stepped_back_over() -> None:
    """Behind a sigmoid for each pair of classes: what chooses is the decision, and the score the probability of the label."""
    for classes in (2, 3):
        pairs = len(list(combinations(range(classes), 2)))
        platt = {"prob_a": [-2.0] * pairs, "prob_b": [0.25] * pairs}
        source, decisions = classifier("POLY", classes, **platt)
        compiled = onnxdtd.compile(source, "lrp-epsilon")
        found = Session(compiled)(x=X)
        assert_near(found["logit"], sum(by_class(decisions(X.astype(np.float64)), classes)).max(1), 2e-6)
        assert read_metadata(compiled)["score_output"] == "scores"
        assert found["scores"].shape == (len(X), classes)
    with pytest.raises(Unsupported, match="support vector machines of this kind"):
        onnxdtd.compile(classifier("POLY", 2, [node("Mul", "scores scores", "y")], prob_a=[-1.0], prob_b=[0.0])[0], output="y")


def test_pairs_are_no_scores_of_classes() -> None:
    assert read_metadata(onnxdtd.compile(classifier("RBF", 3)[0]))["score_output"] is None


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"kernel_type": "RBF", "rho": [1.0], "coefficients": [1.0, 0.5]}, "support vector machines of this kind"),
        ({"kernel_type": "LINEAR", "post_transform": "LOGISTIC"}, "support vector machines of this kind"),
        ({"kernel_type": "LINEAR", "coefficients": [1.0, 2.0, 3.0]}, "3 coefficients"),
        ({"kernel_type": "LINEAR", "support_vectors": [1.0, 2.0, 3.0]}, "3 numbers for 2 support vectors"),
        ({"kernel_type": "LINEAR", "support_vectors": [1.0, 2.0, 3.0, 4.0]}, "rows of 2 features are wanted"),
    ],
)
def test_refusals(attrs: dict[str, Any], message: str) -> None:
    plain = {"n_supports": 2, "rho": [0.5], "coefficients": [1.0, -2.0], "support_vectors": numbers(2, FEATURES)}
    source = machine("SVMRegressor", "y", [TensorProto.FLOAT], **{**plain, **attrs})
    with pytest.raises((Unsupported, ModelError), match=message):
        onnxdtd.compile(source, "lrp-epsilon")


def test_one_class_has_two_sides() -> None:
    """The sign tells what is outside; that is explained by its distances, all of it."""
    u, weights = numbers(5, FEATURES) / 2, np.full(5, 0.5)
    attrs = {"n_supports": 5, "kernel_type": "RBF", "rho": [-0.75], "coefficients": weights, "support_vectors": u}
    for own, after in ((1, []), (0, [node("Sign", "y", "label")])):
        source = machine("SVMRegressor", "y", [TensorProto.FLOAT], after, one_class=own, **attrs)
        found = Session(onnxdtd.compile(source, "dtd"))(x=X)
        decided = KERNELS["RBF"](X.astype(np.float64), u) @ weights - 0.75
        assert_near(found["logit"], np.abs(decided), 1e-6)
        outside = decided < 0
        assert outside.any()
        assert not outside.all()
        assert_near(found["relevance"][outside].sum(1), -decided[outside], 1e-5)
        k = KERNELS["RBF"](X.astype(np.float64), u)
        shares = (k[:, :, None] * (X[:, None] - u) ** 2).sum(1)
        expected = shares / shares.sum(1, keepdims=True) * -decided[:, None]
        assert_near(found["relevance"][outside], expected[outside], 1e-5)
        assert read_metadata(onnxdtd.compile(source))["labels"] == (None if own else [-1, 1])
