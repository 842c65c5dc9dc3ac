"""Files of this machine that a study reads: sent to machines that share no disk with it, and found there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxdtd import bounded
from onnxdtd.data.tokens import files_of
from onnxdtd.errors import ModelError, OnnxdtdError
from onnxdtd.graph import files
from onnxdtd.request import Request

MOST = 2**40  # bytes of a file
TOML = ".toml"  # ends the file in the name of a preset; a name within it may follow


@dataclass(frozen=True)
class Luggage:
    """The bytes of ``files`` by their place in a folder, and the ``places`` of what a study calls by where it lies at home."""

    places: Mapping[str, str]
    files: Mapping[str, bytes]

    @classmethod
    def packed(cls, models: Iterable[Path], others: Iterable[tuple[str, Mapping[str, Path]]]) -> Luggage:
        """Models with their external weights, and ``others`` by what they are called: files by their places, of which the first
        is the one that is meant, but where all are in a folder. Raises ``OnnxdtdError`` where one cannot be read.
        """
        places, sent = dict[str, str](), dict[str, bytes]()
        for i, model in enumerate(models):
            places[str(model)] = f"model{i}/{model.name}"
            for name in (model.name, *files.locations(files.read(model).proto)):
                sent[f"model{i}/{name}"] = _bytes(model.parent / name)
        for i, (called, own) in enumerate(others):
            first = next(iter(own))
            places[called] = f"{i}/{first.partition('/')[0]}"
            sent |= {f"{i}/{name}": _bytes(path) for name, path in own.items()}
        return cls(places, sent)

    def unpacked(self, owner: object) -> Moved:
        """The files in a folder that goes with its ``owner``."""
        root = Path(tempfile.mkdtemp(prefix="onnxdtd-"))
        weakref.finalize(owner, shutil.rmtree, root, ignore_errors=True)
        for name, data in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return Moved(root, {path: str(root / place) for path, place in self.places.items()})


@dataclass(frozen=True)
class Moved:
    """Where files lie that were unpacked in a folder ``root``, by what they are called at home."""

    root: Path
    places: Mapping[str, str]

    def __call__(self, path: str) -> str:
        """Where a file is; what was not sent is called as it was."""
        return self.places.get(path, path)

    def path(self, path: Path) -> Path:
        """The same of a path."""
        return Path(self(str(path)))

    def preset(self, preset: str) -> str:
        """What a preset is called where its file is here."""
        file = _file(preset)
        return preset if file is None else self(file) + preset.removeprefix(file)

    def request(self, request: Request) -> Request:
        """What is asked, of files that are here; the preset stays."""
        moved = lambda value: self(value) if isinstance(value, str) else value
        baseline = request.baseline
        several = isinstance(baseline, Mapping)
        return replace(
            request,
            fitted=moved(request.fitted),
            baseline={name: moved(v) for name, v in baseline.items()} if several else moved(baseline),
        )

    def at_home(self, result: Any) -> Any:
        """What is said here, as JSON, with files called as they are at home."""
        text = json.dumps(result, ensure_ascii=False)
        for path, place in self.places.items():
            text = text.replace(_inside(place), _inside(path))
        return json.loads(text)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Errors call files as they are called at home."""
        try:
            yield
        except OnnxdtdError as error:
            error.args = tuple(self.at_home(said) if isinstance(said, str) else said for said in error.args)
            raise


def read_besides(request: Request, presets: Sequence[str | None]) -> Iterator[tuple[str, dict[str, Path]]]:
    """What a study reads besides models and samples, for ``Luggage.packed``."""
    baselines = request.baseline.values() if isinstance(request.baseline, Mapping) else [request.baseline]
    own = [_file(preset) for preset in presets if preset is not None]
    for path in dict.fromkeys([*own, request.fitted, *baselines]):
        if isinstance(path, str) and os.path.isfile(path):
            yield path, {Path(path).name: Path(path)}


def tokenizer_files(tokenizer: Path | str) -> tuple[str, dict[str, Path]]:
    """A tokenizer with the settings beside it, likewise."""
    return str(tokenizer), {file.name: file for file in files_of(Path(tokenizer))}


def _file(preset: str) -> str | None:
    """The file of a preset, if it is in one."""
    return preset.partition(TOML)[0] + TOML if TOML in preset else None


def _inside(text: str) -> str:
    """As it stands in a string of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _bytes(path: Path) -> bytes:
    try:
        return bounded.data(path, MOST)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
