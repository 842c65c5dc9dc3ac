"""Gradients between the baseline and the input: integrated along the way, and at a root of the score."""

from typing import Any

import numpy as np
import pytest
from nets import DOUBLE, FLOAT, Session, assert_near, integers, model, node
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd.errors import RequestError, RuleError
from onnxdtd.method.toml import Library

RNG = np.random.default_rng(0)
A, B = (3 * RNG.normal(size=shape) for shape in ((4, 6), (6, 3)))
SHIFT = RNG.normal(size=3)
X = RNG.normal(size=(3, 4))


def net(batch: Any = "n", dtype: np.dtype = DOUBLE, activation: str = "Tanh", shift: Any = SHIFT) -> ModelProto:
    """Two dense layers with a bias, by way of a Reshape that is written for the batch."""
    nodes = [
        node("MatMul", "x a", "h"),
        node("Shape", "h", "size"),
        node(activation, "h", "t"),
        node("Reshape", "t size", "r"),
        node("Gemm", "r b s", "y"),
    ]
    weights = {name: np.asarray(value, dtype) for name, value in (("a", A), ("b", B), ("s", shift))}
    return model(nodes, {"x": [batch, 4]}, ["y"], weights, dtype)


def logits(x: np.ndarray) -> np.ndarray:
    return np.tanh(x @ A) @ B + SHIFT


def gradient(x: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Of the logits of the classes ``best``."""
    return ((1 - np.tanh(x @ A) ** 2) * B[:, best].T) @ A.T


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize(("batch", "baseline"), [("n", 0.5), (3, [0.5, -1.0, 0.0, 2.0]), (None, "input")])
def test_integrated_gradients(batch, baseline, steps):
    """By the same points in float64; as one batch where the batch is open, and one by one where it is not."""
    compiled = onnxdtd.compile(net(batch), f"integrated-gradients(steps={steps})", baseline=baseline)
    given = {"baseline": X[::-1].copy()} if baseline == "input" else {}
    other = given.get("baseline", np.broadcast_to(0.5 if baseline == 0.5 else np.asarray([0.5, -1.0, 0.0, 2.0]), X.shape))
    found, best = Session(compiled)(x=X, **given), logits(X).argmax(1)
    points, weights = np.polynomial.legendre.leggauss(steps)
    mean = sum(w / 2 * gradient(other + (p + 1) / 2 * (X - other), best) for p, w in zip(points, weights, strict=True))
    assert_near(found["relevance"], (X - other) * mean, 1e-12)
    assert_near(found["logit_at_baseline"], logits(other)[np.arange(3), best], 1e-12)
    copies = sum(made.op_type == "Tanh" for made in compiled.graph.node)
    assert copies == (steps if batch == 3 else 1) + 2  # at the input and at the baseline


def test_it_adds_up():
    """Σ R = f(x) − f(x̃) up to what the quadrature leaves, which ever more steps make smaller."""
    left = []
    for steps in (2, 4, 8, 32):
        found = Session(onnxdtd.compile(net(), f"integrated-gradients(steps={steps})"))(x=X / 4)
        left.append(np.abs(found["logit"] - found["logit_at_baseline"] - found["relevance"].sum(1)).max())
    assert sorted(left, reverse=True) == left
    assert left[-1] < 1e-9


def test_samples_on_another_axis_and_several_inputs():
    """A sequence first, [time, batch, features], beside a table and a mask of the same batch that is none of both."""
    nodes = [
        node("Mul", "x mask", "kept"),
        node("Tanh", "kept", "t"),
        node("ReduceSum", "t first", "u", keepdims=0),
        node("MatMul", "u w", "p"),
        node("MatMul", "z v", "q"),
        node("Mul", "p q", "y"),
    ]
    weights = {"w": RNG.normal(size=(3, 2)).astype(FLOAT), "v": RNG.normal(size=(4, 2)).astype(FLOAT), "first": np.asarray([0])}
    proto = model(nodes, {"x": [5, "n", 3], "z": ["n", 4], "mask": [5, "n", 1]}, ["y"], weights)
    x, z = RNG.normal(size=(5, 2, 3)).astype(FLOAT), RNG.normal(size=(2, 4)).astype(FLOAT)
    mask = RNG.integers(0, 2, (5, 2, 1)).astype(FLOAT)
    options = {"explain": ["x", "z"], "baseline": {"z": "input", "x": 0.25}}
    compiled = onnxdtd.compile(proto, "integrated-gradients", **options)
    other = RNG.normal(size=z.shape).astype(FLOAT)
    found = Session(compiled)(x=x, z=z, mask=mask, **{"baseline/z": other})
    one_by_one = onnxdtd.compile(
        model(nodes, {"x": [5, 2, 3], "z": [2, 4], "mask": [5, 2, 1]}, ["y"], weights), "integrated-gradients", **options
    )
    same = Session(one_by_one)(x=x, z=z, mask=mask, **{"baseline/z": other})
    total = found["relevance/x"].sum((0, 2)) + found["relevance/z"].sum(1)
    assert_near(total, found["logit"] - found["logit_at_baseline"], 1e-5)
    for name in ("relevance/x", "relevance/z", "logit_at_baseline"):
        assert_near(found[name], same[name], 1e-5)
    assert not found["relevance/x"][np.broadcast_to(mask == 0, x.shape)].any()


def test_root():
    """f(x̃) is 0 where the signs at both ends differ; the gradient is taken there, and Σ R is f(x) to first order."""
    compiled = onnxdtd.compile(net(shift=[-2.0, -2.0, -2.0]), "taylor-root(steps=12)", target=1, keep=["t"])
    x = np.sign(A @ B[:, 1]) * np.linspace(0.5, 2, 3)[:, None]
    found, score = Session(compiled)(x=x), lambda v: (np.tanh(v @ A) @ B - 2)[:, 1]
    assert (score(x) > 0).all()
    assert_near(found["logit_at_baseline"] + 1, np.ones(3), 1e-4)
    parts = np.linspace(0, 1, 200_001)  # where it really is, a root of each, on a fine grid
    for i in range(3):
        at = int(np.argmin(np.abs(score(parts[:, None] * x[i]))))
        root = parts[at] * x[i]
        assert_near(found["relevance"][i], (x[i] - root) * gradient(root[None], np.asarray([1]))[0], 2e-3)


def test_ids():
    """What they look up is gone along in one batch, and for each sample to a root of its own, as if it was given."""
    nodes = [node("Gather", "table ids", "x"), *net().graph.node[:1], node("Tanh", "h", "t")]
    nodes += [node("ReduceMean", "t", "m", axes=[1], keepdims=0), node("Gemm", "m b s", "y")]
    weights = {"table": RNG.normal(size=(5, 4)), "a": A, "b": B, "s": np.asarray([-0.5, -0.5, -0.5])}
    tail = model(nodes[1:], {"x": ["n", 6, 4]}, ["y"], {name: weights[name] for name in "abs"}, DOUBLE)
    proto = ModelProto.FromString(tail.SerializeToString())
    proto.graph.node.insert(0, nodes[0])
    proto.graph.initializer.append(numpy_helper.from_array(weights["table"], "table"))
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 6]))
    ids = RNG.integers(0, 5, (3, 6))
    for preset, copies in (("taylor-root(steps=3)", 6), ("integrated-gradients(steps=5)", 3)):
        compiled = onnxdtd.compile(proto, preset)
        found, given = Session(compiled)(ids=ids), Session(onnxdtd.compile(tail, preset))(x=weights["table"][ids])
        assert_near(found["relevance"], given["relevance"].sum(-1), 1e-12)
        assert_near(found["logit_at_baseline"], given["logit_at_baseline"], 1e-12)
        assert sum(made.op_type == "Tanh" for made in compiled.graph.node) == copies


def test_without_a_root_it_is_that_at_the_baseline():
    """Of samples whose score has the same sign at both ends; each by itself."""
    high = net(shift=[60.0, 60.0, 60.0])
    found, plain = (Session(onnxdtd.compile(high, preset))(x=X) for preset in ("taylor-root", "taylor"))
    for name in ("relevance", "logit_at_baseline"):
        assert_near(found[name], plain[name], 1e-12)
    mixed = Session(onnxdtd.compile(net(), "taylor-root"))
    whole = mixed(x=X)
    for i in range(3):
        np.testing.assert_allclose(whole["relevance"][i], mixed(x=X[i : i + 1])["relevance"][0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch", ["n", 2])
def test_what_is_chosen_is_another_choice_there(batch):
    """The largest at the baseline and on the way, not those at the input."""
    top = [node("TopK", "x k", "v i"), node("MatMul", "v w", "y")]
    weights = {"k": np.asarray([1]), "w": np.asarray([[1.0, -1.0]])}
    x, other = np.asarray([[1.0, 2.0, 0.0], [4.0, 2.0, 1.0]]), np.asarray([5.0, 0.0, 0.0])
    run = lambda preset: Session(
        onnxdtd.compile(model(top, {"x": [batch, 3]}, ["y"], weights, DOUBLE), preset, baseline=other.tolist())
    )(x=x)
    assert_near(run("taylor")["relevance"], [[-4, 0, 0], [-1, 0, 0]], 1e-12)
    # x̃ + α (x − x̃) is largest in the first entry until α = 5 / 6, four of the five points of Gauss and Legendre
    last = np.polynomial.legendre.leggauss(5)[1][-1] / 2
    assert_near(run("integrated-gradients(steps=5)")["relevance"], [[-4 * (1 - last), 2 * last, 0], [-1, 0, 0]], 1e-12)


def test_taylor_of_what_is_linear_and_of_what_is_a_product():
    """Exact for the one; of a product of two what is of first order, at x̃."""
    x, z, other = RNG.normal(size=(3, 2, 4))
    linear = model([node("MatMul", "x w", "y")], {"x": ["n", 4]}, ["y"], {"w": RNG.normal(size=(4, 3))}, DOUBLE)
    found = Session(onnxdtd.compile(linear, "taylor", baseline="input"))(x=x, baseline=other)
    assert_near(found["relevance"].sum(1), found["logit"] - found["logit_at_baseline"], 1e-12)
    product = model([node("Mul", "x z", "y")], {"x": ["n", 4], "z": ["n", 4]}, ["y"], dtype=DOUBLE)
    found = Session(onnxdtd.compile(product, "taylor", baseline={"x": 0.5, "z": 2.0}))(x=x, z=z)
    best = np.eye(4)[(x * z).argmax(1)]
    assert_near(found["relevance/x"], best * (x - 0.5) * 2.0, 1e-12)
    assert_near(found["relevance/z"], best * (z - 2.0) * 0.5, 1e-12)
    assert_near(found["logit_at_baseline"], np.ones(2), 1e-12)


def test_a_preset_with_other_steps():
    preset = Library().preset("taylor-root(steps=3)")
    assert (preset.name, preset.method.steps, preset.method.point) == ("taylor-root(steps=3)", 3, "root")
    for wrong in ("0", "1025", "x", ""):
        with pytest.raises(RuleError, match="steps is a number from 1 to 1024"):
            Library().preset(f"integrated-gradients(steps={wrong})")
    with pytest.raises(RuleError, match="of points that are found in steps, which are root, path"):
        Library().preset("taylor(steps=3)")


def test_refusals():
    with pytest.raises(RequestError, match="means of those at many points"):
        onnxdtd.compile(net(), "integrated-gradients", keep=["t"])
    nodes = [node("Cast", "x", "f", to=TensorProto.FLOAT), node("MatMul", "f w", "y")]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor("w", TensorProto.FLOAT, [4, 2], integers(RNG, 8))],
    )
    pixels = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    with pytest.raises(RequestError, match="nothing lies between two integers"):
        onnxdtd.compile(pixels, "integrated-gradients")
    found = Session(onnxdtd.compile(pixels, "integrated-gradients", from_=["f"]))(x=np.asarray([[1, 2, 3, 4]], np.uint8))
    assert_near(found["relevance"].sum(1), found["logit"], 1e-5)


POINTED = ["taylor", "taylor-root(steps=2)", "integrated-gradients(steps=12)"]


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("preset", POINTED)
def test_what_is_there_twice_has_two_gradients(preset, batch):
    """Nodes that do the same, and inputs with the same baseline: none takes what is the other's."""
    rng = np.random.default_rng(4)
    weights = {"w": rng.normal(size=(3, 5)), "v": rng.normal(size=(5, 2)), "u": rng.normal(size=(5, 2))}
    nodes = [
        *(node("MatMul", "x w", "h"), node("Sigmoid", "h", "r"), node("Sigmoid", "h", "q"), node("MatMul", "r v", "s")),
        *(node("MatMul", "q u", "t"), node("Add", "s t", "a"), node("MatMul", "z w", "g"), node("Tanh", "g", "p")),
        *(node("MatMul", "p v", "b"), node("Add", "a b", "y")),
    ]
    once = [made for made in nodes if made.output[0] != "q"]
    once[once.index(node("MatMul", "q u", "t"))] = node("MatMul", "r u", "t")
    x, z = rng.normal(size=(2, 1, 3))
    shapes = {"x": [batch, 3], "z": [batch, 3]}
    twice = Session(onnxdtd.compile(model(nodes, shapes, ["y"], weights, DOUBLE), preset, baseline=0.25))(x=x, z=z)
    apart = {"x": "input", "z": 0.25}
    alone = onnxdtd.compile(model(once, shapes, ["y"], weights, DOUBLE), preset, baseline=apart)
    expected = Session(alone)(x=x, z=z, **{"baseline/x": np.full((1, 3), 0.25)})
    for name in ("relevance/x", "relevance/z"):
        assert_near(twice[name], expected[name], 1e-12)


def test_the_ids_of_a_baseline_are_those_of_each_input():
    """Two inputs look something up in one table."""
    rng = np.random.default_rng(5)
    weights = {"E": rng.normal(size=(6, 4)).astype(np.float32), "v": rng.normal(size=(4, 2)).astype(np.float32)}
    nodes = [node("Gather", "E i", "e"), node("Gather", "E j", "f"), node("Sub", "e f", "d"), node("Tanh", "d", "t")]
    nodes += [node("ReduceSum", "t axes", "s", keepdims=0), node("MatMul", "s v", "y")]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", 3]) for name in "ij"]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])]
    constants = [numpy_helper.from_array(value, name) for name, value in {**weights, "axes": np.array([1])}.items()]
    graph = helper.make_graph(nodes, "ids", inputs, outputs, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    found = onnxdtd.Explainer(onnxdtd.compile(proto, "taylor", baseline={"i": 2, "j": 5}))(
        {"i": np.array([[0, 1, 2]]), "j": np.array([[3, 4, 5]])}
    )
    best = weights["v"][:, found.outputs["y"].argmax()]
    slope = (1 - np.tanh(weights["E"][2] - weights["E"][5]) ** 2) * best
    assert_near(found.relevance["i"], [(weights["E"][[0, 1, 2]] - weights["E"][2]) @ slope], 1e-5)
    assert_near(found.relevance["j"], [-(weights["E"][[3, 4, 5]] - weights["E"][5]) @ slope], 1e-5)
