"""The real classifiers that ``ONNXDTD_ASSETS`` points to: how to feed each, and the bounds that its preprocessing implies."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(os.environ.get("ONNXDTD_ASSETS", ""))
MISSING = "ONNXDTD_ASSETS does not point to the folder of real classifiers" if not os.environ.get("ONNXDTD_ASSETS") else ""
COUNT = 20

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CIFAR = ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616])
CIFAR_VIT = ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])


@dataclass(frozen=True)
class Asset:
    """A classifier: where its inputs come from, what pixels 0 and 255 become, mean and deviation, order of the axes."""

    name: str
    data: str
    span: tuple[float, float] = (0.0, 1.0)
    mean: list[float] | float = 0.0
    std: list[float] | float = 1.0
    channels_last: bool = False
    bgr: bool = False
    dtype: type = np.float32

    @property
    def path(self) -> Path:
        return ROOT / "models" / f"{self.name}.onnx"

    @property
    def bounds(self) -> tuple[list[float] | float, list[float] | float]:
        """(range - mean) / std"""
        low, high = (((end - np.asarray(self.mean)) / np.asarray(self.std)).tolist() for end in self.span)
        return low, high

    def inputs(self) -> np.ndarray:
        """Up to 20 real inputs [n, ...] in the units and the type of the model."""
        raw = READERS[self.data]()
        if raw.dtype != np.uint8:
            return raw.astype(self.dtype)
        pixels = raw[..., ::-1] if self.bgr else raw
        low, high = (np.asarray(bound) for bound in self.bounds)
        scaled = low + pixels / 255.0 * (high - low)
        return (scaled if self.channels_last else np.moveaxis(scaled, -1, 1)).astype(self.dtype)


def _npz(name: str, key: str) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        array = np.load(ROOT / "data" / name)[key]
        picked = array[:: max(len(array) // COUNT, 1)][:COUNT]
        return picked[..., None] if picked.dtype == np.uint8 and picked.ndim == 3 else picked

    return read


@cache
def _photos() -> np.ndarray:
    found = []
    for file in sorted((ROOT / "images").glob("imagenet_*.jpg")):
        image = Image.open(file).convert("RGB")
        scale = 256 / min(image.size)
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
        left, top = ((side - 224) // 2 for side in image.size)
        found.append(np.asarray(image.crop((left, top, left + 224, top + 224))))
    photos = np.stack(found)
    photos.flags.writeable = False  # one array for all
    return photos


READERS: dict[str, Callable[[], np.ndarray]] = {
    "mnist": _npz("mnist_test_200.npz", "images"),
    "cifar": _npz("cifar10_test_100.npz", "images"),
    "shapes": _npz("shapes_50.npz", "images"),
    "iris": _npz("iris_150.npz", "x"),
    "handsign": _npz("handsign_keypoints_300.npz", "x"),
    "season": _npz("season_de_bilt_tempmax.npz", "x"),
    "photos": _photos,
}

ASSETS = [
    Asset("mnist_cnn_cntk", "mnist", (0, 255)),
    Asset("mnist_cnn_keras2onnx_nhwc", "mnist", channels_last=True),
    Asset("mnist_cnn_bn_pytorch", "mnist", mean=0.1307, std=0.3081),
    Asset("mnist_cnn_avgpool_pytorch", "mnist"),
    Asset("mnist_mlp_2x10_pytorch", "mnist"),
    Asset("cifar10_resnet2b_pytorch", "cifar", (0, 1), *CIFAR),
    Asset("cifar10_cnn_pytorch", "cifar", (-1, 1)),
    Asset("cifar10_cnn_tf2onnx_nhwc", "cifar", channels_last=True),
    Asset("shapes_cnn_pytorch_dynamic", "shapes"),
    Asset("iris_mlp_pytorch", "iris", (0, 8)),
    Asset("imagenet_squeezenet11_fp32", "photos", (0, 255), [103.939, 116.779, 123.68], bgr=True),
    Asset("imagenet_mobilenetv2_fp32", "photos", (0, 1), *IMAGENET),
    Asset("imagenet_mobilenetv2_int8", "photos", (0, 1), *IMAGENET),
    Asset("imagenet_squeezenet11_fp16_caffe2", "photos", (0, 255), [103.939, 116.779, 123.68], bgr=True, dtype=np.float16),
    Asset("cifar10_vit_pgd_pytorch", "cifar", (0, 1), *CIFAR_VIT),
    Asset("handsign_mlp_argmax_tflite2onnx", "handsign", (-1, 1)),
    Asset("season_conv1d_tf2onnx", "season", (-20, 50)),
]
