"""Every entry of the table is asked every question, and the answers are held against ONNX Runtime. Nobody else has a list."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import FLOAT, Bench, Session, eighths, model, node
from onnx import ModelProto, TensorProto

import onnxdtd
from onnxdtd.compiler.compile import prepare
from onnxdtd.compiler.samples import Samples
from onnxdtd.errors import ModelError
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.spread import followed
from onnxdtd.operators.table import (
    ALL,
    AS_THEY_ARE,
    CONSTANT,
    HANDED_ON,
    HEAD,
    IN_ORDER,
    KINDS,
    LINEAR,
    MOVE,
    NORM,
    OPERATORS,
    POINTWISE,
    PRODUCT,
    ROUTE,
    UNKNOWN,
    of,
)
from onnxdtd.request import Request

SHAPE = (2, 4, 3, 3)
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Case:
    """One node on x: its inputs as words, constants, attributes, operator set and the shape of x."""

    inputs: str = "x"
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    opset: int = 18
    shape: tuple[int, ...] = SHAPE
    outputs: str = "y"

    def proto(self, op: str) -> ModelProto:
        return model(
            [node(op.partition(".")[0], self.inputs, self.outputs, **self.attrs)],
            {"x": self.shape},
            ["y"],
            self.constants,
            opset=self.opset,
        )


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


GRID = {"s": np.array(0.5, FLOAT), "z": np.array(0, np.uint8)}
ONE = {"c": np.ones((4, 1, 1), FLOAT)}
NORMED = {"g": np.ones(4, FLOAT), "b": np.zeros(4, FLOAT)}
SCATTER = {"i": np.tile(ints(1, 0), (2, 4, 3, 1)), "u": np.ones((2, 4, 3, 2), FLOAT)}
SCATTER_ND = {"i": np.stack(np.meshgrid(ints(0, 1), ints(3, 0), indexing="ij"), -1), "u": np.ones((2, 2, 3, 3), FLOAT)}
CASES = {
    **dict.fromkeys(("Add", "Sub", "Sum", "Mean", "Mul", "Div", "Max", "Min"), Case("x c", ONE)),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), Case(attrs={"kernel_shape": [2, 2]})),
    **dict.fromkeys(("SpaceToDepth", "DepthToSpace"), Case(attrs={"blocksize": 2}, shape=(2, 4, 4, 4))),
    **dict.fromkeys(("InstanceNormalization",), Case("x g b", NORMED)),
    **dict.fromkeys(
        (
            "ReduceMean",
            "ReduceSum",
            "ReduceMax",
            "ReduceMin",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceProd",
            "ReduceLogSum",
            "ReduceLogSumExp",
        ),
        Case("x a", {"a": ints(2, 3)}),
    ),
    "MatMul": Case("x w", {"w": eighths(RNG, 3, 5, low=0)}),
    "Gemm": Case("x w", {"w": eighths(RNG, 4, 5, low=0)}, shape=(2, 4)),
    "Einsum": Case("x w", {"w": eighths(RNG, 3, 5, low=0)}, {"equation": "abcd,de->abce"}),
    "Conv": Case("x w", {"w": eighths(RNG, 5, 4, 2, 2)}),
    "ConvTranspose": Case("x w", {"w": eighths(RNG, 4, 5, 2, 2)}),
    "Resize": Case("x _ _ s", {"s": ints(2, 4, 5, 5)}, {"mode": "linear"}),
    "BatchNormalization": Case("x g b b g", NORMED),
    "LayerNormalization": Case("x g", {"g": np.ones(3, FLOAT)}),
    "RMSNormalization": Case("x g", {"g": np.ones(3, FLOAT)}, opset=23),
    "Transpose": Case(attrs={"perm": [0, 2, 1, 3]}),
    "Reshape": Case("x s", {"s": ints(2, -1)}),
    "Squeeze": Case("x a", {"a": ints(1)}, shape=(2, 1, 3)),
    "Unsqueeze": Case("x a", {"a": ints(1)}),
    "Concat": Case("x c", {"c": np.ones(SHAPE, FLOAT)}, {"axis": 1}),
    "Split": Case("x", {}, {"axis": 1, "num_outputs": 2}, outputs="y y2"),
    "Pad": Case("x p", {"p": ints(0, 0, 1, 0, 0, 0, 0, 1)}),
    "Slice": Case("x s e a", {"s": ints(1), "e": ints(3), "a": ints(1)}),
    "Gather": Case("x i", {"i": ints(2, 0)}, {"axis": 1}),
    "GatherND": Case("x i", {"i": ints(2, 0, 0, 0).reshape(2, 2, 1)}, {"batch_dims": 1}),
    "GatherElements": Case("x i", {"i": np.tile(ints(1, 0), (2, 4, 3, 1))}, {"axis": 3}),
    "ScatterElements": Case("x i u", SCATTER, {"axis": 3}),
    **{f"ScatterElements.{way}": Case("x i u", SCATTER, {"axis": 3, "reduction": way}) for way in ("max", "min")},
    **{f"ScatterND.{way}": Case("x i u", SCATTER_ND, {"reduction": way}) for way in ("max", "min")},
    "ScatterElements.add": Case("x i u", SCATTER, {"axis": 3, "reduction": "add"}),
    "ScatterND": Case("x i u", SCATTER_ND),
    "ScatterND.add": Case("x i u", SCATTER_ND, {"reduction": "add"}),
    "Compress": Case("x c", {"c": np.array([True, False, True])}, {"axis": 1}),
    "TopK": Case("x k", {"k": ints(2)}, {"axis": 1}, outputs="y i"),
    "CumSum": Case("x a", {"a": np.array(1)}),
    "Trilu": Case(),
    "DFT": Case(attrs={"axis": 2, "onesided": 1}, shape=(2, 4, 6, 1)),
    "STFT": Case("x s _ l", {"s": np.array(2), "l": np.array(6)}, shape=(2, 12, 1)),
    "Col2Im": Case("x s b", {"s": ints(3, 3), "b": ints(2, 2)}, shape=(2, 8, 4)),
    "ReverseSequence": Case("x l", {"l": ints(2, 3)}, {"batch_axis": 0, "time_axis": 1}),
    "Expand": Case("x s", {"s": ints(2, 4, 3)}, shape=(2, 1, 3)),
    "Tile": Case("x r", {"r": ints(1, 2, 1, 1)}),
    "Where": Case("c x n", {"c": np.array([True, False, True]), "n": np.float32(2)}),
    "PRelu": Case("x c", {"c": np.full((4, 1, 1), 0.5, FLOAT)}),
    "Clip": Case("x l h", {"l": np.float32(-1), "h": np.float32(2)}),
    "Gelu": Case(opset=20),
    "Cast": Case(attrs={"to": TensorProto.DOUBLE}),
    "QuantizeLinear": Case("x s z", GRID),
    "LRN": Case(attrs={"size": 3}),
    "Pow": Case("x c", {"c": np.float32(2)}),
    "Mod": Case("x c", {"c": np.float32(1.5)}, {"fmod": 1}),
    "Swish": Case(opset=24),
}
# Of integers, of another domain, and one whose shape onnx does not infer: they have tests of their own.
ELSEWHERE = {"DequantizeLinear", "Normalizer", "GroupNormalization"}
TESTED = sorted(
    op
    for op, entry in OPERATORS.items()
    if (entry.flow or entry.linear or entry.slope or entry.jacobian) and op not in ELSEWHERE
)


def values(shape: tuple[int, ...], low: float = -4.0) -> np.ndarray:
    """Multiples of 1/8, some of them 0."""
    found = np.clip(eighths(np.random.default_rng(5), *shape, low=-4) * 2, low, None)
    found.reshape(-1)[::5] = 0
    return found


@pytest.mark.parametrize("op", TESTED)
def test_signs(op: str) -> None:
    """What is said never to be negative is not: whatever goes in, or where nothing that goes in is."""
    case, entry = CASES.get(op, Case()), OPERATORS[op]
    bench = Bench(case.proto(op))
    run = Session(bench.proto)
    constant = lambda t: t.values is not None and bool(np.all(t.values >= 0))
    for low, known in ((-4.0, constant), (0.0, lambda t: t.name == "x" or constant(t))):
        with np.errstate(all="ignore"):
            y = run(x=values(case.shape, low))["y"]
        claimed = entry.sign is not None and entry.sign(bench.nodes[0], known)
        assert not claimed or not (y < 0).any(), low


@pytest.mark.parametrize("op", [op for op in TESTED if OPERATORS[op].keeps_zeros is not None])
def test_zeros(op: str) -> None:
    """An input that is 0 gets no relevance, if none comes to outputs that are 0; where that is said not to be so, it is not."""
    case, entry = CASES.get(op, Case()), OPERATORS[op]
    bench = Bench(case.proto(op))
    built, x = bench.nodes[0], values(case.shape)
    if entry.flow is None:  # a function: is f(0) = 0?
        assert bool(Session(bench.proto)(x=np.zeros(case.shape, FLOAT))["y"].any()) != entry.keeps_zeros
        return
    y = Session(bench.proto)(x=x)["y"]
    pairs = dict(entry.flow(bench.e, built, [bench.input("R", built.outputs[0]), *[None] * (len(built.outputs) - 1)]))
    place = next(i for i, t in enumerate(built.inputs) if t.name == "x")
    found = bench.session({"found": pairs[place]})(x=x, R=(y != 0).astype(y.dtype))["found"]
    assert bool(found[x == 0].any()) != entry.keeps_zeros


RISING = [op for op in TESTED if OPERATORS[op].monotone is not None]
SLOPED = [(op, alpha) for op in RISING for alpha in (0.5, -0.5) if "alpha" in onnx.defs.get_schema(op, 18).attributes]


@pytest.mark.parametrize(("op", "alpha"), [*((op, None) for op in RISING), *SLOPED])
def test_bounds(op: str, alpha: float | None) -> None:
    """What is said to rise, or to fall, does."""
    case, entry, x = CASES.get(op, Case()), OPERATORS[op], np.tile(np.linspace(-4, 4, 101, dtype=FLOAT), (2, 4, 1))
    if op in ("Log", "Sqrt", "Acosh"):  # where it is defined
        x = np.abs(x) + (op == "Acosh")
    if op in ("Asin", "Acos", "Atanh"):
        x = x / 5
    built = node(op, case.inputs, "y", **case.attrs, **({} if alpha is None else {"alpha": alpha}))
    constants = {name: np.max(value) for name, value in case.constants.items()}
    bench = Bench(model([built], {"x": x.shape}, ["y"], constants, opset=case.opset))
    y = Session(bench.proto)(x=np.sort(x, axis=2))["y"].astype(float)
    assert entry.monotone is not None
    assert not entry.monotone(bench.nodes[0]) or np.all(np.diff(y) >= 0) or np.all(np.diff(y) <= 0)
    assert alpha is not None or entry.monotone(bench.nodes[0])


@pytest.mark.parametrize("op", [op for op in TESTED if OPERATORS[op].even is not None])
def test_even_functions(op: str) -> None:
    """What is said not to tell x from −x does not; of powers, those with even exponents."""
    case, even, x = CASES.get(op, Case()), OPERATORS[op].even, values(SHAPE)
    assert even is not None
    for constants in [{"c": np.float32(c)} for c in (2, 3, 0.5, -2)] if op == "Pow" else [case.constants]:
        bench = Bench(replace(case, constants=constants).proto(op))
        run = Session(bench.proto)
        y, turned = (run(x=z)["y"] for z in (x, -x))
        assert np.array_equal(y, turned) == even(bench.nodes[0])


def test_values_at_0() -> None:
    for op in (op for op in TESTED if OPERATORS[op].start is not None):
        y = Session(CASES.get(op, Case()).proto(op))(x=np.zeros(SHAPE, FLOAT))["y"]
        assert (y == OPERATORS[op].start).all()
        assert OPERATORS[op].keeps_zeros is False


def test_a_negative_slope_keeps_no_sign() -> None:
    bench = Bench(model([node("Selu", "x", "y", gamma=-1.0)], {"x": [3]}, ["y"]))
    sign = OPERATORS["Selu"].sign
    assert sign is not None
    assert not sign(bench.nodes[0], lambda t: True)


@pytest.mark.parametrize("op", [op for op in TESTED if OPERATORS[op].linear or OPERATORS[op].constant])
def test_what_a_layer_costs(op: str) -> None:
    """As many multiply-adds as its matrix has entries for one sample that are not 0, one at least."""
    case, entry = CASES.get(op, Case()), OPERATORS[op]
    bench = Bench(case.proto(op))
    builder = entry.linear or entry.constant
    assert builder is not None
    assert entry.cost is not None
    cost = entry.cost(bench.nodes[0], builder(bench.e, bench.nodes[0], lambda t: t.name == "x"))
    assert cost >= np.prod(case.shape) / 9 > 0


@pytest.mark.parametrize("op", TESTED)
def test_where_the_axes_go(op: str) -> None:
    """As many axes as the output has, each of as many entries; the samples, in front, stay apart."""
    case = CASES.get(op, Case())
    bench = Bench(case.proto(op))
    (y, *_), (x,) = bench.nodes[0].outputs, bench.graph.inputs
    axes = followed(bench.nodes, [x])
    held, before = axes.of(y), axes.of(x)
    assert held is not None
    assert before is not None
    assert len(held) == len(y.shape or ())
    assert held[0] == before[0]
    assert before[0][0].mixed is None


def test_entries() -> None:
    """What an entry must say, by its kind, and what does not go together."""
    for op, entry in OPERATORS.items():
        assert entry.op == op
        assert entry.kind is None or entry.kind in KINDS, op
        assert entry.hands_on is None or entry.hands_on in HANDED_ON, op
        ways = [entry.linear, entry.constant, entry.slope, entry.jacobian, entry.flow]
        assert any(ways) == (entry.kind in (LINEAR, PRODUCT, POINTWISE, NORM, MOVE, ROUTE)), op
        assert (entry.linear is not None) == (entry.kind in (LINEAR, PRODUCT)), op
        assert entry.axes is not None or entry.kind in (None, CONSTANT, HEAD) or not any(ways), op
        assert entry.cost is not None or not (entry.linear or entry.constant or entry.slope or entry.jacobian), op
        assert entry.moves or entry.kind != MOVE, op
        assert entry.sign is not None or entry.kind != MOVE, op
        assert entry.hands_on in (None, AS_THEY_ARE) or entry.kind == MOVE, op
        assert entry.before is not None or entry.head is None, op
        assert entry.gate in (0, 1, 2, 3), op
        assert entry.monotone is None or entry.kind in (POINTWISE, ROUTE), op


HANDS_ON = [op for op, entry in OPERATORS.items() if entry.hands_on in (AS_THEY_ARE, IN_ORDER, ALL) and not entry.scaled]


@pytest.mark.parametrize("op", HANDS_ON)
def test_what_is_handed_on(op: str) -> None:
    case, entry = CASES.get(op, Case()), OPERATORS[op]
    x = np.arange(np.prod(case.shape), dtype=FLOAT).reshape(case.shape)
    y = Session(case.proto(op))(x=x)["y"]
    assert (y.shape == x.shape) or entry.hands_on != AS_THEY_ARE
    order = y.ravel() if entry.hands_on != ALL else np.sort(y, axis=None)
    np.testing.assert_array_equal(order, x.ravel())


def test_another_domain_is_not_known() -> None:
    x, y = Tensor("x"), Tensor("y")
    assert of(Node("Relu", "r", [x], [y], domain="com.example")) is UNKNOWN
    assert of(Node("Relu", "r", [x], [y], domain="ai.onnx")) is of(Node("Relu", "r", [x], [y])) is OPERATORS["Relu"]


# ---- facts that had been forgotten -----------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["Softsign", "HardSigmoid", "ThresholdedRelu", "Max"])
def test_a_net_that_begins_with_a_function_that_rises_has_a_first_layer(op: str) -> None:
    """Its bounds become those of the layer behind it."""
    begin = node(op, "x c" if op == "Max" else "x", "h")
    weights = {"w": eighths(RNG, 6, 3)} | ({"c": np.float32(0)} if op == "Max" else {})
    proto = model([begin, node("MatMul", "h w", "y")], {"x": ["n", 6]}, ["y"], weights)
    job = prepare(proto, Request(preset="dtd", low=-2.0, high=2.0))
    (layer,) = [step for step in job.plan.steps if step.facts is not None]
    assert layer.facts is not None
    assert (layer.facts.first, layer.facts.bounds) == (True, True)
    result = onnxdtd.Explainer(onnxdtd.compile(proto, "dtd", low=-2.0, high=2.0))(eighths(RNG, 2, 6, low=-1))
    np.testing.assert_allclose(result.relevance["x"].sum(1)[result.logit > 0], result.logit[result.logit > 0], rtol=1e-5)


@pytest.mark.parametrize("name", [True, False])
def test_samples_are_not_followed_through_an_operator_that_is_not_known(name: bool) -> None:
    """Det gives a number a matrix. That its output, of as many entries as there are samples, has one for each is a guess, which
    only the name of the size makes good.
    """
    size = "n" if name else 4
    nodes = [node("Mul", "x c", "h"), node("Det", "h", "d"), node("Unsqueeze", "d one", "u"), node("MatMul", "u w", "y")]
    weights = {"c": eighths(RNG, 3, 3), "one": ints(1), "w": eighths(RNG, 1, 3)}
    bench = Bench(model(nodes, {"x": [size, 3, 3]}, ["y"], weights))
    axes = followed(bench.nodes, bench.graph.inputs)
    samples = Samples(axes, bench.graph.inputs, bench.tensors["y"])
    assert samples.doubt == (None if name else "the rows of 'y' are no samples: they cannot be followed behind 'd_node' (Det)")


WEIGHTS = {
    "c": np.full((1, 3, 1, 1), 0.5, FLOAT),
    "k": eighths(RNG, 4, 3, 3, 3),
    "one": np.ones(4, FLOAT),
    "half": np.full(4, 0.5, FLOAT),
    "w": eighths(RNG, 16, 5),
    "ends": ints(0),
    "more": ints(-1),
    "v": eighths(RNG, 5, 3),
}
SAMPLE = [
    node("Sub", "x c", "p"),
    node("Conv", "p k", "z"),
    node("BatchNormalization", "z one half half one", "n"),
    node("Relu", "n", "r"),
    node("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2]),
    node("Transpose", "m", "t", perm=[0, 2, 3, 1]),
    node("Shape", "t", "s", start=0, end=1),
    node("Concat", "s more", "to", axis=0),
    node("Reshape", "t to", "f"),
    node("MatMul", "f w", "h"),
    node("Sigmoid", "h", "g"),
    node("Mul", "h g", "u"),
    node("Softplus", "u", "q"),
    node("Gemm", "q v", "y"),
]
SPARE = ("sign", "keeps_zeros", "axes", "counted", "hands_on", "constants", "places", "channels", "alike", "summed")
SPARE += ("narrowed", "learned", "fits", "scaled", "chooses", "moves")


def explained(count: int | str = "n") -> dict[str, Any]:
    """The relevance of a net by z+ with bounds, and the balance of its ledger; with a contrast, by way of a neuron."""
    proto = model(SAMPLE, {"x": [count, 3, 6, 6]}, ["y"], WEIGHTS)
    x = np.clip(eighths(np.random.default_rng(1), 2, 3, 6, 6), 0, 1)
    explain = onnxdtd.Explainer(onnxdtd.compile(proto, "dtd", low=[0.0] * 3, high=[1.0] * 3, contrast=True, ledger=True))
    result = explain(x)
    assert result.ledger is not None
    return {"x": result.relevance["x"], "logit": result.logit, "sum": result.ledger.totals()["relevance"]}


def test_a_fact_that_is_forgotten_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it relevance is the same, if at some more cost."""
    want = explained()
    for op in {n.op_type for n in SAMPLE}:
        entry = OPERATORS[op]
        for name in (name for name in SPARE if getattr(entry, name) not in (None, False)):
            with monkeypatch.context() as patch:
                patch.setitem(OPERATORS, op, replace(entry, **{name: None}))
                found = explained()
            for key, value in want.items():
                np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5, err_msg=f"{op} {name}")


@pytest.mark.parametrize("op", sorted({n.op_type for n in SAMPLE} - {"Shape", "Concat", "Sigmoid"}))
def test_forgotten_axes_are_missed_where_no_name_tells_them(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many entries as there are samples are no proof that they are the samples. (A factor has those of the other.)"""
    monkeypatch.setitem(OPERATORS, op, replace(OPERATORS[op], axes=None))
    with pytest.raises(ModelError, match=rf"the rows of 'y' are no samples: they cannot be followed behind '.*' \({op}\)"):
        explained(2)


# ---- nobody else has a list ------------------------------------------------------------------------------------------

ROOT = Path(onnxdtd.__file__).parent
# Each is about these operators themselves: nothing that another one could have as well.
MINE = {
    "graph/attended.py": "Attention RotaryEmbedding",  # whose definitions by others are long
    "graph/dynamic.py": "Cast Conv ConvInteger DynamicQuantizeLinear MatMul MatMulInteger Mul",  # and what these stand for
    "graph/fused.py": "Attention Clip Gelu",  # which a runtime's own operators of that name, or with it inside, amount to
    # what is computed of sizes and constants
    "graph/known.py": "Add And Cast Concat Div Equal Gather Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mod Mul "
    "Neg Not Or Reshape Shape Size Slice Squeeze Sub Unsqueeze Where",
    "graph/told.py": "AveragePool LpPool MaxPool Range Reshape",  # that may round up, and whose inputs are scalars or not
    # whose course is known
    "graph/unrolled.py": "ConcatFromSequence Identity If Loop Optional OptionalGetElement OptionalHasElement SequenceAt "
    "SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SplitToSequence",
    "graph/view.py": "Concat Identity",  # of nothing, and of a sequence
    # of what type results are, and arithmetic of sizes
    "graph/emit.py": "Add And ArgMax ArgMin Cast Concat Constant Equal Gather Greater GreaterOrEqual If Less Loop Max Mul Scan "
    "Shape Size Slice Sub Sum Where",
    "graph/portable.py": "*",  # in whose place others are written
    "graph/kernels.py": "Constant ConvTranspose Shape Size",  # what a runtime does with sizes and with pads
    # mends what is converted
    "graph/normal.py": "ConstantOfShape Hardmax Mul Resize Scatter ScatterElements Slice Upsample",
    "graph/shapes.py": "Constant",  # whose shape is not asked for
    "graph/spelled.py": "*",  # in which operators of the standard quantised ones and those of ai.onnx.ml are spelled
    "compiler/folded.py": "*",  # what is made of weights
    "compiler/alive.py": "Add Div Mul Neg Reshape Sqrt Sub",  # what biases are made of
    "graph/recurrent.py": "*",  # of what steps are made
    "graph/machines.py": "SVMClassifier SVMRegressor",  # which are seen as decisions
    "compiler/chained.py": "Concat",  # a shortcut for
    "compiler/rectified.py": "Relu",  # a shortcut for
    "compiler/steps.py": "If",  # how to do without
    "compiler/classlabels.py": "ArrayFeatureExtractor Constant Gather LabelEncoder",  # where labels are kept
    "study/audit/randomise.py": "Constant",  # where weights are kept
}
# Whose first argument is an operator that is written, or would be.
EMITTERS = {"e", "self", "multi", "Node", "make_node", "_emit", "_append", "offers", "write", "several"}


def named_operators(path: Path) -> set[str]:
    """The operators of ONNX that a module names, but for those that it writes."""
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain in ("", "ai.onnx.ml")}
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    calls = [n for n in nodes if isinstance(n, ast.Call) and n.args and ast.unparse(n.func).rpartition(".")[2] in EMITTERS]
    written = {id(part) for call in calls for part in ast.walk(call.args[0])}
    return {n.value for n in nodes if isinstance(n, ast.Constant) and id(n) not in written and n.value in known}


def test_operators_are_known_in_one_place() -> None:
    found = {}
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("operators/") and (ops := named_operators(path)):
            found[name] = ops
    allowed = {name: found.get(name, set()) if ops == "*" else set(ops.split()) for name, ops in MINE.items()}
    assert found == allowed


def test_a_list_is_found(tmp_path: Path) -> None:
    (tmp_path / "list.py").write_text('SMOOTH = ("Tanh", "words")\n\ndef f(e, x):\n    return e("Relu", e("Neg", x))\n')
    assert named_operators(tmp_path / "list.py") == {"Tanh"}
