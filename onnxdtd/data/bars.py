"""Feature vectors, and their relevance as bars."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import FigureBase

from onnxdtd.data.look import Scene
from onnxdtd.data.scale import colours, symmetric

FEW_FEATURES = 40


def bars(figure: FigureBase, scene: Scene) -> None:
    """[n]: a bar for each of the entries with most relevance, in their order."""
    axes, features = figure.subplots(), scene.features
    values, shares = scene.x.ravel(), scene.relevance.ravel()
    order = np.argsort(-np.abs(shares), kind="stable")[:FEW_FEATURES]
    there = np.count_nonzero(shares)
    if features and 0 < there < len(order) < shares.size:  # of a vocabulary few terms are in a text
        order = order[:there]
    order = np.sort(order)[::-1]
    names = [f"{features[i] if features else f'feature {i}'} = {values[i]:.4g}" for i in order]
    axes.barh(names, shares[order], color=colours(shares[order]))
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.tick_params(labelsize=9 if len(order) <= 15 else 6)
    rest = "that of the others is 0" if len(order) == there else f"the {len(order)} largest of {shares.size}"
    axes.set_xlabel("relevance" + (f" ({rest})" if len(order) < shares.size else ""))
    symmetric(axes, shares, vertical=False)
