"""What deep Taylor decomposition takes for granted, and how often it is not so."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from onnxdtd.compiler.compile import planned, prepare
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.steps import Step
from onnxdtd.contract import COLUMNS
from onnxdtd.errors import ModelError
from onnxdtd.graph import shapes
from onnxdtd.graph.emit import dims, known
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.rule import Rule
from onnxdtd.runtime.explainer import Explanation, Ledger
from onnxdtd.study.audit.auditor import Auditor
from onnxdtd.study.audit.limits import NOTABLE, percent
from onnxdtd.study.audit.measurement import Entry, Finding, Measurement, Row, Task
from onnxdtd.study.measures import LOWEST, NEAR_ZERO, Measure

BIASED = ("conv", "dense", "affine")  # families of layers that may have a bias


PRECONDITIONS = {
    "positive_biases": Measure("positive biases", "share of the neurons with a bias above zero; the theory has none.", LOWEST),
    "bias_share": Measure("kept by biases", "share of the score that ends on biases instead of inputs (median).", NEAR_ZERO),
    "outside": Measure("outside the bounds", "share of the inputs that lie outside the bounds given for them.", LOWEST),
    "negative_inputs": Measure("negative inputs", "share of the inputs of z+ layers that are below zero.", LOWEST),
    "negative_logits": Measure("negative logits", "share of the samples whose explained score is below zero.", LOWEST),
    "dead": Measure("lost", "share of the score lost where no input of a neuron has a share (median).", NEAR_ZERO),
}


CONDITIONS = {  # what is counted, how a breach reads, and what holds where there is none
    "positive_biases": ("{} of the neurons have a positive bias", "no positive bias"),
    "outside": ("{} of the first layer's inputs lie outside of their bounds", "no input outside of its bounds"),
    "negative_inputs": ("{} of the inputs of z+ layers are negative", "no negative input of z+"),
    "negative_logits": ("{} of the explained logits are negative", "no negative logit"),
}


def measure(auditor: Auditor, task: Task) -> Finding:
    """Where deep Taylor decomposition's conditions fail, as shares; None where the ledger cannot tell samples apart."""
    steps: list[str] = []

    def columns(explanation: Explanation) -> np.ndarray:
        assert explanation.ledger is not None
        steps[:] = explanation.ledger.steps
        return np.stack([explanation.ledger[name] for name in COLUMNS], axis=-1)

    request = replace(auditor.study.asked(task.preset), ledger=True, portable=False)
    try:
        explainer = auditor.explainer(prepare(auditor.proto, request), task.preset)
        table = auditor.explained(explainer, auditor.study.xs, auditor.predicted, columns)
    except ModelError:
        return Finding(None)
    plan_of = lambda fed: planned(_sized(auditor.proto, dict(fed)), auditor.study.asked(task.preset)).plan
    fed = [auditor.taken.feeds(np.repeat(x[None], auditor.layout.batch or 1, axis=0)) for x in auditor.study.xs]
    shapes = [tuple((name, value.shape) for name, value in values.items()) for values in fed]
    plans = {shape: plan_of(shape) for shape in dict.fromkeys(shapes)}
    table = np.stack([*table])
    ledger = Ledger(steps, {name: table[..., i] for i, name in enumerate(COLUMNS)})
    return Finding(broken(ledger, [plans[shape] for shape in shapes]))


def broken(ledger: Ledger, plans: Sequence[Plan]) -> Row:
    """How often the conditions are broken in the steps with a rule; the sizes of each sample are those of its plan."""
    biased = [_sizes(plan, lambda step: bool(step.layer and step.layer.family in BIASED), outputs=True) for plan in plans]
    bounded = [_sizes(plan, lambda step: bool(step.rule and step.rule.needs_bounds)) for plan in plans]
    positive = [_sizes(plan, lambda step: bool(step.rule and step.rule.for_nonnegative)) for plan in plans]
    totals = ledger.totals()
    logit = totals["logit"]
    share = lambda name: float(np.median(totals[name][logit != 0] / logit[logit != 0])) if logit.any() else None
    return {
        "positive_biases": _share(ledger, "positive_biases", biased),
        "bias_share": share("bias"),
        "outside": _share(ledger, "outside", bounded),
        "negative_inputs": _share(ledger, "negative_inputs", positive),
        "negative_logits": float((logit < 0).mean()),
        "dead": share("dead"),
    }


def _share(ledger: Ledger, column: str, sizes: Sequence[Mapping[str, int | None]]) -> float | None:
    """What the counts in a column are of all entries, in the steps whose ``sizes`` are known; None if there are none."""
    found, entries = 0.0, 0
    for counts, own in zip(ledger[column], sizes, strict=True):
        there = {ledger.steps.index(name): size for name, size in own.items() if size and name in ledger.steps}
        found, entries = found + float(counts[list(there)].sum()), entries + sum(there.values())
    return found / entries if entries else None


def _sizes(plan: Plan, counted: Callable[[Step], bool], outputs: bool = False) -> dict[str, int | None]:
    """How many entries the inputs, or the ``outputs``, of the steps with a rule have that are ``counted``."""
    steps = [step for step in plan.steps if step.rule is not None and counted(step)]
    return {step.name: _size(plan.samples.size, *(step.outputs[:1] if outputs else step.inputs)) for step in steps}


def _size(samples: object, *tensors: Tensor | None) -> int | None:
    """How many entries tensors have for each of so many samples; None where that is not known."""
    shapes = [known(dims(tensor)) for tensor in tensors if tensor is not None]
    if None in shapes or not isinstance(samples, int):
        return None
    return sum(math.prod(shape) for shape in shapes if shape is not None) // samples


def _sized(proto: onnx.ModelProto, fed: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """The model with the shapes of its inputs declared, so that the neurons can be counted; what goes with ids has theirs."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    names = [value.name for value in shapes.real_inputs(fixed)]
    for value in fixed.graph.input:
        declared, shape = value.type.tensor_type.shape.dim, fed.get(value.name, next(iter(fed.values())))
        if value.name in names and len(declared) == len(shape):
            for size, number in zip(declared, shape, strict=True):
                size.dim_value = number
    return fixed


def deep_taylor(rules: Collection[Rule]) -> bool:
    """Are they those of deep Taylor decomposition, whose conditions the ledger counts, most of them at least?"""
    return 2 * sum(rule.is_deep_taylor for rule in rules) >= max(len(rules), 1)


def say(entry: Entry) -> Iterator[str]:
    """What deep Taylor decomposition asks for, and what of the logit did not arrive."""
    found = entry["preconditions"]
    if found is None:
        return
    taylor = entry["deep_taylor"]
    broken = [text.format(percent(found[name])) for name, (text, _) in CONDITIONS.items() if found[name]]
    kept = [text for name, (_, text) in CONDITIONS.items() if found[name] == 0]
    if taylor and broken:
        yield f"Conditions of deep Taylor decomposition: broken; {', '.join(broken)}."
    elif taylor:
        yield f"Conditions of deep Taylor decomposition: those counted hold for these samples; {', '.join(kept)}."
    words = {
        "bias_share": ("biases kept {} of the logit", "biases added {} of the logit"),
        "dead": (
            "{} of the logit was lost where no input has a share",
            "relevance against it, {} of the logit, was lost where no input has a share",
        ),
    }
    known = {name: share for name in words if abs(share := found[name] or 0.0) >= NOTABLE}
    parts = [words[name][share < 0].format(percent(abs(share))) for name, share in known.items()]
    if parts:
        yield f"Balance: {', '.join(parts)} (medians)."


MEASUREMENT = Measurement("preconditions", measure, say, always=True, for_rules=True)
