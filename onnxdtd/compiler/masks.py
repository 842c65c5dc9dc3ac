"""Masks: which channels of inner tensors relevance may pass, as inputs of the compiled model.

R_c of a channel becomes m_c R_c before the walk goes on below the tensor (conditional relevance: Achtibat et al. 2023). But
where a gradient is rectified the walk is linear in relevance, so R(m) = R(0) + Σ_c m_c (R(1_c) − R(0)): with ones it is the
relevance of a file that keeps the relevance of the tensor, and R(0) is what bypasses the tensor on skip connections. Several
masks on one way let pass what all of them let pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxdtd.compiler.neuron import Start
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.samples import Samples
from onnxdtd.compiler.score import target_shape
from onnxdtd.contract import mask_of
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.graph.emit import Emit, dims, wide
from onnxdtd.graph.tensors import Tensor
from onnxdtd.operators import spread
from onnxdtd.operators.factors import parts
from onnxdtd.operators.places import channel_axis
from onnxdtd.operators.table import of


@dataclass(frozen=True)
class Mask:
    """A ``tensor`` whose relevance is multiplied by the input ``given``, [batch, channels], along its axis of ``channels``;
    ``samples`` is the axis of its samples, None where all of it is of one.
    """

    tensor: Tensor
    given: Tensor
    channels: int
    samples: int | None

    def let(self, e: Emit, relevance: Tensor) -> Tensor:
        """What passes of the ``relevance`` of the tensor."""
        rank, mask = len(dims(self.tensor) or ()), e.cast(self.given, relevance.dtype)
        if self.samples is None:
            return e("Mul", relevance, e("Reshape", mask, [-1, *[1] * (rank - 1 - self.channels)]))
        if self.samples > self.channels:
            mask = e("Transpose", mask, perm=[1, 0])
        others = [i for i in range(rank) if i not in (self.samples, self.channels)]
        return e("Mul", relevance, e("Unsqueeze", mask, others) if others else mask)


def masks(e: Emit, plan: Plan, start: Start, names: Sequence[str]) -> dict[str, Mask]:
    """The masks of the tensors ``names``, by these names. Raises ``RequestError`` where relevance does not pass one on its way,
    or where its channels or its samples cannot be told.
    """
    given = {t.name: t for step in plan.steps for t in step.outputs}
    found = {}
    for name in dict.fromkeys(names):
        if name not in given:
            raise RequestError(f"--mask {name!r}: is what is explained itself; mask a tensor between it and the scores")
        if name in start.total or name in start.replaced:
            raise RequestError(
                f"--mask {name!r}: lies within the neuron that gives the score; mask one that it is computed from"
            )
        tensor, (samples, channels) = given[name], axes(plan, given[name])
        if channels is None:
            raise RequestError(
                f"--mask {name!r}: it is not known which of its axes has channels; mask what a layer gives, or reads"
            )
        shape = [*target_shape(plan, "input"), (dims(tensor) or [])[channels]]
        found[name] = Mask(tensor, Tensor(e.unique(mask_of(name)), dtype=wide(tensor.dtype), shape=shape), channels, samples)
    return found


def axes(plan: Plan, tensor: Tensor) -> tuple[int | None, int | None]:
    """The axes of the samples and of the channels of a tensor that relevance passes: of the neurons of the layer that gives it,
    or the layers that give what it joins, or of what the next layer takes for channels. None where there is none, or where it
    is not known.

    Raises ``RequestError`` where the samples cannot be told apart.
    """
    try:
        samples = plan.samples.of(tensor)
    except ModelError as error:
        raise RequestError(f"--mask {tensor.name!r}: {error}") from None
    sizes, giver = dims(tensor), plan.producer.get(tensor.name)
    joined = giver.inputs if giver is not None and of(giver).axes is spread.concatenated else []
    own = _neurons(plan.samples, tensor) or {i for t in joined for i in _neurons(plan.samples, t)}
    found: set[int | None] = {*own} or {channel_axis(tensor)}
    axis = found.pop() if len(found) == 1 else None
    if sizes is None or axis is None or axis % len(sizes) == samples or sizes[axis] is None:
        return samples, None
    return samples, axis % len(sizes)


def _neurons(samples: Samples, tensor: Tensor) -> set[int]:
    """The axes of a tensor that have the neurons of a layer."""
    held = [parts(axis) for axis in samples.factors(tensor) or ()]
    return {i for i, factors in enumerate(held) if len(factors) == 1 and factors[0].layer is not None}


def channels(plan: Plan, tensor: Tensor) -> int | None:
    """How many channels a tensor has that relevance passes; None where it cannot be masked."""
    try:
        axis = axes(plan, tensor)[1]
    except RequestError:
        return None
    return None if axis is None else (dims(tensor) or [])[axis]
