"""What the guide says of files that mean harm, where no test of a module does: links, and code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import linear
from onnx import external_data_helper

import onnxdtd
from onnxdtd.errors import ModelError

PACKAGE = Path(onnxdtd.__file__).resolve().parent
RUNS = re.compile(  # what would run what a file says
    r"\b(?:eval|exec|__import__|register_custom_ops_library)\(|allow_pickle=True|np\.load\((?![^\n]*allow_pickle=False)"
    r"|^\s*(?:import|from) (?:pickle|dill|joblib|marshal|shelve|yaml)\b",
    re.M,
)


def test_nothing_that_a_file_says_is_run() -> None:
    """No pickles, no libraries of operators, nothing evaluated."""
    for wrong in ("  import pickle", "np.load(file)", "x = eval(text)", "np.load(file, allow_pickle=True)"):
        assert RUNS.search(wrong)
    found = {path: RUNS.findall(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    assert len(found) > 100
    assert {path: what for path, what in found.items() if what} == {}


def test_weights_that_are_a_link_to_elsewhere_are_not_followed(tmp_path: Path) -> None:
    """Neither copied beside a compiled file nor loaded: what a user may read would get into what a stranger may fetch."""
    folder, source = tmp_path / "model", tmp_path / "model" / "net.onnx"
    folder.mkdir()
    made = linear(400)
    external_data_helper.convert_model_to_external_data(made, location="w.bin", size_threshold=0)
    onnx.save(made, source)
    onnxdtd.save(onnxdtd.compile(source), folder / "compiled.onnx", source)
    assert onnxdtd.Explainer(folder / "compiled.onnx")(np.ones((1, 400), np.float32)).relevance
    (folder / "w.bin").rename(tmp_path / "secret.bin")
    (folder / "w.bin").symlink_to(tmp_path / "secret.bin")
    (tmp_path / "other").mkdir()
    with pytest.raises(ModelError, match=r"'w\.bin' lie outside the model's folder; not followed"):
        onnxdtd.save(onnxdtd.compile(source), tmp_path / "other" / "compiled.onnx", source)
    assert not list((tmp_path / "other").iterdir())
    with pytest.raises(ModelError, match="cannot load the model"):
        onnxdtd.Explainer(folder / "compiled.onnx")
