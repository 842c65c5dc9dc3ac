"""The classifier of motions is as good as its page says, by the files alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

MODELS = Path(__file__).resolve().parents[2] / "models"


def test_motions_are_told_apart() -> None:
    model = onnx.load(MODELS / "motions.onnx")
    names = json.loads(next(p.value for p in model.metadata_props if p.key == "labels"))
    assert names == ["badminton", "running", "standing", "walking"]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with np.load(MODELS / "motions_samples.npz") as samples:
        assert samples["motion"].shape == (8, 6, 100)
        assert samples["label"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        [logits] = session.run(None, {"motion": samples["motion"]})
        assert (logits.argmax(1) == samples["label"]).all()
