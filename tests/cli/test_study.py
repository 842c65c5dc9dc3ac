"""``onnxdtd evaluate`` as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from terminal import Ran
from typer.testing import CliRunner, Result

import onnxdtd
from onnxdtd.cli import study as cli_study
from onnxdtd.cli.commands import app
from onnxdtd.errors import RequestError
from onnxdtd.request import Request
from onnxdtd.study.evaluate import Settings

MODELS = Path(__file__).resolve().parents[2] / "models"
MODEL, DATA = str(MODELS / "digits_cnn.onnx"), str(MODELS / "digits_samples.npz")
BOUNDS = ["--low", "0", "--high", "1"]
FEW = ["--steps", "3", "--workers", "1", "--preset", "dtd"]


def lasting(result: Any) -> Any:
    """A result without what differs from run to run."""
    result["provenance"].pop("run")
    return result


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_study.out, "width", 160)


def test_evaluate_shows_a_table_and_writes_a_page() -> None:
    result = invoke("evaluate", MODEL, "--data", DATA, *BOUNDS, *FEW, "--preset", "sensitivity", "--report", "page.html")
    assert result.exit_code == 0, result.output
    assert "digits_cnn.onnx: 20 samples" in result.stdout
    assert "The model is right on 20 of 20 samples with a label." in result.stdout
    head = next(line for line in result.stdout.splitlines() if "preset" in line)
    assert [cell.strip() for cell in head.replace("\u00a0", " ").strip("┃").split("┃")][1:] == [
        "AOPC ↑",
        "ABPC ↑",
        "Gini",
        "positivity",
        "missing ↓",
    ]
    rows = [line for line in result.stdout.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["dtd", "sensitivity", "random order"]
    assert "±" in rows[0]
    assert "<title>" in Path("page.html").read_text(encoding="utf-8")
    assert [path.name for path in Path().iterdir()] == ["page.html"], "the journal is gone"


def test_evaluate_as_json() -> None:
    result = invoke("evaluate", MODEL, "--data", DATA, *BOUNDS, *FEW, "--json", "--samples", "3", "--fill", "blur")
    found = json.loads(result.stdout)
    assert found["settings"]["fill"] == "blur"
    assert found["models"][0]["samples"] == 3
    assert found["models"][0]["presets"][0]["metrics"]["aopc"]["n"] == 3


def test_the_command_line_prints_what_the_function_returns() -> None:
    result = invoke("evaluate", MODEL, "--data", DATA, *BOUNDS, *FEW, "--json", "--samples", "3")
    few, request = Settings(steps=3, samples=3), Request(low=0.0, high=1.0)
    ticks: list[tuple[int, int]] = []
    tell = lambda done, units: ticks.append((done, units))
    found = onnxdtd.evaluate([MODEL], DATA, request, presets=["dtd"], settings=few, tick=tell)
    assert lasting(found) == lasting(json.loads(result.stdout))
    assert ticks == [(0, 1), (1, 1)]


def test_the_command_line_prints_what_an_audit_returns() -> None:
    result = invoke("audit", MODEL, "--data", DATA, *BOUNDS, "--preset", "dtd", "--workers", "1", "--samples", "3", "--json")
    found = onnxdtd.audit(MODEL, DATA, Request(low=0.0, high=1.0), presets=["dtd"], samples=3)
    assert lasting(found) == lasting(json.loads(result.stdout))
    assert [shown["name"] for shown in found["pictures"]["samples"]] == [
        "digits_samples_00",
        "digits_samples_01",
        "digits_samples_02",
    ]
    assert set(found["pictures"]["samples"][0]["heatmaps"]) == {"dtd"}


def test_skipped_samples_are_named_on_standard_error() -> None:
    image, label = digits()
    np.savez("bad.npz", image=image, label=np.where(np.arange(20) == 5, 77, label))
    result = invoke("evaluate", MODEL, "--data", "bad.npz", *BOUNDS, *FEW)
    assert result.exit_code == 0
    assert "skipped bad_05: label 77 is no class of this model" in result.stderr
    assert "19 samples" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere.npz"], "no such file or folder"),
        (["--data", DATA, "--steps", "0"], "--steps 0"),
        (["--data", DATA, "--workers", "0"], "--workers 0"),
        (["--data", DATA, "--fill", "high"], "needs the bounds"),
        (["--data", DATA, "--preset", "nonsense"], "nonsense"),
        (["--data", DATA, "--report", "nowhere/page.html"], "nowhere/page.html"),
        (["--data", DATA, "--report", "."], "is a folder"),
        (["--data", DATA, "--journal", "nowhere/journal"], "cannot be written"),
    ],
)
def test_refusals(arguments: list[str], words: str, run: Callable[..., Ran]) -> None:
    usual = {"--workers": "1", "--steps": "2"}
    done = run("evaluate", MODEL, *arguments, *(word for pair in usual.items() if pair[0] not in arguments for word in pair))
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not Path("nowhere").exists()


def digits() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DATA) as data:
        return data["image"], data["label"]


def many(count: int) -> None:
    """The digits over and over, in many.npz."""
    image, label = digits()
    np.savez("many.npz", image=np.resize(image, (count, *image.shape[1:])), label=np.resize(label, count))


def started(command: list[str]) -> subprocess.Popen[str]:
    """A process that hears of interrupts, also where whoever runs the tests ignores them (as a job in the background does)."""
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, preexec_fn=listen)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="interrupts are sent otherwise there")
def test_an_interrupted_run_goes_on() -> None:
    many(400)
    command = ["evaluate", MODEL, "--data", "many.npz", *BOUNDS, "--preset", "dtd", "--json", "--workers", "1", "--journal"]
    whole = invoke(*command, "other").stdout
    process = started([sys.executable, "-m", "onnxdtd", *command, "journal"])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (Path("journal").exists() and Path("journal").stat().st_size > 2 * 4096):
        time.sleep(0.02)  # until there are more pages than those of an empty table
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in message
    assert "the same command goes on from here; until then, what is done is in journal" in message
    with closing(sqlite3.connect("journal")) as journal:
        ((done,),) = journal.execute("SELECT count(*) FROM results")
    assert 1 <= done < 100
    assert json.loads(whole)["models"][0]["samples"] == 400
    assert lasting(json.loads(invoke(*command, "journal").stdout)) == lasting(json.loads(whole))
    assert not Path("journal").exists()


@pytest.mark.parametrize("command", ["evaluate", "audit"])
@pytest.mark.parametrize("what", ["model", "data", "labels"])
def test_a_report_takes_the_place_of_no_other_file(command: str, what: str) -> None:
    files = {"model": Path("model.onnx"), "data": Path("data.npz"), "labels": Path("labels.txt")}
    files["model"].write_bytes(Path(MODEL).read_bytes())
    files["data"].write_bytes(Path(DATA).read_bytes())
    files["labels"].write_text("\n".join(map(str, range(10))))
    before = files[what].read_bytes()
    for option in ("--report", "--journal"):
        result = invoke(
            command, "model.onnx", "--data", "data.npz", "--labels", "labels.txt", *FEW[2:], option, str(files[what])
        )
        assert isinstance(result.exception, RequestError)
        assert "is there already and is no" in str(result.exception)
        assert files[what].read_bytes() == before


@pytest.mark.parametrize("command", ["evaluate", "audit"])
def test_seeds_are_counted_from_zero(command: str) -> None:
    result = invoke(command, MODEL, "--data", DATA, *FEW[2:], "--seed", "-1")
    assert isinstance(result.exception, RequestError)
    assert str(result.exception) == "--seed -1: give at least 0"


def test_a_page_may_be_written_again() -> None:
    few = ["--samples", "1", "--report", "page.html"]
    for _ in range(2):
        assert invoke("evaluate", MODEL, "--data", DATA, *BOUNDS, *FEW, *few).exit_code == 0


def test_what_was_measured_is_shown_even_if_the_page_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxdtd.report.report.report", lambda _: 1 / 0)
    result = invoke("evaluate", MODEL, "--data", DATA, *BOUNDS, *FEW, "--json", "--samples", "1", "--report", "page.html")
    assert isinstance(result.exception, ZeroDivisionError)
    assert json.loads(result.stdout)["models"][0]["samples"] == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="interrupts are sent otherwise there")
@pytest.mark.parametrize("wait", [0.0, 0.5])
def test_workers_are_interrupted_without_tracebacks(wait: float) -> None:
    many(2000)
    command = [sys.executable, "-m", "onnxdtd", "evaluate", MODEL, "--data", "many.npz", *BOUNDS, "--preset", "dtd"]
    command += ["--workers", "2", "--journal", "journal"]
    process = started(command)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not Path("journal").exists():
        time.sleep(0.01)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert message == "onnxdtd: interrupted; the same command goes on from here\n"


@pytest.mark.parametrize("size", [1e38, 1e300])
def test_an_audit_leaves_out_samples_that_overflow(size: float) -> None:
    x = digits()[0][:3].astype(np.float64)
    x[1] *= size
    np.savez("some.npz", image=x)
    found = json.loads(invoke("audit", MODEL, "--data", "some.npz", *FEW[2:], "--neurons", "2", "--json").stdout)
    assert found["skipped"] == [{"name": "some_1", "reason": "the scores of the model are NaN or infinite"}]
    assert found["settings"]["samples"] == 2
    np.savez("some.npz", image=x[1:2])
    result = invoke("audit", MODEL, "--data", "some.npz", *FEW[2:])
    assert isinstance(result.exception, RequestError)
    assert "none of the samples could be measured" in str(result.exception)
