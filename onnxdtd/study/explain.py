"""The main job: run a model over many inputs, and write a picture of each and one file with all of the numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnxdtd import atomic
from onnxdtd.cells import PLACES, SAMPLES
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.contract import SCORE, Metadata
from onnxdtd.data.images import draw
from onnxdtd.data.passages import draw_text
from onnxdtd.data.read import SUFFIXES, Sample
from onnxdtd.data.read import files as files_of
from onnxdtd.data.readings import stretches
from onnxdtd.data.texts import SUFFIXES as TEXTS
from onnxdtd.errors import RequestError
from onnxdtd.graph import files
from onnxdtd.labels import Index
from onnxdtd.method.toml import Library
from onnxdtd.request import AT_RUN_TIME, NO_CLASSES, Request
from onnxdtd.runtime.explainer import Explainer, fixed_target, told
from onnxdtd.study.concepts import TOP, check
from onnxdtd.study.jobs import Tick, untold
from onnxdtd.study.notes import Alike, remarks, summary
from onnxdtd.study.presenter import Presenter
from onnxdtd.study.results import Folder, Record, Result
from onnxdtd.study.settled import settled
from onnxdtd.study.wordlist import WORDS, Word, Wordlist, written

MANY_CLASSES = 32  # of so many the first heatmap is kept, to compare others with

Say = Callable[[str], object]
PathLike = str | os.PathLike[str]


def unheard(text: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Explained:
    """What a run gave: a result for each sample, what to know of all of them, what the compiled model says of itself, and the
    words of all texts, or terms, with their relevance.
    """

    results: list[Result]
    remarks: list[str]
    metadata: Metadata
    words: list[Word] = field(default_factory=list)


def explain(
    model: PathLike,
    inputs: Sequence[PathLike],
    request: Request | None = None,
    out: PathLike = "explanations",
    *,
    save: PathLike | None = None,
    concepts: str | None = None,
    top: int = TOP,
    tokenizer: PathLike | None = None,
    words: bool = False,
    provider: str | None = None,
    say: Say = unheard,
    skip: Say = unheard,
    tick: Tick = untold,
) -> Explained:
    """Explain inputs: a heatmap each, and their numbers in ``results.json``.

    Args:
        model: the file of a classifier, which is compiled first, or of a compiled model.
        inputs: image files, folders of them, ``.npy``, ``.npz``, ``.csv`` (a row a sample) or ``.json`` (a list a sample); of a
            model with a tokenizer, or of one that takes bytes, files of texts.
        request: the options of ``onnxdtd.compile``; of a compiled model, what it leaves open.
        out: the folder to write to.
        save: an ``.npz`` for the relevance itself, with samples, classes and logits.
        concepts: an inner tensor of which the strongest channels are shown, and the heatmap of what passes each of them alone.
        top: how many.
        tokenizer: the ``tokenizer.json`` of a model that takes ids of tokens, or its folder.
        words: sum the relevance of the pieces of a word.
        provider: the ONNX Runtime provider to run on.
        say: hears what there is to know of the model.
        skip: hears of inputs that cannot be explained, where there are others.
        tick: told how many of how many files are done.

    Raises:
        OnnxdtdError: model, request and inputs do not fit each other, or nothing could be explained.
    """
    request, path = request or Request(), Path(model)
    found = files_of([Path(given) for given in inputs], SUFFIXES if tokenizer is None else TEXTS)
    record = None if save is None else Record(Path(save))
    running = partial(Explainer, providers=[provider] if provider else None, folder=path.parent)
    wanted = {"tokenizer": None if tokenizer is None else Path(tokenizer), "words": words}
    presenter, target = _presenter(path, request, running, say, None if concepts is None else (concepts, top), wanted)
    for note in () if tokenizer is None else presenter.feeding.tokens.notes():
        say(note)
    gallery = Gallery(presenter, Folder(Path(out)), target, record)
    results = gallery.fill(found, tick, skip if len(found) > 1 else None)
    if not results:
        raise RequestError("none of the inputs could be explained")
    metadata = presenter.explainer.metadata
    rivals = metadata.get("classes") != 1 and not metadata["contrast"] and metadata["target"] != SCORE
    return Explained(
        results,
        [*summary(results), *remarks(results, rivals, metadata.get("reference"))],
        metadata,
        gallery.words.words() if gallery.words.texts > 1 else [],
    )


def _presenter(
    model: Path,
    request: Request,
    running: Callable[..., Explainer],
    say: Say,
    concepts: tuple[str, int] | None,
    texts: Mapping[str, Any],
) -> tuple[Presenter, Index | None]:
    """A model at work, and the class to ask it for; one that is not compiled yet has that inside of it. ``texts``: how they are
    read.
    """
    have = told(files.read(model).proto)
    if have:
        metadata = settled(have, request, next(iter(have["relevance"])))
        explainer = running(str(model))
        explainer.metadata = metadata
        return Presenter(explainer, request.labels, concepts=concepts, **texts), _target(explainer, request, say)
    if concepts is not None:
        if request.preset is not None:
            check(request.preset, Library().preset(request.preset).method.conserves)
        request = replace(request, mask=(*request.mask, concepts[0]), keep=(*request.keep, concepts[0]))
    job = prepare(model, request)
    compiled = build(job)
    for note in job.plan.notes:
        say(note)
    ledgered = lambda: running(build(prepare(model, replace(request, ledger=True))))
    return Presenter(running(compiled), request.labels, ledgered, concepts, **texts), None


def _target(explainer: Explainer, request: Request, say: Say) -> Index | None:
    """The class to ask a compiled model for at run time; None for the arg-max."""
    labels = explainer.labels.named(request.labels)
    for note in labels.replaced():
        say(note)
    fixed = explainer.metadata["target"]
    if request.target is None or request.target in NO_CLASSES:
        open_ = fixed == SCORE if request.target == SCORE else request.target != "argmax" or fixed in ("argmax", *AT_RUN_TIME)
        if not open_:
            raise RequestError(fixed_target(fixed, explainer.labels))
        return None
    if not isinstance(request.target, int | str):
        if request.target != _entry(explainer.metadata):
            raise RequestError(fixed_target(fixed, explainer.labels))
        return None
    if understood := labels.understood(request.target):
        say(understood)
    index = labels.index(request.target)
    if explainer.metadata["target_input"] is None and index != fixed:
        raise RequestError(fixed_target(fixed, explainer.labels))
    return index


def _entry(metadata: Metadata) -> tuple[Any, ...]:
    """The index of the entry that a file explains, along all axes of the scores but that of the samples."""
    fixed, position = metadata["target"], iter(metadata.get("position", ()))
    if isinstance(fixed, list):
        return tuple(fixed)
    own = [name for name in metadata.get("axes", ()) if name != SAMPLES]
    return tuple(next(position, 0) if name in PLACES else 0 if metadata["squashed"] else fixed for name in own)


@dataclass
class Gallery:
    """The results of a run so far with their pictures, and the first sample of each class."""

    presenter: Presenter
    folder: Folder
    target: Index | None = None
    record: Record | None = None
    results: list[Result] = field(default_factory=list)
    words: Wordlist = field(default_factory=Wordlist)
    _used: set[str] = field(default_factory=set)
    _firsts: dict[int | None, tuple[int, Sample, Alike, Sequence[np.ndarray]]] = field(default_factory=dict)

    def fill(self, found: Sequence[Path], tick: Tick = untold, skip: Say | None = None) -> list[Result]:
        """Explain every sample of every file, and write down what was found.

        ``skip`` is told of a file that cannot be read, and the others are explained; without it the first such file is an
        error. ``tick`` is told how many of how many files are done.
        """
        for done, file in enumerate(found, 1):
            try:
                for sample in self.presenter.feeding.read(file):
                    self.add(sample)
            except RequestError as error:
                if skip is None:
                    raise
                skip(str(error))
            tick(done, len(found))
        self.folder.finish(self.results)
        if self.words.texts > 1:
            atomic.write(self.folder.path / WORDS, written(self.words.words()))
        if self.record is not None and self.results:
            self.record.finish(self.results)
        return self.results

    def add(self, sample: Sample) -> None:
        """Explain a sample and draw it."""
        result, relevance, shown, concepts = self.presenter.explain(sample, self.target)
        sample = replace(sample, x=shown)
        picture = self.folder.free(sample.name, self._used)
        result = replace(result, picture=picture.name)
        if relevance.any():
            result = self._compared(result, sample, relevance, concepts)
        self._draw(result, sample, relevance, concepts)
        self.results.append(result)
        if words := self.presenter.words(result, relevance):
            self.words.add(result.target_label, words)
        if self.record is not None:
            split = self.presenter.feeding.split
            self.record.add(split(relevance), list(map(split, concepts)))

    def _compared(self, result: Result, sample: Sample, relevance: np.ndarray, concepts: Sequence[np.ndarray]) -> Result:
        """The result, flagged where the heatmap is that of the first sample of its class, or where there is none yet of all,
        which is flagged then as well.
        """
        mine = Alike(Path(result.picture).stem, sample.x, relevance)
        new = len(self.results), sample, mine, concepts
        place, first, alike, theirs = self._firsts.get(result.target) or next(iter(self._firsts.values()), new)
        same = alike.flag(sample.x, relevance)
        if not same and len(self._firsts) < MANY_CLASSES:
            self._firsts.setdefault(result.target, new)
        if same and not any(flag.code == "same" for flag in self.results[place].flags):
            back = mine.flag(first.x, alike.relevance)
            self.results[place] = replace(self.results[place], flags=self.results[place].flags + back)
            self._draw(self.results[place], first, alike.relevance, theirs)
        return replace(result, flags=result.flags + same)

    def _draw(self, result: Result, sample: Sample, relevance: np.ndarray, concepts: Sequence[np.ndarray]) -> None:
        caption = self.presenter.caption(result, sample.others)
        if result.reading is not None and not concepts:
            draw_text(self.folder.path / result.picture, stretches(result.reading), caption)
            return
        draw(self.folder.path / result.picture, sample.x, relevance, caption, self.presenter.feeding.form, concepts)
