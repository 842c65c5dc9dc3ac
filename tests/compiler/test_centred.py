"""What centres its input gives, pulled back at once, the derivative that its two parts give one by one."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import assert_near, eighths, model, node, run

from onnxdtd.compiler.centred import centred
from onnxdtd.compiler.compile import build, prepare
from onnxdtd.compiler.shortcuts import Situation
from onnxdtd.compiler.walk import SHORTCUTS
from onnxdtd.request import Request

RNG = np.random.default_rng(17)
X = eighths(RNG, 3, 4, 6)
NORMS = {
    "LayerNormalization": (node("LayerNormalization", "h g b", "z", axis=1), (4, 6)),
    **dict.fromkeys(["InstanceNormalization", "GroupNormalization"], (node("InstanceNormalization", "h g b", "z"), (4,))),
}


def net(norm: str) -> onnx.ModelProto:
    """A layer, a norm of what it gives, and a layer."""
    made, sizes = NORMS[norm]
    weights = {"w": eighths(RNG, 6, 6), "g": eighths(RNG, *sizes), "b": eighths(RNG, *sizes), "v": eighths(RNG, 24, 3)}
    weights["rows"] = np.asarray([-1, 24])
    nodes = [node("MatMul", "x w", "h"), made, node("Reshape", "z rows", "f"), node("MatMul", "f v", "y")]
    proto = model(nodes, {"x": ["n", 4, 6]}, ["y"], weights, opset=21)
    if norm == "GroupNormalization":  # of which onnx cannot infer the shape
        proto.graph.node[1].op_type = norm
        proto.graph.node[1].attribute.append(onnx.helper.make_attribute("num_groups", 2))
    return proto


@pytest.mark.parametrize("norm", NORMS)
def test_the_relevance_is_the_same(norm: str) -> None:
    prepared = prepare(net(norm), Request(preset="attnlrp", keep=["h"], ledger=True))
    whole, parts = (build(prepared, shortcuts=some) for some in (SHORTCUTS, ()))
    found, expected = run(whole, x=X), run(parts, x=X)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert_near(found[name], value, 1e-5)
    assert np.abs(expected["relevance"]).max() > 1e-2
    assert len(whole.graph.node) < len(parts.graph.node)


@pytest.mark.parametrize("preset", ["lrp-epsilon", "dtd", "attnlrp-epsilon"])
def test_not_where_a_rule_divides(preset: str) -> None:
    steps = prepare(net("LayerNormalization"), Request(preset=preset)).plan.steps
    assert any(step.layer is not None and step.layer.whole is not None for step in steps)
    assert centred(steps, Situation((), (), lambda _: False)) == list(steps)
