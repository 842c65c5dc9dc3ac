"""Slices assigned in place and rows picked by an index, as exporters write them: the samples are followed through the index."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from derivatives import check_numeric, normal
from nets import DOUBLE, model, node
from onnx import ModelProto, NodeProto

import onnxdtd
from onnxdtd.errors import ModelError

TO_INT = {"to": 7}
COUNT = [  # 0 .. n − 1, of the number of samples
    node("Shape", "h", "sizes"),
    node("Gather", "sizes zero", "count"),
    node("Cast", "count", "limit", **TO_INT),
    node("Range", "start limit unit", "range"),
]
TORCHSCRIPT = [  # h[:, 1:3] = u
    *COUNT,
    node("Reshape", "range upright", "rows"),
    node("Add", "rows columns", "both"),
    node("Shape", "both", "to"),
    node("Expand", "rows to", "i0"),
    node("Expand", "columns to", "i1"),
    node("Unsqueeze", "i0 last", "c0"),
    node("Unsqueeze", "i1 last", "c1"),
    node("Concat", "c0 c1", "index", axis=-1),
    node("ScatterND", "h index u", "z"),
]
DYNAMO = [
    node("Transpose", "h", "ht", perm=[1, 0]),
    node("Transpose", "u", "ut", perm=[1, 0]),
    node("ScatterND", "ht below ut", "zt", reduction="none"),
    node("Transpose", "zt", "z", perm=[1, 0]),
]
ADDED = [*TORCHSCRIPT[:-1], node("ScatterND", "h index u", "z", reduction="add")]
PICKED = [  # m[range(n), argmax(u)] of m [n, 2, 2]
    node("Reshape", "h square", "m"),
    node("ArgMax", "u", "best", axis=1, keepdims=0),
    *COUNT,
    node("Unsqueeze", "range last", "c0"),
    node("Unsqueeze", "best last", "c1"),
    node("Concat", "c0 c1", "index", axis=-1),
    node("GatherND", "m index", "z"),
]
ROWS = [  # the same, as m.reshape(2 n, 2)[2 range(n) + argmax(u)]
    node("Reshape", "h square", "m"),
    node("Reshape", "m flat", "f"),
    node("ArgMax", "u", "best", axis=1, keepdims=0),
    *COUNT,
    node("Shape", "m", "lengths"),
    node("Gather", "lengths unit", "length"),
    node("Mul", "range length", "starts"),
    node("Add", "best starts", "index"),
    node("Gather", "f index", "z"),
]
BATCHED = [*PICKED[:2], node("Unsqueeze", "best last", "index"), node("GatherND", "m index", "z", batch_dims=1)]
ELEMENTS = [node("TopK", "u two", "values at", axis=1), node("GatherElements", "h at", "z", axis=1)]
INTO = [
    node("TopK", "u two", "values at", axis=1),
    node("Shape", "h", "whole"),
    node("Expand", "nothing whole", "empty"),
    node("ScatterElements", "empty at values", "z", axis=1, reduction="add"),
]
STRIDED = [  # h.as_strided((n, 4), (4, 1))
    node("Reshape", "h last", "f"),
    *COUNT,
    node("Mul", "range four", "starts"),
    node("Unsqueeze", "starts unit", "starts1"),
    node("Add", "starts1 strides", "sum"),
    node("Add", "sum zero", "index"),
    node("Gather", "f index", "z"),
]
LINED_UP = [  # of 2 n rows an entry each, by an index that is repeated for all of them
    node("Reshape", "h flat", "m"),
    node("Shape", "h", "sizes"),
    node("Gather", "sizes zeros", "samples"),
    node("Mul", "samples two", "count"),
    node("Concat", "count ones", "to", axis=0),
    node("Expand", "second to", "at"),
    node("GatherElements", "m at", "f", axis=1),
    node("Reshape", "f flat", "z"),
]
NETS = {"torchscript": TORCHSCRIPT, "dynamo": DYNAMO, "added": ADDED, "picked": PICKED, "rows": ROWS, "batched": BATCHED}
NETS |= {"elements": ELEMENTS, "into": INTO, "strided": STRIDED, "lined up": LINED_UP}


def net(middle: Sequence[NodeProto], size: int | str, **more: Any) -> ModelProto:
    """x -> h [n, 4] and u [n, 2] -> ``middle`` -> z -> three classes."""
    last = 4 if middle is STRIDED or middle[-1].op_type.startswith("Scatter") or middle[-1].op_type == "Transpose" else 2
    weights = {"a": normal(3, 4, seed=1), "b": normal(3, 2, seed=2), "c": normal(last, 3, seed=3)}
    numbers = {
        "zero": np.array(0),
        "start": np.array(0),
        "unit": np.array(1),
        "two": [2],
        "last": [-1],
        "upright": [-1, 1],
        "columns": [1, 2],
    }
    numbers |= {
        "below": [[1], [2]],
        "strides": [[3, 1, 0, 2]],
        "four": np.array(4),
        "square": [-1, 2, 2],
        "flat": [-1, 2],
        "nothing": np.zeros(1),
        "zeros": [0],
        "ones": [1],
        "second": [[1]],
    } | more
    nodes = [
        node("MatMul", "x a", "a0"),
        node("Relu", "a0", "h"),
        node("MatMul", "x b", "b0"),
        node("Softplus", "b0", "u"),
        *middle,
        node("MatMul", "z c", "y"),
    ]
    used = {name for n in nodes for name in n.input}
    return model(
        nodes, {"x": [size, 3]}, ["y"], {k: np.asarray(v) for k, v in (weights | numbers).items() if k in used}, DOUBLE, 18
    )


@pytest.mark.parametrize("size", ["n", 3])
@pytest.mark.parametrize("name", NETS)
def test_gradient_and_relevance(name, size):
    """The gradient is that of differences; z+ hands on all there is, and of each sample what it gets alone."""
    proto, x = net(NETS[name], size), normal(3, 3, seed=4)
    check_numeric(proto, {"x": x})
    compiled = onnxdtd.compile(proto, "dtd-z" if size == 3 else "dtd", ledger=True)
    found = onnxdtd.Explainer(compiled)(x)
    assert found.ledger is not None
    np.testing.assert_allclose(found.ledger.totals()["relevance"], found.relevance["x"].sum(1), rtol=1e-9, atol=1e-12)
    entries = {key: value for key, value in found.ledger.totals().items() if key not in ("logit", "relevance")}
    np.testing.assert_allclose(found.relevance["x"].sum(1) + sum(entries.values()), found.logit, rtol=1e-6)
    if size == "n":
        alone = [onnxdtd.Explainer(compiled)(x[i : i + 1]).relevance["x"] for i in range(3)]
        np.testing.assert_allclose(found.relevance["x"], np.concatenate(alone), rtol=1e-12)


@pytest.mark.parametrize("rows", [[[0], [1], [2]], [[1], [2], [0]]], ids=["in order", "exchanged"])
def test_an_index_that_is_constant(rows):
    """Samples that it leaves where they are stay apart; those that it exchanges are no samples any more."""
    index = np.concatenate([np.tile(np.array(rows)[:, None], (1, 2, 1)), np.tile([[[1], [2]]], (3, 1, 1))], -1)
    proto = net(TORCHSCRIPT[-1:], 3, index=index)
    if rows[0] == [0]:
        check_numeric(proto, {"x": normal(3, 3, seed=4)})
        return
    with pytest.raises(ModelError, match="no samples"):
        onnxdtd.compile(proto, "gradient")


def test_rows_that_nothing_keeps_within_their_sample():
    """One behind what is largest may be that of the next sample."""
    nodes = [*ROWS[:-2], node("Add", "best unit", "next"), node("Add", "next starts", "index"), ROWS[-1]]
    with pytest.raises(ModelError, match=r"'z_node' \(Gather\) mixes them"):
        onnxdtd.compile(net(nodes, "n"), "gradient")


def test_a_range_that_starts_elsewhere_is_not_that_of_the_samples():
    with pytest.raises(ModelError, match="no samples"):
        onnxdtd.compile(net(TORCHSCRIPT, "n", start=np.array(1)), "gradient")


@pytest.mark.parametrize("strides", [[[0, 1, 2, 4]], [[-1, 0, 1, 2]]])
def test_strides_that_lead_out_of_a_sample(strides):
    with pytest.raises(ModelError, match="no samples"):
        onnxdtd.compile(net(STRIDED, "n", strides=np.array(strides)), "gradient")


NAMED = [  # the rows and columns of m, counted by those of x, and of its entries one behind the other
    node("Shape", "x", "sizes"),
    node("Gather", "sizes zero", "count"),
    node("Gather", "sizes unit", "length"),
    node("Range", "zero count unit", "rows"),
    node("Range", "zero length unit", "columns"),
    node("Mul", "rows length", "starts"),
    node("Unsqueeze", "starts last", "starts1"),
    node("Add", "starts1 columns", "index"),
    node("Reshape", "m end", "f"),
    node("Gather", "f index", "again"),
    node("Unsqueeze", "count front", "count1"),
    node("Concat", "count1 end", "to", axis=0),
    node("Reshape", "m to", "shaped"),
    node("Mul", "x m", "o"),
    node("Mul", "o again", "p"),
    node("Mul", "p shaped", "q"),
    node("ReduceSum", "q end", "s"),
    node("MatMul", "s c", "y"),
]


def test_sizes_that_inputs_call_by_one_name():
    """n is the number of rows of both inputs, s that of columns: what is counted by one of them is that of the other."""
    constants = {
        "zero": np.array(0),
        "unit": np.array(1),
        "last": np.array([-1]),
        "end": np.array([-1]),
        "front": np.array([0]),
    }
    proto = model(NAMED, {"x": ["n", "s"], "m": ["n", "s"]}, ["y"], constants | {"c": normal(1, 3, seed=1)}, DOUBLE, 18)
    compiled = onnxdtd.compile(proto, "gradient", explain=["x"])
    feeds = {"x": normal(3, 4, seed=2), "m": normal(3, 4, seed=3)}
    found = onnxdtd.Explainer(compiled)(feeds)
    best = normal(1, 3, seed=1)[0][found.outputs["y"].argmax(1)]
    np.testing.assert_allclose(found.relevance["x"], feeds["m"] ** 3 * best[:, None], rtol=1e-12)
