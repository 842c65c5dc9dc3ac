"""Root points: by hand for every rule on a small dense net; weights of neurons against a probed matrix; regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from assets import MISSING, ROOT
from nets import FLOAT, Session, assert_near, eighths, integers, model, node
from onnx import TensorProto, helper

import onnxdtd
from onnxdtd.compiler.compile import prepare
from onnxdtd.errors import RequestError
from onnxdtd.graph.slices import kind, sliced
from onnxdtd.method.toml import Library
from onnxdtd.request import Request
from onnxdtd.study.audit.parts import Part, batches
from onnxdtd.study.audit.roots import Network, Probe, Roots, roots, with_probes

MODELS = Path(__file__).resolve().parents[3] / "models"
SAMPLES = np.load(MODELS / "digits_samples.npz")["image"].astype(np.float32)

# Two neurons over two inputs at x = (2, 1): y = 2 a - b + bias = 2 and y = a + b - 1.5 = 1.5; the logit is their sum.
POINT = np.asarray([[2, 1]], np.float32)
WEIGHTS = np.asarray([[2, 1], [-1, 1]], np.float32)


def hidden(bias: float = -1.0) -> onnx.ModelProto:
    """The two neurons behind a Relu, so that their input is known to be ≥ 0."""
    nodes = [node("Relu", "x", "h"), node("Gemm", "h w b", "c"), node("Relu", "c", "r"), node("MatMul", "r u", "y")]
    weights = {"w": WEIGHTS, "b": np.asarray([bias, -1.5], np.float32), "u": np.asarray([[1], [1]], np.float32)}
    return model(nodes, {"x": ["n", 2]}, ["y"], weights)


def first(bias: float = -1.0) -> onnx.ModelProto:
    """The same at the input."""
    nodes = [node("Gemm", "x w b", "c"), node("Relu", "c", "r"), node("MatMul", "r u", "y")]
    weights = {"w": WEIGHTS, "b": np.asarray([bias, -1.5], np.float32), "u": np.asarray([[1], [1]], np.float32)}
    return model(nodes, {"x": ["n", 2]}, ["y"], weights)


def only(table: Sequence[Mapping[str, Any]], layer: str = "c_node") -> Mapping[str, Any]:
    return next(row for row in table if row["layer"] == layer)


def checked(proto: onnx.ModelProto, rule: str, **bounds: float) -> Mapping[str, Any]:
    request = Request(preset="lrp-0", settings=(f"c_node={rule}",), **bounds)
    return only(roots(proto, request, POINT, [0], neurons=2))


# Directions v of both neurons, and what is left of the second (then the first) neuron at the first (second) one's root.
BY_HAND = {
    "z+": ([2, 0], [2, 1], "roots (1, 1) and (1, 0.5), where the other is 0.5"),
    "w2": ([2, -1], [1, 1], "roots (1.2, 1.4) and (1.25, 0.25), where the other is 1.1 and 1.25"),
    "z": ([2, 1], [2, 1], "roots (2/3, 1/3), where the other is -0.5, and (1, 0.5)"),
    "epsilon": ([2, 1], [2, 1], "as z"),
    "gamma(gamma=1)": ([4, 1], [4, 2], "roots (6/7, 5/7), where the other is 1/14, and (1, 0.5)"),
    "zB": ([2, -3], [2, 1], "in the box [0, 4]: roots (10/7, 13/7), where the other is 25/14, and (1, 0.5)"),
}


@pytest.mark.parametrize("rule", BY_HAND)
def test_search_directions_by_hand(rule: str) -> None:
    x, low, high = (np.repeat(np.asarray([row], np.float64), 2, axis=0) for row in ([2, 1], [0, 0], [4, 4]))
    found = Library().rule(rule).direction(x, WEIGHTS.T.astype(np.float64), low, high)
    assert found.tolist() == [BY_HAND[rule][0], BY_HAND[rule][1]]


def test_only_inputs_move_that_a_neuron_reads() -> None:
    x, w = np.asarray([[2.0, 1.0, 3.0]]), np.asarray([[2.0, -1.0, 0.0]])
    for rule, v in {"z": [2, 1, 0], "z+": [2, 0, 0], "gamma(gamma=1)": [4, 1, 0], "zB": [2, -3, 0]}.items():
        assert Library().rule(rule).direction(x, w, x * 0, x * 0 + 4).tolist() == [v]


@pytest.mark.parametrize("rule", ["z+", "w2", "gamma(gamma=1)"])
def test_roots_that_keep_everything(rule: str) -> None:
    row = checked(hidden(), rule)
    assert (row["neurons"], row["hinge"], row["domain"], row["region"], row["passes"]) == (2, 1, 1, 1, 1)
    assert row["residual"] < 1e-6


def test_roots_in_the_box() -> None:
    row = checked(first(), "zB", low=0.0, high=4.0)
    assert (row["hinge"], row["domain"], row["region"], row["passes"]) == (1, 1, 1, 1)


@pytest.mark.parametrize("rule", ["z", "epsilon"])
def test_a_root_in_another_region(rule: str) -> None:
    """At (2/3, 1/3) the second neuron is off: a hundredth before, the logit 0.02 with the slope (2, -1) promises 2 of 3.5."""
    row = checked(hidden(), rule)
    assert (row["hinge"], row["domain"], row["region"], row["passes"]) == (1, 1, 0.5, 0.5)
    assert row["residual"] == pytest.approx(1.5 / 3.5 / 2, rel=1e-4)  # the median of this and 0


@pytest.mark.parametrize("rule", ["z+", "w2", "z", "gamma(gamma=1)"])
def test_a_positive_bias_leads_out_of_the_domain(rule: str) -> None:
    """With the bias 3 the first neuron's roots are (-1, 1), (-0.4, 2.2), (-2, -1), (-10/7, 1/7)."""
    row = checked(hidden(bias=3.0), rule)
    assert (row["hinge"], row["domain"]) == (1, 0.5)
    assert row["passes"] == 0.5


def test_bounds_are_the_domain_of_the_first_layer() -> None:
    """Above 2.25 for w2, whose roots are (1.2, 1.4) and (1.25, 0.25), and above 1 for z+."""
    assert checked(first(), "w2", low=0.0, high=4.0)["domain"] == 1
    assert checked(first(), "w2", low=0.5, high=4.0)["domain"] == 0.5
    assert checked(first(), "w2", low=0.5, high=1.3)["domain"] == 0
    assert checked(first(), "w2")["domain"] == 1  # any real input


def test_no_root_on_the_line() -> None:
    """At x = 0 every direction of z+ is 0."""
    row = only(roots(hidden(bias=3.0), Request(preset="lrp-0", settings=("c_node=z+",)), POINT * 0, [0], neurons=4))
    assert (row["neurons"], row["hinge"], row["domain"], row["region"], row["passes"]) == (1, 0, 0, 0, 0)
    assert row["residual"] is None


def test_the_root_of_the_rule_behind() -> None:
    """At x = (0, 0) a bias of 1 keeps y = 2 a - b + 1 alive: z+ has no root, w2 has (-0.4, 0.2), which is out of the domain."""
    x, neither = np.zeros((1, 2), np.float32), {"hinge": 0.0, "domain": 0.0, "passes": 0.0}
    request = Request(preset="lrp-0", settings=("c_node=z+ else w2",))
    found = only(roots(hidden(1.0), request, x, [0], neurons=2))
    assert found == {**found, "neurons": 1, "hinge": 1.0, "domain": 0.0, "region": 1.0, "passes": 0.0}
    for rule in ("z+", "z+ else flat else w2"):  # flat has no root, so w2, to which nothing is left, has no say
        without = only(roots(hidden(1.0), Request(preset="lrp-0", settings=(f"c_node={rule}",)), x, [0], neurons=2))
        assert without == {**without, "neurons": 1, **neither}


def test_rules_without_a_root_have_no_row() -> None:
    for preset in ("lrp-alpha2beta1", "lrp-alpha1beta0", "gradient", "gradient-x-input"):
        assert roots(hidden(), Request(preset=preset), POINT, [0]) == []
    assert [row["layer"] for row in roots(hidden(), Request(preset="lrp-0", settings=("c_node=flat",)), POINT, [0])] == [
        "y_node"
    ]


def test_a_branch_that_sizes_decide_on_is_the_same_region_for_all_samples() -> None:
    plain = hidden()
    asked = [node("Shape", "h", "s"), node("Gather", "s one", "d"), node("Equal", "d two", "is"), node("Relu", "c", "r")]
    weights = {"w": WEIGHTS, "b": np.asarray([-1.0, -1.5], np.float32), "u": np.asarray([[1], [1]], np.float32)}
    weights |= {"one": np.asarray(1), "two": np.asarray(2)}
    same, other = (
        helper.make_graph([node(op, "r", op)], op, [], [helper.make_tensor_value_info(op, TensorProto.FLOAT, ["n", 2])])
        for op in ("Identity", "Neg")
    )
    switch = node("If", "is", "q", then_branch=same, else_branch=other)
    nodes = [node("Relu", "x", "h"), node("Gemm", "h w b", "c"), *asked, switch, node("MatMul", "q u", "y")]
    both = np.concatenate([POINT, POINT + 1])
    switched, expected = (
        only(roots(proto, Request(preset="dtd"), both, [0, 0], neurons=2))
        for proto in (model(nodes, {"x": ["n", 2]}, ["y"], weights), plain)
    )
    assert switched == expected


def test_of_the_top_layer_only_the_explained_neurons() -> None:
    nodes = [node("Relu", "x", "h"), node("Gemm", "h w", "y")]
    proto = model(nodes, {"x": ["n", 2]}, ["y"], {"w": np.ones((2, 3), np.float32)})
    assert roots(proto, Request(preset="dtd"), np.ones((5, 2), np.float32), [-1, 0, 1, 2, 2], neurons=20)[0]["neurons"] == 5


@pytest.mark.parametrize("target", [0, 1])
def test_another_winner_is_another_region(target: int) -> None:
    """Neurons 2 and 1 in one window: the root of the first makes the second win, that of the second changes nothing.

    The second class is always 1, with the gradient 0: that a pool has another winner counts nevertheless.
    """
    nodes = [
        node("Relu", "x", "h"),
        node("Conv", "h w", "c"),
        node("MaxPool", "c", "m", kernel_shape=[1, 2]),
        node("Flatten", "m", "f"),
        node("Gemm", "f u b", "y"),
    ]
    weights = {"w": np.ones((1, 1, 1, 1)), "u": np.asarray([[1, 0]]), "b": np.asarray([0, 1])}
    proto = model(nodes, {"x": ["n", 1, 1, 2]}, ["y"], {name: value.astype(np.float32) for name, value in weights.items()})
    row = only(roots(proto, Request(preset="dtd"), POINT.reshape(1, 1, 1, 2), [target], neurons=2))
    assert (row["hinge"], row["domain"], row["region"]) == (1, 1, 0.5)


def test_a_neuron_that_goes_off_is_another_region_though_it_does_not_matter() -> None:
    """As in `test_a_root_in_another_region`, but the logit is that of the first neuron alone."""
    nodes = [node("Relu", "x", "h"), node("Gemm", "h w b", "c"), node("Relu", "c", "r"), node("MatMul", "r u", "y")]
    weights = {"w": WEIGHTS, "b": np.asarray([-1, -1.5], np.float32), "u": np.asarray([[1], [0]], np.float32)}
    row = checked(model(nodes, {"x": ["n", 2]}, ["y"], weights), "z")
    assert (row["region"], row["residual"]) == (0.5, pytest.approx(0, abs=1e-6))


def test_where_nothing_is_linear_there_are_no_regions() -> None:
    nodes = [node("Relu", "x", "h"), node("Gemm", "h w", "c"), node("Sigmoid", "c", "r"), node("MatMul", "r u", "y")]
    proto = model(nodes, {"x": ["n", 2]}, ["y"], {"w": WEIGHTS, "u": np.asarray([[1, 2], [1, 0]], np.float32)})
    row = checked(proto, "z+")
    assert (row["hinge"], row["region"]) == (1, 0)
    assert row["residual"] > 0.01


# ---- The parts that this is made of ------------------------------------------------------------------------------------

LAYERS = {
    "strided": (node("Conv", "x w b", "y", strides=[2, 3], pads=[1, 0, 2, 1]), [2, 5, 7], [4, 2, 3, 2]),
    "grouped": (node("Conv", "x w b", "y", group=2, dilations=[2, 1]), [4, 5, 4], [4, 2, 2, 2]),
    "transposed": (node("ConvTranspose", "x w", "y", strides=[2, 2], pads=[1, 0, 0, 1]), [2, 3, 3], [2, 3, 2, 3]),
    "gemm": (node("Gemm", "x w b", "y", transB=1, alpha=0.5), [6], [4, 6]),
    "matmul": (node("MatMul", "x w", "y"), [3, 4], [4, 2]),
    "pool": (node("AveragePool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 0, 1, 0]), [2, 4, 4], []),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("free", [True, False])
def test_weights_of_a_neuron(name: str, free: bool) -> None:
    """Against the matrix that the layer itself yields on unit vectors."""
    made, shape, size = LAYERS[name]
    rng = np.random.default_rng(0)
    weights = {"w": integers(rng, *size), "b": integers(rng, 4)}
    batch = 3 if not free else "n"
    proto = model([made], {"x": [batch, *shape]}, ["y"], {k: v for k, v in weights.items() if k in made.input})
    job = prepare_any(proto)
    probe = Probe(job, job.plan.steps[0], 0)
    part = Part(sliced(with_probes(job, [probe]), [probe.slot.x], {probe.w.name: kind(probe.w)}), job)
    plain, x = Session(proto), integers(rng, 3, *shape)
    zero = plain(x=x * 0)["y"]
    matrix = []
    for i in range(x[0].size):
        unit = np.zeros_like(x)
        unit.reshape(3, -1)[:, i] = 1
        matrix.append((plain(x=unit)["y"] - zero)[0].ravel())
    neurons = rng.choice(zero[0].size, 3)
    one = np.zeros_like(zero)
    one.reshape(3, -1)[range(3), neurons] = 1
    w = part({"x": x, probe.one.name: one})[probe.w.name]
    assert_near(w.reshape(3, -1), np.stack(matrix)[:, neurons].T, 1e-6)


def prepare_any(proto: onnx.ModelProto) -> Any:
    """A job that explains a layer whatever the shape of its output: of classes there may be as many as it has entries."""
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    whole.graph.node.append(node("Flatten", "y", "flat"))
    del whole.graph.output[:]
    whole.graph.output.append(onnx.helper.make_tensor_value_info("flat", 1, [None, None]))
    return prepare(whole, Request(preset="dtd-z"))


def residual_net(batch: int | str = "n", dtype: np.dtype = FLOAT) -> onnx.ModelProto:
    """Both kinds of joints, and a skip connection around a pair of layers."""
    rng = np.random.default_rng(5)
    nodes = [
        node("Sub", "x mean", "centred"),
        node("Conv", "centred w b", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "h"),
        node("Conv", "h u", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "d"),
        node("Conv", "d t", "f"),
        node("Add", "f h", "s"),
        node("Relu", "s", "r"),
        node("Concat", "r h", "j", axis=1),
        node("MaxPool", "j", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "m", "g"),
        node("Gemm", "g v", "y"),
    ]
    weights = {
        "mean": np.asarray(0.5, np.float32),
        "w": eighths(rng, 3, 2, 3, 3),
        "b": eighths(rng, 3),
        "u": eighths(rng, 4, 3, 3, 3),
        "t": eighths(rng, 3, 4, 1, 1),
        "v": eighths(rng, 24, 3),
    }
    return model(nodes, {"x": [batch, 2, 4, 4]}, ["y"], {name: value.astype(dtype) for name, value in weights.items()}, dtype)


XS = np.random.default_rng(6).uniform(0, 1, (6, 2, 4, 4)).astype(np.float32)


def results(proto: onnx.ModelProto, request: Request, layer: str, each: int = 8) -> list[dict[str, Any]]:
    job = prepare(proto, request)
    step = next(s for s in job.plan.steps if s.name == layer)
    probe = Probe(job, step, 0)
    network = Network(job, proto, request, [probe.slot.x])
    layer_roots, rng = Roots(job, probe, with_probes(job, [probe]), network), np.random.default_rng(0)
    found = []
    for batch in batches(job, XS):
        found += layer_roots.find(batch, network.cotangent(batch, [-1] * len(XS)), each, rng)
    return found


@pytest.mark.parametrize("layer", ["a_node", "c_node", "f_node", "y_node"])
def test_taylor_is_exact_inside_the_region_only(layer: str) -> None:
    found = results(residual_net(), Request(preset="dtd", low=0.0, high=1.0), layer)
    assert all(result["hinge"] for result in found)
    inside = [result["residual"] for result in found if result["region"]]
    outside = [result["residual"] for result in found if not result["region"]]
    assert max(inside, default=0) < 1e-5
    assert layer == "y_node" or np.median(outside) > 1e-3
    assert layer in ("a_node", "c_node") or len(inside) >= 2


def test_other_tensors_are_held() -> None:
    """The logit as a function of d alone: h, which d comes from, is that of the sample."""
    proto, request = residual_net(), Request(preset="dtd")
    job = prepare(proto, request)
    step = next(s for s in job.plan.steps if s.name == "f_node")
    network = Network(job, proto, request, list(step.inputs))
    tail = sliced(network.proto, [step.inputs[0]], {"y": 1})
    assert {value.name for value in tail.graph.input} == {"x", "d"}
    assert "f_node" in (names := {made.name for made in tail.graph.node})
    assert "c_node" not in names
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    h = Session(cut_at(proto, "h"))(x=XS)["h"]
    joint = np.concatenate([np.maximum(h, 0), h], axis=1)  # what is left of f + h where d is 0
    pooled = joint.reshape(6, 6, 2, 2, 2, 2).max(axis=(3, 5)).reshape(6, 24)
    found = Part(tail, job)({"x": XS, "d": np.zeros((6, 4, 4, 4), np.float32)})["y"]
    assert_near(found, pooled @ weights["v"], 1e-5)


def cut_at(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    part = sliced(proto, [], {name: 1})
    assert [value.name for value in part.graph.input] == ["x"]
    return part


def test_the_batch_makes_no_difference() -> None:
    tables = [roots(residual_net(b), Request(preset="dtd", low=0.0, high=1.0), XS, [0] * 6, neurons=24) for b in ("n", 1, 4)]
    assert [row["layer"] for row in tables[0]] == ["a_node", "c_node", "f_node", "y_node"]
    for table in tables[1:]:
        for row, expected in zip(table, tables[0], strict=True):
            assert row == {**expected, "residual": pytest.approx(expected["residual"], rel=1e-3, abs=1e-6)}


def two_inputs(folder: Path) -> Path:
    """Two inputs side by side, in front of weights in a file of their own."""
    nodes = [node("Concat", "a b", "x", axis=1), node("MatMul", "x w", "c"), node("Relu", "c", "r"), node("MatMul", "r u", "y")]
    weights = {"w": np.random.default_rng(0).normal(size=(5, 300)).astype(np.float32), "u": np.ones((300, 2), np.float32)}
    proto = model(nodes, {"a": ["n", 2], "b": ["n", 3]}, ["y"], weights)
    onnx.save(proto, folder / "net.onnx", save_as_external_data=True, location="net.data")
    return folder / "net.onnx"


def test_several_inputs_and_external_weights(tmp_path: Path) -> None:
    xs = {"a": np.ones((3, 2), np.float32), "b": np.full((3, 3), 2, np.float32)}
    table = roots(two_inputs(tmp_path), Request(preset="dtd", low=0.0, high=4.0), xs, [0, 1, -1])
    assert [(row["layer"], row["rule"], row["hinge"], row["domain"]) for row in table] == [
        ("c_node", "zB", 1, 1),
        ("y_node", "z+", 1, 1),
    ]
    with pytest.raises(RequestError, match="several inputs"):
        roots(two_inputs(tmp_path), Request(preset="dtd"), xs["a"], [0, 1, -1])


def test_half_precision() -> None:
    request = Request(preset="dtd", low=0.0, high=1.0)
    exact, half = (roots(residual_net(dtype=np.dtype(kind)), request, XS, [0] * 6) for kind in (np.float32, np.float16))
    assert [row["hinge"] for row in half] == [row["hinge"] for row in exact]
    assert [row["region"] for row in half] == pytest.approx([row["region"] for row in exact], abs=0.1)


def test_contrast_and_targets_change_the_logit_only() -> None:
    table = [
        roots(residual_net(), Request(preset="dtd", contrast=c), XS, t, neurons=6)
        for c, t in ((None, [0] * 6), ("rest", [1] * 6))
    ]
    assert [row["hinge"] for row in table[0][:3]] == [row["hinge"] for row in table[1][:3]] == [1, 1, 1]
    assert table[0][1]["residual"] != table[1][1]["residual"]


def test_on_a_trained_net() -> None:
    """What Sixt and Landgraf found: hardly a root lies in the linear region of the input."""
    for name in ("digits_cnn", "digits_resnet"):
        table = roots(MODELS / f"{name}.onnx", Request(preset="dtd", low=0.0, high=1.0), SAMPLES, [-1] * 20, neurons=40)
        assert [row["rule"] for row in table][:2] == ["zB", "z+"]
        assert all(row["hinge"] == 1 for row in table)
        assert table[0]["domain"] == 1
        assert table[0]["region"] < 0.1 < 1 == table[-1]["region"]


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_logits_that_no_tensor_of_the_model_holds() -> None:
    """A LinearClassifier gives probabilities only; of one linear layer every region is the same."""
    x = np.load(ROOT / "data" / "iris_150.npz")["x"][::15].astype(np.float32)
    (row,) = roots(ROOT / "models" / "iris_logreg_skl2onnx.onnx", Request(preset="dtd", low=0.0, high=8.0), x, [-1] * 10)
    assert (row["neurons"], row["hinge"], row["region"]) == (9, 1.0, 1.0), "the tenth has a logit below 0"


def test_the_root_0_everywhere_is_gradient_times_input() -> None:
    """Deep Taylor with a constant root (LRP-0 of a net without biases) is x ∂f/∂x: Sixt and Landgraf 2022."""
    proto = residual_net()
    nodes = [n for n in proto.graph.node if n.name != "centred_node"]
    nodes[0].input[:] = ["x", "w"]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name not in ("mean", "b")}
    free = model(nodes, {"x": ["n", 2, 4, 4]}, ["y"], weights)
    taylor, plain = (
        onnxdtd.Explainer(onnxdtd.compile(free, preset))(XS).relevance["x"] for preset in ("lrp-0", "gradient-x-input")
    )
    assert_near(taylor, plain, 2e-6)
