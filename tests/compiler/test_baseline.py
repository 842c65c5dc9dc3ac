"""The input that is compared with, and the first-order Taylor decomposition there."""

import hashlib
from typing import Any

import numpy as np
import onnx
import pytest
from derivatives import numeric
from nets import DOUBLE, FLOAT, Session, assert_near, model, node
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import RequestError
from onnxdtd.request import Request
from onnxdtd.study.verify import verify

RNG = np.random.default_rng(0)
WEIGHTS = {"k": RNG.normal(size=(4, 2, 3, 3)), "w": 3 * RNG.normal(size=(4, 3)), "b": RNG.normal(size=3)}
X = RNG.normal(size=(2, 2, 3, 4))


def smooth(dtype: np.dtype) -> ModelProto:
    """A convolution, a product of two branches, an average and logits: nothing has a kink."""
    nodes = [
        node("Conv", "x k", "c", pads=[1, 1, 1, 1]),
        node("Tanh", "c", "t"),
        node("Sigmoid", "c", "s"),
        node("Mul", "t s", "m"),
        node("GlobalAveragePool", "m", "a"),
        node("Flatten", "a", "f"),
        node("Gemm", "f w b", "y"),
    ]
    weights = {name: value.astype(dtype) for name, value in WEIGHTS.items()}
    return model(nodes, {"x": ["n", 2, 3, 4]}, ["y"], weights, dtype)


REFERENCES: dict[str, tuple[Any, Any]] = {
    "zero": (None, lambda x: 0 * x),
    "number": (0.25, lambda x: 0 * x + 0.25),
    "channels": ([0.5, -1.0], lambda x: 0 * x + np.asarray([0.5, -1.0])[:, None, None]),
    "mean": ("mean", lambda x: 0 * x + x.mean((2, 3), keepdims=True)),
    "array": (X[:1] / 2, lambda x: 0 * x + X[:1] / 2),
    "input": ("input", lambda x: x / 3),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_taylor(name):
    """(x − x̃) ∂f/∂x at x̃, of the class chosen at x, against finite differences; and f(x̃)."""
    given, of = REFERENCES[name]
    compiled = onnxdtd.compile(smooth(FLOAT), "taylor", **({} if given is None else {"baseline": given}))
    other, rows = of(X), np.arange(len(X))
    feeds = {"x": X} | ({"baseline": other} if name == "input" else {})
    found = Session(compiled)(**{name: value.astype(FLOAT) for name, value in feeds.items()})
    predict = lambda x: ReferenceEvaluator(smooth(DOUBLE)).run(["y"], {"x": x})[0]
    best = predict(X).argmax(1)
    score = lambda x: float(predict(x)[rows, best].sum())
    gradient = numeric(score, {"x": other})["x"]
    assert_near(found["relevance"], (X - other) * gradient, 1e-5)
    assert_near(found["logit_at_baseline"], predict(other)[rows, best], 1e-6)
    assert set(found) == {"y", "relevance", "logit", "logit_at_baseline"}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_blur(order):
    """A Gaussian of a sixteenth of each side, of what lies within the picture, wherever the channels are."""
    x = RNG.normal(size=(2, 3, 20, 33))
    back = np.argsort(order)
    nodes = [
        node("Transpose", "x", "t", perm=order),
        node("Conv", "t k", "c"),
        node("Flatten", "c", "f"),
        node("MatMul", "f w", "y"),
    ]
    weights = {"k": RNG.normal(size=(2, 3, 20, 33)).astype(FLOAT), "w": np.eye(2, dtype=FLOAT)}
    proto = model(nodes, {"x": ["n", *(int(n) for n in np.asarray(x.shape)[back][1:])]}, ["y"], weights)
    found = Session(onnxdtd.compile(proto, "taylor", baseline="blur"))(x=x.transpose(back).astype(FLOAT))
    blurred = x
    for axis in (2, 3):
        apart = np.subtract.outer(np.arange(x.shape[axis]), np.arange(x.shape[axis]))
        width = x.shape[axis] / 16
        near = np.exp(-0.5 * (apart / width) ** 2) * (np.abs(apart) <= int(3 * width))
        blurred = np.moveaxis(np.tensordot(near / near.sum(1, keepdims=True), blurred, (1, axis)), 0, axis)
    best = found["y"].argmax(1)
    expected = (x - blurred) * weights["k"][best]
    assert_near(found["relevance"].transpose(order), expected, 1e-5)
    assert_near(found["logit_at_baseline"], (blurred * weights["k"][best]).sum((1, 2, 3)), 1e-4)


def test_what_is_recorded_is_what_verify_compiles(tmp_path):
    """Words and numbers as they are, an array by its digest and the constant that it is; given as a file or as an array."""
    path, source = tmp_path / "other.npy", tmp_path / "net.onnx"
    np.save(path, X[0].astype(FLOAT))
    onnx.save(smooth(FLOAT), source)
    for given, said in ((str(path), None), (X[:1], None), ("mean", "mean"), ([0.5, 1.0], [0.5, 1.0]), (None, "zero")):
        compiled = onnxdtd.compile(source, "taylor", **({} if given is None else {"baseline": given}))
        told = read_metadata(compiled)["baseline"]
        if said is None:
            (constant,) = [t for t in compiled.graph.initializer if t.name == told["constant"]]
            values = onnx.numpy_helper.to_array(constant)
            np.testing.assert_array_equal(values, X[:1].astype(FLOAT))
            said = {"sha256": hashlib.sha256(values.tobytes()).hexdigest(), "shape": [1, 2, 3, 4], "constant": constant.name}
        assert told == said
    onnx.save(onnxdtd.compile(source, "taylor", baseline=str(path)), tmp_path / "compiled.onnx")
    path.unlink()
    report = verify(tmp_path / "compiled.onnx", source)
    assert report.passed, [check for check in report.checks if check.passed is False]


def test_ids():
    """Zero looks nothing up, a number is an id; what is computed of the ids elsewhere counts as a constant."""
    table = RNG.normal(size=(5, 3)).astype(FLOAT)
    nodes = [
        node("Gather", "table ids", "rows"),
        node("Tanh", "rows", "t"),
        node("ReduceMean", "t", "m", axes=[1], keepdims=0),
        node("MatMul", "m w", "y"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(v, n) for n, v in (("table", table), ("w", RNG.normal(size=(3, 2)).astype(FLOAT)))],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    weights, ids = onnx.numpy_helper.to_array(proto.graph.initializer[1]), np.asarray([[1, 2, 3, 4], [0, 0, 4, 1]])
    for given, other in (("zero", np.zeros(3)), (2, table[2]), ([2, 2, 2, 2], table[2])):
        for preset in ("taylor", "integrated-gradients"):
            found = Session(onnxdtd.compile(proto, preset, baseline=given))(ids=ids)
            best = weights[:, found["y"].argmax(1)].T[:, None]
            apart, at = table[ids] - other, np.broadcast_to(other, (2, 4, 3))
            share = apart * (1 - np.tanh(at) ** 2) if preset == "taylor" else np.tanh(table[ids]) - np.tanh(at)
            assert_near(found["relevance"], (share * best / 4).sum(-1), 2e-5)
            assert_near(found["logit_at_baseline"], (np.tanh(at).mean(1) * best[:, 0]).sum(-1), 1e-5)
    with pytest.raises(RequestError, match="takes integers"):
        onnxdtd.compile(proto, "taylor", baseline=0.5)
    with pytest.raises(RequestError, match="from 0 to 4"):
        onnxdtd.compile(proto, "taylor", baseline=5)
    with pytest.raises(RequestError, match="no entries that are neighbours"):
        onnxdtd.compile(proto, "taylor", baseline="mean")


def test_a_column_of_its_own_is_its_own_mean() -> None:
    """A table with an input a column: what it would be compared with is itself."""
    nodes = [node("Concat", "a b", "x", axis=1), node("MatMul", "x w", "y")]
    proto = model(nodes, {"a": ["n", 1], "b": ["n", 1]}, ["y"], {"w": np.eye(2, 3, dtype=FLOAT)}, FLOAT)
    for word in ("mean", "blur"):
        with pytest.raises(
            RequestError, match=f"--baseline {word}: 'a' has no entries that are neighbours.*give zero, a number"
        ):
            onnxdtd.compile(proto, "taylor", baseline=word)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nothing.png", "no such file"),
        ({"z": 0.0}, "what is explained is x"),
        ([1.0, 2.0, 3.0], "3 values, one a channel, but 2 channels"),
        (np.inf, "baseline inf must be finite in float32"),
        (np.full((2, 3, 4), np.nan), "^baseline of 'x' must be finite in float32$"),
        ("", "give zero, mean, blur, input, a number, or a file"),
        ({"x": ""}, "give zero, mean, blur, input, a number, or a file"),
        ([], "give zero, mean, blur, input, a number, or a file"),
    ],
)
def test_what_is_no_baseline(given, message):
    with pytest.raises(RequestError, match=message):
        onnxdtd.compile(smooth(FLOAT), "taylor", baseline=given)


def test_a_preset_that_compares_with_nothing_says_so():
    notes = onnxdtd.inspect(smooth(FLOAT), Request(preset="dtd", baseline="mean"))["notes"]
    assert "--baseline: the preset dtd compares with no other input" in notes
