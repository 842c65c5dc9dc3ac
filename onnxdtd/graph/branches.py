"""An If whose condition is a constant is no decision: exporters leave such nodes behind. The branch taken replaces it."""

from __future__ import annotations

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def take_constant_branches(graph: onnx.GraphProto) -> int:
    """Replace every If with a constant condition, in place and also inside the branches taken; returns how many there were."""
    count = 0
    while True:
        constants = _constants(graph)
        found = next((i for i, node in enumerate(graph.node) if _is_decided(node, constants)), None)
        if found is None:
            return count
        node = graph.node[found]
        name = "then_branch" if numpy_helper.to_array(constants[node.input[0]]).all() else "else_branch"
        branch = next(a.g for a in node.attribute if a.name == name)
        nodes = [*graph.node[:found], *_inlined(node, branch), *graph.node[found + 1 :]]
        graph.initializer.extend(branch.initializer)
        nodes = [NodeProto.FromString(n.SerializeToString()) for n in nodes]  # they live in the list that is about to go
        del graph.node[:]
        graph.node.extend(nodes)
        count += 1


def _is_decided(node: NodeProto, constants: dict[str, TensorProto]) -> bool:
    """Is it an If with a constant for a condition, and as many results as its branches have?"""
    if node.op_type != "If" or node.domain not in ("", "ai.onnx") or node.input[0] not in constants:
        return False
    return all(len(a.g.output) == len(node.output) for a in node.attribute)


def _constants(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    """Boolean constants by name."""
    listed = {value.name for value in graph.input}  # a caller may override those
    found = {t.name: t for t in graph.initializer if t.name not in listed}
    found |= {n.output[0]: a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"}
    return {name: t for name, t in found.items() if t.data_type == TensorProto.BOOL and list(t.dims) in ([], [1])}


def _inlined(node: NodeProto, branch: onnx.GraphProto) -> list[NodeProto]:
    """The nodes of a branch, giving their results under the names of the If; names are unique across graphs in ONNX."""
    inside = {name for inner in branch.node for name in inner.output}
    renamed, copies = {}, []
    for result, output in zip(branch.output, node.output, strict=True):
        if result.name in inside and result.name not in renamed:
            renamed[result.name] = output
        else:
            copies.append(helper.make_node("Identity", [renamed.get(result.name, result.name)], [output]))
    kept = onnx.GraphProto()
    kept.node.extend(branch.node)
    _rename(kept, renamed)
    return [*kept.node, *copies]


def _rename(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    """Give tensors other names, also where inner graphs read them."""
    graphs = [graph]
    for each in graphs:  # and those inside, as they are met
        for value in each.output:
            value.name = renamed.get(value.name, value.name)
        for node in each.node:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    names[i] = renamed.get(name, name)
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
