"""From files to what a model is fed, one input or several, and from its relevance back to what is shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import repeat
from pathlib import Path

import numpy as np

from onnxdtd.data.features import Features, described
from onnxdtd.data.forms import Form, Shape, recorded
from onnxdtd.data.read import Layout, Sample, batched, named, opened, samples, scaled
from onnxdtd.data.recordings import UNTOLD, Track, archived, track
from onnxdtd.data.sheets import SUFFIXES as TABLES
from onnxdtd.data.tables import NO_ROLES, Filled, Roles
from onnxdtd.data.texts import STDIN, Text, texts
from onnxdtd.data.tokens import Taken, Tokens
from onnxdtd.errors import RequestError
from onnxdtd.runtime.explainer import Explainer, dtype_name, tried
from onnxdtd.study.intake import Intakes, strings

ONLY_TEXTS = (".txt", ".jsonl")  # files that have nothing else
TEXTS_OR_NUMBERS = (".csv", ".json")


class Feeding:
    """How a compiled model takes samples. What is shown of a sample is the input that is explained, or, where several are, all
    of them side by side as one vector; the others go with it. Where inner tensors are explained, they are shown, and all inputs
    only go in.

    ``tokenizer`` is the file of one: samples are texts then, of which the ids are shown. ``roles`` are the columns of tables
    that are no features; ``say`` hears which columns were taken for what. Raises ``RequestError`` where the shape of an input
    is not declared, or the model takes no texts.
    """

    def __init__(
        self, explainer: Explainer, tokenizer: Path | None = None, roles: Roles = NO_ROLES, say: Callable[[str], object] = bool
    ):
        self._explainer, self._tokenizer, self._target = explainer, tokenizer, roles.target
        nodes, inner = explainer.inputs, explainer.metadata.get("values", {})
        self.inner = bool(inner)
        self.explained = [name for name in explainer.metadata["relevance"] if name in nodes or name in inner]
        self._shown = [name for name in self.explained if name in nodes]  # in a sample as it is read
        self._words = strings(explainer)
        if self.inner and len(nodes) == 1 and not self._words:
            self._shown = list(nodes)
        outputs = {node.name: node for node in explainer.session.get_outputs()}
        nodes = {**nodes, **{name: outputs[output] for name, output in inner.items()}}
        for name, node in nodes.items():
            if not node.shape:
                raise RequestError(
                    f"the model does not declare the shape of {name!r}; declare it there, or use the Python API to explain it"
                )
        self.layouts = {name: Layout.of(node.shape, explainer.samples[name]) for name, node in nodes.items()}
        self.forms = {name: Form(name, layout.shape) for name, layout in self.layouts.items()}
        self.forms |= {name: recorded(explainer.metadata, name, nodes[name].shape) for name in self.explained}
        self.inputs = list(explainer.inputs)
        self._intakes = Intakes(explainer, self.layouts, roles, say)
        self._named = explainer.metadata.get("features", {})
        self._widths = {name: _width(self.layouts[name].shape) for name in self.explained}
        self._fits = 0  # tokens that the model is known to take
        if tokenizer is not None:
            self._only(self.tokens.ids)

    @cached_property
    def tokens(self) -> Tokens:
        """What makes ids of texts. Raises ``OnnxdtdError`` where nothing can."""
        ids = self._explainer.metadata.get("ids", {})
        nodes = {name: node for name, node in self._explainer.inputs.items() if name != self._explainer.weights}
        taken = {name: Taken(self.layouts[name].shape, dtype_name(node.type), ids.get(name)) for name, node in nodes.items()}
        return Tokens(self._tokenizer, taken)

    def _only(self, name: str) -> None:
        """Of several inputs that are explained show this one alone. Raises ``RequestError`` where it is not among them."""
        if self.inner:
            return
        if name not in self.explained:
            raise RequestError(f"the file explains {', '.join(self.explained)}, not {name}; compile with --explain {name}")
        self.explained = self._shown = [name]

    def is_text(self, file: Path) -> bool:
        """Does a file have texts, and not the numbers that the model takes?"""
        return self._tokenizer is not None or (not self._words and (file == STDIN or file.suffix.lower() in ONLY_TEXTS))

    @property
    def form(self) -> Form:
        """That of what is shown."""
        if len(self.explained) == 1:
            return self.forms[self.explained[0]]
        return Form(", ".join(self.explained), [sum(width or 0 for width in self._widths.values())])

    def check(self) -> None:
        """Raises ``RequestError`` where several inputs are explained that cannot be shown side by side."""
        if len(self.explained) > 1 and None in self._widths.values():
            texts = "; of texts give the tokenizer, --tokenizer FILE" if self._explainer.metadata.get("ids") else ""
            raise RequestError(
                f"several inputs are explained ({', '.join(self.explained)}), not all of them vectors of a known size; choose "
                f"one with --explain NAME when compiling, or use the Python API{texts}"
            )

    def read(self, file: Path, tabled: bool = False) -> Iterator[Sample]:
        """The samples in a file, as they are shown. One that is ``tabled`` need not have the columns with roles."""
        if self.is_text(file):
            yield from self._passages(texts(file, None if tabled else self._target))
            return
        try:
            if (one := self._intakes.steps(file, self.forms, tabled)) is not None:
                yield Sample(file.stem, one.x, track=one.track, label=one.label, target=one.target)
                return
            table, told = self._intakes.rows(file, tabled), self._track(file)
            features = self.features({} if table is None else table.names)
            labels, targets = (None, None) if table is None else (table.labels, table.targets)
            said = zip(labels or repeat(None), targets or repeat(None), strict=False)
            for (name, values), (label, target) in zip(self._read(file, table), said, strict=False):
                shown = [values.pop(known) for known in self._shown]
                yield Sample(name, _joined(shown), others=values, track=told, features=features, label=label, target=target)
        except RequestError as error:
            takes_ids = self._explainer.metadata.get("ids") and file.suffix.lower() in TEXTS_OR_NUMBERS
            way = "; of texts give --tokenizer FILE, or a .txt or .jsonl if the model takes their bytes" if takes_ids else ""
            raise RequestError(f"{error}{way}") from None

    def _track(self, file: Path) -> Track:
        """What a file tells of signals and clips."""
        if file.suffix.lower() == ".npz":
            with opened(file) as archive:
                return archived(archive)
        return track(file, self.forms[self.inputs[0]]) if len(self.inputs) == 1 and not self._words else UNTOLD

    def _passages(self, found: Sequence[Text]) -> Iterator[Sample]:
        """Texts as samples, cut to what the model takes."""
        self._only(self.tokens.ids)
        counts = [self.tokens(text).length for text in found]
        self.limit(found[int(np.argmax(counts))], max(counts))
        for text in found:
            passage = self.tokens(text)
            values = self.tokens.values(passage)
            yield Sample(
                text.name,
                _joined([values.pop(name) for name in self._shown]),
                others=values,
                passage=passage,
                label=text.label,
                target=text.target,
            )

    def limit(self, longest: Text, count: int) -> None:
        """Find out of how many tokens the model takes a text, by trying: it may know only so many positions."""
        if self.tokens.length is not None or count <= self._fits:
            return
        runs = lambda most: self._runs(longest, most)
        most, least = count, 0
        if not runs(count):
            while most - least > 1:
                middle = (most + least) // 2
                least, most = (middle, most) if runs(middle) else (least, middle)
            if least > 0:  # else it is something else that does not fit, which is said when it is explained
                self.tokens.limit(least)
        self._fits = max(least, count if most == count else 0)

    def _runs(self, text: Text, most: int) -> bool:
        """Does the model take so many tokens of a text?"""
        try:
            passage = self.tokens(text, most)
            tried(self._explainer.session, self._explainer.fed(self.feeds(self.tokens.values(passage))))
        except Exception:  # ONNX Runtime's own exceptions share no base class
            return False
        return True

    def rows(self, file: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Each sample in a file, its name and its values by input; several, or strings, come from a table that has columns for
        each, an ``.npz`` that has an array for each, or a ``.json`` that has a list for each. Raises ``RequestError``.
        """
        if (one := self._intakes.steps(file, self.forms)) is not None:
            yield file.stem, {self.inputs[0]: one.x}
            return
        yield from self._read(file, self._intakes.rows(file))

    def _read(self, file: Path, table: Filled | None) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """The same, of a file that is a ``table`` already, or of any other."""
        if table is not None:
            yield from zip(table.called, self._intakes.values(table), strict=True)
            return
        if len(self.inputs) == 1 and not self._words:
            (only,) = self.inputs
            for sample in samples(file, self.forms[only]):
                yield sample.name, {only: sample.x}
            return
        if self._is_whole(file):
            (only,) = self.inputs
            for text in texts(file):
                yield text.name, {only: np.reshape(np.array(text.text.rstrip("\r\n")), [1] * len(self.layouts[only].shape))}
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
            shown = {name: scaled(values[name], self.forms[name]) for name in self._shown}
            yield f"{file.stem}_{i:03d}" if count > 1 else file.stem, values | shown

    def _is_whole(self, file: Path) -> bool:
        """Does a file have texts that the model takes as they are?"""
        return self._intakes.takes_texts and (file == STDIN or file.suffix.lower() in (*ONLY_TEXTS, *TABLES))

    def _arrays(self, file: Path) -> dict[str, np.ndarray]:
        """An array [n, ...] for each input, as it is stored."""
        names = ", ".join(self.inputs)
        read = {".npz": opened, ".json": named}.get(file.suffix.lower())
        if read is None:
            what = "several inputs" if len(self.inputs) > 1 else "an input of strings"
            way = f"give a table, .csv or .parquet, with a column for each, {names}, or an .npz with an array for each"
            raise RequestError(f"{file}: the model has {what}; {way}")
        found = {}
        with read(file) as archive:
            missing = [name for name in self.inputs if name not in archive]
            if missing:
                raise RequestError(f"{file}: has no array {', '.join(map(repr, missing))}; the model takes {names}")
            for name, form in ((name, self.forms[name]) for name in self.inputs):
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

    def sample(self, values: Mapping[str, np.ndarray], row: int, name: str) -> Sample:
        """One of the samples that are fed, by input, as it is shown."""
        taken = {own: self.layouts[own].take(array)[row] for own, array in values.items()}
        return Sample(name, _joined([taken.pop(known) for known in self._shown]), others=taken)

    def feeds(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The values of a sample by input, as the model takes them."""
        return {name: self.layouts[name].feed(value) for name, value in values.items()}

    def shown(self, values: Mapping[str, np.ndarray], row: int = 0) -> np.ndarray:
        """What there is of a sample by explained tensor, its relevance for instance, laid out as that is shown."""
        return _joined([self.layouts[name].take(values[name])[row] for name in self.explained])

    def given(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """What a sample as it is read has by input."""
        return self._split(x, self._shown)

    def split(self, whole: np.ndarray) -> dict[str, np.ndarray]:
        """What is shown, by explained tensor."""
        return self._split(whole, self.explained)

    def _split(self, whole: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        if len(names) < 2:
            return dict.fromkeys(names, whole)
        parts = np.split(whole, np.cumsum([self._widths[name] or 0 for name in names])[:-1])
        shapes = {name: [size for size in self.layouts[name].shape if isinstance(size, int)] for name in names}
        return {name: part.reshape(shapes[name]) for name, part in zip(names, parts, strict=True)}

    def width(self, name: str) -> int | None:
        """How many entries an input or an explained tensor has, where it is a vector of a known size, or a single number."""
        return _width(self.layouts[name].shape)

    def features(self, names: Mapping[str, Sequence[str]]) -> Features | None:
        """What the entries of what is shown are, where that is known: by the model, or by a file that has ``names``."""
        only = self.explained[0] if len(self.explained) == 1 else None
        if None in self._widths.values() or (only is not None and not self._named.get(only) and not names.get(only)):
            return None
        texts = [text for name in self.explained for text in self._named.get(name) or self._numbered(name)]
        return described(texts, self.inputs, names)

    def _numbered(self, name: str) -> list[str]:
        width = self._widths[name] or 0
        return [name] if width == 1 else [f"{name}[{i}]" for i in range(width)]


def _joined(values: Sequence[np.ndarray]) -> np.ndarray:
    """Several arrays as one vector; a single one as it is."""
    return values[0] if len(values) == 1 else np.concatenate([np.zeros(0), *map(np.ravel, values)])


def _width(shape: Shape) -> int | None:
    """How many entries a vector, or a single number, has, perhaps with axes of one entry; None of anything else."""
    sizes = [size for size in shape if isinstance(size, int)]
    return math.prod(sizes) if len(sizes) == len(shape) and sum(size != 1 for size in sizes) < 2 else None
