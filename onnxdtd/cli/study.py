"""The commands that measure explanations on data: evaluate, audit and tune."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onnxdtd import atomic
from onnxdtd.cli.options import CHECK, CHOOSE, REPLACED, RUNNING, TEXTS, AsJson, Id, Label, Model, command, option, selects
from onnxdtd.cli.screen import err, indented, out, print_findings, print_table, say
from onnxdtd.errors import OnnxdtdError, RequestError, counted
from onnxdtd.request import Request

if TYPE_CHECKING:
    from onnxdtd.study.jobs import Tick

Models = Annotated[list[Path], typer.Argument(help="Exported classifiers, .onnx.", metavar="MODEL...")]
Data = Annotated[
    str,
    option(
        "--data",
        "A table, an .npz with samples, labels, boxes, or pictures with a labels.csv; a URL, or @LIST, a table of pictures.",
        "PATH|URL",
    ),
]
Presets = Annotated[list[str], option("--preset", "A preset or a TOML file with one; several times for several.", "NAME|FILE")]
Seed = Annotated[int, option("--seed", "Of everything that is drawn at random.", "N", RUNNING)]
Report = Annotated[Path | None, option("--report", "Also write a page to read, one file without a network.", "OUT.html")]
Workers = Annotated[int | None, option("--workers", "Processes, of one thread each. Default: one a core.", "N", RUNNING)]
Engine = Annotated[Literal["processes", "ray"], option("--engine", "On this machine, or on a Ray cluster.", None, RUNNING)]
Fill = Annotated[
    str | None,
    option(
        "--fill",
        "What takes the place of a region: zero, mean, median, blur, noise, low or high; of ids mask, pad, unk or a number. "
        "Default: zero, of the features of a table the mean.",
        "WAY",
        REPLACED,
    ),
]
Tokenizer = Annotated[
    Path | None, option("--tokenizer", "The model's tokenizer.json, for texts: .txt, .csv, .jsonl.", "FILE", TEXTS)
]
Words = Annotated[bool, option("--words", "Replace words, not pieces of them.", None, TEXTS)]
Patch = Annotated[
    int | None,
    option(
        "--patch",
        "The side of a region in pixels or steps. Default: a 14th of a picture's, a 196th of a signal.",
        "N",
        REPLACED,
    ),
]
Steps = Annotated[int, option("--steps", "How many times regions are replaced.", "N", REPLACED)]
JournalFile = Annotated[
    Path | None, option("--journal", "Notes what is done; a run cut short goes on from it.", "FILE", RUNNING)
]


def needed() -> None:
    """Raises ``OnnxdtdError`` where the libraries of the extra are missing."""
    try:
        import jinja2  # noqa: F401
        import scipy  # noqa: F401
        import skimage  # noqa: F401
    except ImportError as error:
        raise OnnxdtdError(f"{error.name} is not installed: pip install 'onnxdtd[evaluate]'") from None


@contextmanager
def measuring(doing: str = "measuring", kept: Path | None = None) -> Iterator[Tick]:
    """A progress bar, to be told how far it is. Whoever interrupts it is told how to go on, and where that is ``kept``."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
            task = progress.add_task(doing)
            yield lambda done, units: progress.update(task, completed=done, total=units)
    except KeyboardInterrupt as error:
        known = [f"what is done is in {kept}"] if kept is not None and kept.exists() else getattr(error, "__notes__", [])
        where = f"; until then, {known[0]}" if known else ""
        err.print(f"onnxdtd: interrupted; the same command goes on from here{where}")
        raise typer.Exit(130) from None


class Expected:
    """Says on standard error how many units of work there are, and about how long they take, before they are begun."""

    def __init__(self, tick: Tick, workers: int | None):
        self._tick, self._workers = tick, workers or os.cpu_count() or 1
        self._each: float | None = None

    def time(self, seconds: float) -> None:
        """How long one takes."""
        self._each = seconds

    def __call__(self, done: int, units: int) -> None:
        """How many of how many are done."""
        if self._each is not None:
            at_once = min(self._workers, max(units - done, 1))
            left = f"{units - done} of {units}" if done else f"{units}"
            lasting = duration(self._each * (units - done) / at_once)
            err.print(f"onnxdtd: {left} units of work, {at_once} at a time: about {lasting}, by the time that two of them take")
            self._each = None
        self._tick(done, units)


def duration(seconds: float) -> str:
    """About how long.

    >>> duration(0.2), duration(42), duration(200), duration(9000)
    ('a second', '42 seconds', '3 minutes', '2.5 hours')
    """
    if seconds < 90:
        return "a second" if seconds < 1.5 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def writable(path: Path | None) -> None:
    """Raises ``RequestError`` where a report could not be written, or would destroy something else, before hours are spent."""
    if path is None:
        return
    atomic.ready(path)
    if path.exists() and not _is_page(path):
        raise RequestError(f"{path}: is there already and is no page; give another name")


def paged(path: Path | None) -> None:
    """Raises ``OnnxdtdError`` where a page is asked for that could not be made or written."""
    if path is not None:
        needed()
        writable(path)


def filed(path: Path | None, result: dict[str, Any], as_json: bool) -> None:
    """Write the page, where one is asked for, and say where it is."""
    if path is None:
        return
    from onnxdtd.report.report import write

    write(path, result)
    if not as_json:
        out.print(f"the report is in {path}")


def _is_page(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(100).lstrip().lower()
    except OSError as error:
        raise RequestError(f"{path}: is there already and cannot be read ({error.strerror})") from None
    return not start or start.startswith(b"<!doctype html")


def skipped(result: dict[str, Any]) -> None:
    """Say what columns were taken for what, and name what was left out, on standard error."""
    say(result.get("notes", ()))
    for entry in result["skipped"][:20]:
        err.print(f"onnxdtd: skipped {entry['name']}: {entry['reason']}")
    if len(result["skipped"]) > 20:
        err.print(f"onnxdtd: and {len(result['skipped']) - 20} more")


def _tell(result: dict[str, Any], show: Callable[[dict[str, Any]], None], report: Path | None, as_json: bool) -> None:
    """What was found: in words or as JSON, and as a page."""
    skipped(result)
    if as_json:
        print(json.dumps(result, indent=1, ensure_ascii=False))
    else:
        show(result)
    filed(report, result, as_json)


@command("evaluate", CHECK, "evaluate models/digits_cnn.onnx --data models/digits_samples.npz")
@selects("preset", "target", "contrast", "keep", "mask", "ledger", "explain", "on_demand", "portable")
def evaluate_command(
    models: Models,
    data: Data,
    request: Request,
    presets: Presets = [],
    target: Annotated[Literal["predicted", "label"], option("--explain", "Which class is explained.")] = "predicted",
    score: Annotated[
        Literal["logit", "probability"], option("--score", "What the perturbation curves show.", None, REPLACED)
    ] = "logit",
    fill: Fill = None,
    patch: Patch = None,
    steps: Steps = 20,
    share: Annotated[float, option("--share", "Of the regions, replaced in the end.", "0..1", REPLACED)] = 1.0,
    samples: Annotated[int | None, option("--samples", "Only the first N.", "N")] = None,
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    words: Words = False,
    label: Label = None,
    sample_id: Id = None,
    report: Report = None,
    workers: Workers = None,
    engine: Engine = "processes",
    journal: JournalFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure explanations on data: what they do to the prediction, where they lie, what they are like."""
    needed()
    from onnxdtd.study.evaluate import Settings, evaluate

    writable(report)
    spoken = (None if tokenizer is None else str(tokenizer), words)
    settings = Settings(patch, steps, share, fill, score, target, samples, seed, *spoken, label, sample_id)
    with measuring() as tick:
        how: dict[str, Any] = {"workers": workers, "engine": engine, "journal": journal, "tick": tick}
        result = evaluate(models, data, request, presets=presets, settings=settings, **how)
    _tell(result, _print_evaluation, report, as_json)


def _print_evaluation(result: dict[str, Any]) -> None:
    """Each model with its presets."""
    for entry in result["models"]:
        _print_model(entry, result["settings"])


def _print_model(model: dict[str, Any], settings: dict[str, Any]) -> None:
    """A row for each preset, a column for each metric that there is, and what may be concluded."""
    from onnxdtd.report.standings import standings
    from onnxdtd.study.metrics import METRICS
    from onnxdtd.study.tally import RANDOM

    shown = [name for name in METRICS if any(name in preset["metrics"] for preset in model["presets"])]
    out.print(f"{model['model']}: {counted(model['samples'], 'sample')}")
    rows = [[p["preset"], *(_mean(p["metrics"].get(name)) for name in shown)] for p in model["presets"]]
    if model["random"]:
        rows.append([RANDOM, _mean(model["random"]["aopc"]), *[""] * (len(shown) - 1)])
    print_table(("preset", *(METRICS[name].head for name in shown)), rows, shorten=False)
    of = "the only score" if model["scores"] == 1 else f"{settings['score']} of the {settings['target']} class"
    regions = settings.get("regions") or f"regions with a side of {settings['patch']}"
    line = f"mean ± standard error; {of} while {regions} become {settings['fill']}, in {settings['steps']} steps"
    out.print(line)
    for sentence in standings(model):
        out.print(sentence)


def _mean(value: dict[str, Any] | None) -> str:
    if value is None:
        return ""
    error = "" if value["error"] is None else f"±{value['error']:.2g}"
    return f"{value['mean']:.3g}{error}"


@command("audit", CHECK, "audit models/digits_cnn.onnx --data models/digits_samples.npz")
@selects("preset", "target", "contrast", "keep", "mask", "ledger", "explain", "on_demand", "portable")
def audit_command(
    model: Model,
    data: Data,
    request: Request,
    presets: Presets = [],
    samples: Annotated[int | None, option("--samples", "Only the first N. Default: 20, quick: 8.", "N")] = None,
    neurons: Annotated[
        int | None, option("--neurons", "How many of each layer to find root points of. Default: 16, quick: 4.", "N")
    ] = None,
    quick: Annotated[bool, option("--quick", "Take less of everything, and leave out what takes longest.")] = False,
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    words: Words = False,
    label: Label = None,
    sample_id: Id = None,
    report: Report = None,
    workers: Workers = None,
    engine: Engine = "processes",
    journal: JournalFile = None,
    as_json: AsJson = False,
) -> None:
    """Find out what explanations depend on, and what they do not, and say it in words."""
    needed()
    from onnxdtd.study.audit.audit import audit

    writable(report)
    with measuring() as tick:
        expected = Expected(tick, workers)
        how: dict[str, Any] = {"workers": workers, "engine": engine, "journal": journal, "tick": expected}
        how |= {
            "tokenizer": tokenizer,
            "words": words,
            "label": label,
            "sample_id": sample_id,
            "quick": quick,
            "timed": expected.time,
        }
        result = audit(model, data, request, presets=presets, samples=samples, neurons=neurons, seed=seed, **how)
    _tell(result, _print_audit, report, as_json)


def _print_audit(result: dict[str, Any]) -> None:
    """What was found, preset by preset, in words."""
    from onnxdtd.report.page import copies, explained
    from onnxdtd.study.audit.choice import standing
    from onnxdtd.study.audit.verdict import parted
    from onnxdtd.study.words import rightness

    many = counted(result["settings"]["samples"], "sample")
    out.print(f"{result['model']}: {many}; {explained(result['classes'])}")
    if result["labelled"]:
        out.print(f"The model is right {rightness(result['right'], result['labelled'])}")
    for sentence in copies(result["copies"], result["settings"]["samples"]):
        out.print(sentence)
    for sentence in result.get("shortened", ()):
        out.print(f"quick: {sentence}")
    headline, why = standing(result["best"])
    out.print(headline, style="bold")
    for sentence in why:
        indented(sentence, 2)
    for preset in result["presets"]:
        out.print(preset["preset"], style="bold")
        if out.is_terminal:
            print_findings([parted(sentence) for sentence in preset["verdict"]])
        else:
            for sentence in preset["verdict"]:
                indented(sentence, 2)


@command("tune", CHOOSE, "tune models/digits_cnn.onnx --data models/digits_samples.npz")
@selects("preset", "target", "contrast", "keep", "mask", "ledger", "explain", "on_demand", "portable")
def tune_command(
    model: Model,
    data: Data,
    request: Request,
    out_path: Annotated[Path | None, option("-o", "Write the preset there, a TOML file for --preset.", "FILE.toml")] = None,
    presets: Annotated[
        list[str], option("--against", "A preset to compare with; several times for several.", "NAME|FILE")
    ] = [],
    fill: Fill = None,
    patch: Patch = None,
    steps: Steps = 20,
    samples: Annotated[int, option("--samples", "Only the first N, half of them to report on.", "N")] = 40,
    minutes: Annotated[float | None, option("--minutes", "Take no more samples than this has time for.", "M")] = None,
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    words: Words = False,
    label: Label = None,
    sample_id: Id = None,
    workers: Workers = None,
    engine: Engine = "processes",
    journal: JournalFile = None,
    as_json: AsJson = False,
) -> None:
    """Search a small grid of presets on half of the data, and report what is chosen on the other half."""
    needed()
    from onnxdtd.study.evaluate import Settings
    from onnxdtd.study.tune import tune

    spoken = None if tokenizer is None else str(tokenizer)
    settings = Settings(patch, steps, fill=fill, samples=samples, seed=seed, tokenizer=spoken, words=words)
    settings = replace(settings, label=label, sample_id=sample_id)
    with measuring() as tick:
        how: dict[str, Any] = {"workers": workers, "engine": engine, "journal": journal, "tick": tick}
        result = tune(model, data, request, out_path, presets=presets, settings=settings, minutes=minutes, **how)
    skipped(result)
    if as_json:
        print(json.dumps(result, indent=1, ensure_ascii=False))
        return
    _print_tuning(result)
    if out_path is not None:
        out.print(f"the preset is in {out_path}: --preset {out_path}")


def _print_tuning(result: dict[str, Any]) -> None:
    """The candidates on the half to choose by, what was chosen and others on the other half, and what may be concluded."""
    from onnxdtd.study.tune import NUMBERS, findings, ranked
    from onnxdtd.study.words import mean_text

    count = result["settings"]["samples"]
    out.print(f"{result['model']}: {counted(-(-count // 2), 'sample')} to choose by")
    print_table(
        ("candidate", "ABPC ↑", "change under noise ↓"),
        [(row["preset"], mean_text(row["abpc"]), mean_text(row["change"])) for row in ranked(result)],
    )
    out.print(f"{counted(count // 2, 'sample')} to report on")
    heads = ("preset", "ABPC ↑", "AOPC ↑", "change under noise ↓", "missing ↓")
    rows = [(row["preset"], *(mean_text(row[key]) for key in NUMBERS)) for row in result["held_out"]]
    print_table(heads, rows, shorten=False)
    for name, reason in result["refused"].items():
        out.print(f"not measured: {name}: {reason}")
    for sentence in findings(result):
        out.print(sentence)


@command(
    "fit",
    CHOOSE,
    "fit models/digits_cnn.onnx --data models/digits_samples.npz -o fit.npz",
    "compile models/digits_cnn.onnx --preset dtd-minmax --fitted fit.npz",
)
@selects("fitted", "keep", "ledger", "mask")
def fit_command(
    model: Model,
    data: Annotated[str, option("--data", "Samples as for evaluate; of theirs the labels are not looked at.", "PATH|URL")],
    out_path: Annotated[Path, option("-o", "The file to write.", "FILE.npz")],
    request: Request,
    units: Annotated[int, option("--units", "Detection units of each neuron or channel.", "N")] = 4,
    epochs: Annotated[int, option("--epochs", "How often all samples are seen at most.", "N")] = 100,
    samples: Annotated[int | None, option("--samples", "Only the first N.", "N")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit the relevance models that a preset asks for (default: dtd-minmax), for --fitted."""
    from onnxdtd.study.fit import fit

    with measuring() as tick:
        how: dict[str, Any] = {"units": units, "epochs": epochs, "samples": samples, "seed": seed, "tick": tick}
        said = fit(model, data, request, out=out_path, **how)
    if as_json:
        print(json.dumps(said, indent=1, ensure_ascii=False))
        return
    parts, keys = {"training": "in training", "held_out": "held out"}, ("r2", "error", "balance")
    cells = [
        [name, str(layer["epochs"]), word, *(f"{layer[part][key]:.3g}" for key in keys)]
        for name, layer in said["layers"].items()
        for part, word in parts.items()
    ]
    print_table(("layer", "epochs", "samples", "R²", "error", "balance"), cells)
    out.print("R̂ against R: R² of the variance; error: Σ (R̂ − R)² / Σ R²; balance: Σ (R̂ − R) / Σ R")
    out.print(f"preset {said['preset']}, {said['samples']} samples; the relevance models are in {out_path}")
