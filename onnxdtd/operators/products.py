"""Linear once a factor is held constant: products of activations, attention, normalisation.

Of two factors that both depend on the input one may count as a constant, and the other gets all the relevance (signal takes
all; Arras et al. 2017, and CP-LRP, Ali et al. 2022). The surest first, that is
- what is divided by, and what is a reciprocal: the deviation, length or sum in a normalisation, however that is written;
- a statistic of sizes alone, such as a mean of |x| or x², which tells how large things are, not which way they point;
- a gate: the output of a squashing function, such as sigmoid(x) in x·sigmoid(x), the weights of a squeeze-and-excite block or
  the softmax of attention;
- f(x) in x·f(x), entry by entry, which is an activation;
- f(v) in u·f(v), the factor of a gated linear unit that alone has come through an activation (GeGLU, SwiGLU, ReGLU).
Where neither factor is the surer constant each gets half (uniform rule; Achtibat et al. 2024). Between two points a is
multiplied by the middle of both b, and b by that of both a (Shapley): Δ(a b) = ½(b + b̃) Δa + ½(a + ã) Δb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import is_

import numpy as np

from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import spread
from onnxdtd.operators.layer import Active, Layer, NotLinear, Slot, sizes_of
from onnxdtd.operators.linear import sum_slot
from onnxdtd.operators.secants import At, here, middle
from onnxdtd.operators.spread import is_elementwise
from onnxdtd.operators.table import AS_THEY_ARE, POINTWISE, PRODUCT, of

STATISTIC = 3  # how surely statistics and reciprocals are constants


def factors(node: Node, active: Active) -> list[int]:
    """The positions of the factors of a product that depend on the input."""
    return [i for i, t in enumerate(node.inputs[:2]) if active(t)] if of(node).kind == PRODUCT else []


def denominators(node: Node, active: Active, producer: Mapping[str, Node]) -> set[int]:
    """The positions of the factors that something is divided by."""
    return {1} if node.op == "Div" and len(factors(node, active)) == 2 else set()


def gates(node: Node, active: Active, producer: Mapping[str, Node]) -> set[int]:
    """The positions of the factors that are gates, denominators and scales among them."""
    return _constants(node, active, producer, lambda rank: True) or _activated(node, active, producer)


def scales(node: Node, active: Active, producer: Mapping[str, Node]) -> set[int]:
    """Those of denominators, of scales and of f(x) in what is, entry by entry, a function of one x alone; gates are none."""
    one = is_elementwise(of(node)) and _have_one_origin(node.inputs, active, producer)
    return _constants(node, active, producer, lambda rank: rank == STATISTIC or one)


def _constants(node: Node, active: Active, producer: Mapping[str, Node], counts: Callable[[int], bool]) -> set[int]:
    """The surer constant of two factors, if its rank ``counts``."""
    both, below = factors(node, active), denominators(node, active, producer)
    if len(both) < 2 or below:
        return below
    ranks = [constant_rank(node.inputs[i], active, producer) for i in both]
    if ranks[0] == ranks[1] or not counts(max(ranks)):
        return function_of_other(node, active, producer)
    return {both[ranks.index(max(ranks))]}


def _activated(node: Node, active: Active, producer: Mapping[str, Node]) -> set[int]:
    """The position of the factor that alone has come through an activation, in a product of two tensors of one shape."""
    both = factors(node, active)
    if len(both) < 2 or not is_elementwise(of(node)) or dims(node.inputs[0]) != dims(node.inputs[1]):
        return set()
    bent = {i for i in both if is_activation(node.inputs[i], active, producer)}
    return bent if len(bent) == 1 else set()


def is_activation(tensor: Tensor, active: Active, producer: Mapping[str, Node]) -> bool:
    """Is it, up to constants and moves, what a function gives entry by entry, in one operator or as x · f(x)?"""
    met: set[str] = set()  # what is quantised and dequantised again comes of itself
    while tensor.name not in met and (node := producer.get(tensor.name)) is not None:
        met.add(tensor.name)
        entry, sources = of(node), [t for t in node.inputs if active(t) and t.dtype != np.bool_]
        if len(sources) == 2:
            return entry.kind == PRODUCT and is_elementwise(entry) and _have_one_origin(sources, active, producer)
        if entry.kind == POINTWISE and entry.hands_on != AS_THEY_ARE:
            return True
        if len(sources) != 1 or not (entry.on_the_way or entry.hands_on == AS_THEY_ARE):
            return False
        tensor = sources[0]
    return False


def _have_one_origin(tensors: Sequence[Tensor], active: Active, producer: Mapping[str, Node]) -> bool:
    """Are they functions of one and the same tensor, entry by entry?"""
    return _are_one(name for t in tensors for name in _origins(t, active, producer))


def _are_one(names: Iterator[str]) -> bool:
    """Is there one name, and no other? The first other one decides: the state of a recurrent layer comes of all of its past."""
    first = next(names, None)
    return first is not None and all(name == first for name in names)


def _origins(tensor: Tensor, active: Active, producer: Mapping[str, Node]) -> Iterator[str]:
    """What it is a function of, entry by entry."""
    found = ends(tensor, lambda t: False, lambda node: is_elementwise(of(node)), active, producer)
    return (t.name for t in found if active(t))


def function_of_other(node: Node, active: Active, producer: Mapping[str, Node]) -> set[int]:
    """The position of the factor that is a function of the other, entry by entry."""
    left, right = node.inputs[:2]
    if left.name == right.name or not is_elementwise(of(node)):
        return set()
    pairs = ((1, right, left), (0, left, right))
    return next(({i} for i, f, x in pairs if is_function(f, x, active, producer)), set())


def is_function(tensor: Tensor, x: Tensor, active: Active, producer: Mapping[str, Node]) -> bool:
    """Is it computed entry by entry from ``x`` and constants alone?"""
    step = lambda node: is_elementwise(of(node))
    names = (t.name for t in ends(tensor, lambda t: t.name == x.name, step, active, producer))
    return next(names, None) == x.name and all(name == x.name for name in names)


def ends(
    tensor: Tensor,
    stop: Callable[[Tensor], bool],
    step: Callable[[Node], bool],
    active: Active,
    producer: Mapping[str, Node],
) -> Iterator[Tensor]:
    """What a tensor comes from: back over the nodes that ``step`` allows, no further than where to ``stop``."""
    left, seen = [tensor], {tensor.name}
    while left:
        here = left.pop()
        node = producer.get(here.name)
        if node is None or stop(here) or not step(node):
            yield here
            continue
        more = [t for t in node.inputs if active(t) and t.name not in seen]
        seen.update(t.name for t in more)
        left += more


def constant_rank(tensor: Tensor, active: Active, producer: Mapping[str, Node]) -> int:
    """How surely a factor is a constant: as a gate, a reciprocal among them, or as a statistic."""
    return STATISTIC if is_statistic(tensor, active, producer) else gate_rank(tensor, active, producer)


def is_statistic(tensor: Tensor, active: Active, producer: Mapping[str, Node]) -> bool:
    """Does it come, by way of a reduction, from functions alone that cannot tell x from −x?"""
    reduced = False

    def step(node: Node) -> bool:
        nonlocal reduced
        entry = of(node)
        reduced = reduced or entry.axes in (spread.reduced, spread.pooled) or entry.summed is not None
        even = entry.even is not None and entry.even(node)
        return not even and (entry.moves or entry.summed is not None or is_elementwise(entry))

    found = False
    for end in ends(tensor, lambda t: False, step, active, producer):  # the first that can decides: a state has all of the past
        node = producer.get(end.name)
        if node is None or (even := of(node).even) is None or not even(node):
            return False
        found = True
    return reduced and found


def gate_rank(tensor: Tensor, active: Active, producer: Mapping[str, Node]) -> int:
    """Of the squashing function that it comes from, up to constants and moves; 0 if it comes from none."""
    while tensor.name in producer:
        node = producer[tensor.name]
        sources = [t for t in node.inputs if active(t) and t.dtype != np.bool_]  # a condition chooses, and is no source
        if of(node).gate or not of(node).on_the_way or len(sources) != 1:
            return of(node).gate
        tensor = sources[0]
    return 0


def product(e: Emit, node: Node, active: Active, held: set[int], part: float, at: At = here) -> Layer:
    """A product of two factors that both depend on the input: a part to each, but all to one if the other is held; between two
    points, if it is elsewhere that ``at`` leads.
    """
    (left, right), builder = node.inputs[:2], of(node).linear
    assert builder is not None
    if left.name == right.name:  # told apart as two tensors
        right = replace(right)
        node = replace(node, inputs=[left, right, *node.inputs[2:]])
    parts = []
    for i in {0, 1} - held:
        own = node.inputs[i]
        parts.append(
            _quotient(e, node, at) if node.op == "Div" and i else builder(e, _at_middle(e, node, i, at), partial(is_, own))
        )
    slots = [slot for part in parts for slot in part.slots]
    if len(parts) == 2:
        slots = [replace(slot, w=e.mul(slot.w, part)) for slot in slots]
    bias = parts[0].b
    if "equation" in node.attrs and any(map(active, node.inputs[2:])):
        raise NotLinear("more than two of its factors depend on the input")
    if len(node.inputs) > 2 and active(node.inputs[2]):  # the C of a Gemm, a constant to each part
        bias = None
        slots.append(sum_slot(e, node.inputs[2], node.outputs[0], float(node.attrs.get("beta", 1.0))))
    family = "product" if parts[0].family == "dense" else parts[0].family
    return Layer(family, slots, node.outputs[0], bias, part=part if len(parts) == 2 else 1.0)


def _at_middle(e: Emit, node: Node, i: int, at: At) -> Node:
    """The product with the middle of both points in place of its other factor than ``i``; of what divides, of its inverse."""
    other = node.inputs[1 - i]
    if at(other) is other:
        return node
    divides = node.op == "Div"
    factor = e("Reciprocal", other) if divides else other
    inputs = [node.inputs[i], replace(middle(e, factor, at(factor)), shape=other.shape)]
    return replace(node, op="Mul" if divides else node.op, inputs=(inputs[::-1] if i else inputs) + node.inputs[2:])


def _quotient(e: Emit, node: Node, at: At) -> Layer:
    """The derivative of a / b by b: −y/b; between two points −½(a + ã)/(b b̃)."""
    a, b = node.inputs
    y, shape = node.outputs[0], sizes_of(node.outputs[0])
    slope = e("Neg", e("Div", y, b) if at(b) is b else e("Div", middle(e, a, at(a)), e("Mul", b, at(b))))
    return Layer("affine", [Slot(b, slope, e.mul, lambda s, w: e.unbroadcast(e.mul(s, w), shape, b), elementwise=True)], y)
