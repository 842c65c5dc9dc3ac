"""What a compiled file says: the names of what is added to a model, and the metadata. Imports nothing of the package.

A file of an older version may lack entries that came later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, get_args, get_origin, get_type_hints

PREFIX = "onnxdtd."  # of the keys of our entries in ``metadata_props``
PARTS = ("node", "initializer", "input", "output", "value_info")  # of a graph, to which the compiler appends

TARGET = "target"  # the input with the class to explain, int64 [batch], -1 for the arg-max; a model may have the name already
ASK = (
    "explain"  # the input that says whether to explain, bool, of files that do so on demand; a model may have the name already
)
SCORE = "score"  # the input with the coefficients of a score, of the shape of the scores; and the target that asks for it
RELEVANCE = "relevance"  # the output with that of the only explained input
MASK = "mask"  # in front of the name of an inner tensor, the input with what may pass of its relevance, [batch, channels]
BASELINE = "baseline"  # the input with what is compared with, of the shape of the explained one; its score is ``LOGIT_THERE``
EXPLAINED = "explained"  # in front of the name of an inner tensor, the output with its value
LOGIT = "logit"  # the output with the explained score, [batch]; a model may have the name already
LOGIT_THERE = "logit_at_baseline"  # the output with the same score where it is compared with
LEDGER = "ledger"  # the output with the balance of every step, float64 [batch, steps, columns]

KEPT_BY = "kept"  # the entry of files that ONNX Runtime has written
WEIGHTS = "weights"  # the entry with the digests of files of external weights

COLUMNS = {  # of the ledger
    "in": "Σ R of the outputs of the step",
    "out": "Σ R of its inputs",
    "bias": "absorbed by a bias, by the value of a function at 0, or by the constant term of an expansion, as of softmax",
    "stabiliser": "absorbed by ε",
    "dead": "lost where a denominator is zero: no input has a share",
    "misfit": "what a relevance model does not tell of the relevance that it stands for; below 0 where it tells more",
    "constants": "fell on padding and other constant entries",
    "masked": "taken away by a mask",
    "negative": "Σ of the negative part of R of its inputs",
    "positive_biases": "how many neurons have a bias > 0: deep Taylor's root points need b ≤ 0",
    "bias_sum": "Σ of those biases",
    "negative_inputs": "how many inputs are < 0",
    "outside": "how many inputs of a layer with bounds lie outside of them",
}
# The columns with relevance that a step did not hand on: in = out + kept.
KEPT = ("bias", "stabiliser", "dead", "misfit", "constants", "masked")


class Metadata(TypedDict):
    """What a compiled file tells whoever wants to know; all of it plain data. A field of a request that has no entry here is
    recorded under its own name, where it is not as by default.
    """

    version: str  # of onnxdtd
    source_sha256: str  # of the file that was compiled
    changes: Sequence[str]  # what was done to it first, in words
    predictor: Mapping[str, Any]  # how many entries of each of ``PARTS`` are the source's own; "sha256" of what it computes
    preset: str
    settings: Sequence[str]  # NODE-GLOB=RULE
    rules: Mapping[str, str]  # by step
    bounds: Mapping[str, Any] | None  # "low" and "high", or by input "low" and "high"
    channels: Mapping[str, int | None]  # the axis of the channels, by explained input
    slides: Mapping[
        str, Sequence[int]
    ]  # the axes that the first kernel slides over, by explained input, of what it is folded to
    folded: NotRequired[Mapping[str, Sequence[int | None]]]  # [n, ...] that rows are laid out as in front of it, by input
    preprocessing: Mapping[str, Any] | None  # how pictures become inputs
    explain: Sequence[str]  # the inputs asked for
    output: str  # the output or inner tensor that is explained
    logits: str  # where the walk begins
    stepped_back: Sequence[str]  # the nodes between the two
    classes: int | None  # how many, None where it is known at run time only
    labels: Sequence[str | int] | None  # the model's own
    names: Sequence[str] | None  # those that were given instead
    label_output: str | None  # the output that gives the label
    score_output: str | None  # the output that gives the scores
    squashed: bool  # the only score is a probability
    ids: NotRequired[Mapping[str, int | None]]  # how many rows there are to look up, by input of ids
    features: NotRequired[Mapping[str, Sequence[str]]]  # what the entries of a row are called, by inner tensor
    values: NotRequired[Mapping[str, str]]  # the outputs with what is explained, by inner tensor
    masks: NotRequired[Mapping[str, Mapping[str, Any]]]  # by tensor the "input", the axes of "channels" and of "samples"
    apart: NotRequired[Mapping[str, str]]  # what is added to what ids look up and has relevance of its own, and to which ids
    cancelled: NotRequired[Mapping[str, str]]  # the normalisation in front of which relevance is 0 but for rounding, by ids
    kept: NotRequired[
        Mapping[str, Any]
    ]  # of a file that ONNX Runtime wrote: a "model" in its blocked layout, what that "gives"
    weights: NotRequired[Mapping[str, str]]  # the SHA-256 of files of external weights, by where they lay beside the source
    laid: NotRequired[Mapping[str, str]]  # the inner tensor whose map is laid over it, by what is explained
    imputed: Sequence[str]  # the inputs that may have NaN
    strings: Mapping[str, Sequence[str]]  # the words that the model knows, by input of strings
    target: str | int | Sequence[int]  # "argmax", "input", "score", the index of a class, or that of an entry of the output
    ask_input: NotRequired[str]  # what the input ``ASK`` is called
    target_input: str | None  # what the input ``TARGET`` is called, or that with coefficients
    axes: NotRequired[
        Sequence[str]
    ]  # what lies along those of the scores, where that is not a row of classes: ``onnxdtd.cells``
    position: NotRequired[Sequence[int]]  # where in a sequence or a map
    contrast: str | bool | None  # what the logit is compared with; True in old files: the runner-up
    reference: NotRequired[float]  # the number that a quantity is compared with
    most_steps: NotRequired[int]  # the most that recurrent layers take, where their number is open or was asked for
    lengths: NotRequired[Mapping[str, int]]  # the axis along which such steps lie, by input, where that is known
    derivative: str | None  # what a gradient is made into: g, x g or g²
    by_weights: Sequence[str]  # the first layers that share relevance out whatever the values
    logit: str | None  # what the output ``LOGIT`` is called
    logit_at_baseline: NotRequired[str]  # what the output ``LOGIT_THERE`` is called, where something is compared with
    baseline: NotRequired[
        Any
    ]  # with what: a word, numbers, or an array by its digest and the constant that has it; or by input
    baseline_inputs: NotRequired[Mapping[str, str]]  # what the inputs with it are called, by explained input
    relevance: Mapping[str, str]  # the outputs with relevance, by tensor
    allow: Mapping[str, str]  # the waivers
    samples: Mapping[str, int | None]  # the axis of the samples, by input
    ledger: Mapping[str, Sequence[str]] | None  # "steps" and "columns"
    models: NotRequired[Mapping[str, Any]]  # the relevance models that were fitted, by step, and how well they fit


HINTS = get_type_hints(Metadata)


def relevance_of(tensor: str) -> str:
    """The output with the relevance of one of several tensors."""
    return f"{RELEVANCE}/{tensor}"


def mask_of(tensor: str) -> str:
    """The input with the mask of an inner tensor."""
    return f"{MASK}/{tensor}"


def at_most(steps: int) -> str:
    """What a node is called that no more steps get past: runtimes name the node that fails."""
    return f"at most {steps} steps"


def entries(model: Any) -> dict[str, str]:
    """Our entries as they are written, by key, of an ``onnx.ModelProto`` or of the mapping that a runtime gives."""
    pairs = model.items() if isinstance(model, Mapping) else ((entry.key, entry.value) for entry in model.metadata_props)
    return {key.removeprefix(PREFIX): value for key, value in pairs if key.startswith(PREFIX)}


def read_metadata(model: Any) -> Metadata:
    """What a compiled file says; empty for any other. Raises ``ValueError`` where an entry is not what ``Metadata`` says."""
    found: Any = {}
    for key, text in entries(model).items():
        try:
            found[key] = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError(f"the entry {PREFIX + key!r} of the metadata is no JSON; compile the source again") from None
        if not _is(found[key], HINTS.get(key, Any)):
            raise ValueError(f"the entry {PREFIX + key!r} of the metadata is not what it is in a compiled file; compile again")
    return found


def _is(value: Any, hint: Any) -> bool:
    """Is it of this type, as JSON has them?"""
    kinds = get_args(hint)
    if get_origin(hint) is Sequence:
        return isinstance(value, list) and all(_is(entry, kinds[0]) for entry in value)
    if get_origin(hint) is Mapping:
        return isinstance(value, dict) and all(_is(entry, kinds[1]) for entry in value.values())
    return hint is Any or type(value) is hint or any(_is(value, kind) for kind in kinds)


def write_metadata(model: Any, metadata: Metadata) -> None:
    """Write it into an ``onnx.ModelProto``."""
    for key, value in metadata.items():
        tell(model, key, value)


def tell(model: Any, key: str, value: Any) -> None:
    """Write an entry, or write it anew, into an ``onnx.ModelProto``."""
    entry = next((entry for entry in model.metadata_props if entry.key == PREFIX + key), None) or model.metadata_props.add()
    entry.key, entry.value = PREFIX + key, json.dumps(value, ensure_ascii=False)
