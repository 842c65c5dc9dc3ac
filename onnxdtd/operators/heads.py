"""The end of a classifier: what lies between its logits and its outputs, and how to step back over it.

A function ``before_...`` gives the tensor that a node takes its scores or labels from, None where the largest of what goes in
need not be the largest of what comes out. ``producer`` has the node that gives each tensor.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxdtd.graph.emit import dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators import columns, spread
from onnxdtd.operators.layer import Active, constant_value
from onnxdtd.operators.table import (
    BY_LABEL,
    CHOICE,
    HEAD,
    LABELS,
    LABELS_AND_SCORES,
    Head,
    Operator,
    enter,
    first_input,
)


def before_reciprocal(node: Node, producer: Mapping[str, Node], active: Active) -> Tensor | None:
    """The x of 1 / (1 + exp(−x)) written out."""
    for op in ("Add", "Exp"):
        inner = next((producer[t.name] for t in node.inputs if t.name in producer), None)
        if inner is None or inner.op != op:
            return None
        node = inner
    negated = producer.get(node.inputs[0].name)
    if negated is None or negated.op not in ("Neg", "Mul"):
        return None
    values = [constant_value(t) for t in negated.inputs[1:]]
    minus = negated.op == "Neg" or (values[0] is not None and bool((values[0] == -1).all()))
    return negated.inputs[0] if minus else None


def before_sum(node: Node, producer: Mapping[str, Node], active: Active) -> Tensor | None:
    """Something that is added to every class"""
    x, other = node.inputs if active(node.inputs[0]) else node.inputs[::-1]
    return x if not active(other) and _is_row(other) else None


def before_quotient(node: Node, producer: Mapping[str, Node], active: Active) -> Tensor | None:
    """Probabilities one against the rest, brought to the sum 1"""
    x, total = node.inputs
    same = _root(x, producer, active) == _root(total, producer, active)
    return x if same and _is_row(total) and not _is_row(x) else None


def before_pair(node: Node, producer: Mapping[str, Node], active: Active) -> Tensor | None:
    """The probabilities 1 − p and p of two classes"""
    if len(node.inputs) != 2:
        return None
    rest, p = node.inputs
    giver = producer.get(rest.name)
    pair = giver is not None and giver.op == "Sub" and giver.inputs[1].name == p.name
    return p if pair and _is_row(p) and node.attrs["axis"] in (1, -1) else None


def before_pick(node: Node, producer: Mapping[str, Node], active: Active) -> Tensor:
    """Labels by the arg-max, or some of the scores"""
    return node.inputs[1 if node.inputs[1].name in producer else 0]


def before_decision(node: Node, producer: Mapping[str, Node], active: Active) -> Tensor | None:
    """The decisions of a support vector machine, where they are told apart from it"""
    return None if "coefficients" in node.attrs else node.inputs[0]


def before_grid(node: Node, producer: Mapping[str, Node], active: Active) -> Tensor | None:
    """What is put on a grid, or read from one, that is the same for all classes"""
    sizes = dims(node.inputs[1])
    return node.inputs[0] if sizes is not None and all(size == 1 for size in sizes) else None


def _root(tensor: Tensor, producer: Mapping[str, Node], active: Active) -> str:
    """The tensor that a sum over classes is the sum of."""
    while (node := producer.get(tensor.name)) is not None and node.op in ("Abs", "Add", "ReduceSum", "ReduceL1"):
        sources = [t for t in node.inputs if active(t)]
        if len(sources) != 1:
            break
        tensor = sources[0]
    return tensor.name


def _is_row(tensor: Tensor) -> bool:
    """Is it one number for each sample, [batch, 1]?"""
    sizes = dims(tensor)
    return sizes is not None and len(sizes) == 2 and sizes[1] == 1


def is_transparent(operator: Operator) -> bool:
    """Does it only hand on what lies between heads?"""
    return operator.head is None and operator.before in (first_input, before_grid)


INTEGERS = np.dtype(np.int64)
enter(
    Operator(
        "ArgMax", kind=CHOICE, chooses=(0, INTEGERS), axes=spread.chosen, head=Head(gives=LABELS, along=0), before=first_input
    )
)
enter(Operator("ArgMin", kind=CHOICE, chooses=(0, INTEGERS), axes=spread.chosen))
enter(
    Operator(
        "LinearClassifier", kind=HEAD, axes=spread.labelled, head=Head(gives=LABELS_AND_SCORES, one=True), before=first_input
    )
)
enter(Operator("ZipMap", kind=HEAD, head=Head(gives=BY_LABEL), before=first_input))
enter(Operator("ArrayFeatureExtractor", moves=True, before=before_pick, names=columns.picked(-1)))
