"""Command lines for tests: in this process, which is quick, or in one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from onnxdtd.cli import commands as cli

COMMAND = get_command(cli.app)  # what typer makes of it anew at every call
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line inside this process."""
    monkeypatch.setattr(cli, "app", COMMAND)
    monkeypatch.setattr(cli.out, "width", 160)
    monkeypatch.delenv("ONNXDTD_TRACEBACK", raising=False)

    def command(*args: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["onnxdtd", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        shown = capsys.readouterr()
        return Ran(int(stopped.value.code or 0), shown.out, shown.err)

    return command


def ran(*args: object, cwd: Path | None = None, **environment: str) -> Ran:
    """Run a command line in a process of its own."""
    command = [sys.executable, "-m", "onnxdtd", *map(str, args)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160", **environment}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False, timeout=60)
    return Ran(done.returncode, done.stdout, done.stderr)
