"""What the entries of a vector are called, which of them are one feature, and what that is in a sample, in its own units."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

Place = tuple[str, int]  # an input, and the entry of a row of it


@dataclass(frozen=True)
class Entry:
    """An entry of a vector: what it is called, and the ``place`` among the inputs of which it is a ``category``, "=red", or the
    number itself; None for a term of a vocabulary.
    """

    name: str
    place: Place | None = None
    category: str = ""


@dataclass(frozen=True, eq=False)
class Features:
    """What a vector shows: a feature for each of its ``entries``, but only one for the categories of a column."""

    entries: tuple[Entry, ...]

    @cached_property
    def member(self) -> np.ndarray:
        """The number of the feature that each entry belongs to, int64 [entries]."""
        keys = [entry.place if entry.category else i for i, entry in enumerate(self.entries)]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return np.array([numbers[key] for key in keys], np.int64)

    @cached_property
    def firsts(self) -> np.ndarray:
        """The first entry of each feature, int64 [features]."""
        return np.unique(self.member, return_index=True)[1]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the features are called."""
        return tuple(self.entries[i].name for i in self.firsts)

    @cached_property
    def encoded(self) -> dict[int, list[int]]:
        """The entries of each feature that has some for its categories, by its number."""
        return {i: self.below(i) for i, first in enumerate(self.firsts.tolist()) if self.entries[first].category}

    @cached_property
    def inputs(self) -> frozenset[str]:
        """Those of which entries are columns, or categories of columns."""
        return frozenset(entry.place[0] for entry in self.entries if entry.place is not None)

    @cached_property
    def are_terms(self) -> bool:
        """Are they those of a vocabulary, of which a text has few?"""
        return any(entry.place is None for entry in self.entries)

    def sums(self, relevance: np.ndarray) -> np.ndarray:
        """The relevance of each feature, float64 [features], of that of the entries."""
        return np.bincount(self.member, relevance.ravel().astype(np.float64), len(self.firsts))

    def below(self, i: int) -> list[int]:
        """The entries of a feature."""
        return np.flatnonzero(self.member == i).tolist()


@dataclass(frozen=True, eq=False)
class Described:
    """The features of one sample: ``x`` has a number for each entry, ``others`` what inputs have that are not in it."""

    features: Features
    x: np.ndarray
    others: Mapping[str, np.ndarray] = field(default_factory=dict)

    def value(self, i: int) -> float | str | None:
        """What a feature is, None where that is missing."""
        first = int(self.features.firsts[i])
        name, place = self.features.entries[first].place or ("", 0)
        value = self.others[name].ravel()[place] if name in self.others else self.x.ravel()[first]
        if isinstance(value, str):
            return value or None
        return None if np.isnan(value) else float(value)

    def said(self, i: int) -> str:
        """A feature with its value, as it is read."""
        return f"{self.features.names[i]} = {told(self.value(i))}"


def told(value: float | str | None) -> str:
    """A value as it is read.

    >>> told(3750.0), told(0.11840000003576279), told("male"), told(None)
    ('3750', '0.1184', 'male', 'missing')
    """
    if value is None or isinstance(value, str):
        return value or "missing"
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def listed(names: Sequence[str], values: Iterable[float | str | None]) -> list[str]:
    """Features with their values, as they are read.

    >>> listed(["age", "hue"], [40.0, None])
    ['age = 40', 'hue = missing']
    """
    return [f"{name} = {told(value)}" for name, value in zip(names, values, strict=True)]


def numbered(names: Sequence[str], x: np.ndarray) -> list[str]:
    """Those of numbers, where they have names."""
    return listed(names, [None if np.isnan(value) else value for value in x.ravel().tolist()]) if names else []


def unnamed(count: int) -> Features:
    """Features that have numbers only."""
    return Features(tuple(Entry(f"feature {i}", ("", i)) for i in range(count)))


def described(texts: Iterable[str], inputs: Sequence[str], names: Mapping[str, Sequence[str]]) -> Features:
    """Those of a vector whose entries a model calls ``texts``: one of its ``inputs``, an entry of one, x[3], a category of
    either, x=red, or a term. A file may have other ``names`` for the columns of inputs, which stand in their place.
    """
    patterns = {
        name: re.compile(rf"({re.escape(name)}(?:\[(\d+)\])?)(=.*)?", re.DOTALL)
        for name in sorted(inputs, key=len, reverse=True)
    }

    def entry(text: str) -> Entry:
        for name, pattern in patterns.items():
            if text.startswith(name) and (found := pattern.fullmatch(text)):
                own, number = names.get(name, ()), int(found[2] or 0)
                return Entry(own[number] if number < len(own) else found[1], (name, number), found[3] or "")
        return Entry(text)

    return Features(tuple(map(entry, texts)))
