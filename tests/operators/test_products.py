"""Products of activations and normalisation by the input's own statistics, under rules that share out relevance.

What a product does is seen on the relevance of its factors (`keep`), for relevance of the product that is read off too. By
what a rule does with a product whose other factor is constant, numpy says what must arrive.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import oracle
import pytest
from derivatives import refused, relevances
from nets import DOUBLE, FLOAT, Bench, Session, assert_near, model, node, symbolic
from onnx import ModelProto, NodeProto, helper
from pairs import pairs

import onnxdtd
from onnxdtd.errors import OnnxdtdError
from onnxdtd.graph.tensors import Node
from onnxdtd.operators.products import gate_rank, gates, is_statistic
from onnxdtd.operators.table import OPERATORS

Array = np.ndarray
TIGHT = 1e-12  # float64, relative to the largest relevance
PRESETS = ["dtd", "dtd-z", "lrp-epsilon", "lrp-gamma", "lrp-alpha2beta1"]
LRP_EPSILON = 1e-6
DYNAMIC = pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])


def normal(*shape: int, seed: int = 0, dtype: np.dtype = DOUBLE) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def classifier(
    nodes: Sequence[NodeProto],
    shapes: Mapping[str, Sequence[int]],
    constants: Mapping[str, Any] | None = None,
    dtype: np.dtype = DOUBLE,
    dynamic: bool = False,
    opset: int = 17,
) -> ModelProto:
    """The nodes, which make p, then three classes."""
    weights = {name: np.asarray(v, dtype if np.asarray(v).dtype.kind == "f" else None) for name, v in (constants or {}).items()}
    sizes = lambda shape: symbolic(shape, [i for i, size in enumerate(shape) if size > 1 and dynamic]) if dynamic else shape
    inputs = {name: sizes(shape) for name, shape in shapes.items()}
    feeds = {name: np.ones(shape, dtype) for name, shape in shapes.items()}
    size = Session(model(nodes, inputs, ["p"], weights, dtype, opset))(**feeds)["p"][0].size
    nodes = [*nodes, node("Reshape", "p rows", "flat"), node("MatMul", "flat w", "y")]
    weights |= {"rows": np.array([-1, size]), "w": normal(size, 3, seed=42, dtype=dtype)}
    return model(nodes, inputs, ["y"], weights, dtype, opset)


# ---- gates -----------------------------------------------------------------------------------------------------------

GATED = {  # the nodes from s to p, the constants, the name of what is gated (s if it is the input of the gate), the gate
    "SiLU": ([node("Sigmoid", "s", "gate"), node("Mul", "s gate", "p")], {}),
    "SiLU, gate first": ([node("Sigmoid", "s", "gate"), node("Mul", "gate s", "p")], {}),
    "HardSwish": (
        [
            node("Add", "s three", "t"),
            node("Clip", "t zero six", "gate"),
            node("Mul", "s gate", "g"),
            node("Div", "g six", "p"),
        ],
        {"three": 3.0, "zero": 0.0, "six": 6.0},
    ),
    "HardSwish, divided first": (
        [
            node("Add", "three s", "t"),
            node("Clip", "t zero six", "c"),
            node("Div", "c six", "gate"),
            node("Mul", "s gate", "p"),
        ],
        {"three": 3.0, "zero": 0.0, "six": 6.0},
    ),
    "HardSwish by HardSigmoid": ([node("HardSigmoid", "s", "gate"), node("Mul", "s gate", "p")], {}),
    "Gelu": (
        [
            node("Div", "s root", "d"),
            node("Erf", "d", "e"),
            node("Add", "e one", "gate"),
            node("Mul", "s gate", "g"),
            node("Mul", "g half", "p"),
        ],
        {"root": np.sqrt(2.0), "one": 1.0, "half": 0.5},
    ),
    "Gelu, halved first": (
        [
            node("Mul", "s half", "h"),
            node("Mul", "s root", "d"),
            node("Erf", "d", "e"),
            node("Add", "one e", "gate"),
            node("Mul", "h gate", "p"),
        ],
        {"root": np.sqrt(0.5), "one": 1.0, "half": 0.5},
    ),
    "Gelu by tanh": (
        [
            node("Pow", "s cube", "s3"),
            node("Mul", "s3 c", "cs3"),
            node("Add", "s cs3", "inner"),
            node("Mul", "inner root", "d"),
            node("Tanh", "d", "t"),
            node("Add", "t one", "gate"),
            node("Mul", "s gate", "g"),
            node("Mul", "g half", "p"),
        ],
        {"root": np.sqrt(2 / np.pi), "one": 1.0, "half": 0.5, "c": 0.044715, "cube": 3.0},
    ),
    "Mish": ([node("Softplus", "s", "u"), node("Tanh", "u", "gate"), node("Mul", "s gate", "p")], {}),
    "Mish, softplus written out": (
        [
            node("Exp", "s", "e"),
            node("Add", "e one", "e1"),
            node("Log", "e1", "u"),
            node("Tanh", "u", "gate"),
            node("Mul", "s gate", "p"),
        ],
        {"one": 1.0},
    ),
}  # fmt: skip
FLOAT_ONLY = ("HardSwish by HardSigmoid", "Gelu", "Gelu, halved first", "Mish")  # no kernel for float64


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", GATED)
def test_activation_written_out(name, preset):
    """s · gate(s) passes relevance on as an activation does, all of it to s itself, and the gate gets none."""
    made, constants = GATED[name]
    dtype = FLOAT if name in FLOAT_ONLY else DOUBLE
    nodes = [node("Gemm", "x w1 b1", "s"), *made]
    constants = constants | {"w1": normal(4, 5, seed=1), "b1": normal(5, seed=2)}
    proto = classifier(nodes, {"x": (3, 4)}, constants, dtype)
    found = relevances(proto, {"x": normal(3, 4, dtype=dtype)}, preset, ["p", "s"])
    # LRP-ε loses ε / |z| of it at each of at most three products
    assert_near(found["s"], found["p"], 1e-3 if preset == "lrp-epsilon" else 1e-6 if dtype == FLOAT else TIGHT)
    if "written out" not in name:
        refused("gate", proto, preset)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("order", ["x gate", "gate x"])
@DYNAMIC
def test_squeeze_and_excite(preset, order, dynamic):
    """The weights of the channels are a gate, repeated over the positions; all goes to the picture."""
    nodes = [
        node("ReduceMean", "x", "pooled", axes=[2, 3], keepdims=1),
        node("Reshape", "pooled flat_shape", "pooled_rows"),
        node("Gemm", "pooled_rows w1 b1", "squeezed"),
        node("Relu", "squeezed", "r"),
        node("Gemm", "r w2 b2", "excited"),
        node("Sigmoid", "excited", "weights"),
        node("Reshape", "weights picture_shape", "gate"),
        node("Mul", order, "p"),
    ]
    constants = {"w1": normal(4, 2, seed=1), "b1": normal(2, seed=2), "w2": normal(2, 4, seed=3), "b2": normal(4, seed=4)}
    constants |= {"flat_shape": np.array([0, -1]), "picture_shape": np.array([0, 4, 1, 1])}
    # the classifier behind knows its number of inputs, so height and width are fixed
    proto = classifier(nodes, {"x": (2, 4, 3, 2)}, constants)
    if dynamic:
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    found = relevances(proto, {"x": normal(2, 4, 3, 2)}, preset)
    assert_near(found["x"], found["p"], 1e-3 if preset == "lrp-epsilon" else TIGHT)
    for name in ("gate", "excited", "pooled"):
        refused(name, proto, preset)


def test_gate_from_another_input():
    """An input that only opens a gate is not explained."""
    nodes = [node("Sigmoid", "b", "gate"), node("Mul", "a gate", "p")]
    proto = classifier(nodes, {"a": (2, 4), "b": (2, 4)})
    compiled = onnxdtd.compile(proto, "dtd")
    assert [output.name for output in compiled.graph.output] == ["y", "relevance", "logit"]
    found = Session(compiled)(a=normal(2, 4), b=normal(2, 4, seed=1))
    logits, w = found["y"], normal(4, 3, seed=42)
    gated = normal(2, 4) / (1 + np.exp(-normal(2, 4, seed=1)))
    best = w[:, logits.argmax(1)].T
    terms = np.maximum(gated * best, 0)
    assert_near(found["relevance"], terms / terms.sum(1, keepdims=True) * logits.max(1, keepdims=True), 1e-11)


def test_both_inputs_explained_where_neither_is_a_gate():
    proto = classifier([node("Mul", "a b", "p")], {"a": (2, 4), "b": (2, 4)})
    assert {o.name for o in onnxdtd.compile(proto).graph.output} == {"y", "relevance/a", "relevance/b", "logit"}


TWO_SIGNALS = {  # no gate, or two
    "none": [node("Mul", "a b", "p")],
    "two": [node("Sigmoid", "a", "ga"), node("HardSigmoid", "b", "gb"), node("Mul", "ga gb", "p")],
    "a sigmoid of both": [node("Sigmoid", "a", "ga"), node("Sigmoid", "b", "gb"), node("Mul", "ga gb", "p")],
}


@pytest.mark.parametrize(
    ("name", "shapes", "preset"),
    pairs(list(TWO_SIGNALS), [((2, 4), (2, 4)), ((2, 3, 2), (2, 3, 1)), ((2, 1, 4), (2, 3, 1)), ((2, 3), (3,))], list(PRESETS)),
    ids=str,
)
def test_half_each(name, shapes, preset):
    """Without a gate, or with two, both factors get half; a factor that is repeated gets the sum over its copies."""
    x = {n: normal(*shape, seed=i, dtype=FLOAT) for i, (n, shape) in enumerate(zip("ab", shapes, strict=True))}
    proto = classifier(TWO_SIGNALS[name], {"a": shapes[0], "b": shapes[1]}, dtype=FLOAT)
    found = relevances(proto, x, preset)
    half = found["p"] / 2
    for n, shape in zip("ab", shapes, strict=True):
        extra = half.ndim - len(shape)
        repeated = tuple(range(extra)) + tuple(i + extra for i, d in enumerate(shape) if d == 1)
        expected = half.sum(repeated).reshape(shape)
        assert_near(found[n], expected, 1e-3 if preset == "lrp-epsilon" else 2e-6)


@pytest.mark.parametrize("signal", ["Tanh", "Clip", "Erf"])
@pytest.mark.parametrize("squash", ["Sigmoid", "HardSigmoid", "Softmax"])
@pytest.mark.parametrize("order", ["s g", "g s"])
def test_the_better_gate(signal, squash, order):
    """σ(b) · tanh(a), as in gated units and LSTM cells, and σ(b) · min(a⁺, 6), as in squeeze-and-excite behind a ReLU6: signal
    takes all (Arras et al. 2017). What also serves as an activation is no gate where the other factor is a better one.
    """
    bounds = "zero six" if signal == "Clip" else ""
    nodes = [node(signal, f"a {bounds}", "s"), node(squash, "b", "g"), node("Mul", order, "p")]
    constants = {"zero": 0.0, "six": 6.0} if bounds else {}
    proto = classifier(nodes, {"a": (2, 4), "b": (2, 4)}, constants, FLOAT)
    assert [output.name for output in onnxdtd.compile(proto).graph.output] == ["y", "relevance", "logit"]
    refused("g", proto, "dtd")


@pytest.mark.parametrize("preset", PRESETS)
def test_quotient(preset):
    """a / b: all to the numerator; the denominator counts as a constant, whatever it comes from."""
    nodes = [node("Abs", "x", "positive"), node("Add", "positive one", "b"), node("Gemm", "x w1", "a"), node("Div", "a b", "p")]
    proto = classifier(nodes, {"x": (2, 4)}, {"one": 1.0, "w1": normal(4, 4, seed=1)})
    found = relevances(proto, {"x": normal(2, 4)}, preset, ["p", "a"])
    assert_near(found["a"], found["p"], 1e-3 if preset == "lrp-epsilon" else TIGHT)
    refused("b", proto, preset)


# ---- attention -------------------------------------------------------------------------------------------------------


def attention(values: str = "MatMul") -> tuple[list[NodeProto], dict[str, Any]]:
    """softmax(Q Kᵀ / 2) V of x [n, 3, 4]"""
    nodes = [node("MatMul", f"x w{name}", name) for name in "qkv"]
    if values == "MatMul":
        nodes += [
            node("Transpose", "k", "kt", perm=[0, 2, 1]),
            node("MatMul", "q kt", "scores"),
            node("Div", "scores two", "scaled"),
            node("Softmax", "scaled", "a"),
            node("Dropout", "a", "dropped"),
            node("MatMul", "dropped v", "p"),
        ]
    else:
        nodes += [
            node("Einsum", "q k", "scores", equation="bid,bjd->bij"),
            node("Div", "scores two", "scaled"),
            node("Softmax", "scaled", "a"),
            node("Einsum", "a v", "p", equation="bij,bjd->bid"),
        ]
    return nodes, {f"w{name}": normal(4, 4, seed=i) for i, name in enumerate("qkv", 1)} | {"two": 2.0}


def softmax(x: Array) -> Array:
    raised = np.exp(x - x.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


@pytest.mark.parametrize("values", ["MatMul", "Einsum"])
def test_attention_goes_through_the_values(values):
    """R_v = v ⊙ Aᵀ (R_p / (A v + ε)) with the weights A held constant, then through the layer of V; Q and K get none."""
    nodes, constants = attention(values)
    x = normal(2, 3, 4)
    proto = classifier(nodes, {"x": x.shape}, constants)
    found = relevances(proto, {"x": x}, "lrp-epsilon", ["p", "v"])
    q, k, v = (x @ constants[f"w{name}"] for name in "qkv")
    a = softmax(q @ k.transpose(0, 2, 1) / 2)
    stable = lambda z: z + LRP_EPSILON * np.where(z >= 0, 1, -1)
    at_v = v * (a.transpose(0, 2, 1) @ (found["p"] / stable(a @ v)))
    assert_near(found["v"], at_v, 1e-11)
    assert_near(found["x"], x * ((at_v / stable(v)) @ constants["wv"].T), 1e-11)
    for name in ("q", "k", "scores", "a"):
        refused(name, proto, "lrp-epsilon")


@pytest.mark.parametrize("values", ["MatMul", "Einsum"])
def test_attention_by_dtd(values):
    """z⁺: as the weights are ≥ 0, (a_ij v_jd)⁺ = a_ij v_jd⁺, so a negative value gets nothing, and nothing is lost."""
    nodes, constants = attention(values)
    x = normal(2, 3, 4)
    found = relevances(classifier(nodes, {"x": x.shape}, constants), {"x": x}, "dtd", ["p", "v"])
    q, k, v = (x @ constants[f"w{name}"] for name in "qkv")
    a, positive = softmax(q @ k.transpose(0, 2, 1) / 2), np.maximum(v, 0)
    z = a @ positive
    s = np.divide(found["p"], z, out=np.zeros_like(z), where=z > 0)
    at_v = positive * (a.transpose(0, 2, 1) @ s)
    assert_near(found["v"], at_v, 1e-11)
    w2 = constants["wv"] ** 2  # the layer of V is the first that mixes the input
    assert_near(found["x"], (at_v / w2.sum(0)) @ w2.T, 1e-11)


def test_product_of_queries_and_keys_explained():
    """Where the scores themselves are the output, no factor is a gate: half to each."""
    nodes = [
        *[node("MatMul", f"x w{name}", name) for name in "qk"],
        node("Transpose", "k", "kt", perm=[0, 2, 1]),
        node("MatMul", "q kt", "p"),
    ]
    constants = attention()[1]
    del constants["wv"], constants["two"]
    x = normal(2, 3, 4)
    found = relevances(classifier(nodes, {"x": x.shape}, constants), {"x": x}, "lrp-0", ["p", "q", "k"])
    q, k = x @ constants["wq"], x @ constants["wk"]
    s = found["p"] / (q @ k.transpose(0, 2, 1))
    assert_near(found["q"], q * (s @ k) / 2, 1e-10)
    assert_near(found["k"], k * (s.transpose(0, 2, 1) @ q) / 2, 1e-10)


@pytest.mark.parametrize("c", ["constant", "explained"])
@pytest.mark.parametrize("preset", ["lrp-0", "dtd-z"])
def test_product_with_a_summand(preset, c):
    """Gemm(a, b, c) of activations: LRP-0 leaves c its share, or to the bias if it is a constant; the z rule knows no bias."""
    x = {"a": normal(2, 3, seed=1), "b": normal(3, 4, seed=2)} | ({"c": normal(4, seed=3)} if c == "explained" else {})
    constants = {} if c == "explained" else {"c": normal(4, seed=3)}
    made = node("Gemm", "a b c", "p", alpha=0.5, beta=2.0)
    found = relevances(classifier([made], {n: v.shape for n, v in x.items()}, constants), x, preset)
    a, b, summand = x["a"], x["b"], 2 * normal(4, seed=3)
    z = 0.5 * a @ b + (summand if c == "explained" or preset == "lrp-0" else 0)
    s = found["p"] / z
    assert_near(found["a"], 0.25 * a * (s @ b.T), 1e-11)
    assert_near(found["b"], 0.25 * b * (a.T @ s), 1e-11)
    if c == "explained":
        assert_near(found["c"], summand * s.sum(0), 1e-11)


# ---- normalisation by statistics of the input ------------------------------------------------------------------------


def as_oracle(x: Array, axes: Sequence[int], groups: int, gamma: Array, beta: Array, epsilon: float) -> tuple[Array, Array]:
    """w and b of y = [x x] w + b for one sample x: of each entry, and of the mean over ``axes``, or over groups of channels."""
    shape = x.reshape(groups, -1).shape if groups else x.shape
    over = (1,) if groups else tuple(axis - 1 for axis in axes)
    average = lambda e: np.broadcast_to(e.reshape(shape).mean(over, keepdims=True), shape).reshape(x.shape)
    c = gamma / np.sqrt(average(x**2) - average(x) ** 2 + epsilon)
    units = np.eye(x.size).reshape(-1, *x.shape)
    rows = [e * c for e in units] + [-average(e) * c for e in units]
    return np.reshape(rows, (2 * x.size, x.size)), np.broadcast_to(beta, x.shape).ravel()


NORMS = [  # operator, shape, normalised axes, shape of γ and β, attributes
    ("LayerNormalization", (2, 3, 4), (2,), (4,), {}),
    ("LayerNormalization", (2, 3, 4), (1, 2), (3, 4), {"axis": 1, "epsilon": 0.5}),
    ("LayerNormalization", (2, 3, 4), (1, 2), (3, 4), {"axis": -2}),
    ("InstanceNormalization", (2, 3, 5), (2,), (3,), {}),
    ("InstanceNormalization", (2, 3, 2, 3), (2, 3), (3,), {"epsilon": 0.5}),
    ("GroupNormalization", (2, 4, 3), (), (4,), {"num_groups": 2}),
    ("GroupNormalization", (2, 4, 2, 3), (), (4,), {"num_groups": 4, "epsilon": 0.5}),
    ("GroupNormalization", (2, 4, 2, 3), (), (4,), {"num_groups": 1}),
]


def grouped(proto: ModelProto, groups: int) -> None:
    """Turn the InstanceNormalization in front into a GroupNormalization."""
    proto.graph.node[0].op_type = "GroupNormalization"
    proto.graph.node[0].attribute.append(helper.make_attribute("num_groups", groups))


def normalised(op: str, shape: Sequence[int], vector: Sequence[int], attrs: Mapping[str, Any], dynamic: bool) -> ModelProto:
    """Normalisation and three classes. The classifier knows the number of its inputs, but the norm need not."""
    constants = {"gamma": normal(*vector, seed=1), "beta": normal(*vector, seed=2)}
    given = {name: value for name, value in attrs.items() if name != "num_groups"}
    stand_in = op.replace("Group", "Instance")  # of a GroupNormalization onnx cannot infer the shape
    proto = classifier([node(stand_in, "x gamma beta", "p", **given)], {"x": shape}, constants, FLOAT, opset=21)
    if op == "GroupNormalization":
        grouped(proto, attrs["num_groups"])
    if dynamic:
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
        proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "m"
    return proto


BY_ORACLE = {
    "z": oracle.z,
    "z+": oracle.z_plus,
    "w2": oracle.w2,
    "flat": lambda x, w, b, r: oracle.flat(x, w, b, r, C=np.abs(np.sign(w))),
    "epsilon": partial(oracle.epsilon, eps=LRP_EPSILON),
    "epsilon(epsilon=0)": partial(oracle.epsilon, eps=0.0),
    "gamma": partial(oracle.gamma, gamma=0.25),
    "alpha-beta(alpha=2, beta=1)": partial(oracle.alpha_beta, alpha=2.0, beta=1.0),
}


@pytest.mark.parametrize(("norm", "rule", "dynamic"), pairs(range(len(NORMS)), list(BY_ORACLE), [False, True]))
def test_a_norm_is_a_layer(norm, rule, dynamic):
    """With σ constant, and the mean linear, every rule shares out as of the matrix that it is."""
    op, shape, axes, vector, attrs = NORMS[norm]
    x = normal(*shape, dtype=FLOAT) + FLOAT.type(0.5)
    proto = normalised(op, shape, vector, attrs, dynamic)
    found = relevances(proto, {"x": x}, "lrp-0", settings=[f"{proto.graph.node[0].name}={rule}"])
    column = (lambda v: v) if op[0] == "L" else lambda v: v.reshape(-1, *[1] * (len(shape) - 2))
    gamma, beta = (column(normal(*vector, seed=i, dtype=FLOAT).astype(np.float64)) for i in (1, 2))
    for one, before, after in zip(x.astype(np.float64), found["x"], found["p"], strict=True):
        w, b = as_oracle(one, axes, attrs.get("num_groups", 0), gamma, beta, attrs.get("epsilon", 1e-5))
        expected = BY_ORACLE[rule](np.tile(one.ravel(), 2), w, b, after.ravel().astype(np.float64))
        assert_near(before, expected.reshape(2, *one.shape).sum(0), 1e-4)  # an output near 0 has lost digits


def test_a_length_counts_as_a_constant():
    """LRP-0 leaves a vector of unit length its relevance, and one of length 0 as well."""
    proto = classifier([node("LpNormalization", "x", "p", axis=1)], {"x": (2, 4)})
    x = np.array([[3.0, 0, 0, 4], [0, 0, 0, 0]])
    found = relevances(proto, {"x": x}, "lrp-0")
    assert_near(found["x"], found["p"], TIGHT)


def test_layer_norm_without_a_shift():
    """β may be left out."""
    gamma, x = normal(4, seed=1), normal(2, 4)
    found = relevances(
        classifier([node("LayerNormalization", "x gamma", "p")], {"x": (2, 4)}, {"gamma": gamma}), {"x": x}, "lrp-0"
    )
    s = found["p"] / (x - x.mean(1, keepdims=True))
    assert_near(found["x"], x * (s - s.mean(1, keepdims=True)), 1e-9)


SPELLED = [
    node("ReduceMean", "x", "m", axes=[-1]),
    node("Sub", "x m", "c"),
    node("Pow", "c two", "q"),
    node("ReduceMean", "q", "v", axes=[-1]),
    node("Add", "v eps", "ve"),
    node("Sqrt", "ve", "d"),
    node("Div", "c d", "n"),
    node("Mul", "n gamma", "g"),
    node("Add", "g beta", "p"),
]


@pytest.mark.parametrize(
    ("preset", "until"),
    pairs(["lrp-0", "lrp-epsilon", "lrp-gamma", "dtd", "dtd-z", "attnlrp", "cp-lrp", "gradient"], [None, -1, -2]),
)
def test_one_layer_norm_has_one_explanation(preset, until):
    """However it is written, with a shift and a scale or without."""
    constants = {"two": np.float64(2), "eps": np.float64(np.float32(1e-5)), "plain": np.ones(4)}
    constants |= {"gamma": normal(4, seed=1), "beta": normal(4, seed=2)}
    spelled = SPELLED[:until]
    spelled[-1] = node(spelled[-1].op_type, " ".join(spelled[-1].input), "p")
    one = node("LayerNormalization", {None: "x gamma beta", -1: "x gamma", -2: "x plain"}[until], "p")
    fused, other = (
        relevances(classifier(nodes, {"x": (2, 3, 4)}, constants), {"x": normal(2, 3, 4)}, preset)["x"]
        for nodes in ([one], spelled)
    )
    assert_near(other, fused, 1e-9)


def test_old_group_norm():
    """Before operator set 21 it had one γ for each group, not for each channel; onnx deprecated that."""
    weights = {"gamma": normal(3, dtype=FLOAT), "beta": normal(3, dtype=FLOAT), "w": normal(9, 3, dtype=FLOAT)}
    nodes = [node("InstanceNormalization", "x gamma beta", "p"), node("Flatten", "p", "flat"), node("MatMul", "flat w", "y")]
    proto = model(nodes, {"x": [2, 3, 3]}, ["y"], weights, opset=18)
    grouped(proto, 3)
    with pytest.raises(OnnxdtdError, match="GroupNormalization"):
        onnxdtd.compile(proto)


def test_norm_of_something_constant():
    """σ = 0: no NaN; what comes out is β, to which x adds nothing."""
    proto = classifier(
        [node("LayerNormalization", "x gamma beta", "p")], {"x": (2, 4)}, {"gamma": np.ones(4), "beta": np.ones(4)}
    )
    x = np.array([[3.0, 3, 3, 3], [1, 2, 3, 4]])
    for preset in ("dtd", "lrp-epsilon", "gradient"):
        found = relevances(proto, {"x": x}, preset)
        assert np.isfinite(found["x"]).all(), preset


@pytest.mark.parametrize("preset", PRESETS)
def test_transformer_block(preset):
    """LayerNorm, attention, residual sum, LayerNorm, MLP with Gelu written out, residual sum, mean: no NaN. By the z rule,
    which has no bias, nothing is lost; z⁺ gives nothing negative, and loses what no input speaks for.
    """
    rng = np.random.default_rng(0)
    heads, constants = attention()
    nodes = [
        node("LayerNormalization", "tokens gamma beta", "x"),
        *heads[:-1],
        node("MatMul", "dropped v", "mixed"),
        node("Add", "mixed tokens", "r1"),
        node("LayerNormalization", "r1 gamma beta", "n2"),
        node("MatMul", "n2 wm", "s"),
        *GATED["Gelu by tanh"][0][:-1],
        node("Mul", "g half", "activated"),
        node("MatMul", "activated wn", "m2"),
        node("Add", "m2 r1", "r2"),
        node("ReduceMean", "r2", "p", axes=[1], keepdims=0),
    ]
    constants |= GATED["Gelu by tanh"][1] | {"gamma": rng.normal(size=4), "beta": rng.normal(size=4)}
    constants |= {"wm": rng.normal(size=(4, 6)), "wn": rng.normal(size=(6, 4))}
    proto = classifier(nodes, {"tokens": (2, 3, 4)}, constants)
    found = relevances(proto, {"tokens": normal(2, 3, 4)}, preset)
    assert np.isfinite(found["tokens"]).all()
    before, after = found["tokens"].sum((1, 2)), found["p"].sum(1)
    if preset == "dtd-z":
        np.testing.assert_allclose(before, after, rtol=1e-9)
    if preset == "dtd":
        assert found["tokens"].min() >= 0
        assert (before <= after * (1 + 1e-12)).all()


# ---- what is a gate --------------------------------------------------------------------------------------------------


def gate(nodes: Sequence[NodeProto], constants: Mapping[str, Any] | None = None, tensor: str = "t", opset: int = 17) -> bool:
    """Is ``tensor``, made from x [2, 4], a gate?"""
    weights = {name: np.asarray(v, None if np.asarray(v).dtype.kind == "i" else FLOAT) for name, v in (constants or {}).items()}
    bench = Bench(model(nodes, {"x": [2, 4]}, [nodes[-1].output[0]], weights, opset=opset))
    active = {"x"}
    for made in bench.nodes:
        if any(t.name in active for t in made.inputs):
            active.update(t.name for t in made.outputs)
    producer: dict[str, Node] = {t.name: made for made in bench.nodes for t in made.outputs}
    return gate_rank(bench.tensors[tensor], lambda t: t.name in active, producer)


SQUASHING = {"Clip": ("s zero one", {"zero": 0.0, "one": 1.0})}


@pytest.mark.parametrize("op", [op for op, entry in OPERATORS.items() if entry.gate])
def test_squashing_functions_are_gates(op):
    inputs, constants = SQUASHING.get(op, ("s", {}))
    assert gate([node("Neg", "x", "s"), node(op, inputs, "t")], constants)


MOVED = [
    ([node("Add", "g c", "t")], {"c": np.ones(4)}),
    ([node("Sub", "c g", "t")], {"c": np.ones(4)}),
    ([node("Mul", "c g", "t")], {"c": 0.5}),
    ([node("Div", "g c", "t")], {"c": 6.0}),
    ([node("Reshape", "g shape", "t")], {"shape": np.array([2, 4, 1, 1])}),
    ([node("Flatten", "g", "t")], {}),
    ([node("Unsqueeze", "g axes", "u"), node("Squeeze", "u axes", "t")], {"axes": np.array([1])}),
    ([node("Transpose", "g", "t")], {}),
    ([node("Expand", "g shape", "t")], {"shape": np.array([3, 2, 4])}),
    ([node("Identity", "g", "i"), node("Dropout", "i", "t")], {}),
    ([node("Cast", "g", "t", to=11)], {}),
    ([node("Slice", "g start end axis", "t")], {"start": np.array([0]), "end": np.array([2]), "axis": np.array([1])}),
    ([node("Split", "g", "t t2", axis=1)], {}),
    ([node("Gather", "g rows", "t", axis=1)], {"rows": np.array([1, 2])}),
    ([node("IsNaN", "g", "n"), node("Where", "n none g", "t")], {"none": 0.0}),  # attention with rows that are masked
]


@pytest.mark.parametrize(
    ("nodes", "constants"), MOVED, ids=lambda v: "-".join(n.op_type for n in v) if isinstance(v, list) else ""
)
def test_a_gate_is_seen_through_constants_and_moves(nodes, constants):
    assert gate([node("Sigmoid", "x", "g"), *nodes], constants)
    assert not gate([node("Exp", "x", "g"), *nodes], constants)
    assert all(OPERATORS[made.op_type].on_the_way for made in nodes if made.op_type != "IsNaN")


OTHERS = [
    ([node("Relu", "g", "t")], {}),
    ([node("Gemm", "g c", "t")], {"c": np.ones((4, 3))}),
    ([node("MatMul", "g c", "t")], {"c": np.ones((4, 3))}),
    ([node("Exp", "g", "t")], {}),
    ([node("Add", "g x", "t")], {}),
    ([node("Greater", "x g", "c"), node("Where", "c g x", "t")], {}),
    ([node("Mul", "x g", "t")], {}),
    ([node("Sigmoid", "x", "g2"), node("Add", "g g2", "t")], {}),
    ([node("ReduceMean", "g", "t", axes=[1])], {}),
    ([node("Concat", "g x", "t", axis=1)], {}),
]


@pytest.mark.parametrize(
    ("nodes", "constants"), OTHERS, ids=lambda v: "-".join(n.op_type for n in v) if isinstance(v, list) else ""
)
def test_a_gate_ends_at_any_other_operator(nodes, constants):
    assert not gate([node("Tanh", "x", "g"), *nodes], constants)


def test_the_input_is_no_gate():
    assert not gate([node("Sigmoid", "x", "g")], tensor="x")


def test_what_is_held():
    """Nothing in a product with a constant, the gate of two, the denominator of a quotient."""
    nodes = [
        node("Sigmoid", "x", "g"),
        node("Mul", "x c", "one"),
        node("Mul", "x g", "right"),
        node("Mul", "g x", "left"),
        node("Mul", "g right", "neither"),
        node("Div", "g x", "quotient"),
        node("Add", "g x", "sum"),
    ]
    bench = Bench(model(nodes, {"x": [2, 4]}, ["one", "right", "left", "neither", "quotient", "sum"], {"c": np.float32(2)}))
    producer = {t.name: made for made in bench.nodes for t in made.outputs}
    found = {made.outputs[0].name: gates(made, lambda t: t.name != "c", producer) for made in bench.nodes}
    assert found == {"g": set(), "one": set(), "right": {1}, "left": {0}, "neither": {0}, "quotient": {1}, "sum": set()}


STATISTICS = {  # of x [2, 4]: does it tell nothing but how large entries are?
    "mean |x|": (True, [node("Abs", "x", "s"), node("ReduceMean", "s", "a", axes=[1])]),
    "length": (True, [node("ReduceL2", "x", "a", axes=[1])]),
    "length over its mean": (
        True,
        [node("ReduceL2", "x", "l", axes=[1]), node("ReduceMean", "l", "m", axes=[0]), node("Div", "l m", "a")],
    ),
    "root of a mean of squares": (
        True,
        [
            node("Pow", "x two", "s"),
            node("ReduceMean", "s", "v", axes=[1]),
            node("Sqrt", "v", "r"),
            node("Expand", "r wide", "a"),
        ],
    ),
    "mean": (False, [node("ReduceMean", "x", "a", axes=[1])]),
    "mean of cubes": (False, [node("Pow", "x three", "s"), node("ReduceMean", "s", "a", axes=[1])]),
    "sizes of single entries": (False, [node("Abs", "x", "a")]),
    "mean |x| and x": (False, [node("Abs", "x", "s"), node("ReduceMean", "s", "m", axes=[1]), node("Add", "m x", "a")]),
    "mixed": (False, [node("Abs", "x", "s"), node("ReduceMean", "s", "m", axes=[1]), node("MatMul", "m one", "a")]),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_what_is_a_statistic(name):
    expected, nodes = STATISTICS[name]
    constants = {"two": np.float32(2), "three": np.float32(3), "wide": np.array([2, 4]), "one": np.ones((1, 1), FLOAT)}
    bench = Bench(model(nodes, {"x": [2, 4]}, ["a"], constants))
    producer = {t.name: made for made in bench.nodes for t in made.outputs}
    assert is_statistic(bench.tensors["a"], lambda t: t.values is None, producer) == expected
