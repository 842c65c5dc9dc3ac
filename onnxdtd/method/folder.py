"""Where the files of rules, methods and presets are, and what is defined there, for whoever completes a command line."""

from __future__ import annotations

import tomllib
from pathlib import Path


def data_folder() -> Path:
    """Where the rule files are: inside the package in a wheel, beside it in a checkout."""
    here = Path(__file__).resolve().parent.parent
    return next(folder for folder in (here / "rules", here.parent / "rules") if (folder / "rules.toml").is_file())


def defined(kind: str) -> list[str]:
    """The names of our ``"preset"`` or ``"rule"`` entries, without a look at what they say."""
    return list(tomllib.loads((data_folder() / f"{kind}s.toml").read_text(encoding="utf-8"))[kind])
