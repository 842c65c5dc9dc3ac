"""Support vector machines of ai.onnx.ml as their decisions, and what runtimes make of these: labels, votes, probabilities.

The predictor keeps the decisions to itself. Of two classes the one decision is that for class 1. Of several each pair has one
for either of them, and the score of a class is the sum of those for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from onnxdtd.errors import ModelError
from onnxdtd.graph.decisions import FLOAT, NEAR, Machine, Writer, floats
from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor

GIVES = "gives"  # an attribute of what hides decisions: what its scores are
PAIRS, PLATT = "pairs", "platt"  # the decisions themselves; probabilities, for which each pair has a sigmoid of its own


def machine(e: Emit, node: Node, derivative: bool, reference: float) -> list[Node]:
    """The nodes that a support vector machine amounts to; the node itself where there is no way back through it."""
    return MACHINES[node.op](e, node, derivative, reference) if node.domain == DOMAIN else [node]


def _regressor(e: Emit, node: Node, derivative: bool, reference: float) -> list[Node]:
    """One decision, or of one class its sign."""
    attrs, y = node.attrs, node.outputs[0]
    weights, rho = (np.asarray(attrs.get(name) or [], np.float64) for name in ("coefficients", "rho"))
    count = int(attrs.get("n_supports", 0))
    vectors = _vectors(e, node, count) if count else None
    one_class = bool(attrs.get("one_class"))
    if not len(rho) or (count and len(weights) != count):
        raise ModelError(f"{e.scope}: an SVMRegressor with {len(weights)} coefficients; export the model again")
    found = Machine(attrs, weights[None], rho[:1], vectors, 0.0 if one_class else reference)
    if not found.is_served(derivative) or attrs.get("post_transform", "NONE") != "NONE":
        return [node]
    write = Writer(e)
    decision = found.decide(write, _real(write, node, found), derivative, None if one_class else y)
    if one_class:
        write("Sign", decision, y=y)
    return write.nodes


def _classifier(e: Emit, node: Node, derivative: bool, reference: float) -> list[Node]:
    """The decision for class 1 of two, or of several classes what speaks for each; the predictor keeps that to itself."""
    attrs = node.attrs
    weights, rho = (np.asarray(attrs.get(name) or [], np.float64) for name in ("coefficients", "rho"))
    labels = attrs.get("classlabels_strings") or attrs.get("classlabels_ints") or []
    counts, classes = [int(count) for count in attrs.get("vectors_per_class") or ()], len(labels)
    pairs = list(combinations(range(classes), 2))
    if not sum(counts):  # one row of weights a class; of two classes runtimes choose by whether either score is positive
        if classes < 3 or len(weights) % classes or not len(rho):
            return [node]
        found = Machine(attrs, weights.reshape(classes, -1), np.repeat(rho[:1], classes), None)
        write = Writer(e)
        scores = found.decide(write, _real(write, node, found), derivative)
        return [*write.nodes, Node("LinearClassifier", e.scope, [scores], node.outputs, _after(attrs))]
    if len(counts) != classes or len(weights) != (classes - 1) * sum(counts) or len(rho) != len(pairs) or not pairs:
        had = f"{len(weights)} coefficients and {len(rho)} decisions"
        raise ModelError(f"{e.scope}: an SVMClassifier with {had} for {classes} classes; export the model again")
    weights = _of_pairs(weights.reshape(classes - 1, -1), counts)
    sides = [-1] if classes == 2 else [1, -1]  # positive for the first class of a pair, and for the second
    weights, rho = (np.concatenate([side * values for side in sides]) for values in (weights, rho))
    found = Machine(attrs, weights, rho, _vectors(e, node, sum(counts)))
    if not found.is_served(derivative):
        return [node]
    write = Writer(e)
    logits = found.decide(write, _real(write, node, found), derivative)
    decisions = []
    if classes > 2:
        shape = [(logits.shape or [None])[0], len(pairs)]
        decisions = [write("Slice", logits, np.array([0]), np.array([len(pairs)]), np.array([1]), shape=shape)]
        logits = _of_classes(write, logits, pairs, classes)
    told = {GIVES: PLATT if attrs.get("prob_a") else PAIRS} | _after(attrs)
    return [*write.nodes, Node(node.op, e.scope, [logits, *decisions], node.outputs, told)]


def _of_pairs(rows: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """The coefficients [pairs, vectors] of libsvm's: a vector of one class has one for each other class, in their order."""
    starts = np.cumsum([0, *counts])
    found = []
    for i, j in combinations(range(len(counts)), 2):
        weights = np.zeros(rows.shape[1])
        for own, row in ((i, j - 1), (j, i)):
            there = slice(starts[own], starts[own + 1])
            weights[there] = rows[row, there]
        found.append(weights)
    return np.stack(found)


def _of_classes(write: Writer, decisions: Tensor, pairs: Sequence[tuple[int, int]], classes: int) -> Tensor:
    """For each class the sum of the decisions for it. Runtimes choose the class that wins most of them: where another one has
    the largest sum, it is given what it lacks.
    """
    e, shape = write.e, [(decisions.shape or [None])[0], classes]
    own = np.eye(classes)[[i for i, _ in pairs] + [j for _, j in pairs]]
    won = e("Greater", decisions, 0.0)
    votes = e("MatMul", e.cast(won, FLOAT), e.constant(floats(own)), shape=shape)
    total = write("MatMul", decisions, floats(own), shape=shape)
    most = e("GatherElements", total, e("ArgMax", total, axis=1, keepdims=1), axis=1)
    winner = e.equal(e("ArgMax", votes, axis=1, keepdims=1), e.constant(np.arange(classes)))
    lacking = e("Sub", most, total, shape=shape)
    lift = e("Where", e("And", winner, e("Greater", lacking, 0.0)), e("Add", lacking, NEAR), 0.0, shape=shape)
    return write("Add", total, lift, shape=shape)


def _vectors(e: Emit, node: Node, count: int) -> np.ndarray:
    vectors = np.asarray(node.attrs.get("support_vectors") or [], np.float64)
    if not len(vectors) or len(vectors) % count:
        raise ModelError(f"{e.scope}: {len(vectors)} numbers for {count} support vectors; export the model again")
    return vectors.reshape(count, -1)


def _real(write: Writer, node: Node, found: Machine) -> Tensor:
    """The input in float32, in which runtimes compute"""
    x, sizes = node.inputs[0], dims(node.inputs[0])
    if sizes is not None and (len(sizes) != 2 or sizes[1] not in (None, found.vectors.shape[1])):
        raise ModelError(f"{write.e.scope}: rows of {found.vectors.shape[1]} features are wanted, not {list(x.shape or ())}")
    real = write.e.cast(x, FLOAT, x.shape)
    return real if real is x else write("Cast", x, y=real)


def _after(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {"post_transform": attrs.get("post_transform", "NONE")}


DOMAIN = "ai.onnx.ml"
MACHINES: dict[str, Callable[[Emit, Node, bool, float], list[Node]]] = {
    "SVMClassifier": _classifier,
    "SVMRegressor": _regressor,
}
