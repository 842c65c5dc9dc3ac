"""log Σ eˣ in several operators, seen as the one that it is: a smooth maximum, each entry of which has its part in the softmax.

    log Σ eˣ        log(c Σ eˣ)        m + a log(c Σ e^((x − m)/a)), whatever m is, the same along all that is summed over

What the constant c adds is the same whatever x is, and counts with the rest; the mean of eˣ is such a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose

import numpy as np

from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.layer import Active, NotLinear, constant_value, reduced_axes, shape_of
from onnxdtd.operators.table import IN_ORDER, of

SUMS = ("ReduceSum", "ReduceMean", "GlobalAveragePool")


def of_a_sum(e: Emit, node: Node, active: Active, producer: Mapping[str, Node]) -> list[Node] | None:
    """log(c Σ eˣ)"""
    found = _summed(node, producer)
    return None if found is None else _smooth(node, found[0], node.outputs[0], found[1])


def shifted(e: Emit, node: Node, active: Active, producer: Mapping[str, Node]) -> list[Node] | None:
    """m + a log(c Σ e^((x − m)/a))"""
    for logarithm, shift in (node.inputs, node.inputs[::-1]):
        a, inner = _factor(logarithm, producer, moved=True)
        found = None if inner is None else _summed(inner, producer)
        if found is None:
            continue
        g, difference = _factor(found[0], producer)
        if difference is None or difference.op != "Sub" or not isclose(a * g, 1.0, rel_tol=1e-6):
            continue
        x, lost = difference.inputs
        if _source(lost, producer) is _source(shift, producer) and _is_one(lost, x, found[1]):
            return _scaled(e, node, x, g, found[1])
    return None


def _scaled(e: Emit, node: Node, x: Tensor, g: float, axes: list[int]) -> list[Node] | None:
    """log Σ e^(g x) / g"""
    y = node.outputs[0]
    if g == 1.0:
        return _smooth(node, x, y, axes)
    factor, inverse = (e.constant(np.asarray(number, x.dtype)) for number in (g, 1 / g))
    steep, high = e("Mul", x, factor, shape=x.shape), e("Mul", y, factor, shape=y.shape)
    smooth = _smooth(node, steep, high, axes)
    if smooth is None:
        return None
    return [Node("Mul", node.name, [x, factor], [steep]), *smooth, Node("Mul", node.name, [high, inverse], [y])]


def _smooth(node: Node, x: Tensor, y: Tensor, axes: list[int]) -> list[Node] | None:
    """The smooth maximum along some axes, if its result lies along all others."""
    before, after = shape_of(x), dims(y)
    kept = {1: [1 if i in axes else size for i, size in enumerate(before)]}
    kept[0] = [size for i, size in enumerate(before) if i not in axes]
    fits = [keep for keep, sizes in kept.items() if after is not None and _agree(sizes, after)]
    return [Node("ReduceLogSumExp", node.name, [x], [y], {"axes": axes, "keepdims": fits[0]})] if fits else None


def _agree(one: list[int | None], other: list[int | None]) -> bool:
    return len(one) == len(other) and all(None in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True))


def _summed(node: Node, producer: Mapping[str, Node]) -> tuple[Tensor, list[int]] | None:
    """x and the axes, where a node gives log(c Σ eˣ)."""
    c, total = _factor(node.inputs[0], producer, moved=True) if node.op == "Log" else (1.0, node)
    if total is None or total.op not in (SUMS if node.op == "Log" else ("ReduceLogSum",)) or c <= 0:
        return None
    raised = producer.get(total.inputs[0].name)
    if raised is None or raised.op != "Exp" or dims(raised.inputs[0]) is None:
        return None
    try:
        return raised.inputs[0], reduced_axes(total, len(shape_of(raised.inputs[0])))
    except NotLinear:
        return None


def _factor(tensor: Tensor, producer: Mapping[str, Node], moved: bool = False) -> tuple[float, Node | None]:
    """The constant number that a tensor is a multiple by, and the node that gives what it is a multiple of."""
    factor = 1.0
    while (node := producer.get(tensor.name)) is not None:
        values = [constant_value(t) for t in node.inputs]
        numbers = [None if value is None or value.size != 1 else float(value.reshape(())) for value in values]
        if node.op == "Mul" and numbers[0] is not None:
            tensor, factor = node.inputs[1], factor * numbers[0]
        elif node.op == "Mul" and numbers[1] is not None:
            tensor, factor = node.inputs[0], factor * numbers[1]
        elif node.op == "Div" and numbers[1]:
            tensor, factor = node.inputs[0], factor / numbers[1]
        elif moved and of(node).hands_on == IN_ORDER:
            tensor = node.inputs[0]
        else:
            break
    return factor, node


def _source(tensor: Tensor, producer: Mapping[str, Node]) -> Tensor:
    """What a tensor has the entries of, in their order."""
    while (node := producer.get(tensor.name)) is not None and of(node).hands_on == IN_ORDER:
        tensor = node.inputs[0]
    return tensor


def _is_one(shift: Tensor, x: Tensor, axes: list[int]) -> bool:
    """Is a shift of x the same along some axes?"""
    sizes, rank = dims(shift), len(shape_of(x))
    places = None if sizes is None else [i - rank + len(sizes) for i in axes]
    return sizes is not None and places is not None and all(place < 0 or sizes[place] == 1 for place in places)
