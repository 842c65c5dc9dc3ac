"""The pages that are filed: they say all that was found, of real models, and refuse as the terminal does."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import MODELS, Ran, linear
from terminal import run as run

import onnxdtd
from onnxdtd.contract import COLUMNS
from onnxdtd.report.filed import QUESTIONS, verification_page
from onnxdtd.report.report import report

CNN = MODELS / "digits_cnn.onnx"


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    found = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in found]
    return [[" ".join(html.unescape(re.sub(r"<[^>]*>", " ", cell)).split()) for cell in row] for row in cells]


def parts(text: str) -> list[str]:
    return [html.unescape(title) for title in re.findall(r"<h2>(.*?)</h2>", text)]


def alone(text: str) -> bool:
    """Does a page ask for nothing but itself?"""
    return not re.search(r"<script|<link|https?://|url\(|@import|src=\"(?!data:)|href=\"(?!#)", text)


def test_an_inspection_is_filed(tmp_path: Path, run: Callable[..., Ran]) -> None:
    """The model, what is explained, every rule with its equation and source, every step, and where it comes from."""
    page = tmp_path / "page.html"
    done = run("inspect", CNN, "--low", 0, "--high", 1, "--report", page)
    assert done.code == 0
    assert done.out == f"{run('inspect', CNN, '--low', 0, '--high', 1).out}the report is in {page}\n"
    text = page.read_text(encoding="utf-8")
    assert alone(text)
    assert 'name="color-scheme" content="light"' in text, "dark on white whatever a screen prefers"
    assert parts(text) == [
        "The model",
        "What else can be explained",
        "The rules",
        "The rule of every layer",
        "Where this comes from",
    ]
    found = rows(text)
    told = onnxdtd.inspect(CNN, onnxdtd.Request(low=0.0, high=1.0))
    assert ["input image", "float [batch, 1, 8, 8]"] in found
    assert ["output logits", "float [batch, 10]"] in found
    assert next(row for row in found if row[0] == "exporter")[1].startswith("pytorch")
    for name, rule in told["rules"].items():
        layers = f"{rule['layers']} layer{'s' * (rule['layers'] != 1)}"
        assert [f"{name} {layers}", " ".join(rule["equation"].split()), rule["domain"], rule["source"]] in found
    for step in told["steps"]:
        assert [f"{step['node']} {step['op']}", step["rule"] or step["kind"]] in found
    assert ["z+ Gemm", "2", "node_linear, node_linear_1"] in found
    assert "4 layers of 10 steps share relevance out by 2 rules" in text
    assert ["command", f"onnxdtd inspect {CNN} --low 0 --high 1 --report {page}"] in found


def test_parameters_are_those_of_the_model_whatever_is_added(verified: Path, tmp_path: Path, run: Callable[..., Ran]) -> None:
    """Neither the sizes of a Reshape nor the constants of the relevance pass are any; models/README.md counts the same."""
    counts = []
    for number, words in enumerate([("inspect", CNN), ("verify", verified)]):
        page = tmp_path / f"{number}.html"
        assert run(*words, "--report", page).code == 0
        counts += [row[1] for row in rows(page.read_text(encoding="utf-8")) if row[0] == "parameters"]
    assert counts == ["13,706", "13,706"]


def test_steps_of_a_recurrent_layer_have_a_row() -> None:
    """What each of hundreds takes and gives is in the JSON; a page has what they keep together, and says so."""
    kept = {**dict.fromkeys(COLUMNS, 0.0), "unaccounted": 0.0, "rule": "epsilon", "in": 1.0, "out": 0.75, "bias": 0.25}
    names = [f"dtd/lstm/forward/{i}/Gemm" for i in range(12)]
    page = verification_page(
        {
            "file": {**dict.fromkeys(("name", "exporter", "sha256"), "m"), "opsets": {}, "ir_version": 8, "nodes": 30}
            | {"parameters": 9, "inputs": [], "outputs": []},
            "checks": [],
            "digests": {"file": "m", "predictor": None},
            "passed": True,
            "verdict": "is what it says it is",
            "compiled_by": "1",
            "provenance": {**dict.fromkeys(("bounds", "preprocessing", "data")), "explained": {}, "models": [], "version": "1"}
            | {"runtime": {"onnxruntime": "1", "provider": "CPU"}, "run": {"date": "", "command": ""}, "presets": ["p"]}
            | {"rules": {"p": dict.fromkeys([*names, "top"], "epsilon")}},
            "steps": [{**kept, "step": name} for name in ["top", *names]],
        }
    )
    tables = {table.caption: table for section in page.sections for table in section.tables}
    balance = tables["From the scores to the input"].rows
    assert [(name, kind) for name, kind, _ in balance] == [
        ("1. top", "epsilon"),
        ("2. dtd/lstm/forward/*/Gemm*", "epsilon, 12 steps"),
    ]
    assert [cell.text for cell in balance[1][2]] == ["", "", "300.00%", "0"]
    assert [name for name, *_ in tables["Step by step"].rows] == ["dtd/lstm/forward/*/Gemm*", "top"]


def test_a_refusal_is_filed(tmp_path: Path, run: Callable[..., Ran]) -> None:
    """Every problem with the way out; the exit status and the words at the terminal are those without a page."""
    path, page = tmp_path / "m.onnx", tmp_path / "page.html"
    onnx.save(linear(body="h = Hardmax(x) y = MatMul(h, w)"), path)
    plain, filed = run("inspect", path), run("inspect", path, "--report", page)
    assert (plain.code, plain.err) == (filed.code, filed.err)
    assert plain.code == 1
    found = run("inspect", path, "--json").json
    text = page.read_text(encoding="utf-8")
    assert "This model is refused" in text
    (problem,) = found["problems"]
    assert any(problem["reason"] in row and problem["way_out"] in row for row in rows(text))
    assert parts(text) == ["What stands in the way", "The model"]
    assert alone(text)


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verified") / "cnn.dtd.onnx"
    onnxdtd.save(onnxdtd.compile(CNN, preset="epsilon-plus", low=0.0, high=1.0), path, CNN)
    return path


def test_a_verification_of_layers_that_no_relevance_arrives_at(tmp_path: Path, run: Callable[..., Ran]) -> None:
    """It is filed without a chart."""
    proto = linear(body="h = MatMul(x, v) r = Relu(h) y = MatMul(r, w)")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((4, 4), np.float32), "v"))
    compiled = onnxdtd.compile(proto, preset="lrp-0", ledger=True)
    onnxdtd.save(compiled, tmp_path / "none.onnx")
    done = run("verify", tmp_path / "none.onnx", "--report", tmp_path / "page.html")
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    assert 'class="chart"' not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_verification_is_filed(verified: Path, tmp_path: Path, run: Callable[..., Ran]) -> None:
    """The verdict on top, every check with its question and finding, the balance of every layer, and where it comes from."""
    page, samples = tmp_path / "page.html", MODELS / "digits_samples.npz"
    line = ["verify", verified, "--source", CNN, "--inputs", samples]
    done = run(*line, "--report", page)
    assert done.code == 0
    found, text = run(*line, "--json").json, page.read_text(encoding="utf-8")
    assert alone(text)
    assert ".lead + .summary section { border-left-color: var(--accent); }" in text
    assert text.index("Passed: it is what it says it is") < text.index("<nav")
    shown = rows(text)
    words = {True: "passed", False: "FAILED", None: "remark"}
    for check in found["checks"]:
        assert [f"{check['name']} {QUESTIONS[check['name']]}", words[check["passed"]], check["finding"]] in shown
    assert '<details class="fold" open>\n<summary>What was checked' in text
    heads = next(row for row in shown if row[:3] == ["", "in", "out"])
    for i, step in enumerate(found["steps"], 1):
        row = next(row for row in shown if row[0] == f"{i}. {step['step']} {step['rule']}")
        assert len(row) == len(heads)
        assert row[1] == f"{step['in']:.2%}"
    assert "bias" in heads
    assert text.count('class="chart"') == 1
    told = found["provenance"]
    assert [model["name"] for model in told["models"]] == ["cnn.dtd.onnx", "digits_cnn.onnx"]
    assert told["models"][0]["source_sha256"] == told["models"][1]["source_sha256"]
    assert told["data"]["samples"] == 20
    assert found["file"]["nodes"] > found["file"]["added"] > 0
    assert ["SHA-256", found["digests"]["file"]] in shown
    assert ["SHA-256 of the predictor", found["digests"]["source"]] in shown


def test_what_fails_is_said_first(verified: Path, tmp_path: Path, run: Callable[..., Ran]) -> None:
    """A changed weight: the page has the verdict and the checks that failed on top; the exit status is 1."""
    changed, page = tmp_path / "changed.onnx", tmp_path / "page.html"
    proto = onnx.load(verified)
    proto.graph.initializer[0].raw_data = bytes(len(proto.graph.initializer[0].raw_data))
    onnx.save(proto, changed)
    done = run("verify", changed, "--source", CNN, "--report", page)
    assert done.code == 1
    top = page.read_text(encoding="utf-8").partition("<nav")[0]
    assert "FAILED: " in top
    assert ".lead + .summary section { border-left-color: var(--contra); }" in top
    assert "digest: nodes and weights of the predictor are not those recorded." in top
    assert '<td class="failed">FAILED</td>' in page.read_text(encoding="utf-8")


def test_a_file_whose_metadata_are_damaged_is_filed_too(verified: Path, tmp_path: Path, run: Callable[..., Ran]) -> None:
    """With what it still says, and no more."""
    damaged, page = tmp_path / "damaged.onnx", tmp_path / "page.html"
    proto = onnx.load(verified)
    for entry in proto.metadata_props:
        if entry.key in ("onnxdtd.preset", "onnxdtd.predictor"):
            entry.value = "{"
    onnx.save(proto, damaged)
    done = run("verify", damaged, "--report", page)
    assert done.code == 1
    assert "is no JSON" in page.read_text(encoding="utf-8")


def test_a_page_is_refused_before_anything_is_done(tmp_path: Path, run: Callable[..., Ran], verified: Path) -> None:
    """Where it would destroy something else."""
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    for line in (["inspect", CNN], ["verify", verified]):
        done = run(*line, "--report", kept)
        assert done.code == 2
        assert done.out == ""
        assert "is there already and is no page" in done.err
    assert kept.read_text() == "mine"


def test_the_same_result_gives_the_same_page(run: Callable[..., Ran]) -> None:
    """And names are shown as they are."""
    found = run("inspect", CNN, "--json").json
    assert report(found) == report(json.loads(json.dumps(found)))
    found["steps"][0]["node"] = "<script>alert(1)</script>"
    assert "&lt;script&gt;alert(1)" in report(found)
