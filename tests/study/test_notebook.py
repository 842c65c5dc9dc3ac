"""Pictures as a model takes them, and explanations drawn, from Python."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from nets import eighths, model, node
from onnx import ModelProto
from PIL import Image

import onnxdtd
from onnxdtd import Explainer, RequestError

CPU = ["CPUExecutionProvider"]
PREPROCESSING = {"range": [0.0, 1.0], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


def net(size: int | str = 8) -> ModelProto:
    weights = {"w": eighths(np.random.default_rng(0), 4, 3, 3, 3), "v": eighths(np.random.default_rng(1), 4, 3)}
    nodes = [node("Conv", "x w", "h"), node("Relu", "h", "r"), node("GlobalAveragePool", "r", "g"), node("Flatten", "g", "f")]
    return model([*nodes, node("MatMul", "f v", "y")], {"x": ["batch", 3, size, size]}, ["y"], weights)


@cache
def explainer(size: int | str = 8) -> Explainer:
    return Explainer(onnxdtd.compile(net(size), "lrp-epsilon", target="input", preprocessing=PREPROCESSING), CPU)


def picture(path: Path, width: int = 8, height: int = 8) -> Path:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_pictures_are_scaled_as_the_file_says(tmp_path: Path) -> None:
    files = [picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 40, 20)]
    with pytest.raises(RequestError, match="no pictures are given"):
        onnxdtd.load_images([], explainer())
    x = onnxdtd.load_images(files, explainer())
    assert (x.shape, x.dtype) == ((2, 3, 8, 8), np.float32)
    with Image.open(files[0]) as opened:
        np.testing.assert_allclose(x[0], (np.asarray(opened).transpose(2, 0, 1) / 255 - 0.5) / 0.25, atol=1e-6)
    np.testing.assert_array_equal(onnxdtd.load_images(tmp_path, explainer()), x)
    assert explainer()(x).relevance["x"].shape == x.shape


def test_pictures_of_several_sizes_are_no_array(tmp_path: Path) -> None:
    files = [picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 12, 9)]
    with pytest.raises(RequestError, match="differ in size"):
        onnxdtd.load_images(files, explainer("side"))
    assert onnxdtd.load_images(files[1], explainer("side")).shape == (1, 3, 9, 12)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("none")
    with pytest.raises(RequestError, match=r"a\.png: not a readable picture"):
        onnxdtd.load_images(tmp_path / "a.png", explainer())
    with pytest.raises(RequestError, match="no such file"):
        onnxdtd.load_images(tmp_path / "b.png", explainer())


def test_one_of_several_samples_is_drawn() -> None:
    x = np.random.default_rng(0).normal(size=(3, 3, 8, 8))
    figure = onnxdtd.draw(explainer(), x, target=2, sample=1, name="mine")
    title = figure.get_suptitle()
    assert title.startswith("mine: ")
    assert "explained: class 2" in title or "mine: class 2" in title
    found = explainer()(x[1:2], 2).relevance["x"][0].sum(0)
    drawn = [image.get_array() for axes in figure.axes for image in axes.images]
    assert any(array is not None and array.shape == found.shape and np.allclose(array, found) for array in drawn)
    with pytest.raises(RequestError, match="no sample 3 among 3"):
        onnxdtd.draw(explainer(), x, sample=3)
