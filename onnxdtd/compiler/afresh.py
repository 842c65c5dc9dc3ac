"""What a branch that explains computes afresh of the predictor, instead of reading it.

Of an If only the branch that is taken takes time, but what branches read is made ready for them whichever that is: ONNX Runtime
computes convolutions on CPUs on blocks of channels, copies what is read out of that layout, and keeps it. So few tensors are
read, and what lies between is computed afresh from them where that is cheap. What to read, for the least of both, is a minimum
cut, as it is where training saves memory (``min_cut_rematerialization_partition`` of PyTorch's functorch).

Relevance may differ in its last digits: a convolution is fused with the sum behind it in one place and not in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from math import prod

import numpy as np
from onnx import NodeProto, helper

from onnxdtd.compiler.cut import least
from onnxdtd.compiler.ends import reached
from onnxdtd.compiler.ondemand import called, renamed
from onnxdtd.compiler.prepared import Addition, Planned
from onnxdtd.graph.emit import READER, known
from onnxdtd.graph.shapes import real_inputs
from onnxdtd.graph.tensors import Tensor
from onnxdtd.operators.table import of

# The multiply-adds that one entry is worth that is not read. Copying it out takes as long as 40 and back as 25, as measured on
# six networks; who does not explain only has the first, and is meant to have the source's time, so that it counts six times.
READ = 256


def afresh(planned: Planned, flat: Addition, unique: Callable[[str], str]) -> Addition:
    """The same relevance pass behind a copy of what it does not read of the predictor any more. ``unique`` gives names that no
    tensor has.
    """
    varying = reached(planned.graph.nodes, [Tensor(value.name) for value in real_inputs(planned.source.proto)])
    chosen = _chosen(planned, {name for node in flat.nodes for name in node.input}, varying)
    nodes: list[NodeProto] = []
    names: dict[str, str] = {}
    for node in planned.source.proto.graph.node:
        if node.output[0] in chosen:
            for name in dict.fromkeys(name for name in node.input if name and name not in varying and name not in names):
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
    blocks = {name: (entries, each) for name, entries, each in _blocked(planned, varying)}
    leaving = {value.name for value in planned.source.proto.graph.output}
    inputs: dict[str, list[str]] = {}
    for node in planned.graph.nodes:
        name, inner = node.outputs[0].name, [t.name for t in node.inputs if t.name in blocks]
        inputs[name] = inner
        leaving.update(inner if name not in blocks else ())
    costs: dict[tuple[str, bool], int] = {}  # of having a tensor, and what computing it costs instead
    needs: dict[tuple[str, bool], Sequence[tuple[str, bool]]] = {}
    for name, (entries, each) in blocks.items():
        price = 0 if name in leaving else READ * entries
        costs[name, False], needs[name, False] = price, []
        costs[name, True] = each * entries - price
        needs[name, True] = [(name, False), *((t, False) for t in inputs[name])]
    return {name for name, computed in least(costs, needs, [(name, False) for name in read if name in blocks]) if computed}


def _blocked(planned: Planned, varying: Collection[str]) -> Iterator[tuple[str, int, int]]:
    """What is computed on blocks of channels: the name of a result, its entries in one sample, and multiply-adds for each."""
    found: set[str] = set()
    for node in planned.graph.nodes:
        entry, y = of(node), node.outputs[0]
        sizes = known(planned.plan.samples.sizes(y))
        each = entry.blocked(node) if entry.blocked is not None and y.dtype == np.float32 else None
        inside = entry.channels is not None or all(t.name in found for t in node.inputs if t.name in varying)
        if each is not None and sizes is not None and len(sizes) == 4 and inside:
            found.add(y.name)
            yield y.name, prod(sizes), each
