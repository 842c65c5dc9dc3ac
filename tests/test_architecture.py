"""The page on the architecture: it names every module in its room, and what it says to write is all that there is to write."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import model, node

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "onnxdtd" / "README.md").read_text(encoding="utf-8")
ROOMS = PAGE.split("\n## The rooms\n")[1].split("\n## ")[0]
BLOCKS = re.findall(r"^```(?:python|toml)\n# (\S+?)(?:, in (\w+))?\n(.*?)^```", PAGE, re.M | re.S)


BESIDES = [  # what the page says in words
    (
        "operators/pointwise.py",
        'pointwise("Atan", sign=if_inputs_are, keeps_zeros=True, monotone=throughout, gate',
        'pointwise("", gate',
    ),
    ("study/audit/measurements.py", "    shown,\n", "    peak,\n    shown,\n"),
    ("study/audit/measurements.py", "        shown.MEASUREMENT,\n", "        shown.MEASUREMENT,\n        peak.MEASUREMENT,\n"),
]


ELSEWHERE = {"A measurement of the audit": 1, "A kind of data": 1, "An option": 1}  # places that the page names without lines


def test_the_page_is_short() -> None:
    assert len(PAGE.encode()) <= 12 * 1024


def test_every_module_is_named_in_its_room_and_no_other() -> None:
    names, *parts = re.split(r"\*\*([a-zA-Z ]+)\.\*\*", ROOMS)
    assert not names.strip()
    said = {room: set(re.findall(r"`(?:audit/)?([a-z]+)`", text)) for room, text in zip(parts[::2], parts[1::2], strict=True)}
    folders = [path for path in (ROOT / "onnxdtd").iterdir() if (path / "__init__.py").exists()]
    there = {folder.name: {path.stem for path in folder.rglob("[!_]*.py")} for folder in folders}
    there["Below all"] = {path.stem for path in (ROOT / "onnxdtd").glob("[!_]*.py")}
    assert said == there


def placed(text: str, place: str, lines: str) -> str:
    """A module with lines at its end; in a class behind its fields, in a dictionary at its beginning."""
    if not place:
        return f"{text}\n\n{lines}"
    (start,) = re.finditer(rf"^(class )?{place}\b.*[{{:(].*$", text, re.M)
    at = text.index("\n    def ", start.end()) if start[1] else start.end()
    return f"{text[:at]}\n{lines}{text[at:].removeprefix(chr(10))}" if not start[1] else f"{text[:at]}{lines}{text[at:]}"


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with all that the page adds."""
    folder = tmp_path_factory.mktemp("grown")
    for name in ("onnxdtd", "rules"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, place, lines in BLOCKS:
        file = folder / name
        file.write_text(placed(file.read_text(encoding="utf-8"), place, lines) if file.exists() else lines, encoding="utf-8")
    for name, old, new in BESIDES:
        file = folder / "onnxdtd" / name
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1
        file.write_text(text.replace(old, new), encoding="utf-8")
    return folder


def run(grown: Path, *arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(grown), "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": ""}  # one translation for all
    done = subprocess.run([sys.executable, *arguments], env=env, cwd=grown, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_something_to_write() -> None:
    assert {name for name, _, _ in BLOCKS} > {"rules/rules.toml", "onnxdtd/method/terms.py", "onnxdtd/request.py"}
    assert len(BLOCKS) == PAGE.count("```python\n") + PAGE.count("```toml\n")


def test_places_and_lines_are_counted() -> None:
    """Lines of Python or TOML, blank ones apart; those of a preset that shows what was added are counted there."""
    section = PAGE.split("\n## How to add\n")[1]
    counted = {what: (int(n), int(lines)) for what, n, lines in re.findall(r"^\| (A.*?) \| (\d+) \| (\d+) \|$", section, re.M)}
    _, *parts = re.split(r"^\*\*(.+?)\*\*: ", section, flags=re.M)
    found = {}
    for what, text in zip(parts[::2], parts[1::2], strict=True):
        blocks = [b for b in BLOCKS if b[2] in text and (b[0] != "rules/presets.toml" or what == "A preset")]
        lines = sum(bool(line.strip()) for _, _, block in blocks for line in block.splitlines())
        found[what] = (len({name for name, _, _ in blocks}) + ELSEWHERE.get(what, 0), lines)
    assert found == counted


EXPLAIN = """
import sys, numpy as np, onnxdtd
assert onnxdtd.__file__.startswith(sys.argv[1])
for preset in ("gradient", "cautious", "guided"):
    found = onnxdtd.Explainer(onnxdtd.compile("net.onnx", preset))(np.load("x.npy"))
    np.save(preset, found.relevance["x"])
"""


def test_operators_rules_symbols_and_treatments(grown: Path) -> None:
    """Against the same by hand."""
    rng = np.random.default_rng(0)
    w, v, x = (rng.uniform(-2, 2, shape).astype(np.float32) for shape in ((3, 4), (16, 2), (5, 3)))
    at = np.array([[0, 3, 9, 14], [1, 2, 8, 15], [5, 7, 13, 10], [4, 6, 12, 11], [0, 7, 8, 10]]) + 16 * np.arange(5)[:, None]
    nodes = [node("MatMul", "x w", "a"), node("Atan", "a", "b"), node("Reshape", "b square", "s")]
    nodes += [node("MaxUnpool", "s at", "u", kernel_shape=[2, 2], strides=[2, 2]), node("Flatten", "u", "c")]
    weights = {"w": w, "v": v, "square": np.array([5, 1, 2, 2]), "at": at.reshape(5, 1, 2, 2)}
    net = model([*nodes, node("MatMul", "c v", "y")], {"x": [5, 3]}, ["y"], weights)
    onnx.save(net, grown / "net.onnx")
    np.save(grown / "x.npy", x)
    run(grown, "-c", EXPLAIN, str(grown))

    x, w, v = (array.astype(np.float64) for array in (x, w, v))
    b = np.arctan(x @ w)
    c = np.zeros((5, 16))
    c.ravel()[at] = b
    y = c @ v
    best = y.argmax(1)
    back = lambda g: g.ravel()[at]
    gradient = (back(v.T[best]) / (1 + (x @ w) ** 2)) @ w.T
    np.testing.assert_allclose(np.load(grown / "gradient.npy"), gradient, rtol=1e-5, atol=1e-6)

    positive = np.maximum(v, 0)
    r = c**2 * (positive.T[best] * (y.max(1) / (c**2 @ positive)[range(5), best])[:, None])
    r = back(r)  # as b gets of b
    r = x**2 * ((r / (x**2 @ np.maximum(w, 0))) @ np.maximum(w, 0).T)
    np.testing.assert_allclose(np.load(grown / "cautious.npy"), r, rtol=1e-4, atol=1e-5)

    guided = np.maximum(b * back(v.T[best]), 0)
    assert (guided == 0).any()
    guided = x * ((guided / (x @ w)) @ w.T)
    np.testing.assert_allclose(np.load(grown / "guided.npy"), guided, rtol=1e-3, atol=1e-4)


def test_a_metric(grown: Path) -> None:
    options = ["--data", str(ROOT / "models" / "digits_samples.npz"), "--preset", "dtd", "--samples", "2", "--json"]
    printed = run(grown, "-m", "onnxdtd", "evaluate", str(ROOT / "models" / "digits_mlp.onnx"), *options)
    found: dict[str, Any] = json.loads(printed)
    assert 1 / 64 < found["models"][0]["presets"][0]["metrics"]["peak"]["mean"] < 1


def test_a_measurement(grown: Path) -> None:
    options = [
        "--data",
        str(ROOT / "models" / "digits_samples.npz"),
        "--preset",
        "lrp-epsilon",
        "--samples",
        "2",
        "--workers",
        "1",
    ]
    model = str(ROOT / "models" / "digits_mlp.onnx")
    found: dict[str, Any] = json.loads(run(grown, "-m", "onnxdtd", "audit", model, *options, "--neurons", "1", "--json"))
    (entry,) = found["presets"]
    assert 1 / 64 < entry["peak"] < 1
    assert f"Peak: the largest entry has {entry['peak']:.1%} of the relevance." in entry["verdict"]


DRAW = """
import numpy as np
from pathlib import Path
from onnxdtd.data import images
from onnxdtd.data.arrangement import Arrangement
from onnxdtd.data.forms import Form
images.arranged = lambda shape, form: Arrangement("steps", ((0,),))
images.draw(Path("steps.png"), np.ones(9), np.arange(9.0), images.Caption("title", "subtitle"), Form("x", [9]))
"""


def test_a_kind_of_data(grown: Path) -> None:
    run(grown, "-c", DRAW)
    assert (grown / "steps.png").stat().st_size > 1000


def test_an_option(grown: Path) -> None:
    assert "--loud" in run(grown, "-m", "onnxdtd", "compile", "--help")
    script = "import inspect, onnxdtd; print(inspect.signature(onnxdtd.compile).parameters['loud'].default)"
    assert run(grown, "-c", script) == "False\n"
    run(grown, "-m", "onnxdtd", "compile", str(ROOT / "models" / "digits_mlp.onnx"), "--loud", "-o", "loud.onnx")
    assert (grown / "loud.onnx").exists()
