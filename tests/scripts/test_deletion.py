"""Words are deleted in the order of their relevance: which tokens go, and that the score falls by more than by chance."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tokenizers")
import deletion

from onnxdtd.data.tokens import Passage, Token

TEXT = "two cats sleep"
WORDS = [("[CLS]", 2, 0, 0, None), ("two", 7, 0, 3, 0), ("ca", 8, 4, 6, 1), ("ts", 9, 6, 8, 1), (" sleep", 10, 8, 14, 2)]
PASSAGE = Passage(
    "a", (TEXT,), tuple(Token(said, id, start, end, word=word, special=word is None) for said, id, start, end, word in WORDS)
)


def test_words_are_deleted_with_all_their_tokens() -> None:
    ids = lambda passage: [token.id for token in passage.tokens]
    assert deletion.count(PASSAGE) == 3
    assert deletion.worded(np.array([9.0, 1.0, 2.0, 3.0, -4.0, 7.0]), PASSAGE).tolist() == [1.0, 5.0, -4.0]  # 7 is padding's
    assert ids(deletion.masked(PASSAGE, {1, 2}, 4)) == [2, 7, 4, 4, 4]
    assert ids(deletion.removed(PASSAGE, {1}, 4)) == [2, 7, 10]
    assert deletion.marked(PASSAGE, np.array([-1.0, 5.0, 2.0])) == "two **cats** **sleep**"


def test_the_words_that_decide_stand_out() -> None:
    """On our own sentences, three words of about thirteen; a random order is the ruler."""
    model, tokenizer, texts = deletion.BUNDLED
    found = deletion.classifier(model, tokenizer, texts.with_name("definitions_samples.csv"))
    start = found.logits(found.passages)
    rng = np.random.default_rng(0)
    top = [np.argsort(-r) for r in found.relevance("attnlrp")]
    any_order = [rng.permutation(deletion.count(passage)) for passage in found.passages]
    for kind in deletion.DELETIONS:
        fallen, _ = deletion.drops(found, top, kind, start)
        least, _ = deletion.drops(found, [order[::-1] for order in top], kind, start)
        chance, _ = deletion.drops(found, any_order, kind, start)
        assert fallen[:, 2].mean() > 2 * chance[:, 2].mean(), kind
        assert (fallen[:, 2] > least[:, 2]).all(), kind
