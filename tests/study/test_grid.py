"""The presets that a search tries, as files and on layers."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, form, model, node

import onnxdtd
from onnxdtd.compiler.compile import prepare
from onnxdtd.contract import read_metadata
from onnxdtd.method.preset import LayerFacts
from onnxdtd.request import Request
from onnxdtd.study.grid import above_the_middle, grid


def net(shape: Any = ("n", 2, 6, 6)) -> onnx.ModelProto:
    """Convolutions whose names mean something to a glob, a scale on its own, a sum, and a dense layer."""
    rng = np.random.default_rng(1)
    nodes = [
        node("Conv", "x k0", "a[0]", pads=[1, 1, 1, 1]),
        node("Relu", "a[0]", "r0"),
        node("Mul", "r0 scale", "s"),
        node("Conv", "s k1", "a[1]", pads=[1, 1, 1, 1]),
        node("Add", "a[1] s", "sum"),
        node("Relu", "sum", "r1"),
        node("Conv", "r1 k2", "a[2]", pads=[1, 1, 1, 1]),
        node("Relu", "a[2]", "r2"),
        node("ReduceMean", "r2", "m", axes=[2, 3], keepdims=0),
        node("MatMul", "m v", "y"),
    ]
    weights = {f"k{i}": eighths(rng, 3, 2 if i == 0 else 3, 3, 3) for i in range(3)}
    weights |= {"v": eighths(rng, 3, 4), "scale": np.full([1, 3, 1, 1], 0.5, np.float32)}
    return model(nodes, {"x": shape}, ["y"], weights)


@pytest.mark.parametrize("bounds", [{}, {"low": 0.0, "high": 1.0}], ids=["open", "bounded"])
def test_the_file_of_each_gives_each_layer_the_rule_that_its_name_says(bounds: dict[str, Any], tmp_path: Path) -> None:
    candidates = grid(prepare(net(), Request(preset="lrp-epsilon", **bounds)).plan, form((2, 6, 6), channel=0), (2, 6, 6))
    assert len({c.title for c in candidates}) == len(candidates) > 30
    first = "zB" if bounds else "w2"
    (found,) = (c for c in candidates if c.title == f"{first} → γ 0.1 → ε")
    (tmp_path / "a.toml").write_text(found.text, encoding="utf-8")
    rules = read_metadata(onnxdtd.compile(net(), tmp_path / "a.toml", **bounds))["rules"]
    gamma, epsilon, names = "gamma(gamma=0.1)", "epsilon(epsilon=1e-06)", [f"a[{i}]_node" for i in range(3)]
    assert rules == {
        names[0]: first,
        "s_node": "flat",
        names[1]: gamma,
        "sum_node": gamma,
        names[2]: epsilon,
        "m_node": epsilon,
        "y_node": epsilon,
    }
    assert found.text.replace('"affine", rule = "flat"', '"affine", rule = "epsilon"').replace('ε"', 'ε (affine ε)"') in [
        c.text for c in candidates
    ]
    assert all(list(tomllib.loads(c.text)["preset"]) == ["tuned"] for c in candidates)


def test_candidates_that_come_to_the_same_are_tried_once() -> None:
    """Of one layer there is no upper half, and on a table no rule by weights alone."""
    one = model([node("MatMul", "x w", "y")], {"x": ["n", 6]}, ["y"], {"w": eighths(np.random.default_rng(0), 6, 3)})
    plan = prepare(one, Request(preset="lrp-epsilon")).plan
    assert [c.title for c in grid(plan, form((6,)), (6,))] == ["z+", "z+ else w2", "γ 0.1", "γ 0.25", "γ 1", "ε", "ε 0.25"]


def test_the_middle_is_counted_in_layers_with_weights() -> None:
    layer = lambda name, family: LayerFacts(name, "", family, name == "1", False)
    layers = [layer("1", "conv"), layer("+", "sum"), layer("2", "conv"), layer("3", "conv"), layer("*", "affine")]
    assert above_the_middle([*layers, layer("mean", "average")]) == ["3", "mean"]
    assert above_the_middle([*layers, layer("4", "dense")]) == ["3", "4"]
    assert above_the_middle(layers[:1]) == []
