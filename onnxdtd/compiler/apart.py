"""What is added to what ids look up (positions, types of tokens) apart: it ends the walk as well, and is no constant then.

It is the same for all samples, as a rule; its relevance is not. So each sample has its own copy, and the walk ends there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnxdtd.compiler.ends import End, above
from onnxdtd.compiler.facts import facts_of
from onnxdtd.errors import RequestError
from onnxdtd.graph.emit import Emit, dims, label
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.linear import add
from onnxdtd.operators.spread import is_elementwise
from onnxdtd.operators.table import AS_THEY_ARE, of

POSITION, TYPE = "position", "type"
FEW_ROWS = 4  # a table with no more than so many is one of types


def apart(e: Emit, nodes: Sequence[Node], ends: Sequence[End]) -> tuple[list[Node], list[End]]:
    """The nodes, of which those that add something to what is looked up add a copy for each sample, and the ends with these.

    Raises ``RequestError`` where nothing is added to what is looked up.
    """
    active = facts_of(above(nodes, ends), [end.tensor for end in ends]).is_active
    looked = {end.tensor.name: end for end in ends if end.is_lookup}
    found, parts = list[Node](), list[End]()
    for node in nodes:
        reached = [looked[t.name] for t in node.inputs if t.name in looked]
        same = len([t for t in node.inputs if active(t)]) == len(reached) and len(node.outputs) == 1
        if reached and same and (of(node).linear is add or (len(reached) == 1 and _keeps(node))):
            looked[node.outputs[0].name] = reached[0]
            if of(node).linear is add:
                built = len(e.nodes)
                node, own = _taken_apart(e, node, reached[0], looked)
                parts += own
                found += e.nodes[built:]
        found.append(node)
    if not parts:
        raise RequestError(
            "--apart: nothing is added to what ids look up, such as embeddings of positions; leave it out"
            if looked
            else "--apart: the model looks nothing up, as models of tokens do; leave it out"
        )
    return found, [*ends, *parts]


def _keeps(node: Node) -> bool:
    """Is each entry what it was, or a multiple of that?"""
    return of(node).hands_on == AS_THEY_ARE or (of(node).linear is not None and is_elementwise(of(node)))


def _taken_apart(e: Emit, node: Node, end: End, looked: Mapping[str, End]) -> tuple[Node, list[End]]:
    """A sum with a copy for each sample of what it adds to what is looked up at ``end``, and the ends there."""
    inputs, parts = list[Tensor](), list[End]()
    x = next(t for t in node.inputs if t.name in looked)
    with e.within(label(node)):
        for term in node.inputs:
            if term.name in looked:
                inputs.append(term)
                continue
            inputs.append(e("Add", e("Mul", x, 0.0), term, shape=x.shape))  # an Expand would not say where samples lie
            ids = end.explained
            parts.append(End(inputs[-1], e.named(ids, e.unique(_called(term)), ids.shape), beside=end))
    return replace(node, name=label(node), inputs=inputs), parts


def _called(term: Tensor) -> str:
    """What a part is called: one that is the same for all ids, or one of few, is a type."""
    giver, along = term.producer, (dims(term) or [])[-2:-1]
    looks_up = None if giver is None else of(giver).looks_up
    lookup = None if giver is None or looks_up is None else looks_up(giver, 1)
    few = lookup is not None and lookup.rows is not None and lookup.rows <= FEW_ROWS
    return TYPE if few or along in ([], [1]) else POSITION
