"""Shapes and numbers that follow from constants, whatever way an exporter goes to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from nets import Session, eighths, model, node
from numpy.testing import assert_allclose, assert_array_equal
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd.graph import shapes

RNG = np.random.default_rng(8)
WEIGHTS = {"w": eighths(RNG, 1, 4, 18), "v": eighths(RNG, 4, 3)}
HEAD = [node("Relu", "c", "r"), node("GlobalAveragePool", "r", "g"), node("Flatten", "g", "f"), node("MatMul", "f v", "y")]


def declared(
    nodes: Sequence[NodeProto],
    x: Sequence[int | str],
    y: Sequence[int | str | None],
    weights: Mapping[str, np.ndarray],
    opset: int = 17,
) -> ModelProto:
    """A model whose output has a shape that onnx does not infer"""
    proto = model(nodes, {"x": x}, [], weights, opset=opset)
    proto.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, y))
    return proto


def test_standardised_weights_of_a_shape_that_is_shared() -> None:
    """As torch writes a normaliser-free net: equal constants are one, handed on by Identity."""
    nodes = [
        node("Identity", "kernel", "shape"),
        node("ReduceMean", "w", "m", axes=[2]),
        node("Sub", "w m", "d"),
        node("Reshape", "d shape", "k"),
        node("Conv", "x k", "c"),
    ]
    source = declared([*nodes, *HEAD], ["n", 2, 5, 5], ["n", 3], WEIGHTS | {"kernel": np.array([4, 2, 3, 3])})
    whole = (WEIGHTS["w"] - WEIGHTS["w"].mean(2, keepdims=True)).reshape(4, 2, 3, 3)
    plain = model([node("Conv", "x k", "c"), *HEAD], {"x": ["n", 2, 5, 5]}, ["y"], {"v": WEIGHTS["v"], "k": whole})
    x = eighths(RNG, 2, 2, 5, 5)
    for preset in ("gradient", "lrp-alpha1beta0"):
        found, expected = (Session(onnxdtd.compile(proto, preset, target=1))(x=x) for proto in (source, plain))
        assert_allclose(found["relevance"], expected["relevance"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("part", "rank"), [((0, 2), 3), ((1, 2), 2)])
def test_sizes_that_stay_where_they_are(part: tuple[int, int], rank: int) -> None:
    """[t, n, 2, 3] becomes [t, n, 6], as exporters write it; with a size in another place nothing is told of it."""
    nodes = [
        node("Shape", "x", "head", start=part[0], end=part[1]),
        node("Mul", "two three", "six"),
        node("Concat", "head six", "sizes", axis=0),
        node("Reshape", "x sizes", "s"),
        node("Relu", "s", "y"),
    ]
    weights = {"two": np.array([2]), "three": np.array([3])}
    sizes = shapes.graph(declared(nodes, ["t", "n", 2, 3], [None] * rank, weights)).tensors()["s"].shape
    assert sizes is not None
    assert len(sizes) == rank
    assert (list(sizes) == ["t", "n", 6]) == (part[0] == 0)


def test_numbers_that_are_computed_of_constants() -> None:
    """The axes of a mean, by a product; no shape depends on which they are."""
    nodes = [
        node("Mul", "one one", "axes"),
        node("ReduceMean", "x axes", "m"),
        node("Flatten", "m", "f"),
        node("MatMul", "f v", "y"),
    ]
    source = declared(nodes, ["n", 4, 5], ["n", 3], {"one": np.array([1]), "v": eighths(RNG, 5, 3)}, opset=18)
    found = Session(onnxdtd.compile(source, "gradient", target=1))(x=eighths(RNG, 2, 4, 5))["relevance"]
    weights = numpy_helper.to_array(source.graph.initializer[1])
    assert_allclose(found, np.broadcast_to(weights[:, 1] / 4, (2, 4, 5)), rtol=1e-6)


def test_sizes_that_are_known_among_others_that_are_not() -> None:
    """Half of the channels, by a Slice whose end is computed of the shape of x."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s one", "channels"),
        node("Div", "channels two", "half"),
        node("Where", "yes half one", "end"),
        node("Concat", "minus end spread", "sizes", axis=0),
        node("Slice", "x zero end one", "part"),
        node("Reshape", "part sizes", "y"),
        node("Gather", "s zero", "batch"),
        node("Concat", "batch end spread", "all", axis=0),
        node("Reshape", "part all", "z"),
    ]
    numbers = {"one": [1], "two": [2], "zero": [0], "minus": [-1], "spread": [3], "yes": [True]}
    source = declared(nodes, ["n", 4, 3], ["n", 2, 3], {name: np.array(value) for name, value in numbers.items()})
    tensors = shapes.graph(source).tensors()
    assert tensors["part"].shape is not None
    assert list(tensors["part"].shape)[1:] == [2, 3]
    assert tensors["y"].shape is not None
    assert list(tensors["y"].shape)[1:] == [2, 3]
    assert not isinstance((tensors["z"].shape or [None])[0], int)


def test_a_number_that_a_caller_may_override_is_not_known() -> None:
    nodes = [node("Identity", "kernel", "shape"), node("Reshape", "x shape", "y")]
    source = declared(nodes, ["n", 6], [None, None], {"kernel": np.array([2, 3])})
    known = shapes.graph(source).tensors()["y"].shape
    source.graph.input.append(helper.make_tensor_value_info("kernel", 7, [2]))
    fed = shapes.graph(source).tensors()["y"].shape
    assert list(known or ()) == [2, 3]
    assert [size for size in fed or () if isinstance(size, int)] == []


def test_a_pool_that_rounds_up_where_no_window_starts() -> None:
    """onnx counts 4 windows below operator set 22, runtimes 3: what lies behind is explained, and the file stays as it is."""
    nodes = [
        node("MaxPool", "x", "p", kernel_shape=[3], strides=[3], pads=[1, 1], ceil_mode=1),
        node("Conv", "p k", "c"),
        *HEAD,
    ]
    weights = {"k": eighths(RNG, 4, 2, 2), "v": WEIGHTS["v"]}
    made = {opset: model(nodes, {"x": ["n", 2, 8]}, ["y"], weights, opset=opset) for opset in (17, 22)}
    x = eighths(RNG, 2, 2, 8)
    for preset in ("gradient", "lrp-alpha2beta1", "epsilon-gamma-box"):
        options = {"low": -1, "high": 1} if "box" in preset else {}
        compiled = {opset: onnxdtd.compile(proto, preset, target=1, **options) for opset, proto in made.items()}
        assert [compiled[17].opset_import[0].version, list(compiled[17].graph.node)[:6]] == [17, list(made[17].graph.node)]
        found = {opset: Session(proto)(x=x) for opset, proto in compiled.items()}
        assert_array_equal(found[17]["y"], found[22]["y"])
        assert_allclose(found[17]["relevance"], found[22]["relevance"], rtol=1e-5, atol=1e-7)
