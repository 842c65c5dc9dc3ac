"""What a page is made of, and the parts that evaluations and audits have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from onnxdtd.data.readings import CUT, PADDING, PLAIN, SPECIAL, TOKEN, Stretch, is_dark, tints
from onnxdtd.report.charts import Chart
from onnxdtd.study.audit.verdict import Parted
from onnxdtd.study.measures import BADNESS, SETTINGS, Measure
from onnxdtd.study.words import counted, mean_text, number, said

Json = Mapping[str, Any]
Pairs = Mapping[Any, bool | None]  # see ``onnxdtd.tally.told``

FEW_SKIPPED = 100
SHORT = 12  # rows of a table that is not folded
SENSITIVITY = "sensitivity"


# ------------------------------------------------------------------------------------------------------ what a page is made of


@dataclass(frozen=True)
class Cell:
    """A number: the ``best`` of its row, one not told from it (``near``), or a difference beyond chance (``told``). Words:
    ``passed`` and ``failed``, a ``count``, or ``code``.
    """

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Cells with their headings; a row is its heading, the small print below that, and its cells. ``words``: no numbers. It
    folds, and is folded where it is long, or as ``shown`` says.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[Cell]]]
    words: bool = False
    shown: bool | None = None

    @property
    def open(self) -> bool:
        """Is it shown before anybody asks?"""
        return len(self.rows) <= SHORT if self.shown is None else self.shown


@dataclass(frozen=True)
class Grid:
    """Samples and their heatmaps, one for each preset, given as (heading, name of the heatmap)."""

    caption: str
    columns: Sequence[tuple[str, str]]
    samples: Sequence[Json]


@dataclass(frozen=True)
class Section:
    """A part of the page. ``legend`` names the lines of the charts, or the parts of their bars where they are ``stacked``, with
    their styles; ``folded`` hides it behind its title.
    """

    title: str
    text: Sequence[str] = ()
    measures: Sequence[Measure] = ()
    legend: Sequence[tuple[int, str]] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    folded: bool = False
    stacked: bool = False


@dataclass(frozen=True)
class Piece:
    """A piece of a text in an element, none where that is empty, with what is said when it is pointed at, and its style."""

    element: str
    text: str
    said: str = ""
    style: str = ""


@dataclass(frozen=True)
class Marked:
    """An explained text: its name, what was predicted, sums, notes, all of it in pieces, and words with
    what is said of them, below headings.
    """

    name: str
    head: str
    sums: str
    notes: Sequence[str]
    pieces: Sequence[Piece]
    words: Sequence[tuple[str, Sequence[tuple[str, str]]]]


@dataclass(frozen=True)
class Page:
    """Everything that the template lays out: title, a line below it, summaries as (heading, sentences or findings), pictures,
    sections, explained texts. ``remark`` is said of the colours of heatmaps. What is filed is dark on ``paper``; ``bad``: it
    is bad news.
    """

    title: str
    lead: str
    summary: Sequence[tuple[str, Sequence[str] | Sequence[Parted]]]
    sections: Sequence[Section]
    grids: Sequence[Grid]
    texts: Sequence[Marked] = ()
    remark: str = ""
    paper: bool = False
    bad: bool = False

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Every part of it, by the name that the page has for it."""
        shown = [("relevant", "What was relevant")] if self.grids or self.texts else []
        return shown + [(f"part{i}", section.title) for i, section in enumerate(self.sections, 1)]


# ------------------------------------------------------------------------------------------------------------------- tables


def marks(names: Sequence[str], values: Sequence[Json | None], key: str, best: str, pairs: Pairs) -> list[str]:
    """For a row of means: the best of them, and those that paired differences do not tell from it; nothing if that is all."""
    badness = {n: BADNESS[best](v["mean"]) for n, v in zip(names, values, strict=True) if v and v["mean"] is not None}
    if len(badness) < 2:
        return [""] * len(names)
    first = min(badness, key=lambda name: badness[name])
    level = {name for name in badness if name == first or not pairs.get((key, frozenset((first, name))))}
    if len(level) == len(badness):
        return [""] * len(names)
    return ["best" if name == first else "near" if name in level else "" for name in names]


def plain(values: Iterable[float | None]) -> list[Cell]:
    """A row of numbers without errors."""
    return [Cell(number(value)) for value in values]


def compared(
    caption: str, columns: Sequence[str], measures: Mapping[str, Measure], found: Sequence[Json | None], pairs: Pairs = {}
) -> Table:
    """One row a measure, one column for each dictionary of ``found``; ``pairs`` says what paired differences tell apart."""
    rows = []
    for name, measure in measures.items():
        values = [None if one is None else one.get(name) for one in found]
        if any(value is not None for value in values):
            means = [value if isinstance(value, Mapping) else {"mean": value} for value in values]
            shown = marks(columns, means, name, measure.best, pairs) if measure.best in BADNESS and pairs else [""] * len(means)
            cells = [Cell(mean_text(mean), mark) for mean, mark in zip(means, shown, strict=True)]
            rows.append((measure.head, measure.best, cells))
    return Table(caption, columns, rows)


def grids(result: Json, models: Sequence[Json]) -> list[Grid]:
    """The pictures, model by model: where there are several, "model: preset" names a heatmap, the model without its suffix."""
    samples = [one for one in _pictured(result) if one["input"] is not None]
    found = []
    for model in models if samples else ():
        prefix = f"{Path(model['model']).stem}: " if len(models) > 1 else ""
        logits = [(one.get("logits") or {}).get(str(model["model"])) for one in samples]
        said = [{**one, "said": _class(one["class"], z)} for one, z in zip(samples, logits, strict=True)]
        found.append(Grid(str(model["model"]) if prefix else "", [(name, prefix + name) for name in names(model)], said))
    return found


def _pictured(result: Json) -> Sequence[Json]:
    """The samples that the page shows."""
    found: Sequence[Json] = (result.get("pictures") or {}).get("samples", [])
    return found


def _class(label: str, logit: float | None) -> str:
    """What is explained of a sample."""
    return label if logit is None else f"{label}, logit {number(logit)}{' (negative)' if logit < 0 else ''}"


def signs(result: Json) -> str:
    """What to know of the pictures: how many there are, and of their colours."""
    shown, samples = len(_pictured(result)), result["settings"]["samples"]
    some = f"{counted(shown, 'sample')} of {samples} {'is' if shown == 1 else 'are'} shown." if 0 < shown < samples else ""
    colours = below([z for one in _pictured(result) for z in (one.get("logits") or {}).values()])
    return " ".join(filter(None, (some, colours)))


def below(logits: Iterable[float | None]) -> str:
    """What to know of colours where an explained logit is negative; nothing where none is."""
    known = [z for z in logits if z is not None]
    count = sum(z < 0 for z in known)
    if not count:
        return ""
    are = "is" if count == 1 else "are"
    many = "The explained logit is" if len(known) == 1 else f"{count} of {len(known)} explained logits {are}"
    return (
        f"{many} negative, and relevance adds up to that: such heatmaps have more blue than red. Under a preset that gives one "
        "sign alone, as dtd does, all of it is blue. Blue is then where the score comes from, not evidence against the class."
    )


def passages(result: Json) -> list[Marked]:
    """The texts among the pictures, each once for every preset, below the name that it has the first time."""
    samples = [one for one in _pictured(result) if one["input"] is None]
    said = [_class(one["class"], next(iter((one.get("logits") or {}).values()), None)) for one in samples]
    return [
        Marked("" if i else one["name"], "" if i else head, preset, [], pieces([Stretch(**s) for s in heatmap]), [])
        for one, head in zip(samples, said, strict=True)
        for i, (preset, heatmap) in enumerate(one["heatmaps"].items())
    ]


def pieces(found: Sequence[Stretch]) -> list[Piece]:
    """A text in pieces, each in the colour of its relevance."""
    return [_piece(stretch, tint) for stretch, tint in zip(found, tints(found), strict=False)]


def _piece(stretch: Stretch, tint: np.ndarray) -> Piece:
    """A stretch as the page has it."""
    said = f"{stretch.relevance:+.4g} ({abs(stretch.share):.1%})"
    if stretch.kind == TOKEN:
        colour = f"background:{to_hex(tuple(tint))};color:{'#fff' if is_dark(tint) else '#000'}"
        return Piece("mark", stretch.text, said, colour)
    if stretch.kind in (SPECIAL, PADDING):
        return Piece("small", f"{stretch.text} {stretch.relevance:+.2g}".strip(), said)
    return Piece({CUT: "del", PLAIN: ""}[stretch.kind], stretch.text, "left out" if stretch.kind == CUT else "")


def names(result: Json) -> list[str]:
    """Of the presets."""
    return [str(preset["preset"]) for preset in result["presets"]]


def used(measures: Mapping[str, Measure], found: Iterable[Json | None]) -> list[Measure]:
    """The measures that some dictionary of ``found`` has."""
    some = {name for one in found if one for name in one}
    return [measure for name, measure in measures.items() if name in some]


def rules(models: Sequence[Json]) -> Section:
    """The rule of every layer under every preset."""
    tables = []
    for model in models:
        nodes = dict.fromkeys(node for preset in model["presets"] for node in preset["rules"])
        rows = [(node, "", [Cell(preset["rules"].get(node, "-")) for preset in model["presets"]]) for node in nodes]
        tables.append(Table(str(model["model"]), names(model), rows, words=True))
    derived = any(not preset["rules"] for model in models for preset in model["presets"])
    text = ["Presets without rules are derivatives of the score."] if derived else []
    return Section("The rule of every layer", text, tables=[table for table in tables if table.rows], folded=True)


def settings_section(result: Json, models: Sequence[Json]) -> Section:
    """How it was measured, on what."""
    words = [(SETTINGS.get(key, key), "", [Cell(said(value))]) for key, value in result["settings"].items()]
    tables = [Table("What was chosen", ["value"], words, words=True)]
    if "provenance" not in result:
        tables.append(Table("", ["SHA-256"], [(str(m["model"]), "", [Cell(str(m["sha256"]))]) for m in models], words=True))
    return Section("Settings", [f"Measured by onnxdtd {result['version']}."], tables=tables)


def skipped(result: Json) -> Section | None:
    """The samples that nothing was measured on, and why."""
    samples = result.get("skipped") or []
    if not samples:
        return None
    rows = [(str(one["name"]), "", [Cell(str(one["reason"]))]) for one in samples[:FEW_SKIPPED]]
    text = [f"{counted(len(samples), 'sample')} left out of every number on this page."]
    if len(samples) > FEW_SKIPPED:
        text.append(f"The first {FEW_SKIPPED} are listed; the JSON has all of them.")
    return Section("Skipped samples", text, tables=[Table("Samples", ["reason"], rows, words=True)])


def lead_line(settings: Json, presets: int) -> str:
    """On what was measured, in short."""
    data = f" of {settings['data']}" if settings.get("data") else ""
    return f"{counted(settings['samples'], 'sample')}{data}, {counted(presets, 'preset')}"


def explained(classes: int | None) -> str:
    """What an audit explains."""
    return "explained is its only score" if classes == 1 else "explained is the class that it predicts"


def copies(count: int, n: int) -> Iterator[str]:
    """What to know where samples are not independent."""
    if count:
        are = "is a copy of another" if count == 1 else "are copies of others"
        yield f"{count} of {counted(n, 'sample')} {are}, and standard errors take them for independent ones."
