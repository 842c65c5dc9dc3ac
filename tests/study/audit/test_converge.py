"""Injected relevance is pushed down as any other; what it converges to is known for some nets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node

import onnxdtd
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.errors import RequestError
from onnxdtd.request import Request
from onnxdtd.study.audit.converge import convergence, inputs_below, measure, median_of_random, mixes, pairwise, spread
from onnxdtd.study.audit.measurement import Task

MODELS = Path(__file__).resolve().parents[3] / "models"
SAMPLES = np.load(MODELS / "digits_samples.npz")["image"].astype(np.float32)
RNG = np.random.default_rng(3)


def chain(width: int, matrices: list[np.ndarray], relu: bool = True, batch: int | str = "n") -> onnx.ModelProto:
    """Dense layers without biases, m0 to the last, with or without a Relu between."""
    nodes, weights, source = [], {}, "x"
    for i, matrix in enumerate(matrices):
        result = "y" if i == len(matrices) - 1 else f"m{i}"
        nodes.append(node("MatMul", f"{source} w{i}", result))
        weights[f"w{i}"] = matrix.astype(np.float32)
        source = result
        if relu and result != "y":
            nodes.append(node("Relu", result, f"r{i}"))
            source = f"r{i}"
    return model(nodes, {"x": [batch, width]}, ["y"], weights)


# ---- Injection -------------------------------------------------------------------------------------------------------


def branching(batch: int | str = "n") -> onnx.ModelProto:
    nodes = [
        node("Conv", "x w b", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "h"),
        node("Conv", "h u", "c", pads=[1, 1, 1, 1]),
        node("Add", "c h", "s"),
        node("Relu", "s", "r"),
        node("Conv", "r t", "d"),
        node("Relu", "d", "p"),
        node("GlobalAveragePool", "p", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f v", "y"),
    ]
    weights = {"w": eighths(RNG, 4, 2, 3, 3), "b": eighths(RNG, 4), "u": eighths(RNG, 4, 4, 3, 3)}
    weights |= {"t": eighths(RNG, 5, 4, 1, 1), "v": eighths(RNG, 5, 3)}
    return model(nodes, {"x": [batch, 2, 5, 5]}, ["y"], weights)


BRANCHING = branching()
XS = eighths(RNG, 3, 2, 5, 5)


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "lrp-gamma", "gradient-x-input"])
@pytest.mark.parametrize("name", ["y", "d", "s"])
def test_the_relevance_that_was_there_gives_that_below(name: str, preset: str) -> None:
    plain = onnxdtd.Explainer(onnxdtd.compile(BRANCHING, preset, keep=[name]))(XS)
    injecting = onnxdtd.Explainer(build(prepare(BRANCHING, Request(preset=preset)), inject=name))
    again = injecting({"x": XS, f"injected/{name}": plain.kept[name]})
    assert np.abs(plain.relevance["x"]).max() > 0
    assert_near(again.relevance["x"], plain.relevance["x"], 2e-6)


def test_nothing_above_counts() -> None:
    """What is injected at s goes through one Relu, one sum and two convolutions; tensors above it get nothing."""
    injecting = onnxdtd.Explainer(build(prepare(BRANCHING, Request(preset="lrp-epsilon", keep=["d", "s"])), inject="s"))
    given = RNG.normal(size=(3, 4, 5, 5)).astype(np.float32)
    found = injecting({"x": XS, "injected/s": given})
    assert not found.kept["d"].any()
    assert np.array_equal(found.kept["s"], given)


def test_relevance_of_neurons_that_are_off_is_pushed_down_too() -> None:
    """LRP-0 at y = -3: x w / y; the Relu behind, which gives 0 there, must not stand in for y."""
    proto = chain(2, [np.asarray([[1.0], [-2.0]]), np.ones((1, 1))])
    x = np.asarray([[1, 2]], np.float32)
    for name in ("m0", "r0"):
        injecting = onnxdtd.Explainer(build(prepare(proto, Request(preset="lrp-0")), inject=name))
        found = injecting({"x": x, f"injected/{name}": np.asarray([[6]], np.float32)})
        assert found.relevance["x"].tolist() == [[-2, 8]]


def test_only_what_a_step_gives_takes_an_injection() -> None:
    for name in ("x", "w", "nowhere"):
        with pytest.raises(RequestError, match=f"'{name}': no step gives it"):
            build(prepare(BRANCHING, Request()), inject=name)


# ---- Convergence -----------------------------------------------------------------------------------------------------


def test_a_layer_of_rank_1_leaves_one_direction() -> None:
    outer = np.outer(RNG.normal(size=6), RNG.normal(size=5))
    proto = chain(6, [outer, RNG.normal(size=(5, 3))], relu=False)
    (top, bottom) = convergence(proto, Request(preset="gradient"), RNG.normal(size=(4, 6)).astype(np.float32))
    assert (top["start"], bottom["start"]) == ("y_node", "m0_node")
    assert [row["layer"] for row in top["layers"]] == ["y_node", "m0_node"]
    assert top["layers"][0]["cosine"] < 0.9
    for found in (top["layers"][1], bottom["layers"][0]):
        assert found["cosine"] == pytest.approx(1, abs=1e-6)


def test_an_orthogonal_layer_keeps_random_random() -> None:
    width = 10
    matrix = np.linalg.qr(RNG.normal(size=(width, width)))[0]
    (row,) = convergence(chain(width, [matrix]), Request(preset="gradient"), np.ones((300, width), np.float32))
    assert row["layers"][0]["random"] == median_of_random(width)
    assert row["layers"][0]["cosine"] == pytest.approx(median_of_random(width), rel=0.05)


def test_deep_taylor_converges_where_the_gradient_does_not() -> None:
    proto = chain(24, [RNG.normal(size=(24, 24)) for _ in range(6)])
    x = np.abs(RNG.normal(size=(10, 24))).astype(np.float32)
    cosines = {p: [r["cosine"] for r in convergence(proto, Request(preset=p), x)[0]["layers"]] for p in ("dtd", "gradient")}
    assert cosines["dtd"] == sorted(cosines["dtd"])
    assert cosines["dtd"][-1] > 0.999
    assert cosines["gradient"][-1] < 0.8


def test_median_of_random_vectors() -> None:
    assert median_of_random(1) == 1
    assert median_of_random(2) == pytest.approx(np.cos(np.pi / 4))
    a, b = RNG.normal(size=(2, 200_000, 7))
    found = np.abs((a * b).sum(axis=1)) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert median_of_random(7) == pytest.approx(np.median(found), rel=0.01)


def test_pairs_by_position_without_dead_ones() -> None:
    vectors = np.asarray([[[[1, 0], [0, 0], [3, 4]]], [[[-2, 0], [1, 1], [4, 3]]], [[[0, 5], [1, 1], [0, 1]]]], np.float64)
    found = pairwise(vectors, np.random.default_rng(0))
    expected = [1, 24 / 25, 0, 4 / 5, 0, 1, 3 / 5]  # pairs 01, 02 and 12, the second position of the first draw is dead
    assert found.tolist() == pytest.approx(expected)


def test_along_the_channels_of_a_convolution() -> None:
    """Two channels of one kernel: at every position all relevance is a multiple of one vector, but not over all positions."""
    kernel = eighths(RNG, 1, 9, 1, 1)
    flat = [node("Conv", "x w", "c"), node("Flatten", "c", "y")]
    proto = model(flat, {"x": ["n", 9, 2, 2]}, ["y"], {"w": np.concatenate([kernel, -2 * kernel])})
    (row,) = convergence(proto, Request(preset="gradient"), np.ones((2, 9, 2, 2), np.float32))
    expected = {"layer": "c_node", "cosine": pytest.approx(1), "random": median_of_random(8), "positions": 4}
    assert row == {"start": "c_node", "layers": [expected]}, "of 8 numbers injected, 9 come"


def test_one_output_is_no_start() -> None:
    """All that could be injected there is a multiple of one number."""
    proto = chain(6, [RNG.normal(size=(6, 5)), RNG.normal(size=(5, 1))])
    assert [row["start"] for row in convergence(proto, Request(preset="gradient"), np.ones((2, 6), np.float32))] == ["m0_node"]
    single = model(
        [node("Conv", "x w", "c"), node("Flatten", "c", "y")], {"x": ["n", 3, 2, 2]}, ["y"], {"w": eighths(RNG, 1, 3, 1, 1)}
    )
    assert convergence(single, Request(preset="gradient"), np.ones((2, 3, 2, 2), np.float32)) == []


def test_few_outputs_agree_by_chance() -> None:
    """Orthogonal rows keep two random numbers random: their median |cos| is that of two entries, however many come out."""
    matrix = np.linalg.qr(RNG.normal(size=(30, 30)))[0][:, :2]
    (row,) = convergence(chain(30, [matrix]), Request(preset="gradient"), np.ones((300, 30), np.float32))
    assert row["layers"][0]["random"] == median_of_random(2)
    assert row["layers"][0]["cosine"] == pytest.approx(median_of_random(2), rel=0.05)


def test_no_relevance_at_all_has_no_cosine() -> None:
    proto = chain(3, [np.zeros((3, 2))])
    (row,) = convergence(proto, Request(preset="gradient"), np.ones((2, 3), np.float32))
    assert row["layers"][0]["cosine"] is None


def test_layers_within_the_neuron_of_one_logit() -> None:
    """Where a sum of two of them gives the logit of two classes, its neuron takes their place; those below it are measured."""
    nodes = [
        node("MatMul", "x v", "h"),
        node("Relu", "h", "r"),
        node("MatMul", "r a", "s"),
        node("MatMul", "x b", "t"),
        node("Add", "s t", "z"),
        node("Sigmoid", "z", "y"),
    ]
    weights = {"v": eighths(RNG, 5, 4), "a": eighths(RNG, 4, 1), "b": eighths(RNG, 5, 1)}
    net = model(nodes, {"x": ["n", 5]}, ["y"], weights)
    found = convergence(net, Request(preset="dtd"), eighths(RNG, 6, 5).astype(np.float32))
    assert [row["start"] for row in found] == ["h_node"]


def test_several_inputs() -> None:
    nodes = [node("Concat", "a b", "j", axis=1), node("MatMul", "j w", "y")]
    proto = model(nodes, {"a": ["n", 2], "b": ["n", 3]}, ["y"], {"w": np.ones((5, 2), np.float32)})
    (row,) = convergence(
        proto, Request(preset="gradient"), {"a": np.ones((3, 2), np.float32), "b": np.ones((3, 3), np.float32)}
    )
    expected = {"layer": "y_node", "cosine": pytest.approx(1), "random": median_of_random(2), "positions": 1}
    assert row["layers"] == [expected]
    with pytest.raises(RequestError, match="several inputs"):
        convergence(proto, Request(preset="gradient"), np.ones((3, 2), np.float32))


@pytest.mark.parametrize("preset", ["integrated-gradients", "taylor"])
def test_gradients_at_other_points_are_not_injected_at_the_samples(preset: str) -> None:
    assert convergence(BRANCHING, Request(preset=preset), XS) == []
    study: Any = SimpleNamespace(model=BRANCHING, asked=lambda name: Request(preset=name), inputs=XS, seed=0)
    auditor: Any = SimpleNamespace(study=study)
    assert "other points" in measure(auditor, Task(preset, "convergence")).left_out


def test_where_it_starts() -> None:
    layers = [s for s in prepare(chain(2, [np.ones((2, 2))] * 9), Request(preset="dtd")).plan.steps if mixes(s)]
    assert [layers.index(step) for step in spread(layers)] == [8, 6, 4, 2]
    assert [layers.index(step) for step in spread(layers[:6])] == [5, 4, 3, 2, 1, 0]


def test_what_is_below() -> None:
    plan = prepare(BRANCHING, Request(preset="dtd")).plan
    steps = {step.name: step for step in plan.steps}
    below = lambda name: {t: step.name for t, step in inputs_below(plan, steps[name]).items()}
    assert below("y_node") == {"f": "y_node", "r": "d_node", "h": "c_node", "x": "a_node"}
    assert below("c_node") == {"h": "c_node", "x": "a_node"}


def test_the_batch_makes_no_difference_but_to_the_noise() -> None:
    """As many draws over all samples, whatever the batch: medians of the same distribution."""
    found = []
    for batch in ("n", 1, 4):
        rng = np.random.default_rng(8)
        proto = chain(5, [rng.normal(size=(5, 6)), rng.normal(size=(6, 4))], batch=batch)
        rows = convergence(proto, Request(preset="dtd"), np.abs(rng.normal(size=(30, 5))).astype(np.float32))
        found.append([layer["cosine"] for row in rows for layer in row["layers"]])
    assert found[1] == pytest.approx(found[0], abs=0.1)
    assert found[2] == pytest.approx(found[0], abs=0.1)


@pytest.mark.parametrize("name", ["digits_cnn", "digits_resnet"])
def test_on_a_trained_net(name: str) -> None:
    """Under deep Taylor more is lost from above to below than in the gradient."""
    lowest = {}
    for preset in ("dtd", "gradient"):
        rows = convergence(MODELS / f"{name}.onnx", Request(preset=preset, low=0.0, high=1.0), SAMPLES[:4])
        layers = [layer for layer in rows[0]["layers"] if layer["random"] < 1]
        lowest[preset] = layers[-1]["cosine"]
    assert lowest["dtd"] > 0.9 > lowest["gradient"]
