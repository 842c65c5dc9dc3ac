"""A layer: what an operator is where it is linear, and what builders of layers need to know of shapes and constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np

from onnxdtd.graph.emit import Emit, dims, known
from onnxdtd.graph.tensors import Node, Tensor, Value

Active: TypeAlias = Callable[[Tensor], bool]  # does this tensor depend on the explained input?
FAMILIES = ("conv", "dense", "product", "average", "sum", "affine")


class NotLinear(Exception):
    """Raised by a builder that cannot serve this node; the text says why."""


@dataclass(frozen=True)
class Slot:
    """One input x of a layer with its weight w.

    ``batched``: axis 0 is a batch of independent samples, so an x that is the same for all may have size 1 there.
    ``elementwise``: A(w) only multiplies and repeats entries, so a number may stand for an x or a w of equal entries.
    ``few``: x has so few channels (axis 1) that the adjoint of several w joined along that axis costs no more than that of one.
    ``blocked``: how many channels a picture x has that ONNX Runtime may keep in blocks, as its convolutions like it; else 0.
    ``least``: the shape of the input of a single window of a convolution; None where not all of its outputs read whole ones.
    ``one``: what a rule means by a weight of 1, where that is not a 1 for each entry of w.
    """

    x: Tensor
    w: Value
    forward: Callable[[Value, Value], Value]  # (x, w) -> A(w) x
    adjoint: Callable[[Tensor, Value], Tensor]  # (s, w) -> A(w)ᵀ s
    batched: bool = False
    elementwise: bool = False
    few: int = 0
    blocked: int = 0
    least: Sequence[int] | None = None
    one: Tensor | None = None


@dataclass(frozen=True)
class Layer:
    """y = Σ_slots A(w) x + b, where b broadcasts against y.

    ``exact``: y is that sum to float precision. A quantised layer rounds it and cuts it off.

    ``per_channel`` gives the weight of the layer followed by a multiplication of its outputs, channel by channel
    (axis 1), by a vector: what a BatchNormalization behind it amounts to. None where that has no such form.

    ``whole``: s -> Σ_slots A(w)ᵀ s of slots that all have one x, where that is cheaper than each on its own.

    ``part``: what each slot has of its factor, of a product shared by two.

    ``denominator``: that of its rule, where there is a cheaper way to it than by its terms.
    """

    family: str
    slots: list[Slot]
    y: Tensor
    b: Tensor | None = None
    one_to_one: bool = False
    exact: bool = True
    per_channel: Callable[[Value, Tensor], Tensor] | None = None
    whole: Callable[[Tensor], Tensor] | None = None
    part: float = 1.0
    denominator: Callable[[Emit, Layer], Tensor] | None = None

    @property
    def mixes(self) -> bool:
        """Does it add up entries of one input?"""
        return self.family in ("conv", "dense", "product", "average")


def is_float(dtype: Any) -> bool:
    """Is it a floating-point type that numpy knows?"""
    try:
        return dtype is not None and bool(np.issubdtype(dtype, np.floating))
    except TypeError:  # types without a numpy equivalent, sequences of maps among them
        return False


def is_byte(dtype: Any) -> bool:
    """Is it the type of pixels?"""
    return bool(dtype == np.uint8)


def size(tensor: Tensor, start: int = 0) -> int:
    """The number of entries from axis ``start`` on; sizes that are not known count as 1."""
    return prod(d or 1 for d in (dims(tensor) or [])[start:])


def each_entry(node: Node, layer: Layer) -> int:
    """The multiply-adds of a layer that takes each entry once."""
    return sum(size(slot.x) for slot in layer.slots)


def only_first(node: Node, active: Active) -> Tensor:
    """The first input, if no other depends on the explained input."""
    if any(active(t) for t in node.inputs[1:]):
        raise NotLinear("its weights depend on the input")
    return node.inputs[0]


def sizes_of(tensor: Tensor) -> Sequence[int | str | None]:
    """The shape with the names of sizes that are not known, whose rank at least must be."""
    shape_of(tensor)
    return tensor.shape or ()


def shape_of(tensor: Tensor) -> list[int | None]:
    """The shape, whose rank at least must be known."""
    sizes = dims(tensor)
    if sizes is None:
        raise NotLinear(f"the rank of {tensor.name!r} is unknown; declare its shape in the model")
    return sizes


def weight_shape(tensor: Tensor) -> list[int]:
    """The shape of a weight, all sizes of which must be known."""
    sizes = known(dims(tensor))
    if sizes is None:
        raise NotLinear(f"the shape of the weight {tensor.name!r} is unknown")
    return sizes


def column(e: Emit, vector: Tensor, rank: int) -> Tensor:
    """A vector over channels, shaped to broadcast along axis 1 of a tensor of ``rank``."""
    return vector if rank <= 2 else e("Reshape", vector, [-1] + [1] * (rank - 2))


def optional(node: Node, index: int) -> Tensor | None:
    """An input that may be left out."""
    return node.inputs[index] if len(node.inputs) > index and not node.inputs[index].left_out else None


def count(e: Emit, x: Tensor, axes: Sequence[int], dtype: Any) -> Value:
    """How many entries of ``x`` lie along ``axes``."""
    sizes = shape_of(x)
    fixed = known([sizes[axis] for axis in axes])
    if fixed is not None:
        return float(np.prod(fixed))
    parts = [e.shape(x, axis, axis + 1) for axis in axes]
    total = parts[0]
    for part in parts[1:]:
        total = e("Mul", total, part)
    return e.cast(total, dtype)


def reduced_axes(node: Node, rank: int) -> list[int]:
    """The axes that a reduction or a global pool sums over, all as non-negative numbers."""
    if node.op.startswith("Global"):
        return list(range(2, rank))
    axes = node.attrs.get("axes")
    given = optional(node, 1)
    if given is not None:
        values = constant_value(given)
        if values is None:
            raise NotLinear("its axes are computed at run time")
        axes = values.ravel().tolist()
    if not axes:
        if node.attrs.get("noop_with_empty_axes"):
            raise NotLinear("it reduces no axes (noop_with_empty_axes)")
        return list(range(rank))
    if not all(-rank <= axis < rank for axis in axes):
        raise NotLinear("it names an axis that is not there")
    found = sorted(axis % rank for axis in axes)
    if len(set(found)) < len(found):
        raise NotLinear("it names an axis twice, and runtimes differ in what that means")
    return found


def constant_value(tensor: Tensor) -> np.ndarray | None:
    """The value of a small constant, whether an initializer or a Constant node; None where it is not known here."""
    if tensor.values is not None:
        return tensor.values
    if tensor.producer is not None and tensor.producer.op == "Constant":
        attrs = tensor.producer.attrs
        value = attrs.get("value")
        if value is not None:
            return np.asarray(value)
        return next((np.asarray(attrs[name]) for name in attrs if name.startswith("value_")), None)
    return None


def reread(e: Emit, w: Value, square: bool) -> Value:
    """Weights that a product reads the other way round than the forward pass has. OpenVINO (2026.4) takes the one product's for
    the other's where both read one tensor and a ``square`` fits either way; so that one is a tensor of its own, of the same
    numbers, which a runtime makes while it loads.
    """
    return e("Neg", e("Neg", w)) if square and isinstance(w, Tensor) else w
