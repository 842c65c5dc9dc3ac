"""A rule need not be followed by another where no neuron that relevance arrives at can lack a denominator.

Let y = Σ x w + b be above 0 wherever relevance arrives. If no bias is, some x w is above 0. Then so is the sum of products that
are never negative and above 0 wherever x w is, as those of z+, zB (with 0 in the box), w2 and flat are. So in a network without
positive biases `z+ else w2` is z+. That relevance arrives above 0 only is followed from the score down: z+ and Relu hand it on
to what is above 0, w2 hands some to zeros. (A score below 0 counts as above, since deep Taylor decomposition knows no other:
where nothing speaks for the class at all, it is lost as under z+, and the ledger says so.)

It declines where a bias is above 0 or not known, behind quantised layers, and where relevance does not come from a score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.rule import Rule
from onnxdtd.operators.layer import Layer, constant_value
from onnxdtd.operators.table import AS_THEY_ARE, MOVE, ROUTE, of

ARITHMETIC: dict[str, Callable[..., np.ndarray]] = {  # what biases are made of, BatchNormalization folded in
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Neg": np.negative,
    "Sqrt": np.sqrt,
    "Reshape": lambda values, shape: values.reshape(shape),
}


def alive(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, without the rules behind one that has a denominator wherever relevance arrives."""
    loose = set(situation.free)  # tensors that may get relevance where they are not above 0
    found = []
    for step in reversed(steps):
        above = not any(t.name in loose for t in step.outputs)
        if above and step.rule is not None and step.rule.fallback is not None and _always_divides(step, situation):
            step = replace(step, rule=step.rule.alone)
        loose.update(t.name for i, t in enumerate(step.inputs) if t is not None and not _from_above(step, i, above, situation))
        found.append(step)
    return found[::-1]


def _always_divides(step: Step, situation: Situation) -> bool:
    """Has the first rule a denominator above 0 wherever the layer's output is?"""
    layer, rule = step.layer, step.rule
    assert layer is not None
    assert rule is not None
    bias = np.zeros(1) if layer.b is None else situation.number(layer.b)
    if not layer.exact or bias is None or (bias > 0).any():
        return False
    if rule.alone.needs_bounds and not all(_has_zero_inside(slot.x, situation) for slot in layer.slots):
        return False
    signs = (1.0,) if all(situation.nonnegative(slot.x) for slot in layer.slots) else (1.0, -1.0)
    return all(rule.reaches(sign) for sign in signs)


def _has_zero_inside(x: Tensor, situation: Situation) -> bool:
    """Is 0 within the bounds of a first layer's input?"""
    low, high = (situation.number(bound) for bound in situation.bounds(x))
    return low is not None and high is not None and bool((low <= 0).all() and (high >= 0).all())


def _from_above(step: Step, i: int, above: bool, situation: Situation) -> bool:
    """Does an input get relevance only where it is above 0, given whether that holds for the outputs?"""
    x = step.inputs[i]
    assert x is not None
    if step.rule is not None:
        return step.rule.keeps_zeros and (situation.nonnegative(x) or _is_positive_sum(step.layer, step.rule))
    entry = of(step.nodes[0])
    kept = (entry.kind in (MOVE, ROUTE) and entry.keeps_zeros) or entry.hands_on == AS_THEY_ARE
    return above and bool(kept or (entry.rectifies is not None and entry.rectifies(step.nodes[0])))


def _is_positive_sum(layer: Layer | None, rule: Rule) -> bool:
    """Is it a sum whose rule hands nothing to what is below 0, as z+ does with weights above 0?"""
    assert layer is not None
    weights = [slot.w for slot in layer.slots]
    return all(isinstance(w, float) and w > 0 for w in weights) and not any(each.reads_below for each in rule.chain)


def number(e: Emit, tensor: Tensor) -> np.ndarray | None:
    """The value of a tensor made of small constants; None where it is not."""
    wanted, needed = {tensor.name}, []
    for node in reversed(e.nodes):
        if any(t.name in wanted for t in node.outputs):
            wanted.update(t.name for t in node.inputs)
            needed.append(node)
    found: dict[str, np.ndarray] = {}
    for node in needed[::-1]:
        values = [found.get(t.name, constant_value(t)) for t in node.inputs]
        given = [value for value in values if value is not None]
        if node.op not in ARITHMETIC or len(given) < len(values):
            return None
        with np.errstate(all="ignore"):
            found[node.outputs[0].name] = ARITHMETIC[node.op](*given)
    return found.get(tensor.name, constant_value(tensor))
