"""What becomes of broken models? Mutates thousands, and compiles, saves, loads, runs and verifies each.

A mutant is one model of ``corpus.py`` with one mutation of ``mutations.py``, at times two, one of ten presets, with or without
bounds and a ledger, all drawn from its number alone: ``--only NUMBER`` does one again, and shows the traceback. It must be
refused in words, or compiled into a file that ONNX Runtime takes where it takes the source, with the source's prediction, and
that ``verify`` vouches for. Nothing may take longer than 20 s of computing or more than 2 GB.

    scripts/check/fuzz.py --count 300
    scripts/check/fuzz.py --only 4711 --keep mutant.onnx
    scripts/check/fuzz.py --count 10000 --write

Mutants run in a child process, a few hundred each: what ends it, or keeps it busy, is a fault of the mutant that it was at, or
of onnx or ONNX Runtime where these were at work on the source.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import onnx
import onnxruntime as ort
from corpus import bundled, real
from mutations import KINDS, Nothing, mutated
from onnx import numpy_helper
from tiny import tiny

import onnxdtd
from onnxdtd.compiler.compile import build, prepare, save
from onnxdtd.errors import OnnxdtdError
from onnxdtd.request import Request
from onnxdtd.study.checks import Report

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import splice

PRESETS = (
    "dtd", "dtd-w2", "dtd-z", "lrp-0", "lrp-epsilon", "lrp-gamma", "lrp-alpha2beta1", "gradient", "epsilon-plus-flat",
    "excitation-backprop",
)  # fmt: skip
SMALL_BYTES, SMALL_NODES = 700_000, 200
LIMIT_SECONDS, LIMIT_BYTES, PATIENCE = 20, 2 * 2**30, 120
BATCH = 250
LARGEST_FEED = 2_000_000
LARGEST_NUMBER = 1e15  # the rules square
OURS = Path(str(onnxdtd.__file__)).parent
THEIRS = ("source",)  # phases in which none of our code and no file of ours is at work


@cache
def subjects() -> dict[str, bytes]:
    """The models to mutate, by name."""
    found = {f"tiny/{name}": proto.SerializeToString() for name, proto in tiny().items()}
    for subject in (*bundled(), *real()):
        data = subject.path.read_bytes()
        if len(data) <= SMALL_BYTES and len(onnx.load_model_from_string(data).graph.node) <= SMALL_NODES:
            found[subject.name] = data
    return found


@dataclass(frozen=True)
class Mutant:
    """A broken model and what is asked of it; all of it follows from ``number``."""

    number: int
    group: str
    kind: str
    subject: str
    data: bytes
    request: Request

    @classmethod
    def of(cls, number: int) -> Mutant:
        """The mutant of a number."""
        draw = np.random.default_rng(number)
        names, kinds = list(subjects()), [KINDS[number % len(KINDS)]]
        if draw.random() < 0.2:
            kinds.append(KINDS[int(draw.integers(len(KINDS)))])
        while True:
            name = names[int(draw.integers(len(names)))]
            data = subjects()[name]
            try:
                for _, kind in kinds:
                    data = mutated(data, kind, draw)
            except (Nothing, onnx.checker.ValidationError, ValueError, IndexError):
                continue
            except Exception:  # bytes that are no model any more
                kinds = kinds[:1]
                continue
            break
        bounds = {"low": 0.0, "high": 1.0} if draw.random() < 0.5 else {}
        more = [{}, {}, {}, {"target": "input"}, {"contrast": "rest"}][int(draw.integers(5))]
        preset = PRESETS[int(draw.integers(len(PRESETS)))]
        ledger = bool(draw.random() < 0.5) and preset != "gradient"
        request = Request.from_data({"preset": preset, "ledger": ledger, **bounds, **more})
        return cls(number, *kinds[0], name, data, request)


# ------------------------------------------------------------------------------------------------------------ one mutant


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: ``refused``, ``compiled`` or ``fault``, with what was said; whether the source runs; what our
    part took.
    """

    number: int
    group: str
    kind: str
    subject: str
    result: str
    said: str = ""
    runs: bool = False
    seconds: float = 0.0
    peak: int = 0


class Fault(Exception):
    """Something that must not be."""


def place(error: BaseException) -> str:
    """Where in the package an error arose."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(OURS))]
    where = f"{Path(frames[-1].filename).relative_to(OURS)}:{frames[-1].lineno}" if frames else "outside"
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__} at {where}: {text[0][:160]}"


def feeds(session: Any, number: int) -> dict[str, np.ndarray] | None:
    """An input that fits what the session declares, of two samples where their number is open; None if it were too large."""
    draw = np.random.default_rng(number)
    open_sizes: dict[str, int] = {}
    found: dict[str, np.ndarray] = {}
    for node in session.get_inputs():
        sizes = [d if isinstance(d, int) else open_sizes.setdefault(d or "", 8 if open_sizes else 2) for d in node.shape]
        if np.prod(sizes, dtype=float) > LARGEST_FEED or not node.type.startswith("tensor("):
            return None
        kind = {"float": "float32", "double": "float64", "string": "str"}.get(name := node.type[7:-1], name)
        if kind not in np.sctypeDict:
            return None
        if kind == "str":
            found[node.name] = np.full(sizes, "red", object)
        elif kind.startswith("float"):
            found[node.name] = draw.random(sizes).astype(kind)
        else:
            found[node.name] = draw.integers(0, 2, sizes).astype(kind)
    return found


def predicted(session: Any, given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The outputs by name."""
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(given)), strict=True))


def equal(one: Any, other: Any) -> bool:
    """Are two outputs the same up to rounding?"""
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return str(one)[:99] == str(other)[:99]
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind not in "fc":
        return bool((one == other).all()) or one.dtype.kind in "iu"  # an arg-max, of scores that may tie
    a, b = one.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    most = float(np.abs(b[finite]).max(initial=0.0))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    far = np.where(finite & ~same, np.abs(np.where(finite, a - b, 0.0)), 0.0)
    return bool((far <= (2e-2 if one.dtype.itemsize < 4 else 1e-4) * most).all() and (same | finite).all())


def peak() -> int:
    """The most memory since ``forget``, in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def forget() -> None:
    """Begin to measure the peak anew."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def plain(path: Path, optimise: bool = True) -> Any:
    """ONNX Runtime's session of the source, None where it takes none."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:
        return None


def examined(mutant: Mutant, folder: Path, phase: Callable[[str], None]) -> tuple[str, str, bool]:
    """What becomes of a mutant, what was said, and does ONNX Runtime run the source? Raises ``Fault`` and whatever else."""
    source, path = folder / "mutant.onnx", folder / "compiled.onnx"
    source.write_bytes(mutant.data)
    path.unlink(missing_ok=True)
    phase("compile")
    refused = ""
    try:
        save(build(prepare(source, mutant.request), in_place=True), path, source)
    except OnnxdtdError as error:
        refused = str(error)
        if path.exists():
            raise Fault("a file although it was refused") from None
    if mutant.number % 4 == 0:
        phase("inspect")
        with suppress(OnnxdtdError):
            json.dumps(onnxdtd.inspect(source, mutant.request))
    phase("source")
    session, given, first = plain(source), None, None
    if session is not None:
        given = feeds(session, mutant.number)
        with suppress(Exception):
            first = None if given is None else predicted(session, given)
    if refused:
        if first is not None and "no runtime runs it" in refused:
            raise Fault(f"refused although it runs: {refused[:200]}")
        return "refused", refused, first is not None
    phase("load")
    try:
        explainer = onnxdtd.Explainer(path, ["CPUExecutionProvider"], threads=1)
    except OnnxdtdError as error:
        if first is not None:
            raise Fault(f"not loaded: {error}") from None
        return "compiled", "neither is loaded" if session is None else "the source is loaded, but does not run", False
    phase("run")
    if session is not None and first is not None and given is not None:
        wrong = difference(explainer, session, given)
        if wrong:  # it fuses nodes, but not where the relevance pass reads a tensor between them, and checks less then
            session, explainer = plain(source, False), onnxdtd.Explainer(path, ["CPUExecutionProvider"], optimise=False)
            wrong = "" if session is None else difference(explainer, session, given)
        if wrong:
            raise Fault(wrong)
    del explainer, session
    phase("verify")
    said = ""
    try:
        report = onnxdtd.verify(path, source)
    except OnnxdtdError as error:
        if first is not None and "could be guessed" not in str(error):  # of a size that is anything but usual
            raise Fault(f"not verified: {str(error).splitlines()[0][:200]}") from None
        said = str(error)
    else:
        said = judged(report, first is not None and not excused(mutant.data, first))
    return "compiled", said, first is not None


def difference(explainer: Any, session: Any, given: dict[str, np.ndarray]) -> str:
    """Does the compiled model not run, or predict something else? In words; nothing where the source itself does not run."""
    target = -1 if explainer.metadata.get("target") == "input" else None
    try:
        first, again = predicted(session, given), predicted(session, given)
    except Exception:
        return ""
    try:
        outputs = explainer(given, target).outputs
    except OnnxdtdError as error:
        return f"does not run: {str(error)[:200]}"
    for name, value in first.items():
        if name not in outputs:
            return f"the output {name!r} is gone"
        if not equal(outputs[name], value) and equal(again[name], value):
            return f"another prediction in {name!r}"
    return ""


def excused(data: bytes, outputs: Mapping[str, Any]) -> bool:
    """Are there numbers that no arithmetic survives?"""
    graph = onnx.load_model_from_string(data).graph
    told = [a for node in graph.node for a in node.attribute]
    inner = [a.t for a in told if a.HasField("t")]
    held = [
        numpy_helper.to_array(t) for t in (*graph.initializer, *inner) if t.data_type in (1, 10, 11) and not t.external_data
    ]
    held += [np.asarray([a.f, *a.floats]) for a in told]
    values = [a for a in (*held, *outputs.values()) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    return not all(bool((np.abs(a) < LARGEST_NUMBER).all()) for a in values)


def judged(report: Report, runs: bool) -> str:
    """What failed; raises ``Fault`` where that is not due to the source."""
    failed = [check for check in report.checks if check.passed is False and "No such file" not in check.finding]
    words = "; ".join(f"{check.name}: {check.finding}"[:160] for check in failed)
    if runs and failed:
        raise Fault(f"verify: {words}")
    return words


class Clock:
    """Seconds of computing and the most memory, by phase; tells of each phase as it begins."""

    def __init__(self, say: Callable[..., None]):
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}
        self._say, self._phase, self._start = say, "", 0.0

    def __call__(self, phase: str) -> None:
        """The next phase begins."""
        if self._phase:
            self.seconds[self._phase] = time.process_time() - self._start
            self.peaks[self._phase] = peak()
        forget()
        self._phase, self._start = phase, time.process_time()
        if phase:
            self._say(phase=phase)

    def outcome(self, named: Mapping[str, Any], result: str, said: str, runs: bool) -> Outcome:
        """With what our part took."""
        self("")
        own = {name: used for name, used in self.seconds.items() if name not in THEIRS}
        if sum(own.values()) > LIMIT_SECONDS:
            result, said = "fault", f"took {sum(own.values()):.0f} s ({max(own, key=own.__getitem__)})"
        return Outcome(**named, result=result, said=said, runs=runs, seconds=sum(own.values()), peak=self._most(own))

    def _most(self, phases: Iterable[str]) -> int:
        return max((self.peaks[name] for name in phases), default=0)


def bounded() -> None:
    """Let this process have no more memory than the limit beyond what it has by now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def child(start: int, stop: int) -> None:
    """Mutants one after another; a line of JSON for each phase and each outcome."""
    bounded()
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print
    with tempfile.TemporaryDirectory() as folder:
        for number in range(start, stop):
            say = partial(_say, told, number=number)
            say(phase="mutate")
            mutant = Mutant.of(number)
            named = {"number": number, "group": mutant.group, "kind": mutant.kind, "subject": mutant.subject}
            clock = Clock(partial(_say, told, **named))
            try:
                result, said, runs = examined(mutant, Path(folder), clock)
            except Fault as error:
                result, said, runs = "fault", str(error), True
            except Exception as error:
                result, said, runs = "fault", place(error), True
            _say(told, **asdict(clock.outcome(named, result, said, runs)))


def _say(told: TextIO, **data: Any) -> None:
    print(json.dumps(data), file=told, flush=True)


# ------------------------------------------------------------------------------------------------------------- all mutants


def computing(pid: int) -> float:
    """Seconds that a process has computed."""
    with suppress(OSError, IndexError):
        parts = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def outcomes(start: int, stop: int) -> Iterator[Outcome]:
    """What becomes of all mutants, child after child."""
    while start < stop:
        end = min(start + BATCH, stop)
        for found in _batch(start, end):
            start = found.number + 1
            yield found


def _batch(start: int, stop: int) -> Iterator[Outcome]:
    """What a child tells, and a fault where it ends or hangs; ``start`` is where the next one goes on."""
    command = [sys.executable, __file__, "--child", str(start), str(stop)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    last: dict[str, Any] = {"number": start, "phase": "start"}
    begun, busy, buffer = time.monotonic(), 0.0, b""
    while True:
        ready, _, _ = select.select([process.stdout], [], [], 1.0)
        if ready:
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                last = json.loads(line)
                begun, busy = time.monotonic(), computing(process.pid)
                if "result" in last:
                    yield Outcome(**last)
        elif computing(process.pid) - busy > LIMIT_SECONDS or time.monotonic() - begun > PATIENCE:
            process.kill()
            last["hangs"] = True
            break
    process.wait()
    if "result" in last and last["number"] == stop - 1:
        return
    if "result" in last:  # ended between two
        last = {"number": last["number"] + 1, "phase": "mutate"}
    names = {key: last.get(key, "") for key in ("group", "kind", "subject")}
    how = "hangs" if last.get("hangs") else f"ended by {_signal(process.returncode)}"
    theirs = last["phase"] in THEIRS or (last["phase"] != "mutate" and _ends_onnx(last["number"]))
    yield Outcome(last["number"], **names, result="theirs" if theirs else "fault", said=f"{last['phase']}: {how}")


ONNX_ALONE = """
import sys, onnx
from onnx import version_converter
proto = onnx.load_model_from_string(sys.stdin.buffer.read())
infer = onnx.shape_inference.infer_shapes
convert = lambda p: version_converter.convert_version(p, 17)
for function in (onnx.checker.check_model, infer, convert, lambda p: infer(p, data_prop=True)):
    try:
        function(proto)
    except Exception:
        pass
"""


def _ends_onnx(number: int) -> bool:
    """Do the functions of onnx end a process that calls nothing but them on the source?"""
    done = subprocess.run(
        [sys.executable, "-c", ONNX_ALONE], input=Mutant.of(number).data, stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode < 0


def _signal(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


# ------------------------------------------------------------------------------------------------------------- what is told


def tables(found: Sequence[Outcome]) -> str:
    """What came of each kind of mutation, and every fault."""
    rows = []
    for group in dict.fromkeys(group for group, _ in KINDS):
        rows += [
            _row(f"{group}: {kind.replace('_', ' ')}", [o for o in found if o.kind == kind]) for g, kind in KINDS if g == group
        ]
    rows.append(_row("**all**", found))
    text = splice.table(["mutation", "tried", "of them run", "compiled", "refused", "faults"], rows)
    runs = [o for o in found if o.runs]
    slowest, largest = max(found, key=lambda o: o.seconds), max(found, key=lambda o: o.peak)
    theirs = Counter(o.said for o in found if o.result == "theirs")
    text += (
        f"\n\nOf {len(found)} mutants ONNX Runtime runs {len(runs)}; {sum(o.result == 'compiled' for o in runs)} of these are "
        f"compiled. The longest took {slowest.seconds:.1f} s (mutant {slowest.number}), the most memory "
        f"{largest.peak / 2**20:.0f} MB (mutant {largest.number}, the process with all libraries)."
    )
    if theirs:
        text += f" {sum(theirs.values())} sources ended ONNX Runtime or onnx by itself."
    faults = Counter(o.said for o in found if o.result == "fault")
    for said, count in faults.most_common():
        numbers = [str(o.number) for o in found if o.result == "fault" and o.said == said]
        text += f"\n- {count} x {said} (mutants {', '.join(numbers[:5])})"
    return text


def _row(title: str, found: Sequence[Outcome]) -> list[object]:
    count = Counter(o.result for o in found)
    return [title, len(found), sum(o.runs for o in found), count["compiled"], count["refused"], count["fault"] or ""]


def main(arguments: Sequence[str] | None = None) -> int:
    """Mutate, and say what came of it. Exit status 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="how many mutants (300)")
    parser.add_argument("--start", type=int, default=0, help="the number of the first one")
    parser.add_argument("--only", type=int, nargs="+", default=[], help="mutants by number, in this process")
    parser.add_argument("--keep", type=Path, help="with --only: write the mutant here")
    parser.add_argument("--json", type=Path, help="put the outcomes here, a line each, while they come")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    splice.option(parser, "fuzz")
    given = parser.parse_args(arguments)
    if given.child:
        child(*given.child)
        return 0
    if given.only:
        bounded()
    for number in given.only:
        mutant = Mutant.of(number)
        print(number, mutant.subject, mutant.kind, mutant.request)
        if given.keep:
            given.keep.write_bytes(mutant.data)
        with tempfile.TemporaryDirectory() as folder:
            print(*examined(mutant, Path(folder), lambda name: print(name, flush=True)), sep="\n")
    if given.only:
        return 0
    found: list[Outcome] = []
    log = given.json.open("w", encoding="utf-8") if given.json else None
    for outcome in outcomes(given.start, given.start + given.count):
        found.append(outcome)
        if outcome.result in ("fault", "theirs"):
            print(f"{outcome.number} {outcome.kind} of {outcome.subject}: {outcome.said}", flush=True)
        if log:
            print(json.dumps(asdict(outcome)), file=log, flush=True)
    text = tables(found)
    print(text)
    if given.write:
        splice.write(given.write, "fuzz", text)
    return int(any(o.result == "fault" for o in found))


if __name__ == "__main__":
    sys.exit(main())
