"""Running compiled models in ONNX Runtime. Imports nothing of the compiler: this is all that a service needs."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxdtd.contract import KEPT, KEPT_BY, LEDGER, SCORE, Metadata, at_most, read_metadata
from onnxdtd.errors import ModelError, OnnxdtdError, RequestError, counted, instead
from onnxdtd.labels import Index, Labels, labels_of
from onnxdtd.runtime import kept
from onnxdtd.runtime.classes import Classes, Occasion
from onnxdtd.runtime.frame import by_input, dataframe, described, in_a_line, summed_up

if TYPE_CHECKING:
    import pandas

NO_RUNTIME = "ONNX Runtime is not installed: pip install 'onnxdtd[cpu]', or 'onnxdtd[gpu]' for NVIDIA GPUs (never both)"
NO_LOCALE = (
    "install that locale, or give the model's StringNormalizer another one that is here, such as C.UTF-8 (skl2onnx takes "
    "options={TfidfVectorizer: {'locale': 'C.UTF-8'}})"
)
CUDA = "CUDAExecutionProvider"
SHORT = {"cuda": CUDA, "cpu": "CPUExecutionProvider"}
ONLY_ERRORS, FATAL = 3, 4  # ONNX Runtime warns about every optional input; ``target`` is one, and meant to be

# Bytes. ONNX Runtime copies dense weights into another form, which makes a ViT-B/16 (345 MB) a fifth faster and takes as much
# memory again; larger files, as VGG16's, are mostly weights that are read once for each sample, with little to gain.
LARGE = 500 * 2**20
BARE = 2**26  # bytes, of which a file without its weights has less
ELSEWHERE = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")  # how protobuf says in which file a weight lies; then its name

EXACT = {"use_tf32": "0"}  # for CUDA where no options are given: relevance is then the CPU's up to rounding

Provider = str | tuple[str, Mapping[str, Any]]  # a name, or a name and the options that ONNX Runtime takes for it


@dataclass(frozen=True)
class Ledger:
    """Where the explained logit went: sums for each sample and step, from the logits (the first step) to the inputs.

    ``columns`` maps names to arrays float64 [batch, steps]: ``in`` is the relevance of a step's outputs, ``out`` that of its
    inputs; ``bias``, ``stabiliser``, ``dead`` (no denominator), ``misfit`` (of a relevance model), ``constants`` (padding) and
    ``masked`` are what it kept; ``negative`` is the negative part of ``out``. The others count where deep Taylor's conditions
    fail: ``positive_biases`` (their sum: ``bias_sum``), ``negative_inputs``, and inputs ``outside`` of the bounds.
    """

    steps: list[str]
    columns: dict[str, np.ndarray]

    def __getitem__(self, column: str) -> np.ndarray:
        """One column, [batch, steps]; zeros where a file of an older version lacks what is kept."""
        if column in KEPT and column not in self.columns:
            return np.zeros_like(self.columns["in"])
        return self.columns[column]

    @property
    def unaccounted(self) -> np.ndarray:
        """in − out − what was kept, [batch, steps]: zero up to rounding, or a rule does not conserve relevance."""
        kept: np.ndarray = self["in"] - self["out"] - sum(self[name] for name in KEPT)
        return kept

    def totals(self) -> dict[str, np.ndarray]:
        """The balance of each sample, [batch]: ``logit`` = ``relevance`` + what the steps kept, by kind, + ``unaccounted``."""
        kept = {name: self[name].sum(axis=1) for name in KEPT}
        logit, unaccounted = self["in"][:, 0], self.unaccounted.sum(axis=1)
        return {"logit": logit, "relevance": logit - sum(kept.values()) - unaccounted, **kept, "unaccounted": unaccounted}


@dataclass(frozen=True, repr=False)
class Explanation:
    """What one run gives: the predictor's outputs by name, the relevance by input or inner tensor that is explained, the
    relevance of tensors kept; the ledger where the model was compiled with one; ``logit``, [batch], the explained score (files
    of version 0.1 have none); the ``values`` of inner tensors that are explained; ``at_baseline``, [batch], the same score of
    the input that the preset compares with.
    """

    outputs: dict[str, np.ndarray]
    relevance: dict[str, np.ndarray]
    kept: dict[str, np.ndarray]
    ledger: Ledger | None = None
    logit: np.ndarray | None = None
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    at_baseline: np.ndarray | None = None
    run: Occasion | None = None  # how it came about

    def __repr__(self) -> str:
        """What there is, without its numbers but for a few."""
        return summed_up(self)

    @cached_property
    def _classes(self) -> Classes:
        return Classes(None, None, None) if self.run is None else self.run.classes(self.outputs)

    @property
    def scores(self) -> np.ndarray | None:
        """The model's score of each class, float64 [batch, classes]; None where it gives none, here and below."""
        return self._classes.scores

    @property
    def predicted(self) -> np.ndarray | None:
        """The index of the predicted class, int64 [batch]."""
        return self._classes.predicted

    @property
    def target(self) -> np.ndarray | None:
        """The index of the explained class, int64 [batch]."""
        return self._classes.target

    @cached_property
    def missing(self) -> np.ndarray | None:
        """What of the logit, or of how much it differs from that at the baseline, is in no relevance, float64 [batch]: biases
        and the stabiliser absorbed it, or it fell on constants. None of derivatives, which do not add up to it.
        """
        if self.logit is None or self.run is None or (self.at_baseline is None and self.run.metadata.get("derivative")):
            return None
        there = 0.0 if self.at_baseline is None else self.at_baseline
        return self.logit.astype(np.float64) - there - self.run.sums(self.relevance)

    def to_dataframe(self) -> pandas.DataFrame:
        """A row a sample: labels of the predicted and of the explained class, logit, what is missing of it, and the relevance
        of each feature, ``relevance[NAME]`` where features have names, else by index. Raises ``OnnxdtdError`` without pandas.
        """
        return dataframe(self)


class Explainer:
    """A session over a compiled model.

    Args:
        model: a path, bytes or ``onnx.ModelProto``.
        providers: ONNX Runtime execution providers, by name or with options as ``("CUDAExecutionProvider", {"device_id": 1})``;
            by default CUDA where it can run, then CPU. CUDA computes in TF32 only where options are given that leave it on.
        folder: where the external weights of a model given as bytes or proto lie.
        threads: how many threads one run may use; by default as many as there are cores.
        optimise: whether ONNX Runtime may rewrite the graph, by default as far as it can.
        prepack: whether dense weights are kept in a second form, which is faster where each meets many rows; by default in
            models below 500 MB. Without it external weights are not copied, but mapped: all sessions of a machine share them.

    Raises:
        OnnxdtdError: no ONNX Runtime is installed. ModelError: the model cannot be run, or was not compiled by onnxdtd.
    """

    def __init__(
        self,
        model: Any,
        providers: Sequence[Provider] | None = None,
        folder: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        optimise: bool = True,
        prepack: bool | None = None,
    ):
        self.session = session(model, providers, folder, threads, optimise, prepack)
        self.metadata: Metadata = told(self.session.get_modelmeta().custom_metadata_map)
        if "relevance" not in self.metadata:
            raise ModelError("this model was not compiled by onnxdtd: run `onnxdtd compile` on it first")
        said = self.metadata  # older files have less
        if KEPT_BY in said:
            kept.check(said["kept"], lambda model, x: session(model, ["cpu"], threads=1).run(None, {"x": x})[0])
        # The input with coefficients, if the score is a sum that is fed; one with the class to explain is none of the inputs.
        self.weights = said["target_input"] if said.get("target") == SCORE else None
        chooses = None if self.weights else said.get("target_input")
        self.asks = said.get("ask_input")  # the input that says whether to explain
        nodes = {node.name: node for node in self.session.get_inputs()}
        self.masks = {
            name: str(entry.get("input")) for name, entry in said.get("masks", {}).items()
        }  # inputs, by the masked tensor
        self.inputs = {name: node for name, node in nodes.items() if name not in {chooses, self.asks, *self.masks.values()}}
        self.labels = labels_of(said)
        before = {name: 0 if len(node.shape) != 1 else None for name, node in self.inputs.items()}  # what older files mean
        # The axis of samples of each input, None where it has none: the input is one sample.
        self.samples: Mapping[str, int | None] = self.metadata.get("samples", before)
        booked = [LEDGER] if said.get("ledger") is not None else []
        there = {*booked, *said["relevance"].values(), *said.get("values", {}).values()}
        known = (
            {*self.masks.values()} <= {*nodes}
            and there <= {node.name for node in self.session.get_outputs()}
            and {*self.samples}
            <= {
                *self.inputs,
                *said.get("values", ()),
            }
        )
        if not known or (booked and not {"steps", "columns"} <= {*(said.get("ledger") or ())}):
            raise ModelError("the metadata name outputs or inputs that the model does not have; compile the source again")

    def __call__(
        self,
        x: np.ndarray | Mapping[str, np.ndarray],
        target: int | str | Sequence[int | str] | None = None,
        score: np.ndarray | None = None,
        masks: Mapping[str, np.ndarray] | None = None,
        explain: bool = True,
    ) -> Explanation:
        """Predict and explain.

        Args:
            x: the input, or one array for each input by name, or a data frame; cast to the type that the model takes.
            target: the class to explain, one for all samples or one each: its label, or its index (an integer that is a label
                of the model is that label; ``labels.Index`` is an index whatever the labels are). None explains the arg-max.
            score: for a file compiled with ``target="score"`` the coefficients c of the score Σ c z that is explained, an array
                of the shape of the output; it may also stand among the inputs. Such a file takes as ``target`` an index of all
                axes but that of the samples as well, ``(7, 0)``: one entry, the same of all samples.
            masks: for a file compiled with ``mask`` what may pass of the relevance of each channel, by tensor: [batch,
                channels], or [channels] for all samples. Ones where none are given. What bypasses a tensor on skip connections
                arrives whatever its mask: zeros show it.
            explain: whether to explain. A file compiled ``on_demand`` leaves the relevance pass out where not; any other
                computes it all the same. There is no relevance then, and no logit.

        Raises:
            RequestError: arrays that do not fit, NaN or infinite values, a target or a mask that the file does not take.
        """
        feeds = self.fed(x, target, score, masks, explain)
        names = [node.name for node in self.session.get_outputs()]
        occasion = Occasion(self.metadata, self.labels, self.samples, self.count(feeds), self._asked(feeds))
        if not explain:
            return Explanation(self._run([name for name in names if name not in self._added()], feeds), {}, {}, run=occasion)
        values = self._run(names, feeds)
        found = self.metadata["relevance"]
        shown = {name: values.pop(out) for name, out in self.metadata.get("values", {}).items()}
        explained = {*self.inputs, *shown, *self.metadata.get("apart", ())}
        relevance = {name: values[out] for name, out in found.items() if name in explained}
        kept = {name: values[out] for name, out in found.items() if name not in relevance}
        ledger, entry = None, self.metadata.get("ledger")
        if entry is not None:
            table = values.pop(LEDGER)
            columns = {name: table[..., i] for i, name in enumerate(entry["columns"])}
            ledger = Ledger(list(entry["steps"]), dict.fromkeys(KEPT, np.zeros(table.shape[:-1])) | columns)  # older have fewer
        logit, there = (values.pop(str(self.metadata.get(name)), None) for name in ("logit", "logit_at_baseline"))
        outputs = {name: value for name, value in values.items() if name not in found.values()}
        return Explanation(outputs, relevance, kept, ledger, logit, shown, there, occasion)

    def _added(self) -> set[str]:
        """The outputs that are not the predictor's."""
        said = self.metadata
        ours = [said.get("logit"), said.get("logit_at_baseline"), LEDGER if said.get("ledger") is not None else None]
        return {name for name in (*said["relevance"].values(), *said.get("values", {}).values(), *ours) if name is not None}

    def _run(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of these names."""
        try:
            return dict(zip(names, tried(self.session, feeds, list(names)), strict=True))
        except Exception as error:
            steps = self.metadata.get("most_steps")
            if steps is not None and at_most(steps) in str(error):
                raise RequestError(too_long(steps, "what the input comes to in a recurrent layer has more", "N")) from None
            raise RequestError(f"ONNX Runtime cannot run the model on this input: {_first_line(error)}") from None

    def _asked(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """The classes that are asked for, where they are fed."""
        return None if self.weights else feeds.get(self.metadata.get("target_input") or "")

    def __repr__(self) -> str:
        """What a terminal shows."""
        return in_a_line(self.metadata, self.labels, self.inputs)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return described(self.metadata, self.labels, self.inputs)

    def fed(
        self,
        x: np.ndarray | Mapping[str, np.ndarray],
        target: int | str | Sequence[int | str] | None = None,
        score: np.ndarray | None = None,
        masks: Mapping[str, np.ndarray] | None = None,
        explain: bool = True,
    ) -> dict[str, np.ndarray]:
        """All that the session takes; arguments and errors as those of a call."""
        if self.weights is not None and target is not None:
            if score is not None:
                raise RequestError("give either target, an entry, or score, a coefficient for each")
            score, target = self._entry(target, x), None
        feeds = self.feeds(x, score)
        if target is not None or self.metadata.get("target") == "input":
            feeds |= self._target(-1 if target is None else target, feeds)
        if self.asks is not None:
            feeds[self.asks] = np.asarray(explain)
        return feeds | self._masks(masks or {}, self.count(feeds))

    def feeds(self, x: np.ndarray | Mapping[str, np.ndarray], score: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The input as ONNX Runtime takes it. Raises ``RequestError`` where it does not fit."""
        if not isinstance(x, Mapping):
            own = [name for name in self.inputs if name != self.weights]
            if len(own) != 1 and not hasattr(x, "columns"):
                raise RequestError(f"the model has several inputs, give a data frame or a dictionary of {', '.join(own)}")
            x = dict.fromkeys(own, x) if len(own) == 1 else by_input(x, own)
        if score is not None and self.weights is None:
            raise RequestError("this file takes no coefficients of a score; compile the source model with --target score")
        if score is not None:
            x = {**x, str(self.weights): score}
        if self.weights is not None and self.weights not in x:
            shape = self.inputs[self.weights].shape
            raise RequestError(f"this file explains a sum that it is told: give score=, coefficients of the shape {shape}")
        if set(x) != set(self.inputs):
            raise RequestError(f"the model takes the inputs {', '.join(self.inputs)}, not {', '.join(x) or 'none'}")
        feeds = {name: self._fitted(value, name) for name, value in x.items()}
        for name, axis in self.metadata.get("lengths", {}).items():
            steps, length = self.metadata["most_steps"], feeds[name].shape[axis]
            if length > steps:
                raise RequestError(too_long(steps, f"the input {name!r} has {length}", length))
        return feeds

    def _entry(self, target: Any, x: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray:
        """The coefficients of one entry: 1 there, else 0."""
        name = str(self.weights)
        shape, axis = self.inputs[name].shape, self.samples[name]
        sizes = [size for i, size in enumerate(shape) if i != axis]
        index = np.atleast_1d(np.asarray(target))
        fits = index.dtype.kind == "i" and index.shape == (len(sizes),) and all(isinstance(size, int) for size in sizes)
        if not fits or not all(0 <= i < size for i, size in zip(index.tolist(), sizes, strict=True)):
            raise RequestError(f"target {target!r} is no entry of scores {shape}; give an index of {sizes}, or score=")
        given = x if isinstance(x, Mapping) else dict.fromkeys([own for own in self.inputs if own != name], x)
        coefficients = np.zeros(sizes, np.float32)
        coefficients[tuple(index)] = 1
        count = self.count({own: np.asarray(value) for own, value in given.items()})
        return coefficients if axis is None else np.stack([coefficients] * count, axis)

    def own(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the predictor alone takes of what is fed."""
        added = {self.weights, *self.metadata.get("baseline_inputs", {}).values()}
        return {name: value for name, value in feeds.items() if name not in added}

    def _fitted(self, given: Any, name: str) -> np.ndarray:
        node = self.inputs[name]
        try:
            value = np.asarray(given)
        except ValueError:
            raise RequestError(f"what is given for the input {name!r} is no array: its rows differ in length") from None
        fits = not node.shape or (  # the runtime says [] of an input whose rank is not declared
            len(node.shape) == value.ndim
            and all(not isinstance(want, int) or want == have for want, have in zip(node.shape, value.shape, strict=True))
        )
        if not fits:
            few, axis = node.shape, self.samples.get(name)
            raise RequestError(
                f"the input {name!r} is {few}, the array given is {list(value.shape)}{_at_once(few, axis, value.shape)}"
            )
        try:
            dtype = numpy_type(node.type)
            if value.dtype.kind == "c" or (dtype.kind == "O" and not all(isinstance(text, str) for text in value.flat)):
                raise TypeError
            if dtype.kind in "iu" and value.dtype.kind == "f":  # pixels that were scaled and scaled back
                value = np.rint(value)
                if not ((value >= np.iinfo(dtype).min) & (value <= np.iinfo(dtype).max)).all():
                    raise RequestError(f"the input {name!r} takes {dtype}, the array has values that are none")
            with np.errstate(over="ignore"):  # becomes infinite, and is refused below
                value = value.astype(dtype)
        except (TypeError, ValueError):
            raise RequestError(f"the input {name!r} takes {node.type}, not an array of {value.dtype}") from None
        missing = name in self.metadata.get("imputed", ())  # the model itself replaces NaN
        if value.dtype.kind == "f" and not (np.isfinite(value) | (missing & np.isnan(value))).all():
            raise RequestError(f"the array for {name!r} has values that are {'' if missing else 'NaN or '}infinite")
        return value

    def count(self, feeds: Mapping[str, np.ndarray]) -> int:
        """How many samples there are in what is fed."""
        axes = {name: axis for name, axis in self.samples.items() if name in feeds and axis is not None}
        return max((feeds[name].shape[axis] for name, axis in axes.items() if feeds[name].ndim > axis), default=1)

    def _target(self, target: int | str | Sequence[int | str], feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        name, fixed = self.metadata["target_input"], self.metadata["target"]
        given = np.atleast_1d(np.asarray(target))
        if given.dtype.kind not in "iuU" or given.ndim > 1:
            raise RequestError(f"target {target!r} is neither a class, its label or its index, nor a list of them")
        listed = target if isinstance(target, list | tuple) else [target] if isinstance(target, Index) else given.tolist()
        values = np.asarray([self._index(entry) for entry in listed])
        if name is None:
            if set(values.tolist()) == {-1 if fixed == "argmax" else fixed}:
                return {}
            raise RequestError(fixed_target(fixed, self.labels))
        samples = self.count(feeds)
        if values.size not in (1, samples):
            raise RequestError(f"target has {values.size} classes for {samples} samples; give one for all, or one each")
        return {name: np.broadcast_to(values, [samples]).astype(np.int64)}

    def _masks(self, given: Mapping[str, np.ndarray], samples: int) -> dict[str, np.ndarray]:
        """A mask for each tensor that has one, ones where none is given."""
        nodes, found = {node.name: node for node in self.session.get_inputs()}, {}
        for name in given:
            if name not in self.masks:
                known = f"it has masks of {', '.join(map(repr, self.masks))}" if self.masks else "it takes no masks"
                raise RequestError(f"masks {name!r}: {known}; compile the source model with --mask {name}")
        for name, fed in self.masks.items():
            sizes = [samples, nodes[fed].shape[1]]
            try:
                mask = np.asarray(given.get(name, np.ones(sizes)))
            except ValueError:
                raise RequestError(f"masks {name!r}: is no array, its rows differ in length") from None
            fits = mask.dtype.kind in "fiub" and mask.shape in (tuple(sizes), (sizes[1],))
            with np.errstate(over="ignore"):
                values = mask.astype(numpy_type(nodes[fed].type)) if fits else mask
            if not fits or not np.isfinite(values).all():
                raise RequestError(
                    f"masks {name!r}: an array of {mask.dtype}, {list(mask.shape)}; give finite numbers, {sizes} or {sizes[1:]}"
                )
            found[fed] = np.array(np.broadcast_to(values, sizes))
        return found

    def _index(self, target: int | str) -> int:
        """The class that is meant; -1 is the arg-max, where it is no label."""
        return -1 if target == -1 and -1 not in (self.labels.own or ()) else self.labels.index(target)


def told(model: Any) -> Metadata:
    """What a compiled file says. Raises ``ModelError`` where that is damaged."""
    try:
        return read_metadata(model)
    except ValueError as error:
        raise ModelError(str(error)) from None


def too_long(most: int, what: str, wanted: int | str) -> str:
    """What to say to somebody whose input has more steps than a file takes."""
    return f"this file was compiled for at most {most} steps, {what}; compile the source model with --most-steps {wanted}"


def fixed_target(target: object, labels: Labels) -> str:
    """What to say to somebody who asks a file for another target than the one that it has."""
    told = "a sum of scores that it is fed" if target == SCORE else "the arg-max" if isinstance(target, str) else labels.where
    what = labels[target] if isinstance(target, int) else told
    return (
        f"this file explains {what}, whatever target is asked for; compile the source model with --target input for a file "
        "that is told the class at run time"
    )


def session(
    model: Any,
    providers: Sequence[Provider] | None = None,
    folder: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    optimise: bool = True,
    prepack: bool | None = None,
) -> Any:
    """An ``onnxruntime.InferenceSession``; arguments and errors as those of ``Explainer``."""
    try:
        import onnxruntime as ort
    except ImportError:
        raise OnnxdtdError(NO_RUNTIME) from None
    options = ort.SessionOptions()
    options.log_severity_level = ONLY_ERRORS
    options.intra_op_num_threads = threads or 0
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_mem_pattern = False  # it keeps two runs' worth of activations, for no gain in speed
    options.enable_mem_reuse = False  # where sizes are unknown, planning it takes as long as all else, for a few per cent
    serialised = os.fspath(model) if isinstance(model, os.PathLike) else model
    if isinstance(serialised, str) and not os.path.exists(serialised):
        raise ModelError(f"{serialised}: no such file")
    if not isinstance(serialised, bytes | str):
        serialised = model.SerializeToString()
    if not (_size(serialised, folder) <= LARGE if prepack is None else prepack):
        options.add_session_config_entry("session.disable_prepacking", "1")
    if folder is not None and not isinstance(model, str | os.PathLike):
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.fspath(folder))
    asked = [SHORT.get(given, given) if isinstance(given, str) else given for given in providers or default_providers()]
    chosen = [(given, EXACT) if given == CUDA else given for given in asked]
    names = [given if isinstance(given, str) else given[0] for given in chosen]
    unknown = [name for name in names if name not in ort.get_available_providers()]
    if unknown:
        raise RequestError(f"no provider {unknown[0]!r} here{instead(unknown[0], ort.get_available_providers())}")
    if CUDA in names:
        load_cuda()
    try:
        loaded = ort.InferenceSession(serialised, options, providers=chosen)
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        weights = folder is None and not isinstance(model, str | os.PathLike) and "xternal data" in str(error)
        ways = (
            "; say where its weights lie: Explainer(model, folder=...), or save it there and give the path" if weights else ""
        )
        if "construct locale" in str(error):
            ways = "; " + NO_LOCALE
        raise ModelError(f"ONNX Runtime cannot load the model: {_first_line(error)}{ways}") from None
    if providers and loaded.get_providers()[0] != names[0]:
        raise RequestError(f"the provider {names[0]!r} cannot run here, although it is installed")
    _give_back()
    return loaded


def tried(running: Any, feeds: Mapping[str, np.ndarray], names: list[str] | None = None) -> list[Any]:
    """The outputs of these names, by default all, on what may not fit: it raises what it raises, and prints nothing of it."""
    import onnxruntime as ort

    options = ort.RunOptions()
    options.log_severity_level = FATAL
    given: list[Any] = running.run(names, feeds, options)
    return given


def load_cuda() -> None:
    """Load NVIDIA's libraries from where pip puts them: ONNX Runtime by itself finds them on the system only. Says on stderr
    what is missing.
    """
    import onnxruntime as ort

    with redirect_stdout(sys.stderr):
        getattr(ort, "preload_dlls", lambda: None)()  # from 1.21 on


def _size(model: bytes | str, folder: str | os.PathLike[str] | None) -> int:
    """In bytes, with external weights; 0 of what is not there, which the runtime says better."""
    size = len(model) if isinstance(model, bytes) else _bytes(model)
    if not 0 < size < BARE:
        return size
    data, beside = (model, folder or "") if isinstance(model, bytes) else (Path(model).read_bytes(), os.path.dirname(model))
    names = {data[told.end() : told.end() + told[1][0]] for told in ELSEWHERE.finditer(data)}
    return size + sum(_bytes(os.path.join(os.fsencode(beside), name)) for name in names)


def _bytes(path: str | bytes) -> int:
    return os.path.getsize(path) if b"\0" not in os.fsencode(path) and os.path.isfile(path) else 0


def _give_back() -> None:
    """Return to the system what loading took and freed, twice the weights of a model; glibc would keep it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def default_providers() -> list[str]:
    """CUDA where onnxruntime-gpu is installed and an NVIDIA driver can be loaded, and the CPU."""
    import onnxruntime as ort

    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return ["CPUExecutionProvider"]
    return [name for name in (CUDA, "CPUExecutionProvider") if name in ort.get_available_providers()]


def dtype_name(onnx_type: str) -> str:
    """``float16`` of ``tensor(float16)`` and so on."""
    return onnx_type.removeprefix("tensor(").removesuffix(")")


def numpy_type(onnx_type: str) -> np.dtype:
    """``tensor(float)`` and so on as numpy's."""
    name = dtype_name(onnx_type)
    return np.dtype({"float": "float32", "double": "float64", "string": "object"}.get(name, name))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _at_once(sizes: Sequence[Any], axis: int | None, given: Sequence[int]) -> str:
    """What to do where a model takes fewer samples at once than there are, or more."""
    if axis is None or len(sizes) != len(given) or not isinstance(sizes[axis], int):
        return ""
    rest = zip(sizes, given, range(len(given)), strict=True)
    if any(isinstance(want, int) and want != have for want, have, i in rest if i != axis):
        return ""
    return f": the model takes {counted(sizes[axis], 'sample')} at once; give so many, one call after the other"
