"""Layers in front of a Relu may divide by what the Relu gives instead of by their own output.

Where a tensor is 0, most rules hand no relevance to it, since R_i = x_i Σ ... Then behind a Relu there is relevance only where
the layer's output is positive, and there the Relu has left it as it was. Its result is never negative, so a sign need not be
looked for, and the runtime may compute layer and Relu in one go, as it does in the predictor, because nobody reads between.

It declines where relevance may arrive at a 0: at a source of relevance, behind rules that hand some to zeros (w2, zB, flat),
behind operators that do not keep zeros, and where somebody besides the Relu reads the layer's output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.tensors import Tensor
from onnxdtd.operators.table import of


def rectified(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with the Relu's result as the output of layers that feed only a Relu, where that makes no difference."""
    loose = set(situation.sources)  # tensors that may get relevance where they are 0
    behind, found = only_rectified(steps), []
    for step in reversed(steps):
        firm = not any(t.name in loose for t in step.outputs)
        if step.rule is not None and step.layer is not None:
            y = behind.get(step.layer.y.name)
            if y is not None and y.name not in loose:
                step = replace(step, layer=replace(step.layer, y=y))
        if not _keeps_zeros(step, firm):
            loose.update(t.name for t in step.inputs if t is not None)
        found.append(step)
    return found[::-1]


def only_rectified(steps: Sequence[Step]) -> dict[str, Tensor]:
    """The Relu's result by the name of what goes into it, where nobody else reads that."""
    readers = Counter(t.name for step in steps for t in step.inputs if t is not None)
    relus = [(step.inputs[0], step.outputs[0]) for step in steps if step.op == "Relu"]
    return {x.name: y for x, y in relus if x is not None and readers[x.name] == 1}


def _keeps_zeros(step: Step, firm: bool) -> bool:
    """Do the inputs get no relevance where they are 0, given whether that holds for the outputs?"""
    if step.rule is not None:
        return step.rule.keeps_zeros
    return firm and bool(of(step.nodes[0]).keeps_zeros)
