"""Training min-max relevance models, in numpy: y = max(0, x v + a), a = min(0, t u + d), R̂_k = Σ y over the units of k.

A row has the entries x that a neuron sees, the relevance t above it, and the relevance r of all k there. Of a convolution it
is a place of a picture: ``patches`` lays out what is seen there, ``cast_from`` what is above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from onnxdtd.operators.windows import Window

BATCH = 128  # rows in a step of training
RATE = 2e-3  # of Adam, in units of data scaled to a mean square of 1
TINY = 1e-8  # added to the root of the latter
DECAY = (0.9, 0.999)  # of Adam's means of gradients and of their squares


def patches(x: np.ndarray, win: Window) -> np.ndarray:
    """What a convolution sees of x [n, channels, size...]: [n, places..., channels · window]."""
    assert win.begin is not None
    assert win.end is not None
    axes = tuple(win.axes)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(win.begin, win.end, strict=True)])
    seen = sliding_window_view(padded, win.extent, axes)
    seen = seen[(slice(None), slice(None), *(slice(None, None, s) for s in (*win.strides, *win.dilations)))]
    return _as_rows(seen, len(axes))


def cast_from(r: np.ndarray, win: Window, sizes: tuple[int, ...]) -> np.ndarray:
    """What the outputs r [n, channels, places...] of a convolution over ``sizes`` are to each of its inputs, [n, size...,
    channels · window]: in the place of a weight w the output that the input reaches through it, or 0.
    """
    assert win.begin is not None
    geometry = list(zip(sizes, r.shape[2:], win.begin, win.strides, win.extent, strict=True))
    lengths = [max(n + b, (m - 1) * s + 1) + k - 1 for n, m, b, s, k in geometry]
    canvas = np.zeros((*r.shape[:2], *lengths), r.dtype)
    every = (slice(None), slice(None))
    canvas[(*every, *(slice(k - 1, k + (m - 1) * s, s) for _, m, _, s, k in geometry))] = r
    seen = sliding_window_view(canvas, win.extent, tuple(win.axes))
    places = (slice(b, b + n) for n, _, b, _, _ in geometry)
    return _as_rows(seen[(*every, *places, *(slice(None, None, -d) for d in win.dilations))], len(sizes))


def _as_rows(seen: np.ndarray, rank: int) -> np.ndarray:
    """[n, channels, places..., window...] as [n, places..., channels · window]."""
    moved = np.moveaxis(seen, 1, 1 + rank)
    return moved.reshape(*moved.shape[: 1 + rank], -1)


@dataclass(frozen=True)
class Rows:
    """x [n, inputs], t [n, outputs above], r [n, K]."""

    x: np.ndarray
    t: np.ndarray
    r: np.ndarray

    def __getitem__(self, index: np.ndarray | slice) -> Rows:
        """Some of them."""
        return Rows(self.x[index], self.t[index], self.r[index])

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All of them."""
        return self.x, self.t, self.r

    def __len__(self) -> int:
        """How many."""
        return len(self.r)


@dataclass(frozen=True)
class Parameters:
    """v [inputs, K · units], u [outputs above, K · units], d [K · units], the units of a k side by side."""

    v: np.ndarray
    u: np.ndarray
    d: np.ndarray

    def arrays(self) -> list[np.ndarray]:
        """All of them."""
        return [getattr(self, entry.name) for entry in fields(self)]


def activity(p: Parameters, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """y, and what a is the negative part of, [n, K · units]."""
    t = rows.t @ p.u + p.d
    return np.maximum(rows.x @ p.v + np.minimum(t, 0), 0), t


def told(p: Parameters, rows: Rows) -> np.ndarray:
    """R̂, [n, K]."""
    y, _ = activity(p, rows)
    summed: np.ndarray = y.reshape(*rows.r.shape, -1).sum(axis=-1)
    return summed


def loss(p: Parameters, rows: Rows) -> float:
    """Σ_k (R̂_k − R_k)², the mean over the rows."""
    return float(np.square(told(p, rows) - rows.r).sum(dtype=np.float64) / len(rows))


def gradient(p: Parameters, rows: Rows) -> Parameters:
    """That of the loss."""
    y, t = activity(p, rows)
    units = y.shape[1] // rows.r.shape[1]
    off = y.reshape(*rows.r.shape, units).sum(axis=-1) - rows.r
    on = np.repeat(off * (2 / len(rows)), units, axis=1) * (y > 0)
    inhibited = on * (t < 0)
    return Parameters(rows.x.T @ on, rows.t.T @ inhibited, inhibited.sum(axis=0))


def trained(
    p: Parameters, rows: Rows, held_out: Rows, epochs: int, patience: int, rng: np.random.Generator
) -> Iterator[Parameters]:
    """Adam, on batches in random order: after each epoch the best parameters so far, by the loss on the rows held out. Ends
    where ``patience`` epochs in a row have brought nothing better.
    """
    best, lowest, since, steps = p, loss(p, held_out), 0, 0
    now = Parameters(*(a.copy() for a in p.arrays()))
    means, squares = ([np.zeros_like(a) for a in p.arrays()] for _ in range(2))
    for _ in range(epochs):
        order = rng.permutation(len(rows))
        for start in range(0, len(rows), BATCH):
            steps += 1
            slope = gradient(now, rows[order[start : start + BATCH]]).arrays()
            rate = RATE * np.sqrt(1 - DECAY[1] ** steps) / (1 - DECAY[0] ** steps)
            for a, g, m, s in zip(now.arrays(), slope, means, squares, strict=True):
                m += (1 - DECAY[0]) * (g - m)
                s += (1 - DECAY[1]) * (g * g - s)
                a -= (rate * m / (np.sqrt(s) + TINY)).astype(a.dtype)
        found = loss(now, held_out)
        since = 0 if found < lowest else since + 1
        if not since:
            best, lowest = Parameters(*(a.copy() for a in now.arrays())), found
        yield best
        if since == patience:
            return
