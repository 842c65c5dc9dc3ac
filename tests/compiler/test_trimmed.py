"""Layers without those of their outputs that no relevance comes to give the relevance that the whole layers give."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run

from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.trimmed import trimmed
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(6)
X = eighths(RNG, 2, 4, 3)
B, W, T, U = (eighths(RNG, *shape) for shape in ((9,), (3, 9), (9, 3), (3, 2)))
WAYS = ("gather", "slice", "split", "rows", "first", "gemm", "twice")


def attention(how: str) -> onnx.ModelProto:
    """Values, keys and queries [n, 4, 3] of one product [n, 4, 9], cut out as exporters do, or in another way."""
    numbers: dict[str, Any] = {f"i{k}": np.asarray(k) for k in range(3)} | {f"c{k}": np.asarray([3 * k]) for k in range(4)}
    numbers |= {"last": np.asarray([-1]), "one": np.asarray([1]), "none": np.asarray([0]), "s": np.asarray([0, 4, 3, 3])}
    numbers |= {"flat": np.asarray([-1, 3]), "four": np.asarray([-1, 4, 9]), "two": np.asarray([1, 2]), "b": B}
    numbers |= {"w": W, "t": T, "u": U, "three": np.asarray([3, 3, 3])}
    made = [node("MatMul", "x w", "g"), node("Add", "g b", "h")]
    if how == "gemm":
        made = [node("Reshape", "x flat", "m"), node("Gemm", "m t b", "f", transB=1), node("Reshape", "f four", "h")]
    apart = [node("Reshape", "h s", "r"), node("Unsqueeze", "r none", "a"), node("Transpose", "a", "d", perm=[3, 1, 2, 0, 4])]
    apart += [node("Squeeze", "d last2", "z3")]
    numbers["last2"] = np.asarray([3])
    parts = {
        "gather": [*apart, *(node("Gather", f"z3 i{k}", name) for k, name in enumerate("vqk"))],
        "rows": [*apart, node("Gather", "z3 two", "qk"), *(node("Gather", f"qk i{k}", name) for k, name in enumerate("qk"))],
        "split": [node("Split", "h three", "q v k", axis=2)],
        "first": [node("Reshape", "h s", "r"), *(node("Gather", f"r i{k}", name, axis=3) for k, name in enumerate("qkv"))],
    }
    parts["rows"] += [node("Gather", "z3 i0", "v")]
    slices = [node("Slice", f"h c{k} c{k + 1} last", name) for k, name in enumerate("qvk")]
    nodes = [*made, *parts.get(how, slices), node("Transpose", "k", "kt", perm=[0, 2, 1]), node("MatMul", "q kt", "e")]
    nodes += [node("Softmax", "e", "p"), node("MatMul", "p v", "o")]
    if how == "twice":  # what is cut out again, of other outputs
        nodes += [node("Slice", "h c2 c3 last", "v2"), node("Add", "o v2", "o2")]
    nodes += [node("ReduceMean", nodes[-1].output[0], "y0", axes=[1], keepdims=0), node("MatMul", "y0 u", "y")]
    used = {name for each in nodes for name in each.input}
    return model(nodes, {"x": ["n", 4, 3]}, ["y"], {name: value for name, value in numbers.items() if name in used})


@pytest.mark.parametrize("how", WAYS)
def test_the_relevance_is_the_same(how: str) -> None:
    for preset in ("cp-lrp", "lrp-epsilon", "dtd", "lrp-gamma"):
        options = {} if preset == "cp-lrp" else {"ledger": True}
        prepared = prepare(attention(how), Request(preset=preset, keep=["h"], low=-3.0, high=3.0, **options))
        whole = build(prepared, shortcuts=[shortcut for shortcut in SHORTCUTS if shortcut is not trimmed])
        found, expected = run(build(prepared), x=X), run(whole, x=X)
        assert np.abs(expected["relevance"]).max() > 1e-3
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert_near(found[name], value, 1e-6)


@pytest.mark.parametrize(
    ("how", "start", "end"),
    [("gather", 0, 3), ("rows", 0, 3), ("slice", 3, 6), ("split", 3, 6), ("gemm", 3, 6), ("twice", 3, 9)],
)
def test_only_columns_that_relevance_comes_to_are_multiplied(how: str, start: int, end: int) -> None:
    assert sizes(attention(how), "cp-lrp") == {(start, end)}


def test_whoever_has_relevance_of_all_is_walked_as_a_whole() -> None:
    assert sizes(attention("gather"), "attnlrp") == sizes(attention("first"), "cp-lrp") == set()
    started = build(prepare(attention("slice"), Request(preset="cp-lrp")), inject="h")
    assert not cut(started)


def sizes(proto: onnx.ModelProto, preset: str) -> set[tuple[int, int]]:
    """Which columns of the matrix the relevance pass takes."""
    return cut(build(prepare(proto, Request(preset=preset))))


def cut(proto: onnx.ModelProto) -> set[tuple[int, int]]:
    """What is sliced out of the matrix."""
    values = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    slices = [n for n in proto.graph.node if n.op_type == "Slice" and n.input[0] in ("w", "t")]
    return {(int(values[n.input[1]].item()), int(values[n.input[2]].item())) for n in slices}
