"""Which words are relevant in a whole data set: their relevance over all texts, by explained class."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WORDS = "words.csv"
COLUMNS = ("class", "word", "texts", "times", "sum", "mean", "for", "against")


@dataclass
class Word:
    """A word, or a term, where a class was explained: in how many ``texts`` it is and how many ``times``, and Σ R of these, of
    which ``pro`` is positive and ``contra`` negative.
    """

    label: str
    text: str
    texts: int = 0
    times: int = 0
    pro: float = 0.0
    contra: float = 0.0

    @property
    def total(self) -> float:
        """Σ R over all times."""
        return self.pro + self.contra

    @property
    def mean(self) -> float:
        """The same for each time."""
        return self.total / self.times


class Wordlist:
    """Adds up the words of texts, one text after the other; capitals make no difference."""

    def __init__(self) -> None:
        self._words: dict[tuple[str, str], Word] = {}
        self.texts = 0

    def add(self, label: str, words: Iterable[tuple[str, float]]) -> None:
        """A text that was explained for the class ``label``: its words in their order, with their relevance."""
        self.texts += 1
        met = set()
        for text, relevance in words:
            key = label, text.casefold()
            word = self._words.setdefault(key, Word(*key))
            word.texts += key not in met
            word.times += 1
            word.pro, word.contra = word.pro + max(relevance, 0.0), word.contra + min(relevance, 0.0)
            met.add(key)

    def words(self) -> list[Word]:
        """All of them, by class, those first that speak most for it."""
        return sorted(self._words.values(), key=lambda word: (word.label, -word.total, word.text))


def written(words: Sequence[Word]) -> bytes:
    """A table of them, with a line of names."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(COLUMNS)
    for word in words:
        numbers = (word.total, word.mean, word.pro, word.contra)
        table.writerow([word.label, word.text, word.texts, word.times, *(f"{number:.6g}" for number in numbers)])
    return file.getvalue().encode("utf-8", "replace")
