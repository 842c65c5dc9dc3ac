"""Masks: which channels of an inner tensor relevance may pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node
from onnx import numpy_helper

import onnxdtd
from onnxdtd import Explainer
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.contract import read_metadata
from onnxdtd.errors import RequestError
from onnxdtd.request import Request

RNG = np.random.default_rng(11)
W, V = eighths(RNG, 6, 5), eighths(RNG, 5, 3)
X = np.abs(eighths(RNG, 4, 6)) + 1
CHANNELS = 4


def mlp(shape: Any = ("n", 6)) -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "h"), node("MatMul", "h v", "y")]
    return model(nodes, {"x": shape}, ["y"], {"w": W, "v": V})


def cnn(dtype: Any = np.float32) -> onnx.ModelProto:
    """A convolution with a bias and a BatchNormalization, a block with a skip connection, a mean."""
    rng = np.random.default_rng(12)
    nodes = [
        node("Conv", "x k0 b0", "a", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "a scale shift mean var", "n"),
        node("Relu", "n", "f"),
        node("Conv", "f k1", "b", pads=[1, 1, 1, 1]),
        node("Relu", "b", "g"),
        node("Conv", "g k2", "c", pads=[1, 1, 1, 1]),
        node("Add", "c f", "s"),
        node("Relu", "s", "h"),
        node("ReduceMean", "h", "m", axes=[2, 3], keepdims=0),
        node("MatMul", "m v", "y"),
    ]
    weights = {
        "k0": eighths(rng, CHANNELS, 2, 3, 3),
        "b0": -np.abs(eighths(rng, CHANNELS)),
        "scale": np.abs(eighths(rng, CHANNELS)) + 1,
        "shift": np.zeros(CHANNELS),
        "mean": np.zeros(CHANNELS),
        "var": np.ones(CHANNELS),
        "k1": eighths(rng, CHANNELS, CHANNELS, 3, 3),
        "k2": eighths(rng, CHANNELS, CHANNELS, 3, 3),
        "v": np.abs(eighths(rng, CHANNELS, 3)),
    }
    return model(nodes, {"x": ["n", 2, 5, 5]}, ["y"], {k: w.astype(dtype) for k, w in weights.items()}, np.dtype(dtype))


PICTURES = np.abs(eighths(np.random.default_rng(13), 3, 2, 5, 5))


def explained(explainer: Explainer, x: np.ndarray, masks: Any = None) -> np.ndarray:
    return next(iter(explainer(x, masks=masks).relevance.values()))


def explainer(proto: onnx.ModelProto, preset: str, mask: Any, **options: Any) -> Explainer:
    return Explainer(onnxdtd.compile(proto, preset, mask=mask, **options))


PRESETS = ["dtd", "lrp-epsilon", "lrp-alpha2beta1", "gradient-x-input", "sensitivity"]


@pytest.mark.parametrize("preset", PRESETS)
def test_ones_are_no_masks(preset: str) -> None:
    made = explainer(cnn(), preset, ["f", "g", "n"])
    plain = explained(Explainer(onnxdtd.compile(cnn(), preset)), PICTURES)
    assert_near(explained(made, PICTURES), plain, 1e-6)
    np.testing.assert_array_equal(explained(made, PICTURES), explained(made, PICTURES, {"g": np.ones([3, CHANNELS])}))


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "lrp-alpha2beta1", "gradient-x-input"])
def test_heatmaps_of_all_channels_sum_to_the_whole(preset: str) -> None:
    """Where nothing bypasses the tensor."""
    made = explainer(cnn(), preset, "f")
    whole = explained(made, PICTURES)
    parts = [explained(made, PICTURES, {"f": one}) for one in np.eye(CHANNELS)]
    assert_near(sum(parts), whole, 2e-6)
    assert sum(np.abs(part).max() > 1e-3 * np.abs(whole).max() for part in parts) > 1


def test_what_bypasses_arrives_whatever_the_mask() -> None:
    """R(m) = R(0) + Σ m_c (R(1_c) − R(0)): affine in the mask, R(0) being that of the skip connection."""
    made = explainer(cnn(), "lrp-epsilon", "g")
    whole, around = explained(made, PICTURES), explained(made, PICTURES, {"g": np.zeros(CHANNELS)})
    assert np.abs(around).max() > 1e-2 * np.abs(whole).max()
    own = [explained(made, PICTURES, {"g": one}) - around for one in np.eye(CHANNELS)]
    assert_near(around + sum(own), whole, 2e-6)
    weights = np.asarray([0.5, -2, 0, 3])
    mixed = around + sum(m * part for m, part in zip(weights, own, strict=True))
    assert_near(explained(made, PICTURES, {"g": weights}), mixed, 2e-6)


def test_a_conditional_gradient_by_hand() -> None:
    mask = np.asarray([[1, 0, 1, 0, 0], [0, 1, 0, 0, 2], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], np.float64)
    z = X.astype(np.float64) @ W
    expected = X * ((mask * (z > 0) * V[:, 1]) @ W.T)
    assert_near(explained(explainer(mlp(), "gradient-x-input", "h", target=1), X, {"h": mask}), expected, 1e-6)


@pytest.mark.parametrize("tensor", ["h", "a"])
def test_the_relevance_of_channels_by_hand(tensor: str) -> None:
    """Of the ε rule, R_x = x Σ_j w_j m_j R_j / z_j, and the ledger, which says what the mask took away."""
    made = explainer(mlp(), "lrp-epsilon", tensor, settings=["*=z"], target=1, keep=[tensor], ledger=True)
    mask = np.asarray([1, 0, 0.5, 0, 1])
    found = made(X, masks={tensor: mask})
    z = X.astype(np.float64) @ W
    hidden = np.maximum(z, 0) * V[:, 1]
    shares = np.divide(mask * hidden, z, out=np.zeros_like(z), where=z > 0)
    assert_near(found.kept[tensor], hidden, 1e-6)  # what arrives, before the mask
    assert_near(found.relevance["x"], X * (shares @ W.T), 1e-6)
    assert found.ledger is not None
    row = found.ledger.steps.index(f"mask/{tensor}")
    assert_near(found.ledger["in"][:, row], hidden.sum(1), 1e-6)
    assert_near(found.ledger["masked"][:, row], (hidden * (1 - mask)).sum(1), 1e-6)
    assert np.abs(found.ledger.unaccounted).max() < 1e-5 * np.abs(hidden).max()
    assert_near(found.ledger.totals()["relevance"], found.relevance["x"].sum(1), 1e-5)


def test_each_sample_has_its_own_mask() -> None:
    made = explainer(cnn(), "dtd", ["g", "f"])
    masks = {name: RNG.integers(0, 2, [3, CHANNELS]) for name in ("f", "g")}
    whole = explained(made, PICTURES, masks)
    alone = [explained(made, PICTURES[i : i + 1], {name: m[i : i + 1] for name, m in masks.items()}) for i in range(3)]
    assert_near(whole, np.concatenate(alone), 1e-6)
    assert not np.allclose(whole, explained(made, PICTURES))


def test_two_masks_on_one_way_let_pass_what_both_do() -> None:
    """By the linearity of the walk: Σ over channels of both is the whole, and none passes two that let other channels pass."""
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "h"), node("MatMul", "h u", "b"), node("Relu", "b", "k")]
    weights = {"w": np.abs(W), "u": np.abs(eighths(RNG, 5, 4)), "v": np.abs(eighths(RNG, 4, 3))}
    proto = model([*nodes, node("MatMul", "k v", "y")], {"x": ["n", 6]}, ["y"], weights)
    made = explainer(proto, "lrp-epsilon", ["h", "k"])
    both = {(i, j): explained(made, X, {"h": np.eye(5)[i], "k": np.eye(4)[j]}) for i in range(5) for j in range(4)}
    assert_near(sum(both.values()), explained(made, X), 2e-6)
    assert_near(sum(both[1, j] for j in range(4)), explained(made, X, {"h": np.eye(5)[1]}), 2e-6)


@pytest.mark.parametrize("tensor", ["a", "n", "s", "h"])
def test_nothing_is_fused_over_a_masked_tensor(tensor: str) -> None:
    """The definition, without shortcuts, and the file agree on any mask."""
    prepared = prepare(cnn(), Request(preset="dtd", mask=tensor))
    mask = {tensor: np.asarray([1, 0, 0.5, 2])}
    assert_near(
        explained(Explainer(build(prepared)), PICTURES, mask),
        explained(Explainer(build(prepared, shortcuts=())), PICTURES, mask),
        2e-6,
    )


def test_a_masked_concat_is_not_gone_through_by_others() -> None:
    nodes = [
        node("Conv", "x k0", "a", pads=[1, 1, 1, 1]),
        node("Conv", "a k1", "b", pads=[1, 1, 1, 1]),
        node("Concat", "a b", "c", axis=1),
        node("Conv", "c k2", "d", pads=[1, 1, 1, 1]),
        node("Concat", "a b d", "e", axis=1),
        node("ReduceMean", "e", "m", axes=[2, 3], keepdims=0),
        node("MatMul", "m v", "y"),
    ]
    rng = np.random.default_rng(1)
    sizes = {"k0": (2, 2, 3, 3), "k1": (2, 2, 3, 3), "k2": (2, 4, 3, 3), "v": (6, 3)}
    proto = model(nodes, {"x": ["n", 2, 5, 5]}, ["y"], {name: np.abs(eighths(rng, *size)) for name, size in sizes.items()})
    made = explainer(proto, "lrp-epsilon", ["c", "e"])
    nothing = explained(made, PICTURES, {"c": np.zeros(4), "e": np.asarray([0, 0, 0, 0, 1, 1])})
    assert not nothing.any()
    around = explained(made, PICTURES, {"c": np.zeros(4)})
    assert np.abs(around).max() > 0.01 * np.abs(explained(made, PICTURES)).max()  # a and b are also read by e itself


def attention(batch: Any = "n", turned: bool = False) -> onnx.ModelProto:
    """Tokens [n, 3, 4], a layer, attention over them and their mean; ``turned``: [n, 5, 3] on the way."""
    nodes = [
        node("MatMul", "x w", "t0"),
        *([node("Transpose", "t0", "u", perm=[0, 2, 1]), node("Relu", "u", "t1")] if turned else [node("Relu", "t0", "t1")]),
        *([node("Transpose", "t1", "t", perm=[0, 2, 1])] if turned else [node("Identity", "t1", "t")]),
        node("Transpose", "t", "tt", perm=[0, 2, 1]),
        node("MatMul", "t tt", "scores"),
        node("Softmax", "scores", "p", axis=-1),
        node("MatMul", "p t", "o"),
        node("ReduceMean", "o", "m", axes=[1], keepdims=0),
        node("MatMul", "m v", "y"),
    ]
    rng = np.random.default_rng(2)
    return model(nodes, {"x": [batch, 3, 4]}, ["y"], {"w": eighths(rng, 4, 5) / 4, "v": eighths(rng, 5, 3)})


@pytest.mark.parametrize(
    ("proto", "tensor", "entry"),
    [
        (cnn(), "f", {"channels": 1, "samples": 0}),
        (mlp(), "h", {"channels": 1, "samples": 0}),
        (mlp([1, 6]), "h", {"channels": 1, "samples": None}),
        (attention(), "t", {"channels": 2, "samples": 0}),
        (attention(turned=True), "t1", {"channels": 1, "samples": 0}),
        (attention(), "o", {"channels": 2, "samples": 0}),
    ],
    ids=["conv", "dense", "one sample", "tokens", "turned", "attended"],
)
def test_the_axes_of_a_mask(proto: onnx.ModelProto, tensor: str, entry: dict[str, Any]) -> None:
    compiled = onnxdtd.compile(proto, "lrp-epsilon", mask=tensor)
    (found,) = read_metadata(compiled)["masks"].values()
    entry["samples"] = found["samples"] if entry["samples"] is None else entry["samples"]
    assert found == {"input": f"mask/{tensor}", **entry}
    shape = list(compiled.graph.input[1].type.tensor_type.shape.dim)
    made = Explainer(compiled)
    x = np.abs(eighths(np.random.default_rng(3), *[size or 1 for size in (d.dim_value for d in shape_of(proto))]))
    channels = shape[1].dim_value
    parts = [explained(made, x, {tensor: one}) for one in np.eye(channels)]
    assert_near(sum(parts), explained(made, x), 1e-5)
    assert made.masks == {tensor: f"mask/{tensor}"}


def shape_of(proto: onnx.ModelProto) -> Any:
    return proto.graph.input[0].type.tensor_type.shape.dim


def test_samples_behind_the_channels() -> None:
    """Features [4, n], a row a feature: the mask is turned to fit."""
    nodes = [node("MatMul", "w x", "a"), node("Relu", "a", "h"), node("MatMul", "v h", "z"), node("Transpose", "z", "y")]
    proto = model(nodes, {"x": [6, "n"]}, ["y"], {"w": np.ascontiguousarray(W.T), "v": np.ascontiguousarray(V.T)})
    mask = RNG.integers(0, 2, [4, 5])
    turned = explained(explainer(proto, "lrp-epsilon", "h"), np.ascontiguousarray(X.T), {"h": mask})
    assert_near(turned.T, explained(explainer(mlp(), "lrp-epsilon", "h"), X, {"h": mask}), 1e-6)


def test_half_precision_takes_masks_of_floats() -> None:
    compiled = onnxdtd.compile(cnn(np.float16), "dtd", mask="f")
    assert compiled.graph.input[1].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    made, x = Explainer(compiled), PICTURES.astype(np.float16)
    parts = [explained(made, x, {"f": one}).astype(np.float64) for one in np.eye(CHANNELS)]
    assert_near(sum(parts), explained(made, x).astype(np.float64), 4e-3)


def test_the_predictor_and_its_inputs_stay() -> None:
    proto, compiled = cnn(), onnxdtd.compile(cnn(), "dtd", mask=["f", "g", "f"])
    assert [value.name for value in compiled.graph.input] == ["x", "mask/f", "mask/g"]
    assert list(compiled.graph.node)[: len(proto.graph.node)] == list(proto.graph.node)
    assert not [
        t.name for t in compiled.graph.initializer if t.name.startswith("mask/")
    ]  # required: no default to fall back on
    assert [numpy_helper.to_array(t).shape for t in compiled.graph.initializer[:1]] == [(CHANNELS, 2, 3, 3)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"mask": "nobody"},
            "--mask or --concepts 'nobody': relevance .* such a tensor; `onnxdtd inspect` lists those that it does",
        ),
        ({"mask": "x"}, "is what is explained itself"),
        ({"mask": "y", "contrast": True}, "lies within the neuron"),
        ({"mask": "h", "from_": "h"}, "is what is explained itself"),
    ],
)
def test_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        onnxdtd.compile(mlp(), "lrp-epsilon", **options)


def test_without_channels_there_is_no_mask() -> None:
    with pytest.raises(RequestError, match="'scores': it is not known which of its axes has channels"):
        onnxdtd.compile(attention(), "gradient", mask="scores")


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ({"h": np.ones([4, 6])}, r"\[4, 6\]; give finite numbers, \[4, 5\] or \[5\]"),
        ({"h": [np.inf] * 5}, "give finite numbers"),
        ({"h": [1e39] * 5}, "give finite numbers"),
        ({"h": [[1], [1, 2]]}, "its rows differ in length"),
        ({"a": np.ones(5)}, "it has masks of 'h'"),
    ],
)
def test_masks_that_do_not_fit(masks: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        explainer(mlp(), "lrp-epsilon", "h")(X, masks=masks)


def test_a_file_without_masks_takes_none() -> None:
    with pytest.raises(RequestError, match="it takes no masks; compile the source model with --mask h"):
        Explainer(onnxdtd.compile(mlp()))(X, masks={"h": np.ones(5)})


@pytest.mark.parametrize("option", ["mask", "keep"])
def test_a_tensor_within_a_layer_is_told(option: str) -> None:
    """Of a convolution with the BatchNormalization behind it."""
    (note,) = onnxdtd.inspect(cnn(), Request(preset="lrp-gamma", **{option: "a"}))["notes"]
    assert "'a' lies within a layer, which is taken apart for it" in note
    assert "'n' is what the whole layer gives" in note
    assert onnxdtd.inspect(cnn(), Request(preset="lrp-gamma", **{option: "n"}))["notes"] == []
