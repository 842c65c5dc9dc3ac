"""DeepLIFT with everything that a request may ask for: what arrives is the difference of the score to that at the baseline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from classifiers import HALF, convolutional, dense, pictures
from nets import DOUBLE, FLOAT, Session, assert_near, model, node
from onnx import ModelProto, numpy_helper

import onnxdtd
from onnxdtd.errors import RuleError, Unsupported
from onnxdtd.study.checks import Check
from onnxdtd.study.verify import verify

Array = np.ndarray
PRESETS = ("deeplift-rescale", "deeplift-revealcancel", "deeplift-genomics")
OF_ALL = pytest.mark.parametrize("preset", PRESETS)


def explained(proto: ModelProto, preset: str, feeds: dict[str, Array], rtol: float = 1e-5, **options: Any) -> list[Array]:
    """The relevance of each input, all of which must be complete."""
    compiled = onnxdtd.compile(proto, preset, **options)
    found = Session(compiled)(**feeds)
    relevance = [value for name, value in found.items() if name.startswith("relevance")]
    total = sum(r.reshape(len(r), -1).astype(np.float64).sum(1) for r in relevance)
    size = sum(np.abs(r.reshape(len(r), -1).astype(np.float64)).sum(1) for r in relevance)
    difference = found["logit"].astype(np.float64) - found["logit_at_baseline"]
    assert (np.abs(total - difference) <= rtol * np.maximum(size, np.abs(difference))).all()
    return relevance


@OF_ALL
@pytest.mark.parametrize("dtype", [FLOAT, HALF], ids=str)
@pytest.mark.parametrize("baseline", ["zero", "mean", 0.5])
def test_nets(preset: str, dtype: np.dtype, baseline: object) -> None:
    explained(convolutional(dtype), preset, {"x": pictures(3, dtype)}, 1e-5 if dtype == FLOAT else 2e-2, baseline=baseline)


@OF_ALL
def test_the_lead_over_the_rest(preset: str) -> None:
    """--contrast rest is what others do who subtract the mean over the classes from the last weights, up to their number."""
    proto, x = dense(DOUBLE), pictures(2, DOUBLE)
    (found,) = explained(proto, preset, {"x": x}, target=2, contrast="rest")
    for tensor in proto.graph.initializer:
        if tensor.name in ("w", "wb"):
            value = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(value - value.mean(-1, keepdims=True), tensor.name))
    (expected,) = explained(proto, preset, {"x": x}, target=2)
    assert_near(found, expected * 5 / 4, 1e-9)
    explained(proto, preset, {"x": x}, contrast="runner-up")


@OF_ALL
def test_any_score(preset: str) -> None:
    """Of c z the relevance is that of the classes, times c."""
    proto, x = dense(DOUBLE), pictures(2, DOUBLE)
    c = np.tile(np.array([2.0, -1, 0, 0, 0]), (2, 1))
    (found,) = explained(proto, preset, {"x": x, "score": c}, target="score")
    (one,), (other,) = (explained(proto, preset, {"x": x}, target=k) for k in (0, 1))
    assert_near(found, 2 * one - other, 1e-9)


@OF_ALL
def test_several_inputs(preset: str) -> None:
    """A gate and a sum of both, each against a baseline of its own."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape).astype(FLOAT) for name, shape in (("u", (3, 4)), ("v", (2, 4)), ("w", (4, 3)))}
    nodes = [
        node("MatMul", "a u", "p"),
        node("Sigmoid", "p", "s"),
        node("MatMul", "b v", "q"),
        node("Mul", "s q", "m"),
        node("Add", "m p", "t"),
        node("Tanh", "t", "h"),
        node("MatMul", "h w", "y"),
    ]
    proto = model(nodes, {"a": ["n", 3], "b": ["n", 2]}, ["y"], weights)
    feeds = {"a": rng.normal(size=(4, 3)).astype(FLOAT), "b": rng.normal(size=(4, 2)).astype(FLOAT)}
    explained(proto, preset, feeds, baseline={"a": [0.5, -0.5, 0.0], "b": 0.25})


@OF_ALL
def test_ids(preset: str) -> None:
    """Of what they look up, against rows of zeros."""
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.normal(size=(9, 4)).astype(FLOAT),
        "g": np.ones(4, FLOAT),
        "w": rng.normal(size=(4, 3)).astype(FLOAT),
    }
    weights["k"] = rng.normal(size=(4, 4)).astype(FLOAT)
    nodes = [
        node("Gather", "table ids", "e"),
        node("MatMul", "e k", "z"),
        node("Relu", "z", "r"),
        node("Add", "r e", "s"),
        node("LayerNormalization", "s g", "n", epsilon=1.0),
        node("ReduceMean", "n", "p", axes=[1], keepdims=0),
        node("MatMul", "p w", "y"),
    ]
    weights = {name: value.astype(FLOAT) for name, value in weights.items()}
    proto = model(nodes, {"ids": ["n", 5]}, ["y"], weights, np.dtype(np.int64))
    explained(proto, preset, {"ids": np.array([[1, 4, 0, 8, 8], [2, 2, 3, 5, 7]])})


def sizes_at_the_baseline(proto: ModelProto) -> set[int]:
    """How many samples the layers have there, as far as that is known."""
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in inferred.graph.value_info}
    layers = [n for n in proto.graph.node if n.name.startswith("dtd/baseline/") and n.op_type in ("Conv", "MatMul", "Gemm")]
    return {shapes[n.output[0]][0].dim_value for n in layers if n.output[0] in shapes}


@OF_ALL
@pytest.mark.parametrize("net", [convolutional, dense], ids=["convolutional", "dense"])
def test_one_baseline_for_all_is_computed_once(preset: str, net: Any) -> None:
    """It is the same as one for each sample."""
    x, proto = pictures(3), net()
    compiled = {word: onnxdtd.compile(proto, preset, baseline=word, target=1) for word in ("zero", "input")}
    found = Session(compiled["zero"])(x=x)
    expected = Session(compiled["input"])(x=x, baseline=np.zeros_like(x))
    assert_near(found["relevance"], expected["relevance"], 2e-6)
    assert_near(found["logit_at_baseline"], expected["logit_at_baseline"], 1e-6)
    assert sizes_at_the_baseline(compiled["zero"]) == {1}
    assert 1 not in sizes_at_the_baseline(compiled["input"])


@pytest.mark.parametrize("shape", [[-1, 2], [1, -1, 2]], ids=str)
def test_samples_that_share_an_axis_have_each_their_own(shape: list[int]) -> None:
    """Rows of all samples one below the other cannot be compared with those of one."""
    rng = np.random.default_rng(0)
    weights = {"u": rng.normal(size=(2, 3)).astype(FLOAT), "w": rng.normal(size=(12, 3)).astype(FLOAT)}
    weights |= {"rows": np.array(shape), "whole": np.array([-1, 12])}
    nodes = [
        node("Reshape", "x rows", "r"),
        node("MatMul", "r u", "z"),
        node("Relu", "z", "h"),
        node("Reshape", "h whole", "f"),
        node("MatMul", "f w", "y"),
    ]
    proto = model(nodes, {"x": ["n", 4, 2]}, ["y"], weights)
    explained(proto, "deeplift-rescale", {"x": rng.normal(size=(3, 4, 2)).astype(FLOAT)}, target=0, baseline=0.5)


def test_quantised_models_are_refused() -> None:
    """Rounding takes a part of the difference that nobody has a share in."""
    grid = {"s": np.array(0.05, FLOAT), "z": np.array(0, np.int8), "w": np.ones((4, 2), FLOAT)}
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "r"), node("MatMul", "r w", "y")]
    proto = model(nodes, {"x": ["n", 4]}, ["y"], grid)
    onnxdtd.compile(proto, "gradient")
    with pytest.raises(Unsupported, match="its rounding takes a part of every difference"):
        onnxdtd.compile(proto, "deeplift-rescale")


def checked(tmp_path: Path, preset: str) -> Check:
    """What verify says of the sum, of a net with a max pool against one picture."""
    source, compiled = tmp_path / "net.onnx", tmp_path / "compiled.onnx"
    onnx.save(convolutional(), source)
    onnxdtd.save(onnxdtd.compile(source, preset, baseline=0.25), compiled)
    report = verify(compiled, source)
    assert report.passed, report.failed
    return next(check for check in report.checks if check.name == "complete")


def test_verify_holds_the_sum_against_the_difference(tmp_path: Path) -> None:
    assert checked(tmp_path, "deeplift-revealcancel").passed


def test_pools_by_the_winner_at_the_input_alone_lose_some(tmp_path: Path) -> None:
    """As in the library of the authors, where the baseline is not the same all over a window."""
    mine = tmp_path / "mine.toml"
    mine.write_text(
        "[preset.p]\nmethod = 'deeplift'\ntreatments = { route = 'winner' }\nlayers = [{ rule = 'gradient' }]\n",
        encoding="utf-8",
    )
    found = checked(tmp_path, str(mine))
    assert replace(found, finding="") == Check("complete", None, "")
    assert "not all that the score is more than at the baseline" in found.finding


def test_slopes_alone_do_not_add_up(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[preset.p]\nmethod = 'deeplift'\nfinish = 'g'\nlayers = [{ rule = 'gradient' }]\n", encoding="utf-8")
    assert replace(checked(tmp_path, str(mine)), finding="") == Check("complete", None, "")


@pytest.mark.parametrize("point", ["baseline", "root", "path"])
def test_differences_are_those_of_the_input(point: str, tmp_path: Path) -> None:
    """What lies between it and the baseline has others, and a batch of such points another size."""
    mine = tmp_path / "mine.toml"
    text = f"[preset.p]\nmethod = 'deeplift'\npoint = '{point}'\nlayers = [{{ rule = 'gradient' }}]\n"
    mine.write_text(text, encoding="utf-8")
    words = f"point is x where treatments share out differences to the baseline, not '{point}'"
    with pytest.raises(RuleError, match=words):
        onnxdtd.compile(convolutional(), mine)
