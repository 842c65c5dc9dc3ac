"""Bounds of the input, carried through the model's own preprocessing.

What a compiled model gives for bounds of its input must be what the model behind the preprocessing gives for the preprocessed
input and bounds that were transformed here, in numpy: on both ends, then sorted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import DOUBLE, FLOAT, Session, assert_near, model, node
from onnx import ModelProto, NodeProto, TensorProto, helper

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.study.verify import verify

Array = np.ndarray
NEAR = {FLOAT: 1e-5, DOUBLE: 1e-11}  # of the largest relevance
SHAPE = (3, 4, 5)  # of one picture, channels first
LAST = (4, 5, 3)


def normal(*shape: int, seed: int = 0, dtype: np.dtype = FLOAT) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def network(picture: Sequence[int], dtype: np.dtype = FLOAT) -> tuple[list[NodeProto], dict[str, Array]]:
    """Layers on t, channels first: a Conv, Relu, a sum over what is left."""
    c, h, w = picture
    nodes = [
        node("Conv", "t kernel shift", "conv", pads=[1, 1, 1, 1]),
        node("Relu", "conv", "relu"),
        node("Flatten", "relu", "flat"),
        node("MatMul", "flat last", "y"),
    ]
    weights = {"kernel": normal(4, c, 3, 3, seed=1, dtype=dtype), "shift": normal(4, seed=2, dtype=dtype)}
    return nodes, weights | {"last": normal(4 * h * w, 3, seed=3, dtype=dtype)}


@dataclass(frozen=True)
class Front:
    """Preprocessing from x to t, the same in numpy on whole arrays, and the bounds as they are given."""

    nodes: list[NodeProto]
    same: Callable[[Array], Array]
    constants: Mapping[str, Any] = field(default_factory=dict)
    shape: Sequence[int] = SHAPE
    low: Any = -1.0
    high: Any = 2.0
    whole: Callable[[Any], Array] | None = None  # a bound as an array that broadcasts against x; by default np.asarray
    x_dtype: np.dtype = FLOAT
    t_dtype: np.dtype = FLOAT

    def ends(self) -> tuple[Array, Array]:
        """Both bounds, of the shape of one sample."""
        whole = self.whole or np.asarray
        return tuple(np.broadcast_to(whole(bound), (1, *self.shape)).astype(self.x_dtype) for bound in (self.low, self.high))


def check(front: Front, batch: Any = "n", sizes: Sequence[Any] | None = None, preset: str = "dtd", count: int = 2) -> None:
    """zB of the compiled model and of the model behind the preprocessing; the corners of the box and points in it."""
    low, high = front.ends()
    inside = low + np.random.default_rng(7).uniform(0, 1, (count, *front.shape)) * (high - low)
    x = np.concatenate([inside, low, high]).astype(front.x_dtype)
    t = front.same(x).astype(front.t_dtype)
    nodes, weights = network(t.shape[1:], front.t_dtype)
    constants = {}
    for name, value in front.constants.items():
        array = np.asarray(value)
        constants[name] = array.astype(front.x_dtype) if array.dtype == np.float64 else array
    whole = model([*front.nodes, *nodes], {"x": [batch, *(sizes or front.shape)]}, ["y"], constants | weights, front.x_dtype)
    behind = model(nodes, {"t": ["n", *t.shape[1:]]}, ["y"], weights, front.t_dtype)
    a, b = front.same(low), front.same(high)
    bounds = {"low": np.minimum(a, b)[0], "high": np.maximum(a, b)[0]}
    expected = Session(onnxdtd.compile(behind, preset, target=1, **bounds))(t=t)["relevance"]
    compiled = onnxdtd.compile(whole, preset, target=1, low=front.low, high=front.high)
    onnx.checker.check_model(compiled, full_check=True)
    found = Session(compiled)(x=x)["relevance"]
    assert (found >= 0).all() or (Session(whole)(x=x)["y"][:, 1] < 0).any()
    assert_near(found, back(front, x, expected), NEAR[front.t_dtype])


def back(front: Front, x: Array, relevance: Array) -> Array:
    """Relevance of t at the entries of x that they were made of: found by numbering these."""
    numbers = np.arange(1, x[0].size + 1, dtype=np.float64).reshape(x[:1].shape)
    plain = [n for n in front.nodes if n.op_type in MOVES]
    if not plain:
        return relevance
    moved = front_moves(front)(numbers)
    total = np.zeros((len(x), x[0].size + 1))
    for sample, row in zip(total, relevance.reshape(len(x), -1), strict=True):
        np.add.at(sample, np.rint(moved).astype(int).ravel(), row)
    return total[:, 1:].reshape(x.shape)


MOVES = {"Transpose", "Reshape", "Slice", "Concat", "Unsqueeze", "Squeeze", "Pad", "Gather", "Flatten", "Split"}


def front_moves(front: Front) -> Callable[[Array], Array]:
    """Its permutation alone, 0 for what comes from nowhere."""
    return front.moves if isinstance(front, Moved) else front.same


@dataclass(frozen=True)
class Moved(Front):
    """Preprocessing that moves entries as well: ``moves`` does only that."""

    moves: Callable[[Array], Array] = lambda x: x


COLUMN = lambda values: np.asarray(values, np.float64).reshape(-1, 1, 1)
MEAN, STD = np.array([0.5, -0.25, 0.125]), np.array([0.25, 2, 0.5])
FIRST = lambda x: x.transpose(0, 3, 1, 2)
IMAGES = {"low": 0.0, "high": 255.0}

FRONTS = {
    "nothing": Front([node("Identity", "x", "t")], lambda x: x),
    "Sub": Front([node("Sub", "x m", "t")], lambda x: x - COLUMN(MEAN), {"m": COLUMN(MEAN)}),
    "Sub from": Front([node("Sub", "m x", "t")], lambda x: COLUMN(MEAN) - x, {"m": COLUMN(MEAN)}),
    "Add": Front([node("Add", "m x", "t")], lambda x: x + COLUMN(MEAN), {"m": COLUMN(MEAN)}),
    "Sum": Front([node("Sum", "m x m", "t")], lambda x: x + 2 * COLUMN(MEAN), {"m": COLUMN(MEAN)}),
    "Mul": Front([node("Mul", "x f", "t")], lambda x: 3 * x, {"f": 3.0}),
    "Mul by a negative number": Front([node("Mul", "x f", "t")], lambda x: -3 * x, {"f": -3.0}),
    "Mul by both signs": Front([node("Mul", "f x", "t")], lambda x: COLUMN([2, -1, 0.5]) * x, {"f": COLUMN([2, -1, 0.5])}),
    "Div": Front([node("Div", "x s", "t")], lambda x: x / COLUMN(STD), {"s": COLUMN(STD)}),
    "Div by both signs": Front([node("Div", "x s", "t")], lambda x: x / COLUMN(-STD), {"s": COLUMN(-STD)}),
    "Neg": Front([node("Neg", "x", "t")], lambda x: -x),
    "Neg of Neg": Front([node("Neg", "x", "a"), node("Neg", "a", "t")], lambda x: x),
    "torchvision": Front(
        [node("Div", "x range", "unit"), node("Sub", "unit m", "centred"), node("Div", "centred s", "t")],
        lambda x: (x / 255 - COLUMN(MEAN)) / COLUMN(STD),
        {"range": 255.0, "m": COLUMN(MEAN), "s": COLUMN(STD)},
        **IMAGES,
    ),
    "keras": Front(
        [node("Mul", "x f", "a"), node("Add", "a minus_one", "t")],
        lambda x: x / 127.5 - 1,
        {"f": 1 / 127.5, "minus_one": -1.0},
        **IMAGES,
    ),
    "BatchNormalization": Front(
        [node("BatchNormalization", "x g b m v", "t", epsilon=0.5)],
        lambda x: (x - COLUMN(MEAN)) / np.sqrt(COLUMN(STD) + 0.5) * COLUMN([1, -2, 3]) + COLUMN([0.5, 0, -1]),
        {"g": np.array([1.0, -2, 3]), "b": np.array([0.5, 0, -1]), "m": MEAN, "v": STD},
    ),
    "channels in another order": Moved(
        [node("Gather", "x order", "a", axis=1), node("Sub", "a m", "t")],
        lambda x: x[:, ::-1] - COLUMN(MEAN),
        {"order": np.array([2, 1, 0]), "m": COLUMN(MEAN)},
        low=[-1.0, 0.0, 1.0],
        high=[2.0, 3.0, 4.0],
        whole=COLUMN,
        moves=lambda x: x[:, ::-1],
    ),
    "channels last": Moved(
        [node("Transpose", "x", "t", perm=[0, 3, 1, 2])],
        FIRST,
        shape=LAST,
        moves=FIRST,
    ),
    "channels last, normalised, a bound for each channel": Moved(
        [node("Sub", "x m", "a"), node("Div", "a s", "b"), node("Transpose", "b", "t", perm=[0, 3, 1, 2])],
        lambda x: FIRST((x - MEAN) / -STD),
        {"m": MEAN, "s": -STD},
        LAST,
        [-1.0, 0.0, 1.0],
        [2.0, 3.0, 4.0],
        moves=FIRST,
    ),
    "bounds for each channel": Front(
        [node("Mul", "x f", "t")],
        lambda x: COLUMN([2, -1, 0.5]) * x,
        {"f": COLUMN([2, -1, 0.5])},
        low=[-1.0, 0.0, 1.0],
        high=np.array([2.0, 3.0, 4.0]),
        whole=COLUMN,
    ),
    "bounds for each entry": Front(
        [node("Mul", "x f", "t")],
        lambda x: COLUMN([2, -1, 0.5]) * x,
        {"f": COLUMN([2, -1, 0.5])},
        low=normal(*SHAPE) - 3,
        high=normal(*SHAPE, seed=1) + 3,
    ),
    "bounds that broadcast": Front(
        [node("Sub", "x m", "t")],
        lambda x: x - COLUMN(MEAN),
        {"m": COLUMN(MEAN)},
        low=normal(3, 1, 5) - 3,
        high=normal(1, 4, 1) + 3,
    ),
    "Reshape": Moved(
        [node("Reshape", "x shape", "t")],
        lambda x: x.reshape(-1, *SHAPE),
        {"shape": np.array([0, *SHAPE])},
        (60,),
        np.linspace(-3, -1, 60),
        np.linspace(1, 3, 60),
        moves=lambda x: x.reshape(-1, *SHAPE),
    ),
    "Unsqueeze": Moved(
        [node("Unsqueeze", "x axes", "a"), node("Mul", "a f", "t")],
        lambda x: COLUMN([-2]) * x[:, None],
        {"axes": np.array([1]), "f": -2.0},
        (4, 5),
        moves=lambda x: x[:, None],
    ),
    "Squeeze": Moved(
        [node("Squeeze", "x axes", "t")],
        lambda x: x[:, 0],
        {"axes": np.array([1])},
        (1, *SHAPE),
        moves=lambda x: x[:, 0],
    ),
    "channels scaled one by one": Moved(
        [
            *[node("Slice", f"x {i} {i + 1} axis", f"c{i}") for i in range(3)],
            *[node("Mul", f"c{i} f{i}", f"m{i}") for i in range(3)],
            *[node("Sub", f"m{i} s{i}", f"t{i}") for i in range(3)],
            node("Concat", "t0 t1 t2", "t", axis=1),
        ],
        lambda x: x * COLUMN([0.5, -2, 1]) - COLUMN([1, 0, -1]),
        {str(i): np.array([i]) for i in range(4)}
        | {"axis": np.array([1])}
        | {f"f{i}": value for i, value in enumerate([0.5, -2.0, 1.0])}
        | {f"s{i}": value for i, value in enumerate([1.0, 0.0, -1.0])},
        low=[-1.0, 0.0, 1.0],
        high=[2.0, 3.0, 4.0],
        whole=COLUMN,
        moves=lambda x: x,
    ),
    "Split": Moved(
        [
            node("Split", "x", "a b c", axis=1),
            node("Neg", "b", "nb"),
            node("Concat", "c nb a", "t", axis=1),
        ],
        lambda x: np.concatenate([x[:, 2:], -x[:, 1:2], x[:, :1]], 1),
        moves=lambda x: x[:, ::-1],
    ),
    "part of the picture": Moved(
        [node("Slice", "x start end axes", "t")],
        lambda x: x[:, :, 1:3, 1:5],
        {"start": np.array([1, 1]), "end": np.array([3, 5]), "axes": np.array([2, 3])},
        moves=lambda x: x[:, :, 1:3, 1:5],
        low=normal(*SHAPE) - 3,
        high=normal(*SHAPE, seed=1) + 3,
    ),
    "Cast to float32": Front(
        [node("Cast", "x", "a", to=TensorProto.FLOAT), node("Mul", "a f", "t")],
        lambda x: (x * -2).astype(FLOAT),
        {"f": np.float32(-2)},
        x_dtype=DOUBLE,
    ),
    "Cast to float64": Front(
        [node("Sub", "x m", "a"), node("Cast", "a", "t", to=TensorProto.DOUBLE)],
        lambda x: (x - np.float32(0.5)).astype(DOUBLE),
        {"m": 0.5},
        t_dtype=DOUBLE,
    ),
    "Clip": Front(
        [node("Clip", "x zero one", "t")],
        lambda x: np.clip(x, 0, 1),
        {"zero": 0.0, "one": 1.0},
    ),
    "Dropout": Front([node("Dropout", "x", "t")], lambda x: x),
}


@pytest.mark.parametrize("batch", ["n", 4], ids=["dynamic", "static"])
@pytest.mark.parametrize("name", FRONTS)
def test_preprocessing(name, batch):
    front = FRONTS[name]
    if front.t_dtype == DOUBLE:
        check_dense(front, batch)
    else:
        check(front, batch)


def check_dense(front: Front, batch: Any) -> None:
    """As `check`, with a MatMul in place of the Conv."""
    low, high = front.ends()
    x = np.concatenate([low, (low + high) / 3, high]).astype(front.x_dtype)
    t = front.same(x)
    weights = {"w": normal(t[0].size, 3, dtype=front.t_dtype)}
    nodes = [node("Flatten", "t", "f"), node("MatMul", "f w", "y")]
    constants = {n: np.asarray(v, front.x_dtype) for n, v in front.constants.items()}
    sizes = [3 if batch == 4 else batch, *front.shape]
    whole = model([*front.nodes, *nodes], {"x": sizes}, ["y"], constants | weights, front.x_dtype)
    found = Session(onnxdtd.compile(whole, target=1, low=front.low, high=front.high))(x=x)
    a, b = front.same(low).ravel(), front.same(high).ravel()
    low_t, high_t = np.minimum(a, b), np.maximum(a, b)
    w = weights["w"][:, 1:2].astype(np.float64)
    rows = [
        oracle.z_box(row.ravel(), w, np.zeros(1), y[1:2], low=low_t, high=high_t) for row, y in zip(t, found["y"], strict=True)
    ]
    assert found["relevance"].dtype == front.x_dtype
    assert_near(found["relevance"].reshape(3, -1), np.stack(rows), 1e-5)


DYNAMIC = [
    "torchvision",
    "Mul by both signs",
    "channels last, normalised, a bound for each channel",
    "bounds for each channel",
    "Neg",
]


@pytest.mark.parametrize("name", DYNAMIC)
def test_any_size(name):
    """Height and width known at run time only, up to the last layer; a bound is a number or one for each channel."""
    front = FRONTS[name]
    dtype = FLOAT
    sizes = ["h", "w", 3] if front.shape == LAST else [3, "h", "w"]
    weights = {"kernel": normal(4, 3, 3, 3, seed=1), "last": normal(4, 3, seed=2)}
    nodes = [
        node("Conv", "t kernel", "conv", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", "conv", "relu"),
        node("GlobalAveragePool", "relu", "mean"),
        node("Flatten", "mean", "flat"),
        node("MatMul", "flat last", "y"),
    ]
    constants = {n: np.asarray(v, dtype) for n, v in front.constants.items()}
    made = lambda sizes: model([*front.nodes, *nodes], {"x": ["n", *sizes]}, ["y"], constants | weights)
    bounds = {"low": front.low, "high": front.high, "target": 2}
    session = Session(onnxdtd.compile(made(sizes), **bounds))
    for height, width in ((4, 5), (7, 6)):
        shape = (height, width, 3) if front.shape == LAST else (3, height, width)
        x = np.random.default_rng(0).uniform(0, 2, (2, *shape)).astype(dtype)
        fixed = Session(onnxdtd.compile(made(shape), **bounds))(x=x)["relevance"]
        assert_near(session(x=x)["relevance"], fixed, 1e-6)


@settings(max_examples=40)
@given(st.data())
def test_any_chain_of_arithmetic(data):
    """Up to five steps of arithmetic with constants of any sign, in float64 against the oracle."""
    steps = data.draw(st.lists(st.tuples(st.sampled_from(["Add", "Sub", "Mul", "Div", "Neg"]), st.booleans()), max_size=5))
    number = st.sampled_from([-2.0, -0.5, 0.25, 1.0, 3.0])
    nodes, constants, functions = [], {}, []
    name = "x"
    for i, (op, swapped) in enumerate(steps):
        if op == "Neg":
            nodes.append(node("Neg", name, f"t{i}"))
            functions.append(lambda t: -t)
        else:
            values = np.array(data.draw(st.lists(number, min_size=3, max_size=3)))
            swapped = swapped and op != "Div"
            constants[f"c{i}"] = values
            nodes.append(node(op, f"c{i} {name}" if swapped else f"{name} c{i}", f"t{i}"))
            plain = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[op]
            functions.append(lambda t, plain=plain, v=values, swapped=swapped: plain(v, t) if swapped else plain(t, v))
        name = f"t{i}"

    def through(t: Array) -> Array:
        for function in functions:
            t = function(t)
        return t

    low, high = np.array([-1.0, 0, 2]), np.array([0.5, 3, 2.5])
    w = normal(3, 2, dtype=DOUBLE)
    proto = model([*nodes, node("MatMul", f"{name} w", "y")], {"x": ["n", 3]}, ["y"], constants | {"w": w}, DOUBLE)
    x = low + np.random.default_rng(1).uniform(0, 1, (3, 3)) * (high - low)
    found = Session(onnxdtd.compile(proto, low=low.tolist(), high=high.tolist(), target=0))(x=x)
    ends = through(low), through(high)
    for row, y, relevance in zip(through(x), found["y"], found["relevance"], strict=True):
        expected = oracle.z_box(row, w[:, :1], np.zeros(1), y[:1], low=np.minimum(*ends), high=np.maximum(*ends))
        assert_near(relevance, expected, 1e-9)


def test_two_readers_of_one_input():
    """Each first layer gets the bounds of what it reads."""
    nodes = [
        node("Mul", "x minus_two", "a"),
        node("Add", "x one", "b"),
        node("MatMul", "a w", "ya"),
        node("MatMul", "b v", "yb"),
        node("Add", "ya yb", "y"),
    ]
    w, v = normal(4, 3, dtype=DOUBLE), normal(4, 3, seed=1, dtype=DOUBLE)
    proto = model(nodes, {"x": ["n", 4]}, ["y"], {"minus_two": np.array(-2.0), "one": np.array(1.0), "w": w, "v": v}, DOUBLE)
    x = np.random.default_rng(0).uniform(0, 1, (1, 4))
    found = Session(onnxdtd.compile(proto, low=0, high=1, target=1, keep=["ya", "yb"]))(x=x)
    ra, rb = found["relevance/ya"][0, 1:2], found["relevance/yb"][0, 1:2]
    box = oracle.z_box
    expected = box(-2 * x[0], w[:, 1:2], np.zeros(1), ra, low=-2, high=0) + box(
        x[0] + 1, v[:, 1:2], np.zeros(1), rb, low=1, high=2
    )
    assert_near(found["relevance"][0], expected, 1e-11)


def test_two_inputs():
    """The same bounds for both, in the units of each; here of different shapes, so only numbers fit."""
    nodes = [node("Neg", "a", "n"), node("MatMul", "n w", "ya"), node("MatMul", "b v", "yb"), node("Add", "ya yb", "y")]
    w, v = normal(4, 3, dtype=DOUBLE), normal(2, 3, seed=1, dtype=DOUBLE)
    proto = model(nodes, {"a": ["n", 4], "b": ["n", 2]}, ["y"], {"w": w, "v": v}, DOUBLE)
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 2, (1, 4)), rng.uniform(-1, 2, (1, 2))
    found = Session(onnxdtd.compile(proto, low=-1, high=2, target=1, keep=["ya", "yb"]))(a=a, b=b)
    box = oracle.z_box
    ra, rb = found["relevance/ya"][0, 1:2], found["relevance/yb"][0, 1:2]
    assert_near(found["relevance/a"][0], box(-a[0], w[:, 1:2], np.zeros(1), ra, low=-2, high=1), 1e-11)
    assert_near(found["relevance/b"][0], box(b[0], v[:, 1:2], np.zeros(1), rb, low=-1, high=2), 1e-11)


def test_bounds_end_at_the_first_layer_that_mixes():
    """Behind a pool or a sum of shifted copies there is no box any more: such layers are not first."""
    nodes = [node("MatMul", "x w", "h"), node("MatMul", "h v", "y")]
    proto = model(nodes, {"x": ["n", 4]}, ["y"], {"w": normal(4, 5), "v": normal(5, 3, seed=1)})
    compiled = onnxdtd.compile(proto, low=-1, high=1)
    assert read_metadata(compiled)["rules"] == {"h_node": "zB", "y_node": "z+"}


def test_padding_in_front():
    """Zeros around the input have the bounds 0 and 0: they take no relevance, as those of a Conv do not."""
    weights = {"pads": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "kernel": normal(4, 3, 3, 3), "last": normal(4 * 5 * 7, 3)}
    end = [node("Relu", "conv", "relu"), node("Flatten", "relu", "flat"), node("MatMul", "flat last", "y")]
    outside = [node("Pad", "x pads", "t"), node("Conv", "t kernel", "conv", pads=[1, 1, 1, 1]), *end]
    inside = [node("Conv", "x kernel", "conv", pads=[2, 1, 1, 3]), *end]
    x = np.random.default_rng(0).uniform(-1, 2, (2, *SHAPE)).astype(FLOAT)
    protos = [model(nodes, {"x": ["n", *SHAPE]}, ["y"], weights) for nodes in (outside, inside)]
    found, expected = (Session(onnxdtd.compile(p, low=-1, high=2, target=1))(x=x)["relevance"] for p in protos)
    assert_near(found, expected, NEAR[FLOAT])


@pytest.mark.parametrize("slope", [-0.5, 0.5])
def test_leaky_relu_in_front(slope):
    """Bounds pass through it, and x ≤ h stays t ≤ h; with a negative slope it is not monotone, and 0 is the least value."""
    nodes = [node("LeakyRelu", "x", "t", alpha=slope), node("MatMul", "t w", "y")]
    w = normal(4, 3, dtype=DOUBLE)
    proto = model(nodes, {"x": ["n", 4]}, ["y"], {"w": w}, DOUBLE)
    x = np.array([[-1.5, -0.25, 0.125, 1]])
    found = Session(onnxdtd.compile(proto, low=-2, high=1, target=1))(x=x)
    relevance, y = found["relevance"][0], found["y"][0, 1:2]
    assert (np.sign(y) * relevance >= -1e-12).all()
    if slope > 0:
        t = np.where(x < 0, slope * x, x)[0]
        assert_near(relevance, oracle.z_box(t, w[:, 1:2], np.zeros(1), y, low=-1, high=1), 1e-11)


# ---- refused ---------------------------------------------------------------------------------------------------------


def plain(shape: Sequence[Any] = (3, 4, 5)) -> ModelProto:
    nodes = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f"), node("MatMul", "f w", "y")]
    return model(nodes, {"x": ["n", *shape]}, ["y"], {"w": normal(3, 2)})


REFUSED = [
    ({"low": 0}, "both bounds"),
    ({"high": 0}, "both bounds"),
    ({"low": 0, "high": None}, "both bounds"),
    ({"low": 1, "high": 0}, "must be below"),
    ({"low": 1, "high": 1}, "must be below"),
    ({"low": [0, 0, 2], "high": 1}, "must be below"),
    ({"low": [0, 0, 0], "high": [1, 0, 1]}, "must be below"),
    ({"low": np.zeros((3, 4, 5)), "high": np.eye(4, 5)}, "must be below"),
    ({"low": float("nan"), "high": 1}, "finite"),
    ({"low": 0, "high": float("inf")}, "finite"),
    ({"low": -np.inf, "high": 1}, "finite"),
    ({"low": 0, "high": 1e39}, "finite"),
    ({"low": [0, float("nan"), 0], "high": 1}, "finite"),
    ({"low": [0, 0], "high": 1}, "2 values"),
    ({"low": 0, "high": [1, 2, 3, 4]}, "4 values"),
    ({"low": [0, 0, 0, 0], "high": 1}, "4 values"),
    ({"low": np.zeros((2, 1, 1)), "high": 1}, "shape"),
    ({"low": 0, "high": np.ones((3, 5, 4))}, "shape"),
    ({"low": np.zeros((1, 2, 3, 4, 5)), "high": 1}, "shape"),
    ({"low": "dark", "high": 1}, "neither a number nor a list"),
    ({"low": 0, "high": {"a": 1}}, "both by the names of inputs"),
    ({"low": [[0], [1, 2]], "high": 3}, "neither a number nor a list"),
    ({"low": [], "high": 1}, "low"),
]


@pytest.mark.parametrize(("bounds", "message"), REFUSED, ids=str)
def test_refused(bounds, message):
    with pytest.raises(RequestError, match=message):
        onnxdtd.compile(plain(), **bounds)


def test_bounds_so_close_that_they_round_to_one():
    """0 and 10⁻⁵⁰ are one number in float32."""
    with pytest.raises(RequestError, match="must be below"):
        onnxdtd.compile(plain(), low=0, high=1e-50)


def test_a_list_is_one_number_a_channel():
    """Of axis 1, or of the last where only that has so many; a list of one is a number. On a square it is axis 1."""
    for shape in ((3, 4, 4), (3, 3, 3)):
        nodes = [node("Conv", "x k", "c"), node("Flatten", "c", "y")]
        proto = model(nodes, {"x": ["n", *shape]}, ["y"], {"k": normal(1, 3, *shape[1:])})
        x = np.random.default_rng(0).uniform(0, 1, (2, *shape)).astype(FLOAT)
        by_list, by_array = (
            Session(onnxdtd.compile(proto, low=low, high=2))(x=x)["relevance"] for low in ([-1, -2, -3], COLUMN([-1, -2, -3]))
        )
        np.testing.assert_array_equal(by_list, by_array)
        one, number = (Session(onnxdtd.compile(proto, low=low, high=2))(x=x)["relevance"] for low in ([-1], -1))
        np.testing.assert_array_equal(one, number)


@pytest.mark.parametrize("bound", [np.float32(0.5), np.float64(0.5), np.array(0.5), np.array([0.5]), (0.5,), [0.5], 1, True])
def test_kinds_of_numbers(bound):
    proto = plain()
    x = np.random.default_rng(0).uniform(-1, 0.5, (1, 3, 4, 5)).astype(FLOAT)
    found = Session(onnxdtd.compile(proto, low=-1, high=bound))(x=x)["relevance"]
    value = float(np.asarray(bound).reshape(()))
    np.testing.assert_array_equal(found, Session(onnxdtd.compile(proto, low=-1, high=value))(x=x)["relevance"])


def test_a_rule_that_needs_bounds_without_any():
    with pytest.raises(OnnxdtdError, match="needs the bounds of the input"):
        onnxdtd.compile(plain(), settings=["*=zB"])


def test_bounds_of_a_layer_that_has_none():
    """zB further up is refused: only the first layer has bounds."""
    nodes = [node("MatMul", "x w", "h"), node("MatMul", "h v", "y")]
    proto = model(nodes, {"x": ["n", 4]}, ["y"], {"w": normal(4, 5), "v": normal(5, 3, seed=1)})
    with pytest.raises(OnnxdtdError, match="only the first layer has them"):
        onnxdtd.compile(proto, low=-1, high=1, settings=["y_node=zB"])


def test_bounds_that_no_rule_asks_for():
    """They are kept in the metadata and change nothing."""
    proto = plain()
    x = normal(2, 3, 4, 5)
    bounded, free = (onnxdtd.compile(proto, "lrp-epsilon", **more) for more in ({"low": 0, "high": 1}, {}))
    np.testing.assert_array_equal(*(Session(p)(x=x)["relevance"] for p in (bounded, free)))
    assert len(bounded.graph.node) == len(free.graph.node)


def test_bounds_of_an_input_of_unknown_rank():
    """A number fits any; a list does not say which axis it means."""
    nodes = [node("Reshape", "x rows", "r"), node("MatMul", "r w", "y")]
    weights = {"rows": np.array([-1, 4]), "w": normal(4, 3)}
    proto = model(nodes, {"x": ["n", 4]}, ["y"], weights)
    x = np.random.default_rng(0).uniform(0, 1, (2, 4)).astype(FLOAT)
    expected = Session(onnxdtd.compile(proto, low=0, high=1))(x=x)["relevance"]
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b"]))
    np.testing.assert_array_equal(Session(onnxdtd.compile(proto, low=0, high=1))(x=x)["relevance"], expected)


# ---- bounds and choice of inputs one by one ----------------------------------------------------------------------------


def patient() -> ModelProto:
    """A picture and a vector of clinical data: a Conv on one, a dense layer on the other, a dense layer on both."""
    nodes = [
        node("Conv", "image k", "c"),
        node("Relu", "c", "cr"),
        node("GlobalAveragePool", "cr", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "clinical w", "t"),
        node("Relu", "t", "tr"),
        node("Concat", "f tr", "both", axis=1),
        node("MatMul", "both v", "y"),
    ]
    weights = {"k": normal(4, 3, 3, 3), "w": normal(5, 4, seed=1), "v": normal(8, 3, seed=2)}
    return model(nodes, {"image": ["n", 3, 8, 8], "clinical": ["n", 5]}, ["y"], weights)


def test_bounds_by_input():
    """The image has zB and its bounds, the vector the rule for inputs without; each as if the other were not there."""
    rng = np.random.default_rng(0)
    feeds = {"image": rng.uniform(0, 1, (2, 3, 8, 8)).astype(FLOAT), "clinical": normal(2, 5, seed=5) * 40}
    low, high = [-2.0, -1.0, 0.0], [1.0, 2.0, 3.0]
    compiled = onnxdtd.compile(patient(), "dtd", target=1, low={"image": low}, high={"image": high})
    facts = read_metadata(compiled)
    assert facts["rules"]["c_node"] == "zB"
    assert facts["rules"]["t_node"] == "w2"
    assert facts["bounds"] == {"image": {"low": low, "high": high}}
    found = Session(compiled)(**feeds)
    free = Session(onnxdtd.compile(patient(), "dtd", target=1))(**feeds)
    np.testing.assert_array_equal(found["relevance/clinical"], free["relevance/clinical"])
    whole = {"image": (COLUMN(low), COLUMN(high)), "clinical": (np.full(5, -100.0), np.full(5, 100.0))}
    both = {end: {name: pair[i] for name, pair in whole.items()} for i, end in enumerate(("low", "high"))}
    boxed = Session(onnxdtd.compile(patient(), "dtd", target=1, **both))(**feeds)
    np.testing.assert_array_equal(found["relevance/image"], boxed["relevance/image"])
    assert np.abs(boxed["relevance/clinical"] - found["relevance/clinical"]).max() > 1e-3
    assert verified(compiled, patient()) == []


def verified(compiled: ModelProto, source: ModelProto) -> list[str]:
    """What `verify` finds wrong."""
    with TemporaryDirectory() as folder:
        for proto, name in ((compiled, "compiled.onnx"), (source, "source.onnx")):
            onnx.save(proto, f"{folder}/{name}")
        checks = verify(Path(folder, "compiled.onnx"), Path(folder, "source.onnx")).checks
    return [f"{check.name}: {check.finding}" for check in checks if check.passed is False]


def test_a_layer_on_two_inputs_has_bounds_if_both_have():
    nodes = [node("Concat", "a b", "ab", axis=1), node("MatMul", "ab w", "y")]
    proto = model(nodes, {"a": ["n", 2], "b": ["n", 3]}, ["y"], {"w": normal(5, 3)})
    rule = lambda low, high: read_metadata(onnxdtd.compile(proto, "dtd", low=low, high=high))["rules"]["y_node"]
    assert rule({"a": 0, "b": -1}, {"a": 1, "b": 1}) == "zB"
    assert rule({"a": 0}, {"a": 1}) == "w2"


def graph_net(adjacency: Array | None) -> ModelProto:
    """Two layers of a graph network on features x [n, 4] and a dense adjacency, an input or a constant."""
    nodes = [
        node("MatMul", "x w", "h"),
        node("MatMul", "adj h", "ah"),
        node("Relu", "ah", "r"),
        node("MatMul", "r v", "z"),
        node("MatMul", "adj z", "az"),
        node("ReduceMean", "az", "y", axes=[0]),
    ]
    inputs = {"x": [6, 4]} | ({"adj": [6, 6]} if adjacency is None else {})
    weights = {"w": normal(4, 5), "v": normal(5, 3, seed=1)} | ({} if adjacency is None else {"adj": adjacency})
    return model(nodes, inputs, ["y"], weights)


@pytest.mark.parametrize("preset", ["dtd", "lrp-0", "gradient"])
def test_an_input_that_is_not_explained_is_a_constant(preset):
    """An adjacency that is an input gives what it gives as a constant; all relevance is the features'."""
    adjacency = (np.random.default_rng(3).random((6, 6)) > 0.5).astype(FLOAT)
    x = np.random.default_rng(0).uniform(0, 1, (6, 4)).astype(FLOAT)
    compiled = onnxdtd.compile(graph_net(None), preset, explain=["x"], low=0, high=1, target=1)
    found = Session(compiled)(x=x, adj=adjacency)
    expected = Session(onnxdtd.compile(graph_net(adjacency), preset, low=0, high=1, target=1))(x=x)
    assert_near(found["relevance"], expected["relevance"], 1e-6)
    assert list(read_metadata(compiled)["relevance"]) == ["x"]
    if preset == "lrp-0":
        assert_near(found["relevance"].sum(), found["y"].ravel()[1], 1e-5)
    if preset == "dtd":
        assert verified(compiled, graph_net(None)) == []


def test_pixels_are_explained_where_they_are_named():
    """A mask of floats beside a picture of bytes: by default the mask would be explained."""
    nodes = [node("Cast", "image", "f", to=TensorProto.FLOAT), node("Mul", "f mask", "m"), node("MatMul", "m w", "y")]
    proto = model(nodes, {"image": ["n", 4], "mask": ["n", 4]}, ["y"], {"w": normal(4, 3)})
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    facts = read_metadata(onnxdtd.compile(proto, explain=["image"]))
    assert list(facts["relevance"]) == ["image"]
    assert facts["bounds"] == {"low": 0.0, "high": 255.0}


def test_range_mean_and_std_are_those_of_the_picture():
    """Of a picture and a vector: clinical data are no pixels. Where no input is a picture, it is asked which is meant."""
    compiled = onnxdtd.compile(patient(), "dtd", preprocessing={"range": [0, 1], "mean": [0.5, 0.4, 0.3], "std": 0.5})
    facts = read_metadata(compiled)
    assert list(facts["bounds"]) == ["image"]
    assert facts["bounds"]["image"] == {"low": [-1.0, -0.8, -0.6], "high": [1.0, 1.2, 1.4]}
    assert (facts["rules"]["c_node"], facts["rules"]["t_node"]) == ("zB", "w2")
    assert verified(compiled, patient()) == []
    nodes = [node("Concat", "a b", "ab", axis=1), node("MatMul", "ab w", "y")]
    proto = model(nodes, {"a": ["n", 2], "b": ["n", 3]}, ["y"], {"w": normal(5, 3)})
    with pytest.raises(RequestError, match="none of the inputs is one; give low and high by input"):
        onnxdtd.compile(proto, preprocessing={"mean": 0.5})


CHOICES = [
    ({"low": {"picture": 0}, "high": {"picture": 1}}, r"bounds of 'picture': .*image, clinical"),
    ({"low": {"image": 0}, "high": {"clinical": 1}}, "both bounds of the input 'image'"),
    ({"low": {"image": 0}, "high": 1}, "both by the names"),
    ({"low": {"image": 1}, "high": {"image": 0}}, "must be below"),
    ({"low": {"image": [0, 1]}, "high": {"image": 2}}, "low of the input 'image'.*2 values"),
    ({"low": [0, 0, 0], "high": 1}, "low of the input 'clinical'.*3 values.*--low INPUT="),
    ({"explain": ["imago"]}, "--explain 'imago': .*did you mean 'image'"),
    ({"explain": ["image"], "low": {"clinical": 0}, "high": {"clinical": 1}}, "bounds of 'clinical': .* image"),
]


@pytest.mark.parametrize(("options", "message"), CHOICES, ids=str)
def test_bounds_by_input_refused(options, message):
    with pytest.raises(RequestError, match=message):
        onnxdtd.compile(patient(), **options)
