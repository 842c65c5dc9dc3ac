"""Resize where sizes are known at run time only."""

import numpy as np
from nets import Session, model, node
from onnx import TensorProto, helper

import onnxdtd


def test_photos_of_any_size() -> None:
    """Bytes, resized by factors that the model computes: of a linear net the gradient tells every change of the output."""
    sizes = {"to": np.array([6, 5]), "front": np.array([0]), "two": np.array([2]), "four": np.array([4])}
    constants = {"ones": np.ones(2, np.float32), "255": np.float32(255), "rows": np.array([0, 90])}
    weights = np.outer(np.arange(90) % 7 - 3, [1, -2]).astype(np.float32)
    nodes = [
        node("Cast", "x", "c", to=1),
        node("Div", "c 255", "d"),
        node("Shape", "x", "shape"),
        node("Slice", "shape two four", "hw"),
        node("Cast", "hw", "hwf", to=1),
        node("Cast", "to", "tof", to=1),
        node("Div", "tof hwf", "factors"),
        node("Concat", "ones factors", "scales", axis=0),
        node("Resize", "d _ scales", "r", mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
        node("Reshape", "r rows", "f"),
        node("MatMul", "f w", "y"),
    ]
    source = model(nodes, {"x": ["n", 3, "height", "width"]}, [], {**sizes, **constants, "w": weights})
    source.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    source.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2]))
    compiled = Session(onnxdtd.compile(source, "gradient", target=1))
    rng = np.random.default_rng(0)
    for height, width in ((9, 13), (6, 5), (4, 3)):
        a, b = rng.integers(0, 256, (2, 2, 3, height, width), np.uint8)
        slope, before, after = compiled(x=a)["relevance"], compiled(x=a)["y"], compiled(x=b)["y"]
        change = (slope.astype(np.float64) * (b.astype(np.float64) - a)).sum((1, 2, 3))
        np.testing.assert_allclose(change, (after - before)[:, 1], rtol=1e-4, atol=1e-4)
