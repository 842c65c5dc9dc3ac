"""The command line.

Exit status 0: done; 1: the check that was asked for failed; 2: the request or the model cannot be served.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import onnxdtd
import onnxdtd.cli.study  # adds its commands
from onnxdtd.cli.options import AsJson, Model, app, err, option, out, print_table, say, selects, spelled
from onnxdtd.contract import KEPT, Metadata, read_metadata
from onnxdtd.errors import OnnxdtdError, RequestError, Unsupported
from onnxdtd.request import NO_CLASSES, Request

if TYPE_CHECKING:
    from onnxdtd.compiler.prepared import Prepared
    from onnxdtd.labels import Index
    from onnxdtd.runtime.explainer import Explainer
    from onnxdtd.study.checks import Report
    from onnxdtd.study.explain import Result


def _version(wanted: bool) -> None:
    if wanted:
        print(onnxdtd.__version__)
        raise typer.Exit


def _share(part: int, whole: int) -> str:
    """Per cent, where it is worth mentioning."""
    return f"{part / whole:.1%}" if part and whole else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


@app.callback()
def onnxdtd_command(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_version)] = False,
) -> None:
    """Write the relevance pass of an ONNX classifier into its own file."""


@app.command("compile")
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
    err.print(f"{path}: {', '.join(_headline(job))}", markup=False)
    say(job.plan.notes)


def _headline(job: Prepared) -> list[str]:
    """What was compiled, in a few phrases."""
    layers = sum(step.rule is not None for step in job.plan.steps)
    words = [f"preset {job.request.preset}", f"{layers} layers", f"explains {job.plan.logits.name!r}"]
    if job.request.contrast:
        words.append(f"against the {job.request.contrast}")
    if job.plan.stepped_back:
        words.append("before " + " and ".join(dict.fromkeys(node.op for node in job.plan.stepped_back)))
    return words + job.changes


@app.command("inspect")
@selects()
def inspect_command(model: Model, request: Request, as_json: AsJson = False) -> None:
    """Show which node gets which rule, and what stands in the way. Exit status 1 if something does."""
    from onnxdtd.compiler.compile import prepare
    from onnxdtd.labels import listed

    try:
        job = prepare(model, request)
    except Unsupported as error:
        if as_json:
            print(json.dumps({"problems": [asdict(problem) for problem in error.problems]}, indent=1))
        else:
            err.print(f"onnxdtd: {error}", markup=False)
        raise typer.Exit(1) from None
    say(job.plan.notes)
    rows = [_row(job, step) for step in job.plan.steps]
    predict, explain = (sum(row[key] for row in rows) for key in ("prediction", "explanation"))
    summary: dict[str, Any] = {
        "model": str(model),
        "inputs": [{"name": t.name, "shape": [str(d) for d in t.shape or []]} for t in job.plan.inputs],
        "output": job.plan.output,
        "logits": job.plan.logits.name,
        "stepped_back": [node.op for node in job.plan.stepped_back],
        "labels": job.labels.shown(),
        "changes": job.changes,
        "notes": job.plan.notes,
        "preset": job.request.preset,
        "multiply_adds": {"prediction": predict, "explanation": explain},
    }
    if as_json:
        print(json.dumps({**summary, "steps": rows}, indent=1))
        return
    out.print(f"{model}, preset {job.request.preset}", markup=False)
    cells = [
        (
            r["node"],
            r["op"],
            r["kind"] + (", first layer" if r["first"] else ""),
            r["rule"] or "",
            " ".join(r["input"]),
            _share(r["explanation"], explain),
        )
        for r in rows
    ]
    print_table(("node", "operators", "kind", "rule", "input", "cost"), cells)
    out.print(
        f"multiply-adds per sample: prediction {predict:,}, explanation {explain:,} more "
        f"({(predict + explain) / max(predict, 1):.1f} x in all)"
    )
    for key in ("output", "logits", "stepped_back", "labels", "changes"):
        if summary[key]:
            known = summary[key]
            value = known if isinstance(known, str) else listed(known) if key == "labels" else ", ".join(known)
            out.print(f"{key.replace('_', ' ')}: {value}", markup=False)


def _row(job: Prepared, step: Any) -> dict[str, Any]:
    """A step as JSON."""
    from onnxdtd.compiler.cost import explanation, multiply_adds

    sources = [t for t in step.inputs if t is not None]
    shapes = ["[" + ",".join(str(d) for d in t.shape) + "]" if t.shape is not None else "?" for t in sources]
    signs = [">=0" if job.plan.nonnegative(t) else "" for t in sources]
    return {
        "node": step.name,
        "op": step.op,
        "kind": step.kind,
        "rule": None if step.rule is None else str(step.rule),
        "first": bool(step.facts and step.facts.first),
        "input": [shape + sign for shape, sign in zip(shapes, signs, strict=True)],
        "prediction": multiply_adds(step),
        "explanation": explanation(step, job.plan.nonnegative),
    }


@app.command("explain")
@selects()
def explain_command(
    model: Model,
    inputs: Annotated[list[Path], typer.Argument(help="Image files, folders, .npy or .npz.", metavar="INPUT...")],
    request: Request,
    out_path: Annotated[Path, option("-o", "The folder for heatmaps and results.json.", "DIR")] = Path("explanations"),
    save_path: Annotated[
        Path | None, option("--save", "Also write the relevance itself, with samples, classes and logits.", "FILE.npz")
    ] = None,
    provider: Annotated[str | None, option("--provider", "The ONNX Runtime provider to run on.", "NAME")] = None,
    as_json: AsJson = False,
) -> None:
    """Explain inputs: a heatmap each, and their numbers in results.json. Compiles MODEL first if need be."""
    from rich.progress import Progress

    from onnxdtd.data import read as reading
    from onnxdtd.runtime.explainer import Explainer
    from onnxdtd.study import explain, notes

    found = reading.files(inputs)
    record = explain.Record(save_path) if save_path else None
    compiled, said = _compiled(model, request)
    running = partial(Explainer, providers=[provider] if provider else None, folder=model.parent)
    explainer = running(compiled)
    if said is not None:
        explainer.metadata = said
    target = _target(explainer, request) if isinstance(compiled, str) else None
    ledgered = None if isinstance(compiled, str) else lambda: running(_ledgered(model, request))
    job = explain.Job(explainer, request.labels, ledgered)
    folder = explain.Folder(out_path)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("explaining", total=len(found))
        skip = (lambda text: err.print(f"onnxdtd: skipped {text}", markup=False)) if len(found) > 1 else None
        results = explain.run(job, found, folder, target, lambda: progress.advance(task), skip, record)
    if not results:
        raise RequestError("none of the inputs could be explained")
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=1, ensure_ascii=False))
        return
    columns = [
        "input",
        "predicted",
        "score",
        "explained",
        "lead" if explainer.metadata["contrast"] else "logit",
        "Σ relevance",
        "flags",
    ]
    cells = [
        (r.name, r.predicted_label, _number(r.score), r.target_label, _number(r.logit), _number(r.relevance_sum), _codes(r))
        for r in results[:50]
    ]
    shown = len(columns) if any(r.flags for r in results) else -1
    print_table(columns[:shown], [row[:shown] for row in cells])
    rivals = explainer.metadata.get("classes") != 1 and not explainer.metadata["contrast"]
    more = f" (the first 50 of {len(results)} shown)" if len(results) > 50 else ""
    for remark in (*notes.summary(results), *notes.remarks(results, rivals)):
        out.print(f"note: {remark}", markup=False)
    out.print(f"{len(results)} heatmaps (preset {results[0].preset}) and results.json are in {out_path}{more}", markup=False)
    if save_path:
        out.print(f"their relevance is in {save_path}", markup=False)


def _codes(result: Result) -> str:
    return ", ".join(flag.code for flag in result.flags)


def _target(explainer: Explainer, request: Request) -> Index | None:
    """The class to ask a compiled model for at run time; None for the arg-max."""
    from onnxdtd.runtime.explainer import fixed_target

    labels = explainer.labels.named(request.labels)
    say(labels.replaced())
    fixed = explainer.metadata["target"]
    if request.target in (None, *NO_CLASSES):
        if request.target == "argmax" and isinstance(fixed, int):
            raise RequestError(fixed_target(fixed, explainer.labels))
        return None
    say([labels.understood(request.target)])
    index = labels.index(request.target)
    if explainer.metadata["target_input"] is None and index != fixed:
        raise RequestError(fixed_target(fixed, explainer.labels))
    return index


def _compiled(model: Path, request: Request) -> tuple[Any, Metadata | None]:
    """A compiled model that also gives the explained logit; where it was compiled already its path, and its metadata with what
    the request says that they do not.
    """
    from onnxdtd.compiler.compile import build, prepare
    from onnxdtd.graph import files
    from onnxdtd.study.settled import settled

    source = files.read(model)
    have = read_metadata(source.proto)
    if have:
        return str(model), settled(have, request, next(iter(have["relevance"])))
    job = prepare(model, request)
    compiled = build(job)
    say(job.plan.notes)
    return compiled, None


def _ledgered(model: Path, request: Request) -> Any:
    """The same with a ledger."""
    from onnxdtd.compiler.compile import build, prepare

    return build(prepare(model, replace(request, ledger=True)))


@app.command("verify")
def verify_command(
    compiled: Annotated[Path, typer.Argument(help="A model that onnxdtd compiled.", metavar="COMPILED")],
    source: Annotated[Path | None, option("--source", "The model that it was compiled from.", "MODEL")] = None,
    inputs: Annotated[Path | None, option("--inputs", "What to run it on: .npz, .npy or a picture.", "FILE")] = None,
    preset: Annotated[Path | None, option("--preset", "Where the preset's TOML file lies now, if it has one.", "FILE")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a compiled model is what it says: predictor, relevance pass, balance. Exit status 1 if it is not."""
    from onnxdtd.study.verify import verify

    report = verify(compiled, source, inputs, preset)
    if as_json:
        told = {"passed": report.passed, "verdict": report.verdict, **asdict(report)}
        print(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        _print_report(compiled, report)
    if not report.passed:
        raise typer.Exit(1)


def _print_report(compiled: Path, report: Report) -> None:
    """The balance of every layer, then what was checked."""
    if report.steps:
        amounts = ("in", "out", *KEPT, "negative")
        shown = [name for name in amounts if any(row[name] for row in report.steps)]
        rows = [
            [row["step"], row["rule"], *(_percent(row[name]) for name in shown), f"{row['positive_biases']:.0f}"]
            for row in report.steps
        ]
        print_table(("step", "rule", *shown, "biases > 0"), rows)
        out.print("relevance as shares of the logit; biases > 0: in how many neurons", markup=False)
    words = {True: "passed", False: "FAILED", None: ""}
    print_table(("check", "result", "finding"), [(c.name, words[c.passed], c.finding) for c in report.checks])
    out.print(f"{compiled} {report.verdict}", markup=False)


def _percent(share: float) -> str:
    """Of the logit; nothing where it is nothing."""
    return f"{share:.2%}" if abs(share) >= 5e-5 else "~0" if share else ""


@app.command("bench")
@selects()
def bench_command(
    model: Model,
    request: Request,
    batches: Annotated[list[int], option("--batch", "Samples in a run; may be given several times.", "N")] = [1, 8],
    provider: Annotated[str | None, option("--provider", "The ONNX Runtime provider to run on.", "NAME")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what prediction and explanation cost on this machine, on random inputs."""
    from onnxdtd.study.bench import bench

    timings = bench(model, request, batches, provider)
    if as_json:
        print(json.dumps([{**asdict(t), "ratio": t.ratio, "throughput": t.throughput} for t in timings], indent=1))
        return
    cells = [
        (str(t.batch), f"{t.forward * 1e3:.1f} ms", f"{t.explain * 1e3:.1f} ms", f"{t.ratio:.2f} x", f"{t.throughput:.1f}")
        for t in timings
    ]
    print_table(("batch", "forward", "with explanation", "ratio", "explained a second"), cells)


@app.command("rules")
def rules_command(
    as_json: AsJson = False,
    file: Annotated[Path | None, option("--file", "Also list the rules and presets of this TOML file.", "FILE")] = None,
) -> None:
    """List every rule with its equation and source, and every preset."""
    from onnxdtd.method.toml import Library

    library = Library()
    if file is not None:
        library.load(file)
    rules = [library.rule(name) for name in library.rules]
    if as_json:
        listed = [{"name": str(r), "equation": r.equation, "domain": r.domain, "source": r.source} for r in rules]
        presets = [
            {"name": p.name, "title": p.title, "source": p.source, "rules": [str(s.rule) for s in p.selectors]}
            for p in library.presets.values()
        ]
        print(json.dumps({"rules": listed, "presets": presets}, indent=1, ensure_ascii=False))
        return
    for rule in rules:
        out.print(str(rule), style="bold", markup=False)
        for text in (rule.equation, f"domain: {rule.domain}", rule.source):
            out.print(f"    {text}", markup=False)
    out.print()
    presets_shown = [(preset.name, preset.title, preset.source) for preset in library.presets.values()]
    print_table(("preset", "what it does", "source"), presets_shown)


def main() -> None:
    """The console script: every error is one plain message, none is a traceback."""
    if hasattr(signal, "SIGPIPE") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads may stop reading
    try:
        app(spelled(sys.argv[1:]))
    except OnnxdtdError as error:
        err.print(f"onnxdtd: {error}", markup=False)
    except Exception as error:
        if os.environ.get("ONNXDTD_TRACEBACK"):
            raise
        err.print(
            f"onnxdtd: internal error, please report it: {type(error).__name__}: {error} (ONNXDTD_TRACEBACK=1 shows more)",
            markup=False,
        )
    sys.exit(2)
