"""Region perturbation: replace what a heatmap calls relevant, region by region, and watch the score (Samek et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from onnxdtd.data.forms import Form
from onnxdtd.data.steps import seconds
from onnxdtd.data.tokens import NEUTRAL, Tokens
from onnxdtd.errors import RequestError, counted
from onnxdtd.study.predictor import Scores

FILLS = ("zero", "mean", "median", "blur", "noise", "low", "high")
ACROSS = 14  # regions along the shorter side of a picture, unless asked for otherwise


def default_patch(form: Form, shape: Sequence[int]) -> int:
    """The side of a region: a 14th of a picture's shorter side, of a signal as many stretches as those are; single entries of
    everything else.
    """
    seen = form.laid_out(shape)
    sides = [seen[axis] for axis in form.neighbours(shape)[-2:]]
    return max(1, round(min(sides, default=1) / ACROSS ** (3 - len(sides)))) if sides else 1


def regions(form: Form, shape: Sequence[int], patch: int) -> np.ndarray:
    """The number of the region, from 0, that each entry of a sample belongs to, int64 of ``shape``: squares of ``patch`` pixels
    over all channels of a picture, stretches of a signal over all of its, cubes of a clip; single entries of everything else.
    """
    axes, seen = form.neighbours(shape), form.laid_out(shape)
    if not axes:
        return np.arange(int(np.prod(shape))).reshape(shape)
    numbers = np.zeros([1] * len(seen), np.int64)
    for axis in axes:
        place = np.arange(seen[axis]) // patch
        numbers = numbers * (place[-1] + 1) + place.reshape([-1 if a == axis else 1 for a in range(len(seen))])
    return np.broadcast_to(numbers, seen).reshape(shape)


def called(form: Form, shape: Sequence[int], patch: int, rate: float | None = None) -> str | None:
    """What regions of signals, of ``rate`` steps a second, and of clips are called; None of others, whose side says it all."""
    sides = len(form.neighbours(shape))
    if sides == 1:
        time = "" if rate is None else f" ({seconds(patch / rate)})"
        return f"stretches of {counted(patch, 'step')}{time} of all channels"
    return f"cubes with a side of {patch}" if sides == 3 else None


def ranking(relevance: np.ndarray, places: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """The regions from the most relevant to the least, by the sum of their relevance; equal ones in the order of ``ties``, so
    that a heatmap that tells nothing gives just that order. What belongs to no region, at a place below 0, is left out.
    """
    inside = places >= 0
    sums = np.bincount(places[inside], weights=relevance[inside].astype(np.float64))
    return ties[np.argsort(-sums[ties], kind="stable")]


def filler(kind: str, x: np.ndarray, patch: int, form: Form, rng: np.random.Generator) -> np.ndarray:
    """What takes the place of a sample's entries, of its shape: 0, each channel's mean or median, the sample itself out of
    focus, uniform noise, or a bound of the input domain.
    """
    axes, seen = form.neighbours(x.shape), x.reshape(form.laid_out(x.shape))
    if kind in ("low", "high") and form.low is None:
        raise RequestError(f"--fill {kind} needs the bounds of the input: --low and --high, or --range")
    if kind in ("mean", "median", "blur") and not axes:
        if form.ids is not None:
            raise RequestError(f"--fill {kind}: ids have none; use zero, which is mostly that of padding, or noise, ids by lot")
        raise RequestError(
            f"--fill {kind} is for pictures and signals; use zero, mean, median or noise"
            + (", low or high" if form.low is not None else "")
        )
    if kind == "zero":
        return np.zeros_like(x)
    if kind == "mean":
        return np.broadcast_to(seen.mean(axis=tuple(axes), keepdims=True), seen.shape).reshape(x.shape)
    if kind == "median":
        return np.broadcast_to(np.median(seen, axis=tuple(axes), keepdims=True), seen.shape).reshape(x.shape)
    if kind == "blur":
        widths = [float(patch) if axis in axes else 0.0 for axis in range(seen.ndim)]
        return gaussian_filter(seen, widths, mode="nearest").reshape(x.shape)
    low, high = (x.min(), x.max()) if form.low is None or form.high is None else (form.low, form.high)
    if kind == "noise":
        return low + (high - low) * rng.random(x.shape)
    return np.broadcast_to(low if kind == "low" else high, x.shape)


def replacement(fill: str, form: Form, tokens: Tokens | None = None) -> int | None:
    """The id that takes the place of others: the one that was given, or that of a token that says nothing, chosen from what
    made ``tokens`` where nothing else was asked for. None where there is another way to fill. Raises ``RequestError``.
    """
    special = fill.isdecimal() or fill in NEUTRAL
    if form.ids is None and special:
        raise RequestError(f"--fill {fill} is for ids, but the model takes {form.name!r} as numbers")
    if fill.isdecimal():
        if form.ids and int(fill) >= form.ids:
            raise RequestError(f"--fill {fill}: the model looks up one of {form.ids}, from 0 on")
        return int(fill)
    if special and tokens is None:
        raise RequestError(f"--fill {fill} needs a --tokenizer, which knows the token; give its number, --fill ID")
    if tokens is None or (not special and (fill != "zero" or tokens.of_bytes)):
        return None
    return tokens.neutral(fill if special else None)[0]


def perturbed(x: np.ndarray, fill: np.ndarray, places: np.ndarray, order: np.ndarray, steps: int, share: float) -> np.ndarray:
    """x₀ ... x_L, [steps + 1, ...]: after step k the first k/steps · ``share`` of the regions in ``order`` are replaced."""
    turn = np.empty(order.size, np.int64)
    turn[order] = np.arange(order.size)
    gone = np.rint(np.arange(steps + 1) / steps * share * order.size)
    when = np.where(places < 0, order.size, turn[places])
    return np.where(when < gone.reshape([-1] + [1] * x.ndim), fill, x)


def perturbation(
    scores: Scores,
    x: np.ndarray,
    target: int,
    relevance: Mapping[str, np.ndarray],
    fill: np.ndarray,
    places: np.ndarray,
    rng: np.random.Generator,
    steps: int = 20,
    share: float = 1.0,
    probability: bool = False,
    by_chance: bool = True,
) -> dict[Any, np.ndarray]:
    """The score of ``target`` after each step of replacing regions, ``places``, by ``fill``: [steps + 1] by (preset, order)
    and, ``by_chance``, for a random order; all in one go. Raises ``RequestError`` where scores are not finite.
    """
    chance = rng.permutation(places.max() + 1)
    orders: dict[Any, np.ndarray] = {"random": chance} if by_chance else {}
    for name, r in relevance.items():
        orders[name, "morf"] = ranking(r, places, chance)
        orders[name, "lerf"] = orders[name, "morf"][::-1]
    copies = [perturbed(x, fill, places, order, steps, share) for order in orders.values()]
    logits = finite(scores.logits(np.concatenate(copies)), "the scores of the model, with regions replaced,")
    shown = scores.probabilities(logits) if probability else logits
    return dict(zip(orders, shown[:, target].reshape(len(orders), -1), strict=True))


def finite(values: np.ndarray, what: str) -> np.ndarray:
    """``values``. Raises ``RequestError`` where some are NaN or infinite."""
    if not np.isfinite(values).all():
        raise RequestError(f"{what} are NaN or infinite")
    return values
