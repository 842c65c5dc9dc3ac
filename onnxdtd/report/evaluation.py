"""The page of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from onnxdtd.report.charts import BASELINE, chart, style
from onnxdtd.report.page import (
    Cell,
    Json,
    Page,
    Section,
    Table,
    compared,
    grids,
    lead_line,
    names,
    passages,
    plain,
    rules,
    settings_section,
    signs,
    skipped,
    used,
)
from onnxdtd.report.sources import sources
from onnxdtd.report.standings import standings
from onnxdtd.study.metrics import METRICS
from onnxdtd.study.tally import apart, told
from onnxdtd.study.words import conjoined, counted, mean_text

FEW_CLASSES = 25


def evaluation_page(result: Json) -> Page:
    """From the JSON of `evaluate`."""
    models, settings = result["models"], result["settings"]
    presets = list(dict.fromkeys(name for model in models for name in names(model)))
    lead = lead_line(settings, len(presets))
    if len(models) > 1:
        lead += f", {len(models)} models"
    sections = [_curves(model, settings) for model in models if any(_known(preset) for preset in model["presets"])]
    sections += [_metrics(models), *_differences(models), *_side_by_side(models, settings), *_classes(models)]
    parts = skipped(result), rules(models), settings_section(result, models), sources(result)
    sections += [section for section in parts if section]
    summary = [(str(model["model"]), standings(model)) for model in models]
    title = f"Evaluation of {conjoined([str(model['model']) for model in models])}"
    return Page(title, lead, summary, sections, grids(result, models), passages(result), signs(result))


def _curves(model: Json, settings: Json) -> Section:
    """The score while regions are replaced, most relevant first and least relevant first."""
    curves = [preset.get("curves") or {} for preset in model["presets"]]
    baseline = next((c["random"] for c in curves if c.get("random")), None)
    known = [v for preset in model["presets"] for v in _known(preset)]
    margin = 0.04 * (max(known) - min(known)) or 1.0
    limits = (min(known) - margin, max(known) + margin)
    charts = []
    for key, title in (("morf", "most relevant regions first"), ("lerf", "least relevant regions first")):
        lines = [(style(i), _percent(c[key], settings), c[key]) for i, c in enumerate(curves) if c.get(key)]
        lines += [(BASELINE, _percent(baseline, settings), baseline)] if baseline else []
        if lines:
            charts.append(chart(title.capitalize(), lines, "replaced, in %", "mean score", limits))
    legend = [(style(i), name) for i, name in enumerate(names(model))] + ([(BASELINE, "random order")] if baseline else [])
    text = (
        "Regions of the input are replaced step by step, and the model is asked again. Under a good heatmap the score falls at "
        "once where the most relevant regions go first, and late where the least relevant do."
    )
    return Section(f"Perturbation: {model['model']}", [text], legend=legend, charts=charts)


def _known(preset: Json) -> list[float]:
    """All points of a preset's curves."""
    return [v for values in (preset.get("curves") or {}).values() for v in values if v is not None]


def _percent(curve: Sequence[Any], settings: Json) -> list[float]:
    """How much of the input is replaced at each point of a curve."""
    return [100 * float(settings.get("share", 1.0)) * k / max(len(curve) - 1, 1) for k in range(len(curve))]


def _metrics(models: Sequence[Json]) -> Section:
    """All means of all presets."""
    found = [[preset["metrics"] for preset in model["presets"]] for model in models]
    tables = [
        compared(str(m["model"]), names(m), METRICS, one, told(m["differences"]))
        for m, one in zip(models, found, strict=True)
        if any(one)
    ]
    text = [
        "Means over the samples ± standard error; ↑ and ↓ point to the good values. ★ marks the best mean, ≈ what is not told "
        "from it: presets are compared sample by sample, and the mean difference must be more than chance by Student's t at "
        "95 %. Nothing is marked where no difference is.",
    ]
    return Section("Metrics", text, used(METRICS, [metrics for one in found for metrics in one]), tables=tables)


def _differences(models: Sequence[Json]) -> Iterable[Section]:
    """The paired differences behind the marks."""
    tables = []
    for model in models:
        found = {(one["metric"], one["preset"], one["other"]): one for one in model["differences"]}
        shown = [name for name in METRICS if any(key == name for key, _, _ in found)]
        rows = [
            (f"{a} − {b}", "", [_difference(found.get((name, a, b))) for name in shown])
            for a, b in dict.fromkeys((a, b) for _, a, b in found)
        ]
        if rows:
            tables.append(Table(str(model["model"]), [METRICS[name].head for name in shown], rows))
    if tables:
        text = "The mean over the samples of one preset's value less the other's ± its standard error; bold: more than chance."
        yield Section("Paired differences", [text], tables=tables, folded=True)


def _difference(found: Json | None) -> Cell:
    return Cell(mean_text(found), "told" if found is not None and apart(found) else "")


def _side_by_side(models: Sequence[Json], settings: Json) -> Iterable[Section]:
    """The models beside each other, metric by metric."""
    if len(models) < 2:
        return
    tables = []
    for key in ("aopc", "abpc", "outside_inside"):
        columns = [{preset["preset"]: preset["metrics"].get(key) for preset in model["presets"]} for model in models]
        presets = dict.fromkeys(name for column in columns for name in column)
        rows = [(name, "", [Cell(mean_text(column.get(name))) for column in columns]) for name in presets]
        if any(cell.text != "-" for _, _, cells in rows for cell in cells):
            tables.append(Table(METRICS[key].head, [str(model["model"]) for model in models], rows))
    text = "Compare models by AOPC and ABPC with care: their logits have no scale in common."
    yield Section("The models side by side", [text] if settings["score"] == "logit" else [], tables=tables)


def _classes(models: Sequence[Json]) -> Iterable[Section]:
    """Relevance outside and inside of the boxes, class by class."""
    tables = []
    for model in models:
        columns = [{c["class"]: c for c in preset.get("classes") or []} for preset in model["presets"]]
        known = {k: one for column in columns for k, one in column.items()}
        rows = []
        for k in sorted(known):
            cells = plain((column.get(k) or {}).get("outside_inside") for column in columns)
            rows.append((str(known[k]["label"]), counted(known[k]["n"], "sample"), cells))
        if rows:
            tables.append(Table(str(model["model"]), names(model), rows))
    if tables:
        many = max(len(table.rows) for table in tables) > FEW_CLASSES
        measures = [METRICS["outside_inside"]]
        yield Section("Relevance outside and inside of the boxes", measures=measures, tables=tables, folded=many)
