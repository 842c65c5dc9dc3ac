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
        "rules.py",
        "factor * branch.scale * term.sign) for",
        "factor * branch.scale) for",
        "rules",
    ),
    Fault(
        "adjoints of several weights exchanged",
        "rules.py",
        "for i in range(len(weights))]",
        "for i in reversed(range(len(weights)))]",
        "rules",
    ),
    Fault("sign of a dense layer's division lost", "rules.py", "e.mul(s, factor), 1.0", "s, 1.0", "rules"),
    Fault("axes of size 0 taken for copies", "linear.py", ", allowzero=1)", ")", "compiler_nets"),
    Fault("shape of an output believed", "emit.py", " or like.name in self._outputs", "", "emit"),
    Fault("batches of two names believed", "emit.py", "if len({shape[0] for shape in shapes}) != 1:", "if False:", "emit"),
    Fault("MaxPool like the predictor's", "flow.py", 'attrs["storage_order"] = 0', "pass", "compiler_nets"),
    Fault("bias missing from the denominator", "rules.py", "z if bias is None else e.add(z, bias)", "z", "rules"),
    Fault("sign(0) = 0", "rules.py", 'e("Add", z, 2.0**-100), 2.0**110)', "z, 2.0**110)", "rules"),
    Fault(
        "a dead denominator divides",
        "rules.py",
        'keep = lambda value: e("ThresholdedRelu",',
        'keep = lambda value: e("LeakyRelu",',
        "rules",
    ),
    Fault(
        "1 / z of the wrong sign", "rules.py", 'e("Clip", z, None, tiny))), 1.0', 'e("Clip", z, None, tiny))), -1.0', "rules"
    ),
    Fault("x⁻ is x⁺", "rules.py", 'return e("Min", x, 0.0)', 'return e("Relu", x)', "rules"),
    Fault("l and h exchanged", "rules.py", '[symbol[-1] == "h"]', '[symbol[-1] == "l"]', "rules"),
    Fault("γ adds the other part", "rules.py", "symbol[0] + symbol[2], params)", "symbol[0] + '+', params)", "rules"),
    Fault(
        "β branch takes x⁻ w⁻",
        "../rules/rules.toml",
        '["x+ w-", "x- w+"], bias = "b-"',
        '["x+ w-", "x- w-"], bias = "b-"',
        "rules",
    ),
    Fault("w² is |w|", "rules.py", 'e.mul(w, w) if symbol == "w2"', 'e("Abs", w) if symbol == "w2"', "rules"),
    Fault("quantised output taken for the sum", "plan.py", "replace(layer, exact=node.exact)", "layer", "views"),
    Fault("flipped kernel pads off by one", "lowering.py", "[e - 1 - p for p, e", "[e - p for p, e", "lowering linear"),
    Fault("kernel not mirrored", "lowering.py", "if all(k == 1 for k in kernel):", "if True:", "linear"),
    Fault("groups not exchanged", "lowering.py", "perm=[0, 2, 1, *(axis", "perm=[0, 1, 2, *(axis", "linear"),
    Fault(
        "uneven output padding forgotten",
        "lowering.py",
        "output_padding.append(max(uncovered, 0))",
        "output_padding.append(0)",
        "lowering linear",
    ),
    Fault(
        "SAME_LOWER pads like SAME_UPPER",
        "lowering.py",
        "if upper else (total - total // 2, total // 2)",
        "if True else (0, 0)",
        "lowering linear",
    ),
    Fault(
        "average counts the padding",
        "lowering.py",
        'return e("Div", means, count)',
        'return e("Mul", means, 1 / np.prod(win.kernel))',
        "linear",
    ),
    Fault(
        "Gemm adjoint not transposed",
        "linear.py",
        "product(w, s, tb, 1) if ta else product(s, w, 0, 1 - tb)",
        "product(w, s, tb, 1) if ta else product(s, w, 0, tb)",
        "linear",
    ),
    Fault("subtrahend added", "linear.py", 'sign = -1.0 if node.op == "Sub" and position else 1.0', "sign = 1.0", "linear"),
    Fault(
        "residual counted twice",
        "linear.py",
        "slots.append(sum_slot(e, term, y, sign))",
        "slots.append(sum_slot(e, term, y, 2 * sign))",
        "linear compiler_nets oracle",
    ),
    Fault("mean is a sum on the way back", "linear.py", 's = e("Div", s, count(e, x, axes, s.dtype))', "pass", "linear"),
    Fault("BatchNormalization without ε", "linear.py", 'float(node.attrs.get("epsilon", 1e-5))))', "0.0))", "linear"),
    Fault(
        "mean of a BatchNormalization not scaled",
        "linear.py",
        'e("Sub", beta, e("Mul", mean, factor))',
        'e("Sub", beta, mean)',
        "linear",
    ),
    Fault(
        "last of equal winners",
        "flow.py",
        'e("ArgMax", rows, axis=-1, keepdims=1)',
        'e("ArgMax", rows, axis=-1, keepdims=1, select_last_index=1)',
        "flow",
    ),
    Fault("winner overwrites where windows overlap", "flow.py", 'axis=0, reduction="add")', "axis=0)", "flow"),
    Fault("Concat hands back the wrong piece", "flow.py", "start = end", "pass", "flow"),
    Fault(
        "permutation instead of its inverse",
        "flow.py",
        'perm=[int(i) for i in np.argsort(perm)])\n\n\n@register(MOVE, "Concat")',
        'perm=[int(i) for i in perm])\n\n\n@register(MOVE, "Concat")',
        "flow",
    ),
    Fault(
        "both consumers' relevance, but only the last kept",
        "compiler.py",
        "e.sum(arrived.pop(result.name))",
        "arrived.pop(result.name)[-1]",
        "compiler_nets",
    ),
    Fault("LeakyRelu taken for never negative", "flow.py", '"ReduceSumSquare"}', '"ReduceSumSquare", "LeakyRelu"}', "flow"),
    Fault(
        "bounds not swapped by a negative factor",
        "bounds.py",
        'e("Min", low, high), e("Max", low, high)',
        "low, high",
        "bounds",
    ),
    Fault(
        "bounds of one input taken for those of all",
        "plan.py",
        "if all(t.name in self.bounded for t in sources):",
        "if True:",
        "bounds",
    ),
    Fault(
        "channels on the last axis of a picture",
        "channels.py",
        "return None if dense or len(axes) < 2 else axes[place]",
        "return None if dense or len(axes) < 2 else axes[-1]",
        "channels",
    ),
    Fault(
        "margin of a photograph left out",
        "preprocessing.py",
        "side * MARGIN[0] // MARGIN[1]",
        "side * 1",
        "preprocessing dataset",
    ),
    Fault("both factors of a gate get everything", "frozen.py", "w=e.mul(slot.w, 0.5)", "w=slot.w", "frozen"),
    Fault(
        "the gate gets the relevance", "frozen.py", "both[ranks.index(max(ranks))]", "both[ranks.index(min(ranks))]", "frozen"
    ),
    Fault(
        "runner-up not subtracted",
        "target.py",
        'e("Sub", own, e("Where", runner_up, of, 0.0))',
        "own",
        "neuron",
    ),
    Fault(
        "Relu's result though zeros get relevance",
        "rectified.py",
        'step.op == "Relu" and firm and',
        'step.op == "Relu" and',
        "rectified",
    ),
    Fault("a longer Concat for a part of it", "chained.py", "[first, *node.inputs[size:]]", "[first, *node.inputs]", "chained"),
    Fault("the branch of a skip gets all", "residual.py", 'e("Sub", relevance, mine)', "relevance", "residual"),
    Fault(
        "half of a skip's share",
        "residual.py",
        'e("Div", positive, largest))  #',
        'e.mul(e("Div", positive, largest), 0.5))  #',
        "verify",
    ),
    Fault("verify believes a shortcut", "compiler.py", "    if shortcuts:", "    if True:", "verify"),
    Fault("samples along the first axis", "samples.py", "return found[0] if found else None", "return 0", "samples"),
    Fault("ledger forgets ε", "ledger.py", 'yield "stabiliser", e.mul(stab', 'yield "dead", e.mul(stab', "ledger"),
    Fault(
        "labels that are numbers taken for indices",
        "labels.py",
        "(label if isinstance(label, int) else None for label",
        "(None for label",
        "labels classlabels",
    ),
    Fault("verify trusts the metadata", "verify.py", "if mine.get(key) != theirs.get(key))", "if False)", "verify"),
    Fault(
        "injected relevance not where it is 0",
        "rectified.py",
        "loose = set(sources)",
        "loose: set[str] = set()",
        "rectified converge",
    ),
    Fault("layers above an injection count", "compiler.py", "steps = steps[:last]", "pass", "rectified converge"),
    Fault(
        "minus z explained by the rule of z",
        "compiler.py",
        "if scored is None or scored.one_hot or job.plan.derivative:",
        "if True:",
        "neuron",
    ),
    Fault("terms of a sum without their sign", "neuron.py", "slot.w if isinstance(slot.w, float)", "1.0 if True", "neuron"),
    Fault(
        "a filter for all samples",
        "neuron.py",
        "filters(c, self.wide(slot.w))",
        'filters(e("Abs", c), self.wide(slot.w))',
        "neuron",
    ),
    Fault(
        "root looked for beside the line",
        "roots.py",
        "low, high)\n            slope",
        "low, high) + 1\n            slope",
        "roots",
    ),
    Fault("root on the other side", "roots.py", "root, near = x - way,", "root, near = x + way,", "roots"),
    Fault("region looked at where x is", "roots.py", "x - (1 - BEFORE) * way", "x - BEFORE * way", "roots"),
    Fault(
        "region by the gradient alone",
        "roots.py",
        "for a, b in zip(self.choices, other.choices, strict=True)",
        "for a, b in ()",
        "roots",
    ),
    Fault(
        "region by the choices alone", "roots.py", "logical_and.reduce([near, ", "logical_and.reduce([near | True, ", "roots"
    ),
    Fault("winners of pools left out", "roots.py", '("MaxPool", "ArgMax", "TopK")', '("ArgMax", "TopK")', "roots"),
    Fault("domain without its lower end", "roots.py", "(root >= low - DOMAIN * (high - low)) & ", "", "roots"),
    Fault("negative roots in the domain", "roots.py", "if self._nonnegative:", "if False:", "roots"),
    Fault("no root, no failure", "roots.py", '"hinge": found & ', '"hinge": ~found | ', "roots"),
    Fault("inputs move that a neuron does not read", "roots.py", "(w > 0, w < 0, w != 0)", "(w > 0, w < 0, w == w)", "roots"),
    Fault(
        "logits nobody explains", "roots.py", "active = (y > 0) & (rows(cotangent, n) != 0) if", "active = (y > 0) if", "roots"
    ),
    Fault(
        "a part that keeps what is given",
        "parts.py",
        "if any(name in wanted and name not in cuts for",
        "if any(name in wanted for",
        "roots",
    ),
    Fault(
        "samples that fill a batch count",
        "parts.py",
        "yield Batch(filled, len(some), feeds)",
        "yield Batch(filled, len(filled), feeds)",
        "roots",
    ),
    Fault(
        "relevance compared along width",
        "converge.py",
        '1 if step.layer.family == "conv"',
        '-1 if step.layer.family == "conv"',
        "converge",
    ),
    Fault("dead positions count", "converge.py", "np.isfinite(both) & (both > 0)", "np.isfinite(both)", "converge"),
    Fault("random vectors of another size", "converge.py", "(size - 1) / 2", "size / 2", "converge"),
    Fault(
        "layers beside the start count",
        "converge.py",
        "if any(t.name in wanted for t in step.outputs):",
        "if True:",
        "converge",
    ),
    Fault("relevance passes where shapes differ", "plan.py", "if x.shape != y.shape or not all(", "if not all(", "advice"),
    Fault("advice taken on trust", "advice.py", "and tried(replace(request, allow=passes)) is not None", "", "advice"),
    Fault("weights of any size fit", "fits.py", "for a, b in zip(is_so, must, strict=True)", "for a, b in ()", "fits"),
    Fault(
        "a derivative takes rules that divide",
        "library.py",
        "if selector.rule.divide and derivative is not None:",
        "if False:",
        "rules",
    ),
]


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
        files = [f"tests/test_{name}.py" for name in fault.tests.split()]
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
