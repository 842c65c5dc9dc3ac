"""What was relevant in a text: sums of words, those that count most, and the text as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers_made import bytelevel, saved, unigram, wordpiece

from onnxdtd.data.readings import CUT, PADDING, PLAIN, SPECIAL, TOKEN, Stretch, is_dark, reading, stretches, tints
from onnxdtd.data.texts import Text
from onnxdtd.data.tokens import Passage, Taken, Tokens


def passage(text: str, folder: Path, made: Any = None, size: int | str = "n", pair: str | None = None) -> Passage:
    inputs = {"ids": Taken([size], "int64", 256), "mask": Taken([size], "int64")}
    return Tokens(saved(made or wordpiece(), folder), inputs)(Text("a", text, pair))


def shown(found: list[Stretch]) -> list[tuple[str, str, float]]:
    return [(stretch.text, stretch.kind, stretch.relevance) for stretch in found]


def test_a_text_is_read_as_it_stands(tmp_path: Path) -> None:
    read = reading(passage("FREE  mobiles,\nnow", tmp_path), np.arange(7.0))
    assert shown(stretches(read)) == [
        ("[CLS]", SPECIAL, 0),
        ("FREE", TOKEN, 1),
        ("  ", PLAIN, 0),
        ("mobile", TOKEN, 2),
        ("s", TOKEN, 3),
        (",", TOKEN, 4),
        ("\n", PLAIN, 0),
        ("now", TOKEN, 5),
        ("[SEP]", SPECIAL, 6),
    ]


def test_pieces_of_a_word_are_summed_and_nothing_is_lost(tmp_path: Path) -> None:
    """Words are the same to a reader with and without --words; shares are of all relevance, by token."""
    values = np.array([1.0, -2, 0.5, 0.25, -0.125, 4, 8])
    single, whole = (reading(passage("FREE  mobiles,\nnow", tmp_path), values, words) for words in (False, True))
    assert [(p.text, p.relevance, p.id) for p in whole.tokens if p.stands] == [
        ("FREE", -2, None),
        ("mobiles", 0.75, None),
        (",", -0.125, None),
        ("now", 4, None),
    ]
    assert sum(p.relevance for p in whole.tokens) == sum(p.relevance for p in single.tokens) == values.sum()
    assert sum(abs(p.share) for p in single.tokens) == pytest.approx(1)
    assert (whole.tokens[2].start, whole.tokens[2].end, whole.tokens[2].share) == (6, 13, 0.75 / np.abs(values).sum())
    for read in (single, whole):
        assert [(p.text, p.relevance) for p in read.pro] == [("now", 4), ("mobiles", 0.75)]
        assert [(p.text, p.relevance) for p in read.contra] == [("FREE", -2), (",", -0.125)]
    assert "".join(stretch.text for stretch in stretches(whole) if stretch.kind != SPECIAL) == "FREE  mobiles,\nnow"


def test_spaces_may_be_words(tmp_path: Path) -> None:
    """In code they say something, and stand where they are."""
    made = passage("if  \n\t x", tmp_path, bytelevel())
    whole = reading(made, np.arange(1.0, len(made.tokens) + 1), words=True)
    for portion in whole.tokens:
        assert portion.special or ("if  \n\t x"[portion.start : portion.end] == portion.text and portion.text)
    assert any(portion.stands and not portion.text.strip() for portion in whole.tokens)
    assert "".join(stretch.text for stretch in stretches(whole) if stretch.kind != SPECIAL) == "if  \n\t x"


def test_what_is_cut_and_padded_is_told_apart(tmp_path: Path) -> None:
    short = stretches(reading(passage("free", tmp_path, size=6), np.array([0, 2.0, 0, 0, 0, 0])))
    assert shown(short) == [("[CLS]", SPECIAL, 0), ("free", TOKEN, 2), ("[SEP]", SPECIAL, 0), ("[PAD]", PADDING, 0)]
    long = reading(passage("free call now", tmp_path, size=4), np.ones(4))
    assert long.cut == 1
    assert shown(stretches(long))[2:5] == [(" ", PLAIN, 0), ("call", TOKEN, 1), (" now", CUT, 0)]


def test_a_pair_is_read_one_after_the_other(tmp_path: Path) -> None:
    read = reading(passage("free", tmp_path, pair="call now"), np.arange(6.0))
    assert [stretch.text for stretch in stretches(read)] == ["[CLS]", "free", "[SEP]", "call", " ", "now", "[SEP]"]
    assert [p.part for p in read.tokens if p.stands] == [0, 1, 1]


@pytest.mark.parametrize(("made", "count"), [(bytelevel(), 10), (unigram(), 7)], ids=["bytes", "unigram"])
def test_no_letter_is_read_twice_or_left_out(made: Any, count: int, tmp_path: Path) -> None:
    """A letter of several tokens has the sum of them."""
    text = "é 😀\nab" if count == 10 else "free mob 好s"
    given = passage(text, tmp_path, made)
    found = stretches(reading(given, np.ones(len(given.tokens))))
    assert "".join(stretch.text for stretch in found) == text
    assert sum(stretch.relevance for stretch in found) == len(given.tokens)


def test_the_colours_are_on_the_scale_of_what_stands_in_the_text(tmp_path: Path) -> None:
    """What was added may have more; white is zero, and dark colours have white letters."""
    found = stretches(reading(passage("free call", tmp_path), np.array([100.0, 2, -2, 0])))
    first, free, space, call, last = tints(found)
    assert (first[:3] == 1).all() or first[:3].min() > 0.98
    np.testing.assert_allclose(space, first)
    assert free[0] > 0.4 > 0.1 > free[1:3].max()
    assert call[2] > 0.4 > 0.1 > call[:2].max()
    assert [is_dark(tint) for tint in (free, call, last)] == [True, True, False]


def test_relevance_that_is_zero(tmp_path: Path) -> None:
    read = reading(passage("free call", tmp_path), np.zeros(4))
    assert (read.pro, read.contra) == ([], [])
    assert all(p.share == 0 for p in read.tokens)
    assert np.isfinite(tints(stretches(read))).all()
