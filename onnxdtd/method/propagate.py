"""A rule as data, and ``propagate``, which applies any rule to any layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxdtd.graph.emit import Emit, wide
from onnxdtd.graph.tensors import Tensor, Value
from onnxdtd.operators.linear import Layer, Slot

INPUTS = ("1", "x", "x+", "x-", "l", "h", "x-l", "x-h")
WEIGHTS = ("1", "w", "w+", "w-", "w2", "w~+", "w~-")
BIASES = ("b", "b+", "b-", "b~+", "b~-")
SIGNS = dict.fromkeys((("x+", "w+"), ("x-", "w-"), ("1", "w2"), ("1", "1"), "b+"), 1.0)  # of products and biases
SIGNS |= dict.fromkeys((("x+", "w-"), ("x-", "w+"), "b-"), -1.0)


@dataclass(frozen=True)
class Term:
    """sign · x · w, a summand of q."""

    sign: float
    x: str
    w: str


@dataclass(frozen=True)
class Branch:
    """scale · Σ terms / (Σ Σ terms + bias), for the outputs that ``when`` selects."""

    terms: tuple[Term, ...]
    scale: float = 1.0
    bias: str | None = None
    when: str | None = None


@dataclass(frozen=True)
class Rule:
    """A propagation rule with its parameters filled in. ``str()`` is the reference that selects it again."""

    name: str
    branches: tuple[Branch, ...]
    params: Mapping[str, float] = field(default_factory=dict)
    epsilon: float = 0.0
    divide: bool = True
    equation: str = ""
    domain: str = ""
    source: str = ""

    def __str__(self) -> str:
        """``name(parameter=value)``"""
        short = {name: f"{value:g}" if float(f"{value:g}") == value else repr(value) for name, value in self.params.items()}
        values = ", ".join(f"{name}={text}" for name, text in short.items())
        return f"{self.name}({values})" if values else self.name

    @property
    def needs_bounds(self) -> bool:
        """Does it mention l or h?"""
        return any(set(term.x) & {"l", "h"} for branch in self.branches for term in branch.terms)

    @property
    def blind(self) -> bool:
        """Does it share out by the weights alone, whatever the values?"""
        return self.divide and all(term.x == "1" for branch in self.branches for term in branch.terms)

    @property
    def for_nonnegative(self) -> bool:
        """Is it z+, whose theory knows inputs ≥ 0 only?"""
        return all(branch.bias is None and any(term.x == "x+" for term in branch.terms) for branch in self.branches)


@dataclass(frozen=True)
class Context:
    """What is known about the tensors of the model: which are ≥ 0, and the bounds of those before the first layer."""

    nonnegative: Callable[[Tensor], bool]
    bounds: Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Division:
    """How a branch divided: the relevance r of the outputs that it is for, and factor · s = r ⊘ z. None where it has
    nothing to share among, or does not divide.
    """

    branch: Branch
    r: Tensor
    s: Tensor | None = None
    z: Value | None = None
    sign: float = 0.0
    factor: float = 1.0


def propagate(
    e: Emit, layer: Layer, rule: Rule, relevance: Tensor, context: Context, record: Callable[[Division], None] | None = None
) -> list[Tensor | None]:
    """The relevance of each input of ``layer``: R_x = Σ± x_t ⊙ A(w_t)ᵀ s with s = scale · R ⊘ z, z = Σ± A(w_t) x_t + b.

    ``record`` is told of every division, from which the ledger learns what the denominators kept.
    """
    shares: list[dict[str, tuple[Value, list[Tensor]]]] = [{} for _ in layer.slots]
    for branch in rule.branches:
        terms = [
            (i, term, input_term(e, slot, term.x, context), weight_term(e, slot, term.w, rule.params))
            for i, slot, term in live_terms(layer, branch, context.nonnegative)
        ]
        r = s = selected(e, relevance, layer.y, branch.when)
        division, factor = Division(branch, r), 1.0
        if terms and rule.divide:
            z = denominator(e, layer, branch, terms, rule.params)
            sign = sign_of(layer, branch, [term for _, term, _, _ in terms], context.nonnegative)
            s, factor = divide(e, r, z, rule.epsilon, sign)
            if layer.family == "dense":  # whose weights are many more than its outputs
                s, factor = e.mul(s, factor), 1.0
            division = Division(branch, r, s, z, sign, factor)
        if record is not None:
            record(division)
        for i, slot in enumerate(layer.slots):
            mine = [(term, x, w) for at, term, x, w in terms if at == i]
            # The factor goes to the weight, which is known when the session loads, and not to s.
            weights = [e.mul(w, factor * branch.scale * term.sign) for term, _, w in mine]
            for (term, x, _), back in zip(mine, adjoints(e, slot, s, weights), strict=True):
                shares[i].setdefault(term.x, (x, []))[1].append(back)
    return [e.sum([e.mul(x, e.sum(backs)) for x, backs in share.values()]) if share else None for share in shares]


def adjoints(e: Emit, slot: Slot, s: Tensor, weights: Sequence[Value]) -> list[Tensor]:
    """A(w)ᵀ s for several weights, in one go where the input has few channels, as that of a first layer."""
    if not slot.few or len(weights) < 2 or any(isinstance(w, float) for w in weights):
        return [slot.adjoint(s, w) for w in weights]
    together = slot.adjoint(s, e("Concat", *weights, axis=1))
    return [e("Slice", together, [i * slot.few], [(i + 1) * slot.few], [1]) for i in range(len(weights))]


def live_terms(layer: Layer, branch: Branch, nonnegative: Callable[[Tensor], bool]) -> list[tuple[int, Slot, Term]]:
    """The terms of a branch for each slot, without those that are zero whatever the input."""
    return [
        (i, slot, term)
        for i, slot in enumerate(layer.slots)
        for term in branch.terms
        if branch.scale
        if not (term.x == "x-" and nonnegative(slot.x))
        if not (isinstance(slot.w, float) and {"w+": slot.w <= 0, "w-": slot.w >= 0}.get(term.w, False))
    ]


def is_output(layer: Layer, branch: Branch, terms: Sequence[Term]) -> bool:
    """Is the denominator the layer's own output, up to the bias? Then the predictor has computed it."""
    return layer.exact and len(terms) == len(layer.slots) and all((t.sign, t.x, t.w) == (1.0, "x", "w") for t in terms)


def products(layer: Layer, rule: Rule, nonnegative: Callable[[Tensor], bool]) -> int:
    """How many times ``propagate`` applies the layer's matrix or its transpose."""
    count = 0
    for branch in rule.branches:
        terms = [term for _, _, term in live_terms(layer, branch, nonnegative)]
        count += len(terms) * (1 if not rule.divide or is_output(layer, branch, terms) else 2)
    return count


def denominator(
    e: Emit, layer: Layer, branch: Branch, terms: Sequence[tuple[int, Term, Value, Value]], params: Mapping[str, float]
) -> Value:
    """z = Σ± A(w_t) x_t + bias, taken from the predictor's own output where it is the same."""
    bias = bias_term(e, layer, branch, params)
    if is_output(layer, branch, [term for _, term, _, _ in terms]):
        y = e.cast(layer.y, wide(layer.y.dtype))
        return y if branch.bias == "b" or layer.b is None else e("Sub", y, e.cast(layer.b, wide(layer.y.dtype)))
    forward = [
        layer.slots[slot].forward(ones(e, layer.slots[slot]) if isinstance(x, float) else x, w) for slot, _, x, w in terms
    ]
    z = e.sum([e.mul(part, term.sign) for part, (_, term, _, _) in zip(forward, terms, strict=True)])
    return z if bias is None else e.add(z, bias)


def bias_term(e: Emit, layer: Layer, branch: Branch, params: Mapping[str, float]) -> Value | None:
    """What of the bias a branch has in its denominator."""
    if layer.b is None or branch.bias is None:
        return None
    return part_of(e, e.cast(layer.b, wide(layer.y.dtype)), branch.bias, params)


def sign_of(layer: Layer, branch: Branch, terms: Sequence[Term], nonnegative: Callable[[Tensor], bool]) -> float:
    """1 where the denominator is never negative, -1 where it is never positive, 0 where it may be either."""
    if is_output(layer, branch, terms) and (branch.bias == "b" or layer.b is None) and nonnegative(layer.y):
        return 1.0
    signs = {SIGNS.get((term.x, term.w), 0.0) * term.sign for term in terms}
    if branch.bias is not None and layer.b is not None:
        signs.add(SIGNS.get(branch.bias, 0.0))
    return signs.pop() if len(signs) == 1 else 0.0


def divide(e: Emit, relevance: Tensor, z: Value, epsilon: float, sign: float) -> tuple[Tensor, float]:
    """s and a factor of 1 or -1 with factor · s = R ⊘ z. Without ε, what has no denominator redistributes nothing."""
    if isinstance(z, float):
        stable = z + (epsilon if z >= 0 else -epsilon)
        return (e.mul(relevance, 1.0 / stable) if stable else e("Mul", relevance, 0.0)), 1.0
    if epsilon:
        return e("Div", relevance, e("Add", z, stabiliser(e, z, epsilon, sign))), 1.0
    if z.dtype != np.float32:
        return e("Div", relevance, e("Where", divides(e, z), z, float("inf"))), 1.0
    inverse, factor = reciprocal(e, z, sign)
    return e("Mul", relevance, inverse), factor


def reciprocal(e: Emit, z: Tensor, sign: float) -> tuple[Tensor, float]:
    """u and a factor with factor · u = 1 ⊘ z, and 0 where z is no denominator: `divides` without a Where.

    A Where costs an ONNX Runtime on a CPU five to ten times as much as an operator that only computes. ThresholdedRelu(α) keeps
    what is above α and makes the rest 0, with α = -2¹¹² what is too negative a reciprocal. Infinity it must not see, since some
    runtimes multiply by 0: where the sign of z is known, z is moved off zero, which costs nothing if it is done while z is
    computed, and else the reciprocal is cut off.
    """
    keep = lambda value: e("ThresholdedRelu", value, alpha=-float(np.nextafter(np.float32(2**112), np.float32(np.inf))))
    one, minus, tiny, low, high = (e.constant(np.asarray(v, z.dtype)) for v in (1, -1, sign * 2.0**-120, -(2.0**120), 2.0**120))
    if sign > 0:
        return keep(e("Div", minus, e("Clip", z, tiny))), -1.0
    if sign < 0:
        return keep(e("Div", one, e("Clip", z, None, tiny))), 1.0
    return keep(e("Neg", keep(e("Clip", e("Div", minus, z), low, high)))), 1.0


def stabiliser(e: Emit, z: Tensor, epsilon: float, sign: float) -> Value:
    """ε sign(z), with sign(0) = 1."""
    if sign > 0:
        return epsilon
    # Adding 2⁻¹⁰⁰ makes a zero positive and changes nothing else. (ONNX Runtime takes much less for a zero, even in float64.)
    far = e("Mul", e("Add", z, 2.0**-100), 2.0**110)  # with the sign of z, and beyond ±ε
    return e("Clip", far, *(e.constant(np.asarray(size, z.dtype)) for size in (-epsilon, epsilon)))


def divides(e: Emit, z: Tensor) -> Tensor:
    """Is there a denominator? From 2¹⁴ times the smallest normal number on, w R / z is finite for any w R below 2¹⁶.

    NaN, as where a bias of -inf is taken off an output of -inf, is none either.
    """
    return e("GreaterOrEqual", e("Abs", z), float(np.finfo(z.dtype).tiny) * 2**14)


def selected(e: Emit, relevance: Tensor, y: Tensor, when: str | None) -> Tensor:
    """R where the output y is as ``when`` says, else 0."""
    if when is None:
        return relevance
    return e("Where", e("Greater" if when == "y>0" else "Less", y, 0.0), relevance, 0.0)


def ones(e: Emit, slot: Slot) -> Value:
    """An input of ones: for one sample where all are treated alike, and as a number where the layer takes one."""
    if slot.elementwise:
        return 1.0
    one = e.constant(np.asarray([1]))
    shape = e("Concat", one, e.shape(slot.x, 1), axis=0) if slot.batched else e.shape(slot.x)
    return e.full(1.0, shape, wide(slot.x.dtype))


def input_term(e: Emit, slot: Slot, symbol: str, context: Context) -> Value:
    """The tensor that an input symbol stands for."""
    if symbol == "1":
        return 1.0
    x = e.cast(slot.x, wide(slot.x.dtype))
    if symbol in ("x", "x+") and (symbol == "x" or context.nonnegative(slot.x)):
        return x
    if symbol == "x+":
        return e("Relu", x)
    if symbol == "x-":
        return e("Min", x, 0.0)
    bound = e.cast(context.bounds(slot.x)[symbol[-1] == "h"], wide(slot.x.dtype))
    if symbol in ("l", "h"):  # on its own it must have the size of x, or a convolution would see a smaller picture
        return bound if slot.elementwise else e("Expand", bound, e.shape(slot.x))
    return e.sub(x, bound)


def weight_term(e: Emit, slot: Slot, symbol: str, params: Mapping[str, float]) -> Value:
    """The weight that a symbol stands for."""
    w = slot.w if isinstance(slot.w, float) else e.cast(slot.w, wide(slot.w.dtype))
    if symbol == "1":
        if slot.one is not None:
            return slot.one
        return 1.0 if slot.elementwise or isinstance(slot.w, float) else e.full(1.0, e.shape(slot.w), wide(slot.w.dtype))
    return e.mul(w, w) if symbol == "w2" else part_of(e, w, symbol, params)


def part_of(e: Emit, value: Value, symbol: str, params: Mapping[str, float]) -> Value:
    """w or b as it is, its positive (+) or negative (-) part, or (~) itself plus γ times that part."""
    if symbol in ("w", "b"):
        return value
    if symbol[1] == "~":
        return e.add(value, e.mul(part_of(e, value, symbol[0] + symbol[2], params), params["gamma"]))
    if isinstance(value, float):
        return max(value, 0.0) if symbol[1] == "+" else min(value, 0.0)
    return e("Relu", value) if symbol[1] == "+" else e("Min", value, 0.0)
