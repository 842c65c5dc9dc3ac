"""What quantising costs an explanation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import edge
import pytest


def test_a_network_of_digits_quantised_first_is_half_as_large_and_explains_alike(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(edge, "PRESETS", ("dtd",))
    monkeypatch.setattr(edge, "ROUNDS", 1)
    case = edge.cases()["digits_cnn"]
    few = case.samples()[:8]
    found = edge.measured(replace(case, samples=lambda: few), tmp_path)
    noisy = found.pop(edge.NOISY)
    assert 0.99 < min(noisy["dtd"]["cosine"]) <= max(noisy["dtd"]["cosine"]) < 1 - 1e-7
    for how, entry in found.items():
        assert entry["same"] == [True] * 4, how
        assert min(entry["dtd"]["cosine"]) > 0.99
        assert entry["dtd"]["compiled"] < (1 if how == edge.FLOAT else 0.6) * 75_000
        assert entry["seconds"].keys() == {"source", "onnx", "ort"}
        assert max(entry["dtd"]["cosine"]) > 1 - 1e-6 or how != edge.FLOAT
    rows = edge.of_relevance({"digits_cnn": found}).splitlines()
    assert len(rows) == 2 + len(edge.QUANTISED)
    assert len(edge.of_sizes({"digits_cnn": found}).splitlines()) == 3 + len(edge.QUANTISED)


def test_what_is_refused_is_in_the_table() -> None:
    entry = {"same": [True], "dtd": {"refused": "no rule"}, "lrp-epsilon": {"cosine": [0.5, 0.7], "rank": [0.25, 0.25]}}
    row = edge.of_relevance({"net": {edge.FLOAT: entry, "dynamic": entry}}).splitlines()[2]
    assert row == "| net | dynamic | 1 of 1 | refused | - | 0.600 (0.500) | 0.250 (0.250) |"
