"""Which layers hold which weights, and that these are drawn anew and no others."""

from __future__ import annotations

import doctest
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import eighths, model, node, run
from onnx import TensorProto, numpy_helper

from onnxdtd.compiler.compile import prepare
from onnxdtd.request import Request
from onnxdtd.study.audit import randomise
from onnxdtd.study.audit.randomise import Weights, constants, layers, randomised, spread

RNG = np.random.default_rng(11)
MODELS = Path(__file__).resolve().parents[3] / "models"


def conv_net() -> onnx.ModelProto:
    """Preprocessing, a convolution with a BatchNormalization merged into it, one on its own, a dense layer."""
    weights: Mapping[str, Any] = {
        "centre": eighths(RNG, 2, 1, 1),
        "k": eighths(RNG, 30, 2, 3, 3),
        **{name: eighths(RNG, 30) for name in ("gamma", "beta", "mean", "gamma2", "beta2", "mean2")},
        "variance": eighths(RNG, 30, low=0.5, high=2),
        "variance2": eighths(RNG, 30, low=0.5, high=2),
        "w": eighths(RNG, 30, 5),
        "b": eighths(RNG, 5),
    }
    nodes = [
        node("Sub", "x centre", "centred"),
        node("Conv", "centred k", "a"),
        node("BatchNormalization", "a gamma beta mean variance", "n"),
        node("Relu", "n", "r"),
        node("BatchNormalization", "r gamma2 beta2 mean2 variance2", "m"),
        node("GlobalAveragePool", "m", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "f w", "z"),
        node("Add", "z b", "y"),
    ]
    return model(nodes, {"x": ["n", 2, 6, 6]}, ["y"], weights)


def found(proto: onnx.ModelProto, preset: str = "dtd") -> list[Weights]:
    return layers(prepare(proto, Request(preset=preset)))


def values(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {name: numpy_helper.to_array(tensor) for name, tensor in constants(proto).items()}


def changed(before: onnx.ModelProto, after: onnx.ModelProto) -> set[str]:
    old, new = values(before), values(after)
    assert old.keys() == new.keys()
    return {name for name in old if not np.array_equal(old[name], new[name])}


def test_layers_from_the_top_with_all_that_they_learned() -> None:
    """BatchNormalization's statistics and preprocessing were not learned by gradient descent and are left alone."""
    assert found(conv_net()) == [
        Weights("z_node", ("w", "b")),
        Weights("m_node", ("gamma2", "beta2")),
        Weights("a_node", ("k", "gamma", "beta")),
    ]


def test_only_what_was_chosen_changes() -> None:
    proto = conv_net()
    before = proto.SerializeToString(deterministic=True)
    top, middle, bottom = found(proto)
    for chosen, expected in (([top], {"w", "b"}), ([bottom], {"k", "gamma", "beta"}), ([], set())):
        assert changed(proto, randomised(proto, chosen, 0)) == expected
    assert changed(proto, randomised(proto, [top, middle, bottom], 0)) == {"w", "b", "gamma2", "beta2", "k", "gamma", "beta"}
    assert proto.SerializeToString(deterministic=True) == before


def test_result_is_a_valid_predictor() -> None:
    proto = conv_net()
    other = randomised(proto, found(proto), 0)
    onnx.checker.check_model(other, full_check=True)
    x = eighths(RNG, 3, 2, 6, 6)
    before, after = run(proto, x=x)["y"], run(other, x=x)["y"]
    assert np.isfinite(after).all()
    assert not np.allclose(before, after)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_moments_are_those_of_training(dtype: type) -> None:
    """A standard error of the mean is σ/√n, of the deviation σ/√2n; the draws keep within five."""
    w = (3 + 2 * RNG.normal(size=(200, 100))).astype(dtype)
    proto = model([node("MatMul", "x w", "y")], {"x": ["n", 200]}, ["y"], {"w": w}, np.dtype(dtype))
    drawn = values(randomised(proto, found(proto), 0))["w"]
    assert drawn.dtype == dtype
    wide, trained, error = drawn.astype(np.float64), w.astype(np.float64), 5 * w.astype(np.float64).std() / np.sqrt(w.size)
    assert abs(wide.mean() - trained.mean()) < error
    assert abs(wide.std() - trained.std()) < error / np.sqrt(2)
    assert abs(np.corrcoef(wide.ravel(), trained.ravel())[0, 1]) < 5 / np.sqrt(w.size)


def test_draws_depend_on_seed_and_name_alone() -> None:
    proto = conv_net()
    top, middle, bottom = found(proto)
    alone, together = values(randomised(proto, [bottom], 0)), values(randomised(proto, [bottom, middle, top], 0))
    for name in bottom.tensors:
        np.testing.assert_array_equal(alone[name], together[name])
    other = values(randomised(proto, [bottom], 1))
    assert all(not np.array_equal(alone[name], other[name]) for name in bottom.tensors)
    assert not np.allclose(together["gamma"], together["gamma2"])


def test_weights_behind_other_nodes() -> None:
    """Through Identity, Transpose and Reshape; in a Constant node; under a scale, which is a single number and stays."""
    nodes = [
        node("Identity", "w1", "w1a"),
        node("Transpose", "w1a", "w1b", perm=[1, 0]),
        node("Gemm", "x w1b", "a"),
        node("Relu", "a", "r"),
        node("Constant", "", "w2", value=numpy_helper.from_array(eighths(RNG, 12))),
        node("Reshape", "w2 shape", "w2a"),
        node("Mul", "w2a scale", "w2b"),
        node("MatMul", "r w2b", "y"),
    ]
    nodes[4].ClearField("input")
    weights = {"w1": eighths(RNG, 4, 6), "shape": np.asarray([4, 3]), "scale": np.asarray(0.5, np.float32)}
    proto = model(nodes, {"x": ["n", 6]}, ["y"], weights)
    assert found(proto) == [Weights("y_node", ("w2",)), Weights("a_node", ("w1",))]
    assert changed(proto, randomised(proto, found(proto)[:1], 0)) == {"w2"}
    x = eighths(RNG, 2, 6)
    assert not np.allclose(run(proto, x=x)["y"], run(randomised(proto, found(proto)[:1], 0), x=x)["y"])


def test_shared_weights_belong_to_both_layers() -> None:
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "r"), node("MatMul", "r w", "y")]
    proto = model(nodes, {"x": ["n", 3]}, ["y"], {"w": eighths(RNG, 3, 3)})
    top, bottom = found(proto)
    assert top.tensors == bottom.tensors == ("w",)
    np.testing.assert_array_equal(*(values(randomised(proto, chosen, 0))["w"] for chosen in ([top], [top, bottom])))


def test_weights_in_a_gate_are_a_layer() -> None:
    """No relevance passes there, and yet the heatmap depends on it."""
    nodes = [
        node("MatMul", "x g", "s"),
        node("Sigmoid", "s", "gate"),
        node("MatMul", "x w", "a"),
        node("Mul", "a gate", "y"),
    ]
    proto = model(nodes, {"x": ["n", 3]}, ["y"], {"w": eighths(RNG, 3, 4), "g": eighths(RNG, 3, 4)})
    assert found(proto) == [Weights("a_node", ("w",)), Weights("s_node", ("g",))]


def test_integers_stay_in_their_range() -> None:
    """The weights of a quantised layer, whose scales stay as they are."""
    w = RNG.integers(-128, 128, (40, 30)).astype(np.int8)
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("QLinearMatMul", "q scale zero w scale zero scale zero", "z"),
        node("DequantizeLinear", "z scale zero", "y"),
    ]
    weights = {"w": w, "scale": np.asarray(0.25, np.float32), "zero": np.asarray(0, np.int8)}
    proto = model(nodes, {"x": ["n", 40]}, ["y"], weights)
    assert found(proto, "lrp-epsilon") == [Weights("z_node", ("w",))]
    drawn = values(randomised(proto, found(proto, "lrp-epsilon"), 0))["w"]
    assert drawn.dtype == np.int8
    assert min((drawn == end).mean() for end in (-128, 127)) > 0.02, "cut off at the ends, not wrapped around"
    assert abs(drawn.mean() - w.mean()) < 20


@pytest.mark.parametrize("form", ["spelled", "to float", "inside"])
def test_weights_with_scales_found_as_they_run(form: str) -> None:
    """Those of a dynamically quantised layer, in the operators of a quantiser and of a runtime, and its biases."""
    held = {"w": RNG.integers(-127, 128, (6, 4)).astype(np.int8), "b": eighths(RNG, 4), "v": eighths(RNG, 4, 3)}
    held |= {"ws": np.asarray(0.25, np.float32), "wz": np.asarray(0, np.int8)}
    begin, end = node("DynamicQuantizeLinear", "x", "q s z"), node("MatMul", "h v", "y")
    fused = {"domain": "com.microsoft"}
    nodes = {
        "inside": [node("DynamicQuantizeMatMul", "x w ws wz b", "h", **fused)],
        "to float": [begin, node("MatMulIntegerToFloat", "q w s ws z wz b", "h", **fused)],
        "spelled": [
            begin,
            node("Mul", "s ws", "both"),
            node("MatMulInteger", "q w z wz", "i"),
            node("Cast", "i", "c", to=TensorProto.FLOAT),
            node("Mul", "c both", "m"),
            node("Add", "m b", "h"),
        ],
    }[form]
    read = {name for each in nodes for name in each.input} | {"v"}
    tensors = [numpy_helper.from_array(value, name) for name, value in held.items() if name in read]
    ends = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 6), ("y", 3))]
    graph = onnx.helper.make_graph([*nodes, end], "net", ends[:1], ends[1:], tensors)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    chosen = found(proto, "lrp-epsilon")
    assert {name for weights in chosen for name in weights.tensors} == {"w", "b", "v"}


def test_positions_of_a_quantised_table() -> None:
    """A table of integers is looked up and dequantised before it is added."""
    nodes = [
        node("Gather", "p at", "g"),
        node("DequantizeLinear", "g scale zero", "d"),
        node("MatMul", "x u", "h"),
        node("Add", "h d", "s"),
        node("Flatten", "s", "f"),
        node("MatMul", "f w", "y"),
    ]
    table = RNG.integers(0, 255, (5, 4)).astype(np.uint8)
    held = {"p": table, "at": np.array([0, 1, 2]), "scale": np.asarray(0.25, np.float32), "zero": np.asarray(9, np.uint8)}
    proto = model(nodes, {"x": ["n", 3, 4]}, ["y"], {**held, "w": eighths(RNG, 12, 2), "u": eighths(RNG, 4, 4)})
    assert found(proto) == [Weights("y_node", ("w",)), Weights("h_node", ("u", "p"))]


def test_external_weights(tmp_path: Path) -> None:
    proto = conv_net()
    chosen = found(proto)[:1]
    expected = values(randomised(proto, chosen, 0))
    path = tmp_path / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    bare = onnx.load(path, load_external_data=False)
    other = randomised(bare, chosen, 0, tmp_path)
    tensors = {tensor.name: tensor for tensor in other.graph.initializer}
    np.testing.assert_array_equal(numpy_helper.to_array(tensors["w"]), expected["w"])
    assert tensors["k"].data_location == TensorProto.EXTERNAL


def test_layers_of_a_bundled_model() -> None:
    assert [weights.tensors for weights in layers(prepare(MODELS / "digits_cnn.onnx", Request()))] == [
        ("9.weight", "9.bias"),
        ("7.weight", "7.bias"),
        ("3.weight", "3.bias"),
        ("0.weight", "0.bias"),
    ]


def test_a_number_alone_is_not_drawn() -> None:
    weights = {"s": np.asarray(2, np.float32), "w": eighths(RNG, 2, 2)}
    proto = model([node("Mul", "x s", "a"), node("MatMul", "a w", "y")], {"x": ["n", 2]}, ["y"], weights)
    assert found(proto) == [Weights("y_node", ("w",))]


def test_spread() -> None:
    many = [Weights(str(i), ()) for i in range(50)]
    places = spread(many, 12)
    assert len(places) == 12
    assert (places[0], places[-1]) == (0, 49)
    assert max(np.diff(places)) - min(np.diff(places)) <= 1
    assert spread(many[:3], 12) == [0, 1, 2]
    assert spread([], 12) == []
    failed, attempted = doctest.testmod(randomise)
    assert attempted
    assert not failed
