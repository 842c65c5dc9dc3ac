"""Signals as they are drawn: lines over their relevance, along time, with names and sums; and as small pictures."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from sketches import heights

from onnxdtd.data.arrangement import arranged
from onnxdtd.data.forms import Form
from onnxdtd.data.images import KINDS
from onnxdtd.data.look import Look, Scene
from onnxdtd.data.scale import COLOURS, colour_limit
from onnxdtd.data.thumbnails import CHART, SMALL, thumbnail
from onnxdtd.data.traces import MANY_TRACES, STRETCHES, size
from onnxdtd.errors import RequestError

LEADS = ("I", "II", "III")


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def drawn(x: np.ndarray, relevance: np.ndarray, **look: object) -> list[Axes]:
    """What there is to see of [C, T]."""
    figure, scene = Figure(), Scene(x, {"relevance": relevance}, look=Look(**look))
    figure.set_size_inches(size(scene))
    KINDS["traces"].draw(figure, scene)
    return figure.axes


def strips(axes: Axes) -> np.ndarray:
    """The relevance in colours."""
    (found,) = axes.collections[:1]
    assert found.cmap.name == COLOURS.name
    return np.asarray(found.get_array())


@pytest.mark.parametrize(
    ("shape", "slid", "channel"),
    [((12, 5000), [1], 0), ((5000, 12), [0], 1), ((3, 128), [1], 0), ((1, 9, 90), [2], 0)],
    ids=str,
)
def test_a_trace_a_channel_in_the_colours_of_its_relevance(shape: tuple[int, ...], slid: list[int], channel: int) -> None:
    x, relevance = random(*shape), random(*shape, seed=1)
    form = Form.of("x", ["n", *shape], 0, channel + 1, slid=[axis + 1 for axis in slid])
    channels, amounts = (arranged(shape, form).of(values) for values in (x, relevance))
    along = slid[0]
    np.testing.assert_array_equal(channels, np.moveaxis(x, along, -1).reshape(-1, shape[along]))
    traces, sums, below = drawn(channels, amounts)[:3]
    shown = strips(traces)
    assert shown.shape == (len(channels), len(range(0, shape[along], -(-shape[along] // STRETCHES))))
    np.testing.assert_allclose(shown.sum(axis=1), amounts.sum(axis=1), rtol=1e-9, atol=1e-9)
    assert traces.collections[0].norm.vmax == -traces.collections[0].norm.vmin == colour_limit(shown)
    np.testing.assert_allclose([bar.get_width() for bar in sums.patches], amounts.sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(heights(below).sum(), amounts.sum(), rtol=1e-9)
    largest = np.abs(amounts.sum(axis=1)).max()
    assert [tick.get_text() for tick in sums.get_xticklabels()] == [f"{-largest:.2g}", f"{largest:.2g}"]


def test_lines_are_the_channels_within_their_bands() -> None:
    x = random(3, 128)
    for place, (line, values) in enumerate(zip(drawn(x, x)[0].lines, x, strict=True)):
        ys = line.get_ydata()
        assert np.corrcoef(ys, values)[0, 1] < -0.9999, "the axis points down"
        assert place - 0.5 < ys.min() < ys.max() < place + 0.5


def test_a_single_channel_keeps_its_units() -> None:
    x = 20 + random(1, 90)
    upper, lower = drawn(x, random(1, 90, seed=1), rate=10, channels=["celsius"])
    np.testing.assert_array_equal(upper.lines[0].get_ydata(), x[0])
    low, high = upper.get_ylim()
    assert low < x.min() < x.max() < high
    assert upper.get_ylabel() == "celsius"
    assert (lower.get_xlabel(), lower.get_ylabel()) == ("time (s)", "relevance per 100 ms")


def test_a_long_line_is_its_envelope_and_lets_colours_through() -> None:
    smooth, noisy = np.sin(np.linspace(0, 6, 100_000)), random(100_000)
    axes = drawn(np.stack([smooth, noisy]), np.ones((2, 100_000)))[0]
    bands = [band.get_paths()[0].vertices[:, 1] for band in axes.collections[1:3]]
    for place, (values, ys) in enumerate(zip((smooth, noisy), bands, strict=True)):
        scaled = place + 0.42 - 0.84 * (values - values.min()) / np.ptp(values)
        assert (ys.min(), ys.max()) == pytest.approx((scaled.min(), scaled.max()))
    opacity = [band.get_facecolor()[0, 3] for band in axes.collections[1:3]]
    assert opacity[0] > 0.8 > 0.2 > opacity[1]
    assert not axes.lines


def test_relevance_of_a_long_signal_lies_at_its_time() -> None:
    relevance = np.zeros((3, 5000))
    relevance[1, 1234] = 1
    for rate, unit in ((None, 1), (500, 500)):
        axes = drawn(random(3, 5000), relevance, rate=rate)
        row, column = np.argwhere(strips(axes[0]))[0]
        ends = axes[0].collections[0].get_coordinates()[0, :, 0]
        assert row == 1
        assert ends[column] <= 1234 / unit <= ends[column + 1]
        bar = axes[2].collections[0].get_paths()[heights(axes[2]).argmax()].vertices[:, 0]
        assert bar.min() <= 1234 / unit <= bar.max()
        assert axes[2].get_xlabel() == ("step" if rate is None else "time (s)")


def ticks(axes: Axes) -> list[str]:
    return [label.get_text().split("\n")[0] for label in axes.get_yticklabels()]


def test_channels_have_names() -> None:
    x = random(3, 50)
    assert ticks(drawn(x, x, channels=LEADS)[0]) == [*LEADS]
    assert ticks(drawn(x, x)[0]) == ["0", "1", "2"]
    assert ticks(drawn(x, x, channels=["a"])[0]) == ["0", "1", "2"], "those of a file with others"
    assert ticks(drawn(x, x, channels=["accelerometer_of_the_left_x", "$\\b$", ""])[0]) == ["accelerom…the_left_x", "$\\b$", ""]
    many = random(40, 50)
    assert ticks(drawn(many, many)[0]) == [str(i) for i in range(40)]


def test_more_channels_than_can_be_told_apart_are_maps() -> None:
    x, relevance = random(MANY_TRACES + 1, 900), random(MANY_TRACES + 1, 900, seed=1)
    values, _, shown, sums, *_ = drawn(x, relevance)
    grey = np.asarray(values.collections[0].get_array())
    assert (grey.min(axis=1) >= 0).all()
    assert (grey.max(axis=1) <= 1).all()
    assert not shown.lines
    np.testing.assert_allclose(strips(shown).sum(axis=1), relevance.sum(axis=1), atol=1e-9)
    assert len(sums.patches) == len(x)
    assert size(Scene(x, {"": x}))[1] < 10


@pytest.mark.parametrize(("sign", "low", "high"), [(1, 0, 1.05), (-1, -1.05, 0), (0, -1.05, 1.05)])
def test_of_one_sign_only_that_half_is_shown(sign: int, low: float, high: float) -> None:
    relevance = np.array([[1.0, 0.5, 0, 0.25]]) * (sign or [1, -1, 1, 1])
    below = drawn(random(1, 4), relevance)[1]
    assert below.get_ylim() == pytest.approx((low, high))
    assert "0" in ticks(below)


def test_no_relevance_is_said() -> None:
    for count in (1, 3, MANY_TRACES + 1):
        axes = drawn(random(count, 50), np.zeros((count, 50)))
        assert any("no relevance" in text.get_text() for one in axes for text in one.texts)


def test_names_as_they_are_given(tmp_path: Path) -> None:
    (tmp_path / "leads.txt").write_text("I\n\nII, III\n")
    for given in ("I,II,III", "I, II , III", ["I", "II", "III"], str(tmp_path / "leads.txt")):
        assert Look(channels=given).channels == LEADS
    assert Look(channels=None).channels == ()
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RequestError, match="no names can be read"):
        Look(channels=str(tmp_path / "bytes.txt"))
    for rate in (0, -1, np.inf, np.nan):
        with pytest.raises(RequestError, match="--rate"):
            Look(rate=rate)


def picture(png: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("count", [3, 40])
def test_small_pictures_of_signals(count: int) -> None:
    """Of many channels maps, of few lines, on colours at the place of their relevance."""
    form = Form.of("x", ["n", count, 400], 0, 1, slid=[2])
    relevance = np.zeros((count, 400))
    relevance[-1, 300:] = 1
    first, second = map(picture, thumbnail(random(count, 400), relevance, form))
    assert first.shape == second.shape == (CHART, SMALL, 3)
    red = second[..., 0].astype(int) - second[..., 2] > 100
    rows, columns = np.nonzero(red)
    assert rows.min() >= CHART * (1 - 1.2 / count)
    assert columns.min() >= 0.73 * SMALL
    assert (np.ptp(first.astype(int), axis=-1) == 0).all(), "the input is grey"
