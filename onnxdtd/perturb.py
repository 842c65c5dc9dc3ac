"""Region perturbation: replace what a heatmap calls relevant, region by region, and watch the score (Samek et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from onnxdtd.errors import RequestError
from onnxdtd.inputs import channel_axis

ACROSS = 14  # regions along the shorter side of a picture, unless asked for otherwise
SMALLEST_PICTURE = 4  # pixels a side


def space_axes(shape: Sequence[int]) -> list[int]:
    """The axes of a sample along which neighbours belong together: both of a picture, the long one of a signal, else none.

    >>> space_axes((3, 32, 32)), space_axes((28, 28, 1)), space_axes((1, 90)), space_axes((4,))
    ([1, 2], [0, 1], [1], [])
    """
    channel = channel_axis(shape)
    space = [axis for axis in range(len(shape)) if axis != channel]
    if len(space) == 2 and min(shape[axis] for axis in space) >= SMALLEST_PICTURE:
        return space
    long = [axis for axis, size in enumerate(shape) if size > 1]
    return long if len(long) == 1 and len(shape) > 1 else []


def default_patch(shape: Sequence[int]) -> int:
    """The side of a region: a 14th of a picture's shorter side, single entries of everything else."""
    axes = space_axes(shape)
    return max(1, round(min(shape[axis] for axis in axes) / ACROSS)) if len(axes) == 2 else 1


def regions(shape: Sequence[int], patch: int) -> np.ndarray:
    """The number of the region, from 0, that each entry of a sample belongs to, int64 of ``shape``: squares of ``patch`` pixels
    over all channels of a picture, stretches of a signal, single entries of everything else.
    """
    axes = space_axes(shape)
    if not axes:
        return np.arange(int(np.prod(shape))).reshape(shape)
    numbers = np.zeros([1] * len(shape), np.int64)
    for axis in axes:
        place = np.arange(shape[axis]) // patch
        numbers = numbers * (place[-1] + 1) + place.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.broadcast_to(numbers, shape)


def ranking(relevance: np.ndarray, places: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """The regions from the most relevant to the least, by the sum of their relevance; equal ones in the order of ``ties``, so
    that a heatmap that tells nothing gives just that order.
    """
    sums = np.bincount(places.ravel(), weights=relevance.ravel().astype(np.float64))
    return ties[np.argsort(-sums[ties], kind="stable")]


def filler(kind: str, x: np.ndarray, patch: int, low: Any, high: Any, rng: np.random.Generator) -> np.ndarray:
    """What takes the place of a sample's entries, of its shape: 0, each channel's mean, the sample itself out of focus, uniform
    noise, or a bound of the input domain.
    """
    axes = space_axes(x.shape)
    if kind in ("low", "high") and low is None:
        raise RequestError(f"--fill {kind} needs the bounds of the input: --low and --high, or --range")
    if kind in ("mean", "blur") and not axes:
        raise RequestError(
            f"--fill {kind} is for pictures and signals; use zero, mean or noise" + (", low or high" if low is not None else "")
        )
    if kind == "zero":
        return np.zeros_like(x)
    if kind == "mean":
        return np.broadcast_to(x.mean(axis=tuple(axes), keepdims=True), x.shape)
    if kind == "blur":
        return gaussian_filter(x, [float(patch) if axis in axes else 0.0 for axis in range(x.ndim)], mode="nearest")
    if kind == "noise":
        ends = (x.min(), x.max()) if low is None else (_over(low, x.shape), _over(high, x.shape))
        return ends[0] + (ends[1] - ends[0]) * rng.random(x.shape)
    return np.broadcast_to(_over(low if kind == "low" else high, x.shape), x.shape)


def _over(bound: Any, shape: Sequence[int]) -> np.ndarray:
    """A bound, shaped to broadcast over a sample: a list has one number a channel."""
    values = np.squeeze(np.asarray(bound, np.float64))
    if values.ndim != 1:
        return values
    channel = channel_axis(shape)
    return values.reshape([-1 if axis == (len(shape) - 1 if channel is None else channel) else 1 for axis in range(len(shape))])


def perturbed(x: np.ndarray, fill: np.ndarray, places: np.ndarray, order: np.ndarray, steps: int, share: float) -> np.ndarray:
    """x₀ ... x_L, [steps + 1, ...]: after step k the first k/steps · ``share`` of the regions in ``order`` are replaced."""
    turn = np.empty(order.size, np.int64)
    turn[order] = np.arange(order.size)
    gone = np.rint(np.arange(steps + 1) / steps * share * order.size)
    when = turn[places]
    return np.where(when < gone.reshape([-1] + [1] * x.ndim), fill, x)
