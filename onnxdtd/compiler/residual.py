"""z+ for the sum of a branch a and a skip connection b in front of a Relu, y = max(0, a + b), without reading a.

Relevance arrives only where y > 0 (see ``rectified``). There b⁺ / (a⁺ + b⁺) = b⁺ / max(y, b⁺): if both are positive, y is their
sum, if only b is, y is less than b, and if only a is, b⁺ is 0. The branch gets what the skip leaves, R_a = R - R_b. So nobody
but the predictor reads a: its convolution, the sum and the Relu may run in one go, and a need not be kept for the way back.
"""

from __future__ import annotations

import numpy as np

from onnxdtd.graph.emit import Emit, dims, wide
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.rule import Rule
from onnxdtd.method.terms import Context
from onnxdtd.operators.linear import Layer


def shared_out(e: Emit, layer: Layer, rule: Rule, relevance: Tensor, context: Context) -> list[Tensor | None] | None:
    """The relevance of both inputs of such a sum, ``layer.y`` being the Relu's result; None where it is none of that kind."""
    if not _is_plain_sum(layer) or not rule.is_z_plus:
        return None
    skip = 0 if context.nonnegative(layer.slots[0].x) else 1
    y, b = (e.cast(t, wide(t.dtype)) for t in (layer.y, layer.slots[skip].x))
    positive = b if context.nonnegative(layer.slots[skip].x) else e("Relu", b)
    largest = e("Clip", e("Max", y, positive), e.constant(np.asarray(np.finfo(y.dtype).tiny, y.dtype)))
    mine = e("Mul", relevance, e("Div", positive, largest))  # at most 1 times R: neither share has another sign than R
    other = e("Sub", relevance, mine)
    return [mine, other] if skip == 0 else [other, mine]


def _is_plain_sum(layer: Layer) -> bool:
    """Is it a + b, of one shape?"""
    if layer.family != "sum" or len(layer.slots) != 2 or layer.b is not None:
        return False
    return all(slot.w == 1.0 and dims(slot.x) == dims(layer.y) for slot in layer.slots)
