"""A search of presets: chosen on one half of the samples, reported on the other."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node
from typer.testing import CliRunner

import onnxdtd
from onnxdtd import Request, RequestError, Settings
from onnxdtd.cli.commands import app
from onnxdtd.contract import read_metadata
from onnxdtd.study import tune as module
from onnxdtd.study.audit import order
from onnxdtd.study.audit.audit import Audit, measurable, together
from onnxdtd.study.audit.auditor import Auditor
from onnxdtd.study.audit.measurement import Task
from onnxdtd.study.evaluate import evaluate
from onnxdtd.study.subject import Subject, spoken_by
from onnxdtd.study.tune import Tuning, findings

HOW = {"settings": Settings(steps=4, samples=10), "presets": ["lrp-epsilon", "dtd"]}


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A net of two dense layers, and twelve samples."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    nodes = [node("Gemm", "x w b", "a"), node("Relu", "a", "h"), node("MatMul", "h v", "y")]
    weights = {"w": eighths(rng, 6, 5), "b": np.abs(eighths(rng, 5)) + 4, "v": eighths(rng, 5, 3)}
    onnx.save(model(nodes, {"x": ["n", 6]}, ["y"], weights), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(12, 6)))  # of which no two have the same relevance
    return tmp_path / "net.onnx", tmp_path / "data.npz"


def samples(path: Path) -> np.ndarray:
    with np.load(path) as arrays:
        return np.asarray(arrays["x"])


def number(name: str) -> int:
    """The place of a sample in its file."""
    return int(name.rpartition("_")[2])


def test_the_numbers_are_those_of_an_evaluation(case: tuple[Path, Path]) -> None:
    """Of the samples on the half to report on."""
    result = onnxdtd.tune(*case, **HOW)
    names = result["settings"]["names"]
    assert len(names) == len(set(names)) == 10
    xs = samples(case[1])
    held = [number(name) for name in names[1::2]]
    np.savez("held.npz", x=xs[held])
    (measured,) = evaluate([case[0]], "held.npz", presets=HOW["presets"], settings=replace(HOW["settings"], samples=None))[
        "models"
    ]
    for mine, other in zip(result["held_out"][1:], measured["presets"], strict=True):
        assert mine["preset"] == other["preset"]
        for key in ("abpc", "aopc", "missing"):
            assert mine[key] == pytest.approx(other["metrics"][key], rel=1e-5), key
    assert result["held_out"][0]["preset"] == result["chosen"]


def test_what_is_chosen_does_not_depend_on_the_half_to_report_on(case: tuple[Path, Path]) -> None:
    first = onnxdtd.tune(*case, **HOW)
    xs = samples(case[1])
    for name in first["settings"]["names"][1::2]:
        xs[number(name)] = np.random.default_rng(number(name)).normal(size=6) * 3
    np.savez(case[1], x=xs)
    second = onnxdtd.tune(*case, **HOW)
    assert second["settings"]["names"] == first["settings"]["names"]
    same = [[(row["preset"], row["abpc"]) for row in found["selection"]] for found in (first, second)]
    assert same[0] == same[1]
    assert second["best"] == first["best"]
    assert second["held_out"] != first["held_out"]


def test_the_file_is_a_preset_with_its_evidence(case: tuple[Path, Path]) -> None:
    given = ["tune", *map(str, (case[0], "--data", case[1], "-o", "tuned.toml", "--steps", 4, "--samples", 10))]
    done = CliRunner().invoke(app, [*given, "--against", "dtd-w2", "--workers", "1"])
    assert done.exit_code == 0, done.output
    text = Path("tuned.toml").read_text(encoding="utf-8")
    title = re.search(r'title = "(.*)"', text)
    assert title is not None
    assert f"# chosen on 5 samples: {title[1]} (" in text
    assert f"chosen on 5 samples: {title[1]} (" in done.stdout
    for words in ("for net.onnx", "10 samples of data.npz, seed 0", "on 5 others its ABPC is", "dtd-w2: ", "z+ → ε: "):
        assert words in text, words
    rules = read_metadata(onnxdtd.compile(case[0], "tuned.toml"))["rules"]
    assert list(rules) == ["a_node", "y_node"]
    again = CliRunner().invoke(app, [*given, "--against", "dtd-w2", "--workers", "1", "--json"])
    assert json.loads(again.stdout)["toml"] == text, "and it may be written again"
    Path("tuned.toml").write_text("mine", encoding="utf-8")
    with pytest.raises(RequestError, match=r"tuned\.toml: is there already and was not written by onnxdtd tune"):
        onnxdtd.tune(*case, out="tuned.toml", **HOW)
    with pytest.raises(RequestError, match=r"give the name of a \.toml file"):
        onnxdtd.tune(*case, out="tuned.txt", **HOW)


def test_copies_and_too_few(case: tuple[Path, Path]) -> None:
    xs = samples(case[1])
    np.savez(case[1], x=xs[[0, 1, 2, 3, 4, 5, 6, 7, 7]])
    found = onnxdtd.tune(*case, **HOW)
    assert found["skipped"] == [{"name": "data_8", "reason": "is a copy of data_7, which may be in the other half"}]
    np.savez(case[1], x=xs[[0, 1, 2, 3, 4, 5, 6, 6, 6, 6]])
    with pytest.raises(RequestError, match="there are 7 different samples; tune takes at least 8"):
        onnxdtd.tune(*case, **HOW)


def test_what_cannot_be_measured_is_named(case: tuple[Path, Path]) -> None:
    Path("bounds.toml").write_text('[preset.bounds]\nlayers = [{ first = true, rule = "zB" }, { rule = "z+" }]')
    found = onnxdtd.tune(*case, **{**HOW, "presets": ["lrp-epsilon", "bounds.toml"]})
    assert [row["preset"] for row in found["held_out"]] == [found["chosen"], "lrp-epsilon"]
    assert "needs the bounds" in found["refused"]["bounds.toml"]


def test_time_bounds_the_number_of_samples(case: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which eight samples take a second under one preset."""
    ticks = iter([0.0, 1.0] * 2)
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks))
    study = Tuning(case[0], Request(), (), ("dtd-w2", "lrp-epsilon"), np.random.default_rng(0).normal(size=(40, 6)))
    study = replace(study, settings=Settings(steps=2, patch=1, samples=40))
    assert len(module._in_time(study, 7 / 60, 1).xs) == 24  # 3.5 times eight
    assert len(module._in_time(study, 0.001, 1).xs) == 8


def numbers(abpc: list[float], change: list[float | None]) -> dict[str, Any]:
    return {"abpc": abpc, "aopc": abpc, "change": change, "missing": [None] * len(abpc)}


def test_of_those_within_a_standard_error_the_steadiest_is_chosen() -> None:
    searched = {
        "best": numbers([1.0, 2.0, 3.0, 4.0], [0.5] * 4),
        "near": numbers([1.2, 1.6, 3.1, 3.9], [0.2] * 4),
        "far": numbers([0.0, 1.0, 2.0, 3.0], [0.1] * 4),
    }
    assert module._chosen(searched) == ("near", "best")
    assert module._chosen({name: n for name, n in searched.items() if name != "near"}) == ("best", "best")
    unmoved = {name: numbers(n["abpc"], [None] * 4) for name, n in searched.items()}
    assert module._chosen(unmoved) == ("best", "best")


def test_what_may_be_concluded() -> None:
    differences = [{"other": name, "side": side} for name, side in (("a", 1), ("b", 0), ("c", 1), ("d", -1), ("e", None))]
    said = findings({"differences": differences, "settings": {"samples": 9}, "chosen": "z+", "best": "ε", "left_out": ""})
    assert said == [
        "chosen on 5 samples: z+ (steadiest within a standard error of ε)",
        "on 4 others its ABPC is above that of a and c; not told from that of b and e; below that of d (95 %, paired)",
    ]


def test_a_table_is_tuned_on_with_the_mean_of_each_feature(case: tuple[Path, Path]) -> None:
    """As an array of the same numbers, of which that is asked for."""
    lines = [",".join(map(repr, row)) for row in samples(case[1]).tolist()]
    Path("data.csv").write_text("\n".join(["a,b,c,d,e,f", *lines]))
    table = onnxdtd.tune(case[0], "data.csv", **HOW)
    array = onnxdtd.tune(*case, settings=replace(HOW["settings"], fill="mean"), presets=HOW["presets"])
    assert table["settings"]["fill"] == "their mean over the samples"
    assert table["selection"] == array["selection"]
    median = onnxdtd.tune(case[0], "data.csv", settings=replace(HOW["settings"], fill="median"), presets=HOW["presets"])
    assert median["selection"] != table["selection"]


def test_texts_are_tuned_on_as_an_audit_measures_them(tmp_path: Path) -> None:
    """Tokens become the one that says nothing; padding, noise and the side of a region play no part."""
    made = pytest.importorskip("tokenizers_made")
    words = ["free", "mobiles call", "now", "a b call", "naive", "free now a", "b", "call call", "free"]
    (tmp_path / "lines.csv").write_text("\n".join(["text", *words]), "utf-8")
    path = tmp_path / "bag.onnx"
    onnx.save(made.bag(np.column_stack([made.scored(), made.scored()[:, :1] + 8.0])), path)
    settings = Settings(tokenizer=str(made.saved(made.wordpiece(), tmp_path)), steps=4)
    options: dict[str, Any] = {"presets": ["lrp-0"], "settings": settings, "journal": tmp_path / "journal"}
    result = onnxdtd.tune(path, tmp_path / "lines.csv", **options)
    assert [one["name"] for one in result["skipped"]] == ["lines_008"]
    assert (result["settings"]["samples"], result["settings"]["fill"]) == (8, "[PAD] (0)")
    assert result["settings"].keys().isdisjoint({"tokenizer", "words"})
    assert "Tokens become [PAD] (0) in 4 steps" in result["toml"]
    assert "change under noise: left out, since no noise on ids is small" in findings(result)
    subject = Subject(path, Request(preset="lrp-0"), tmp_path / "lines.csv", spoken=spoken_by(settings.tokenizer, False))
    items, _, _ = measurable(subject, tmp_path, 8)
    xs, texts = together(subject, items, False, 0, "")
    tuner = Tuning(path, subject.planned.request, (), ("lrp-0",), xs, texts, replace(settings, steps=20)).prepare()
    theirs = order.measure(Auditor(Audit(path, Request(), ("lrp-0",), xs, texts)), Task("lrp-0", "perturbation"))
    found = tuner(0)["samples"]
    assert found["abpc"] == pytest.approx(theirs.samples["abpc"], rel=1e-9)
    assert found["missing"] == pytest.approx([0.0] * 8, abs=1e-6)
    with pytest.raises(RequestError, match="the regions of a text are its tokens"):
        onnxdtd.tune(path, tmp_path / "lines.csv", settings=replace(settings, patch=2))
