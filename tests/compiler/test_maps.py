"""Grad-CAM against the same by hand: at a tensor, and laid over what is explained; where the last map is, and who has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import Session, assert_near, model, node
from onnx import ModelProto, TensorProto, helper

import onnxdtd
from onnxdtd.compiler.compile import prepare
from onnxdtd.contract import read_metadata
from onnxdtd.errors import RequestError
from onnxdtd.request import Request

RNG = np.random.default_rng(3)
CLASSES, TARGET = 3, 1
X = RNG.normal(size=(2, 3, 6, 9)).astype(np.float32)
W = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)  # gives a map of [4, 3, 4] from pictures, with a stride of 2
V = RNG.normal(size=(48, CLASSES)).astype(np.float32)
CONV = node("Conv", "p W", "c", strides=[2, 2], pads=[1, 0, 1, 0], kernel_shape=[3, 3])
END = [node("Relu", "c", "a"), node("Flatten", "a", "f"), node("MatMul", "f V", "y")]


def planar(*, last: bool = False, sizes: bool = True) -> ModelProto:
    """A picture, with its channels behind its positions on request; a map ``a``."""
    shape: list[Any] = [6, 9, 3] if last else [3, 6, 9] if sizes else [3, "h", "w"]
    moved = [node("Transpose", "x", "p", perm=[0, 3, 1, 2])] if last else [node("Identity", "x", "p")]
    return model([*moved, CONV, *END], {"x": ["n", *shape]}, ["y"], {"W": W, "V": V})


def bilinear(values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """[n, h, w] over other sizes: what the centre of an entry sees, and never beyond the centres of the outermost."""
    for axis, size in enumerate(sizes, 1):
        old = values.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        values = np.take(values, low, axis) * (1 - part) + np.take(values, np.minimum(low + 1, old - 1), axis) * part
    return values


def weighted(a: np.ndarray, channel: int = 1, v: np.ndarray = V) -> tuple[np.ndarray, np.ndarray]:
    """Relevance of a map [n, ...], of which a dense layer takes all entries, and relu(Σ α A)."""
    a, g = a.astype(np.float64), v[:, TARGET].astype(np.float64).reshape(a.shape[1:])
    positions = tuple(i for i in range(a.ndim - 1) if i != channel - 1)
    parts = g.mean(positions, keepdims=True) * a
    total = parts.sum(channel, keepdims=True)
    return np.where(total > 0, parts, 0), np.maximum(total, 0)


def run(proto: ModelProto, x: np.ndarray, **options: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Relevance, and all that the file gives."""
    found = Session(onnxdtd.compile(proto, "grad-cam", target=TARGET, **options))(x=x)
    return found["relevance"], found


def test_at_a_tensor() -> None:
    relevance, found = run(planar(), X, from_="a")
    assert "explained/a" in found
    parts, total = weighted(found["explained/a"])
    assert (total == 0).any()
    assert (total > 0).any()
    assert_near(relevance, parts, 1e-6)
    assert_near(relevance.sum(1, keepdims=True), total, 1e-6)


@pytest.mark.parametrize("options", [{}, {"last": True}, {"sizes": False}], ids=str)
def test_laid_over_a_picture(options: dict[str, bool]) -> None:
    """The map stretched, each channel of a pixel with an equal part."""
    last = options.get("last", False)
    relevance, _ = run(planar(**options), np.moveaxis(X, 1, -1) if last else X)
    _, total = weighted(run(planar(), X, from_="a")[1]["explained/a"])
    expected = np.repeat(bilinear(total[:, 0], (6, 9))[:, None], 3, 1) / 3
    assert_near(relevance, np.moveaxis(expected, 1, -1) if last else expected, 1e-6)
    told = read_metadata(onnxdtd.compile(planar(**options), "grad-cam"))
    assert (told["laid"], told["derivative"], told["explain"]) == ({"x": "a"}, "cam", [])


def test_a_signal_and_what_ids_look_up() -> None:
    """Positions along one axis; of an id its row has the relevance."""
    table, w = RNG.normal(size=(11, 5)).astype(np.float32), RNG.normal(size=(6, 5, 3)).astype(np.float32)
    v = RNG.normal(size=(24, CLASSES)).astype(np.float32)
    behind = [
        node("Transpose", "e", "p", perm=[0, 2, 1]),
        node("Conv", "p w", "c", kernel_shape=[3], strides=[2], pads=[1, 0]),
        *END,
    ]
    weights = {"table": table, "w": w, "V": v}
    signal = model([node("Identity", "x", "e"), *behind], {"x": ["n", 8, 5]}, ["y"], weights)
    words = ModelProto()
    words.CopyFrom(signal)
    words.graph.node[0].CopyFrom(node("Gather", "table x", "e"))
    words.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.INT64, ["n", 8]))
    ids = RNG.integers(0, 11, (2, 8))
    _, total = weighted(run(signal, table[ids], from_="a")[1]["explained/a"], v=v)
    expected = bilinear(total[:, 0], (8,))
    assert_near(run(signal, table[ids])[0].sum(-1), expected, 1e-6)
    assert_near(run(words, ids)[0], expected, 1e-6)


def last_map(nodes: list[Any], **weights: np.ndarray) -> str:
    """The name of the tensor at which Grad-CAM is, in a net on pictures [n, 3, 6, 6]."""
    proto = model(nodes, {"x": ["n", 3, 6, 6]}, ["y"], {"W": np.ones((4, 3, 3, 3), np.float32), **weights})
    (end,) = prepare(proto, Request(preset="grad-cam")).plan.ends
    return end.tensor.name


def conv(x: str, w: str, y: str) -> Any:
    return node("Conv", f"{x} {w}", y, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


SQUARE, HEAD = np.ones((4, 4, 3, 3), np.float32), np.ones((4, CLASSES), np.float32)
POOLED = [node("GlobalAveragePool", "m", "g"), node("Flatten", "g", "f"), node("MatMul", "f U", "y")]


def test_the_last_map() -> None:
    """Behind sums, gates and joins of channels, before a pooling or a Flatten; a layer without positions gives none."""
    one = np.full((1, 4, 1, 1), 2.0, np.float32)
    start = [conv("x", "W", "a"), node("Relu", "a", "b")]
    residual = [conv("b", "S", "c"), node("Mul", "c one", "d"), node("Add", "d b", "e"), node("Relu", "e", "m")]
    assert last_map([*start, *residual, *POOLED], S=SQUARE, one=one, U=HEAD) == "m"
    gated = [conv("b", "S", "c"), node("Sigmoid", "c", "s"), node("Mul", "c s", "m")]
    assert last_map([*start, *gated, *POOLED], S=SQUARE, U=HEAD) == "m"
    joined = [conv("b", "S", "c"), conv("b", "S", "d"), node("Concat", "c d", "m", axis=1)]
    assert last_map([*start, *joined, *POOLED], S=SQUARE, U=np.ones((8, CLASSES), np.float32)) == "m"
    pooled = [node("MaxPool", "b", "p", kernel_shape=[2, 2], strides=[2, 2]), node("Relu", "p", "m"), *POOLED]
    assert last_map([*start, *pooled], U=HEAD) == "b"
    scores = [node("Conv", "b S", "m", kernel_shape=[3, 3]), node("GlobalAveragePool", "m", "y")]
    assert last_map([*start, *scores], S=SQUARE[:3]) == "m"


def test_who_has_no_map_to_be_laid_over_the_input() -> None:
    """Each is told, and the ways out are ways out."""
    dense = model(
        [node("MatMul", "x v", "h"), node("Relu", "h", "y")], {"x": ["n", 4]}, ["y"], {"v": np.eye(4, dtype=np.float32)}
    )
    with pytest.raises(RequestError, match=r"grad-cam is at a map of channels and positions .* here is none"):
        onnxdtd.compile(dense, "grad-cam")
    with pytest.raises(RequestError, match="--from 'h': has no channels with positions"):
        onnxdtd.compile(dense, "grad-cam", from_="h")
    flat = node("Flatten", "x", "q")
    past = [node("MatMul", "q U", "z"), node("Add", "k z", "y")]
    nodes = [flat, conv("x", "W", "m"), *POOLED[:2], node("MatMul", "f H", "k"), *past]
    weights = {"W": W, "U": np.ones((108, CLASSES), np.float32), "H": HEAD}
    bypassed = model(nodes, {"x": ["n", 3, 6, 6]}, ["y"], weights)
    with pytest.raises(RequestError, match="'x' reaches the scores also past 'm', the last map; --from 'm' explains"):
        onnxdtd.compile(bypassed, "grad-cam")
    onnxdtd.compile(bypassed, "grad-cam", from_="m")
    two = [node("Sub", "x z", "d"), conv("d", "W", "m"), *POOLED]
    both = model(two, {"x": ["n", 3, 6, 6], "z": ["n", 3, 6, 6]}, ["y"], {"W": W, "U": HEAD})
    with pytest.raises(RequestError, match=r"comes from several inputs \('x', 'z'\): it lies over none of them; --from 'm'"):
        onnxdtd.compile(both, "grad-cam")
    onnxdtd.compile(both, "grad-cam", from_="m")
    onnxdtd.compile(both, "grad-cam", explain="z")
    cut = [node("Slice", "x one end axis", "d"), conv("d", "W", "m"), *POOLED]
    at = {"one": np.asarray([1]), "end": np.asarray([9]), "axis": np.asarray([2])}
    sliced = model(cut, {"x": ["n", 3, 6, 6]}, ["y"], {"W": W, "U": HEAD, **at})
    with pytest.raises(RequestError, match="where the positions of 'm', the last map, lie in 'x' is not known; --from 'm'"):
        onnxdtd.compile(sliced, "grad-cam")
    onnxdtd.compile(sliced, "grad-cam", from_="m")


def test_an_input_that_the_map_does_not_come_from_counts_as_a_constant() -> None:
    nodes = [conv("x", "W", "m"), *POOLED[:2], node("Concat", "f t", "j", axis=1), node("MatMul", "j U", "y")]
    proto = model(nodes, {"x": ["n", 3, 6, 6], "t": ["n", 2]}, ["y"], {"W": W, "U": np.ones((6, CLASSES), np.float32)})
    job = prepare(proto, Request(preset="grad-cam"))
    assert [t.name for t in job.plan.inputs] == ["x"]
    assert any("not explained: t" in note for note in job.plan.notes)
    assert "the relevance of 'x' is that of 'm', the last map, laid over it" in job.plan.notes
