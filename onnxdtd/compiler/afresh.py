"""What a branch that explains computes afresh of the predictor, instead of reading it.

Of an If only the branch that is taken takes time, but what branches read is made ready for them whichever that is: ONNX Runtime
computes convolutions on CPUs on blocks of channels, and copies what is read out of that layout; and it keeps what is read, so
that nothing else can have that memory, which the cache would hold. So few tensors are read, and what lies between is computed
afresh from them where that is cheap. What to read, for the least of both, is a minimum cut, as it is where training saves
memory (``min_cut_rematerialization_partition`` of PyTorch's functorch).

Relevance may differ in its last digits: a convolution is fused with the sum behind it in one place and not in the other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from onnx import NodeProto, helper

from onnxdtd.compiler.cost import cost
from onnxdtd.compiler.cut import least
from onnxdtd.compiler.ends import reached
from onnxdtd.compiler.ondemand import called, renamed
from onnxdtd.compiler.prepared import Addition, Planned
from onnxdtd.graph.emit import READER
from onnxdtd.graph.shapes import real_inputs
from onnxdtd.graph.tensors import Tensor
from onnxdtd.operators.layer import is_float
from onnxdtd.operators.spread import is_elementwise
from onnxdtd.operators.table import of

# In multiply-adds. Who only predicts is to notice nothing: so much is computed afresh that what is read, ``COPIED`` an entry,
# is a small share of what predicting takes. Who explains is to notice little, and has at most a share of that time for it.
# What both take beside products goes with the entries that the predictor computes, as measured on five networks. ``PRICES``
# are what copying and keeping an entry may be worth. So much is also worth what keeps the predictor from computing several
# functions at once; and half of it to keep alone what no cache would hold.
PREDICTING, EXPLAINING, COPIED, BESIDE = 0.04, 0.075, 120, 200
PRICES = [round(16 * 2 ** (i / 4)) for i in range(25)]
KEPT, MANY = 0.5, 2**14


def afresh(planned: Planned, flat: Addition) -> Addition:
    """The same relevance pass behind a copy of what it does not read of the predictor any more."""
    with planned.emit.forgetting():
        return _afresh(planned, flat, planned.emit.unique)


def _afresh(planned: Planned, flat: Addition, unique: Callable[[str], str]) -> Addition:
    """The same; ``unique`` gives names that no tensor has."""
    varying = reached(planned.graph.nodes, [Tensor(value.name) for value in real_inputs(planned.source.proto)])
    chosen = _chosen(planned, {name for node in flat.nodes for name in node.input}, varying)
    nodes, tensors = list[NodeProto](), planned.graph.tensors()
    names: dict[str, str] = {}
    for node in planned.source.proto.graph.node:
        if node.output[0] in chosen:
            weights = [name for name in node.input if name in tensors and name not in varying and name not in names]
            for name in dict.fromkeys(name for name in weights if is_float(tensors[name].dtype)):
                # An If's branch is optimised for weights that it sees inside: this is computed before it runs.
                names[name] = unique(f"{name}/inside")
                nodes.append(helper.make_node(READER, [name], [names[name]], unique(f"dtd/{names[name]}")))
            names[node.output[0]] = unique(f"{node.output[0]}/afresh")
            nodes.append(renamed(node, names))
            nodes[-1].name = unique(f"dtd/{names[node.output[0]]}")
    shapes = [called(value, names[value.name]) for value in flat.shapes if value.name in chosen]
    return replace(flat, nodes=nodes + [renamed(node, names) for node in flat.nodes], shapes=flat.shapes + shapes)


def _chosen(planned: Planned, read: Collection[str], varying: Collection[str]) -> set[str]:
    """The tensors to compute afresh where those of ``read`` are needed."""
    results = dict(_results(planned, varying))
    outputs = {value.name for value in planned.source.proto.graph.output}
    inputs: dict[str, list[str]] = {}
    leaving = set(outputs)
    for node in planned.graph.nodes:
        name, inner = node.outputs[0].name, [t.name for t in node.inputs if t.name in results]
        inputs[name] = inner
        if name not in results or not results[name].inside:
            leaving.update(inner)
    dear = {name for name, result in results.items() if result.inside} - leaving
    kept = {name for name, result in results.items() if result.open or result.entries >= MANY} - outputs
    dear |= {node.outputs[0].name for node in planned.graph.nodes if is_elementwise(of(node))} & kept
    worth = {name: result.entries * (1 if name in dear else KEPT * (name in kept)) for name, result in results.items()}
    costs = {name: result.entries * result.each for name, result in results.items()}
    sums = [cost(step, planned.plan) for step in planned.plan.steps]
    beside = BESIDE * sum(result.entries for result in results.values() if result.inside)
    predicting = sum(each.prediction for each in sums) + beside
    explaining = predicting + sum(each.explanation for each in sums)
    wanted = [name for name in read if name in results]

    def cheaper(price: int) -> tuple[set[str], set[str]]:
        return _cheaper(wanted, {name: round(price * each) for name, each in worth.items()}, costs, inputs)

    def noticed(price: int) -> bool:
        return COPIED * sum(worth[name] for name in cheaper(price)[0]) > PREDICTING * predicting

    def dearer(price: int) -> bool:
        return sum(costs[name] for name in cheaper(price)[1]) > EXPLAINING * explaining

    enough = bisect_left(PRICES, True, key=lambda price: not noticed(price))
    most = bisect_left(PRICES, True, key=dearer)
    return cheaper(PRICES[min(enough, most - 1)])[1] if most else set()


def _cheaper(
    read: Collection[str], prices: Mapping[str, int], costs: Mapping[str, int], inputs: Mapping[str, Sequence[str]]
) -> tuple[set[str], set[str]]:
    """The tensors to read, and those to compute, so that all of ``read`` are there for the least. A computed one needs its
    inputs, and saves its price.
    """
    gains = {(name, False): price for name, price in prices.items()}
    gains |= {(name, True): costs[name] - price for name, price in prices.items()}
    needs: dict[tuple[str, bool], list[tuple[str, bool]]] = {(name, False): [] for name in prices}
    needs |= {(name, True): [(name, False), *((t, False) for t in inputs[name])] for name in prices}
    taken = least(gains, needs, [(name, False) for name in read])
    computed = {name for name, again in taken if again}
    return {name for name, again in taken if not again} - computed, computed


@dataclass(frozen=True)
class Computed:
    """What the predictor computes and could compute again: its entries in one sample, the multiply-adds for each, whether it
    lies ``inside`` of the blocked layout, and whether there are more entries than is known: ``open`` axes count as of one.
    """

    entries: int
    each: int
    inside: bool
    open: bool


def _results(planned: Planned, varying: Collection[str]) -> Iterator[tuple[str, Computed]]:
    """Such results by their names."""
    blocks, lost = set[str](), set[str]()  # and behind convolutions of open sizes, of which nobody knows what they are worth
    for node in planned.graph.nodes:
        entry, y = of(node), node.outputs[0]
        sizes = planned.plan.samples.sizes(y)
        if sizes is None or y.name not in varying or y.dtype != np.float32 or len(node.outputs) > 1:
            continue
        count, is_open = prod(size or 1 for size in sizes), None in sizes
        given = {t.name for t in node.inputs if t.name in varying}
        each = entry.blocked(node) if entry.blocked is not None and len(sizes) == 4 else None
        inside = each is not None and (entry.channels is not None or given <= blocks)
        if given & lost or (inside and is_open):
            lost.add(y.name)
        elif each is not None and inside:
            blocks.add(y.name)
            yield y.name, Computed(count, each, True, False)
        elif entry.again is not None and (each := entry.again(node)) is not None:
            yield y.name, Computed(count, each, False, is_open)
