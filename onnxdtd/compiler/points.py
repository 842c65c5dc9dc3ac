"""The predictor at another point: for a tensor of the predictor the tensor of the same meaning at another input.

What depends on the input is copied, node by node, where somebody asks for it; weights, constants and all that the input has no
say in stay the same tensors. What is copied are the operators that run, whatever planning sees in them: those of the file, what
control flow amounts to, and what was made of either. So the copy computes what the predictor would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnxdtd.compiler.facts import reads
from onnxdtd.errors import Problem, Unsupported
from onnxdtd.graph.emit import Emit, label
from onnxdtd.graph.tensors import Graph, Node, Shape, Tensor
from onnxdtd.operators.table import CONSTANT, of


class Point:
    """The predictor where some of its tensors are others, ``given`` by name; called ``name`` in what is built.

    ``wider``: the batch has another size there, so that sizes are others too.
    """

    def __init__(self, e: Emit, name: str, given: Callable[[], Mapping[str, Tensor]], wider: bool = False):
        self._e, self._name, self._given, self._wider = e, name, given, wider

    def of(self, tensor: Tensor) -> Tensor:
        """A tensor of the predictor there. Raises ``Unsupported`` where it cannot be computed once more."""
        if not self._is_known(""):  # of what is built now
            self._e.copies[self._name, ""] = tensor
            for name, other in self._given().items():
                self._e.copies[self._name, name] = other
        waiting = [tensor]
        while waiting:
            node = self._giver(waiting[-1])
            missing = [] if node is None or self._is_known(waiting[-1].name) else self._missing(node)
            if not missing:
                self._settle(waiting.pop(), node)
            waiting += missing
        return self._there(tensor)

    def _is_known(self, name: str) -> bool:
        return (self._name, name) in self._e.copies

    def _there(self, tensor: Tensor) -> Tensor:
        return tensor if tensor.left_out else self._e.copies[self._name, tensor.name]

    def _giver(self, tensor: Tensor) -> Node | None:
        """The node that computes a tensor; none where all points have the same."""
        node = self._e.givers.get(tensor.name, tensor.producer)
        return None if node is None or (of(node).kind == CONSTANT and not self._wider) else node

    def _missing(self, node: Node) -> list[Tensor]:
        return [t for t in reads(node) if not t.left_out and not self._is_known(t.name)]

    def _settle(self, tensor: Tensor, node: Node | None) -> None:
        """Copy the node that gives a tensor, if it reads something that is another one there."""
        e, known = self._e, self._e.copies
        if self._is_known(tensor.name):
            return
        if node is None or all(self._there(t) is t for t in reads(node)):
            known[self._name, tensor.name] = tensor
            return
        if any(isinstance(value, Graph) for value in node.attrs.values()):
            reason = "what it does is decided at run time, so that it cannot be computed at another input as well"
            raise Unsupported([Problem(node.op, label(node), reason, "choose a preset without a baseline", final=True)])
        with e.within(f"{self._name}/{label(node)}"):
            made = e.again(node, [self._there(t) for t in node.inputs], [self._shape(t) for t in node.outputs])
        for own, other in zip(node.outputs, made, strict=True):
            known.setdefault((self._name, own.name), other)

    def _shape(self, tensor: Tensor) -> Shape | None:
        """The shape there: sizes that are not known are others in a wider batch, and have other names."""
        if tensor.shape is None or not self._wider:
            return tensor.shape
        return [f"{size}/{self._name}" if isinstance(size, str) and size else size for size in tensor.shape]
