"""Functions that need one another, or themselves, to any depth: those that wait are kept on a list, not on Python's stack.

Such a function is a generator: ``part = yield smaller(x)`` waits for what the generator ``smaller(x)`` returns.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Task: TypeAlias = Generator[Any, Any, T]


def result(task: Task[T]) -> T:
    """What a task returns, once all that it waits for is done."""
    waiting, value = [task], None
    try:
        while waiting:
            try:
                waiting.append(waiting[-1].send(value))
                value = None
            except StopIteration as end:
                waiting.pop()
                value = end.value
    finally:
        for left in reversed(waiting):  # an error: the innermost is left first
            left.close()
    return value  # type: ignore[return-value]
