"""The table of kernels from what a runtime registers, and where nodes ran by a profile."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "scripts" / "check"))
import kernels as script

FLOATS = [{"T": [kind]} for kind in ("float", "double", "float16")]


def test_dump_becomes_table(tmp_path: Path) -> None:
    """What is older than operator set 17 is left out, kernels are joined where nothing is added by that."""
    ranges: dict[str, Any] = {
        "Relu": [[6, 12, FLOATS[0]], [13, 13, FLOATS[0]], *([14, None, kind] for kind in FLOATS)],
        "MaxPool": [[12, None, {"T": ["float"], "I": ["int64"]}], [12, None, {"T": ["double"], "I": ["int64"]}]],
        "Reshape": [[14, 18, {"shape": ["int64"]}], [19, 20, {"shape": ["int64"]}], [21, None, {"shape": ["int64"]}]],
        "Where": [[16, None, {"B": ["bool"], "T": ["float"]}], [16, None, {"B": ["uint8"], "T": ["double"]}]],
        "Upsample": [[7, 8, FLOATS[0]]],
    }
    dump = {f"{name}ExecutionProvider": {"ai.onnx": ranges} for name in ("CPU", "CUDA")}
    (tmp_path / "ort_9.9.json").write_text(json.dumps(dump))
    found = script.table([tmp_path / "ort_9.9.json"])["9.9"]["CUDA"]
    assert found == {
        "ai.onnx": {
            "MaxPool": ["12 T=df I=l"],
            "Relu": ["14 T=dfh"],
            "Reshape": ["14,19,21 shape=l"],
            "Where": ["16 B=? T=f", "16 B=C T=d"],
        },
        "com.microsoft": {},
        "ai.onnx.ml": {},
    }


def event(name: str, provider: str, kind: str, shape: list[int], op: str = "Mul") -> dict[str, Any]:
    tensors = [{kind: shape}]
    told = {"op_name": op, "provider": provider, "input_type_shape": tensors, "output_type_shape": tensors}
    return {"cat": "Node", "name": f"{name}_kernel_time", "args": told}


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (event("dtd/conv/Mul", "GPU", "float", [2, 3]), (1, 0, {})),
        (event("dtd/conv/Mul", "CPU", "float", [2, 3]), (0, 0, {"Mul": 1})),
        (event("dtd/conv/Shape", "CPU", "int64", [2]), (0, 1, {})),
        (event("dtd/conv/Mul", "CPU", "float", [1]), (0, 1, {})),
        (event("conv", "CPU", "float", [2, 3]), (0, 0, {})),
        ({"cat": "Session", "name": "dtd/run", "args": {}}, (0, 0, {})),
    ],
)
def test_where_an_added_node_ran(told: dict[str, Any], found: Any) -> None:
    assert script.placed([told], "GPU") == found


def test_one_net_through_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "NETS", {"vector": script.NETS["vector"]})
    rows = script.registered()
    assert all(row.files >= 4 and row.nodes > 20 and not row.alone for row in rows.values())
    assert rows[21].lacking["CUDA 1.23.2"]["Identity"] > 0
    table, passed = script.run("CPUExecutionProvider")
    assert passed
    assert table.count("| none |") == 8
    assert "not run" not in table
