"""A graph as it is planned on: where the course of a node is known, or ONNX defines it by others, these stand in its place.

The predictor's nodes stay as they are in the file. What stands for them is a node of the relevance pass, read from what the
predictor computes, and is in the file where a rule needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import onnx
from onnx import NodeProto

from onnxdtd.graph.bodies import body
from onnxdtd.graph.fused import is_fused
from onnxdtd.graph.inlined import Fresh
from onnxdtd.graph.known import Numbers
from onnxdtd.graph.recurrent import KINDS, recurrent
from onnxdtd.graph.tensors import unique
from onnxdtd.graph.unrolled import WAYS, Unroller

Served = Callable[[str], bool]  # is there a rule for an operator, so that it needs no other ones?

CARRIED = ("Identity",)  # what hands sequences on, besides tensors


def replaced(bare: onnx.ModelProto, served: Served, sequences: dict[str, list[str]], steps: int | None) -> bool:
    """Replace nodes of a model with inferred shapes, in place; is there anything that was? ``sequences`` are the names of the
    tensors in each, as far as they are known, and are added to. ``steps`` are how many of recurrent layers are asked for.
    """
    empty = {value.name for value in bare.graph.value_info if any(map(_is_nothing, value.type.tensor_type.shape.dim))}
    if not any(_may_be(node, served) or _parts(node, empty) for node in bare.graph.node):
        return False
    known, fresh = Numbers(bare), _fresh(bare)
    unroller = Unroller(known, fresh, sequences)
    nodes = unroller.nodes(bare.graph.node)
    nodes = [_without(node, empty) for node in nodes]
    nodes = [inner for node in nodes for inner in _defined(node, known, unroller, fresh, served, steps)]
    if nodes == list(bare.graph.node):
        return False
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in nodes]  # they live in the list that is about to go
    del bare.graph.node[:]
    bare.graph.node.extend(nodes)
    bare.graph.initializer.extend(unroller.constants)
    return True


def _may_be(node: NodeProto, served: Served) -> bool:
    """Is it one that may be replaced?"""
    if node.domain not in ("", "ai.onnx"):
        return is_fused(node)
    return (node.op_type in WAYS and node.op_type not in CARRIED) or node.op_type in KINDS or _has_body(node, served)


def _is_nothing(size: onnx.TensorShapeProto.Dimension) -> bool:
    return bool(size.HasField("dim_value") and size.dim_value == 0)


def _parts(node: NodeProto, empty: Collection[str]) -> list[str]:
    """What a node joins, without what is ``empty``, if some of it is"""
    kept = [name for name in node.input if name not in empty] if node.op_type == "Concat" else []
    return kept if len(kept) < len(node.input) else []


def _without(node: NodeProto, empty: Collection[str]) -> NodeProto:
    """A node as it is, but for empty parts"""
    parts = _parts(node, empty)
    if not parts:
        return node
    copy = NodeProto.FromString(node.SerializeToString())
    copy.input[:] = parts
    return copy


def _has_body(node: NodeProto, served: Served) -> bool:
    """Is it defined by others, and has no rule?"""
    if is_fused(node):
        return not (served(node.op_type) and not node.domain)
    if node.domain not in ("", "ai.onnx") or served(node.op_type) or not onnx.defs.has(node.op_type):
        return False
    schema = onnx.defs.get_schema(node.op_type)
    return bool(schema.has_function or schema.has_context_dependent_function)


def _defined(
    node: NodeProto, known: Numbers, unroller: Unroller, fresh: Fresh, served: Served, steps: int | None
) -> Iterator[NodeProto]:
    """A node, or its definition"""
    default, made = node.domain in ("", "ai.onnx"), None
    if default and node.op_type in KINDS:
        made = recurrent(node, known, unroller.constant, fresh, steps)
    elif _has_body(node, served):
        made = body(node, known, unroller.constant, fresh)
    yield from [node] if made is None else made


def _fresh(bare: onnx.ModelProto) -> Fresh:
    """Names that the model has not got"""
    graph = bare.graph
    listed = (graph.input, graph.output, graph.value_info, graph.initializer)
    taken = {value.name for field in listed for value in field}
    taken |= {name for node in graph.node for name in node.output}
    return lambda name: unique(f"dtd/{name}", taken)
