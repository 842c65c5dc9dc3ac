"""z+ for the sum of a branch a and a skip connection b in front of a Relu, y = max(0, a + b), without reading a.

Relevance arrives only where y > 0 (see ``rectified``). There b⁺ / (a⁺ + b⁺) = b⁺ / max(y, b⁺): if both are positive, y is their
sum, if only b is, y is less than b, and if only a is, b⁺ is 0. The branch gets what the skip leaves, R_a = R - R_b. So nobody
but the predictor reads a: its convolution, the sum and the Relu may run in one go, and a need not be kept for the way back.

It declines sums of other rules, of tensors of different shapes, with a bias, and those that no Relu follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import Emit, dims, wide
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.layer import Layer
from onnxdtd.operators.table import Relevance, first


def residual(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with such sums shared out by what the Relu behind them gives."""
    return [_short(step, situation) for step in steps]


def _short(step: Step, situation: Situation) -> Step:
    layer = step.layer
    if layer is None or step.rule is None or layer.y is step.outputs[0]:  # no Relu is behind it
        return step
    if not _is_plain_sum(layer) or not step.rule.is_z_plus:
        return step
    positive = [situation.nonnegative(slot.x) for slot in layer.slots]
    return replace(step, flow=partial(shared_out, layer, 0 if positive[0] else 1, any(positive)))


def shared_out(
    layer: Layer, skip: int, positive: bool, e: Emit, node: Node, relevance: Relevance
) -> Iterator[tuple[int, Tensor]]:
    """The relevance of both inputs of such a sum, ``layer.y`` being the Relu's result; ``positive``: is the skip never < 0?"""
    y, b = (e.cast(t, wide(t.dtype)) for t in (layer.y, layer.slots[skip].x))
    part = b if positive else e("Relu", b)
    largest = e("Clip", e("Max", y, part), e.constant(np.asarray(np.finfo(y.dtype).tiny, y.dtype)))
    mine = e("Mul", first(relevance), e("Div", part, largest))  # at most 1 times R: neither share has another sign than R
    yield skip, mine
    yield 1 - skip, e("Sub", first(relevance), mine)


def _is_plain_sum(layer: Layer) -> bool:
    """Is it a + b, of one shape?"""
    if layer.family != "sum" or len(layer.slots) != 2 or layer.b is not None:
        return False
    return all(slot.w == 1.0 and dims(slot.x) == dims(layer.y) for slot in layer.slots)
