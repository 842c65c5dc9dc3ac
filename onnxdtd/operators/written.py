"""What is written in several ways, or in several operators, seen in the one form that the table knows.

The predictor's nodes stay as they are. For planning, x · x is a square, c / x and x⁻ᵖ are reciprocals, cˣ is a power of e,
e^(x − m) / Σ e^(x − m) the softmax of x, whatever m is, and γ (x − μ)/√(σ² + ε) + β a LayerNormalization; new tensors between
them are nodes of the relevance pass, emitted only where somebody reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from onnxdtd.graph.emit import Emit, dims, label
from onnxdtd.graph.machines import GIVES, PAIRS
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import logsums, spread
from onnxdtd.operators.layer import Active, NotLinear, constant_value, is_float, reduced_axes
from onnxdtd.operators.spread import is_elementwise
from onnxdtd.operators.table import AS_THEY_ARE, IN_ORDER, LINEAR, MOVE, PRODUCT, of

Producer: TypeAlias = Mapping[str, Node]


def in_one_form(e: Emit, nodes: Sequence[Node], active: Active) -> list[Node]:
    """The nodes as they are planned on."""
    producer = {t.name: node for node in nodes for t in node.outputs}
    found: list[Node] = []
    for node in nodes:
        form = FORMS.get(of(node).op)
        seen = None
        if form is not None and is_float(node.outputs[-1].dtype) and any(map(active, node.inputs)):
            with e.within(label(node)):
                seen = form(e, node, active, producer)
        found += [node] if seen is None else seen
    return found


def _product(e: Emit, node: Node, active: Active, producer: Producer) -> list[Node] | None:
    """x · x; e^x · (1 / Σ e^x)"""
    x, other = node.inputs
    if x.name == other.name:
        return [Node("Pow", node.name, [x, e.constant(np.asarray(2, x.dtype))], node.outputs)]
    for raised, inverse in ((x, other), (other, x)):
        giver, laid = _origin(inverse, producer)
        if giver is not None and giver.op == "Reciprocal":
            moved = laid.name != giver.outputs[0].name
            view = _softmax(node, raised, giver.inputs[0], laid if moved else None, producer)
            if view is not None:
                return view
    return _normalised(e, node, active, producer)


def _quotient(e: Emit, node: Node, active: Active, producer: Producer) -> list[Node] | None:
    """e^x / Σ e^x; c / x"""
    a, b = node.inputs
    if active(a):
        return _softmax(node, a, b, None, producer) or _normalised(e, node, active, producer)
    value, alone = constant_value(a), dims(b) == dims(node.outputs[0])
    if value is not None and alone and bool((value == 1).all()):
        return [Node("Reciprocal", node.name, [b], node.outputs)]
    inverse = e("Reciprocal", b, shape=b.shape)
    return [Node("Reciprocal", node.name, [b], [inverse]), Node("Mul", node.name, [a, inverse], node.outputs)]


def _sum(e: Emit, node: Node, active: Active, producer: Producer) -> list[Node] | None:
    """γ (x − μ)/√(σ² + ε) + β; max x + log Σ e^(x − max x)"""
    return _normalised(e, node, active, producer) or logsums.shifted(e, node, active, producer)


def _normalised(e: Emit, node: Node, active: Active, producer: Producer) -> list[Node] | None:
    """(x − μ)/√(σ² + ε) over the last axes, perhaps times γ, perhaps plus β"""
    giver: Node | None = node
    constants: dict[str, Tensor] = {}
    for op in ("Add", "Mul"):
        if giver is not None and giver.op == op and sum(map(active, giver.inputs)) == 1:
            t, constants[op] = giver.inputs if active(giver.inputs[0]) else giver.inputs[::-1]
            giver = producer.get(t.name)
    found = None if giver is None or giver.op != "Div" else _standardised(giver, producer)
    if found is None:
        return None
    x, axis, epsilon = found
    sizes = dims(x) or []
    shapes = [dims(t) for t in constants.values()]
    if dims(node.outputs[0]) != sizes or any(s is None or (s and s != sizes[axis:][-len(s) :]) for s in shapes):
        return None
    gamma = constants["Mul"] if "Mul" in constants else e.constant(np.ones(1, x.dtype))
    inputs = [x, gamma, constants["Add"]] if "Add" in constants else [x, gamma]
    return [Node("LayerNormalization", node.name, inputs, node.outputs, {"axis": axis, "epsilon": epsilon})]


def _standardised(node: Node, producer: Producer) -> tuple[Tensor, int, float] | None:
    """x, the first of the last axes, and ε, if a node gives (x − μ)/√(mean (x − μ)² + ε) over these."""
    c, deviation = node.inputs
    centred, root = producer.get(c.name), producer.get(deviation.name)
    total = None if root is None or root.op != "Sqrt" else producer.get(root.inputs[0].name)
    if centred is None or centred.op != "Sub" or total is None or total.op != "Add":
        return None
    variance, epsilon = total.inputs if constant_value(total.inputs[0]) is None else total.inputs[::-1]
    (x, mu), value = centred.inputs, constant_value(epsilon)
    means = [producer.get(mu.name), producer.get(variance.name)]
    first, last = (None if m is None or m.op != "ReduceMean" or not m.attrs.get("keepdims", 1) else m for m in means)
    if first is None or last is None or first.inputs[0].name != x.name or value is None or value.size != 1 or x.shape is None:
        return None
    square = producer.get(last.inputs[0].name)
    if square is None or not _is_square(square, c):
        return None
    try:
        axes = [reduced_axes(m, len(x.shape)) for m in (first, last)]
    except NotLinear:
        return None
    ends = axes[0] == axes[1] == list(range(axes[0][0], len(x.shape)))
    return (x, axes[0][0], float(value.reshape(()))) if ends else None


def _is_square(node: Node, x: Tensor) -> bool:
    """Does it give x²?"""
    if node.op == "Mul":
        return {t.name for t in node.inputs} == {x.name}
    value = constant_value(node.inputs[1]) if node.op == "Pow" else None
    return node.inputs[0].name == x.name and value is not None and bool((value == 2).all())


def _power(e: Emit, node: Node, active: Active, producer: Producer) -> list[Node] | None:
    """x⁻ᵖ = 1 / xᵖ; cˣ = e^(x log c)"""
    x, p = node.inputs
    value = constant_value(x if active(p) else p)
    if value is None or not is_float(x.dtype):
        return None
    if active(p):
        if active(x) or not (value > 0).all() or not is_float(p.dtype):
            return None
        factor = e.constant(np.asarray(np.log(value.astype(np.float64)), p.dtype))
        inner = e("Mul", p, factor, shape=node.outputs[0].shape)
        return [Node("Mul", node.name, [p, factor], [inner]), Node("Exp", node.name, [inner], node.outputs)]
    if not (value < 0).all():
        return None
    if value.size == 1 and value.reshape(()) == -1 and dims(x) == dims(node.outputs[0]):
        return [Node("Reciprocal", node.name, [x], node.outputs)]
    exponent = e.constant(np.asarray(-value, x.dtype))
    raised = e("Pow", x, exponent, shape=node.outputs[0].shape)
    return [Node("Pow", node.name, [x, exponent], [raised]), Node("Reciprocal", node.name, [raised], node.outputs)]


def _difference(e: Emit, node: Node, active: Active, producer: Producer) -> list[Node] | None:
    """x − log Σ e^x"""
    x, lost = node.inputs
    giver, laid = _origin(lost, producer)
    if giver is None or giver.op not in ("Log", "ReduceLogSumExp"):
        return None
    total = giver
    if giver.op == "Log":
        found, inner = _origin(giver.inputs[0], producer)
        power = None if found is None or found.op != "ReduceSum" else producer.get(found.inputs[0].name)
        if found is None or power is None or power.op != "Exp" or power.inputs[0].name != x.name:
            return None
        total, laid = found, inner if laid.name == giver.outputs[0].name else laid
    elif giver.inputs[0].name != x.name:
        return None
    axis = _axis(total, x, laid)
    return None if axis is None else [_view("LogSoftmax", node, x, axis, producer)]


def _bent(e: Emit, node: Node, active: Active, producer: Producer) -> list[Node] | None:
    """x, and s x below 0, where the slope s depends on the input"""
    x, slope = node.inputs
    if not active(slope):
        return None
    small, positive = e("Mul", x, slope, shape=node.outputs[0].shape), e("GreaterOrEqual", x, 0.0, shape=x.shape)
    view = Node("Where", node.name, [positive, x, small], node.outputs)
    return [Node("Mul", node.name, [x, slope], [small]), view]


def completes(node: Node, active: Active, producer: Producer) -> bool:
    """Does it make f(x) − f(0) of f(x), which is one function, as e^x − 1 in an Elu?"""
    if node.op not in ("Add", "Sub") or all(map(active, node.inputs)):
        return False
    x, shift = node.inputs if active(node.inputs[0]) else node.inputs[::-1]
    giver, value = producer.get(x.name), constant_value(shift)
    start = None if giver is None else of(giver).start
    return start is not None and value is not None and bool((value == (start if node.op == "Sub" else -start)).all())


def _scored(e: Emit, node: Node, active: Active, producer: Producer) -> list[Node] | None:
    """The probabilities of a linear classifier, where something is computed of them. Of two classes with one score z runtimes
    give σ(−z) and σ(z), or 1 − z and z.
    """
    (z, (label, p)), after = (node.inputs[0], node.outputs), node.attrs["post_transform"]
    alone = dims(z) is not None and (dims(z) or [])[-1] == 1
    if _ends(p, active, producer) or (after not in AFTER and not alone) or after == "PROBIT":
        return None
    op, attrs = AFTER[after] if after == "LOGISTIC" or not alone else AFTER["NONE"]
    given = e(op, z, shape=z.shape) if alone else p
    made = [Node("LinearClassifier", node.name, [z], [label], node.attrs), Node(op, node.name, [z], [given], attrs)]
    if not alone:
        return made
    one = e.constant(np.asarray(1, z.dtype))
    rest = e("Sub", one, given, shape=z.shape)
    pair = Node("Concat", node.name, [rest, given], [p], {"axis": 1})
    return [*made, Node("Sub", node.name, [one, given], [rest]), pair]


def _paired(e: Emit, node: Node, active: Active, producer: Producer) -> list[Node] | None:
    """The decisions of a support vector machine, where something is computed of them. Of two classes with one decision z, which
    is that for class 1, runtimes give z and −z, in this order.
    """
    (z, *pairs), (label, p) = node.inputs, node.outputs
    if _ends(p, active, producer) or node.attrs.get(GIVES) != PAIRS or node.attrs["post_transform"] != "NONE":
        return None
    made = [Node("SVMClassifier", node.name, [z], [label], node.attrs)]
    if pairs:
        return [*made, Node("Identity", node.name, pairs, [p])]
    minus = e("Neg", z, shape=z.shape)
    return [*made, Node("Neg", node.name, [z], [minus]), Node("Concat", node.name, [z, minus], [p], {"axis": 1})]


def _ends(tensor: Tensor, active: Active, producer: Producer) -> bool:
    """Is nothing computed of it but what a classifier ends with?"""
    waiting = [tensor]
    while waiting:
        t = waiting.pop()
        for reader in t.readers:
            before = of(reader).before
            source = None if before is None else before(reader, producer, active)
            if source is None or source.name != t.name:
                return False
            waiting += reader.outputs
    return True


def _filled(e: Emit, node: Node, active: Active, producer: Producer) -> list[Node] | None:
    """Entry by entry; what was missing is no less responsible for what it was taken for. Where it was computed, as 0 / 0, there
    is no slope below, and none of this holds.
    """
    waiting = list(node.inputs)
    while waiting:
        giver = producer.get(waiting.pop().name)
        own = [] if giver is None else [t for t in giver.inputs if active(t)]
        if giver is not None and own and not _is_straight(giver, own):
            return None
        waiting += own
    return [Node("Identity", node.name, node.inputs[:1], node.outputs)]


def _is_straight(node: Node, own: Sequence[Tensor]) -> bool:
    """Is it linear, or a move, of its inputs ``own``, whatever they are, NaN among them?"""
    entry = of(node)
    scales = entry.kind == PRODUCT and len(own) == 1 and (node.op == "Mul" or own[0] is node.inputs[0])
    return scales or entry.kind in (LINEAR, MOVE) or entry.hands_on == AS_THEY_ARE


AFTER: dict[str, tuple[str, dict[str, int]]] = {
    "NONE": ("Identity", {}),
    "LOGISTIC": ("Sigmoid", {}),
    "SOFTMAX": ("Softmax", {"axis": 1}),
}

FORMS: dict[str, Callable[[Emit, Node, Active, Producer], list[Node] | None]] = {
    "Mul": _product,
    "Div": _quotient,
    "Pow": _power,
    "PRelu": _bent,
    "LinearClassifier": _scored,
    "SVMClassifier": _paired,
    "Imputer": _filled,
    "Sub": _difference,
    "Log": logsums.of_a_sum,
    "ReduceLogSum": logsums.of_a_sum,
    "Add": _sum,
}


def _softmax(node: Node, raised: Tensor, total: Tensor, inverse: Tensor | None, producer: Producer) -> list[Node] | None:
    """The softmax that a node gives if it divides ``raised`` by ``total``, by way of ``inverse`` where that lies otherwise."""
    power, (giver, laid) = producer.get(raised.name), _origin(total, producer)
    if power is None or giver is None or power.op != "Exp" or giver.op != "ReduceSum":
        return None
    axis = _axis(giver, raised, laid if inverse is None else inverse)
    if giver.inputs[0].name != raised.name or axis is None:
        return None
    return [_view("Softmax", node, power.inputs[0], axis, producer)]


def _view(op: str, node: Node, x: Tensor, axis: int, producer: Producer) -> Node:
    """A softmax along an axis, which does not change with what is the same for all entries along it."""
    giver = producer.get(x.name)
    while giver is not None and giver.op == "Sub" and _is_one(giver, axis, producer):
        x = giver.inputs[0]
        giver = producer.get(x.name)
    return Node(op, node.name, [x], node.outputs, {"axis": axis})


def _is_one(node: Node, axis: int, producer: Producer) -> bool:
    """Is what a node subtracts from each entry of x one number for all along an axis, and no larger than x?"""
    (x, shift), (difference,) = node.inputs, node.outputs
    reduced, laid = _origin(shift, producer, loosely=True)
    if reduced is not None and of(reduced).axes is spread.reduced and reduced.inputs[0].name == x.name:
        return _axis(reduced, x, laid) == axis
    whole, sizes = dims(x), dims(_unrepeated(shift, producer))
    if whole is None or sizes is None or x.shape != difference.shape:
        return False
    place = axis - len(whole) + len(sizes)
    return place < 0 or sizes[place] == 1


def _unrepeated(tensor: Tensor, producer: Producer) -> Tensor:
    """Without the copies along axes that it has."""
    while (node := producer.get(tensor.name)) is not None and node.op == "Expand":
        if node.inputs[0].shape is None or tensor.shape is None or len(node.inputs[0].shape) != len(tensor.shape):
            break
        tensor = node.inputs[0]
    return tensor


def _origin(tensor: Tensor, producer: Producer, loosely: bool = False) -> tuple[Node | None, Tensor]:
    """The node whose entries a tensor has, in their order, and the tensor without copies along axes. ``loosely``: or a node of
    whose entries one by one it is a function, such as the largest, but at least a constant.
    """
    laid = tensor = _unrepeated(tensor, producer)
    while (node := producer.get(tensor.name)) is not None:
        others = [constant_value(t) for t in node.inputs]
        alone = [t for t, value in zip(node.inputs, others, strict=True) if value is None or value.size != 1]
        if of(node).hands_on == IN_ORDER:
            tensor = node.inputs[0]
        elif loosely and is_elementwise(of(node)) and len(alone) == 1:
            tensor = alone[0]
        else:
            break
    return node, laid


def _axis(reduced: Node, x: Tensor, result: Tensor) -> int | None:
    """The one axis of ``x`` that a reduction of it goes over, if ``result``, its entries in their order, lies along all others.

    One size may be unknown, or have another name: there are as many entries as before, so it is what it was.
    """
    try:
        axes = reduced_axes(reduced, len(x.shape or ()))
    except NotLinear:
        return None
    if x.shape is None or len(axes) != 1:
        return None
    if reduced.outputs[0].name == result.name and reduced.attrs.get("keepdims", 1):
        return axes[0]
    if result.shape is None or len(result.shape) != len(x.shape) or result.shape[axes[0]] != 1:
        return None
    pairs = [(a, b) for i, (a, b) in enumerate(zip(x.shape, result.shape, strict=True)) if i != axes[0]]
    doubts = [pair for pair in pairs if pair[0] is None or pair[0] != pair[1]]
    return axes[0] if len(doubts) < 2 and not any(isinstance(a, int) and isinstance(b, int) for a, b in doubts) else None
