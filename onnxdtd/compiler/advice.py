"""Ways out of a refusal. Whatever is advised here has been tried on the model itself: followed, it compiles."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import onnx

from onnxdtd.compiler.ends import reached
from onnxdtd.compiler.facts import before, reads
from onnxdtd.compiler.plan import Plan
from onnxdtd.errors import ModelError, Problem, Unsupported
from onnxdtd.graph import shapes
from onnxdtd.graph.emit import dims, label
from onnxdtd.graph.tensors import Graph, Tensor
from onnxdtd.operators.layer import is_float
from onnxdtd.operators.others import undefined
from onnxdtd.operators.table import BY_LABEL, has_rule, of
from onnxdtd.operators.written import FORMS
from onnxdtd.request import Request

TRIED, SHOWN = 16, 3  # tensors before an obstacle, at most

Attempt = Callable[[onnx.ModelProto, Request], Plan]  # compile the model, or raise


def advised(
    error: ModelError | Unsupported, proto: onnx.ModelProto, request: Request, attempt: Attempt
) -> ModelError | Unsupported:
    """``error`` with the ways out that work for the normalised model ``proto``."""
    hollow, graph = shapes.hollow(proto), shapes.graph(proto, has_rule, request.most_steps)
    problems = error.problems if isinstance(error, Unsupported) else []

    def tried(wanted: Request) -> Plan | None:
        try:
            return attempt(hollow, wanted)
        except Exception:  # what fails in whatever way is no advice
            return None

    refused = {problem.node for problem in problems}
    names, end = list(_explainable(graph, refused, request, tried)), _end(graph, refused, request, tried)
    if not isinstance(error, Unsupported):
        options = ", ".join(map(_output, names))
        more = _chosen(graph) + ([f"inner tensors that can be explained: {options}"] if names else [])
        more += [f"the walk can end at an inner tensor: {_from(end)}"] if end is not None else []
        return ModelError("; ".join([str(error), *more]))
    keys = _keys(graph, problems)
    passes = {**(request.allow or {}), **dict.fromkeys(keys.values(), "pass")}
    can_pass = not any(problem.way_out for problem in problems) and tried(replace(request, allow=passes)) is not None
    allowed = {node: key if can_pass else None for node, key in keys.items()}
    return Unsupported([_with_ways_out(problem, names, end, allowed[problem.node]) for problem in problems])


def _with_ways_out(problem: Problem, names: Sequence[str], end: str | None, key: str | None) -> Problem:
    """A problem with what can be done, and why relevance cannot just pass."""
    ways = ["explain what comes before it with " + " or ".join(map(_output, names))] if names else []
    if end is not None:
        ways.append(f"give relevance to what comes behind it with {_from(end)}")
    if key is not None:
        ways.append(f"let relevance pass unchanged with --allow {shlex.quote(f'{key}=pass')}")
    told = [", or ".join(ways), problem.way_out] if ways or problem.way_out else ["there is no way around it for what is asked"]
    return replace(problem, way_out="; ".join(filter(None, told)))


def _chosen(graph: Graph) -> list[str]:
    """Why scores do not depend on the input as relevance means it: a model without slopes, or a choice, lies in between."""
    scores = [t for t in graph.outputs if _is_score(t) or _is_by_label(t)]
    nodes = [node for t in scores for node in before(graph.nodes, t)]
    entries = [of(node) for node in nodes if not (ids := of(node).chooses) or node.outputs[ids[0]].readers]
    found = [entry.op for entry in entries if entry.undefined is not None and entry.op not in FORMS]
    return [undefined(op) for op in (*found, *(entry.op for entry in entries if entry.chooses is not None))][:1]


def _is_by_label(tensor: Tensor) -> bool:
    """Does it have scores by label?"""
    head = None if tensor.producer is None else of(tensor.producer).head
    return head is not None and head.gives == BY_LABEL


def _output(name: str) -> str:
    return f"--output {shlex.quote(name)}"


def _from(name: str) -> str:
    return f"--from {shlex.quote(name)}"


def _keys(graph: Graph, problems: Sequence[Problem]) -> dict[str, str]:
    """What to allow for each node with a problem: its operator, unless other nodes that have none would pass as well."""
    refused = {problem.node for problem in problems}
    served = {node.op for node in graph.nodes if label(node) not in refused}
    ops = {problem.node: problem.op.rpartition(".")[2] for problem in problems}
    return {node: node if op in served else op for node, op in ops.items()}


def _explainable(
    graph: Graph, refused: Collection[str], request: Request, tried: Callable[[Request], Plan | None]
) -> Iterator[str]:
    """The names of tensors that do not depend on the nodes ``refused`` and can be explained, the last ones first."""
    found: set[str] = set()
    for tensor in _scores(graph, refused)[:TRIED]:
        made = tried(replace(request, output=tensor.name))
        # What no rule had a say in is the input itself in another shape.
        if made is None or made.logits.name in found or not any(step.rule for step in made.steps):
            continue
        found.add(made.logits.name)
        yield made.logits.name if made.logits.name in graph.tensors() else tensor.name
        if len(found) == SHOWN:
            return


def _end(graph: Graph, refused: Collection[str], request: Request, tried: Callable[[Request], Plan | None]) -> str | None:
    """The name of the first tensor behind all nodes ``refused`` at which the walk can end, so that it comes to none of them;
    first of all of one that holds all that outputs are told of the input.
    """
    sources = [t for node in graph.nodes if label(node) in refused for t in node.outputs] or graph.inputs
    names = reached(graph.nodes, sources)
    behind = [t for node in graph.nodes for t in node.outputs if t.name in names and is_float(t.dtype) and t.readers]
    rest = {t.name: _beside(graph, t, sources) for t in (*behind[:TRIED], *behind[TRIED:][-TRIED:])}
    whole = [name for name, left in rest.items() if not any(output.name in left for output in graph.outputs)]
    for name in dict.fromkeys((*whole, *list(rest)[:TRIED])):
        made = tried(replace(request, from_=(name,), explain=()))
        if made is None or not any(step.rule for step in made.steps):
            continue
        if not refused or made.logits.name not in rest[name]:
            return name
    return None


def _beside(graph: Graph, tensor: Tensor, sources: Sequence[Tensor]) -> set[str]:
    """The names of what depends on ``sources`` in other ways than by a tensor."""
    others = [t for t in sources if t is not tensor]
    return reached([node for node in graph.nodes if node is not tensor.producer], others)


def _scores(graph: Graph, refused: Collection[str]) -> list[Tensor]:
    """Inner tensors [batch, classes] that do not depend on the nodes ``refused``, the last ones first."""
    behind: set[str] = set()
    scores: list[Tensor] = []
    for node in graph.nodes:
        if label(node) in refused or any(t.name in behind for t in reads(node)):
            behind.update(t.name for t in node.outputs)
            continue
        scores += filter(_is_score, node.outputs)
    return scores[::-1]


def _is_score(tensor: Tensor) -> bool:
    """Is it [batch, classes], as far as its shape says?"""
    sizes = dims(tensor)
    return sizes is not None and is_float(tensor.dtype) and len(sizes) > 1 and sizes[1] != 1 and set(sizes[2:]) <= {1}
