"""The input that is compared with: what was said of it, as a tensor in place of each end of the walk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
PART, SIDE = 1 / 16, 224  # the standard deviation of a blur in sides of the picture, and the side where that is not known
FLOAT = np.dtype(np.float32)


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
        first, *others = self.said.values()
        if not isinstance(request.baseline, Mapping) and all(said == first for said in others):
            self.said = first

    @property
    def is_constant(self) -> bool:
        """Is it the same for all samples, and known?"""
        return all(not isinstance(found, str) or found == BASELINES[0] for found in self._found.values())

    def tensors(self, once: bool = False) -> dict[str, Tensor]:
        """The reference of each end, by its name, a tensor of its own; ``once``: of one sample, which stands for all along the
        first axis.
        """
        found: dict[str, Tensor] = {}
        for end in self._ends:
            made, name = self._at(end, once), end.tensor.name
            is_taken = any(made is other for other in found.values())
            found[name] = self._e.named(made, self._e.unique(f"{made.name}/{name}"), made.shape) if is_taken else made
        for end in self._ends:
            shape = end.tensor.shape
            found[end.tensor.name].shape = [1, *shape[1:]] if once and shape else shape
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
                looked or not (is_float(tensor.dtype) or is_byte(tensor.dtype)) or self._is_single(tensor)
            ):
                reason = "has no entries that are neighbours, as those of pictures are"
                raise RequestError(f"--baseline {word}: {tensor.name!r} {reason}; give zero, a number or a file")
            return word
        if isinstance(given, Mapping):
            raise RequestError("the baseline is recorded by its digest alone; give the file again")
        array = self._of_file(tensor, Path(given)) if isinstance(given, str) else given
        found = fitted(array, tensor, "baseline", self._axes.get(tensor.name))
        rows = min((end.rows for end in self._ends if end.explained.name == tensor.name and end.rows), default=None)
        if rows is not None and not (found.min() >= 0 and found.max() < rows):
            raise RequestError(f"--baseline {given}: the ids of {tensor.name!r} are numbers of rows, from 0 to {rows - 1}")
        return found

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

    def _at(self, end: End, once: bool) -> Tensor:
        """The reference of an end: what is looked up is that of others, but for nothing at all, which is a row of zeros."""
        e, x, found = self._e, end.explained, self._found[end.explained.name]
        if isinstance(found, str) and found == "zero":
            return e.cast(e.full(0.0, self._sizes(end.tensor, once), wide(end.tensor.dtype)), end.tensor.dtype)
        if not isinstance(found, str):
            value = e.cast(e("Expand", e.constant(found), self._sizes(x, once)), x.dtype)
        else:
            value = self.inputs[x.name] if found == "input" else {"mean": self._mean, "blur": self._blurred}[found](x)
        return value if end.tensor is x else Point(e, f"{BASELINE}/ids/{x.name}", lambda: {x.name: value}).of(end.tensor)

    def _sizes(self, x: Tensor, once: bool) -> Tensor:
        e = self._e
        return e("Concat", e.constant(np.asarray([1])), e.shape(x, 1), axis=0) if once else e.shape(x)

    def _space(self, x: Tensor) -> list[int]:
        """The axes along which neighbours belong together: all but those of the samples and the channels."""
        return [i for i in range(len(dims(x) or ())) if i not in (self._axes.get(x.name), channel_axis(x))]

    def _is_single(self, x: Tensor) -> bool:
        """Has each channel of a sample one entry, as a column of a table?"""
        return all((dims(x) or [])[axis] == 1 for axis in self._space(x))

    def _as(self, x: Tensor, made: Tensor) -> Tensor:
        """In the type of x; bytes are rounded."""
        return self._e.cast(made if is_float(x.dtype) else self._e.add(made, 0.5), x.dtype, x.shape)

    def _mean(self, x: Tensor) -> Tensor:
        """That of each channel of each sample."""
        e, space = self._e, self._space(x)
        real = e.cast(x, wide(x.dtype) if is_float(x.dtype) else FLOAT, x.shape)
        mean = e("Div", e("ReduceSum", real, space, keepdims=1), count(e, x, space, real.dtype))
        return self._as(x, e("Expand", mean, e.shape(x)))

    def _blurred(self, x: Tensor) -> Tensor:
        """By a Gaussian, one axis after the other, each channel of each sample as a picture of its own; what lies outside of it
        does not count.
        """
        e, sizes, space = self._e, dims(x) or [], self._space(x)
        order = [*(i for i in range(len(sizes)) if i not in space), *space]
        moved = e("Transpose", e.cast(x, FLOAT, x.shape), perm=order, shape=[(x.shape or ())[i] for i in order])
        sides = e.shape(moved, len(order) - len(space))
        alone, ones = (e("Concat", e.constant(np.asarray([n, 1])), sides, axis=0) for n in (-1, 1))
        pictures, counts = e("Reshape", moved, alone), e.full(1.0, ones, FLOAT)
        for place, axis in enumerate(space):
            width = PART * (sizes[axis] or SIDE)
            taps = np.exp(-0.5 * (np.arange(-int(3 * width), int(3 * width) + 1) / width) ** 2).astype(np.float32)
            kernel = e.constant((taps / taps.sum()).reshape([1, 1, *(-1 if i == place else 1 for i in range(len(space)))]))
            pads = [len(taps) // 2 if i == place else 0 for i in range(len(space))] * 2
            pictures, counts = (e("Conv", t, kernel, pads=pads) for t in (pictures, counts))
        back = e("Reshape", e("Div", pictures, counts), e.shape(moved))
        return self._as(x, e("Transpose", back, perm=np.argsort(order).tolist()))
