"""The score as a neuron: where a linear layer gives the logits z, its rule sees the weights of Σ c_k z_k.

A rule that explains z_k knows nothing of −z_k or of z_k − z_l: w⁺ is not (−w)⁺, and (w_k − w_l)⁺ is not w_k⁺ − w_l⁺. So where c
is not one-hot, the walk does not start at the logits but at one number for each sample, u = Σ c_k z_k, given by layers with the
weights of the predictor's times c, sample by sample, as if the exporter had written that neuron.

From the logits down, c goes back through moves and activations by their own adjoints. Below a sum there is a neuron for each of
its terms. Below a pool that leaves one position c picks channels, and what is pooled is a map of one channel. Everything else
that is linear gives the neuron itself, with the weights Aᵀc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np

from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.steps import Step
from onnxdtd.depth import Task, result
from onnxdtd.graph.emit import Emit, dims, known, wide
from onnxdtd.graph.tensors import Node, Tensor, Value, as_tensor
from onnxdtd.operators.layer import Layer, Slot, shape_of
from onnxdtd.operators.moves import reshaped
from onnxdtd.operators.narrowed import in_width, over, positive
from onnxdtd.operators.table import ALL, AS_THEY_ARE, IN_ORDER, of

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Start:
    """Where the walk starts: from the relevance ``seed``, of which some has ``arrived`` at tensors; what is known already of
    the relevance of those above (``total``), the steps of the neurons, to walk besides those of the plan, and the tensors that
    neurons ``replaced``, with what has their relevance where they have one channel.
    """

    seed: Tensor
    arrived: dict[str, Tensor] = field(default_factory=dict)
    total: dict[str, Tensor] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    replaced: dict[str, str | None] = field(default_factory=dict)


MOST = 1024  # layers to look below: sums of sums of the same tensors have more ways than anybody can go


def neurons(e: Emit, plan: Plan, c: Tensor, value: Tensor) -> Start:
    """The score Σ c z of the logits as neurons. ``c`` and ``value``, which is c z, have the shape of the logits.

    Raises ``ModelError`` where the samples of a tensor on the way cannot be told apart.
    """
    writer = _Writer(e, plan, value)
    writer.descend(c)
    return writer.start


def _within(method: Callable[Concatenate[_Writer, Step, P], T]) -> Callable[Concatenate[_Writer, Step, P], T]:
    """What a method builds is named after the step that it is about."""

    def named(self: _Writer, step: Step, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.e.within(step.name):
            return method(self, step, *args, **kwargs)

    return named


def _waiting(method: Callable[Concatenate[_Writer, Step, P], Task[T]]) -> Callable[Concatenate[_Writer, Step, P], Task[T]]:
    """The same of one that waits for others."""

    def named(self: _Writer, step: Step, /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        with self.e.within(step.name):
            return (yield from method(self, step, *args, **kwargs))

    return named


class _Writer:
    """Writes neurons, and collects their steps in topological order."""

    def __init__(self, e: Emit, plan: Plan, value: Tensor):
        self.e, self.plan, self.start, self.left = e, plan, Start(value), MOST
        self.samples = plan.samples.of
        self.places = {id(step): i for i, step in enumerate(plan.steps)}
        self.givers: dict[str, list[Step]] = {}
        for step in plan.steps:
            for t in step.outputs:
                self.givers.setdefault(t.name, []).append(step)

    def giver(self, tensor: Tensor, above: Step) -> Step | None:
        """The last step before ``above`` that gives a tensor: what a quantised layer gives has its name twice."""
        end = self.places[id(above)]
        return next((s for s in reversed(self.givers.get(tensor.name, ())) if self.places[id(s)] < end), None)

    def descend(self, c: Tensor) -> None:
        """From the logits down to the layers that give them; relevance goes the same way as the coefficients."""
        ways: dict[str, list[tuple[Tensor, Tensor]]] = {self.plan.logits.name: [(c, self.start.seed)]}
        for step in reversed(self.plan.steps):
            for tensor in step.outputs:
                if tensor.name in ways:
                    for i, *way in self.through(step, tensor, *self.united(step, ways.pop(tensor.name))):
                        ways.setdefault(_source(step, i).name, []).append((way[0], way[1]))
        for name, parts in ways.items():  # inputs of the model, with nothing between them and the score
            self.start.arrived[name] = self.e.sum([relevance for _, relevance in parts])

    @_within
    def united(self, step: Step, parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The coefficients and the relevance of what ``step`` gives, of all ways to it."""
        return self.e.sum([c for c, _ in parts]), self.e.sum([relevance for _, relevance in parts])

    def through(self, step: Step, tensor: Tensor, c: Tensor, relevance: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """What a step hands on of what has come to a tensor that it gives; where it has a rule, its neuron takes it all."""
        self.start.total[tensor.name] = relevance
        if step.rule is None:
            shares = dict(self.handed(step, tensor, relevance))
            yield from ((i, back, shares[i]) for i, back in self.handed(step, tensor, c))
            return
        u = result(self.neuron(step, c))
        with self.e.within(step.name):
            self.start.arrived[u.name] = self.summed(relevance, tensor)

    @_within
    def handed(self, step: Step, tensor: Tensor, values: Tensor) -> list[tuple[int, Tensor]]:
        """What a step without a rule hands to its inputs of the relevance, or of the coefficients, of one of its outputs."""
        assert step.flow is not None
        given = [values if t.name == tensor.name else None for t in step.outputs]
        return [(i, part) for i, part in step.flow(self.e, step.nodes[0], given) if step.inputs[i] is not None]

    # ----------------------------------------------------------------------------------------------------- one number

    @_waiting
    def neuron(self, step: Step, c: Tensor) -> Task[Tensor]:
        """Σ c y of what a step with a rule gives, [batch, 1]."""
        self.left -= 1
        for write in (self.of_sum, self.of_pool):
            count, replaced = len(self.start.steps), dict(self.start.replaced)
            u = yield write(step, c)
            if u is not None:
                return u
            del self.start.steps[count:]
            self.start.replaced = replaced
        return (yield self.of_layer(step, c))

    def below(self, tensor: Tensor, c: Tensor, above: Step) -> Task[Tensor | None]:
        """Σ c t of any tensor that ``above`` reads; None where more than one layer gives it, or none."""
        while (step := self.giver(tensor, above)) is not None:
            self.start.replaced[tensor.name] = None
            if step.rule is not None:
                return (yield self.neuron(step, c)) if self.left > 0 else None
            handed = self.handed(step, tensor, c)
            if len(handed) != 1:
                return None
            ((i, c),) = handed
            tensor, above = _source(step, i), step
        return None

    def of_sum(self, step: Step, c: Tensor) -> Task[Tensor | None]:
        """A sum of the neurons of its terms; an affine layer is a sum with one term.

        Factors stay where they are; only those that differ from class to class go to the coefficients.
        """
        layer, slots = _layer(step), []
        if layer.family not in ("sum", "affine") or not all(slot.elementwise for slot in layer.slots):
            return None
        for slot in layer.slots:
            part = yield self.summand(step, slot, c)
            if part is None:
                return None
            slots.append(part)
        return self.note(step, replace(layer, slots=slots, y=self.number(step, c), b=self.bias(step, c), whole=None))

    @_waiting
    def summand(self, step: Step, slot: Slot, c: Tensor) -> Task[Slot | None]:
        """The neuron of a term of a sum; below −t it is that of −t, since rules take what speaks for t otherwise."""
        e, alone = self.e, len(_layer(step).slots) == 1
        negative = alone and isinstance(slot.w, float) and slot.w < 0
        whole = isinstance(slot.w, float) or known(dims(slot.w)) in ([], [1], [1, 1])
        sign = -1.0 if negative else 1.0
        part = yield self.below(slot.x, as_tensor(slot.adjoint(c, sign if whole else in_width(e, slot.w))), step)
        w = 1.0 if not whole else sign * slot.w if isinstance(slot.w, float) else e("Reshape", in_width(e, slot.w), [1, 1])
        return None if part is None else Slot(part, w, e.mul, e.mul, elementwise=True)

    def of_layer(self, step: Step, c: Tensor) -> Task[Tensor]:
        """A layer whose weights are Aᵀc. What a rule takes for a weight of 1 is one wherever a coefficient is not 0."""
        e, layer, slots = self.e, _layer(step), []
        some = positive(e, e("Abs", c))
        for slot in layer.slots:
            term = slot.elementwise and layer.family in ("dense", "product")  # C of a Gemm
            if term and (added := (yield self.summand(step, slot, c))) is not None:
                slots.append(added)
                continue
            one = 1.0 if isinstance(slot.w, float) else e.full(1.0, e.shape(slot.w), wide(slot.w.dtype))
            w, reached = (as_tensor(slot.adjoint(a, b)) for a, b in ((c, in_width(e, slot.w)), (some, one)))
            slots.append(self.dot(slot.x, w, positive(e, reached)))
        return self.note(step, Layer(layer.family, slots, self.number(step, c), self.bias(step, c), exact=layer.exact))

    def dot(self, x: Tensor, w: Tensor, one: Tensor) -> Slot:
        """u = Σ x w over all entries of a sample."""
        e, axis, rank = self.e, self.samples(x), len(shape_of(x))
        place = [-1 if i == axis else 1 for i in range(rank)]

        def forward(x: Value, w: Value) -> Tensor:
            return self.e("Reshape", over(e, as_tensor(e.mul(x, w)), [i for i in range(rank) if i != axis]), [-1, 1])

        return Slot(x, w, forward, lambda s, w: e.mul(e("Reshape", s, place), w), batched=axis == 0, one=one)

    @_within
    def number(self, step: Step, c: Tensor) -> Tensor:
        """Σ c y"""
        y = _layer(step).y
        return self.summed(self.times(c, y), y)

    def bias(self, step: Step, c: Tensor) -> Tensor | None:
        """Σ c b"""
        layer = _layer(step)
        return None if layer.b is None else self.summed(self.times(c, layer.b), layer.y)

    def summed(self, values: Tensor, like: Tensor) -> Tensor:
        """The sum over all entries of each sample, [batch, 1], of values that lie as those of ``like``."""
        total = over(self.e, self.plan.samples.rows(self.e, values, like), [1], [self.plan.samples.size, 1])
        self.plan.samples.note(total, 0)
        return total

    # ------------------------------------------------------------------------------------------- one channel of a map

    def of_pool(self, step: Step, c: Tensor) -> Task[Tensor | None]:
        """The same pool, where it leaves one position, over a map with one channel."""
        layer, node = _layer(step), step.nodes[0]
        x, y = layer.slots[0].x, layer.y
        summed = of(node).summed
        if summed is None:
            return None
        before, after = shape_of(x), shape_of(y)
        pooled = summed(node, len(before))
        free = [i for i in range(len(before)) if i not in pooled and i != self.samples(x)]
        channels = [i for i in free if before[i] != 1] or [i for i in free if i]
        kept = len(before) == len(after)
        if self.samples(x) in pooled or len(channels) != 1 or (kept and any(after[i] != 1 for i in pooled)):
            return None
        channel = channels[0] if kept else channels[0] - sum(i < channels[0] for i in pooled)
        pooled_map = yield self.average(step, y, c, channel)
        if pooled_map is None:
            return None
        u = self.number(step, c)
        self.enter(_reshape(step.name, pooled_map, u))
        return u

    def map(self, tensor: Tensor, c: Tensor, axis: int, above: Step) -> Task[Tensor | None]:
        """Σ c t over the channels of a tensor that ``above`` reads, along ``axis``; ``c`` has the size 1 along all others but
        that of the samples.

        None where something not linear is behind it, or something linear that mixes channels and positions.
        """
        step = self.giver(tensor, above)
        return None if step is None or self.left <= 0 else (yield self.map_of(step, tensor, c, axis))

    @_waiting
    def map_of(self, step: Step, tensor: Tensor, c: Tensor, axis: int) -> Task[Tensor | None]:
        """The same of what ``step`` gives."""
        self.left -= 1
        node, u = step.nodes[0], self.channel(tensor, c, axis)
        self.start.replaced[tensor.name] = u.name if shape_of(tensor)[axis] == 1 else None
        if step.rule is None:
            return (yield self.moved(step, tensor, c, axis, u))
        layer = _layer(step)
        narrowed = of(node).narrowed
        if of(node).summed is not None:
            return (yield self.average(step, tensor, c, axis))
        if layer.family in ("affine", "sum"):
            found = []
            for slot in layer.slots:
                found.append((yield self.term(step, slot, c, axis)))
        elif narrowed is not None:
            found = [narrowed(self.e, node, slot, c, axis, self.samples(slot.x)) for slot in layer.slots[:1]]
        else:
            return None
        slots = [slot for slot in found if slot is not None]
        if len(slots) < len(found):
            return None
        b = None if layer.b is None else over(self.e, self.times(c, layer.b), [axis])
        return self.note(step, Layer(layer.family, slots, u, b, exact=layer.exact))

    @_waiting
    def average(self, step: Step, y: Tensor, c: Tensor, axis: int) -> Task[Tensor | None]:
        """The same pool over a map with one channel, where it leaves the channels, along ``axis`` of ``y``, alone."""
        node, x = step.nodes[0], _layer(step).slots[0].x
        summed = of(node).summed
        assert summed is not None
        pooled, kept = summed(node, len(shape_of(x))), len(shape_of(x)) == len(shape_of(y))
        source = axis if kept else [i for i in range(len(shape_of(x))) if i not in pooled][axis]
        if source in pooled or self.samples(x) in pooled:
            return None
        below = yield self.map(x, c if kept else self.e("Unsqueeze", c, pooled), source, step)
        return None if below is None else self.again(step, below, self.channel(y, c, axis))

    def term(self, step: Step, slot: Slot, c: Tensor, axis: int) -> Task[Slot | None]:
        """A term of a sum of maps, with a factor that all channels share."""
        y = _layer(step).y
        rank, sizes = len(shape_of(y)), [] if isinstance(slot.w, float) else shape_of(slot.w)
        shared = axis - rank + len(sizes) < 0 or sizes[axis - rank + len(sizes)] == 1
        if not slot.elementwise or not shared or dims(slot.x) != dims(y):
            return None
        below = yield self.map(slot.x, c, axis, step)
        return None if below is None else Slot(below, slot.w, self.e.mul, slot.adjoint, elementwise=True)

    @_waiting
    def moved(self, step: Step, tensor: Tensor, c: Tensor, axis: int, u: Tensor) -> Task[Tensor | None]:
        """The map behind a step that only moves entries, where the channels stay an axis of their own."""
        node, source = step.nodes[0], step.inputs[0]
        entry = of(node)
        if source is None or len(step.outputs) != 1:
            return None
        if entry.hands_on == AS_THEY_ARE:
            return (yield self.map(source, c, axis, step))
        before, after = source.shape, tensor.shape
        if before is None or after is None:
            return None
        places = None if entry.alike is None or not entry.alike(node) else _places(node, source)
        if places is not None and (
            entry.hands_on == ALL or shape_of(source)[places[axis]] == shape_of(tensor)[axis] is not None
        ):
            still = places == list(range(len(before)))
            back = c if still else self.e("Transpose", c, perm=[int(i) for i in np.argsort(places)])
            below = yield self.map(source, back, places[axis], step)
        elif entry.hands_on == IN_ORDER and list(before[: axis + 1]) == list(after[: axis + 1]):
            back = self.e("Reshape", c, [0] * (axis + 1) + [1] * (len(before) - axis - 1))
            below = yield self.map(source, back, axis, step)
        elif entry.hands_on == IN_ORDER and self.is_laid_out_before(source, tensor, axis):
            place = len(before) - len(after) + axis
            back = self.e("Reshape", c, [0] + [1] * (place - 1) + [-1] + [1] * (len(before) - place - 1))
            below = yield self.map(source, back, place, step)
        else:
            return None
        if below is None:
            return None
        if entry.hands_on == IN_ORDER:
            self.enter(_reshape(step.name, below, u))
        else:
            view = Node(node.op, step.name, [below, *node.inputs[1:]], [u], dict(node.attrs))
            self.enter(replace(step, nodes=(view,), outputs=(u,), inputs=(below,)))
        return u

    def is_laid_out_before(self, source: Tensor, tensor: Tensor, axis: int) -> bool:
        """Are only axes between the samples, in front, and the channels, along ``axis`` of ``tensor``, laid out anew?"""
        place, rest = len(shape_of(source)) - len(shape_of(tensor)) + axis, known(shape_of(tensor)[axis:])
        in_front = self.samples(source) in (0, None) and self.samples(tensor) in (0, None)
        return in_front and min(place, axis) > 0 and rest is not None and rest == known(shape_of(source)[place:])

    def channel(self, tensor: Tensor, c: Tensor, axis: int) -> Tensor:
        """Σ c t over the channels, a tensor with one."""
        shape = [1 if i == axis else size for i, size in enumerate(tensor.shape or ())]
        found = over(self.e, self.times(c, tensor), [axis], shape)
        self.plan.samples.note(found, self.samples(tensor))
        return found

    @_within
    def again(self, step: Step, x: Tensor, y: Tensor) -> Tensor:
        """The step with another input and output."""
        node = step.nodes[0]
        view = Node(node.op, step.name, [x, *node.inputs[1:]], [y], dict(node.attrs))
        builder = of(node).linear
        assert builder is not None
        return self.note(step, builder(self.e, view, lambda t: t is x))

    # ---------------------------------------------------------------------------------------------------------- steps

    def enter(self, step: Step) -> None:
        """A step, once: the terms of a sum may be the same tensor."""
        if all(known.outputs[0] is not step.outputs[0] for known in self.start.steps):
            self.start.steps.append(step)

    def note(self, step: Step, layer: Layer) -> Tensor:
        """A step by the rule of ``step``; returns what it gives."""
        sources = tuple(slot.x for slot in layer.slots)
        self.enter(replace(step, outputs=(layer.y,), inputs=sources, layer=layer))
        return layer.y

    def times(self, c: Tensor, values: Tensor) -> Tensor:
        """c t, and 0 where c is, also for a t of -inf, which rules a class out."""
        e = self.e
        return e("Where", e.equal(c, 0.0), e.constant(np.asarray(0.0, c.dtype)), e("Mul", c, e.finite(in_width(e, values))))


def _reshape(name: str, x: Tensor, y: Tensor) -> Step:
    return Step("move", (Node("Reshape", name, [x], [y]),), (y,), (x,), flow=reshaped)


def _places(node: Node, x: Tensor) -> list[int] | None:
    """Which axis of the input x each axis of a node's output is, None where one of them is none."""
    places, rank = of(node).places, len(shape_of(x))
    axes = None if places is None else places(node, x, [*range(rank)])
    known = [axis for axis in axes or () if axis is not None]
    return known if len(known) == rank == len(axes or ()) else None


def _layer(step: Step) -> Layer:
    assert step.layer is not None
    return step.layer


def _source(step: Step, i: int) -> Tensor:
    source = step.inputs[i]
    assert source is not None
    return source
