"""A number that a tensor is multiplied by goes to where less is to be multiplied, if a matrix comes in between.

Of y = W (c x) the derivative is c Wᵀ s = Wᵀ (c s). A Gelu that is written out ends with a half, and the matrix behind it has a
quarter as many outputs as inputs. Both steps become one, that of a matrix.

It declines rules that divide, factors that are no single number, tensors with other readers or whose own relevance is wanted,
matrices with as many outputs as inputs, and half precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnxdtd.compiler.shortcuts import Situation, read_once
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import dims, wide
from onnxdtd.graph.tensors import as_tensor
from onnxdtd.operators.layer import size


def commuted(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with such numbers taken together with the matrix behind."""
    free = read_once(steps, situation)
    numbers = {step.outputs[0].name: step for step in steps if step.outputs[0].name in free and _is_number(step)}
    found: list[Step] = []
    taken: set[str] = set()  # what is multiplied by a number within another step
    for step in steps:
        before = numbers.get(step.layer.slots[0].x.name) if _is_matrix(step) and step.layer is not None else None
        if before is not None and size(step.outputs[0]) < size(before.outputs[0]):
            taken.add(before.outputs[0].name)
            step = _together(before, step)
        found.append(step)
    return [step for step in found if step.outputs[0].name not in taken]


def _is_number(step: Step) -> bool:
    """Does it multiply by one number, and nothing else?"""
    layer = step.layer
    if layer is None or layer.family != "affine" or not layer.one_to_one or not _is_derivative(step):
        return False
    w = layer.slots[0].w
    return isinstance(w, float) or (set(dims(w) or ()) <= {1} and dims(w) is not None and w.dtype == wide(w.dtype))


def _is_matrix(step: Step) -> bool:
    """Is it x W, or W x?"""
    layer = step.layer
    return (
        layer is not None and layer.family == "dense" and len(layer.slots) == 1 and step.live is None and _is_derivative(step)
    )


def _is_derivative(step: Step) -> bool:
    return step.flow is None and step.rule is not None and step.rule.is_derivative


def _together(before: Step, step: Step) -> Step:
    """One step from what is multiplied by a number to what the matrix gives."""
    assert before.layer is not None
    assert step.layer is not None
    (number,), (slot,) = before.layer.slots, step.layer.slots
    times = lambda values: number.forward(values, number.w)
    back = lambda s, w: slot.adjoint(as_tensor(times(s)), w)
    whole = replace(slot, x=number.x, forward=lambda x, w: slot.forward(times(x), w), adjoint=back)
    layer = replace(step.layer, slots=[whole], exact=step.layer.exact and before.layer.exact)
    return replace(step, nodes=(*step.nodes, *before.nodes), inputs=before.inputs, layer=layer)
