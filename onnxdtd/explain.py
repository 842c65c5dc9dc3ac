"""The main job: run a compiled model over many inputs, and write a picture of each and one file with all of the numbers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from onnxdtd import atomic
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.images import Caption, draw
from onnxdtd.inputs import Layout, Sample, Scaling, samples, scaling
from onnxdtd.runtime import Explainer, Explanation


@dataclass(frozen=True)
class Result:
    """One explained sample. ``logit`` is the explained score before any Softmax, where the compiled model gives it."""

    name: str
    picture: str
    predicted: int
    predicted_label: str
    score: float
    target: int
    target_label: str
    logit: float | None
    relevance_sum: float
    relevance_min: float
    relevance_max: float
    preset: str
    balance: dict[str, float] | None = None  # what became of the logit, where the model has a ledger


class Folder:
    """Where results go: a PNG a sample and ``results.json``."""

    def __init__(self, path: Path):
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise RequestError(f"{path}: cannot write there ({error.strerror})") from None

    def free(self, name: str, used: set[str]) -> Path:
        """A file name for the picture of ``name`` that no other sample of this run has."""
        stem, number = name, 1
        while stem in used:
            stem, number = f"{name}_{number}", number + 1
        used.add(stem)
        return self.path / f"{stem}.png"

    def finish(self, results: Sequence[Result]) -> Path:
        """Write the numbers, all or nothing."""
        path = self.path / "results.json"
        text = json.dumps([asdict(result) for result in results], indent=1, ensure_ascii=False)
        atomic.write(path, text.encode())
        return path


class Job:
    """A compiled model with everything that is needed to explain samples in words and pictures."""

    def __init__(
        self, explainer: Explainer, labels: Sequence[str] = (), bounds: tuple[object, object] | None = None, bgr: bool = False
    ):
        self.explainer = explainer
        self.labels = labels
        names = [name for name in explainer.metadata["relevance"] if name in explainer.inputs]
        if len(explainer.inputs) != 1:
            raise RequestError(
                f"the model has several inputs ({', '.join(explainer.inputs)}); use the Python API to explain it"
            )
        (self.input,) = names
        kept = explainer.metadata["bounds"]
        low, high = bounds if bounds else (kept["low"], kept["high"]) if kept else (None, None)
        self.scale: Scaling | None = scaling(low, high, bgr)
        shape = explainer.inputs[self.input].shape
        if not shape:
            raise RequestError(
                f"the model does not declare the shape of its input {self.input!r}; use the Python API to explain it"
            )
        self.layout = Layout.of(shape)

    def read(self, file: Path) -> Iterator[Sample]:
        """The samples in a file."""
        return samples(file, self.layout.shape, self.input, self.scale)

    def explain(self, sample: Sample, target: int | None = None) -> tuple[Result, np.ndarray]:
        """One sample: the numbers, and its relevance without the batch axis. ``picture`` is filled in by ``run``."""
        try:
            explanation = self.explainer(self.layout.feed(sample.x), target)
        except RequestError as error:
            raise RequestError(f"{sample.name}: {error}") from None
        relevance = explanation.relevance[self.input]
        relevance = relevance if self.layout.batch is None else relevance[0]
        predicted, chosen, score, logit = self._classes(explanation, target)
        sums = (float(relevance.sum(dtype=np.float64)), float(relevance.min()), float(relevance.max()))
        preset = self.explainer.metadata["preset"]
        words = (predicted, self.label(predicted), score, chosen, self.label(chosen), logit)
        ledger = explanation.ledger
        balance = None if ledger is None else {name: float(values[0]) for name, values in ledger.totals().items()}
        return Result(sample.name, "", *words, *sums, preset, balance), relevance

    def _classes(self, explanation: Explanation, target: int | None) -> tuple[int, int, float, float | None]:
        """Predicted class, explained class, score of the prediction, explained logit."""
        metadata = self.explainer.metadata
        start = explanation.kept.get(metadata["logits"])
        output = explanation.outputs.get(metadata["output"])
        if isinstance(output, list):  # a ZipMap: one dictionary of scores for each sample
            output = np.asarray([list(scores.values()) for scores in output], np.float64)
        scores = output if output is not None and output.dtype.kind == "f" else start
        first = self._row(scores) if scores is not None else np.zeros(1)
        if metadata["classes"] == 2 and first.size == 1 and scores is output:  # the probability of class 1
            first = np.asarray([1 - first[0], first[0]])
        predicted = int(first.argmax())
        if output is not None and output.dtype.kind in "iu":  # the number of the class itself
            predicted = int(self._row(output)[0])
            first = np.resize(first, max(first.size, predicted + 1))
        elif scores is start and scores is not None:  # zero but at the explained class
            predicted = int(np.abs(first).argmax())
        fixed = metadata["target"] if isinstance(metadata["target"], int) else None
        chosen = fixed if fixed is not None else predicted if target in (None, -1) else target
        logit = float(self._row(start).sum(dtype=np.float64)) if start is not None else None
        if start is None and metadata["output"] == metadata["logits"] and not metadata["contrast"] and first.size > 1:
            logit = float(first[chosen])
        return predicted, chosen, float(first[predicted]), None if metadata["derivative"] else logit

    def _row(self, scores: np.ndarray) -> np.ndarray:
        return (scores[0] if scores.ndim > 1 else scores).ravel()

    def label(self, index: int) -> str:
        """The name of a class, or its number."""
        return self.labels[index] if index < len(self.labels) else f"class {index}"

    def caption(self, result: Result) -> Caption:
        """What stands above and below a picture."""
        title = f"{result.name}: {result.predicted_label} (score {result.score:.3g})"
        if result.target != result.predicted:
            title += f", explained: {result.target_label}"
        subtitle = f"{result.preset}   Σ relevance = {result.relevance_sum:.4g}"
        if result.logit is not None:
            lead = self.explainer.metadata["contrast"]
            subtitle += f"   {'lead over the runner-up' if lead else 'logit'} = {result.logit:.4g}"
        return Caption(title, subtitle)


def remarks(results: Sequence[Result]) -> list[str]:
    """What a reader of the heatmaps must know: logits below zero, and relevance that did not arrive."""
    known = [r for r in results if r.logit is not None]
    below = sum(1 for r in known if r.logit is not None and r.logit < 0)
    shares = [r.relevance_sum / r.logit for r in known if r.logit] or [1.0]
    share, difference = float(np.median(shares)), float(np.median(np.abs(np.subtract(shares, 1))))
    found = []
    balances = [r.balance for r in results if r.balance is not None]
    if below:
        found.append(
            f"{below} of {len(known)} explained logits are below zero: their relevance adds up to that negative number, "
            "so blue is evidence for the low score, not against the class; --contrast explains the lead over the runner-up"
        )
    if share > 2 or share < 0:
        found.append(
            f"Σ relevance is {share:.3g} times the logit (median): in this model the rule divides by sums that nearly vanish; "
            "do not read amounts from these heatmaps"
        )
    elif difference > 0.01:
        who = "biases, the stabiliser and neurons without a positive input absorbed the rest (--ledger itemises it)"
        found.append(
            f"Σ relevance is not the logit (median difference {difference:.0%}): {_kept(balances) if balances else who}; "
            "compare heatmaps by shape, not by size"
        )
    return found


def _kept(balances: Sequence[Mapping[str, float]]) -> str:
    """Who kept what, in words: medians, as shares of the logit."""
    who = {
        "bias": "biases kept {:.1%}",
        "stabiliser": "the stabiliser kept {:.1%}",
        "dead": "{:.1%} were lost on neurons without a positive input",
        "constants": "{:.1%} lay on padding and other constants",
    }
    shares = {name: float(np.median([b[name] / b["logit"] for b in balances if b["logit"]])) for name in who}
    return ", ".join(text.format(shares[name]) for name, text in who.items() if abs(shares[name]) >= 5e-4)


def run(
    job: Job,
    found: Sequence[Path],
    folder: Folder,
    target: int | None = None,
    tick: Callable[[], object] = lambda: None,
    skip: Callable[[str], object] | None = None,
) -> list[Result]:
    """Explain every sample of every file, one picture each; ``tick`` is called after each file.

    ``skip`` is told of a file that cannot be read, and the others are explained; without it the first such file is an error.
    """
    results: list[Result] = []
    used: set[str] = set()
    for file in found:
        try:
            for sample in job.read(file):
                results.append(_one(job, sample, folder.free(sample.name, used), target))
        except RequestError as error:
            if skip is None:
                raise
            skip(str(error))
        tick()
    folder.finish(results)
    return results


def _one(job: Job, sample: Sample, picture: Path, target: int | None) -> Result:
    """Explain a sample and draw it."""
    result, relevance = job.explain(sample, target)
    try:
        draw(picture, sample.x, relevance, job.caption(result), job.scale)
    except OSError as error:  # no fault of this sample: the next would fail as well
        raise OnnxdtdError(f"{picture}: cannot be written ({error.strerror})") from None
    return replace(result, picture=picture.name)
