"""Charts as SVG inside a page: words as text, colours those of the page, nothing referred to."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# The colours of lines, on white and on black, told apart by most colour-blind eyes, and their dashes.
COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#c2410c", "#fb923c"),
    ("#00785a", "#34d399"),
    ("#a83279", "#f0a1cb"),
    ("#7a5a00", "#facc15"),
    ("#4338ca", "#a5b4fc"),
    ("#1f2937", "#e5e7eb"),
    ("#b91c1c", "#fca5a5"),
)
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (7, 2),
    (4, 2, 1.5, 2),
    (2.5, 1.5),
    (10, 2, 2, 2, 2, 2),
    (12, 3),
    (5, 4),
    (1.5, 1, 6, 1),
)
# The styles: first that of the baseline; the second time round, colours come with other dashes.
LINES = (
    ("#6b7280", "#9ca3af", (1.5, 2.5)),
    *((*COLOURS[i % len(COLOURS)], DASHES[(i + i // len(COLOURS)) % len(DASHES)]) for i in range(2 * len(COLOURS))),
)
BASELINE = 0
OPTIONS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "lines.scale_dashes": False,
}
TEXT, GRID = "#101010", "#d0d0d0"

Line = tuple[int, Sequence[float], Sequence[float | None]]  # style, x, y


@dataclass(frozen=True)
class Chart:
    """A drawing with its caption."""

    caption: str
    svg: Markup


def style(index: int) -> int:
    """The style of the line of the ``index``-th preset."""
    return 1 + index % (len(LINES) - 1)


def chart(
    caption: str,
    lines: Sequence[Line],
    x: str,
    y: str,
    limits: tuple[float, float] | None = None,
    whole: bool = False,
    logarithmic: bool = False,
) -> Chart:
    """Lines in an SVG that takes its colours from the page. ``whole``: only whole numbers on the x axis."""
    with matplotlib.rc_context(OPTIONS):
        axes = _axes(x, y)
        for kind, places, values in lines:
            colour, _, dashes = LINES[kind]
            points = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
            look: Any = {"linestyle": (0, dashes) if dashes else "-", "linewidth": 2}
            if len(points) == 1:  # a dot: no length, round ends
                points, look = points * 2, {"linewidth": 7, "solid_capstyle": "round"}
            axes.plot(*zip(*points, strict=True), color=colour, clip_on=False, **look)
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if limits:
            axes.set_ylim(limits)
        if whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return _drawn(axes, f"{caption}: {y} over {x}", caption)


def stacks(caption: str, series: Sequence[tuple[int, Sequence[float]]], x: str, y: str) -> Chart:
    """A bar for each place, 1, 2, ..., of what ``series``, by their styles, have there: up where above 0, else down."""
    with matplotlib.rc_context(OPTIONS):
        axes = _axes(x, y)
        axes.use_sticky_edges = False  # or the longest bar hides the end of the scale
        count = len(series[0][1])
        edges = np.repeat(np.arange(1, count + 1), 2) + np.tile([-0.4, 0.4], count)  # between bars is nothing
        ends = {sign: np.zeros(len(edges) - 1) for sign in (True, False)}
        for kind, values in series:
            for sign, end in ends.items():
                part = np.zeros(len(edges) - 1)
                part[::2] = [value if (value > 0) == sign else 0.0 for value in values]
                if part.any():
                    axes.stairs(end + part, edges, baseline=end, fill=True, color=LINES[kind][0], linewidth=0, clip_on=False)
                ends[sign] = end + part
        axes.set_xlim(0.5, count + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return _drawn(axes, f"{caption}: {y} over {x}", caption)


def _axes(x: str, y: str) -> Axes:
    """Where a chart goes, in a figure of its own."""
    axes = Figure(figsize=(5, 3.2), dpi=72).add_axes((0.17, 0.15, 0.82, 0.82))
    axes.set_xlabel(x, color=TEXT)
    axes.set_ylabel(y, color=TEXT)
    return axes


def _drawn(axes: Axes, label: str, caption: str) -> Chart:
    """The chart, with a grid behind it and no frame."""
    axes.minorticks_off()
    axes.tick_params(length=0, labelcolor=TEXT)
    axes.grid(color=GRID, linewidth=0.8, clip_on=False)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    figure, file = axes.get_figure(root=True), io.StringIO()
    assert figure is not None
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    FigureCanvasSVG(figure).print_svg(file)  # not figure.savefig, which draws everything twice
    return Chart(caption, _inline(file.getvalue(), label))


def _inline(svg: str, label: str) -> Markup:
    """The drawing for use in a page: without prologue, date, names (which are drawn by lot), or colours of its own."""
    size = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index('<g id="figure') : svg.rindex("</svg>")]
    body = re.sub(r' id="[^"]*"| xml:space="preserve"', "", body).replace(TEXT, "currentColor").replace(GRID, "var(--grid)")
    for i, (colour, _, _) in enumerate(LINES):
        body = body.replace(colour, f"var(--line-{i})")
    opening = Markup('<svg class="chart" role="img" {} aria-label="{}">').format(Markup(size[0] if size else ""), label)
    return opening + Markup(body + "</svg>")
