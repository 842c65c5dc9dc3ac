"""What a run of ``explain`` is: all that is asked for, the samples, and the model that explains them, here or in a worker."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from onnxdtd.compiler.compile import build, prepare
from onnxdtd.data.given import Given
from onnxdtd.data.look import USUAL, Look
from onnxdtd.data.tables import NO_ROLES, TARGET, Roles
from onnxdtd.data.texts import STDIN
from onnxdtd.errors import RequestError
from onnxdtd.graph import files
from onnxdtd.labels import Index
from onnxdtd.method.toml import Library
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Explainer, told
from onnxdtd.study.concepts import check
from onnxdtd.study.feeding import Feeding
from onnxdtd.study.gallery import Gallery, View, per_unit
from onnxdtd.study.inputs import Inputs, Reader, found
from onnxdtd.study.parts import Parts
from onnxdtd.study.presenter import Presenter
from onnxdtd.study.provenance import modelled, provenance, taken
from onnxdtd.study.results import UNFINISHED
from onnxdtd.study.settled import settled
from onnxdtd.study.subject import asked as asked_json
from onnxdtd.study.ways import Ways, target_of

Say = Callable[[str], object]


def unheard(text: str) -> None:
    """Nobody listens."""


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
        """The samples; files that cannot be read are skipped where there are others. Raises ``RequestError`` where one asks for
        what is no class, before any is explained.
        """
        made = found(self.feeding, self.asked.files, self.skipped if self.lenient else None)
        if self.asked.roles.target is not None and not made.asking and not any(one.tabled for one in self.asked.files):
            raise RequestError(f"{TARGET} {self.asked.roles.target}: no row of a list, @LIST, or of a table has a class there")
        for target, name in made.asking.items():
            self.views[0].presenter.asked(target, name)
        return made

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
