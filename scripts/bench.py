"""How fast, beside the forward pass and the peers? Times, memory and sizes of compiled models, as ratios.

Every network of torchvision below has seeded weights and is exported with a free batch axis. ONNX Runtime (the source's own
forward pass and the compiled models) lives in one process, PyTorch (zennit and captum with the same rules) in another; they
take turns, run by run, so that whatever else the machine does meets all of them alike. Shown are medians: the forward pass
in milliseconds, ours as multiples of it, theirs as multiples of ours.

Where there is a GPU, both sides run on it as they come (with TF32), given and giving arrays in the computer's memory; memory
is that of the GPU (with everything: context, libraries, weights), and a further table says where ONNX Runtime has put the
nodes and how often it copies between the two memories. ``scripts/gpu.py`` calls this.

    scripts/bench.py --write                             everything, half an hour or so
    scripts/bench.py --models vgg16 --batches 1
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import splice
import zoo

import onnxdtd
from onnxdtd.runtime.explainer import CUDA, Explainer, Provider, default_providers, load_cuda, session

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "scripts" / "peers"))
MODELS = ("vgg16", "resnet50", "mobilenet_v2", "densenet121", "efficientnet_b0", "vit_b_16")
PRESETS = ("dtd", "lrp-epsilon", "epsilon-alpha2beta1")
PEERS = ("torch", "zennit", "captum")
SIZE = 224
COMPILED = ".dtd.onnx"
KINDS = {  # of operators; all others are element-wise
    "layers": {"Conv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"},
    "layout": {"ReorderInput", "ReorderOutput", "Transpose", "Reshape", "Flatten"},
    "pooling": {"MaxPool", "AveragePool", "GlobalAveragePool", "ScatterElements"},
    "joining": {"Concat", "Split", "Slice", "Pad", "Expand"},
}
HALF = "_half"  # behind the name of a model: in float16, which the peers are not asked about
HALVES = tuple(f"{name}{HALF}" for name in ("vgg16", "resnet50"))
ON_GPU = CUDA in default_providers()
PAUSE = 0.0 if ON_GPU else 0.25  # seconds; the threads of one tool spin on for up to 0.2 and would be in the way of the next
LOADS = 3  # of which the median is shown
TURN = 0.1 if ON_GPU else 0.0  # seconds at least, in as many runs as it takes: a GPU that has rested runs slowly at first
AS_IT_COMES: Sequence[Provider] = [(CUDA, {}), "CPUExecutionProvider"] if ON_GPU else default_providers()
FRUGAL: Sequence[Provider] = (  # as much of the GPU as is needed, not the next power of two
    [(CUDA, {"arena_extend_strategy": "kSameAsRequested"}), "CPUExecutionProvider"] if ON_GPU else default_providers()
)


@dataclass(frozen=True)
class Row:
    """Median seconds of one model at one batch size: the forward pass, and each preset by each tool."""

    model: str
    batch: int
    forward: float
    ours: dict[str, float]
    zennit: dict[str, float]
    captum: dict[str, float]


@dataclass(frozen=True)
class Weight:
    """What a compiled model (preset dtd) costs besides time: seconds to compile and to load, bytes, peak memory."""

    model: str
    compile: float
    load: float
    load_source: float
    size: int
    size_source: int
    peak: dict[int, tuple[float, float]] = field(default_factory=dict)  # kilobytes, and the source's, by batch size
    kernels: dict[str, float] = field(default_factory=dict)  # share of the time in each kind of operator (batch 1)
    placed: dict[str, float] = field(default_factory=dict)  # nodes by provider, and copies between them


# --------------------------------------------------------------------------------------------------------- the two sides


def compiled(path: Path, preset: str) -> bytes:
    """A model that explains the arg-max."""
    bound = zoo.BOUND
    proto = onnxdtd.compile(path, preset, low=-bound, high=bound, target="argmax")
    return bytes(proto.SerializeToString())


def of_onnx(path: Path, x: np.ndarray) -> dict[str, Callable[[], object]]:
    """The forward pass, as ONNX Runtime does it by itself, and the compiled models, as ``Explainer`` does it; by name."""
    sessions = {"forward": plain(path, default_providers())}
    sessions |= {preset: session(compiled(path, preset), AS_IT_COMES) for preset in PRESETS}
    return {name: lambda s=s: s.run(None, {s.get_inputs()[0].name: x}) for name, s in sessions.items()}  # type: ignore[misc]


def plain(path: Path, providers: Sequence[Provider]) -> Any:
    """A session as ONNX Runtime makes it by itself."""
    import onnxruntime as ort

    if ON_GPU:
        load_cuda()
    return ort.InferenceSession(str(path), providers=providers)


def of_torch(name: str, path: Path, x: np.ndarray) -> dict[str, Callable[[], object]]:
    """zennit and captum with the rules of our presets, by preset."""
    import copy

    import agreement
    import torch
    from captum.attr import LRP
    from captum.attr._utils import lrp_rules
    from captum.attr._utils.custom_modules import Addition_Module
    from rebuild import Rebuilt
    from zennit import composites, rules

    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = zoo.built(network(name))
    canonizer = next((c for prefix, c in agreement.CANONIZERS.items() if name.startswith(prefix)), None)
    if device == "cuda":  # where PyTorch refuses the ε of 0 that the canonizers leave in a merged BatchNormalization
        canonizer = None
    proto, logits = agreement.predictor(path)
    module = (made if canonizer else Rebuilt(proto, logits, agreement.Added)).to(device)
    setting = agreement.Setting(-zoo.BOUND, zoo.BOUND, (canonizer(),) if canonizer else ())
    norm = lambda: rules.Norm(1e-6)
    composers = {
        "dtd": agreement.everywhere(
            lambda: rules.ZPlus(zero_params="bias"), norm, lambda s: rules.ZBox(s.low, s.high, zero_params="bias")
        ),
        "lrp-epsilon": agreement.everywhere(lambda: rules.Epsilon(1e-6), norm, affine=lambda: rules.Epsilon(1e-6)),
        "epsilon-alpha2beta1": agreement.shipped(composites.EpsilonAlpha2Beta1),
    }

    def by_zennit(preset: str) -> Callable[[], object]:
        hooked_module = copy.deepcopy(module)
        composers[preset](setting).register(hooked_module)  # once, as one does for many images

        def run() -> object:
            leaf = torch.from_numpy(x).to(device).requires_grad_(True)
            scores = hooked_module(leaf)
            start = torch.zeros_like(scores).scatter_(1, scores.argmax(1, keepdim=True), scores.detach().amax(1, keepdim=True))
            return torch.autograd.grad(scores, leaf, grad_outputs=start)[0].cpu()

        return run

    def by_captum(rule: Any) -> Callable[[], object]:
        part = Rebuilt(proto, logits, Addition_Module).to(device)
        target = part(torch.from_numpy(x).to(device)).argmax(1)

        def run() -> object:
            agreement.ruled(part, rule, 1e-6)  # captum takes the rules away after each run
            return LRP(part).attribute(torch.from_numpy(x).to(device), target=target).cpu()

        return run

    runs = {f"zennit {preset}": by_zennit(preset) for preset in composers}
    runs["captum dtd"] = by_captum(lrp_rules.Alpha1_Beta0_Rule)
    runs["captum lrp-epsilon"] = by_captum(agreement.FLOAT_RULE)
    return runs


def network(name: str) -> zoo.Network:
    """With the input size that it was designed for; BatchNormalization is calibrated on smaller pictures."""
    own = [zoo.Network(name, SIZE) for name in ("vgg16", "vit_b_16")]
    return next(n for n in (*own, *zoo.ZOO) if n.name == name.removesuffix(HALF))


def pictures(name: str, batch: int) -> np.ndarray:
    """Inputs of a model, in its type."""
    return zoo.inputs(SIZE, batch, seed=2).astype(np.float16 if name.endswith(HALF) else np.float32)


def worker(make: Callable[..., dict[str, Callable[[], object]]], arguments: Sequence[Any], pipe: Connection) -> None:
    """Another process: runs what it is asked for by name, and answers with the seconds, or None where that fails."""
    warnings.simplefilter("ignore")
    try:
        runs = make(*arguments)
    except Exception as error:
        print(f"{make.__name__}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        runs = {}
    pipe.send(list(runs))
    while name := pipe.recv():
        time.sleep(PAUSE)
        start, count = time.perf_counter(), 0
        try:
            while not count or time.perf_counter() - start < TURN:
                runs[name]()
                count += 1
        except Exception as error:  # a peer that cannot
            print(f"{name}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
            pipe.send(None)
            continue
        pipe.send((time.perf_counter() - start) / count)


def timed(name: str, path: Path, batch: int, rounds: int, with_peers: bool) -> Row:
    """All runs, taking turns; the first of each is not counted."""
    x = pictures(name, batch)
    context = multiprocessing.get_context("spawn")
    sides: list[tuple[Callable[..., Any], list[Any]]] = [(of_onnx, [path, x])]
    if with_peers and not name.endswith(HALF):
        sides.append((of_torch, [name, path, x]))
    pipes, processes = [], []
    for make, arguments in sides:
        here, there = context.Pipe()
        processes.append(context.Process(target=worker, args=(make, arguments, there), daemon=True))
        processes[-1].start()
        pipes.append(here)
    runs = [(pipe, run) for pipe in pipes for run in pipe.recv()]
    seconds: dict[str, list[float]] = {run: [] for _, run in runs}
    for turn in range(rounds + 1):
        for pipe, run in list(runs):
            pipe.send(run)
            taken = pipe.recv()
            if taken is None:
                runs.remove((pipe, run))
            elif turn:
                seconds[run].append(taken)
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send("")
        process.join()
    found = {run: median(values) for run, values in seconds.items() if values}
    of = lambda tool: {run.removeprefix(tool): t for run, t in found.items() if run.startswith(tool)}
    ours = {preset: found[preset] for preset in PRESETS}
    return Row(name, batch, found["forward"], ours, of("zennit "), of("captum "))


# ------------------------------------------------------------------------------------------------- load, size, memory


def weighed(name: str, path: Path, folder: Path, batches: Sequence[int]) -> Weight:
    """Everything but the time of a run; each figure from a process of its own."""
    out = folder / f"{name}{COMPILED}"
    bounds = ["--low", str(-zoo.BOUND), "--high", str(zoo.BOUND), "--target", "argmax"]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "onnxdtd", "compile", path, "-o", out, *bounds], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    load, load_source = (median(_told(model, 1)["load"] for _ in range(LOADS)) for model in (out, path))
    peaks = {b: (_told(out, b)["peak"], _told(path, b)["peak"]) for b in batches}
    spent = {} if ON_GPU else _told(out, 1, "--kernels")  # which works in parallel with the program that starts its nodes
    shares = {kind: seconds / sum(spent.values()) for kind, seconds in spent.items()}
    sizes = out.stat().st_size, path.stat().st_size
    placed = _told(out, 1, "--placed") if ON_GPU else {}
    return Weight(name, seconds, load, load_source, *sizes, peaks, shares, placed)


def _told(path: Path, batch: int, what: str = "--one") -> dict[str, float]:
    ran = subprocess.run([sys.executable, __file__, what, str(path), str(batch)], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def profiled(
    model: str | bytes, feeds: Mapping[str, np.ndarray], providers: Sequence[Provider], runs: int, threads: int = 0
) -> list[dict[str, Any]]:
    """What ONNX Runtime's own profile says of every node in each of several runs, and in one before them."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level, options.enable_profiling, options.intra_op_num_threads = 3, True, threads
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder, "profile"))
        loaded = ort.InferenceSession(model, options, providers=providers)
        for _ in range(runs + 1):
            loaded.run(None, dict(feeds))
        events = json.loads(Path(loaded.end_profiling()).read_text(encoding="utf-8"))
    return [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]


def kernels(path: Path, batch: int) -> dict[str, float]:
    """Seconds that a run spends in each kind of operator."""
    runs, warm = 10, set()
    found = dict.fromkeys([*KINDS, "element-wise"], 0.0)
    for event in profiled(str(path), {"input": pictures(name_of(path), batch)}, ["CPUExecutionProvider"], runs):
        operator, first = event["args"]["op_name"], event["name"] not in warm
        warm.add(event["name"])
        if first:
            continue
        found[next((kind for kind, ops in KINDS.items() if operator in ops), "element-wise")] += event["dur"] / 1e6 / runs
    return found


def placed(path: Path, batch: int) -> Counter[str]:
    """How many nodes run where, and how many copy between the memories."""
    found: Counter[str] = Counter()
    load_cuda()
    for event in profiled(str(path), {"input": pictures(name_of(path), batch)}, default_providers(), 0):
        copies = event["args"]["op_name"].startswith("Memcpy")
        found["copies" if copies else event["args"]["provider"].removesuffix("ExecutionProvider")] += 1
    return found


def one(path: Path, batch: int) -> dict[str, float]:
    """Seconds to load a model, and by how many kilobytes memory grew until it had run twice.

    A compiled model is loaded as ``Explainer`` does it, any other as ONNX Runtime does it by itself.
    """
    explains = path.name.endswith(COMPILED)
    x = pictures(name_of(path), batch)
    before = memory()
    start = time.perf_counter()
    loaded = Explainer(path, FRUGAL).session if explains else plain(path, FRUGAL)
    seconds = time.perf_counter() - start
    for _ in range(2):
        loaded.run(None, {loaded.get_inputs()[0].name: x})
    return {"load": seconds, "peak": memory() - before}


def memory() -> int:
    """Kilobytes: what is taken of the GPU, where ONNX Runtime gives nothing back, or the peak of this process."""
    if not ON_GPU:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    query = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return 1024 * int(subprocess.run(query, check=True, capture_output=True, text=True).stdout)


def name_of(path: Path) -> str:
    """Of the model in a file of ours."""
    return path.name.split(".")[0]


TOLD: dict[str, Callable[[Path, int], Mapping[str, float]]] = {"one": one, "kernels": kernels, "placed": placed}


# ---------------------------------------------------------------------------------------------------------- the tables


def tables(rows: Sequence[Row], weights: Sequence[Weight]) -> str:
    """In Markdown."""
    lines = []
    for row in rows:
        for preset, seconds in row.ours.items():
            theirs = [f"{t[preset] / seconds:.1f} × ours" if preset in t else "-" for t in (row.zennit, row.captum)]
            cells = [row.model, row.batch, f"{_ms(row.forward)} ms", f"`{preset}`", f"{seconds / row.forward:.2f} ×"]
            lines.append([*cells, *theirs])
    found = [splice.table(["model", "batch", "forward", "preset", "onnxdtd", "zennit", "captum"], lines)]
    if weights:
        found.append(splice.table(["model", "compile", "file", "load", "peak memory"], list(map(_costs, weights))))
    if any(w.kernels for w in weights):
        kinds = [*KINDS, "element-wise"]
        found.append(splice.table(["time in", *kinds], [[w.model, *(f"{w.kernels[k]:.0%}" for k in kinds)] for w in weights]))
    if any(w.placed for w in weights):
        places = ["CUDA", "CPU", "copies"]
        heads = ["nodes on", *places[:2], "copies between"]
        found.append(splice.table(heads, [[w.model, *(w.placed.get(place, 0) for place in places)] for w in weights]))
    return "\n\n".join(found)


def _costs(w: Weight) -> list[str]:
    """A row of the second table."""
    peaks = ", ".join(f"{ours / its:.2f} × ({ours / 1e6:.2f} GB, batch {b})" for b, (ours, its) in w.peak.items())
    size = f"{w.size / w.size_source:.3f} × ({(w.size - w.size_source) / 1e3:+.0f} kB)"
    return [w.model, f"{w.compile:.2f} s", size, f"{w.load / w.load_source:.1f} × ({w.load:.2f} s)", peaks]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}" if seconds >= 0.01 else f"{seconds * 1e3:.2g}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS + HALVES, default=MODELS + HALVES * ON_GPU)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true", help="without PyTorch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    splice.option(parser, "bench")
    for measure in TOLD:
        parser.add_argument(f"--{measure}", nargs=2, metavar=("MODEL", "BATCH"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    for measure, function in TOLD.items():
        if getattr(given, measure):
            path, batch = getattr(given, measure)
            print(json.dumps(function(Path(path), int(batch))))
            return
    rows, weights = measured(given.models, given.batches, given.rounds, not given.no_peers)
    text = tables(rows, weights)
    print(text)
    if given.json:
        found = {"rows": [asdict(r) for r in rows], "weights": [asdict(w) for w in weights], "cores": os.cpu_count()}
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if given.write:
        splice.write(given.write, "bench", text, PEERS)


def measured(models: Sequence[str], batches: Sequence[int], rounds: int, with_peers: bool) -> tuple[list[Row], list[Weight]]:
    """All rows, with progress on stderr."""
    rows, weights = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for name in models:
            path = Path(temporary) / f"{name}.onnx"
            exported(name, path)
            for batch in batches:
                rows.append(timed(name, path, batch, rounds, with_peers))
                print(tables(rows[-1:], []), file=sys.stderr, flush=True)
            weights.append(weighed(name, path, Path(temporary), batches))
            path.unlink()
    return rows, weights


def exported(name: str, path: Path) -> None:
    """In a process of its own, which leaves no PyTorch here."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_exports, args=(name, path))
    process.start()
    process.join()


def _exports(name: str, path: Path) -> None:
    import torch

    quiet()
    x = pictures(name, 1)
    export(zoo.built(network(name)).to(torch.from_numpy(x).dtype), x, path)


def export(module: Any, x: np.ndarray, path: Path) -> None:
    """By tracing, for any number of samples, operator set 17."""
    import torch

    axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
    names: dict[str, Any] = {"input_names": ["input"], "output_names": ["logits"], "dynamic_axes": axes}
    torch.onnx.export(module, (torch.from_numpy(x[:1]),), path, dynamo=False, opset_version=17, **names)


def quiet() -> None:
    """The exporters talk a lot."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


if __name__ == "__main__":
    main()
