"""Operators that ONNX defines by others, as these: what has no rule of its own may be made of what has."""

from __future__ import annotations

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto, TypeProto

from onnxdtd.graph.body import Constant
from onnxdtd.graph.fused import is_fused, spelled
from onnxdtd.graph.inlined import Fresh, inlined, scope
from onnxdtd.graph.known import Numbers


def body(node: NodeProto, known: Numbers, constant: Constant, fresh: Fresh) -> list[NodeProto] | None:
    """The nodes that a node amounts to; None where it is defined by itself."""
    if is_fused(node):
        return spelled(node, constant, fresh, known, known.opsets[""])
    function = _function(node, known)
    if function is None:
        return None
    names = dict.fromkeys(function.input, "") | dict(zip(function.input, node.input, strict=False))
    results = zip(function.output, node.output, strict=False)
    made, _ = inlined(function.node, names, [pair for pair in results if pair[1]], scope(node), fresh, _attributes(node, known))
    return made


def _function(node: NodeProto, known: Numbers) -> FunctionProto | None:
    """The body of a node of floating-point numbers; none that has bodies within, or is left to chance."""
    version = known.opsets[""]
    schema = onnx.defs.get_schema(node.op_type, version, "")
    if not known.is_float(node.output[0]):
        return None
    if schema.has_context_dependent_function:
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= version]
        types = [_type(known, name) for name in node.input]
        if not versions or any(kind is None for kind in types):
            return None
        data = [b"" if kind is None else kind.SerializeToString() for kind in types]
        try:
            text = schema.get_context_dependent_function_with_opset_version(max(versions), node.SerializeToString(), data)
        except RuntimeError:  # of attributes that contradict each other
            return None
        function = FunctionProto.FromString(text)
    elif schema.has_function:
        versions = [v for v in schema.function_opset_versions if v <= version]
        function = FunctionProto.FromString(schema.get_function_with_opset_version(max(versions)))
    else:
        return None
    inner = any(attribute.HasField("g") for step in function.node for attribute in step.attribute)
    return None if inner or any(map(_by_chance, function.node)) else function


def _by_chance(node: NodeProto) -> bool:
    return node.op_type.startswith("Random")


def _type(known: Numbers, name: str) -> TypeProto | None:
    """The type of an input, empty where it is left out"""
    if name and name not in known.types:
        return None
    kind = TypeProto()
    if name:
        kind.tensor_type.CopyFrom(known.types[name])
    return kind


def _attributes(node: NodeProto, known: Numbers) -> dict[str, AttributeProto]:
    """Those of a node, and what the others are by default"""
    schema = onnx.defs.get_schema(node.op_type, known.opsets[""], "")
    usual = {name: entry.default_value for name, entry in schema.attributes.items() if entry.default_value.type}
    return usual | {attribute.name: attribute for attribute in node.attribute}
