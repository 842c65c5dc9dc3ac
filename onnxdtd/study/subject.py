"""A model as planned, with a data set in the layout of its input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from onnxdtd.compiler.bounds import form_of
from onnxdtd.compiler.compile import prepare
from onnxdtd.compiler.fitted import read
from onnxdtd.compiler.prepared import Planned
from onnxdtd.data.labelled import Item, dataset
from onnxdtd.data.read import Layout
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.graph import files
from onnxdtd.method.toml import definitions
from onnxdtd.request import Request

PRESETS = ("dtd", "lrp-epsilon", "lrp-alpha2beta1", "gradient-x-input", "sensitivity")  # that are measured


class Subject:
    """What is measured; ``plan`` plans how it is explained. Raises ``OnnxdtdError`` where model and data cannot be brought
    together.
    """

    def __init__(self, model: Path, request: Request, data: Path, plan: Callable[[Path, Request], Planned] = prepare):
        self.planned = plan(model, request)
        inputs = self.planned.plan.inputs
        if request.from_:
            raise RequestError(
                f"--from {request.from_[0]}: what is measured is what happens when inputs change; make what comes behind it a "
                "model of its own, with onnx.utils.extract_model, and measure that"
            )
        if len(inputs) != 1 or not inputs[0].shape:
            names = ", ".join(t.name for t in inputs)
            raise RequestError(
                f"{model}: measured are models of which one input, of declared shape, is explained; here: {names}"
            )
        given = {t.name for t in self.planned.source.proto.graph.initializer}
        others = [t.name for t in self.planned.source.proto.graph.input if t.name not in {*given, inputs[0].name}]
        if others:
            raise RequestError(f"{model}: measured are models of one input, but this one also takes {', '.join(others)}")
        axis = self.planned.plan.samples.axes[inputs[0].name]
        self.layout = Layout.of(list(inputs[0].shape), axis)
        self.form = form_of(inputs[0], self.planned.request, axis, self.planned.ids)
        self.data = dataset(data, self.form)

    def items(self, most: int) -> tuple[list[Item], dict[str, str]]:
        """The first samples that can be read, and why others cannot. Raises ``RequestError`` where there is none."""
        found: list[Item] = []
        skipped = dict(self.data.skipped)
        for i in range(len(self.data)):
            if len(found) == most:
                break
            try:
                found.append(self.data[i])
            except RequestError as error:
                skipped[self.data.name(i)] = str(error)
        if not found:
            raise RequestError(f"none of the samples can be read ({'; '.join(list(skipped.values())[:3])})")
        return found, skipped

    def sizes(self) -> list[int]:
        """The shape of a sample, from the first one where the model leaves it open."""
        declared = [size for size in self.layout.shape if isinstance(size, int)]
        return declared if len(declared) == len(self.layout.shape) else list(self.items(1)[0][0].x.shape)


def weight_digests(model: Path) -> dict[str, str]:
    """The SHA-256 of every file of external weights, by where it lies. Raises ``ModelError`` where one cannot be read."""
    digests = {}
    for location in files.locations(files.read(model).proto):
        try:
            with (model.parent / location).open("rb") as file:
                digests[location] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(f"{model.parent / location}: external weights that cannot be read ({error.strerror})") from None
    return digests


def asked(request: Request, presets: Sequence[str]) -> list[Any]:
    """All that presets and other options say, as JSON: the bounds with all of their entries, what is in files of presets and of
    relevance models.
    """
    models = [] if request.fitted is None else [read(Path(request.fitted)).sha256]
    return [request.as_data(), list(presets), definitions(presets), *models]
