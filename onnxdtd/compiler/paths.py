"""Gradients at other points than the input: at the baseline, at a root between both, or all along the way.

The class is the one that was chosen at the input, wherever the gradient is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from onnxdtd.compiler.imputed import seen
from onnxdtd.compiler.masks import Mask
from onnxdtd.compiler.neuron import Start
from onnxdtd.compiler.points import Point
from onnxdtd.compiler.prepared import Planned
from onnxdtd.compiler.score import Score, weighed
from onnxdtd.compiler.shortcuts import Shortcut, Situation
from onnxdtd.compiler.walk import taken, walk
from onnxdtd.errors import ModelError, RequestError
from onnxdtd.graph.emit import Emit, wide
from onnxdtd.graph.tensors import Tensor, type_name
from onnxdtd.method.terms import Context
from onnxdtd.operators.layer import is_float, shape_of

Gradients = dict[str, Tensor]  # by the name of what they are gradients of


@dataclass(frozen=True)
class Way:
    """The way from the baseline x̃ to the input x of a planned model whose score is known."""

    planned: Planned
    scored: Score
    shortcuts: Sequence[Shortcut]
    masked: Mapping[str, Mask]

    @property
    def e(self) -> Emit:
        """The builder of nodes."""
        return self.planned.emit

    def gradients(self) -> tuple[Gradients, Point]:
        """Those that the method takes, and the point that the input is compared with."""
        return {"baseline": self._at_baseline, "root": self._at_root, "path": self._along}[self.planned.plan.method.point]()

    def _at_baseline(self) -> tuple[Gradients, Point]:
        there = self.planned.plan.there
        return self._at(there.of, self.scored.coefficients), there

    def _at(self, where: Callable[[Tensor], Tensor], c: Tensor, masked: Mapping[str, Mask] | None = None) -> Gradients:
        """The gradient of Σ c z where tensors are others."""
        plan, keep = self.planned.plan, self.planned.request.keep
        course = plan.elsewhere(where)
        start = Start(c, {course.logits.name: c})
        ours = [*(end.tensor for end in plan.ends), *map(self.planned.tensor, keep)]
        names = {t.name: where(t).name for t in ours}
        passed = {where(mask.tensor).name: mask for mask in (masked or self.masked).values()}
        kept = [*(names[name] for name in keep), *passed]
        steps = taken(course.steps, start, Situation(start.arrived, kept, course.nonnegative), self.shortcuts)
        found = walk(self.e, steps, start, Context(course.nonnegative, _unbounded, where), masks=passed)
        return {name: found[there] for name, there in names.items() if there in found}

    # ------------------------------------------------------------------------------------------------- between both

    def _ends(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """x̃ and x − x̃ of what a walk ends at, in the type to compute in."""
        if not is_float(tensor.dtype):
            raise RequestError(
                f"--preset {self.planned.request.preset}: {tensor.name!r} is {type_name(tensor.dtype)}, and nothing lies "
                "between two integers; explain the floats that it becomes, --from TENSOR, or choose taylor"
            )
        x, there = seen(self.e, tensor, self.planned.imputed.get(tensor.name)), self.planned.plan.there.of(tensor)
        x, there = (self.e.cast(t, wide(t.dtype), tensor.shape) for t in (x, there))
        return there, self.e("Sub", x, there, shape=tensor.shape)

    def _between(self, part: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """x̃ + α (x − x̃) of each end, α a ``part`` of the way."""
        found = {}
        for end in self.planned.plan.ends:
            there, apart = self._ends(end.tensor)
            between = self.e("Add", there, self.e("Mul", part(end.tensor), apart), shape=end.tensor.shape)
            found[end.tensor.name] = self.e.cast(between, end.tensor.dtype, end.tensor.shape)
        return found

    def _axis(self, end: Tensor) -> int | None:
        """The axis of the samples of what a walk ends at: an input, or what ids look up."""
        samples = self.planned.plan.samples
        return samples.axes[end.name] if end.name in samples.axes else samples.of(end)

    def _each(self, parts: Tensor, tensor: Tensor) -> Tensor:
        """One number for each sample, laid along the samples of a tensor."""
        axis, rank = self._axis(tensor), len(shape_of(tensor))
        return self.e("Reshape", parts, [-1 if i == axis else 1 for i in range(rank)])

    def _at_root(self) -> tuple[Gradients, Point]:
        """Where the score is 0, or nearly: by halving the way, which needs two scores of different signs at its ends, and then
        as if the score was linear on what is left. Where the signs are one, that is at the baseline.
        """
        e, plan, c, total = self.e, self.planned.plan, self.scored.coefficients, self.scored.total
        score = lambda point: weighed(e, plan, c, point.of(plan.logits))[1]
        along = lambda f: e("Where", e("Greater", total, 0.0), f, e("Neg", f))  # no product, that small scores would vanish in
        point = lambda name, parts: Point(e, name, lambda: self._between(partial(self._each, parts)))
        zero, one = (e("Expand", e.constant(np.asarray(n, total.dtype)), e("Shape", total)) for n in (0, 1))
        low, high, below, above = zero, one, score(plan.there), total
        for i in range(plan.method.steps):
            middle = e("Mul", e("Add", low, high), 0.5)
            f = score(point(f"root/{i}", middle))
            like_x = e("Greater", along(f), 0.0)
            low, below = (e("Where", like_x, old, new) for old, new in ((low, middle), (below, f)))
            high, above = (e("Where", like_x, new, old) for old, new in ((high, middle), (above, f)))
        crossed = e("Less", along(below), 0.0)
        part = e("Div", below, e("Where", crossed, e("Sub", below, above), 1.0))
        root = point("root", e("Where", crossed, e("Add", low, e("Mul", part, e("Sub", high, low))), low))
        return self._at(root.of, c), root

    # ---------------------------------------------------------------------------------------------- all along the way

    def _along(self) -> tuple[Gradients, Point]:
        """The mean gradient on the way, by Gauss and Legendre: exact for polynomials up to the degree of 2 · steps − 1."""
        if self.planned.request.keep:
            raise RequestError("--keep: these gradients are means of those at many points; name the tensor with --from")
        nodes, weights = np.polynomial.legendre.leggauss(self.planned.plan.method.steps)
        parts, weights = (nodes + 1) / 2, weights / 2
        axes = self._axes()
        found = self._one_by_one(parts, weights) if axes is None else self._at_once(parts, weights, axes)
        return found, self.planned.plan.there

    def _one_by_one(self, parts: np.ndarray, weights: np.ndarray) -> Gradients:
        """The predictor once for each point."""
        e, found = self.e, dict[str, list[Tensor]]()
        for i, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            share = lambda t, part=part: e.constant(np.asarray(part, wide(t.dtype)))
            point = Point(e, f"path/{i}", lambda share=share: self._between(share))  # type: ignore[misc]
            for name, gradient in self._at(point.of, self.scored.coefficients).items():
                found.setdefault(name, []).append(e("Mul", gradient, float(weight)))
        return {name: e.sum(gradients) for name, gradients in found.items()}

    def _axes(self) -> dict[str, int | None] | None:
        """The axes of the samples of the logits, the ends and all that is fed; nothing where a batch can be no larger."""
        plan, fed = self.planned.plan, self.planned.graph.inputs
        if plan.samples.size is not None and not isinstance(plan.samples.size, str):
            return None
        axes = {t.name: plan.samples.axes.get(t.name) for t in fed}
        try:
            axes[plan.logits.name] = 0 if plan.samples.in_front(plan.logits) else plan.samples.of(plan.logits)
            axes |= {end.tensor.name: self._axis(end.tensor) for end in plan.ends}
        except ModelError:
            return None
        ours = [plan.logits.name, *(end.tensor.name for end in plan.ends)]
        words = any(t.dtype == object for t in fed)
        return None if words or any(axes[name] is None for name in ours) else axes

    def _at_once(self, parts: np.ndarray, weights: np.ndarray, axes: Mapping[str, int | None]) -> Gradients:
        """All points as one batch, the samples of each one behind the other."""
        e, plan, count = self.e, self.planned.plan, len(parts)
        along = lambda numbers, axis, rank, dtype: e.constant(
            numbers.astype(dtype).reshape([-1 if i == axis else 1 for i in range(rank + 1)])
        )

        def given() -> dict[str, Tensor]:
            wider = {
                t.name: self._repeated(t, axis, count) for t in self.planned.graph.inputs if (axis := axes[t.name]) is not None
            }
            for tensor in (end.tensor for end in plan.ends):
                axis, rank = axes[tensor.name] or 0, len(shape_of(tensor))
                there, apart = (e("Unsqueeze", t, [axis]) for t in self._ends(tensor))
                between = e("Add", there, e("Mul", along(parts, axis, rank, there.dtype), apart))
                wider[tensor.name] = e.cast(self._merged(between, tensor, axis), tensor.dtype)
            for name, tensor in wider.items():
                own = next(t for t in (*self.planned.graph.inputs, *(end.tensor for end in plan.ends)) if t.name == name)
                tensor.shape = [f"{size}/path" if isinstance(size, str) and size else size for size in own.shape or ()]
            return wider

        point = Point(e, "path", given, wider=True)
        c = self._repeated(self.scored.coefficients, axes[plan.logits.name] or 0, count, plan.logits)
        masked = {name: replace(mask, given=self._repeated(mask.given, 0, count)) for name, mask in self.masked.items()}
        found = {}
        for name, gradient in self._at(point.of, c, masked).items():
            tensor = next(end.tensor for end in plan.ends if end.tensor.name == name)
            axis, rank = axes[name] or 0, len(shape_of(tensor))
            sizes = e("Concat", e.constant(np.asarray([0] * axis + [count, -1])), e.shape(tensor, axis + 1), axis=0)
            apart = e("Mul", e("Reshape", gradient, sizes), along(weights, axis, rank, gradient.dtype))
            found[name] = e("ReduceSum", apart, [axis], keepdims=0)
        return found

    def _repeated(self, tensor: Tensor, axis: int, count: int, like: Tensor | None = None) -> Tensor:
        """A tensor, of the shape of another perhaps, so many times, behind each other along an axis."""
        like = like or tensor
        sizes = [count if i == axis else 1 for i in range(len(shape_of(like)) + 1)]
        return self._merged(self.e("Expand", self.e("Unsqueeze", tensor, [axis]), sizes), like, axis)

    def _merged(self, several: Tensor, tensor: Tensor, axis: int) -> Tensor:
        """What has an axis of copies of a tensor in front of the ``axis`` of its samples, with one axis of both."""
        sizes = self.e("Concat", self.e.constant(np.asarray([0] * axis + [-1])), self.e.shape(tensor, axis + 1), axis=0)
        return self.e("Reshape", several, sizes)


def _unbounded(tensor: Tensor) -> tuple[Tensor, Tensor]:
    raise AssertionError("a gradient knows no bounds")
