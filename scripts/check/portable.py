"""What of files compiled as ever, and with --portable, is on no list of WebGPU, TensorRT, CoreML and NNAPI; what that costs.

Nodes are held against the lists of operators that these runtimes publish (``portable.toml``); no runtime is asked. Left out are
nodes that compute sizes, which are done on the CPU anyway, those that compute with constants alone, which ONNX Runtime and
TensorRT do while they load a file, and Identity, which they take out. ONNX Runtime gives a node that is on no list to the CPU,
with a copy there and one back; TensorRT by itself refuses the file. Nodes of the predictor are told apart, since nothing is
done about them.

    scripts/check/portable.py --write            bundled models, and others with ONNXDTD_ASSETS=FOLDER
    scripts/check/portable.py --browser          besides, where onnxruntime-web puts the nodes on WebGPU in Chromium

Times are of one thread of ONNX Runtime on the CPU, both files in turn. Exit status 1 where relevance differs by more than 1e-6
of the largest, or where activations are rounded (to float16, or to integers) by more than 1e-5.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import runtimes
import splice
from npm import chromium, node_modules
from onnx import ModelProto, NodeProto, TensorProto

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.graph import kernels
from onnxdtd.graph.normal import opset
from onnxdtd.graph.shapes import element_types

LISTS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
LIMIT = 1e-6  # of the largest relevance
RUNS = 7
PATIENCE = 900  # seconds that a browser may take to load all files
LARGE = 2_000_000  # bytes of a file of which one preset is enough
FORMS = ("ordinary", "portable")
GAMMA = "lrp-gamma"  # of which both sides of every neuron are looked at


@dataclass
class Row:
    """A file: its bytes, nodes of the predictor and added ones, those that are not on a list by runtime, milliseconds a sample;
    of a portable one also how far its relevance is from the ordinary one's. ``placed`` are nodes that Chromium has on the CPU.
    """

    model: str
    preset: str
    form: str
    size: int
    nodes: int
    own: dict[str, Counter[str]]
    added: dict[str, Counter[str]]
    time: float = 0.0
    difference: float = 0.0
    placed: Counter[str] | None = field(default=None)


def listed(words: str) -> dict[str, list[tuple[int, int]] | None]:
    """Operators with the ranges of versions that a list has them for, None where it does not say."""
    found: dict[str, list[tuple[int, int]] | None] = {}
    for word in words.split():
        name, _, versions = word.partition(":")
        ends = [part.rstrip("+").partition("-") for part in versions.split(",")]
        found[name] = [(int(a), int(b or a)) for a, _, b in ends] if versions else None
    return found


def lacking(proto: ModelProto, runtime: str, types: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """The positions of nodes that a runtime's list has not, and what is not on it."""
    told, graph = LISTS[runtime], proto.graph
    operators, at = listed(told["operators"]), opset(proto)
    fed = {value.name for value in graph.input}
    fixed = {t.name for t in graph.initializer} - fed
    sizes = set(fixed)
    for position, node in enumerate(graph.node):
        given = set(filter(None, node.input))
        counts = all(types.get(name) in kernels.OF_SIZES for name in node.output if name)
        if given <= fixed:
            fixed.update(node.output)
            sizes.update(node.output)
        elif node.op_type in ("Shape", "Size") or (counts and given <= sizes):
            sizes.update(node.output)
        elif node.op_type != "Identity" and (reason := _why_not(node, operators, told, fixed, at, types)):
            yield position, reason


def _why_not(
    node: NodeProto,
    operators: Mapping[str, list[tuple[int, int]] | None],
    told: Mapping[str, Any],
    fixed: set[str],
    at: int,
    types: Mapping[str, int],
) -> str:
    """What of a node is not on a list; nothing where all is."""
    op, attrs = node.op_type, {a.name: a for a in node.attribute}
    if kernels.domain(node.domain) != "ai.onnx" or op not in operators:
        return op
    schema, ranges = kernels.schema(op, "ai.onnx", at), operators[op]
    if ranges is not None and schema is not None and not any(a <= schema.since_version <= b for a, b in ranges):
        return f"{op} {schema.since_version}"
    if "double" in told.get("lacks", ()) and any(types.get(name) == TensorProto.DOUBLE for name in node.output):
        return f"{op} in double"
    if any(i < len(node.input) and node.input[i] and node.input[i] not in fixed for i in told.get("held", {}).get(op, ())):
        return f"{op} by computed weights"
    if op in told.get("one_output", ()) and len([name for name in node.output if name]) > 1:
        return f"{op} with two outputs"
    plain = [name for name in told.get("plain", {}).get(op, ()) if name in attrs and _is_set(attrs[name])]
    return f"{op} with {plain[0]}" if plain else ""


def _is_set(attribute: Any) -> bool:
    """Is an attribute another than its default?"""
    default = {"dilations": [1], "output_padding": [0]}
    return set(attribute.ints) - set(default.get(attribute.name, [])) != set() or attribute.s not in (b"", b"NOTSET", b"none")


def counts(proto: ModelProto) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """What is on no list, of the predictor and of what is added, by runtime."""
    first, types = read_metadata(proto)["predictor"]["node"], element_types(proto)
    found = {runtime: list(lacking(proto, runtime, types)) for runtime in LISTS}
    parts = [lambda at: at < first, lambda at: at >= first]
    own, added = ({r: Counter(why for at, why in rows if part(at)) for r, rows in found.items()} for part in parts)
    return own, added


def compiled(case: runtimes.Case, preset: str, form: str) -> ModelProto:
    """A file in one of ``FORMS``."""
    return onnxdtd.compile(case.model, preset, low=case.low, high=case.high, portable=form == "portable")


def measured(case: runtimes.Case, preset: str) -> list[Row]:
    """Both files, one after the other, sample by sample."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    protos = [compiled(case, preset, form) for form in FORMS]
    sessions = [ort.InferenceSession(p.SerializeToString(), options, providers=["CPUExecutionProvider"]) for p in protos]
    names = [value.name for value in protos[0].graph.output if value.name.startswith("relevance")]
    feeds = case.feeds(case.samples[:1] if case.one else case.samples)
    feed, count = feeds[0], len(next(iter(feeds[0].values())))
    first, second = (session.run(names, dict(feed)) for session in sessions)
    times: list[list[float]] = [[], []]
    for _ in range(RUNS):
        for session, taken in zip(sessions, times, strict=True):
            began = time.process_time()
            session.run(names, dict(feed))
            taken.append(time.process_time() - began)
    worst = max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in zip(first, second, strict=True))
    rows = []
    for form, proto, taken in zip(FORMS, protos, times, strict=True):
        own, added = counts(proto)
        nodes = len(proto.graph.node) - read_metadata(proto)["predictor"]["node"]
        rows.append(Row(case.name, preset, form, proto.ByteSize(), nodes, own, added, median(taken) / count * 1000))
    rows[1].difference = worst
    return rows


def placed(cases: Sequence[runtimes.Case], rows: Sequence[Row]) -> None:
    """Enter which nodes onnxruntime-web has put on the CPU in a browser with WebGPU; sessions are loaded, and not run."""
    known, script = {case.name: case for case in cases}, node_modules().parent / "placed.mjs"
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{number}.onnx" for number in range(len(rows))]
        for row, file in zip(rows, files, strict=True):
            onnx.save(compiled(known[row.model], row.preset, row.form), Path(folder, file))
        Path(folder, "files.json").write_text(json.dumps(files), encoding="utf-8")
        subprocess.run(["node", str(script), folder, str(chromium())], check=True, timeout=PATIENCE)
        found = json.loads(Path(folder, "placed.json").read_text(encoding="utf-8"))
    for row, nodes in zip(rows, found, strict=True):  # those that are added begin with dtd/; the runtime's own have no names
        row.placed = (
            Counter(["does not load"]) if nodes is None else Counter(op for op, name in nodes if name.startswith("dtd/"))
        )


def cell(found: Mapping[str, int]) -> str:
    """Numbers of nodes, in words."""
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items())) or "—"


def tables(rows: Sequence[Row]) -> str:
    """How many added nodes are on no list and what that costs; then which they are, and those of the predictors."""
    pairs, titles = list(zip(rows[::2], rows[1::2], strict=True)), [LISTS[runtime]["title"] for runtime in LISTS]
    counted = [
        [
            *(a.model, a.preset),
            *(f"{a.added[runtime].total()} → {b.added[runtime].total()}" for runtime in LISTS),
            *(f"{a.nodes} → {b.nodes}", f"{a.size / 1e6:.2f} → {b.size / 1e6:.2f}"),
            *(f"{a.time:.2f}", f"{b.time / a.time:.2f}", f"{b.difference:.0e}" if b.difference else "0"),
        ]
        for a, b in pairs
    ]
    costs = ["added nodes", "MB", "ms a sample", "portable, times that", "relevance differs by"]
    named = [[r.model, r.preset, r.form, *(cell(r.added[runtime]) for runtime in LISTS)] for r in rows]
    own = {r.model: [r.model, *(cell(r.own[runtime]) for runtime in LISTS)] for r in rows}
    seen = [[a.model, a.preset, cell(a.placed or {}), cell(b.placed or {})] for a, b in pairs if a.placed is not None]
    browser = "Added nodes that onnxruntime-web itself, on WebGPU in Chromium, has put on the CPU:\n\n"
    return "\n\n".join(
        [
            "Added nodes on no list, ordinary → portable; and what that costs on the CPU, where nobody needs it:",
            splice.table(["model", "preset", *titles, *costs], counted),
            *([browser + splice.table(["model", "preset", "ordinary", "portable"], seen)] if seen else []),
            "The lists:\n\n" + "\n".join(f"- {told['title']}: {told['source']}" for told in LISTS.values()),
            splice.folded("Which nodes they are", splice.table(["model", "preset", "file", *titles], named)),
            splice.folded("Nodes of the predictors on no list", splice.table(["model", *titles], list(own.values()))),
        ]
    )


def presets(case: runtimes.Case) -> Sequence[str]:
    """Deep Taylor and LRP-γ; attnlrp where there is attention; of a large file one."""
    chosen = ("attnlrp", "lrp-epsilon") if case.attends else ("dtd", GAMMA)
    return chosen[:1] if case.size > LARGE else chosen


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="some of them")
    parser.add_argument("--browser", action="store_true", help="also load the files in Chromium")
    parser.add_argument("--json", type=Path, metavar="FILE")
    splice.option(parser, "portable")
    args = parser.parse_args()
    cases = [case for case in runtimes.cases() if not args.models or case.name in args.models]
    rows = []
    for case in cases:
        for preset in presets(case):
            try:
                rows += measured(case, preset)
            except onnxdtd.OnnxdtdError as error:
                print(f"{case.name}, {preset}: {error}", file=sys.stderr)
    if args.browser:
        placed(cases, rows)
    print(text := tables(rows))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")
    if args.write:
        splice.write(args.write, "portable", text)
    limits = {case.name: LIMIT if case.limit == runtimes.LIMIT else 10 * LIMIT for case in cases}
    return int(any(row.difference > limits[row.model] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
