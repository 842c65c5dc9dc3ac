"""What the measurements of an audit share: the model, its scores, the heatmaps of the presets, each made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import onnx

from onnxdtd.compiler.compile import build, planned, prepare
from onnxdtd.compiler.prepared import Planned, Prepared
from onnxdtd.data.forms import Form
from onnxdtd.data.labelled import Item
from onnxdtd.labels import Index
from onnxdtd.runtime.explainer import Explainer, Explanation
from onnxdtd.study.columns import OnlyInput
from onnxdtd.study.predictor import Scores, in_batches
from onnxdtd.study.subject import feeds

if TYPE_CHECKING:
    from onnxdtd.study.audit.audit import Audit

BATCH = 16
SAME = 1e-6  # of the largest score: what changes by less is the same

Wanted: TypeAlias = Callable[[Explanation], np.ndarray]
T = TypeVar("T")


@dataclass(frozen=True)
class Texts:
    """The samples of an audit, where they are texts; their regions are tokens, or ``words``. ``fill`` is the id that takes the
    place of others, None where there is none, and ``filled`` how it is called, or why there is none.
    """

    items: tuple[Item, ...]
    fill: int | None
    filled: str
    words: bool = False


class Auditor:
    """What one worker has open. A deep model with many presets needs no more memory than two explaining models and the heatmaps
    of three presets: one of the measured preset, and those that it is compared with.
    """

    def __init__(self, study: Audit):
        self.study = study
        self._planned = known = planned(study.model, study.asked(study.presets[0]))
        self.proto = known.source.proto  # normalised, as the layers were found in it
        self.taken = study.columns or OnlyInput(known)
        self.layout, self.form = self.taken.layout, self.taken.form
        self.labels = known.labels
        self.scores = self.scores_of(known)
        self.logits, self.binary = self.scored(self.scores), self.scores.binary
        self.predicted = self.logits.argmax(axis=1)
        self.alone = max(study.sizes) == 1
        self._explainer = lru_cache(maxsize=1)(lambda preset: self.explainer(self.proto, preset))
        self.trained = lru_cache(maxsize=3)(lambda preset: self.heatmaps(preset, self.predicted))
        self._known: dict[Any, Any] = {}

    def once(self, what: Any, measure: Callable[[], T]) -> T:
        """What ``measure`` gives, where it is not known yet by the name ``what``."""
        if what not in self._known:
            self._known[what] = measure()
        known: T = self._known[what]
        return known

    def explainer(self, model: onnx.ModelProto | Prepared, preset: str) -> Explainer:
        """A session that explains a model, or what was planned for it, as a preset does."""
        prepared = prepare(model, self.study.asked(preset)) if isinstance(model, onnx.ModelProto) else model
        return Explainer(build(prepared, in_place=True), folder=self.study.model.parent, threads=1)

    def scores_of(self, planned: Planned) -> Scores:
        """What gives the logits of a planned model."""
        return Scores(planned, self.study.model.parent, threads=1, columns=self.study.columns)

    def scored(self, scores: Scores) -> np.ndarray:
        """The logits of every sample, [n, classes]."""
        if self.study.texts is None:
            return scores.logits(self.study.xs)
        return np.concatenate([scores.beside(item.others).logits(item.x[None]) for item in self.study.texts.items])

    def heatmaps(self, preset: str, classes: np.ndarray, xs: np.ndarray | None = None) -> np.ndarray:
        """The relevance of every sample for one class each in the trained model, as ``relevance``."""
        return self.relevance(self._explainer(preset), classes, xs)

    def relevance(self, explainer: Explainer, classes: np.ndarray, xs: np.ndarray | None = None) -> np.ndarray:
        """The relevance of every sample for one class each, [n, ...]; of texts an array each, of those tokens that are none of
        padding.
        """
        wanted = lambda explanation: self.taken.relevance(explanation.relevance)
        found = self.explained(explainer, self.study.xs if xs is None else xs, classes, wanted)
        return (
            found
            if self.study.texts is None
            else ragged([r[real(item)] for r, item in zip(found, self.study.texts.items, strict=True)])
        )

    def explained(self, explainer: Explainer, xs: np.ndarray, classes: np.ndarray, wanted: Wanted) -> np.ndarray:
        """What is ``wanted`` of the explanation of every sample for one class each, [n, ...], in batches; of texts, which
        differ in length, one by one.
        """
        if self.study.texts is not None:
            items = zip(self.study.texts.items, classes, strict=True)
            return ragged([wanted(explainer(feeds(self._planned, item), Index(c)))[0] for item, c in items])
        run = lambda rows: wanted(explainer(self.taken.feeds(xs[rows]), [Index(c) for c in classes[rows]]))
        return in_batches(np.arange(len(xs)), self.layout, run, BATCH)

    def whole(self, i: int, heatmap: np.ndarray) -> np.ndarray:
        """A heatmap in the shape of a sample, with padding."""
        if self.study.texts is None:
            return heatmap
        found = np.zeros(self.study.xs[i].shape)
        found[real(self.study.texts.items[i])] = heatmap
        return found


def ragged(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of any shapes as one of objects, [n]."""
    found = np.empty(len(arrays), object)
    for i, array in enumerate(arrays):
        found[i] = array
    return found


def real(item: Item) -> np.ndarray:
    """Which of the ids of a text are none of padding, bool of their shape."""
    assert item.passage is not None
    return np.array([not token.padding for token in item.passage.tokens]).reshape(item.x.shape)


def spread_of(xs: np.ndarray, form: Form) -> np.ndarray:
    """The standard deviation of each feature over samples [n, ...], in pictures and signals that of each channel."""
    return over_channels(np.nanstd, xs, form)


def over_channels(what: Callable[..., np.ndarray], xs: np.ndarray, form: Form) -> np.ndarray:
    """A statistic of each channel of pictures and signals [n, ...], of each feature of all else, as it broadcasts over them."""
    shape = xs.shape[1:]
    seen, axes = xs.reshape(len(xs), *form.laid_out(shape)), [axis + 1 for axis in form.neighbours(shape)]
    found = what(seen, axis=(0, *axes), keepdims=True, dtype=np.float64)
    return np.broadcast_to(found, (1, *seen.shape[1:])).reshape(1, *shape) if form.folded else found
