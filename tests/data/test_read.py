"""Reading inputs: every layout, every scaling, and its way back."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import form
from PIL import Image

from onnxdtd.data import pixels
from onnxdtd.data.forms import Form, Shape, colour_axis
from onnxdtd.data.read import batched, files, samples
from onnxdtd.errors import RequestError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
GRAY = PIXELS[..., 0]


def read(path: Path, shape: Shape | Form, low: Any = 0, high: Any = 1, **more: Any) -> list[np.ndarray]:
    like = shape if isinstance(shape, Form) else form(shape, low, high, **more)
    return [sample.x for sample in samples(path, like)]


def picture(folder: Path, pixels: np.ndarray = PIXELS, name: str = "shot.png", **options: Any) -> Path:
    Image.fromarray(pixels).save(folder / name, **options)
    return folder / name


# ---------------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ([3, 224, 224], 0),
        ([1, 28, 28], 0),
        ([4, 5, 5], 0),
        ([28, 28, 1], 2),
        ([224, 224, 3], 2),
        ([3, 3, 3], 0),
        (["c", "h", 3], 2),
        ([3, None, None], 0),
        ([28, 28], None),
        ([28], None),
        ([2, 28, 28], None),
        ([28, 28, 28], None),
        ([3, 8, 8, 8], None),
        ([], None),
    ],
)
def test_colour_axis(shape: Shape, axis: int | None) -> None:
    assert colour_axis(shape) == axis


@pytest.mark.parametrize("height", [6, "height", None])
@pytest.mark.parametrize("width", [8, "width", None])
def test_a_picture_in_every_layout(height: int | str | None, width: int | str | None, tmp_path: Path) -> None:
    """In its own size nothing is resampled, so the values are exact."""
    path = picture(tmp_path)
    (chw,) = read(path, [3, height, width])
    (hwc,) = read(path, [height, width, 3])
    np.testing.assert_array_equal(chw, np.moveaxis(PIXELS, -1, 0) / 255)
    np.testing.assert_array_equal(hwc, PIXELS / 255)
    gray = np.asarray(Image.fromarray(PIXELS).convert("L")) / 255
    np.testing.assert_array_equal(read(path, [1, height, width])[0], gray[None])
    np.testing.assert_array_equal(read(path, [height, width, 1])[0], gray[..., None])
    np.testing.assert_array_equal(read(path, [height, width])[0], gray)
    with_alpha = read(path, [4, height, width])[0]
    np.testing.assert_array_equal(with_alpha[:3], chw)
    assert (with_alpha[3] == 1).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_of_every_mode(mode: str, tmp_path: Path) -> None:
    name = "shot.tiff" if mode in ("CMYK", "F") else "shot.png"
    image = Image.fromarray(GRAY.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(GRAY).convert(mode)
    image.save(tmp_path / name)
    for shape in ([3, 6, 8], [1, 6, 8]):
        (x,) = read(tmp_path / name, shape)
        assert x.shape == tuple(shape)
        assert x.min() >= 0
        assert x.max() <= 1
        assert np.ptp(x) > 0.5, "not clipped to one end"


@pytest.mark.parametrize("size", [(8, 6), (80, 60), (120, 60), (80, 200), (4, 3)])
def test_pictures_of_another_size_are_covered_and_cut_to_the_centre(size: tuple[int, int], tmp_path: Path) -> None:
    """A red middle with blue margins above and below: margins that do not fit are cut away."""
    width, height = size
    scale = max(8 / width, 6 / height)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 2] = 255
    cut_y, cut_x = (height - 6 / scale) / 2, (width - 8 / scale) / 2
    inner = np.s_[int(np.ceil(cut_y)) : int(height - np.ceil(cut_y)), int(np.ceil(cut_x)) : int(width - np.ceil(cut_x))]
    pixels[inner] = (255, 0, 0)
    (x,) = read(picture(tmp_path, pixels), [3, 6, 8])
    assert x.shape == (3, 6, 8)
    assert x[0, 2:4, 3:5].min() > 0.9
    assert x[2, 2:4, 3:5].max() < 0.1


def test_the_camera_was_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown rotated by 90 degrees clockwise
    path = picture(tmp_path, exif=exif)
    (x,) = read(path, ["height", "width", 3])
    np.testing.assert_array_equal(x, np.rot90(PIXELS, -1) / 255)


# ---------------------------------------------------------------------------------------------------------------- scaling


def test_scaling() -> None:
    """Bounds are numbers, one a channel, or what broadcasts over a sample, with an axis of samples or without."""
    for low, high in ((0, 1), (-1, 1), ([-1, -2, -3], [1, 2, 3]), (np.array([[0.5]]), 7), (np.zeros((1, 3, 1, 1)), 1)):
        like = form((3, 1, 2), low, high)
        ends = like.numbers(np.array([[[0, 255]]] * 3, np.uint8))
        for i, bound in enumerate((low, high)):
            np.testing.assert_allclose(ends[:, 0, i], np.ravel(bound) * np.ones(3))
    each = form((3, 6, 8), np.zeros((3, 6, 8)), np.arange(1, 145).reshape(3, 6, 8))
    np.testing.assert_array_equal(each.numbers(np.full((3, 6, 8), 255, np.uint8)), np.arange(1, 145).reshape(3, 6, 8))
    assert form((3, 6, 8)).low is form((3, 6, 8), 0).low is form((3, 6, 8), None, 1).low is None


@given(
    pixels=st.lists(st.integers(0, 255), min_size=3, max_size=3),
    low=st.lists(st.floats(-200, 200), min_size=3, max_size=3),
    span=st.lists(st.floats(0.01, 300), min_size=3, max_size=3),
    colours=st.sampled_from(["rgb", "bgr"]),
    last=st.booleans(),
)
def test_shown_is_the_inverse_of_numbers(
    pixels: list[int], low: list[float], span: list[float], colours: str, last: bool
) -> None:
    shape = (1, 1, 3) if last else (3, 1, 1)
    like = form(shape, low, np.add(low, span), channel=2 if last else 0, colours=colours)
    picture = np.asarray(pixels, np.uint8).reshape(shape)
    np.testing.assert_allclose(like.shown(like.numbers(picture)), picture / 255, atol=1e-9)


def test_shown_stays_within_a_picture() -> None:
    np.testing.assert_array_equal(form((1, 3), -1, 1).shown(np.array([[-5.0, 0.0, 5.0]])), [[0, 0.5, 1]])


def test_bgr(tmp_path: Path) -> None:
    path = picture(tmp_path)
    low, high = [0, 10, 20], [1, 11, 21]
    (straight,) = read(path, [3, 6, 8], low, high)
    (turned,) = read(path, [3, 6, 8], low, high, colours="bgr")
    np.testing.assert_allclose(straight - np.reshape(low, (3, 1, 1)), np.moveaxis(PIXELS, -1, 0) / 255)
    np.testing.assert_allclose(turned - np.reshape(low, (3, 1, 1)), np.moveaxis(PIXELS[..., ::-1], -1, 0) / 255)
    with pytest.raises(RequestError, match=r"--bgr: .*no three channels"):
        form([1, 6, 8], 0, 1, colours="bgr")


# ----------------------------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("have", "shape"),
    [
        ((5, 3, 6, 8), [3, 6, 8]),
        ((3, 6, 8), [3, 6, 8]),
        ((5, 6, 8, 3), [3, 6, 8]),
        ((6, 8, 3), [3, 6, 8]),
        ((5, 3, 6, 8), [6, 8, 3]),
        ((3, 6, 8), [6, 8, 3]),
        ((5, 6, 8), [1, 6, 8]),
        ((6, 8), [1, 6, 8]),
        ((6, 8), [6, 8, 1]),
        ((5, 6, 8), [6, 8]),
        ((6, 8), [6, 8]),
        ((5, 1, 6, 8), ["c", 6, 8]),
        ((5, 3, 6, 8), [3, "h", "w"]),
        ((5, 48), [1, 6, 8]),
        ((48,), [1, 6, 8]),
        ((5, 6, 8), [48]),
        ((48,), [48]),
        ((5, 48), [48]),
        ((1, 48), ["n"]),
        ((7, 2, 5), [2, 5]),
    ],
    ids=str,
)
def test_arrays_that_are_what_the_model_takes_up_to_their_axes(have: tuple[int, ...], shape: Shape) -> None:
    array = np.arange(np.prod(have)).reshape(have)
    batch = batched(array, form(shape))
    assert batch is not None
    assert batch.ndim == len(shape) + 1
    assert all(not isinstance(want, int) or want == size for want, size in zip(shape, batch.shape[1:], strict=True))
    assert batch.size == array.size
    moves = {(3, 6, 8): (6, 8, 3), (6, 8, 3): (3, 6, 8)}
    if moves.get(have[-3:]) == tuple(shape):  # colours moved, pixels did not
        array = np.moveaxis(array, -3, -1) if have[-3] == 3 else np.moveaxis(array, -1, -3)
    np.testing.assert_array_equal(batch.ravel(), array.ravel())


@pytest.mark.parametrize(
    ("have", "shape"),
    [
        ((5, 3, 6, 7), [3, 6, 8]),
        ((5, 2, 3, 6, 8), [3, 6, 8]),
        ((6, 8), [3, 6, 8]),
        ((4,), [5]),
        ((2, 4), [5]),
        ((3, 3), [3, "h", "w"]),
        ((5, 8, 6), [1, 6, 8]),
        ((5, 8, 6, 3), [3, 6, 8]),
        ((24, 2), [1, 6, 8]),
        ((1,), [3, 6, 8]),
    ],
    ids=str,
)
def test_arrays_that_do_not_fit(have: tuple[int, ...], shape: Shape, tmp_path: Path) -> None:
    assert batched(np.zeros(have), form(shape)) is None
    np.save(tmp_path / "x.npy", np.zeros(have))
    with pytest.raises(RequestError, match=r"the array is .*, the model takes samples of"):
        read(tmp_path / "x.npy", shape)


@pytest.mark.parametrize("shape", [[5], [3, 6, 8], [6, 8]])
def test_a_single_number_is_no_sample(shape: Shape, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.float32(3))
    with pytest.raises(RequestError, match=r"x\.npy: the array is \[\]"):
        read(tmp_path / "x.npy", shape)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool", "uint16"])
def test_numbers_of_arrays_are_taken_as_they_are(dtype: str, tmp_path: Path) -> None:
    """Only bytes are pixels."""
    array = (GRAY > 127).astype(dtype)
    np.save(tmp_path / "x.npy", array)
    for ends in ((0, 1), (None, None), (-1, 1)):
        (x,) = read(tmp_path / "x.npy", [1, 6, 8], *ends)
        np.testing.assert_array_equal(x, array[None].astype(np.float64), strict=True)


@pytest.mark.parametrize("shape", [[3, 6, 8], [6, 8, 3]])
def test_bytes_in_arrays_are_pixels(shape: list[int], tmp_path: Path) -> None:
    path = picture(tmp_path)
    np.save(tmp_path / "x.npy", np.stack([PIXELS] * 2))
    like = form(shape, [0, 10, 20], [1, 12, 23], colours="bgr")
    for x in read(tmp_path / "x.npy", like):
        np.testing.assert_array_equal(x, read(path, like)[0])
    np.save(tmp_path / "gray.npy", GRAY)
    np.testing.assert_array_equal(read(tmp_path / "gray.npy", [6, 8])[0], GRAY / 255)
    np.testing.assert_array_equal(read(tmp_path / "gray.npy", [6, 8], None)[0], GRAY)


def test_samples_are_named_after_their_file(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((1, 6, 8)))
    np.save(tmp_path / "two.npy", np.zeros((2, 6, 8)))
    assert [s.name for s in samples(tmp_path / "one.npy", form([6, 8]))] == ["one"]
    assert [s.name for s in samples(tmp_path / "two.npy", form([6, 8]))] == ["two_000", "two_001"]


def test_npz_takes_the_array_named_like_the_input(tmp_path: Path) -> None:
    x, other = np.full((1, 4), 1.0), np.full((1, 4), 2.0)
    np.savez(tmp_path / "a.npz", pixels=x, image=other)
    np.testing.assert_array_equal(read(tmp_path / "a.npz", [4], name="pixels"), x)
    np.testing.assert_array_equal(read(tmp_path / "a.npz", [4], name="unknown"), other)
    np.savez_compressed(tmp_path / "b.npz", whatever=x)
    np.testing.assert_array_equal(read(tmp_path / "b.npz", [4]), x)
    np.savez(tmp_path / "c.npz", image=x, x=other, label=np.zeros(3))
    np.testing.assert_array_equal(read(tmp_path / "c.npz", [4], name="nobody"), other)
    np.savez(tmp_path / "d.npz", one=x, two=other)
    with pytest.raises(RequestError, match=r"d\.npz: which array\? It has one, two; name one 'pixels'"):
        read(tmp_path / "d.npz", [4], name="pixels")


def damaged(kind: str) -> bytes:
    whole = io.BytesIO()
    (np.save if kind.endswith("npy") else np.savez_compressed)(whole, np.arange(1000.0))
    data = whole.getvalue()
    match kind.split()[0]:
        case "text":
            return b"Dear numpy,"
        case "empty":
            return b""
        case "cut":
            return data[: len(data) // 2]
        case "header":
            return data[:20] + b"\xff" * 20 + data[40:]
        case "signature":
            return data[:8]
    return data[:100] + bytes(b ^ 0x55 for b in data[100:200]) + data[200:]


DAMAGES = ("text", "empty", "cut", "header", "signature", "flipped")


@pytest.mark.parametrize(("kind", "suffix"), [(kind, "npz") for kind in DAMAGES] + [(kind, "npy") for kind in DAMAGES[:-1]])
def test_damaged_arrays(kind: str, suffix: str, tmp_path: Path) -> None:
    """All but flipped bits in .npy, which has no check sum."""
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(damaged(f"{kind} {suffix}"))
    with pytest.raises(RequestError, match=rf"x\.{suffix}: not a readable numpy file"):
        read(path, [1000])


def test_an_archive_that_is_not_there_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"x\.npz: no such file$"):
        read(tmp_path / "x.npz", [4])


@pytest.mark.parametrize(
    "value", [np.array(["a"]), np.array([1j]), np.zeros((0, 4)), np.array([(1, 2.0)], "i4,f4")], ids=range(4)
)
def test_arrays_without_numbers(value: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", value)
    with pytest.raises(RequestError, match=r"x\.npy: has no numbers"):
        read(tmp_path / "x.npy", [4])


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(RequestError, match="not a readable numpy file"):
        read(tmp_path / "x.npy", [1])


# ------------------------------------------------------------------------------------------------------------ no pictures


def test_pictures_need_bounds(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"shot\.png: .*--range .*--low"):
        read(picture(tmp_path), [3, 6, 8], None)


@pytest.mark.parametrize("shape", [[10], [2, 6, 8], [3, 4, 6, 8], [], [7, 6, 8]], ids=str)
def test_models_that_take_no_pictures(shape: list[int], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"shot\.png: is a picture, but the model takes samples of"):
        read(picture(tmp_path), shape)


@pytest.mark.parametrize(("bounds", "channels"), [(3, 1), (2, 3)])
def test_bounds_of_channels_that_the_model_does_not_have(bounds: int, channels: int) -> None:
    with pytest.raises(RequestError, match=f"there are {bounds} values, one a channel"):
        form([channels, 6, 8], [0] * bounds, [1] * bounds)


@pytest.mark.parametrize("content", [b"", b"Dear artist,", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_files_that_are_no_pictures(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "shot.png").write_bytes(content)
    with pytest.raises(RequestError, match=r"shot\.png: not a readable picture \([^<>]+\)$"):
        read(tmp_path / "shot.png", [3, 6, 8])


def test_no_program_is_run_for_a_picture(tmp_path: Path) -> None:
    """Whatever a file is called: Pillow would have Ghostscript run this one."""
    (tmp_path / "shot.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\nshowpage\n")
    with pytest.raises(RequestError, match="it is none of PNG, JPEG"):
        read(tmp_path / "shot.png", [3, 6, 8])


def test_pictures_cut_short_at_every_tenth(tmp_path: Path) -> None:
    whole = {}
    for name in ("shot.png", "shot.jpg", "shot.gif", "shot.bmp", "shot.tiff", "shot.webp"):
        noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
        whole[name] = picture(tmp_path, noise, name).read_bytes()
    for name, data in whole.items():
        for tenth in range(1, 10):
            (tmp_path / name).write_bytes(data[: len(data) * tenth // 10])
            with pytest.raises(RequestError, match="not a readable picture"):
                read(tmp_path / name, [3, 32, 32])


def test_a_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns about pictures above its limit, and refuses those above twice of it."""
    path = picture(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(RequestError, match="not a readable picture"):
        read(path, [3, 6, 8])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with suppress(RequestError):
        read(path, [3, 6, 8])


def test_a_picture_of_few_bytes_and_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame counts: thousands of them take no more room in a file than one in memory."""
    frames = [Image.fromarray(GRAY + i) for i in range(4)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(pixels, "MOST_READ", 4 * GRAY.size)
    assert len(pixels.pictures(tmp_path / "clip.gif", "L")[0]) == 4
    monkeypatch.setattr(pixels, "MOST_READ", 4 * GRAY.size - 1)
    with pytest.raises(RequestError, match="more than 191 pixels"):
        pixels.pictures(tmp_path / "clip.gif", "L")
    assert pixels.picture(tmp_path / "clip.gif", "L").size == (8, 6)


# ---------------------------------------------------------------------------------------------------- folders


def test_files(tmp_path: Path) -> None:
    for name in ("b.png", "a.NPY", "c.JPeG", "readme.md", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/d.png").touch()
    found = files([tmp_path, tmp_path / "readme.md", tmp_path / "b.png"])
    assert [path.name for path in found] == ["a.NPY", "b.png", "c.JPeG", "readme.md", "b.png"]
    with pytest.raises(RequestError, match="nothing: no such file"):
        files([tmp_path / "nothing"])
    (tmp_path / "deep/d.png").unlink()
    with pytest.raises(RequestError, match="deep: no images"):
        files([tmp_path / "deep"])


# ------------------------------------------------------------------------------------------------------- lists of numbers


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("one.json", "[1, 2, 3]", [[1, 2, 3]]),
        ("some.json", "[[1, 2], [3]]", [[1, 2], [3]]),
        ("plain.csv", "1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("named.csv", "\ufeffa;b\n1;2.5\n\n", [[1, 2.5]]),
        ("single.csv", "7\n8\n", [[7], [8]]),
    ],
)
def test_lists_of_numbers(tmp_path: Path, name: str, text: str, rows: list[list[float]]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [x.tolist() for x in read(tmp_path / name, ["l"], None, None)] == rows


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", '{"x": 1}', "it is no list of numbers"),
        ("a.json", "[[1, [2]]]", "no samples can be read"),
        ("a.json", '["a"]', "no samples can be read"),
        ("a.json", "[" * 100_000, "no samples can be read"),
        ("a.csv", "", "it is no list of numbers"),
        ("a.csv", "1,2\n3,x\n", "could not convert string to float: 'x'"),
        ("a.csv", "1,2,3\n1,2\n", r"sample 1 is \[2\], the model takes samples of \[3\]"),
    ],
)
def test_what_is_no_list_of_numbers(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=words):
        read(tmp_path / name, [3], None, None)


@pytest.mark.parametrize(("name", "words"), [("none.png", "none.png: no such file"), (".", "is a folder, and no picture")])
def test_what_is_no_file_is_called_so(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"{words}$"):
        pixels.picture(tmp_path / name, "RGB")
