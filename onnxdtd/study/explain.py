"""The main job: run a compiled model over many inputs, and write a picture of each and one file with all of the numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from onnxdtd import atomic
from onnxdtd.data.images import Caption, draw
from onnxdtd.data.read import Sample
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.labels import Index
from onnxdtd.runtime.explainer import Explainer, Explanation
from onnxdtd.study.feeding import Feeding
from onnxdtd.study.notes import Alike, Flag, of_amount, of_rules, of_values

SCORES = {None: "logit", False: "logit", "rest": "lead over the mean of the others"}
RESULTS = "results.json"
MANY_CLASSES = 32  # of so many the first heatmap is kept, to compare others with


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


class Job:
    """A compiled model with everything that is needed to explain samples in words and pictures.

    ``ledgered`` makes the same model with a ledger, which is asked why a heatmap is all zero.
    """

    def __init__(
        self,
        explainer: Explainer,
        labels: Sequence[str] | None = None,
        ledgered: Callable[[], Explainer] | None = None,
    ):
        self.explainer = explainer
        self.labels = explainer.labels.named(labels)
        self._make_ledgered = ledgered
        self.feeding = Feeding(explainer)
        self.feeding.check()

    def explain(self, sample: Sample, target: Index | None = None) -> tuple[Result, np.ndarray]:
        """One sample: the numbers, and its relevance without the batch axis. ``picture`` is filled in by ``run``."""
        feed = self.feeding.feeds({**self.feeding.split(sample.x), **sample.others})
        try:
            explanation = self.explainer(feed, target)
        except RequestError as error:
            raise RequestError(f"{sample.name}: {error}") from None
        relevance = self.feeding.shown(explanation.relevance)
        predicted, score, chosen, logit = self._classes(explanation, target)
        sums = (float(relevance.sum(dtype=np.float64)), float(relevance.min()), float(relevance.max()))
        preset = self.explainer.metadata["preset"]
        words = (predicted, self._label(predicted), score, chosen, self._label(chosen), logit)
        ledger = explanation.ledger
        balance = None if ledger is None else {name: float(values[0]) for name, values in ledger.totals().items()}
        result = Result(sample.name, "", *words, *sums, preset, balance)
        if ledger is None and not relevance.any() and self._ledgered is not None:
            ledger = self._ledgered(feed, target).ledger
        flags = of_amount(result, ledger, self.explainer.metadata["derivative"] is not None)
        flags += of_rules(self.explainer.metadata)
        for name, x in self.feeding.split(sample.x).items():
            flags += of_values(x, self.feeding.forms[name])
        return replace(result, flags=flags), relevance

    @cached_property
    def _ledgered(self) -> Explainer | None:
        """The model with a ledger, where there can be one."""
        try:
            return None if self._make_ledgered is None else self._make_ledgered()
        except OnnxdtdError:  # nothing of a derivative is kept, or samples cannot be told apart
            return None

    def _classes(
        self, explanation: Explanation, target: Index | None
    ) -> tuple[int | None, float | None, int | None, float | None]:
        """Predicted class, its score, explained class, explained logit; None where the model does not tell."""
        metadata = self.explainer.metadata
        scores, predicted = self._scores(explanation), self._labelled(explanation)
        if predicted is None and scores is not None:
            predicted = max(scores, key=lambda index: scores[index])
        asked = metadata["target"] if isinstance(metadata["target"], int) else target
        chosen = predicted if asked is None else asked
        start, plain = explanation.kept.get(metadata["logits"]), not metadata["contrast"]
        logit = None if start is None else float(self._row(start).sum(dtype=np.float64))
        if explanation.logit is not None:
            logit = float(explanation.logit[0])
        if logit is None and metadata["output"] == metadata["logits"] and plain and scores is not None and chosen in scores:
            logit = scores[chosen]
        score = None if scores is None or predicted is None else scores.get(predicted)
        if scores is None and plain and predicted is not None and chosen == predicted:
            score = logit
        return predicted, score, chosen, None if metadata["derivative"] else logit

    def _labelled(self, explanation: Explanation) -> int | None:
        """The class that the model itself names, where it does."""
        metadata = self.explainer.metadata
        output = explanation.outputs.get(metadata.get("label_output", metadata["output"]) or "")
        if not isinstance(output, np.ndarray) or output.dtype.kind == "f":
            return None
        return self.labels.own_index(output.ravel()[0])

    def _scores(self, explanation: Explanation) -> dict[int, float] | None:
        """The model's score of each class, where it gives them. Raises ``RequestError`` where there are not as many labels."""
        metadata = self.explainer.metadata
        output = explanation.outputs.get(metadata.get("score_output", metadata["output"]) or "")
        if isinstance(output, list):  # of a ZipMap: a dictionary of scores by label for each sample, in the order of the labels
            found = {self.labels.own_index(label): float(score) for label, score in output[0].items()}
            return None if None in found else {index: score for index, score in found.items() if index is not None}
        if output is None or output.dtype.kind != "f":
            return None
        row = self._row(output.astype(np.float64))
        if row.size == 1 and self.labels.count == 2:
            if not metadata.get("squashed", True):  # a decision value, whatever shape the model declares
                return None
            row = np.asarray([1 - row[0], row[0]])  # the probability of class 1
        replace(self.labels, count=row.size).named(self.labels.names)
        return dict(enumerate(row.tolist()))

    def _row(self, scores: np.ndarray) -> np.ndarray:
        """The first of several samples, of all of which one is the copy of the other."""
        several = scores.ndim > 1 or any((layout.batch or 1) > 1 for layout in self.feeding.layouts.values())
        return (scores[0] if several else scores).ravel()

    def _label(self, index: int | None) -> str:
        return "" if index is None else self.labels[index]

    def caption(self, result: Result, others: Mapping[str, np.ndarray] | None = None) -> Caption:
        """What stands above and below a picture; ``others`` are inputs that are not explained."""
        score = "" if result.score is None else f" (score {result.score:.3g})"
        title = f"{result.name}: {result.predicted_label or 'no prediction'}{score}"
        if result.target != result.predicted:
            title += f", explained: {result.target_label}"
        subtitle = f"{result.preset}   Σ relevance = {result.relevance_sum:.4g}"
        if result.logit is not None:
            what = SCORES.get(self.explainer.metadata["contrast"], "lead over the runner-up")
            subtitle += f"   {what} = {result.logit:.4g}"
        given = [f"{name} = {value.item()}" for name, value in (others or {}).items() if value.size == 1]
        subtitle += f"   not explained: {', '.join(given)}" if given else ""
        return Caption(title, subtitle, tuple(flag.text for flag in result.flags), self.feeding.features())


class Record:
    """The relevance of a whole run, to be written to an ``.npz``. It is kept in memory until then."""

    def __init__(self, path: Path):
        if path.suffix != ".npz":
            raise RequestError(f"--save {path}: give the name of an .npz file")
        atomic.ready(path)
        self.path = path
        self._relevance: list[dict[str, np.ndarray]] = []

    def add(self, relevance: dict[str, np.ndarray]) -> None:
        """Note the relevance of the next sample, by input."""
        self._relevance.append(relevance)

    def finish(self, results: Sequence[Result]) -> None:
        """Write all, or nothing: ``relevance/<input>`` [n, ...], a sample's ``relevance/<input>/<sample>`` where they differ in
        size, and ``sample``, ``predicted``, ``target`` (-1 where unknown) and ``logit`` (NaN where unknown), each [n].
        """
        classes = {"predicted": [r.predicted for r in results], "target": [r.target for r in results]}
        arrays = {name: np.asarray([-1 if c is None else c for c in found]) for name, found in classes.items()}
        arrays["sample"] = np.asarray([Path(r.picture).stem for r in results], np.str_)
        arrays["logit"] = np.asarray([np.nan if r.logit is None else r.logit for r in results])
        for name in self._relevance[0]:
            whole = [r[name] for r in self._relevance]
            if len({r.shape for r in whole}) == 1:
                arrays[f"relevance/{name}"] = np.stack(whole)
            else:
                arrays |= {f"relevance/{name}/{sample}": r for sample, r in zip(arrays["sample"], whole, strict=True)}
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        atomic.write(self.path, file.getvalue())


@dataclass
class Run:
    """The results of a run so far, and the first sample of each class."""

    job: Job
    folder: Folder
    target: Index | None = None
    record: Record | None = None
    results: list[Result] = field(default_factory=list)
    _used: set[str] = field(default_factory=set)
    _firsts: dict[int | None, tuple[int, Sample, Alike]] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Explain a sample and draw it."""
        result, relevance = self.job.explain(sample, self.target)
        picture = self.folder.free(sample.name, self._used)
        result = replace(result, picture=picture.name)
        if relevance.any():
            result = self._compared(result, sample, relevance)
        self._draw(result, sample, relevance)
        self.results.append(result)
        if self.record is not None:
            self.record.add(self.job.feeding.split(relevance))

    def _compared(self, result: Result, sample: Sample, relevance: np.ndarray) -> Result:
        """The result, flagged where the heatmap is that of the first sample of its class, or where there is none yet of all,
        which is flagged then as well.
        """
        mine = Alike(Path(result.picture).stem, sample.x, relevance)
        place, first, alike = self._firsts.get(result.target) or next(iter(self._firsts.values()), (0, sample, mine))
        same = alike.flag(sample.x, relevance)
        if not same and len(self._firsts) < MANY_CLASSES:
            self._firsts.setdefault(result.target, (len(self.results), sample, mine))
        if same and not any(flag.code == "same" for flag in self.results[place].flags):
            back = mine.flag(first.x, alike.relevance)
            self.results[place] = replace(self.results[place], flags=self.results[place].flags + back)
            self._draw(self.results[place], first, alike.relevance)
        return replace(result, flags=result.flags + same)

    def _draw(self, result: Result, sample: Sample, relevance: np.ndarray) -> None:
        caption = self.job.caption(result, sample.others)
        draw(self.folder.path / result.picture, sample.x, relevance, caption, self.job.feeding.form)


def run(
    job: Job,
    found: Sequence[Path],
    folder: Folder,
    target: Index | None = None,
    tick: Callable[[], object] = lambda: None,
    skip: Callable[[str], object] | None = None,
    record: Record | None = None,
) -> list[Result]:
    """Explain every sample of every file, one picture each; ``tick`` is called after each file.

    ``skip`` is told of a file that cannot be read, and the others are explained; without it the first such file is an error.
    ``record`` is told the relevance of every sample.
    """
    made = Run(job, folder, target, record)
    for file in found:
        try:
            for sample in job.feeding.read(file):
                made.add(sample)
        except RequestError as error:
            if skip is None:
                raise
            skip(str(error))
        tick()
    folder.finish(made.results)
    if record is not None and made.results:
        record.finish(made.results)
    return made.results
