"""Numbers at the edge: denominators that vanish, logits of 10³⁰ and 10⁻³⁰, NaN next door, batches of none.

What must hold: relevance is finite wherever the prediction is; a sample is explained alike whatever else is in the batch; the
same input gives the same bytes. Scales are powers of two, by which numbers are multiplied without rounding, so that relevance
can be compared for equality.

The limits are those of the type. R / z leaves float32 where z is below 2⁻¹²⁶ and, times a weight, a little earlier: below
2⁻¹¹² a denominator counts as 0. That serves any input as long as weight times relevance stays below 2¹⁶, and any relevance
as long as no denominator is that small next to it; 10³⁰ redistributed by a neuron with 10⁻²⁰ of positive input is not served.
``sensitivity`` is a square, and no square is above the largest number or, in float16, above 65504.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from assets import ASSETS, MISSING, Asset
from classifiers import BATCH, HALF, OPERATORS, convolutional, dense, pictures, small
from nets import DOUBLE, FLOAT, Session, assert_near, model, node
from onnx import ModelProto
from pairs import in_turn, pairs

import onnxdtd
from onnxdtd import Explainer
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.method.toml import Library

Array = np.ndarray
PRESETS = [name for name in Library().presets if name not in ("grad-cam", "dtd-minmax")]  # need a map, a fit
OF_EPSILON = ("epsilon-", "excitation", "attnlrp-", "cp-lrp-")
ABSOLUTE = {"lrp-epsilon", *(name for name in PRESETS if name.startswith(OF_EPSILON))}  # an ε of 10⁻⁶ somewhere
SOME = ("dtd", "lrp-epsilon", "gradient")
OF_SOME = pytest.mark.parametrize("preset", SOME)
MODELS = Path(__file__).resolve().parents[2] / "models"
BAD = (np.nan, np.inf, -np.inf)


def compiled(proto: ModelProto, preset: str, **options: Any) -> ModelProto:
    """With bounds, which some presets need."""
    return onnxdtd.compile(proto, preset, low=-4, high=4, **options)


# ---- finite ----------------------------------------------------------------------------------------------------------

NETS = {
    f"{net.__name__} {dtype}": (net, dtype)
    for net, dtype in [(convolutional, FLOAT), (dense, FLOAT), (convolutional, HALF), (dense, HALF), (dense, DOUBLE)]
}


@pytest.mark.parametrize(("preset", "biased"), in_turn(PRESETS, list(product(NETS, [0.0, 1.0]))), ids=str)
def test_any_input_gives_finite_relevance(preset, biased):
    """Nothing, constants, and noise of any size that the type has, down to denormal numbers."""
    of, bias = biased
    net, dtype = NETS[of]
    running = Session(compiled(net(dtype, bias=bias), preset))
    noise = pictures(3, DOUBLE)
    cases = [0 * noise, -0.0 * np.abs(noise), 0 * noise + 1, 0 * noise - 1]
    sizes = (1e-45, 1e-40, 1e-37, 1e-34, 1e-30, 1e-20, 1e-7, 1e-5, 1e-3, 1, 100) + ((1e6, 1e12) if dtype != HALF else ())
    for x in [*cases, *(size * noise for size in sizes)]:
        found = running(x=x.astype(dtype))
        assert np.isfinite(found["y"]).all()
        assert np.isfinite(found["relevance"]).all()
        assert found["relevance"].dtype == dtype


@pytest.mark.parametrize(("net", "preset", "power"), pairs([convolutional, dense], PRESETS, [100, -100]))
def test_logits_of_any_size(net, preset, power):
    """Of the order of 10³⁰ or 10⁻³⁰: relevance is as much larger or smaller, to the last bit."""
    if preset == "sensitivity" and power > 0:
        pytest.skip("its squares are above the largest float32")
    scale = 2.0**power
    x = pictures()
    plain, scaled = (Session(compiled(net(last=last), preset))(x=x) for last in (1.0, scale))
    np.testing.assert_array_equal(scaled["y"], plain["y"] * np.float32(scale))
    assert np.isfinite(scaled["relevance"]).all()
    factor = np.float64(scale) ** (2 if preset == "sensitivity" else 1)
    if preset not in ABSOLUTE:
        np.testing.assert_array_equal(scaled["relevance"], (plain["relevance"] * factor).astype(np.float32))
    elif power > 0:  # next to which ε is nothing
        assert_near(scaled["relevance"], plain["relevance"] * factor, 1e-3)


@pytest.mark.parametrize(("preset", "power"), in_turn(PRESETS, [50, -40], 1))
def test_weights_of_any_size(preset, power):
    """A layer with 2⁵⁰ times the weights, and one 2⁻⁵⁰ times behind it, change nothing."""
    x, scale = pictures(), 2.0**power
    plain, scaled = (
        Session(compiled(net, preset, target=1))(x=x)["relevance"] for net in (dense(), dense(first=scale, between=1 / scale))
    )
    assert np.isfinite(scaled).all()
    if preset not in ABSOLUTE:
        np.testing.assert_array_equal(scaled, plain)
    elif power > 0:
        assert_near(scaled, plain, 1e-3)


@pytest.mark.parametrize(("preset", "size"), in_turn(PRESETS, [0.0, 1e-45, 1e-40, 1e-30, 1e-20]))
def test_weights_of_nothing_and_next_to_nothing(preset, size):
    """A first layer whose products vanish in float32, or whose squares do."""
    found = Session(compiled(dense(first=size), preset))(x=pictures())
    assert np.isfinite(found["relevance"]).all()
    if size == 0 and "flat" not in preset:
        assert not found["relevance"].any()


# ---- denominators that vanish ----------------------------------------------------------------------------------------


def pair(bias: float, dtype: np.dtype = FLOAT) -> ModelProto:
    """h = x₁ − x₂ + bias, y = 2 h + 3"""
    nodes = [node("Gemm", "x w b", "h"), node("Gemm", "h v c", "y")]
    weights = {"w": [[1], [-1]], "b": [bias], "v": [[2]], "c": [3]}
    return model(nodes, {"x": ["n", 2]}, ["y"], {name: np.asarray(v, dtype) for name, v in weights.items()}, dtype)


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE, HALF], ids=str)
@pytest.mark.parametrize("zeros", [(1, 1), (0, 0), (-0.0, 0.0), (0.0, -0.0)])
def test_epsilon_where_the_denominator_is_exactly_zero(zeros, dtype):
    """sign(0) is 1 and so is that of −0: x w R / ε, where w² hands the whole logit of 3 to h."""
    x = np.asarray([zeros], dtype)
    settings = ["h_node=epsilon(epsilon=0.5)", "y_node=w2"]
    found = Session(onnxdtd.compile(pair(0, dtype), "lrp-0", settings=settings))(x=x)
    assert found["y"] == 3
    np.testing.assert_array_equal(found["relevance"], x * [[6, -6]])


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE], ids=str)
@pytest.mark.parametrize("rule", ["z", "epsilon(epsilon=0)"])
def test_exact_cancellation_redistributes_nothing(rule, dtype):
    """1 − 1: a hidden unit with relevance and nobody to give it to."""
    settings = [f"h_node={rule}", "y_node=w2"]
    x = np.asarray([[1, 1], [3, 1]], dtype)
    found = Session(onnxdtd.compile(pair(0, dtype), "lrp-0", settings=settings))(x=x)
    np.testing.assert_array_equal(found["relevance"], [[0, 0], [10.5, -3.5]])


def test_what_only_a_bias_keeps_alive_redistributes_nothing():
    """y = b, R = 5, no input above 0: z⁺ has nothing to divide by. In the z rule the bias is no part of the denominator."""
    net = model(
        [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("Gemm", "r v", "y")],
        {"x": ["n", 2]},
        ["y"],
        {"w": np.float32([[1], [-1]]), "b": np.float32([5]), "v": np.float32([[1]])},
    )
    for settings in (["h_node=z+"], ["h_node=z"]):
        found = Session(onnxdtd.compile(net, "dtd", settings=settings))(x=np.float32([[0, 0], [1, 1]]))
        np.testing.assert_array_equal(found["y"], [[5], [5]])
        np.testing.assert_array_equal(found["relevance"], [[0, 0], [5, 0]] if settings == ["h_node=z+"] else [[0, 0], [0, 0]])


@pytest.mark.parametrize(("dtype", "limit", "opset"), [(FLOAT, -112, 17), (FLOAT, -112, 22), (DOUBLE, -1008, 17)], ids=str)
def test_below_the_limit_a_denominator_counts_as_zero(dtype, limit, opset):
    """From 2⁻¹¹² on (2⁻¹⁰⁰⁸ in float64) relevance is conserved to the last bit, even times weights of 2¹³; below it is 0."""
    weights = {"w": np.full((2, 1), 2.0**13, dtype), "b": np.asarray([4], dtype), "v": np.asarray([[1]], dtype)}
    nodes = [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("Gemm", "r v", "y")]
    net = model(nodes, {"x": ["n", 2]}, ["y"], weights, dtype, opset)
    running = Session(onnxdtd.compile(net, "dtd", settings=["h_node=z+"]))
    smallest = np.float64(2.0) ** (limit - 13)
    x = np.asarray([[smallest, 0], [smallest / 2, 0], [smallest / 2, smallest / 2], [smallest / 4, smallest / 8]], dtype)
    np.testing.assert_array_equal(running(x=x)["relevance"], [[4, 0], [0, 0], [2, 2], [0, 0]])


# ---- classes ---------------------------------------------------------------------------------------------------------


def linear(bias: Sequence[float], fused: bool = True, opset: int = 17) -> ModelProto:
    w = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    nodes = [node("Gemm", "x w b", "y")] if fused else [node("MatMul", "x w", "h"), node("Add", "h b", "y")]
    return model(nodes, {"x": ["n", 4]}, ["y"], {"w": w, "b": np.float32(bias)}, opset=opset)


RULED_OUT = pairs(PRESETS, [False, True], [True, False], [17, 22])
OF_THREE = ("dtd-z", False, True, 22)  # a denominator without the bias is the output less the bias there, which is endless


@pytest.mark.parametrize(("preset", "contrast", "fused", "opset"), dict.fromkeys([*RULED_OUT, OF_THREE]))
def test_a_class_that_is_ruled_out(preset, contrast, fused, opset):
    """A logit of -inf by the bias: the relevance of the others is what it is for a bias that is merely very low."""
    x = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)
    out, low = (
        Session(compiled(linear([0, b, 0], fused, opset), preset, contrast=contrast))(x=x)["relevance"] for b in (-np.inf, -1e4)
    )
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out, low)


@pytest.mark.parametrize(("preset", "dtype"), in_turn(PRESETS, [FLOAT, HALF, DOUBLE], 1))
def test_of_equal_logits_the_first_is_explained(preset, dtype):
    w = np.asarray([[-1, 2, 1, 0], [1, 1, 2, 0]], dtype)
    net = model([node("MatMul", "x w", "y")], {"x": ["n", 2]}, ["y"], {"w": w}, dtype)
    running, x = Session(compiled(net, preset, target="input")), np.asarray([[1, 1], [0, 0], [2, 2]], dtype)
    best, first, second = (running(x=x, target=np.asarray(t))["relevance"] for t in ([-1, -1, -1], [1, 0, 1], [2, 1, 2]))
    np.testing.assert_array_equal(best, first)
    if "flat" not in preset:  # which shares out evenly whatever the class
        assert not np.isclose(best[0], second[0]).any()


@pytest.mark.parametrize(("preset", "contrast"), in_turn(PRESETS, [False, True], 1))
def test_a_class_that_does_not_exist(preset, contrast):
    """The graph cannot raise an error: the relevance of that sample is NaN, the others are what they were."""
    running, x = Session(compiled(convolutional(), preset, contrast=contrast, target="input")), pictures(3)
    right = running(x=x, target=np.asarray([0, 4, -1]))["relevance"]
    for wrong in (5, 6, -2, 2**40, -(2**63)):
        found = running(x=x, target=np.asarray([0, wrong, -1]))["relevance"]
        assert np.isnan(found[1].sum()), wrong
        for i in (0, 2):
            assert found[i].tobytes() == right[i].tobytes(), wrong
        assert np.isnan(running(x=x, target=np.asarray([wrong] * 3))["relevance"].sum((1, 2, 3))).all(), wrong


@pytest.mark.parametrize("wrong", [2, 7, -2])
def test_a_third_class_of_two(wrong):
    net = model([node("MatMul", "x w", "h"), node("Sigmoid", "h", "y")], {"x": ["n", 2]}, ["y"], {"w": np.float32([[1], [2]])})
    compiled_net, x = onnxdtd.compile(net, "lrp-0", target="input"), np.float32([[1, 1], [1, 1], [1, 1]])
    found = Session(compiled_net)(x=x, target=np.asarray([1, wrong, 0]))["relevance"]
    np.testing.assert_array_equal(found, [[1, 2], [np.nan, np.nan], [-1, -2]])
    with pytest.raises(RequestError, match="no class of this model"):
        Explainer(compiled_net, ["CPUExecutionProvider"])(x, [1, wrong, 0])


# ---- batches ---------------------------------------------------------------------------------------------------------


def isolated(running: Session, x: Array, name: str = "x") -> None:
    """A bad sample, all of it or one entry, first, in the middle or last, leaves the bytes of the others alone."""
    before = running(**{name: x})["relevance"]
    assert np.isfinite(before).all()
    for bad in BAD:
        for place in (0, len(x) // 2, len(x) - 1):
            for entries in (slice(None), slice(x[0].size // 2, x[0].size // 2 + 1)):
                spoilt = x.copy()
                spoilt[place].reshape(-1)[entries] = bad
                after = running(**{name: spoilt})["relevance"]
                assert np.delete(after, place, 0).tobytes() == np.delete(before, place, 0).tobytes(), (bad, place, entries)


def same_alone(running: Session, x: Array, name: str = "x", rtol: float = 1e-6) -> None:
    """Each sample is explained as in a batch, and the batch the same way every time."""
    together = running(**{name: x})["relevance"]
    assert together.shape == x.shape
    for i in range(len(x)):
        assert_near(running(**{name: x[i : i + 1]})["relevance"][0], together[i].astype(np.float64), rtol)
    assert running(**{name: x})["relevance"].tobytes() == together.tobytes()


def same_empty(source: ModelProto, found: ModelProto, x: Array, name: str = "x") -> None:
    """No samples, no relevance and no error, unless the predictor itself cannot take none.

    Not at the optimisation level all: there ONNX Runtime 1.31 keeps channels in blocks, and where a vector over channels is
    added to a convolution it inserts a Reshape to [0, -1, ...], which it then refuses for a batch of 0 itself.
    """

    def run_on_nothing(proto: ModelProto) -> dict[str, Array]:
        options = ort.SessionOptions()
        options.graph_optimization_level, options.log_severity_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, 4
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {name: x[:0]}), strict=True))

    try:
        run_on_nothing(source)
    except Exception:  # ONNX Runtime's own exceptions share no base class
        with pytest.raises(Exception, match=r"ONNXRuntimeError"):
            run_on_nothing(found)
        return
    relevance = run_on_nothing(found)["relevance"]
    assert relevance.shape == x[:0].shape
    assert relevance.dtype == x.dtype


@pytest.mark.parametrize(("preset", "of"), in_turn(PRESETS, list(NETS)))
def test_samples_of_a_batch_know_nothing_of_each_other(of, preset):
    net, dtype = NETS[of]
    source = net(dtype)
    made, x = compiled(source, preset), pictures(BATCH, dtype)
    running = Session(made)
    isolated(running, x)
    same_alone(running, x, rtol=1e-3 if dtype == HALF else 1e-6)
    same_empty(source, made, x)


@OF_SOME
@pytest.mark.parametrize("name", OPERATORS)
def test_no_operator_mixes_samples(name, preset):
    nodes, constants, opset = OPERATORS[name]
    source = small(nodes, (2, 3, 4), constants, 12, opset)(FLOAT)
    try:
        made = compiled(source, preset)
    except OnnxdtdError:
        assert preset != "gradient", "no derivative"
        return
    running = Session(made)
    x = np.random.default_rng(3).normal(size=(BATCH, 3, 4)).astype(np.float32)
    isolated(running, x)
    same_alone(running, x)
    same_empty(source, made, x)


@pytest.mark.parametrize("attrs", [{"axes": [1, 2]}, {"axes": [2]}, {"axes": [1], "keepdims": 0}], ids=str)
@pytest.mark.parametrize("known", [True, False])
def test_the_largest_of_no_samples(attrs, known):
    """The number of entries is that of the axes, whether it is known beforehand or not; -1 would say nothing of 0 entries."""
    rows = {1: 4, 2: 3}[attrs["axes"][0]] if len(attrs["axes"]) == 1 else 1
    nodes = [
        node("ReduceMax", "x", "m", **attrs),
        node("Reshape", "m rows", "flat"),
        node("MatMul", "flat w", "y"),
    ]
    weights = {"rows": np.asarray([0, rows]), "w": np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)}
    source = model(nodes, {"x": ["n", 3, 4] if known else ["n", "a", "b"]}, ["y"], weights)
    made, x = onnxdtd.compile(source, "lrp-0"), np.random.default_rng(1).normal(size=(BATCH, 3, 4)).astype(np.float32)
    running = Session(made)
    isolated(running, x)
    same_alone(running, x)
    found = running(x=x)
    np.testing.assert_allclose(found["relevance"].sum((1, 2)), found["y"].max(1), rtol=1e-5)
    same_empty(source, made, x)


def test_the_explainer_takes_no_samples():
    explainer = Explainer(compiled(convolutional(), "dtd", target="input"), ["CPUExecutionProvider"])
    for target in (None, 2):
        found = explainer(pictures(0), target)
        assert found.relevance["x"].shape == (0, 2, 9, 9)
        assert found.outputs["y"].shape == (0, 5)


@pytest.mark.parametrize(("preset", "threads"), in_turn(PRESETS, [4, 1], 1))
def test_the_same_bytes_every_time(preset, threads):
    """On every run and in every new session, however many threads there are."""
    data, x = compiled(convolutional(), preset).SerializeToString(), np.tile(pictures(), (5, 1, 1, 1))
    found = set()
    for _ in range(3):
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        found |= {session.run(["relevance"], {"x": x})[0].tobytes() for _ in range(3)}
    assert len(found) == 1


# ---- real classifiers ------------------------------------------------------------------------------------------------


@OF_SOME
@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "digits_resnet", "digits_sklearn", "two_digits"])
def test_bundled_classifiers(name, preset):
    source = onnx.load(MODELS / f"{name}.onnx")
    (feed,) = (value.name for value in source.graph.input)
    with np.load(MODELS / ("two_digits_samples.npz" if name == "two_digits" else "digits_samples.npz")) as data:
        x = data["image"][:BATCH]
    x = x.reshape(len(x), 64) if name == "digits_sklearn" else x
    made = onnxdtd.compile(source, preset, low=0, high=1)
    running = Session(made)
    isolated(running, x, feed)
    same_alone(running, x, feed)
    same_empty(source, made, x, feed)


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize(
    ("asset", "preset"),
    in_turn(ASSETS, ["dtd", "lrp-epsilon", "lrp-alpha2beta1", "gradient"], 1),
    ids=lambda v: getattr(v, "name", v),
)
def test_real_classifiers(asset: Asset, preset: str):
    """Black, white, grey and next to nothing are explained in finite numbers; where batches are taken, samples are isolated."""
    low, high = asset.bounds
    source = onnx.load(asset.path)
    try:
        running = Session(onnxdtd.compile(source, preset, low=low, high=high))
    except OnnxdtdError:
        pytest.skip("not served by this preset")
    feed = next(v for v in source.graph.input if v.name not in {t.name for t in source.graph.initializer})
    x = asset.inputs()[:BATCH]
    bottom, top = (np.asarray(b, np.float64) for b in (low, high))
    axis = -1 if asset.channels_last else 1
    ends = [b.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]) if b.ndim else b for b in (bottom, top)]
    cases = [ends[0], ends[1], (ends[0] + ends[1]) / 2, 0.0, 1e-6 * x[:1].astype(np.float64), 1e-40 * x[:1].astype(np.float64)]
    for case in cases:
        found = running(**{feed.name: np.broadcast_to(case, x[:1].shape).astype(x.dtype)})
        assert np.isfinite(found["relevance"]).all()
    first = feed.type.tensor_type.shape.dim[0]
    if not first.dim_value:
        isolated(running, x, feed.name)
        same_alone(running, x, feed.name)
