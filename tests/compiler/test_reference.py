"""A quantity less a number: the file with one logit whose last bias is b − y₀, explained above and below 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import assert_near, model, node, run

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.request import Request
from onnxdtd.study.explain import explain

REFERENCE = 0.75
RNG = np.random.default_rng(0)
V, C, W, B = (RNG.normal(size=size).astype(np.float32) for size in ((4, 6), (6,), (6, 2), (2,)))
X = RNG.normal(size=(8, 4)).astype(np.float32)


def regression(outputs: int, less: float = 0.0, end: str = "Reshape") -> onnx.ModelProto:
    """Two layers, and what scikit-learn's MLPRegressor ends with, or the sigmoid of a classifier."""
    behind = {"Reshape": node("Reshape", "z rows", "y"), "Sigmoid": node("Sigmoid", "z", "y")}[end]
    nodes = [node("Gemm", "x v c", "h"), node("Relu", "h", "t"), node("MatMul", "t w", "m"), node("Add", "m b", "z"), behind]
    weights = {"v": V, "c": C, "w": W[:, :outputs], "b": B[:outputs] - np.float32(less), "rows": np.array([-1, outputs])}
    return model(nodes, {"x": ["n", 4]}, ["y"], weights)


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "lrp-gamma", "lrp-alpha2beta1", "gradient"])
def test_it_is_the_neuron_with_the_bias_less_the_reference(preset: str) -> None:
    """Where f(x) is below, minus the relevance of the twin y₀ − f(x), whose class 0 a sigmoid would choose."""
    compiled = onnxdtd.compile(regression(1), preset, reference=REFERENCE)
    found, twin = run(compiled, x=X), run(onnxdtd.compile(regression(1, REFERENCE, "Sigmoid"), preset), x=X)
    assert_near(found["logit"], found["y"][:, 0] - REFERENCE, 1e-6)
    sign = np.sign(found["logit"])
    assert set(sign) == {-1.0, 1.0}
    assert_near(found["relevance"], sign[:, None] * twin["relevance"], 1e-6)


def test_one_of_several_quantities() -> None:
    for target in (0, 1):
        compiled = onnxdtd.compile(regression(2), "lrp-epsilon", reference=REFERENCE, target=target)
        found = run(compiled, x=X)
        assert_near(found["logit"], found["y"][:, target] - REFERENCE, 1e-6)
        active = np.maximum(X @ V + C, 0)
        assert_near(found["relevance"], X * ((active > 0) * W[:, target] @ V.T), 1e-4)  # x ∂f/∂x of a piecewise linear f
        assert read_metadata(compiled)["reference"] == REFERENCE


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (regression(1, 0, "Sigmoid"), {}, "before Sigmoid is a score of classes"),
        (regression(2), {}, "2 entries; choose one by its index"),
        (regression(2), {"target": "score"}, "2 entries; choose one by its index"),
        (regression(2), {"target": 0, "contrast": True}, "leave out --contrast"),
        (regression(1), {"reference": "high"}, "give a number"),
        (regression(1), {"reference": float("nan")}, "give a number"),
    ],
)
def test_refusals(net: onnx.ModelProto, options: dict[str, object], message: str) -> None:
    with pytest.raises(onnxdtd.RequestError, match=message):
        onnxdtd.compile(net, **{"reference": 0.0, **options})


def test_there_is_no_class_where_there_is_a_quantity(tmp_path: Path) -> None:
    """Neither in tables and pictures, nor in what is said of all of them."""
    onnx.save(regression(1), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", X)
    request = Request(reference=REFERENCE, preset="lrp-epsilon")
    explained = explain(tmp_path / "net.onnx", [tmp_path / "x.npy"], request, tmp_path / "out")
    assert {(r.predicted_label, r.target_label) for r in explained.results} == {("output", "output")}
    below = sum(r.logit < 0 for r in explained.results)
    assert any(remark.startswith(f"{below} of 8 outputs are below 0.75") for remark in explained.remarks)
    assert not any("class" in remark for remark in explained.remarks)
