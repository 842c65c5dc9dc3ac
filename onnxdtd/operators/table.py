"""What is known of each operator, in one place: an entry an operator, which everybody asks.

An entry stands next to the operator's functions: in linear, resized, pointwise, norms, moves, heads or others. A fact that it
lacks, None, is not known: whoever needs it refuses, or says so. Nobody guesses, and nobody else has a list of operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.axes import Axes, Entry
from onnxdtd.operators.layer import Active, Layer, Slot, is_float
from onnxdtd.operators.lookups import Lookup
from onnxdtd.operators.secants import At
from onnxdtd.operators.sizes import Values

# What kind of operator it is.
LINEAR = "linear"  # in its inputs, weights apart
PRODUCT = "product"  # linear in each of its first two inputs
POINTWISE = "pointwise"  # a function entry by entry
NORM = "norm"  # the entries along some axes decide on each other's scale
MOVE = "move"  # a permutation, a selection or a copy of entries
ROUTE = "route"  # the winner takes all
CHOICE = "choice"  # a number or a truth value that has no slope
CONSTANT = "constant"  # depends on sizes alone
HEAD = "head"  # only ever at the end: labels, or scores by label
KINDS = (LINEAR, PRODUCT, POINTWISE, NORM, MOVE, ROUTE, CHOICE, CONSTANT, HEAD)

# What becomes of the entries of its first input.
AS_THEY_ARE = "as they are"  # each stays where it is, and is the number that it was
IN_ORDER = "in order"  # all of them once, in their order, in another shape
ALL = "all"  # all of them once
SOME = "some"  # some of them, some perhaps several times, perhaps with others between
HANDED_ON = (AS_THEY_ARE, IN_ORDER, ALL, SOME)

MEAN, LENGTH = "mean", "length"  # of a vector, what a normalisation does not tell of it

# What a head gives.
PROBABILITIES, LOGARITHMS, LABELS, LABELS_AND_SCORES, BY_LABEL = "probabilities", "logarithms", "labels", "both", "by label"

Builder: TypeAlias = Callable[[Emit, Node, Active], Layer]
Slope: TypeAlias = Callable[[Emit, Node], Tensor]  # dy/dx, entry by entry
Relevance: TypeAlias = Sequence[Tensor | None]  # of each output
Flow: TypeAlias = Callable[[Emit, Node, Relevance], Iterator[tuple[int, Tensor]]]  # positions of inputs with their relevance
Pulled: TypeAlias = Callable[[Emit, Node, Active, At], Flow]
Secant: TypeAlias = Callable[[Emit, Node, At], Tensor]  # Δy/Δx between two points, entry by entry
Between: TypeAlias = Callable[[Emit, Node, Relevance, At], Iterator[tuple[int, Tensor]]]
Cost: TypeAlias = Callable[[Node, Layer], int]
Sign: TypeAlias = Callable[[Node, Callable[[Tensor], bool]], bool]  # is the output ≥ 0, given which inputs are?
Spread: TypeAlias = Callable[[Axes, Node], Sequence[Sequence[Entry] | None]]
Counted: TypeAlias = Callable[[Node, list[Values]], Values | None]
Places: TypeAlias = Callable[[Node, Tensor, list[int | None]], list[int | None] | None]
Narrowed: TypeAlias = Callable[[Emit, Node, Slot, Tensor, int, int | None], Slot | None]
Sizes: TypeAlias = Sequence[int | None]
Fits: TypeAlias = Callable[[Node, Sequence[Sizes]], Iterator[tuple[str, Sizes, Sizes]]]
Names: TypeAlias = Sequence[Sequence[str] | None]  # of the columns of the inputs of a node; None where they are not known
Before: TypeAlias = Callable[[Node, Mapping[str, Node], Active], Tensor | None]


@dataclass(frozen=True, order=True)
class Cut:
    """Entries ``start`` to ``end`` of a tensor along an axis, which a node takes out; ``single``: the axis is gone then."""

    axis: int
    start: int
    end: int
    single: bool = False


@dataclass(frozen=True)
class Further:
    """A flow that also hands something straight to tensors further down, whose positions follow those of the inputs."""

    flow: Flow
    tensors: Sequence[Tensor]


@dataclass(frozen=True, kw_only=True)
class Head:
    """An operator at the end of a classifier, before which the logits lie.

    ``gives``: what it gives of them. ``one``: of one logit it makes the probability of class 1 of two. ``each``: it squashes
    each logit by itself. ``along``: the axis along which it compares classes, where the node does not say, None where it
    compares none. ``rescales``: what goes in are probabilities of one class against the rest. ``labels``: those that it gives,
    where they are not 0, 1, 2 ...
    """

    gives: str
    one: bool = False
    each: bool = False
    along: int | None = None
    rescales: bool = False
    labels: tuple[int, ...] = ()

    @property
    def chooses(self) -> bool:
        """Does it give a label?"""
        return self.gives in (LABELS, LABELS_AND_SCORES)


@dataclass(frozen=True)
class Operator:
    """All that is known of an operator; None where it is not.

    How relevance passes it:
        kind: one of ``KINDS``.
        linear: what it is as a layer.
        constant: what it is as a layer, with the statistics of its input held constant.
        slope: its derivative, where it is a function entry by entry.
        secant: its difference between two points over that of its input, where that is better known than by dividing.
        chord: f(x)/x of a function with f(0) = 0, and f′(0) at 0, where that is better known than by dividing.
        everywhere: whether it is defined for all numbers.
        jacobian: its derivative, where entries depend on each other, as a flow of gradients, or what it is between two points.
        expansion: its first-order Taylor expansion, as a layer or a flow of relevance, of which the constant term keeps some.
        between: how multipliers of differences between two points are routed.
        flow: how relevance passes, moves or is routed.
        undefined: what relevance is not defined on, and what people use instead.
        why: what keeps it, or a node of it, from having a rule, where that is to be said.
        cost: the multiply-adds of applying the matrix of its layer once.
        blocked: the multiply-adds for each entry that comes out, where ONNX Runtime computes it on CPUs on blocks of channels.
        again: the same where it does not, of what may be computed twice; as ``in_blocks`` of functions, norms and moves.

    What its values are:
        sign: whether they are never negative.
        forgets: which of ``MEAN`` and ``LENGTH`` of a vector make no difference to its output.
        along: the axes that such a vector lies along, given the rank of the input.
        keeps_zeros: whether its flow gives an input that is 0 no relevance, if none comes to outputs that are.
        monotone: whether it rises or falls with its input, so that bounds of that become bounds of the output.
        rectifies: whether it gives 0 for all that is negative, and what is positive as it is, perhaps up to a bound.
        start: its value at 0, where that is not 0 and may be taken off again.
        even: whether it cannot tell x from −x, and so tells how large things are, not which way they point.
        gate: how surely it makes its output a gate: 3 for what others are divided by, 2 for functions to between 0 and 1, 1 for
            what may be an activation.
        on_the_way: whether it may lie between a gate and the product, of which it is still the gate.
        scaled: whether integers that it gives or takes stand for numbers on a grid.
        chooses: which output tells what was chosen, and the type of that.

    Where its entries are:
        axes: which axes its outputs have, in terms of those of its inputs.
        counted: what it makes of sizes.
        hands_on: one of ``HANDED_ON``.
        moves: whether entries are elsewhere than they were, so that relevance must not simply pass.
        constants: whether some of its entries come from constants.
        piece: what it takes out of its input, where that is known and in one piece along one axis.
        looks_up: what numbers at one of its inputs look up, in constants at the others; None where they are no numbers.
        names: what its columns are called, given what those of its inputs are.
        places: which axis of the graph's input each of its axes is, in terms of those of one of its inputs; for a walk to the
            first layer.
        channels: the axis of its input along which a layer has channels.
        time: the axis of its input that is time, None where that is not known.
        alike: whether it does the same to all entries along each axis that keeps its size.
        summed: the axes along which it takes means or sums, or interpolates, channel by channel.
        narrowed: the layer with one channel out, the sum over channels times coefficients that differ from sample to sample.

    Its weights, and the end of a model:
        learned: which of its inputs hold what was learned.
        fits: what must have which sizes.
        head: what it is at the end of a classifier.
        before: what it takes scores or labels from there, if it leaves the largest the largest.
    """

    op: str
    kind: str | None = None
    linear: Builder | None = None
    constant: Builder | None = None
    slope: Slope | None = None
    secant: Secant | None = None
    chord: Slope | None = None
    everywhere: bool = False
    jacobian: Pulled | None = None
    expansion: Callable[[Emit, Node, Active], Layer | Flow] | None = None
    between: Between | None = None
    flow: Flow | None = None
    undefined: tuple[str, str] | None = None
    why: str | Callable[[Node], str] | None = None
    cost: Cost | None = None
    blocked: Callable[[Node], int | None] | None = None
    again: Callable[[Node], int | None] | None = None
    sign: Sign | None = None
    forgets: tuple[str, ...] = ()
    along: Callable[[Node, int], Iterable[int]] | None = None
    keeps_zeros: bool | None = None
    monotone: Callable[[Node], bool] | None = None
    rectifies: Callable[[Node], bool] | None = None
    start: float | None = None
    even: Callable[[Node], bool] | None = None
    gate: int = 0
    on_the_way: bool = False
    scaled: bool = False
    chooses: tuple[int, np.dtype[Any]] | None = None
    axes: Spread | None = None
    counted: Counted | None = None
    hands_on: str | None = None
    moves: bool | None = None
    constants: bool | None = None
    piece: Callable[[Node], Cut | None] | None = None
    looks_up: Callable[[Node, int], Lookup | None] | None = None
    names: Callable[[Node, Names], list[str] | None] | None = None
    places: Places | None = None
    channels: int | None = None
    time: Callable[[Node], int | None] | None = None
    alike: Callable[[Node], bool] | None = None
    summed: Callable[[Node, int], list[int]] | None = None
    narrowed: Narrowed | None = None
    learned: slice | None = None
    fits: Fits | None = None
    head: Head | None = None
    before: Before | None = None


OPERATORS: dict[str, Operator] = {}
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", None)
UNKNOWN = Operator("")  # nothing is known of it


def enter(operator: Operator, *others: str) -> None:
    """Enter an operator into the table, and ``others`` of which the same is known. What is a layer has a cost."""
    if operator.again is None and operator.kind in (POINTWISE, NORM, MOVE) and not operator.scaled:
        operator = replace(operator, again=in_blocks)
    for op in (operator.op, *others):
        assert op not in OPERATORS, op
        assert operator.cost is not None or not (operator.linear or operator.constant or operator.slope or operator.jacobian), (
            op
        )
        OPERATORS[op] = replace(operator, op=op)


def of(node: Node) -> Operator:
    """What is known of the operator of a node; one that reduces what falls into one place has an entry for each reduction."""
    way = node.attrs.get("reduction", "none")
    return OPERATORS.get(node.op if way == "none" else f"{node.op}.{way}", UNKNOWN) if node.domain in DOMAINS else UNKNOWN


def named(op: str) -> Operator:
    """What is known of an operator of the standard."""
    return OPERATORS.get(op, UNKNOWN)


def has_rule(op: str) -> bool:
    """Is it known what kind of operator of the standard it is?"""
    return named(op).kind is not None


# ------------------------------------------------------------------------------------------------------------ what to enter


def always(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """Never negative, whatever goes in."""
    return True


def if_inputs_are(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """Never negative if no input of floating-point numbers is; truth values are not."""
    held = [t for t in node.inputs if not t.left_out and (is_float(t.dtype) or t.dtype == bool)]
    return bool(held) and all(t.dtype == bool or nonnegative(t) for t in held)


def throughout(node: Node) -> bool:
    """It never falls, or never rises."""
    return True


def in_blocks(node: Node) -> int | None:
    """In the time of a dozen, most of which goes by with reading and writing; unless a second output is wanted."""
    return 12 if len(node.outputs) == 1 else None


def of_one_shape(node: Node) -> int | None:
    """The same, unless one input is repeated along another."""
    return in_blocks(node) if all(t.shape == node.outputs[0].shape for t in node.inputs) else None


def never_negative(node: Node, nonnegative: Callable[[Tensor], bool]) -> bool:
    """Is the output of ``node`` provably ≥ 0, given what is known of its inputs?"""
    sign = of(node).sign
    return sign is not None and sign(node, nonnegative)


def first(relevance: Relevance) -> Tensor:
    """The relevance of the only output that can have any."""
    assert relevance[0] is not None
    return relevance[0]


def first_input(node: Node, producer: Mapping[str, Node], active: Active) -> Tensor:
    """What a head takes its scores from, unless it says otherwise."""
    return node.inputs[0]
