"""Shortcuts: functions from steps to steps that give the same relevance for less work. Any of them can be left out.

Each has a module with its algebra and its reasons to decline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from onnxdtd.compiler.steps import Step
from onnxdtd.graph.tensors import Tensor


@dataclass(frozen=True)
class Situation:
    """What shortcuts go by: the names of the tensors where relevance starts, of any amount and also where they are 0; of those
    whose own relevance is wanted; and which tensors are never negative. ``free`` are the sources whose relevance is not their
    own value, as that of a score is; ``number`` gives the values of constants, ``bounds`` those of inputs of first layers,
    ``at_place`` the steps over what tensors have at one place along an axis, by name, and those that take that, if it can.
    """

    sources: Collection[str]
    kept: Collection[str]
    nonnegative: Callable[[Tensor], bool]
    free: Collection[str] = ()
    number: Callable[[Tensor], np.ndarray | None] = lambda tensor: None
    bounds: Callable[[Tensor], tuple[Tensor, Tensor]] = lambda tensor: (tensor, tensor)
    at_place: Callable[[Mapping[str, tuple[int, int]]], tuple[Sequence[Step], Mapping[str, Step]]] | None = None


Shortcut: TypeAlias = Callable[[Sequence[Step], Situation], list[Step]]


def read_once(steps: Sequence[Step], situation: Situation) -> set[str]:
    """The names of tensors that a single step reads, and whose own relevance nobody wants."""
    counts = Counter(t.name for step in steps for t in step.inputs if t is not None)
    return {name for name, count in counts.items() if count == 1} - {*situation.sources, *situation.kept}
