"""Train the classifier of tumours of models/, on a table, and write it as ONNX, with samples and the README's tables.

    python scripts/train_table.py [-o models]

Is a mass in the breast malignant or benign, by thirty measurements of the nuclei of its cells? The model is a pipeline of
scikit-learn: its scaler is inside of the file, which so takes what was measured, in its own units.
"""

import argparse
import csv
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import splice
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from train_models import MODELS, OPSET, SEED, Card, tables

SAMPLES = 6  # of each class in the small file
LABEL = "diagnosis"
PACKAGES = ("scikit-learn", "skl2onnx", "onnx", "numpy")


def fit(x: np.ndarray, label: np.ndarray) -> Pipeline:
    """Scaler and multilayer perceptron, 30-16-8-1 with ReLU"""
    network = MLPClassifier((16, 8), alpha=1.0, max_iter=1000, random_state=SEED)
    return make_pipeline(StandardScaler(), network).fit(x, label)


def write_model(model: Pipeline, path: Path, features: int) -> None:
    """By skl2onnx, label and probabilities as tensors."""
    proto = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, features]))],
        options={"zipmap": False},
        name=path.stem,
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    onnx.save(proto, path)


def write_rows(path: Path, names: Sequence[str], x: np.ndarray, label: np.ndarray) -> None:
    """A header, then a row a tumour, its diagnosis last."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([*names, LABEL])
        rows.writerows([*(f"{value:.6g}" for value in row), str(name)] for row, name in zip(x, label, strict=True))


def measure(path: Path, x: np.ndarray, label: np.ndarray) -> float:
    """Accuracy of the ONNX file."""
    onnx.checker.check_model(path, full_check=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {"features": x.astype(np.float32)})[0]
    return float((found == label).mean())


def make(folder: Path) -> None:
    """Train, export and measure; write samples and the README's tables."""
    data = load_breast_cancer()
    label = data.target_names[data.target].astype(object)
    x, tested, own, true = train_test_split(data.data, label, test_size=0.25, stratify=label, random_state=SEED)
    path = folder / "tumours.onnx"
    write_model(fit(x, own), path, x.shape[1])
    first = np.concatenate([np.flatnonzero(true == name)[:SAMPLES] for name in data.target_names])
    write_rows(folder / "tumours_samples.csv", data.feature_names, tested[first], true[first])
    write_rows(folder / "tumours_test.csv", data.feature_names, tested, true)
    accuracy = measure(path, tested, true)
    print(f"{path.name:20} {accuracy:7.2%}")
    what = "scikit-learn's `StandardScaler` and `MLPClassifier`: is a tumour malignant?"
    card = Card(path, what, f"skl2onnx {version('skl2onnx')}", accuracy, len(true))
    files = [path, folder / "tumours_samples.csv", folder / "tumours_test.csv"]
    splice.splice(folder / "README.md", "table", tables([card], files, Path(__file__).name, PACKAGES))


def main() -> None:
    """Read the command line and make the model deterministically."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=MODELS, help="folder whose README.md is updated")
    with threadpool_limits(1):
        make(parser.parse_args().output)


if __name__ == "__main__":
    main()
