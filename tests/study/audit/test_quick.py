"""A quick audit does less, says what it leaves out, and everybody hears how long an audit will take."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import MODELS, Ran
from terminal import run as run

from onnxdtd.cli.study import Expected
from onnxdtd.request import Request
from onnxdtd.study.audit.audit import Audit
from onnxdtd.study.audit.quick import LAYERS, left_out

MLP, DATA = MODELS / "digits_mlp.onnx", MODELS / "digits_samples.npz"
X = np.zeros((1, 1, 8, 8), np.float32)


def test_it_does_less() -> None:
    """Fewer layers, and none of what takes longest; its journal is none of a whole audit's."""
    whole, quick = (Audit(MODELS / "digits_resnet.onnx", Request(), ("lrp-0",), X, quick=quick) for quick in (False, True))
    named = lambda study: [task.measure for task in study.tasks]
    assert {*named(whole)} - {*named(quick)} == {"independent", "convergence"}
    assert named(quick).count("cascading") == LAYERS[1] < named(whole).count("cascading")
    assert whole.identity() != quick.identity()


@pytest.mark.parametrize(("layers", "fewer", "count"), [(3, False, 2), (3, True, 3), (9, True, 4)])
def test_what_is_left_out_is_said(layers: int, fewer: bool, count: int) -> None:
    """What is not less goes unsaid."""
    said = list(left_out(layers, fewer))
    assert len(said) == count
    assert ("to 4 of 9 layers, not to 9." in " ".join(said)) == (layers == 9)


def test_it_says_so_everywhere(tmp_path: Path, run: Callable[..., Ran]) -> None:
    """At the terminal, in JSON and on the page; first of all how much there is to do, and how long that takes."""
    page = tmp_path / "page.html"
    line = ["audit", MLP, "--data", DATA, "--preset", "lrp-epsilon", "--workers", 1, "--journal", tmp_path / "journal"]
    done = run(*line, "--quick", "--report", page)
    assert done.code == 0, done.err
    assert re.match(r"onnxdtd: \d+ units of work, 1 at a time: about .*second", done.err)
    found = run(*line, "--quick", "--json").json
    assert found["settings"]["samples"] == 8
    assert found["settings"]["neurons"] == 4
    text = page.read_text(encoding="utf-8")
    for sentence in found["shortened"]:
        assert sentence in text
        assert f"quick: {sentence}" in done.out
    assert "This audit was a quick one" in text
    assert found["presets"][0]["independent"] == found["presets"][0]["convergence"] == []
    own = run(*line, "--quick", "--samples", 2, "--json").json
    assert own["settings"]["samples"] == 2
    assert not any("At most" in sentence for sentence in own["shortened"])
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_the_estimate_counts_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    """Over all processes, once; of a run that goes on only the rest; nothing where nobody has timed a unit."""
    ticks: list[tuple[int, int]] = []
    expected = Expected(lambda done, units: ticks.append((done, units)), 4)
    expected(0, 9)
    assert capsys.readouterr().err == ""
    expected.time(10.0)
    expected(20, 100)
    expected(21, 100)
    said = "onnxdtd: 80 of 100 units of work, 4 at a time: about 3 minutes, by the time that two of them take"
    assert " ".join(capsys.readouterr().err.split()) == said
    assert ticks == [(0, 9), (20, 100), (21, 100)]
