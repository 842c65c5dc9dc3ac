"""A model with its plan and its relevance pass: all that is to be known before a file is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto

from onnxdtd.compiler.classlabels import Said
from onnxdtd.compiler.fitted import Fitted
from onnxdtd.compiler.plan import Plan
from onnxdtd.contract import Metadata, write_metadata
from onnxdtd.graph import files
from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Graph, Tensor
from onnxdtd.labels import Labels
from onnxdtd.request import Request


@dataclass(frozen=True)
class Planned:
    """A model with its plan; ``request`` has the index of the target, ``bounded`` the bounds of inputs as they were given,
    ``ids`` how many rows there are to look up, by input that looks something up, ``fitted`` the relevance models where the
    preset asks for some and a file of them was given.
    """

    source: files.Source
    changes: list[str]
    graph: Graph
    emit: Emit
    plan: Plan
    bounded: Mapping[str, tuple[Any, Any]]
    request: Request
    said: Said
    labels: Labels
    imputed: dict[str, np.ndarray]
    ids: dict[str, int | None]
    fitted: Fitted | None

    def tensor(self, name: str) -> Tensor:
        """A tensor of the predictor, or of what is made of it."""
        made = (t for node in self.plan.producer.values() for t in node.outputs if t.name == name)
        return self.graph.tensors().get(name) or next(made)


@dataclass(frozen=True)
class Addition:
    """What the relevance pass adds to a model; ``defaults`` are those of inputs that may be left out."""

    nodes: list[NodeProto]
    constants: list[TensorProto]
    inputs: list[ValueInfoProto]
    outputs: list[ValueInfoProto]
    defaults: list[TensorProto]
    shapes: list[ValueInfoProto]
    metadata: Metadata

    def append_to(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Add all of it to the model, in place."""
        graph = proto.graph
        graph.output.extend(self.outputs)
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.constants)
        graph.value_info.extend(self.shapes)
        graph.input.extend(self.inputs)
        graph.initializer.extend(self.defaults)
        write_metadata(proto, self.metadata)
        return proto


@dataclass(frozen=True)
class Prepared(Planned):
    """A planned model with its relevance pass, not yet appended to it: nothing can stand in the way any more."""

    addition: Addition
