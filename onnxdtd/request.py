"""What a caller asks for, as plain data: one field is one option, of ``onnxdtd.compile`` and of the command line.

A field says what it holds, how what is given becomes that, how the command line spells it and what help says of it. It imports
nothing heavy, so that the command line starts fast.
"""

from __future__ import annotations

import inspect
import math
import os
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

from onnxdtd.contract import SCORE
from onnxdtd.depth import Task, result
from onnxdtd.errors import RequestError, suggestion
from onnxdtd.labels import Index

CONTRASTS = ("runner-up", "rest")  # what a score can be compared with
DEMANDS = ("required", "optional")  # how a file is told whether to explain
BASELINES = ("zero", "mean", "blur", "input")  # what can be compared with, besides numbers and files
AT_RUN_TIME = ("input", "optional")  # targets that are an input of the compiled model
NO_CLASSES = ("argmax", *AT_RUN_TIME, SCORE)  # targets that leave the class to the run time
INDEX = re.compile(r"[0-9]+(,[0-9]+)+")  # of an entry of an output with several axes

F = TypeVar("F", bound=Callable[..., Any])


# Under which heads help lists the options.
EXPLAINED, RULES, INPUTS, FURTHER = "What is explained", "Rules", "Inputs: bounds and preprocessing", "What else is computed"
DRAWN = "How it is drawn"


@dataclass(frozen=True)
class Option:
    """An option of the command line, and the head that help lists it under."""

    flag: str
    help: str
    metavar: str | None = None
    head: str = FURTHER


# What the field ``preprocessing`` is put together from, by key.
PICTURES = {
    "range": Option("--range", "What pixels 0 and 255 become, before mean and std. Gives the bounds instead.", "LO,HI", INPUTS),
    "mean": Option("--mean", "What preprocessing subtracts: a number, or one a channel.", "M,M,M", INPUTS),
    "std": Option("--std", "What it then divides by.", "S,S,S", INPUTS),
    "colours": Option("--bgr", "The model takes blue first, as Caffe models do.", None, INPUTS),
    "resize": Option(
        "--resize", "Pixels of a picture's shorter side, or its size. Default: 256/224 of the model's.", "N|WxH", INPUTS
    ),
    "crop": Option(
        "--crop", "What is then cut out of the centre; none squashes instead. Default: the model's size.", "N|WxH|none", INPUTS
    ),
}


# ------------------------------------------------------------------------------------------- how what is given becomes a field


def _plain(value: Any) -> Any:
    """Arrays as lists of numbers, whatever holds them."""
    return result(_made_plain(value))


def _made_plain(value: Any) -> Task[Any]:
    if hasattr(value, "tolist"):
        return value.tolist()
    if not isinstance(value, Mapping | list | tuple):
        return value
    entries = []
    for entry in value.values() if isinstance(value, Mapping) else value:
        entries.append((yield _made_plain(entry)))
    return dict(zip(value, entries, strict=True)) if isinstance(value, Mapping) else entries


def _names(value: str | Sequence[Any]) -> tuple[str, ...]:
    """Several names, or only one."""
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _or_none(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else convert(value)


def _target(value: Any) -> Any:
    if isinstance(value, Mapping):  # ``as_data``
        return Index(value["index"])
    if isinstance(value, str) and INDEX.fullmatch(value):
        return _index("target", value)
    if isinstance(value, list | tuple) and len(value) > 1:
        return _index("target", value)
    if isinstance(value, bool) or not (isinstance(value, str) or hasattr(value, "__index__")):
        raise RequestError(
            f"target {value!r}: give 'argmax', 'input', 'optional', or the label or the index of a class; 'score', or an index "
            "of all axes of the output but that of samples"
        )
    return value if isinstance(value, str | Index) else int(value)


def _index(option: str, value: Any) -> tuple[int, ...]:
    """An index of several axes, or of one."""
    entries = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    try:
        if any(isinstance(entry, bool | float) for entry in entries):
            raise TypeError
        return tuple(int(entry) for entry in entries)
    except (TypeError, ValueError):
        raise RequestError(f"{option} {value!r}: write a number for each axis, with commas between them, like 7,0") from None


def _contrast(value: Any) -> str | None:
    if isinstance(value, bool):
        return CONTRASTS[0] if value else None
    if value not in CONTRASTS:
        raise RequestError(f"contrast {value!r}: give one of {', '.join(CONTRASTS)}")
    return value


def _on_demand(value: Any) -> str | None:
    if isinstance(value, bool):
        return DEMANDS[0] if value else None
    if value not in DEMANDS:
        raise RequestError(f"on_demand {value!r}: give one of {', '.join(DEMANDS)}")
    return str(value)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise RequestError(f"--reference {value!r}: give a number")
    return number


def _most_steps(value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < 1:
        raise RequestError(f"--most-steps {value!r}: give a number above 0")
    return int(value)


def _baseline(value: Any) -> Any:
    plain = _plain(value)
    listed = list(plain.values()) if isinstance(plain, Mapping) else [plain]
    if not listed or any(entry is None or entry in ([], "") or isinstance(entry, bool) for entry in listed):
        raise RequestError(f"baseline {value!r}: give {', '.join(BASELINES)}, a number, or a file")
    return {name: _text(entry) for name, entry in plain.items()} if isinstance(plain, Mapping) else _text(plain)


def _text(value: Any) -> Any:
    """A path as text"""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _waivers(value: Mapping[str, str]) -> dict[str, str] | None:
    for op, flow in value.items():
        if flow != "pass" or not op:
            raise RequestError(f"--allow {op}={flow}: write OP=pass or NODE=pass, to let relevance through unchanged")
    return dict(value) or None


# ------------------------------------------------------------------------------------------------------------------ the fields


def offered(
    default: Any, convert: Callable[[Any], Any], spelled: Option | Mapping[str, Option], said: str | None = None
) -> Any:
    """A field: ``said`` is what the help of Python says of it, by default what that of the command line says."""
    told = said or (spelled.help if isinstance(spelled, Option) else "")
    return field(default=default, metadata={"convert": convert, "option": spelled, "said": told})


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to explain and how. Raises ``RequestError`` for what no model could be asked for."""

    preset: str | None = offered(
        None,
        _or_none(os.fspath),
        Option(
            "--preset",
            "A preset (see `onnxdtd rules`) or a TOML file. Default: dtd; lrp-epsilon for attention, and for "
            "tables and signals without bounds.",
            "NAME|FILE",
            RULES,
        ),
        'the name of a preset or a TOML file with one (``onnxdtd rules`` lists them). By default ``"dtd"``, deep Taylor '
        'decomposition, but ``"lrp-epsilon"`` where its first layer would share relevance out by weights alone, whatever the '
        "values: for feature vectors and signals without bounds; or where there is attention. The metadata "
        "``preset`` says which it was.",
    )
    settings: Sequence[str] = offered(
        (),
        _names,
        Option("--set", "A rule for the nodes whose name matches.", "NODE-GLOB=RULE", RULES),
        '``"NODE-GLOB=RULE"`` overrides, for example ``"conv1=gamma(gamma=0.1)"``; the last match wins.',
    )
    low: Any = offered(
        None,
        _plain,
        Option(
            "--low", "Lower bound of the input: a number, or one a channel. Of one of several: INPUT=L.", "L|INPUT=L", INPUTS
        ),
        "the lower bound of the input domain in the model's own input units: a number, one number a channel, or an array that "
        'broadcasts against the input; where the model has several inputs also by their names, ``{"image": 0.0}``: the others '
        "then have none.",
    )
    high: Any = offered(
        None, _plain, Option("--high", "Upper bound of the input.", "H|INPUT=H", INPUTS), "the upper bound, likewise."
    )
    preprocessing: Mapping[str, Any] | None = offered(
        None,
        _plain,
        PICTURES,
        "how pictures become inputs, recorded in the metadata for whoever reads them: ``range`` (what the bytes 0 and 255 "
        'become first), ``mean``, ``std``, ``colours`` (``"rgb"``, ``"bgr"``), ``resize`` (the shorter side, or height and '
        'width), ``crop`` (a side, height and width, or ``"none"``). The first three give the bounds instead of ``low`` and '
        "``high``.",
    )
    baseline: Any = offered(
        None,
        _or_none(_baseline),
        Option(
            "--baseline",
            "What taylor and others compare the input with: zero (the default), mean, blur, a number, a file, or input, "
            "a further input of the compiled model. Of one of several: INPUT=B.",
            "B|INPUT=B",
            RULES,
        ),
        'what presets such as ``"taylor"`` compare the input with: ``"zero"`` (of ids: nothing is looked up), ``"mean"`` of '
        'each channel of each sample, ``"blur"`` of each picture, numbers as for ``low`` (of ids: an id), a file with one '
        'sample, or ``"input"`` for a required input ``baseline`` of the shape of the explained one; of several also by names.',
    )
    target: int | str | Sequence[int] | None = offered(
        None,
        _or_none(_target),
        Option(
            "--target",
            "The class to explain, by label or index; default: argmax. Or an entry I,J of the output. Or a further input of "
            "the compiled model that says it: input, required; optional; score, a coefficient for each entry.",
            "CLASS|I,J",
            EXPLAINED,
        ),
        'None or ``"argmax"`` for the arg-max, the label or the index of a class for that, ``"input"`` for a required input '
        '``target`` (int64, [batch], -1 for the arg-max), ``"optional"`` for one that may be left out, which only some of the '
        "runtimes understand. An integer that is a label of the model is that label; ``onnxdtd.labels.Index(3)`` is an index "
        "whatever the labels are. ``(7, 0)`` is one entry of an output with several axes besides that of the samples, and "
        '``"score"`` a required input ``score`` of the shape of the output: its sum with these coefficients is explained.',
    )
    position: Sequence[int] | None = offered(
        None,
        _or_none(lambda value: _index("position", value)),
        Option(
            "--position",
            "Where in a sequence or a map: an index along all axes of the output but those of samples and classes.",
            "I,J",
            EXPLAINED,
        ),
        "where in a sequence or a map the class is explained: an index along all axes of the output but those of samples and "
        "classes, one number or a tuple.",
    )
    contrast: str | None = offered(
        None,
        _or_none(_contrast),
        Option(
            "--contrast",
            "Explain the logit minus that of the runner-up, or minus the mean of the rest.",
            "[runner-up|rest]",
            EXPLAINED,
        ),
        'explain the logit minus that of the runner-up, the highest of the other classes (True or ``"runner-up"``), or minus '
        'the mean of all others (``"rest"``).',
    )
    reference: float | None = offered(
        None,
        _or_none(_number),
        Option("--reference", "Explain how far the output, a quantity, is above or below this number.", "NUMBER", EXPLAINED),
        "explain the output of a regression less this number, whatever the preset: relevance adds up to that difference, which "
        "is negative where the output is below it.",
    )
    output: str | None = offered(
        None,
        _or_none(str),
        Option("--output", "The output or inner tensor to explain.", "NAME", EXPLAINED),
        "the output (or inner tensor) to explain, where the model has several.",
    )
    keep: Sequence[str] = offered(
        (),
        _names,
        Option("--keep", "Also output the relevance of this inner tensor.", "TENSOR"),
        "inner tensors whose relevance becomes an output ``relevance/<tensor>``.",
    )
    mask: Sequence[str] = offered(
        (),
        _names,
        Option("--mask", "Add an input that says which channels of this inner tensor relevance may pass.", "TENSOR"),
        "inner tensors that get a required input ``mask/<tensor>`` [batch, channels] that the relevance of each channel is "
        "multiplied by before it goes on: 1 lets it pass, 0 does not. ``Explainer`` takes them as ``masks``, and ones where "
        "none are given.",
    )
    allow: Mapping[str, str] | None = offered(
        None,
        _or_none(_waivers),
        Option("--allow", "Let relevance pass an operator or a node without a rule.", "OP|NODE=pass", RULES),
        'operators without a rule, or nodes by name, that relevance shall pass unchanged, ``{"Op": "pass"}``; recorded in the '
        "metadata. Only where input and output have one shape.",
    )
    ledger: bool = offered(
        False,
        bool,
        Option("--ledger", "Also output what every layer took in, handed on and kept."),
        "also output ``ledger``, float64 [batch, steps, columns]: what every layer took in, handed on and kept "
        "(``onnxdtd.contract.COLUMNS``; ``Explainer`` gives it names).",
    )
    explain: Sequence[str] = offered(
        (),
        _names,
        Option(
            "--explain",
            "An input to explain; others count as constants. Default: all of floats, else of ids; all columns of a table.",
            "INPUT",
            EXPLAINED,
        ),
        "the inputs that relevance is given to, by default all of floating-point numbers, or where there are none, pixels, or "
        "else ids, which have the relevance of what they look up; the others, such as masks, count as constants.",
    )
    from_: Sequence[str] = offered(
        (),
        _names,
        Option(
            "--from",
            "An inner tensor to explain instead of inputs; what it is computed from is not looked at.",
            "TENSOR",
            EXPLAINED,
        ),
        "inner tensors that relevance is given to instead of inputs: a spectrogram, a layer. What they are computed from is "
        "not looked at; their values become outputs ``explained/<tensor>``.",
    )
    on_demand: str | None = offered(
        None,
        _or_none(_on_demand),
        Option(
            "--on-demand",
            "Explain only where a further input, explain, says so: else the model only predicts. "
            "The input is required, or optional and then false.",
            "[required|optional]",
        ),
        'compute relevance only where a further input ``explain``, bool, is true (True or ``"required"``), or one that may be '
        'left out and is false then (``"optional"``, which only some of the runtimes understand). Else all that is added has '
        "a first axis of the size 0, and the file only predicts.",
    )
    portable: bool = offered(
        False,
        bool,
        Option(
            "--portable", "Add only operators that WebGPU, TensorRT and CoreML have; folds weights, so that the file grows."
        ),
        "write the relevance pass in the operators that WebGPU, TensorRT and CoreML all have, as far as that goes: the same "
        "relevance up to rounding, in more nodes. What is made of weights alone is computed before, so that the file grows.",
    )
    apart: bool = offered(
        False,
        bool,
        Option("--apart", "Also output the relevance of what is added to what ids look up: of positions and types of tokens."),
        "also give the relevance of what is added to what ids look up, a number for each id: embeddings of positions and of "
        "types of tokens, as outputs ``relevance/position`` and ``relevance/type``. They count as explained then, not as "
        "constants.",
    )
    most_steps: int | None = offered(
        None,
        _or_none(_most_steps),
        Option(
            "--most-steps", "The most steps that recurrent layers take. Default: 128 where that is open, else 512 in all.", "N"
        ),
        "how many steps LSTM, GRU and RNN take at most. Where their number is open so many are written, by default 128, and a "
        "longer input is an error when it runs; a known number has to be asked for if it is above 512 in both directions. Each "
        "step costs memory and time: ONNX Runtime takes 10 s to load 512.",
    )
    fitted: str | None = offered(
        None,
        _or_none(os.fspath),
        Option(
            "--fitted", "The relevance models that `onnxdtd fit` has written, for a preset that asks for some.", "FILE", RULES
        ),
    )
    labels: Sequence[str] | None = offered(
        None,
        _or_none(_names),
        Option("--labels", "Names of the classes, one a line; shown instead of the model's own labels.", "FILE", EXPLAINED),
        "names of the classes, in the order of the logits, in place of the model's own labels.",
    )

    def __post_init__(self) -> None:
        """Everything that was given becomes plain data."""
        for entry in fields(self):
            object.__setattr__(self, entry.name, entry.metadata["convert"](getattr(self, entry.name)))

    def as_data(self) -> dict[str, Any]:
        """The fields as JSON can hold them, by name."""
        data = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        if isinstance(self.target, Index):  # which is no label
            data["target"] = {"index": int(self.target)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Request:
        """The request of ``as_data``; what is not in the data is as by default. Raises ``TypeError`` for an unknown option."""
        names = [entry.name for entry in fields(cls)]
        for name in data:
            if name not in names:
                raise TypeError(f"there is no option {name!r}{suggestion(name, names)}")
        return cls(**data)


# ---------------------------------------------------------------------------------------------- functions that take them all


def takes_options(function: F) -> F:
    """Show the fields in the signature of a function with ``**options``, and in its docstring in place of these."""
    signature, hints = inspect.signature(function), get_type_hints(Request)
    own = {name: parameter for name, parameter in signature.parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}
    options = [
        inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=entry.default, annotation=hints[entry.name])
        for entry in fields(Request)
        if entry.name not in own
    ]
    function.__signature__ = signature.replace(parameters=[*own.values(), *options])  # type: ignore[attr-defined]
    lines = textwrap.TextWrapper(120, initial_indent=" " * 8, subsequent_indent=" " * 12, break_on_hyphens=False)
    said = [lines.fill(f"{entry.name}: {entry.metadata['said']}") for entry in fields(Request)]
    function.__doc__ = re.sub(r" {8}options: .*", lambda _: "\n".join(said), function.__doc__ or "")
    return function
