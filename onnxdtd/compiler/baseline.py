"""The input that is compared with: what was said of it, as a tensor in place of each end of the walk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnxdtd.compiler.bounds import fitted, form_of
from onnxdtd.compiler.ends import End
from onnxdtd.compiler.points import Point
from onnxdtd.contract import BASELINE
from onnxdtd.data.read import samples
from onnxdtd.errors import RequestError
from onnxdtd.graph.emit import Emit, dims, wide
from onnxdtd.graph.tensors import Tensor
from onnxdtd.operators.layer import count, is_byte, is_float
from onnxdtd.operators.places import channel_axis
from onnxdtd.request import BASELINES, Request

MOST = 16  # numbers that the metadata list; of more they have the digest
BLURS, PART, SIDE = (
    3,
    8,
    29,
)  # how often a box is slid over a picture, what part of its side, or how much where that is not known


class Baseline:
    """The reference of what is explained. ``inputs``: those that a caller feeds it by; ``said``: what it is, as data."""

    def __init__(self, e: Emit, ends: Sequence[End], axes: Mapping[str, int | None], request: Request):
        """``axes``: those of the samples. Raises ``RequestError`` for what is no baseline of what is explained."""
        self._e, self._ends, self._axes, self._request = e, ends, axes, request
        self.inputs: dict[str, Tensor] = {}
        explained = {end.explained.name: end.explained for end in ends}
        given = request.baseline if isinstance(request.baseline, Mapping) else dict.fromkeys(explained, request.baseline)
        for name in given:
            if name not in explained:
                raise RequestError(f"--baseline {name}=...: what is explained is {', '.join(explained)}")
        self._found = {name: self._read(t, given.get(name)) for name, t in explained.items()}
        self.said: Any = {name: self._as_data(found, given.get(name)) for name, found in self._found.items()}
        if not isinstance(request.baseline, Mapping):
            (self.said,) = self.said.values() if len(self.said) == 1 else [request.baseline or BASELINES[0]]

    def tensors(self) -> dict[str, Tensor]:
        """The reference of each end, by its name."""
        found = {end.tensor.name: self._at(end) for end in self._ends}
        for end in self._ends:
            found[end.tensor.name].shape = end.tensor.shape
        return found

    def _read(self, tensor: Tensor, given: Any) -> Any:
        """A word, or an array."""
        looked = any(end.explained.name == tensor.name and end.is_lookup for end in self._ends)
        if given is None or (isinstance(given, str) and given in BASELINES):
            word = given or BASELINES[0]
            if word == "input":
                name = BASELINE if len({end.explained.name for end in self._ends}) == 1 else f"{BASELINE}/{tensor.name}"
                self.inputs[tensor.name] = Tensor(self._e.unique(name), dtype=tensor.dtype, shape=tensor.shape)
            elif word != "zero" and (
                looked or not (is_float(tensor.dtype) or is_byte(tensor.dtype)) or not self._space(tensor)
            ):
                reason = "has no entries that are neighbours, as those of pictures are"
                raise RequestError(f"--baseline {word}: {tensor.name!r} {reason}; give zero, a number or a file")
            return word
        if isinstance(given, Mapping):
            raise RequestError("the baseline is recorded by its digest alone; give the file again")
        array = self._of_file(tensor, Path(given)) if isinstance(given, str) else given
        return fitted(array, tensor, "baseline", self._axes.get(tensor.name))

    def _of_file(self, tensor: Tensor, path: Path) -> np.ndarray:
        """The only sample in a file, as the input takes it."""
        if not path.exists():
            raise RequestError(f"--baseline {str(path)!r}: is none of {', '.join(BASELINES)}, no number, and no such file")
        axis = self._axes.get(tensor.name)
        found = [sample.x for sample in samples(path, form_of(tensor, self._request, axis))]
        if len(found) != 1:
            raise RequestError(f"--baseline {path}: has {len(found)} samples; a baseline is one")
        return found[0] if axis is None else np.expand_dims(found[0], axis)

    def _as_data(self, found: Any, given: Any) -> Any:
        """For the metadata."""
        if isinstance(found, str):
            return found
        if found.size <= MOST:
            return found.tolist() if isinstance(given, str) else given
        digest = hashlib.sha256(found.tobytes()).hexdigest()
        return {"sha256": digest, "shape": list(found.shape), "constant": self._e.constant(found).name}

    def _at(self, end: End) -> Tensor:
        """The reference of an end: what is looked up is that of others, but for nothing at all, which is a row of zeros."""
        e, x, found = self._e, end.explained, self._found[end.explained.name]
        if isinstance(found, str) and found == "zero":
            return e.cast(e.full(0.0, e.shape(end.tensor), wide(end.tensor.dtype)), end.tensor.dtype)
        if not isinstance(found, str):
            value = e.cast(e("Expand", e.constant(found), e.shape(x)), x.dtype)
        else:
            value = self.inputs[x.name] if found == "input" else {"mean": self._mean, "blur": self._blurred}[found](x)
        return value if end.tensor is x else Point(e, BASELINE + "/ids", lambda: {x.name: value}).of(end.tensor)

    def _space(self, x: Tensor) -> list[int]:
        """The axes along which neighbours belong together: all but those of the samples and the channels."""
        return [i for i in range(len(dims(x) or ())) if i not in (self._axes.get(x.name), channel_axis(x))]

    def _real(self, x: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Computed with numbers that bytes are rounded from again."""
        if is_float(x.dtype):
            return self._e.cast(make(self._e.cast(x, wide(x.dtype), x.shape)), x.dtype, x.shape)
        made = make(self._e.cast(x, np.dtype(np.float32), x.shape))
        return self._e.cast(self._e.add(made, 0.5), x.dtype, x.shape)  # which cuts off

    def _mean(self, x: Tensor) -> Tensor:
        """That of each channel of each sample."""
        e, space = self._e, self._space(x)

        def mean(real: Tensor) -> Tensor:
            total = e("ReduceSum", real, space, keepdims=1)
            return e("Expand", e("Div", total, count(e, real, space, real.dtype)), e.shape(real))

        return self._real(x, mean)

    def _blurred(self, x: Tensor) -> Tensor:
        """Boxes slid one after the other come close to a Gaussian; at the border they see what there is."""
        return self._real(x, partial(self._slid, self._space(x)))

    def _slid(self, space: Sequence[int], x: Tensor) -> Tensor:
        """Each channel of each sample as a picture of its own."""
        e, sizes = self._e, dims(x) or []
        order = [*(i for i in range(len(sizes)) if i not in space), *space]
        moved = e("Transpose", x, perm=order, shape=[(x.shape or ())[i] for i in order])
        flat = e(
            "Reshape", moved, e("Concat", e.constant(np.asarray([-1, 1])), e.shape(moved, len(order) - len(space)), axis=0)
        )
        sides = [SIDE if (size := sizes[i]) is None else max(size // PART, 1) // 2 * 2 + 1 for i in space]
        pads = [side // 2 for side in sides] * 2
        for _ in range(BLURS):
            flat = e("AveragePool", flat, kernel_shape=sides, pads=pads, strides=[1] * len(sides), count_include_pad=0)
        return e("Transpose", e("Reshape", flat, e.shape(moved)), perm=np.argsort(order).tolist())
