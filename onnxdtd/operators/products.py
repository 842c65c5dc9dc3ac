"""Linear once a factor is held constant: products of activations, attention, normalisation by the input's own statistics.

Of two factors that both depend on the input one may be a gate: the output of a squashing function, such as sigmoid(x) in
x·sigmoid(x), the weights of a squeeze-and-excite block or the softmax of attention. A gate counts as a constant and the other
factor gets all the relevance (signal takes all; Arras et al. 2017, and CP-LRP, Ali et al. 2022). Where neither factor is
a gate, or both are, each gets half (uniform rule; Achtibat et al. 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.linear import LINEAR, Active, Builder, Layer, NotLinear, Slot, column, shape_of, sum_slot
from onnxdtd.operators.slopes import grouped, row_length, standardised

PRODUCTS = ("Mul", "Div", "MatMul", "Gemm", "Einsum")
# How surely a squashing function makes a gate: those between 0 and 1 do, the others are activations as well.
GATES = {"Sigmoid": 2, "HardSigmoid": 2, "Softmax": 2, "Tanh": 1, "Erf": 1, "Clip": 1}
ON_THE_WAY = (  # between a gate and the product
    ("Add", "Sub", "Mul", "Div", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand")
    + ("Identity", "Cast", "Dropout", "Slice", "Split", "Gather")
)


def factors(node: Node, active: Active) -> list[int]:
    """The positions of the factors of a product that depend on the input."""
    return [i for i, t in enumerate(node.inputs[:2]) if active(t)] if node.op in PRODUCTS else []


def held(node: Node, active: Active, producer: Mapping[str, Node]) -> set[int]:
    """The positions of the factors that count as constants."""
    both = factors(node, active)
    if len(both) < 2:
        return set()
    if node.op == "Div":
        return {1}
    ranks = [gate_rank(node.inputs[i], active, producer) for i in both]
    return set() if ranks[0] == ranks[1] else {both[ranks.index(max(ranks))]}


def gate_rank(tensor: Tensor, active: Active, producer: Mapping[str, Node]) -> int:
    """Of the squashing function that it comes from, up to constants and moves; 0 if it comes from none."""
    while tensor.name in producer:
        node = producer[tensor.name]
        sources = [t for t in node.inputs if active(t)]
        if node.op in GATES:
            return GATES[node.op]
        if node.op not in ON_THE_WAY or len(sources) != 1:
            return 0
        tensor = sources[0]
    return 0


def product(e: Emit, node: Node, active: Active, constant: set[int], derivative: bool) -> Layer:
    """A product of two factors that both depend on the input: half to each (all of it in a derivative), none to a constant."""
    left, right = node.inputs[:2]
    if left.name == right.name:
        raise NotLinear("it multiplies a tensor by itself")
    parts = []
    for i in {0, 1} - constant:
        own = node.inputs[i].name
        parts.append(_quotient(e, node) if node.op == "Div" and i else LINEAR[node.op](e, node, partial(_is, own)))
    slots = [slot for part in parts for slot in part.slots]
    if len(parts) == 2 and not derivative:
        slots = [replace(slot, w=e.mul(slot.w, 0.5)) for slot in slots]
    bias = parts[0].b
    if len(node.inputs) > 2 and active(node.inputs[2]):  # the C of a Gemm, a constant to each part
        bias = None
        slots.append(sum_slot(e, node.inputs[2], node.outputs[0], float(node.attrs.get("beta", 1.0))))
    return Layer(parts[0].family, slots, node.outputs[0], bias)


def _is(name: str, tensor: Tensor) -> bool:
    return tensor.name == name


def _quotient(e: Emit, node: Node) -> Layer:
    """The derivative of a / b by b: −y/b."""
    _, b = node.inputs
    y, shape = node.outputs[0], shape_of(node.outputs[0])
    slope = e("Neg", e("Div", y, b))
    return Layer("affine", [Slot(b, slope, e.mul, lambda s, w: e.unbroadcast(e.mul(s, w), shape, b), elementwise=True)], y)


def _normalised(e: Emit, x: Tensor, axes: list[int], epsilon: float, gamma: Tensor, beta: Tensor | None, y: Tensor) -> Layer:
    """y = γ (x − μ)/σ + β with μ and σ held constant: a diagonal layer."""
    mu, inverse, _ = standardised(e, x, axes, epsilon)
    w = e("Mul", inverse, gamma)
    shift = e("Neg", e("Mul", mu, w))
    return Layer("affine", [Slot(x, w, e.mul, e.mul, elementwise=True)], y, shift if beta is None else e("Add", shift, beta))


def layer_normalization(e: Emit, node: Node, active: Active) -> Layer:
    """Over the last axes."""
    x, rank = node.inputs[0], len(shape_of(node.inputs[0]))
    axes = list(range(node.attrs.get("axis", -1) % rank, rank))
    beta = node.inputs[2] if len(node.inputs) > 2 and not node.inputs[2].left_out else None
    return _normalised(e, x, axes, float(node.attrs.get("epsilon", 1e-5)), node.inputs[1], beta, node.outputs[0])


def instance_normalization(e: Emit, node: Node, active: Active) -> Layer:
    """Over the positions of each channel."""
    (x, *vectors), rank = node.inputs, len(shape_of(node.inputs[0]))
    gamma, beta = (column(e, vector, rank) for vector in vectors)
    return _normalised(e, x, list(range(2, rank)), float(node.attrs.get("epsilon", 1e-5)), gamma, beta, node.outputs[0])


def group_normalization(e: Emit, node: Node, active: Active) -> Layer:
    """Over each group of channels; μ and 1/σ of a group hold for every channel in it."""
    x, groups, rank = node.inputs[0], node.attrs["num_groups"], len(shape_of(node.inputs[0]))
    (_, *vectors), channels = node.inputs, shape_of(x)[1]
    if channels is None:
        raise NotLinear("the number of channels is unknown")
    gamma, beta = (column(e, vector, rank) for vector in vectors)
    mu, inverse, _ = standardised(e, grouped(e, node), [2], float(node.attrs.get("epsilon", 1e-5)))
    wide, thin = [1, groups, channels // groups], [0, channels] + [1] * (rank - 2)
    mu, inverse = (e("Reshape", e("Expand", t, wide), thin) for t in (mu, inverse))
    w = e("Mul", inverse, gamma)
    shift = e("Sub", beta, e("Mul", mu, w))
    return Layer("affine", [Slot(x, w, e.mul, e.mul, elementwise=True)], node.outputs[0], shift)


def normalizer(e: Emit, node: Node, active: Active) -> Layer:
    """y = x / n with the length n of the row held constant."""
    x, (length, _) = node.inputs[0], row_length(e, node)
    return Layer("affine", [Slot(x, e("Reciprocal", length), e.mul, e.mul, elementwise=True)], node.outputs[0])


FROZEN: dict[str, Builder] = {
    "LayerNormalization": layer_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "Normalizer": normalizer,
}
