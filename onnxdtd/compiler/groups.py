"""Steps of one kind as one: what a person wants to see of a model with fifty layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

FEW = 24  # rows that fit a screen
NUMBER = re.compile(r"\d+(?![A-Za-z\d])")  # that of a block, not the 2 of conv2d

STEP = re.compile(r"(dtd/.*?)/(?:forward|reverse)/\d+/")  # of a recurrent layer, see onnxdtd.graph.recurrent
LAST = re.compile(r"(_?\*)?$")
ENDING = re.compile(r"_\*(?=/|$)")  # of the second of a name, whose first has none


@dataclass(frozen=True)
class Group:
    """Steps with the same operator, kind, rule and signs of inputs. ``name`` is a node's, or a pattern as ``--set`` takes it;
    ``input`` has the shapes of the inputs, [*] where they differ; ``explanation`` is what all of them cost.
    """

    name: str
    count: int
    op: str
    kind: str
    rule: str | None
    first: bool
    input: tuple[str, ...]
    explanation: int
    open: bool


def grouped(steps: Sequence[dict[str, Any]]) -> list[Group]:
    """The rows of ``inspect``, many of them in groups: by names that differ in numbers only, or where that leaves many, by the
    block that the first number in the name counts.
    """
    if len(steps) <= FEW:
        return each(steps)
    groups = _by(lambda row: ENDING.sub("", pattern(row["node"])), steps)
    return groups if len(groups) <= FEW else _by(lambda row: _block(pattern(row["node"])), steps)


def each(steps: Sequence[dict[str, Any]]) -> list[Group]:
    """Each row by itself."""
    return [_group([row]) for row in steps]


def pattern(name: str) -> str:
    """A name with * for its numbers.

    >>> pattern("/layer1/layer1.0/conv2/Conv"), pattern("node_conv2d_12"), pattern("node_conv2d")
    ('/layer*/layer*.*/conv*/Conv', 'node_conv2d_*', 'node_conv2d')
    """
    return NUMBER.sub("*", name)


def by_layer(names: Sequence[str]) -> list[str]:
    """Each name, but of nodes that do the same in each step of a recurrent layer a pattern that all of them match.

    >>> by_layer(["conv1", "dtd/lstm1/forward/0/Mul", "dtd/lstm1/forward/1/Mul_1", "dtd/lstm1/Squeeze_7"])
    ['conv1', 'dtd/lstm1/forward/*/Mul*', 'dtd/lstm1/forward/*/Mul*', 'dtd/lstm1/Squeeze*']
    """
    layers = {found[1] for name in names if (found := STEP.match(name))}
    within = [next((layer for layer in layers if name.startswith(f"{layer}/")), "") for name in names]
    return [
        layer + LAST.sub("*", pattern(name[len(layer) :]), count=1) if layer else name
        for name, layer in zip(names, within, strict=True)
    ]


def _block(name: str) -> str:
    """All of a pattern up to its first *, which is what numbers the blocks; all names without one are one."""
    return name.partition("*")[0] if "*" in name else ""


def _by(named: Callable[[dict[str, Any]], str], steps: Sequence[dict[str, Any]]) -> list[Group]:
    """Groups in the order of their first steps."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for row in steps:
        signs = tuple(text.endswith(">=0") for text in row["input"])
        found.setdefault((named(row), row["op"], row["kind"], row["rule"], row["first"], signs), []).append(row)
    return [_group(rows) for rows in found.values()]


def _group(rows: Sequence[dict[str, Any]]) -> Group:
    one, names = rows[0], list(dict.fromkeys(row["node"] for row in rows))
    return Group(
        names[0] if len(names) == 1 else _glob(names),
        len(rows),
        one["op"],
        one["kind"],
        one["rule"],
        one["first"],
        tuple(_shape(texts) for texts in zip(*(row["input"] for row in rows), strict=True)),
        sum(row["explanation"] for row in rows),
        any(row["open"] for row in rows),
    )


def _glob(names: Iterable[str]) -> str:
    """A pattern that all names match."""
    patterns = list(dict.fromkeys(map(pattern, names)))
    if len(patterns) == 1:
        return patterns[0]
    start = _beginning(patterns)
    end = _beginning([text[len(start) :][::-1] for text in patterns])[::-1]
    return re.sub(r"\*+", "*", f"{start}*{end}")


def _beginning(texts: Sequence[str]) -> str:
    """What all begin with."""
    return "".join(letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False)))


def _shape(texts: Sequence[str]) -> str:
    """A shape, or [*] for several; of either the sign."""
    return texts[0] if len(set(texts)) == 1 else "[*]" + ">=0" * texts[0].endswith(">=0")
