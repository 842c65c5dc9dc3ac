"""Train the small digit classifiers of models/ and write them as ONNX, with sample inputs and the README's tables.

    python scripts/train_models.py [-o models]

Every seed is fixed and one thread computes, so a second run on the same machine writes the same bytes. The accuracies
in models/README.md are measured on the ONNX files with ONNX Runtime, never on the models they were exported from.
"""

import argparse
import hashlib
import logging
import math
import platform
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import splice
import torch
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

MODELS = Path(__file__).resolve().parent.parent / "models"
SEED = 0
LEVELS = 16  # a pixel counts the inked dots of a 4x4 block of the scan; the models see pixel / 16
TARGETS = 4  # two_digits: 0..3 are the classes, 4..9 the distractors
DETECTORS = 16  # two_digits: detection neurons summed into one class score
OPSET = 17  # where we choose; the new PyTorch exporter keeps its own default
PACKAGES = ("torch", "scikit-learn", "skl2onnx", "onnx", "onnxscript", "numpy")


# ---------------------------------------------------------------- data


@dataclass(frozen=True)
class Images:
    """Images in [0, 1], float32 [n, 1, height, width], and their classes, int64 [n]."""

    image: np.ndarray
    label: np.ndarray

    def __getitem__(self, index: np.ndarray) -> "Images":
        """The images and classes at `index`."""
        return Images(self.image[index], self.label[index])

    def flat(self) -> np.ndarray:
        """The images as rows."""
        return self.image.reshape(len(self.image), -1)


def digits() -> tuple[Images, Images]:
    """scikit-learn's 8x8 digits as a stratified 3:1 split: (train, test)."""
    data = load_digits()
    everything = Images((data.images[:, None] / LEVELS).astype(np.float32), data.target.astype(np.int64))
    count = np.arange(len(data.target))
    train, test = train_test_split(count, test_size=0.25, stratify=data.target, random_state=SEED)
    return everything[train], everything[test]


def with_shifts(data: Images) -> Images:
    """The images and their copies moved by one pixel up, down, left and right (empty pixels come in)."""
    height, width = data.image.shape[2:]
    padded = np.pad(data.image, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    copies = [padded[:, :, top : top + height, left : left + width] for top, left in corners]
    return Images(np.concatenate(copies), np.tile(data.label, len(copies)))


def pairs(data: Images, count: int, seed: int) -> Images:
    """`count` pairs side by side in random order: a target 0..3, whose class is the label, and a distractor 4..9."""
    rng = np.random.default_rng(seed)
    target = rng.choice(np.flatnonzero(data.label < TARGETS), count)
    distractor = rng.choice(np.flatnonzero(data.label >= TARGETS), count)
    swap = rng.random(count) < 0.5
    left, right = np.where(swap, distractor, target), np.where(swap, target, distractor)
    return Images(np.concatenate([data.image[left], data.image[right]], axis=3), data.label[target])


def first_of_each_class(data: Images, count: int) -> Images:
    """The first `count` images of every class, sorted by class."""
    return data[np.concatenate([np.flatnonzero(data.label == c)[:count] for c in np.unique(data.label)])]


# ---------------------------------------------------------------- networks


def mlp() -> nn.Module:
    """64-128-64-10 with ReLU."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    """Two stages of Conv, ReLU, MaxPool, then two fully connected layers."""

    def stage(channels: int, out: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]

    head = [nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*stage(1, 16), *stage(16, 32), *head)


def conv_norm(channels: int, out: int, size: int, stride: int = 1) -> nn.Sequential:
    """Conv without bias, then BatchNorm."""
    return nn.Sequential(nn.Conv2d(channels, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out))


class Residual(nn.Module):
    """ReLU(body(x) + skip(x)); where the shape changes, the skip is a strided 1x1 Conv with BatchNorm."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm(channels, out, 3, stride), nn.ReLU(), conv_norm(out, out, 3))
        self.skip = nn.Identity() if (channels, stride) == (out, 1) else conv_norm(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return torch.relu(self.body(x) + self.skip(x))


def resnet() -> nn.Module:
    """A stem, three residual blocks (the second with stride 2), global average pooling, one fully connected layer."""
    blocks = [Residual(16, 16, stride=1), Residual(16, 32, stride=2), Residual(32, 32, stride=1)]
    return nn.Sequential(conv_norm(1, 16, 3), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


class DetectionPooling(nn.Module):
    """128 pixels, 256 hidden ReLU neurons, 4x16 detection neurons max(0, wx + b); a score sums those of its class.

    The detection-pooling network of Montavon et al., Pattern Recognition 65 (2017), section 4, where every b is <= 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(128, 256), nn.ReLU())
        self.detect = nn.Sequential(nn.Linear(256, TARGETS * DETECTORS), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """The class scores, all >= 0."""
        return self.detect(self.features(x)).reshape(-1, TARGETS, DETECTORS).sum(2)


# ---------------------------------------------------------------- training


def nonpositive_biases(model: nn.Module) -> None:
    """Project onto b <= 0."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.clamp_(max=0)


def unconstrained(model: nn.Module) -> None:
    """Leave the parameters as the optimizer set them."""


def batches(data: Images, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order; an incomplete last batch is left out."""
    order = torch.randperm(len(data.label))
    for index in order[: len(order) // size * size].split(size):
        yield torch.from_numpy(data.image)[index], torch.from_numpy(data.label)[index]


def fit(
    build: Callable[[], nn.Module],
    data: Images,
    epochs: int,
    project: Callable[[nn.Module], None] = unconstrained,
    size: int = 64,
) -> nn.Module:
    """Build and train a network by cross-entropy, Adam, a one-cycle rate, `project` after each step."""
    torch.manual_seed(SEED)
    model = build()
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * (len(data.label) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    for _ in range(epochs):
        for image, label in batches(data, size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(image), label).backward()
            optimizer.step()
            schedule.step()
            project(model)
    return model.eval()


def fit_sklearn(data: Images) -> MLPClassifier:
    """scikit-learn's own multilayer perceptron, 64-96-10 with ReLU, on flat images."""
    model = MLPClassifier((96,), activation="relu", alpha=1e-3, max_iter=60, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stopped by max_iter, on purpose
        return model.fit(data.flat(), data.label)


# ---------------------------------------------------------------- export


def export_torchscript(model: nn.Module, example: np.ndarray, path: Path, output: str, **options: object) -> None:
    """torch.onnx.export(dynamo=False), dynamic batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this is PyTorch's old exporter, on purpose
        torch.onnx.export(
            model,
            (torch.from_numpy(example),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=[output],
            dynamic_axes={"image": {0: "batch"}, output: {0: "batch"}},
            **options,
        )


def export_unfolded(model: nn.Module, example: np.ndarray, path: Path) -> None:
    """With a Softmax behind it, and every BatchNormalization kept as a node of its own."""
    preserve = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    export_torchscript(nn.Sequential(model, nn.Softmax(1)).eval(), example, path, "probabilities", **preserve)


def export_dynamo(
    model: nn.Module, examples: Mapping[str, np.ndarray], path: Path, output: str, axes: Sequence[str] = ("batch",)
) -> None:
    """torch.onnx.export(dynamo=True), the first axes dynamic, weights inside; no stack traces, which name local files."""
    dynamic = {axis: torch.export.Dim(name) for axis, name in enumerate(axes)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, about its pytrees
        program = torch.onnx.export(
            model,
            tuple(map(torch.from_numpy, examples.values())),
            dynamo=True,
            verbose=False,
            input_names=[*examples],
            output_names=[output],
            dynamic_shapes=(dynamic,) * len(examples),
        )
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]
    onnx.save(proto, path)


def export_sklearn(model: MLPClassifier, path: Path) -> None:
    """skl2onnx with float input, and the label and probabilities as tensors (no ZipMap)."""
    proto = to_onnx(
        model,
        initial_types=[("image", FloatTensorType([None, 64]))],
        options={"zipmap": False},
        name=path.stem,
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    onnx.save(proto, path)


# ---------------------------------------------------------------- the collection


@dataclass(frozen=True)
class Recipe:
    """One model: what the README says about it, the inputs it is tested on, and how to write its file."""

    name: str
    what: str
    exporter: str
    test: Images
    write: Callable[[Path], None]


def recipes(train: Images, test: Images, train_pairs: Images, test_pairs: Images) -> list[Recipe]:
    """The five models."""
    old, new = (f"PyTorch {version('torch')}, `dynamo={flag}`" for flag in (False, True))
    one, two = test.image[:2], test_pairs.image[:2]
    return [
        Recipe(
            "digits_mlp.onnx",
            "multilayer perceptron with ReLU",
            old,
            test,
            lambda path: export_torchscript(fit(mlp, train, epochs=20), one, path, "logits"),
        ),
        Recipe(
            "digits_cnn.onnx",
            "convolutional network with max pooling",
            new,
            test,
            lambda path: export_dynamo(fit(cnn, train, epochs=20), {"image": one}, path, "logits"),
        ),
        Recipe(
            "digits_resnet.onnx",
            "residual network; BatchNormalization not folded, Softmax last",
            old,
            test,
            lambda path: export_unfolded(fit(resnet, train, epochs=10), one, path),
        ),
        Recipe(
            "digits_sklearn.onnx",
            "scikit-learn's `MLPClassifier`, on flat images",
            f"skl2onnx {version('skl2onnx')}",
            test,
            lambda path: export_sklearn(fit_sklearn(train), path),
        ),
        Recipe(
            "two_digits.onnx",
            "which of 0..3 stands beside a distractor 4..9; every bias <= 0, every score >= 0",
            new,
            test_pairs,
            lambda path: export_dynamo(
                fit(DetectionPooling, train_pairs, 10, nonpositive_biases), {"image": two}, path, "scores"
            ),
        ),
    ]


def save_samples(folder: Path, test: Images, test_pairs: Images) -> list[Path]:
    """Write the sample inputs; all test pairs as uint8 0..16 (the model sees image / 16), which is the smaller file."""
    arrays = {
        "digits_samples.npz": first_of_each_class(test, 2),
        "two_digits_samples.npz": first_of_each_class(test_pairs, 3),
        "two_digits_test.npz": Images((test_pairs.image * LEVELS).astype(np.uint8), test_pairs.label),
    }
    for name, data in arrays.items():
        np.savez_compressed(folder / name, image=data.image, label=data.label)
    return [folder / name for name in arrays]


# ---------------------------------------------------------------- report


def measure(path: Path, test: Images) -> float:
    """Accuracy of the ONNX file on `test`; its last output holds the class scores."""
    onnx.checker.check_model(path, full_check=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    scores = session.run(None, {source.name: test.image if len(source.shape) == 4 else test.flat()})[-1]
    return float((scores.argmax(1) == test.label).mean())


@dataclass(frozen=True)
class Card:
    """What the README's tables say about one model file, whose accuracy was measured on `tested` samples."""

    path: Path
    what: str
    exporter: str
    accuracy: float
    tested: int

    def summary(self) -> str:
        """A row of the first table."""
        weights = [w.dims for w in onnx.load(self.path).graph.initializer if w.data_type == onnx.TensorProto.FLOAT]
        accuracy = f"{self.accuracy:.2%} of {self.tested:,}"
        size = self.path.stat().st_size
        return f"| `{self.path.name}` | {self.what} | {accuracy} | {sum(map(math.prod, weights)):,} | {size:,} |"

    def details(self) -> str:
        """A row of the second table."""
        proto = onnx.load(self.path)
        opset = next(o.version for o in proto.opset_import if o.domain == "")
        counts = Counter(node.op_type for node in proto.graph.node)
        operators = ", ".join(op if n == 1 else f"{n} {op}" for op, n in counts.items())
        inputs, outputs = (", ".join(map(signature, values)) for values in (proto.graph.input, proto.graph.output))
        return f"| `{self.path.name}` | {self.exporter}, opset {opset} | {inputs} | {outputs} | {operators} |"


def signature(value: onnx.ValueInfoProto) -> str:
    """A graph input or output as `name` type [shape]."""
    tensor = value.type.tensor_type
    shape = ", ".join(d.dim_param or str(d.dim_value or "batch") for d in tensor.shape.dim)
    return f"`{value.name}` {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{shape}]"


def fingerprint(path: Path) -> str:
    """A row of the third table."""
    return f"| `{path.name}` | {path.stat().st_size:,} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |"


def tables(cards: list[Card], files: list[Path], script: str, packages: Sequence[str]) -> str:
    """The generated part of the README."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return "\n".join(
        [
            "| File | What it is | Test accuracy | Parameters | Bytes |",
            "|---|---|---|---:|---:|",
            *(card.summary() for card in cards),
            "",
            "| File | Exporter | Input | Outputs | Operators |",
            "|---|---|---|---|---|",
            *(card.details() for card in cards),
            "",
            "| File | Bytes | SHA-256 |",
            "|---|---:|---|",
            *map(fingerprint, files),
            "",
            f"Written by `scripts/{script}` with Python {platform.python_version()}, {versions}.",
            f"Measured with ONNX Runtime {ort.__version__} on the CPU.",
        ]
    )


# ---------------------------------------------------------------- main


def make(folder: Path) -> None:
    """Train, export and measure everything; write the samples and the README's tables."""
    train, test = digits()
    train = with_shifts(train)
    train_pairs, test_pairs = pairs(train, 20_000, seed=1), pairs(test, 1_000, seed=2)
    cards = []
    for recipe in recipes(train, test, train_pairs, test_pairs):
        path = folder / recipe.name
        recipe.write(path)
        accuracy = measure(path, recipe.test)
        cards.append(Card(path, recipe.what, recipe.exporter, accuracy, len(recipe.test.label)))
        print(f"{recipe.name:20} {accuracy:7.2%}", flush=True)
    files = [card.path for card in cards] + save_samples(folder, test, test_pairs)
    splice.splice(folder / "README.md", "tables", tables(cards, files, "train_models.py", PACKAGES))


def main() -> None:
    """Read the command line and make the models deterministically."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=MODELS, help="folder whose README.md is updated")
    folder = parser.parse_args().output
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        make(folder)


if __name__ == "__main__":
    main()
