"""A number a channel: which axis it goes along, and that every command takes it along that one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import FLOAT, form, model, node
from onnx import ModelProto
from typer.testing import CliRunner

import onnxdtd
from onnxdtd.cli.commands import app
from onnxdtd.contract import read_metadata
from onnxdtd.data.arrangement import arrangement
from onnxdtd.data.channels import spread
from onnxdtd.data.forms import recorded
from onnxdtd.data.read import drawn
from onnxdtd.errors import RequestError
from onnxdtd.study.perturb import filler, regions

Array = np.ndarray


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(FLOAT)


@pytest.mark.parametrize("electrodes", [6, 22])
def test_electrodes_are_drawn_as_traces(electrodes):
    """As the networks of EEG take them, [1, electrodes, time], whose first kernel is as wide as time is long."""
    weights = {"k": normal(2, 1, 1, 5), "w": normal(2, 3)}
    nodes = [
        node("Conv", "x k", "c"),
        node("GlobalAveragePool", "c", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "f w", "y"),
    ]
    source = model(nodes, {"x": ["n", 1, electrodes, 30]}, ["y"], weights)
    assert onnxdtd.inspect(source)["inputs"][0]["seen"] == f"{electrodes} channels x 30 steps"
    proto = onnxdtd.compile(source)
    facts = read_metadata(proto)
    assert facts["slides"] == {"x": [3]}
    shape = (1, electrodes, 30)
    drawn = arrangement(shape, recorded(facts, "x", ["n", *shape]).slides)
    assert (drawn.kind, drawn.of(np.zeros(shape)).shape) == ("traces", (electrodes, 30))
    del facts["slides"]  # a file of an older version
    assert recorded(facts, "x", ["n", *shape]).slides == (1, 2)


def test_numbers_along_an_axis():
    where = lambda numbers, sizes, channel=None: spread(numbers, sizes, channel, "low", 0).shape
    twelve = np.arange(12.0)
    assert where(twelve, ["n", 12, "t"], 1) == (1, 12, 1)
    assert where(twelve, ["n", "t", 12], 2) == (1, 1, 12)
    assert where(twelve, ["n", 12, 12], 2) == (1, 1, 12)
    assert where(twelve, ["n", 1, 12, 500], 1) == (1, 1, 12, 1), "a Conv over the leads themselves"
    assert where(twelve, ["n", 12, 500]) == (1, 12, 1), "of a flattened signal only one axis has twelve entries"
    assert where(twelve, [12, 12]) == (1, 12), "samples are no channels"
    assert where(twelve, ["n", "c", 12], 1) == (1, 12, 1)
    assert where(7, ["n", 12]) == where([7], ["n", 12]) == ()
    assert where(twelve[:, None], ["n", 12, 5]) == (12, 1)
    for sizes, channel, message in (
        (["n", 12, 12], None, "2 axes of that size"),
        (["n", 6, 12], 1, "12 values, one a channel, but 6 channels"),
        (["n", 6, 13], None, "no axis of that size"),
    ):
        with pytest.raises(RequestError, match=f"^low: .*{message}"):
            spread(twelve, sizes, channel, "low", 0)


# ---- in every command --------------------------------------------------------------------------------------------------


def classifier(kind: str) -> ModelProto:
    """Three classes of a signal with twelve leads, or of a picture with six bands: a Conv, Relu, mean, dense layer."""
    first, shape, kernel = {
        "leads first": ([], ["n", 12, 12], normal(4, 12, 3)),
        "leads last": ([node("Transpose", "x", "t", perm=[0, 2, 1])], ["n", 12, 12], normal(4, 12, 3)),
        "bands": ([], ["n", 6, 9, 9], normal(4, 6, 3, 3)),
    }[kind]
    nodes = [
        *first,
        node("Conv", f"{'t' if first else 'x'} k", "c"),
        node("Relu", "c", "r"),
        node("GlobalAveragePool", "r", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "f w", "y"),
    ]
    return model(nodes, {"x": shape}, ["y"], {"k": kernel, "w": normal(4, 3, seed=1)})


AXES = {"leads first": 1, "leads last": 2, "bands": 1}


@pytest.fixture(params=AXES)
def study(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Array, Array, Array]:
    """A model and data in this folder; the axis of its channels, the bounds of each, samples within them."""
    monkeypatch.chdir(tmp_path)
    proto, axis = classifier(request.param), AXES[request.param]
    onnx.save(proto, "net.onnx")
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    low = -np.arange(1.0, shape[axis - 1] + 1)
    high = 3 - low
    wide = [-1 if i == axis - 1 else 1 for i in range(len(shape))]
    x = np.random.default_rng(0).uniform(low.reshape(wide), high.reshape(wide), (6, *shape)).astype(FLOAT)
    np.savez("data.npz", x=x, label=np.arange(6) % 3)
    return axis, low, high, x


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def listed(numbers: Array) -> str:
    return ",".join(map(str, numbers))


def test_explain(study: tuple[int, Array, Array, Array]) -> None:
    """With one number a channel as with an array that says where the channels are; also the compiled file alone."""
    axis, low, high, x = study
    x = x[:1]
    np.savez("one.npz", x=x)
    wide = [-1 if i == axis else 1 for i in range(x.ndim)]
    expected = onnxdtd.Explainer(onnxdtd.compile("net.onnx", low=low.reshape(wide), high=high.reshape(wide)))(x).relevance["x"]
    bounds = ("--low", listed(low), "--high", listed(high))
    command("compile", "net.onnx", *bounds, "-o", "compiled.onnx")
    for model_, options in (("net.onnx", bounds), ("compiled.onnx", ())):
        command("explain", model_, "one.npz", *options, "-o", "out", "--save", "saved.npz")
        np.testing.assert_allclose(np.load("saved.npz")["relevance/x"], expected, rtol=1e-4, atol=1e-6)
    results = json.loads(Path("out/results.json").read_text())["samples"]
    assert len(list(Path("out").glob("*.png"))) == len(results) == 1
    assert not [flag for r in results for flag in r["flags"] if flag["code"] == "outside"]
    np.savez("far.npz", x=x + 200)
    command("explain", "compiled.onnx", "far.npz", "-o", "far")
    assert "outside" in Path("far/results.json").read_text()


def test_evaluate_and_audit(study: tuple[int, Array, Array, Array]) -> None:
    _, low, high, x = study
    bounds = ("--low", listed(low), "--high", listed(high), "--data", "data.npz", "--json", "--workers", "1")
    few = ("--preset", "dtd", "--preset", "sensitivity")
    for fill in ("low", "noise"):
        found = json.loads(command("evaluate", "net.onnx", *bounds, *few, "--steps", "3", "--fill", fill))
        assert found["models"][0]["samples"] == 6
        assert found["settings"]["low"] == low.tolist()
        assert (found["settings"].get("regions") == "stretches of 1 step of all channels") is (x.ndim == 3)
    found = json.loads(
        command("audit", "net.onnx", *bounds, *few[:2], "--samples", "3", "--neurons", "2", "--report", "page.html")
    )
    assert found["presets"][0]["preset"] == "dtd"
    assert not found["skipped"]
    assert command("verify", *compiled_with(bounds[:4]), "--source", "net.onnx", "--inputs", "data.npz")


def compiled_with(bounds: Sequence[str]) -> tuple[str]:
    command("compile", "net.onnx", *bounds, "-o", "compiled.onnx")
    return ("compiled.onnx",)


def test_a_picture_file_for_a_model_of_six_bands_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    onnx.save(classifier("bands"), "net.onnx")
    Image.new("RGB", (9, 9)).save("photo.png")
    result = CliRunner().invoke(app, ["explain", "net.onnx", "photo.png", "--low", "0", "--high", "1"])
    assert isinstance(result.exception, RequestError)
    assert "samples of [6, 9, 9]; give these as .npy or .npz" in str(result.exception)


def test_bytes_of_six_bands_take_the_bounds_of_each() -> None:
    low = np.arange(6.0)
    for shape, channel, wide in (((6, 4, 5), 0, (6, 1, 1)), ((4, 5, 6), 2, (6,))):
        like = form(shape, low, 2 * low + 1, channel=channel)
        found = like.numbers(np.full(shape, 255, np.uint8)) - like.numbers(np.zeros(shape, np.uint8))
        np.testing.assert_allclose(found, np.broadcast_to((low + 1).reshape(wide), shape))


def test_fills_go_along_the_channels() -> None:
    """Of twelve leads: each lead's mean, its bound; a stretch is one of all leads."""
    for shape, channel in (((12, 50), 0), ((50, 12), 1)):
        like = form(shape, np.arange(12.0), np.arange(12.0) + 7, channel=channel)
        x, rng = np.random.default_rng(0).normal(size=shape), np.random.default_rng(0)
        leads = lambda values, channel=channel: np.moveaxis(values, channel, 0)
        np.testing.assert_allclose(leads(filler("mean", x, 1, like, rng))[:, 7], leads(x).mean(axis=1))
        np.testing.assert_array_equal(leads(filler("low", x, 1, like, rng))[:, 3], np.arange(12.0))
        noise = leads(filler("noise", x, 1, like, rng))
        assert (noise.min(axis=1) >= np.arange(12)).all()
        assert (noise.max(axis=1) <= np.arange(12) + 7).all()
        places = leads(regions(like, shape, 5))
        assert (places == places[:1]).all()
        assert places[0].tolist() == [i // 5 for i in range(50)]


def test_random_inputs_lie_between_the_bounds_of_their_channel() -> None:
    low = np.arange(12.0)
    found = drawn(np.random.default_rng(0), (200, 12, 12), low.tolist(), (low + 1).tolist(), channel=2)
    np.testing.assert_array_equal(np.floor(found).min(axis=(0, 1)), low)
    np.testing.assert_array_equal(np.floor(found).max(axis=(0, 1)), low)


def test_a_picture_beside_a_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the picture has bytes and colours; explained with the vector as a constant it is what Python gives."""
    monkeypatch.chdir(tmp_path)
    nodes = [
        node("Conv", "image k", "c"),
        node("GlobalAveragePool", "c", "p"),
        node("Flatten", "p", "f"),
        node("Concat", "f clinical", "both", axis=1),
        node("MatMul", "both w", "y"),
    ]
    inputs = {"image": ["n", 3, 8, 8], "clinical": ["n", 2]}
    onnx.save(model(nodes, inputs, ["y"], {"k": normal(4, 3, 3, 3), "w": normal(6, 3, seed=1)}), "net.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8)
    clinical = normal(2, 2, seed=3)
    np.savez("data.npz", image=pixels, clinical=clinical)
    asked = ("--mean", "0.5,0.4,0.3", "--bgr", "--preset", "dtd")
    image = (pixels[:, ::-1] / 255 - np.reshape([0.5, 0.4, 0.3], (3, 1, 1))).astype(FLOAT)
    expected = onnxdtd.Explainer(
        onnxdtd.compile("net.onnx", "dtd", explain="image", preprocessing={"mean": [0.5, 0.4, 0.3], "colours": "bgr"})
    )({"image": image, "clinical": clinical})
    command("compile", "net.onnx", *asked, "--explain", "image", "-o", "compiled.onnx")
    command("explain", "compiled.onnx", "data.npz", "-o", "out", "--save", "saved.npz")
    np.testing.assert_allclose(np.load("saved.npz")["relevance/image"], expected.relevance["image"], rtol=1e-4, atol=1e-6)
    command("compile", "net.onnx", *asked, "-o", "both.onnx")
    explainer = onnxdtd.Explainer("both.onnx")
    forms = {name: recorded(explainer.metadata, name, explainer.inputs[name].shape) for name in explainer.inputs}
    assert forms["image"].is_bgr
    assert not forms["clinical"].is_bgr
    assert forms["clinical"].low is None
