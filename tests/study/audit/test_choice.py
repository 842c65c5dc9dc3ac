"""Who fares best: only with evidence of both kinds, and no one without it."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from onnxdtd.study.audit.choice import best, standing

ERROR = 0.05


def preset(name: str, blindness: float | None, aopc: float, abpc: float, **changes: Any) -> dict[str, Any]:
    """With a random order at an AOPC of 2 and an ABPC of 0."""
    whole = lambda value: {"mean": value, "error": ERROR, "n": 20}
    means = {"aopc": whole(aopc), "abpc": whole(abpc)} | ({} if blindness is None else {"blindness": whole(blindness)})
    made: dict[str, Any] = {"preset": name, "rules": {"a": "z+"}, "means": means, "similarity": {}, "cascading": []}
    made |= {
        "perturbation": {"gain": whole(aopc - 2), "abpc": whole(abpc)},
        "input_dependence": {"cosine": 0.5, "samples": 0.4},
    }
    return made | changes


def chosen(*entries: dict[str, Any], blind_to: tuple[str, ...] = ("classes", "upper")) -> dict[str, Any]:
    found = []
    for a, b in combinations(entries, 2):
        for metric in ("blindness", "aopc", "abpc"):
            if metric in a["means"] and metric in b["means"]:
                gap = a["means"][metric]["mean"] - b["means"][metric]["mean"]
                pair = {"metric": metric, "preset": a["preset"], "other": b["preset"]}
                found.append({**pair, "mean": gap, "error": ERROR, "n": 20})
    return best(entries, found, blind_to)


def test_first_in_everything() -> None:
    found = chosen(preset("a", 0.3, 9.0, 9.0), preset("b", 0.6, 8, 8))
    assert (found["preset"], found["tied"]) == ("a", [])
    assert standing(found)[0] == "a fares best."
    said = [sentence.replace("\u00a0", " ") for sentence in found["why"]]
    assert said == [
        "Better than a random order in AOPC and ABPC: a and b.",
        "First of these in blindness to the class and upper layers ↓, or level with the first: a (0.300).",
        "First of these in AOPC ↑, or level with the first: a (9.00).",
        "First of these in ABPC ↑, or level with the first: a (9.00).",
    ]
    found = chosen(preset("a", 0.3, 9.0, 9.0), preset("b", 0.6, 8, 8), blind_to=("upper",))
    assert any("blindness to upper layers" in sentence for sentence in found["why"])


def test_level_with_the_first_is_enough() -> None:
    """Two standard errors (2.09 by Student's t) of 0.05 are 0.1."""
    assert chosen(preset("a", 0.3, 8.91, 9), preset("b", 0.6, 9, 8))["preset"] == "a"
    found = chosen(preset("a", 0.3, 8.88, 9), preset("b", 0.6, 9, 8))
    assert (found["preset"], found["tied"]) == (None, [])
    assert found["why"][0].startswith("No preset is first or level with the first in everything")
    assert standing(found)[0] == "No winner."


def test_a_tie_is_a_tie() -> None:
    found = chosen(preset("a", 0.35, 8.95, 9), preset("b", 0.3, 9, 8.95), preset("c", 0.6, 8, 8))
    assert (found["preset"], found["tied"]) == (None, ["a", "b"])
    assert found["why"][0].startswith("Paired differences do not tell a and b apart.")
    assert standing(found)[0] == "No single winner: a and b are level."


@pytest.mark.parametrize(("aopc", "abpc"), [(1.0, -1.0), (1.0, 3.0), (3.0, -1.0), (2.05, 3.0), (3.0, 0.05)])
def test_no_better_than_a_random_order_is_never_best(aopc: float, abpc: float) -> None:
    """However much it depends on everything, as noise does."""
    found = chosen(preset("noise", 0.0, aopc, abpc), preset("a", 0.6, 8, 8))
    assert found["preset"] == "a"
    assert found["why"][0].startswith("It is the only preset in the running")
    assert "noise (not better than a random order in both AOPC and ABPC)" in " ".join(found["why"])
    found = chosen(preset("noise", 0.0, aopc, abpc), preset("more", 0.6, aopc, abpc))
    assert (found["preset"], found["tied"]) == (None, [])
    assert found["why"][0].startswith("Out of the running: noise, more")


def test_a_picture_of_the_model_is_never_best() -> None:
    same = {"input_dependence": {"cosine": 0.995, "samples": 0.3}}
    found = chosen(preset("weights", 0.3, 9, 9, **same), preset("a", 0.6, 8, 8))
    assert found["preset"] == "a"
    assert "weights (the same for every input)" in " ".join(found["why"])
    alike = {"input_dependence": {"cosine": 0.995, "samples": 0.995}}
    assert chosen(preset("weights", 0.3, 9, 9, **alike), preset("a", 0.6, 8, 8))["preset"] == "weights"


def test_without_evidence_there_is_none() -> None:
    assert "nothing to compare" in chosen(preset("a", 0.3, 9, 9))["why"][0]
    unknown: dict[str, Any] = {"perturbation": {}}
    assert "is not known" in chosen(preset("a", 0.3, 9, 9, **unknown), preset("b", 0.6, 8, 8, **unknown))["why"][0]
    found = chosen(preset("a", None, 9, 9), preset("b", None, 8, 8))
    assert (found["preset"], found["tied"]) == (None, [])
    assert "was not measured" in " ".join(found["why"])


def test_what_to_know_of_the_best() -> None:
    noisy: dict[str, Any] = {"cascading": [{"spearman": 0.2}], "rules": {}}
    found = chosen(preset("a", 0.3, 9, 9, **noisy), preset("b", 0.6, 8, 8, similarity={"a": {"cosine": 1.0}}))
    for words in ("no merit alone", "Binder", "as a derivative", "it equals b on these samples"):
        assert words in " ".join(found["why"])
    found = chosen(preset("a", 0.8, 9, 9, similarity={"b": {"cosine": 1.0}}), preset("b", 0.9, 8, 8))
    assert "even so it depends little" in " ".join(found["why"])
    assert "it equals b on these samples" in " ".join(found["why"])
    found = chosen(preset("a", 0.79, 9, 9), preset("b", 0.9, 8, 8))
    assert "even so" not in " ".join(found["why"])
