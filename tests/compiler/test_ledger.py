"""The ledger against sums computed by hand, and the balance of whole nets."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node, run, symbolic

import onnxdtd
from onnxdtd.contract import KEPT
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.runtime.explainer import Ledger

RNG = np.random.default_rng(7)
W1, B1 = eighths(RNG, 6, 5), eighths(RNG, 5)
W2, B2 = eighths(RNG, 5, 3), eighths(RNG, 3)
X = eighths(RNG, 4, 6)
RULES = (
    "dtd",
    "dtd-complete",
    "dtd-z",
    "lrp-epsilon",
    "lrp-gamma",
    "lrp-alpha2beta1",
    "lrp-alpha1beta0",
    "excitation-backprop",
)


def mlp(shape: Any = ("n", 6)) -> onnx.ModelProto:
    nodes = [node("Gemm", "x w1 b1", "a"), node("Relu", "a", "h"), node("Gemm", "h w2 b2", "y")]
    return model(nodes, {"x": shape}, ["y"], {"w1": W1, "b1": B1, "w2": W2, "b2": B2})


def dense(w: np.ndarray, b: np.ndarray) -> onnx.ModelProto:
    return model([node("Gemm", "x w b", "y")], {"x": ["n", len(w)]}, ["y"], {"w": w, "b": b})


def explained(proto: onnx.ModelProto, x: np.ndarray, preset: str, **options: Any) -> tuple[Ledger, np.ndarray]:
    """The ledger and the relevance."""
    result = onnxdtd.Explainer(onnxdtd.compile(proto, preset, ledger=True, **options))(x)
    assert result.ledger is not None
    return result.ledger, next(iter(result.relevance.values()))


def only(ledger: Ledger, step: str) -> dict[str, np.ndarray]:
    """The columns of a step, [batch]."""
    return {name: values[:, ledger.steps.index(step)] for name, values in ledger.columns.items()}


def near(actual: np.ndarray, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)


def test_epsilon_by_hand() -> None:
    """A bias keeps R b / d and the stabiliser R ε sign(z) / d."""
    epsilon, w, b = 0.25, W2, B2
    x = np.abs(eighths(RNG, 4, 5))
    ledger, relevance = explained(dense(w, b), x, "lrp-epsilon", settings=[f"*=epsilon(epsilon={epsilon})"], target=1)
    z = (x.astype(np.float64) @ w + b)[:, 1]
    d = z + np.where(z >= 0, epsilon, -epsilon)
    row = only(ledger, "y_node")
    near(row["in"], z)
    near(row["out"], z * (z - b[1]) / d)
    near(row["bias"], z * b[1] / d)
    near(row["stabiliser"], z * np.where(z >= 0, epsilon, -epsilon) / d)
    near(row["dead"], 0)
    near(row["out"], relevance.sum(axis=1))
    near(row["negative"], np.minimum(relevance, 0).sum(axis=1))


def test_dead_by_hand() -> None:
    """A bias alone keeps the neuron alive: under z+ no input has a share."""
    w, b = np.asarray([[1, -1], [2, -1]], np.float32), np.asarray([0, 4], np.float32)
    nodes = [node("Gemm", "x w b", "a"), node("Relu", "a", "h"), node("MatMul", "h v", "y")]
    proto = model(nodes, {"x": ["n", 2]}, ["y"], {"w": w, "b": b, "v": np.ones((2, 1), np.float32)})
    x = np.ones((1, 2), np.float32)
    ledger, _ = explained(proto, x, "dtd")
    hidden = only(ledger, "a_node")
    near(hidden["in"], 5)  # 3 from the first neuron, 2 from the second
    near(hidden["out"], 5)  # w2 in the first layer: every neuron has weights
    ledger, relevance = explained(proto, x, "excitation-backprop")
    hidden = only(ledger, "a_node")
    near(hidden["dead"], 2)
    near(hidden["out"], 3)
    near(relevance.sum(), 3)
    assert hidden["positive_biases"] == 1
    assert hidden["bias_sum"] == 4


def test_a_rule_behind_takes_what_is_dead() -> None:
    """And what it cannot place either is dead: the last neuron has no weights."""
    w, b = np.asarray([[1, -1, 0], [2, -3, 0]], np.float32), np.asarray([0, 5, 1], np.float32)
    nodes = [node("Gemm", "x w b", "a"), node("Relu", "a", "h"), node("MatMul", "h v", "y")]
    proto = model(nodes, {"x": ["n", 2]}, ["y"], {"w": w, "b": b, "v": np.ones((3, 1), np.float32)})
    x, rule = np.ones((1, 2), np.float32), "a_node=z+ else w2"
    for settings, dead, relevance in (([rule], 1, [1.1, 2.9]), ([f"{rule} else flat"], 0, [1.6, 3.4])):
        ledger, found = explained(proto, x, "dtd", settings=settings)
        near(only(ledger, "a_node")["dead"], dead)
        near(found[0], relevance)  # of 3, 1 and 1: 1 : 2 by z+, 1 : 9 by w2, 1 : 1 by flat
        near(ledger.unaccounted, 0)


def test_alpha_beta_by_hand() -> None:
    """Each branch has its own denominator and its own part of the bias."""
    x = eighths(np.random.default_rng(3), 3, 6)
    ledger, _ = explained(dense(W1, B1), x, "lrp-alpha2beta1", target=2)
    q = x[:, :, None].astype(np.float64) * W1
    plus, minus = np.maximum(q, 0).sum(axis=1)[:, 2], np.minimum(q, 0).sum(axis=1)[:, 2]
    b_plus, b_minus = max(B1[2], 0), min(B1[2], 0)
    z = plus + minus + B1[2]
    row = only(ledger, "y_node")
    near(row["bias"], 2 * z * b_plus / (plus + b_plus) - z * b_minus / (minus + b_minus))
    near(row["in"], z)
    near(ledger.unaccounted, 0)


def test_gamma_gives_nothing_for_an_output_of_zero() -> None:
    """Neither branch is for y = 0; flat above hands relevance to such a neuron."""
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "h"), node("MatMul", "h v", "y")]
    weights = {"w": np.asarray([[1, 1], [-1, 2]], np.float32), "v": np.asarray([[1], [3]], np.float32)}
    proto = model(nodes, {"x": ["n", 2]}, ["y"], weights)
    ledger, relevance = explained(proto, np.ones((1, 2), np.float32), "lrp-gamma", settings=["y_node=flat"])
    row = only(ledger, "a_node")
    near(row["in"], 9)
    near(row["dead"], 4.5)
    near(row["out"], 4.5)
    near(ledger.unaccounted, 0)
    near(relevance.sum(), 4.5)


def test_padding_keeps_what_falls_on_it() -> None:
    """flat gives every entry of a window a share, those of an explicit Pad as well."""
    weights = {"pads": np.asarray([0, 0, 1, 0, 0, 0]), "w": np.ones((2, 1, 3), np.float32)}
    nodes = [node("Relu", "x", "r"), node("Pad", "r pads", "p"), node("Conv", "p w", "c")]
    nodes.append(node("ReduceMean", "c", "y", axes=[2], keepdims=0))
    proto = model(nodes, {"x": [1, 1, 4]}, ["y"], weights)
    x = np.asarray([[[1, 2, 3, 4]]], np.float32)
    ledger, relevance = explained(proto, x, "dtd", settings=["c_node=flat"])
    row = only(ledger, "p_node")
    near(row["constants"], 1 / 3)  # the mean hands 1, 2 and 3 to the windows, and a third of the first is padding
    near(row["in"] - row["out"], 1 / 3)
    near(ledger.totals()["logit"], relevance.sum() + row["constants"])


def test_negative_inputs_and_inputs_outside_are_counted() -> None:
    x = np.asarray([[-2.0, 0.5, 1.5], [0, 0, 0.0]], np.float32)
    proto = dense(np.ones((3, 2), np.float32), np.asarray([1.0, -1.0], np.float32))
    ledger, _ = explained(proto, x, "dtd", low=-1.0, high=1.0)
    row = only(ledger, "y_node")
    assert row["outside"].tolist() == [2, 0]
    assert row["negative_inputs"].tolist() == [1, 0]
    assert row["positive_biases"].tolist() == [1, 1]
    assert row["bias_sum"].tolist() == [1, 1]


def test_positive_biases_are_counted_neuron_by_neuron() -> None:
    """Of a convolution every position is a neuron; a BatchNormalization behind it makes biases of its own."""
    weights = {
        "w": np.ones((2, 1, 2, 2), np.float32),
        "g": np.ones(2, np.float32),
        "b": np.asarray([3, -1], np.float32),
        "m": np.asarray([1, 0], np.float32),
        "v": np.ones(2, np.float32) - np.float32(1e-5),
    }
    nodes = [
        node("Conv", "x w", "c"),
        node("BatchNormalization", "c g b m v", "n"),
        node("Relu", "n", "r"),
        node("GlobalAveragePool", "r", "p"),
        node("Flatten", "p", "y"),
    ]
    ledger, _ = explained(model(nodes, {"x": [1, 1, 4, 4]}, ["y"], weights), np.ones((1, 1, 4, 4), np.float32), "dtd")
    row = only(ledger, "c_node")
    assert row["positive_biases"] == 9
    near(row["bias_sum"], 18)


@pytest.mark.parametrize("preset", RULES)
def test_balance_of_a_net(preset: str) -> None:
    """Σ in = Σ out + what was kept, and each sample has the ledger that it has alone."""
    ledger, relevance = explained(mlp(), X, preset)
    near(ledger.unaccounted, 0)
    totals = ledger.totals()
    logits = run(mlp(), x=X)["y"].max(axis=1)
    near(totals["logit"], logits)
    near(totals["relevance"], relevance.sum(axis=1, dtype=np.float64))
    near(totals["relevance"] + sum(totals[name] for name in KEPT), logits)
    for i in range(len(X)):
        alone, _ = explained(mlp((1, 6)), X[i : i + 1], preset)
        for name in ledger.columns:
            near(ledger[name][i], alone[name][0])


def test_the_balance_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a division, which no preset but a derivative has, nothing is conserved, and the ledger says so."""
    monkeypatch.setattr("onnxdtd.method.toml._check_division", lambda *rules: None)
    ledger, _ = explained(mlp(), X, "dtd", settings=["a_node=gradient"])
    assert np.abs(only(ledger, "a_node")["in"] - only(ledger, "a_node")["out"]).min() > 1e-3
    assert np.abs(ledger.unaccounted).max() > 1e-3


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "lrp-alpha2beta1"])
def test_samples_in_several_rows(preset: str) -> None:
    """Windows and heads: a sample is several rows of an inner tensor, one behind the other."""
    nodes = [
        node("Reshape", "x rows", "r"),
        node("MatMul", "r w", "m"),
        node("Add", "m b", "a"),
        node("Relu", "a", "h"),
        node("Reshape", "h back", "f"),
        node("MatMul", "f v", "y"),
    ]
    weights = {
        "rows": np.asarray([-1, 3]),
        "w": eighths(RNG, 3, 4),
        "b": eighths(RNG, 4),
        "back": np.asarray([-1, 8]),
        "v": eighths(RNG, 8, 3),
    }
    proto = model(nodes, {"x": ["n", 6]}, ["y"], weights)
    together, _ = explained(proto, X, preset)
    for i in range(len(X)):
        alone, _ = explained(proto, X[i : i + 1], preset)
        for name in together.columns:
            near(together[name][i], alone[name][0])


def sequence_first(reduced: int = 1) -> onnx.ModelProto:
    """Between two Transposes the batch is the second axis."""
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("MatMul", "t w", "m"),
        node("Add", "b m", "a"),  # a constant of another rank comes first
        node("Relu", "a", "h"),
        node("Transpose", "h", "u", perm=[1, 0, 2]),
        node("ReduceMean", "u" if reduced == 1 else "h", "p", axes=[reduced], keepdims=0),
        node("MatMul", "p v", "y"),
    ]
    weights = {"w": eighths(RNG, 3, 4), "b": eighths(RNG, 4), "v": eighths(RNG, 4, 3)}
    return model([n for n in nodes if reduced == 1 or n.output[0] != "u"], {"x": ["n", 4, 3]}, ["y"], weights)


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "lrp-alpha2beta1"])
@pytest.mark.parametrize("reduced", [0, 1])
def test_the_batch_is_followed_through_transposes(preset: str, reduced: int) -> None:
    proto, x = sequence_first(reduced), eighths(RNG, 3, 4, 3)
    together, relevance = explained(proto, x, preset)
    near(together.totals()["relevance"], relevance.sum(axis=(1, 2), dtype=np.float64))
    for i in range(len(x)):
        alone, _ = explained(proto, x[i : i + 1], preset)
        for name in together.columns:
            near(together[name][i], alone[name][0])


@pytest.mark.parametrize("positions", [4, "t"])
def test_positions_in_front_of_the_batch_on_one_axis(positions: int | str) -> None:
    """Positions and samples become one axis, positions first."""
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("Reshape", "t rows", "r"),
        node("MatMul", "r w", "m"),
        node("Relu", "m", "h"),
        *([node("Shape", "t", "s", end=2), node("Concat", "s five", "back", axis=0)] if positions == "t" else []),
        node("Reshape", "h back", "u"),
        node("ReduceMean", "u", "p", axes=[0], keepdims=0),
        node("MatMul", "p v", "y"),
    ]
    weights = {"rows": np.asarray([-1, 3]), "w": eighths(RNG, 3, 5), "v": eighths(RNG, 5, 3)}
    weights |= {"back": np.asarray([4, -1, 5])} if positions == 4 else {"five": np.asarray([5])}
    proto, x = model(nodes, {"x": ["n", positions, 3]}, ["y"], weights), eighths(RNG, 3, 4, 3)
    together, relevance = explained(proto, x, "lrp-epsilon")
    near(together.totals()["relevance"], relevance.sum(axis=(1, 2), dtype=np.float64))
    for i in range(len(x)):
        alone, _ = explained(proto, x[i : i + 1], "lrp-epsilon")
        for name in together.columns:
            near(together[name][i], alone[name][0])


def test_an_axis_before_the_batch() -> None:
    nodes = [
        node("Unsqueeze", "x zero", "u"),
        node("MatMul", "u w", "m"),
        node("Relu", "m", "h"),
        node("Squeeze", "h zero", "s"),
    ]
    weights = {"zero": np.asarray([0]), "w": W1, "v": W2}
    proto = model([*nodes, node("MatMul", "s v", "y")], {"x": ["n", 6]}, ["y"], weights)
    ledger, relevance = explained(proto, X, "lrp-epsilon")
    near(ledger.unaccounted, 0)
    near(ledger.totals()["relevance"], relevance.sum(axis=1, dtype=np.float64))


def test_a_batch_that_cannot_be_followed_is_refused() -> None:
    """Positions before the samples and behind them, both of unknown number."""
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2, 3]),
        node("Reshape", "t rows", "r"),
        node("MatMul", "r w", "m"),
        node("Shape", "t", "s", end=3),
        node("Concat", "s five", "back", axis=0),
        node("Reshape", "m back", "u"),
        node("ReduceMean", "u", "p", axes=[0, 2], keepdims=0),
        node("MatMul", "p v", "y"),
    ]
    weights = {"rows": np.asarray([-1, 3]), "five": np.asarray([5]), "w": eighths(RNG, 3, 5), "v": eighths(RNG, 5, 3)}
    proto = model(nodes, {"x": ["n", "a", "b", 3]}, ["y"], weights)
    onnxdtd.compile(proto)
    with pytest.raises(ModelError, match="--ledger: 'm' has samples and several axes of unknown size on axis 0"):
        onnxdtd.compile(proto, ledger=True)
    alone = model(nodes, {"x": [1, 4, 2, 3]}, ["y"], weights)
    ledger, relevance = explained(alone, eighths(RNG, 1, 4, 2, 3), "lrp-epsilon")
    near(ledger.totals()["relevance"], [relevance.sum(dtype=np.float64)])


def test_what_a_node_is_planned_as_has_samples() -> None:
    weights = {"c": np.asarray([2, 3, 1], np.float32), "w": eighths(RNG, 3, 2)}
    proto = model([node("Div", "c x", "h"), node("MatMul", "h w", "y")], {"x": ["n", 3]}, ["y"], weights)
    ledger, _ = explained(proto, np.abs(eighths(RNG, 2, 3)) + 1, "lrp-epsilon")
    near(ledger.unaccounted, 0)


def test_samples_of_several_inputs_have_one_name() -> None:
    nodes = [node("TopK", "x k", "v i"), node("GatherElements", "z i", "y", axis=1)]
    proto = model(nodes, {"x": ["n", 5], "z": ["n", 5]}, ["y"], {"k": np.asarray([3])})
    compiled = onnxdtd.compile(proto, "lrp-epsilon", ledger=True)
    found = onnxdtd.Explainer(compiled)({name: eighths(RNG, 2, 5) for name in "xz"})
    assert found.ledger is not None
    near(found.ledger.unaccounted, 0)


def test_an_input_without_a_batch_is_refused() -> None:
    nodes = [node("MatMul", "x w", "m"), node("MatMul", "z w", "k"), node("Add", "m k", "a"), node("Relu", "a", "h")]
    proto = model([*nodes, node("MatMul", "h v", "y")], {"x": ["n", 6], "z": [1, 6]}, ["y"], {"w": W1, "v": W2})
    onnxdtd.compile(proto)
    with pytest.raises(ModelError, match="the input 'z' has no batch axis"):
        onnxdtd.compile(proto, ledger=True)


def test_a_model_without_batch() -> None:
    nodes = [node("MatMul", "x w", "m"), node("Relu", "m", "h"), node("MatMul", "h v", "y")]
    proto = model(nodes, {"x": [6]}, ["y"], {"w": W1, "v": W2})
    ledger, relevance = explained(proto, X[0], "dtd")
    assert ledger["in"].shape == (1, len(ledger.steps))
    near(ledger.totals()["relevance"], [relevance.sum()])


def test_an_empty_batch() -> None:
    ledger, relevance = explained(mlp(), X[:0], "dtd")
    assert ledger["in"].shape == (0, len(ledger.steps))
    assert relevance.shape == (0, 6)


def test_several_outputs_and_dynamic_pictures() -> None:
    """Split, Concat and unknown height and width."""
    weights = {"w": eighths(RNG, 4, 2, 3, 3), "v": eighths(RNG, 4, 3)}
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Split", "r", "s t", axis=1),
        node("MaxPool", "s", "u", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Concat", "t u", "k", axis=1),
        node("GlobalAveragePool", "k", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "f v", "y"),
    ]
    proto = model(nodes, {"x": symbolic((2, 2, 6, 5))}, ["y"], weights)
    ledger, relevance = explained(proto, eighths(RNG, 2, 2, 6, 5), "dtd")
    near(ledger.unaccounted, 0)
    totals = ledger.totals()
    near(totals["relevance"], relevance.sum(axis=(1, 2, 3), dtype=np.float64))


def test_relevance_is_the_same_with_a_ledger() -> None:
    with_, without = (run(onnxdtd.compile(mlp(), ledger=ledger), x=X)["relevance"] for ledger in (True, False))
    assert with_.tobytes() == without.tobytes()


def test_without_a_ledger_there_is_none() -> None:
    compiled = onnxdtd.compile(mlp())
    assert [o.name for o in compiled.graph.output] == ["y", "relevance", "logit"]
    assert onnxdtd.Explainer(compiled)(X).ledger is None


@pytest.mark.parametrize("preset", ["gradient", "gradient-x-input", "sensitivity"])
def test_a_derivative_has_no_ledger(preset: str) -> None:
    with pytest.raises(RequestError, match="of which nothing is conserved; leave it out, or choose a preset of the method lrp"):
        onnxdtd.compile(mlp(), preset, ledger=True)


def test_name_is_taken() -> None:
    proto = model([node("Gemm", "ledger w1 b1", "y")], {"ledger": ["n", 6]}, ["y"], {"w1": W1, "b1": B1})
    with pytest.raises(ModelError, match="'ledger' already, the name of an output of ours"):
        onnxdtd.compile(proto, ledger=True)


def test_half_precision_is_summed_in_double() -> None:
    nodes = [node("Gemm", "x w b", "a"), node("Relu", "a", "y")]
    half = np.dtype(np.float16)
    proto = model(nodes, {"x": ["n", 6]}, ["y"], {"w": W1.astype(half), "b": B1.astype(half)}, dtype=half)
    ledger, _ = explained(proto, X.astype(half), "lrp-epsilon")
    assert ledger["in"].dtype == np.float64
    near(ledger.unaccounted, 0)
