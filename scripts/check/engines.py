"""Runtimes: ONNX Runtime in Python, Node.js and a browser, OpenVINO, the reference implementation of onnx.

An engine is given many models at once, as a process or a browser takes longer to start than a small model to run. All use one
thread where their name does not say otherwise.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

from onnxdtd.runtime.explainer import CUDA, Provider, default_providers, load_cuda

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import npm  # noqa: E402  (where its packages are)

LARGE = 300_000  # bytes of a file; the reference implementation is not asked about larger ones
PATIENCE = 600  # seconds that all models may take outside of Python

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]
Explain = Callable[[Feeds], Array]
Runtime = Callable[[ModelProto, str], Explain]  # a model, and the name of its output to compute
LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


@dataclass(frozen=True)
class Job:
    """A model, inputs for one run or more, and which output to fetch. ``times``: how often each run is repeated."""

    model: ModelProto
    feeds: Sequence[Feeds]
    output: str
    times: int = 1


@dataclass
class Done:
    """What came of a job: the output of each run, milliseconds to load and to run (the fastest), or why there is nothing."""

    outputs: list[Array] = field(default_factory=list)
    load: float = 0.0
    run: float = 0.0
    error: str = ""


Engine = Callable[[Sequence[Job]], list[Done]]


# ------------------------------------------------------------------------------------------------------------- in Python


def onnxruntime(
    model: ModelProto, output: str, level: ort.GraphOptimizationLevel, providers: Sequence[Provider] = ("CPUExecutionProvider",)
) -> Explain:
    """ONNX Runtime at an optimisation level."""
    session = ort.InferenceSession(model.SerializeToString(), _options(level), providers=list(providers))
    first = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != first:
        raise RuntimeError(f"{first} cannot run here")
    return lambda feeds: session.run([output], dict(feeds))[0]


def ort_format(model: ModelProto, output: str) -> Explain:
    """ONNX Runtime with a file in its own format, ``.ort``; converted without optimisations, which would fold weights."""
    options = _options(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "model.ort"))
        options.add_session_config_entry("session.save_model_format", "ORT")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        session = ort.InferenceSession(options.optimized_model_filepath, _options(), providers=["CPUExecutionProvider"])
    return lambda feeds: session.run([output], dict(feeds))[0]


def _options(level: ort.GraphOptimizationLevel = LEVELS["all"]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level, options.intra_op_num_threads = level, 4, 1
    return options


def reference(model: ModelProto, output: str) -> Explain:
    """The reference implementation of onnx, in numpy."""
    evaluator = ReferenceEvaluator(model)

    def explain(feeds: Feeds) -> Array:
        with np.errstate(divide="ignore", over="ignore"):  # 1 / 0 is ∞, as it is in every runtime
            return evaluator.run([output], dict(feeds))[0]

    return explain


def openvino(model: ModelProto, output: str) -> Explain:
    """OpenVINO on the CPU, in float32 throughout."""
    import openvino as ov

    core = ov.Core()
    chosen = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    ready = core.compile_model(core.read_model(model.SerializeToString()), "CPU", chosen)
    return lambda feeds: np.array(ready(dict(feeds))[ready.output(output)])


def alone(runtime: Runtime) -> Engine:
    """One model after the other."""

    def engine(jobs: Sequence[Job]) -> list[Done]:
        return [_done(runtime, job) for job in jobs]

    return engine


def _done(runtime: Runtime, job: Job) -> Done:
    try:
        began = time.perf_counter()
        explain = runtime(job.model, job.output)
        done = Done(load=1e3 * (time.perf_counter() - began), run=float("inf"))
        for feeds in job.feeds:
            for again in range(job.times):
                began = time.perf_counter()
                found = explain(feeds)
                done.run = min(done.run, 1e3 * (time.perf_counter() - began))
                done.outputs += [] if again else [found]
    except Exception as error:  # each runtime has its own
        return Done(error=_reason(str(error)) or type(error).__name__)
    return done


def _reason(text: str) -> str:
    lines = [line.strip(" -") for line in text.splitlines() if line.strip(" -")]
    said = next((line for line in lines if "No conversion rule" in line), lines[-1] if lines else "")
    return said.rpartition("Status Message: ")[2].rpartition("ERROR_MESSAGE: ")[2]


# ------------------------------------------------------------------------------------------------------ outside of Python


def outside(*command: str | Path) -> Engine:
    """A script of tests/web that is given a folder with the models."""

    def engine(jobs: Sequence[Job]) -> list[Done]:
        with tempfile.TemporaryDirectory() as folder:
            _write(jobs, Path(folder))
            script, *rest = map(str, command)
            asked = ["node", "--liftoff-only", str(npm.WEB / script), folder, *rest]  # WebAssembly is compiled the quick way
            try:
                done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=False)
            except subprocess.TimeoutExpired:
                return [Done(error=f"took more than {PATIENCE} seconds")] * len(jobs)
            if done.returncode:
                return [Done(error=_reason(done.stderr) or f"exit status {done.returncode}")] * len(jobs)
            return list(map(_read, json.loads(Path(folder, "results.json").read_text(encoding="utf-8"))))

    return engine


def _write(jobs: Sequence[Job], folder: Path) -> None:
    listed = []
    for number, job in enumerate(jobs):
        (folder / f"{number}.onnx").write_bytes(job.model.SerializeToString())
        feeds = [{name: _packed(array) for name, array in given.items()} for given in job.feeds]
        listed.append({"file": f"{number}.onnx", "feeds": feeds, "fetch": job.output, "times": job.times})
    (folder / "jobs.json").write_text(json.dumps(listed), encoding="utf-8")


def _packed(array: Array) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"type": array.dtype.name, "dims": array.shape, "data": data}


def _read(found: Mapping[str, Any]) -> Done:
    if "error" in found:
        return Done(error=_reason(found["error"]))
    outputs = [
        np.frombuffer(base64.b64decode(given["data"]), given["type"]).reshape(given["dims"]) for given in found["outputs"]
    ]
    return Done(outputs, found["load"], min(found["run"]))


WAYS = {
    "web, 1 thread": "wasm 1",
    "web, 2 threads": "wasm 2",
    "WebGPU": "webgpu",
}  # in a browser, as tests/web/browser.mjs has them


# ------------------------------------------------------------------------------------------------------------- what is here


def runtimes(size: int) -> dict[str, Runtime]:
    """Those in Python, by name, for a model of ``size`` bytes."""
    found: dict[str, Runtime] = {}
    for name, level in LEVELS.items():
        found[f"ORT {name}"] = partial(onnxruntime, level=level)
    found["ORT .ort"] = ort_format
    if CUDA in default_providers():
        load_cuda()
        for name, tf32 in (("CUDA", "0"), ("CUDA, TF32", "1")):
            providers: list[Provider] = [(CUDA, {"use_tf32": tf32}), "CPUExecutionProvider"]
            found[name] = partial(onnxruntime, level=LEVELS["all"], providers=providers)
    if find_spec("openvino"):
        found["OpenVINO"] = openvino
    if size <= LARGE:
        found["reference"] = reference
    return found


@cache
def web() -> tuple[dict[str, Engine], str]:
    """Those outside of Python, and why some or all of them are not here."""
    found: dict[str, Engine] = {}
    try:
        npm.node_modules()
        found["Node.js"] = outside("node.mjs", "onnxruntime-node", "1")
        browser = npm.chromium()
        found |= {name: outside("browser.mjs", browser, way) for name, way in WAYS.items()}
    except npm.Missing as why:
        return found, str(why)
    return found, ""


def engines(size: int) -> dict[str, Engine]:
    """All that are here, for models of ``size`` bytes."""
    return {name: alone(runtime) for name, runtime in runtimes(size).items()} | web()[0]


def versions() -> dict[str, str]:
    """Of the packages of npm."""
    packages: dict[str, str] = json.loads((npm.WEB / "package.json").read_text(encoding="utf-8"))["dependencies"]
    return packages
