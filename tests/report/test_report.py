"""The page of a measurement: whole, by itself, honest about what it marks, and safe from what names contain."""

from __future__ import annotations

import copy
import html
import itertools
import math
import os
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import form

from onnxdtd.data.thumbnails import thumbnail
from onnxdtd.errors import RequestError
from onnxdtd.report.charts import Chart, chart
from onnxdtd.report.report import AUDIT, EVALUATION, report, write
from onnxdtd.study.measures import BADNESS
from onnxdtd.study.metrics import METRICS
from onnxdtd.study.tally import RANDOM
from onnxdtd.study.words import number

PRESETS = ("dtd", "lrp-epsilon", "gradient-x-input", "sensitivity")
NODES = ("/0/Conv", "/3/Conv", "/7/Gemm", "/9/Gemm")
STRANGE = "a<b>&\"c'\u00e9\u4e16 {{ 7 * 7 }}"


# ------------------------------------------------------------------------------------------------------------ made-up results


def mean(value: float, error: float | None = 0.01, n: int = 300) -> dict[str, Any]:
    return {"mean": value, "error": error, "n": n}


def metrics(i: int, boxes: bool) -> dict[str, Any]:
    found = {
        "aopc": mean(7.31 - 1.13 * i, 0.0917),
        "abpc": mean(6.42 - 1.27 * i, 0.0853),
        "gini": mean(0.612 + 0.031 * i, 0.00431),
        "positivity": mean(1.0 - 0.187 * i, 0.00219),
        "missing": mean(0.027 + 0.131 * i, 0.0153),
    }
    if boxes:
        found["outside_inside"] = mean(0.412 + 0.093 * i, 0.0212)
        found["mass_accuracy"] = mean(0.713 - 0.041 * i, 0.0111)
        found["rank_accuracy"] = mean(0.654 - 0.037 * i, 0.0123)
        found["pointing_game"] = mean(0.917 - 0.051 * i, 0.0159)
    return found


def curve(height: float, decay: float, steps: int = 16) -> list[float]:
    return [height * math.exp(-decay * k / steps) for k in range(steps + 1)]


def classes(i: int) -> list[dict[str, Any]]:
    return [{"class": c, "label": f"digit {c}", "n": 28 + c, "outside_inside": 0.31 + 0.023 * c + 0.07 * i} for c in range(10)]


def pictures(names: tuple[str, ...], n: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    samples = []
    for k in range(n):
        x, maps = rng.random((1, 8, 8)), rng.normal(size=(len(names), 1, 8, 8))
        made = {name: thumbnail(x, relevance, form(x.shape, 0, 1))[1] for name, relevance in zip(names, maps, strict=True)}
        samples.append(
            {"name": f"digit_{k:03d}", "class": str(k), "input": thumbnail(x, maps[0], form(x.shape))[0], "heatmaps": made}
        )
    return {"samples": samples}


def measured(model: str, presets: tuple[str, ...], boxes: bool) -> dict[str, Any]:
    parts = []
    for i, preset in enumerate(presets):
        curves = {"morf": curve(12.5, 2.5 - 0.4 * i), "lerf": curve(12.5, 0.3 + 0.2 * i), "random": curve(12.5, 1.0)}
        rules = dict.fromkeys(NODES, f"{'z+' if i == 0 else 'epsilon'}")
        part = {"preset": preset, "rules": rules, "metrics": metrics(i, boxes), "curves": curves}
        parts.append(part | ({"classes": classes(i)} if boxes else {}))
    facts = {"model": model, "sha256": "9f2c" * 16, "accuracy": 0.985, "labelled": 200, "samples": 300, "copies": 0}
    return paired(facts | {"random": {"aopc": mean(4.56, 0.05)}, "presets": parts})


def paired(model: dict[str, Any]) -> dict[str, Any]:
    """With the differences that its presets would have were their values independent."""
    known = {p["preset"]: p["metrics"] for p in model["presets"]} | {RANDOM: model["random"]}
    found = []
    for a, b in itertools.combinations(known, 2):
        for metric in (name for name, measure in METRICS.items() if measure.best in BADNESS):
            pair = [known[name].get(metric, {"mean": None}) for name in (a, b)]
            if None not in (pair[0]["mean"], pair[1]["mean"]):
                errors = [one["error"] for one in pair]
                error = None if None in errors else math.hypot(*errors)
                gap = mean(pair[0]["mean"] - pair[1]["mean"], error, n=1 if error is None else 300)
                found.append({"metric": metric, "preset": a, "other": b, **gap})
    return model | {"differences": found}


def evaluation(
    models: tuple[str, ...] = ("digits_cnn.onnx",), presets: tuple[str, ...] = PRESETS, boxes: bool = True
) -> dict[str, Any]:
    settings = {"data": "digits.npz", "samples": 300, "patch": 2, "steps": 16, "share": 1.0, "fill": "zero", "score": "logit"}
    names = tuple(f"{Path(m).stem}: {p}" if len(models) > 1 else p for m in models for p in presets)
    return {
        "kind": EVALUATION,
        "version": "0.1.0",
        "settings": settings | {"target": "predicted", "seed": 0, "low": 0.0, "high": [1.0, 0.5], "presets": list(presets)},
        "models": [measured(model, presets, boxes) for model in models],
        "skipped": [{"name": "img_7", "reason": "label 12 is no class of this model"}],
        "pictures": pictures(names),
    }


def audited(i: int, preset: str) -> dict[str, Any]:
    layers = NODES[::-1]

    def alike(value: float) -> dict[str, float]:
        return {"ssim": value, "spearman": 0.9 * value, "spearman_abs": 0.95 * value}

    def similar(value: float) -> dict[str, float]:
        return {"cosine": value, "spearman": 0.9 * value, "ssim": 0.8 * value}

    shares = {"hinge": 1.0, "domain": 0.913, "region": 0.137, "residual": 0.317, "passes": 0.119}
    starts = [(start, layers[k + 1 :]) for k, start in enumerate(layers[:2])]
    return {
        "preset": preset,
        "rules": dict.fromkeys(NODES, "z+" if i == 0 else "epsilon"),
        "preconditions": None
        if i > 1
        else {
            "positive_biases": 0.417,
            "bias_share": 0.109,
            "outside": 0.0,
            "negative_inputs": 0.043,
            "negative_logits": 0.0,
            "dead": 0.0213,
        },
        "roots": []
        if i > 1
        else [{"layer": node, "rule": "z+", "neurons": 64 * (k + 1), **shares} for k, node in enumerate(NODES)],
        "similarity": {"gradient-x-input": similar(0.513 + 0.1 * i), "sensitivity": similar(0.213 + 0.05 * i)},
        "class_sensitivity": similar(0.871 - 0.2 * i),
        "input_dependence": {"cosine": 0.63 - 0.1 * i, "samples": 0.41},
        "stability": {"noise": 0.02, "heatmap": 0.071, "score": 0.013},
        "perturbation": {"gain": mean(3.21 - 1.1 * i), "abpc": mean(5.43 - 1.2 * i), "fill": "0"},
        "means": {
            "gain": mean(3.21 - 1.1 * i),
            "abpc": mean(5.43 - 1.2 * i),
            "classes": mean(0.871 - 0.2 * i),
            "upper": mean(0.637 - 0.1 * i),
            "input": mean(0.63 - 0.1 * i),
            "stability": mean(0.083 + 0.1 * i),
        },
        "cascading": [{"layer": layer, **alike(0.93 - 0.2 * k - 0.07 * i)} for k, layer in enumerate(layers)],
        "independent": [{"layer": layer, **alike(0.95 - 0.12 * k - 0.05 * i)} for k, layer in enumerate(layers)],
        "convergence": [
            {
                "start": start,
                "layers": [
                    {
                        "layer": layer,
                        "cosine": 1 - 10.0 ** -(1 + k) / (1 + 9 * i),
                        "random": 0.1 + 0.01 * k,
                        "positions": 9,
                    }
                    for k, layer in enumerate(below)
                ],
            }
            for start, below in starts
        ],
        "verdict": [
            f"Of the root points 11.9 % pass under {preset}.",
            "With the top layer random the heatmap stays (SSIM 0.930).",
        ],
    }


def paired_numbers(presets: tuple[str, ...]) -> list[dict[str, Any]]:
    """AOPC tells every preset from every other, the class only the last from all others, nothing else anything."""
    found = []
    for a, b in itertools.combinations(presets, 2):
        for metric, told in (("gain", True), ("classes", b == presets[-1]), ("upper", False)):
            found.append({"metric": metric, "preset": a, "other": b, **mean(1.0, 0.01 if told else 1.0, 50)})
    return found


def audit(presets: tuple[str, ...] = PRESETS) -> dict[str, Any]:
    return {
        "kind": AUDIT,
        "version": "0.1.0",
        "settings": {
            "data": "digits.npz",
            "samples": 50,
            "neurons": 64,
            "noise": 0.02,
            "seed": 0,
            "low": 0,
            "high": 1,
            "presets": list(presets),
        },
        "model": "digits_cnn.onnx",
        "sha256": "9f2c" * 16,
        "presets": [audited(i, preset) for i, preset in enumerate(presets)],
        "copies": 0,
        "labelled": 40,
        "right": 39,
        "differences": paired_numbers(presets),
        "best": {"preset": "lrp-epsilon", "tied": [], "why": ["It depends on the class and on every layer (SSIM 0.26)."]},
        "skipped": [],
        "pictures": pictures(presets),
    }


RESULTS = {
    "one": evaluation(presets=("dtd",), boxes=False),
    "boxes": evaluation(),
    "three": evaluation(("digits_cnn.onnx", "digits_mlp.onnx", "digits_resnet.onnx")),
    "audit": audit(),
    "audit of one": audit(("dtd",)),
}


CHARTS: dict[str, Chart] = {}


@pytest.fixture(autouse=True)
def _drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chart of the same numbers is drawn once for all pages, which takes longer than all else of them."""

    def once(*given: Any, **options: Any) -> Chart:
        key = repr((given, options))
        if key not in CHARTS:
            CHARTS[key] = chart(*given, **options)
        return CHARTS[key]

    for module in ("evaluation", "audit"):
        monkeypatch.setattr(f"onnxdtd.report.{module}.chart", once)


@cache
def text_of(kind: str) -> str:
    return report(RESULTS[kind])


@pytest.fixture(params=RESULTS)
def page(request: pytest.FixtureRequest) -> tuple[dict[str, Any], str]:
    return RESULTS[request.param], text_of(request.param)


class Reader(HTMLParser):
    """Reads a page strictly: every element is closed in its place."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert "svg" in self.open  # elsewhere HTML knows no such thing

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def numbers(result: Any, key: str = "", below: str = "") -> list[str]:
    """Every number in the parts of a result that tables show, as they show it."""
    if isinstance(result, dict):
        inside = "convergence" if "convergence" in (key, below) else key
        left = {"curves", "n", "positions", "perturbation", "stability", "input_dependence"} if key != "means" else {"n"}
        return [v for name, value in result.items() if name not in left for v in numbers(value, name, inside)]
    if isinstance(result, list):
        return [v for value in result for v in numbers(value, key, below)]
    if not isinstance(result, (int, float)):
        return []
    if key in ("accuracy", "labelled", "copies"):
        return []  # said in counts
    return [number(1 - result if below == "convergence" else result, 2 if key == "error" else 3)]


# ----------------------------------------------------------------------------------------------------------------- the page


def test_a_page_is_well_formed(page: tuple[dict[str, Any], str]) -> None:
    reader = Reader(page[1])
    assert page[1].startswith("<!DOCTYPE html>")
    assert reader.having("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in reader.having("meta")
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(reader.having("h1")) == 1
    assert all(attributes.get("scope") in ("row", "col") for attributes in reader.having("th"))
    assert all(attributes.get("alt") for attributes in reader.having("img"))
    drawings = [attributes for attributes in reader.having("svg") if attributes.get("aria-hidden") != "true"]
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in drawings)


def test_a_page_refers_to_nothing_outside(page: tuple[dict[str, Any], str]) -> None:
    reader = Reader(page[1])
    assert "//" not in re.sub(r"data:image/png;base64,[\w+/=]+", "", page[1])
    assert not re.search(r"url\(|@import|javascript:", page[1])
    assert not {"script", "link", "iframe", "object", "form", "use"} & {tag for tag, _ in reader.tags}
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert not {"xlink:href", "srcset"} & attributes.keys()
        assert (attributes.get("href") or "").startswith("#") == (tag == "a")
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
    (policy,) = [m["content"] for m in reader.having("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_a_page_lists_its_contents(page: tuple[dict[str, Any], str]) -> None:
    """Every part once, in order, by a name that leads to it; of a part that is folded to what is in it, which opens it."""
    headings = [html.unescape(title) for title in re.findall(r"<h2>(.*?)</h2>", page[1])]
    contents = page[1][page[1].index("<nav") : page[1].index("</nav>")]
    listed = re.findall(r'<a href="#(\w+)">(.*?)</a>', contents)
    assert [html.unescape(title) for _, title in listed] == headings
    reader = Reader(page[1])
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert [name for name, _ in listed] == ids
    assert not [attributes for attributes in reader.having("details") if "id" in attributes]


def test_tables_fold(page: tuple[dict[str, Any], str]) -> None:
    """Long ones are closed on a screen and open on paper; how many rows there are is said."""
    found = re.findall(
        r'<details class="fold"( open)?>\n<summary>.*?<small>(\d+) (rows?)</small>(.*?)</details>', page[1], re.DOTALL
    )
    assert len(found) >= 4
    for shown, count, word, table in found:
        assert table.count("<tr>") == int(count) + 1
        assert (shown == " open") == (int(count) <= 12)
        assert (word == "row") == (count == "1")
    on_paper = page[1][page[1].index("@media print") :]
    assert re.search(r"details::details-content \{ content-visibility: visible; display: block; height: auto; \}", on_paper)


def test_pictures_can_be_enlarged_without_scripts(page: tuple[dict[str, Any], str]) -> None:
    """Each has a box to tick, and is at least 160 pixels wide before it is ticked."""
    reader = Reader(page[1])
    assert len(reader.having("input")) == len(reader.having("img")) > 0
    assert all(box["type"] == "checkbox" and box["aria-label"] for box in reader.having("input"))
    assert ".maps img { display: block; width: 100%; min-width: 10rem;" in page[1]
    assert re.search(r"\.maps :checked \+ img \{ width: min\(100%, 40rem\)", page[1])


@pytest.mark.parametrize("kind", ["boxes", "audit"])
def test_signs_are_explained_where_a_logit_is_negative(kind: str) -> None:
    """And only there; every logit is said."""
    assert "explained logits are negative" not in Reader(text_of(kind)).text
    result = copy.deepcopy(RESULTS[kind])
    for shown, logit in zip(result["pictures"]["samples"], (2.5, -1.25, 3.0), strict=True):
        shown["logits"] = {"digits_cnn.onnx": logit}
    text = Reader(report(result)).text
    assert "1 of 3 explained logits is negative, and relevance adds up to that" in text
    assert "digit_001 1, logit -1.25 (negative)" in text
    assert "digit_002 2, logit 3.00 input" in text


def test_a_page_has_every_number(page: tuple[dict[str, Any], str]) -> None:
    result, text = page
    shown = [word.strip(",.;") for word in Reader(text).text.split()]
    parts = result["models"] if result["kind"] == EVALUATION else result["presets"]
    found = numbers(parts)
    assert len(found) > 10
    assert not [value for value in found if value not in shown]


def test_the_same_result_gives_the_same_bytes(page: tuple[dict[str, Any], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # its charts are drawn again
    assert report(copy.deepcopy(page[0])) == page[1]


# ------------------------------------------------------------------------------------------------------------- where it is from

PROVENANCE: dict[str, Any] = {
    "version": "0.3.0",
    "models": [
        {"name": "m.onnx", "source_sha256": "1a" * 32, "compiled_sha256": "2b" * 32, "weights": {"w.bin": "3c" * 32}},
    ],
    "presets": ["dtd", "gradient"],
    "rules": {},
    "settings": ["conv1=gamma"],
    "bounds": {"low": [[[0.0]] * 20], "high": 1.0},
    "preprocessing": {"mean": [0.5, 0.25], "std": None},
    "explained": {"output": "p", "logits": "z", "stepped_back": ["Softmax 'p'"], "target": "argmax", "contrast": "rest"},
    "runtime": {"onnxruntime": "1.31.0", "provider": "CPUExecutionProvider"},
    "data": {"files": 1, "names": ["d.npz"], "sha256": "4d" * 32, "samples": 2, "tokenizer_sha256": "5e" * 32},
    "run": {"date": "2026-11-27T00:17:44+00:00", "command": "onnxdtd audit 'a b.onnx'"},
}


@pytest.mark.parametrize("kind", ["boxes", "audit"])
def test_a_page_says_where_it_comes_from(kind: str) -> None:
    """All of the record, in words."""
    text = report(RESULTS[kind] | {"provenance": PROVENANCE})
    found = dict(row for row in rows(text[text.index("<h2>Where this comes from") :]) if len(row) == 2)
    assert found == {
        "": "value",
        "compiled file": "m.onnx",
        "SHA-256 of the compiled file": "2b" * 32,
        "SHA-256 of its source, as it says": "1a" * 32,
        "SHA-256 of w.bin": "3c" * 32,
        "presets": "dtd, gradient",
        "rules set by hand": "conv1=gamma",
        "explained": "the score of the predicted class in 'z', in front of Softmax 'p', less the mean of all other classes",
        "bounds of the input": "20 times 0 to 1",
        "preprocessing": "mean 0.5, 0.25",
        "data": "2 samples of d.npz",
        "SHA-256 of the data": "4d" * 32,
        "SHA-256 of the tokenizer": "5e" * 32,
        "onnxdtd": "0.3.0",
        "ONNX Runtime": "1.31.0, CPUExecutionProvider",
        "date": "2026-11-27 00:17:44 UTC",
        "command": "onnxdtd audit 'a b.onnx'",
    }
    assert found["SHA-256 of its source, as it says"] not in text_of(kind)
    folder = {**PROVENANCE, "data": {"files": 3, "names": ["a.png", "c.png"], "sha256": "4d", "samples": 3}}
    named = rows(report(RESULTS[kind] | {"provenance": folder}))
    assert ["data", "3 samples of 3 files, a.png … c.png"] in named
    assert ["SHA-256 of the data, one file after the other", "4d"] in named


# -------------------------------------------------------------------------------------------------------------------- names


def renamed(value: Any, key: str = "") -> Any:
    """The same result with ``STRANGE`` at the end of every name and sentence in it."""
    if isinstance(value, dict):
        if key not in ("rules", "heatmaps"):
            return {name: renamed(one, name) for name, one in value.items()}
        return {name + STRANGE: renamed(one, key) for name, one in value.items()}
    if isinstance(value, list):
        return [renamed(one, key) for one in value]
    kept = key in ("kind", "score", "metric", "input", "heatmaps") or value == RANDOM
    return value + STRANGE if isinstance(value, str) and not kept else value


@pytest.mark.parametrize("kind", RESULTS)
def test_strange_names_are_shown_as_they_are(kind: str) -> None:
    plain, strange = Reader(text_of(kind)), Reader(report(renamed(RESULTS[kind])))
    assert [tag for tag, _ in strange.tags] == [tag for tag, _ in plain.tags]
    for name in ("dtd", "digits_cnn.onnx", "/3/Conv", "digit_001", "digits.npz", "z+"):
        assert name + STRANGE in strange.text
    assert strange.text.count("49") == plain.text.count("49")


def test_long_names_may_break() -> None:
    long = evaluation(("m" * 300 + ".onnx",), ("p" * 200,))
    long["models"][0]["presets"][0]["rules"] = {"/features" * 40: "epsilon"}
    text = report(long)
    assert re.search(r"main \{[^}]*overflow-wrap: anywhere", text)
    assert "/features" * 40 in Reader(text).text


# ------------------------------------------------------------------------------------------------------- what may be missing


@pytest.mark.parametrize("key", ["pictures", "skipped"])
@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_without_pictures_or_skipped_samples(kind: str, key: str) -> None:
    reader = Reader(report({name: value for name, value in RESULTS[kind].items() if name != key}))
    assert {"pictures": "What was relevant", "skipped": "Skipped samples"}[key] not in reader.text


@pytest.mark.parametrize("key", ["curves", "classes"])
def test_an_evaluation_without(key: str) -> None:
    result = copy.deepcopy(RESULTS["boxes"])
    for preset in result["models"][0]["presets"]:
        del preset[key]
    reader = Reader(report(result))
    assert {"curves": "Perturbation", "classes": "outside and inside of"}[key] not in reader.text


def test_a_model_on_which_nothing_was_measured() -> None:
    result = copy.deepcopy(RESULTS["three"])
    nothing = {"metrics": {}, "curves": {"random": []}, "classes": []}
    result["models"][1] |= {"accuracy": None, "labelled": 0, "samples": 0, "random": {}, "differences": []}
    result["models"][1]["presets"] = [preset | nothing for preset in result["models"][1]["presets"]]
    text = Reader(report(result)).text
    assert "digits_mlp.onnx Nothing could be measured on it." in text
    assert "Perturbation: digits_resnet.onnx" in text
    assert "Perturbation: digits_mlp.onnx" not in text


def test_findings_come_before_the_numbers_behind_them() -> None:
    result = copy.deepcopy(RESULTS["audit"])
    result["presets"][0]["verdict"] = ["Class: depends on it; by 0.5 < 1.", "Input: left out, since it is one."]
    page = report(result)
    assert "<dt>Class</dt><dd><b>depends on it</b>; by 0.5 &lt; 1.</dd>" in page
    assert "<dt>Input</dt><dd>left out, since it is one.</dd>" in page


def test_an_audit_without_the_name_of_its_data() -> None:
    result = copy.deepcopy(RESULTS["audit"])
    del result["settings"]["data"]
    assert "50 samples, 4 presets" in Reader(report(result)).text


def test_preprocessing_is_among_the_settings() -> None:
    """What was asked for, and no more."""
    for kind in RESULTS:
        result = copy.deepcopy(RESULTS[kind])
        result["settings"]["preprocessing"] = {"range": None, "mean": [0.5, 0.25], "std": 2.0, "colours": "bgr", "resize": None}
        assert "preprocessing of pictures mean 0.5, 0.25; std 2; colours bgr" in Reader(report(result)).text


def test_layers_of_branches_stand_in_their_order() -> None:
    """A branch has layers of its own, which lie between those of the trunk."""
    result = copy.deepcopy(RESULTS["audit of one"])
    lists = {"/9/Gemm": ["/9/Gemm", "/7/Gemm", "/0/Conv"], "/5/Conv": ["/5/Conv", "/4/Conv", "/0/Conv"]}
    result["presets"][0]["convergence"] = [
        {"start": start, "layers": [{"layer": layer, "cosine": 0.5, "random": 0.1} for layer in below]}
        for start, below in lists.items()
    ]
    text = report(result)
    table = text[text.index("<h2>Convergence of relevance") :]
    named = [row[0] for row in rows(table) if row[0][:1].isdigit()]
    assert named == ["1. /9/Gemm", "2. /7/Gemm", "3. /5/Conv", "4. /4/Conv", "5. /0/Conv"]


def test_layers_where_random_vectors_are_alike_are_not_drawn() -> None:
    """An input with one channel: everything arrives as one pattern there, and that says nothing."""
    result = copy.deepcopy(RESULTS["audit of one"])
    layers = [{"layer": "/2/Gemm", "cosine": 0.5, "random": 0.1}, {"layer": "/1/Conv", "cosine": 0.75, "random": 0.1}]
    result["presets"][0]["convergence"] = [{"start": "/2/Gemm", "layers": layers}]
    plain = report(result)
    layers.append({"layer": "/0/Conv", "cosine": 1.0, "random": 1.0})
    text = report(result)
    said = "At /0/Conv vectors are so short that random ones are alike too: nothing is told there."
    assert said in Reader(text).text
    assert "so short" not in Reader(plain).text
    assert "1e-08" not in text[text.index("<h2>Convergence of relevance") :], (
        "the axis does not go down to where nothing is told"
    )


def test_a_page_that_shows_some_samples_says_how_many() -> None:
    result = copy.deepcopy(RESULTS["audit"])
    count = len(result["pictures"]["samples"])
    assert f"{count} samples of {count + 1} are shown." not in Reader(report(result)).text
    result["settings"]["samples"] = count + 1
    assert f"{count} samples of {count + 1} are shown." in Reader(report(result)).text


AUDITED = {
    "preconditions": "Preconditions",
    "roots": "Root points",
    "similarity": "cosine with gradient × input",
    "means": "blindness to the class",
    "cascading": "left after randomising",
    "convergence": "Convergence of relevance",
}


@pytest.mark.parametrize("empty", [None, False])
@pytest.mark.parametrize("key", AUDITED)
def test_an_audit_without(key: str, empty: bool | None) -> None:
    """Absent, or there with nothing in it."""
    result = copy.deepcopy(RESULTS["audit"])
    for preset in result["presets"]:
        if empty is None:
            preset[key] = None
        else:
            del preset[key]
    assert AUDITED[key] in Reader(text_of("audit")).text
    assert AUDITED[key] not in Reader(report(result)).text


def test_unknown_numbers_are_dashes() -> None:
    result = copy.deepcopy(RESULTS["boxes"])
    first, second = result["models"][0]["presets"][:2]
    first["metrics"]["aopc"] = {"mean": None, "error": None, "n": 0}
    result["models"] = [paired(result["models"][0])]
    second["metrics"]["gini"]["error"] = None
    second["curves"]["morf"][3] = None
    row = next(row for row in rows(report(result)) if row[0].startswith("AOPC"))
    assert row[1] == "-"
    assert "★" in row[2]
    row = next(row for row in rows(report(result)) if row[0].startswith("Gini"))
    assert row[2] == number(0.643)


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    found = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in found]
    return [[" ".join(html.unescape(re.sub(r"<[^>]*>", " ", cell)).split()) for cell in row] for row in cells]


# ----------------------------------------------------------------------------------------------------------- what it judges


def summary(result: dict[str, Any]) -> str:
    text = report(result)
    nav = text[text.index("<nav") : text.index("</nav>") + len("</nav>")]
    return Reader(text[text.index('<div class="summary">') : text.index("<h2>")].replace(nav, "").rsplit("<section", 1)[0]).text


def with_metric(key: str, *means: tuple[float, float | None]) -> dict[str, Any]:
    """An evaluation in which the presets have these means and standard errors of one metric."""
    result = evaluation(presets=PRESETS[: len(means)], boxes=True)
    for preset, (value, error) in zip(result["models"][0]["presets"], means, strict=True):
        preset["metrics"][key] = mean(value, error)
    result["models"] = [paired(result["models"][0])]
    return result


@pytest.mark.parametrize(
    ("key", "means", "marks"),
    [
        ("aopc", [(1.0, 0.1), (2.0, 0.1), (1.8, 0.1)], ["", "★", "≈"]),
        ("aopc", [(1.0, 0.1), (2.0, 0.1), (1.7, 0.1)], ["", "★", ""]),
        ("aopc", [(2.0, None), (1.9999, 0.1), (1.0, 0.1)], ["", "", ""]),
        ("outside_inside", [(0.3, 0.01), (0.2, 0.01), (0.22, 0.01)], ["", "★", "≈"]),
        ("gini", [(0.1, 0.01), (0.9, 0.01)], ["", ""]),
        ("aopc", [(1.0, 0.1)], [""]),
        ("aopc", [(1.5, 0.1), (1.5, 0.1), (1.0, 0.1)], ["★", "≈", ""]),
        ("aopc", [(1.6, 0.1), (1.5, 0.1), (1.4, 0.1)], ["", "", ""]),
        ("aopc", [(1.5, 0.1), (1.5, 0.1)], ["", ""]),
    ],
)
def test_the_best_is_marked(key: str, means: list[tuple[float, float | None]], marks: list[str]) -> None:
    text = report(with_metric(key, *means))
    row = next(row for row in rows(text) if row[0].startswith(METRICS[key].title) and "±" in row[-1])
    assert [cell.split()[-1] if cell[-1] in "★≈" else "" for cell in row[1:]] == marks


def test_the_summary_of_an_evaluation() -> None:
    text = summary(with_metric("aopc", (1.0, 0.1), (2.0, 0.1), (1.8, 0.1), (0.5, 0.1)))
    assert (
        "AOPC: no single best; lrp-epsilon (2.00 ± 0.10) and gradient-x-input (1.80 ± 0.10): paired differences do not" in text
    )
    assert "sensitivity (0.500 ± 0.10) is 1.50 ± 0.14 behind lrp-epsilon." in text
    assert "right on 197 of 200 samples with a label" in text
    text = summary(with_metric("aopc", (1.0, 0.1), (2.0, 0.1), (1.5, 0.1), (0.5, 0.1)))
    assert "lrp-epsilon (2.00 ± 0.10) is best, 0.500 ± 0.14 ahead of gradient-x-input (1.50 ± 0.10)" in text


def test_one_sample_tells_nothing() -> None:
    text = summary(with_metric("aopc", (1.0, None), (2.0, None)))
    assert "no single best; lrp-epsilon (2.00) and dtd (1.00): one sample tells nothing apart." in text
    assert "not told from it: lrp-epsilon, dtd" in text


def test_differences_are_those_of_pairs_and_not_of_means() -> None:
    """Means that overlap by far, of presets that differ by the same in every sample; and the other way round."""
    result = with_metric("aopc", (1.0, 0.5), (2.0, 0.5))
    same = {"error": 0.001, "mean": -1.0, "n": 300, "metric": "aopc", "preset": "dtd", "other": "lrp-epsilon"}
    others = [one for one in result["models"][0]["differences"] if (one["metric"], one["other"]) != ("aopc", "lrp-epsilon")]
    result["models"][0]["differences"] = [*others, same]
    assert "lrp-epsilon (2.00 ± 0.50) is best, 1.00 ± 0.0010 ahead of dtd (1.00 ± 0.50) in paired" in summary(result)
    assert "-1.00 ± 0.0010" in next(row for row in rows(report(result)) if row[0] == "dtd − lrp-epsilon")
    result["models"][0]["differences"][-1]["error"] = 0.6
    assert "no single best" in summary(result)


def test_copies_are_counted() -> None:
    result = RESULTS["one"] | {"models": [RESULTS["one"]["models"][0] | {"copies": 3}]}
    assert "3 of 300 samples are copies of others" in summary(result)
    assert "1 of 50 samples is a copy of another" in summary(RESULTS["audit"] | {"copies": 1})
    assert not any("cop" in summary(RESULTS[kind]) for kind in ("one", "audit"))


def test_empty_heatmaps_are_counted() -> None:
    result = copy.deepcopy(RESULTS["one"])
    assert "zero everywhere" not in summary(result)
    result["models"][0]["presets"][0]["empty"] = 7
    assert "dtd: 7 of 300 heatmaps are zero everywhere" in summary(result)
    result["models"][0]["presets"][0]["empty"] = 300
    assert "dtd: all 300 heatmaps are zero everywhere." in summary(result)


@pytest.mark.parametrize(("gap", "words"), [(0.279, "is best"), (0.278, "no single best")])
def test_a_lead_exceeds_chance(gap: float, words: str) -> None:
    """The quantile of Student's t with 299 degrees of freedom, 1.968, times sqrt(0.1² + 0.1²) is 0.2783."""
    assert words in summary(with_metric("aopc", (2.0, 0.1), (2.0 - gap, 0.1))).partition("ABPC")[0]


def test_the_summary_names_presets_no_better_than_chance() -> None:
    """The random order has 4.56 ± 0.05; two standard errors of 4.8 ± 0.1 less that are 0.22, of 4.8 ± 0.2, 0.41."""
    has = "AOPC of a random order: 4.56 ± 0.050; "
    assert has + "better: lrp-epsilon, dtd." in summary(with_metric("aopc", (4.8, 0.1), (5.0, 0.1)))
    assert has + "better: dtd; not told from it: lrp-epsilon." in summary(with_metric("aopc", (9, 1), (4.8, 0.2)))
    assert has + "better: dtd; worse: lrp-epsilon." in summary(with_metric("aopc", (9, 1), (1.0, 0.01)))
    assert "ABPC of a random order: 0; better: dtd; worse: lrp-epsilon." in summary(with_metric("abpc", (1, 0.1), (-1, 0.1)))


def test_sensitivity_may_be_the_best() -> None:
    text = summary(with_metric("aopc", (1.0, 0.1), (2.0, 0.1), (1.8, 0.1), (2.5, 0.1)))
    assert "AOPC: sensitivity (2.50 ± 0.10) is best" in text
    assert "behind" not in text.partition("ABPC")[0]


def test_the_summary_of_an_audit() -> None:
    text = summary(RESULTS["audit"])
    assert text.startswith("lrp-epsilon fares best It depends on the class")
    assert "The model is right on 39 of 40 samples with a label. Explained is the class that it predicts." in text
    for preset in PRESETS:
        assert f"pass under {preset}." in text
    tied = RESULTS["audit"] | {"best": {"preset": None, "tied": ["dtd", "sensitivity"], "why": ["Level."]}}
    assert summary(tied).startswith("No single winner: dtd and sensitivity are level Level.")
    none = RESULTS["audit"] | {"best": {"preset": None, "tied": [], "why": ["Chance."]}, "labelled": 0}
    assert summary(none).startswith("No winner Chance. Explained is")


def test_an_audit_marks_what_paired_differences_tell() -> None:
    found = {row[0].split("\u00a0")[0]: row[1:] for row in rows(text_of("audit")) if len(row) == 5}
    of = lambda name: next(cells for title, cells in found.items() if title.startswith(name))
    marks = lambda name: [cell[-1] if cell[-1] in "★≈" else "" for cell in of(name)]
    assert marks("AOPC over random") == ["★", "", "", ""]
    assert marks("blindness to the class") == ["", "", "", "★"]
    assert marks("blindness to upper layers") == ["", "", "", ""]
    assert marks("root points in order") == ["", "", "", ""], "without errors nobody is best"


def test_root_points_count_by_neuron() -> None:
    result = copy.deepcopy(RESULTS["audit of one"])
    for root, passes, neurons in zip(result["presets"][0]["roots"], (1.0, 0.0, 0.5, None), (30, 10, 10, 10), strict=True):
        root["passes"], root["neurons"] = passes, neurons
    assert ["root points in order ↑ higher is better", "0.700"] in rows(report(result))
    result["presets"][0]["rules"] = dict.fromkeys(map(str, range(7)), "z+")
    assert "root points in order" not in report(result), "three of seven layers do not speak for all"


def test_several_models_stand_side_by_side() -> None:
    one, three = Reader(text_of("boxes")), Reader(text_of("three"))
    assert "side by side" not in one.text
    assert "side by side" in three.text
    assert "no scale in common" in three.text
    for name in ("digits_cnn.onnx", "digits_mlp.onnx", "digits_resnet.onnx"):
        assert f"Perturbation: {name}" in three.text
    assert len(three.having("img")) == 3 * 3 * (1 + len(PRESETS))


def test_many_skipped_samples_are_counted() -> None:
    many = [{"name": f"bad_{i}", "reason": "is cut off"} for i in range(1234)]
    text = Reader(report(RESULTS["boxes"] | {"skipped": many})).text
    assert "1,234 samples" in text
    assert text.count("is cut off") == 100


def test_every_metric_is_explained() -> None:
    meanings = Reader(text_of("boxes")).text
    for measure in METRICS.values():
        assert f"{measure.title} {measure.meaning}" in meanings
        assert measure.head.removeprefix(measure.title).strip() == {"h": "↑", "l": "↓", "": ""}[measure.best[:1]]
        assert any(row[0].startswith(measure.head.replace("\u00a0", " ")) for row in rows(text_of("boxes")))
        assert measure.meaning.endswith(".")


# ------------------------------------------------------------------------------------------------------------------- writing


def test_writing(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    write(path, RESULTS["one"])
    assert path.read_text(encoding="utf-8") == text_of("one")
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_writing_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "link.html").symlink_to("page.html")
    write(tmp_path / "link.html", RESULTS["one"])
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "page.html").stat().st_size > 1000


@pytest.mark.parametrize("target", ["folder", "missing/page.html", "file/page.html", "n" * 300, "loop", "pipe"])
def test_what_cannot_be_written_is_refused(target: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RequestError, match=re.escape(str(tmp_path))):
        write(tmp_path / target, RESULTS["one"])
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failure_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RequestError, match=r"page\.html: cannot be written \(No space left on device\)"):
        write(path, RESULTS["one"])
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "old"
