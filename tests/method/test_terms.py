"""Every symbol, emitted, has the value that its row says, and the facts of its row are true of that value."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Bench, eighths, model, node

from onnxdtd.graph.tensors import as_tensor
from onnxdtd.method.terms import BIASES, INPUTS, WEIGHTS, Context, InputSymbol, Operand, WeightSymbol, operands, weight_of
from onnxdtd.operators.table import OPERATORS

RNG = np.random.default_rng(3)
X, LOW, HIGH = eighths(RNG, 2, 3, 4, 4, low=-2, high=2), np.float32(-1.25), np.float32(1.5)
W, GAMMA = eighths(RNG, 2, 3, 3, 3), 0.5
LAYERS = {"Conv": "x w", "Mul": "x v"}
V = eighths(RNG, 3, 4, 4)


def bench_of(op: str) -> Bench:
    return Bench(model([node(op, LAYERS[op], "y")], {"x": ["n", 3, 4, 4]}, ["y"], {"w": W, "v": V}))


@pytest.mark.parametrize("nonnegative", [True, False], ids=["x>=0", "signed"])
@pytest.mark.parametrize("op", LAYERS)
@pytest.mark.parametrize("name", INPUTS)
def test_an_input_symbol(name: str, op: str, nonnegative: bool) -> None:
    bench, x = bench_of(op), np.abs(X) if nonnegative else X
    (slot,) = OPERATORS[op].linear(bench.e, bench.nodes[0], lambda t: t.name == "x").slots
    bounds = tuple(bench.e.constant(np.asarray(bound)) for bound in (LOW, HIGH))
    value = INPUTS[name].emit(
        bench.e, Operand(bench.e, slot, Context(lambda tensor: nonnegative, lambda tensor: bounds, lambda tensor: tensor))
    )
    expected = INPUTS[name].value(x, LOW + 0 * x, HIGH + 0 * x)
    found = np.full_like(x, value) if isinstance(value, float) else bench.session({"found": value})(x=x)["found"]
    np.testing.assert_array_equal(np.broadcast_to(found, x.shape), expected)
    if op == "Conv":
        assert found.shape == x.shape, "or a convolution would see a smaller picture"


@pytest.mark.parametrize("op", LAYERS)
@pytest.mark.parametrize("name", [name for name in INPUTS if name != "1"])
def test_two_symbols_of_which_both_may_be_negated(name: str, op: str) -> None:
    """Their product is what counts. Behind a convolution nothing is emitted for x⁻ that breaks its layout."""
    bench = bench_of(op)
    (slot,) = OPERATORS[op].linear(bench.e, bench.nodes[0], lambda t: t.name == "x").slots
    bounds = tuple(bench.e.constant(np.asarray(bound)) for bound in (LOW, HIGH))
    context = Context(lambda tensor: False, lambda tensor: bounds, lambda tensor: tensor)
    x, w = operands(bench.e, slot, name, "w", context, GAMMA)
    if name == "x-":
        assert {node.op for node in bench.e.nodes} == ({"Mul", "Relu", "Neg"} if op == "Conv" else {"Min"})
    plain = slot.forward(INPUTS[name].emit(bench.e, Operand(bench.e, slot, context)), slot.w)
    found = bench.session({"found": as_tensor(slot.forward(x, w)), "plain": as_tensor(plain)})(x=X)
    np.testing.assert_array_equal(found["found"], found["plain"])


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_symbol(name: str) -> None:
    bench = bench_of("Conv")
    (slot,) = OPERATORS["Conv"].linear(bench.e, bench.nodes[0], lambda t: t.name == "x").slots
    value = weight_of(bench.e, slot, name, GAMMA)
    found = bench.session({"found": value})(x=X)["found"]
    np.testing.assert_array_equal(found, WEIGHTS[name].value(W, GAMMA).astype(np.float32))


@pytest.mark.parametrize("w", [-2.0, 0.0, 0.5])
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_symbol_of_a_number(name: str, w: float) -> None:
    expected = float(WEIGHTS[name].value(np.asarray(w), GAMMA))
    assert WEIGHTS[name].emit(bench_of("Mul").e, w, GAMMA) == expected
    assert not WEIGHTS[name].vanishes(w) or expected == 0


@pytest.mark.parametrize("symbol", [*INPUTS.values(), *WEIGHTS.values(), *BIASES.values()], ids=[*INPUTS, *WEIGHTS, *BIASES])
def test_the_facts_of_a_row(symbol: InputSymbol | WeightSymbol) -> None:
    """A sign holds for every value, what is fixed or needs neither bounds nor γ does not change with them."""
    x = np.linspace(-3, 3, 25)
    if isinstance(symbol, WeightSymbol):
        values, other = symbol.value(x, 0.5), symbol.value(x, 2.0)
        assert (symbol.gamma and (values != other).any()) or (not symbol.gamma and (values == other).all())
    else:
        values, other = (symbol.value(x, -size + 0 * x, size + 0 * x) for size in (1, 2))
        assert symbol.bounds == (values != other).any()
        assert symbol.fixed == (values == values[0]).all()
        assert not (symbol.vanishes and values[x >= 0].any())
        assert (symbol.within * values[np.abs(x) <= 1] >= 0).all()
    assert (symbol.sign * values >= 0).all()
    assert symbol.sign != 0 or (values.min() < 0 and values.max() > 0) or (isinstance(symbol, InputSymbol) and symbol.fixed)
    assert symbol.keeps_zeros == (values[x == 0] == 0).all()
