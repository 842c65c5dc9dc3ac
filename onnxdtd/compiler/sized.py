"""z+ for a large matrix in front of which x has either sign, without a product for its denominator of each sign.

x⁺w⁺ + x⁻w⁻ = ½ (x w + |x| |w|), and the predictor has computed x w. Of five products, its own among them, four are left. A
bias is not taken off again: what is left of x w beside a large one is rounding.

Rounding is relative to |x| |w|. If an r-th part of that is positive, the amount that an output hands on is off by about 2⁻²³/r
of it; what each input gets of the amount is not. Of hundreds of products about half are positive, and of hundreds of outputs
some are off this way and some that: with an entry of x that is ten thousand times as large as all others r was 10⁻³, and
relevance as exact as by terms; behind a single output it was off by 10⁻⁴.

It declines matrices with less than 256 inputs or outputs, where r may be small by chance, or 0 (then it is rounding, and no 0);
those that give the scores; rules that have another behind them; inputs that are never negative; outputs that a Relu stands for;
operators that add a bias of their own; quantised layers and half precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import Emit, dims, known
from onnxdtd.graph.tensors import Node, Tensor, as_tensor
from onnxdtd.operators.layer import Layer
from onnxdtd.operators.table import Cut

MANY = 256


def sized(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with the denominators of such layers by sizes."""
    return [_by_sizes(step, situation) for step in steps]


def _by_sizes(step: Step, situation: Situation) -> Step:
    layer, rule = step.layer, step.rule
    if layer is None or rule is None or not rule.is_z_plus or step.flow is not None or step.fit:
        return step
    if layer.y is not step.outputs[0] or layer.y.name in situation.sources or not layer.exact or layer.y.dtype != np.float32:
        return step
    if _extent(step, layer) < MANY or situation.nonnegative(layer.slots[0].x):
        return step
    product = _product(step.nodes[0], layer)
    return (
        step if product is None else replace(step, layer=replace(layer, denominator=partial(denominator, product, step.live)))
    )


def _product(node: Node, layer: Layer) -> Tensor | None:
    """x w alone, where a tensor has it."""
    if layer.b is None:
        return layer.y
    return node.outputs[0] if len(node.inputs) == 2 and layer.slots[0].w is node.inputs[1] else None


def _extent(step: Step, layer: Layer) -> int:
    """The smaller side of the matrix W, if it is a step of x W; else 0."""
    node = step.nodes[0]
    if layer.family != "dense" or len(layer.slots) > 1 or layer.slots[0].x is not node.inputs[0]:
        return 0
    sizes = known(dims(node.inputs[1]))
    return min(sizes) if sizes is not None and len(sizes) == 2 else 0


def denominator(product: Tensor, live: Cut | None, e: Emit, layer: Layer) -> Tensor:
    """½ (x w + |x| |w|), of the ``live`` outputs"""
    (slot,) = layer.slots
    if live is not None:
        product = e("Slice", product, [live.start], [live.end], [-1])
    return e("Mul", e("Add", as_tensor(slot.forward(e("Abs", slot.x), e("Abs", as_tensor(slot.w)))), product), 0.5)
