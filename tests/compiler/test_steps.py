"""The plan as data: where relevance starts, which rule goes where, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

import onnxdtd
from onnxdtd.compiler.compile import prepare
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.score import classes
from onnxdtd.request import Request

CONV_NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,1,6,6] image) => (float[N,3] probabilities)
<float[2,1,3,3] w1, float[2] b1, float[4,2,3,3] w2, float[3,16] w3>
{
   scaled = Div(image, factor)
   h1 = Conv<pads=[1,1,1,1]>(scaled, w1, b1)
   a1 = Relu(h1)
   h2 = Conv(a1, w2)
   p2 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h2)
   f = Flatten(p2)
   logits = Gemm<transB=1>(f, w3)
   probabilities = Softmax(logits)
}
"""


def text_model(text: str) -> onnx.ModelProto:
    """A model from ONNX text; weights that the text only declares become initializers of ones."""
    model = parser.parse_model(text)
    declared = {t.name: t for t in model.graph.value_info}
    for name, info in declared.items():
        shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
        size = 1
        for d in shape:
            size *= d
        model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, shape, [1.0] * size))
    del model.graph.value_info[:]
    return model


@pytest.fixture
def net() -> onnx.ModelProto:
    return text_model(CONV_NET.replace("float[3,16] w3>", "float[3,16] w3, float[1] factor>"))


def planned(model: onnx.ModelProto, **request: Any) -> Plan:
    return prepare(model, Request(**request)).plan


def test_kinds_and_rules(net: onnx.ModelProto) -> None:
    steps = [(s.op, s.kind, str(s.rule) if s.rule else "") for s in planned(net, low=0.0, high=1.0).steps]
    assert steps == [
        ("Div", "preprocessing", ""),
        ("Conv", "linear", "zB"),
        ("Relu", "pass", ""),
        ("Conv", "linear", "z+"),
        ("MaxPool", "route", ""),
        ("Flatten", "move", ""),
        ("Gemm", "linear", "z+"),
    ]


def test_without_bounds_the_first_layer_gets_w2(net: onnx.ModelProto) -> None:
    rules = [str(s.rule) for s in planned(net).steps if s.rule]
    assert rules == ["w2", "z+", "z+"]


FIRST = {  # the first layer of a classifier: its text, the shape of x, the preset that is chosen without bounds
    "dense": ("h = MatMul(x, w)", "N,6", "float[6,4] w", "lrp-epsilon"),
    "dense on a picture": ("f = Flatten(x) h = MatMul(f, w)", "N,1,2,3", "float[6,4] w", "lrp-epsilon"),
    "scaled": ("s = Div(x, d) h = MatMul(s, w)", "N,6", "float[6,4] w, float[6] d", "lrp-epsilon"),
    "dense on each row": ("m = MatMul(x, w) h = Flatten(m)", "N,2,6", "float[6,2] w", "lrp-epsilon"),
    "signal": ("c = Conv(x, w) h = Flatten(c)", "N,2,8", "float[1,2,5] w", "lrp-epsilon"),
    "signal as a picture": ("c = Conv(x, w) h = Flatten(c)", "N,2,1,8", "float[1,2,1,5] w", "lrp-epsilon"),
    "electrodes": ("c = Conv(x, w) h = Flatten(c)", "N,1,2,6", "float[1,1,1,5] w", "lrp-epsilon"),
    "points of a picture": ("c = Conv(x, w) h = Flatten(c)", "N,3,2,2", "float[1,3,1,1] w", "dtd"),
    "mean of a signal": ("c = ReduceMean<axes=[2]>(x) h = Flatten(c)", "N,4,8", "float[1] w", "lrp-epsilon"),
    "picture": ("c = Conv(x, w) h = Flatten(c)", "N,1,6,6", "float[1,1,5,5] w", "dtd"),
    "picture of any size": ("c = Conv(x, w) p = GlobalAveragePool(c) h = Flatten(p)", "N,3,H,W", "float[4,3,5,5] w", "dtd"),
    "clip": ("c = Conv(x, w) h = Flatten(c)", "N,1,4,4,4", "float[1,1,3,3,4] w", "dtd"),
}


@pytest.mark.parametrize("name", FIRST)
def test_the_default_preset_looks_at_the_values(name: str) -> None:
    """Deep Taylor's first layer without bounds, w², does not, but for a Conv that slides over a picture."""
    first, shape, weights, expected = FIRST[name]
    text = f"""<ir_version: 8, opset_import: ["" : 17]> net (float[{shape}] x) => (float[N,3] y) <{weights}, float[4,3] v>
    {{ {first} r = Relu(h) y = MatMul(r, v) }}"""
    made = text_model(text)
    job = prepare(made, Request())
    assert job.request.preset == job.plan.preset == expected
    chosen = [
        note for note in job.plan.notes if note.startswith("the preset is lrp-epsilon, since dtd, without bounds, shares")
    ]
    assert len(chosen) == len(job.plan.notes) == (expected != "dtd")
    bounded = prepare(made, Request(low=0.0, high=1.0))
    assert (bounded.request.preset, bounded.plan.notes, bounded.plan.by_weights) == ("dtd", [], [])
    asked = prepare(made, Request(preset="dtd"))
    assert asked.request.preset == "dtd"
    assert len(asked.plan.notes) == len(asked.plan.by_weights) == (expected != "dtd")
    for note in asked.plan.notes:
        assert note.startswith(f"the preset dtd shares relevance out by weights alone at {asked.plan.by_weights[0]!r}")
        assert "--low and --high" in note
    assert all(prepare(made, Request(preset=preset)).plan.by_weights == [] for preset in ("lrp-epsilon", "gradient", "dtd-z"))
    assert onnxdtd.compile(made).SerializeToString() == onnxdtd.compile(made, expected).SerializeToString()


ATTENTION = {
    "signed": ("", "v", "lrp-epsilon"),
    "positive": ("p = Relu(v)", "p", "dtd"),
    "weights": ("", "", "dtd"),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_the_default_preset_of_attention(name: str) -> None:
    """z⁺ takes one sign of the values that are added up; there may be none of the other, and weights are no values."""
    more, values, expected = ATTENTION[name]
    mixed = f"{more} r = MatMul(s, {values})" if values else "r = MatMul(s, u)"
    made = text_model(f"""<ir_version: 8, opset_import: ["" : 17]> net (float[N,4,4] x) => (float[N,3] y)
    <float[4,4] w, float[4,4] u, float[16,3] h, int64[2] flat = {{-1, 16}}>
    {{ v = MatMul(x, w) a = MatMul(x, u) s = Softmax(a) {mixed} f = Reshape(r, flat) y = MatMul(f, h) }}""")
    job, asked = prepare(made, Request(low=0.0, high=1.0)), prepare(made, Request(preset="dtd", low=0.0, high=1.0))
    assert job.plan.preset == expected
    told = [note for note in job.plan.notes if note.startswith("the preset is lrp-epsilon, since dtd takes one sign alone of")]
    assert len(told) == (expected != "dtd")
    asides = [note for note in asked.plan.notes if note.startswith("the preset dtd takes one sign alone of the values")]
    assert len(asides) == (expected != "dtd")
    assert not prepare(made, Request(preset="attnlrp")).plan.notes


def test_rules_set_by_hand_count_for_the_default_preset(net: onnx.ModelProto) -> None:
    dense = text_model("""<ir_version: 8, opset_import: ["" : 17]> net (float[N,6] x) => (float[N,3] y)
    <float[6,4] w, float[4,3] v> { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }""")
    assert planned(dense, settings=["h=z"]).preset == "dtd"
    assert planned(dense, settings=["h=flat"]).by_weights == ["h"]
    assert planned(net, settings=["h1=flat"]).by_weights == []


def test_one_of_two_inputs_without_bounds() -> None:
    made = text_model("""<ir_version: 8, opset_import: ["" : 17]> net (float[N,6] a, float[N,6] b) => (float[N,3] y)
    <float[6,3] w, float[6,3] v> { p = MatMul(a, w) q = MatMul(b, v) y = Add(p, q) }""")
    assert planned(made, low={"a": 0.0}, high={"a": 1.0}).preset == "lrp-epsilon"
    assert planned(made, preset="dtd", low={"a": 0.0}, high={"a": 1.0}).by_weights == ["q"]


def test_softmax_is_stepped_back_over(net: onnx.ModelProto) -> None:
    plan = planned(net)
    assert (plan.logits.name, [node.op for node in plan.stepped_back]) == ("logits", ["Softmax"])


HEADS = {  # how many logits s there are, what stands behind them, the operators stepped back over
    "two classes of one sigmoid": (
        1,
        "p = Sigmoid(s)  q = Sub(one, p)  y = Concat<axis=1>(q, p)",
        ["Sigmoid", "Concat"],
    ),
    "one against the rest": (
        3,
        "p = Sigmoid(s)  a = Abs(p)  n = ReduceSum<keepdims=1>(a, axis)  y = Div(p, n)",
        ["Sigmoid", "Div"],
    ),
    "sigmoid written out": (
        3,
        """m = Mul(s, minus)  e = Exp(m)  d = Add(e, one)  p = Reciprocal(d)
        n = ReduceSum<keepdims=1>(p, axis)  b = Cast<to=9>(n)  c = Not(b)  z = Cast<to=1>(c)
        more = Add(p, z)  mask = Mul(z, one)  total = Add(n, mask)  y = Div(more, total)""",
        ["Reciprocal", "Add", "Div"],
    ),
    "probabilities in eight bits": (
        3,
        "p = Softmax(s)  q = QuantizeLinear(p, one)  y = DequantizeLinear(q, one)",
        ["Softmax", "QuantizeLinear", "DequantizeLinear"],
    ),
    "and with Neg": (3, "m = Neg(s)  e = Exp(m)  d = Add(one, e)  y = Reciprocal(d)", ["Reciprocal"]),
}
NO_HEADS = {  # the score y itself is explained
    "classes in the other order": "p = Sigmoid(s)  q = Sub(one, p)  y = Concat<axis=1>(p, q)",
    "a prior for each class": "p = Sigmoid(s)  y = Add(p, prior)",
    "divided by something else": "p = Sigmoid(s)  t = Tanh(s)  a = Abs(t)  n = ReduceSum<keepdims=1>(a, axis)  y = Div(p, n)",
    "a grid for each class": "p = Softmax(s)  q = QuantizeLinear(p, prior)  y = DequantizeLinear(q, prior)",
    "another function": "m = Mul(s, one)  e = Exp(m)  d = Add(e, one)  y = Reciprocal(d)",
}


def headed(classes: int, head: str) -> onnx.ModelProto:
    """x W and a head behind it."""
    ones = text_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,4] x) => (float[N,{max(classes, 2)}] y)
        <float[4,{classes}] w, float[1] one, float[1] minus, float[3] prior>
        {{ s = MatMul(x, w) {head} }}"""
    )
    ones.graph.initializer.append(onnx.helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [1]))
    (minus,) = [t for t in ones.graph.initializer if t.name == "minus"]
    minus.float_data[0] = -1
    return ones


@pytest.mark.parametrize("head", HEADS)
def test_heads_written_out_are_stepped_back_over(head: str) -> None:
    count, text, ops = HEADS[head]
    plan = planned(headed(count, text))
    assert plan.logits.name == "s"
    assert [node.op for node in plan.stepped_back] == ops
    assert classes(plan) == max(count, 2)


@pytest.mark.parametrize("head", NO_HEADS)
def test_what_might_change_the_largest_is_explained_itself(head: str) -> None:
    made = headed(1 if head.startswith("classes") else 3, NO_HEADS[head])
    assert planned(made).logits.name == "y"


def test_the_label_tells_which_of_several_outputs_are_the_scores() -> None:
    """A column for each class, as some exporters write them, and features: only the label leads to the logits."""
    made = headed(3, "f = Tanh(x) first = Slice(s, zero, axis, axis) label = ArgMax<axis=1, keepdims=0>(s)")
    del made.graph.output[:]
    for name, kind, shape in (("f", 1, ["N", 4]), ("first", 1, ["N", 1]), ("label", 7, ["N"])):
        made.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    made.graph.initializer.append(onnx.helper.make_tensor("zero", onnx.TensorProto.INT64, [1], [0]))
    assert (planned(made).logits.name, planned(made).output) == ("s", "label")
    del made.graph.output[2]
    with pytest.raises(onnxdtd.RequestError, match="several outputs, choose one with --output"):
        planned(made)


def test_signs(net: onnx.ModelProto) -> None:
    plan = planned(net)
    inputs = {s.op + str(i): plan.nonnegative(s.inputs[0]) for i, s in enumerate(plan.steps)}
    assert inputs == {
        "Div0": False,
        "Conv1": False,
        "Relu2": False,
        "Conv3": True,
        "MaxPool4": False,
        "Flatten5": False,
        "Gemm6": False,
    }


def test_set_overrides_by_output_name_where_nodes_have_none(net: onnx.ModelProto) -> None:
    plan = planned(net, settings=["h2=epsilon(epsilon=0.5)", "logits=z"])
    assert [str(s.rule) for s in plan.steps if s.rule] == ["w2", "epsilon(epsilon=0.5)", "z"]


def test_the_last_of_several_settings_wins(net: onnx.ModelProto) -> None:
    plan = planned(net, settings=["*=epsilon", "h2=z"])
    assert [str(s.rule) for s in plan.steps if s.rule] == ["epsilon(epsilon=1e-06)", "z", "epsilon(epsilon=1e-06)"]


def test_setting_that_matches_nothing(net: onnx.ModelProto) -> None:
    with pytest.raises(onnxdtd.RuleError, match=r"--set nothing=z: matches no layer of this model; its layers are 'h1'"):
        planned(net, settings=["nothing=z"])


def test_rule_that_needs_bounds_in_an_inner_layer(net: onnx.ModelProto) -> None:
    with pytest.raises(onnxdtd.RequestError, match=r"zB at 'h2' .* only the first layer has them"):
        planned(net, low=0.0, high=1.0, settings=["h2=zB"])


def test_box_preset_without_bounds(net: onnx.ModelProto) -> None:
    with pytest.raises(onnxdtd.RequestError, match="give --low and --high"):
        planned(net, preset="epsilon-gamma-box")


def test_every_problem_is_reported_at_once(net: onnx.ModelProto) -> None:
    pool = next(node for node in net.graph.node if node.op_type == "MaxPool")
    behind = onnx.helper.make_node("RandomNormalLike", ["inside"], [pool.output[0]], "p3")
    pool.output[0] = "inside"
    net.graph.node.insert(list(net.graph.node).index(pool) + 1, behind)
    for node in net.graph.node:
        node.op_type = {"Relu": "Hardmax"}.get(node.op_type, node.op_type)
    with pytest.raises(onnxdtd.Unsupported) as caught:
        planned(net)
    problems = caught.value.problems
    assert [(p.op, p.node) for p in problems] == [("Hardmax", "a1"), ("RandomNormalLike", "p3")]
    text = str(caught.value)
    assert "Hardmax x1 (a1): there is no rule for this operator" in text
    assert "RandomNormalLike x1 (p3): there is no rule for this operator" in text


def test_allow_lets_relevance_pass(net: onnx.ModelProto) -> None:
    net.graph.node[2].op_type = "Hardmax"
    plan = planned(net, allow={"Hardmax": "pass"})
    assert [(s.op, s.kind) for s in plan.steps][2] == ("Hardmax", "pass")


def test_output_can_be_an_inner_tensor(net: onnx.ModelProto) -> None:
    plan = planned(net, output="f")
    assert plan.logits.name == "f"
    assert [s.op for s in plan.steps][-1] == "Flatten"


def test_unknown_names_come_with_suggestions(net: onnx.ModelProto) -> None:
    with pytest.raises(onnxdtd.RequestError, match="did you mean 'logits'"):
        planned(net, output="logit")
    with pytest.raises(onnxdtd.RequestError, match=r"did you mean .*'a1'"):
        planned(net, keep=["a2"])


def test_a_feature_map_is_no_classifier(net: onnx.ModelProto) -> None:
    with pytest.raises(onnxdtd.OnnxdtdError, match=r"has scores of 2 classes .* at each position .* give --position 3,3"):
        planned(net, output="h1")


def test_output_that_does_not_depend_on_the_input() -> None:
    model = text_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1,4] x) => (float[1,3] y) <float[1,3] c> { y = Relu(c) }"""
    )
    with pytest.raises(onnxdtd.ModelError, match="depends on what is to be explained"):
        planned(model)


def test_two_outputs_with_different_logits_need_a_choice() -> None:
    model = text_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,4] x) => (float[N,3] y, float[N,3] z) <float[4,3] a, float[4,3] b>
        { y = MatMul(x, a)  z = MatMul(x, b) }"""
    )
    with pytest.raises(onnxdtd.RequestError, match=r"choose one with --output: y \[N, 3\]; z \[N, 3\]"):
        planned(model)
    assert planned(model, output="z").logits.name == "z"


def test_label_and_probabilities_of_the_same_logits() -> None:
    model = text_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,4] x) => (int64[N] label, float[N,3] p) <float[4,3] a>
        { y = MatMul(x, a)  p = Softmax(y)  label = ArgMax<axis=1, keepdims=0>(p) }"""
    )
    plan = planned(model)
    assert (plan.output, plan.logits.name) == ("p", "y")


FUSED = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,2,4,4] x) => (float[N,48] y)
<float[3,2,1,1] w, float[3,1,1] c, float[3] g, float[3] b, float[3] m, float[3] v>
{ h = Conv(x, w)  s = Add(h, c)  n = BatchNormalization(s, g, b, m, v)  y = Flatten(n) }"""


def test_bias_and_batch_norm_belong_to_the_layer_before() -> None:
    assert [s.op for s in planned(text_model(FUSED)).steps] == ["Conv+Add+BatchNormalization", "Flatten"]


def test_a_kept_tensor_is_looked_at_so_nothing_is_fused_over_it() -> None:
    assert [s.op for s in planned(text_model(FUSED), keep=["s"]).steps] == ["Conv+Add", "BatchNormalization", "Flatten"]


def test_shape_arithmetic_is_never_visited() -> None:
    model = text_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,2,3] x) => (float[N,6] y) <int64[1] i = {0}, int64[1] minus = {-1}>
        { s = Shape(x)  n = Gather(s, i)  t = Concat<axis=0>(n, minus)  y = Reshape(x, t) }"""
    )
    assert [s.op for s in planned(model).steps] == ["Reshape"]


def test_an_allowed_operator_keeps_no_bounds() -> None:
    """Abs of [-6, 6] is no longer in a box that its ends span, so what is behind it is not the first layer of zB."""
    model = text_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,4] x) => (float[N,3] y) <float[4,3] w> { a = Abs(x)  y = MatMul(a, w) }"""
    )
    plan = planned(model, allow={"Abs": "pass"}, low=-6.0, high=6.0)
    assert [str(s.rule) for s in plan.steps if s.rule] == ["z+"]


def test_an_allowance_that_nothing_needs_is_refused(net: onnx.ModelProto) -> None:
    with pytest.raises(onnxdtd.RequestError, match="relevance meets no operator or node 'Abs'"):
        planned(net, allow={"Abs": "pass"})


MASKED_BAG = """
<ir_version: 8, opset_import: ["" : 17]>
net (int64[N,L] ids, int64[N,L] mask) => (float[N,2] logits)
<float[5,3] table, float[3,2] w, int64[1] last = {-1}, int64[1] time = {1}>
{
   words = Gather(table, ids)
   weights = Cast<to=1>(mask)
   column = Unsqueeze(weights, last)
   own = Mul(words, column)
   total = ReduceSum<keepdims=0>(own, time)
   logits = MatMul(total, w)
}
"""


@pytest.mark.parametrize("preset", ["dtd", "dtd-w2", "lrp-epsilon", "attnlrp"])
def test_tokens_that_are_masked_have_nothing(preset: str) -> None:
    """Also under w², by which all words would have as much: the mask is no preprocessing."""
    compiled = onnxdtd.compile(text_model(MASKED_BAG), preset)
    found = onnxdtd.Explainer(compiled)({"ids": np.array([[1, 2, 3]]), "mask": np.array([[1, 1, 0]])})
    np.testing.assert_allclose(found.relevance["ids"], [[3, 3, 0]], rtol=1e-5)
