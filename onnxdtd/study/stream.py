"""What a run of ``explain`` gives, read from its journal one unit at a time: the file of results, and all that is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxdtd import atomic
from onnxdtd.contract import SCORE, Metadata
from onnxdtd.labels import uncalled
from onnxdtd.study.explaining import Explaining
from onnxdtd.study.gallery import is_same
from onnxdtd.study.jobs import Journal
from onnxdtd.study.notes import Notes
from onnxdtd.study.presenter import called
from onnxdtd.study.ranking import FEATURES, SUMMARY, Ranking, pictured
from onnxdtd.study.ranking import written as written_features
from onnxdtd.study.results import Flag, Folder, Result
from onnxdtd.study.wordlist import WORDS, Word, Wordlist, written

MOST_RESULTS = 1000  # that are kept in memory


@dataclass(frozen=True)
class Explained:
    """What a run gave: how many results, the first ``MOST_RESULTS`` of them (``results.json`` has all), what to know of all of
    them, what the compiled model says of itself, the words of all texts, or terms, with their relevance, where all that comes
    from, the features of tables, and which inputs were skipped, and why.
    """

    count: int
    results: list[Result]
    remarks: list[str]
    metadata: Metadata
    words: list[Word] = field(default_factory=list)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    ranking: Ranking = field(default_factory=Ranking)
    skipped: list[str] = field(default_factory=list)


class Stream:
    """A run of which all units are done, read from its ``book`` as often as it is wanted, one unit at a time in memory."""

    def __init__(self, study: Explaining, book: Journal):
        self._study, self._book = study, book
        skipped = [*study.skipped]
        self._filled: list[int] = []  # units with samples
        self._back: dict[tuple[int, int], str] = {}  # flags that first ones of their class get later, by their place
        self._ranking = Ranking()
        for number, unit in enumerate(book.results()):
            skipped += unit["skipped"]
            self._ranking.add(unit["features"])
            self._filled += [number] * bool(unit["numbers"])
            for sample, which, text in unit["back"]:
                self._back.setdefault((sample, which), text)
        self.skipped = list(dict.fromkeys(skipped))

    @property
    def has_any(self) -> bool:
        """Could any sample be explained?"""
        return bool(self._filled)

    def _results(self, unit: Mapping[str, Any]) -> Iterator[tuple[int, Result, bool, Mapping[str, Any] | None]]:
        """The number of a sample, an explanation of it, whether that was the first of its class, and its words."""
        words = iter(unit["words"])
        for number, made in zip(unit["numbers"], unit["results"], strict=True):
            for which, data in enumerate(made):
                result, back = Result.of(data), self._back.get((number, which))
                if back is not None and not is_same(result.flags):
                    result = replace(result, flags=[*result.flags, Flag("same", back)])
                yield number, result, data["alone"], next(words)

    def finish(self, folder: Folder) -> Explained:
        """Write the numbers and the words of all texts."""
        views = [view.presenter.explainer.metadata["preset"] for view in self._study.views]
        labels = self._study.views[0].presenter.labels
        brief, given = labels.brief, dict[int | str | None, None]()  # true labels, each once
        of_classes = lambda result: f"{result.name} ({brief(result.target_label)})"
        notes = {preset: Notes(called=of_classes) if views.count(preset) > 1 else Notes() for preset in views}
        wordlist, first = Wordlist(), list[Result]()
        anew: dict[int, list[Result]] = {number: [] for number, _ in self._back}  # what is drawn once more

        def stream() -> Iterator[Result]:
            for unit in self._book.results():
                for number, result, alone, words in self._results(unit):
                    notes[result.preset].add(result, alone)
                    given[result.label] = None
                    if len(first) < MOST_RESULTS:
                        first.append(result)
                    if words is not None and result.preset == views[0]:
                        wordlist.add(words["label"], words["words"])
                    if number in anew:
                        anew[number].append(result)
                    yield result

        ranked = self._ranking.ranked()
        folder.finish(self._study.provenance, stream(), ranked, self.skipped)
        if ranked:
            atomic.write(folder.path / FEATURES, written_features(ranked))
            self._summarise(folder.path)
        self._draw(anew)
        metadata = self._study.views[0].presenter.explainer.metadata
        rivals = metadata.get("classes") != 1 and not metadata["contrast"] and metadata["target"] != SCORE
        words = wordlist.words() if wordlist.texts > 1 else []
        if words:
            atomic.write(folder.path / WORDS, written(words))
        remarks = [
            f"{preset}: {text}" if len(notes) > 1 else text
            for preset, said in notes.items()
            for text in (*said.summary(), *said.remarks(rivals, metadata.get("reference"), called(metadata)))
        ]
        if not labels.is_quantity and (strange := labels.strange(given)):
            remarks.append(uncalled(strange))
        count = sum(said.count for said in notes.values())
        return Explained(count, first, remarks, metadata, words, self._study.provenance, self._ranking, self.skipped)

    def _summarise(self, folder: Path) -> None:
        """Draw the features of all rows, a picture a preset."""
        if not self._study.asked.pictures:
            return
        from onnxdtd.data import swarm

        presets = self._ranking.presets()
        for preset in presets:
            name = SUMMARY if len(presets) == 1 else f"{Path(SUMMARY).stem}_{Path(preset).stem}.png"
            swarm.draw(folder / name, *pictured(self._ranking, preset, self._study.asked.look.features))

    def _draw(self, anew: Mapping[int, Sequence[Result]]) -> None:
        """The pictures of samples of which there is more to say now."""
        gallery = self._study.gallery
        for number, results in anew.items() if self._study.asked.pictures else ():
            one = gallery.one(number)
            one.made = [made._replace(result=result) for made, result in zip(one.made, results, strict=True)]
            gallery.draw(one)

    def pieces(self) -> Iterator[dict[str, np.ndarray]]:
        """The arrays of all units."""
        for number in self._filled:
            piece = self._study.parts.read(number)
            if number == 0 and self._back:
                found = self._results(next(self._book.results()))
                piece["flags"] = np.asarray([result.codes for _, result, *_ in found])
            yield piece
