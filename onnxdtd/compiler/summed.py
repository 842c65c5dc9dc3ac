"""What a softmax takes off its gradient is known from what attention gives: Σ_j p_j s_j = Σ_d o_d g_d.

Of o = p V with the gradient g is s = g Vᵀ, and p · s is o · g. So instead of products of all pairs of positions, and sums over
them, those of a few features are taken, before the heads are laid apart if they are.

It declines a softmax along another axis, with other readers or whose own relevance is wanted, rules that divide, and weights
that are repeated along some axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from onnxdtd.compiler.shortcuts import Situation, read_once
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import spread
from onnxdtd.operators.norms import pulled_by, softmax
from onnxdtd.operators.table import Relevance, first, of


def summed(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with such softmaxes looking at what attention gives."""
    free = read_once(steps, situation)
    readers = {t.name: step for step in steps for t in step.inputs if t is not None and t.name in free}
    return [_looking(step, readers) for step in steps]


def _looking(step: Step, readers: Mapping[str, Step]) -> Step:
    node, y = step.nodes[0], step.outputs[0]
    product = readers.get(y.name)
    if product is None or step.kind != "jacobian" or of(node).jacobian is not softmax:  # between two points it is another one
        return step
    if node.attrs.get("axis", -1) not in (-1, len(dims(y) or []) - 1) or not of(node).gate or not _weighs(product, y):
        return step
    assert product.layer is not None
    behind = readers.get(product.outputs[0].name)
    if behind is None:  # somebody else looks at it
        return step
    seen, move = (behind.outputs[0], behind) if _lays_together(behind, readers) else (product.outputs[0], None)
    return replace(step, looks_at=(seen,), flow=partial(_pulled, product.layer.part, seen, move))


def _lays_together(step: Step, readers: Mapping[str, Step]) -> bool:
    """Are heads put beside each other there, the last axis as it is, and is that read by one alone?"""
    node, last = step.nodes[0], len(dims(step.outputs[0]) or []) - 1
    return of(node).axes is spread.transposed and node.attrs.get("perm", [0])[-1] == last and step.outputs[0].name in readers


def _weighs(step: Step, p: Tensor) -> bool:
    """Is it a product p V of as many matrices as there are p?"""
    node, layer = step.nodes[0], step.layer
    if layer is None or step.flow is not None or step.rule is None or not step.rule.is_derivative:
        return False
    rows = [list(t.shape or [None])[:-1] for t in (p, step.outputs[0])]
    return of(node).axes is spread.matmul and node.inputs[0] is p and None not in rows[0] and rows[0] == rows[1]


def _pulled(
    part: float, seen: Tensor, move: Step | None, e: Emit, node: Node, relevance: Relevance
) -> Iterator[tuple[int, Tensor]]:
    """p (s − Σ o g)"""
    g = relevance[1]
    assert g is not None
    total = e("ReduceSum", e("Mul", seen, g), [-1], keepdims=1)  # of no samples ONNX Runtime keeps all that it would sum
    total = e.mul(e("Slice", total, [0], [1], [-1]), part)
    if move is not None:
        assert move.flow is not None
        ((_, total),) = move.flow(e, move.nodes[0], [total])
    yield 0, pulled_by(e, node, first(relevance), total)
