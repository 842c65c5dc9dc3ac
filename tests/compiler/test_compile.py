"""What a model is compiled for: outputs, classes, contrasts, tensors to keep, several inputs."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from growing import PRESETS, TIGHT, Network, chain, check, compiled, diamond, of_class, plain, residual, samples
from nets import DOUBLE, FLOAT, Session, assert_near, model, node
from oracle import Array

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import ModelError, RequestError

# ---- what is explained -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0, 1, 2])
def test_target_at_run_time_and_fixed(target):
    network = chain()
    x = samples(network)
    expected = network.expected(PRESETS["lrp-0"], x, of_class(target))["x"]
    for how, given in (("input", [target] * 3), ("optional", [target]), ("optional", [target] * 3)):
        found = Session(compiled(network.model(), "lrp-0", target=how))(**x, target=np.array(given))
        assert_near(found["relevance"], expected, 1e-9)
    fixed = compiled(network.model(), "lrp-0", target=target)
    assert [value.name for value in fixed.graph.input] == ["x"]
    assert_near(Session(fixed)(**x)["relevance"], expected, 1e-9)


def test_a_target_for_each_sample():
    network = chain()
    x = samples(network, 4)
    session = Session(compiled(network.model(), "lrp-0", target="optional"))
    argmax, *each = (network.expected(PRESETS["lrp-0"], x, of_class(target))["x"] for target in (None, 0, 1, 2))
    expected = np.stack([each[2][0], argmax[1], each[0][2], each[1][3]])
    assert_near(session(**x, target=np.array([2, -1, 0, 1]))["relevance"], expected, 1e-9)
    for feeds in ({}, {"target": np.array([-1])}, {"target": np.full(4, -1)}):
        assert_near(session(**x, **feeds)["relevance"], argmax, 1e-9)
    required = Session(compiled(network.model(), "lrp-0", target="input"))
    assert_near(required(**x, target=np.array([2, -1, 0, 1]))["relevance"], expected, 1e-9)
    fixed = compiled(network.model(), "lrp-0", target="argmax")
    assert [value.name for value in fixed.graph.input] == ["x"]
    assert fixed == compiled(network.model(), "lrp-0")
    assert_near(Session(fixed)(**x)["relevance"], argmax, 1e-9)


def test_the_first_of_equal_logits_is_explained():
    net = model([node("Gemm", "x w", "y")], {"x": ["n", 2]}, ["y"], {"w": np.float32([[1, 1, 0], [2, 2, 0]])})
    found = Session(compiled(net, "lrp-0"))(x=np.float32([[3, 4]]))
    assert found["relevance"].tolist() == [[3, 8]]


@pytest.mark.parametrize("target", [None, "argmax", 1])
def test_contrast(target):
    """The logit minus that of the best of the other classes."""
    network = chain()
    x = samples(network, 5)

    def seed(y: Array) -> Array:
        best = 1 if target == 1 else int(np.argmax(y))
        other = max((c for c in range(3) if c != best), key=lambda c: y[c])
        return np.where(np.arange(3) == best, y, np.where(np.arange(3) == other, -y, 0))

    expected = network.expected(PRESETS["lrp-0"], x, seed)["x"]
    found = Session(compiled(network.model(), "lrp-0", target=target, contrast=True))(**x)
    assert_near(found["relevance"], expected, 1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 3}, "classes 0 to 2"),
        ({"target": -1}, "classes 0 to 2"),
        ({"target": "cat"}, "'cat'"),
        ({"output": "nosuch"}, "no tensor 'nosuch'"),
        ({"keep": ["nosuch"]}, "nosuch"),
        ({"keep": ["w2"]}, "w2"),
        ({"allow": {"Relu": "skip"}}, "OP=pass"),
    ],
)
def test_a_request_that_does_not_fit(options, message):
    with pytest.raises(RequestError, match=message):
        onnxdtd.compile(chain().model(), **options)


def test_one_class_has_no_runner_up():
    net = model([node("Gemm", "x w", "y")], {"x": ["n", 2]}, ["y"], {"w": np.ones((2, 1), np.float32)})
    with pytest.raises(RequestError, match="at least two classes"):
        onnxdtd.compile(net, contrast=True)


HEADS = {
    "Softmax": [node("Softmax", "y", "p")],
    "LogSoftmax": [node("LogSoftmax", "y", "p", axis=1)],
    "Sigmoid": [node("Sigmoid", "y", "p")],
    "Flatten": [node("Flatten", "y", "p")],
    "Identity, Softmax, Cast": [node("Identity", "y", "i"), node("Softmax", "i", "s"), node("Cast", "s", "p", to=1)],
    "Dropout, Softmax": [node("Dropout", "y", "d"), node("Softmax", "d", "p")],
    "Unsqueeze, Softmax, Squeeze": [
        node("Unsqueeze", "y two", "u"),
        node("Softmax", "u", "s", axis=1),
        node("Squeeze", "s two", "p"),
    ],
    "Softmax twice": [node("Softmax", "y", "s"), node("LogSoftmax", "s", "p")],
}


@pytest.mark.parametrize("head", HEADS)
def test_relevance_starts_before_the_head(head):
    network = residual()
    network.weights["two"] = np.array([2])
    x = samples(network)
    headed = replace(network, more=HEADS[head], outputs=("p",))
    found = Session(compiled(headed.model(), "lrp-0"))(**x)
    assert set(found) == {"p", "relevance", "logit"}
    assert_near(found["relevance"], network.expected(PRESETS["lrp-0"], x, of_class())["x"], 1e-9)


def test_labels_beside_probabilities():
    headed = replace(residual(), more=[node("Softmax", "y", "p"), node("ArgMax", "p", "label", axis=1)], outputs=("label", "p"))
    x = samples(headed)
    found = Session(compiled(headed.model(), "lrp-0"))(**x)
    assert_near(found["relevance"], headed.expected(PRESETS["lrp-0"], x, of_class())["x"], 1e-9)


def test_logits_of_one_sample_without_a_batch_axis():
    rng = np.random.default_rng(0)
    made = {"w1": rng.normal(size=(4, 5)), "w2": rng.normal(size=(5, 3))}
    nodes = [node("MatMul", "x w1", "h"), node("Relu", "h", "r"), node("MatMul", "r w2", "y")]
    batch, single = ({"x": shape} for shape in (["n", 4], [4]))
    x = rng.normal(size=4)
    found = [
        Session(compiled(model(nodes, shape, ["y"], made, DOUBLE), preset, contrast=contrast, target="input"))
        for shape in (single, batch)
        for preset, contrast in (("lrp-0", False), ("dtd", True))
    ]
    for alone, together in zip(found[:2], found[2:], strict=True):
        for target in ([-1], [2]):
            expected = together(x=x[None], target=np.array(target))["relevance"][0]
            assert_near(alone(x=x, target=np.array(target))["relevance"], expected, 1e-12)


def two_heads() -> Network:
    network = residual()
    rng = np.random.default_rng(9)
    network.weights["w_other"], hidden = rng.normal(size=(4, 2)), network.steps[-1][0].input[0]
    return replace(network, more=[node("Gemm", f"{hidden} w_other", "other")], outputs=("y", "other"))


def test_one_of_several_outputs():
    network = two_heads()
    x = samples(network)
    with pytest.raises(RequestError, match="choose one with --output"):
        onnxdtd.compile(network.model())
    found = Session(compiled(network.model(), "lrp-0", output="y"))(**x)
    assert_near(found["relevance"], network.expected(PRESETS["lrp-0"], x, of_class())["x"], 1e-9)
    other = replace(
        network, steps=[*network.steps[:-1], [node("Gemm", f"{network.steps[-1][0].input[0]} w_other", "y")]], more=[]
    )
    found = Session(compiled(network.model(), "lrp-0", output="other"))(**x)
    assert_near(found["relevance"], replace(other, outputs=("y",)).expected(PRESETS["lrp-0"], x, of_class())["x"], 1e-9)


@pytest.mark.parametrize("name", ["t1", "t0"], ids=["Relu", "Gemm"])
def test_an_inner_tensor_as_output(name):
    network = chain()
    x = samples(network)
    head = replace(network, steps=[*network.steps[: int(name[1]) + 1], [node("Identity", name, "y")]])
    found = Session(compiled(network.model(), "lrp-0", output=name))(**x)
    assert_near(found["relevance"], head.expected(PRESETS["lrp-0"], x, of_class())["x"], 1e-9)


def test_an_inner_tensor_with_a_bias_behind_it_as_output():
    """MatMul and Add are one layer, but not where relevance starts between them."""
    rng = np.random.default_rng(0)
    made = {"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}
    net = model([node("MatMul", "x w", "h"), node("Add", "h b", "y")], {"x": ["n", 4]}, ["y"], made, DOUBLE)
    x = rng.normal(size=(2, 4))
    found = Session(compiled(net, "lrp-0", output="h"))(x=x)
    best = (x @ made["w"]).argmax(1)
    assert_near(found["relevance"], x * made["w"].T[best], 1e-12)


# ---- what else is given ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keep", [["t1"], ["t0", "t2"], ["t0", "t1"], ["y"], ["x"]], ids=["one", "two", "around a Relu", "logits", "input"]
)
def test_relevance_of_inner_tensors(keep):
    network = chain()
    x = samples(network)
    found = Session(compiled(network.model(), "lrp-0", keep=keep))(**x)
    expected = network.expected(PRESETS["lrp-0"], x, of_class())
    assert set(found) == {"y", "relevance", "logit"} | {f"relevance/{name}" for name in keep if name != "x"}
    for name in {"x", *keep}:
        assert_near(found["relevance" if name == "x" else f"relevance/{name}"], expected[name], 1e-9)


def test_relevance_inside_a_fused_layer_is_that_of_its_parts():
    network = plain()
    x = samples(network)
    (conv, batch_norm), rest = network.steps[0], network.steps[1:]
    parted = replace(network, steps=[[conv], [batch_norm], *rest])
    found = Session(compiled(network.model(), "dtd", keep=["c1"]))(**x)
    expected = parted.expected(PRESETS["dtd"], x, of_class())
    assert_near(found["relevance/c1"].reshape(3, -1), expected["c1"], TIGHT[FLOAT])
    assert_near(found["relevance"].reshape(3, -1), expected["x"], TIGHT[FLOAT])


def test_metadata():
    network = plain()
    proto = compiled(network.model(), "dtd", low=0, high=[1.0, 2.0, 3.0], settings=["c2_node=gamma(gamma=0.1)"], keep=["r1"])
    metadata = read_metadata(proto)
    assert metadata["version"] == onnxdtd.__version__
    assert len(metadata["source_sha256"]) == 64
    assert metadata["preset"] == "dtd"
    assert metadata["rules"] == {"c1_node": "zB", "c2_node": "gamma(gamma=0.1)", "g_node": "z+", "y_node": "z+"}
    assert metadata["bounds"] == {"low": 0.0, "high": [1.0, 2.0, 3.0]}
    assert (metadata["output"], metadata["logits"], metadata["classes"]) == ("y", "y", 4)
    assert (metadata["target"], metadata["target_input"], metadata["contrast"]) == ("argmax", None, None)
    assert metadata["logit"] == "logit"
    assert metadata["relevance"] == {"x": "relevance", "r1": "relevance/r1"}


def test_an_input_that_no_relevance_reaches_gets_zeros():
    """Under z+ the subtrahend of two non-negative tensors gets nothing."""
    rng = np.random.default_rng(0)
    nodes = [node("Relu", "x", "a"), node("Relu", "z", "b"), node("Sub", "a b", "d"), node("Gemm", "d w", "y")]
    net = model(nodes, {"x": ["n", 4], "z": ["n", 4]}, ["y"], {"w": rng.normal(size=(4, 3))}, DOUBLE)
    found = Session(compiled(net, settings=["d_node=z+"]))(x=np.full((2, 4), 2.0), z=np.ones((2, 4)))
    assert found["relevance/z"].shape == (2, 4)
    assert not found["relevance/z"].any()
    assert found["relevance/x"].any()


def test_a_compiled_model_is_not_compiled_again():
    with pytest.raises(ModelError, match="compiled by onnxdtd already"):
        onnxdtd.compile(onnxdtd.compile(chain().model()))


def test_names_that_are_taken():
    net = model([node("Gemm", "x w", "relevance")], {"x": ["n", 2]}, ["relevance"], {"w": np.ones((2, 2), np.float32)})
    with pytest.raises(ModelError, match="'relevance' already"):
        onnxdtd.compile(net)
    nodes = [node("Gemm", "target w", "dtd/target/ArgMax"), node("Relu", "dtd/target/ArgMax", "y")]
    net = model(nodes, {"target": ["n", 2]}, ["y"], {"w": np.float32([[1, 2], [3, 4]])})
    found = Session(compiled(net, "lrp-0", target="input"))(target=np.float32([[1, 1]]), target_1=np.array([0]))
    assert found["relevance"].tolist() == [[1, 3]]


def test_nodes_without_a_name():
    network = diamond()
    for made in network.nodes:
        made.name = ""
    check(network, "dtd")


def test_weights_that_nodes_make():
    """A Constant node, and weights that are transposed each time the model runs, are weights like any other."""
    rng = np.random.default_rng(0)
    w1, w2 = rng.normal(size=(4, 5)), rng.normal(size=(5, 3))
    layers = [node("MatMul", "x w1", "h"), node("Relu", "h", "r"), node("MatMul", "r w2", "y")]
    makers = [node("Constant", "", "w1", value=onnx.numpy_helper.from_array(w1)), node("Transpose", "turned", "w2")]
    inputs = {"x": ["n", 4]}
    usual = model(layers, inputs, ["y"], {"w1": w1, "w2": w2}, DOUBLE)
    made = model([*makers, *layers], inputs, ["y"], {"turned": w2.T.copy()}, DOUBLE)
    x = rng.normal(size=(3, 4))
    expected, found = (Session(compiled(source, "dtd", low=-4, high=4))(x=x)["relevance"] for source in (usual, made))
    assert_near(found, expected, 1e-12)


def test_a_weight_that_a_caller_may_replace_is_not_explained():
    network = chain()
    source = network.model()
    name = network.steps[0][0].input[1]
    source.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, [4, 4]))
    session, x = Session(compiled(source, "dtd")), samples(network)
    assert_near(session(**x)["relevance"], network.expected(PRESETS["dtd"], x, of_class())["x"], 1e-9)
    network.weights[name] = network.weights[name][::-1].copy()
    replaced = replace(network, weights=dict(network.weights))
    found = session(**x, **{name: network.weights[name]})
    assert_near(found["relevance"], replaced.expected(PRESETS["dtd"], x, of_class())["x"], 1e-9)
