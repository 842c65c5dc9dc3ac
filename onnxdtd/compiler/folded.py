"""What a relevance pass makes of weights alone becomes weights: W⁺, and what is transposed or mirrored.

Runtimes compute that once, when they load a file. But some look before that which nodes they can take, and take a convolution
only if its weights stand in the file. So the file grows. What is merely repeated may stay a node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxdtd.compiler.prepared import Addition
from onnxdtd.errors import RequestError
from onnxdtd.graph.files import MOST_BYTES, Source, locations
from onnxdtd.graph.normal import opset

MADE = (  # with them; all others are rare on weights, and slow here
    *("Abs", "Add", "Cast", "Clip", "Concat", "Constant", "DequantizeLinear", "Div", "Exp", "Expand", "Gather", "Gemm"),
    *("HardSigmoid", "Identity", "MatMul", "Mul", "Neg", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum"),
    *(
        "Relu",
        "Reshape",
        "Shape",
        "Sign",
        "Slice",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    ),
)
OLDEST = {"DequantizeLinear": 19}  # operator sets that the reference begins with, in which nothing has changed but types
SMALL = 2**16  # bytes that a result may have even where it is made of fewer


def folded(flat: Addition, source: Source) -> Addition:
    """The same addition with such weights among its constants. Raises ``RequestError`` where they lie in other files, or
    would not fit into one.
    """
    graph, at, shown = source.proto.graph, opset(source.proto), {value.name for value in flat.outputs}
    if files := locations(source.proto):
        raise RequestError(
            f"--portable: computes with the weights, which lie in another file ({files[0]}); "
            "save the model with all weights inside, onnx.save(onnx.load(PATH), OTHER)"
        )
    fed = {value.name for value in graph.input}
    values = {t.name: numpy_helper.to_array(t) for t in (*graph.initializer, *flat.constants) if t.name not in fed}
    theirs = _behind(graph.node, values, {name for node in flat.nodes for name in node.input})
    nodes, made = [], set[str]()
    for i, node in enumerate((*theirs, *flat.nodes)):
        if shown.isdisjoint(node.output) and _is_fixed(node, values):
            given = {name: values[name] for name in node.input if name}
            results = _computed(node, given, at)
            if sum(each.nbytes for each in results) <= max(SMALL, sum(each.nbytes for each in given.values())):
                values |= dict(zip(node.output, results, strict=False))
                made.update(node.output if i >= len(theirs) else ())
                continue
        if i >= len(theirs):
            nodes.append(node)
    wanted = {name for node in nodes for name in node.input}
    more = [numpy_helper.from_array(np.asarray(values[name]), name) for name in values if name in made & wanted]
    if source.proto.ByteSize() + sum(t.ByteSize() for t in more) > MOST_BYTES:
        raise RequestError("--portable: with all that is made of the weights the file would exceed 2 GiB; leave it out")
    return replace(
        flat,
        nodes=nodes,
        constants=[t for t in flat.constants if t.name in wanted] + more,
        shapes=[value for value in flat.shapes if value.name not in made],
    )


def _behind(nodes: Sequence[NodeProto], stored: Iterable[str], read: set[str]) -> list[NodeProto]:
    """The nodes of a predictor that make what is ``read`` of weights alone."""
    fixed, found = set(stored), list[NodeProto]()
    for node in nodes:
        if _is_fixed(node, fixed):
            fixed.update(node.output)
            found.append(node)
    needed = list[NodeProto]()
    for node in reversed(found):
        if not read.isdisjoint(node.output):
            read = read.union(node.input)
            needed.append(node)
    return needed[::-1]


def _is_fixed(node: NodeProto, known: Collection[str]) -> bool:
    """Does it give the same whatever the input is?"""
    return node.domain in ("", "ai.onnx") and node.op_type in MADE and all(not name or name in known for name in node.input)


def _computed(node: NodeProto, given: dict[str, np.ndarray], at: int) -> list[np.ndarray]:
    inputs, outputs = ([onnx.ValueInfoProto(name=name) for name in names] for names in (given, filter(None, node.output)))
    graph = helper.make_graph([node], "weights", inputs, outputs)
    sets = [helper.make_opsetid("", max(at, OLDEST.get(node.op_type, at)))]
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(helper.make_model(graph, opset_imports=sets)).run(None, given)
