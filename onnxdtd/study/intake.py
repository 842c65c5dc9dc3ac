"""Which columns of a table a compiled model takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from onnxdtd.data.forms import Form
from onnxdtd.data.read import Layout
from onnxdtd.data.recordings import Stepped, stepped, takes_signals
from onnxdtd.data.sheets import PARQUET, is_table, sheet
from onnxdtd.data.tables import Filled, Intake, Roles, rows
from onnxdtd.runtime.explainer import Explainer


class Intakes:
    """How the inputs of a model are filled from the columns of tables, but for those that have ``roles``. ``say`` hears which
    columns were taken for what.
    """

    def __init__(self, explainer: Explainer, layouts: Mapping[str, Layout], roles: Roles, say: Callable[[str], object]):
        said, inputs = explainer.metadata, explainer.inputs
        self._layouts = {name: layouts[name] for name in inputs}
        known, imputed = said.get("strings", {}), said.get("imputed", ())
        self._strings = strings(explainer)
        self._intakes = [
            Intake(name, _width(layout), known.get(name, ()) if name in self._strings else None, name in imputed)
            for name, layout in self._layouts.items()
        ]
        self._labels = [name for name in (said.get("label_output"),) if name]
        self._roles, self._say, self._scaled = roles, say, said.get("preprocessing") is not None
        self._read: tuple[Path, Filled | None] | None = None  # which file was read last, and what was in it

    def rows(self, file: Path, tabled: bool = False) -> Filled | None:
        """The rows of a table, which need not have the columns with roles if it is ``tabled`` itself. None of what is none; of
        texts that one input takes as they are; and of numbers whose count is open, which other rows may have more of. Raises
        ``RequestError`` where they do not fit.
        """
        if self._read is None or self._read[0] != file:
            self._read = file, self._rows(file, tabled)
            for note in () if self._read[1] is None else self._read[1].notes:
                self._say(note)
        return self._read[1]

    def _rows(self, file: Path, tabled: bool) -> Filled | None:
        several = len(self._intakes) > 1 or bool(self._strings)
        if not is_table(file) or (self._intakes[0].width is None and not several and file.suffix.lower() != PARQUET):
            return None
        found = sheet(file)
        if self.takes_texts and len(found.columns) > 1 and not self._intakes[0].is_in(found):
            return None
        return rows(found, self._intakes, self._roles.among(found) if tabled else self._roles, self._labels, self._scaled)

    def steps(self, file: Path, forms: Mapping[str, Form], tabled: bool = False) -> Stepped | None:
        """A table whose rows are steps of one sample, where the only input takes signals. Raises ``RequestError``."""
        if len(self._intakes) > 1 or self._strings or not is_table(file):
            return None
        form = forms[self._intakes[0].name]
        if not takes_signals(form):
            return None
        found = sheet(file)
        return stepped(found, form, self._roles.among(found) if tabled else self._roles)

    @property
    def takes_texts(self) -> bool:
        """Is there one input only, of one string?"""
        return len(self._intakes) == 1 and bool(self._strings) and self._intakes[0].width == 1

    def values(self, table: Filled) -> Iterator[dict[str, np.ndarray]]:
        """What each row has by input, of the shape of a sample."""
        shapes = {name: [size if isinstance(size, int) else -1 for size in self._layouts[name].shape] for name in table.values}
        for i in range(len(table.called)):
            yield {name: values[i].reshape(shapes[name]) for name, values in table.values.items()}


def strings(explainer: Explainer) -> list[str]:
    """The inputs that take strings."""
    return [name for name, node in explainer.inputs.items() if node.type == "tensor(string)"]


def _width(layout: Layout) -> int | None:
    """How many columns an input takes, None where that is open."""
    sizes = [size for size in layout.shape if isinstance(size, int)]
    return math.prod(sizes) if len(sizes) == len(layout.shape) else None
