"""AttnLRP and CP-LRP of a tiny transformer against numpy in float64: a mask, both norms, activations, a gate."""

from typing import Any

import numpy as np
import pytest
from nets import DOUBLE, Session, assert_near, model, node

import onnxdtd

Array = np.ndarray
BATCH, LENGTH, WIDTH, HIDDEN = 2, 3, 4, 5
EPSILON = float(np.float32(1e-5))
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
    product = 0.5 * message @ c["down"].T
    of_m = (product * active) @ c["up"].T + (product * u * active / g) @ c["gate"].T
    message = message + of_m * c["gain"] / length
    mixed = message @ c["o"].T
    of_n = ((1.0 if constant else 0.5) * p.T @ mixed) @ c["v"].T
    if not constant:
        of_p = 0.5 * mixed @ v.T
        of_scores = p * (of_p - (p * of_p).sum(1, keepdims=True)) / 2
        of_n = of_n + (0.5 * of_scores @ k) @ c["q"].T + (0.5 * of_scores.T @ q) @ c["k"].T
    centred = of_n * c["gamma"] / sigma
    return x * (message + centred - centred.mean(1, keepdims=True))


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


@pytest.mark.parametrize("preset", ["attnlrp", "cp-lrp"])
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
AT_ZERO |= {"HardSwish": 0.5, "Mish": 0.6, "Erf": 2 / np.sqrt(np.pi), "Exp": 1}


@pytest.mark.parametrize(("op", "slope"), AT_ZERO.items())
def test_an_activation_passes_relevance_but_for_its_value_at_zero(op, slope):
    """(f(z) − f(0))/z for each of two inputs of z = a − b: f′(0) where they cancel, and nothing explodes next to that."""
    w = np.asarray([[1.0], [-1]], np.float32)
    nodes = [node("MatMul", "x w", "z"), node(op, "z", "h"), node("MatMul", "h v", "y")]
    proto = model(nodes, {"x": ["n", 2]}, ["y"], {"w": w, "v": np.ones((1, 2), np.float32)}, opset=18)
    x = np.asarray([[-2, 0.5], [0.5, 0.25], [3, -1], [1, 1], [1e-12, 0]], np.float32)
    h = Session(model([node(op, "z", "h")], {"z": ["n", 1]}, ["h"], {}, opset=18))
    z = x @ w
    chord = (h(z=z[:3])["h"] - h(z=0 * z[:3])["h"]) / z[:3]
    expected = x * w.T * np.concatenate([chord, [[slope], [1.0 if op == "Relu" else slope]]])
    found = Session(onnxdtd.compile(proto, "attnlrp", target=0))(x=x)["relevance"]
    assert_near(found, expected, 1e-6)
    assert_near(found[4:], expected[4:], 1e-6)


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
