"""A model and its spelled-out twin, side by side."""

from typing import Any

import numpy as np
import onnx
from onnx import ModelProto

import onnxdtd

Array = np.ndarray

NEAR = 1e-5


def compiled(source: ModelProto, preset: str, **options: Any) -> ModelProto:
    """Compile; the source is there word for word, and the relevance pass has standard operators only."""
    proto = onnxdtd.compile(source, preset, **options)
    for part in ("node", "initializer", "input", "output"):
        ours, theirs = (list(getattr(p.graph, part)) for p in (proto, source))
        assert ours[: len(theirs)] == theirs, part
    assert {made.domain for made in proto.graph.node[len(source.graph.node) :]} == {""}
    onnx.checker.check_model(proto)
    return proto
