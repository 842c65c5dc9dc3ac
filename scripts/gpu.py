"""Do compiled models work on an NVIDIA GPU, and how fast? One report in Markdown.

Every model is compiled under several presets, with and without a ledger, and runs on ONNX Runtime's CUDA provider without
TF32: bundled models, those that ``ONNXDTD_ASSETS`` points to, and networks of torchvision with seeded weights, exported on the
spot, a few of them once more in newer operator sets or in float16. The yardstick is the same file on the CPU. A difference is
that of the relevance, relative to the largest of the sample, in the worst of a few samples; in brackets, what moving the input
to neighbouring floats does on the CPU. Bits are counted by preset: do runs of a session give the same, and two sessions? If
runs do not, the operators are named whose output changes while their inputs do not. The profile says which nodes run on the
CPU. ONNX Runtime wants the arithmetic of sizes there; of all others we say so. Where tokens look at each other, two presets
for that are tried as well.

Then come the tables of ``bench.py``: time beside zennit and captum on the same GPU, memory, half precision; and files that
explain on demand beside files that always do.

    scripts/gpu.py --write
    scripts/gpu.py --only check --models resnet18 digits_cnn
    scripts/gpu.py --cpu --only check --models digits_cnn        a rehearsal, where everything agrees with itself
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import bench
import numpy as np
import onnx
import onnxruntime as ort
import splice
import zoo
from onnx import ModelProto

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.runtime.explainer import CUDA, Provider, default_providers, load_cuda
from onnxdtd.runtime.explainer import session as explaining

sys.path.append(str(Path(__file__).resolve().parent / "check"))
import runtimes
from assets import ASSETS, MISSING

PRESETS = ("dtd", "lrp-epsilon", "lrp-alpha2beta1", "gradient", "epsilon-plus", "lrp-gamma")
ATTENTION = ("attnlrp", "cp-lrp")  # besides, where tokens look at each other
UNBALANCED = {"gradient", *ATTENTION}  # presets that have no ledger
NETWORKS = (
    *("alexnet", "vgg11_bn", "resnet18", "resnet50", "resnext50_32x4d", "densenet121", "googlenet", "squeezenet1_1"),
    *("mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t"),
    *(f"{name}{bench.HALF}" for name in ("resnet18", "densenet121")),
)
OLDER = 17  # the operator set of all
NEWER = dict.fromkeys(("resnet18", "googlenet", "mobilenet_v3_small", "vit_b_16"), (21, 22))  # besides
EVERY = (*PRESETS, *ATTENTION)
ASKED = {
    "resnet50": ("dtd",),
    "mobilenet_v2": ("dtd",),
    "vit_b_16": ("attnlrp", "cp-lrp", "dtd"),
}  # what is asked for on demand
SAMPLES, RUNS = 4, 5
LIMIT = 1e-4  # of the difference of the median sample in float32
WORKERS, THREADS = max(os.cpu_count() or 1, 2) // 2, 2
CPU: list[Provider] = ["CPUExecutionProvider"]
GPU: list[Provider] = [(CUDA, {"use_tf32": "0"}), *CPU]
TF32: list[Provider] = [(CUDA, {"use_tf32": "1"}), *CPU]
SIZES = {"int64", "int32", "bool"}  # types of tensors that ONNX Runtime wants on the CPU, as it does numbers computed from them

Array = np.ndarray[Any, Any]


@dataclass
class Check:
    """One compiled model on the GPU. Differences are of each sample."""

    model: str
    opset: int
    preset: str = ""
    ledger: bool = False
    limit: float = LIMIT
    differences: list[float] = field(default_factory=list)
    neighbours: list[float] = field(default_factory=list)
    tf32: list[float] = field(default_factory=list)
    unaccounted: float = 0.0  # the largest in the ledger, relative to the logit
    runs: int = 0  # different results of one session
    sessions: int = 0  # ... of two, where one gives one
    spread: float = 0.0  # between two runs, in the worst sample
    unsteady: dict[str, int] = field(default_factory=dict)  # operators that give different results for the same inputs
    nodes: int = 0  # on the GPU
    sizes: int = 0  # on the CPU, for the arithmetic of sizes
    fallen: dict[str, int] = field(default_factory=dict)  # ... for want of a kernel
    copies: int = 0  # between the two
    trouble: str = ""

    def failure(self) -> str:
        """What is wrong with it."""
        if self.trouble:
            return self.trouble
        middle = statistics.median(self.differences)
        return "" if middle <= max(self.limit, statistics.median(self.neighbours)) else f"differs by {middle:.0e} in the median"


@dataclass(frozen=True)
class Turns:
    """Median seconds of one run, in which all of these took turns: the source; the file that always explains; and that which
    does so on demand, asked and not asked.
    """

    model: str
    preset: str
    batch: int
    source: float
    flat: float
    asked: float
    unasked: float


# ------------------------------------------------------------------------------------------------------------------ models


def jobs(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Models by name, and the operator set to export them in, 0 for files that are there."""
    files = [*runtimes.BUNDLED, *(() if MISSING else (asset.name for asset in ASSETS))]
    found = [*((name, opset) for name in NETWORKS for opset in (OLDER, *NEWER.get(name, ()))), *((name, 0) for name in files)]
    return ((name, opset) for name, opset in found if not names or name in names)


def case(name: str, opset: int, folder: Path) -> runtimes.Case:
    """A model with a few inputs."""
    if not opset:
        return next(case for case in runtimes.cases() if case.name == name)
    network = next(network for network in zoo.ZOO if network.name == name.removesuffix(bench.HALF))
    module, x, path = zoo.built(network), zoo.inputs(network.size, SAMPLES, seed=2), folder / f"{name}.onnx"
    if name.endswith(bench.HALF):
        module, x = module.half(), x.astype(np.float16)
    if opset == OLDER:
        bench.export(module, x, path)
    else:
        zoo.export_new(module, x, path, opset)
    model = onnx.load(path)
    return runtimes.Case(name, model, model.graph.input[0].name, x, -zoo.BOUND, zoo.BOUND, False, path.stat().st_size)


# ------------------------------------------------------------------------------------------------------------------ checks


def session(model: ModelProto, providers: Sequence[Provider]) -> ort.InferenceSession:
    """With few threads, as several of them run side by side. Raises ``RuntimeError`` where the GPU cannot be used."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made = ort.InferenceSession(model.SerializeToString(), options, providers=list(providers))
    if len(made.get_providers()) != len(providers):
        raise RuntimeError("CUDA cannot run here, although it is installed")
    return made


def few(given: runtimes.Case) -> runtimes.Case:
    """The same with the first of its samples."""
    return replace(given, samples=given.samples[:SAMPLES], others={name: x[:SAMPLES] for name, x in given.others.items()})


def outputs(running: ort.InferenceSession, given: runtimes.Case, x: Array, names: Sequence[str]) -> list[Array]:
    """Of all samples, in as many runs as the model needs."""
    parts = [running.run(names, dict(feeds)) for feeds in given.feeds(x)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def checked(given: runtimes.Case, preset: str, ledger: bool, providers: Sequence[Provider] = GPU) -> Check:
    """One preset of one model."""
    given = few(given)
    compiled = onnxdtd.compile(given.model, preset, low=given.low, high=given.high, ledger=ledger, target="argmax")
    names, x = ["relevance", *["ledger"] * ledger], given.samples
    found = Check(given.name, opset_of(given.model), preset, ledger, max(LIMIT, given.limit))
    yardstick, running = session(compiled, CPU), session(compiled, providers)
    difference = lambda a, b: runtimes.difference(a.astype(np.float64), b.astype(np.float64))
    expected = outputs(yardstick, given, x, names)
    if not expected[0].any():
        raise ValueError("its relevance is zero everywhere, which shows nothing")
    results = [outputs(running, given, x, names) for _ in range(RUNS)]
    found.differences = difference(results[0][0], expected[0])
    moved = runtimes.neighbour(x, np.random.default_rng(0)) if x.dtype.kind == "f" else x
    found.neighbours = difference(outputs(yardstick, given, moved, names)[0], expected[0])
    if ledger:
        found.unaccounted = unaccounted(compiled, results[0][1])
    else:
        found.runs = len({result[0].tobytes() for result in results})
        if found.runs > 1:
            found.spread = max(max(difference(result[0], results[0][0])) for result in results)
            found.unsteady = dict(unsteady(compiled, given, providers))
        else:
            again = outputs(session(compiled, providers), given, x, names)
            found.sessions = len({result[0].tobytes() for result in (results[0], again)})
        if providers is GPU:
            found.tf32 = difference(outputs(session(compiled, TF32), given, x, names)[0], expected[0])
    place(found, bench.profiled(compiled.SerializeToString(), given.feeds(x)[0], providers, runs=0, threads=1))
    return found


def unaccounted(compiled: ModelProto, table: Array) -> float:
    """The largest residue of a ledger [batch, steps, columns], relative to the largest logit."""
    entry = read_metadata(compiled)["ledger"]
    assert entry is not None
    columns = {name: table[..., i] for i, name in enumerate(entry["columns"])}
    kept = onnxdtd.runtime.explainer.Ledger(list(entry["steps"]), columns)
    return float(np.abs(kept.unaccounted).max() / np.abs(kept["in"][:, 0]).max())


def opset_of(model: ModelProto) -> int:
    """Of the default domain."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def place(found: Check, events: Sequence[dict[str, Any]]) -> None:
    """Count the nodes of a profile by where they run, and why there."""
    fallen: Counter[str] = Counter()
    for event in events:
        told = event["args"]
        tensors = [pair for tensor in (*told["input_type_shape"], *told["output_type_shape"]) for pair in tensor.items()]
        if told["op_name"].startswith("Memcpy"):
            found.copies += 1
        elif told["provider"] != CPU[0]:
            found.nodes += 1
        elif all(kind in SIZES or math.prod(shape) == 1 for kind, shape in tensors):
            found.sizes += 1
        else:
            fallen[told["op_name"]] += 1
    found.fallen = dict(fallen)


def unsteady(compiled: ModelProto, given: runtimes.Case, providers: Sequence[Provider]) -> Counter[str]:
    """Operators whose outputs differ between runs while all their inputs are the same."""
    bare = ModelProto()
    bare.CopyFrom(compiled)
    known = {value.name for value in bare.graph.output}
    names = [name for node in bare.graph.node for name in node.output if name]
    bare.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    running, feeds = session(bare, providers), dict(given.feeds(given.samples)[0])
    first, second = (dict(zip(names, running.run(names, feeds), strict=True)) for _ in range(2))
    apart = {name for name in names if np.asarray(first[name]).tobytes() != np.asarray(second[name]).tobytes()}
    return Counter(n.op_type for n in bare.graph.node if apart & set(n.output) and not apart & set(n.input))


def job(name: str, opset: int, presets: Sequence[str], cpu: bool) -> list[Check]:
    """All checks of one model."""
    if not cpu:
        load_cuda()
    found = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            given = case(name, opset, Path(folder))
    except Exception as error:  # a table is no place to stop
        return [Check(name, opset, trouble=_one_line(error))]
    opset = opset_of(given.model)
    for preset in [preset for preset in presets if given.attends or preset not in ATTENTION]:
        for ledger in (False,) if preset in UNBALANCED else (False, True):
            try:
                found.append(checked(given, preset, ledger, CPU if cpu else GPU))
            except Exception as error:
                found.append(Check(name, opset, preset, ledger, trouble=_one_line(error)))
    return found


def checks(names: Sequence[str], presets: Sequence[str], cpu: bool) -> list[Check]:
    """Of all models, several at a time, with progress on stderr."""
    found: dict[tuple[str, int], list[Check]] = {}
    wanted = list(jobs(names))
    with ThreadPoolExecutor(WORKERS) as pool:
        running = {pool.submit(apart, *one, presets, cpu): one for one in wanted}
        for done in as_completed(running):
            found[running[done]] = done.result()
            print(check_table(done.result()).splitlines()[-1], file=sys.stderr, flush=True)
    return [check for one in wanted for check in found[one]]


def apart(name: str, opset: int, presets: Sequence[str], cpu: bool) -> list[Check]:
    """All checks of one model in a process of its own, which may crash."""
    command = [sys.executable, "-X", "faulthandler", __file__, "--one", name, str(opset), "--presets", *presets]
    threads = {"OMP_NUM_THREADS": str(THREADS)}  # for PyTorch
    ran = subprocess.run([*command, *["--cpu"] * cpu], capture_output=True, text=True, env=os.environ | threads, check=False)
    if said := ran.stderr.strip():
        print(f"{name}, {opset}: {said[-2000:]}", file=sys.stderr)
    if ran.returncode:
        return [Check(name, opset, trouble=f"exit status {ran.returncode}")]
    return [Check(**check) for check in json.loads(ran.stdout.splitlines()[-1])]


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


# --------------------------------------------------------------------------------------------------------------- on demand


def turns(name: str, presets: Sequence[str], batches: Sequence[int], rounds: int) -> list[Turns]:
    """A network of ``bench.py`` with everything as it comes, TF32 too."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.onnx")
        bench.exported(name, path)
        source, found = bench.plain(path, bench.AS_IT_COMES), []
        for preset in presets:
            made = [
                onnxdtd.compile(path, preset, low=-zoo.BOUND, high=zoo.BOUND, on_demand=kind) for kind in (None, "required")
            ]
            flat, behind = (explaining(bytes(proto.SerializeToString()), bench.AS_IT_COMES) for proto in made)
            for batch in batches:
                x = {"input": bench.pictures(name, batch)}
                ask, leave = ({**x, "explain": np.asarray(wish)} for wish in (True, False))
                runs = [(source, x), (flat, x), (behind, ask), (behind, leave)]
                seconds: list[list[float]] = [[turn(loaded, feeds) for loaded, feeds in runs] for _ in range(rounds + 1)][1:]
                found.append(Turns(name, preset, batch, *map(statistics.median, zip(*seconds, strict=True))))
                print(found[-1], file=sys.stderr, flush=True)
    return found


def turn(loaded: ort.InferenceSession, feeds: dict[str, Array]) -> float:
    """Seconds of a run, in as many as it takes for a GPU to be awake."""
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < bench.TURN:
        loaded.run(None, feeds)
        count += 1
    return (time.perf_counter() - start) / count


def turns_table(found: Sequence[Turns]) -> str:
    """In Markdown."""
    heads = ["model", "preset", "batch", "source", "always explains", "asked", "not asked"]
    ratios = [[f"{seconds / t.source:.2f} ×" for seconds in (t.flat, t.asked, t.unasked)] for t in found]
    first = [[t.model, f"`{t.preset}`", str(t.batch), f"{1e3 * t.source:.2f} ms"] for t in found]
    return splice.table(heads, [[*cells, *rest] for cells, rest in zip(first, ratios, strict=True)])


# ------------------------------------------------------------------------------------------------------------------ tables


def check_table(found: Sequence[Check]) -> str:
    """A row for each model and operator set, and the reasons below."""
    presets = list(dict.fromkeys(check.preset for check in found if check.preset))
    groups: dict[tuple[str, int], list[Check]] = {}
    for check in found:
        groups.setdefault((check.model, check.opset), []).append(check)
    heads = ["model", "opset", *(f"`{p}`" for p in presets), "with TF32", "ledger", "unaccounted", "same bits"]
    heads += ["nodes on GPU", "for sizes on CPU", "without kernel", "copies"]
    lines = []
    for (model, opset), group in groups.items():
        right = [check for check in group if not check.trouble]
        plain, ledgers = ([c for c in right if c.ledger is wanted] for wanted in (False, True))
        worst = {c.preset: f"{max(c.differences):.0e} ({max(c.neighbours):.0e})" for c in plain}
        cells = [model, str(opset), *(worst.get(preset, "no") for preset in presets)]
        cells += [_span([max(c.tf32) for c in plain if c.tf32]), _span([max(c.differences) for c in ledgers])]
        cells += [_span([c.unaccounted for c in ledgers]), _bits(plain)]
        cells += [_range([c.nodes for c in right]), _range([c.sizes for c in right])]
        cells += [_fallen(right), _range([c.copies for c in right])]
        lines.append(cells)
    return splice.table(heads, lines)


def _span(numbers: Sequence[float]) -> str:
    """From the smallest to the largest."""
    ends = list(dict.fromkeys(f"{n:.0e}" for n in (min(numbers), max(numbers)))) if numbers else ["-"]
    return " to ".join(ends)


def _range(numbers: Sequence[int]) -> str:
    return "–".join(str(n) for n in sorted({min(numbers), max(numbers)})) if numbers else "-"


def _bits(found: Sequence[Check]) -> str:
    """In how many presets runs give the same, and sessions; the operators to blame."""
    blamed = Counter(op for check in found for op in check.unsteady)
    runs, sessions = sum(c.runs == 1 for c in found), sum(c.sessions == 1 for c in found)
    spread = f" (apart by {max(c.spread for c in found):.0e})" if blamed else ""
    return f"runs {runs}, sessions {sessions} of {len(found)}{spread}" + "".join(f", {op}" for op in sorted(blamed))


def _fallen(found: Sequence[Check]) -> str:
    worst: Counter[str] = Counter()
    for check in found:
        worst |= Counter(check.fallen)
    return ", ".join(f"{count} {op}" for op, count in sorted(worst.items())) or "0"


def failures(found: Sequence[Check]) -> list[str]:
    """In words."""
    return [f"{c.model}, opset {c.opset}, {c.preset}{', ledger' * c.ledger}: {c.failure()}" for c in found if c.failure()]


def card() -> str:
    """What it was measured on."""
    query = ["nvidia-smi", "--id=0", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip().replace(", ", ", driver ")
    except (OSError, subprocess.CalledProcessError):
        return "no NVIDIA GPU"


def main() -> int:
    """Check, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("check", "bench", "demand"))
    parser.add_argument("--models", nargs="+", metavar="NAME", default=[], help="only these")
    parser.add_argument("--presets", nargs="+", choices=EVERY, default=EVERY, help="check only these")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="rehearse without a GPU")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "OPSET"), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    splice.option(parser, "gpu")
    given = parser.parse_args()
    if not given.cpu and CUDA not in default_providers():
        parser.error("no NVIDIA GPU here, or no onnxruntime-gpu; --cpu rehearses without")
    bench.quiet()
    if given.one:
        print(json.dumps([asdict(check) for check in job(given.one[0], int(given.one[1]), given.presets, given.cpu)]))
        return 0
    text = [f"{card()}. `scripts/gpu.py` says what is what."]
    found: list[Check] = []
    rows: list[bench.Row] = []
    weights: list[bench.Weight] = []
    behind: list[Turns] = []
    if given.only in (None, "check"):
        found = checks(given.models, given.presets, given.cpu)
        text += ["## Checks", check_table(found), "\n".join(f"- {failure}" for failure in failures(found)) or "No failure."]
    if given.only in (None, "bench"):
        models = [name for name in (*bench.MODELS, *bench.HALVES) if not given.models or name in given.models]
        rows, weights = bench.measured(models, given.batches, given.rounds, with_peers=True)
        text += ["## Time and memory", bench.tables(rows, weights)]
    if given.only in (None, "demand"):
        asked = {name: presets for name, presets in ASKED.items() if not given.models or name in given.models}
        behind = [row for name, presets in asked.items() for row in turns(name, presets, given.batches, given.rounds)]
        text += ["## On demand", turns_table(behind)]
    report = "\n\n".join(text)
    print(report)
    if given.json:
        numbers = {"checks": [*map(asdict, found)], "rows": [*map(asdict, rows)], "weights": [*map(asdict, weights)]}
        numbers["turns"] = [*map(asdict, behind)]
        given.json.write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    if given.write:
        splice.write(given.write, "gpu", report, bench.PEERS)
    return int(bool(failures(found)))


if __name__ == "__main__":
    sys.exit(main())
