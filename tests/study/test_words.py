"""Numbers as sentences have them."""

from __future__ import annotations

import pytest

from onnxdtd.study.words import number


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.4, "0.400"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234.5, "1.23e3"),
        (1.5e-7, "1.50e-7"),
        (0.0, "0"),
        (-0.5, "-0.500"),
        (7, "7"),
    ],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown
