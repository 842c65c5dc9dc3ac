"""Several presets and several classes side by side: the numbers are those of each alone, and there is one picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node

import onnxdtd
from onnxdtd import Request
from onnxdtd.data.look import Caption
from onnxdtd.errors import RequestError
from onnxdtd.study import beside
from onnxdtd.study.results import Flag, Result

RNG = np.random.default_rng(5)
WEIGHTS = {"w": eighths(RNG, 6, 5), "v": eighths(RNG, 5, 4)}
X = np.abs(eighths(RNG, 3, 6)) + 1
LABELS = ["cat", "dog", "hen", "ox"]


def net() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "h"), node("MatMul", "h v", "y")]
    return model(nodes, {"x": ["n", 6]}, ["y"], WEIGHTS)


def named() -> onnx.ModelProto:
    """A classifier that names a class and gives no scores."""
    nodes = [node("MatMul", "x w", "a"), node("ArgMax", "a", "y", axis=1, keepdims=0)]
    return model(nodes, {"x": ["n", 6]}, ["y"], {"w": WEIGHTS["w"]})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("onnxdtd.data.images.draw", lambda *args: calls.append(args))
    return calls


def explained(folder: Path, source: onnx.ModelProto | None = None, request: Request | None = None, **how: Any) -> Any:
    onnx.save(source or net(), folder / "net.onnx")
    np.save(folder / "x.npy", X)
    request = request or Request(labels=LABELS)
    return onnxdtd.explain(folder / "net.onnx", [folder / "x.npy"], request, folder / "out", save=folder / "r.npz", **how)


def relevances(folder: Path) -> np.ndarray:
    with np.load(folder / "r.npz") as saved:
        return saved["relevance/x"]


@pytest.mark.parametrize(
    "how",
    [
        {"presets": ["lrp-epsilon", "lrp-gamma", "lrp-epsilon"]},
        {"presets": ["lrp-gamma"], "targets": ["dog", 3, "argmax"]},
        {"presets": ["lrp-epsilon", "gradient"], "targets": ["ox", "cat"]},
        {"presets": ["lrp-gamma"], "top": 3},
    ],
    ids=["presets", "targets", "both", "top"],
)
def test_explanations_are_those_of_each_alone(how: dict[str, Any], tmp_path: Path, drawn: list[tuple[Any, ...]]) -> None:
    found = explained(tmp_path, **how)
    samples = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))["samples"]
    ranked = np.argsort(-(np.maximum(X @ WEIGHTS["w"], 0) @ WEIGHTS["v"]), axis=1)
    presets, targets = list(dict.fromkeys(how["presets"])), how.get("targets", range(how.get("top", 1)))
    ways = [(i, preset, target) for i in range(len(X)) for preset in presets for target in targets]
    assert found.count == len(samples) == len(ways)
    for (i, preset, target), sample, relevance in zip(ways, samples, relevances(tmp_path), strict=True):
        index = ranked[i][0] if target == "argmax" else LABELS.index(target) if isinstance(target, str) else target
        index = int(index if "targets" in how else ranked[i][target])
        direct = onnxdtd.Explainer(onnxdtd.compile(net(), preset, target=index))(X[i : i + 1])
        np.testing.assert_allclose(relevance, direct.relevance["x"][0], rtol=1e-6, atol=1e-7)
        assert (sample["name"], sample["preset"], sample["target_label"]) == (f"x_00{i}", preset, LABELS[index])
        assert sample["picture"] == f"x_00{i}.png"
    assert [path.name for path, *_ in drawn] == ["x_000.png", "x_001.png", "x_002.png"], "a picture for all of them"
    assert all(1 + len(more) == len(ways) // 3 for *_, more, _ in drawn)


def test_a_compiled_file_takes_several_classes_where_it_is_told_one(tmp_path: Path, drawn: list[tuple[Any, ...]]) -> None:
    told = onnxdtd.compile(net(), "lrp-gamma", target="input")
    found = explained(tmp_path, told, targets=[0, 2])
    assert [result.target for result in found.results] == [0, 2] * 3
    ranked = explained(tmp_path, told, top=2).results
    assert all(
        first.target == first.predicted != second.target for first, second in zip(ranked[::2], ranked[1::2], strict=True)
    )
    fixed = onnxdtd.compile(net(), "lrp-gamma", target=1)
    for how in ({"targets": [0, 2]}, {"top": 2}):
        with pytest.raises(RequestError, match=r"^this file explains .*; compile the source model with --target input"):
            explained(tmp_path, fixed, **how)


@pytest.mark.parametrize(
    ("source", "request_", "how", "words"),
    [
        (None, {}, {"top": 5}, "--top 5: the model has 4 classes"),
        (None, {}, {"top": 0}, "--top 0: give at least 1"),
        (None, {}, {"top": 2, "targets": [1, 2]}, "--top 2: give either that or --target"),
        (None, {"target": 1}, {"top": 2}, "--top 2: give either that or --target"),
        (None, {}, {"targets": ["cat", "score"]}, "--target score: of several, each is 'argmax', or a label or an index of"),
        (None, {}, {"targets": ["cat", "1,0"]}, r"--target \(1, 0\): of several, each is 'argmax', or a label or an index of"),
        (None, {}, {"targets": ["cat", "cow"]}, "target 'cow' is no class of this model"),
        (None, {"preset": "dtd"}, {"presets": ["lrp-0"]}, "preset 'dtd' and others in presets: give all of them in presets"),
        (None, {"target": 1}, {"targets": [2]}, "target 1 and others in targets: give all of them in targets"),
        ("compiled", {}, {"presets": ["lrp-0", "dtd"]}, "several presets: this file is compiled under 'lrp-0' alone; give the"),
        ("named", {}, {"top": 2}, "x_000: the model gives no scores of classes, which --top needs; give --target"),
    ],
)
def test_what_does_not_go_together(
    source: str | None, request_: dict[str, Any], how: dict[str, Any], words: str, tmp_path: Path, drawn: list[Any]
) -> None:
    made = {None: net, "compiled": lambda: onnxdtd.compile(net(), "lrp-0"), "named": named}[source]()
    labels = {} if source == "named" else {"labels": LABELS}
    with pytest.raises(RequestError, match=f"^{words}"):
        explained(tmp_path, made, Request(**labels, **request_), **how)
    assert not list((tmp_path / "out").glob("*.png"))


def test_notes_that_presets_share_are_said_once(tmp_path: Path, drawn: list[tuple[Any, ...]]) -> None:
    heard: list[str] = []
    explained(tmp_path, presets=["lrp-epsilon", "lrp-gamma"], say=heard.append)
    assert len(heard) == len(set(heard))


# ------------------------------------------------------------------------------------------------------------------- words


def result(preset: str, label: str, logit: float | None = 4.0, flags: tuple[str, ...] = ()) -> Result:
    found = [Flag("lost", text) for text in flags]
    return Result("x", "x.png", 0, "cat", 0.9, LABELS.index(label), label, logit, 3.0, -1, 1, preset, flags=found)


PLAIN = Caption("x: cat (score 0.9), explained: dog", "dtd   Σ relevance = 3", ("a",), concepts=("channel 1: 50%",))


def test_the_words_of_one_explanation_are_its_own() -> None:
    assert beside.caption([result("dtd", "dog")], [PLAIN]) is PLAIN


def test_each_heatmap_says_what_the_others_have_not() -> None:
    made = [result("dtd", "cat"), result("dtd", "dog"), result("lrp-0", "cat", None), result("lrp-0", "dog")]
    told = beside.caption(made, [PLAIN] * 4, str.upper)
    assert told.title == "x: CAT (score 0.9)"
    assert told.subtitle == "above each: Σ relevance, of the logit"
    assert (told.heading, told.concepts[0]) == ("dtd, CAT\nΣ 3 of 4", "dtd, CAT\nchannel 1: 50%")
    assert told.concepts[1::2] == ("dtd, DOG\nΣ 3 of 4", "lrp-0, CAT\nΣ 3", "lrp-0, DOG\nΣ 3 of 4")
    sure = [replace(each, probability=0.9966) for each in made]
    assert beside.caption(sure, [PLAIN] * 4).title == "x: cat (99.66 %)", "as that of one"
    assert beside.caption(made, [PLAIN] * 4, score="lead").subtitle == "above each: Σ relevance, of the lead"
    one = beside.caption([result("dtd", "dog"), result("lrp-0", "dog")], [PLAIN] * 2)
    assert one.title == PLAIN.title, "there is one class, which the title names"
    assert one.heading.startswith("dtd\n")
    classes = beside.caption([result("dtd", "cat"), result("dtd", "dog")], [PLAIN] * 2)
    assert classes.subtitle.startswith("dtd   ")
    assert classes.heading.startswith("cat\n")


def test_notes_say_whose_they_are_and_are_few() -> None:
    made = [result("dtd", "cat", flags=("a", "b")), result("lrp-0", "cat", flags=("a",)), result("lrp-z", "cat", flags=("a",))]
    assert beside.caption(made, [PLAIN] * 3).notes == ("a", "dtd: b")
    many = [result(f"p{i}", "cat", flags=(f"{i}",)) for i in range(9)]
    notes = beside.caption(many, [PLAIN] * 9).notes
    assert len(notes) == beside.MOST_NOTES
    assert notes[0] == "p0: 0"
    assert notes[-1] == beside.MORE
