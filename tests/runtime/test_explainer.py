"""Running compiled models: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from nets import Session, eighths, model, node
from onnx import ModelProto, TensorProto, helper

import onnxdtd
from onnxdtd import Explainer, Explanation
from onnxdtd.cells import rows
from onnxdtd.errors import ModelError, OnnxdtdError, RequestError
from onnxdtd.runtime.explainer import NO_RUNTIME, default_providers, session

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
BUNDLED = ("digits_mlp", "digits_cnn", "digits_resnet", "digits_sklearn", "two_digits")
CPU = ["CPUExecutionProvider"]


@cache
def compiled(name: str = "digits_cnn", target: int | str | None = "input") -> bytes:
    return onnxdtd.compile(MODELS / f"{name}.onnx", low=0, high=1, target=target).SerializeToString()


@cache
def samples(name: str = "digits_cnn") -> np.ndarray:
    with np.load(MODELS / ("two_digits_samples.npz" if name == "two_digits" else "digits_samples.npz")) as data:
        return data["image"].reshape(-1, 64) if name == "digits_sklearn" else data["image"]


def explainer(**options: Any) -> Explainer:
    return Explainer(compiled(**options), CPU)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return eighths(np.random.default_rng(seed), *shape)


def two_inputs() -> ModelProto:
    nodes = [node("Gemm", "a v", "h"), node("Gemm", "b w", "i"), node("Add", "h i", "y")]
    arrays = {"v": weights(4, 3), "w": weights(5, 3, seed=1)}
    return model(nodes, {"a": ["batch", 4], "b": ["batch", 5]}, ["y"], arrays)


@pytest.mark.parametrize("preset", ["dtd", "lrp-epsilon", "epsilon-alpha2beta1"])
def test_a_batch_of_any_size_is_laid_out_like_a_fixed_one(preset: str, tmp_path: Path) -> None:
    """ONNX Runtime leaves its blocked layout where it does not know that two shapes agree."""
    wide = {"c": weights(16, 3, 3, 3), "d": weights(16, 16, 3, 3, seed=1), "e": weights(16, 5, seed=2)}
    nodes = [
        *(node("Conv", "x c", "h", pads=[1] * 4), node("Relu", "h", "i"), node("MaxPool", "i", "p", kernel_shape=[2, 2])),
        *(node("Conv", "p d", "j", pads=[1] * 4), node("Relu", "j", "k"), node("Conv", "k d", "l"), node("Relu", "l", "m")),
        *(node("GlobalAveragePool", "m", "g"), node("Flatten", "g", "f"), node("MatMul", "f e", "y")),
    ]
    reorders = []
    for batch in ("batch", 2):
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{batch}.onnx")
        options.log_severity_level = 3
        proto = onnxdtd.compile(model(nodes, {"x": [batch, 3, 12, 12]}, ["y"], wide), preset, low=-1, high=1)
        ort.InferenceSession(proto.SerializeToString(), options, providers=CPU)
        reorders.append(sum(n.op_type.startswith("Reorder") for n in onnx.load(options.optimized_model_filepath).graph.node))
    assert reorders[0] == reorders[1]


# ------------------------------------------------------------------------------------------------------------- what it does


def test_path_bytes_and_proto(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(compiled())
    want = explainer()(samples()).relevance["image"]
    for source in (path, str(path), onnx.load(path)):
        np.testing.assert_array_equal(Explainer(source, CPU)(samples()).relevance["image"], want)


@pytest.mark.parametrize("name", BUNDLED)
def test_an_explanation_is_what_the_session_gives(name: str) -> None:
    x, proto = samples(name), onnx.load_model_from_string(compiled(name, None))
    (feed,) = (value.name for value in proto.graph.input)
    raw = Session(proto)(**{feed: x})
    result = explainer(name=name, target=None)(x)
    assert isinstance(result, Explanation)
    assert list(result.outputs) + ["relevance", "logit"] == list(raw)
    np.testing.assert_array_equal(result.logit, raw["logit"])
    np.testing.assert_array_equal(result.relevance[feed], raw["relevance"])
    for output, values in result.outputs.items():
        np.testing.assert_array_equal(values, raw[output])
    assert result.kept == {}


def test_relevance_starts_from_the_logit() -> None:
    """In two_digits.onnx, whose biases are all <= 0, none of it is lost, and none is negative."""
    result = explainer(name="two_digits")(samples("two_digits"))
    relevance = result.relevance["image"]
    np.testing.assert_allclose(relevance.sum((1, 2, 3)), result.outputs["scores"].max(1), rtol=1e-4)
    assert relevance.min() >= 0


def test_several_inputs_by_name() -> None:
    run = Explainer(onnxdtd.compile(two_inputs(), "lrp-0"), CPU)
    feeds = {"a": weights(2, 4, seed=2), "b": weights(2, 5, seed=3)}
    result = run(feeds)
    assert {name: values.shape for name, values in result.relevance.items()} == {"a": (2, 4), "b": (2, 5)}
    total = sum(values.sum(1) for values in result.relevance.values())
    np.testing.assert_allclose(total, result.outputs["y"].max(1), rtol=1e-5)
    np.testing.assert_array_equal(run(dict(reversed(feeds.items()))).relevance["b"], result.relevance["b"])
    with pytest.raises(RequestError, match="several inputs, give a data frame or a dictionary of a, b"):
        run(feeds["a"])
    with pytest.raises(RequestError, match=r"takes the inputs a, b, not a$"):
        run({"a": feeds["a"]})


def test_a_mapping_for_a_single_input() -> None:
    x = samples()
    np.testing.assert_array_equal(
        explainer()({"image": x}).relevance["image"], explainer()(x.tolist()).relevance["image"], strict=True
    )


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "int32", "bool", ">f4"])
def test_arrays_are_cast_to_what_the_model_takes(dtype: str) -> None:
    x = samples().round().astype(dtype)
    want = explainer()(x.astype(np.float32)).relevance["image"]
    np.testing.assert_array_equal(explainer()(x).relevance["image"], want, strict=True)


def test_float64_and_float16_models() -> None:
    for dtype in (np.float64, np.float16):
        arrays = {"w": weights(4, 3).astype(dtype)}
        proto = model([node("MatMul", "x w", "y")], {"x": ["batch", 4]}, ["y"], arrays, dtype=np.dtype(dtype))
        result = Explainer(onnxdtd.compile(proto, low=-1, high=1), CPU)(weights(2, 4, seed=1))
        assert result.relevance["x"].dtype == dtype
        assert result.relevance["x"].shape == (2, 4)


def test_arrays_that_are_not_contiguous() -> None:
    x = samples()
    turned = np.asfortranarray(x)[::-1]
    np.testing.assert_array_equal(
        explainer()(turned).relevance["image"], explainer()(np.ascontiguousarray(turned)).relevance["image"]
    )


def test_an_empty_batch() -> None:
    found = explainer()(samples()[:0])
    assert found.relevance["image"].shape == (0, 1, 8, 8)
    assert found.to_dataframe().shape == (0, 64 + 3)
    assert rows(np.zeros((0, 5, 3)), ["samples", "positions", "classes"], [2]).shape == (0, 3)


def test_kept_tensors() -> None:
    proto = onnxdtd.compile(MODELS / "digits_cnn.onnx", low=0, high=1, keep=["relu"])
    result = Explainer(proto, CPU)(samples())
    assert result.kept["relu"].shape == (20, 16, 8, 8)
    assert list(result.relevance) == ["image"]
    assert list(result.outputs) == ["logits"]


# ------------------------------------------------------------------------------------------------------------------ targets


def test_a_target_for_all_or_for_each() -> None:
    run, x = explainer(), samples()[:4]
    one = {target: run(x, target).relevance["image"] for target in (0, 3, 9)}
    np.testing.assert_array_equal(run(x, [3, 9, 0, 3]).relevance["image"], [one[t][i] for i, t in enumerate((3, 9, 0, 3))])
    np.testing.assert_array_equal(run(x, np.int64(3)).relevance["image"], one[3])
    np.testing.assert_array_equal(run(x, np.array([3])).relevance["image"], one[3])
    np.testing.assert_array_equal(run(x, (3,) * 4).relevance["image"], one[3])


def test_without_a_target_and_with_minus_one_the_arg_max_is_explained() -> None:
    run, x = explainer(), samples()
    predicted = run(x).outputs["logits"].argmax(1)
    want = run(x, predicted).relevance["image"]
    np.testing.assert_array_equal(run(x).relevance["image"], want)
    np.testing.assert_array_equal(run(x, -1).relevance["image"], want)
    mixed = predicted.copy()
    mixed[::2] = -1
    np.testing.assert_array_equal(run(x, mixed).relevance["image"], want)


@pytest.mark.parametrize(
    "target", [10, -2, [0, 10], 2**40, 2**70, [0, 1, 2], [[1], [2]], [], "foo", [None, 1], 2.5, np.nan], ids=str
)
def test_targets_that_are_none(target: Any, capfd: pytest.CaptureFixture[str]) -> None:
    run = explainer()
    with pytest.raises(RequestError, match="target"):
        run(samples()[:2], target)
    assert capfd.readouterr().err == "", "ONNX Runtime need not see it"


def test_three_targets_for_one_sample() -> None:
    """NumPy would repeat the sample."""
    proto = model([node("Gemm", "x w", "y")], {"x": ["batch", 4]}, ["y"], {"w": weights(4, 3)})
    with pytest.raises(RequestError, match="target"):
        Explainer(onnxdtd.compile(proto, low=-1, high=1, target="input"), CPU)(weights(1, 4, seed=1), [0, 1, 2])


@pytest.mark.parametrize("fixed", [3, "argmax"])
def test_a_fixed_target_is_fixed(fixed: int | str) -> None:
    run = explainer(target=fixed)
    assert list(run.inputs) == ["image"]
    run(samples())
    np.testing.assert_array_equal(
        run(samples(), -1 if fixed == "argmax" else fixed).relevance["image"], run(samples()).relevance["image"]
    )
    with pytest.raises(RequestError, match=f"explains {'the arg-max' if fixed == 'argmax' else 'class 3'}.*--target input"):
        run(samples(), 5)


# ------------------------------------------------------------------------------------------------------------- bad inputs


def nan(x: np.ndarray, value: float) -> np.ndarray:
    x = x.astype(np.float64)
    x[0, 0, 3, 3] = value
    return x


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda x: x[0], "shape|is .*the array given is"),
        (lambda x: x[..., :7], "the array given is"),
        (lambda x: x[:, 0], "the array given is"),
        (lambda x: x.reshape(-1, 64), "the array given is"),
        (lambda x: np.float32(1), "the array given is"),
        (lambda x: nan(x, np.nan), "NaN or infinite"),
        (lambda x: nan(x, np.inf), "NaN or infinite"),
        (lambda x: nan(x, -np.inf), "NaN or infinite"),
        (lambda x: nan(x, 1e300), "NaN or infinite"),
        (lambda x: x.astype(np.complex64), "complex64"),
        (lambda x: np.full(x.shape, "ink"), "not an array of"),
        (lambda x: np.full(x.shape, None), "not an array of|NaN"),
        (lambda x: [[1.0], [2.0, 3.0]], "image"),
        (lambda x: {}, "takes the inputs image, not none"),
        (lambda x: {"picture": x}, "takes the inputs image, not picture"),
        (lambda x: {"image": x, "target": np.array([1])}, "takes the inputs image, not image, target"),
    ],
)
def test_inputs_that_do_not_fit(make: Callable[[np.ndarray], Any], phrase: str, capfd: pytest.CaptureFixture[str]) -> None:
    run = explainer()
    with pytest.raises(RequestError, match=phrase):
        run(make(samples()))
    assert capfd.readouterr().err == "", "ONNX Runtime need not see it"


def test_a_message_names_input_and_shapes() -> None:
    with pytest.raises(RequestError) as caught:
        explainer()(np.zeros((1, 8, 8)))
    assert str(caught.value) == "the input 'image' is ['batch', 1, 8, 8], the array given is [1, 8, 8]"


# ------------------------------------------------------------------------------------------------------------- bad models


def test_what_the_runtime_has_against_an_input_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    """A Reshape to the length that PyTorch's older exporter has seen takes no other, whatever the model declares."""
    nodes = [node("Reshape", "x seen", "r"), node("MatMul", "r w", "y")]
    proto = model(nodes, {"x": ["n", "t"]}, ["y"], {"seen": np.array([-1, 4]), "w": np.eye(4, 3, dtype=np.float32)})
    with pytest.raises(RequestError, match=r"cannot run the model on this input: .*Reshape"):
        Explainer(onnxdtd.compile(proto, "lrp-epsilon"))(np.ones((1, 5), np.float32))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("source", "phrase"),
    [
        (MODELS / "digits_cnn.onnx", "not compiled by onnxdtd"),
        (MODELS / "missing.onnx", "missing.onnx"),
        (MODELS, "cannot load"),
        (b"", "cannot load"),
        (b"Dear runtime,", "cannot load"),
        (lambda: compiled()[:20000], "cannot load"),
    ],
)
def test_models_that_cannot_be_run(source: Any, phrase: str) -> None:
    source = source() if callable(source) else source
    with pytest.raises(ModelError, match=phrase):
        Explainer(source, CPU)


def test_an_unknown_provider() -> None:
    with pytest.raises(RequestError, match=r"no provider 'Abacus' here; there are .*CPUExecutionProvider"):
        Explainer(compiled(), ["Abacus"])


def test_providers_have_short_names() -> None:
    assert Explainer(compiled(), ["cpu"]).session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.skipif("CUDAExecutionProvider" not in ort.get_available_providers(), reason="this ONNX Runtime has no CUDA")
def test_a_provider_that_was_asked_for_is_used_or_refused() -> None:
    """ONNX Runtime itself falls back to the CPU with no more than a line on stderr."""
    outcome = "refused"
    with suppress(OnnxdtdError):
        outcome = Explainer(compiled(), ["CUDAExecutionProvider"]).session.get_providers()[0]
    assert outcome in ("refused", "CUDAExecutionProvider")


def test_providers_with_options() -> None:
    given = [("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})]
    found = Explainer(compiled(), given)(samples())
    np.testing.assert_array_equal(found.relevance["image"], Explainer(compiled(), CPU)(samples()).relevance["image"])
    with pytest.raises(RequestError, match="no provider 'Abacus'"):
        Explainer(compiled(), [("Abacus", {}), *CPU])


def test_cuda_computes_in_float32_unless_options_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def refuse(model: Any, options: Any, providers: Any) -> None:
        asked.append(providers)
        raise RuntimeError("no GPU")

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", *CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(ort, "InferenceSession", refuse)
    monkeypatch.setattr("ctypes.CDLL", lambda name: None)
    options = {"device_id": 1}
    for given in (None, ["CUDAExecutionProvider"], [("CUDAExecutionProvider", options)]):
        with pytest.raises(ModelError, match="no GPU"):
            Explainer(compiled(), given)
    exact = ("CUDAExecutionProvider", {"use_tf32": "0"})
    assert asked == [[exact, *CPU], [exact], [("CUDAExecutionProvider", options)]]


def test_what_cuda_lacks_is_told_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """NVIDIA's libraries are loaded from where pip puts them, only where CUDA is asked for; stdout is for results."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", *CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcudnn"), raising=False)
    Explainer(compiled(), CPU)
    assert capsys.readouterr() == ("", "")
    with suppress(OnnxdtdError):
        Explainer(compiled(), [("CUDAExecutionProvider", {"use_tf32": "0"}), *CPU])
    said = capsys.readouterr()
    assert (said.out, "Failed to load libcudnn" in said.err) == ("", True)


def test_the_default_providers_end_with_the_cpu() -> None:
    assert default_providers()[-1] == "CPUExecutionProvider"
    assert Explainer(compiled()).session.get_providers()


def test_the_cpu_alone_where_no_driver_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert default_providers() == CPU


# ---------------------------------------------------------------------------------------------------- what it brings along


def python(script: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("package", ["onnxdtd", "onnxdtd.runtime"])
def test_the_runtime_imports_nothing_of_the_compiler(package: str, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(compiled())
    np.save(tmp_path / "x.npy", samples())
    script = f"""
import sys, numpy
from {package} import Explainer
Explainer({str(tmp_path / "net.onnx")!r}, {CPU})(numpy.load({str(tmp_path / "x.npy")!r}), 3)
heavy = ("onnx", "onnx_graphsurgeon", "google", "matplotlib", "PIL", "typer", "rich")
print(*sorted(m for m in sys.modules if m.startswith("onnxdtd") or m.partition(".")[0] in heavy))
"""
    done = python(script)
    assert (done.stdout, done.stderr) == (
        "onnxdtd onnxdtd.bounded onnxdtd.cells onnxdtd.contract onnxdtd.errors onnxdtd.labels onnxdtd.runtime "
        "onnxdtd.runtime.classes onnxdtd.runtime.explainer onnxdtd.runtime.frame onnxdtd.runtime.kept\n",
        "",
    )


def test_the_room_gives_what_it_is_for() -> None:
    """And importing it takes neither a runtime nor the means to draw."""
    script = """
import sys
from onnxdtd.runtime import Explainer, Explanation, Ledger
print(*(m for m in ("onnx", "onnx_graphsurgeon", "onnxruntime", "matplotlib", "onnxdtd.compiler") if m in sys.modules))
"""
    done = python(script)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_without_onnx_runtime() -> None:
    """Compiling works all the same; running says what to install."""
    script = f"""
import sys
sys.modules["onnxruntime"] = None
import onnxdtd
model = onnxdtd.compile({str(MODELS / "digits_mlp.onnx")!r}, low=0, high=1)
try:
    onnxdtd.Explainer(model)
except onnxdtd.OnnxdtdError as error:
    print(error)
"""
    done = python(script)
    assert (done.stdout, done.stderr) == (NO_RUNTIME + "\n", "")
    for extra in ("onnxdtd[cpu]", "onnxdtd[gpu]"):
        assert extra in NO_RUNTIME


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("target", [None, "argmax", "optional"])
def test_plain_onnx_runtime_has_nothing_to_complain_about(
    name: str, target: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    """But that an optional input ``target``, where somebody wants it, has a default."""
    x = samples(name)

    def warnings(data: bytes) -> list[str]:
        capfd.readouterr()
        session = ort.InferenceSession(data, providers=CPU)
        session.run(None, {session.get_inputs()[0].name: x})
        return capfd.readouterr().err.splitlines()

    of_the_source = warnings((MODELS / f"{name}.onnx").read_bytes())
    new = warnings(compiled(name, target))
    about_target = [line for line in new if "Initializer target appears in graph inputs" in line]
    assert of_the_source == []
    assert len(about_target) == (target == "optional")
    assert not [line for line in new if line not in about_target and line not in ("", "\x1b[m")]


@pytest.mark.parametrize("name", BUNDLED)
def test_the_explainer_is_quiet(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    explainer(name=name)(samples(name), 1)
    assert capfd.readouterr() == ("", "")


def test_metadata() -> None:
    found = explainer().metadata
    assert found["version"] == onnxdtd.__version__
    assert found["relevance"] == {"image": "relevance"}
    assert found["classes"] == 10
    assert found["bounds"] == {"low": 0.0, "high": 1.0}
    assert found["target_input"] == "target"
    assert found["output"] == found["logits"] == "logits"


def test_other_metadata_is_left_alone() -> None:
    proto = onnx.load_model_from_string(compiled())
    proto.metadata_props.add(key="author", value="not JSON {")
    assert "author" not in Explainer(proto, CPU).metadata


def test_a_model_without_a_known_number_of_classes() -> None:
    """The number comes from another input, so no shape tells it."""
    nodes = [node("MatMul", "x w", "h"), node("Reshape", "h shape", "y")]
    proto = model(nodes, {"x": ["batch", 4]}, ["y"], {"w": weights(4, 6), "shape": np.array([-1, 3])})
    del proto.graph.initializer[1]
    proto.graph.input.append(helper.make_tensor_value_info("shape", TensorProto.INT64, [2]))
    for dim in proto.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    run = Explainer(onnxdtd.compile(proto, low=-1, high=1, target="input"), CPU)
    assert run.metadata["classes"] is None
    feeds = {"x": weights(2, 4), "shape": np.array([-1, 6])}
    result = run(feeds, 5)
    assert result.outputs["y"].shape == (2, 6)
    assert result.relevance["x"].shape == (2, 4)
    assert result.relevance["x"].any()
    with pytest.raises(RequestError, match="target"):
        run(feeds, -2)


def test_weights_of_large_models_are_not_copied_into_another_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whether they come as bytes or lie in a file; that gives the same relevance."""
    entry, data = "session.disable_prepacking", compiled()
    (tmp_path / "net.onnx").write_bytes(data)
    small = Explainer(data, CPU)
    monkeypatch.setattr("onnxdtd.runtime.explainer.LARGE", len(data) - 1)
    x = np.random.default_rng(0).normal(size=[2, *small.session.get_inputs()[0].shape[1:]]).astype(np.float32)
    with pytest.raises(RuntimeError, match="does not have"):
        small.session.get_session_options().get_session_config_entry(entry)
    for given in (data, onnx.load_from_string(data), tmp_path / "net.onnx", str(tmp_path / "net.onnx")):
        large = Explainer(given, CPU)
        assert large.session.get_session_options().get_session_config_entry(entry) == "1"
        (ours,), (theirs,) = large(x).relevance.values(), small(x).relevance.values()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * np.abs(theirs).max())


def beside(folder: Path) -> tuple[ModelProto, Path]:
    """A compiled model with its weights, 4,800 bytes, in a file of their own."""
    w = eighths(np.random.default_rng(1), 400, 3)
    proto = model([node("MatMul", "x w", "y")], {"x": ["n", 400]}, ["y"], {"w": w})
    onnx.save(proto, folder / "m.onnx", save_as_external_data=True, location="m.data")
    made = onnxdtd.compile(folder / "m.onnx", "gradient")
    onnxdtd.save(made, folder / "m.dtd.onnx", folder / "m.onnx")
    return made, folder / "m.dtd.onnx"


def test_external_weights_count_for_how_large_a_model_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, path = beside(tmp_path)
    files = {"compiled": path.stat().st_size, "weights": (tmp_path / "m.data").stat().st_size}
    given: list[tuple[Any, dict[str, Any]]] = [(path, {}), (made.SerializeToString(), {"folder": tmp_path})]
    assert files["weights"] == 4800
    for most, known in ((4800, "1"), (sum(files.values()), None)):
        monkeypatch.setattr("onnxdtd.runtime.explainer.LARGE", most)
        assert [disabled(Explainer(source, CPU, **where)) for source, where in given] == [known, known]


@pytest.mark.parametrize(("prepack", "entry"), [(False, "1"), (True, None), (None, None)])
def test_whether_weights_are_kept_in_a_second_form_can_be_said(prepack: bool | None, entry: str | None) -> None:
    asked = Explainer(compiled(), CPU, prepack=prepack)
    assert disabled(asked) == entry
    np.testing.assert_allclose(asked(samples()).relevance["image"], explainer()(samples()).relevance["image"], atol=1e-6)


@pytest.mark.parametrize("name", ["none.onnx", "none.ort"])
def test_a_file_that_is_not_there(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / name, str(tmp_path / name)):
        with pytest.raises(ModelError, match="no such file"):
            Explainer(path, CPU)


def kept(data: bytes, path: Path, **entries: str) -> Path:
    """What ONNX Runtime writes when it has loaded a model, in its own format or not; what is optimised only if not."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    if path.suffix == ".ort":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name, value in entries.items():
        options.add_session_config_entry(f"session.{name}", value)
    ort.InferenceSession(data, options, CPU)
    return path


def test_a_file_in_the_runtimes_own_format(tmp_path: Path) -> None:
    """It says all that the compiled one says, and is hardly larger; other commands say what it is."""
    path = kept(compiled(), tmp_path / "net.ort")
    for source in (path, str(path), path.read_bytes()):
        running = Explainer(source, CPU)
        assert running.metadata == explainer().metadata
        ours, theirs = running(samples(), 3).relevance["image"], explainer()(samples(), 3).relevance["image"]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
    assert path.stat().st_size < 1.6 * len(compiled())
    with pytest.raises(ModelError, match=r"net\.ort: is in ONNX Runtime's own format, which onnxdtd\.Explainer alone takes"):
        onnxdtd.verify(path)


PRIVATE = """
import sys
from onnxdtd import Explainer
def private():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
Explainer(sys.argv[1])
before = private()
kept = Explainer(sys.argv[2], prepack=False)
print(private() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_what_a_runtime_makes_of_weights_can_be_kept_in_a_file_and_mapped(tmp_path: Path) -> None:
    """W, and W⁺ that is made of it while loading, 2.4 MB each: in memory as a rule; or in a file that no session copies."""
    w = eighths(np.random.default_rng(1), 600, 1000)
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "i"), node("MatMul", "i v", "y")]
    proto = model(nodes, {"x": ["n", 600]}, ["y"], {"w": w, "v": weights(1000, 3)})
    data = onnxdtd.compile(proto, "dtd", low=-1, high=1).SerializeToString()
    (tmp_path / "net.onnx").write_bytes(data)
    own = {"name": "net.bin", "min_size_in_bytes": "1024"}
    entries = {f"optimized_model_external_initializers_{'file_' * (key == 'name')}{key}": value for key, value in own.items()}
    path = kept(data, tmp_path / "kept.onnx", disable_prepacking="1", **entries)
    x = weights(4, 600, seed=2)
    ours, theirs = (Explainer(file, CPU, prepack=False)(x).relevance["x"] for file in (path, tmp_path / "net.onnx"))
    np.testing.assert_array_equal(ours, theirs)
    (tmp_path / "first.onnx").write_bytes(compiled())
    command = [sys.executable, "-c", PRIVATE, tmp_path / "first.onnx"]
    ran = [subprocess.run([*command, file], check=True, capture_output=True) for file in (tmp_path / "net.onnx", path)]
    taken = [int(each.stdout) for each in ran]
    assert taken[0] > 2 * w.nbytes / 1024
    assert taken[1] < w.nbytes / 1024 / 2


def disabled(running: Explainer) -> str | None:
    """What the session was told of prepacking."""
    options = running.session.get_session_options()
    with suppress(RuntimeError):  # it has no such entry
        return str(options.get_session_config_entry("session.disable_prepacking"))
    return None


def test_who_hands_over_a_model_without_its_weights_is_told_to_say_where_they_lie(tmp_path: Path) -> None:
    compiled, _ = beside(tmp_path)
    with pytest.raises(ModelError, match=r"say where its weights lie: Explainer\(model, folder=\.\.\.\)"):
        Explainer(compiled)
    found = Explainer(compiled, folder=tmp_path)(np.ones([1, 400], np.float32))
    np.testing.assert_array_equal(found.outputs["y"], eighths(np.random.default_rng(1), 400, 3).sum(0, keepdims=True))


def test_a_locale_that_is_not_here() -> None:
    """What skl2onnx writes asks for one that small systems lack."""
    nodes = [
        helper.make_node("StringNormalizer", ["s"], ["t"], case_change_action="LOWER", locale="xx_XX.none"),
        helper.make_node("Size", ["t"], ["y"]),
    ]
    infos = [helper.make_tensor_value_info(*of) for of in (("s", TensorProto.STRING, ["n"]), ("y", TensorProto.INT64, []))]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", infos[:1], infos[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    with pytest.raises(ModelError, match=r"xx_XX\.none.*install that locale, or give .* such as C\.UTF-8"):
        session(proto, CPU)
