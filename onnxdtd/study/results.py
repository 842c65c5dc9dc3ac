"""What is said of an explained sample, and the files that it goes to."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from onnxdtd import atomic
from onnxdtd.data.readings import Reading
from onnxdtd.errors import RequestError
from onnxdtd.study.concepts import Concept

RESULTS = "results.json"


@dataclass(frozen=True)
class Flag:
    """Something about a heatmap that a reader must know: a code for machines and a sentence."""

    code: str  # zero, lost, absent, outside, same, weights, read or cut
    text: str


@dataclass(frozen=True)
class Named:
    """A term of a vocabulary, or a column by its name: its ``value`` in a sample, its ``relevance``, and the ``share`` of
    Σ |relevance| that this is.
    """

    name: str
    value: float
    relevance: float
    share: float


@dataclass(frozen=True)
class Result:
    """One explained sample. ``predicted`` and ``target`` are indices; ``score`` is what the model gives the predicted class and
    ``logit`` the explained score before any Softmax. None is what the model does not tell.
    """

    name: str
    picture: str
    predicted: int | None
    predicted_label: str
    score: float | None
    target: int | None
    target_label: str
    logit: float | None
    relevance_sum: float
    relevance_min: float
    relevance_max: float
    preset: str
    balance: dict[str, float] | None = None  # what became of the logit, where the model has a ledger
    flags: list[Flag] = field(default_factory=list)  # what a reader must know of this heatmap
    concepts: list[Concept] = field(default_factory=list)  # the strongest channels of a tensor, where they were asked for
    pro: list[Named] = field(default_factory=list)  # the terms that speak most for the class, where they have names
    contra: list[Named] = field(default_factory=list)  # ... and against it
    at_baseline: float | None = None  # the same score of what the input was compared with
    reading: Reading | None = None  # of a text, what was relevant in it

    @property
    def whole(self) -> float | None:
        """What relevance would add up to: the logit, or by how much it differs from that at the baseline."""
        return None if self.logit is None else self.logit - (self.at_baseline or 0.0)


MOST = 5  # terms for the class, and against it


def strongest(names: Sequence[str], values: np.ndarray, relevance: np.ndarray) -> tuple[list[Named], list[Named]]:
    """What speaks most for the class, and against it, of entries [n] by their ``names``; what has no relevance is left out."""
    total = float(np.abs(relevance).sum(dtype=np.float64)) or 1.0
    order = np.argsort(-relevance, kind="stable")
    made = lambda i: Named(names[i], float(values[i]), float(relevance[i]), float(relevance[i]) / total)
    pro, contra = ([made(i) for i in some[:MOST]] for some in (order, order[::-1]))
    return [each for each in pro if each.relevance > 0], [each for each in contra if each.relevance < 0]


class Folder:
    """Where results go: a PNG a sample and ``results.json``."""

    def __init__(self, path: Path):
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"{path}: cannot write there ({error.strerror})") from None
        atomic.ready(path / RESULTS)

    def free(self, name: str, used: set[str]) -> Path:
        """A file name for the picture of ``name`` that no other sample of this run has."""
        stem, number = name, 1
        while stem in used:
            stem, number = f"{name}_{number}", number + 1
        used.add(stem)
        return self.path / f"{stem}.png"

    def finish(self, results: Sequence[Result]) -> Path:
        """Write the numbers, all or nothing."""
        path = self.path / RESULTS
        text = json.dumps([asdict(result) for result in results], indent=1, ensure_ascii=False)
        atomic.write(path, text.encode())
        return path


class Record:
    """The relevance of a whole run, to be written to an ``.npz``. It is kept in memory until then."""

    def __init__(self, path: Path):
        if path.suffix != ".npz":
            raise RequestError(f"--save {path}: give the name of an .npz file")
        atomic.ready(path)
        self.path = path
        self._relevance: list[dict[str, np.ndarray]] = []

    def add(self, relevance: dict[str, np.ndarray], concepts: Sequence[dict[str, np.ndarray]] = ()) -> None:
        """Note the relevance of the next sample, by input, and that of each of its concepts."""
        named = {f"relevance/{name}": r for name, r in relevance.items()}
        stacked = {f"concepts/{name}": np.stack([part[name] for part in concepts]) for name in (relevance if concepts else ())}
        self._relevance.append(named | stacked)

    def finish(self, results: Sequence[Result]) -> None:
        """Write all, or nothing: ``relevance/<input>`` [n, ...], a sample's ``relevance/<input>/<sample>`` where they differ in
        size, and ``sample``, ``predicted``, ``target`` (-1 where unknown) and ``logit`` (NaN where unknown), each [n]. Of
        concepts ``concepts/<input>`` [n, k, ...] likewise, and ``channels/<tensor>`` [n, k].
        """
        classes = {"predicted": [r.predicted for r in results], "target": [r.target for r in results]}
        arrays = {name: np.asarray([-1 if c is None else c for c in found]) for name, found in classes.items()}
        arrays["sample"] = np.asarray([Path(r.picture).stem for r in results], np.str_)
        arrays["logit"] = np.asarray([np.nan if r.logit is None else r.logit for r in results])
        if results[0].concepts:
            channels = np.asarray([[concept.channel for concept in r.concepts] for r in results])
            arrays[f"channels/{results[0].concepts[0].tensor}"] = channels
        for name in self._relevance[0]:
            whole = [r[name] for r in self._relevance]
            if len({r.shape for r in whole}) == 1:
                arrays[name] = np.stack(whole)
            else:
                arrays |= {f"{name}/{sample}": r for sample, r in zip(arrays["sample"], whole, strict=True)}
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        atomic.write(self.path, file.getvalue())
