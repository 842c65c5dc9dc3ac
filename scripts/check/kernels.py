"""Has every node that we add a kernel in ONNX Runtime's CPU and CUDA providers, at every operator set and of its type?

    scripts/check/kernels.py --write              by what ONNX Runtime registers; needs no GPU
    scripts/check/kernels.py --gpu                on a GPU: where each added node really runs
    scripts/check/kernels.py --dump ort_V.json    what the installed ONNX Runtime registers
    scripts/check/kernels.py --table FILE...      the table that the package has, from such dumps, named by their version

The nets are those of ``tiny.py``, at operator sets 17 to 24, under several presets with and without a ledger, a contrast and a
target at run time. Arithmetic of sizes is left out: ONNX Runtime gives it to the CPU in any case. Exit status 1 where a node
has no kernel in the oldest runtime that is supported, unless the predictor has such a node too.

A dump is {provider: {domain: {operator: [[since, until or null, {parameter: [types]}], ...]}}}. It takes an ONNX Runtime with
``get_all_opkernel_def``, as wheels of onnxruntime-gpu have it, whose CUDA library loads. CUDA itself must be there, but no GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, defs, helper

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import OnnxdtdError
from onnxdtd.graph import kernels, normal
from onnxdtd.graph.shapes import element_types

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import splice
from tiny import NETS, net

PROVIDERS = ("CPU", "CUDA")
DOMAINS = ("ai.onnx", "com.microsoft", "ai.onnx.ml")
FIRST = min(kernels.OLDEST)
SETS = range(FIRST, 25)
NEVER = 2**31 - 1  # the end of a range that is open
OPTIONS: tuple[dict[str, Any], ...] = (
    {"preset": "dtd", "ledger": True},
    {"preset": "gradient", "target": "input"},
    {"preset": "lrp-gamma", "contrast": "runner-up"},
    {"preset": "lrp-alpha2beta1", "ledger": True, "target": "input"},
    {"preset": "dtd-z", "ledger": True, "low": -1.0, "high": 1.0},
    {"preset": "lrp-epsilon", "target": 0, "ledger": True},
)
SIZES = ("int64", "int32", "bool")
OPEN = {"N": 2, "T": 3}  # sizes of open axes, 8 for others


def dump() -> dict[str, Any]:
    """The kernels of the installed onnxruntime."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found: dict[str, Any] = {}
    for kernel in state.get_all_opkernel_def():
        since, until = kernel.version_range
        lines = found.setdefault(kernel.provider, {}).setdefault(kernel.domain or "ai.onnx", {}).setdefault(kernel.op_name, [])
        types = {
            name: [t.removeprefix("tensor(").removesuffix(")") for t in ts] for name, ts in kernel.type_constraints.items()
        }
        lines.append([since, None if until == NEVER else until, types])
    return found


def table(dumps: Iterable[Path]) -> dict[str, Any]:
    """Dumps as the package has them: what serves an operator set from 17 on."""
    found: dict[str, Any] = {}
    for path in sorted(dumps):
        raw = json.loads(path.read_text(encoding="utf-8"))
        found[path.stem.removeprefix("ort_")] = {
            provider: {
                where: {op: lines for op, ranges in sorted(raw[f"{provider}ExecutionProvider"].get(where, {}).items())
                        if (lines := list(_lines(where, op, ranges)))}
                for where in DOMAINS
            }
            for provider in PROVIDERS
        }  # fmt: skip
    return found


def _in_force(where: str, op: str) -> set[int]:
    """The versions of an operator's schema that operator sets from 17 on have."""
    if where != "ai.onnx":
        return {1} if where == "com.microsoft" else {s.since_version for s in _history(where, op)}
    found = (kernels.schema(op, where, opset) for opset in range(FIRST, defs.onnx_opset_version() + 1))
    return {s.since_version for s in found if s is not None}


def _history(where: str, op: str) -> Iterator[defs.OpSchema]:
    yield from (s for s in defs.get_all_schemas_with_history() if s.domain == where and s.name == op)


def _lines(where: str, op: str, ranges: Iterable[tuple[int, int | None, dict[str, list[str]]]]) -> Iterator[str]:
    """Kernels of one operator, those joined that differ in their versions alone, or in the types of one parameter."""
    letters = {TensorProto.DataType.Name(number).lower(): letter for letter, number in kernels.LETTERS.items()}
    known: list[tuple[set[int], dict[str, set[str]]]] = []
    for since, until, types in ranges:
        versions = {v for v in _in_force(where, op) if v == since or (until is not None and since <= v <= until)}
        own = {name: {letters[t] for t in names if t in letters} for name, names in types.items()}
        if versions and all(own.values()):
            known.append((versions, own))
    while pair := next(((a, b) for i, a in enumerate(known) for b in known[i + 1 :] if _joinable(a, b)), None):
        (versions, own), (more, others) = pair
        known = [k for k in known if k is not pair[1]]
        known[next(i for i, k in enumerate(known) if k is pair[0])] = (
            versions | more,
            {name: own[name] | others[name] for name in own},
        )
    for versions, own in known:
        yield " ".join([",".join(map(str, sorted(versions))), *(f"{n}={''.join(sorted(t))}" for n, t in own.items())])


def _joinable(a: tuple[set[int], dict[str, set[str]]], b: tuple[set[int], dict[str, set[str]]]) -> bool:
    """Is what both serve together the product of their parts?"""
    different = [name for name in a[1] if a[1][name] != b[1].get(name)]
    return a[1].keys() == b[1].keys() and (len(different) <= 1 if a[0] == b[0] else not different)


@dataclass
class Row:
    """An operator set: how many files and added nodes there were, and the operators of those without a kernel, by runtime."""

    files: int = 0
    nodes: int = 0
    lacking: dict[str, Counter[str]] = field(default_factory=dict)
    alone: Counter[str] = field(default_factory=Counter)  # in the oldest runtime supported, and of no node of the predictor


def compiled(every: bool) -> Iterator[tuple[int, str, ModelProto]]:
    """The files by operator set and net: under all options, or under one each, in turn."""
    turn = cycle(OPTIONS)
    for name, text in NETS.items():
        for at in SETS:
            for options in OPTIONS if every else (next(turn),):
                try:
                    proto = onnxdtd.compile(net(text, at), **options)
                except OnnxdtdError:  # what cannot be explained, and operators that the set has not
                    continue
                yield normal.opset(proto), name, proto


def registered() -> dict[int, Row]:
    """What the libraries have, by operator set."""
    rows = {at: Row() for at in SETS}
    sides = [("CPU", list(kernels.registry())[-1]), *(("CUDA", version) for version in kernels.registry())]
    for at, _, proto in compiled(every=True):
        row, own, types = rows[at], read_metadata(proto)["predictor"]["node"], element_types(proto)
        row.files += 1
        row.nodes += len(proto.graph.node) - own
        for provider, version in sides:
            found = {i: proto.graph.node[i].op_type for i, _ in kernels.lacking(proto.graph, at, types, provider, version)}
            added, theirs = ({op for i, op in found.items() if (i >= own) == ours} for ours in (True, False))
            row.lacking.setdefault(f"{provider} {version}", Counter()).update(op for i, op in found.items() if i >= own)
            if provider == "CPU" or version == kernels.oldest(at):
                row.alone.update(added - {op.removeprefix("QLinear") for op in theirs})
    return rows


def shown(rows: dict[int, Row]) -> str:
    """A line for each operator set."""
    sides = list(rows[FIRST].lacking)
    words = lambda counts: ", ".join(f"{count} {op}" for op, count in sorted(counts.items())) or "0"
    heads = ["operator set", "supported from", "files", "added nodes", *(f"none in {side}" for side in sides)]
    lines = [
        [at, kernels.oldest(at), row.files, row.nodes, *(words(row.lacking[side]) for side in sides)]
        for at, row in rows.items()
    ]
    return splice.table(heads, lines)


def placed(events: Iterable[dict[str, Any]], provider: str) -> tuple[int, int, Counter[str]]:
    """Of a profile: how many added nodes run where they are asked to, how many on sizes, and the operators of all others."""
    there, on_sizes, elsewhere = 0, 0, Counter[str]()
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time") or "dtd/" not in event["name"]:
            continue
        told = event["args"]
        tensors = [pair for side in ("input_type_shape", "output_type_shape") for one in told[side] for pair in one.items()]
        if told["provider"] == provider:
            there += 1
        elif all(kind in SIZES or np.prod(shape) == 1 for kind, shape in tensors):
            on_sizes += 1
        else:
            elsewhere[told["op_name"]] += 1
    return there, on_sizes, elsewhere


def fed(proto: ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    """Random inputs: two samples."""
    rng, found = np.random.default_rng(0), {}
    constant = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        kind = value.type.tensor_type
        shape = [d.dim_value or OPEN.get(d.dim_param, 8) for d in kind.shape.dim]
        if value.name == read_metadata(proto)["target_input"]:
            found[value.name] = np.zeros(shape, np.int64)
        elif kind.elem_type == TensorProto.STRING:
            found[value.name] = np.full(shape, "red", object)
        elif value.name not in constant:
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            drawn = rng.integers(0, 9, shape) if np.issubdtype(dtype, np.integer) else rng.normal(size=shape)
            found[value.name] = drawn.astype(dtype)
    return found


def profiled(proto: ModelProto, provider: str) -> list[dict[str, Any]]:
    """The events of one run."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling, options.profile_file_prefix, options.log_severity_level = True, f"{folder}/run", 3
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=[provider])
        session.run(None, fed(proto))
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return events


def run(provider: str) -> tuple[str, bool]:
    """Where added nodes run, a line for each operator set, and whether none runs elsewhere than asked that need not."""
    counts = {at: [0, 0, 0] for at in SETS}
    elsewhere: dict[int, Counter[str]] = {at: Counter() for at in SETS}
    failed: Counter[str] = Counter()
    for at, name, proto in compiled(every=False):
        try:
            there, on_sizes, others = placed(profiled(proto, provider), provider)
        except Exception as error:
            failed[f"{name}, operator set {at}: {str(error).strip().splitlines()[-1][:160]}"] += 1
            continue
        counts[at] = [a + b for a, b in zip(counts[at], (1, there, on_sizes), strict=True)]
        elsewhere[at].update({f"{op} ({name})": count for op, count in others.items()})
    heads = ["operator set", "files", f"added nodes in {provider}", "on sizes, on the CPU", "others on the CPU"]
    words = lambda found: ", ".join(f"{count} {op}" for op, count in sorted(found.items())) or "none"
    lines = [[at, *counts[at], words(elsewhere[at])] for at in SETS]
    notes = [f"- not run: {text}" for text in failed]
    return "\n".join([splice.table(heads, lines), "", *notes]), not any(elsewhere.values())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    splice.option(parser, "kernels")
    parser.add_argument("--gpu", action="store_true", help="run the files on CUDA, and say where each added node runs")
    parser.add_argument("--cpu", action="store_true", help="the same on the CPU, a rehearsal")
    parser.add_argument("--dump", type=Path, metavar="OUT", help="write what the installed ONNX Runtime registers")
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE", help="make the package's table from dumps")
    given = parser.parse_args()
    if given.dump:
        given.dump.write_text(json.dumps(dump()), encoding="utf-8")
    elif given.table:
        text = json.dumps(table(given.table), separators=(",", ":")).replace("],", "],\n").replace("{", "{\n")
        kernels.DATA.write_text(text + "\n", encoding="utf-8")
    elif given.gpu or given.cpu:
        from onnxdtd.runtime.explainer import CUDA, load_cuda

        if given.gpu:
            load_cuda()
        text, passed = run(CUDA if given.gpu else "CPUExecutionProvider")
        print(text)
        if given.write:
            splice.write(given.write, "placed", text)
        sys.exit(not passed)
    else:
        rows = registered()
        print(shown(rows))
        if given.write:
            splice.write(given.write, "kernels", shown(rows))
        sys.exit(any(row.alone for row in rows.values()))


if __name__ == "__main__":
    main()
