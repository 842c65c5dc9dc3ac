"""How samples go into a planned model: by its only input, or as rows of a table, by an input for each of their columns.

A row is a vector of numbers then: what is a number as it is, a string as its place among those of its column. So whatever is
measured of vectors is measured of rows, and only here do they become what the model takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from onnxdtd.compiler.bounds import form_of
from onnxdtd.compiler.prepared import Planned
from onnxdtd.data.features import Place, described, listed
from onnxdtd.data.forms import Form
from onnxdtd.data.read import Layout
from onnxdtd.data.sheets import sheet
from onnxdtd.data.tables import Filled, Intake, Roles, rows
from onnxdtd.errors import RequestError
from onnxdtd.graph import shapes
from onnxdtd.graph.vocabulary import vocabulary
from onnxdtd.operators.columns import named_columns

TYPICAL: dict[str, Callable[..., np.ndarray]] = {"mean": np.nanmean, "median": np.nanmedian}
Arrays: TypeAlias = dict[str, np.ndarray]


class OnlyInput:
    """Samples [n, ...] of the only input that is explained."""

    def __init__(self, job: Planned):
        (tensor,) = job.plan.inputs
        axis = job.plan.samples.axes[tensor.name]
        self.layout, self.form = Layout.of(list(tensor.shape or ()), axis), form_of(tensor, job.request, axis, job.ids)
        self.whole = np.array(np.dtype(tensor.dtype).kind in "iu")
        self._name, self._dtype = tensor.name, np.dtype(tensor.dtype)

    def feeds(self, xs: np.ndarray) -> Arrays:
        """Samples as the model takes them, by input."""
        with np.errstate(over="ignore"):  # the scores will tell
            return {self._name: self.layout.put(np.rint(xs) if self.whole else xs).astype(self._dtype)}

    def relevance(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """That of the samples, [n, ...], in what the model gives for them."""
        return self.layout.take(next(iter(found.values())))


@dataclass(frozen=True, eq=False)
class Columns:
    """Rows [n, columns] of a table. ``names`` are those of the columns; ``words`` has for each the strings that its numbers
    stand for, None of what are numbers; ``categories`` and ``whole`` say, [columns], which have no order, and which no
    fractions.
    ``layouts`` and ``types`` are those of the inputs, in the order of the columns; ``explained`` has the layout of every tensor
    with relevance, and the column of each of its entries.
    """

    names: tuple[str, ...]
    words: tuple[tuple[str, ...] | None, ...]
    categories: np.ndarray
    whole: np.ndarray
    layouts: Mapping[str, Layout]
    types: Mapping[str, np.dtype]
    explained: Mapping[str, tuple[Layout, np.ndarray]]

    @property
    def form(self) -> Form:
        """That of a row: a vector."""
        return Form(", ".join(self.layouts), [len(self.names)])

    @property
    def layout(self) -> Layout:
        """That of rows, as many as the model takes at once."""
        return Layout([len(self.names)], 0, next(iter(self.layouts.values())).batch)

    def arrays(self, xs: np.ndarray) -> Arrays:
        """What each input has of rows, [n, ...]."""
        ends = np.cumsum([_width(layout) for layout in self.layouts.values()])[:-1]
        places = np.split(np.arange(len(self.names)), ends)
        values = (np.stack([self._decoded(xs[:, i], i) for i in some], axis=1) for some in places)
        return {
            name: value.astype(self.types[name]).reshape(len(xs), *sizes(layout))
            for (name, layout), value in zip(self.layouts.items(), values, strict=True)
        }

    def _decoded(self, numbers: np.ndarray, column: int) -> np.ndarray:
        """A column as the model takes it."""
        words = self.words[column]
        if words is not None:
            return np.array(words, object)[numbers.astype(np.int64)]
        return np.rint(numbers) if self.whole[column] else numbers

    def feeds(self, xs: np.ndarray) -> Arrays:
        """Rows as the model takes them, by input."""
        return {name: self.layouts[name].put(values) for name, values in self.arrays(xs).items()}

    def relevance(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """That of each column, float64 [n, columns]: all that its entries, or those of its categories, have."""
        parts = [(layout.take(found[name]), columns) for name, (layout, columns) in self.explained.items()]
        whole = np.zeros([len(parts[0][0]), len(self.names)])
        for part, columns in parts:
            np.add.at(whole.T, columns, part.reshape(len(part), -1).T)
        return whole

    def typical(self, fill: str, xs: np.ndarray) -> np.ndarray:
        """The mean or the median of each column over rows ``xs``; of what has no order the value that most of them have."""
        known = np.where(np.isnan(xs).all(axis=0), 0.0, xs)  # of what is always missing nothing is known
        numbers = TYPICAL[fill](known, axis=0)
        return np.where(self.categories, [_most(column) for column in xs.T], np.where(self.whole, np.rint(numbers), numbers))

    def coded(self, xs: np.ndarray) -> np.ndarray:
        """Rows with a column for each category in place of those that have no order: distances mean something there."""
        wide = [
            (column[:, None] == np.unique(column)).astype(np.float64) if category else column[:, None]
            for column, category in zip(xs.T, self.categories, strict=True)
        ]
        return np.concatenate(wide, axis=1)

    def check(self, fill: str) -> None:
        """Raises ``RequestError`` where columns cannot become that."""
        if fill not in TYPICAL and self.categories.any():
            name = self.names[int(np.argmax(self.categories))]
            raise RequestError(
                f"--fill {fill}: the column {name!r} has categories, no numbers; use mean or median, which take the most "
                "frequent one there"
            )

    def becomes(self, fill: str, over: str) -> str:
        """What features become, in words."""
        often = ", or the most frequent category" if self.categories.any() else ""
        return f"their {fill} over the {over}{often}"

    def said(self, row: np.ndarray) -> list[str]:
        """The columns of a row with their values, as they are read."""
        values = [
            words[int(x)] if words is not None else None if np.isnan(x) else float(x)
            for words, x in zip(self.words, row, strict=True)
        ]
        return listed(self.names, values)


def columns(job: Planned, path: Path, roles: Roles) -> tuple[Columns, Filled] | None:
    """How a planned model takes the rows of a table, and these as the values of one vector; None where it takes more than
    columns, or where not all that it reads has relevance. Raises ``RequestError`` where the table does not fit.
    """
    known, axes = job.graph.tensors(), job.plan.samples.axes
    tensors = [known[value.name] for value in shapes.real_inputs(job.source.proto)]
    layouts = {t.name: Layout.of(list(t.shape or ()), axes.get(t.name)) for t in tensors}
    if any(layout.axis is None or not all(isinstance(size, int) for size in layout.shape) for layout in layouts.values()):
        return None
    places = {(name, i): i for name, layout in layouts.items() for i in range(_width(layout))}
    places = {place: number for number, place in enumerate(places)}
    found = _explained(job, list(layouts))
    if found is None:
        return None
    own = {place for some in found.values() for place, _ in some}
    if any(place not in own and known[place[0]].readers for place in places):
        return None
    texts = vocabulary(job.graph.nodes, job.graph.inputs)
    words = {t.name: texts.get(t.name, ()) if t.dtype == object else None for t in tensors}
    intakes = [Intake(name, _width(layout), words[name], name in job.imputed) for name, layout in layouts.items()]
    filled = rows(sheet(path), intakes, roles, [name for name in (job.said.label_output,) if name])
    numbers, strings = _coded(
        np.concatenate([filled.values[name].astype(object) for name in layouts], axis=1), list(places), words
    )
    named = tuple(name for own in layouts for name in filled.names[own] or (f"{own}[{i}]" for i in range(_width(layouts[own]))))
    grouped = {place for some in found.values() for place, category in some if category}
    taken = Columns(
        named,
        strings,
        np.array([place in grouped or words[place[0]] is not None for place in places]),
        np.array([str(known[name].dtype).lstrip("u").startswith("int") for name, _ in places]),
        layouts,
        {t.name: np.dtype(t.dtype) for t in tensors},
        {
            name: (Layout.of(list(job.tensor(name).shape or ()), axes[name]), np.array([places[place] for place, _ in some]))
            for name, some in found.items()
        },
    )
    return taken, replace(filled, values={taken.form.name: numbers}, names={taken.form.name: named})


def _explained(job: Planned, inputs: Sequence[str]) -> dict[str, list[tuple[Place, bool]]] | None:
    """Of each entry of every tensor with relevance the place among the inputs, and whether it is a category; None where entries
    belong to no column.
    """
    names = named_columns(job.graph.nodes, [t for t in job.graph.inputs if t.name in inputs], False)
    found: dict[str, list[tuple[Place, bool]]] = {}
    for tensor in job.plan.inputs:
        if tensor.name not in names:
            return None
        entries = described(names[tensor.name], inputs, {}).entries
        found[tensor.name] = [(entry.place, bool(entry.category)) for entry in entries if entry.place is not None]
        if len(found[tensor.name]) < len(entries):
            return None
    return found


def _coded(
    values: np.ndarray, places: Sequence[Place], words: Mapping[str, Sequence[str] | None]
) -> tuple[np.ndarray, tuple[tuple[str, ...] | None, ...]]:
    """Rows as numbers, float64 [n, columns], and of each column the strings that these count, None where there are none."""
    numbers, strings = np.zeros(values.shape), list[tuple[str, ...] | None]()
    for i, (name, _) in enumerate(places):
        if words[name] is None:
            numbers[:, i] = values[:, i].astype(np.float64)
            strings.append(None)
        else:
            known, numbers[:, i] = np.unique(values[:, i].astype(str), return_inverse=True)
            strings.append(tuple(known.tolist()))
    return numbers, tuple(strings)


def sizes(layout: Layout) -> list[int]:
    """Those of an input that are known."""
    return [size for size in layout.shape if isinstance(size, int)]


def _width(layout: Layout) -> int:
    """How many columns an input of known sizes takes."""
    return math.prod(sizes(layout))


def _most(column: np.ndarray) -> float:
    """The value that most rows have, of several the lowest."""
    values, counts = np.unique(column, return_counts=True)
    return float(values[np.argmax(counts)])
