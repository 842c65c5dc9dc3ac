"""Where relevance starts: the output that is explained, and the logits behind its Softmax, Sigmoid or ArgMax."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from onnxdtd.compiler.facts import Facts
from onnxdtd.compiler.raster import Raster, Undecided, raster, shape_text
from onnxdtd.compiler.samples import Samples
from onnxdtd.contract import SCORE
from onnxdtd.errors import ModelError, RequestError, suggestion
from onnxdtd.graph.tensors import Graph, Node, Tensor
from onnxdtd.operators.heads import is_transparent
from onnxdtd.operators.layer import is_float
from onnxdtd.operators.table import Head, of
from onnxdtd.request import Request


class NoScores(ModelError):
    """No output is the score of a classifier, but an inner tensor may be."""


@dataclass(frozen=True)
class Origin:
    """Where relevance starts: the output that is explained, the logits behind it, the nodes stepped back over, the samples, and
    what else lies along the axes.
    """

    output: str
    logits: Tensor
    stepped_back: list[Node]
    samples: Samples
    raster: Raster
    offered: Sequence[Origin] = ()  # all outputs that can be explained, where this is the one that was chosen

    def moved(self, logits: Tensor, follow: Callable[[Tensor, Tensor], Samples]) -> Origin:
        """The same at another tensor, which is laid out as the logits are."""
        samples = follow(logits, logits)
        return replace(self, logits=logits, samples=samples, raster=raster(logits, logits, self.stepped_back, samples))


def origin(
    graph: Graph,
    request: Request,
    facts: Facts,
    producer: Mapping[str, Node],
    follow: Callable[[Tensor, Tensor], Samples],
) -> Origin:
    """Where relevance starts; ``follow`` finds the samples on the way to an output and its logits."""
    candidates = _candidates(graph, request.output, facts)
    starts = [start for t in candidates if (start := _start(t, facts, producer, follow)) is not None]
    offered = [start for start in starts if not start.samples.merged]
    found = _chosen(offered, request)
    labelled = {start.logits.name for start in found.values() if any(head.chooses for head in heads(start.stepped_back))}
    if len(found) == 1 or len(labelled) == 1:
        return replace(found[next(iter(labelled or found))], offered=offered)
    if not found:
        shapes = "; ".join(f"{t.name} {shape_text(t)}" for t in candidates)
        merged = [f"; {s.output!r} has samples and positions on one axis: export it with an axis for each" for s in starts[:1]]
        raise NoScores(
            "no output is the score of a classifier, [batch, classes], that depends on what is to be explained: "
            f"{shapes}{''.join(merged)}{bfloat16(graph)}"
        )
    tensors = graph.tensors()
    choices = "; ".join(f"{s.output} {shape_text(tensors[s.output])}" for s in reversed(found.values()))
    raise RequestError(f"the model has several outputs, choose one with --output: {choices}")


def _candidates(graph: Graph, output: str | None, facts: Facts) -> list[Tensor]:
    """The outputs that may be explained, scores rather than labels; or the tensor that was asked for."""
    tensors = graph.tensors()
    if output is None:
        return sorted(graph.outputs, key=lambda t: not is_float(t.dtype))
    if output not in tensors:
        scores = [t.name for t in tensors.values() if t.producer and facts.is_active(t)]
        raise RequestError(f"no tensor {output!r} in the model{suggestion(output, scores)}")
    if any(t.name == output for t in graph.inputs):
        raise RequestError(f"--output {output!r}: is an input of the model; give an output, or a tensor computed from inputs")
    return [tensors[output]]


def _start(
    output: Tensor, facts: Facts, producer: Mapping[str, Node], follow: Callable[[Tensor, Tensor], Samples]
) -> Origin | None:
    """An explanation of an output; None where it depends on no input that is explained."""
    logits, stepped_back = step_back(output, producer, facts.is_active)
    if not facts.is_active(logits):
        return None
    samples = follow(output, logits)
    while samples.merged and (node := producer.get(logits.name)) is not None and is_transparent(of(node)):
        logits, stepped_back = node.inputs[0], [node, *stepped_back]  # in front of a Softmax that onnx's converter made of one
        samples = follow(output, logits)
    return Origin(output.name, logits, stepped_back, samples, raster(output, logits, stepped_back, samples))


def _chosen(starts: Sequence[Origin], request: Request) -> dict[str, Origin]:
    """Those that ``request`` may mean, by their logits: with one position for each sample, unless it asks for another.

    Raises ``Undecided`` where all have several positions and it asks for none.
    """
    asks = request.position is not None or isinstance(request.target, tuple)
    if request.target != SCORE:
        starts = [start for start in starts if start.raster.several == asks] or starts
    starts = [start for start in starts if start.samples.doubt is None] or starts[:1]
    if starts and all(start.raster.leaves_open(request) for start in starts):
        which = "choose one of several outputs with --output, and an entry of it: " if len(starts) > 1 else ""
        raise Undecided(which + "; ".join(start.raster.choices() for start in starts))
    starts = [start for start in starts if not start.raster.leaves_open(request)]
    found = {start.logits.name: start for start in reversed(starts)}
    # Of outputs from the same logits, one that steps back knows more of them: a sigmoid makes two classes of one.
    return found | {start.logits.name: start for start in reversed(starts) if start.stepped_back}


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
