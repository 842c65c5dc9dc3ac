"""Every node that is added has a kernel on the CPU and on GPUs at every operator set."""

from __future__ import annotations

import ast
import sys
from itertools import product
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

import onnxdtd
from onnxdtd.contract import read_metadata
from onnxdtd.errors import OnnxdtdError
from onnxdtd.graph import kernels
from onnxdtd.graph.emit import READER
from onnxdtd.graph.normal import opset
from onnxdtd.graph.shapes import element_types

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts" / "check"))
from tiny import NETS, net

OPTIONS: list[dict[str, Any]] = [  # one for each operator set in turn, and each meets every operator set
    {"preset": "dtd", "ledger": True},
    {"preset": "gradient", "target": "input"},
    {"preset": "lrp-gamma", "contrast": "runner-up"},
    {"preset": "lrp-alpha2beta1", "ledger": True, "target": "input"},
    {"preset": "dtd-z", "ledger": True, "low": -1.0, "high": 1.0},
    {"preset": "sensitivity", "contrast": "rest"},
    {"preset": "lrp-epsilon", "target": 0, "ledger": True},
]
KINDS = list(product(range(17, 25), OPTIONS))
# An average pool and a Resize of its own a file of these sets keeps on the CPU in the oldest runtime: so it does with ours.
THEIRS = {19: {"AveragePool", "Resize"}, 20: {"AveragePool", "Resize"}}


def without_kernels(proto: onnx.ModelProto, types: dict[str, int], provider: str, version: str) -> dict[str, str]:
    """What is said of added nodes that have no kernel, by operator; ``types`` are those of the elements of all tensors."""
    own = read_metadata(proto)["predictor"]["node"]
    found = kernels.lacking(proto.graph, opset(proto), types, provider, version)
    return {proto.graph.node[position].op_type: reason for position, reason in found if position >= own}


@pytest.mark.parametrize("name", NETS)
def test_every_added_node_has_a_kernel(name: str) -> None:
    """On the CPU and in the newest GPU runtime that is known, and in the oldest that is supported."""
    newest = list(kernels.registry())[-1]
    for at, options in KINDS[list(NETS).index(name) % 7 :: 19]:
        try:
            proto = onnxdtd.compile(net(NETS[name], at), **options)
        except OnnxdtdError:  # what cannot be explained, and operators that the set has not
            continue
        late, types = opset(proto), element_types(proto)
        assert without_kernels(proto, types, "CPU", newest).keys() <= ({READER} if name == "half" else set())
        assert without_kernels(proto, types, "CUDA", newest) == {}
        assert without_kernels(proto, types, "CUDA", kernels.oldest(late)).keys() <= THEIRS.get(late, set())


def test_what_reads_half_precision_has_a_kernel_for_it_on_gpus_alone() -> None:
    """The CPU is to treat it as it does the predictor's own readers."""
    for version in kernels.registry():
        on = {p: kernels.kernels(version, p, "ai.onnx", READER) for p in (kernels.CPU, kernels.GPU)}
        has = {p: [TensorProto.FLOAT16 in types["T"] for _, types in found] for p, found in on.items()}
        assert has == {kernels.CPU: [False], kernels.GPU: [True]}


def test_a_node_without_a_kernel_is_seen() -> None:
    """MaxPool has none at operator set 22, and neither had what was added for it."""
    proto = onnxdtd.compile(net(NETS["volume"], 21), "lrp-0")
    proto.opset_import[0].version = 22
    assert without_kernels(proto, element_types(proto), "CUDA", "1.31.1").keys() == {"MaxPool", "ThresholdedRelu"}


WRITERS = {"e", "self", "e.multi", "self._e", "self.e"}
# Operators that some set has no kernel for, by the module that writes them, each only where they are offered, or, as
# Col2Im and the two of ``THEIRS``, where the predictor has them too. Sizes are counted on the CPU, where the layers of integers
# of a runtime run as well, of which the extremes are; and CastLike, a function, needs no kernel.
CHOSEN = {
    "graph/body.py": {"CastLike"},
    "graph/dynamic.py": {"ReduceMin", "ReduceMax"},
    "graph/emit.py": {"Equal", "Pad", "Size"},
    "graph/portable.py": {"Equal", "ReduceMax"},
    "method/division.py": {"ThresholdedRelu"},
    "operators/linear.py": {"AveragePool"},
    "operators/moves.py": {"MaxPool", "Pad"},
    "operators/reductions.py": {"AveragePool"},
    "operators/resized.py": {"Resize"},
    "operators/transforms.py": {"Col2Im"},
    "operators/windows.py": {"AveragePool", "Pad"},
}


def test_whoever_writes_an_operator_that_gpus_lack_somewhere_has_chosen_to() -> None:
    root, found = Path(onnxdtd.__file__).parent, {}
    for path in root.rglob("*.py"):
        calls = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call) and n.args]
        names = {c.args[0].value for c in calls if ast.unparse(c.func) in WRITERS and isinstance(c.args[0], ast.Constant)}
        if lost := {name for name in names if not all(kernels.offered(name, at) or newer(name, at) for at in range(17, 25))}:
            found[path.relative_to(root).as_posix()] = lost
    assert found == CHOSEN


def newer(op: str, at: int) -> bool:
    """Has an operator set no such operator yet?"""
    return kernels.schema(op, "ai.onnx", at) is None
