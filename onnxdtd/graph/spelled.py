"""Quantised operators and classifiers of ai.onnx.ml, seen as the float operators that they stand for.

The predictor's nodes stay as they are. For planning, a quantised operator counts as three: dequantise its operands, do
the float operation, quantise the result. The float tensors between them are nodes of the relevance pass, read from the
integers that the predictor computed; what no rule needs is not emitted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnxdtd.errors import ModelError
from onnxdtd.graph import dynamic
from onnxdtd.graph.emit import Emit, dims, known
from onnxdtd.graph.fused import is_fused, spelled
from onnxdtd.graph.machines import MACHINES, machine
from onnxdtd.graph.sound import called
from onnxdtd.graph.tensors import Node, Tensor


@dataclass(frozen=True)
class Quantised:
    """Where a quantised operator keeps what: triples (value, scale, zero point) of operands, pair of the result (float where it
    is left out), the bias, whose scale is the product of those of the operands.
    """

    op: str
    operands: tuple[tuple[int, int, int], ...]
    result: tuple[int, int]
    bias: int | None = None


TWO = ((0, 1, 2), (3, 4, 5))
ONE = ((0, 1, 2),)
QUANTISED = {
    ("", "QLinearConv"): Quantised("Conv", TWO, (6, 7), 8),
    ("", "QLinearMatMul"): Quantised("MatMul", TWO, (6, 7)),
    ("com.microsoft", "QGemm"): Quantised("Gemm", TWO, (7, 8), 6),
    ("com.microsoft", "QLinearAdd"): Quantised("Add", TWO, (6, 7)),
    ("com.microsoft", "QLinearMul"): Quantised("Mul", TWO, (6, 7)),
    ("com.microsoft", "QLinearGlobalAveragePool"): Quantised("GlobalAveragePool", ONE, (3, 4)),
    ("com.microsoft", "QLinearAveragePool"): Quantised("AveragePool", ONE, (3, 4)),
    ("com.microsoft", "QLinearLeakyRelu"): Quantised("LeakyRelu", ONE, (3, 4)),
    ("com.microsoft", "QLinearSigmoid"): Quantised("Sigmoid", ONE, (3, 4)),
    ("com.microsoft", "QLinearSoftmax"): Quantised("Softmax", ONE, (3, 4)),
}
JOINS = ("com.microsoft", "QLinearConcat")  # as many triples as it joins, behind the pair of the result
# Attributes that the float operator does not have, and with which values the quantised one is something else.
DROPPED: dict[str, Callable[[int], bool]] = {"channels_last": bool, "opset": lambda version: version < 13}


def layout(node: Node | onnx.NodeProto, op: str) -> Quantised | None:
    """The layout of a quantised operator; None for any other."""
    domain = node.domain if node.domain not in (None, "ai.onnx") else ""
    if (domain, op) == JOINS:
        count = len(node.input if isinstance(node, onnx.NodeProto) else node.inputs)
        return Quantised("Concat", tuple((k, k + 1, k + 2) for k in range(2, count, 3)), (0, 1))
    return QUANTISED.get((domain, op))


def _is_another(attrs: Mapping[str, Any]) -> bool:
    """Is a quantised operator not that on floats?"""
    return any(other(attrs[name]) for name, other in DROPPED.items() if name in attrs)


def float_nodes(nodes: Sequence[onnx.NodeProto], opset: int) -> Iterator[onnx.NodeProto]:
    """The nodes with those that shape inference does not understand spelled out in others that give the same shapes."""
    for i, node in enumerate(nodes):
        if is_fused(node) and (node.domain or not onnx.defs.has(node.op_type, opset, "")):
            yield from _unfused(node, f"onnxdtd_{i}", opset)
            continue
        if node.op_type == "GroupNormalization":
            yield helper.make_node("Identity", node.input[:1], node.output)
            continue
        if node.domain == "com.microsoft" and dynamic.is_dynamic(node.op_type):
            ends = [f"onnxdtd_{i}_{k}" for k in range(2)]
            scale = node.input[2]  # of the weights, or of the input, of one type
            yield from (helper.make_node("CastLike", [node.input[k], scale], [ends[k]]) for k in range(2))
            yield helper.make_node("MatMul", ends, node.output)
            continue
        if node.domain == "ai.onnx.ml" and node.op_type == "Imputer":
            yield helper.make_node("Identity", node.input, node.output)
            continue
        if node.domain == "ai.onnx.ml" and node.op_type in ("Scaler", "Normalizer"):
            yield helper.make_node("Cast", node.input, node.output, to=onnx.TensorProto.FLOAT)
            continue
        if node.domain == "ai.onnx.ml" and node.op_type == "FeatureVectorizer":
            yield helper.make_node("Concat", node.input, node.output, axis=1)
            continue
        if node.domain == "ai.onnx.ml" and node.op_type in MACHINES:
            yield from _with_scores(node, f"onnxdtd_{i}")
            continue
        if node.domain == "com.microsoft" and node.op_type == "Tokenizer":
            yield from _with_an_axis_more(node, f"onnxdtd_{i}")
            continue
        found = layout(node, node.op_type)
        if found is None or not node.domain or _is_another({a.name: a.i for a in node.attribute}):
            yield node
            continue
        yield from _float_node(node, found, f"onnxdtd_{i}")


def _unfused(node: onnx.NodeProto, name: str, opset: int) -> Iterator[onnx.NodeProto]:
    """What an operator of ONNX Runtime stands for, or itself"""
    constants: list[onnx.NodeProto] = []
    count = itertools.count()

    def constant(value: np.ndarray, around: str) -> str:
        names = [f"{name}_{next(count)}"]
        constants.append(helper.make_node("Constant", [], names, value=onnx.numpy_helper.from_array(value)))
        return names[0]

    made = spelled(node, constant, lambda what: f"{name}_{next(count)}", None, opset)
    yield from [node] if made is None else [*constants, *made]


def _with_an_axis_more(node: onnx.NodeProto, name: str) -> Iterator[onnx.NodeProto]:
    """What has the shape of an input and a further axis of a size that is not known."""
    last, some, wide = (f"{name}_{k}" for k in range(3))
    yield helper.make_node("Constant", [], [last], value_ints=[-1])
    yield helper.make_node("Constant", [], [some], value=onnx.numpy_helper.from_array(np.ones(1, bool)))
    yield helper.make_node("Unsqueeze", [node.input[0], last], [wide])
    yield helper.make_node("Compress", [wide, some], node.output, axis=-1)


def _with_scores(node: onnx.NodeProto, name: str) -> Iterator[onnx.NodeProto]:
    """What has the shapes and types of the label and the scores, or of the one score, of each row."""
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    *label, scores = node.output
    labels = attrs.get("classlabels_strings") or attrs.get("classlabels_ints") or [0]
    pairs = len(labels) * (len(labels) - 1) // 2 if attrs.get("vectors_per_class") and not attrs.get("prob_a") else 0
    whole, last, row, column = (f"{name}_{k}" for k in range(4))
    count = 1 if not label else pairs if pairs > 1 else len(labels)
    yield helper.make_node("Cast", node.input, [whole], to=onnx.TensorProto.FLOAT)
    yield helper.make_node("Constant", [], [last], value_ints=[1])
    yield helper.make_node("Constant", [], [row], value=onnx.numpy_helper.from_array(np.ones(count, np.float32)))
    yield helper.make_node("ReduceMax", [whole], [column], axes=[1])
    yield helper.make_node("Mul", [column, row], [scores])
    for each in label:
        kind = onnx.TensorProto.STRING if attrs.get("classlabels_strings") else onnx.TensorProto.INT64
        yield helper.make_node("ArgMax", [whole], [f"{name}_4"], axis=1, keepdims=0)
        yield helper.make_node("Cast", [f"{name}_4"], [each], to=kind)


def _float_node(node: onnx.NodeProto, found: Quantised, name: str) -> Iterator[onnx.NodeProto]:
    """Dequantise, operate, quantise. Raises ``ModelError`` where the operator would not be one of the standard."""
    if len(node.input) <= max(k for triple in found.operands for k in triple):
        raise ModelError(f"{called(node)}: has {len(node.input)} inputs, which are too few; export the model again")
    operands = [f"{name}_{k}" for k in range(len(found.operands))]
    for operand, triple in zip(operands, found.operands, strict=True):
        yield helper.make_node("DequantizeLinear", [node.input[k] for k in triple], [operand])
    rounds = _rounds(node.input, found)
    real = helper.make_node(found.op, operands, [name] if rounds else node.output)
    real.attribute.extend(a for a in node.attribute if a.name not in DROPPED)
    try:
        onnx.checker.check_node(real)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"not a valid ONNX graph: {called(node)}: {str(error).strip().splitlines()[0]}") from None
    yield real
    if rounds:
        yield helper.make_node("QuantizeLinear", [name, *node.input[found.result[0] : found.result[1] + 1]], node.output)


def _rounds(inputs: Sequence[Any], found: Quantised) -> bool:
    """Is there a scale for the result?"""
    return len(inputs) > found.result[0]


def views(e: Emit, nodes: Sequence[Node], derivative: bool = False, reference: float | None = None) -> list[Node]:
    """The nodes as they are planned on: what goes back is a ``derivative``, or relevance, of what is compared with a
    ``reference``.
    """
    seen: dict[tuple[str, ...], Node] = {}  # what several nodes read is made a float once
    for node in dynamic.seen(e, nodes):
        with e.within(node.name or node.outputs[0].name):
            for made in machine(e, node, derivative, reference or 0.0) if node.op in MACHINES else _view(e, node):
                seen.setdefault((made.op, *(t.name for t in (*made.inputs, *made.outputs))), made)
    return list(seen.values())


def _view(e: Emit, node: Node) -> list[Node]:
    quantised = layout(node, node.op)
    if quantised is not None and not _is_another(node.attrs):
        return _quantised(e, node, quantised)
    if node.op == "ArgMin" and not node.outputs[0].readers:  # at the end: the nearest class
        far = node.inputs[0]
        near = e("Neg", far, shape=far.shape)
        return [Node("Neg", e.scope, [far], [near]), Node("ArgMax", e.scope, [near], node.outputs, node.attrs)]
    return ML[node.op](e, node) if node.domain == "ai.onnx.ml" and node.op in ML else [node]


def _quantised(e: Emit, node: Node, found: Quantised) -> list[Node]:
    """Dequantise, operate, quantise."""
    name, made = e.scope, []
    operands: list[Tensor] = []
    for value, scale, zero in found.operands:
        source = node.inputs[value]
        rows = value == 3 and (found.op == "Conv" or bool(node.attrs.get("transB")))  # a weight with its outputs in front
        axis: dict[str, Any] = {"axis": 0} if rows and dims(node.inputs[scale]) not in ([], [1]) else {}
        kind = _float(source, node.inputs[scale])
        real = e("DequantizeLinear", source, node.inputs[scale], node.inputs[zero], **kind, **axis)
        if not any(operand is real for operand in operands):  # the sum of a tensor and itself
            made.append(Node("DequantizeLinear", name, [source, node.inputs[scale], node.inputs[zero]], [real], axis))
        operands.append(real)
    if found.bias is not None and len(node.inputs) > found.bias and not node.inputs[found.bias].left_out:
        unit = e("Mul", node.inputs[found.operands[0][1]], node.inputs[found.operands[1][1]])
        bias, factor = e.cast(node.inputs[found.bias], operands[0].dtype), e.mul(unit, float(node.attrs.get("alpha", 1.0)))
        operands.append(e("Mul", bias, factor, **_float(node.inputs[found.bias], unit)))
    result, attrs = node.outputs[0], {key: value for key, value in node.attrs.items() if key not in DROPPED}
    if not _rounds(node.inputs, found):
        return [*made, Node(found.op, name, operands, [result], attrs)]
    step, *shift = node.inputs[found.result[0] : found.result[1] + 1]
    real = e("DequantizeLinear", result, step, *shift, **_float(result, step))
    made.append(Node(found.op, name, operands, [real], attrs, exact=False))
    made.append(Node("QuantizeLinear", name, [real, step, *shift], [result], exact=False))
    return made


def _float(like: Tensor, scale: Tensor) -> dict[str, Any]:
    """The shape of ``like`` and the type of its scale."""
    return {"shape": like.shape, "dtype": scale.dtype if scale.dtype is not None else np.dtype(np.float32)}


def _linear_classifier(e: Emit, node: Node) -> list[Node]:
    """x Wᵀ + b, whose result the predictor keeps to itself, and whatever it makes of that."""
    made, scores = _weighed(e, node, len(node.attrs.get("intercepts") or ()) or None, None)
    after = {"post_transform": node.attrs.get("post_transform", "NONE")}
    return [*made, Node("LinearClassifier", e.scope, [scores], list(node.outputs), after)]


def _linear_regressor(e: Emit, node: Node) -> list[Node]:
    """x Wᵀ + b, and perhaps a function of that"""
    after = node.attrs.get("post_transform", "NONE")
    if after != "NONE":
        return [node]
    return _weighed(e, node, node.attrs.get("targets", 1), node.outputs[0])[0]


def _weighed(e: Emit, node: Node, rows: int | None, y: Tensor | None) -> tuple[list[Node], Tensor]:
    """The nodes of x Wᵀ + b and what they give, ``y`` where that is given, with so many ``rows`` of W, if that is known."""
    x, what = node.inputs[0], f"a {node.op}"
    weights = np.asarray(node.attrs.get("coefficients", []), np.float32)
    features = (dims(x) or [None])[-1] or 0
    rows = rows or (weights.size // features if features else len(node.attrs.get("classlabels_ints", [0])))
    intercepts = np.asarray(node.attrs.get("intercepts") or [0.0] * max(rows, 1), np.float32)
    if dims(x) is not None and len(dims(x) or ()) != 2:
        raise ModelError(f"{e.scope}: {what} of {list(x.shape or ())}, which are no rows of features")
    if not weights.size or weights.size % rows or len(intercepts) != rows or (features and weights.size != rows * features):
        of = f" of {features} features" if features else ""
        raise ModelError(f"{e.scope}: {what} with {weights.size} coefficients for {rows} scores{of}; export the model again")
    weights = weights.reshape(rows, -1)
    real = e.cast(x, np.dtype(np.float32))
    w, b, sizes = e.constant(np.ascontiguousarray(weights.T)), e.constant(intercepts), dims(x)
    scores = e("Gemm", real, w, b, shape=[None if sizes is None else sizes[0], rows]) if y is None else y
    made = [] if real is x else [Node("Cast", e.scope, [x], [real])]
    return [*made, Node("Gemm", e.scope, [real, w, b], [scores])], scores


def _scaler(e: Emit, node: Node) -> list[Node]:
    """(x − offset) · scale"""
    x, y = node.inputs[0], node.outputs[0]
    dtype = np.dtype(np.float32)
    given = (node.attrs.get(name, default) for name, default in (("offset", 0.0), ("scale", 1.0)))
    offset, scale = (e.constant(np.asarray(numbers, dtype)) for numbers in given)
    real = e.cast(x, dtype, x.shape)
    centred = e("Sub", real, offset, shape=x.shape)
    made = [] if real is x else [Node("Cast", e.scope, [x], [real])]
    return [*made, Node("Sub", e.scope, [real, offset], [centred]), Node("Mul", e.scope, [centred, scale], [y])]


def _feature_vectorizer(e: Emit, node: Node) -> list[Node]:
    """Columns side by side"""
    return [Node("Concat", e.scope, list(node.inputs), list(node.outputs), {"axis": 1})]


def _array_feature_extractor(e: Emit, node: Node) -> list[Node]:
    """Columns by their numbers, where it does not look up a label"""
    (x, index), y = node.inputs, node.outputs[0]
    if len(x.shape or ()) == 1 or (index.producer is not None and index.producer.op != "Constant"):
        return [node]
    sizes = known(dims(index))
    columns = e("Reshape", index, [-1], shape=(y.shape or [None])[-1:] if sizes is None else [prod(sizes)])
    return [Node("Gather", e.scope, [x, columns], [y], {"axis": -1})]


def _normalizer(e: Emit, node: Node) -> list[Node]:
    """An operator of its own, on float32"""
    x, y = node.inputs[0], node.outputs[0]
    real = e.cast(x, np.dtype(np.float32), x.shape)
    made = [] if real is x else [Node("Cast", e.scope, [x], [real])]
    return [*made, Node("Normalizer", e.scope, [real], [y], dict(node.attrs))]


ML = {
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "Scaler": _scaler,
    "FeatureVectorizer": _feature_vectorizer,
    "Normalizer": _normalizer,
    "ArrayFeatureExtractor": _array_feature_extractor,
}
