"""The symbols that rules are made of, a row each: how to emit it, its numpy value, its sign, when it vanishes, what it needs.

A term multiplies an input symbol by a weight symbol; a bias symbol stands in a denominator. Whatever else is asked of a rule
(does it need bounds? keep zeros? give no negative relevance?) ``Rule`` derives from these rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnxdtd.graph.emit import Emit, wide
from onnxdtd.graph.tensors import Tensor, Value, as_tensor
from onnxdtd.operators.layer import Slot


@dataclass(frozen=True)
class Context:
    """What is known about the tensors of the model: which are ≥ 0, the bounds of those before the first layer, and what they
    are ``at`` the input that is compared with.
    """

    nonnegative: Callable[[Tensor], bool]
    bounds: Callable[[Tensor], tuple[Tensor, Tensor]]
    at: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Operand:
    """An input of a layer, in the type that relevance is computed in, with what is known of it."""

    e: Emit
    slot: Slot
    context: Context

    @property
    def nonnegative(self) -> bool:
        """Is x known to be ≥ 0?"""
        return self.context.nonnegative(self.slot.x)

    @property
    def x(self) -> Tensor:
        """The input itself."""
        return self.e.cast(self.slot.x, wide(self.slot.x.dtype))

    @property
    def low(self) -> Tensor:
        """Its lower bound l."""
        return self.e.cast(self.context.bounds(self.slot.x)[0], wide(self.slot.x.dtype))

    @property
    def high(self) -> Tensor:
        """Its upper bound h."""
        return self.e.cast(self.context.bounds(self.slot.x)[1], wide(self.slot.x.dtype))

    def sized(self, bound: Tensor) -> Tensor:
        """A bound on its own, of the size of x: a convolution would see a smaller picture."""
        return bound if self.slot.elementwise else self.e("Expand", bound, self.e.shape(self.slot.x))


@dataclass(frozen=True)
class InputSymbol:
    """What a rule takes of an input x with the bounds l and h."""

    emit: Callable[[Emit, Operand], Value]
    value: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # of x, l, h
    sign: float = 0.0  # 1 never negative, -1 never positive, 0 either
    within: float = 0.0  # the sign where l ≤ x ≤ h, if it has none elsewhere
    vanishes: bool = False  # where x ≥ 0
    fixed: bool = False  # is the same whatever x is
    bounds: bool = False  # needs l or h
    opposite: Callable[[Emit, Operand], Tensor] | None = None  # what is minus it, if that is cheaper behind a convolution

    @property
    def keeps_zeros(self) -> bool:
        """Is it 0 where x is?"""
        return not self.value(np.zeros(1), -np.ones(1), np.ones(1)).any()


@dataclass(frozen=True)
class WeightSymbol:
    """What a rule takes of a weight, or of a bias."""

    emit: Callable[[Emit, Value, float], Value]  # of w and γ; a number stands for equal entries
    value: Callable[[np.ndarray, float], np.ndarray]
    sign: float = 0.0
    vanishes: Callable[[float], bool] = lambda w: False  # where all weights are one number
    gamma: bool = False  # needs γ
    squares: bool = False  # is as large as w²
    same: bool = False  # is w itself where w ≥ 0
    condition: str | None = None  # how a search direction spells it: v = x · condition gives the term, since q = v w

    @property
    def keeps_zeros(self) -> bool:
        """Is it 0 where w is?"""
        return not self.value(np.zeros(1), 1.0).any()


def below_zero(e: Emit, i: Operand) -> Tensor:
    """−x⁻ of a picture, by a factor a channel and a Relu: for both of them ONNX Runtime keeps the layout of its convolutions,
    which it would leave for a Min, a Neg, or a Mul by one number.
    """
    return e("Relu", e("Mul", i.x, e.constant(np.full([1, i.slot.blocked, 1, 1], -1, i.x.dtype))))


INPUTS = {
    "1": InputSymbol(lambda e, i: 1.0, lambda x, low, high: np.ones_like(x), sign=1.0, fixed=True),
    "x": InputSymbol(lambda e, i: i.x, lambda x, low, high: x),
    "x+": InputSymbol(lambda e, i: i.x if i.nonnegative else e("Relu", i.x), lambda x, low, high: np.maximum(x, 0), sign=1.0),
    "x-": InputSymbol(
        lambda e, i: e("Min", i.x, 0.0), lambda x, low, high: np.minimum(x, 0), sign=-1.0, vanishes=True, opposite=below_zero
    ),
    "|x|": InputSymbol(lambda e, i: i.x if i.nonnegative else e("Abs", i.x), lambda x, low, high: np.abs(x), sign=1.0),
    "l": InputSymbol(lambda e, i: i.sized(i.low), lambda x, low, high: low, fixed=True, bounds=True),
    "h": InputSymbol(lambda e, i: i.sized(i.high), lambda x, low, high: high, fixed=True, bounds=True),
    "x-l": InputSymbol(lambda e, i: e.sub(i.x, i.low), lambda x, low, high: x - low, within=1.0, bounds=True),
    "x-h": InputSymbol(lambda e, i: e.sub(i.x, i.high), lambda x, low, high: x - high, within=-1.0, bounds=True),
}


def positive(e: Emit, w: Value) -> Value:
    """w⁺"""
    return max(w, 0.0) if isinstance(w, float) else e("Relu", w)


def negative(e: Emit, w: Value) -> Value:
    """w⁻"""
    return min(w, 0.0) if isinstance(w, float) else e("Min", w, 0.0)


WHOLE = WeightSymbol(lambda e, w, gamma: w, lambda w, gamma: w, condition="")
POSITIVE = WeightSymbol(
    lambda e, w, gamma: positive(e, w), lambda w, gamma: np.maximum(w, 0), 1.0, lambda w: w <= 0, condition="w>0", same=True
)
NEGATIVE = WeightSymbol(
    lambda e, w, gamma: negative(e, w), lambda w, gamma: np.minimum(w, 0), -1.0, lambda w: w >= 0, condition="w<0"
)
ABSOLUTE = WeightSymbol(
    lambda e, w, gamma: abs(w) if isinstance(w, float) else e("Abs", w),
    lambda w, gamma: np.abs(w),
    1.0,
    lambda w: w == 0,
    same=True,
)
MORE_POSITIVE = WeightSymbol(
    lambda e, w, gamma: e.add(w, e.mul(positive(e, w), gamma)), lambda w, gamma: w + gamma * np.maximum(w, 0), gamma=True
)
MORE_NEGATIVE = WeightSymbol(
    lambda e, w, gamma: e.add(w, e.mul(negative(e, w), gamma)), lambda w, gamma: w + gamma * np.minimum(w, 0), gamma=True
)
WEIGHTS = {
    "1": WeightSymbol(lambda e, w, gamma: 1.0, lambda w, gamma: np.ones_like(w), sign=1.0, condition="1/w"),
    "w": WHOLE,
    "w+": POSITIVE,
    "w-": NEGATIVE,
    "|w|": ABSOLUTE,
    "w2": WeightSymbol(lambda e, w, gamma: e.mul(w, w), lambda w, gamma: w * w, sign=1.0, squares=True, condition="w"),
    "w~+": MORE_POSITIVE,
    "w~-": MORE_NEGATIVE,
}
BIASES = {"b": WHOLE, "b+": POSITIVE, "b-": NEGATIVE, "|b|": ABSOLUTE, "b~+": MORE_POSITIVE, "b~-": MORE_NEGATIVE}
CONDITIONS = {symbol.condition: name for name, symbol in WEIGHTS.items() if symbol.condition is not None}


def operands(e: Emit, slot: Slot, x: str, w: str, context: Context, gamma: float) -> tuple[Value, Value]:
    """What two symbols stand for at an input of a layer; or minus both, which has the same product."""
    plain = WEIGHTS[w].same and isinstance(slot.w, Tensor) and context.nonnegative(slot.w)
    symbol, operand, weight = INPUTS[x], Operand(e, slot, context), weight_of(e, slot, "w" if plain else w, gamma)
    if symbol.opposite is None or not slot.blocked:
        return symbol.emit(e, operand), weight
    return symbol.opposite(e, operand), e.mul(weight, -1.0)


def weight_of(e: Emit, slot: Slot, symbol: str, gamma: float) -> Value:
    """The weight that a symbol stands for: a tensor, but a number where that will do."""
    w = slot.w if isinstance(slot.w, float) else e.cast(slot.w, wide(slot.w.dtype))
    value = WEIGHTS[symbol].emit(e, w, gamma)
    if not isinstance(value, float) or isinstance(w, float):
        return value
    if slot.one is not None:
        return slot.one
    return value if slot.elementwise else e.full(value, e.shape(as_tensor(slot.w)), w.dtype)
