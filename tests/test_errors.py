"""Errors: one tree, and messages that say everything at once."""

from __future__ import annotations

import copy
import pickle

import pytest

import onnxdtd
from onnxdtd import errors
from onnxdtd.errors import ModelError, OnnxdtdError, Problem, RequestError, RuleError, Unsupported

PROBLEMS = [
    Problem("Sin", "first", "there is no rule", "do this"),
    Problem("Cos", "second", "there is no rule", "do that"),
    Problem("Sin", "third", "there is no rule", "do this"),
    Problem("Sin", "fourth", "another reason", "do this"),
]


def test_every_error_can_be_caught_at_the_root() -> None:
    kinds = [ModelError, RuleError, RequestError, Unsupported]
    for kind in kinds:
        assert kind.__mro__[1:] == (OnnxdtdError, Exception, BaseException, object)
        assert getattr(onnxdtd, kind.__name__) is kind
    defined = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert set(defined) == {OnnxdtdError, *kinds}
    for kind in defined:
        assert f"{kind.__name__} " in errors.__doc__ or kind is OnnxdtdError
        assert kind.__doc__


def test_problems_are_grouped_by_operator_reason_and_way_out() -> None:
    groups = Unsupported(PROBLEMS).groups()
    assert [(problem.op, problem.reason, nodes) for problem, nodes in groups] == [
        ("Sin", "there is no rule", ["first", "third"]),
        ("Cos", "there is no rule", ["second"]),
        ("Sin", "another reason", ["fourth"]),
    ]


def test_the_message_lists_everything() -> None:
    assert str(Unsupported(PROBLEMS)) == (
        "4 nodes on the way from the input to the logits have no propagation rule:\n"
        "  Sin x2 (first, third): there is no rule; do this\n"
        "  Cos x1 (second): there is no rule; do that\n"
        "  Sin x1 (fourth): another reason; do this"
    )


@pytest.mark.parametrize(
    ("count", "shown"), [(1, "n0)"), (3, "n0, n1, n2)"), (4, "n0, n1, n2, ...)"), (500, "n0, n1, n2, ...)")]
)
def test_the_message_names_the_first_three_nodes(count: int, shown: str) -> None:
    error = Unsupported([Problem("Sin", f"n{i}", "why", "how") for i in range(count)])
    assert f"  Sin x{count} ({shown}: why; how" in str(error)
    assert len(error.problems) == count


def test_the_problems_belong_to_the_error() -> None:
    given = list(PROBLEMS)
    error = Unsupported(given)
    given.clear()
    assert error.problems == PROBLEMS


@pytest.mark.parametrize("error", [ModelError("m"), RuleError("r"), RequestError("q"), Unsupported(PROBLEMS)], ids=repr)
def test_errors_travel_between_processes(error: OnnxdtdError) -> None:
    """As they must where a pool of workers compiles."""
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert getattr(other, "problems", None) == getattr(error, "problems", None)
