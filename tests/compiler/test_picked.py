"""What treats each position by itself, walked at the one that a classifier picks, gives the relevance of all."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run

from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.picked import picked
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(29)
X = eighths(RNG, 3, 5, 4)
OTHERS = [shortcut for shortcut in SHORTCUTS if shortcut is not picked]
BLOCK = [
    *(node("MatMul", f"x w{name}", name) for name in "qkv"),
    node("Transpose", "k", "t", perm=[0, 2, 1]),
    node("MatMul", "q t", "z0"),
    node("Add", "z0 places", "z"),
    node("Softmax", "z", "p"),
    node("MatMul", "p v", "o"),
    node("Add", "o x", "a"),
    node("LayerNormalization", "a g b", "n", axis=-1),
    node("MatMul", "n wu", "h"),
    node("Erf", "h", "e"),
    node("Mul", "h e", "f"),
    node("MatMul", "f wd", "d"),
    node("Add", "d a", "r"),
    node("LayerNormalization", "r g b", "s", axis=-1),
]
FIRST, HEAD = node("Gather", "s zero", "c", axis=1), node("Gemm", "c head", "y")
JOINED = [node("Reshape", "o rows", "j"), node("MatMul", "j w2", "j2"), node("Reshape", "j2 back", "s")]
MEAN = [node("ReduceMean", "s", "m", axes=[1], keepdims=0), node("Add", "c m", "l"), node("Gemm", "l head", "y")]
NONE = [node("IsNaN", "p", "nan"), node("Where", "nan nil p", "p0")]  # of a row that a mask has ruled out as a whole
NETS = {
    "block": [*BLOCK, FIRST, HEAD],
    "slice": [*BLOCK, node("Slice", "s from to one", "c1"), node("Squeeze", "c1 one", "c"), HEAD],
    "scaled": [*BLOCK[:-1], node("Mul", "r each", "s"), FIRST, HEAD],  # by numbers that differ from position to position
    "nothing": [
        *BLOCK[:5],
        node("Add", "z0 never", "z"),
        BLOCK[6],
        *NONE,
        node("MatMul", "p0 v", "o"),
        *BLOCK[8:],
        FIRST,
        HEAD,
    ],
    "itself": [
        *BLOCK[:2],
        *BLOCK[3:7],
        node("MatMul", "p x", "o"),
        *BLOCK[8:],
        FIRST,
        HEAD,
    ],  # the values are what is explained
    "joined": [
        *BLOCK[:8],
        node("Reshape", "o rows", "j"),
        node("MatMul", "j w2", "j2"),
        node("Reshape", "j2 back", "s"),
        FIRST,
        HEAD,
    ],
    "last": [*BLOCK, node("Gather", "s last", "c", axis=1), HEAD],
    "mean": [
        *BLOCK,
        FIRST,
        node("ReduceMean", "s", "m", axes=[1], keepdims=0),
        node("Add", "c m", "l"),
        node("Gemm", "l head", "y"),
    ],
    "twice": [*BLOCK, FIRST, node("Gather", "c front", "c1", axis=1), node("Erf", "c1", "l"), node("Gemm", "l row", "y")],
    "gated": [*BLOCK, FIRST, node("Gather", "c front", "c1", axis=1), node("Mul", "c c1", "l"), node("Gemm", "l head", "y")],
    "mixed": [*BLOCK, node("Softmax", "s", "i", axis=1), node("Gather", "i zero", "c", axis=1), HEAD],
}
TAKEN = ("block", "slice", "scaled", "masked", "nothing")
SIZES = {"wq": (4, 4), "wk": (4, 4), "wv": (4, 4), "w2": (4, 4), "wu": (4, 6), "wd": (6, 4), "head": (4, 2)}
WEIGHTS = {name: eighths(RNG, *sizes) for name, sizes in (SIZES | {"g": (4,), "b": (4,)}).items()}
WEIGHTS |= {
    "places": eighths(RNG, 5, 5),
    "each": eighths(RNG, 5, 4),
    "rows": np.asarray([-1, 4]),
    "back": np.asarray([-1, 5, 4]),
}
WEIGHTS |= {"some": eighths(RNG, 5, 5) > -0.5}
SEEN = np.arange(25).reshape(1, 5, 5) > 7  # nothing by the first position
WEIGHTS |= {"never": np.where(SEEN, 0, -np.inf).astype(np.float32), "nil": np.float32(0)}
WEIGHTS |= {"zero": np.asarray(0), "last": np.asarray(-1), "front": np.asarray([0]), "row": eighths(RNG, 1, 2)}
WEIGHTS |= {"from": np.asarray([0]), "to": np.asarray([1]), "one": np.asarray([1])}


def net(name: str) -> onnx.ModelProto:
    used = {word for made in NETS[name] for word in made.input}
    return model(NETS[name], {"x": ["n", 5, 4]}, ["y"], {key: value for key, value in WEIGHTS.items() if key in used})


@pytest.mark.parametrize("name", NETS)
def test_the_relevance_is_the_same(name: str) -> None:
    for preset in ("attnlrp", "cp-lrp", "gradient"):
        prepared = prepare(net(name), Request(preset=preset, keep=["x", "k"] if preset == "attnlrp" else []))
        found, expected = (run(build(prepared, shortcuts=some), x=X) for some in ((picked, *OTHERS), OTHERS))
        assert list(found) == list(expected)
        assert np.abs(expected["relevance"]).max() > 1e-2
        for key, value in expected.items():
            assert_near(found[key], value, 1e-6)


def taken(proto: onnx.ModelProto, request: Request) -> set[str]:
    """The tensors of the predictor of which the relevance pass reads one position."""
    made = build(prepare(proto, request)).graph.node
    slices = {n.input[0] for n in made if n.op_type == "Slice" and n.name.startswith("dtd/")}
    return {name for name in slices if not name.startswith("dtd/")}


@pytest.mark.parametrize("name", NETS)
def test_only_the_first_position_that_alone_is_read(name: str) -> None:
    assert bool(taken(net(name), Request(preset="attnlrp"))) == (name in TAKEN)


def test_layers_queries_and_scores_have_one_row() -> None:
    proto = build(prepare(net("block"), Request(preset="attnlrp")))
    values = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph.value_info
    rows = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in values if v.name.startswith("dtd/")}
    products = [size for name, size in rows.items() if "/MatMul" in name or "/Softmax" in name]
    assert [1, 6] in rows.values()
    assert [5, 6] not in rows.values()
    assert [5, 5] not in products


def test_not_where_its_relevance_is_wanted_a_rule_divides_or_a_ledger_is_kept() -> None:
    assert taken(net("block"), Request(preset="attnlrp")) == {"a", "e", "o", "p", "q", "r"}
    assert taken(net("block"), Request(preset="attnlrp", keep=["d"])) == {"r"}
    for request in (Request(preset="lrp-epsilon"), Request(preset="deeplift-rescale"), Request(preset="attnlrp", ledger=True)):
        assert not taken(net("block"), request)


def test_not_in_half_precision() -> None:
    half = {name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in WEIGHTS.items()}
    used = {word for made in NETS["block"] for word in made.input}
    weights = {key: value for key, value in half.items() if key in used}
    proto = model(NETS["block"], {"x": ["n", 5, 4]}, ["y"], weights, np.dtype(np.float16))
    assert not taken(proto, Request(preset="attnlrp"))
