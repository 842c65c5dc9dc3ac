"""What centres its input hands back a derivative at once: c s − mean(c s) of y = c (x − μ).

To a rule that shares out relevance x and the mean that is taken off are two inputs, with the weights c and −c/n. A derivative
knows no shares, so that both come back as one, and the mean is taken off without being spread out before.

It declines rules that divide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.table import Relevance, first


def centred(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with such layers pulled back as a whole."""
    return [_at_once(step) for step in steps]


def _at_once(step: Step) -> Step:
    if step.layer is None or step.layer.whole is None or step.rule is None or not step.rule.is_derivative:
        return step
    return replace(step, flow=partial(_pulled, step.layer.whole))


def _pulled(whole: Callable[[Tensor], Tensor], e: Emit, node: Node, relevance: Relevance) -> Iterator[tuple[int, Tensor]]:
    """c s − mean(c s)"""
    yield 0, whole(first(relevance))
