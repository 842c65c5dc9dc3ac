"""From files to what a model is fed, one input or several, and from its relevance back to what is shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from onnxdtd.data.forms import Form, Shape, recorded
from onnxdtd.data.read import Layout, Sample, batched, opened, samples, scaled
from onnxdtd.errors import RequestError
from onnxdtd.runtime.explainer import Explainer


class Feeding:
    """How a compiled model takes samples. What is shown of a sample is the input that is explained, or, where several are, all
    of them side by side as one vector; the others go with it.

    Raises ``RequestError`` where the shape of an input is not declared.
    """

    def __init__(self, explainer: Explainer):
        nodes = explainer.inputs
        self.explained = [name for name in explainer.metadata["relevance"] if name in nodes]
        for name, node in nodes.items():
            if not node.shape:
                raise RequestError(
                    f"the model does not declare the shape of its input {name!r}; use the Python API to explain it"
                )
        self.layouts = {name: Layout.of(node.shape, explainer.samples[name]) for name, node in nodes.items()}
        self.forms = {name: Form(name, layout.shape) for name, layout in self.layouts.items()}
        self.forms |= {name: recorded(explainer.metadata, name, nodes[name].shape) for name in self.explained}
        self._words = [name for name, node in nodes.items() if node.type == "tensor(string)"]
        self._widths = {name: _width(self.layouts[name].shape) for name in self.explained}

    @property
    def form(self) -> Form:
        """That of what is shown."""
        if len(self.explained) == 1:
            return self.forms[self.explained[0]]
        return Form(", ".join(self.explained), [sum(width or 0 for width in self._widths.values())])

    def check(self) -> None:
        """Raises ``RequestError`` where several inputs are explained that cannot be shown side by side."""
        if len(self.explained) > 1 and None in self._widths.values():
            raise RequestError(
                f"several inputs are explained ({', '.join(self.explained)}), not all of them vectors of a known size; choose "
                "one with --explain NAME when compiling, or use the Python API"
            )

    def read(self, file: Path) -> Iterator[Sample]:
        """The samples in a file, as they are shown."""
        for name, values in self.rows(file):
            shown = self.joined({known: values.pop(known) for known in self.explained})
            yield Sample(name, shown, others=values)

    def rows(self, file: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Each sample in a file, its name and its values by input; several inputs come from an ``.npz`` that has an array for
        each. Raises ``RequestError``.
        """
        if len(self.layouts) == 1:
            for sample in samples(file, self.form):
                yield sample.name, {self.explained[0]: sample.x}
            return
        arrays = self._arrays(file)
        shared = {name for name, array in arrays.items() if self.layouts[name].axis is None and len(array) == 1}
        counts = {name: len(array) for name, array in arrays.items() if name not in shared}
        if len(set(counts.values())) > 1:
            words = ", ".join(f"{count} in {name!r}" for name, count in counts.items())
            raise RequestError(f"{file}: its arrays have different numbers of samples: {words}")
        count = next(iter(counts.values()), 1)
        for i in range(count):
            values = {name: array[i if name in counts else 0] for name, array in arrays.items()}
            shown = {name: scaled(values[name], self.forms[name]) for name in self.explained}
            yield f"{file.stem}_{i:03d}" if count > 1 else file.stem, values | shown

    def _arrays(self, file: Path) -> dict[str, np.ndarray]:
        """An array [n, ...] for each input, as it is stored."""
        names = ", ".join(self.layouts)
        if file.suffix.lower() != ".npz":
            raise RequestError(f"{file}: the model has several inputs; give an .npz with an array for each, {names}")
        found = {}
        with opened(file) as archive:
            missing = [name for name in self.layouts if name not in archive.files]
            if missing:
                raise RequestError(f"{file}: has no array {', '.join(map(repr, missing))}; the model takes {names}")
            for name, form in self.forms.items():
                array = archive[name]
                if array.dtype.kind not in ("U" if name in self._words else "fiub"):
                    what = "strings" if name in self._words else "numbers"
                    raise RequestError(f"{file}: {name!r} has no {what} (array of {array.dtype})")
                rows = batched(array[:, None] if array.ndim == 1 and list(form.shape) == [1] else array, form)
                if rows is None:
                    raise RequestError(
                        f"{file}: {name!r} is {list(array.shape)}, the model takes samples of {list(form.shape)}"
                    )
                found[name] = rows
        return found

    def feeds(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The values of a sample by input, as the model takes them."""
        return {name: self.layouts[name].feed(value) for name, value in values.items()}

    def shown(self, relevance: Mapping[str, np.ndarray]) -> np.ndarray:
        """The relevance of the first sample, laid out like what is shown of it."""
        return self.joined({name: self.layouts[name].take(relevance[name])[0] for name in self.explained})

    def joined(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Values by explained input as one array."""
        if len(self.explained) == 1:
            return values[self.explained[0]]
        return np.concatenate([np.ravel(values[name]) for name in self.explained])

    def split(self, whole: np.ndarray) -> dict[str, np.ndarray]:
        """The inverse of ``joined``."""
        if len(self.explained) == 1:
            return {self.explained[0]: whole}
        parts = np.split(whole, np.cumsum([width or 0 for width in self._widths.values()])[:-1])
        shapes = {name: () if len(self.layouts[name].shape) == 0 else (-1,) for name in self.explained}
        return {name: part.reshape(shapes[name]) for name, part in zip(self.explained, parts, strict=True)}

    def features(self) -> tuple[str, ...]:
        """What the entries of the vector are called, where several inputs are explained."""
        if len(self.explained) == 1:
            return ()
        widths = {name: width or 0 for name, width in self._widths.items()}
        return tuple(name if width == 1 else f"{name}[{i}]" for name, width in widths.items() for i in range(width))


def _width(shape: Shape) -> int | None:
    """How many entries a vector, or a single number, has; None of anything else."""
    sizes = [size for size in shape if isinstance(size, int)]
    return math.prod(sizes) if len(sizes) == len(shape) < 2 else None
