"""Are the compiled files what they were? Records the SHA-256 of many, and compares.

Every model of ``corpus.py`` is compiled with every preset: plainly, with bounds where these change the rules, with a ledger,
and with some of the other requests in turn, so that each preset meets each request on several models. What is refused has its
message instead of a hash. The package that compiles is the one that ``PYTHONPATH`` or the environment gives.

    scripts/check/bytes.py record before.json --nets nets
    scripts/check/bytes.py compare before.json --nets nets
    scripts/check/bytes.py compare before.json --nets nets --quick
    scripts/check/bytes.py compare before.json --nets nets --only 'tiny/*|dtd|*' --keep changed
    scripts/check/bytes.py record before.json --nets nets --without rules       all but this entry of the metadata

A hash holds for the versions of packages that the file names and for the exported nets of one folder. ``record --keep``
with the package as it was writes the other side of a difference.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from corpus import Subject, subjects
from rich.console import Console
from rich.progress import track

import onnxdtd

PREFIX = "onnxdtd."  # of our entries of the metadata
PACKAGES = ("onnx", "onnx-graphsurgeon", "numpy", "torch", "torchvision", "onnxscript", "scikit-learn", "skl2onnx")
DEFAULT, OWN = "default", "own.toml"  # no preset named, and one of a user's file
DERIVATIVES = ("gradient", "gradient-x-input", "sensitivity")  # have no ledger
BOUNDED = (DEFAULT, OWN, "dtd", "epsilon-gamma-box")  # have other rules where there are bounds
OTHERS, FEW = 6, 2  # requests in turn for each preset, and for each of a large model
PREPROCESSING = {"range": [0, 1], "mean": 0.5, "std": 0.25}
LARGE_QUICK = 4  # requests of a large model in the quick comparison

OWN_PRESET = """
[rule.stabilised]
params = { epsilon = 0.01 }
epsilon = "epsilon"
terms = ["x+ w+", "x- w-"]
bias = "b+"

[rule.slanted]
params = { gamma = 0.5 }
branches = [
  { when = "y>0", terms = ["x w~+"], bias = "b~+" },
  { when = "y<0", terms = ["x w"] },
]

[rule.aimed]
direction = ["x+ w>0", "x- w<0"]

[preset.own]
layers = [
  { first = true, bounds = true, rule = "zB" },
  { op = ["MatMul", "Gemm"], rule = "stabilised(epsilon=0.02)" },
  { family = "affine", rule = "flat" },
  { family = ["average", "sum"], rule = "epsilon(epsilon=0.1)" },
  { name = "*1*", rule = "slanted" },
  { rule = "aimed" },
]
"""

Request = dict[str, Any]
VARIANTS: dict[str, Callable[[Subject], Request]] = {
    "plain": lambda s: {},
    "bounds": lambda s: {"low": s.low, "high": s.high},
    "ledger": lambda s: {"ledger": True},
    "channel bounds": lambda s: {"low": [-1.0, -2.0, -3.0], "high": [1.0, 2.0, 3.0]},
    "bounds of one input": lambda s: {"low": {s.input: 0.0}, "high": {s.input: 1.0}},
    "class 0": lambda s: {"target": 0},
    "target": lambda s: {"target": "input"},
    "optional target": lambda s: {"target": "optional"},
    "runner-up": lambda s: {"contrast": "runner-up"},
    "rest": lambda s: {"contrast": "rest"},
    "rest of 1": lambda s: {"contrast": "rest", "target": 1, "ledger": True},
    "keep": lambda s: {"keep": [s.inner]},
    "keep last": lambda s: {"keep": [s.last, s.inner], "contrast": True},
    "explain": lambda s: {"explain": [s.input]},
    "gamma": lambda s: {"settings": ["*=gamma"]},
    "settings": lambda s: {"settings": ["*=epsilon(epsilon=0.5)", "*2*=alpha-beta(alpha=3, beta=2)"]},
    "output": lambda s: {"output": s.output},
    "inner output": lambda s: {"output": s.inner},
    "last output": lambda s: {"output": s.last},
    "labels": lambda s: {"labels": [f"class {i}" for i in range(s.classes)], "target": "class 1"},
    "allow": lambda s: {"allow": dict.fromkeys(s.unruled, "pass")} if s.unruled else {},
    "pictures": lambda s: {"preprocessing": PREPROCESSING | ({"crop": "none"} if s.picture else {})},
    "ledger and bounds": lambda s: {"low": s.low, "high": s.high, "ledger": True, "keep": [s.inner]},
    "everything": lambda s: {
        "low": s.low, "high": s.high, "target": "input", "contrast": "runner-up", "keep": [s.inner], "settings": ["*=w2"],
    },
}  # fmt: skip
ALWAYS = ("plain", "bounds", "ledger")
NOT_DERIVED = ("settings", "rest of 1", "ledger and bounds", "everything")  # have rules that divide, or a ledger
TOML = re.compile(r"[^\s(]*/(?=[\w-]+\.toml)")  # where a rule file lies


def presets() -> list[str]:
    """The names of all, as the command line gives them."""
    command = [sys.executable, "-m", "onnxdtd", "rules", "--json"]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # the same package as here
    listed = subprocess.run(command, capture_output=True, check=True, text=True, env=paths).stdout
    return [DEFAULT, *(preset["name"] for preset in json.loads(listed)["presets"]), OWN]


def requests(subject: Subject, number: int, names: Sequence[str]) -> Iterator[str]:
    """What to compile of the model with this number, as "preset|variant"."""
    count = FEW if subject.large else OTHERS
    apply = [name for name, make in VARIANTS.items() if name not in ALWAYS and make(subject)]
    for i, preset in enumerate(names):
        turns = [name for name in apply if preset not in DERIVATIVES or name not in NOT_DERIVED]
        first = (number * len(names) + i) * count
        always = [*(["bounds"] if preset in BOUNDED else []), *([] if preset in DERIVATIVES else ["ledger"])]
        chosen = {"plain", *always, *(turns[(first + k) % len(turns)] for k in range(count))}
        yield from (f"{preset}|{variant}" for variant in VARIANTS if variant in chosen)


def thinned(subject: Subject, keys: Iterable[str]) -> list[str]:
    """Enough of a model's requests to meet each preset and each variant once, of a large model a few; others for each model."""
    met: set[str] = set()
    found = []
    for key in sorted(keys, key=lambda key: _sha(f"{subject.name}|{key}".encode())):
        halves = set(key.split("|"))
        if (not halves & met or not subject.large) and not halves <= met:
            met |= halves
            found.append(key)
    return found[: LARGE_QUICK if subject.large else None]


@dataclass(frozen=True)
class Outcome:
    """``text``: the hash of a compiled file, or why there is none; ``data``: the file or the message."""

    text: str
    data: bytes


def outcome(subject: Subject, key: str, without: str | None = None) -> Outcome:
    """Compile what ``key`` says, and take one entry of the metadata out."""
    preset, variant = key.split("|")
    try:
        proto = onnxdtd.compile(subject.path, None if preset == DEFAULT else preset, **VARIANTS[variant](subject))
    except onnxdtd.OnnxdtdError as error:
        return _refusal("refused", str(error), subject)
    except Exception as error:  # a fault, but the same one is no difference
        return _refusal("crashed", f"{type(error).__name__}: {error}", subject)
    others = [entry for entry in proto.metadata_props if entry.key != f"{PREFIX}{without}"]
    del proto.metadata_props[:]
    proto.metadata_props.extend(others)
    data = proto.SerializeToString(deterministic=True)
    return Outcome(_sha(data), data)


def _refusal(kind: str, message: str, subject: Subject) -> Outcome:
    """The first line of a message, and a digest of the others."""
    text = TOML.sub("", message.replace(str(subject.path), subject.name))
    first, *rest = text.splitlines() or [""]
    more = f" ({len(rest)} more lines, {_sha(text.encode())[:8]})" if rest else ""
    return Outcome(f"{kind}: {first}{more}", text.encode())


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --------------------------------------------------------------------------------------------------------- record, compare


def record(given: argparse.Namespace) -> int:
    """Write the hashes of all files."""
    found, missing = subjects(given.nets, lambda name: _is_asked(given.only, name))
    names, files = presets(), dict[str, dict[str, str]]()
    for number, subject in enumerate(_told(found)):
        files[subject.name] = {}
        for key in requests(subject, number, names):
            if _is_asked(given.only, subject.name, key):
                made = outcome(subject, key, given.without)
                files[subject.name][key] = made.text
                _keep(given.keep, subject, key, made)
    data = {"versions": versions(), "without": given.without}
    data |= {"models": {s.name: _sha(s.path.read_bytes()) for s in found}, "files": files}
    given.file.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _say(missing)
    print(f"{_count(files)} entries of {len(found)} models", end="")
    return 0


def compare(given: argparse.Namespace) -> int:
    """Compile again what a file has, and tell every difference."""
    before = json.loads(given.file.read_text(encoding="utf-8"))
    found, missing = subjects(given.nets, lambda name: name in before["files"] and _is_asked(given.only, name))
    now = versions()
    missing += [f"{name} was {was}, is {now[name]}" for name, was in before["versions"].items() if now[name] != was]
    missing += [f"{name}: no such model here" for name in before["files"].keys() - {s.name for s in found} if not given.only]
    wrong = count = 0
    for subject in _told(found):
        if _sha(subject.path.read_bytes()) != before["models"][subject.name]:
            print(f"DIFFERENT {subject.name}: another model file than the one recorded; --nets has to be the same folder")
            wrong += 1
            continue
        for key, was in compared(given, subject, before["files"][subject.name]):
            made, count = outcome(subject, key, before.get("without")), count + 1
            if made.text != was:
                print(f"DIFFERENT {subject.name}|{key}: {was} -> {made.text}", flush=True)
                wrong += 1
                _keep(given.keep, subject, key, made)
    _say(missing)
    print(f"{count} of {_count(before['files'])} entries compared, {wrong} different", end="")
    return int(bool(wrong or not count))


def compared(given: argparse.Namespace, subject: Subject, entries: dict[str, str]) -> list[tuple[str, str]]:
    """The entries of a model that are asked for."""
    chosen = thinned(subject, entries) if given.quick else entries
    return [(key, entries[key]) for key in chosen if _is_asked(given.only, subject.name, key)]


def versions() -> dict[str, str | None]:
    """Those of the packages on which the bytes depend, None where one is not installed."""
    found: dict[str, str | None] = {"onnxdtd": onnxdtd.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _count(files: Mapping[str, Mapping[str, str]]) -> int:
    return sum(len(entries) for entries in files.values())


def _is_asked(only: str, name: str, key: str | None = None) -> bool:
    """Does a pattern want a model, or a request of it?"""
    model, _, request = only.partition("|")
    return fnmatchcase(name, model or "*") and (key is None or fnmatchcase(key, request or "*"))


def _keep(folder: Path | None, subject: Subject, key: str, made: Outcome) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        suffix = "txt" if ": " in made.text else "onnx"
        name = f"{subject.name}|{key}".replace("/", "_").replace("|", "__").replace(" ", "-")
        (folder / f"{name}.{suffix}").write_bytes(made.data)


def _told(found: Sequence[Subject]) -> Iterable[Subject]:
    return track(found, "compiling", console=Console(stderr=True), transient=True)


def _say(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["record", "compare"])
    parser.add_argument("file", type=lambda text: Path(text).resolve(), help="the hashes, JSON")
    parser.add_argument("--nets", type=lambda text: Path(text).resolve(), help="where exported nets are, or are put")
    parser.add_argument("--only", default="", metavar="GLOB", help="only these models, or MODEL|PRESET|VARIANT")
    parser.add_argument("--without", metavar="KEY", help="record: leave this entry of the metadata out of what is hashed")
    parser.add_argument("--quick", action="store_true", help="compare a part that meets every model, preset and variant")
    parser.add_argument(
        "--keep", type=lambda text: Path(text).resolve(), metavar="DIR", help="write the (differing) files there"
    )
    given = parser.parse_args(arguments)
    start, busy = time.monotonic(), time.process_time()
    _say([f"compiled by {Path(str(onnxdtd.__file__)).parent}"])
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # the metadata say where a preset lies
        Path(OWN).write_text(OWN_PRESET, encoding="utf-8")
        given.nets = given.nets or Path(folder)
        status = record(given) if given.command == "record" else compare(given)
    print(f", {time.monotonic() - start:.0f} s, {time.process_time() - busy:.0f} of them computing")
    return status


if __name__ == "__main__":
    sys.exit(main())
