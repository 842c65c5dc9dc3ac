"""AttnLRP and CP-LRP of a tiny transformer against numpy in float64: a mask, both norms, activations, a gate."""

from typing import Any

import numpy as np
import pytest
from nets import DOUBLE, Session, assert_near, model, node

import onnxdtd

Array = np.ndarray
BATCH, LENGTH, WIDTH, HIDDEN = 2, 3, 4, 5
EPSILON = float(np.float32(1e-5))
COMMON = ("weights_node", "n_node", "r_node", "pv_node", "m_node", "f_node")
EPSILON_STEPS = ["s", "pv", "n", "m", "rms", "r", "e", "f", "y", "au", "a", "scaled_s", "z", "hg"]
LOWEST = float(np.finfo(np.float32).min)


def weights() -> dict[str, Array]:
    rng = np.random.default_rng(7)
    shapes = {"q": (4, 4), "k": (4, 4), "v": (4, 4), "o": (4, 4), "up": (4, 5), "gate": (4, 5), "down": (5, 4), "head": (4, 3)}
    found = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    return found | {name: rng.normal(size=4) for name in ("gamma", "beta", "gain")} | {"bias": rng.normal(size=5)}


def gelu(x: Array) -> Array:
    return x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2


def relevance(x: Array, kept: Array, target: int, c: dict[str, Array], constant: bool) -> Array:
    """x times the message of one sample x [tokens, width]: every step by its definition, 'constant' as in CP-LRP."""
    sigma = np.sqrt(x.var(1, keepdims=True) + EPSILON)
    n = (x - x.mean(1, keepdims=True)) / sigma * c["gamma"] + c["beta"]
    q, k, v = n @ c["q"], n @ c["k"], n @ c["v"]
    p = np.where(kept, np.exp(q @ k.T / 2), 0)
    p /= np.maximum(p.sum(1, keepdims=True), 1e-300)
    r = p @ v @ c["o"] + x
    length = np.sqrt((r**2).mean(1, keepdims=True) + EPSILON)
    m = r / length * c["gain"]
    u, g = m @ c["up"], m @ c["gate"] + c["bias"]
    active = gelu(g)
    # backwards from the logit, a mean over tokens
    message = np.broadcast_to(c["head"][:, target] / len(x), x.shape)
    product = message @ c["down"].T
    of_m = (product * active) @ c["up"].T
    if not constant:
        of_m = 0.5 * (of_m + (product * u * active / g) @ c["gate"].T)
    message = message + of_m * c["gain"] / length
    mixed = message @ c["o"].T
    of_n = ((1.0 if constant else 0.5) * p.T @ mixed) @ c["v"].T
    if not constant:
        of_p = 0.5 * mixed @ v.T
        of_scores = p * (of_p - (p * of_p).sum(1, keepdims=True)) / 2
        of_n = of_n + (0.5 * of_scores @ k) @ c["q"].T + (0.5 * of_scores.T @ q) @ c["k"].T
    centred = of_n * c["gamma"] / sigma
    return x * (message + centred - centred.mean(1, keepdims=True))


def over(r: Array, z: Array, epsilon: float) -> Array:
    """R / s(z)"""
    return r / (z + np.where(z < 0, -epsilon, epsilon))


def linear(r: Array, x: Array, w: Array, z: Array, epsilon: float, gamma: float) -> Array:
    """The ε rule, or with γ > 0 the γ rule, entry by entry; z has the bias."""
    found, bias = np.zeros_like(x), z - x @ w
    for t, i, j in np.ndindex(len(x), *w.shape):
        sign = 1 if z[t, j] > 0 else -1
        favoured = lambda q, sign=sign: q + gamma * q * (sign * q > 0)
        denominator = sum(favoured(x[t] * w[:, j])) + favoured(bias[t, j])
        found[t, i] += favoured(x[t, i] * w[i, j]) * (over(r, z, epsilon)[t, j] if not gamma else r[t, j] / denominator)
    return found


def shares(
    x: Array, kept: Array, target: int, c: dict[str, Array], epsilon: float, gamma: float, ledger: dict[str, float]
) -> Array:
    """Relevance of one sample x [tokens, width] as shares, AttnLRP: nothing of it is a gradient. Fills in what steps keep."""
    sigma = np.sqrt(x.var(1, keepdims=True) + EPSILON)
    centred = x - x.mean(1, keepdims=True)
    n = centred / sigma * c["gamma"] + c["beta"]
    q, k, v = n @ c["q"], n @ c["k"], n @ c["v"]
    scaled = q @ k.T / 2
    p = np.where(kept, np.exp(scaled), 0)
    p /= np.maximum(p.sum(1, keepdims=True), 1e-300)
    mixed = p @ v
    attended = mixed @ c["o"]
    r = attended + x
    length = np.sqrt((r**2).mean(1, keepdims=True) + EPSILON)
    inverse = r / length
    m = inverse * c["gain"]
    u, h = m @ c["up"], m @ c["gate"]
    g = h + c["bias"]
    active = gelu(g)
    au = active * u
    d = au @ c["down"]
    f = (d + r).mean(0)
    y = f @ c["head"]
    of_f = f * c["head"][:, target] * over(y[target], y[target], epsilon)
    of_e = (d + r) / len(x) * over(of_f, f, epsilon)
    of_d, of_r = d * over(of_e, d + r, epsilon), r * over(of_e, d + r, epsilon)
    of_au = linear(of_d, au, c["down"], d, epsilon, gamma)
    half = 0.5 * au * over(of_au, au, epsilon)
    hg, t1 = g / 2, 2 * active / g  # the activation is a product, written out
    of_a = half * active / (active + np.where(active < 0, -epsilon, epsilon))
    of_g = of_a * hg / (hg + np.where(hg < 0, -epsilon, epsilon))
    assert np.isfinite(t1).all()
    of_m = linear(half, m, c["up"], u, epsilon, gamma) + linear(of_g, m, c["gate"], g, epsilon, gamma)
    of_inverse = m * over(of_m, m, epsilon)
    of_r = of_r + inverse * over(of_inverse, inverse, epsilon)
    of_attended, of_x = attended * over(of_r, r, epsilon), x * over(of_r, r, epsilon)
    of_mixed = linear(of_attended, mixed, c["o"], attended, epsilon, gamma)
    s = over(of_mixed, mixed, epsilon)
    of_p, of_v = 0.5 * p * (s @ v.T), 0.5 * v * (p.T @ s)
    total = of_p.sum(1, keepdims=True)
    of_scaled = np.where(kept, scaled * (of_p - p * total), 0)
    ledger["softmax"] = of_p.sum() - of_scaled.sum()
    score = 2 * scaled
    of_score = scaled * over(scaled * over(of_scaled, scaled, epsilon), scaled, epsilon)  # the mask adds 0, then the scale
    s = over(of_score, score, epsilon)
    of_q, of_k = 0.5 * q * (s @ k), 0.5 * k * (s.T @ q)
    of_n = sum(linear(of, n, c[w], z, epsilon, gamma) for of, w, z in ((of_q, "q", q), (of_k, "k", k), (of_v, "v", v)))
    s = over(of_n, n, epsilon)
    ledger["norm"] = (c["beta"] * s).sum()
    back = s * c["gamma"] / sigma
    return of_x + x * (back - back.mean(1, keepdims=True))


def layer_norm(opset: int) -> list[Any]:
    if opset == 17:
        return [node("LayerNormalization", "x gamma beta", "n")]
    return [
        node("ReduceMean", "x", "mean", axes=[-1]),
        node("Sub", "x mean", "centred"),
        node("Pow", "centred two", "square"),
        node("ReduceMean", "square", "variance", axes=[-1]),
        node("Add", "variance epsilon", "stable"),
        node("Sqrt", "stable", "sigma"),
        node("Div", "centred sigma", "normal"),
        node("Mul", "normal gamma", "scaled"),
        node("Add", "scaled beta", "n"),
    ]


def masked(spelling: str) -> list[Any]:
    if spelling != "chosen":
        rest = "lowest" if spelling == "added" else "infinity"
        return [
            node("Mul", "s half", "scaled_s"),
            node("Where", f"kept zero {rest}", "mask"),
            node("Add", "scaled_s mask", "z"),
        ]
    return [node("Mul", "s half", "scaled_s"), node("Where", "kept scaled_s infinity", "z")]


def transformer(opset: int, spelling: str, kept: Array) -> Any:
    """Attention behind a LayerNorm, a sum, behind an RMS norm a product with a Gelu that is written out, a sum, the mean."""
    nodes = [
        *layer_norm(opset),
        *(node("MatMul", f"n {name}", f"n{name}") for name in "qkv"),
        node("Transpose", "nk", "kt", perm=[0, 2, 1]),
        node("MatMul", "nq kt", "s"),
        *masked(spelling),
        node("Softmax", "z", "weights", axis=-1),
        *([node("IsNaN", "weights", "nan"), node("Where", "nan zero weights", "p")] if spelling != "added" else []),
        node("MatMul", "weights nv" if spelling == "added" else "p nv", "pv"),
        node("MatMul", "pv o", "attended"),
        node("Add", "attended x", "r"),
        node("Mul", "r r", "r2"),
        node("ReduceMean", "r2", "r2m", axes=[-1]),
        node("Add", "r2m epsilon", "r2e"),
        node("Sqrt", "r2e", "length"),
        node("Reciprocal", "length", "inverse"),
        node("Mul", "r inverse", "rms"),
        node("Mul", "rms gain", "m"),
        node("MatMul", "m up", "u"),
        node("MatMul", "m gate", "gb"),
        node("Add", "gb bias", "g"),
        node("Pow", "g three", "g3"),
        node("Mul", "g3 cubic", "g3c"),
        node("Add", "g g3c", "gs"),
        node("Mul", "gs root", "gr"),
        node("Tanh", "gr", "t"),
        node("Add", "t one", "t1"),
        node("Mul", "g half", "hg"),
        node("Mul", "hg t1", "a"),
        node("Mul", "a u", "au"),
        node("MatMul", "au down", "d"),
        node("Add", "d r", "e"),
        node("ReduceMean", "e", "f", axes=[1], keepdims=0),
        node("MatMul", "f head", "y"),
    ]
    numbers = {"two": 2, "three": 3, "half": 0.5, "one": 1, "zero": 0, "cubic": 0.044715, "root": np.sqrt(2 / np.pi)}
    numbers |= {"epsilon": EPSILON, "lowest": LOWEST, "infinity": -np.inf}
    used = {name for made in nodes for name in made.input}
    constants = {name: np.asarray(value, DOUBLE) for name, value in (weights() | numbers).items() if name in used}
    constants["kept"] = kept
    return model(nodes, {"x": ["n", LENGTH, WIDTH]}, ["y"], constants, DOUBLE, 17)


@pytest.mark.parametrize("preset", ["attnlrp", "cp-lrp"])
@pytest.mark.parametrize(
    ("opset", "spelling", "last"), [(17, "added", False), (14, "added", False), (17, "chosen", False), (17, "infinite", None)]
)
def test_a_transformer_block(preset, opset, spelling, last):
    """However it is written; of the masked token, which attends but is not attended to, its own way counts alone."""
    x, targets = np.random.default_rng(3).normal(size=(BATCH, LENGTH, WIDTH)), np.asarray([2, 0])
    kept = np.tril(np.ones((3, 3), bool), -1) if last is None else np.asarray([[True, True, last]])  # the first sees nothing
    compiled = onnxdtd.compile(transformer(opset, spelling, kept), preset, target="input")
    found = Session(compiled)(x=x, target=targets)["relevance"]
    expected = [relevance(one, kept, k, weights(), preset == "cp-lrp") for one, k in zip(x, targets, strict=True)]
    assert_near(found, np.asarray(expected), 1e-10)


@pytest.mark.parametrize(("shared", "slope"), [("attnlrp-epsilon", "attnlrp"), ("lrp-epsilon", "cp-lrp")])
@pytest.mark.parametrize("spelling", ["added", "chosen", "infinite"])
def test_both_forms_are_one_without_a_stabiliser(shared, slope, spelling):
    """Shares with ε = 0 are x times the message, whatever the mask is made of."""
    kept = np.tril(np.ones((3, 3), bool), -1) if spelling == "infinite" else np.asarray([[True, True, False]])
    proto, x = transformer(17, spelling, kept), np.random.default_rng(3).normal(size=(BATCH, LENGTH, WIDTH))
    found, expected = (
        Session(onnxdtd.compile(proto, preset, target=1, settings=settings))(x=x)["relevance"]
        for preset, settings in ((shared, ["*=epsilon(epsilon=0)"]), (slope, []))
    )
    assert_near(found, expected, 1e-9)


def test_rows_without_a_key_have_a_gradient_at_other_points_too():
    """Next to the baseline the mean gradient on it is the gradient at the input."""
    proto = transformer(17, "infinite", np.tril(np.ones((3, 3), bool), -1))
    x, found = np.random.default_rng(3).normal(size=(BATCH, LENGTH, WIDTH)), []
    for preset, more in (("taylor", {"baseline": 0.0}), ("integrated-gradients", {"baseline": 0.0}), ("gradient-x-input", {})):
        found.append(Session(onnxdtd.compile(proto, preset, target=1, **more))(x=x * 1e-9)["relevance"])
    assert_near(found[0], found[2], 1e-5)
    assert_near(found[1], found[2], 1e-5)
    assert np.abs(found[2]).max() > 1e-10


@pytest.mark.parametrize(("shared", "slope"), [("attnlrp-epsilon", "attnlrp"), ("lrp-epsilon", "cp-lrp")])
@pytest.mark.parametrize("spelling", ["added", "infinite"])
def test_both_forms_have_one_ledger(shared, slope, spelling):
    """Of a message g it is t · g of each tensor t that is summed up, and kept; what is kept of −∞ is nothing."""
    kept = np.tril(np.ones((3, 3), bool), -1) if spelling == "infinite" else np.asarray([[True, True, False]])
    proto, x = transformer(17, spelling, kept), np.random.default_rng(3).normal(size=(BATCH, LENGTH, WIDTH))
    results = [
        onnxdtd.Explainer(onnxdtd.compile(proto, preset, target=1, settings=settings, ledger=True, keep=["m", "pv"]))(x)
        for preset, settings in ((shared, ["*=epsilon(epsilon=0)"]), (slope, []))
    ]
    for result in results:
        assert np.abs(result.ledger.unaccounted).max() < 1e-9
        totals, arrived = result.ledger.totals(), result.relevance["x"].sum((1, 2))
        np.testing.assert_allclose(totals["relevance"], arrived, atol=1e-9)
        assert np.abs(totals["bias"]).min() > 1e-3
    first, second = results
    for name in ("m", "pv"):
        assert_near(second.kept[name], first.kept[name], 1e-9)
    for step in COMMON:
        if step in first.ledger.steps:
            for column in ("in", "out", "bias", "negative"):
                mine, theirs = (r.ledger[column][:, r.ledger.steps.index(step)] for r in results)
                np.testing.assert_allclose(mine, theirs, atol=1e-9)


def test_a_bias_in_the_ledger_of_a_gradient_is_the_layer_s_own(monkeypatch):
    """Not what is left over: another bias is found out."""
    proto, x = transformer(17, "added", np.ones((1, 3), bool)), np.ones((1, LENGTH, WIDTH)) + np.eye(3, 4)
    whole = onnxdtd.Explainer(onnxdtd.compile(proto, "attnlrp", target=1, ledger=True))(x).ledger
    i = whole.steps.index("g_node")
    np.testing.assert_allclose(whole["in"][:, i] - whole["out"][:, i], whole["bias"][:, i], rtol=1e-9)
    assert np.abs(whole["bias"][:, i]).min() > 1e-4
    monkeypatch.setattr("onnxdtd.compiler.ledger.Bookkeeper._constant", lambda self, step: "")
    parts = onnxdtd.Explainer(onnxdtd.compile(proto, "attnlrp", target=1, ledger=True))(x).ledger
    assert np.abs(parts.unaccounted).max() > 1e-3, "softmax keeps some"
    np.testing.assert_array_equal(parts["bias"][:, i], whole["bias"][:, i])


@pytest.mark.parametrize(("preset", "gamma"), [("attnlrp-epsilon", 0.0), ("attnlrp-gamma", 0.05)])
def test_shares_of_a_transformer_block(preset, gamma):
    """With a stabiliser that is felt, and γ in dense layers but not in attention; the ledger has what softmax and β keep."""
    kept, targets = np.asarray([[True, True, False]]), [2, 0]
    x = np.random.default_rng(3).normal(size=(BATCH, LENGTH, WIDTH))
    settings = [f"{name}_node=epsilon(epsilon=0.01)" for name in EPSILON_STEPS]
    if not gamma:
        settings = ["*=epsilon(epsilon=0.01)"]
    compiled = onnxdtd.compile(transformer(17, "added", kept), preset, target="input", settings=settings, ledger=True)
    result = onnxdtd.Explainer(compiled)(x, np.asarray(targets))
    ledger = result.ledger
    for i, (one, target) in enumerate(zip(x, targets, strict=True)):
        keeps: dict[str, float] = {}
        assert_near(result.relevance["x"][i], shares(one, kept, target, weights(), 0.01, gamma, keeps), 1e-9)
        for step, name in (("weights_node", "softmax"), ("n_node", "norm")):
            np.testing.assert_allclose(ledger["bias"][i, ledger.steps.index(step)], keeps[name], rtol=1e-6)
    assert np.abs(ledger.unaccounted).max() < 1e-9


@pytest.mark.parametrize("preset", ["attnlrp-gamma", "cp-lrp-gamma"])
def test_the_rules_of_a_vision_transformer(preset):
    """γ where weights are, ε where two activations are multiplied."""
    rules = onnxdtd.Explainer(onnxdtd.compile(transformer(17, "added", np.ones((1, 3), bool)), preset)).metadata["rules"]
    assert {rules[f"{name}_node"] for name in ("nv", "attended", "u", "d")} == {"gamma(gamma=0.05)"}
    assert {rules[f"{name}_node"] for name in ("pv", "n", "r", "e", "f")} == {"epsilon(epsilon=1e-06)"}
    assert rules.get("s_node") == (None if preset == "cp-lrp-gamma" else "epsilon(epsilon=1e-06)")


GATED = {
    "GeGLU": ([node("Gelu", "g", "a")], "a"),
    "SwiGLU": ([node("Sigmoid", "g", "t"), node("Mul", "g t", "a")], "a"),
    "ReGLU": ([node("Relu", "g", "a0"), node("Mul", "a0 two", "a")], "a"),
    "tanh": ([node("Tanh", "g", "a")], "a"),
    "bilinear": ([], "g"),
    "both": ([node("Relu", "g", "a"), node("Relu", "u0", "u")], "a"),
}


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize(("preset", "gate"), [("cp-lrp", 0), ("lrp-epsilon", 0), ("attnlrp", 0.5), ("attnlrp-epsilon", 0.5)])
def test_a_gated_linear_unit(name, preset, gate):
    """What has come through the activation is constant in CP-LRP; half each where neither has, or both, and in AttnLRP."""
    nodes, factor = GATED[name]
    up = "u0" if name == "both" else "u"
    nodes = [node("MatMul", "x up", up), node("MatMul", "z gate", "g"), *nodes, node("Mul", f"u {factor}", "h")]
    constants = {key: weights()[key] for key in ("up", "gate")} | {"w": np.ones((5, 1))}
    constants |= {"two": np.asarray(2.0)} if name == "ReGLU" else {}
    constants = {key: value.astype(np.float32) for key, value in constants.items()}
    proto = model([*nodes, node("MatMul", "h w", "y")], {"x": ["n", 4], "z": ["n", 4]}, ["y"], constants, opset=20)
    feeds = {key: np.random.default_rng(i).normal(size=(2, 4)).astype(np.float32) + 1 for i, key in enumerate("xz")}
    found = Session(onnxdtd.compile(proto, preset))(**feeds)
    own = 0.5 if name in ("bilinear", "both") else gate
    assert ("relevance/z" in found) == bool(own), "a constant is not explained"
    if own:
        np.testing.assert_allclose(found["relevance/z"].sum(1), own * found["y"][:, 0], rtol=1e-4)
    np.testing.assert_allclose(found["relevance/x" if own else "relevance"].sum(1), (1 - own) * found["y"][:, 0], rtol=1e-4)


@pytest.mark.parametrize("preset", ["attnlrp", "cp-lrp", "attnlrp-epsilon"])
def test_a_token_behind_a_mask_gets_nothing(preset):
    """Not even next to nothing, where only the first position is read."""
    nodes = [
        node("MatMul", "x q", "s"),
        node("MatMul", "s xt", "z0"),
        node("Where", "kept z0 infinity", "z"),
        node("Softmax", "z", "p", axis=-1),
        node("MatMul", "p x", "v"),
        node("Gather", "v first", "c", axis=1),
        node("MatMul", "c head", "y"),
    ]
    nodes.insert(0, node("Transpose", "x", "xt", perm=[0, 2, 1]))
    constants = {name: weights()[name] for name in ("q", "head")}
    constants |= {"kept": np.asarray([True, True, False]), "infinity": np.asarray(-np.inf), "first": np.asarray(0)}
    compiled = onnxdtd.compile(model(nodes, {"x": ["n", 3, 4]}, ["y"], constants, DOUBLE, 17), preset, target=1)
    found = Session(compiled)(x=np.random.default_rng(4).normal(size=(2, 3, 4)))["relevance"]
    assert np.isfinite(found).all()
    assert found[:, :2].all()
    assert not found[:, 2].any()


AT_ZERO = {"Tanh": 1, "Softsign": 1, "Sigmoid": 0.25, "HardSigmoid": 0.2, "Softplus": 0.5, "Relu": 0, "LeakyRelu": 1, "Elu": 1}
AT_ZERO |= {"HardSwish": 0.5, "Mish": 0.6, "Erf": 2 / np.sqrt(np.pi), "Exp": 1, "Gelu": 0.5, "Swish": 0.5}
NEWER = {"Gelu": 20, "Swish": 24}  # operators of later sets


@pytest.mark.parametrize(("op", "slope"), AT_ZERO.items())
def test_an_activation_passes_relevance_but_for_its_value_at_zero(op, slope, **attrs):
    """(f(z) − f(0))/z for each of two inputs of z = a − b: f′(0) where they cancel, and nothing explodes next to that."""
    w = np.asarray([[1.0], [-1]], np.float32)
    opset = NEWER.get(op, 18)
    nodes = [node("MatMul", "x w", "z"), node(op, "z", "h", **attrs), node("MatMul", "h v", "y")]
    proto = model(nodes, {"x": ["n", 2]}, ["y"], {"w": w, "v": np.ones((1, 2), np.float32)}, opset=opset)
    x = np.asarray([[-2, 0.5], [0.5, 0.25], [3, -1], [1, 1], [1e-12, 0]], np.float32)
    h = Session(model([node(op, "z", "h", **attrs)], {"z": ["n", 1]}, ["h"], {}, opset=opset))
    z = x @ w
    chord = (h(z=z[:3])["h"] - h(z=0 * z[:3])["h"]) / z[:3]
    expected = x * w.T * np.concatenate([chord, [[slope], [1.0 if op == "Relu" else slope]]])
    found = Session(onnxdtd.compile(proto, "attnlrp", target=0))(x=x)["relevance"]
    assert_near(found, expected, 1e-6)
    assert_near(found[4:], expected[4:], 1e-6)


@pytest.mark.parametrize(("op", "attrs"), [("Gelu", {"approximate": "tanh"}), ("Swish", {"alpha": 1.5})])
def test_so_does_one_with_a_parameter(op, attrs):
    test_an_activation_passes_relevance_but_for_its_value_at_zero(op, 0.5, **attrs)


@pytest.mark.parametrize("op", ["Gelu", "Mish", "HardSwish"])
def test_what_is_known_of_x_over_f_of_x_is_not_divided(op):
    proto = model(
        [node(op, "x", "h"), node("MatMul", "h v", "y")], {"x": ["n", 2]}, ["y"], {"v": np.eye(2, dtype="f")}, opset=20
    )
    assert not {n.op_type for n in onnxdtd.compile(proto, "attnlrp").graph.node} & {"Less", "Abs"}


def test_a_matrix_needs_no_input_of_which_one_size_is_unknown():
    """ONNX Runtime takes the factor into the next product, if nobody else asks for what it gives."""
    nodes = [
        node("MatMul", "x w", "h"),
        node("Mul", "h half", "a"),
        node("MatMul", "a w", "b"),
        node("ReduceMean", "b", "y", axes=[1], keepdims=0),
    ]
    constants = {"w": np.eye(3, dtype="f"), "half": np.asarray(0.5, "f")}
    compiled = onnxdtd.compile(model(nodes, {"x": ["n", 4, 3]}, ["y"], constants), "attnlrp")
    assert "Shape" not in {n.op_type for n in compiled.graph.node if "a" in n.input}
    for n in (0, 2):
        assert Session(compiled)(x=np.ones((n, 4, 3), "f"))["relevance"].shape == (n, 4, 3)


@pytest.mark.parametrize("preset", ["attnlrp", "cp-lrp"])
def test_the_sum_of_the_block_without_biases(preset):
    """Everything but softmax hands on all that it has: of values weighed by constants all arrives."""
    nodes = [
        node("MatMul", "x up", "h"),
        node("Sigmoid", "h", "g"),
        node("Mul", "h g", "a"),
        node("Mul", "a h", "b"),
        node("MatMul", "b down", "c"),
        node("ReduceMean", "c", "f", axes=[1], keepdims=0),
        node("MatMul", "f head", "y"),
    ]
    constants = {name: weights()[name] for name in ("up", "down", "head")}
    proto = model(nodes, {"x": ["n", 3, 4]}, ["y"], constants, DOUBLE, 17)
    found = Session(onnxdtd.compile(proto, preset, target=1))(x=np.random.default_rng(4).normal(size=(2, 3, 4)))
    np.testing.assert_allclose(found["relevance"].sum((1, 2)), found["y"][:, 1], rtol=1e-9)
