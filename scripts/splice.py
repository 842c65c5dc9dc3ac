"""Where scripts write what they measured: between two markers of a page, as tables in Markdown, with how and where that was.

A page may say more around the markers ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``, which nothing here touches.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "scripts" / "results"
USUAL = ("onnxruntime", "onnxruntime-gpu", "onnx", "numpy")  # what every measurement depends on


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown, a cell a column.

    >>> print(table(["model", "error"], [["vgg16", 0.5]]))
    | model | error |
    |---|---|
    | vgg16 | 0.5 |
    """
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def folded(title: str, text: str) -> str:
    """What a reader of the page has to ask for."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def option(parser: ArgumentParser, name: str) -> None:
    """The option that every script with a page has; without a value it is the page of that name in scripts/results."""
    page = RESULTS / f"{name}.md"
    text = f"put the tables between the markers of this page (scripts/results/{name}.md)"
    parser.add_argument("--write", nargs="?", type=Path, const=page, metavar="PAGE", help=text)


def write(page: Path, name: str, text: str, packages: Sequence[str] = ()) -> None:
    """Put ``text`` between the markers of a page, under a line that says how it came about; make a page that is not there."""
    splice(page, name, f"{provenance(packages)}\n\n{text}")


def splice(page: Path, name: str, text: str) -> None:
    """Replace what stands between the markers ``name``. Raises SystemExit where there is not one pair of them."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    content = page.read_text(encoding="utf-8") if page.exists() else f"{begin}\n{end}\n"
    if (content.count(begin), content.count(end)) != (1, 1) or content.index(begin) > content.index(end):
        raise SystemExit(f"{page}: there must be one line {begin} and below it one {end}")
    before, after = content.partition(begin)[0], content.partition(end)[2]
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def provenance(packages: Sequence[str] = ()) -> str:
    """The command, the date, the machine and the versions."""
    script = Path(sys.argv[0]).resolve()
    command = shlex.join([str(script.relative_to(ROOT)) if script.is_relative_to(ROOT) else script.name, *sys.argv[1:]])
    versions = ", ".join(filter(None, map(_version, (*USUAL, *packages))))
    return (
        f"`{command}`, {date.today().isoformat()}, {processor()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, {versions}."
    )


def processor() -> str:
    """What the machine calls its processor."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""
