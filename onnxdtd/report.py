"""One page that shows what was measured: everything in one HTML file, without network and without scripts.

``evaluate`` and ``audit`` give JSON. Here it becomes sections of sentences, charts and tables; the template lays them out.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from onnxdtd import atomic
from onnxdtd.charts import BASELINE, LINES, Chart, Line, chart, style
from onnxdtd.images import small
from onnxdtd.inputs import Scaling
from onnxdtd.measures import ALIKE, BADNESS, GLANCE, METRICS, PRECONDITIONS, ROOTS, SETTINGS, Measure
from onnxdtd.verdict import CHANCE

Json = Mapping[str, Any]

FEW_CLASSES = 25
FEW_SKIPPED = 100
GAP = "1\u00a0−\u00a0cosine"
FLOOR = 1e-8  # where that ends on a logarithmic axis
SENSITIVITY = "sensitivity"
EVALUATION, AUDIT = "evaluation", "audit"


def number(value: float | None, digits: int = 3) -> str:
    """So many significant digits; "-" where there is no number.

    >>> number(0.4), number(12.345), number(300), number(1e-7), number(None)
    ('0.400', '12.3', '300', '1.00e-7', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, int) or value == 0:
        return str(int(value))
    return re.sub(r"e([-+])0?", lambda m: "e-" if m[1] == "-" else "e", f"{value:#.{digits}g}").removesuffix(".")


def _mean(found: Json | None) -> str:
    """A mean with its standard error, of which two digits say enough."""
    if found is None or found["mean"] is None:
        return "-"
    return number(found["mean"]) + (f" ± {number(found['error'], 2)}" if found.get("error") is not None else "")


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# ------------------------------------------------------------------------------------------------------ what a page is made of


@dataclass(frozen=True)
class Cell:
    """A number in a table, the ``best`` of its row, or as good as the best within two standard errors, or neither."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Cells with their headings; a row is its heading, the small print below that, and its cells. ``words``: no numbers."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[Cell]]]
    words: bool = False


@dataclass(frozen=True)
class Grid:
    """Samples and their heatmaps: a row a sample, a column for each preset, given as (heading, name of the heatmap)."""

    caption: str
    columns: Sequence[tuple[str, str]]
    samples: Sequence[Json]


@dataclass(frozen=True)
class Section:
    """A part of the page. ``legend`` names the lines of the charts with their styles; ``folded`` hides it behind its title."""

    title: str
    text: Sequence[str] = ()
    measures: Sequence[Measure] = ()
    legend: Sequence[tuple[int, str]] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """Everything that the template lays out: title, a line below it, summaries as (heading, sentences), pictures, sections."""

    title: str
    lead: str
    summary: Sequence[tuple[str, Sequence[str]]]
    sections: Sequence[Section]
    grids: Sequence[Grid]


def report(result: Json) -> str:
    """The page for the JSON of an evaluation or an audit; the same JSON gives the same bytes."""
    page = _audit(result) if result["kind"] == AUDIT else _evaluation(result)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.get_template("report.html.j2")
    return template.render(page=page, lines=LINES, version=result["version"])


def write(path: Path, result: Json) -> None:
    """Write the page, all or nothing. Raises ``RequestError`` where the file cannot be written."""
    atomic.write(path, report(result).encode("utf-8", "replace"))


def thumbnail(x: np.ndarray, relevance: np.ndarray, scale: Scaling | None = None) -> tuple[str, str]:
    """One sample without its batch axis and its relevance as small PNGs in base64: images as they are, else charts."""
    first, second = (base64.b64encode(png).decode() for png in small(x, relevance, scale))
    return first, second


# ------------------------------------------------------------------------------------------------------------------- tables


def _marked(values: Sequence[Json | None], best: str) -> list[Cell]:
    """A row of means, the best of them marked, and those that two standard errors of the difference do not tell from it."""
    known = [v for v in values if v is not None and v["mean"] is not None]
    if best not in BADNESS or len({v["mean"] for v in known}) < 2:
        return [Cell(_mean(value)) for value in values]
    badness = BADNESS[best]
    first = min(known, key=lambda v: badness(v["mean"]))
    marks = []
    for value in values:
        if value is None or value["mean"] is None:
            marks.append("")
        elif value["mean"] == first["mean"]:
            marks.append("best")
        else:
            marks.append("near" if _apart(value, first) is False else "")
    return [Cell(_mean(value), mark) for value, mark in zip(values, marks, strict=True)]


def _apart(a: Json, b: Json) -> bool | None:
    """Do two means differ by more than two standard errors of their difference? None where an error is not known."""
    if a.get("error") is None or b.get("error") is None:
        return None
    return bool(abs(a["mean"] - b["mean"]) > 2 * math.hypot(a["error"], b["error"]))


def _plain(values: Iterable[float | None], best: str = "") -> list[Cell]:
    """A row of numbers without errors."""
    return _marked([{"mean": value} for value in values], best)


def _compared(caption: str, columns: Sequence[str], measures: Mapping[str, Measure], found: Sequence[Json | None]) -> Table:
    """One row a measure, one column for each dictionary of ``found``."""
    rows = []
    for name, measure in measures.items():
        values = [None if one is None else one.get(name) for one in found]
        if any(value is not None for value in values):
            means = [value if isinstance(value, Mapping) else {"mean": value} for value in values]
            rows.append((measure.title, measure.best, _marked(means, measure.best)))
    return Table(caption, columns, rows)


def _grids(result: Json, models: Sequence[Json]) -> list[Grid]:
    """The pictures, model by model: where there are several, "model: preset" names a heatmap, the model without its suffix."""
    samples = (result.get("pictures") or {}).get("samples", [])
    grids = []
    for model in models if samples else ():
        prefix = f"{Path(model['model']).stem}: " if len(models) > 1 else ""
        grids.append(Grid(str(model["model"]) if prefix else "", [(name, prefix + name) for name in _names(model)], samples))
    return grids


def _names(result: Json) -> list[str]:
    return [str(preset["preset"]) for preset in result["presets"]]


def _used(measures: Mapping[str, Measure], found: Iterable[Json | None]) -> list[Measure]:
    """The measures that some dictionary of ``found`` has."""
    names = {name for one in found if one for name in one}
    return [measure for name, measure in measures.items() if name in names]


def _rules(models: Sequence[Json]) -> Section:
    """The rule of every layer under every preset."""
    tables = []
    for model in models:
        nodes = dict.fromkeys(node for preset in model["presets"] for node in preset["rules"])
        rows = [(node, "", [Cell(preset["rules"].get(node, "-")) for preset in model["presets"]]) for node in nodes]
        tables.append(Table(str(model["model"]), _names(model), rows, words=True))
    derived = any(not preset["rules"] for model in models for preset in model["presets"])
    text = ["Presets without rules are derivatives of the score."] if derived else []
    return Section("The rule of every layer", text, tables=[table for table in tables if table.rows], folded=True)


def _settings(result: Json, models: Sequence[Json]) -> Section:
    """How it was measured, on what."""
    words = [(SETTINGS.get(key, key), "", [Cell(_words(value))]) for key, value in result["settings"].items()]
    hashes = [(str(model["model"]), "", [Cell(str(model["sha256"]))]) for model in models]
    tables = [Table("", ["value"], words, words=True), Table("", ["SHA-256"], hashes, words=True)]
    return Section("Settings and hashes", [f"Measured by onnxdtd {result['version']}."], tables=tables)


def _words(value: Any) -> str:
    """A setting as it was given."""
    return "-" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _skipped(result: Json) -> Section | None:
    """The samples that nothing was measured on, and why."""
    skipped = result.get("skipped") or []
    if not skipped:
        return None
    rows = [(str(one["name"]), "", [Cell(str(one["reason"]))]) for one in skipped[:FEW_SKIPPED]]
    text = [f"{_count(len(skipped), 'sample')} left out of every number on this page."]
    if len(skipped) > FEW_SKIPPED:
        text.append(f"The first {FEW_SKIPPED} are listed; the JSON has all of them.")
    return Section("Skipped samples", text, tables=[Table("", ["reason"], rows, words=True)])


def _lead(settings: Json, presets: int) -> str:
    """On what was measured, in short."""
    data = f" of {settings['data']}" if settings.get("data") else ""
    return f"{_count(settings['samples'], 'sample')}{data}, {_count(presets, 'preset')}"


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


# --------------------------------------------------------------------------------------------------------------- evaluation


def _evaluation(result: Json) -> Page:
    models, settings = result["models"], result["settings"]
    presets = list(dict.fromkeys(name for model in models for name in _names(model)))
    lead = _lead(settings, len(presets))
    if len(models) > 1:
        lead += f", {len(models)} models"
    sections = [_curves(model, settings) for model in models if any(_known(preset) for preset in model["presets"])]
    sections += [_metrics(models), *_side_by_side(models, settings), *_classes(models)]
    sections += [section for section in (_skipped(result), _rules(models), _settings(result, models)) if section]
    summary = [(str(model["model"]), _standings(model)) for model in models]
    title = f"Evaluation of {_listed([str(model['model']) for model in models])}"
    return Page(title, lead, summary, sections, _grids(result, models))


def _standings(model: Json) -> list[str]:
    """Who is best by AOPC and by ABPC, and by how much."""
    said = []
    if model.get("accuracy") is not None:
        said.append(f"The model is right on {number(100 * model['accuracy'])} % of {_count(model['samples'], 'sample')}.")
    random = {"aopc": (model.get("random") or {}).get("aopc"), "abpc": {"mean": 0.0, "error": 0.0}}
    for key, chance in random.items():
        found = {p["preset"]: p["metrics"][key] for p in model["presets"] if p["metrics"].get(key, {}).get("mean") is not None}
        if found:
            said.append(" ".join(_standing(METRICS[key].title, found, chance)))
    return said or ["Nothing could be measured on it."]


def _standing(title: str, found: Mapping[str, Json], chance: Json | None) -> Iterable[str]:
    """Sentences on one metric: the best preset, the next, sensitivity, and the random order."""
    ranked = sorted(found, key=lambda name: -found[name]["mean"])
    first = ranked[0]
    yield f"{title}: {first} {'is highest with' if len(ranked) > 1 else 'has'} {_mean(found[first])}."
    if len(ranked) > 1:
        yield f"Next is {ranked[1]} with {_mean(found[ranked[1]])}; {_difference(found[first], found[ranked[1]])}."
    if SENSITIVITY in ranked[2:]:
        yield f"Sensitivity has {_mean(found[SENSITIVITY])}; {_difference(found[first], found[SENSITIVITY])}."
    if chance is not None:
        has = _mean(chance) if chance["error"] else number(chance["mean"])
        level = [name for name in ranked if found[name]["mean"] <= chance["mean"] or _apart(found[name], chance) is False]
        if level:
            yield f"No better than a random order, which has {has}, by two standard errors: {_listed(level)}."
        else:
            whole = "Every preset" if len(ranked) > 1 else "That"
            yield f"{whole} is better than a random order, which has {has}, by more than two standard errors."


def _difference(a: Json, b: Json) -> str:
    words = {
        True: f"the difference of {number(abs(a['mean'] - b['mean']))} exceeds two standard errors",
        False: "that is within two standard errors, so these samples do not tell the two apart",
        None: "whether the difference is chance is not known",
    }
    return words[_apart(a, b)]


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
    legend = [(style(i), name) for i, name in enumerate(_names(model))] + ([(BASELINE, "random order")] if baseline else [])
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
    tables = [_compared(str(m["model"]), _names(m), METRICS, one) for m, one in zip(models, found, strict=True) if any(one)]
    text = [
        "Means over the samples ± standard error. ★ marks the best, ≈ what two standard errors of the difference do not tell "
        "from it; the presets' errors are taken as independent, which is careful, since all presets see the same samples.",
    ]
    return Section("Metrics", text, _used(METRICS, [metrics for one in found for metrics in one]), tables=tables)


def _side_by_side(models: Sequence[Json], settings: Json) -> Iterable[Section]:
    """The models beside each other, metric by metric."""
    if len(models) < 2:
        return
    tables = []
    for key in ("aopc", "abpc", "outside_inside"):
        columns = [{preset["preset"]: preset["metrics"].get(key) for preset in model["presets"]} for model in models]
        presets = dict.fromkeys(name for column in columns for name in column)
        rows = [(name, "", [Cell(_mean(column.get(name))) for column in columns]) for name in presets]
        if any(cell.text != "-" for _, _, cells in rows for cell in cells):
            tables.append(Table(METRICS[key].title, [str(model["model"]) for model in models], rows))
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
            cells = _plain((column.get(k) or {}).get("outside_inside") for column in columns)
            rows.append((str(known[k]["label"]), _count(known[k]["n"], "sample"), cells))
        if rows:
            tables.append(Table(str(model["model"]), _names(model), rows))
    if tables:
        many = max(len(table.rows) for table in tables) > FEW_CLASSES
        measures = [METRICS["outside_inside"]]
        yield Section("Relevance outside and inside of the boxes", measures=measures, tables=tables, folded=many)


# -------------------------------------------------------------------------------------------------------------------- audit


def _audit(result: Json) -> Page:
    presets, settings = result["presets"], result["settings"]
    lead = _lead(settings, len(presets))
    best = result.get("best")
    summary = [(f"{best['preset']} fares best", [str(best["why"])])] if best else []
    summary += [(str(preset["preset"]), [str(sentence) for sentence in preset["verdict"]]) for preset in presets]
    parts = [_glance(result), _preconditions(result), _roots(result), _similarity(result), _randomised(result)]
    parts += [_convergence(result), _skipped(result), _rules([result]), _settings(result, [result])]
    sections = [part for part in parts if part is not None]
    title = f"Audit of the explanations of {result['model']}"
    return Page(title, lead, summary, sections, _grids(result, [result]))


def _glance(result: Json) -> Section:
    """One number for each part of the audit."""
    found = [_headlines(preset) for preset in result["presets"]]
    return Section(
        "The presets side by side",
        ["★ marks the best of a row. The sections below have the numbers behind these."],
        _used(GLANCE, found),
        tables=[_compared("", _names(result), GLANCE, found)],
    )


def _headlines(preset: Json) -> dict[str, float | None]:
    """The numbers of ``GLANCE`` that this preset has."""
    roots = [root for root in preset.get("roots") or [] if root["passes"] is not None and root["neurons"]]
    similarity = preset.get("similarity") or {}
    cascading = preset.get("cascading") or []
    starts = preset.get("convergence") or []
    arrived = [telling[-1] for start in starts if (telling := [r for r in start["layers"] if (r["random"] or 0) < CHANCE])]
    neurons = sum(root["neurons"] for root in roots)
    last = cascading[-1] if cascading else {}
    found = {
        "passes": sum(root["passes"] * root["neurons"] for root in roots) / neurons if neurons else None,
        "classes": (preset.get("class_sensitivity") or {}).get("cosine"),
        "randomised": last.get("ssim") if last.get("ssim") is not None else last.get("spearman"),
        "convergence": _gap(arrived[0]["cosine"]) if arrived else None,
        "gradient": (similarity.get("gradient-x-input") or {}).get("cosine"),
        "sensitivity": (similarity.get(SENSITIVITY) or {}).get("cosine"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _preconditions(result: Json) -> Section | None:
    """What deep Taylor decomposition takes for granted."""
    presets = [preset for preset in result["presets"] if preset.get("preconditions")]
    found = [preset["preconditions"] for preset in presets]
    if not found:
        return None
    table = _compared("", [preset["preset"] for preset in presets], PRECONDITIONS, found)
    text = "What deep Taylor decomposition takes for granted, as shares that fail it: 0 is as the theory has it."
    return Section("Preconditions", [text], _used(PRECONDITIONS, found), tables=[table])


def _roots(result: Json) -> Section | None:
    """Where the root points lie."""
    tables = []
    for preset in result["presets"]:
        rows = []
        for root in preset.get("roots") or []:
            small_print = f"{root['rule']}, {_count(root['neurons'], 'neuron')}"
            rows.append((str(root["layer"]), small_print, _plain(root.get(name) for name in ROOTS)))
        if rows:
            tables.append(Table(str(preset["preset"]), [measure.title for measure in ROOTS.values()], rows))
    if not tables:
        return None
    text = (
        "A rule of deep Taylor decomposition stands for a root point of each neuron. These are the shares of the root points "
        "that lie where the theory has them."
    )
    return Section("Root points", [text], list(ROOTS.values()), tables=tables)


def _similarity(result: Json) -> Section | None:
    """How like other heatmaps a preset's are."""
    pairs = {"gradient-x-input": "gradient × input", SENSITIVITY: "sensitivity", "classes": "another class"}
    columns = [{**(p.get("similarity") or {}), "classes": p.get("class_sensitivity")} for p in result["presets"]]
    rows = []
    for key, title in pairs.items():
        for name, measure in ALIKE.items():
            values = [(column.get(key) or {}).get(name) for column in columns]
            if any(value is not None for value in values):
                rows.append((title, measure.title, _plain(values)))
    if not rows:
        return None
    text = (
        "A heatmap that is like gradient × input says no more than that does; one that is like the heatmap of another class "
        "does not depend on the class. Means over the samples."
    )
    used = _used(ALIKE, [column.get(key) for column in columns for key in pairs])
    return Section("Likeness to other heatmaps", [text], used, tables=[Table("", _names(result), rows)])


RANDOMISED = {"cascading": "from the top layer down to this one", "independent": "this layer alone"}


def _randomised(result: Json) -> Section | None:
    """What is left of a heatmap when weights are random."""
    presets = [preset for preset in result["presets"] if preset.get("cascading") or preset.get("independent")]
    if not presets:
        return None
    numbers = [layer for preset in presets for kind in RANDOMISED for layer in preset.get(kind) or []]
    shown = next((key for key in ("ssim", "spearman") if any(layer.get(key) is not None for layer in numbers)), "ssim")
    charts = []
    for kind, title in RANDOMISED.items():
        lines = [(i, [layer.get(shown) for layer in p.get(kind) or []]) for i, p in enumerate(result["presets"])]
        drawn: list[Line] = [(style(i), range(1, len(ys) + 1), ys) for i, ys in lines if len(ys) > 1]
        if drawn:
            least = min((y for _, _, ys in drawn for y in ys if y is not None), default=0.0)
            limits = (min(-0.05, least - 0.05), 1.05)
            charts.append(chart(f"Random: {title}", drawn, "layer, as numbered below", ALIKE[shown].title, limits, whole=True))
    text = (
        "Weights are replaced by random ones, and the heatmap is compared with that of the trained model. Where it stays the "
        "same, it does not depend on what those layers have learned."
    )
    legend = [(style(i), preset["preset"]) for i, preset in enumerate(result["presets"]) if preset in presets]
    tables = [_randomised_table(preset) for preset in presets]
    return Section("Random weights", [text], _used(ALIKE, numbers), legend, charts, tables)


def _randomised_table(preset: Json) -> Table:
    """The similarities of one preset, layer by layer."""
    kinds = {kind: {layer["layer"]: layer for layer in preset.get(kind) or []} for kind in RANDOMISED}
    measures = [name for name in ALIKE if any(name in layer for found in kinds.values() for layer in found.values())]
    columns = [f"{kind}: {ALIKE[name].title}" for kind in kinds for name in measures]
    rows = [
        (f"{i}. {layer}", "", _plain((found.get(layer) or {}).get(name) for found in kinds.values() for name in measures))
        for i, layer in enumerate(dict.fromkeys(layer for found in kinds.values() for layer in found), 1)
    ]
    return Table(str(preset["preset"]), columns, rows)


def _convergence(result: Json) -> Section | None:
    """Whether what is above still matters below."""
    presets = [preset for preset in result["presets"] if preset.get("convergence")]
    if not presets:
        return None
    starts = list(dict.fromkeys(str(start["start"]) for preset in presets for start in preset["convergence"]))
    drawn, tables = {}, []
    for preset in presets:
        found = {str(start["start"]): {layer["layer"]: layer for layer in start["layers"]} for start in preset["convergence"]}
        longest = max(found.values(), key=len)
        layers = _merged([longest, *found.values()])
        columns = [[_gap(one.get(layer, {}).get("cosine")) for layer in layers] for one in found.values()]
        columns.append([_gap(longest.get(layer, {}).get("random")) for layer in layers])
        rows = [(f"{i + 1}. {layer}", "", _plain(column[i] for column in columns)) for i, layer in enumerate(layers)]
        headings = [*(f"{GAP}, from {start}" for start in found), "random vectors"]
        tables.append(Table(str(preset["preset"]), headings, rows))
        if len(layers) > 1:
            kinds = [*(style(starts.index(start)) for start in found), BASELINE]
            drawn[str(preset["preset"])] = dict(zip(kinds, columns, strict=True))
    charts = _falling(drawn)
    text = (
        "Random relevance is put in at an upper layer, several times, and followed down. Where "
        f"{GAP} of what arrives "
        "falls towards zero, all of it arrives as the same picture, and the layers above have no say any more. Random vectors "
        "show what no relation looks like."
    )
    legend = [*((style(i), f"from {start}") for i, start in enumerate(starts)), (BASELINE, "random vectors")]
    return Section("Convergence of relevance", [text], legend=legend, charts=charts, tables=tables)


def _merged(orders: Sequence[Iterable[str]]) -> list[str]:
    """The layers of all lists from the top down, in an order that suits each of them."""
    merged: list[str] = []
    for order in orders:
        place = len(merged)
        for layer in reversed(list(order)):
            if layer in merged:
                place = merged.index(layer)
            else:
                merged.insert(place, layer)
    return merged


def _gap(cosine: float | None) -> float | None:
    """How far a cosine is from 1."""
    return None if cosine is None else 1 - cosine


def _falling(drawn: Mapping[str, Mapping[int, Sequence[float | None]]]) -> list[Chart]:
    """1 - cosine over the layers, a chart for each preset with its lines by their style, on one logarithmic axis for all."""
    known = [max(v, FLOOR) for columns in drawn.values() for values in columns.values() for v in values if v is not None]
    limits = (10 ** math.floor(math.log10(min(known, default=1.0))) / 1.5, 1.5)
    charts = []
    for preset, columns in drawn.items():
        lines = [
            (kind, range(1, len(values) + 1), [None if v is None else max(v, FLOOR) for v in values])
            for kind, values in columns.items()
        ]
        charts.append(chart(preset, lines, "layer, as numbered below", GAP, limits, whole=True, logarithmic=True))
    return charts
