"""The bounds of the input domain, carried forward through the model's own preprocessing to the first layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxdtd.emit import Emit, Tensor, dims
from onnxdtd.errors import RequestError
from onnxdtd.flow import PASS, is_byte, is_float
from onnxdtd.plan import STRAIGHT, Plan

ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Sum", *PASS}  # broadcast: a bound may stay smaller than its tensor


class Bounds:
    """l and h of every tensor before the first layer."""

    def __init__(self, e: Emit, plan: Plan, low: Any, high: Any):
        if low is None or high is None:
            raise RequestError("give both bounds of the input, low and high")
        self._emit, self._plan, self._data = e, plan, (low, high)
        self._known: dict[str, tuple[Tensor, Tensor]] = {}
        for tensor in plan.inputs:
            pair = [_fitted(bound, tensor, name) for bound, name in ((low, "low"), (high, "high"))]
            if not np.all(pair[0] < pair[1]):
                raise RequestError(f"low {low} must be below high {high} everywhere")
            self._known[tensor.name] = e.constant(pair[0]), e.constant(pair[1])

    def of(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound of a tensor that is an input up to a one-to-one transformation."""
        if tensor.name not in self._known:
            self._forward(tensor)
        return self._known[tensor.name]

    def as_data(self) -> dict[str, Any]:
        """Numbers and lists, for the metadata."""
        low, high = (np.asarray(bound, np.float64).tolist() for bound in self._data)
        return {"low": low, "high": high}

    def _forward(self, tensor: Tensor) -> None:
        """Apply the node behind ``tensor`` to both bounds of its input; a negative factor swaps them."""
        e, node = self._emit, self._plan.producer[tensor.name]
        if node.op in STRAIGHT:
            low, high = self.of(node.inputs[0])
            if node.op != "DequantizeLinear" or is_float(low.dtype):  # not yet what the integers stand for
                dtype = tensor.dtype if is_float(tensor.dtype) else low.dtype
                self._known[tensor.name] = e.cast(low, dtype), e.cast(high, dtype)
                return
        ends = []
        for side in (0, 1):
            sources = [self._at(t, side, node.op) if self._plan.active(t) else t for t in node.inputs]
            ends.append(e.multi(node.op, len(node.outputs), *sources, **node.attrs))
        for result, low, high in zip(node.outputs, *ends, strict=True):
            low.dtype = high.dtype = result.dtype
            self._known[result.name] = e("Min", low, high), e("Max", low, high)

    def _at(self, tensor: Tensor, side: int, op: str) -> Tensor:
        bound = self.of(tensor)[side]
        return bound if op in ELEMENTWISE else self._emit("Expand", bound, self._emit.shape(tensor))


def _fitted(bound: Any, tensor: Tensor, name: str) -> np.ndarray:
    """A bound as an array that broadcasts against the input; a list has one number a channel."""
    try:
        array = np.asarray(bound, np.float64)
    except (TypeError, ValueError):
        raise RequestError(f"{name} {bound!r} is neither a number nor a list of numbers") from None
    with np.errstate(over="ignore"):
        finite = np.isfinite(array if is_byte(tensor.dtype) else array.astype(tensor.dtype)).all()
    if not finite:
        raise RequestError(f"{name} {bound} must be finite")
    if is_byte(tensor.dtype) and not np.array_equal(array, np.clip(np.rint(array), 0, 255)):
        raise RequestError(f"{name} {bound}: the input {tensor.name!r} is uint8, its bounds are integers from 0 to 255")
    sizes = dims(tensor)
    if array.ndim == 1 and array.size > 1 and sizes is not None:
        channel = next((axis for axis in (1, len(sizes) - 1) if axis < len(sizes) and sizes[axis] == array.size), None)
        if channel is None:
            raise RequestError(f"{name} has {array.size} values, but the input {tensor.name!r} is {tensor.shape}")
        array = array.reshape([-1 if axis == channel else 1 for axis in range(len(sizes))])
    elif sizes is not None and not _broadcasts(array.shape, sizes):
        raise RequestError(f"{name} has the shape {list(array.shape)}, but the input {tensor.name!r} is {tensor.shape}")
    return (array.reshape(()) if array.size == 1 else array).astype(tensor.dtype)


def _broadcasts(shape: tuple[int, ...], sizes: list[int | None]) -> bool:
    """Can an array of ``shape`` be repeated to ``sizes``?"""
    tail = sizes[len(sizes) - len(shape) :] if len(shape) <= len(sizes) else None
    return tail is not None and all(d == 1 or d == size for d, size in zip(shape, tail, strict=True))
