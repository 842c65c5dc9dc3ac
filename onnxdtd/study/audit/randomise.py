"""Weights drawn anew, to see which of them an explanation depends on (Adebayo et al. 2018).

A layer here is a step of the plan with all that it learned: weight, bias and the γ and β of a BatchNormalization merged into
it. Nodes that hold weights and carry no relevance, in a gate for instance, count as layers of their own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from onnxdtd.compiler.facts import before
from onnxdtd.compiler.prepared import Prepared
from onnxdtd.graph.emit import label
from onnxdtd.graph.spelled import layout
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.layer import is_float
from onnxdtd.operators.table import AS_THEY_ARE, of

KINDS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}
INTEGERS = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32}


@dataclass(frozen=True)
class Weights:
    """What a layer learned: the name of its step, and those of the initializers or constants that its weights come from."""

    layer: str
    tensors: tuple[str, ...]


def layers(job: Prepared) -> list[Weights]:
    """The layers of a planned model that hold weights, from the logits down to the input."""
    active, known = job.plan.active, constants(job.source.proto)
    producer = {t.name: node for node in job.graph.nodes for t in node.outputs}
    preprocessing = {label(n) for step in job.plan.steps if step.kind == "preprocessing" for n in step.nodes}
    owner = {label(n): step.name for step in job.plan.steps for n in step.nodes}
    found: dict[str, dict[str, None]] = {}
    for node in before(job.graph.nodes, job.graph.tensors()[job.plan.output]):
        if label(node) in preprocessing or not any(active(t) for t in node.inputs):
            continue
        held = found.setdefault(owner.get(label(node), label(node)), {})
        for tensor in _learned(node):
            if not active(tensor):
                held.update((name, None) for name in _origins(tensor, producer, known) if _spreads(known[name]))
    return [Weights(name, tuple(held)) for name, held in reversed(found.items()) if held]


def _learned(node: Node) -> list[Tensor]:
    """The inputs of a node that hold what was learned, where they do not depend on the input of the model."""
    quantised = layout(node, node.op)
    if quantised is not None:
        places = [*(operand[0] for operand in quantised.operands), *([] if quantised.bias is None else [quantised.bias])]
    else:
        learned = of(node).learned
        places = [] if learned is None else list(range(len(node.inputs))[learned])
    return [node.inputs[i] for i in places if i < len(node.inputs) and not node.inputs[i].left_out]


def _origins(tensor: Tensor, producer: Mapping[str, Node], known: Mapping[str, TensorProto]) -> Iterator[str]:
    """The names of the constants that a weight is made from; sizes, axes and scales are none."""
    if tensor.name in known:
        yield tensor.name
    elif tensor.name in producer:
        node = producer[tensor.name]
        first_only = of(node).hands_on == AS_THEY_ARE  # the others are scales and zero points
        sources = node.inputs[:1] if first_only else [t for t in node.inputs if t.dtype is None or is_float(t.dtype)]
        for source in sources:
            yield from _origins(source, producer, known)


def _spreads(tensor: TensorProto) -> bool:
    """Does it have several numbers, so that there is a deviation to draw with?"""
    return math.prod(tensor.dims) > 1 and tensor.data_type in KINDS | INTEGERS


def constants(proto: onnx.ModelProto) -> dict[str, TensorProto]:
    """The initializers and the values of Constant nodes, by the name of the tensor; not copies, so that they can be changed."""
    found = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], attr.t) for attr in node.attribute if attr.name == "value")
    return found


def randomised(proto: onnx.ModelProto, chosen: Iterable[Weights], seed: int, folder: Path | None = None) -> onnx.ModelProto:
    """A copy of a source model whose ``chosen`` layers have weights drawn anew.

    Each tensor is drawn independently from the normal distribution with its trained mean and deviation; integers of quantised
    models are rounded and stay in their range. What is drawn depends on ``seed`` and the name of the tensor alone, not on
    what else is drawn. ``folder`` is where external weights lie.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    known = constants(copy)
    for name in sorted({name for weights in chosen for name in weights.tensors}):
        tensor = known[name]
        trained = numpy_helper.to_array(tensor, str(folder or ""))
        tensor.CopyFrom(numpy_helper.from_array(_drawn(trained, _generator(seed, name)), tensor.name))
    return copy


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def _drawn(trained: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the mean and deviation of ``trained``, in its shape and type."""
    values = rng.normal(trained.mean(dtype=np.float64), trained.std(dtype=np.float64), trained.shape)
    if trained.dtype.kind in "iu":
        ends = np.iinfo(trained.dtype)
        values = np.clip(np.rint(values), ends.min, ends.max)
    return values.astype(trained.dtype)


def spread(found: Sequence[Weights], most: int) -> list[int]:
    """The places of at most ``most`` of the layers, evenly over the depth, the first and the last among them.

    >>> spread([Weights(name, ()) for name in "abcde"], 3)
    [0, 2, 4]
    """
    return sorted({round(i) for i in np.linspace(0, len(found) - 1, min(most, len(found)))})
