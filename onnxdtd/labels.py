"""What the classes of a model are called, and which one is meant by a label or an index."""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from onnxdtd import bounded
from onnxdtd.contract import Metadata
from onnxdtd.errors import RequestError, suggestion

BACKGROUND = ("background", "__background__", "dummy", "none")
INTEGER = re.compile(r"[+-]?[0-9]{1,99}")  # of thousands of digits Python makes none
WORDNET = re.compile(r"n\d{8}\s+")  # what stands before a name in the lists of ImageNet
FEW = 12  # labels that a message lists
SEVERAL = 5  # ... of those with the word that was asked for
MOST = 1_000_000
MOST_PYTHON = 2**20  # letters; Python takes 450 bytes of memory for each where nothing but brackets is written
LARGEST = 2**63  # and no int64


class Index(int):
    """The position of a class among the logits; a plain number may be a label."""


@dataclass(frozen=True)
class Labels:
    """``own`` labels of a model, strings or integers, ``names`` that a user gives the classes instead; both in the order of the
    logits, those of a binary model with one logit for class 0 and class 1. ``count`` is the number of classes, None where it is
    known at run time only. ``what`` a class is, a cell of a map perhaps, and ``where`` it is looked for, if there are several
    positions.
    """

    own: Sequence[str | int] | None = None
    names: Sequence[str] | None = None
    count: int | None = None
    what: str = "class"
    where: str = ""

    @property
    def is_quantity(self) -> bool:
        """Is there one score, which is no class by name?"""
        return self.count == 1 and not (self.names or self.own)

    def named(self, names: Sequence[str] | None) -> Labels:
        """The same with other names. Raises ``RequestError`` where there are more or fewer than classes."""
        if names is None:
            return self
        if self.count is not None and len(names) != self.count:
            raise RequestError(f"{len(names)} labels for {self.count} classes{_off_by_one(names, self.count)}")
        return replace(self, names=tuple(names))

    def replaced(self) -> Iterator[str]:
        """Says that names stand for other labels of the model's own."""
        if self.names and self.own and list(self.names) != [str(label) for label in self.own]:
            yield f"the labels given are shown in place of the model's own, {listed(self.own)}"

    def shown(self) -> list[str] | None:
        """What all classes are called; None where they have numbers only."""
        known = self.names or self.own
        return None if known is None else [str(label) for label in known]

    def __getitem__(self, index: int) -> str:
        """What to call a class: its name, its label, or its number."""
        known = self.names or self.own
        name = str(known[index]) if known and 0 <= index < len(known) else f"{self.what} {index}"
        if self.is_quantity:
            return self.where or "output"
        return f"{name} at {self.where}" if self.where else name

    def brief(self, label: str) -> str:
        """What ``self[index]`` has said with the first synonym only, unless several classes share that.

        >>> labels = Labels(names=["tabby, tabby cat", "crane, bird", "crane, machine"])
        >>> labels.brief("tabby, tabby cat"), labels.brief("crane, bird")
        ('tabby', 'crane, bird')
        """
        known, where = self.shown() or [], f" at {self.where}" if self.where else ""
        name = label.removesuffix(where)
        short = first_synonym(name)
        alone = name in known and [first_synonym(other) for other in known].count(short) == 1
        return short + label[len(name) :] if alone and short else label

    def index(self, target: int | str, what: str = "target") -> Index:
        """The class that a label or an index means; what could be either is the label. Raises ``RequestError`` for no class."""
        said = self._said(target)
        for matches in () if isinstance(said, Index) else chain(self._matches(target), self._matches(said)):
            if len(matches) > 1:
                raise RequestError(f"{what} {target!r}: the classes {listed(matches)} are called so; give the index of one")
            if matches:
                return Index(matches[0])
        if isinstance(said, str) and not INTEGER.fullmatch(said):
            ways = "" if self.names or self.own else "; it has no labels: give an index, or 'argmax', or names with --labels"
            raise RequestError(f"{what} {target!r} is no class of this model{self._instead(target)}{ways}")
        if not 0 <= int(said) < (LARGEST if self.count is None else self.count):
            raise RequestError(f"{what} {target} is no class of this model{self._instead(target)}")
        return Index(said)

    def _said(self, target: int | str) -> int | str:
        """What ``self[index]`` is said of: without the position, and of a class that has no name its number."""
        if not isinstance(target, str):
            return target
        name = target.removesuffix(f" at {self.where}") if self.where else target
        number = name.removeprefix(f"{self.what} ")
        nameless = number != name and not (self.names or self.own) and INTEGER.fullmatch(number)
        return Index(number) if nameless else name

    def own_index(self, label: Any) -> int | None:
        """The class of a label that the model gave; None where it is not among those known."""
        if self.own is not None and label in self.own:
            return list(self.own).index(label)
        return None if isinstance(label, str) else int(label)

    def labelled(self, label: int | str, what: str = "label") -> Index:
        """The class of a label in a data set: where the model has integers for labels, these are no indices."""
        numbers = self.own is not None and all(isinstance(known, int) for known in self.own)
        if numbers and INTEGER.fullmatch(str(label)) and int(label) not in (self.own or ()):
            raise RequestError(f"{what} {label} is none of the model's, {listed(self.own or ())}")
        return self.index(str(label), what)

    def strange(self, given: Iterable[int | str | None]) -> list[int | str]:
        """The labels in a data set, each once, that no class is called."""
        found = []
        for label in dict.fromkeys(label for label in given if label is not None):
            try:
                self.labelled(label)
            except RequestError:
                found.append(label)
        return found

    def understood(self, target: int | str) -> str:
        """Which class a target was taken for, in words; nothing where there are no labels that it could have been."""
        if isinstance(target, Index) or not (self.names or self.own):
            return ""
        index = self.index(target)
        if not any(index in matches for matches in self._matches(target)):
            return f"target {target}: taken for an index, that of {self[index]!r}"
        number = int(target) if re.fullmatch(r"[0-9]+", str(target)) else index
        other = number != index and number < (self.count or 0)
        words = f"target {target}: taken for a label, {self[index]!r}, of the class with the index {index}"
        return words + (f"; the one with the index {number} is {self[number]!r}" if other else "")

    def _matches(self, target: int | str) -> Iterator[list[int]]:
        """The classes that are called so, in ever looser senses."""
        if not isinstance(target, str):
            yield _places(target, (label if isinstance(label, int) else None for label in self.own or ()))
            return
        for known in (self.names or (), self.own or ()):
            words = [str(label) for label in known]
            yield _places(target, words)
            yield _places(target, map(first_synonym, words))
            yield _places(target.strip().casefold(), (first_synonym(word).casefold() for word in words))

    def _instead(self, target: int | str) -> str:
        """What there is, and what is called nearly so."""
        words = [str(label) for label in self.names or self.own or ()]
        word, short = str(target).strip().casefold(), [first_synonym(name) for name in words]
        if having := sorted((name for name in short if word in re.findall(r"\w+", name.casefold())), key=len)[:SEVERAL]:
            return f"; did you mean {', '.join(map(repr, having))}?"
        if close := suggestion(str(target), [*words, *short], 0.6):
            return close
        plural = "cells" if self.what == "cell" else "classes"
        classes = "" if self.count is None else f", which has {plural} 0 to {self.count - 1}"
        return classes + (f", called {listed(words)}" if words else "")


def labels_of(said: Metadata) -> Labels:
    """What a compiled model says of its classes; older files have less."""
    from onnxdtd.cells import named  # which knows arrays: the command line starts without them

    called = named(said.get("axes"), said.get("position"), said.get("target", "argmax"), said.get("reference"))
    return Labels(said.get("labels"), said.get("names"), said.get("classes"), *called)


def uncalled(labels: Sequence[int | str]) -> str:
    """What to say of labels in a data set that no class is called."""
    return f"no class of the model is called like these labels in the data: {listed(labels)}; --labels FILE names the classes"


def first_synonym(name: str) -> str:
    """A name without its synonyms and its WordNet number.

    >>> first_synonym("tabby, tabby cat"), first_synonym("n02123045 tabby, tabby cat")
    ('tabby', 'tabby')
    """
    return WORDNET.sub("", name.partition(",")[0].strip(), count=1)


def class_label(said: Any) -> int | str:
    """What a file says of a sample's class: an integer where that is meant. Raises ``ValueError`` where it says nothing.

    >>> class_label(" 7"), class_label("spam"), class_label(3), class_label(1.0)
    (7, 'spam', 3, 1)
    """
    whole = int(said) if isinstance(said, float) and said.is_integer() else said
    try:
        text = said.strip() if isinstance(said, str) else "" if said is None else str(operator.index(whole))
    except TypeError:
        raise ValueError(f"{said!s:.60} is no label") from None
    if not text:
        raise ValueError("it has no label")
    return int(text) if INTEGER.fullmatch(text) else text


def read(path: Path) -> tuple[str, ...]:
    """The names of the classes: one a line, or a list or an object of index to name, as JSON or as Python writes it."""
    try:
        text = bounded.text(path)
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: no labels can be read from it ({error})") from None
    found = parsed(text)
    if found is None and path.suffix.lower() == ".json":
        raise RequestError(f"{path}: no labels can be read from it; give a list of names, or an object of index to name")
    lines = text.rstrip().splitlines() if found is None else map(str, found)
    return tuple(line.strip() for line in lines)


def parsed(text: str) -> list[str | int] | None:
    """A list of labels, or what maps indices to labels or labels to indices, written in JSON or as Python writes it; None for
    any other text. Classes that are left out have their index for a label.

    >>> parsed("{0: 'cat', 2: 'dog'}"), parsed('{"dog": 1, "cat": 0}'), parsed("cat\\ndog")
    (['cat', '1', 'dog'], ['cat', 'dog'], None)
    """
    if text.lstrip()[:1] not in ("[", "{", "(") or len(text) > bounded.MOST_TEXT:
        return None
    try:
        return _listed(_read(text))
    except RecursionError:
        return None


def _read(text: str) -> Any:
    """What the text says, None where that cannot be read."""
    try:
        return json.loads(text)
    except ValueError:
        if len(text) > MOST_PYTHON:
            return None
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError):
            return None


def _listed(data: Any) -> list[str | int] | None:
    """Labels in order."""
    if isinstance(data, dict):
        turned = data if all(map(_is_index, data)) else {str(value): key for key, value in data.items()}  # as in torchvision
        pairs = {int(key): value for key, value in turned.items() if _is_index(key)}
        if len(pairs) < len(data) or max(pairs, default=0) > MOST:
            return None
        data = [pairs.get(i, str(i)) for i in range(max(pairs, default=-1) + 1)]
    return [_label(entry) for entry in data] if isinstance(data, list | tuple) else None


def _is_index(value: Any) -> bool:
    return isinstance(value, str | int) and INTEGER.fullmatch(str(value)) is not None and int(value) >= 0


def _label(entry: Any) -> str | int:
    """A label; of several names for a class the last, as in Keras' list of ImageNet's."""
    while isinstance(entry, list | tuple) and entry:
        entry = entry[-1]
    return entry if isinstance(entry, int) and not isinstance(entry, bool) else str(entry)


def _places(wanted: Any, words: Iterable[Any]) -> list[int]:
    return [i for i, word in enumerate(words) if word == wanted]


def _off_by_one(names: Sequence[str], count: int) -> str:
    """What is probably the matter with a list that has one label too many or too few."""
    if len(names) == count + 1 and names[0].casefold() in BACKGROUND:
        return f"; take out the first one, {names[0]!r}, which this model does not have"
    if len(names) == count - 1:
        return "; some models, such as TensorFlow's of ImageNet, have a class 0 for the background: put a name for it in front"
    return ""


def listed(values: Sequence[Any]) -> str:
    """The first of some values, and how many more there are.

    >>> listed([1, 2]), listed(["tench, Tinca tinca", "goldfish"])
    ('1, 2', 'tench, Tinca tinca; goldfish')
    """
    first = [str(value) for value in values[:FEW]]
    more = f" and {len(values) - FEW} more" if len(values) > FEW else ""
    return ("; " if any("," in value for value in first) else ", ").join(first) + more
