"""What is spelled out gives what the operator gives, bit for bit, for any finite numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings
from nets import DOUBLE, FLOAT, Bench, Session, model, node

import onnxdtd
from onnxdtd.errors import RequestError
from onnxdtd.graph.emit import Emit
from onnxdtd.graph.portable import SPELLED
from onnxdtd.graph.tensors import Tensor

Written = Callable[[Emit, Tensor, Tensor], Tensor]
EDGES: list[float] = [
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    2**-126,
    -(2**-126),
    1.0,
    1 + 2**-23,
    -1.0,
    2**24,
    2**127,
    -(2**127),
    3.4028235e38,
    -3.4028235e38,
]
NUMBERS = st.sampled_from(np.asarray(EDGES, np.float32).tolist()) | st.floats(width=32, allow_nan=False, allow_infinity=False)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=8, max_size=8)
WRITTEN: dict[str, Written] = {
    **{op: lambda e, a, b, op=op: e(op, a, b) for op in ("Greater", "Less", "GreaterOrEqual", "Equal", "Min", "Max")},  # type: ignore[misc]
    **{op: lambda e, a, b, op=op: e(op, a) for op in ("Sign", "Neg", "Abs", "Reciprocal")},  # type: ignore[misc]
    "a > 0": lambda e, a, b: e("Greater", a, 0.0),
    "a < 0": lambda e, a, b: e("Less", a, 0.0),
    "0 >= a": lambda e, a, b: e("GreaterOrEqual", e.constant(np.asarray(0, a.dtype)), a),
    "a > 0 and b = 1": lambda e, a, b: e("And", e("Greater", a, 0.0), e("Equal", b, 1.0)),
    "a if b > a else b": lambda e, a, b: e("Where", e("Greater", b, a), a, b),
    "a if b > a else 0": lambda e, a, b: e("Where", e("Greater", b, a), a, 0.0),
    "inf if a = 0 else a": lambda e, a, b: e("Where", e("Equal", a, 0.0), float("inf"), a),
    "a if a > b else nan": lambda e, a, b: e("Where", e("Greater", a, b), a, float("nan")),
    "-inf if a > b else b": lambda e, a, b: e("Where", e("Greater", a, b), float("-inf"), b),
    "1 if a > b else 0.1": lambda e, a, b: e(
        "Where", e("Greater", a, b), *(e.constant(np.asarray(v, a.dtype)) for v in (1, 0.1))
    ),
    "min(a, 0)": lambda e, a, b: e("Min", a, 0.0),
    "max(1, a)": lambda e, a, b: e("Max", e.constant(np.asarray(1, a.dtype)), a),
    "max(a, 0, b)": lambda e, a, b: e("Max", a, 0.0, b),
    "least of each": lambda e, a, b: e("ReduceMin", a, keepdims=1),
    "as integers": lambda e, a, b: e("Greater", *(e.cast(e("Clip", t, -9.0, 9.0), np.int64) for t in (a, b))),
    "as whole numbers": lambda e, a, b: e("Equal", e.cast(e("Clip", a, -9.0, 9.0), np.int64), e.constant(np.asarray(-3))),
}


def written(e: Emit, how: str, a: Tensor, b: Tensor) -> Tensor:
    """The result as numbers, whatever stands for a condition."""
    return e.cast(WRITTEN[how](e, a, b), a.dtype)


def without(e: Emit, tensor: Tensor) -> set[str]:
    """Operators of which a tensor is made."""
    return {proto.op_type for proto in e.live([tensor])[0]}


@cache
def sessions(how: str, dtype: np.dtype, opset: int) -> tuple[Session, Session]:
    """The operator, and what is written for it, in which it is no more."""
    found = []
    for portable in (False, True):
        nets = model([node("Add", "a b", "y")], {"a": ["n"], "b": ["n"]}, ["y"], {}, dtype, opset)
        bench = Bench(nets, portable)
        e, a, b = bench.e, bench.tensors["a"], bench.tensors["b"]
        result = written(e, how, a, b)
        assert not portable or without(e, result).isdisjoint(SPELLED)
        found.append(bench.session({"result": result}))
    return found[0], found[1]


@settings(max_examples=10)
@pytest.mark.parametrize("how", WRITTEN)
@given(pairs=PAIRS)
@example(pairs=list(product(EDGES, EDGES)))
def test_what_is_written_is_the_operator(how: str, pairs: list[tuple[float, float]]) -> None:
    for dtype in (FLOAT, DOUBLE):
        a, b = np.asarray(pairs, dtype).T
        want, have = (session(a=a, b=b)["result"] for session in sessions(how, dtype, 17))
        np.testing.assert_array_equal(have, want)  # in which −0 is 0


@pytest.mark.parametrize("opset", [21, 22])
def test_a_ramp_is_one_where_it_has_no_kernel(opset: int) -> None:
    alpha, beta = 2.0**127, 1 - 2.0**15
    found = []
    for portable in (False, True):
        bench = Bench(model([node("Identity", "a", "y")], {"a": [9]}, ["y"], {}, FLOAT, opset), portable)
        ramp = bench.e("HardSigmoid", bench.tensors["a"], alpha=alpha, beta=beta)
        assert ("HardSigmoid" in without(bench.e, ramp)) == (not portable or opset < 22)
        found.append(bench.session({"r": ramp})(a=np.float32([0, 1e-45, 2**-113, 2**-112, 2**-111, -1, 1, 3e38, -3e38]))["r"])
    np.testing.assert_array_equal(*found)


def test_a_condition_of_large_integers_is_exact() -> None:
    """Which are none as float32."""
    bench = Bench(model([node("Identity", "a", "y")], {"a": [2]}, ["y"], {}, DOUBLE), portable=True)
    a, b = (bench.e.cast(bench.e("Add", bench.tensors["a"], more), np.int64) for more in (0.0, 1.0))
    found = bench.session({"equal": bench.e("Equal", a, b), "less": bench.e("Less", a, b)})(a=np.asarray([2.0**24, 2.0**40]))
    assert found["equal"].tolist() == [0, 0]
    assert found["less"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("own", "shape"), [([], [2, 3]), ([3], [2, 3]), ([1, 3], [2, 3]), ([2, 1], [2, 3]), ([1, 1, 1], [2, 2, 3])], ids=str
)
def test_what_is_repeated(own: list[int], shape: list[int]) -> None:
    bench = Bench(model([node("Identity", "a", "y")], {"a": own}, ["y"]), portable=True)
    for x, value in (
        (bench.tensors["a"], np.arange(np.prod(own, dtype=int), dtype=FLOAT).reshape(own)),
        (None, np.ones(own, FLOAT)),
    ):
        made = bench.e("Expand", bench.e.constant(value) if x is None else x, bench.e.constant(np.asarray(shape)))
        assert without(bench.e, made) <= {"Tile", "Reshape"}
        found = bench.session({"made": made})(a=value)["made"]
        np.testing.assert_array_equal(found, np.broadcast_to(value, shape))


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 0], [2, 1, 0, 1]], ids=str)
def test_a_transposed_convolution_without_output_padding(pads: list[int]) -> None:
    weights = {"w": np.arange(-9, 9, dtype=FLOAT).reshape(1, 2, 3, 3)}
    x, found = np.arange(1, 13, dtype=FLOAT).reshape(1, 1, 3, 4), []
    for portable in (False, True):
        bench = Bench(model([node("Conv", "x v", "y")], {"x": ["n", 1, 3, 4]}, ["y"], {"v": weights["w"][:, :1]}), portable)
        attrs: dict[str, Any] = {"strides": [2, 3], "pads": pads, "output_padding": [1, 2]}
        made = bench.e("ConvTranspose", bench.tensors["x"], bench.e.constant(weights["w"]), **attrs)
        found.append(bench.session({"made": made})(x=x)["made"])
    np.testing.assert_array_equal(*found)


def test_unit_matrices() -> None:
    bench = Bench(model([node("Identity", "a", "y")], {"a": [3]}, ["y"]), portable=True)
    index = bench.e.cast(bench.tensors["a"], np.int64)
    depth, values = bench.e.constant(np.asarray(4)), bench.e.constant(np.asarray([0, 1], np.float32))
    made = bench.e("OneHot", index, depth, values, dtype=FLOAT)
    np.testing.assert_array_equal(bench.session({"made": made})(a=FLOAT.type([2, 0, 3]))["made"], np.eye(4)[[2, 0, 3]])


def test_what_these_runtimes_cannot_have_is_refused() -> None:
    net = model([node("Gemm", "x w", "y")], {"x": ["n", 2]}, ["y"], {"w": np.eye(2, dtype=FLOAT)})
    for other in ("ledger", "on_demand"):
        with pytest.raises(RequestError, match="--portable: --" + other.replace("_", "-")):
            onnxdtd.compile(net, portable=True, **{other: True})
