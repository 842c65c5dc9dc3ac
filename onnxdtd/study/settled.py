"""What a compiled file has settled: an option that says otherwise is refused; how pictures are read may still be said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxdtd.contract import Metadata
from onnxdtd.data.channels import ends
from onnxdtd.data.preprocessing import DEFAULTS, NUMBERS, byte_ends, checked
from onnxdtd.errors import RequestError
from onnxdtd.request import Request


def settled(metadata: Metadata, request: Request, name: str) -> Metadata:
    """The ``metadata`` of a compiled file, with what ``request`` says of reading its input ``name`` if the file says nothing.

    The target is not looked at: some files take one. Raises ``RequestError`` where the request contradicts the file.
    """
    plain = Request()
    explained = metadata.get("channels") or metadata["relevance"]
    asked: dict[str, tuple[Any, Any, Any]] = {
        "preset": (request.preset, plain.preset, metadata["preset"]),
        "set": (list(request.settings), [], metadata["settings"]),
        "contrast": (request.contrast, plain.contrast, "runner-up" if metadata["contrast"] is True else metadata["contrast"]),
        "output": (request.output, None, metadata["output"]),
        "keep": ([t for t in request.keep if t not in metadata["relevance"]], [], None),
        "allow": (dict(request.allow or {}), {}, metadata["allow"]),
        "ledger": (request.ledger, False, metadata["ledger"] is not None),
        "explain": ([t for t in request.explain if t not in explained], [], None),
    }
    for option, (wanted, default, has) in asked.items():
        if wanted not in (default, has):
            raise _fixed(f"--{option}")
    preprocessing = checked(request.preprocessing)
    low, high = byte_ends(preprocessing)
    low, high = (given if end is None else end for given, end in ((request.low, low), (request.high, high)))
    if isinstance(low, Mapping):
        low, high = low.get(name), high.get(name)
    found = metadata.copy()
    if low is not None:
        recorded = ends(metadata["bounds"], name)
        if recorded[0] is None:
            found["bounds"] = {**(metadata["bounds"] or {}), name: {"low": low, "high": high}}
        elif not (_same(low, recorded[0]) and _same(high, recorded[1])):
            raise _fixed(f"its bounds of {name!r} are {recorded[0]} and {recorded[1]}, not {low} and {high}: they")
    have = metadata.get("preprocessing")
    if preprocessing is not None and have is None:
        found["preprocessing"] = preprocessing
    elif preprocessing is not None and have is not None:
        for key in (key for key in DEFAULTS if key not in NUMBERS):  # numbers were compared as bounds
            if preprocessing[key] not in (DEFAULTS[key], have[key]):
                raise _fixed(f"its preprocessing has {key} {have[key] or 'by default'}, not {preprocessing[key]}: it")
    return found


def _fixed(what: str) -> RequestError:
    return RequestError(f"the model is compiled already: {what} cannot be changed any more; compile the source model again")


def _same(a: Any, b: Any) -> bool:
    """Are bounds equal, up to the last digits of how they were worked out?"""
    left, right = (np.squeeze(np.asarray(bound, np.float64)) for bound in (a, b))
    return left.shape == right.shape and bool(np.allclose(left, right, rtol=1e-9, atol=1e-12))
