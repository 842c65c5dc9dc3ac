"""RevealCancel (DeepLIFT): what speaks for and what against a neuron z = A x + b get multipliers of their own through y = f(z).

    Δz⁺ = Σ (w Δx)⁺   Δz⁻ = Σ (w Δx)⁻   Δy⁺ = ½ (f(z̃ + Δz⁺) − f(z̃)) + ½ (f(z) − f(z̃ + Δz⁻))   Δy⁻ with the signs exchanged

By the linear rule the multiplier of x is A(w⁺)ᵀ m⁺ + A(w⁻)ᵀ m⁻ where Δx > 0, with m⁺ and m⁻ exchanged where Δx < 0, and the
mean of both where it is 0. With the middle μ of m⁺ and m⁻ and half their difference δ that is A(w)ᵀ μ + sign(Δx) A(|w|)ᵀ δ.
So μ takes the way of any multiplier, and δ goes straight to what the layers below read. Likewise Δz± = ½ (Δz ± A(|w|) |Δx|).
Through sums, scales and shifts between both parts pass on. Where no layer that mixes lies below, there is nothing to reveal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Node, Tensor, Value
from onnxdtd.operators.layer import Active, Slot
from onnxdtd.operators.pointwise import moved
from onnxdtd.operators.products import factors
from onnxdtd.operators.secants import At, near, ratio
from onnxdtd.operators.table import Further, Relevance, first, of

MIXING = ("conv", "dense")
Path = tuple[Slot, ...]  # the layers from z down to what the last of them reads


def revealed(
    e: Emit, node: Node, active: Active, producer: Mapping[str, Node], at: At, families: Collection[str] = MIXING
) -> Further | None:
    """The way through a function of what layers of some families give; None where there are none, or it is not one of any z."""
    z, operator = node.inputs[0], of(node)
    if not operator.everywhere or operator.slope is None or not active(z):
        return None
    paths, mixing = below(e, z, active, producer)
    if not mixing & {*families}:
        return None

    def flow(e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
        up, down = multipliers(e, made, at, total(e, paths, at))
        m = first(relevance)
        yield 0, e("Mul", m, e("Mul", e("Add", up, down), 0.5))
        half = e("Mul", m, e("Mul", e("Sub", up, down), 0.5))
        for i, path in enumerate(paths, len(made.inputs)):
            share = half
            for slot in path:
                share = slot.adjoint(share, size_of(e, slot.w))
            yield i, e("Mul", share, e("Sign", difference(e, path, at)))

    made = node
    return Further(flow, [path[-1].x for path in paths])


def below(e: Emit, z: Tensor, active: Active, producer: Mapping[str, Node]) -> tuple[Sequence[Path], set[str]]:
    """The ways down from z to what layers that mix read, or to where none is, and the families of these layers."""
    found: list[Path] = []
    families: set[str] = set()
    waiting: list[Path] = [()]
    while waiting:
        path = waiting.pop()
        node = producer.get((path[-1].x if path else z).name)
        linear = None if node is None or len(factors(node, active)) > 1 else of(node).linear
        layer = None if node is None or linear is None else linear(e, node, active)
        if layer is not None and layer.family in MIXING:
            families.add(layer.family)
            found += [(*path, slot) for slot in layer.slots]
        elif layer is not None and layer.family in ("sum", "affine"):
            waiting += [(*path, slot) for slot in layer.slots[::-1]]
        elif path:
            found.append(path)
    return found, families


def difference(e: Emit, path: Path, at: At) -> Tensor:
    """Δx of what the last layer of a path reads."""
    x = path[-1].x
    return e("Sub", x, at(x))


def size_of(e: Emit, w: Value) -> Value:
    """|w|"""
    return abs(w) if isinstance(w, float) else e("Abs", w)


def total(e: Emit, paths: Sequence[Path], at: At) -> Tensor:
    """Δz⁺ − Δz⁻ = Σ |w Δx|"""
    sums: list[Value] = []
    for path in paths:
        value: Value = e("Abs", difference(e, path, at))
        for slot in reversed(path):
            value = slot.forward(value, size_of(e, slot.w))
        sums.append(value)
    found = e.sum(sums)
    assert isinstance(found, Tensor)
    return found


def multipliers(e: Emit, node: Node, at: At, size: Tensor) -> list[Tensor]:
    """Δy⁺/Δz⁺ and Δy⁻/Δz⁻: the mean of the slopes before and after the other part. ``size`` is Δz⁺ − Δz⁻."""
    z = node.inputs[0]
    change, start = e("Sub", z, at(z)), moved(node, at)
    parts = [e("Mul", e(op, change, size), 0.5) for op in ("Add", "Sub")]
    halves = [_elsewhere(e, node, e("Add", at(z), part)) for part in parts]
    least = e("Mul", e("Add", size, 1.0), near(z.dtype))  # a part is as exact as their sum
    slopes = [
        (_steep(e, half, start, part, least), _steep(e, node, other, part, least))
        for half, other, part in zip(halves, halves[::-1], parts, strict=True)
    ]
    return [e("Mul", e("Add", before, after), 0.5) for before, after in slopes]


def _elsewhere(e: Emit, node: Node, z: Tensor) -> Node:
    """The function of another number."""
    y = e(node.op, z, *node.inputs[1:], **node.attrs)
    return Node(node.op, node.name, [z, *node.inputs[1:]], [y], node.attrs)


def _steep(e: Emit, one: Node, other: Node, part: Tensor, least: Tensor) -> Tensor:
    """Δy/Δz of a function between two numbers, which are a part apart."""
    operator = of(one)
    if operator.secant is not None:
        pairs = zip((*one.inputs, *one.outputs), (*other.inputs, *other.outputs), strict=True)
        known = {mine.name: theirs for mine, theirs in pairs}
        return operator.secant(e, one, lambda t: known.get(t.name, t))
    assert operator.slope is not None
    return ratio(e, e("Sub", one.outputs[0], other.outputs[0]), part, least, operator.slope(e, other))
