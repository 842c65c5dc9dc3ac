"""What relevance is given to: ids have that of what they look up, however that is written, and a named tensor ends the walk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from nets import eighths, node
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd import Explainer
from onnxdtd.compiler.compile import prepare
from onnxdtd.errors import ModelError, OnnxdtdError, RequestError
from onnxdtd.request import Request

CPU = ["CPUExecutionProvider"]
RNG = np.random.default_rng(0)
V, L, D = 20, 6, 4
E, W, U = eighths(RNG, V, D), eighths(RNG, D, 5), eighths(RNG, 5, 3)
IDS = RNG.integers(0, V, (3, L))
INT, FLOAT, BYTE = TensorProto.INT64, TensorProto.FLOAT, TensorProto.UINT8
HEAD = [
    node("MatMul", "e W", "h"),
    node("Relu", "h", "r"),
    node("ReduceMean", "r", "m", axes=[1], keepdims=0),
    node("MatMul", "m U", "y"),
]


def made(nodes: Sequence[NodeProto], inputs: Mapping[str, Any], domain: str = "", **weights: Any) -> ModelProto:
    """A classifier of three classes with the head above; inputs are (type, shape)."""
    known = {"E": E, "W": W, "U": U, **weights}
    used = {name for n in nodes for name in n.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info("y", FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in known.items() if name in used],
    )
    opsets = [
        helper.make_opsetid("", 17),
        *([helper.make_opsetid(domain, 2 if domain == "ai.onnx.ml" else 1)] if domain else []),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def explained(proto: ModelProto, feeds: Any, preset: str, **options: Any) -> dict[str, np.ndarray]:
    return Explainer(onnxdtd.compile(proto, preset, **options), CPU)(feeds).relevance


def tokens(embeddings: np.ndarray, preset: str) -> np.ndarray:
    """What a model of floats says of the embeddings themselves, summed for each token."""
    (found,) = explained(made(HEAD, {"e": (FLOAT, ["n", L, D])}), embeddings, preset).values()
    return found.sum(axis=-1)


def cast(source: str, result: str, to: int) -> NodeProto:
    return node("Cast", source, result, to=to)


VOCABULARY = np.arange(V).reshape(1, 1, V)
LOOK_UP = node("Gather", "E i", "e")
# Ways to write E[ids]: the nodes, the type of the input, the constants
SLICED = [
    node("Slice", "ids last first axis down", "i"),
    node("Gather", "E i", "f"),
    node("Slice", "f last first axis down", "e"),
]
DOWN = {"last": [-1], "first": [-100], "axis": [1], "down": [-1]}
ACROSS = [node("Gather", "Et ids", "f", axis=1), node("Transpose", "f", "e", perm=[1, 2, 0])]
SWAPPED = {"swap": np.arange(V)[::-1].copy(), "E": E[::-1].copy()}
ROWS = [node("Reshape", "ids flat", "i"), node("Gather", "E i", "rows"), node("Reshape", "rows back", "e")]
CLIPPED = [node("Sub", "ids one", "a"), node("Clip", "a low high", "c"), node("Add", "c one", "i"), LOOK_UP]
KNOWN = [node("Less", "ids many", "known"), node("Where", "known ids unknown", "i"), LOOK_UP]
CHOSEN = node("MatMul", "hot E", "e")
HOT = [node("OneHot", "ids depth values", "hot"), CHOSEN]
COUNTED = [node("OneHot", "ids depth values", "o"), cast("o", "hot", FLOAT), CHOSEN]
EQUAL = [node("Unsqueeze", "ids two", "u"), node("Equal", "u all", "o"), cast("o", "hot", FLOAT), CHOSEN]
WIDE = [node("Unsqueeze", "ids two", "u"), node("Expand", "u wide", "w"), node("Equal", "all w", "o")]
YES = {"two": [2], "all": VOCABULARY, "wide": [1, 1, V], "yes": np.float32(1), "no": np.float32(0)}
GRID = {"Q": np.rint(E * 8).astype(np.int8), "scale": np.float32(1 / 8)}
SPELLINGS: dict[str, tuple[list[NodeProto], int, dict[str, Any]]] = {
    "gather": ([node("Gather", "E ids", "e")], INT, {}),
    "bytes": ([cast("ids", "i", TensorProto.INT32), LOOK_UP], BYTE, {}),
    "floats": ([cast("ids", "i", INT), LOOK_UP], FLOAT, {}),
    "clipped": (CLIPPED, INT, {"one": 1, "low": -1, "high": V - 2}),
    "flat": (ROWS, INT, {"flat": [-1], "back": [-1, L, D]}),
    "backwards": (SLICED, INT, DOWN),
    "table across": (ACROSS, INT, {"Et": E.T.copy()}),
    "two tables": ([node("Gather", "swap ids", "i"), LOOK_UP], INT, SWAPPED),
    "unknown words": (KNOWN, INT, {"many": V, "unknown": 0}),
    "quantised": ([node("Gather", "Q ids", "q"), node("DequantizeLinear", "q scale", "e")], INT, GRID),
    "one-hot": (HOT, INT, {"depth": V, "values": np.float32([0, 1])}),
    "one-hot integers": (COUNTED, INT, {"depth": V, "values": [0, 1]}),
    "equal": (EQUAL, INT, {"two": [2], "all": VOCABULARY}),
    "equal, expanded": ([*WIDE, node("Where", "o yes no", "hot"), CHOSEN], INT, YES),
}


@pytest.mark.parametrize("preset", ["lrp-epsilon", "gradient-x-input", "dtd"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_ids_have_the_relevance_of_what_they_look_up(spelling: str, preset: str) -> None:
    nodes, kind, constants = SPELLINGS[spelling]
    proto = made([*nodes, *HEAD], {"ids": (kind, ["n", L])}, **constants)
    prepared = prepare(proto, Request(preset=preset))
    assert prepared.ids == {"ids": V}
    (found,) = explained(proto, IDS, preset).values()
    expected = tokens(E[IDS], preset)
    assert found.dtype == np.float32
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_ids_chosen_between_have_the_relevance_of_what_is_chosen_once() -> None:
    """skl2onnx writes so of numbers that may be missing: they are what they were, missing or not."""
    both = [node("IsNaN", "ids", "missing"), node("Where", "missing ids ids", "same"), cast("same", "i", INT), LOOK_UP]
    (found,) = explained(made([*both, *HEAD], {"ids": (FLOAT, ["n", L])}), IDS.astype(np.float32), "lrp-epsilon").values()
    np.testing.assert_allclose(found, tokens(E[IDS], "lrp-epsilon"), atol=1e-6)


def test_a_gradient_is_summed_over_what_is_looked_up() -> None:
    (found,) = explained(made([node("Gather", "E ids", "e"), *HEAD], {"ids": (INT, ["n", L])}), IDS, "gradient").values()
    np.testing.assert_allclose(found, tokens(E[IDS], "gradient"), atol=1e-6)


def test_a_one_hot_vector_may_be_the_end() -> None:
    """Where no table is behind it alone; its bounds are 0 and 1, known without asking."""
    nodes = [
        node("OneHot", "ids depth values", "hot"),
        node("Flatten", "hot", "f"),
        node("MatMul", "f A", "h"),
        node("Relu", "h", "r"),
        node("MatMul", "r U", "y"),
    ]
    a = eighths(RNG, L * V, 5)
    proto = made(nodes, {"ids": (INT, ["n", L])}, A=a, depth=V, values=np.float32([0, 1]))
    prepared = prepare(proto, Request())
    assert prepared.request.preset == "dtd"
    assert {str(step.rule) for step in prepared.plan.steps if step.facts and step.facts.first} == {"zB"}
    found = Explainer(onnxdtd.compile(proto, "dtd"), CPU)(IDS)
    twin = Explainer(onnxdtd.compile(made(nodes[1:], {"hot": (FLOAT, ["n", L, V])}, A=a), "dtd", low=0, high=1), CPU)
    np.testing.assert_allclose(found.relevance["ids"], twin(np.eye(V)[IDS]).relevance["hot"].sum(-1), atol=1e-6)


# ------------------------------------------------------------------------------------------ which of several, and which is what

BERT = [
    node("Gather", "E ids", "word"),
    node("Gather", "T kinds", "kind"),
    node("Add", "word kind", "s"),
    node("Add", "s P", "p"),
    cast("mask", "mf", FLOAT),
    node("Unsqueeze", "mf two", "mu"),
    node("Mul", "p mu", "e"),
    *HEAD,
]
EXTRA = {"T": eighths(RNG, 2, D), "P": eighths(RNG, L, D), "two": [2]}
MASK = np.array([[1, 1, 1, 1, 0, 0]] * 3)


def bert(mask: int = INT) -> ModelProto:
    shape = ["n", L]
    return made(BERT, {"ids": (INT, shape), "kinds": (INT, shape), "mask": (mask, shape)}, **EXTRA)


def test_words_and_kinds_have_their_own_share_and_padding_has_none() -> None:
    feeds = {"ids": IDS, "kinds": IDS % 2, "mask": MASK}
    assert prepare(bert(), Request(preset="gradient-x-input")).ids == {"ids": V, "kinds": 2}
    found = explained(bert(), feeds, "gradient-x-input")
    assert set(found) == {"ids", "kinds"}
    whole = E[IDS] + EXTRA["T"][IDS % 2] + EXTRA["P"]
    (gradient,) = explained(made(HEAD, {"e": (FLOAT, ["n", L, D])}), whole * MASK[..., None], "gradient").values()
    for name, part in (("ids", E[IDS]), ("kinds", EXTRA["T"][IDS % 2])):
        np.testing.assert_allclose(found[name], (gradient * part).sum(-1) * MASK, atol=1e-6)
        assert not found[name][:, 4:].any()
    only = explained(bert(), feeds, "gradient-x-input", explain=["ids"])
    np.testing.assert_array_equal(only["ids"], found["ids"])


def test_numbers_come_before_ids() -> None:
    """As the contract says; what is left out is named, and can be asked for."""
    assert [t.name for t in prepare(bert(FLOAT), Request()).plan.inputs] == ["mask"]
    plan = prepare(bert(FLOAT), Request(explain=["mask", "ids"])).plan
    assert [t.name for t in plan.inputs] == ["ids", "mask"]
    every = "--explain ids --explain mask --explain kinds"  # in the order of the model, but for what is left out
    left = f"not explained: kinds (int64); what they contribute counts as a constant; ids can be explained too: {every}"
    assert left in plan.notes
    assert "the relevance of 'ids' is that of what it looks up, 'word'" in plan.notes


def test_columns_of_a_table_are_explained_whether_they_are_numbers_or_look_something_up() -> None:
    """As Keras writes a table: an input a column, [n, 1], some of them for an Embedding."""
    nodes = [
        node("Gather", "E kind", "rows"),
        node("Reshape", "rows flat", "e"),
        node("Concat", "age e", "all", axis=1),
        node("MatMul", "all W", "h"),
        node("Relu", "h", "r"),
        node("MatMul", "r U", "y"),
    ]
    wide = eighths(RNG, 1 + D, 5)
    proto = made(nodes, {"age": (FLOAT, ["n", 1]), "kind": (INT, ["n", 1])}, W=wide, flat=[-1, D])
    feeds = {"age": np.float32([[1], [2], [-1]]), "kind": IDS[:, :1]}
    found = explained(proto, feeds, "lrp-epsilon")
    twin = made(nodes[2:], {"age": (FLOAT, ["n", 1]), "e": (FLOAT, ["n", D])}, W=wide)
    expected = explained(twin, {"age": feeds["age"], "e": E[IDS[:, 0]]}, "lrp-epsilon")
    np.testing.assert_allclose(found["age"], expected["age"], atol=1e-6)
    np.testing.assert_allclose(found["kind"], expected["e"].sum(1, keepdims=True), atol=1e-6)
    assert set(explained(proto, feeds, "lrp-epsilon", explain=["age"])) == {"age"}


@pytest.mark.parametrize("counted", [False, True])
def test_what_several_ids_look_up_together_is_named(counted: bool) -> None:
    """Hashed pairs of ids have no single one to go to; positions counted where there is no padding do not depend on ids."""
    numbers = [
        node("Slice", "ids one six axis", "next"),
        node("Slice", "ids zero five axis", "this"),
        node("Add", "this next", "pair"),
        node("Mod", "pair rows", "n"),
    ]
    if counted:
        numbers = [
            node("Equal", "ids pad", "none"),
            node("Not", "none", "some"),
            cast("some", "i", INT),
            node("CumSum", "i last", "n"),
        ]
    both = [node("Gather", "E ids", "w"), *numbers, node("Gather", "B n", "b"), node("Concat", "w b", "e", axis=1), *HEAD]
    constants = {"one": [1], "six": [6], "zero": [0], "five": [5], "axis": [1], "rows": 7, "pad": 0, "last": 1}
    proto = made(both, {"ids": (INT, ["n", L])}, B=eighths(RNG, 7, D), **constants)
    said = "'b' is looked up by numbers computed from several ids and counts as a constant; --from explains it"
    assert (said in prepare(proto, Request()).plan.notes) == (not counted)
    assert said not in prepare(proto, Request(from_=["w", "b"])).plan.notes


def test_an_input_of_floats_may_hold_both() -> None:
    """A category in the first column, numbers in the others."""
    nodes = [
        node("Split", "x widths", "c n", axis=1),
        cast("c", "i", INT),
        node("Gather", "E i", "g"),
        node("Squeeze", "g one", "s"),
        node("Concat", "s n", "a", axis=1),
        node("MatMul", "a A", "h"),
        node("Relu", "h", "r"),
        node("MatMul", "r U", "y"),
    ]
    a, x = eighths(RNG, D + 2, 5), np.float32([[3, 0.5, -1], [7, 0.25, 2]])
    (found,) = explained(made(nodes, {"x": (FLOAT, ["n", 3])}, A=a, widths=[1, 2], one=[1]), x, "lrp-epsilon").values()
    twin = made(nodes[5:], {"a": (FLOAT, ["n", D + 2])}, A=a)
    (whole,) = explained(twin, np.concatenate([E[[3, 7]], x[:, 1:]], axis=1), "lrp-epsilon").values()
    expected = np.concatenate([whole[:, :D].sum(1, keepdims=True), whole[:, D:]], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kind", [TensorProto.INT32, INT, BYTE])
def test_integers_that_are_computed_with_are_numbers(kind: int) -> None:
    nodes = [cast("c", "a", FLOAT), node("MatMul", "a W", "h"), node("Relu", "h", "r"), node("MatMul", "r U", "y")]
    proto, x = made(nodes, {"c": (kind, ["n", D])}), RNG.integers(0, 9, (2, D))
    assert prepare(proto, Request(preset="lrp-epsilon")).ids == {}
    (found,) = explained(proto, x, "lrp-epsilon").values()
    (expected,) = explained(made(nodes[1:], {"a": (FLOAT, ["n", D])}), x, "lrp-epsilon").values()
    np.testing.assert_array_equal(found, expected)


def test_a_mask_of_ids_is_none_of_their_lookups() -> None:
    nodes = [
        node("Equal", "ids zero", "pad"),
        node("Not", "pad", "kept"),
        cast("kept", "k", FLOAT),
        node("Unsqueeze", "k two", "u"),
        node("Gather", "E ids", "w"),
        node("Mul", "w u", "e"),
        *HEAD,
    ]
    ids = np.where(np.arange(L) < 4, np.maximum(IDS, 1), 0)
    plan = prepare(made(nodes, {"ids": (INT, ["n", L])}, zero=0, two=[2]), Request()).plan
    assert [end.tensor.name for end in plan.ends] == ["w"]
    (found,) = explained(made(nodes, {"ids": (INT, ["n", L])}, zero=0, two=[2]), ids, "lrp-epsilon").values()
    assert not found[:, 4:].any()


def test_what_only_picks_has_no_relevance() -> None:
    """It is no id, since what it picks from depends on the input."""
    picks = [*HEAD[:2], node("Gather", "r place", "g", axis=1), node("MatMul", "g U", "y")]
    proto = made(picks, {"e": (FLOAT, ["n", L, D]), "place": (INT, [])})
    assert [t.name for t in prepare(proto, Request()).plan.inputs] == ["e"]
    assert prepare(proto, Request()).ids == {}
    with pytest.raises(RequestError, match="--explain 'place': the output 'y' does not depend on it"):
        prepare(proto, Request(explain=["e", "place"]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"explain": ["id"]}, "no such input; did you mean 'ids'"),
        ({"low": 0, "high": 1}, "what is explained is ids, which have no bounds"),
        ({"from_": ["ids"]}, "is an input of the model; write --explain ids"),
        ({"from_": ["E"]}, "no such tensor is computed from the inputs"),
        ({"from_": ["m"], "low": {"e": 0}, "high": {"e": 1}}, "bounds of 'e': the numbers that relevance is given to are m"),
        ({"from_": ["y"]}, "is what is explained itself; name a tensor that it is computed from"),
    ],
)
def test_what_cannot_be_asked_of_ids(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OnnxdtdError, match=words):
        onnxdtd.compile(made([node("Gather", "E ids", "e"), *HEAD], {"ids": (INT, ["n", L])}), **options)


def test_strings_alone_are_refused() -> None:
    with pytest.raises(ModelError, match="no input of numbers or ids"):
        onnxdtd.compile(made([node("Size", "s", "z"), cast("z", "y", FLOAT)], {"s": (TensorProto.STRING, ["n"])}))


POOL = {"max_gram_length": 1, "min_gram_length": 1, "max_skip_count": 0, "ngram_counts": [0]}
POOL |= {"ngram_indexes": [0, 1], "pool_strings": ["a", "b"]}
WORDS = [["b"], ["z"], ["a"]]  # one of them is not known
KNOWN = {
    "OneHotEncoder": node("OneHotEncoder", "s", "w", domain="ai.onnx.ml", cats_strings=["a", "b", "c", "d"], zeros=1),
    "LabelEncoder": node("LabelEncoder", "s", "w", domain="ai.onnx.ml", keys_strings=["a", "b"], values_floats=[0.5, -2.0]),
    "TfIdfVectorizer": node("TfIdfVectorizer", "s", "w", mode="TFIDF", weights=[2.0, 0.5], **POOL),
}
TURNED = {
    "OneHotEncoder": np.float32([[[0, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 0, 0, 0]]]),
    "LabelEncoder": np.float32([[-2], [0], [0.5]]),
    "TfIdfVectorizer": np.float32([[0, 0.5], [0, 0], [2, 0]]),
}


@pytest.mark.parametrize("op", KNOWN)
@pytest.mark.parametrize("preset", ["lrp-epsilon", "gradient"])
def test_strings_alone(op: str, preset: str) -> None:
    """The numbers that they are turned into are explained: x w (1 − ε / y), or w. Which ones is said."""
    width = TURNED[op].shape[-1]
    behind = [node("Reshape", "w rows", "x"), node("MatMul", "x M", "y")]
    behind += [
        node("LabelEncoder", "s", "o", domain="ai.onnx.ml", keys_strings=["a"], values_floats=[1.0]),
        node("Neg", "o", "p"),
    ]
    m = eighths(np.random.default_rng(1), width, 3)
    proto = made(
        [KNOWN[op], *behind],
        {"s": (TensorProto.STRING, ["n", 1])},
        "ai.onnx.ml",
        rows=np.array([-1, width]),
        M=m,
    )
    prepared = prepare(proto, Request(preset=preset, target=2))
    assert any("strings of s are turned into are explained: 'w'" in note for note in prepared.plan.notes)
    found = Explainer(onnxdtd.compile(proto, preset, target=2), CPU)(np.array(WORDS))
    values, w = TURNED[op].reshape(3, width), m[:, 2]
    np.testing.assert_allclose(found.values["w"].reshape(3, width), values)
    expected = np.broadcast_to(w, values.shape) if preset == "gradient" else values * w
    np.testing.assert_allclose(found.relevance["w"].reshape(3, width), expected, rtol=1e-4, atol=1e-6)


def test_words_beside_a_number() -> None:
    """Both are explained, unless one is asked for; that a Tokenizer cuts texts is no obstacle."""
    m = np.float32([[1, -1, 2], [0.5, 1, 0], [2, -3, 1]])
    cut = {"mark": 0, "mincharnum": 1, "pad_value": "#", "separators": [" "]}
    nodes = [
        node("Tokenizer", "s", "t", domain="com.microsoft", **cut),
        node("Flatten", "t", "f", axis=1),
        node("TfIdfVectorizer", "f", "w", mode="TF", **POOL),
        node("Concat", "w x", "c", axis=1),
        node("MatMul", "c M", "y"),
    ]
    proto = made(nodes, {"s": (TensorProto.STRING, ["n", 1]), "x": (FLOAT, ["n", 1])}, "com.microsoft", M=m)
    feeds = {"s": np.array([["a b a"], ["z"]]), "x": np.float32([[2], [-1]])}
    run = Explainer(onnxdtd.compile(proto, "gradient"), CPU)
    assert run.metadata["features"] == {"w": ["s: a", "s: b"]}
    found = run(feeds)
    np.testing.assert_allclose(found.outputs["y"], np.float32([[2, 1, 2], [0, 0, -1]]) @ m)
    want = m[:, found.outputs["y"].argmax(1)].T
    np.testing.assert_array_equal(np.hstack([found.relevance["w"], found.relevance["x"]]), want)
    (alone,) = Explainer(onnxdtd.compile(proto, "gradient", explain=["x"]), CPU)(feeds).relevance.values()
    np.testing.assert_array_equal(alone, want[:, 2:])


# ---------------------------------------------------------------------------------------------------------- a tensor by name

G = eighths(RNG, 1, L, D)


def determinants() -> ModelProto:
    """No rule is known below ``e``."""
    return made(
        [node("Det", "x", "d"), node("Unsqueeze", "d one", "q"), node("Mul", "q G", "e"), *HEAD],
        {"x": (FLOAT, ["n", L, 2, 2])},
        one=[2],
        G=G,
    )


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "gradient-x-input"])
def test_a_named_tensor_ends_the_walk(preset: str) -> None:
    """Bounds may be given for it by name; it comes out beside its relevance, which is that of the model above."""
    x, bounds = eighths(np.random.default_rng(3), 2, L, 2, 2), {"low": {"e": -2}, "high": {"e": 2}}
    found = Explainer(onnxdtd.compile(determinants(), preset, from_=["e"], **bounds), CPU)(x)
    e = np.linalg.det(x)[..., None] * G
    (expected,) = explained(made(HEAD, {"e": (FLOAT, ["n", L, D])}), e, preset, **bounds).values()
    assert set(found.outputs) == {"y"}
    np.testing.assert_allclose(found.values["e"], e, atol=1e-6)
    np.testing.assert_allclose(found.relevance["e"], expected, atol=1e-6)


def test_the_batch_is_followed_above_a_named_tensor() -> None:
    """Where it is lost below, by the names of sizes."""
    proto = made(
        [node("Compress", "x ones", "c", axis=1), node("Unsqueeze", "c one", "q"), node("Mul", "q G", "e"), *HEAD],
        {"x": (FLOAT, ["n", L])},
        one=[2],
        G=G,
        ones=np.ones(L, bool),
    )
    proto.graph.value_info.append(helper.make_tensor_value_info("e", FLOAT, ["n", L, D]))
    plan = prepare(proto, Request(from_=["e"])).plan
    assert plan.samples.axes == {"x": 0, "e": 0}


def test_ids_of_which_only_the_number_counts_are_not_named() -> None:
    nodes = [
        node("Gather", "E ids", "e"),
        *HEAD[:2],
        node("Shape", "ids", "s"),
        cast("s", "f", FLOAT),
        node("ReduceProd", "f", "p", keepdims=1),
        node("ReduceMean", "r", "m", axes=[1], keepdims=0),
        node("Mul", "m p", "q"),
        node("MatMul", "q U", "y"),
    ]
    notes = prepare(made(nodes, {"ids": (INT, ["n", L])}), Request(preset="lrp-epsilon", from_=["e"])).plan.notes
    assert not any("not explained" in note for note in notes)


def test_one_named_tensor_cuts_off_another() -> None:
    plan = prepare(determinants(), Request(from_=["e", "m"])).plan
    assert [t.name for t in plan.inputs] == ["m"]


def test_a_fused_embedding_is_what_ids_look_up() -> None:
    """As if it were written out, word and position by word and position."""
    tables = {
        "E": eighths(RNG, 7, D),
        "P": eighths(RNG, L, D),
        "T": eighths(RNG, 2, D),
        "g": np.ones(D, np.float32),
        "b": eighths(RNG, D),
    }
    fused = [node("EmbedLayerNormalization", "ids kinds E P T g b mask", "e i", domain="com.microsoft", epsilon=1e-5), *HEAD]
    written = [
        *(node("Gather", "E ids", "w"), node("Gather", "T kinds", "t"), node("Add", "w P", "s"), node("Add", "s t", "a")),
        *(node("LayerNormalization", "a g b", "e"), *HEAD),
    ]
    inputs = {name: (TensorProto.INT32, ["n", L]) for name in ("ids", "kinds", "mask")}
    read = {name: inputs[name] for name in ("ids", "kinds")}
    fed = {name: RNG.integers(0, 2, (3, L)).astype(np.int32) for name in inputs}
    found = explained(made(fused, inputs, "com.microsoft", **tables), fed, "attnlrp")
    expected = explained(made(written, read, **tables), {name: fed[name] for name in read}, "attnlrp")
    assert found.keys() == expected.keys() == read.keys()
    for name in read:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
