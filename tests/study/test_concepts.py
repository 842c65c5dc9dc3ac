"""The strongest channels of a layer and their heatmaps, as files, numbers and words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node
from typer.testing import CliRunner

import onnxdtd
from onnxdtd import Explainer, Request
from onnxdtd.cli.commands import app
from onnxdtd.errors import RequestError
from onnxdtd.study.presenter import Presenter

RNG = np.random.default_rng(21)
W, V, X = eighths(RNG, 6, 5), eighths(RNG, 5, 3), np.abs(eighths(RNG, 4, 6)) + 1
PLAIN = {"preset": "lrp-epsilon", "settings": ["*=z"], "target": 1}


def mlp(batch: Any = "n", skip: bool = False) -> onnx.ModelProto:
    """Two dense layers; ``skip``: another layer bypasses them."""
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "h"), node("MatMul", "h v", "z" if skip else "y")]
    weights = {"w": W, "v": V}
    if skip:
        nodes += [node("MatMul", "x u", "b"), node("Add", "z b", "y")]
        weights["u"] = eighths(np.random.default_rng(3), 6, 3)
    return model(nodes, {"x": [batch, 6]}, ["y"], weights)


def by_hand(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R of each channel, [5], and what it hands on, [5, 6]: x_i w_ij / z_j R_j by the z rule."""
    z = x.astype(np.float64) @ W
    hidden = np.maximum(z, 0) * V[:, 1]
    return hidden, np.where(z > 0, x[:, None] * W / np.where(z > 0, z, 1), 0).T * hidden[:, None]


@pytest.mark.parametrize("skip", [False, True], ids=["alone", "bypassed"])
@pytest.mark.parametrize(("batch", "asked"), [("n", PLAIN), (1, PLAIN), (2, PLAIN), ("n", {"preset": "attnlrp", "target": 1})])
def test_channels_and_heatmaps_by_hand(
    batch: Any, asked: Any, skip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches and one by one; what bypasses the tensor is not in them."""
    monkeypatch.setattr("onnxdtd.data.images.draw", lambda *args: None)
    np.save(tmp_path / "x.npy", X)
    onnx.save(mlp(batch, skip), tmp_path / "net.onnx")
    found = onnxdtd.explain(
        tmp_path / "net.onnx",
        [tmp_path / "x.npy"],
        Request(**asked),
        tmp_path / "out",
        concepts="h",
        top=3,
        save=tmp_path / "r.npz",
    )
    with np.load(tmp_path / "r.npz") as saved:
        channels, heatmaps = saved["channels/h"], saved["concepts/x"]
    assert channels.shape == (4, 3)
    for i, result in enumerate(found.results):
        relevance, handed = by_hand(X[i])
        order = np.argsort(-np.abs(relevance), kind="stable")[:3]
        assert channels[i].tolist() == order.tolist() == [c.channel for c in result.concepts]
        assert_near(heatmaps[i], handed[order], 2e-6)
        assert_near(np.asarray([c.relevance for c in result.concepts]), relevance[order], 1e-6)
        assert_near(np.asarray([c.share for c in result.concepts]), relevance[order] / np.abs(relevance).sum(), 1e-6)
    written = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))["samples"]
    assert written[0]["concepts"][0]["channel"] == channels[0, 0]
    assert written[0]["concepts"][0]["tensor"] == "h"


def test_a_compiled_file_with_mask_and_keep(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X[:1])
    onnxdtd.save(onnxdtd.compile(mlp(), **PLAIN, mask="h", keep="h"), tmp_path / "net.onnx")
    given = ["explain", str(tmp_path / "net.onnx"), str(tmp_path / "x.npz"), "-o", str(tmp_path / "out"), "--concepts", "h"]
    printed = CliRunner().invoke(app, [*given, "--top", "9"])
    assert printed.exit_code == 0, printed.output
    relevance, _ = by_hand(X[0])
    first = int(np.abs(relevance).argmax())
    assert f"channels {first} ({relevance[first] / np.abs(relevance).sum():.0%})" in " ".join(printed.stdout.split())
    (result,) = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))["samples"]
    assert len(result["concepts"]) == 5, "there are no more"


def test_the_first_of_a_class_is_drawn_with_its_concepts_and_what_is_found_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it turns out that others have the same heatmap."""
    drawn: list[Any] = []
    monkeypatch.setattr("onnxdtd.data.images.draw", lambda *args: drawn.append(args))
    onnx.save(mlp(), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", np.stack([X[0], X[0] * [1, 2, 1, 2, 1, 3]]))
    asked = Request(preset="lrp-epsilon", settings=["*=flat"], target=1)
    found = onnxdtd.explain(tmp_path / "net.onnx", [tmp_path / "x.npy"], asked, tmp_path / "out", concepts="h")
    assert ["same" in [flag.code for flag in r.flags] for r in found.results] == [True, True]
    assert [args[0].name for args in drawn] == ["x_000.png", "x_001.png"]


@pytest.mark.parametrize(
    ("options", "asked", "words"),
    [
        ({"mask": "h", "keep": "h"}, ("h", 0), "--top 0: give at least 1"),
        ({"mask": "h"}, ("h", 5), "compile the source model with --mask h --keep h"),
        ({"keep": "h"}, ("h", 5), "compile the source model with --mask h --keep h"),
        ({"mask": "h", "keep": "h", "preset": "gradient"}, ("h", 5), "'gradient' is a derivative"),
    ],
)
def test_refused(options: dict[str, Any], asked: tuple[str, int], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Presenter(Explainer(onnxdtd.compile(mlp(), **{"preset": "lrp-epsilon", **options})), concepts=asked)


@pytest.mark.parametrize("preset", ["integrated-gradients(steps=2)", "grad-cam"])
def test_a_derivative_is_refused_for_what_it_is(preset: str, tmp_path: Path) -> None:
    """Not for the mask or the relevance to keep that nobody asked for."""
    onnx.save(mlp(), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", X[:1])
    with pytest.raises(RequestError, match=r"--concepts: the preset .* is a derivative, .* lrp-epsilon for instance"):
        onnxdtd.explain(tmp_path / "net.onnx", [tmp_path / "x.npy"], Request(preset=preset), tmp_path / "out", concepts="h")
