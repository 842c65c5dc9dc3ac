"""What is said of an explained sample, and the file that has it of all samples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from onnxdtd import atomic
from onnxdtd.data.features import Described
from onnxdtd.data.readings import Portion, Reading
from onnxdtd.errors import RequestError
from onnxdtd.study.concepts import Concept
from onnxdtd.study.ranking import Ranked
from onnxdtd.study.words import amount, probably

RESULTS, UNFINISHED = "results.json", "unfinished"


@dataclass(frozen=True)
class Flag:
    """Something about a heatmap that a reader must know: a code for machines and a sentence."""

    code: str  # zero, lost, absent, unknown, outside, same, weights, lattice, read or cut
    text: str


@dataclass(frozen=True)
class Named:
    """A term of a vocabulary, or a feature by its name: its ``value`` in a sample, None where that is missing, its
    ``relevance``, and the ``share`` of Σ |relevance| that this is.
    """

    name: str
    value: float | str | None
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
    probability: float | None = None  # the score of the predicted class, where the model gives probabilities
    reading: Reading | None = None  # of a text, what was relevant in it
    label: int | str | None = None  # the true class, as the data call it

    @property
    def standing(self) -> str:
        """How sure the model is of what it predicts, in brackets; nothing where it does not tell."""
        if self.probability is not None:
            return f" ({probably(self.probability)})"
        return "" if self.score is None else f" (score {amount(self.score, 3)})"

    @property
    def whole(self) -> float | None:
        """What relevance would add up to: the logit, or by how much it differs from that at the baseline."""
        return None if self.logit is None else self.logit - (self.at_baseline or 0.0)

    @property
    def missing(self) -> float | None:
        """What Σ relevance falls short of that by; None where relevance adds up to nothing, as that of a derivative."""
        return None if self.whole is None else self.whole - self.relevance_sum

    @property
    def codes(self) -> str:
        """Those of its flags, in one line."""
        return " ".join(flag.code for flag in self.flags)

    def as_data(self) -> dict[str, Any]:
        """As JSON has it."""
        found = dict(self.__dict__)
        found |= {name: [{**entry.__dict__} for entry in found[name]] for name in LISTED}  # they are flat, and asdict is slow
        found["reading"] = None if self.reading is None else asdict(self.reading)
        return {**{name: found.pop(name) for name in FIRST}, "missing": self.missing, **found}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Result:
        """The same again of what ``as_data`` gave."""
        found = {known.name: data[known.name] for known in fields(cls)}
        found |= {name: [kind(**entry) for entry in found[name]] for name, kind in LISTED.items()}
        if found["reading"] is not None:
            read = dict(found["reading"])
            portions = {name: [Portion(**entry) for entry in read[name]] for name in ("tokens", "pro", "contra")}
            found["reading"] = Reading(**{**read, "texts": tuple(read["texts"]), **portions})
        return cls(**found)


FIRST_FEATURE = ',\n "features": ['
LISTED = {"flags": Flag, "concepts": Concept, "pro": Named, "contra": Named}
FIRST = (
    "name",
    "picture",
    "preset",
    "predicted",
    "predicted_label",
    "score",
    "probability",
    "target",
    "target_label",
    "label",
    "logit",
    "relevance_sum",
)

MOST = 5  # terms for the class, and against it


def strongest(sample: Described, relevance: np.ndarray) -> tuple[list[Named], list[Named]]:
    """The features that speak most for the class, and against it; what has no relevance is left out."""
    sums, names = sample.features.sums(relevance), sample.features.names
    total = float(np.abs(sums).sum()) or 1.0
    order = np.argsort(-sums, kind="stable").tolist()
    made = lambda i: Named(names[i], sample.value(i), float(sums[i]), float(sums[i]) / total)
    pro, contra = ([made(i) for i in some[:MOST]] for some in (order, order[::-1]))
    return [each for each in pro if each.relevance > 0], [each for each in contra if each.relevance < 0]


class Folder:
    """Where results go: a PNG a sample and ``results.json``; as long as a run is not finished, a folder with what is."""

    def __init__(self, path: Path):
        self.path, self.unfinished = path, path / UNFINISHED
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"{path}: cannot write there ({error.strerror})") from None
        atomic.ready(path / RESULTS)

    def finish(
        self,
        provenance: Mapping[str, Any],
        results: Iterable[Result],
        features: Sequence[Ranked] = (),
        skipped: Sequence[str] = (),
    ) -> Path:
        """Write the numbers, one result after the other, what all of them say of ``features``, and which inputs were
        ``skipped``; all or nothing.
        """
        path = self.path / RESULTS
        with atomic.streamed(path) as file:
            file.write(f'{{\n "provenance": {_indented(provenance)},\n "samples": ['.encode(errors="replace"))
            for i, result in enumerate(results):
                file.write(f"{',' * (i > 0)}\n  {_indented(result.as_data())}".encode())
            file.write(b"\n ]")
            for i, row in enumerate(features):
                file.write(f"{',' if i else FIRST_FEATURE}\n  {_indented(asdict(row))}".encode())
            file.write(b"\n ]" if features else b"")
            if skipped:
                file.write(f',\n "skipped": {_indented(skipped)}'.encode(errors="replace"))
            file.write(b"\n}\n")
        return path


def _indented(data: Mapping[str, Any] | Sequence[str]) -> str:
    """JSON as a part of more."""
    return json.dumps(data, indent=1, ensure_ascii=False).replace("\n", "\n  ")
