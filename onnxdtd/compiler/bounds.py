"""The bounds of the input domain, carried forward through the model's own preprocessing to the first layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxdtd.data.channels import ends, spread
from onnxdtd.data.forms import PICTURE, Form
from onnxdtd.data.preprocessing import byte_ends, checked
from onnxdtd.errors import RequestError
from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Node, Tensor, type_name
from onnxdtd.operators.layer import is_byte, is_float
from onnxdtd.operators.places import channel_axis, folded, slid_axes
from onnxdtd.operators.spread import is_elementwise
from onnxdtd.operators.table import AS_THEY_ARE, MOVE, of
from onnxdtd.request import Request

if TYPE_CHECKING:
    from onnxdtd.compiler.plan import Plan

ENDS = ("low", "high")


def with_bytes(request: Request, explained: Sequence[Tensor]) -> Request:
    """The request with what a byte can be for bounds of ``explained`` inputs that are bytes and have no others."""
    names = [t.name for t in explained if is_byte(t.dtype)]
    if not names or not ((request.low is None and request.high is None) or isinstance(request.low, Mapping)):
        return request
    if len(names) == len(explained) and request.low is None:
        return replace(request, low=0.0, high=255.0)
    low, high = ({**dict.fromkeys(names, byte), **(given or {})} for byte, given in ((0.0, request.low), (255.0, request.high)))
    return replace(request, low=low, high=high)


def with_preprocessing(request: Request, explained: Sequence[Tensor]) -> Request:
    """The request with its preprocessing checked, and the bounds that this gives to the pictures among ``explained`` inputs."""
    asked = checked(request.preprocessing)
    low, high = byte_ends(asked)
    if low is None:
        return replace(request, preprocessing=asked)
    pictures = [t.name for t in explained if t.shape is not None and len(t.shape) == PICTURE]
    if len(explained) > 1 and not pictures:
        raise RequestError(
            "range, mean and std are those of a picture, and none of the inputs is one; give low and high by input"
        )
    if len(explained) > 1 and len(pictures) < len(explained):
        low, high = dict.fromkeys(pictures, low), dict.fromkeys(pictures, high)
    found = replace(request, low=low, high=high, preprocessing=asked)
    if (request.low is not None or request.high is not None) and domain(request) != domain(found):
        raise RequestError("give either low and high, or range, mean and std of the preprocessing")
    return found


def by_input(request: Request, explained: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """The bounds of each explained input as they were given. Raises ``RequestError`` where one of a pair is missing."""
    low, high = request.low, request.high
    if low is None and high is None:
        return {}
    if low is None or high is None:
        raise RequestError("give both bounds of the input, low and high")
    if isinstance(low, Mapping) != isinstance(high, Mapping):
        raise RequestError("low and high: give both by the names of inputs, or neither")
    if not explained:
        raise RequestError("low and high: what is explained is ids, which have no bounds")
    if not isinstance(low, Mapping):
        return dict.fromkeys(explained, (low, high))
    for name in {**low, **high}:
        if name not in explained:
            raise RequestError(f"bounds of {name!r}: the numbers that relevance is given to are {', '.join(explained)}")
        if low.get(name) is None or high.get(name) is None:
            raise RequestError(f"give both bounds of the input {name!r}, low and high")
    return {name: (low[name], high[name]) for name in low}


def domain(request: Request) -> dict[str, Any] | None:
    """Numbers and lists, for the metadata: ``low`` and ``high``, or these by input where they were given so."""
    low, high = request.low, request.high
    if low is None or high is None:
        return None
    listed = lambda bound: np.asarray(bound, np.float64).tolist()
    if isinstance(low, Mapping):
        return {name: {"low": listed(low[name]), "high": listed(high[name])} for name in low}
    return {"low": listed(low), "high": listed(high)}


def as_given(entry: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """Low and high as they are in a request, of the metadata."""
    if not entry:
        return None, None
    if isinstance(entry.get("low", {}), Mapping):
        low, high = ({name: pair[end] for name, pair in entry.items()} for end in ("low", "high"))
        return low, high
    return entry["low"], entry["high"]


def form_of(tensor: Tensor, request: Request, axis: int | None, ids: Mapping[str, int | None] = MappingProxyType({})) -> Form:
    """The form of the samples, along ``axis`` of a planned input; ``ids`` are the inputs that look up so many rows. Raises
    ``RequestError`` where the preprocessing asked for does not fit it.
    """
    given = ends(domain(request), tensor.name)
    told = channel_axis(tensor), given, request.preprocessing, slid_axes(tensor), folded(tensor)
    form = Form.of(tensor.name, list(tensor.shape or ()), axis, *told)
    return replace(form, ids=ids[tensor.name] or 0) if tensor.name in ids else form


class Bounds:
    """l and h of every tensor before the first layer."""

    def __init__(self, e: Emit, plan: Plan, given: Mapping[str, tuple[Any, Any]]):
        self._emit, self._plan = e, plan
        self._known: dict[str, tuple[Tensor, Tensor]] = {}
        known = {**dict.fromkeys((end.tensor.name for end in plan.ends if end.is_one_hot), (0.0, 1.0)), **given}
        for tensor in (end.tensor for end in plan.ends):
            if tensor.name in known:
                axis, several = plan.samples.axes.get(tensor.name), len(plan.inputs) > 1
                low, high = (fitted(*pair, axis, several) for pair in zip(known[tensor.name], [tensor] * 2, ENDS, strict=True))
                if not np.all(low < high):
                    raise RequestError("low {} must be below high {} everywhere".format(*known[tensor.name]))
                self._known[tensor.name] = e.constant(low), e.constant(high)

    def of(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound of a tensor that is an input up to a one-to-one transformation."""
        wanted = [tensor]
        while wanted:
            node = self._plan.producer.get(wanted[-1].name)
            sources = () if node is None or wanted[-1].name in self._known else node.inputs
            missing = [t for t in sources if self._plan.active(t) and t.name not in self._known]
            wanted += missing[::-1]
            if not missing and sources:
                self._forward(wanted[-1])
            if not missing:
                wanted.pop()
        return self._known[tensor.name]

    def _forward(self, tensor: Tensor) -> None:
        """Apply the node behind ``tensor`` to both bounds of its input; a negative factor swaps them."""
        e, node = self._emit, self._plan.producer[tensor.name]
        if of(node).hands_on == AS_THEY_ARE:
            low, high = self._known[node.inputs[0].name]
            if not of(node).scaled or is_float(low.dtype):  # not yet what the integers stand for
                dtype = tensor.dtype if is_float(tensor.dtype) else low.dtype
                self._known[tensor.name] = e.cast(low, dtype), e.cast(high, dtype)
                return
        ends = []
        for side in (0, 1):
            sources = [self._at(t, side, node) if self._plan.active(t) else t for t in node.inputs]
            ends.append(e.multi(node.op, [result.dtype for result in node.outputs], *sources, **node.attrs))
        for result, low, high in zip(node.outputs, *ends, strict=True):
            self._known[result.name] = e("Min", low, high), e("Max", low, high)

    def _at(self, tensor: Tensor, side: int, node: Node) -> Tensor:
        """A bound as what a node reads; of one that computes entry by entry it may stay smaller than its tensor."""
        bound, small = self._known[tensor.name][side], is_elementwise(of(node)) and of(node).kind != MOVE
        return bound if small else self._emit("Expand", bound, self._emit.shape(tensor))


def fitted(bound: Any, tensor: Tensor, end: str, samples: int | None, several: bool = False) -> np.ndarray:
    """Numbers as an array that broadcasts against an input, one of ``several``; a list has one number a channel."""
    array = _finite(bound, tensor, end)
    if tensor.shape is not None:
        where = f"{end} of the input {tensor.name!r} {tensor.shape}"
        try:
            array = spread(array, tensor.shape, channel_axis(tensor), where, samples)
        except RequestError as error:
            one = f"; --{end} INPUT=... is that of one input" if several else ""
            raise RequestError(f"{error}{one}") from None
    return (array.reshape(()) if array.size == 1 else array).astype(tensor.dtype)


def _finite(bound: Any, tensor: Tensor, name: str) -> np.ndarray:
    """A bound as an array of numbers that the type of the input has."""
    try:
        array = np.asarray(bound, np.float64)
    except (TypeError, ValueError):
        raise RequestError(f"{name} {bound!r} is neither a number nor a list of numbers") from None
    with np.errstate(over="ignore"):
        finite = np.isfinite(array if is_byte(tensor.dtype) else array.astype(tensor.dtype)).all()
    if not finite:
        said = f"{name} {bound}" if array.size == 1 else f"{name} of {tensor.name!r}"
        raise RequestError(f"{said} must be finite in {type_name(tensor.dtype)}")
    if not is_byte(tensor.dtype) and not is_float(tensor.dtype) and not np.array_equal(array, np.rint(array)):
        raise RequestError(f"{name} {bound}: the input {tensor.name!r} takes integers")
    if is_byte(tensor.dtype) and not np.array_equal(array, np.clip(np.rint(array), 0, 255)):
        raise RequestError(f"{name} {bound}: the input {tensor.name!r} is uint8, its bounds are integers from 0 to 255")
    return array
