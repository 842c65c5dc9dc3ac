"""Missing values: inputs in which a model itself replaces NaN, before anything computes with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from onnxdtd.graph.emit import Emit, dims
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.spread import concatenated
from onnxdtd.operators.table import AS_THEY_ARE, of

Seen: TypeAlias = dict[str, list[np.ndarray | None]]  # what each reader of a tensor takes for NaN in it


def imputed(nodes: Sequence[Node], inputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """What an Imputer takes for a missing value in each of ``inputs``, one number or one a column; those that are read by
    anything else are left out.
    """
    seen: Seen = {}
    for node in reversed(nodes):
        for i, tensor in enumerate(node.inputs):
            seen.setdefault(tensor.name, []).append(_by(node, i, seen))
    found = {tensor.name: _replacement(tensor, seen) for tensor in inputs}
    return {name: value for name, value in found.items() if value is not None}


def seen(e: Emit, x: Tensor, missing: np.ndarray | None) -> Tensor:
    """An input with what the model takes for missing values, where it does."""
    return x if missing is None else e("Where", e("IsNaN", x), e.constant(missing.astype(x.dtype)), x)


def _replacement(tensor: Tensor, seen: Seen) -> np.ndarray | None:
    """What stands in for NaN in ``tensor``; None where some reader gets to see it."""
    values = seen.get(tensor.name, [None])
    return None if any(value is None for value in values) else values[0]


def _by(node: Node, place: int, seen: Seen) -> np.ndarray | None:
    """What a node, or those behind it, take for NaN in its input at a place."""
    if "imputed_value_floats" in node.attrs:
        missing = np.isnan(node.attrs.get("replaced_value_float", 0.0)) and node.attrs.get("imputed_value_floats")
        return np.asarray(node.attrs["imputed_value_floats"], np.float32) if missing else None
    if of(node).hands_on == AS_THEY_ARE:
        return _replacement(node.outputs[0], seen)
    rank = len(dims(node.inputs[place]) or ())
    if of(node).axes is concatenated and node.attrs.get("axis", 1) in (-1, rank - 1):
        whole = _replacement(node.outputs[0], seen)
        if whole is None:
            return None
        widths = [(dims(t) or [None])[-1] for t in node.inputs]
        before = [width for width in widths[: place + 1] if width is not None]
        if whole.size == 1 or len(before) <= place:
            return whole if whole.size == 1 else None
        return whole[sum(before[:-1]) : sum(before)]
    return None
