"""What ``onnxdtd audit`` does: measure, for each preset, what its explanations of a model depend on, and say it in words.

A unit of work is one measurement of one preset over all samples. Sessions are made in a unit and dropped behind it, so that a
deep model with many presets needs no more memory than one explaining model and two sets of heatmaps.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx

import onnxdtd
from onnxdtd import compiler
from onnxdtd import model as files
from onnxdtd.converge import convergence
from onnxdtd.dataset import Item
from onnxdtd.emit import Tensor, dims, known
from onnxdtd.errors import ModelError, RequestError, Unsupported
from onnxdtd.images import heat
from onnxdtd.inputs import Layout, Scaling
from onnxdtd.ledger import COLUMNS
from onnxdtd.library import Library, definitions
from onnxdtd.metrics import cosine, spearman, ssim
from onnxdtd.plan import Step
from onnxdtd.randomise import Weights, layers, randomised, spread
from onnxdtd.report import thumbnail
from onnxdtd.request import Request
from onnxdtd.roots import roots
from onnxdtd.runtime import Explainer, Explanation, Ledger
from onnxdtd.scores import Scores, fixed_batch, in_batches
from onnxdtd.subject import Subject
from onnxdtd.verdict import best, verdict

BATCH = 16
PICTURES = 8  # samples in the report
MOST_LAYERS = 12  # whose weights are drawn anew one after the other
OTHERS = 4  # classes that the predicted one is compared with: the runner-up and some drawn at random
REFERENCES = ("gradient-x-input", "sensitivity")
BIASED = ("conv", "dense", "affine")  # families of layers that may have a bias

SIMILARITIES = ("cosine", "spearman", "ssim")
LEFT = ("ssim", "spearman", "spearman_abs")

Row: TypeAlias = dict[str, float | None]
Wanted: TypeAlias = Callable[[Explanation], np.ndarray]


@dataclass(frozen=True)
class Task:
    """A measurement of a preset; ``layer`` is the place in the list of layers for those that draw weights anew."""

    preset: str
    measure: str
    layer: int | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of a model before anything is measured: its digest, the rules of each preset by step (None for a
    derivative), its layers with weights from the logits down.
    """

    sha256: str
    rules: dict[str, dict[str, str] | None]
    layers: list[Weights]


@dataclass(frozen=True, eq=False)
class Job:
    """An audit of a model: ``presets`` under the options of ``request``, whose own preset and target do not count.

    ``xs`` are the samples [n, ...] in the units of the model; ``neurons`` is how many of each layer root points are looked for.
    """

    model: Path
    request: Request
    presets: tuple[str, ...]
    xs: np.ndarray
    neurons: int = 32
    seed: int = 0

    def units(self) -> int:
        """How many measurements there are. Raises ``OnnxdtdError`` where a preset does not fit the model."""
        return len(self.tasks)

    def identity(self) -> Any:
        """All that the results depend on."""
        data = hashlib.sha256(np.ascontiguousarray(self.xs).tobytes()).hexdigest()
        settings = [repr(self.request), list(self.presets), list(self.xs.shape), self.neurons, self.seed]
        settings.append(definitions(self.presets))
        return ["audit", onnxdtd.__version__, self.facts.sha256, data, settings]

    def prepare(self) -> Callable[[int], dict[str, Any]]:
        """What measures, given the number of a unit."""
        return Auditor(self)

    def asked(self, preset: str) -> Request:
        """The request for a preset, with the target left open; none of the rules set by hand for a derivative."""
        settings = () if Library().preset(preset).derivative else self.request.settings
        return replace(self.request, preset=preset, settings=settings, target=None, ledger=False, keep=())

    @cached_property
    def facts(self) -> Facts:
        """Read and plan the model once for every preset."""
        rules: dict[str, dict[str, str] | None] = {}
        found: dict[str, compiler.Job] = {}
        for preset in self.presets:
            made = compiler.prepare(self.model, self.asked(preset))
            ruled = {step.name: str(step.rule) for step in made.plan.steps if step.rule is not None}
            rules[preset] = None if made.plan.derivative else ruled
            found.setdefault("derivative" if made.plan.derivative else "rules", made)
        if not found:
            raise RequestError("no preset to audit")
        made = found.get("rules") or found["derivative"]
        if len(files.real_inputs(made.source.proto)) != 1:
            raise RequestError("the model has several inputs; an audit takes models with one")
        if not made.plan.inputs[0].shape:
            raise RequestError("the model does not declare the shape of its input")
        return Facts(made.source.sha256, rules, layers(made))

    @cached_property
    def tasks(self) -> list[Task]:
        """All units of work, in the order of their numbers."""
        places = spread(self.facts.layers, MOST_LAYERS)
        found = []
        for preset in self.presets:
            whole = ["similarity", "class_sensitivity", "convergence"]
            if self.facts.rules[preset] is not None:
                whole = ["preconditions", "roots", *whole]
            found += [Task(preset, measure) for measure in whole]
            found += [Task(preset, measure, place) for measure in ("cascading", "independent") for place in places]
        return found


def assemble(job: Job, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The audit, as data, from the results of all units in their order."""
    found: dict[str, dict[str, Any]] = {}
    for preset in job.presets:
        found[preset] = {"preset": preset, "rules": job.facts.rules[preset] or {}, "preconditions": None, "roots": []}
        found[preset] |= {"similarity": {}, "class_sensitivity": {}, "cascading": [], "independent": [], "convergence": []}
    for task, part in zip(job.tasks, parts, strict=True):
        if task.layer is None:
            found[task.preset][task.measure] = part["found"]
        else:
            found[task.preset][task.measure].append(part["found"])
    for entry in found.values():
        entry["chance"] = chance(math.prod(job.xs.shape[1:]))
        entry["verdict"] = verdict(entry)
    low, high = (None if bound is None else np.asarray(bound).tolist() for bound in (job.request.low, job.request.high))
    settings = {"samples": len(job.xs), "neurons": job.neurons, "seed": job.seed, "low": low, "high": high}
    return {
        "kind": "audit",
        "version": onnxdtd.__version__,
        "settings": {**settings, "presets": list(job.presets)},
        "model": job.model.name,
        "sha256": job.facts.sha256,
        "presets": list(found.values()),
        "best": best(list(found.values())),
    }


def measurable(subject: Subject, folder: Path, most: int) -> tuple[list[Item], dict[str, str]]:
    """The first samples that can be read, are of one size and have finite scores, and why others are left out. ``folder`` is
    where external weights lie. Raises ``RequestError`` where there is none.
    """
    items, left_out = subject.items(most)
    size = items[0].x.shape
    for item in [item for item in items if item.x.shape != size]:
        left_out[item.name] = f"is {list(item.x.shape)}, the first sample {list(size)}; an audit takes samples of one size"
    items = [item for item in items if item.name not in left_out]
    logits = Scores(subject.planned, folder, threads=1).logits(np.stack([item.x for item in items]))
    for item in [item for item, row in zip(items, logits, strict=True) if not np.isfinite(row).all()]:
        left_out[item.name] = "the scores of the model are NaN or infinite"
    items = [item for item in items if item.name not in left_out]
    if not items:
        raise RequestError(f"none of the samples could be measured ({'; '.join(list(left_out.values())[:3])})")
    return items, left_out


def pictures(job: Job, items: Sequence[Item], scale: Scaling | None, labels: Sequence[str]) -> dict[str, Any]:
    """The first samples of the job, which are ``items``, with the heatmap of each preset for the predicted class."""
    few = Auditor(replace(job, xs=job.xs[:PICTURES]))
    maps = {preset: few.heatmaps(few.proto, preset, few.predicted) for preset in job.presets}
    shown = []
    for i, (item, predicted) in enumerate(zip(items, few.predicted.tolist(), strict=False)):
        pairs = {preset: thumbnail(item.x, heatmaps[i], scale) for preset, heatmaps in maps.items()}
        label = labels[predicted] if predicted < len(labels) else str(predicted)
        small = {preset: heatmap for preset, (_, heatmap) in pairs.items()}
        shown.append({"name": item.name, "class": label, "input": next(iter(pairs.values()))[0], "heatmaps": small})
    return {"samples": shown}


class Auditor:
    """Measures one unit after the other. What units share is kept: the model, its logits, the heatmaps of one preset."""

    def __init__(self, job: Job):
        self.job = job
        made = compiler.prepare(job.model, job.asked(job.presets[0]))
        self.proto = made.source.proto  # normalised, as the layers were found in it
        self.layout, self.batch = Layout.of(list(made.plan.inputs[0].shape)), fixed_batch(list(made.plan.inputs[0].shape))
        scores = Scores(made, job.model.parent, threads=1)
        self.logits, self.binary = scores.logits(job.xs), scores.binary
        self.predicted = self.logits.argmax(axis=1)
        self._trained = lru_cache(maxsize=1)(lambda preset: self.heatmaps(self.proto, preset, self.predicted))

    def __call__(self, number: int) -> dict[str, Any]:
        """The result of a unit, for ``assemble``."""
        task = self.job.tasks[number]
        if task.layer is None:
            return {"found": getattr(self, task.measure)(task.preset)}
        place = self.job.facts.layers[task.layer]
        chosen = self.job.facts.layers[: task.layer + 1] if task.measure == "cascading" else [place]
        return {"found": {"layer": place.layer, **self.redrawn(task.preset, chosen)}}

    def explained(self, proto: onnx.ModelProto, request: Request, classes: np.ndarray, wanted: Wanted) -> np.ndarray:
        """What is ``wanted`` of the explanation of every sample for one class each, [n, ...], in batches."""
        compiled = compiler.build(compiler.prepare(proto, request))
        running = Explainer(compiled, folder=self.job.model.parent, threads=1)
        run = lambda rows: wanted(running(self.job.xs[rows], classes[rows].tolist()))
        return in_batches(np.arange(len(self.job.xs)), self.layout, self.batch, run, BATCH)

    def heatmaps(self, proto: onnx.ModelProto, preset: str, classes: np.ndarray) -> np.ndarray:
        """The relevance of every sample for one class each, [n, ...]."""
        shape = self.job.xs.shape[1:]
        wanted = lambda explanation: next(iter(explanation.relevance.values())).reshape(-1, *shape)
        return self.explained(proto, self.job.asked(preset), classes, wanted)

    def preconditions(self, preset: str) -> Row | None:
        """Where deep Taylor decomposition's conditions fail, as shares; None where the ledger cannot tell samples apart."""
        steps: list[str] = []

        def columns(explanation: Explanation) -> np.ndarray:
            assert explanation.ledger is not None
            steps[:] = explanation.ledger.steps
            return np.stack([explanation.ledger[name] for name in COLUMNS], axis=-1)

        try:
            table = self.explained(self.proto, replace(self.job.asked(preset), ledger=True), self.predicted, columns)
        except ModelError:
            return None
        made = compiler.prepare(_sized(self.proto, self.job.xs), self.job.asked(preset))
        ledger = Ledger(steps, {name: table[..., i] for i, name in enumerate(COLUMNS)})
        return _broken(ledger, [step for step in made.plan.steps if step.rule is not None])

    def roots(self, preset: str) -> list[dict[str, Any]]:
        """See ``onnxdtd.roots``; nothing where the model has no derivative."""
        request = self.job.asked(preset)
        try:
            return roots(self.job.model, request, self.job.xs, self.predicted.tolist(), self.job.neurons, self.job.seed)
        except Unsupported:
            return []

    def convergence(self, preset: str) -> list[dict[str, Any]]:
        """See ``onnxdtd.converge``."""
        return convergence(self.job.model, self.job.asked(preset), self.job.xs, seed=self.job.seed)

    def similarity(self, preset: str) -> dict[str, Row]:
        """How alike the heatmaps are to those of the derivatives; nothing where the model has no derivative."""
        own, found = self._trained(preset), {}
        for name in REFERENCES:
            try:
                found[name] = _mean(map(alike, own, self.heatmaps(self.proto, name, self.predicted)))
            except Unsupported:
                continue
        return found

    def class_sensitivity(self, preset: str) -> Row:
        """How alike the heatmaps of the predicted class are to those of others, up to the sign: 1 is blind to the class."""
        own, others = self._trained(preset), self.others()
        return _mean(row for classes in others for row in map(kept, own, self.heatmaps(self.proto, preset, classes)))

    def others(self) -> list[np.ndarray]:
        """Classes other than the predicted ones, an array [n] for each comparison: first the runner-up, then drawn ones. None
        where there is one score, whose sign alone tells two classes apart.
        """
        if self.binary:
            return []
        order = np.argsort(-self.logits, axis=1, kind="stable")[:, 1:]
        rng = np.random.default_rng(self.job.seed)
        rows = [[*row[:1], *rng.permutation(row[1:])[: OTHERS - 1]] for row in order]
        return list(np.asarray(rows, int).T)

    def redrawn(self, preset: str, chosen: Sequence[Weights]) -> Row:
        """How alike the heatmaps of the trained model are to those with the weights of ``chosen`` layers drawn anew."""
        other = randomised(self.proto, chosen, self.job.seed, self.job.model.parent)
        return _mean(map(kept, self._trained(preset), self.heatmaps(other, preset, self.predicted)), LEFT)


# ------------------------------------------------------------------------------------------------------- preconditions


def _broken(ledger: Ledger, steps: Sequence[Step]) -> Row:
    """How often the conditions are broken in ``steps``, those with a rule."""
    biased = {step.name: _size(step.outputs[0]) for step in steps if step.layer and step.layer.family in BIASED}
    bounded = {step.name: _size(*step.inputs) for step in steps if step.rule and step.rule.needs_bounds}
    totals = ledger.totals()
    logit = totals["logit"]
    share = lambda name: float(np.median(totals[name][logit != 0] / logit[logit != 0])) if logit.any() else None
    return {
        "positive_biases": _share(ledger, "positive_biases", biased),
        "bias_share": share("bias"),
        "outside": _share(ledger, "outside", bounded),
        "negative_logits": float((logit < 0).mean()),
        "dead": share("dead"),
    }


def _share(ledger: Ledger, column: str, sizes: Mapping[str, int | None]) -> float | None:
    """What the counts in a column are of all entries, in the steps whose ``sizes`` are known; None if there are none."""
    there = {ledger.steps.index(name): size for name, size in sizes.items() if size and name in ledger.steps}
    return float(ledger[column].mean(axis=0)[list(there)].sum() / sum(there.values())) if there else None


def _size(*tensors: Tensor | None) -> int | None:
    """How many entries tensors have for each sample; None where that is not known."""
    shapes = [known((dims(tensor) or [None])[1:]) for tensor in tensors if tensor is not None]
    return None if None in shapes else sum(math.prod(shape) for shape in shapes if shape is not None)


def _sized(proto: onnx.ModelProto, xs: np.ndarray) -> onnx.ModelProto:
    """The model with the size of a sample declared, so that the neurons can be counted."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    names = [value.name for value in files.real_inputs(fixed)]
    for value in fixed.graph.input:
        declared = value.type.tensor_type.shape.dim
        if value.name in names and len(declared) == xs.ndim:
            for size, number in zip(declared[1:], xs.shape[1:], strict=True):
                size.dim_value = number
    return fixed


# ---------------------------------------------------------------------------------------------------------- comparing


def alike(a: np.ndarray, b: np.ndarray) -> Row:
    """How alike two heatmaps of one sample and class are."""
    a, b = _finite(a), _finite(b)
    return {"cosine": cosine(a, b), "spearman": spearman(a, b), "ssim": ssim(heat(a), heat(b))}


def _finite(heatmap: np.ndarray) -> np.ndarray:
    """In float64; zero, which is like nothing, where there are values that are NaN or infinite."""
    wide = heatmap.astype(np.float64)
    return wide if np.isfinite(wide).all() else np.zeros_like(wide)


def kept(a: np.ndarray, b: np.ndarray) -> Row:
    """How much of a heatmap is left in another of other classes or weights, where the logit may well be negative: one that only
    has the other sign, or another size, is the same. SSIM as in Sixt et al. 2020, rank correlations as in Adebayo et al. 2018.
    """
    a, b = _finite(a), _finite(b)
    found = alike(a, b)
    flipped = [value for value in (found["ssim"], ssim(heat(a), -heat(b))) if value is not None]
    either = {name: None if value is None else abs(value) for name, value in found.items()}
    return either | {"ssim": max(flipped, default=None), "spearman_abs": spearman(np.abs(a), np.abs(b))}


def chance(entries: int) -> float:
    """The rank correlation, signs aside, to expect of two unrelated heatmaps with so many entries: |N(0, 1/(n − 1))|.

    >>> round(chance(4), 2), round(chance(3 * 224 * 224), 3)
    (0.46, 0.002)
    """
    return math.sqrt(2 / (math.pi * max(entries - 1, 1)))


def _mean(rows: Iterable[Row], names: Sequence[str] = SIMILARITIES) -> Row:
    """The mean of each number over the samples that have it."""
    listed = list(rows)
    values = {name: [value for row in listed if (value := row[name]) is not None] for name in names}
    return {name: float(np.mean(found)) if found else None for name, found in values.items()}
