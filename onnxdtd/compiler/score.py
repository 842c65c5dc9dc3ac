"""Which score is explained: Σ c_k z_k of the logits z. c is one-hot, ±1 for the logit of two classes, a contrast, or fed.

Of a quantity less a reference it is the sign: what is below has the relevance of its twin −z above, times −1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxdtd.compiler.logits import heads
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.reference import check
from onnxdtd.contract import SCORE, TARGET
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.graph.emit import Emit, dims, known, wide
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.method import Method
from onnxdtd.request import AT_RUN_TIME, Request

INT64 = np.dtype(np.int64)


def is_column(made: Plan) -> bool:
    """Are the logits [batch], one for each sample, and not [classes]?"""
    return made.samples.column


def logit_count(made: Plan) -> int | None:
    """The number of logits, at each position where there are several; None where it is known at run time only."""
    sizes, found = dims(made.logits), made.raster
    if not found.row:
        return 1 if sizes is None or found.classes is None else sizes[found.classes]
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
    1 at a class and 0 elsewhere; ``total`` is Σ c z, [batch]; ``given`` the input that chooses the class, or has the
    coefficients; ``batched`` the axis of the samples of the latter, by its name.
    """

    value: Tensor
    coefficients: Tensor
    one_hot: bool
    total: Tensor
    given: Tensor | None
    batched: Mapping[str, int | None] = field(default_factory=dict)

    def seed(self, method: Method) -> Tensor:
        """What the logits start with: their part of the score, or how much each counts."""
        return {"logit": self.value, "1": self.coefficients}[method.seed]


@dataclass(frozen=True)
class _View:
    """The logits as scores: ``values``, the axis of the samples and that of the classes, and a position along all others."""

    values: Tensor
    samples: int | None
    classes: int | None
    position: Mapping[int, int]

    @property
    def rank(self) -> int:
        return len(self.position) + (self.samples is not None) + (self.classes is not None)

    def along(self, e: Emit, axis: int | None, values: Tensor) -> Tensor:
        """A vector laid along an axis of the scores, so that it broadcasts."""
        behind = 0 if axis is None else self.rank - 1 - axis
        return e("Reshape", values, [-1, *[1] * behind]) if behind else values

    def numbers(self, e: Emit, axis: int, count: Tensor) -> Tensor:
        """0, 1, 2 ... along an axis."""
        return self.along(e, axis, e("Range", e.constant(np.asarray(0)), count, e.constant(np.asarray(1))))

    def count(self, e: Emit, axis: int) -> Tensor:
        """How many entries there are along an axis, int64 without axes."""
        sizes = dims(self.values)
        size = None if sizes is None else sizes[axis]
        return (
            e("Squeeze", e("Shape", self.values, start=axis, end=axis + 1), [0])
            if size is None
            else e.constant(np.asarray(size))
        )


def score(e: Emit, made: Plan, request: Request) -> Score:
    """What ``request`` asks of the planned model. Raises ``RequestError`` for a class or a contrast that there is not, and
    ``ModelError`` where there are no classes.
    """
    logits = e.finite(e.cast(made.logits, wide(made.logits.dtype), made.logits.shape))
    if classes(made) == 0:
        raise ModelError(f"{made.logits.name!r} has scores of no classes; export the model again")
    if request.reference is not None:
        check(request, made.stepped_back, classes(made))
    if request.target == SCORE:
        return _given(e, made, logits)
    if request.contrast and classes(made) == 1:
        raise RequestError("--contrast needs a model with at least two classes; a single logit counts as two before a sigmoid")
    if not made.raster.row:
        view = _View(logits, made.raster.samples, made.raster.classes, made.raster.at(request))
    else:
        view = _View(_rows(e, made, logits), 0, 1, {})
    value, c, wanted = (_of_sign if is_binary(made) else _of_class)(e, made, request, view)
    value, c = _at(e, view, value, c)
    if request.reference is not None and made.method.divides:  # below it, the neuron of y₀ − f(x), with the sign of f(x) − y₀
        c = e("Where", e("Less", value, 0.0), e("Neg", c), c)
    axes = [i for i in range(view.rank) if i != view.samples]
    total = e("ReduceSum", value, axes, keepdims=0, shape=[made.samples.size])
    if view.samples is None:
        total = e("Reshape", total, [1], shape=[1])
    back = lambda t: t if view.values is logits else e("Reshape", t, e.shape(made.logits))
    one_hot = not (is_binary(made) or request.contrast or request.reference is not None)
    return Score(back(value), back(c), one_hot, total, wanted)


def _rows(e: Emit, made: Plan, logits: Tensor) -> Tensor:
    """The logits as [batch, classes]."""
    sizes = dims(logits)
    if sizes is None:
        return e("Flatten", logits, axis=1)
    if is_column(made):
        return e("Unsqueeze", logits, [1])
    return logits if len(sizes) == 2 else e("Reshape", logits, [1, -1]) if len(sizes) == 1 else e("Flatten", logits)


def _given(e: Emit, made: Plan, logits: Tensor) -> Score:
    """Any coefficients, an input of the shape of what is explained."""
    shown, order = made.raster.shown, made.raster.order
    given = Tensor(e.unique(SCORE), dtype=logits.dtype, shape=shown.shape)
    c = given if order == sorted(order) else e("Transpose", given, perm=order)
    c = c if shown is made.logits else e("Reshape", c, e.shape(made.logits))
    value, total = weighed(e, made, c, logits)
    return Score(value, c, False, total, given, {given.name: made.raster.batched})


def weighed(e: Emit, made: Plan, c: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """c z and Σ c z, [batch], of logits z, or of others that are laid out like them.

    What is left out must not count even where it is infinite, as logits are that a mask rules out.
    """
    value = e("Where", e.equal(c, 0.0), e.constant(np.asarray(0.0, c.dtype)), e("Mul", c, e.finite(e.cast(logits, c.dtype))))
    rows = e("Unsqueeze", value, [1]) if is_column(made) else made.samples.rows(e, value, made.logits)
    return value, e("ReduceSum", rows, [1], keepdims=0, shape=[made.samples.size])


def _at(e: Emit, view: _View, *values: Tensor) -> tuple[Tensor, ...]:
    """0 everywhere but at the position; NaN where there is none such, which is seen at run time only."""
    counts = {axis: view.count(e, axis) for axis in view.position}
    for axis, count in counts.items():
        if count.values is None or count.values != 1:
            there = e.equal(e.constant(np.asarray(view.position[axis])), view.numbers(e, axis, count))
            values = tuple(e("Where", there, value, 0.0) for value in values)
    for axis, count in counts.items():
        if count.values is None:
            exists = e("Less", e.constant(np.asarray(view.position[axis])), count)
            values = tuple(e("Where", exists, value, float("nan")) for value in values)
    return values


def _of_class(e: Emit, made: Plan, request: Request, view: _View) -> tuple[Tensor, Tensor, Tensor | None]:
    """c is 1 at the explained class; with contrast −1 at the runner-up, or −1/(n − 1) at each of the rest."""
    values, axis = view.values, view.classes
    if axis is None:
        target, wanted = _chosen(e, made, e.constant(np.asarray(0)), request, 1, view)
        end, numbers = e.constant(np.asarray(1)), e.constant(np.asarray(0))
    else:
        count = logit_count(made)
        end = view.count(e, axis) if count is None else e.constant(np.asarray(count))
        target, wanted = _chosen(e, made, e("ArgMax", values, axis=axis, keepdims=1), request, classes(made), view)
        numbers = view.numbers(e, axis, end)
    chosen = e.equal(target, numbers)
    ones = e("Expand", e.constant(np.asarray(1.0, values.dtype)), e("Shape", values))
    value, c = (e("Where", chosen, of, 0.0) for of in (values, ones))
    if request.contrast == "rest":
        each = e("Div", ones, e.cast(e("Sub", end, e.constant(np.asarray(1))), values.dtype))
        value, c = (e("Where", chosen, of, e("Neg", e("Mul", of, each))) for of in (values, ones))
    elif request.contrast:
        others = e("Where", chosen, float("-inf"), values)
        runner_up = e.equal(e("ArgMax", others, axis=axis, keepdims=1), numbers)
        value, c = (e("Sub", own, e("Where", runner_up, of, 0.0)) for own, of in ((value, values), (c, ones)))
    if wanted is not None:
        value, c = (_if_class(e, t, target, end) for t in (value, c))
    return value, c, wanted


def _of_sign(e: Emit, made: Plan, request: Request, view: _View) -> tuple[Tensor, Tensor, Tensor | None]:
    """The score of class 1 is the logit, that of class 0 its negative; a contrast is the difference of both."""
    values = view.values
    target, wanted = _chosen(e, made, e.cast(e("Greater", values, 0.0), INT64), request, 2, view)
    size = 2.0 if request.contrast else 1.0
    c = e("Sub", e("Mul", e.cast(target, values.dtype), 2.0 * size), e.constant(np.asarray(size, values.dtype)))
    c = c if wanted is None else _if_class(e, c, target, e.constant(np.asarray(2)))
    c = e("Expand", c, e("Shape", values))
    return e("Mul", values, c), c, wanted


def _if_class(e: Emit, values: Tensor, target: Tensor, end: Tensor) -> Tensor:
    """NaN in place of ``values`` where the class asked for at run time does not exist: no number could be right."""
    exists = e("And", e("GreaterOrEqual", target, e.constant(np.asarray(0))), e("Less", target, end))
    return e("Where", exists, values, float("nan"))


def _chosen(
    e: Emit, made: Plan, best: Tensor, request: Request, count: int | None, view: _View
) -> tuple[Tensor, Tensor | None]:
    """The class to explain, one a sample or one for all, and the input that chooses it at run time."""
    if isinstance(request.target, tuple):  # of a model that says the class by its sign, the entry is that of class 1
        return e.constant(np.asarray(1 if is_binary(made) else 0)), None
    if isinstance(request.target, int):
        if not 0 <= request.target < (np.iinfo(np.int64).max if count is None else count):
            known = "" if count is None else f", which has classes 0 to {count - 1}"
            raise RequestError(f"target {request.target} is no class of this model{known}")
        return e.constant(np.full([1] * view.rank, request.target)), None
    if request.target in (None, "argmax"):
        return best, None
    if request.target not in AT_RUN_TIME:
        raise RequestError(f"target {request.target!r}: give 'argmax', 'input', 'optional' or the index of a class")
    wanted = Tensor(e.unique(TARGET), dtype=INT64, shape=target_shape(made, request.target))
    others = [i for i in range(view.rank) if i != view.samples]
    each = e("Unsqueeze", wanted, others if view.samples is not None else others[1:])  # of one sample for all
    return e("Where", e.equal(each, e.constant(np.asarray(-1))), best, each), wanted


def target_shape(made: Plan, target: str) -> list[int | str | None]:
    """Of the input: as many as there are samples, by the same name as in the inputs; an optional one may have one for all."""
    if target == "optional":
        return ["dtd/targets"]
    sizes = [t.shape[axis] for t in made.inputs if t.shape and (axis := made.samples.axes[t.name]) is not None]
    return sizes[:1] or [made.samples.size]
