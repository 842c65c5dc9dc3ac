"""What was checked, and what was found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """A question with its answer, passed or failed or None for a remark, and what was found."""

    name: str
    passed: bool | None
    finding: str


@dataclass(frozen=True)
class Report:
    """All checks, and the balance of every step: means over the inputs, relevance as shares of the explained logit. ``about``
    says what is in the file, which rules it has, and where all of this comes from.
    """

    checks: list[Check]
    steps: list[dict[str, Any]]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        """The names of the checks that failed."""
        return [check.name for check in self.checks if check.passed is False]

    @property
    def passed(self) -> bool:
        """Did no check fail?"""
        return not self.failed

    def as_data(self) -> dict[str, Any]:
        """What ``onnxdtd verify --json`` prints."""
        checks = [asdict(check) for check in self.checks]
        return {"passed": self.passed, "verdict": self.verdict, "checks": checks, "steps": self.steps, **self.about}

    @property
    def verdict(self) -> str:
        """What to say of the file, in a few words."""
        if self.failed == ["version"]:
            return "NOT VERIFIED: another version compiled it; the checks above are what this one can tell"
        alone = any(check.name == "source" and check.passed is None for check in self.checks)
        told = "is what it says it is" + (", as far as the file alone can tell" if alone else "")
        return f"FAILED: {', '.join(self.failed)}" if self.failed else told
