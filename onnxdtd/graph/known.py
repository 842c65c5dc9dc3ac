"""Small numbers that a graph computes of constants and of sizes, as far as they are known before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

MOST = 4096  # entries; shapes, pads and conditions have far fewer

FLOATS = (TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.BFLOAT16)
MOVED = ("Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze")  # entries, known or not
ENTRYWISE = (
    *("Add", "And", "Cast", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul"),
    *("Neg", "Not", "Or", "Sub", "Where"),
)


@dataclass(frozen=True)
class Partial:
    """Values, of which those count that are ``known``. What is not may have a name, as sizes have: ``names`` are their numbers,
    0 where there is none.
    """

    values: np.ndarray
    known: np.ndarray
    names: np.ndarray

    @staticmethod
    def of(values: np.ndarray) -> Partial:
        """Numbers as a whole"""
        return Partial(values, np.ones(values.shape, bool), np.zeros(values.shape, np.int64))


class Numbers:
    """What is known of the tensors of a model with inferred shapes. Nothing is computed before it is asked for."""

    def __init__(self, proto: onnx.ModelProto):
        graph = proto.graph
        self.opsets = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in proto.opset_import}
        self.types = {v.name: v.type.tensor_type for field in (graph.input, graph.value_info, graph.output) for v in field}
        constants = (helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer)
        self.types |= {value.name: value.type.tensor_type for value in constants}
        self.found: dict[str, Partial] = {}
        self.fed = {value.name for value in graph.input}  # by a caller, or may be
        self.unknown: set[str] = set()
        self.named: dict[str, int] = {}  # the numbers of the names that sizes have
        self.producer: dict[str, NodeProto] = {}
        self.add(graph.node, graph.initializer)

    def add(self, nodes: Iterable[NodeProto], constants: Iterable[TensorProto] = ()) -> None:
        """What is in the graph besides."""
        more = {name: node for node in nodes for name in node.output if name}
        if more:
            self.producer |= more
            self.unknown = set()
        for tensor in constants:
            if tensor.name not in self.fed and not uses_external_data(tensor) and prod(tensor.dims) <= MOST:
                self._enter(tensor.name, _array(tensor))

    def sizes(self, name: str) -> list[int | None] | None:
        """The shape, with None for each size that is not known; None where not even the rank is."""
        kind = self.types.get(name)
        if kind is None or not kind.HasField("shape"):
            return None
        return [size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim]

    def is_float(self, name: str) -> bool:
        """Is it of floating-point numbers?"""
        return name in self.types and self.types[name].elem_type in FLOATS

    def whole(self, name: str) -> np.ndarray | None:
        """The value of a tensor, all of whose entries are known."""
        found = self._of(name)
        return found.values if found is not None and found.known.all() else None

    def entries(self, name: str) -> list[int | str | None] | None:
        """The entries of a tensor of sizes: numbers, names, and None for what is not known."""
        found, words = self._of(name), {number: word for word, number in self.named.items()}
        if found is None:
            return None
        rows = zip(*(each.reshape(-1).tolist() for each in (found.values, found.known, found.names)), strict=True)
        return [int(value) if known else words.get(word) for value, known, word in rows]

    def dims(self, name: str) -> list[int | str | None]:
        """The shape, as far as it is known, as ``entries`` are."""
        kind = self.types.get(name)
        sizes = [] if kind is None else kind.shape.dim
        return [size.dim_value if size.HasField("dim_value") else size.dim_param or None for size in sizes]

    def is_computed(self, name: str) -> bool:
        """Does a node compute it that is no constant?"""
        return name in self.producer and bool(self.producer[name].input)

    def _of(self, name: str) -> Partial | None:
        """What is known of a tensor, and first of all that it depends on."""
        waiting = [name]
        while waiting:
            last = waiting[-1]
            node = self.producer.get(last)
            if last in self.found or last in self.unknown:
                waiting.pop()
            elif node is None or not self._is_small(node, last):
                self.unknown.add(last)
            elif missing := [n for n in self._reads(node) if n and n not in self.found and n not in self.unknown]:
                waiting += missing
            else:
                self._compute(node)
        return self.found.get(name)

    def _is_small(self, node: NodeProto, name: str) -> bool:
        """Is it no large tensor, whatever comes out?"""
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return False
        sizes = self.sizes(name)
        if sizes is None or None in sizes:
            return node.op_type in MOVED or node.op_type in ENTRYWISE
        return prod(size or 0 for size in sizes) <= MOST

    def _reads(self, node: NodeProto) -> list[str]:
        return [] if node.op_type in ("Shape", "Size") else list(node.input)

    def _compute(self, node: NodeProto) -> None:
        """Enter what a node gives, all of whose inputs have been looked at."""
        results = self._results(node)
        for name, result in zip(node.output, results, strict=False):
            if result is not None:
                self.found[name] = result
        self.unknown.update(name for name in node.output if name not in self.found)

    def _results(self, node: NodeProto) -> list[Partial | None]:
        if node.op_type in ("Shape", "Size"):
            return [self._measured(node)]
        operands = [self.found.get(name) for name in node.input if name]
        if any(operand is None for operand in operands):
            return []
        given = [operand for operand in operands if operand is not None]
        values = self._run(node, [operand.values for operand in given])
        if all(operand.known.all() for operand in given):
            return [None if value is None else Partial.of(value) for value in values]
        known, names = self._mask(node, given), self._moved(node, given, [operand.names for operand in given])
        if known is None or not values or values[0] is None:
            return []
        return [Partial(values[0], known, np.zeros(known.shape, np.int64) if names is None else names)]

    def _measured(self, node: NodeProto) -> Partial | None:
        """Shape or Size"""
        sizes = self.sizes(node.input[0])
        if sizes is None:
            return None
        values = np.asarray([1 if size is None else size for size in sizes], np.int64)
        known = [size is not None for size in sizes]
        if node.op_type == "Size":
            return Partial.of(np.asarray(values.prod())) if all(known) else None
        words = [word if isinstance(word, str) else "" for word in self.dims(node.input[0])]
        names = [self.named.setdefault(word, 1 + len(self.named)) if word else 0 for word in words]
        attrs = {a.name: a.i for a in node.attribute}
        part = slice(attrs.get("start", 0), attrs.get("end"))
        return Partial(values[part], np.asarray(known, bool)[part], np.asarray(names, np.int64)[part])

    def _mask(self, node: NodeProto, given: list[Partial]) -> np.ndarray | None:
        """Which entries of the result are known, where that can be told."""
        if node.op_type in ENTRYWISE:
            return np.logical_and.reduce(np.broadcast_arrays(*(operand.known for operand in given)))
        moved = self._moved(node, given, [operand.known.astype(np.int64) for operand in given])
        return None if moved is None else moved.astype(bool)

    def _moved(self, node: NodeProto, given: list[Partial], others: list[np.ndarray]) -> np.ndarray | None:
        """What becomes of ``others``, one for each entry of what a node is given, if it only moves entries."""
        count = len(given) if node.op_type == "Concat" else 1
        if node.op_type not in MOVED or not all(operand.known.all() for operand in given[count:]):
            return None
        found = self._run(node, [*others[:count], *(operand.values for operand in given[count:])])
        return None if not found or found[0] is None else found[0]

    def _run(self, node: NodeProto, values: list[np.ndarray]) -> list[np.ndarray | None]:
        """What a node gives, by onnx's own definition; nothing where that fails, or is left to chance."""
        from onnx.reference import ReferenceEvaluator  # needed by few models

        names = [name for name in node.input if name]
        inputs = [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names)]
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
        if _is_by_chance(node, self.opsets):
            return []
        try:
            with np.errstate(all="ignore"):
                evaluator = ReferenceEvaluator(helper.make_graph([node], "one", inputs, outputs), opsets=self.opsets)
                results = evaluator.run(None, dict(zip(names, values, strict=True)))
        except Exception:  # whatever goes wrong there, the number is not known
            return []
        found = iter(results)
        return [_number(next(found)) if name else None for name in node.output]

    def _enter(self, name: str, value: np.ndarray | None) -> None:
        if value is not None:
            self.found[name] = Partial.of(value)


def _is_by_chance(node: NodeProto, opsets: Mapping[str, int]) -> bool:
    """Does it draw numbers, or is it not known whether it does?"""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if not onnx.defs.has(node.op_type, opsets.get(domain, 1), domain):
        return True
    schema = onnx.defs.get_schema(node.op_type, opsets.get(domain, 1), domain)
    return bool(schema.node_determinism == onnx.defs.OpSchema.NodeDeterminism.NonDeterministic)


def _array(tensor: TensorProto) -> np.ndarray | None:
    """A constant, where it is made of numbers and whole."""
    try:
        return _number(numpy_helper.to_array(tensor))
    except Exception:  # of a damaged file, which shape inference will tell
        return None


def _number(value: object) -> np.ndarray | None:
    """An array of numbers or truth values that is not large."""
    array = np.asarray(value) if isinstance(value, np.ndarray | np.generic) else None
    return array if array is not None and array.dtype.kind in "biuf" and array.size <= MOST else None
