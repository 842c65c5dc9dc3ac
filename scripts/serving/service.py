"""What a service does with a request, whatever server runs it: it reads one sample, predicts or explains, and answers.

A request is one sample, so that a server may run several at once. What does not fit is refused in one sentence before it meets
others; where a run fails all the same, each of its samples is run alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onnxdtd.data.forms import MODES, Form, recorded
from onnxdtd.data.pixels import FORMATS
from onnxdtd.data.read import pictured
from onnxdtd.errors import RequestError, suggestion
from onnxdtd.labels import Index
from onnxdtd.runtime import Explainer, Explanation
from onnxdtd.runtime.classes import Occasion
from onnxdtd.runtime.explainer import numpy_type, session, tried

JSON, NPY, NPZ = "application/json", "application/x-npy", "application/x-npz"
PICTURES = ("image/png", "image/jpeg", "image/webp", "image/bmp")
NUMBERS = "fiub"  # kinds of numpy types
NUMBER = {int, float, bool, type(None)}  # of JSON; null is a missing value, where the model takes those
LONG = 200  # letters of a target
WRITTEN, BESIDES = 64, 2**13  # bytes that a number takes at most, with blanks, and all that is written around them
NO_FIT, NO_LENGTH, TOO_LARGE, NO_KIND = 400, 411, 413, 415  # of HTTP

log = logging.getLogger(__name__)


class Refused(Exception):
    """Why there is no answer: a status of HTTP and a sentence for whoever asked, which says nothing of the machine."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Bytes of a request, numbers of a sample, which models may leave open, pixels of a picture as it comes, and seconds."""

    body: int = 2**23
    entries: int = 2**20
    pixels: int = 2**24
    seconds: float = 30.0


LIMITS = Limits()


@dataclass(frozen=True)
class Asked:
    """A sample as the model takes it, alone, by input, and the class to explain, None for the predicted one."""

    arrays: Mapping[str, np.ndarray]
    target: int | None

    @property
    def form(self) -> tuple[object, ...]:
        """What samples have in common that can be run together."""
        return tuple((name, array.shape) for name, array in self.arrays.items())


class Service:
    """A compiled file that answers requests; ``source``, the model that it was compiled from, predicts in a session of its own
    where that is given. A file compiled on demand needs none. ``threads`` is how many one run may use.
    """

    def __init__(self, model: Path, source: Path | None = None, threads: int = 1, limits: Limits = LIMITS):
        self.limits = limits
        self.explainer = Explainer(model, threads=threads)
        said = self.explainer.metadata
        if source is not None and hashlib.sha256(source.read_bytes()).hexdigest() != said["source_sha256"]:
            raise RequestError(f"{source} is not what {model} was compiled from")
        self._predictor = None if source is None else session(source, threads=threads)
        self.joins = all(self._any_number(name) for name in self.explainer.inputs)
        self.form, self.kinds = self._taken()
        self.written = self._written()

    def _taken(self) -> tuple[Form | None, tuple[str, ...]]:
        """The form of a sample where there is one input of numbers, and the kinds of requests: a picture only where the file
        says how one becomes numbers.
        """
        (name, node), *others = self.explainer.inputs.items()
        if others or self._is_text(name):
            return None, (JSON,)
        form = recorded(self.explainer.metadata, name, node.shape)
        is_picture = form.low is not None and len(form.space) == 2 and (form.channels or 3) in MODES
        return form, (JSON, NPY, *(PICTURES if is_picture else ()))

    def _written(self) -> int:
        """The bytes that a sample can be written in, where the model says how many numbers it has."""
        count = 0
        for name, node in self.explainer.inputs.items():
            if self._is_open(name) or self._is_text(name):
                return self.limits.body
            count += math.prod(size for i, size in enumerate(node.shape) if i != self.explainer.samples.get(name))
        return WRITTEN * count + BESIDES

    def _any_number(self, name: str) -> bool:
        """Does an input take any number of samples?"""
        axis, shape = self.explainer.samples.get(name), self.explainer.inputs[name].shape
        return axis is not None and not isinstance(shape[axis], int)

    def _is_text(self, name: str) -> bool:
        """Does an input take strings?"""
        return numpy_type(self.explainer.inputs[name].type).kind == "O"

    def _is_open(self, name: str) -> bool:
        """Does the model leave the size of a sample open?"""
        axis, shape = self.explainer.samples.get(name), self.explainer.inputs[name].shape
        return not shape or any(not isinstance(size, int) for i, size in enumerate(shape) if i != axis)

    # ---- one request ------------------------------------------------------------------------------------------------------

    def announced(self, kind: str, length: str) -> str:
        """The plain name of the kind of a request, by what is said before its body. Raises ``Refused``."""
        kind = kind.partition(";")[0].strip().lower()
        if kind not in self.kinds:
            *others, last = self.kinds
            raise Refused(NO_KIND, f"send {', '.join(others)}{' or ' if others else ''}{last}")
        if not (length.isascii() and length.isdecimal()):
            raise Refused(NO_LENGTH, "say how many bytes the body has, in Content-Length; it cannot come in chunks")
        most = self.limits.body if kind in PICTURES else min(self.limits.body, self.written)
        if int(length[:LONG]) > most:
            raise Refused(TOO_LARGE, f"a request of {kind} has at most {most:,} bytes")
        return kind

    def read(self, kind: str, body: bytes, target: str | None) -> Asked:
        """The sample in the ``body`` of a request of this ``kind``. Raises ``Refused``."""
        kind = self.announced(kind, str(len(body)))
        if self.form is None or kind == JSON:
            given = self._listed(body)
        else:
            given = {self.form.name: _array(body) if kind == NPY else self._pictured(body, self.form)}
        if sum(array.size for name, array in given.items() if self._is_open(name)) > self.limits.entries:
            raise Refused(TOO_LARGE, f"a sample has at most {self.limits.entries:,} numbers")
        return self._fitted(given, target)

    def _fitted(self, given: Mapping[str, np.ndarray], target: str | None) -> Asked:
        """What is given in the types and shapes of the model, as its only sample."""
        alone, said = {}, self.explainer.metadata
        for name, array in given.items():
            axis, shape = self.explainer.samples.get(name), self.explainer.inputs[name].shape
            one = [size for i, size in enumerate(shape) if i != axis]
            fits = array.ndim == len(one) and all(
                size == have for size, have in zip(one, array.shape, strict=True) if isinstance(size, int)
            )
            if array.size == 0 or array.ndim < (axis or 0) or not (fits or not shape):
                sizes = ", ".join(map(str, one))
                raise Refused(NO_FIT, f"the input {name!r} takes one sample, [{sizes}], what is given is {list(array.shape)}")
            alone[name] = array if axis is None else np.expand_dims(array, axis)
        try:
            wanted = None if target is None else self._class(target)
            feeds = self.explainer.fed(alone, wanted)
        except RequestError as error:
            raise Refused(NO_FIT, str(error)) from None
        return Asked({name: feeds[name] for name in given}, wanted if said["target_input"] in feeds else None)

    def _class(self, target: str) -> Index:
        labels = self.explainer.labels
        try:
            return labels.index(target[:LONG])
        except RequestError:
            close = suggestion(target[:LONG], labels.shown() or ())
            raise Refused(NO_FIT, f"target {target[:LONG]!r} is no class of the model{close}") from None

    def _listed(self, body: bytes) -> dict[str, np.ndarray]:
        """Lists of numbers, or of strings where the model takes those, by input; nothing but the list where there is one."""
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(NO_FIT, "the body is no JSON") from None
        inputs = said.get("inputs") if isinstance(said, dict) else None
        if inputs is None:
            raise Refused(NO_FIT, 'send an object, {"inputs": the lists of one sample, or an object of them by name}')
        names = [*self.explainer.inputs]
        by_name = inputs if isinstance(inputs, dict) or len(names) > 1 else {names[0]: inputs}
        if not isinstance(by_name, dict) or set(by_name) != set(names):
            named = ", ".join(names)
            raise Refused(NO_FIT, f'the model takes the inputs {named}; send {{"inputs": an object of lists by these names}}')
        return {name: self._numbers(name, values) for name, values in by_name.items()}

    def _numbers(self, name: str, values: Any) -> np.ndarray:
        """An array of what is listed for an input, with nothing in it that numpy would make a number, or a string, of."""
        is_text = self._is_text(name)
        try:
            # As objects first: a long string among numbers would make each of them as long
            array = np.asarray(values, object)
            if set(map(type, array.ravel().tolist())) <= ({str} if is_text else NUMBER):
                return array if is_text else array.astype(np.float64)
        except (ValueError, TypeError, OverflowError):
            pass
        what = "strings" if is_text else "numbers, without quotation marks"
        raise Refused(NO_FIT, f"the input {name!r} takes lists of {what}, in rows of one length")

    def _pictured(self, body: bytes, form: Form) -> np.ndarray:
        """A picture, prepared as the compiled file says."""
        most = self.limits.entries if self._is_open(form.name) else self.limits.pixels
        try:
            with Image.open(io.BytesIO(body), formats=FORMATS) as file:  # which reads its size alone
                size = file.width * file.height
        except Exception:  # Pillow raises a dozen kinds of them over damaged files
            raise Refused(NO_FIT, "the body is no picture") from None
        if size > most:
            raise Refused(TOO_LARGE, f"a picture has at most {most:,} pixels")
        try:
            return pictured(io.BytesIO(body), form).x
        except RequestError as error:
            raise Refused(NO_FIT, str(error)) from None

    # ---- several together -------------------------------------------------------------------------------------------------

    def run(self, asked: Sequence[Asked], explain: bool) -> list[dict[str, Any] | Refused]:
        """The answers, in order; none depends on the others."""
        groups: dict[object, list[int]] = {}
        for i, one in enumerate(asked):
            groups.setdefault(one.form if self.joins else i, []).append(i)
        found: dict[int, dict[str, Any] | Refused] = {}
        for places in groups.values():
            found |= zip(places, self._together([asked[i] for i in places], explain), strict=True)
        return [found[i] for i in range(len(asked))]

    def _together(self, asked: Sequence[Asked], explain: bool) -> list[dict[str, Any] | Refused]:
        """Those of one form in one run; where that fails, each alone, so that nobody pays for another's sample."""
        try:
            result = self._computed(asked, explain)
        except Exception as error:
            if len(asked) > 1:
                return [answer for one in asked for answer in self._together([one], explain)]
            log.warning("a sample cannot be run: %s", error)
            return [Refused(NO_FIT, "the model cannot be run on this sample")]
        return [self._answer(result, i) for i in range(len(asked))]

    def _computed(self, asked: Sequence[Asked], explain: bool) -> Explanation:
        axes = self.explainer.samples
        xs = {
            name: array if len(asked) == 1 else np.concatenate([one.arrays[name] for one in asked], axes[name])
            for name, array in asked[0].arrays.items()
        }
        if explain:
            told = any(one.target is not None for one in asked)
            return self.explainer(xs, [-1 if one.target is None else one.target for one in asked] if told else None)
        if self._predictor is None:
            return self.explainer(xs, explain=False)
        names = [node.name for node in self._predictor.get_outputs()]
        outputs = dict(zip(names, tried(self._predictor, self.explainer.own(xs), names), strict=True))
        said = Occasion(self.explainer.metadata, self.explainer.labels, axes, len(asked))
        return Explanation(outputs, {}, {}, run=said)

    def _answer(self, result: Explanation, i: int) -> dict[str, Any] | Refused:
        """What is said of a sample."""
        labels, said = self.explainer.labels, dict[str, Any]()
        for name, classes in (("predicted", result.predicted), ("target", result.target if result.relevance else None)):
            if classes is not None:
                said |= {name: int(classes[i]), f"{name}_label": labels[int(classes[i])]}
        for name, numbers in (("scores", result.scores), ("logit", result.logit), ("missing", result.missing)):
            if numbers is not None:
                said[name] = numbers[i]
        if result.relevance and result.run is not None:
            said["relevance"] = {name: values[i] for name, values in result.run.by_sample(result.relevance).items()}
        finite = all(np.isfinite(values).all() for values in (*said.get("relevance", {}).values(), said.get("logit", 0)))
        return (
            said if finite and np.isfinite(said.get("scores", 0)).all() else Refused(NO_FIT, "the model's answer is not finite")
        )


def _array(body: bytes) -> np.ndarray:
    """The numbers in a ``.npy`` file; nothing is unpickled, unpacked or made room for but what is there."""
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, by_columns, dtype = reader(file)
        if dtype.kind not in NUMBERS or file.tell() + math.prod(shape) * dtype.itemsize != len(body):
            raise ValueError
        return np.ndarray(shape, dtype, body, file.tell(), order="F" if by_columns else "C")
    except Exception:  # numpy's parser of headers is Python's own, with all of its errors
        raise Refused(NO_FIT, "the body is no .npy file of numbers, or not all of it") from None


def packed(answer: Mapping[str, Any], accept: str) -> tuple[str, bytes]:
    """An answer as the kind that is accepted, and its bytes: JSON, or an ``.npz`` with an array for each entry."""
    if NPZ not in accept:
        return JSON, json.dumps(answer, default=lambda array: array.tolist()).encode()
    maps = {f"relevance/{name}": values for name, values in answer.get("relevance", {}).items()}
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in {**answer, **maps}.items() if name != "relevance"}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return NPZ, file.getvalue()
