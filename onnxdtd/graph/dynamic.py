"""Layers of integers whose scale is found as they run, seen as layers of the floating-point numbers that these stand for.

Scales are constants, and rounding passes relevance. The activations are those that the layer was given, the dequantised ones,
so that its sums are those that the predictor computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor

INSIDE, BEFORE = "DynamicQuantizeMatMul", "MatMulIntegerToFloat"
QUANTISES = "DynamicQuantizeLinear"
LAYERS = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}
LEARNED = {**dict.fromkeys(LAYERS, (1,)), INSIDE: (1, 4), BEFORE: (1, 6)}  # which of their inputs hold weights and biases


def is_dynamic(op: str) -> bool:
    """Is it an operator of such a model?"""
    return op in (INSIDE, BEFORE, QUANTISES) or op in LAYERS


def dynamic(e: Emit, node: Node) -> tuple[list[Node], list[Node]]:
    """What a node is seen as, and the nodes behind it that this stands for as well."""
    if node.op == QUANTISES:
        y, scale, zero = node.outputs
        return [Node("QuantizeLinear", e.scope, [node.inputs[0], scale, zero], [y], exact=False)], []
    if node.op in LAYERS:
        return _layer(e, node)
    a, b, *more = [*node.inputs, *[Tensor("")] * 5]
    if node.op == INSIDE:
        scale, zero, bias = more[:3]
        real = _rounded(e, a)
        made = [Node("Identity", e.scope, [a], [real], exact=False)]
    else:
        a_scale, scale, a_zero, zero, bias = more[:5]
        made, real = _real(e, a, a_scale, a_zero)
    weights, w = _real(e, b, scale, zero)
    y = node.outputs[0]
    product = y if bias.left_out else e("Sub", y, bias, shape=y.shape)
    mapped = [*made, *weights, Node("MatMul", e.scope, [real, w], [product])]
    return mapped if bias.left_out else [*mapped, Node("Add", e.scope, [product, bias], [y])], []


def _rounded(e: Emit, x: Tensor) -> Tensor:
    """x on the 256 numbers from its smallest to its largest entry, and 0 among them, as a DynamicQuantizeLinear has it"""
    low, high = e("Min", e("ReduceMin", x, keepdims=0), 0.0), e("Max", e("ReduceMax", x, keepdims=0), 0.0)
    width = e("Div", e("Sub", high, low), 255.0)
    scale = e("Where", e.equal(width, 0.0), 1.0, width)
    zero = e("Round", e("Clip", e("Neg", e("Div", low, scale)), 0.0, 255.0))
    whole = e("Clip", e("Add", e("Round", e("Div", x, scale)), zero), 0.0, 255.0)
    return e("Mul", e("Sub", whole, zero), scale, shape=x.shape)


def _layer(e: Emit, node: Node) -> tuple[list[Node], list[Node]]:
    """An operator on integers, the Cast of its result and the Mul by both scales, where these follow; else the node itself."""
    a, b, *zeros = [*node.inputs, *[Tensor("")] * 2][:4]
    casts = node.outputs[0].readers
    muls = casts[0].outputs[0].readers if len(casts) == 1 and casts[0].op == "Cast" else []
    if len(muls) != 1 or muls[0].op != "Mul":
        return [node], []
    (scales,) = [t for t in muls[0].inputs if t is not casts[0].outputs[0]]
    giver, source = scales.producer, zeros[0].producer
    given = giver is not None and giver.op == "Mul" and source is not None and source.op == QUANTISES
    if not given or giver is None or source is None or source.outputs[1] not in giver.inputs:
        return [node], []
    (own,) = [t for t in giver.inputs if t is not source.outputs[1]] or giver.inputs[:1]
    if node.op == "ConvInteger" and dims(own) not in ([], [1]):
        return [node], []
    made, real = _real(e, a, source.outputs[1], zeros[0])
    weights, w = _real(e, b, own, zeros[1])
    y = muls[0].outputs[0]
    return [*made, *weights, Node(LAYERS[node.op], e.scope, [real, w], [y], node.attrs)], [casts[0], muls[0]]


def _real(e: Emit, value: Tensor, scale: Tensor, zero: Tensor) -> tuple[list[Node], Tensor]:
    """What integers stand for, and the node that gives it; weights have a scale for all, or one for each column."""
    axis: dict[str, Any] = {} if dims(scale) in ([], [1]) else {"axis": 1}
    kind = scale.dtype if scale.dtype is not None else np.dtype(np.float32)
    shift = [] if zero.left_out else [zero]
    real = e("DequantizeLinear", value, scale, *shift, shape=value.shape, dtype=kind, **axis)
    if value.producer is not None and value.producer.op == QUANTISES:  # which cuts nothing off
        return [Node("Identity", e.scope, value.producer.inputs, [real], exact=False)], real
    return [Node("DequantizeLinear", e.scope, [value, scale, *shift], [real], axis)], real


def seen(e: Emit, nodes: Sequence[Node]) -> list[Node]:
    """The nodes with such layers in their place."""
    found: list[Node] = []
    left: set[int] = set()
    for node in nodes:
        if id(node) in left:
            continue
        if not is_dynamic(node.op):
            found.append(node)
            continue
        with e.within(node.name or node.outputs[0].name):
            made, others = dynamic(e, node)
        found += made
        left.update(id(other) for other in others)
    return found
