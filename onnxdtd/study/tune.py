"""Which rule for which network? A small grid of presets, searched on one half of the samples and reported on the other.

A unit of work is one preset over all samples, those of both halves: so a unit's result depends on its number alone. What is
chosen depends on the first half only, so that its numbers on the second are those of a preset that never saw them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

import onnxdtd
from onnxdtd import atomic
from onnxdtd.data.brought import brought
from onnxdtd.data.labelled import Item
from onnxdtd.data.tables import Roles
from onnxdtd.errors import OnnxdtdError, RequestError
from onnxdtd.method.toml import Library
from onnxdtd.request import Request
from onnxdtd.study.abroad import run
from onnxdtd.study.audit import stability
from onnxdtd.study.audit.audit import Audit, digest, measurable, together
from onnxdtd.study.audit.auditor import Auditor, Texts
from onnxdtd.study.audit.measurement import Task
from onnxdtd.study.columns import TYPICAL, Columns
from onnxdtd.study.evaluate import OPTIONAL, Settings
from onnxdtd.study.grid import Candidate, grid
from onnxdtd.study.jobs import Tick, untold
from onnxdtd.study.luggage import Luggage, Moved, read_besides
from onnxdtd.study.metrics import abpc, aopc, missing
from onnxdtd.study.perturb import called, default_patch, filler, perturbation, regions, replacement
from onnxdtd.study.provenance import weight_digests
from onnxdtd.study.subject import PRESETS, Subject, asked, fills, spoken_by
from onnxdtd.study.tally import paired, side, summed
from onnxdtd.study.words import conjoined, mean_text

FEWEST = 8  # samples in both halves together; of fewer nothing can be told
SAMPLES = 40
BASELINES = tuple(dict.fromkeys([*PRESETS, "dtd-complete", "lrp-gamma", "epsilon-plus"]))
Numbers: TypeAlias = dict[str, list[Any]]  # a list for each of ``NUMBERS``, of numbers or None
ANY = "lrp-epsilon"  # to plan the model by
MARK = "# Written by onnxdtd tune."
NUMBERS = ("abpc", "aopc", "change", "missing")  # of each sample: what ``METRICS`` and the audit's stability say of them


def tune(
    model: Path | str,
    data: Path | str,
    request: Request | None = None,
    out: Path | str | None = None,
    *,
    presets: Sequence[str] = (),
    settings: Settings | None = None,
    minutes: float | None = None,
    workers: int | None = 1,
    engine: str = "processes",
    journal: Path | None = None,
    tick: Tick = untold,
) -> dict[str, Any]:
    """Search a small grid of presets for a model: γ, ε and z⁺, alone and with ε in the upper half, with and without a rule for
    pixels. Each is called by its rules from the input to the scores: zB → γ 0.25 → ε.

    On one half of the samples the candidate with the highest ABPC is looked for; of those within a standard error of it, the
    one whose heatmaps change least under noise is taken. It is reported on the other half, beside other presets.

    Args:
        model: the file of a classifier.
        data: an ``.npz`` with samples, or a folder of pictures; a file of texts, with a tokenizer among the settings; a URL of
            these, or a list of pictures, ``"@LIST"``.
        request: the options of ``onnxdtd.compile`` for all presets; its own preset and target do not count.
        out: a TOML file to write the preset to, with the evidence as its comments.
        presets: what it is compared with, by default ``BASELINES``.
        settings: what is measured; by default of the first 40 samples.
        minutes: take no more samples than can be measured in about so many, by the time that one preset takes.
        workers: how many processes, None for one a core. More than one start anew whatever script calls this.
        engine: ``"processes"`` of this machine, or ``"ray"``.
        journal: notes what is done; a run that was cut short goes on from it. By default a hidden file in this folder.
        tick: told how many of how many units are done.

    Returns:
        What ``onnxdtd tune --json`` prints.

    Raises:
        OnnxdtdError: model, presets and data do not fit each other, or there are fewer than eight different samples.
    """
    model, path = Path(model), None if out is None else Path(out)
    if path is not None:
        _check_file(path)
    if minutes is not None and not minutes > 0:
        raise RequestError(f"--minutes {minutes:g}: give a number above 0")
    chosen = replace(settings or Settings(), samples=(settings or Settings()).samples or SAMPLES)
    if chosen.target != "predicted":
        raise RequestError("what is explained is the predicted class: samples need no labels to tune on")
    against = tuple(dict.fromkeys(presets)) or BASELINES
    spoken = spoken_by(chosen.tokenizer, chosen.words)
    roles = Roles(chosen.label, chosen.sample_id)
    with brought(data, roles) as found:
        here = found.path
        subject = Subject(model, replace(request or Request(), preset=ANY), here, spoken=spoken, roles=roles, tabular=True)
        chosen.check(subject)
        chosen = replace(chosen, fill=subject.fill(chosen.fill))
        items, left_out, _ = measurable(subject, model.parent, chosen.samples or SAMPLES)
        items = _distinct(items, left_out, chosen.seed)
        fill = replacement(str(chosen.fill), subject.form, subject.tokens)  # or it is refused before hours are spent
        filled = str(chosen.fill) if fill is None or subject.tokens is None else subject.tokens.called(fill)
        xs, told = together(subject, items, chosen.words, fill, filled)
        candidates = grid(subject.planned.plan, subject.form, subject.sizes())
        settled = replace(chosen, patch=chosen.patch or default_patch(subject.form, xs[0].shape))
        study = Tuning(model, subject.planned.request, tuple(candidates), against, xs, told, settled, subject.columns)
        if minutes is not None:
            study = _in_time(study, minutes, workers)
        result = study.assemble(run(study, workers, engine, journal, tick))
        result["skipped"] = found.said([{"name": name, "reason": reason} for name, reason in left_out.items()])
        if subject.tokens is None and (areas := called(subject.form, xs[0].shape, int(settled.patch or 1), subject.rate)):
            result["settings"]["regions"] = areas
        if subject.typical(str(chosen.fill)) is not None:
            result["settings"] |= fills(str(chosen.fill), subject.columns, "samples")
        result["notes"] = list(subject.notes)
        result["settings"] |= {"data": here.name, "names": [item.name for item in items[: len(study.xs)]]}
        result["toml"] = written(result, next(c for c in candidates if c.title == result["chosen"]))
        if path is not None:
            atomic.write(path, result["toml"].encode())
        return {"provenance": subject.provenance("onnxdtd.tune", [model], against, len(study.xs)), **result}


def _check_file(path: Path) -> None:
    """Raises ``RequestError`` where the preset could not be written, or would destroy something else."""
    if path.suffix != ".toml":
        raise RequestError(f"{path}: give the name of a .toml file")
    atomic.ready(path)
    if path.exists() and not path.read_bytes().startswith(MARK.encode()):
        raise RequestError(f"{path}: is there already and was not written by onnxdtd tune; give another name")


def _distinct(items: Sequence[Item], left_out: dict[str, str], seed: int) -> list[Item]:
    """The different ones in an order by lot. Raises ``RequestError`` where there are too few."""
    first: dict[bytes, str] = {}
    for item in items:
        known = first.setdefault(np.ascontiguousarray(item.x).tobytes(), item.name)
        if known != item.name:
            left_out[item.name] = f"is a copy of {known}, which may be in the other half"
    kept = [item for item in items if item.name not in left_out]
    if len(kept) < FEWEST:
        raise RequestError(
            f"there are {len(kept)} different samples; tune takes at least {FEWEST}, one half to choose by and one to report on"
        )
    return [kept[i] for i in np.random.default_rng(seed).permutation(len(kept))]


def _in_time(study: Tuning, minutes: float, workers: int | None) -> Tuning:
    """With as many samples, by the eight, as there is time for: as long as one preset takes, and all others as well."""
    sample = study.first(FEWEST)
    work = sample.prepare()
    start = time.perf_counter()
    work(0)
    each = (time.perf_counter() - start) * study.units() / FEWEST / (workers or os.cpu_count() or 1)
    count = FEWEST * max(1, int(60 * minutes / each / FEWEST))
    return study.first(count)


@dataclass(frozen=True, eq=False)
class Tuning:
    """The study: candidates and the presets that they are compared with, on samples ``xs`` [n, ...]; those at even places are
    to choose by, the others to report on.
    """

    model: Path
    request: Request
    candidates: tuple[Candidate, ...]
    baselines: tuple[str, ...]
    xs: np.ndarray
    texts: Texts | None = None
    settings: Settings = field(default_factory=Settings)
    columns: Columns | None = None

    def first(self, count: int) -> Tuning:
        """The same with the first so many samples."""
        texts = None if self.texts is None else replace(self.texts, items=self.texts.items[:count])
        return replace(self, xs=self.xs[:count], texts=texts)

    def units(self) -> int:
        """How many presets there are."""
        return len(self.names)

    @cached_property
    def names(self) -> list[str]:
        """Of the presets, in the order of the units."""
        return [*(candidate.title for candidate in self.candidates), *self.baselines]

    def identity(self) -> Any:
        """All that the results depend on."""
        model, samples = hashlib.sha256(self.model.read_bytes()).hexdigest(), digest(self.xs, self.texts, self.columns)
        files = [model, weight_digests(self.model), samples, list(self.xs.shape)]
        candidates = [candidate.text for candidate in self.candidates]
        return ["tuning", onnxdtd.__version__, files, candidates, *asked(self.request, self.baselines), asdict(self.settings)]

    def prepare(self) -> Tuner:
        """A worker of its own."""
        return Tuner(self)

    def luggage(self) -> Luggage:
        """All files that it reads; the samples it has."""
        return Luggage.packed([self.model], read_besides(self.request, self.baselines))

    def moved(self, there: Moved) -> Tuning:
        """The same, of files that are somewhere else."""
        baselines = tuple(map(there.preset, self.baselines))
        return replace(self, model=there.path(self.model), request=there.request(self.request), baselines=baselines)

    def assemble(self, units: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """What was chosen, and what it is worth. Raises ``RequestError`` where no candidate could be measured."""
        found = dict(zip(self.names, units, strict=True))
        rows = {name: unit["samples"] for name, unit in found.items() if "samples" in unit}
        tried = {c.title: rows[c.title] for c in self.candidates if c.title in rows}
        refused = {name: unit["refused"] for name, unit in found.items() if "refused" in unit}
        if not tried:
            raise RequestError(f"no candidate could be measured: {next(iter(refused.values()))}")
        half = lambda numbers, start: {key: values[start::2] for key, values in numbers.items()}
        searched = {name: half(numbers, 0) for name, numbers in tried.items()}
        chosen, best = _chosen(searched)
        held = {name: half(rows[name], 1) for name in (chosen, *self.baselines) if name in rows}
        others = [name for name in held if name != chosen]
        return {
            "kind": "tuning",
            "version": onnxdtd.__version__,
            "model": self.model.name,
            "sha256": hashlib.sha256(self.model.read_bytes()).hexdigest(),
            "settings": self.description(),
            "chosen": chosen,
            "best": best,
            "selection": [{"preset": name, **_means(numbers)} for name, numbers in searched.items()],
            "held_out": [{"preset": name, **_means(numbers)} for name, numbers in held.items()],
            "differences": [{"other": name, **_difference(held[chosen], held[name])} for name in others],
            "refused": refused,
            "left_out": found[chosen]["left_out"],
        }

    def description(self) -> dict[str, Any]:
        """The settings as JSON."""
        chosen = {name: value for name, value in asdict(self.settings).items() if name not in OPTIONAL or name == "patch"}
        chosen |= {"samples": len(self.xs)}
        if self.columns is None or not self.columns.categories.any():
            chosen["noise"] = stability.NUDGE
        if self.texts is not None:
            chosen |= {"patch": None, "regions": "words" if self.texts.words else "tokens", "fill": self.texts.filled}
        return chosen


class Tuner:
    """Measures one preset after the other, with one open at a time."""

    def __init__(self, study: Tuning):
        self._study = study
        seed, columns = study.settings.seed, study.columns
        self._auditor = Auditor(Audit(study.model, study.request, (ANY,), study.xs, study.texts, seed=seed, columns=columns))

    def __call__(self, unit: int) -> dict[str, Any]:
        """The numbers of every sample, or why the preset cannot be measured."""
        candidates = self._study.candidates
        if unit >= len(candidates):
            return self._measured(self._study.baselines[unit - len(candidates)])
        with tempfile.TemporaryDirectory(prefix="onnxdtd-tune-") as folder:
            path = Path(folder) / "tuned.toml"
            atomic.write(path, candidates[unit].text.encode())
            return self._measured(str(path))

    def _measured(self, preset: str) -> dict[str, Any]:
        auditor, xs = self._auditor, self._study.xs
        try:
            relevance = auditor.trained(preset)
        except OnnxdtdError as error:
            return {"refused": str(error).splitlines()[0]}
        if not all(np.isfinite(r).all() for r in relevance):
            return {"refused": "its relevance is NaN or infinite"}
        conserves = Library().preset(preset).method.conserves
        curves = [self._curves(i, auditor.whole(i, relevance[i])) for i in range(len(xs))]
        scores = auditor.logits[np.arange(len(xs)), auditor.predicted]
        moved = stability.measure(auditor, Task(preset, "stability"))
        return {
            "left_out": moved.left_out,
            "samples": {
                "abpc": [abpc(lerf, morf) for morf, lerf in curves],
                "aopc": [aopc(morf) for morf, _ in curves],
                "change": moved.samples.get("stability", [None] * len(xs)),
                "missing": [missing(r, float(f)) if conserves else None for r, f in zip(relevance, scores, strict=True)],
            },
        }

    def _curves(self, i: int, relevance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The score of a sample while its most relevant regions are replaced first, and its least relevant."""
        settings, form, x, scores = self._study.settings, self._auditor.form, self._study.xs[i], self._auditor.scores
        item = None if self._study.texts is None else self._study.texts.items[i]
        rng = np.random.default_rng([settings.seed, i])
        kind = str(settings.fill)
        table = kind in TYPICAL and not form.neighbours(x.shape) and form.ids is None
        number = replacement(kind, form) if self._study.texts is None else self._study.texts.fill
        if number is not None:
            fill = np.full_like(x, number)
        elif table:
            xs, columns = self._study.xs, self._study.columns
            fill = np.nan_to_num(TYPICAL[kind](xs, axis=0)) if columns is None else columns.typical(kind, xs)
        else:
            fill = filler(kind, x, int(settings.patch or 1), form, rng)
        places = regions(form, x.shape, int(settings.patch or 1))
        if item is not None and item.places is not None:
            places, scores = item.places, scores.beside(item.others)
        options = rng, settings.steps, settings.share, settings.score == "probability"
        target = int(self._auditor.predicted[i])
        curves = perturbation(scores, x, target, {"": relevance}, fill, places, *options, by_chance=False)
        return curves["", "morf"], curves["", "lerf"]


def _means(numbers: Numbers) -> dict[str, Any]:
    """Means with their standard errors; of what no sample has nothing."""
    found = {key: summed(values) for key, values in numbers.items()}
    return {key: mean if mean["n"] else None for key, mean in found.items()}


def _difference(mine: Numbers, other: Numbers) -> dict[str, Any]:
    """Of the ABPC of two presets, sample by sample, and whether it is more than chance."""
    found = summed([paired(a, b, area=True) for a, b in zip(mine["abpc"], other["abpc"], strict=True)])
    return {**found, "side": side(found)}


def _chosen(searched: dict[str, Numbers]) -> tuple[str, str]:
    """The candidate that is taken, and the one of the highest ABPC: of those that are no further below it than one standard
    error of the difference (Breiman et al. 1984), the one that changes least under noise.
    """
    best = max(searched, key=lambda name: float(np.mean(searched[name]["abpc"])))
    apart = {name: _difference(searched[best], numbers) for name, numbers in searched.items()}
    near = [name for name, found in apart.items() if found["mean"] <= (found["error"] or 0.0)]
    change = {name: _means(searched[name])["change"] for name in near}
    known = {name: found["mean"] for name, found in change.items() if found is not None}
    return (min(known, key=lambda name: known[name]) if best in known else best), best


def findings(result: dict[str, Any]) -> list[str]:
    """What may be concluded, in sentences."""
    groups: dict[int, list[str]] = {}
    for found in result["differences"]:
        groups.setdefault(found["side"] or 0, []).append(found["other"])
    words = {1: "above that of", -1: "below that of", 0: "not told from that of"}
    lines = [f"{words[key]} {conjoined(names)}" for key, names in groups.items()]
    count = result["settings"]["samples"]
    taken = result["chosen"]
    why = "the highest ABPC" if taken == result["best"] else f"steadiest within a standard error of {result['best']}"
    return [
        f"chosen on {-(-count // 2)} samples: {taken} ({why})",
        f"on {count // 2} others its ABPC is {'; '.join(lines)} (95 %, paired)" if lines else "nothing to compare it with",
        *([f"change under noise: left out, since {result['left_out']}"] if result["left_out"] else []),
    ]


def written(result: dict[str, Any], candidate: Candidate) -> str:
    """The preset as a TOML file, with the evidence as comments."""
    settings = result["settings"]
    areas = settings.get("regions", f"regions of {settings['patch']}")
    lines = [
        f"{MARK[2:]} Version {result['version']}; for {result['model']}, SHA-256 {result['sha256']}.",
        f"{settings['samples']} samples of {settings['data']}, seed {settings['seed']}: half to choose by, half to report on. "
        f"{areas.capitalize()} become {settings['fill']} in {settings['steps']} steps.",
        *findings(result),
        "",
        "Held out: ABPC (higher is better), AOPC, change under noise (lower is steadier), |Σ R - f| / |f|",
        *(f"  {row['preset']}: {', '.join(mean_text(row[key]) for key in NUMBERS)}" for row in result["held_out"]),
        "",
        "All candidates on the half to choose by: ABPC, change under noise",
        *(f"  {row['preset']}: {mean_text(row['abpc'])}, {mean_text(row['change'])}" for row in ranked(result)),
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + "\n" + candidate.text


def ranked(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The candidates, those of the highest ABPC first."""
    return sorted(result["selection"], key=lambda row: -float(row["abpc"]["mean"]))
