"""What prediction and explanation cost, in multiply-adds for one sample; where sizes are open, how much it is at least."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnxdtd.compiler.plan import Plan
from onnxdtd.compiler.steps import Step
from onnxdtd.graph.emit import dims, known
from onnxdtd.graph.tensors import Tensor
from onnxdtd.method.propagate import products
from onnxdtd.operators.table import of


@dataclass(frozen=True)
class Cost:
    """Of a step; ``open``: is it only how much there is at least, since sizes are known at run time only?"""

    prediction: int = 0
    explanation: int = 0
    open: bool = False


def cost(step: Step, plan: Plan) -> Cost:
    """Of applying the matrix of a layer once, each output being a sum of products, and of the relevance pass through it."""
    entry, node, layer = of(step.nodes[0]), step.nodes[0], step.layer
    if layer is None:
        return Cost()
    assert entry.cost is not None
    one = {t.name: Tensor(t.name, t.dtype, plan.samples.sizes(t)) for t in (*node.inputs, *node.outputs)}
    one |= {slot.x.name: Tensor(slot.x.name, slot.x.dtype, plan.samples.sizes(slot.x)) for slot in layer.slots}
    inputs, outputs = ([one[t.name] for t in tensors] for tensors in (node.inputs, node.outputs))
    alone = replace(layer, slots=[replace(slot, x=one[slot.x.name]) for slot in layer.slots])
    once = entry.cost(replace(node, inputs=inputs, outputs=outputs), alone)
    more = 0 if step.rule is None else once * products(layer, step.rule, plan.nonnegative) // max(len(layer.slots), 1)
    told = [*outputs[:1], *(slot.x for slot in alone.slots)]
    return Cost(once, more, any(known(dims(t)) is None for t in told))
