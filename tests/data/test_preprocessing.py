"""How pictures become inputs: pixel by pixel as torchvision does it, or as the request says, and never otherwise."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from assets import IMAGENET, MISSING, ROOT
from hypothesis import given
from hypothesis import strategies as st
from nets import form, model, node
from onnx import numpy_helper
from PIL import Image

import onnxdtd
from onnxdtd.data.preprocessing import DEFAULTS, byte_ends, checked, place
from onnxdtd.data.read import samples
from onnxdtd.errors import RequestError
from onnxdtd.runtime.explainer import Explainer
from onnxdtd.study.presenter import Presenter
from onnxdtd.study.verify import _inputs, verify

MEAN, STD = IMAGENET
SIZES = [(256, 256), (301, 200), (200, 301), (57, 91), (640, 427), (225, 224), (13, 700)]  # width, height


def photo(folder: Path, size: tuple[int, int], mode: str = "RGB") -> Path:
    """Noise over large shapes, without loss."""
    width, height = size
    rng = np.random.default_rng(width)
    waves = np.sin(np.arange(width) / 9)[None, :, None] + np.cos(np.arange(height) / 7)[:, None, None] + np.arange(3) / 3
    pixels = np.clip(128 + 50 * waves + rng.normal(0, 25, (height, width, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(folder / "photo.png")
    return folder / "photo.png"


def read(path: Path, shape: list[int | str], **asked: Any) -> np.ndarray:
    (sample,) = samples(path, form(shape, 0, 255, **asked))
    return sample.x


# ------------------------------------------------------------------------------------------------------------ torchvision


@pytest.fixture(scope="module")
def transforms() -> ModuleType:
    pytest.importorskip("torch")
    import zoo

    try:
        with warnings.catch_warnings(action="ignore"):
            zoo.torchvision()
            from torchvision import transforms
    except ModuleNotFoundError:
        pytest.skip("no torchvision")
    return transforms


@pytest.mark.parametrize("side", [224, 299, 33])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_pixels_are_those_of_torchvision(size: tuple[int, int], side: int, transforms: ModuleType, tmp_path: Path) -> None:
    path = photo(tmp_path, size)
    theirs = transforms.Compose([transforms.Resize(int(side * 256 / 224)), transforms.CenterCrop(side)])
    with Image.open(path) as picture:
        want = np.asarray(theirs(picture))
    np.testing.assert_array_equal(read(path, [side, side, 3]), want)
    np.testing.assert_array_equal(read(path, [3, side, side]), np.moveaxis(want, -1, 0))


@pytest.mark.parametrize(("resize", "crop"), [(232, 224), (224, 224), ([100, 150], [96, 140]), (250, [200, 230])], ids=str)
def test_resize_and_crop_are_torchvisions(resize: Any, crop: Any, transforms: ModuleType, tmp_path: Path) -> None:
    """Also where the model's size is open, and where the picture has that size already."""
    for size in ((301, 240), (224, 224)):
        path = photo(tmp_path, size)
        if not isinstance(resize, list) and size == (224, 224) and crop == [200, 230]:
            resize = 260
        with Image.open(path) as picture:
            want = np.asarray(transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(crop)])(picture))
        height, width = crop if isinstance(crop, list) else (crop, crop)
        for shape in ([height, width, 3], ["h", "w", 3]):
            np.testing.assert_array_equal(read(path, shape, resize=resize, crop=crop), want)


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize(
    ("name", "options", "bgr"),
    [
        ("imagenet_mobilenetv2_fp32", {"range": [0, 1], "mean": MEAN, "std": STD}, False),
        ("imagenet_squeezenet11_fp32", {"range": [0, 255], "mean": [103.939, 116.779, 123.68], "colours": "bgr"}, True),
    ],
)
def test_a_photo_has_the_logits_of_torchvisions_transform(
    name: str, options: dict[str, Any], bgr: bool, transforms: ModuleType
) -> None:
    """Photographs as JPEG, the files that people have; the compiled file alone knows how they are read."""
    compiled = onnxdtd.compile(ROOT / "models" / f"{name}.onnx", preprocessing=options, target="argmax")
    job = Presenter(Explainer(compiled, ["CPUExecutionProvider"]))
    mean, std = options["mean"], options.get("std", [1.0] * 3)
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    for file in sorted((ROOT / "images").glob("imagenet_*.jpg"))[:4]:
        with Image.open(file) as picture:
            pixels = transforms.Compose(steps)(picture.convert("RGB")).numpy() * options["range"][1]
        pixels = pixels[::-1] if bgr else pixels
        x = ((pixels - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))).astype(np.float32)
        (sample,) = job.feeding.read(file)
        ours, theirs = (job.explainer(values[None]) for values in (sample.x, x))
        assert theirs.logit is not None
        assert np.abs(ours.logit - theirs.logit).max() <= 1e-2
        assert theirs.logit.min() > 1
        for tensor, scores in theirs.outputs.items():
            assert np.abs(ours.outputs[tensor] - scores).max() <= 1e-2


# --------------------------------------------------------------------------------------------------------------- the size


@pytest.mark.parametrize("shape", [[8, 8], [1, 28, 28], ["h", "w"], [3, "h", "w"], [28, 28, 3]], ids=str)
def test_pictures_of_the_models_size_stay_as_they_are(shape: list[Any], tmp_path: Path) -> None:
    side = next((size for size in shape if size in (8, 28)), 17)
    path = photo(tmp_path, (side, side), "RGB" if 3 in shape else "L")
    with Image.open(path) as picture:
        want = np.asarray(picture)
    np.testing.assert_array_equal(
        read(path, shape), np.moveaxis(want, -1, 0) if shape[0] == 3 else want.reshape(read(path, shape).shape)
    )


def test_none_is_left_out_by_crop_none(tmp_path: Path) -> None:
    path = photo(tmp_path, (300, 200))
    with Image.open(path) as picture:
        want = np.asarray(picture.resize((96, 64), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read(path, [64, 96, 3], crop="none"), want)
    np.testing.assert_array_equal(read(path, ["h", "w", 3], resize=[64, 96]), want)
    assert read(path, [3, "h", "w"], resize=100, crop="none").shape == (3, 100, 150)


@given(
    picture=st.tuples(st.integers(1, 600), st.integers(1, 600)),
    model_size=st.tuples(st.one_of(st.none(), st.integers(1, 300)), st.one_of(st.none(), st.integers(1, 300))),
)
def test_by_default_every_picture_fits(picture: tuple[int, int], model_size: tuple[int | None, int | None]) -> None:
    """What is cut out lies in the picture, in its middle, and has the model's size; proportions stay, to a pixel."""
    found = place(picture, model_size)
    for want, have, whole, start in zip(model_size, found.shape, found.size, (found.top, found.left), strict=True):
        assert want in (None, have)
        assert 0 <= start <= whole - have
        assert abs(2 * start - (whole - have)) <= 1
    (height, width), (tall, broad) = picture, found.size
    assert found.size == picture or broad == max(1, int(tall * width / height)) or tall == max(1, int(broad * height / width))


@pytest.mark.parametrize(
    ("picture", "model_size", "asked", "words"),
    [
        ((100, 200), (224, 224), {"resize": 200}, "smaller than what is cut out"),
        ((100, 200), (224, 224), {"resize": [224, 200]}, "smaller than what is cut out of it, 224x224"),
        ((100, 200), (224, 224), {"crop": [200, 200], "resize": 256}, "200x200 .* the model takes 224x224"),
        ((100, 200), (224, 200), {"crop": "none", "resize": 224}, "does not have the model's size, 200x224"),
        ((1, 60000), (224, 224), {}, "would be resized to 15360000x256, more pixels"),
    ],
)
def test_sizes_that_do_not_fit(picture: Any, model_size: Any, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        place(picture, model_size, DEFAULTS | asked)


# ------------------------------------------------------------------------------------------------------- what is asked for


def test_what_is_recorded() -> None:
    """All of it, as JSON has it; nothing where nothing is asked."""
    assert checked(None) is None
    assert checked({}) is None
    assert checked({"colours": "rgb", "mean": None}) is None
    assert checked({"mean": np.float32(0.5), "crop": 224}) == {**DEFAULTS, "mean": 0.5, "crop": [224, 224]}
    given = {"range": (0, 1), "mean": (0, 1, 2), "resize": np.int64(9), "colours": "bgr"}
    found = checked(given)
    assert found == {**DEFAULTS, "range": [0.0, 1.0], "mean": [0.0, 1.0, 2.0], "resize": 9, "colours": "bgr"}
    assert checked(found) == found


def test_bounds_of_the_preprocessing() -> None:
    assert byte_ends(None) == byte_ends(checked({"resize": 9})) == (None, None)
    assert byte_ends(checked({"mean": 0.5})) == (-0.5, 0.5)
    assert byte_ends(checked({"range": (0, 255), "mean": [1, 2], "std": 2})) == ([-0.5, -1.0], [127.0, 126.5])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scale": 1}, "unknown key 'scale'; there are range"),
        ({"mean": "grey"}, "mean 'grey' is neither"),
        ({"mean": [0, np.nan]}, "finite"),
        ({"std": [1, 0]}, "std must be positive"),
        ({"mean": [123.7, 116.3, 103.5]}, "mean .* is far outside of what pixels become first, 0 to 1: .*; divide mean"),
        (
            {"range": [0, 255], "mean": 0.5, "std": [0.2, 0.3, 0.2]},
            "std .* is next to nothing of what pixels become first, 0 to 255: .*; give range 0,1",
        ),
        ({"range": [1, 1]}, "give two numbers"),
        ({"range": 3}, "give two numbers"),
        ({"colours": "cmyk"}, "'rgb' or 'bgr'"),
        ({"resize": 0}, "give a number of pixels"),
        ({"resize": 10**20}, "give a number of pixels"),
        ({"resize": "none"}, "resize 'none'"),
        ({"crop": [1, 2, 3]}, "crop .* or 'none'"),
        ({"crop": 2.5}, "crop 2.5"),
        ({"mean": [0, 1], "std": [1, 1, 1]}, "different numbers of channels"),
    ],
    ids=str,
)
def test_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        byte_ends(checked(asked))


def picture_net(side: int | str = 8) -> Any:
    nodes = [node("Conv", "x k", "c"), node("GlobalAveragePool", "c", "p"), node("Flatten", "p", "y")]
    kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    return model(nodes, {"x": ["n", 3, side, side]}, ["y"], {"k": kernel})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preprocessing": {"mean": 0.5}, "low": 0, "high": 1}, "either low and high, or range"),
        ({"preprocessing": {"crop": 9}}, r"--crop 9x9 .*samples of \[3, 8, 8\]"),
        ({"preprocessing": {"resize": 7}}, "--resize 7: .*less than what is cut out"),
        ({"preprocessing": {"mean": [0, 1]}}, "2 values, one a channel, but 3 channels"),
    ],
    ids=str,
)
def test_preprocessing_that_does_not_fit_the_model(options: dict[str, Any], words: str) -> None:
    """Said when the model is compiled, not when the first picture comes."""
    with pytest.raises(RequestError, match=words):
        onnxdtd.compile(picture_net(), **options)


def test_verify_reads_a_photo_as_the_file_says(tmp_path: Path) -> None:
    asked = {"mean": [0.5, 0.4, 0.3], "colours": "bgr", "resize": [9, 11]}
    compiled = onnxdtd.compile(picture_net(), preprocessing=asked)
    onnx.save(picture_net(), tmp_path / "net.onnx")
    onnx.save(compiled, tmp_path / "compiled.onnx")
    path = photo(tmp_path, (40, 30))
    checks = verify(tmp_path / "compiled.onnx", tmp_path / "net.onnx", path).checks
    assert not [check for check in checks if check.passed is False]
    explainer = Explainer(compiled, ["CPUExecutionProvider"])
    ((feeds,), (sample,)) = (list(_inputs(explainer, None, path)), list(Presenter(explainer).feeding.read(path)))
    np.testing.assert_array_equal(feeds["x"][0], sample.x)
    with Image.open(path) as picture:
        small = np.asarray(picture.resize((11, 9), Image.Resampling.BILINEAR))[0:8, 2:10]
    want = np.moveaxis(small[..., ::-1] / 255, -1, 0) - np.reshape(asked["mean"], (3, 1, 1))
    np.testing.assert_allclose(sample.x, want, atol=1e-12)


def test_a_model_of_one_picture(tmp_path: Path) -> None:
    """Without an axis of samples: three colours are no samples, and the picture is read as for a batch of one."""
    front = [node("Unsqueeze", "x zero", "b"), node("Conv", "b k", "c"), node("GlobalAveragePool", "c", "p")]
    batch = picture_net()
    weights = {"k": numpy_helper.to_array(batch.graph.initializer[0]), "zero": np.array([0])}
    one = model([*front, node("Flatten", "p", "y")], {"x": [3, 8, 8]}, ["y"], weights)
    path = photo(tmp_path, (40, 30))
    asked = {"mean": [0.5, 0.4, 0.3], "colours": "bgr"}
    jobs = [Presenter(Explainer(onnxdtd.compile(net, preprocessing=asked), ["CPUExecutionProvider"])) for net in (one, batch)]
    (single, first), (many, second) = ((job, next(job.feeding.read(path))) for job in jobs)
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_allclose(single.explain(first)[1], many.explain(second)[1], atol=1e-6)
    assert single.feeding.form.channel == many.feeding.form.channel == 0


def test_preprocessing_of_what_is_no_picture() -> None:
    table = model([node("MatMul", "x w", "y")], {"x": ["n", 4]}, ["y"], {"w": np.eye(4, dtype=np.float32)})
    for asked in ({"resize": 9}, {"crop": "none"}):
        with pytest.raises(RequestError, match="--resize and --crop are for pictures"):
            onnxdtd.compile(table, preprocessing=asked)
    with pytest.raises(RequestError, match="no three channels"):
        onnxdtd.compile(table, preprocessing={"colours": "bgr"})
