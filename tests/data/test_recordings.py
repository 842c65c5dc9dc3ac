"""Sounds and clips as samples, in every layout, and what their files say of time."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import model, node
from PIL import Image

import onnxdtd
from onnxdtd.data import images
from onnxdtd.data.forms import Form
from onnxdtd.data.look import Caption, Look
from onnxdtd.data.read import samples
from onnxdtd.data.recordings import Stepped, Track, archived, check, is_clip, stepped, track
from onnxdtd.data.sheets import sheet
from onnxdtd.data.tables import Roles
from onnxdtd.errors import RequestError

SOUND = np.array([[0, 16384, -32768, 32767], [0, 0, 8192, -8192]], np.int16)
CLIP = np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3), np.uint8)


def signals(shape: list[Any], slid: list[int], channel: int | None = None) -> Form:
    return Form.of("x", ["n", *shape], 0, channel, slid=slid)


def clips(shape: list[Any], channel: int) -> Form:
    return Form.of("x", ["n", *shape], 0, channel, (0, 1))


def wav(path: Path, raw: bytes, channels: int, width: int = 2, rate: int = 8000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)
    return path


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    return wav(tmp_path / "stereo.wav", SOUND.T.astype("<i2").tobytes(), 2)


@pytest.fixture
def animated(tmp_path: Path) -> Path:
    """Frames in grey, which a GIF keeps as they are."""
    first, *rest = [Image.fromarray(frame[..., 0]) for frame in CLIP]
    first.save(tmp_path / "clip.gif", save_all=True, append_images=rest, duration=40, disposal=2)
    return tmp_path / "clip.gif"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (signals([2, 4], [2], 1), SOUND / 2**15),
        (signals([4, 2], [1], 2), SOUND.T / 2**15),
        (signals([2, "t"], [2], 1), SOUND / 2**15),
        (signals(["t", 2], [1], 2), SOUND.T / 2**15),
        (signals([1, 2, 4], [3], 1), SOUND[None] / 2**15),
        (signals([1, 4], [2], 1), SOUND.mean(axis=0, keepdims=True) / 2**15),
        (signals([4], [1]), SOUND.mean(axis=0) / 2**15),
        (Form.of("x", ["n", 4], 0), SOUND.mean(axis=0) / 2**15),
        (Form.of("x", ["n", 8], 0, slid=[2], folded=[None, 2, 4]), SOUND.ravel() / 2**15),
    ],
    ids=lambda value: str(value.shape) if isinstance(value, Form) else "",
)
def test_a_sound_in_every_layout(form: Form, expected: np.ndarray, stereo: Path) -> None:
    (sample,) = samples(stereo, form)
    np.testing.assert_array_equal(sample.x, expected)
    told = track(stereo, form)
    assert told.rate == 8000
    assert bool(told.remark) is (expected.size == 4)


@pytest.mark.parametrize(
    ("width", "raw", "expected"),
    [
        (1, bytes([0, 128, 192]), [-1, 0, 0.5]),
        (3, bytes([0, 0, 128, 0, 0, 64]), [-1, 0.5]),
        (4, bytes([0, 0, 0, 128, 0, 0, 0, 64]), [-1, 0.5]),
    ],
)
def test_whole_numbers_of_every_width(width: int, raw: bytes, expected: list[float], tmp_path: Path) -> None:
    (sample,) = samples(wav(tmp_path / "mono.wav", raw, 1, width), signals([1, "t"], [2], 1))
    assert sample.x.tolist() == [expected]


def test_one_channel_for_two(tmp_path: Path) -> None:
    path, form = wav(tmp_path / "mono.wav", SOUND[0].astype("<i2").tobytes(), 1), signals([2, 4], [2], 1)
    (sample,) = samples(path, form)
    np.testing.assert_array_equal(sample.x, SOUND[[0, 0]] / 2**15)
    assert "twice" in track(path, form).remark


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (signals([1, 3], [2], 1), r"has 4 steps \(0.0005 s at 8000 Hz\), but the model takes 3: cut 3 of them out"),
        (signals([1, 9], [2], 1), "has 4 steps .*takes 9: fill it up"),
        (signals([12, 4], [2], 1), r"has 2 channels of 4 steps, but the model takes 12 channels: samples of \[12, 4\]"),
        (signals([3, 8, 8], [2, 3], 1), "is a signal, but the model takes samples of .*, none by its first layer"),
    ],
)
def test_sounds_that_do_not_fit(form: Form, message: str, stereo: Path) -> None:
    with pytest.raises(RequestError, match=f"stereo.wav: {message}"):
        list(samples(stereo, form))


def test_a_sound_that_is_cut_short_says_so(stereo: Path) -> None:
    """But not one whose writer did not know how long it would be."""
    form, whole = signals([2, "t"], [2], 1), stereo.read_bytes()
    stereo.write_bytes(whole[:-5])
    assert track(stereo, form).remark == "its first 2 of 4 steps: the file is cut short"
    stereo.write_bytes(whole[:40] + b"\xff\xff\xff\xff" + whole[44:])
    assert track(stereo, form).remark == ""


def test_what_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    wav(tmp_path / "empty.wav", b"", 1)
    for name, message in (("text.wav", "no sound can be read from it"), ("empty.wav", "has no sound in it")):
        with pytest.raises(RequestError, match=message):
            list(samples(tmp_path / name, signals([1, 4], [2], 1)))


@pytest.mark.parametrize(
    ("shape", "channel"),
    [([1, 5, 6, 8], 1), ([5, 6, 8, 1], 4), ([5, 1, 6, 8], 2), ([1, "t", 6, 8], 1), ([3, 5, 6, 8], 1)],
    ids=str,
)
def test_an_animated_picture_in_every_layout(shape: list[Any], channel: int, animated: Path) -> None:
    form = Form.of("x", ["n", *shape], 0, channel, (0, 1), slid=[3, 4] if channel == 2 else [])
    (sample,) = samples(animated, form)
    grey = CLIP[..., 0] / 255
    np.testing.assert_array_equal(
        np.moveaxis(sample.x, channel - 1, -1), np.repeat(grey[..., None], sample.x.shape[channel - 1], -1)
    )
    assert track(animated, form) == Track(25.0)


def test_frames_are_resized_and_chosen(animated: Path) -> None:
    form = clips([1, 3, 3, 4], 1)
    (sample,) = samples(animated, form)
    assert sample.x.shape == (1, 3, 3, 4)
    assert track(animated, form) == Track(None, (), "3 of its 5 frames, as far apart as they can be")
    with pytest.raises(RequestError, match=r"has 5 frames, but the model takes samples of \[1, 9, 6, 8\]; .* or 9 frames"):
        list(samples(animated, clips([1, 9, 6, 8], 1)))
    with pytest.raises(RequestError, match="needs --range"):
        list(samples(animated, Form.of("x", ["n", 1, 5, 6, 8], 0, 1)))


def test_a_picture_of_a_model_of_pictures_is_its_first_frame(animated: Path) -> None:
    (sample,) = samples(animated, Form.of("x", ["n", 1, 6, 8], 0, 1, (0, 1)))
    np.testing.assert_array_equal(sample.x[0], CLIP[0, ..., 0] / 255)


@pytest.mark.parametrize(
    ("shape", "channel", "slid"),
    [(["c", "h", "w"], 1, [2, 3]), (["h", "w", "c"], 3, [1, 2]), (["c", "h", "w"], None, [])],
    ids=str,
)
def test_a_picture_is_no_clip_where_its_sizes_are_open(
    shape: list[str], channel: int | None, slid: list[int], tmp_path: Path
) -> None:
    Image.fromarray(CLIP[0]).save(tmp_path / "picture.png")
    form = Form.of("x", ["n", *shape], 0, channel, (0, 1), slid=slid)
    assert not is_clip(form)
    if channel is not None:
        (sample,) = samples(tmp_path / "picture.png", form)
        np.testing.assert_array_equal(np.moveaxis(sample.x, channel - 1, -1), CLIP[0] / 255)


def test_bands_are_no_frames() -> None:
    assert not is_clip(Form.of("x", ["n", 7, 6, 8], 0, 1, slid=[2, 3]))
    assert is_clip(Form.of("x", ["n", 7, 3, 6, 8], 0, 2, slid=[3, 4]))


def test_what_archives_tell(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    for arrays, expected in (
        ({"fs": 500, "ch_names": ["I", "II"]}, Track(500.0, ("I", "II"))),
        ({"rate": np.array([2.5]), "channels": 12}, Track(2.5)),
        ({"rate": [1, 2], "sfreq": -1}, Track()),
        ({}, Track()),
    ):
        np.savez(path, x=np.zeros(3), **arrays)
        with np.load(path) as archive:
            assert archived(archive) == expected


def read(folder: Path, lines: str, form: Form, roles: Roles | None = None) -> Stepped | None:
    (folder / "steps.csv").write_text(lines)
    return stepped(sheet(folder / "steps.csv"), form, roles or Roles())


STEPS = "a,b\n1,5\n2,6\n3,7\n"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (signals([2, 3], [2], 1), [[1, 2, 3], [5, 6, 7]]),
        (signals([3, 2], [1], 2), [[1, 5], [2, 6], [3, 7]]),
        (signals([2, "t"], [2], 1), [[1, 2, 3], [5, 6, 7]]),
        (signals([1, 2, "t"], [3], 1), [[[1, 2, 3], [5, 6, 7]]]),
        (Form.of("x", ["n", 6], 0, slid=[2], folded=[None, 2, 3]), [1, 2, 3, 5, 6, 7]),
    ],
    ids=lambda value: str(value.shape) if isinstance(value, Form) else "",
)
def test_rows_are_steps_and_columns_channels(form: Form, expected: list[Any], tmp_path: Path) -> None:
    found = read(tmp_path, STEPS, form)
    assert found is not None
    assert found.x.tolist() == expected
    assert found.track.channels == ("a", "b")
    assert found.track.remark == "read as one sample: its 3 rows are steps, its 2 columns are channels"


def test_a_column_of_numbers_is_one_channel(tmp_path: Path) -> None:
    found = read(tmp_path, "1\n2\n3\n", signals([1, "t"], [2], 1))
    assert found is not None
    assert found.x.tolist() == [[1, 2, 3]]
    assert found.track.channels == ()


@pytest.mark.parametrize(
    ("lines", "form"),
    [
        ("1,2,3,4,5,6\n1,2,3,4,5,6\n", signals([2, 3], [2], 1)),
        ("1,2,3,4,5,6,label\n1,2,3,4,5,6,9\n", signals([2, 3], [2], 1)),
        ("1,2,3\n1,2,3\n", signals([1, 3], [2], 1)),
        ("1,2,3\n1,2,3\n", signals([1, "t"], [2], 1)),
        ("1,2\n1,2\n", signals(["c", "t"], [2], 1)),
    ],
)
def test_rows_that_are_samples(lines: str, form: Form, tmp_path: Path) -> None:
    assert read(tmp_path, lines, form) is None


@pytest.mark.parametrize(
    ("name", "times", "rate", "remark"),
    [
        ("time (s)", [0, 0.5, 1], 2.0, "; the column 'time (s)' is left out, it says 2 steps a second"),
        ("t_ms", [0, 2, 4], 500.0, "; the column 't_ms' is left out, it says 500 steps a second"),
        ("Seconds", [0, 0.1, 0.2], 10.0, "; the column 'Seconds' is left out, it says 10 steps a second"),
        ("time", [0, 1, 2], None, "; the column 'time' is left out"),
        ("time [s]", [0, 1, 3], None, "; the column 'time [s]' is left out"),
        ("timestamp", ["2020-01-01", "2020-01-02", "2020-01-03"], None, "; the column 'timestamp' is left out"),
    ],
)
def test_a_column_of_times_is_no_channel(name: str, times: list[Any], rate: float | None, remark: str, tmp_path: Path) -> None:
    lines = [f"{name},a,b", *(f"{when},{i},{i}" for i, when in enumerate(times))]
    found = read(tmp_path, "\n".join(lines), signals([2, 3], [2], 1))
    assert found is not None
    assert found.x.tolist() == [[0, 1, 2]] * 2
    assert (found.track.rate, found.track.channels) == (rate, ("a", "b"))
    assert found.track.remark.endswith(f"channels{remark}")


def test_the_class_of_a_sample_in_a_column(tmp_path: Path) -> None:
    for classes, label in (([4, 4, 4], 4), ([4, 5, 4], None)):
        lines = ["a,y,b", *(f"{i},{c},{i}" for i, c in enumerate(classes))]
        found = read(tmp_path, "\n".join(lines), signals([2, 3], [2], 1), Roles(label="y"))
        assert found is not None
        assert (found.label, found.x.tolist()) == (label, [[0, 1, 2]] * 2)
    found = read(tmp_path, "a,y,b\n0,4,0\n1,4,1\n", signals([2, 2], [2], 1), Roles(target="y"))
    assert found is not None
    assert (found.label, found.target, found.x.tolist()) == (None, 4, [[0, 1]] * 2)
    with pytest.raises(RequestError, match=r"is one sample, its rows are steps; --target-column y has several classes"):
        read(tmp_path, "a,y,b\n0,4,0\n1,5,1\n", signals([2, 2], [2], 1), Roles(target="y"))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            signals([3, 4], [2], 1),
            "has 3 rows of 2 columns, .* 4 rows of 3 columns, a row a step, or rows of 12 for",
        ),
        (signals([2, 4], [2], 1), "has 3 steps, but the model takes 4: fill it up"),
        (signals([2, 2], [2], 1), "has 3 steps, but the model takes 2: cut 2 of them out"),
    ],
)
def test_tables_that_do_not_fit(form: Form, message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"steps.csv: {message}"):
        read(tmp_path, STEPS, form)


def test_a_table_of_steps_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as the array, on the command line too."""
    monkeypatch.chdir(tmp_path)
    nodes = [node("Conv", "x k", "c"), node("GlobalAveragePool", "c", "p"), node("Flatten", "p", "f")]
    onnx.save(model(nodes, {"x": ["n", 2, 3]}, ["f"], {"k": np.ones((3, 2, 2), np.float32)}), "net.onnx")
    Path("steps.csv").write_text(STEPS)
    np.save("steps.npy", np.array([[1, 2, 3], [5, 6, 7.0]]))
    table, array = (onnxdtd.explain("net.onnx", [name], out="o", pictures=False).results for name in ("steps.csv", "steps.npy"))
    assert [result.relevance_sum for result in table] == [result.relevance_sum for result in array]
    assert "read" in {flag.code for flag in table[0].flags}


@pytest.mark.parametrize(
    ("look", "form", "message"),
    [
        ({"channels": "a,b"}, signals([6, 90], [2], 1), "--channels has 2 names, but there are 6 of them"),
        ({"channels": "a,b"}, clips([3, 5, 6, 8], 1), "--channels is for signals"),
        ({"channels": "a,b"}, Form.of("x", ["n", 3, 6, 8], 0, 1), "--channels is for signals"),
        ({"rate": 5}, Form.of("x", ["n", 4], 0), "--rate 5 is for signals"),
        ({"rate": 5}, Form.of("x", ["n", 3, 6, 8], 0, 1), "--rate 5 is for signals"),
    ],
)
def test_time_and_names_of_what_has_none(look: dict[str, Any], form: Form, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        check(Look(**look), form)


def test_time_and_names_of_signals_clips_and_spectrograms() -> None:
    check(Look(rate=5, channels="a,b"), signals([2, "t"], [2], 1))
    check(Look(rate=5, channels="a,b"), signals(["t", 2], [1], 2))
    check(Look(rate=5), clips([3, 5, 6, 8], 1))
    check(Look(rate=5, channels="a,b,c,d,e,f"), Form.of("x", ["n", 1, 6, 8], 0, 1))
    told = Look(channels="a,b").at(Track(5.0, ("c", "d")))
    assert (told.rate, told.channels) == (5, ("a", "b"))


def test_a_sound_is_explained_along_its_time(stereo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its file says is drawn, unless something else was asked for, as the picture says; how it was read is a flag."""
    monkeypatch.chdir(tmp_path)
    nodes = [
        node("Conv", "x k", "c"),
        node("GlobalAveragePool", "c", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "f w", "y"),
    ]
    weights = {"k": np.ones((2, 1, 2), np.float32), "w": np.eye(2, dtype=np.float32)}
    onnx.save(model(nodes, {"x": ["n", 1, "t"]}, ["y"], weights), "net.onnx")
    seen: list[tuple[Caption, Look]] = []
    monkeypatch.setattr(images, "draw", lambda path, x, r, caption, form, concepts, look: seen.append((caption, look)))
    for look in (Look(), Look(rate=100)):
        (result,) = onnxdtd.explain("net.onnx", [stereo], out="out", look=look).results
        assert [flag.code for flag in result.flags if flag.code == "read"] == ["read"]
    assert [look.rate for _, look in seen] == [8000, 100]
    told = [[note for note in caption.notes if "steps a second" in note] for caption, _ in seen]
    assert [len(notes) for notes in told] == [0, 1]
    assert told[1][0].startswith("the file has 8000")
