"""R ⊘ z hands on what it should, and says what it kept: the two make up R."""

from __future__ import annotations

import numpy as np
import pytest
from nets import DOUBLE, FLOAT, Bench, assert_near, model, node

from onnxdtd.graph.tensors import Tensor, Value
from onnxdtd.method.division import KEEPERS, Division, divide

Z = {  # denominators by their sign; what is tiny is none
    1.0: [4.0, 0.5, 0.0, 3.0],
    -1.0: [-4.0, -0.5, 0.0, -3.0],
    0.0: [4.0, -0.5, 0.0, -3.0],
}
R = np.asarray([[1.0, -2.0, 3.0, 0.0]])


def all_kept(division: Division) -> dict[str, Tensor]:
    """What is not handed on, where a denominator keeps it or there is none."""
    return dict(division.kept()) | ({} if division.dead is None else {"dead": division.dead()})


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE])
@pytest.mark.parametrize("epsilon", [0.0, 0.25])
@pytest.mark.parametrize("sign", Z)
def test_what_is_handed_on_and_what_is_kept_make_up_relevance(sign: float, epsilon: float, dtype: np.dtype, opset: int) -> None:
    bench = Bench(model([node("Identity", "z", "y")], {"z": ["n", 4]}, ["y"], {}, dtype, opset))
    e, z = bench.e, bench.tensors["z"]
    division = divide(e, bench.input("R", z), z, epsilon, sign)
    kept = all_kept(division)
    values, zs = R.astype(dtype), np.asarray([Z[sign]], dtype)
    found = bench.session({"s": division.s, **kept})(z=zs, R=values)
    side = np.where(zs >= 0 if sign >= 0 else zs > 0, 1, -1)
    expected = values / (zs + epsilon * side) if epsilon else np.where(zs == 0, 0, values / np.where(zs == 0, 1, zs))
    if epsilon and sign < 0:
        expected[zs == 0] = values[zs == 0] / epsilon  # sign(0) = 1
        side[zs == 0] = 1
    assert_near(found["s"], expected, 1e-15 if dtype == DOUBLE else 3e-7)
    assert list(kept) == (["stabiliser"] if epsilon else ["dead"])
    assert set(kept) <= set(KEEPERS)
    handed = found["s"] * zs
    assert_near(handed + sum(found[name] for name in kept), values, 1e-15 if dtype == DOUBLE else 3e-7)


@pytest.mark.parametrize("sign", Z)
def test_operator_sets_divide_alike(sign: float) -> None:
    """Bit for bit, also where a denominator is hardly one or very large; between 2⁻¹¹³ and 2⁻¹¹² it may be a part of one."""
    least = np.float32(2.0**-112)
    edges = [0, 1e-45, 2**-120, least / 2, least, np.nextafter(least, FLOAT.type(1)), 2**15, 2**126, 3e38]
    drawn = 10 ** np.random.default_rng(0).uniform(-33, 38, 200)
    sizes = np.concatenate([edges, drawn]).astype(FLOAT)
    zs = {1.0: sizes, -1.0: -sizes, 0.0: np.concatenate([sizes, -sizes])}[sign][None]
    found = {}
    for opset in (17, 22):
        bench = Bench(model([node("Identity", "z", "y")], {"z": ["n", "m"]}, ["y"], {}, opset=opset))
        z = bench.tensors["z"]
        division = divide(bench.e, bench.input("R", z), z, 0.0, sign)
        given = bench.session({"s": division.s, **all_kept(division)})(z=zs, R=np.full_like(zs, 3))
        found[opset] = given["s"]
        np.testing.assert_array_equal(given["dead"] == 3, np.abs(zs) < least * (1 - 2**-14), "all of it, or nothing")
        np.testing.assert_array_equal(given["dead"] == 0, np.abs(zs) >= least)
    np.testing.assert_array_equal(found[22], found[17])
    np.testing.assert_array_equal(found[22] != 0, np.abs(zs) >= least)


@pytest.mark.parametrize(("z", "epsilon"), [(2.0, 0.0), (-2.0, 0.5), (0.0, 0.5), (0.0, 0.0), (2.0, 0.5)])
def test_a_denominator_of_equal_entries(z: Value, epsilon: float) -> None:
    bench = Bench(model([node("Identity", "R", "y")], {"R": ["n", 4]}, ["y"], {}))
    division = divide(bench.e, bench.tensors["R"], z, epsilon, 0.0)
    kept = all_kept(division)
    found = bench.session({"s": division.s, **kept})(R=R.astype(FLOAT))
    assert isinstance(z, float)
    whole = z + (epsilon if z >= 0 else -epsilon)
    assert_near(found["s"], R / whole if whole else 0 * R, 1e-7)
    assert_near(found["s"] * z + sum(found[name] for name in kept), R, 1e-7)
    assert list(kept) == (["stabiliser"] if epsilon else [] if z else ["dead"])
