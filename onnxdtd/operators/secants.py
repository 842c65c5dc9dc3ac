"""Between two points: shares of a difference Δy = y(x) − y(x̃) that add up to it exactly, as multipliers m with Δy = Σ m Δx.

Where both points are one, the derivative. A composition has that of its parts, and a product ab, whose factors count
in either order equally often (Shapley), ½(b + b̃) for a and ½(a + ã) for b. So all that sums, products and functions of one
number make up has one, by these functions; `at` gives a tensor at the other point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Tensor, Value

At: TypeAlias = Callable[[Tensor], Tensor]  # a tensor at another point; itself where that is the same
NEAR = 1e-7  # differences in float32 below which a slope takes their place (DeepLIFT)


def here(tensor: Tensor) -> Tensor:
    """At the same point."""
    return tensor


def middle(e: Emit, one: Tensor, other: Tensor) -> Tensor:
    """½(a + ã)"""
    return one if one is other else e("Mul", e("Add", one, other), 0.5, shape=one.shape)


def near(dtype: np.dtype) -> float:
    """Differences of numbers of a type that count as none: as many units in the last place of 1 as in float32."""
    return NEAR * float(np.finfo(dtype).eps / np.finfo(np.float32).eps)


def ratio(e: Emit, dy: Tensor, dx: Tensor, least: Value, slope: Tensor) -> Tensor:
    """Δy / Δx, and the slope where Δx is smaller than the ``least`` that counts."""
    flat = e("Less", e("Abs", dx), least)
    return e("Where", flat, e.finite(slope), e("Div", dy, e("Where", flat, e.constant(np.asarray(1, dx.dtype)), dx)))


def quotient(e: Emit, x: Tensor, y: Tensor, at: At, slope: Callable[[], Tensor]) -> Tensor:
    """Δy / Δx of a function entry by entry, and its slope at the other point where Δx is next to nothing."""
    dy, dx = (e("Sub", t, at(t)) for t in (y, x))
    return ratio(e, dy, dx, near(x.dtype), slope())


def parts(e: Emit, logarithms: Tensor, axes: Sequence[int], at: At) -> tuple[Tensor, Tensor]:
    """λ = Δp / Δ log p of parts p of a whole along some axes, given log p, and λ / Σ λ, by which Δ log Σ eˣ = Σ (λ / Σ λ) Δx.

    The logarithm of a part is Δ log p = Δx − Δ log Σ eˣ, and Σ Δp = 0. That of a part that is ruled out is −∞.
    """
    if at(logarithms) is logarithms:
        p = e("Exp", logarithms)
        return p, p
    low = e("Max", logarithms, -1e30)
    p = e("Exp", low)
    size = quotient(e, low, p, at, lambda: at(p))
    return size, e("Div", size, e("ReduceSum", size, list(axes), keepdims=1))
