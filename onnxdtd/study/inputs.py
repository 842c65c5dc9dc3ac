"""The samples of several files by number, whichever process asks for them, and what each is called."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from pathlib import Path

from onnxdtd.data.read import SUFFIXES, Sample
from onnxdtd.errors import RequestError
from onnxdtd.study.feeding import Feeding

PICTURES = tuple(suffix for suffix in SUFFIXES if suffix not in (".npy", ".npz"))


@dataclass(frozen=True)
class Inputs:
    """``files`` with how many samples each has; ``renamed`` are those, by number, whose name another one has already."""

    files: Sequence[tuple[Path, int]]
    renamed: dict[int, str]

    def __len__(self) -> int:
        """How many samples there are."""
        return sum(count for _, count in self.files)


def found(feeding: Feeding, files: Sequence[Path], skipped: list[str] | None) -> Inputs:
    """What is in ``files``. Those that cannot be read are noted in ``skipped``; without it the first is an error. Pictures are
    not read yet.
    """
    counts, names = [], []
    for file in files:
        try:
            there = _names(feeding, file)
        except RequestError as error:
            if skipped is None:
                raise
            skipped.append(str(error))
            continue
        counts.append((file, len(there)))
        names += there
    return Inputs(counts, dict(_renamed(names)))


def _names(feeding: Feeding, file: Path) -> list[str]:
    """What the samples of a file are called."""
    if file.suffix.lower() in PICTURES and not feeding.is_text(file):
        return [file.stem]
    return [sample.name for sample in feeding.read(file)]


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
        self._firsts = list(accumulate((count for _, count in inputs.files), initial=0))[:-1]
        self._file, self._next = -1, 0
        self._samples: Iterator[Sample] = iter(())

    def __call__(self, start: int, stop: int) -> Iterator[tuple[int, Sample | RequestError]]:
        """The samples from ``start`` on, each with its number, or why it cannot be read."""
        for number in range(start, min(stop, len(self._inputs))):
            try:
                yield number, self._sample(number)
            except RequestError as error:
                self._file = -1
                yield number, error

    def _sample(self, number: int) -> Sample:
        place = bisect(self._firsts, number) - 1
        file, within = self._inputs.files[place][0], number - self._firsts[place]
        if place != self._file or within < self._next:
            self._file, self._next, self._samples = place, 0, iter(self._feeding.read(file))
        sample = next(islice(self._samples, within - self._next, None), None)
        self._next = within + 1
        if sample is None:
            raise RequestError(f"{file}: has changed while it was read")
        name = self._inputs.renamed.get(number)
        return sample if name is None else replace(sample, name=name)
