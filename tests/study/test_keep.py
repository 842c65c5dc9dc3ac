"""What ONNX Runtime makes of a compiled file, in a file of its own, and processors that it is not for."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node
from onnx import numpy_helper

import onnxdtd
from onnxdtd import Explainer, keep
from onnxdtd.contract import KEPT_BY, PREFIX
from onnxdtd.errors import ModelError, RequestError

RNG = np.random.default_rng(0)
W = {"c": eighths(RNG, 16, 3, 3, 3), "d": eighths(RNG, 32, 16, 3, 3), "e": eighths(RNG, 32, 5)}
NODES = [
    *(node("Conv", "x c", "h"), node("Relu", "h", "i"), node("Conv", "i d", "j"), node("Relu", "j", "k")),
    *(node("GlobalAveragePool", "k", "g"), node("Flatten", "g", "f"), node("MatMul", "f e", "y")),
]
X = eighths(RNG, 2, 3, 8, 8)


def compiled(folder: Path, **options: Any) -> Path:
    onnxdtd.save(onnxdtd.compile(model(NODES, {"x": ["n", 3, 8, 8]}, ["y"], W), low=-1, high=1, **options), folder / "net.onnx")
    return folder / "net.onnx"


def proof(path: Path) -> dict[str, Any]:
    (entry,) = [entry for entry in onnx.load(path, load_external_data=False).metadata_props if entry.key == PREFIX + KEPT_BY]
    return dict(json.loads(entry.value))


@pytest.mark.parametrize(("options", "portable"), [({}, False), ({}, True), ({"on_demand": "required"}, False)])
def test_it_computes_the_same(options: dict[str, Any], portable: bool, tmp_path: Path) -> None:
    """The blocked layout is none of portable files, nor of those on demand, and with it the kind of processor."""
    path = compiled(tmp_path, **options)
    keep(path, tmp_path / "kept.onnx", portable=portable)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kept.onnx", "kept.onnx.weights", "net.onnx"]
    ours, theirs = (Explainer(tmp_path / name, ["cpu"], prepack=False)(X).relevance["x"] for name in ("kept.onnx", "net.onnx"))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
    blocked = any("nchwc" in n.domain for n in onnx.load(tmp_path / "kept.onnx", load_external_data=False).graph.node)
    assert bool(proof(tmp_path / "kept.onnx")) == blocked
    assert not (blocked and (portable or options))


def rearranged(data: bytes) -> bytes:
    """A model whose weights lie as blocks of another size would have them."""
    proto = onnx.load_from_string(data)
    (weight,) = [t for t in proto.graph.initializer if list(t.dims) == [16, 16, 1, 1]]
    blocks = numpy_helper.to_array(weight).reshape(2, 8, 2, 8).transpose(0, 2, 1, 3).reshape(16, 16, 1, 1)
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(blocks), weight.name))
    return proto.SerializeToString()


@pytest.mark.parametrize("made", [rearranged, lambda data: data[:99]])
def test_another_kind_of_processor_is_refused(made: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """One that makes something else of the weights as they lie there, or nothing."""
    keep(compiled(tmp_path), tmp_path / "kept.onnx")
    told = proof(tmp_path / "kept.onnx") or pytest.skip("no blocked layout here")
    proto = onnx.load(tmp_path / "kept.onnx", load_external_data=False)
    (entry,) = [entry for entry in proto.metadata_props if entry.key == PREFIX + KEPT_BY]
    entry.value = json.dumps(told | {"model": b64encode(made(b64decode(told["model"]))).decode()})
    onnx.save(proto, tmp_path / "kept.onnx")
    with pytest.raises(ModelError, match=r"another kind of processor .* write it again here by onnxdtd\.keep"):
        Explainer(tmp_path / "kept.onnx", ["cpu"])


def test_what_cannot_be_kept(tmp_path: Path) -> None:
    path = compiled(tmp_path)
    with pytest.raises(RequestError, match="is the compiled file"):
        keep(path, path)
    onnx.save(model(NODES, {"x": ["n", 3, 8, 8]}, ["y"], W), tmp_path / "source.onnx")
    with pytest.raises(ModelError, match="was not compiled by onnxdtd"):
        keep(tmp_path / "source.onnx", tmp_path / "kept.onnx")
    keep(path, tmp_path / "kept.onnx")
    with pytest.raises(ModelError, match=r"is what ONNX Runtime has made of a compiled file"):
        onnxdtd.verify(tmp_path / "kept.onnx")
