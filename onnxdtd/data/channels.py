"""A number a channel: numbers laid out along the axis of an input that its channels lie on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxdtd.errors import RequestError

Sizes = Sequence[int | str | None]  # what is no number is known at run time only


def spread(numbers: Any, sizes: Sizes, channel: int | None, what: str, samples: int | None = None) -> np.ndarray:
    """Numbers, float64, shaped to broadcast over a tensor of ``sizes``: one for all, one a channel (a list), or an array.

    A list belongs to the axis ``channel``; where there is none, or only one channel, to the only axis of so many entries, that
    of the ``samples`` apart. Raises ``RequestError``, in which ``what`` names the numbers and the tensor.
    """
    array = np.asarray(numbers, np.float64)
    if array.ndim == 1 and array.size > 1:
        axis = listed_axis(array.size, sizes, channel, what, samples)
        return array.reshape([-1 if i == axis else 1 for i in range(len(sizes))])
    if array.size == 1:
        return array.reshape(())
    tail = sizes[len(sizes) - array.ndim :] if array.ndim <= len(sizes) else None
    if tail is None or not all(have in (1, want) for have, want in zip(array.shape, tail, strict=True)):
        raise RequestError(f"{what}: the numbers have the shape {list(array.shape)}")
    return array


def listed_axis(count: int, sizes: Sizes, channel: int | None, what: str, samples: int | None = None) -> int:
    """The axis that a list of ``count`` numbers belongs to; see ``spread``."""
    if channel is not None and (sizes[channel] == count or not isinstance(sizes[channel], int)):
        return channel
    if channel is not None and sizes[channel] != 1:
        raise RequestError(f"{what}: there are {count} values, one a channel, but {sizes[channel]} channels")
    same = [axis for axis, size in enumerate(sizes) if size == count and axis != samples]
    if len(same) == 1:
        return same[0]
    if not same:
        raise RequestError(f"{what}: there are {count} values, one a channel, and no axis of that size")
    raise RequestError(
        f"{what}: there are {count} values, and {len(same)} axes of that size; which has the channels does not show in the "
        "graph: give one number, or from Python an array that broadcasts against the input"
    )


def ends(bounds: Mapping[str, Any] | None, name: str) -> tuple[Any, Any]:
    """Low and high of the input ``name`` in the entry ``bounds`` of a compiled file's metadata, None where there are none."""
    if not bounds:
        return None, None
    mine = bounds.get(name, {}) if isinstance(bounds.get("low", {}), Mapping) else bounds
    return mine.get("low"), mine.get("high")
