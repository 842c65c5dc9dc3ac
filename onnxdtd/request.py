"""What a caller asks for, as plain data. Imports nothing, so that the command line starts fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONTRASTS = ("runner-up", "rest")  # what a score can be compared with
AT_RUN_TIME = ("input", "optional")  # targets that are an input of the compiled model
NO_CLASSES = ("argmax", *AT_RUN_TIME)  # targets that leave the class to the run time


@dataclass(frozen=True)
class Request:
    """What to explain and how; see ``onnxdtd.compile``."""

    preset: str | None = None  # the first of ``library.DEFAULTS`` that looks at the values of the inputs
    settings: Sequence[str] = ()
    low: Any = None
    high: Any = None
    target: int | str | None = None
    contrast: str | None = None
    output: str | None = None
    keep: Sequence[str] = ()
    allow: Mapping[str, str] | None = None
    ledger: bool = False
    explain: Sequence[str] = ()
    labels: Sequence[str] | None = None
    preprocessing: Mapping[str, Any] | None = None
