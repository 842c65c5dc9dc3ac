"""The words of a whole data set, and where they are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import node
from onnx import TensorProto, helper, numpy_helper

from onnxdtd.request import Request
from onnxdtd.study.explain import explain
from onnxdtd.study.wordlist import Wordlist, written

W = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]], np.float32)


def test_words_are_added_up_by_class() -> None:
    found = Wordlist()
    found.add("spam", [("Free", 2.0), ("free", -0.5), ("now", 0.25)])
    found.add("spam", [("FREE", 1.0), ("no", -1.0)])
    found.add("ham", [("free", -4.0)])
    assert written(found.words()).decode().splitlines() == [
        "class,word,texts,times,sum,mean,for,against",
        "ham,free,1,1,-4,-4,0,-4",
        "spam,free,2,3,2.5,0.833333,3,-0.5",
        "spam,now,1,1,0.25,0.25,0.25,0",
        "spam,no,1,1,-1,-1,0,-1",
    ]
    assert found.texts == 3


def counted(folder: Path) -> Path:
    """How often three words occur; each has a weight for either class."""
    pool = {"pool_strings": ["dog", "cat", "red"], "ngram_counts": [0], "ngram_indexes": [0, 1, 2], "mode": "TF"}
    nodes = [
        node("Tokenizer", "text", "t", domain="com.microsoft", mark=0, mincharnum=1, pad_value="#", separators=[" "]),
        node("TfIdfVectorizer", "t", "w", min_gram_length=1, max_gram_length=1, max_skip_count=0, **pool),
        node("MatMul", "w M", "y"),
    ]
    text = helper.make_tensor_value_info("text", TensorProto.STRING, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "g", [text], [y], [numpy_helper.from_array(W, "M")])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["dog dog red", "dog dog", "cat red"], ["class 0,dog,2,2,4,2,4,0", "class 0,red,1,1,-1,-1,0,-1"]),
        (["dog red"], None),
    ],
    ids=["several", "one"],
)
def test_terms_of_all_texts(lines: list[str], expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the class that was explained; of a single text there is nothing to add up."""
    monkeypatch.setattr("onnxdtd.data.images.draw", lambda *args: None)
    (tmp_path / "a.csv").write_text("\n".join(["text", *lines]) + "\n")
    found = explain(counted(tmp_path), [tmp_path / "a.csv"], Request(preset="lrp-0"), tmp_path / "out")
    file = tmp_path / "out/words.csv"
    if expected is None:
        assert not file.exists()
        assert found.words == []
    else:
        assert file.read_text().splitlines()[1:3] == expected
        assert [word.text for word in found.words] == ["dog", "red", "cat", "red"]


def test_words_of_tokens(tmp_path: Path) -> None:
    """The pieces of a word count as one; the page tells the first words of each class."""
    made = pytest.importorskip("tokenizers_made")
    from onnxdtd.report.texts import write

    table = np.arange(15, dtype=np.float32)[:, None] * [[1.0, -1.0]]
    nodes = [node("Gather", "E ids", "e", axis=0), node("ReduceSum", "e along", "y", keepdims=0)]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "s"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    weights = [numpy_helper.from_array(table.astype(np.float32), "E"), numpy_helper.from_array(np.array([1]), "along")]
    graph = helper.make_graph(nodes, "g", [ids], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    (tmp_path / "a.csv").write_text("text\nfree mobiles\nfree\n")
    given = {"tokenizer": made.saved(made.wordpiece(), tmp_path)}
    found = explain(tmp_path / "m.onnx", [tmp_path / "a.csv"], Request(preset="lrp-0"), tmp_path / "out", **given)
    assert [(word.text, word.texts, word.total) for word in found.words] == [("mobiles", 1, 5.0 + 6.0), ("free", 2, 8.0)]
    write(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text()
    assert "Words of all texts" in page
    assert page.index("mobiles</") < page.rindex("free</")
