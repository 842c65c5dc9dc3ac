"""Whole networks, compiled and run, against the oracle: random graphs, convolutional nets, targets, heads, several inputs.

The second opinion is built from the same nodes: each node's matrix is read off by running it alone on unit vectors, and
`oracle.Net` does the rest in float64, sample by sample. Where ONNX Runtime has float64 kernels the network is float64 too.
"""

# ruff: noqa: N803, N806  (W, R, ... are the letters of the papers)

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx
import oracle
import pytest
from nets import DOUBLE, FLOAT, Session, Shape, assert_near, model, node, pool_windows
from onnx import ModelProto, NodeProto
from onnx.reference import ReferenceEvaluator
from oracle import Affine, Array, MaxPool, Relu, Rule

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.graph import files
from onnxdtd.operators.table import OPERATORS

TIGHT = {DOUBLE: 1e-9, FLOAT: 5e-5}  # relative to the largest relevance
FAMILIES = {"Conv": "conv", "ConvTranspose": "conv", "Gemm": "dense", "MatMul": "dense"} | dict.fromkeys(
    ("AveragePool", "GlobalAveragePool", "ReduceMean"), "average"
)
MOVES = ("Concat", "Flatten", "Reshape", "Transpose", "Slice", "Pad")
LOW, HIGH = -2.0, 3.0


class Layer(NamedTuple):
    """What a preset asks about a layer, the connections for `flat`, and its inputs at both ends of the input domain."""

    first: bool
    family: str
    C: Array
    low: Array
    high: Array


class Preset(NamedTuple):
    """A preset of ours in terms of the oracle."""

    name: str
    rule: Callable[[Layer], Rule]
    options: Mapping[str, Any] = MappingProxyType({})


def with_flat(rule: Rule, first: Callable[[Layer], Rule] | None = None) -> Callable[[Layer], Rule]:
    """``rule``, but ``flat`` on affine layers and ``first`` on those that the input reaches first."""
    flat = lambda layer: partial(oracle.flat, C=layer.C)
    return lambda layer: first(layer) if first and layer.first else flat(layer) if layer.family == "affine" else rule


def alpha2beta1(layer: Layer) -> Rule:
    """αβ where there are weights of both signs, shares in proportion where there are not."""
    if layer.family in ("average", "sum"):
        return oracle.z_plus
    return with_flat(partial(oracle.alpha_beta, alpha=2, beta=1))(layer)


PRESETS = {
    "dtd": Preset("dtd", with_flat(oracle.z_plus, lambda layer: oracle.w2)),
    "dtd in a box": Preset(
        "dtd",
        with_flat(oracle.z_plus, lambda layer: partial(oracle.z_box, low=layer.low, high=layer.high)),
        {"low": LOW, "high": HIGH},
    ),
    "lrp-epsilon": Preset("lrp-epsilon", lambda layer: partial(oracle.epsilon, eps=1e-6)),
    "lrp-0": Preset("lrp-0", lambda layer: partial(oracle.epsilon, eps=0)),
    "lrp-alpha2beta1": Preset("lrp-alpha2beta1", alpha2beta1),
    "lrp-gamma": Preset("lrp-gamma", with_flat(partial(oracle.gamma, gamma=0.25))),
}


@dataclass(frozen=True)
class Network:
    """A classifier as steps: one node each, or a layer with what is fused into it. The last step gives ``y``."""

    steps: list[list[NodeProto]]
    inputs: dict[str, Sequence[int]]  # of one sample
    weights: dict[str, np.ndarray]
    dtype: np.dtype = DOUBLE
    more: list[NodeProto] = field(default_factory=list)  # behind y
    outputs: tuple[str, ...] = ("y",)
    opset: int = 17

    @property
    def nodes(self) -> list[NodeProto]:
        return [made for step in self.steps for made in step] + self.more

    def model(self, shapes: Mapping[str, Shape] | None = None) -> ModelProto:
        shapes = shapes or {name: ["n", *shape] for name, shape in self.inputs.items()}
        return model(self.nodes, shapes, self.outputs, self.weights, self.dtype, self.opset)

    def part(self, step: Sequence[NodeProto], shapes: Mapping[str, Sequence[int]]) -> Session:
        """Some of the nodes on their own."""
        used = {name: value for name, value in self.weights.items() if any(name in made.input for made in step)}
        inputs = {name: ["n", *shape] for name, shape in shapes.items()}
        return Session(model(step, inputs, [step[-1].output[0]], used, self.dtype, self.opset))

    @cached_property
    def dense(self) -> tuple[oracle.Net, dict[str, str], set[str]]:
        """The net, the family of each affine node, and the names of the inputs up to one-to-one transformations."""
        shapes: dict[str, Sequence[int]] = dict(self.inputs)
        nodes: dict[str, Affine | Relu | MaxPool] = {}
        families, raw = {}, set(self.inputs)
        for step in self.steps:
            end, op, made = step[-1].output[0], step[0].op_type, {name for other in step for name in other.output}
            read = dict.fromkeys(name for other in step for name in other.input)
            sources = tuple(name for name in read if name in shapes and name not in made)
            session = self.part(step, {name: shapes[name] for name in sources})
            zeros = {name: np.zeros((1, *shapes[name]), self.dtype) for name in sources}
            shapes[end] = session(**zeros)[end].shape[1:]
            terms = [name for name in step[0].input if name in shapes]
            family = "move" if op in MOVES else FAMILIES.get(op, "sum" if len(terms) > 1 else "affine")
            if all(name in raw for name in sources) and family in ("move", "affine") and op != "MaxPool":
                raw.add(end)
            if op == "Relu":
                nodes[end] = Relu(sources)
            elif op == "MaxPool":
                attrs = {a.name: onnx.helper.get_attribute_value(a) for a in step[0].attribute}
                nodes[end] = MaxPool(sources, pool_windows((1, *shapes[sources[0]]), attrs))
            else:
                families[end] = "move" if end in raw else family
                nodes[end] = Affine(sources, self._dense(session, end, {name: shapes[name] for name in sources}))
        return oracle.Net(nodes), families, raw

    def _dense(self, session: Session, end: str, shapes: Mapping[str, Sequence[int]]) -> oracle.Layer:
        sizes = [int(np.prod(shape)) for shape in shapes.values()]

        def f(points: Array) -> Array:
            parts = np.split(points.astype(self.dtype), np.cumsum(sizes)[:-1], axis=1)
            feeds = {name: part.reshape(-1, *shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
            return session(**feeds)[end]

        W, b = oracle.matrix(f, [sum(sizes)])
        return oracle.Layer(W, b, (W != 0).astype(np.float64))

    def expected(self, preset: Preset, x: Mapping[str, np.ndarray], seed: Callable[[Array], Array]) -> dict[str, Array]:
        """The relevance of every tensor, samples flattened; ``seed`` makes the relevance of y from y."""
        net, families, raw = self.dense
        box = [net.forward(**{name: np.full(int(np.prod(s)), end) for name, s in self.inputs.items()}) for end in (LOW, HIGH)]
        chosen = {}
        for name, family in families.items():
            sources, layer = net.nodes[name].sources, net.nodes[name].layer
            ends = [np.concatenate([values[source] for source in sources]) for values in box]
            facts = Layer(all(s in raw for s in sources), family, layer.C, np.minimum(*ends), np.maximum(*ends))
            chosen[name] = partial(oracle.flat, C=layer.C) if family == "move" else preset.rule(facts)
        found: dict[str, list[Array]] = {}
        for sample in zip(*x.values(), strict=True):
            values = net.forward(**{name: value.ravel() for name, value in zip(x, sample, strict=True)})
            for name, value in net.relevance(values, "y", seed(values["y"]), chosen).items():
                found.setdefault(name, []).append(value)
        return {name: np.stack(parts) for name, parts in found.items()}


def of_class(target: int | None = None) -> Callable[[Array], Array]:
    """The logit of a class, by default of the largest, and 0 for the others."""
    return lambda y: np.where(np.arange(len(y)) == (np.argmax(y) if target is None else target), y, 0.0)


def compiled(source: ModelProto, *args: Any, **options: Any) -> ModelProto:
    """Compile, and check what holds for every compiled model."""
    proto = onnxdtd.compile(source, *args, **options)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.SerializeToString() == onnxdtd.compile(source, *args, **options).SerializeToString()
    original, source = source, ModelProto()
    source.CopyFrom(original)
    files.normalise(source)  # a padded pool with ceil_mode needs operator set 22
    for part in ("node", "initializer", "input", "output"):
        ours, theirs = (getattr(p.graph, part) for p in (proto, source))
        assert list(ours[: len(theirs)]) == list(theirs), part
    assert {n.domain for n in proto.graph.node} == {""}
    work = [(n.op_type, *n.input, *sorted(a.SerializeToString() for a in n.attribute)) for n in proto.graph.node]
    added = work[len(source.graph.node) :]
    assert not [w for w in added if work.count(w) > 1 and w[0] != "Identity"]  # nothing is computed twice
    assert list(proto.opset_import) == list(source.opset_import)
    metadata = read_metadata(proto)
    assert len(metadata) == len(proto.metadata_props)
    ours = {*metadata["relevance"].values(), metadata["logit"]}
    assert ours == {o.name for o in proto.graph.output[len(source.graph.output) :]}
    return proto


def samples(network: Network, count: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(LOW, HIGH, (count, *shape)).astype(network.dtype) for name, shape in network.inputs.items()}


def check(network: Network, preset: str, shapes: Mapping[str, Shape] | None = None, rtol: float | None = None) -> None:
    """The relevance of every input, and the predictor's own outputs."""
    source, x = network.model(shapes), samples(network)
    chosen = PRESETS[preset]
    found = Session(compiled(source, chosen.name, **chosen.options))(**x)
    expected = network.expected(chosen, x, of_class())
    for name in x:
        relevance = found["relevance" if len(x) == 1 else f"relevance/{name}"]
        assert relevance.shape == x[name].shape
        assert_near(relevance.reshape(len(relevance), -1), expected[name], rtol or TIGHT[network.dtype])
    for name, value in Session(source)(**x).items():
        assert_near(found[name], value, {DOUBLE: 1e-12, FLOAT: 1e-5}[network.dtype])


# ---- random graphs in float64 ----------------------------------------------------------------------------------------


class Growing:
    """A random network of tensors [n, 4]: each call adds some nodes and gives the name of the result."""

    def __init__(self, seed: int, inputs: Sequence[str] = ("x",)):
        self.rng = np.random.default_rng(seed)
        self.inputs = dict.fromkeys(inputs, (4,))
        self.steps: list[list[NodeProto]] = []
        self.weights: dict[str, np.ndarray] = {
            "rows": np.array([0, 1, -1]),
            "pairs": np.array([0, 2, -1]),
        }
        self.sizes = dict.fromkeys(inputs, 4)

    def step(self, size: int, *nodes: NodeProto) -> str:
        self.steps.append(list(nodes))
        self.sizes[nodes[-1].output[0]] = size
        return nodes[-1].output[0]

    def name(self, prefix: str = "t") -> str:
        return f"{prefix}{len(self.steps)}"

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = self.rng.normal(size=shape)
        return name

    def dense(self, x: str, size: int = 4, shared: str | None = None, y: str | None = None) -> str:
        w, b = shared or self.weight(self.sizes[x], size), self.weight(size)
        return self.step(size, node("Gemm", f"{x} {w} {b}", y or self.name()))

    def affine_dense(self, x: str) -> str:
        h, w, b = self.name("h"), self.weight(self.sizes[x], 4), self.weight(4)
        return self.step(4, node("MatMul", f"{x} {w}", h), node("Add", f"{b} {h}", self.name()))

    def norm(self, x: str) -> str:
        """Unless behind a Gemm that nobody else reads, a layer of its own; so it is put behind a Relu."""
        vectors = [self.weight(4) for _ in range(4)]
        self.weights[vectors[3]] = np.abs(self.weights[vectors[3]]) + 0.5
        relu = self.relu(x)
        return self.step(4, node("BatchNormalization", " ".join([relu, *vectors]), self.name()))

    def relu(self, x: str) -> str:
        return self.step(self.sizes[x], node("Relu", x, self.name()))

    def add(self, x: str, z: str) -> str:
        return self.step(4, node(self.rng.choice(["Add", "Sub", "Sum"]), f"{x} {z}", self.name()))

    def concat(self, x: str, z: str) -> str:
        joined = self.step(8, node("Concat", f"{x} {z}", self.name(), axis=1))
        return self.dense(joined)

    def max_pool(self, x: str) -> str:
        rows = self.step(4, node("Reshape", f"{x} rows", self.name()))
        pooled = self.step(3, node("MaxPool", rows, self.name(), kernel_shape=[2]))
        return self.dense(self.step(3, node("Flatten", pooled, self.name())))

    def mean(self, x: str) -> str:
        pairs = self.step(4, node("Reshape", f"{x} pairs", self.name()))
        return self.dense(self.step(2, node("ReduceMean", pairs, self.name(), axes=[2], keepdims=0)))

    def network(self) -> Network:
        return Network(self.steps, self.inputs, self.weights)


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


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("seed", range(12))
def test_random_network(seed, preset):
    check(random_network(seed), preset)


def test_random_networks_have_everything():
    ops = {made.op_type for seed in range(12) for made in random_network(seed).nodes}
    assert ops >= {"Gemm", "MatMul", "Relu", "Add", "Sub", "Sum", "Concat", "MaxPool", "ReduceMean", "BatchNormalization"}


def chain() -> Network:
    grown = Growing(1)
    h = grown.relu(grown.dense("x"))
    grown.dense(grown.relu(grown.dense(h)), 3, y="y")
    return grown.network()


def residual() -> Network:
    grown = Growing(2)
    h = grown.relu(grown.dense("x"))
    grown.dense(grown.relu(grown.add(h, grown.dense(h))), 3, y="y")
    return grown.network()


def diamond() -> Network:
    grown = Growing(3)
    h = grown.relu(grown.dense("x"))
    grown.dense(grown.relu(grown.concat(grown.relu(grown.dense(h)), grown.relu(grown.affine_dense(h)))), 3, y="y")
    return grown.network()


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


def weights(seed: int, **shapes: Sequence[int]) -> dict[str, np.ndarray]:
    """Random; what ends in _var is positive, and vectors are small, as biases are."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes.items():
        value = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1) * (1 if len(shape) > 1 else 0.3)
        made[name] = (np.abs(value) + 0.5 if name.endswith("_var") else value).astype(np.float32)
    return made


def norm(x: str, prefix: str, y: str) -> NodeProto:
    return node("BatchNormalization", " ".join([x, *(f"{prefix}_{part}" for part in ("gain", "shift", "mean", "var"))]), y)


def norm_weights(prefix: str, size: int) -> dict[str, Sequence[int]]:
    return {f"{prefix}_{part}": (size,) for part in ("gain", "shift", "mean", "var")}


def plain(shape: Sequence[int] = (3, 7, 8)) -> Network:
    steps = [
        [node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]), norm("c1", "n1", "n1")],
        [node("Relu", "n1", "r1")],
        [node("MaxPool", "r1", "p1", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])],
        [node("Conv", "p1 w2 b2", "c2", strides=[2, 2], auto_pad="SAME_UPPER")],
        [node("Relu", "c2", "r2")],
        [node("GlobalAveragePool", "r2", "g")],
        [node("Flatten", "g", "f")],
        [node("Gemm", "f w3 b3", "y", transB=1)],
    ]
    shapes = {"w1": (4, 3, 3, 3), "b1": (4,), **norm_weights("n1", 4), "w2": (6, 4, 3, 3), "b2": (6,), "w3": (4, 6), "b3": (4,)}
    return Network(steps, {"x": shape}, weights(1, **shapes), FLOAT)


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
