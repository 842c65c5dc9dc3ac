"""What is drawn of a sample, and how. It imports nothing heavy, so that the command line starts fast."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxdtd import bounded
from onnxdtd.errors import RequestError
from onnxdtd.request import DRAWN, Option, offered

if TYPE_CHECKING:
    import numpy as np

    from onnxdtd.data.features import Described
    from onnxdtd.data.recordings import Track

STYLES = ("beside", "overlay", "map")
SCALES = ("own", "shared")
LINES = 3  # of a title or a note, at most


def _one_of(option: str, choices: Sequence[str]) -> Callable[[Any], str]:
    def chosen(value: Any) -> str:
        if value not in choices:
            raise RequestError(f"{option} {value}: give one of {', '.join(choices)}")
        return str(value)

    return chosen


def _pixels(value: Any) -> float | None:
    if value is not None and not 0 <= float(value) < math.inf:
        raise RequestError(f"--smooth {value}: give a number of pixels, or 0 for the heatmap as it is")
    return None if value is None else float(value)


def _count(value: Any) -> int:
    if int(value) < 1:
        raise RequestError(f"--features {value}: give at least 1")
    return int(value)


def _hertz(value: Any) -> float | None:
    if value is not None and not 0 < float(value) < math.inf:
        raise RequestError(f"--rate {value}: give the number of steps a second")
    return None if value is None else float(value)


def named(value: Any) -> tuple[str, ...]:
    """Names, of which several have commas between them, or stand in a file, one a line. Raises ``RequestError``."""
    if not isinstance(value, str):
        return tuple(map(str, value or ()))
    path = Path(value)
    try:
        if not path.is_file():
            return tuple(name.strip() for name in value.split(","))
        return tuple(name.strip() for name in bounded.text(path).replace(",", "\n").split("\n") if name.strip())
    except (OSError, ValueError) as error:
        raise RequestError(f"--channels {value}: no names can be read from it ({error})") from None


@dataclass(frozen=True, kw_only=True)
class Look:
    """How explanations are drawn: one field is one option of ``explain``. Raises ``RequestError``."""

    style: str = offered(
        "beside",
        _one_of("--style", STYLES),
        Option(
            "--style",
            "How pictures are shown: beside their heatmap, in grey with the relevance on them, or the heatmap alone.",
            "beside|overlay|map",
            DRAWN,
        ),
    )
    smooth: float | None = offered(
        None,
        _pixels,
        Option(
            "--smooth",
            "Smooth the heatmaps of pictures for the eye, by a Gaussian of so many pixels. Numbers stay as they are. "
            "Default: only where strides leave nothing but a lattice; 0 for never.",
            "PIXELS",
            DRAWN,
        ),
    )
    scale: str = offered(
        "own",
        _one_of("--scale", SCALES),
        Option(
            "--scale",
            "Pictures and tables: a scale for each of several heatmaps, or one for all, as shares of Σ |relevance|.",
            "own|shared",
            DRAWN,
        ),
    )
    features: int = offered(
        15, _count, Option("--features", "How many features have a bar of their own; the others share one.", "K", DRAWN)
    )
    terms: bool = offered(False, bool, Option("--terms", "A bar for each category of a column as well.", None, DRAWN))

    rate: float | None = offered(
        None,
        _hertz,
        Option(
            "--rate",
            "Steps of a signal, or frames of a clip, a second: they are drawn along time. Default: what the file says, a "
            ".wav, an animated GIF or an .npz with a rate.",
            "HZ",
            DRAWN,
        ),
    )
    channels: Sequence[str] = offered(
        (),
        named,
        Option(
            "--channels",
            "Names of the channels of signals: a,b,c, or a file with one a line. Default: what the file says, the first line "
            "of a table or channels of an .npz.",
            "NAMES|FILE",
            DRAWN,
        ),
    )

    def __post_init__(self) -> None:
        """Everything that was given becomes what the field says."""
        for entry in fields(self):
            object.__setattr__(self, entry.name, entry.metadata["convert"](getattr(self, entry.name)))

    def at(self, track: Track) -> Look:
        """The same with what the file of a sample says of it, where nothing else was asked for."""
        return replace(self, rate=self.rate or track.rate, channels=self.channels or track.channels)


USUAL = Look()


def shortened(name: str, most: int) -> str:
    """A name without its middle: what tells names apart is often at their end.

    >>> shortened("accelerometer_left_x", 14), shortened("gyroscope", 14)
    ('accele…_left_x', 'gyroscope')
    """
    return name if len(name) <= most else f"{name[: (most - 1) // 2]}…{name[len(name) - most // 2 :]}"


def wrapped(text: str, width: float) -> str:
    """``text`` in lines of at most ``width`` characters, at most three of them: of a longer one the middle is left out."""
    lines, most = textwrap.wrap(text, int(width)), min(len(text), LINES * int(width))
    while len(lines) > LINES:
        lines, most = textwrap.wrap(shortened(text, most), int(width)), most - 1
    return "\n".join(lines)


@dataclass(frozen=True)
class Caption:
    """The words around a picture."""

    title: str
    subtitle: str
    notes: tuple[str, ...] = ()
    features: Described | None = None  # what the entries of a vector are
    concepts: tuple[str, ...] = ()  # what further heatmaps are called
    heading: str = "relevance"  # ... and the first


@dataclass(frozen=True)
class Swarm:
    """The rows of one class: ``values`` [rows, features], NaN where they are no numbers, and ``relevance`` alike."""

    title: str
    values: np.ndarray
    relevance: np.ndarray


@dataclass(frozen=True)
class Scene:
    """One sample ``x`` with its heatmaps by title, both arranged as its kind is drawn: ``features`` are what the entries of a
    vector are.
    """

    x: np.ndarray
    maps: Mapping[str, np.ndarray]
    features: Described | None = None
    look: Look = USUAL

    @property
    def names(self) -> Sequence[str]:
        """What its channels are called, where that is known."""
        return self.look.channels if len(self.look.channels) == len(self.x) else ()

    @property
    def relevance(self) -> np.ndarray:
        """The first heatmap, or the only one."""
        return next(iter(self.maps.values()))
