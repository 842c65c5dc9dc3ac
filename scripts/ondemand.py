"""What a file costs that explains on demand: prediction alone beside the source, explanation beside the flat file.

Networks of torchvision with seeded weights, pictures of 224 pixels, one at a time. Source, flat file and file on demand take
turns in one process; what counts is the processor's time of one thread, and the clock's of several, since the processor's has
what they wait for each other in it; and of each ratio the median over the rounds. Loading and peak memory are those of
processes of their own. "All read": the same without what the branch computes afresh, so that ONNX Runtime copies all that the
relevance pass reads out of its blocked layout, and keeps it.

    scripts/ondemand.py --write                         everything, some 15 minutes
    scripts/ondemand.py --models resnet50 --rounds 30   one, more exactly
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import bench
import numpy as np
import onnx
import splice
import zoo

import onnxdtd
from onnxdtd.compiler import afresh
from onnxdtd.runtime.explainer import session

CPU = ["CPUExecutionProvider"]
PREDICTION = {
    "squeezenet1_1": 1.15,
    "mobilenet_v2": 1.3,
    "densenet121": 1.15,
    "resnet50": 1.05,
    "vgg16": 1.05,
    "vit_b_16": 1.05,
}
EXPLANATION = 1.08  # of the flat file's time
KINDS = ("source", "flat", "on demand", "all read")
TURN = 0.05  # seconds at least that a turn takes
LATER = ("vgg16", "vit_b_16")  # heavy
PARTS = ("the predictor's products", "the rest of it", "copies", "afresh", "products back", "rest back")


def compiled(path: Path, kind: str) -> bytes:
    """One of ``KINDS``"""
    if kind == "source":
        return path.read_bytes()
    share = afresh.EXPLAINING
    try:
        afresh.EXPLAINING = 0.0 if kind == "all read" else share
        proto = onnxdtd.compile(path, "dtd", low=-zoo.BOUND, high=zoo.BOUND, on_demand=None if kind == "flat" else True)
    finally:
        afresh.EXPLAINING = share
    return bytes(proto.SerializeToString())


def runs(paths: dict[str, Path], threads: int) -> dict[str, Callable[[], list[Any]]]:
    """What takes turns, by name; a prediction alone and an explanation of each file on demand."""
    x, found = bench.pictures("", 1), dict[str, Callable[[], list[Any]]]()
    for kind, path in paths.items():
        loaded = session(path, CPU, threads=threads)
        name = loaded.get_inputs()[0].name
        if kind in ("source", "flat"):
            found[kind] = partial(loaded.run, None, {name: x})
        else:
            for asked in (False, True):
                feeds = {name: x, "explain": np.asarray(asked)}
                found[f"{kind}: {'explanation' if asked else 'prediction'}"] = partial(loaded.run, None, feeds)
    return found


def turn(run: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds that a run takes"""
    run()
    count, start = 0, clock()
    while not count or clock() - start < TURN:
        run()
        count += 1
    return (clock() - start) / count


def timed(folder: Path, threads: int, rounds: int) -> dict[str, float]:
    """Median seconds of the source, and of each other run the median of its ratio to the source, or to the flat file."""
    taking = runs({kind: folder / f"{kind}.onnx" for kind in KINDS}, threads)
    relevance = {name: run()[1] for name, run in taking.items() if name == "flat" or name.endswith("explanation")}
    taken: dict[str, list[float]] = {name: [] for name in taking}
    clock = time.process_time if threads == 1 else time.perf_counter
    for _ in range(rounds):
        for name, run in taking.items():
            taken[name].append(turn(run, clock))
    of = lambda name, base: median(a / b for a, b in zip(taken[name], taken[base], strict=True))
    found = {"source": median(taken["source"]), "flat": of("flat", "source")}
    found |= {name: of(name, "flat" if name.endswith("explanation") else "source") for name in taking if ":" in name}
    apart = np.abs(relevance["on demand: explanation"] - relevance["flat"]).max() / np.abs(relevance["flat"]).max()
    return found | {"apart": float(apart)}


def by_part(path: Path, threads: int, rounds: int) -> dict[str, float]:
    """The ms that an explanation spends in each of ``PARTS`` by ONNX Runtime's profile; of each node the median of its runs."""
    feeds = {"input": bench.pictures("", 1)}
    if "explain" in {value.name for value in onnx.load(path).graph.input}:
        feeds["explain"] = np.asarray(True)
    taken: dict[tuple[str, str], list[float]] = {}
    for event in bench.profiled(str(path), feeds, CPU, rounds, threads):
        taken.setdefault((event["name"], event["args"]["op_name"]), []).append(event["dur"] / 1e3)
    found = dict.fromkeys(PARTS, 0.0)
    for (name, operator), times in taken.items():
        if operator != "If":  # whose time is that of what lies inside
            found[part(name, operator)] += median(times)
    return found


def part(name: str, operator: str) -> str:
    """Which of ``PARTS`` a node belongs to"""
    if operator in ("ReorderInput", "ReorderOutput"):
        return "copies"
    if "/afresh" in name:
        return "afresh"
    if name.startswith("dtd/"):
        return "products back" if operator in bench.KINDS["layers"] else "rest back"
    return "the predictor's products" if operator in bench.KINDS["layers"] else "the rest of it"


def one(path: Path, asked: bool) -> dict[str, float]:
    """Seconds to load a file, and by how many megabytes memory grew at most until it had run twice"""
    before, start = memory("VmRSS"), time.process_time()
    loaded = session(path, CPU, threads=1)
    seconds = time.process_time() - start
    feeds = {loaded.get_inputs()[0].name: bench.pictures("", 1)}
    if len(loaded.get_inputs()) > 1:
        feeds["explain"] = np.asarray(asked)
    for _ in range(2):
        loaded.run(None, feeds)
    return {"load": seconds, "peak": (memory("VmHWM") - before) / 1024}


def memory(what: str) -> int:
    """Kilobytes of this process"""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


def copies(path: Path, folder: Path) -> int:
    """How often the optimised graph, branches apart, copies out of the blocked layout"""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 3, str(folder / "optimised.onnx")
    ort.InferenceSession(str(path), options, providers=CPU)
    graph = onnx.load(folder / "optimised.onnx", load_external_data=False).graph
    (folder / "optimised.onnx").unlink()
    return Counter(node.op_type for node in graph.node)["ReorderOutput"]


def taken_afresh(path: Path) -> tuple[int, int]:
    """How many tensors of the predictor the branch reads, and how many it computes afresh"""
    *own, last = onnx.load(path).graph.node
    inside = next(attribute.g for attribute in last.attribute if attribute.name == "then_branch").node
    outside = {name for node in own for name in node.output if node.op_type != "Constant"}
    return len({name for node in inside for name in node.input} & outside), sum(
        name.endswith("/afresh") for node in inside for name in node.output
    )


def told(*arguments: str) -> dict[str, float]:
    """What another process of this script says"""
    ran = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def measured(name: str, threads: Sequence[int], rounds: int) -> dict[str, Any]:
    """All of one network"""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        exporting = multiprocessing.get_context("spawn").Process(target=exported, args=(name, folder / "source.onnx"))
        exporting.start()
        exporting.join()
        for kind in KINDS[1:]:
            (folder / f"{kind}.onnx").write_bytes(compiled(folder / "source.onnx", kind))
        found: dict[str, Any] = {"model": name, "copies": {}, "one": {}}
        found["read"], found["afresh"] = taken_afresh(folder / "on demand.onnx")
        for kind in ("source", "on demand", "all read"):
            found["copies"][kind] = copies(folder / f"{kind}.onnx", folder)
        found["timed"] = {
            count: told("--timed", str(folder), str(count), str(rounds if name not in LATER else max(rounds // 2, 3)))
            for count in threads
        }
        found["parts"] = {kind: by_part(folder / f"{kind}.onnx", 1, max(rounds, 3)) for kind in KINDS[1:]}
        for kind in KINDS[:3]:
            for asked in (False, True)[: 1 + (kind == "on demand")]:
                found["one"][f"{kind}{' explained' * asked}"] = told("--one", str(folder / f"{kind}.onnx"), str(int(asked)))
        return found


def exported(name: str, path: Path) -> None:
    """By tracing, for any number of samples"""
    bench.quiet()
    bench.export(zoo.built(zoo.Network(name, bench.SIZE)), bench.pictures("", 1), path)


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Times, then what they come of, and loading and memory"""
    within = lambda value, most: f"{value:.2f}" if value <= most else f"**{value:.2f}**"
    times, rest, parts = [], [], []
    for row in rows:
        name = row["model"]
        for threads, t in row["timed"].items():
            prediction, explanation = t["on demand: prediction"], t["on demand: explanation"]
            times.append(
                [
                    name,
                    threads,
                    f"{t['source'] * 1000:.1f}",
                    within(prediction, PREDICTION[name]),
                    PREDICTION[name],
                    f"{t['all read: prediction']:.2f}",
                    f"{t['flat']:.2f}",
                    within(explanation, EXPLANATION),
                    f"{t['all read: explanation']:.2f}",
                    f"{t['apart']:.0e}" if t["apart"] else "0",
                ]
            )
        copied, one_of = row["copies"], row["one"]
        loads = " / ".join(f"{one_of[kind]['load']:.1f}" for kind in KINDS[:3])
        peaks = " / ".join(f"{one_of[kind]['peak']:.0f}" for kind in (*KINDS[:3], "on demand explained"))
        reorders = f"{copied['source']} / {copied['on demand']} / {copied['all read']}"
        rest.append([name, row["read"], row["afresh"], reorders, loads, peaks])
        for kind, spent in row["parts"].items():
            parts.append([name, kind, *(f"{spent[each]:.1f}" for each in PARTS), f"{sum(spent.values()):.1f}"])
    heads = (
        "model",
        "threads",
        "source (ms)",
        "prediction / source",
        "bound",
        "all read",
        "flat / source",
        f"explanation / flat (bound {EXPLANATION})",
        "all read",
        "difference",
    )
    further = (
        "model",
        "read",
        "computed afresh",
        "copies out of the layout: source / on demand / all read",
        "load (s): source / flat / on demand",
        "peak memory (MB): source / flat / on demand, predicting / explaining",
    )
    asked = ("model", "explanation by the file (ms, one thread, by ONNX Runtime's profile)", *PARTS, "sum")
    return "\n\n".join(splice.table(*each) for each in ((heads, times), (further, rest), (asked, parts)))


def main() -> None:
    """Measure, print, write."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=PREDICTION, default=list(PREDICTION))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    parser.add_argument("--timed", nargs=3, help=SUPPRESS)
    parser.add_argument("--one", nargs=2, help=SUPPRESS)
    splice.option(parser, "ondemand")
    given = parser.parse_args()
    if given.timed:
        print(json.dumps(timed(Path(given.timed[0]), *map(int, given.timed[1:]))))
        return
    if given.one:
        print(json.dumps(one(Path(given.one[0]), given.one[1] == "1")))
        return
    rows = []
    for name in given.models:
        rows.append(measured(name, given.threads, given.rounds))
        print(tables(rows[-1:]), file=sys.stderr, flush=True)
        if given.write:  # as far as it is
            splice.write(given.write, "ondemand", tables(rows), ["torch", "torchvision"])
    print(tables(rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
