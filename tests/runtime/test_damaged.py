"""What a compiled file says of itself may be anything: it is refused in words."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxdtd
from onnxdtd.errors import ModelError, OnnxdtdError

TEXT = """<ir_version: 10, opset_import: ["": 21]> net (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> {
    y = MatMul(x, w)
}"""
COMPILED = onnxdtd.compile(onnx.parser.parse_model(TEXT), "lrp-0", ledger=True)
X = np.ones((1, 2), np.float32)


def told(key: str, value: str | None) -> onnx.ModelProto:
    """The compiled file with another entry, or without it."""
    proto = onnx.ModelProto()
    proto.CopyFrom(COMPILED)
    kept = [entry for entry in COMPILED.metadata_props if entry.key != f"onnxdtd.{key}"]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    if value is not None:
        proto.metadata_props.add(key=f"onnxdtd.{key}", value=value)
    return proto


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("rules", "[" * 90_000, "rules' of the metadata is no JSON"),
        ("classes", "9" * 5000, "classes' of the metadata is no JSON"),
        ("labels", "[[1]]", "labels' of the metadata is not what it is"),
        ("relevance", '["relevance"]', "relevance' of the metadata is not"),
        ("samples", '{"x": "0"}', "samples' of the metadata is not"),
        ("relevance", '{"x": "nowhere"}', "outputs or inputs that the model does not have"),
        ("samples", '{"z": 0}', "outputs or inputs that the model does not have"),
        ("ledger", '{"steps": []}', "outputs or inputs that the model does not have"),
        ("relevance", None, "not compiled by onnxdtd"),
    ],
)
def test_a_file_that_says_anything(key: str, value: str | None, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        onnxdtd.Explainer(told(key, value))


def test_every_entry_may_be_anything_or_missing() -> None:
    """A file of an older version lacks some."""
    for entry in COMPILED.metadata_props:
        for value in (None, "null", "0", "{}", "[null]", '{"x": {}}'):
            try:
                onnxdtd.Explainer(told(entry.key.removeprefix("onnxdtd."), value))(X)
            except OnnxdtdError:
                continue
