"""Weights drawn anew, to see which of them an explanation depends on (Adebayo et al. 2018).

A layer here is a step of the plan with all that it learned: weight, bias and the γ and β of a BatchNormalization merged into
it. Nodes that hold weights and carry no relevance, in a gate for instance, count as layers of their own, tables of
embeddings as well.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from onnxdtd.compiler.compile import prepare
from onnxdtd.compiler.facts import before
from onnxdtd.compiler.prepared import Prepared
from onnxdtd.graph.dynamic import LEARNED
from onnxdtd.graph.emit import label
from onnxdtd.graph.spelled import layout
from onnxdtd.graph.tensors import Node, Tensor
from onnxdtd.operators.layer import is_float
from onnxdtd.operators.table import AS_THEY_ARE, of
from onnxdtd.study.audit.auditor import SAME, Auditor
from onnxdtd.study.audit.limits import INDEPENDENT, LIKELY, LITTLE, NOISE, NOISY, NOTABLE, UNLEARNED, also, left_out, on
from onnxdtd.study.audit.measurement import Entry, Finding, Glance, Measurement, Task, mean_of
from onnxdtd.study.audit.similarity import kept, means_of
from onnxdtd.study.measures import LOWEST

KINDS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}
INTEGERS = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32}


@dataclass(frozen=True)
class Weights:
    """What a layer learned: the name of its step, and those of the initializers or constants that its weights come from."""

    layer: str
    tensors: tuple[str, ...]


def layers(job: Prepared) -> list[Weights]:
    """The layers of a planned model that hold weights, from the logits down to the input, or to what ids look up."""
    active, known = job.plan.active, constants(job.source.proto)
    producer = {t.name: node for node in job.graph.nodes for t in node.outputs}
    preprocessing = {label(n) for step in job.plan.steps if step.kind == "preprocessing" for n in step.nodes}
    owner = {label(n): step.name for step in job.plan.steps for n in step.nodes}
    found: dict[str, dict[str, None]] = {}
    for node in before(job.graph.nodes, job.graph.tensors()[job.plan.output]):
        if label(node) in preprocessing or not any(active(t) for t in node.inputs):
            continue
        held = found.setdefault(owner.get(label(node), label(node)), {})
        for tensor in _learned(node):
            if not active(tensor):
                held.update((name, None) for name in _origins(tensor, producer, known) if _spreads(known[name]))
    tables = {
        label(node): dict.fromkeys(name for name in _origins(table, producer, known) if _spreads(known[name]))
        for node, table in _tables(job)
    }
    return [Weights(name, tuple(held)) for name, held in [*reversed(found.items()), *tables.items()] if held]


def _tables(job: Prepared) -> Iterator[tuple[Node, Tensor]]:
    """What ids look up rows of, and the nodes that do."""
    for link in (link for end in job.plan.ends for link in end.links):
        if link.sums or (link.lookup is not None and not link.lookup.one_hot):
            yield from ((link.node, t) for i, t in enumerate(link.node.inputs) if i not in link.at)


def _learned(node: Node) -> list[Tensor]:
    """The inputs of a node that hold what was learned, where they do not depend on the input of the model."""
    quantised = layout(node, node.op)
    if quantised is not None:
        places = [*(operand[0] for operand in quantised.operands), *([] if quantised.bias is None else [quantised.bias])]
    elif node.op in LEARNED:
        places = [*LEARNED[node.op]]
    else:
        learned = of(node).learned
        places = [] if learned is None else list(range(len(node.inputs))[learned])
    return [node.inputs[i] for i in places if i < len(node.inputs) and not node.inputs[i].left_out]


def _origins(tensor: Tensor, producer: Mapping[str, Node], known: Mapping[str, TensorProto]) -> Iterator[str]:
    """The names of the constants that a weight is made from; sizes, axes and scales are none."""
    reached = [tensor.name]
    for name in reached:
        if name in known:
            yield name
        elif name in producer:
            node = producer[name]
            entry = of(node)  # behind the first there are scales and zero points, or what is looked up
            first_only = entry.hands_on == AS_THEY_ARE or entry.looks_up is not None
            found = node.inputs[:1] if first_only else [t for t in node.inputs if t.dtype is None or is_float(t.dtype)]
            reached += [t.name for t in found if t.name not in reached]


def _spreads(tensor: TensorProto) -> bool:
    """Does it have several numbers, so that there is a deviation to draw with?"""
    return math.prod(tensor.dims) > 1 and tensor.data_type in KINDS | INTEGERS


def constants(proto: onnx.ModelProto) -> dict[str, TensorProto]:
    """The initializers and the values of Constant nodes, by the name of the tensor; not copies, so that they can be changed."""
    found = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], attr.t) for attr in node.attribute if attr.name == "value")
    return found


def randomised(proto: onnx.ModelProto, chosen: Iterable[Weights], seed: int, folder: Path | None = None) -> onnx.ModelProto:
    """A copy of a source model whose ``chosen`` layers have weights drawn anew.

    Each tensor is drawn independently from the normal distribution with its trained mean and deviation; integers of quantised
    models are rounded and stay in their range. What is drawn depends on ``seed`` and the name of the tensor alone, not on
    what else is drawn. ``folder`` is where external weights lie.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    known = constants(copy)
    for name in sorted({name for weights in chosen for name in weights.tensors}):
        tensor = known[name]
        trained = numpy_helper.to_array(tensor, str(folder or ""))
        tensor.CopyFrom(numpy_helper.from_array(_drawn(trained, _generator(seed, name)), tensor.name))
    return copy


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def _drawn(trained: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the mean and deviation of ``trained``, in its shape and type."""
    values = rng.normal(trained.mean(dtype=np.float64), trained.std(dtype=np.float64), trained.shape)
    if trained.dtype.kind in "iu":
        ends = np.iinfo(trained.dtype)
        values = np.clip(np.rint(values), ends.min, ends.max)
    return values.astype(trained.dtype)


def spread(found: Sequence[Weights], most: int) -> list[int]:
    """The places of at most ``most`` of the layers, evenly over the depth, the first and the last among them.

    >>> spread([Weights(name, ()) for name in "abcde"], 3)
    [0, 2, 4]
    """
    return sorted({round(i) for i in np.linspace(0, len(found) - 1, min(most, len(found)))})


# ----------------------------------------------------------------------------------------------------------- what is left


LEFT = ("ssim", "spearman", "spearman_abs")


def cascading(auditor: Auditor, task: Task) -> Finding:
    """With the weights drawn anew from the top layer down to this one."""
    assert task.layer is not None
    return of_layer(auditor, task, tuple(auditor.study.facts.layers[: task.layer + 1]))


def independent(auditor: Auditor, task: Task) -> Finding:
    """With the weights of this layer alone drawn anew."""
    assert task.layer is not None
    return of_layer(auditor, task, (auditor.study.facts.layers[task.layer],))


def of_layer(auditor: Auditor, task: Task, chosen: tuple[Weights, ...]) -> Finding:
    """A row of the table of layers; the top layer alone is measured once for both tables."""
    finding = auditor.once((task.preset, chosen), lambda: redrawn(auditor, task.preset, chosen))
    return replace(finding, found={"layer": auditor.study.facts.layers[task.layer or 0].layer, **finding.found})


def redrawn(auditor: Auditor, preset: str, chosen: tuple[Weights, ...]) -> Finding:
    """How alike the heatmaps of the trained model are to those with the weights of ``chosen`` layers drawn anew; nothing where
    these weights are ``idle``: without them the scores are the same too.
    """
    study = auditor.study
    planned = prepare(randomised(auditor.proto, chosen, study.seed, study.model.parent), study.asked(preset))
    if len(chosen) and auditor.once(("idle", chosen), lambda: idle(auditor, planned)):
        return Finding({**dict.fromkeys(LEFT), "idle": True}, {"samples": [None] * len(study.xs)})
    new = auditor.relevance(auditor.explainer(planned, preset), auditor.predicted)
    rows = list(map(kept, auditor.trained(preset), new, repeat(auditor.form.channel)))
    return Finding({**means_of(rows, LEFT), "idle": False}, {"samples": [row["spearman"] for row in rows]})


def idle(auditor: Auditor, planned: Prepared) -> bool:
    """Has a model with other weights the scores of the trained one?"""
    moved = np.abs(auditor.scored(auditor.scores_of(planned)) - auditor.logits).max()
    return bool(moved <= SAME * np.abs(auditor.logits).max())


def upper(rows: Sequence[Entry]) -> Entry | None:
    """The row of a cascade after which the upper half of the layers has new weights; None where there are no layers."""
    return rows[(len(rows) - 1) // 2] if rows else None


def say_upper(entry: Entry) -> Iterator[str]:
    """Does it depend on the upper layers, and on what was learned at all?"""
    yield from left_out(entry, "Upper layers", "randomised")
    rows = entry["cascading"]
    row = upper(rows)
    value = None if row is None else row["spearman"]
    if row is None or value is None:
        return
    many = f"of the top layer ({row['layer']})" if row is rows[0] else f"from the top layer down to {row['layer']}"
    new = f"with the weights {many} drawn anew, the rank correlation with the trained heatmap, signs aside, is"
    numbers = f"{value:.3f}{also('SSIM', row['ssim'])}{on(entry, 'upper')}"
    if value >= INDEPENDENT:
        yield f"Upper layers: independent of them; {new} still {numbers}."
    elif value >= LITTLE:
        yield f"Upper layers: depends on them little; {new} still {numbers}."
    else:
        noise = f"; that alone is no merit, {NOISY}" if value < NOISE else ""
        yield f"Upper layers: depends on them; {new} {numbers}{noise}."
    last = rows[-1]["spearman"]
    if len(rows) > 1 and last is not None and last >= UNLEARNED:
        yield (
            "Training: much of the heatmaps comes from the input and the architecture, not from what was learned; with all "
            f"weights drawn anew the rank correlation is still {last:.3f}."
        )


def say_weights(entry: Entry) -> Iterator[str]:
    """Which layers' weights matter?"""
    changes = {row["layer"]: 1 - row["spearman"] for row in entry["independent"] if row["spearman"] is not None}
    if len(changes) > 1 and max(changes.values()) - min(changes.values()) >= NOTABLE:
        most, least = (choose(changes, key=lambda name: changes[name]) for choose in (max, min))
        yield (
            f"Layers: depends on the weights of {most} most, on those of {least} least; drawn anew alone, they lower the rank "
            f"correlation by {changes[most]:.3f} and {changes[least]:.3f}."
        )
    still = [name for name, change in changes.items() if change <= 1 - INDEPENDENT]
    if still:
        of = f"{len(still)} of {len(changes)} layers measured" if len(still) > 1 else still[0]
        yield f"Layers: independent of the weights of {of}; drawn anew alone, they lower it by {1 - INDEPENDENT:.2f} at most."
    idle = [row["layer"] for row in entry["independent"] if row.get("idle")]
    if idle:
        yield f"Layers: left out {', '.join(idle)}, whose weights change no output of the model on these samples either."


def say_chance(entry: Entry) -> Iterator[str]:
    """How alike are unrelated heatmaps that small?"""
    yield from left_out(entry, "Rank correlations, and what rests on them", "spearman")
    if entry["chance"] >= LIKELY and "spearman" not in entry["left_out"]:
        yield (
            "Size: the heatmaps are so small that unrelated ones look alike; their rank correlation, or cosine, is about "
            f"{entry['chance']:.2f}, signs aside."
        )


def say_independent(entry: Entry) -> Iterator[str]:
    """Which layers matter, and what a rank correlation is worth."""
    yield from say_weights(entry)
    yield from say_chance(entry)


def left_in_the_end(entry: Entry) -> float | None:
    """SSIM, or rank correlation, with all weights drawn anew."""
    row = (entry.get("cascading") or [{}])[-1]
    return row.get("spearman") if row.get("ssim") is None else row["ssim"]


ROWS = {
    "upper": Glance(
        "blindness to upper layers",
        "rank correlation, signs aside, of the heatmap with that of the same network with new weights in the upper half of its "
        "layers; at 1 they play no part.",
        LOWEST,
        of=mean_of("upper"),
    ),
    "randomised": Glance(
        "left after randomising",
        "SSIM, or rank correlation where inputs are no pictures, of the heatmap with that of the same network with all weights "
        "random, signs aside. High means that training hardly matters to it.",
        LOWEST,
        of=left_in_the_end,
    ),
}
CASCADING = Measurement(
    "cascading",
    cascading,
    say_upper,
    ROWS,
    of_the_network=True,
    layered=True,
    empty=list,
)
INDEPENDENT_OF = Measurement(
    "independent",
    independent,
    say_independent,
    of_the_network=True,
    layered=True,
    thorough="what is left of a heatmap when the weights of one layer alone are drawn anew",
    empty=list,
)
