"""The faults of scripts/mutants.py can be planted: what they replace is there, once."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parent.parent / "scripts" / "mutants.py"
SPEC = importlib.util.spec_from_file_location("mutants", PATH)
assert SPEC is not None
assert SPEC.loader is not None
mutants = importlib.util.module_from_spec(SPEC)
sys.modules["mutants"] = mutants  # where dataclasses look
SPEC.loader.exec_module(mutants)


@pytest.mark.parametrize("fault", mutants.FAULTS, ids=lambda fault: fault.what)
def test_fault_can_be_planted(fault: mutants.Fault) -> None:
    text = (PATH.parent.parent / "onnxdtd" / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.old) == 1
    assert fault.new != fault.old
    for name in fault.tests.split():
        assert (Path(__file__).parent / f"test_{name}.py").is_file()
