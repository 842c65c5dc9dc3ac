"""The classifier of definitions: the files of models/ belong together, and it is as good as its page says."""

from __future__ import annotations

import csv
import json
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

MODELS = Path(__file__).resolve().parents[2] / "models"
CLASSES = ["animal", "artifact", "body part", "food", "person", "plant"]


def test_the_files_are_those_of_the_table() -> None:
    page = (MODELS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| ([\d,]+) \| `([0-9a-f]{64})` \|$", page, re.M)
    assert len(rows) == 17
    for name, size, digest in rows:
        data = (MODELS / name).read_bytes()
        assert (len(data), sha256(data).hexdigest()) == (int(size.replace(",", "")), digest), name


def test_definitions_are_told_apart_and_deleted_words_matter() -> None:
    """By the files alone, the tokenizer read by its own library."""
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer.from_file(str(MODELS / "definitions_tokenizer.json"))
    model = onnx.load(MODELS / "definitions.onnx")
    assert json.loads(next(p.value for p in model.metadata_props if p.key == "labels")) == CLASSES
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def right(name: str) -> np.ndarray:
        rows = list(csv.DictReader((MODELS / name).read_text(encoding="utf-8").splitlines()))
        codes = words.encode_batch([row["text"] for row in rows])
        ids = np.array([code.ids for code in codes])
        mask = np.array([code.attention_mask for code in codes])
        assert ((ids == 0) == (mask == 0)).all()
        [logits] = session.run(None, {"input_ids": ids, "attention_mask": mask})
        return np.array([CLASSES[i] for i in logits.argmax(1)]) == [row["label"] for row in rows]

    assert right("definitions_samples.csv").all()
    tested = right("definitions_test.csv").reshape(6, 50).mean(1)
    assert tested.min() >= 0.7
    assert tested.mean() >= 0.85
