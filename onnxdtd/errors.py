"""What can go wrong, as a tree that callers can catch at any level:

OnnxdtdError
├── ModelError      the file is no ONNX classifier, or cannot be read or written
├── RuleError       a rule, a preset or a selection of rules is wrong
├── RequestError    the request does not fit the model: bounds, target, output, inputs
└── Unsupported     nodes without a propagation rule; ``problems`` lists every one
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class OnnxdtdError(Exception):
    """Base class; its text is one plain message for a person."""


class ModelError(OnnxdtdError):
    """The model cannot be read, is not a classifier, or cannot be written."""


class RuleError(OnnxdtdError):
    """A rule file, a preset or a ``--set`` is wrong; the message names file and entry."""


class RequestError(OnnxdtdError):
    """The request does not fit the model."""


def suggestion(name: str, names: Iterable[str], cutoff: float = 0.4) -> str:
    """The end of a message about a name that there is not: at most three that look like it, in whatever case.

    >>> suggestion("lrp-epsilo", ["dtd", "lrp-epsilon"]), suggestion("x", ["dtd"])
    ("; did you mean 'lrp-epsilon'?", '')
    """
    meant = {known.casefold(): known for known in names}
    close = difflib.get_close_matches(name.casefold(), meant, 3, cutoff)
    return f"; did you mean {', '.join(repr(meant[word]) for word in close)}?" if close else ""


def instead(name: str, names: Iterable[str]) -> str:
    """The same, or all there are."""
    known = list(names)
    return suggestion(name, known, 0.6) or f"; there are {', '.join(known) or 'none'}"


def counted(n: int, word: str) -> str:
    """A number of things.

    >>> counted(1, "sample"), counted(2, "sample"), counted(1234, "node")
    ('1 sample', '2 samples', '1,234 nodes')
    """
    return f"{n:,} {word}{'' if n == 1 else 's'}"


@dataclass(frozen=True)
class Problem:
    """Why one node cannot carry relevance, and the nearest way out; ``final``: relevance is not defined on it."""

    op: str
    node: str
    reason: str
    way_out: str
    final: bool = False


class Unsupported(OnnxdtdError):
    """Some nodes on the way from the input to the logits have no propagation rule."""

    def __init__(self, problems: Sequence[Problem]):
        self.problems = list(problems)
        super().__init__(self._text())

    def __reduce__(self) -> tuple[type[Unsupported], tuple[list[Problem]]]:
        """What pickle needs: the problems, not their text."""
        return type(self), (self.problems,)

    def groups(self) -> list[tuple[Problem, list[str]]]:
        """Problems with the same operator, reason and way out, with the names of all their nodes."""
        groups: dict[tuple[str, str, str], tuple[Problem, list[str]]] = {}
        for problem in self.problems:
            key = (problem.op, problem.reason, problem.way_out)
            groups.setdefault(key, (problem, []))[1].append(problem.node)
        return list(groups.values())

    def _text(self) -> str:
        have = "has" if len(self.problems) == 1 else "have"
        lines = [f"{counted(len(self.problems), 'node')} on the way from the input to the logits {have} no propagation rule:"]
        for problem, nodes in self.groups():
            names = ", ".join(nodes[:3]) + (", ..." if len(nodes) > 3 else "")
            lines.append(f"  {problem.op} x{len(nodes)} ({names}): {problem.reason}; {problem.way_out}")
        return "\n".join(lines)
