"""The ledger: where the explained logit went, layer by layer, as sums that the compiled model computes itself.

A layer takes in Σ R of its outputs and hands on Σ R of its inputs. The difference is no mystery: with the denominator
d = Σ q + b + ε sign(z), a bias b keeps R b / d, the stabiliser keeps R ε sign(z) / d, and where d is 0 all of R stays.
So Σ in = Σ out + bias + stabiliser + dead, up to rounding, and the logit is the relevance of the inputs plus what all
layers kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.steps import Step
from onnxdtd.contract import COLUMNS
from onnxdtd.errors import ModelError
from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.division import KEEPERS, Kept
from onnxdtd.operators.layer import Layer
from onnxdtd.operators.table import ALL, IN_ORDER, of

Row: TypeAlias = dict[str, Tensor]
Pairs: TypeAlias = Sequence[tuple[Tensor, Tensor]]
DOUBLE = np.dtype(np.float64)


class Bookkeeper:
    """Collects a row of sums for each step; a sum is a tensor [batch, 1] in float64, so that summing adds no error."""

    def __init__(self, e: Emit, plan: Plan, bounds: Callable[[Tensor], tuple[Tensor, Tensor]]):
        self._e, self._plan, self._bounds = e, plan, bounds
        self._batch, self.batch = plan.samples.count(e), plan.samples.size
        for tensor in plan.inputs:
            if self.batch != 1 and plan.samples.axes[tensor.name] is None:
                raise ModelError(f"--ledger: the input {tensor.name!r} has no batch axis, its relevance belongs to no sample")
        self.steps: list[str] = []
        self._rows: list[Tensor] = []
        self._divisions: list[tuple[float, Callable[[], Kept]]] = []

    def seed(self, relevance: Tensor) -> None:
        """The first row: the explained logit."""
        total = self._amount(self._plan.logits, relevance)
        self._enter(self._plan.logits.name, {"in": total, "out": total})

    def record(self, scale: float, kept: Callable[[], Kept]) -> None:
        """Note what a division of a rule keeps, until the step is entered."""
        self._divisions.append((scale, kept))

    def enter(self, step: Step, arrived: Pairs, handed: Pairs) -> None:
        """A row for a step, from the pairs of tensor and relevance at its outputs and at its inputs."""
        divisions, self._divisions = self._divisions, []
        entry = of(step.nodes[0])
        if step.rule is None and (step.kind in ("pass", "preprocessing") or entry.hands_on in (ALL, IN_ORDER)):
            return  # every entry is handed on, no need to count
        e = self._e
        own = partial(self._plan.method.of_tensor, e)
        row: Row = {"in": self._total(self._amount(t, r) for t, r in arrived)}
        if handed:
            row["out"] = self._total(self._amount(t, r) for t, r in handed)
            row["negative"] = self._total(self._sum(e("Min", own(t, r), 0.0), t) for t, r in self._of_each(handed))
        keeper = step.keeps or ("constants" if entry.constants else self._constant(step))
        if keeper:
            row[keeper] = e("Sub", row["in"], row["out"]) if handed else row["in"]
        if step.rule is not None:
            row |= self._kept(step, divisions, arrived) | self._biases(step) | self._inputs(step)
        self._enter(step.name, row)

    def mask(self, name: str, tensor: Tensor, arrived: Tensor, passed: Tensor) -> None:
        """A row for a mask: what came to its tensor, and what it let pass."""
        e = self._e
        row = {"in": self._amount(tensor, arrived), "out": self._amount(tensor, passed)}
        row["masked"] = e("Sub", row["in"], row["out"])
        row["negative"] = self._sum(e("Min", self._plan.method.of_tensor(e, tensor, passed), 0.0), tensor)
        self._enter(name, row)

    def output(self) -> Tensor:
        """All rows, float64 [batch, steps, columns]."""
        e, rows = self._e, self._rows
        return e("Reshape", e("Concat", *rows, axis=1), [0, len(rows), len(COLUMNS)])

    def _of_each(self, handed: Pairs) -> Pairs:
        """What each tensor is handed in all, as which it is negative or not: a norm hands to x, and to x by way of its mean."""
        names = dict.fromkeys(t.name for t, _ in handed)
        groups = [[pair for pair in handed if pair[0].name == name] for name in names]
        return [(group[0][0], self._e.sum([r for _, r in group])) for group in groups]

    def _enter(self, name: str, row: Row) -> None:
        """Rows are put together where their sums are: ONNX Runtime takes ever longer to load a file, the more nodes wait."""
        e = self._e
        zero = e.full(0.0, e("Concat", self._batch, e.constant(np.asarray([1])), axis=0), DOUBLE)
        self.steps.append(name)
        self._rows.append(e("Concat", *(row.get(column, zero) for column in COLUMNS), axis=1))

    def _constant(self, step: Step) -> str:
        """Who keeps what a function of a gradient does not hand on of t · g: a constant, as f(0), or that of an expansion. Of
        a layer it is its bias, unless its output is rounded.
        """
        whole = step.layer is not None and step.layer.exact and all(node.exact for node in step.nodes)
        return "" if self._plan.method.divides or whole else "bias"

    def _kept(self, step: Step, divisions: Iterable[tuple[float, Callable[[], Kept]]], arrived: Pairs) -> Row:
        """What the denominators of a rule kept; without one, b · g."""
        layer = _layer(step)
        if not self._plan.method.divides and layer.b is not None and not self._constant(step):
            return {"bias": self._sum(self._plan.method.of_tensor(self._e, layer.b, arrived[0][1]), layer.y)}
        sums: dict[str, list[Tensor]] = {name: [] for name in KEEPERS}
        for scale, kept in divisions:
            for name, value in kept():
                sums[name].append(self._sum(self._e.mul(value, scale), _layer(step).y))
        return {name: self._total(parts) for name, parts in sums.items() if parts}

    def _biases(self, step: Step) -> Row:
        """How many biases are positive, and how much they add up to, neuron by neuron."""
        e, layer = self._e, _layer(step)
        if layer.b is None:
            return {}
        positive = e("Expand", e("Relu", layer.b), e.shape(layer.y))
        return {
            "positive_biases": self._sum(e("Greater", positive, 0.0), layer.y),
            "bias_sum": self._sum(positive, layer.y),
        }

    def _inputs(self, step: Step) -> Row:
        """How many inputs are negative, and how many lie outside the bounds that the rule counts on."""
        e, tensors, rule = self._e, [slot.x for slot in _layer(step).slots], step.rule
        assert rule is not None
        signed = [x for x in tensors if not self._plan.nonnegative(x)]
        row = {"negative_inputs": self._total([self._sum(e("Less", x, 0.0), x) for x in signed])} if signed else {}
        if rule.needs_bounds:
            beyond = []
            for x in tensors:
                low, high = self._bounds(x)
                beyond += [self._sum(e("Less", x, low), x), self._sum(e("Greater", x, high), x)]
            row["outside"] = self._total(beyond)
        return row

    def _amount(self, tensor: Tensor, walked: Tensor) -> Tensor:
        """Σ R of a tensor, of each sample."""
        return self._sum(self._plan.method.of_tensor(self._e, tensor, walked), tensor)

    def _sum(self, value: Tensor, like: Tensor) -> Tensor:
        """Σ over all entries of a sample, [batch, 1]; ``like`` tells how ``value`` is laid out."""
        e = self._e
        try:
            rows = self._plan.samples.rows(e, e.cast(value, DOUBLE), like)
        except ModelError as error:
            raise ModelError(f"--ledger: {error}") from None
        return e("ReduceSum", rows, [1], keepdims=1)

    def _total(self, parts: Iterable[Tensor]) -> Tensor:
        total = self._e.sum(list(parts))
        assert not isinstance(total, float)
        return total


def _layer(step: Step) -> Layer:
    assert step.layer is not None
    return step.layer
