"""Whole networks, compiled and run, against the oracle: random graphs, convolutional nets, theorems.

The second opinion is built from the same nodes: each node's matrix is read off by running it alone on unit vectors, and
`oracle.Net` does the rest in float64, sample by sample. Where ONNX Runtime has float64 kernels the network is float64 too.
"""

# ruff: noqa: N803  (W, R, ... are the letters of the papers)

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from growing import (
    HIGH,
    LOW,
    PRESETS,
    Growing,
    Network,
    chain,
    check,
    compiled,
    diamond,
    norm,
    norm_weights,
    plain,
    residual,
    samples,
    weights,
)
from nets import DOUBLE, FLOAT, Session, assert_near, model, node
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator
from oracle import Array
from pairs import in_turn

import onnxdtd
from onnxdtd.operators.table import OPERATORS

# ---- random graphs in float64 ----------------------------------------------------------------------------------------


def random_network(seed: int, size: int = 8) -> Network:
    """Every step reads the last tensor, another recent one or the first, so that the graph is both deep and branched."""
    grown = Growing(seed, ("x", "z") if seed % 3 == 0 else ("x",))
    pool, rng = [grown.relu(grown.dense(name)) for name in (*grown.inputs, "x")], grown.rng
    shared = grown.weight(4, 4)
    recent = lambda: str(rng.choice(pool[-4:-1]))
    for _ in range(size):
        match rng.integers(8):
            case 0:
                pool.append(grown.relu(grown.dense(pool[-1])))
            case 1:
                pool.append(grown.relu(grown.affine_dense(recent())))
            case 2:
                pool.append(grown.relu(grown.add(pool[-1], recent())))
            case 3:
                pool.append(grown.add(pool[0], pool[-1]))
            case 4:
                pool.append(grown.relu(grown.concat(pool[-1], recent())))
            case 5:
                pool.append(grown.max_pool(recent()))
            case 6:
                pool.append(grown.relu(grown.dense(recent(), shared=shared)))
            case 7:
                pool.append(grown.norm(grown.mean(pool[-1])))
    grown.dense(grown.add(grown.add(pool[-1], pool[-2]), grown.add(pool[0], pool[1])), 3, y="y")
    return grown.network()


@pytest.mark.parametrize(("seed", "preset"), in_turn(range(12), PRESETS, 4))
def test_random_network(seed, preset):
    check(random_network(seed), preset)


def test_random_networks_have_everything():
    ops = {made.op_type for seed in range(12) for made in random_network(seed).nodes}
    assert ops >= {"Gemm", "MatMul", "Relu", "Add", "Sub", "Sum", "Concat", "MaxPool", "ReduceMean", "BatchNormalization"}


def many_consumers() -> Network:
    grown = Growing(4)
    h = grown.relu(grown.dense("x"))
    parts = [grown.dense(h), grown.relu(h), grown.max_pool(h), grown.mean(h), h]
    total = parts[0]
    for part in parts[1:]:
        total = grown.add(total, part)
    grown.dense(total, 3, y="y")
    return grown.network()


def twice_the_same() -> Network:
    grown = Growing(5)
    h = grown.relu(grown.dense("x"))
    grown.dense(grown.step(4, node("Add", f"{h} {h}", "twice")), 3, y="y")
    return grown.network()


def two_inputs() -> Network:
    """z is read at both ends; x and z meet before anything has mixed them, and again later."""
    grown = Growing(6, ("x", "z"))
    h = grown.relu(grown.concat("x", "z"))
    grown.dense(grown.add(grown.relu(grown.dense(h)), "z"), 3, y="y")
    return grown.network()


def sum_of_inputs() -> Network:
    grown = Growing(7, ("x", "z"))
    grown.dense(grown.relu(grown.step(4, node("Add", "x z", "sum"))), 3, y="y")
    return grown.network()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("network", [chain, residual, diamond, many_consumers, twice_the_same, two_inputs, sum_of_inputs])
def test_topology(network, preset):
    check(network(), preset)


# ---- convolutional nets in float32 -----------------------------------------------------------------------------------


def residual_conv() -> Network:
    steps = [
        [node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1])],
        [node("Relu", "c1", "r1")],
        [node("Conv", "r1 w2", "c2", pads=[1, 1, 1, 1]), norm("c2", "n2", "n2")],
        [node("Add", "r1 n2", "sum")],
        [node("Relu", "sum", "r2")],
        [node("AveragePool", "r2", "p", kernel_shape=[2, 2], strides=[2, 2])],
        [node("Flatten", "p", "f")],
        [node("MatMul", "f w3", "m"), node("Add", "m b3", "y")],
    ]
    shapes = {"w1": (4, 2, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), **norm_weights("n2", 4), "w3": (36, 3), "b3": (3,)}
    return Network(steps, {"x": (2, 6, 6)}, weights(2, **shapes), FLOAT)


def inception() -> Network:
    steps = [
        [node("Conv", "x w1 b1", "c1", group=2, strides=[2, 2])],
        [node("Relu", "c1", "r1")],
        [node("Conv", "r1 w2 b2", "c2")],
        [node("Conv", "r1 w3 b3", "c3", pads=[2, 2, 2, 2], dilations=[2, 2])],
        [node("MaxPool", "r1", "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
        [node("Concat", "c2 c3 p", "all", axis=1)],
        [node("Relu", "all", "r2")],
        [node("Conv", "r2 w4 b4", "c4")],
        [node("GlobalAveragePool", "c4", "y")],
    ]
    shapes = {"w1": (4, 2, 2, 2), "b1": (4,), "w2": (3, 4, 1, 1), "b2": (3,), "w3": (2, 4, 3, 3), "b3": (2,)}
    return Network(steps, {"x": (4, 8, 8)}, weights(3, **shapes, w4=(3, 9, 1, 1), b4=(3,)), FLOAT)


def one_dimensional() -> Network:
    steps = [
        [node("Conv", "x w1 b1", "c1", dilations=[2], pads=[2, 2])],
        [node("Relu", "c1", "r1")],
        [node("Conv", "r1 w2 b2", "c2", group=4, auto_pad="SAME_LOWER", strides=[2])],
        [node("Relu", "c2", "r2")],
        [node("ConvTranspose", "r2 w3 b3", "c3", strides=[2], output_padding=[1]), norm("c3", "n3", "n3")],
        [node("Relu", "n3", "r3")],
        [node("MaxPool", "r3", "p", kernel_shape=[3], strides=[2])],
        [node("ReduceMean", "p", "g", axes=[2], keepdims=0)],
        [node("Gemm", "g w4 b4", "y")],
    ]
    shapes = {"w1": (4, 3, 3), "b1": (4,), "w2": (8, 1, 3), "b2": (8,), "w3": (8, 4, 2), "b3": (4,), **norm_weights("n3", 4)}
    return Network(steps, {"x": (3, 9)}, weights(4, **shapes, w4=(4, 3), b4=(3,)), FLOAT)


def preprocessed() -> Network:
    """[h, w, c] in; a negative factor swaps the bounds, and different channels have different ones."""
    steps = [
        [node("Sub", "x mean", "s1")],
        [node("Div", "s1 std", "s2")],
        [node("Transpose", "s2", "t", perm=[0, 3, 1, 2])],
        [node("Pad", "t pads", "t2")],
        [node("Conv", "t2 w1 b1", "c1", strides=[2, 2])],
        [node("Relu", "c1", "r1")],
        [node("Flatten", "r1", "f")],
        [node("Gemm", "f w2 b2", "y")],
    ]
    made = weights(5, w1=(4, 3, 3, 3), b1=(4,), w2=(36, 3), b2=(3,))
    made |= {"mean": np.float32([0.25, -0.5, 1]), "std": np.float32([0.5, -2, 1]), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    return Network(steps, {"x": (5, 5, 3)}, made, FLOAT)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("network", [plain, residual_conv, inception, one_dimensional, preprocessed])
def test_convolutional_net(network, preset):
    check(network(), preset)


@pytest.mark.parametrize("preset", ["dtd", "dtd in a box", "lrp-gamma"])
@pytest.mark.parametrize("size", [(7, 8), (8, 7), (9, 9)])
def test_height_and_width_known_at_run_time_only(size, preset):
    network = plain((3, *size))
    check(network, preset, shapes={"x": ["n", 3, "h", "w"]})


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("last", [True, False], ids=["then mean", "then Conv"])
def test_ceil_mode_where_the_last_window_starts_in_the_padding(op, opset, last):
    """Before opset 22 onnx infers one output more than ONNX Runtime gives, and PyTorch exports such pools."""
    pool = node(op, "r1", "p", kernel_shape=[3], strides=[3], pads=[1, 1], ceil_mode=1)
    steps = [[node("Conv", "x w1 b1", "c1", pads=[1, 1])], [node("Relu", "c1", "r1")], [pool]]
    steps += [] if last else [[node("Conv", "p w2 b2", "c2", strides=[2], pads=[1, 1])], [node("Relu", "c2", "p2")]]
    steps += [[node("ReduceMean", "p" if last else "p2", "y", axes=[2], keepdims=0)]] if opset < 18 else []
    steps += [[node("ReduceMean", f"{'p' if last else 'p2'} axes", "y", keepdims=0)]] if opset >= 18 else []
    made = weights(6, w1=(4, 3, 3), b1=(4,), w2=(4, 4, 3), b2=(4,)) | {"axes": np.array([2])}
    network = Network(steps, {"x": (3, 8)}, made, FLOAT, opset=opset)
    check(network, "dtd", shapes={"x": ["n", 3, 8]})


@pytest.mark.parametrize("network", [plain, residual_conv])
def test_another_runtime_gives_the_same(network):
    """onnx's reference evaluator shares nothing with ONNX Runtime. It fails on negative pads and ConvTranspose in groups."""
    made = network()
    proto, x = compiled(made.model(), "dtd", low=LOW, high=HIGH), samples(made, 1)
    names = [output.name for output in proto.graph.output]
    with np.errstate(over="ignore"):  # what a HardSigmoid cuts off at 1
        reference = dict(zip(names, ReferenceEvaluator(proto).run(None, x), strict=True))
    for name, value in Session(proto)(**x).items():
        assert_near(reference[name], value, 1e-4)


# ---- theorems --------------------------------------------------------------------------------------------------------


def numeric_gradient(network: Network, x: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Of the largest logit of a single sample."""
    source, step, found = Session(network.model()), 1e-6, {}
    target = source(**x)["y"].argmax()
    for name, value in x.items():
        shifts = step * np.eye(value.size).reshape(-1, *value.shape)
        ends = [[source(**x | {name: value + sign * shift})["y"][0, target] for shift in shifts] for sign in (1, -1)]
        found[name] = (np.subtract(*ends) / (2 * step)).reshape(value.shape)
    return found


@pytest.mark.parametrize(
    ("preset", "made_of"),
    [
        ("lrp-0", lambda x, gradient: x * gradient),
        ("gradient-x-input", lambda x, gradient: x * gradient),
        ("gradient", lambda x, gradient: gradient),
        ("sensitivity", lambda x, gradient: gradient**2),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_gradients(preset, made_of, seed):
    """Among ReLU, max and affine layers LRP-0, with the biases in the denominators, is the gradient times the input."""
    network = random_network(seed)
    x = samples(network, 1)
    found = Session(compiled(network.model(), preset))(**x)
    for name, gradient in numeric_gradient(network, x).items():
        assert_near(found["relevance" if len(x) == 1 else f"relevance/{name}"], made_of(x[name], gradient), 1e-7)


def test_deep_taylor_without_biases_conserves_the_logit():
    network = plain()
    for name in ("b1", "b2", "b3", "n1_shift", "n1_mean"):
        network.weights[name][:] = 0
    network.weights["w3"][:] = np.abs(network.weights["w3"])
    x = samples(network, 5)
    found = Session(compiled(network.model(), "dtd", low=LOW, high=HIGH))(**x)
    assert found["relevance"].min() >= 0
    assert_near(found["relevance"].sum((1, 2, 3)), found["y"].max(1), 1e-5)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "network", [partial(random_network, 3), residual, plain, inception], ids=["random", "residual", "plain", "inception"]
)
def test_a_sample_does_not_see_its_neighbours_in_the_batch(network, preset):
    made = network()
    session = Session(compiled(made.model(), PRESETS[preset].name, **PRESETS[preset].options))
    x = samples(made, 5)
    together = session(**x)
    for i in range(5):
        alone = session(**{name: value[i : i + 1] for name, value in x.items()})
        for name, value in alone.items():
            assert_near(value, together[name][i : i + 1], {DOUBLE: 1e-11, FLOAT: 5e-6}[made.dtype])


@pytest.mark.parametrize("network", [chain, diamond, residual_conv, inception, one_dimensional])
def test_an_empty_batch(network):
    """Whatever the predictor takes, the compiled model takes."""
    made = network()
    x = samples(made, 0)
    assert Session(made.model())(**x)["y"].shape[0] == 0
    assert Session(compiled(made.model(), "dtd"))(**x)["relevance"].shape == x["x"].shape


def numbers(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(0, 5, 4), (5, 0, 4), (3, 5, 4)], ids=str)
@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "gradient"])
def test_an_empty_batch_wherever_its_axis_is(shape, preset):
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2]), node("MatMul", "t a", "h"), node("Relu", "h", "i")]
    nodes += [node("MatMul", "i b", "u"), node("ReduceSum", "u zero", "y", keepdims=0)]
    weights = {"a": numbers(4, 6), "b": numbers(6, 3), "zero": np.array([0])}
    proto = compiled(model(nodes, {"x": ["n", "t", 4]}, ["y"], weights), preset)
    assert Session(proto)(x=numbers(*shape))["relevance"].shape == shape


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "gradient"])
def test_names_of_sizes_that_mean_two_things(preset):
    """ONNX Runtime shares memory between tensors whose sizes have one name; what a model says of its outputs may be wrong."""
    nodes = [node("Reshape", "x s", "v"), node("MatMul", "v a", "u"), node("Relu", "u", "r"), node("Reshape", "r t", "w")]
    weights = {"s": np.array([-1, 3]), "a": numbers(3, 3), "t": np.array([-1, 18]), "b": numbers(18, 3)}
    for name in ("unk__0", "n", "targets"):
        source = model([*nodes, node("MatMul", "w b", "y")], {"x": ["n", 6, 3]}, ["y"], weights)
        source.graph.output[0].type.tensor_type.shape.dim[0].dim_param = name
        assert np.isfinite(Session(onnxdtd.compile(source, preset))(x=numbers(2, 6, 3))["relevance"]).all()


def test_a_batch_by_the_name_of_our_own():
    nodes = [node("MatMul", "x a", "h"), node("Relu", "h", "y")]
    proto = onnxdtd.compile(model(nodes, {"x": ["targets", 4]}, ["y"], {"a": numbers(4, 6)}))
    assert Session(proto)(x=numbers(3, 4))["relevance"].shape == (3, 4)


@pytest.mark.parametrize(("n", "m"), [(3, 1), (1, 3), (3, 3)])
def test_inputs_one_of_which_is_repeated_for_the_other(n, m):
    nodes = [node("Conv", "x a", "h"), node("Conv", "z a", "g"), node("Add", "h g", "k"), node("Relu", "k", "i")]
    nodes += [node("GlobalAveragePool", "i", "p"), node("Flatten", "p", "f"), node("MatMul", "f b", "y")]
    inputs = {"x": ["n", 2, 5, 5], "z": ["m", 2, 5, 5]}
    proto = compiled(model(nodes, inputs, ["y"], {"a": numbers(4, 2, 3, 3), "b": numbers(4, 3)}), "dtd-w2")
    found = Session(proto)(x=numbers(n, 2, 5, 5), z=numbers(m, 2, 5, 5))
    assert np.isfinite(found["relevance/x"]).all()
    assert np.isfinite(found["relevance/z"]).all()


# ---- the test itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "faulty"),
    [
        ("MaxPool", lambda e, n, R: iter([(0, e("Mul", n.inputs[0], 0.0))])),
        ("Concat", lambda e, n, R: iter([(i, e("Mul", t, 0.0)) for i, t in enumerate(n.inputs)])),
    ],
)
def test_the_check_catches_a_fault_in_a_flow(op, faulty, monkeypatch):
    network = inception()
    check(network, "dtd")
    monkeypatch.setitem(OPERATORS, op, replace(OPERATORS[op], flow=faulty))
    with pytest.raises(AssertionError):
        check(network, "dtd")


@pytest.mark.parametrize("op", ["Conv", "Add", "GlobalAveragePool"])
def test_the_check_catches_a_fault_in_a_layer(op, monkeypatch):
    build, network = OPERATORS[op].linear, replace(residual_conv() if op == "Add" else inception())

    def faulty(e, made, active):
        layer = build(e, made, active)
        slot = layer.slots[-1]
        wrong = replace(slot, adjoint=lambda s, w: e.mul(slot.adjoint(s, w), 1.01))
        return replace(layer, slots=[*layer.slots[:-1], wrong])

    preset = "dtd" if op != "Add" else "lrp-gamma"  # z+ of this sum does without an adjoint
    check(network, preset)
    monkeypatch.setitem(OPERATORS, op, replace(OPERATORS[op], linear=faulty))
    with pytest.raises(AssertionError):
        check(network, preset)


def test_the_invariants_catch_a_change_to_the_predictor(monkeypatch):
    compile_it = onnxdtd.compile

    def renaming(source: ModelProto, *args: Any, **options: Any) -> ModelProto:
        proto = compile_it(source, *args, **options)
        proto.graph.node[0].name = "other"
        return proto

    monkeypatch.setattr(onnxdtd, "compile", renaming, raising=False)
    with pytest.raises(AssertionError, match="node"):
        compiled(chain().model())
