"""What compiles, and is it right? Every CNN family of torchvision through both exporters, and files of other exporters.

For each model: the nodes between input and logits and how many of them relevance gets through, the time that compiling takes,
whether the prediction is the same bit by bit, whether the relevance is finite, and whether the preset ``gradient``, which
sends the derivative through the same adjoints and moves as any rule its relevance, gives what somebody else says it is.

Of torchvision's networks PyTorch says it, and equal means 1e-6. Their weights are random, BatchNormalization has seen one
batch. But a gradient jumps where a neuron's input passes zero or two entries of a pooling window tie. Among a million of them
one may lie so near that two runtimes round it to different sides; then both gradients are right and 1e-4 to 5e-2 apart, as
far as those of PyTorch itself in 32 and in 64 bits. (Counted on 61 inputs of 8 networks: where all neurons and windows were on
the same side in PyTorch and in ONNX Runtime, the largest error was 8e-6, and every error above 1e-5 came with one that was
not.) So each network is asked about eight small inputs. A wrong adjoint is wrong on all of them. The table has the largest
error among the inputs on which the two agree to 1e-4, and how many those are.

Of files without a framework behind them central differences say it: along the gradient g the slope must be |g|. That is good
to a few per cent in 32 bits, and blind to small errors: one of 10 % at a right angle to g changes the slope by 1 %. The nine
light graphs of the onnx package are given random weights, since theirs are all 0.02.

``--library transformers`` asks other questions, of models that take ids: those of ``sequences``.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import logging
import multiprocessing
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import sequences
import splice
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

import onnxdtd
from onnxdtd.compiler.compile import prepare
from onnxdtd.contract import read_metadata
from onnxdtd.graph import shapes
from onnxdtd.request import Request

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
DRAWS = 8  # inputs a model is asked about
SAME = 1e-4  # relative, of the gradients of two runtimes
EXPORTED = 1e-3  # relative to the largest output, of what an exported file predicts
SLOPE = 5e-2  # relative, of central differences in float32
OPTIMISED = 1e-4  # relative to the largest output, of the prediction where ONNX Runtime may fuse and reorder
HALF = 2**-8  # the same for float16, which ONNX Runtime rounds or keeps in 32 bits depending on who else reads a tensor
BOUND = 3.0  # inputs are normal, clipped here
NO_GRADIENT = {"Shape", "Size", "ConstantOfShape", "ArgMax", "ArgMin", "Equal", "Greater", "Less", "NonZero"}
TREES = {"TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"}
OFF, ALL = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL


@dataclass(frozen=True)
class Network:
    """A model of a library: its name there, the side of its input, arguments of its builder."""

    name: str
    size: int = 64
    options: dict[str, Any] = field(default_factory=dict)
    library: str = "torchvision"


PLAIN = {"aux_logits": False, "init_weights": False}
ZOO = [
    Network("alexnet", 224),  # the old exporter needs whole windows in AdaptiveAveragePool
    Network("vgg11", 224),
    Network("vgg11_bn", 224),
    Network("resnet18"),
    Network("resnet50"),
    Network("wide_resnet50_2"),
    Network("resnext50_32x4d"),
    Network("densenet121"),
    Network("googlenet", options=PLAIN),
    Network("inception_v3", 96, PLAIN),
    Network("squeezenet1_1"),
    Network("mobilenet_v2"),
    Network("mobilenet_v3_small"),
    Network("mobilenet_v3_large"),
    Network("shufflenet_v2_x1_0"),
    Network("mnasnet1_0"),
    Network("efficientnet_b0"),
    Network("efficientnet_v2_s"),
    Network("regnet_x_400mf"),
    Network("regnet_y_400mf"),
    Network("convnext_tiny"),
    Network("vit_b_16", options={"image_size": 64}),
    Network("swin_t"),
    Network("swin_v2_t"),
    Network("maxvit_t", 224),  # its windows are of 7
]


TIMM = [  # one of each family that says anything new
    *(
        Network(name, 64, library="timm")
        for name in ("resnetv2_50", "resnest14d", "res2net50_26w_4s", "seresnet18", "skresnet18")
    ),
    *(
        Network(name, 64, library="timm")
        for name in ("ecaresnet26t", "dla34", "dpn68", "selecsls42b", "legacy_xception", "cspresnet50")
    ),
    *(
        Network(name, 64, library="timm")
        for name in ("vovnet39a", "hardcorenas_a", "mixnet_s", "ghostnet_100", "lcnet_050", "tinynet_e")
    ),
    *(
        Network(name, 64, library="timm")
        for name in ("mobilenetv4_conv_small", "fbnetv3_b", "rexnet_100", "regnetz_b16", "eca_nfnet_l0")
    ),
    *(
        Network(name, 64, library="timm")
        for name in ("hrnet_w18_small", "repvgg_a0", "convnextv2_atto", "inception_next_atto", "starnet_s1")
    ),
    *(
        Network(name, 64, library="timm")
        for name in ("mambaout_femto", "poolformer_s12", "convmixer_768_32", "fastvit_t8", "repghostnet_050")
    ),
    *(Network(name, 64, library="timm") for name in ("mobilevit_xxs", "edgenext_xx_small", "efficientvit_b0")),
    Network("mixer_s32_224", 64, {"img_size": 64}, "timm"),
    Network("resmlp_12_224", 64, {"img_size": 64}, "timm"),
    Network("deit_tiny_patch16_224", 64, {"img_size": 64}, "timm"),
    Network("beit_base_patch16_224", 64, {"img_size": 64, "depth": 4}, "timm"),
    Network("cait_xxs24_224", 64, {"img_size": 64, "depth": 4}, "timm"),
    Network("xcit_nano_12_p16_224", 64, {"img_size": 64}, "timm"),
    Network("swinv2_cr_tiny_224", 64, {"img_size": 64, "window_size": 2}, "timm"),
    Network("maxvit_rmlp_pico_rw_256", 64, {"img_size": 64}, "timm"),
    Network("levit_128s", 224, {}, "timm"),
    Network("coat_tiny", 64, {"img_size": 64}, "timm"),
    Network("pvt_v2_b0", 64, {}, "timm"),
    Network("twins_svt_small", 64, {"img_size": 64}, "timm"),
    Network("mvitv2_tiny", 64, {"img_size": 64}, "timm"),
    Network("gcvit_xxtiny", 224, {}, "timm"),
    Network("focalnet_tiny_srf", 64, {}, "timm"),
    Network("davit_tiny", 64, {}, "timm"),
    Network("volo_d1_224", 64, {"img_size": 64}, "timm"),
    Network("eva02_tiny_patch14_224", 56, {"img_size": 56, "num_classes": 10}, "timm"),
]
LIBRARIES = {"torchvision": ZOO, "timm": TIMM}
PAGES = {"torchvision": "zoo", "timm": "timm", "transformers": "transformers"}


@dataclass(frozen=True)
class Row:
    """What was found out about one file."""

    model: str
    exporter: str
    nodes: int = 0  # between the input and the logits
    missing: list[str] = field(default_factory=list)  # those among them without a rule: operator and name
    seconds: float = 0.0
    changed: float = 0.0  # the largest difference of the prediction, relative to the largest output
    optimised: float = 0.0  # the same where ONNX Runtime may fuse and reorder
    finite: bool = False
    errors: list[float] = field(default_factory=list)  # of the gradient, relative, one an input
    limit: float = SAME  # of these
    tolerance: float = 0.0  # of the prediction
    trouble: str = ""

    @property
    def agreeing(self) -> list[float]:
        """The errors within the limit."""
        return [error for error in self.errors if error <= self.limit]

    def failures(self) -> list[str]:
        """What is not as it must be."""
        checks = {
            self.trouble: bool(self.trouble),
            f"no rule for {', '.join(self.missing)}": bool(self.missing),
            f"the prediction has changed by {self.changed:.1e}": self.changed > self.tolerance,
            f"the optimised prediction has changed by {self.optimised:.1e}": self.optimised > max(OPTIMISED, self.tolerance),
            "the relevance is not finite": not self.finite,
            f"the gradient is wrong by {min(self.errors, default=0):.1e}": bool(self.errors) and not self.agreeing,
        }
        found = [text for text, failed in checks.items() if failed]
        return found[:1] if self.trouble or self.missing else found


# --------------------------------------------------------------------------------------------- any model file


def on_path(graph: GraphProto, outputs: Iterable[str]) -> list[NodeProto]:
    """The nodes through which outputs depend smoothly on the inputs, told from the graph alone."""
    smooth = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    forward = []
    for node in graph.node:
        if node.op_type not in NO_GRADIENT and not _to_integer(node) and smooth & set(node.input):
            smooth.update(node.output)
            forward.append(node)
    wanted = set(outputs)
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted.update(node.input)
    return [node for node in forward if wanted & set(node.output)]


def _to_integer(node: NodeProto) -> bool:
    targets = [a.i for a in node.attribute if a.name == "to"]
    return node.op_type == "Cast" and targets[0] in (TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)


def reached(path: Path) -> tuple[int, list[str]]:
    """How many nodes lie on the path, and those that the backward walk of ``gradient`` does not visit.

    Under the other presets it visits fewer: what makes a gate counts as constant.
    """
    try:
        job = prepare(path, Request(preset="gradient"))
    except onnxdtd.Unsupported as error:
        graph = onnx.load(path).graph
        nodes = on_path(graph, [value.name for value in graph.output])
        return len(nodes), [f"{problem.op} {problem.node}" for problem in error.problems]
    made, nodes = job.plan, on_path(job.source.proto.graph, [job.plan.output])
    visited = {t.name for step in made.steps for node in step.nodes for t in node.outputs}
    visited.update(t.name for node in made.stepped_back for t in node.outputs)
    return len(nodes), [f"{node.op_type} {node.output[0]}" for node in nodes if not visited & set(node.output)]


def session(model: Path | ModelProto, level: ort.GraphOptimizationLevel = ALL) -> ort.InferenceSession:
    """A session on the CPU, silent but for errors."""
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    given = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def run(running: ort.InferenceSession, x: np.ndarray, **more: np.ndarray) -> dict[str, np.ndarray]:
    """All float outputs by name, for a model with one input."""
    name = running.get_inputs()[0].name
    values = running.run(None, {name: x, **more})
    named = zip((node.name for node in running.get_outputs()), values, strict=True)
    return {name: value for name, value in named if isinstance(value, np.ndarray)}


def difference(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> float:
    """The largest difference of a prediction, relative to the largest output."""
    scales = {name: max(float(np.abs(a).max()), 1e-30) for name, a in before.items()}
    gaps = {name: float(np.abs(a.astype(np.float64) - after[name]).max()) for name, a in before.items()}
    return max((gaps[name] / scales[name] for name in before), default=0.0)


def examined(row: Row, path: Path, x: np.ndarray) -> Row:
    """Everything that can be said of a file without knowing its gradient, on the input ``x``."""
    nodes, missing = reached(path)
    row = replace(row, nodes=nodes, missing=missing)
    start = time.perf_counter()
    compiled = onnxdtd.compile(path, low=-BOUND, high=BOUND)
    row = replace(row, seconds=time.perf_counter() - start)
    explained = run(session(compiled), x)
    relevance = (explained["relevance"], run(session(onnxdtd.compile(path, "lrp-epsilon")), x)["relevance"])
    changed = difference(run(session(path, OFF), x), run(session(compiled, OFF), x))
    optimised = difference(run(session(path), x), explained)
    return replace(row, changed=changed, optimised=optimised, finite=all(np.isfinite(r).all() for r in relevance))


# ------------------------------------------------------------------------------------------------- torchvision


def torchvision() -> Any:
    """The package, also where its compiled operators do not fit PyTorch's build. No classifier needs them, but without their
    names it cannot be imported.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        _declare_operators()
        return importlib.import_module("torchvision")


_libraries: list[Any] = []  # declarations last as long as their library


def _declare_operators() -> None:
    import torch

    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    library = torch.library.Library("torchvision", "FRAGMENT")
    texts = [file.read_text(encoding="utf-8") for file in Path(spec.origin).parent.rglob("*.py")]
    for name in sorted({name for text in texts for name in re.findall(r'(?:torchvision::|register_meta\(")(\w+)', text)}):
        library.define(f"{name}(Tensor a) -> Tensor")
    _libraries.append(library)


def inputs(size: int, count: int, seed: int) -> np.ndarray:
    """Normal noise within the bounds."""
    noise = np.random.default_rng(seed).standard_normal((count, 3, size, size), np.float32)
    return np.clip(noise, -BOUND, BOUND)


def built(network: Network) -> Any:
    """The model with seeded weights, its BatchNormalization calibrated by one batch."""
    import torch

    torch.manual_seed(0)
    vision = torchvision()  # which timm needs too
    if network.library == "timm":
        module = importlib.import_module("timm").create_model(network.name, **network.options)
    else:
        module = getattr(vision.models, network.name)(weights=None, **network.options)
    for name, parameter in module.named_parameters():
        if (parameter == parameter.flatten()[0]).all():
            _vary(name, parameter.data)
    module.train()
    with torch.no_grad():
        module(torch.from_numpy(inputs(network.size, 4, seed=1)))
    return module.eval()


def _vary(name: str, values: Any) -> None:
    """Zero biases, unit factors and layer scales of 1e-6 would hide a mistake."""
    if name.endswith("bias") or not values.any():
        values.normal_(std=0.05)
    else:
        values.uniform_(0.5, 1.5)


def export_old(module: Any, x: np.ndarray, path: Path) -> None:
    """By tracing, for one sample, operator set 17."""
    import torch

    torch.onnx.export(module, (torch.from_numpy(x[:1]),), path, dynamo=False, opset_version=17)


def export_new(module: Any, x: np.ndarray, path: Path, opset: int | None = None) -> None:
    """By torch.export, for any number of samples."""
    import torch

    options: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "opset_version": opset}
    example = (torch.from_numpy(x[:2]),)
    torch.onnx.export(module, example, path, dynamo=True, external_data=False, verbose=False, **options)


EXPORTERS: dict[str, Callable[[Any, np.ndarray, Path], None]] = {"old": export_old, "new": export_new}


def autograd(module: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes that win, and the gradient of their logits."""
    import torch

    leaf = torch.from_numpy(x).requires_grad_(True)
    logits = module(leaf)
    best = logits.argmax(1)
    logits.gather(1, best[:, None]).sum().backward()
    assert leaf.grad is not None
    return best.numpy(), leaf.grad.numpy()


def gradient_errors(path: Path, x: np.ndarray, best: np.ndarray, wanted: np.ndarray) -> list[float]:
    """How far the compiled gradient is from the one that is wanted, relative to its norm, for each sample."""
    running = session(onnxdtd.compile(path, "gradient", target="input"))
    step = 1 if isinstance(running.get_inputs()[0].shape[0], int) else len(x)
    pieces = [run(running, x[i : i + step], target=best[i : i + step])["relevance"] for i in range(0, len(x), step)]
    error, size = (np.linalg.norm(g.reshape(len(x), -1), axis=1) for g in (np.concatenate(pieces) - wanted, wanted))
    return [float(value) for value in error / size]


def of_network(network: Network, folder: Path, exporters: Sequence[str] = tuple(EXPORTERS)) -> Iterator[Row]:
    """Export, compile and check a model of a library."""
    module = built(network)
    x = inputs(network.size, DRAWS, seed=2)
    best, wanted = autograd(module, x)
    for exporter in exporters:
        path = folder / f"{network.name}.{exporter}.onnx"
        row = Row(network.name, exporter)
        try:
            EXPORTERS[exporter](module, x, path)
            exported_right(module, path, x[:2])
            row = examined(row, path, x[:1])
            yield replace(row, errors=gradient_errors(path, x, best, wanted))
        except Exception as error:  # a table is no place to stop
            yield replace(row, trouble=_one_line(error))
        path.unlink(missing_ok=True)


def exported_right(module: Any, path: Path, x: np.ndarray) -> None:
    """Raises ``ValueError`` where a file does not predict what its model in PyTorch does: gradients cannot agree then."""
    import torch

    with torch.no_grad():
        wanted = module(torch.from_numpy(x)).numpy()
    source = session(path)
    step = 1 if isinstance(source.get_inputs()[0].shape[0], int) else len(x)
    found = [next(iter(run(source, x[i : i + step]).values())) for i in range(0, len(x), step)]
    gap = difference({"": wanted}, {"": np.concatenate(found)})
    if gap > EXPORTED:
        raise ValueError(f"the exported file does not predict what its model does, but differs by {gap:.1e}")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


# ------------------------------------------------------------------------------- files without a framework behind them


def model_files() -> list[Path]:
    """The light graphs of the onnx package, and what lies in ``ONNXDTD_ASSETS`` but for tree ensembles."""
    assets = os.environ.get("ONNXDTD_ASSETS")
    found = sorted(LIGHT.glob("*.onnx")) + (sorted(Path(assets, "models").glob("*.onnx")) if assets else [])
    return [path for path in found if not TREES & {node.op_type for node in onnx.load(path).graph.node}]


def with_random_weights(proto: ModelProto) -> ModelProto:
    """Weights that a ConstantOfShape makes, replaced by random ones."""
    draw, made = np.random.default_rng(0), ModelProto()
    made.CopyFrom(proto)
    shapes = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    variances = {node.input[4] for node in proto.graph.node if node.op_type == "BatchNormalization"}
    del made.graph.node[:]
    for node in proto.graph.node:
        if node.op_type != "ConstantOfShape":
            made.graph.node.append(node)
            continue
        name, shape = node.output[0], shapes[node.input[0]].tolist()
        spread = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 1.0
        weight = draw.uniform(0.5, 1.5, shape) if name in variances else draw.standard_normal(shape, np.float32) * spread
        made.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), name))
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return made


def file_input(proto: ModelProto) -> np.ndarray:
    """An input for a model: what its own shape leaves open is 1 for the batch and 64 elsewhere."""
    kind = shapes.real_inputs(proto)[0].type.tensor_type
    shape = [d.dim_value or (64 if i else 1) for i, d in enumerate(kind.shape.dim)]
    x = np.clip(np.random.default_rng(3).standard_normal(shape), -BOUND, BOUND)
    return x.astype(helper.tensor_dtype_to_np_dtype(kind.elem_type))


def slope_errors(path: Path, x: np.ndarray) -> list[float]:
    """How far the central difference along the gradient g is from |g|, relative to it; at the best of several step sizes. None
    where the predictor keeps its logits to itself.
    """
    compiled = onnxdtd.compile(path, "gradient", target="input")
    logits = read_metadata(compiled)["logits"]
    if logits.startswith("dtd/"):
        return []
    values = session(onnxdtd.compile(path, "lrp-epsilon", keep=[logits], target="input"))

    def scores(x: np.ndarray, target: np.ndarray) -> np.ndarray:  # all zero but for the explained class
        return run(values, x, target=target)[f"relevance/{logits}"].astype(np.float64)

    target = np.abs(scores(x, np.asarray([-1]))).reshape(1, -1).argmax(1)
    g = run(session(compiled), x, target=target)["relevance"].astype(np.float64)
    size, found = np.linalg.norm(g), []
    for length in (3e-4, 1e-3, 3e-3, 1e-2):
        step = (g / size * length * np.linalg.norm(x.astype(np.float64))).astype(np.float32)
        above, below = ((x + s).astype(x.dtype) for s in (step, -step))
        moved = (above.astype(np.float64) - below).ravel() @ g.ravel()
        gap = scores(above, target).sum() - scores(below, target).sum()
        found.append(float(abs(gap / moved - 1)))
    return [min(found)]


def of_file(path: Path, folder: Path) -> Row:
    """Compile and check a file."""
    proto = onnx.load(path)
    x = file_input(proto)
    tolerance = HALF if x.dtype == np.float16 else 0.0
    row = Row(path.stem, f"{proto.producer_name} {proto.producer_version}".strip(), limit=SLOPE, tolerance=tolerance)
    stepped = x.dtype == np.float16 or any(node.op_type.startswith(("Quantize", "QLinear")) for node in proto.graph.node)
    try:
        if path.parent == LIGHT:
            path = folder / path.name
            onnx.save(with_random_weights(proto), path)
        row = examined(row, path, x)
        return row if stepped else replace(row, errors=slope_errors(path, x))
    except Exception as error:
        return replace(row, trouble=_one_line(error))
    finally:
        if path.parent == folder:
            path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------------------- the table


def rows(library: str, names: Sequence[str], folder: Path, workers: int = 1) -> Iterator[Row]:
    """All models of a library, and with torchvision the files; or those named. With progress on stderr."""
    networks = [network for network in LIBRARIES[library] if not names or network.name in names]
    if workers > 1:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _alone) as pool:
            yield from map(_told, chain.from_iterable(pool.map(_of_network, networks, repeat(folder))))
    else:
        for network in networks:
            yield from map(_told, of_network(network, folder))
    for path in model_files() if library == "torchvision" else ():
        if not names or path.stem in names:
            yield _told(of_file(path, folder))


def _of_network(network: Network, folder: Path) -> list[Row]:
    return list(of_network(network, folder))


def _quiet() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # the exporters talk a lot


def _alone() -> None:
    """A process of several takes one thread."""
    _quiet()
    importlib.import_module("torch").set_num_threads(1)


def _told(row: Row) -> Row:
    errors = " ".join(f"{error:.1e}" for error in row.errors)
    print(f"{row.model} ({row.exporter}): {row.nodes} nodes, {row.seconds:.2f} s, {errors}", file=sys.stderr, flush=True)
    for failure in row.failures():
        print(f"  {failure}", file=sys.stderr, flush=True)
    return row


def summary(found: Sequence[Row]) -> str:
    """One sentence."""
    nodes, missing = sum(row.nodes for row in found), sum(len(row.missing) for row in found)
    models, wrong = len({row.model for row in found}), sum(bool(row.failures()) for row in found)
    return f"{len(found)} files of {models} models: {nodes - missing} of {nodes} nodes covered, {wrong} files with a failure."


def table(found: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = []
    for row in found:
        covered = f"{100 * (1 - len(row.missing) / max(row.nodes, 1)):.4g} %"
        lines.append([row.model, row.exporter, row.nodes, covered, f"{row.seconds:.2f}", _error_text(row)])
    return splice.table(["model", "exporter", "nodes", "covered", "compile seconds", "worst error"], lines)


def _error_text(row: Row) -> str:
    if row.trouble or not row.errors:
        return "no" if row.trouble else "-"
    if row.limit == SLOPE:
        return f"{row.errors[0]:.0e} (slope)"
    return f"{max(row.agreeing or row.errors):.0e} ({len(row.agreeing)} of {len(row.errors)})"


def transformers(names: Sequence[str], folder: Path) -> tuple[str, bool, list[dict[str, Any]]]:
    """The text of the page of transformers, whether something is wrong, and the numbers. With progress on stderr."""
    found = []
    importlib.import_module("torch").set_num_threads(1)
    for model in sequences.MODELS:
        for row in sequences.rows(model, folder) if not names or model.name in names else ():
            print(f"{row.model} ({row.export}): {'; '.join(row.failures()) or 'right'}", file=sys.stderr, flush=True)
            found.append(row)
    text = f"{sequences.summary(found)}\n\n{sequences.table(found)}"
    return text, any(row.failures() for row in found), [asdict(row) for row in found]


def convolutional(library: str, names: Sequence[str], folder: Path, workers: int) -> tuple[str, bool, list[dict[str, Any]]]:
    """The same of networks and files of pictures."""
    found = list(rows(library, names, folder, workers))
    return f"{summary(found)}\n\n{table(found)}", any(row.failures() for row in found), [asdict(row) for row in found]


def main() -> int:
    """Run the zoo."""
    parser = argparse.ArgumentParser(description="Compile and check classifiers of many families and exporters.")
    parser.add_argument("--models", nargs="+", metavar="NAME", default=[], help="only these")
    parser.add_argument("--folder", type=Path, help="where to export to; by default a temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    parser.add_argument("--library", choices=PAGES, default="torchvision", help="whose networks; each has a page of its own")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="how many networks at a time")
    library = parser.parse_known_args()[0].library
    if library == "timm":
        splice.option(parser, "timm")
    elif library == "transformers":
        splice.option(parser, "transformers")
    else:
        splice.option(parser, "zoo")
    chosen = parser.parse_args()
    known = [network.name for network in LIBRARIES.get(chosen.library, sequences.MODELS)]
    known += [path.stem for path in model_files()] if chosen.library == "torchvision" else []
    if unknown := set(chosen.models) - set(known):
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if chosen.write and chosen.models:
        parser.error("--write shows all models, not some")
    _quiet()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        if chosen.library == "transformers":
            text, wrong, numbers = transformers(chosen.models, folder)
        else:
            text, wrong, numbers = convolutional(chosen.library, chosen.models, folder, chosen.workers)
    print(text)
    if chosen.json:
        chosen.json.write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    if chosen.write:
        splice.write(chosen.write, PAGES[library], text, ("torch", chosen.library, "onnxscript"))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
