"""A Concat that repeats what an earlier one joined may take that one's result instead.

In a DenseNet every layer reads all features before it, joined anew: n Concats with n²/2 parts. Relevance would be cut into
as many pieces and added up again. As ``Concat(result of the last, what is new)`` each has two parts, and the sums stay.

It declines Concats whose own relevance is wanted: through them that of later ones would flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import dims
from onnxdtd.graph.tensors import Node, Tensor


def chained(steps: Sequence[Step], situation: Situation) -> list[Step]:
    """The steps, with such Concats taken in turn."""
    found: list[Step] = []
    joined: dict[tuple[int, tuple[str, ...]], Tensor] = {}  # results, by axis and names of the parts
    for step in steps:
        node, result = step.nodes[0], step.outputs[0]
        sizes = dims(result)
        if step.op == "Concat" and sizes is not None:
            axis, names = node.attrs["axis"] % len(sizes), tuple(t.name for t in node.inputs)
            size = next((n for n in range(len(names), 1, -1) if (axis, names[:n]) in joined), 0)
            if size:
                first = joined[axis, names[:size]]
                inputs = [first, *node.inputs[size:]]
                nodes = (Node("Concat", node.name, inputs, node.outputs, node.attrs),)
                step = replace(step, nodes=nodes, inputs=(first, *step.inputs[size:]))
            if result.name not in situation.kept:
                joined[axis, names] = result
        found.append(step)
    return found
