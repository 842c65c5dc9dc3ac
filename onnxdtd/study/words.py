"""Numbers and lists of things as sentences have them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from onnxdtd.errors import counted as counted


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


def mean_text(found: Mapping[str, Any] | None) -> str:
    """A mean with its standard error, of which two digits say enough."""
    if found is None or found["mean"] is None:
        return "-"
    return number(found["mean"]) + (f" ± {number(found['error'], 2)}" if found.get("error") is not None else "")


def conjoined(words: Sequence[str]) -> str:
    """As in a sentence.

    >>> conjoined(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
