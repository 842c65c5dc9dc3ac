"""Reading, normalising and writing: what the file of a model becomes, and what never happens to it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, run
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from opsets import BUNDLED, MODELS, ROOT, classifier, of_its_time

import onnxdtd
from onnxdtd.errors import ModelError
from onnxdtd.graph import files, shapes

# ---- reading ---------------------------------------------------------------------------------------------------------


def test_the_hash_is_that_of_the_file() -> None:
    path = MODELS / "digits_mlp.onnx"
    data = path.read_bytes()
    for source in (path, str(path), data):
        assert files.read(source).sha256 == hashlib.sha256(data).hexdigest()
    assert files.read(path).path == path
    assert files.read(data).path is None


def test_path_bytes_and_proto_compile_to_the_same(tmp_path: Path) -> None:
    proto = classifier()
    data = proto.SerializeToString(deterministic=True)
    (tmp_path / "net.onnx").write_bytes(data)
    sources = (tmp_path / "net.onnx", str(tmp_path / "net.onnx"), data, proto)
    assert len({onnxdtd.compile(source).SerializeToString(deterministic=True) for source in sources}) == 1


def test_the_callers_proto_stays_as_it_is() -> None:
    proto = of_its_time(11)
    before = proto.SerializeToString(deterministic=True)
    onnxdtd.compile(proto)
    assert proto.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        (b"", "empty"),
        (b"Dear compiler,", "not an ONNX model"),
        (numpy_helper.from_array(np.zeros(3)).SerializeToString(), "not an ONNX model"),
        (ModelProto(ir_version=8).SerializeToString(), "not an ONNX model"),
        (helper.make_model(helper.make_graph([], "empty", [], [])).SerializeToString(), "no ONNX graph with nodes"),
        (b"\x10\x00\x00\x00ORTM\x00\x00", "own format, .* give the .onnx file"),
    ],
)
def test_bytes_that_are_no_model(data: bytes, phrase: str) -> None:
    with pytest.raises(ModelError, match=phrase):
        files.read(data)


@pytest.mark.parametrize("place", ["graph", "node", "tensor", "initializer"])
def test_names_that_are_no_text(place: str) -> None:
    """Protobuf allows such bytes on the wire, ONNX does not."""
    proto = classifier()
    proto.graph.name = "odd_name"
    data = proto.SerializeToString()
    old = {"graph": b"odd_name", "node": b"h_node", "tensor": b"\x12\x01r", "initializer": b"\x42\x01v"}[place]
    assert old in data
    with pytest.raises(ModelError):
        onnxdtd.compile(data.replace(old, old[:-1] + b"\xff"))


# ---- structure -------------------------------------------------------------------------------------------------------


def test_the_skeleton_has_no_large_tensors() -> None:
    proto = onnx.load(MODELS / "digits_resnet.onnx")
    bare = shapes.skeleton(proto)
    assert max(tensor.ByteSize() for tensor in bare.graph.initializer) <= shapes.SMALL_BYTES
    small = {tensor.name for tensor in bare.graph.initializer}
    large = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.name not in small}
    assert large
    inputs = {value.name: value.type.tensor_type for value in bare.graph.input}
    for name, tensor in large.items():
        assert inputs[name].elem_type == tensor.data_type
        assert [d.dim_value for d in inputs[name].shape.dim] == list(tensor.dims)
    assert list(bare.graph.node) == list(proto.graph.node)
    assert bare.ByteSize() < proto.ByteSize() / 3


def test_a_compiled_model_is_about_as_large_as_its_source() -> None:
    for name in BUNDLED:
        path = MODELS / f"{name}.onnx"
        assert onnxdtd.compile(path, low=0, high=1).ByteSize() < path.stat().st_size + 40_000


@pytest.mark.parametrize("name", ["cycle", "dangling", "unknown", "mistyped", "duplicate"])
def test_graphs_that_are_not_valid(name: str) -> None:
    proto = classifier()
    gemm, relu, _ = proto.graph.node
    match name:
        case "cycle":
            gemm.input[0] = "r"
        case "dangling":
            relu.input[0] = "nowhere"
        case "unknown":
            relu.op_type = "Frobnicate"
        case "mistyped":
            proto.graph.input[0].type.tensor_type.elem_type = 105
        case "duplicate":
            relu.output[0] = "h"
    with pytest.raises(ModelError):
        onnxdtd.compile(proto)


# ---- writing ---------------------------------------------------------------------------------------------------------


def saved(proto: ModelProto, path: Path, **options: Any) -> Path:
    """A model with every weight in a file beside it; ``proto`` is changed along."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"location": path.stem + ".data", "size_threshold": 0} | options
    onnx.save(proto, path, save_as_external_data=True, **options)
    return path


def locations(proto: ModelProto) -> set[str]:
    return {ExternalDataInfo(tensor).location for tensor in proto.graph.initializer if uses_external_data(tensor)}


def predict(path: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


X = eighths(np.random.default_rng(7), 3, 6)


def test_external_weights_stay_where_they_are_and_unread(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "net.onnx")
    data = tmp_path / "net.data"
    content = data.read_bytes()
    data.unlink()
    compiled = onnxdtd.compile(path, low=-1, high=1)
    for tensor in list(compiled.graph.initializer)[:3]:
        assert tensor.data_location == TensorProto.EXTERNAL
        assert not tensor.raw_data
    assert locations(compiled) == {"net.data"}
    onnxdtd.save(compiled, tmp_path / "out.onnx", path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "out.onnx"]
    data.write_bytes(content)
    np.testing.assert_array_equal(predict(tmp_path / "out.onnx", X), run(classifier(), x=X)["y"])


def test_external_weights_of_an_older_operator_set(tmp_path: Path) -> None:
    proto = of_its_time(9)
    path = saved(of_its_time(9), tmp_path / "net.onnx")
    compiled = onnxdtd.compile(path)
    assert locations(compiled) == {"net.data"}
    onnxdtd.save(compiled, tmp_path / "out.onnx", path)
    x = eighths(np.random.default_rng(7), 3, 3, 4, 4)
    np.testing.assert_allclose(predict(tmp_path / "out.onnx", x), run(proto, x=x)["y"], rtol=1e-6)


def test_external_weights_are_copied_beside_the_output(tmp_path: Path) -> None:
    for folder in ("in/weights", "out"):
        (tmp_path / folder).mkdir(parents=True)
    path = saved(classifier(), tmp_path / "in/net.onnx", location="weights/net.data")
    onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path)
    copy = tmp_path / "out/weights/net.data"
    assert copy.read_bytes() == (tmp_path / "in/weights/net.data").read_bytes()
    (tmp_path / "in/weights/net.data").unlink()
    np.testing.assert_array_equal(predict(tmp_path / "out/net.onnx", X), run(classifier(), x=X)["y"])


def test_weights_below_the_output_can_be_referred_to(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "in/net.onnx", location="net.data")
    out = tmp_path / "out.onnx"
    compiled = onnxdtd.compile(path)
    onnxdtd.save(compiled, out, path, weights="reference")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == [
        "in/net.data",
        "in/net.onnx",
        "out.onnx",
    ]
    assert locations(onnx.load(out, load_external_data=False)) == {"in/net.data"}
    assert locations(compiled) == {"net.data"}  # what the caller holds stays as it is
    np.testing.assert_array_equal(predict(out, X), run(classifier(), x=X)["y"])
    onnxdtd.save(compiled, tmp_path / "in/out.onnx", path, weights="reference")
    assert locations(onnx.load(tmp_path / "in/out.onnx", load_external_data=False)) == {"net.data"}


def test_weights_beside_the_source_can_be_copied(tmp_path: Path) -> None:
    """Under a name of their own, so that the source may go."""
    path = saved(classifier(), tmp_path / "net.onnx")
    onnxdtd.save(onnxdtd.compile(path), tmp_path / "out.onnx", path, weights="copy")
    assert locations(onnx.load(tmp_path / "out.onnx", load_external_data=False)) == {"out.onnx.net.data"}
    for gone in ("net.onnx", "net.data"):
        (tmp_path / gone).unlink()
    np.testing.assert_array_equal(predict(tmp_path / "out.onnx", X), run(classifier(), x=X)["y"])


def test_weights_elsewhere_cannot_be_referred_to(tmp_path: Path) -> None:
    """Runtimes follow no path out of the folder of a model."""
    path = saved(classifier(), tmp_path / "in/net.onnx")
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"net\.data: runtimes read weights in or below the folder"):
        onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path, weights="reference")
    assert not list((tmp_path / "out").iterdir())
    onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path, weights="copy")  # as the message advises
    with pytest.raises(onnxdtd.RequestError, match="weights 'link'"):
        onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path, weights="link")


@pytest.mark.parametrize("weights", ["reference", "copy"])
@pytest.mark.parametrize("location", ["../secret.data", "{root}/secret.data", "link.data"])
def test_weights_outside_are_neither_referred_to_nor_copied(location: str, weights: str, tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "in/net.onnx")
    (tmp_path / "in/net.data").rename(tmp_path / "secret.data")
    if location == "link.data":
        (tmp_path / "in/link.data").symlink_to(tmp_path / "secret.data")
    moved(path, location.format(root=tmp_path))
    for out in ("out.onnx", "in/out.onnx"):
        with pytest.raises(ModelError, match=r"lies? outside the model's folder"):
            onnxdtd.save(onnxdtd.compile(path), tmp_path / out, path, weights=weights)
        assert not (tmp_path / out).exists()


def moved(path: Path, location: str) -> Path:
    """Let the weights of the model at ``path`` claim to be at ``location``."""
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(proto.SerializeToString())
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("location", ["../secret", "sub/../../secret", "{tmp}/secret", "link"])
def test_weights_outside_of_the_models_folder_are_not_followed(location: str, tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "in/net.onnx")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "in/link").symlink_to(tmp_path / "secret")
    moved(path, location.replace("{tmp}", str(tmp_path)))
    (tmp_path / "out/deep").mkdir(parents=True)
    before = tree(tmp_path)
    with pytest.raises(ModelError, match="outside"):
        onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/deep/net.onnx", path)
    assert tree(tmp_path) == before


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "in/net.onnx")
    (tmp_path / "in/net.data").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"net\.data"):
        onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path)
    assert not tree(tmp_path / "out")


def test_weights_of_another_model_are_not_overwritten(tmp_path: Path) -> None:
    """Exporters like to call every weight file the same."""
    path = saved(classifier(), tmp_path / "in/net.onnx", location="model.data")
    other = saved(of_its_time(17), tmp_path / "out/other.onnx", location="model.data")
    before = tree(other.parent)
    with pytest.raises(ModelError, match=r"model\.data"):
        onnxdtd.save(onnxdtd.compile(path), tmp_path / "out/net.onnx", path)
    assert tree(other.parent) == before


def test_equal_weights_are_shared(tmp_path: Path) -> None:
    """Compiling a second time to the same folder is fine: its copy of the weights is there already."""
    path = saved(classifier(), tmp_path / "in/net.onnx")
    (tmp_path / "out").mkdir()
    for preset in ("dtd", "lrp-epsilon"):
        onnxdtd.save(onnxdtd.compile(path, preset), tmp_path / f"out/{preset}.onnx", path)
    assert sorted(tree(tmp_path / "out")) == ["dtd.onnx", "lrp-epsilon.onnx", "net.data"]


def test_the_output_must_not_replace_the_weights(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "net.onnx")
    before = tree(tmp_path)
    with pytest.raises(ModelError, match="weights"):
        onnxdtd.save(onnxdtd.compile(path), tmp_path / "net.data", path)
    assert tree(tmp_path) == before


def test_compiling_twice_gives_the_same_bytes() -> None:
    """In other processes too, where strings hash otherwise."""
    script = (
        "import hashlib, onnxdtd; print(hashlib.sha256(onnxdtd.compile('models/digits_resnet.onnx', low=0, high=1)"
        ".SerializeToString(deterministic=True)).hexdigest())"
    )
    hashes = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        hashes.add(subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, check=True).stdout)
    here = onnxdtd.compile(MODELS / "digits_resnet.onnx", low=0, high=1).SerializeToString(deterministic=True)
    assert hashes == {hashlib.sha256(here).hexdigest().encode() + b"\n"}


def test_nothing_is_left_of_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor half of the weights, which the next run would take for another model's."""
    path = saved(classifier(), tmp_path / "in/net.onnx")
    out = tmp_path / "out/out.onnx"
    out.parent.mkdir()
    out.write_bytes(b"an older result")
    compiled = onnxdtd.compile(path)

    def half(source: Any, target: Any, *_: Any) -> None:
        target.write(source.read(10))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", half)
        with pytest.raises(ModelError, match=r"net\.data: cannot be written .No space left on device"):
            onnxdtd.save(compiled, out, path)
    assert tree(out.parent) == {"out.onnx": b"an older result"}
    onnxdtd.save(compiled, out, path)
    assert (out.parent / "net.data").read_bytes() == (tmp_path / "in/net.data").read_bytes()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    compiled = onnxdtd.compile(classifier())
    source = tmp_path / "net.onnx"
    source.write_bytes(b"source")
    (tmp_path / "link.onnx").symlink_to(source)
    (tmp_path / "folder").mkdir()
    for target, phrase in (
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere/out.onnx", "does not exist"),
        (source, "never overwritten"),
        (tmp_path / "link.onnx", "never overwritten"),
        (tmp_path / "folder/../net.onnx", "never overwritten"),
        (tmp_path / "folder" / ("n" * 300), "cannot be written"),
        (Path("/proc/out.onnx"), "cannot be written"),
    ):
        with pytest.raises(ModelError, match=phrase):
            onnxdtd.save(compiled, target, source)
    assert source.read_bytes() == b"source"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "link.onnx", "net.onnx"]
