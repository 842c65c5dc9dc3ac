"""Signals and clips as people keep them: sounds, animated pictures, and what files say of time and of channels."""

from __future__ import annotations

import re
import wave
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onnxdtd import bounded
from onnxdtd.data.arrangement import Sizes
from onnxdtd.data.forms import MODES, Form
from onnxdtd.data.look import Look
from onnxdtd.data.pixels import brought, pictures
from onnxdtd.data.preprocessing import UNSCALED
from onnxdtd.data.sheets import Sheet
from onnxdtd.data.tables import NO_ROLES, TARGET, Roles
from onnxdtd.errors import RequestError, counted

SOUNDS = (".wav",)
LONGEST = 0x7FFF0000  # bytes: what is written while it is recorded says that it has more, or all that can be said
CLIPS = ("frames", "slices")
NO_PICTURES = (".npy", ".npz", ".csv", ".tsv", ".parquet", ".json", ".txt", ".jsonl")
RATES = ("rate", "fs", "sfreq", "sampling_rate", "sample_rate")  # what archives call steps a second
EVEN = 0.01  # how far apart the times may be that frames are shown, by their own length
CLOCKS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}
TIMES = ("t", "time", "times", "timestamp", "date", "datetime")  # what columns of times are called
NAMES = ("channels", "channel_names", "ch_names")


@dataclass(frozen=True)
class Track:
    """What a file tells beside numbers: steps, or frames, a second; the names of channels; how its samples were read."""

    rate: float | None = None
    channels: tuple[str, ...] = ()
    remark: str = ""


UNTOLD = Track()


def is_sound(path: Path) -> bool:
    """Is a file a sound by its name?"""
    return path.suffix.lower() in SOUNDS


def is_clip(form: Form) -> bool:
    """Are samples of this ``form`` pictures one after the other?"""
    sizes, told = Sizes.of(form), bool(form.slides) or all(isinstance(size, int) for size in form.shape)
    if not told or sizes.arrangement.kind not in CLIPS or (sizes.sizes[3] or 1) not in MODES:
        return False
    return len(sizes.arrangement.axes[0]) == 1 and sizes.arrangement.axes[0][0] != form.channel  # which would be bands


def sound(path: Path, form: Form) -> np.ndarray:
    """A ``.wav`` file as a sample, numbers from -1 to 1. Raises ``RequestError`` where it cannot be read, or does not fit."""
    values, rate, _ = _heard(path)
    return fitted(path, _mixed(values, form)[0], form, f"{values.shape[1] / rate:.4g} s at {rate} Hz")


def track(path: Path, form: Form) -> Track:
    """What a file tells of its samples. Raises ``RequestError`` where it cannot be read."""
    if is_sound(path):
        values, rate, cut = _heard(path)
        return Track(float(rate), (), "; ".join(filter(None, (cut, _mixed(values, form)[1]))))
    if is_clip(form) and path.suffix.lower() not in NO_PICTURES:
        frames, seconds = pictures(path, "L")
        even = len(seconds) == len(frames) and max(seconds) - min(seconds) < EVEN * min(seconds)
        kept = _kept(path, len(frames), form)
        whole = len(kept) == len(frames)
        rate_of = 1 / float(np.mean(seconds)) if even and whole else None
        return Track(rate_of, (), "" if whole else f"{len(kept)} of its {len(frames)} frames, as far apart as they can be")
    return UNTOLD


def archived(archive: Any) -> Track:
    """What the arrays of an ``.npz`` tell: a number called as rates are, names called as those of channels."""
    rates = [archive[name] for name in RATES if name in archive.files]
    names = [archive[name] for name in NAMES if name in archive.files]
    rate = next((float(value.item()) for value in rates if value.size == 1 and value.dtype.kind in "iuf" and value > 0), None)
    return Track(rate, next((tuple(value.tolist()) for value in names if value.ndim == 1 and value.dtype.kind == "U"), ()))


def takes_signals(form: Form) -> bool:
    """Are samples of this ``form`` channels along time?"""
    return Sizes.of(form).arrangement.kind == "traces"


class Stepped(NamedTuple):
    """A table as one sample, with what it tells of it, its class, where it has one, and the class to explain."""

    x: np.ndarray
    track: Track
    label: int | str | None = None
    target: int | str | None = None


def stepped(found: Sheet, form: Form, roles: Roles = NO_ROLES) -> Stepped | None:
    """A table whose rows are steps as one sample, its columns the channels, but for one of times and those with ``roles``. None
    where its rows are samples. Raises ``RequestError`` where it is neither.
    """
    channels, steps = Sizes.of(form).sizes
    if channels is None:
        return None
    asked = roles.places(found)
    own = [place for place in range(len(found.columns)) if place not in asked.values()]
    several = channels * steps if steps is not None else 2 if channels == 1 else None
    if several is not None and len(own) >= several:
        return None
    clock = next((place for place in own if len(own) == channels + 1 and _unit(found, place) is not None), None)
    own = [place for place in own if place != clock]
    if len(own) != channels:
        if several is None or len(own) < 2:
            return None
        wants = f"{counted(steps, 'row') if steps else 'rows'} of {counted(channels, 'column')}"
        rest = f", or rows of {several} for one a sample" if steps else ""
        raise RequestError(
            f"{found.path}: has {counted(len(found), 'row')} of {counted(len(own), 'column')}, but the model takes "
            f"{form.shape}: {wants}, a row a step{rest}"
        )
    values = np.stack([found.numbers(place, False) for place in own])
    rate, told = (None, "") if clock is None else _rate(found, clock)
    columns = "only column is the channel" if channels == 1 else f"{channels} columns are channels"
    words = f"read as one sample: its {counted(len(found), 'row')} are steps, its {columns}{told}"
    names = tuple(found.names[place] for place in own) if found.names else ()
    labels, targets = ({*(found.labels(asked[option]) or [None])} for option in ("--label", TARGET))
    if len(targets) > 1:
        raise RequestError(f"{found.path}: is one sample, its rows are steps; {TARGET} {roles.target} has several classes")
    label = labels.pop() if len(labels) == 1 else None
    return Stepped(fitted(found.path, values, form), Track(rate, names, words), label, targets.pop())


def _unit(found: Sheet, column: int) -> float | None:
    """How many seconds the unit is that a column of times has, 0 where that is not said; None of other columns."""
    words = re.findall(r"[a-zµ]+", found.names[column].lower()) if found.names else []
    if not words or words[0] not in (*TIMES, *CLOCKS):
        return None
    return CLOCKS.get(words[-1], 0.0)


def _rate(found: Sheet, column: int) -> tuple[float | None, str]:
    """Steps a second by a column of times, where it says them in a known unit and they are even, and what to say of it."""
    told = f"; the column {found.names[column]!r} is left out"
    try:
        lengths = np.diff(found.numbers(column, False)) * (_unit(found, column) or 0.0)
    except RequestError:  # dates, for instance
        return None, told
    mean = float(lengths.mean()) if lengths.size else 0.0
    if not mean > 0 or np.ptp(lengths) > EVEN * mean:
        return None, told
    return float(f"{1 / mean:.6g}"), f"{told}, it says {1 / mean:.6g} steps a second"


def check(look: Look, form: Form) -> None:
    """Raises ``RequestError`` where time, or names of channels, are asked for of what has none, or as many as it has not."""
    sizes = Sizes.of(form)
    kind, takes = sizes.arrangement.kind, f"the model takes samples of {list(form.shape)}"
    plain = kind == "image" and (sizes.sizes[2] or 1) == 1
    if look.rate is not None and kind not in ("traces", *CLIPS) and not plain:
        raise RequestError(f"--rate {look.rate:g} is for signals, clips and spectrograms, but {takes}")
    if look.channels and kind != "traces" and not plain:
        raise RequestError(f"--channels is for signals and spectrograms, but {takes}")
    if look.channels and sizes.sizes[0] not in (None, len(look.channels)):
        have = counted(len(look.channels), "name")
        raise RequestError(f"--channels has {have}, but there are {sizes.sizes[0]} of them: {takes}")


def fitted(path: Path, values: np.ndarray, form: Form, more: str = "") -> np.ndarray:
    """[channels, steps] as a sample of the ``form``. Raises ``RequestError`` where there are others than the model takes."""
    sizes, (count, length) = _heard_as(form), values.shape
    if sizes.arrangement.kind != "traces":
        raise RequestError(
            f"{path}: is a signal, but the model takes samples of {list(form.shape)}, none by its first layer; make of it "
            "what the model takes, a spectrogram perhaps, and give that as .npy"
        )
    channels, steps = sizes.sizes
    if channels not in (None, count):
        has = f"{counted(count, 'channel')} of {counted(length, 'step')}"
        raise RequestError(
            f"{path}: has {has}, but the model takes {counted(channels, 'channel')}: samples of {list(form.shape)}"
        )
    if steps not in (None, length):
        way = f"cut {steps} of them out" if length > steps else f"fill it up, with zeros perhaps, to {steps}"
        told = f" ({more})" if more else ""
        raise RequestError(f"{path}: has {counted(length, 'step')}{told}, but the model takes {steps}: {way}")
    return sizes.sample(values, form)


def _heard(path: Path) -> tuple[np.ndarray, int, str]:
    """The numbers in a ``.wav`` file, [channels, steps], how many steps a second, and what to know of a file that has less than
    it says. Raises ``RequestError``.
    """
    try:
        with bounded.opened(path) as file, wave.open(file) as sounding:
            width, count, rate = sounding.getsampwidth(), sounding.getnchannels(), sounding.getframerate()
            told = sounding.getnframes()
            raw = sounding.readframes(told)
    except (wave.Error, EOFError, OSError) as error:
        reason = str(error) or "it ends too early"
        raise RequestError(
            f"{path}: no sound can be read from it ({reason}); whole numbers of 8 to 32 bits (PCM) can"
        ) from None
    whole = len(raw) // (width * count)
    if not whole:
        raise RequestError(f"{path}: has no sound in it")
    streamed = told * width * count > LONGEST
    cut = "" if whole == told or streamed else f"its first {whole:,} of {told:,} steps: the file is cut short"
    return pcm(raw[: whole * width * count], width).reshape(whole, count).T, rate, cut


def pcm(raw: bytes, width: int) -> np.ndarray:
    """Whole numbers of so many bytes, the low end first, as numbers from -1 to 1; those of one byte are counted from 128.

    >>> pcm(bytes([0, 128, 255, 127]), 2).tolist(), pcm(bytes([0, 128]), 1).tolist()
    ([-1.0, 0.999969482421875], [-1.0, 0.0])
    """
    if width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float64) - 128) / 128
    wide = np.zeros((len(raw) // width, 4), np.uint8)
    wide[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
    return np.asarray(wide.view("<i4")[:, 0] / 2.0**31)


def _heard_as(form: Form) -> Sizes:
    """How samples of this ``form`` lie as a sound: a row of numbers, whatever the first layer does with it, is one channel."""
    sizes = Sizes.of(form)
    if sizes.arrangement.kind != "bars" or len(form.shape) > 1:
        return sizes
    return Sizes(replace(sizes.arrangement, kind="traces", axes=((), *sizes.arrangement.axes)), (1, *sizes.sizes))


def _mixed(values: np.ndarray, form: Form) -> tuple[np.ndarray, str]:
    """Sounds with as many channels as the model takes, where it is known how, and how."""
    wanted, count = _heard_as(form).sizes[0], len(values)
    if wanted == 1 and count > 1:
        return values.mean(axis=0, keepdims=True), f"the mean of the {count} channels of the file: the model takes one"
    if wanted == 2 and count == 1:
        return values.repeat(2, axis=0), "the only channel of the file twice: the model takes two"
    return values, ""


def moving(path: Path, form: Form) -> np.ndarray:
    """The pictures in a file, an animated GIF perhaps, as a clip. Raises ``RequestError`` where they do not fit."""
    if form.low is None:
        raise RequestError(f"{path}: {UNSCALED}")
    sizes = Sizes.of(form)
    frames, _ = pictures(path, MODES[sizes.sizes[3] or 1])
    kept = [frames[i] for i in _kept(path, len(frames), form)]
    pixels = [brought(str(path), frame, (sizes.sizes[1], sizes.sizes[2]), form.preprocessing)[0] for frame in kept]
    clip = np.stack(pixels)
    return form.numbers(sizes.sample(clip.reshape(*clip.shape[:3], -1), form))


def _kept(path: Path, count: int, form: Form) -> list[int]:
    """Which of so many frames are taken: all, or as many as the model takes, evenly. Raises ``RequestError`` for too few."""
    wanted = Sizes.of(form).sizes[0]
    if wanted is not None and count < wanted:
        has = "is a picture" if count == 1 else f"has {count} frames"
        raise RequestError(
            f"{path}: {has}, but the model takes samples of {list(form.shape)}; give these as .npy or .npz, or {wanted} frames "
            "as an animated GIF"
        )
    return [*range(count)] if wanted in (None, count) else np.linspace(0, count - 1, wanted).round().astype(int).tolist()
