"""What holds for tensors: which depend on what is explained, which are never negative, which carry relevance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxdtd.graph.tensors import Graph, Node, Tensor
from onnxdtd.method.method import Method
from onnxdtd.operators.layer import constant_value, is_float
from onnxdtd.operators.table import CHOICE, CONSTANT, never_negative, of


@dataclass
class Facts:
    """What holds for tensors, by name: ``active`` depends on an explained input; ``raw`` is an explained input up to a
    one-to-one transformation, and ``bounded`` is raw with bounds; ``nonnegative`` is provably ≥ 0.
    """

    active: set[str]
    nonnegative: set[str]
    raw: set[str] = field(default_factory=set)
    bounded: set[str] = field(default_factory=set)

    def is_active(self, tensor: Tensor) -> bool:
        """Does it depend on an explained input?"""
        return tensor.name in self.active

    def stay_raw(self, sources: Collection[Tensor], results: Iterable[Tensor]) -> None:
        """What comes of raw sources is raw, and has bounds if all of them have."""
        names = {t.name for t in results}
        self.raw |= names
        if all(t.name in self.bounded for t in sources):
            self.bounded |= names

    def renamed(self, names: Mapping[str, str]) -> Facts:
        """What holds for the same tensors by other names."""
        mine = (self.active, self.nonnegative, self.raw, self.bounded)
        return Facts(*({names[name] for name in held if name in names} for held in mine))

    def is_nonnegative(self, tensor: Tensor) -> bool:
        """Is it provably ≥ 0?"""
        if tensor.name in self.nonnegative:
            return True
        value = None if tensor.name in self.active else constant_value(tensor)
        return value is not None and bool(np.all(value >= 0))


def facts_of(nodes: Sequence[Node], explained: Sequence[Tensor]) -> Facts:
    """Walk forward once. Of what lies below an explained tensor only the node that gives it is asked."""
    counted = {t.name for t in explained if t.producer is not None and never_negative(t.producer, lambda below: False)}
    facts = Facts({t.name for t in explained}, counted)
    for node in nodes:
        if of(node).kind in (CHOICE, CONSTANT) or not any(t.name in facts.active for t in read_as_values(node)):
            continue
        positive = never_negative(node, facts.is_nonnegative)
        # An integer depends on the input in a way that relevance can follow only if it is a quantised number.
        quantised = any(t.name in facts.active and not is_float(t.dtype) for t in node.inputs)
        for result in node.outputs:
            if result.dtype is None or is_float(result.dtype) or of(node).scaled or quantised:
                facts.active.add(result.name)
                if positive:
                    facts.nonnegative.add(result.name)
    return facts


def reads(node: Node) -> list[Tensor]:
    """The inputs of a node, and what the branches of an If or the body of a Loop read from outside."""
    nodes, found = [node], list[Tensor]()
    for each in nodes:  # and those inside, as they are met
        found += each.inputs
        nodes += [inner for value in each.attrs.values() if isinstance(value, Graph) for inner in value.nodes]
    return found


def read_as_values(node: Node) -> list[Tensor]:
    """What a node reads but the numbers by which it looks something up: relevance ends there."""
    looks_up = of(node).looks_up
    return [t for i, t in enumerate(reads(node)) if looks_up is None or i >= len(node.inputs) or looks_up(node, i) is None]


def carriers(nodes: Sequence[Node], logits: Tensor, facts: Facts, producer: Mapping[str, Node], method: Method) -> set[str]:
    """The names of all tensors that relevance can reach from ``logits``; none behind a factor that counts as a constant."""
    wanted = {logits.name} & facts.active
    for node in reversed(nodes):
        if any(t.name in wanted for t in node.outputs):
            constant = method.held(node, facts.is_active, producer)
            values = {t.name for t in read_as_values(node)} & facts.active
            wanted.update(t.name for i, t in enumerate(reads(node)) if t.name in values and i not in constant)
    return wanted


def before(nodes: Sequence[Node], tensor: Tensor) -> list[Node]:
    """The nodes that a tensor depends on, in their order."""
    wanted, needed = {tensor.name}, []
    for node in reversed(nodes):
        if any(t.name in wanted for t in node.outputs):
            wanted.update(t.name for t in reads(node))
            needed.append(node)
    return needed[::-1]
