"""Runs over samples in files, of models that are in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxdtd.data.given import Given
from onnxdtd.labels import Index
from onnxdtd.request import Request
from onnxdtd.study.explain import ran
from onnxdtd.study.explaining import Asked, Explaining
from onnxdtd.study.gallery import View
from onnxdtd.study.presenter import Presenter
from onnxdtd.study.saved import Wanted
from onnxdtd.study.stream import Explained
from onnxdtd.study.ways import Ways


def filled(
    presenter: Presenter,
    out: Path,
    files: Sequence[Path],
    target: Index | None = None,
    save: Path | None = None,
    **options: Any,
) -> Explained:
    """Every sample of every file explained, drawn, and written down."""
    wanted = None if save is None else Wanted.to(save)
    pictures = options.pop("pictures", True)
    asked = Asked(
        Path("net.onnx"),
        Ways.of(Request()),
        None,
        None,
        False,
        None,
        None,
        tuple(map(Given, files)),
        out,
        pictures,
        save is not None,
    )
    study = Explaining(asked)
    study.views, study.provenance = [View(presenter, target)], {"version": "here"}
    return ran(study, wanted, **options)
