"""Log-sum-exp pooling in several operators, as people write it, against the one operator: the same relevance and gradient."""

from collections.abc import Sequence

import numpy as np
import pytest
from derivatives import check_numeric, normal
from nets import DOUBLE, FLOAT, Session, assert_near, model, node
from onnx import ModelProto, NodeProto, helper, numpy_helper

from onnxdtd.compiler.compile import build, prepare
from onnxdtd.request import Request

ONE = [node("ReduceLogSumExp", "h", "p", axes=[2, 3])]
STEEP = [node("Mul", "h g", "s"), node("ReduceLogSumExp", "s", "q", axes=[2, 3]), node("Div", "q g", "p")]
LARGEST = [node("ReduceMax", "h", "m0", axes=[3]), node("ReduceMax", "m0", "m", axes=[2]), node("Sub", "h m", "d")]
TAIL = [node("Exp", "d", "e"), node("ReduceSum", "e axes", "t"), node("Log", "t", "l")]
WRITTEN = {
    "plain": ([node("Exp", "h", "e"), node("ReduceSum", "e axes", "t"), node("Log", "t", "p")], ONE),
    "mean": ([node("Exp", "h", "e"), node("ReduceMean", "e", "t", axes=[2, 3]), node("Log", "t", "p")], ONE),
    "pool": ([node("Exp", "h", "e"), node("GlobalAveragePool", "e", "t"), node("Log", "t", "p")], ONE),
    "log of a sum": ([node("Exp", "h", "e"), node("ReduceLogSum", "e", "p", axes=[2, 3])], ONE),
    "shifted": ([*LARGEST, *TAIL, node("Add", "l m", "p")], ONE),
    "shifted, to rows": (
        [*LARGEST, *TAIL[:2], node("Squeeze", "t axes", "ts"), node("Log", "ts", "ls"), node("Squeeze", "m axes", "ms")]
        + [node("Add", "ms ls", "p")],
        [node("ReduceLogSumExp", "h", "p", axes=[2, 3], keepdims=0)],
    ),
    "shifted by what is no maximum": (
        [node("ReduceMean", "h", "m", axes=[2, 3]), node("Sub", "h m", "d"), *TAIL, node("Add", "m l", "p")],
        ONE,
    ),
    "steep": (
        [node("Mul", "g h", "s"), node("Exp", "s", "e"), node("ReduceMean", "e", "t", axes=[2, 3]), node("Log", "t", "l")]
        + [node("Div", "l g", "p")],
        STEEP,
    ),
    "steep and shifted": (
        [*LARGEST, node("Mul", "d g", "s"), node("Exp", "s", "e"), node("ReduceSum", "e axes", "t"), node("Mul", "t area", "a")]
        + [node("Log", "a", "l"), node("Mul", "l flat", "b"), node("Add", "m b", "p")],
        STEEP,
    ),
}


def net(pool: Sequence[NodeProto], dtype: np.dtype) -> ModelProto:
    before = [node("MatMul", "x k", "c"), node("Sigmoid", "c", "h")]
    weights = {"k": normal(4, 4, seed=1), "v": normal(2, 2, seed=3), "axes": np.array([2, 3])}
    weights |= {"g": np.array(2.5), "flat": np.array(0.4), "area": np.array(1 / 12)}
    nodes = [*before, *pool, node("Flatten", "p", "f"), node("MatMul", "f v", "y")]
    used = {name for n in nodes for name in n.input}
    typed = {k: value.astype(dtype) if k != "axes" else value for k, value in weights.items() if k in used}
    return model(nodes, {"x": ["n", 2, 3, 4]}, ["y"], typed, dtype)


@pytest.mark.parametrize("preset", ["gradient", "lrp-0", "dtd"])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_smooth_maximum_written_out(name, preset):
    """What it gives may differ by a constant; what becomes of relevance that comes to it does not."""
    x, found = normal(2, 2, 3, 4, dtype=FLOAT, seed=4), []
    for nodes in WRITTEN[name]:
        prepared = prepare(net(nodes, FLOAT), Request(preset=preset))
        ops = [step.op for step in prepared.plan.steps]
        assert "ReduceLogSumExp" in ops
        assert not {"Log", "Exp", "ReduceMax"} & set(ops)
        sent = normal(2, 2, *([1, 1] if "rows" not in name else []), dtype=FLOAT, seed=5)
        found.append(Session(build(prepared, inject="p"))(x=x, **{"injected/p": sent})["relevance"])
    assert_near(found[0], found[1], 1e-6)


ONES = helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array(1.0)))
OTHERS = {
    "no logarithm": [node("Exp", "h", "e"), node("ReduceMean", "e", "t", axes=[2, 3]), ONES, node("Add", "t one", "p")],
    "another shift": [*LARGEST, *TAIL, node("Add", "l m0", "p0"), node("ReduceMean", "p0", "p", axes=[2])],
    "another shift of that shape": [*LARGEST, *TAIL, node("ReduceMean", "h", "m2", axes=[2, 3]), node("Add", "l m2", "p")],
    "shifted along what is summed": [*LARGEST[:1], node("Sub", "h m0", "d"), *TAIL, node("Add", "l m0", "p0")]
    + [node("ReduceMean", "p0", "p", axes=[2])],
    "another steepness": [*LARGEST, node("Mul", "d g", "s"), node("Exp", "s", "e"), node("ReduceSum", "e axes", "t")]
    + [node("Log", "t", "l"), node("Mul", "l g", "b"), node("Add", "m b", "p")],
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_none_is_not_taken_for_one(name):
    """Its gradient is that of all that is there."""
    check_numeric(net(OTHERS[name], DOUBLE), {"x": normal(2, 2, 3, 4, seed=4)})
