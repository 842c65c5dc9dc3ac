"""Drawing explanations: what went in, what was relevant, and what the model said."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from onnxdtd import atomic
from onnxdtd.data.arrangement import arrangement, in_rows
from onnxdtd.data.forms import Form
from onnxdtd.errors import OnnxdtdError

DPI = 110
COLOURS = "seismic"  # white is zero, red speaks for the class, blue against it
FEW_FEATURES = 40
MANY_PIXELS = 4096
FEW_TRACES = 16
STRETCHES = 400  # of a long signal; the relevance of the steps in one is added up
FRAMES = 16  # of a long clip; the relevance of the frames between two is added up
ACROSS = 8  # frames in a row
FEW_IDS, WIDTH_OF_IDS = 1024, 16  # more than so many are colours alone
FEW_BYTES, WIDTH_OF_BYTES = 8192, 64
SIGNS = {9: "→", 10: "↵", 13: "←", 32: "·"}


@dataclass(frozen=True)
class Caption:
    """The words around a picture."""

    title: str
    subtitle: str
    notes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()  # what the entries of a vector are called
    concepts: tuple[str, ...] = ()  # what further heatmaps are called


def draw(
    path: Path, x: np.ndarray, relevance: np.ndarray, caption: Caption, form: Form, concepts: Sequence[np.ndarray] = ()
) -> None:
    """Write a PNG of one sample and its relevance, both of one ``form``, as that suggests (see ``arrangement``). Heatmaps of
    ``concepts`` go beside that of a picture, and below that of anything else, each with a colour scale of its own.

    Raises ``OnnxdtdError`` where it cannot be written.
    """
    arranged = arrangement(x.shape, form.slides) if form.ids is None else in_rows(x.shape, form.ids)
    kind = KINDS[arranged.kind]
    values, shares = arranged.of(form.shown(x) if kind.picture else x), arranged.of(relevance)
    maps = [shares, *map(arranged.of, concepts)]
    size = kind.size_of(values.shape, len(maps)) if concepts else kind.size(values.shape)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    fit(figure, figure.suptitle(wrapped(caption.title, size[0] * 8.5), fontsize=12, fontweight="bold", parse_math=False))
    if concepts:
        kind.several(figure, values, dict(zip(["relevance", *caption.concepts], maps, strict=True)), caption.features, kind)
    else:
        kind.draw(figure, values, shares, caption.features)
    below = [wrapped(text, size[0] * 13) for text in (caption.subtitle, *(f"note: {note}" for note in caption.notes))]
    fit(figure, figure.supxlabel("\n".join(below), fontsize=9, parse_math=False))
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # letters that the font does not have become boxes
        file = io.BytesIO()
        FigureCanvasAgg(figure).print_png(file)  # not figure.savefig, which draws everything twice
    atomic.write(path, file.getvalue(), OnnxdtdError)  # no fault of the sample: the next would fail as well


def fit(figure: Figure, text: Text) -> None:
    """Make the letters smaller until the longest line fits: half as large, they need not be half as wide."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        while (width := text.get_window_extent(renderer).width) > 0.98 * figure.bbox.width:
            text.set_fontsize(float(text.get_fontsize()) * 0.97 * figure.bbox.width / width)


def wrapped(text: str, width: float) -> str:
    """``text`` in lines of at most ``width`` characters, at most three of them."""
    return textwrap.fill(text, int(width), max_lines=3, placeholder=" ...")


def _is_wide(shape: Sequence[int]) -> bool:
    """Is a picture so wide that it is better above its heatmap than beside it?"""
    return shape[1] > 1.5 * shape[0]


def _page(shape: Sequence[int], width: int) -> tuple[float, float]:
    """The size of a figure with so many ids in rows of ``width``."""
    return 9.2, round(min(1.6 + 0.22 * -(-shape[0] // width), 24.0), 1)


def pixels(pictures: np.ndarray) -> np.ndarray:
    """Pictures [..., H, W, C] as they are shown: [..., H, W], or [..., H, W, 3]."""
    return pictures[..., 0] if pictures.shape[-1] < 3 else pictures[..., :3]


def heat(relevance: np.ndarray, channel: int | None) -> np.ndarray:
    """Relevance of a sample, summed over its channels."""
    return relevance if channel is None else relevance.sum(channel)


def colour_limit(values: np.ndarray) -> float:
    """The relevance at the ends of the symmetric colour scale: the largest, or in a large picture all but the 0.5 % largest."""
    size = np.abs(values)
    limit = np.percentile(size, 99.5) if size.size > MANY_PIXELS else size.max()
    return float(limit or size.max() or 1.0)


def colours(shares: np.ndarray) -> np.ndarray:
    """The colours of the heatmap scale for each value, [..., 4] from 0 to 1."""
    half = shares / (2 * colour_limit(shares))
    return np.asarray(matplotlib.colormaps[COLOURS](np.clip(0.5 + half, 0, 1)))


def stretches(relevance: np.ndarray, most: int, axis: int = -1) -> np.ndarray:
    """Relevance with an axis of at most ``most`` entries: the sums over stretches of one length, the last may be shorter.

    >>> stretches(np.ones((2, 10)), 4).tolist()
    [[3.0, 3.0, 3.0, 1.0], [3.0, 3.0, 3.0, 1.0]]
    """
    size = relevance.shape[axis]
    return np.add.reduceat(relevance, np.arange(0, size, -(-size // most)), axis=axis)


def _shown(axes: Axes, values: np.ndarray, limit: float, aspect: Literal["auto", "equal"] = "equal") -> AxesImage:
    """A heatmap [H, W]."""
    return axes.imshow(values, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="nearest", aspect=aspect)


def _image(figure: FigureBase, x: np.ndarray, relevance: np.ndarray, features: Sequence[str]) -> None:
    """[H, W, C], x from 0 to 1; where there are no colours, rows and columns are numbered."""
    left, right = figure.subplots(2, 1) if _is_wide(x.shape) else figure.subplots(1, 2)
    aspect: Literal["auto", "equal"] = "auto" if max(x.shape[:2]) > ACROSS * min(x.shape[:2]) else "equal"
    left.imshow(pixels(x), cmap="gray", vmin=0, vmax=1, aspect=aspect)
    left.set_title("input", fontsize=10)
    values = relevance.sum(axis=-1)
    shown = _shown(right, values, colour_limit(values), aspect)
    right.set_title("relevance", fontsize=10)
    figure.colorbar(shown, ax=[left, right] if _is_wide(x.shape) else right, shrink=0.8, format="%.2g")
    for axes in (left, right):
        if x.shape[-1] == 1:
            axes.tick_params(labelsize=7)
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
        else:
            axes.set(xticks=[], yticks=[])


def _beside(figure: Figure, x: np.ndarray, maps: Mapping[str, np.ndarray], features: Sequence[str], kind: Kind) -> None:
    """A picture [H, W, C] and its heatmaps in a row."""
    first, *others = figure.subplots(1, len(maps) + 1)
    first.imshow(pixels(x), cmap="gray", vmin=0, vmax=1)
    first.set_title("input", fontsize=10)
    for axes, (title, values) in zip(others, maps.items(), strict=True):
        shares = values.sum(axis=-1)
        _shown(axes, shares, colour_limit(shares))
        axes.set_title(title, fontsize=10)
    for axes in (first, *others):
        axes.set(xticks=[], yticks=[])


def _below(figure: Figure, x: np.ndarray, maps: Mapping[str, np.ndarray], features: Sequence[str], kind: Kind) -> None:
    """A sample with one heatmap below the other."""
    for part, (title, values) in zip(figure.subfigures(len(maps), 1, squeeze=False).flat, maps.items(), strict=True):
        part.suptitle(title, fontsize=10)
        kind.draw(part, x, values, features)


def _traces(figure: FigureBase, x: np.ndarray, relevance: np.ndarray, features: Sequence[str]) -> None:
    """[C, T]: each channel a line over its relevance in colours, and the sum of that; where there is one, that of each step."""
    shares, width = stretches(relevance, STRETCHES), -(-x.shape[1] // STRETCHES)
    ends = np.arange(shares.shape[1] + 1) * width - 0.5
    words = "relevance" if width == 1 else f"relevance of {width} steps"
    if len(x) > 1:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(7, 1))
        shown = _lines(left, x, shares, ends)
        left.set(xlabel="step", ylabel="channel")
        _sums(right, relevance.sum(axis=1))
        figure.colorbar(shown, ax=right, format="%.2g", label=words, fraction=0.3, aspect=40)
        return
    upper, lower = figure.subplots(2, 1, sharex=True)
    _lines(upper, x, shares, ends)
    upper.set_ylabel("input")
    lower.bar((ends[:-1] + ends[1:]) / 2, shares[0], color=colours(shares[0]), width=width)
    lower.axhline(0, color="0.4", linewidth=0.8)
    lower.set(xlabel="step", ylabel=words)
    _symmetric(lower, shares, vertical=True)


def _lines(axes: Axes, x: np.ndarray, shares: np.ndarray, ends: np.ndarray) -> ScalarMappable:
    """Channels [C, T], each scaled to fill a band of height 1, over ``shares`` between ``ends`` in colours. The more of its
    band a line sweeps over within a stretch, the more it lets the colours through.
    """
    count, steps = x.shape
    few, limit = count <= FEW_TRACES, colour_limit(shares)
    starts = np.ceil(ends[:-1]).astype(int)
    shown = axes.pcolormesh(ends, np.arange(count + 1) - 0.5, shares, cmap=COLOURS, vmin=-limit, vmax=limit, alpha=0.7)
    for place, values in enumerate(x):
        low, span = values.min(), float(np.ptp(values)) or 1.0
        swept = (np.maximum.reduceat(values, starts) - np.minimum.reduceat(values, starts)).mean() / span
        line = place + 0.42 - 0.84 * (values - low) / span
        axes.plot(line, color="black", linewidth=0.9 if few else 0.5, alpha=1 - 0.75 * swept)
    axes.hlines(np.arange(1, count) - 0.5, -0.5, steps - 0.5, color="0.8", linewidth=0.5)
    axes.set(xlim=(-0.5, steps - 0.5), ylim=(count - 0.5, -0.5))
    names = [f"{i}\n{values.min():.3g} to {values.max():.3g}" for i, values in enumerate(x)]
    axes.set_yticks(range(count), names if few else None)
    axes.tick_params("x", labelsize=8)
    axes.tick_params("y", labelsize=7 if few else 6)
    return shown


def _sums(axes: Axes, sums: np.ndarray) -> None:
    """What the relevance of each channel adds up to."""
    axes.barh(np.arange(len(sums)), sums, color=colours(sums))
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.tick_params(labelleft=False, left=False, labelsize=7)
    axes.set_title("Σ of a channel", fontsize=8)
    _symmetric(axes, sums, vertical=False)
    largest = float(np.abs(sums).max())
    axes.set_xticks([-largest, largest], [f"{-largest:.2g}", f"{largest:.2g}"] if largest else ["", "0"])


def _frames(figure: FigureBase, x: np.ndarray, relevance: np.ndarray, features: Sequence[str]) -> None:
    """[F, H, W, C], x from 0 to 1: rows of frames, each over its heatmap; of a long clip some with what is around them."""
    count, width = x.shape[0], -(-x.shape[0] // FRAMES)
    shares = stretches(relevance.sum(axis=-1), FRAMES, axis=0)
    limit, pictures = colour_limit(shares), pixels(x)
    across = min(len(shares), ACROSS)
    grid = figure.subplots(2 * -(-len(shares) // across), across, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.axis("off")
    for i, heatmap in enumerate(shares):
        upper, lower = (grid[2 * (i // across) + below, i % across] for below in (0, 1))
        first, last = i * width, min((i + 1) * width, count) - 1
        upper.imshow(pictures[(first + last) // 2], cmap="gray", vmin=0, vmax=1)
        upper.set_title(f"{first}" if first == last else f"{first} to {last}", fontsize=8, pad=2)
        shown = _shown(lower, heatmap, limit)
        lower.set_title(f"Σ {heatmap.sum():.3g}", fontsize=7, pad=2)
        for axes, word in ((upper, "input"), (lower, "relevance")):
            axes.axis("on")
            axes.set_ylabel("" if i % across else word, fontsize=8)
    figure.colorbar(shown, ax=grid, shrink=0.8, format="%.2g", label="relevance")


def _bars(figure: FigureBase, x: np.ndarray, relevance: np.ndarray, features: Sequence[str]) -> None:
    axes = figure.subplots()
    values, shares = x.ravel(), relevance.ravel()
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
    _symmetric(axes, shares, vertical=False)


def _ids(widest: int, most: int, word: Callable[[int], str]) -> Callable[..., None]:
    """Ids in rows of ``widest``, each as a ``word`` on the colour of its relevance; of more than ``most`` the colours alone."""

    def draw(figure: FigureBase, x: np.ndarray, relevance: np.ndarray, features: Sequence[str]) -> None:
        axes, shares = figure.subplots(), relevance.ravel()
        width = min(widest, shares.size)
        rows = -(-shares.size // width)
        grid = np.full(rows * width, np.nan)
        grid[: shares.size] = shares
        limit = colour_limit(shares)
        shown = axes.imshow(grid.reshape(rows, width), cmap=COLOURS, vmin=-limit, vmax=limit, aspect="auto")
        for place, (value, share) in enumerate(zip(x.ravel(), shares, strict=True) if x.size <= most else ()):
            dark = "white" if abs(share) > 0.5 * limit else "0.25"
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
        figure.colorbar(shown, ax=axes, shrink=0.8, format="%.2g", label="relevance")

    return draw


def _letter(byte: int) -> str:
    """A byte as it is read: its letter, a sign for what ends lines and what fills them, nothing for all that cannot be read."""
    return SIGNS.get(byte, chr(byte) if 32 < byte < 127 else "")


def _symmetric(axes: Axes, shares: np.ndarray, vertical: bool) -> None:
    limit = 1.05 * (float(np.abs(shares).max()) or 1.0)
    (axes.set_ylim if vertical else axes.set_xlim)(-limit, limit)


@dataclass(frozen=True)
class Kind:
    """How samples of a kind are drawn: ``size`` of the figure in inches, by the shape of what is drawn; ``draw`` takes a
    figure, the sample, its relevance and the names of its features, ``several`` relevance by title. A ``picture`` is shown as
    it was before preprocessing.
    """

    size: Callable[[Sequence[int]], tuple[float, float]]
    draw: Callable[[FigureBase, np.ndarray, np.ndarray, Sequence[str]], None]
    picture: bool = False
    several: Callable[[Figure, np.ndarray, Mapping[str, np.ndarray], Sequence[str], Kind], None] = _below

    def size_of(self, shape: Sequence[int], maps: int) -> tuple[float, float]:
        """The size of a figure with so many heatmaps."""
        width, height = self.size(shape)
        if self.several is _below:
            return width, height * maps
        return max(1.0 + 2.1 * (maps + 1), width), 1.5 + 2.1 * min(shape[0] / shape[1], 2.0)


KINDS = {  # by the names that ``arrangement`` gives
    "image": Kind(lambda shape: (5.4, 6.0) if _is_wide(shape) else (7.6, 4.4), _image, picture=True, several=_beside),
    "traces": Kind(
        lambda shape: (8.6, round(1.7 + min(max(3.0, 0.36 * shape[0]), 0.155 * max(shape[0], 32)), 1)),
        _traces,
    ),
    "frames": Kind(lambda shape: (8.6, 1.3 + 2.2 * -(-min(shape[0], FRAMES) // ACROSS)), _frames, picture=True),
    "bars": Kind(lambda shape: (7, 4.4), _bars),
    "ids": Kind(lambda shape: _page(shape, WIDTH_OF_IDS), _ids(WIDTH_OF_IDS, FEW_IDS, str)),
    "bytes": Kind(lambda shape: _page(shape, WIDTH_OF_BYTES), _ids(WIDTH_OF_BYTES, FEW_BYTES, _letter)),
}
