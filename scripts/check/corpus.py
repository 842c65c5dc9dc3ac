"""The models that files are compiled of: bundled, real, of torchvision, of scikit-learn, tiny. Those that are made here are
made once, into a folder, since an exporter need not write the same bytes again.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto
from tiny import tiny

ROOT = Path(__file__).resolve().parents[2]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LONG = ("light_densenet121", "light_inception_v2")
LAYERS = ("Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "QLinearConv", "Einsum", "ConvTranspose")
LARGE_BYTES, LARGE_NODES = 2**20, 150
UNRULED = ("Hardmax", "RandomNormalLike")
Bound = float | list[float]
Write = Callable[[Path], None]


@dataclass(frozen=True)
class Subject:
    """A model file, and the bounds of its inputs."""

    name: str
    path: Path
    low: Bound = 0.0
    high: Bound = 1.0

    @property
    def large(self) -> bool:
        """Does compiling take long enough to do it seldom?"""
        return self.path.stat().st_size > LARGE_BYTES or len(self._graph.node) > LARGE_NODES

    @cached_property
    def _graph(self) -> onnx.GraphProto:
        return onnx.load(self.path, load_external_data=False).graph

    @property
    def input(self) -> str:
        """The first input that is none of the weights."""
        weights = {tensor.name for tensor in self._graph.initializer}
        return next((value.name for value in self._graph.input if value.name not in weights), "")

    @property
    def output(self) -> str:
        """The last output."""
        return self._graph.output[-1].name

    @property
    def inner(self) -> str:
        """A tensor in the middle, of those that layers give on the way from the input to the output."""
        found = self._layers()
        return found[len(found) // 2] if found else self.output

    @property
    def last(self) -> str:
        """What the last layer gives: the logits, in most models."""
        return (self._layers() or [self.output])[-1]

    @property
    def classes(self) -> int:
        """How many there seem to be."""
        shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in self._graph.output]
        return next((shape[1] for shape in shapes if len(shape) > 1 and shape[1] > 0), 2)

    @property
    def picture(self) -> bool:
        """Has the first input height and width?"""
        rank = 4
        return any(v.name == self.input and len(v.type.tensor_type.shape.dim) == rank for v in self._graph.input)

    @property
    def unruled(self) -> list[str]:
        """The operators that relevance has no rule for, of a few."""
        return sorted({node.op_type for node in self._graph.node} & {*UNRULED})

    def _layers(self) -> list[str]:
        reached, wanted, found = {self.input}, {value.name for value in self._graph.output}, []
        for node in self._graph.node:
            if reached & set(node.input):
                reached.update(node.output)
        for node in reversed(self._graph.node):
            if wanted & set(node.output):
                wanted.update(node.input)
                if node.op_type in LAYERS and node.output[0] in reached:
                    found.append(node.output[0])
        return found[::-1]


def bundled() -> list[Subject]:
    """The models of this repository."""
    return [Subject(f"models/{path.stem}", path) for path in sorted((ROOT / "models").glob("*.onnx"))]


def light() -> list[Subject]:
    """Those that come with the onnx package, but for the two longest."""
    files = sorted(path for path in LIGHT.glob("*.onnx") if path.stem not in LONG)
    return [Subject(f"onnx/{path.stem}", path) for path in files]


def real() -> list[Subject]:
    """Those that ``ONNXDTD_ASSETS`` points to, none without it."""
    folder = os.environ.get("ONNXDTD_ASSETS")
    if not folder:
        return []
    sys.path.insert(0, str(ROOT / "tests"))
    bounds = {asset.name: asset.bounds for asset in importlib.import_module("assets").ASSETS}
    files = sorted(Path(folder, "models").resolve().glob("*.onnx"))
    return [Subject(f"assets/{path.stem}", path, *bounds.get(path.stem, (0.0, 1.0))) for path in files]


# ------------------------------------------------------------------------------------------------------------ torchvision


def torchvision() -> Any:
    """The package. Only its compiled operators, which no classifier needs, want the module that is left out here."""
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("nothing"))
    import torchvision.models

    return torchvision.models


def of_zoo(name: str, **options: Any) -> Any:
    """A model by name, with ten classes."""
    return getattr(torchvision(), name)(weights=None, num_classes=10, **options)


def vgg() -> Any:
    """vgg11_bn with narrow dense layers, which are nearly all of its 500 MB."""
    from torch import nn

    module = of_zoo("vgg11_bn")
    dense = nn.Linear(25088, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10)
    module.classifier = nn.Sequential(*dense)
    return module


def convnext() -> Any:
    """A narrow ConvNeXt of two stages."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    torchvision()
    return ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 2)], num_classes=10)


def vit() -> Any:
    """Two layers of attention over sixteen patches."""
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    return torchvision().VisionTransformer(**sizes, num_classes=10)


def swin() -> Any:
    """Attention in windows that are shifted."""
    sizes = {"patch_size": [4, 4], "embed_dim": 12, "depths": [2, 1], "num_heads": [2, 2], "window_size": [2, 2]}
    return torchvision().SwinTransformer(**sizes, num_classes=10)


TORCH: dict[str, tuple[Callable[[], Any], int, tuple[str, ...]]] = {  # how to build it, its side in pixels, the exporters
    "resnet18": (partial(of_zoo, "resnet18"), 64, ("old", "new")),
    "vgg11_bn": (vgg, 224, ("old",)),
    "mobilenet_v2": (partial(of_zoo, "mobilenet_v2"), 64, ("new",)),
    "mobilenet_v3_small": (partial(of_zoo, "mobilenet_v3_small"), 64, ("old", "new")),
    "efficientnet_b0": (partial(of_zoo, "efficientnet_b0"), 64, ("old",)),
    "densenet121": (partial(of_zoo, "densenet121"), 64, ("old",)),
    "squeezenet1_1": (partial(of_zoo, "squeezenet1_1"), 64, ("new",)),
    "shufflenet_v2_x0_5": (partial(of_zoo, "shufflenet_v2_x0_5"), 64, ("old", "new")),
    "googlenet": (partial(of_zoo, "googlenet", aux_logits=False, init_weights=False), 64, ("old",)),
    "mnasnet0_5": (partial(of_zoo, "mnasnet0_5"), 64, ("new",)),
    "regnet_y_400mf": (partial(of_zoo, "regnet_y_400mf"), 64, ("old",)),
    "convnext": (convnext, 64, ("old", "new")),
    "vit": (vit, 32, ("old", "new")),
    "swin": (swin, 32, ("old", "new")),
}


def exported(build: Callable[[], Any], size: int, exporter: str, path: Path) -> None:
    """A network with seeded weights, by tracing for one sample, or by torch.export for any number."""
    import torch

    torch.manual_seed(0)
    module = build().eval()
    for values in [*module.parameters(), *module.buffers()]:
        if values.is_floating_point() and (values == values.flatten()[0]).all():
            values.data.uniform_(0.5, 1.5)
    example = (torch.rand(1 if exporter == "old" else 2, 3, size, size),)
    if exporter == "old":
        torch.onnx.export(module, example, path, dynamo=False, opset_version=17)
    else:
        shapes = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(module, example, path, dynamo=True, external_data=False, verbose=False, dynamic_shapes=shapes)


# ------------------------------------------------------------------------------------------------ scikit-learn, tiny nets


def sklearn(name: str, path: Path) -> None:
    """A classifier of three classes, trained."""
    import skl2onnx
    from sklearn.datasets import make_classification
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    binary = name == "binary"
    x, y = make_classification(200, 6, n_informative=5, n_redundant=0, n_classes=2 if binary else 3, random_state=0)
    mlp = lambda: MLPClassifier((8,), max_iter=50, random_state=0)
    models = {
        "logistic": LogisticRegression,
        "binary": LogisticRegression,
        "mlp": mlp,
        "pipeline": lambda: make_pipeline(SimpleImputer(), StandardScaler(), Normalizer(), mlp()),
    }
    model = models[name]().fit(x, y)
    last = model.steps[-1][1] if name == "pipeline" else model
    onnx.save(skl2onnx.to_onnx(model, x[:1].astype(np.float32), options={id(last): {"zipmap": name == "mlp"}}), path)


SKLEARN = ("logistic", "binary", "mlp", "pipeline")


@cache
def _tiny() -> Mapping[str, ModelProto]:
    return tiny()


def apart(path: Path) -> None:
    """A net whose weights are in another file."""
    data = f"{path.stem}.data"
    onnx.save(_tiny()["skips"], path, save_as_external_data=True, location=data, size_threshold=0)


def writers() -> dict[str, tuple[Write, tuple[str, ...]]]:
    """By name how to make each model, and the packages that this needs."""
    found: dict[str, tuple[Write, tuple[str, ...]]] = {}
    for name, proto in _tiny().items():
        found[f"tiny/{name}"] = partial(onnx.save, proto), ()
    found["tiny/weights apart"] = apart, ()
    for name in SKLEARN:
        found[f"sklearn/{name}"] = partial(sklearn, name), ("sklearn", "skl2onnx")
    for name, (build, size, exporters) in TORCH.items():
        for exporter in exporters:
            needs = ("torch", "torchvision", *(["onnxscript"] if exporter == "new" else []))
            found[f"torch/{name}.{exporter}"] = partial(exported, build, size, exporter), needs
    return found


# ---------------------------------------------------------------------------------------------------------------- all


def subjects(folder: Path, wanted: Callable[[str], bool]) -> tuple[list[Subject], list[str]]:
    """The models that are wanted, made where ``folder`` lacks them, and what is missing."""
    missing = [] if os.environ.get("ONNXDTD_ASSETS") else ["the real classifiers: ONNXDTD_ASSETS is not set"]
    found = [subject for subject in [*bundled(), *real(), *light()] if wanted(subject.name)]
    for name, (write, needs) in writers().items():
        path = folder / f"{name}.onnx"
        if not wanted(name):
            continue
        if not path.exists() and (absent := [package for package in needs if find_spec(package) is None]):
            missing.append(f"{name}: not installed: {', '.join(absent)}")
            continue
        if not path.exists():
            _write(write, path)
        found.append(Subject(name, path))
    return found, missing


def _write(write: Write, path: Path) -> None:
    """Make a model, whole or not at all."""
    print(f"making {path.stem}", file=sys.stderr, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        write(Path(folder, path.name))
        logging.disable(logging.NOTSET)
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.suffix == ".onnx"):  # that of the weights first
            file.rename(path.parent / file.name)
