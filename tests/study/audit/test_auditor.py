"""Audits of texts, whose tokens lie in rows of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxdtd.compiler.compile import planned
from onnxdtd.report.report import report
from onnxdtd.request import Request
from onnxdtd.study.audit.audit import Audit, audit, measurable, together
from onnxdtd.study.audit.auditor import Auditor
from onnxdtd.study.audit.measurement import Task
from onnxdtd.study.audit.measurements import MEASUREMENTS
from onnxdtd.study.audit.parts import batches
from onnxdtd.study.audit.randomise import Weights
from onnxdtd.study.evaluate import Settings, evaluate
from onnxdtd.study.subject import Subject, spoken_by

made = pytest.importorskip("tokenizers_made")

SCORES = np.column_stack([made.scored(), made.scored()[:, ::-1]])[:, [0, 1, 3]] + np.array([0.0, 0.5, 9.0])
LINES = "text,label\nfree mobiles call now!,1\na naive call,1\nnow now free!,0\nnative a b free call,1\n"
SIZES = [8, 6, 6, 7]  # tokens with [CLS] and [SEP]; "native" is unknown


def files(folder: Path, shape: tuple[int | str, ...] = made.SHAPE, most: int = 64) -> dict[str, Any]:
    """A bag of embeddings, its tokenizer and texts, as arguments of ``audit``."""
    onnx.save(made.bag(SCORES, shape, most=most), folder / "bag.onnx")
    (folder / "lines.csv").write_text(LINES, "utf-8")
    data = {"model": folder / "bag.onnx", "data": folder / "lines.csv"}
    return {**data, "tokenizer": made.saved(made.wordpiece(), folder), "journal": folder / "journal"}


def study(folder: Path, preset: str, words: bool = False, **options: Any) -> Audit:
    given = files(folder, **options)
    spoken = spoken_by(given["tokenizer"], words)
    subject = Subject(given["model"], Request(preset=preset), given["data"], spoken=spoken)
    items, _, _ = measurable(subject, folder, 4)
    return Audit(given["model"], subject.planned.request, (preset,), *together(subject, items, words))


def audited(work: Audit) -> dict[str, Any]:
    measure = work.prepare()
    return work.assemble([measure(number) for number in range(work.units())])


def test_heatmaps_have_the_length_of_their_text(tmp_path: Path) -> None:
    """Each token has what it adds to the score of its class."""
    work = study(tmp_path, "lrp-0")
    auditor = Auditor(work)
    heatmaps = auditor.trained("lrp-0")
    assert [heatmap.size for heatmap in heatmaps] == work.sizes == SIZES
    for x, heatmap, predicted, logits in zip(work.xs, heatmaps, auditor.predicted, auditor.logits, strict=True):
        own = SCORES[x.astype(int)]
        np.testing.assert_allclose(heatmap, own[:, predicted], rtol=1e-6)
        np.testing.assert_allclose(logits, own.sum(0), rtol=1e-6)


def test_padding_is_no_part_of_a_heatmap(tmp_path: Path) -> None:
    """Zeros that two heatmaps share would make them alike: a model of a fixed length is audited as one that takes any."""
    free, fixed = (audited(study(tmp_path, "lrp-epsilon", shape=shape)) for shape in (made.SHAPE, ("n", 12)))
    for name in ("silent", "class_sensitivity", "cascading", "independent", "similarity", "means"):
        left, right = (one["presets"][0][name] for one in (free, fixed))
        assert flat(right) == pytest.approx(flat(left), rel=1e-6)
    assert free["pictures"][0]["heatmaps"]["lrp-epsilon"][0]["kind"] == "special"
    assert "padding" in {stretch["kind"] for stretch in fixed["pictures"][0]["heatmaps"]["lrp-epsilon"]}


def flat(found: Any) -> list[float]:
    """All numbers in plain data, in their order."""
    parts = list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else None
    if parts is None:
        return [float(found)] if isinstance(found, int | float) else []
    return [number for part in parts for number in flat(part)]


def test_tables_of_embeddings_are_drawn_anew(tmp_path: Path) -> None:
    work = study(tmp_path, "lrp-0")
    assert work.facts.layers[-1] == Weights("e", ("table",))
    finding = MEASUREMENTS["independent"].measure(Auditor(work), Task("lrp-0", "independent", len(work.facts.layers) - 1))
    assert not finding.found["idle"]
    assert finding.found["spearman"] < 0.9


@pytest.mark.parametrize("words", [False, True])
def test_order_is_measured_as_in_an_evaluation(words: bool, tmp_path: Path) -> None:
    given = files(tmp_path)
    settings = Settings(tokenizer=str(given["tokenizer"]), words=words)
    measured = evaluate([given["model"]], given["data"], presets=["lrp-0"], settings=settings, journal=tmp_path / "other")
    found = audit(**given, presets=["lrp-0"], words=words)
    (own,), (theirs,) = found["presets"], measured["models"][0]["presets"]
    for name in ("aopc", "abpc"):
        assert own["means"][name]["mean"] == pytest.approx(theirs["metrics"][name]["mean"], rel=1e-9)
    assert own["perturbation"]["fill"] == "[PAD] (0)"
    assert (found["settings"]["regions"], found["labelled"], found["right"]) == ("words" if words else "tokens", 4, 3)
    assert found["pictures"] == measured["pictures"]


def test_page_of_an_audit_of_texts(tmp_path: Path) -> None:
    """Words in colours; what cannot be measured of texts is named with the reason."""
    found = audit(**files(tmp_path), presets=["dtd", "gradient-x-input"])
    page = report(found)
    assert page.count("<mark") == 2 * (sum(SIZES) - 2 * len(SIZES))
    assert "<img" not in page
    assert page.count("<h3>lines_000: ") == 1
    for entry in found["presets"]:
        said = [text for text in entry["verdict"] if "left out" in text]
        assert "Input: left out, since other words stand at the same place of other texts." in said
        assert "Stability: left out, since no noise on ids is small." in said


def test_a_tokenizer_without_a_token_that_says_nothing(tmp_path: Path) -> None:
    """Of its order nothing is said but why, and nothing of where the tokenizer lies."""
    given = files(tmp_path) | {"tokenizer": made.saved(made.bytelevel(), tmp_path)}
    onnx.save(made.bag(np.resize(SCORES, (256, 3))), given["model"])
    (entry,) = audit(**given, presets=["lrp-0"])["presets"]
    why = "the tokenizer has no mask, padding or unknown token to put in place of others"
    assert f"Perturbation: left out, since {why}." in entry["verdict"]
    assert entry["perturbation"] == {}


def test_a_text_that_the_model_does_not_take_is_left_out(tmp_path: Path) -> None:
    found = audit(**files(tmp_path, most=7), presets=["lrp-0"])
    assert [one["name"] for one in found["skipped"]] == ["lines_000"]
    assert "does not take its 8 tokens" in found["skipped"][0]["reason"]
    assert found["settings"]["samples"] == 3


def test_conditions_are_counted_in_texts_of_any_length(tmp_path: Path) -> None:
    """Negative inputs of z+, of all there are in tokens and in their sum; those of one length go through the model together."""
    work = study(tmp_path, "dtd")
    job = planned(work.model, work.asked("dtd"))
    assert [batch.rows.tolist() for batch in batches(job, work.inputs)] == [[0], [1, 2], [3]]
    found = MEASUREMENTS["preconditions"].measure(Auditor(work), Task("dtd", "preconditions")).found
    own = [SCORES[x.astype(int)] for x in work.xs]
    counts = [(scores < 0).sum() + (scores.sum(0) < 0).sum() for scores in own]
    assert found["negative_inputs"] == pytest.approx(sum(counts) / (3 * sum(size + 1 for size in SIZES)))
