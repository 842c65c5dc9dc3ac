"""A model at work on many samples: each is explained in all ways that are asked for, compared with others, drawn and kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onnxdtd.data.look import USUAL, Look
from onnxdtd.data.read import Sample
from onnxdtd.data.readings import stretches
from onnxdtd.data.recordings import UNTOLD, check
from onnxdtd.errors import RequestError
from onnxdtd.labels import Index
from onnxdtd.study import beside
from onnxdtd.study.inputs import Inputs, Reader
from onnxdtd.study.notes import Alike
from onnxdtd.study.parts import Parts, columns
from onnxdtd.study.presenter import Presented, Presenter, called
from onnxdtd.study.ranking import SUMMARY, of_unit
from onnxdtd.study.results import Flag

MANY_CLASSES = 32  # of so many the first heatmap is kept, to compare others with
SAMPLES, MOST_SAMPLES, ENTRIES = 16, 128, 2**20  # in a unit of work; in one of a long run so many samples, or entries of them
LONG = 1000  # samples
LONGEST = 200  # bytes of a name

Place = tuple[int, int]  # the number of a sample in a run, and which of its explanations


def per_unit(samples: int, entries: int) -> int:
    """How many of so many ``samples`` are a unit of work: more of a long run, if they are small."""
    return SAMPLES if samples <= LONG else min(max(ENTRIES // max(entries, 1), SAMPLES), MOST_SAMPLES)


def file_name(name: str) -> str:
    """That of the picture of a sample, within the folder whatever ``name`` is: another one with a digest of it, where it has
    signs that files have not, is hidden, too long, or that of the picture of all features.

    >>> file_name("cat (2)"), file_name("../p/1")
    ('cat (2).png', '_.._p_1-76b68661.png')
    """
    stem = re.sub(r"[\x00-\x1f\x7f/\\<>:\"|?*]|^(?=\.)|^$", "_", name)
    if stem == name and len(name.encode()) <= LONGEST and not name.startswith(Path(SUMMARY).stem):
        return f"{name}.png"
    kept = stem.encode()[: LONGEST // 2].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.png"


class View(NamedTuple):
    """One way to explain a sample: a compiled model, and the class to ask it for, None for that of the sample, or what the
    file explains by itself; or how many classes have a higher score (``rank``).
    """

    presenter: Presenter
    target: Index | None = None
    rank: int | None = None

    def explain(self, sample: Sample, first: Presented | None) -> Presented:
        """A sample, which was explained in another way ``first``. Raises ``RequestError``."""
        if not self.rank or first is None:
            told = self.presenter.asked(sample.target, sample.name) if self.target is None else self.target
            return self.presenter.explain(sample, told)
        if first.scores is None:
            raise RequestError(f"{sample.name}: the model gives no scores of classes, which --top needs; give --target")
        if self.rank >= first.scores.size:
            raise RequestError(f"--top {self.rank + 1}: the model has {first.scores.size} classes")
        return self.presenter.explain(sample, Index(np.argsort(-first.scores, kind="stable")[self.rank]))


@dataclass
class Exhibit:
    """A sample, by its ``number`` in the run, with its explanations: one of each view."""

    number: int
    sample: Sample
    made: list[Presented]

    def flag(self, which: int, flags: Sequence[Flag]) -> None:
        """Say more of an explanation."""
        if not flags:
            return
        one = self.made[which]
        self.made[which] = one._replace(result=replace(one.result, flags=[*one.result.flags, *flags]))


@dataclass(frozen=True)
class First:
    """The first heatmap of a class, where it is, and to compare others with."""

    place: Place
    alike: Alike


@dataclass
class Firsts:
    """The first heatmaps by view and class. Later ones are compared with that of their class, or, where there is none yet, with
    the first of all.
    """

    known: dict[tuple[int, int | None], First] = field(default_factory=dict)

    def copy(self) -> Firsts:
        """Others may be added without changing these."""
        return Firsts(dict(self.known))

    def met(self, number: int, which: int, one: Presented) -> Compared:
        """Compare an explanation; the first of its class is kept."""
        key = which, one.result.target
        mine = First((number, which), Alike(one.result.name, one.shown, one.relevance))
        first = self.known.get(key) or next((first for (view, _), first in self.known.items() if view == which), mine)
        same = first.alike.flag(one.shown, one.relevance)
        if not same and len(self.known) < MANY_CLASSES:
            self.known.setdefault(key, mine)
        alone = not same and self.known.get(key) is mine
        return Compared(same, first.place, mine.alike.flag(first.alike.x, first.alike.relevance) if same else [], alone)


class Compared(NamedTuple):
    """Flags for a heatmap that is the ``same`` as the one at ``place``, flags ``back`` for that one, and whether it was the
    first of its class.
    """

    same: list[Flag]
    place: Place
    back: list[Flag]
    alone: bool


class Gallery:
    """Does units of work: ``size`` samples each. What comes of one does not depend on those that were done before: heatmaps are
    compared with those of the first unit, which is explained once more where another process did it.

    ``folder`` is where pictures go, None where none are wanted; ``parts`` where arrays go. Without ``lenient`` the first sample
    that cannot be explained is an error. ``tell`` is told how many samples are done; ``look`` is that
    of pictures. Raises ``RequestError`` where that does not fit what the model takes.
    """

    def __init__(
        self,
        views: Sequence[View],
        inputs: Inputs,
        size: int,
        folder: Path | None = None,
        parts: Parts | None = None,
        lenient: bool = False,
        tell: Callable[[int], object] = lambda done: None,
        look: Look = USUAL,
    ):
        self.views, self.size, self._look = views, size, look
        self._inputs, self._folder, self._parts, self._lenient, self._tell = inputs, folder, parts, lenient, tell
        self._read = Reader(inputs, views[0].presenter.feeding)
        check(look, views[0].presenter.feeding.form)
        self._firsts: Firsts | None = None  # of the first unit

    def __call__(self, unit: int) -> dict[str, Any]:
        """What there is to say of a unit, as JSON: of each sample its explanations; what was skipped; the flags that samples of
        the first unit get for what was found here.
        """
        skipped: list[str] = []
        found = list(self._explained(unit, skipped))
        back, alone = self._compare(found, self._references() if unit else None)
        for one in found:
            self.draw(one)
            self._tell(one.number + 1)
        if self._parts is not None and found:
            self._parts.write(unit, [part for one in found for part in self._kept(one)])
        results = [
            [{**made.result.as_data(), "alone": (one.number, i) in alone} for i, made in enumerate(one.made)] for one in found
        ]
        words = [self._words(view, made) for one in found for view, made in zip(self.views, one.made, strict=True)]
        return {
            "numbers": [one.number for one in found],
            "results": results,
            "words": words,
            "skipped": skipped,
            "back": back,
            "features": of_unit(found, len(self._inputs)),
        }

    def explained(self, number: int, sample: Sample) -> Exhibit:
        """A sample in all ways. Raises ``RequestError``."""
        picture = "" if self._folder is None else file_name(sample.name)
        made: list[Presented] = []
        for view in self.views:
            made.append(view.explain(sample, made[0] if made else None))
        return Exhibit(number, sample, [one._replace(result=replace(one.result, picture=picture)) for one in made])

    def one(self, number: int) -> Exhibit:
        """A sample by its number. Raises ``RequestError``."""
        ((_, sample),) = self._read(number, number + 1)
        if isinstance(sample, RequestError):
            raise sample
        return self.explained(number, sample)

    def _explained(self, unit: int, skipped: list[str]) -> Iterator[Exhibit]:
        """The samples of a unit; why others cannot be explained is added to ``skipped``."""
        for number, sample in self._read(unit * self.size, (unit + 1) * self.size):
            try:
                if isinstance(sample, RequestError):
                    raise sample
                yield self.explained(number, sample)
            except RequestError as error:
                if not self._lenient:
                    raise
                skipped.append(str(error))

    def _references(self) -> Firsts:
        """The first heatmaps of the first unit."""
        if self._firsts is None:
            self._compare(list(self._explained(0, [])))
        assert self._firsts is not None
        return self._firsts

    def _compare(self, found: Sequence[Exhibit], references: Firsts | None = None) -> tuple[list[list[Any]], set[Place]]:
        """Flag heatmaps that are those of other inputs, here; of the first unit, whose ``references`` others are compared with,
        say which get flags, by place. Also which are the first of their class.
        """
        firsts = Firsts() if references is None else references.copy()
        mine = {one.number: one for one in found}
        back: dict[Place, list[Flag]] = {}
        alone = set[Place]()
        for one in found:
            for which, made in enumerate(one.made):
                if not made.relevance.any():
                    continue
                met = firsts.met(one.number, which, made)
                one.flag(which, met.same)
                if met.alone and references is not None:
                    alone.add((one.number, which))
                number, place = met.place
                if met.same and number not in mine:
                    back.setdefault(met.place, met.back)
                elif met.same and not is_same(mine[number].made[place].result.flags):
                    mine[number].flag(place, met.back)
                    alone.discard(met.place)
        if references is None:
            self._firsts = firsts
        return [[*place, *(flag.text for flag in flags)] for place, flags in back.items()], alone

    def draw(self, one: Exhibit) -> None:
        """One picture of a sample, with all of its explanations."""
        if self._folder is None:
            return
        presenter, results = self.views[0].presenter, [made.result for made in one.made]
        captions = [
            view.presenter.caption(made.result, one.sample.others, made.described)
            for view, made in zip(self.views, one.made, strict=True)
        ]
        caption, path = (
            beside.caption(results, captions, presenter.labels.brief, called(presenter.explainer.metadata)),
            self._folder / results[0].picture,
        )
        read = [stretches(result.reading) for result in results if result.reading is not None and not result.concepts]
        if read:
            from onnxdtd.data import passages

            passages.draw_text(path, read, caption)
            return
        from onnxdtd.data import images

        track = UNTOLD if presenter.feeding.inner else one.sample.track
        if None not in (self._look.rate, track.rate) and self._look.rate != track.rate:
            told = f"the file has {track.rate:g} steps a second; time is drawn by --rate {self._look.rate:g}"
            caption = replace(caption, notes=(*caption.notes, told))
        first, *more = [heatmap for made in one.made for heatmap in (made.relevance, *made.concepts)]
        images.draw(path, one.made[0].shown, first, caption, presenter.feeding.form, more, self._look.at(track))

    def _kept(self, one: Exhibit) -> Iterator[dict[str, np.ndarray]]:
        """The arrays of each explanation, with a row of columns."""
        for which, (view, made) in enumerate(zip(self.views, one.made, strict=True)):
            split = view.presenter.feeding.split
            arrays = {f"relevance/{name}": r for name, r in split(made.relevance).items()}
            concepts = [split(heatmap) for heatmap in made.concepts]
            if concepts:
                arrays |= {f"concepts/{name}": np.stack([part[name] for part in concepts]) for name in concepts[0]}
                tensor = made.result.concepts[0].tensor
                arrays[f"channels/{tensor}"] = np.asarray([concept.channel for concept in made.result.concepts])
            yield arrays | columns(made.result, which)

    def _words(self, view: View, made: Presented) -> Mapping[str, Any] | None:
        """The words of a text, or terms, with their relevance."""
        words = view.presenter.words(made.result, made.relevance, made.described)
        return {"label": made.result.target_label, "words": words} if words else None


def is_same(flags: Sequence[Flag]) -> bool:
    """Do they say that a heatmap is that of another input?"""
    return any(flag.code == "same" for flag in flags)
