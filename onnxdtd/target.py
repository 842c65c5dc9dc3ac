"""Which class is explained, and the relevance of the logits that the walk starts from."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnxdtd.emit import Emit, Tensor, dims, wide
from onnxdtd.errors import RequestError
from onnxdtd.plan import Plan
from onnxdtd.request import Request

INT64 = np.dtype(np.int64)


def is_column(made: Plan) -> bool:
    """Are the logits [batch], one for each sample, and not [classes]?"""
    return made.samples.column


def logit_count(made: Plan) -> int | None:
    """The number of logits, None where it is known at run time only."""
    sizes = dims(made.logits)
    return 1 if is_column(made) else None if sizes is None else sizes[min(1, len(sizes) - 1)]


def is_binary(made: Plan) -> bool:
    """Is the only logit that of a sigmoid, whose sign chooses between the classes 0 and 1?"""
    return logit_count(made) == 1 and any(
        node.op in ("Sigmoid", "Reciprocal", "LinearClassifier") for node in made.stepped_back
    )


def classes(made: Plan) -> int | None:
    """The number of classes, None where it is known at run time only."""
    return 2 if is_binary(made) else logit_count(made)


def start(e: Emit, made: Plan, request: Request) -> tuple[Tensor, str | None]:
    """The relevance of the logits: the explained one itself, zero elsewhere; in a derivative 1 instead of the logit.

    Also the name of the input that chooses the class at run time, if there is one.
    """
    logits, sizes = e.cast(made.logits, wide(made.logits.dtype)), dims(made.logits)
    if sizes is None:
        rows = e("Flatten", logits, axis=1)
    elif is_column(made):
        rows = e("Unsqueeze", logits, [1])
    else:
        rows = logits if len(sizes) == 2 else e("Reshape", logits, [1, -1]) if len(sizes) == 1 else e("Flatten", logits)
    one = e.constant(np.asarray(1.0, logits.dtype))
    value = e("Expand", one, e("Shape", rows)) if made.derivative else rows
    if request.contrast and classes(made) in (1, 2) and logit_count(made) == 1:
        raise RequestError("--contrast needs a model with at least two classes, a logit for each")
    seed, name = (_of_sign if is_binary(made) else _of_class)(e, made, request, rows, value)
    return (seed if rows is logits else e("Reshape", seed, e.shape(made.logits))), name


def _of_class(e: Emit, made: Plan, request: Request, rows: Tensor, value: Tensor) -> tuple[Tensor, str | None]:
    """``value`` at the explained class; with contrast, minus that of the runner-up."""
    count = logit_count(made)
    end = e("Squeeze", e("Shape", rows, start=1, end=2), [0]) if count is None else e.constant(np.asarray(count))
    target, name = _chosen(e, e("ArgMax", rows, axis=1, keepdims=1), request, classes(made))
    numbers = e("Range", e.constant(np.asarray(0)), end, e.constant(np.asarray(1)))
    chosen = e("Equal", target, numbers)
    seed = e("Where", chosen, value, 0.0)
    if request.contrast:
        others = e("Where", chosen, float("-inf"), rows)
        runner_up = e("Equal", e("ArgMax", others, axis=1, keepdims=1), numbers)
        seed = e("Sub", seed, e("Where", runner_up, value, 0.0))
    return _if_class(e, seed, target, end) if name else seed, name


def _of_sign(e: Emit, made: Plan, request: Request, rows: Tensor, value: Tensor) -> tuple[Tensor, str | None]:
    """The score of class 1 is the logit, that of class 0 its negative."""
    target, name = _chosen(e, e.cast(e("Greater", rows, 0.0), INT64), request, 2)
    sign = e("Sub", e("Mul", e.cast(target, rows.dtype), 2.0), e.constant(np.asarray(1.0, rows.dtype)))
    seed = e("Mul", value, sign)
    return _if_class(e, seed, target, e.constant(np.asarray(2))) if name else seed, name


def _if_class(e: Emit, seed: Tensor, target: Tensor, end: Tensor) -> Tensor:
    """NaN in place of ``seed`` where the class asked for at run time does not exist: no number could be right."""
    exists = e("And", e("GreaterOrEqual", target, e.constant(np.asarray(0))), e("Less", target, end))
    return e("Where", exists, seed, float("nan"))


def _chosen(e: Emit, best: Tensor, request: Request, count: int | None) -> tuple[Tensor, str | None]:
    """The class to explain, one a row ([batch, 1] or [1, 1]), and the name of the input that chooses it at run time."""
    if isinstance(request.target, int):
        if not 0 <= request.target < (np.iinfo(np.int64).max if count is None else count):
            known = "" if count is None else f", which has classes 0 to {count - 1}"
            raise RequestError(f"target {request.target} is no class of this model{known}")
        return e.constant(np.asarray([[request.target]])), None
    if request.target not in (None, "argmax"):
        raise RequestError(f"target {request.target!r}: give 'argmax' or the index of a class")
    if request.target == "argmax":
        return best, None
    wanted = gs.Variable(e.unique("target"), dtype=INT64)
    column = e("Unsqueeze", wanted, [1])
    return e("Where", e("Equal", column, e.constant(np.asarray(-1))), best, column), wanted.name
