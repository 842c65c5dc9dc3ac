"""``propagate`` applies any rule to any layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from onnxdtd.graph.emit import Emit, wide
from onnxdtd.graph.tensors import Tensor, Value, as_tensor
from onnxdtd.method.division import Division, Kept, divide
from onnxdtd.method.rule import Branch, Rule, Term
from onnxdtd.method.terms import BIASES, INPUTS, WEIGHTS, Context, operands
from onnxdtd.operators.layer import Layer, Slot

Record = Callable[[float, Callable[[], Kept]], None]  # told of each division: its scale, and what gives what it kept
Shares = dict[str, tuple[Value, list[Tensor]]]  # of an input, by its symbol: what that stands for, and what comes back to it
Live = Sequence[tuple[int, Term, Value, Value]]  # terms with the number of their slot, x and w


def propagate(
    e: Emit, layer: Layer, rule: Rule, relevance: Tensor, context: Context, record: Record | None = None
) -> list[Tensor | None]:
    """The relevance of each input of ``layer``: R_x = Σ± x_t ⊙ A(w_t)ᵀ s with s = scale · R ⊘ z, z = Σ± A(w_t) x_t + b.

    What of R has no denominator is shared out by the next rule of the chain; what has none under the last is dead.
    """
    shares: list[Shares] = [{} for _ in layer.slots]
    left: list[Callable[[], Tensor]] = [*shared(e, layer, rule, relevance, context, shares, record)]
    for behind in rule.chain[1:]:
        if left:
            rest = e.sum([made() for made in left])
            left = [*shared(e, layer, behind, rest, context, shares, record, folds=True)]
    if record is not None and left:
        record(1.0, lambda: (("dead", made()) for made in left))
    return [e.sum([e.mul(x, e.sum(backs)) for x, backs in share.values()]) if share else None for share in shares]


def shared(
    e: Emit,
    layer: Layer,
    rule: Rule,
    relevance: Tensor,
    context: Context,
    shares: Sequence[Shares],
    record: Record | None,
    folds: bool = False,
) -> Iterator[Callable[[], Tensor]]:
    """Share out relevance by one rule: adds to ``shares``, and gives what has no denominator. ``folds``: weights may be scaled,
    and take the denominator in.
    """
    if folds and rule.squares:
        layer = tamed(e, layer)
    for branch in rule.branches:
        terms: Live = [
            (i, term, *operands(e, slot, term.x, term.w, context, rule.gamma))
            for i, slot, term in live_terms(layer, branch, context.nonnegative)
        ]
        r = selected(e, relevance, layer.y, branch.when)
        whole = of_a_window(e, layer, branch, terms) if folds else None
        if whole is None:
            division = divided(e, layer, rule, branch, terms, r, context)
        else:
            division, terms = folded(e, layer, terms, r, whole)
        if record is not None:
            record(branch.scale, division.kept)
        for i, slot in enumerate(layer.slots):
            mine = [(term, x, w) for at, term, x, w in terms if at == i]
            # Numbers go to the weight, which is known when the session loads, and not to s.
            weights = [e.mul(w, branch.scale * term.sign) for term, _, w in mine]
            for (term, x, _), back in zip(mine, adjoints(e, slot, division.s, weights), strict=True):
                shares[i].setdefault(term.x, (x, []))[1].append(back)
        if division.dead is not None:
            yield partial(scaled, e, division.dead, branch.scale)
    if any(branch.when for branch in rule.branches):  # none of them is for an output of 0
        yield lambda: e("Where", e.equal(layer.y, 0.0), relevance, 0.0)


def scaled(e: Emit, made: Callable[[], Tensor], scale: float) -> Tensor:
    """What is made, times a number."""
    return e.mul(made(), scale)


def divided(e: Emit, layer: Layer, rule: Rule, branch: Branch, terms: Live, r: Tensor, context: Context) -> Division:
    """The relevance r of the outputs that a branch is for, by its denominator; r itself under a rule that does not divide."""
    if not rule.divide:
        return Division(r)
    if not terms and bias_term(e, layer, branch, rule.gamma) is None:  # none can be other than zero
        return Division(r, dead=lambda: r)
    z = denominator(e, layer, branch, terms, rule.gamma)
    sign = sign_of(layer, branch, [term for _, term, _, _ in terms], context.nonnegative)
    division = divide(e, r, z, rule.epsilon, sign)

    def kept() -> Iterator[tuple[str, Tensor]]:
        bias = bias_term(e, layer, branch, rule.gamma)
        if bias is not None:
            yield "bias", e("Mul", division.s, finite(e, as_tensor(bias)))
        yield from division.kept()

    return replace(division, kept=kept)


def tamed(e: Emit, layer: Layer) -> Layer:
    """A layer whose weights, if constant, are parts of 1, so that their squares are numbers: no share tells the difference."""
    if layer.per_channel is None:
        return layer
    (slot,) = layer.slots
    w = e.cast(as_tensor(slot.w), wide(slot.x.dtype))
    total = e("Max", e("ReduceSum", e("Abs", w), keepdims=0), float(np.finfo(w.dtype).tiny))
    return replace(layer, slots=[replace(slot, w=e("Div", w, total))], exact=False)


def of_a_window(e: Emit, layer: Layer, branch: Branch, terms: Live) -> Tensor | None:
    """The denominator by channel, where it is one number for each: of inputs of 1, of which outputs read whole windows only."""
    slot = layer.slots[0]
    if slot.least is None or layer.per_channel is None or branch.bias is not None:
        return None
    if not terms or not all(isinstance(x, float) for _, _, x, _ in terms):
        return None
    window = e.full(1.0, e.constant(np.asarray(slot.least, np.int64)), wide(slot.x.dtype))
    return e.sum([e.mul(as_tensor(slot.forward(window, w)), term.sign) for _, term, _, w in terms])


def folded(e: Emit, layer: Layer, terms: Live, r: Tensor, z: Tensor) -> tuple[Division, Live]:
    """R as it is, and the weights by the denominators z of their channels: all is known when the session loads but for R."""
    assert layer.per_channel is not None
    share = divide(e, e.constant(np.asarray(1.0, z.dtype)), z, 0.0, 0.0)
    each = e("Reshape", share.s, [-1])
    return Division(r, dead=divide(e, r, z, 0.0, 0.0).dead), [(i, t, x, layer.per_channel(w, each)) for i, t, x, w in terms]


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
        if not (INPUTS[term.x].vanishes and nonnegative(slot.x))
        if not all(map(WEIGHTS[term.w].vanishes, _examples(slot.w, nonnegative)))
    ]


def _examples(w: Value, nonnegative: Callable[[Tensor], bool]) -> tuple[float, ...]:
    """What a weight may be, as far as its sign goes."""
    return (w,) if isinstance(w, float) else (0.0, 1.0) if nonnegative(w) else (-1.0, 0.0, 1.0)


def is_output(layer: Layer, branch: Branch, terms: Sequence[Term]) -> bool:
    """Is the denominator the layer's own output, up to the bias? Then the predictor has computed it."""
    return layer.exact and len(terms) == len(layer.slots) and all(term == Term(1.0, "x", "w") for term in terms)


def products(layer: Layer, rule: Rule, nonnegative: Callable[[Tensor], bool]) -> int:
    """How many times ``propagate`` applies the layer's matrix or its transpose."""
    count = 0
    for branch in (branch for each in rule.chain for branch in each.branches):
        terms = [term for _, _, term in live_terms(layer, branch, nonnegative)]
        count += len(terms) * (1 if not rule.divide or is_output(layer, branch, terms) else 2)
    return count


def denominator(e: Emit, layer: Layer, branch: Branch, terms: Live, gamma: float) -> Value:
    """z = Σ± A(w_t) x_t + bias, taken from the predictor's own output where it is the same."""
    if layer.denominator is not None:
        return layer.denominator(e, layer)
    bias = bias_term(e, layer, branch, gamma)
    if is_output(layer, branch, [term for _, term, _, _ in terms]):
        y = e.cast(layer.y, wide(layer.y.dtype))
        return y if branch.bias == "b" or layer.b is None else e("Sub", y, finite(e, e.cast(layer.b, y.dtype)))
    forward = [
        layer.slots[slot].forward(ones(e, layer.slots[slot]) if isinstance(x, float) else x, w) for slot, _, x, w in terms
    ]
    signed = [e.mul(part, term.sign) for part, (_, term, _, _) in zip(forward, terms, strict=True)]
    return e.sum(signed if bias is None else [*signed, bias])


def finite(e: Emit, b: Tensor) -> Tensor:
    """A bias of -∞, which rules a class out, as the lowest number: taken off an output of -∞ it would leave NaN."""
    if b.values is not None and np.isfinite(b.values).all():
        return b
    lowest, highest = np.finfo(b.dtype).min, np.finfo(b.dtype).max
    return e("Clip", b, e.constant(np.asarray(lowest, b.dtype)), e.constant(np.asarray(highest, b.dtype)))


def bias_term(e: Emit, layer: Layer, branch: Branch, gamma: float) -> Value | None:
    """What of the bias a branch has in its denominator."""
    if layer.b is None or branch.bias is None:
        return None
    return BIASES[branch.bias].emit(e, e.cast(layer.b, wide(layer.y.dtype)), gamma)


def sign_of(layer: Layer, branch: Branch, terms: Sequence[Term], nonnegative: Callable[[Tensor], bool]) -> float:
    """1 where the denominator is never negative, -1 where it is never positive, 0 where it may be either."""
    if is_output(layer, branch, terms) and (branch.bias == "b" or layer.b is None) and nonnegative(layer.y):
        return 1.0
    signs = {term.side() for term in terms}
    if branch.bias is not None and layer.b is not None:
        signs.add(BIASES[branch.bias].sign)
    return signs.pop() if len(signs) == 1 else 0.0


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
