"""What shape inference is told, since it does not find out by itself: numbers that a graph computes, and sizes of pools."""

from __future__ import annotations

from itertools import zip_longest
from math import prod

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from onnxdtd.graph.known import Numbers

MOST = 16  # entries of what nodes are told as constants
POOLS = ("AveragePool", "LpPool", "MaxPool")


def tell(model: onnx.ModelProto, inferred: onnx.ModelProto) -> bool:
    """Write into ``model`` what can be told from what was ``inferred`` of it; is there anything?

    Numbers become constants, and a pool that rounds up one that does not but has as many windows: the model is for shape
    inference only.
    """
    known, told = Numbers(inferred), False
    for i, node in enumerate(model.graph.node):
        if node.op_type in POOLS and node.domain in ("", "ai.onnx"):
            told |= _tell_windows(node, known)
        elif any(_is_open(known.sizes(name)) for name in node.output if name):
            for place, name in enumerate(node.input):
                value = known.whole(name) if name and known.is_computed(name) and _may_tell(known.sizes(name)) else None
                value = _copied(node, known) if value is None and place == 1 else value
                if value is not None:
                    value = value.reshape(()) if node.op_type == "Range" and value.size == 1 else value  # runtimes take both
                    node.input[place] = f"onnxdtd_told_{i}_{place}"
                    model.graph.initializer.append(numpy_helper.from_array(value, node.input[place]))
                    told = True
    return told


def _copied(node: NodeProto, known: Numbers) -> np.ndarray | None:
    """The sizes that a Reshape is given, with 0, which copies one, for each that has a name and stays where it is; where the
    others are known.
    """
    sizes = known.entries(node.input[1]) if node.op_type == "Reshape" and known.is_computed(node.input[1]) else None
    if sizes is None or any(a.name == "allowzero" and a.i for a in node.attribute):
        return None
    told = [0 if word is not None and word == own else word for word, own in zip_longest(sizes, known.dims(node.input[0]))]
    numbers = [size for size in told[: len(sizes)] if isinstance(size, int)]
    return np.asarray(numbers, np.int64) if len(numbers) == len(sizes) else None


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The values of small tensors that nodes compute of constants alone: exponents, axes, what exporters share by Identity."""
    listed = {value.name for value in model.graph.input}  # a caller may override those
    found = {tensor.name for tensor in model.graph.initializer} - listed
    computed: list[str] = []
    for node in model.graph.node:
        if all(name in found or not name for name in node.input):
            found.update(node.output)
            computed += node.output if node.input else []
    known = Numbers(model) if computed else None
    small = [name for name in computed if known is not None and _count(known, name) <= MOST]
    values = {name: known.whole(name) for name in small} if known is not None else {}
    return {name: value for name, value in values.items() if value is not None}


def _count(known: Numbers, name: str) -> int:
    """How many entries a tensor has; more than counts where that is not known."""
    return prod(MOST + 1 if size is None else size for size in known.sizes(name) or [None])


def _is_open(sizes: list[int | None] | None) -> bool:
    return sizes is None or None in sizes


def _may_tell(sizes: list[int | None] | None) -> bool:
    """May it say something of shapes? Sizes, axes and factors are vectors or scalars."""
    return sizes is None or len(sizes) <= 1


def _tell_windows(node: NodeProto, known: Numbers) -> bool:
    """Before operator set 22 a window that would start in the padding at the end is counted; runtimes leave it out."""
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    inside, outside = known.sizes(node.input[0]), known.sizes(node.output[0])
    if not attrs.get("ceil_mode") or inside is None or outside is None or attrs.get("auto_pad", b"NOTSET") != b"NOTSET":
        return False
    rank = len(inside) - 2
    pads, strides = attrs.get("pads") or [0] * (2 * rank), attrs.get("strides") or [1] * rank
    kernel, dilations = attrs["kernel_shape"], attrs.get("dilations") or [1] * rank
    reach, right = [], True
    for i, (size, said) in enumerate(zip(inside[2:], outside[2:], strict=True)):
        extent = dilations[i] * (kernel[i] - 1) + 1
        windows = None if size is None else counted(size, pads[i], pads[rank + i], extent, strides[i], ceil=True)
        right &= windows in (None, said)
        # The kernel that reaches to the end, without padding there, with as many windows
        reach.append(extent if size is None or windows is None else size + pads[i] - (windows - 1) * strides[i])
    if right or min(reach) < 1:
        return False
    told = {"kernel_shape": reach, "strides": strides, "pads": [*pads[:rank], *[0] * rank]}
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in told.items())
    return True


def counted(size: int, begin: int, end: int, extent: int, stride: int, ceil: bool) -> int:
    """How many windows a runtime computes along an axis: with ``ceil`` also one that reaches beyond the end, but none that
    starts there.

    >>> counted(7, 1, 2, 3, 3, ceil=False), counted(7, 1, 2, 3, 3, ceil=True), counted(8, 1, 1, 3, 3, ceil=True)
    (3, 3, 3)
    """
    span = size + begin + end - extent
    windows = (-(-span // stride) if ceil else span // stride) + 1
    return windows - 1 if ceil and (windows - 1) * stride >= size + begin else windows
