"""Does every runtime explain alike? The same compiled files through ONNX Runtime at each of its optimisation levels, OpenVINO,
the reference implementation of onnx and, where there is a GPU, CUDA.

The yardstick is ONNX Runtime on the CPU with optimisations off. A cell is the largest over all samples of
max|a - b| / max|b|, where b is the yardstick's relevance of a sample.

Not every large number is a fault. Relevance jumps where a neuron's input passes zero or two entries of a pooling window
tie, and it is steep where the denominator of a rule nearly vanishes. The column "1 ulp" shows how far: it is what the
yardstick makes of the same sample when every input entry is moved to a neighbouring float, at random, a few times. Two
runtimes cannot be nearer to each other than a rounding error takes one of them. A wrong operator, on the other hand, is wrong
on every sample, so the exit status is 1 where the median over the samples is above 1e-5 (0.1 for models in half precision
or int8, where runtimes round at different places), or where a runtime takes the predictor but not the compiled model.

One fault of OpenVINO is known (2026.4, CPU). Where two nodes read one constant, the first as it is and the second transposed,
as the forward and the backward pass do, and it has as many rows as columns (a Conv with a stride: as many channels before
as behind it), both use the packed weight of the first. ``CONFUSED`` is the smallest such model: y = x Wᵀ, z = y W. While
OpenVINO gets that wrong there is a second column, in which each product is given a copy of its weight.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto
from onnx.reference import ReferenceEvaluator

import onnxdtd
from onnxdtd.runtime.explainer import CUDA, Provider, default_providers, load_cuda

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]
import splice  # noqa: E402
from assets import ASSETS, MISSING  # noqa: E402  (how to feed the real classifiers)

MODELS = ROOT / "models"
BUNDLED = ("digits_mlp", "digits_cnn", "digits_resnet", "digits_sklearn", "two_digits")
PRESETS = ("dtd", "lrp-epsilon", "lrp-alpha2beta1", "gradient")
SAMPLES = 5
DRAWS = 4  # neighbours of each sample
LIMIT = 1e-5  # of the median sample
STEPPED = 0.1  # the same where activations are rounded to float16 or int8
LARGE = 300_000  # bytes of a file; the reference implementation is not asked about larger ones
HUGE = 2_000_000  # ... of which one preset is enough
PRODUCTS = ("Gemm", "MatMul", "Einsum", "Conv", "ConvTranspose")

Array = np.ndarray[Any, Any]
Explain = Callable[[Mapping[str, Array]], Array]
Runtime = Callable[[ModelProto, str], Explain]  # a model, and the name of its output to compute
LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


@dataclass(frozen=True)
class Case:
    """A classifier, real inputs for it, and their bounds. ``one``: it takes one sample at a time."""

    name: str
    model: ModelProto
    input: str
    samples: Array
    low: Any
    high: Any
    one: bool
    size: int

    @property
    def limit(self) -> float:
        """What the median sample may differ by."""
        stepped = any(node.op_type.startswith(("Quantize", "QLinear")) for node in self.model.graph.node)
        return STEPPED if stepped or self.samples.dtype == np.float16 else LIMIT

    @property
    def presets(self) -> Sequence[str]:
        """Those that it is compiled with."""
        return PRESETS[:1] if self.size > HUGE else PRESETS


@dataclass
class Row:
    """What was found out about one compiled model: by runtime, the difference of each sample, or why it could not be run.

    ``trouble`` is with the predictor as well, ``refused`` is the compiled model alone.
    """

    model: str
    preset: str
    limit: float
    neighbours: list[float] = field(default_factory=list)
    differences: dict[str, list[float]] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def failures(self) -> list[str]:
        """What is not explained by rounding."""
        apart = [] if "OpenVINO, own weights" not in self.differences else ["OpenVINO"]  # the fault that is known
        wrong = [
            f"{self.model}, {self.preset}: {name} differs by {median:.1e} in the median"
            for name, found in self.differences.items()
            if not (median := statistics.median(found)) <= self.limit and name not in apart
        ]
        return wrong + [
            f"{self.model}, {self.preset}: {name} takes only the predictor: {text}" for name, text in self.refused.items()
        ]


# ------------------------------------------------------------------------------------------------------------- runtimes


def onnxruntime(
    model: ModelProto, output: str, level: ort.GraphOptimizationLevel, providers: Sequence[Provider] = ("CPUExecutionProvider",)
) -> Explain:
    """ONNX Runtime at an optimisation level."""
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=list(providers))
    first = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != first:
        raise RuntimeError(f"{first} cannot run here")
    return lambda feeds: session.run([output], dict(feeds))[0]


def reference(model: ModelProto, output: str) -> Explain:
    """The reference implementation of onnx, in numpy."""
    evaluator = ReferenceEvaluator(model)

    def explain(feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        with np.errstate(divide="ignore", over="ignore"):  # 1 / 0 is ∞, as it is in every runtime
            return evaluator.run([output], dict(feeds))[0]

    return explain


def openvino(model: ModelProto, output: str) -> Explain:
    """OpenVINO on the CPU, in float32 throughout."""
    import openvino as ov

    core = ov.Core()
    ready = core.compile_model(core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda feeds: np.array(ready(dict(feeds))[ready.output(output)])


CONFUSED = onnx.parser.parse_model(
    """<ir_version: 8, opset_import: ["": 17]>
    net (float[1, 2] x) => (float[1, 2] z) <float[2, 2] w = {1, 2, 3, 4}> {
        y = Gemm<transB = 1>(x, w)
        z = Gemm(y, w)
    }"""
)


@cache
def openvino_confuses_weights() -> bool:
    """Does it compute x Wᵀ Wᵀ where x Wᵀ W is asked for?"""
    w, x = np.asarray([[1, 2], [3, 4]], np.float32), np.asarray([[1, 0]], np.float32)
    found = openvino(CONFUSED, "z")({"x": x})
    if np.array_equal(found, x @ w.T @ w):
        return False
    if np.array_equal(found, x @ w.T @ w.T):
        return True
    raise AssertionError(f"OpenVINO computes something else altogether: {found}")


def apart(model: ModelProto) -> ModelProto:
    """The same model with a copy of its weight for every product, made from copies of the initializers."""
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers: dict[str, NodeProto] = {}
    nodes: list[NodeProto] = []
    done: set[str] = set()

    def copied(name: str, suffix: str) -> str:
        """A copy of a constant, or of the nodes that compute it."""
        new = f"{name}/{suffix}"
        if new in done:
            return new
        done.add(new)
        if name in constants:
            tensor = graph.initializer.add()
            tensor.CopyFrom(constants[name])
            tensor.name = new
        else:
            node = NodeProto()
            node.CopyFrom(makers[name])
            node.name = f"{node.name}/{suffix}"
            node.input[:] = [copied(source, suffix) if source else "" for source in makers[name].input]
            node.output[:] = [f"{output}/{suffix}" for output in makers[name].output]
            done.update(node.output)
            nodes.append(node)
        return new

    for number, node in enumerate(graph.node):
        fixed = all(not source or source in constants or source in makers for source in node.input)
        if fixed:
            makers |= dict.fromkeys(node.output, node)
        elif node.op_type in PRODUCTS and (node.input[1] in constants or node.input[1] in makers):
            node.input[1] = copied(node.input[1], f"own{number}")
        nodes.append(node)
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return result


def runtimes(size: int) -> dict[str, Runtime]:
    """All that are installed, by name, for a model of ``size`` bytes."""
    found: dict[str, Runtime] = {}
    for name, level in LEVELS.items():
        found[f"ORT {name}"] = partial(onnxruntime, level=level)
    if CUDA in default_providers():
        load_cuda()
        for name, tf32 in (("CUDA", "0"), ("CUDA, TF32", "1")):
            providers: list[Provider] = [(CUDA, {"use_tf32": tf32}), "CPUExecutionProvider"]
            found[name] = partial(onnxruntime, level=LEVELS["all"], providers=providers)
    if find_spec("openvino"):
        found["OpenVINO"] = openvino
        if openvino_confuses_weights():
            found["OpenVINO, own weights"] = lambda model, output: openvino(apart(model), output)
    if size <= LARGE:
        found["reference"] = reference
    return found


# ------------------------------------------------------------------------------------------------------------------ cases


def cases() -> Iterator[Case]:
    """The classifiers in models/, and those that ONNXDTD_ASSETS points to."""
    for name in BUNDLED:
        with np.load(MODELS / ("two_digits_samples.npz" if name == "two_digits" else "digits_samples.npz")) as data:
            images = data["image"]
        yield case(name, MODELS / f"{name}.onnx", images.reshape(len(images), 64) if "sklearn" in name else images, 0, 1)
    for asset in () if MISSING else ASSETS:
        yield case(asset.name, asset.path, asset.inputs(), *asset.bounds)


def case(name: str, path: Path, samples: Array, low: Any, high: Any) -> Case:
    """A model with real inputs in its own units, and their bounds."""
    model = onnx.load(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    value = next(value for value in model.graph.input if value.name not in constants)
    one = value.type.tensor_type.shape.dim[0].dim_value == 1
    return Case(name, model, value.name, samples[:SAMPLES], low, high, one, os.path.getsize(path))


# ------------------------------------------------------------------------------------------------------------- measuring


def relevance(explain: Explain, case: Case, samples: Array) -> Array:
    """Of all samples, in as many runs as the model needs."""
    batches = np.split(samples, len(samples)) if case.one else [samples]
    return np.concatenate([explain({case.input: batch}) for batch in batches]).astype(np.float64)


def difference(a: Array, b: Array) -> list[float]:
    """max|a - b| / max|b| of each sample; where b is zero, nothing else will do."""
    a, b = (array.reshape(len(array), -1) for array in (a, b))
    apart, size = np.abs(a - b).max(1), np.abs(b).max(1)
    return [float(d / s) if s else 0.0 if d == 0 else float("inf") for d, s in zip(apart, size, strict=True)]


def neighbour(samples: Array, rng: np.random.Generator) -> Array:
    """Every entry one float up or down."""
    up = rng.random(samples.shape) < 0.5
    return np.where(up, np.nextafter(samples, samples.dtype.type(np.inf)), np.nextafter(samples, samples.dtype.type(-np.inf)))


def measured(case: Case, preset: str) -> Row:
    """One compiled model through every runtime."""
    row = Row(case.name, preset, case.limit)
    compiled = onnxdtd.compile(case.model, preset, low=case.low, high=case.high)
    yardstick = onnxruntime(compiled, "relevance", ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    expected = relevance(yardstick, case, case.samples)
    rng = np.random.default_rng(0)
    moved = [difference(relevance(yardstick, case, neighbour(case.samples, rng)), expected) for _ in range(DRAWS)]
    row.neighbours = [max(draws) for draws in zip(*moved, strict=True)]
    for name, runtime in runtimes(case.size).items():
        try:
            row.differences[name] = difference(relevance(runtime(compiled, "relevance"), case, case.samples), expected)
        except Exception as error:  # each runtime has its own
            (row.refused if takes(runtime, case) else row.trouble)[name] = _reason(error)
    return row


def takes(runtime: Runtime, case: Case) -> bool:
    """Can it run the predictor?"""
    try:
        runtime(case.model, case.model.graph.output[0].name)({case.input: case.samples[:1]})
    except Exception:
        return False
    return True


def _reason(error: Exception) -> str:
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    return next((line for line in lines if "No conversion rule" in line), lines[-1] if lines else type(error).__name__)


def rows(names: Sequence[str], presets: Sequence[str]) -> Iterator[Row]:
    """All models and presets, or those named."""
    for case in cases():
        for preset in case.presets:
            if (not names or case.name in names) and (not presets or preset in presets):
                try:
                    yield measured(case, preset)
                except onnxdtd.OnnxdtdError as error:
                    print(f"{case.name}, {preset}: {str(error).splitlines()[0]}", file=sys.stderr)


def table(found: Sequence[Row]) -> str:
    """The largest difference of every runtime."""
    names = list(dict.fromkeys(name for row in found for name in (*row.differences, *row.trouble, *row.refused)))
    rows = [[row.model, row.preset, f"{max(row.neighbours):.0e}", *(_cell(row, name) for name in names)] for row in found]
    return splice.table(["model", "preset", "1 ulp", *names], rows)


def _cell(row: Row, name: str) -> str:
    if name in row.differences:
        return f"{max(row.differences[name]):.0e}"
    return "no" if name in row.trouble or name in row.refused else ""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The same compiled models in every runtime.")
    parser.add_argument("--models", nargs="+", metavar="NAME", default=[], help="only these")
    parser.add_argument("--presets", nargs="+", metavar="NAME", default=[], help=f"only these of {', '.join(PRESETS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    splice.option(parser, "runtimes")
    chosen = parser.parse_args()
    found = list(rows(chosen.models, chosen.presets))
    failures = [failure for row in found for failure in row.failures()]
    reasons = sorted({f"{row.model}: no {name}: {text}" for row in found for name, text in row.trouble.items()})
    text = "\n".join([table(found), "", *(f"- {line}" for line in (*reasons, *failures))])
    print(text)
    if chosen.write:
        splice.write(chosen.write, "runtimes", text, ("openvino",))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in found], indent=1), encoding="utf-8")
    return int(bool(failures) or not found)


if __name__ == "__main__":
    sys.exit(main())
