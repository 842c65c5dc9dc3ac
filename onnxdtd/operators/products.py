"""Linear once a factor is held constant: products of activations, attention.

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
from onnxdtd.operators.layer import Active, Layer, NotLinear, Slot, shape_of
from onnxdtd.operators.linear import sum_slot
from onnxdtd.operators.table import PRODUCT, of


def factors(node: Node, active: Active) -> list[int]:
    """The positions of the factors of a product that depend on the input."""
    return [i for i, t in enumerate(node.inputs[:2]) if active(t)] if of(node).kind == PRODUCT else []


def denominators(node: Node, active: Active, producer: Mapping[str, Node]) -> set[int]:
    """The positions of the factors that something is divided by."""
    return {1} if node.op == "Div" and len(factors(node, active)) == 2 else set()


def gates(node: Node, active: Active, producer: Mapping[str, Node]) -> set[int]:
    """The positions of the factors that are gates, denominators among them."""
    both, below = factors(node, active), denominators(node, active, producer)
    if len(both) < 2 or below:
        return below
    ranks = [gate_rank(node.inputs[i], active, producer) for i in both]
    return set() if ranks[0] == ranks[1] else {both[ranks.index(max(ranks))]}


def gate_rank(tensor: Tensor, active: Active, producer: Mapping[str, Node]) -> int:
    """Of the squashing function that it comes from, up to constants and moves; 0 if it comes from none."""
    while tensor.name in producer:
        node = producer[tensor.name]
        sources = [t for t in node.inputs if active(t)]
        if of(node).gate or not of(node).on_the_way or len(sources) != 1:
            return of(node).gate
        tensor = sources[0]
    return 0


def product(e: Emit, node: Node, active: Active, held: set[int], part: float) -> Layer:
    """A product of two factors that both depend on the input: a part to each, but all to one if the other is held."""
    (left, right), builder = node.inputs[:2], of(node).linear
    assert builder is not None
    if left.name == right.name:
        raise NotLinear("it multiplies a tensor by itself")
    parts = []
    for i in {0, 1} - held:
        own = node.inputs[i].name
        parts.append(_quotient(e, node) if node.op == "Div" and i else builder(e, node, partial(_is, own)))
    slots = [slot for part in parts for slot in part.slots]
    if len(parts) == 2:
        slots = [replace(slot, w=e.mul(slot.w, part)) for slot in slots]
    bias = parts[0].b
    if "equation" in node.attrs and any(map(active, node.inputs[2:])):
        raise NotLinear("more than two of its factors depend on the input")
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
