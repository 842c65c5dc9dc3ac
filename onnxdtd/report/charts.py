"""Line charts as SVG inside a page: words as text, colours those of the page, nothing referred to."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
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
        figure = Figure(figsize=(5, 3.2), dpi=72)
        axes = figure.add_axes((0.17, 0.15, 0.82, 0.82))
        for kind, places, values in lines:
            colour, _, dashes = LINES[kind]
            points = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
            look: Any = {"linestyle": (0, dashes) if dashes else "-", "linewidth": 2}
            if len(points) == 1:  # a dot: no length, round ends
                points, look = points * 2, {"linewidth": 7, "solid_capstyle": "round"}
            axes.plot(*zip(*points, strict=True), color=colour, clip_on=False, **look)
        axes.set_xlabel(x, color=TEXT)
        axes.set_ylabel(y, color=TEXT)
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if limits:
            axes.set_ylim(limits)
        if whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.minorticks_off()
        axes.tick_params(length=0, labelcolor=TEXT)
        axes.grid(color=GRID, linewidth=0.8, clip_on=False)
        axes.set_axisbelow(True)
        for side in axes.spines.values():
            side.set_visible(False)
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        file = io.StringIO()
        FigureCanvasSVG(figure).print_svg(file)  # not figure.savefig, which draws everything twice
    return Chart(caption, _inline(file.getvalue(), f"{caption}: {y} over {x}"))


def _inline(svg: str, label: str) -> Markup:
    """The drawing for use in a page: without prologue, date, names (which are drawn by lot), or colours of its own."""
    size = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index('<g id="figure') : svg.rindex("</svg>")]
    body = re.sub(r' id="[^"]*"| xml:space="preserve"', "", body).replace(TEXT, "currentColor").replace(GRID, "var(--grid)")
    for i, (colour, _, _) in enumerate(LINES):
        body = body.replace(colour, f"var(--line-{i})")
    opening = Markup('<svg class="chart" role="img" {} aria-label="{}">').format(Markup(size[0] if size else ""), label)
    return opening + Markup(body + "</svg>")
