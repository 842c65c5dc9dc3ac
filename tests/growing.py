"""Random graphs that grow layer by layer beside their explanation by the oracle, and nets to compile."""

# ruff: noqa: N806  (W, R, ... are the letters of the papers)

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx
import oracle
from nets import DOUBLE, FLOAT, Session, Shape, assert_near, model, node, pool_windows
from onnx import ModelProto, NodeProto
from oracle import Affine, Array, MaxPool, Relu, Rule

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.graph import normal

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
    normal.normalise(source)
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
