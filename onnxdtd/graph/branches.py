"""An If whose condition is a constant is no decision: exporters leave such nodes behind. The branch taken replaces it."""

from __future__ import annotations

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def take_constant_branches(graph: onnx.GraphProto) -> int:
    """Replace every If with a constant condition, in place and also inside the branches taken; returns how many there were."""
    count = 0
    while True:
        constants = _constants(graph)
        found = next((i for i, n in enumerate(graph.node) if n.op_type == "If" and n.input[0] in constants), None)
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


def _constants(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    """Boolean constants by name."""
    listed = {value.name for value in graph.input}  # a caller may override those
    found = {t.name: t for t in graph.initializer if t.data_type == TensorProto.BOOL and t.name not in listed}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


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
    for value in graph.output:
        value.name = renamed.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = renamed.get(name, name)
        for attribute in node.attribute:
            _rename(attribute.g, renamed)
