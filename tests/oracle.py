"""Relevance propagation written straight from the papers: dense matrices, float64, one sample, no shortcut.

This is the second implementation that the compiled graphs are measured against, so it shares no code with them. A layer
is the affine map y_j = Σ_i x_i w_ij + b_j with W [I, J]; any convolution, pooling or sum takes this form through
`matrix`. A rule takes (x [I], W [I, J], b [J], R [J]), and its own parameters by keyword, and returns the relevance
[I] of the layer's inputs. An output whose denominator is exactly 0 redistributes nothing.

Sources: [DTD] Montavon et al., "Explaining NonLinear Classification Decisions with Deep Taylor Decomposition", Pattern
Recognition 65 (2017), with its supplement [S]; [LRP] Samek et al., "Interpreting the Predictions of Complex ML Models
by Layer-wise Relevance Propagation" (2016); [G] Montavon et al., "Layer-Wise Relevance Propagation: An Overview"
(2019), for the gamma rule.
"""

# ruff: noqa: N803, N806  (W, R, ... are the letters of the papers)

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Concatenate, NamedTuple, ParamSpec

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Rule = Callable[[Array, Array, Array, Array], Array]
P = ParamSpec("P")


def matrix(f: Callable[[Array], npt.ArrayLike], x_shape: Sequence[int], batch: int = 256) -> tuple[Array, Array]:
    """W [I, J] and b [J] of an affine map f: [n, *x_shape] -> [n, *y_shape], as b = f(0) and w_i = f(e_i) - b.

    f is called with at most `batch` samples at a time. W is as exact as f is: an f that rounds to float32 leaves its
    rounding of b in every entry.
    """

    def probe(points: Array) -> Array:
        return np.asarray(f(points.reshape(len(points), *x_shape)), np.float64).reshape(len(points), -1)

    units = np.eye(math.prod(x_shape))
    b = probe(np.zeros_like(units[:1]))[0]
    W = np.concatenate([probe(units[start : start + batch]) - b for start in range(0, len(units), batch)])
    return W, b


# ---- rules -----------------------------------------------------------------------------------------------------------


def pos(a: Array) -> Array:
    """a⁺ = max(0, a)."""
    return np.maximum(a, 0.0)


def neg(a: Array) -> Array:
    """a⁻ = min(0, a)."""
    return np.minimum(a, 0.0)


def redistribute(terms: Array, total: Array, R: Array) -> Array:
    """R_i = Σ_j terms_ij / total_j · R_j over the outputs j with total_j ≠ 0."""
    shares = np.divide(terms, total, out=np.zeros_like(terms), where=total != 0)
    return shares @ R


def in_float64(
    rule: Callable[Concatenate[Array, Array, Array, Array, P], Array],
) -> Callable[Concatenate[Array, Array, Array, Array, P], Array]:
    """The rule, computed in float64 whatever the dtype of its arguments."""

    @wraps(rule)
    def cast(x: Array, W: Array, b: Array, R: Array, /, *args: P.args, **kwargs: P.kwargs) -> Array:
        x, W, b, R = (np.asarray(a, np.float64) for a in (x, W, b, R))
        return rule(x, W, b, R, *args, **kwargs)

    return cast


@in_float64
def w2(x: Array, W: Array, b: Array, R: Array) -> Array:
    """R_i = Σ_j w_ij² / Σ_i w_ij² · R_j, for real inputs [S 1.1]."""
    terms = W * W
    return redistribute(terms, terms.sum(axis=0), R)


@in_float64
def z(x: Array, W: Array, b: Array, R: Array) -> Array:
    """R_i = Σ_j z_ij / Σ_i z_ij · R_j with z_ij = x_i w_ij, no bias [S 1.2]."""
    terms = x[:, None] * W
    return redistribute(terms, terms.sum(axis=0), R)


@in_float64
def z_plus(x: Array, W: Array, b: Array, R: Array) -> Array:
    """R_i = Σ_j z_ij⁺ / Σ_i z_ij⁺ · R_j, no bias [S 1.3].

    z_ij⁺ = x_i w_ij⁺ for x >= 0, the paper's case; for signed x it is x_i⁺ w_ij⁺ + x_i⁻ w_ij⁻ = (x_i w_ij)⁺ [LRP (1)].
    """
    terms = pos(x)[:, None] * pos(W) + neg(x)[:, None] * neg(W)
    return redistribute(terms, terms.sum(axis=0), R)


@in_float64
def z_box(x: Array, W: Array, b: Array, R: Array, *, low: npt.ArrayLike, high: npt.ArrayLike) -> Array:
    """R_i = Σ_j q_ij / Σ_i q_ij · R_j with q_ij = x_i w_ij - l_i w_ij⁺ - h_i w_ij⁻, no bias, for l <= x <= h [S 1.4].

    The bounds are scalars or arrays [I].
    """
    low, high = (np.broadcast_to(np.asarray(bound, np.float64), x.shape) for bound in (low, high))
    terms = x[:, None] * W - low[:, None] * pos(W) - high[:, None] * neg(W)
    return redistribute(terms, terms.sum(axis=0), R)


@in_float64
def absolute(x: Array, W: Array, b: Array, R: Array) -> Array:
    """R_i = Σ_j |z_ij| / (Σ_i |z_ij| + |b_j|) · R_j: the |z| rule of BatchNormalization, the ratio split of a sum."""
    terms = np.abs(x)[:, None] * np.abs(W)
    return redistribute(terms, terms.sum(axis=0) + np.abs(b), R)


@in_float64
def flat(x: Array, W: Array, b: Array, R: Array, *, C: npt.ArrayLike) -> Array:
    """R_i = Σ_j c_ij / Σ_i c_ij · R_j with c_ij = 1 where input i is connected to output j, else 0.

    It is the w² rule with every weight equal. C must be given because W cannot tell a weight that is 0 from a pixel
    outside the kernel window: take the W of `matrix` for the same layer with all weights 1. No other rule needs it: in
    all of them w_ij = 0 contributes nothing.
    """
    terms = np.asarray(C, np.float64)
    return redistribute(terms, terms.sum(axis=0), R)


@in_float64
def epsilon(x: Array, W: Array, b: Array, R: Array, *, eps: float) -> Array:
    """R_i = Σ_j z_ij / s(Σ_i z_ij + b_j) · R_j with s(t) = t + eps (1 if t >= 0 else -1) [S 4]; eps = 0 is LRP-0."""
    terms = x[:, None] * W
    y = terms.sum(axis=0) + b
    return redistribute(terms, y + eps * np.where(y >= 0, 1.0, -1.0), R)


@in_float64
def gamma(x: Array, W: Array, b: Array, R: Array, *, gamma: float) -> Array:
    """R_i = Σ_j p_ij / (Σ_i p_ij + c_j) · R_j; p_ij = x_i (w_ij + gamma w_ij⁺) for x >= 0 and y_j > 0 [G 10.2.1].

    c_j is the bias treated like a weight of the input 1. In general the contributions that agree in sign with
    y_j = Σ_i x_i w_ij + b_j are the ones favoured:
        y_j > 0: p_ij = x_i⁺ (w_ij + gamma w_ij⁺) + x_i⁻ (w_ij + gamma w_ij⁻), c_j = b_j + gamma b_j⁺
        y_j < 0: p_ij = x_i⁺ (w_ij + gamma w_ij⁻) + x_i⁻ (w_ij + gamma w_ij⁺), c_j = b_j + gamma b_j⁻
        y_j = 0: nothing is redistributed.
    """
    y = (x[:, None] * W).sum(axis=0) + b
    favour_pos = pos(x)[:, None] * (W + gamma * pos(W)) + neg(x)[:, None] * (W + gamma * neg(W))
    favour_neg = pos(x)[:, None] * (W + gamma * neg(W)) + neg(x)[:, None] * (W + gamma * pos(W))
    terms = np.where(y > 0, favour_pos, favour_neg) * (y != 0)
    bias = b + gamma * np.where(y > 0, pos(b), neg(b))
    return redistribute(terms, terms.sum(axis=0) + bias, R)


@in_float64
def alpha_beta(x: Array, W: Array, b: Array, R: Array, *, alpha: float, beta: float) -> Array:
    """R_i = Σ_j (alpha z_ij⁺ / (Σ_i z_ij⁺ + b_j⁺) - beta z_ij⁻ / (Σ_i z_ij⁻ + b_j⁻)) R_j, alpha - beta = 1 [S 4].

    z_ij⁺ = x_i⁺ w_ij⁺ + x_i⁻ w_ij⁻ and z_ij⁻ = x_i⁺ w_ij⁻ + x_i⁻ w_ij⁺.
    """
    if not math.isclose(alpha - beta, 1.0):
        raise ValueError(f"alpha - beta must be 1, got {alpha} - {beta}")
    supporting = pos(x)[:, None] * pos(W) + neg(x)[:, None] * neg(W)
    opposing = pos(x)[:, None] * neg(W) + neg(x)[:, None] * pos(W)
    gain = redistribute(supporting, supporting.sum(axis=0) + pos(b), R)
    loss = redistribute(opposing, opposing.sum(axis=0) + neg(b), R)
    return alpha * gain - beta * loss


def products(x: Array, W: Array) -> tuple[Array, Array]:
    """Σ_i z_ij⁺ and Σ_i z_ij⁻, the positive and the negative part of z_ij = x_i w_ij."""
    terms = x[:, None] * W
    return pos(terms).sum(axis=0), neg(terms).sum(axis=0)


def completed(rule: Rule, total: Callable[[Array, Array, Array], Array], behind: Rule) -> Rule:
    """`rule` for the outputs j whose denominator, total(x, W, b)_j, is not 0, and `behind` for those where it is."""

    def both(x: Array, W: Array, b: Array, R: Array) -> Array:
        none = total(x, W, b) == 0
        return rule(x, W, b, np.where(none, 0.0, R)) + behind(x, W, b, np.where(none, R, 0.0))

    return both


def alpha_beta_completed(behind: Rule, *, alpha: float, beta: float) -> Rule:
    """αβ, each of its two fractions completed by itself, so that both hand on as much as they take."""
    gain = completed(partial(alpha_beta, alpha=1, beta=0), lambda x, W, b: products(x, W)[0] + pos(b), behind)
    loss = completed(partial(alpha_beta, alpha=0, beta=-1), lambda x, W, b: products(x, W)[1] + neg(b), behind)
    return lambda x, W, b, R: alpha * gain(x, W, b, R) - beta * loss(x, W, b, R)


def max_route(x: Array, windows: Sequence[Sequence[int]], R: Array) -> Array:
    """The winner of each window takes all of its relevance; of tied winners the first one listed does."""
    R_in = np.zeros(len(x))
    for window, R_j in zip(windows, R, strict=True):
        winner = max(window, key=lambda i: x[i])  # max returns the first of equals
        R_in[winner] += R_j
    return R_in


# ---- networks --------------------------------------------------------------------------------------------------------


class Layer(NamedTuple):
    """y = x W + b; C [I, J] is 1 where a connection exists (for `flat`)."""

    W: Array
    b: Array
    C: Array


def add_layer(size: int, signs: Sequence[float] = (1.0, 1.0)) -> Layer:
    """y = Σ_k signs_k x_k over operands of one size laid side by side: a residual add as a layer of weights ±1."""
    W = np.vstack([sign * np.eye(size) for sign in signs])
    return Layer(W, np.zeros(size), np.abs(W))


class Affine(NamedTuple):
    """y = [sources side by side] W + b: a dense layer of one source, a residual add (`add_layer`) of several."""

    sources: tuple[str, ...]
    layer: Layer


class Relu(NamedTuple):
    sources: tuple[str]


class MaxPool(NamedTuple):
    sources: tuple[str]
    windows: list[list[int]]


class Net(NamedTuple):
    """A DAG of named nodes, listed so that sources come first; every name that is not a node is an input."""

    nodes: dict[str, Affine | Relu | MaxPool]

    def forward(self, **inputs: Array) -> dict[str, Array]:
        """The value of every tensor."""
        values = {name: np.asarray(x, np.float64) for name, x in inputs.items()}
        for name, node in self.nodes.items():
            x = np.concatenate([values[source] for source in node.sources])
            match node:
                case Affine(_, layer):
                    values[name] = x @ layer.W + layer.b
                case Relu():
                    values[name] = pos(x)
                case MaxPool(_, windows):
                    values[name] = np.array([x[window].max() for window in windows])
        return values

    def relevance(self, values: dict[str, Array], output: str, R: Array, rules: Mapping[str, Rule]) -> dict[str, Array]:
        """The relevance of every tensor for relevance R of `output`: by its rule through each Affine node, unchanged
        through Relu, to the winner through MaxPool; a tensor with several consumers sums what they give it.

        `rules` maps the name of each Affine node to a rule with its parameters bound: partial(flat, C=layer.C).
        """
        relevance = {name: np.zeros_like(value) for name, value in values.items()}
        relevance[output] = np.asarray(R, np.float64)
        for name, node in reversed(self.nodes.items()):
            parts = [values[source] for source in node.sources]
            x = np.concatenate(parts)
            match node:
                case Affine(_, layer):
                    R_in = rules[name](x, layer.W, layer.b, relevance[name])
                case Relu():
                    R_in = relevance[name]
                case MaxPool(_, windows):
                    R_in = max_route(x, windows, relevance[name])
            ends = np.cumsum([len(part) for part in parts])
            for source, share in zip(node.sources, np.split(R_in, ends[:-1]), strict=True):
                relevance[source] = relevance[source] + share
        return relevance
