"""Which score is explained: Σ c_k z_k of the logits z, with c one-hot, ±1 for the only logit of two classes, or a contrast."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxdtd.compiler.logits import heads
from onnxdtd.compiler.plan import Plan
from onnxdtd.contract import TARGET
from onnxdtd.errors import RequestError
from onnxdtd.graph.emit import Emit, dims, known, wide
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.method import Method
from onnxdtd.request import AT_RUN_TIME, Request

INT64 = np.dtype(np.int64)


def is_column(made: Plan) -> bool:
    """Are the logits [batch], one for each sample, and not [classes]?"""
    return made.samples.column


def logit_count(made: Plan) -> int | None:
    """The number of logits, None where it is known at run time only."""
    sizes = dims(made.logits)
    own = None if sizes is None else known(sizes[min(1, len(sizes) - 1) :])
    return 1 if is_column(made) else None if own is None else math.prod(own)


def is_binary(made: Plan) -> bool:
    """Is the only logit that of a sigmoid, whose sign chooses between the classes 0 and 1?"""
    return logit_count(made) == 1 and any(head.one for head in heads(made.stepped_back))


def classes(made: Plan) -> int | None:
    """The number of classes, None where it is known at run time only."""
    return 2 if is_binary(made) else logit_count(made)


@dataclass(frozen=True)
class Score:
    """The explained score: ``value`` is c z and ``coefficients`` is c, both of the shape of the logits; ``one_hot`` where c is
    1 at a class and 0 elsewhere; ``total`` is Σ c z, [batch]; ``target`` the input that chooses the class.
    """

    value: Tensor
    coefficients: Tensor
    one_hot: bool
    total: Tensor
    target: Tensor | None

    def seed(self, method: Method) -> Tensor:
        """What the logits start with: their part of the score, or how much each counts."""
        return {"logit": self.value, "1": self.coefficients}[method.seed]


def score(e: Emit, made: Plan, request: Request) -> Score:
    """What ``request`` asks of the planned model. Raises ``RequestError`` for a class or a contrast that there is not."""
    logits, sizes = e.cast(made.logits, wide(made.logits.dtype)), dims(made.logits)
    if sizes is None:
        rows = e("Flatten", logits, axis=1)
    elif is_column(made):
        rows = e("Unsqueeze", logits, [1])
    else:
        rows = logits if len(sizes) == 2 else e("Reshape", logits, [1, -1]) if len(sizes) == 1 else e("Flatten", logits)
    if request.contrast and classes(made) == 1:
        raise RequestError("--contrast needs a model with at least two classes; a single logit counts as two before a sigmoid")
    value, c, wanted = (_of_sign if is_binary(made) else _of_class)(e, made, request, rows)
    total = e("ReduceSum", value, [1], keepdims=0, shape=[made.samples.size])
    back = lambda t: t if rows is logits else e("Reshape", t, e.shape(made.logits))
    return Score(back(value), back(c), not (is_binary(made) or request.contrast), total, wanted)


def _of_class(e: Emit, made: Plan, request: Request, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """c is 1 at the explained class; with contrast −1 at the runner-up, or −1/(n − 1) at each of the rest."""
    count = logit_count(made)
    end = e("Squeeze", e("Shape", rows, start=1, end=2), [0]) if count is None else e.constant(np.asarray(count))
    target, wanted = _chosen(e, made, e("ArgMax", rows, axis=1, keepdims=1), request, classes(made))
    numbers = e("Range", e.constant(np.asarray(0)), end, e.constant(np.asarray(1)))
    chosen = e("Equal", target, numbers)
    ones = e("Expand", e.constant(np.asarray(1.0, rows.dtype)), e("Shape", rows))
    value, c = (e("Where", chosen, of, 0.0) for of in (rows, ones))
    if request.contrast == "rest":
        each = e("Div", ones, e.cast(e("Sub", end, e.constant(np.asarray(1))), rows.dtype))
        value, c = (e("Where", chosen, of, e("Neg", e("Mul", of, each))) for of in (rows, ones))
    elif request.contrast:
        others = e("Where", chosen, float("-inf"), rows)
        runner_up = e("Equal", e("ArgMax", others, axis=1, keepdims=1), numbers)
        value, c = (e("Sub", own, e("Where", runner_up, of, 0.0)) for own, of in ((value, rows), (c, ones)))
    if wanted is not None:
        value, c = (_if_class(e, t, target, end) for t in (value, c))
    return value, c, wanted


def _of_sign(e: Emit, made: Plan, request: Request, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The score of class 1 is the logit, that of class 0 its negative; a contrast is the difference of both."""
    target, wanted = _chosen(e, made, e.cast(e("Greater", rows, 0.0), INT64), request, 2)
    size = 2.0 if request.contrast else 1.0
    c = e("Sub", e("Mul", e.cast(target, rows.dtype), 2.0 * size), e.constant(np.asarray(size, rows.dtype)))
    c = c if wanted is None else _if_class(e, c, target, e.constant(np.asarray(2)))
    c = e("Expand", c, e("Shape", rows))
    return e("Mul", rows, c), c, wanted


def _if_class(e: Emit, values: Tensor, target: Tensor, end: Tensor) -> Tensor:
    """NaN in place of ``values`` where the class asked for at run time does not exist: no number could be right."""
    exists = e("And", e("GreaterOrEqual", target, e.constant(np.asarray(0))), e("Less", target, end))
    return e("Where", exists, values, float("nan"))


def _chosen(e: Emit, made: Plan, best: Tensor, request: Request, count: int | None) -> tuple[Tensor, Tensor | None]:
    """The class to explain, one a row ([batch, 1] or [1, 1]), and the input that chooses it at run time."""
    if isinstance(request.target, int):
        if not 0 <= request.target < (np.iinfo(np.int64).max if count is None else count):
            known = "" if count is None else f", which has classes 0 to {count - 1}"
            raise RequestError(f"target {request.target} is no class of this model{known}")
        return e.constant(np.asarray([[request.target]])), None
    if request.target in (None, "argmax"):
        return best, None
    if request.target not in AT_RUN_TIME:
        raise RequestError(f"target {request.target!r}: give 'argmax', 'input', 'optional' or the index of a class")
    wanted = Tensor(e.unique(TARGET), dtype=INT64, shape=target_shape(made, request.target))
    column = e("Unsqueeze", wanted, [1])
    return e("Where", e("Equal", column, e.constant(np.asarray(-1))), best, column), wanted


def target_shape(made: Plan, target: str) -> list[int | str | None]:
    """Of the input: as many as there are samples, by the same name as in the inputs; an optional one may have one for all."""
    if target == "optional":
        return ["dtd/targets"]
    sizes = [t.shape[axis] for t in made.inputs if t.shape and (axis := made.samples.axes[t.name]) is not None]
    return sizes[:1] or [made.samples.size]
