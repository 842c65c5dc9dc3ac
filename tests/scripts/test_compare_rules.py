"""All methods side by side, in small: the numbers by hand, a picture, and who is left out and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import compare_rules
import numpy as np
import study
from PIL import Image

import onnxdtd
from onnxdtd.data.labelled import Item


def test_properties_by_hand() -> None:
    """Ink 1 and 2 on the left, which counts, 3 on the right; relevance 2 and 1 on the first, -1 on ink, -4 and 2 on paper."""
    x = np.asarray([[[1.0, 2, 0, 3, 0]]])
    item = Item("pair", x, 0, 0, np.asarray([0, 0, 2, 1]))
    found = compare_rules.properties(item, np.asarray([[[2.0, 1, -4, -1, 2]]]), 2.0)
    assert found == {"positive": 0.5, "conserved": 0.0, "distractor": 0.1, "black": 0.6, "against": 0.4}


def test_two_digits_in_small(tmp_path: Path) -> None:
    case = study.cases()["two_digits"]
    case = replace(case, settings=replace(case.settings, steps=4))
    found = compare_rules.compare("two_digits", case, ["dtd", "gradient-x-input", "grad-cam"], 4)
    assert list(found.numbers) == ["dtd", "gradient-x-input", "random order"]
    assert abs(found.numbers["dtd"]["conserved"] - 1) < 1e-4
    assert found.numbers["dtd"]["positive"] == 1
    assert found.numbers["dtd"]["black"] > 0.2
    assert found.numbers["gradient-x-input"]["black"] == 0 < found.numbers["gradient-x-input"]["distractor"]
    explainer = onnxdtd.Explainer(onnxdtd.compile(case.model, "dtd", low=0.0, high=1.0))
    expected = explainer(found.items[1].x[None].astype(np.float32)).relevance["image"][0, 0]
    np.testing.assert_allclose(found.heatmaps["dtd"][1], expected, rtol=1e-5)
    compare_rules.draw(found, tmp_path / "p.png", 2)
    with Image.open(tmp_path / "p.png") as picture:
        assert min(picture.size) > 200
    text = compare_rules.table(found)
    assert "| `dtd` | 1 | 1 |" in text
    assert "- `grad-cam`: the preset grad-cam is at a map of channels and positions" in text
