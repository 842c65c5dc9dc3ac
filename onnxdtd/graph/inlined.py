"""The nodes of an inner graph, or of the body of a function, as nodes of the graph around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from onnx import AttributeProto, GraphProto, NodeProto, helper

Fresh = Callable[[str], str]  # a name that no tensor has yet, from one that says what it is


def scope(node: NodeProto) -> str:
    """What a person calls this node."""
    return node.name or next((name for name in node.output if name), node.op_type)


def inlined(
    nodes: Sequence[NodeProto],
    names: Mapping[str, str],
    results: Iterable[tuple[str, str]],
    around: str,
    fresh: Fresh,
    attributes: Mapping[str, AttributeProto] | None = None,
) -> tuple[list[NodeProto], dict[str, str]]:
    """Copies of ``nodes`` under other names, and these by the names inside; what is not defined inside keeps its name.

    ``names`` are those of inputs, by the names inside. ``results`` are pairs of a name inside and the one that it is to have
    outside. ``around`` is the name of the node that they stand for, ``attributes`` are those of a function that its body names.
    """
    given, results = dict(names), list(results)
    direct = _direct(nodes, results)
    made = []
    for node in nodes:
        copy = NodeProto.FromString(node.SerializeToString())
        copy.name = f"{around}/{scope(node)}"
        copy.input[:] = [given.get(name, name) for name in node.input]
        given |= {name: direct.get(name) or fresh(f"{around}/{name}") for name in node.output if name}
        copy.output[:] = [given[name] if name else "" for name in node.output]
        _fill(copy, attributes or {})
        for attribute in copy.attribute:
            for graph in (attribute.g, *attribute.graphs):
                _rename(graph, given, around, fresh)
        made.append(copy)
    for inside, outside in results:
        if direct.get(inside) != outside:
            made.append(helper.make_node("Identity", [given.get(inside, inside)], [outside], name=f"{around}/{inside}"))
    return made, given


def _direct(nodes: Sequence[NodeProto], results: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The results that a node can give under the name that they have outside: if it gives nothing else, and each only once."""
    wanted = {inside: outside for inside, outside in reversed(results) if outside}
    outputs = [[name for name in node.output if name] for node in nodes]
    return {name: wanted[name] for given in outputs if all(name in wanted for name in given) for name in given}


def _fill(node: NodeProto, attributes: Mapping[str, AttributeProto]) -> None:
    """Attributes that the body of a function takes from the node; one that the node does not have is left out."""
    kept = []
    for attribute in node.attribute:
        if attribute.ref_attr_name and attribute.ref_attr_name not in attributes:
            continue
        own = AttributeProto()
        own.CopyFrom(attributes[attribute.ref_attr_name] if attribute.ref_attr_name else attribute)
        own.name = attribute.name
        kept.append(own)
    del node.attribute[:]
    node.attribute.extend(kept)


def _rename(graph: GraphProto, names: Mapping[str, str], around: str, fresh: Fresh) -> None:
    """Names of a graph that stays an inner one: what it defines gets new names, and it reads what is outside by its names."""
    graphs = [(graph, names)]
    for each, outside in graphs:  # and those inside, as they are met
        own = [*(value.name for value in each.input), *(tensor.name for tensor in each.initializer)]
        own += [name for node in each.node for name in node.output if name]
        inside = {**outside, **{name: fresh(f"{around}/{name}") for name in own}}
        for value in (*each.input, *each.output, *each.initializer, *each.value_info):
            value.name = inside.get(value.name, value.name)
        for node in each.node:
            node.input[:] = [inside.get(name, name) for name in node.input]
            node.output[:] = [inside.get(name, name) for name in node.output]
            graphs += [(inner, inside) for attribute in node.attribute for inner in (attribute.g, *attribute.graphs)]
