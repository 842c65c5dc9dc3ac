"""Where the memory of an explaining session goes, what brings it down, and what a service needs that predicts and explains.

Every figure is of a process of its own with one thread, on Linux, from ``/proc/self/status``: what it took beyond the modules,
in MB of 2^20 bytes. *Private* is what no other process shares (RssAnon), *mapped* are pages of files (RssFile), which all
processes of a machine share and the system may drop and read again. Loading times are seconds of CPU.

    scripts/memory.py --write                        needs PyTorch, for the networks, and 10 GB of disk: some minutes
    scripts/memory.py --models resnet50 --folder x   keeps what is exported, compiled and written in x, and uses it again
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import bench
import numpy as np
import onnx
import splice
import zoo

import onnxdtd

MODELS = ("vgg16", "resnet50", "vit_b_16")
KINDS = ("W", "W⁺", "turned round", "other")  # of weights
RUNS = 5
WORKERS = 4
PREPACK = "session.disable_prepacking"
# What ONNX Runtime may be told, on top of what ``Explainer`` tells it; the file, and how it is opened.
SWITCHES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "as `Explainer` does it below 500 MB": ("whole", {}),
    "`prepack=False`, as it does it above": ("whole", {"entries": {PREPACK: "1"}}),
    "without constant folding": ("whole", {"disabled": ["ConstantFolding"]}),
    "without both": ("whole", {"disabled": ["ConstantFolding"], "entries": {PREPACK: "1"}}),
    "without the blocked layout": ("whole", {"disabled": ["NchwcTransformer"]}),
    "initializers outside of the arena": ("whole", {"entries": {"session.use_device_allocator_for_initializers": "1"}}),
    "without an arena": ("whole", {"attributes": {"enable_cpu_mem_arena": False}}),
    "memory pattern and reuse on": ("whole", {"attributes": {"enable_mem_pattern": True, "enable_mem_reuse": True}}),
    "external weights": ("beside", {}),
    "external weights, adjoints by ConvTranspose": ("transposed", {}),
    "external weights, `prepack=False`": ("beside", {"entries": {PREPACK: "1"}}),
    "kept in a file": ("kept", {"entries": {PREPACK: "1"}}),
    "kept in a file, both forms": ("packed", {}),
}
TIMED = (  # all that run another graph, or the same on other forms of the weights
    "as `Explainer` does it below 500 MB",
    "`prepack=False`, as it does it above",
    "without constant folding",
    "without the blocked layout",
    "external weights, adjoints by ConvTranspose",
    "kept in a file, both forms",
)
PLAIN = {"attributes": {"enable_mem_pattern": True, "enable_mem_reuse": True}}
MAPPED = {"entries": {PREPACK: "1"}, **PLAIN}
FORMS: Mapping[str, tuple[str, dict[str, Any]]] = {  # of what several processes run
    "weights inside": ("whole", {"prepack": None}),
    "external weights, `prepack=False`": ("beside", {"prepack": False}),
    "kept in a file": ("kept", {"prepack": False}),
}
# Sessions of a service: the predictor, if it has one of its own, and what explains.
SERVICES: Mapping[str, Sequence[tuple[str, dict[str, Any]]]] = {
    "the predictor alone": [("source", PLAIN)],
    "one file, explains always": [("whole", {"prepack": None})],
    "one file, `--on-demand`": [("asked", {"prepack": None})],
    "two sessions": [("source", PLAIN), ("whole", {"prepack": None})],
    "two sessions, external weights mapped": [("source beside", MAPPED), ("beside", {"prepack": False})],
    "the same, and kept in a file": [("source beside", MAPPED), ("kept", {"prepack": False})],
}


# ------------------------------------------------------------------------------------------------------------- the files


def files(name: str, folder: Path) -> dict[str, Path]:
    """A network in all forms, by name; what is there already is used again."""
    place = lambda *parts: folder.joinpath(*parts)
    found = {
        "source": place(f"{name}.onnx"),
        "whole": place(f"{name}.dtd.onnx"),
        "asked": place(f"{name}.asked.onnx"),
        "transposed": place("beside", f"{name}.transposed.onnx"),
        "source beside": place("beside", f"{name}.onnx"),
        "beside": place("beside", f"{name}.dtd.onnx"),
        "kept": place("kept", f"{name}.onnx"),
        "packed": place("packed", f"{name}.onnx"),
    }
    for path in found.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    if not found["source"].exists():
        bench.exported(name, found["source"])
    if not found["source beside"].exists():
        proto = onnx.load(found["source"])
        onnx.save(proto, found["source beside"], save_as_external_data=True, location=f"{name}.weights")
    for form, source, options in (
        ("whole", "source", {}),
        ("asked", "source", {"on_demand": "required"}),
        ("beside", "source beside", {}),
    ):
        if not found[form].exists():
            made = onnxdtd.compile(found[source], low=-zoo.BOUND, high=zoo.BOUND, **options)
            onnxdtd.save(made, found[form], found[source])
    if not found["transposed"].exists():
        onnxdtd.save(transposed(found["source beside"]), found["transposed"], found["source beside"])
    for form, told in (("kept", {PREPACK: "1"}), ("packed", {"session.save_external_prepacked_constant_initializers": "1"})):
        if not found[form].exists():
            opened(found["whole"], {"entries": told}, found[form])
    return found


def transposed(path: Path) -> onnx.ModelProto:
    """Compiled so that the adjoint of a convolution reads W⁺ itself, and no twin that is turned round."""
    from onnxdtd.operators import windows

    before, windows.flipped_pads = windows.flipped_pads, lambda win: None
    try:
        return onnxdtd.compile(path, low=-zoo.BOUND, high=zoo.BOUND)
    finally:
        windows.flipped_pads = before


def copies(found: Mapping[str, Path]) -> dict[str, float]:
    """MB of weights by what they are, once ONNX Runtime has folded constants; laid out as they are in files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "folded.onnx")
        opened(found["whole"], {"entries": {PREPACK: "1"}, "disabled": ["NchwcTransformer"]}, path)
        folded = onnx.load(path, load_external_data=False).graph
    compiled = onnx.load(found["beside"], load_external_data=False).graph
    givers = {output: node.op_type for node in compiled.node for output in node.output}
    kinds: Counter[str] = Counter()
    for tensor in folded.initializer:
        giver = givers.get(tensor.name)
        kind = {None: "W", "Relu": "W⁺", "Slice": "turned round", "Transpose": "turned round"}.get(giver, "other")
        kinds[kind] += math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return {kind: size / 2**20 for kind, size in kinds.items()}


# ------------------------------------------------------------------------------------------- a process with its sessions


def opened(path: Path, told: Mapping[str, Any], written: Path | None = None) -> Any:
    """A session: as ``Explainer`` opens it, told what to do with prepacking; or of ONNX Runtime alone, told other things, which
    ``written`` takes what it makes of a model.
    """
    import onnxruntime as ort

    if "prepack" in told:
        return onnxdtd.Explainer(path, ["cpu"], threads=1, prepack=told["prepack"]).session
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.enable_mem_pattern = options.enable_mem_reuse = False
    for name, value in told.get("attributes", {}).items():
        setattr(options, name, value)
    entries = dict(told.get("entries", {}))
    if written is not None:
        options.optimized_model_filepath = str(written)
        entries["session.optimized_model_external_initializers_file_name"] = f"{written.stem}.weights"
        entries["session.optimized_model_external_initializers_min_size_in_bytes"] = "1024"
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    loaded = ort.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=told.get("disabled") or None
    )
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return loaded


def memory() -> dict[str, float]:
    """MB of this process: "private", "mapped", and the "peak" of all."""
    names = {"RssAnon": "private", "RssFile": "mapped", "VmHWM": "peak", "VmRSS": "all"}
    pairs = (line.split(":") for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return {names[name]: int(value.split()[0]) / 1024 for name, value in pairs if name in names}


def one(paths: Sequence[str], told: Sequence[Mapping[str, Any]], held: bool) -> None:
    """Print what the sessions of a service take in this process: after loading, at most while loading, after some runs of each;
    CPU seconds to load. What is ``held`` stays until standard input ends.
    """
    before, start = memory(), time.process_time()
    sessions = [opened(Path(path), how) for path, how in zip(paths, told, strict=True)]
    seconds, loaded = time.process_time() - start, memory()
    x = zoo.inputs(bench.SIZE, 1, seed=2)
    for session in sessions:
        for _ in range(2):
            run(session, x)
    after = memory()
    grown = lambda now, name: now[name] - before[name]
    found = {
        "load": seconds,
        "private": grown(loaded, "private"),
        "peak": loaded["peak"] - before["all"],
        "private after": grown(after, "private"),
        "mapped after": grown(after, "mapped"),
    }
    print(json.dumps(found), flush=True)
    if held:
        sys.stdin.read()


def run(session: Any, x: np.ndarray) -> float:
    """CPU seconds of a run; who can be asked to explain is asked."""
    feeds = {node.name: np.asarray(True) if node.type == "tensor(bool)" else x for node in session.get_inputs()}
    start = time.process_time()
    session.run(None, feeds)
    return time.process_time() - start


def paced(paths: Sequence[str], told: Sequence[Mapping[str, Any]]) -> None:
    """Print CPU seconds of a run of each session, the median of some for which they take turns; the first does not count."""
    sessions = [opened(Path(path), how) for path, how in zip(paths, told, strict=True)]
    x = zoo.inputs(bench.SIZE, 1, seed=2)
    turns = [[run(session, x) for session in sessions] for _ in range(RUNS + 1)]
    print(json.dumps([median(times) for times in zip(*turns[1:], strict=True)]))


def measured(found: Mapping[str, Path], sessions: Sequence[tuple[str, Mapping[str, Any]]], what: str = "--one") -> Any:
    """The same in a process of its own."""
    job = json.dumps([[str(found[form]) for form, _ in sessions], [told for _, told in sessions]])
    ran = subprocess.run([sys.executable, __file__, what, job], check=True, capture_output=True, text=True)
    return json.loads(ran.stdout.splitlines()[-1])


def together(found: Mapping[str, Path], form: str, told: Mapping[str, Any]) -> float:
    """MB of ``WORKERS`` processes that have all run the same file: what each has alone, and its part of what they share."""
    job = json.dumps([[str(found[form])], [told]])
    command = [sys.executable, __file__, "--held", "--one", job]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(WORKERS)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            worker.stdout.readline()
        shares = [Path(f"/proc/{worker.pid}/smaps_rollup").read_text(encoding="utf-8") for worker in workers]
    finally:
        for worker in workers:
            worker.communicate()
    lines = [line for text in shares for line in text.splitlines() if line.startswith("Pss:")]
    return sum(int(line.split()[1]) for line in lines) / 1024


# ------------------------------------------------------------------------------------------------------------ the tables


def of_copies(numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """Which weights there are, once ONNX Runtime has folded constants; and what a session takes."""
    heads = ["network", "file", *KINDS, "in all", "session, private"]
    rows = []
    for name, told in numbers.items():
        sizes, (first, *_) = told["copies"], told["switches"].values()
        cells = [told["file"], *(sizes.get(kind, 0) for kind in KINDS), sum(sizes.values()), first["private"]]
        rows.append([name, *(f"{cell:,.0f}" for cell in cells)])
    return splice.table(heads, rows)


def of_switches(name: str, found: Mapping[str, Mapping[str, Any]], times: Mapping[str, float]) -> str:
    """What each switch does to one network."""
    first = next(iter(times.values()))
    heads = [name, "private, loaded", "peak of loading", "private, run", "mapped", "load, s", "time of a run"]
    paces = {how: f"{seconds / first:.2f}" for how, seconds in times.items()}
    return splice.table(
        heads, [[how, *_memory(told), f"{told['load']:.1f}", paces.get(how, "")] for how, told in found.items()]
    )


def of_services(name: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """What each service takes for one network."""
    heads = [name, "private, loaded", "peak of loading", "private, run", "mapped", "load, s"]
    return splice.table(heads, [[how, *_memory(told), f"{told['load']:.1f}"] for how, told in found.items()])


def of_workers(numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """What several processes take together."""
    rows = [[name, *(f"{told['workers'][how]:,.0f}" for how in FORMS)] for name, told in numbers.items()]
    return splice.table([f"{WORKERS} processes, all they take", *FORMS], rows)


def _memory(told: Mapping[str, Any]) -> list[str]:
    return [f"{told[key]:,.0f}" for key in ("private", "peak", "private after", "mapped after")]


def several(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of each figure, of the time to load the least."""
    return {key: (min if key == "load" else median)(each[key] for each in rounds) for key in rounds[0]}


def of(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """All numbers of one network, with progress on stderr."""
    found = files(name, folder)
    switched = {how: [session] for how, session in SWITCHES.items()}
    numbers: dict[str, Any] = {"file": found["whole"].stat().st_size / 2**20, "copies": copies(found)}
    for part, ways in (("switches", switched), ("services", SERVICES)):
        every: dict[str, list[dict[str, Any]]] = {how: [] for how in ways}
        for _ in range(rounds):
            for how, sessions in ways.items():
                every[how].append(measured(found, sessions))
                print(name, how, every[how][-1], file=sys.stderr, flush=True)
        numbers[part] = {how: several(each) for how, each in every.items()}
    times = measured(found, [SWITCHES[how] for how in TIMED], "--paced")
    numbers["times"] = dict(zip(TIMED, times, strict=True))
    numbers["workers"] = {how: together(found, *session) for how, session in FORMS.items()}
    return numbers


def tables(numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """In Markdown."""
    parts = ["## Which copies there are", of_copies(numbers)]
    parts += ["## What changes it", *(of_switches(name, found["switches"], found["times"]) for name, found in numbers.items())]
    parts += [
        "## A service that predicts and explains",
        *(of_services(name, found["services"]) for name, found in numbers.items()),
    ]
    return "\n\n".join([*parts, "## Several processes", of_workers(numbers)])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the files are kept; by default a temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    parser.add_argument("--one", metavar="JOB", help=argparse.SUPPRESS)
    parser.add_argument("--paced", metavar="JOB", help=argparse.SUPPRESS)
    parser.add_argument("--held", action="store_true", help=argparse.SUPPRESS)
    splice.option(parser, "memory")
    given = parser.parse_args()
    if given.one:
        paths, told = json.loads(given.one)
        one(paths, told, given.held)
        return
    if given.paced:
        paced(*json.loads(given.paced))
        return
    numbers = {}
    for name in given.models:
        with tempfile.TemporaryDirectory() as temporary:
            numbers[name] = of(name, given.folder or Path(temporary), given.rounds)
    text = tables(numbers)
    print(text)
    if given.json:
        given.json.write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    if given.write:
        splice.write(given.write, "memory", text, ("torch",))


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
