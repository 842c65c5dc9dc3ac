"""The min-max relevance model (Montavon et al. 2017, section 5.1): the relevance R_k of a layer as a function of its inputs x.

    y_j = max(0, Σ_i x_i v_ij + a_j),   R̂_k = Σ_j y_j,   a_j = min(0, Σ_l R_l u_lj + d_j)

where R_l is the relevance of the layers above, so that a_j inhibits what nothing above asks for. v, u and d are trained for R̂
to be R (``study/fit``). y is shared out as any ReLU layer is, by a rule on v, with a constant bias a ≤ 0: what deep Taylor
decomposition takes for granted holds by construction. k is what a layer gives behind its activation and the pool that follows.

A convolution has the same v, u and d everywhere: with the pool behind it, it is a convolution with a larger window. Each k has
so many ``units`` j, side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.steps import Share, Step
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.graph.emit import Emit, dims, known, wide
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.method.division import divide
from onnxdtd.method.preset import FITS
from onnxdtd.method.propagate import Record, propagate
from onnxdtd.method.terms import Context
from onnxdtd.operators.layer import Layer, weight_shape
from onnxdtd.operators.linear import conv, matmul
from onnxdtd.operators.table import Relevance, of
from onnxdtd.operators.windows import Window, adjoint_conv, attributes, joined, window


@dataclass(frozen=True)
class RelevanceModel:
    """What was trained: v [units · K, channels, window...] of a convolution, [inputs, units · K] of a dense layer; for each
    layer above u, [its outputs, units · K, its window...] or [its outputs, units · K]; d [units · K]. The units of a k lie side
    by side.
    """

    units: int
    v: np.ndarray
    d: np.ndarray
    above: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Above:
    """A layer above: ``r`` is what its relevance R_l is of, ``win`` its window, of a convolution. Where it has a relevance
    model itself, they are those of that.
    """

    r: Tensor
    win: Window | None

    @property
    def shape(self) -> tuple[int, tuple[int, ...]]:
        """How many channels or neurons l it has, and its kernel."""
        size = (dims(self.r) or [0])[-1 if self.win is None else 1] or 0
        return size, () if self.win is None else self.win.kernel


@dataclass(frozen=True)
class Spot:
    """A layer that is to have a relevance model: what stands for it, of ``k`` with ``size`` neurons or channels.

    ``inner`` are the tensors between that have no relevance of their own then; ``above`` are the layers that R_l is of;
    ``win`` is the window of a convolution, that of the pool behind it included.
    """

    step: Step
    k: Tensor
    inner: tuple[Tensor, ...]
    above: tuple[Above, ...]
    size: int
    win: Window | None

    @property
    def x(self) -> Tensor:
        """The input of the layer."""
        assert self.step.layer is not None
        return self.step.layer.slots[0].x

    def shapes(self, units: int) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
        """Those of v and of u."""
        many = units * self.size
        inputs = (dims(self.x) or [0])[-1 if self.win is None else 1] or 0
        v = (inputs, many) if self.win is None else (many, inputs, *self.win.kernel)
        return v, [(size, many, *kernel) for size, kernel in (above.shape for above in self.above)]


def spots(plan: Plan) -> list[Spot]:
    """The layers whose entries in the preset ask for a relevance model, in the order of the graph. Raises ``ModelError`` where
    one cannot have any.
    """
    readers: dict[str, list[Step]] = {}
    for step in plan.steps:
        for t in step.inputs:
            if t is not None:
                readers.setdefault(t.name, []).append(step)
    found: dict[str, Spot] = {}
    for step in reversed(plan.steps):
        if step.fit:
            found[step.name] = _spot(step, plan, readers, found)
    return list(found.values())[::-1]


def _spot(step: Step, plan: Plan, readers: Mapping[str, list[Step]], known_above: Mapping[str, Spot]) -> Spot:
    layer = step.layer
    assert layer is not None
    slides = is_convolution(step)
    if not slides and layer.family != "dense":
        raise _refused(step, f"it is a layer of the family {layer.family}, and no convolution or dense layer")
    x = layer.slots[0].x
    if len(layer.slots) > 1 or not layer.slots[0].batched or plan.samples.of(x) != 0:
        raise _refused(step, f"its input {x.name!r} is not one of samples in front")
    passed, win = _activated(step, readers), None
    if slides:
        if kernel_shape(step)[1] != (dims(x) or [])[1]:
            raise _refused(step, "it has groups of channels")
        pool, win = _pool(step, readers.get(passed[-1].name, ()))
        passed += [] if pool is None else [pool]
    else:
        passed += _summed(passed[-1], plan, readers)
    k = passed[-1]
    sizes = known((dims(k) or [None])[1:2] if slides else (dims(k) or [None])[1 if len(dims(x) or []) == 2 else -1 :])
    above = _above(k, slides, plan, readers, known_above)
    if sizes is None or (len(dims(x) or []) > 3 and not slides):
        raise _refused(step, f"how many neurons {k.name!r} has is not known")
    if not above:
        raise _refused(step, f"no convolution or dense layer is above {k.name!r} whose relevance it could be told from")
    return Spot(step, k, tuple(passed[:-1]), tuple(above), prod(sizes), win)


def _refused(step: Step, why: str) -> ModelError:
    way = f"give it a rule without one, with --set '{step.name}=z+'"
    return ModelError(f"{step.name!r} ({step.op}) cannot have a relevance model, since {why}; {way}")


def is_convolution(step: Step) -> bool:
    """Is it one, and not its adjoint?"""
    return of(step.nodes[0]).linear is conv


def kernel_shape(step: Step) -> list[int]:
    """That of the weights of a layer."""
    return weight_shape(step.nodes[0].inputs[1])


def window_of(step: Step) -> Window:
    """That of a convolution or a pool."""
    node = step.nodes[0]
    kernel = kernel_shape(step)[2:] if is_convolution(step) else node.attrs["kernel_shape"]
    return window(node.attrs, kernel, (dims(node.inputs[0]) or [None] * (len(kernel) + 2))[2:])


def _activated(step: Step, readers: Mapping[str, list[Step]]) -> list[Tensor]:
    """The output of a layer, and of the functions entry by entry behind it that nobody reads between."""
    found = [step.outputs[0]]
    while len(follow := readers.get(found[-1].name, [])) == 1 and follow[0].kind == "pass":
        found.append(follow[0].outputs[0])
    return found


def _pool(step: Step, follow: Sequence[Step]) -> tuple[Tensor | None, Window]:
    """What the pool behind a convolution gives, where it is all that follows, and the window of both."""
    win = window_of(step)
    node = follow[0].nodes[0] if len(follow) == 1 else None
    if node is None or "kernel_shape" not in node.attrs or is_convolution(follow[0]) or node.attrs.get("ceil_mode"):
        return None, win
    both = joined(win, window_of(follow[0]))
    return (None, win) if both is None else (node.outputs[0], both)


def _summed(tensor: Tensor, plan: Plan, readers: Mapping[str, list[Step]]) -> list[Tensor]:
    """The tensors from a dense layer's neurons to what sums groups of them, one row a sample; none where nothing does."""
    found: list[Tensor] = []
    while len(follow := readers.get(tensor.name, [])) == 1:
        tensor = follow[0].outputs[0]
        found.append(tensor)
        if follow[0].layer is not None and follow[0].layer.family == "average":
            return found if len(dims(tensor) or []) == 2 and plan.samples.of(tensor) == 0 else []
        if follow[0].kind != "move":
            break
    return []


def _above(k: Tensor, slides: bool, plan: Plan, readers: Mapping[str, list[Step]], models: Mapping[str, Spot]) -> list[Above]:
    """The layers that read k, perhaps behind what hands its entries on: convolutions of the same places, dense layers of the
    same rows, or of all there is of a sample.
    """
    found: list[Above] = []
    ways, rank = [(k, True)], len(dims(k) or [])
    seen = {k.name}
    for tensor, in_place in ways:
        for step in readers.get(tensor.name, ()):
            family = None if step.rule is None or step.layer is None else step.layer.family
            if family in ("conv", "dense"):
                spot = models.get(step.name)
                r = step.outputs[0] if spot is None else spot.k
                row = len(dims(r) or []) == 2 and plan.samples.of(r) == 0
                if family == "dense" and (row or (in_place and not slides and len(dims(r) or []) == rank)):
                    found.append(Above(r, None))
                elif in_place and slides and is_convolution(step) and kernel_shape(step)[1] == (dims(k) or [0, 0])[1]:
                    win = window_of(step) if spot is None else spot.win
                    found += [] if win is None or win.begin is None else [Above(r, win)]
            elif sum(t is not None for t in step.inputs) == 1 and step.outputs[0].name not in seen:
                seen.add(step.outputs[0].name)
                ways.append((step.outputs[0], in_place and step.kind == "pass"))
    return [above for above in found if above.shape[0]]


# ------------------------------------------------------------------------------------------------------ its step of the walk


@dataclass(frozen=True, kw_only=True)
class ModelStep(Step):
    """A step by a relevance model, in place of its layer's and of those between that and k: ``layer`` has v for weights."""

    model: RelevanceModel
    spot: Spot

    def back(self, e: Emit, relevance: Relevance, context: Context, record: Record | None = None) -> list[Share]:
        """Σ_j q_ij / Σ_i' q_i'j y_j. Raises ``RequestError`` where the relevance above is not there."""
        assert self.layer is not None
        assert self.rule is not None
        own, above = relevance[0], [r for r in relevance[1:] if r is not None]
        if own is None or len(above) < len(self.looks_at):
            raise RequestError(
                f"the relevance model of {self.name!r} looks at the relevance of "
                f"{', '.join(repr(t.name) for t in self.looks_at)}, which is not there: explain one class, without a contrast"
            )
        y = self._activity(e, self.layer, above)
        axis = 1 if self.spot.win is not None else len(dims(self.spot.x) or []) - 1
        front, groups = [0] * axis, [self.spot.size, self.model.units, -1]
        units = e("Reshape", y, [*front, *groups])
        told = e("Reshape", e("ReduceSum", units, [axis + 1], keepdims=0), e.shape(self.spot.k))
        if self.fit == FITS[1]:
            division = divide(e, own, told, 0.0, 1.0)
            scale = e("Reshape", division.s, [*front, self.spot.size, 1, -1])
            y, name, kept = e("Reshape", e("Mul", units, scale), e("Shape", y)), "dead", division.dead
        else:
            name, kept = "misfit", lambda: e("Sub", own, told)
        if record is not None and kept is not None:
            record(1.0, lambda: iter([(name, kept())]))
        (part,) = propagate(e, self.layer, self.rule, y, context, record)
        return [] if part is None else [(self.spot.x, part)]

    def _activity(self, e: Emit, layer: Layer, above: Sequence[Tensor]) -> Tensor:
        """y"""
        z = layer.slots[0].forward(layer.slots[0].x, layer.slots[0].w)
        rank, slides = len(dims(self.spot.x) or []), self.spot.win is not None
        parts = [self._constant(e, self.model.d.reshape([-1] + [1] * (rank - 2) * slides))]
        for layer_above, r, u in zip(self.spot.above, above, self.model.above, strict=True):
            weight, win = self._constant(e, u), layer_above.win
            if win is not None:
                outside = (dims(layer_above.r) or [])[2:]
                parts.append(adjoint_conv(e, r, weight, u.shape, self.spot.k, win, outside, 1))
                continue
            part, missing = e("MatMul", r, weight), rank - len(dims(layer_above.r) or [])
            axes = list(range(2, rank)) if slides else [1]
            parts.append(e("Unsqueeze", part, axes) if missing else part)
        return e("Relu", e("Add", z, e("Min", e.sum(parts), 0.0)))

    def _constant(self, e: Emit, values: np.ndarray) -> Tensor:
        return e.constant(values.astype(wide(self.spot.k.dtype)))


def with_models(e: Emit, plan: Plan, models: Mapping[str, RelevanceModel], keep: Sequence[str]) -> list[Step]:
    """The steps of a plan, with ``models``, by the name of the step, in the place of the layers that the preset asks them for.
    Raises ``RequestError`` for a tensor to keep that such a model leaves without relevance.
    """
    placed: dict[str, Step] = {}
    gone: set[str] = set()
    for spot in spots(plan):
        between = [t.name for t in spot.inner]
        for name in keep:
            if name in between:
                raise RequestError(
                    f"--keep {name!r}: has no relevance of its own, since it lies within the relevance model of "
                    f"{spot.step.name!r}; keep {spot.k.name!r} or {spot.x.name!r}"
                )
        placed[spot.step.name] = _step(e, plan, spot, models[spot.step.name])
        gone.update((*between, spot.k.name))
    return [placed[s.name] if s.fit else s for s in plan.steps if s.fit or not any(t.name in gone for t in s.outputs)]


def _step(e: Emit, plan: Plan, spot: Spot, model: RelevanceModel) -> ModelStep:
    node, v = spot.step.nodes[0], e.constant(model.v.astype(wide(spot.x.dtype)))
    if spot.win is None:
        layer = matmul(e, Node("MatMul", node.name, [spot.x, v], [spot.k]), plan.active)
    else:
        layer = conv(e, Node(node.op, node.name, [spot.x, v], [spot.k], attributes(spot.win)), plan.active)
    return ModelStep(
        "linear",
        spot.step.nodes,
        (spot.k,),
        (spot.x,),
        replace(layer, exact=False),
        spot.step.facts,
        spot.step.rule,
        fit=spot.step.fit,
        looks_at=tuple(above.r for above in spot.above),
        model=model,
        spot=spot,
    )
