"""A relevance model in the place of a layer gives what its equations say, in float64 and with loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import oracle
import pytest
from nets import eighths, model, node

import onnxdtd
from onnxdtd.compiler.addition import addition
from onnxdtd.compiler.compile import planned
from onnxdtd.compiler.fitted import Fitted
from onnxdtd.compiler.minmax import RelevanceModel, spots
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Explainer, Explanation

RNG = np.random.default_rng(15)
UNITS = 2
SAID = {"preset": "", "target": "argmax", "samples": 0, "seed": 0, "layers": {}}
DENSE = [
    node("Flatten", "x", "f"),
    node("MatMul", "f w", "m"),
    node("Add", "m b", "z"),
    node("Relu", "z", "h"),
    node("MatMul", "h top", "y"),
]
SLID = [
    node("Conv", "x k c", "z", pads=[1, 0, 1, 0]),
    node("Relu", "z", "h"),
    node("MaxPool", "h", "p", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
    node("Conv", "p k2", "q", strides=[2, 1], pads=[0, 1, 1, 0]),
    node("Relu", "q", "r"),
    node("Flatten", "r", "f"),
    node("MatMul", "f top", "y"),
]


def dense() -> onnx.ModelProto:
    """6 inputs, 4 neurons with biases <= 0, 3 scores that add up all of them: R is h of those with a positive sum."""
    weights = {"w": eighths(RNG, 6, 4) + 1, "b": -np.abs(eighths(RNG, 4)), "top": np.abs(eighths(RNG, 4, 3))}
    return model(DENSE, {"x": ["n", 6]}, ["y"], weights)


def slid() -> onnx.ModelProto:
    """A convolution with a pool behind it that overlaps, and another convolution."""
    weights = {"k": eighths(RNG, 3, 2, 3, 2), "c": eighths(RNG, 3), "k2": eighths(RNG, 4, 3, 2, 2), "top": eighths(RNG, 32, 3)}
    return model(SLID, {"x": ["n", 2, 8, 9]}, ["y"], weights)


def drawn(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


def preset(tmp_path: Path, rule: str, fit: str = "min-max", name: str = "*") -> str:
    """One that asks for a relevance model of the first layer."""
    entry = f'{{ first = true, name = "{name}", rule = "{rule}", fit = "{fit}" }}'
    (tmp_path / "own.toml").write_text(f'[preset.own]\nlayers = [{entry}, {{ rule = "z+" }}]\n')
    return str(tmp_path / "own.toml")


def explained(
    proto: onnx.ModelProto, x: np.ndarray, made: RelevanceModel, keep: Sequence[str] = (), **request: Any
) -> Explanation:
    """With a relevance model of the only layer that asks for one."""
    job = planned(proto, Request(keep=keep, ledger=True, **request))
    (spot,) = spots(job.plan)
    added = addition(replace(job, fitted=Fitted({spot.step.name: made}, SAID)))
    copy = onnx.ModelProto()
    copy.CopyFrom(job.source.proto)
    return Explainer(added.append_to(copy))(x)


def rules(rule: str, x: np.ndarray, v: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of the oracle, for one sample; bounds are -2 and 2."""
    nothing = np.zeros(len(y))
    if rule == "zB":
        return oracle.z_box(x, v, nothing, y, low=np.full(len(x), -2.0), high=np.full(len(x), 2.0))
    return {"w2": oracle.w2, "z+": oracle.z_plus}[rule](x, v, nothing, y)


@pytest.mark.parametrize("rule", ["w2", "zB", "z+"])
def test_a_dense_layer(rule: str, tmp_path: Path) -> None:
    """y = max(0, x v + a), a = min(0, R u + d), and R_i by the rule on v."""
    x = eighths(RNG, 5, 6)
    x = np.abs(x) if rule == "z+" else x
    made = RelevanceModel(UNITS, drawn(6, 8), drawn(8), (drawn(3, 8),))
    found = explained(dense(), x, made, ["h", "y"], preset=preset(tmp_path, rule), low=-2, high=2)
    for i in range(len(x)):
        above = found.kept["y"][i].astype(np.float64)
        y = np.maximum(x[i] @ made.v.astype(np.float64) + np.minimum(above @ made.above[0] + made.d, 0), 0)
        np.testing.assert_allclose(found.relevance["x"][i], rules(rule, x[i], made.v, y), rtol=1e-5, atol=1e-6)
        misfit = found.kept["h"][i].sum() - y.sum()
        assert found.ledger is not None
        assert found.ledger["misfit"][i].sum() == pytest.approx(misfit, rel=1e-5, abs=1e-5)


def by_loops(x: np.ndarray, r: np.ndarray, made: RelevanceModel) -> tuple[np.ndarray, np.ndarray]:
    """y [channels, 4, 4] of one sample of ``slid``, and what its units see of x as a matrix [inputs, y]: a window of 5 by 3 of
    step 2 and padding 2 and 0, below a convolution of 2 by 2 of step 2, 1 and padding 0, 1 in front.
    """
    v, (u,), many = made.v.astype(np.float64), made.above, len(made.d)
    y, seen = np.zeros((many, 4, 4)), np.zeros((*x.shape, many, 4, 4))
    for j, p, q in np.ndindex(y.shape):
        for c, a, b in np.ndindex(v.shape[1:]):
            row, column = 2 * p - 2 + a, 2 * q + b
            if 0 <= row < x.shape[1] and column < x.shape[2]:
                seen[c, row, column, j, p, q] = v[j, c, a, b]
        bias = float(made.d[j])
        for out, a, b in np.ndindex(len(u), 2, 2):  # the output at (s, t) reads p = 2 s + a, q = t - 1 + b
            s, t = (p - a) / 2, q + 1 - b
            if s == int(s) and 0 <= s < r.shape[1] and 0 <= t < r.shape[2]:
                bias += float(r[out, int(s), t]) * float(u[out, j, a, b])
        y[j, p, q] = max(0, float((seen[..., j, p, q] * x).sum()) + min(0, bias))
    return y, seen.reshape(x.size, -1)


def test_a_convolution_with_its_pool_below_another(tmp_path: Path) -> None:
    """They are one convolution, with the window of both."""
    x, proto = eighths(RNG, 2, 2, 8, 9), slid()
    made = RelevanceModel(UNITS, drawn(6, 2, 5, 3), drawn(6), (drawn(4, 6, 2, 2),))
    found = explained(proto, x, made, ["q", "p"], preset=preset(tmp_path, "w2"))
    for i in range(len(x)):
        y, v = by_loops(x[i], found.kept["q"][i], made)
        want = rules("w2", x[i].ravel(), v, y.ravel()).reshape(x[i].shape)
        np.testing.assert_allclose(found.relevance["x"][i], want, rtol=1e-4, atol=1e-5)
        assert found.ledger is not None
        assert found.ledger["misfit"][i].sum() == pytest.approx(found.kept["p"][i].sum() - y.sum(), rel=1e-5, abs=1e-4)


def itself(proto: onnx.ModelProto) -> RelevanceModel:
    """The layer as its own relevance model: v = w, a = b."""
    w, b = (onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name in "wb")
    return RelevanceModel(1, w, b, (np.zeros((3, 4), np.float32),))


@pytest.mark.parametrize("fit", ["min-max", "min-max scaled"])
def test_the_layer_itself_for_a_model_is_the_rule_itself(fit: str, tmp_path: Path) -> None:
    """Scaled to R whatever that is; else where R is the activity, as below a score of weights 1."""
    proto, x = dense(), np.abs(eighths(RNG, 6, 6))
    if fit == "min-max":
        top = next(t for t in proto.graph.initializer if t.name == "top")
        top.CopyFrom(onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "top"))
    found = explained(proto, x, itself(proto), preset=preset(tmp_path, "z+", fit), target=1)
    want = onnxdtd.Explainer(onnxdtd.compile(proto, "dtd", settings="m_node=z+", target=1))(x)
    np.testing.assert_allclose(found.relevance["x"], want.relevance["x"], rtol=1e-6, atol=1e-6)
    assert found.ledger is not None
    assert want.relevance["x"].any()
    np.testing.assert_allclose(found.ledger["misfit"], 0, atol=1e-6)


def test_a_scaled_model_conserves(tmp_path: Path) -> None:
    """The units of a neuron share out its relevance; what no unit tells is lost, and said."""
    x = np.abs(eighths(RNG, 8, 6)) + 0.125
    v = drawn(6, 8)
    v[:, 2:4] = -1  # of the second neuron, which is never told
    made = RelevanceModel(UNITS, v, drawn(8), (drawn(3, 8),))
    found = explained(dense(), x, made, ["h", "y"], preset=preset(tmp_path, "w2", "min-max scaled"))
    assert found.ledger is not None
    totals = found.ledger.totals()
    np.testing.assert_allclose(totals["relevance"] + totals["dead"], totals["logit"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.relevance["x"].sum(axis=1), totals["relevance"], rtol=1e-5, atol=1e-6)
    told = np.maximum(x @ v + np.minimum(found.kept["y"] @ made.above[0] + made.d, 0), 0).reshape(8, 4, UNITS).sum(axis=2)
    untold = np.where(told == 0, found.kept["h"], 0).sum(axis=1)
    np.testing.assert_allclose(totals["dead"], untold, rtol=1e-5, atol=1e-6)
    assert 0 < totals["dead"].min() < totals["relevance"].max()
    assert (found.relevance["x"] >= 0).all()


GROUPED = [
    node("MatMul", "x w", "z"),
    node("Relu", "z", "h"),
    node("Reshape", "h to", "g"),
    node("ReduceSum", "g last", "p", keepdims=0),
    node("MatMul", "p top", "y"),
]


def test_neurons_that_are_summed_are_one() -> None:
    """The detection and pooling layers of the paper; the model has units of its own."""
    weights = {"w": eighths(RNG, 5, 6), "to": np.array([-1, 3, 2]), "last": np.array([2]), "top": eighths(RNG, 3, 2)}
    (spot,) = spots(planned(model(GROUPED, {"x": ["n", 5]}, ["y"], weights), Request(preset="dtd-minmax")).plan)
    assert (spot.k.name, spot.size, [t.name for t in spot.inner]) == ("p", 3, ["z", "h", "g"])
    assert spot.shapes(4) == ((5, 12), [(2, 12)])


def refused(nodes: Sequence[onnx.NodeProto], inputs: dict[str, Any], weights: dict[str, np.ndarray]) -> str:
    with pytest.raises(ModelError) as raised:
        spots(planned(model(nodes, inputs, ["y"], weights), Request(preset="dtd-minmax")).plan)
    return str(raised.value)


def test_layers_that_cannot_have_one_are_named() -> None:
    """The top layer, groups of channels."""
    alone = [node("MatMul", "x w", "y")]
    assert refused(alone, {"x": ["n", 3]}, {"w": eighths(RNG, 3, 2)}).startswith(
        "'y_node' (MatMul) cannot have a relevance model, since no convolution or dense layer is above 'y'"
    )
    apart = [node("Conv", "x k", "z", group=2), node("Relu", "z", "h"), node("Flatten", "h", "f"), node("MatMul", "f w", "y")]
    weights = {"k": eighths(RNG, 2, 1, 2, 2), "w": eighths(RNG, 8, 2)}
    assert "since it has groups of channels; give it a rule without one, with --set 'z_node=z+'" in refused(
        apart, {"x": ["n", 2, 3, 3]}, weights
    )


def test_what_is_within_a_model_has_no_relevance(tmp_path: Path) -> None:
    made = RelevanceModel(UNITS, drawn(6, 2, 5, 3), drawn(6), (drawn(4, 6, 2, 2),))
    own = preset(tmp_path, "w2")
    with pytest.raises(RequestError, match=r"--keep 'h': has no relevance of its own, .* keep 'p' or 'x'"):
        explained(slid(), eighths(RNG, 1, 2, 8, 9), made, ["h"], preset=own)
    with pytest.raises(RequestError, match="--mask 'p': relevance models"):
        explained(slid(), eighths(RNG, 1, 2, 8, 9), made, preset=own, mask=["p"])
    with pytest.raises(RequestError, match="looks at the relevance of 'y', which is not there: explain one class"):
        explained(dense(), eighths(RNG, 1, 6), itself(dense()), preset=own, contrast=True)
