"""A run on machines that share no disk with this one: they are sent the files of the model, and send back what they write."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from onnxdtd import atomic
from onnxdtd.errors import OnnxdtdError
from onnxdtd.runtime.explainer import CUDA, default_providers
from onnxdtd.study import jobs
from onnxdtd.study.explaining import Asked, Explaining
from onnxdtd.study.inputs import Inputs
from onnxdtd.study.jobs import Study, Tick, Work, untold
from onnxdtd.study.luggage import Luggage, Moved, read_besides, tokenizer_files
from onnxdtd.study.results import UNFINISHED

# ---- a study that explains -------------------------------------------------------------------------------------------------


class Abroad:
    """A study, for ``jobs.done``: what a worker of it is sent is a ``Guest``."""

    def __init__(self, study: Explaining):
        self._study = study
        self.units, self.identity, self.prepare = study.units, study.identity, study.prepare
        self.gpus = int("cuda" in (study.asked.provider or "").lower())  # that Ray lets a worker see

    def __reduce__(self) -> tuple[type[Guest], tuple[Any, ...]]:
        """Raises ``OnnxdtdError`` where a file cannot be read."""
        asked = self._study.asked
        texts = [] if asked.tokenizer is None else [tokenizer_files(asked.tokenizer)]
        sent = Luggage.packed([asked.model], [*texts, *read_besides(asked.ways.request, asked.ways.presets)])
        return Guest, (asked, self._study.inputs.absolute(), sent, str(Path.cwd()))

    def arrived(self, unit: int, result: Mapping[str, Any]) -> Any:
        """Write the files of a unit, and give what there is to say of it."""
        for name, data in result["files"].items():
            atomic.write(self._study.asked.out / name, data)
        return result["result"]


class Guest:
    """The study on another machine, with the files that were ``sent``. ``home`` is the folder where the command runs."""

    def __init__(self, asked: Asked, inputs: Inputs, sent: Luggage, home: str):
        self._asked, self._inputs, self._sent, self._home = asked, inputs, sent, home

    def prepare(self) -> Callable[[int], dict[str, Any]]:
        """What does a unit, and gives its result and the files that it wrote, in a folder that goes with this guest."""
        there = self._sent.unpacked(self)
        del self._sent
        study = Explaining(_moved(self._asked, there), self._inputs)
        (study.asked.out / UNFINISHED).mkdir(parents=True)
        here = {there.preset(preset): preset for preset in self._asked.ways.presets if preset is not None}
        for view in study.views:
            metadata = view.presenter.explainer.metadata
            metadata["preset"] = here.get(metadata["preset"], metadata["preset"])
        work = study.prepare()

        def do(unit: int) -> dict[str, Any]:
            self._look(unit * study.size, (unit + 1) * study.size)
            result = work(unit)
            result["skipped"] = [text.replace(f"{self._home}{os.sep}", "") for text in result["skipped"]]
            return {"result": result, "files": dict(_taken(study.asked.out))}

        return do

    def _look(self, start: int, stop: int) -> None:
        """Raises ``OnnxdtdError`` where samples are in files that this machine does not see: they were seen where the command
        runs, so it is no fault of theirs.
        """
        for path in self._inputs.between(start, stop):
            if not os.path.exists(path):
                raise OnnxdtdError(
                    f"{path}: is not seen by the worker on {platform.node()}; give files on a disk that all machines have at "
                    "the same place, or in a store that all can reach, s3://... for example"
                )


def _moved(asked: Asked, there: Moved) -> Asked:
    """What is asked, of files that are somewhere else."""
    presets = [None if name is None else there.preset(name) for name in asked.ways.presets]
    request = replace(there.request(asked.ways.request), preset=presets[0])
    return replace(
        asked,
        model=there.path(asked.model),
        tokenizer=None if asked.tokenizer is None else there.path(asked.tokenizer),
        ways=replace(asked.ways, request=request, presets=tuple(presets)),
        out=there.root / "out",
    )


def _taken(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files in a folder, with their places in it, which are gone then."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path.relative_to(folder).as_posix(), path.read_bytes()
        path.unlink()


# ---- a study that measures -------------------------------------------------------------------------------------------------


class Movable(Study, Protocol):
    """A study that can be done where nothing of this machine is seen."""

    def luggage(self) -> Luggage:
        """All files that it reads. Raises ``OnnxdtdError`` where one cannot be read."""

    def moved(self, there: Moved) -> Study:
        """The same, of files that are somewhere else."""


def run(
    study: Movable, workers: int | None = 1, engine: str = "processes", journal: Path | None = None, tick: Tick = untold
) -> Iterator[Any]:
    """As ``jobs.run``; on Ray workers see no files of this machine."""
    yield from jobs.run(Sent(study) if engine == "ray" else study, workers, engine, journal, tick)


class Sent:
    """A study, for ``jobs.run``: what a worker of it is sent is a ``Visitor``."""

    def __init__(self, study: Movable):
        self._study = study
        self.units, self.identity, self.prepare = study.units, study.identity, study.prepare
        self.gpus = int(default_providers()[0] == CUDA)  # as where the command runs, which says so in its result

    def __reduce__(self) -> tuple[type[Visitor], tuple[Any, ...]]:
        """Raises ``OnnxdtdError`` where a file cannot be read."""
        return Visitor, (self._study, self._study.luggage())


class Visitor:
    """The study on another machine, with the files that were ``sent``."""

    def __init__(self, study: Movable, sent: Luggage):
        self._study, self._sent = study, sent

    def prepare(self) -> Work:
        """What does a unit, from a folder that goes with this visitor."""
        self._there = self._sent.unpacked(self)
        del self._sent
        with self._there.refusing():
            self._work = self._study.moved(self._there).prepare()
        return self._done

    def _done(self, unit: int) -> Any:
        with self._there.refusing():
            return self._there.at_home(self._work(unit))
