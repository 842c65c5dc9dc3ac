"""The command line.

Exit status 0: done; 1: the check that was asked for failed; 2: the request or the model cannot be served.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import onnxdtd
import onnxdtd.cli.rules  # adds its commands
from onnxdtd.cli.lines import print_texts
from onnxdtd.cli.options import (
    CHECK,
    EXPLAIN,
    RUNNING,
    TABLES,
    TEXTS,
    USAGE,
    AsJson,
    Id,
    Label,
    Model,
    app,
    command,
    misuse,
    offer,
    option,
    selects,
    spelled,
    whole_numbers,
)
from onnxdtd.cli.plan import print_kernels, print_plan
from onnxdtd.cli.screen import err, out, print_table, say
from onnxdtd.cli.study import Engine, filed, measuring, paged
from onnxdtd.cli.study import Report as PageFile
from onnxdtd.contract import KEPT
from onnxdtd.data.look import Look
from onnxdtd.errors import OnnxdtdError, Problem, RequestError, Unsupported, counted
from onnxdtd.labels import Labels, labels_of
from onnxdtd.request import EXPLAINED, FURTHER, Request
from onnxdtd.study.provenance import typed
from onnxdtd.study.words import amount, probably

if TYPE_CHECKING:
    from onnxdtd.compiler.prepared import Prepared
    from onnxdtd.study.checks import Report
    from onnxdtd.study.ranking import Ranking
    from onnxdtd.study.results import Result
    from onnxdtd.study.stream import Explained

ORDER = ("explain", "compile", "inspect", "page", "rules", "evaluate", "audit", "verify", "bench", "tune", "fit")  # in help
Provider = Annotated[
    str | None,
    option("--provider", "Where to run: cuda, cpu, or an ONNX Runtime provider by its name.", "cuda|cpu|NAME", RUNNING),
]
Compiled = Annotated[Path, typer.Argument(help="A model that onnxdtd compiled.", metavar="COMPILED")]
SHOWN, TOLD = 20, 5  # samples in a table, and in sentences of their own


def _version(wanted: bool) -> None:
    if wanted:
        print(onnxdtd.__version__)
        raise typer.Exit


def _number(value: float | None) -> str:
    return "" if value is None else amount(value)


@app.callback()
def onnxdtd_command(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_version)] = False,
) -> None:
    """Write the relevance pass of an ONNX classifier into its own file."""


@command("compile", EXPLAIN, "compile models/digits_cnn.onnx --low 0 --high 1 -o explained.onnx")
@selects()
def compile_command(
    model: Model,
    request: Request,
    out_path: Annotated[Path | None, option("-o", "The file to write; by default MODEL.PRESET.onnx.", "OUT")] = None,
    weights: Annotated[
        str | None,
        option(
            "--weights", "Refer to external weights or copy them. Default: copy them into another folder.", "reference|copy"
        ),
    ] = None,
) -> None:
    """Write a model that computes the prediction and its explanation."""
    from onnxdtd.compiler.compile import build, prepare, save

    job = prepare(model, request)
    compiled = build(job, in_place=True)
    path = out_path or model.with_name(f"{model.stem}.{Path(str(job.request.preset)).stem}.onnx")
    save(compiled, path, model, weights)
    err.print(f"{path}: {', '.join(_headline(job))}")
    say(job.plan.notes)


def _headline(job: Prepared) -> list[str]:
    """What was compiled, in a few phrases."""
    from onnxdtd.compiler.groups import by_layer
    from onnxdtd.compiler.inspect import seen

    layers = len(set(by_layer([step.name for step in job.plan.steps if step.rule is not None])))
    words = [f"preset {job.request.preset}", counted(layers, "layer"), f"explains {job.plan.logits.name!r}"]
    if job.request.reference is not None:
        words[-1] = f"explains {job.plan.output!r} less {job.request.reference:g}"
    if job.request.contrast:
        words.append(f"against the {job.request.contrast}")
    if job.plan.stepped_back:
        words.append("before " + " and ".join(dict.fromkeys(node.op for node in job.plan.stepped_back)))
    return [*words, *(over for over in map(partial(seen, job), job.plan.inputs) if over.endswith("steps")), *job.changes]


@command("inspect", EXPLAIN, "inspect models/digits_cnn.onnx --low 0 --high 1")
@selects()
def inspect_command(
    model: Model,
    request: Request,
    provider: Annotated[str | None, option("--provider", "Also name the nodes without a kernel there.", "cuda|cpu")] = None,
    every: Annotated[bool, option("--all", "List every node and every tensor, not groups of those alike.")] = False,
    report: PageFile = None,
    as_json: AsJson = False,
) -> None:
    """Show which node gets which rule, and what stands in the way. Exit status 1 if something does."""
    from onnxdtd.study.dossier import inspection

    paged(report)
    found = inspection(model, request, provider)
    refused = Unsupported([Problem(**problem) for problem in found.get("problems", ())])
    say(found.get("notes", ()))
    if as_json:
        print(json.dumps(found, indent=1))
    elif refused.problems:
        err.print(f"onnxdtd: {refused}")
    else:
        print_plan(model, found, every)
        _print_digests(found["digests"])
        if "kernels" in found:
            print_kernels(found["kernels"])
    filed(report, found, as_json)
    if refused.problems:
        raise typer.Exit(1)


@command(
    "explain",
    EXPLAIN,
    "explain models/digits_cnn.onnx models/digits_samples.npz -o digits",
    "explain models/tumours.onnx models/tumours_samples.csv \\\n  --label diagnosis -o tumours",
)
@selects("preset", "target", "on_demand", "portable")
def explain_command(
    model: Model,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, .wav, folders, .npy, .npz, .csv or .parquet (a row each), .json (a list each), texts; - is stdin. "
            "URLs of these; @LIST is a text, or a table, of files.",
            metavar="INPUT...",
        ),
    ],
    request: Request,
    look: Look,
    out_path: Annotated[Path, option("-o", "The folder for heatmaps and results.json.", "DIR")] = Path("explanations"),
    save_path: Annotated[
        str | None,
        option("--save", "Also write the relevance: .npz, .csv, .parquet, .zarr; no ending: a folder of shards.", "FILE|URL"),
    ] = None,
    pictures: Annotated[bool, option("--pictures/--no-pictures", "Draw a heatmap of each input.", "")] = True,
    concepts: Annotated[
        str | None,
        option(
            "--concepts",
            "Also show the strongest channels of this inner tensor, and the heatmap of each: implies --mask and --keep.",
            "TENSOR",
            FURTHER,
        ),
    ] = None,
    presets: Annotated[
        list[str], offer("preset", "Given several times, each input is explained under all of them, in one picture.")
    ] = [],
    targets: Annotated[list[str], offer("target", "Several times: several classes.")] = [],
    top: Annotated[
        int | None,
        option("--top", "The K classes with the highest scores; with --concepts, its K strongest channels.", "K", EXPLAINED),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        option(
            "--tokenizer", "The model's tokenizer.json. Inputs are texts then, .txt, .csv, .tsv, .json, .jsonl.", "FILE", TEXTS
        ),
    ] = None,
    words: Annotated[bool, option("--words", "Sum the relevance of the pieces of a word.", None, TEXTS)] = False,
    label: Label = None,
    sample_id: Id = None,
    target_column: Annotated[
        str | None,
        option(
            "--target-column",
            "The column, of a list or a table, of the class to explain of each; where it is empty, the predicted one.",
            "COLUMN",
            TABLES,
        ),
    ] = None,
    provider: Provider = None,
    workers: Annotated[
        int | None,
        option("--workers", "Processes, of one thread each. Default: this one, a thread a core.", "N", RUNNING),
    ] = None,
    engine: Engine = "processes",
    as_json: AsJson = False,
) -> None:
    """Explain inputs: a heatmap each, and their numbers in results.json. Compiles MODEL first if need be."""
    from onnxdtd.data.remote import ALONE
    from onnxdtd.study.results import RESULTS, UNFINISHED

    if ALONE in (save_path or ""):
        raise RequestError(
            f"--save {save_path}: is gone with this process, and nobody could read it; give a file or another URL"
        )
    with measuring("explaining", out_path / UNFINISHED) as tick:
        explained = onnxdtd.explain(
            model,
            inputs,
            request,
            out_path,
            save=save_path,
            pictures=pictures,
            presets=presets,
            targets=targets,
            concepts=concepts,
            top=top,
            tokenizer=tokenizer,
            words=words,
            label=label,
            sample_id=sample_id,
            target_column=target_column,
            provider=provider,
            look=look,
            workers=workers,
            engine=engine,
            say=lambda note: say([note]),
            skip=lambda text: err.print(f"onnxdtd: skipped {text}"),
            tick=tick,
        )
    if len(explained.skipped) > 1:
        say([f"{counted(len(explained.skipped), 'input')} skipped, as results.json lists them"])
    page = _page(out_path, explained)
    if as_json:
        _copy(out_path / RESULTS)
        return
    _print_explained(explained, out_path, pictures, page)
    if save_path:
        out.print(f"their relevance is in {save_path}")


def _print_explained(explained: Explained, folder: Path, pictures: bool, page: str | None) -> None:
    """The first samples, what there is to know of all of them, and what was written to ``folder``."""
    from onnxdtd.study.presenter import called
    from onnxdtd.study.ranking import FEATURES, SUMMARY
    from onnxdtd.study.results import RESULTS
    from onnxdtd.study.wordlist import WORDS

    results, number = explained.results[:SHOWN], explained.metadata.get("reference")
    score = "lead" if explained.metadata["contrast"] else called(explained.metadata) if number is None else f"less {number:g}"
    _print_results(results, score, labels_of(explained.metadata))
    print_texts(results)
    ranked = _print_ranking(explained.ranking)
    if not ranked:
        _print_terms(results)
    for remark in explained.remarks:
        out.print(f"note: {remark}")
    more = f" (the first {SHOWN} of {explained.count} shown)" if explained.count > SHOWN else ""
    what = counted(explained.count, "heatmap" if pictures else "explanation")
    more_files = [page] * (page is not None) + [WORDS] * bool(explained.words)
    more_files += ([SUMMARY] * pictures + [FEATURES]) * ranked
    written = "".join(f", {name}" for name in more_files)
    presets = list(dict.fromkeys(r.preset for r in results))
    under = f"{'preset' if len(presets) == 1 else 'presets'} {', '.join(presets)}"
    out.print(f"{what} ({under}){written} and {RESULTS} are in {folder}{more}")


def _copy(path: Path) -> None:
    """Print a file, piece by piece."""
    with path.open(encoding="utf-8") as file:
        shutil.copyfileobj(file, sys.stdout)


def _page(folder: Path, explained: Explained) -> str | None:
    """The name of the page of texts, where there are any; it needs a library of an extra."""
    if not any(result.reading for result in explained.results):
        return None
    try:
        from onnxdtd.report.texts import PAGE, write
    except ImportError as error:
        say([f"{error.name} is not installed, and no page is written: pip install 'onnxdtd[text]'"])
        return None
    write(folder / PAGE, explained)
    return PAGE


def _print_ranking(ranking: Ranking) -> bool:
    """What matters in many rows of a table, and in which direction, by class; tells whether there is anything to say."""
    from onnxdtd.study.ranking import SHOWN_CLASSES, SHOWN_FEATURES

    for preset in ranking.presets():
        shares = ranking.shares(preset)
        ranked = [row for row in ranking.ranked() if row.preset == preset]
        counts = {row.explained: row.rows for row in ranked}
        classes = sorted(counts, key=lambda name: -counts[name])[:SHOWN_CLASSES]
        known = {(row.feature, row.explained): row for row in ranked}
        names = [ranking.names[i] for i in sorted(range(len(shares)), key=lambda i: -shares[i])[:SHOWN_FEATURES]]
        share = dict(zip(ranking.names, shares, strict=True))
        heads = ("feature", "share", *(f"{name or 'output'} ({counts[name]})" for name in classes))
        print_table(heads, [[name, f"{share[name]:.0%}", *(known[name, of].said for of in classes)] for name in names])
        out.print(
            f"{preset}: share of Σ |relevance|; mean relevance of the rows explained for a class, and ↑ where it grows with "
            "the value, ↓ where it falls, with the correlation, or the words with most and least"
        )
    return bool(ranking.names)


def _print_terms(results: Sequence[Result]) -> None:
    """What speaks most for the class of the first samples, and against it, where that has names, and their channels."""
    from onnxdtd.study.results import RESULTS

    shown = results[:TOLD]
    for result in shown:
        sides = {"for": result.pro, "against": result.contra}
        listed = lambda terms: ", ".join(f"“{term.name}” {amount(term.relevance, 2, '+')}" for term in terms)
        told = [f"{side} {listed(terms)}" for side, terms in sides.items() if terms]
        if channels := ", ".join(f"{concept.channel} ({concept.share:.0%})" for concept in result.concepts):
            told.append(f"channels {channels}")
        if told:
            out.print(f"{result.name}: {'; '.join(told)}")
    if len(results) > len(shown) and any(result.pro or result.contra or result.concepts for result in results):
        out.print(f"{RESULTS} says so of the others as well")


def _print_results(results: Sequence[Result], score: str, names: Labels) -> None:
    """A row for each sample; columns that say what others do, or one thing, or nothing, are left out and said below."""
    own = "output" if names.is_quantity else "score"
    predicted, explained = ([names.brief(label) for label in labels] for labels in zip(*map(_labels, results), strict=True))
    said = "the class that is predicted" if explained == predicted else explained[0] if len(set(explained)) == 1 else ""
    likely = all(r.probability is not None for r in results)
    columns = {
        "input": [r.name for r in results],
        "preset": [r.preset for r in results] if len({r.preset for r in results}) > 1 else [],
        "predicted": [] if names.is_quantity else predicted,
        own: [] if likely else [_number(r.score) for r in results],
        "probability": [probably(r.probability or 0.0) for r in results] if likely else [],
        "explained": [] if explained == predicted or (said and len(results) > 1) else explained,
        score: [_number(r.logit) for r in results],
        "Σ relevance": [_number(r.relevance_sum) for r in results],
        "flags": [", ".join(flag.code for flag in r.flags) for r in results],
    }
    if own != score and columns[score] == columns[own]:
        columns[own] = []
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    print_table(list(shown), list(zip(*shown.values(), strict=True)))
    if any(explained) and "explained" not in shown and not names.is_quantity:
        out.print(f"explained: {said}")


def _labels(result: Result) -> tuple[str, str]:
    return result.predicted_label, result.target_label


@command(
    "page",
    EXPLAIN,
    "compile models/digits_cnn.onnx --low 0 --high 1 \\\n  --target input -o explained.onnx",
    "page explained.onnx -o site",
)
def page_command(
    compiled: Compiled,
    out_path: Annotated[Path, option("-o", "The folder to write: a new one, or one with such a page.", "FOLDER")],
    runtime: Annotated[
        Path | None,
        option("--runtime", "The dist of onnxruntime-web from npm. Default: that in ./node_modules.", "DIST"),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        option("--tokenizer", "The model's tokenizer.json, where it takes ids of tokens.", "FILE"),
    ] = None,
    examples: Annotated[
        list[Path], option("--examples", "Pictures, texts or rows to try; several times for several files.", "FILE")
    ] = [],
    label: Label = None,
    sample_id: Id = None,
) -> None:
    """Write a page that classifies and explains in the browser of whoever visits it; nothing leaves that machine."""
    from onnxdtd.data.tables import Roles
    from onnxdtd.report.site import write

    size = write(compiled, out_path, runtime, tokenizer, examples, Roles(label, sample_id))
    out.print(
        f"{out_path}: a page that loads {size / 1e6:.1f} MB; to try it: python -m http.server -d {shlex.quote(str(out_path))}"
    )


@command(
    "verify", CHECK, "compile models/digits_cnn.onnx -o explained.onnx", "verify explained.onnx --source models/digits_cnn.onnx"
)
def verify_command(
    compiled: Compiled,
    source: Annotated[Path | None, option("--source", "The model that it was compiled from.", "MODEL")] = None,
    inputs: Annotated[
        Path | None, option("--inputs", "What to run it on: a picture, .npz, .npy, .csv or .json.", "FILE")
    ] = None,
    preset: Annotated[Path | None, option("--preset", "Where the preset's TOML file lies now, if it has one.", "FILE")] = None,
    fitted: Annotated[Path | None, option("--fitted", "Where the relevance models lie now, if it has any.", "FILE")] = None,
    page: PageFile = None,
    every: Annotated[bool, option("--all", "List every layer, not only those that keep most of the relevance.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a compiled model is what it says: predictor, relevance pass, balance. Exit status 1 if it is not."""
    paged(page)
    report = onnxdtd.verify(compiled, source, inputs, preset, fitted)
    if as_json:
        print(json.dumps(report.as_data(), indent=1, ensure_ascii=False))
    else:
        _print_report(compiled, report, every)
    filed(page, report.as_data(), as_json)
    if not report.passed:
        raise typer.Exit(1)


def _print_report(compiled: Path, report: Report, every: bool) -> None:
    """The balance of every layer, or where these are many of those that keep most, then what was checked."""
    from onnxdtd.report.sources import which_score
    from onnxdtd.study.words import conjoined

    if report.steps:
        _print_balance(report.steps, every)
    words = {True: "passed", False: "FAILED", None: ""}
    print_table(("check", "result", "finding"), [(c.name, words[c.passed], c.finding) for c in report.checks])
    told = report.about["provenance"]
    if presets := told["presets"]:
        out.print(f"{compiled} says that it explains {which_score(told['explained'])}, by the preset {conjoined(presets)}")
    _print_digests(report.about["digests"], report.about["changes"])
    out.print(f"{compiled} {report.verdict}")


def _print_digests(digests: Mapping[str, str | None], changes: Sequence[str] = ()) -> None:
    """What to compare with what was signed: whole lines, to be copied. A source that had ``changes`` has other ones."""
    source = digests.get("source")
    same = f"; that of the predictor is {'' if source == digests['predictor'] else 'not '}that of the source" if source else ""
    if changes:
        same = f"; that of the predictor is not that of the source, which was changed first: {', '.join(changes)}"
    out.print(f"SHA-256{same}")
    for what in ("file", "predictor"):
        out.print(f"{what:9} {digests[what] or 'none: not all of it can be read'}")


def _print_balance(steps: Sequence[dict[str, Any]], every: bool) -> None:
    """What each takes in and hands on, in one column if that is the same everywhere."""
    from onnxdtd.study.accounts import in_layers

    steps = [{**row, "count": 1} for row in steps] if every else in_layers(steps)
    least = sorted(map(_kept, steps), reverse=True)[:SHOWN][-1]
    few = every or len(steps) <= SHOWN
    chosen = [row for row in steps if few or (_kept(row) >= least and _keeps(row))]
    if chosen:
        alike = not any(map(_keeps, chosen))
        amounts = {"in": "in = out" if alike else "in"} | {name: name for name in ("out", *KEPT, "negative")}
        if alike:
            del amounts["out"]
        shown = [name for name in amounts if any(row[name] for row in chosen)]
        rows = [
            [row["step"], row["rule"], *(_percent(row[name]) for name in shown), f"{row['positive_biases']:.0f}"]
            for row in chosen
        ]
        many = any(row["count"] > 1 for row in chosen)
        counts = [[f"{row['count']}" if row["count"] > 1 else ""] if many else [] for row in chosen]
        cells = [[row[0], *count, *row[1:]] for row, count in zip(rows, counts, strict=True)]
        print_table(("step", *(["×"] if many else []), "rule", *(amounts[name] for name in shown), "biases > 0"), cells)
        out.print("relevance as shares of the logit; biases > 0: in how many neurons")
        if many:
            out.print("×: the steps of a recurrent layer, with all that they keep; --all lists each with what goes in and out")
    if not few:
        rest = counted(len(steps) - len(chosen), "layer")
        out.print(f"{rest} {'keep less or nothing' if chosen else 'hand on all that they take in'}; --all lists each")


def _kept(row: dict[str, Any]) -> float:
    """How much it does not hand on, or hands on more than it takes in."""
    return sum(abs(row[name]) for name in KEPT) if row["in"] is None else abs(row["in"] - row["out"])


def _keeps(row: dict[str, Any]) -> bool:
    """Is that seen in what is shown?"""
    return (
        any(_percent(row[name]).endswith("%") for name in KEPT)
        if row["in"] is None
        else _percent(row["in"]) != _percent(row["out"])
    )


def _percent(share: float | None) -> str:
    """Of the logit; nothing where it is nothing."""
    return "" if share is None else f"{share:.2%}" if abs(share) >= 5e-5 else "~0" if share else ""


@command("bench", CHECK, "bench models/digits_cnn.onnx --batch 1,8")
@selects()
def bench_command(
    model: Model,
    request: Request,
    batches: Annotated[list[str], option("--batch", "Samples in a run; several numbers for several runs.", "N,N")] = ["1,8"],
    provider: Provider = None,
    as_json: AsJson = False,
) -> None:
    """Measure what prediction and explanation cost on this machine, on random inputs."""
    timings = onnxdtd.bench(model, request, whole_numbers("--batch", batches), provider)
    if as_json:
        print(json.dumps([{**asdict(t), "ratio": t.ratio, "throughput": t.throughput} for t in timings], indent=1))
        return
    cells = [
        (str(t.batch), f"{t.forward * 1e3:.1f} ms", f"{t.explain * 1e3:.1f} ms", f"{t.ratio:.2f} x", f"{t.throughput:.1f}")
        for t in timings
    ]
    print_table(("batch", "forward", "with explanation", "ratio", "explained a second"), cells)


app.registered_commands.sort(key=lambda entry: ORDER.index(str(entry.name)))


def main() -> None:
    """The console script: every error is one plain message, none is a traceback."""
    if hasattr(signal, "SIGPIPE") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads may stop reading
    arguments = sys.argv[1:]
    try:
        with typed(arguments):
            status = app(spelled(arguments or ["--help"]), prog_name="onnxdtd", standalone_mode=False)
        sys.exit(status or 0 if arguments else 2)
    except USAGE as error:
        err.print(f"onnxdtd: {misuse(error)}")
    except OnnxdtdError as error:
        err.print(f"onnxdtd: {'; '.join([str(error), *getattr(error, '__notes__', ())])}")
    except BrokenPipeError:  # whoever reads stopped reading while workers were at work, for whom the signal is off
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    except Exception as error:
        if os.environ.get("ONNXDTD_TRACEBACK"):
            raise
        err.print(
            f"onnxdtd: internal error, please report it: {type(error).__name__}: {error} (ONNXDTD_TRACEBACK=1 shows more)"
        )
    sys.exit(2)
