"""The bytes of compiled files are recorded, and a changed one is found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts" / "check"))
import bytes as script  # noqa: E402
import tiny  # noqa: E402

import onnxdtd  # noqa: E402

MODEL = "models/digits_mlp"
FEW = f"{MODEL}|[dg]*|[pbl]*"  # presets and requests by their first letters


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bytes") / "before.json"
    assert script.main(["record", str(file), "--only", FEW]) == 0
    return file


def compare(file: Path, *more: str) -> int:
    return script.main(["compare", str(file), *more])


def test_the_same_bytes(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = json.loads(recorded.read_text(encoding="utf-8"))["files"][MODEL]
    assert {"default|plain", "dtd|bounds", "dtd|ledger", "gradient|plain"} <= set(entries)
    assert compare(recorded) == 0
    assert f"{len(entries)} of {len(entries)} entries compared, 0 different" in capsys.readouterr().out


def test_a_changed_hash_is_a_difference(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(recorded.read_text(encoding="utf-8"))
    data["files"][MODEL]["dtd|bounds"] = 64 * "0"
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    assert compare(file, "--keep", str(tmp_path / "kept")) == 1
    assert f"DIFFERENT {MODEL}|dtd|bounds: 000" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["models_digits_mlp__dtd__bounds.onnx"]
    assert compare(file, "--only", f"{MODEL}|dtd|plain") == 0


def test_another_model_is_a_difference(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(recorded.read_text(encoding="utf-8"))
    data["models"][MODEL] = ""
    file = tmp_path / "another.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    assert compare(file) == 1
    assert "another model file" in capsys.readouterr().out


def test_an_entry_of_the_metadata_may_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only = f"{MODEL}|dtd|plain"
    for name, more in {"with": [], "without": ["--without", "rules"]}.items():
        assert script.main(["record", str(tmp_path / name), "--only", only, *more]) == 0

    def other(*given: Any, **request: Any) -> Any:
        compiled = onnxdtd.compile(*given, **request)
        next(entry for entry in compiled.metadata_props if entry.key == "onnxdtd.rules").value = "{}"
        return compiled

    monkeypatch.setattr(script, "onnxdtd", SimpleNamespace(**{**vars(onnxdtd), "compile": other}))
    assert compare(tmp_path / "with") == 1
    assert compare(tmp_path / "without") == 0


def test_nothing_compared_is_no_success(recorded: Path) -> None:
    assert compare(recorded, "--only", "models/nothing") == 1


def test_the_quick_comparison_meets_everything(tmp_path: Path) -> None:
    subject = script.Subject(MODEL, ROOT / "models" / "digits_mlp.onnx")
    names = script.presets()
    keys = [key for number in range(4) for key in script.requests(subject, number, names)]
    halves = [{key.split("|")[i] for key in script.thinned(subject, keys)} for i in (0, 1)]
    assert halves[0] == set(names)
    assert halves[1] == {key.split("|")[1] for key in keys}
    assert len(script.thinned(subject, keys)) < len(set(keys)) / 3


REFUSED = {
    "unknown",
    "signs",
    "unknown rank",
    "several outputs",
    "map of classes",
    "clash",
    "oldest",
}


def test_tiny_nets_compile() -> None:
    """But for a few, so that messages are compared too."""
    refused = set()
    for name, proto in tiny.tiny().items():
        try:
            onnxdtd.compile(proto)
        except onnxdtd.OnnxdtdError:
            refused.add(name)
    assert refused == REFUSED
