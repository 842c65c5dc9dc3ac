"""captum's DeepLift, as it comes and without two of its faults.

- Of two functions one behind the other, as a Relu and a max pool, the hooks overwrite each other: what is given no longer adds
  up to the difference of the scores. Something linear between them keeps them apart.
- Where windows of a max pool overlap, `max_unpool` keeps one of the multipliers of an entry; theirs must be added.

Two more differences are left, which meet few entries: where Δx is below 1e-10 captum takes the gradient at the input (ours:
1e-7, at the baseline, and a Relu has no threshold), and through a Softmax it subtracts a mean over the whole batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from captum.attr import DeepLift
from captum.attr._core import deep_lift
from rebuild import Rebuilt

F, SUPPORTED = torch.nn.functional, deep_lift.SUPPORTED_NON_LINEAR
NO_RULE = (torch.nn.AdaptiveMaxPool1d, torch.nn.AdaptiveMaxPool2d)
POOLS = {torch.nn.MaxPool1d: F.max_pool1d, torch.nn.MaxPool2d: F.max_pool2d}


class Apart(torch.nn.Module):
    """Something linear, of which nobody has a hook."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x"""
        return x * 1.0


def added(values: torch.Tensor, indices: torch.Tensor, *args: Any) -> torch.Tensor:
    """What ``max_unpool`` puts into an empty tensor of a size, the last argument, added up."""
    empty = torch.zeros(args[-1], dtype=values.dtype)
    return empty.flatten(2).scatter_add_(2, indices.flatten(2), values.flatten(2)).view_as(empty)


@contextmanager
def mended(explained: Rebuilt) -> Iterator[None]:
    """Without the two faults."""
    before = dict(SUPPORTED)
    for call in explained.calls:
        if type(call.run) in SUPPORTED:
            call.run = torch.nn.Sequential(call.run, Apart())
    SUPPORTED.update({kind: pooled(pool) for kind, pool in POOLS.items()})
    try:
        yield
    finally:
        SUPPORTED.update(before)


def pooled(pool: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """captum's rule for a max pool, with ``added``."""
    return lambda module, *given, **more: deep_lift.maxpool(module, pool, added, *given, **more)


def by_deeplift(module: torch.nn.Module, x: torch.Tensor, target: int, exact: bool = False) -> np.ndarray:
    """The contributions of ``x`` against zeros; ``exact``: without the faults."""
    explained = copy.deepcopy(module)
    if any(isinstance(part, NO_RULE) for part in explained.modules()):
        raise NotImplementedError("captum's DeepLift has no rule for global max pools, and takes their gradient")
    given: Sequence[torch.Tensor] = (x.clone(), torch.zeros_like(x))
    if not exact:
        found = DeepLift(explained).attribute(*given, target=target)
    else:
        assert isinstance(explained, Rebuilt)
        with mended(explained):
            found = DeepLift(explained).attribute(*given, target=target)
    relevance: np.ndarray = found.detach().numpy()
    return relevance
