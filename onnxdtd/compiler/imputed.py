"""Missing values: inputs in which a model itself replaces NaN, before anything computes with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from onnxdtd.graph.emit import dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.spread import concatenated
from onnxdtd.operators.table import AS_THEY_ARE, of


def imputed(nodes: Iterable[Node], inputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """What an Imputer takes for a missing value in each of ``inputs``, one number or one a column; those that are read by
    anything else are left out.
    """
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for tensor in node.inputs:
            readers.setdefault(tensor.name, []).append(node)
    found = {tensor.name: _replacement(tensor, readers) for tensor in inputs}
    return {name: value for name, value in found.items() if value is not None}


def _replacement(tensor: Tensor, readers: Mapping[str, Sequence[Node]]) -> np.ndarray | None:
    """What stands in for NaN in ``tensor``; None where some reader gets to see it."""
    values = [_by(node, tensor, readers) for node in readers.get(tensor.name, ())]
    return values[0] if values and all(value is not None for value in values) else None


def _by(node: Node, tensor: Tensor, readers: Mapping[str, Sequence[Node]]) -> np.ndarray | None:
    if "imputed_value_floats" in node.attrs:
        missing = np.isnan(node.attrs.get("replaced_value_float", 0.0)) and node.attrs.get("imputed_value_floats")
        return np.asarray(node.attrs["imputed_value_floats"], np.float32) if missing else None
    if of(node).hands_on == AS_THEY_ARE:
        return _replacement(node.outputs[0], readers)
    rank = len(dims(tensor) or ())
    if of(node).axes is concatenated and node.attrs.get("axis", 1) in (-1, rank - 1):
        whole = _replacement(node.outputs[0], readers)
        widths = [(dims(t) or [None])[-1] for t in node.inputs]
        place = next(i for i, t in enumerate(node.inputs) if t is tensor)
        before = [width for width in widths[: place + 1] if width is not None]
        if whole is None or whole.size == 1 or len(before) <= place:
            return whole if whole is None or whole.size == 1 else None
        return whole[sum(before[:-1]) : sum(before)]
    return None
