"""What ``onnxdtd audit`` does: measure, for each preset, what its explanations of a model depend on, and say it in words.

A unit of work is one measurement of one preset over all samples. Sessions are made in a unit and dropped behind it, so that a
deep model with many presets needs no more memory than one explaining model and two sets of heatmaps.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx

import onnxdtd
from onnxdtd.compiler import compile as compiler
from onnxdtd.compiler.bounds import as_given, domain, form_of
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.prepared import Prepared
from onnxdtd.compiler.score import classes
from onnxdtd.contract import COLUMNS
from onnxdtd.data.forms import Form, space_axes
from onnxdtd.data.images import heat
from onnxdtd.data.labelled import Item
from onnxdtd.data.read import Layout
from onnxdtd.data.thumbnails import thumbnail
from onnxdtd.errors import ModelError, RequestError, Unsupported
from onnxdtd.graph import files
from onnxdtd.graph.emit import dims, known
from onnxdtd.graph.tensors import Tensor
from onnxdtd.labels import Index, Labels
from onnxdtd.method.toml import Library
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Explainer, Explanation, Ledger
from onnxdtd.study.audit.choice import best
from onnxdtd.study.audit.converge import convergence
from onnxdtd.study.audit.randomise import Weights, layers, randomised, spread
from onnxdtd.study.audit.roots import roots
from onnxdtd.study.audit.verdict import LITTLE, arrival, deep_taylor, shows_nothing, upper, verdict
from onnxdtd.study.metrics import abpc, aopc, cosine, spearman, ssim
from onnxdtd.study.perturb import default_patch, perturbation, regions
from onnxdtd.study.predictor import Scores, in_batches
from onnxdtd.study.subject import Subject, asked, weight_digests
from onnxdtd.study.tally import Mean, Pairs, paired

BATCH = 16
PICTURES = 8  # samples in the report
MOST_LAYERS = 12  # whose weights are drawn anew one after the other
OTHERS = 4  # classes that the predicted one is compared with: the runner-up and some drawn at random
PARTNERS = 4  # samples of its class that each sample is compared with
FEWEST = 5  # entries of a heatmap, below which a rank correlation is left out: four have 24 orders
NUDGE, NUDGES = 0.02, 4  # noise on the input as a part of the data's spread, and how often it is drawn
NEUTRAL = {False: "0", True: "the mean of the samples"}  # what regions are replaced by
ALONE = "the heatmaps have one entry, and all are multiples of each other"
SAME = 1e-6  # of the largest score: what changes by less is the same
REFERENCES = ("gradient-x-input", "sensitivity")
BIASED = ("conv", "dense", "affine")  # families of layers that may have a bias

SIMILARITIES = ("cosine", "spearman", "ssim")
LEFT = ("ssim", "spearman", "spearman_abs")

FOR_RULES = ("preconditions", "roots")  # measurements that need rules
WHOLE = ("silent", "similarity", "class_sensitivity", "input_dependence", "stability", "perturbation", "convergence")

AREAS = ("aopc", "abpc", "gain")  # numbers in units of the score; the others are shares

Row: TypeAlias = dict[str, float | None]
Wanted: TypeAlias = Callable[[Explanation], np.ndarray]


@dataclass(frozen=True)
class Task:
    """A measurement of a preset; ``layer`` is the place in the list of layers for those that draw weights anew."""

    preset: str
    measure: str
    layer: int | None = None


@dataclass(frozen=True)
class Part:
    """What a unit found, the numbers of single samples behind it, and why there is nothing where there is nothing."""

    found: Any
    samples: dict[str, list[float | None]] = field(default_factory=dict)
    left_out: str = ""


@dataclass(frozen=True)
class Facts:
    """What is known of a model before anything is measured: its digest, the rules of each preset by step (None for a
    derivative), the presets of deep Taylor decomposition, its layers with weights from the logits down.
    """

    sha256: str
    rules: dict[str, dict[str, str] | None]
    deep_taylor: list[str]
    layers: list[Weights]
    classes: int | None


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
        files = [self.facts.sha256, weight_digests(self.model), data, list(self.xs.shape)]
        return ["audit", onnxdtd.__version__, files, *asked(self.request, self.presets), self.neurons, self.seed]

    def prepare(self) -> Callable[[int], dict[str, Any]]:
        """What measures, given the number of a unit."""
        return Auditor(self)

    def asked(self, preset: str) -> Request:
        """The request for a preset, with the target left open; none of the rules set by hand for a derivative."""
        settings = () if Library().preset(preset).derivative else self.request.settings
        return replace(self.request, preset=preset, settings=settings, target="input", ledger=False, keep=())

    @cached_property
    def facts(self) -> Facts:
        """Read and plan the model once for every preset."""
        rules: dict[str, dict[str, str] | None] = {}
        taylor: list[str] = []
        found: dict[str, Prepared] = {}
        for preset in self.presets:
            made = compiler.prepare(self.model, self.asked(preset))
            ruled = {step.name: step.rule for step in made.plan.steps if step.rule is not None}
            rules[preset] = None if made.plan.derivative else {name: str(rule) for name, rule in ruled.items()}
            taylor += [preset] if deep_taylor(ruled.values()) else []
            found.setdefault("derivative" if made.plan.derivative else "rules", made)
        if not found:
            raise RequestError("no preset to audit")
        made = found.get("rules") or found["derivative"]
        if len(files.real_inputs(made.source.proto)) != 1:
            raise RequestError("the model has several inputs; an audit takes models with one")
        if not made.plan.inputs[0].shape:
            raise RequestError("the model does not declare the shape of its input")
        return Facts(made.source.sha256, rules, taylor, layers(made), classes(made.plan))

    @cached_property
    def tasks(self) -> list[Task]:
        """All units of work, in the order of their numbers."""
        places = spread(self.facts.layers, MOST_LAYERS)
        found = []
        for preset in self.presets:
            ruled = self.facts.rules[preset] is not None
            found += [Task(preset, measure) for measure in (*(FOR_RULES if ruled else ()), *WHOLE)]
            found += [Task(preset, measure, place) for measure in ("cascading", "independent") for place in places]
        return found

    def assemble(self, units: Iterable[Any]) -> dict[str, Any]:
        """The audit, as data, from the results of all units in their order."""
        found: dict[str, dict[str, Any]] = {}
        for preset in self.presets:
            found[preset] = {"preset": preset, "rules": self.facts.rules[preset] or {}, "preconditions": None, "roots": []}
            found[preset] |= {"deep_taylor": preset in self.facts.deep_taylor}
            found[preset] |= {"cascading": [], "independent": [], "left_out": {}, "samples": {}}
        for task, part in zip(self.tasks, units, strict=True):
            entry = found[task.preset]
            if task.layer is None:
                entry[task.measure] = part["found"]
                entry["samples"] |= part["samples"]
                entry["left_out"] |= {task.measure: part["left_out"]} if part["left_out"] else {}
            else:
                entry[task.measure].append({**part["found"], **part["samples"]})
        entries = list(found.values())
        blind_to = _blindness(entries, len(self.xs))
        for entry in entries:
            entry["chance"] = chance(math.prod(self.xs.shape[1:]))
            entry["left_out"] |= _not_drawn(entry, math.prod(self.xs.shape[1:]))
            if entry["preconditions"] is not None and entry["deep_taylor"] and not entry["roots"]:
                entry["left_out"]["roots"] = "no root point could be looked for"
            entry["means"] = {name: summed(values) for name, values in entry["samples"].items() if mean(values) is not None}
            entry["verdict"] = verdict(entry)
        differences = _differences(entries, len(self.xs))
        low, high = as_given(domain(self.request))
        settings = {
            "samples": len(self.xs),
            "neurons": self.neurons,
            "noise": NUDGE,
            "seed": self.seed,
            "low": low,
            "high": high,
        }
        settings |= {"preprocessing": self.request.preprocessing} if self.request.preprocessing else {}
        return {
            "kind": "audit",
            "version": onnxdtd.__version__,
            "settings": {**settings, "presets": list(self.presets)},
            "model": self.model.name,
            "sha256": self.facts.sha256,
            "classes": self.facts.classes,
            "copies": len(self.xs) - len(np.unique(self.xs.reshape(len(self.xs), -1), axis=0)),
            "presets": entries,
            "differences": differences,
            "best": best(entries, differences, blind_to),
        }


def _not_drawn(entry: dict[str, Any], entries: int) -> dict[str, str]:
    """Why the weights of upper layers tell nothing, where they do not."""
    row = upper(entry["cascading"])
    if entries == 1:
        return {"spearman": ALONE}
    if entries < FEWEST:
        return {"spearman": f"heatmaps of {entries} entries are much alike by chance, in cosine too"}
    if row is None:
        return {"randomised": "no layer has weights to draw anew"}
    if row["idle"]:
        return {"randomised": "new weights there do not change the scores of the model on these samples either"}
    if row["spearman"] is None:
        return {"randomised": "on no sample have both heatmaps, before and after, finite entries that differ"}
    return {}


def _blindness(entries: Sequence[dict[str, Any]], n: int) -> tuple[str, ...]:
    """What the presets can be blind to, of the class and the upper layers: what was measured for all whose heatmaps show
    anything. Notes for each sample how blind its heatmap is to that, from 0 to 1: the mean of the cosine with other classes'
    heatmaps and of the rank correlation left when the upper layers are drawn anew. The rows of the cascade give up the numbers
    of single samples.
    """
    nothing: list[float | None] = [None] * n
    for entry in entries:
        row = upper(entry["cascading"])
        entry["samples"]["upper"] = nothing if row is None else row["samples"]
        for one in (*entry["cascading"], *entry["independent"]):
            del one["samples"]
    showing = [entry["samples"] for entry in entries if not shows_nothing(entry)]
    parts = tuple(p for p in ("classes", "upper") if all(mean(s.get(p, ())) is not None for s in showing) and showing)
    for entry in entries:
        rows = zip(*(entry["samples"].get(part, nothing) for part in parts), strict=True) if parts else ()
        entry["samples"]["blindness"] = [mean(values) if None not in values else None for values in rows] or nothing
    return parts


def _differences(entries: Sequence[Mapping[str, Any]], n: int) -> list[dict[str, Any]]:
    """The paired differences between presets, in all numbers that single samples have."""
    pairs = Pairs(dict.fromkeys(name for entry in entries for name in entry["samples"]), AREAS)
    for i in range(n):
        pairs.add({e["preset"]: {name: values[i] for name, values in e["samples"].items()} for e in entries})
    return pairs.as_data()


def measurable(subject: Subject, folder: Path, most: int) -> tuple[list[Item], dict[str, str], list[bool]]:
    """The first samples that can be read, are of one size and have finite scores; why others are left out; and of those with a
    label whether it is the class that the model predicts. ``folder`` is where external weights lie. Raises ``RequestError``
    where there is no sample.
    """
    items, left_out = subject.items(most)
    size = items[0].x.shape
    for item in [item for item in items if item.x.shape != size]:
        left_out[item.name] = f"is {list(item.x.shape)}, the first sample {list(size)}; an audit takes samples of one size"
    items = [item for item in items if item.name not in left_out]
    logits = Scores(subject.planned, folder, threads=1).logits(np.stack([item.x for item in items]))
    rows = dict(zip((item.name for item in items), logits, strict=True))
    left_out |= dict.fromkeys(
        (name for name, row in rows.items() if not np.isfinite(row).all()), "the scores of the model are NaN or infinite"
    )
    truths = {}
    for item in items:
        if item.label is None or logits.shape[1] < 2:
            continue
        try:
            truths[item.name] = subject.planned.labels.labelled(item.label)
        except RequestError as error:
            left_out[item.name] = str(error)
    items = [item for item in items if item.name not in left_out]
    right = [int(rows[item.name].argmax()) == truths[item.name] for item in items if item.name in truths]
    if not items:
        raise RequestError(f"none of the samples could be measured ({'; '.join(list(left_out.values())[:3])})")
    return items, left_out, right


def pictures(job: Job, items: Sequence[Item], form: Form, labels: Labels) -> dict[str, Any]:
    """The first samples of the job, which are ``items``, with the heatmap of each preset for the predicted class."""
    few = Auditor(replace(job, xs=job.xs[:PICTURES]))
    maps = {preset: few.heatmaps(few.proto, preset, few.predicted) for preset in job.presets}
    shown = []
    for i, (item, predicted) in enumerate(zip(items, few.predicted.tolist(), strict=False)):
        pairs = {preset: thumbnail(item.x, heatmaps[i], form) for preset, heatmaps in maps.items()}
        small = {preset: heatmap for preset, (_, heatmap) in pairs.items()}
        shown.append({"name": item.name, "class": labels[predicted], "input": next(iter(pairs.values()))[0], "heatmaps": small})
    return {"samples": shown}


class Auditor:
    """Measures one unit after the other. What units share is kept: the model, its logits, the heatmaps of one preset."""

    def __init__(self, job: Job):
        self.job = job
        made = compiler.prepare(job.model, job.asked(job.presets[0]))
        self.proto = made.source.proto  # normalised, as the layers were found in it
        (tensor,) = made.plan.inputs
        axis = made.plan.samples.axes[tensor.name]
        self.layout, self.form = Layout.of(list(tensor.shape or ()), axis), form_of(tensor, made.request, axis)
        self.scores = Scores(made, job.model.parent, threads=1)
        self.logits, self.binary = self.scores.logits(job.xs), self.scores.binary
        self.predicted = self.logits.argmax(axis=1)
        self.alone = job.xs[0].size == 1
        self._trained = lru_cache(maxsize=1)(lambda preset: self.heatmaps(self.proto, preset, self.predicted))

    def __call__(self, number: int) -> dict[str, Any]:
        """The result of a unit, for ``assemble``."""
        task = self.job.tasks[number]
        if task.layer is None:
            found = getattr(self, task.measure)(task.preset)
            return asdict(found if isinstance(found, Part) else Part(found))
        place = self.job.facts.layers[task.layer]
        chosen = self.job.facts.layers[: task.layer + 1] if task.measure == "cascading" else [place]
        part = self.redrawn(task.preset, chosen)
        return asdict(replace(part, found={"layer": place.layer, **part.found}))

    def explained(self, made: Prepared, xs: np.ndarray, classes: np.ndarray, wanted: Wanted) -> np.ndarray:
        """What is ``wanted`` of the explanation of every sample for one class each, [n, ...], in batches."""
        running = Explainer(compiler.build(made), folder=self.job.model.parent, threads=1)
        run = lambda rows: wanted(running(self.layout.put(xs[rows]), [Index(c) for c in classes[rows]]))
        return in_batches(np.arange(len(xs)), self.layout, run, BATCH)

    def heatmaps(
        self, proto: onnx.ModelProto | Prepared, preset: str, classes: np.ndarray, xs: np.ndarray | None = None
    ) -> np.ndarray:
        """The relevance of every sample for one class each, [n, ...]."""
        made = compiler.prepare(proto, self.job.asked(preset)) if isinstance(proto, onnx.ModelProto) else proto
        wanted = lambda explanation: self.layout.take(next(iter(explanation.relevance.values())))
        return self.explained(made, self.job.xs if xs is None else xs, classes, wanted)

    def preconditions(self, preset: str) -> Row | None:
        """Where deep Taylor decomposition's conditions fail, as shares; None where the ledger cannot tell samples apart."""
        steps: list[str] = []

        def columns(explanation: Explanation) -> np.ndarray:
            assert explanation.ledger is not None
            steps[:] = explanation.ledger.steps
            return np.stack([explanation.ledger[name] for name in COLUMNS], axis=-1)

        request = replace(self.job.asked(preset), ledger=True)
        try:
            table = self.explained(compiler.prepare(self.proto, request), self.job.xs, self.predicted, columns)
        except ModelError:
            return None
        made = compiler.prepare(_sized(self.proto, self.layout.feed(self.job.xs[0]).shape), self.job.asked(preset))
        ledger = Ledger(steps, {name: table[..., i] for i, name in enumerate(COLUMNS)})
        return _broken(ledger, made.plan)

    def roots(self, preset: str) -> list[dict[str, Any]]:
        """See ``onnxdtd.roots``; nothing where the model has no derivative."""
        request = self.job.asked(preset)
        try:
            return roots(self.job.model, request, self.job.xs, self.predicted.tolist(), self.job.neurons, self.job.seed)
        except Unsupported:
            return []

    def convergence(self, preset: str) -> Part:
        """See ``onnxdtd.converge``."""
        found = convergence(self.job.model, self.job.asked(preset), self.job.xs, seed=self.job.seed)
        why = ""
        if not any(arrival(start) for start in found):
            why = "the layers are so small that random vectors are alike too"
        return Part(found, left_out=why)

    def silent(self, preset: str) -> dict[str, int]:
        """How many heatmaps say nothing: zero everywhere, not finite, of one value."""
        own = self._trained(preset).reshape(len(self.job.xs), -1).astype(np.float64)
        finite, empty = np.isfinite(own).all(axis=1), ~own.any(axis=1)
        with np.errstate(invalid="ignore"):
            flat = finite & ~empty & (np.ptp(own, axis=1) <= SAME * np.abs(own).max(axis=1)) & (own.shape[1] > 1)
        return {"n": len(own), "empty": int(empty.sum()), "broken": int((~finite).sum()), "flat": int(flat.sum())}

    def similarity(self, preset: str) -> dict[str, Row]:
        """How alike the heatmaps are to those of other presets, derivatives; nothing where the model has no derivative."""
        own, found = self._trained(preset), {}
        for name in () if self.alone else [name for name in REFERENCES if name != preset]:
            try:
                found[name] = _mean(map(alike, own, self.heatmaps(self.proto, name, self.predicted), repeat(self.form.channel)))
            except Unsupported:
                continue
        return found

    def class_sensitivity(self, preset: str) -> Part:
        """How alike the heatmaps of the predicted class are to those of others, up to the sign: 1 is blind to the class."""
        why = ALONE if self.alone else self._one_score()
        if why:
            return Part({}, left_out=why)
        own = self._trained(preset)
        others = [self.heatmaps(self.proto, preset, classes) for classes in self.others()]
        rows = [[kept(own[i], other[i], self.form.channel) for other in others] for i in range(len(own))]
        if self.logits.shape[1] == 2:
            signed = mean([cosine(_finite(a), _finite(b)) for a, b in zip(own, others[0], strict=True)])
            if signed is not None and signed <= -LITTLE:
                words = f"the heatmaps of the two classes are each other's opposites (mean cosine {signed:.3f})"
                return Part({}, left_out=f"{words}, as they are where one score gains what the other loses, whatever is shown")
        found = _mean(row for one in rows for row in one)
        why = "" if found["cosine"] is not None else "no sample has a heatmap other than zero both of its class and of another"
        return Part(found, {"classes": [mean([row["cosine"] for row in one]) for one in rows]}, why)

    def _one_score(self) -> str:
        """Why no heatmap of another class could differ, where none could."""
        if self.binary:
            return "the model has one score, and that of the other class could only be its negative"
        if self.logits.shape[1] == 1:
            return "the model has one score only"
        least = SAME * np.abs(self.logits).max()
        if np.ptp(self.logits, axis=1).max() <= least:
            return "the scores of all classes are the same"
        opposite = self.logits.shape[1] == 2 and np.abs(self.logits.sum(axis=1)).max() <= least
        return "the two scores of the model are each other's negatives" if opposite else ""

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

    def input_dependence(self, preset: str) -> Part:
        """How alike the heatmaps of different samples of one class are, up to the sign, beside the samples, standardised."""
        own, xs = self._trained(preset), self.job.xs
        pairs = partners(xs, self.predicted)
        if self.alone:
            return Part({}, left_out=ALONE)
        if not any(pairs):
            return Part({}, left_out="no two different samples have one predicted class")
        between = lambda values: [[cosine(_finite(values[i]), _finite(values[j])) for j in js] for i, js in enumerate(pairs)]
        found = [mean([size(value) for value in row]) for row in between(own)]
        if mean(found) is None:
            return Part({}, {"input": found}, "no two samples of one class have heatmaps other than zero")
        samples = mean([mean(row) for row in between(standardised(xs, self.form.channel))])
        return Part({"cosine": mean(found), "samples": samples or 0.0}, {"input": found})

    def stability(self, preset: str) -> Part:
        """How much a little noise on the input changes heatmap and explained score, each as a part of its size."""
        job, n = self.job, len(self.job.xs)
        noisy = np.concatenate([self._nudged(np.random.default_rng([job.seed, i])) for i in range(NUDGES)])
        if (noisy.reshape(NUDGES, n, -1) == job.xs.reshape(n, -1)).all():
            spreads = spread_of(job.xs, self.form.channel).any()
            return Part({}, left_out="noise so small is rounded away" if spreads else "the samples have no spread")
        classes = np.tile(self.predicted, NUDGES)
        own, new = self._trained(preset), self.heatmaps(self.proto, preset, classes, noisy).reshape(NUDGES, *job.xs.shape)
        scores = self.logits[np.arange(n), self.predicted]
        moved = np.abs(self.scores.logits(noisy)[np.arange(NUDGES * n), classes].reshape(NUDGES, n) - scores)
        changes = [mean([change(own[i], new[draw, i]) for draw in range(NUDGES)]) for i in range(n)]
        known = [i for i, value in enumerate(changes) if value is not None and scores[i]]
        if not known:
            return Part({}, left_out="no heatmap and score is other than zero")
        medians = np.median([(changes[i], moved[:, i].mean() / abs(scores[i])) for i in known], axis=0)
        return Part(
            {"noise": NUDGE, "heatmap": float(medians[0]), "score": float(medians[1])},
            {"stability": [value if i in known else None for i, value in enumerate(changes)]},
        )

    def _nudged(self, rng: np.random.Generator) -> np.ndarray:
        """The samples with noise, within their bounds, and in whole numbers where the model takes such."""
        xs, form = self.job.xs, self.form
        noisy = xs + NUDGE * spread_of(xs, form.channel) * rng.normal(size=xs.shape)
        if form.low is not None and form.high is not None:
            noisy = np.clip(noisy, form.low, form.high)
        return (np.rint(noisy) if self.scores.dtype.kind in "iu" else noisy).astype(xs.dtype)

    def perturbation(self, preset: str) -> Part:
        """What the scores do when regions are replaced, as ``onnxdtd.evaluate`` measures it, and in a random order."""
        job, shape, channel = self.job, self.job.xs.shape[1:], self.form.channel
        fill, places = neutral(job.xs, channel), regions(shape, channel, default_patch(shape, channel))
        if not places.any():
            return Part({}, left_out="the input is one region, and all orders are the same")
        if (fill == job.xs).all():
            return Part({}, left_out="the samples are what their regions would be replaced by")
        samples: dict[str, list[float | None]] = {"aopc": [], "abpc": [], "gain": []}
        for i, (x, target, heatmap) in enumerate(zip(job.xs, self.predicted.tolist(), self._trained(preset), strict=True)):
            rng, shown = np.random.default_rng([job.seed, i]), {preset: _finite(heatmap)}
            values: dict[str, float] = {}
            with suppress(RequestError):  # scores that are not finite
                curves = perturbation(self.scores, x, target, shown, fill, places, rng)
                morf, lerf, chance_level = curves[preset, "morf"], curves[preset, "lerf"], aopc(curves["random"])
                values = {"aopc": aopc(morf), "abpc": abpc(lerf, morf), "gain": paired(aopc(morf), chance_level, area=True)}
            for name, listed in samples.items():
                listed.append(values.get(name))
        if all(value is None for value in samples["aopc"]):
            return Part({}, samples, "the scores are NaN or infinite where regions are replaced")
        found = {name: summed(values) for name, values in samples.items()}
        return Part({**found, "fill": NEUTRAL[bool(fill.any())]}, samples)

    def redrawn(self, preset: str, chosen: Sequence[Weights]) -> Part:
        """How alike the heatmaps of the trained model are to those with the weights of ``chosen`` layers drawn anew; nothing
        where these weights are ``idle``: without them the scores are the same too.
        """
        other = randomised(self.proto, chosen, self.job.seed, self.job.model.parent)
        made = compiler.prepare(other, self.job.asked(preset))
        moved = np.abs(Scores(made, self.job.model.parent, threads=1).logits(self.job.xs) - self.logits).max()
        if chosen and moved <= SAME * np.abs(self.logits).max():
            return Part({**dict.fromkeys(LEFT), "idle": True}, {"samples": [None] * len(self.job.xs)})
        rows = list(map(kept, self._trained(preset), self.heatmaps(made, preset, self.predicted), repeat(self.form.channel)))
        return Part({**_mean(rows, LEFT), "idle": False}, {"samples": [row["spearman"] for row in rows]})


# ------------------------------------------------------------------------------------------------------- preconditions


def _broken(ledger: Ledger, plan: Plan) -> Row:
    """How often the conditions are broken in the steps with a rule."""
    steps, size = [step for step in plan.steps if step.rule is not None], partial(_size, plan.samples.size)
    biased = {step.name: size(step.outputs[0]) for step in steps if step.layer and step.layer.family in BIASED}
    bounded = {step.name: size(*step.inputs) for step in steps if step.rule and step.rule.needs_bounds}
    positive = {step.name: size(*step.inputs) for step in steps if step.rule and step.rule.for_nonnegative}
    totals = ledger.totals()
    logit = totals["logit"]
    share = lambda name: float(np.median(totals[name][logit != 0] / logit[logit != 0])) if logit.any() else None
    return {
        "positive_biases": _share(ledger, "positive_biases", biased),
        "bias_share": share("bias"),
        "outside": _share(ledger, "outside", bounded),
        "negative_inputs": _share(ledger, "negative_inputs", positive),
        "negative_logits": float((logit < 0).mean()),
        "dead": share("dead"),
    }


def _share(ledger: Ledger, column: str, sizes: Mapping[str, int | None]) -> float | None:
    """What the counts in a column are of all entries, in the steps whose ``sizes`` are known; None if there are none."""
    there = {ledger.steps.index(name): size for name, size in sizes.items() if size and name in ledger.steps}
    return float(ledger[column].mean(axis=0)[list(there)].sum() / sum(there.values())) if there else None


def _size(samples: object, *tensors: Tensor | None) -> int | None:
    """How many entries tensors have for each of so many samples; None where that is not known."""
    shapes = [known(dims(tensor)) for tensor in tensors if tensor is not None]
    if None in shapes or not isinstance(samples, int):
        return None
    return sum(math.prod(shape) for shape in shapes if shape is not None) // samples


def _sized(proto: onnx.ModelProto, shape: Sequence[int]) -> onnx.ModelProto:
    """The model with the shape of its input declared, so that the neurons can be counted."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    names = [value.name for value in files.real_inputs(fixed)]
    for value in fixed.graph.input:
        declared = value.type.tensor_type.shape.dim
        if value.name in names and len(declared) == len(shape):
            for size, number in zip(declared, shape, strict=True):
                size.dim_value = number
    return fixed


# ---------------------------------------------------------------------------------------------------------- comparing


def alike(a: np.ndarray, b: np.ndarray, channel: int | None) -> Row:
    """How alike two heatmaps of one sample and class are, whose channels lie along ``channel``."""
    a, b = _finite(a), _finite(b)
    return {"cosine": cosine(a, b), "spearman": ranks(a, b), "ssim": ssim(heat(a, channel), heat(b, channel))}


def ranks(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation, where there are enough entries for one."""
    return spearman(a, b) if a.size >= FEWEST else None


def _finite(heatmap: np.ndarray) -> np.ndarray:
    """In float64; zero, which is like nothing, where there are values that are NaN or infinite."""
    wide = heatmap.astype(np.float64)
    return wide if np.isfinite(wide).all() else np.zeros_like(wide)


def kept(a: np.ndarray, b: np.ndarray, channel: int | None) -> Row:
    """How much of a heatmap is left in another of other classes or weights, where the logit may well be negative: one that only
    has the other sign, or another size, is the same. SSIM as in Sixt et al. 2020, rank correlations as in Adebayo et al. 2018.
    """
    a, b = _finite(a), _finite(b)
    found = alike(a, b, channel)
    flipped = [value for value in (found["ssim"], ssim(heat(a, channel), -heat(b, channel))) if value is not None]
    either = {name: None if value is None else abs(value) for name, value in found.items()}
    return either | {"ssim": max(flipped, default=None), "spearman_abs": ranks(np.abs(a), np.abs(b))}


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def size(value: float | None) -> float | None:
    """Without the sign."""
    return None if value is None else abs(value)


def change(a: np.ndarray, b: np.ndarray) -> float | None:
    """How far a heatmap is from another, as a part of the length of the first; None where that is 0 or one is not finite."""
    length, far = float(np.linalg.norm(a.astype(np.float64))), float(np.linalg.norm(b.astype(np.float64) - a))
    return far / length if length > 0 and math.isfinite(far / length) else None


def partners(xs: np.ndarray, classes: np.ndarray) -> list[list[int]]:
    """For each sample the next few of its class that are not the same, going round.

    >>> partners(np.array([[1], [2], [1], [3]]), np.array([0, 0, 0, 1]))
    [[1], [2, 0], [1], []]
    """
    found = []
    for i in range(len(xs)):
        order = [*range(i + 1, len(xs)), *range(i)]
        found.append([j for j in order if classes[j] == classes[i] and (xs[j] != xs[i]).any()][:PARTNERS])
    return found


def spread_of(xs: np.ndarray, channel: int | None) -> np.ndarray:
    """The standard deviation of each feature over samples [n, ...], in pictures and signals that of each channel."""
    axes = (0, *(axis + 1 for axis in space_axes(xs.shape[1:], channel)))
    return xs.std(axis=axes, keepdims=True, dtype=np.float64)


def neutral(xs: np.ndarray, channel: int | None) -> np.ndarray:
    """What takes the place of a region of samples [n, ...]: 0 in pictures, elsewhere the mean of each feature or channel."""
    axes = space_axes(xs.shape[1:], channel)
    if len(axes) > 1:
        return np.zeros(xs.shape[1:])
    mean = xs.mean(axis=(0, *(axis + 1 for axis in axes)), keepdims=True, dtype=np.float64)
    return np.broadcast_to(mean[0], xs.shape[1:])


def standardised(xs: np.ndarray, channel: int | None) -> np.ndarray:
    """Samples [n, ...] less the mean of each feature or channel, in units of its spread."""
    axes, spread = (0, *(axis + 1 for axis in space_axes(xs.shape[1:], channel))), spread_of(xs, channel)
    less = xs - xs.mean(axis=axes, keepdims=True, dtype=np.float64)
    return np.divide(less, spread, out=np.zeros_like(less), where=spread > 0)


def summed(values: Sequence[float | None]) -> dict[str, Any]:
    """Their mean, with its standard error."""
    whole = Mean()
    for value in values:
        if value is not None:
            whole.add(value)
    return whole.as_data()


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
