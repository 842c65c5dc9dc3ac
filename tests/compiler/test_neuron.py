"""The score is a layer: a file with one logit and its twin with −z and z, a contrast and the model whose last layer is it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import hypothesis.strategies as st
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from nets import assert_near, model, node, run
from pairs import in_turn

import onnxdtd
from onnxdtd.method.toml import Library

UNSERVED = ("epsilon-gamma-box", "grad-cam", "dtd-minmax")  # need bounds, a map, a fit
PRESETS = [name for name in Library().presets if name not in UNSERVED]
SOME = ["dtd", "lrp-epsilon", "lrp-gamma", "lrp-alpha2beta1", "epsilon-plus-flat", "gradient"]
Weights = dict[str, np.ndarray]
Nodes = Sequence[onnx.NodeProto]

# Heads: the nodes from the features t to the logits z; the weights from a matrix [features, logits] and a bias [logits].


def filters(w: np.ndarray, b: np.ndarray, side: int) -> Weights:
    """As a convolution whose taps differ."""
    taps = 1 + np.arange(side**2).reshape(1, 1, side, side) / 4
    return {"w": (w.T[:, :, None, None] * taps * (-1) ** np.arange(side)).astype(np.float32), "b": b}


def pooled(side: int, *behind: str, **attrs: object) -> Callable[[np.ndarray, np.ndarray], tuple[Nodes, Weights]]:
    """A convolution and what makes [batch, logits] of its map."""
    chain = [node("Conv", "t w b", "m", **attrs), *(node(*line.split("|")) for line in behind)]

    def head(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
        return chain, filters(w, b, side)

    return head


def reduced(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """As exporters of NHWC models write it: a product over the last axis, a bias, a mean over positions."""
    nodes = [node("Transpose", "t", "h", perm=[0, 2, 3, 1]), node("MatMul", "h w", "m"), node("Add", "m b", "biased")]
    return [*nodes, node("ReduceMean", "biased", "z", axes=[1, 2], keepdims=0)], {"w": w, "b": b}


def shifted(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """A bias behind the pool, average pooling by windows as large as the map."""
    nodes = [node("Conv", "t w", "m", pads=[1, 1, 1, 1]), node("AveragePool", "m", "p", kernel_shape=[4, 4])]
    return [*nodes, node("Flatten", "p", "f"), node("Add", "f b", "z")], filters(w, b, 3)


def moved(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """A map whose positions are laid out anew before they are averaged."""
    nodes = [node("Conv", "t w b", "m"), node("Reshape", "m rows", "r"), node("Transpose", "r", "turned", perm=[0, 2, 1])]
    made = filters(w, b, 1) | {"rows": np.array([0, w.shape[1], -1])}
    return [*nodes, node("ReduceMean", "turned", "z", axes=[1], keepdims=0)], made


def twice(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """Two maps added, and averaged in three steps."""
    nodes = [node("Conv", "t w b", "one", pads=[1, 1, 1, 1]), node("Conv", "t v", "two"), node("Sub", "one two", "m")]
    nodes += [node("AveragePool", "m", "some", kernel_shape=[2, 2], strides=[1, 2])]
    nodes += [node("ReduceMean", "some", "rows", axes=[2], keepdims=0), node("ReduceMean", "rows", "z", axes=[2], keepdims=0)]
    return nodes, filters(w, b, 3) | {"v": filters(w[::-1], b, 1)["w"]}


def enlarged(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    nodes = [node("Conv", "t w b", "m"), node("Resize", "m _ scales", "large", mode="linear")]
    nodes += [node("GlobalAveragePool", "large", "p"), node("Flatten", "p", "z")]
    return nodes, filters(w, b, 1) | {"scales": np.array([1, 1, 2, 2], np.float32)}


def listed(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """Rows and columns of a map with channels last become one axis."""
    nodes = [node("Transpose", "t", "h", perm=[0, 2, 3, 1]), node("MatMul", "h w", "m"), node("Add", "m b", "biased")]
    nodes += [node("Reshape", "biased list", "l"), node("ReduceMean", "l", "z", axes=[1], keepdims=0)]
    return nodes, {"w": w, "b": b, "list": np.array([0, -1, w.shape[1]])}


def framed(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """A part of a map, with a frame, is averaged."""
    nodes = [node("Conv", "t w b", "m"), node("Slice", "m starts ends axes", "part"), node("Pad", "part pads", "large")]
    made = {
        name: np.array(of)
        for name, of in (("starts", [1, 0]), ("ends", [4, 2]), ("axes", [2, 3]), ("pads", [0, 0, 1, 0, 0, 0, 0, 1]))
    }
    return [*nodes, node("GlobalAveragePool", "large", "p"), node("Reshape", "p rows", "z")], filters(w, b, 1) | made | {
        "rows": np.array([-1, w.shape[1]])
    }


def contracted(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    nodes = [node("Einsum", "t w", "m", equation="bchw,ck->bkhw"), node("GlobalAveragePool", "m", "p")]
    return [*nodes, node("Flatten", "p", "f"), node("Add", "f b", "z")], {"w": w, "b": b}


def from_the_left(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    nodes = [node("Reshape", "t rows", "r"), node("MatMul", "w r", "m"), node("Add", "m b", "biased")]
    made = {"rows": np.array([0, 5, 16]), "w": w.T.copy(), "b": b[:, None]}
    return [*nodes, node("ReduceMean", "biased", "z", axes=[2], keepdims=0)], made


def attended(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """Scores of tokens, weighted by their attention."""
    nodes = [node("Reshape", "t rows", "r"), node("Transpose", "r", "tokens", perm=[0, 2, 1])]
    nodes += [node("MatMul", "tokens q", "s"), node("Softmax", "s", "attention", axis=1), node("MatMul", "tokens w", "m")]
    nodes += [node("Mul", "m attention", "weighted"), node("ReduceSum", "weighted axes", "z", keepdims=0)]
    return nodes, {"rows": np.array([0, 5, 16]), "w": w, "q": np.ones((5, 1), np.float32) / 4, "axes": np.array([1])}


def added(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """Logits that a product of another branch adds to."""
    nodes = [node("ReduceMean", "t", "f", axes=[2, 3], keepdims=0), node("Gemm", "f w b", "one")]
    nodes += [node("ReduceMax", "t", "l", axes=[2, 3], keepdims=0), node("Gemm", "l v one", "z", alpha=2.0, beta=-0.5)]
    return nodes, {"w": w, "b": b, "v": w[::-1].copy()}


def flat(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    nodes = [node("GlobalAveragePool", "t", "g"), node("Flatten", "g", "f"), node("Gemm", "f w b", "z")]
    return nodes, {"w": w, "b": b}


def squeezed(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """A convolution of one position."""
    nodes = [node("GlobalAveragePool", "t", "g"), node("Conv", "g w b", "m"), node("Squeeze", "m axes", "z")]
    return nodes, filters(w, b, 1) | {"axes": np.array([2, 3])}


def summed(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """Two branches, wide and deep."""
    nodes = [node("ReduceMean", "t", "f", axes=[2, 3], keepdims=0), node("Gemm", "f w b", "one")]
    nodes += [node("ReduceMax", "t", "l", axes=[2, 3], keepdims=0), node("MatMul", "l v", "two"), node("Add", "one two", "z")]
    return nodes, {"w": w, "b": b, "v": w[::-1].copy()}


def subtracted(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """The difference of two branches, and a temperature."""
    (*nodes, _), made = summed(w, b)
    return [*nodes, node("Sub", "one two", "d"), node("Mul", "d half", "z")], made | {"half": np.float32(0.5)}


def winner(w: np.ndarray, b: np.ndarray) -> tuple[Nodes, Weights]:
    """The largest of many positions."""
    return [node("Conv", "t w b", "m"), node("GlobalMaxPool", "m", "p"), node("Flatten", "p", "z")], filters(w, b, 3)


HEADS = {
    "dense": flat,
    "squeezed": squeezed,
    "pooled 1x1": pooled(1, "GlobalAveragePool|m|p", "Flatten|p|z"),
    "pooled 3x3, padded": pooled(3, "GlobalAveragePool|m|p", "Flatten|p|z", pads=[1, 0, 1, 2]),
    "pooled 2x2, strided": pooled(2, "GlobalAveragePool|m|p", "Flatten|p|z", strides=[2, 2]),
    "channels last": reduced,
    "shifted": shifted,
    "moved": moved,
    "summed": summed,
    "subtracted": subtracted,
    "twice": twice,
    "enlarged": enlarged,
    "listed": listed,
    "framed": framed,
    "contracted": contracted,
    "from the left": from_the_left,
    "attended": attended,
    "added": added,
    "winner": winner,
}
X = np.random.default_rng(5).normal(size=(12, 3, 4, 4)).astype(np.float32)


def weights(seed: int, logits: int, bias: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(5, logits)).astype(np.float32), (bias * rng.normal(size=logits)).astype(np.float32)


def net(head: str, w: np.ndarray, b: np.ndarray, end: str = "Identity", seed: int = 0) -> onnx.ModelProto:
    """A convolution, a Relu, a head."""
    rng = np.random.default_rng([seed, 1])
    made = {"k": rng.normal(size=(5, 3, 1, 1)).astype(np.float32), "c": rng.normal(size=5).astype(np.float32) / 4}
    nodes, more = HEADS[head](w, b)
    return model(
        [node("Conv", "x k c", "a"), node("Relu", "a", "t"), *nodes, node(end, "z", "y")],
        {"x": ["n", 3, 4, 4]},
        ["y"],
        made | more,
    )


def explained(proto: onnx.ModelProto, preset: str, x: np.ndarray = X, **options: object) -> Mapping[str, np.ndarray]:
    return run(onnxdtd.compile(proto, preset, **options), x=x)


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """To 1e-5 of the largest relevance of each sample."""
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(np.abs(b).max(), 1e-3))


def twins(head: str, seed: int = 0) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A net with the logit z, and the one with -z and z."""
    w, b = weights(seed, 1)
    two = np.concatenate([-w, w], 1), np.concatenate([-b, b])
    return net(head, w, b, "Sigmoid", seed), net(head, *two, "Softmax", seed)


def assert_twins(head: str, preset: str, seed: int = 0) -> None:
    """The same for the arg-max and both classes."""
    one, two = (onnxdtd.Explainer(onnxdtd.compile(proto, preset, target="input")) for proto in twins(head, seed))
    for target in (-1, 0, 1):
        found, expected = one(X, target), two(X, target)
        assert_equal(found.relevance["x"], expected.relevance["x"])
        np.testing.assert_allclose(found.logit, expected.logit, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("preset", "head"), in_turn(PRESETS, ["dense", "squeezed", "pooled 3x3, padded"], 1))
def test_one_logit_is_explained_as_two(head: str, preset: str) -> None:
    assert_twins(head, preset)
    assert explained(twins(head)[0], preset)["relevance"].any()


@pytest.mark.parametrize(
    ("head", "preset"), in_turn(sorted({*HEADS} - {"dense", "squeezed", "pooled 3x3, padded", "winner"}), SOME)
)
def test_one_logit_behind_anything_linear_is_explained_as_two(head: str, preset: str) -> None:
    assert_twins(head, preset)


@given(st.sampled_from(sorted({*HEADS} - {"winner"})), st.sampled_from(PRESETS), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_twins_over_random_nets(head: str, preset: str, seed: int) -> None:
    assert_twins(head, preset, seed)


@pytest.mark.parametrize("preset", SOME)
def test_the_largest_of_several_positions(preset: str) -> None:
    """Minus the largest is not the largest of minus: there is no twin, but class 1 is the plain logit, and class 0 its weights
    with the other sign, where the winner is.
    """
    one, plain = (net("winner", *weights(0, 1), end) for end in ("Sigmoid", "Identity"))
    found, expected = explained(one, preset, target=1), explained(plain, preset)
    assert_equal(found["relevance"], expected["relevance"])
    zero = explained(one, preset, target=0)
    np.testing.assert_array_equal(zero["logit"], -found["logit"])
    assert (zero["relevance"].any(1) <= explained(one, "gradient")["relevance"].any(1)).all()


@pytest.mark.parametrize(("head", "preset"), in_turn(sorted({*HEADS} - {"winner"}), SOME[1:] + SOME[:1]))
def test_a_contrast_is_a_layer(head: str, preset: str) -> None:
    """The model whose last layer is the difference of two classes says the same."""
    w, b = weights(1, 4)
    z = run(net(head, w, b), x=X)["y"]
    order = np.argsort(-z, axis=1)[:, :2]
    found = explained(net(head, w, b, "Softmax"), preset, contrast=True)
    np.testing.assert_allclose(found["logit"], -np.diff(-np.sort(-z, axis=1)[:, :2])[:, 0], rtol=1e-4)
    for best, other in sorted({tuple(row) for row in order.tolist()})[:3]:
        rows = (order == [best, other]).all(1)
        difference = net(head, w[:, [best]] - w[:, [other]], b[[best]] - b[[other]])
        assert_equal(found["relevance"][rows], explained(difference, preset, X[rows])["relevance"])


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "lrp-alpha2beta1", "epsilon-plus-flat", "gradient"])
def test_the_contrast_with_the_rest_is_a_layer(preset: str) -> None:
    w, b = weights(2, 4)
    for target in range(4):
        c = np.where(np.arange(4) == target, 1, -1 / 3).astype(np.float32)
        found = explained(net("dense", w, b), preset, contrast="rest", target=target)
        expected = explained(net("dense", w @ c[:, None], b @ c[:, None]), preset)
        assert_equal(found["relevance"], expected["relevance"])


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "gradient"])
def test_the_contrast_of_one_logit_is_that_of_two(preset: str) -> None:
    for contrast in ("runner-up", "rest"):
        assert_equal(*(explained(proto, preset, contrast=contrast)["relevance"] for proto in twins("dense")))


@pytest.mark.parametrize("head", ["dense", "pooled 1x1", "pooled 3x3, padded"])
def test_a_contrast_under_deep_taylor_is_positive_and_sums_to_the_margin(head: str) -> None:
    """Where no bias is positive, and bounds make the first layer's rule conserve."""
    w, _ = weights(3, 4)
    proto = net(head, w, np.zeros(4, np.float32))
    for tensor in proto.graph.initializer:
        if tensor.name == "c":
            tensor.CopyFrom(onnx.numpy_helper.from_array(-np.ones(5, np.float32) / 8, "c"))
    found = explained(proto, "dtd", contrast=True, low=-6, high=6)
    assert found["relevance"].min() >= 0
    np.testing.assert_allclose(found["relevance"].sum((1, 2, 3)), found["logit"], rtol=1e-4)


def test_a_contrast_of_quantised_logits() -> None:
    """What such a layer gives has its name twice, before and behind the rounding."""
    rng = np.random.default_rng(3)
    w = rng.integers(-9, 9, (5, 3)).astype(np.int8)
    made = {"w": w, "s": np.float32(0.125), "t": np.float32(0.25), "zero": np.int8(0)}
    nodes = [
        node("QuantizeLinear", "x s zero", "q"),
        node("QLinearMatMul", "q s zero w s zero t zero", "z_quantized"),
        node("DequantizeLinear", "z_quantized t zero", "z"),
    ]
    x = rng.integers(1, 9, (4, 5)).astype(np.float32) / 8
    found = explained(model(nodes, {"x": ["n", 5]}, ["z"], made), "lrp-0", x, contrast="rest", target=0)
    shares = x * (w @ [1, -0.5, -0.5])
    np.testing.assert_allclose(found["logit"], found["z"] @ [1, -0.5, -0.5], rtol=1e-6)
    assert (found["logit"] != 0).all()
    assert_equal(found["relevance"], shares / shares.sum(1, keepdims=True) * found["logit"][:, None])


def test_every_sample_has_its_own_class() -> None:
    """At run time, and one that does not exist gives NaN to its sample alone."""
    w, b = weights(0, 1)
    compiled = onnxdtd.compile(net("pooled 1x1", w, b, "Sigmoid"), "lrp-alpha2beta1", target="input")
    each = np.resize([0, 1, -1, 7], len(X))
    found = run(compiled, x=X, target=each)["relevance"]
    for i, target in enumerate(each):
        expected = run(compiled, x=X, target=np.full(len(X), target))["relevance"][i]
        np.testing.assert_array_equal(found[i], expected)
        assert np.isnan(found[i]).all() == (target == 7)


def test_one_hot_costs_nothing() -> None:
    """With several logits there is no node more than the walk from the logits needs."""
    ops = [n.op_type for n in onnxdtd.compile(net("dense", *weights(0, 3)), "dtd").graph.node]
    contrast = [n.op_type for n in onnxdtd.compile(net("dense", *weights(0, 3)), "dtd", contrast=True).graph.node]
    assert len(ops) < len(contrast)
    assert "Greater" not in ops


@pytest.mark.parametrize(("head", "preset"), in_turn(HEADS, ["lrp-alpha2beta1", "dtd", "lrp-epsilon"]))
def test_the_ledger_follows_a_contrast(head: str, preset: str) -> None:
    compiled = onnxdtd.compile(net(head, *weights(4, 3)), preset, contrast=True, ledger=True)
    found = onnxdtd.Explainer(compiled)(X)
    totals = found.ledger.totals()
    np.testing.assert_allclose(totals["logit"], found.logit, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(totals["unaccounted"], 0, atol=1e-4 * np.abs(found.relevance["x"]).sum((1, 2, 3)).max())
    np.testing.assert_allclose(totals["relevance"], found.relevance["x"].sum((1, 2, 3)), rtol=1e-4, atol=1e-3)


def test_what_is_kept_within_the_neuron() -> None:
    """The map of one logit has the relevance of the neuron's; that of several classes under a contrast is refused."""
    one, four = net("pooled 1x1", *weights(0, 1), "Sigmoid"), net("pooled 1x1", *weights(1, 4))
    for target in (0, 1):
        found = explained(one, "lrp-epsilon", target=target, keep=["m", "t"])
        assert found["relevance/m"].shape == (12, 1, 4, 4)
        np.testing.assert_allclose(found["relevance/m"].sum((1, 2, 3)), found["logit"], rtol=1e-4)
        plain = explained(net("pooled 1x1", *weights(0, 1)), "lrp-epsilon", keep=["m"])
        np.testing.assert_allclose(found["relevance/m"], (1 if target else -1) * plain["relevance/m"], rtol=1e-5)
    with pytest.raises(onnxdtd.RequestError, match="--keep 'm': lies within the neuron"):
        onnxdtd.compile(four, "dtd", contrast=True, keep=["m"])
    with pytest.raises(onnxdtd.RequestError, match="--keep 'one'"):
        onnxdtd.compile(net("summed", *weights(1, 4)), "dtd", contrast=True, keep=["one"])


@pytest.mark.parametrize("preset", SOME)
def test_twins_of_sequences_with_time_first(preset: str) -> None:
    x = np.random.default_rng(6).normal(size=(7, 4, 3)).astype(np.float32)
    w, b = weights(0, 1)
    found = []
    for end, v, c in (("Sigmoid", w, b), ("Softmax", np.concatenate([-w, w], 1), np.concatenate([-b, b]))):
        nodes = [node("MatMul", "x k", "a"), node("Relu", "a", "t"), node("MatMul", "t w", "m"), node("Add", "m b", "biased")]
        nodes += [node("ReduceMean", "biased", "z", axes=[0], keepdims=0), node(end, "z", "y")]
        made = {"k": np.random.default_rng(7).normal(size=(3, 5)).astype(np.float32), "w": v, "b": c}
        proto = model(nodes, {"x": [7, "n", 3]}, ["y"], made)
        found.append([explained(proto, preset, x, target=target)["relevance"] for target in (0, 1)])
    for one, two in zip(*found, strict=True):
        assert_equal(one, two)
        assert two.any()


@pytest.mark.parametrize("preset", ["dtd", "lrp-gamma", "lrp-alpha2beta1"])
def test_twins_of_quantised_maps(preset: str) -> None:
    w, b = weights(0, 1)
    found = []
    for end, v, c in (("Sigmoid", w, b), ("Softmax", np.concatenate([-w, w], 1), np.concatenate([-b, b]))):
        nodes = [node("Conv", "x k", "a"), node("Relu", "a", "t"), node("QuantizeLinear", "t ts tz", "tq")]
        nodes += [node("QLinearConv", "tq ts tz w ws wz ms mz b", "mq"), node("DequantizeLinear", "mq ms mz", "m")]
        nodes += [node("GlobalAveragePool", "m", "p"), node("Flatten", "p", "z"), node(end, "z", "y")]
        made = {"k": np.random.default_rng(7).normal(size=(5, 3, 1, 1)).astype(np.float32)}
        made |= {"w": np.rint(v.T[:, :, None, None] * 40).astype(np.int8), "b": np.rint(c * 800).astype(np.int32)}
        made |= {f"{name}s": np.float32(scale) for name, scale in (("t", 0.05), ("w", 0.025), ("m", 0.1))}
        made |= {"tz": np.uint8(0), "wz": np.int8(0), "mz": np.uint8(128)}
        proto = model(nodes, {"x": ["n", 3, 4, 4]}, ["y"], made)
        found.append([explained(proto, preset, target=target)["relevance"] for target in (0, 1)])
    for one, two in zip(*found, strict=True):
        assert_equal(one, two)
        assert two.any()


def test_logits_and_probabilities_as_outputs_are_two_classes_in_either_order() -> None:
    proto = net("dense", *weights(0, 1), "Sigmoid")
    expected = explained(proto, "dtd", target=0)
    for outputs in (["z", "y"], ["y", "z"]):
        both = model(
            proto.graph.node,
            {"x": ["n", 3, 4, 4]},
            outputs,
            {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer},
        )
        found = explained(both, "dtd", target=0)
        for name in ("relevance", "logit"):
            np.testing.assert_array_equal(found[name], expected[name])


def test_what_is_reached_in_several_ways_is_explained_by_all_of_them() -> None:
    """The margin of two logits that are moved entries of one tensor, of one input even, is shared out whole."""
    x = np.array([[3.0, 1.0, 2.0]], np.float32)
    both = [node("Relu", "t", "r"), node("Concat", "r r", "y", axis=1)]
    for before, name in (([node("MatMul", "x w", "t")], "t"), ([node("Mul", "x one", "t")], "t")):
        proto = model(
            [*before, *both], {"x": ["n", 3]}, {"y": ["n", 6]}, {"w": np.eye(3, dtype=np.float32), "one": np.float32(1)}
        )
        found = explained(proto, "lrp-0", x=x, contrast="rest", keep=[name])
        expected = np.array([[3 - 3 / 5, -2 / 5, -4 / 5]])  # y₀ − mean of the others
        for relevance in (found["relevance"], found[f"relevance/{name}"]):
            np.testing.assert_allclose(relevance, expected, rtol=1e-6)


def test_sums_of_sums_of_the_same_tensor_are_no_more_ways_than_can_be_gone() -> None:
    """Behind forty of them there are 2⁴⁰ neurons; relevance is shared out all the same."""
    nodes = [node("Relu", "x", "s0")]
    for i in range(40):
        nodes += [node("Mul", f"s{i} half", f"h{i}"), node("Add", f"h{i} h{i}", f"s{i + 1}")]
    nodes.append(node("Add", "s40 s40", "y"))
    proto = model(nodes, {"x": ["n", 3]}, {"y": ["n", 3]}, {"half": np.full(3, 0.5, np.float32)})
    found = explained(proto, "lrp-0", x=np.array([[3.0, 1.0, 2.0]], np.float32), contrast=True)
    np.testing.assert_allclose(found["relevance"], [[6, 0, -4]], rtol=1e-5)


@pytest.mark.parametrize("ledger", [False, True])
def test_a_map_of_one_logit_is_added_to_itself(ledger: bool) -> None:
    """Both terms are one neuron, whose relevance goes on once; lrp-0 of a net of ReLUs is the gradient times the input."""
    text = """<ir_version: 10, opset_import: ["": 21]> net (float[N, 3, 2, 2] x) => (float[N, 1] p) <
        float[2, 3, 1, 1] w = {1, 2, -1, 3, -2, 1}, float[1, 2, 1, 1] v = {1, 2}, int64[2] axes = {2, 3}
    > {
        a = Conv(x, w)
        b = Relu(a)
        c = Conv(b, v)
        d = Add(c, c)
        z = ReduceMean<keepdims = 0>(d, axes)
        p = Sigmoid(z)
    }"""
    proto, x = onnx.parser.parse_model(text), np.random.default_rng(0).random((2, 3, 2, 2)).astype(np.float32)
    found = onnxdtd.Explainer(onnxdtd.compile(proto, "lrp-0", ledger=ledger))(x).relevance["x"]
    expected = onnxdtd.Explainer(onnxdtd.compile(proto, "gradient-x-input"))(x).relevance["x"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("contrast", ["rest", None])
def test_a_sum_of_maps_of_open_size(contrast: str | None) -> None:
    """Its terms may be repeated, as far as anybody knows, and a neuron's gradient has one channel where they have four."""
    rng = np.random.default_rng(3)
    made = {"w": rng.normal(size=(6, 3, 3, 3)), "v": rng.normal(size=(4, 6, 1, 1)), "u": rng.normal(size=(4, 6, 1, 1))}
    nodes = [
        node("Conv", "x w", "a"),
        node("Relu", "a", "b"),
        node("Conv", "b v", "c"),
        node("Conv", "b u", "d"),
        node("Add", "c d", "e"),
        node("ReduceMean", "e", "y", axes=[2, 3], keepdims=0),
    ]
    weights, x = (
        {name: value.astype(np.float32) for name, value in made.items()},
        rng.normal(size=(2, 3, 8, 7)).astype(np.float32),
    )
    found, expected = (
        run(onnxdtd.compile(model(nodes, {"x": ["n", 3, *sizes]}, ["y"], weights), "dtd", contrast=contrast), x=x)["relevance"]
        for sizes in (["h", "l"], [8, 7])
    )
    assert_near(found, expected, 1e-6)
