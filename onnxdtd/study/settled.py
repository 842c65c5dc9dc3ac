"""What a compiled file has settled: an option that says otherwise is refused; how pictures are read may still be said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from onnxdtd.compiler.record import told_request
from onnxdtd.contract import Metadata
from onnxdtd.data.channels import ends
from onnxdtd.data.preprocessing import DEFAULTS, NUMBERS, byte_ends, checked
from onnxdtd.errors import RequestError
from onnxdtd.request import Request

READING = ("low", "high", "preprocessing", "target", "labels")  # how files are read, and what a file may be told


def settled(metadata: Metadata, request: Request, name: str) -> Metadata:
    """The ``metadata`` of a compiled file, with what ``request`` says of reading its input ``name`` if the file says nothing.

    The target is not looked at: some files take one. Raises ``RequestError`` where the request contradicts the file.
    """
    explained = metadata.get("channels") or metadata["relevance"]
    have, plain = (r.as_data() for r in (Request.from_data(told_request(metadata, explained)), Request()))
    wanted = request.as_data() | {
        "keep": [tensor for tensor in request.keep if tensor not in metadata["relevance"]],
        "explain": [tensor for tensor in request.explain if tensor not in explained],
    }
    for option in fields(Request):
        if option.name not in READING and wanted[option.name] not in (plain[option.name], have[option.name]):
            raise _fixed(option.metadata["option"].flag)
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
    known = metadata.get("preprocessing")
    if preprocessing is not None and known is None:
        found["preprocessing"] = preprocessing
    elif preprocessing is not None and known is not None:
        for key in (key for key in DEFAULTS if key not in NUMBERS):  # numbers were compared as bounds
            if preprocessing[key] not in (DEFAULTS[key], known[key]):
                raise _fixed(f"its preprocessing has {key} {known[key] or 'by default'}, not {preprocessing[key]}: it")
    return found


def _fixed(what: str) -> RequestError:
    return RequestError(f"the model is compiled already: {what} cannot be changed any more; compile the source model again")


def _same(a: Any, b: Any) -> bool:
    """Are bounds equal, up to the last digits of how they were worked out?"""
    left, right = (np.squeeze(np.asarray(bound, np.float64)) for bound in (a, b))
    return left.shape == right.shape and bool(np.allclose(left, right, rtol=1e-9, atol=1e-12))
