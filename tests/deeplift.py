"""DeepLIFT written straight from its definition: dense matrices, float64, one sample and one reference, no shortcut.

Every tensor has a pair of multipliers m⁺, m⁻ (Shrikumar et al. 2017, 3.4 and 3.5), which differ only between a function
and the linear layers below it. It shares no code with the compiled graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Function = Callable[[Array], Array]
Pair = tuple[Array, Array]


@dataclass
class Dense:
    """z = Σ x W + b over its inputs, layers below or None for x."""

    inputs: Sequence[Dense | Applied | None]
    weights: Sequence[Array]
    bias: Array | float = 0.0
    passes: bool = False  # a sum or a scale behind other linear layers, through which both parts pass


@dataclass
class Applied:
    """y = f(z), by one of the rules; f′ where Δz is next to nothing."""

    below: Dense
    f: Function
    slope: Function
    rule: str = "rescale"


class Net:
    """A net of such layers at two points, the last of which gives the score that is explained."""

    def __init__(self, layers: Sequence[Dense | Applied], x: Array, reference: Array):
        self.layers, self.x, self.reference = layers, x.astype(np.float64), reference.astype(np.float64)
        self.values: dict[int, Pair] = {}  # at x, and at the reference
        self.parts: dict[int, Pair] = {}  # Δ⁺ and Δ⁻ of what is linear
        for layer in layers:
            here, there = ([self.at(t, i) for t in self._below(layer)] for i in (0, 1))
            self.values[id(layer)] = self._forward(layer, here), self._forward(layer, there)
            if isinstance(layer, Dense):
                self.parts[id(layer)] = self._split(layer)

    def at(self, layer: Dense | Applied | None, i: int) -> Array:
        return (self.x, self.reference)[i] if layer is None else self.values[id(layer)][i]

    def change(self, layer: Dense | Applied | None) -> Array:
        return self.at(layer, 0) - self.at(layer, 1)

    def _below(self, layer: Dense | Applied) -> Sequence[Dense | Applied | None]:
        return layer.inputs if isinstance(layer, Dense) else [layer.below]

    def _forward(self, layer: Dense | Applied, inputs: Sequence[Array]) -> Array:
        if isinstance(layer, Applied):
            return layer.f(inputs[0])
        return sum((x @ w for x, w in zip(inputs, layer.weights, strict=True)), np.zeros(1)) + layer.bias

    def _split(self, layer: Dense) -> Pair:
        up = down = np.zeros(1)
        for below, w in zip(layer.inputs, layer.weights, strict=True):
            rise, fall = self._parts_of(layer, below)
            up = up + rise @ np.maximum(w, 0) + fall @ np.minimum(w, 0)
            down = down + rise @ np.minimum(w, 0) + fall @ np.maximum(w, 0)
        return up, down

    def _parts_of(self, layer: Dense, below: Dense | Applied | None) -> Pair:
        """Those of an input: its own where both pass, else by the sign of its change."""
        if layer.passes and isinstance(below, Dense):
            return self.parts[id(below)]
        change = self.change(below)
        return np.maximum(change, 0), np.minimum(change, 0)

    def contributions(self, c: Array) -> Array:
        """m Δx for the score Σ c y of the last layer."""
        arrived: dict[int, Pair] = {id(self.layers[-1]): (c, c)}
        for layer in reversed(self.layers):
            up, down = arrived[id(layer)]
            if isinstance(layer, Applied):
                self._add(arrived, layer.below, self._through(layer, up, down))
                continue
            for below, w in zip(layer.inputs, layer.weights, strict=True):
                plus, minus = np.maximum(w, 0), np.minimum(w, 0)
                rise, fall = plus @ up + minus @ down, minus @ up + plus @ down
                if layer.passes and isinstance(below, Dense):
                    self._add(arrived, below, (rise, fall))
                    continue
                change = self.change(below)
                m = np.where(change > 0, rise, np.where(change < 0, fall, w @ (up + down) / 2))
                self._add(arrived, below, (m, m))
        m = arrived[id(None)][0]
        return m * (self.x - self.reference)

    def _add(self, arrived: dict[int, Pair], layer: Dense | Applied | None, pair: Pair) -> None:
        before = arrived.get(id(layer), (0.0, 0.0))
        arrived[id(layer)] = (before[0] + pair[0], before[1] + pair[1])

    def _through(self, layer: Applied, up: Array, down: Array) -> Pair:
        z, (y, reference) = self.at(layer.below, 1), self.values[id(layer)]
        if layer.rule == "rescale":
            steep = ratio(y - reference, self.change(layer.below), layer.slope(z))
            return up * steep, down * steep
        rise, fall = self.parts[id(layer.below)]
        f = layer.f
        risen = ((f(z + rise) - f(z)) + (f(z + fall + rise) - f(z + fall))) / 2
        fallen = ((f(z + fall) - f(z)) + (f(z + rise + fall) - f(z + rise))) / 2
        return (
            up * ratio(risen, rise, (layer.slope(z) + layer.slope(z + fall)) / 2),
            down * ratio(fallen, fall, (layer.slope(z) + layer.slope(z + rise)) / 2),
        )


def ratio(y: Array, x: Array, slope: Array) -> Array:
    """y / x, and the slope where x is next to nothing."""
    flat = np.abs(x) < 1e-7
    return np.where(flat, slope, y / np.where(flat, 1, x))


def relu(z: Array) -> Array:
    return np.maximum(z, 0)


def step(z: Array) -> Array:
    """The slope of that."""
    return (z > 0).astype(np.float64)
