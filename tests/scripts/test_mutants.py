"""The faults of scripts/mutants.py can be planted: what they replace is there, once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from mutants import FAULTS, Fault, file_of_tests  # noqa: E402


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault_can_be_planted(fault: Fault) -> None:
    text = (ROOT / "onnxdtd" / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.old) == 1
    assert fault.new != fault.old
    for name in fault.tests.split():
        assert (ROOT / file_of_tests(name)).is_file()
