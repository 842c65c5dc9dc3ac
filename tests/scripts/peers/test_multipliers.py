"""captum's DeepLift without its two faults is ours."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
import pytest
from nets import Session, assert_near, model, node

import onnxdtd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(importlib.util.find_spec, ("torch", "torchvision", "captum"))), reason="not installed"),
    pytest.mark.filterwarnings("ignore"),
]


def test_pools_with_windows_that_overlap_behind_a_relu() -> None:
    torch, agreement = importlib.import_module("torch"), importlib.import_module("agreement")
    multipliers: Any = importlib.import_module("multipliers")
    rng = np.random.default_rng(0)
    weights = {"k": rng.normal(size=(3, 2, 3, 3)), "b": rng.normal(size=3) / 4, "w": rng.normal(size=(27, 4))}
    nodes = [
        node("Conv", "x k b", "z", pads=[1] * 4),
        node("Relu", "z", "r"),
        node("MaxPool", "r", "p", kernel_shape=[3, 3], strides=[2, 2]),
        node("Flatten", "p", "f"),
        node("MatMul", "f w", "y"),
    ]
    proto = model(nodes, {"x": ["n", 2, 7, 7]}, ["y"], {name: value.astype(np.float32) for name, value in weights.items()})
    x = rng.normal(size=(8, 2, 7, 7)).astype(np.float32)
    ours = Session(onnxdtd.compile(proto, "deeplift-rescale", target=1))(x=x)
    rebuilt = agreement.Rebuilt(proto, "y", agreement.Added)
    mended = multipliers.by_deeplift(rebuilt, torch.tensor(x), 1, exact=True)
    assert_near(ours["relevance"], mended, 1e-5)
    assert_near(mended.sum((1, 2, 3)), ours["logit"] - ours["logit_at_baseline"], 1e-5)
