"""What explanations of a model depend on, and what they do not, preset by preset, in words.

A unit of work is one measurement of one preset over all samples. What units share is kept by the worker that does them.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import onnxdtd
from onnxdtd.compiler.bounds import as_given, domain
from onnxdtd.compiler.compile import planned, prepare
from onnxdtd.compiler.prepared import Prepared
from onnxdtd.compiler.score import classes
from onnxdtd.data.brought import brought
from onnxdtd.data.labelled import Item
from onnxdtd.data.tables import Roles
from onnxdtd.errors import RequestError
from onnxdtd.graph import shapes
from onnxdtd.method.toml import Library
from onnxdtd.request import Request
from onnxdtd.study.abroad import run
from onnxdtd.study.audit.auditor import Auditor, Texts, ragged, real
from onnxdtd.study.audit.choice import best
from onnxdtd.study.audit.limits import shows_nothing
from onnxdtd.study.audit.measurement import Task
from onnxdtd.study.audit.measurements import MEASUREMENTS
from onnxdtd.study.audit.order import AREAS
from onnxdtd.study.audit.preconditions import deep_taylor
from onnxdtd.study.audit.quick import LAYERS, NEURONS, SAMPLES, left_out
from onnxdtd.study.audit.randomise import Weights, layers, spread, upper
from onnxdtd.study.audit.similarity import ALONE, FEWEST, mean
from onnxdtd.study.audit.stability import NUDGE
from onnxdtd.study.audit.verdict import verdict
from onnxdtd.study.columns import Columns
from onnxdtd.study.jobs import Tick, Work, untold
from onnxdtd.study.luggage import Luggage, Moved, read_besides
from onnxdtd.study.perturb import called, default_patch, replacement
from onnxdtd.study.predictor import Scores
from onnxdtd.study.provenance import weight_digests
from onnxdtd.study.subject import PRESETS, Subject, asked, spoken_by
from onnxdtd.study.tally import Pairs, summed

# Why nothing is measured of presets with relevance models.
REFITTED = "its relevance models were fitted to the weights as they are, and would have to be fitted anew"
GIVEN_ANEW = "its relevance models give relevance of their own, whatever arrives"


def audit(
    model: Path | str,
    data: Path | str,
    request: Request | None = None,
    *,
    presets: Sequence[str] = (),
    samples: int | None = None,
    neurons: int | None = None,
    seed: int = 0,
    quick: bool = False,
    workers: int | None = 1,
    engine: str = "processes",
    tokenizer: Path | str | None = None,
    words: bool = False,
    label: str | None = None,
    sample_id: str | None = None,
    journal: Path | None = None,
    tick: Tick = untold,
    timed: Callable[[float], object] | None = None,
) -> dict[str, Any]:
    """Find out what explanations depend on, and what they do not, and say it in words.

    Args:
        model: the file of a classifier.
        data: a table, an ``.npz`` with samples and labels, or a folder of pictures with a ``labels.csv``; a file of texts;
            a URL of these, or a list of pictures, ``"@LIST"``.
        request: the options of ``onnxdtd.compile`` for all presets; its own preset and target do not count.
        presets: names of presets, or TOML files with one; by default ``PRESETS``.
        samples: only the first so many, by default 20, or 8 in a ``quick`` audit.
        neurons: how many of each layer root points are looked for, by default 16, or 4.
        seed: of everything that is drawn at random.
        quick: take less of everything, and leave out what takes longest; ``shortened`` says what.
        workers: how many processes, None for one a core. More than one start anew whatever script calls this.
        engine: ``"processes"`` of this machine, or ``"ray"``.
        tokenizer: the ``tokenizer.json`` of a model that takes ids of tokens, for texts.
        words: replace words of a text, not pieces of them.
        label: the column of a table that has the true classes.
        sample_id: the column of a table that names the samples.
        journal: notes what is done; a run that was cut short goes on from it. By default a hidden file in this folder.
        tick: told how many of how many units are done.
        timed: told, before all else, how many seconds a unit takes one process, by the first and one more.

    Returns:
        What ``onnxdtd audit --json`` prints; ``onnxdtd.report.report`` makes a page of it.

    Raises:
        OnnxdtdError: model, presets and data do not fit each other, or no sample could be measured.
    """
    for name, value, least in (("samples", samples, 1), ("neurons", neurons, 1), ("seed", seed, 0)):
        if value is not None and value < least:
            raise RequestError(f"--{name} {value}: give at least {least}")
    model, chosen = Path(model), tuple(dict.fromkeys(presets)) or PRESETS
    spoken = spoken_by(tokenizer, words)
    roles = Roles(label, sample_id)
    with brought(data, roles) as found:
        here = found.path
        subject = Subject(
            model, replace(request or Request(), preset=chosen[0]), here, spoken=spoken, roles=roles, tabular=True
        )
        items, skipped, right = measurable(subject, model.parent, SAMPLES[quick] if samples is None else samples)
        count = NEURONS[quick] if neurons is None else neurons
        samples_of = together(subject, items, words, *neutral(subject))
        study = Audit(model, subject.planned.request, chosen, *samples_of, count, seed, quick, subject.columns, subject.names)
        if timed is not None:
            timed(_seconds(study))
        result = study.assemble(run(study, workers, engine, journal, tick))
        result["settings"]["data"] = here.name
        result["notes"] = list(subject.notes)
        if quick:
            result["shortened"] = [*left_out(len(study.facts.layers), samples is None and neurons is None)]
        if subject.tokens is None:
            side = default_patch(subject.form, study.xs[0].shape)
            areas = called(subject.form, study.xs[0].shape, side, subject.rate)
            result["settings"] |= {"regions": areas} if areas else {}
        pictures = [{"name": item.name, **shown} for item, shown in zip(items, result.pop("pictures"), strict=False)]
        remarks = {item.name: item.remark for item in items if item.passage is not None and item.remark}
        listed = found.said([{"name": name, "reason": reason} for name, reason in (skipped | remarks).items()])
        provenance = subject.provenance("onnxdtd.audit", [model], chosen, len(items))
        result = {"provenance": provenance, **result}
        return result | {"labelled": len(right), "right": sum(right), "skipped": listed, "pictures": {"samples": pictures}}


def _seconds(study: Audit) -> float:
    """How long a unit takes: the mean of the first, opening the model included, and of one that draws weights."""
    start = time.perf_counter()
    units = [0, *[unit for unit, task in enumerate(study.tasks) if task.layer is not None][:1]]
    work = study.prepare()
    for unit in units:
        work(unit)
    return (time.perf_counter() - start) / len(units)


@dataclass(frozen=True)
class Overview:
    """What is known of a model before anything is measured: its digest, the rules of each preset by step (None for a
    derivative), the presets of deep Taylor decomposition, those with relevance models, its layers with weights from the logits
    down.
    """

    sha256: str
    rules: dict[str, dict[str, str] | None]
    deep_taylor: list[str]
    fitted: list[str]
    layers: list[Weights]
    classes: int | None


@dataclass(frozen=True, eq=False)
class Audit:
    """An audit of a model: ``presets`` under the options of ``request``, whose own preset and target do not count.

    ``xs`` are the samples [n, ...] in the units of the model, of ``texts`` an array each, of rows of a table
    numbers as ``columns`` take them, or called by ``names``; ``neurons`` is how many of each layer
    root points are looked for. A ``quick`` one takes fewer layers and leaves out measurements.
    """

    model: Path
    request: Request
    presets: tuple[str, ...]
    xs: np.ndarray
    texts: Texts | None = None
    neurons: int = 32
    seed: int = 0
    quick: bool = False
    columns: Columns | None = None
    names: tuple[str, ...] = ()

    def units(self) -> int:
        """How many measurements there are. Raises ``OnnxdtdError`` where a preset does not fit the model."""
        return len(self.tasks)

    def identity(self) -> Any:
        """All that the results depend on."""
        samples = digest(self.xs, self.texts, self.columns)
        files = [self.facts.sha256, weight_digests(self.model), samples, list(self.xs.shape)]
        return ["audit", onnxdtd.__version__, files, *asked(self.request, self.presets), self.neurons, self.seed, self.quick]

    def prepare(self) -> Work:
        """What measures, given the number of a unit."""
        auditor = Auditor(self)

        def measure(number: int) -> dict[str, Any]:
            task = self.tasks[number]
            return asdict(MEASUREMENTS[task.measure].measure(auditor, task))

        return measure

    def luggage(self) -> Luggage:
        """All files that it reads; the samples it has."""
        return Luggage.packed([self.model], read_besides(self.request, self.presets))

    def moved(self, there: Moved) -> Audit:
        """The same, of files that are somewhere else."""
        presets = tuple(map(there.preset, self.presets))
        return replace(self, model=there.path(self.model), request=there.request(self.request), presets=presets)

    def asked(self, preset: str) -> Request:
        """The request for a preset, with the target left open; none of the rules set by hand for a derivative."""
        settings = self.request.settings if Library().preset(preset).method.divides else ()
        return replace(self.request, preset=preset, settings=settings, target="input", ledger=False, keep=())

    @cached_property
    def sizes(self) -> list[int]:
        """How many entries the heatmap of each sample has."""
        return [x.size for x in self.xs] if self.texts is None else [int(real(item).sum()) for item in self.texts.items]

    @cached_property
    def inputs(self) -> np.ndarray | dict[str, np.ndarray]:
        """The samples; of texts what each input takes, an array each."""
        if self.texts is None:
            return self.xs if self.columns is None else self.columns.arrays(self.xs)
        (ids,) = [tensor.name for tensor in planned(self.model, self.asked(self.presets[0])).plan.inputs]
        others = {name: ragged([item.others[name] for item in self.texts.items]) for name in self.texts.items[0].others}
        return {ids: self.xs, **others}

    @cached_property
    def facts(self) -> Overview:
        """Read and plan the model once for every preset."""
        rules: dict[str, dict[str, str] | None] = {}
        taylor: list[str] = []
        fitted: list[str] = []
        kinds: dict[str, Prepared] = {}
        for preset in self.presets:
            prepared = prepare(self.model, self.asked(preset))
            ruled = {step.name: step.rule for step in prepared.plan.steps if step.rule is not None}
            rules[preset] = {name: str(rule) for name, rule in ruled.items()} if prepared.plan.method.conserves else None
            taylor += [preset] if deep_taylor(ruled.values()) else []
            fitted += [preset] if prepared.fitted is not None else []
            kinds.setdefault("rules" if prepared.plan.method.divides else "derivative", prepared)
        if not kinds:
            raise RequestError("no preset to audit")
        prepared = kinds.get("rules") or kinds["derivative"]
        alone = self.texts is None and self.columns is None
        if alone and len(shapes.real_inputs(prepared.source.proto)) != 1:
            raise RequestError("the model has several inputs; an audit takes models with one, or with what a tokenizer gives")
        if not prepared.plan.inputs[0].shape:
            raise RequestError("the model does not declare the shape of its input")
        return Overview(prepared.source.sha256, rules, taylor, fitted, layers(prepared), classes(prepared.plan))

    @cached_property
    def tasks(self) -> list[Task]:
        """All units of work, in the order of their numbers."""
        places = spread(self.facts.layers, LAYERS[self.quick])
        tasks = []
        for preset in self.presets:
            for name, one in MEASUREMENTS.items():
                unfit = (one.of_the_network and preset in self.facts.fitted) or (one.thorough and self.quick)
                if not unfit and (Library().preset(preset).method.divides or not one.for_rules):
                    tasks += [Task(preset, name, place) for place in (places if one.layered else [None])]
        return tasks

    def assemble(self, units: Iterable[Any]) -> dict[str, Any]:
        """The audit, as data, from the results of all units in their order."""
        found: dict[str, dict[str, Any]] = {}
        for preset in self.presets:
            found[preset] = {"preset": preset, "rules": self.facts.rules[preset] or {}}
            found[preset] |= {"deep_taylor": preset in self.facts.deep_taylor, "left_out": {}, "samples": {}}
            found[preset] |= {name: one.empty() for name, one in MEASUREMENTS.items()}
        for task, unit in zip(self.tasks, units, strict=True):
            entry, name = found[task.preset], task.measure
            if task.layer is not None:
                entry[name].append({**unit["found"], **unit["samples"]})
                continue
            entry[name] = unit["found"]
            entry["samples"] |= unit["samples"]
            entry["left_out"] |= {name: unit["left_out"]} if unit["left_out"] else {}
        entries = list(found.values())
        pictures = {entry["preset"]: entry.pop("pictures") for entry in entries}
        blind_to = _blindness(entries, len(self.xs))
        for entry in entries:
            entry["chance"] = float(np.mean([chance(size) for size in self.sizes]))
            entry["left_out"] |= _not_drawn(entry, max(self.sizes))
            if entry["preset"] in self.facts.fitted:
                entry["left_out"] |= {"randomised": REFITTED, "convergence": GIVEN_ANEW}
            if entry["preconditions"] is not None and entry["deep_taylor"] and not entry["roots"]:
                entry["left_out"]["roots"] = "no root point could be looked for"
            entry["means"] = {name: summed(values) for name, values in entry["samples"].items() if mean(values) is not None}
            entry["verdict"] = verdict(entry)
        differences = _differences(entries, len(self.xs))
        low, high = as_given(domain(self.request))
        settings = {"samples": len(self.xs), "neurons": self.neurons, "seed": self.seed, "low": low, "high": high}
        if self.columns is not None:
            settings |= {"regions": "features"}
        if self.columns is None or not self.columns.categories.any():
            settings |= {"noise": NUDGE} if self.texts is None else {"regions": "words" if self.texts.words else "tokens"}
        settings |= {"preprocessing": self.request.preprocessing} if self.request.preprocessing else {}
        settings |= {"quick": "yes"} if self.quick else {}
        return {
            "kind": "audit",
            "version": onnxdtd.__version__,
            "settings": {**settings, "presets": list(self.presets)},
            "model": self.model.name,
            "sha256": self.facts.sha256,
            "classes": self.facts.classes,
            "copies": len(self.xs) - len({(x + 0.0).tobytes() for x in self.xs}),
            "presets": entries,
            "differences": differences,
            "best": best(entries, differences, blind_to),
            "pictures": [_shown(dict(zip(pictures, row, strict=True))) for row in zip(*pictures.values(), strict=True)],
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


def _shown(pictures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One sample, from what each preset has of it."""
    first = next(iter(pictures.values()))
    heatmaps = {preset: picture["heatmap"] for preset, picture in pictures.items()}
    return {"class": first["class"], "logits": first["logits"], "input": first["input"], "heatmaps": heatmaps}


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
    for item in [item for item in items if item.x.shape != size and item.passage is None]:
        left_out[item.name] = (
            f"is {list(item.x.shape)}, the first sample {list(size)}; only samples of one size are measured together"
        )
    items = [item for item in items if item.name not in left_out]
    rows, scores = {}, Scores(subject.planned, folder, threads=1, columns=subject.columns)
    for item in items:
        try:
            (rows[item.name],) = subject.logits(scores, item)
        except RequestError as error:
            left_out[item.name] = str(error)
    items = [item for item in items if item.name in rows]
    left_out |= dict.fromkeys(
        (name for name, row in rows.items() if not np.isfinite(row).all()), "the scores of the model are NaN or infinite"
    )
    truths = {}
    for item in items:
        if item.label is None or len(rows[item.name]) < 2:
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


def together(
    subject: Subject, items: Sequence[Item], words: bool, fill: int | None = None, filled: str = ""
) -> tuple[np.ndarray, Texts | None]:
    """Samples as an ``Audit`` takes them, and what it is told of texts."""
    if subject.tokens is None:
        stacked = np.stack([item.x for item in items])
        return stacked if subject.columns is not None else stacked.astype(np.float32), None
    return ragged([item.x for item in items]), Texts(tuple(items), fill, filled, words)


def neutral(subject: Subject) -> tuple[int | None, str]:
    """The id that takes the place of others in texts, and how it is called; None and the reason where there is none."""
    if subject.tokens is None:
        return None, ""
    try:
        number = replacement("zero", subject.form, subject.tokens) or 0
    except RequestError:
        return None, "the tokenizer has no mask, padding or unknown token to put in place of others"
    return number, subject.tokens.called(number)


def digest(xs: np.ndarray, texts: Texts | None, columns: Columns | None = None) -> str:
    """The SHA-256 of samples, with all that is told of texts, and the strings of columns."""
    arrays = [*xs, *(value for item in texts.items for value in (*item.others.values(), item.places))] if texts else [*xs]
    told: list[Any] = [texts.fill, texts.words, *(item.passage for item in texts.items)] if texts else []
    told += [] if columns is None else [columns.names, columns.words]
    whole = hashlib.sha256(repr(told).encode("utf-8", "replace"))
    for array in arrays:
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def chance(entries: int) -> float:
    """The rank correlation, signs aside, to expect of two unrelated heatmaps with so many entries: |N(0, 1/(n − 1))|.

    >>> round(chance(4), 2), round(chance(3 * 224 * 224), 3)
    (0.46, 0.002)
    """
    return math.sqrt(2 / (math.pi * max(entries - 1, 1)))
