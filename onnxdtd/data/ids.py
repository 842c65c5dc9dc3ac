"""Ids and bytes in rows, on the colours of their relevance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import FigureBase

from onnxdtd.data.look import Scene
from onnxdtd.data.scale import Scale, shown

FEW_IDS, WIDTH_OF_IDS = 1024, 16  # more than so many are colours alone
FEW_BYTES, WIDTH_OF_BYTES = 8192, 64
SIGNS = {9: "→", 10: "↵", 13: "←", 32: "·"}


def size(width: int, scene: Scene) -> tuple[float, float]:
    """That of a figure with ids in rows of ``width``."""
    return 9.2, round(min(1.6 + 0.22 * -(-scene.x.size // width), 24.0), 1)


def ids(widest: int, most: int, word: Callable[[int], str]) -> Callable[[FigureBase, Scene], None]:
    """Ids in rows of ``widest``, each as a ``word`` on the colour of its relevance; of more than ``most`` the colours alone."""

    def draw(figure: FigureBase, scene: Scene) -> None:
        axes, x, shares = figure.subplots(), scene.x, scene.relevance.ravel()
        width = min(widest, shares.size)
        rows = -(-shares.size // width)
        grid = np.full(rows * width, np.nan)
        grid[: shares.size] = shares
        scale = Scale.of(shares)
        shown(axes, grid.reshape(rows, width), scale.limit, aspect="auto")
        for place, (value, share) in enumerate(zip(x.ravel(), shares, strict=True) if x.size <= most else ()):
            dark = "white" if abs(share) > 0.5 * scale.limit else "0.25"
            axes.text(
                place % width,
                place // width,
                word(int(value)),
                ha="center",
                va="center",
                fontsize=7,
                color=dark,
                parse_math=False,
            )
        axes.set_yticks(
            range(0, rows, -(-rows // 24)), [str(row * width) for row in range(0, rows, -(-rows // 24))], fontsize=7
        )
        axes.set(xticks=[], ylabel="position")
        scale.bar(figure, "relevance,", ax=axes, shrink=0.8)

    return draw


def letter(byte: int) -> str:
    """A byte as it is read: its letter, a sign for what ends lines and what fills them, nothing for all that cannot be read."""
    return SIGNS.get(byte, chr(byte) if 32 < byte < 127 else "")
