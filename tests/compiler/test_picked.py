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
    "open": [*BLOCK[:5], node("Softmax", "z0", "p"), *BLOCK[7:], FIRST, HEAD],  # nobody knows how many positions
    "end": [*BLOCK[:5], node("Softmax", "z0", "p"), *BLOCK[7:], node("Gather", "s last", "c", axis=1), HEAD],  # nor here
    "joined": [
        *BLOCK[:8],
        node("Reshape", "o rows", "j"),
        node("MatMul", "j w2", "j2"),
        node("Reshape", "j2 back", "s"),
        FIRST,
        HEAD,
    ],
    "last": [*BLOCK, node("Gather", "s last", "c", axis=1), HEAD],
    "third": [*BLOCK, node("Gather", "s second", "c", axis=1), HEAD],
    "cut": [*BLOCK, node("Slice", "s from2 to2 one", "c1"), node("Squeeze", "c1 one", "c"), HEAD],
    "values": [  # which are the last of three that one layer gives
        node("MatMul", "x w3", "w"),
        node("Reshape", "w thirds", "w4"),
        node("Transpose", "w4", "w5", perm=[2, 0, 1, 3]),
        *(
            node("Gather", f"w5 {number}", name, axis=0)
            for number, name in zip(("zero", "middle", "second"), "qkv", strict=True)
        ),
        *BLOCK[3:],
        FIRST,
        HEAD,
    ],
    "mean": [
        *BLOCK,
        FIRST,
        node("ReduceMean", "s", "m", axes=[1], keepdims=0),
        node("Add", "c m", "l"),
        node("Gemm", "l head", "y"),
    ],
    "both": [
        *BLOCK,
        FIRST,
        node("Gather", "s last", "c1", axis=1),
        node("Mul", "c c1", "l"),
        node("Gemm", "l head", "y"),
    ],
    "twice": [*BLOCK, FIRST, node("Gather", "c front", "c1", axis=1), node("Erf", "c1", "l"), node("Gemm", "l row", "y")],
    "gated": [*BLOCK, FIRST, node("Gather", "c front", "c1", axis=1), node("Mul", "c c1", "l"), node("Gemm", "l head", "y")],
    "biased": [  # layers that are one with what is added behind them, by position or not
        *BLOCK[:8],
        node("MatMul", "o w2", "o2"),
        node("Add", "o2 each", "o3"),
        node("Relu", "o3", "o4"),
        node("MatMul", "o4 wu", "h1"),
        node("Add", "wide h1", "h2"),
        node("MatMul", "h2 wd", "d1"),
        node("Sub", "d1 b", "d2"),
        node("Add", "d2 x", "s"),
        FIRST,
        HEAD,
    ],
    "shaped": [  # the activation is a gate only where both factors have one shape
        node("ReduceMean", "x", "m", axes=[1]),
        node("MatMul", "m w2", "u"),
        node("MatMul", "x wq", "v"),
        node("Relu", "v", "e"),
        node("Mul", "u e", "s"),
        FIRST,
        HEAD,
    ],
    "low": [node("MatMul", "x wq", "q"), node("Relu", "q", "r"), node("MatMul", "r w2", "s"), FIRST, HEAD],
    "mixed": [*BLOCK, node("Softmax", "s", "i", axis=1), node("Gather", "i zero", "c", axis=1), HEAD],
}
TAKEN = ("block", "slice", "scaled", "nothing", "biased", "shaped", "low", "open", "last", "end", "third", "cut", "values")
SIZES = {"wq": (4, 4), "wk": (4, 4), "wv": (4, 4), "w2": (4, 4), "wu": (4, 6), "wd": (6, 4), "head": (4, 2)}
WEIGHTS = {name: eighths(RNG, *sizes) for name, sizes in (SIZES | {"g": (4,), "b": (4,)}).items()}
WEIGHTS |= {
    "places": eighths(RNG, 5, 5),
    "each": eighths(RNG, 5, 4),
    "wide": eighths(RNG, 6),
    "thirds": np.asarray([-1, 5, 3, 4]),
    "second": np.asarray(2),
    "middle": np.asarray(1),
    "from2": np.asarray([2]),
    "to2": np.asarray([3]),
    "rows": np.asarray([-1, 4]),
    "back": np.asarray([-1, 5, 4]),
}
WEIGHTS |= {"some": eighths(RNG, 5, 5) > -0.5}
SEEN = np.arange(25).reshape(1, 5, 5) > 7  # nothing by the first position
WEIGHTS |= {"never": np.where(SEEN, 0, -np.inf).astype(np.float32), "nil": np.float32(0)}
WEIGHTS |= {"zero": np.asarray(0), "last": np.asarray(-1), "front": np.asarray([0]), "row": eighths(RNG, 1, 2)}
WEIGHTS |= {"w3": eighths(RNG, 4, 12)}
WEIGHTS |= {"from": np.asarray([0]), "to": np.asarray([1]), "one": np.asarray([1])}


def net(name: str) -> onnx.ModelProto:
    used = {word for made in NETS[name] for word in made.input}
    return model(
        NETS[name],
        {"x": ["n", "s" if name in ("open", "end") else 5, 4]},
        ["y"],
        {key: value for key, value in WEIGHTS.items() if key in used},
    )


PRESETS = ("attnlrp", "cp-lrp", "gradient", "lrp-epsilon", "lrp-alpha2beta1", "dtd", "attnlrp-gamma")


@pytest.mark.parametrize("name", NETS)
def test_the_relevance_is_the_same(name: str) -> None:
    proto = net(name)
    keep = ["x", "k"] if any("k" in n.output for n in NETS[name]) else []
    for preset in PRESETS if name in ("block", "biased", "both") else ("attnlrp", "cp-lrp", "lrp-epsilon", "dtd"):
        bounds = {"low": -2.0, "high": 2.0} if preset == "dtd" else {}
        prepared = prepare(proto, Request(preset=preset, keep=keep if preset == "attnlrp" else [], **bounds))
        found, expected = (run(build(prepared, shortcuts=some), x=X) for some in ((picked, *OTHERS), OTHERS))
        assert list(found) == list(expected)
        assert np.abs(expected["relevance"]).max() > 1e-3
        for key, value in expected.items():
            assert_near(found[key], value, 1e-6)


def taken(proto: onnx.ModelProto, request: Request) -> set[str]:
    """The tensors of the predictor of which the relevance pass reads one position."""
    made = build(prepare(proto, request)).graph.node
    rows = {n.input[0] for n in made if n.op_type == "Gather" and n.name.startswith("dtd/")}
    return {name for name in rows if not name.startswith("dtd/")}


@pytest.mark.parametrize("preset", ["attnlrp", "lrp-epsilon"])
@pytest.mark.parametrize("name", NETS)
def test_only_the_position_that_alone_is_read(name: str, preset: str) -> None:
    at_one_alone = name == "shaped" and preset == "lrp-epsilon"  # the activation is a gate where the other rows are left out
    assert bool(taken(net(name), Request(preset=preset))) == (name in TAKEN and not at_one_alone)


def test_layers_queries_and_scores_have_one_row() -> None:
    proto = build(prepare(net("block"), Request(preset="attnlrp")))
    values = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph.value_info
    rows = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in values if v.name.startswith("dtd/")}
    products = [size for name, size in rows.items() if "/MatMul" in name or "/Softmax" in name]
    assert [1, 6] in rows.values()
    assert [5, 6] not in rows.values()
    assert [5, 5] not in products


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ["block", "biased"])
def test_no_more_is_multiplied_than_without(name: str, preset: str) -> None:
    prepared = prepare(net(name), Request(preset=preset))
    counts = [
        sum(n.op_type in ("MatMul", "Gemm") for n in build(prepared, shortcuts=some).graph.node) for some in (SHORTCUTS, OTHERS)
    ]
    assert counts[0] == counts[1], "what is never negative is known to be so at one position too"


def test_not_where_its_relevance_is_wanted_or_compared_or_a_ledger_is_kept() -> None:
    assert taken(net("block"), Request(preset="attnlrp")) == {"a", "e", "o", "p", "q", "r"}
    assert taken(net("block"), Request(preset="attnlrp", keep=["d"])) == {"r"}
    assert taken(net("block"), Request(preset="lrp-epsilon", keep=["d"])) == {"a", "d", "r", "s"}
    for request in (Request(preset="deeplift-rescale"), Request(preset="attnlrp", ledger=True)):
        assert not taken(net("block"), request)


def test_not_in_half_precision() -> None:
    half = {name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in WEIGHTS.items()}
    used = {word for made in NETS["block"] for word in made.input}
    weights = {key: value for key, value in half.items() if key in used}
    proto = model(NETS["block"], {"x": ["n", 5, 4]}, ["y"], weights, np.dtype(np.float16))
    assert not taken(proto, Request(preset="attnlrp"))
