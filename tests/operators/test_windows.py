"""Index arithmetic of windows against brute force in one dimension: dense matrices, padding found by counting."""

from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from nets import Bench, geometries, integers, model, node

from onnxdtd.operators.windows import (
    Window,
    _transposed_any_size,
    adjoint_conv,
    flipped_pads,
    same_padding,
    transposed_pads,
    window,
)


def positions(length: int, extent: int, stride: int) -> int:
    """How often a window fits."""
    return sum(1 for start in range(0, length, stride) if start + extent <= length)


def correlation(n: int, weights: np.ndarray, win: Window, m: int) -> np.ndarray:
    """The matrix [m, n] of a one-dimensional convolution with m outputs; what reaches beyond the input is cut off."""
    matrix = np.zeros((m, n))
    for j, k in product(range(m), range(win.kernel[0])):
        i = j * win.strides[0] + k * win.dilations[0] - win.begin[0]
        if 0 <= i < n:
            matrix[j, i] += weights[k]
    return matrix


def transposed(s: np.ndarray, weights: np.ndarray, win: Window, pads: list[int], output_padding: int) -> np.ndarray:
    """ConvTranspose as ONNX defines it: scatter, append ``output_padding`` zeros, cut ``pads`` off."""
    whole = np.zeros((len(s) - 1) * win.strides[0] + win.extent[0] + output_padding)
    for j, k in product(range(len(s)), range(len(weights))):
        whole[j * win.strides[0] + k * win.dilations[0]] += s[j] * weights[k]
    assert min(pads) >= 0
    return whole[pads[0] : len(whole) - pads[1]]


def geometries_of(kernel: int) -> list[Window]:
    """Every stride, dilation and padding; all of them, since they are integers and cost nothing."""
    others = product((1, 2, 3), (1, 2), (0, 1, 2), (0, 1, 3))
    return [Window((kernel,), (stride,), (dilation,), (begin,), (end,)) for stride, dilation, begin, end in others]


@pytest.mark.parametrize("upper", [True, False])
def test_same_padding_is_the_least_that_gives_one_output_for_each_stride(upper):
    for size, extent, stride in product(range(1, 12), range(1, 7), range(1, 5)):
        total = next(t for t in range(20) if positions(size + t, extent, stride) >= -(-size // stride))
        before, after = same_padding(size, extent, stride, upper)
        assert before + after == total
        assert (after if upper else before) - (before if upper else after) == total % 2


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_flipped_pads_give_the_adjoint(kernel):
    rng = np.random.default_rng(0)
    weights = rng.integers(-4, 5, [kernel])
    for win, n in product(geometries_of(kernel), range(1, 9)):
        m = positions(n + win.begin[0] + win.end[0], win.extent[0], win.strides[0])
        pads = flipped_pads(win)
        if win.strides != (1,) or max(win.begin + win.end) >= win.extent[0]:
            assert pads is None, win
        elif m:
            s = rng.integers(-4, 5, m)
            backwards = Window(win.kernel, (1,), win.dilations, (pads[0],), (pads[1],))
            assert positions(m + sum(pads), win.extent[0], 1) == n, win
            expected = correlation(n, weights, win, m).T @ s
            np.testing.assert_array_equal(correlation(m, weights[::-1], backwards, n) @ s, expected, str(win))


@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("ceil", [False, True])
def test_transposed_pads_give_the_adjoint(kernel, ceil):
    rng = np.random.default_rng(0)
    weights = rng.integers(-4, 5, [kernel])
    for win, n in product(geometries_of(kernel), range(1, 9)):
        length = n + win.begin[0] + win.end[0]
        m = positions(length + (win.strides[0] - 1 if ceil else 0), win.extent[0], win.strides[0])
        if m:
            s = rng.integers(-4, 5, m)
            pads, output_padding = transposed_pads(win, [n], [m])
            expected = correlation(n, weights, win, m).T @ s
            np.testing.assert_array_equal(transposed(s, weights, win, pads, output_padding[0]), expected, str(win))


def test_transposed_pads_refuse_an_output_that_is_too_small():
    assert transposed_pads(Window((2,), (2,), (1,), (0,), (0,)), [6], [2]) is None


def test_each_axis_has_its_own_pads():
    win = Window((3, 2), (2, 1), (1, 2), (1, 0), (0, 2))
    assert transposed_pads(win, [6, 5], [3, 5]) == ([1, 0, 0, 2], [0, 0])
    assert flipped_pads(Window((3, 2), (1, 1), (1, 2), (1, 0), (0, 2))) == [1, 2, 2, 0]


@pytest.mark.parametrize(
    ("attrs", "sizes", "begin", "end"),
    [
        ({}, [9], (0,), (0,)),
        ({"pads": [1, 2]}, [None], (1,), (2,)),
        ({"pads": [1, 2], "auto_pad": "NOTSET"}, [9], (1,), (2,)),
        ({"auto_pad": "VALID", "strides": [2]}, [None], (0,), (0,)),
        ({"auto_pad": "SAME_UPPER"}, [None], (1,), (1,)),
        ({"auto_pad": "SAME_UPPER", "strides": [2]}, [8], (0,), (1,)),
        ({"auto_pad": "SAME_LOWER", "strides": [2]}, [8], (1,), (0,)),
        ({"auto_pad": "SAME_UPPER", "dilations": [2]}, [None], (2,), (2,)),
        ({"auto_pad": "SAME_UPPER", "strides": [2]}, [None], None, None),
        ({"auto_pad": "SAME_LOWER", "strides": [1, 2]}, [None, 8], (1, 1), (1, 0)),
        ({"auto_pad": "SAME_LOWER", "strides": [1, 2]}, [8, None], None, None),
    ],
)
def test_window_reads_the_padding_that_attributes_describe(attrs, sizes, begin, end):
    win = window(attrs, [3] * len(sizes), sizes)
    assert (win.begin, win.end) == (begin, end)


def test_window_defaults_to_stride_and_dilation_one():
    assert window({}, [3, 2], [None, 7]) == Window((3, 2), (1, 1), (1, 1), (0, 0), (0, 0))


def test_what_is_unknown_before_run_time_has_no_pads():
    win = window({"auto_pad": "SAME_UPPER", "strides": [2]}, [3], [None])
    assert flipped_pads(win) is None
    assert transposed_pads(win, [8], [4]) is None


def test_the_brute_force_notices_a_wrong_pad():
    win = Window((3,), (2,), (1,), (1,), (1,))
    weights, s = np.array([1, 2, 4]), np.array([1, 3, 5])
    expected = correlation(6, weights, win, 3).T @ s
    np.testing.assert_array_equal(transposed(s, weights, win, [1, 1], 1), expected)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(transposed(s, weights, win, [0, 2], 1), expected)


@given(geometries(), st.sampled_from([1, 2]), st.integers(1, 2), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_lowering_is_the_plain_one(geometry, group, more, seed):
    """The flipped convolution and the exact ConvTranspose, against the ConvTranspose for any size, on integers."""
    size, kernel, attrs = geometry
    rng = np.random.default_rng(seed)
    w = integers(rng, 2 * group, more, *kernel)
    proto = model([node("Conv", "x w", "y", group=group, **attrs)], {"x": [2, group * more, *size]}, ["y"], {"w": w})
    bench = Bench(proto)
    (conv,) = bench.nodes
    x, y, e = bench.tensors["x"], bench.tensors["y"], bench.e
    win = window(conv.attrs, kernel, size)
    s = bench.input("s", y)
    chosen = adjoint_conv(e, s, bench.tensors["w"], w.shape, x, win, y.shape[2:], group)
    plain = _transposed_any_size(e, s, bench.tensors["w"], x, win, group)
    found = bench.session({"chosen": chosen, "plain": plain})(
        x=np.zeros((2, group * more, *size), np.float32), s=integers(rng, *y.shape)
    )
    assert found["chosen"].shape == (2, group * more, *size)
    np.testing.assert_array_equal(found["chosen"], found["plain"])
