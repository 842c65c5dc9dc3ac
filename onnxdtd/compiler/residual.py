"""z+ for the sum of a branch a and a skip connection b in front of a Relu, y = max(0, a + b), without reading a.

Relevance arrives only where y > 0 (see ``rectified``). There b⁺ / (a⁺ + b⁺) = b⁺ / max(y, b⁺): if both are positive, y is their
sum, if only b is, y is less than b, and if only a is, b⁺ is 0. The branch gets what the skip leaves, R_a = R - R_b. So nobody
but the predictor reads a: its convolution, the sum and the Relu may run in one go, and a need not be kept for the way back.

Where relevance also arrives at y = 0, and z+ has a rule behind it that shares out evenly where neither is positive, that
holds too if b is never negative: then a⁺ is 0, and what is to be halved is where b is 0. With m = 1 there and 0 elsewhere
the share is (b⁺ + m) / (a⁺ + b⁺ + 2 m), in front of a Relu or not.

It declines sums of other rules, of different shapes, with a bias, and without such a rule those that no Relu follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from onnxdtd.compiler.rectified import only_rectified
from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import Emit, dims, wide
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.method.division import absent
from onnxdtd.method.rule import Rule
from onnxdtd.operators.layer import Layer
from onnxdtd.operators.table import Relevance, first


def residual(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with such sums shared out by what the Relu behind them gives."""
    behind = only_rectified(steps)
    return [_short(step, behind, situation) for step in steps]


def _short(step: Step, behind: Mapping[str, Tensor], situation: Situation) -> Step:
    layer, rule = step.layer, step.rule
    if layer is None or rule is None or not rule.alone.is_z_plus or not _is_plain_sum(layer):
        return step
    positive = [situation.nonnegative(slot.x) for slot in layer.slots]
    skip = 0 if positive[0] else 1
    if rule.fallback is not None:
        y = behind.get(layer.y.name) if any(positive) else None
        return replace(step, flow=partial(halved, layer, skip, y)) if _shares_evenly(rule.fallback) else step
    if layer.y is step.outputs[0]:  # no Relu is behind it, or relevance arrives at its zeros
        return step
    return replace(step, flow=partial(shared_out, layer, skip, any(positive)))


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


def halved(
    layer: Layer, skip: int, y: Tensor | None, e: Emit, node: Node, relevance: Relevance
) -> Iterator[tuple[int, Tensor]]:
    """The same with half to each where neither is positive; ``y`` is the Relu's result if that and a skip ≥ 0 tell the sum."""
    a, b = (e.cast(layer.slots[i].x, wide(layer.y.dtype)) for i in (1 - skip, skip))
    part = b if y is not None else e("Relu", b)
    whole = e("Add", e("Relu", a), part) if y is None else e("Max", e.cast(y, part.dtype), part)
    none = absent(e, whole, 1.0)
    mine = e("Mul", first(relevance), e("Div", e("Add", part, none), e("Add", e("Add", whole, none), none)))
    yield skip, mine
    yield 1 - skip, e("Sub", first(relevance), mine)


def _shares_evenly(rule: Rule) -> bool:
    """Does it give both terms of a sum as much, whatever they are?"""
    return rule.blind and rule.positive and not rule.needs_bounds and rule.branches[0].value(1.0, 1.0, rule.gamma) != 0


def _is_plain_sum(layer: Layer) -> bool:
    """Is it a + b, of one shape?"""
    if layer.family != "sum" or len(layer.slots) != 2 or layer.b is not None:
        return False
    return all(slot.w == 1.0 and dims(slot.x) == dims(layer.y) for slot in layer.slots)
