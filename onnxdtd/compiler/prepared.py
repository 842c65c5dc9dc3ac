"""A model with its plan: what is between reading and building."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxdtd.compiler.bounds import Bounds
from onnxdtd.compiler.classlabels import Said
from onnxdtd.compiler.plan import Plan
from onnxdtd.graph import files
from onnxdtd.graph.emit import Emit
from onnxdtd.graph.tensors import Graph
from onnxdtd.labels import Labels
from onnxdtd.request import Request


@dataclass(frozen=True)
class Prepared:
    """A model with its plan, before anything has been appended to it; ``request`` has the index of the target."""

    source: files.Source
    changes: list[str]
    graph: Graph
    emit: Emit
    plan: Plan
    bounds: Bounds | None
    request: Request
    said: Said
    labels: Labels
    imputed: dict[str, np.ndarray]
