"""LSTM, GRU and RNN, one step after the other, as the layers, gates and sums that they come to.

The candidate of a step is one layer of its input and of the state before it, so that a rule has one denominator for both. What
gates take from the input is computed for all steps at once. Where a sequence has ended, the state stays and the output is 0.
So a number of steps that is open is written as one that is not, the last of which may be behind the end of all sequences.
A Scan would load at once, not in 10 s for 512 steps and in 40 s for 1024, and run no faster (3.7 µs a step of 12 operators,
where these take 4.4). But nothing that is added has control flow, so that it runs wherever single operators do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnxdtd.contract import at_most
from onnxdtd.graph.body import Body, Constant
from onnxdtd.graph.inlined import Fresh
from onnxdtd.graph.known import Numbers
from onnxdtd.graph.tensors import Graph, Tensor

MOST_STEPS = 512  # of a node, those of both directions, unless more are asked for: a runtime takes 11 s to load so many
OPEN_STEPS = 128  # that are written where their number is open
GATES = ("Sigmoid", "HardSigmoid")
SIGNALS = ("Tanh", "Relu", "LeakyRelu", "Softsign")
FACTORS = {"HardSigmoid": {"alpha": 0.2, "beta": 0.5}, "LeakyRelu": {"alpha": 0.01}}  # by default
FUNCTIONS = {name.lower(): name for name in (*GATES, *SIGNALS)}  # runtimes do not care for capitals
FILLED = ("ConstantOfShape", "Expand", "Identity", "Slice", "Squeeze", "Unsqueeze")  # with what they are given first


@dataclass(frozen=True)
class RecurrentCell:
    """A step of one direction. ``functions`` are activations, ``size`` is that of a state. Weights by input and by state, "w"
    and "r", and biases, "b" together, "w b" and "r b" apart: of all ``gates``, and of the ``candidate``, where "w r" are both.
    """

    write: StepWriter
    functions: Sequence[Callable[[str], str]]
    attrs: Mapping[str, Any]
    size: int
    gates: Mapping[str, str]
    candidate: Mapping[str, str]

    def dense(self, x: str, weight: str, bias: str) -> str:
        """A layer of the candidate"""
        given = [x, self.candidate[weight], self.candidate[bias]]
        return self.write("Gemm", *given[: 2 + bool(given[2])], transB=1)

    def both(self, x: str, h: str) -> str:
        """The candidate before its activation: x W + h R + b"""
        return self.dense(self.write("Concat", x, h, axis=-1), "w r", "b")

    def opened(self, given: str, h: str, count: int) -> list[str]:
        """The gates, of what the input gives them and of the state"""
        taken = self.write("Add", given, self.write("MatMul", h, self.gates["r"]))
        return self.write.split(self.functions[0](taken), -1, *[self.size] * count)

    def without(self, gate: str) -> str:
        """1 − a gate"""
        return self.write("Sub", self.write.number(1.0), gate)

    def mixed(self, *pairs: tuple[str, str]) -> str:
        """The sum of two products"""
        return self.write("Add", *(self.write("Mul", *pair) for pair in pairs))


def lstm(cell: RecurrentCell, x: str, given: str, h: str, c: str) -> tuple[str, str]:
    """c = f c₋₁ + i g(x W + h₋₁ R + b), h = o h(c)"""
    i, o, f = cell.opened(given, h, 3)
    forget = cell.without(i) if cell.attrs.get("input_forget") else f
    new = cell.mixed((forget, c), (i, cell.functions[1](cell.both(x, h))))
    return cell.write("Mul", o, cell.functions[2](new)), new


def gru(cell: RecurrentCell, x: str, given: str, h: str, c: str) -> tuple[str, str]:
    """h = (1 − z) n + z h₋₁, n = g(x W + (r h₋₁) R + b), or g(x W + b + r (h₋₁ R + b′))"""
    z, r = cell.opened(given, h, 2)
    if cell.attrs.get("linear_before_reset"):
        inner = cell.write("Add", cell.dense(x, "w", "w b"), cell.write("Mul", r, cell.dense(h, "r", "r b")))
    else:
        inner = cell.both(x, cell.write("Mul", r, h))
    return cell.mixed((cell.without(z), cell.functions[1](inner)), (z, h)), c


def plain(cell: RecurrentCell, x: str, given: str, h: str, c: str) -> tuple[str, str]:
    """h = f(x W + h₋₁ R + b)"""
    return cell.functions[0](cell.both(x, h)), c


@dataclass(frozen=True)
class Recurrence:
    """So many ``gates``, which stand before the candidate in its weights, activations by default, and a ``step``: state and
    cell, of the input, of what it gives to gates, and of state and cell before.
    """

    gates: int
    usual: tuple[str, ...]
    step: Callable[[RecurrentCell, str, str, str, str], tuple[str, str]]


KINDS = {
    "LSTM": Recurrence(3, ("Sigmoid", "Tanh", "Tanh"), lstm),
    "GRU": Recurrence(2, ("Sigmoid", "Tanh"), gru),
    "RNN": Recurrence(0, ("Tanh",), plain),
}


def is_gated(node: NodeProto) -> bool:
    """Is it a recurrent layer with gates?"""
    return node.op_type in KINDS and KINDS[node.op_type].gates > 0


def open_sequences(graph: Graph, steps: int) -> list[Tensor]:
    """The sequences of open length, their steps along the first axis, that are written for so many."""
    ends = [node.outputs[0] for node in graph.nodes if node.op == "Expand" and at_most(steps) in node.name]
    return [reader.inputs[0] for end in ends for reader in end.readers if reader.op == "Concat"]


def obstacle(op: str, attrs: Mapping[str, Any], given: Collection[int], steps: int | None, most: int | None = None) -> str:
    """Why a node stays as it is, with inputs at the positions ``given`` and so many ``steps``, None if that is open, where
    ``most`` of each direction are asked for; nothing where it does not.
    """
    kind = KINDS[op]
    names = [_text(name).lower() for name in attrs.get("activations", ())]
    served = [GATES if kind.gates and i % len(kind.usual) == 0 else SIGNALS for i in range(len(names))]
    other = [name for name, functions in zip(names, served, strict=True) if FUNCTIONS.get(name) not in functions]
    if attrs.get("clip"):
        return "there is no rule for its attribute clip; export it without"
    if 7 in given:
        return "there is no rule for its peepholes (input P); export it without"
    if other:
        return (
            f"its activation {other[0]!r} is none of those of a gate ({', '.join(GATES)}) or of a signal ({', '.join(SIGNALS)})"
        )
    count = (steps or 0) * len(_ways(attrs))
    if count > MOST_STEPS and (steps or 0) > (most or 0):
        told = f"it takes {count} steps, of which no more than {MOST_STEPS} are written unless they are asked for"
        return f"{told}: --most-steps {steps}"
    return ""


def _axis(attrs: Mapping[str, Any]) -> int:
    """Along which the steps lie"""
    return 1 if attrs.get("layout") else 0


def _ways(attrs: Mapping[str, Any]) -> list[int]:
    """Forwards, backwards or both"""
    return {"forward": [1], "reverse": [-1]}.get(_text(attrs.get("direction", "forward")), [1, -1])


def recurrent(
    node: NodeProto, known: Numbers, constant: Constant, fresh: Fresh, most: int | None = None
) -> list[NodeProto] | None:
    """The nodes that a node amounts to, of ``most`` steps where that is open; None where it stays as it is."""
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    names = [*node.input, *[""] * 8][:8]
    names[5:] = ["" if not name or _is_zero(known, name) else name for name in names[5:]]
    sizes, rows = known.sizes(names[0]), known.sizes(names[2])
    if sizes is None or len(sizes) != 3 or rows is None or rows[-1] is None:
        return None
    steps = sizes[_axis(attrs)]
    if obstacle(node.op_type, attrs, {7} if names[7] else set(), steps, most):
        return None
    write = StepWriter(node, constant, fresh, helper.tensor_dtype_to_np_dtype(known.types[names[0]].elem_type))
    _write(write, node, attrs, names, steps, most or OPEN_STEPS, rows[-1])
    return write.nodes


class StepWriter(Body):
    """Writes nodes of one precision."""

    def __init__(self, node: NodeProto, constant: Constant, fresh: Fresh, dtype: np.dtype[Any]):
        super().__init__(node, constant, fresh)
        self.dtype, self.numbers = dtype, dict[float, str]()

    def number(self, value: float) -> str:
        """A constant, there once"""
        if value not in self.numbers:
            self.numbers[value] = self.constant(np.asarray(value, self.dtype), self.around)
        return self.numbers[value]

    def steps(self, t: str, count: int) -> list[str]:
        """A tensor at each step"""
        return [self("Squeeze", piece, self.whole(0)) for piece in (self.split(t, 0, *[1] * count) if count > 1 else [t])]

    def beside(self, parts: Sequence[str], result: str = "") -> str:
        """Tensors along a new axis in front"""
        return self.joined([self("Unsqueeze", part, self.whole(0)) for part in parts], 0, result)

    def filled(self, x: str, length: str, steps: int) -> tuple[str, str]:
        """A sequence of a ``length`` that is open with zeros behind it, so that it has so many steps, and its length once more,
        int32 [1]. Of a longer one there is neither: nothing has a negative number of rows, as every runtime says.
        """
        sizes = self("Concat", self("Sub", self.whole(steps), length), self("Shape", x, start=1), axis=0)
        zeros = self("Expand", self.number(0.0), sizes, result=self.fresh(f"{self.around}/{at_most(steps)}"))
        kept = self("Sub", self.whole(steps), self("Shape", zeros, start=0, end=1))
        return self("Concat", x, zeros, axis=0), self("Cast", kept, to=TensorProto.INT32)

    def shortened(self, states: str, length: str, steps: int, result: str) -> str:
        """The states up to the end"""
        found = self("Slice", states, self.whole(0), length, self.whole(0), result=result)
        self.nodes[-1].name = self.fresh(f"{self.around}/{at_most(steps)}")  # what goes back to more states fails, too
        return found

    def joined(self, parts: Sequence[str], axis: int, result: str = "") -> str:
        """Tensors side by side"""
        return self("Concat", *parts, axis=axis, result=result) if len(parts) > 1 or result else parts[0]


def _write(
    write: StepWriter, node: NodeProto, attrs: Mapping[str, Any], names: Sequence[str], steps: int | None, most: int, size: int
) -> None:
    """All directions, and what becomes of them under the names of the outputs: [steps, directions, batch, size] by default.
    Where it is open how many ``steps`` there are, so that there are ``most``.
    """
    x, lengths, batched = names[0], names[4], bool(_axis(attrs))
    x = write("Transpose", x, perm=[1, 0, 2]) if batched else x
    length, told = "", bool(lengths)
    if steps is None:
        steps, length = most, write("Shape", x, start=0, end=1)
        x, kept = write.filled(x, length, steps)
        lengths = write("Min", lengths, kept) if told else kept
    inputs = write.steps(x, steps)
    over = (
        [write("Less", write.constant(np.asarray(t, np.int32), write.around), lengths) for t in range(steps)] if lengths else []
    )
    alive = [write("Unsqueeze", each, write.whole(1)) for each in over]
    state = [write("Transpose", name, perm=[1, 0, 2]) if batched and name else name for name in names[5:7]]
    around, found = write.around, []
    for number, way in enumerate(_ways(attrs)):
        write.around = f"{around}/{'forward' if way > 0 else 'reverse'}"
        cell = _cell(write, node.op_type, attrs, names, number, size)
        before = [_row(write, name, number) if name else "" for name in state]
        found.append(_direction(cell, node.op_type, x, inputs, alive, before, way))
    write.around = around
    outputs = [*node.output, "", ""][:3]
    if outputs[0]:
        states = [
            [write("Where", *each, write.number(0.0)) for each in zip(alive, hidden, strict=True)] if told else hidden
            for hidden, *_ in found
        ]
        beside = [write("Unsqueeze", write.beside(each), write.whole(1)) for each in states]
        whole = write.joined(beside, 1, "" if batched or length else outputs[0])
        if length:
            whole = write.shortened(whole, length, steps, "" if batched else outputs[0])
        if batched:
            write("Transpose", whole, perm=[2, 0, 1, 3], result=outputs[0])
    for i, name in enumerate(outputs[1:], 1):
        if name:
            last = write.beside([str(each[i]) for each in found], "" if batched else name)
            if batched:
                write("Transpose", last, perm=[1, 0, 2], result=name)


def _direction(
    cell: RecurrentCell, op: str, x: str, inputs: Sequence[str], alive: Sequence[str], before: Sequence[str], way: int
) -> tuple[list[str], str, str]:
    """The states [batch, size] of all steps in the order of time, and the last state and cell of the course"""
    write, steps, kind = cell.write, len(inputs), KINDS[op]
    given = [""] * steps
    if kind.gates:
        taken = write("MatMul", x, cell.gates["w"])
        taken = write("Add", taken, cell.gates["b"]) if cell.gates["b"] else taken
        given = write.steps(taken, steps)
    around, hidden = write.around, [""] * steps
    h, c = (_begun(cell, inputs[::way][0], name) for name in before)  # of kinds without a cell nobody reads the second
    for t in range(steps)[::way]:
        write.around = f"{around}/{t}"
        hidden[t], own = kind.step(cell, inputs[t], given[t], h, c)
        h, c = (write("Where", alive[t], *pair) if alive else pair[0] for pair in ((hidden[t], h), (own, c)))
    return hidden, h, c


def _begun(cell: RecurrentCell, x: str, state: str) -> str:
    """The state that a course begins with, seen as one that might depend on the input: so the first step is like all others,
    and what a gate makes of the state is the state's, and not the gate's.
    """
    never = cell.write.constant(np.asarray(False), cell.write.around)
    return cell.write("Where", never, cell.dense(x, "w", ""), state or cell.write.number(0.0))


def _cell(write: StepWriter, op: str, attrs: Mapping[str, Any], names: Sequence[str], number: int, size: int) -> RecurrentCell:
    """That of a direction, with its weights"""
    kind = KINDS[op]
    rows = [kind.gates * size, size] if kind.gates else [size]
    parts = {name: write.split(_row(write, source, number), 0, *rows) for name, source in zip("wr", names[1:3], strict=True)}
    turned = {name: write("Transpose", each[0], perm=[1, 0]) for name, each in parts.items()}
    biases = write.split(_row(write, names[3], number), 0, *rows, *rows) if names[3] else [""] * 2 * len(rows)
    apart = {"w": biases[: len(rows)], "r": biases[len(rows) :]}
    sums = [write("Add", *pair) if pair[0] else "" for pair in zip(apart["w"], apart["r"], strict=True)]
    own = (parts["w"][-1], parts["r"][-1])
    candidate = {"w": own[0], "r": own[1], "w r": write("Concat", *own, axis=1)}
    candidate |= {"b": sums[-1], "w b": apart["w"][-1], "r b": apart["r"][-1], "": ""}
    gates = {**turned, "b": sums[0]}
    return RecurrentCell(write, _functions(write, kind, attrs, number), attrs, size, gates, candidate)


def _row(write: StepWriter, name: str, number: int) -> str:
    """What is of one direction: weights, or a state"""
    return write("Squeeze", write("Gather", name, write.whole(number), axis=0), write.whole(0))


def _functions(write: StepWriter, kind: Recurrence, attrs: Mapping[str, Any], number: int) -> list[Callable[[str], str]]:
    """The activations of a direction; those that have factors take them from the lists of all, in their order."""
    names = [FUNCTIONS[_text(name).lower()] for name in attrs.get("activations", ())] or [*kind.usual] * (number + 1)
    lists = {factor: iter(attrs.get(f"activation_{factor}", ())) for factor in ("alpha", "beta")}
    factors = [{key: next(lists[key], usual) for key, usual in FACTORS.get(name, {}).items()} for name in names]
    own = slice(number * len(kind.usual), (number + 1) * len(kind.usual))
    return [_function(write, *pair) for pair in zip(names[own], factors[own], strict=True)]


def _function(write: StepWriter, name: str, factors: Mapping[str, Any]) -> Callable[[str], str]:
    return lambda x: write(name, x, **factors)


def _is_zero(known: Numbers, name: str) -> bool:
    """Is nothing but zeros in it?"""
    while (value := known.whole(name)) is None:
        node = known.producer.get(name)
        if node is None or node.op_type not in FILLED:
            return False
        if node.op_type == "ConstantOfShape":
            filled = next((a.t for a in node.attribute if a.name == "value"), None)
            return filled is None or not numpy_helper.to_array(filled).any()
        name = node.input[0]
    return not value.any()


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
