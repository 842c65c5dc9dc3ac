"""What prediction and explanation cost, in multiply-adds for one sample; unknown sizes count as 1."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import dims
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.propagate import products
from onnxdtd.operators.linear import Layer


def size(tensor: Tensor, start: int = 0) -> int:
    """The number of entries from axis ``start`` on."""
    return prod(d or 1 for d in (dims(tensor) or [])[start:])


def multiply_adds(step: Step) -> int:
    """Of applying the matrix of a layer once: each output is a sum of products."""
    layer = step.layer
    if layer is None:
        return 0
    (slot, *_), node, y = layer.slots, step.nodes[0], step.nodes[0].outputs[0]
    if node.op == "Conv":
        return size(y) * size(node.inputs[1], 1)
    if node.op == "ConvTranspose":
        return size(slot.x) * size(node.inputs[1], 1)
    if layer.family == "dense":
        return size(y) * _inner(step, layer)
    if node.op == "AveragePool":
        return size(y) * prod(node.attrs["kernel_shape"])
    return sum(size(slot.x) for slot in layer.slots)


def _inner(step: Step, layer: Layer) -> int:
    """How many products each output of a dense layer sums: the entries of the input that are not in the output."""
    node = step.nodes[0]
    if node.op == "Gemm":
        return (dims(node.inputs[0]) or [1, 1])[0 if node.attrs.get("transA") else -1] or 1
    if node.op == "MatMul":
        return (dims(node.inputs[0]) or [1])[-1] or 1
    return max(size(layer.slots[0].x) * size(node.inputs[1]) // max(size(node.outputs[0]), 1), 1)


def explanation(step: Step, nonnegative: Callable[[Tensor], bool]) -> int:
    """Of the relevance pass through a step."""
    if step.layer is None or step.rule is None:
        return 0
    return multiply_adds(step) * products(step.layer, step.rule, nonnegative) // max(len(step.layer.slots), 1)
