"""Texts as ids: which token stands where, and what a model gets of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers_made import bytelevel, saved, unigram, wordpiece

from onnxdtd.data.texts import Text
from onnxdtd.data.tokens import Passage, Taken, Tokens
from onnxdtd.errors import OnnxdtdError, RequestError

IDS, MASK = Taken(["seq"], "int64", 15), Taken(["seq"], "int64")
INPUTS = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": Taken(["seq"], "int64", 2)}


def made(tokenizer: Any, folder: Path, inputs: Mapping[str, Taken] = INPUTS) -> Tokens:
    return Tokens(saved(tokenizer, folder), inputs)


def shown(passage: Passage) -> list[tuple[str, int | None]]:
    return [(token.text, token.word) for token in passage.tokens]


def test_tokens_stand_as_they_are_in_the_text_with_their_words(tmp_path: Path) -> None:
    passage = made(wordpiece(), tmp_path)(Text("a", "FREE  mobiles,\nnaïve!"))
    words = [("[CLS]", None), ("FREE", 0), ("mobile", 1), ("s", 1), (",", 2), ("na", 3), ("ïve", 3), ("!", 4), ("[SEP]", None)]
    assert shown(passage) == words
    assert [token.id for token in passage.tokens] == [2, 4, 5, 6, 12, 10, 11, 9, 3]
    assert [token.special for token in passage.tokens] == [True, *[False] * 7, True]
    assert all(passage.texts[0][t.start : t.end] == t.text for t in passage.tokens if not t.special)
    assert (passage.length, passage.cut) == (9, 0)


def test_the_inputs_get_their_parts_whatever_they_are_called(tmp_path: Path) -> None:
    """A pair has types, and positions count."""
    inputs = {
        "model/segment_ids:0": Taken([1, "seq"], "int32", 2),
        "tokens": Taken([1, "seq"], "int32", 15),
        "input_mask": Taken(["seq"], "float32"),
        "position_ids": Taken(["seq"], "int64", 64),
        "lengths": Taken([], "int64"),
    }
    tokens = made(wordpiece(), tmp_path, inputs)
    values = tokens.values(tokens(Text("a", "free", "call now")))
    assert {name: array.tolist() for name, array in values.items()} == {
        "tokens": [[2, 4, 3, 7, 8, 3]],
        "model/segment_ids:0": [[0, 0, 0, 1, 1, 1]],
        "input_mask": [1] * 6,
        "position_ids": [0, 1, 2, 3, 4, 5],
        "lengths": 6,
    }


def test_a_fixed_length_pads_and_cuts(tmp_path: Path) -> None:
    tokens = made(wordpiece(), tmp_path, {"ids": Taken([6], "int64", 15), "attention_mask": Taken([6], "bool")})
    short = tokens(Text("a", "free call"))
    assert [token.padding for token in short.tokens] == [False] * 4 + [True] * 2
    values = tokens.values(short)
    assert values["ids"].tolist() == [2, 4, 7, 3, 0, 0]
    assert values["attention_mask"].tolist() == [1, 1, 1, 1, 0, 0]
    long = tokens(Text("a", "free call now free mobiles!"))
    assert (long.cut, [token.id for token in long.tokens]) == (3, [2, 4, 7, 8, 4, 3])
    assert list(tokens.notes()) == ["the model takes 6 tokens: shorter texts are padded, of longer ones the rest is left out"]


def test_the_tokenizer_says_how_it_pads(tmp_path: Path) -> None:
    """On the left and with another token; of a model without a mask also how far."""
    tokens = made(wordpiece(direction="left", pad_id=1, pad_token="[UNK]", length=6), tmp_path, {"ids": IDS})
    assert tokens.values(tokens(Text("a", "free")))["ids"].tolist() == [1, 1, 1, 2, 4, 3]
    masked = made(wordpiece(length=6), tmp_path)
    assert masked(Text("a", "free")).length == len(masked(Text("a", "free")).tokens) == 3


def test_the_settings_beside_a_tokenizer_say_how_much_the_model_takes(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 4}))
    saved(wordpiece(), tmp_path)
    assert Tokens(tmp_path, INPUTS)(Text("a", "free call now")).cut == 1
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1e30}))
    assert Tokens(tmp_path, INPUTS)(Text("a", "free call now")).cut == 0


def test_a_letter_of_several_tokens_is_one_word(tmp_path: Path) -> None:
    passage = made(bytelevel(), tmp_path, {"ids": Taken(["n"], "int64", 256)})(Text("a", "é 😀"))
    assert [(t.start, t.end, t.word) for t in passage.tokens] == [(0, 1, 0)] * 2 + [(1, 2, 1)] + [(2, 3, 1)] * 4


def test_words_without_a_tokenizer_that_knows_them(tmp_path: Path) -> None:
    passage = made(unigram(), tmp_path, {"ids": Taken(["n"], "int64", 8)})(Text("a", "free mobiles!好好"))
    words = [word for _, word in shown(passage)]
    assert words == [0, 1, 1, 1, 2, 3, 4]


def test_bytes_need_no_tokenizer() -> None:
    tokens = Tokens(None, {"bytes": Taken([8], "uint8", 256)})
    passage = tokens(Text("a", "é, ab"))
    assert tokens.values(passage)["bytes"].tolist() == [*"é, ab".encode(), 0, 0]
    assert [token.word for token in passage.tokens] == [0, 0, 1, 1, 2, 2, None, None]
    assert tokens(Text("a", "much longer")).cut == 3
    with pytest.raises(RequestError, match="is a pair"):
        tokens(Text("a", "b", "c"))
    with pytest.raises(RequestError, match="give the tokenizer that it comes with"):
        Tokens(None, {"ids": Taken(["n"], "int64", 259)})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"input_ids": Taken(["n"], "int64", 14)}, "has 15 tokens, but the model's input 'input_ids' looks up one of 14"),
        ({"x": Taken([3, 8, 8], "float32")}, r"takes no ids of tokens; it takes x \(float32 \[3, 8, 8\]\)"),
        ({"x": Taken([1], "string")}, "give its strings in a .csv"),
        ({"a": IDS, "b": IDS}, "what of a text do a, b take"),
        ({"a": IDS, "x": Taken([3], "float32")}, "what of a text do a, x take"),
        ({"a": Taken(["n", "m"], "int64", 15)}, "not a row of ids"),
    ],
    ids=range(6),
)
def test_models_that_do_not_fit(inputs: dict[str, Taken], words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=words):
        made(wordpiece(), tmp_path, inputs)


def test_padding_needs_a_token_or_a_mask(tmp_path: Path) -> None:
    fixed = {"ids": Taken([9], "int64", 8)}
    with pytest.raises(RequestError, match="has no token for padding"):
        made(unigram(), tmp_path, fixed)(Text("a", "free"))
    tokens = made(unigram(), tmp_path, {**fixed, "mask": Taken([9], "int64")})
    assert tokens.values(tokens(Text("a", "free")))["mask"].sum() == 1


def test_files_that_are_no_tokenizers(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    for name, words in (("a.json", "is no tokenizer"), ("b.json", "is no tokenizer"), (".", "no tokenizer can be read")):
        with pytest.raises(RequestError, match=words):
            Tokens(tmp_path / name, INPUTS)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(OnnxdtdError, match=r"pip install 'onnxdtd\[text\]'"):
        Tokens(tmp_path, INPUTS)


def test_a_much_smaller_vocabulary_is_noted(tmp_path: Path) -> None:
    tokens = made(wordpiece(), tmp_path, {"ids": Taken(["n"], "int64", 30522)})
    assert list(tokens.notes()) == ["the tokenizer has 15 tokens, the model 30522: is it the tokenizer of this model?"]


def test_a_text_that_nothing_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxdtd.data.tokens.MOST_TOKENS", 3)
    with pytest.raises(RequestError, match="has 4 tokens or more; split it"):
        made(wordpiece(), tmp_path)(Text("a", "free call"))


def test_a_pattern_that_would_search_for_ever(tmp_path: Path) -> None:
    """The library gives up, in a panic."""
    import tokenizers

    made_so = wordpiece()
    made_so.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("^(a+)+$"), "isolated")
    with pytest.raises(RequestError, match=r"cannot make tokens of this text .*retry-limit"):
        made(made_so, tmp_path)(Text("a", "a" * 40 + "!"))


def test_who_interrupts_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = made(wordpiece(), tmp_path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tokens, "_tokenizer", SimpleNamespace(encode=interrupted, no_truncation=lambda: None))
    with pytest.raises(KeyboardInterrupt):
        tokens(Text("a", "free"))
