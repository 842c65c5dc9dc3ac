"""LSTM, GRU and RNN as ONNX defines them, and their relevance as Arras et al. do: float64, one sample and one step at a time.

Gates take nothing (signal takes all). c = f c₋₁ + i g shares out its relevance by a rule, with both products as inputs and
no bias, the candidate g by the same rule, over its input and the state before. What comes to initial states is left over.
Arras et al., "Explaining recurrent neural network predictions in sentiment analysis" (2017), and their code for the LSTM.
"""

# ruff: noqa: N806  (W, R, ... are the letters of the papers)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import oracle

Array = npt.NDArray[np.float64]
FUNCTIONS: dict[str, Callable[..., Array]] = {
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "HardSigmoid": lambda x, a=0.2, b=0.5: np.clip(a * x + b, 0, 1),
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "LeakyRelu": lambda x, a=0.01: np.where(x < 0, a * x, x),
}
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
WAYS = {"forward": [1], "reverse": [-1], "bidirectional": [1, -1]}


@dataclass
class Layer:
    """``w`` [directions, gates · size, inputs], ``r`` [directions, gates · size, size], ``b`` [directions, 2 · gates · size]"""

    op: str
    w: Array
    r: Array
    b: Array
    direction: str = "forward"
    activations: list[tuple[Any, ...]] = field(default_factory=list)
    linear_before_reset: int = 0
    input_forget: int = 0

    def functions(self, d: int) -> list[Callable[[Array], Array]]:
        count = len(USUAL[self.op])
        names = self.activations[d * count : (d + 1) * count] or [(name,) for name in USUAL[self.op]]
        return [lambda x, name=name, more=more: FUNCTIONS[name](x, *more) for name, *more in names]

    def step(self, d: int, x: Array, h: Array, c: Array) -> tuple[Array, Array, Callable[..., tuple[Array, Array, Array]]]:
        """State and cell after an input, and what gives their relevance back to input, state and cell"""
        size, (f, *more) = len(h), self.functions(d)
        W, R = (np.split(a[d].T, a.shape[1] // size, axis=1) for a in (self.w, self.r))
        wb, rb = np.split(self.b[d].reshape(-1, size), 2)
        pre = lambda k, state=h: x @ W[k] + state @ R[k] + wb[k] + rb[k]
        both, none = np.concatenate([x, h]), np.zeros(size)
        kernel = lambda k: np.concatenate([W[k], R[k]])
        diagonal = np.concatenate([np.eye(size)] * 2)
        if self.op == "RNN":
            return f(pre(0)), c, lambda rule, r_h, r_c: (*np.split(rule(both, kernel(0), wb[0] + rb[0], r_h), [len(x)]), r_c)
        if self.op == "LSTM":
            g, squash = more
            i, o, forget, new = f(pre(0)), f(pre(1)), f(pre(2)), g(pre(3))
            forget = 1 - i if self.input_forget else forget
            cell = forget * c + i * new

            def back(rule: oracle.Rule, r_h: Array, r_c: Array) -> tuple[Array, Array, Array]:
                kept, taken = np.split(rule(np.concatenate([forget * c, i * new]), diagonal, none, r_h + r_c), 2)
                return *np.split(rule(both, kernel(3), wb[3] + rb[3], taken), [len(x)]), kept

            return o * squash(cell), cell, back
        z, reset = f(pre(0)), f(pre(1))
        after, first = bool(self.linear_before_reset), x @ W[2] + wb[2]
        last = reset * (h @ R[2] + rb[2])
        inner = first + last if after else pre(2, reset * h)
        new = more[0](inner)
        state = (1 - z) * new + z * h

        def gru(rule: oracle.Rule, r_h: Array, r_c: Array) -> tuple[Array, Array, Array]:
            taken, kept = np.split(rule(np.concatenate([(1 - z) * new, z * h]), diagonal, none, r_h), 2)
            if not after:
                r_x, r_state = np.split(rule(np.concatenate([x, reset * h]), kernel(2), wb[2] + rb[2], taken), [len(x)])
                return r_x, r_state + kept, r_c
            r_first, r_last = np.split(rule(np.concatenate([first, last]), diagonal, none, taken), 2)
            return rule(x, W[2], wb[2], r_first), rule(h, R[2], rb[2], r_last) + kept, r_c

        return state, c, gru


class Run:
    """A layer over x [steps, batch, inputs], with lengths [batch] and initial states [directions, batch, size]"""

    def __init__(self, layer: Layer, x: Array, lengths: Array | None = None, h0: Array | None = None, c0: Array | None = None):
        self.ways, size = WAYS[layer.direction], layer.r.shape[-1]
        self.x, (steps, batch, _) = x, x.shape
        ends = [steps] * batch if lengths is None else lengths.tolist()
        start = np.zeros((len(self.ways), batch, size))
        self.y = np.zeros((steps, len(self.ways), batch, size))
        self.h, self.c = (start.copy() if a is None else a.astype(np.float64).copy() for a in (h0, c0))
        self.backs: list[tuple[int, int, int, Callable[..., tuple[Array, Array, Array]]]] = []
        for d, way in enumerate(self.ways):
            for n in range(batch):
                for t in range(ends[n])[::way]:
                    self.h[d, n], self.c[d, n], back = layer.step(d, x[t, n], self.h[d, n].copy(), self.c[d, n].copy())
                    self.y[t, d, n] = self.h[d, n]
                    self.backs.append((d, n, t, back))

    def back(self, rule: oracle.Rule, r_y: Array, r_h: Array, r_c: Array) -> tuple[Array, Array, Array]:
        """The relevance of x, and of the initial state and cell, given that of the outputs"""
        r_x, r_h, r_c = np.zeros_like(self.x), r_h.astype(np.float64), r_c.astype(np.float64)
        for d, n, t, back in self.backs[::-1]:
            share, r_h[d, n], r_c[d, n] = back(rule, r_h[d, n] + r_y[t, d, n], r_c[d, n])
            r_x[t, n] += share
        return r_x, r_h, r_c
