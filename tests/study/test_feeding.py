"""Models with several inputs: what goes in from an ``.npz``, and what is shown of their relevance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from galleries import filled
from nets import eighths, model, node
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd import Explainer
from onnxdtd.errors import RequestError
from onnxdtd.request import Request
from onnxdtd.study.bench import bench
from onnxdtd.study.feeding import Feeding
from onnxdtd.study.presenter import Presenter
from onnxdtd.study.subject import Subject
from onnxdtd.study.verify import verify

CPU = ["CPUExecutionProvider"]
W = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25], [2.0, 0.75], [-0.5, 1.5]], np.float32)
AGE, SIZE = np.array([38.0, 20.0, 3.5]), np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 4.0]])
SEX = np.array(["male", "female", "other"])
CODED = np.array([[0, 1], [1, 0], [0, 0]])


def table() -> ModelProto:
    """A number, two numbers, and a word."""
    nodes = [
        helper.make_node("OneHotEncoder", ["sex"], ["wide"], domain="ai.onnx.ml", cats_strings=["female", "male"], zeros=1),
        helper.make_node("Reshape", ["wide", "rows"], ["flat"]),
        helper.make_node("Concat", ["age", "size", "flat"], ["c"], axis=1),
        helper.make_node("MatMul", ["c", "w"], ["y"], "dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n", 1]),
            helper.make_tensor_value_info("size", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("sex", TensorProto.STRING, ["n", 1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(W, "w"), numpy_helper.from_array(np.array([-1, 2]), "rows")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def archive(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "some.npz", **{"age": AGE, "size": SIZE, "sex": SEX, **arrays})
    return folder / "some.npz"


def job(proto: ModelProto | None = None, **options: Any) -> Presenter:
    return Presenter(Explainer(onnxdtd.compile(proto or table(), "lrp-0", **options), CPU))


def test_columns_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LRP-0 of a linear layer is x w; every column is a bar with its name, those of a word too, which stands below."""
    drawn: list[Any] = []
    monkeypatch.setattr("onnxdtd.data.images.draw", lambda *args: drawn.append(args))
    results = filled(job(), tmp_path / "out", [archive(tmp_path)], save=tmp_path / "r.npz").results
    rows = np.column_stack([AGE, SIZE, CODED])
    chosen = (rows @ W).argmax(1)
    want = rows * W[:, chosen].T
    assert [r.predicted for r in results] == chosen.tolist()
    for (_, x, relevance, caption, form, *_), row, r, word in zip(drawn, rows, want, SEX, strict=True):
        np.testing.assert_array_equal(x, row)
        np.testing.assert_allclose(relevance, r, rtol=1e-6)
        said = caption.features
        assert [entry.name + entry.category for entry in said.features.entries] == [
            "age", "size[0]", "size[1]", "sex=female", "sex=male"
        ]  # fmt: skip
        assert said.features.names == ("age", "size[0]", "size[1]", "sex")
        assert said.said(3) == f"sex = {word}"
        np.testing.assert_allclose(said.features.sums(relevance), [*r[:3], r[3:].sum()], rtol=1e-6)
        assert "given" not in caption.subtitle
        assert list(form.shape) == [5]
    with np.load(tmp_path / "r.npz") as saved:
        np.testing.assert_allclose(saved["relevance/age"], want[:, :1], rtol=1e-6)
        np.testing.assert_allclose(saved["relevance/size"], want[:, 1:3], rtol=1e-6)
    assert len(json.loads((tmp_path / "out/results.json").read_text())["samples"]) == 3


def test_bars_are_drawn(tmp_path: Path) -> None:
    filled(job(), tmp_path / "out", [archive(tmp_path)])
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == [
        "some_000.png",
        "some_001.png",
        "some_002.png",
        "summary.png",
    ]


def test_bounds_are_those_of_each_input(tmp_path: Path) -> None:
    """Values far outside of the bounds of their own input are flagged."""
    made = job(low={"age": 0, "size": -5}, high={"age": 2, "size": 5})
    (first, *_) = made.feeding.read(archive(tmp_path))
    result, *_ = made.explain(first)
    assert [(flag.code, flag.text[:31]) for flag in result.flags if flag.code == "outside"] == [
        ("outside", "its values reach from 38 to 38,")
    ]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"age": AGE[:2]}, "different numbers of samples: 2 in 'age', 3 in 'size', 3 in 'sex'"),
        ({"sex": AGE}, "'sex' has no strings (array of float64)"),
        ({"age": SEX}, "'age' has no numbers (array of <U6)"),
        ({"size": np.ones((3, 3))}, "'size' is [3, 3], the model takes samples of [2]"),
    ],
    ids=["lengths", "numbers", "strings", "shape"],
)
def test_archives_that_do_not_fit(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        list(job().feeding.read(archive(tmp_path, **arrays)))
    assert str(caught.value) == f"{tmp_path}/some.npz: {words}" or words in str(caught.value)


def test_columns_of_a_table(tmp_path: Path) -> None:
    """By the names in its first line; a word without a value is an empty one."""
    (tmp_path / "a.csv").write_text("size[0],sex,age,size[1]\n1,male,38,2\n0.5,NA,4,-1\n")
    first, second = (values for _, values in job().feeding.rows(tmp_path / "a.csv"))
    assert (first["sex"].item(), second["sex"].item()) == ("male", "")
    assert [*first["age"], *first["size"]] == [38, 1, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("age,size,sex\n1,2,male\n", "has none of the columns size[0], size[1] ..., but the model takes 2"),
        (
            "age,size[0],size[1],sex\n1,2,2,a, b\n",
            "line 2 has 5 cells, but there are 4 names; quote cells that have a ',' in them",
        ),
        ("age,size[0],size[1],sex\nx,2,2,a\n", "line 2, column 'age': 'x' is no number"),
        ("age,size[0],size[1],sex\n1,2,3,\n,2,2,a\n", "line 3, column 'age': has no value, and the model takes no missing"),
        ("age,size[0],size[1]\n1,2,2\n", "has no column 'sex', which the model takes; did you mean 'size[1]', 'size[0]'?"),
        ("", "is empty"),
    ],
)
def test_tables_that_do_not_fit(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(RequestError) as caught:
        list(job().feeding.rows(tmp_path / "a.csv"))
    assert words in str(caught.value)


def test_strings_alone(tmp_path: Path) -> None:
    """What words are turned into stands side by side, each with its name; `verify` takes words too."""
    encoders = [helper.make_node("OneHotEncoder", [x], [f"{x}_is"], domain="ai.onnx.ml", cats_strings=["a", "b"]) for x in "st"]
    nodes = [*encoders, node("Concat", "s_is t_is", "c", axis=2), node("Squeeze", "c one", "f"), node("MatMul", "f w", "y")]
    info = helper.make_tensor_value_info
    words = [info(name, TensorProto.STRING, ["n", 1]) for name in "st"]
    weights = [numpy_helper.from_array(W[:4], "w"), numpy_helper.from_array(np.array([1]), "one")]
    graph = helper.make_graph(nodes, "g", words, [info("y", TensorProto.FLOAT, ["n", 2])], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    source = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), source)
    onnxdtd.save(onnxdtd.compile(source, "lrp-0"), tmp_path / "c.onnx")
    (tmp_path / "a.csv").write_text("s,t\na,b\nb,b\n")
    made = Presenter(Explainer(tmp_path / "c.onnx", CPU))
    (first, *_) = made.feeding.read(tmp_path / "a.csv")
    one = made.explain(first)
    assert "given" not in made.caption(one.result, first.others, one.described).subtitle
    assert [entry.name + entry.category for entry in first.features.entries] == ["s=a", "s=b", "t=a", "t=b"]
    assert [first.described.said(i) for i in range(2)] == ["s = a", "t = b"]
    for sample, row in zip(made.feeding.read(tmp_path / "a.csv"), ([1, 0, 0, 1], [0, 1, 0, 1]), strict=True):
        _, relevance, *_ = made.explain(sample)
        np.testing.assert_allclose(relevance, row * W[:4, (row @ W[:4]).argmax()], rtol=1e-6)
    assert verify(tmp_path / "c.onnx", source, tmp_path / "a.csv", None).passed


def test_archives_without_an_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", age=AGE, size=SIZE)
    with pytest.raises(RequestError, match=r"a\.npz: has no array 'sex'; the model takes age, size, sex"):
        list(job().feeding.read(tmp_path / "a.npz"))
    np.save(tmp_path / "a.npy", SIZE)
    with pytest.raises(RequestError, match=r"several inputs; give a table.* with a column for each, age, size, sex"):
        list(job().feeding.read(tmp_path / "a.npy"))


def both() -> ModelProto:
    """A picture and a vector, each a part of the score."""
    nodes = [
        node("Conv", "image k", "c"),
        node("GlobalAveragePool", "c", "g"),
        node("Flatten", "g", "f"),
        node("Concat", "f facts", "all", axis=1),
        node("MatMul", "all w", "y"),
    ]
    rng = np.random.default_rng(0)
    weights = {"k": eighths(rng, 2, 3, 3, 3), "w": eighths(rng, 4, 3)}
    return model(nodes, {"image": ["n", 3, 6, 6], "facts": ["n", 2]}, ["y"], weights)


def test_of_a_picture_and_a_vector_one_is_shown(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"several inputs are explained .*--explain NAME"):
        job(both())
    made = job(both(), explain=["image"])
    np.savez(tmp_path / "two.npz", image=np.ones((2, 3, 6, 6)), facts=np.eye(2))
    for sample in made.feeding.read(tmp_path / "two.npz"):
        _, relevance, *_ = made.explain(sample)
        assert sample.x.shape == relevance.shape == (3, 6, 6)
        direct = made.explainer({"image": sample.x[None], "facts": sample.others["facts"][None]})
        np.testing.assert_array_equal(relevance, direct.relevance["image"][0])


def test_what_has_no_samples_is_fed_to_each(tmp_path: Path) -> None:
    """An adjacency matrix, say, that all samples have in common."""
    proto = model([node("MatMul", "x a", "h"), node("MatMul", "h w", "y")], {"x": ["n", 4], "a": [4, 4]}, ["y"], {"w": W[:4]})
    feeding = Feeding(Explainer(onnxdtd.compile(proto, "lrp-0", explain=["x"]), CPU))
    assert feeding.layouts["a"].axis is None
    np.savez(tmp_path / "g.npz", x=np.eye(4)[:3], a=2 * np.eye(4))
    rows = [feeding.feeds(values) for _, values in feeding.rows(tmp_path / "g.npz")]
    assert len(rows) == 3
    assert all(row["x"].shape == (1, 4) and row["a"].tolist() == (2 * np.eye(4)).tolist() for row in rows)


def test_verify_and_bench_know_words(tmp_path: Path) -> None:
    """Words that the model knows are drawn where none are given."""
    onnx.save(table(), tmp_path / "net.onnx")
    onnxdtd.save(onnxdtd.compile(table(), "lrp-epsilon"), tmp_path / "made.onnx")
    assert Explainer(tmp_path / "made.onnx", CPU).metadata["strings"] == {"sex": ["female", "male"]}
    assert verify(tmp_path / "made.onnx", tmp_path / "net.onnx").passed
    assert verify(tmp_path / "made.onnx", tmp_path / "net.onnx", archive(tmp_path)).passed
    (timing,) = bench(tmp_path / "net.onnx", Request(preset="lrp-epsilon"), [2], rounds=1)
    assert timing.batch == 2


def test_lists_by_input(tmp_path: Path) -> None:
    """As a tokenizer gives them."""
    (tmp_path / "a.json").write_text(json.dumps({"age": AGE.tolist(), "size": SIZE.tolist(), "sex": list(SEX)}))
    made = job()
    for one, other in zip(made.feeding.read(tmp_path / "a.json"), made.feeding.read(archive(tmp_path)), strict=True):
        np.testing.assert_allclose(one.x, other.x, rtol=1e-6)
        assert one.others == other.others
    for text in ("[1]", "{", '{"age": [[1], [1, 2]]}'):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(RequestError, match=r"b\.json: no arrays can be read from it"):
            list(made.feeding.read(tmp_path / "b.json"))


def test_what_takes_a_mask_besides_is_not_measured(tmp_path: Path) -> None:
    proto = model([node("Mul", "x mask", "m"), node("MatMul", "m w", "y")], {"x": ["n", 5], "mask": ["n", 5]}, ["y"], {"w": W})
    proto.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    proto.graph.node[0].input[1] = "number"
    proto.graph.node.insert(0, helper.make_node("Cast", ["mask"], ["number"], to=TensorProto.FLOAT))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(RequestError, match=r"models of one input, but this one also takes mask"):
        Subject(tmp_path / "m.onnx", Request(), tmp_path)


def words_model(shape: list[Any]) -> ModelProto:
    """How often three words occur; each has a weight for either class."""
    pool = {"pool_strings": ["dog", "cat", "red"], "ngram_counts": [0], "ngram_indexes": [0, 1, 2], "mode": "TF"}
    nodes = [
        node("Reshape", "text flat", "r"),
        node("Tokenizer", "r", "t", domain="com.microsoft", mark=0, mincharnum=1, pad_value="#", separators=[" "]),
        node("TfIdfVectorizer", "t", "w", min_gram_length=1, max_gram_length=1, max_skip_count=0, **pool),
        node("MatMul", "w M", "y"),
    ]
    info = helper.make_tensor_value_info
    weights = [numpy_helper.from_array(W[:3], "M"), numpy_helper.from_array(np.array([-1]), "flat")]
    inputs, outputs = [info("text", TensorProto.STRING, shape)], [info("y", TensorProto.FLOAT, ["n", 2])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, weights), opset_imports=opsets, ir_version=8)


FILES = {
    "a.csv": 'label,text\n1,"red dog dog"\n0,cat cat\n',
    "a.jsonl": '{"text": "red dog dog"}\n{"text": "cat cat"}\n',
    "b.csv": "text\nred dog dog\ncat cat\n",  # the column is that of the input
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("shape", [["n", 1], ["n"]])
def test_texts_as_they_are(name: str, shape: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that cuts texts by itself reads them from files of texts; its terms that speak for a class, and against it, are
    told with their share, and what does not occur is not among them.
    """
    (tmp_path / name).write_text(FILES[name])
    drawn: list[Any] = []
    monkeypatch.setattr("onnxdtd.data.images.draw", lambda *args: drawn.append(args))
    first, second = filled(job(words_model(shape)), tmp_path / "out", [tmp_path / name]).results
    assert [(each.name, each.value, each.relevance) for each in first.pro] == [("dog", 2, 2.0)]
    assert [(each.name, each.value, each.relevance) for each in first.contra] == [("red", 1, -1.0)]
    assert [each.share for each in (*first.pro, *first.contra)] == pytest.approx([2 / 3, -1 / 3])
    assert ([each.name for each in second.pro], second.contra, second.predicted) == (["cat"], [], 1)
    assert [args[3].features.features.names for args in drawn] == [("dog", "cat", "red")] * 2
    assert all(args[3].features.features.are_terms for args in drawn)
    assert not any(flag.code == "absent" for flag in (*first.flags, *second.flags))


def test_terms_that_are_not_there(tmp_path: Path) -> None:
    """A gradient looks at them as well."""
    (tmp_path / "one.txt").write_text("cat\n")
    made = Presenter(Explainer(onnxdtd.compile(words_model(["n", 1]), "gradient"), CPU))
    (sample,) = made.feeding.read(tmp_path / "one.txt")
    result, *_ = made.explain(sample)
    (flag,) = [flag for flag in result.flags if flag.code == "absent"]
    share = 1 - 3 / np.abs(W[:3, 1]).sum()
    assert flag.text == f"{share:.0%} of Σ |relevance| is that of terms, or categories, that are not in it"


def test_columns_of_whole_numbers_are_explained_too(tmp_path: Path) -> None:
    """As numbers, or by their categories; the file's own names, and what the column has, stand on the bars."""
    coded = helper.make_node("OneHotEncoder", ["n_rooms"], ["rooms"], domain="ai.onnx.ml", cats_int64s=[1, 2])
    nodes = [
        coded,
        node("Flatten", "rooms", "r"),
        helper.make_node("Cast", ["age"], ["years"], to=TensorProto.FLOAT),
        node("Concat", "years size r", "f", axis=1),
        node("MatMul", "f w", "y"),
    ]
    info = helper.make_tensor_value_info
    kinds = {"age": TensorProto.INT64, "size": TensorProto.FLOAT, "n_rooms": TensorProto.INT64}
    inputs = [info(name, kind, ["n", 1]) for name, kind in kinds.items()]
    graph = helper.make_graph(
        nodes, "g", inputs, [info("y", TensorProto.FLOAT, ["n", 2])], [numpy_helper.from_array(W[:4], "w")]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (tmp_path / "a.csv").write_text("n rooms,size,age\n2,0.5,38\n1,2,4\n")
    made = job(proto)
    for sample, row in zip(made.feeding.read(tmp_path / "a.csv"), ([38, 0.5, 0, 1], [4, 2, 1, 0]), strict=True):
        found = made.explain(sample)
        assert found.described is not None
        want = row * W[:4, (np.array(row) @ W[:4]).argmax()]
        sums = dict(zip(found.described.features.names, found.described.features.sums(found.relevance), strict=True))
        assert sums == pytest.approx({"size": want[1], "age": want[0], "n rooms": want[2:].sum()}, rel=1e-6)
        said = {found.described.said(i) for i in range(3)}
        assert said == {f"age = {row[0]}", f"size = {row[1]}", f"n rooms = {1 + row[3]}"}
