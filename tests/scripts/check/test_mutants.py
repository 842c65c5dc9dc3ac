"""The faults of scripts/check/mutants.py can be planted: what they replace is there, once, and their tests are there."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts" / "check"))
from mutants import FAULTS, Fault, mutated, named_tests, planted  # noqa: E402


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault_can_be_planted(fault: Fault) -> None:
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    wrong = mutated(fault, text)
    if fault.file.endswith(".py"):
        ast.parse(wrong)
        assert ast.dump(ast.parse(fault.new)) != ast.dump(ast.parse(fault.old))
    assert wrong != text
    for file, test in named_tests(fault):
        tests = (ROOT / file).read_text(encoding="utf-8")
        assert test is None or re.search(rf"^def {test}\(", tests, re.MULTILINE)


SOURCE = """
TABLE = {"a": 1}
TABLE |= {"b": 2}


class Some:
    def method(self, x):
        if x:
            y = f(  # spread out
                x, "é", 1,
            )
        return y


def method(x):
    y = f(x, "é", 1)
    return y + y
"""


@pytest.mark.parametrize(
    ("within", "old", "new", "expected"),
    [
        ("TABLE", "2", "3", '{"b": (3)}'),
        ("method", "f(x, 'é', 1)", "x, 2", "\n    y = (x, 2)\n    return"),
        ("Some.method", "f(x, 'é', 1)", "0", "            y = (0)\n        return y"),
        ("Some.method", "return y", "x = 1\nreturn x", "        x = 1\n        return x\n"),
    ],
)
def test_one_node_is_replaced(within: str, old: str, new: str, expected: str) -> None:
    wrong = mutated(Fault("", "module", within, old, new, ""), SOURCE)
    ast.parse(wrong)
    assert wrong.count(expected) == SOURCE.count(expected) + 1


@pytest.mark.parametrize(
    ("within", "old"), [("method", "y"), ("method", "z"), ("Some.other", "y"), ("method", "return y"), ("Some", "f(x, 'é')")]
)
def test_what_is_not_there_once_is_an_error(within: str, old: str) -> None:
    with pytest.raises(ValueError, match=f"in {within} of onnxdtd/module.py"):
        mutated(Fault("", "module", within, old, "0", ""), SOURCE)


def test_a_fault_is_gone_afterwards(tmp_path: Path) -> None:
    (tmp_path / "onnxdtd").mkdir()
    path = tmp_path / "onnxdtd" / "module.py"
    path.write_text(SOURCE, encoding="utf-8")
    with planted(Fault("", "module", "TABLE", "2", "3", ""), tmp_path):
        assert path.read_text(encoding="utf-8") == SOURCE.replace("2}", "(3)}")
    assert path.read_text(encoding="utf-8") == SOURCE
