"""Gradients of models, against central differences in float64.

No tensor is nearer to a kink than the differences reach, 2/1000.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from nets import DOUBLE, FLOAT, Session, Shape, assert_near, model, node, symbolic
from onnx import ModelProto, NodeProto
from onnx.reference import ReferenceEvaluator

import onnxdtd
from onnxdtd.errors import RequestError

Array = np.ndarray
STEP = 1e-3  # of a difference of fourth order, whose own error is then about 1e-12
TIGHT = {DOUBLE: 1e-9, FLOAT: 3e-6}  # relative to the largest derivative


def slope(f: Callable[[Array], Array], x: Array) -> Array:
    """f' of a function that works element by element."""
    near, far = (f(x + h) - f(x - h) for h in (STEP, 2 * STEP))
    return (8 * near - far) / (12 * STEP)


def numeric(f: Callable[..., float], x: Mapping[str, Array]) -> dict[str, Array]:
    """∂f/∂x of a number that depends on several arrays."""
    found = {}
    for name, value in x.items():
        found[name] = np.zeros(value.shape)
        for at in np.ndindex(value.shape):

            def moved(h: Array, name: str = name, at: tuple[int, ...] = at) -> float:
                point = {n: v.astype(np.float64) for n, v in x.items()}
                point[name][at] += h
                return f(**point)

            near, far = (moved(h) - moved(-h) for h in (STEP, 2 * STEP))
            found[name][at] = (8 * near - far) / (12 * STEP)
    return found


def explained(proto: ModelProto, x: Mapping[str, Array], preset: str = "gradient", **options: Any) -> dict[str, Array]:
    """What a preset gives for each of the inputs ``x``, and the outputs of the predictor."""
    results = Session(onnxdtd.compile(proto, preset, **options))(**x)
    return {name: results[f"relevance/{name}" if len(x) > 1 else "relevance"] for name in x} | {"y": results["y"]}


def relevances(
    proto: ModelProto, x: Mapping[str, Array], preset: str, keep: Sequence[str] = ("p",), **options: Any
) -> dict[str, Array]:
    """The relevance of the inputs that have any and of ``keep``, by name."""
    compiled = onnxdtd.compile(proto, preset, keep=keep, **options)
    found = {name.removeprefix("relevance/"): value for name, value in Session(compiled)(**x).items() if "relevance" in name}
    if "relevance" in found:
        (name,) = [name for name in x if name not in found][:1] or ["x"]
        found[name] = found.pop("relevance")
    return found


def refused(name: str, proto: ModelProto, preset: str) -> None:
    """Relevance does not reach the tensor ``name``."""
    with pytest.raises(RequestError, match="relevance does not pass"):
        onnxdtd.compile(proto, preset, keep=[name])


def check_numeric(
    proto: ModelProto, x: Mapping[str, Array], y: Callable[..., Array] | None = None, rtol: float | None = None
) -> None:
    """The gradient of the logits of class 1 in the first sample, 2 in the second ... ``y`` is the model in float64; by default
    the model itself.
    """
    session, dtype = Session(proto), next(iter(x.values())).dtype
    forward = y or (lambda **point: session(**point)["y"])
    scores = forward(**{name: value.astype(np.float64) for name, value in x.items()})
    rows = np.arange(len(scores))
    target = (rows + 1) % scores.shape[1]
    found = Session(onnxdtd.compile(proto, "gradient", target="input"))(**x, target=target)
    assert_near(found["y"], scores, rtol or TIGHT[dtype])
    expected = numeric(lambda **point: forward(**point)[rows, target].sum(), x)
    for name in x:
        g = found[f"relevance/{name}" if len(x) > 1 else "relevance"]
        assert g.dtype == dtype
        assert_near(g, expected[name], rtol or TIGHT[dtype])


def in_float64(proto: ModelProto) -> Callable[..., Array]:
    """A model of float64, in the reference implementation: ONNX Runtime has no kernel for some of its operators."""
    evaluator = ReferenceEvaluator(proto)
    return lambda **x: evaluator.run(["y"], x)[0]


def classifier(
    nodes: Sequence[NodeProto],
    shape: Sequence[int],
    constants: Mapping[str, Array],
    dtype: np.dtype,
    dynamic: bool = False,
    h: Sequence[int] = (),
    opset: int = 17,
) -> tuple[ModelProto, Array]:
    """x -> nodes -> h -> three classes, and the weights [.., 3] of the last layer."""
    size = int(np.prod((h or shape)[1:]))
    w = np.random.default_rng(5).normal(size=(size, 3)).astype(dtype)
    nodes = [*nodes, node("Flatten", "h", "rows"), node("MatMul", "rows w", "y")]
    sizes: Shape = symbolic(shape) if dynamic else list(shape)
    weights = {name: value.astype(dtype) if value.dtype.kind == "f" else value for name, value in constants.items()}
    return model(nodes, {"x": sizes}, ["y"], weights | {"w": w}, dtype, opset), w


def check_operator(
    made: NodeProto,
    f: Callable[[Array], Array],
    x: Array,
    constants: Mapping[str, Array] | None = None,
    dynamic: bool = False,
    opset: int = 17,
) -> None:
    """One operator, and the same in numpy."""
    h = f(x.astype(np.float64))
    proto, w = classifier([made], x.shape, constants or {}, x.dtype, dynamic, h.shape, opset)
    check_numeric(proto, {"x": x}, lambda x: f(x).reshape(len(x), -1) @ w.astype(np.float64))


def normal(*shape: int, dtype: np.dtype = DOUBLE, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)
