"""What ``verify`` and ``inspect`` print to be compared with what was signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from terminal import Ran
from verifying import net

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.graph import digests


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def predictor(path: Path) -> str:
    return digests.of_predictor(onnx.load(path), path.parent)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    onnx.save(net(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_what_is_added_to_the_file_changes_its_own_digest_only(source: Path, run: Callable[..., Ran]) -> None:
    """A rule that was changed after the compile, for instance: the predictor is what was signed, the file is not."""
    path = source.with_name("compiled.onnx")
    onnxdtd.save(onnxdtd.compile(source, low=0.0, high=1.0), path, source)
    before = run("verify", path, "--source", source, "--json").json["digests"]
    assert before == {"file": sha(path.read_bytes()), "predictor": predictor(source), "source": predictor(source)}
    proto = onnx.load(path)
    proto.graph.node[-1].name += "!"
    onnx.save(proto, path)
    done = run("verify", path, "--source", source)
    assert done.code == 1
    assert f"file      {sha(path.read_bytes())}\n" in done.out
    assert sha(path.read_bytes()) != before["file"]
    assert f"predictor {before['predictor']}\n" in done.out
    assert "SHA-256; that of the predictor is that of the source" in done.out
    w = next(t for t in proto.graph.initializer if t.name == "w")
    w.raw_data = w.raw_data[:-1] + bytes([w.raw_data[-1] ^ 1])
    onnx.save(proto, path)
    done = run("verify", path, "--source", source)
    assert f"predictor {before['predictor']}\n" not in done.out
    assert "that of the predictor is not that of the source" in done.out


def test_a_source_that_was_converted_first_has_another_digest_and_that_is_said(source: Path, run: Callable[..., Ran]) -> None:
    """Nobody shall take it for a file that was tampered with."""
    proto = onnx.load(source)
    proto.ir_version = 7
    onnx.save(proto, source)
    path = source.with_name("compiled.onnx")
    onnxdtd.save(onnxdtd.compile(source, low=0.0, high=1.0), path, source)
    done = run("verify", path, "--source", source)
    assert done.code == 0
    assert (
        "SHA-256; that of the predictor is not that of the source, which was changed first: IR version 7 raised to 8"
        in done.out
    )


def test_inspect_tells_those_of_the_source(source: Path, run: Callable[..., Ran]) -> None:
    told = run("inspect", source).out
    assert told.endswith(f"SHA-256\nfile      {sha(source.read_bytes())}\npredictor {predictor(source)}\n")


@pytest.mark.parametrize("told", [{"node": "6"}, {"node": -1}, {"node": None}])
def test_sizes_that_are_none_give_no_digest(told: dict[str, Any], source: Path, run: Callable[..., Ran]) -> None:
    path = source.with_name("compiled.onnx")
    proto = onnxdtd.compile(source, low=0.0, high=1.0)
    for entry in proto.metadata_props:
        if entry.key == "onnxdtd.predictor":
            entry.value = str({**read_metadata(proto)["predictor"], **told}).replace("'", '"').replace("None", "null")
    onnx.save(proto, path)
    done = run("verify", path)
    assert done.code == 1
    assert "predictor none: not all of it can be read" in done.out
