"""Small files: what quantising costs an explanation, and ONNX Runtime's own format.

Real classifiers are quantised first, by ONNX Runtime's own tool, and compiled then. One half of the samples (every other one)
calibrates, the other half is measured: the predicted class and the relevance of the class that the float model predicts, beside
the float file; and, to compare with, what a little noise on the input does to that. Each compiled file is written as ``.ort``
besides, without optimisations, as ``python -m onnxruntime.tools.convert_onnx_models_to_ort`` does it. Times are seconds of CPU
on one thread, taken in turns.

    ONNXDTD_ASSETS=FOLDER scripts/edge.py --write      some minutes
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import splice
from tune import ROOT, Case, bundled

import onnxdtd
from onnxdtd.errors import OnnxdtdError
from onnxdtd.graph.normal import normalise
from onnxdtd.study.metrics import spearman

MODELS = (
    "imagenet_squeezenet11_fp32",
    "imagenet_mobilenetv2_fp32",
    "cifar10_resnet2b_pytorch",
    "cifar10_cnn_pytorch",
    "digits_resnet",
    "digits_cnn",
)
PRESETS = ("dtd", "lrp-epsilon")
FLOAT = "float32"
NOISE = 2 / 255  # of the range of the input, at most: what another function is compared with
NOISY = "not at all, but ± 2 / 255 on the input"
ROUNDS = 5


def cases(count: int = 40) -> dict[str, Case]:
    """All that there are here."""
    sys.path.append(str(ROOT / "tests"))
    import assets

    assets.COUNT = count
    known = {} if assets.MISSING else {asset.name: asset for asset in assets.ASSETS}
    digits = lambda name: Case(ROOT / "models" / f"{name}.onnx", partial(bundled, "digits_samples.npz"), (0.0, 1.0))
    found = {name: Case(known[name].path, known[name].inputs, known[name].bounds) for name in MODELS if name in known}
    return {name: found.get(name) or digits(name) for name in MODELS if name in found or name.startswith("digits")}


# -------------------------------------------------------------------------------------------------------- quantised models


def modern(source: Path, path: Path) -> Path:
    """A model as the tool wants it: of a recent operator set, weights no inputs, BatchNormalization folded, shapes inferred."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    proto = onnx.load(source)
    normalise(proto)
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    onnx.save(proto, path)
    quant_pre_process(path, path, skip_symbolic_shape=True)
    return path


class Samples:
    """What calibrates, one sample after the other."""

    def __init__(self, name: str, x: np.ndarray):
        self.feeds = iter([{name: sample[None]} for sample in x])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next, or None."""
        return next(self.feeds, None)


def static(path: Path, out: Path, x: np.ndarray, form: str) -> None:
    """8 bits for weights, a scale a channel, and for activations, by what the samples give."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    reader = type("Reader", (Samples, CalibrationDataReader), {})
    name = onnx.load(path).graph.input[0].name
    kinds = {"weight_type": QuantType.QInt8, "activation_type": QuantType.QUInt8, "per_channel": True}
    quantize_static(path, out, reader(name, x), quant_format=QuantFormat[form], **kinds)


def dynamic(path: Path, out: Path, x: np.ndarray) -> None:
    """8 bits for weights; activations have the scale that each run finds."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    proto = onnx.load(path)
    del proto.graph.value_info[:]  # which the tool contradicts where it turns weights of Gemm round
    quantize_dynamic(proto, out, weight_type=QuantType.QUInt8)


QUANTISED: Mapping[str, Callable[[Path, Path, np.ndarray], None]] = {
    "static, QDQ": partial(static, form="QDQ"),
    "static, QOperator": partial(static, form="QOperator"),
    "dynamic": dynamic,
}


# ---------------------------------------------------------------------------------------------------------------- measured


def as_ort(path: Path) -> Path:
    """The same model in ONNX Runtime's own format, without weights that were folded."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(path.with_suffix(".ort"))
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return path.with_suffix(".ort")


def files(case: Case, folder: Path) -> dict[str, Path]:
    """The float model and the quantised ones."""
    found = {FLOAT: modern(case.path, folder / "float32.onnx")}
    for how, quantise in QUANTISED.items():
        out = folder / f"{how.replace(', ', '_')}.onnx"
        quantise(found[FLOAT], out, case.samples()[::2])
        found[how] = out
    return found


def ran(explainer: onnxdtd.Explainer, x: np.ndarray, classes: Sequence[int]) -> tuple[list[int], np.ndarray]:
    """Predicted classes, and the relevance of those that are asked for, a sample at a time."""
    results = [explainer(sample[None], int(target)) for sample, target in zip(x, classes, strict=True)]
    predicted = [int(result.predicted[0]) for result in results if result.predicted is not None]
    return predicted, np.stack([next(iter(result.relevance.values()))[0] for result in results])


def noisy(x: np.ndarray, case: Case) -> np.ndarray:
    """The samples with a little noise."""
    most = NOISE * float(np.mean(np.subtract(case.bounds[1], case.bounds[0])))
    return (x + np.random.default_rng(0).uniform(-most, most, x.shape)).astype(x.dtype)


def alike(reference: np.ndarray, relevance: np.ndarray) -> dict[str, Any]:
    """How close heatmaps are to others, one by one."""
    pairs = list(zip(reference, relevance, strict=True))
    return {"cosine": [cosine(a, b) for a, b in pairs], "rank": [spearman(a, b) for a, b in pairs]}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of two heatmaps."""
    return float(a.ravel() @ b.ravel() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30))


def seconds(runs: Mapping[tuple[str, str], Callable[[], object]]) -> dict[tuple[str, str], float]:
    """Of CPU, the least of some runs that take turns; the first of each does not count."""
    found: dict[tuple[str, str], list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            found[name].append(time.process_time() - start)
    return {name: min(values[1:]) for name, values in found.items()}


def measured(case: Case, folder: Path) -> dict[str, Any]:
    """Of one model, by how it is quantised: sizes, what changes, and times; or why it cannot be."""
    x = case.samples()[1::2]
    found: dict[str, dict[str, Any]] = {}
    noise: dict[str, Any] = {}
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for how, path in files(case, folder).items():
        entry: dict[str, Any] = {"source": path.stat().st_size}
        for preset in PRESETS:
            out = path.with_name(f"{path.stem}.{preset}.onnx")
            try:
                onnxdtd.save(onnxdtd.compile(path, preset, low=case.bounds[0], high=case.bounds[1], target="input"), out)
                opened = {"onnx": onnxdtd.Explainer(out, ["cpu"], threads=1)}
                opened["ort"] = onnxdtd.Explainer(as_ort(out), ["cpu"], threads=1)
            except OnnxdtdError as error:
                entry[preset] = {"refused": str(error)}
                continue
            classes = found[FLOAT]["classes"] if how != FLOAT else [-1] * len(x)
            predicted, relevance = ran(opened["onnx"], x, classes)
            if preset == PRESETS[0]:
                entry["classes"] = predicted
                plain = onnxdtd.runtime.explainer.session(path, ["cpu"], threads=1)
                runs[how, "source"] = partial(plain.run, None, {plain.get_inputs()[0].name: x[:1]})
                runs |= {(how, kind): partial(explainer, x[:1], 0) for kind, explainer in opened.items()}
            reference = relevance if how == FLOAT else found[FLOAT][preset]["relevance"]
            sizes = {"compiled": out.stat().st_size, "ort": out.with_suffix(".ort").stat().st_size}
            entry[preset] = {"relevance": relevance, **alike(reference, relevance), **sizes}
            if how == FLOAT:
                shaken = ran(opened["onnx"], noisy(x, case), predicted)
                noise.setdefault("classes", shaken[0])
                noise[preset] = alike(relevance, shaken[1])
        found[how] = entry
    found[NOISY] = noise
    for (how, kind), value in seconds(runs).items():
        found[how].setdefault("seconds", {})[kind] = value
    for entry in found.values():
        entry["same"] = [a == b for a, b in zip(entry.get("classes", []), found[FLOAT]["classes"], strict=False)]
        for preset in PRESETS:
            entry[preset].pop("relevance", None)
    return found


# -------------------------------------------------------------------------------------------------------------- the tables


def of_sizes(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Kilobytes, and times as multiples of the float model's own forward pass."""
    heads = ["model", "quantised", "source, kB", "compiled, kB", "`.ort`, kB", "source, time", "compiled, time", "`.ort`, time"]
    rows = []
    for name, entries in found.items():
        forward = entries[FLOAT]["seconds"]["source"]
        for how, entry in entries.items():
            if "source" not in entry:
                continue
            first = entry[PRESETS[0]]
            sizes = [entry["source"], first.get("compiled"), first.get("ort")]
            times = [entry.get("seconds", {}).get(kind) for kind in ("source", "onnx", "ort")]
            cells = [*(_cell(size, 1e3, ",.0f") for size in sizes), *(_cell(value, forward, ".2f") for value in times)]
            rows.append([name, how, *cells])
    return splice.table(heads, rows)


def _cell(value: float | None, unit: float, form: str) -> str:
    return "-" if value is None else format(value / unit, form)


def of_relevance(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Of predictions and heatmaps beside those of the float file: means, and the lowest."""
    heads = ["model", "quantised", "same class"]
    heads += [f"{what}, `{preset}`" for preset in PRESETS for what in ("cosine", "rank correlation")]
    rows = []
    for name, entries in found.items():
        for how, entry in entries.items():
            if how == FLOAT:
                continue
            cells = [f"{sum(entry['same'])} of {len(entry['same'])}"]
            for preset in PRESETS:
                if "refused" in entry[preset]:
                    cells += ["refused", "-"]
                    continue
                for what in ("cosine", "rank"):
                    values = entry[preset][what]
                    cells.append(f"{np.mean(values):.3f} ({min(values):.3f})")
            rows.append([name, how, *cells])
    return splice.table(heads, rows)


def main() -> None:
    """Measure, print, write."""
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    splice.option(parser, "edge")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found = {}
    for name in given.models:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measured(known[name], Path(folder))
        print(of_relevance({name: found[name]}), of_sizes({name: found[name]}), sep="\n\n", file=sys.stderr, flush=True)
    text = f"{of_relevance(found)}\n\n{of_sizes(found)}"
    print(text)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if given.write:
        splice.write(given.write, "edge", text)


if __name__ == "__main__":
    main()
