"""The samples of several files by number, whichever process asks for them, and what each is called."""

from __future__ import annotations

import os
from bisect import bisect
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path

from onnxdtd.data.given import Given
from onnxdtd.data.read import SUFFIXES, Sample
from onnxdtd.data.remote import Remote, staged, versions
from onnxdtd.data.texts import STDIN
from onnxdtd.errors import RequestError
from onnxdtd.study.feeding import Feeding

PICTURES = tuple(suffix for suffix in SUFFIXES if suffix not in (".npy", ".npz"))


@dataclass(frozen=True)
class Inputs:
    """``files`` with how many samples each has; ``renamed`` are those, by number, whose name another one has already.
    ``versions`` are those of files in stores, by URL. ``asking`` has a sample for each class that any asks for, by its file
    where that has no other.
    """

    files: Sequence[tuple[Given, int]]
    renamed: dict[int, str]
    versions: dict[str, str]
    asking: dict[int | str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many samples there are."""
        return sum(count for _, count in self.files)

    @cached_property
    def _firsts(self) -> list[int]:
        """The number of the first sample of each file."""
        return list(accumulate((count for _, count in self.files), initial=0))[:-1]

    def place(self, number: int) -> tuple[int, int]:
        """In which file a sample is, and where in it."""
        place = bisect(self._firsts, number) - 1
        return place, number - self._firsts[place]

    def between(self, start: int, stop: int) -> Iterator[Path]:
        """The files on disk that have the samples from ``start`` on."""
        for place in dict.fromkeys(self.place(number)[0] for number in range(start, min(stop, len(self)))):
            if isinstance(file := self.files[place][0].file, Path):
                yield file

    def absolute(self) -> Inputs:
        """The same, wherever it is read."""
        whole = [
            (replace(one, file=one.file.absolute() if isinstance(one.file, Path) else one.file), n) for one, n in self.files
        ]
        return replace(self, files=whole)


def found(feeding: Feeding, files: Sequence[Given], skipped: list[str] | None) -> Inputs:
    """What is in ``files``. Those that cannot be read are noted in ``skipped``; without it the first is an error. Pictures are
    not read yet.
    """
    stored = list(dict.fromkeys(one.file for one in files if isinstance(one.file, Remote)))
    known = dict(zip(stored, versions(stored), strict=True))
    counts, names = [], list[str]()
    asking: dict[int | str, str] = {}
    for one in files:
        try:
            if known[one.file] is None if isinstance(one.file, Remote) else one.file != STDIN and not os.path.exists(one.file):
                raise RequestError(f"{one.file}: no such file")
            there = list(_told(feeding, one))
        except RequestError as error:
            if skipped is None:
                raise
            said = str(error)
            skipped.append(said if str(one.file) in said else f"{one.file}: {said}")
            continue
        counts.append((one, len(there)))
        names += [name for name, _ in there]
        for name, target in there:
            if target is not None:
                asking.setdefault(target, str(one.file) if len(there) == 1 else name)
    told = {remote.url: version for remote, version in known.items() if version}
    return Inputs(counts, dict(_renamed(names)), told, asking)


def _told(feeding: Feeding, given: Given) -> Iterator[tuple[str, int | str | None]]:
    """What the samples of a file are called, and which class each asks for."""
    file = given.file
    if file.suffix.lower() in PICTURES and not feeding.is_text(Path(file.name)):
        yield given.name or file.stem, given.target
        return
    with staged(file) as path:
        there = [(sample.name, _first(sample.target, given.target)) for sample in feeding.read(path, given.tabled)]
    yield from [(given.name, there[0][1])] if given.name and len(there) == 1 else there


def _first(*classes: int | str | None) -> int | str | None:
    """The first one that is told."""
    return next((known for known in classes if known is not None), None)


def _renamed(names: Iterable[str]) -> Iterator[tuple[int, str]]:
    """New names, by place, for those that there are already, ``x``, ``x_1``, ``x_2``, and those of files that are no text."""
    used = set[str]()
    for place, name in enumerate(names):
        told = name.encode(errors="replace").decode()
        free, number = told, 1
        while free in used:
            free, number = f"{told}_{number}", number + 1
        used.add(free)
        if free != name:
            yield place, free


class Reader:
    """Reads ``inputs`` by number; who asks for one after the other reads each file once."""

    def __init__(self, inputs: Inputs, feeding: Feeding):
        self._inputs, self._feeding = inputs, feeding
        self._file, self._next = -1, 0
        self._samples: Generator[Sample, None, None] = (sample for sample in list[Sample]())

    def __call__(self, start: int, stop: int) -> Iterator[tuple[int, Sample | RequestError]]:
        """The samples from ``start`` on, each with its number, or why it cannot be read."""
        for number in range(start, min(stop, len(self._inputs))):
            try:
                yield number, self._sample(number)
            except RequestError as error:
                self._file = -1
                yield number, error

    def _sample(self, number: int) -> Sample:
        place, within = self._inputs.place(number)
        given, count = self._inputs.files[place]
        if place != self._file or within < self._next:
            self._samples, self._next = self._read(given), 0
            self._file = place
        sample = next(islice(self._samples, within - self._next, None), None)
        self._next = within + 1
        if self._next == count:  # a copy of it need not lie about
            self._samples.close()
            self._file = -1
        if sample is None:
            raise RequestError(f"{given.file}: has changed while it was read")
        name = self._inputs.renamed.get(number, given.name if count == 1 else None)
        label, target = _first(sample.label, given.label), _first(sample.target, given.target)
        return replace(sample, name=name or sample.name, label=label, target=target)

    def _read(self, given: Given) -> Generator[Sample, None, None]:
        """The samples of a file, which is there as long as they are asked for."""
        with staged(given.file) as path:
            yield from self._feeding.read(path, given.tabled)
