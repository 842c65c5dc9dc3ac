"""The main job: run a model over many inputs, and write a picture of each and one file with all of the numbers.

A run is a stream: units of work, in this process or in others, explain, draw and keep samples; what they have to say goes
through a journal to the file of results, to what is saved and to what is told at the end. Nothing is kept of a sample that is
written.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from onnxdtd.data.given import given as given_files
from onnxdtd.data.look import USUAL, Look
from onnxdtd.data.read import SUFFIXES
from onnxdtd.data.remote import ALONE, place
from onnxdtd.data.tables import Roles
from onnxdtd.data.texts import STDIN
from onnxdtd.data.texts import SUFFIXES as TEXTS
from onnxdtd.errors import RequestError
from onnxdtd.request import Request
from onnxdtd.study import jobs
from onnxdtd.study.abroad import Abroad
from onnxdtd.study.concepts import TOP
from onnxdtd.study.explaining import Asked, Explaining, Say, unheard
from onnxdtd.study.jobs import Busy, Journal, Tick, untold
from onnxdtd.study.ranking import FEATURES
from onnxdtd.study.results import RESULTS, UNFINISHED, Folder
from onnxdtd.study.saved import Wanted
from onnxdtd.study.stream import Explained, Stream
from onnxdtd.study.ways import Ways
from onnxdtd.study.wordlist import WORDS

JOURNAL = "journal"

PathLike = str | os.PathLike[str]


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
    target_column: str | None = None,
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
        target_column: the column of a list, or of a table, that says which class is explained of each sample, by its label or
            index; where a cell is empty the predicted one.
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
    roles = Roles(label, sample_id, target_column)
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
        Ways.of(request or Request(), presets, targets, top if concepts is None else None, target_column is not None),
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
    whole = len(study.inputs)
    folder = Folder(study.asked.out)
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
    sent = Abroad(study)
    return jobs.done(sent, workers, engine, journal, tick, sent.arrived)


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
