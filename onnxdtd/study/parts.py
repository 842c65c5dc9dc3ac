"""The arrays of a run while it runs: a file for each unit of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from onnxdtd import atomic
from onnxdtd.study.results import Result

Arrays = Mapping[str, np.ndarray]

UNKNOWN = -1  # in place of a class
# What there is in one row besides relevance, in this order; ``key`` tells the explanations of a run apart.
COLUMNS = (
    "sample",
    "preset",
    "predicted",
    "predicted_label",
    "target",
    "target_label",
    "label",
    "logit",
    "sum",
    "missing",
    "flags",
)
KEY = "key"
ALONE = "alone/"


def columns(result: Result, which: int) -> dict[str, np.ndarray]:
    """The row of an explanation, that of a sample with the number ``which``."""
    told: dict[str, Any] = {
        KEY: result.name if which == 0 else f"{result.name}/{which}",
        "sample": result.name,
        "preset": result.preset,
        "predicted": UNKNOWN if result.predicted is None else result.predicted,
        "predicted_label": result.predicted_label,
        "target": UNKNOWN if result.target is None else result.target,
        "target_label": result.target_label,
        "label": "" if result.label is None else str(result.label),
        "logit": np.nan if result.logit is None else result.logit,
        "sum": result.relevance_sum,
        "missing": np.nan if result.missing is None else result.missing,
        "flags": result.codes,
    }
    return {name: np.asarray(value) for name, value in told.items()}


class Parts:
    """A folder of them. Values of one shape are stacked, [n, ...]; where samples differ in size, each has an array of its own,
    ``ALONE`` in front of its name and its key behind it.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def write(self, unit: int, rows: Sequence[Arrays]) -> None:
        """The explanations of a unit."""
        with atomic.streamed(self._folder / f"part-{unit:06d}.npz") as file, ZipFile(file, "w", ZIP_STORED) as archive:
            for name, array in stacked(rows).items():
                member(archive, name, array.dtype, array.shape, [array])

    def read(self, unit: int) -> dict[str, np.ndarray]:
        """Them again."""
        with np.load(self._folder / f"part-{unit:06d}.npz", allow_pickle=False) as archive:
            return dict(archive)


def stacked(rows: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """Explanations in one dictionary, by the names of their arrays."""
    found = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if len({value.shape for value in values}) == 1:
            found[name] = np.stack(values)
        else:
            found |= {f"{ALONE}{name}/{row[KEY].item()}": row[name] for row in rows}
    return found


def member(archive: ZipFile, name: str, dtype: np.dtype[Any], shape: Sequence[int], pieces: Any) -> None:
    """An array in pieces, one after the other along its first axis, as numpy stores it; without a time, so that the same arrays
    are the same bytes.
    """
    with archive.open(ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
        )
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype).tobytes())
