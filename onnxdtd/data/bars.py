"""Feature vectors, and their relevance as bars."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from onnxdtd.data.features import Described, unnamed
from onnxdtd.data.look import Scene, shortened
from onnxdtd.data.scale import colours, symmetric

MANY = 20  # bars whose names have to be small
REST = "0.6"  # the colour of a sum of many
LONG = 44  # letters of a name with its value


class Bar(NamedTuple):
    """A bar with its name; ``below``: it is a part of the one above."""

    name: str
    share: float
    colour: Any
    below: bool = False


def size(scene: Scene) -> tuple[float, float]:
    """The size of a figure."""
    count = len(scene.maps)
    return 4.4 + 2.6 * count, max(2.9, 1.5 + 0.35 * (count > 1) + 0.24 * len(list(_bars(scene, scene.relevance))))


def bars(figure: FigureBase, scene: Scene) -> None:
    """[n]: a bar for each of the features with most relevance, the largest above, and one for the sum of the others. Several
    heatmaps stand beside each other, of the same features.
    """
    count = len(scene.maps)
    several = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    totals = [float(np.abs(relevance).sum(dtype=np.float64)) for relevance in scene.maps.values()]
    drawn = [list(_bars(scene, relevance)) for relevance in scene.maps.values()]
    ends = [max((abs(bar.share) for bar in shown), default=0.0) for shown in drawn]
    if scene.look.scale == "shared":
        share = max(end / (total or 1.0) for end, total in zip(ends, totals, strict=True))
        ends = [share * total for total in totals]
    for axes, (title, relevance), shown, end in zip(several, scene.maps.items(), drawn, ends, strict=True):
        _draw(axes, scene, relevance, shown, end)
        if count > 1:
            axes.set_title(textwrap.fill(title, 32, replace_whitespace=False), fontsize=9, parse_math=False)
    several[0].invert_yaxis()


def _draw(axes: Axes, scene: Scene, relevance: np.ndarray, shown: Sequence[Bar], end: float) -> None:
    """The bars of one heatmap, on an axis that reaches to ``end``."""
    places, shares = np.arange(len(shown)), np.array([bar.share for bar in shown])
    axes.barh(places, shares, [0.4 if bar.below else 0.8 for bar in shown], color=[bar.colour for bar in shown])
    axes.set_yticks(places, [bar.name for bar in shown], fontsize=9 if len(shown) <= MANY else 7, parse_math=False)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.tick_params("x", labelsize=8)
    sums = _described(scene).features.sums(relevance)
    all_shown = np.count_nonzero(sums) <= scene.look.features
    rest = ", that of the others is 0" if sums.any() and all_shown and not sums.all() and len(scene.maps) == 1 else ""
    axes.set_xlabel(f"relevance{rest}", fontsize=9)
    symmetric(axes, shares, vertical=False, end=end)


def _described(scene: Scene) -> Described:
    """The features, which may have no names."""
    return scene.features or Described(unnamed(scene.x.size), scene.x)


def _bars(scene: Scene, heatmap: np.ndarray) -> Iterator[Bar]:
    """From above: of features without any relevance there are none, where others have some. The largest are those of all
    heatmaps, as shares of each.
    """
    sample = _described(scene)
    every = [sample.features.sums(relevance) for relevance in scene.maps.values()]
    totals = [float(np.abs(sums).sum()) or 1.0 if len(every) > 1 else 1.0 for sums in every]
    sizes = np.max([np.abs(sums) / total for sums, total in zip(every, totals, strict=True)], axis=0)
    relevance, sums = heatmap.ravel(), sample.features.sums(heatmap)
    tints = colours(sums)
    order = np.argsort(-sizes, kind="stable")
    count = min(scene.look.features, max(int(np.count_nonzero(sizes)), 1))
    for i in order[:count].tolist():
        yield Bar(shortened(sample.said(i), LONG), sums[i], tints[i])
        below = sample.features.below(i) if scene.look.terms else []
        for entry in below if len(below) > 1 else []:
            if any(values.ravel()[entry] for values in scene.maps.values()):
                category = sample.features.entries[entry].category.removeprefix("=")
                yield Bar(f"{shortened(category or 'missing', LONG)}  ", float(relevance[entry]), tints[i], below=True)
    if any(values[order[count:]].any() for values in every):
        yield Bar(f"the other {sums.size - count}", sums[order[count:]].sum(), REST)
