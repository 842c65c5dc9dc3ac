"""LSTM, GRU and RNN are explained as what they come to, step by step; in the file they stay as they are."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import oracle
import pytest
from nets import Session, model, node
from onnx import ModelProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from recurrence import Array, Layer, Run

import onnxdtd
from onnxdtd.compiler.compile import planned, prepare
from onnxdtd.graph import emit, kernels, recurrent, shapes
from onnxdtd.graph.recurrent import GATES, MOST_STEPS, OPEN_STEPS, SIGNALS
from onnxdtd.request import Request

STEPS, BATCH, INPUTS, SIZE, CLASSES = 4, 3, 2, 3, 2
BLOCKS = {"LSTM": 4, "GRU": 3, "RNN": 1}
OUTPUTS = ("all", "last", "cell")
LENGTHS = np.asarray([4, 1, 3], np.int32)
PUBLISHED = partial(oracle.epsilon, eps=1e-3)


class Case:
    """A layer, whose outputs ``read`` go side by side into a dense one, its inputs and its attributes"""

    def __init__(
        self,
        op: str,
        direction: str = "forward",
        read: str = "all last cell",
        *,
        lengths: bool = False,
        initial: bool = False,
        bias: bool = True,
        activations: list[tuple[Any, ...]] | None = None,
        **attrs: int,
    ):
        rng, count = np.random.default_rng(7), 2 if direction == "bidirectional" else 1
        draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
        rows = BLOCKS[op] * SIZE
        self.read = [name for name in read.split() if name != "cell" or op == "LSTM"]
        self.weights = {
            "w": draw(count, rows, INPUTS),
            "r": draw(count, rows, SIZE),
            "b": draw(count, 2 * rows) * np.float32(bias),
        }
        taken = {name: value.astype(np.float64) for name, value in self.weights.items()}
        self.layer = Layer(op, **taken, direction=direction, activations=activations or [], **attrs)
        self.weights = {name: value for name, value in self.weights.items() if bias or name != "b"}
        sizes = {"all": STEPS * count * SIZE, "last": count * SIZE, "cell": count * SIZE}
        self.weights["v"] = draw(sum(sizes[name] for name in self.read), CLASSES)
        self.x = draw(STEPS, BATCH, INPUTS)
        states = ["h0", "c0"][: 1 + (op == "LSTM")] if initial else []
        self.states = {name: draw(count, BATCH, SIZE) for name in states}
        self.lengths = LENGTHS if lengths else None
        names = [name for name, *_ in activations or []]
        lists = {"alpha": [m[0] for _, *m in activations or [] if m], "beta": [m[1] for _, *m in activations or [] if m[1:]]}
        self.attrs: dict[str, Any] = {**attrs, **{f"activation_{key}": each for key, each in lists.items() if each}}
        self.attrs |= {"activations": names} if names else {}

    def source(self, **attrs: Any) -> ModelProto:
        """[steps, batch, inputs] -> [batch, classes]"""
        inputs = ["x", "w", "r", "b" if "b" in self.weights else "_", "lengths" if self.lengths is not None else "_"]
        outputs = [name if name in self.read else "" for name in OUTPUTS[: 3 if self.layer.op == "LSTM" else 2]]
        layer = node(self.layer.op, " ".join([*inputs, *self.states]), "all", hidden_size=SIZE, direction=self.layer.direction)
        layer.output[:] = outputs
        layer.attribute.extend(onnx.helper.make_attribute(*pair) for pair in {**self.attrs, **attrs}.items())
        batched = bool(attrs.get("layout"))
        nodes = [layer, *(self._flat(name, batched) for name in self.read if not batched)]
        nodes += [node("Reshape", f"{name if batched else name + '_t'} rows", f"{name}_f") for name in self.read]
        nodes += [node("Concat", " ".join(f"{name}_f" for name in self.read), "f", axis=1), node("MatMul", "f v", "y")]
        weights = {**self.weights, "rows": np.int64([0, -1])}
        weights |= {} if self.lengths is None else {"lengths": self.lengths}
        shapes = {name: list(value.shape) for name, value in self.states.items()}
        turned = [BATCH, STEPS, INPUTS] if batched else [STEPS, BATCH, INPUTS]
        return model(nodes, {"x": turned, **shapes}, ["y"], weights)

    def _flat(self, name: str, batched: bool) -> onnx.NodeProto:
        return node("Transpose", name, f"{name}_t", perm=[2, 0, 1, 3] if name == "all" else [1, 0, 2])

    def run(self, x: Array) -> Run:
        return Run(self.layer, x.astype(np.float64), self.lengths, *self.states.values())

    def logits(self, x: Array) -> Array:
        run = self.run(x)
        found = {"all": run.y.transpose(2, 0, 1, 3), "last": run.h.transpose(1, 0, 2), "cell": run.c.transpose(1, 0, 2)}
        return np.concatenate([found[name].reshape(BATCH, -1) for name in self.read], 1) @ self.weights["v"]

    def expected(self, rule: oracle.Rule, found: dict[str, Array]) -> tuple[Array, Array, Array]:
        """Relevance, given what the file says of that of the outputs"""
        run = self.run(self.x)
        pairs = zip(OUTPUTS, (run.y, run.h, run.c), strict=True)
        return run.back(rule, *(found.get(f"relevance/{name}", np.zeros_like(a)) for name, a in pairs))


HARD = [("HardSigmoid", 0.3, 0.4), ("Tanh",), ("Relu",), ("HardSigmoid", 0.25, 0.5), ("Relu",), ("Tanh",)]
CASES = {
    "lstm": Case("LSTM"),
    "lstm, both ways, lengths, states": Case("LSTM", "bidirectional", lengths=True, initial=True),
    "lstm, backwards": Case("LSTM", "reverse", "last", lengths=True),
    "lstm, activations": Case("LSTM", "bidirectional", "all", activations=HARD),
    "lstm, no bias, coupled": Case("LSTM", "reverse", "cell", bias=False, input_forget=1),
    "gru": Case("GRU", "bidirectional", lengths=True),
    "gru, states": Case("GRU", "reverse", "all", initial=True),
    "gru, reset after": Case("GRU", "bidirectional", initial=True, linear_before_reset=1),
    "gru, reset after, lengths": Case("GRU", "forward", "last", lengths=True, linear_before_reset=1),
    "gru, no bias": Case("GRU", "forward", "last", bias=False, linear_before_reset=1),
    "rnn": Case("RNN", "bidirectional", lengths=True, initial=True),
    "rnn, relu": Case("RNN", "reverse", "last", activations=[("LeakyRelu", 0.3)]),
}
RULES = {"epsilon(epsilon=0.001)": PUBLISHED, "z+": oracle.z_plus}


def preset(folder: Path, rule: str) -> Path:
    """Gates hand on all that comes to what they let through."""
    path = folder / "mine.toml"
    layers = f'[{{ family = "affine", rule = "flat" }}, {{ rule = "{rule}" }}]'
    path.write_text(f'[preset.mine]\ntitle = "m"\nsource = "m"\nlayers = {layers}\n')
    return path


def near(found: Array, expected: Array, tolerance: float = 2e-4) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * max(float(np.abs(expected).max()), 1e-3))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", CASES)
def test_relevance_is_that_of_the_published_rule(name: str, rule: str, tmp_path: Path) -> None:
    case, source = CASES[name], CASES[name].source()
    compiled = onnxdtd.compile(source, preset(tmp_path, rule), target=1, keep=case.read)
    onnx.checker.check_model(compiled, full_check=True)
    assert list(compiled.graph.node)[: len(source.graph.node)] == list(source.graph.node)
    found = Session(compiled)(x=case.x, **case.states)
    np.testing.assert_array_equal(found["y"], Session(source)(x=case.x, **case.states)["y"])
    near(found["y"], case.logits(case.x), 1e-5)
    expected = dict(zip(("x", "h0", "c0"), case.expected(RULES[rule], found), strict=True))
    near(found["relevance/x" if case.states else "relevance"], expected["x"])
    for state in case.states:
        near(found[f"relevance/{state}"], expected[state])


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_the_definition(name: str) -> None:
    case = CASES[name]
    compiled = onnxdtd.compile(case.source(), "gradient", target=0)
    d = np.random.default_rng(3).normal(size=case.x.shape)
    ends = [case.logits(case.x + step * d)[:, 0] for step in (1e-6, -1e-6)]
    found = Session(compiled)(x=case.x, **case.states)
    g = found["relevance/x" if case.states else "relevance"]
    near((g * d).sum((0, 2)), (ends[0] - ends[1]) / 2e-6)
    if case.lengths is not None:
        assert not g[np.arange(STEPS)[:, None] >= case.lengths].any()


def test_batch_first() -> None:
    """ONNX Runtime has no such layer, onnx itself has."""
    for read in ("all last", "cell"):
        case = Case("LSTM", read=read)
        x = case.x.transpose(1, 0, 2)
        plain, turned = (onnxdtd.compile(case.source(**more), "lrp-epsilon", target=0) for more in ({}, {"layout": 1}))
        evaluator = ReferenceEvaluator(turned)
        found = dict(zip(evaluator.output_names, evaluator.run(None, {"x": x}), strict=True))
        expected = Session(plain)(x=case.x)
        near(found["relevance"], expected["relevance"].transpose(1, 0, 2), 1e-4)


@pytest.mark.parametrize(
    ("op", "preset", "told"),
    [
        ("LSTM", "attnlrp", True),
        ("GRU", "attnlrp-epsilon", True),
        ("GRU", "cp-lrp", False),
        ("LSTM", "gradient", False),
        ("RNN", "attnlrp", False),
    ],
)
def test_that_early_steps_fade_is_said(op: str, preset: str, told: bool) -> None:
    """Where gates have half of what passes them."""
    notes = prepare(Case(op).source(), Request(preset=preset, target=1)).plan.notes
    assert any("so that early steps fade; cp-lrp and lrp-epsilon give them nothing" in note for note in notes) == told


def test_what_initial_states_take_is_in_the_ledger() -> None:
    """They are constants here, and not zero."""
    case = Case("LSTM", "bidirectional", lengths=True, initial=True, bias=False)
    source = case.source()
    del source.graph.input[1:]
    source.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in case.states.items())
    compiled = onnxdtd.compile(source, "lrp-0", target=1, ledger=True, keep=case.read)
    found = Session(compiled)(x=case.x)
    _, h0, c0 = case.expected(partial(oracle.epsilon, eps=0), found)
    book = onnxdtd.Explainer(compiled)(case.x).ledger
    assert book is not None
    near(np.asarray(book.totals()["constants"]), h0.sum((0, 2)) + c0.sum((0, 2)), 1e-3)
    near(found["relevance"].sum((0, 2)) + h0.sum((0, 2)) + c0.sum((0, 2)), found["logit"], 1e-3)


def test_padded_steps_and_other_samples_do_not_matter() -> None:
    """A sample by itself, without the steps behind its end, has the relevance that it has among others."""
    case = Case("GRU", "bidirectional", "last", lengths=True, linear_before_reset=1)
    found = Session(onnxdtd.compile(case.source(), "lrp-epsilon", target=1))(x=case.x)["relevance"]
    noise = case.x + 9 * (np.arange(STEPS)[:, None] >= LENGTHS)[..., None].astype(np.float32)
    np.testing.assert_array_equal(Session(onnxdtd.compile(case.source(), "lrp-epsilon", target=1))(x=noise)["relevance"], found)
    alone = case.source()
    kept = {t.name: t for t in alone.graph.initializer}["lengths"]
    kept.CopyFrom(numpy_helper.from_array(LENGTHS[2:], "lengths"))
    for value in (*alone.graph.input, *alone.graph.output):
        value.type.tensor_type.shape.dim[value.name == "x"].dim_value = 1
    single = Session(onnxdtd.compile(alone, "lrp-epsilon", target=1))(x=case.x[:, 2:])["relevance"]
    near(single[:, 0], found[:, 2], 1e-5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"clip": 3.0}, "there is no rule for its attribute clip"),
        ({"activations": ["Tanh", "Tanh", "Tanh"]}, "its activation 'tanh' is none of those of a gate"),
        ({"activations": ["Sigmoid", "Affine", "Tanh"]}, "its activation 'affine' is none"),
        ("p", "there is no rule for its peepholes"),
        (
            MOST_STEPS + 1,
            f"it takes {MOST_STEPS + 1} steps, of which no more than {MOST_STEPS} are written unless they are asked for: "
            f"--most-steps {MOST_STEPS + 1}",
        ),
    ],
)
def test_refused(change: Any, reason: str) -> None:
    case = Case("LSTM", read="last")
    source = case.source(**change) if isinstance(change, dict) else case.source()
    if change == "p":
        source.graph.node[0].input.extend(["", "", "p"])
        source.graph.initializer.append(numpy_helper.from_array(np.ones((1, 3 * SIZE), np.float32), "p"))
    elif not isinstance(change, dict):
        source.graph.input[0].type.tensor_type.shape.dim[0].dim_value = change
    with pytest.raises(onnxdtd.Unsupported, match=rf"LSTM x1 \(all_node\): {re.escape(reason)}"):
        onnxdtd.compile(source, "lrp-epsilon")


@pytest.mark.parametrize("opset", [17, 21, 22, 24])
def test_steps_run_everywhere(opset: int) -> None:
    """Those behind lengths too, which are integers of 32 bits"""
    assert [op for op in (*GATES, *SIGNALS) if not kernels.offered(op, opset)] == []
    source = Case("LSTM", "bidirectional", lengths=True, initial=True).source()
    source.opset_import[0].version = opset
    compiled = onnxdtd.compile(source, "lrp-epsilon", target=1)
    for provider, version in (("CPU", None), ("CUDA", kernels.oldest(opset))):
        found = kernels.lacking(compiled.graph, opset, shapes.element_types(compiled), provider, version)
        assert [compiled.graph.node[at].op_type for at, _ in found if at >= len(source.graph.node)] == []


def test_the_shapes_of_a_long_walk_are_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that does not know them looks at all tensors again for each."""
    case = Case("GRU", read="last")
    source = case.source()
    for value, axis in ((source.graph.input[0], 1), (source.graph.output[0], 0)):
        value.type.tensor_type.shape.dim[axis].dim_param = "n"
    short = onnxdtd.compile(source, "lrp-epsilon", target=1)
    monkeypatch.setattr(emit, "MANY", 10)
    long = onnxdtd.compile(source, "lrp-epsilon", target=1)
    assert len(short.graph.value_info) < 3
    assert len(long.graph.value_info) > 8 * STEPS
    assert list(long.graph.node) == list(short.graph.node)
    np.testing.assert_array_equal(*(Session(proto)(x=case.x)["relevance"] for proto in (short, long)))


# ---- a number of steps that is open -----------------------------------------------------------------------------------

ENDS = {  # what becomes of all states [steps, batch, directions · size]
    "last": [node("Gather", "s end", "f", axis=0)],
    "mean": [node("ReduceMean", "s", "f", axes=[0], keepdims=0)],
    "largest": [node("ReduceMax", "s", "f", axes=[0], keepdims=0)],
    "attended": [
        node("MatMul", "s u", "e"),
        node("Softmax", "e", "a", axis=0),
        node("Mul", "a s", "as"),
        node("ReduceSum", "as zero", "f", keepdims=0),
    ],
}


def net(case: Case, steps: int | str, end: str, batch: int | str = "n", given: bool = False) -> ModelProto:
    """[steps, batch, inputs] -> [batch, classes], by way of an ``end``, or of the last states; lengths are an input, if any"""
    count, rng = len(case.weights["w"]), np.random.default_rng(1)
    outputs = "s_all last" + " cell" * (case.layer.op == "LSTM")
    nodes = [
        node(
            case.layer.op, "x w r b lengths" if given else "x w r b", outputs, hidden_size=SIZE, direction=case.layer.direction
        )
    ]
    nodes[0].attribute.extend(onnx.helper.make_attribute(*pair) for pair in case.attrs.items())
    if end == "state":
        nodes += [node("Transpose", "last", "last_t", perm=[1, 0, 2]), node("Reshape", "last_t flat", "f")]
    else:
        nodes += [node("Transpose", "s_all", "s_t", perm=[0, 2, 1, 3]), node("Shape", "s_t", "head", start=0, end=2)]
        nodes += [node("Concat", "head rest", "shape", axis=0), node("Reshape", "s_t shape", "s"), *ENDS[end]]
    weights = {**case.weights, "v": rng.normal(size=(count * SIZE, CLASSES)).astype(np.float32)}
    weights |= {"u": rng.normal(size=(count * SIZE, 1)).astype(np.float32), "rest": np.int64([-1])}
    weights |= {"end": np.int64(-1), "zero": np.int64([0]), "flat": np.int64([0, -1])}
    told = [node("Cast", "ends", "lengths", to=onnx.TensorProto.INT32)] * given
    inputs = {"x": [steps, batch, INPUTS], **({"ends": [batch]} if given else {})}
    return model([*told, *nodes, node("MatMul", "f v", "y")], inputs, ["y"], weights)


OPEN = {
    "lstm, last, gradient": (Case("LSTM"), "last", "gradient"),
    "lstm, mean, attnlrp": (Case("LSTM", "bidirectional"), "mean", "attnlrp"),
    "gru, attended, lrp-epsilon": (Case("GRU", "bidirectional", linear_before_reset=1), "attended", "lrp-epsilon"),
    "gru, state, dtd": (Case("GRU", "reverse"), "state", "dtd"),
    "rnn, largest, lrp-epsilon": (Case("RNN", "bidirectional"), "largest", "lrp-epsilon"),
}


@pytest.mark.parametrize("name", OPEN)
def test_an_open_length(name: str) -> None:
    """Relevance is that of a file for this length, and has its shape."""
    case, end, preset = OPEN[name]
    options: Any = {"preset": preset, "low": -4, "high": 4, "target": 1}
    source = net(case, "t", end)
    compiled = onnxdtd.compile(source, most_steps=STEPS, **options)
    onnx.checker.check_model(compiled, full_check=True)
    assert list(compiled.graph.node)[: len(source.graph.node)] == list(source.graph.node)
    for steps, batch in ((1, 1), (3, 2), (STEPS, 3)):
        x = case.x[:steps, :batch]
        found, expected = (Session(proto)(x=x) for proto in (compiled, onnxdtd.compile(net(case, steps, end), **options)))
        np.testing.assert_array_equal(found["y"], expected["y"])
        assert found["relevance"].shape == x.shape
        near(found["relevance"], expected["relevance"], 1e-6)


def silent(proto: ModelProto) -> Any:
    """A session that says nothing where it fails"""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("rule", ["epsilon", "flat"])
@pytest.mark.parametrize("end", ["last", "state"])
def test_a_longer_input_is_an_error(end: str, rule: str, tmp_path: Path) -> None:
    """Whatever a rule reads of the forward pass; nothing is cut off."""
    case = Case("RNN")
    compiled = onnxdtd.compile(net(case, "t", end), preset(tmp_path, rule), target=1, most_steps=STEPS - 1)
    with pytest.raises(Exception, match=f"s_all_node/at most {STEPS - 1} steps"):
        silent(compiled).run(["relevance"], {"x": case.x})
    words = f"compiled for at most {STEPS - 1} steps, the input 'x' has {STEPS}; .*--most-steps {STEPS}$"
    with pytest.raises(onnxdtd.RequestError, match=words):
        onnxdtd.Explainer(compiled)(case.x)
    assert onnxdtd.Explainer(compiled).metadata["lengths"] == {"x": 0}
    assert onnxdtd.Explainer(compiled)(case.x[1:]).relevance["x"].shape == (STEPS - 1, BATCH, INPUTS)


def test_a_longer_input_that_the_layer_does_not_read_itself() -> None:
    """It has every second step, so that nobody knows before which input is too long."""
    case = Case("GRU", "bidirectional")
    source = net(case, "t", "last")
    source.graph.node[0].input[0] = "second"
    source.graph.node.insert(0, node("Slice", "x zero far zero two", "second"))
    weights = {"far": np.int64([2**31]), "two": np.int64([2])}
    source.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    explainer = onnxdtd.Explainer(onnxdtd.compile(source, "lrp-epsilon", target=1, most_steps=2))
    relevance = explainer(case.x).relevance["x"]
    short = onnxdtd.compile(net(case, 2, "last"), "lrp-epsilon", target=1)
    near(relevance[::2], Session(short)(x=case.x[::2])["relevance"])
    assert not relevance[1::2].any()
    with pytest.raises(onnxdtd.RequestError, match="at most 2 steps, what the input comes to in a recurrent layer has more;"):
        explainer(np.concatenate([case.x, case.x]))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lengths_in_an_open_length(direction: str) -> None:
    """Steps behind the end of a sequence have nothing, and a sequence has what it has alone."""
    case, end = Case("LSTM", direction), "state" if direction == "forward" else "mean"
    explainer = onnxdtd.Explainer(onnxdtd.compile(net(case, "t", end, given=True), "lrp-0", target=1, most_steps=STEPS + 1))
    found = explainer({"x": case.x, "ends": LENGTHS}).relevance["x"]
    assert not found[np.arange(STEPS)[:, None] >= LENGTHS].any()
    for i, length in enumerate(LENGTHS):
        alone = explainer({"x": case.x[:length, i : i + 1], "ends": LENGTHS[i : i + 1]}).relevance["x"][:, 0]
        near(found[:length, i] * (STEPS if end == "mean" else 1), alone * (length if end == "mean" else 1), 1e-5)


def test_the_ledger_of_an_open_length() -> None:
    """What comes to constant initial states is there, and nothing behind the end."""
    case = Case("LSTM", "bidirectional", initial=True, bias=True)
    totals = []
    for steps in ("t", 3):
        source = net(case, steps, "mean", 2)
        source.graph.node[0].input.extend(["", *case.states])
        source.graph.initializer.extend(numpy_helper.from_array(value[:, :2], name) for name, value in case.states.items())
        compiled = onnxdtd.compile(source, "lrp-0", target=1, ledger=True, most_steps=STEPS)
        book = onnxdtd.Explainer(compiled)(case.x[:3, :2]).ledger
        assert book is not None
        totals.append(book.totals())
    assert np.abs(totals[1]["constants"]).min() > 1e-3
    for column, values in totals[1].items():
        np.testing.assert_allclose(totals[0][column], values, rtol=1e-5, atol=1e-6)


def test_more_steps_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("GRU", "bidirectional", "last")
    usual = Session(onnxdtd.compile(case.source(), "lrp-epsilon", target=1))(x=case.x)["relevance"]
    monkeypatch.setattr(recurrent, "MOST_STEPS", 2 * STEPS - 1)
    for most in (None, STEPS - 1):
        with pytest.raises(onnxdtd.Unsupported, match=f"it takes {2 * STEPS} steps, .* asked for: --most-steps {STEPS}"):
            onnxdtd.compile(case.source(), "lrp-epsilon", most_steps=most)
    asked = onnxdtd.compile(case.source(), "lrp-epsilon", target=1, most_steps=STEPS)
    np.testing.assert_array_equal(Session(asked)(x=case.x)["relevance"], usual)


@pytest.mark.parametrize("most", [None, 2, 4])
def test_what_an_open_length_costs_is_said(most: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxdtd.compiler.compile.MOST_STEPS", 3)
    source = net(Case("RNN"), "t", "state")
    notes = planned(source, Request(most_steps=most)).plan.notes
    assert (
        f"recurrent layers take {most or OPEN_STEPS} steps at most, and no less time for fewer; --most-steps N sets that"
        in notes
    )
    assert any("ONNX Runtime takes 10 s to load 512" in note for note in notes) == ((most or OPEN_STEPS) > 3)


def test_lengths_that_an_exporter_has_seen() -> None:
    """PyTorch declares them of what comes behind a recurrent layer, where the input has an open one."""
    case = Case("GRU", "bidirectional")
    told = net(case, "t", "largest")
    seen = {"s": [9, "n", 2 * SIZE], "s_t": ["t", "n", 2, SIZE]}
    told.graph.value_info.extend(onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in seen.items())
    for source in (told, net(case, "t", "largest")):
        compiled = onnxdtd.compile(source, "lrp-epsilon", target=1, most_steps=STEPS)
        found = Session(compiled)(x=case.x)["relevance"]
        near(found, Session(onnxdtd.compile(net(case, STEPS, "largest"), "lrp-epsilon", target=1))(x=case.x)["relevance"], 1e-6)
        declared = [value.name for value in compiled.graph.value_info if value.name in seen]
        changes = onnxdtd.Explainer(compiled).metadata["changes"]
        assert declared == ["s_t"] * (source is told)
        assert list(changes) == ["declared shapes with a length that the exporter has seen left out"] * (source is told)


def test_an_open_length_runs_everywhere() -> None:
    source = net(Case("LSTM", "bidirectional"), "t", "mean", given=True)
    for opset in (17, 21, 24):
        source.opset_import[0].version = opset
        if opset > 17:
            (pooled,) = [made for made in source.graph.node if made.op_type == "ReduceMean"]
            del pooled.attribute[:1]
            pooled.input[:] = ["s", "zero"]
        compiled = onnxdtd.compile(source, "lrp-epsilon", target=1, most_steps=2)
        for provider, version in (("CPU", None), ("CUDA", kernels.oldest(opset))):
            found = kernels.lacking(compiled.graph, opset, shapes.element_types(compiled), provider, version)
            assert [compiled.graph.node[at].op_type for at, _ in found if at >= len(source.graph.node)] == []
