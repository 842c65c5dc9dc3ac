"""Digests say what was signed: others compute the same, and whatever a file computes with changes the right one."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commands import dense
from commands import model as parsed
from onnx import helper, numpy_helper
from verifying import net

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import ModelError
from onnxdtd.graph import digests, files


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def by_hand(path: Path, sizes: dict[str, Any] | None = None) -> str:
    """As a third party computes it: onnx and hashlib, and all weights in memory."""
    proto, lines = onnx.load(path), []
    own = lambda parts, name: list(parts)[: (sizes or {}).get(name)]
    graph = proto.graph
    parts = [("opset", p) for p in proto.opset_import] + [("function", p) for p in proto.functions]
    parts += [(name, p) for name in ("input", "output", "node") for p in own(getattr(graph, name), name)]
    for kind, part in [*parts, *(("sparse_initializer", p) for p in graph.sparse_initializer)]:
        lines.append(f"{kind} {sha(part.SerializeToString(deterministic=True))}")
    for tensor in own(graph.initializer, "initializer"):
        head = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        lines.append(f"initializer {sha(head.SerializeToString())} {sha(numpy_helper.to_array(tensor).tobytes())}")
    return sha("".join(f"{line}\n" for line in lines).encode())


def predictor(path: Path, compiled: bool = True) -> str:
    source = files.read(path)
    return digests.of_predictor(source.proto, path.parent, read_metadata(source.proto)["predictor"] if compiled else None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    onnx.save(net(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_all_compiles_of_a_source_have_its_predictor(source: Path) -> None:
    want = predictor(source, False)
    assert want == by_hand(source)
    whole = set()
    for i, options in enumerate(({"preset": "dtd"}, {"preset": "lrp-epsilon", "target": "input"}, {"on_demand": True})):
        path = source.with_name(f"{i}.onnx")
        onnxdtd.save(onnxdtd.compile(source, low=0.0, high=1.0, **options), path, source)
        assert predictor(path) == want == by_hand(path, read_metadata(onnx.load(path))["predictor"])
        assert predictor(path, False) != want
        whole.add(digests.of_files(path, onnx.load(path), files.read(path).sha256))
    assert len(whole) == 3


def weight(proto: onnx.ModelProto) -> None:
    w = next(t for t in proto.graph.initializer if t.name == "w")
    w.raw_data = w.raw_data[:-1] + bytes([w.raw_data[-1] ^ 1])


def attribute(proto: onnx.ModelProto) -> None:
    (pads,) = (a for node in proto.graph.node for a in node.attribute if a.name == "pads")
    pads.ints[0] = 0


def added(proto: onnx.ModelProto) -> None:
    proto.graph.node.insert(2, helper.make_node("Relu", ["r"], ["r2"]))


CHANGES: dict[str, Callable[[onnx.ModelProto], Any]] = {
    "a weight": weight,
    "an attribute": attribute,
    "a node more": added,
    "an order of sizes": lambda proto: next(t for t in proto.graph.initializer if t.name == "w").dims.reverse(),
    "a type": lambda proto: setattr(proto.graph.initializer[0], "data_type", onnx.TensorProto.INT32),
    "an operator set": lambda proto: setattr(proto.opset_import[0], "version", 18),
    "an output": lambda proto: setattr(proto.graph.output[0], "name", "logits"),
    "a function": lambda proto: proto.functions.append(
        helper.make_function("", "Relu", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])], proto.opset_import)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_computed_with_changes_the_predictor(change: str) -> None:
    proto, here = net(), Path()
    before = digests.of_predictor(proto, here)
    CHANGES[change](proto)
    assert digests.of_predictor(proto, here) != before


def test_weights_in_other_files_count_wherever_they_lie(source: Path, tmp_path: Path) -> None:
    """The predictor is the same as with its weights inside; all files together are what ``sha256sum`` makes of them."""
    want, folder = predictor(source, False), tmp_path / "apart"
    folder.mkdir()
    path = folder / "net.onnx"
    onnx.save(onnx.load(source), path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    assert digests.of_predictor(proto, folder) == want
    weights = sorted(p.name for p in folder.iterdir() if p != path)
    assert len(weights) > 1
    printed = subprocess.run(["sha256sum", path.name, *weights], cwd=folder, capture_output=True, check=True).stdout
    assert digests.of_files(path, proto, sha(path.read_bytes())) == sha(printed)
    changed = folder / weights[-1]
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x01")
    assert digests.of_predictor(proto, folder) != want
    assert digests.of_files(path, proto, sha(path.read_bytes())) != sha(printed)
    changed.write_bytes(changed.read_bytes()[:-1])
    with pytest.raises(ModelError, match="copy it again, whole"):
        digests.of_predictor(proto, folder)
    changed.unlink()
    for refused in (lambda: digests.of_predictor(proto, folder), lambda: digests.of_files(path, proto, "")):
        with pytest.raises(ModelError, match=r"cannot be read \(No such file"):
            refused()


def test_numbers_stored_otherwise_are_the_same() -> None:
    """Typed fields or bytes, and strings."""
    made = lambda raw: helper.make_tensor(
        "w", onnx.TensorProto.FLOAT, [2], np.float32([1, 2]).tobytes() if raw else [1, 2], raw
    )
    nets = [parsed("y = MatMul(x, w)", "(float[n,2] x) => (float[n,1] y)") for _ in range(2)]
    for proto, raw in zip(nets, (True, False), strict=True):
        proto.graph.initializer.append(made(raw))
    assert len({digests.of_predictor(proto, Path()) for proto in nets}) == 1
    texts = [parsed("y = MatMul(x, w)", "(float[n,2] x) => (float[n,1] y)") for _ in range(2)]
    for proto, words in zip(texts, (["ab", "c"], ["a", "bc"]), strict=True):
        proto.graph.initializer.append(helper.make_tensor("t", onnx.TensorProto.STRING, [2], words))
    assert len({digests.of_predictor(proto, Path()) for proto in texts}) == 2


def test_numbers_of_nodes_in_another_file_are_refused() -> None:
    proto = parsed("y = MatMul(x, w)", "(float[n,4] x) => (float[n,3] y)")
    tensor = dense(4, 3)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    with pytest.raises(ModelError, match="no digest is taken"):
        digests.of_predictor(proto, Path())


def test_weights_are_read_once_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be gigabytes."""
    file, read = tmp_path / "w", list[str]()
    file.write_bytes(b"one")
    taken = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: (read.append("w"), taken(*args))[1])
    first = [digests.of_file(file) for _ in range(3)]
    file.write_bytes(b"another")
    assert (len(read), set(first)) == (1, {hashlib.sha256(b"one").hexdigest()})
    assert digests.of_file(file) == hashlib.sha256(b"another").hexdigest()


@pytest.mark.parametrize(("place", "why"), [("/dev/zero", "outside of the folder"), ("folder", "no regular file")])
def test_weights_that_no_runtime_reads_are_not_read(place: str, why: str, tmp_path: Path) -> None:
    """A device has no end."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "net.data").symlink_to(place)
    proto = parsed("y = MatMul(x, w)", "(float[n,4] x) => (float[n,3] y)")
    proto.graph.initializer.append(dense(4, 3))
    proto.graph.initializer[-1].data_location = onnx.TensorProto.EXTERNAL
    proto.graph.initializer[-1].external_data.add(key="location", value="net.data")
    with pytest.raises(ModelError, match=why):
        digests.of_files(tmp_path / "net.onnx", proto, "")
