"""Does every runtime explain alike? The same compiled files through all of ``engines.py`` that are here: ONNX Runtime in Python
at each of its optimisation levels and in its own format, in Node.js and in a browser (as WebAssembly, and on WebGPU), OpenVINO,
the reference implementation of onnx and, where there is a GPU, CUDA.

The yardstick is ONNX Runtime on the CPU with optimisations off. A cell is the largest over all samples of
max|a - b| / max|b|, where b is the yardstick's relevance of a sample.

Not every large number is a fault. Relevance jumps where a neuron's input passes zero or two entries of a pooling window
tie, and it is steep where the denominator of a rule nearly vanishes. The column "1 ulp" shows how far: it is what the
yardstick makes of the same sample when every input entry is moved to a neighbouring float, at random, a few times. Two
runtimes cannot be nearer to each other than a rounding error takes one of them. A wrong operator, on the other hand, is wrong
on every sample, so the exit status is 1 where the median over the samples is above 1e-5 (0.1 for models in half precision
or int8, where runtimes round at different places), or where a runtime takes the predictor but not the compiled model, for
another reason than those that are ``KNOWN``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto

import onnxdtd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]
import engines  # noqa: E402
import splice  # noqa: E402
from assets import ASSETS, MISSING  # noqa: E402  (how to feed the real classifiers)
from engines import Array, Done, Feeds, Job  # noqa: E402

MODELS = ROOT / "models"
BUNDLED = ("digits_mlp", "digits_cnn", "digits_resnet", "digits_sklearn", "two_digits")
PRESETS = ("dtd", "lrp-epsilon", "lrp-alpha2beta1", "gradient")
ATTENTION = ("attnlrp", "dtd", "lrp-epsilon")  # the same where tokens look at each other
FORMS: dict[str, dict[str, Any]] = {
    "flat": {},
    "target": {"target": "input"},
    "on demand": {"on_demand": "required"},
    "ledger": {"ledger": True},
    "portable": {"portable": True},
}
SAMPLES = 5
DRAWS = 4  # neighbours of each sample
TIMES = 5  # runs of which the fastest counts
LIMIT = 1e-5  # of the median sample
STEPPED = 0.1  # the same where activations are rounded to float16 or int8
HUGE = 2_000_000  # bytes of a file of which one preset is enough
ORT = ("ORT basic", "ORT extended", "ORT all")  # shown in one column
YARDSTICK = "ORT all"  # of times
SLOW = ("WebGPU",)  # without a GPU: the models that come along, one preset
SHOWN = ("portable", "flat", "on demand")  # ... and these forms will do
KNOWN = {  # why a runtime that takes the predictor does not take what is added, and what that means
    "Indices output is not supported": "below operator set 22 WebGPU's MaxPool has no indices; --portable does without",
}


@dataclass(frozen=True)
class Case:
    """A classifier, real inputs for it, and their bounds. ``one``: it takes one sample at a time. ``others``: what else it is
    given.
    """

    name: str
    model: ModelProto
    input: str
    samples: Array
    low: Any
    high: Any
    one: bool
    size: int
    others: Mapping[str, Array] = field(default_factory=dict)

    @property
    def limit(self) -> float:
        """What the median sample may differ by."""
        stepped = any(node.op_type.startswith(("Quantize", "QLinear")) for node in self.model.graph.node)
        return STEPPED if stepped or self.samples.dtype == np.float16 else LIMIT

    @property
    def files(self) -> Sequence[tuple[str, str]]:
        """Presets and forms that it is compiled in."""
        first, *further = ATTENTION if self.attends else PRESETS
        return [(first, form) for form in FORMS] + [(preset, "flat") for preset in further] * (self.size <= HUGE)

    @property
    def kind(self) -> str:
        """In a word."""
        operators = {node.op_type for node in self.model.graph.node}
        stepped = "float16" if self.samples.dtype == np.float16 else "int8" if "QLinearConv" in operators else ""
        kind = "transformer" if self.attends else "convolutional" if operators & {"Conv", "QLinearConv"} else "dense"
        return f"{kind}, {stepped}" if stepped else kind

    @property
    def attends(self) -> bool:
        """Do tokens look at each other, more than once?"""
        return sum(node.op_type == "Softmax" for node in self.model.graph.node) > 1

    def feeds(self, samples: Array, form: str = "flat") -> list[Feeds]:
        """For as many runs as a compiled file of that form needs: the class of a ``target`` is another for each sample; what is
        asked on demand is first asked for and then, with one more run, not.
        """
        given: dict[str, Array] = {self.input: samples, **self.others}
        if form == "target":
            given["target"] = np.resize([1, 0, -1], len(samples)).astype(np.int64)
        runs: list[Feeds] = [given]
        if self.one:
            runs = [{name: array[i : i + 1] for name, array in given.items()} for i in range(len(samples))]
        if form == "on demand":
            runs = [*({**run, "explain": np.asarray(True)} for run in runs), {**runs[0], "explain": np.asarray(False)}]
        return runs


@dataclass
class Row:
    """What was found out about one compiled model: by runtime, the difference of each sample, or why it could not be run; and
    the milliseconds to load and to run.

    ``trouble`` is with the predictor as well, ``refused`` is the compiled model alone.
    """

    model: str
    preset: str
    form: str
    limit: float
    neighbours: list[float] = field(default_factory=list)
    differences: dict[str, list[float]] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    load: dict[str, float] = field(default_factory=dict)
    run: dict[str, float] = field(default_factory=dict)

    def failures(self) -> list[str]:
        """What is not explained by rounding."""
        wrong = [
            f"{self.model}, {self.preset}, {self.form}: {name} differs by {median:.1e} in the median"
            for name, found in self.differences.items()
            if not (median := statistics.median(found)) <= self.limit
        ]
        return wrong + [
            f"{self.model}, {self.preset}, {self.form}: {name} takes only the predictor: {text}"
            for name, text in self.refused.items()
            if not any(why in text for why in KNOWN)
        ]


# ------------------------------------------------------------------------------------------------------------------ cases


def cases() -> Iterator[Case]:
    """The classifiers in models/, and those that ONNXDTD_ASSETS points to."""
    for name in BUNDLED:
        with np.load(MODELS / ("two_digits_samples.npz" if name == "two_digits" else "digits_samples.npz")) as data:
            images = data["image"]
        yield case(name, MODELS / f"{name}.onnx", images.reshape(len(images), 64) if "sklearn" in name else images, 0, 1)
    with np.load(MODELS / "motions_samples.npz") as data:
        yield case("motions", MODELS / "motions.onnx", data["motion"], None, None)
    yield case("tumours", MODELS / "tumours.onnx", measurements(), None, None)
    ids, mask = sentences()
    yield case("definitions", MODELS / "definitions.onnx", ids, None, None, attention_mask=mask)
    for asset in () if MISSING else ASSETS:
        yield case(asset.name, asset.path, asset.inputs(), *asset.bounds)


def measurements() -> Array:
    """The features of tumours, [n, 30], as the file has them."""
    with (MODELS / "tumours_samples.csv").open(encoding="utf-8", newline="") as lines:
        rows = [[cell for name, cell in row.items() if name not in ("id", "diagnosis")] for row in csv.DictReader(lines)]
    return np.asarray(rows, np.float32)


def sentences() -> tuple[Array, Array]:
    """Definitions as ids of their pieces, and which of them are no padding, int64 [n, tokens]."""
    from tokenizers import Tokenizer

    with (MODELS / "definitions_samples.csv").open(encoding="utf-8", newline="") as lines:
        texts = [row["text"] for row in csv.DictReader(lines)][:SAMPLES]
    read = Tokenizer.from_file(str(MODELS / "definitions_tokenizer.json")).encode_batch(texts)
    longest = max(len(text.ids) for text in read)
    padded = lambda numbers: np.asarray([row + [0] * (longest - len(row)) for row in numbers], np.int64)
    return padded([text.ids for text in read]), padded([text.attention_mask for text in read])


def case(name: str, path: Path, samples: Array, low: Any, high: Any, **others: Array) -> Case:
    """A model with real inputs in its own units, and their bounds."""
    model = onnx.load(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    value = next(value for value in model.graph.input if value.name not in constants)
    one = value.type.tensor_type.shape.dim[0].dim_value == 1
    return Case(name, model, value.name, samples[:SAMPLES], low, high, one, os.path.getsize(path), others)


# ------------------------------------------------------------------------------------------------------------- measuring


def difference(a: Array, b: Array) -> list[float]:
    """max|a - b| / max|b| of each sample; where b is zero, nothing else will do, nor are there more or fewer samples."""
    if len(a) != len(b):
        return [float("inf")]
    if not len(a):
        return []
    a, b = (array.reshape(len(array), -1) for array in (a, b))
    apart, size = np.abs(a - b).max(1), np.abs(b).max(1)
    return [float(d / s) if s else 0.0 if d == 0 else float("inf") for d, s in zip(apart, size, strict=True)]


def neighbour(samples: Array, rng: np.random.Generator) -> Array:
    """Every entry one float up or down."""
    up = rng.random(samples.shape) < 0.5
    return np.where(up, np.nextafter(samples, samples.dtype.type(np.inf)), np.nextafter(samples, samples.dtype.type(-np.inf)))


def whole(done: Done) -> Array:
    """Of all samples that are explained."""
    return np.concatenate([output for output in done.outputs if len(output)]).astype(np.float64)


def measured(case: Case, files: Sequence[tuple[str, str]]) -> Iterator[Row]:
    """A model, compiled in some presets and forms, through every runtime."""
    yardstick = engines.alone(
        lambda model, output: engines.onnxruntime(model, output, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    )
    rows, jobs = [], [predicting(case)]
    for preset, form in files:
        try:
            compiled = onnxdtd.compile(case.model, preset, low=case.low, high=case.high, **FORMS[form])
        except onnxdtd.OnnxdtdError as error:
            print(f"{case.name}, {preset}, {form}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        rows.append(Row(case.name, preset, form, case.limit))
        jobs.append(Job(compiled, case.feeds(case.samples, form), "relevance", TIMES if form == "flat" else 1))
    expected, prediction = [], whole(yardstick(jobs[:1])[0])
    for row, job in zip(rows, jobs[1:], strict=True):
        exact, *others = yardstick([Job(job.model, case.feeds(x, row.form), "relevance") for x in (case.samples, *moves(case))])
        expected.append(whole(exact))
        draws = [difference(whole(other), expected[-1]) for other in others]
        row.neighbours = [max(numbers) for numbers in zip(*draws, strict=True)]
    for name, engine in engines.engines(case.size).items():
        slow = name in SLOW
        if not slow or (MODELS / f"{case.name}.onnx").exists():
            some = [i for i, row in enumerate(rows) if not slow or (row.preset == rows[0].preset and row.form in SHOWN)]
            predicted, *explained = engine([jobs[0], *(jobs[1 + i] for i in some)])
            other = predicts_otherwise(predicted, prediction)
            for i, done in zip(some, explained, strict=True):
                note(rows[i], name, done, expected[i], predicted.error or other)
    yield from rows


def moves(case: Case) -> list[Array]:
    """Its samples with every entry moved to a neighbouring float; ids have none."""
    rng = np.random.default_rng(0)
    return [neighbour(case.samples, rng) for _ in range(DRAWS)] if case.samples.dtype.kind == "f" else [case.samples]


def predicting(case: Case) -> Job:
    """The predictor alone, and the first of its outputs that are numbers."""
    numbers = (value.name for value in case.model.graph.output if value.type.tensor_type.elem_type != TensorProto.STRING)
    return Job(case.model, case.feeds(case.samples), next(numbers))


def predicts_otherwise(predicted: Done, right: Array) -> str:
    """What is wrong with a prediction, of which the explanation cannot be right then."""
    apart = 0.0 if predicted.error else statistics.median(difference(whole(predicted), right))
    return "" if apart <= STEPPED else f"wrong, by {apart:.0e} in the median"


def note(row: Row, name: str, done: Done, right: Array, trouble: str) -> None:
    """What a runtime made of a file, and of the predictor."""
    if done.error or trouble:
        (row.trouble if trouble else row.refused)[name] = trouble or done.error
        return
    row.differences[name] = difference(whole(done), right)
    row.load[name], row.run[name] = done.load, done.run


# --------------------------------------------------------------------------------------------------------------- the page


def column(name: str) -> str:
    """The optimisation levels of ONNX Runtime share one."""
    return "ORT" if name in ORT else name


def merged(found: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """By model, then by column, the rows in which the column has something to say."""
    result: dict[str, dict[str, list[Row]]] = {}
    for row in found:
        for name in (*row.differences, *row.trouble, *row.refused):
            result.setdefault(row.model, {}).setdefault(column(name), []).append(row)
    return result


def worst(row: Row, name: str) -> float:
    """Over the samples, and over the levels that share a column"""
    return max(max(numbers) for other, numbers in row.differences.items() if column(other) == name)


def summary(found: Sequence[Row]) -> str:
    """What each runtime does, in a line."""
    lines = []
    for name in dict.fromkeys(name for columns in merged(found).values() for name in columns):
        rows = [row for row in found if any(column(other) == name for other in row.differences)]
        calm = [worst(row, name) for row in rows if row.limit == LIMIT and max(row.neighbours) <= LIMIT]
        nothing = [row for row in found if any(column(other) == name for other in (*row.trouble, *row.refused))]
        cells = [name, str(len(rows)), str(len(nothing) or ""), f"{max(calm):.0e}" if calm else ""]
        lines.append([*cells, *(times(rows, name, what) for what in ("load", "run"))])
    return splice.table(["runtime", "files", "of them not", "differs by", "loads", "runs"], lines)


def times(rows: Sequence[Row], name: str, what: str) -> str:
    """Half of the files take longer than this many times the yardstick's time, half take less."""
    asked = YARDSTICK if name == "ORT" else name
    known = [getattr(row, what) for row in rows if row.form == "flat" and name not in SLOW]
    ratios = [numbers[asked] / numbers[YARDSTICK] for numbers in known if asked in numbers and YARDSTICK in numbers]
    return f"{statistics.median(ratios):.1f} ×" if ratios else ""


def table(found: Sequence[Row]) -> str:
    """The largest difference of every runtime over all files of a model."""
    models = merged(found)
    names = list(dict.fromkeys(name for columns in models.values() for name in columns))
    lines = []
    for model, columns in models.items():
        rows = [row for row in found if row.model == model]
        steep = max(max(row.neighbours) for row in rows)
        lines.append([model, f"{steep:.0e}", *(cell(columns.get(name, []), name) for name in names)])
    return splice.table(["model", "1 ulp", *names], lines)


def cell(rows: Sequence[Row], name: str) -> str:
    """The largest difference, and whether a file was not taken."""
    there = [worst(row, name) for row in rows if any(column(other) == name for other in row.differences)]
    some = f"{max(there):.0e}" if there else ""
    return some if len(there) == len(rows) else f"{some}, some no" if some else "no"


def details(found: Sequence[Row]) -> str:
    """A line a file."""
    names = list(dict.fromkeys(name for row in found for name in (*row.differences, *row.trouble, *row.refused)))
    shown = lambda row, name: (
        f"{max(row.differences[name]):.0e}" if name in row.differences else "no" * (name in row.trouble | row.refused)
    )
    rows = [[row.model, row.preset, row.form, f"{max(row.neighbours):.0e}", *(shown(row, n) for n in names)] for row in found]
    return splice.table(["model", "preset", "form", "1 ulp", *names], rows)


def reasons(found: Sequence[Row]) -> list[str]:
    """Why a runtime did not take a file, each once."""
    said: dict[tuple[str, str], list[str]] = {}
    for row in found:
        for name, text in (row.trouble | row.refused).items():
            meaning = next((meaning for why, meaning in KNOWN.items() if why in text), text)
            who = "the prediction itself" if name in row.trouble else "what is added"
            said.setdefault((column(name), f"{meaning} ({who})"), []).append(row.model)
    return [f"{name}, {', '.join(dict.fromkeys(models))}: {text}" for (name, text), models in said.items()]


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="The same compiled models in every runtime.")
    parser.add_argument("--models", nargs="+", metavar="NAME", default=[], help="only these")
    parser.add_argument("--presets", nargs="+", metavar="NAME", default=[], help=f"only these of {', '.join(PRESETS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    splice.option(parser, "runtimes")
    chosen = parser.parse_args()
    found: list[Row] = []
    for case in cases():
        if not chosen.models or case.name in chosen.models:
            files = [(preset, form) for preset, form in case.files if not chosen.presets or preset in chosen.presets]
            found += measured(case, files)
            print(case.name, file=sys.stderr)
    failures = [failure for row in found for failure in row.failures()]
    why = f"Not here: {engines.web()[1]}" if engines.web()[1] else ""
    notes = listed([*reasons(found), *failures])
    parts = [summary(found), table(found), notes, why, splice.folded("File by file", details(found))]
    text = "\n\n".join(filter(None, parts))
    print(text)
    if chosen.write:
        splice.write(chosen.write, "runtimes", text, ("openvino",))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in found], indent=1), encoding="utf-8")
    return int(bool(failures) or not found)


def listed(lines: Sequence[str]) -> str:
    """As a list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
