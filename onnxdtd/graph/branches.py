"""An If whose condition is a constant is no decision: exporters leave such nodes behind. The branch taken replaces it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def take_constant_branches(graph: onnx.GraphProto) -> int:
    """Replace every If with a constant condition, in place and also inside the branches taken; returns how many there were."""
    if all(node.op_type != "If" for node in graph.node):
        return 0
    listed = {value.name for value in graph.input}  # a caller may override those
    constants = dict(_constants(t for t in graph.initializer if t.name not in listed))
    left = [NodeProto.FromString(node.SerializeToString()) for node in reversed(graph.node)]  # the next one last
    nodes: list[NodeProto] = []
    count = 0
    while left:
        node = left.pop()
        if _is_decided(node, constants):
            name = "then_branch" if numpy_helper.to_array(constants[node.input[0]]).all() else "else_branch"
            branch = next(a.g for a in node.attribute if a.name == name)
            graph.initializer.extend(branch.initializer)
            constants |= _constants(branch.initializer)
            left += _inlined(node, branch)[::-1]
            count += 1
            continue
        if node.op_type == "Constant":
            constants |= {name: t for name, (_, t) in zip(node.output, _constants(_values(node)), strict=False)}
        nodes.append(node)
    if count:
        del graph.node[:]
        graph.node.extend(nodes)
    return count


def _is_decided(node: NodeProto, constants: dict[str, TensorProto]) -> bool:
    """Is it an If with a constant for a condition, and as many results as its branches have?"""
    if node.op_type != "If" or node.domain not in ("", "ai.onnx") or node.input[0] not in constants:
        return False
    return all(len(a.g.output) == len(node.output) for a in node.attribute)


def _constants(tensors: Iterable[TensorProto]) -> Iterator[tuple[str, TensorProto]]:
    """Those that may be conditions, by name."""
    yield from ((t.name, t) for t in tensors if t.data_type == TensorProto.BOOL and list(t.dims) in ([], [1]))


def _values(node: NodeProto) -> list[TensorProto]:
    """What a Constant holds."""
    return [a.t for a in node.attribute if a.name == "value"]


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
