"""The page of an audit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from onnxdtd.report.charts import BASELINE, Chart, Line, chart, style
from onnxdtd.report.page import (
    SENSITIVITY,
    Json,
    Page,
    Section,
    Table,
    compared,
    copies,
    explained,
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
from onnxdtd.study.audit.choice import standing
from onnxdtd.study.audit.limits import CHANCE
from onnxdtd.study.audit.measurements import GLANCE
from onnxdtd.study.audit.preconditions import PRECONDITIONS
from onnxdtd.study.audit.roots import ROOTS
from onnxdtd.study.audit.similarity import ALIKE
from onnxdtd.study.audit.verdict import Parted, parted
from onnxdtd.study.tally import told
from onnxdtd.study.words import conjoined, counted, rightness

GAP = "1\u00a0−\u00a0cosine"
FLOOR = 1e-8  # where that ends on a logarithmic axis


def audit_page(result: Json) -> Page:
    """From the JSON of `audit`."""
    presets, settings = result["presets"], result["settings"]
    lead = lead_line(settings, len(presets))
    headline, why = standing(result["best"])
    right = f"The model is right {rightness(result['right'], result['labelled'])} "
    of = explained(result.get("classes"))
    known = f"{right if result.get('labelled') else ''}{of[0].upper()}{of[1:]}."
    summary: list[tuple[str, Sequence[str] | Sequence[Parted]]] = [
        (headline.removesuffix("."), [*why, known, *copies(result["copies"], settings["samples"])])
    ]
    summary += [("This audit was a quick one", list(result["shortened"]))] if result.get("shortened") else []
    summary += [(str(preset["preset"]), [parted(str(sentence)) for sentence in preset["verdict"]]) for preset in presets]
    parts = [_glance(result), _preconditions(result), _roots(result), _similarity(result), _randomised(result)]
    parts += [_convergence(result), skipped(result), rules([result]), settings_section(result, [result]), sources(result)]
    sections = [part for part in parts if part is not None]
    title = f"Audit of the explanations of {result['model']}"
    return Page(title, lead, summary, sections, grids(result, [result]), passages(result), signs(result))


def _glance(result: Json) -> Section:
    """One number for each part of the audit."""
    found = [{name: n for name, row in GLANCE.items() if (n := row.of(preset)) is not None} for preset in result["presets"]]
    return Section(
        "The presets side by side",
        [
            "Means over the samples ± standard error, where there are several. ★ marks the best mean of a row, ≈ what paired "
            "differences do not tell from it (Student's t at 95 %); nothing is marked where no difference is more than chance, "
            "or where it is not known. The sections below have the numbers behind these."
        ],
        used(GLANCE, found),
        tables=[compared("Means", names(result), GLANCE, found, told(result["differences"]))],
    )


def _preconditions(result: Json) -> Section | None:
    """What deep Taylor decomposition takes for granted."""
    presets = [preset for preset in result["presets"] if preset.get("preconditions")]
    found = [preset["preconditions"] for preset in presets]
    if not found:
        return None
    table = compared("Shares that fail", [preset["preset"] for preset in presets], PRECONDITIONS, found)
    text = "What deep Taylor decomposition takes for granted, as shares that fail it: 0 is as the theory has it."
    return Section("Preconditions", [text], used(PRECONDITIONS, found), tables=[table])


def _roots(result: Json) -> Section | None:
    """Where the root points lie."""
    tables = []
    for preset in result["presets"]:
        rows = []
        for root in preset.get("roots") or []:
            small_print = f"{root['rule']}, {counted(root['neurons'], 'neuron')}"
            rows.append((str(root["layer"]), small_print, plain(root.get(name) for name in ROOTS)))
        if rows:
            tables.append(Table(str(preset["preset"]), [measure.head for measure in ROOTS.values()], rows))
    if not tables:
        return None
    text = (
        "A rule of deep Taylor decomposition stands for a root point of each neuron. These are the shares of the root points "
        "that lie where the theory has them."
    )
    return Section("Root points", [text], list(ROOTS.values()), tables=tables)


def _similarity(result: Json) -> Section | None:
    """How like other heatmaps a preset's are."""
    pairs = {"gradient-x-input": "gradient × input", SENSITIVITY: "sensitivity", "classes": "another class, signs aside"}
    columns = [{**(p.get("similarity") or {}), "classes": p.get("class_sensitivity")} for p in result["presets"]]
    rows = []
    for key, title in pairs.items():
        for name, measure in ALIKE.items():
            values = [(column.get(key) or {}).get(name) for column in columns]
            if any(value is not None for value in values):
                rows.append((title, measure.title, plain(values)))
    if not rows:
        return None
    text = (
        "A heatmap that is like gradient × input says no more than that does; one that is like the heatmap of another class "
        "does not depend on the class. Means over the samples."
    )
    measures = used(ALIKE, [column.get(key) for column in columns for key in pairs])
    return Section("Likeness to other heatmaps", [text], measures, tables=[Table("Means", names(result), rows)])


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
        if any(y is not None for _, _, ys in drawn for y in ys):
            least = min((y for _, _, ys in drawn for y in ys if y is not None), default=0.0)
            limits = (min(-0.05, least - 0.05), 1.05)
            charts.append(chart(f"Random: {title}", drawn, "layer, as numbered below", ALIKE[shown].title, limits, whole=True))
    text = (
        "Weights are replaced by random ones, and the heatmap is compared with that of the trained model, signs aside. Where "
        "it stays the same, it does not depend on what those layers have learned."
    )
    legend = [(style(i), preset["preset"]) for i, preset in enumerate(result["presets"]) if preset in presets]
    tables = [_randomised_table(preset) for preset in presets]
    return Section("Random weights", [text], used(ALIKE, numbers), legend, charts, tables)


def _randomised_table(preset: Json) -> Table:
    """The similarities of one preset, layer by layer."""
    kinds = {kind: {layer["layer"]: layer for layer in preset.get(kind) or []} for kind in RANDOMISED}
    measures = [name for name in ALIKE if any(name in layer for found in kinds.values() for layer in found.values())]
    columns = [f"{kind}: {ALIKE[name].title}" for kind in kinds for name in measures]
    rows = [
        (f"{i}. {layer}", "", plain((found.get(layer) or {}).get(name) for found in kinds.values() for name in measures))
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
    alike: set[str] = set()
    for preset in presets:
        found = {str(start["start"]): {layer["layer"]: layer for layer in start["layers"]} for start in preset["convergence"]}
        longest = max(found.values(), key=len)
        layers = _merged([longest, *found.values()])
        short = {layer for layer in layers if longest.get(layer, {}).get("random", 0.0) >= CHANCE}
        alike |= short
        columns = [[_gap(one.get(layer, {}).get("cosine")) for layer in layers] for one in found.values()]
        columns.append([_gap(longest.get(layer, {}).get("random")) for layer in layers])
        rows = [(f"{i + 1}. {layer}", "", plain(column[i] for column in columns)) for i, layer in enumerate(layers)]
        headings = [*(f"{GAP}, from {start}" for start in found), "random vectors"]
        tables.append(Table(str(preset["preset"]), headings, rows))
        if len(layers) > 1:
            kinds = [*(style(starts.index(start)) for start in found), BASELINE]
            curves = [[None if layer in short else v for layer, v in zip(layers, c, strict=True)] for c in columns]
            drawn[str(preset["preset"])] = dict(zip(kinds, curves, strict=True))
    charts = _falling(drawn)
    text = (
        "Random relevance is put in at an upper layer, several times, and followed down. Where "
        f"{GAP} of what arrives "
        "falls towards zero, all of it arrives as the same pattern, in convolutions as the same mix of channels at each "
        "position, and the layers above have no say in that any more. Random vectors show what no relation looks like."
    )
    if alike:
        text += f" At {conjoined(sorted(alike))} vectors are so short that random ones are alike too: nothing is told there."
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
