"""How good are the explanations? What ``onnxdtd evaluate`` measures: perturbation, localisation, sparsity, missing relevance.

A unit of work is a few samples under one model. The perturbed copies of a sample go through the predictor in batches, and the
random order, which no preset changes, goes through once for all presets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import onnxdtd
from onnxdtd.compiler.bounds import domain
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.data.brought import brought
from onnxdtd.data.channels import ends
from onnxdtd.data.features import numbered
from onnxdtd.data.labelled import Item
from onnxdtd.data.tables import Roles
from onnxdtd.data.thumbnails import shown
from onnxdtd.data.tokens import NEUTRAL
from onnxdtd.errors import RequestError
from onnxdtd.labels import Index
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Explainer
from onnxdtd.study import metrics
from onnxdtd.study.abroad import run
from onnxdtd.study.jobs import Tick, untold
from onnxdtd.study.luggage import Luggage, Moved, read_besides, tokenizer_files
from onnxdtd.study.metrics import METRICS, Heatmap
from onnxdtd.study.perturb import FILLS, called, default_patch, filler, finite, perturbation, regions, replacement
from onnxdtd.study.predictor import Scores
from onnxdtd.study.provenance import weight_digests
from onnxdtd.study.subject import PRESETS, Subject, asked, feeds, fills, spoken_by
from onnxdtd.study.tally import Tally

CHUNK = 8  # samples in a unit
PICTURES = 8  # samples in the report
OPTIONAL = ("patch", "tokenizer", "words", "label", "sample_id")  # settings that are told where they say something


@dataclass(frozen=True)
class Settings:
    """What is measured. Regions of ``patch`` pixels (None: as the input suggests) are replaced in ``steps`` steps, until
    ``share`` of them is gone; without a ``fill`` by 0, or of tables by means. Of texts, which a ``tokenizer`` makes ids of,
    regions are tokens or ``words``. ``label`` and ``sample_id`` are columns of a table.
    """

    patch: int | None = None
    steps: int = 20
    share: float = 1.0
    fill: str | None = None
    score: str = "logit"
    target: str = "predicted"
    samples: int | None = None
    seed: int = 0
    tokenizer: str | None = None
    words: bool = False
    label: str | None = None
    sample_id: str | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name in ("patch", "steps", "samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RequestError(f"--{name} {value}: give at least 1")
        if self.seed < 0:
            raise RequestError(f"--seed {self.seed}: give at least 0")
        if self.fill is not None and self.fill not in (*FILLS, *NEUTRAL) and not self.fill.isdecimal():
            raise RequestError(f"--fill {self.fill}: give {', '.join(FILLS)}; of ids {', '.join(NEUTRAL)} or a number")
        if self.words and self.tokenizer is None:
            raise RequestError("--words is for texts, with --tokenizer")
        if not 0 < self.share <= 1:
            raise RequestError(f"--share {self.share:g}: give a number above 0, up to 1")

    def check(self, subject: Subject) -> None:
        """Raises ``RequestError`` where they do not fit a model with its data."""
        if subject.tokens is not None and self.patch is not None:
            raise RequestError("--patch is for pictures and signals; the regions of a text are its tokens, or --words")
        if subject.columns is not None:
            subject.columns.check(subject.fill(self.fill))


def evaluate(
    models: Sequence[Path | str],
    data: Path | str,
    request: Request | None = None,
    *,
    presets: Sequence[str] = (),
    settings: Settings | None = None,
    workers: int | None = 1,
    engine: str = "processes",
    journal: Path | None = None,
    tick: Tick = untold,
) -> dict[str, Any]:
    """Measure explanations on data: what they do to the prediction, where they lie, what they are like.

    Args:
        models: files of classifiers.
        data: a table, an ``.npz`` with samples, labels and boxes, or a folder of pictures with a ``labels.csv``; a URL of
            these, or a list of pictures, ``"@LIST"``, as for ``explain``.
        request: the options of ``onnxdtd.compile`` for all presets; its own preset and target do not count.
        presets: names of presets, or TOML files with one; by default ``PRESETS``.
        settings: what is measured.
        workers: how many processes, None for one a core. More than one start anew whatever script calls this.
        engine: ``"processes"`` of this machine, or ``"ray"``.
        journal: notes what is done; a run that was cut short goes on from it. By default a hidden file in this folder.
        tick: told how many of how many units are done.

    Returns:
        What ``onnxdtd evaluate --json`` prints; ``onnxdtd.report.report`` makes a page of it.

    Raises:
        OnnxdtdError: models, presets, data and settings do not fit each other, or nothing could be measured.
    """
    files, chosen = tuple(dict.fromkeys(map(Path, models))), tuple(dict.fromkeys(presets)) or PRESETS
    settings = settings or Settings()
    with brought(data, Roles(settings.label, settings.sample_id)) as found:
        study = Evaluation(files, chosen, found.path, request or Request(), settings)
        result = study.assemble(run(study, workers, engine, journal, tick))
        result["skipped"] = found.said(result["skipped"])
        return {"provenance": study.first.provenance("onnxdtd.evaluate", files, chosen, study.count), **result}


@dataclass(frozen=True)
class Evaluation:
    """The study: models and presets on one data set. ``request`` has all but the preset."""

    models: Sequence[Path]
    presets: Sequence[str]
    data: Path
    request: Request = field(default_factory=Request)
    settings: Settings = field(default_factory=Settings)

    def __reduce__(self) -> tuple[type[Evaluation], tuple[Any, ...]]:
        """What other processes are sent: not what is open here."""
        return type(self), (self.models, self.presets, self.data, self.request, self.settings)

    @cached_property
    def first(self) -> Subject:
        """The first of the models with the data."""
        return self.subject(0)

    def subject(self, number: int) -> Subject:
        """One of the models with the data."""
        request, tokenizer = replace(self.request, preset=self.presets[0]), self.settings.tokenizer
        spoken, roles = spoken_by(tokenizer, self.settings.words), Roles(self.settings.label, self.settings.sample_id)
        made = Subject(self.models[number], request, self.data, spoken=spoken, roles=roles, tabular=True)
        self.settings.check(made)
        return made

    @property
    def fill(self) -> str:
        """What takes the place of regions."""
        return self.first.fill(self.settings.fill)

    @cached_property
    def count(self) -> int:
        """How many samples are measured."""
        return min(len(self.first.data), self.settings.samples or len(self.first.data))

    @property
    def chunks(self) -> int:
        """How many units each model has."""
        return -(-self.count // CHUNK)

    def patch(self, subject: Subject) -> int:
        """The side of a region."""
        return self.settings.patch or default_patch(subject.form, subject.sizes())

    def names(self) -> list[str]:
        """What the models are called: their files, with their place in front where two have one name."""
        names = [path.name for path in self.models]
        return [name if names.count(name) == 1 else f"{place}: {name}" for place, name in enumerate(names, start=1)]

    def digests(self) -> list[str]:
        """The SHA-256 of the models' files."""
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.models]

    def units(self) -> int:
        """A few samples under one model each. Raises ``OnnxdtdError`` where a preset or the data does not fit a model."""
        for number in range(1, len(self.models)):  # the first is opened soon enough
            Sessions(self, number)
        return len(self.models) * self.chunks

    def identity(self) -> Any:
        """The settings and what is in the files, those of external weights too."""
        files = [self.first.data.digest(), *self.digests(), *map(weight_digests, self.models)]
        return ["evaluation", onnxdtd.__version__, files, *asked(self.request, self.presets), asdict(self.settings)]

    def prepare(self) -> Evaluator:
        """A worker of its own."""
        return Evaluator(self)

    def luggage(self) -> Luggage:
        """All files that it reads, those of the data too."""
        folder = f"{self.data.name}/" if self.data.is_dir() else ""
        data = {folder + path.name: path for path in self.first.data.sources}
        texts = [] if self.settings.tokenizer is None else [tokenizer_files(self.settings.tokenizer)]
        return Luggage.packed(self.models, [(str(self.data), data), *texts, *read_besides(self.request, self.presets)])

    def moved(self, there: Moved) -> Evaluation:
        """The same, of files that are somewhere else."""
        tokenizer = self.settings.tokenizer
        return Evaluation(
            list(map(there.path, self.models)),
            list(map(there.preset, self.presets)),
            there.path(self.data),
            there.request(self.request),
            replace(self.settings, tokenizer=None if tokenizer is None else there(tokenizer)),
        )

    def assemble(self, units: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """The results of all units, in order, as one; only sums are kept in memory. Raises ``RequestError`` where nothing was
        measured.
        """
        tallies, names = [Tally() for _ in self.models], self.names()
        skipped = dict.fromkeys(self.first.data.skipped.items())
        pictures: dict[str, dict[str, Any]] = {}
        for unit in units:
            number = unit["model"]
            tallies[number].rules = unit["rules"]
            of = f"{names[number]}: " if len(names) > 1 else ""
            skipped |= dict.fromkeys((name, of + reason) for name, reason in unit["skipped"])
            for row in unit["rows"]:
                tallies[number].add(row)
                for preset, (picture, heatmap) in row.get("pictures", {}).items():
                    new = {"name": row["name"], "class": row["label"], "logits": {}, "input": picture, "heatmaps": {}}
                    shown = pictures.setdefault(row["name"], new)
                    shown["logits"][names[number]] = row["logit"]
                    key = preset if len(self.models) == 1 else f"{Path(names[number]).stem}: {preset}"
                    shown["heatmaps"][key] = heatmap
        remarks = far_from_zero(self.first) if self.fill == "zero" and self.first.tokens is None else []
        models = [
            {"model": name, "sha256": digest, "remarks": remarks, **tally.as_data()}
            for name, digest, tally in zip(names, self.digests(), tallies, strict=True)
        ]
        if not any(model["samples"] for model in models):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped)[:3])
            raise RequestError(f"none of the samples could be measured ({reasons})")
        return {
            "kind": "evaluation",
            "version": onnxdtd.__version__,
            "settings": self.description(),
            "models": models,
            "notes": list(self.first.notes),
            "skipped": [{"name": name, "reason": reason} for name, reason in skipped],
            "pictures": {"samples": list(pictures.values())},
        }

    def description(self) -> dict[str, Any]:
        """The settings as JSON."""
        form = self.first.form
        chosen = {**asdict(self.settings), "patch": self.patch(self.first), "samples": self.count}
        chosen |= regions_of(self.first, self.fill)
        number = replacement(self.fill, form, self.first.tokens)
        if number is not None:
            chosen["fill"] = f"the id {number}" if self.first.tokens is None else self.first.tokens.called(number)
        if self.first.tokens is None and (areas := called(form, self.first.sizes(), chosen["patch"], self.first.rate)):
            chosen["regions"] = areas
        if self.first.tokens is not None:
            chosen |= {
                "patch": None,
                "tokenizer": None,
                "words": False,
                "regions": "words" if self.settings.words else "tokens",
            }
        low, high = ends(domain(self.first.planned.request), form.name)
        given = {"low": low, "high": high, "preprocessing": form.preprocessing, "output": self.request.output}
        known = {name: value for name, value in given.items() if value is not None}
        chosen = {name: value for name, value in chosen.items() if name not in OPTIONAL or value}
        rules = {"settings": list(self.request.settings)} if self.request.settings else {}
        return {"data": self.data.name, "presets": list(self.presets), **chosen, **known, **rules}


class Evaluator:
    """Measures units, with one model open at a time."""

    def __init__(self, study: Evaluation):
        self._study = study
        self._open: tuple[int, Sessions] | None = None

    def __call__(self, unit: int) -> dict[str, Any]:
        """The rows of a unit, and what was skipped."""
        number, chunk = divmod(unit, self._study.chunks)
        if self._open is None or self._open[0] != number:
            self._open = None  # before the next takes memory
            self._open = number, Sessions(self._study, number)
        model = self._open[1]
        rows, skipped = [], []
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, self._study.count)):
            name = model.subject.data.name(i)
            try:
                item = model.subject.data[i]
                rows.append(model.measured(i, item))
            except RequestError as error:
                skipped.append([name, str(error)])
                continue
            if item.remark:
                skipped.append([name, item.remark])
        return {"model": number, "rules": model.rules, "rows": rows, "skipped": skipped}


class Sessions:
    """The sessions of one model, and what is measured with them."""

    def __init__(self, study: Evaluation, number: int):
        self.subject, self._settings = study.first if number == 0 else study.subject(number), study.settings
        model, request = study.models[number], self.subject.planned.request
        self._patch = study.patch(self.subject)
        self._scores = Scores(self.subject.planned, model.parent, threads=1, columns=self.subject.columns)
        self._kind = study.fill
        self._typical = self.subject.typical(self._kind)
        self._number = replacement(self._kind, self.subject.form, self.subject.tokens)
        self._refuse(np.zeros(self.subject.sizes()))
        self._explainers = {}
        for preset in study.presets:
            compiled = build(prepare(model, replace(request, preset=preset, target="input")), in_place=True)
            self._explainers[preset] = Explainer(compiled, folder=model.parent, threads=1)
        self.rules = {preset: e.metadata["rules"] for preset, e in self._explainers.items()}

    def _refuse(self, x: np.ndarray) -> None:
        """Raises ``RequestError`` where the settings do not fit the model, which no sample is to blame for."""
        self._fill(x, np.random.default_rng(0))
        if self._settings.score == "probability":
            self._scores.probabilities(np.zeros([1, 2]))

    def measured(self, i: int, item: Item) -> dict[str, Any]:
        """One sample: curves and metrics of every preset. Raises ``RequestError`` where it does not fit the model."""
        scores = self._scores.beside(item.others)
        logits = finite(self.subject.logits(self._scores, item), "the scores of the model")
        labels, predicted = self.subject.planned.labels, int(logits[0].argmax())
        truth = None if item.label is None or logits.shape[1] < 2 else labels.labelled(item.label)
        target = self._target(truth, predicted, logits.shape[1])
        relevance = {name: self._relevance(e, item, target) for name, e in self._explainers.items()}
        for name, r in relevance.items():
            finite(r, f"entries of the heatmap of {name}")
        rng = np.random.default_rng([self._settings.seed, i])
        fill = self._fill(item.x, rng)
        places = regions(self.subject.form, item.x.shape, self._patch) if item.places is None else item.places
        options = rng, self._settings.steps, self._settings.share, self._settings.score == "probability"
        curves = perturbation(scores, item.x, target, relevance, fill, places, *options)
        row: dict[str, Any] = {
            "name": item.name,
            "class": target,
            "label": labels[target],
            "logit": float(logits[0, target]),
            "scores": logits.shape[1],
            "digest": hashlib.sha256(np.ascontiguousarray(item.x).tobytes()).hexdigest()[:16],
            "correct": None if truth is None else truth == predicted,
            "random": {"curve": curves["random"].tolist(), "aopc": metrics.aopc(curves["random"])},
            "presets": {},
        }
        for name, r in relevance.items():
            morf, lerf = curves[name, "morf"], curves[name, "lerf"]
            conserves = not self._explainers[name].metadata["derivative"]
            heatmap = Heatmap(r, float(logits[0, target]), conserves, morf, lerf, item.channel, item.mask())
            numbers = {key: metric.of(heatmap) for key, metric in METRICS.items()}
            row["presets"][name] = {"metrics": numbers, "morf": morf.tolist(), "lerf": lerf.tolist(), "empty": not r.any()}
        if i < PICTURES:
            columns = self.subject.columns
            told = numbered(self.subject.names, item.x) if columns is None else columns.said(item.x)
            row["pictures"] = {
                name: shown(item, r, self.subject.form, self._settings.words, told) for name, r in relevance.items()
            }
        return row

    def _fill(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What takes the place of the entries of a sample: features have what is typical of them, no neighbours to blur."""
        if self._number is not None:
            return np.full_like(x, self._number)
        return filler(self._kind, x, self._patch, self.subject.form, rng) if self._typical is None else self._typical

    def _target(self, truth: Index | None, predicted: int, classes: int) -> Index:
        if self._settings.target == "predicted":
            return Index(predicted)
        if classes < 2:
            raise RequestError("the model has one score and no classes to choose from; use --explain predicted")
        if truth is None:
            raise RequestError(self.subject.strange or "has no label")
        return truth

    def _relevance(self, explainer: Explainer, item: Item, target: Index) -> np.ndarray:
        columns = self.subject.columns
        if columns is not None:
            copies = np.repeat(item.x[None], columns.layout.batch or 1, axis=0)
            return columns.relevance(explainer(columns.feeds(copies), target).relevance)[0]
        (r,) = explainer(feeds(self.subject.planned, item), target).relevance.values()
        return np.asarray(self.subject.layout.take(r)[0])


def readable(subject: Subject) -> Iterator[np.ndarray]:
    """The samples that can be read."""
    for i in range(len(subject.data)):
        with suppress(RequestError):
            yield subject.data[i].x


def regions_of(subject: Subject, fill: str) -> dict[str, Any]:
    """What a description says of regions and of what takes their place, where these are features."""
    if subject.typical(fill) is None:
        return {"fill": fill}
    return {"patch": None, **fills(fill, subject.columns, "data")}


def far_from_zero(subject: Subject) -> list[str]:
    """A remark where 0 is no value that features, or channels of signals, have in the data; pictures are not looked at."""
    axes = subject.form.neighbours(subject.sizes())
    if len(axes) > 1 or subject.form.ids is not None:
        return []
    low, high = np.asarray(np.inf), np.asarray(-np.inf)
    for sample in readable(subject):
        x = sample.reshape(subject.form.laid_out(sample.shape))
        low, high = np.minimum(low, x.min(axis=tuple(axes))), np.maximum(high, x.max(axis=tuple(axes)))
    outside, n = int(((low > 0) | (high < 0)).sum()), np.size(low)
    if not outside:
        return []
    kind = "channels" if axes else "features"
    return [
        f"0, which regions become, lies outside of all values that the data has in {outside} of {n} {kind}: AOPC and ABPC show "
        "what the model says of inputs unlike the data. --fill mean takes the mean instead."
    ]
