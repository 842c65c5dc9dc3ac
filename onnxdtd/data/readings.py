"""What was relevant in a text: each of its tokens or words, those that count most, and all of it in the order of reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from onnxdtd.data.tokens import Passage

TOP = 5  # words for the class, and against it
LUMINANCE, DARK = (0.2126, 0.7152, 0.0722), 0.45  # of red, green and blue; below that letters are white
TOKEN, SPECIAL, PADDING, CUT, PLAIN = "token", "special", "padding", "cut", "plain"


@dataclass(frozen=True)
class Portion:
    """A token, or a word (without ``id``), with its ``relevance`` and its ``share`` of Σ |relevance|; else as ``Token``."""

    text: str
    start: int
    end: int
    part: int
    word: int | None
    id: int | None
    relevance: float
    share: float
    special: bool = False
    padding: bool = False

    @property
    def stands(self) -> bool:
        """Is it of the text, and not added?"""
        return not self.special and not self.padding


@dataclass(frozen=True)
class Reading:
    """A text, or a pair, with the relevance of its ``tokens``, or words where they were asked for; ``pro`` and ``contra`` are
    the words that speak most for the class and against it. ``cut`` tokens at its end the model does not take; ``others`` is the
    sum of what further inputs got.
    """

    texts: tuple[str, ...]
    tokens: list[Portion]
    pro: list[Portion]
    contra: list[Portion]
    cut: int = 0
    others: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stretch:
    """What stands together in a text, with what it gets: a ``TOKEN``, or several for one letter, or a word; one that was added;
    all of the padding. What was ``CUT`` off, or lies between tokens, gets nothing.
    """

    text: str
    kind: str
    relevance: float = 0.0
    share: float = 0.0

    def __add__(self, other: Stretch) -> Stretch:
        """Both as one."""
        return Stretch(self.text + other.text, self.kind, self.relevance + other.relevance, self.share + other.share)


def reading(passage: Passage, relevance: np.ndarray, words: bool = False, others: dict[str, float] | None = None) -> Reading:
    """What was relevant in a text, of whose tokens [n] ``relevance`` is; the pieces of one word are summed on request."""
    values = np.asarray(relevance, np.float64)
    total = float(np.abs(values).sum()) or 1.0
    single = [
        Portion(t.text, t.start, t.end, t.part, t.word, t.id, float(r), float(r) / total, t.special, t.padding)
        for t, r in zip(passage.tokens, values, strict=True)
    ]
    whole = list(summed(single, passage.texts))
    ranked = sorted((portion for portion in whole if portion.stands), key=lambda portion: -portion.relevance)
    pro = [portion for portion in ranked[:TOP] if portion.relevance > 0]
    contra = [portion for portion in ranked[::-1][:TOP] if portion.relevance < 0]
    return Reading(passage.texts, whole if words else single, pro, contra, passage.cut, others or {})


def summed(tokens: Sequence[Portion], texts: Sequence[str]) -> Iterator[Portion]:
    """Words in place of their pieces; what belongs to none as it is."""
    for word, group in groupby(tokens, key=lambda token: token.word):
        pieces = list(group)
        if word is None:
            yield from pieces
            continue
        start, end = min(p.start for p in pieces), max(p.end for p in pieces)
        part, text = pieces[0].part, texts[pieces[0].part][start:end]
        letters = text.strip() or text  # spaces may be a word: in code they say something
        start += text.find(letters)
        relevance, share = sum(p.relevance for p in pieces), sum(p.share for p in pieces)
        yield Portion(letters, start, start + len(letters), part, word, None, relevance, share)


def stretches(read: Reading) -> list[Stretch]:
    """All of a text, and what was added, in the order of the tokens."""
    found: list[Stretch] = []
    ends = [0] * len(read.texts)  # of what was read
    last = {token.part: i for i, token in enumerate(read.tokens) if token.stands}
    for i, token in enumerate(read.tokens):
        if not token.stands:
            kind = PADDING if token.padding else SPECIAL
            added = Stretch(token.text, kind, token.relevance, token.share)
            if kind == PADDING and found and found[-1].kind == PADDING:  # of which one name is enough
                found[-1] = found[-1] + Stretch("", kind, added.relevance, added.share)
            else:
                found.append(added)
            continue
        text, end = read.texts[token.part], ends[token.part]
        mine = text[max(token.start, end) : token.end]
        if token.start < end and found and found[-1].kind == TOKEN:  # one letter may be several tokens
            found[-1] += Stretch(mine, TOKEN, token.relevance, token.share)
        else:
            front = len(mine) - len(mine.lstrip()) if mine.strip() else 0
            found += [*_between(text[end : token.start], read.cut), *_between(mine[:front], 0)]
            found.append(Stretch(mine[front:], TOKEN, token.relevance, token.share))
        ends[token.part] = max(end, token.end)
        if last[token.part] == i:
            found += _between(text[ends[token.part] :], read.cut)
    return found + [stretch for part, text in enumerate(read.texts) if part not in last for stretch in _between(text, read.cut)]


def listed(features: Sequence[str], relevance: Sequence[float]) -> Iterator[Stretch]:
    """Features one after the other, as if they were the words of a text."""
    total = sum(map(abs, relevance)) or 1.0
    for i, (text, r) in enumerate(zip(features, relevance, strict=True)):
        if i:
            yield Stretch("   ", PLAIN)
        yield Stretch(text, TOKEN, r, abs(r) / total)


def _between(text: str, cut: int) -> Iterator[Stretch]:
    """What no token stands for."""
    if text:
        yield Stretch(text, CUT if cut and text.strip() else PLAIN)


def tints(found: Sequence[Stretch]) -> np.ndarray:
    """The colour of each stretch, [n, 4] from 0 to 1, on the scale of what stands in the text: what was added may get most."""
    from onnxdtd.data.scale import colours  # which takes a while to import

    return colours(np.array([stretch.relevance if stretch.kind == TOKEN else 0.0 for stretch in found] or [0.0]))


def is_dark(tint: np.ndarray) -> bool:
    """Are letters on this colour to be white? By its luminance: both ends of the scale can be read then."""
    return float(tint[:3] @ np.array(LUMINANCE)) < DARK
