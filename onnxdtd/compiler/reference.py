"""A quantity less a number: f(x) − y₀ as an output of its own, whose last layer has the bias b − y₀."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxdtd.compiler.logits import heads
from onnxdtd.errors import RequestError
from onnxdtd.graph.emit import Emit, label
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.layer import is_float
from onnxdtd.operators.table import ALL, AS_THEY_ARE, IN_ORDER, of
from onnxdtd.request import Request


def less(e: Emit, quantity: Tensor, producer: Mapping[str, Node], number: float) -> list[Node]:
    """The nodes that give a quantity less a number, that itself last. It is taken off in front of what only moves entries, next
    to the layer that it becomes part of.
    """
    moves: list[Node] = []
    tensor = quantity
    while (node := producer.get(tensor.name)) is not None and _moves(node):
        moves.append(node)
        tensor = node.inputs[0]
    given = producer.get(tensor.name)
    with e.within(tensor.name if given is None else label(given)):
        constant = e.constant(np.asarray(number, tensor.dtype))
        result = e("Sub", tensor, constant, shape=tensor.shape)
        made = [Node("Sub", e.scope, [tensor, constant], [result])]
    for node in reversed(moves):
        (like,), others = node.outputs, node.inputs[1:]
        with e.within(label(node)):
            moved = e(node.op, result, *others, dtype=like.dtype, shape=like.shape, **node.attrs)
        made.append(Node(node.op, node.name, [result, *others], [moved], node.attrs))
        result = moved
    return made


def _moves(node: Node) -> bool:
    """Does it hand on each entry of a tensor of floats once, as the number that it was?"""
    return of(node).hands_on in (AS_THEY_ARE, IN_ORDER, ALL) and len(node.outputs) == 1 and is_float(node.inputs[0].dtype)


def check(request: Request, stepped_back: Sequence[Node], count: int | None) -> None:
    """Raise ``RequestError`` for a reference where there is no quantity, or more than one."""
    what = f"--reference {request.reference}"
    if heads(stepped_back):
        ops = " and ".join(dict.fromkeys(node.op for node in stepped_back))
        raise RequestError(
            f"{what}: a quantity is compared with it, and what comes before {ops} is a score of classes; leave it out"
        )
    if request.contrast:
        raise RequestError(f"{what}: the output is compared with that; leave out --contrast")
    if count != 1 and not isinstance(request.target, int | tuple) and request.target != "input":
        raise RequestError(
            f"{what}: the output has {count or 'several'} entries; choose one by its index, --target 0 for example"
        )
