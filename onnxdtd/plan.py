"""From a graph to a list of steps, as plain data: what is explained, where it starts, which node gets which rule.

Nothing is passed over silently: a node on the way from the input to the logits that has no rule is a problem, and all
problems are reported at once.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from onnxdtd.emit import Emit, Tensor, dims, label
from onnxdtd.errors import ModelError, Problem, RequestError, Unsupported
from onnxdtd.flow import MOVE, PASS, ROUTE, Flow, never_negative
from onnxdtd.library import LayerFacts, Preset
from onnxdtd.linear import LINEAR, Layer, NotLinear, constant_value, followed_by
from onnxdtd.rules import Rule

HEADS = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "ZipMap")  # stepped back over: relevance starts from the logit
TRANSPARENT = ("Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze")  # ... with what is between
NO_RELEVANCE = ("Shape", "Size", "ConstantOfShape", "ArgMax", "ArgMin")
MIXES = ("LRN",)  # passes relevance, but is not one-to-one


@dataclass(frozen=True)
class Step:
    """One or more nodes that relevance takes at once: how it gets from ``outputs`` to ``inputs``."""

    kind: str  # linear, preprocessing, pass, move or route
    nodes: tuple[gs.Node, ...]
    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor | None, ...]
    layer: Layer | None = None
    facts: LayerFacts | None = None
    rule: Rule | None = None
    flow: Flow | None = None

    @property
    def name(self) -> str:
        """The name of the first node."""
        return label(self.nodes[0])

    @property
    def op(self) -> str:
        """The operators, joined by +."""
        return "+".join(node.op for node in self.nodes)


@dataclass(frozen=True)
class Plan:
    """What will be compiled."""

    inputs: list[Tensor]
    output: str
    logits: Tensor
    steps: list[Step]
    stepped_back: list[gs.Node]
    active: Callable[[Tensor], bool]
    nonnegative: Callable[[Tensor], bool]


@dataclass
class Facts:
    """What holds for tensors, by name: ``active`` depends on an explained input; ``raw`` is an explained input up to a
    one-to-one transformation; ``nonnegative`` is provably ≥ 0.
    """

    active: set[str]
    nonnegative: set[str]
    raw: set[str] = field(default_factory=set)

    def is_active(self, tensor: Tensor) -> bool:
        """Does it depend on an explained input?"""
        return tensor.name in self.active

    def is_nonnegative(self, tensor: Tensor) -> bool:
        """Is it provably ≥ 0?"""
        if tensor.name in self.nonnegative:
            return True
        value = None if tensor.name in self.active else constant_value(tensor)
        return value is not None and bool(np.all(value >= 0))


def plan(
    e: Emit,
    graph: gs.Graph,
    inputs: Sequence[str],
    preset: Preset,
    *,
    output: str | None = None,
    keep: Sequence[str] = (),
    bounded: bool = False,
    allow: Mapping[str, str] | None = None,
) -> Plan:
    """Plan the explanation of ``output`` in terms of the float inputs among ``inputs``.

    ``keep`` names tensors whose relevance is wanted too, ``bounded`` tells whether the bounds of the input are known, ``allow``
    maps operators to ``"pass"``. Raises ``Unsupported`` with every problem, ``ModelError`` where there is nothing to
    explain, ``RequestError`` for an unknown name.
    """
    explained = [t for t in graph.inputs if t.name in inputs and _is_float(t)]
    if not explained:
        raise ModelError("the model has no floating-point input; only those can be explained")
    facts = _facts(graph, explained)
    name, logits, stepped_back = _start(graph, output, facts)
    carriers = _carriers(graph, logits, facts)
    explained = [t for t in explained if t.name in carriers]
    if not explained:
        raise ModelError(f"the output {name!r} does not depend on a floating-point input")
    _check_keep(keep, carriers)
    steps = _steps(e, graph, carriers, facts, {t.name for t in explained}, set(keep), allow or {})
    return Plan(
        explained,
        name,
        logits,
        _with_rules(steps, preset, bounded, facts),
        stepped_back,
        facts.is_active,
        facts.is_nonnegative,
    )


def _is_float(tensor: Tensor) -> bool:
    try:
        return tensor.dtype is not None and np.issubdtype(tensor.dtype, np.floating)
    except TypeError:  # types without a numpy equivalent, sequences of maps among them
        return False


def _facts(graph: gs.Graph, explained: Sequence[Tensor]) -> Facts:
    """Walk forward once."""
    facts = Facts({t.name for t in explained}, set())
    for node in graph.nodes:
        if node.op in NO_RELEVANCE or not any(t.name in facts.active for t in node.inputs):
            continue
        positive = never_negative(node, facts.is_nonnegative)
        for result in node.outputs:
            if result.dtype is None or _is_float(result):
                facts.active.add(result.name)
                if positive:
                    facts.nonnegative.add(result.name)
    return facts


def _carriers(graph: gs.Graph, logits: Tensor, facts: Facts) -> set[str]:
    """The names of all active tensors that ``logits`` depends on."""
    wanted = {logits.name} & facts.active
    for node in reversed(graph.nodes):
        if any(t.name in wanted for t in node.outputs):
            wanted.update(t.name for t in node.inputs if t.name in facts.active)
    return wanted


# ------------------------------------------------------------------------------------------------ where relevance starts


def _start(graph: gs.Graph, output: str | None, facts: Facts) -> tuple[str, Tensor, list[gs.Node]]:
    """The output to explain, the logits behind it, and the nodes stepped back over."""
    tensors = graph.tensors()
    if output is not None:
        if output not in tensors:
            raise RequestError(f"no tensor {output!r} in the model{_suggest(output, tensors)}")
        candidates = [tensors[output]]
    else:
        candidates = sorted(graph.outputs, key=lambda t: not _is_float(t))  # scores rather than labels
    found: dict[str, tuple[str, Tensor, list[gs.Node]]] = {}
    for candidate in candidates:
        logits, stepped_back = _step_back(candidate)
        if facts.is_active(logits) and _is_classifier(logits):
            found.setdefault(logits.name, (candidate.name, logits, stepped_back))
    if len(found) == 1:
        return next(iter(found.values()))
    shapes = "; ".join(f"{t.name} {_shape_text(t)}" for t in candidates)
    if not found:
        raise ModelError(
            f"no output is the score of a classifier, [batch, classes], that depends on a floating-point input: {shapes}"
            + ("" if output else "; name an inner tensor with --output if it is one")
        )
    raise RequestError(f"the model has several outputs, choose one with --output: {shapes}")


def _step_back(tensor: Tensor) -> tuple[Tensor, list[gs.Node]]:
    """The tensor before the last Softmax, Sigmoid, ArgMax ... and the nodes from there on."""
    logits, walked, stepped_back = tensor, [], []
    while tensor.inputs and tensor.inputs[0].op in (*HEADS, *TRANSPARENT, "ArrayFeatureExtractor"):
        node = tensor.inputs[0]
        tensor = node.inputs[1 if node.op == "ArrayFeatureExtractor" else 0]
        walked.append(node)
        if node.op in HEADS:
            logits, stepped_back = tensor, list(walked)
    return logits, stepped_back[::-1]


def _is_classifier(tensor: Tensor) -> bool:
    """Is it [classes], [batch, classes] or [batch, classes, 1, ...]?"""
    sizes = dims(tensor)
    return sizes is None or len(sizes) in (1, 2) or (len(sizes) > 2 and all(d == 1 for d in sizes[2:]))


def _shape_text(tensor: Tensor) -> str:
    return "of unknown shape" if tensor.shape is None else "[" + ", ".join(str(d) for d in tensor.shape) + "]"


def _suggest(name: str, names: Mapping[str, object] | set[str]) -> str:
    close = difflib.get_close_matches(name, list(names), 3, 0.4)
    return f"; did you mean {', '.join(map(repr, close))}?" if close else ""


def _check_keep(keep: Sequence[str], carriers: set[str]) -> None:
    for name in keep:
        if name not in carriers:
            raise RequestError(f"--keep {name!r}: relevance does not pass through such a tensor{_suggest(name, carriers)}")


# --------------------------------------------------------------------------------------------------------------- steps


def _steps(
    e: Emit,
    graph: gs.Graph,
    carriers: set[str],
    facts: Facts,
    explained: set[str],
    keep: set[str],
    allow: Mapping[str, str],
) -> list[Step]:
    """One step for each node (or fused chain of nodes) that carries relevance, in the order of the graph."""
    facts.raw |= explained
    consumers = Counter(t.name for node in graph.nodes for t in node.inputs)
    pinned = keep | {t.name for t in graph.outputs}
    steps: list[Step] = []
    problems: list[Problem] = []
    done: set[int] = set()
    for node in list(graph.nodes):
        if id(node) in done or not any(t.name in carriers for t in node.outputs):
            continue
        e.scope = label(node)
        try:
            step = _step(e, node, facts, allow)
        except NotLinear as error:
            problems.append(_problem(node, str(error)))
            continue
        if step is None:
            problems.append(_problem(node, "there is no rule for this operator"))
            continue
        if step.layer is not None and step.kind == "linear":
            step = _fused(e, step, consumers, pinned, facts)
        done.update(id(n) for n in step.nodes)
        steps.append(step)
    if problems:
        raise Unsupported(problems)
    return steps


def _problem(node: gs.Node, reason: str) -> Problem:
    op = f"{node.domain}.{node.op}" if node.domain else node.op
    way_out = f"explain a tensor before it with --output, or let relevance pass unchanged with --allow {node.op}=pass"
    return Problem(op, label(node), reason, way_out)


def _step(e: Emit, node: gs.Node, facts: Facts, allow: Mapping[str, str]) -> Step | None:
    """The step for a node, or None where no registry has its operator. Notes which outputs are raw."""
    sources = tuple(t if facts.is_active(t) else None for t in node.inputs)
    raw = all(t is None or t.name in facts.raw for t in sources)
    results = tuple(node.outputs)
    if node.op in allow:
        return Step("pass", (node,), results, sources, flow=PASS["Identity"])
    if node.domain not in (None, "", "ai.onnx"):
        return None
    if node.op in LINEAR:
        layer = LINEAR[node.op](e, node, facts.is_active)
        if raw and layer.one_to_one:
            facts.raw.update(t.name for t in results)
            position = next(i for i, t in enumerate(sources) if t is not None)
            return Step("preprocessing", (node,), results, sources[position : position + 1], layer, flow=PASS["Identity"])
        slots = tuple(slot.x for slot in layer.slots)
        first = all(x.name in facts.raw for x in slots)
        return Step("linear", (node,), (layer.y,), slots, layer, LayerFacts(label(node), node.op, layer.family, first, False))
    for kind, table in (("pass", PASS), ("move", MOVE), ("route", ROUTE)):
        if node.op in table:
            if raw and kind != "route" and node.op not in MIXES:
                facts.raw.update(t.name for t in results)
            return Step(kind, (node,), results, sources, flow=table[node.op])
    return None


def _fused(e: Emit, step: Step, consumers: Mapping[str, int], pinned: set[str], facts: Facts) -> Step:
    """The step with the Adds of constants and BatchNormalizations behind it taken in, as long as nobody else looks between."""
    layer, nodes = step.layer, list(step.nodes)
    assert layer is not None
    while consumers[layer.y.name] == 1 and layer.y.name not in pinned:
        node = next(n for n in layer.y.outputs if n not in e.nodes)
        whole = followed_by(e, layer, node, facts.is_active) if not node.domain else None
        if whole is None:
            break
        layer = whole
        nodes.append(node)
    return Step(step.kind, tuple(nodes), (layer.y,), step.inputs, layer, step.facts)


def _with_rules(steps: Sequence[Step], preset: Preset, bounded: bool, facts: Facts) -> list[Step]:
    """The steps with a rule for every layer."""
    known = []
    for step in steps:
        if step.kind != "linear" or step.facts is None:
            known.append(step)
            continue
        old = step.facts
        layer = LayerFacts(old.name, old.op, old.family, old.first, bounded and old.first)
        known.append(Step(step.kind, step.nodes, step.outputs, step.inputs, step.layer, layer, preset.rule(layer)))
    preset.check_used([step.facts for step in known if step.facts is not None])
    return known
