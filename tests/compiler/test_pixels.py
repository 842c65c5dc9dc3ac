"""Models that take pixels as bytes and scale them inside, against the same models with a float input.

What comes behind the Cast (or DequantizeLinear) is the same, so the relevance must be, bit for bit; it is float32.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from galleries import filled
from nets import eighths, model, node
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import ModelError, RequestError, Unsupported
from onnxdtd.study.presenter import Presenter

PRESETS = ["dtd", "dtd-z", "lrp-epsilon", "lrp-alpha2beta1", "gradient", "gradient-x-input"]
CPU = ["CPUExecutionProvider"]


def net(entry: str) -> ModelProto:
    """Pixels [n, 3, 6, 5], channels last where they are transposed, to three classes."""
    rng = np.random.default_rng(0)
    nodes = {
        "cast": [node("Cast", "x", "f", to=TensorProto.FLOAT), node("Div", "f most", "s")],
        "transposed": [
            node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
            node("Cast", "t", "f", to=TensorProto.FLOAT),
            node("Div", "f most", "s"),
        ],
        "dequantised": [node("DequantizeLinear", "x scale zero", "s")],
    }[entry]
    nodes += [node("Conv", "s w b", "c"), node("Relu", "c", "r"), node("Flatten", "r", "flat"), node("Gemm", "flat v", "y")]
    weights = {"most": np.float32(255), "scale": np.float32(1 / 64), "zero": np.uint8(128)}
    weights |= {"w": eighths(rng, 4, 3, 2, 2), "b": eighths(rng, 4), "v": eighths(rng, 80, 3)}
    used = {name for made in nodes for name in made.input}
    shape = ["n", 6, 5, 3] if entry == "transposed" else ["n", 3, 6, 5]
    graph = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def twin(entry: str) -> ModelProto:
    """The same with a float input. What a byte stands for where it is dequantised: (x − 128) / 64."""
    proto = net(entry)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    if entry == "dequantised":
        proto.graph.node[0].CopyFrom(node("Identity", "x", "s"))
    return proto


def pixels(entry: str, count: int = 3) -> np.ndarray:
    shape = (6, 5, 3) if entry == "transposed" else (3, 6, 5)
    return np.random.default_rng(1).integers(0, 256, (count, *shape)).astype(np.uint8)


def explained(proto: ModelProto, x: np.ndarray, preset: str, **options: float) -> onnxdtd.Explanation:
    compiled = onnxdtd.compile(proto, preset, **options)
    onnx.checker.check_model(compiled, full_check=True)
    return onnxdtd.Explainer(compiled, CPU)(x)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("entry", ["cast", "transposed", "dequantised"])
def test_pixels(entry: str, preset: str) -> None:
    """Their bounds are 0 and 255, unless others are given."""
    x = pixels(entry)
    real = (x.astype(np.float32) - 128) / 64 if entry == "dequantised" else x.astype(np.float32)
    low, high = (-2, 127 / 64) if entry == "dequantised" else (0, 255)
    found, expected = explained(net(entry), x, preset), explained(twin(entry), real, preset, low=low, high=high)
    np.testing.assert_array_equal(found.outputs["y"], expected.outputs["y"])
    assert (found.relevance["x"].dtype, found.relevance["x"].shape) == (np.float32, x.shape)
    if (entry, preset) == ("dequantised", "gradient-x-input"):
        g = explained(net(entry), x, "gradient").relevance["x"]
        np.testing.assert_array_equal(found.relevance["x"], x * g)
        return
    np.testing.assert_array_equal(found.relevance["x"], expected.relevance["x"])
    assert found.relevance["x"].any()


def test_bounds() -> None:
    x = pixels("cast") // 4 + 60
    found = explained(net("cast"), x, "dtd", low=50, high=130).relevance["x"]
    expected = explained(twin("cast"), x, "dtd", low=50, high=130).relevance["x"]
    np.testing.assert_array_equal(found, expected)
    assert (found != explained(net("cast"), x, "dtd").relevance["x"]).any()
    assert read_metadata(onnxdtd.compile(net("cast")))["bounds"] == {"low": 0.0, "high": 255.0}
    for low, high in ((-1, 255), (0, 256), (0, 0.5)):
        with pytest.raises(RequestError, match="bounds are integers from 0 to 255"):
            onnxdtd.compile(net("cast"), low=low, high=high)


def test_arrays_of_floats_are_rounded() -> None:
    """Pixels that were scaled and scaled back are a little off; what is no byte is refused."""
    x = pixels("cast")
    explainer = onnxdtd.Explainer(onnxdtd.compile(net("cast")), CPU)
    expected = explainer(x).relevance["x"]
    np.testing.assert_array_equal(explainer(x / 255.0 * 255.0).relevance["x"], expected)
    np.testing.assert_array_equal(explainer(x - 1e-4).relevance["x"], expected)
    for wrong in (x - 300.0, x + 300.0, np.where(x, np.nan, 0.0)):
        with pytest.raises(RequestError, match="takes uint8"):
            explainer(wrong)


@pytest.mark.parametrize("entry", ["cast", "transposed"])
def test_pictures(entry: str, tmp_path: Path) -> None:
    """No need to say how they are scaled."""
    x = pixels(entry, 1)
    image = x[0] if entry == "transposed" else x[0].transpose(1, 2, 0)
    Image.fromarray(image).save(tmp_path / "image.png")
    job = Presenter(onnxdtd.Explainer(onnxdtd.compile(net(entry)), CPU))
    results = filled(job, tmp_path / "out", [tmp_path / "image.png"]).results
    expected = explained(net(entry), x, "dtd").relevance["x"]
    assert results[0].relevance_sum == pytest.approx(expected.sum(dtype=np.float64), rel=1e-6)
    assert (tmp_path / "out/image.png").exists()


def test_a_float_input_goes_first() -> None:
    """Bytes beside it are a mask or the like."""
    nodes = [node("Cast", "m", "f", to=TensorProto.FLOAT), node("Mul", "x f", "h"), node("MatMul", "h w", "y")]
    proto = model(nodes, {"x": ["n", 4], "m": ["n", 4]}, ["y"], {"w": eighths(np.random.default_rng(0), 4, 3)})
    proto.graph.input[1].type.tensor_type.elem_type = TensorProto.UINT8
    compiled = onnxdtd.compile(proto, "lrp-epsilon")
    assert [o.name for o in compiled.graph.output] == ["y", "relevance", "logit"]


def test_arithmetic_with_integers_is_refused() -> None:
    proto = net("cast")
    proto.graph.node.insert(0, node("Cast", "x", "i", to=TensorProto.INT32))
    proto.graph.node.insert(1, node("Add", "i one", "j"))
    proto.graph.node[2].input[0] = "j"
    proto.graph.initializer.append(numpy_helper.from_array(np.int32(1), "one"))
    with pytest.raises(Unsupported, match=r"Add .*it computes with integers"):
        onnxdtd.compile(proto)


def test_truth_values_are_no_pixels() -> None:
    proto = net("cast")
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.BOOL
    with pytest.raises(ModelError, match="no input of numbers or ids"):
        onnxdtd.compile(proto)
