"""Quantised operators and classifiers of ai.onnx.ml against the float operators that they stand for.

A quantised network is written twice: with QLinear operators, and with DequantizeLinear, float operator, QuantizeLinear. Scales
are powers of two and sums are short, so that both compute the same integers, and the relevance pass of the first must give
what that of the second gives; only the order of float additions differs (1e-5 of the largest relevance). Where no value is
rounded or cut off, the network without any quantisation must agree as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from nets import FLOAT, Session, assert_near, integers, model, node
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from pairs import pairs
from spelling import NEAR, Array, compiled

import onnxdtd
from onnxdtd.errors import OnnxdtdError

PRESETS = ["dtd", "dtd-z", "lrp-epsilon", "lrp-gamma", "lrp-alpha2beta1", "gradient"]

STANDARD = ("Conv", "MatMul")  # whose quantised forms are standard operators; the others are of com.microsoft

ON_INTEGERS = ("MaxPool", "Flatten", "Concat", "Transpose")  # work on quantised tensors as they are


@dataclass(frozen=True)
class Step:
    """An operator on quantised tensors, its result, and (for a Conv) its bias."""

    op: str
    operands: str
    result: str
    bias: str | None = None
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Net:
    """A quantised network from a float x to float logits y: scale and zero point of every tensor, the integer weights.

    The first operand is ``q0``, the last result ``out``.
    """

    steps: list[Step]
    shape: Sequence[int]
    grid: dict[str, tuple[Any, Any]]
    weights: dict[str, Array] = field(default_factory=dict)

    def scale(self, name: str) -> Array:
        return np.asarray(self.grid[name][0], np.float32)

    def real(self, name: str) -> Array:
        """What the integers of a weight stand for; a vector of scales is one for each output, the last axis of a matrix."""
        w = self.weights[name].astype(np.float32)
        column = lambda v: v if v.ndim == 0 or w.ndim == 2 else v.reshape(-1, *[1] * (w.ndim - 1))
        scale, zero = (column(np.asarray(v, np.float32)) for v in self.grid[name])
        return scale * (w - zero)

    def bias(self, step: Step) -> Array:
        x, w = step.operands.split()
        return (self.weights[step.bias or ""] * (self.scale(x) * self.scale(w))).astype(np.float32)

    def quantised(self, step: Step) -> list[NodeProto]:
        """One QLinear operator."""
        if step.op in ON_INTEGERS:
            return [node(step.op, step.operands, step.result, **step.attrs)]
        operands = " ".join(f"{name} {name}_s {name}_z" for name in step.operands.split())
        more = f" {step.bias}" if step.bias else ""
        made = node(f"QLinear{step.op}", f"{operands} {step.result}_s {step.result}_z{more}", step.result, **step.attrs)
        if step.op not in STANDARD:
            made.domain = "com.microsoft"
        return [made]

    def spelled_out(self, step: Step) -> list[NodeProto]:
        """DequantizeLinear, float operator, QuantizeLinear."""
        if step.op in ON_INTEGERS:
            return [node(step.op, step.operands, step.result, **step.attrs)]
        nodes, names = [], []
        for i, name in enumerate(step.operands.split()):
            axis = {"axis": 0} if step.op == "Conv" and i else {}
            names.append(f"{step.result}_real_{i}")
            nodes.append(node("DequantizeLinear", f"{name} {name}_s {name}_z", names[-1], **axis))
        names += [f"{step.bias}_real"] if step.bias else []
        nodes.append(node(step.op, " ".join(names), f"{step.result}_real", **step.attrs))
        return [*nodes, node("QuantizeLinear", f"{step.result}_real {step.result}_s {step.result}_z", step.result)]

    def model(self, form: str, batch: str | int = "n") -> ModelProto:
        """``quantised``, ``spelled_out``, or ``real``, the float network. The first two also give the integers ``out``."""
        weights: dict[str, Array] = {}
        if form == "real":
            names = {"q0": "x", "out": "y"}
            rename = lambda words: " ".join(names.get(w, w) for w in words.split())
            nodes = []
            for step in self.steps:
                bias = f" {step.bias}" if step.bias else ""
                nodes.append(node(step.op, rename(step.operands) + bias, rename(step.result), **step.attrs))
                weights |= {step.bias: self.bias(step)} if step.bias else {}
                weights |= {name: self.real(name) for name in step.operands.split() if name in self.weights}
        else:
            nodes = [node("QuantizeLinear", "x q0_s q0_z", "q0")]
            for step in self.steps:
                nodes += self.quantised(step) if form == "quantised" else self.spelled_out(step)
                if step.bias:
                    weights |= {f"{step.bias}_real": self.bias(step), step.bias: self.weights[step.bias]}
            nodes.append(node("DequantizeLinear", "out out_s out_z", "y"))
            weights |= self.weights
            for name, (scale, zero) in self.grid.items():
                weights |= {f"{name}_s": np.asarray(scale, np.float32), f"{name}_z": np.asarray(zero)}
        used = {name for made in nodes for name in made.input}
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *self.shape])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, None])],
            [numpy_helper.from_array(value, name) for name, value in weights.items() if name in used],
        )
        if form != "real":
            elem = helper.np_dtype_to_tensor_dtype(np.asarray(self.grid["out"][1]).dtype)
            graph.output.append(helper.make_tensor_value_info("out", elem, [batch, None]))
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def explained(source: ModelProto, x: Array, preset: str, **options: Any) -> dict[str, Array]:
    """The outputs of the compiled model; those of the source must be the same bits."""
    found = Session(compiled(source, preset, **options))(x=x)
    for name, value in Session(source)(x=x).items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
    assert np.isfinite(found["relevance"]).all()
    return found


def check(net: Net, x: Array, preset: str, forms: Sequence[str] = ("spelled_out",), **options: Any) -> dict[str, Array]:
    """The quantised network against its other forms."""
    options = {"output": "y"} | options
    found = explained(net.model("quantised"), x, preset, **options)
    for form in forms:
        expected = explained(net.model(form), x, preset, **options)
        np.testing.assert_array_equal(found["y"], expected["y"])
        assert_near(found["relevance"], expected["relevance"], NEAR)
    return found


def small(rng: np.random.Generator, *shape: int, size: int = 3, dtype: Any = np.int8) -> Array:
    """Integers other than 0, so that few denominators are 0."""
    return (rng.integers(1, size + 1, shape) * rng.choice([-1, 1], shape)).astype(dtype)


def on_grid(net: Net, count: int = 3, size: int = 2) -> Array:
    """Inputs that quantisation leaves as they are."""
    return small(np.random.default_rng(7), count, *net.shape, size=size, dtype=np.float32) * net.scale("q0")


# ---- each operator, with nothing rounded and nothing cut off ---------------------------------------------------------

BOTH = ["spelled_out", "real"]

ZEROS = {  # of x (and the result) and of w: signed or unsigned, in the middle or not
    "uint8 int8": (np.uint8(128), np.int8(0)),
    "uint8 uint8": (np.uint8(100), np.uint8(120)),
    "int8 int8": (np.int8(-5), np.int8(0)),
}

CONVS = {
    "1d": ((5,), (2,), {}),
    "2d": ((4, 3), (2, 2), {"pads": [1, 0, 0, 1]}),
    "strides": ((5, 4), (3, 2), {"strides": [2, 2], "kernel_shape": [3, 2]}),
    "depthwise": ((3, 3), (2, 2), {"group": 2}),
    "same": ((4, 3), (3, 2), {"auto_pad": "SAME_UPPER"}),
}


def convolution(form: str = "2d", zeros: str = "uint8 int8", channels: bool = False, bias: bool = True) -> Net:
    """A Conv each of whose results is a logit."""
    size, kernel, attrs = CONVS[form]
    zero_x, zero_w = ZEROS[zeros]
    scales = np.float32([0.25, 0.125, 0.25, 0.125]) if channels else np.float32(0.25)
    w = small(np.random.default_rng(2), 4, 2 // attrs.get("group", 1), *kernel, size=2, dtype=np.int64) + int(zero_w)
    grid = {
        "q0": (0.5, zero_x),
        "w": (scales, np.full(scales.shape, zero_w)),
        "h": (0.5 * scales.min(), zero_x),
        "out": (0.5 * scales.min(), zero_x),
    }
    weights = {"w": w.astype(zero_w.dtype), "b": np.int32([3, -2, 1, -1])}
    steps = [Step("Conv", "q0 w", "h", "b" if bias else None, attrs), Step("Flatten", "h", "out")]
    return Net(steps, (2, *size), grid, weights)


def product(zeros: str = "int8 int8", columns: bool = False, shape: Sequence[int] = (4,)) -> Net:
    """x W"""
    zero_x, zero_w = ZEROS[zeros]
    scales = np.float32([0.25, 0.125, 0.25]) if columns else np.float32(0.25)
    grid = {"q0": (0.5, zero_x), "w": (scales, np.full(scales.shape, zero_w)), "out": (0.5 * scales.min(), zero_x)}
    w = small(np.random.default_rng(1), 4, 3, dtype=np.int64) + int(zero_w)
    return Net([Step("MatMul", "q0 w", "out")], shape, grid, {"w": w.astype(zero_w.dtype)})


@pytest.mark.parametrize(("preset", "form", "channels"), pairs(PRESETS, list(CONVS), [False, True]))
def test_convolution(preset, form, channels):
    """With one scale, or with a scale for each channel."""
    net = convolution(form, channels=channels)
    check(net, on_grid(net), preset, BOTH)


@pytest.mark.parametrize(
    ("zeros", "channels", "bias", "preset"), pairs(list(ZEROS), [False, True], [False, True], ["dtd", "lrp-epsilon"]), ids=str
)
def test_convolution_of_all_types(zeros, channels, bias, preset):
    net = convolution("2d", zeros, channels, bias)
    check(net, on_grid(net), preset, BOTH)


@pytest.mark.parametrize(("preset", "columns", "zeros"), pairs(PRESETS, [False, True], list(ZEROS)), ids=str)
def test_product(preset, columns, zeros):
    net = product(zeros, columns)
    check(net, on_grid(net), preset, BOTH)


@pytest.mark.parametrize("net", [convolution(channels=True), product()], ids=["Conv", "MatMul"])
def test_box(net):
    """zB with bounds in the units of x, on the grid and off it."""
    check(net, on_grid(net), "dtd", BOTH, low=-1.0, high=1.0)
    check(net, np.random.default_rng(3).uniform(-1, 1, (3, *net.shape)).astype(FLOAT), "dtd", low=-1.0, high=1.0)


def test_static_batch():
    net = convolution()
    x = on_grid(net)
    fixed, free = (explained(net.model("quantised", batch), x, "dtd", output="y")["relevance"] for batch in (3, "n"))
    np.testing.assert_array_equal(fixed, free)


def test_every_class():
    net = product()
    x = on_grid(net)
    session = Session(onnxdtd.compile(net.model("quantised"), "lrp-epsilon", output="y", target="optional"))
    w = net.real("w")
    for target in range(3):
        relevance = session(x=x, target=np.array([target]))["relevance"]
        assert_near(relevance, x * w[:, target], NEAR)


GEMMS = [{}, {"transB": 1}, {"transB": 1, "alpha": 0.5}, {"transA": 1, "alpha": 2.0}]


@pytest.mark.parametrize(
    ("attrs", "columns", "result", "preset"), pairs(GEMMS, [False, True], ["integers", "float"], PRESETS), ids=str
)
def test_product_with_a_bias(attrs, columns, result, preset):
    """α op(A) op(B) + C, where C counts in α times the scales of A and B; without a scale of its own the result is float."""
    rng, zero = np.random.default_rng(3), np.int8(-5)
    net = product(columns=columns)
    w, grid = net.weights["w"].astype(np.int64) - 5, {"q0": (0.5, zero), "w": net.grid["w"], "h": (1 / 32, np.int8(-5))}
    scales = np.broadcast_to(net.scale("w"), 3)
    b = np.int32([3, -2, 1])
    grid["w"] = (scales if columns else net.scale("w"), np.full(net.scale("w").shape, np.int8(-5)))
    weights = {"w": (w.T if attrs.get("transB") else w).astype(np.int8), "b": b, "u": small(rng, 3, 2, size=1).astype(FLOAT)}
    alpha = attrs.get("alpha", 1.0)
    weights["b_real"] = (b * alpha * 0.5 * scales).astype(FLOAT)
    for name, (scale, at) in grid.items():
        weights |= {f"{name}_s": np.asarray(scale, np.float32), f"{name}_z": np.asarray(at)}
    weights["alpha_w_s"] = np.float32(alpha) * weights["w_s"]  # ONNX Runtime, fusing the three, would count C in α twice
    rounded = result == "integers"
    scaled = " h_s h_z" if rounded else ""
    quantised = node("QGemm", f"q0 q0_s q0_z w w_s w_z b{scaled}", "h" if rounded else "real", domain="com.microsoft", **attrs)
    axis = {"axis": 0 if attrs.get("transB") else 1} if columns else {}
    spelled_out = [
        node("DequantizeLinear", "q0 q0_s q0_z", "a_real"),
        node("DequantizeLinear", "w alpha_w_s w_z", "w_real", **axis),
        node("Gemm", "a_real w_real b_real", "sums" if rounded else "real", **{k: v for k, v in attrs.items() if k != "alpha"}),
    ]
    if rounded:
        spelled_out.append(node("QuantizeLinear", "sums h_s h_z", "h"))
    turned = [node("Transpose", "x", "turned", perm=[1, 0])] if attrs.get("transA") else []
    x = small(rng, 3, 4, size=2, dtype=np.float32) * 0.5
    forms = []
    for middle in ([quantised], spelled_out):
        nodes = [*turned, node("QuantizeLinear", f"{'turned' if turned else 'x'} q0_s q0_z", "q0"), *middle]
        nodes += [node("DequantizeLinear", "h h_s h_z", "real")] if rounded else []
        nodes += [node("Relu", "real", "r"), node("MatMul", "r u", "y")]
        used = {name for made in nodes for name in made.input}
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 4), ("y", 2))]
        constants = [numpy_helper.from_array(value, name) for name, value in weights.items() if name in used]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        graph = helper.make_graph(nodes, "net", infos[:1], infos[1:], constants)
        forms.append(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    found, expected = (explained(form, x, preset) for form in forms)
    real = alpha * x @ ((w + 5) * scales) + weights["b_real"]
    assert (np.abs(real) < 122 / 32).all()  # nothing is cut off, nothing rounded
    np.testing.assert_array_equal(found["y"], np.maximum(real, 0) @ weights["u"])
    np.testing.assert_array_equal(found["y"], expected["y"])
    assert_near(found["relevance"], expected["relevance"], NEAR)
    if preset == "gradient":
        best = found["y"].argmax(1)
        assert_near(found["relevance"], alpha * ((real > 0) * weights["u"][:, best].T) @ ((w + 5) * scales).T, NEAR)


def then(op: str, result: tuple[float, Any], operands: str = "h", size: int = 3, **attrs: Any) -> Net:
    """A product, an operator of com.microsoft on its result, another product."""
    net = product("int8 int8", shape=(4,))
    rng = np.random.default_rng(4)
    net.steps = [Step("MatMul", "q0 w", "h"), Step("MatMul", "q0 v", "k"), Step(op, operands, "r", None, attrs)]
    net.steps += [Step("MatMul", "r u", "out")]
    net.weights = {"w": small(rng, 4, 3, size=size), "v": small(rng, 4, 3, size=size), "u": small(rng, 3, 2, size=1)}
    net.grid |= {name: (0.25, np.int8(0)) for name in "wvu"} | {"h": (0.125, np.int8(3)), "k": (0.125, np.int8(-4))}
    net.grid |= {"r": result, "out": (result[0] / 4, np.int8(0))}
    return net


@pytest.mark.parametrize("preset", PRESETS)
def test_sum(preset):
    net = then("Add", (0.125, np.int8(2)), "h k")
    check(net, on_grid(net), preset, BOTH)


@pytest.mark.parametrize("preset", PRESETS)
def test_sum_with_a_constant(preset):
    net = then("Add", (0.125, np.int8(2)), "h c")
    net.weights["c"], net.grid["c"] = np.int8([[5, -3, 1]]), (0.125, np.int8(0))
    net.steps.pop(1)
    check(net, on_grid(net), preset, ["spelled_out"])


@pytest.mark.parametrize("preset", PRESETS)
def test_product_of_activations(preset):
    """Half to each factor."""
    net = then("Mul", (1 / 64, np.int8(0)), "h k", size=1)
    check(net, on_grid(net, 3, 1), preset, BOTH)


@pytest.mark.parametrize("preset", PRESETS)
def test_product_with_a_constant(preset):
    net = then("Mul", (0.0625, np.int8(0)), "h c")
    net.weights["c"], net.grid["c"] = np.int8([[2, -1, 1]]), (0.5, np.int8(0))
    net.steps.pop(1)
    check(net, on_grid(net, 3, 1), preset, ["spelled_out"])


@pytest.mark.parametrize("preset", PRESETS)
def test_leaky_relu(preset):
    """Its derivative is that of the float operator, at what was quantised."""
    net = then("LeakyRelu", (0.125 / 4, np.int8(0)), alpha=0.25)
    net.steps.pop(1)
    check(net, on_grid(net, 3, 1), preset)


@pytest.mark.parametrize("preset", [p for p in PRESETS if p != "gradient"])
def test_sigmoid(preset):
    """What it gives is rounded, but nothing is divided by it: relevance passes."""
    net = then("Sigmoid", (1 / 16, np.int8(-128)))
    net.steps.pop(1)
    check(net, on_grid(net), preset)


def picture(op: str, pool: tuple[float, Any], **attrs: Any) -> Net:
    """A Conv, a pool, a sum over what is left by another Conv."""
    net = convolution("2d", channels=False)
    net.shape = (2, 4, 3)
    left = (1, 1) if op == "GlobalAveragePool" else (3, 2)
    net.steps = [net.steps[0], Step(op, "h", "p", None, attrs), Step("Conv", "p u", "c"), Step("Flatten", "c", "out")]
    net.weights["u"] = small(np.random.default_rng(5), 3, 4, *left, size=1)
    net.grid |= {"u": (0.5, np.int8(0)), "p": pool, "c": (pool[0] / 2, np.uint8(128)), "out": (pool[0] / 2, np.uint8(128))}
    return net


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
def test_pools(preset, op):
    """MaxPool works on the integers themselves. A mean of 4 has two bits more, which its scale has room for."""
    net = picture(op, (0.125 / (4 if op == "AveragePool" else 1), np.uint8(128)), kernel_shape=[2, 2])
    check(net, on_grid(net, 3, 1), preset)


@pytest.mark.parametrize("preset", ["dtd", "gradient", "lrp-alpha2beta1"])
@pytest.mark.parametrize("attrs", [{}, {"channels_last": 0}], ids=str)
def test_global_average(preset, attrs):
    """A mean of 12 is rounded, and these rules do not read it."""
    net = picture("GlobalAveragePool", (0.03125, np.uint8(128)), **attrs)
    x = on_grid(net, 3, 1)
    found = explained(net.model("quantised"), x, preset, output="y")
    net.steps[1] = Step("GlobalAveragePool", "h", "p")
    expected = explained(net.model("spelled_out"), x, preset, output="y")
    np.testing.assert_array_equal(found["out"], expected["out"])
    assert_near(found["relevance"], expected["relevance"], NEAR)


# ---- rounded, cut off ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["dtd-z", "lrp-0", "lrp-epsilon"])
def test_rounding_takes_no_relevance(preset):
    """What is shared out is divided by the sum of the shares, not by that sum rounded to an integer."""
    net = product()
    net.grid["out"] = (1.0, np.int8(0))  # sums are multiples of 1/8
    x = on_grid(net, 4)
    found = explained(net.model("quantised"), x, preset, output="y", target=1)
    w = net.real("w")[:, 1]
    exact = x @ w[:, None]
    assert 0 < np.abs(found["y"][:, 1:2] - exact).max() <= 0.5
    share = np.divide(found["y"][:, 1:2], exact, out=np.zeros_like(exact), where=exact != 0)
    assert_near(found["relevance"], x * w * share, NEAR)


@pytest.mark.parametrize("preset", ["dtd", "dtd-z", "lrp-epsilon", "gradient"])
def test_relu_in_the_zero_point(preset):
    """Quantisation to uint8 with zero point 0 is a ReLU too: what it cuts off has no relevance, and is known to be ≥ 0."""
    rng = np.random.default_rng(6)
    grid = {"q0": (0.5, np.uint8(128)), "w": (0.25, np.int8(0)), "h": (0.125, np.uint8(0)), "u": (0.25, np.int8(0))}
    steps = [Step("MatMul", "q0 w", "h"), Step("MatMul", "h u", "out")]
    net = Net(steps, (4,), grid | {"out": (0.03125, np.uint8(128))}, {"w": small(rng, 4, 6), "u": small(rng, 6, 3, size=1)})
    x = on_grid(net)
    h = x @ net.real("w")
    assert (h < 0).any()
    found = explained(net.model("quantised"), x, preset, output="y", keep=["h"])
    real = [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r u", "y")]
    twin = model(real, {"x": ["n", 4]}, ["y"], {name: net.real(name) for name in "wu"})
    expected = explained(twin, x, preset, keep=["r"])
    np.testing.assert_array_equal(found["y"], expected["y"])
    assert_near(found["relevance/h"], expected["relevance/r"], NEAR)
    assert_near(found["relevance"], expected["relevance"], NEAR)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("op", ["MatMul", "Add"])
def test_result_that_is_cut_off(preset, op):
    """A result beyond the largest integer, as with a ReLU6 that quantisation does on the side, passes on its relevance as a
    Clip does, and no more than it has.
    """
    net = then("Add", (0.125, np.int8(0)), "h k")
    net.grid["h" if op == "MatMul" else "r"] = (1 / 64, np.int8(0))
    x = on_grid(net, 4, 6)
    assert (np.abs(x @ net.real("w")) > 127 / 64).any()
    found = check(net, x, preset)
    if preset in ("dtd-z", "lrp-0"):
        np.testing.assert_allclose(found["relevance"].sum(1), found["y"].max(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", ["quantised", "spelled_out"])
def test_derivative_where_quantisation_cuts_off(form):
    """It is that of a Clip between the smallest and the largest integer, for which quantisers leave out a ReLU."""
    net = then("LeakyRelu", (0.125, np.int8(0)), alpha=1.0)
    net.steps = [Step("MatMul", "q0 w", "h"), Step("MatMul", "h u", "out")]
    net.grid |= {"h": (1 / 64, np.int8(-28)), "out": (1 / 128, np.int8(0))}
    x = on_grid(net, 6, 6)
    low, high = np.float32(-100 / 64), np.float32(155 / 64)
    nodes = [node("MatMul", "x w", "h"), node("Clip", "h low high", "c"), node("MatMul", "c u", "y")]
    twin = model(nodes, {"x": ["n", 4]}, ["y"], {"low": low, "high": high} | {name: net.real(name) for name in "wu"})
    h = x @ net.real("w")
    assert ((h < low).any(), (h > high).any(), ((h > low) & (h < high)).any()) == (True, True, True)
    found, expected = (explained(p, x, "gradient", target=1, output="y") for p in (net.model(form), twin))
    assert_near(found["relevance"], expected["relevance"], NEAR)


# ---- networks --------------------------------------------------------------------------------------------------------


def network() -> Net:
    """Conv, MaxPool, depthwise Conv, residual sum, mean, product: nothing is rounded before the mean."""
    rng = np.random.default_rng(8)
    ones = lambda *shape: small(rng, *shape, size=1)
    weights = {"w1": ones(4, 2, 2, 2), "b1": np.int32([1, -1, 2, 0]), "w2": ones(4, 1, 3, 3), "w3": ones(4, 3)}
    grid = {name: (0.5, np.int8(0)) for name in ("w1", "w3")} | {"q0": (0.25, np.uint8(128))}
    grid["w2"] = (np.float32([1, 0.5, 0.5, 1]), np.zeros(4, np.int8))
    grid |= {name: (0.125, np.uint8(128)) for name in ("c1", "m")} | {name: (0.0625, np.uint8(128)) for name in ("c2", "s")}
    grid |= {name: (0.0625 / 4, np.uint8(128)) for name in ("g", "f")} | {"out": (0.0625 / 8, np.uint8(128))}
    steps = [
        Step("Conv", "q0 w1", "c1", "b1"),
        Step("MaxPool", "c1", "m", None, {"kernel_shape": [2, 2], "strides": [2, 2]}),
        Step("Conv", "m w2", "c2", None, {"group": 4, "pads": [1, 1, 1, 1]}),
        Step("Add", "c2 m", "s"),
        Step("GlobalAveragePool", "s", "g"),
        Step("Flatten", "g", "f"),
        Step("MatMul", "f w3", "out"),
    ]
    return Net(steps, (2, 5, 5), grid, weights)


@pytest.mark.parametrize("preset", PRESETS)
def test_network(preset):
    net = network()
    check(net, on_grid(net, 4, 1), preset, BOTH)


def test_network_in_a_box():
    net = network()
    x = on_grid(net, 4, 1)
    found = check(net, x, "dtd", BOTH, low=-0.5, high=0.5)
    assert (found["relevance"] >= 0).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_sum_of_one_tensor_and_itself(preset):
    """h + h: what arrives at h arrives once."""
    net = then("Add", (0.25, np.int8(0)), "h h")
    net.steps.pop(1)
    check(net, on_grid(net), preset, BOTH)


@pytest.mark.parametrize("form", ["quantised", "spelled_out"])
@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "lrp-gamma"])
def test_quantised_gate(preset, form):
    """h · sigmoid(h) in integers: the gate is seen through quantisation, and h gets all of the relevance, once."""
    net = then("Mul", (0.125 / 16, np.int8(0)), "h g", size=1)
    net.steps[1] = Step("Sigmoid", "h", "g")
    net.grid["g"] = (1 / 16, np.int8(-128))
    x = on_grid(net, 4, 1)
    found = explained(net.model(form), x, preset, output="y", keep=["h", "r"])
    assert_near(found["relevance/h"], found["relevance/r"], 1e-3 if preset == "lrp-epsilon" else NEAR)


def test_integers_that_move():
    """Concat and Transpose of integers carry relevance; so do MaxPool and Flatten, in `network`."""
    rng = np.random.default_rng(9)
    grid = {name: (0.25, np.int8(0)) for name in ("w", "v", "u")} | {name: (0.125, np.int8(3)) for name in ("h", "k", "b", "t")}
    grid |= {"q0": (0.5, np.int8(0)), "out": (0.03125, np.int8(0))}
    steps = [
        Step("MatMul", "q0 w", "h"),
        Step("MatMul", "q0 v", "k"),
        Step("Concat", "h k", "b", None, {"axis": 2}),
        Step("Transpose", "b", "t", None, {"perm": [0, 2, 1]}),
        Step("Flatten", "t", "f"),
        Step("MatMul", "f u", "out"),
    ]
    weights = {"w": small(rng, 4, 2, size=1), "v": small(rng, 4, 1, size=1), "u": small(rng, 6, 3, size=1)}
    net = Net(steps, (2, 4), grid | {"f": (0.125, np.int8(3))}, weights)
    for preset in PRESETS:
        check(net, on_grid(net), preset, BOTH)


def test_weights_through_dequantize_linear():
    """Float activations, integer weights: only the file is quantised."""
    net = convolution(channels=True)
    nodes = [
        node("DequantizeLinear", "w w_s w_z", "w_real", axis=0),
        node("Conv", "x w_real b_real", "h", **CONVS["2d"][2]),
        node("Relu", "h", "r"),
        node("Flatten", "r", "f"),
        node("DequantizeLinear", "u u_s u_z", "u_real"),
        node("MatMul", "f u_real", "y"),
    ]
    u = integers(np.random.default_rng(1), 48, 3).astype(np.int8)
    weights = {"w": net.weights["w"], "w_s": net.scale("w"), "w_z": net.grid["w"][1], "b_real": net.bias(net.steps[0])}
    weights |= {"u": u, "u_s": np.float32(0.25), "u_z": np.int8(1)}
    proto = model(nodes, {"x": ["n", *net.shape]}, ["y"], weights)
    real = [node("Conv", "x w b", "h", **CONVS["2d"][2]), *nodes[2:4], node("MatMul", "f u", "y")]
    reals = {"w": net.real("w"), "b": weights["b_real"], "u": np.float32(0.25) * (u.astype(FLOAT) - 1)}
    twin = model(real, {"x": ["n", *net.shape]}, ["y"], reals)
    x = np.random.default_rng(2).normal(size=(3, *net.shape)).astype(FLOAT)
    # Only the relevance: ONNX Runtime turns a lone DequantizeLinear and MatMul into an operator that rounds activations too.
    options = [{"preset": preset} for preset in PRESETS] + [{"low": -4, "high": 4}]
    for chosen in options:
        found, expected = (Session(compiled(p, **{"preset": "dtd", **chosen}))(x=x) for p in (proto, twin))
        assert_near(found["y"], expected["y"], NEAR)
        assert_near(found["relevance"], expected["relevance"], NEAR)


def test_integers_of_any_scale():
    """Scales that are no powers of two: the integers are those of the source, whatever they are, and the w² rule of the only
    layer depends on the weights alone.
    """
    rng = np.random.default_rng(10)
    net = product(columns=True)
    net.grid |= {"q0": (0.0371, np.int8(11)), "w": (np.float32([0.0123, 0.0071, 0.0317]), np.zeros(3, np.int8))}
    net.grid["out"] = (0.0537, np.int8(-9))
    net.weights["w"] = rng.integers(-127, 128, (4, 3)).astype(np.int8)
    x = rng.normal(size=(6, 4)).astype(FLOAT)
    found = explained(net.model("quantised"), x, "dtd", output="y", target=2)
    w2 = net.real("w")[:, 2].astype(np.float64) ** 2
    assert_near(found["relevance"], found["y"][:, 2:] * (w2 / w2.sum()), NEAR)


# ---- what may be left out, and what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("op", ["LeakyRelu", "Sigmoid"])
def test_zero_points_left_out(op):
    """They count as 0. (ONNX Runtime takes the empty name here only.)"""
    net = then(op, (0.25, np.uint8(0)))
    net.steps.pop(1)
    net.grid |= {"h": (0.125, np.uint8(0)), "q0": (0.5, np.uint8(0)), "out": (0.0625, np.uint8(128))}
    proto = net.model("quantised")
    (made,) = [n for n in proto.graph.node if n.op_type == f"QLinear{op}"]
    made.input[2] = made.input[4] = ""
    x = np.abs(on_grid(net))
    expected = explained(net.model("quantised"), x, "gradient", output="y")["relevance"]
    assert expected.any()
    np.testing.assert_array_equal(explained(proto, x, "gradient", output="y")["relevance"], expected)


def test_channels_last_is_refused():
    """A layout that the float operator does not have."""
    net = picture("GlobalAveragePool", (0.03125, np.uint8(128)), channels_last=1)
    with pytest.raises(OnnxdtdError, match=r"QLinearGlobalAveragePool|score of a classifier"):
        onnxdtd.compile(net.model("quantised"), output="y")


@pytest.mark.parametrize("op", ["MatMulInteger", "ConvInteger"])
def test_other_integer_operators_are_refused(op):
    """Dynamic quantisation computes scales from the data; there is no rule for that, and the message says which node it is."""
    rng = np.random.default_rng(11)
    shape = (4,) if op == "MatMulInteger" else (2, 3, 3)
    w = small(rng, 4, 3) if op == "MatMulInteger" else small(rng, 3, 2, 3, 3)
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"),
        node(op, "q w z", "i"),
        node("Cast", "i", "f", to=TensorProto.FLOAT),
        node("Mul", "f s", "h"),
        node("Flatten", "h", "y"),
    ]
    proto = model(nodes, {"x": ["n", *shape]}, ["y"], {"w": w})
    with pytest.raises(OnnxdtdError) as caught:
        onnxdtd.compile(proto)
    assert "Quantize" in str(caught.value) or op in str(caught.value) or "does not depend" in str(caught.value)


@pytest.mark.parametrize("shape", [["n", 4], [2, 4]], ids=str)
def test_columns_picked_by_their_numbers(shape):
    """As scikit-learn's exporter writes a ColumnTransformer: a column picked twice has what both places have."""
    pick = lambda index, y: helper.make_node("ArrayFeatureExtractor", ["x", index], [y], y, domain="ai.onnx.ml")
    nodes = [pick("i", "a"), pick("k", "b"), node("Mul", "b half", "c"), node("Concat", "a c", "h", axis=1)]
    nodes.append(node("MatMul", "h w", "y"))
    w = np.random.default_rng(0).normal(size=(5, 3)).astype(FLOAT)
    weights = {"i": np.array([3, 0]), "k": np.array([[1, 2, 0]]), "half": np.float32(0.5), "w": w}
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)],
        ir_version=8,
    )
    x = np.array([[1, 2, 3, 4], [-2, 1, 0, 3]], FLOAT)
    gradient = onnxdtd.Explainer(onnxdtd.compile(proto, "gradient", target=1))(x).relevance["x"]
    expected = np.array([w[1, 1] + w[4, 1] / 2, w[2, 1] / 2, w[3, 1] / 2, w[0, 1]])
    np.testing.assert_allclose(gradient, np.broadcast_to(expected, x.shape), rtol=1e-6)
    share = onnxdtd.Explainer(onnxdtd.compile(proto, "lrp-0", target=1, ledger=True))(x)
    np.testing.assert_allclose(share.relevance["x"], x * expected, rtol=1e-5)


ATTENTION = [  # operator, operands, result, its scale and zero point, attributes
    ("Concat", "q q", "c", (1 / 16, 128), {"axis": 2}),
    ("MatMul", "c w", "s", (1 / 16, 120), {}),
    ("Softmax", "s", "p", (1 / 256, 0), {"axis": -1}),
    ("MatMul", "p q", "o", (1 / 32, 128), {}),
    ("Flatten", "o", "m", (1 / 32, 128), {}),  # on integers as they are
    ("MatMul", "m u", "out", (1 / 8, 128), {}),
]


def grid(name: str) -> str:
    return f"{name}_s {name}_z"


def in_one(op: str, read: str, result: str, opset: int, attrs: dict[str, Any]) -> NodeProto:
    """The operator on integers."""
    operands = " ".join(f"{t} {grid(t)}" for t in read.split())
    words = f"{grid(result)} {operands}" if op == "Concat" else f"{operands} {grid(result)}"
    made = node(f"QLinear{op}", words, result, **attrs, **({"opset": opset} if op == "Softmax" else {}))
    made.domain = "" if op in STANDARD else "com.microsoft"
    return made


def apart(op: str, read: str, result: str, attrs: dict[str, Any]) -> list[NodeProto]:
    """The same operator on floats."""
    reals = [f"{result}_{i}" for i in range(len(read.split()))]
    nodes = [node("DequantizeLinear", f"{t} {grid(t)}", real) for t, real in zip(read.split(), reals, strict=True)]
    real = node(op, " ".join(reals), f"{result}_r", **attrs)
    return [*nodes, real, node("QuantizeLinear", f"{result}_r {grid(result)}", result)]


def attention(form: str, opset: int = 17) -> ModelProto:
    """Attention to what lies side by side: ``quantised``, ``spelled_out``, or ``real``, the float network."""
    rng = np.random.default_rng(5)
    grids = {name: scale for _, _, name, scale, _ in ATTENTION} | dict.fromkeys("wu", (1 / 64, 128)) | {"q": (1 / 32, 128)}
    weights: dict[str, Array] = {
        name: rng.integers(60, 196, (rows, 4)).astype(np.uint8) for name, rows in (("w", 8), ("u", 16))
    }
    if form == "real":
        nodes = [node("Identity", "x", "q"), *(node(op, read, y, **attrs) for op, read, y, _, attrs in ATTENTION)]
        nodes.append(node("Identity", "out", "y"))
        weights = {name: ((value - 128.0) / 64).astype(np.float32) for name, value in weights.items()}
    else:
        nodes = [node("QuantizeLinear", f"x {grid('q')}", "q"), node("DequantizeLinear", f"out {grid('out')}", "y")]
        for op, read, y, _, attrs in ATTENTION:
            one = [in_one(op, read, y, opset, attrs)] if form == "quantised" and op != "Flatten" else []
            nodes[-1:-1] = [node(op, read, y, **attrs)] if op == "Flatten" else one or apart(op, read, y, attrs)
        weights |= {f"{name}_s": np.asarray(scale, np.float32) for name, (scale, _) in grids.items()}
        weights |= {f"{name}_z": np.asarray(zero, np.uint8) for name, (_, zero) in grids.items()}
    used = {t for made in nodes for t in made.input}
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *sizes]) for name, sizes in (("x", [4, 4]), ("y", [4]))
    ]
    held = [numpy_helper.from_array(value, name) for name, value in weights.items() if name in used]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph(nodes, "net", ends[:1], ends[1:], held), opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("preset", ["attnlrp", "cp-lrp", "gradient-x-input"])
def test_attention(preset):
    """One explanation of the operators and of what they stand for, and that of the float network but for rounding: weights
    of attention are known as such behind a QuantizeLinear and a DequantizeLinear.
    """
    x = np.random.default_rng(6).normal(size=(3, 4, 4)).astype(np.float32)
    forms = ("quantised", "spelled_out", "real")
    found, spelled_out, real = (Session(compiled(attention(form), preset, target=1))(x=x) for form in forms)
    np.testing.assert_array_equal(found["y"], Session(attention("quantised"))(x=x)["y"])
    np.testing.assert_array_equal(found["y"], spelled_out["y"])
    # of the weights of attention one knows what they were rounded from, of the other steps of 1 / 256
    assert_near(found["relevance"], spelled_out["relevance"], 0.02)
    assert_near(found["relevance"], real["relevance"], 0.06)


def test_the_logits_in_front_of_a_quantised_softmax_are_explained():
    """As ONNX Runtime's tool writes the end of a classifier whose probabilities are quantised as well (QOperator)"""
    steps = {"step": np.float32(0.05), "middle": np.uint8(128), "unit": np.float32(1 / 256), "none": np.uint8(0)}
    weights = np.random.default_rng(7).normal(size=(4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("QuantizeLinear", ["s", "step", "middle"], ["q"]),
        helper.make_node(
            "QLinearSoftmax", ["q", "step", "middle", "unit", "none"], ["p"], domain="com.microsoft", axis=-1, opset=17
        ),
        helper.make_node("DequantizeLinear", ["p", "unit", "none"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 4), ("y", 3))]
    held = [numpy_helper.from_array(value, name) for name, value in {**steps, "w": weights}.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    source = helper.make_model(helper.make_graph(nodes, "net", ends[:1], ends[1:], held), opset_imports=opsets, ir_version=10)
    x = np.random.default_rng(8).normal(size=(5, 4)).astype(np.float32)
    found = Session(compiled(source, "gradient-x-input", target=2))(x=x)
    assert_near(found["relevance"], x * weights[:, 2], 1e-6)


def test_a_softmax_of_old_is_refused():
    """Before operator set 13 it went over all axes from one on."""
    with pytest.raises(OnnxdtdError, match="QLinearSoftmax"):
        onnxdtd.compile(attention("quantised", opset=11))
