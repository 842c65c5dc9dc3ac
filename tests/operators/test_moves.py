"""Relevance that passes, moves and is routed: where each entry goes, against numpy.

Relevance is a different integer on each entry of the output, so every entry is seen to arrive where it should and all of
them to add up, exactly. What an operator selects is written once more in numpy (and checked against the operator
itself); applied to the numbers of the input's entries, it says where each came from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import oracle
import pytest
from nets import DOUBLE, FLOAT, Bench, Session, integers, model, node, pool_windows, symbolic
from onnx import ModelProto, NodeProto, TensorProto

from onnxdtd.operators.pointwise import passes
from onnxdtd.operators.table import MOVE, OPERATORS, ROUTE, never_negative, of

PASS = {op for op, entry in OPERATORS.items() if entry.flow is passes}
DYNAMIC = pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])


def arrivals(
    proto: ModelProto, x: dict[str, np.ndarray], silent: Sequence[str] = (), portable: bool = False
) -> tuple[dict, dict]:
    """The relevance of each input of the model's only node, for relevance 1, 2, 3 ... of its outputs, and this relevance.

    Outputs in ``silent`` have none.
    """
    bench = Bench(proto, portable)
    built = bench.nodes[0]
    given = [None if t.name in silent else bench.input(f"R_{t.name}", t) for t in built.outputs]
    pairs = [(built.inputs[i].name, tensor) for i, tensor in OPERATORS[built.op].flow(bench.e, built, given)]
    session = bench.session({f"to {name}": tensor for name, tensor in pairs if name in x})
    sent, start = {}, 1
    for name, value in Session(proto)(**x).items():
        sent[name] = np.arange(start, start + value.size, dtype=value.dtype).reshape(value.shape)
        start += value.size
    results = session(**x, **{f"R_{name}": value for name, value in sent.items() if name not in silent})
    return {name: results[f"to {name}"] for name in x}, sent


# ---- pass ------------------------------------------------------------------------------------------------------------

ATTRS = {"LRN": {"size": 3}, "Cast": {"to": TensorProto.DOUBLE}, "Mod": {"fmod": 1}}
OPSETS = {"Gelu": 20, "Mish": 18, "Swish": 24}


QUANTISED = {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize("op", sorted(PASS - QUANTISED))
def test_pass(op):
    x = integers(np.random.default_rng(0), 2, 3, 4, 4)
    given = op in ("PRelu", "Pow", "Mod")
    made = node(op, "x c" if given else "x", "y", **ATTRS.get(op, {}))
    weights = {"c": np.float32([[[0.5]]])} if given else {}
    found, sent = arrivals(model([made], {"x": x.shape}, ["y"], weights, opset=OPSETS.get(op, 17)), {"x": x})
    assert found["x"].dtype == x.dtype
    np.testing.assert_array_equal(found["x"], sent["y"])


def test_pass_to_and_from_integers():
    """The integers in between have a relevance of their own, in floats."""
    nodes = [node("QuantizeLinear", "x scale zero", "q"), node("DequantizeLinear", "q scale zero", "y")]
    bench = Bench(model(nodes, {"x": [2, 3]}, ["y"], {"scale": np.float32(0.5), "zero": np.uint8(3)}))
    relevance = bench.input("R", bench.tensors["y"])
    for made in bench.nodes[::-1]:
        ((position, relevance),) = OPERATORS[made.op].flow(bench.e, made, [relevance])
        assert position == 0
    sent = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(bench.session({"found": relevance})(x=sent, R=sent)["found"], sent)


# ---- move ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Move:
    """A node on x (and z), its integer inputs, and the same in numpy; ``fill`` marks entries that come from nowhere."""

    op: str
    same: Callable[..., Any]
    x: Sequence[int] = (2, 3, 4)
    z: Sequence[int] | None = None
    ints: dict[str, Any] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    outputs: str = "y"
    silent: tuple[str, ...] = ()
    inputs: str = ""
    opset: int = 17

    def __str__(self) -> str:
        what = {**self.ints, **self.attrs}
        return f"{self.op} {list(self.x)} " + " ".join(f"{name}={np.asarray(v).tolist()}" for name, v in what.items())

    def model(self, dynamic: bool) -> ModelProto:
        shapes = {"x": self.x} | ({} if self.z is None else {"z": self.z})
        inputs = {name: symbolic(shape, range(len(shape))) if dynamic else list(shape) for name, shape in shapes.items()}
        ints = {name: np.asarray(value) for name, value in self.ints.items()}  # or truth values
        made = node(self.op, self.inputs or " ".join([*inputs, *ints]), self.outputs, **self.attrs)
        return model([made], inputs, self.outputs.split(), ints, opset=self.opset)


def check_move(move: Move, dynamic: bool) -> None:
    rng = np.random.default_rng(0)
    x = {"x": integers(rng, *move.x)} | ({} if move.z is None else {"z": integers(rng, *move.z)})
    proto = move.model(dynamic)
    in_numpy = lambda arrays, fill: move.same(*arrays, fill) if move.op in ("Pad", "Trilu") else move.same(*arrays)
    outputs = as_list(in_numpy(list(x.values()), 0))
    for expected, y in zip(outputs, Session(proto)(**x).values(), strict=True):
        np.testing.assert_array_equal(y, expected)

    found, sent = arrivals(proto, x, move.silent)
    total = sum(value.size for value in x.values())
    numbers = np.split(np.arange(total), np.cumsum([value.size for value in x.values()])[:-1])
    sources = as_list(in_numpy([n.reshape(v.shape) for n, v in zip(numbers, x.values(), strict=True)], total))
    arrived = np.zeros(total + 1)
    for name, source in zip(move.outputs.split(), sources, strict=True):
        if name not in move.silent:
            np.add.at(arrived, source.ravel(), sent[name].ravel())
    flat = np.concatenate([found[name].ravel() for name in x])
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in x.items()}
    np.testing.assert_array_equal(flat, arrived[:-1])
    conserved = sum(value.sum() for name, value in sent.items() if name not in move.silent) - arrived[-1]
    assert flat.sum() == conserved


def as_list(value: Any) -> list[np.ndarray]:
    return list(value) if isinstance(value, list | tuple) else [value]


def slices(starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> dict[str, Any]:
    given = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    return {name: value for name, value in given.items() if value is not None}


def depth_to_space(x: np.ndarray, crd: bool = False) -> np.ndarray:
    n, c, h, w = x.shape
    blocks = x.reshape(n, c // 4, 2, 2, h, w) if crd else x.reshape(n, 2, 2, c // 4, h, w).transpose(0, 3, 1, 2, 4, 5)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)


def space_to_depth(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=1)


FAR = 2**31 - 1
MOVES = [
    Move("Reshape", lambda x: x.reshape(2, 12), ints={"shape": [0, -1]}),
    Move("Reshape", lambda x: x.reshape(4, 1, 6), ints={"shape": [4, 1, 6]}),
    Move("Reshape", lambda x: x.reshape(-1), ints={"shape": [-1]}),
    Move("Flatten", lambda x: x.reshape(2, 12)),
    Move("Flatten", lambda x: x.reshape(6, 4), attrs={"axis": -1}),
    Move("Flatten", lambda x: x.reshape(1, 24), attrs={"axis": 0}),
    Move("Squeeze", lambda x: x[:, 0, :, 0], (2, 1, 3, 1), ints={"axes": [1, -1]}),
    Move("Unsqueeze", lambda x: x[:, None, :, None], (2, 3), ints={"axes": [1, -1]}),
    Move("Transpose", lambda x: x.transpose(1, 2, 0), attrs={"perm": [1, 2, 0]}),
    Move("Transpose", lambda x: x.T),
    Move("Concat", lambda x, z: np.concatenate([x, z], 1), z=(2, 5, 4), attrs={"axis": 1}),
    Move("Concat", lambda x, z: np.concatenate([x, z], -1), z=(2, 3, 1), attrs={"axis": -1}),
    Move("Concat", lambda x, z: np.concatenate([x, z], 0), z=(3, 3, 4), attrs={"axis": 0}),
    Move("Split", lambda x: np.split(x, 2, 2), attrs={"axis": 2}, outputs="y y2"),
    Move("Split", lambda x: np.split(x, [1], 1), ints={"split": [1, 2]}, attrs={"axis": -2}, outputs="y y2"),
    Move("Split", lambda x: np.split(x, [1, 2], 1), attrs={"axis": 1}, outputs="y y2 y3", silent=("y2",)),
    Move("Split", lambda x: np.split(x, [3], 2), (2, 3, 5), None, {}, {"axis": 2, "num_outputs": 2}, "y y2", ("y",), opset=18),
    Move("Slice", lambda x: x[1:, :2], ints=slices([1, 0], [FAR, 2])),
    Move("Slice", lambda x: x[:, -3:-1], ints=slices([-3], [-1], [1])),
    Move("Slice", lambda x: x[..., 1:3], ints=slices([1], [3], [-1])),
    Move("Slice", lambda x: x[..., ::2], (2, 3, 5), ints=slices([0], [FAR], [2], [2])),
    Move("Slice", lambda x: x[:, ::-1], ints=slices([-1], [-FAR], [1], [-1])),
    Move("Slice", lambda x: x[..., 3:0:-2], ints=slices([3], [0], [2], [-2])),
    Move("Slice", lambda x: x[:, 1:2], ints=slices([1], [2], [1], [1])),
    Move("Slice", lambda x: x[1:, :2], inputs="x starts ends _ steps", ints=slices([1, 0], [FAR, 2], None, [1, 1])),
    Move("Slice", lambda x: x[:, 2:1], ints=slices([2], [1], [1])),
    Move("Gather", lambda x: x[:, [2, 0, 2, 2]], ints={"indices": [2, 0, 2, 2]}, attrs={"axis": 1}),
    Move("Gather", lambda x: x[..., -1], ints={"indices": -1}, attrs={"axis": -1}),
    Move("Gather", lambda x: x[..., 0], ints={"indices": 0}, attrs={"axis": -1}),
    Move("Gather", lambda x: x[..., 1:3], ints={"indices": [1, 2]}, attrs={"axis": -1}),
    Move("Gather", lambda x: x[1:], ints={"indices": [1]}),
    Move("Gather", lambda x: x[[[0, 1], [1, 1]]], ints={"indices": [[0, 1], [1, -1]]}),
    Move("Expand", lambda x: np.broadcast_to(x, (5, 2, 3, 4)), (2, 1, 4), ints={"shape": [5, 1, 3, 1]}),
    Move("DepthToSpace", depth_to_space, (2, 8, 2, 3), attrs={"blocksize": 2}),
    Move("DepthToSpace", depth_to_space, (2, 8, 2, 3), attrs={"blocksize": 2, "mode": "DCR"}),
    Move("DepthToSpace", lambda x: depth_to_space(x, crd=True), (2, 8, 2, 3), attrs={"blocksize": 2, "mode": "CRD"}),
    Move("SpaceToDepth", space_to_depth, (2, 2, 4, 6), attrs={"blocksize": 2}),
    Move("Tile", lambda x: np.tile(x, (1, 2, 3)), ints={"repeats": [1, 2, 3]}),
    Move(
        "Pad",
        lambda x, fill: np.pad(x, [(0, 0), (1, 0), (2, 1)], constant_values=fill),
        ints={"pads": [0, 1, 2, 0, 0, 1]},
    ),
    Move(
        "Pad",
        lambda x, fill: np.pad(x, [(0, 0), (0, 2), (0, 0)], constant_values=fill)[:, 1:, :-1],
        ints={"pads": [0, -1, 0, 0, 2, -1]},
    ),
    Move(
        "Pad",
        lambda x, fill: np.pad(x, [(0, 0), (2, 1), (0, 0)], "reflect"),
        attrs={"mode": "reflect"},
        ints={"pads": [0, 2, 0, 0, 1, 0]},
    ),
    Move(
        "Pad",
        lambda x, fill: np.pad(x, [(0, 0), (0, 0), (2, 3)], "edge"),
        attrs={"mode": "edge"},
        ints={"pads": [0, 0, 2, 0, 0, 3]},
    ),
    Move(
        "Pad",
        lambda x, fill: np.pad(x, [(0, 0), (0, 0), (2, 1)], constant_values=fill),
        ints={"pads": [2, 1], "axes": [-1]},
        inputs="x pads _ axes",
        opset=18,
    ),
    Move(
        "Pad",
        lambda x, fill: np.pad(x, [(0, 0), (1, 2), (0, 0)], "wrap"),
        ints={"pads": [1, 2], "axes": [1]},
        attrs={"mode": "wrap"},
        inputs="x pads _ axes",
        opset=19,
    ),
]


def written(x: np.ndarray, z: np.ndarray, at: Any) -> np.ndarray:
    """x with z written at some places."""
    result = x.copy()
    result[at] = z
    return result


AT = [[[0, 1, 2, 0]], [[2, 0, -1, 1]]]  # along axis 1 of [2, 3, 4]
MOVES += [
    Move("GatherND", lambda x: x[[0, 1, 0], [1, -1, 1]], ints={"i": [[0, 1], [1, -1], [0, 1]]}),
    Move("GatherND", lambda x: x[[0, 1], [2, 0]], ints={"i": [[2], [0]]}, attrs={"batch_dims": 1}),
    Move("GatherElements", lambda x: np.take_along_axis(x, np.array(AT), 1), ints={"i": AT}, attrs={"axis": 1}),
    Move("GatherElements", lambda x: x[[0, 0, 1], :1, :1], ints={"i": [[[0]], [[0]], [[1]]]}),
    Move("Compress", lambda x: x[:, [0, 2]], ints={"c": [True, False, True]}, attrs={"axis": -2}),
    Move("Compress", lambda x: x.ravel()[[1, 3]], ints={"c": [False, True, False, True]}),
    Move(
        "ScatterElements",
        lambda x, z: written(x, z, (np.arange(2)[:, None, None], np.array(AT), np.arange(4))),
        z=(2, 1, 4),
        ints={"i": AT},
        attrs={"axis": 1},
        inputs="x i z",
    ),
    Move(
        "ScatterND",
        lambda x, z: written(x, z, ([0, 1], [2, -3])),
        z=(2, 4),
        ints={"i": [[0, 2], [1, -3]]},
        inputs="x i z",
    ),
    Move("Trilu", lambda x, fill: np.where(np.tri(3, 4, 1, bool), x, fill), ints={"k": 1}, attrs={"upper": 0}),
    Move("Trilu", lambda x, fill: np.where(np.tri(3, 4, -1, bool), fill, x)),
    Move(
        "ReverseSequence",
        lambda x: np.stack([x[[1, 0, 2, 3], 0], x[[2, 1, 0, 3], 1]], 1),
        x=(4, 2, 3),
        ints={"lengths": [2, 3]},
    ),
    Move(
        "ReverseSequence",
        lambda x: np.stack([x[0, [1, 0, 2]], x[1, [2, 1, 0]]]),
        x=(2, 3, 2),
        ints={"lengths": [2, 3]},
        attrs={"batch_axis": 0, "time_axis": 1},
    ),
]


@DYNAMIC
@pytest.mark.parametrize("move", MOVES, ids=str)
def test_move(move, dynamic):
    check_move(move, dynamic)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_pad_with_a_fill_value(mode):
    """The fill value takes no relevance, and is not mistaken for the number of an entry."""
    x = integers(np.random.default_rng(0), 2, 4)
    weights = {"pads": np.array([0, 1, 0, 2]), "fill": np.float32(7)}
    found, sent = arrivals(model([node("Pad", "x pads fill", "y", mode=mode)], {"x": x.shape}, ["y"], weights), {"x": x})
    expected = sent["y"][:, 1:5].copy()
    if mode == "reflect":  # y = x1 x0 x1 x2 x3 x2 x1
        expected[:, 1] += sent["y"][:, 0] + sent["y"][:, 6]
        expected[:, 2] += sent["y"][:, 5]
    np.testing.assert_array_equal(found["x"], expected)


@pytest.mark.parametrize("op", ["ScatterND", "ScatterElements"])
def test_of_two_updates_in_one_place_one_is_there(op):
    """Whichever it is (onnx does not say): relevance goes there, all of it."""
    x, z, at = integers(np.random.default_rng(0), 5), np.arange(3, dtype=FLOAT), np.array([1, 3, -4])
    nodes = [node(op, "x i z", "y")]
    index = at[:, None] if op == "ScatterND" else at
    for given in ({"i": index}, {}):
        proto = model([*([] if given else [node("Cast", "f", "i", to=TensorProto.INT64)]), *nodes], {
            "x": [5], "z": [3], **({} if given else {"f": list(index.shape)})}, ["y"], given)  # fmt: skip
        bench = Bench(proto)
        pairs = dict(OPERATORS[op].flow(bench.e, bench.nodes[-1], [bench.input("R", bench.tensors["y"])]))
        feeds = {"x": x, "z": z} | ({} if given else {"f": index.astype(FLOAT)})
        sent = np.array([1, 2, 3, 4, 5], FLOAT)
        found = bench.session({"to x": pairs[0], "to z": pairs[2]})(**feeds, R=sent)
        np.testing.assert_array_equal(found["to x"], [1, 0, 3, 0, 5])
        assert found["to z"].tolist() in ([2, 4, 0], [0, 4, 2])
        assert found["y"][1] == z[found["to z"] == 2]


@DYNAMIC
@pytest.mark.parametrize("way", ["max", "min"])
@pytest.mark.parametrize("op", ["ScatterND", "ScatterElements"])
def test_the_largest_or_smallest_that_falls_into_one_place(op, way, dynamic):
    """What was there counts as the first; small integers, so ties are everywhere."""
    rng, at = np.random.default_rng(0), np.array([0, 2, 2, 0, -1, 0, 2])
    x, z = integers(rng, 4, 3, low=-1, high=1), integers(rng, 7, 3, low=-2, high=2)
    index = at[:, None] if op == "ScatterND" else np.tile(at[:, None], (1, 3))
    shapes = {"x": ["a", "b"], "z": ["c", "b"]} if dynamic else {"x": x.shape, "z": z.shape}
    proto = model([node(op, "x i z", "y", reduction=way)], shapes, ["y"], {"i": index}, opset=18)
    bench = Bench(proto)
    pairs = dict(of(bench.nodes[0]).flow(bench.e, bench.nodes[0], [bench.input("R", bench.tensors["y"])]))
    sent = np.arange(1, 13, dtype=FLOAT).reshape(4, 3)
    found = bench.session({"to x": pairs[0], "to z": pairs[2]})(x=x, z=z, R=sent)
    to_x, to_z = np.zeros_like(x), np.zeros_like(z)
    for i, j in np.ndindex(4, 3):
        rows = [k for k in range(7) if at[k] % 4 == i]
        stack = np.array([x[i, j], *z[rows, j]])
        best = stack.argmax() if way == "max" else stack.argmin()
        assert found["y"][i, j] == stack[best]
        if best:
            to_z[rows[best - 1], j] = sent[i, j]
        else:
            to_x[i, j] = sent[i, j]
    np.testing.assert_array_equal(found["to x"], to_x)
    np.testing.assert_array_equal(found["to z"], to_z)


@DYNAMIC
@pytest.mark.parametrize("attrs", [{}, {"axis": 1}, {"axis": 0, "largest": 0}, {"axis": -1, "sorted": 0}], ids=str)
def test_top(attrs, dynamic):
    """The k-th entry takes the relevance of the k-th largest."""
    x = np.random.default_rng(0).permutation(24).reshape(2, 3, 4).astype(FLOAT)
    proto = model([node("TopK", "x k", "y i", **attrs)], {"x": symbolic(x.shape) if dynamic else x.shape}, ["y"], {"k": [2]})
    bench = Bench(proto)
    ((_, found),) = OPERATORS["TopK"].flow(bench.e, bench.nodes[0], [bench.input("R", bench.tensors["y"]), None])
    session = bench.session({"found": found})
    y = Session(proto)(x=x)["y"]
    np.testing.assert_array_equal(session(x=x, R=y)["found"], np.where(np.isin(x, y), x, 0))


def test_constants_side_by_side_with_the_input_take_their_share_away():
    x = integers(np.random.default_rng(0), 2, 3)
    weights = {"c": np.ones((2, 2), np.float32)}
    proto = model([node("Concat", "c x c", "y", axis=1)], {"x": ["n", 3]}, ["y"], weights)
    found, sent = arrivals(proto, {"x": x})
    np.testing.assert_array_equal(found["x"], sent["y"][:, 2:5])


def test_slice_bounds_computed_at_run_time():
    x = integers(np.random.default_rng(0), 2, 5)
    nodes = [node("Cast", "n", "end", to=TensorProto.INT64), node("Slice", "x start end axis", "y")]
    weights = {"start": np.array([1]), "axis": np.array([1])}
    bench = Bench(model(nodes, {"x": [2, 5], "n": [1]}, ["y"], weights))
    ((_, found),) = OPERATORS["Slice"].flow(bench.e, bench.nodes[1], [bench.input("R", bench.tensors["y"])])
    feeds = {"x": x, "n": np.array([3], np.float32), "R": np.array([[1, 2], [3, 4]], np.float32)}
    expected = [[0, 1, 2, 0, 0], [0, 3, 4, 0, 0]]
    np.testing.assert_array_equal(bench.session({"x_relevance": found})(**feeds)["x_relevance"], expected)


@pytest.mark.parametrize("end", [0, 2, 3, 9, -1])
@pytest.mark.parametrize("steps", [None, [1], [2]])
def test_what_is_cut_off_at_an_end_that_is_computed(end: int, steps: list[int] | None) -> None:
    """Behind, and every second entry too"""
    x = integers(np.random.default_rng(0), 2, 3, 2)
    nodes = [node("Cast", "n", "end", to=TensorProto.INT64)]
    nodes += [node("Slice", "x start end axis" + (" steps" if steps else ""), "y")]
    weights = {"start": np.array([0]), "axis": np.array([-2]), **({"steps": np.array(steps)} if steps else {})}
    bench = Bench(model(nodes, {"x": [2, "t", 2], "n": [1]}, ["y"], weights))
    ((_, found),) = OPERATORS["Slice"].flow(bench.e, bench.nodes[1], [bench.input("R", bench.tensors["y"])])
    expected = np.zeros_like(x)
    part = expected[:, : end : steps[0] if steps else 1]
    part[:] = np.arange(1, part.size + 1).reshape(part.shape)
    feeds = {"x": x, "n": np.array([end], np.float32), "R": part.copy()}
    np.testing.assert_array_equal(bench.session({"x_relevance": found})(**feeds)["x_relevance"], expected)
    assert ("ScatterElements" in [made.op for made in bench.e.nodes]) == (steps == [2])


@DYNAMIC
@pytest.mark.parametrize(("x_shape", "z_shape"), [((2, 3), (2, 3)), ((2, 3), (1, 3)), ((3,), (2, 1)), ((2, 1), (1, 3))])
def test_where(x_shape, z_shape, dynamic):
    """Relevance goes to the branch that each entry was taken from, and adds up where it was repeated."""
    condition = np.array([[True, False, True], [False, False, True]])
    rng = np.random.default_rng(0)
    x = {"x": integers(rng, *x_shape), "z": integers(rng, *z_shape)}
    axes = lambda shape: [i for i, size in enumerate(shape) if size > 1 and dynamic]
    shapes = {name: symbolic(value.shape, axes(value.shape)) for name, value in x.items()}
    found, sent = arrivals(model([node("Where", "c x z", "y")], shapes, ["y"], {"c": condition}), x)
    check_repeated(found, {"x": np.where(condition, sent["y"], 0), "z": np.where(condition, 0, sent["y"])})


def check_repeated(found: dict[str, np.ndarray], arrived: dict[str, np.ndarray]) -> None:
    """What arrived at the entries of a repeated tensor adds up at the tensor itself."""
    for name, whole in arrived.items():
        shape = found[name].shape
        extra = whole.ndim - len(shape)
        sums = tuple(range(extra)) + tuple(i + extra for i, size in enumerate(shape) if size == 1)
        np.testing.assert_array_equal(found[name], whole.sum(sums).reshape(shape))


# ---- route -----------------------------------------------------------------------------------------------------------


def check_route(
    made: NodeProto, shape: Sequence[int], windows: list[list[int]], dynamic: bool, opset: int = 22, portable: bool = False
) -> None:
    """Relevance goes to the first of the largest entries of each window; small integers, so ties are everywhere."""
    x = integers(np.random.default_rng(0), *shape, low=-1, high=2)
    proto = model([made], {"x": symbolic(shape) if dynamic else shape}, list(made.output), opset=opset)
    y = Session(proto)(x=x)["y"]
    np.testing.assert_array_equal(y.ravel(), [x.ravel()[window].max() for window in windows])
    found, sent = arrivals(proto, {"x": x}, portable=portable)
    np.testing.assert_array_equal(found["x"], oracle.max_route(x.ravel(), windows, sent["y"].ravel()).reshape(shape))
    assert found["x"].sum() == sent["y"].sum()


MAX_POOLS = [
    *[
        ((2, 3, size), {"kernel_shape": [3], "strides": [stride], "pads": pads, "ceil_mode": ceil})
        for size, stride, pads, ceil in product([7, 8], [1, 2, 3], [[0, 0], [1, 2]], [0, 1])
    ],
    *[
        ((2, 3, *size), {"kernel_shape": [2, 3], "strides": strides, "auto_pad": auto})
        for size, strides, auto in product([(5, 6), (6, 5)], [[1, 1], [2, 2]], ["SAME_UPPER", "SAME_LOWER", "VALID"])
    ],
    ((2, 3, 6, 7), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((2, 3, 6, 7), {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 1, 0, 1]}),
    ((2, 3, 6, 7), {"kernel_shape": [3, 2], "dilations": [1, 2], "strides": [2, 1], "ceil_mode": 1}),
    ((1, 2, 4, 3, 5), {"kernel_shape": [2, 2, 3], "strides": [2, 1, 2], "pads": [1, 0, 1, 0, 1, 1]}),
    ((1, 1, 3, 3), {"kernel_shape": [3, 3], "storage_order": 1}),
]


@DYNAMIC
@pytest.mark.parametrize(("shape", "attrs"), MAX_POOLS, ids=str)
def test_max_pool(shape, attrs, dynamic):
    """By MaxPool itself where GPUs have it, else by what it stands for, or by convolutions where nothing scatters."""
    for opset, portable in ((21, False), (22, False), (21, True)):
        check_route(node("MaxPool", "x", "y", **attrs), shape, pool_windows(shape, attrs), dynamic, opset, portable)


def test_max_pool_that_gives_its_indices_too():
    attrs = {"kernel_shape": [2, 2], "storage_order": 1}
    shape = (2, 1, 3, 4)
    x = integers(np.random.default_rng(0), *shape, low=-1, high=2)
    bench = Bench(model([node("MaxPool", "x", "y at", **attrs)], {"x": shape}, ["y"]))
    relevance = bench.input("R", bench.tensors["y"])
    ((_, found),) = OPERATORS["MaxPool"].flow(bench.e, bench.nodes[0], [relevance, None])
    given = np.arange(1, 13, dtype=np.float32).reshape(2, 1, 2, 3)
    arrived = bench.session({"found": found})(x=x, R=given)["found"]
    np.testing.assert_array_equal(arrived.ravel(), oracle.max_route(x.ravel(), pool_windows(shape, attrs), given.ravel()))


def reduced_windows(shape: Sequence[int], axes: Sequence[int]) -> list[list[int]]:
    numbers = np.arange(np.prod(shape)).reshape(shape)
    kept = [i for i in range(len(shape)) if i not in [axis % len(shape) for axis in axes]]
    last = numbers.transpose(kept + [i for i in range(len(shape)) if i not in kept])
    return last.reshape(int(np.prod([shape[i] for i in kept])), -1).tolist()


@DYNAMIC
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[1], [2, 3], [-1, 1], [0, 2], [0, 1, 2, 3], None], ids=str)
@pytest.mark.parametrize("opset", [17, 18])
def test_reduce_max(axes, keepdims, opset, dynamic):
    shape = (2, 3, 4, 5)
    attrs = {"keepdims": keepdims} | ({} if axes is None else {"axes": axes})
    windows = reduced_windows(shape, range(4) if axes is None else axes)
    if opset == 17 or axes is None:
        check_route(node("ReduceMax", "x", "y", **attrs), shape, windows, dynamic, opset)
        return
    x = integers(np.random.default_rng(0), *shape, low=-1, high=2)
    made = node("ReduceMax", "x axes", "y", keepdims=keepdims)
    proto = model([made], {"x": symbolic(shape) if dynamic else shape}, ["y"], {"axes": np.array(axes)}, opset=opset)
    found, sent = arrivals(proto, {"x": x})
    np.testing.assert_array_equal(found["x"].ravel(), oracle.max_route(x.ravel(), windows, sent["y"].ravel()))


@DYNAMIC
def test_reduce_min(dynamic):
    """To the first of the smallest."""
    x = integers(np.random.default_rng(0), 2, 3, 4, low=-1, high=2)
    proto = model([node("ReduceMin", "x", "y", axes=[0, 2])], {"x": symbolic(x.shape) if dynamic else x.shape}, ["y"])
    found, sent = arrivals(proto, {"x": x})
    np.testing.assert_array_equal(Session(proto)(x=x)["y"], x.min((0, 2), keepdims=True))
    windows = reduced_windows(x.shape, [0, 2])
    np.testing.assert_array_equal(found["x"].ravel(), oracle.max_route(-x.ravel(), windows, sent["y"].ravel()))


@DYNAMIC
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (1, 2, 2, 3, 2)], ids=str)
def test_global_max_pool(shape, dynamic):
    for portable in (False, True):
        windows = reduced_windows(shape, range(2, len(shape)))
        check_route(node("GlobalMaxPool", "x", "y"), shape, windows, dynamic, portable=portable)


@DYNAMIC
@pytest.mark.parametrize("op", ["Max", "Min"])
@pytest.mark.parametrize("shapes", [((2, 3), (2, 3), (2, 3)), ((2, 3), (3,), (2, 1))], ids=str)
def test_the_first_of_the_largest_or_smallest_inputs(op, shapes, dynamic):
    rng = np.random.default_rng(0)
    x = {name: integers(rng, *shape, low=0, high=2) for name, shape in zip(("x", "z", "v"), shapes, strict=True)}
    sizes = {n: symbolic(v.shape, [i for i, size in enumerate(v.shape) if size > 1 and dynamic]) for n, v in x.items()}
    found, sent = arrivals(model([node(op, "x z v", "y")], sizes, ["y"]), x)
    stack = np.stack(np.broadcast_arrays(*x.values()))
    winner = stack.argmax(0) if op == "Max" else stack.argmin(0)
    check_repeated(found, {name: np.where(winner == i, sent["y"], 0) for i, name in enumerate(x)})


def test_routes_keep_float64():
    x = integers(np.random.default_rng(0), 2, 3, 4, dtype=DOUBLE)
    for op, attrs in (("MaxPool", {"kernel_shape": [2]}), ("ReduceMax", {"axes": [1]})):
        found, _ = arrivals(model([node(op, "x", "y", **attrs)], {"x": x.shape}, ["y"], dtype=DOUBLE), {"x": x})
        assert found["x"].dtype == np.float64


def test_every_operator_is_tested():
    kinds = {kind: {op for op, entry in OPERATORS.items() if entry.kind == kind} for kind in (MOVE, ROUTE)}
    assert kinds[MOVE] == {move.op for move in MOVES} | {"Where", "TopK"}
    routes = {"MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Max", "Min"}
    routes |= {f"{op}.{way}" for op in ("ScatterElements", "ScatterND") for way in ("max", "min")}
    assert kinds[ROUTE] == routes | {"ReduceLogSumExp"}  # which is tested among reductions


# ---- signs -----------------------------------------------------------------------------------------------------------

PLUS, MINUS = np.float32([[[1, 2, 3]]]), np.float32([[[1, -2, 3]]])
POOL = {"kernel_shape": [2], "pads": [1, 0]}
SIGNS = [  # node on a (>= 0) and x (signed), provably >= 0?
    *[(node(op, "x", "y"), True) for op in ("Relu", "Sigmoid", "Softmax", "HardSigmoid", "Abs", "Exp", "Softplus")],
    *[(node(op, "x", "y"), False) for op in ("Tanh", "LeakyRelu", "Elu", "Neg", "GlobalMaxPool", "Flatten")],
    *[(node(op, "a", "y"), True) for op in ("LeakyRelu", "Elu", "Sqrt", "GlobalMaxPool", "Flatten", "ReduceMean")],
    *[(node(op, "a plus", "y"), True) for op in ("Add", "Mul", "Div", "Max")],
    *[(node(op, "a minus", "y"), False) for op in ("Add", "Mul", "Div", "Min", "PRelu")],
    *[(node("Max", inputs, "y"), True) for inputs in ("x plus", "a x", "a minus")],
    *[(node(op, inputs, "y"), yes) for op in ("Min", "PRelu") for inputs, yes in (("a plus", True), ("x plus", False))],
    *[(node("Where", inputs, "y"), yes) for inputs, yes in (("yes a plus", True), ("yes a x", False), ("yes x a", False))],
    *[(node(op, "x plus", "y"), False) for op in ("Add", "Mul", "Div")],
    *[(node("Concat", inputs, "y", axis=1), inputs == "a plus") for inputs in ("a plus", "a minus", "x plus", "a x")],
    *[(node("Sub", "a plus", "y"), False), (node("Neg", "a", "y"), False), (node("LogSoftmax", "a", "y"), False)],
    *[(node(op, "a", "y", **POOL), True) for op in ("MaxPool", "AveragePool")],
    *[(node(op, "x", "y", **POOL), False) for op in ("MaxPool", "AveragePool")],
    *[(node("Clip", inputs, "y"), yes) for inputs, yes in (("x zero", True), ("x below", False), ("a below", True))],
    *[(node("Clip", "x _ six", "y"), False), (node("Clip", "a _ six", "y"), True), (node("Clip", "a _ below", "y"), False)],
    *[(node("Pad", inputs, "y"), yes) for inputs, yes in (("a pads", True), ("a pads six", True), ("a pads below", False))],
    (node("Pad", "x pads", "y"), False),
    (node("Pad", "a pads", "y", mode="reflect"), True),
    (node("Reshape", "a shape", "y"), True),
    (node("Gather", "a one", "y", axis=2), True),
    (node("Cast", "a", "y", to=TensorProto.DOUBLE), True),
    (node("Conv", "a w", "y"), False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("made", "expected"), SIGNS, ids=lambda v: " ".join([v.op_type, *v.input]) if isinstance(v, NodeProto) else ""
)
def test_never_negative(made, expected):
    """What is claimed to be >= 0 is, on data that try; and what we expect to be claimed is claimed."""
    weights = {"plus": PLUS, "minus": MINUS, "zero": np.float32(0), "six": np.float32(6), "below": np.float32(-2)}
    weights |= {"pads": np.array([0, 0, 1, 0, 0, 0]), "shape": np.array([0, -1]), "one": np.array([1])}
    weights |= {"w": np.float32([[[1]], [[-1]]]), "yes": np.array([[[True, False, True]]])}
    used = {name: value for name, value in weights.items() if name in made.input}
    inputs = {name: [1, 1, 3] for name in ("a", "x") if name in made.input}
    bench = Bench(model([made], inputs, ["y"], used))
    known = lambda t: t.name == "a" or (t.name in used and bool(np.all(used[t.name] >= 0)))
    claimed = never_negative(bench.nodes[0], known)
    data = {"a": np.array([[[0, 1, 3]]], FLOAT), "x": np.array([[[-4, 1, -3]]], FLOAT)}
    y = Session(bench.proto)(**{name: data[name] for name in inputs})["y"]
    assert not claimed or y.min() >= 0
    assert claimed == expected


# ---- the test itself -------------------------------------------------------------------------------------------------


def test_the_check_catches_a_wrong_move(monkeypatch):
    move = Move("Transpose", lambda x: x.transpose(1, 2, 0), (2, 2, 2), attrs={"perm": [1, 2, 0]})
    check_move(move, dynamic=False)
    wrong = lambda e, n, sent: iter([(0, e("Transpose", sent[0], perm=[1, 2, 0]))])
    monkeypatch.setitem(OPERATORS, "Transpose", replace(OPERATORS["Transpose"], flow=wrong))
    with pytest.raises(AssertionError):
        check_move(move, dynamic=False)


def test_the_check_catches_a_tie_that_goes_to_all(monkeypatch):
    made, windows = node("ReduceMax", "x", "y", axes=[2]), reduced_windows((2, 3, 6), [2])
    check_route(made, (2, 3, 6), windows, dynamic=False, opset=17)

    def to_all(e, n, sent):
        winners = e.cast(e("Equal", n.inputs[0], n.outputs[0]), np.dtype(np.float32))
        yield 0, e("Mul", winners, sent[0])

    monkeypatch.setitem(OPERATORS, "ReduceMax", replace(OPERATORS["ReduceMax"], flow=to_all))
    with pytest.raises(AssertionError):
        check_route(made, (2, 3, 6), windows, dynamic=False, opset=17)
