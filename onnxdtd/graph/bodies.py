"""Operators that ONNX defines by others, as these: what has no rule of its own may be made of what has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, TypeProto, helper

from onnxdtd.graph.inlined import Fresh, inlined, scope
from onnxdtd.graph.known import Numbers

Constant = Callable[[np.ndarray, str], str]  # a constant of the graph, by what it belongs to


def body(node: NodeProto, known: Numbers, constant: Constant, fresh: Fresh) -> list[NodeProto] | None:
    """The nodes that a node amounts to; None where it is defined by itself."""
    if node.op_type == "Attention":
        return list(_attention(node, known, constant, fresh))
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


# ----------------------------------------------------------------------------------------------------------- attention

PRECISIONS = (TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE)


class Body:
    """Writes nodes one by one."""

    def __init__(self, node: NodeProto, constant: Constant, fresh: Fresh):
        self.around, self.constant, self.fresh, self.nodes = scope(node), constant, fresh, list[NodeProto]()

    def __call__(self, op: str, *inputs: str, result: str = "", **attrs: Any) -> str:
        """The output of a node, under the name ``result`` if it has one"""
        name = result or self.fresh(f"{self.around}/{op}")
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attrs))
        return name

    def whole(self, *numbers: int) -> str:
        """Numbers, as a constant vector"""
        return self.constant(np.asarray(numbers, np.int64), self.around)


def _attention(node: NodeProto, known: Numbers, constant: Constant, fresh: Fresh) -> Iterable[NodeProto]:
    """softmax(s q kᵀ + mask) v for each head; keys and values that several heads share are repeated.

    None of its further outputs, and no keys and values from before: such a node stays as it is.
    """
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    q, k, v, mask, *past = [*node.input, *[""] * 7][:7]
    width, depth = known.sizes(q), known.sizes(k)
    if (
        any(past)
        or any(node.output[1:])
        or width is None
        or depth is None
        or len(width) != len(depth)
        or len(width) not in (3, 4)
    ):
        return [node]
    kind = known.types[q].elem_type
    write, flat = Body(node, constant, fresh), len(width) == 3
    heads, groups = (attrs.get("q_num_heads"), attrs.get("kv_num_heads")) if flat else (width[1], depth[1])
    if not width[-1] or not heads or not groups or heads % groups or kind not in PRECISIONS:
        return [node]
    size = width[-1] // heads if flat else width[-1]
    number = lambda value: constant(np.asarray(value, helper.tensor_dtype_to_np_dtype(kind)), write.around)
    if flat:
        q, k, v = (_by_head(write, t, count) for t, count in ((q, heads), (k, groups), (v, groups)))
    if heads != groups:
        k, v = (_repeated(write, t, heads, groups) for t in (k, v))
    scores = write("MatMul", q, write("Transpose", k, perm=[0, 1, 3, 2]))
    scores = write("Mul", scores, number(attrs.get("scale") or size**-0.5))
    cap = attrs.get("softcap", 0.0)
    if cap:
        scores = write("Mul", write("Tanh", write("Div", scores, number(cap))), number(cap))
    lowest = number(np.finfo(helper.tensor_dtype_to_np_dtype(kind)).min)
    if mask:
        chosen = not known.is_float(mask)
        scores = write("Where", mask, scores, lowest) if chosen else write("Add", scores, mask)
    if attrs.get("is_causal"):
        scores = write("Where", _later(write, q, k), lowest, scores)
    mixed = write("MatMul", write("Softmax", scores, axis=-1), v, result="" if flat else node.output[0])
    if flat:
        write("Reshape", write("Transpose", mixed, perm=[0, 2, 1, 3]), write.whole(0, 0, -1), result=node.output[0])
    return write.nodes


def _by_head(write: Body, t: str, heads: int) -> str:
    """[batch, length, heads · size] as [batch, heads, length, size]"""
    return write("Transpose", write("Reshape", t, write.whole(0, 0, heads, -1)), perm=[0, 2, 1, 3])


def _repeated(write: Body, t: str, heads: int, groups: int) -> str:
    """Each of the groups as often as heads share it"""
    apart = write("Unsqueeze", t, write.whole(2))
    beside = write("Concat", *[apart] * (heads // groups), axis=2)
    size = write("Shape", t, start=2)
    return write("Reshape", beside, write("Concat", write.whole(0, heads), size, axis=0))


def _later(write: Body, q: str, k: str) -> str:
    """[queries, keys]: is the key behind the query?"""
    zero, one = (write.constant(np.asarray(value), write.around) for value in (0, 1))
    rows, columns = (write("Range", zero, write("Squeeze", write("Shape", t, start=2, end=3)), one) for t in (q, k))
    return write("Less", write("Unsqueeze", rows, write.whole(1)), write("Unsqueeze", columns, write.whole(0)))
