"""Numbers and lists of things as sentences have them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnxdtd.errors import counted as counted

FEW = 12  # numbers that are listed one by one
ENOUGH = 3  # samples, of which a model that was trained is right on one as a rule


def number(value: float | None, digits: int = 3) -> str:
    """So many significant digits; "-" where there is no number.

    >>> number(0.4), number(12.345), number(300), number(1e-7), number(None)
    ('0.400', '12.3', '300', '1.00e-7', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, int) or value == 0:
        return str(int(value))
    return re.sub(r"e([-+])0?", lambda m: "e-" if m[1] == "-" else "e", f"{value:#.{digits}g}").removesuffix(".")


def amount(value: float, digits: int = 4, sign: str = "") -> str:
    """So many significant digits, and of a large number all before the point; ``sign`` as in a format.

    >>> amount(0.123456), amount(17384.2), amount(212.4, 2, "+"), amount(99.96, 2), amount(-0.0031, 1), amount(3.2e9)
    ('0.1235', '17384', '+212', '100', '-0.003', '3.2e+09')
    """
    before = len(f"{abs(value):.0f}")
    return f"{value:{sign}.{max(digits, before) if before < 7 else digits}g}"


def mean_text(found: Mapping[str, Any] | None) -> str:
    """A mean with its standard error, of which two digits say enough."""
    if found is None or found["mean"] is None:
        return "-"
    return number(found["mean"]) + (f" ± {number(found['error'], 2)}" if found.get("error") is not None else "")


def probably(value: float) -> str:
    """A probability in per cent, never rounded to a certainty.

    >>> probably(0.97), probably(0.8854), probably(0.99937), probably(0.9999996), probably(0.00001), probably(1 / 3)
    ('97 %', '88.5 %', '99.93 %', '> 99.99 %', '< 0.01 %', '33.3 %')
    """
    if value > 0.9999:
        return "> 99.99 %"
    if value < 0.0001:
        return "< 0.01 %"
    return f"{math.floor(value * 1e4) / 100:.4g} %" if value > 0.99 else f"{100 * value:.3g} %"


def rightness(right: int, labelled: int) -> str:
    """How often a model is right, in counts: a rounded share would hide a single mistake among many samples.

    >>> rightness(2, 3), rightness(0, 3)
    ('on 2 of 3 samples with a label.', 'on 0 of 3 samples with a label: are they prepared as it wants its inputs?')
    """
    doubt = ": are they prepared as it wants its inputs?" if labelled >= ENOUGH and not right else "."
    return f"on {right} of {counted(labelled, 'sample')} with a label{doubt}"


def conjoined(words: Sequence[str]) -> str:
    """As in a sentence.

    >>> conjoined(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def said(value: Any) -> str:
    """A setting as it was given; of many numbers only how many there are and where they end.

    >>> said(None), said([0.5, 1]), said({"mean": 0.5, "std": None}), said([[0.0] * 50] * 2)
    ('-', '0.5, 1', 'mean 0.5', '100 times 0')
    """
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_entry(entry)}" for key, entry in value.items() if entry is not None)
    return _entry(value)


def _entry(value: Any) -> str:
    """A number, a word, or a list"""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    flat = list(_flat(value))
    if len(flat) <= FEW:
        return ", ".join(f"{one:.6g}" if isinstance(one, float) else str(one) for one in flat)
    if min(flat) == max(flat):
        return f"{len(flat):,} times {number(flat[0])}"
    return f"{counted(len(flat), 'number')} from {number(min(flat))} to {number(max(flat))}"


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    """The entries of lists of lists, in order."""
    left = list(reversed(values))
    while left:
        entry = left.pop()
        if isinstance(entry, list | tuple):
            left += reversed(entry)
        else:
            yield entry
