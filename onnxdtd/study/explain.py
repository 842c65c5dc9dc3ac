"""The main job: run a model over many inputs, and write a picture of each and one file with all of the numbers.

A run is a stream: units of work, in this process or in others, explain, draw and keep samples; what they have to say goes
through a journal to the file of results, to what is saved and to what is told at the end. Nothing is kept of a sample that is
written.
"""

from __future__ import annotations

import math
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from onnxdtd import atomic
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.contract import SCORE, Metadata
from onnxdtd.data.given import Given
from onnxdtd.data.given import given as given_files
from onnxdtd.data.look import USUAL, Look
from onnxdtd.data.read import SUFFIXES
from onnxdtd.data.remote import ALONE, place
from onnxdtd.data.tables import NO_ROLES, Roles
from onnxdtd.data.texts import STDIN
from onnxdtd.data.texts import SUFFIXES as TEXTS
from onnxdtd.errors import RequestError
from onnxdtd.graph import files
from onnxdtd.labels import Index, uncalled
from onnxdtd.method.toml import Library
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Explainer, told
from onnxdtd.study import jobs
from onnxdtd.study.concepts import TOP, check
from onnxdtd.study.feeding import Feeding
from onnxdtd.study.gallery import Gallery, View, is_same, per_unit
from onnxdtd.study.inputs import Inputs, Reader, found
from onnxdtd.study.jobs import Busy, Journal, Tick, untold
from onnxdtd.study.notes import Notes
from onnxdtd.study.parts import Parts
from onnxdtd.study.presenter import Presenter, called
from onnxdtd.study.provenance import modelled, provenance, taken
from onnxdtd.study.ranking import FEATURES, SUMMARY, Ranking, pictured
from onnxdtd.study.ranking import written as written_features
from onnxdtd.study.results import RESULTS, UNFINISHED, Flag, Folder, Result
from onnxdtd.study.saved import Wanted
from onnxdtd.study.settled import settled
from onnxdtd.study.subject import asked as asked_json
from onnxdtd.study.ways import Ways, target_of
from onnxdtd.study.wordlist import WORDS, Word, Wordlist, written

MOST_RESULTS = 1000  # that are kept in memory
JOURNAL = "journal"

Say = Callable[[str], object]
PathLike = str | os.PathLike[str]


def unheard(text: str) -> None:
    """Nobody listens."""


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


def explain(
    model: PathLike,
    inputs: Sequence[PathLike],
    request: Request | None = None,
    out: PathLike = "explanations",
    *,
    save: PathLike | None = None,
    pictures: bool = True,
    presets: Sequence[PathLike] = (),
    targets: Sequence[int | str] = (),
    concepts: str | None = None,
    top: int | None = None,
    tokenizer: PathLike | None = None,
    words: bool = False,
    label: str | None = None,
    sample_id: str | None = None,
    provider: str | None = None,
    look: Look = USUAL,
    workers: int | None = None,
    engine: str = "processes",
    say: Say = unheard,
    skip: Say = unheard,
    tick: Tick = untold,
) -> Explained:
    """Explain inputs: a heatmap each, and their numbers in ``results.json``. A run that was cut short goes on where it was when
    the same is asked for again, into the same folder.

    Args:
        model: the file of a classifier, which is compiled first, or of a compiled model.
        inputs: image files (of clips animated ones), sounds (``.wav``), folders of them, ``.npy``, ``.npz``, tables (``.csv``,
            ``.tsv``, ``.parquet``: a row a sample, or of signals a row a step and a column a channel) or
            ``.json`` (a list a sample); of a model with a tokenizer, or of one that takes bytes, files of texts. URLs of
            all of these, and lists of them, ``"@LIST"``: text with a file a line, or a table with a column ``file``.
        request: the options of ``onnxdtd.compile``; of a compiled model, what it leaves open.
        out: the folder to write to.
        save: where the relevance itself goes, with samples, classes and logits: an ``.npz``; a ``.csv`` or ``.parquet`` with a
            row an explanation and a column an entry; a ``.zarr``; or a folder of shards, a name without an ending. A path or a
            URL.
        pictures: draw a heatmap of each.
        presets: several, in place of that of ``request``: each sample is explained under each, in one picture.
        targets: several classes, likewise.
        concepts: an inner tensor of which the strongest channels are shown, and the heatmap of what passes each of them alone.
        top: how many of them; without ``concepts``: how many classes are explained, from the highest score on.
        tokenizer: the ``tokenizer.json`` of a model that takes ids of tokens, or its folder.
        words: sum the relevance of the pieces of a word.
        label: the column of a table that has the true classes, and is no feature.
        sample_id: the column of a table that names the samples.
        provider: the ONNX Runtime provider to run on, on Ray by default the CPU; each actor has a GPU where it is CUDA's.
        look: how explanations are drawn (``onnxdtd.Look``).
        workers: how many processes, of one thread each; None is this process alone, with a thread for each core, on Ray an
            actor for each core of the cluster. More than one start anew whatever script calls this.
        engine: ``"processes"`` of this machine, or ``"ray"``.
        say: hears what there is to know of the model.
        skip: hears of inputs that cannot be explained, where there are others.
        tick: told how many of how many samples are done.

    Raises:
        OnnxdtdError: model, request and inputs do not fit each other, or nothing could be explained.
    """
    roles = Roles(label, sample_id)
    given = given_files(inputs, SUFFIXES if tokenizer is None else TEXTS, roles)
    read = [one.file for one in given]
    besides = [Path(out, name) for name in ("", RESULTS, FEATURES, WORDS, UNFINISHED)]
    wanted = None if save is None else Wanted.to(place(save), [*read, *besides])
    here = workers is None and engine == "processes"
    alone = next((file for file in read if file == STDIN or str(file).startswith(ALONE)), None)
    if not here and alone is not None:
        what = "standard input" if alone == STDIN else alone
        raise RequestError(f"{what} is read by one process; leave out --workers and --engine, or give a file")
    asked = Asked(
        Path(model),
        Ways.of(request or Request(), presets, targets, top if concepts is None else None),
        None if concepts is None else (concepts, TOP if top is None else top),
        None if tokenizer is None else Path(tokenizer),
        words,
        "cpu" if provider is None and engine == "ray" else provider,
        None if here else 1,
        tuple(given),
        Path(out),
        pictures,
        save is not None,
        look,
        roles,
    )
    return ran(Explaining(asked, say=say), wanted, 1 if here else workers, engine, skip, tick)


def ran(
    study: Explaining,
    wanted: Wanted | None = None,
    workers: int | None = 1,
    engine: str = "processes",
    skip: Say = unheard,
    tick: Tick = untold,
) -> Explained:
    """What comes of a study once all is written; arguments and errors as those of ``explain``."""
    if wanted is not None:
        wanted.check(study.feeding.form.shape)
    folder = Folder(study.asked.out)
    whole = len(study.inputs)
    here = workers == 1 and engine == "processes"
    study.tell = lambda done: tick(done, whole) if here else None
    ready = lambda done, units: tick(min(done * study.size, whole), whole)
    with _unfinished(folder.unfinished) as journal, _done(study, workers, engine, journal, untold if here else ready) as book:
        run = Stream(study, book)
        for text in run.skipped if run.has_any else ():
            skip(text)
        explained = run.finish(folder) if run.has_any else None
        if wanted is not None and explained is not None:
            wanted.finish(run.pieces, study.entries if wanted.saved.table else ())
    if explained is None:
        why = run.skipped
        raise RequestError(f"none of the inputs could be explained; the first, {why[0]}" if why else "there are no inputs")
    return explained


def _done(study: Explaining, workers: int | None, engine: str, journal: Path, tick: Tick) -> AbstractContextManager[Journal]:
    """The journal of all units; on a cluster, of machines that see no files of this one."""
    if engine != "ray":
        return jobs.done(study, workers, engine, journal, tick)
    from onnxdtd.study.abroad import Abroad

    sent = Abroad(study)
    return jobs.done(sent, workers, engine, journal, tick, sent.arrived)


@dataclass(frozen=True)
class Asked:
    """What is to be explained, how, and what becomes of it: all that another process has to know. ``concepts`` are a tensor and
    how many of its channels; ``threads`` those of a session.
    """

    model: Path
    ways: Ways
    concepts: tuple[str, int] | None
    tokenizer: Path | None
    words: bool
    provider: str | None
    threads: int | None
    files: tuple[Given, ...]
    out: Path
    pictures: bool
    keep: bool
    look: Look = USUAL
    roles: Roles = NO_ROLES


class Explaining:
    """The study: what is asked, of the samples in all files."""

    def __init__(self, asked: Asked, inputs: Inputs | None = None, say: Say = unheard):
        self.asked, self._say = asked, say
        self.skipped: list[str] = []  # files
        self.tell: Callable[[int], object] = lambda done: None  # told how many samples this process has done
        if inputs is not None:
            self.inputs = inputs

    def __reduce__(self) -> tuple[type[Explaining], tuple[Any, ...]]:
        """What other processes are sent: not what is open here."""
        return type(self), (self.asked, self.inputs)

    @cached_property
    def views(self) -> list[View]:
        """The ways to explain a sample. Raises ``OnnxdtdError`` where the model does not take them."""
        asked = self.asked
        running = partial(
            Explainer,
            providers=[asked.provider] if asked.provider else None,
            folder=asked.model.parent,
            threads=asked.threads,
        )
        say = _once(self._say)
        reading = {
            "tokenizer": asked.tokenizer,
            "words": asked.words,
            "roles": asked.roles,
            "smooth": asked.look.smooth,
            "say": say,
        }
        made = lambda request: _presenter(asked.model, request, running, say, asked.concepts, reading)
        views = list(asked.ways.views(told(files.read(asked.model).proto) or None, made, say))
        for note in () if asked.tokenizer is None else views[0].presenter.feeding.tokens.notes():
            self._say(note)
        return views

    @property
    def feeding(self) -> Feeding:
        """How samples are read and fed, which is the same in all views."""
        return self.views[0].presenter.feeding

    @cached_property
    def inputs(self) -> Inputs:
        """The samples; files that cannot be read are skipped where there are others."""
        return found(self.feeding, self.asked.files, self.skipped if self.lenient else None)

    @property
    def entries(self) -> Sequence[str]:
        """What the entries of the relevance of the first sample are called, where that is known."""
        ((_, sample),) = Reader(self.inputs, self.feeding)(0, 1)
        known = None if isinstance(sample, RequestError) else sample.features
        return () if known is None else [entry.name + entry.category for entry in known.entries]

    @property
    def lenient(self) -> bool:
        """Is what cannot be explained left out? There are several files then."""
        return len(self.asked.files) > 1

    @property
    def size(self) -> int:
        """How many samples are a unit."""
        entries = math.prod(size for size in self.feeding.form.shape if isinstance(size, int))
        return per_unit(len(self.inputs), entries)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from."""
        explainer = self.views[0].presenter.explainer
        compiled = told(files.read(self.asked.model).proto)
        tokenizer = None if self.asked.tokenizer is None else self.feeding.tokens.digest()
        return provenance(
            "onnxdtd.explain",
            [modelled(self.asked.model, compiled.get("source_sha256"))],
            explainer.metadata,
            explainer.session.get_providers()[0],
            taken([one.file for one, _ in self.inputs.files], len(self.inputs), tokenizer, self.inputs.versions),
            {view.presenter.explainer.metadata["preset"]: view.presenter.explainer.metadata["rules"] for view in self.views},
        ).as_data()

    @cached_property
    def parts(self) -> Parts:
        """Where arrays are while the run is not finished."""
        return Parts(self.asked.out / UNFINISHED)

    def units(self) -> int:
        """A few samples each."""
        return -(-len(self.inputs) // self.size)

    def identity(self) -> Any:
        """All that is asked, and what is in the files; what comes from standard input is not looked at, and never the same."""
        rest = {name: value for name, value in self.provenance.items() if name != "run"}
        how = [str(getattr(self.asked, known.name)) for known in fields(Asked) if known.name != "ways"]
        ways = self.asked.ways
        how += [str(ways.targets), str(ways.top)]
        once = secrets.token_hex() if any(one.file == STDIN for one in self.asked.files) else None
        return [
            "explanation",
            rest,
            asked_json(ways.request, [preset for preset in ways.presets if preset is not None]),
            how,
            self.size,
            once,
        ]

    def prepare(self) -> Gallery:
        """What does units, here or in a process of its own."""
        return self.gallery

    @cached_property
    def gallery(self) -> Gallery:
        """What explains and draws."""
        asked = self.asked
        return Gallery(
            self.views,
            self.inputs,
            self.size,
            asked.out if asked.pictures else None,
            self.parts if asked.keep else None,
            self.lenient,
            lambda done: self.tell(done),
            asked.look,
        )


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


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A folder for the journal and the arrays of a run. It stays where the run is cut short once something is done, by a full
    disk for instance, and may go on then; what cannot be asked for leaves nothing. Raises ``RequestError``, and leaves what is
    there, where another run is at work.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RequestError(f"{folder}: cannot write there ({error.strerror})") from None
    keep = True
    try:
        yield folder / JOURNAL
        keep = False
    except Busy:
        raise RequestError(f"{folder.parent}: another run is writing there; wait for it, or give another -o") from None
    except RequestError as error:
        keep = isinstance(error.__context__, OSError | sqlite3.Error) and hasattr(error, "__notes__")
        error.__notes__ = error.__notes__ if keep else []  # they say where it is
        raise
    finally:
        for path in [] if keep else [*folder.glob(f"{JOURNAL}*"), *folder.glob("part-*.npz")]:
            path.unlink()
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def _once(say: Say) -> Say:
    """Tells nothing twice, as several presets have the same to say of a model."""
    heard = set[str]()

    def tell(note: str) -> None:
        if note not in heard:
            heard.add(note)
            say(note)

    return tell


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
        return Presenter(explainer, request.labels, concepts=concepts, **texts), target_of(explainer, request, say)
    if concepts is not None:
        if request.preset is not None:
            check(request.preset, Library().preset(request.preset).method.conserves)
        request = replace(request, mask=(*request.mask, concepts[0]), keep=(*request.keep, concepts[0]))
    job = prepare(model, request)
    compiled = build(job)
    for note in job.plan.notes:
        say(note)
    ledgered = lambda: running(build(prepare(model, replace(request, ledger=True, portable=False))))
    return Presenter(running(compiled), request.labels, ledgered, concepts, **texts), None
