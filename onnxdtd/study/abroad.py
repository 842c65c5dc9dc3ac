"""A run on machines that share no disk with this one: they are sent the files of the model, and send back what they write."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxdtd import atomic, bounded
from onnxdtd.data.tokens import files_of
from onnxdtd.errors import ModelError, OnnxdtdError
from onnxdtd.graph import files
from onnxdtd.study.explaining import Asked, Explaining
from onnxdtd.study.inputs import Inputs
from onnxdtd.study.results import UNFINISHED

MOST = 2**40  # bytes of a file
TOML = ".toml"  # ends the file in the name of a preset; a name within it may follow

Moved = Callable[[str], str]


class Abroad:
    """A study, for ``jobs.done``: what a worker of it is sent is a ``Guest``."""

    def __init__(self, study: Explaining):
        self._study = study
        self.units, self.identity, self.prepare = study.units, study.identity, study.prepare
        self.gpus = int("cuda" in (study.asked.provider or "").lower())  # that Ray lets a worker see

    def __reduce__(self) -> tuple[type[Guest], tuple[Any, ...]]:
        """Raises ``OnnxdtdError`` where a file cannot be read."""
        asked = self._study.asked
        sent = {f"model/{asked.model.name}": _bytes(asked.model)}
        for weights in files.locations(files.read(asked.model).proto):
            sent[f"model/{weights}"] = _bytes(asked.model.parent / weights)
        places = {str(asked.model): f"model/{asked.model.name}"}
        for i, (path, own) in enumerate(_read(asked)):
            places[path] = f"{i}/{own[0].name}"
            sent |= {f"{i}/{file.name}": _bytes(file) for file in own}
        return Guest, (asked, self._study.inputs.absolute(), places, sent, str(Path.cwd()))

    def arrived(self, unit: int, result: Mapping[str, Any]) -> Any:
        """Write the files of a unit, and give what there is to say of it."""
        for name, data in result["files"].items():
            atomic.write(self._study.asked.out / name, data)
        return result["result"]


class Guest:
    """The study on another machine: of the files that were ``sent``, ``places`` are those of what ``asked`` names. ``home``
    is the folder where the command runs.
    """

    def __init__(self, asked: Asked, inputs: Inputs, places: Mapping[str, str], sent: Mapping[str, bytes], home: str):
        self._asked, self._inputs, self._places, self._sent, self._home = asked, inputs, places, sent, home

    def prepare(self) -> Callable[[int], dict[str, Any]]:
        """What does a unit, and gives its result and the files that it wrote, in a folder that goes with this guest."""
        root = Path(tempfile.mkdtemp(prefix="onnxdtd-"))
        weakref.finalize(self, shutil.rmtree, root, ignore_errors=True)
        for place, data in self._sent.items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_bytes(data)
        self._sent = {}
        there = lambda path: str(root / self._places[path]) if path in self._places else path
        study = Explaining(_moved(self._asked, there, root / "out"), self._inputs)
        (study.asked.out / UNFINISHED).mkdir(parents=True)
        here = {_preset(preset, there): preset for preset in self._asked.ways.presets if preset is not None}
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


def _read(asked: Asked) -> Iterator[tuple[str, list[Path]]]:
    """What a study reads besides the model and the samples: as it is asked for, and the files that these are."""
    if asked.tokenizer is not None:
        yield str(asked.tokenizer), files_of(asked.tokenizer)
    request = asked.ways.request
    baselines = request.baseline.values() if isinstance(request.baseline, Mapping) else [request.baseline]
    presets = [_file(preset) for preset in asked.ways.presets if preset is not None]
    for path in dict.fromkeys([*presets, request.fitted, *baselines]):
        if isinstance(path, str) and os.path.isfile(path):
            yield path, [Path(path)]


def _file(preset: str) -> str | None:
    """The file of a preset, if it is in one."""
    return preset.partition(TOML)[0] + TOML if TOML in preset else None


def _preset(preset: str, there: Moved) -> str:
    """What a preset is called where its file is somewhere else."""
    file = _file(preset)
    return preset if file is None else there(file) + preset.removeprefix(file)


def _moved(asked: Asked, there: Moved, out: Path) -> Asked:
    """What is asked, of files that are somewhere else."""
    moved = lambda value: there(value) if isinstance(value, str) else value
    request, presets = asked.ways.request, [None if name is None else _preset(name, there) for name in asked.ways.presets]
    baseline = request.baseline
    request = replace(
        request,
        preset=presets[0],
        fitted=moved(request.fitted),
        baseline={name: moved(v) for name, v in baseline.items()} if isinstance(baseline, Mapping) else moved(baseline),
    )
    return replace(
        asked,
        model=Path(there(str(asked.model))),
        tokenizer=None if asked.tokenizer is None else Path(there(str(asked.tokenizer))),
        ways=replace(asked.ways, request=request, presets=tuple(presets)),
        out=out,
    )


def _taken(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files in a folder, with their places in it, which are gone then."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path.relative_to(folder).as_posix(), path.read_bytes()
        path.unlink()


def _bytes(path: Path) -> bytes:
    try:
        return bounded.data(path, MOST)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
