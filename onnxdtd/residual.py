"""z+ for the sum of a skip connection b >= 0 and a branch a in front of a Relu, y = max(0, a + b), without reading a.

Relevance arrives only where y > 0 (see ``rectified``). There z+ divides by a⁺ + b = max(y, b), and the branch gets what the
skip leaves, R_a = R - R_b. So nobody but the predictor reads a: its convolution, the sum and the Relu may run in one go, and
a need not be kept for the way back.
"""

from __future__ import annotations

import numpy as np

from onnxdtd.emit import Emit, Tensor, Value, dims, wide
from onnxdtd.linear import Layer
from onnxdtd.rules import Context, Rule

Z_PLUS = {("x+", "w+"), ("x-", "w-")}


def shared_out(e: Emit, layer: Layer, rule: Rule, relevance: Tensor, context: Context) -> list[Value | None] | None:
    """The relevance of both inputs of such a sum, ``layer.y`` being the Relu's result; None where it is none of that kind."""
    skip = _skip(layer, context)
    if skip is None or not _is_z_plus(rule):
        return None
    y, b = (e.cast(t, wide(t.dtype)) for t in (layer.y, layer.slots[skip].x))
    largest = e("Clip", e("Max", y, b), e.constant(np.asarray(np.finfo(y.dtype).tiny, y.dtype)))
    mine = e("Mul", relevance, e("Div", b, largest))  # b / max(y, b) <= 1: neither share has another sign than R
    other = e("Sub", relevance, mine)
    return [mine, other] if skip == 0 else [other, mine]


def _is_z_plus(rule: Rule) -> bool:
    """Is it that rule, by whatever name?"""
    if not rule.divide or rule.epsilon or len(rule.branches) != 1:
        return False
    (branch,) = rule.branches
    terms = {(term.x, term.w) for term in branch.terms if term.sign == 1.0}
    return terms == Z_PLUS and len(branch.terms) == 2 and branch.when is None and branch.scale == 1.0


def _skip(layer: Layer, context: Context) -> int | None:
    """Which of the two inputs of a plain sum is known never to be negative, where the other is not."""
    if layer.family != "sum" or len(layer.slots) != 2 or layer.b is not None:
        return None
    if any(slot.w != 1.0 or dims(slot.x) != dims(layer.y) for slot in layer.slots):
        return None
    signs = [context.nonnegative(slot.x) for slot in layer.slots]
    return signs.index(True) if sum(signs) == 1 else None
