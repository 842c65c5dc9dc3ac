"""The package: what it exports, what importing it costs, and that a wheel holds everything it needs."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import onnxdtd
from onnxdtd.method.toml import Library, data_folder

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXPORTED = {
    "Explainer": "onnxdtd.runtime.explainer",
    "Explanation": "onnxdtd.runtime.explainer",
    "ModelError": "onnxdtd.errors",
    "OnnxdtdError": "onnxdtd.errors",
    "Request": "onnxdtd.request",
    "RequestError": "onnxdtd.errors",
    "RuleError": "onnxdtd.errors",
    "Look": "onnxdtd.data.look",
    "Settings": "onnxdtd.study.evaluate",
    "Unsupported": "onnxdtd.errors",
    "audit": "onnxdtd.study.audit.audit",
    "bench": "onnxdtd.study.bench",
    "compile": "onnxdtd.compiler.compile",
    "draw": "onnxdtd.study.notebook",
    "load_images": "onnxdtd.study.notebook",
    "evaluate": "onnxdtd.study.evaluate",
    "explain": "onnxdtd.study.explain",
    "fit": "onnxdtd.study.fit",
    "inspect": "onnxdtd.compiler.inspect",
    "keep": "onnxdtd.study.keep",
    "save": "onnxdtd.compiler.compile",
    "tune": "onnxdtd.study.tune",
    "verify": "onnxdtd.study.verify",
}


MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "onnxdtd").rglob("[!_]*.py"))


def python(*args: str, path: Path = ROOT, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(path), "COLUMNS": "160"}
    return subprocess.run([sys.executable, *args], env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


# ----------------------------------------------------------------------------------------------------------- public names


def test_public_names() -> None:
    """A change here is a change of the contract."""
    assert onnxdtd.__all__ == sorted([*EXPORTED, "__version__"])
    for name, home in EXPORTED.items():
        assert getattr(onnxdtd, name) is getattr(importlib.import_module(home), name)
        assert getattr(onnxdtd, name).__module__ == home
        assert getattr(onnxdtd, name).__doc__


def test_no_public_name_is_a_module() -> None:
    """Whatever was imported before: a module of the package would take the place of a function of its name. So they say
    themselves, a module of each room.
    """
    assert not {*EXPORTED} & {path.stem for path in (ROOT / "onnxdtd").iterdir()}
    script = (
        "import importlib, sys\n"
        f"names = {EXPORTED}\n"
        "for home in {home.split('.')[1]: home for home in names.values()}.values():\n"
        "    for loaded in [m for m in sys.modules if m.partition('.')[0] == 'onnxdtd']: del sys.modules[loaded]\n"
        "    module = importlib.import_module(home)\n"
        "    for name in [name for name in names if names[name] == home]:\n"
        "        own = getattr(module, name)\n"
        "        assert callable(own) and getattr(importlib.import_module('onnxdtd'), name) is own, name"
    )
    done = python("-c", script)
    assert (done.returncode, done.stderr) == (0, "")


def test_other_names_do_not_exist() -> None:
    for name in ("nonsense", "Problem", "np"):
        with pytest.raises(AttributeError, match=f"module 'onnxdtd' has no attribute '{name}'"):
            getattr(onnxdtd, name)
    with pytest.raises(ImportError):
        exec("from onnxdtd import nonsense")


def test_dir_lists_the_public_names() -> None:
    """Completion in a notebook asks for it."""
    done = python("-c", "import onnxdtd; print(sorted(set(onnxdtd.__all__) - set(dir(onnxdtd))))")
    assert done.stdout == "[]\n"


# ------------------------------------------------------------------------------------------------------------------ import


def test_importing_is_cheap() -> None:
    """No package but the standard library's, and a fraction of a second."""
    script = (
        "import json, sys, time; before = set(sys.modules); start = time.perf_counter(); import onnxdtd;"
        "print(json.dumps([time.perf_counter() - start, sorted(set(sys.modules) - before)]))"
    )
    runs = [json.loads(python("-c", script).stdout) for _ in range(2)]
    assert min(seconds for seconds, _ in runs) < 0.5
    for _, modules in runs:
        for heavy in ("numpy", "onnx", "onnx_graphsurgeon", "onnxruntime", "matplotlib", "PIL", "typer", "rich"):
            assert heavy not in modules


def test_the_command_line_starts_without_the_compiler() -> None:
    script = (
        "import sys, onnxdtd.cli.commands; from onnxdtd.method.folder import defined; assert 'dtd' in defined('preset');"
        "print([m for m in ('numpy', 'onnx', 'onnxruntime', 'matplotlib') if m in sys.modules])"
    )
    assert python("-c", script).stdout == "[]\n"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for_and_its_examples_hold(module: str) -> None:
    loaded = importlib.import_module(module)
    assert loaded.__doc__
    assert doctest.testmod(loaded).failed == 0


def imports(path: Path) -> Iterator[str]:
    """What a file imports while it is loaded, and perhaps names that are no modules."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield str(node.module)
        elif isinstance(node, ast.FunctionDef) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            continue  # not now
        else:
            waiting += ast.iter_child_nodes(node)


def test_every_module_can_be_imported_first() -> None:
    """There is no circle of imports, which only some order of them would avoid."""
    files = {name: ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in MODULES}
    inits = {str(path.parent.relative_to(ROOT)).replace(os.sep, "."): path for path in ROOT.glob("onnxdtd/**/__init__.py")}
    whole = [name for name, path in inits.items() if {*imports(path)} & {*MODULES}]  # all of it is loaded with any part
    assert "onnxdtd.operators" in whole
    loaded = lambda name: next((package for package in whole if name.startswith(package + ".")), name)
    needs = {loaded(name): set[str]() for name in MODULES}
    for name, path in files.items():
        needs[loaded(name)] |= {loaded(other) for other in imports(path) if other in files} - {loaded(name)}
    assert {*TopologicalSorter(needs).static_order()} == {*needs}
    assert python("-W", "error::ImportWarning", "-c", f"import {', '.join(whole)}").returncode == 0


def test_nobody_imports_from_a_floor_above() -> None:
    """The contract is in pyproject.toml."""
    pytest.importorskip("importlinter")
    done = python("-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_two_classes_of_one_name() -> None:
    homes: dict[str, list[str]] = {}
    for name in MODULES:
        for cls in vars(importlib.import_module(name)).values():
            if isinstance(cls, type) and cls.__module__ == name:
                homes.setdefault(cls.__name__, []).append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


# ----------------------------------------------------------------------------------------------------------------- version


def test_the_version_stands_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab]|rc)?\d*", onnxdtd.__version__)
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "onnxdtd.__version__"}
    assert "version" not in PROJECT["project"]
    quoted = re.compile(rf"""["']{re.escape(onnxdtd.__version__)}["']""")
    found = [path.name for path in sorted(ROOT.glob("onnxdtd/*.py")) if quoted.search(path.read_text(encoding="utf-8"))]
    assert found == ["__init__.py"]


def test_typing_information_is_there() -> None:
    assert (ROOT / "onnxdtd/py.typed").exists()
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]


def test_the_hooks_before_a_commit_are_commands_of_ci_and_need_no_network() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (.*)", hooks) == ["local"]
    assert set(re.findall(r"language: (.*)", hooks)) == {"system"}
    programs = [entry.split()[0] for entry in re.findall(r"entry: (.*)", hooks)]
    assert programs == ["ruff", "ruff", "mypy"]
    checked = re.findall(r"^\.venv/bin/(\S+)", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.M)
    assert set(programs) <= set(checked)


# ------------------------------------------------------------------------------------------------------------------- wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    pytest.importorskip("setuptools", "77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("onnxdtd", "rules", "tests", "models"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-index", "--wheel-dir", str(folder)]
    done = python("-m", "pip", "wheel", str(source), *options, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_what_is_in_the_wheel(wheel: Path) -> None:
    assert wheel.name == f"onnxdtd-{onnxdtd.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for file in (ROOT / "rules").iterdir():
            assert archive.read(f"onnxdtd/rules/{file.name}") == file.read_bytes()
        (entry,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "onnxdtd = onnxdtd.cli.commands:main" in archive.read(entry).decode()
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "onnxdtd").rglob("*.py")} < names
    assert {
        "onnxdtd/py.typed",
        "onnxdtd/graph/kernels.json",
        "onnxdtd/report/page.html.j2",
        "onnxdtd/report/static/main.js",
    } < names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0] for name in names} == {"onnxdtd", f"onnxdtd-{onnxdtd.__version__}.dist-info"}
    assert not [name for name in names if "test" in name or name.endswith((".onnx", ".pyc"))]


def test_an_installed_wheel_finds_its_rules(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(site)]
    done = python("-m", "pip", "install", str(wheel), *options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    where = python("-c", "import onnxdtd.method.toml; print(onnxdtd.method.toml.data_folder())", path=site, cwd=tmp_path)
    assert Path(where.stdout.strip()) == site / "onnxdtd/rules", where.stderr
    listed = python("-m", "onnxdtd", "rules", "--json", path=site, cwd=tmp_path)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert {rule["name"] for rule in json.loads(listed.stdout)["rules"]} == {str(Library().rule(n)) for n in Library().rules}

    out = tmp_path / "out.onnx"
    made = python("-m", "onnxdtd", "compile", str(ROOT / "models/digits_mlp.onnx"), "-o", str(out), path=site, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert out.read_bytes() == onnxdtd.compile(ROOT / "models/digits_mlp.onnx").SerializeToString(deterministic=True)

    script = site / "bin/onnxdtd"
    shown = python(str(script), "--help", path=site, cwd=tmp_path)
    assert shown.returncode == 0
    for command in ("compile", "inspect", "explain", "rules"):
        assert command in shown.stdout


def test_a_checkout_finds_its_rules() -> None:
    assert data_folder() == ROOT / "rules" or data_folder().name == "rules"
    assert {path.name for path in data_folder().glob("*.toml")} == {"methods.toml", "rules.toml", "presets.toml"}


def test_the_extras() -> None:
    """Neither compiling nor importing needs a runtime."""
    required = {re.split(r"[<>=!~ \[]", entry)[0] for entry in PROJECT["project"]["dependencies"]}
    assert not {name for name in required if name.startswith("onnxruntime")}
    extras = PROJECT["project"]["optional-dependencies"]
    assert [entry.split(">")[0] for entry in extras["cpu"] + extras["gpu"]] == ["onnxruntime", "onnxruntime-gpu"]
