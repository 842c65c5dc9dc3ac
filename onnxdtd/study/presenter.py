"""One sample after another through a compiled model: its explanation in numbers and words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from onnxdtd.contract import Metadata
from onnxdtd.data.arrangement import arranged
from onnxdtd.data.features import Described
from onnxdtd.data.look import Caption
from onnxdtd.data.read import Sample
from onnxdtd.data.readings import Reading, reading, summed
from onnxdtd.data.tables import NO_ROLES, TARGET, Roles
from onnxdtd.data.tokens import Passage
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.labels import Index, labels_of
from onnxdtd.runtime.explainer import Explainer, Explanation
from onnxdtd.study.concepts import Concepts
from onnxdtd.study.feeding import Feeding
from onnxdtd.study.notes import of_absent, of_amount, of_lattice, of_rules, of_unknown, of_values
from onnxdtd.study.results import Flag, Result, strongest
from onnxdtd.study.words import amount, counted

ROUNDING = 5e-3  # of a sum of probabilities, in half precision
SUM = "Σ c z"  # what is explained where coefficients are fed
SCORES = {None: "logit", False: "logit", "rest": "lead over the mean of the others"}


def called(metadata: Metadata) -> str:
    """What the explained score is called."""
    reference = metadata.get("reference")
    if reference is not None:
        return f"output less {reference:g}"
    if labels_of(metadata).is_quantity and not metadata.get("stepped_back"):
        return "output"
    return SCORES.get(metadata["contrast"], "lead over the runner-up")


class Presented(NamedTuple):
    """What there is to say of a sample: numbers; its relevance without the batch axis; what that is the relevance of, the
    sample or an inner tensor; the relevance of its concepts, where they were asked for; its features, where they are known; the
    scores of all classes, likewise.
    """

    result: Result
    relevance: np.ndarray
    shown: np.ndarray
    concepts: Sequence[np.ndarray]
    described: Described | None = None
    scores: np.ndarray | None = None


class Presenter:
    """A compiled model with everything that is needed to explain samples in words and pictures.

    ``ledgered`` makes the same model with a ledger, which is asked why a heatmap is all zero; ``concepts`` are an inner tensor
    and how many of its channels are shown. ``tokenizer`` is the file of one, for texts; ``words``: the pieces of a word are
    summed. ``roles`` and ``say`` are those of ``Feeding``; ``smooth`` is that of the look.
    """

    def __init__(
        self,
        explainer: Explainer,
        labels: Sequence[str] | None = None,
        ledgered: Callable[[], Explainer] | None = None,
        concepts: tuple[str, int] | None = None,
        tokenizer: Path | None = None,
        words: bool = False,
        roles: Roles = NO_ROLES,
        smooth: float | None = None,
        say: Callable[[str], object] = bool,
    ):
        self.explainer = explainer
        self.labels = explainer.labels.named(labels)
        self._make_ledgered = ledgered
        self.feeding = Feeding(explainer, tokenizer, roles, say)
        self.feeding.check()
        self._by_word, self._smooth = words, smooth
        self._concepts = None if concepts is None else Concepts(explainer, self.feeding, *concepts)

    def asked(self, target: int | str | None, name: str) -> Index | None:
        """The class that a sample asks for; None for the arg-max. Raises ``RequestError`` for what is no class."""
        return None if target is None or target == "argmax" else self.labels.labelled(target, f"{name}: {TARGET}")

    def explain(self, sample: Sample, target: Index | None = None) -> Presented:
        """One sample. ``picture`` is filled in by ``Gallery``."""
        feed = self.feeding.feeds({**self.feeding.given(sample.x), **sample.others})
        try:
            explanation = self.explainer(feed, target)
            concepts, heatmaps = ([], []) if self._concepts is None else self._concepts(feed, target, explanation)
        except RequestError as error:
            raise RequestError(f"{sample.name}: {error}") from None
        relevance, further = self.feeding.shown(explanation.relevance), self._further(explanation)
        shown = self.feeding.shown({**feed, **explanation.values}) if self.feeding.inner else sample.x
        predicted, score, chosen, logit = self._classes(explanation)
        total = float(relevance.sum(dtype=np.float64)) + sum(further.values())
        sums = (total, float(relevance.min()), float(relevance.max()))
        scored = [number for number in (score, logit) if number is not None]
        if not np.isfinite([*scored, *sums]).all():
            what = "relevance" if np.isfinite(scored).all() else "score"
            raise RequestError(f"{sample.name}: its {what} is NaN or infinite; are there numbers too large for the model?")
        preset = self.explainer.metadata["preset"]
        words = (
            predicted,
            self._label(predicted),
            score,
            chosen,
            SUM if self.explainer.weights else self._label(chosen),
            logit,
        )
        ledger = explanation.ledger
        balance = None if ledger is None else {name: float(values[0]) for name, values in ledger.totals().items()}
        there = None if explanation.at_baseline is None else float(explanation.at_baseline[0])
        result = Result(
            sample.name, "", *words, *sums, preset, balance, concepts=concepts, at_baseline=there, label=sample.label
        )
        result = replace(result, probability=score if self._are_probabilities(explanation) else None)
        if ledger is None and not relevance.any() and self._ledgered is not None:
            ledger = self._ledgered(feed, target).ledger
        flags = of_amount(result, ledger, self.explainer.metadata["derivative"], called(self.explainer.metadata))
        flags += of_rules(self.explainer.metadata)
        if (described := replace(sample, x=shown).described) is not None:
            pro, contra = strongest(described, relevance)
            flags += of_unknown(described)
            flags += of_absent(shown, relevance) if self.explainer.metadata.get("features") else []
            result = replace(result, pro=pro, contra=contra)
        laid_out = arranged(shown.shape, self.feeding.form)
        if laid_out.kind == "image":
            flags += of_lattice(laid_out.of(relevance).sum(axis=-1), self._smooth)
        for name, x in self.feeding.split(shown).items():
            flags += of_values(x, self.feeding.forms[name])
        if sample.track.remark:
            flags.append(Flag("read", sample.track.remark))
        read = self._read(sample.passage, relevance, further)
        if read is not None and read.cut:
            flags.append(
                Flag(
                    "cut", f"{counted(read.cut, 'token')} at the end of the text are left out: {self._limit(read.cut, sample)}"
                )
            )
        scores = None if explanation.scores is None else explanation.scores[0]
        return Presented(replace(result, flags=flags, reading=read), relevance, shown, heatmaps, described, scores)

    def _limit(self, cut: int, sample: Sample) -> str:
        """Why so many tokens of a text are left out."""
        said, count = self.explainer.metadata, 0 if sample.passage is None else len(sample.passage.tokens)
        if said.get("lengths") and count == said["most_steps"]:
            return f"the file was compiled for {count} steps; --most-steps {count + cut} takes all"
        return "the model takes no more"

    def _further(self, explanation: Explanation) -> dict[str, float]:
        """Σ R of what has relevance and is not shown: further inputs, and what is apart, which lies as its ids do."""
        layouts, ids = self.feeding.layouts, self.explainer.metadata.get("apart", {})
        rest = {name: values for name, values in explanation.relevance.items() if name not in self.feeding.explained}
        return {name: float(layouts[ids.get(name, name)].take(v)[0].sum(dtype=np.float64)) for name, v in rest.items()}

    def _read(self, passage: Passage | None, relevance: np.ndarray, further: dict[str, float]) -> Reading | None:
        """What was relevant in a text, by token; None of what has no relevance for each of them."""
        count = 0 if passage is None else len(passage.tokens)
        if passage is None or not (relevance.size == count or relevance.shape[:1] == (count,)):
            return None
        return reading(passage, relevance.reshape(count, -1).sum(axis=1, dtype=np.float64), self._by_word, further)

    def words(self, result: Result, relevance: np.ndarray, sample: Described | None) -> list[tuple[str, float]]:
        """The words of a text in their order, or its terms, with their relevance; none of what has none."""
        if result.reading is not None:
            whole = summed([token for token in result.reading.tokens if token.stands], result.reading.texts)
            return [(word.text, word.relevance) for word in whole if word.text.strip()]
        terms = sample.features.entries if sample is not None and sample.features.are_terms else ()
        return [(term.name, float(r)) for term, r in zip(terms, relevance.ravel(), strict=False) if r]

    @cached_property
    def _ledgered(self) -> Explainer | None:
        """The model with a ledger, where there can be one."""
        try:
            return None if self._make_ledgered is None else self._make_ledgered()
        except OnnxdtdError:  # nothing of a derivative is kept, or samples cannot be told apart
            return None

    def _classes(self, explanation: Explanation) -> tuple[int | None, float | None, int | None, float | None]:
        """Predicted class, its score, explained class, explained logit; None where the model does not tell."""
        metadata = self.explainer.metadata
        if explanation.scores is not None:
            replace(self.labels, count=explanation.scores.shape[1]).named(self.labels.names)
        own = (explanation.predicted, explanation.target)
        predicted, chosen = (None if classes is None else int(classes[0]) for classes in own)
        scores: dict[int | None, float] = {} if explanation.scores is None else dict(enumerate(explanation.scores[0].tolist()))
        start, plain = explanation.kept.get(metadata["logits"]), not metadata["contrast"]
        logit = None if start is None else float(self._row(start).sum(dtype=np.float64))
        if explanation.logit is not None:
            logit = float(explanation.logit[0])
        if logit is None and metadata["output"] == metadata["logits"] and plain:
            logit = scores.get(chosen)
        score = scores.get(predicted)
        if not scores and plain and predicted is not None and chosen == predicted:
            score = logit
        return predicted, score, chosen, None if metadata["derivative"] and explanation.at_baseline is None else logit

    def _are_probabilities(self, explanation: Explanation) -> bool:
        """Does the model give a probability of each class? They come behind its logits, and add up to 1."""
        metadata, scores = self.explainer.metadata, explanation.scores
        if scores is None or scores.shape[1] < 2 or metadata.get("score_output", metadata["output"]) == metadata["logits"]:
            return False
        return bool((scores[0] >= 0).all() and abs(float(scores[0].sum()) - 1) < ROUNDING)

    def _row(self, scores: np.ndarray) -> np.ndarray:
        """The first of several samples, of all of which one is the copy of the other."""
        several = scores.ndim > 1 or any((layout.batch or 1) > 1 for layout in self.feeding.layouts.values())
        return (scores[0] if several else scores).ravel()

    def _label(self, index: int | None) -> str:
        return "" if index is None else self.labels[index]

    def caption(
        self, result: Result, others: Mapping[str, np.ndarray] | None = None, described: Described | None = None
    ) -> Caption:
        """What stands above and below a picture; ``others`` are inputs that are not explained, ``described`` its features."""
        quantity = self.labels.is_quantity and result.score is not None
        score = f" = {amount(result.score or 0.0)}" if quantity else result.standing
        title = f"{result.name}: {self.labels.brief(result.predicted_label) or 'no prediction'}{score}"
        if result.target != result.predicted:
            title += f", explained: {self.labels.brief(result.target_label)}"
        subtitle = f"{result.preset}   Σ relevance = {amount(result.relevance_sum)}"
        if result.logit is not None:
            what = called(self.explainer.metadata)
            subtitle += f"   {what} = {amount(result.logit)}"
        word = "given" if self.feeding.inner else "not explained"
        told = frozenset() if described is None else described.features.inputs
        given = [f"{name} = {v.item()!s:.60}" for name, v in (others or {}).items() if v.size == 1 and name not in told]
        subtitle += f"   {word}: {', '.join(given)}" if given else ""
        panels = tuple(f"channel {c.channel}: {c.share:.1%}" for c in result.concepts)
        subtitle += f"   channels of {result.concepts[0].tensor}, shares of Σ |relevance|" if panels else ""
        return Caption(title, subtitle, tuple(flag.text for flag in result.flags), described, panels)
