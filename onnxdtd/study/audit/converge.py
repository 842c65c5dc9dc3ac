"""Cosine similarity convergence: does a heatmap still depend on what the upper layers say?

Random relevance is injected at a layer and pushed down by the rules at a fixed input. If below all of it points in one
direction, |cos| = 1, then the product of the matrices that it went through has become one of rank 1, and of the layers above a
heatmap tells nothing but a size (Sixt, Granz, Landgraf: When explanations lie, 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import onnx
from scipy.special import betaincinv

from onnxdtd.compiler.addition import addition
from onnxdtd.compiler.compile import planned
from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.prepared import Planned
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.files import ModelLike
from onnxdtd.method.method import HERE
from onnxdtd.method.toml import Library
from onnxdtd.request import Request
from onnxdtd.runtime.explainer import Explainer
from onnxdtd.study.audit.auditor import Auditor
from onnxdtd.study.audit.limits import CHANCE, INDEPENDENT, LITTLE, left_out
from onnxdtd.study.audit.measurement import Entry, Finding, Glance, Measurement, Task
from onnxdtd.study.audit.parts import Arrays, Batch, batches, folder, told_apart
from onnxdtd.study.measures import HIGHEST

FAMILIES = ("conv", "dense")
MOST_STARTS = 6  # start at every layer of a net with no more of them
QUARTERS = 4
POSITIONS = 256  # of each sample, drawn where there are more


def convergence(
    model: ModelLike,
    request: Request,
    xs: np.ndarray | Mapping[str, np.ndarray],
    draws: int = 5,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Inject random relevance above, and measure how alike it is below.

    It is injected at a layer's own output, in front of any activation and into all neurons, those that are off among them.

    Args:
        xs: samples [n, ...], by name where the model has several inputs.
        draws: how many tensors of normal numbers, of the shape of the start layer's output, to push down at each sample.
        seed: of these numbers.

    Returns:
        A row for each start layer, from the top down: convolutions and dense layers, all of them or, where there are more than
        six, the top one and one at each quarter of the depth; none for a layer with one output or channel, whose random
        relevance is multiples of one pattern from the start. ``start`` is its name, ``layers`` has a row for each convolution
        and dense layer from there on down: ``layer``, ``cosine``, the median |cos| of the relevance at its input over pairs of
        draws, positions (along the channels of a convolution, the last axis of a dense layer) and samples, ``positions``, how
        many a sample has, and ``random``, the median |cos| of normal vectors with as many entries, or as many as the start
        layer has outputs if these are fewer. Positions without relevance are left out; ``cosine`` is None where there are no
        others. No row where a model takes several samples at once and lays them out in another order inside, nor for gradients
        at other points than the samples.

    Raises:
        OnnxdtdError: as ``onnxdtd.compile``.
    """
    request = replace(request, ledger=False, keep=(), target=None)
    job = planned(model, request)
    if not told_apart(job) or job.plan.method.point != HERE:
        return []
    samples = list(batches(job, xs))
    starts = spread([step for step in job.plan.steps if mixes(step)])
    shapes = _shapes(_explainer(_of_logits(job), [step.outputs[0].name for step in starts]), samples)
    found = []
    for i, start in enumerate(starts):
        if shapes[0][source := start.outputs[0].name][channel_axis(start)] == 1:
            continue
        lower = inputs_below(job.plan, start)
        explainer = _explainer(job, list(lower), source)
        own = [known[source] for known in shapes]
        layers = _layers(explainer, lower, samples, own, draws, np.random.default_rng([seed, i]))
        found.append({"start": start.name, "layers": layers})
    return found


def _of_logits(job: Planned) -> Planned:
    """The same for the logits as they are: a neuron of them would lie over layers that relevance may start at."""
    return replace(job, plan=replace(job.plan, stepped_back=[]), request=replace(job.request, contrast=None, reference=None))


def mixes(step: Step) -> bool:
    """Is it a convolution or a dense layer?"""
    return step.rule is not None and step.layer is not None and step.layer.family in FAMILIES


def spread(layers: Sequence[Step]) -> list[Step]:
    """Where to start, from the top down."""
    if len(layers) <= MOST_STARTS:
        return list(layers[::-1])
    return [layers[(len(layers) - 1) * (QUARTERS - i) // QUARTERS] for i in range(QUARTERS)]


def inputs_below(plan: Plan, start: Step) -> dict[str, Step]:
    """The inputs of the layers from ``start`` on down, each with the lowest layer that reads it, from the top down."""
    wanted, found = {start.outputs[0].name}, {}
    for step in reversed(plan.steps):
        if any(t.name in wanted for t in step.outputs):
            wanted.update(t.name for t in step.inputs if t is not None)
            if mixes(step):
                found.update({t.name: step for t in step.inputs[:1] if t is not None})
    return found


def median_of_random(size: int) -> float:
    """The median |cos| of two normal vectors with ``size`` entries: cos² has the distribution Beta(1/2, (size − 1)/2).

    >>> round(median_of_random(2), 6), median_of_random(1)
    (0.707107, 1.0)
    """
    return float(np.sqrt(betaincinv(0.5, (size - 1) / 2, 0.5))) if size > 1 else 1.0


def _explainer(job: Planned, keep: Sequence[str], inject: str | None = None) -> Explainer:
    """Of what is planned, with the relevance of some tensors between its steps as outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(job.source.proto)
    added = addition(replace(job, request=replace(job.request, keep=keep)), inject)
    return Explainer(added.append_to(proto), folder=folder(job), threads=1)


def _relevance(explainer: Explainer, feeds: Arrays) -> Arrays:
    explanation = explainer(feeds)
    return {**explanation.relevance, **explanation.kept}


def _shapes(explainer: Explainer, samples: Sequence[Batch]) -> list[dict[str, tuple[int, ...]]]:
    """Those of the tensors kept, for one sample of each batch."""
    known: dict[tuple[int, ...], dict[str, tuple[int, ...]]] = {}
    for batch in samples:
        if (fed := _fed(batch)) not in known:
            found = _relevance(explainer, batch.feeds)
            known[fed] = {name: (len(values) // len(batch.rows), *values.shape[1:]) for name, values in found.items()}
    return [known[_fed(batch)] for batch in samples]


def _fed(batch: Batch) -> tuple[int, ...]:
    """How many numbers there are in each input, for one sample."""
    return tuple(values.size // len(batch.rows) for values in batch.feeds.values())


def _layers(
    explainer: Explainer,
    lower: Mapping[str, Step],
    samples: Sequence[Batch],
    shapes: Sequence[Sequence[int]],
    draws: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """How alike random relevance becomes at the inputs of the layers ``lower``."""
    (injected,) = explainer.inputs.keys() - samples[0].feeds.keys()
    cosines: dict[str, list[np.ndarray]] = {name: [] for name in lower}
    sizes = {}
    for batch, shape in zip(samples, shapes, strict=True):
        n = len(batch.rows)
        noise = (rng.normal(size=(shape[0] * n, *shape[1:])) for _ in range(draws))
        found = [_relevance(explainer, {**batch.feeds, injected: values}) for values in noise]
        for name, step in lower.items():
            vectors = np.stack([positions(step, relevance[name], n)[: batch.count] for relevance in found])
            cosines[name].append(pairwise(vectors, rng))
            sizes[name] = vectors.shape[2:]
    rows = []
    for name, step in lower.items():
        values = np.concatenate(cosines[name])
        median = float(np.median(values)) if values.size else None
        count, channels = sizes[name]
        chance = median_of_random(min(channels, *map(math.prod, shapes)))
        rows.append({"layer": step.name, "cosine": median, "random": chance, "positions": count})
    return rows


def positions(step: Step, relevance: np.ndarray, n: int) -> np.ndarray:
    """The relevance of a layer's input as vectors [n, positions, channels]."""
    channels = np.moveaxis(relevance, channel_axis(step), -1)
    return channels.reshape(n, -1, channels.shape[-1])


def channel_axis(step: Step) -> int:
    """Along which axis the channels of a layer lie, in its input and its output."""
    assert step.layer is not None
    return 1 if step.layer.family == "conv" else -1


def pairwise(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """|cos| of all pairs of draws at some positions, where it is defined; ``vectors`` is [draws, n, positions, channels]."""
    count = vectors.shape[2]
    if count > POSITIONS:
        vectors = vectors[:, :, rng.choice(count, POSITIONS, replace=False)]
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=-1)
    found = []
    for a, b in combinations(range(len(vectors)), 2):
        both = length[a] * length[b]
        defined = np.isfinite(both) & (both > 0)
        found.append(np.abs((vectors[a] * vectors[b]).sum(axis=-1)[defined]) / both[defined])
    return np.minimum(np.concatenate(found), 1.0)


def measure(auditor: Auditor, task: Task) -> Finding:
    """At the samples of an audit."""
    study = auditor.study
    found = convergence(study.model, study.asked(task.preset), study.inputs, seed=study.seed)
    if Library().preset(task.preset).method.point != HERE:
        return Finding(found, left_out="the gradients are those at other points than the samples")
    why = "" if any(map(arrival, found)) else "the layers are so small that random vectors are alike too"
    return Finding(found, left_out=why)


def arrival(start: Entry) -> Entry | None:
    """The lowest layer at which relevance from a start layer arrives in vectors so long that chance tells them apart."""
    rows = [row for row in start["layers"] if row["cosine"] is not None and row["random"] < CHANCE]
    return rows[-1] if rows else None


def say(entry: Entry) -> Iterator[str]:
    """Does relevance from above arrive at the bottom as one pattern?"""
    yield from left_out(entry, "Convergence", "convergence")
    for start in entry["convergence"]:
        row = arrival(start)
        if row is not None:
            yield _arrived(start["start"], row)
            return


def _arrived(start: str, row: Entry) -> str:
    numbers = (
        f"random relevance injected at {start} arrives at {row['layer']} with a median cosine of {row['cosine']:.3f}, signs "
        f"aside (random vectors: {row['random']:.3f})"
    )
    if row["cosine"] >= INDEPENDENT and row["positions"] > 1:
        return f"Convergence: whatever the layers above say, every position gets its one mix of channels; {numbers}."
    if row["cosine"] >= INDEPENDENT:
        return f"Convergence: whatever the layers above say, the same pattern arrives; {numbers}."
    if row["cosine"] >= LITTLE:
        return f"Convergence: most of what the layers above say is lost on the way; {numbers}."
    return f"Convergence: what the layers above say still shows; {numbers}."


def gap(entry: Entry) -> float | None:
    """1 - cosine where relevance from the top layer arrives."""
    rows = [row for start in entry.get("convergence") or [] if (row := arrival(start)) is not None]
    return 1 - rows[0]["cosine"] if rows else None


ROWS = {
    "convergence": Glance(
        "say of the upper layers",
        "1\u00a0−\u00a0cosine, in the lowest layer where chance tells vectors apart, between the effects of different random "
        "relevance above; near 0, the upper layers have no say in the pattern, or in the mix of channels at a position of a "
        "convolution.",
        HIGHEST,
        of=gap,
    ),
}
MEASUREMENT = Measurement(
    "convergence",
    measure,
    say,
    ROWS,
    of_the_network=True,
    thorough="whether relevance becomes the same pattern on the way down",
    empty=list,
)
