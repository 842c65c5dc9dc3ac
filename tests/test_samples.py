"""Which axis the samples lie along, by the graph: nets whose sizes would suggest another one, and random nets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node, run

import onnxdtd
from onnxdtd.axes import SPREAD
from onnxdtd.compiler import prepare
from onnxdtd.derivative import DERIVATIVE
from onnxdtd.errors import ModelError
from onnxdtd.flow import MOVE, PASS, ROUTE
from onnxdtd.frozen import FROZEN
from onnxdtd.linear import LINEAR
from onnxdtd.request import Request
from onnxdtd.samples import Samples

RNG = np.random.default_rng(12)
Weights = Mapping[str, np.ndarray]


def found(proto: onnx.ModelProto) -> Samples:
    """The samples of a planned model."""
    return prepare(proto, Request("gradient")).plan.samples


def net(nodes: Sequence[onnx.NodeProto], weights: Weights, output: str = "y", **inputs: Any) -> onnx.ModelProto:
    return model(nodes, inputs, [output], weights)


def picture(classes: int = 3, softmax: bool = False) -> onnx.ModelProto:
    """One picture [3, H, W] without a batch axis, as many classes as channels."""
    nodes = [
        node("Unsqueeze", "x zero", "b"),
        node("Conv", "b w", "c"),
        node("Relu", "c", "r"),
        node("GlobalAveragePool", "r", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f v", "z"),
        node("Squeeze", "z zero", "y"),
        *([node("Softmax", "y", "q", axis=0)] if softmax else []),
    ]
    weights = {"zero": np.array([0]), "w": eighths(RNG, 6, 3, 3, 3), "v": eighths(RNG, 6, classes)}
    return net(nodes, weights, "q" if softmax else "y", x=[3, 10, 10])


def windows(count: int | str = 4) -> onnx.ModelProto:
    """All windows of one utterance become one row."""
    nodes = [node("MatMul", "x w", "e"), node("Reshape", "e row", "r"), node("MatMul", "r v", "y")]
    return net(nodes, {"w": eighths(RNG, 6, 5), "row": np.array([1, -1]), "v": eighths(RNG, 20, 3)}, x=[count, 6])


def dense(*shape: int | str, classes: int = 3, head: Sequence[onnx.NodeProto] = (), **more: Any) -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "y" if not head else "z"), *head]
    weights = {"w": eighths(RNG, int(shape[-1]), classes), "one": np.array([1])}
    return net(nodes, weights, nodes[-1].output[0], x=shape, **more)


MEAN = [node("MatMul", "x w", "h"), node("ReduceMean", "h", "y", axes=[0], keepdims=0)]
BAG = [node("MatMul", "x w", "h"), node("ReduceMean", "h", "y", axes=[0], keepdims=1)]
TWO = [node("ReduceMean", "a", "m", axes=[0], keepdims=0), node("Concat", "m b", "c", axis=1), node("MatMul", "c w", "y")]
SQUEEZED = [node("Squeeze", "z one", "y")]
CASES: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, int | None], Any, bool]] = {
    "a picture, 3 channels and classes": (picture, {"x": None}, 1, False),
    "a picture, 4 classes": (lambda: picture(4), {"x": None}, 1, False),
    "a picture and a softmax": (lambda: picture(3, True), {"x": None}, 1, False),
    "windows of one utterance": (windows, {"x": None}, 1, False),
    "as many windows as the weights say": (lambda: windows("n"), {"x": None}, 1, False),
    "features, a fixed batch of 4": (lambda: dense(4, 6), {"x": 0}, 4, False),
    "features, a fixed batch of 1": (lambda: dense(1, 6), {"x": 0}, 1, False),
    "features, a batch with a name": (lambda: dense("n", 6), {"x": 0}, "n", False),
    "features without a batch": (lambda: dense(6), {"x": None}, 1, False),
    "one logit for each of a fixed batch": (lambda: dense(3, 6, classes=1, head=SQUEEZED), {"x": 0}, 3, True),
    "one logit for each of any batch": (lambda: dense("n", 6, classes=1, head=SQUEEZED), {"x": 0}, "n", True),
    "a choice of several items": (
        lambda: dense(3, 6, classes=1, head=[*SQUEEZED, node("Softmax", "y", "p", axis=0)]), {"x": None}, 1, False
    ),
    "as many features as logits": (
        lambda: net([node("Mul", "x w", "m"), node("Relu", "m", "y")], {"w": eighths(RNG, 3)}, x=[3]), {"x": None}, 1, False
    ),
    "time first": (lambda: net(MEAN, {"w": eighths(RNG, 6, 3)}, x=[5, 4, 6]), {"x": 1}, 4, False),
    "features first": (
        lambda: net([node("Transpose", "x", "t"), node("MatMul", "t w", "y")], {"w": eighths(RNG, 6, 3)}, x=[6, "n"]),
        {"x": 1}, "n", False,
    ),
    "a bag of instances": (lambda: net(BAG, {"w": eighths(RNG, 6, 3)}, x=["k", 6]), {"x": None}, 1, False),
    "inputs with different axes": (
        lambda: net(TWO, {"w": eighths(RNG, 10, 3)}, a=[5, "n", 6], b=["n", 4]), {"a": 1, "b": 0}, "n", False
    ),
    "an input that all samples share": (
        lambda: net([node("Add", "a b", "c"), node("MatMul", "c w", "y")], {"w": eighths(RNG, 6, 3)}, a=["n", 6], b=[6]),
        {"a": 0, "b": None}, "n", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_axis_of_the_samples(name: str) -> None:
    made, axes, size, column = CASES[name]
    samples = found(made())
    assert samples.axes == axes
    assert (samples.size if size != "n" or samples.size == "n" else "n") == size
    assert samples.column == column


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("classes", [3, 4])
def test_one_picture_is_one_sample(classes: int, softmax: bool) -> None:
    """The arg-max is explained, not the sum of as many logits as there are channels."""
    proto, x = picture(classes, softmax), eighths(RNG, 3, 10, 10)
    explainer = onnxdtd.Explainer(onnxdtd.compile(proto, "gradient"))
    assert explainer.metadata["classes"] == classes
    assert explainer.metadata["samples"] == {"x": None}
    batch = run(picture_in_a_batch(proto), x=x[None])
    best = int(batch["z"][0].argmax())
    alone = onnxdtd.Explainer(onnxdtd.compile(picture_in_a_batch(proto), "gradient", output="z", target=best))
    np.testing.assert_array_equal(explainer(x).relevance["x"], alone(x[None]).relevance["x"][0])


def picture_in_a_batch(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same weights, with a batch of one picture in front."""
    kept = [n for n in proto.graph.node if n.op_type not in ("Unsqueeze", "Squeeze", "Softmax")]
    kept[0].input[0] = "x"
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name != "zero"}
    return model(kept, {"x": [1, 3, 10, 10]}, ["z"], weights)


POSITIONS = [
    node("Shape", "x", "s"),
    node("Cast", "s", "s32", to=6),
    node("Cast", "s32", "s64", to=7),
    node("Reshape", "x s64", "r"),
    node("MatMul", "r w", "z"),
    node("Softmax", "z", "p", axis=2),
]


@pytest.mark.parametrize("opset", [12, 17])
def test_positions_are_no_samples(opset: int) -> None:
    """Below 13 the converter makes rows of all positions for the Softmax; the refusal is the same."""
    proto = net(POSITIONS, {"w": eighths(RNG, 6, 5)}, "p", x=["n", 4, 6])
    proto.opset_import[0].version = opset
    with pytest.raises(ModelError, match=r"no output is the score of a classifier, \[batch, classes\].*: p \[n, 4, 5\]"):
        onnxdtd.compile(proto)


@pytest.mark.parametrize("opset", [12, 17])
def test_flattened_positions_are_no_samples(opset: int) -> None:
    nodes = [node("MatMul", "x w", "z"), node("Reshape", "z rows", "y")]
    proto = model(nodes, {"x": ["n", 4, 6]}, ["y"], {"w": eighths(RNG, 6, 5), "rows": np.array([-1, 5])}, opset=opset)
    with pytest.raises(ModelError, match="no output is the score of a classifier"):
        onnxdtd.compile(proto)


def test_rows_that_see_each_other_are_no_samples() -> None:
    nodes = [node("ReduceMean", "x", "m", axes=[0]), node("Sub", "x m", "d"), node("MatMul", "d w", "y")]
    with pytest.raises(ModelError, match=r"the rows of 'y' are no samples: 'm_node' \(ReduceMean\) mixes them"):
        onnxdtd.compile(net(nodes, {"w": eighths(RNG, 6, 3)}, x=["n", 6]))


def test_rows_that_no_input_has_are_no_samples() -> None:
    nodes = [node("Reshape", "x rows", "r"), node("MatMul", "r w", "y")]
    with pytest.raises(ModelError, match="the rows of 'y' are no samples: they come from no axis of an input"):
        onnxdtd.compile(net(nodes, {"rows": np.array([2, 12]), "w": eighths(RNG, 12, 3)}, x=[4, 6]))


def test_pairs_of_samples_are_mixed() -> None:
    """A matrix of similarities has the samples on both axes."""
    nodes = [node("Transpose", "x", "t"), node("MatMul", "x t", "g"), node("MatMul", "g x", "h"), node("MatMul", "h w", "y")]
    with pytest.raises(ModelError, match="the rows of 'y' are no samples"):
        onnxdtd.compile(net(nodes, {"w": eighths(RNG, 6, 3)}, x=[4, 6]), "gradient")


def test_every_operator_with_a_rule_is_known() -> None:
    """Of one that is not, the samples could not be followed through it."""
    assert {*LINEAR, *FROZEN, *DERIVATIVE, *PASS, *MOVE, *ROUTE} <= set(SPREAD)


def test_a_net_of_10000_nodes() -> None:
    nodes = [node("MatMul", "x w", "t0"), *(node("Relu", f"t{i}", f"t{i + 1}") for i in range(10_000))]
    proto = net([*nodes, node("MatMul", "t10000 v", "y")], {"w": eighths(RNG, 6, 6), "v": eighths(RNG, 6, 3)}, x=["n", 6])
    job = prepare(proto, Request("lrp-epsilon"))
    assert [job.plan.samples.of(step.outputs[0]) for step in job.plan.steps] == [0] * len(job.plan.steps)
