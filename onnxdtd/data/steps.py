"""Steps of a signal, or frames of a clip, as time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

UNITS = (("µs", 1e-6, 1e-3), ("ms", 1e-3, 1.0), ("s", 1.0, 600.0), ("min", 60.0, 36e3), ("h", 3600.0, np.inf))  # and up to when
Steps = TypeVar("Steps", float, np.ndarray)


@dataclass(frozen=True)
class Clock:
    """When steps are: ``rate`` of them a second, or counted where that is not known, of ``seconds`` in all."""

    rate: float | None
    unit: str = "step"
    length: float = 1.0

    @classmethod
    def of(cls, rate: float | None, steps: int) -> Clock:
        """That of a signal of so many steps.

        >>> Clock.of(500, 5000).unit, Clock.of(500, 100).unit, Clock.of(None, 100).unit
        ('s', 'ms', 'step')
        """
        if rate is None:
            return cls(None)
        unit, length, _ = next(entry for entry in UNITS if steps / rate < entry[2])
        return cls(rate, unit, length)

    @property
    def label(self) -> str:
        """What stands at an axis of time."""
        return "step" if self.rate is None else f"time ({self.unit})"

    def at(self, steps: Steps) -> Steps:
        """When steps are, in the unit."""
        return steps if self.rate is None else steps / (self.rate * self.length)

    def said(self, steps: int) -> str:
        """So many steps as time, for "per".

        >>> Clock.of(500, 5000).said(25), Clock.of(None, 9).said(25), Clock.of(None, 9).said(1)
        ('50 ms', '25 steps', 'step')
        """
        return ("step" if steps == 1 else f"{steps} steps") if self.rate is None else seconds(steps / self.rate)

    def span(self, first: int, last: int) -> str:
        """When steps are, from the first to the last.

        >>> Clock.of(25, 50).span(10, 10), Clock.of(25, 50).span(10, 20), Clock.of(None, 50).span(10, 20)
        ('0.4 s', '0.4–0.8 s', '10–20')
        """
        ends = [str(step) if self.rate is None else f"{self.at(float(step)):.3g}" for step in dict.fromkeys((first, last))]
        return "–".join(ends) + ("" if self.rate is None else f" {self.unit}")


def seconds(length: float) -> str:
    """A length of time in a unit that fits.

    >>> seconds(0.05), seconds(2.5), seconds(1e-5), seconds(90), seconds(0.0416667)
    ('50 ms', '2.5 s', '10 µs', '90 s', '41.7 ms')
    """
    unit, size, _ = next(entry for entry in UNITS if length < entry[2])
    return f"{length / size:.3g} {unit}"
