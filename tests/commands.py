"""What the tests of the command line share: bundled models and small ones, what they predict, what is compiled of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, numpy_helper, parser
from PIL import Image
from terminal import Ran

from onnxdtd.contract import Metadata, read_metadata

ROOT = Path(__file__).resolve().parents[1]

MODELS = ROOT / "models"

BOUNDS = ("--low", "0", "--high", "1")

CNN = MODELS / "digits_cnn.onnx"

SAMPLES = MODELS / "digits_samples.npz"


def digits() -> np.ndarray:
    with np.load(SAMPLES) as samples:
        return samples["image"]


def predict(model: Path | onnx.ModelProto, x: np.ndarray, names: Sequence[str] | None = None) -> list[np.ndarray]:
    """The outputs of a model by plain ONNX Runtime."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    loaded = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    session = ort.InferenceSession(loaded, options, providers=["CPUExecutionProvider"])
    return session.run(names and list(names), {session.get_inputs()[0].name: x})


def metadata(path: Path) -> Metadata:
    return read_metadata(onnx.load(path, load_external_data=False))


def model(body: str, signature: str, opset: str = '"" : 17', weights: str = "") -> onnx.ModelProto:
    return parser.parse_model(f"<ir_version: 8, opset_import: [{opset}]>\nnet {signature} {weights} {{ {body} }}")


def dense(inputs: int, classes: int, seed: int = 0, name: str = "w") -> TensorProto:
    values = np.random.default_rng(seed).normal(size=(inputs, classes))
    return numpy_helper.from_array(values.astype(np.float32), name)


def linear(inputs: int = 4, classes: int = 3, body: str = "y = MatMul(x, w)", opset: str = '"" : 17') -> onnx.ModelProto:
    """A layer with ``inputs`` features, after whatever else ``body`` does."""
    made = model(body, f"(float[batch,{inputs}] x) => (float[batch,{classes}] y)", opset)
    made.graph.initializer.append(dense(inputs, classes))
    return made


def rgb(height: int | str = 6, width: int | str = 8) -> onnx.ModelProto:
    """A classifier of colour pictures."""
    made = model(
        "f = Conv(x, k) g = GlobalAveragePool(f) h = Flatten(g) y = MatMul(h, w)",
        f"(float[batch,3,{height},{width}] x) => (float[batch,2] y)",
    )
    values = np.random.default_rng(1).normal(size=(5, 3, 3, 3)).astype(np.float32)
    made.graph.initializer.extend([numpy_helper.from_array(values, "k"), dense(5, 2)])
    return made


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with the hash of its bytes, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


# ---- compile ---------------------------------------------------------------------------------------------------------


def compiled(run: Callable[..., Ran], tmp_path: Path, *options: object, source: Path = CNN) -> Path:
    """A compiled model; every call writes another file."""
    out = tmp_path / f"compiled{len(list(tmp_path.iterdir()))}.onnx"
    done = run("compile", source, *options, "-o", out)
    assert done.code == 0, done.err
    return out


# ---- explain ---------------------------------------------------------------------------------------------------------


def picture(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path
