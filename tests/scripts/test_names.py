"""What the scripts are called: a script and its neighbours are on the path before any package."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NAMES = sorted(path.stem for path in SCRIPTS.rglob("*.py"))
PACKAGES = {"coverage", "onnxdtd", "onnxruntime", "tables"}  # as installed with the extras, or by many who have none of ours


def importable(names: list[str]) -> list[str]:
    """Those that Python finds where nothing of this repository is on its path."""
    script = "import importlib.util, json, sys; print(json.dumps([n for n in sys.argv[1:] if importlib.util.find_spec(n)]))"
    done = subprocess.run([sys.executable, "-I", "-c", script, *names], capture_output=True, text=True, check=True, cwd="/")
    found: list[str] = json.loads(done.stdout)
    return found


def test_no_script_shadows_a_package() -> None:
    assert importable([*NAMES, "json", "numpy"]) == ["json", "numpy"]
    assert not PACKAGES & set(NAMES)
    assert Counter(NAMES).most_common(1)[0][1] == 1  # nor one another


@pytest.mark.parametrize("path", sorted(SCRIPTS.rglob("*.py")), ids=lambda path: path.stem)
def test_a_script_says_what_it_is_for(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith('"""')


def test_every_script_is_in_the_index() -> None:
    """By its name; a module that only scripts import too."""
    index = (SCRIPTS / "README.md").read_text(encoding="utf-8")
    files = [path for path in SCRIPTS.rglob("*") if path.is_file() and path.suffix not in (".md", ".png", ".pyc")]
    assert [path.name for path in files if f"{path.name}`" not in index and f"{path.name} " not in index] == []
