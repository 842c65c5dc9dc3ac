"""Do the root points of deep Taylor decomposition keep what the theory promises?

A rule shares out the relevance of a neuron y = w x + b > 0 by a Taylor expansion at a root point x̃ = x - t v, t = y / (w v), on
the line along the rule's search direction v (Montavon et al. 2017, supplement, equations 2 to 7). The expansion is exact only
if x̃ lies on the neuron's hinge, in the domain of its input, and in the linear region of x. Sixt and Landgraf (A rigorous study
of the deep Taylor decomposition, 2022) found that the last fails. Here it is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnxdtd.compiler.addition import addition
from onnxdtd.compiler.bounds import Bounds
from onnxdtd.compiler.compile import build, planned, prepare
from onnxdtd.compiler.prepared import Planned
from onnxdtd.compiler.steps import Step
from onnxdtd.contract import RELEVANCE, relevance_of
from onnxdtd.errors import Unsupported
from onnxdtd.graph.emit import wide
from onnxdtd.graph.files import ModelLike
from onnxdtd.graph.slices import behind, declared, kind, sliced
from onnxdtd.graph.tensors import Tensor, as_tensor
from onnxdtd.labels import Index
from onnxdtd.method.rule import Rule
from onnxdtd.method.terms import weight_of
from onnxdtd.operators.layer import Slot
from onnxdtd.operators.table import named
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Explainer
from onnxdtd.study.audit.auditor import Auditor
from onnxdtd.study.audit.limits import ALL, MOST, left_out, percent
from onnxdtd.study.audit.measurement import Entry, Finding, Glance, Measurement, Task
from onnxdtd.study.audit.parts import Arrays, Batch, Part, batches, folder, told_apart
from onnxdtd.study.measures import HIGHEST, LOWEST, Measure

HINGE = 1e-4  # of Σ |w x| + Σ |w x̃|
HINGE_HALF = 3e-3  # where x̃ is rounded to half precision
DOMAIN = 1e-6  # of the largest input, or of the width of the box
GRADIENT = 1e-3  # of the largest entry
TINY = 1e-7  # of Σ |w v|: below that the line runs along the hinge
BEFORE = 0.01  # how far before the root the region is looked at, as a part of the way: on the hinge itself y has two slopes
CHECKS = ("hinge", "domain", "region", "passes")


def roots(
    model: ModelLike,
    request: Request,
    xs: np.ndarray | Mapping[str, np.ndarray],
    targets: Sequence[int],
    neurons: int = 32,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Find root points of some active neurons of every layer whose rule has a search direction, and check them.

    A rule has one if it is a single fraction for y > 0 with a weight in every term: w2, z, z+, zB, gamma, and epsilon, whose
    direction is x (LRP-0 without biases has its root at 0). αβ and flat have none. Where the line of a rule runs along the
    hinge, that of the rule behind it (`z+ else w2`) is taken. Only those inputs move that the neuron reads (w ≠ 0). Of the top
    layer, only neurons are taken that are explained. Left out are layers with several inputs, and those whose input the
    predictor has as integers only.

    Args:
        xs: samples [n, ...], by name where the model has several inputs.
        targets: the class to explain for each of them, -1 for the arg-max.
        neurons: how many of each layer, spread evenly over the samples.
        seed: chooses neurons, and samples where there are more of them than neurons.

    Returns:
        A row for each layer with an active neuron, from the input upward: ``layer``, ``rule``, ``neurons`` (how many were
        tested) and, as shares of these, ``hinge`` (the layer's own output is 0 at x̃), ``domain`` (x̃ ≥ 0 where the input is
        known to be, and between the bounds in the first layer), ``region`` (from x to just before x̃, where y is still positive,
        all neurons stay on or off, all winners of pools win, and the gradient of the logit stays the same), ``passes`` (all
        three). ``residual`` is the median of |f(x̃) + ∇f(x̃) (x - x̃) - f(x)| / |f(x)|, taken just before x̃, where f is the
        explained logit as a function of the layer's input, all other tensors held; None where f is 0. A neuron without a root
        on its line (w v = 0) fails all three and has no residual. No row where a model takes several samples at once and lays
        them out in another order inside.

    Raises:
        OnnxdtdError: as ``onnxdtd.compile``, also where an operator has no derivative.
    """
    job = planned(model, replace(request, ledger=False, keep=()))
    if not told_apart(job):
        return []
    predictor = job.graph.tensors()
    layers = [s for s in job.plan.steps if has_roots(s) and s.layer is not None and s.layer.slots[0].x.name in predictor]
    count = len(next(iter(xs.values())) if isinstance(xs, Mapping) else xs)
    chosen = np.random.default_rng(seed).permutation(count)[:neurons]
    each = -(-neurons // max(len(chosen), 1))
    network = Network(job, model, request, [step.inputs[0] for step in layers if step.inputs[0] is not None])
    samples = [(batch, network.cotangent(batch, targets)) for batch in batches(job, xs, chosen.tolist())]
    probes = [Probe(job, step, i) for i, step in enumerate(layers)]
    extended = with_probes(job, probes)
    table = []
    for i, probe in enumerate(probes):
        layer, rng = Roots(job, probe, extended, network), np.random.default_rng([seed, i])
        found = [result for batch, cotangent in samples for result in layer.find(batch, cotangent, each, rng)]
        if found:
            table.append(_row(probe.step, found[:neurons]))
    return table


def _row(step: Step, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The shares of the neurons that pass each check, and the median of their residuals."""
    shares = {check: float(np.mean([result[check] for result in found])) for check in CHECKS}
    residuals = [result["residual"] for result in found if np.isfinite(result["residual"])]
    residual = float(np.median(residuals)) if residuals else None
    return {"layer": step.name, "rule": str(step.rule), "neurons": len(found), **shares, "residual": residual}


# ------------------------------------------------------------------------------------------------------- search directions


def has_roots(step: Step) -> bool:
    """Is it a layer with one input, samples on axis 0, whose rule has a search direction, and no relevance model?"""
    if step.rule is None or step.layer is None or step.rule.search is None or step.fit:
        return False
    return len(step.layer.slots) == 1 and step.layer.slots[0].batched


# --------------------------------------------------------------------------------------------------------- the network's parts


class Probe:
    """A layer with what is read off it: its output, the weights of one of its neurons laid out over its input, the bounds."""

    def __init__(self, job: Planned, step: Step, number: int):
        assert step.layer is not None
        assert step.facts is not None
        e, y, scope = job.emit, step.layer.y, f"probe/{number}"
        self.step = step
        self.slot: Slot = step.layer.slots[0]
        self.one = Tensor(e.unique(f"{scope}/one"), dtype=wide(y.dtype), shape=y.shape)
        with e.within(scope):
            w = as_tensor(self.slot.adjoint(self.one, weight_of(e, self.slot, "w", 0.0)))
            ends = Bounds(e, job.plan, job.bounded).of(self.slot.x) if step.facts.bounds else ()
            self.y, self.w, *self.bounds = (e.named(t, e.unique(f"{scope}/{i}"), None) for i, t in enumerate((y, w, *ends)))


def with_probes(job: Planned, probes: Sequence[Probe]) -> onnx.ModelProto:
    """The predictor with the nodes that the probes read."""
    proto = onnx.ModelProto()
    proto.CopyFrom(job.source.proto)
    nodes, constants = job.emit.live([t for probe in probes for t in (probe.y, probe.w, *probe.bounds)])
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(constants)
    proto.graph.input.extend(declared(probe.one) for probe in probes)
    return proto


class Network:
    """The explained logit and its gradient with respect to the tensors ``sources``."""

    def __init__(self, job: Planned, model: ModelLike, request: Request, sources: Sequence[Tensor]):
        self.logits = job.plan.logits
        plain = Request(
            preset="gradient",
            output=job.plan.output,
            position=request.position,
            contrast=request.contrast,
            reference=request.reference,
            allow=request.allow,
            explain=request.explain,
        )
        seeded = build(prepare(model, replace(plain, target="input", keep=[self.logits.name])), in_place=True)
        self._explainer = Explainer(seeded, folder=folder(job), threads=1)
        keep = list(dict.fromkeys(t.name for t in sources))
        gradient = planned(model, replace(plain, keep=keep))
        self.proto = addition(gradient, self.logits.name).append_to(gradient.source.proto)
        add_logits(self.proto, gradient)
        names = [value.name for value in self.proto.graph.output]
        self.gradients = {name: next(n for n in (relevance_of(name), RELEVANCE) if n in names) for name in keep}
        self.injected = self.proto.graph.input[-1].name

    def cotangent(self, batch: Batch, targets: Sequence[int]) -> np.ndarray:
        """What to multiply the logits by to get the explained one: 1 at the class, -1 at that contrasted with it, else 0."""
        batch.feeds.update(self._explainer.feeds(batch.feeds))
        explanation = self._explainer(batch.feeds, [Index(targets[row]) for row in batch.rows])
        return explanation.kept[self.logits.name].astype(wide(self.logits.dtype))


def add_logits(proto: onnx.ModelProto, job: Planned) -> None:
    """Nodes for the logits, where the head hides them and no gradient needs them."""
    nodes, constants = job.emit.live([job.plan.logits])
    have = {name for node in proto.graph.node for name in node.output} | {t.name for t in proto.graph.initializer}
    proto.graph.node.extend(node for node in nodes if have.isdisjoint(node.output))
    proto.graph.initializer.extend(tensor for tensor in constants if tensor.name not in have)


@dataclass(frozen=True)
class Seen:
    """The explained logit of each sample [n], its gradient [n, entries], and all choices that led to it, each [n, ...]."""

    logit: np.ndarray
    gradient: np.ndarray
    choices: list[np.ndarray]

    def same_region(self, other: Seen) -> np.ndarray:
        """For which samples do both have the same choices and gradient? [n]"""
        near = np.abs(self.gradient - other.gradient).max(axis=1) <= GRADIENT * np.abs(self.gradient).max(axis=1)
        return np.logical_and.reduce([near, *((a == b).all(axis=1) for a, b in zip(self.choices, other.choices, strict=True))])


class Tail:
    """The rest of the network as a function of a layer's input."""

    def __init__(self, job: Planned, x: Tensor, network: Network):
        self._logits, self._injected, self._gradient = network.logits.name, network.injected, network.gradients[x.name]
        outputs = {self._logits: kind(network.logits), self._gradient: kind(x)}
        nodes = sliced(network.proto, [x], outputs).graph.node
        moved = behind(nodes, x.name)
        told = [(node.output, named(node.op_type).chooses) for node in nodes]
        choices = [(names[at[0]], at[1]) for names, at in told if at is not None and len(names) > at[0]]
        self._choices = {name: helper.np_dtype_to_tensor_dtype(dtype) for name, dtype in choices if name in moved}
        self._part = Part(sliced(network.proto, [x], outputs | self._choices), job)

    def __call__(self, values: Mapping[str, np.ndarray], cotangent: np.ndarray, n: int) -> Seen:
        """At the layer's input, which is among ``values``."""
        found = self._part({**values, self._injected: cotangent})
        logit = rows(found[self._logits] * cotangent, n).sum(axis=1)
        choices = [found[name] for name in self._choices if found[name].size % n == 0]  # what is one for all hangs on sizes
        return Seen(logit, rows(found[self._gradient], n), [chosen.reshape(n, -1) for chosen in choices])


class Roots:
    """Finds and checks root points of the neurons of a layer."""

    def __init__(self, job: Planned, probe: Probe, extended: onnx.ModelProto, network: Network):
        x = probe.slot.x
        self._probe, self._tail = probe, Tail(job, x, network)
        part = lambda given, outputs: Part(sliced(extended, given, {t.name: kind(t) for t in outputs}), job)
        fed = any(t.name == x.name for t in job.graph.inputs)
        self._head = part([], [probe.y, *probe.bounds, *([] if fed else [x])])
        self._weight, self._layer = part([x], [probe.w]), part([x], [probe.y])
        self._nonnegative, self._top = job.plan.nonnegative(x), probe.step.outputs[0].name == network.logits.name

    def find(self, batch: Batch, cotangent: np.ndarray, each: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        """What holds at the root points of up to ``each`` active neurons of every sample of a batch."""
        probe, n, rule = self._probe, len(batch.rows), self._probe.step.rule
        assert rule is not None
        given: Arrays = {**batch.feeds, **self._head(batch.feeds)}
        like, outputs = given[probe.slot.x.name], given[probe.y.name].shape
        at = lambda point: {**given, probe.slot.x.name: point.reshape(like.shape).astype(like.dtype)}
        tolerance = HINGE_HALF if like.dtype == np.float16 else HINGE
        x, y = rows(like, n), rows(given[probe.y.name], n)
        low, high = (rows(np.broadcast_to(given[t.name], like.shape), n) for t in probe.bounds) if probe.bounds else (x, x)
        active = (y > 0) & (rows(cotangent, n) != 0) if self._top else y > 0
        drawn = [rng.permutation(np.flatnonzero(row))[:each] for row in active[: batch.count]]
        here = self._tail(at(x), cotangent, n)
        for turn in range(max(map(len, drawn))):
            one = np.zeros_like(y)
            for i, neurons in enumerate(drawn):
                one[i, neurons[turn : turn + 1]] = 1
            w = rows(self._weight({**given, probe.one.name: one.reshape(outputs).astype(probe.one.dtype)})[probe.w.name], n)
            v, slope, found = line(rule, x, w, low, high)
            way = v * np.divide((one * y).sum(axis=1), slope, where=found, out=np.zeros(n))[:, None]
            root, near = x - way, x - (1 - BEFORE) * way
            output = (one * rows(self._layer(at(root))[probe.y.name], n)).sum(axis=1)
            seen = self._tail(at(near), cotangent, n)
            checks = {
                "hinge": found & (np.abs(output) <= tolerance * (np.abs(w * x) + np.abs(w * root)).sum(axis=1)),
                "domain": found & self._in_domain(x, root, low, high),
                "region": found & here.same_region(seen),
            }
            error = np.abs(seen.logit + (seen.gradient * (x - near)).sum(axis=1) - here.logit)
            residual = np.divide(error, np.abs(here.logit), where=found & (here.logit != 0), out=np.full(n, np.nan))
            for i in (i for i, neurons in enumerate(drawn) if turn < len(neurons)):
                passed = {name: bool(held[i]) for name, held in checks.items()}
                yield {**passed, "passes": all(passed.values()), "residual": float(residual[i])}

    def _in_domain(self, x: np.ndarray, root: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Is the root point of each sample where inputs can be? [n]"""
        inside = np.ones(len(x), bool)
        if self._nonnegative:
            inside &= (root >= -DOMAIN * np.abs(x).max(axis=1, keepdims=True)).all(axis=1)
        if self._probe.bounds:
            inside &= ((root >= low - DOMAIN * (high - low)) & (root <= high + DOMAIN * (high - low))).all(axis=1)
        return inside


def line(rule: Rule, *arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The search directions v of neurons with weights w at inputs x, between bounds, all [n, entries]; the slopes w v; and for
    which it does not run along the hinge, [n]. Where one does, that of the rule behind counts, which shares out relevance.
    """
    w, n = arrays[1], len(arrays[1])
    v, slope, found = np.zeros_like(w), np.zeros(n), np.zeros(n, bool)
    for each in rule.chain:
        if each.search is None:  # what it shares out has no root
            break
        own = each.direction(*arrays)
        runs = ~found & (np.abs((w * own).sum(axis=1)) > TINY * np.abs(w * own).sum(axis=1))
        v[runs], slope[runs] = own[runs], (w * own).sum(axis=1)[runs]
        found |= runs
    return v, slope, found


def rows(values: np.ndarray, n: int) -> np.ndarray:
    """The entries of each of n samples, float64 [n, entries]."""
    return values.reshape(n, -1).astype(np.float64)


ROOTS = {
    "hinge": Measure("on the hinge", "share of the root points at which the neuron is exactly zero.", HIGHEST),
    "domain": Measure(
        "in the domain", "share of the root points within the bounds of the input, or without negative entries above.", HIGHEST
    ),
    "region": Measure(
        "in the region",
        "share of the root points in the linear region of the input: on the way there the rest of the network stays the same "
        "linear map.",
        HIGHEST,
    ),
    "passes": Measure("all three", "share of the root points that pass all three tests, as the theory asks of each.", HIGHEST),
    "residual": Measure(
        "residual",
        "how far the Taylor expansion at the root point is from the explained score, as a share of it (median).",
        LOWEST,
    ),
}


def measure(auditor: Auditor, task: Task) -> Finding:
    """At the samples of an audit; nothing where the model has no derivative."""
    study = auditor.study
    try:
        found = roots(
            study.model, study.asked(task.preset), study.inputs, auditor.predicted.tolist(), study.neurons, study.seed
        )
    except Unsupported:
        found = []
    return Finding(found)


def say(entry: Entry) -> Iterator[str]:
    """Do the root points lie where the expansion holds?"""
    yield from left_out(entry, "Root points", "roots")
    rows = [row for row in entry["roots"] if row["neurons"]]
    count = sum(row["neurons"] for row in rows)
    if not count:
        return
    share = {name: weighted(rows, name) for name in ("passes", "hinge", "domain", "region")}
    passed = share["passes"]
    if passed is None:
        return
    names = {"hinge": "on the hinge", "domain": "in the domain", "region": "in the linear region of the input"}
    parts = [f"{percent(value)} {words}" for name, words in names.items() if (value := share[name]) is not None]
    where = f"in {len(rows)} of {len(entry['rules'])} layers with a rule"
    text = f"{percent(passed)} of {count} root points {where} pass ({', '.join(parts)})"
    rule = "the expansion behind the rules"
    if passed == 1:
        yield f"Root points: {rule} holds for all neurons tested; {text}."
    elif passed >= ALL:
        yield f"Root points: {rule} holds for nearly all neurons tested; {text}."
    elif passed >= MOST:
        yield f"Root points: {rule} does not hold for {percent(1 - passed)} of the neurons tested; {text}."
    else:
        yield f"Root points: {rule} does not hold for most neurons tested; {text}."


def weighted(rows: Sequence[Entry], name: str) -> float | None:
    """The mean of a share over layers, each counted by its neurons."""
    known = [(row[name], row["neurons"]) for row in rows if row[name] is not None]
    total = sum(neurons for _, neurons in known)
    return sum(value * neurons for value, neurons in known) / total if total else None


def passing(entry: Entry) -> float | None:
    """The share of root points that pass, of a preset with root points in half of its layers at least."""
    rows = [row for row in entry.get("roots") or [] if row["passes"] is not None and row["neurons"]]
    few = 2 * len(rows) < len(entry.get("rules") or ())  # a mean is all that αβ has a root point for
    return None if few else weighted(rows, "passes")


ROWS = {
    "passes": Glance(
        "root points in order", "share of the root points tested in all layers that pass all three.", HIGHEST, of=passing
    ),
}
MEASUREMENT = Measurement(
    "roots",
    measure,
    say,
    ROWS,
    always=True,
    for_rules=True,
    empty=list,
)
