"""A model as planned, with a data set in the layout of its input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxdtd.compiler.compile import prepare
from onnxdtd.compiler.fitted import read
from onnxdtd.compiler.prepared import Planned
from onnxdtd.compiler.record import metadata
from onnxdtd.data.labelled import Dataset, Item, Passages, Records, dataset, records
from onnxdtd.data.read import Layout
from onnxdtd.data.sheets import is_table
from onnxdtd.data.tables import NO_ROLES, Filled, Roles
from onnxdtd.data.texts import SUFFIXES as TEXTS
from onnxdtd.data.tokens import Taken, Tokens
from onnxdtd.errors import RequestError
from onnxdtd.graph import shapes
from onnxdtd.graph.tensors import type_name
from onnxdtd.labels import uncalled
from onnxdtd.method.toml import definitions
from onnxdtd.operators.layer import is_float
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import default_providers
from onnxdtd.study.columns import TYPICAL, Columns, OnlyInput, columns
from onnxdtd.study.predictor import Scores
from onnxdtd.study.provenance import modelled, provenance, taken

MOST_NAMED = 40  # columns whose names are read one after the other
PRESETS = ("dtd", "lrp-epsilon", "lrp-alpha2beta1", "gradient-x-input", "sensitivity")  # that are measured


@dataclass(frozen=True)
class Spoken:
    """How texts are taken, where they are: by a tokenizer, None for their bytes, and in regions of whole words or tokens."""

    tokenizer: Path | None
    words: bool


def spoken_by(tokenizer: Path | str | None, words: bool) -> Spoken:
    """How texts are taken, as options say it. Raises ``RequestError`` where they contradict each other."""
    if words and tokenizer is None:
        raise RequestError("--words is for texts, with --tokenizer")
    return Spoken(None if tokenizer is None else Path(tokenizer), words)


class Subject:
    """What is measured; ``plan`` plans how it is explained. ``roles`` are columns of a table that are no features. ``tabular``:
    a sample may be a row with a column an input, and miss values if the model takes that. Raises ``OnnxdtdError`` where model
    and data cannot be brought together.
    """

    def __init__(
        self,
        model: Path,
        request: Request,
        data: Path,
        plan: Callable[[Path, Request], Planned] = prepare,
        spoken: Spoken | None = None,
        roles: Roles = NO_ROLES,
        tabular: bool = False,
    ):
        self.planned = plan(model, request)
        self.columns: Columns | None = None
        self.strange = ""  # what to say of the labels in the data, if no class is called any of them
        self.data: Dataset | Passages | Records
        if tabular and not request.from_ and is_table(data) and (rows := self._of_columns(data, roles)) is not None:
            self.columns, filled = rows
            self.tokens, self.layout, self.form = None, self.columns.layout, self.columns.form
            self.data = Records(self.form, data, self._called(filled), strings=self.columns.words)
            return
        inner = [t for t in self.planned.plan.inputs if t.producer is not None]
        if inner:
            sizes = ", ".join("n" if size is None else str(size) for size in inner[0].shape or ())
            raise RequestError(
                f"{'--from' if request.from_ else 'strings are turned into'} {inner[0].name}: what is measured is what happens "
                "when inputs change; make what comes behind it a model of its own, with onnx.utils.extract_model, declare the "
                f"shape of its input, [{sizes}], and measure that"
            )
        without = not self.planned.ids or any(is_float(t.dtype) for t in self.planned.plan.inputs)  # ids of bytes
        if spoken is not None and spoken.tokenizer is None and (data.suffix.lower() not in TEXTS or without):
            spoken = None
        self.tokens = None if spoken is None else self._tokens(spoken.tokenizer)
        if self.tokens is not None and [t.name for t in self.planned.plan.inputs] != [self.tokens.ids]:
            self.planned = plan(model, replace(request, explain=(self.tokens.ids,)))
        inputs = self.planned.plan.inputs
        if len(inputs) != 1 or not inputs[0].shape:
            names = ", ".join(t.name for t in inputs)
            raise RequestError(
                f"{model}: measured are models of which one input, of declared shape, is explained; here: {names}"
            )
        others = [t.name for t in shapes.real_inputs(self.planned.source.proto) if t.name != inputs[0].name]
        if others and self.tokens is None:
            way = "; of texts give the tokenizer, --tokenizer FILE" if self.planned.ids else ""
            raise RequestError(f"{model}: measured are models of one input, but this one also takes {', '.join(others)}{way}")
        taken = OnlyInput(self.planned)
        self.layout, self.form = taken.layout, taken.form
        if spoken is not None and self.tokens is not None:
            self.data = Passages(data, self.tokens, spoken.words)
        elif is_table(data):
            own = [name for name in (self.planned.said.label_output,) if name]
            found = records(data, self.form, roles, tabular and inputs[0].name in self.planned.imputed, own)
            self.data = replace(found, filled=self._called(found.filled))
        else:
            self.data = dataset(data, self.form)

    def _called(self, filled: Filled) -> Filled:
        """The rows of a table without labels, and with a note of them, if these are called what no class is."""
        given = {label for label in filled.labels or () if label is not None}
        strange = self.planned.labels.strange(filled.labels or ())
        if not given or len(strange) < len(given):
            return filled
        self.strange = uncalled(strange)
        return replace(filled, labels=None, notes=[*filled.notes, self.strange])

    def _of_columns(self, data: Path, roles: Roles) -> tuple[Columns, Filled] | None:
        """How a model with several inputs, or strings, takes the rows of a table, and these; None of any other."""
        inputs = self.planned.plan.inputs
        alone = len(inputs) == 1 and inputs[0].producer is None
        whole = len(shapes.real_inputs(self.planned.source.proto)) == 1
        return None if (alone and whole) or self.planned.ids else columns(self.planned, data, roles)

    def _tokens(self, tokenizer: Path | None) -> Tokens:
        """What makes ids of texts. Raises ``OnnxdtdError`` where nothing can."""
        planned, taken = self.planned, {}
        known = planned.graph.tensors()
        for value in shapes.real_inputs(planned.source.proto):
            tensor = known[value.name]
            layout = Layout.of(list(tensor.shape or ()), planned.plan.samples.axes[value.name])
            taken[value.name] = Taken(layout.shape, type_name(tensor.dtype), planned.ids.get(value.name))
        return Tokens(tokenizer, taken)

    def provenance(self, call: str, models: Sequence[Path], presets: Sequence[str], samples: int) -> dict[str, Any]:
        """Of what the function ``call`` measured of ``models`` under ``presets`` on the first so many of the samples."""
        tokenizer = None if self.tokens is None else self.tokens.digest()
        return provenance(
            call,
            [modelled(path) for path in models],
            metadata(self.planned, {}, None, None, {}),
            default_providers()[0],
            taken(self.data.sources, samples, tokenizer),
            rules={preset: {} for preset in presets},
        ).as_data()

    @property
    def notes(self) -> Sequence[str]:
        """Which columns of a table were taken for what."""
        return self.data.filled.notes if isinstance(self.data, Records) else ()

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the columns of a row, where the file has them and they are few enough to be read."""
        if not isinstance(self.data, Records) or not self._has_features:
            return ()
        if self.columns is not None:
            return self.columns.names
        (names,) = self.data.filled.names.values()
        return names if len(names) <= MOST_NAMED else ()

    def fill(self, given: str | None) -> str:
        """What takes the place of a region where nothing was ``given``: the mean in tables, else 0."""
        return given or ("mean" if isinstance(self.data, Records) and self._has_features else "zero")

    def typical(self, fill: str) -> np.ndarray | None:
        """The mean or the median of each feature over all samples, where that is asked for and there are features, which have
        no neighbours. Raises ``RequestError`` where no sample can be read.
        """
        if fill not in TYPICAL or not self._has_features:
            return None
        if isinstance(self.data, Records):
            if self.columns is not None:
                return self.columns.typical(fill, self.data.values)
            found = TYPICAL[fill](self.data.values, axis=0)
            return np.asarray(np.nan_to_num(found)).reshape(self.sizes())
        return TYPICAL[fill]([item.x for item in self.items(len(self.data))[0]], axis=0)

    @property
    def _has_features(self) -> bool:
        return self.form.ids is None and not self.form.neighbours(self.sizes())

    def logits(self, scores: Scores, item: Item) -> np.ndarray:
        """Those of a sample, [1, classes]. Raises ``RequestError`` for a text that the model does not take."""
        try:
            return scores.beside(item.others).logits(item.x[None])
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            if self.tokens is None:
                raise
            raise RequestError(f"the model does not take its {item.x.size} tokens ({str(error).splitlines()[0]})") from None

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

    @property
    def rate(self) -> float | None:
        """Steps of signals a second, where the data say so."""
        return self.data.rate if isinstance(self.data, Dataset) else None

    def sizes(self) -> list[int]:
        """The shape of a sample, from the first one where the model leaves it open."""
        declared = [size for size in self.layout.shape if isinstance(size, int)]
        return declared if len(declared) == len(self.layout.shape) else list(self.items(1)[0][0].x.shape)


def fills(fill: str, columns: Columns | None, over: str) -> dict[str, str]:
    """What a description says of regions that are features, and of what takes their place ``over`` some of them."""
    return {"regions": "features", "fill": f"their {fill} over the {over}" if columns is None else columns.becomes(fill, over)}


def feeds(planned: Planned, item: Item) -> dict[str, np.ndarray]:
    """A sample as a planned model takes it, by input."""
    axes, known = planned.plan.samples.axes, planned.graph.tensors()
    values = {planned.plan.inputs[0].name: item.x, **item.others}
    return {name: Layout.of(list(known[name].shape or ()), axes[name]).feed(value) for name, value in values.items()}


def asked(request: Request, presets: Sequence[str]) -> list[Any]:
    """All that presets and other options say, as JSON: the bounds with all of their entries, what is in files of presets and of
    relevance models.
    """
    models = [] if request.fitted is None else [read(Path(request.fitted)).sha256]
    return [request.as_data(), list(presets), definitions(presets), *models]
