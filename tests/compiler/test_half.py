"""Half precision, and mixtures: relevance that is finite and that of the float32 model, in the type of the input.

A network is built in float32 and cast by numpy. What float16 costs is known: a weight, an activation and a result each lose
2⁻¹¹ of themselves, which a handful of layers add up to well below the 2 % of the largest relevance that are allowed here.

ONNX Runtime on a CPU has few kernels for float16; it computes in float32 and forgets to round, so that an overflow may go
unseen. The reference implementation of onnx rounds every result. Both have to be right.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from classifiers import HALF, OPERATORS, normal, small
from nets import DOUBLE, FLOAT, Session, assert_near, model, node
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from pairs import pairs

import onnxdtd
from onnxdtd.errors import OnnxdtdError

Array = np.ndarray
WITHIN = 0.02  # of the largest relevance
PRESETS = ["dtd", "dtd-z", "lrp-0", "lrp-epsilon", "lrp-gamma", "lrp-alpha2beta1", "epsilon-plus", "gradient", "sensitivity"]


class Reference:
    """A model in the reference implementation, called like a `Session`."""

    def __init__(self, proto: ModelProto):
        self._evaluator = ReferenceEvaluator(proto)

    def __call__(self, **feeds: Array) -> dict[str, Array]:
        with np.errstate(divide="ignore", over="ignore"):  # 1 / 0 is ∞, as it is in every runtime
            return dict(zip(self._evaluator.output_names, self._evaluator.run(None, feeds), strict=True))


RUNTIME = pytest.mark.parametrize("runtime", [Session, Reference], ids=["onnxruntime", "reference"])


def weights_of(scale: float = 1.0) -> dict[str, Array]:
    """Of `convolutional`, the logits multiplied by ``scale``."""
    rng = np.random.default_rng(0)
    given = {"k": rng.normal(size=(6, 2, 3, 3)) / 4, "kb": rng.normal(size=6) / 4, "d": rng.normal(size=(6, 1, 3, 3)) / 2}
    given |= {"g": rng.uniform(0.5, 1.5, 6), "b": rng.normal(size=6) / 4, "m": rng.normal(size=6) / 4}
    given |= {"v": rng.uniform(0.5, 2, 6), "w": scale * rng.normal(size=(6, 4)), "wb": scale * rng.normal(size=4) / 4}
    return given


def convolutional(dtype: np.dtype, scale: float = 1.0, batch: Any = "n") -> ModelProto:
    """Conv, BatchNormalization, Relu, MaxPool, depthwise Conv, residual sum, mean, Gemm."""
    nodes = [
        node("Conv", "x k kb", "c1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c1 g b m v", "n1"),
        node("Relu", "n1", "r1"),
        node("MaxPool", "r1", "p1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p1 d", "c2", pads=[1, 1, 1, 1], group=6),
        node("Add", "c2 p1", "s"),
        node("Relu", "s", "r2"),
        node("GlobalAveragePool", "r2", "a"),
        node("Flatten", "a", "f"),
        node("Gemm", "f w wb", "y"),
    ]
    weights = {name: value.astype(dtype) for name, value in weights_of(scale).items()}
    return model(nodes, {"x": [batch, 2, 8, 8]}, ["y"], weights, dtype)


def pictures(dtype: np.dtype, count: int = 3) -> Array:
    return np.random.default_rng(1).normal(size=(count, 2, 8, 8)).astype(HALF).astype(dtype)


def explained(
    proto: ModelProto, x: Mapping[str, Array], preset: str, runtime: Any = Session, **options: Any
) -> dict[str, Array]:
    """The outputs of the compiled model, all of them finite, those of the source the same."""
    compiled = onnxdtd.compile(proto, preset, **options)
    onnx.checker.check_model(compiled, full_check=True)
    found = runtime(compiled)(**x)
    for name, value in runtime(proto)(**x).items():
        assert_near(found[name], value.astype(np.float64), 2e-3 if value.dtype == HALF else 1e-5)
    for name, value in found.items():
        if "relevance" in name:
            assert np.isfinite(value).all(), name
    return found


def target_of(proto: ModelProto, x: Mapping[str, Array]) -> list[int]:
    """The classes that the predictor prefers, so that two of them are asked for the same."""
    return [int(i) for i in Session(proto)(**x)["y"].argmax(1)]


def check(made: Any, x: Mapping[str, Array], preset: str, runtime: Any = Session, **options: Any) -> Array:
    """The relevance in float16 against that in float32; ``made`` makes the model of a type."""
    target = target_of(made(FLOAT), {name: value.astype(FLOAT) for name, value in x.items()})[0]
    options = {"target": target} | options
    expected = explained(made(FLOAT), {name: value.astype(FLOAT) for name, value in x.items()}, preset, **options)
    found = explained(made(HALF), {name: value.astype(HALF) for name, value in x.items()}, preset, runtime, **options)
    assert found["relevance"].dtype == HALF
    assert_near(found["relevance"], expected["relevance"], WITHIN)
    return found["relevance"]


# ---- whole networks --------------------------------------------------------------------------------------------------


@RUNTIME
@pytest.mark.parametrize("preset", PRESETS)
def test_convolutional_net(preset, runtime):
    check(convolutional, {"x": pictures(HALF)}, preset, runtime)


@RUNTIME
def test_in_a_box(runtime):
    relevance = check(convolutional, {"x": pictures(HALF)}, "dtd", runtime, low=-5.0, high=5.0)
    assert (relevance >= 0).all()


@RUNTIME
@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "sensitivity"])
def test_large_logits(preset, runtime):
    """10⁴ and more: what does not fit into float16 on the way must not be lost there."""
    made = lambda dtype: convolutional(dtype, 1e4)
    assert np.abs(Session(made(HALF))(x=pictures(HALF))["y"]).max() > 4000
    check(made, {"x": pictures(HALF)}, preset, runtime)


@RUNTIME
@pytest.mark.parametrize("preset", PRESETS)
def test_tiny_logits(preset, runtime):
    """10⁻⁴: relevance is made of numbers between which float16 has steps of 2⁻²⁴, and so have the weights of the last layer."""
    made, x = lambda dtype: convolutional(dtype, 1e-4), pictures(HALF)
    target = target_of(made(FLOAT), {"x": x.astype(FLOAT)})[0]
    expected = explained(made(FLOAT), {"x": x.astype(FLOAT)}, preset, target=target)["relevance"]
    found = explained(made(HALF), {"x": x}, preset, runtime, target=target)["relevance"]
    assert np.abs(found.astype(np.float64) - expected).max() <= WITHIN * np.abs(expected).max() + 2.0**-24


@RUNTIME
@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon"])
def test_sums_beyond_the_largest_float16(preset, runtime):
    """z⁺ adds up what the predictor only ever sees cancelled: 4096 terms of 32 are 131072, twice what float16 holds."""
    rng = np.random.default_rng(2)
    signs = np.where(np.arange(4096) % 2, -1, 1)[:, None]
    w = signs * rng.uniform(2, 4, (4096, 3))
    nodes = [node("Relu", "x", "r"), node("MatMul", "r w", "y")]
    made = lambda dtype: model(nodes, {"x": ["n", 4096]}, ["y"], {"w": w.astype(HALF).astype(dtype)}, dtype)
    x = {"x": np.full((2, 4096), 8, HALF) + (np.arange(4096) % 8 / 8).astype(HALF)}
    target = target_of(made(FLOAT), {"x": x["x"].astype(FLOAT)})[0]
    expected = Session(onnxdtd.compile(made(FLOAT), preset, target=target))(x=x["x"].astype(FLOAT))
    found = runtime(onnxdtd.compile(made(HALF), preset, target=target))(**x)
    assert np.isfinite(found["relevance"]).all()
    logit, exact = found["y"][:, target].astype(np.float64), expected["y"][:, target]
    # the logit itself is a difference of large numbers, which float16 rounds; its shares are compared
    shares = found["relevance"] / logit[:, None]
    assert_near(shares, expected["relevance"] / exact[:, None], WITHIN)


@pytest.mark.parametrize("preset", PRESETS)
def test_fixed_batch(preset):
    x = {"x": pictures(HALF)}
    fixed, free = (explained(convolutional(HALF, batch=b), x, preset)["relevance"] for b in (3, "n"))
    assert_near(fixed, free.astype(np.float64), 1e-3)


@pytest.mark.parametrize("options", [{"contrast": True}, {"target": "argmax"}, {"keep": ["r1", "c2"]}], ids=str)
def test_options(options):
    """The class is chosen at run time, too; relevance of inner tensors has their type."""
    x = {"x": pictures(HALF, 1)}
    expected = explained(convolutional(FLOAT), {"x": pictures(FLOAT, 1)}, "dtd", **options)
    found = explained(convolutional(HALF), x, "dtd", **options)
    for name in found:
        assert found[name].dtype == (FLOAT if name == "logit" else HALF)
        assert_near(found[name], expected[name], WITHIN)


# ---- each operator that is neither linear nor a pass -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "preset", "runtime"), pairs(list(OPERATORS), ["dtd", "lrp-epsilon", "gradient"], [Session, Reference])
)
def test_operator(name, preset, runtime):
    nodes, constants, opset = OPERATORS[name]
    made = small(nodes, (2, 3, 4), constants, 12, opset)
    x = normal(2, 3, 4, seed=3).astype(HALF)
    try:
        onnxdtd.compile(made(FLOAT), preset)
    except OnnxdtdError:
        assert preset != "gradient", "no derivative"
        with pytest.raises(OnnxdtdError):
            onnxdtd.compile(made(HALF), preset)
        return
    check(made, {"x": x}, preset, runtime)


def test_lrn():
    nodes = [node("LRN", "x", "h", size=3, alpha=0.5), node("Flatten", "h", "rows"), node("MatMul", "rows w", "y")]
    made = lambda dtype: model(nodes, {"x": [2, 3, 2, 2]}, ["y"], {"w": normal(12, 3).astype(dtype)}, dtype)
    for preset in ("dtd", "gradient"):
        check(made, {"x": normal(2, 3, 2, 2, seed=3).astype(HALF)}, preset)


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "gradient"])
def test_statistics_beyond_the_largest_float16(preset):
    """512 entries around 20 have squares that add up to 204800; a LayerNormalization computes that in float32 itself."""
    rng = np.random.default_rng(5)
    nodes = [node("LayerNormalization", "x gamma beta", "h"), node("MatMul", "h w", "y")]
    weights = {"gamma": rng.uniform(0.5, 1.5, 512), "beta": rng.normal(size=512) / 4, "w": rng.normal(size=(512, 3)) / 8}
    made = lambda dtype: model(nodes, {"x": ["n", 512]}, ["y"], {n: v.astype(dtype) for n, v in weights.items()}, dtype)
    check(made, {"x": (20 * rng.normal(size=(2, 512))).astype(HALF)}, preset)


MOVES = {"Cast", "Identity", "Reshape", "Transpose", "Slice", "Concat", "Expand", "Unsqueeze", "Squeeze", "Pad"}


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "gradient"])
@pytest.mark.parametrize("name", ["convolutional", *OPERATORS])
def test_nothing_is_computed_in_half_precision(name, preset):
    """Whatever runtime and hardware: a sum of squares, 1/σ or w γ/σ may leave the range of float16."""
    if name == "convolutional":
        proto = convolutional(HALF)
    else:
        nodes, constants, opset = OPERATORS[name]
        proto = small(nodes, (2, 3, 4), constants, 12, opset)(HALF)
    try:
        compiled = onnxdtd.compile(proto, preset)
    except OnnxdtdError:
        return
    graph = onnx.shape_inference.infer_shapes(compiled).graph
    half = {v.name for v in [*graph.value_info, *graph.output] if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    emitted = compiled.graph.node[len(proto.graph.node) :]
    reads = lambda made: made.op_type == "Sum" and len(made.input) == 1
    assert {made.op_type for made in emitted if half & set(made.output) and not reads(made)} <= MOVES


@pytest.mark.parametrize("sizes", [["n", "l", 8], ["n", 3, 8]], ids=["dynamic", "static"])
@pytest.mark.parametrize("op", ["LayerNormalization", "Reshape"])
def test_the_prediction_is_that_of_the_source_bit_by_bit(op, sizes):
    """A node between two that the CPU has no half kernel for is computed in float32 too, as long as nobody else reads it who
    has one: neither the Cast nor the Shape of a relevance pass.
    """
    middle = {"LayerNormalization": "h g b", "Reshape": "h to"}[op]
    nodes = [
        node("Add", "x c", "h"),
        node(op, middle, "i"),
        node("MatMul", "i w", "j"),
        node("Gelu", "j", "k"),
        node("ReduceMean", "k one", "m", keepdims=0),
        node("MatMul", "m u", "y"),
    ]
    weights = {name: normal(*shape, seed=i).astype(HALF) for i, (name, shape) in enumerate(SHAPES.items())}
    given = {"to": np.asarray([0, -1, 8])} if op == "Reshape" else {}
    used = {name: weights[name] for name in weights if op == "LayerNormalization" or name not in "gb"}
    proto = model(nodes, {"x": sizes}, ["y"], used | given | {"one": np.asarray([1])}, HALF, opset=20)
    x = normal(5, 3, 8, seed=9).astype(HALF)
    expected = Session(proto, optimise=False)(x=x)["y"]
    for preset in ("lrp-epsilon", "gradient"):
        compiled = onnxdtd.compile(proto, preset, ledger=preset == "lrp-epsilon")
        np.testing.assert_array_equal(Session(compiled, optimise=False)(x=x)["y"], expected)


SHAPES = {"c": (8,), "g": (8,), "b": (8,), "w": (8, 6), "u": (6, 4)}


@RUNTIME
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_derivative_of_large_activations(approximate, runtime):
    """x² of 300 is no float16, but the slope there is 1."""
    x = np.array([[300, -300, 100, -100, 1]], HALF)
    nodes = [node("Gelu", "x", "h", approximate=approximate), node("MatMul", "h w", "y")]
    proto = model(nodes, {"x": [1, 5]}, ["y"], {"w": np.ones((5, 2), HALF)}, HALF, 20)
    found = runtime(onnxdtd.compile(proto, "gradient", target=1))(x=x)["relevance"]
    np.testing.assert_allclose(found, [[1, 0, 1, 0, 1.083]], atol=2e-3)


# ---- mixtures --------------------------------------------------------------------------------------------------------


def mixed(outer: np.dtype, inner: np.dtype) -> ModelProto:
    """A model of one type whose layers are of another, with Casts around them."""
    w1, b1, w2 = (normal(*shape, seed=i) / 2 for i, shape in enumerate([(4, 5), (5,), (5, 3)]))
    to = {dtype: helper.np_dtype_to_tensor_dtype(dtype) for dtype in (HALF, FLOAT, DOUBLE)}
    nodes = [
        node("Mul", "x factor", "scaled"),
        node("Cast", "scaled", "inside", to=to[inner]),
        node("Gemm", "inside w1 b1", "h"),
        node("Relu", "h", "r"),
        node("Cast", "r", "outside", to=to[outer]),
        node("Gemm", "outside w2", "y"),
    ]
    weights = {"factor": np.array(2.0, outer), "w1": w1.astype(inner), "b1": b1.astype(inner), "w2": w2.astype(outer)}
    return model(nodes, {"x": ["n", 4]}, ["y"], weights, outer)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("types", [(FLOAT, HALF), (HALF, FLOAT), (DOUBLE, FLOAT), (FLOAT, DOUBLE), (DOUBLE, HALF)], ids=str)
def test_mixed(types, preset):
    """Relevance has the type of the input, whatever lies between."""
    x = normal(3, 4, seed=4).astype(HALF)
    plain = mixed(FLOAT, FLOAT)
    target = target_of(plain, {"x": x.astype(FLOAT)})[0]
    expected = explained(plain, {"x": x.astype(FLOAT)}, preset, target=target)
    found = explained(mixed(*types), {"x": x.astype(types[0])}, preset, target=target)
    assert found["relevance"].dtype == types[0]
    assert_near(found["relevance"], expected["relevance"], WITHIN if HALF in types else 1e-5)
    assert_near(found["y"], expected["y"], 5e-3 if HALF in types else 1e-5)


def test_mixed_in_a_box():
    """Bounds go through the Cast."""
    x = np.clip(normal(3, 4, seed=4), -2, 2).astype(HALF)
    expected = explained(mixed(FLOAT, FLOAT), {"x": x.astype(FLOAT)}, "dtd", low=-2, high=2, target=1)
    for types in [(FLOAT, HALF), (HALF, FLOAT), (HALF, HALF), (DOUBLE, FLOAT)]:
        found = explained(mixed(*types), {"x": x.astype(types[0])}, "dtd", low=-2, high=2, target=1)
        assert_near(found["relevance"], expected["relevance"], WITHIN)


def test_bounds_beyond_the_largest_float16():
    """70000 is not a float16: refused in plain words."""
    with pytest.raises(OnnxdtdError, match="finite"):
        onnxdtd.compile(mixed(HALF, HALF), low=0, high=70000)


def test_half_weights_in_a_float32_model():
    """Weights kept in float16 and cast on the way, as exporters do to save space."""
    nodes = [node("Cast", "w16", "w", to=TensorProto.FLOAT), node("Gemm", "x w", "h"), node("Relu", "h", "r")]
    nodes += [node("Cast", "v16", "v", to=TensorProto.FLOAT), node("Gemm", "r v", "y")]
    weights = {"w16": normal(4, 5).astype(HALF), "v16": normal(5, 3, seed=1).astype(HALF)}
    proto = model(nodes, {"x": ["n", 4]}, ["y"], weights)
    twin_nodes = [node("Gemm", "x w16", "h"), node("Relu", "h", "r"), node("Gemm", "r v16", "y")]
    twin = model(twin_nodes, {"x": ["n", 4]}, ["y"], {name: value.astype(FLOAT) for name, value in weights.items()})
    x = {"x": normal(3, 4, seed=2).astype(FLOAT)}
    for preset in PRESETS:
        found, expected = (explained(p, x, preset)["relevance"] for p in (proto, twin))
        assert_near(found, expected, 1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_two_inputs_of_different_types(preset):
    nodes = [
        node("Gemm", "a w", "ha"),
        node("Cast", "b", "b32", to=TensorProto.FLOAT),
        node("Gemm", "b32 v", "hb"),
        node("Add", "ha hb", "h"),
        node("Relu", "h", "r"),
        node("Gemm", "r u", "y"),
    ]
    weights = {
        name: normal(*shape, seed=i).astype(FLOAT)
        for i, (name, shape) in enumerate(zip("wvu", [(4, 5), (3, 5), (5, 2)], strict=True))
    }
    proto = model(nodes, {"a": ["n", 4], "b": ["n", 3]}, ["y"], weights)
    proto.graph.input[1].type.tensor_type.elem_type = TensorProto.FLOAT16
    x = {"a": normal(2, 4, seed=4).astype(FLOAT), "b": normal(2, 3, seed=5).astype(HALF)}
    found = explained(proto, x, preset)
    assert found["relevance/a"].dtype == FLOAT
    assert found["relevance/b"].dtype == HALF


# ---- float64, bfloat16 -----------------------------------------------------------------------------------------------


def dense(dtype: np.dtype) -> ModelProto:
    """Gemm, Relu, Gemm."""
    nodes = [node("Gemm", "x w1 b1", "h"), node("Relu", "h", "r"), node("Gemm", "r w2 b2", "y")]
    shapes = {"w1": (4, 6), "b1": (6,), "w2": (6, 3), "b2": (3,)}
    weights = {name: normal(*shape, seed=i).astype(dtype) for i, (name, shape) in enumerate(shapes.items())}
    return model(nodes, {"x": ["n", 4]}, ["y"], weights, dtype)


@pytest.mark.parametrize("preset", PRESETS)
def test_float64(preset):
    """All digits: more than float32 has, and the relevance of a float64 model is nowhere narrower than float64."""
    x = normal(3, 4, seed=9)
    found = explained(dense(DOUBLE), {"x": x}, preset, target=1)
    assert found["relevance"].dtype == DOUBLE
    narrow = explained(dense(FLOAT), {"x": x.astype(FLOAT)}, preset, target=1)["relevance"]
    assert_near(narrow, found["relevance"], 1e-4)
    compiled = onnxdtd.compile(dense(DOUBLE), preset)
    inferred = onnx.shape_inference.infer_shapes(compiled)
    floats = {v.type.tensor_type.elem_type for v in inferred.graph.value_info} - {TensorProto.INT64, TensorProto.BOOL}
    assert floats == {TensorProto.DOUBLE}


@pytest.mark.parametrize("preset", ["dtd-z", "lrp-0"])
def test_float64_conserves(preset):
    """Without biases relevance sums to the logit to 12 digits."""
    proto = dense(DOUBLE)
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("b"):
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(tensor.dims), tensor.name))
    found = explained(proto, {"x": normal(3, 4, seed=9)}, preset)
    np.testing.assert_allclose(found["relevance"].sum(1), found["y"].max(1), rtol=1e-12)


def as_bfloat16(proto: ModelProto, inputs: bool) -> ModelProto:
    """The weights in bfloat16, and the input too or cast to it."""
    for tensor in proto.graph.initializer:
        bits = numpy_helper.to_array(tensor).view(np.uint32) >> 16
        raw = helper.make_tensor(tensor.name, TensorProto.BFLOAT16, tensor.dims, bits.astype(np.uint16).tobytes(), raw=True)
        tensor.CopyFrom(raw)
    for value in [*proto.graph.input, *proto.graph.output] if inputs else proto.graph.output:
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    if not inputs:
        cast = node("Cast", "x", "x16", to=TensorProto.BFLOAT16)
        proto.graph.node[0].input[0] = "x16"
        rest = list(proto.graph.node)
        del proto.graph.node[:]
        proto.graph.node.extend([cast, *rest])
    onnx.checker.check_model(proto, full_check=True)
    return proto


@pytest.mark.parametrize("inputs", [True, False], ids=["input", "cast"])
@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "gradient"])
def test_bfloat16(inputs, preset):
    """numpy does not know it: refused in words that name it, or a valid model."""
    proto = as_bfloat16(dense(FLOAT), inputs)
    try:
        compiled = onnxdtd.compile(proto, preset)
    except OnnxdtdError as error:
        assert "bfloat16" in str(error).lower()  # noqa: PT017
        return
    onnx.checker.check_model(compiled, full_check=True)
