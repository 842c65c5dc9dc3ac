"""Where relevance starts: the output that is explained, and the logits behind its Softmax, Sigmoid or ArgMax."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnxdtd.compiler.facts import Facts
from onnxdtd.compiler.samples import Samples
from onnxdtd.errors import ModelError, RequestError, suggestion
from onnxdtd.graph.emit import dims
from onnxdtd.graph.tensors import Graph, Node, Tensor
from onnxdtd.operators.heads import is_transparent
from onnxdtd.operators.layer import is_float
from onnxdtd.operators.table import Head, of


class NoScores(ModelError):
    """No output is the score of a classifier, but an inner tensor may be."""


@dataclass(frozen=True)
class Origin:
    """Where relevance starts: the output that is explained, the logits behind it, the nodes stepped back over, the samples."""

    output: str
    logits: Tensor
    stepped_back: list[Node]
    samples: Samples


def origin(
    graph: Graph,
    output: str | None,
    facts: Facts,
    producer: Mapping[str, Node],
    follow: Callable[[Tensor, Tensor], Samples],
) -> Origin:
    """Where relevance starts; ``follow`` finds the samples on the way to an output and its logits."""
    tensors = graph.tensors()
    if output is not None:
        if output not in tensors:
            scores = [t.name for t in tensors.values() if t.producer and facts.is_active(t) and _is_classifier(t)]
            raise RequestError(f"no tensor {output!r} in the model{suggestion(output, scores)}")
        if any(t.name == output for t in graph.inputs):
            raise RequestError(
                f"--output {output!r}: is an input of the model; give an output, or a tensor computed from inputs"
            )
        candidates = [tensors[output]]
    else:
        candidates = sorted(graph.outputs, key=lambda t: not is_float(t.dtype))  # scores rather than labels
    starts: list[Origin] = []
    positions: list[str] = []  # outputs with scores for several positions of a sample
    for candidate in candidates:
        logits, stepped_back = step_back(candidate, producer, facts.is_active)
        if not facts.is_active(logits):
            continue
        cells = not _is_classifier(logits) and _are_cells(candidate, stepped_back)
        samples = follow(candidate, logits) if cells or _is_classifier(logits) else None
        if samples is None or samples.positions or (cells and follow(candidate, candidate).positions):
            positions += [candidate.name] if is_float(candidate.dtype) and len(dims(candidate) or ()) > 1 else []
        else:
            starts.append(Origin(candidate.name, logits, stepped_back, samples))
    starts = [start for start in starts if start.samples.doubt is None] or starts[:1]
    found = {start.logits.name: start for start in reversed(starts)}
    # Of outputs from the same logits, one that steps back knows more of them: a sigmoid makes two classes of one.
    found |= {start.logits.name: start for start in reversed(starts) if start.stepped_back}
    labelled = {start.logits.name for start in starts if any(head.chooses for head in heads(start.stepped_back))}
    if len(found) == 1 or len(labelled) == 1:
        return found[next(iter(labelled or found))]
    shapes = "; ".join(f"{t.name} {shape_text(t)}" for t in candidates)
    if not found:
        raise NoScores(
            f"no output is the score of a classifier, [batch, classes], that depends on what is to be explained: {shapes}"
            + (f"; {positions[0]!r} has scores for several positions: export the model with one picked" if positions else "")
            + bfloat16(graph)
        )
    choices = "; ".join(f"{s.output} {shape_text(tensors[s.output])}" for s in reversed(found.values()))
    raise RequestError(f"the model has several outputs, choose one with --output: {choices}")


def bfloat16(graph: Graph) -> str:
    """What to say where a model computes in bfloat16, which numpy does not have."""
    kinds = {str(t.dtype) for t in graph.tensors().values()}
    return "; bfloat16 is not supported, export in float32 or float16" if kinds & {"bfloat16", "16"} else ""


def step_back(tensor: Tensor, producer: Mapping[str, Node], active: Callable[[Tensor], bool]) -> tuple[Tensor, list[Node]]:
    """The tensor before the last Softmax, Sigmoid, ArgMax ... and the nodes from there on."""
    logits, walked, stepped_back = tensor, [], []
    while (node := producer.get(tensor.name)) is not None:
        entry = of(node)
        source = None if entry.before is None else entry.before(node, producer, active)
        if source is None:
            break
        tensor = source
        walked.append(node)
        if entry.head is not None:
            logits, stepped_back = tensor, list(walked)
    return logits, stepped_back[::-1]


def heads(nodes: Iterable[Node]) -> list[Head]:
    """The heads among nodes that were stepped back over."""
    return [head for node in nodes if (head := of(node).head) is not None]


def _is_classifier(tensor: Tensor) -> bool:
    """Is it [classes], [batch, classes] or [batch, classes, 1, ...]?"""
    sizes = dims(tensor)
    return sizes is None or len(sizes) in (1, 2) or (len(sizes) > 2 and all(d == 1 for d in sizes[2:]))


def _are_cells(scores: Tensor, stepped_back: Sequence[Node]) -> bool:
    """Are the scores those of a map, each squashed by itself and then laid out as [batch, cells]?"""
    alone = all(is_transparent(of(node)) for node in stepped_back if (head := of(node).head) is None or not head.each)
    return alone and len(dims(scores) or ()) == 2


def shape_text(tensor: Tensor) -> str:
    """A shape as messages show it."""
    return "of unknown shape" if tensor.shape is None else "[" + ", ".join(str(d) for d in tensor.shape) + "]"
