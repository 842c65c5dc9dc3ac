"""Small tokenizers of every kind, made with the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
