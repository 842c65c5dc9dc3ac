"""Small tokenizers of every kind, made with the library, and a classifier of what they give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import models, normalizers, pre_tokenizers, processors  # noqa: E402

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
PIECES = ["free", "mobile", "##s", "call", "now", "!", "na", "##ive", ",", "a", "b"]


def wordpiece(**padding: Any) -> Any:
    """As BERT has it: lower case, no accents, [CLS] and [SEP] around, pairs with types."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *PIECES])}
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.add_special_tokens(SPECIAL)
    if padding:
        made.enable_padding(**padding)
    return made


def bytelevel() -> Any:
    """As GPT-2 has it, without merges: a token for each byte, and no special one."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    return made


def unigram() -> Any:
    """As SentencePiece has it, which knows no words: spaces are letters."""
    words = ("<unk>", "▁free", "▁mob", "ile", "s", "!", "▁", "好")
    pieces = [(word, -float(i)) for i, word in enumerate(words)]
    made = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return made


def saved(made: Any, folder: Path) -> Path:
    """The file of a tokenizer."""
    path = folder / "tokenizer.json"
    made.save(str(path))
    return path


SHAPE = ("n", "seq")


def bag(scores: np.ndarray, shape: Sequence[int | str] = SHAPE, dtype: int = TensorProto.INT64, most: int = 64) -> ModelProto:
    """A classifier that adds up ``scores`` [tokens, classes] of the tokens that count, and knows so many positions, which get
    nothing: the relevance of a token is its score.
    """
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["e"]),
        helper.make_node("Shape", ["input_ids"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "one"], ["length"]),
        helper.make_node("Range", ["zero", "length", "one"], ["places"]),
        helper.make_node("Gather", ["positions", "places"], ["p"]),
        helper.make_node("Add", ["e", "p"], ["ep"]),
        helper.make_node("Cast", ["attention_mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["m", "last"], ["mm"]),
        helper.make_node("Mul", ["ep", "mm"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["s"], keepdims=0),
        helper.make_node("MatMul", ["s", "w"], ["y"], "dense"),
    ]
    classes = scores.shape[1]
    weights = {
        "table": scores.astype(np.float32),
        "positions": np.zeros([most, classes], np.float32),
        "w": np.eye(classes, dtype=np.float32),
        "one": np.array(1, np.int64),
        "zero": np.array(0, np.int64),
        "last": np.array([-1]),
        "axis": np.array([1]),
    }
    inputs = [helper.make_tensor_value_info(name, dtype, shape) for name in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], classes])]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "bag", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def scored() -> np.ndarray:
    """Scores of the tokens of ``wordpiece`` for two classes, all different; the second one is what texts here are."""
    one = np.array([9.0, -0.125, 0.25, 0.5, 2.0, 1.0, 0.75, -1.5, 0.375, -0.25, 0.625, 0.875, -0.5, 1.25, 1.125])
    return np.column_stack([-one - 8, one])
