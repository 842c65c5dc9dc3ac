"""`bench` measures what it says it measures; how fast that is, is for scripts/bench.py to show."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import eighths, model, node
from typer.testing import CliRunner

from onnxdtd.cli.commands import app
from onnxdtd.errors import RequestError
from onnxdtd.request import Request
from onnxdtd.study import bench as module
from onnxdtd.study.bench import Timing, bench

RNG = np.random.default_rng(2)


def saved(folder: Path, shape: list[int | str]) -> Path:
    nodes = [
        node("Conv", "x w", "c"),
        node("Relu", "c", "r"),
        node("GlobalAveragePool", "r", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "f v", "y"),
    ]
    proto = model(nodes, {"x": shape}, ["y"], {"w": eighths(RNG, 4, 3, 3, 3), "v": eighths(RNG, 4, 3)})
    onnx.save(proto, folder / "net.onnx")
    return folder / "net.onnx"


def test_each_batch_size_is_timed(tmp_path: Path) -> None:
    found = bench(saved(tmp_path, ["n", 3, 16, 16]), Request(low=[0, 0, 0], high=[1, 1, 1]), [1, 3], rounds=2)
    assert [timing.batch for timing in found] == [1, 3]
    assert all(timing.forward > 0 and timing.explain > 0 for timing in found)


def test_a_fixed_batch_is_timed_as_it_is(tmp_path: Path) -> None:
    assert [t.batch for t in bench(saved(tmp_path, [2, 3, 16, 16]), Request(), [1, 8], rounds=1)] == [2]


def test_open_sizes(tmp_path: Path) -> None:
    assert [t.batch for t in bench(saved(tmp_path, ["n", 3, "h", "w"]), Request(), [2], rounds=1)] == [2]


def test_inputs_that_are_added_are_fed(tmp_path: Path) -> None:
    """The class to explain, and masks, which the predictor alone does not take."""
    asked = Request(target="input", mask=["r"])
    assert [t.batch for t in bench(saved(tmp_path, ["n", 3, 8, 8]), asked, [2], rounds=1)] == [2]


def test_medians_ratio_and_throughput(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks 1, 2, 3 ... seconds: the first run of each is not counted."""
    ticks = iter(np.cumsum(np.arange(1000)))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    (timing,) = module.bench(saved(tmp_path, ["n", 3, 8, 8]), Request(), [4], rounds=3)
    assert timing == Timing(4, forward=9.0, explain=11.0)
    assert timing.ratio == 11 / 9
    assert timing.throughput == 4 / 11


def test_what_cannot_be_timed(tmp_path: Path) -> None:
    path = saved(tmp_path, ["n", 3, 8, 8])
    with pytest.raises(RequestError, match="at least 1"):
        bench(path, Request(), [0])
    with pytest.raises(RequestError, match="no provider 'Abacus'"):
        bench(path, Request(), [1], provider="Abacus")


def test_command_line(tmp_path: Path) -> None:
    path = str(saved(tmp_path, ["n", 3, 8, 8]))
    shown = CliRunner().invoke(app, ["bench", path, "--batch", "2", "--low", "0", "--high", "1"])
    assert shown.exit_code == 0
    assert "explained a second" in shown.stdout
    told = CliRunner().invoke(app, ["bench", path, "--batch", "2", "--json"])
    (timing,) = json.loads(told.stdout)
    assert timing["batch"] == 2
    assert timing["ratio"] == pytest.approx(timing["explain"] / timing["forward"])
