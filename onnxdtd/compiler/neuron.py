"""The score as a neuron: where a linear layer gives the logits z, its rule sees the weights of Σ c_k z_k.

A rule that explains z_k knows nothing of −z_k or of z_k − z_l: w⁺ is not (−w)⁺, and (w_k − w_l)⁺ is not w_k⁺ − w_l⁺. So where c
is not one-hot, the walk does not start at the logits but at one number for each sample, u = Σ c_k z_k, given by layers with the
weights of the predictor's times c, sample by sample, as if the exporter had written that neuron.

From the logits down, c goes back through moves and activations by their own adjoints. Below a sum there is a neuron for each of
its terms. Below a pool that leaves one position c picks channels, and what is pooled is a map of one channel. Everything else
that is linear gives the neuron itself, with the weights Aᵀc.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import Emit, dims, known, wide
from onnxdtd.graph.tensors import Node, Shape, Tensor, Value, as_tensor
from onnxdtd.operators.linear import LINEAR, Layer, Slot, reduced_axes, shape_of, weight_shape
from onnxdtd.operators.moves import MOVE, cut
from onnxdtd.operators.windows import adjoint_conv, window

POOLS = ("GlobalAveragePool", "AveragePool", "ReduceMean", "ReduceSum")
AS_IT_IS = ("Identity", "Dropout", "Cast", "QuantizeLinear", "DequantizeLinear")  # hand every number on
IN_ORDER = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")  # keep the order of the entries


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


def neurons(e: Emit, plan: Plan, c: Tensor, value: Tensor) -> Start:
    """The score Σ c z of the logits as neurons. ``c`` and ``value``, which is c z, have the shape of the logits.

    Raises ``ModelError`` where the samples of a tensor on the way cannot be told apart.
    """
    writer = _Writer(e, plan, value)
    writer.descend(c)
    return writer.start


class _Writer:
    """Writes neurons, and collects their steps in topological order."""

    def __init__(self, e: Emit, plan: Plan, value: Tensor):
        self.e, self.plan, self.start = e, plan, Start(value)
        self.samples = plan.samples.of
        self.places = {id(step): i for i, step in enumerate(plan.steps)}
        self.givers: dict[str, list[Step]] = {}
        for step in plan.steps:
            for t in step.outputs:
                self.givers.setdefault(t.name, []).append(step)

    def giver(self, tensor: Tensor, above: Step | None) -> Step | None:
        """The last step before ``above`` that gives a tensor: what a quantised layer gives has its name twice."""
        end = len(self.places) if above is None else self.places[id(above)]
        return next((s for s in reversed(self.givers.get(tensor.name, ())) if self.places[id(s)] < end), None)

    def descend(self, c: Tensor) -> None:
        """From the logits down to the layers that give them; relevance goes the same way as the coefficients."""
        ends: list[tuple[Tensor, Tensor, Tensor, Step | None]] = [(self.plan.logits, c, self.start.seed, None)]
        while ends:
            tensor, c, relevance, above = ends.pop()
            self.start.total[tensor.name] = relevance
            step = self.giver(tensor, above)
            if step is None:  # an input of the model, with nothing between it and the score
                self.start.arrived[tensor.name] = relevance
            elif step.rule is None:
                shares = dict(self.handed(step, tensor, relevance))
                for i, back in self.handed(step, tensor, c):
                    ends.append((_source(step, i), back, shares[i], step))
            else:
                u = self.neuron(step, c)
                self.e.scope = step.name
                self.start.arrived[u.name] = self.summed(relevance, tensor)

    def handed(self, step: Step, tensor: Tensor, values: Tensor) -> list[tuple[int, Tensor]]:
        """What a step without a rule hands to its inputs of the relevance, or of the coefficients, of one of its outputs."""
        assert step.flow is not None
        self.e.scope = step.name
        given = [values if t.name == tensor.name else None for t in step.outputs]
        return [(i, part) for i, part in step.flow(self.e, step.nodes[0], given) if step.inputs[i] is not None]

    # ----------------------------------------------------------------------------------------------------- one number

    def neuron(self, step: Step, c: Tensor) -> Tensor:
        """Σ c y of what a step with a rule gives, [batch, 1]."""
        for write in (self.of_sum, self.of_pool):
            count, replaced = len(self.start.steps), dict(self.start.replaced)
            u = write(step, c)
            if u is not None:
                return u
            del self.start.steps[count:]
            self.start.replaced = replaced
        return self.of_layer(step, c)

    def below(self, tensor: Tensor, c: Tensor, above: Step) -> Tensor | None:
        """Σ c t of any tensor that ``above`` reads; None where more than one layer gives it, or none."""
        while (step := self.giver(tensor, above)) is not None:
            self.start.replaced[tensor.name] = None
            if step.rule is not None:
                return self.neuron(step, c)
            handed = self.handed(step, tensor, c)
            if len(handed) != 1:
                return None
            ((i, c),) = handed
            tensor, above = _source(step, i), step
        return None

    def of_sum(self, step: Step, c: Tensor) -> Tensor | None:
        """A sum of the neurons of its terms; an affine layer is a sum with one term.

        Factors stay where they are; only those that differ from class to class go to the coefficients.
        """
        layer, slots = _layer(step), []
        if layer.family not in ("sum", "affine") or not all(slot.elementwise for slot in layer.slots):
            return None
        for slot in layer.slots:
            part = self.summand(step, slot, c)
            if part is None:
                return None
            slots.append(part)
        return self.note(step, replace(layer, slots=slots, y=self.number(step, c), b=self.bias(step, c)))

    def summand(self, step: Step, slot: Slot, c: Tensor) -> Slot | None:
        """The neuron of a term of a sum."""
        e = self.e
        e.scope = step.name
        whole = isinstance(slot.w, float) or known(dims(slot.w)) in ([], [1], [1, 1])
        part = self.below(slot.x, as_tensor(slot.adjoint(c, 1.0 if whole else self.wide(slot.w))), step)
        e.scope = step.name
        w = 1.0 if not whole else slot.w if isinstance(slot.w, float) else e("Reshape", self.wide(slot.w), [1, 1])
        return None if part is None else Slot(part, w, e.mul, e.mul, elementwise=True)

    def of_layer(self, step: Step, c: Tensor) -> Tensor:
        """A layer whose weights are Aᵀc. What a rule takes for a weight of 1 is one wherever a coefficient is not 0."""
        e, layer, slots = self.e, _layer(step), []
        e.scope = step.name
        some = self.positive(e("Abs", c))
        for slot in layer.slots:
            added = self.summand(step, slot, c) if slot.elementwise and layer.family == "dense" else None  # C of a Gemm
            if added is not None:
                slots.append(added)
                continue
            one = 1.0 if isinstance(slot.w, float) else e.full(1.0, e.shape(slot.w), wide(slot.w.dtype))
            w, reached = (as_tensor(slot.adjoint(a, b)) for a, b in ((c, self.wide(slot.w)), (some, one)))
            slots.append(self.dot(slot.x, w, self.positive(reached)))
        return self.note(step, Layer(layer.family, slots, self.number(step, c), self.bias(step, c), exact=layer.exact))

    def dot(self, x: Tensor, w: Tensor, one: Tensor) -> Slot:
        """u = Σ x w over all entries of a sample."""
        e, axis, rank = self.e, self.samples(x), len(shape_of(x))
        place = [-1 if i == axis else 1 for i in range(rank)]

        def forward(x: Value, w: Value) -> Tensor:
            return self.e("Reshape", _over(e, as_tensor(e.mul(x, w)), [i for i in range(rank) if i != axis]), [-1, 1])

        return Slot(x, w, forward, lambda s, w: e.mul(e("Reshape", s, place), w), batched=axis == 0, one=one)

    def number(self, step: Step, c: Tensor) -> Tensor:
        """Σ c y"""
        self.e.scope = step.name
        y = _layer(step).y
        return self.summed(self.times(c, y), y)

    def bias(self, step: Step, c: Tensor) -> Tensor | None:
        """Σ c b"""
        layer = _layer(step)
        return None if layer.b is None else self.summed(self.times(c, layer.b), layer.y)

    def summed(self, values: Tensor, like: Tensor) -> Tensor:
        """The sum over all entries of each sample, [batch, 1], of values that lie as those of ``like``."""
        total = _over(self.e, self.plan.samples.rows(self.e, values, like), [1], [self.plan.samples.size, 1])
        self.plan.samples.note(total, 0)
        return total

    # ------------------------------------------------------------------------------------------- one channel of a map

    def of_pool(self, step: Step, c: Tensor) -> Tensor | None:
        """The same pool, where it leaves one position, over a map with one channel."""
        layer, node = _layer(step), step.nodes[0]
        x, y = layer.slots[0].x, layer.y
        if node.op not in POOLS:
            return None
        pooled, before, after = _pooled(node, x), shape_of(x), shape_of(y)
        free = [i for i in range(len(before)) if i not in pooled and i != self.samples(x)]
        channels = [i for i in free if before[i] != 1] or [i for i in free if i]
        kept = len(before) == len(after)
        if self.samples(x) in pooled or len(channels) != 1 or (kept and any(after[i] != 1 for i in pooled)):
            return None
        self.e.scope = step.name
        channel = channels[0] if kept else channels[0] - sum(i < channels[0] for i in pooled)
        pooled_map = self.average(step, y, c, channel)
        if pooled_map is None:
            return None
        u = self.number(step, c)
        self.start.steps.append(_move("Reshape", step.name, pooled_map, u))
        return u

    def map(self, tensor: Tensor, c: Tensor, axis: int, above: Step) -> Tensor | None:
        """Σ c t over the channels of a tensor that ``above`` reads, along ``axis``; ``c`` has the size 1 along all others but
        that of the samples.

        None where something not linear is behind it, or something linear that mixes channels and positions.
        """
        step = self.giver(tensor, above)
        if step is None:
            return None
        self.e.scope = step.name
        node, u = step.nodes[0], self.channel(tensor, c, axis)
        self.start.replaced[tensor.name] = u.name if shape_of(tensor)[axis] == 1 else None
        if step.rule is None:
            return self.moved(step, tensor, c, axis, u)
        layer = _layer(step)
        if node.op in (*POOLS, "Resize"):
            return self.average(step, tensor, c, axis)
        if layer.family in ("affine", "sum"):
            found = [self.term(step, slot, c, axis) for slot in layer.slots]
        elif node.op == "Conv" and axis == 1 and self.samples(layer.slots[0].x) in (0, None):
            found = [self.filtered(node, layer.slots[0], c)]
        elif node.op in ("MatMul", "Einsum") and _mixed_axis(node, layer.slots[0]) == axis:
            found = [self.mixed(layer.slots[0], c, axis, node)]
        else:
            return None
        slots = [slot for slot in found if slot is not None]
        if len(slots) < len(found):
            return None
        b = None if layer.b is None else _over(self.e, self.times(c, layer.b), [axis])
        return self.note(step, Layer(layer.family, slots, u, b, exact=layer.exact))

    def average(self, step: Step, y: Tensor, c: Tensor, axis: int) -> Tensor | None:
        """The same pool over a map with one channel, where it leaves the channels, along ``axis`` of ``y``, alone."""
        node, x = step.nodes[0], _layer(step).slots[0].x
        pooled, kept = _pooled(node, x), len(shape_of(x)) == len(shape_of(y))
        source = axis if kept else [i for i in range(len(shape_of(x))) if i not in pooled][axis]
        if source in pooled or self.samples(x) in pooled:
            return None
        below = self.map(x, c if kept else self.e("Unsqueeze", c, pooled), source, step)
        return None if below is None else self.again(step, below, self.channel(y, c, axis))

    def term(self, step: Step, slot: Slot, c: Tensor, axis: int) -> Slot | None:
        """A term of a sum of maps, with a factor that all channels share."""
        y = _layer(step).y
        rank, sizes = len(shape_of(y)), [] if isinstance(slot.w, float) else shape_of(slot.w)
        shared = axis - rank + len(sizes) < 0 or sizes[axis - rank + len(sizes)] == 1
        if not slot.elementwise or not shared or dims(slot.x) != dims(y):
            return None
        below = self.map(slot.x, c, axis, step)
        return None if below is None else Slot(below, slot.w, self.e.mul, slot.adjoint, elementwise=True)

    def moved(self, step: Step, tensor: Tensor, c: Tensor, axis: int, u: Tensor) -> Tensor | None:
        """The map behind a step that only moves entries, where the channels stay an axis of their own."""
        node, source = step.nodes[0], step.inputs[0]
        if source is None or len(step.outputs) != 1:
            return None
        if node.op in AS_IT_IS:
            return self.map(source, c, axis, step)
        before, after = source.shape, tensor.shape
        if before is None or after is None:
            return None
        if node.op == "Transpose":
            perm = node.attrs.get("perm") or list(range(len(after)))[::-1]
            back = self.e("Transpose", c, perm=[int(i) for i in np.argsort(perm)])
            below = self.map(source, back, perm[axis], step)
        elif node.op in IN_ORDER and list(before[: axis + 1]) == list(after[: axis + 1]):
            back = self.e("Reshape", c, [0] * (axis + 1) + [1] * (len(before) - axis - 1))
            below = self.map(source, back, axis, step)
        elif node.op in IN_ORDER and self.is_laid_out_before(source, tensor, axis):
            place = len(before) - len(after) + axis
            back = self.e("Reshape", c, [0] + [1] * (place - 1) + [-1] + [1] * (len(before) - place - 1))
            below = self.map(source, back, place, step)
        elif node.op in ("Pad", "Slice") and (size := shape_of(tensor)[axis]) is not None and size == shape_of(source)[axis]:
            below = self.map(source, c, axis, step) if node.op == "Pad" or cut(node) is not None else None
        else:
            return None
        if below is None:
            return None
        if node.op in IN_ORDER:
            self.start.steps.append(_move("Reshape", step.name, below, u))
        else:
            view = Node(node.op, step.name, [below, *node.inputs[1:]], [u], dict(node.attrs))
            self.start.steps.append(replace(step, nodes=(view,), outputs=(u,), inputs=(below,)))
        return u

    def is_laid_out_before(self, source: Tensor, tensor: Tensor, axis: int) -> bool:
        """Are only axes between the samples, in front, and the channels, along ``axis`` of ``tensor``, laid out anew?"""
        place, rest = len(shape_of(source)) - len(shape_of(tensor)) + axis, known(shape_of(tensor)[axis:])
        in_front = self.samples(source) in (0, None) and self.samples(tensor) in (0, None)
        return in_front and min(place, axis) > 0 and rest is not None and rest == known(shape_of(source)[place:])

    def filtered(self, node: Node, slot: Slot, c: Tensor) -> Slot:
        """A convolution with one channel out: its windows [batch, channels · window, positions...] times a filter a sample."""
        e, shape, group = self.e, weight_shape(node.inputs[1]), node.attrs.get("group", 1)
        channels, size, space = shape[1] * group, int(np.prod(shape[2:])), [1] * len(shape[2:])
        filters = lambda c, w: e("Reshape", e("ConvTranspose", c, w, **_grouped(group)), [0, channels * size, *space])
        some, ones = self.positive(e("Abs", c)), e.full(1.0, e.constant(np.asarray(shape)), c.dtype)
        one = self.positive(filters(some, ones))
        win = window(node.attrs, shape[2:], (dims(slot.x) or [None] * len(shape))[2:])
        if size == 1 and all(s == 1 for s in win.strides) and win.begin == win.end == (0,) * len(space):
            windows = back = lambda x: x
        else:
            attrs = {name: value for name, value in node.attrs.items() if name != "group"} | _grouped(channels)
            unit = np.eye(size, dtype=c.dtype).reshape(1, size, 1, *shape[2:])  # each picks one entry of the window
            pick = e("Expand", e.constant(unit), e.constant(np.asarray([channels, *unit.shape[1:]])))
            pick, outside = e("Reshape", pick, [-1, 1, *shape[2:]]), (dims(node.outputs[0]) or [])[2:]
            windows = lambda x: e("Conv", x, pick, **attrs)
            back = lambda s: adjoint_conv(e, s, pick, [channels * size, 1, *shape[2:]], slot.x, win, outside, channels)
        forward = lambda x, w: _over(e, as_tensor(e.mul(windows(x), w)), [1])
        return Slot(slot.x, filters(c, self.wide(slot.w)), forward, lambda s, w: back(e.mul(s, w)), batched=True, one=one)

    def mixed(self, slot: Slot, c: Tensor, axis: int, node: Node) -> Slot:
        """A matrix that mixes the entries along one axis, with one number out."""
        e, last = self.e, len(shape_of(slot.x)) - 1
        swap = [{axis: last, last: axis}.get(i, i) for i in range(last + 1)]
        turn = (lambda t: t) if axis == last else (lambda t: e("Transpose", t, perm=swap))
        upright = _is_upright(node, slot)  # [out, in]
        matrix = (lambda w: w) if upright else (lambda w: e("Transpose", w, perm=[1, 0]))
        some, w = self.positive(e("Abs", c)), self.wide(slot.w)
        back = lambda c, w: turn(e("MatMul", turn(c), matrix(w)))
        one = self.positive(back(some, e.full(1.0, e.shape(w), c.dtype)))
        forward = lambda x, w: _over(e, as_tensor(e.mul(x, w)), [axis])
        return Slot(slot.x, back(c, w), forward, e.mul, batched=self.samples(slot.x) == 0, one=one)

    def channel(self, tensor: Tensor, c: Tensor, axis: int) -> Tensor:
        """Σ c t over the channels, a tensor with one."""
        shape = [1 if i == axis else size for i, size in enumerate(tensor.shape or ())]
        found = _over(self.e, self.times(c, tensor), [axis], shape)
        self.plan.samples.note(found, self.samples(tensor))
        return found

    def again(self, step: Step, x: Tensor, y: Tensor) -> Tensor:
        """The step with another input and output."""
        node = step.nodes[0]
        view = Node(node.op, step.name, [x, *node.inputs[1:]], [y], dict(node.attrs))
        self.e.scope = step.name
        return self.note(step, LINEAR[node.op](self.e, view, lambda t: t is x))

    # ---------------------------------------------------------------------------------------------------------- steps

    def note(self, step: Step, layer: Layer) -> Tensor:
        """A step by the rule of ``step``; returns what it gives."""
        sources = tuple(slot.x for slot in layer.slots)
        self.start.steps.append(replace(step, outputs=(layer.y,), inputs=sources, layer=layer))
        return layer.y

    def times(self, c: Tensor, values: Tensor) -> Tensor:
        """c t, and 0 where c is, also for a t of -inf, which rules a class out."""
        e = self.e
        return e("Where", e("Equal", c, 0.0), e.constant(np.asarray(0.0, c.dtype)), e("Mul", c, self.wide(values)))

    def positive(self, values: Tensor) -> Tensor:
        """1 where they are above 0, else 0."""
        return self.e.cast(self.e("Greater", values, 0.0), values.dtype)

    def wide(self, value: Value) -> Any:
        """In the type that relevance has."""
        return value if isinstance(value, float) else self.e.cast(value, wide(value.dtype))


def _move(op: str, name: str, x: Tensor, y: Tensor) -> Step:
    return Step("move", (Node(op, name, [x], [y]),), (y,), (x,), flow=MOVE[op])


def _pooled(node: Node, x: Tensor) -> list[int]:
    """The axes along which a pool takes means or sums."""
    rank = len(shape_of(x))
    return list(range(2, rank)) if node.op in ("AveragePool", "Resize") else reduced_axes(node, rank)


def _letters(node: Node, slot: Slot) -> tuple[str, str, str] | None:
    """One letter an axis of x, w and y; None where w is no matrix that all of x is multiplied by."""
    rank, i = len(shape_of(slot.x)), next(i for i, t in enumerate(node.inputs) if t is slot.x)
    if rank < 3 or len(shape_of(node.inputs[1 - i])) != 2:
        return None
    if node.op == "Einsum":
        terms, _, result = node.attrs["equation"].replace(" ", "").partition("->")
        names = terms.split(",")
        return names[i], names[1 - i], result
    front = "".join(chr(ord("d") + j) for j in range(rank - 2))
    return (f"{front}ab", "bc", f"{front}ac") if i == 0 else (f"{front}ba", "cb", f"{front}ca")


def _mixed_axis(node: Node, slot: Slot) -> int | None:
    """The axis of y = x w along which a matrix w mixes the entries of x, each axis of which stays in its place."""
    letters = _letters(node, slot)
    if letters is None or len(letters[0]) != len(letters[2]):
        return None
    differ = [i for i, (a, b) in enumerate(zip(letters[0], letters[2], strict=True)) if a != b]
    return differ[0] if len(differ) == 1 and {letters[0][differ[0]], letters[2][differ[0]]} == {*letters[1]} else None


def _is_upright(node: Node, slot: Slot) -> bool:
    """Is the matrix of that axis [out, in]?"""
    letters = _letters(node, slot)
    return letters is not None and letters[1][0] in letters[2]


def _grouped(group: int) -> dict[str, Any]:
    return {"group": group} if group != 1 else {}


def _over(e: Emit, values: Tensor, axes: list[int], shape: Shape | None = None) -> Tensor:
    """The sum over some axes, which are kept; of ``shape``."""
    return e("ReduceSum", values, axes, keepdims=1, shape=shape) if axes else values


def _layer(step: Step) -> Layer:
    assert step.layer is not None
    return step.layer


def _source(step: Step, i: int) -> Tensor:
    source = step.inputs[i]
    assert source is not None
    return source
