"""Methods as data: what each treatment does, by hand; what of a method a preset may have otherwise; every mistake in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import Session, assert_near, model, node
from onnx import ModelProto

import onnxdtd
from onnxdtd.compiler.compile import prepare
from onnxdtd.errors import RequestError, RuleError, Unsupported
from onnxdtd.method.method import FINISHES, KINDS, SEEDS, TREATMENTS
from onnxdtd.method.toml import Library
from onnxdtd.operators.table import OPERATORS
from onnxdtd.request import Request

Arrays = dict[str, np.ndarray]
A, B = np.asarray([[1.0, -2.0, 0.5]], np.float32), np.asarray([[0.5, 1.0, -2.0]], np.float32)
W = np.asarray([[1.0, 2.0], [-1.0, 0.5], [3.0, 1.0]], np.float32)
OF_RELEVANCE = "layers = [{ rule = 'epsilon(epsilon=0)' }]"
OF_GRADIENT = "method = 'gradient'\nfinish = 'x g'\nlayers = [{ rule = 'gradient' }]"


def net(*nodes: Any, **weights: Any) -> ModelProto:
    """The nodes on a and b, [n, 3], and W behind p."""
    used = {name for made in nodes for name in made.input}
    inputs = {name: ["n", 3] for name in ("a", "b") if name in used}
    arrays = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    return model([*nodes, node("MatMul", "p W", "y")], inputs, ["y"], {"W": W, **arrays})


def explained(tmp_path: Path, proto: ModelProto, base: str, treatments: str) -> Arrays:
    """The relevance of class 0 by input; of no input that gets none."""
    path = tmp_path / "mine.toml"
    path.write_text(f"[preset.p]\n{base}\ntreatments = {{ {treatments} }}\n", encoding="utf-8")
    compiled = onnxdtd.compile(proto, path, target=0)
    names = [value.name for value in proto.graph.input]
    found = Session(compiled)(**{name: {"a": A, "b": B}[name] for name in names})
    outputs = json.loads(next(p.value for p in compiled.metadata_props if p.key == "onnxdtd.relevance"))
    return {name: found[output] for name, output in outputs.items()}


SIGMA = 1 / (1 + np.exp(-B))
GATED = net(node("Sigmoid", "b", "g"), node("Mul", "a g", "p"))
ACTIVATED = net(
    node("Sigmoid", "b", "g"), node("Mul", "b two", "d"), node("Div", "g two", "h"), node("Mul", "d h", "p"), two=2.0
)
QUOTIENT = net(node("Div", "a b", "p"))
NORMED = net(node("LayerNormalization", "a one", "p", epsilon=0.0), one=np.ones(3))
LARGEST = net(node("ReduceMax", "a", "m", axes=[1], keepdims=1), node("Mul", "m three", "p"), three=np.ones(3))
PRODUCT = net(node("ReduceProd", "a", "m", axes=[1], keepdims=1), node("Mul", "m three", "p"), three=np.ones(3))
WINNER = np.asarray([[A.max() * W[:, 0].sum(), 0, 0]])
STD, C0 = A.std(), W[:, 0]
P = np.exp(A) / np.exp(A).sum()
RECTIFIED = [
    net(node("Relu", "a", "p")),
    net(node("Clip", "a low high", "p"), low=0.0, high=0.75),
    net(node("ThresholdedRelu", "a", "p", alpha=0.0)),
    net(node("Max", "zero a", "p"), zero=np.zeros((1, 1))),
]
ON = [A > 0, (A > 0) & (A < 0.75), A > 0, A > 0]
NOT_RECTIFIED = [
    (net(node("Tanh", "a", "p")), OF_GRADIENT, {"a": A * (1 - np.tanh(A) ** 2) * C0}),
    (net(node("LeakyRelu", "a", "p", alpha=0.5)), OF_GRADIENT, {"a": A * np.where(A > 0, 1, 0.5) * C0}),
    (net(node("Clip", "a low", "p"), low=-3.0), OF_GRADIENT, {"a": A * C0}),
    (net(node("Max", "a low", "p"), low=np.full(3, -3)), OF_GRADIENT, {"a": A * C0}),
]
CENTRED = A - A.mean()
STEADY = net(node("LayerNormalization", "a one", "p", epsilon=1.0), one=np.ones(3))
SMALLEST = net(node("ReduceMin", "a", "m", axes=[1], keepdims=1), node("Mul", "m three", "p"), three=np.ones(3))
V = np.asarray([[1.0, 2.0, -1.0], [0.5, 1.0, 2.0], [1.0, -2.0, 1.0]], np.float32)
BEHIND = net(node("MatMul", "a V", "z"), node("Relu", "z", "p"), V=V)


def steady() -> np.ndarray:
    """Of c r with r = 1/√(c² + 1) against c = 0 and r = 1: each factor times the middle of the other."""
    variance, g = A.var(), W[:, 0]
    r = 1 / np.sqrt(variance + 1)
    m = g * (r + 1) / 2 + (g * CENTRED / 2).sum() * (r - 1) / variance * CENTRED / 3
    return A * (m - m.mean())


def revealed() -> np.ndarray:
    """Of relu(a V) against 0: what is positive counts before and after what is negative."""
    products, relu = A.T * V, lambda z: np.maximum(z, 0)
    up, down = np.maximum(products, 0).sum(0), np.minimum(products, 0).sum(0)
    risen, fallen = (relu(up) + relu(up + down) - relu(down)) / 2, (relu(down) + relu(up + down) - relu(up)) / 2
    return (products * np.where(products > 0, risen / up, fallen / down) @ C0)[None]


BY_HAND: dict[tuple[str, str], list[tuple[ModelProto, str, Arrays]]] = {
    ("pointwise", "pass"): [(net(node("Tanh", "a", "p")), OF_RELEVANCE, {"a": np.tanh(A) * C0})],
    ("pointwise", "slope"): [
        (net(node("Tanh", "a", "p")), OF_GRADIENT, {"a": A * (1 - np.tanh(A) ** 2) * C0}),
        (net(node("Max", "a low", "p"), low=np.zeros(3)), OF_GRADIENT, {"a": A * (A > 0) * C0}),
    ],
    ("pointwise", "ratio"): [
        (net(node("Tanh", "a", "p")), OF_GRADIENT, {"a": np.tanh(A) * C0}),
        (net(node("Sigmoid", "b", "p")), OF_GRADIENT, {"b": (SIGMA - 0.5) * C0}),
        (net(node("Max", "low a", "p"), low=np.full(3, -1.0)), OF_GRADIENT, {"a": np.maximum(A, -1) * C0}),
        (net(node("Max", "low a", "p"), low=np.full(3, 0.25)), OF_GRADIENT, {"a": (np.maximum(A, 0.25) - 0.25) * C0}),
    ],
    ("pointwise", "guided"): [
        *((proto, OF_GRADIENT, {"a": A * on * np.maximum(C0, 0)}) for proto, on in zip(RECTIFIED, ON, strict=True)),
        *NOT_RECTIFIED,
    ],
    ("pointwise", "deconvolved"): [
        *((proto, OF_GRADIENT, {"a": A * np.maximum(C0, 0)}) for proto in RECTIFIED),
        *NOT_RECTIFIED,
    ],
    ("pointwise", "rescale"): [
        (net(node("Tanh", "a", "p")), OF_GRADIENT, {"a": np.tanh(A) * C0}),
        (net(node("Max", "low a", "p"), low=np.full(3, -1.0)), OF_GRADIENT, {"a": np.maximum(A, -1) * C0}),
        (BEHIND, OF_GRADIENT, {"a": A * ((A @ V > 0) * C0 @ V.T)}),
    ],
    ("pointwise", "reveal-cancel"): [(BEHIND, OF_GRADIENT, {"a": revealed()})],
    ("pointwise", "reveal-cancel-dense"): [(BEHIND, OF_GRADIENT, {"a": revealed()})],
    ("product", "gate"): [
        (GATED, OF_RELEVANCE, {"a": A * SIGMA * C0}),
        (GATED, OF_GRADIENT, {"a": A * SIGMA * C0}),
        (QUOTIENT, OF_RELEVANCE, {"a": A / B * C0}),
    ],
    ("product", "half"): [
        (GATED, OF_RELEVANCE, {"a": A * SIGMA * C0 / 2, "b": A * SIGMA * C0 / 2}),
        (GATED, OF_GRADIENT, {"a": A * SIGMA * C0 / 2, "b": A * B * SIGMA * (1 - SIGMA) * C0 / 2}),
        (QUOTIENT, OF_RELEVANCE, {"a": A / B * C0}),
    ],
    ("product", "scale"): [
        (GATED, OF_RELEVANCE, {"a": A * SIGMA * C0 / 2, "b": A * SIGMA * C0 / 2}),
        (ACTIVATED, OF_GRADIENT, {"b": B * SIGMA * C0}),
        (QUOTIENT, OF_RELEVANCE, {"a": A / B * C0}),
    ],
    ("product", "factor"): [
        (GATED, OF_GRADIENT, {"a": A * SIGMA * C0, "b": A * B * SIGMA * (1 - SIGMA) * C0}),
        (QUOTIENT, OF_GRADIENT, {"a": A / B * C0, "b": -A / B * C0}),
    ],
    ("product", "shapley"): [
        (GATED, OF_GRADIENT, {"a": A * (SIGMA + 0.5) / 2 * C0, "b": B * A / 2 * SIGMA * (1 - SIGMA) * C0}),
    ],
    ("norm", "secant"): [(STEADY, OF_GRADIENT, {"a": steady()})],
    ("norm", "constant"): [
        (NORMED, OF_RELEVANCE, {"a": A / STD * (C0 - C0.mean())}),
        (NORMED, OF_GRADIENT, {"a": A / STD * (C0 - C0.mean())}),
    ],
    ("norm", "jacobian"): [
        (NORMED, OF_GRADIENT, {"a": A / STD * (C0 - C0.mean() - CENTRED / STD * (C0 * CENTRED / STD).mean())}),
    ],
    ("norm", "share"): [(PRODUCT, OF_RELEVANCE, {"a": np.full_like(A, A.prod() * W[:, 0].sum() / 3)})],
    ("norm", "taylor"): [
        (net(node("Softmax", "a", "p")), OF_RELEVANCE, {"a": A * (P * C0 - P * (P * C0).sum())}),
        (net(node("LogSoftmax", "a", "p")), OF_RELEVANCE, {"a": A * (C0 - P * C0.sum())}),
    ],
    ("norm", "pass"): [],  # with the operator below, which takes four axes
    ("route", "winner"): [
        (LARGEST, OF_RELEVANCE, {"a": WINNER}),
        (LARGEST, OF_GRADIENT, {"a": WINNER}),
    ],
    ("route", "between"): [
        (LARGEST, OF_GRADIENT, {"a": WINNER}),
        (SMALLEST, OF_GRADIENT, {"a": np.asarray([[0, A.min() * W[:, 0].sum(), 0]])}),
    ],
    ("preprocessing", "pass"): [(net(node("Sub", "a m", "p"), m=[0.5] * 3), OF_RELEVANCE, {"a": (A - 0.5) * C0})],
    ("preprocessing", "rule"): [
        (net(node("Sub", "a m", "p"), m=[0.25] * 3), OF_RELEVANCE, {"a": A * C0}),
        (net(node("Sub", "a m", "p"), m=[0.25] * 3), OF_GRADIENT, {"a": A * C0}),
    ],
}  # fmt: skip
CASES = [(kind, name, *case) for (kind, name), cases in BY_HAND.items() for case in cases]


@pytest.mark.parametrize(("kind", "name", "proto", "base", "expected"), CASES)
def test_a_treatment(kind: str, name: str, proto: ModelProto, base: str, expected: Arrays, tmp_path: Path) -> None:
    found = explained(tmp_path, proto, base, f"{kind} = '{name}'")
    assert found.keys() == expected.keys()
    for tensor, relevance in expected.items():
        assert_near(found[tensor], relevance, 1e-6)


def test_every_treatment_is_tested() -> None:
    assert set(BY_HAND) == set(TREATMENTS)


def test_an_operator_is_treated_otherwise_than_its_kind(tmp_path: Path) -> None:
    """LayerNormalization apart from LRN, from BatchNormalization and Mul, which are linear, and from InstanceNormalization."""
    nodes = [
        node("Mul", "x c", "m"),
        node("LayerNormalization", "m gain", "l", axis=2),
        node("InstanceNormalization", "l two two", "i"),
        node("LRN", "i", "r", size=1),
        node("Flatten", "r", "f"),
        node("MatMul", "f v", "y"),
    ]
    weights = {"c": np.float32(2), "gain": np.ones((2, 2), np.float32), "two": np.ones(2, np.float32)}
    proto = model(nodes, {"x": ["n", 2, 2, 2]}, ["y"], weights | {"v": np.ones((8, 3), np.float32)})
    path = tmp_path / "mine.toml"
    path.write_text(f"[preset.p]\n{OF_GRADIENT}\ntreatments = {{ LayerNormalization = 'constant' }}\n", encoding="utf-8")
    steps = {step.op: (step.kind, step.chosen) for step in prepare(proto, Request(preset=str(path))).plan.steps}
    assert steps == {
        "Mul": ("linear", "gradient"),
        "LayerNormalization": ("linear", "gradient"),
        "InstanceNormalization": ("jacobian", "jacobian"),
        "LRN": ("jacobian", "jacobian"),
        "Flatten": ("move", None),
        "MatMul": ("linear", "gradient"),
    }
    kinds = {step.op: step.kind for step in prepare(proto, Request(preset="lrp-epsilon")).plan.steps}
    assert (kinds["LRN"], kinds["LayerNormalization"], kinds["Mul"]) == ("pass", "linear", "preprocessing")


def test_the_metadata_tell_treatments_beside_rules() -> None:
    """Of those that do more than hand on."""
    nodes = [node("Relu", "a", "r"), node("Identity", "r", "i"), node("Softmax", "i", "p")]
    compiled = onnxdtd.compile(net(*nodes), "gradient", output="y")
    entries = {p.key: json.loads(p.value) for p in compiled.metadata_props}
    assert entries["onnxdtd.rules"] == {"r_node": "slope", "p_node": "jacobian", "y_node": "gradient"}
    assert entries["onnxdtd.derivative"] == "g"


@pytest.mark.parametrize("preset", ["guided-backprop", "deconvnet"])
def test_what_rectifies_is_told_from_what_does_not(preset: str) -> None:
    """Two layers by hand, and a note where nothing rectifies."""
    rng = np.random.default_rng(5)
    v, u, x = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 8), (8, 2), (4, 3)))
    nodes = [node("MatMul", "x v", "z"), node("Relu", "z", "r"), node("MatMul", "r u", "h"), node("Tanh", "h", "y")]
    proto = model(nodes, {"x": ["n", 3]}, ["y"], {"v": v, "u": u})
    z = x @ v
    g = (1 - np.tanh(np.maximum(z, 0) @ u) ** 2)[:, :1] * u[:, 0]
    expected = np.where(g > 0, g, 0) * ((z > 0) if preset == "guided-backprop" else 1) @ v.T
    job = prepare(proto, Request(preset=preset, target=0))
    assert not job.plan.notes
    assert [step.chosen for step in job.plan.steps][1::2] == [{"guided-backprop": "guided"}.get(preset, "deconvolved"), "slope"]
    assert_near(Session(onnxdtd.compile(proto, preset, target=0))(x=x)["relevance"], expected, 1e-6)
    nodes[1] = node("LeakyRelu", "z", "r")
    (note,) = prepare(model(nodes, {"x": ["n", 3]}, ["y"], {"v": v, "u": u}), Request(preset=preset)).plan.notes
    assert note.startswith(f"the preset {preset} gives the plain gradient here")


def test_a_method_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    treatments = "preprocessing = 'rule', pointwise = 'slope', product = 'factor', norm = 'jacobian', route = 'winner'"
    path.write_text(
        f"[method.mine]\nseed = '1'\nfinish = 'g g'\ntreatments = {{ {treatments} }}\n"
        "[preset.p]\nmethod = 'mine'\nlayers = [{ rule = 'gradient' }]\n",
        encoding="utf-8",
    )
    found, expected = (Session(onnxdtd.compile(GATED, preset))(a=A, b=B) for preset in (path, "sensitivity"))
    for name in ("relevance/a", "relevance/b"):
        np.testing.assert_array_equal(found[name], expected[name])
    with pytest.raises(RequestError, match="is a derivative, of which nothing is conserved"):
        onnxdtd.compile(GATED, path, ledger=True)


def test_what_is_relevance() -> None:
    """What is walked, or x g where each kind hands x g on; all else is a derivative."""
    presets = Library().presets
    conserving = {name for name, preset in presets.items() if preset.method.conserves}
    assert {"attnlrp", "cp-lrp", "attnlrp-epsilon", "lrp-0", "dtd"} <= conserving
    others = {"gradient", "gradient-x-input", "sensitivity", "guided-backprop", "grad-cam", "taylor", "deeplift-rescale"}
    assert not others & conserving
    assert {name for name in conserving if not presets[name].method.divides} == {"attnlrp", "cp-lrp"}
    for preset, told in (("attnlrp", "null"), ("gradient-x-input", '"x g"')):
        entries = {p.key: p.value for p in onnxdtd.compile(NORMED, preset).metadata_props}
        assert entries["onnxdtd.derivative"] == told


def test_our_methods() -> None:
    """Each has a treatment for every kind, and its presets rules that fit it."""
    library = Library()
    assert set(library.methods) == {"lrp", "gradient", "attnlrp", "attnlrp-shares", "cp-lrp", "deeplift"}
    for method in library.methods.values():
        assert method.title
        assert method.source
        assert set(KINDS) <= set(method.treatments)
        assert FINISHES[method.finish].walks == SEEDS[method.seed]
    finishes = {name: preset.method.finish for name, preset in library.presets.items() if not preset.method.conserves}
    assert {name for name, finish in finishes.items() if finish == "g"} == {"gradient", "guided-backprop", "deconvnet"}
    assert (finishes["gradient-x-input"], finishes["sensitivity"], finishes["taylor"]) == ("x g", "g g", "dx g")


def test_every_operator_that_is_not_linear_has_a_treatment() -> None:
    """Of one of the kinds, in one of our methods at least."""
    for op, operator in OPERATORS.items():
        if operator.slope or operator.jacobian or operator.constant:
            rows = [row for (kind, _), row in TREATMENTS.items() if kind == operator.kind]
            assert any(getattr(operator, row.needs) for row in rows), op


TREATED = "preprocessing = 'pass', pointwise = 'pass', product = 'gate', norm = 'constant', route = 'winner'"
METHOD = "[method.m]\nseed = 'logit'\nfinish = 'R'\n"
BAD = [  # file, what the message says, the entry that it names
    ("[method.lrp]\nseed = 'logit'", "there is a method of this name already", "[method.lrp]"),
    ("[method.m]", "seed is one of logit, 1, not None", "[method.m]"),
    ("[method.m]\nseed = 1\nfinish = 'g'", "seed is one of logit, 1, not 1", "[method.m]"),
    (
        "[method.m]\nseed = '1'\nfinish = 'R'",
        "finish of a walk of gradient is one of g, x g, dx g, g g, cam, not 'R'",
        "[method.m]",
    ),
    ("[method.m]\nseed = 'logit'", "finish of a walk of relevance is one of R, not ''", "[method.m]"),
    (METHOD + "treatments = 1", "treatments maps kinds or operators to treatments", "[method.m]"),
    (METHOD + "treatments = { pointwise = 'pass' }", "treatments says nothing of product; there are gate, half", "[method.m]"),
    (METHOD + "walk = 'R'", "unknown key 'walk'", "[method.m]"),
    (
        METHOD + f"treatments = {{ {TREATED}, Hardmax = 'pass' }}",
        "'Hardmax' is none of pointwise, product",
        "[method.m], treatments",
    ),
    (METHOD + f"treatments = {{ {TREATED}, Conv = 'pass' }}", "'Conv' is none of pointwise", "[method.m], treatments"),
    (METHOD + f"treatments = {{ {TREATED}, Relu = 'winner' }}", "Relu is treated as one of pass,", "[method.m], treatments"),
    (METHOD + f"treatments = {{ {TREATED}, Relu = 1 }}", "Relu is treated as one of pass, not 1", "[method.m], treatments"),
    (METHOD + f"treatments = {{ {TREATED}, LRN = 'constant' }}", "LRN cannot be treated as 'constant'", "[method.m]"),
    (
        "[preset.p]\nmethod = 'share'\nlayers = [{ rule = 'z' }]",
        "no method 'share'; there are lrp, gradient, deeplift, attnlrp, attnlrp-shares, cp-lrp",
        "[preset.p]",
    ),
    ("[preset.p]\nfinish = 'g'\nlayers = [{ rule = 'z' }]", "finish of a walk of relevance is one of R, not 'g'", "[preset.p]"),
    (
        "[preset.p]\ntreatments = { pointwise = 'slope' }\nlayers = [{ rule = 'z' }]",
        "pointwise is treated as one of pass, not 'slope'",
        "[preset.p], treatments",
    ),
    (
        "[preset.p]\nderivative = 'g'\nlayers = [{ rule = 'gradient' }]",
        'instead of derivative write method = "gradient" and finish = "g"',
        "[preset.p]",
    ),
]


@pytest.mark.parametrize(("text", "message", "entry"), BAD, ids=[text for text, _, _ in BAD])
def test_a_mistake_in_a_method(text: str, message: str, entry: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RuleError, match=re.escape(message)) as caught:
        Library().load(path)
    assert str(caught.value).startswith(f"{path}, {entry}")


@pytest.mark.parametrize("preset", ["gradient", "lrp-epsilon"])
def test_further_outputs_with_relevance_are_refused(preset: str) -> None:
    """The mean that a LayerNormalization gives too: its part would be lost."""
    proto = net(node("LayerNormalization", "a one", "l mean"), node("Mul", "l mean", "p"), one=np.ones(3))
    with pytest.raises(Unsupported, match="several of its outputs have relevance"):
        onnxdtd.compile(proto, preset)


def test_a_scale_that_depends_on_the_input_is_refused_in_a_gradient() -> None:
    """Its own part would be lost."""
    proto = net(node("ReduceMean", "b", "s", axes=[0], keepdims=0), node("LayerNormalization", "a s", "p"))
    with pytest.raises(Unsupported, match="a parameter of it depends on the input"):
        onnxdtd.compile(proto, "gradient")
