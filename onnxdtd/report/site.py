"""A folder that is a page: a compiled model that classifies and explains in the browser of whoever visits it.

It has the files of ``static`` as they are, the model, ONNX Runtime Web from npm, and ``page.json`` with all that differs from
model to model.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from onnxdtd import atomic
from onnxdtd.data.tables import NO_ROLES, Roles
from onnxdtd.errors import RequestError
from onnxdtd.report.browser import described

STATIC = Path(__file__).parent / "static"
PAGE = "page.json"
OWN, MADE = {PAGE, "runtime", "examples", "weights"}, re.compile(r"(model|tokenizer)-[0-9a-f]+\.(onnx|json)")
MODULES = Path("node_modules")
RUNTIME, LIBRARY = "onnxruntime-web", "@huggingface/tokenizers"
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
TOKENS = "tokenizers.min.mjs"
INSTALL = "npm install --ignore-scripts"


def write(
    compiled: Path,
    out: Path,
    runtime: Path | None = None,
    tokenizer: Path | None = None,
    examples: Sequence[Path] = (),
    roles: Roles = NO_ROLES,
) -> int:
    """Write the page of a compiled model into the folder ``out``, all or nothing, and tell how many bytes a visitor loads.

    Args:
        compiled: the file.
        out: a new folder, an empty one, or one with such a page, which is replaced.
        runtime: the ``dist`` of onnxruntime-web, by default that in ``./node_modules``.
        tokenizer: the ``tokenizer.json`` of a model that takes ids of tokens, or its folder.
        examples: files of samples to try.
        roles: the columns of tables of examples that are no features.

    Raises:
        OnnxdtdError: a browser cannot explain the file, something is missing, or something else is in ``out``.
    """
    dist = MODULES / RUNTIME / "dist" if runtime is None else runtime
    loaded = {f"runtime/{name}": _runtime(dist / name) for name in (SCRIPT, WASM)}
    _check_free(out, [path for path in (compiled, tokenizer, dist, *examples) if path is not None])
    found = described(compiled, tokenizer, examples, roles)
    loaded |= found.copied
    static = {path.name: path for path in STATIC.iterdir() if path.is_file()}
    if tokenizer is not None:
        library = _library(dist.resolve().parents[1])
        static |= {f"runtime/{TOKENS}": library / "dist" / TOKENS, "runtime/LICENSE.tokenizers": library / "LICENSE"}
    sizes = {name: path.stat().st_size for name, path in loaded.items()} | {
        name: len(data) for name, data in found.made.items()
    }
    told = {
        **found.page,
        "runtime": {"script": f"runtime/{SCRIPT}", "wasm": f"runtime/{WASM}", "tokens": f"runtime/{TOKENS}"},
        "files": [{"name": name, "size": size} for name, size in sizes.items()],
    }
    page = json.dumps(told, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    _fill(out, static | loaded, {**found.made, PAGE: page})
    return sum(sizes.values())


def _fill(out: Path, copied: dict[str, Path], made: dict[str, bytes]) -> None:
    """Write all of it."""
    with atomic.folder(out) as folder:
        for name, origin in copied.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(origin, folder / name)
        for name, data in made.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)


def _runtime(path: Path) -> Path:
    """A file of the runtime. Raises ``RequestError`` where it is not there."""
    if not path.is_file():
        raise RequestError(
            f"{path}: no such file; `{INSTALL} {RUNTIME}` puts it into ./node_modules, or say where the dist of {RUNTIME} is: "
            "--runtime DIST"
        )
    return path


def _library(beside: Path) -> Path:
    """The package that makes tokens, in the folder with the runtime's or in that of npm. Raises ``RequestError``."""
    found = [folder / LIBRARY for folder in (beside, MODULES)]
    for package in found:
        if all((package / name).is_file() for name in (f"dist/{TOKENS}", "LICENSE")):
            return package
    raise RequestError(
        f"a page of texts needs {LIBRARY}, which makes tokens in browsers, and it is neither {found[0]} nor ./{found[1]}; "
        f"`{INSTALL} {LIBRARY}` puts it there"
    )


def _check_free(out: Path, kept: Sequence[Path]) -> None:
    """Raises ``RequestError`` where something else is in the folder, or what the page is made of."""
    if any(path.resolve().is_relative_to(out.resolve()) for path in kept):
        raise RequestError(f"{out}: has what the page is made of; choose another folder")
    if not out.parent.is_dir():
        raise RequestError(f"{out}: the folder {out.parent} does not exist")
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out}: is no folder; choose another name")
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if found and PAGE not in found:
        raise RequestError(f"{out}: has other files in it; choose a new folder")
    others = sorted(name for name in found - OWN - {path.name for path in STATIC.iterdir()} if not MADE.fullmatch(name))
    if others:
        raise RequestError(
            f"{out}: has {others[0]!r} besides a page, which would be lost; move it away, or choose a new folder"
        )
