"""Packages of npm are installed once for all workers, and what is missing is said."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import npm
import pytest

TESTS = Path(__file__).resolve().parent
ASK = f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
import npm
from pathlib import Path
try:
    print(npm.node_modules("run", Path(sys.argv[1])).name)
except npm.Missing as why:
    print(why)
"""


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package.json, and an npm that writes down that it was called."""
    for name in ("node", "npm"):
        tool = tmp_path / name
        tool.write_text(
            '#!/bin/sh\necho "$1" >> called\nsleep 0.2\nmkdir -p node_modules\n[ ! -e broken ] || { cat broken >&2; exit 1; }\n'
        )
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    (tmp_path / "package.json").write_text("{}")
    return tmp_path


def asked_by(count: int, web: Path) -> list[str]:
    """What as many processes are told that ask at the same time"""
    command = [sys.executable, "-c", ASK, str(web)]
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [process.communicate()[0].strip() for process in asking]


def test_one_installs_for_all(web: Path) -> None:
    assert asked_by(2, web) == ["node_modules"] * 2
    assert (web / "called").read_text().split() == ["install"]
    (web / "package.json").write_text('{"private": true}')
    assert npm.node_modules(web=web) == web / "node_modules"
    assert (web / "called").read_text().split() == ["install"] * 2  # other packages are asked for


def test_after_a_failure_nobody_tries_again_in_the_same_run(web: Path) -> None:
    (web / "broken").write_text("npm error code ENOTFOUND\n")
    assert asked_by(2, web) == ["npm install failed: npm error code ENOTFOUND"] * 2
    assert (web / "called").read_text().split() == ["install"]
    (web / "broken").unlink()
    assert npm.node_modules("another", web).is_dir()


def test_what_is_missing_is_said(web: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (web / "package.json").unlink()
    monkeypatch.setenv("PATH", str(web / "nowhere"))
    with pytest.raises(npm.Missing, match="no browser on the path: chromium, "):
        npm.chromium()
    (web / "package.json").write_text("{}")
    with pytest.raises(npm.Missing, match="no node and npm on the path"):
        npm.node_modules(web=web)


def test_the_packages_are_there(node_modules: Path) -> None:
    """One version of both runtimes: what differs is not the version."""
    said = [json.loads((node_modules / name / "package.json").read_text()) for name in ("onnxruntime-node", "onnxruntime-web")]
    assert said[0]["version"] == said[1]["version"]
    assert (node_modules / "playwright-core" / "index.mjs").is_file()
