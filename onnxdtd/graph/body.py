"""Writes down, node by node, what a node of a model amounts to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from onnxdtd.graph.inlined import Fresh, scope
from onnxdtd.graph.known import Numbers

Constant = Callable[[np.ndarray, str], str]  # a constant of the graph, by what it belongs to
PRECISIONS = (TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE)


class NotWritten(Exception):
    """There is nothing that a node amounts to, as far as it is known."""


class Body:
    """``known`` is what is known of the tensors of the model; None where nothing is yet, and only shapes are asked for."""

    def __init__(self, node: NodeProto, constant: Constant, fresh: Fresh, known: Numbers | None = None, opset: int = 17):
        self.around, self.constant, self.fresh, self.known, self.opset = scope(node), constant, fresh, known, opset
        self.kind = None if known is None or node.output[0] not in known.types else known.types[node.output[0]].elem_type
        self.result = node.output[0]
        self.nodes: list[NodeProto] = []

    def __call__(self, op: str, *inputs: str, result: str = "", **attrs: Any) -> str:
        """The output of a node, under the name ``result`` if it has one"""
        return self.several(op, [result], *inputs, **attrs)[0]

    def several(self, op: str, results: list[str], *inputs: str, **attrs: Any) -> list[str]:
        """The outputs of a node, under the names that they have"""
        names = [name or self.fresh(f"{self.around}/{op}") for name in results]
        self.nodes.append(helper.make_node(op, inputs, names, name=names[0], **attrs))
        return names

    def whole(self, *numbers: int) -> str:
        """Numbers, as a constant vector"""
        return self.constant(np.asarray(numbers, np.int64), self.around)

    def scalar(self, value: float, like: str) -> str:
        """A number of the type of a tensor"""
        return self._number(lambda dtype: np.asarray(value, dtype), like)

    def lowest(self, like: str) -> str:
        """The lowest number of the type of a tensor"""
        return self._number(lambda dtype: np.asarray(np.finfo(dtype).min), like)

    def _number(self, value: Callable[[Any], np.ndarray], like: str) -> str:
        if self.kind in PRECISIONS:
            return self.constant(value(helper.tensor_dtype_to_np_dtype(self.kind)), self.around)
        return self("CastLike", self.constant(value(np.float16).astype(np.float32), self.around), like)

    def sizes(self, name: str) -> list[int | None] | None:
        """The shape, with None for each size that is not known; None where not even the rank is."""
        return None if self.known is None else self.known.sizes(name)

    def is_as_long(self, t: str) -> bool:
        """Has it as many rows as the node's result, so far as is known?"""
        if self.known is None or not {t, self.result} <= self.known.types.keys():
            return False
        own, other = (self.known.types[name].shape.dim for name in (t, self.result))
        return bool(own and other and own[0].WhichOneof("value") and own[0] == other[0])

    def split(self, t: str, axis: int, *sizes: int) -> list[str]:
        """Parts along an axis: of these sizes, or three equal ones"""
        if sizes:
            return self.several("Split", [""] * len(sizes), t, self.whole(*sizes), axis=axis)
        return self.several("Split", [""] * 3, t, axis=axis, **({"num_outputs": 3} if self.opset >= 18 else {}))

    def part(self, t: str, axis: int, start: int, end: int, step: int = 1) -> str:
        """Entries along an axis"""
        return self("Slice", t, *(self.whole(number) for number in (start, end, axis, step)))
