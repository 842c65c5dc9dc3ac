"""Plants faults in the package, one at a time, and checks that the tests notice each.

A fault is a replacement of text that must occur exactly once; it is planted in a copy of the project, never here. Only the
test files named with it run, which the whole suite does as well. Exit status 1 if a fault survives.

    scripts/mutants.py                  all of them, on two processes
    scripts/mutants.py --only pad       those with "pad" in what they do
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Fault:
    """What is wrong, where, and which tests must see it."""

    what: str
    file: str
    old: str
    new: str
    tests: str


@dataclass(frozen=True)
class Outcome:
    """A fault and the first test that failed, None if none did."""

    fault: Fault
    caught_by: str | None
    seconds: float


FAULTS = [
    Fault(
        "share of a term without its sign",
        "method/propagate.py",
        "factor * branch.scale * term.sign) for",
        "factor * branch.scale) for",
        "method/propagate",
    ),
    Fault(
        "adjoints of several weights exchanged",
        "method/propagate.py",
        "for i in range(len(weights))]",
        "for i in reversed(range(len(weights)))]",
        "method/propagate",
    ),
    Fault(
        "sign of a dense layer's division lost", "method/propagate.py", "e.mul(s, factor), 1.0", "s, 1.0", "method/propagate"
    ),
    Fault("axes of size 0 taken for copies", "operators/linear.py", ", allowzero=1)", ")", "compiler/nets"),
    Fault("shape of an output believed", "graph/emit.py", " or like.name in self._outputs", "", "graph/emit"),
    Fault(
        "batches of two names believed",
        "graph/emit.py",
        "if len({shape[0] for shape in shapes}) != 1:",
        "if False:",
        "graph/emit",
    ),
    Fault("MaxPool like the predictor's", "operators/moves.py", 'attrs["storage_order"] = 0', "pass", "compiler/nets"),
    Fault(
        "bias missing from the denominator",
        "method/propagate.py",
        "z if bias is None else e.add(z, bias)",
        "z",
        "method/propagate",
    ),
    Fault("sign(0) = 0", "method/propagate.py", 'e("Add", z, 2.0**-100), 2.0**110)', "z, 2.0**110)", "method/propagate"),
    Fault(
        "a dead denominator divides",
        "method/propagate.py",
        'keep = lambda value: e("ThresholdedRelu",',
        'keep = lambda value: e("LeakyRelu",',
        "method/propagate",
    ),
    Fault(
        "1 / z of the wrong sign",
        "method/propagate.py",
        'e("Clip", z, None, tiny))), 1.0',
        'e("Clip", z, None, tiny))), -1.0',
        "method/propagate",
    ),
    Fault("x⁻ is x⁺", "method/propagate.py", 'return e("Min", x, 0.0)', 'return e("Relu", x)', "method/propagate"),
    Fault("l and h exchanged", "method/propagate.py", '[symbol[-1] == "h"]', '[symbol[-1] == "l"]', "method/propagate"),
    Fault(
        "γ adds the other part",
        "method/propagate.py",
        "symbol[0] + symbol[2], params)",
        "symbol[0] + '+', params)",
        "method/propagate",
    ),
    Fault(
        "β branch takes x⁻ w⁻",
        "../rules/rules.toml",
        '["x+ w-", "x- w+"], bias = "b-"',
        '["x+ w-", "x- w-"], bias = "b-"',
        "method/propagate",
    ),
    Fault(
        "w² is |w|", "method/propagate.py", 'e.mul(w, w) if symbol == "w2"', 'e("Abs", w) if symbol == "w2"', "method/propagate"
    ),
    Fault(
        "quantised output taken for the sum", "compiler/steps.py", "replace(layer, exact=node.exact)", "layer", "graph/spelled"
    ),
    Fault(
        "flipped kernel pads off by one",
        "operators/windows.py",
        "[e - 1 - p for p, e",
        "[e - p for p, e",
        "operators/windows operators/linear",
    ),
    Fault("kernel not mirrored", "operators/windows.py", "if all(k == 1 for k in kernel):", "if True:", "operators/linear"),
    Fault("groups not exchanged", "operators/windows.py", "perm=[0, 2, 1, *(axis", "perm=[0, 1, 2, *(axis", "operators/linear"),
    Fault(
        "uneven output padding forgotten",
        "operators/windows.py",
        "output_padding.append(max(uncovered, 0))",
        "output_padding.append(0)",
        "operators/windows operators/linear",
    ),
    Fault(
        "SAME_LOWER pads like SAME_UPPER",
        "operators/windows.py",
        "if upper else (total - total // 2, total // 2)",
        "if True else (0, 0)",
        "operators/windows operators/linear",
    ),
    Fault(
        "average counts the padding",
        "operators/windows.py",
        'return e("Div", means, count)',
        'return e("Mul", means, 1 / np.prod(win.kernel))',
        "operators/linear",
    ),
    Fault(
        "Gemm adjoint not transposed",
        "operators/linear.py",
        "product(w, s, tb, 1) if ta else product(s, w, 0, 1 - tb)",
        "product(w, s, tb, 1) if ta else product(s, w, 0, tb)",
        "operators/linear",
    ),
    Fault(
        "subtrahend added",
        "operators/linear.py",
        'sign = -1.0 if node.op == "Sub" and position else 1.0',
        "sign = 1.0",
        "operators/linear",
    ),
    Fault(
        "residual counted twice",
        "operators/linear.py",
        "slots.append(sum_slot(e, term, y, sign))",
        "slots.append(sum_slot(e, term, y, 2 * sign))",
        "operators/linear compiler/nets method/oracle",
    ),
    Fault(
        "mean is a sum on the way back",
        "operators/linear.py",
        's = e("Div", s, count(e, x, axes, s.dtype))',
        "pass",
        "operators/linear",
    ),
    Fault(
        "BatchNormalization without ε",
        "operators/linear.py",
        'float(node.attrs.get("epsilon", 1e-5))))',
        "0.0))",
        "operators/linear",
    ),
    Fault(
        "mean of a BatchNormalization not scaled",
        "operators/linear.py",
        'e("Sub", beta, e("Mul", mean, factor))',
        'e("Sub", beta, mean)',
        "operators/linear",
    ),
    Fault(
        "last of equal winners",
        "operators/moves.py",
        'e("ArgMax", rows, axis=-1, keepdims=1)',
        'e("ArgMax", rows, axis=-1, keepdims=1, select_last_index=1)',
        "operators/moves",
    ),
    Fault(
        "winner overwrites where windows overlap",
        "operators/moves.py",
        'axis=0, reduction="add")',
        "axis=0)",
        "operators/moves",
    ),
    Fault("Concat hands back the wrong piece", "operators/moves.py", "start = end", "pass", "operators/moves"),
    Fault(
        "permutation instead of its inverse",
        "operators/moves.py",
        'perm=[int(i) for i in np.argsort(perm)])\n\n\n@register(MOVE, "Concat")',
        'perm=[int(i) for i in perm])\n\n\n@register(MOVE, "Concat")',
        "operators/moves",
    ),
    Fault(
        "both consumers' relevance, but only the last kept",
        "compiler/compile.py",
        "e.sum(arrived.pop(result.name))",
        "arrived.pop(result.name)[-1]",
        "compiler/nets",
    ),
    Fault(
        "LeakyRelu taken for never negative",
        "operators/moves.py",
        '"ReduceSumSquare"}',
        '"ReduceSumSquare", "LeakyRelu"}',
        "operators/moves",
    ),
    Fault(
        "bounds not swapped by a negative factor",
        "compiler/bounds.py",
        'e("Min", low, high), e("Max", low, high)',
        "low, high",
        "compiler/bounds",
    ),
    Fault(
        "bounds of one input taken for those of all",
        "compiler/steps.py",
        "if all(t.name in self.bounded for t in sources):",
        "if True:",
        "compiler/bounds",
    ),
    Fault(
        "channels on the last axis of a picture",
        "data/channels.py",
        "return None if dense or len(axes) < 2 else axes[place]",
        "return None if dense or len(axes) < 2 else axes[-1]",
        "data/channels",
    ),
    Fault(
        "margin of a photograph left out",
        "data/preprocessing.py",
        "side * MARGIN[0] // MARGIN[1]",
        "side * 1",
        "data/preprocessing data/labelled",
    ),
    Fault(
        "both factors of a gate get everything",
        "operators/products.py",
        "w=e.mul(slot.w, 0.5)",
        "w=slot.w",
        "operators/products",
    ),
    Fault(
        "the gate gets the relevance",
        "operators/products.py",
        "both[ranks.index(max(ranks))]",
        "both[ranks.index(min(ranks))]",
        "operators/products",
    ),
    Fault(
        "runner-up not subtracted",
        "compiler/score.py",
        'e("Sub", own, e("Where", runner_up, of, 0.0))',
        "own",
        "compiler/neuron",
    ),
    Fault(
        "Relu's result though zeros get relevance",
        "compiler/rectified.py",
        'step.op == "Relu" and firm and',
        'step.op == "Relu" and',
        "compiler/rectified",
    ),
    Fault(
        "a longer Concat for a part of it",
        "compiler/chained.py",
        "[first, *node.inputs[size:]]",
        "[first, *node.inputs]",
        "compiler/chained",
    ),
    Fault(
        "the branch of a skip gets all", "compiler/residual.py", 'e("Sub", relevance, mine)', "relevance", "compiler/residual"
    ),
    Fault(
        "half of a skip's share",
        "compiler/residual.py",
        'e("Div", positive, largest))  #',
        'e.mul(e("Div", positive, largest), 0.5))  #',
        "study/verify",
    ),
    Fault("verify believes a shortcut", "compiler/compile.py", "    if shortcuts:", "    if True:", "study/verify"),
    Fault(
        "samples along the first axis",
        "compiler/samples.py",
        "return found[0] if found else None",
        "return 0",
        "compiler/samples",
    ),
    Fault(
        "ledger forgets ε",
        "compiler/ledger.py",
        'yield "stabiliser", e.mul(stab',
        'yield "dead", e.mul(stab',
        "compiler/ledger",
    ),
    Fault(
        "labels that are numbers taken for indices",
        "labels.py",
        "(label if isinstance(label, int) else None for label",
        "(None for label",
        "labels compiler/classlabels",
    ),
    Fault("verify trusts the metadata", "study/verify.py", "if mine.get(key) != theirs.get(key))", "if False)", "study/verify"),
    Fault(
        "injected relevance not where it is 0",
        "compiler/rectified.py",
        "loose = set(sources)",
        "loose: set[str] = set()",
        "compiler/rectified study/audit/converge",
    ),
    Fault(
        "layers above an injection count",
        "compiler/compile.py",
        "steps = steps[:last]",
        "pass",
        "compiler/rectified study/audit/converge",
    ),
    Fault(
        "minus z explained by the rule of z",
        "compiler/compile.py",
        "if scored is None or scored.one_hot or job.plan.derivative:",
        "if True:",
        "compiler/neuron",
    ),
    Fault(
        "terms of a sum without their sign",
        "compiler/neuron.py",
        "slot.w if isinstance(slot.w, float)",
        "1.0 if True",
        "compiler/neuron",
    ),
    Fault(
        "a filter for all samples",
        "compiler/neuron.py",
        "filters(c, self.wide(slot.w))",
        'filters(e("Abs", c), self.wide(slot.w))',
        "compiler/neuron",
    ),
    Fault(
        "root looked for beside the line",
        "study/audit/roots.py",
        "low, high)\n            slope",
        "low, high) + 1\n            slope",
        "study/audit/roots",
    ),
    Fault(
        "root on the other side", "study/audit/roots.py", "root, near = x - way,", "root, near = x + way,", "study/audit/roots"
    ),
    Fault(
        "region looked at where x is", "study/audit/roots.py", "x - (1 - BEFORE) * way", "x - BEFORE * way", "study/audit/roots"
    ),
    Fault(
        "region by the gradient alone",
        "study/audit/roots.py",
        "for a, b in zip(self.choices, other.choices, strict=True)",
        "for a, b in ()",
        "study/audit/roots",
    ),
    Fault(
        "region by the choices alone",
        "study/audit/roots.py",
        "logical_and.reduce([near, ",
        "logical_and.reduce([near | True, ",
        "study/audit/roots",
    ),
    Fault(
        "winners of pools left out",
        "study/audit/roots.py",
        '("MaxPool", "ArgMax", "TopK")',
        '("ArgMax", "TopK")',
        "study/audit/roots",
    ),
    Fault(
        "domain without its lower end",
        "study/audit/roots.py",
        "(root >= low - DOMAIN * (high - low)) & ",
        "",
        "study/audit/roots",
    ),
    Fault("negative roots in the domain", "study/audit/roots.py", "if self._nonnegative:", "if False:", "study/audit/roots"),
    Fault("no root, no failure", "study/audit/roots.py", '"hinge": found & ', '"hinge": ~found | ', "study/audit/roots"),
    Fault(
        "inputs move that a neuron does not read",
        "study/audit/roots.py",
        "(w > 0, w < 0, w != 0)",
        "(w > 0, w < 0, w == w)",
        "study/audit/roots",
    ),
    Fault(
        "logits nobody explains",
        "study/audit/roots.py",
        "active = (y > 0) & (rows(cotangent, n) != 0) if",
        "active = (y > 0) if",
        "study/audit/roots",
    ),
    Fault(
        "a part that keeps what is given",
        "study/audit/parts.py",
        "if any(name in wanted and name not in cuts for",
        "if any(name in wanted for",
        "study/audit/roots",
    ),
    Fault(
        "samples that fill a batch count",
        "study/audit/parts.py",
        "yield Batch(filled, len(some), feeds)",
        "yield Batch(filled, len(filled), feeds)",
        "study/audit/roots",
    ),
    Fault(
        "relevance compared along width",
        "study/audit/converge.py",
        '1 if step.layer.family == "conv"',
        '-1 if step.layer.family == "conv"',
        "study/audit/converge",
    ),
    Fault(
        "dead positions count",
        "study/audit/converge.py",
        "np.isfinite(both) & (both > 0)",
        "np.isfinite(both)",
        "study/audit/converge",
    ),
    Fault("random vectors of another size", "study/audit/converge.py", "(size - 1) / 2", "size / 2", "study/audit/converge"),
    Fault(
        "layers beside the start count",
        "study/audit/converge.py",
        "if any(t.name in wanted for t in step.outputs):",
        "if True:",
        "study/audit/converge",
    ),
    Fault(
        "relevance passes where shapes differ",
        "compiler/steps.py",
        "if x.shape != y.shape or not all(",
        "if not all(",
        "compiler/advice",
    ),
    Fault(
        "advice taken on trust",
        "compiler/advice.py",
        "and tried(replace(request, allow=passes)) is not None",
        "",
        "compiler/advice",
    ),
    Fault(
        "weights of any size fit", "graph/fits.py", "for a, b in zip(is_so, must, strict=True)", "for a, b in ()", "graph/fits"
    ),
    Fault(
        "a derivative takes rules that divide",
        "method/toml.py",
        "if selector.rule.divide and derivative is not None:",
        "if False:",
        "method/propagate",
    ),
]


def file_of_tests(name: str) -> Path:
    """The file with the tests of a module, by its path: ``method/toml``."""
    return Path("tests", name).with_name(f"test_{Path(name).name}.py")


def planted(fault: Fault, folder: Path) -> None:
    """A copy of the project with the fault in it."""
    skip = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "*.egg-info", ".hypothesis")
    shutil.copytree(ROOT, folder, ignore=skip)
    path = folder / "onnxdtd" / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise SystemExit(f"{fault.what}: {fault.old!r} occurs {text.count(fault.old)} times in {fault.file}")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")


def outcome(fault: Fault) -> Outcome:
    """Plant a fault and run its tests until the first fails."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "project"
        planted(fault, folder)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        files = [str(file_of_tests(name)) for name in fault.tests.split()]
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        ran = subprocess.run([*command, *files], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", ran.stdout, re.MULTILINE)
    if ran.returncode not in (0, 1) or (ran.returncode == 1 and not found):
        raise SystemExit(f"{fault.what}: the tests did not run\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return Outcome(fault, found.group(1) if found else None, time.monotonic() - start)


def main() -> None:
    """Plant all faults, show who caught them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults with this text in their description or file")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the outcomes to this file")
    given = parser.parse_args()
    chosen = [fault for fault in FAULTS if given.only in fault.what + fault.file]
    with ThreadPoolExecutor(given.processes) as pool:
        outcomes = list(track(pool.map(outcome, chosen), "planting faults", total=len(chosen), transient=True))
    table = Table("fault", "in", "caught by", "seconds")
    for o in outcomes:
        table.add_row(o.fault.what, Path(o.fault.file).name, o.caught_by or "NOBODY", f"{o.seconds:.0f}")
    console = Console()
    console.width = max(console.width, 130)  # a table in a file need not fit a screen
    console.print(table)
    survived = sum(o.caught_by is None for o in outcomes)
    print(f"{len(outcomes) - survived} of {len(outcomes)} faults caught")
    if given.json:
        given.json.write_text(json.dumps([asdict(o) for o in outcomes], indent=1, ensure_ascii=False), encoding="utf-8")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
