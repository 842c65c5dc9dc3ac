"""What prediction and explanation cost, in multiply-adds for one sample; unknown sizes count as 1."""

from __future__ import annotations

from collections.abc import Callable

from onnxdtd.compiler.steps import Step
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.propagate import products
from onnxdtd.operators.table import of


def multiply_adds(step: Step) -> int:
    """Of applying the matrix of a layer once: each output is a sum of products."""
    cost = of(step.nodes[0]).cost
    if step.layer is None:
        return 0
    assert cost is not None
    return cost(step.nodes[0], step.layer)


def explanation(step: Step, nonnegative: Callable[[Tensor], bool]) -> int:
    """Of the relevance pass through a step."""
    if step.layer is None or step.rule is None:
        return 0
    return multiply_adds(step) * products(step.layer, step.rule, nonnegative) // max(len(step.layer.slots), 1)
