"""What one asks for in a notebook: pictures as a model takes them, and an explanation drawn."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxdtd.data.look import USUAL, Look
from onnxdtd.data.read import files
from onnxdtd.errors import RequestError
from onnxdtd.runtime.explainer import Explainer
from onnxdtd.study.inputs import PICTURES
from onnxdtd.study.presenter import Presenter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]


def load_images(paths: PathLike | Sequence[PathLike], explainer: Explainer) -> np.ndarray:
    """Pictures as a compiled model takes them: resized, cut and scaled as it says, samples along its own axis, float32. A model
    of a fixed batch takes as many at once as that has.

    Args:
        paths: files, or folders of them.
        explainer: the compiled model. It must know what pixels become: ``preprocessing``, or ``low`` and ``high``.

    Raises:
        RequestError: there is no picture, or one that cannot be read; the model takes none, or several inputs; sizes that the
            model leaves open differ.
    """
    feeding = Presenter(explainer).feeding
    if len(feeding.inputs) > 1 or feeding.inner:
        raise RequestError(f"the model takes {', '.join(feeding.inputs)}; read each with load_images of a model of its own")
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    found = [sample.x for file in files([Path(path) for path in given], PICTURES) for sample in feeding.read(file)]
    if not found:
        raise RequestError("no pictures are given")
    if len({x.shape for x in found}) > 1:
        raise RequestError("the pictures differ in size, and the model takes any: load them one by one")
    (name,) = feeding.inputs
    return feeding.layouts[name].put(np.stack(found)).astype(np.float32)


def draw(
    explainer: Explainer,
    x: np.ndarray | Mapping[str, np.ndarray],
    target: int | str | None = None,
    *,
    sample: int = 0,
    name: str = "",
    look: Look = USUAL,
) -> Figure:
    """Explain one of the samples in ``x`` and draw that as ``onnxdtd explain`` does.

    Args:
        explainer: the compiled model.
        x: as the explainer takes it, with the axis of samples.
        target: the class to explain, where the file takes one.
        sample: which one.
        name: what to call it.
        look: how it is drawn.

    Raises:
        RequestError: as of a call of the explainer, and where there is no such sample.
    """
    from onnxdtd.data.images import drawn

    presenter = Presenter(explainer, smooth=look.smooth)
    feeds = explainer.own(explainer.feeds(x))
    count = explainer.count(feeds)
    if not 0 <= sample < count:
        raise RequestError(f"there is no sample {sample} among {count}")
    one = presenter.feeding.sample(feeds, sample, name or f"sample {sample}")
    made = presenter.explain(one, None if target is None else explainer.labels.index(target))
    return drawn(made.shown, made.relevance, presenter.caption(made.result, one.others), presenter.feeding.form, look=look)
