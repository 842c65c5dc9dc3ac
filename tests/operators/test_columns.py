"""What columns are called, from inputs to the numbers that their strings are turned into."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import node
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd import Explainer
from onnxdtd.compiler.compile import prepare
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import columns
from onnxdtd.request import Request

CPU = ["CPUExecutionProvider"]
ML = "ai.onnx.ml"
CUT = {"mark": 0, "mincharnum": 1, "pad_value": "#"}


def made(nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], **weights: Any) -> ModelProto:
    """A model with the scores y, with strings among its inputs."""
    info = helper.make_tensor_value_info
    opsets = [helper.make_opsetid(domain, v) for domain, v in (("", 17), ("com.microsoft", 1), (ML, 3))]
    fed = [info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", fed, [info("y", TensorProto.FLOAT, ["n", weights["M"].shape[1]])], constants)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def text_model(
    pool: list[str], counts: list[int], indexes: list[int], middle: list[Any] | None = None, **cut: Any
) -> ModelProto:
    """Strings [n, 1], cut into words, counted, and a dense layer of 1, 2, 3 ... and its negative."""
    sizes = {"min_gram_length": 1, "max_gram_length": len(counts), "max_skip_count": 0, "mode": "TF"}
    pooled = {"pool_strings": pool, "ngram_counts": counts, "ngram_indexes": indexes}
    nodes = [
        node("Reshape", "text flat", "r"),
        node("StringNormalizer", "r", "l", case_change_action="LOWER", locale="C"),
        node("Tokenizer", "l", "t", domain="com.microsoft", **CUT, **cut),
        node("TfIdfVectorizer", "t", "w", **sizes, **pooled),
        *(middle or [node("Identity", "w", "c")]),
        node("MatMul", "c M", "y"),
    ]
    m = np.outer(np.arange(1, len(indexes) + 1), [1, -1]).astype(np.float32)
    return made(nodes, {"text": (TensorProto.STRING, ["n", 1])}, M=m, flat=[-1], none=np.float32([0]))


def test_terms_by_their_place() -> None:
    """Words, and words in a row, wherever the exporter put them; each has its own relevance, 0 where it does not occur."""
    proto = text_model(["a", "dog", "the", "a", "dog", "the", "dog"], [0, 3], [4, 1, 0, 2, 3], separators=[" "])
    run = Explainer(onnxdtd.compile(proto, "lrp-0"), CPU)
    assert run.metadata["features"] == {"w": ["the", "dog", "a dog", "the dog", "a"]}
    found = run({"text": np.array([["The dog A"], ["a dog a dog"], ["cat"]])})
    np.testing.assert_array_equal(found.values["w"], [[1, 1, 0, 1, 1], [0, 2, 2, 0, 2], [0] * 5])
    np.testing.assert_allclose(found.relevance["w"], found.values["w"] * np.arange(1, 6), rtol=1e-6)


def test_letters_stand_together() -> None:
    proto = text_model(["a", " ", "a", "b"], [0, 2], [2, 0, 1], tokenexp=".")
    assert Explainer(onnxdtd.compile(proto, "lrp-0"), CPU).metadata["features"] == {"w": [" ", "ab", "a"]}


BINARY = {
    "by a cast": [node("Cast", "w", "b", to=TensorProto.BOOL), node("Cast", "b", "c", to=TensorProto.FLOAT)],
    "by a threshold": [node("Greater", "w none", "b"), node("Cast", "b", "c", to=TensorProto.FLOAT)],
}


@pytest.mark.parametrize("how", BINARY)
def test_whether_a_term_occurs(how: str) -> None:
    """What counts may be all that is read of them: the truth values are explained then, by the same names. They are never
    negative, so that ``dtd`` looks at them by z+, which leaves out what does not occur.
    """
    proto = text_model(["dog", "the"], [0], [0, 1], middle=BINARY[how], separators=[" "])
    run = Explainer(onnxdtd.compile(proto), CPU)
    assert (run.metadata["preset"], set(run.metadata["rules"].values())) == ("dtd", {"z+"})
    assert run.metadata["features"] == {"c": ["dog", "the"]}
    np.testing.assert_allclose(run({"text": np.array([["dog dog"], ["the dog"]])}).relevance["c"], [[1, 0], [1, 2]])


def test_negative_weights_are_no_counts() -> None:
    proto = text_model(["dog", "the"], [0], [0, 1], separators=[" "])
    (counted,) = [n for n in proto.graph.node if n.op_type == "TfIdfVectorizer"]
    for weights, rule in (([1.0, 0.0], "z+"), ([1.0, -1.0], "w2")):
        counted.attribute.append(helper.make_attribute("weights", weights))
        rules = prepare(proto, Request(preset="dtd")).addition.metadata["rules"]
        assert rules["y_node"] == rule
        counted.attribute.pop()


def mixed(*picks: Any) -> ModelProto:
    """Two words and a number, each word picked from one input."""
    categories = [node("OneHotEncoder", f"x{i}", f"h{i}", domain=ML, cats_strings=["a", "b"]) for i in range(2)]
    flat = [node("Reshape", f"h{i} two", f"f{i}") for i in range(2)]
    nodes = [*picks, *categories, *flat, node("Concat", "f0 f1 x", "c", axis=1), node("MatMul", "c M", "y")]
    inputs = {"x": (TensorProto.FLOAT, ["n", 1]), "words": (TensorProto.STRING, ["n", 2])}
    return made(nodes, inputs, M=np.eye(5, 3, dtype=np.float32), two=[-1, 2], one=[1], zero=[0], fill=["a"])


PICKED = {
    "ArrayFeatureExtractor": [
        node("ArrayFeatureExtractor", f"words {at}", x, domain=ML) for at, x in (("one", "x0"), ("zero", "x1"))
    ],
    "Gather": [node("Gather", f"words {at}", x, axis=1) for at, x in (("one", "x0"), ("zero", "x1"))],
    "SimpleImputer": [  # of strings, as skl2onnx writes it
        made
        for at, x in (("one", "x0"), ("zero", "x1"))
        for made in (
            node("ArrayFeatureExtractor", f"words {at}", f"{x}p", domain=ML),
            node("LabelEncoder", f"{x}p", f"{x}l", domain=ML, keys_strings=[""], values_int64s=[1], default_int64=0),
            node("Cast", f"{x}l", f"{x}b", to=TensorProto.BOOL),
            node("Where", f"{x}b fill {x}p", x),
        )
    ],
}


@pytest.mark.parametrize("op", PICKED)
def test_columns_that_are_picked(op: str) -> None:
    """A column is called by its input and place, and by what it tells; a number beside it by its own name."""
    said = Explainer(onnxdtd.compile(mixed(*PICKED[op]), "lrp-0"), CPU).metadata
    seen = [entry["seen"] for entry in onnxdtd.inspect(mixed(*PICKED[op]), Request(preset="lrp-0"))["inputs"]]
    assert seen == ["1 feature", "2 features: words[1]=a, words[1]=b", "2 features: words[0]=a, words[0]=b"]
    assert list(said["relevance"]) == ["x", "h0", "h1"]
    assert said["features"] == {"h0": ["words[1]=a", "words[1]=b"], "h1": ["words[0]=a", "words[0]=b"]}


def test_only_columns_are_picked() -> None:
    """Along the last axis of a table; of rows it is not known which."""
    table, index = Tensor("t", np.dtype(object), ["n", 2]), Tensor("i", np.dtype(np.int64), [1], np.array([1]))
    along = lambda axis: Node("Gather", "", [table, index], [Tensor("x")], {"axis": axis})
    assert columns.picked(0)(along(1), [["a", "b"], None]) == columns.picked(0)(along(-1), [["a", "b"], None]) == ["b"]
    assert columns.picked(0)(along(0), [["a", "b"], None]) is None
