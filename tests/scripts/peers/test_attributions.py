"""The script beside captum's gradient methods: it says the same where they do, sees what differs, and why."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from nets import model, node

NEEDED = ("torch", "torchvision", "zennit", "captum")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (the extra [peers])"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    """The script, which imports PyTorch and captum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("attributions")


@pytest.mark.parametrize("clip", [False, True])
def test_a_small_net(peers: ModuleType, clip: bool, tmp_path: Path) -> None:
    """A pooling, a residual sum, a Relu and what stands for one, which captum leaves its slope."""
    rng = np.random.default_rng(2)
    weights = {name: rng.normal(size=shape) for name, shape in (("w", (4, 3, 3, 3)), ("v", (4, 4, 3, 3)), ("u", (36, 3)))}
    weights |= {"low": np.zeros(()), "high": np.full((), 2.0)}
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", "x w", "c", **pads),
        node("Clip", "c low high", "r") if clip else node("Relu", "c", "r"),
        node("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "m v", "d", **pads),
        node("Add", "d m", "s"),
        node("Relu", "s", "a"),
        node("Flatten", "a", "f"),
        node("Gemm", "f u", "y"),
    ]
    proto = model(nodes, {"x": [1, 3, 6, 6]}, ["y"], {name: w.astype(np.float32) for name, w in weights.items()})
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    module = peers.Rebuilt(*peers.agreement.predictor(path), peers.agreement.Addition_Module)
    x = rng.normal(size=(1, 3, 6, 6)).astype(np.float32)
    subject = peers.Subject("net", path, x, -4.0, 4.0, module, module, module)
    rows = {peer.name: peers.compared(subject, peer) for peer in peers.PEERS}
    special = {"GuidedBackprop", "Deconvolution"} if clip else set()
    assert {name for name, row in rows.items() if row.difference > 1e-5} == special
    assert all(rows[name].capped < 1e-5 and rows[name].verdict.startswith("Clip; else") for name in special)
    wrong = replace(peers.PEERS[0], preset="deconvnet")
    assert peers.compared(subject, wrong).verdict == "DIFFERENT"
