"""What a compile would do, as plain data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import model, node
from onnx import helper
from typer.testing import CliRunner

import onnxdtd
from onnxdtd.cli.commands import app
from onnxdtd.cli.plan import INNER
from onnxdtd.errors import Unsupported
from onnxdtd.request import Request

MODELS = Path(__file__).resolve().parents[2] / "models"


def test_what_it_says_is_what_the_file_says() -> None:
    found = onnxdtd.inspect(MODELS / "digits_cnn.onnx", Request(low=0.0, high=1.0))
    metadata = onnxdtd.Explainer(onnxdtd.compile(MODELS / "digits_cnn.onnx", low=0.0, high=1.0)).metadata
    assert {row["node"]: row["rule"] for row in found["steps"] if row["rule"]} == metadata["rules"]
    assert [row["node"] for row in found["steps"] if row["first"]] == [next(iter(metadata["rules"]))]
    for key in ("output", "logits", "changes", "preset"):
        assert found[key] == metadata[key]
    for key, total in found["multiply_adds"].items():
        assert total == sum(row[key] for row in found["steps"]) > 0
    assert json.loads(json.dumps(found)) == found


def test_the_tensors_that_can_be_kept_and_masked() -> None:
    """Each of them can be named, and the numbers of channels are those of the masks."""
    rows = onnxdtd.inspect(MODELS / "digits_cnn.onnx")["steps"]
    given = {name: count for row in rows for name, count in row["gives"].items()}
    assert given | {"relu": 16, "relu_1": 32, "relu_2": 64, "logits": 10} == given
    compiled = onnxdtd.compile(MODELS / "digits_cnn.onnx", keep=given, mask=given)
    masks = {value.name: value.type.tensor_type.shape.dim[1].dim_value for value in compiled.graph.input[1:]}
    assert masks == {f"mask/{name}": count for name, count in given.items()}
    printed = CliRunner().invoke(app, ["inspect", str(MODELS / "digits_cnn.onnx")]).stdout
    assert "can be kept, and masked where channels are known: " in printed
    assert "relu_1 (32)" in printed
    assert "inside of nodes" not in printed


def test_few_of_many_tensors_inside_of_a_node_are_named(tmp_path: Path) -> None:
    weights = {"w": np.ones((1, 3, 2), np.float32), "r": np.ones((1, 3, 3), np.float32), "zero": np.asarray([0])}
    nodes = [node("RNN", "x w r", "_ last", hidden_size=3), node("Squeeze", "last zero", "y")]
    onnx.save(model(nodes, {"x": [40, "n", 2]}, ["y"], weights), tmp_path / "long.onnx")
    few, printed = (CliRunner().invoke(app, ["inspect", str(tmp_path / "long.onnx"), *more]).stdout for more in ([], ["--all"]))
    assert ": 205 tensors, the last " in next(line for line in few.splitlines() if line.startswith("can be kept"))
    kept = next(line for line in printed.splitlines() if line.startswith("can be kept"))
    assert kept.count("dtd/") == INNER + 1
    assert "last" in kept
    assert " more inside of nodes, dtd/" in kept


def test_what_stands_in_the_way_is_raised() -> None:
    proto = model(
        [node("MatMul", "x w", "h"), node("Hardmax", "h", "y")], {"x": ["n", 6]}, ["y"], {"w": np.ones((6, 4), np.float32)}
    )
    with pytest.raises(Unsupported, match="Hardmax"):
        onnxdtd.inspect(proto)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def heads(batch: str | int) -> onnx.ModelProto:
    """Two heads of attention over five tokens, which are samples of their own for a while, and a mean."""
    nodes = [
        node("MatMul", "x q", "a"),
        node("Reshape", "a apart", "b"),
        node("Transpose", "b", "c", perm=[0, 2, 1, 3]),
        node("Reshape", "c merged", "d"),
        node("Transpose", "d", "e", perm=[0, 2, 1]),
        node("MatMul", "d e", "f"),
        node("Softmax", "f", "g", axis=-1),
        node("MatMul", "g d", "h"),
        node("Reshape", "h split", "i"),
        node("ReduceMean", "i", "m", axes=[1, 2], keepdims=0),
        node("MatMul", "m v", "y"),
    ]
    made = {"apart": [0, 5, 2, 3], "merged": [-1, 5, 3], "split": [-1, 2, 5, 3]}
    weights = {name: np.array(value) for name, value in made.items()} | {"q": ones(4, 6), "v": ones(3, 2)}
    return model(nodes, {"x": [batch, 5, 4]}, ["y"], weights)


def convolved(shape: list[int | str]) -> onnx.ModelProto:
    """Two convolutions, the second by groups and with a stride, a mean and a dense layer."""
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "b"),
        node("Conv", "b u", "c", group=2, strides=[2, 2]),
        node("GlobalAveragePool", "c", "d"),
        node("Flatten", "d", "e"),
        node("Gemm", "e v", "y"),
    ]
    return model(nodes, {"x": shape}, ["y"], {"w": ones(4, 3, 3, 3), "u": ones(6, 2, 2, 2), "v": ones(6, 5)})


def enlarged() -> onnx.ModelProto:
    nodes = [node("ConvTranspose", "x w", "a", strides=[2, 2]), node("Flatten", "a", "b"), node("MatMul", "b v", "y")]
    return model(nodes, {"x": ["n", 2, 4, 4]}, ["y"], {"w": ones(2, 3, 2, 2), "v": ones(3 * 8 * 8, 2)})


def tokens() -> onnx.ModelProto:
    """A token of the class in front of three others, repeated for each sample as torch's expand(n, -1, -1) writes it."""
    nodes = [
        node("Shape", "x", "n", start=0, end=1),
        node("Concat", "n same same", "wanted", axis=0),
        node("ConstantOfShape", "three", "ones", value=onnx.numpy_helper.from_array(np.array([1]))),
        node("Mul", "ones same", "keep"),
        node("Equal", "wanted keep", "kept"),
        node("Where", "kept ones wanted", "sizes"),
        node("Expand", "token sizes", "first"),
        node("Concat", "first x", "all", axis=1),
        node("Reshape", "all rows", "r"),
        node("MatMul", "r w", "h"),
        node("Reshape", "h split", "s"),
        node("ReduceMean", "s", "y", axes=[1], keepdims=0),
    ]
    made = {"same": [-1], "three": [3], "rows": [-1, 4], "split": [-1, 4, 2]}
    weights = {name: np.array(value) for name, value in made.items()} | {"token": ones(1, 1, 4), "w": ones(4, 2)}
    return model(nodes, {"x": ["n", 3, 4]}, ["y"], weights)


PICTURES = {"Conv": 4 * 8 * 8 * 27 + 6 * 4 * 4 * 8, "GlobalAveragePool": 6 * 4 * 4, "Gemm": 30}
TOKENS = {"MatMul": 5 * 4 * 6 + 2 * 5 * 5 * 3 + 6, "ReduceMean": 2 * 5 * 3}
COUNTED = {
    "dense": (model([node("MatMul", "x w", "y")], {"x": ["n", 6]}, ["y"], {"w": ones(6, 4)}), {"MatMul": 24}),
    "convolutions": (convolved(["n", 3, 8, 8]), PICTURES),
    "a batch of two": (convolved([2, 3, 8, 8]), PICTURES),
    "attention": (heads("n"), TOKENS),
    "attention in a batch of four": (heads(4), TOKENS),
    "a token of the class": (tokens(), {"MatMul": 4 * 4 * 2, "ReduceMean": 4 * 2}),
    "transposed convolution": (enlarged(), {"ConvTranspose": 2 * 4 * 4 * 12, "MatMul": 3 * 64 * 2}),
}


@pytest.mark.parametrize("name", COUNTED)
def test_multiply_adds_are_those_of_one_sample_counted_by_hand(name: str) -> None:
    proto, expected = COUNTED[name]
    found: dict[str, int] = {}
    for row in onnxdtd.inspect(proto, Request(preset="lrp-epsilon"))["steps"]:
        assert not row["open"], row
        if row["prediction"]:
            found[row["op"]] = found.get(row["op"], 0) + row["prediction"]
    assert found == expected


@pytest.mark.parametrize("side", ["height", 8])
def test_open_sizes_are_said_to_be(side: str | int, tmp_path: Path) -> None:
    """Where height and width are open, so is all that depends on them, and the whole; the batch is no such size."""
    onnx.save(convolved(["n", 3, side, 8]), tmp_path / "net.onnx")
    steps, is_open = onnxdtd.inspect(tmp_path / "net.onnx")["steps"], side == "height"
    told = {row["op"]: row["open"] for row in steps if row["prediction"]}
    assert told == {"Conv": is_open, "GlobalAveragePool": is_open, "Gemm": False}
    said = CliRunner().invoke(app, ["inspect", str(tmp_path / "net.onnx")]).output
    assert ("prediction at least " in said) == is_open


def test_what_is_offered_can_be_named() -> None:
    """The scores of a LinearClassifier are no tensor of the model; it is the outputs that are asked for."""
    attrs = {"coefficients": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "intercepts": [0.0] * 3, "classlabels_ints": [0, 1, 2]}
    made = helper.make_node("LinearClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", post_transform="SOFTMAX", **attrs)
    x, p = (helper.make_tensor_value_info(name, 1, ["n", size]) for name, size in (("x", 2), ("p", 3)))
    graph = helper.make_graph([made], "net", [x], [helper.make_tensor_value_info("label", 7, ["n"]), p])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)])
    offered = onnxdtd.inspect(proto)["outputs"]
    assert {offer["scores"].split()[0] for offer in offered} == {"'label'", "'p'"}
    for offer in offered:
        onnxdtd.compile(proto, output=offer["output"])
