"""A compiled model at work: beside the model that it was compiled from, and beside its own relevance pass without shortcuts.

The file takes shortcuts (``residual``, ``chained``, ...), which a fresh compile would take as wrongly. So what it
gives is compared with the same rules step by step as they are defined, whose ledger also says how much there must be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnxdtd.compiler.alive import alive
from onnxdtd.compiler.compile import build
from onnxdtd.compiler.logits import heads, step_back
from onnxdtd.compiler.prepared import Prepared
from onnxdtd.compiler.raster import Raster
from onnxdtd.compiler.score import is_binary
from onnxdtd.contract import SCORE
from onnxdtd.errors import ModelError, OnnxdtdError
from onnxdtd.labels import Index
from onnxdtd.operators.table import LABELS, LABELS_AND_SCORES, LOGARITHMS, PROBABILITIES
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Explainer, Explanation, Ledger, session

# How far rounding may go: of the largest output of a run, the largest relevance of a sample, or all of a sample's relevance.
# The bundled models and seventeen trained ones under every preset show 6e-7, 5e-7 and 4e-6 at most; in half precision, where a
# CPU rounds at other places once other nodes read a tensor as well, 3e-3, 0 and 2e-6.
ROUNDING, HALF = 1e-4, 2e-2

Feeds = Mapping[str, np.ndarray]
Outputs = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """What one input showed: what relevance has another shape or type than what it explains; whether it is finite; how far
    the outputs are from those of the predictor alone, and the explained score from what its logits say (None where they are no
    tensor); how far relevance is from the definition, entry by entry and as a sum (None without a ledger); how much of it has
    another sign than the logit, how much there is, and the ledger; how far it is from being ``complete`` (None where it shares
    out no difference); how far it depends on another sample in its batch (None where that was not tried); what classes show
    that the file was ``asked`` for.
    """

    misshapen: list[str]
    finite: bool
    prediction: float
    score: float | None
    heatmap: float
    total: float | None
    opposite: float
    whole: float
    ledger: Ledger | None
    complete: float | None = None
    mixing: float | None = None
    asked: Sequence[Run] = ()

    @property
    def off(self) -> float:
        """The largest of the distances, NaN if one is."""
        own = [self.prediction, self.score or 0.0, self.heatmap, self.total or 0.0]
        return float(np.max([*own, *(run.off for run in self.asked)]))


class Trial:
    """Sessions of the file, of the predictor alone, and of the definition of its relevance pass.

    ``model`` is what the predictor runs from, a path or a proto whose weights lie in ``folder``. Raises ``ModelError`` where
    one of them cannot be loaded.
    """

    def __init__(self, compiled: str, model: Any, defined: onnx.ModelProto, job: Prepared, folder: Path, optimise: bool = True):
        providers = None if optimise else ["CPUExecutionProvider"]
        self.file = Explainer(compiled, providers, optimise=optimise)
        self.plain = session(model, providers, folder, optimise=optimise)
        self._defined = Explainer(defined, providers, folder, optimise=optimise)
        self._known = Known.of(job)

    def mixing(self, one: Feeds, other: Feeds) -> float | None:
        """How far the relevance of a sample depends on another one in its batch, as a share of the largest; None where the
        model takes one at a time.

        It is compared with that in a batch of nothing but itself: of the same size, so that the runtime rounds alike.
        """
        axes = {name: self.file.samples.get(name) for name in one}
        fixed = [axis is None or isinstance(self.file.inputs[name].shape[axis], int) for name, axis in axes.items()]
        if any(fixed) or any(one[name].shape != other[name].shape for name in one):
            return None
        batch = lambda a, b: {name: np.concatenate([a[name], b[name]], axis) for name, axis in axes.items()}
        both = batch(one, other)
        try:
            self.plain.run(None, self.file.own(both))
        except Exception:  # ONNX Runtime's own exceptions share no base class
            return None
        with _running():
            found = self.file(both)
            apart = [
                distance(rows(self.file(batch(x, x)).relevance[name], axis)[row], rows(found.relevance[name], axis)[row])
                for row, x in enumerate((one, other))
                for name, axis in ((name, self._known.axis(name)) for name in found.relevance)
            ]
        return float(np.max(apart))

    def asked(self, feeds: Feeds) -> list[Run]:
        """What an input shows when the file is told the class: two classes, of which the arg-max is one at most."""
        if self.file.metadata.get("target_input") is None or self.file.weights is not None:
            return []
        return [self(feeds, Index(k)) for k in range(min(2, self.file.metadata["classes"] or 2))]

    def __call__(self, feeds: Feeds, target: Index | None = None) -> Run:
        """What an input shows, explained for ``target`` or else for what the file explains by itself. Raises ``ModelError``
        where a model does not run on it.
        """
        names = [node.name for node in self.plain.get_outputs()]
        with _running():
            outputs = dict(zip(names, self.plain.run(names, self.file.own(feeds)), strict=True))
            return compared(self._known, feeds, outputs, self.file(feeds, target), self._defined(feeds, target), target)


@contextmanager
def _running() -> Iterator[None]:
    """Whatever goes wrong is the model's fault."""
    try:
        yield
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        raise ModelError(str(error) if isinstance(error, OnnxdtdError) else f"{type(error).__name__}: {error}") from None


@dataclass(frozen=True)
class Known:
    """What the plan of a model says of its outputs: which are ``probable``, along which ``axes`` the samples of the inputs lie,
    how its ``logits`` (of a ``binary`` model the only one) make the score, of which ``weights`` names the coefficients, and
    whether relevance ``splits`` its difference to the baseline. ``apart`` is what is added to what ids look up, and to which.
    """

    probable: Collection[str]
    axes: Mapping[str, int | None]
    logits: str
    raster: Raster
    binary: bool
    request: Request
    weights: str | None
    splits: bool
    apart: Mapping[str, str]

    @classmethod
    def of(cls, job: Prepared) -> Known:
        """That of a planned model."""
        plan, weights = job.plan, job.addition.metadata["target_input"] if job.request.target == SCORE else None
        told = plan.samples.axes, plan.logits.name, plan.raster, is_binary(plan), job.request, weights, plan.method.splits
        return cls(probabilities(job), *told, job.addition.metadata.get("apart", {}))

    def axis(self, name: str) -> int | None:
        """The axis of the samples in the relevance of a tensor."""
        return self.axes.get(self.apart.get(name, name))

    def score(self, logits: np.ndarray, target: int | None, feeds: Feeds) -> np.ndarray:
        """The explained score, [samples], of ``logits``; for the class that the file has fixed, or else the arg-max."""
        z = np.asarray(logits, np.float64)
        if self.weights is not None:
            c = np.asarray(feeds[self.weights], np.float64).transpose(self.raster.order).reshape(z.shape)
            found: np.ndarray = rows(np.where(c == 0, 0, c * z), self.raster.samples).sum(axis=1)
            return found
        return self._of_class(self.raster.rows(z, self.request), target)

    def _of_class(self, rows: np.ndarray, target: int | None) -> np.ndarray:
        rows = np.concatenate([-rows, rows], axis=1) if self.binary else rows
        entry = 1 if self.binary else 0
        fixed = self.request.target if isinstance(self.request.target, int) else target
        fixed = entry if isinstance(self.request.target, tuple) else fixed
        best = rows.argmax(axis=1) if fixed is None else np.full(len(rows), fixed)
        own = np.take_along_axis(rows, best[:, None], axis=1)[:, 0]
        if self.request.contrast is None:
            return own
        others = rows[np.arange(rows.shape[1]) != best[:, None]].reshape([len(rows), -1])
        return own - (others.mean(axis=1) if self.request.contrast == "rest" else others.max(axis=1))


def tolerance(job: Prepared) -> float:
    """How far rounding may go, as a share of what is compared."""
    return HALF if any(str(t.dtype) == "float16" for t in job.graph.tensors().values()) else ROUNDING


def by_definition(job: Prepared) -> onnx.ModelProto:
    """The model with a relevance pass that takes no shortcut, and with its logits and the tensors whose relevance is kept.

    Which rules have none behind them is part of what is defined: of scores above 0 it changes nothing, of others it does.
    """
    proto = build(job, shortcuts=(alive,))
    given = {value.name for value in [*proto.graph.input, *proto.graph.output]}
    made = {name for node in proto.graph.node for name in node.output} - given
    wanted = dict.fromkeys([job.plan.logits.name, *job.request.keep])
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted if name in made)
    return proto


def probabilities(job: Prepared) -> set[str]:
    """The outputs that are probabilities: their errors count as shares of 1, however small they are themselves."""
    found = set()
    for tensor in job.graph.outputs:
        given = {head.gives for head in heads(step_back(tensor, job.plan.producer, job.plan.active)[1])}
        if given & {PROBABILITIES, LABELS_AND_SCORES} and not given & {LOGARITHMS, LABELS}:
            found.add(tensor.name)
    return found


def compared(
    known: Known, feeds: Feeds, outputs: Outputs, file: Explanation, defined: Explanation, target: int | None = None
) -> Run:
    """Compare what the file gives for ``feeds`` with the ``outputs`` of the predictor alone, and with the definition."""
    found = {**file.relevance, **file.kept}
    expected = {**defined.relevance, **defined.kept}
    there = {**defined.outputs, **defined.values, **feeds}
    explained = {name: np.asarray(there[known.apart.get(name, name)]) for name in expected}
    wrong = [text for name in expected if (text := misshapen(name, explained[name], found.get(name)))]
    prediction = [distance(value, file.outputs[name], name in known.probable) for name, value in outputs.items()]
    if wrong:
        return Run(wrong, True, float(np.max(prediction)), None, 0.0, None, 0.0, 0.0, None)
    heatmaps = [
        distance(a, b)
        for name in expected
        for a, b in zip(*(rows(r[name], known.axis(name)) for r in (expected, found)), strict=True)
    ]
    relevance = [rows(r, known.axis(name)) for name, r in file.relevance.items()]
    total, opposite = (None, 0.0) if defined.ledger is None else against(defined.ledger, relevance)
    return Run(
        wrong,
        all(np.isfinite(np.asarray(r, np.float64)).all() for r in found.values()),
        float(np.max(prediction)),  # NaN if one is
        scored(known, feeds, file, defined, target),
        float(np.max(heatmaps)),
        total,
        opposite,
        sum(float(np.abs(r).sum()) for r in relevance),
        defined.ledger,
        incomplete(file, relevance) if known.splits else None,
    )


def scored(known: Known, feeds: Feeds, file: Explanation, defined: Explanation, target: int | None) -> float | None:
    """How far the file's score, and what its ledger starts with, are from what the logits say, as a share of the largest."""
    logits = defined.outputs.get(known.logits)
    given = [file.logit, None if defined.ledger is None else defined.ledger["in"][:, 0]]
    if logits is None or all(z is None for z in given):
        return None
    expected, largest = known.score(logits, target, feeds), np.abs(logits).max(initial=0) or 1.0
    apart = [
        np.abs(np.asarray(z, np.float64) - expected).max(initial=0) if z.shape == expected.shape else np.inf
        for z in given
        if z is not None
    ]
    return float(np.max(apart) / largest)


def incomplete(file: Explanation, relevance: Sequence[np.ndarray]) -> float | None:
    """How far Σ ``relevance``, [samples, entries] of each input, is from the difference of the score to that at the baseline,
    as a share of all that is there. None where the file does not tell these, sample by sample.
    """
    if file.logit is None or file.at_baseline is None or any(len(r) != len(file.logit) for r in relevance):
        return None
    found = np.concatenate(relevance, axis=1)
    difference = file.logit.astype(np.float64) - file.at_baseline.astype(np.float64)
    scale = np.maximum(np.abs(found).sum(axis=1), np.abs(difference))
    return float(np.max(np.abs(found.sum(axis=1) - difference) / np.where(scale > 0, scale, 1.0), initial=0))


def misshapen(name: str, explained: np.ndarray, relevance: np.ndarray | None) -> str | None:
    """What is wrong with the shape or type of the relevance of a tensor; None if nothing is."""
    if relevance is None:
        return f"{name!r} has none"
    whole = explained.dtype.kind == "f"  # of pixels and ids it is a fraction
    same = relevance.dtype == explained.dtype if whole else relevance.dtype.kind == "f"
    if relevance.shape == explained.shape and same:
        return None
    texts = (f"{list(array.shape)} {array.dtype}" for array in (relevance, explained))
    return "that of {0!r} is {1}, and {0!r} is {2}".format(name, *texts)


def rows(value: np.ndarray, axis: int | None) -> np.ndarray:
    """Relevance as float64, [samples, entries], from the axis of the samples; one row where it has none."""
    wide = np.asarray(value, np.float64)
    return wide.reshape([1, -1]) if axis is None else np.moveaxis(wide, axis, 0).reshape([wide.shape[axis], -1])


def against(ledger: Ledger, relevance: Sequence[np.ndarray]) -> tuple[float, float]:
    """How far Σ ``relevance``, [samples, entries] of each input, is from what the ledger says arrives, as a share of all that
    is there; and how much relevance has another sign than its logit.
    """
    totals = ledger.totals()
    if any(len(r) != len(ledger["in"]) for r in relevance):  # all samples share an input
        relevance = [r.reshape([1, -1]) for r in relevance]
        totals = {name: values.sum(keepdims=True) for name, values in totals.items()}
    found, logit = np.concatenate(relevance, axis=1), totals["logit"]
    scale = np.maximum(np.abs(found).sum(axis=1), 1e-2 * np.abs(logit))  # or the ledger's own rounding shows
    off = np.abs(found.sum(axis=1) - totals["relevance"]) / np.where(scale > 0, scale, 1.0)
    signed = found * np.where(logit < 0, -1.0, 1.0)[:, None]
    return float(np.max(off, initial=0)), float(np.maximum(-signed, 0).sum())


def distance(a: Any, b: Any, probable: bool = False) -> float:
    """The largest difference, as a share of the largest value of both, or of 1 if they are probabilities; infinite where the
    shapes differ. ZipMap gives lists of dictionaries.
    """
    x, y = (np.asarray([list(d.values()) for d in v] if isinstance(v, list) else v) for v in (a, b))
    if x.shape != y.shape:
        return float("inf")
    if x.dtype.kind not in "fc":
        return float(np.any(x != y))
    x, y = x.astype(np.float64), y.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    largest = max(np.abs(v[np.isfinite(v)]).max(initial=0) for v in (x, y)) or 1.0
    if probable:
        largest = max(largest, 1.0)
    return float(np.abs(np.where(same, 0, x) - np.where(same, 0, y)).max(initial=0) / largest)
