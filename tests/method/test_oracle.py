"""The oracle against numbers worked out by hand, against the theorems of the papers, and against mutants of itself.

Random data are multiples of 1/4 or 1/8, whose sums and products are exact in float64: a denominator is then either
exactly 0 or at least 1/64, so that every property can be asked for to 1e-12.
"""

# ruff: noqa: N803, N806  (W, R, ... are the letters of the papers)

import inspect
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import oracle
import pytest
from hypothesis import assume, given, settings
from hypothesis.extra.numpy import arrays
from oracle import Affine, Array, Layer, MaxPool, Net, Relu, Rule, add_layer, neg, pos

TOLERANCE = 1e-12
reproducible = settings(derandomize=True, deadline=None, max_examples=100)


def assert_close(actual: npt.ArrayLike, expected: npt.ArrayLike, what: str = "") -> None:
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=False, err_msg=what)


# ---- by hand ---------------------------------------------------------------------------------------------------------
#
#        x    W              z_ij = x_i w_ij
#        1    2 -1  2         2 -1  2
#        2   -1  3  1        -2  6  2
#       -1   -3  4  4         3 -4 -4
#    Σ_i z_ij                 3  1  0     <- output 2: a denominator that is exactly 0
#        b    1 -3  0
#        y    4 -2  0                     <- one output of each sign

X = np.array([1.0, 2.0, -1.0])
W = np.array([[2.0, -1.0, 2.0], [-1.0, 3.0, 1.0], [-3.0, 4.0, 4.0]])
B = np.array([1.0, -3.0, 0.0])
LOW, HIGH = np.array([0.0, -1.0, -2.0]), np.array([1.0, 2.0, 0.0])
C = np.array([[1, 0, 1], [1, 1, 0], [1, 1, 0]])


class Hand(NamedTuple):
    rule: str
    parameters: dict[str, Any]
    R: list[float]
    R_in: list[float]


HAND = [
    # w²: (4,1,9)/14, (1,9,16)/26, (4,1,16)/21          -> (4,1,9) + (1,9,16) + (4,1,16)
    Hand("w2", {}, [14, 26, 21], [9, 11, 41]),
    # z: (2,-2,3)/3, (-1,6,-4)/1, 0/0                   -> (20,-20,30) + (-6,36,-24) + 0
    Hand("z", {}, [30, 6, 4], [14, 16, 6]),
    # z⁺: (2,0,3)/5, (0,6,0)/6, (2,2,0)/4               -> (12,0,18) + (0,6,0) + (2,2,0)
    Hand("z_plus", {}, [30, 6, 4], [14, 8, 18]),
    # zᴮ: (x-l) w⁺ + (x-h) w⁻ with x-l = (1,3,1), x-h = (0,0,-1):
    #     (2,0,3)/5, (0,9,4)/13, (2,3,4)/9              -> (12,0,18) + (0,9,4) + (2,3,4)
    Hand("z_box", {"low": LOW, "high": HIGH}, [30, 13, 9], [14, 12, 26]),
    # zᴮ, bounds -2 and 3 everywhere: x-l = (3,4,1), x-h = (-2,-1,-4):
    #     (6,1,12)/19, (2,12,4)/18, (6,4,4)/14          -> (6,1,12) + (2,12,4) + (6,4,4)
    Hand("z_box", {"low": -2, "high": 3}, [19, 18, 14], [14, 17, 20]),
    # flat: (1,1,1)/3, (0,1,1)/2, (1,0,0)/1             -> (10,10,10) + (0,3,3) + (4,0,0)
    Hand("flat", {"C": C}, [30, 6, 4], [14, 13, 13]),
    # eps = 1: s(y) = (5,-3,1): (2,-2,3)/5, (-1,6,-4)/-3, (2,2,-4)/1 -> (12,-12,18) + (2,-12,8) + (8,8,-16)
    Hand("epsilon", {"eps": 1.0}, [30, 6, 4], [22, -16, 10]),
    # eps = 0: s(y) = (4,-2,0): (2,-2,3)/4, (-1,6,-4)/-2, 0/0        -> (2,-2,3) + (1,-6,4) + 0
    Hand("epsilon", {"eps": 0.0}, [4, 2, 4], [3, -8, 7]),
    # gamma = 1: y > 0 doubles z⁺ and b⁺: (4,-2,6)/(8+2); y < 0 doubles z⁻ and b⁻: (-2,6,-8)/(-4-6); y = 0: nothing
    #                                               -> (4,-2,6) + (2,-6,8)
    Hand("gamma", {"gamma": 1.0}, [10, 10, 4], [6, -8, 14]),
    # alpha = 2, beta = 1, output 0: 2 (2,0,3)/(5+1) - (0,-2,0)/(-2+0),   R = 6 -> (4,0,6)  - (0,6,0)
    #                      output 1: 2 (0,6,0)/(6+0) - (-1,0,-4)/(-5-3),  R = 8 -> (0,16,0) - (1,0,4)
    #                      output 2: 2 (2,2,0)/(4+0) - (0,0,-4)/(-4+0),   R = 4 -> (4,4,0)  - (0,0,4)
    Hand("alpha_beta", {"alpha": 2.0, "beta": 1.0}, [6, 8, 4], [7, 14, -2]),
]


def check_rule(o: ModuleType, case: Hand) -> None:
    assert_close(getattr(o, case.rule)(X, W, B, np.array(case.R), **case.parameters), case.R_in)


def check_max_route(o: ModuleType) -> None:
    """Windows (3,5), (5,5), (5,1): input 1, the first of the tie (1 again), input 2; then the tie in reverse order."""
    x = np.array([3.0, 5.0, 5.0, 1.0])
    assert_close(o.max_route(x, [[0, 1], [1, 2], [2, 3]], np.array([1.0, 2.0, 4.0])), [0, 3, 4, 0])
    assert_close(o.max_route(x, [[2, 1]], np.array([1.0])), [0, 0, 1, 0])


def check_add(o: ModuleType) -> None:
    """5 - 2 = 3 and 1 - (-3) = 4: shares (5, -2)/3 of 3 and (1, 3)/4 of 8."""
    layer = o.add_layer(2, (1, -1))
    assert_close(o.z(np.array([5.0, 1.0, 2.0, -3.0]), layer.W, layer.b, np.array([3.0, 8.0])), [5, 2, -2, 6])


def check_net(o: ModuleType) -> None:
    """A residual block and a pool under z⁺: y = 2 max(x + relu(x W)) + 4.

    x = (1, 2), x W = (1+2, -1+2) = (3, 1), x + h = (4, 3), y = 2 · 4 + 4 = 12. Relevance 12 goes to the winner, splits
    into 3 for x_0 and 9 for h_0; these 9 split 1:2 over x. x gets (3, 0) directly and (3, 6) through the layer.
    """
    dense = o.Layer(np.array([[1.0, -1.0], [1.0, 1.0]]), np.zeros(2), np.ones((2, 2)))
    double = o.Layer(np.array([[2.0]]), np.array([4.0]), np.ones((1, 1)))
    net = o.Net(
        {
            "linear": o.Affine(("x",), dense),
            "h": o.Relu(("linear",)),
            "sum": o.Affine(("x", "h"), o.add_layer(2)),
            "max": o.MaxPool(("sum",), [[0, 1]]),
            "y": o.Affine(("max",), double),
        }
    )
    values = net.forward(x=np.array([1.0, 2.0]))
    assert_close(values["sum"], [4, 3])
    relevance = net.relevance(values, "y", values["y"], dict.fromkeys(["linear", "sum", "y"], o.z_plus))
    for name, expected in {"y": [12], "max": [12], "sum": [12, 0], "h": [9, 0], "linear": [9, 0], "x": [6, 6]}.items():
        assert_close(relevance[name], expected)


CHECKS: list[Callable[[ModuleType], None]] = [
    *(partial(check_rule, case=case) for case in HAND),
    check_max_route,
    check_add,
    check_net,
]


@pytest.mark.parametrize("check", CHECKS)
def test_by_hand(check: Callable[[ModuleType], None]) -> None:
    check(oracle)


def test_alpha_minus_beta_must_be_one() -> None:
    with pytest.raises(ValueError, match="alpha - beta must be 1"):
        oracle.alpha_beta(X, W, B, B, alpha=2.0, beta=0.5)


def test_rules_compute_in_float64() -> None:
    single: list[Any] = [a.astype(np.float32) for a in (X, W, B, X)]
    assert oracle.z_plus(*single).dtype == np.float64


# ---- matrix ----------------------------------------------------------------------------------------------------------


def convolve(x: Array, kernel: npt.ArrayLike, bias: float) -> Array:
    """y_k = w_0 x_{k-1} + w_1 x_k + w_2 x_{k+1} + bias over [n, 1, 4], zero-padded by 1."""
    padded = np.pad(x[:, 0], [(0, 0), (1, 1)])
    return np.stack([padded[:, k : k + 3] @ np.asarray(kernel) + bias for k in range(4)], axis=1)[:, None]


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_matrix_of_a_convolution(batch: int) -> None:
    sizes = []

    def f(x: Array) -> Array:
        sizes.append(len(x))
        return convolve(x, [2, 0, 5], 7)

    weights, bias = oracle.matrix(f, (1, 4), batch)
    # Column k holds the kernel around row k: w_{k-1,k} = 2, w_{k,k} = 0, w_{k+1,k} = 5.
    assert_close(weights, [[0, 2, 0, 0], [5, 0, 2, 0], [0, 5, 0, 2], [0, 0, 5, 0]])
    assert_close(bias, [7, 7, 7, 7])
    assert max(sizes) <= batch


def test_matrix_numbers_inputs_and_outputs_in_row_major_order() -> None:
    """A transposition of [2, 3] takes entry (r, c), number 3 r + c, to entry (c, r), number 2 c + r."""
    weights, bias = oracle.matrix(lambda x: x.transpose(0, 2, 1).astype(np.float32), (2, 3))
    expected = np.zeros((6, 6))
    for r in range(2):
        for c in range(3):
            expected[3 * r + c, 2 * c + r] = 1
    assert_close(weights, expected)
    assert_close(bias, np.zeros(6))
    assert weights.dtype == bias.dtype == np.float64


def test_flat_counts_the_kernel_window_not_the_nonzero_weights() -> None:
    """The window of the padded convolution covers 2, 3, 3, 2 inputs, though one of its weights is 0."""
    weights, bias = oracle.matrix(lambda x: convolve(x, [2, 0, 5], 7), (1, 4))
    connections, _ = oracle.matrix(lambda x: convolve(x, [1, 1, 1], 0), (1, 4))
    R_in = oracle.flat(np.ones(4), weights, bias, np.array([6.0, 6.0, 6.0, 6.0]), C=connections)
    assert_close(R_in, [3 + 2, 3 + 2 + 2, 2 + 2 + 3, 2 + 3])


# ---- properties of single rules --------------------------------------------------------------------------------------


class Sample(NamedTuple):
    x: Array
    W: Array
    b: Array
    R: Array


def quarters(low: float, high: float) -> st.SearchStrategy[float]:
    return st.integers(int(4 * low), int(4 * high)).map(lambda n: n / 4)


@st.composite
def samples(draw: st.DrawFn, x: tuple[float, float] = (-2, 2), b: tuple[float, float] = (-2, 2)) -> Sample:
    """A layer of up to 4 inputs and 4 outputs, x and b drawn from the given ranges, with relevances of either sign; in some of
    them half of all numbers are 0.
    """
    inputs, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rng, kept = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.sampled_from([1.0, 0.5]))

    def numbers(low: float, high: float, *shape: int) -> Array:
        return rng.integers(int(4 * low), int(4 * high), shape, endpoint=True) / 4 * (rng.random(shape) < kept)

    return Sample(numbers(*x, inputs), numbers(-2, 2, inputs, outputs), numbers(*b, outputs), numbers(-2, 2, outputs))


BOX = {"low": -1.0, "high": 1.5}
SIMPLE: dict[str, Rule] = {
    "w2": oracle.w2,
    "z": oracle.z,
    "z_plus": oracle.z_plus,
    "z_box": partial(oracle.z_box, **BOX),
    "flat": lambda x, W, b, R: oracle.flat(x, W, b, R, C=W != 0),
    "gamma": lambda x, W, b, R: oracle.gamma(x, W, np.zeros_like(b), R, gamma=0.25),
}
WITH_BIAS: dict[str, Rule] = {
    "epsilon": partial(oracle.epsilon, eps=0.25),
    "lrp0": partial(oracle.epsilon, eps=0.0),
    "alpha_beta": partial(oracle.alpha_beta, alpha=2.0, beta=1.0),
}


# Σ_i of the terms of each rule, in matrix form [S 2] where the paper gives one.
DENOMINATORS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "w2": lambda x, W, b: (W**2).sum(axis=0),
    "z": lambda x, W, b: W.T @ x,
    "z_plus": lambda x, W, b: pos(x[:, None] * W).sum(axis=0),
    "z_box": lambda x, W, b: W.T @ x - BOX["low"] * pos(W).sum(axis=0) - BOX["high"] * neg(W).sum(axis=0),
    "flat": lambda x, W, b: (W != 0).sum(axis=0),
    "gamma": lambda x, W, b: np.select(
        [W.T @ x > 0, W.T @ x < 0],
        [W.T @ x + 0.25 * part(x[:, None] * W).sum(axis=0) for part in (pos, neg)],
    ),
}


@given(sample=samples())
@reproducible
def test_conservation_wherever_the_denominator_is_not_zero(sample: Sample) -> None:
    """Σ_i R_i = Σ_j R_j over the outputs with a denominator other than 0; the others give exactly nothing."""
    x, W, b, R = sample
    for name, rule in SIMPLE.items():
        alive = DENOMINATORS[name](x, W, b) != 0
        assert_close(rule(x, W, b, R).sum(), R[alive].sum(), name)
        np.testing.assert_array_equal(rule(x, W, b, np.where(alive, 0.0, R)), np.zeros_like(x), name)


@given(sample=samples(), eps=quarters(0, 1))
@reproducible
def test_epsilon_loses_what_bias_and_stabiliser_absorb(sample: Sample, eps: float) -> None:
    """Σ_i R_i = Σ_j R_j (1 - (b_j + eps sign(y_j)) / s(y_j))."""
    x, W, b, R = sample
    y = W.T @ x + b
    absorber = b + eps * np.where(y >= 0, 1, -1)
    alive = (W.T @ x + absorber) != 0
    kept = R[alive] * (1 - absorber[alive] / (W.T @ x + absorber)[alive])
    assert_close(oracle.epsilon(x, W, b, R, eps=eps).sum(), kept.sum())


@given(sample=samples(b=(0, 0)), beta=quarters(0, 2))
@reproducible
def test_alpha_beta_conserves_where_both_parts_exist(sample: Sample, beta: float) -> None:
    """Without bias, Σ_i R_i = Σ_j (alpha [some z_ij > 0] - beta [some z_ij < 0]) R_j: R_j itself where both exist."""
    x, W, b, R = sample
    terms = x[:, None] * W
    factor = (1 + beta) * (terms > 0).any(axis=0) - beta * (terms < 0).any(axis=0)
    assert_close(oracle.alpha_beta(x, W, b, R, alpha=1 + beta, beta=beta).sum(), factor @ R)


@given(sample=samples(), other=st.data())
@reproducible
def test_linear_in_relevance(sample: Sample, other: st.DataObject) -> None:
    x, W, b, R = sample
    R2 = other.draw(arrays(np.float64, len(R), elements=quarters(-2, 2)))
    for name, rule in (SIMPLE | WITH_BIAS).items():
        assert_close(rule(x, W, b, 3 * R - R2), 3 * rule(x, W, b, R) - rule(x, W, b, R2), name)


@given(sample=samples(), c=st.sampled_from([0.5, 3.0, 8.0]))
@reproducible
def test_unchanged_when_weights_or_inputs_are_rescaled(sample: Sample, c: float) -> None:
    """W, b -> c W, c b leaves the shares as they are, and so does x, b -> c x, c b; eps and the box scale along."""
    x, W, b, R = sample
    for name, rule in (SIMPLE | WITH_BIAS).items():
        larger_y: Rule = partial(oracle.epsilon, eps=0.25 * c) if name == "epsilon" else rule
        larger_x: Rule = partial(oracle.z_box, low=c * BOX["low"], high=c * BOX["high"]) if name == "z_box" else larger_y
        assert_close(larger_y(x, c * W, c * b, R), rule(x, W, b, R), name)
        assert_close(larger_x(c * x, W, c * b, R), rule(x, W, b, R), name)


# ---- identities between rules ----------------------------------------------------------------------------------------


@given(sample=samples(b=(0, 0)))
@reproducible
def test_alpha1_beta0_without_bias_is_z_plus(sample: Sample) -> None:
    """[LRP (2)]; here for signed inputs too."""
    assert_close(oracle.alpha_beta(*sample, alpha=1.0, beta=0.0), oracle.z_plus(*sample))


@given(sample=samples(x=(0, 2)))
@reproducible
def test_z_plus_of_non_negative_inputs_needs_one_term(sample: Sample) -> None:
    x, W, b, R = sample
    assert_close(oracle.z_plus(x, W, b, R), oracle.z(x, pos(W), b, R))


@given(sample=samples())
@reproducible
def test_z_box_at_zero_is_z(sample: Sample) -> None:
    assert_close(oracle.z_box(*sample, low=0.0, high=0.0), oracle.z(*sample))


@given(sample=samples(x=(0, 2)))
@reproducible
def test_z_box_of_non_negative_inputs_and_weights_is_z_plus(sample: Sample) -> None:
    x, W, b, R = sample
    assert_close(oracle.z_box(x, abs(W), b, R, low=0.0, high=2.0), oracle.z_plus(x, abs(W), b, R))


@given(sample=samples())
@reproducible
def test_z_box_around_zero_input_is_proportional_to_absolute_weights(sample: Sample) -> None:
    """x = 0 in the box [-1, 1]: q_ij = w_ij⁺ - w_ij⁻ = |w_ij|, the square root of the w² terms."""
    _, W, b, R = sample
    x = np.zeros(len(W))
    assert_close(oracle.z_box(x, W, b, R, low=-1.0, high=1.0), oracle.w2(x, np.sqrt(abs(W)), b, R))


@given(sample=samples(b=(0, 0)))
@reproducible
def test_epsilon_zero_and_gamma_zero_without_bias_are_z(sample: Sample) -> None:
    assert_close(oracle.epsilon(*sample, eps=0.0), oracle.z(*sample))
    assert_close(oracle.gamma(*sample, gamma=0.0), oracle.z(*sample))


@given(sample=samples(x=(0, 2)))
@reproducible
def test_gamma_tends_to_z_plus_where_y_is_positive(sample: Sample) -> None:
    x, W, b, R = sample
    b = np.zeros_like(b)
    R = np.where((W.T @ x > 0) & (pos(W).T @ x > 0), R, 0.0)
    large = oracle.gamma(x, W, b, R, gamma=1e9)
    np.testing.assert_allclose(large, oracle.z_plus(x, W, b, R), rtol=0, atol=1e-6)


@given(sample=samples())
@reproducible
def test_gamma_is_odd_in_the_weights(sample: Sample) -> None:
    """Negating the layer swaps y > 0 with y < 0 and the two weight terms, so no share changes."""
    x, W, b, R = sample
    assert_close(oracle.gamma(x, -W, -b, R, gamma=0.25), oracle.gamma(x, W, b, R, gamma=0.25))


# ---- deep Taylor decomposition: roots and Propositions 1 to 3 --------------------------------------------------------


class Domain(NamedTuple):
    """The input domain of a rule, where x is drawn from, and its root search directions V [I, J] [S 1.1 to 1.4]."""

    low: float
    high: float
    x: tuple[float, float]
    direction: Callable[[Array, Array], Array]
    parameters: dict[str, float]


DEEP_TAYLOR = {
    "w2": Domain(-np.inf, np.inf, (-2, 2), lambda x, W: W, {}),
    "z": Domain(0, np.inf, (0, 2), lambda x, W: x[:, None] * np.ones_like(W), {}),
    "z_plus": Domain(0, np.inf, (0, 2), lambda x, W: x[:, None] * (W >= 0), {}),
    "z_box": Domain(
        BOX["low"],
        BOX["high"],
        (BOX["low"], BOX["high"]),
        lambda x, W: x[:, None] - BOX["low"] * (W > 0) - BOX["high"] * (W < 0),
        BOX,
    ),
}


def check_deep_taylor(o: ModuleType, name: str, x: Array, W: Array, b: Array) -> None:
    """The rule, applied to R_j = max(0, y_j), is the Taylor expansion of each R_j at its root [S (2), (4), (5)].

    The root x - t v with t = y_j / v·w_j must lie on the plane y_j = 0, on the segment searched and inside the domain.
    """
    domain = DEEP_TAYLOR[name]
    R_in = np.zeros_like(x)
    for w, b_j, v in zip(W.T, b, domain.direction(x, W).T, strict=True):
        y = x @ w + b_j
        if y > 0:
            root = x - y / (v @ w) * v
            assert_close(root @ w + b_j, 0)
            assert np.all(root >= domain.low - TOLERANCE)
            assert np.all(root <= domain.high + TOLERANCE)
            R_in += w * (x - root)
    assert_close(getattr(o, name)(x, W, b, pos(x @ W + b), **domain.parameters), R_in)


def check_consistent(o: ModuleType, name: str, x: Array, W: Array, b: Array) -> None:
    """Conservative and positive for R_j = max(0, y_j), without exception [S Propositions 1, 2, 3]."""
    R = pos(x @ W + b)
    R_in = getattr(o, name)(x, W, b, R, **DEEP_TAYLOR[name].parameters)
    assert_close(R_in.sum(), R.sum())
    assert np.all(R_in >= 0)


@pytest.mark.parametrize("name", DEEP_TAYLOR)
@given(data=st.data())
@reproducible
def test_rule_is_a_taylor_expansion_at_a_root(name: str, data: st.DataObject) -> None:
    x, W, b, _ = data.draw(samples(x=DEEP_TAYLOR[name].x, b=(-2, 0)))
    check_deep_taylor(oracle, name, x, W, b)


@pytest.mark.parametrize("name", ["w2", "z_plus", "z_box"])
@given(data=st.data())
@reproducible
def test_propositions_1_2_3(name: str, data: st.DataObject) -> None:
    x, W, b, _ = data.draw(samples(x=DEEP_TAYLOR[name].x, b=(-2, 0)))
    check_consistent(oracle, name, x, W, b)


@given(sample=samples())
@reproducible
def test_non_negative_relevance_stays_non_negative(sample: Sample) -> None:
    """For any bias; x anywhere but for zᴮ, which needs it in the box."""
    x, W, b, R = sample
    for name in ("w2", "z_plus", "z_box", "flat"):
        inside = np.clip(x, *DEEP_TAYLOR["z_box"].x) if name == "z_box" else x
        assert np.all(SIMPLE[name](inside, W, b, abs(R)) >= 0), name


def test_z_box_outside_the_box_can_be_negative() -> None:
    """The condition matters: x = 2 over h = 1 gives q = (2-1)(-1) = -1 against q = 3 of the other input."""
    layer = (np.array([2.0, 3.0]), np.array([[-1.0], [1.0]]), np.zeros(1))
    assert_close(oracle.z_box(*layer, np.array([2.0]), low=0.0, high=1.0), [-1, 3])


@given(sample=samples())
@reproducible
def test_matrix_algorithms_of_the_supplement(sample: Sample) -> None:
    """[S 2.1 to 2.4], for outputs with no denominator of 0."""
    x, W, b, R = sample
    low, high = np.full_like(x, BOX["low"]), np.full_like(x, BOX["high"])
    U, V = neg(W), pos(W)
    totals = [(W * W).sum(axis=0), W.T @ x, V.T @ pos(x), W.T @ x - V.T @ low - U.T @ high]
    assume(np.all(totals))
    w2, z, z_plus, z_box = totals
    N = R / z_box
    assert_close(oracle.w2(x, W, b, R), W * W / w2 @ R)
    assert_close(oracle.z(x, W, b, R), x * (W @ (R / z)))
    assert_close(oracle.z_plus(pos(x), W, b, R), pos(x) * (V @ (R / z_plus)))
    assert_close(oracle.z_box(x, W, b, R, **BOX), x * (W @ N) - low * (V @ N) - high * (U @ N))


# ---- networks --------------------------------------------------------------------------------------------------------


def eighths(rng: np.random.Generator, low: float, high: float, *shape: int) -> Array:
    return rng.integers(int(8 * low), int(8 * high), shape, endpoint=True) / 8


TOPOLOGIES = ["chain", "residual", "diamond", "shared"]


def random_net(topology: str, rng: np.random.Generator, w: tuple[float, float], b: tuple[float, float]) -> Net:
    """A ReLU network from 4 inputs `x` to one logit `y`, weights and biases drawn from the ranges given."""

    def layer(inputs: int, outputs: int) -> Layer:
        return Layer(eighths(rng, *w, inputs, outputs), eighths(rng, *b, outputs), np.ones((inputs, outputs)))

    shared, width = layer(4, 4), 4
    head: dict[str, Affine | Relu | MaxPool] = {"first": Affine(("x",), layer(4, 4)), "h": Relu(("first",))}
    body: dict[str, Affine | Relu | MaxPool]
    match topology:
        case "chain":
            body, width = {"top": MaxPool(("h",), [[0, 1, 2], [2, 3], [3, 1]])}, 3
        case "residual":
            body = {
                "branch": Affine(("h",), layer(4, 4)),
                "branch_relu": Relu(("branch",)),
                "top": Affine(("h", "branch_relu"), add_layer(4)),
            }
        case "diamond":
            width = 3
            body = {
                "left": Affine(("h",), layer(4, 3)),
                "left_relu": Relu(("left",)),
                "right": Affine(("h",), layer(4, 3)),
                "right_relu": Relu(("right",)),
                "difference": Affine(("left_relu", "right_relu"), add_layer(3, (1, -1))),
                "top": Relu(("difference",)),
            }
        case "shared":
            body = {
                "once": Affine(("h",), shared),
                "once_relu": Relu(("once",)),
                "twice": Affine(("once_relu",), shared),
                "twice_relu": Relu(("twice",)),
                "top": Affine(("once_relu", "twice_relu"), layer(8, 4)),
            }
    return Net(head | body | {"top_relu": Relu(("top",)), "y": Affine(("top_relu",), layer(width, 1))})


def rules_for(net: Net, choose: Callable[[str, Layer], Rule]) -> dict[str, Rule]:
    return {name: choose(name, node.layer) for name, node in net.nodes.items() if isinstance(node, Affine)}


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("seed", range(5))
def test_lrp0_is_gradient_times_input(topology: str, seed: int) -> None:
    """With biases and eps = 0, a piecewise linear network gives R = x · df/dx.

    The central difference is exact: f is linear between the two points, and all numbers are short binary fractions.
    """
    rng = np.random.default_rng(seed)
    net = random_net(topology, rng, (-2, 2), (-1, 1))
    x, step = eighths(rng, -2, 2, 4), 2.0**-20
    values = net.forward(x=x)
    R = net.relevance(values, "y", values["y"], rules_for(net, lambda *_: partial(oracle.epsilon, eps=0.0)))["x"]

    def f(x: Array) -> float:
        return float(net.forward(x=x)["y"][0])

    gradient = [(f(x + step * e) - f(x - step * e)) / (2 * step) for e in np.eye(4)]
    assert_close(R, x * gradient)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("first", ["w2", "z_plus", "z_box"])
@pytest.mark.parametrize("seed", range(5))
def test_deep_taylor_of_a_network_is_consistent(topology: str, first: str, seed: int) -> None:
    """Biases <= 0, z⁺ above the first layer: the relevances of the inputs are non-negative and sum to f > 0."""
    rng = np.random.default_rng(seed)
    domain = DEEP_TAYLOR[first]
    nets = (random_net(topology, rng, (-1, 2), (-0.5, 0)) for _ in range(100))
    runs = ((net, net.forward(x=eighths(rng, *domain.x, 4))) for net in nets)
    net, values = next((net, values) for net, values in runs if values["y"][0] > 0)
    rules = rules_for(net, lambda *_: oracle.z_plus) | {"first": partial(getattr(oracle, first), **domain.parameters)}
    R = net.relevance(values, "y", values["y"], rules)["x"]
    assert np.all(R >= 0)
    assert_close(R.sum(), values["y"][0])


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_flat_conserves_any_relevance_through_a_network(topology: str) -> None:
    rng = np.random.default_rng(0)
    net = random_net(topology, rng, (-2, 2), (-1, 1))
    values = net.forward(x=eighths(rng, -2, 2, 4))
    rules = rules_for(net, lambda _, layer: partial(oracle.flat, C=layer.C))
    assert_close(net.relevance(values, "y", np.array([-3.0]), rules)["x"].sum(), -3)


def test_relevance_of_an_inner_tensor_ignores_what_lies_above() -> None:
    rng = np.random.default_rng(0)
    net = random_net("chain", rng, (-2, 2), (-1, 1))
    values = net.forward(x=eighths(rng, -2, 2, 4))
    relevance = net.relevance(values, "first", np.ones(4), rules_for(net, lambda *_: oracle.w2))
    first = net.nodes["first"]
    assert isinstance(first, Affine)
    assert_close(relevance["x"], oracle.w2(values["x"], first.layer.W, first.layer.b, np.ones(4)))
    assert_close(relevance["y"], [0])


# ---- testing the test ------------------------------------------------------------------------------------------------

MUTANTS = {
    "transposed matrix": ("return shares @ R", "return shares.T @ R"),
    "negative totals dropped": ("where=total != 0", "where=total > 0"),
    "w2 not squared": ("terms = W * W", "terms = np.abs(W)"),
    "z_plus wrong sign": ("terms = pos(x)[:, None] * pos(W) + neg", "terms = pos(x)[:, None] * pos(W) - neg"),
    "z_box wrong sign of high": ("- high[:, None]", "+ high[:, None]"),
    "z_box bounds exchanged": ("for bound in (low, high)", "for bound in (high, low)"),
    "flat from nonzero weights": ("np.asarray(C, np.float64)", "np.asarray(W != 0, np.float64)"),
    "epsilon wrong sign": ("y + eps *", "y - eps *"),
    "epsilon sign of zero": ("np.where(y >= 0, 1.0, -1.0)", "np.sign(y)"),
    "epsilon without bias": ("y = terms.sum(axis=0) + b", "y = terms.sum(axis=0)"),
    "gamma cases exchanged": ("favour_pos, favour_neg)", "favour_neg, favour_pos)"),
    "gamma redistributes at y = 0": (" * (y != 0)", ""),
    "alpha_beta whole bias": ("+ pos(b)", "+ b"),
    "alpha_beta wrong sign": ("alpha * gain - beta * loss", "alpha * gain + beta * loss"),
    "max_route last of ties": ("max(window,", "max(reversed(window),"),
    "max_route overwrites": ("R_in[winner] += R_j", "R_in[winner] = R_j"),
    "add_layer ignores signs": ("sign * np.eye", "np.eye"),
    "fan-out overwrites": ("relevance[source] + share", "share"),
    "forward order": ("in reversed(self.nodes.items())", "in self.nodes.items()"),
}


def copy_of_oracle(old: str = "", new: str = "") -> ModuleType:
    """The oracle compiled from its source with one piece of text replaced."""
    source = inspect.getsource(oracle)
    if old:
        assert source.count(old) == 1, f"the mutation no longer applies: {old!r}"
    copy = ModuleType("copy_of_oracle")
    exec(source.replace(old, new) if old else source, copy.__dict__)
    return copy


def check_all(o: ModuleType) -> None:
    for check in CHECKS:
        check(o)


def test_an_unchanged_copy_passes() -> None:
    check_all(copy_of_oracle())


@pytest.mark.parametrize("mutant", MUTANTS)
def test_examples_by_hand_catch(mutant: str) -> None:
    with pytest.raises(AssertionError):
        check_all(copy_of_oracle(*MUTANTS[mutant]))


# In the box, b <= 0, and only y_1 = -1 + 1.5 + 5 - 0.5 is positive: no other output hides what a mutant does to it.
INSIDE = (np.array([1.0, 0.5, 1.25]), W, np.array([-0.25, -0.5, -10.0]))


@pytest.mark.parametrize(
    ("mutant", "rule"),
    [
        ("transposed matrix", "w2"),
        ("transposed matrix", "z"),
        ("transposed matrix", "z_plus"),
        ("transposed matrix", "z_box"),
        ("w2 not squared", "w2"),
        ("z_box wrong sign of high", "z_box"),
        ("z_box bounds exchanged", "z_box"),
    ],
)
def test_taylor_expansions_catch(mutant: str, rule: str) -> None:
    check_deep_taylor(oracle, rule, *INSIDE)
    with pytest.raises(AssertionError):
        check_deep_taylor(copy_of_oracle(*MUTANTS[mutant]), rule, *INSIDE)


@pytest.mark.parametrize(
    ("mutant", "rule"),
    [
        ("transposed matrix", "w2"),
        ("transposed matrix", "z_plus"),
        ("transposed matrix", "z_box"),
        ("z_box wrong sign of high", "z_box"),
    ],
)
def test_propositions_catch(mutant: str, rule: str) -> None:
    """Fewer than the expansions do: 'w2 not squared' and 'z_box bounds exchanged' are consistent decompositions too."""
    check_consistent(oracle, rule, *INSIDE)
    with pytest.raises(AssertionError):
        check_consistent(copy_of_oracle(*MUTANTS[mutant]), rule, *INSIDE)
