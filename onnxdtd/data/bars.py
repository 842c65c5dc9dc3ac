"""Feature vectors, and their relevance as bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import FigureBase

from onnxdtd.data.features import Described, unnamed
from onnxdtd.data.look import Scene
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
    return 7.0, max(2.9, 1.5 + 0.24 * len(list(_bars(scene))))


def bars(figure: FigureBase, scene: Scene) -> None:
    """[n]: a bar for each of the features with most relevance, the largest above, and one for the sum of the others."""
    axes, shown = figure.subplots(), list(_bars(scene))
    places, shares = np.arange(len(shown)), np.array([bar.share for bar in shown])
    axes.barh(places, shares, [0.4 if bar.below else 0.8 for bar in shown], color=[bar.colour for bar in shown])
    axes.set_yticks(places, [bar.name for bar in shown], fontsize=9 if len(shown) <= MANY else 7, parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.tick_params("x", labelsize=8)
    sums = _described(scene).features.sums(scene.relevance)
    all_shown = np.count_nonzero(sums) <= scene.look.features
    rest = ", that of the others is 0" if sums.any() and all_shown and not sums.all() else ""
    axes.set_xlabel(f"relevance{rest}", fontsize=9)
    symmetric(axes, shares, vertical=False)


def _described(scene: Scene) -> Described:
    """The features, which may have no names."""
    return scene.features or Described(unnamed(scene.x.size), scene.x)


def _bars(scene: Scene) -> Iterator[Bar]:
    """From above: of features without any relevance there are none, where others have some."""
    sample = _described(scene)
    relevance, sums = scene.relevance.ravel(), sample.features.sums(scene.relevance)
    tints = colours(sums)
    order = np.argsort(-np.abs(sums), kind="stable")
    count = min(scene.look.features, max(int(np.count_nonzero(sums)), 1))
    for i in order[:count].tolist():
        yield Bar(shortened(sample.said(i)), sums[i], tints[i])
        below = sample.features.below(i) if scene.look.terms else []
        for entry in below if len(below) > 1 else []:
            if relevance[entry]:
                category = sample.features.entries[entry].category.removeprefix("=")
                yield Bar(f"{shortened(category or 'missing')}  ", float(relevance[entry]), tints[i], below=True)
    if sums[order[count:]].any():
        yield Bar(f"the other {sums.size - count}", sums[order[count:]].sum(), REST)


def shortened(name: str, most: int = LONG) -> str:
    """A name that leaves room for bars.

    >>> shortened("worst fractal dimension", 16)
    'worst  ... nsion'
    """
    return name if len(name) <= most else f"{name[: most // 2 - 2]} ... {name[-(most // 2 - 3) :]}"
