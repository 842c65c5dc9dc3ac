"""What is 0 whatever the ids are: each has the sum over the vector that it looks up, and that vector is only ever normalised.

With J the Jacobian of a normalisation f, f(x + c 1) = f(x) says J 1 = 0, so that a gradient Jᵀ g adds up to 0; and
f(λ x) = f(x) says J x = 0 (Euler), so that x · Jᵀ g does. What is left is rounding, and what the ε of f lets through.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from onnxdtd.compiler.ends import End
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import dims
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.method import HERE
from onnxdtd.operators.table import AS_THEY_ARE, LENGTH, MEAN, of

JACOBIAN = "jacobian"  # the treatment of norms in which nothing of them is held
LOST = {"g": MEAN, "x g": LENGTH}  # what of a vector nobody may tell, for the sum to be 0
WAYS = "the normalisation that gives {!r}; take lrp-epsilon or attnlrp, or --from {} for what is behind it"


def cancelled(plan: Plan) -> dict[str, str]:
    """The ids whose relevance is 0, whatever they are, each with the output of the normalisation that makes it so."""
    lost = LOST.get(plan.method.finish)
    return _ids(plan, lambda end: _normalised(plan, end, str(lost), lost == MEAN))


def told(plan: Plan) -> Iterator[str]:
    """The same in words, with ways out; and where x · g of what is looked up can be no other than that of what is added to it
    with the other sign, since both together are normalised.
    """
    zero, what = cancelled(plan), "gradient" if plan.method.finish == "g" else "gradient x input"
    for ids, ways in _said(zero):
        yield f"the {what} of {ids}, summed over an embedding, is 0 but for rounding and ε: it goes straight into {ways}"
    if plan.method.finish == "x g":
        together = _ids(plan, lambda end: _normalised(plan, end, LENGTH, True))
        for ids, ways in _said({name: norm for name, norm in together.items() if name not in zero}):
            yield (
                f"the gradient x input of {ids}, summed over an embedding, is that of what is added to it (positions, types) "
                f"with the other sign: both together are 0 in front of {ways}"
            )


def _said(found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The ids in front of each normalisation, and that with the ways out."""
    for norm in dict.fromkeys(found.values()):
        names = ", ".join(repr(name) for name, own in found.items() if own == norm)
        yield names, WAYS.format(norm, shlex.quote(norm))


def _ids(plan: Plan, norm_of: Callable[[End], str | None]) -> dict[str, str]:
    """The norm of the ends of each of the ids, if all of them have one."""
    if plan.method.point != HERE:
        return {}
    found: dict[str, list[str | None]] = {}
    for end in plan.ends:
        found.setdefault(end.explained.name, []).append(norm_of(end))
    return {name: norms[0] for name, norms in found.items() if norms[0] is not None and None not in norms}


def _normalised(plan: Plan, end: End, lost: str, adds: bool) -> str | None:
    """What the first normalisation gives, where nothing else takes what is looked up at an end, none of them tells what is
    ``lost``, and before them it is at most scaled, and, if ``adds``, added to.
    """
    axes = _summed(end.beside or end)
    found, ahead = list[str](), [end.tensor] if axes else []
    while ahead:
        x = ahead.pop()
        takers = [step for step in plan.steps if any(t is not None and t.name == x.name for t in step.inputs)]
        for step in takers:
            if step.kind == JACOBIAN and _forgets(step, x, axes, lost):
                found.append(step.outputs[0].name)
            elif _scales(step, x, axes, lost, adds):
                ahead += step.outputs
            else:
                return None
        if not takers:
            return None
    return found[0] if found else None


def _summed(end: End) -> list[int]:
    """The axes, counted from the last, that relevance is summed over on its way to ids; none where that is not known."""
    rank = len(dims(end.tensor) or ())
    for link in reversed(end.links):
        if link.sums:
            return [-1]
        if link.lookup is not None:
            return [] if link.lookup.one_hot else [axis % rank - rank for axis in link.lookup.summed]
        if not link.aligned:
            return []
    return []


def _forgets(step: Step, x: Tensor, axes: Sequence[int], lost: str) -> bool:
    """Is it a normalisation along just these axes that does not tell what is ``lost``?"""
    rank, entry = len(dims(x) or ()), of(step.nodes[0])
    along = () if entry.along is None else entry.along(step.nodes[0], rank)
    return lost in entry.forgets and {axis % rank for axis in along} == {axis % rank for axis in axes}


def _scales(step: Step, x: Tensor, axes: Sequence[int], lost: str, adds: bool) -> bool:
    """Does what it gives grow as a vector does, by a factor or by what is added to all entries, and nothing else add to it,
    unless it may (``adds``)?
    """
    if step.layer is None:
        return of(step.nodes[0]).hands_on == AS_THEY_ARE
    slots, sizes = step.layer.slots, [_sizes(t, axes) for t in (x, step.layer.y)]
    alone = len(slots) == 1 and step.layer.b is None
    even = all(isinstance(slot.w, float) or set(_sizes(slot.w, axes)) == {1} for slot in slots)
    each = all(slot.elementwise for slot in slots) and None not in sizes[0] and sizes[0] == sizes[1]
    return each and (even or (lost == LENGTH and len(slots) == 1)) and (alone or adds)


def _sizes(tensor: Tensor, axes: Sequence[int]) -> list[int | None]:
    """Those along some axes, counted from the last; 1 where it has no such axis."""
    sizes = dims(tensor)
    return [None if sizes is None else 1 if len(sizes) < -axis else sizes[axis] for axis in axes]
