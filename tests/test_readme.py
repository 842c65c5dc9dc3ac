"""Every command and every piece of code in the README and in the guide runs, in the order in which a reader would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import assets
import npm
import numpy as np
import pytest

import onnxdtd
from onnxdtd.cli.commands import main
from onnxdtd.request import Request

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "onnxdtd" / "GUIDE.md").read_text(encoding="utf-8")
TEST_COMMAND = "./scripts/test"
FEW = 2  # samples of each file; a heatmap takes a quarter of a second
TUNED = 8  # to tune on, which takes more


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README + GUIDE, re.M | re.S)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a clone with few samples and may be written to."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("scripts", "rules"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "models").mkdir()
    for path in (ROOT / "models").iterdir():
        if not path.name.endswith("_samples.npz"):
            (folder / "models" / path.name).symlink_to(path)
    (folder / "mine.toml").write_text(blocks("toml")[0], encoding="utf-8")
    sampled(folder, FEW)
    with suppress(npm.Missing):
        (folder / "node_modules").symlink_to(npm.node_modules())
    return folder


def sampled(folder: Path, count: int) -> None:
    """Write the first ``count`` samples of each file."""
    for path in (ROOT / "models").glob("*_samples.npz"):
        with np.load(path) as arrays:
            every = len(arrays["label"])
            few = {name: array[:count] if array.shape[:1] == (every,) else array for name, array in arrays.items()}
            np.savez(folder / "models" / path.name, **few)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """With this environment's commands first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "ONNXDTD_VENV": sys.prefix, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_shell_and_python(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test, since later blocks read what earlier ones wrote."""
    commands = [line for block in blocks("bash") for line in block.splitlines() if line]
    assert commands[:2] == ["./scripts/demo", TEST_COMMAND]
    monkeypatch.chdir(clone)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # a worker a core would load all libraries again
    for command in commands:
        if command == TEST_COMMAND or (command.startswith("onnxdtd page ") and not (clone / "node_modules").exists()):
            continue  # it is what runs this; there is no npm
        sampled(clone, TUNED if command.startswith("onnxdtd tune ") else FEW)
        if command.startswith("onnxdtd "):  # what the console script calls; a process each would load all libraries again
            monkeypatch.setattr(sys, "argv", shlex.split(command))
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code, command
        else:
            run(shlex.split(command), clone)
    assert len(list((clone / "heatmaps").glob("*.png"))) == FEW
    for code in blocks("python"):
        run([sys.executable, "-W", "error", "-c", code], clone)


def test_consistency_is_as_the_guide_says(clone: Path) -> None:
    """Under the two-digit network dtd is consistent on all inputs, z and αβ on none."""
    printed = run([sys.executable, "scripts/check/consistency.py"], clone).stdout
    found = {}
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if len(cells) == 6 and cells[1].endswith("%"):
            found[cells[0]] = tuple(f"{float(cell[:-1]):g}" for cell in cells[1:4])
    written = {}
    for names, *cells in re.findall(r"^\| (`[^|]+`) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", GUIDE, re.M):
        written |= dict.fromkeys(re.findall(r"`([^`]+)`", names), tuple(cells))
    assert found == written
    assert len(found) == len(written) == 6


@pytest.mark.parametrize(
    "folder",
    [
        ROOT / "models",
        pytest.param(assets.ROOT / "models", marks=pytest.mark.skipif(bool(assets.MISSING), reason=assets.MISSING)),
    ],
    ids=["bundled", "assets"],
)
def test_the_preset_of_ones_own_fits_every_model_that_the_default_fits(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(blocks("toml")[0], encoding="utf-8")
    bounded: list[dict[str, float]] = [{}, {"low": 0.0, "high": 1.0}]
    for model in sorted(folder.glob("*.onnx")):
        bounds = bounded if model.stat().st_size < 1e6 else bounded[1:]
        for given in bounds:
            try:
                onnxdtd.inspect(model, Request(**given))
            except onnxdtd.OnnxdtdError:
                continue
            onnxdtd.compile(model, mine, **given)


def test_the_readme_is_for_a_newcomer() -> None:
    """Short, with pictures of a photograph, a report and a page, and every number has a page that it comes from."""
    assert len(README.encode()) <= 14 * 1024
    assert re.findall(r"!\[.*?\]\((.*?)\)", README) == [f"scripts/results/{name}.png" for name in ("photo", "report", "page")]
    assert README.count("# ") >= 10


def test_ci_runs_the_test_command_of_the_readme() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert TEST_COMMAND in lines


def test_table_of_presets_is_complete() -> None:
    from onnxdtd.method.toml import Library

    section = GUIDE.split("## Choosing a rule")[1].split("## ")[0]
    named = set(re.findall(r"`([a-z0-9-]+)`", section.split("On `two_digits")[0]))
    listed = named | {f"{name}-flat" for name in named if f"| `{name}`, `-flat`" in section}
    assert listed - {"-flat"} == set(Library().presets)


def test_the_definitions_fit_a_page_and_are_complete() -> None:
    """They are in the wheel; what was measured is not."""
    from onnxdtd.method.toml import Library

    page = ROOT / "rules" / "README.md"
    assert page.stat().st_size <= 6 * 1024
    sections = dict(part.split("\n", 1) for part in page.read_text(encoding="utf-8").split("\n## ")[1:])
    named = {
        head: set(re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| (`.*?) \|", sections[head], re.M)))) for head in sections
    }
    assert named["Rules"] == set(Library().rules)
    assert named["Presets"] == set(Library().presets)


FOLDERS = ("rules", "models", "scripts", "onnxdtd")
PAGES = [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/**/*.md"))]


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_headings(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    assert [(file, head) for file, head in links if head not in anchors(page.parent / file if file else page)] == []


def test_the_part_on_production_begins_with_all_its_sections() -> None:
    """In their order, each with what it is for."""
    part = GUIDE.split("\n## In production\n")[1].split("\n## ")[0]
    listed = re.findall(r"^\| [^|]+ \| \[([^\]]+)\]\(#", part, re.M)
    assert listed == re.findall(r"^### (.+)$", part, re.M)
