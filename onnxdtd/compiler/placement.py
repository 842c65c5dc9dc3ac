"""Which nodes of an explaining model have no kernel of an ONNX Runtime provider, so that they run on the CPU."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

from onnxdtd.compiler.prepared import Prepared
from onnxdtd.errors import RequestError
from onnxdtd.graph import kernels
from onnxdtd.graph.normal import opset
from onnxdtd.graph.shapes import element_types, skeleton

RUNTIMES = ("onnxruntime-gpu", "onnxruntime")


def placement(job: Prepared, provider: str) -> dict[str, Any]:
    """What a provider lacks, by the kernels of the ONNX Runtime nearest to the one installed.

    Args:
        job: the model, prepared.
        provider: ``"cuda"``, ``"cpu"``, or the whole name of one of them.

    Returns:
        ``provider``, the ``version`` of ONNX Runtime, the numbers of nodes ``predictor`` and ``added``, and ``lacking``: a row
        for each of them without a kernel, with its ``node``, ``op``, whether it is ``added``, and ``why``.

    Raises:
        RequestError: a provider whose kernels are not known.
    """
    name, version = provider.removesuffix("ExecutionProvider").upper(), nearest(installed())
    if name not in kernels.registry()[version]:
        known = " and ".join(known.lower() for known in kernels.registry()[version])
        raise RequestError(f"--provider {provider!r}: whose kernels it has is not known; known are {known}")
    source = job.source.proto
    proto, own = job.addition.append_to(skeleton(source)), len(source.graph.node)
    found = kernels.lacking(proto.graph, opset(source), element_types(proto), name, version)
    rows = [(proto.graph.node[position], position >= own, why) for position, why in found]
    return {
        "provider": name,
        "version": version,
        "predictor": own,
        "added": len(proto.graph.node) - own,
        "lacking": [{"node": n.name or n.output[0], "op": n.op_type, "added": added, "why": why} for n, added, why in rows],
    }


def installed() -> str | None:
    """The version of the ONNX Runtime that is installed."""
    for name in RUNTIMES:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def nearest(version: str | None) -> str:
    """Of the versions whose kernels are known the newest that is not newer, else the oldest."""
    number = lambda text: [int(part) for part in re.findall(r"\d+", text)[:3]]
    known = list(kernels.registry())
    older = [one for one in known if version is None or number(one) <= number(version)]
    return [*known[:1], *older][-1]
