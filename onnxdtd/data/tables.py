"""The samples of a table as a model takes them: columns by name, of which one may have the classes and one their names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxdtd.data.sheets import Sheet, plain
from onnxdtd.data.texts import LABEL_NAMES
from onnxdtd.errors import RequestError
from onnxdtd.labels import listed

INDEX = ("", "__index_level_0__")  # what pandas calls the column of its own row names
AS_IT_IS = (
    "its numbers are taken as they are, of which --range, --mean and --std give the bounds alone; write what the model takes "
    "into the file"
)
TARGET = "--target-column"
GUESSED = {"--id": "the names of the samples", "--label": "the label, and is no feature"}


@dataclass(frozen=True)
class Roles:
    """The columns, by name, that are no features: the true classes, the names of the samples, the classes to explain."""

    label: str | None = None
    id: str | None = None
    target: str | None = None

    def among(self, found: Sheet) -> Roles:
        """Those that a table has."""
        known = {plain(name) for name in found.names}
        return Roles(
            *(name if name is not None and plain(name) in known else None for name in (self.label, self.id, self.target))
        )

    def places(self, found: Sheet) -> dict[str, int | None]:
        """Where they are, by the options that name them. Raises ``RequestError`` where a table has none of that name."""
        named = {"--id": self.id, "--label": self.label, TARGET: self.target}
        return {option: None if name is None else found.place(name, f"{option} ") for option, name in named.items()}


NO_ROLES = Roles()


@dataclass(frozen=True)
class Intake:
    """What an input of a model takes of a row: the column of its name, or ``width`` of them, name[0], name[1] ...; None: any
    number of them. Where it takes words, ``words`` are those that it knows. ``missing``: may values be missing?
    """

    name: str
    width: int | None
    words: Collection[str] | None = None
    missing: bool = False

    def is_in(self, found: Sheet) -> bool:
        """Are there columns that are called as it?"""
        return bool(self._several(found)) or (self.width == 1 and any(plain(name) == plain(self.name) for name in found.names))

    def _several(self, found: Sheet) -> list[str]:
        """Columns that are called as it, with numbers."""
        numbered = re.compile(rf"{re.escape(plain(self.name))}\[\d+\]")
        return [name for name in found.names if numbered.fullmatch(plain(name))]

    def columns(self, found: Sheet) -> list[int]:
        """Those that it takes. Raises ``RequestError`` where there are not all of them."""
        several = self._several(found)
        if self.width == 1 or (self.width is None and not several):
            return [found.place(self.name)]
        if self.width not in (None, len(several)):
            has = f"{found.path}: has {len(several) or 'none'} of the columns {self.name}[0], {self.name}[1] ..."
            raise RequestError(f"{has}, but the model takes {self.width}")
        return [found.place(name) for name in sorted(several, key=lambda name: int(name.rpartition("[")[2][:-1]))]

    def values(self, found: Sheet, columns: Sequence[int]) -> np.ndarray:
        """These columns side by side, [n, columns]: float64, or strings. Raises ``RequestError`` for what is neither."""
        if self.words is not None:
            return np.stack([found.words(column, self.words) for column in columns], axis=1)
        return np.stack([found.numbers(column, self.missing) for column in columns], axis=1)


@dataclass(frozen=True)
class Filled:
    """The rows of a table as a model takes them: ``values`` [n, columns] by input; ``names`` of these columns by input, none
    where the file has none; what the samples are ``called``; their ``labels``, where there are some; what to know of that; and
    the ``targets``, the classes to explain, where a column says that.
    """

    values: Mapping[str, np.ndarray]
    names: Mapping[str, tuple[str, ...]]
    called: Sequence[str]
    labels: Sequence[int | str | None] | None
    notes: Sequence[str]
    targets: Sequence[int | str | None] | None = None


def rows(found: Sheet, intakes: Sequence[Intake], roles: Roles, own_labels: Sequence[str] = (), scaled: bool = False) -> Filled:
    """The columns that a model takes: those that are called as its inputs, in any order; a model of one input takes all but the
    label and the names of the samples, in the order of the file, if none is called as that is.

    What is neither named by ``roles`` is guessed where it is left over and called as labels usually are, or as the model's
    ``own_labels``. ``scaled``: are pixels scaled for this model, which columns are not? Raises ``RequestError`` where columns
    are missing, are too many, or have what the model does not take.
    """
    places = roles.places(found)
    by_name = len(intakes) > 1 or intakes[0].is_in(found)
    taken = {intake.name: intake.columns(found) for intake in intakes} if by_name else {}
    used = [place for columns in taken.values() for place in columns]
    _check_roles(found, places, used)
    rest = [place for place in range(len(found.columns)) if place not in (*places.values(), *used)]
    notes, width = [f"{found.path.name}: {AS_IT_IS}"] * scaled, 0 if by_name else intakes[0].width
    for option, names in (("--id", INDEX), ("--label", (*own_labels, *LABEL_NAMES))):
        guess = next((place for name in names for place in rest if found.is_called(place, name)), None)
        if places[option] is None and guess is not None and width is not None and len(rest) > width:
            places[option] = guess
            rest.remove(guess)
            notes.append(f"{found.path.name}: the {found.called(guess)} is taken for {GUESSED[option]}")
    if by_name and rest:
        left = listed([found.names[place] for place in rest])
        notes.append(f"{found.path.name}: left out, since the model takes no such input: {left}")
    if not by_name:
        _check_count(found, rest, width, [option for option in ("--label", "--id") if places[option] is None])
        taken = {intakes[0].name: rest}
    return Filled(
        {intake.name: intake.values(found, taken[intake.name]) for intake in intakes},
        {name: tuple(found.names[place] for place in columns) if found.names else () for name, columns in taken.items()},
        found.called_rows(places["--id"]),
        found.labels(places["--label"]),
        notes,
        found.labels(places[TARGET]),
    )


def _check_roles(found: Sheet, given: Mapping[str, int | None], used: Sequence[int]) -> None:
    """Raises ``RequestError`` where a column is to be two things."""
    for option, place in given.items():
        if place is not None and place in used:
            raise RequestError(f"{option} {found.names[place]}: the model takes this column of {found.path} as an input")
    if (label := given["--label"]) is not None and label == given["--id"]:
        raise RequestError(f"--label and --id: both are the {found.called(label)} of {found.path}")


def _check_count(found: Sheet, rest: Sequence[int], width: int | None, free: Sequence[str]) -> None:
    """Raises ``RequestError`` where there are not as many columns as the model takes; ``free`` options may name some."""
    if width is None or width == len(rest):
        return
    has = f"{found.path}: has {len(rest)} column{'s' * (len(rest) != 1)} of features, but the model takes {width}"
    if len(rest) < width:
        raise RequestError(has)
    if not found.names:
        raise RequestError(f"{has}; names in its first line would tell which, with --label NAME and --id NAME")
    surplus, listing = len(rest) - width, listed([found.names[place] for place in rest])
    if surplus > len(free):
        raise RequestError(f"{has}: take out {surplus} of {listing}, and leave the others in the order that the model takes")
    words = [place for place in rest if not found.has_number(place)]
    way = f"for example {_role(found, words[0], free)} {found.names[words[0]]}" if words else f"by {' or '.join(free)}"
    raise RequestError(f"{has}; say which are none, {way}, or take them out; it has {listing}")


def _role(found: Sheet, column: int, free: Sequence[str]) -> str:
    """Which of ``free`` options a column of words is for by its looks: no two samples have one name."""
    return "--id" if "--id" in free and len({*found.columns[column]}) == len(found) > 1 else free[0]
